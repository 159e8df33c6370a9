//! Agent sessions against a scripted service: the requests, and the deliveries of the stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::agent::*;
use crate::support::scripted::{Reply, texts_of};
use ringcentral_events::agent::{AgentCursor, AgentDelivery, AgentOrigin, Desk, EndSession, OnExisting, OnLost};
use ringcentral_events::auth::{AccessToken, TokenFn};
use ringcentral_events::{Error, ErrorKind, Phase};
use serde_json::json;
use tokio::time::Instant;

fn quiet() -> Reply {
    Reply::new(304, "")
}

/// The poll timeouts of the documentation: 200 with events, 304 without, timeouts 0, 1, 60 and 61, and the next poll at
/// once.
#[tokio::test]
async fn poll_timeouts_0_1_and_60_are_accepted_and_61_is_refused() {
    for timeout in [0, 1, 60] {
        let service = Service::start().await;
        service
            .polls
            .then(batch("S1", &[start_event(), state("Available")]))
            .then(quiet())
            .then(batch("S2", &[custom("a")]));
        let session = service.builder().poll_timeout(Duration::from_secs(timeout)).start().await.unwrap();
        let mut events = session.events().unwrap();
        assert_eq!(words(&mut events, 3).await, ["AgentSessionStart", "AgentState", "CustomEvent"]);
        service.until("the next poll", |it| it.polled().len() == 4).await;
        let polled = service.polled();
        assert!(polled.iter().all(|(_, asked)| *asked == timeout.to_string()), "{polled:?}");
        assert_eq!(polled.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["S0", "S1", "S1", "S2"]);
    }
    let service = Service::start().await;
    let refused = service.builder().poll_timeout(Duration::from_secs(61)).start().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
    assert!(service.server.seen().is_empty(), "nothing was sent");
}

#[tokio::test]
async fn f01_ten_quiet_polls_follow_each_other_at_once_with_the_same_id() {
    let service = Service::start().await;
    service.polls.then(batch("S1", &[start_event()]));
    for _ in 0..4 {
        service.polls.then(quiet());
    }
    let (_session, mut events) = service.events().await;
    assert_eq!(word(&mut events).await, "AgentSessionStart");
    service.until("the polls", |it| it.polled().len() == 6).await;
    assert!(service.polled()[1..].iter().all(|poll| *poll == ("S1".to_owned(), "60".to_owned())));
}

#[tokio::test]
async fn f04_the_next_poll_is_open_without_a_reader() {
    let service = Service::start().await;
    service.polls.then(batch("S1", &[start_event()])).then(batch("S2", &[custom("a")]));
    let (_session, mut events) = service.events().await;
    service.until("a poll with the newest id", |it| it.polled().len() == 3).await;
    assert_eq!(service.polled()[2].0, "S2");
    assert_eq!(events.cursor().expose(), "S0", "nothing was read");
    assert_eq!(word(&mut events).await, "AgentSessionStart");
    assert_eq!(events.cursor().expose(), "S1");
}

#[tokio::test]
async fn f05_f06_a_batch_without_events_or_without_an_id() {
    let service = Service::start().await;
    service
        .polls
        .then(batch("S1", &[]))
        .then(Reply::new(200, json!({ "sessionId": "S2" }).to_string()))
        .then(Reply::new(200, json!({ "events": [custom("a")] }).to_string()))
        .then(Reply::new(200, json!({ "sessionId": "", "events": [custom("b")] }).to_string()));
    let (_session, mut events) = service.events().await;
    assert_eq!(words(&mut events, 2).await, ["CustomEvent", "CustomEvent"]);
    service.until("polls", |it| it.polled().len() == 5).await;
    let ids: Vec<_> = service.polled().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["S0", "S1", "S2", "S2", "S2"]);
}

#[tokio::test]
async fn f07_polling_pauses_while_the_queue_is_full() {
    let service = Service::start().await;
    let many: Vec<_> =
        (0..5_000).map(|n| json!({"type":"CustomEvent","eventName":n.to_string(),"data":"d".repeat(900)})).collect();
    service.polls.then(batch("S1", &many));
    let session = service.builder().queue_bytes(1024 * 1024).start().await.unwrap();
    let mut events = session.events().unwrap();
    for n in 0..5_000 {
        let event = notification(&mut events).await;
        assert_eq!(event.raw().parse::<serde_json::Value>().unwrap()["eventName"], n.to_string());
        assert_eq!((event.index(), event.batch()), (n, 1));
        if n == 4_998 {
            assert!(service.is_held_back(1).await, "it waits for the reader");
        }
    }
    service.until("the next poll", |it| it.polled().len() == 2).await;
}

