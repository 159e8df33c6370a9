//! Calls that push lost, found in the call log.

use std::time::Duration;

use crate::support::catch_up::{Follower, LATER, client, free, lines, now};
use ringcentral_events::EventFilter;
use ringcentral_events::catch_up::{CallLogSync, CatchUp as _, SyncToken};
use ringcentral_sandbox::{Fixture, Operation, Sandbox, SandboxBuilder};

/// The log shows calls as soon as they end.
fn quick() -> SandboxBuilder {
    free().behavior(|behavior| behavior.account.call_log_delay = Duration::ZERO)
}

fn missed(from: &str) -> Fixture {
    Fixture::missed_call(from)
}

fn sync_types(sandbox: &Sandbox) -> Vec<String> {
    let requests = sandbox.requests_to(Operation::CallLogSync);
    requests.iter().filter_map(|request| request.query("syncType")).collect()
}

#[tokio::test]
async fn missed_calls_and_the_end_of_others_are_found_once() {
    let sandbox = quick().start().await.unwrap();
    let filters =
        [EventFilter::missed_calls(), EventFilter::telephony_sessions(), EventFilter::account_telephony_sessions()];
    let mut it = Follower::begin(CallLogSync::new(client(&sandbox)), filters).await;
    let gap = now();
    sandbox.trigger_all(&[
        missed("+1"),
        Fixture::telephony_session("Disconnected"),
        Fixture::telephony_session("Setup"),
    ]);
    // The account's calls are those of its extensions.
    let delivered = it.sync(Some(gap)).await;
    let mut got = lines(&delivered);
    got.sort();
    assert_eq!(got, ["call Disconnected missed false", "call Disconnected missed true", "missed +1"]);
    assert!(it.complete);
    assert_eq!(lines(&it.sync(Some(gap)).await), [""; 0], "the overlap is delivered once");
    // Of the account and of the extension.
    assert_eq!(sync_types(&sandbox), ["FSync", "FSync", "ISync", "ISync", "ISync", "ISync"]);
    let requests = sandbox.requests_to(Operation::CallLogSync);
    assert!(requests[..2].iter().all(|it| it.query("recordCount").is_some() && it.query("dateFrom").is_some()));
}

#[tokio::test]
async fn a_call_is_found_once_the_log_has_it() {
    let sandbox = free().start().await.unwrap();
    let source = CallLogSync::new(client(&sandbox));
    let settles = source.settles_after();
    let mut it = Follower::begin(source, [EventFilter::missed_calls()]).await;
    let gap = now();
    sandbox.trigger(&missed("+1"));
    assert_eq!(lines(&it.sync(Some(gap)).await), [""; 0]);
    sandbox.advance(settles);
    assert_eq!(lines(&it.sync(Some(gap)).await), ["missed +1"]);
    assert_eq!(sync_types(&sandbox), ["FSync", "ISync", "ISync"]);
    assert_eq!(sandbox.requests_to(Operation::CallLogSync)[0].query("statusGroup").as_deref(), Some("Missed"));
}

#[tokio::test]
async fn y2_a_refused_token_leads_to_a_full_sync_without_duplicates() {
    let sandbox = quick().start().await.unwrap();
    let mut it = Follower::begin(CallLogSync::new(client(&sandbox)), [EventFilter::missed_calls()]).await;
    let gap = now();
    sandbox.trigger(&missed("+1"));
    assert_eq!(lines(&it.sync(Some(gap)).await), ["missed +1"]);
    sandbox.trigger(&missed("+2"));
    sandbox.behavior(|behavior| behavior.account.refuse_call_log_tokens = true);
    assert_eq!(lines(&it.sync(Some(gap)).await), ["missed +2"]);
    assert!(it.complete);
    sandbox.behavior(|behavior| behavior.account.refuse_call_log_tokens = false);
    assert_eq!(lines(&it.sync(None).await), [""; 0]);
    assert_eq!(sync_types(&sandbox), ["FSync", "ISync", "ISync", "FSync", "ISync"]);
}

#[tokio::test]
async fn y5_a_token_older_than_an_hour_is_not_used() {
    let sandbox = quick().start().await.unwrap();
    let mut it = Follower::begin(CallLogSync::new(client(&sandbox)), [EventFilter::missed_calls()]).await;
    let gap = now();
    sandbox.trigger(&missed("+1"));
    // As if stored 61 minutes ago.
    let hour = 61 * 60 * 1000;
    let mut text: serde_json::Value = serde_json::from_str(it.position.text().expose()).unwrap();
    for position in text.as_object_mut().unwrap().values_mut() {
        for field in ["at", "time"] {
            position[field] = (position[field].as_u64().unwrap() - hour).into();
        }
    }
    it.position = SyncToken::new(text.to_string(), now() - Duration::from_millis(hour));
    sandbox.clear_requests();
    assert_eq!(lines(&it.sync(Some(gap)).await), ["missed +1"]);
    assert_eq!(sync_types(&sandbox), ["FSync"]);
}

#[tokio::test]
async fn more_calls_than_one_sync_returns_are_read_from_the_log() {
    let sandbox =
        Sandbox::builder().behavior(|behavior| behavior.account.call_log_delay = Duration::ZERO).start().await.unwrap();
    sandbox.trigger(&missed("before"));
    sandbox.advance(Duration::from_secs(120));
    let mut it = Follower::begin(CallLogSync::new(client(&sandbox)), [EventFilter::telephony_sessions()]).await;
    let gap = now();
    for _ in 0..7 {
        sandbox.trigger_all(&vec![missed("+1"); 100]);
        sandbox.advance(Duration::from_millis(20));
    }
    let delivered = it.sync(Some(gap)).await;
    assert_eq!(delivered.len(), 700);
    assert!(it.complete && it.pages > 2, "{} pages", it.pages);
    // Too many since the token: a full sync, and the list for the rest.
    assert_eq!(sync_types(&sandbox), ["FSync", "ISync", "FSync", "ISync", "FSync"]);
    let heavy = sandbox.requests_to(Operation::CallLogSync).len() + sandbox.requests_to(Operation::CallLog).len();
    assert!(heavy <= 10, "{heavy} requests within the group's limit");
    assert_eq!(lines(&it.sync(None).await).len(), 0);
}

#[tokio::test]
async fn earlier_calls_are_not_delivered() {
    let sandbox = quick().start().await.unwrap();
    sandbox.trigger(&missed("before"));
    sandbox.advance(LATER * 3);
    let mut it = Follower::begin(CallLogSync::new(client(&sandbox)), [EventFilter::missed_calls()]).await;
    for refuse in [false, true] {
        sandbox.behavior(|behavior| behavior.account.refuse_call_log_tokens = refuse);
        assert_eq!(lines(&it.sync(Some(now())).await), [""; 0], "{refuse}");
        assert_eq!(lines(&it.sync(None).await), [""; 0], "{refuse}");
    }
}

/// The gap began by the clock of another process, and no answer has the service's time.
#[tokio::test]
async fn a_clock_that_was_set_back_hides_no_call_from_a_full_sync() {
    let sandbox = quick().start().await.unwrap();
    let mut it = Follower::begin(CallLogSync::new(client(&sandbox)), [EventFilter::missed_calls()]).await;
    let gap = now();
    sandbox.trigger(&missed("+1"));
    sandbox.behavior(|behavior| (behavior.clock_skew_ms, behavior.account.refuse_call_log_tokens) = (3_600_000, true));
    assert_eq!(lines(&it.sync(Some(gap)).await), ["missed +1"]);
}
