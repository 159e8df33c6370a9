//! Endpoints for sending messages and reading the account.

use std::collections::VecDeque;
use std::time::SystemTime;

use http::StatusCode;
use serde_json::{Value, json};

use super::account::messages::NewMessage;
use super::delivery::DomainEvent;
use super::fixtures_apply;
use super::http::{Call, Part, Refused, Reply, json_reply};
use super::state::State;

/// The user's extension number.
const OWN_NUMBER: &str = "101";
/// Maximum number of sent messages recorded; the oldest are dropped.
const KEPT: usize = 10_000;

/// A message that a bot sent through the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SentMessage {
    /// The endpoint.
    pub kind: SentKind,
    /// Phone numbers, extension numbers or ids; the chat for a post.
    pub to: Vec<String>,
    /// Its text.
    pub text: String,
    /// The assigned id.
    pub id: String,
    /// When it was sent.
    pub at: SystemTime,
}

/// The endpoint that sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SentKind {
    /// `POST …/sms`.
    Sms,
    /// `POST …/fax`.
    Fax,
    /// `POST …/company-pager`.
    Pager,
    /// `POST …/chats/{id}/posts`.
    Post,
}

/// The sent messages.
#[derive(Debug, Default)]
pub(super) struct Messages {
    pub(super) sent: VecDeque<SentMessage>,
    sequence: u64,
}

pub(super) fn keep<T>(list: &mut VecDeque<T>, item: T, most: usize) {
    if list.len() >= most {
        list.pop_front();
    }
    list.push_back(item);
}

impl Messages {
    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}

impl State {
    fn note_sent(&mut self, kind: SentKind, to: Vec<String>, text: &str, id: String) {
        let at = self.moment().wall;
        keep(&mut self.messages.sent, SentMessage { kind, to, text: text.to_owned(), id, at }, KEPT);
    }
}

pub(super) fn body(call: &Call) -> Result<Value, Refused> {
    match call.json() {
        Ok(Some(body)) => Ok(body),
        Ok(None) | Err(_) => Err(Refused::new(400, "CMN-103", "Request body is not readable")),
    }
}

/// Reads a message: JSON, or multipart with a JSON part or one part per field, and attachments.
/// Also returns the attachments' types.
fn sent_body(call: &Call) -> Result<(Value, Vec<String>), Refused> {
    let Some(parts) = call.parts() else { return Ok((body(call)?, Vec::new())) };
    let is_json = |part: &Part| part.content_type.as_deref().is_some_and(|kind| kind.starts_with("application/json"));
    let object = |part: &Part| serde_json::from_slice::<Value>(&part.data).ok().filter(Value::is_object);
    let whole = parts.iter().position(|part| is_json(part) && object(part).is_some_and(|it| it.get("to").is_some()));
    let mut message = whole.and_then(|at| object(&parts[at])).unwrap_or_else(|| json!({}));
    let mut attachments = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        if whole == Some(at) {
            continue;
        }
        match (&part.name, &part.content_type) {
            (Some(name), _)
                if whole.is_none()
                    && ["from", "to", "text", "country", "coverPageText", "faxResolution"].contains(&name.as_str()) =>
            {
                let text = String::from_utf8_lossy(&part.data).into_owned();
                message[name.as_str()] = serde_json::from_str(&text).unwrap_or(Value::String(text));
            }
            (_, Some(kind)) => attachments.push(kind.clone()),
            (_, None) => {}
        }
    }
    Ok((message, attachments))
}

pub(super) fn text_field<'a>(body: &'a Value, name: &str) -> Result<&'a str, Refused> {
    body[name].as_str().filter(|text| !text.is_empty()).ok_or_else(|| Refused::parameter(name))
}

fn recipients(body: &Value, names: &[&str]) -> Result<Vec<String>, Refused> {
    let list = body["to"].as_array().filter(|list| !list.is_empty()).ok_or_else(|| Refused::parameter("to"))?;
    let found = |item: &Value| names.iter().find_map(|name| item[*name].as_str().map(str::to_owned));
    list.iter().map(found).collect::<Option<_>>().ok_or_else(|| Refused::parameter("to"))
}