/// Each event costs memory, even if it is short.
#[tokio::test]
async fn short_unread_events_count_towards_the_limit() {
    let service = Service::start().await;
    let many: Vec<_> = (0..2_000).map(|n| json!(n)).collect();
    service.polls.then(batch("S1", &many));
    let session = service.builder().queue_bytes(50_000).start().await.unwrap();
    let mut events = session.events().unwrap();
    for n in 0..2_000 {
        assert_eq!(word(&mut events).await, "Unknown");
        if n == 1_998 {
            assert!(service.is_held_back(1).await, "it waits for the reader");
        }
    }
    service.until("the next poll", |it| it.polled().len() == 2).await;
}

#[tokio::test]
async fn f08_f10_a_lost_answer_is_a_gap_and_a_snapshot_and_a_repeated_one_is_no_gap() {
    for lost in [Reply::Reset, Reply::Cut] {
        let service = Service::start().await;
        service
            .polls
            .then(batch("S1", &[start_event(), call("1", "Active", false), call("2", "Active", false)]))
            .then(lost.clone())
            .then(lost.clone())
            .then(batch("S2", &[state("Available"), call("1", "Holding", false), start_event()]))
            .then(batch("S3", &[custom("after")]));
        let (_session, mut events) = service.events().await;
        let mut desk = Desk::new();
        let mut delivered = Vec::new();
        for _ in 0..10 {
            let delivery = next(&mut events).await.unwrap().unwrap();
            if let AgentDelivery::Notification(event) = &delivery {
                let from_snapshot = event.origin() == AgentOrigin::Snapshot;
                assert_eq!(from_snapshot, event.batch() == 2, "{event:?}");
            }
            desk.apply(&delivery);
            delivered.push(name(&delivery));
        }
        let want = [
            "AgentSessionStart",
            "CallContactEvent",
            "CallContactEvent",
            "gap answer_lost",
            "AgentSessionStart",
            "AgentState",
            "CallContactEvent",
            "gone 2",
            "resumed",
            "CustomEvent",
        ];
        assert_eq!(delivered, want, "{lost:?}");
        assert_eq!(desk.contacts().map(|(id, _)| id).collect::<Vec<_>>(), ["1"]);
        assert!(!desk.is_stale());
        let polled = service.polled();
        assert_eq!(polled[1..4].iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["S1", "S1", "S1"]);
        assert_eq!(polled[3].1, "1", "while polls fail");
        assert_eq!(polled[4], ("S2".to_owned(), "60".to_owned()));
    }
}

#[tokio::test]
async fn f09_a_repeated_batch_is_delivered_once() {
    let service = Service::start().await;
    service
        .polls
        .then(batch("S1", &[start_event()]))
        .then(Reply::Reset)
        .then(batch("S2", &[custom("a")]))
        .then(batch("S3", &[custom("b")]));
    let (_session, mut events) = service.events().await;
    assert_eq!(words(&mut events, 3).await, ["AgentSessionStart", "CustomEvent", "CustomEvent"]);
}

#[tokio::test]
async fn f11_a_stored_cursor_continues_and_an_old_one_is_a_gap() {
    let service = Service::start().await;
    service.polls.then(batch("K2", &[custom("a")]));
    let mut events = service.builder().resume(AgentCursor::from_text("K1")).unwrap().events().unwrap();
    assert_eq!(word(&mut events).await, "CustomEvent");
    let stored = events.cursor();
    assert_eq!(stored.expose(), "K2");
    service.until("the next poll", |it| it.polled().len() == 2).await;
    drop(events);
    service.polls.then(batch("K9", &[start_event(), state("Available")]));
    let mut events = service.builder().resume(AgentCursor::from_text("K1")).unwrap().events().unwrap();
    assert_eq!(words(&mut events, 4).await, ["gap answer_lost", "AgentSessionStart", "AgentState", "resumed"]);
}

