//! An action of the platform, parsed from the bytes of a body.

use std::fmt;

use serde_json::value::RawValue;

use super::create::{NewMessage, NewPrivateMessage, NewThread, QueuingUpdate, Typing};
use super::value::Date;
use crate::error::{Error, ErrorKind, Result};
use crate::event::lenient::{Lenient, Slot as _, object};
use crate::json::Json;

/// The three collections of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum CollectionName {
    /// `messages`.
    Messages,
    /// `private_messages`.
    PrivateMessages,
    /// `threads`.
    Threads,
}

impl CollectionName {
    /// All collections.
    pub const ALL: [Self; 3] = [Self::Messages, Self::PrivateMessages, Self::Threads];

    /// The protocol's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::PrivateMessages => "private_messages",
            Self::Threads => "threads",
        }
    }

    fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.as_str() == text)
    }
}

impl fmt::Display for CollectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An action of the platform with its parameters.
///
/// Parameters are read leniently: unknown ones are ignored; `null`, an empty value and an absent
/// one are equivalent; a numeric id is read as its digits.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// `implementation.info`: asks for the source's capabilities.
    ImplementationInfo,
    /// `….list`: asks for new contents.
    List {
        /// The collection.
        collection: CollectionName,
        /// The newest content that the platform has seen; absent the first time.
        since_id: Option<String>,
    },
    /// `….show`: asks for one content.
    Show {
        /// The collection.
        collection: CollectionName,
        /// The content's id.
        id: String,
    },
    /// `messages.create`.
    CreateMessage(Box<NewMessage>),
    /// `private_messages.create`.
    CreatePrivateMessage(Box<NewPrivateMessage>),
    /// `threads.create`.
    CreateThread(Box<NewThread>),
    /// `….delete`.
    Delete {
        /// The collection.
        collection: CollectionName,
        /// The content's id.
        id: String,
    },
    /// `….destroy`, as the examples of the polling guide call a deletion.
    Destroy {
        /// The collection.
        collection: CollectionName,
        /// The content's id.
        id: String,
    },
    /// `….publish`.
    Publish {
        /// The collection.
        collection: CollectionName,
        /// The content's id.
        id: String,
    },
    /// `….unpublish`.
    Unpublish {
        /// The collection.
        collection: CollectionName,
        /// The content's id.
        id: String,
    },
    /// Any other operation of a collection, such as `messages.spam`.
    Custom(CustomAction),
    /// `messaging.queuing_update`.
    QueuingUpdate(QueuingUpdate),
    /// `typing.start`. Whether the platform sends it to sources is unverified.
    TypingStart(Typing),
    /// `typing.stop`, likewise unverified.
    TypingStop(Typing),
}

/// A custom operation on one content: a button that an agent pressed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CustomAction {
    /// The collection.
    pub collection: CollectionName,
    /// The operation's name, without the collection.
    pub operation: String,
    /// The content's id.
    pub id: String,
    /// The id, in the source, of the identity that acted.
    pub user_id: Option<String>,
}

/// An action and its time.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ActionRequest {
    /// The action.
    pub action: Action,
    /// When the platform sent it, if stated.
    pub time: Option<Date>,
}

impl ActionRequest {
    /// Parses a body: JSON in UTF-8, an object with `action`, `params` and `time`.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] if the body has another form, if the action's name is unknown, or if
    /// a required parameter is missing.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(body).map_err(|error| refused("the body is not UTF-8").with_source(error))?;
        let raw = serde_json::from_str::<&RawValue>(text)
            .map_err(|error| refused("the body is not JSON").with_source(Position::of(&error)))?;
        let (mut action, mut params, mut time) = (None, None, None);
        let is_object = object(raw, &mut |key, value| match key {
            "action" => action = Some(value),
            "params" => params = Some(value),
            "time" => time = Date::read(value),
            _ => {}
        });
        if !is_object {
            return Err(refused("the body is not a JSON object"));
        }
        let name = action.filter(|raw| raw.get().starts_with('"')).and_then(String::read);
        let name = name.ok_or_else(|| refused("the body has no text for an action"))?;
        Ok(Self { action: Action::read(&name, Params(params))?, time })
    }
}

