//! Every fixture: its kind, its bytes, all fields read, and a round trip through storage.

use crate::support::events::{Fixture, fixtures, parse};
use ringcentral_events::event::{Event, EventFilter, EventKind};
use serde_json::Value;
use serde_json::value::RawValue;

#[test]
fn every_fixture_has_the_kind_in_its_name() {
    for Fixture { name, kind, text } in fixtures() {
        let notification = parse(&text);
        assert_eq!(notification.kind(), kind, "{name}");
        assert_eq!(notification.event().kind(), kind, "{name}");
    }
}

#[test]
fn every_row_of_the_table_has_a_fixture() {
    let fixtures = fixtures();
    for kind in EventKind::all() {
        assert!(fixtures.iter().any(|fixture| fixture.kind == kind), "no fixture for {kind}");
    }
}

#[test]
fn the_envelope_is_read_and_the_bytes_are_preserved() {
    for Fixture { name, text, .. } in fixtures() {
        let notification = parse(&text);
        assert_eq!(notification.raw().get(), text.trim(), "{name}");
        let whole: Value = serde_json::from_str(&text).unwrap();
        let inner = if whole["event"].is_string() { &whole } else { &whole["pn_apns"] };
        assert_eq!(notification.event_uri(), inner["event"].as_str().unwrap(), "{name}");
        assert_eq!(notification.uuid(), inner["uuid"].as_str(), "{name}");
        assert_eq!(notification.owner_id().map(|id| id.as_str()), inner["ownerId"].as_str(), "{name}");
        assert_eq!(notification.subscription_id().map(|id| id.as_str()), inner["subscriptionId"].as_str(), "{name}");
        let timestamp = notification.timestamp().expect("every fixture has one");
        assert_eq!(Some(timestamp.as_str()), inner["timestamp"].as_str(), "{name}");
        assert!(timestamp.instant().is_some(), "{name}");
        let body = notification.raw_body().map(RawValue::get);
        assert!(body.is_none_or(|body| text.contains(body)), "{name}");
        assert_eq!(body.map(|body| serde_json::from_str(body).unwrap()).as_ref(), inner.get("body"), "{name}");
    }
}

#[test]
fn notifications_survive_storage() {
    for Fixture { name, text, .. } in fixtures() {
        let notification = parse(&text);
        let event = notification.event();
        let stored = serde_json::to_string(event).unwrap();
        let again = Event::from_body(notification.event_uri(), &RawValue::from_string(stored.clone()).unwrap());
        if matches!(event, Event::Unknown(unknown) if unknown.body().is_none()) {
            assert_eq!(stored, "null", "{name}");
        } else {
            assert_eq!(&again, event, "{name}");
        }
        assert_eq!(serde_json::to_string(&again).unwrap(), stored, "{name}");
    }
}

/// Fields of the reference that are no part of a body's meaning.
const ENVELOPE: [&str; 7] = ["uuid", "event", "timestamp", "subscriptionId", "body", "pn_apns", "pn_gcm"];

/// Fields that are read under another name.
const ALIASES: [(&str, &str); 3] = [("_from", "from"), ("filename", "fileName"), ("srvlvl", "srvLvl")];

#[test]
fn every_documented_field_is_read() {
    for Fixture { name, text, kind } in fixtures() {
        let notification = parse(&text);
        let whole: Value = serde_json::from_str(&text).unwrap();
        let inner = if whole["event"].is_string() { &whole } else { &whole["pn_apns"] };
        let mut documented = inner.get("body").unwrap_or(inner).clone();
        if let (Value::Object(fields), None) = (&mut documented, inner.get("body")) {
            fields.retain(|key, _| !ENVELOPE.contains(&key.as_str()));
        }
        if kind == EventKind::Unknown {
            continue;
        }
        let read = serde_json::to_value(notification.event()).unwrap();
        let mut unread = Vec::new();
        compare("", &documented, &read, &mut unread);
        assert!(unread.is_empty(), "{name}: unread {unread:?}");
    }
}

/// Lists the paths of `sent` that `read` lacks or has with another value.
fn compare(path: &str, sent: &Value, read: &Value, unread: &mut Vec<String>) {
    match (sent, read) {
        (Value::Null, Value::Null) => {}
        // The flat form of a list of one.
        (Value::Object(flat), Value::Object(list))
            if list.len() == 1 && !list.keys().any(|key| flat.contains_key(key)) =>
        {
            let (_, one) = list.iter().next().expect("it has one field");
            compare(path, sent, &one[0], unread);
        }
        (Value::Object(sent), Value::Object(read)) => {
            for (key, value) in sent {
                let name = ALIASES.iter().find(|(alias, _)| alias == key).map_or(key.as_str(), |(_, name)| name);
                compare(&format!("{path}/{key}"), value, read.get(name).unwrap_or(&Value::Null), unread);
            }
        }
        (Value::Array(sent), Value::Array(read)) if sent.len() == read.len() => {
            for (at, (sent, read)) in sent.iter().zip(read).enumerate() {
                compare(&format!("{path}/{at}"), sent, read, unread);
            }
        }
        // One element without its brackets.
        (Value::Object(_), Value::Array(list)) if list.len() == 1 => compare(path, sent, &list[0], unread),
        (Value::String(text), Value::Array(list)) if list.len() == 1 && list[0] == **text => {}
        (Value::Number(sent), Value::Number(read)) if sent.as_f64() == read.as_f64() => {}
        // Ids and counts, as numbers or as text; two spellings of one word.
        (Value::Number(_) | Value::String(_), Value::Number(_) | Value::String(_)) => {
            let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if plain(sent) != plain(read) && !(plain(sent) == "Voicemail" && plain(read) == "VoiceMail") {
                unread.push(path.to_owned());
            }
        }
        _ if sent == read => {}
        _ => unread.push(path.to_owned()),
    }
}

#[test]
fn every_template_leads_to_its_kind_and_every_filter_to_its_template() {
    let mut seen = std::collections::HashSet::new();
    for row in EventFilter::catalog() {
        let filter: EventFilter = row.template().parse().unwrap();
        assert_eq!(filter.kind(), row.kind(), "{}", row.template());
        assert!(seen.insert(row.template()), "{} twice", row.template());
        assert!(row.gap_source().len() > 3 && row.permission() != Some(""));
    }
}
