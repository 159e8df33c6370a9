//! The lines that `listen` prints, one per item. No IO.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use ringcentral_events::transport::TransportKind;
use ringcentral_events::{Delivery, Error, ErrorKind, Status, SubscriptionId};
use serde::Serialize;
use serde_json::value::RawValue;

use super::support::{error_chain, printable};

/// The format of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// One line.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Line<'a> {
    Delivery(Stored<'a, Delivery>),
    Status(Stored<'a, Status>),
    Own(Own<'a>),
}

/// An item in the crate's stored form, with this program's fields behind it.
#[derive(Serialize)]
pub(crate) struct Stored<'a, T: Serialize> {
    #[serde(flatten)]
    item: &'a T,
    /// The body of an event as JSON, `null` without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Option<Cow<'a, RawValue>>>,
    /// The whole notification if it has no body: flat kinds have their fields there.
    #[serde(skip_serializing_if = "Option::is_none")]
    notification: Option<Cow<'a, RawValue>>,
    index: usize,
}

/// A line of this program. Variants and fields have the names of the JSON.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Own<'a> {
    /// All subscriptions are created.
    Ready { transport: &'static str, subscription_ids: &'a [SubscriptionId], event_filters: &'a [String] },
    /// Without the text: it contains account data and, in a malformed answer of PubNub, also the channel.
    Undecodable { v: u8, reason: &'a str, bytes: usize, received_ns: u64, index: usize },
    Error {
        kind: ErrorKind,
        code: Option<&'a str>,
        status: Option<u16>,
        permission: Option<&'a str>,
        request_id: Option<&'a str>,
        message: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        index: Option<usize>,
    },
    /// The last line.
    Closed { deleted: bool, subscription_ids: &'a [SubscriptionId], events: u64 },
}

impl<'a> Line<'a> {
    pub(crate) fn ready(
        transport: TransportKind,
        subscription_ids: &'a [SubscriptionId],
        event_filters: &'a [String],
    ) -> Self {
        Self::Own(Own::Ready { transport: transport.as_str(), subscription_ids, event_filters })
    }

    /// The line for a delivery of subscription number `index`. `show_raw` includes undecodable
    /// text.
    pub(crate) fn delivery(delivery: &'a Delivery, index: usize, show_raw: bool) -> Self {
        let mut line = Stored { item: delivery, body: None, notification: None, index };
        match delivery {
            Delivery::Undecodable(it) if !show_raw => {
                let received_ns = nanos(it.received_at);
                let (reason, bytes) = (&it.reason, it.raw.len());
                return Self::Own(Own::Undecodable { v: 1, reason, bytes, received_ns, index });
            }
            Delivery::Notification(it) => {
                line.body = Some(it.raw_body().map(on_one_line));
                line.notification = it.raw_body().is_none().then(|| on_one_line(it.raw()));
            }
            _ => {}
        }
        Self::Delivery(line)
    }

    pub(crate) fn status(status: &'a Status, index: usize) -> Self {
        Self::Status(Stored { item: status, body: None, notification: None, index })
    }

    /// `index` identifies the subscription that failed, if any.
    pub(crate) fn error(error: &'a Error, index: Option<usize>) -> Self {
        Self::Own(Own::Error {
            kind: error.kind(),
            code: error.code(),
            status: error.status(),
            permission: error.permission(),
            request_id: error.request_id(),
            message: error_chain(error),
            index,
        })
    }

    /// The last line.
    pub(crate) fn closed(deleted: bool, subscription_ids: &'a [SubscriptionId], events: u64) -> Self {
        Self::Own(Own::Closed { deleted, subscription_ids, events })
    }

    /// The line's text, without a line break.
    pub(crate) fn write(&self, format: Format) -> serde_json::Result<String> {
        match format {
            Format::Json => serde_json::to_string(self),
            Format::Text => Ok(printable(&self.for_people())),
        }
    }

    fn for_people(&self) -> String {
        match self {
            Self::Delivery(Stored { item, index, .. }) => match item {
                Delivery::Notification(it) => {
                    let time = it.timestamp().map_or("-", |timestamp| timestamp.as_str());
                    let body = it.raw_body().map_or("", RawValue::get);
                    let uuid = it.uuid().unwrap_or("-");
                    format!("--> [{index}] {time} {} {uuid} {} {body}", it.kind(), it.event_uri())
                }
                Delivery::Undecodable(it) => format!("!!! [{index}] {it}: {}", it.raw),
                Delivery::Resumed(it) => format!("... [{index}] {it}"),
                other => format!("!!! [{index}] {other}"),
            },
            Self::Status(Stored { item, index, .. }) => format!("... [{index}] {item}"),
            Self::Own(own) => own.for_people(),
        }
    }
}

impl Own<'_> {
    fn for_people(&self) -> String {
        match self {
            Self::Ready { transport, subscription_ids, event_filters } => format!(
                "Ready! {} over {transport}: {} (Ctrl-C to end)",
                list(subscription_ids),
                event_filters.join(", ")
            ),
            Self::Undecodable { reason, bytes, index, .. } => {
                format!("!!! [{index}] {bytes} bytes that could not be decoded: {reason}")
            }
            Self::Error { message, .. } => format!("error: {message}"),
            Self::Closed { subscription_ids: [], events, .. } => {
                format!("There was no subscription; {events} events")
            }
            Self::Closed { deleted, subscription_ids, events } => {
                let outcome = if *deleted { "Deleted" } else { "NOT deleted (it ends with its lease)" };
                format!("{outcome}: {}; {events} events", list(subscription_ids))
            }
        }
    }
}

fn list(ids: &[SubscriptionId]) -> String {
    ids.iter().map(SubscriptionId::as_str).collect::<Vec<_>>().join(", ")
}

fn nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// The original text. Line breaks between tokens, which JSON allows, would end the line early, so
/// they become spaces.
fn on_one_line(raw: &RawValue) -> Cow<'_, RawValue> {
    let text = raw.get();
    if !text.bytes().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return Cow::Borrowed(raw);
    }
    // JSON strings contain no line breaks, so this changes no value.
    RawValue::from_string(text.replace(['\n', '\r'], " ")).map_or(Cow::Borrowed(raw), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ringcentral_events::{Notification, Origin};
    use serde_json::Value;

    use super::*;

    fn event(raw: &str) -> Delivery {
        let raw = RawValue::from_string(raw.to_owned()).unwrap();
        let at = UNIX_EPOCH + Duration::new(1_700_000_000, 5);
        Delivery::Notification(Box::new(Notification::parse(raw, Origin::Push, at).unwrap()))
    }

    #[test]
    fn an_event_line_preserves_the_body_byte_for_byte() {
        let body = r#"{"b": 1.50,"a":18446744073709551616, "a":"\u00e9" }"#;
        let raw = format!(
            r#"{{"uuid":"u1","event":"/restapi/v1.0/account/1/extension/2/message-store","ownerId":2,"body":{body}}}"#
        );
        let delivery = event(&raw);
        let line = Line::delivery(&delivery, 3, false).write(Format::Json).unwrap();
        assert_eq!(
            line,
            format!(
                r#"{{"type":"event","v":1,"uuid":"u1","kind":"MessageStore","origin":"push","received_ns":1700000000000000005,"event":"/restapi/v1.0/account/1/extension/2/message-store","timestamp":null,"subscription_id":null,"owner_id":"2","raw":{},"body":{body},"index":3}}"#,
                serde_json::to_string(&raw).unwrap()
            )
        );
        let Delivery::Notification(again) = serde_json::from_str(&line).unwrap() else { panic!("{line}") };
        assert_eq!(again.raw().get(), raw, "a line is read as a delivery");
    }

    #[test]
    fn a_body_with_line_breaks_stays_one_line() {
        let delivery = event("{\"event\":\"/x\",\"body\":{\r\n  \"a\": \"b\\nc\"\n}}");
        let line = Line::delivery(&delivery, 0, false).write(Format::Json).unwrap();
        assert!(!line.contains(['\n', '\r']), "{line}");
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["body"]["a"], "b\nc");
    }

    #[test]
    fn an_event_without_a_body_is_printed_whole() {
        let delivery = event(r#"{"uuid":"u","event":"/x","more":[1]}"#);
        let value: Value =
            serde_json::from_str(&Line::delivery(&delivery, 0, false).write(Format::Json).unwrap()).unwrap();
        assert_eq!((&value["body"], &value["notification"]["more"][0]), (&Value::Null, &Value::from(1)));
    }

    #[test]
    fn undecodable_text_is_shown_only_if_requested() {
        let text = r#"{"type":"undecodable","v":1,"reason":"why","received_ns":5,"raw":"{\"c\":\"1_channel\",\"k\":\"sub-c-key\"}"}"#;
        let delivery: Delivery = serde_json::from_str(text).unwrap();
        for format in [Format::Json, Format::Text] {
            let line = Line::delivery(&delivery, 0, false).write(format).unwrap();
            assert!(line.contains("why") && line.contains("33"), "{line}");
            assert!(!line.contains("channel") && !line.contains("sub-c") && !line.contains("raw"), "{line}");
            let line = Line::delivery(&delivery, 0, true).write(format).unwrap();
            assert!(line.contains("1_channel"), "{line}");
        }
    }

    #[test]
    fn no_received_text_controls_a_terminal() {
        let delivery = event(
            "{\"event\":\"/x\\u001b[2J\\u009b\\n\",\"uuid\":\"u\\u202e\",\"body\":{\"t\":\"\u{202e}\u{9b}é☃ \\n\",\t\"a\":1}}",
        );
        let line = Line::delivery(&delivery, 0, false).write(Format::Text).unwrap();
        let bad = line.chars().find(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(c));
        assert_eq!(bad, None, "{line}");
        assert!(line.contains(r"/x\u{1b}[2J\u{9b}\u{a} "), "{line}");
        assert!(line.contains(r#""\u{202e}\u{9b}é☃ \n""#), "{line}");
        let error = Error::new(ErrorKind::Config, "a\u{1b}b");
        assert_eq!(Line::error(&error, None).write(Format::Text).unwrap(), r"error: a\u{1b}b");
    }

    #[test]
    fn an_error_line_has_the_kind_in_snake_case_and_all_causes() {
        let error = Error::new(ErrorKind::TransportRefused, "refused").with_source(std::io::Error::other("why"));
        let line = Line::error(&error, None).write(Format::Json).unwrap();
        assert_eq!(
            line,
            r#"{"type":"error","kind":"transport_refused","code":null,"status":null,"permission":null,"request_id":null,"message":"refused: why"}"#
        );
        assert_eq!(Line::error(&error, Some(1)).write(Format::Text).unwrap(), "error: refused: why");
    }
}
