//! Dropped streams, restarted sessions and refused ends: the events that they lose are in a gap, and the desk is
//! correct after it.

use std::time::Duration;

use crate::support::agent::*;
use crate::support::center::encoded;
use ringcentral_events::agent::auth::CxOneTokens;
use ringcentral_events::agent::{AgentEvents, AgentSession, AgentSessionBuilder, Desk, EndSession, OnLost};
use ringcentral_events::{ErrorKind, Phase};
use ringcentral_sandbox::agent::{AgentBehavior, ContactCenter, ContactStep, EndWithContacts, Fate};
use ringcentral_sandbox::{Fault, Operation, Sandbox, Service};

/// After this time the ids of an ended session are unknown.
const FORGOTTEN: Duration = Duration::from_secs(121);

async fn sandbox(change: impl FnOnce(&mut AgentBehavior)) -> (Sandbox, ContactCenter) {
    let sandbox = Sandbox::builder().behavior(|behavior| change(&mut behavior.agent)).start().await.unwrap();
    let center = sandbox.contact_center();
    (sandbox, center)
}

fn builder(center: &ContactCenter) -> AgentSessionBuilder {
    let ((client, secret), (key, key_secret)) = (center.client(), center.access_key());
    let tokens = CxOneTokens::builder(&client, secret, key, key_secret).issuer(center.url()).build().unwrap();
    AgentSession::builder(tokens).phone_number("+12055550100")
}

fn push(center: &ContactCenter, name: &str) {
    center.push(&custom(name).to_string()).unwrap();
}

/// Applies the deliveries to a desk up to `last`; returns one word per delivery.
async fn until(last: &str, events: &mut AgentEvents, desk: &mut Desk) -> Vec<String> {
    let mut delivered = Vec::new();
    while delivered.last().map(String::as_str) != Some(last) {
        let delivery = next(events).await.unwrap().unwrap();
        desk.apply(&delivery);
        delivered.push(name(&delivery));
    }
    delivered
}

/// The open poll ends, and no stream reads the answer to the next one.
async fn lose(sandbox: &Sandbox, center: &ContactCenter) {
    assert!(center.wait_caught_up(SOON).await);
    let hit = sandbox.faults().inject(Operation::AgentPoll, Fault::hang().after_effect());
    center.end_poll().unwrap();
    assert!(sandbox.faults().wait_hits(hit, 1, SOON).await);
    push(center, "lost");
    assert!(center.wait_session(|session| session.queued == 0, SOON).await);
}

#[tokio::test]
async fn an_answer_lost_by_a_drop_is_a_gap_for_the_next_stream() {
    for branch_header in [true, false] {
        let (sandbox, center) = sandbox(|behavior| behavior.branch_header = branch_header).await;
        // The first answer of the session.
        let session = builder(&center).start().await.unwrap();
        push(&center, "lost");
        let hit = sandbox.faults().inject(Operation::AgentPoll, Fault::hang().after_effect());
        let events = session.events().unwrap();
        assert!(sandbox.faults().wait_hits(hit, 1, SOON).await);
        assert!(center.wait_session(|session| session.queued == 0, SOON).await);
        drop(events);
        let mut events = session.events().unwrap();
        let delivered = words(&mut events, 4).await;
        assert!(delivered[0].starts_with("gap"), "{delivered:?}");
        assert_eq!(delivered[1..], ["AgentSessionStart", "AgentState", "resumed"]);
        // A later one, and nothing can be requested after it.
        lose(&sandbox, &center).await;
        drop(events);
        center.terminate("RemoteLogoff").unwrap();
        let mut events = session.events().unwrap();
        assert_eq!(words(&mut events, 3).await, ["gap answer_lost", "ended conflict", "none"]);
        assert!(center.events().iter().skip(3).all(|event| event.fate == Fate::Missed), "{:?}", center.events());
    }
}

