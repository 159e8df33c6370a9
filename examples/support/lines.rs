//! The lines that `listen` prints, one per item. No IO.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use ringcentral_events::transport::TransportKind;
use ringcentral_events::{
    Delivery, DisabledFilter, Error, ErrorKind, Gap, Notification, Resumed, Status, SubscriptionId, Timestamp,
};
use serde::{Serialize, Serializer};
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

/// One line. Variants and fields have the names of the JSON.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Line<'a> {
    /// All subscriptions are created.
    Ready {
        transport: &'static str,
        subscription_ids: &'a [SubscriptionId],
        event_filters: &'a [String],
    },
    Event {
        uuid: Option<&'a str>,
        kind: &'static str,
        origin: &'static str,
        /// Nanoseconds since 1970.
        received_ns: u64,
        event: &'a str,
        timestamp: Option<&'a Timestamp>,
        subscription_id: Option<&'a SubscriptionId>,
        owner_id: Option<&'a str>,
        body: Option<Cow<'a, RawValue>>,
        /// The whole notification if it has no body: flat kinds have their fields there.
        #[serde(skip_serializing_if = "Option::is_none")]
        notification: Option<Cow<'a, RawValue>>,
        index: usize,
    },
    Gap {
        cause: &'static str,
        detail: String,
        certainty: &'static str,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        lost: Option<u64>,
        filters: &'a [String],
        index: usize,
    },
    Resumed {
        complete: bool,
        at: Timestamp,
        old_id: Option<&'a SubscriptionId>,
        new_id: Option<&'a SubscriptionId>,
        /// The filters whose missing events cannot be recovered completely.
        unrecovered: Vec<&'a str>,
        index: usize,
    },
    Undecodable {
        reason: &'a str,
        bytes: usize,
        received_ns: u64,
        /// Only if requested: it contains account data and, in a malformed answer of PubNub, also
        /// the channel.
        #[serde(skip_serializing_if = "Option::is_none")]
        raw: Option<&'a str>,
        index: usize,
    },
    FiltersDisabled {
        filters: Vec<Disabled<'a>>,
        index: usize,
    },
    /// A delivery of a kind that this program does not know.
    Other {
        debug: String,
        index: usize,
    },
    Status {
        phase: &'static str,
        healthy: bool,
        subscription_id: Option<&'a SubscriptionId>,
        expires_at: Option<Timestamp>,
        polling: bool,
        failed_attempts: u32,
        error: Option<String>,
        index: usize,
    },
    Error {
        #[serde(serialize_with = "by_name")]
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
    Closed {
        deleted: bool,
        subscription_ids: &'a [SubscriptionId],
        events: u64,
    },
}

/// A filter that the service does not serve.
#[derive(Serialize)]
pub(crate) struct Disabled<'a> {
    filter: &'a str,
    reason: &'a str,
    message: Option<&'a str>,
}

impl<'a> From<&'a DisabledFilter> for Disabled<'a> {
    fn from(filter: &'a DisabledFilter) -> Self {
        Self { filter: &filter.filter, reason: &filter.reason, message: filter.message.as_deref() }
    }
}

impl<'a> Line<'a> {
    pub(crate) fn ready(
        transport: TransportKind,
        subscription_ids: &'a [SubscriptionId],
        event_filters: &'a [String],
    ) -> Self {
        Self::Ready { transport: transport.as_str(), subscription_ids, event_filters }
    }

    /// The line for a delivery of subscription number `index`. `show_raw` includes undecodable
    /// text.
    pub(crate) fn delivery(delivery: &'a Delivery, index: usize, show_raw: bool) -> Self {
        match delivery {
            Delivery::Notification(notification) => Self::event(notification, index),
            Delivery::Gap(gap) => Self::gap(gap, index),
            Delivery::Resumed(resumed) => Self::resumed(resumed, index),
            Delivery::Undecodable(it) => Self::undecodable(&it.reason, &it.raw, it.received_at, index, show_raw),
            Delivery::FiltersDisabled(filters) => {
                Self::FiltersDisabled { filters: filters.iter().map(Disabled::from).collect(), index }
            }
            other => Self::Other { debug: format!("{other:?}"), index },
        }
    }

    fn event(notification: &'a Notification, index: usize) -> Self {
        let body = notification.raw_body();
        Self::Event {
            uuid: notification.uuid(),
            kind: notification.kind().as_str(),
            origin: notification.origin().as_str(),
            received_ns: nanos(notification.received_at()),
            event: notification.event_uri(),
            timestamp: notification.timestamp(),
            subscription_id: notification.subscription_id(),
            owner_id: notification.owner_id().map(AsRef::as_ref),
            body: body.map(on_one_line),
            notification: body.is_none().then(|| on_one_line(notification.raw())),
            index,
        }
    }

    fn gap(gap: &'a Gap, index: usize) -> Self {
        Self::Gap {
            cause: gap.cause.as_str(),
            detail: gap.cause.to_string(),
            certainty: gap.certainty.as_str(),
            since: gap.since.map(Timestamp::from),
            until: gap.until.map(Timestamp::from),
            lost: gap.lost,
            filters: &gap.filters,
            index,
        }
    }

