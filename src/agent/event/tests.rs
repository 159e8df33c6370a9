use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

/// One complete event of every documented form, one per line.
const DOCUMENTED: &str = include_str!("../../../tests/fixtures/agent/events.jsonl");

fn event(json: &Value) -> AgentEvent {
    AgentNotification::from_json(&json.to_string()).unwrap().event().clone()
}

fn documented() -> impl Iterator<Item = Value> {
    DOCUMENTED.lines().map(|line| serde_json::from_str(line).unwrap())
}

/// The same object with every key changed by `change`.
fn rekeyed(object: &Value, change: impl Fn(&str) -> String) -> Value {
    let fields = object.as_object().unwrap();
    Value::Object(fields.iter().map(|(key, value)| (change(key), value.clone())).collect::<Map<_, _>>())
}

/// The same object with values in JSON's own types.
fn native(object: &Value) -> Value {
    let value = |value: &Value| match value.as_str() {
        Some("True") => json!(true),
        Some("False") => json!(false),
        Some("") => Value::Null,
        Some(text) => match text.parse::<i64>() {
            Ok(number) if number.to_string() == text => json!(number),
            _ => json!(text),
        },
        None => value.clone(),
    };
    Value::Object(object.as_object().unwrap().iter().map(|(key, it)| (key.clone(), value(it))).collect())
}

#[test]
fn every_documented_event_has_its_type_and_every_type_its_event() {
    let mut seen: Vec<AgentEventKind> = documented().map(|json| event(&json).kind()).collect();
    let unknown = seen.iter().filter(|kind| **kind == AgentEventKind::Unknown).count();
    assert_eq!(unknown, 1, "only the made-up event is unknown");
    for name in ["TakeOver", "CUSTOM_WebRTC", "CustomScreenPop", "PostData"] {
        seen.push(event(&json!({ "Type": name })).kind());
    }
    for kind in AgentEventKind::ALL {
        assert!(seen.contains(kind), "{kind:?}");
        assert_eq!(AgentEventKind::named(&kind.as_str().to_uppercase()), *kind);
    }
}

#[test]
fn f37_f38_casing_and_native_values_make_no_difference() {
    for json in documented() {
        let typed = event(&json);
        if typed.kind() == AgentEventKind::Unknown {
            continue;
        }
        assert_eq!(event(&rekeyed(&json, str::to_lowercase)), typed, "{json}");
        assert_eq!(event(&rekeyed(&json, str::to_uppercase)), typed, "{json}");
        // `""` and null differ for three fields only, which read a blank as a value.
        let is_blank_a_value = ["Timeout", "FileDuration", "AnsMachineOverride"];
        if is_blank_a_value.iter().all(|key| json.get(key) != Some(&json!(""))) {
            assert_eq!(event(&native(&json)), typed, "{json}");
        }
    }
}

#[test]
fn every_field_of_every_documented_event_is_read() {
    // Removing a field from the object must change the event.
    let ignored = ["IISHost", "VCHost", "Type", "type"];
    for json in documented() {
        let typed = event(&json);
        for (key, value) in json.as_object().unwrap() {
            let is_blank = value == &json!("");
            if ignored.contains(&key.as_str()) || is_blank || typed.kind() == AgentEventKind::Unknown {
                continue;
            }
            let mut without = json.clone();
            without.as_object_mut().unwrap().remove(key);
            assert_ne!(event(&without), typed, "{key} of {json}");
        }
    }
}

#[test]
fn a_call_is_read_to_the_last_field() {
    let json = documented().find(|json| json["Type"] == "CallContactEvent").unwrap();
    let AgentEvent::CallContact(call) = event(&json) else { panic!("{json}") };
    assert_eq!(call.contact_id.as_ref().unwrap(), &"900100200301");
    assert_eq!(call.status(), Some(ContactStatus::Incoming));
    assert_eq!(call.call_type(), Some(CallType::Regular));
    assert_eq!((call.is_inbound, call.final_state, call.timeout), (Some(true), Some(false), Some(0)));
    assert_eq!(call.ans_machine_override, Some(false));
    assert!(call.started_at().unwrap().instant().is_some());
    let variables = call.screen_pop_variables();
    assert_eq!(variables.get("lang").map(String::as_str), Some("en"));
    assert_eq!(variables.len(), 2);
}

