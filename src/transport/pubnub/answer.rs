//! Reads an HTTP answer into frames and the next position, or into an error. Pure.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use ::pubnub::core::PubNubError;
use ::pubnub::subscribe::SubscriptionCursor;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::request::{cursor, timetoken};
use crate::control::Cursor;
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::http::envelope::wait_of;
use crate::policy::LONGEST_POLL_PAUSE;
use crate::salvage::{elements, fields, unwrapped};
use crate::transport::FrameBody;

/// The most bytes of an unreadable text that are delivered.
const LONGEST_TEXT: usize = 64 << 10;

/// The result of a poll.
#[derive(Debug)]
pub(super) enum Read {
    /// The whole answer was read.
    Whole(Answer),
    /// It is PubNub's answer, but part of it cannot be read. The next one may be better.
    Damaged(Damaged),
}

/// The readable part of an answer that violates the protocol.
#[derive(Debug)]
pub(super) struct Damaged {
    pub(super) frames: Vec<Message>,
    /// The next position, if it can be read.
    pub(super) cursor: Option<Cursor>,
    /// Whether each message of the answer is among the frames.
    pub(super) has_all: bool,
}

/// A good answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) frames: Vec<Message>,
    pub(super) cursor: Cursor,
    /// The list of messages is null, which may be an empty list or a damaged one.
    pub(super) is_null: bool,
}

/// One message of an answer.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) body: FrameBody,
    /// The publish timetoken and region, which differ between two messages of one publisher.
    pub(super) position: Option<Box<str>>,
    /// The time of that timetoken.
    pub(super) sent_at: Option<SystemTime>,
}

/// Reads the service's answer.
///
/// An error leaves the position unchanged. Its disposition is `Recreate` where the service says that it does not know,
/// or does not serve, this channel, and `Retry` where the cause may pass; it never contains text of the answer.
pub(super) fn read(status: u16, headers: &HashMap<String, String>, body: &[u8]) -> Result<Read> {
    let after = || {
        // After a longer wait the service's buffer would no longer hold the messages.
        wait_of(|name| headers.get(name).map(String::as_str)).map(|wait| wait.min(LONGEST_POLL_PAUSE))
    };
    if status != 200 {
        return Err(refused(status, after()));
    }
    match read_body(body) {
        Ok(read) => Ok(read),
        Err(Unusable::Refused(status)) => Err(refused(status, after())),
        Err(Unusable::Failed) => Err(Error::new(ErrorKind::Service, "PubNub answered with an error")),
        Err(Unusable::Malformed(what)) => Err(Error::new(ErrorKind::Protocol, what)),
    }
}

/// Classifies a failure to get any answer.
pub(super) fn failure(error: &PubNubError) -> Error {
    // The crate's error as text only, so that its type stays in this module.
    let cause = error.to_string();
    match error {
        PubNubError::RequestCancel { .. } => {
            Error::new(ErrorKind::Timeout, "PubNub did not answer in time").with_source(cause)
        }
        // A repeated request would get an answer of the same size for ever.
        PubNubError::Deserialization { .. } => Error::new(ErrorKind::Protocol, "PubNub's answer is too large")
            .with_disposition(Disposition::Recreate)
            .with_source(cause),
        _ => Error::new(ErrorKind::Network, "PubNub cannot be reached").with_source(cause),
    }
}

/// Classifies an HTTP status other than 200.
fn refused(status: u16, after: Option<Duration>) -> Error {
    let retry = Disposition::Retry { after };
    let (kind, disposition, message) = match status {
        404 => (ErrorKind::NotFound, Disposition::Recreate, "PubNub does not know this subscription"),
        400..=403 | 413 | 414 => (ErrorKind::Rejected, Disposition::Recreate, "PubNub refused the poll"),
        429 => (ErrorKind::RateLimited, retry, "PubNub asked to slow down"),
        408 => (ErrorKind::Timeout, retry, "PubNub gave the request up"),
        500..=599 => (ErrorKind::Service, retry, "PubNub failed"),
        // A proxy or captive portal answered.
        _ => (ErrorKind::Protocol, retry, "the answer does not come from PubNub"),
    };
    Error::new(kind, message).with_status(status).with_disposition(disposition)
}

