//! Polls of the sandbox's Contact Center by a bare client.

use std::time::Duration;

use crate::support::center::*;
use reqwest::Method;
use ringcentral_sandbox::agent::{
    AfterEnd, Casing, Concurrent, ContactStep, EndWithContacts, ErrorsIn, Fate, IdForm, Idle, JoinedIds, SnapshotOrder,
    StaleId, Values,
};
use ringcentral_sandbox::{Fault, Operation, Service, Target};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

/// A complete call from a program's view.
#[tokio::test]
async fn a_call_arrives_is_answered_held_resumed_and_ended() {
    let (sandbox, client) = sandbox(|_| {}).await;
    let s0 = client.start().await;
    let first = client.poll(&s0, 60).await;
    assert_eq!((first.status, first.branch()), (200, Some("1")));
    assert_eq!(first.events(), ["AgentSessionStart", "AgentState Unavailable", "UpdateIndicators"]);
    let started = &first.body["events"][0];
    assert_eq!(
        (started["AgentId"].as_str(), started["StationPhoneNumber"].as_str()),
        (Some("7001"), Some("+12055550100"))
    );
    assert_eq!(started["StationId"], "0");
    assert_ne!(started["SessionId"].as_str(), Some(&*s0), "another number");
    let state = &first.body["events"][1];
    let at = state["StartTimeUTC"].as_str().unwrap();
    assert!(at.ends_with('Z'), "{at}");
    assert_eq!(
        *state,
        json!({ "IISHost": "SANDBOX-WEB", "VCHost": "SANDBOX-VC", "Type": "AgentState", "StartTimeUTC": at,
            "CurrentState": "Unavailable", "CurrentOutReason": "", "IsAcw": "False", "AcwTimeout": "0",
            "NextStates": [], "NextIsAcw": "False" })
    );
    let mut id = first.id();
    assert_ne!(id, s0);

    let held = client.hold(&id).await;
    let done = client.post(&format!("/{}/state", encoded(&s0)), json!({ "state": "available" })).await;
    assert_eq!((done.status, done.text.as_str()), (202, ""), "any id of the session will do");
    let answer = held.await.unwrap();
    assert_eq!(answer.events(), ["AgentState Available"]);
    id = answer.id();

    let contact = client.center.call("+12055550143").unwrap();
    let answer = client.poll(&id, 60).await;
    assert_eq!(
        answer.events(),
        ["AgentState InboundContact", "AgentLeg Dialing False", "CallContactEvent Incoming False", "PopURL"]
    );
    let call = &answer.body["events"][2];
    let at = call["StartTimeUTC"].as_str().unwrap().to_owned();
    assert!(at.ends_with('Z'), "{at}");
    assert_eq!(
        *call,
        json!({ "IISHost": "SANDBOX-WEB", "VCHost": "SANDBOX-VC", "Type": "CallContactEvent", "ContactID": contact,
            "MasterID": contact, "ParentContactId": "", "Status": "Incoming", "OriginalState": "False",
            "CallType": "Regular", "DNIS": "+18005550199", "ANI": "+12055550143", "Skill": "Billing",
            "IsInbound": "True", "StartTime": at, "StartTimeUTC": at, "LastStateChangeTime": at,
            "LastStateChangeTimeUTC": at, "ScreenPopUrl": "", "DisconnectCode": "", "IsLogging": "False",
            "Timeout": "", "AllowDispositions": "True", "IsLinked": "False", "FinalState": "False",
            "DeliveryType": "single", "CustomData": "", "ScreenPopUrlVariables": [{ "ani": "+12055550143" }] })
    );
    assert_eq!(
        answer.body["events"][3],
        json!({ "IISHost": "SANDBOX-WEB", "VCHost": "SANDBOX-VC", "Type": "PopURL", "ContactId": contact,
            "URL": "https://crm.example/caller", "TabTitle": "Caller", "PopDestination": "ContactPanel",
            "PopoutWindowHeight": "600", "PopoutWindowWidth": "800", "ClosePopoutUponTermination": "True" })
    );
    id = answer.id();
    sandbox.advance(Duration::from_secs(1));

    for (action, want) in [
        ("accept", vec!["AgentLeg Active False", "CallContactEvent Active False"]),
        ("hold", vec!["CallContactEvent Holding False"]),
        ("resume", vec!["CallContactEvent Active False"]),
        ("mask", vec!["CallContactEvent Masking False"]),
        ("unmask", vec!["CallContactEvent Active False"]),
        ("end", vec!["CallContactEvent Disconnected False", "AgentState Unavailable"]),
        ("disposition", vec!["CallContactEvent Disconnected True", "AgentState Available"]),
    ] {
        let done = client.post(&format!("/{}/interactions/{contact}/{action}", encoded(&id)), json!({})).await;
        assert_eq!(done.status, 202, "{action}: {}", done.text);
        let answer = client.poll(&id, 60).await;
        assert_eq!(answer.events(), want, "{action}");
        if action == "end" {
            let after = &answer.body["events"][1];
            assert_eq!((after["IsAcw"].as_str(), after["AcwTimeout"].as_str()), (Some("True"), Some("30")));
            assert_eq!(after["NextStates"], json!([{ "State": "Available", "OutReason": "" }]));
        }
        let events = answer.body["events"].as_array().unwrap();
        let call = events.iter().find(|event| event["Type"] == "CallContactEvent").unwrap();
        assert_eq!(call["DisconnectCode"], if call["Status"] == "Disconnected" { "1" } else { "" }, "{action}");
        assert_eq!(call["LastStateChangeTime"], call["LastStateChangeTimeUTC"]);
        assert!(call["LastStateChangeTimeUTC"].as_str() > Some(&at), "{action}");
        id = answer.id();
    }
    let gone = client.post(&format!("/{}/interactions/{contact}/hold", encoded(&id)), json!({})).await;
    assert_eq!(gone.status, 404);

    let held = client.hold(&id).await;
    assert_eq!(client.end(&id, "").await.status, 202);
    let answer = held.await.unwrap();
    assert_eq!(answer.events(), ["AgentSessionEnd"]);
    assert_eq!(answer.body["events"][0]["Success"], "True");
    let over = client.poll(&answer.id(), 60).await;
    assert_eq!(
        (over.status, over.branch(), over.header("icStatusDescription")),
        (409, Some("4"), Some("AgentSessionEnded"))
    );
    assert!(client.center.events().iter().all(|event| event.fate == Fate::Answered));
}

