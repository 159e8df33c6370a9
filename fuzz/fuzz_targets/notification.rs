//! Any JSON text as a notification: no panic, nothing lost, storable.
//!
//! `cargo +nightly fuzz run notification fuzz/corpus/notification tests/fixtures/events`
#![no_main]

use std::time::SystemTime;

use libfuzzer_sys::fuzz_target;
use ringcentral_events::event::{Event, EventFilter, Notification, Origin, same_filters};
use serde_json::value::RawValue;

fuzz_target!(|text: &str| {
    if let Ok(filter) = text.parse::<EventFilter>() {
        assert_eq!(filter.as_str(), text);
        assert!(filter.matches_uri(text));
        assert!(same_filters(&[text], &[&filter]));
        let _ = (filter.kind(), filter.is_sensitive());
    }
    let Ok(raw) = RawValue::from_string(text.to_owned()) else { return };
    let sent = raw.get().to_owned();
    match Notification::parse(raw, Origin::Push, SystemTime::UNIX_EPOCH) {
        Err(malformed) => assert_eq!(malformed.raw().get(), sent),
        Ok(notification) => {
            assert_eq!(notification.raw().get(), sent);
            assert!(notification.raw_body().is_none_or(|body| sent.contains(body.get())));
            let _ = (notification.dedup_key(), notification.sequence(), format!("{notification:?}"));
            let stored = serde_json::to_string(notification.event()).expect("every event can be written");
            let body = RawValue::from_string(stored.clone()).expect("what was written is JSON");
            let again = Event::from_body(notification.event_uri(), &body);
            assert_eq!(serde_json::to_string(&again).expect("every event can be written"), stored);
            if notification.event().kind() == notification.kind() && notification.raw_body().is_some() {
                assert_eq!(&again, notification.event());
            }
        }
    }
});
