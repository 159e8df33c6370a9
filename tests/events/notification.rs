//! The envelope in every odd form, and mutated fixtures.

use std::time::{Duration, SystemTime};

use crate::support::events::{fixtures, parse};
use proptest::prelude::*;
use proptest::sample::Index;
use ringcentral_events::event::{
    DedupKey, DndStatus, Event, EventKind, Malformed, MalformedReason, MessageType, Notification, Origin,
    PartyStatusCode, PersonId, Post, Resource, TelephonySession,
};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

const STORE: &str = "/restapi/v1.0/account/1/extension/2/message-store";

fn try_parse(text: &str) -> Result<Notification, Malformed> {
    Notification::parse(RawValue::from_string(text.to_owned()).unwrap(), Origin::Push, SystemTime::UNIX_EPOCH)
}

#[test]
fn only_text_without_an_object_or_an_event_is_malformed() {
    for (text, reason) in [
        ("null", MalformedReason::NotAnObject),
        ("[]", MalformedReason::NotAnObject),
        (r#""{}""#, MalformedReason::NotAnObject),
        ("7", MalformedReason::NotAnObject),
        ("{}", MalformedReason::NoEvent),
        (r#"{"event":null}"#, MalformedReason::NoEvent),
        (r#"{"event":7}"#, MalformedReason::NoEvent),
        (r#"{"event":{}}"#, MalformedReason::NoEvent),
        (r#"{"event":" "}"#, MalformedReason::NoEvent),
        (r#"{"pn_apns":{"aps":{"content-available":1}},"body":{}}"#, MalformedReason::NoEvent),
        (r#"{"pn_apns":{"event":7}}"#, MalformedReason::NoEvent),
        (r#"{"pn_apns":[{"event":"/x"}]}"#, MalformedReason::NoEvent),
    ] {
        let malformed = try_parse(text).unwrap_err();
        assert_eq!(malformed.reason(), reason, "{text}");
        assert_eq!(malformed.raw().get(), text);
        assert!(!format!("{malformed:?} {malformed}").contains("pn_apns"));
        assert_eq!(malformed.into_raw().get(), text);
    }
}

#[test]
fn odd_fields_of_the_envelope_are_absent_or_text() {
    let read = |field: &str| {
        let it = parse(&format!(r#"{{"event":"{STORE}",{field}}}"#));
        assert_eq!(it.kind(), EventKind::MessageStore, "{field}");
        let text = |text: Option<&str>| text.unwrap_or("-").to_owned();
        [
            text(it.uuid()),
            text(it.timestamp().map(|at| at.as_str())),
            text(it.subscription_id().map(|id| id.as_str())),
            text(it.owner_id().map(|id| id.as_str())),
        ]
        .join(" ")
    };
    for (field, want) in [
        (r#""uuid":"a","timestamp":"b","subscriptionId":"c","ownerId":"d""#, "a b c d"),
        (
            r#""uuid":18446744073709551616,"ownerId":99999999999999999999"#,
            "18446744073709551616 - - 99999999999999999999",
        ),
        (r#""uuid":-5,"subscriptionId":7"#, "-5 - 7 -"),
        (r#""uuid":null,"timestamp":null,"subscriptionId":null,"ownerId":null"#, "- - - -"),
        (r#""uuid":{},"timestamp":[],"subscriptionId":true,"ownerId":{"id":1}"#, "- - - -"),
        (r#""uuid":"","ownerId":"  ""#, "- - - -"),
        (r#""uuid":"a","uuid":"b","uuid":null"#, "b - - -"),
        (r#""\u0075uid":"a\u00e9\ud83d\ude00""#, "a\u{e9}\u{1f600} - - -"),
        (r#""event":9,"event":null,"x":1"#, "- - - -"),
        (r#""timestamp":1718000000000"#, "- 1718000000000 - -"),
    ] {
        assert_eq!(read(field), want, "{field}");
    }
}

#[test]
fn half_a_surrogate_pair_spoils_only_its_field() {
    let text = r#"{"event":"/team-messaging/v1/posts","\udead":1,"body":{"text":"hi \ud800!","\udc00":2,"id":"7"}}"#;
    let notification = parse(text);
    let Event::TeamMessagingPost(post) = notification.event() else { panic!("{notification:?}") };
    assert_eq!(post.id.as_ref().unwrap(), &"7");
    assert!(post.text.as_ref().unwrap().starts_with("hi \u{fffd}"));
    assert_eq!(notification.raw().get(), text);
}

#[test]
fn a_body_that_is_not_an_object_is_unknown_and_preserved() {
    for body in ["[]", "7", r#""text""#, "true"] {
        let notification = parse(&format!(r#"{{"event":"{STORE}","body":{body}}}"#));
        assert_eq!(notification.kind(), EventKind::MessageStore);
        let Event::Unknown(unknown) = notification.event() else { panic!("{body}") };
        assert_eq!(unknown.kind(), EventKind::MessageStore);
        assert_eq!(unknown.event_uri(), STORE);
        assert_eq!(unknown.body().unwrap().get().get(), body);
        assert_eq!(notification.raw_body().unwrap().get(), body);
    }
    for none in ["", r#","body":null"#] {
        let notification = parse(&format!(r#"{{"event":"{STORE}"{none}}}"#));
        assert_eq!(notification.event().kind(), EventKind::MessageStore, "{none:?}");
        assert_eq!(notification.raw_body().map(RawValue::get), none.split(':').nth(1), "{none:?}");
    }
}

#[test]
fn raw_and_body_are_preserved_byte_for_byte() {
    let body = "{ \"b\":1.50 ,\"a\":1e3,\t\"a\":\"\\u0041\", \"extensionId\": 7 }";
    let text = format!("{{\"body\":  {body} , \"event\":\"{STORE}\" }}");
    let notification = parse(&text);
    assert_eq!(notification.raw().get(), text);
    assert_eq!(notification.raw_body().unwrap().get(), body);
    #[derive(serde::Deserialize)]
    struct Mine {
        b: f64,
    }
    assert!((notification.body_as::<Mine>().unwrap().b - 1.5).abs() < 1e-9);
    assert!(notification.body_as::<Vec<u8>>().is_err());
    let again = notification.clone();
    assert_eq!((again.raw().get(), again.event()), (notification.raw().get(), notification.event()));
    assert_eq!(&again.into_event(), notification.event());
    let Event::MessageStore(store) = parse(&text).into_event() else { panic!() };
    assert_eq!(store.extension_id.unwrap(), "7");
}

#[test]
fn body_as_reads_the_flat_form_without_a_body() {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Mine {
        from_name: String,
    }
    for fixture in fixtures().iter().filter(|it| it.kind == EventKind::MissedCall || it.kind == EventKind::IncomingCall)
    {
        let notification = parse(&fixture.text);
        assert_eq!(notification.body_as::<Mine>().unwrap().from_name, "Jerry", "{}", fixture.name);
        let (Event::MissedCall(call) | Event::IncomingCall(call)) = notification.event() else { panic!() };
        assert_eq!(call.from.as_deref(), Some("+14157809227"), "{}", fixture.name);
        assert_eq!(call.aps.as_ref().unwrap().alert.as_ref().and_then(|it| it.body.as_deref()), Some("Hi there"));
    }
}

#[test]
fn a_notification_within_pn_apns_is_unwrapped_only_when_it_has_an_event() {
    let inner = format!(r#"{{"event":"{STORE}","uuid":"i","body":{{"extensionId":1}},"aps":{{}}}}"#);
    let nested = parse(&format!(r#"{{"subscriptionId":"s","pn_apns":{inner}}}"#));
    assert_eq!((nested.uuid(), nested.event_uri()), (Some("i"), STORE));
    assert_eq!(nested.raw_body().unwrap().get(), r#"{"extensionId":1}"#);
    assert_eq!(nested.subscription_id().unwrap(), &"s");
    let both = parse(&format!(r#"{{"event":"/x","uuid":"o","body":{{}},"pn_apns":{inner}}}"#));
    assert_eq!((both.uuid(), both.event_uri(), both.raw_body().unwrap().get()), (Some("o"), "/x", "{}"));
    let noise = parse(r#"{"event":"/x","pn_apns":{"aps":{"content-available":1},"uuid":"i","body":{"a":1}}}"#);
    assert_eq!((noise.uuid(), noise.raw_body().is_none()), (None, true));
}

#[test]
fn the_dedup_key_is_of_uuid_uri_extension_and_body_or_of_the_text() {
    let key = |text: &str| parse(text).dedup_key();
    let one = key(r#"{"uuid":"1","event":"/x"}"#);
    assert_eq!(one, key(r#"{"event":"/x","uuid":1,"timestamp":"now"}"#), "the wire's form does not count");
    assert_ne!(one, key(r#"{"event":"/x","uuid":1,"body":{}}"#));
    assert_ne!(one, key(r#"{"uuid":"2","event":"/x"}"#));
    assert_ne!(one, key(r#"{"uuid":"1","event":"/y"}"#));
    let spelled = |uri: &str| key(&json!({ "uuid": "1", "event": uri, "ownerId": 2 }).to_string());
    let store = spelled("/restapi/v1.0/account/~/extension/~/message-store?type=SMS&direction=Inbound");
    for uri in [
        "/restapi/v1.0/account/1/extension/2/message-store?direction=Inbound&type=SMS",
        "https://host/restapi/v1.0/account/{accountId}/extension/2/message-store?type=SMS&direction=Inbound",
    ] {
        assert_eq!(spelled(uri), store, "{uri}");
    }
    for uri in [
        "/restapi/v1.0/account/1/extension/2/message-store",
        "/restapi/v1.0/account/1/extension/2/message-store?direction=Outbound&type=SMS",
        "/restapi/v1.0/account/1/message-store?direction=Inbound&type=SMS",
    ] {
        assert_ne!(spelled(uri), store, "{uri}");
    }
    assert_eq!(store.to_string(), "684cf53dc5a84f616f52dee8206e8eca", "stored keys must stay good");
    assert_ne!(key(r#"{"uuid":"1/","event":"x"}"#), key(r#"{"uuid":"1","event":"/x"}"#));
    let bare = key(r#"{"event":"/x"}"#);
    assert_eq!(bare, key(r#"{"event":"/x"}"#));
    assert_ne!(bare, key(r#"{"event":"/x","body":{}}"#));
    assert_ne!(key(r#"{"event":"/x","uuid":"","body":1}"#), key(r#"{"event":"/x","uuid":"","body":2}"#));
    let json = serde_json::to_string(&one).unwrap();
    assert_eq!(json, format!("\"{one}\""));
    assert_eq!(one.to_string(), "9ca2aab7337f5f9f50543dd18b419a23", "stored keys must stay good");
    assert_eq!(serde_json::from_str::<DedupKey>(&json).unwrap(), one);
    assert_eq!(DedupKey::from_bytes(*one.as_bytes()), one);
    for bad in ["", "00", "zzf7e8014b7ec16038e63646238decc8", "+9f7e8014b7ec16038e63646238decc8"] {
        assert!(bad.parse::<DedupKey>().is_err(), "{bad}");
    }
}

#[test]
fn the_callers_values_are_preserved_and_debug_has_no_body() {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
    let text = r#"{"uuid":"u-1","event":"/team-messaging/v1/posts","body":{"text":"private words"}}"#;
    let raw = RawValue::from_string(text.to_owned()).unwrap();
    let notification = Notification::parse(raw, Origin::CatchUp, at).unwrap();
    assert_eq!((notification.origin(), notification.received_at()), (Origin::CatchUp, at));
    let shown = format!("{notification:?}");
    assert!(shown.contains("u-1") && shown.contains("TeamMessagingPost") && !shown.contains("private"), "{shown}");
    let names: Vec<_> = [Origin::Push, Origin::CatchUp, Origin::Snapshot].iter().map(ToString::to_string).collect();
    assert_eq!(names, ["push", "catch_up", "snapshot"]);
}

fn body(uri: &str, body: &Value) -> Event {
    parse(&json!({ "event": uri, "body": body }).to_string()).into_event()
}

#[test]
fn messages_have_what_a_bot_needs() {
    let texts: Vec<_> = fixtures().into_iter().filter(|it| it.kind == EventKind::InstantMessage).collect();
    assert!(texts.len() >= 3);
    for fixture in texts {
        let event = parse(&fixture.text).into_event();
        let message = event.message().unwrap();
        assert_eq!(message.text(), Some("Hi there"), "{}", fixture.name);
        assert_eq!(message.from_number(), Some("+14157809227"));
        assert_eq!(message.to_numbers().collect::<Vec<_>>(), ["+16508974563"]);
        assert_eq!(message.conversation_id().unwrap(), &"7876416245344257449");
        assert_eq!(message.message_type, Some(MessageType::Sms));
        assert!(message.is_inbound() && !message.is_outbound() && message.id.is_some());
    }
    let Event::MessageStore(store) = body(
        STORE,
        &json!({"changes":[{"newCount":"2","newMessageIds":[1,"2"]},{"updatedCount":3,"newMessageIds":4}]}),
    ) else {
        panic!()
    };
    assert_eq!(store.new_message_ids().map(|id| id.as_str()).collect::<Vec<_>>(), ["1", "2", "4"]);
    assert_eq!((store.new_count(), store.updated_count()), (2, 3));
}

#[test]
fn posts_name_their_mentions_and_their_author() {
    let me = PersonId::new("7");
    let post = |body: Value| serde_json::from_value::<Post>(body).unwrap();
    assert!(post(json!({"mentions":[{"id":8},{"id":7,"type":"Person"}]})).mentions(&me));
    assert!(post(json!({"mentions":[{"id":"7"}]})).mentions(&me));
    assert!(!post(json!({"mentions":[{"id":"7","type":"Task"}]})).mentions(&me));
    assert!(!post(json!({"mentions":null})).mentions(&me));
    assert!(post(json!({"creatorId":7})).is_by(&me) && !post(json!({})).is_by(&me));
    assert!(post(json!({"eventType":"PostAdded"})).is_added() && !post(json!({"eventType":"PostRemoved"})).is_added());
}

#[test]
fn calls_have_the_state_of_each_party() {
    let session: TelephonySession = serde_json::from_value(json!({"parties":[
        {"id":"p-1","direction":"Inbound","status":{"code":"Voicemail"},"missedCall":"true"},
        {"id":"p-2","direction":"Outbound","status":{"code":"Levitating"}},
        {"id":"p-3"},
    ]}))
    .unwrap();
    let states: Vec<_> = session.party_states().map(|(id, code)| format!("{id} {code}")).collect();
    assert_eq!(states, ["p-1 VoiceMail", "p-2 Levitating"]);
    assert_eq!(session.party_state(&"p-1".into()), Some(&PartyStatusCode::VoiceMail));
    assert_eq!(session.party_state(&"p-3".into()), None);
    assert!(session.is_missed() && session.parties[0].is_inbound() && session.parties[1].is_outbound());
    assert!(!TelephonySession::default().is_missed());
}

#[test]
fn spellings_that_sources_disagree_on_are_all_read() {
    let one = |uri: &str, key: &str, sent: Value, stored: Value| {
        let body = parse(&json!({"event": uri, "body": {key: sent}}).to_string());
        assert_eq!(serde_json::to_value(body.event()).unwrap(), stored, "{key}");
    };
    one("/team-messaging/v1/posts", "addedPersonsIds", json!([1]), json!({"addedPersonIds": ["1"]}));
    one("/team-messaging/v1/chats", "public", json!(true), json!({"isPublic": true}));
    one("/team-messaging/v1/chats", "members", json!([{"id": 1}, "2"]), json!({"members": ["1", "2"]}));
    let missed = "/restapi/v1.0/account/~/extension/~/missed-calls";
    one(missed, "srvlvl", json!(-1), json!({"srvLvl": "-1"}));
    one(missed, "_from", json!("+1"), json!({"from": "+1"}));
    let voicemail = "/restapi/v1.0/account/~/extension/~/voicemail";
    one(voicemail, "type", json!("Voicemail"), json!({"type": "VoiceMail"}));
    one(voicemail, "attachments", json!([{"filename": "a"}]), json!({"attachments": [{"fileName": "a"}]}));
    let calls = "/restapi/v1.0/account/~/telephony/sessions";
    let state = |code: &str| json!([{"status": {"code": code}}]);
    one(calls, "parties", state("VMScreening"), json!({"parties": state("VoiceMailScreening")}));
    one(calls, "parties", state("NeverHeardOf"), json!({"parties": state("NeverHeardOf")}));
    one("/restapi/v1.0/account/~/a2p-sms/messages", "to", json!("+1"), json!({"to": ["+1"]}));
}

#[test]
fn presence_and_queues_are_read_in_both_forms() {
    let event = body(
        "/restapi/v1.0/account/~/presence",
        &json!({"telephonyStatus":"Ringing","totalActiveCalls":8,"dndStatus":"Unknown"}),
    );
    let presence = event.presence().unwrap();
    assert!(presence.is_on_call() && presence.has_unlisted_calls());
    assert_eq!(presence.dnd_status, Some(DndStatus::Unknown));
    assert!(event.telephony_session().is_none() && event.message().is_none());
    let queue = "/restapi/v1.0/account/~/call-queues/7/presence";
    for (sent, want) in [
        (json!({"records":[{"member":{"id":1},"acceptCurrentQueueCalls":true},{"member":{}}]}), "1 true"),
        (json!({"extensionId":"2","acceptCalls":"false"}), "2 false"),
    ] {
        let Event::CallQueueMemberPresence(it) = body(queue, &sent) else { panic!() };
        let members: Vec<_> = it.members().map(|(id, takes)| format!("{id} {}", takes.unwrap())).collect();
        assert_eq!(members, [want]);
    }
}

#[test]
fn insights_are_found_by_name_in_any_case() {
    let sent = json!({"insights":{"HighLights":[{"value":"a"},{"text":"b"}],"AIScore":{"value":7}}});
    let Event::RingSenseInsights(it) = body("/ai/ringsense/v1/public/accounts/1/domains/pbx/insights", &sent) else {
        panic!()
    };
    assert_eq!(it.insight("highlights").filter_map(|one| one.content()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(it.insight("AIScore").filter_map(|one| one.content()).collect::<Vec<_>>(), ["7"]);
}

#[test]
fn sequences_order_events_of_one_resource() {
    let at = |uri: &str, sent: Value| {
        let notification = parse(&json!({ "event": uri, "body": sent }).to_string());
        notification.sequence().map(|it| match it.resource {
            Resource::Presence(id) => format!("presence {id} {}", it.number),
            Resource::PresenceLines(id) => format!("lines {id} {}", it.number),
            Resource::TelephonySession(id) => format!("call {id} {}", it.number),
            _ => panic!(),
        })
    };
    let e = "/restapi/v1.0/account/1/extension/2";
    assert_eq!(at(&format!("{e}/presence"), json!({"extensionId":5,"sequence":"9"})).as_deref(), Some("presence 5 9"));
    assert_eq!(at(&format!("{e}/presence"), json!({"extensionId":"~","sequence":9})).as_deref(), Some("presence 2 9"));
    assert_eq!(at(&format!("{e}/presence/line"), json!({"sequence":1})).as_deref(), Some("lines 2 1"));
    assert_eq!(
        at(&format!("{e}/telephony/sessions"), json!({"telephonySessionId":"s","sequence":3})).as_deref(),
        Some("call s 3")
    );
    assert_eq!(at("/restapi/v1.0/account/1/presence", json!({"sequence":3})), None);
    assert_eq!(at(&format!("{e}/presence"), json!({})), None);
    assert_eq!(at(STORE, json!({"sequence":3})), None);
}

/// The change to one value of a notification.
#[derive(Clone, Debug)]
enum Mutation {
    Drop,
    Null,
    Swap,
    Add,
    Word,
    Wrap,
    Nest,
}

fn mutation() -> impl Strategy<Value = (Mutation, Index)> {
    use Mutation::{Add, Drop, Nest, Null, Swap, Word, Wrap};
    (prop::sample::select(vec![Drop, Null, Swap, Add, Word, Wrap, Nest]), any::<Index>())
}

/// Every object member and list element, as a path.
fn paths(value: &Value, at: &str, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            let path = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
            paths(value, &path, into);
            into.push(path);
        }),
        Value::Array(list) => list.iter().enumerate().for_each(|(index, value)| {
            let path = format!("{at}/{index}");
            paths(value, &path, into);
            into.push(path);
        }),
        _ => {}
    }
}

fn mutate(whole: &mut Value, mutation: &Mutation, index: &Index) {
    let mut all = Vec::new();
    paths(whole, "", &mut all);
    if all.is_empty() {
        return;
    }
    let path = index.get(&all);
    let (parent, key) = path.rsplit_once('/').unwrap();
    let key = key.replace("~1", "/").replace("~0", "~");
    if matches!(mutation, Mutation::Drop) {
        if let Some(Value::Object(fields)) = whole.pointer_mut(parent) {
            fields.remove(&key);
        }
        return;
    }
    let value = whole.pointer_mut(path).unwrap();
    *value = match (mutation, value.take()) {
        (Mutation::Null, _) => Value::Null,
        (Mutation::Swap, Value::String(text)) => serde_json::from_str(&text).unwrap_or(json!(-17.25)),
        (Mutation::Swap, Value::Bool(flag)) => json!(flag.to_string()),
        (Mutation::Swap, Value::Number(number)) => json!(number.to_string()),
        (Mutation::Swap, other) => Value::Array(vec![other]),
        (Mutation::Add, Value::Object(mut fields)) => {
            fields.insert("brandNew".into(), json!({"a":[1, null]}));
            Value::Object(fields)
        }
        (Mutation::Add, other) => json!([other, 1, "x", {}]),
        (Mutation::Word, _) => json!("NeverHeardOf"),
        (Mutation::Wrap, other) => json!([other]),
        (Mutation::Nest, other) => Value::Object(Map::from_iter([("id".to_owned(), other)])),
        (Mutation::Drop, other) => other,
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn mutated_fixtures_are_read_and_preserved(which in any::<Index>(), steps in prop::collection::vec(mutation(), 1..6)) {
        let fixtures = fixtures_once();
        let mut whole: Value = serde_json::from_str(which.get(fixtures).as_str()).unwrap();
        for (mutation, index) in &steps {
            mutate(&mut whole, mutation, index);
        }
        let text = whole.to_string();
        let usable = |it: &Value| it["event"].as_str().is_some_and(|uri| !uri.trim().is_empty());
        match try_parse(&text) {
            Err(malformed) => {
                prop_assert!(!usable(&whole) && !usable(&whole["pn_apns"]), "{}", text);
                prop_assert_eq!(malformed.raw().get(), &text);
            }
            Ok(notification) => {
                prop_assert_eq!(notification.raw().get(), &text);
                let inner = if usable(&whole) { &whole } else { &whole["pn_apns"] };
                if let Some(body) = inner.get("body").filter(|body| !body.is_null()) {
                    prop_assert_eq!(notification.raw_body().unwrap().get(), &body.to_string());
                }
                let event = notification.event();
                let flat_or_none = notification.raw_body().is_none_or(|body| !body.get().starts_with('{'));
                prop_assert!(event.kind() == notification.kind() || flat_or_none);
                let stored = serde_json::to_string(event).unwrap();
                let again = Event::from_body(notification.event_uri(), &RawValue::from_string(stored.clone()).unwrap());
                prop_assert_eq!(serde_json::to_string(&again).unwrap(), stored);
                let _ = (notification.dedup_key(), notification.sequence(), format!("{event:?}"));
            }
        }
    }

    #[test]
    fn any_json_object_with_an_event_is_read(uri in "\\PC{1,40}", keys in prop::collection::vec("\\PC{0,8}", 0..6)) {
        prop_assume!(!uri.trim().is_empty());
        let body: Map<String, Value> = keys.into_iter().map(|key| (key.clone(), json!(key))).collect();
        let notification = parse(&json!({"event": uri, "body": body}).to_string());
        prop_assert_eq!(notification.event_uri(), uri);
    }
}

fn fixtures_once() -> &'static [String] {
    static ALL: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    ALL.get_or_init(|| fixtures().into_iter().map(|fixture| fixture.text).collect())
}