#[tokio::test]
async fn f01_polls_are_quiet_after_their_timeout_and_not_before() {
    let (sandbox, client) = sandbox(|_| {}).await;
    let id = client.live().await;
    for _ in 0..10 {
        let mut held = client.hold(&id).await;
        sandbox.advance(MINUTE - Duration::from_secs(2));
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut held).await.is_err(), "too early");
        sandbox.advance(Duration::from_secs(2));
        let answer = held.await.unwrap();
        assert_eq!((answer.status, answer.branch(), answer.text.as_str()), (304, Some("2"), ""));
        assert_eq!(answer.header("icStatusDescription"), Some("No new events"));
    }
    client.center.push(&json!({ "type": "CustomEvent", "eventName": "a" }).to_string()).unwrap();
    assert_eq!(client.poll(&id, 60).await.events(), ["a"]);
    let session = client.center.session().unwrap();
    assert_eq!((session.polls, session.overlaps, session.stale_polls, session.snapshots), (12, 0, 0, 0));
    assert!(session.longest_pause > Duration::ZERO);
}

#[tokio::test]
async fn an_agent_has_caught_up_when_all_is_delivered_and_the_next_poll_is_open() {
    let (_sandbox, client) = sandbox(|_| {}).await;
    let id = client.live().await;
    assert!(!client.center.wait_caught_up(Duration::ZERO).await);
    let held = client.hold(&id).await;
    assert!(client.center.wait_caught_up(SOON).await);
    client.center.push("{}").unwrap();
    assert!(!client.center.wait_caught_up(Duration::ZERO).await);
    assert_eq!(held.await.unwrap().status, 200);
}

#[tokio::test]
async fn f03_f26_timeouts_are_whole_seconds_from_0_to_60() {
    let (_sandbox, client) = sandbox(|_| {}).await;
    let id = client.start().await;
    let asked = async |query: &str| {
        sent(client.request(Method::GET, &format!("/{}/get-next-event{query}", encoded(&id)))).await
    };
    for query in
        ["", "?timeout=", "?timeout=x", "?timeout=-1", "?timeout=61", "?timeout=1.5", "?timeout=99999999999999999999"]
    {
        let answer = asked(query).await;
        assert_eq!((answer.status, answer.branch()), (400, Some("7")), "{query}");
    }
    assert_eq!(asked("?Timeout=0").await.status, 200);
    assert_eq!(client.poll(&client.center_id().await, 0).await.status, 304);
}

