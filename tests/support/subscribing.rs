//! The whole path of an app: log in, subscribe, poll, read; against a sandbox, on the real clock.
//!
//! Every wait has a deadline. Nothing sleeps to let things settle.

use std::collections::VecDeque;

use ringcentral_events::policy::BackoffPolicy;
use ringcentral_events::rest::Client;
use ringcentral_events::transport::Transport;
#[cfg(feature = "pubnub")]
use ringcentral_events::transport::{PubNub, PubNubBuilder};
use ringcentral_events::{
    Delivery, EventFilter, Gap, GapCause, Phase, Resumed, Subscription, SubscriptionBuilder, SubscriptionId,
    Undecodable,
};
use ringcentral_sandbox::{Sandbox, SandboxBuilder};
use serde::Deserialize;

pub(crate) use super::common::*;
#[cfg(any(feature = "pubnub", feature = "websocket"))]
pub(crate) use super::login::*;

/// The numbered events of these tests.
pub(crate) const STORE: &str = "/restapi/v1.0/account/~/extension/~/message-store";

/// No rate limits, room for many subscriptions, polls held for less than half a second: so polls without a message
/// happen often.
pub(crate) fn quick() -> SandboxBuilder {
    Sandbox::builder().behavior(|behavior| {
        // Without the headers, since the client would obey the limits by itself.
        (behavior.rate_limits.enforce, behavior.rate_limits.headers) = (false, false);
        behavior.subscription_limit = 5000;
        behavior.hold = ms(400);
    })
}

#[cfg(feature = "pubnub")]
pub(crate) fn pubnub(sandbox: &Sandbox) -> PubNubBuilder {
    PubNub::builder().origin(sandbox.pubnub_origin())
}

pub(crate) fn filter(uri: &str) -> EventFilter {
    uri.parse().unwrap()
}

/// Retries quickly, so that tests of faults are short.
pub(crate) fn eager() -> BackoffPolicy {
    BackoffPolicy::new().base(ms(40)).cap(ms(250))
}

pub(crate) fn subscribe(client: &Client, transport: impl Transport) -> SubscriptionBuilder {
    client.subscribe([filter(STORE)]).transport(transport).backoff(eager())
}

/// A live subscription to [`STORE`].
#[cfg(feature = "pubnub")]
pub(crate) async fn live(sandbox: &Sandbox) -> Subscription {
    live_over(sandbox, pubnub(sandbox)).await
}

#[cfg(feature = "pubnub")]
pub(crate) async fn live_over(sandbox: &Sandbox, transport: PubNubBuilder) -> Subscription {
    start(subscribe(&client(sandbox), transport.build().unwrap())).await
}

/// Starts, and waits until events can arrive.
pub(crate) async fn start(builder: SubscriptionBuilder) -> Subscription {
    let subscription = soon(builder.start()).await.unwrap();
    phase(&subscription, Phase::Live).await;
    subscription
}

pub(crate) async fn phase(subscription: &Subscription, wanted: Phase) {
    let reached = soon(subscription.status().wait_for(|status| status.phase == wanted)).await;
    assert!(reached.is_some(), "the subscription ended before it was {wanted:?}");
}

/// Waits until the sandbox's only subscription is another one than `old`, and live on this side too.
pub(crate) async fn replaced(sandbox: &Sandbox, subscription: &Subscription, old: &SubscriptionId) -> SubscriptionId {
    let is_new = |id: Option<&SubscriptionId>, phase| phase == Phase::Live && id.is_some_and(|id| id != old);
    let mut watch = subscription.status();
    let replaced = watch.wait_for(|status| is_new(status.subscription_id.as_ref(), status.phase));
    let Ok(status) = tokio::time::timeout(SOON, replaced).await else {
        panic!("not replaced: {:?}", subscription.status().current())
    };
    assert!(sandbox.wait_subscriptions(1, SOON).await, "the former subscription is deleted");
    status.unwrap().subscription_id.unwrap()
}

#[derive(Deserialize)]
struct Numbered {
    n: u64,
}

pub(crate) fn body(n: u64) -> String {
    format!(r#"{{"n":{n},"changes":[{{"type":"SMS","newCount":1,"updatedCount":0}}]}}"#)
}

/// Publishes the numbered events one by one.
pub(crate) fn publish(sandbox: &Sandbox, numbers: impl IntoIterator<Item = u64>) {
    for n in numbers {
        assert!(!sandbox.trigger_json(STORE, &body(n)).unwrap().is_empty(), "no subscriber");
    }
}

/// Publishes the numbered events together: a waiting poll gets them at once.
pub(crate) fn publish_at_once(sandbox: &Sandbox, numbers: impl IntoIterator<Item = u64>) {
    let bodies: Vec<String> = numbers.into_iter().map(body).collect();
    assert!(!sandbox.trigger_json_all(STORE, &bodies).unwrap().is_empty(), "no subscriber");
}

pub(crate) async fn next(subscription: &mut Subscription) -> Delivery {
    soon(subscription.next()).await.expect("the stream ended").expect("the stream failed")
}

/// The deliveries of a reader, in order.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub(crate) entries: VecDeque<Entry>,
}

#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Event(u64),
    Gap(Gap),
    Resumed(Resumed),
    Undecodable(Undecodable),
    Other(String),
}

