//! Ids in event bodies.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

use super::lenient::{Lenient, object};
use crate::ids::{AccountId, ExtensionId, SubscriptionId, id, text_or_number};
use crate::json::Json;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        id! { $($(#[$doc])* $name;)* }
        lenient! { $($name)* }
    };
}

macro_rules! lenient {
    ($($name:ident)*) => {$(
        /// Text, a number by its digits, or an object with such an `id`: the service writes all
        /// three for the same thing.
        impl Lenient for $name {
            fn read(raw: Json<'_>) -> Option<Self> {
                let mut id = String::read(raw);
                object(raw, &mut |key, value| {
                    if key == "id" {
                        id = String::read(value).or(id.take());
                    }
                });
                id.map(Self::from)
            }
        }
    )*};
}

lenient! { AccountId ExtensionId SubscriptionId }

ids! {
    /// A message of a message store or of an SMS campaign.
    MessageId;
    /// A conversation of text messages.
    ConversationId;
    /// An attachment of a message or of a post.
    AttachmentId;
    /// A batch of text messages.
    BatchId;
    /// A call, by the older API (`sessionId`).
    SessionId;
    /// A call (`telephonySessionId`).
    TelephonySessionId;
    /// A party of a call.
    PartyId;
    /// A recording of a call.
    RecordingId;
    /// A call queue.
    CallQueueId;
    /// A user of team messaging; usually equal to the extension's id.
    PersonId;
    /// A post of team messaging.
    PostId;
    /// A chat of team messaging; older paths and posts call it a group.
    ChatId;
    /// An incoming webhook of team messaging.
    WebhookId;
    /// A device.
    DeviceId;
    /// A phone number as a resource, not its digits.
    PhoneNumberId;
    /// A site of a company; `main-site` is one.
    SiteId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_text_number_or_an_object_that_has_one() {
        for (json, want) in [
            ("7876416245344257449", Some("7876416245344257449")),
            (r#""main-site""#, Some("main-site")),
            (r#"{"name":"x","id":3}"#, Some("3")),
            (r#"{"id":null}"#, None),
            ("null", None),
            ("true", None),
            ("[1]", None),
        ] {
            let id = SiteId::read(serde_json::from_str::<&serde_json::value::RawValue>(json).unwrap().into());
            assert_eq!(id.as_ref().map(SiteId::as_str), want, "{json}");
        }
    }
}