/// Why an answer with status 200 is unusable.
#[derive(Debug)]
enum Unusable {
    /// An error that names a status.
    Refused(u16),
    /// An error that names no status.
    Failed,
    Malformed(&'static str),
}

/// The fields of the answer that are needed; all others are skipped.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    t: Option<&'a RawValue>,
    /// `None`: absent. `Some(None)`: null.
    #[serde(borrow, default, deserialize_with = "present")]
    m: Option<Option<Vec<&'a RawValue>>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    d: Option<&'a RawValue>,
    #[serde(borrow, default)]
    p: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct LooseCursor<'a> {
    #[serde(borrow, default)]
    t: Option<&'a RawValue>,
    #[serde(borrow, default)]
    r: Option<&'a RawValue>,
}

/// Distinguishes a null, which is a value, from an absent field.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn read_body(body: &[u8]) -> Result<Read, Unusable> {
    // Invalid UTF-8 spoils its message only, not the whole answer: a repeated request would get the same bytes, and the
    // position would never move.
    let text = String::from_utf8_lossy(body);
    let patched = matches!(text, Cow::Owned(_));
    let text = unwrapped(&text);
    if text.starts_with('[') {
        // `[0,"text"]`, the old form of an error.
        return Err(Unusable::Failed);
    }
    if !text.starts_with('{') {
        return Err(Unusable::Malformed("PubNub's answer is not JSON"));
    }
    let Ok(body) = serde_json::from_str::<Body<'_>>(text) else { return salvage(text, patched) };
    let status = status_of(body.status.map(RawValue::get));
    if body.error.is_some_and(|raw| raw.get() == "true") {
        return Err(status.map_or(Unusable::Failed, Unusable::Refused));
    }
    match (body.t.and_then(position), body.m, status) {
        (Some(cursor), Some(envelopes), _) => {
            let is_null = envelopes.is_none();
            let frames = envelopes.unwrap_or_default().into_iter().map(|raw| message(raw, patched)).collect();
            Ok(Read::Whole(Answer { frames, cursor, is_null }))
        }
        (None, None, Some(status)) => Err(Unusable::Refused(status)),
        _ => salvage(text, patched),
    }
}

fn status_of(text: Option<&str>) -> Option<u16> {
    text?.trim_matches('"').parse().ok().filter(|status| *status >= 400)
}

/// Reads what can be read of an invalid answer (found 6.5): message by message, and the position separately.
fn salvage(text: &str, patched: bool) -> Result<Read, Unusable> {
    let Some(answer) = fields(text) else { return Err(Unusable::Malformed("PubNub's answer is not JSON")) };
    let named = |name: &'static str| answer.parts.iter().filter(move |(key, _)| *key == name).map(|(_, value)| *value);
    if named("error").any(|value| value == "true") {
        return Err(status_of(named("status").next()).map_or(Unusable::Failed, Unusable::Refused));
    }
    if named("t").chain(named("m")).next().is_none() {
        return Err(Unusable::Malformed("PubNub's answer has neither a position nor messages"));
    }
    // Of two positions the earlier one: messages between them may be delivered twice, but none is lost.
    let cursor = named("t").filter_map(position_in).min_by_key(Cursor::ticks);
    let (mut frames, mut has_all) = (Vec::new(), answer.closed);
    for list in named("m").filter(|list| *list != "null") {
        match elements(list) {
            Some(list) => {
                has_all &= list.closed;
                frames.extend(list.parts.into_iter().map(|piece| message_in(piece, patched)));
            }
            None => frames.push(malformed(list, "a list of messages that is not an array")),
        }
    }
    if named("m").next().is_none() {
        has_all = false;
        frames.push(malformed(text, "an answer without a list of messages"));
    }
    let is_read = |message: &Message| matches!(message.body, FrameBody::Payload(_));
    let is_null = named("m").all(|list| list == "null");
    Ok(match cursor {
        Some(cursor) if has_all && frames.iter().all(is_read) => Read::Whole(Answer { frames, cursor, is_null }),
        cursor => Read::Damaged(Damaged { frames, cursor, has_all }),
    })
}

fn position_in(text: &str) -> Option<Cursor> {
    if let Some(cursor) = serde_json::from_str(text).ok().and_then(position) {
        return Some(cursor);
    }
    let (mut ticks, mut region) = (None, None);
    // A truncated position may have lost digits.
    for (name, value) in fields(text).filter(|position| position.closed)?.parts {
        match &*name {
            "t" => ticks = timetoken(value.trim_matches('"')),
            "r" => region = value.trim_matches('"').parse().ok(),
            _ => {}
        }
    }
    Some(cursor(ticks?, region))
}

