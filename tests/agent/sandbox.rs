//! The faults of agent sessions (F01 to F50), injected by the sandbox and handled by this crate's client. Faults that
//! concern only numbers are tested with the rules of polling.

use std::time::Duration;

use crate::support::agent::*;
use ringcentral_events::agent::auth::{AccessKeys, CentralTokens, CxOneTokens};
use ringcentral_events::agent::{
    AgentCursor, AgentDelivery, AgentEvents, AgentOrigin, AgentSession, AgentSessionBuilder, Desk, EndSession,
    OnExisting,
};
use ringcentral_events::auth::TokenProvider;
use ringcentral_events::{ErrorKind, Phase};
use ringcentral_sandbox::agent::{
    AgentBehavior, Casing, ContactCenter, ContactStep, ErrorsIn, ExistingSession, Fate, IdForm, SnapshotOrder, StaleId,
    Values,
};
use ringcentral_sandbox::{Fault, Operation, Recorded, Sandbox, Service, Target};
use serde_json::{Value, json};

const FIRST: [&str; 3] = ["AgentSessionStart", "AgentState", "UpdateIndicators"];

fn cxone(center: &ContactCenter) -> CxOneTokens {
    let ((client, secret), (key, key_secret)) = (center.client(), center.access_key());
    CxOneTokens::builder(&client, secret, key, key_secret).issuer(center.url()).build().unwrap()
}

fn builder(tokens: impl TokenProvider) -> AgentSessionBuilder {
    AgentSession::builder(tokens).phone_number("+12055550100")
}

async fn sandbox(change: impl FnOnce(&mut AgentBehavior)) -> (Sandbox, ContactCenter) {
    let sandbox = Sandbox::builder().behavior(|behavior| change(&mut behavior.agent)).start().await.unwrap();
    let center = sandbox.contact_center();
    (sandbox, center)
}

/// A session, and its stream after the first batch.
async fn live(center: &ContactCenter) -> (AgentSession, AgentEvents) {
    live_with(builder(cxone(center))).await
}

async fn live_with(builder: AgentSessionBuilder) -> (AgentSession, AgentEvents) {
    let session = builder.start().await.unwrap();
    let mut events = session.events().unwrap();
    assert_eq!(words(&mut events, 3).await, FIRST);
    (session, events)
}

fn event(value: &Value) -> String {
    value.to_string()
}

fn push(center: &ContactCenter, name: &str) {
    center.push(&event(&custom(name))).unwrap();
}

/// Waits until the next poll is open: a fault that is injected now hits the one after it.
async fn held(center: &ContactCenter) {
    assert!(center.wait_open_polls(1, SOON).await);
}

/// Drops a stream whose poll is open, and waits until that poll is closed and the session unchanged.
async fn left(center: &ContactCenter, events: AgentEvents) {
    held(center).await;
    drop(events);
    assert!(center.wait_open_polls(0, SOON).await);
}

/// The id and the timeout of each poll, from its path.
fn polled(sandbox: &Sandbox) -> Vec<(String, String)> {
    let part = |record: &Recorded| {
        let id = record.path().rsplit('/').nth(1).unwrap().to_owned();
        (id, record.query("timeout").unwrap())
    };
    sandbox.requests_to(Operation::AgentPoll).iter().map(part).collect()
}

#[tokio::test]
async fn f01_f03_quiet_polls_follow_each_other_with_the_same_id() {
    for timeout in [0, 1, 60] {
        let (sandbox, center) = sandbox(|_| {}).await;
        let (_session, mut events) =
            live_with(builder(cxone(&center)).poll_timeout(Duration::from_secs(timeout))).await;
        for quiet in 2..=4 {
            if timeout > 0 {
                assert!(center.wait_session(|it| it.open_polls == 1 && it.polls == quiet, SOON).await);
                sandbox.advance(Duration::from_secs(timeout));
            }
        }
        assert!(center.wait_session(|session| session.polls >= 5, SOON).await);
        push(&center, "a");
        assert_eq!(word(&mut events).await, "CustomEvent");
        let polls = polled(&sandbox);
        assert!(polls[1..5].iter().all(|poll| *poll == polls[1]), "{timeout}");
        assert_eq!(polls[1].1, timeout.to_string());
        let session = center.session().unwrap();
        assert_eq!((session.overlaps, session.stale_polls, session.snapshots), (0, 0, 0));
    }
}