#[test]
fn f36_an_unknown_event_keeps_its_object() {
    for (json, want) in [
        (r#"{"Type":"BrandNewEvent","ContactID":"7"}"#, Some("BrandNewEvent")),
        (r#"{"Whatever":1}"#, None),
        (r#"{"Type":null}"#, None),
        (r#"{"Type":7}"#, Some("7")),
        (r#"{"Type":{"a":1}}"#, None),
        (r#"{"Type":""}"#, None),
        ("[1,2]", None),
        ("\"text\"", None),
        ("null", None),
        ("7", None),
    ] {
        let notification = AgentNotification::from_json(json).unwrap();
        let AgentEvent::Unknown(unknown) = notification.event() else { panic!("{json}") };
        assert_eq!(unknown.event_type.as_deref(), want, "{json}");
        assert_eq!(notification.raw().get().get(), json);
    }
    assert_eq!(event(&json!({"Type":"BrandNewEvent","contactid":"7"})).contact_id(), Some(&"7".into()));
}

#[test]
fn f39_an_invalid_field_is_skipped_and_its_text_stays() {
    let json = r#"{"Type":"AgentState","CurrentState":"Available","AcwTimeout":"soon","StartTimeUTC":"yesterday","IsAcw":"perhaps"}"#;
    let notification = AgentNotification::from_json(json).unwrap();
    let AgentEvent::AgentState(state) = notification.event() else { panic!() };
    assert_eq!((state.state.clone(), state.acw_timeout, state.is_acw), (Some(State::Available), None, None));
    assert_eq!(state.start_time_utc.as_ref().unwrap().as_str(), "yesterday");
    assert!(notification.raw().get().get().contains("\"soon\""));
}

#[test]
fn of_two_times_the_one_with_a_zone_counts_in_any_casing() {
    let since = |mut value: Value| {
        value["Type"] = "AgentState".into();
        match event(&value) {
            AgentEvent::AgentState(state) => state.start_time_utc.map(|at| at.as_str().to_owned()),
            other => panic!("{other:?}"),
        }
    };
    for (value, want) in [
        (json!({"StartTime":"local","StartTimeUTC":"utc"}), Some("utc")),
        (json!({"StartTime":"local","starttimeutc":"utc"}), Some("utc")),
        (json!({"StartTime":"local","StartTimeUTC":""}), Some("local")),
        (json!({"starttime":"local"}), Some("local")),
        (json!({}), None),
    ] {
        assert_eq!(since(value.clone()).as_deref(), want, "{value}");
    }
}

#[test]
fn f40_lists_come_in_many_forms() {
    let next = |value: Value| match event(&json!({"Type":"AgentState","NextStates":value})) {
        AgentEvent::AgentState(state) => state.next_states,
        other => panic!("{other:?}"),
    };
    let lunch = NextState { state: State::Unavailable, out_reason: Some("Lunch".into()) };
    let object = json!({"State":"unavailable","OutReason":"Lunch"});
    assert_eq!(next(json!([object, {"state":"Available"}])).len(), 2);
    assert_eq!(next(object), [lunch]);
    assert_eq!(next(json!("Available"))[0].state, State::Available);
    for nothing in [json!(""), json!([]), Value::Null, json!({}), json!([{}, 1.5, []])] {
        assert!(next(nothing.clone()).iter().all(|it| matches!(it.state, State::Other(_))), "{nothing}");
    }
    assert!(next(json!("")).is_empty() && next(json!({})).is_empty());

    let variables = |value: Value| match event(&json!({"Type":"CallContactEvent","ScreenPopUrlVariables":value})) {
        AgentEvent::CallContact(call) => call.screen_pop_variables().into_iter().collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let want = vec![("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())];
    assert_eq!(variables(json!([{"a":"1"},{"b":2}])), want);
    assert_eq!(variables(json!({"a":"1","b":"2"})), want);
    assert_eq!(variables(json!(r#"[{"a":"1"},{"b":"2"}]"#)), want);
    assert!(variables(json!("free text")).is_empty() && variables(json!("")).is_empty());
}

#[test]
fn the_misspelt_parent_of_a_work_item_is_found() {
    let AgentEvent::WorkItemContact(item) = event(&json!({"Type":"WorkItemContactEvent","ParenContactId":"5"})) else {
        panic!()
    };
    assert_eq!(item.parent_contact_id.as_ref().unwrap(), &"5");
}

#[test]
fn f41_any_text_and_any_depth_is_read_without_a_panic() {
    let deep =
        format!(r#"{{"Type":"CustomEvent","eventName":"x","data":{}1{}}}"#, "[".repeat(50_000), "]".repeat(50_000));
    let big = format!(r#"{{"type":"CustomEvent","eventName":"x","data":"{}"}}"#, "d".repeat(1 << 20));
    let odd = r#"{"type":"CustomEvent","eventName":"\u0000x","data":"\ud800 \udc00\ud800"}"#;
    for json in [deep.as_str(), big.as_str(), odd] {
        let notification = AgentNotification::from_json(json).unwrap();
        assert_eq!(notification.event().kind(), AgentEventKind::Custom);
        assert_eq!(notification.raw().get().get().len(), json.len());
    }
    let AgentEvent::Custom(custom) = AgentNotification::from_json(odd).unwrap().event().clone() else { panic!() };
    assert_eq!(custom.name.as_deref(), Some("\0x"));
    let AgentEvent::Custom(custom) = AgentNotification::from_json(&big).unwrap().event().clone() else { panic!() };
    assert_eq!(custom.data.unwrap().len(), 1 << 20);
}

#[test]
fn debug_does_not_show_the_raw_object() {
    let notification = AgentNotification::from_json(r#"{"Type":"Mute","Hidden":"s3cret"}"#).unwrap();
    assert!(!format!("{notification:?}").contains("s3cret"));
}

proptest! {
    #[test]
    fn no_object_panics(
        name in prop::sample::select(AgentEventKind::ALL),
        fields in prop::collection::btree_map("[A-Za-z]{1,24}", prop_oneof![
            any::<bool>().prop_map(|it| json!(it)), any::<i64>().prop_map(|it| json!(it)),
            "\\PC{0,20}".prop_map(|it| json!(it)), Just(json!(null)), Just(json!([{"a":[]}])), Just(json!({"State":"x"})),
        ], 0..12),
    ) {
        let mut object: Map<String, Value> = fields.into_iter().collect();
        object.retain(|key, _| !key.eq_ignore_ascii_case("type"));
        object.insert("Type".into(), json!(name.as_str()));
        prop_assert_eq!(event(&Value::Object(object)).kind(), name);
    }
}

#[test]
fn the_data_of_a_custom_event_is_read_as_a_type() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Order {
        order: String,
    }
    for (data, want) in [
        (json!("{\"order\":\"A-1\"}"), Some("A-1")),
        (json!({"order": "A-2"}), Some("A-2")),
        (json!("<order/>"), None),
        (json!(""), None),
        (json!(null), None),
    ] {
        let AgentEvent::Custom(it) = event(&json!({"type": "CustomEvent", "eventName": "x", "data": data})) else {
            panic!("{data}")
        };
        assert_eq!(it.data_as::<Order>().ok().map(|it| it.order).as_deref(), want, "{data}");
        assert_eq!(it.data_as::<Option<Order>>().is_ok(), want.is_some() || it.data.is_none(), "{data}");
    }
    for (name, want) in [
        ("LOCALPOST", Some(CustomEventName::LocalPost)),
        ("AgentWorkflowRequest", Some(CustomEventName::AgentWorkflowRequest)),
        ("localpost", None),
        ("order-lookup", None),
    ] {
        let AgentEvent::Custom(it) = event(&json!({"type": "CustomEvent", "eventName": name})) else {
            panic!("{name}")
        };
        assert_eq!(it.reserved_name(), want, "case matters: {name}");
    }
}

#[test]
fn ids_are_text_whatever_form_they_have() {
    for id in [json!("900100200301900100200301"), json!(42)] {
        let json = json!({"Type": "WorkItemContactEvent", "ContactID": id, "AgentId": id, "SkillId": id});
        let AgentEvent::WorkItemContact(it) = event(&json) else { panic!("{json}") };
        let want = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        let got = (it.contact_id.clone().unwrap(), it.agent_id.clone().unwrap(), it.skill_id.clone().unwrap());
        assert_eq!(got, (want.as_str().into(), want.as_str().into(), want.as_str().into()));
    }
}
