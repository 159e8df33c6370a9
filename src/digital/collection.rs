//! The collections as types: their contents and how to create them.

use super::action::{Action, CollectionName};
use super::create::{NewMessage, NewPrivateMessage, NewThread};
use super::object::{Message, PrivateMessage, Thread};
use crate::error::Result;

mod sealed {
    pub trait Sealed {}
}

/// A collection of a source: [`Messages`], [`PrivateMessages`] or [`Threads`].
pub trait Collection: sealed::Sealed + Copy + Send + Sync + 'static {
    /// The type of its contents.
    type Content: Content;
    /// The platform's request to create one.
    type New: Send + 'static;
    /// Its name.
    const NAME: CollectionName;

    #[doc(hidden)]
    fn new_of(action: Action) -> Option<Created<Self::New>>;
}

/// A content of a collection: [`Message`], [`PrivateMessage`] or [`Thread`].
pub trait Content: sealed::Sealed + serde::Serialize + Clone + Send + Sync + 'static {
    /// The id in the source.
    fn id(&self) -> &str;

    /// Checks the platform's requirements for a content: an id, author and recipient with id and
    /// name, text or a file, a text within the limit, and a valid structured message.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config), naming the field.
    fn check(&self) -> Result<()>;
}

/// A new content, and the fields that the crate itself reads.
#[doc(hidden)]
#[derive(Debug)]
pub struct Created<T> {
    pub(super) new: T,
    pub(super) content_id: Option<String>,
    pub(super) in_reply_to_id: Option<String>,
}

macro_rules! collections {
    ($($(#[$doc:meta])* $marker:ident of $content:ident from $new:ident by $action:ident, $reply_to:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $marker;

        impl sealed::Sealed for $marker {}
        impl sealed::Sealed for $content {}

        impl Collection for $marker {
            type Content = $content;
            type New = $new;
            const NAME: CollectionName = CollectionName::$marker;

            fn new_of(action: Action) -> Option<Created<$new>> {
                let Action::$action(new) = action else { return None };
                let reply_to: fn(&$new) -> Option<String> = $reply_to;
                let (content_id, in_reply_to_id) = (new.content_id.clone(), reply_to(&new));
                Some(Created { new: *new, content_id, in_reply_to_id })
            }
        }

        impl Content for $content {
            fn id(&self) -> &str {
                &self.id
            }

            fn check(&self) -> Result<()> {
                $content::validate(self)
            }
        }
    )+};
}

collections! {
    /// Public messages.
    Messages of Message from NewMessage by CreateMessage, |new| new.in_reply_to_id.clone();
    /// Messages between two identities.
    PrivateMessages of PrivateMessage from NewPrivateMessage by CreatePrivateMessage, |new| new.in_reply_to_id.clone();
    /// Threads, which contain messages.
    Threads of Thread from NewThread by CreateThread, |_| None;
}
