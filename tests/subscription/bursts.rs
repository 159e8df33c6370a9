//! Twenty thousand events of 1 KB at once: every one arrives, and no gap is reported, whether the reader reads as fast
//! as it can or sleeps for a while (found 6.13).

use crate::support::subscribing::*;
use ringcentral_events::transport::WebSocket;
use ringcentral_events::{Delivery, Subscription};
use ringcentral_sandbox::{Encryption, Sandbox, SandboxBuilder};

const EVENTS: u64 = 20_000;
/// Longer than a poll and a ping take, and within the gateway's limit for a pong.
const ASLEEP: std::time::Duration = ms(5000);

fn many() -> SandboxBuilder {
    quick().behavior(|behavior| {
        behavior.encryption = Encryption::Never;
        (behavior.ring, behavior.response_cap) = (30_000, 30_000);
    })
}

fn publish_all(sandbox: &Sandbox) {
    let filler = "x".repeat(900);
    let body = |n| format!(r#"{{"n":{n},"filler":"{filler}"}}"#);
    let bodies: Vec<String> = (1..=EVENTS).map(body).collect();
    assert!(!sandbox.trigger_json_all(STORE, &bodies).unwrap().is_empty(), "no subscriber");
}

/// Reads everything in order; anything but an event is a failure.
async fn read_all(subscription: &mut Subscription) {
    for n in 1..=EVENTS {
        match next(subscription).await {
            Delivery::Notification(event) => {
                let body: serde_json::Value = event.body_as().unwrap();
                assert_eq!(body["n"].as_u64(), Some(n));
            }
            other => panic!("{other:?} in the place of event {n}"),
        }
    }
}

async fn burst(sandbox: &Sandbox, mut subscription: Subscription, asleep: bool) {
    publish_all(sandbox);
    if asleep {
        // The slow reader under test.
        tokio::time::sleep(ASLEEP).await;
    }
    read_all(&mut subscription).await;
    close(sandbox, subscription).await;
}

async fn over_websocket(asleep: bool) {
    let sandbox = many().start().await.unwrap();
    let subscription = start(subscribe(&client(&sandbox), WebSocket::builder().build().unwrap())).await;
    burst(&sandbox, subscription, asleep).await;
}

async fn over_pubnub(asleep: bool) {
    let sandbox = many().start().await.unwrap();
    let transport = pubnub(&sandbox).buffer_size_hint(30_001).build().unwrap();
    let subscription = start(subscribe(&client(&sandbox), transport)).await;
    burst(&sandbox, subscription, asleep).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn found_6_13_a_burst_over_the_gateway_arrives_whole() {
    over_websocket(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn found_6_13_a_burst_over_the_gateway_waits_for_a_reader_that_sleeps() {
    over_websocket(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn found_6_13_a_burst_over_pubnub_arrives_whole() {
    over_pubnub(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn found_6_13_a_burst_over_pubnub_waits_for_a_reader_that_sleeps() {
    over_pubnub(true).await;
}