impl Client {
    /// The newest id, obtained by a join.
    async fn center_id(&self) -> String {
        let joined = self.post("/join", json!({})).await.id();
        self.poll(&joined, 0).await.id()
    }
}

#[tokio::test]
async fn f08_f09_f14_a_lost_answer_is_repeated_or_replaced_by_a_snapshot() {
    for (stale_id, branch_header) in [(StaleId::Snapshot, true), (StaleId::Snapshot, false), (StaleId::Replay, true)] {
        let (sandbox, client) =
            sandbox(|behavior| (behavior.stale_id, behavior.branch_header) = (stale_id, branch_header)).await;
        let id = client.live().await;
        let lost = sandbox.faults().inject(Operation::AgentPoll, Fault::reset().after_effect());
        client.center.push(&json!({ "type": "CustomEvent", "eventName": "a" }).to_string()).unwrap();
        let path = format!("/{}/get-next-event?timeout=60", encoded(&id));
        assert!(client.request(Method::GET, &path).send().await.is_err());
        assert_eq!(sandbox.faults().hits(lost), 1);
        let again = client.poll(&id, 60).await;
        let last = client.center.events().pop().unwrap();
        if stale_id == StaleId::Replay {
            assert_eq!((again.events(), again.branch()), (vec!["a".to_owned()], Some("1")));
            assert_eq!(last.fate, Fate::Answered);
        } else {
            assert_eq!(again.events(), ["AgentSessionStart", "AgentState Unavailable"]);
            assert_eq!(again.branch(), branch_header.then_some("3"));
            assert_eq!(last.fate, Fate::Missed);
        }
    }
}

#[tokio::test]
async fn f10_answers_are_truncated_or_half_of_their_json() {
    let (sandbox, client) = sandbox(|_| {}).await;
    let id = client.live().await;
    let push = || client.center.push(&json!({ "type": "CustomEvent", "eventName": "a" }).to_string()).unwrap();
    sandbox.faults().inject(Operation::AgentPoll, Fault::reset_mid_body());
    push();
    let path = format!("/{}/get-next-event?timeout=60", encoded(&id));
    let response = client.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.text().await.is_err());
    let snapshot = client.poll(&id, 60).await;
    assert_eq!(snapshot.branch(), Some("3"));
    sandbox.faults().inject(Operation::AgentPoll, Fault::cut_json());
    push();
    let half = client.poll(&snapshot.id(), 60).await;
    assert_eq!((half.status, &half.body), (200, &Value::Null));
    for length in ["10", "100000"] {
        sandbox.faults().inject(Operation::AgentPoll, Fault::amend().header("Content-Length", length));
        let request = client.request(Method::GET, &format!("/{}/get-next-event?timeout=60", encoded(&id)));
        let text = request.send().await.unwrap().text().await;
        assert!(text.as_ref().is_err() || text.as_ref().is_ok_and(|text| text.len() == 10), "{length}: {text:?}");
    }
    assert_eq!(client.poll(&id, 60).await.branch(), Some("3"), "the server continues");
}

#[tokio::test]
async fn f05_f06_f15_answers_can_lack_fields() {
    let (sandbox, client) = sandbox(|_| {}).await;
    let mut id = client.live().await;
    let event = json!({ "type": "CustomEvent", "eventName": "a" }).to_string();
    let held = client.hold(&id).await;
    client.center.end_poll().unwrap();
    let empty = held.await.unwrap();
    assert_eq!((empty.status, &empty.body["events"]), (200, &json!([])));
    assert_ne!(empty.id(), id);
    id = empty.id();
    for (fault, want) in [
        (Fault::amend().without_field("events"), None),
        (Fault::amend().without_field("sessionId"), None),
        (Fault::amend().field("sessionId", "".into()), Some(json!(""))),
        (Fault::amend().field("sessionId", Value::Null), Some(Value::Null)),
    ] {
        sandbox.faults().inject(Operation::AgentPoll, fault);
        client.center.push(&event).unwrap();
        let answer = client.poll(&id, 60).await;
        let field = if answer.body.get("events").is_none() { "events" } else { "sessionId" };
        assert_eq!(answer.body.get(field), want.as_ref(), "{}", answer.text);
        id = client.center_id().await;
    }
    for headers in [vec!["banana"], vec!["03"], vec!["3", "3"]] {
        let fault = headers.iter().fold(Fault::amend(), |fault, value| fault.header("icBranchValue", *value));
        sandbox.faults().inject(Operation::AgentPoll, fault);
        client.center.push(&event).unwrap();
        let answer = client.poll(&id, 60).await;
        assert_eq!(answer.headers.get_all("icBranchValue").iter().collect::<Vec<_>>(), headers);
        id = answer.id();
    }
}

