//! From an HTTP answer to frames and the next position, or to an error. Pure.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use ::pubnub::core::PubNubError;
use ::pubnub::subscribe::SubscriptionCursor;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::request::is_timetoken;
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::transport::{Cursor, FrameBody};

/// The longest `Retry-After` to obey. Beyond it the messages to wait for would be
/// gone from the service's buffer anyway.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// A good answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) frames: Vec<Message>,
    pub(super) cursor: Cursor,
}

/// One message of it.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) body: FrameBody,
    /// Its publish timetoken and region, in which two messages of one publisher
    /// differ.
    pub(super) position: Option<Box<str>>,
    /// The moment of that timetoken.
    pub(super) sent_at: Option<SystemTime>,
}

/// The answer of the service, with the wall clock's time for a `Retry-After` that
/// names a date.
///
/// An error leaves the position where it was. Its disposition is `Recreate` where
/// the service said that it does not know, or not serve, this channel, and `Retry`
/// where the trouble may pass; text of the answer is never part of it.
pub(super) fn read(status: u16, headers: &HashMap<String, String>, body: &[u8], now: SystemTime) -> Result<Answer> {
    let after = || headers.get("retry-after").and_then(|value| retry_after(value, now));
    if status != 200 {
        return Err(refused(status, after()));
    }
    match read_body(body) {
        Ok(answer) => Ok(answer),
        Err(Unusable::Refused(status)) => Err(refused(status, after())),
        Err(Unusable::Failed) => Err(Error::new(ErrorKind::Service, "PubNub answered with an error")),
        Err(Unusable::Malformed(what)) => Err(Error::new(ErrorKind::Protocol, what)),
    }
}

/// What a failure to get any answer means.
pub(super) fn failure(error: &PubNubError) -> Error {
    // The crate's error as text only, so that its type stays in here.
    let cause = error.to_string();
    match error {
        PubNubError::RequestCancel { .. } => {
            Error::new(ErrorKind::Timeout, "PubNub did not answer in time").with_source(cause)
        }
        // The same position would be answered in the same size for ever.
        PubNubError::Deserialization { .. } => Error::new(ErrorKind::Protocol, "PubNub's answer is too large")
            .with_disposition(Disposition::Recreate)
            .with_source(cause),
        _ => Error::new(ErrorKind::Network, "PubNub cannot be reached").with_source(cause),
    }
}

/// What an HTTP status other than 200 means.
fn refused(status: u16, after: Option<Duration>) -> Error {
    let retry = Disposition::Retry { after };
    let (kind, disposition, message) = match status {
        404 => (ErrorKind::NotFound, Disposition::Recreate, "PubNub does not know this subscription"),
        400..=403 | 413 | 414 => (ErrorKind::Rejected, Disposition::Recreate, "PubNub refused the poll"),
        429 => (ErrorKind::RateLimited, retry, "PubNub asked to slow down"),
        408 => (ErrorKind::Timeout, retry, "PubNub gave the request up"),
        500..=599 => (ErrorKind::Service, retry, "PubNub failed"),
        // Proxies and portals between here and there.
        _ => (ErrorKind::Protocol, retry, "not an answer of PubNub"),
    };
    Error::new(kind, message).with_status(status).with_disposition(disposition)
}

/// `Retry-After`, seconds or a date, capped.
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let wait = if value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty() {
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let date = SystemTime::from(OffsetDateTime::parse(value, &Rfc2822).ok()?);
        date.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

/// Why a 200 is none.
#[derive(Debug)]
enum Unusable {
    /// An error that names a status.
    Refused(u16),
    /// An error that names none.
    Failed,
    Malformed(&'static str),
}

/// What is needed of the answer; whatever else there may be is skipped.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    t: Option<&'a RawValue>,
    /// `None`: not there. `Some(None)`: null, as some servers write an empty list.
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
struct Position<'a> {
    #[serde(borrow, default)]
    t: Option<&'a RawValue>,
    #[serde(borrow, default)]
    r: Option<&'a RawValue>,
}

/// Tells a null, which is a value, from a field that is not there.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn read_body(body: &[u8]) -> Result<Answer, Unusable> {
    // Bytes that are no text spoil the message they are in, not the whole answer:
    // it would come again the same, and the position would never move.
    let text = String::from_utf8_lossy(body);
    let patched = matches!(text, Cow::Owned(_));
    let text = text.trim_ascii_start();
    if text.starts_with('[') {
        // `[0,"text"]`, the old form of an error.
        return Err(Unusable::Failed);
    }
    if !text.starts_with('{') {
        return Err(Unusable::Malformed("PubNub's answer is not JSON"));
    }
    let body: Body<'_> =
        serde_json::from_str(text).map_err(|_| Unusable::Malformed("PubNub's answer is not the JSON it should be"))?;
    let status = body.status.and_then(|raw| raw.get().trim_matches('"').parse().ok()).filter(|status| *status >= 400);
    if body.error.is_some_and(|raw| raw.get() == "true") {
        return Err(status.map_or(Unusable::Failed, Unusable::Refused));
    }
    match (body.t.and_then(position), body.m, status) {
        (Some(cursor), Some(envelopes), _) => {
            let frames = envelopes.unwrap_or_default().into_iter().map(|raw| message(raw, patched)).collect();
            Ok(Answer { frames, cursor })
        }
        (None, None, Some(status)) => Err(Unusable::Refused(status)),
        (None, ..) => Err(Unusable::Malformed("PubNub's answer has no usable cursor")),
        (Some(_), None, _) => Err(Unusable::Malformed("PubNub's answer has no list of messages")),
    }
}

/// The payload of one envelope, as it came. Neither its kind (`e`) nor its
/// channel is asked about: what is on this channel is for the reader to judge.
fn message(raw: &RawValue, patched: bool) -> Message {
    let malformed = |reason| Message {
        body: FrameBody::Malformed { raw: raw.get().into(), reason },
        position: None,
        sent_at: None,
    };
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
            let sent_at = published.as_ref().and_then(Cursor::time);
            let position = published.map(|Cursor { timetoken, region, .. }| match region {
                Some(region) => format!("{timetoken}/{region}").into_boxed_str(),
                None => timetoken.into_boxed_str(),
            });
            Message { body: FrameBody::Payload(payload.to_owned()), position, sent_at }
        }
        Ok(Envelope { d: None, .. }) => malformed("an envelope without a payload"),
        Err(_) => malformed("an envelope that cannot be read"),
    }
}

/// The position in `t`: as the vendor's crate reads it, or more leniently, a
/// number for a text and the region optional. Never through a float.
fn position(raw: &RawValue) -> Option<Cursor> {
    if !raw.get().starts_with('{') {
        return None;
    }
    let (timetoken, region) = match serde_json::from_str::<SubscriptionCursor>(raw.get()) {
        Ok(cursor) => (cursor.timetoken, Some(cursor.region)),
        Err(_) => {
            let lenient: Position<'_> = serde_json::from_str(raw.get()).ok()?;
            let digits = |raw: &RawValue| raw.get().trim_matches('"').to_owned();
            (digits(lenient.t?), lenient.r.and_then(|raw| digits(raw).parse().ok()))
        }
    };
    is_timetoken(&timetoken).then_some(Cursor { timetoken, region, session: None })
}
