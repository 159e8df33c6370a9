//! The messages that bots sent.

use std::time::SystemTime;

/// A message that a bot sent through the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SentMessage {
    /// The endpoint.
    pub kind: SentKind,
    /// Phone numbers, extension numbers or ids; the chat for a post.
    pub to: Vec<String>,
    /// Its text; for a card, its JSON.
    pub text: String,
    /// The assigned id.
    pub id: String,
    /// When it was sent.
    pub at: SystemTime,
}

/// The endpoint that sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SentKind {
    /// `POST …/sms`.
    Sms,
    /// `POST …/fax`.
    Fax,
    /// `POST …/company-pager`.
    Pager,
    /// `POST …/chats/{id}/posts`.
    Post,
    /// `POST …/chats/{id}/adaptive-cards`.
    Card,
}
