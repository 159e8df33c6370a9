//! The transport against a gateway in memory, under the whole lifecycle; time is
//! paused.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::Message;

use super::fakes::*;
use super::*;
use crate::error::ErrorKind;
use crate::subscription::{Delivery, GapCause, Phase, Subscription};

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The next delivery in a word: the event's uuid, or what the marker is.
async fn told(subscription: &mut Subscription) -> String {
    match subscription.next().await.unwrap().unwrap() {
        Delivery::Notification(it) => it.uuid().unwrap_or_default().to_owned(),
        Delivery::Gap(gap) => format!("gap {}", gap.cause.as_str()),
        Delivery::Resumed(resumed) => match resumed.recreated {
            Some(recreated) => format!("resumed {} as {}", recreated.old, recreated.new),
            None => "resumed".into(),
        },
        other => format!("{other:?}"),
    }
}

async fn wait_for(subscription: &Subscription, phase: Phase) {
    subscription.status().wait_for(|status| status.phase == phase).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn it_connects_creates_delivers_and_deletes() {
    let mut service = Service::new();
    let (mut subscription, mut peer) = service.live("s1").await;
    assert_eq!((peer.token().as_deref(), peer.wsc()), (Some("T0KEN-1"), None));
    peer.event("s1", 1).await;
    assert_eq!(told(&mut subscription).await, "1");
    let served = tokio::spawn(peer.serve("s1"));
    assert!(subscription.close().await.deleted);
    assert_eq!(served.await.unwrap(), ["DELETE"]);
    assert!(service.https.deleted().is_empty() && service.is_quiet());
}

#[tokio::test(start_paused = true)]
async fn w01_nothing_is_sent_before_the_gateways_first_words() {
    let mut service = Service::new();
    let start = service.start();
    let mut peer = service.accept().await;
    let silent = tokio::time::timeout(s(14), peer.next()).await;
    assert!(silent.is_err(), "{silent:?}");
    peer.details("W1", json!({})).await;
    peer.subscribed("s1").await;
    start.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn w05_replayed_events_in_the_same_segment_as_the_first_words_arrive() {
    let mut service = Service::new();
    let (mut subscription, peer) = service.live("s1").await;
    wait_for(&subscription, Phase::Live).await;
    drop(peer);
    let mut peer = service.accept().await;
    assert_eq!(peer.wsc().as_deref(), Some("W1"));
    // All in the buffer before the client can read any of it.
    peer.ws.feed(Message::text(details("W2", json!({"recoveryState": "Successful"})))).await.unwrap();
    for n in 1..=10 {
        peer.ws.feed(Message::text(event("s1", n))).await.unwrap();
    }
    peer.ws.flush().await.unwrap();
    for n in 1..=10 {
        assert_eq!(told(&mut subscription).await, n.to_string());
    }
    peer.event("s1", 11).await;
    assert_eq!(told(&mut subscription).await, "11");
}
