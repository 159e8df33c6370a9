//! Messages sent by a bot.

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::client::Client;
use crate::error::Result;
use crate::http::segment;
use crate::ids::text_or_number;
use crate::timestamp::Timestamp;

/// An SMS accepted by the service.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SentSms {
    /// The message's id in the message store.
    #[serde(deserialize_with = "text_or_number")]
    pub id: String,
    /// Its state: `Queued`, `Sent`, …
    #[serde(default)]
    pub message_status: Option<String>,
    /// When it was accepted.
    #[serde(default)]
    pub creation_time: Option<Timestamp>,
}

/// A team-messaging post accepted by the service.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SentPost {
    /// The post's id.
    #[serde(deserialize_with = "text_or_number")]
    pub id: String,
    /// When it was accepted.
    #[serde(default)]
    pub creation_time: Option<Timestamp>,
}

/// An adaptive card accepted by the service.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SentCard {
    /// The card's id: that of the attachment of its post, and of a later change
    /// (`PUT /team-messaging/v1/adaptive-cards/{cardId}`).
    #[serde(deserialize_with = "text_or_number")]
    pub id: String,
    /// When it was accepted.
    #[serde(default)]
    pub creation_time: Option<Timestamp>,
}

impl Client {
    /// Sends an SMS (`POST …/extension/~/sms`) from one of the user's numbers.
    ///
    /// # Errors
    /// As [`RequestBuilder::send`](super::RequestBuilder::send). Not retried if it is unclear
    /// whether it was sent.
    pub async fn send_sms(&self, from: &str, to: &str, text: &str) -> Result<SentSms> {
        let body = json!({ "from": { "phoneNumber": from }, "to": [{ "phoneNumber": to }], "text": text });
        self.request(Method::POST, "/restapi/v1.0/account/~/extension/~/sms").json(&body).send().await?.json()
    }

    /// Posts `text` to a chat (`POST /team-messaging/v1/chats/{chatId}/posts`).
    ///
    /// # Errors
    /// As [`RequestBuilder::send`](super::RequestBuilder::send). Not retried if it is unclear
    /// whether it was posted.
    pub async fn post_message(&self, chat_id: impl AsRef<str>, text: &str) -> Result<SentPost> {
        let path = format!("/team-messaging/v1/chats/{}/posts", segment(chat_id.as_ref())?);
        self.request(Method::POST, &path).json(&json!({ "text": text })).send().await?.json()
    }

    /// Posts an adaptive card to a chat (`POST /team-messaging/v1/chats/{chatId}/adaptive-cards`).
    /// `card` is its JSON, with `"type": "AdaptiveCard"` and `"version": "1.3"`, the version that the
    /// service supports.
    ///
    /// ```no_run
    /// # async fn run(client: ringcentral_events::Client) -> ringcentral_events::Result<()> {
    /// use serde_json::json;
    ///
    /// let card = json!({
    ///     "type": "AdaptiveCard",
    ///     "version": "1.3",
    ///     "body": [{ "type": "TextBlock", "text": "Deployed." }],
    ///     "actions": [{ "type": "Action.OpenUrl", "title": "Open", "url": "https://ci.example/7" }],
    /// });
    /// client.post_card("1200000001", &card).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`RequestBuilder::send`](super::RequestBuilder::send). Not retried if it is unclear
    /// whether it was posted.
    pub async fn post_card(&self, chat_id: impl AsRef<str>, card: &impl Serialize) -> Result<SentCard> {
        let path = format!("/team-messaging/v1/chats/{}/adaptive-cards", segment(chat_id.as_ref())?);
        self.request(Method::POST, &path).json(card).send().await?.json()
    }
}