#[tokio::test]
async fn unread_events_of_a_dropped_stream_are_a_gap_when_the_session_has_ended() {
    let (_sandbox, center) = sandbox(|_| {}).await;
    let session = builder(&center).start().await.unwrap();
    let mut events = session.events().unwrap();
    assert_eq!(words(&mut events, 3).await.len(), 3);
    push(&center, "unread");
    assert!(center.wait_caught_up(SOON).await);
    drop(events);
    center.terminate("RemoteLogoff").unwrap();
    let mut events = session.events().unwrap();
    assert_eq!(words(&mut events, 3).await, ["gap answer_lost", "ended conflict", "none"]);
}

/// A batch without an id is sent only once, to any reader.
#[tokio::test]
async fn unread_events_of_a_batch_without_an_id_are_a_gap() {
    let (sandbox, center) = sandbox(|_| {}).await;
    let session = builder(&center).start().await.unwrap();
    let mut events = session.events().unwrap();
    assert_eq!(words(&mut events, 3).await.len(), 3);
    assert!(center.wait_caught_up(SOON).await);
    let nameless = || Fault::amend().without_field("sessionId").header("icBranchValue", "1");
    let hit = sandbox.faults().inject(Operation::AgentPoll, nameless());
    push(&center, "read");
    assert_eq!(word(&mut events).await, "CustomEvent");
    assert!(sandbox.faults().wait_hits(hit, 1, SOON).await);
    // The next poll is held, so that the next answer goes to the next stream.
    let held = sandbox.faults().inject(Operation::AgentPoll, Fault::hang());
    push(&center, "unread");
    assert!(sandbox.faults().wait_hits(held, 1, SOON).await);
    drop(events);
    sandbox.faults().inject(Operation::AgentPoll, Fault::status(304));
    let mut events = session.events().unwrap();
    assert_eq!(words(&mut events, 2).await, ["gap discarded", "resumed"]);
}

/// The program was not running when the session ended: no event says what it missed.
#[tokio::test]
async fn resuming_an_ended_session_begins_with_a_gap() {
    for forgotten in [false, true] {
        let (sandbox, center) = sandbox(|_| {}).await;
        let session = builder(&center).start().await.unwrap();
        let mut events = session.events().unwrap();
        assert_eq!(words(&mut events, 3).await.len(), 3);
        let stored = events.cursor();
        assert!(center.wait_caught_up(SOON).await);
        push(&center, "lost");
        assert!(center.wait_caught_up(SOON).await);
        drop((events, session));
        center.terminate("RemoteLogoff").unwrap();
        if forgotten {
            sandbox.advance(FORGOTTEN);
        }
        let mut events = builder(&center).resume(stored).unwrap().events().unwrap();
        let last = if forgotten { "error session_lost" } else { "ended conflict" };
        assert_eq!(words(&mut events, 3).await, ["gap answer_lost", last, "none"]);
    }
}

/// No poll is open then, so only the unread events show that something is missing.
#[tokio::test]
async fn unread_events_of_a_slow_reader_are_a_gap_as_well() {
    let (_sandbox, center) = sandbox(|_| {}).await;
    let session = builder(&center).queue_bytes(1).start().await.unwrap();
    let events = session.events().unwrap();
    assert!(center.wait_session(|it| it.queued == 0 && it.open_polls == 0, SOON).await);
    // Its task reads the answer, and then waits for the reader.
    while session.newest_cursor() == events.cursor() {
        tokio::task::yield_now().await;
    }
    drop(events);
    center.terminate("RemoteLogoff").unwrap();
    let mut events = session.events().unwrap();
    assert_eq!(words(&mut events, 3).await, ["gap answer_lost", "ended conflict", "none"]);
}

#[tokio::test]
async fn a_stream_that_is_dropped_after_reading_everything_leaves_no_gap() {
    let (sandbox, center) = sandbox(|behavior| behavior.branch_header = false).await;
    let session = builder(&center).start().await.unwrap();
    let mut events = session.events().unwrap();
    assert_eq!(words(&mut events, 3).await.len(), 3);
    for polls in 2..4 {
        assert!(center.wait_session(|session| session.open_polls == 1 && session.polls == polls, SOON).await);
        sandbox.advance(Duration::from_secs(60));
    }
    assert!(center.wait_session(|session| session.open_polls == 1 && session.polls == 4, SOON).await);
    drop(events);
    assert!(center.wait_open_polls(0, SOON).await);
    push(&center, "a");
    let mut events = session.events().unwrap();
    assert_eq!(word(&mut events).await, "CustomEvent");
}