#[tokio::test]
async fn f12_an_overflowing_queue_gives_a_snapshot_of_branch_three() {
    let (sandbox, client) = sandbox(|_| {}).await;
    let id = client.live().await;
    sandbox.behavior(|behavior| behavior.agent.queue_capacity = 10);
    let contact = client.center.call("+12055550143").unwrap();
    for n in 0..20 {
        client.center.push(&json!({ "type": "CustomEvent", "eventName": n.to_string() }).to_string()).unwrap();
    }
    let answer = client.poll(&id, 60).await;
    assert_eq!(answer.branch(), Some("3"));
    assert_eq!(
        answer.events(),
        ["AgentSessionStart", "AgentState InboundContact", "AgentLeg Dialing False", "CallContactEvent Incoming False"]
    );
    client.center.step(&contact, ContactStep::Reject).unwrap();
    assert_eq!(
        client.poll(&answer.id(), 60).await.events(),
        ["CallContactEvent Disconnected True", "AgentState Available"]
    );
}

#[tokio::test]
async fn f13_the_start_of_a_snapshot_need_not_come_first() {
    let (sandbox, client) = sandbox(|behavior| behavior.snapshot_order = SnapshotOrder::StartLast).await;
    client.start().await;
    client.center.call("+12055550143").unwrap();
    let joined = client.post("/join", json!({ "asAgentId": "" })).await;
    assert_eq!(joined.status, 202);
    let answer = client.poll(&joined.id(), 60).await;
    assert_eq!(answer.events().last().map(String::as_str), Some("AgentSessionStart"));
    assert_eq!(answer.branch(), Some("1"), "as the setting says");
    sandbox.behavior(|behavior| behavior.agent.snapshot_order = SnapshotOrder::Mixed);
    let mut orders = std::collections::BTreeSet::new();
    for _ in 0..20 {
        orders.insert(client.poll(&joined.id(), 60).await.events());
    }
    assert!(orders.len() > 3, "{orders:?}");
}

#[tokio::test]
async fn f32_concurrent_polls_are_counted_and_the_setting_decides() {
    let (sandbox, client) = sandbox(|_| {}).await;
    let id = client.live().await;
    let event = json!({ "type": "CustomEvent", "eventName": "a" }).to_string();
    let (older, newer) = (client.hold(&id).await, client.hold(&id).await);
    assert_eq!(older.await.unwrap().status, 304);
    client.center.push(&event).unwrap();
    let id = newer.await.unwrap().id();
    assert_eq!(client.center.session().unwrap().overlaps, 1);
    sandbox.behavior(|behavior| behavior.agent.concurrent = Concurrent::BothServed);
    let (older, newer) = (client.hold(&id).await, client.hold(&id).await);
    client.center.push(&event).unwrap();
    let (older, newer) = (older.await.unwrap(), newer.await.unwrap());
    assert_eq!((older.events(), newer.events()), (vec!["a".to_owned()], vec!["a".to_owned()]));
    sandbox.behavior(|behavior| behavior.agent.concurrent = Concurrent::SecondConflict);
    let id = client.center_id().await;
    let older = client.hold(&id).await;
    assert_eq!(client.poll(&id, 60).await.status, 409);
    client.center.push(&event).unwrap();
    assert_eq!(older.await.unwrap().status, 200);
}

