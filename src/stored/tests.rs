use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::form::{Moment, Nanos};
use crate::delivery::{
    Certainty, Changes, Delivery, DisabledFilter, Gap, GapCause, OpenReason, Recreated, Resumed, Undecodable,
    Unrecovered,
};
use crate::error::{Disposition, Error, ErrorKind};
use crate::event::{EventKind, GapClosure, Notification, Origin};
use crate::ids::{ExtensionId, SubscriptionId};
use crate::kind::TransportKind;
use crate::status::{Phase, Status, Wait};
use crate::waiting::WaitCause;

/// Every way through which a stored item is likely to go: JSON text, `Value`, and the buffers of `flatten`, `untagged`
/// and internal tags in a type of the user.
fn restored<T: Serialize + DeserializeOwned>(item: &T) -> Vec<T> {
    #[derive(Serialize, Deserialize)]
    struct Journal<T> {
        #[serde(flatten)]
        item: T,
        index: u64,
        body: Option<Value>,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Either<T> {
        Item(T),
    }

    #[derive(Serialize, Deserialize)]
    #[serde(tag = "direction")]
    enum Tagged<T> {
        In { item: T },
    }

    let text = serde_json::to_string(item).unwrap();
    assert!(!text.contains(['\n', '\r']), "an item is one line: {text}");
    let journal = serde_json::to_string(&Journal { item, index: 7, body: None }).unwrap();
    let tagged = serde_json::to_string(&Tagged::In { item }).unwrap();
    let Either::Item(either) = serde_json::from_str(&text).unwrap();
    let Tagged::In { item: tagged } = serde_json::from_str(&tagged).unwrap();
    vec![
        serde_json::from_str(&text).unwrap(),
        serde_json::from_slice(text.as_bytes()).unwrap(),
        serde_json::from_reader(text.as_bytes()).unwrap(),
        serde_json::from_value(serde_json::to_value(item).unwrap()).unwrap(),
        serde_json::from_value(serde_json::from_str(&text).unwrap()).unwrap(),
        serde_json::from_str(&journal).unwrap(),
        serde_json::from_str::<Journal<T>>(&journal).unwrap().item,
        either,
        tagged,
    ]
}

pub(super) fn notification(raw: &str, origin: Origin, at: SystemTime) -> Notification {
    Notification::parse(RawValue::from_string(raw.to_owned()).unwrap(), origin, at).unwrap()
}

/// Everything that can be read of two notifications is equal.
fn assert_same(one: &Notification, other: &Notification) {
    assert_eq!(one.raw().get(), other.raw().get());
    assert_eq!(one.raw_body().map(RawValue::get), other.raw_body().map(RawValue::get));
    assert_eq!((one.uuid(), one.event_uri(), one.timestamp()), (other.uuid(), other.event_uri(), other.timestamp()));
    assert_eq!((one.subscription_id(), one.owner_id()), (other.subscription_id(), other.owner_id()));
    assert_eq!((one.kind(), one.origin(), one.received_at()), (other.kind(), other.origin(), other.received_at()));
    assert_eq!((one.event(), one.dedup_key()), (other.event(), other.dedup_key()));
    assert_eq!((one.content_key(), one.sequence()), (other.content_key(), other.sequence()));
}

const SECOND: SystemTime = SystemTime::UNIX_EPOCH;

#[test]
fn a_raw_text_is_restored_byte_for_byte_however_odd_it_is() {
    for raw in [
        r#"{"event":"/x"}"#,
        r#"{ "event" : "/x" , "uuid":"u", "body":{"b":1,"a":2,"b":3}, "event":"/y" }"#,
        "{\n\t\"event\":\"/x\",\r\n \"body\": [1 , 2]\n}",
        r#"{"event":"/x","body":{"n":1e400,"m":-0.0,"o":1.50,"p":18446744073709551616,"q":1E+2}}"#,
        r#"{"event":"/x","body":{"t":"\u0000\ud800\uDC00\/\u00e9 \b\f\\\"","\udfff":1}}"#,
        "{\"event\":\"/x\",\"body\":\"\u{202e}\u{2028}\u{0}x\"}".replace('\0', "\\u0000").as_str(),
        r#"{"event":"/x","body":null}"#,
        r#"{"pn_apns":{"event":"/x","uuid":"u"},"type":"gap","v":9,"raw":"x"}"#,
        &format!(r#"{{"event":"/x","body":{}1{}}}"#, "[".repeat(20_000), "]".repeat(20_000)),
    ] {
        let item = notification(raw, Origin::Push, SECOND);
        for again in restored(&item) {
            assert_same(&item, &again);
        }
        for again in restored(&Delivery::Notification(Box::new(item.clone()))) {
            let Delivery::Notification(again) = again else { panic!("{raw}") };
            assert_same(&item, &again);
        }
    }
}

#[test]
fn fields_that_readers_add_may_hold_what_no_buffer_can() {
    let line = format!(
        r#"{{"body":{{"n":1e400,"a":1,"a":2,"s":"\ud800"}},"raw":{:?},"origin":"catch_up","index":0,"received_ns":5,"v":1,"type":"event"}}"#,
        r#"{"event":"/x"}"#
    );
    let item: Notification = serde_json::from_str(&line).unwrap();
    assert_eq!((item.raw().get(), item.origin()), (r#"{"event":"/x"}"#, Origin::CatchUp));
    assert_eq!(item.received_at(), SystemTime::UNIX_EPOCH + Duration::from_nanos(5));
}

#[test]
fn an_owner_that_the_text_does_not_name_is_restored_and_with_it_the_key() {
    let text = r#"{"uuid":"u","event":"/restapi/v1.0/account/~/extension/~/fax","body":{}}"#;
    let item = notification(text, Origin::CatchUp, SECOND);
    let owned = item.clone().owned_by(Some(&ExtensionId::new("7")));
    assert_ne!(owned.dedup_key(), item.dedup_key());
    for again in restored(&owned) {
        assert_same(&owned, &again);
    }
}

#[test]
fn the_form_of_each_type_is_the_documented_one() {
    let at = SystemTime::UNIX_EPOCH + Duration::new(1_714_979_289, 10_000_000);
    let raw = r#"{"uuid":"u","event":"/restapi/v1.0/glip/posts","timestamp":"2024-05-06T07:08:09Z","subscriptionId":"s","ownerId":2,"body":{}}"#;
    let event = notification(raw, Origin::Push, at);
    let gap = Gap {
        cause: GapCause::ServiceBufferFull { events: 100 },
        certainty: Certainty::Possible,
        since: Some(at),
        until: None,
        lost: None,
        filters: vec!["/a".into()],
    };
    let open = Unrecovered {
        filter: "/a".into(),
        closure: GapClosure::StateOnly,
        changes: Changes::NEW.and(Changes::CHANGED),
        reason: OpenReason::NotSettled { until: at },
    };
    let ids = Recreated { old: SubscriptionId::new("s1"), new: SubscriptionId::new("s2") };
    let resumed = Resumed { complete: false, at, recreated: Some(ids), unrecovered: vec![open] };
    let undecodable = Undecodable { reason: "why".into(), raw: "\"x".into(), received_at: at };
    let disabled = DisabledFilter { filter: "/b".into(), reason: "SUB-412".into(), message: None };
    for (delivery, want) in [
        (
            Delivery::Notification(Box::new(event)),
            json!({
                "type": "event", "v": 1, "uuid": "u", "kind": "TeamMessagingPost", "origin": "push",
                "received_ns": 1_714_979_289_010_000_000_u64, "event": "/restapi/v1.0/glip/posts",
                "timestamp": "2024-05-06T07:08:09Z", "subscription_id": "s", "owner_id": "2", "raw": raw,
            }),
        ),
        (
            Delivery::Gap(gap),
            json!({
                "type": "gap", "v": 1, "cause": "service_buffer_full", "events": 100,
                "detail": "100 events came at once, as many as the service keeps", "certainty": "possible",
                "since": "2024-05-06T07:08:09.010Z", "until": null, "lost": null, "filters": ["/a"],
            }),
        ),
        (
            Delivery::Resumed(resumed),
            json!({
                "type": "resumed", "v": 1, "complete": false, "at": "2024-05-06T07:08:09.010Z", "old_id": "s1",
                "new_id": "s2", "unrecovered": ["/a"], "open": [{
                    "filter": "/a", "closure": "state only", "changes": ["new", "changed"], "reason": "not_settled",
                    "until": "2024-05-06T07:08:09.010Z",
                }],
            }),
        ),
        (
            Delivery::Undecodable(undecodable),
            json!({
                "type": "undecodable", "v": 1, "reason": "why", "bytes": 2,
                "received_ns": 1_714_979_289_010_000_000_u64, "raw": "\"x",
            }),
        ),
        (
            Delivery::FiltersDisabled(vec![disabled]),
            json!({
                "type": "filters_disabled", "v": 1,
                "filters": [{ "filter": "/b", "reason": "SUB-412", "message": null }],
            }),
        ),
    ] {
        assert_eq!(serde_json::to_value(&delivery).unwrap(), want);
    }
}

#[test]
fn what_a_later_version_wrote_is_read_or_refused_by_name() {
    let gap = |changes: Value| {
        let mut item = json!({ "type": "gap", "v": 1, "cause": "overflow", "certainty": "certain", "new": {} });
        item.as_object_mut().unwrap().append(&mut changes.as_object().unwrap().clone());
        item
    };
    let Delivery::Gap(unknown) = serde_json::from_value(gap(json!({ "cause": "solar_flare" }))).unwrap() else {
        panic!("a gap")
    };
    assert_eq!(unknown.cause, GapCause::Unknown);
    let open = json!({ "filter": "/a", "closure": "nothing", "changes": [], "reason": "solar_flare" });
    assert_eq!(serde_json::from_value::<Unrecovered>(open).unwrap().reason, OpenReason::Unknown);
    assert_eq!(serde_json::from_value::<EventKind>(json!("SolarFlare")).unwrap(), EventKind::Unknown);
    for (changes, named) in [
        (json!({ "v": 2 }), "version 2"),
        (json!({ "v": 0 }), "no version"),
        (json!({ "type": "flare" }), "\"flare\""),
        (json!({ "type": "x".repeat(9999) }), "xxx"),
        (json!({ "certainty": "maybe" }), "certainty \"maybe\" is not known; known are: certain, possible"),
        (json!({ "since": "soon" }), "\"soon\" is no time"),
        (json!({ "cause": "service_buffer_full" }), "`events` is missing"),
        (json!({ "cause": "service_buffer_aged" }), "`pause_ns` is missing"),
        (json!({ "cause": null }), "`cause` is missing"),
        (json!({ "type": "event" }), "`origin` is missing"),
        (json!({ "type": "event", "origin": "push" }), "`received_ns` is missing"),
        (json!({ "type": "event", "origin": "push", "received_ns": 1 }), "`raw` is missing"),
        (json!({ "type": "event", "origin": "push", "received_ns": 1, "raw": "{" }), "not JSON"),
        (json!({ "type": "event", "origin": "push", "received_ns": 1, "raw": "{}" }), "no usable event"),
        (json!({ "type": "event", "origin": "mail", "received_ns": 1, "raw": "{}" }), "origin \"mail\""),
        (json!({ "type": "resumed" }), "`complete` is missing"),
        (json!({ "type": "undecodable" }), "`reason` is missing"),
        (json!({ "filters": [5] }), "a filter"),
        (json!({ "received_ns": 1e30 }), "nanoseconds"),
    ] {
        let error = serde_json::from_value::<Delivery>(gap(changes.clone())).unwrap_err().to_string();
        assert!(error.contains(named) && error.len() < 300, "{changes}: {error}");
    }
    let error = serde_json::from_value::<Resumed>(gap(json!({}))).unwrap_err().to_string();
    assert_eq!(error, r#"expected an item of type "resumed", not "gap""#);
    let error = serde_json::from_value::<Changes>(json!(["new", "flared"])).unwrap_err().to_string();
    assert_eq!(error, r#"change "flared" is not known; known are: new, changed, deleted"#);
}

/// The cause after this one, so that a new one must be added here, and then is stored.
fn causes() -> Vec<GapCause> {
    let mut all = vec![GapCause::LeaseExpired];
    while let Some(next) = match &all[all.len() - 1] {
        GapCause::LeaseExpired => Some(GapCause::SubscriptionGone),
        GapCause::SubscriptionGone => Some(GapCause::SubscriptionInactive),
        GapCause::SubscriptionInactive => Some(GapCause::TransportRefused),
        GapCause::TransportRefused => Some(GapCause::SessionLost),
        GapCause::SessionLost => Some(GapCause::TooLarge),
        GapCause::TooLarge => Some(GapCause::Unreadable),
        GapCause::Unreadable => Some(GapCause::Overflow),
        GapCause::Overflow => Some(GapCause::ServiceBufferFull { events: 100 }),
        GapCause::ServiceBufferFull { .. } => Some(GapCause::ServiceBufferAged { pause: Duration::new(1200, 1) }),
        GapCause::ServiceBufferAged { .. } => Some(GapCause::RegionChanged),
        GapCause::RegionChanged => Some(GapCause::ConnectionBroken),
        GapCause::ConnectionBroken => Some(GapCause::KeyUnknown),
        GapCause::KeyUnknown => Some(GapCause::AddressMoved),
        GapCause::AddressMoved => Some(GapCause::EndedOffline),
        GapCause::EndedOffline => Some(GapCause::TransportChanged),
        GapCause::TransportChanged => Some(GapCause::PolledInPart),
        GapCause::PolledInPart => Some(GapCause::NotPolled),
        GapCause::NotPolled => Some(GapCause::Discarded),
        GapCause::Discarded => Some(GapCause::EventsMissed),
        GapCause::EventsMissed => Some(GapCause::AnswerLost),
        GapCause::AnswerLost => Some(GapCause::SessionJoined),
        GapCause::SessionJoined => Some(GapCause::Unknown),
        GapCause::Unknown => None,
    } {
        all.push(next);
    }
    all
}

fn reasons() -> Vec<OpenReason> {
    let mut all = vec![OpenReason::NoSource];
    while let Some(next) = match all[all.len() - 1] {
        OpenReason::NoSource => Some(OpenReason::InPart),
        OpenReason::InPart => Some(OpenReason::NoPosition),
        OpenReason::NoPosition => Some(OpenReason::Deleted),
        OpenReason::Deleted => Some(OpenReason::OutOfReach),
        OpenReason::OutOfReach => Some(OpenReason::TooMuch),
        OpenReason::TooMuch => Some(OpenReason::Unread),
        OpenReason::Unread => Some(OpenReason::NotSettled { until: SECOND }),
        OpenReason::NotSettled { .. } => Some(OpenReason::NotAnswered),
        OpenReason::NotAnswered => Some(OpenReason::Refused),
        OpenReason::Refused => Some(OpenReason::NotFound),
        OpenReason::NotFound => Some(OpenReason::CutShort),
        OpenReason::CutShort => Some(OpenReason::ClockSet),
        OpenReason::ClockSet => Some(OpenReason::Unknown),
        OpenReason::Unknown => None,
    } {
        all.push(next);
    }
    all
}

fn words<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + Clone>(all: &[T]) {
    for one in all {
        for again in [
            serde_json::from_str::<T>(&serde_json::to_string(one).unwrap()).unwrap(),
            serde_json::from_value(serde_json::to_value(one).unwrap()).unwrap(),
        ] {
            assert_eq!(again, *one);
        }
    }
}

#[test]
fn every_word_is_restored() {
    words(&causes());
    words(&reasons());
    words(&EventKind::all().collect::<Vec<_>>());
    words(&[Origin::Push, Origin::CatchUp, Origin::Snapshot]);
    words(&[Certainty::Certain, Certainty::Possible]);
    words(&[GapClosure::Complete, GapClosure::StateOnly, GapClosure::Partial, GapClosure::Nothing]);
    words(&[TransportKind::PubNub, TransportKind::WebSocket, TransportKind::WebHook, TransportKind::Poll]);
    words(&[WaitCause::RateLimit, WaitCause::RetryAfter, WaitCause::BackOff]);
    words(&[
        Phase::Starting,
        Phase::Connecting,
        Phase::Live,
        Phase::Reconnecting,
        Phase::Recreating,
        Phase::Closing,
        Phase::Closed,
    ]);
    words(&[Changes::NONE, Changes::NEW, Changes::CHANGED, Changes::DELETED, Changes::ALL]);
}

#[test]
fn a_status_is_restored_with_its_error_and_the_causes_of_that() {
    let at = SystemTime::UNIX_EPOCH + Duration::new(1_714_979_289, 1);
    let error = Error::new(ErrorKind::RateLimited, "too many requests")
        .with_status(429)
        .with_code(Some("CMN-301".into()))
        .with_parameter(Some("p".into()))
        .with_permission(Some("ReadMessages".into()))
        .with_request_id(Some("r".into()))
        .with_disposition(Disposition::Retry { after: Some(Duration::from_secs(30)) })
        .with_ambiguous(true)
        .with_source(Error::new(ErrorKind::Network, "inner").with_source(std::io::Error::other("innermost")));
    let status = Status {
        phase: Phase::Reconnecting,
        subscription_id: Some("s".into()),
        expires_at: Some(at),
        since: Some(at),
        is_polling: true,
        is_poll_failing: true,
        missing_since: Some(at),
        failed_attempts: 3,
        waiting: Some(Wait::new(at, WaitCause::RetryAfter)),
        last_error: Some(Arc::new(error)),
        ..Status::starting(TransportKind::WebSocket)
    };
    let written = serde_json::to_value(&status).unwrap();
    let text =
        "too many requests (HTTP 429, CMN-301), parameter p, permission ReadMessages, request r: inner: innermost";
    assert_eq!((&written["type"], &written["v"], &written["healthy"]), (&json!("status"), &json!(1), &json!(false)));
    assert_eq!(written["error"], text);
    for status in [status, Status::starting(TransportKind::Poll)] {
        for again in restored(&status) {
            assert_eq!(again.to_string(), status.to_string());
            assert_eq!((again.phase, again.transport), (status.phase, status.transport));
            assert_eq!((&again.subscription_id, again.expires_at), (&status.subscription_id, status.expires_at));
            assert_eq!((again.is_polling, again.failed_attempts), (status.is_polling, status.failed_attempts));
            assert_eq!((again.since, again.missing_since), (status.since, status.missing_since));
            assert_eq!(again.is_poll_failing, status.is_poll_failing);
            assert_eq!((again.waiting, again.deleted), (status.waiting, status.deleted));
            let debug = |status: &Status| {
                status.last_error.as_ref().map(|error| {
                    let source = std::error::Error::source(&**error);
                    let causes = std::iter::successors(source, |it| it.source()).map(ToString::to_string);
                    let what = (error.kind(), error.disposition(), error.is_ambiguous(), error.to_string());
                    format!("{what:?} {:?}", causes.collect::<Vec<_>>())
                })
            };
            assert_eq!(debug(&again), debug(&status));
        }
    }
    for (field, value) in [("type", json!("gap")), ("v", json!(2)), ("phase", json!("tired"))] {
        let mut changed = written.clone();
        changed[field] = value;
        assert!(serde_json::from_value::<Status>(changed).is_err(), "{field}");
    }
}

#[test]
fn an_odd_stored_form_is_an_error_that_names_what_is_odd() {
    let gap = |fields: &str| format!(r#"{{"type":"gap","v":1,"cause":"overflow","certainty":"certain"{fields}}}"#);
    for (text, named) in [
        // Of a later version, with fields that this one would misread.
        (r#"{"type":"gap","v":2,"cause":{"word":"overflow"},"since":7}"#.to_owned(), "version 2 of the stored form"),
        (r#"{"type":"status","v":2,"phase":7}"#.to_owned(), "version 2 of the stored form"),
        (r#"{"type":"gap","v":18446744073709551615}"#.to_owned(), "version 18446744073709551615"),
        (r#"{"type":"gap","v":18446744073709551616}"#.to_owned(), "expected u64"),
        (r#"{"type":"gap","v":"1"}"#.to_owned(), "expected u64"),
        (r#"{"type":"gap","v":null}"#.to_owned(), "expected u64"),
        (r#"{"type":"gap","cause":"overflow","certainty":"certain"}"#.to_owned(), "no version"),
        (r#"{"v":1,"cause":"overflow","certainty":"certain"}"#.to_owned(), "type"),
        (gap("").trim_end_matches('}').to_owned(), "EOF"),
        (gap(r#","filters":["/a"#), "EOF"),
        (gap(r#","v":1"#), "duplicate field `v`"),
        (gap(r#","cause":"overflow""#), "duplicate field `cause`"),
        (gap(r#","lost":1,"lost":1"#), "duplicate field `lost`"),
        (gap(r#","lost":18446744073709551616"#), "expected u64"),
        (gap(r#","lost":1e400"#), "number out of range"),
        (gap(r#","lost":-1"#), "expected u64"),
        (gap(r#","filters":["\ud800x"]"#), "hex escape"),
        (gap(r#","since":"soon""#), "is no time"),
        (gap(r#","since":1e400"#), ""),
        (r#"{"type":"resumed","v":1,"complete":true,"at":"2026-01-02T03:04:05Z","old_id":"a"}"#.to_owned(), "`new_id`"),
        (r#"{"type":"resumed","v":1,"complete":true,"at":"2026-01-02T03:04:05Z","new_id":"b"}"#.to_owned(), "`old_id`"),
    ] {
        let kind = if text.contains("\"status\"") { "status" } else { "delivery" };
        let error = match kind {
            "status" => serde_json::from_str::<Status>(&text).unwrap_err(),
            _ => serde_json::from_str::<Delivery>(&text).unwrap_err(),
        };
        assert!(error.to_string().contains(named), "{text}: {error}");
    }
    // What readers add may be as deep as it likes.
    let deep = format!(r#","more":{}{}"#, "[".repeat(100_000), "]".repeat(100_000));
    let Delivery::Gap(read) = serde_json::from_str(&gap(&deep)).unwrap() else { panic!("it is a gap") };
    assert_eq!(read, serde_json::from_str(&gap("")).unwrap());
}

#[test]
fn an_error_with_any_number_of_causes_is_restored_and_dropped() {
    let causes: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
    let mut status = serde_json::to_value(Status::starting(TransportKind::Poll)).unwrap();
    status["last_error"] = json!({"kind": "network", "message": "outer", "causes": causes});
    let status: Status = serde_json::from_value(status).unwrap();
    let written = serde_json::to_value(&status).unwrap();
    assert_eq!(written["error"], format!("outer: {}", causes.join(": ")));
    assert!(written["last_error"]["causes"].as_array().unwrap().len() <= 32);
}

fn time() -> impl Strategy<Value = SystemTime> {
    (-62_167_219_200_i64..253_402_300_800, 0_u32..1_000_000_000).prop_map(|(seconds, nanos)| {
        let size = Duration::from_secs(seconds.unsigned_abs());
        let whole = if seconds < 0 { SystemTime::UNIX_EPOCH - size } else { SystemTime::UNIX_EPOCH + size };
        whole + Duration::new(0, nanos)
    })
}

fn received() -> impl Strategy<Value = SystemTime> {
    any::<i64>().prop_map(|nanos| {
        let size = Duration::from_nanos(nanos.unsigned_abs());
        if nanos < 0 { SystemTime::UNIX_EPOCH - size } else { SystemTime::UNIX_EPOCH + size }
    })
}

pub(super) fn gap() -> impl Strategy<Value = Gap> {
    let cause = prop_oneof![
        prop::sample::select(causes()),
        any::<u32>().prop_map(|events| GapCause::ServiceBufferFull { events: events as usize }),
        any::<u64>().prop_map(|nanos| GapCause::ServiceBufferAged { pause: Duration::from_nanos(nanos) }),
    ];
    let certainty = prop_oneof![Just(Certainty::Certain), Just(Certainty::Possible)];
    let times = (prop::option::of(time()), prop::option::of(time()));
    (cause, certainty, times, any::<Option<u64>>(), prop::collection::vec(any::<String>(), 0..3)).prop_map(
        |(cause, certainty, (since, until), lost, filters)| Gap { cause, certainty, since, until, lost, filters },
    )
}

pub(super) fn resumed() -> impl Strategy<Value = Resumed> {
    let closure = prop::sample::select(vec![
        GapClosure::Complete,
        GapClosure::StateOnly,
        GapClosure::Partial,
        GapClosure::Nothing,
    ]);
    let changes =
        prop::collection::vec(prop::sample::select(vec![Changes::NEW, Changes::CHANGED, Changes::DELETED]), 0..4)
            .prop_map(|all| all.into_iter().fold(Changes::NONE, Changes::and));
    let reason =
        prop_oneof![prop::sample::select(reasons()), time().prop_map(|until| OpenReason::NotSettled { until }),];
    let open = (any::<String>(), closure, changes, reason).prop_map(|(filter, closure, changes, reason)| Unrecovered {
        filter,
        closure,
        changes,
        reason,
    });
    let ids = prop::option::of((any::<String>(), any::<String>()));
    (any::<bool>(), time(), ids, prop::collection::vec(open, 0..3)).prop_map(|(complete, at, ids, unrecovered)| {
        let recreated = ids.map(|(old, new)| Recreated { old: old.into(), new: new.into() });
        Resumed { complete, at, recreated, unrecovered }
    })
}

/// JSON with odd white space and duplicate keys.
pub(super) fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("1e400".to_owned()),
        Just(r#""\ud800\u0000""#.to_owned()),
        any::<i64>().prop_map(|it| it.to_string()),
        any::<String>().prop_map(|it| serde_json::to_string(&it).unwrap()),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let space = prop::sample::select(vec!["", " ", "\n", "\r\n\t"]);
        let pair = ("[a-c\u{202e}\u{e9}]{1,2}", space.clone(), inner.clone());
        prop_oneof![
            (prop::collection::vec(inner, 0..4), space)
                .prop_map(|(all, space)| format!("[{space}{}]", all.join(&format!("{space},")))),
            prop::collection::vec(pair, 0..4).prop_map(|all| {
                let all: Vec<String> =
                    all.iter().map(|(key, space, value)| format!("\"{key}\"{space}:{value}")).collect();
                format!("{{{}}}", all.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn every_gap_is_restored(gap in gap()) {
        for again in restored(&gap) {
            prop_assert_eq!(&again, &gap);
        }
        for again in restored(&Delivery::Gap(gap.clone())) {
            prop_assert!(matches!(again, Delivery::Gap(again) if again == gap));
        }
    }

    #[test]
    fn every_resumed_is_restored(resumed in resumed()) {
        for again in restored(&resumed) {
            prop_assert_eq!(&again, &resumed);
        }
        for again in restored(&Delivery::Resumed(resumed.clone())) {
            prop_assert!(matches!(again, Delivery::Resumed(again) if again == resumed));
        }
    }

    #[test]
    fn everything_undecodable_is_restored(reason: String, raw: String, received_at in received()) {
        let item = Undecodable { reason, raw: raw.into(), received_at };
        for again in restored(&Delivery::Undecodable(item.clone())) {
            let Delivery::Undecodable(again) = again else { panic!("{again:?}") };
            prop_assert_eq!((&again.reason, &again.raw, again.received_at), (&item.reason, &item.raw, item.received_at));
        }
    }

    #[test]
    fn all_disabled_filters_are_restored(
        all in prop::collection::vec((any::<String>(), any::<String>(), any::<Option<String>>()), 0..4),
    ) {
        let all: Vec<_> =
            all.into_iter().map(|(filter, reason, message)| DisabledFilter { filter, reason, message }).collect();
        for again in restored(&Delivery::FiltersDisabled(all.clone())) {
            prop_assert!(matches!(again, Delivery::FiltersDisabled(again) if again == all));
        }
    }

    #[test]
    fn every_notification_is_restored(
        uuid: Option<String>, owner: Option<u64>, body in any_json(), more in any_json(), at in received(),
        origin in prop::sample::select(vec![Origin::Push, Origin::CatchUp, Origin::Snapshot]),
        uri in prop::sample::select(vec!["/x", "/restapi/v1.0/account/~/extension/~/fax", "/restapi/v1.0/glip/posts"]),
    ) {
        let uuid = serde_json::to_string(&uuid).unwrap();
        let raw = format!("{{\"uuid\":{uuid},\n\"event\":\"{uri}\",\"body\":{body} ,\"more\": {more}}}");
        let owner = owner.map(|id| ExtensionId::from(id.to_string()));
        let item = notification(&raw, origin, at).owned_by(owner.as_ref());
        for again in restored(&item) {
            assert_same(&item, &again);
        }
    }

    #[test]
    fn a_time_that_cannot_be_written_becomes_the_nearest_and_nothing_panics(seconds: i64, nanos in 0_u32..1_000_000_000) {
        let size = Duration::from_secs(seconds.unsigned_abs());
        let whole = if seconds < 0 { SystemTime::UNIX_EPOCH.checked_sub(size) } else { SystemTime::UNIX_EPOCH.checked_add(size) };
        if let Some(at) = whole.and_then(|at| at.checked_add(Duration::new(0, nanos))) {
            serde_json::from_str::<Nanos>(&serde_json::to_string(&Nanos(at)).unwrap()).unwrap();
            serde_json::from_str::<Moment>(&serde_json::to_string(&Moment(at)).unwrap()).unwrap();
        }
    }

    #[test]
    fn no_text_panics(text in any_json(), cut in any::<prop::sample::Index>()) {
        let item = serde_json::to_string(&notification("{\"event\":\"/x\"}", Origin::Push, SECOND)).unwrap();
        let end = cut.index(item.len());
        for text in [text, item[..end].to_owned()] {
            let _ = (serde_json::from_str::<Delivery>(&text), serde_json::from_str::<Status>(&text));
        }
    }
}