impl From<Delivery> for Entry {
    fn from(delivery: Delivery) -> Self {
        match delivery {
            Delivery::Notification(event) => match event.body_as::<Numbered>() {
                Ok(Numbered { n }) => Self::Event(n),
                Err(error) => Self::Other(format!("{event:?}: {error}")),
            },
            Delivery::Gap(gap) => Self::Gap(gap),
            Delivery::Resumed(resumed) => Self::Resumed(resumed),
            Delivery::Undecodable(undecodable) => Self::Undecodable(undecodable),
            other => Self::Other(format!("{other:?}")),
        }
    }
}

impl Journal {
    /// Reads up to and including event `last`.
    pub(crate) async fn read_to(&mut self, subscription: &mut Subscription, last: u64) {
        loop {
            let entry = Entry::from(next(subscription).await);
            let done = matches!(entry, Entry::Event(n) if n == last);
            self.entries.push_back(entry);
            if done {
                return;
            }
        }
    }

    pub(crate) async fn upto(subscription: &mut Subscription, last: u64) -> Self {
        let mut journal = Self::default();
        journal.read_to(subscription, last).await;
        journal
    }

    pub(crate) fn events(&self) -> Vec<u64> {
        self.entries.iter().filter_map(|entry| if let Entry::Event(n) = entry { Some(*n) } else { None }).collect()
    }

    pub(crate) fn gaps(&self) -> Vec<&Gap> {
        self.entries.iter().filter_map(|entry| if let Entry::Gap(gap) = entry { Some(gap) } else { None }).collect()
    }

    pub(crate) fn resumed(&self) -> Vec<&Resumed> {
        self.entries.iter().filter_map(|entry| if let Entry::Resumed(it) = entry { Some(it) } else { None }).collect()
    }

    pub(crate) fn undecodable(&self) -> Vec<&Undecodable> {
        self.entries
            .iter()
            .filter_map(|entry| if let Entry::Undecodable(it) = entry { Some(it) } else { None })
            .collect()
    }

    /// Asserts exactly these events, in this order, each once, and nothing else.
    #[track_caller]
    pub(crate) fn assert_only(&self, numbers: impl IntoIterator<Item = u64>) {
        assert_eq!(self.events(), numbers.into_iter().collect::<Vec<_>>(), "{:?}", self.trouble());
        assert_eq!(self.trouble(), Vec::<&Entry>::new());
    }

    /// All deliveries that are not events.
    pub(crate) fn trouble(&self) -> Vec<&Entry> {
        self.entries.iter().filter(|entry| !matches!(entry, Entry::Event(_))).collect()
    }

    /// Asserts that nothing is duplicated or out of order, and that missing events lie in a gap.
    #[track_caller]
    pub(crate) fn assert_missing_only_in_gaps(&self, numbers: std::ops::RangeInclusive<u64>) {
        let mut expected = *numbers.start();
        let mut gap = false;
        for entry in &self.entries {
            match entry {
                Entry::Event(n) => {
                    assert!(*n >= expected, "{n} came twice or late: {:?}", self.entries);
                    assert!(gap || *n == expected, "{expected}..{n} lost without a word: {:?}", self.entries);
                    (expected, gap) = (n + 1, false);
                }
                Entry::Gap(_) => gap = true,
                // The gap covers the events before the next one.
                Entry::Resumed(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(expected, numbers.end() + 1, "{:?}", self.entries);
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Event(a), Self::Event(b)) => a == b,
            (Self::Gap(a), Self::Gap(b)) => a == b,
            (Self::Resumed(a), Self::Resumed(b)) => a == b,
            _ => false,
        }
    }
}

pub(crate) fn is_buffer_full(gap: &Gap) -> bool {
    matches!(gap.cause, GapCause::ServiceBufferFull { .. })
}

/// Closes, and checks that nothing remains at the service.
pub(crate) async fn close(sandbox: &Sandbox, subscription: Subscription) {
    close_with(sandbox, subscription, |_| false).await;
}

/// Like [`close`], soon after a session was recovered: the start of its replay is unknown, so events may be unread.
pub(crate) async fn close_recovered(sandbox: &Sandbox, subscription: Subscription) {
    close_with(sandbox, subscription, |gap| gap.cause == GapCause::EndedOffline).await;
}

/// Like [`close`], after events that no key decrypts: the gap of the last ones is reported at the end.
pub(crate) async fn close_undecrypted(sandbox: &Sandbox, subscription: Subscription) {
    close_with(sandbox, subscription, |gap| gap.cause == GapCause::KeyUnknown).await;
}

async fn close_with(sandbox: &Sandbox, subscription: Subscription, is_allowed: fn(&Gap) -> bool) {
    let closed = soon(subscription.close()).await;
    assert!(closed.deleted);
    let gaps = closed.unread.iter().filter(|it| matches!(it, Delivery::Gap(gap) if is_allowed(gap))).count();
    let is_other = |it: &&Delivery| match it {
        Delivery::Gap(gap) => !is_allowed(gap),
        Delivery::Resumed(_) => gaps == 0,
        _ => true,
    };
    let unread: Vec<_> = closed.unread.iter().filter(is_other).collect();
    assert!(unread.is_empty(), "{unread:?}");
    assert!(sandbox.wait_subscriptions(0, SOON).await);
    assert!(sandbox.wait_open_polls(0, SOON).await);
    assert_eq!(sandbox.gauges().overlapping_polls, 0, "two polls stood side by side on one channel");
}