/// Endless immediate answers do not cause endless immediate polls, and a drop ends the polls.
#[tokio::test]
async fn f02_a_service_that_answers_at_once_is_paced() {
    let (sandbox, center) = sandbox(|_| {}).await;
    let (_session, events) = live(&center).await;
    held(&center).await;
    let fault = sandbox.faults().inject(Operation::AgentPoll, Fault::status(304).until_cleared());
    sandbox.reset_connections(Service::ContactCenter);
    assert!(sandbox.faults().wait_hits(fault, 5, SOON).await);
    // From then on it waits for a second, then for two; longer on a slow machine.
    assert!(!sandbox.faults().wait_hits(fault, 8, Duration::from_millis(500)).await);
    drop(events);
    sandbox.faults().clear_all();
    assert!(center.wait_open_polls(0, SOON).await);
    assert!(!center.session().unwrap().is_over);
}

/// The service ends a session that is not polled, and nothing forces a program to request the stream at once.
#[tokio::test]
async fn a_session_polls_from_its_start_on_and_its_stream_has_everything_since() {
    let (_sandbox, center) = sandbox(|_| {}).await;
    let session = builder(cxone(&center)).start().await.unwrap();
    for (name, polls) in [("a", 2), ("b", 3)] {
        assert!(center.wait_session(|it| it.polls >= polls && it.open_polls == 1, SOON).await, "{name}");
        push(&center, name);
    }
    assert!(center.wait_session(|it| it.polls >= 4 && it.open_polls == 1, SOON).await);
    let mut events = session.events().unwrap();
    let first = word(&mut events).await;
    assert_eq!(
        (first.as_str(), words(&mut events, 3).await.pop().unwrap().as_str()),
        ("AgentSessionStart", "CustomEvent")
    );
    assert_eq!(session.events().unwrap_err().kind(), ErrorKind::Busy);
    drop(events);
    assert!(center.wait_open_polls(0, SOON).await);

    // Nor does a session that is dropped before its stream is requested go on polling.
    let second = builder(cxone(&center)).on_existing(OnExisting::Join).start().await.unwrap();
    assert!(center.wait_open_polls(1, SOON).await);
    drop(second);
    assert!(center.wait_open_polls(0, SOON).await);
}

#[tokio::test]
async fn f04_the_next_poll_is_open_without_a_reader() {
    let (sandbox, center) = sandbox(|_| {}).await;
    let (_session, mut events) = live(&center).await;
    let stored = events.cursor();
    for (name, polls) in [("a", 2), ("b", 3)] {
        assert!(center.wait_session(|session| session.polls == polls && session.open_polls == 1, SOON).await);
        push(&center, name);
    }
    assert!(center.wait_session(|session| session.polls == 4 && session.open_polls == 1, SOON).await);
    assert_eq!(events.cursor(), stored, "nothing was read");
    assert_eq!(words(&mut events, 2).await, ["CustomEvent", "CustomEvent"]);
    let ids: std::collections::BTreeSet<_> = polled(&sandbox).into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 4, "each with the newest id");
}

