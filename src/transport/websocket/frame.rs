//! The gateway's frames. Pure, and lenient: an unreadable frame is reported as such, and nothing in this module can
//! panic.
//!
//! A frame is a JSON array of a meta object and usually a body. One form is not JSON as a whole: a reply whose body is
//! raw text begins with `--Boundary`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::SystemTime;

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::recovery::{Details, Wsc};
use crate::json::Json;
use crate::secret::Secret;
use crate::timestamp::Timestamp;

/// One message of the gateway.
#[derive(Debug)]
pub(super) struct Incoming {
    /// The newest recovery token; any frame may carry it.
    pub(super) wsc: Option<Wsc>,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// The session begins, or its terms change.
    Details(Box<Details>),
    /// The answer to a request.
    Reply(Reply),
    /// An event.
    Notification(Event),
    /// The echo of a heartbeat, with its id.
    Heartbeat(String),
    /// The gateway's own complaint, about a request or about the connection.
    Error(Reply),
    /// A type that this crate does not know.
    Unknown,
}

/// The answer to a request, from REST or from the gateway.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) id: Option<String>,
    pub(super) status: Option<u16>,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

/// An event as received.
#[derive(Debug)]
pub(super) struct Event {
    /// The frame's `messageId`.
    pub(super) position: Option<Box<str>>,
    /// The subscription that it names.
    pub(super) subscription: Option<Box<str>>,
    /// Its `timestamp`: when the service sent it.
    pub(super) sent_at: Option<SystemTime>,
    pub(super) body: Result<Box<RawValue>, (Box<str>, &'static str)>,
}

#[derive(Default)]
struct Meta<'a> {
    kind: Option<Json<'a>>,
    message_id: Option<Json<'a>>,
    status: Option<Json<'a>>,
    headers: Option<Json<'a>>,
    wsc: Option<Json<'a>>,
}

impl<'a> Meta<'a> {
    /// `None` if it is not an object, or repeats a field.
    fn read(raw: &'a RawValue) -> Option<Self> {
        let (mut meta, mut is_repeated) = (Self::default(), false);
        let is_object = Json::from(raw).fields(&mut |name, value| {
            let field = match name {
                "type" => &mut meta.kind,
                "messageId" => &mut meta.message_id,
                "status" => &mut meta.status,
                "headers" => &mut meta.headers,
                "wsc" => &mut meta.wsc,
                _ => return,
            };
            is_repeated |= field.replace(value).is_some();
        });
        (is_object && !is_repeated).then_some(meta)
    }
}

/// Reads one message, which should be UTF-8. An event with invalid UTF-8 is delivered as undecodable; in any other
/// frame it makes no difference.
///
/// # Errors
/// See [`read`].
pub(super) fn read_bytes(bytes: &[u8]) -> Result<Incoming, &'static str> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        let text = String::from_utf8_lossy(bytes);
        let mut incoming = read(&text)?;
        if let What::Notification(event) = &mut incoming.what {
            event.body = Err((Box::from(&*text), "a notification that is not UTF-8"));
        }
        return Ok(incoming);
    };
    read(text)
}

/// Reads one message.
///
/// # Errors
/// Why it is not a frame. The caller counts and skips it.
pub(super) fn read(text: &str) -> Result<Incoming, &'static str> {
    read_whole(text).or_else(|reason| {
        // A frame that may have been an event is delivered, not only counted.
        let event = text.contains("\"ServerNotification\"");
        let broken = || Event { position: None, subscription: None, sent_at: None, body: Err((text.into(), reason)) };
        event.then(|| Incoming { wsc: None, what: What::Notification(broken()) }).ok_or(reason)
    })
}

fn read_whole(text: &str) -> Result<Incoming, &'static str> {
    let (meta, body) = split(text)?;
    let meta = Meta::read(meta).ok_or("the meta is not an object of single fields")?;
    let id = || meta.message_id.and_then(Json::text_or_digits).map(Cow::into_owned);
    let kind = meta.kind.and_then(Json::text_or_digits).ok_or("a frame without type")?;
    let wsc = meta.wsc.and_then(Wsc::read);
    let reply = || Reply {
        id: id(),
        status: meta.status.and_then(status_of),
        headers: meta.headers.map(headers_of).unwrap_or_default(),
        body: body.unwrap_or_default().to_owned(),
    };
    let what = match &*kind {
        "ConnectionDetails" => What::Details(Box::new(Details::read(body.unwrap_or_default()))),
        "ClientRequest" => What::Reply(reply()),
        "ServerNotification" => What::Notification(event(text, id(), body)),
        "Heartbeat" => What::Heartbeat(id().unwrap_or_default()),
        "Error" => What::Error(reply()),
        // A type of a later version that carries an event.
        _ if body.is_some_and(names_an_event) => What::Notification(event(text, id(), body)),
        _ => What::Unknown,
    };
    Ok(Incoming { wsc, what })
}

