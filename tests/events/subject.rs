//! What an event is about: the same for the pushed event and for what is found later.
use std::time::SystemTime;

use ringcentral_events::event::DedupKey;
use ringcentral_events::{Notification, Origin};
use serde_json::value::RawValue;
use serde_json::{Value, json};

const E: &str = "/restapi/v1.0/account/4/extension/7";

fn keys(origin: Origin, uuid: Option<&str>, event: &str, body: &Value) -> Vec<DedupKey> {
    let mut text = json!({"event": event, "body": body});
    if let Some(uuid) = uuid {
        text["uuid"] = json!(uuid);
    }
    let raw = RawValue::from_string(text.to_string()).unwrap();
    Notification::parse(raw, origin, SystemTime::UNIX_EPOCH).unwrap().subject_keys()
}

/// Keys of the pushed event, and of what is found later, under another spelling
/// of the URI.
fn pair(tail: &str, pushed: &Value, found: &Value) -> (Vec<DedupKey>, Vec<DedupKey>) {
    let uri = if tail.starts_with("/team") { tail.to_owned() } else { format!("{E}{tail}") };
    let own = uri.replace("/account/4/extension/7", "/account/~/extension/~");
    (keys(Origin::Push, Some("u"), &uri, pushed), keys(Origin::CatchUp, None, &own, found))
}

#[test]
fn a_pushed_event_and_what_is_found_of_it_have_the_same_keys() {
    let (at, later) = ("2024-05-06T12:00:01.500Z", "2024-05-06T12:00:02.000Z");
    let same = "2024-05-06T12:00:01.5+0000";
    for (tail, pushed, found, keys) in [
        ("/message-store/instant?type=SMS", json!({"id": "17"}), json!({"id": 17, "lastModifiedTime": later}), 1),
        (
            "/fax?direction=Inbound",
            json!({"id": "17", "lastModifiedTime": at}),
            json!({"id": 17, "lastModifiedTime": same, "readStatus": "Read"}),
            1,
        ),
        ("/voicemail", json!({"id": 17, "creationTime": at}), json!({"id": "17", "lastModifiedTime": same}), 1),
        (
            "/message-store",
            json!({"changes": [{"type": "SMS", "newCount": 2, "newMessageIds": [5, 6]}]}),
            json!({"changes": [{"newMessageIds": ["5"]}, {"newMessageIds": ["6"]}], "records": [{}]}),
            2,
        ),
        (
            "/message-store",
            json!({"changes": [{"type": "SMS", "updatedCount": 2}]}),
            json!({"changes": [{"type": "SMS", "updatedCount": 1}], "records": [{"id": 1}]}),
            0,
        ),
        (
            "/team-messaging/v1/posts",
            json!({"id": "9", "eventType": "PostAdded", "lastModifiedTime": at}),
            json!({"id": 9, "eventType": "PostAdded", "lastModifiedTime": same, "text": "x"}),
            1,
        ),
        (
            "/team-messaging/v1/chats",
            json!({"id": "9", "eventType": "GroupChanged", "lastModifiedTime": at}),
            json!({"id": "9", "eventType": "GroupChanged", "lastModifiedTime": same}),
            1,
        ),
        ("/missed-calls", json!({"sessionId": 8}), json!({"sessionId": "8", "telephonySessionId": "s-1"}), 1),
        (
            "/telephony/sessions",
            json!({"telephonySessionId": "s-1", "sequence": 9, "parties": [{"id": "p-1", "status": {"code": "Disconnected"}}]}),
            json!({"telephonySessionId": "s-1", "sessionId": "8", "parties": [{"id": "p-1", "status": {"code": "Gone"}}]}),
            1,
        ),
        (
            "/telephony/sessions",
            json!({"telephonySessionId": "s-1", "parties": [{"id": "p-1", "status": {"code": "Answered"}}]}),
            json!({"parties": [{"id": "p-1", "status": {"code": "Disconnected"}}]}),
            0,
        ),
        ("/presence", json!({"extensionId": 7, "sequence": 1}), json!({"extensionId": "7"}), 0),
    ] {
        let (pushed, found) = pair(tail, &pushed, &found);
        assert_eq!(pushed, found, "{tail}");
        assert_eq!(pushed.len(), keys, "{tail}");
    }
    let a2p = "/restapi/v1.0/account/4/a2p-sms/messages";
    let status = |id: Value, status: &str| keys(Origin::Push, None, a2p, &json!({"id": id, "messageStatus": status}));
    assert_eq!(status(json!(3), "Sent"), status(json!("3"), "Sent"));
    assert_ne!(status(json!(3), "Sent"), status(json!(3), "Delivered"));
}

#[test]
fn different_things_have_different_keys() {
    let (at, later) = ("2024-05-06T12:00:01.500Z", "2024-05-06T12:00:02.000Z");
    let mut all = Vec::new();
    for (tail, body) in [
        ("/message-store/instant?type=SMS", json!({"id": 17})),
        ("/message-store/instant?type=SMS", json!({"id": 18})),
        ("/message-store", json!({"changes": [{"newMessageIds": [17]}]})),
        ("/fax?direction=Inbound", json!({"id": 17, "lastModifiedTime": at})),
        ("/fax?direction=Inbound", json!({"id": 17, "lastModifiedTime": later})),
        ("/voicemail", json!({"id": 17, "lastModifiedTime": at})),
        ("/missed-calls", json!({"sessionId": 17})),
        ("/telephony/sessions", json!({"sessionId": 17, "parties": [{"id": "p-1", "status": {"code": "Gone"}}]})),
        ("/telephony/sessions", json!({"sessionId": 17, "parties": [{"id": "p-2", "status": {"code": "Gone"}}]})),
    ] {
        all.extend(keys(Origin::Push, None, &format!("{E}{tail}"), &body));
    }
    for what in ["PostAdded", "PostChanged", "PostRemoved"] {
        let body = json!({"id": 17, "eventType": what, "lastModifiedTime": at});
        all.extend(keys(Origin::Push, None, "/team-messaging/v1/posts", &body));
    }
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!((count, all.len()), (12, 12));
}

#[test]
fn the_accounts_calls_are_the_extensions_calls() {
    let body = json!({"telephonySessionId": "s-1", "parties": [{"id": "p-1", "status": {"code": "Disconnected"}}]});
    let of = |event: &str| keys(Origin::Push, None, event, &body);
    assert_eq!(of("/restapi/v1.0/account/4/telephony/sessions"), of(&format!("{E}/telephony/sessions")));
}