#[tokio::test]
async fn f05_f06_f15_f44_f45_answers_of_every_form_are_read() {
    let (sandbox, center) = sandbox(|_| {}).await;
    let (_session, mut events) = live(&center).await;
    for fault in [
        Fault::amend().header("icBranchValue", "banana"),
        Fault::amend().header("icBranchValue", "03"),
        Fault::amend().header("icBranchValue", "3").header("icBranchValue", "3"),
        Fault::amend().without_header("icBranchValue"),
        Fault::amend().gzip().chunked(),
        Fault::amend().byte_order_mark().header("Content-Type", "text/json"),
        Fault::amend().without_header("Content-Type"),
        Fault::amend().header("Connection", "close"),
        Fault::amend().header("Connection", "close"),
    ] {
        held(&center).await;
        sandbox.faults().inject(Operation::AgentPoll, fault);
        center.end_poll().unwrap();
        assert!(center.wait_session(|session| session.open_polls == 1, SOON).await);
        push(&center, "a");
        assert_eq!(word(&mut events).await, "CustomEvent");
    }
    // Without an id the old one remains valid: the next answer is a snapshot.
    for fault in [Fault::amend().without_field("sessionId"), Fault::amend().field("sessionId", "".into())] {
        held(&center).await;
        sandbox.faults().inject(Operation::AgentPoll, fault);
        push(&center, "b");
        assert_eq!(word(&mut events).await, "CustomEvent");
        push(&center, "c");
        assert_eq!(words(&mut events, 1).await, ["CustomEvent"]);
        assert_eq!(words(&mut events, 4).await, ["gap events_missed", "AgentSessionStart", "AgentState", "resumed"]);
    }
    held(&center).await;
    sandbox.faults().inject(Operation::AgentPoll, Fault::amend().without_field("events"));
    center.end_poll().unwrap();
    assert!(center.wait_session(|session| session.open_polls == 1, SOON).await);
    center.end_poll().unwrap();
    push(&center, "d");
    assert_eq!(word(&mut events).await, "CustomEvent");
    assert_eq!(center.session().unwrap().overlaps, 0);
}

#[tokio::test]
async fn f07_five_megabytes_of_events_arrive_in_order() {
    let (_sandbox, center) = sandbox(|_| {}).await;
    let (_session, mut events) = live_with(builder(cxone(&center)).queue_bytes(256 * 1024)).await;
    held(&center).await;
    let many: Vec<String> = (0..5_000)
        .map(|n| event(&json!({ "type": "CustomEvent", "eventName": n.to_string(), "data": "d".repeat(1_000) })))
        .collect();
    center.push_all(&many).unwrap();
    for text in &many {
        assert_eq!(notification(&mut events).await.raw().get().get(), text);
    }
    assert_eq!(center.session().unwrap().overlaps, 0);
}

#[tokio::test]
async fn f08_f10_f13_f14_a_lost_answer_is_a_gap_and_a_snapshot() {
    for (fault, order) in [
        (Fault::reset().after_effect(), SnapshotOrder::StartFirst),
        (Fault::close().after_effect(), SnapshotOrder::StartLast),
        (Fault::reset_mid_body(), SnapshotOrder::Mixed),
        (Fault::hang().after_effect(), SnapshotOrder::StartLast),
    ] {
        let (sandbox, center) =
            sandbox(|behavior| (behavior.snapshot_order, behavior.branch_header) = (order, false)).await;
        let margin = Duration::from_millis(300);
        let builder = builder(cxone(&center)).poll_timeout(Duration::from_secs(1)).margin(margin);
        let (session, mut events) = live_with(builder).await;
        let mut desk = Desk::new();
        for contact in [center.call("+12055550143").unwrap(), center.call("+12055550144").unwrap()] {
            center.step(&contact, ContactStep::Answer).unwrap();
        }
        while desk.contacts().count() < 2 {
            desk.apply(&next(&mut events).await.unwrap().unwrap());
        }
        let gone = desk.contacts().next().unwrap().0.to_string();
        let pushed = center.events().len();
        // The open poll is the lost one.
        let scripted = sandbox.faults().inject(Operation::AgentPoll, fault.clone());
        sandbox.reset_connections(Service::ContactCenter);
        center.step(&gone, ContactStep::Finish).unwrap();
        push(&center, "lost");
        let mut delivered = Vec::new();
        while delivered.last().map(String::as_str) != Some("resumed") {
            let delivery = next(&mut events).await.unwrap().unwrap();
            desk.apply(&delivery);
            delivered.push(name(&delivery));
        }
        if sandbox.faults().hits(scripted) == 0 {
            // The loss hit the broken poll; the next one is complete.
            continue;
        }
        let at = delivered
            .iter()
            .position(|word| word == "gap answer_lost")
            .unwrap_or_else(|| panic!("{delivered:?} {fault:?}"));
        assert_eq!(delivered[at + 1], "AgentSessionStart", "{delivered:?}");
        assert!(delivered.contains(&format!("gone {gone}")), "{delivered:?}");
        assert_eq!(desk.contacts().count(), 1);
        assert!(!desk.is_stale());
        for event in &center.events()[pushed..] {
            assert!(matches!(event.fate, Fate::Missed | Fate::Answered), "{event:?}");
        }
        assert_eq!(center.session().unwrap().overlaps, 0);
        assert_eq!(session.status().current().phase, Phase::Live);
    }
}