#[tokio::test]
async fn f33_without_polls_the_session_ends_or_the_agent_is_unavailable() {
    let (sandbox, client) = sandbox(|_| {}).await;
    let id = client.live().await;
    let held = client.hold(&id).await;
    sandbox.advance(Duration::from_secs(59));
    client.center.end_poll().unwrap();
    let id = held.await.unwrap().id();
    assert!(client.center.wait_open_polls(0, SOON).await);
    sandbox.advance(Duration::from_secs(298));
    assert!(!client.center.session().unwrap().is_over);
    sandbox.advance(Duration::from_secs(2));
    assert!(client.center.wait_session(|session| session.is_over, SOON).await);
    let answer = client.poll(&id, 60).await;
    assert_eq!(answer.events(), ["RemoteAgentSessionEnd"]);
    let end = &answer.body["events"][0];
    assert_eq!((&end["Message"], &end["Success"]), (&json!("SessionTimeout"), &json!("True")));
    sandbox.advance(Duration::from_secs(120));
    let answer = client.poll(&id, 60).await;
    assert_eq!((answer.status, answer.branch()), (404, Some("5")));

    sandbox.behavior(|behavior| behavior.agent.idle = Idle::SetUnavailable);
    let body = json!({ "stationPhoneNumber": "+12055550100", "inactivityTimeout": 30 });
    let id = client.post("", body).await.id();
    let id = client.poll(&id, 0).await.id();
    client.post(&format!("/{}/state", encoded(&id)), json!({ "state": "Available" })).await;
    let id = client.poll(&id, 0).await.id();
    assert!(client.center.wait_open_polls(0, SOON).await);
    sandbox.advance(Duration::from_secs(31));
    assert!(client.center.wait_session(|session| session.state == "Unavailable", SOON).await);
    assert_eq!(client.poll(&id, 60).await.events(), ["AgentState Unavailable"]);
}

#[tokio::test]
async fn f42_ids_are_one_encoded_segment() {
    for form in [IdForm::Reserved, IdForm::Long] {
        let (_sandbox, client) = sandbox(|behavior| behavior.ids = form).await;
        let id = client.start().await;
        let answer = client.poll(&id, 0).await;
        assert_eq!(answer.status, 200);
        client.center.end_poll().unwrap();
        assert_eq!(client.poll(&answer.id(), 0).await.body["events"], json!([]));
        // Unencoded, it is another path; one that begins with a slash has no id.
        let raw = sent(client.request(Method::GET, &format!("/{id}/get-next-event?timeout=0"))).await;
        assert_eq!(raw.status, if id.starts_with('/') { 405 } else { 404 });
    }
}

#[tokio::test]
async fn f36_f41_events_are_passed_on_unchanged() {
    let (_sandbox, client) = sandbox(|_| {}).await;
    let id = client.live().await;
    let odd = [
        r#"{"Type":"Brand New","Nested":{"a":[1,null,true]}}"#,
        r#"{"Whatever":"1"}"#,
        r#"{"Type":null}"#,
        r#"{"Type":7}"#,
        "\"text\"",
        "[]",
        r#"{"Type":"Mute","agentMuted":"False","AgentMuted":"True"}"#,
        r#"{"type":"CustomEvent","eventName":"a","data":"\ud800\u0000"}"#,
        "{\"Type\":\"AgentState\",\t\"AcwTimeout\" : \"soon\"}",
    ];
    client.center.push_all(&odd).unwrap();
    let answer = client.poll(&id, 60).await;
    assert!(answer.text.ends_with(&format!("\"events\":[{}]}}", odd.join(","))), "{}", answer.text);
    assert!(client.center.push("{").is_err());
    assert!(client.center.push_all(&["{}", "x"]).is_err());
    assert_eq!(client.center.events().len(), 3 + odd.len(), "all or none");
}

#[tokio::test]
async fn f37_f38_the_settings_select_the_format_of_values_and_keys() {
    let (sandbox, client) = sandbox(|behavior| behavior.values = Values::Native).await;
    let id = client.start().await;
    let answer = client.poll(&id, 0).await;
    let started = &answer.body["events"][0];
    assert_eq!(
        (&started["CanMask"], &started["BusNo"], &started["StationCallerId"]),
        (&json!(true), &json!(990_001), &json!(null))
    );
    sandbox.behavior(|behavior| (behavior.agent.values, behavior.agent.casing) = (Values::Strings, Casing::Lower));
    let answer = client.poll(&id, 0).await;
    let started = &answer.body["events"][0];
    assert_eq!((&started["type"], &started["canmask"]), (&json!("AgentSessionStart"), &json!("True")));
    assert!(answer.body["sessionId"].is_string(), "the envelope is as ever");
    sandbox.behavior(|behavior| behavior.agent.casing = Casing::Random);
    let answer = client.poll(&id, 0).await;
    assert!(answer.body["events"][0].get("SupervisorPermissionLevel").is_none());
    assert!(answer.text.to_ascii_lowercase().contains("\"supervisorpermissionlevel\":\"0\""));
}

