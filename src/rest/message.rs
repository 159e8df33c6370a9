//! Messages sent by a bot.

use http::Method;
use serde::Deserialize;
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
    pub async fn post_message(&self, chat_id: &str, text: &str) -> Result<SentPost> {
        let path = format!("/team-messaging/v1/chats/{}/posts", segment(chat_id)?);
        self.request(Method::POST, &path).json(&json!({ "text": text })).send().await?.json()
    }
}
