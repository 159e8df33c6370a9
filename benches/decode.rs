//! Measures the CPU time of decoding one event, without IO: from PubNub's text, and from the gateway's body, to a typed
//! value of which a field is read. Prints the median of several rounds. No time makes it fail.
//!
//! `cargo bench --all-features --bench decode`

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub, dead_code, reason = "a bench")]
#![allow(clippy::disallowed_methods, reason = "it measures real time")]
#![allow(clippy::cast_precision_loss, reason = "small numbers")]

mod floors;
mod generator;
mod measure;

use std::hint::black_box;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use measure::{cpu, line, median, micros};
use ringcentral_events::codec::{self, Cipher};
use ringcentral_events::{Event, Notification, Origin, Secret};
use serde_json::json;
use serde_json::value::RawValue;

/// Events other than text messages. Their floor is `serde_json::Value`: plain structs exist for a text message only.
const FAMILIES: [(&str, &str); 4] = [
    ("message store", include_str!("../tests/fixtures/events/MessageStore--documented.json")),
    ("telephony session", include_str!("../tests/fixtures/events/ExtensionTelephonySessions--documented.json")),
    ("presence", include_str!("../tests/fixtures/events/DetailedExtensionPresence--documented.json")),
    ("team post", include_str!("../tests/fixtures/events/TeamMessagingPost--documented.json")),
];

/// Nanoseconds of CPU of one call: ours and the floor take turns, and the figures are medians.
fn pair(mut ours: impl FnMut(), mut floor: impl FnMut()) -> (f64, f64) {
    let (rounds, calls) = if measure::is_measured() { (15, 2000) } else { (1, 20) };
    let mut times = (Vec::new(), Vec::new());
    let time = |call: &mut dyn FnMut()| {
        let began = cpu();
        (0..calls).for_each(|_| call());
        micros(cpu() - began) * 1000.0 / f64::from(calls)
    };
    for _ in 0..rounds {
        times.0.push(time(&mut ours));
        times.1.push(time(&mut floor));
    }
    (median(&times.0), median(&times.1))
}

fn typed(json: Box<RawValue>) {
    let notification = Notification::parse(json, Origin::Push, SystemTime::UNIX_EPOCH).unwrap();
    match notification.event() {
        Event::InstantMessage(sms) => drop(black_box(sms.text().map(str::len))),
        other => drop(black_box(other.kind())),
    }
}

fn main() {
    let secret = Secret::new(generator::KEY);
    let cipher = Cipher::from_delivery_mode(Some("AES"), &secret).unwrap();
    let key: [u8; 16] = STANDARD.decode(generator::KEY).unwrap().try_into().unwrap();
    // The text of a message's `d`, with its quotes.
    let payload = |event: &str| RawValue::from_string(format!("\"{}\"", generator::sealed(event))).unwrap();
    for text in [10, 300, 3000, 15_000] {
        let event = generator::event(1, "11111111-2222-4333-8444-555555555555", 1_700_000_000_000_000_000, text);
        let size = json!({ "bytes": event.len() });
        let sealed = payload(&event);
        let bare = sealed.get().trim_matches('"');
        let (ours, floor) = pair(
            || typed(codec::decode(black_box(&sealed), &[&cipher]).unwrap()),
            || drop(black_box(floors::plain_pubnub::decode(black_box(bare), &key).body.subject)),
        );
        line("decode", &format!("encrypted SMS, text of {text}"), "ns", ours, Some(floor), size.clone());
        let (ours, floor) = pair(
            || typed(RawValue::from_string(black_box(&event).clone()).unwrap()),
            || {
                let event: floors::Notification = serde_json::from_str(black_box(&event)).unwrap();
                drop(black_box(event.body.subject));
            },
        );
        line("decode", &format!("plain SMS, text of {text}"), "ns", ours, Some(floor), size);
    }
    for (family, fixture) in FAMILIES {
        let event = serde_json::from_str::<serde_json::Value>(fixture).unwrap().to_string();
        let sealed = payload(&event);
        let (ours, floor) = pair(
            || typed(codec::decode(black_box(&sealed), &[&cipher]).unwrap()),
            || {
                let plain = floors::plain_pubnub::open(black_box(sealed.get().trim_matches('"')), &key);
                drop(black_box(serde_json::from_slice::<serde_json::Value>(&plain).unwrap()));
            },
        );
        let more = json!({ "bytes": event.len(), "floor_is": "a tree of the JSON" });
        line("decode", &format!("encrypted {family}"), "ns", ours, Some(floor), more);
    }
}