#[tokio::test]
async fn f12_a_branch_of_three_is_a_certain_gap() {
    let service = Service::start().await;
    service
        .polls
        .then(batch("S1", &[start_event(), call("1", "Active", false)]))
        .then(batch("S2", &[start_event(), state("Available")]).with("icBranchValue", "3"));
    let (_session, mut events) = service.events().await;
    assert_eq!(words(&mut events, 2).await, ["AgentSessionStart", "CallContactEvent"]);
    let Some(Ok(AgentDelivery::Gap(gap))) = next(&mut events).await else { panic!() };
    assert_eq!((gap.cause.as_str(), gap.certainty.as_str()), ("events_missed", "certain"));
    assert!(gap.since.is_some());
    assert_eq!(words(&mut events, 4).await, ["AgentSessionStart", "AgentState", "gone 1", "resumed"]);
}

#[tokio::test]
async fn f16_a_refused_token_is_replaced_and_the_poll_repeated() {
    let service = Service::start().await;
    service.polls.then(batch("S1", &[start_event()])).then(Reply::new(401, "")).then(batch("S2", &[custom("a")]));
    let asked = Arc::new(AtomicUsize::new(0));
    let tokens = TokenFn::new({
        let asked = asked.clone();
        move |_| {
            let n = asked.fetch_add(1, Ordering::Relaxed);
            async move { Ok(AccessToken::new(format!("t{n}"))) }
        }
    });
    let session = service.with(tokens).start().await.unwrap();
    let mut events = session.events().unwrap();
    assert_eq!(words(&mut events, 2).await, ["AgentSessionStart", "CustomEvent"]);
    let seen = service.server.seen();
    let bearers: Vec<_> = seen.iter().map(|it| it.header("authorization").unwrap_or_default().to_owned()).collect();
    assert_eq!(bearers[..4], ["Bearer t0", "Bearer t0", "Bearer t0", "Bearer t1"]);
    assert_eq!(service.polled()[1].0, service.polled()[2].0);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn found_6_4_a_refused_login_ends_the_stream_and_refused_tokens_do_not() {
    let service = Service::start().await;
    service.polls.then(Reply::new(401, "")).then(Reply::new(401, "")).then(Reply::new(403, "<html>"));
    service.polls.then(batch("S1", &[start_event()])).then(Reply::new(401, "{\"error\":\"expired\"}"));
    let asked = AtomicUsize::new(0);
    let tokens = TokenFn::new(move |_| {
        let n = asked.fetch_add(1, Ordering::Relaxed);
        async move {
            if n < 3 {
                Ok(AccessToken::new(format!("s3cret-t0ken-{n}")))
            } else {
                Err(Error::new(ErrorKind::Auth, "the login is refused"))
            }
        }
    });
    let session = service.with(tokens).start().await.unwrap();
    let mut events = session.events().unwrap();
    assert_eq!(words(&mut events, 1).await, ["AgentSessionStart"]);
    let Some(Err(error)) = next(&mut events).await else { panic!() };
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Auth, "the login is refused"));
    assert!(!texts_of(&error).contains("s3cret"));
    assert!(next(&mut events).await.is_none());
    assert_eq!(service.polled().len(), 5);
    assert_eq!(session.status().current().phase, Phase::Closed);
    assert_eq!(session.events().unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn f19_a_token_that_expires_during_the_poll_is_replaced_before_it() {
    let service = Service::start().await;
    service.polls.then(batch("S1", &[start_event()])).then(batch("S2", &[custom("a")]));
    let asked = Arc::new(AtomicUsize::new(0));
    let tokens = TokenFn::new({
        let asked = asked.clone();
        move |_| {
            let n = asked.fetch_add(1, Ordering::Relaxed);
            let life = if n == 0 { 60 } else { 3600 };
            async move { Ok(AccessToken::new(format!("t{n}")).with_expires_in(Duration::from_secs(life))) }
        }
    });
    let session = service.with(tokens).start().await.unwrap();
    let mut events = session.events().unwrap();
    assert_eq!(words(&mut events, 2).await, ["AgentSessionStart", "CustomEvent"]);
    let bearers: Vec<_> =
        service.server.seen().iter().map(|it| it.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(bearers[..3], ["Bearer t0", "Bearer t1", "Bearer t1"]);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn short_lived_tokens_are_not_requested_before_each_poll() {
    let service = Service::start().await;
    for n in 1..=6 {
        service.polls.then(batch(&format!("S{n}"), &[custom("a")]));
    }
    let asked = Arc::new(AtomicUsize::new(0));
    let tokens = TokenFn::new({
        let asked = asked.clone();
        move |_| {
            asked.fetch_add(1, Ordering::Relaxed);
            async { Ok(AccessToken::new("short").with_expires_in(Duration::from_secs(25))) }
        }
    });
    let session = service.with(tokens).start().await.unwrap();
    let mut events = session.events().unwrap();
    words(&mut events, 6).await;
    assert!(asked.load(Ordering::Relaxed) <= 3, "{asked:?}");
}

#[tokio::test]
async fn f21_f22_f26_f43_refusals_end_the_stream_with_the_services_words() {
    for (status, kind) in [
        (400, ErrorKind::Rejected),
        (403, ErrorKind::Permission),
        (404, ErrorKind::SessionLost),
        (405, ErrorKind::Rejected),
        (302, ErrorKind::Protocol),
    ] {
        let service = Service::start().await;
        let reply = Reply::new(status, "")
            .with("icStatusDescription", "because S0 of it")
            .with("location", "http://127.0.0.1:9/");
        service.polls.then(reply);
        let (session, mut events) = service.events().await;
        let Some(Err(error)) = next(&mut events).await else { panic!("{status}") };
        assert_eq!((error.kind(), error.status()), (kind, Some(status)));
        assert!(!texts_of(&error).contains("S0"), "{error}");
        assert_eq!(word(&mut events).await, "none");
        assert_eq!(service.polled().len(), 1);
        assert_eq!(session.status().current().last_error.unwrap().status(), Some(status));
    }
}

#[tokio::test]
async fn f23_f24_f25_ends_are_reported_with_their_reason_and_nothing_follows() {
    let end = json!({ "Type": "AgentSessionEnd", "Success": "True" });
    let timeout = json!({ "Type": "RemoteAgentSessionEnd", "Message": "SessionTimeout", "Success": "True" });
    let logoff = json!({ "Type": "RemoteAgentSessionEnd", "Message": "remotelogoff", "Success": "True" });
    for (reply, want) in [
        (Reply::new(409, "").with("icBranchValue", "4"), vec!["ended conflict"]),
        (
            batch("S1", &[state("Available"), end, custom("late")]),
            vec!["AgentState", "AgentSessionEnd", "CustomEvent", "ended asked"],
        ),
        (
            batch("S1", &[timeout]),
            vec!["gap session_lost", "RemoteAgentSessionEnd", "resumed", "ended session_timeout"],
        ),
        (batch("S1", &[logoff]), vec!["RemoteAgentSessionEnd", "ended remote_logoff"]),
    ] {
        let service = Service::start().await;
        service.polls.then(reply);
        let (session, mut events) = service.events().await;
        assert_eq!(words(&mut events, want.len()).await, want);
        assert_eq!(word(&mut events).await, "none");
        assert_eq!(service.server.seen().len(), 2, "a start and one poll");
        let status = session.status().current();
        assert_eq!((status.phase, status.ended.is_some()), (Phase::Closed, true));
    }
}

#[tokio::test]
async fn f27_f28_transient_errors_are_retried_with_pauses() {
    let service = Service::start().await;
    service
        .polls
        .then(Reply::new(429, "").with("retry-after", "1"))
        .then(Reply::new(502, "<html>"))
        .then(batch("S1", &[start_event()]));
    let begun = Instant::now();
    let (session, mut events) = service.events().await;
    let mut status = session.status();
    assert_eq!(status.wait_for(|it| it.failed_attempts == 2).await.unwrap().phase, Phase::Reconnecting);
    assert_eq!(word(&mut events).await, "gap answer_lost", "a gateway may have lost the first batch");
    assert!(begun.elapsed() >= Duration::from_millis(1500), "at least what was asked for, and half a second");
    service.until("the next poll", |it| it.polled().len() == 4).await;
    let asked: Vec<_> = service.polled().into_iter().map(|(_, asked)| asked).collect();
    assert_eq!(asked, ["60", "1", "1", "60"]);
    assert_eq!(session.status().current().phase, Phase::Live);
}

#[tokio::test]
async fn f29_a_poll_without_an_answer_is_abandoned() {
    let service = Service::start().await;
    service.polls.then(Reply::Hang).then(batch("S1", &[start_event()]));
    let session =
        service.builder().poll_timeout(Duration::ZERO).margin(Duration::from_millis(300)).start().await.unwrap();
    let mut events = session.events().unwrap();
    assert_eq!(words(&mut events, 3).await, ["gap answer_lost", "AgentSessionStart", "resumed"]);
}

#[tokio::test]
async fn polls_that_fail_for_too_long_end_the_stream_with_the_cause() {
    let service = Service::start().await;
    for _ in 0..20 {
        service.polls.then(Reply::new(503, ""));
    }
    let session = service.builder().give_up_after(Duration::from_millis(1600)).start().await.unwrap();
    let mut events = session.events().unwrap();
    let Some(Err(error)) = next(&mut events).await else { panic!() };
    assert_eq!((error.kind(), error.status()), (ErrorKind::Service, Some(503)));
    assert!(service.polled().len() >= 2);
}

#[tokio::test]
async fn f32_a_second_stream_is_refused_until_the_first_is_gone() {
    let service = Service::start().await;
    let (session, events) = service.events().await;
    assert_eq!(session.events().unwrap_err().kind(), ErrorKind::Busy);
    drop(events);
    assert!(session.events().is_ok());
}

#[tokio::test]
async fn undelivered_events_of_a_dropped_stream_are_delivered_by_the_next_one() {
    let service = Service::start().await;
    service.polls.then(batch("S1", &[start_event()])).then(batch("S2", &[custom("lost")]));
    let (session, mut events) = service.events().await;
    assert_eq!(word(&mut events).await, "AgentSessionStart");
    service.until("a poll with the newest id", |it| it.polled().len() == 3).await;
    drop(events);
    service.polls.then(batch("S3", &[start_event(), state("Available")]));
    let mut events = session.events().unwrap();
    assert_eq!(words(&mut events, 4).await, ["gap answer_lost", "AgentSessionStart", "AgentState", "resumed"]);
    assert_eq!(service.polled()[3].0, "S1", "where the first was read to");
}

#[tokio::test]
async fn f34_a_start_that_finds_a_session_joins_it() {
    for refusal in
        [Reply::new(409, ""), Reply::new(400, json!({ "error_description": "SessionInProgress" }).to_string())]
    {
        let service = Service::start().await;
        service.calls.then(refusal.clone());
        service.polls.then(batch("J1", &[start_event(), call("1", "Active", false)]));
        let (_session, mut events) = service.events().await;
        let want = ["gap session_joined", "AgentSessionStart", "CallContactEvent", "resumed"];
        assert_eq!(words(&mut events, want.len()).await, want);
        assert_eq!(service.polled()[0].0, "J0");

        let service = Service::start().await;
        service.calls.then(refusal);
        assert!(service.builder().on_existing(OnExisting::Fail).start().await.is_err());
        assert_eq!(service.server.seen().len(), 1);
    }
}

#[tokio::test]
async fn f35_a_start_without_an_id_is_an_error() {
    let service = Service::start().await;
    service.calls.then(Reply::new(202, "")).then(Reply::new(200, "{\"sessionId\":\"S0\"}"));
    let error = service.builder().start().await.unwrap_err();
    assert_eq!((error.kind(), error.is_ambiguous()), (ErrorKind::Protocol, true));
    assert!(service.builder().start().await.is_ok());
}

#[tokio::test]
async fn a_refused_start_quotes_the_services_reason() {
    let service = Service::start().await;
    service.calls.then(Reply::new(400, json!({ "error_description": "StationIDInUse" }).to_string()));
    let error = service.builder().start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
    assert!(error.to_string().contains("StationIDInUse"), "{error}");
}

#[tokio::test]
async fn f36_odd_events_and_odd_bodies_are_delivered() {
    let service = Service::start().await;
    service
        .polls
        .then(batch("S1", &[json!(7), json!(null), json!({ "Type": null }), state("Available")]))
        .then(Reply::new(200, "<html>"))
        .then(batch("S2", &[custom("a")]));
    let (_session, mut events) = service.events().await;
    let want = ["Unknown", "Unknown", "Unknown", "AgentState", "undecodable", "CustomEvent"];
    assert_eq!(words(&mut events, 6).await, want);
    assert_eq!(service.polled()[2].0, "S1");
}

#[tokio::test]
async fn f48_a_dropped_stream_aborts_its_poll_and_does_not_end_the_session() {
    let service = Service::start().await;
    service.polls.then(batch("S1", &[start_event()]));
    let (session, mut events) = service.events().await;
    assert_eq!(word(&mut events).await, "AgentSessionStart");
    service.until("the poll", |it| it.polled().len() == 2).await;
    drop(events);
    assert!(service.server.lines().iter().all(|line| !line.starts_with("DELETE")));
    service.polls.then(batch("S2", &[custom("a")]));
    let mut events = session.events().unwrap();
    assert_eq!(word(&mut events).await, "CustomEvent", "all had been read: no gap");
}

#[tokio::test]
async fn f49_f50_a_session_is_ended_while_a_poll_is_open() {
    for (status, last) in [(202, true), (404, false)] {
        let service = Service::start().await;
        service.polls.then(batch("S1", &[start_event()]));
        let (session, mut events) = service.events().await;
        assert_eq!(word(&mut events).await, "AgentSessionStart");
        service.until("the poll", |it| it.polled().len() == 2).await;
        service.calls.then(Reply::new(status, ""));
        session.end(EndSession::new().force_logoff(true)).await.unwrap();
        let line = service.server.lines().into_iter().find(|line| line.starts_with("DELETE")).unwrap();
        let query = "forceLogoff=true&endContacts=false&ignorePersonalQueue=false";
        assert_eq!(line, format!("DELETE /inContactAPI/services/v23.0/agent-sessions/S1?{query}"));
        assert_eq!(session.status().current().phase, Phase::Closing);
        drop(events);
        // The open poll is gone with its stream; the next one gets the end.
        let reply = match last {
            true => batch("S2", &[json!({ "Type": "AgentSessionEnd", "Success": "True" })]),
            // Ended by this side: any answer of the service confirms the requested end.
            false => Reply::new(status, ""),
        };
        service.polls.then(reply);
        let mut events = session.events().unwrap();
        // Without a last batch, the events in the answer to the aborted poll are lost.
        assert_eq!(word(&mut events).await, if last { "AgentSessionEnd" } else { "gap answer_lost" });
        assert_eq!(word(&mut events).await, "ended asked");
        assert_eq!(word(&mut events).await, "none");
    }
}

#[tokio::test]
async fn a_refused_end_leaves_the_session_running() {
    let service = Service::start().await;
    service.polls.then(batch("S1", &[start_event()]));
    let (session, mut events) = service.events().await;
    assert_eq!(word(&mut events).await, "AgentSessionStart");
    for status in [400, 409] {
        service.calls.then(Reply::new(status, json!({ "error": "ContactsOpen" }).to_string()));
        let error = session.end(EndSession::new()).await.unwrap_err();
        assert!(error.to_string().contains("ContactsOpen"));
        assert_ne!(session.status().current().phase, Phase::Closing);
    }
}

#[tokio::test]
async fn a_lost_session_is_joined_or_restarted_by_policy() {
    for (join, id, then) in
        [(202, "J0", ["AgentSessionStart", "AgentState"]), (409, "S9", ["gone 1", "AgentSessionStart"])]
    {
        let service = Service::start().await;
        service
            .polls
            .then(batch("S1", &[start_event(), call("1", "Active", false)]))
            .then(Reply::new(404, ""))
            .then(batch("S2", &[start_event(), state("Available")]));
        let session = service.builder().on_lost(OnLost::Reestablish).start().await.unwrap();
        service.calls.then(Reply::new(join, "{\"sessionId\":\"J0\"}")).then(Reply::new(202, "{\"sessionId\":\"S9\"}"));
        let mut events = session.events().unwrap();
        let delivered = words(&mut events, 5).await;
        assert_eq!(delivered[..3], ["AgentSessionStart", "CallContactEvent", "gap session_lost"]);
        assert_eq!(delivered[3..], then);
        assert_eq!(service.polled()[2].0, id);
    }
}

#[tokio::test]
async fn states_are_set_with_the_newest_id() {
    let service = Service::start().await;
    service.polls.then(batch("S1", &[start_event()]));
    let (session, mut events) = service.events().await;
    assert_eq!(word(&mut events).await, "AgentSessionStart");
    session.set_available().await.unwrap();
    session.set_unavailable(Some("Lunch")).await.unwrap();
    let seen = service.server.seen();
    let posts: Vec<_> = seen.iter().filter(|it| it.target.ends_with("/S1/state")).map(|it| it.body.as_str()).collect();
    assert_eq!(posts.len(), 2);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(posts[1]).unwrap(),
        json!({ "state": "Unavailable", "reason": "Lunch" })
    );
}