#[tokio::test]
async fn f09_a_lost_batch_that_is_sent_again_is_delivered_once() {
    let (sandbox, center) = sandbox(|behavior| behavior.stale_id = StaleId::Replay).await;
    let (_session, mut events) = live(&center).await;
    held(&center).await;
    sandbox.faults().inject(Operation::AgentPoll, Fault::reset().after_effect());
    push(&center, "a");
    push(&center, "b");
    push(&center, "c");
    let mut delivered = Vec::new();
    for _ in 0..3 {
        let event = notification(&mut events).await;
        assert_eq!(event.origin(), AgentOrigin::Live);
        delivered.push(event.raw().parse::<Value>().unwrap()["eventName"].as_str().unwrap().to_owned());
    }
    assert_eq!(delivered, ["a", "b", "c"]);
    assert!(center.events().iter().all(|event| event.fate == Fate::Answered));
}

#[tokio::test]
async fn f11_a_crashed_program_resumes_at_its_position() {
    let (_sandbox, center) = sandbox(|_| {}).await;
    let (_session, mut events) = live(&center).await;
    let stored = events.cursor();
    held(&center).await;
    push(&center, "a");
    assert_eq!(word(&mut events).await, "CustomEvent");
    let newest = events.cursor();
    left(&center, events).await;
    push(&center, "b");
    // With the position after the last read event nothing is missing.
    let session = builder(cxone(&center)).resume(AgentCursor::from_text(newest.expose())).unwrap();
    let mut events = session.events().unwrap();
    assert_eq!(word(&mut events).await, "CustomEvent");
    drop(events);
    // With an older position the service sends a snapshot.
    let session = builder(cxone(&center)).resume(stored).unwrap();
    let mut events = session.events().unwrap();
    assert_eq!(words(&mut events, 4).await, ["gap events_missed", "AgentSessionStart", "AgentState", "resumed"]);
}

#[tokio::test]
async fn f12_an_overflow_at_the_service_is_a_certain_gap() {
    let (sandbox, center) = sandbox(|_| {}).await;
    let (session, mut events) = live(&center).await;
    let contact = center.call("+12055550143").unwrap();
    assert_eq!(words(&mut events, 4).await.len(), 4);
    left(&center, events).await;
    sandbox.behavior(|behavior| behavior.agent.queue_capacity = 3);
    center.step(&contact, ContactStep::Reject).unwrap();
    for name in ["a", "b", "c", "d"] {
        push(&center, name);
    }
    let mut events = session.events().unwrap();
    let Some(Ok(AgentDelivery::Gap(gap))) = next(&mut events).await else { panic!() };
    assert_eq!((gap.cause.as_str(), gap.certainty.as_str()), ("events_missed", "certain"));
    let delivered = words(&mut events, 4).await;
    assert_eq!(delivered[..3], ["AgentSessionStart", "AgentState", "AgentLeg"]);
    push(&center, "e");
    let mut delivered = delivered;
    while delivered.last().map(String::as_str) != Some("CustomEvent") {
        delivered.push(word(&mut events).await);
    }
    assert!(delivered.contains(&"resumed".to_owned()), "{delivered:?}");
}

