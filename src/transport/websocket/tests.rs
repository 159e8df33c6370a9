//! The transport against an in-memory gateway, under the whole lifecycle; time is paused.

mod doubt;
mod matrix;
mod pace;
mod recovery;
mod rest;
mod trouble;
mod week;

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::Message;

use super::WebSocket;
use super::fakes::*;
use crate::delivery::{Certainty, Delivery, GapCause};
use crate::error::{Disposition, Error, ErrorKind};
use crate::status::Phase;
use crate::subscription::Subscription;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The next delivery in short: the event's uuid, or the kind of the marker.
async fn delivered(subscription: &mut Subscription) -> String {
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

/// Whether nothing is delivered within `time`.
async fn is_silent(subscription: &mut Subscription, time: Duration) -> bool {
    tokio::time::timeout(time, delivered(subscription)).await.is_err()
}

async fn wait_for(subscription: &Subscription, phase: Phase) {
    subscription.status().wait_for(|status| status.phase == phase).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn subscription_is_created_delivers_and_is_deleted() {
    let mut service = Service::new();
    let (mut subscription, mut peer) = service.live("s1").await;
    assert_eq!((peer.token().as_deref(), peer.wsc()), (Some("T0KEN-1"), None));
    peer.event("s1", 1).await;
    assert_eq!(delivered(&mut subscription).await, "1");
    let served = tokio::spawn(peer.serve("s1"));
    assert!(subscription.close().await.deleted);
    // It checks first: if the subscription were gone by then, events were missed.
    assert_eq!(served.await.unwrap(), ["GET", "DELETE"]);
    assert!(service.https.deleted().is_empty() && service.is_quiet());
}

#[tokio::test(start_paused = true)]
async fn subscription_gone_at_close_reports_a_possible_loss() {
    let mut service = Service::new();
    let (subscription, mut peer) = service.live("s1").await;
    wait_for(&subscription, Phase::Live).await;
    let closing = tokio::spawn(subscription.close());
    let (meta, _) = peer.request().await.unwrap();
    peer.send(reply(&meta, 404, Some(json!({"errorCode": "SUB-507"})))).await;
    let closed = closing.await.unwrap();
    assert!(closed.deleted);
    let [Delivery::Gap(gap)] = &closed.unread[..] else { panic!("{:?}", closed.unread) };
    assert_eq!(gap.cause, GapCause::SubscriptionGone);
}

#[tokio::test(start_paused = true)]
async fn w01_nothing_is_sent_before_connection_details() {
    let mut service = Service::new();
    let start = service.start();
    let mut peer = service.accept().await;
    let silent = tokio::time::timeout(s(14), peer.next()).await;
    assert!(silent.is_err(), "{silent:?}");
    peer.details("W1", json!({})).await;
    peer.subscribed("s1").await;
    assert!(start.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn w02_heartbeats_are_sent_in_silence_and_the_login_stays_alive() {
    let mut service = Service::with(WebSocket::builder().audit_every(s(300)));
    let (subscription, mut peer) = service.live("s1").await;
    wait_for(&subscription, Phase::Live).await;
    let before = service.https.owner_asked();
    for n in 1..=3 {
        let (quiet_since, (frame, _)) = (Instant::now(), peer.frame().await.unwrap());
        assert_eq!(frame, json!({"type": "Heartbeat", "messageId": format!("h-{n}")}));
        assert_eq!(quiet_since.elapsed().as_secs(), 30, "{n}");
        peer.send(json!([frame]).to_string()).await;
    }
    assert!(service.https.owner_asked() >= before + 2, "{}", service.https.owner_asked());
}

#[tokio::test(start_paused = true)]
async fn w14_ten_subscriptions_get_only_their_own_events() {
    let mut service = Service::new();
    let mut live = Vec::new();
    // Four connections a minute: the first ones wait for the user's rate.
    for n in 0..10 {
        let id = format!("s{n}");
        let (subscription, mut peer) = service.live(&id).await;
        peer.event(&id, n).await;
        peer.event("s99", 99).await;
        // Answers heartbeats.
        tokio::spawn(async move { peer.serve(&id).await });
        live.push(subscription);
    }
    for (n, subscription) in live.iter_mut().enumerate() {
        assert_eq!(delivered(subscription).await, n.to_string());
        assert!(is_silent(subscription, s(1)).await);
    }
    let tokens = service.https.tokens();
    for five in tokens.windows(5) {
        assert!(five[4] - five[0] >= s(60), "more than four connections in a minute");
    }
}

#[tokio::test(start_paused = true)]
async fn w32_a_subscription_that_the_service_lost_silently_is_recreated() {
    let mut service = Service::new();
    let (mut subscription, mut peer) = service.live("s1").await;
    let began = Instant::now();
    let (meta, _) = peer.request().await.unwrap();
    assert_eq!((meta["method"].as_str(), meta["path"].as_str()), (Some("GET"), Some("/restapi/v1.0/subscription/s1")));
    assert!((s(43)..=s(55)).contains(&began.elapsed()), "{:?}", began.elapsed());
    peer.send(reply(&meta, 200, Some(info("s1")))).await;
    let (meta, _) = peer.request().await.unwrap();
    assert!(began.elapsed() <= s(110), "{:?}", began.elapsed());
    peer.send(reply(&meta, 404, Some(json!({"errorCode": "CMN-102"})))).await;
    let mut second = service.accept().await;
    assert_eq!(second.wsc(), None);
    second.details("W9", json!({})).await;
    second.subscribed("s2").await;
    assert_eq!(delivered(&mut subscription).await, "gap subscription_gone");
    assert_eq!(delivered(&mut subscription).await, "resumed s1 as s2");
    second.event("s2", 7).await;
    assert_eq!(delivered(&mut subscription).await, "7");
}

#[tokio::test(start_paused = true)]
async fn w08_another_connection_takes_over_before_the_limit_and_each_event_is_delivered_once() {
    let mut service = Service::new();
    let (mut subscription, mut first) = service.live("s1").await;
    let began = Instant::now();
    first.event("s1", 1).await;
    assert_eq!(delivered(&mut subscription).await, "1");
    let old = tokio::spawn(first.serve("s1"));
    let mut second = service.accept().await;
    assert!((s(82_200)..=s(85_800)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(second.wsc(), None, "another session");
    second.details("X1", json!({})).await;
    second.subscribed("s2").await;
    second.event("s2", 2).await;
    assert_eq!(delivered(&mut subscription).await, "2");
    let asked = old.await.unwrap();
    assert_eq!(asked.last().map(String::as_str), Some("DELETE"));
    second.event("s2", 3).await;
    assert_eq!(delivered(&mut subscription).await, "3");
    assert!(service.https.deleted().is_empty() && service.is_quiet());
}
