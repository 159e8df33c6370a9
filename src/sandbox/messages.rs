//! Messages, posts, chats and presence: what a bot reads and writes.

use std::collections::VecDeque;
use std::time::SystemTime;

use http::StatusCode;
use serde_json::{Value, json};

use super::delivery::Happening;
use super::fixtures;
use super::http::{Call, Refused, Reply, json_reply};
use super::state::{State, number};

/// Messages and posts kept; the oldest are dropped.
const KEPT: usize = 10_000;
const DEFAULT_PAGE: usize = 100;
const DEFAULT_POSTS: usize = 30;

/// What a bot sent through the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SentMessage {
    /// By which endpoint.
    pub kind: SentKind,
    /// Phone numbers, extension numbers or ids; the chat for a post.
    pub to: Vec<String>,
    /// Its text.
    pub text: String,
    /// The id it was given.
    pub id: String,
    /// When.
    pub at: SystemTime,
}

/// By which endpoint a message was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SentKind {
    /// `POST …/sms`.
    Sms,
    /// `POST …/company-pager`.
    Pager,
    /// `POST …/chats/{id}/posts`.
    Post,
}

/// The store.
#[derive(Debug)]
pub(super) struct Messages {
    messages: VecDeque<Value>,
    posts: VecDeque<Value>,
    pub(super) sent: VecDeque<SentMessage>,
    sequence: u64,
    next_id: u64,
    /// `presenceStatus` and `telephonyStatus`.
    pub(super) presence: (String, String),
}

impl Default for Messages {
    fn default() -> Self {
        Self {
            messages: VecDeque::new(),
            posts: VecDeque::new(),
            sent: VecDeque::new(),
            sequence: 0,
            next_id: 606_090_030_000,
            presence: ("Available".into(), "NoCall".into()),
        }
    }
}

fn keep<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() >= KEPT {
        list.pop_front();
    }
    list.push_back(item);
}

impl Messages {
    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    pub(super) fn store_post(&mut self, post: Value) {
        keep(&mut self.posts, post);
    }
}

impl State {
    /// Puts a message into the store; its id and its record, ids as numbers.
    pub(super) fn store_message(
        &mut self,
        kind: &str,
        direction: &str,
        from: &str,
        to: &[String],
        subject: &str,
    ) -> (u64, Value) {
        self.messages.next_id += 4;
        let id = self.messages.next_id;
        let now = self.write_time(self.moment().wall);
        let conversation = number(&mut self.rng, 19);
        let inbound = direction == "Inbound";
        let party = |number: &str| match number.strip_prefix("ext:") {
            Some(extension) => json!({ "extensionNumber": extension }),
            None => json!({ "phoneNumber": number }),
        };
        let path = format!(
            "{}/restapi/v1.0/account/{}/extension/{}/message-store/{id}",
            self.base_url, self.identity.account_id, self.identity.extension_id
        );
        let record = json!({
            "id": id,
            "uri": path,
            "extensionId": self.identity.extension_id.parse::<u64>().map_or(Value::Null, Value::from),
            "to": to.iter().map(|number| party(number)).collect::<Vec<_>>(),
            "from": party(from),
            "type": kind,
            "creationTime": now,
            "lastModifiedTime": now,
            "readStatus": if inbound { "Unread" } else { "Read" },
            "priority": "Normal",
            "attachments": [{
                "id": id, "uri": format!("{path}/content/{id}"), "type": "Text", "contentType": "text/plain",
            }],
            "direction": direction,
            "availability": "Alive",
            "subject": subject,
            "messageStatus": if inbound { "Received" } else { "Sent" },
            "conversationId": conversation,
            "conversation": { "id": conversation },
        });
        keep(&mut self.messages.messages, record.clone());
        (id, record)
    }

    fn note_sent(&mut self, kind: SentKind, to: Vec<String>, text: &str, id: String) {
        let at = self.moment().wall;
        keep(&mut self.messages.sent, SentMessage { kind, to, text: text.to_owned(), id, at });
    }
}

fn body(call: &Call) -> Result<Value, Refused> {
    match call.json() {
        Ok(Some(body)) => Ok(body),
        Ok(None) | Err(_) => Err(Refused::new(400, "CMN-103", "Request body is not readable")),
    }
}

fn text_field<'a>(body: &'a Value, name: &str) -> Result<&'a str, Refused> {
    body[name].as_str().filter(|text| !text.is_empty()).ok_or_else(|| Refused::parameter(name))
}