#[tokio::test]
async fn f44_f45_answers_have_another_form_or_end_their_connection() {
    let (sandbox, client) = sandbox(|_| {}).await;
    let mut id = client.live().await;
    let event = json!({ "type": "CustomEvent", "eventName": "a" }).to_string();
    let fault = Fault::amend().gzip().header("Content-Type", "text/json");
    for (fault, header) in [
        (fault, ("content-type", Some("text/json"))),
        (Fault::amend().chunked(), ("content-length", None)),
        (Fault::amend().byte_order_mark().without_header("content-type"), ("content-type", None)),
        (Fault::amend().header("Connection", "close"), ("connection", Some("close"))),
    ] {
        sandbox.faults().inject(Operation::AgentPoll, fault);
        client.center.push(&event).unwrap();
        let path = format!("/{}/get-next-event?timeout=60", encoded(&id));
        let response = client.request(Method::GET, &path).send().await.unwrap();
        let got = response.headers().get(header.0).map(|value| value.to_str().unwrap().to_owned());
        let is_gzipped = response.headers().get("content-encoding").is_some_and(|it| it == "gzip");
        assert!(is_gzipped || got.as_deref() == header.1, "{header:?} {got:?}");
        let _body = response.bytes().await.unwrap();
        id = client.center_id().await;
    }
    // The regular answer, compressed.
    sandbox.faults().inject(Operation::AgentPoll, Fault::amend().gzip());
    client.center.push(&event).unwrap();
    let path = format!("/{}/get-next-event?timeout=60", encoded(&id));
    let packed = client.request(Method::GET, &path).send().await.unwrap().bytes().await.unwrap();
    let answer: Value = serde_json::from_reader(flate2::read::GzDecoder::new(&*packed)).unwrap();
    assert_eq!(answer["events"][0]["eventName"], "a", "{answer}");
}

#[tokio::test]
async fn f46_only_the_latest_custom_event_of_a_name_is_delivered() {
    let (_sandbox, client) = sandbox(|_| {}).await;
    let id = client.live().await;
    for data in ["1", "2", "3"] {
        client.center.push(&json!({ "type": "CustomEvent", "eventName": "a", "data": data }).to_string()).unwrap();
    }
    let answer = client.poll(&id, 60).await;
    assert_eq!((answer.events(), answer.body["events"][0]["data"].as_str()), (vec!["a".to_owned()], Some("3")));
    let fates: Vec<Fate> = client.center.events().iter().skip(3).map(|event| event.fate).collect();
    assert_eq!(fates, [Fate::Overwritten, Fate::Overwritten, Fate::Answered]);
}

#[tokio::test]
async fn the_setting_selects_where_errors_are_reported() {
    let (sandbox, client) = sandbox(|_| {}).await;
    for (errors_in, in_header, in_body) in
        [(ErrorsIn::Both, true, true), (ErrorsIn::Header, true, false), (ErrorsIn::Body, false, true)]
    {
        sandbox.behavior(|behavior| behavior.agent.errors_in = errors_in);
        let answer = client.poll("nobody", 0).await;
        assert_eq!((answer.status, answer.branch()), (404, Some("5")));
        assert_eq!(answer.header("icStatusDescription").is_some(), in_header, "{errors_in:?}");
        assert_eq!(answer.body["error"].as_str(), in_body.then_some("InvalidAgentSession"));
        assert_eq!(answer.text.is_empty(), !in_body);
    }
    sandbox.behavior(|behavior| behavior.agent.branch_header = false);
    assert_eq!(client.poll("nobody", 0).await.branch(), None);
}

#[tokio::test]
async fn the_server_can_be_stopped_and_disconnected_alone() {
    let (sandbox, client) = sandbox(|_| {}).await;
    let id = client.live().await;
    let held = client.hold(&id).await;
    sandbox.reset_connections(Service::ContactCenter);
    assert!(held.await.is_err(), "the poll broke");
    assert!(client.center.wait_open_polls(0, SOON).await);
    sandbox.stop_service(Service::ContactCenter).await;
    let path = format!("/{}/get-next-event?timeout=0", encoded(&id));
    assert!(client.request(Method::GET, &path).send().await.is_err());
    let state = client.http.get(format!("{}/_sandbox/state", sandbox.base_url())).send().await.unwrap();
    assert_eq!(state.status(), 200);
    client.center.push(&json!({ "type": "CustomEvent", "eventName": "a" }).to_string()).unwrap();
    sandbox.start_service(Service::ContactCenter).await;
    assert_eq!(client.poll(&id, 60).await.events(), ["a"]);
}

