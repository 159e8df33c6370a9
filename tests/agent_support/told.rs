//! Events as a test writes them, and what a stream yields, in a word each.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper of a test fails as the test does")]

use std::time::Duration;

use futures_util::StreamExt as _;
use ringcentral_events::agent::{AgentDelivery, AgentEvents, AgentNotification};
use ringcentral_events::{Delivery, Error};
use serde_json::{Value, json};

/// No test waits for longer than this for what must come.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn start_event() -> Value {
    json!({ "Type": "AgentSessionStart", "AgentId": "7001", "SessionId": "310004411" })
}

pub(crate) fn state(state: &str) -> Value {
    json!({ "Type": "AgentState", "CurrentState": state })
}

pub(crate) fn call(id: &str, status: &str, last: bool) -> Value {
    let last = if last { "True" } else { "False" };
    json!({ "Type": "CallContactEvent", "ContactID": id, "Status": status, "FinalState": last })
}

pub(crate) fn custom(name: &str) -> Value {
    json!({ "type": "CustomEvent", "eventName": name, "data": "" })
}

/// The next item, in a word: the event's kind, or what the delivery is.
pub(crate) async fn word(events: &mut AgentEvents) -> String {
    match next(events).await {
        Some(Ok(delivery)) => name(&delivery),
        Some(Err(error)) => format!("error {}", error.kind()),
        None => "none".to_owned(),
    }
}

pub(crate) async fn words(events: &mut AgentEvents, count: usize) -> Vec<String> {
    let mut words = Vec::new();
    for _ in 0..count {
        words.push(word(events).await);
    }
    words
}

pub(crate) fn name(delivery: &AgentDelivery) -> String {
    match delivery {
        Delivery::Notification(event) => event.event().kind().as_str().to_owned(),
        Delivery::Gap(gap) => format!("gap {}", gap.cause.as_str()),
        Delivery::Resumed(_) => "resumed".to_owned(),
        Delivery::Undecodable(_) => "undecodable".to_owned(),
        Delivery::ContactsGone(gone) => {
            let ids: Vec<_> = gone.iter().map(|contact| contact.contact_id.as_str()).collect();
            format!("gone {}", ids.join(","))
        }
        Delivery::SessionEnded(ended) => format!("ended {}", ended.reason.as_str()),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn next(events: &mut AgentEvents) -> Option<Result<AgentDelivery, Error>> {
    tokio::time::timeout(SOON, events.next()).await.expect("nothing came in time")
}

pub(crate) async fn notification(events: &mut AgentEvents) -> AgentNotification {
    match next(events).await {
        Some(Ok(Delivery::Notification(event))) => *event,
        other => panic!("{other:?}"),
    }
}
