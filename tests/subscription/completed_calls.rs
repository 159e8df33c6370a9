//! Ended calls, joined with what the sandbox has of them.

use crate::support::subscribing::{client, phase, pubnub, quick, soon};
use ringcentral_events::calls::{CallPart, CompletedCalls, MissingReason};
use ringcentral_events::event::CallResult;
use ringcentral_events::{ErrorKind, EventFilter, Phase, Subscription};
use ringcentral_sandbox::{Fault, Fixture, Operation, Sandbox};
use std::time::Duration;

/// Stops tokio's clock, which then moves only where the test moves it: a task that blocks keeps the runtime from
/// advancing it while a socket is awaited.
pub(crate) struct Frozen(Option<std::sync::mpsc::Sender<()>>);

impl Frozen {
    pub(crate) fn now() -> Self {
        let (release, released) = std::sync::mpsc::channel();
        drop(tokio::task::spawn_blocking(move || released.recv()));
        tokio::time::pause();
        Self(Some(release))
    }

    pub(crate) async fn advance(&self, by: Duration) {
        tokio::time::advance(by).await;
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(self.0.take());
        tokio::time::resume();
    }
}

async fn requested(sandbox: &Sandbox, operation: Operation, count: usize) {
    while sandbox.requests_to(operation).len() < count {
        tokio::task::yield_now().await;
    }
}

const SETTLED: Duration = Duration::from_secs(21);

async fn start(sandbox: &Sandbox) -> (Subscription, CompletedCalls) {
    let client = client(sandbox);
    let filters = [EventFilter::telephony_sessions()];
    let subscription = client.subscribe(filters).transport(pubnub(sandbox).build().unwrap()).start();
    let subscription = soon(subscription).await.unwrap();
    phase(&subscription, Phase::Live).await;
    (subscription, CompletedCalls::new(client))
}

async fn trigger(sandbox: &Sandbox, fixture: &Fixture, subscription: &mut Subscription, calls: &mut CompletedCalls) {
    sandbox.trigger(fixture);
    calls.apply(&soon(subscription.next()).await.unwrap().unwrap());
}

#[tokio::test]
async fn an_ended_call_comes_with_its_record_recording_and_voicemail() {
    let sandbox = quick().behavior(|behavior| behavior.account.call_log_delay = Duration::ZERO).start().await.unwrap();
    let (mut subscription, mut calls) = start(&sandbox).await;
    for fixture in [
        Fixture::call("7", "Setup"),
        Fixture::call("7", "Answered"),
        Fixture::call("7", "Disconnected").with_recording().with_voicemail(),
    ] {
        trigger(&sandbox, &fixture, &mut subscription, &mut calls).await;
    }
    let clock = Frozen::now();
    clock.advance(SETTLED).await;
    let call = soon(calls.next()).await.unwrap();
    assert!(call.is_complete(), "{:?}", call.missing);
    assert_eq!(call.session.telephony_session_id.as_ref().unwrap(), &"s-sandbox-7");
    let record = call.record().unwrap();
    assert_eq!((record.duration, record.result.as_ref()), (Some(42), Some(&CallResult::Voicemail)));
    assert_eq!(record.extension.as_ref().unwrap().as_str(), sandbox.extension_id());
    assert_eq!(call.recordings.len(), 1);
    assert!(call.recordings[0].content_uri.as_ref().unwrap().ends_with("/content"));
    assert_eq!(call.recordings[0].content_type.as_deref(), Some("audio/mpeg"));
    assert_eq!(
        call.voicemails[0].id.as_ref().map(|id| id.as_str()),
        record.message.as_ref().unwrap().id.as_ref().map(|id| id.as_str())
    );
    assert!(soon(calls.next()).await.is_none());
    let counts =
        [Operation::CallLog, Operation::Recording, Operation::MessageStore].map(|it| sandbox.requests_to(it).len());
    assert_eq!(counts, [1, 1, 1]);
    drop(clock);
    soon(subscription.close()).await;
}

#[tokio::test]
async fn what_the_service_refuses_or_does_not_have_is_missing_with_its_reason() {
    let sandbox = quick()
        .behavior(|behavior| {
            behavior.account.call_log_delay = Duration::ZERO;
            behavior.account.recording_delay = Duration::from_secs(40);
        })
        .start()
        .await
        .unwrap();
    let (mut subscription, mut calls) = start(&sandbox).await;
    sandbox.faults().inject(Operation::MessageStore, Fault::code(403, "CMN-408").until_cleared());
    let over = Fixture::call("7", "Disconnected").with_recording().with_voicemail();
    trigger(&sandbox, &over, &mut subscription, &mut calls).await;
    let clock = Frozen::now();
    clock.advance(SETTLED).await;
    let until_deadline = async {
        requested(&sandbox, Operation::MessageStore, 1).await;
        // The recording is asked for again once the voicemail's answer was read.
        clock.advance(Duration::from_secs(16)).await;
        requested(&sandbox, Operation::Recording, 2).await;
        clock.advance(Duration::from_secs(180)).await;
    };
    let (call, ()) = soon(async { tokio::join!(calls.next(), until_deadline) }).await;
    let call = call.unwrap();
    assert_eq!(call.records.len(), 1);
    let missing: Vec<_> = call.missing.iter().map(|it| (&it.part, &it.reason)).collect();
    assert!(
        matches!(
            missing.as_slice(),
            [(CallPart::Voicemail(Some(_)), MissingReason::Failed(error)), (CallPart::Recording(_), MissingReason::NotFound)]
                if error.kind() == ErrorKind::Permission
        ),
        "{missing:?}"
    );
    drop(clock);
    soon(subscription.close()).await;
}

#[tokio::test]
async fn a_call_whose_end_was_missed_is_found_by_asking() {
    let sandbox = quick().behavior(|behavior| behavior.account.call_log_delay = Duration::ZERO).start().await.unwrap();
    let (mut subscription, mut calls) = start(&sandbox).await;
    for session in ["7", "8"] {
        trigger(&sandbox, &Fixture::call(session, "Answered"), &mut subscription, &mut calls).await;
    }
    soon(subscription.close()).await;
    sandbox.trigger(&Fixture::call("7", "Disconnected"));
    calls.finish();
    let open = soon(calls.next()).await.unwrap();
    assert_eq!(open.session.telephony_session_id.as_ref().unwrap(), &"s-sandbox-8");
    assert!(matches!(open.missing.as_slice(), [it] if matches!(it.reason, MissingReason::NotEnded)));
    let clock = Frozen::now();
    clock.advance(SETTLED).await;
    let ended = soon(calls.next()).await.unwrap();
    assert!(ended.is_complete() && ended.record().is_some(), "{ended:?}");
    assert_eq!(sandbox.requests_to(Operation::TelephonySession).len(), 2);
    assert!(soon(calls.next()).await.is_none());
}