#[tokio::test]
async fn debug_output_has_no_ids_and_no_tokens() {
    let (sandbox, client) = sandbox(|_| {}).await;
    let id = client.live().await;
    client.poll(&id, 0).await;
    let shown = format!("{:?} {:?} {sandbox:?}", sandbox.requests(), client.center);
    assert!(
        shown.contains("AgentPoll GET /inContactAPI/services/v23.0/agent-sessions/(id)/get-next-event -> 304"),
        "{shown}"
    );
    assert!(!shown.contains(&encoded(&id)) && !shown.contains(&id) && !shown.contains(&client.token), "{shown}");
    let recorded = sandbox.requests_to(Target::ContactCenter);
    assert_eq!(
        recorded.iter().map(|it| it.operation).collect::<Vec<_>>(),
        [Operation::AgentStart, Operation::AgentPoll, Operation::AgentPoll]
    );
}

fn custom(name: &str) -> String {
    json!({ "type": "CustomEvent", "eventName": name }).to_string()
}

fn fates(client: &Client) -> Vec<Fate> {
    client.center.events().iter().skip(3).map(|event| event.fate).collect()
}

/// An event that one program received is not missed because of another program's request.
#[tokio::test]
async fn the_fate_of_an_event_is_that_of_its_answer() {
    let (sandbox, client) = sandbox(|_| {}).await;
    let s1 = client.live().await;
    let held = client.hold(&s1).await;
    let joined = client.post("/join", json!({})).await.id();
    client.center.push(&custom("a")).unwrap();
    let s2 = held.await.unwrap().id();
    client.poll(&joined, 0).await;
    assert_eq!(fates(&client), [Fate::Answered]);
    // A poll with the id of the answer confirms its arrival.
    client.poll(&s2, 0).await;
    client.center.push(&custom("b")).unwrap();
    let newest = client.center_id().await;
    client.center.push(&custom("c")).unwrap();
    let lost = client.poll(&newest, 0).await;
    assert_eq!(lost.events(), ["c"]);
    client.poll(&s1, 0).await;
    assert_eq!(fates(&client), [Fate::Answered, Fate::Missed, Fate::Missed]);
    // Events in an answer that was lost before the end are not delivered again.
    let newest = client.center_id().await;
    client.center.push(&custom("d")).unwrap();
    client.poll(&newest, 0).await;
    client.center.terminate("RemoteLogoff").unwrap();
    assert_eq!(client.poll(&newest, 0).await.status, 409);
    assert_eq!(fates(&client)[3..], [Fate::Missed, Fate::Missed]);
    assert_eq!(client.center.session().unwrap().queued, 0);
    drop(sandbox);
}

#[tokio::test]
async fn a_join_may_have_an_independent_cursor() {
    let (_sandbox, client) = sandbox(|behavior| behavior.joined_ids = JoinedIds::OwnCursor).await;
    let mut first = client.live().await;
    let joined = client.post("/join", json!({})).await.id();
    let mut second = client.poll(&joined, 0).await.id();
    for name in ["a", "b"] {
        client.center.push(&custom(name)).unwrap();
        for id in [&mut first, &mut second] {
            let answer = client.poll(id, 0).await;
            assert_eq!((answer.events(), answer.branch()), (vec![name.to_owned()], Some("1")));
            *id = answer.id();
        }
    }
    assert_eq!(client.center.session().unwrap().snapshots, 1, "that of the join");
}

#[tokio::test]
async fn overwritten_events_take_no_room_in_the_queue() {
    let (sandbox, client) = sandbox(|_| {}).await;
    let id = client.live().await;
    sandbox.behavior(|behavior| behavior.agent.queue_capacity = 2);
    for name in ["a", "b", "a", "a"] {
        client.center.push(&custom(name)).unwrap();
    }
    let answer = client.poll(&id, 0).await;
    assert_eq!((answer.branch(), answer.events()), (Some("1"), vec!["b".to_owned(), "a".to_owned()]));
    for name in ["c", "c", "d", "e"] {
        client.center.push(&custom(name)).unwrap();
    }
    assert_eq!(client.poll(&answer.id(), 0).await.branch(), Some("3"), "three of them");
}

