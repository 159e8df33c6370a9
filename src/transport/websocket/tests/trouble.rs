//! The gateway, or a proxy in front of it, has trouble.

use super::*;

#[tokio::test(start_paused = true)]
async fn probe_a_one_refused_token_during_a_recovery_does_not_end_the_subscription() {
    let retry = |after| Disposition::Retry { after };
    for error in [
        Error::new(ErrorKind::RateLimited, "429").with_disposition(retry(Some(s(30)))),
        Error::new(ErrorKind::Service, "503").with_disposition(retry(None)),
        Error::new(ErrorKind::Auth, "401").with_disposition(Disposition::Refresh),
        Error::new(ErrorKind::Network, "reset"),
        Error::new(ErrorKind::Timeout, "late"),
        Error::new(ErrorKind::Protocol, "garbage"),
        Error::new(ErrorKind::NotFound, "404"),
    ] {
        let mut service = Service::new();
        let (mut subscription, peer) = service.live("s1").await;
        wait_for(&subscription, Phase::Live).await;
        let (text, wait) = (error.to_string(), error.retry_after().unwrap_or_default());
        service.https.refuse_token(error);
        let lost_at = Instant::now();
        peer.leave().await;
        let mut peer = service.accept().await;
        assert!(lost_at.elapsed() >= wait && lost_at.elapsed() < wait + s(3), "{text} {:?}", lost_at.elapsed());
        assert_eq!(service.https.tokens().len(), 3, "{text}");
        peer.recovered("W2").await;
        peer.event("s1", 1).await;
        assert_eq!(delivered(&mut subscription).await, "1", "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn probe_b_w03_no_heartbeat_reply_closes_and_reconnects() {
    let mut service = Service::new();
    let (mut subscription, mut peer) = service.live("s1").await;
    wait_for(&subscription, Phase::Live).await;
    peer.event("s1", 1).await;
    let since = Instant::now();
    // Reads, and so answers pings, but no heartbeat.
    let stuck = tokio::spawn(async move { while peer.next().await.is_some() {} });
    let mut peer = service.accept().await;
    assert!((s(38)..s(45)).contains(&since.elapsed()), "{:?}", since.elapsed());
    stuck.await.unwrap();
    peer.recovered("W2").await;
    peer.event("s1", 2).await;
    // A request written to a dead connection may be lost: that is reported.
    for want in ["1", "gap connection_broken", "resumed", "2"] {
        assert_eq!(delivered(&mut subscription).await, want);
    }
}

#[tokio::test(start_paused = true)]
async fn w12_a_half_open_connection_is_abandoned_within_15_s() {
    let mut service = Service::new();
    let (subscription, peer) = service.live("s1").await;
    wait_for(&subscription, Phase::Live).await;
    let (since, mut watch) = (Instant::now(), subscription.status());
    assert!(watch.health().is_ready());
    watch.wait_for(|status| status.phase == Phase::Reconnecting).await.unwrap();
    assert!(!watch.health().is_ready() && since.elapsed() <= s(15), "{:?}", since.elapsed());
    let second = service.accept().await;
    drop((peer, second));
}

#[tokio::test(start_paused = true)]
async fn w07_a_gateway_that_sends_no_details_is_abandoned_after_15_s() {
    let mut service = Service::new();
    let start = service.start();
    let silent = service.accept().await;
    let since = Instant::now();
    let mut peer = service.accept().await;
    assert!((s(15)..s(17)).contains(&since.elapsed()), "{:?}", since.elapsed());
    peer.details("W1", json!({})).await;
    peer.subscribed("s1").await;
    assert!(start.await.unwrap().is_ok());
    drop(silent);
}

#[tokio::test(start_paused = true)]
async fn w02_a_missing_permission_is_fatal_and_the_error_names_it() {
    let forbidden = || Error::new(ErrorKind::Permission, "a permission is missing").with_status(403);
    let service = Service::new();
    service.https.refuse_token(forbidden());
    let error = service.start().await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.disposition()), (ErrorKind::Permission, Disposition::Fatal));
    assert!(error.to_string().contains("WebSocketsSubscription"), "{error}");
    assert_eq!((error.permission(), service.https.tokens().len()), (Some("WebSocketsSubscription"), 1));

    // Another permission that the service names is the one that the error names.
    let service = Service::new();
    service.https.refuse_token(forbidden().with_permission(Some("ReadAccounts".into())));
    let text = service.start().await.unwrap().unwrap_err().to_string();
    assert!(text.contains("permission ReadAccounts") && !text.contains("WebSocketsSubscription"), "{text}");

    // A single refusal does not end a subscription that was connected; lasting refusals do not either.
    let mut service = Service::new();
    let (mut subscription, peer) = service.live("s1").await;
    wait_for(&subscription, Phase::Live).await;
    service.https.refuse_token(forbidden());
    peer.leave().await;
    let mut peer = service.accept().await;
    peer.recovered("W2").await;
    peer.event("s1", 1).await;
    assert_eq!(delivered(&mut subscription).await, "1");
    let since = Instant::now();
    (0..99).for_each(|_| service.https.refuse_token(forbidden()));
    peer.leave().await;
    let error = subscription.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert!(error.to_string().contains("WebSocketsSubscription"), "{error}");
    assert!(since.elapsed() >= s(120), "{:?}", since.elapsed());
    assert!(service.is_quiet());
}

