//! What a source gives: contents and identities.

use super::structured::{StructuredContent, StructuredReply};
use super::value::{ContextData, Date, Format};
use crate::event::macros::{body, open_enum};

body! {
    /// An identity: who wrote a content, or whom it is for.
    pub struct User {
        /// The source's own id; the same id is the same identity everywhere. Required.
        pub id: String = "id",
        /// The name that is shown. Required.
        pub screenname: String = "screenname",
        /// When it was created. Documented as required; whether that is enforced is
        /// not known. [`new`](Self::new) wants it.
        pub created_at: Option<Date> = "created_at",
        /// When it changed last, as [`created_at`](Self::created_at).
        pub updated_at: Option<Date> = "updated_at",
        /// First name.
        pub firstname: Option<String> = "firstname",
        /// Last name.
        pub lastname: Option<String> = "lastname",
        /// A public picture.
        pub avatar_url: Option<String> = "avatar_url",
        /// A mail address that the user has confirmed.
        pub email: Option<String> = "email",
        /// A telephone number at home.
        pub home_phone: Option<String> = "home_phone",
        /// A mobile number.
        pub mobile_phone: Option<String> = "mobile_phone",
        /// Woman or man.
        pub gender: Option<Gender> = "gender",
        /// Whether the platform may write as this identity, an agent's or a bot's.
        /// Agents can answer only once there is one, and an administrator has marked
        /// it as controlled. Not so by default.
        pub puppetizable: Option<bool> = "puppetizable",
        /// Fields of your own, kept on the identity and its group.
        pub context_data: ContextData = "context_data",
    }

    /// A file. From a source `url`, or `content` with `filename`; from the platform
    /// `url`, `kind` and `filename`.
    pub struct Attachment {
        /// Where it is. Of the platform's, fetch with care: it is a URL from outside.
        pub url: Option<String> = "url",
        /// The file itself, in base64. Of no documented size, but a whole body of the
        /// Send API is 20 MiB at most.
        pub content: Option<String> = "content",
        /// Its name, with an extension that the platform knows.
        pub filename: Option<String> = "filename",
        /// `audio` or `video` tells what an `.mp4` is; the platform sends others.
        pub kind: Option<String> = "type",
    }

    /// A public message.
    pub struct Message {
        /// The source's own id. Required.
        pub id: String = "id",
        /// The thread. Required unless the source is
        /// [unthreaded](super::SourceOption::MessagesUnthreaded).
        pub thread_id: Option<String> = "thread_id",
        /// The content that it answers.
        pub in_reply_to_id: Option<String> = "in_reply_to_id",
        /// Who wrote it. Required.
        pub author: Option<User> = "author",
        /// A title; in no documented table of today, but agents may have given one.
        pub title: Option<String> = "title",
        /// The text, 20 000 characters at most. Required without attachments.
        pub body: Option<String> = "body",
        /// What the body is written in. HTML when absent.
        pub format: Option<Format> = "format",
        /// Files.
        pub attachments: Vec<Attachment> = "attachments",
        /// What can be done with this one: operations that are registered too.
        pub actions: Vec<String> = "actions",
        /// Categories, case-sensitive.
        pub categories: Vec<String> = "categories",
        /// When it was written.
        pub created_at: Option<Date> = "created_at",
        /// When it changed last.
        pub updated_at: Option<Date> = "updated_at",
        /// Fields of your own.
        pub context_data: ContextData = "context_data",
        /// Its public page.
        pub display_url: Option<String> = "display_url",
        /// The author's address.
        pub ip: Option<String> = "ip",
        /// Its language, such as `en`.
        pub language: Option<String> = "language",
        /// A structured message; its author is a controlled identity.
        pub structured_content: Option<StructuredContent> = "structured_content",
        /// What the customer chose of a structured message, to which
        /// `in_reply_to_id` points.
        pub structured_reply: Option<StructuredReply> = "structured_reply",
    }

    /// A message between two identities.
    pub struct PrivateMessage {
        /// The source's own id. Required.
        pub id: String = "id",
        /// The content that it answers.
        pub in_reply_to_id: Option<String> = "in_reply_to_id",
        /// Who wrote it. Required.
        pub author: Option<User> = "author",
        /// For whom. Required.
        pub recipient: Option<User> = "recipient",
        /// A title; in no documented table of today.
        pub title: Option<String> = "title",
        /// The text, 20 000 characters at most. Required without attachments.
        pub body: Option<String> = "body",
        /// What the body is written in. HTML when absent.
        pub format: Option<Format> = "format",
        /// Files.
        pub attachments: Vec<Attachment> = "attachments",
        /// What can be done with this one: operations that are registered too.
        pub actions: Vec<String> = "actions",
        /// Categories, case-sensitive.
        pub categories: Vec<String> = "categories",
        /// When it was written.
        pub created_at: Option<Date> = "created_at",
        /// When it changed last.
        pub updated_at: Option<Date> = "updated_at",
        /// Fields of your own.
        pub context_data: ContextData = "context_data",
        /// Its public page.
        pub display_url: Option<String> = "display_url",
        /// The author's address.
        pub ip: Option<String> = "ip",
        /// Its language, such as `en`.
        pub language: Option<String> = "language",
        /// A structured message; its author is a controlled identity.
        pub structured_content: Option<StructuredContent> = "structured_content",
        /// What the customer chose of a structured message.
        pub structured_reply: Option<StructuredReply> = "structured_reply",
    }

    /// A thread: what messages belong to.
    pub struct Thread {
        /// The source's own id. Required.
        pub id: String = "id",
        /// Its title.
        pub title: Option<String> = "title",
        /// Who opened it. Required, and the body too, unless the source's threads have
        /// [no content](super::SourceOption::ThreadsNoContent).
        pub author: Option<User> = "author",
        /// The text, 20 000 characters at most.
        pub body: Option<String> = "body",
        /// What the body is written in. HTML when absent.
        pub format: Option<Format> = "format",
        /// Files.
        pub attachments: Vec<Attachment> = "attachments",
        /// What can be done with this one: operations that are registered too.
        pub actions: Vec<String> = "actions",
        /// Categories, case-sensitive.
        pub categories: Vec<String> = "categories",
        /// When it was opened.
        pub created_at: Option<Date> = "created_at",
        /// When it changed last.
        pub updated_at: Option<Date> = "updated_at",
        /// Fields of your own.
        pub context_data: ContextData = "context_data",
        /// Its public page.
        pub display_url: Option<String> = "display_url",
        /// The author's address.
        pub ip: Option<String> = "ip",
    }
}

