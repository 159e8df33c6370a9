//! Maps records of message-sync to the events that push would have delivered.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Found, scope, time};
use crate::error::Result;
use crate::event::uri::Parts;
use crate::event::{Availability, Direction, EventFilter, EventKind, Message, MessageType};

/// A message as the service wrote it, and its parsed fields.
pub(super) struct Record<'a> {
    raw: &'a RawValue,
    message: Message,
}

/// Which times count as within the requested time; by the service's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// A message created since then is new.
    pub(super) created: u64,
    /// Changes since then count; `None` if only new messages do.
    pub(super) changed: Option<u64>,
}

impl<'a> Record<'a> {
    pub(super) fn of(raw: &'a RawValue) -> Self {
        Self { raw, message: serde_json::from_str(raw.get()).unwrap_or_default() }
    }

    fn created(&self) -> Option<u64> {
        time::of(self.message.creation_time.as_ref()?)
    }

    /// When it was created, rounded up to a whole millisecond.
    pub(super) fn created_up(&self) -> Option<u64> {
        self.message.creation_time.as_ref()?.system_time().map(time::millis_up)
    }

    /// When it last changed.
    pub(super) fn changed(&self) -> Option<u64> {
        self.message.last_modified_time.as_ref().and_then(time::of).or_else(|| self.created())
    }

    /// Its id.
    pub(super) fn id(&self) -> Option<String> {
        self.message.id.as_ref().map(|id| id.as_str().to_owned())
    }

    /// The id of a deleted message whose other fields are unknown.
    pub(super) fn bare_id(&self) -> Option<String> {
        self.id().filter(|_| self.is_bare())
    }

    fn is_bare(&self) -> bool {
        self.is_gone() && self.message.creation_time.is_none()
    }

    pub(super) fn is_purged(&self) -> bool {
        self.message.availability == Some(Availability::Purged)
    }

    /// For a deleted message the service sends only id and availability.
    fn is_gone(&self) -> bool {
        matches!(self.message.availability, Some(Availability::Deleted | Availability::Purged))
    }

    /// A message that appears now and has not changed since its creation counts even if it was created earlier, and so
    /// does one without a readable time: better delivered twice than not at all.
    fn is_new(&self, window: Window) -> bool {
        match self.created() {
            Some(created) => created >= window.created || self.changed() == Some(created),
            None => !self.is_gone(),
        }
    }

    /// Whether it may have been known before the requested time, and has changed within it.
    fn is_updated(&self, window: Window) -> bool {
        let Some(since) = window.changed else { return false };
        let changed = self.changed().is_none_or(|changed| changed >= since);
        // Also if it is new: it may have been delivered before it changed.
        changed && (!self.is_new(window) || self.changed() > self.created())
    }

    fn is_of(&self, kind: &MessageType, known_type: Option<&str>) -> bool {
        match &self.message.message_type {
            Some(of) => of == kind,
            None => known_type.is_none_or(|known| MessageType::from(known) == *kind),
        }
    }

    /// Whether its known fields match the filter's parameters.
    fn fits(&self, filter: &EventFilter, known_type: Option<&str>) -> bool {
        let all = |name: &'static str| Parts::of(filter.as_str()).pairs().filter(move |(key, _)| key == name);
        let (mut types, mut directions) = (all("type").peekable(), all("direction").peekable());
        let type_fits =
            types.peek().is_none() || types.any(|(_, value)| self.is_of(&MessageType::from(&*value), known_type));
        let direction_fits = directions.peek().is_none()
            || directions
                .any(|(_, value)| self.message.direction.as_ref().is_none_or(|is| *is == Direction::from(&*value)));
        type_fits && direction_fits
    }
}