#[tokio::test]
async fn a_contact_that_ended_between_two_streams_is_reported_gone() {
    let (_sandbox, center) = sandbox(|_| {}).await;
    let session = builder(&center).start().await.unwrap();
    let mut events = session.events().unwrap();
    let mut desk = Desk::new();
    let contact = center.call("+12055550143").unwrap();
    until("PopURL", &mut events, &mut desk).await;
    assert!(desk.contact(&contact).is_some());
    assert!(center.wait_caught_up(SOON).await);
    center.step(&contact, ContactStep::Reject).unwrap();
    assert!(center.wait_caught_up(SOON).await);
    drop(events);
    let mut events = session.events().unwrap();
    let delivered = until("resumed", &mut events, &mut desk).await;
    assert!(delivered.contains(&format!("gone {contact}")), "{delivered:?}");
    assert!(desk.contact(&contact).is_none());
}

#[tokio::test]
async fn a_restarted_session_has_no_contact_of_the_previous_one() {
    let (sandbox, center) = sandbox(|_| {}).await;
    let session = builder(&center).on_lost(OnLost::Reestablish).start().await.unwrap();
    let mut events = session.events().unwrap();
    let mut desk = Desk::new();
    let contact = center.call("+12055550143").unwrap();
    center.push(r#"{"Type":"Mute","AgentMuted":"True"}"#).unwrap();
    until("Mute", &mut events, &mut desk).await;
    assert!(desk.contact(&contact).is_some() && desk.is_muted() && desk.leg().is_some());
    assert!(center.wait_caught_up(SOON).await);
    sandbox.stop_service(Service::ContactCenter).await;
    center.terminate("RemoteLogoff").unwrap();
    sandbox.advance(FORGOTTEN);
    sandbox.start_service(Service::ContactCenter).await;
    let delivered = until("resumed", &mut events, &mut desk).await;
    assert_eq!(delivered[..2], ["gap session_lost".to_owned(), format!("gone {contact}")]);
    assert!(desk.contact(&contact).is_none() && !desk.is_muted() && desk.leg().is_none());
    assert!(desk.session().is_some() && !desk.is_stale());
}

#[tokio::test]
async fn a_refused_end_is_an_error_and_the_session_continues() {
    let (sandbox, center) = sandbox(|behavior| behavior.end_with_contacts = EndWithContacts::Refused).await;
    let session = builder(&center).unsuccessful_end_is_end(false).start().await.unwrap();
    let contact = center.call("+12055550143").unwrap();
    let error = session.end(EndSession::new()).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Busy, Some(409)));
    let mut events = session.events().unwrap();
    assert_eq!(words(&mut events, 7).await.len(), 7);
    // Or with an event, which reports the refusal later.
    sandbox.behavior(|behavior| behavior.agent.end_with_contacts = EndWithContacts::Unsuccessful);
    session.end(EndSession::new()).await.unwrap();
    assert_eq!(word(&mut events).await, "AgentSessionEnd");
    push(&center, "a");
    assert_eq!(word(&mut events).await, "CustomEvent");
    assert_eq!(session.status().current().phase, Phase::Live);
    center.step(&contact, ContactStep::Reject).unwrap();
    assert_eq!(words(&mut events, 2).await, ["CallContactEvent", "AgentState"]);
    session.end(EndSession::new()).await.unwrap();
    assert_eq!(words(&mut events, 3).await, ["AgentSessionEnd", "ended asked", "none"]);
    session.end(EndSession::new()).await.unwrap();
}