#[tokio::test(start_paused = true)]
async fn probe_c_w12_a_refused_subscription_leaves_nothing_behind() {
    let mut service = Service::new();
    let start = service.start();
    let mut peer = service.accept().await;
    peer.details("W1", json!({})).await;
    let (meta, _) = peer.request().await.unwrap();
    peer.send(reply(&meta, 403, Some(json!({"errors": [{"errorCode": "SUB-528", "message": "no"}]})))).await;
    peer.event("s1", 1).await;
    let error = start.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::TransportRefused, Some("SUB-528")));
    assert!(error.to_string().contains("WebSocketsSubscription"), "{error}");
    while peer.next().await.is_some() {}
    assert!(service.is_quiet());
}

#[tokio::test(start_paused = true)]
async fn found_6_4_gateway_refusals_do_not_end_a_subscription_that_was_connected() {
    let refused = |status| {
        let error = Error::new(ErrorKind::Auth, "no").with_status(status);
        error.with_disposition(Disposition::Retry { after: None })
    };
    let mut service = Service::new();
    let (mut subscription, mut peer) = service.live("s1").await;
    wait_for(&subscription, Phase::Live).await;
    // Four within a minute or so, and some that last longer than the session.
    let since = Instant::now();
    for (n, count) in [(1, 4), (2, 16)] {
        for status in [401, 403, 404, 400].into_iter().cycle().take(count) {
            service.refuse_dial(refused(status));
        }
        peer.leave().await;
        peer = service.accept().await;
        if n == 1 {
            peer.recovered("W2").await;
        } else {
            peer.details("W3", json!({})).await;
            peer.subscribed("s2").await;
        }
        peer.event(&format!("s{n}"), n).await;
        while delivered(&mut subscription).await != n.to_string() {}
    }
    assert!(since.elapsed() > s(240), "{:?}", since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn w05_each_close_code_4400_gets_another_token() {
    let mut service = Service::new();
    let (mut subscription, peer) = service.live("s1").await;
    wait_for(&subscription, Phase::Live).await;
    peer.leave().await;
    let mut tokens = Vec::new();
    for _ in 0..12 {
        let mut peer = service.accept().await;
        tokens.push(peer.token().unwrap());
        peer.close(4400).await;
    }
    let mut peer = service.accept().await;
    peer.details("W2", json!({})).await;
    peer.subscribed("s2").await;
    peer.event("s2", 1).await;
    while delivered(&mut subscription).await != "1" {}
    tokens.dedup();
    assert_eq!(tokens.len(), 12, "a token of its own for each connection");
}

#[tokio::test(start_paused = true)]
async fn w11_unreadable_frames_do_not_end_the_connection() {
    let mut service = Service::new();
    let (mut subscription, mut peer) = service.live("s1").await;
    for text in [
        "",
        "{}",
        "[]",
        "null",
        "[{}]",
        "[[]]",
        "not json",
        "[{\"type\":7}]",
        "[{\"type\":\"New\"}]",
        "[{\"type\":\"ClientRequest\",\"messageId\":\"r-99\"},--Boundary_1 x --Boundary_1--]",
        "[{\"type\":\"ClientRequest\",\"messageId\":\"r-1\",\"status\":200}]",
        "[{\"type\":\"Error\"}]",
        "[{\"type\":\"Heartbeat\"}]",
    ] {
        peer.send(text).await;
    }
    peer.ws.send(Message::binary(vec![0, 159, 146, 150])).await.unwrap();
    peer.event("s1", 1).await;
    // Each unreadable frame may have been an event: seven of them.
    for _ in 0..7 {
        assert!(delivered(&mut subscription).await.starts_with("Undecodable"));
    }
    assert_eq!(delivered(&mut subscription).await, "1");
    // A frame that may have been an event is delivered.
    peer.send("[{\"type\":\"ServerNotification\",\"messageId\":\"2\"},{\"uuid\":]").await;
    peer.send("[{\"type\":\"ServerNotification\",\"messageId\":\"3\"}]").await;
    for _ in 0..2 {
        assert!(delivered(&mut subscription).await.starts_with("Undecodable"));
    }
    // Five megabytes are well within the limit.
    let large = event("s1", 4).replace("\"changes\"", &format!("\"{}\":0,\"changes\"", "x".repeat(5 << 20)));
    peer.send(large).await;
    peer.event("s1", 5).await;
    assert_eq!((delivered(&mut subscription).await, delivered(&mut subscription).await), ("4".into(), "5".into()));
}

#[tokio::test(start_paused = true)]
async fn unread_events_are_bounded_and_their_loss_is_reported() {
    let mut service = Service::with(WebSocket::builder().inbox_bytes(2_000));
    let start = service.start();
    let mut peer = service.accept().await;
    peer.details("W1", json!({})).await;
    let (meta, _) = peer.request().await.unwrap();
    for n in 1..=50 {
        peer.event("s1", n).await;
    }
    peer.send(reply(&meta, 200, Some(info("s1")))).await;
    let mut subscription = start.await.unwrap().unwrap();
    assert_eq!(delivered(&mut subscription).await, "gap overflow");
    assert_eq!(delivered(&mut subscription).await, "resumed");
    let first: usize = delivered(&mut subscription).await.parse().unwrap();
    assert!(first > 40, "{first}");
    for n in first + 1..=50 {
        assert_eq!(delivered(&mut subscription).await, n.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_that_the_gateway_rejects_gets_a_new_connection() {
    let mut service = Service::new();
    let start = service.start();
    let mut peer = service.accept().await;
    peer.details("W1", json!({})).await;
    let (meta, _) = peer.request().await.unwrap();
    peer.send(reply(&meta, 401, Some(json!({"errors": [{"errorCode": "OAU-213"}]})))).await;
    let mut peer = service.accept().await;
    peer.details("W2", json!({})).await;
    peer.subscribed("s1").await;
    assert!(start.await.unwrap().is_ok());
}
