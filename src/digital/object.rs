//! The objects of a source: contents and identities.

use super::structured::{StructuredContent, StructuredReply};
use super::value::{ContextData, Date, Format};
use crate::event::macros::{body, open_enum};

body! {
    /// An identity: the author or recipient of a content.
    pub struct User {
        /// The id in the source; the same id is the same identity everywhere. Required.
        pub id: String = "id",
        /// The displayed name. Required.
        pub screenname: String = "screenname",
        /// When it was created. Documented as required; enforcement is unknown. [`new`](Self::new)
        /// requires it.
        pub created_at: Option<Date> = "created_at",
        /// When it last changed, like [`created_at`](Self::created_at).
        pub updated_at: Option<Date> = "updated_at",
        /// First name.
        pub firstname: Option<String> = "firstname",
        /// Last name.
        pub lastname: Option<String> = "lastname",
        /// A public picture.
        pub avatar_url: Option<String> = "avatar_url",
        /// A mail address confirmed by the user.
        pub email: Option<String> = "email",
        /// Home phone number.
        pub home_phone: Option<String> = "home_phone",
        /// Mobile phone number.
        pub mobile_phone: Option<String> = "mobile_phone",
        /// Woman or man.
        pub gender: Option<Gender> = "gender",
        /// Whether the platform may write as this identity, an agent's or a bot's. Agents can only
        /// reply once there is one and an administrator has marked it as controlled. False by
        /// default.
        pub puppetizable: Option<bool> = "puppetizable",
        /// Custom fields, stored on the identity and its group.
        pub context_data: ContextData = "context_data",
    }

    /// A file. A source sends `url`, or `content` with `filename`; the platform sends `url`, `kind`
    /// and `filename`.
    pub struct Attachment {
        /// Its URL. Fetch those from the platform with care: they are external.
        pub url: Option<String> = "url",
        /// The file itself, in base64. Its maximum size is undocumented, but a whole body of the
        /// Send API is limited to 20 MiB.
        pub content: Option<String> = "content",
        /// Its name, with an extension known to the platform.
        pub filename: Option<String> = "filename",
        /// `audio` or `video` disambiguates an `.mp4`; the platform sends other values.
        pub kind: Option<String> = "type",
    }

    /// A public message.
    pub struct Message {
        /// The id in the source. Required.
        pub id: String = "id",
        /// The thread. Required unless the source is
        /// [unthreaded](super::SourceOption::MessagesUnthreaded).
        pub thread_id: Option<String> = "thread_id",
        /// The content it replies to.
        pub in_reply_to_id: Option<String> = "in_reply_to_id",
        /// The author. Required.
        pub author: Option<User> = "author",
        /// A title; absent from the current documentation, but agents may have set one.
        pub title: Option<String> = "title",
        /// The text, at most 20 000 characters. Required without attachments.
        pub body: Option<String> = "body",
        /// The format of the body. Default HTML.
        pub format: Option<Format> = "format",
        /// Files.
        pub attachments: Vec<Attachment> = "attachments",
        /// The operations allowed on this content; they must be registered too.
        pub actions: Vec<String> = "actions",
        /// Categories, case-sensitive.
        pub categories: Vec<String> = "categories",
        /// When it was written.
        pub created_at: Option<Date> = "created_at",
        /// When it last changed.
        pub updated_at: Option<Date> = "updated_at",
        /// Custom fields.
        pub context_data: ContextData = "context_data",
        /// Its public page.
        pub display_url: Option<String> = "display_url",
        /// The author's IP address.
        pub ip: Option<String> = "ip",
        /// Its language, such as `en`.
        pub language: Option<String> = "language",
        /// A structured message; its author must be a controlled identity.
        pub structured_content: Option<StructuredContent> = "structured_content",
        /// The customer's choice in a structured message, which `in_reply_to_id` refers to.
        pub structured_reply: Option<StructuredReply> = "structured_reply",
    }

    /// A message between two identities.
    pub struct PrivateMessage {
        /// The id in the source. Required.
        pub id: String = "id",
        /// The content it replies to.
        pub in_reply_to_id: Option<String> = "in_reply_to_id",
        /// The author. Required.
        pub author: Option<User> = "author",
        /// The recipient. Required.
        pub recipient: Option<User> = "recipient",
        /// A title; absent from the current documentation.
        pub title: Option<String> = "title",
        /// The text, at most 20 000 characters. Required without attachments.
        pub body: Option<String> = "body",
        /// The format of the body. Default HTML.
        pub format: Option<Format> = "format",
        /// Files.
        pub attachments: Vec<Attachment> = "attachments",
        /// The operations allowed on this content; they must be registered too.
        pub actions: Vec<String> = "actions",
        /// Categories, case-sensitive.
        pub categories: Vec<String> = "categories",
        /// When it was written.
        pub created_at: Option<Date> = "created_at",
        /// When it last changed.
        pub updated_at: Option<Date> = "updated_at",
        /// Custom fields.
        pub context_data: ContextData = "context_data",
        /// Its public page.
        pub display_url: Option<String> = "display_url",
        /// The author's IP address.
        pub ip: Option<String> = "ip",
        /// Its language, such as `en`.
        pub language: Option<String> = "language",
        /// A structured message; its author must be a controlled identity.
        pub structured_content: Option<StructuredContent> = "structured_content",
        /// The customer's choice in a structured message.
        pub structured_reply: Option<StructuredReply> = "structured_reply",
    }

    /// A thread, which contains messages.
    pub struct Thread {
        /// The id in the source. Required.
        pub id: String = "id",
        /// Its title.
        pub title: Option<String> = "title",
        /// The author. Required, like the body, unless the source's threads have [no
        /// content](super::SourceOption::ThreadsNoContent).
        pub author: Option<User> = "author",
        /// The text, at most 20 000 characters.
        pub body: Option<String> = "body",
        /// The format of the body. Default HTML.
        pub format: Option<Format> = "format",
        /// Files.
        pub attachments: Vec<Attachment> = "attachments",
        /// The operations allowed on this thread; they must be registered too.
        pub actions: Vec<String> = "actions",
        /// Categories, case-sensitive.
        pub categories: Vec<String> = "categories",
        /// When it was opened.
        pub created_at: Option<Date> = "created_at",
        /// When it last changed.
        pub updated_at: Option<Date> = "updated_at",
        /// Custom fields.
        pub context_data: ContextData = "context_data",
        /// Its public page.
        pub display_url: Option<String> = "display_url",
        /// The author's IP address.
        pub ip: Option<String> = "ip",
    }
}

