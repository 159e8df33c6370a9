//! Floods and many clients: the sandbox loses nothing and leaks nothing.

use std::sync::Arc;

use crate::support::bare::*;
use ringcentral_sandbox::{Gauges, Service};
use serde_json::Value;

const POSTS: &str = "/team-messaging/v1/posts";

#[tokio::test]
async fn a_flood_in_full_answers_arrives_in_order_when_the_publisher_waits() {
    const BATCHES: u64 = 100;
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let info = client.subscribed(&[POSTS]).await;
    let mut cursor = Cursor::start();
    client.next(&info, &mut cursor).await;
    let reader = tokio::spawn(async move {
        let mut seen: Vec<u64> = Vec::new();
        while seen.len() < (BATCHES * 100) as usize {
            let messages = client.next(&info, &mut cursor).await;
            seen.extend(messages.iter().map(|message| message["d"]["body"]["n"].as_u64().unwrap()));
        }
        seen
    });
    for batch in 0..BATCHES {
        let bodies: Vec<String> = (0..100).map(|n| format!(r#"{{"n":{}}}"#, batch * 100 + n)).collect();
        sandbox.trigger_json_all(POSTS, &bodies).unwrap();
        if batch + 1 < BATCHES {
            assert!(sandbox.wait_caught_up(SOON).await);
        }
    }
    assert_eq!(reader.await.unwrap(), (0..BATCHES * 100).collect::<Vec<_>>());
    assert_eq!(sandbox.gauges().dropped_messages, 0);
}

#[tokio::test]
async fn a_crowd_of_polls_is_served_and_leaves_nothing_behind() {
    const CROWD: usize = 200;
    let sandbox = quick()
        .behavior(|behavior| {
            behavior.subscription_limit = CROWD;
            behavior.hold = SOON * 10;
        })
        .start()
        .await
        .unwrap();
    let client = Arc::new(Client::login(&sandbox).await);
    let mut polls = tokio::task::JoinSet::new();
    for _ in 0..CROWD {
        let client = Arc::clone(&client);
        let info = client.subscribed(&[POSTS]).await;
        polls.spawn(async move {
            let mut cursor = Cursor::start();
            client.next(&info, &mut cursor).await;
            client.next(&info, &mut cursor).await
        });
    }
    assert!(sandbox.wait_open_polls(CROWD, SOON).await);
    assert_eq!(sandbox.trigger_json(POSTS, "1").unwrap().len(), CROWD);
    let answers: Vec<Vec<Value>> = polls.join_all().await;
    assert!(answers.iter().all(|messages| messages.len() == 1));
    assert!(sandbox.wait_open_polls(0, SOON).await);
    sandbox.stop_service(Service::PubNub).await;
    sandbox.stop_service(Service::Api).await;
    let Gauges { api_connections, pubnub_connections, overlapping_polls, .. } = sandbox.gauges();
    assert_eq!((api_connections, pubnub_connections, overlapping_polls), (0, 0, 0));
    sandbox.stop().await;
    drop(client);
    let tasks = tokio::runtime::Handle::current().metrics();
    let idle = async {
        while tasks.num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, idle).await.unwrap();
}
