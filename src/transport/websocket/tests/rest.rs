//! Calls over the connection.

use std::sync::Arc;

use http::Method;

use super::*;
use crate::control::{ControlPlane, CreateSubscription, DeliveryModeRequest};
use crate::kind::TransportKind;
use crate::transport::{SocketClient, Target, Transport as _, TransportBinding};

/// A session that holds the subscription `id`.
async fn session(service: &mut Service, id: &str, terms: serde_json::Value) -> (TransportBinding, SocketClient, Peer) {
    let outer: Arc<dyn ControlPlane> = Arc::new(service.https.clone());
    let session = service.transport.bind(&outer).unwrap();
    let control = session.control.clone();
    let create = tokio::spawn(async move {
        let mode = DeliveryModeRequest::new(TransportKind::WebSocket);
        control.create(&CreateSubscription::new(vec!["/x".into()], mode)).await
    });
    let mut peer = service.accept().await;
    peer.details("W1", terms).await;
    peer.subscribed(id).await;
    create.await.unwrap().unwrap();
    let socket = session.caller.as_ref().unwrap().downcast_ref::<SocketClient>().unwrap().clone();
    (session, socket, peer)
}

#[tokio::test(start_paused = true)]
async fn w15_answers_arrive_in_any_order_and_concurrent_calls_are_limited() {
    let mut service = Service::new();
    let (_session, client, mut peer) = session(&mut service, "s1", json!({"maxActiveRequests": 3})).await;
    let calls: Vec<_> = (0..7)
        .map(|n| {
            let call = client.request(Method::GET, "/restapi/v1.0/account/~").query("n", &n.to_string());
            tokio::spawn(async move { (n, call.send().await.unwrap().json::<usize>().unwrap()) })
        })
        .collect();
    let mut waiting = Vec::new();
    let mut answered = 0;
    while answered < 7 {
        while let Ok(request) = tokio::time::timeout(s(1), peer.frame()).await {
            let (meta, body) = request.unwrap();
            assert_eq!(body, None);
            waiting.push(meta);
        }
        assert!((1..=3).contains(&waiting.len()), "{}", waiting.len());
        // The newest first.
        let meta = waiting.pop().unwrap();
        let n: usize = meta["path"].as_str().unwrap().rsplit_once("n=").unwrap().1.parse().unwrap();
        peer.send(reply(&meta, 200, Some(json!(n)))).await;
        answered += 1;
    }
    for call in calls {
        let (asked, got) = call.await.unwrap();
        assert_eq!(asked, got);
    }
}

#[tokio::test(start_paused = true)]
async fn w28_refusals_are_typed_errors() {
    let mut service = Service::new();
    let (_session, client, mut peer) = session(&mut service, "s1", json!({})).await;
    let error = |status: u16, code: &str, kind: &str| {
        let meta = json!({"type": kind, "messageId": "?", "status": status, "headers": {"RCRequestId": "rid"}});
        (meta, json!({"errorCode": code, "message": "no"}))
    };
    for ((meta, body), kind) in [
        (error(400, "WSG-808", "Error"), ErrorKind::Rejected),
        (error(403, "CMN-401", "ClientRequest"), ErrorKind::Permission),
        (error(429, "CMN-301", "ClientRequest"), ErrorKind::RateLimited),
        (error(503, "", "ClientRequest"), ErrorKind::Service),
    ] {
        // A different endpoint each time: a 429 closes its group.
        let call = client.request(Method::POST, "/restapi/v1.0/account/~/sms").json(&json!({}));
        let call = tokio::spawn(call.deadline(s(90)).send());
        let (asked, _) = peer.request().await.unwrap();
        let mut meta = meta;
        meta["messageId"] = asked["messageId"].clone();
        peer.send(json!([meta, body]).to_string()).await;
        let error = call.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.request_id()), (kind, Some("rid")), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn w29_a_call_without_a_reply_ends_and_all_end_with_their_connection() {
    let mut service = Service::new();
    let (_session, client, peer) = session(&mut service, "s1", json!({})).await;
    let call = |deadline| client.request(Method::GET, "/x").deadline(deadline).send();
    let since = Instant::now();
    let error = call(s(3)).await.unwrap_err();
    assert_eq!((error.kind(), error.is_ambiguous(), since.elapsed()), (ErrorKind::Timeout, true, s(3)));
    let (one, two) = (tokio::spawn(call(s(20))), tokio::spawn(call(s(20))));
    tokio::task::yield_now().await;
    peer.leave().await;
    for call in [one, two] {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.is_ambiguous()), (ErrorKind::Network, true), "{error}");
    }
    assert!(since.elapsed() < s(4));
    // Without a connection it waits for one, and nothing is sent.
    let error = call(s(5)).await.unwrap_err();
    assert_eq!((error.kind(), error.is_ambiguous()), (ErrorKind::Network, false));
}