#[tokio::test]
async fn f16_f18_f19_expired_tokens_are_replaced() {
    let (sandbox, center) = sandbox(|_| {}).await;
    for tokens in [0, 1, 2] {
        let (key, secret) = center.access_key();
        let (app, user, password) = center.central_login();
        let builder = match tokens {
            0 => builder(cxone(&center)),
            1 => builder(AccessKeys::builder("unused", key, secret).base_url(center.url()).build().unwrap()),
            _ => builder(CentralTokens::builder(app, user, password).token_url(center.central_url()).build().unwrap()),
        };
        let (session, mut events) = live_with(builder.poll_timeout(Duration::from_secs(1))).await;
        center.expire_tokens();
        sandbox.faults().inject(Operation::AgentToken, Fault::status(500).times(2));
        push(&center, "a");
        // The open poll may still have delivered it; the next one is refused.
        assert_eq!(word(&mut events).await, "CustomEvent");
        assert!(
            sandbox.wait_for(|it| it.operation == Operation::AgentPoll && it.status == Some(401), SOON).await.is_some()
        );
        push(&center, "b");
        assert_eq!(word(&mut events).await, "CustomEvent");
        let seen = center.session().unwrap();
        assert_eq!((seen.overlaps, seen.stale_polls), (0, 0), "the same id");
        session.end(EndSession::new()).await.unwrap();
        assert_eq!(words(&mut events, 2).await, ["AgentSessionEnd", "ended asked"]);
        sandbox.clear_requests();
        sandbox.faults().clear_all();
    }
    // Tokens that live for 5 s of a clock that jumps: a poll is refused, and repeated.
    sandbox.behavior(|behavior| behavior.agent.token_ttl = Duration::from_secs(5));
    let (_session, mut events) = live_with(builder(cxone(&center)).poll_timeout(Duration::from_secs(1))).await;
    for name in ["a", "b", "c"] {
        sandbox.advance(Duration::from_secs(4));
        push(&center, name);
        assert_eq!(word(&mut events).await, "CustomEvent");
    }
}

#[tokio::test]
async fn found_6_4_consecutive_refused_tokens_do_not_end_the_stream() {
    let (sandbox, center) = sandbox(|_| {}).await;
    let (session, mut events) = live(&center).await;
    held(&center).await;
    sandbox.faults().inject(Operation::AgentPoll, Fault::status(401).times(3));
    push(&center, "a");
    assert_eq!(word(&mut events).await, "CustomEvent");
    push(&center, "b");
    assert_eq!(word(&mut events).await, "CustomEvent");
    assert_eq!(session.status().current().phase, Phase::Live);
    assert!(!center.session().unwrap().is_over);
}

#[tokio::test]
async fn f20_the_sessions_move_with_the_token() {
    let (sandbox, center) = sandbox(|_| {}).await;
    let (app, user, password) = center.central_login();
    let tokens = CentralTokens::builder(app, user, password).token_url(center.central_url()).build().unwrap();
    let (_session, mut events) = live_with(builder(tokens)).await;
    let moved = format!("{}/moved/InContactAPI/", center.url().replace("127.0.0.1", "localhost"));
    sandbox.behavior(|behavior| behavior.agent.resource_server = Some(moved));
    held(&center).await;
    center.expire_tokens();
    push(&center, "a");
    assert_eq!(word(&mut events).await, "CustomEvent");
    held(&center).await;
    push(&center, "b");
    assert_eq!(word(&mut events).await, "CustomEvent");
    let requests = sandbox.requests_to(Target::ContactCenter);
    let last = requests.last().unwrap();
    assert!(last.path().starts_with("/moved/InContactAPI/services/"), "{last:?}");
    assert!(last.headers["host"].to_str().unwrap().starts_with("localhost:"));
}

#[tokio::test]
async fn f21_f22_f23_f26_f43_refusals_end_the_stream() {
    for errors_in in [ErrorsIn::Both, ErrorsIn::Header, ErrorsIn::Body] {
        let (sandbox, center) = sandbox(|behavior| behavior.errors_in = errors_in).await;
        for (fault, want) in [
            (Fault::status(403).header("icStatusDescription", "invalid security user"), "error permission"),
            (Fault::status(400), "error rejected"),
            (Fault::status(302).header("Location", "http://127.0.0.1:9/"), "error protocol"),
            (Fault::status(409), "ended conflict"),
        ] {
            let (session, mut events) = live(&center).await;
            held(&center).await;
            let polls = sandbox.requests_to(Operation::AgentPoll).len();
            sandbox.faults().inject(Operation::AgentPoll, fault);
            center.end_poll().unwrap();
            assert_eq!(words(&mut events, 2).await, [want, "none"]);
            assert_eq!(sandbox.requests_to(Operation::AgentPoll).len(), polls + 1, "no further poll");
            assert_eq!(session.events().unwrap_err().kind(), ErrorKind::Closed);
            center.terminate("RemoteLogoff").unwrap();
        }
        let unknown = builder(cxone(&center)).resume(AgentCursor::from_text("garbled/+=%")).unwrap();
        let mut events = unknown.events().unwrap();
        assert_eq!(word(&mut events).await, "gap answer_lost", "since the position was stored");
        let Some(Err(error)) = next(&mut events).await else { panic!() };
        assert_eq!(error.kind(), ErrorKind::SessionLost);
        assert!(error.to_string().contains("InvalidAgentSession") || errors_in != ErrorsIn::Header, "{error}");
    }
}