#[tokio::test]
async fn an_end_without_a_stream_is_reported_by_the_next_one() {
    let (_sandbox, center) = sandbox(|_| {}).await;
    let session = builder(&center).start().await.unwrap();
    session.end(EndSession::new()).await.unwrap();
    assert_eq!(session.status().current().phase, Phase::Closing);
    let mut events = session.events().unwrap();
    assert_eq!(words(&mut events, 6).await[3..], ["AgentSessionEnd", "ended asked", "none"]);
    assert_eq!(session.status().current().phase, Phase::Closed);
}

/// The poll that a slow reader delays arrives when the session is no longer known.
#[tokio::test]
async fn a_session_that_this_side_ended_is_not_started_again() {
    let (sandbox, center) = sandbox(|_| {}).await;
    let session = builder(&center).on_lost(OnLost::Reestablish).queue_bytes(1).start().await.unwrap();
    let mut events = session.events().unwrap();
    assert!(center.wait_session(|it| it.queued == 0 && it.open_polls == 0, SOON).await);
    session.end(EndSession::new()).await.unwrap();
    sandbox.advance(FORGOTTEN);
    assert_eq!(words(&mut events, 5).await[3..], ["ended asked", "none"]);
    assert!(center.session().unwrap().is_over);

    // While it is being joined or restarted.
    let session = builder(&center).on_lost(OnLost::Reestablish).start().await.unwrap();
    let mut events = session.events().unwrap();
    assert_eq!(words(&mut events, 3).await.len(), 3);
    assert!(center.wait_caught_up(SOON).await);
    sandbox.stop_service(Service::ContactCenter).await;
    center.terminate("RemoteLogoff").unwrap();
    sandbox.advance(FORGOTTEN);
    let hit = sandbox.faults().inject(Operation::AgentJoin, Fault::status(503).until_cleared());
    sandbox.start_service(Service::ContactCenter).await;
    assert!(sandbox.faults().wait_hits(hit, 1, SOON).await);
    session.end(EndSession::new()).await.unwrap();
    sandbox.faults().clear_all();
    assert_eq!(words(&mut events, 3).await, ["gap session_lost", "ended asked", "none"]);
    assert!(center.session().unwrap().is_over);
}

#[tokio::test]
async fn a_session_that_started_during_the_end_is_ended_too() {
    let (sandbox, center) = sandbox(|_| {}).await;
    let session = builder(&center).on_lost(OnLost::Reestablish).start().await.unwrap();
    let mut events = session.events().unwrap();
    assert_eq!(words(&mut events, 3).await.len(), 3);
    assert!(center.wait_caught_up(SOON).await);
    sandbox.stop_service(Service::ContactCenter).await;
    center.terminate("RemoteLogoff").unwrap();
    sandbox.advance(FORGOTTEN);
    let hit = sandbox.faults().inject(Operation::AgentStart, Fault::delay(Duration::from_millis(500)));
    sandbox.start_service(Service::ContactCenter).await;
    assert!(sandbox.faults().wait_hits(hit, 1, SOON).await);
    session.end(EndSession::new()).await.unwrap();
    let delivered = words(&mut events, 8).await;
    assert_eq!(delivered[..2], ["gap session_lost", "AgentSessionStart"]);
    assert_eq!(delivered[4..], ["AgentSessionEnd", "resumed", "ended asked", "none"]);
    assert!(center.session().unwrap().is_over);
}

#[tokio::test]
async fn an_id_in_the_services_message_is_hidden_in_every_form() {
    let (sandbox, center) = sandbox(|_| {}).await;
    for write in [encoded as fn(&str) -> String, str::to_lowercase, |id| id[20..40].to_owned()] {
        let session = builder(&center).start().await.unwrap();
        let id = write(session.newest_cursor().expose());
        let words = format!("not allowed: agent-sessions/{id}/get-next-event");
        sandbox.faults().inject(Operation::AgentPoll, Fault::status(403).header("icStatusDescription", words));
        let mut events = session.events().unwrap();
        let Some(Err(error)) = next(&mut events).await else { panic!() };
        assert!(!format!("{error} {error:?}").contains(&id), "{error:?}");
        assert!(error.to_string().contains("it names the session's id"), "{error}");
        center.terminate("RemoteLogoff").unwrap();
    }
}
