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
