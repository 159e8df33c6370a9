//! The collections as types: which objects are in them, and what makes new ones.

use super::action::{Action, CollectionName};
use super::create::{NewMessage, NewPrivateMessage, NewThread};
use super::object::{Message, PrivateMessage, Thread};
use crate::error::Result;

mod sealed {
    pub trait Sealed {}
}

/// A collection of a source: [`Messages`], [`PrivateMessages`] or [`Threads`].
pub trait Collection: sealed::Sealed + Copy + Send + Sync + 'static {
    /// What is in it.
    type Content: Content;
    /// What the platform gives to have one created.
    type New: Send + 'static;
    /// Its name.
    const NAME: CollectionName;

    #[doc(hidden)]
    fn new_of(action: Action) -> Option<Created<Self::New>>;
}

/// What is in a collection: [`Message`], [`PrivateMessage`] or [`Thread`].
pub trait Content: sealed::Sealed + serde::Serialize + Clone + Send + Sync + 'static {
    /// The source's own id.
    fn id(&self) -> &str;

    /// Whether it has what the platform needs of one that is sent to it: an id, author
    /// and recipient with id and name, text or a file, a text that is not too long, and
    /// a structured message by the rules.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config), naming the field.
    fn check(&self) -> Result<()>;
}

/// A new content, and what the crate itself looks at.
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
                $content::is_whole(self)
            }
        }
    )+};
}

collections! {
    /// Public messages.
    Messages of Message from NewMessage by CreateMessage, |new| new.in_reply_to_id.clone();
    /// Messages between two identities.
    PrivateMessages of PrivateMessage from NewPrivateMessage by CreatePrivateMessage, |new| new.in_reply_to_id.clone();
    /// Threads, which messages belong to.
    Threads of Thread from NewThread by CreateThread, |_| None;
}
