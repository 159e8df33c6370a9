//! Fields of mobile pushes.

use super::id::{ConversationId, MessageId};
use super::macros::body;
use crate::ids::ExtensionId;

body! {
    /// A push about an inbound message, as sent to mobile apps: flat, without a body.
    pub struct InboundMessagePush {
        /// The content that a phone shows.
        pub aps: Option<Aps> = "aps",
        /// The message.
        pub message_id: Option<MessageId> = "messageId",
        /// Its conversation.
        pub conversation_id: Option<ConversationId> = "conversationId",
        /// The sender's number.
        pub from: Option<String> = "from" | "_from",
        /// The recipient's number.
        pub to: Option<String> = "to",
        /// Owner of the subscription.
        pub owner_id: Option<ExtensionId> = "ownerId",
    }

    /// The fields of a notification for Apple's push service.
    pub struct Aps {
        /// The text to show.
        pub alert: Option<ApsAlert> = "alert",
        /// The number on the app's icon.
        pub badge: Option<i64> = "badge",
        /// The sound to play.
        pub sound: Option<String> = "sound",
        /// 1 for a push that wakes the app silently.
        pub content_available: Option<i64> = "content-available",
        /// The buttons to show.
        pub category: Option<String> = "category",
    }

    /// The text a phone shows.
    pub struct ApsAlert {
        /// The title.
        pub title: Option<String> = "title",
        /// The text.
        pub body: Option<String> = "body",
    }
}