#[tokio::test]
async fn due_deadlines_fire_before_the_next_call() {
    let (sandbox, client) = sandbox(|_| {}).await;
    client.live().await;
    assert!(client.center.wait_open_polls(0, SOON).await);
    sandbox.advance(Duration::from_secs(301));
    assert!(client.center.push(&custom("late")).is_err());
    // Actions of the agent do not count as polls either.
    client.live().await;
    let contact = client.center.call("+12055550143").unwrap();
    assert!(client.center.wait_open_polls(0, SOON).await);
    sandbox.advance(Duration::from_secs(200));
    client.center.step(&contact, ContactStep::Answer).unwrap();
    sandbox.advance(Duration::from_secs(101));
    assert!(client.center.session().unwrap().is_over);
    // Changing a setting can make a deadline due.
    client.live().await;
    assert!(client.center.wait_open_polls(0, SOON).await);
    sandbox.behavior(|behavior| behavior.agent.inactivity_timeout = Duration::from_millis(1));
    assert!(client.center.wait_session(|session| session.is_over, SOON).await);
    // The longest durations work too.
    sandbox.behavior(|behavior| {
        (behavior.agent.token_ttl, behavior.agent.inactivity_timeout) = (Duration::MAX, Duration::MAX)
    });
    assert!(!client.center.access_token().expose().is_empty());
    client.live().await;
    let ended = client.center.wait_session(|session| session.is_over, Duration::MAX);
    assert!(tokio::time::timeout(Duration::from_millis(50), ended).await.is_err());
}

#[tokio::test]
async fn a_page_in_a_browser_may_call() {
    let (_sandbox, client) = sandbox(|_| {}).await;
    let asked = client.http.request(Method::OPTIONS, &client.base).header("Origin", "https://crm.example");
    let asked = asked.header("Access-Control-Request-Method", "POST");
    let answer = sent(asked.header("Access-Control-Request-Headers", "authorization,content-type")).await;
    assert_eq!(answer.status, 204);
    for (name, want) in [
        ("access-control-allow-origin", "https://crm.example"),
        ("access-control-allow-methods", "POST"),
        ("access-control-allow-headers", "authorization,content-type"),
    ] {
        assert_eq!(answer.header(name), Some(want));
    }
    let poll = client.request(Method::GET, "/x/get-next-event?timeout=0").header("Origin", "https://crm.example");
    let answer = sent(poll).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (404, Some("https://crm.example")));
    assert!(answer.header("access-control-expose-headers").is_some_and(|it| it.contains("icBranchValue")));
}

#[tokio::test]
async fn pushed_contacts_stay_open_until_they_end() {
    let (_sandbox, client) = sandbox(|behavior| behavior.end_with_contacts = EndWithContacts::Refused).await;
    let id = client.live().await;
    let odd = r#"{"Type":"CallContactEvent","ContactID":"8","Status":"Active","Custom":"\ud800"}"#;
    client.center.push_all(&[r#"{"Type":"CallContactEvent","ContactID":7,"FinalState":false}"#, odd]).unwrap();
    client.center.push(r#"{"Type":"Mute","AgentMuted":true}"#).unwrap();
    assert_eq!(client.center.session().unwrap().contacts, ["7", "8"]);
    client.center.step("8", ContactStep::Hold).unwrap();
    let text = client.center.events().pop().unwrap().text;
    assert!(text.contains(r#""Custom":"\ud800""#) && text.contains(r#""Status":"Holding""#), "{text}");
    assert_eq!(client.end(&id, "?endContacts=true").await.status, 202);
    assert!(client.center.session().unwrap().is_over);
}

#[tokio::test]
async fn the_setting_makes_ended_sessions_unknown_to_every_call() {
    let (_sandbox, client) = sandbox(|behavior| behavior.after_end = AfterEnd::Unknown).await;
    let id = client.live().await;
    client.center.terminate("RemoteLogoff").unwrap();
    let end = client.poll(&id, 0).await;
    assert_eq!(end.events(), ["RemoteAgentSessionEnd"]);
    assert_eq!(client.poll(&end.id(), 0).await.status, 404);
    assert_eq!(client.end(&end.id(), "").await.status, 404);
}

#[tokio::test]
async fn a_persistent_custom_event_is_repeated_in_the_next_session() {
    let (_sandbox, client) = sandbox(|_| {}).await;
    assert!(client.center.push_persistent(&custom("a")).is_err(), "no session");
    client.live().await;
    assert!(client.center.push_persistent(r#"{"Type":"Mute"}"#).is_err());
    client.center.push_persistent(&custom("a")).unwrap();
    client.center.push_persistent(&custom("b")).unwrap();
    client.center.push_persistent(&custom("a")).unwrap();
    client.center.push(&custom("c")).unwrap();
    for _ in 0..2 {
        client.center.terminate("RemoteLogoff").unwrap();
        let first = client.poll(&client.start().await, 0).await;
        assert_eq!(first.events()[3..], ["b", "a"]);
    }
}
