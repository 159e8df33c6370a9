//! What agents write: the parameters of `create` and of notices.

use super::object::Attachment;
use super::structured::StructuredContent;
use super::value::{Date, Format};
use crate::event::macros::body;

body! {
    /// A message to write (`messages.create`).
    ///
    /// Only the author and one of body, attachments and structured content are guaranteed. All
    /// other fields may be missing, for example in older traffic.
    pub struct NewMessage {
        /// The platform's id of the content, the same in every attempt. Absent in traffic from
        /// before 2024.
        pub content_id: Option<String> = "content_id",
        /// The source's identity that the agent writes as.
        pub author_id: String = "author_id",
        /// The text, in [`format`](Self::format). HTML from agents is unsafe to show unsanitized.
        pub body: Option<String> = "body",
        /// The format of the body.
        pub format: Option<Format> = "format",
        /// Files.
        pub attachments: Vec<Attachment> = "attachments",
        /// The thread.
        pub thread_id: Option<String> = "thread_id",
        /// The content it replies to.
        pub in_reply_to_id: Option<String> = "in_reply_to_id",
        /// The agent's name, formatted by the channel's template.
        pub sender_name: Option<String> = "sender_name",
        /// A title, unless [switched off](super::SourceOption::MessagesNoTitle).
        pub title: Option<String> = "title",
        /// A structured message.
        pub structured_content: Option<StructuredContent> = "structured_content",
        /// When it was written.
        pub created_at: Option<Date> = "created_at",
        /// When it last changed.
        pub updated_at: Option<Date> = "updated_at",
        /// Whether this is a repeated attempt.
        pub retry: bool = "retry",
    }

    /// A private message to write (`private_messages.create`); the same fields are guaranteed as
    /// for [`NewMessage`].
    pub struct NewPrivateMessage {
        /// The platform's id of the content, the same in every attempt.
        pub content_id: Option<String> = "content_id",
        /// The source's identity that the agent writes as.
        pub author_id: String = "author_id",
        /// The recipient.
        pub recipient_id: Option<String> = "recipient_id",
        /// The text, in [`format`](Self::format). HTML from agents is unsafe to show unsanitized.
        pub body: Option<String> = "body",
        /// The format of the body.
        pub format: Option<Format> = "format",
        /// Files.
        pub attachments: Vec<Attachment> = "attachments",
        /// The content it replies to; absent if the agent begins.
        pub in_reply_to_id: Option<String> = "in_reply_to_id",
        /// The agent's name, formatted by the channel's template.
        pub sender_name: Option<String> = "sender_name",
        /// A title, unless [switched off](super::SourceOption::PrivateMessagesNoTitle).
        pub title: Option<String> = "title",
        /// A structured message.
        pub structured_content: Option<StructuredContent> = "structured_content",
        /// When it was written.
        pub created_at: Option<Date> = "created_at",
        /// When it last changed.
        pub updated_at: Option<Date> = "updated_at",
        /// Whether this is a repeated attempt.
        pub retry: bool = "retry",
    }

    /// A thread to open (`threads.create`); the same fields are guaranteed as for [`NewMessage`].
    pub struct NewThread {
        /// The platform's id of the content, the same in every attempt.
        pub content_id: Option<String> = "content_id",
        /// The source's identity that the agent writes as.
        pub author_id: String = "author_id",
        /// The title.
        pub title: Option<String> = "title",
        /// The text, in [`format`](Self::format). HTML from agents is unsafe to show unsanitized.
        pub body: Option<String> = "body",
        /// The format of the body.
        pub format: Option<Format> = "format",
        /// Files.
        pub attachments: Vec<Attachment> = "attachments",
        /// The agent's name, formatted by the channel's template.
        pub sender_name: Option<String> = "sender_name",
        /// When it was written.
        pub created_at: Option<Date> = "created_at",
        /// When it last changed; no longer sent.
        pub updated_at: Option<Date> = "updated_at",
        /// Whether this is a repeated attempt.
        pub retry: bool = "retry",
    }

    /// The customer's position in the queue (`messaging.queuing_update`).
    pub struct QueuingUpdate {
        /// The estimated remaining wait, in seconds.
        pub estimated_wait_time: Option<u64> = "estimated_wait_time",
        /// The position in the queue.
        pub position: Option<u64> = "position",
        /// The thread.
        pub thread_id: Option<String> = "thread_id",
        /// The content that waits for a reply.
        pub in_reply_to_id: Option<String> = "in_reply_to_id",
    }

    /// A user starts or stops typing (`typing.start`, `typing.stop`).
    ///
    /// You may send it. Whether the platform sends it to sources is barely documented; the fields
    /// are those of the other direction.
    pub struct Typing {
        /// The thread, which takes precedence over `in_reply_to_id`; one of them is required.
        pub thread_id: Option<String> = "thread_id",
        /// The content being answered.
        pub in_reply_to_id: Option<String> = "in_reply_to_id",
        /// The text typed so far. Required for a start.
        pub preview: Option<String> = "preview",
    }
}