/// `POST …/sms` and `…/mms`: the response and the events.
pub(super) fn send_sms(state: &mut State, call: &Call) -> Result<(Reply, Vec<DomainEvent>), Refused> {
    let (body, attachments) = sent_body(call)?;
    // A picture needs no text.
    let text = match (text_field(&body, "text"), attachments.is_empty()) {
        (Err(_), false) => "",
        (text, _) => text?,
    };
    let to = recipients(&body, &["phoneNumber"])?;
    let from = body["from"]["phoneNumber"].as_str().ok_or_else(|| Refused::parameter("from"))?;
    if from != state.identity.phone_number {
        let number = "Phone number doesn't belong to extension";
        return Err(Refused { message: number.into(), ..Refused::new(400, "MSG-304", "") });
    }
    let extension = &state.identity.extension_id.clone();
    let new =
        NewMessage { extension, kind: "SMS", direction: "Outbound", from, to: &to, subject: text, attachments: &[] };
    let (id, record) = state.store_message(&NewMessage { attachments: &attachments, ..new });
    // A message to the own number is also received.
    let received = to.contains(&state.identity.phone_number);
    state.note_sent(SentKind::Sms, to, text, id.to_string());
    let mut hint = fixtures_apply::hint(state, extension, "SMS", 1, 0, &[id]);
    hint.uri.query.push_str("&direction=Outbound");
    let mut raised = vec![hint];
    if received {
        raised.extend(fixtures_apply::inbound_sms(state, from, text, None));
    }
    Ok((json_reply(StatusCode::OK, &record), raised))
}

/// `POST …/fax`: at least one document or a text for the cover page.
pub(super) fn send_fax(state: &mut State, call: &Call) -> Result<(Reply, Vec<DomainEvent>), Refused> {
    let (body, documents) = sent_body(call)?;
    let text = body["coverPageText"].as_str().unwrap_or_default();
    if documents.is_empty() && text.is_empty() {
        return Err(Refused::parameter("attachment"));
    }
    // A form names each recipient in a field of its own.
    let to = match &body["to"] {
        Value::String(number) => vec![number.clone()],
        _ => recipients(&body, &["phoneNumber"])?,
    };
    let extension = &state.identity.extension_id.clone();
    let from = &state.identity.phone_number.clone();
    let new = NewMessage {
        extension,
        kind: "Fax",
        direction: "Outbound",
        from,
        to: &to,
        subject: text,
        attachments: &documents,
    };
    let (id, record) = state.store_message(&new);
    state.note_sent(SentKind::Fax, to, text, id.to_string());
    let mut hint = fixtures_apply::hint(state, extension, "Fax", 1, 0, &[id]);
    hint.uri.query.push_str("&direction=Outbound");
    Ok((json_reply(StatusCode::OK, &record), vec![hint]))
}

/// `POST …/company-pager`.
pub(super) fn send_pager(state: &mut State, call: &Call) -> Result<(Reply, Vec<DomainEvent>), Refused> {
    let body = body(call)?;
    let text = text_field(&body, "text")?;
    let to = recipients(&body, &["extensionNumber", "extensionId"])?;
    let from = body["from"]["extensionNumber"].as_str().unwrap_or(OWN_NUMBER).to_owned();
    let tagged: Vec<String> = to.iter().map(|number| format!("ext:{number}")).collect();
    let (extension, from) = (&state.identity.extension_id.clone(), &format!("ext:{from}"));
    let new = NewMessage {
        extension,
        kind: "Pager",
        direction: "Outbound",
        from,
        to: &tagged,
        subject: text,
        attachments: &[],
    };
    let (id, record) = state.store_message(&new);
    let received = to.iter().any(|it| it == extension || it == OWN_NUMBER);
    state.note_sent(SentKind::Pager, to, text, id.to_string());
    let mut hint = fixtures_apply::hint(state, extension, "Pager", 1, 0, &[id]);
    hint.uri.query.push_str("&direction=Outbound");
    let mut raised = vec![hint];
    if received {
        let (inbound, _) = state.store_message(&NewMessage { direction: "Inbound", ..new });
        raised.push(fixtures_apply::hint(state, extension, "Pager", 1, 0, &[inbound]));
    }
    Ok((json_reply(StatusCode::OK, &record), raised))
}

/// `POST /team-messaging/v1/chats/{id}/posts`.
pub(super) fn create_post(state: &mut State, call: &Call, chat_id: &str) -> Result<(Reply, Vec<DomainEvent>), Refused> {
    let body = body(call)?;
    let text = text_field(&body, "text")?;
    let creator = state.identity.extension_id.clone();
    let (record, event) = state.add_post(chat_id, &creator, text);
    let id = record["id"].as_str().unwrap_or_default().to_owned();
    state.note_sent(SentKind::Post, vec![chat_id.to_owned()], text, id);
    Ok((json_reply(StatusCode::OK, &record), vec![event]))
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