open_enum! {
    /// The gender of an identity.
    pub enum Gender {
        /// A man.
        Man = "man",
        /// A woman.
        Woman = "woman",
    }
}

impl User {
    /// An identity with the required fields. `updated_at` starts as `created_at`.
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

    /// Marks an agent's or a bot's identity: the platform may write as it.
    #[must_use]
    pub fn puppet(mut self) -> Self {
        self.puppetizable = Some(true);
        self
    }
}

impl Attachment {
    /// A file at `url`.
    #[must_use]
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), ..Self::default() }
    }

    /// A file sent inline.
    #[must_use]
    pub fn of(filename: impl Into<String>, content: &[u8]) -> Self {
        use base64::Engine as _;
        let content = base64::engine::general_purpose::STANDARD.encode(content);
        Self { filename: Some(filename.into()), content: Some(content), ..Self::default() }
    }
}

impl Message {
    /// A message from `author`. Set its thread, and text or attachments.
    #[must_use]
    pub fn new(id: impl Into<String>, author: User) -> Self {
        Self { id: id.into(), author: Some(author), ..Self::default() }
    }
}

impl PrivateMessage {
    /// A message from `author` to `recipient`. Set its text or attachments.
    #[must_use]
    pub fn new(id: impl Into<String>, author: User, recipient: User) -> Self {
        Self { id: id.into(), author: Some(author), recipient: Some(recipient), ..Self::default() }
    }
}

impl Thread {
    /// A thread with a title, complete for threads without content.
    #[must_use]
    pub fn new(id: impl Into<String>, title: impl Into<String>) -> Self {
        Self { id: id.into(), title: Some(title.into()), ..Self::default() }
    }
}