#[tokio::test]
async fn f24_f25_f49_f50_a_session_ends_after_its_last_events() {
    let (sandbox, center) = sandbox(|_| {}).await;
    let (_session, mut events) = live(&center).await;
    held(&center).await;
    let end = json!({ "Type": "AgentSessionEnd", "Success": "True" });
    center.push_all(&[event(&custom("a")), event(&end), event(&custom("b"))]).unwrap();
    let delivered = words(&mut events, 5).await;
    assert_eq!(delivered, ["CustomEvent", "AgentSessionEnd", "CustomEvent", "ended asked", "none"]);
    for (message, want) in [
        ("RemoteLogoff", &["RemoteAgentSessionEnd", "ended remote_logoff", "none"][..]),
        // Since no poll arrived for too long.
        ("SessionTimeout", &["gap session_lost", "RemoteAgentSessionEnd", "resumed", "ended session_timeout", "none"]),
    ] {
        let (_session, mut events) = live(&center).await;
        held(&center).await;
        center.terminate(message).unwrap();
        assert_eq!(words(&mut events, want.len()).await, want);
    }
    let (session, mut events) = live(&center).await;
    held(&center).await;
    session.end(EndSession::new().force_logoff(true)).await.unwrap();
    assert_eq!(words(&mut events, 3).await, ["AgentSessionEnd", "ended asked", "none"]);
    session.end(EndSession::new()).await.unwrap();
    let (session, mut events) = live(&center).await;
    held(&center).await;
    sandbox.faults().inject(Operation::AgentEnd, Fault::status(404));
    session.end(EndSession::new()).await.unwrap();
    center.terminate("RemoteLogoff").unwrap();
    assert_eq!(words(&mut events, 1).await, ["RemoteAgentSessionEnd"]);
    assert_eq!(center.session().unwrap().overlaps, 0);
}

#[tokio::test]
async fn f27_f28_transient_errors_are_retried_with_the_same_id() {
    let (sandbox, center) = sandbox(|_| {}).await;
    let (_session, mut events) = live(&center).await;
    for fault in [
        Fault::status(429).header("Retry-After", "1"),
        Fault::status(429).header("Retry-After", "soon"),
        Fault::html(502),
        Fault::status(503),
    ] {
        held(&center).await;
        sandbox.clear_requests();
        sandbox.faults().inject(Operation::AgentPoll, fault);
        push(&center, "a");
        assert_eq!(word(&mut events).await, "CustomEvent");
        assert!(sandbox.wait_requests(Operation::AgentPoll, 2, SOON).await);
        push(&center, "b");
        assert_eq!(word(&mut events).await, "CustomEvent");
        let polls = polled(&sandbox);
        assert_eq!(polls[0].0, polls[1].0);
        assert_eq!((&*polls[0].1, &*polls[1].1), ("60", "1"), "while polls fail");
    }
    assert_eq!(center.session().unwrap().stale_polls, 0);
}