#[tokio::test(start_paused = true)]
async fn w13_w27_foreign_messages_are_dropped_and_counted() {
    let mut service = Service::new();
    let (session, client, mut peer) = session(&mut service, "s1", json!({})).await;
    for text in ["{}", "[{\"type\":\"New\"}]"] {
        peer.send(text).await;
    }
    peer.event("s2", 1).await;
    peer.send(reply(&json!({"messageId": "r-77"}), 200, None)).await;
    let call = tokio::spawn(client.request(Method::GET, "/x").send());
    let (meta, _) = peer.request().await.unwrap();
    // Twice: nothing waits for the second.
    peer.send(reply(&meta, 204, None)).await;
    peer.send(reply(&meta, 204, None)).await;
    assert_eq!(call.await.unwrap().unwrap().status(), 204);
    let mut link = session.transport.open(target("s1")).await.unwrap();
    peer.event("s1", 2).await;
    while !matches!(link.next().await.unwrap(), crate::transport::LinkEvent::Batch(crate::transport::LinkBatch { frames, .. }) if frames.len() == 1)
    {
    }
    let stats = client.stats();
    assert_eq!((stats.foreign_events, stats.unasked_replies), (1, 2));
    assert_eq!((stats.unreadable_messages, stats.connections), (2, 1));
}

fn target(id: &str) -> Target {
    Target {
        subscription_id: id.into(),
        address: "".into(),
        subscriber_key: "".into(),
        user_id: None,
        cursor: crate::control::Cursor::at(std::time::SystemTime::UNIX_EPOCH),
        last_good: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_the_gateway_does_not_forward_is_a_config_error_and_is_not_sent() {
    let mut service = Service::new();
    let (session, client, mut peer) = session(&mut service, "s1", json!({})).await;
    for call in [
        client.request(Method::POST, "/restapi/oauth/token"),
        client.request(Method::POST, "/RestApi/OAuth/revoke"),
        client.request(Method::GET, "restapi"),
        client.request(Method::GET, "//evil.example"),
        client.request(Method::GET, "/a b"),
        client.request(Method::GET, "/a#b"),
        client.request(Method::POST, "/x").json(&json!(null)),
        client.request(Method::POST, "/x").json(&json!([1])),
        client.request(Method::POST, "/x").json(&7),
    ] {
        assert_eq!(call.send().await.unwrap_err().kind(), ErrorKind::Config);
    }
    drop(session);
    let error = client.request(Method::GET, "/x").send().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(!matches!(peer.next().await, Some(Message::Text(_))));
}

#[tokio::test(start_paused = true)]
async fn calls_respect_the_users_rate() {
    let mut service = Service::new();
    let (_session, client, mut peer) = session(&mut service, "s1", json!({})).await;
    let call = || tokio::spawn(client.request(Method::GET, "/restapi/v1.0/subscription").send());
    let first = call();
    let (meta, _) = peer.request().await.unwrap();
    let mut answer = meta.clone();
    answer["status"] = json!(200);
    answer["headers"] = json!({"X-Rate-Limit-Group": "light", "X-Rate-Limit-Limit": "50",
        "X-Rate-Limit-Remaining": "0", "X-Rate-Limit-Window": 9});
    peer.send(json!([answer, {}]).to_string()).await;
    first.await.unwrap().unwrap();
    let since = Instant::now();
    let second = call();
    let (meta, _) = peer.request().await.unwrap();
    assert_eq!(since.elapsed().as_secs(), 9);
    peer.send(reply(&meta, 200, Some(json!({})))).await;
    second.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answered_heartbeat_proves_the_connection_and_not_the_subscription() {
    let mut service = Service::new();
    let (session, _client, mut peer) = session(&mut service, "s1", json!({})).await;
    let mut link = session.transport.open(target("s1")).await.unwrap();
    tokio::spawn(async move { while peer.request().await.is_some() {} });
    let opened = Instant::now();
    for n in 0..5 {
        let event = link.next().await.unwrap();
        match event {
            crate::transport::LinkEvent::Alive if n == 0 => {}
            // Once, the position to continue from after a restart.
            crate::transport::LinkEvent::At(_) if n == 1 => {}
            // The answer to the creation, then to a heartbeat or a ping each time.
            crate::transport::LinkEvent::Answered { asked } if n == 2 => assert!(asked <= opened),
            crate::transport::LinkEvent::Answered { asked } => assert!(asked >= opened + s(5)),
            other => panic!("{n} {other:?}"),
        }
    }
}
