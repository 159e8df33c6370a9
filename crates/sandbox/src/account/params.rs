//! Parameters of calls, and answers that several resources share.

use std::collections::VecDeque;
use std::time::SystemTime;

use http::StatusCode;
use http::header::ACCEPT;
use ringcentral_events::Timestamp;
use serde_json::{Value, json};

use crate::http::{Call, Refused, Reply, text_reply};

/// Adds an item to a list that has at most `most`; the oldest is dropped.
pub(super) fn keep<T>(list: &mut VecDeque<T>, item: T, most: usize) {
    if list.len() >= most {
        list.pop_front();
    }
    list.push_back(item);
}

/// The JSON body of a call.
pub(super) fn body(call: &Call) -> Result<Value, Refused> {
    match call.json() {
        Ok(Some(body)) => Ok(body),
        Ok(None) | Err(_) => Err(Refused::new(400, "CMN-103", "Request body is not readable")),
    }
}

/// A text of a body that is present and not empty.
pub(super) fn text_field<'a>(body: &'a Value, name: &str) -> Result<&'a str, Refused> {
    body[name].as_str().filter(|text| !text.is_empty()).ok_or_else(|| Refused::parameter(name))
}

/// A time parameter of the query.
pub(super) fn time_in(call: &Call, name: &str) -> Result<Option<SystemTime>, Refused> {
    let Some(text) = call.query(name) else { return Ok(None) };
    Timestamp::new(text).system_time().map(Some).ok_or_else(|| Refused::parameter(name))
}

/// A count of at least 1 in the query.
pub(super) fn count_in(call: &Call, name: &str) -> Result<Option<usize>, Refused> {
    let Some(text) = call.query(name) else { return Ok(None) };
    text.parse().ok().filter(|count| *count > 0).map(Some).ok_or_else(|| Refused::parameter(name))
}

const MULTIPART_JSON: &str = "application/vnd.ringcentral.multipart+json";
const BOUNDARY: &str = "Boundary_sandbox";

/// The answer to a request for several resources, whose ids are separated by commas: `read` gives the address and the
/// record of one. Multipart, or one JSON list where the client asks for that.
pub(super) fn batch(call: &Call, ids: &str, read: impl Fn(&str) -> (String, Result<Value, Refused>)) -> Reply {
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
pub(super) fn id_number(id: &str) -> Value {
    id.parse::<u64>().map_or(Value::Null, Value::from)
}