#[tokio::test]
async fn f29_f30_f31_polls_have_a_deadline_and_a_margin() {
    let (sandbox, center) = sandbox(|behavior| behavior.answer_late = Duration::from_secs(5)).await;
    let (_session, mut events) = live(&center).await;
    held(&center).await;
    sandbox.advance(Duration::from_secs(64));
    assert!(!center.wait_session(|session| session.polls > 2, Duration::from_millis(100)).await);
    sandbox.advance(Duration::from_secs(1));
    assert!(center.wait_session(|session| session.polls == 3, SOON).await);
    push(&center, "a");
    assert_eq!(word(&mut events).await, "CustomEvent");
    center.terminate("RemoteLogoff").unwrap();
    for fault in [Fault::hang(), Fault::blackhole(), Fault::drip(1, Duration::from_millis(100))] {
        let builder = builder(cxone(&center)).poll_timeout(Duration::ZERO).margin(Duration::from_millis(400));
        let session = builder.start().await.unwrap();
        let hit = sandbox.faults().inject(Operation::AgentPoll, fault.clone());
        let mut events = session.events().unwrap();
        assert!(sandbox.faults().wait_hits(hit, 1, SOON).await);
        let first = word(&mut events).await;
        // The branch marks a gap as such.
        let known = ["AgentSessionStart", "gap answer_lost", "gap events_missed"];
        assert!(known.contains(&&*first), "{first} {fault:?}");
        drop(events);
        center.terminate("RemoteLogoff").unwrap();
    }
}

#[tokio::test]
async fn f32_f48_only_one_stream_at_a_time_and_a_drop_does_not_end_the_session() {
    let (_sandbox, center) = sandbox(|_| {}).await;
    let (session, events) = live(&center).await;
    held(&center).await;
    assert_eq!(session.events().unwrap_err().kind(), ErrorKind::Busy);
    drop(events);
    assert!(center.wait_open_polls(0, SOON).await, "the poll is closed");
    assert!(!center.session().unwrap().is_over);
    let joined = builder(cxone(&center)).join().await.unwrap();
    let mut events = joined.events().unwrap();
    assert_eq!(words(&mut events, 4).await, ["gap session_joined", "AgentSessionStart", "AgentState", "resumed"]);
    assert_eq!(center.session().unwrap().overlaps, 0);
}

#[tokio::test]
async fn f33_an_unpolled_session_ends_with_its_reason() {
    let (sandbox, center) = sandbox(|_| {}).await;
    let tokens = cxone(&center);
    let builder = builder(tokens).inactivity_timeout(Duration::from_secs(30));
    let (session, events) = live_with(builder).await;
    left(&center, events).await;
    sandbox.advance(Duration::from_secs(31));
    assert!(center.wait_session(|session| session.is_over, SOON).await);
    let mut events = session.events().unwrap();
    let want = ["gap session_lost", "RemoteAgentSessionEnd", "resumed", "ended session_timeout", "none"];
    assert_eq!(words(&mut events, want.len()).await, want);
}

#[tokio::test]
async fn f34_f35_an_existing_session_is_joined() {
    for existing in [ExistingSession::Conflict, ExistingSession::BadRequest] {
        let (sandbox, center) = sandbox(|behavior| behavior.existing_session = existing).await;
        let (_session, events) = live(&center).await;
        drop(events);
        sandbox.behavior(|behavior| behavior.agent.started_status = 200);
        let session = builder(cxone(&center)).start().await.unwrap();
        let mut events = session.events().unwrap();
        assert_eq!(words(&mut events, 2).await, ["gap session_joined", "AgentSessionStart"]);
        drop(events);
        center.terminate("RemoteLogoff").unwrap();
        sandbox.faults().inject(Operation::AgentStart, Fault::status(202));
        assert_eq!(builder(cxone(&center)).start().await.unwrap_err().kind(), ErrorKind::Protocol);
    }
}

