//! What agents write: the parameters of `create`, and of the platform's news.

use super::object::Attachment;
use super::structured::StructuredContent;
use super::value::{Date, Format};
use crate::event::macros::body;

body! {
    /// A message that the platform wants written (`messages.create`).
    ///
    /// Two fields are sure: the author, and one of body, attachments and structured
    /// content. All others may be missing, in older traffic for one.
    pub struct NewMessage {
        /// The platform's own id of the content, the same in every attempt. Not in
        /// traffic of before 2024.
        pub content_id: Option<String> = "content_id",
        /// A controlled identity of the source, as which the agent writes.
        pub author_id: String = "author_id",
        /// The text, in [`format`](Self::format). HTML of agents is not safe to show
        /// as it is.
        pub body: Option<String> = "body",
        /// What the body is written in.
        pub format: Option<Format> = "format",
        /// Files.
        pub attachments: Vec<Attachment> = "attachments",
        /// The thread.
        pub thread_id: Option<String> = "thread_id",
        /// The content that it answers.
        pub in_reply_to_id: Option<String> = "in_reply_to_id",
        /// The agent's name, after the channel's template.
        pub sender_name: Option<String> = "sender_name",
        /// A title, unless [switched off](super::SourceOption::MessagesNoTitle).
        pub title: Option<String> = "title",
        /// A structured message.
        pub structured_content: Option<StructuredContent> = "structured_content",
        /// When it was written.
        pub created_at: Option<Date> = "created_at",
        /// When it changed last.
        pub updated_at: Option<Date> = "updated_at",
        /// Whether it was tried before.
        pub retry: bool = "retry",
    }

    /// A private message that the platform wants written (`private_messages.create`);
    /// as sure of its fields as [`NewMessage`].
    pub struct NewPrivateMessage {
        /// The platform's own id of the content, the same in every attempt.
        pub content_id: Option<String> = "content_id",
        /// A controlled identity of the source, as which the agent writes.
        pub author_id: String = "author_id",
        /// For whom.
        pub recipient_id: Option<String> = "recipient_id",
        /// The text, in [`format`](Self::format). HTML of agents is not safe to show
        /// as it is.
        pub body: Option<String> = "body",
        /// What the body is written in.
        pub format: Option<Format> = "format",
        /// Files.
        pub attachments: Vec<Attachment> = "attachments",
        /// The content that it answers; none where the agent begins.
        pub in_reply_to_id: Option<String> = "in_reply_to_id",
        /// The agent's name, after the channel's template.
        pub sender_name: Option<String> = "sender_name",
        /// A title, unless [switched off](super::SourceOption::PrivateMessagesNoTitle).
        pub title: Option<String> = "title",
        /// A structured message.
        pub structured_content: Option<StructuredContent> = "structured_content",
        /// When it was written.
        pub created_at: Option<Date> = "created_at",
        /// When it changed last.
        pub updated_at: Option<Date> = "updated_at",
        /// Whether it was tried before.
        pub retry: bool = "retry",
    }

    /// A thread that the platform wants opened (`threads.create`); as sure of its
    /// fields as [`NewMessage`].
    pub struct NewThread {
        /// The platform's own id of the content, the same in every attempt.
        pub content_id: Option<String> = "content_id",
        /// A controlled identity of the source, as which the agent writes.
        pub author_id: String = "author_id",
        /// Its title.
        pub title: Option<String> = "title",
        /// The text, in [`format`](Self::format). HTML of agents is not safe to show
        /// as it is.
        pub body: Option<String> = "body",
        /// What the body is written in.
        pub format: Option<Format> = "format",
        /// Files.
        pub attachments: Vec<Attachment> = "attachments",
        /// The agent's name, after the channel's template.
        pub sender_name: Option<String> = "sender_name",
        /// When it was written.
        pub created_at: Option<Date> = "created_at",
        /// When it changed last; not sent any more.
        pub updated_at: Option<Date> = "updated_at",
        /// Whether it was tried before.
        pub retry: bool = "retry",
    }

    /// Where a customer is in the queue (`messaging.queuing_update`).
    pub struct QueuingUpdate {
        /// How long it may still take, in seconds.
        pub estimated_wait_time: Option<u64> = "estimated_wait_time",
        /// The place in the queue.
        pub position: Option<u64> = "position",
        /// The thread.
        pub thread_id: Option<String> = "thread_id",
        /// The content that waits for an answer.
        pub in_reply_to_id: Option<String> = "in_reply_to_id",
    }

    /// Somebody types, or no longer does (`typing.start`, `typing.stop`).
    ///
    /// You may send it. Whether the platform sends it to sources is not documented
    /// beyond a word; the fields are those of the other direction.
    pub struct Typing {
        /// The thread. It wins over `in_reply_to_id` where both are given; one of them
        /// is required.
        pub thread_id: Option<String> = "thread_id",
        /// The content that is being answered.
        pub in_reply_to_id: Option<String> = "in_reply_to_id",
        /// What has been typed. Required for a start.
        pub preview: Option<String> = "preview",
    }
}