fn recipients(body: &Value, names: &[&str]) -> Result<Vec<String>, Refused> {
    let list = body["to"].as_array().filter(|list| !list.is_empty()).ok_or_else(|| Refused::parameter("to"))?;
    let found = |item: &Value| names.iter().find_map(|name| item[*name].as_str().map(str::to_owned));
    list.iter().map(found).collect::<Option<_>>().ok_or_else(|| Refused::parameter("to"))
}

/// `POST …/sms`: the answer, and what it raises.
pub(super) fn send_sms(state: &mut State, call: &Call) -> Result<(Reply, Vec<Happening>), Refused> {
    let body = body(call)?;
    let text = text_field(&body, "text")?;
    let to = recipients(&body, &["phoneNumber"])?;
    let from = body["from"]["phoneNumber"].as_str().ok_or_else(|| Refused::parameter("from"))?;
    if from != state.identity.phone_number {
        let number = "Phone number doesn't belong to extension";
        return Err(Refused { message: number.into(), ..Refused::new(400, "MSG-304", "") });
    }
    let (id, record) = state.store_message("SMS", "Outbound", from, &to, text);
    state.note_sent(SentKind::Sms, to, text, id.to_string());
    let mut hint = fixtures::hint(state, "SMS", 1, 0, &[id]);
    hint.uri.query.push_str("&direction=Outbound");
    Ok((json_reply(StatusCode::OK, &record), vec![hint]))
}

/// `POST …/company-pager`.
pub(super) fn send_pager(state: &mut State, call: &Call) -> Result<(Reply, Vec<Happening>), Refused> {
    let body = body(call)?;
    let text = text_field(&body, "text")?;
    let to = recipients(&body, &["extensionNumber", "extensionId"])?;
    let from = body["from"]["extensionNumber"].as_str().unwrap_or("101").to_owned();
    let tagged: Vec<String> = to.iter().map(|number| format!("ext:{number}")).collect();
    let (id, record) = state.store_message("Pager", "Outbound", &format!("ext:{from}"), &tagged, text);
    state.note_sent(SentKind::Pager, to, text, id.to_string());
    let mut hint = fixtures::hint(state, "Pager", 1, 0, &[id]);
    hint.uri.query.push_str("&direction=Outbound");
    Ok((json_reply(StatusCode::OK, &record), vec![hint]))
}

/// `GET …/message-store`: newest first, by page.
pub(super) fn list_messages(state: &State, call: &Call) -> Reply {
    let number = |name: &str, default: usize| call.query(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (page, per_page) = (number("page", 1).max(1), number("perPage", DEFAULT_PAGE).clamp(1, 1000));
    let fits = |record: &Value, field: &str, asked: &[String]| {
        asked.is_empty() || asked.iter().any(|value| record[field].as_str().is_some_and(|held| held == value))
    };
    let (types, directions) = (call.query_all("messageType"), call.query_all("direction"));
    let found: Vec<&Value> = state
        .messages
        .messages
        .iter()
        .rev()
        .filter(|record| fits(record, "type", &types) && fits(record, "direction", &directions))
        .collect();
    let start = (page - 1).saturating_mul(per_page);
    let records: Vec<&Value> = found.iter().skip(start).take(per_page).copied().collect();
    let uri = format!("{}{}", state.base_url, call.path);
    let body = json!({
        "uri": uri,
        "records": records,
        "paging": {
            "page": page,
            "perPage": per_page,
            "pageStart": start,
            "pageEnd": (start + records.len()).saturating_sub(1),
            "totalPages": found.len().div_ceil(per_page),
            "totalElements": found.len(),
        },
        "navigation": { "firstPage": { "uri": format!("{uri}?page=1&perPage={per_page}") } },
    });
    json_reply(StatusCode::OK, &body)
}

/// `GET …/message-store/{id}`.
pub(super) fn get_message(state: &State, id: &str) -> Result<Reply, Refused> {
    let found =
        state.messages.messages.iter().find(|record| record["id"].as_u64().is_some_and(|held| Ok(held) == id.parse()));
    found.map(|record| json_reply(StatusCode::OK, record)).ok_or_else(|| Refused::not_found("messageId", id))
}

fn chat(id: &str) -> Value {
    json!({
        "id": id,
        "name": "Sandbox team",
        "description": "The chat that every sandbox has",
        "type": "Team",
        "status": "Active",
        "public": false,
        "members": [{ "id": "100200301" }, { "id": "100200399" }],
        "creationTime": "2024-01-01T00:00:00.000Z",
        "lastModifiedTime": "2024-01-01T00:00:00.000Z",
    })
}

/// The chat that every sandbox has.
pub(super) const CHAT: &str = "1200000001";

/// `GET /team-messaging/v1/chats`, and recent chats.
pub(super) fn list_chats() -> Reply {
    json_reply(StatusCode::OK, &json!({ "records": [chat(CHAT)], "navigation": {} }))
}

/// `GET /team-messaging/v1/chats/{id}`.
pub(super) fn get_chat(id: &str) -> Reply {
    json_reply(StatusCode::OK, &chat(id))
}

/// `GET /team-messaging/v1/chats/{id}/posts`: newest first.
pub(super) fn list_posts(state: &State, call: &Call, chat_id: &str) -> Reply {
    let count = call.query("recordCount").and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_POSTS).clamp(1, 250);
    let records: Vec<&Value> =
        state.messages.posts.iter().rev().filter(|post| post["groupId"] == chat_id).take(count).collect();
    json_reply(StatusCode::OK, &json!({ "records": records, "navigation": {} }))
}

