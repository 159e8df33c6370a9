//! The account behind the sandbox, which a client can query.
//!
//! Each fixture that emits an event also changes the account, so that a client that missed the
//! event finds the change.

pub(super) mod a2p;
pub(super) mod calls;
pub(super) mod insights;
mod knobs;
pub(super) mod message_sync;
pub(super) mod messages;
pub(super) mod people;
pub(super) mod team;
mod token;

pub use self::knobs::{AccountKnobs, OldCallLog, StaleToken};

use std::time::SystemTime;

use http::StatusCode;
use http::header::ACCEPT;
use serde_json::{Value, json};

use super::http::{Call, Refused, Reply, text_reply};
use super::state::State;
use ringcentral_events::Timestamp;

/// The account's resources.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) messages: messages::Messages,
    pub(super) calls: calls::Calls,
    pub(super) team: team::Team,
    pub(super) people: people::People,
    pub(super) a2p: a2p::A2p,
    pub(super) insights: insights::Insights,
}

impl State {
    /// The service's wall clock, used in records and queries.
    pub(super) fn service_now(&self) -> SystemTime {
        self.service_time(self.moment().wall)
    }

    /// The service's time `at`, in the format that the knob selects.
    pub(super) fn write_service_time(&self, at: SystemTime) -> String {
        self.format_time(at, self.knobs.time_format)
    }

    /// The service's time for records: the text, and the time truncated to the text's precision.
    fn written_now(&self) -> (SystemTime, String) {
        let now = self.service_now();
        let text = self.write_service_time(now);
        (Timestamp::new(&*text).system_time().unwrap_or(now), text)
    }

    /// The extension in a path, `~` resolved; `None` if the account has no such extension.
    pub(super) fn extension_of(&self, segment: &str) -> Option<String> {
        let own = &self.identity.extension_id;
        match segment {
            "~" => Some(own.clone()),
            id if id == own || self.knobs.account.other_extensions.iter().any(|other| other == id) => {
                Some(id.to_owned())
            }
            _ => None,
        }
    }

    /// The URL of an extension's resource.
    pub(super) fn extension_uri(&self, extension: &str, tail: &str) -> String {
        format!("{}/restapi/v1.0/account/{}/extension/{extension}{tail}", self.base_url, self.identity.account_id)
    }
}

/// A time parameter of the query.
fn time_in(call: &Call, name: &str) -> Result<Option<SystemTime>, Refused> {
    let Some(text) = call.query(name) else { return Ok(None) };
    Timestamp::new(text).system_time().map(Some).ok_or_else(|| Refused::parameter(name))
}

/// A count of at least 1 in the query.
fn count_in(call: &Call, name: &str) -> Result<Option<usize>, Refused> {
    let Some(text) = call.query(name) else { return Ok(None) };
    text.parse().ok().filter(|count| *count > 0).map(Some).ok_or_else(|| Refused::parameter(name))
}

const MULTIPART_JSON: &str = "application/vnd.ringcentral.multipart+json";
const BOUNDARY: &str = "Boundary_sandbox";

/// The answer to a request for several resources, whose ids are separated by commas: `read` gives the address and the
/// record of one. Multipart, or one JSON list where the client asks for that.
fn batch(call: &Call, ids: &str, read: impl Fn(&str) -> (String, Result<Value, Refused>)) -> Reply {
    let answers: Vec<(&str, String, u16, Value)> = ids
        .split(',')
        .map(|id| match read(id) {
            (uri, Ok(record)) => (id, uri, 200, record),
            (uri, Err(refused)) => {
                let reply = refused.reply();
                (id, uri, reply.status().as_u16(), serde_json::from_slice(reply.body()).unwrap_or_default())
            }
        })
        .collect();
    let status = StatusCode::MULTI_STATUS;
    let wanted = call.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if wanted.contains(MULTIPART_JSON) {
        let all =
            answers.iter().map(|(id, _, status, body)| json!({ "resourceId": id, "status": status, "body": body }));
        return text_reply(status, MULTIPART_JSON, Value::from(all.collect::<Vec<_>>()).to_string());
    }
    let described = answers.iter().map(|(_, uri, status, _)| {
        let words = if *status == 200 { "OK" } else { "Not Found" };
        json!({ "href": uri, "status": status, "responseDescription": words })
    });
    let head = json!({ "response": described.collect::<Vec<_>>() });
    let parts = std::iter::once(&head).chain(answers.iter().map(|(.., body)| body));
    let mut text = String::new();
    for part in parts {
        text.push_str(&format!("--{BOUNDARY}\r\nContent-Type: application/json\r\n\r\n{part}\r\n"));
    }
    text.push_str(&format!("--{BOUNDARY}--\r\n"));
    text_reply(status, "multipart/mixed; boundary=Boundary_sandbox", text)
}

/// A decimal id as a JSON number, as the API writes it.
fn id_number(id: &str) -> Value {
    id.parse::<u64>().map_or(Value::Null, Value::from)
}