/// Reads one envelope; the payload may be readable though the envelope is not.
fn message_in(text: &str, patched: bool) -> Message {
    match serde_json::from_str(text) {
        Ok(raw) => message(raw, patched),
        Err(_) if patched => malformed(text, "an envelope that cannot be read"),
        Err(_) => payload_in(text),
    }
}

/// The payload of an envelope that is not JSON, if the payload is JSON.
fn payload_in(text: &str) -> Message {
    let envelope = fields(text).map(|envelope| envelope.parts).unwrap_or_default();
    let mut payloads = envelope.iter().filter(|(name, _)| name == "d").map(|(_, value)| *value);
    let payload = payloads.next().filter(|_| payloads.next().is_none());
    match payload.and_then(|payload| RawValue::from_string(payload.to_owned()).ok()) {
        Some(payload) => {
            let published = envelope.iter().find(|(name, _)| name == "p").and_then(|(_, value)| position_in(value));
            let sent_at = published.as_ref().map(Cursor::time);
            Message { body: FrameBody::Payload(payload), position: published.as_ref().map(written), sent_at }
        }
        None => malformed(text, "an envelope that cannot be read"),
    }
}

/// An unreadable message with its text, up to the limit.
fn malformed(text: &str, reason: &'static str) -> Message {
    let end = (0..=text.len().min(LONGEST_TEXT)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    Message { body: FrameBody::Malformed { raw: text[..end].into(), reason }, position: None, sent_at: None }
}

fn written(cursor: &Cursor) -> Box<str> {
    match cursor.detail() {
        Some(region) => format!("{}/{region}", cursor.ticks()).into_boxed_str(),
        None => cursor.ticks().to_string().into_boxed_str(),
    }
}

/// The present position, from the answer to a time request: `[17 digits]`.
pub(super) fn time(status: u16, body: &[u8]) -> Option<Cursor> {
    let text = std::str::from_utf8(body).ok().filter(|_| status == 200)?;
    let digits = unwrapped(text).strip_prefix('[')?.strip_suffix(']')?.trim().trim_matches('"');
    timetoken(digits).filter(|_| digits.len() == 17).map(Cursor::from_ticks)
}

/// The payload of one envelope, byte for byte. Neither its kind (`e`) nor its channel is checked: the reader judges
/// what this channel carries.
fn message(raw: &RawValue, patched: bool) -> Message {
    let malformed = |reason| malformed(raw.get(), reason);
    if patched && raw.get().contains(char::REPLACEMENT_CHARACTER) {
        return malformed("an envelope that is not UTF-8");
    }
    // serde would also read a struct from an array.
    if !raw.get().starts_with('{') {
        return malformed("an envelope that is not an object");
    }
    match serde_json::from_str(raw.get()) {
        Ok(Envelope { d: Some(payload), p }) => {
            let published = p.and_then(position);
            let sent_at = published.as_ref().map(Cursor::time);
            Message { body: FrameBody::Payload(payload.to_owned()), position: published.as_ref().map(written), sent_at }
        }
        Ok(Envelope { d: None, .. }) => malformed("an envelope without a payload"),
        // A repeated key, or half of a surrogate pair in one.
        Err(_) => payload_in(raw.get()),
    }
}

/// The position in `t`: as the vendor's crate reads it, or more leniently, with a number for a text and an optional
/// region. Never parsed as a float, which would lose digits.
fn position(raw: &RawValue) -> Option<Cursor> {
    if !raw.get().starts_with('{') {
        return None;
    }
    let (digits, region) = match serde_json::from_str::<SubscriptionCursor>(raw.get()) {
        Ok(cursor) => (cursor.timetoken, Some(cursor.region)),
        Err(_) => {
            let lenient: LooseCursor<'_> = serde_json::from_str(raw.get()).ok()?;
            let digits = |raw: &RawValue| raw.get().trim_matches('"').to_owned();
            (digits(lenient.t?), lenient.r.and_then(|raw| digits(raw).parse().ok()))
        }
    };
    timetoken(&digits).map(|ticks| cursor(ticks, region))
}