/// The events of a record for a filter: none, one, or two (it is new, and changed since). `known_type` is its type if
/// the record does not name it and only one was requested.
pub(super) fn found(
    filter: &EventFilter,
    answered: Option<&str>,
    record: &Record<'_>,
    known_type: Option<&str>,
    window: Window,
) -> Result<Vec<Found>> {
    if !record.fits(filter, known_type) {
        return Ok(Vec::new());
    }
    let uri = scope::event_uri(filter, answered);
    let (new, updated) = (record.is_new(window), record.is_updated(window));
    let message = |kind: &MessageType| {
        !record.is_bare() && record.is_of(kind, None) && record.message.direction != Some(Direction::Outbound)
    };
    let told = match filter.kind() {
        EventKind::InstantMessage => message(&MessageType::Sms) && new,
        EventKind::FaxMessage => {
            let sent = record.message.direction == Some(Direction::Outbound);
            (message(&MessageType::Fax) || sent && !record.is_bare()) && (new || updated)
        }
        EventKind::VoicemailMessage => message(&MessageType::VoiceMail) && (new || updated),
        EventKind::MessageStore => return hints(&uri, answered, record, known_type, new, updated),
        _ => false,
    };
    let stamp = if updated { &record.message.last_modified_time } else { &record.message.creation_time };
    let stamp = stamp.as_ref().map(|stamp| stamp.as_str());
    if told { Ok(vec![Found::change(&uri, stamp, &record.raw)?]) } else { Ok(Vec::new()) }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Hint<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extension_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_updated: Option<&'a str>,
    changes: [HintChange<'a>; 1],
    records: [&'a RawValue; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HintChange<'a> {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    new_count: u8,
    updated_count: u8,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    new_message_ids: &'a [&'a str],
}

/// The hints of a message-store filter. A message that is new and was changed is two: a reader that knows it already
/// must receive the change.
fn hints(
    uri: &str,
    answered: Option<&str>,
    record: &Record<'_>,
    known_type: Option<&str>,
    new: bool,
    updated: bool,
) -> Result<Vec<Found>> {
    let message = &record.message;
    let id = message.id.as_ref().map(|id| id.as_str());
    let hint = |stamp: Option<&str>, new_ids: &[&str], is_new: bool| {
        let change = HintChange {
            kind: message.message_type.as_ref().map(MessageType::as_str).or(known_type),
            new_count: is_new.into(),
            updated_count: (!is_new).into(),
            new_message_ids: new_ids,
        };
        let body = Hint {
            account_id: answered.and_then(|uri| scope::id_in(uri, "account")),
            extension_id: answered.and_then(|uri| scope::id_in(uri, "extension")),
            last_updated: stamp,
            changes: [change],
            records: [record.raw],
        };
        Found::change(uri, stamp, &body)
    };
    let created = message.creation_time.as_ref().map(|stamp| stamp.as_str());
    let changed = message.last_modified_time.as_ref().map(|stamp| stamp.as_str());
    let mut all = Vec::new();
    if new {
        all.push(hint(created, id.as_slice(), true)?);
    }
    if updated {
        all.push(hint(changed, &[], false)?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::event::Event;
    use crate::{Notification, Origin};

    /// 12:00:00 of the day of the records below.
    const NOON: u64 = 1_714_996_800_000;
    const ANSWERED: Option<&str> = Some("https://h/restapi/v1.0/account/4/extension/7/message-sync?syncType=ISync");

    fn record(kind: &str, direction: &str, created: &str, changed: &str) -> Value {
        json!({
            "id": 7_876_416_245_344_257_449_u64, "type": kind, "direction": direction, "availability": "Alive",
            "creationTime": format!("2024-05-06T{created}Z"), "lastModifiedTime": format!("2024-05-06T{changed}Z"),
        })
    }

    fn told(filter: &EventFilter, record: &Value, known_type: Option<&str>, window: Window) -> Vec<Notification> {
        let raw = RawValue::from_string(record.to_string()).unwrap();
        let found = found(filter, ANSWERED, &Record::of(&raw), known_type, window).unwrap();
        let read = |it: Found| {
            assert!(!it.snapshot);
            Notification::parse(it.notification, Origin::CatchUp, std::time::SystemTime::UNIX_EPOCH).unwrap()
        };
        found.into_iter().map(read).collect()
    }

    /// `new` for a message in full, `+1` and `~1` for hints about a new and a changed one.
    fn words(told: &[Notification]) -> String {
        let word = |it: &Notification| match it.event() {
            Event::MessageStore(hint) if hint.new_count() == 1 && hint.new_message_ids().count() == 1 => "+1",
            Event::MessageStore(hint) if hint.updated_count() == 1 && hint.new_message_ids().count() == 0 => "~1",
            Event::InstantMessage(_) | Event::FaxMessage(_) | Event::VoicemailMessage(_) => "new",
            other => panic!("{other:?}"),
        };
        told.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    const AFTER: Window = Window { created: NOON, changed: Some(NOON) };
    const CHECK: Window = Window { created: NOON, changed: None };

    #[test]
    fn a_record_is_delivered_for_the_filters_it_matches() {
        let store = |query: &str| {
            EventFilter::custom(format!("/restapi/v1.0/account/~/extension/~/message-store{query}")).unwrap()
        };
        let (sms, fax, voicemail) = (EventFilter::instant_message(), EventFilter::fax(), EventFilter::voicemail());
        let all = [
            ("store", store("")),
            ("sms in", store("?type=SMS&direction=Inbound")),
            ("fax/vm", store("?type=Fax&type=Voicemail")),
            ("sms", sms),
            ("fax", fax),
            ("vm", voicemail),
        ];
        let new = ("12:00:01", "12:00:01");
        for (kind, direction, (created, changed), window, want) in [
            ("SMS", "Inbound", new, AFTER, "store +1, sms in +1, sms new"),
            ("SMS", "Inbound", new, CHECK, "store +1, sms in +1, sms new"),
            ("SMS", "Outbound", new, AFTER, "store +1"),
            ("Pager", "Inbound", new, AFTER, "store +1"),
            ("Fax", "Inbound", new, AFTER, "store +1, fax/vm +1, fax new"),
            ("Fax", "Outbound", new, AFTER, "store +1, fax/vm +1"),
            ("VoiceMail", "Inbound", new, AFTER, "store +1, fax/vm +1, vm new"),
            ("Voicemail", "Inbound", new, AFTER, "store +1, fax/vm +1, vm new"),
            // Changed: only if changes count.
            ("SMS", "Inbound", ("09:00:00", "12:00:01"), AFTER, "store ~1, sms in ~1"),
            ("SMS", "Inbound", ("09:00:00", "12:00:01"), CHECK, ""),
            ("Fax", "Inbound", ("09:00:00", "12:00:01"), AFTER, "store ~1, fax/vm ~1, fax new"),
            ("Fax", "Inbound", ("09:00:00", "12:00:01"), CHECK, ""),
            ("VoiceMail", "Inbound", ("09:00:00", "12:00:01"), AFTER, "store ~1, fax/vm ~1, vm new"),
            // Changed before the requested time.
            ("SMS", "Inbound", ("09:00:00", "11:00:00"), AFTER, ""),
            // Listed now, unchanged since its creation: it arrived late.
            ("SMS", "Inbound", ("09:00:00", "09:00:00"), AFTER, "store +1, sms in +1, sms new"),
        ] {
            let record = record(kind, direction, created, changed);
            let got: Vec<String> = all
                .iter()
                .map(|(name, filter)| (name, words(&told(filter, &record, None, window))))
                .filter(|(_, words)| !words.is_empty())
                .map(|(name, words)| format!("{name} {words}"))
                .collect();
            assert_eq!(got.join(", "), want, "{kind} {direction} {created} {changed} {window:?}");
        }
    }

    #[test]
    fn a_possibly_known_and_changed_message_is_delivered_as_new_and_changed() {
        let window = Window { created: NOON, changed: Some(NOON + 10_000) };
        for (created, changed, want) in [
            ("12:00:01", "12:00:30", "+1 ~1"),
            ("12:00:01", "12:00:05", "+1"),
            ("12:00:11", "12:00:30", "+1 ~1"),
            ("12:00:01", "12:00:01", "+1"),
        ] {
            let record = record("SMS", "Inbound", created, changed);
            assert_eq!(words(&told(&EventFilter::message_store(), &record, None, window)), want, "{created} {changed}");
        }
    }

    #[test]
    fn a_deletion_is_an_update_of_the_store() {
        let fax_store = EventFilter::custom("/restapi/v1.0/account/~/extension/~/message-store?type=Fax").unwrap();
        let sms_store = EventFilter::custom("/restapi/v1.0/account/~/extension/~/message-store?type=SMS").unwrap();
        for availability in ["Deleted", "Purged"] {
            let record = json!({"id": 5, "availability": availability});
            for (filter, known_type, window, want) in [
                (&EventFilter::message_store(), None, AFTER, "~1"),
                (&EventFilter::message_store(), None, CHECK, ""),
                // Of unknown type: it may be one of these.
                (&fax_store, None, AFTER, "~1"),
                (&fax_store, Some("Fax"), AFTER, "~1"),
                (&sms_store, Some("Fax"), AFTER, ""),
                (&EventFilter::fax(), Some("Fax"), AFTER, ""),
                (&EventFilter::voicemail(), None, AFTER, ""),
                (&EventFilter::instant_message(), Some("SMS"), AFTER, ""),
            ] {
                assert_eq!(words(&told(filter, &record, known_type, window)), want, "{filter} {known_type:?}");
            }
        }
    }

    #[test]
    fn a_message_is_delivered_in_the_form_of_the_pushed_event() {
        let record = record("SMS", "Inbound", "12:00:01", "12:00:01");
        let instant = &told(&EventFilter::instant_message(), &record, None, AFTER)[0];
        let uri = "/restapi/v1.0/account/4/extension/7/message-store/instant?type=SMS";
        assert_eq!((instant.event_uri(), instant.uuid()), (uri, None));
        assert_eq!(instant.timestamp().unwrap().as_str(), "2024-05-06T12:00:01Z");
        assert_eq!(instant.raw_body().unwrap().get(), record.to_string(), "byte for byte");
        let hint = &told(&EventFilter::message_store(), &record, None, AFTER)[0];
        let body: Value = hint.body_as().unwrap();
        let want = json!({
            "accountId": "4",
            "extensionId": "7",
            "lastUpdated": "2024-05-06T12:00:01Z",
            "changes": [{"type": "SMS", "newCount": 1, "updatedCount": 0, "newMessageIds": ["7876416245344257449"]}],
            "records": [record],
        });
        assert_eq!(body, want);
    }

    #[test]
    fn an_odd_record_is_delivered_and_never_an_error() {
        for record in [json!({}), json!(null), json!([1]), json!({"id": {}, "type": 7, "creationTime": "soon"})] {
            let told = told(&EventFilter::message_store(), &record, None, AFTER);
            assert!(!told.is_empty(), "{record}: better told than passed over");
        }
    }
}