impl Action {
    fn read(name: &str, params: Params<'_>) -> Result<Self> {
        let Some((object, operation)) = name.split_once('.').filter(|(a, b)| is_word(a) && is_word(b)) else {
            return Err(refused("the action is not two words with a dot between them"));
        };
        match (object, operation) {
            ("implementation", "info") => Ok(Self::ImplementationInfo),
            ("messaging", "queuing_update") => params.read().map(Self::QueuingUpdate),
            ("typing", "start") => params.read().map(Self::TypingStart),
            ("typing", "stop") => params.read().map(Self::TypingStop),
            _ => match CollectionName::of(object) {
                Some(collection) => Self::of_collection(collection, operation, params),
                None => Err(unknown_action()),
            },
        }
    }

    fn of_collection(collection: CollectionName, operation: &str, params: Params<'_>) -> Result<Self> {
        match operation {
            "list" => Ok(Self::List { collection, since_id: params.text("since_id")? }),
            "show" => Ok(Self::Show { collection, id: params.required("id")? }),
            "create" => Self::create(collection, params),
            "delete" => Ok(Self::Delete { collection, id: params.required("id")? }),
            "destroy" => Ok(Self::Destroy { collection, id: params.required("id")? }),
            "publish" => Ok(Self::Publish { collection, id: params.required("id")? }),
            "unpublish" => Ok(Self::Unpublish { collection, id: params.required("id")? }),
            // A marker in lists of operations; the platform sends a `create` for it.
            "reply" => Err(unknown_action()),
            _ => Ok(Self::Custom(CustomAction {
                collection,
                operation: operation.to_owned(),
                id: params.required("id")?,
                user_id: params.text("user_id")?,
            })),
        }
    }

    fn create(collection: CollectionName, params: Params<'_>) -> Result<Self> {
        match collection {
            CollectionName::Messages => {
                let mut new: NewMessage = params.read()?;
                [&mut new.content_id, &mut new.thread_id, &mut new.in_reply_to_id].into_iter().for_each(none_if_empty);
                let other = !new.attachments.is_empty() || new.structured_content.is_some();
                written(&new.author_id, new.body.as_deref(), other)?;
                Ok(Self::CreateMessage(Box::new(new)))
            }
            CollectionName::PrivateMessages => {
                let mut new: NewPrivateMessage = params.read()?;
                let ids = [&mut new.content_id, &mut new.recipient_id, &mut new.in_reply_to_id];
                ids.into_iter().for_each(none_if_empty);
                let other = !new.attachments.is_empty() || new.structured_content.is_some();
                written(&new.author_id, new.body.as_deref(), other)?;
                Ok(Self::CreatePrivateMessage(Box::new(new)))
            }
            CollectionName::Threads => {
                let mut new: NewThread = params.read()?;
                none_if_empty(&mut new.content_id);
                written(&new.author_id, new.body.as_deref(), !new.attachments.is_empty() || new.title.is_some())?;
                Ok(Self::CreateThread(Box::new(new)))
            }
        }
    }

    /// The action's name as the platform writes it; `delete` for `destroy` too.
    #[must_use]
    pub fn name(&self) -> String {
        let (collection, operation) = match self {
            Self::ImplementationInfo => return "implementation.info".to_owned(),
            Self::QueuingUpdate(_) => return "messaging.queuing_update".to_owned(),
            Self::TypingStart(_) => return "typing.start".to_owned(),
            Self::TypingStop(_) => return "typing.stop".to_owned(),
            Self::CreateMessage(_) => (CollectionName::Messages, "create"),
            Self::CreatePrivateMessage(_) => (CollectionName::PrivateMessages, "create"),
            Self::CreateThread(_) => (CollectionName::Threads, "create"),
            Self::List { collection, .. } => (*collection, "list"),
            Self::Show { collection, .. } => (*collection, "show"),
            Self::Delete { collection, .. } => (*collection, "delete"),
            Self::Destroy { collection, .. } => (*collection, "destroy"),
            Self::Publish { collection, .. } => (*collection, "publish"),
            Self::Unpublish { collection, .. } => (*collection, "unpublish"),
            Self::Custom(custom) => (custom.collection, custom.operation.as_str()),
        };
        format!("{collection}.{operation}")
    }
}

