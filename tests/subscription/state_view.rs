//! The present calls and presence, against the sandbox.

use std::time::Duration;

use crate::support::subscribing::{client, phase, pubnub, quick, soon};
use ringcentral_events::event::TelephonyStatus;
use ringcentral_events::state::{StateChange, StateView};
use ringcentral_events::{ErrorKind, EventFilter, ExtensionId, Phase, Subscription};
use ringcentral_sandbox::{Fault, Fixture, Operation, Sandbox};

use crate::completed_calls::Frozen;

const LAG: Duration = Duration::from_secs(11);

async fn start(sandbox: &Sandbox) -> (Subscription, StateView) {
    let client = client(sandbox);
    let filters = [EventFilter::telephony_sessions(), EventFilter::detailed_presence()];
    let subscription = client.subscribe(filters.clone()).transport(pubnub(sandbox).build().unwrap()).start();
    let subscription = soon(subscription).await.unwrap();
    phase(&subscription, Phase::Live).await;
    (subscription, StateView::new(client, &filters))
}

async fn until_current(state: &mut StateView) -> Vec<String> {
    let mut changes = Vec::new();
    loop {
        changes.push(match soon(state.next()).await {
            StateChange::Call(id) => format!("+{id}"),
            StateChange::CallEnded(id) => format!("-{id}"),
            StateChange::Presence(_) => "@".into(),
            StateChange::Current => return changes,
            other => format!("{other:?}"),
        });
    }
}

#[tokio::test]
async fn what_was_there_before_is_listed_and_what_comes_is_followed() {
    let sandbox =
        quick().behavior(|behavior| behavior.account.active_calls_delay = Duration::ZERO).start().await.unwrap();
    sandbox.trigger_all(&[
        Fixture::call("7", "Answered"),
        Fixture::call("8", "Answered"),
        Fixture::call("8", "Disconnected"),
        Fixture::presence("Busy", "CallConnected"),
    ]);
    let (mut subscription, mut state) = start(&sandbox).await;
    assert!(!state.is_current());
    let clock = Frozen::now();
    let changes = soon(async {
        tokio::join!(until_current(&mut state), async {
            while sandbox.requests_to(Operation::TelephonySession).len() < 2 {
                tokio::task::yield_now().await;
            }
            clock.advance(LAG).await;
        })
    })
    .await
    .0;
    drop(clock);
    assert_eq!(changes, ["@", "+s-sandbox-7"], "the ended one is still in the list of active calls");
    let own = ExtensionId::new(sandbox.extension_id());
    assert_eq!(state.presence(&own).unwrap().telephony_status, Some(TelephonyStatus::CallConnected));
    assert_eq!(state.calls().count(), 1);
    for (fixture, change) in [
        (Fixture::call("9", "Setup"), StateChange::Call("s-sandbox-9".into())),
        (Fixture::call("7", "Disconnected"), StateChange::CallEnded("s-sandbox-7".into())),
        (Fixture::presence("Available", "NoCall"), StateChange::Presence(own.clone())),
    ] {
        sandbox.trigger(&fixture);
        state.apply(&soon(subscription.next()).await.unwrap().unwrap());
        assert_eq!(soon(state.next()).await, change);
    }
    assert!(state.is_current() && state.last_error().is_none());
    assert_eq!(state.calls().next().unwrap().telephony_session_id.as_ref().unwrap(), &"s-sandbox-9");
    assert!(!state.presence(&own).unwrap().is_on_call());
    soon(subscription.close()).await;
}

#[tokio::test]
async fn a_refused_list_is_reported_and_the_view_stays_stale() {
    let sandbox = quick().start().await.unwrap();
    sandbox.faults().inject(Operation::ActiveCalls, Fault::code(403, "CMN-408").until_cleared());
    let (mut subscription, mut state) = start(&sandbox).await;
    assert_eq!(soon(state.next()).await, StateChange::Presence(ExtensionId::new(sandbox.extension_id())));
    let next = async {
        let change = state.next().await;
        panic!("{change:?}");
    };
    let refused = async {
        while sandbox.requests_to(Operation::ActiveCalls).is_empty() {
            tokio::task::yield_now().await;
        }
        // An event wakes the view only after its request was answered.
        sandbox.trigger(&Fixture::call("7", "Setup"));
        soon(subscription.next()).await.unwrap().unwrap()
    };
    let delivery = tokio::select! {
        () = next => unreachable!(),
        delivery = soon(refused) => delivery,
    };
    state.apply(&delivery);
    assert_eq!(soon(state.next()).await, StateChange::Call("s-sandbox-7".into()));
    while state.last_error().is_none() {
        assert!(tokio::time::timeout(Duration::from_millis(20), state.next()).await.is_err());
    }
    assert_eq!(state.last_error().unwrap().kind(), ErrorKind::Permission);
    assert!(!state.is_current());
    soon(subscription.close()).await;
}