    fn resumed(resumed: &'a Resumed, index: usize) -> Self {
        let recreated = resumed.recreated.as_ref();
        Self::Resumed {
            complete: resumed.complete,
            at: resumed.at.into(),
            old_id: recreated.map(|it| &it.old),
            new_id: recreated.map(|it| &it.new),
            unrecovered: resumed.unrecovered.iter().map(|open| open.filter.as_str()).collect(),
            index,
        }
    }

    fn undecodable(reason: &'a str, raw: &'a str, received_at: SystemTime, index: usize, show_raw: bool) -> Self {
        let received_ns = nanos(received_at);
        Self::Undecodable { reason, bytes: raw.len(), received_ns, raw: show_raw.then_some(raw), index }
    }

    pub(crate) fn status(status: &'a Status, index: usize) -> Self {
        Self::Status {
            phase: status.phase.as_str(),
            healthy: status.is_healthy(),
            subscription_id: status.subscription_id.as_ref(),
            expires_at: status.expires_at.map(Timestamp::from),
            polling: status.is_polling,
            failed_attempts: status.failed_attempts,
            error: status.last_error.as_ref().map(|error| error_chain(&**error)),
            index,
        }
    }

    /// `index` identifies the subscription that failed, if any.
    pub(crate) fn error(error: &'a Error, index: Option<usize>) -> Self {
        Self::Error {
            kind: error.kind(),
            code: error.code(),
            status: error.status(),
            permission: error.permission(),
            request_id: error.request_id(),
            message: error_chain(error),
            index,
        }
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
            Self::Ready { transport, subscription_ids, event_filters } => format!(
                "Ready! {} over {transport}: {} (Ctrl-C to end)",
                list(subscription_ids),
                event_filters.join(", ")
            ),
            Self::Event { uuid, kind, event, timestamp, body, index, .. } => {
                let time = timestamp.map_or("-", |timestamp| timestamp.as_str());
                let body = body.as_ref().map_or("", |body| body.get());
                format!("--> [{index}] {time} {kind} {} {event} {body}", uuid.unwrap_or("-"))
            }
            Self::Gap { detail, certainty, lost, index, .. } => {
                let lost = lost.map_or_else(String::new, |lost| format!(" ({lost} events)"));
                format!("!!! [{index}] {certainty} gap{lost}: {detail}")
            }
            Self::Resumed { complete, old_id, new_id, index, .. } => {
                let now = new_id.zip(*old_id).map(|(new, old)| format!(", subscription {new} replaces {old}"));
                format!("... [{index}] resumed{}{}", now.unwrap_or_default(), if *complete { ", complete" } else { "" })
            }
            Self::Undecodable { reason, bytes, raw, index, .. } => {
                let raw = raw.map_or_else(String::new, |raw| format!(": {raw}"));
                format!("!!! [{index}] {bytes} bytes that could not be read: {reason}{raw}")
            }
            Self::FiltersDisabled { filters, index } => {
                let each: Vec<String> = filters.iter().map(|it| format!("{} ({})", it.filter, it.reason)).collect();
                format!("!!! [{index}] the service does not serve: {}", each.join(", "))
            }
            Self::Other { debug, index } => format!("??? [{index}] {debug}"),
            Self::Status { phase, expires_at, error, index, .. } => {
                let until = expires_at.as_ref().map_or_else(String::new, |at| format!(", lease until {at}"));
                let error = error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
                format!("... [{index}] {phase}{until}{error}")
            }
            Self::Error { message, .. } => format!("error: {message}"),
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

fn by_name<S: Serializer>(kind: &ErrorKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.as_str())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ringcentral_events::Origin;
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
        let delivery = event(&format!(
            r#"{{"uuid":"u1","event":"/restapi/v1.0/account/1/extension/2/message-store","ownerId":2,"body":{body}}}"#
        ));
        let line = Line::delivery(&delivery, 3, false).write(Format::Json).unwrap();
        assert_eq!(
            line,
            format!(
                r#"{{"type":"event","uuid":"u1","kind":"MessageStore","origin":"push","received_ns":1700000000000000005,"event":"/restapi/v1.0/account/1/extension/2/message-store","timestamp":null,"subscription_id":null,"owner_id":"2","body":{body},"index":3}}"#
            )
        );
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
        let raw = r#"{"e":1,"c":"1_channel","k":"sub-c-key"}"#;
        for format in [Format::Json, Format::Text] {
            let line = Line::undecodable("why", raw, UNIX_EPOCH, 0, false).write(format).unwrap();
            assert!(line.contains("why") && line.contains("39"), "{line}");
            assert!(!line.contains("channel") && !line.contains("sub-c") && !line.contains("raw"), "{line}");
            let line = Line::undecodable("why", raw, UNIX_EPOCH, 0, true).write(format).unwrap();
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