open_enum! {
    /// What an identity says of itself.
    pub enum Gender {
        /// A man.
        Man = "man",
        /// A woman.
        Woman = "woman",
    }
}

impl User {
    /// An identity with what is required. `updated_at` starts as `created_at`.
    #[must_use]
    pub fn new(id: impl Into<String>, screenname: impl Into<String>, created_at: Date) -> Self {
        Self {
            id: id.into(),
            screenname: screenname.into(),
            created_at: Some(created_at),
            updated_at: Some(created_at),
            ..Self::default()
        }
    }

    /// An agent's or a bot's identity: the platform may write as it.
    #[must_use]
    pub fn puppet(mut self) -> Self {
        self.puppetizable = Some(true);
        self
    }
}

impl Attachment {
    /// A file that is at `url`.
    #[must_use]
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), ..Self::default() }
    }

    /// A file that is sent along.
    #[must_use]
    pub fn of(filename: impl Into<String>, content: &[u8]) -> Self {
        use base64::Engine as _;
        let content = base64::engine::general_purpose::STANDARD.encode(content);
        Self { filename: Some(filename.into()), content: Some(content), ..Self::default() }
    }
}

impl Message {
    /// A message of `author`. Its thread, text or attachments are still to be set.
    #[must_use]
    pub fn new(id: impl Into<String>, author: User) -> Self {
        Self { id: id.into(), author: Some(author), ..Self::default() }
    }
}

impl PrivateMessage {
    /// A message from `author` to `recipient`. Its text or attachments are still to
    /// be set.
    #[must_use]
    pub fn new(id: impl Into<String>, author: User, recipient: User) -> Self {
        Self { id: id.into(), author: Some(author), recipient: Some(recipient), ..Self::default() }
    }
}

impl Thread {
    /// A thread with a title; all that one without content has.
    #[must_use]
    pub fn new(id: impl Into<String>, title: impl Into<String>) -> Self {
        Self { id: id.into(), title: Some(title.into()), ..Self::default() }
    }
}
