//! The floors: programs without this crate that read the same bytes in one loop on one thread, into plain structs with
//! every field of the event, and read a field. They do not change, so that figures of different days can be compared.

pub mod plain_pubnub;
pub mod plain_websocket;

use serde::Deserialize;

/// The envelope of every event.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    pub uuid: String,
    pub event: String,
    pub timestamp: String,
    pub subscription_id: String,
    pub owner_id: String,
    pub body: Sms,
}

/// The body of `/message-store/instant?type=SMS`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sms {
    pub id: String,
    pub to: Vec<Party>,
    pub from: Party,
    #[serde(rename = "type")]
    pub kind: String,
    pub creation_time: String,
    pub last_modified_time: String,
    pub read_status: String,
    pub priority: String,
    pub attachments: Vec<Attachment>,
    pub direction: String,
    pub availability: String,
    pub subject: String,
    pub message_status: String,
    pub conversation_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Party {
    pub phone_number: String,
    pub name: Option<String>,
    pub location: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    pub id: String,
    pub uri: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub content_type: String,
    pub size: u64,
}

/// The text of the value of a field, for answers of a login or a creation, which cost nothing per event.
pub fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
