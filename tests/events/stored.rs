//! The stored form of every fixture.

use crate::support::events::{Fixture, fixtures};
use ringcentral_events::{Delivery, Notification, Origin, Timestamp};
use serde_json::value::RawValue;

#[test]
fn every_fixture_is_restored_byte_for_byte_with_its_key() {
    let at = Timestamp::new("2026-01-02T03:04:05.123456789Z").system_time().unwrap();
    for Fixture { name, text, kind } in fixtures() {
        let raw = RawValue::from_string(text.clone()).unwrap();
        let delivery = Delivery::Notification(Box::new(Notification::parse(raw, Origin::CatchUp, at).unwrap()));
        let stored = serde_json::to_string(&delivery).unwrap();
        let through_value = serde_json::to_value(&delivery).unwrap();
        assert_eq!(through_value["kind"], kind.as_str(), "{name}");
        let Delivery::Notification(it) = delivery else { panic!("{name}") };
        for again in [serde_json::from_str(&stored).unwrap(), serde_json::from_value(through_value).unwrap()] {
            let Delivery::Notification(again) = again else { panic!("{name}") };
            assert_eq!(again.raw().get(), text.trim(), "{name}");
            assert_eq!(again.raw_body().map(RawValue::get), it.raw_body().map(RawValue::get), "{name}");
            assert_eq!((again.event(), again.dedup_key()), (it.event(), it.dedup_key()), "{name}");
            assert_eq!((again.origin(), again.received_at()), (Origin::CatchUp, at), "{name}");
            assert_eq!(serde_json::to_string(&again).unwrap(), stored, "{name}");
        }
    }
}