impl Action {
    /// A word for labels: fixed, since the name of a custom operation is yours.
    pub(super) fn word(&self) -> &'static str {
        use CollectionName::{Messages, PrivateMessages, Threads};
        let words = |collection: CollectionName, [messages, private, threads]: [&'static str; 3]| match collection {
            Messages => messages,
            PrivateMessages => private,
            Threads => threads,
        };
        match self {
            Self::ImplementationInfo => "implementation_info",
            Self::QueuingUpdate(_) => "messaging_queuing_update",
            Self::TypingStart(_) => "typing_start",
            Self::TypingStop(_) => "typing_stop",
            Self::CreateMessage(_) => "messages_create",
            Self::CreatePrivateMessage(_) => "private_messages_create",
            Self::CreateThread(_) => "threads_create",
            Self::List { collection, .. } => {
                words(*collection, ["messages_list", "private_messages_list", "threads_list"])
            }
            Self::Show { collection, .. } => {
                words(*collection, ["messages_show", "private_messages_show", "threads_show"])
            }
            Self::Delete { collection, .. } => {
                words(*collection, ["messages_delete", "private_messages_delete", "threads_delete"])
            }
            Self::Destroy { collection, .. } => {
                words(*collection, ["messages_destroy", "private_messages_destroy", "threads_destroy"])
            }
            Self::Publish { collection, .. } => {
                words(*collection, ["messages_publish", "private_messages_publish", "threads_publish"])
            }
            Self::Unpublish { collection, .. } => {
                words(*collection, ["messages_unpublish", "private_messages_unpublish", "threads_unpublish"])
            }
            Self::Custom(_) => "custom",
        }
    }

    /// Whether it changes something, so that it must not be aborted halfway.
    pub(super) fn writes(&self) -> bool {
        !matches!(self, Self::ImplementationInfo | Self::List { .. } | Self::Show { .. })
    }
}

/// Only letters, digits and `_`.
pub(super) fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn none_if_empty(id: &mut Option<String>) {
    if id.as_ref().is_some_and(String::is_empty) {
        *id = None;
    }
}

fn written(author_id: &str, body: Option<&str>, other: bool) -> Result<()> {
    if author_id.is_empty() {
        return Err(missing("author_id"));
    }
    if body.is_none_or(str::is_empty) && !other {
        return Err(missing("body"));
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Params<'a>(Option<Json<'a>>);

impl<'a> Params<'a> {
    /// The object, unless it is empty. PHP writes an empty one as a list.
    fn object(self) -> Result<Option<Json<'a>>> {
        let Some(raw) = self.0 else { return Ok(None) };
        let text = raw.get();
        let is_empty = match text.as_bytes().first() {
            Some(b'{') => return Ok(Some(raw)),
            Some(b'[') => text.trim_start_matches('[').trim_start() == "]",
            _ => matches!(text, "null" | "\"\""),
        };
        if is_empty { Ok(None) } else { Err(refused("the parameters are not a JSON object")) }
    }

    fn read<T: Lenient + Default>(self) -> Result<T> {
        Ok(self.object()?.and_then(T::read).unwrap_or_default())
    }

    fn text(self, name: &str) -> Result<Option<String>> {
        let mut found = String::new();
        if let Some(raw) = self.object()? {
            object(raw, &mut |key, value| {
                if key == name {
                    found.fill(value);
                }
            });
        }
        Ok(Some(found).filter(|text| !text.is_empty()))
    }

    fn required(self, name: &'static str) -> Result<String> {
        self.text(name)?.ok_or_else(|| missing(name))
    }
}

fn refused(message: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, message)
}

/// The answer to an action that this crate or the source does not know.
pub(super) fn unknown_action() -> Error {
    refused("unknown action")
}

fn missing(name: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, format!("the parameter {name} is missing"))
}

/// The position of a JSON error, without any of the text.
#[derive(Debug, thiserror::Error)]
#[error("line {line}, column {column}")]
struct Position {
    line: usize,
    column: usize,
}

impl Position {
    fn of(error: &serde_json::Error) -> Self {
        Self { line: error.line(), column: error.column() }
    }
}
