//! The subject of an event: the same for the pushed event and for its backfilled copy.
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
    if event.contains("/extension/~") {
        text["ownerId"] = json!(7);
    }
    let raw = RawValue::from_string(text.to_string()).unwrap();
    Notification::parse(raw, origin, SystemTime::UNIX_EPOCH).unwrap().subject_keys()
}

/// Keys of the pushed event, and of its backfilled copy, under another spelling of the URI.
fn pair(tail: &str, pushed: &Value, found: &Value) -> (Vec<DedupKey>, Vec<DedupKey>) {
    let uri = if tail.starts_with("/team") { tail.to_owned() } else { format!("{E}{tail}") };
    let own = uri.replace("/account/4/extension/7", "/account/~/extension/~");
    (keys(Origin::Push, Some("u"), &uri, pushed), keys(Origin::CatchUp, None, &own, found))
}

#[test]
fn a_pushed_event_and_its_backfilled_copy_have_the_same_keys() {
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
            json!({"changes": [{"newCount": 1, "newMessageIds": ["5"]}, {"newMessageIds": ["6"]}], "records": [{}]}),
            2,
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
fn different_subjects_have_different_keys() {
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
        ("/missed-calls", json!({"sessionId": 17, "extensionId": 8})),
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
    assert_eq!((count, all.len()), (13, 13));
}

/// Found 4.1: each extension of a ring group misses the same call.
#[test]
fn one_session_missed_by_two_extensions_is_two_events() {
    let missed = |uri: &str, body: Value| keys(Origin::CatchUp, None, uri, &body);
    let of = |extension: u64| format!("/restapi/v1.0/account/4/extension/{extension}/missed-calls");
    assert_ne!(missed(&of(7), json!({"sessionId": 1})), missed(&of(8), json!({"sessionId": 1})));
    let in_body = missed("/restapi/v1.0/account/~/extension/~/missed-calls", json!({"sessionId": 1, "extensionId": 8}));
    assert_eq!(in_body, missed(&of(8), json!({"sessionId": 1})));
}

/// Found 4.2 and 4.3: the other data of the event have a key of their own.
#[test]
fn an_event_is_not_recognized_by_a_part_of_it() {
    let party = |id: &str, code: &str| json!({"id": id, "status": {"code": code}});
    let session = |parties: Value| json!({"telephonySessionId": "s-1", "parties": parties});
    let change = |new: u64, updated: u64, ids: Value| json!({"changes": [{"type": "SMS", "newCount": new, "updatedCount": updated, "newMessageIds": ids}]});
    for (tail, part, whole, keys) in [
        ("/message-store", change(1, 0, json!([700])), change(1, 2, json!([700])), 2),
        ("/message-store", change(1, 0, json!([700])), change(2, 0, json!([700])), 2),
        ("/message-store", change(1, 0, json!([700])), change(2, 0, json!([700, 701])), 2),
        (
            "/telephony/sessions",
            session(json!([party("p-1", "Disconnected")])),
            session(json!([party("p-1", "Disconnected"), party("p-2", "Answered")])),
            2,
        ),
        (
            "/telephony/sessions",
            session(json!([party("p-1", "Disconnected")])),
            session(json!([party("p-1", "Disconnected"), party("p-2", "Gone")])),
            2,
        ),
    ] {
        let (whole, part) = pair(tail, &whole, &part);
        assert_eq!((whole.len(), part.len()), (keys, 1), "{tail} {whole:?}");
        assert!(whole.contains(&part[0]) && whole.iter().any(|key| !part.contains(key)), "{tail}");
    }
}

/// Changes are pushed without ids; a backfilled copy has the id and the time of each.
#[test]
fn each_backfilled_change_of_a_message_is_one_subject() {
    let found = |id: u64, at: &str| {
        let record = json!({"id": id, "lastModifiedTime": at});
        let body = json!({"changes": [{"type": "SMS", "updatedCount": 1}], "records": [record]});
        keys(Origin::CatchUp, None, &format!("{E}/message-store"), &body)
    };
    let one = found(1, "2024-05-06T12:00:01.500Z");
    assert_eq!((one.len(), &one), (1, &found(1, "2024-05-06T12:00:01.5+0000")));
    for other in [found(2, "2024-05-06T12:00:01.500Z"), found(1, "2024-05-06T12:00:02Z")] {
        assert_ne!(one, other);
    }
}

/// Found 4.6: nothing proves that a uuid is unique.
#[test]
fn one_uuid_with_another_body_or_extension_is_another_event() {
    let key = |extension: &str, body: Value| {
        let event = format!("/restapi/v1.0/account/4/extension/{extension}/presence");
        let text = json!({"uuid": "u", "ownerId": 7, "event": event, "body": body}).to_string();
        let raw = RawValue::from_string(text).unwrap();
        Notification::parse(raw, Origin::Push, SystemTime::UNIX_EPOCH).unwrap().dedup_key()
    };
    let first = key("7", json!({"n": 1}));
    assert_eq!(first, key("~", json!({"n": 1})), "the owner's own");
    assert_ne!(first, key("7", json!({"n": 2})));
    assert_ne!(first, key("8", json!({"n": 1})));
}

/// Found 4.7: captured in 2018 under the URI of posts.
#[test]
fn a_change_of_a_chat_is_typed_by_its_body() {
    use ringcentral_events::event::{Event, EventKind};
    for (uri, what, kind) in [
        ("/restapi/v1.0/glip/posts", "GroupJoined", EventKind::TeamMessagingChat),
        ("/restapi/v1.0/glip/posts", "GroupLeft", EventKind::TeamMessagingChat),
        ("/team-messaging/v1/posts", "GroupChanged", EventKind::TeamMessagingChat),
        ("/team-messaging/v1/posts", "PostChanged", EventKind::TeamMessagingPost),
        ("/team-messaging/v1/posts", "Reacted", EventKind::TeamMessagingPost),
        ("/team-messaging/v1/chats", "PostAdded", EventKind::TeamMessagingPost),
        ("/restapi/v1.0/glip/groups", "GroupRenamed", EventKind::TeamMessagingChat),
    ] {
        let body = json!({"id": "88", "name": "Team one", "members": ["1", "2"], "eventType": what});
        let text = json!({"uuid": "u", "event": uri, "body": body}).to_string();
        let raw = RawValue::from_string(text).unwrap();
        let it = Notification::parse(raw, Origin::Push, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(it.kind(), kind, "{uri} {what}");
        if let Event::TeamMessagingChat(chat) = it.event() {
            assert_eq!((chat.name.as_deref(), chat.members.len()), (Some("Team one"), 2), "{uri} {what}");
        }
    }
    let uri = "/restapi/v1.0/glip/posts";
    let joined = keys(Origin::Push, None, uri, &json!({"id": "9", "eventType": "GroupJoined"}));
    assert_ne!(joined, keys(Origin::Push, None, uri, &json!({"id": "9", "eventType": "PostAdded"})));
}

#[test]
fn the_accounts_calls_are_the_extensions_calls() {
    let body = json!({"telephonySessionId": "s-1", "parties": [{"id": "p-1", "status": {"code": "Disconnected"}}]});
    let of = |event: &str| keys(Origin::Push, None, event, &body);
    assert_eq!(of("/restapi/v1.0/account/4/telephony/sessions"), of(&format!("{E}/telephony/sessions")));
}