/// The meta and the body's text, if there is one.
fn split(text: &str) -> Result<(&RawValue, Option<&str>), &'static str> {
    let inner = text.trim().strip_prefix('[').ok_or("not an array")?;
    let inner = inner.strip_suffix(']').ok_or("not a whole array")?;
    let mut values = serde_json::Deserializer::from_str(inner).into_iter::<&RawValue>();
    let meta = match values.next() {
        Some(Ok(meta)) => meta,
        Some(Err(_)) => return Err("the meta is not valid JSON"),
        None => return Err("an empty array"),
    };
    let rest = inner.get(values.byte_offset()..).unwrap_or_default().trim();
    match rest.strip_prefix(',').map(str::trim) {
        None if rest.is_empty() => Ok((meta, None)),
        None => Err("no comma after the meta"),
        Some(body) => Ok((meta, Some(body))),
    }
}

fn names_an_event(body: &str) -> bool {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        event: &'a RawValue,
    }
    serde_json::from_str::<Named<'_>>(body).is_ok_and(|named| named.event.get().starts_with('"'))
}

/// An unreadable frame as an undecodable event: it may have been one. A frame that may hold a session's token is not
/// shown.
pub(super) fn unreadable(bytes: &[u8], reason: &'static str) -> Event {
    const LONGEST: usize = 64 << 10;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)]);
    let may_hold_token = ["wsc", "oken", "ConnectionDetails"].iter().any(|word| text.contains(word));
    let text = if may_hold_token { "(not shown: it may hold a session's token)" } else { &*text };
    Event { position: None, subscription: None, sent_at: None, body: Err((text.into(), reason)) }
}

fn event(text: &str, id: Option<String>, body: Option<&str>) -> Event {
    let bad = |reason| Err((Box::from(text), reason));
    let body = match body {
        None => bad("a notification without a body"),
        Some(body) if !body.starts_with('{') => bad("a notification whose body is not an object"),
        Some(body) => match serde_json::from_str::<Box<RawValue>>(body) {
            Ok(body) => Ok(body),
            Err(_) => bad("a notification whose body is not valid JSON"),
        },
    };
    let (mut subscription, mut sent_at) = (None, None);
    if let Ok(body) = &body {
        // They stand before the event's body, which need not be searched.
        Json::from(body).fields_while(&mut |name, value| {
            match name {
                "subscriptionId" => subscription = value.text_or_digits(),
                "timestamp" => sent_at = value.text_or_digits(),
                _ => {}
            }
            subscription.is_none() || sent_at.is_none()
        });
    }
    let subscription = subscription.map(|id| Box::from(&*id));
    let sent_at = sent_at.and_then(|text| Timestamp::new(&*text).system_time());
    Event { position: id.map(String::into_boxed_str), subscription, sent_at, body }
}

fn status_of(raw: Json<'_>) -> Option<u16> {
    raw.text_or_digits()?.trim().parse().ok()
}

/// The valid headers; the others are skipped.
fn headers_of(raw: Json<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    raw.fields(&mut |name, value| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok();
        let value = value.text_or_digits().and_then(|text| HeaderValue::from_str(&text).ok());
        headers.extend(name.zip(value));
    });
    headers
}

/// A request's text. `body` is JSON, an object or a string: the gateway refuses anything else (`WSG-808`).
pub(super) fn request(id: &str, method: &Method, path: &str, body: Option<&str>) -> String {
    let meta = serde_json::json!({
        "type": "ClientRequest", "messageId": id, "method": method.as_str(), "path": path,
    });
    let mut text = format!("[{meta}");
    if let Some(body) = body {
        text.push(',');
        text.push_str(body);
    }
    text.push(']');
    text
}

/// The id of a heartbeat.
pub(super) fn heartbeat_id(n: u64) -> String {
    format!("h-{n}")
}

/// A heartbeat's text.
pub(super) fn heartbeat(n: u64) -> String {
    let mut text = String::with_capacity(48);
    // Writing to a string cannot fail.
    let _ = write!(text, r#"[{{"type":"Heartbeat","messageId":"{}"}}]"#, heartbeat_id(n));
    text
}

/// Whether the gateway accepts `body`.
pub(super) fn is_sendable(body: &str) -> bool {
    matches!(body.trim_start().as_bytes().first(), Some(b'{' | b'"'))
        && serde_json::from_str::<IgnoredAny>(body).is_ok()
}

impl Wsc {
    fn read(raw: Json<'_>) -> Option<Self> {
        #[derive(Deserialize)]
        struct Sent<'a> {
            token: Secret,
            #[serde(borrow, default)]
            sequence: Option<&'a RawValue>,
        }
        let sent: Sent<'_> = serde_json::from_str(raw.get()).ok()?;
        if sent.token.expose().is_empty() {
            return None;
        }
        let sequence =
            sent.sequence.and_then(|digits| Json::from(digits).text_or_digits()).and_then(|digits| digits.parse().ok());
        Some(Self { token: sent.token, sequence })
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