/// `POST /team-messaging/v1/chats/{id}/posts`.
pub(super) fn create_post(state: &mut State, call: &Call, chat_id: &str) -> Result<(Reply, Vec<Happening>), Refused> {
    let body = body(call)?;
    let text = text_field(&body, "text")?;
    let creator = state.identity.extension_id.clone();
    let (record, event) = fixtures::post(state, chat_id, &creator, text);
    let id = record["id"].as_str().unwrap_or_default().to_owned();
    state.note_sent(SentKind::Post, vec![chat_id.to_owned()], text, id);
    Ok((json_reply(StatusCode::OK, &record), vec![event]))
}

/// `GET …/presence`.
pub(super) fn get_presence(state: &State) -> Reply {
    let identity = &state.identity;
    let uri =
        format!("{}/restapi/v1.0/account/{}/extension/{}", state.base_url, identity.account_id, identity.extension_id);
    let (presence, telephony) = &state.messages.presence;
    let body = json!({
        "uri": format!("{uri}/presence"),
        "extension": {
            "id": identity.extension_id.parse::<u64>().map_or(Value::Null, Value::from),
            "uri": uri,
            "extensionNumber": "101",
        },
        "presenceStatus": presence,
        "telephonyStatus": telephony,
        "userStatus": "Available",
        "dndStatus": "TakeAllCalls",
        "allowSeeMyPresence": true,
        "ringOnMonitoredCall": false,
        "pickUpCallsOnHold": false,
        "activeCalls": [],
    });
    json_reply(StatusCode::OK, &body)
}

/// `GET …/extension/~`.
pub(super) fn get_extension(state: &State) -> Reply {
    let identity = &state.identity;
    let number = |text: &str| text.parse::<u64>().map_or(Value::Null, Value::from);
    let account = format!("{}/restapi/v1.0/account/{}", state.base_url, identity.account_id);
    let body = json!({
        "uri": format!("{account}/extension/{}", identity.extension_id),
        "id": number(&identity.extension_id),
        "extensionNumber": "101",
        "name": "Sandbox User",
        "type": "User",
        "status": "Enabled",
        "contact": { "firstName": "Sandbox", "lastName": "User", "email": "user@sandbox.invalid" },
        "account": { "id": identity.account_id, "uri": account },
    });
    json_reply(StatusCode::OK, &body)
}

/// `GET …/account/~`.
pub(super) fn get_account(state: &State) -> Reply {
    let identity = &state.identity;
    let body = json!({
        "uri": format!("{}/restapi/v1.0/account/{}", state.base_url, identity.account_id),
        "id": identity.account_id.parse::<u64>().map_or(Value::Null, Value::from),
        "mainNumber": identity.phone_number,
        "status": "Confirmed",
    });
    json_reply(StatusCode::OK, &body)
}

/// `GET …/extension/~/phone-number`.
pub(super) fn list_phone_numbers(state: &State) -> Reply {
    let body = json!({
        "records": [{
            "id": 1,
            "phoneNumber": state.identity.phone_number,
            "usageType": "DirectNumber",
            "type": "VoiceFax",
            "features": ["SmsSender", "MmsSender", "CallerId"],
        }],
        "paging": { "page": 1, "perPage": 100, "pageStart": 0, "pageEnd": 0, "totalPages": 1, "totalElements": 1 },
        "navigation": {},
    });
    json_reply(StatusCode::OK, &body)
}