#[tokio::test]
async fn f36_f37_f38_f40_events_of_every_form_are_typed_or_raw() {
    let (sandbox, center) = sandbox(|_| {}).await;
    let odd = [
        (r#"{"Type":"BrandNewEvent","Nested":{"a":[1,null,true]}}"#, "Unknown"),
        (r#"{"Whatever":"1"}"#, "Unknown"),
        (r#"{"Type":7}"#, "Unknown"),
        ("[]", "Unknown"),
        (r#"{"Type":"AgentState","CurrentState":"Available","NextStates":{"State":"Dialer"}}"#, "AgentState"),
        (r#"{"type":"CustomEvent","eventName":"a","data":"\ud800\u0000"}"#, "CustomEvent"),
        (r#"{"Type":"Mute","AgentMuted":" TRUE "}"#, "Mute"),
    ];
    let (_session, mut events) = live(&center).await;
    held(&center).await;
    let texts: Vec<&str> = odd.iter().map(|(text, _)| *text).collect();
    center.push_all(&texts).unwrap();
    for (text, kind) in odd {
        let delivered = notification(&mut events).await;
        assert_eq!((delivered.event().kind().as_str(), delivered.raw().get().get()), (kind, text));
    }
    let mut desks = Vec::new();
    for (values, casing) in [
        (Values::Strings, Casing::Documented),
        (Values::Native, Casing::Lower),
        (Values::Native, Casing::Random),
        (Values::Strings, Casing::Random),
    ] {
        sandbox.behavior(|behavior| (behavior.agent.values, behavior.agent.casing) = (values, casing));
        let contact = center.call("+12055550143").unwrap();
        center.step(&contact, ContactStep::HangUp).unwrap();
        let mut desk = Desk::new();
        for _ in 0..6 {
            desk.apply(&next(&mut events).await.unwrap().unwrap());
        }
        let (_, contact) = desk.contacts().next().unwrap();
        desks.push(format!(
            "{:?} {:?} {:?}",
            desk.state().map(|it| (&it.state, it.is_acw, it.acw_timeout)),
            contact.status,
            contact.channel
        ));
    }
    assert!(desks.iter().all(|desk| *desk == desks[0]), "{desks:?}");
}

#[tokio::test]
async fn f42_ids_are_sent_back_unchanged() {
    for form in [IdForm::Reserved, IdForm::Long] {
        let (sandbox, center) = sandbox(|behavior| behavior.ids = form).await;
        let (session, mut events) = live(&center).await;
        for name in ["a", "b"] {
            held(&center).await;
            push(&center, name);
            assert_eq!(word(&mut events).await, "CustomEvent");
        }
        // A retry changes only the timeout.
        held(&center).await;
        sandbox.faults().inject(Operation::AgentPoll, Fault::status(503));
        push(&center, "c");
        assert_eq!(word(&mut events).await, "CustomEvent");
        push(&center, "d");
        assert_eq!(word(&mut events).await, "CustomEvent");
        session.set_available().await.unwrap();
        assert_eq!(word(&mut events).await, "AgentState");
        session.end(EndSession::new()).await.unwrap();
        assert_eq!(words(&mut events, 2).await, ["AgentSessionEnd", "ended asked"]);
        assert_eq!(center.session().unwrap().stale_polls, 0);
    }
}

#[tokio::test]
async fn f46_f47_the_latest_custom_event_and_an_old_contact_are_delivered() {
    let (_sandbox, center) = sandbox(|_| {}).await;
    let (session, events) = live(&center).await;
    left(&center, events).await;
    let digital = json!({ "Type": "DigitalContactEvent", "ContactID": "5", "Status": "Incoming",
        "StartTimeUTC": "2025-02-03T13:25:00.000Z" });
    for name in ["a", "a", "b", "a"] {
        push(&center, name);
    }
    center.push(&event(&digital)).unwrap();
    let mut events = session.events().unwrap();
    assert_eq!(words(&mut events, 3).await, ["CustomEvent", "CustomEvent", "DigitalContactEvent"]);
    let joined = builder(cxone(&center)).join().await.unwrap();
    drop(events);
    let mut events = joined.events().unwrap();
    assert_eq!(words(&mut events, 3).await, ["gap session_joined", "AgentSessionStart", "AgentState"]);
    let old = notification(&mut events).await;
    assert_eq!((old.event().kind().as_str(), old.origin()), ("DigitalContactEvent", AgentOrigin::Snapshot));
}

/// The server is down for a time, and no event is lost silently.
#[tokio::test]
async fn events_during_an_outage_arrive_after_it() {
    let (sandbox, center) = sandbox(|_| {}).await;
    let (session, mut events) = live(&center).await;
    held(&center).await;
    sandbox.stop_service(Service::ContactCenter).await;
    push(&center, "a");
    let mut status = session.status();
    while status.current().phase != Phase::Reconnecting {
        tokio::time::timeout(SOON, status.changed()).await.unwrap().unwrap();
    }
    sandbox.start_service(Service::ContactCenter).await;
    assert_eq!(word(&mut events).await, "CustomEvent");
    assert_eq!(center.session().unwrap().snapshots, 0);
}
