//! A connection is lost.

use tokio::io::AsyncWriteExt as _;

use super::*;

#[tokio::test(start_paused = true)]
async fn w05_replayed_events_in_the_segment_of_connection_details_arrive() {
    let mut service = Service::new();
    let (mut subscription, peer) = service.live("s1").await;
    wait_for(&subscription, Phase::Live).await;
    peer.leave().await;
    let mut peer = service.accept().await;
    assert_eq!(peer.wsc().as_deref(), Some("W1"));
    // All of it is in the buffer before the client can read any of it.
    peer.ws.feed(Message::text(details("W2", &json!({"recoveryState": "Successful"})))).await.unwrap();
    for n in 1..=10 {
        peer.ws.feed(Message::text(event("s1", n))).await.unwrap();
    }
    peer.ws.flush().await.unwrap();
    for n in 1..=10 {
        assert_eq!(delivered(&mut subscription).await, n.to_string());
    }
    peer.event("s1", 11).await;
    assert_eq!(delivered(&mut subscription).await, "11");
}

#[tokio::test(start_paused = true)]
async fn w06_a_failed_recovery_resubscribes_on_the_same_connection_and_reports_one_gap() {
    let mut service = Service::new();
    let (mut subscription, peer) = service.live("s1").await;
    wait_for(&subscription, Phase::Live).await;
    peer.leave().await;
    let mut peer = service.accept().await;
    peer.details("W2", json!({"recoveryState": "Failed", "recoveryErrorCode": "WSG-1003"})).await;
    // The session is refused once, and works after that.
    let (meta, _) = peer.request().await.unwrap();
    assert_eq!(meta["method"], "POST");
    peer.send(reply(&meta, 503, None)).await;
    peer.subscribed("s2").await;
    assert_eq!(delivered(&mut subscription).await, "gap session_lost");
    assert_eq!(delivered(&mut subscription).await, "resumed s1 as s2");
    peer.event("s2", 2).await;
    assert_eq!(delivered(&mut subscription).await, "2");
    assert_eq!(service.https.deleted(), ["s1"]);
    // The token of the new session recovers a further loss.
    peer.leave().await;
    let mut peer = service.accept().await;
    assert_eq!(peer.wsc().as_deref(), Some("W2"));
    peer.recovered("W3").await;
    peer.event("s2", 3).await;
    assert_eq!(delivered(&mut subscription).await, "3");
    assert_eq!(service.https.tokens().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn w07_after_the_window_the_token_is_not_presented_and_the_loss_is_reported() {
    let mut service = Service::new();
    let (mut subscription, peer) = service.live("s1").await;
    wait_for(&subscription, Phase::Live).await;
    let lost_at = Instant::now();
    for _ in 0..200 {
        service.refuse_dial(Error::new(ErrorKind::Network, "refused"));
    }
    peer.leave().await;
    assert_eq!(delivered(&mut subscription).await, "gap session_lost");
    assert!((s(210)..s(300)).contains(&lost_at.elapsed()), "{:?}", lost_at.elapsed());
    let mut peer = service.accept().await;
    assert_eq!(peer.wsc(), None);
    peer.details("W2", json!({})).await;
    peer.subscribed("s2").await;
    assert_eq!(delivered(&mut subscription).await, "resumed s1 as s2");
}

#[tokio::test(start_paused = true)]
async fn w08_a_token_that_the_gateway_cannot_read_is_dropped() {
    let mut service = Service::new();
    let (mut subscription, peer) = service.live("s1").await;
    wait_for(&subscription, Phase::Live).await;
    peer.leave().await;
    let mut peer = service.accept().await;
    assert_eq!(peer.wsc().as_deref(), Some("W1"));
    peer.send(json!([{"type": "Error", "messageId": "e", "status": 400}, {"errorCode": "WSG-400"}]).to_string()).await;
    peer.close(1000).await;
    let mut peer = service.accept().await;
    assert_eq!(peer.wsc(), None);
    peer.details("W2", json!({})).await;
    peer.subscribed("s2").await;
    assert_eq!(delivered(&mut subscription).await, "gap session_lost");
    assert_eq!(delivered(&mut subscription).await, "resumed s1 as s2");
}

#[tokio::test(start_paused = true)]
async fn w09_every_end_of_a_connection_is_recovered_without_a_gap() {
    let mut service = Service::new();
    let (mut subscription, mut peer) = service.live("s1").await;
    wait_for(&subscription, Phase::Live).await;
    let mut n = 0;
    for (code, complaint) in [
        (1000, Some("WSG-902")),
        (1000, Some("WSG-903")),
        (1001, None),
        (1011, None),
        (1012, None),
        (1013, Some("WSG-901")),
        (4400, None),
        (4999, None),
    ] {
        if let Some(complaint) = complaint {
            let error = json!([{"type": "Error", "messageId": "e", "status": 408}, {"errorCode": complaint}]);
            peer.send(error.to_string()).await;
        }
        peer.close(code).await;
        peer = service.accept().await;
        assert!(peer.wsc().is_some(), "{code}");
        peer.recovered(&format!("W-{code}")).await;
        n += 1;
        peer.event("s1", n).await;
        assert_eq!(delivered(&mut subscription).await, n.to_string(), "{code}");
    }
    assert!(is_silent(&mut subscription, s(20)).await);
}

#[tokio::test(start_paused = true)]
async fn w10_the_newest_token_of_the_present_connection_is_presented_from_any_frame() {
    let wsc = |kind: &str, token: &str, sequence: serde_json::Value| {
        json!([{"type": kind, "messageId": "x", "wsc": {"token": token, "sequence": sequence}}]).to_string()
    };
    for (sent, want) in [
        (vec![], "W1"),
        (vec![wsc("ConnectionDetails", "A", json!(2))], "A"),
        (vec![wsc("SomethingNew", "A", json!(2))], "A"),
        (vec![wsc("Heartbeat", "A", json!(3)), wsc("Heartbeat", "B", json!(2))], "A"),
        (vec![wsc("Heartbeat", "A", json!("3")), wsc("Heartbeat", "B", json!(null))], "B"),
        (vec![json!([{"type": "ConnectionDetails", "messageId": "x"}]).to_string()], "W1"),
    ] {
        let mut service = Service::new();
        let (mut subscription, mut peer) = service.live("s1").await;
        for frame in &sent {
            peer.send(frame.as_str()).await;
        }
        peer.event("s1", 1).await;
        assert_eq!(delivered(&mut subscription).await, "1");
        peer.leave().await;
        let mut peer = service.accept().await;
        assert_eq!(peer.wsc().as_deref(), Some(want), "{sent:?}");
        // Another connection counts from 1 again.
        peer.recovered("Z").await;
        peer.event("s1", 2).await;
        assert_eq!(delivered(&mut subscription).await, "2");
        peer.leave().await;
        assert_eq!(service.accept().await.wsc().as_deref(), Some("Z"), "{sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn w20_a_replay_as_large_as_the_services_buffer_is_a_possible_loss() {
    for (replayed, gap) in [(99, false), (100, true)] {
        let mut service = Service::new();
        let (mut subscription, peer) = service.live("s1").await;
        wait_for(&subscription, Phase::Live).await;
        peer.leave().await;
        let mut peer = service.accept().await;
        peer.recovered("W2").await;
        for n in 1..=replayed {
            peer.event("s1", n).await;
        }
        for n in 1..=replayed {
            if gap && n == 100 {
                assert_eq!(delivered(&mut subscription).await, "gap service_buffer_full");
                assert_eq!(delivered(&mut subscription).await, "resumed");
            }
            assert_eq!(delivered(&mut subscription).await, n.to_string());
        }
        assert!(is_silent(&mut subscription, s(5)).await);
    }
}

#[tokio::test(start_paused = true)]
async fn found_1_1_a_connection_that_ends_without_a_close_frame_is_a_possible_gap_since_the_last_frame() {
    for how in ["reset", "end of the stream", "silence, then a reset"] {
        let mut service = Service::new();
        let (mut subscription, mut peer) = service.live("s1").await;
        wait_for(&subscription, Phase::Live).await;
        let sent = crate::clock::wall_now();
        let now = crate::Timestamp::from(sent).to_string();
        peer.send(event("s1", 1).replace("2026-01-01T00:00:00Z", &now)).await;
        assert_eq!(delivered(&mut subscription).await, "1");
        match how {
            "reset" => drop(peer),
            "end of the stream" => peer.ws.get_mut().shutdown().await.unwrap(),
            _ => {
                tokio::time::sleep(s(9)).await;
                drop(peer);
            }
        }
        let mut peer = service.accept().await;
        peer.recovered("W2").await;
        peer.event("s1", 2).await;
        let Some(Ok(Delivery::Gap(gap))) = subscription.next().await else { panic!("{how}") };
        assert_eq!((gap.cause.as_str(), gap.certainty), ("connection_broken", Certainty::Possible), "{how}");
        let since = gap.since.unwrap();
        assert!(since <= sent && since + s(12) >= sent && gap.until.unwrap() > since, "{how} {gap:?}");
        assert_eq!(
            (delivered(&mut subscription).await, delivered(&mut subscription).await),
            ("resumed".into(), "2".into())
        );
        assert!(is_silent(&mut subscription, s(5)).await, "{how}: one gap");
    }
}

#[tokio::test(start_paused = true)]
async fn found_2_3_a_busy_stream_is_neither_delayed_nor_a_gap_after_a_clean_end() {
    let mut service = Service::new();
    let start = service.start();
    let mut peer = service.accept().await;
    peer.details("W1", json!({})).await;
    // The service sends its time with the answer: years before this machine's.
    let (meta, _) = peer.request().await.unwrap();
    let headers = json!({"Date": "Sun, 06 Nov 1994 08:49:37 GMT"});
    let began = (Instant::now(), std::time::SystemTime::UNIX_EPOCH + s(784_111_777));
    let now = || crate::Timestamp::from(began.1 + began.0.elapsed()).to_string();
    let mut answer: serde_json::Value = serde_json::from_str(&reply(&meta, 200, Some(info("s1")))).unwrap();
    answer[0]["headers"] = headers;
    peer.send(answer.to_string()).await;
    let mut subscription = start.await.unwrap().unwrap();
    wait_for(&subscription, Phase::Live).await;
    let missed = event("s1", 0).replace("2026-01-01T00:00:00Z", &now());
    tokio::time::sleep(s(3)).await;
    peer.leave().await;
    let mut peer = service.accept().await;
    peer.recovered("W2").await;
    peer.send(missed).await;
    for n in 1..300 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        peer.send(event("s1", n).replace("2026-01-01T00:00:00Z", &now())).await;
    }
    for n in 0..300 {
        let read = Instant::now();
        assert_eq!(delivered(&mut subscription).await, n.to_string());
        assert_eq!(read.elapsed(), Duration::ZERO, "nothing is held back");
    }
}

#[tokio::test(start_paused = true)]
async fn w18_replayed_duplicates_are_delivered_once() {
    let mut service = Service::new();
    let (mut subscription, mut peer) = service.live("s1").await;
    peer.event("s1", 1).await;
    peer.event("s1", 1).await;
    peer.event("s1", 2).await;
    assert_eq!((delivered(&mut subscription).await, delivered(&mut subscription).await), ("1".into(), "2".into()));
    peer.leave().await;
    let mut peer = service.accept().await;
    peer.recovered("W2").await;
    for n in [2, 3, 2] {
        peer.event("s1", n).await;
    }
    assert_eq!(delivered(&mut subscription).await, "3");
    assert!(is_silent(&mut subscription, s(5)).await);
}

#[tokio::test(start_paused = true)]
async fn a_creation_without_an_answer_is_replaced_in_the_same_session() {
    let mut service = Service::new();
    let start = service.start();
    let mut peer = service.accept().await;
    peer.details("W1", json!({})).await;
    peer.request().await.unwrap();
    peer.leave().await;
    let mut peer = service.accept().await;
    assert_eq!(peer.wsc().as_deref(), Some("W1"));
    peer.recovered("W2").await;
    // Events of the subscription whose creation was not seen are ours, too.
    peer.event("s1", 1).await;
    peer.subscribed("s2").await;
    let mut subscription = start.await.unwrap().unwrap();
    peer.event("s2", 2).await;
    assert_eq!((delivered(&mut subscription).await, delivered(&mut subscription).await), ("1".into(), "2".into()));
    assert!(is_silent(&mut subscription, s(5)).await);
}

/// The service retains no more for a session whose creation was not answered than for any other.
#[tokio::test(start_paused = true)]
async fn a_full_replay_in_the_session_of_an_unanswered_creation_is_a_possible_loss() {
    for (replayed, is_full) in [(99, false), (100, true)] {
        let mut service = Service::new();
        let start = service.start();
        let mut peer = service.accept().await;
        peer.details("W1", json!({})).await;
        peer.request().await.unwrap();
        peer.leave().await;
        let mut peer = service.accept().await;
        peer.recovered("W2").await;
        peer.subscribed("s2").await;
        let mut subscription = start.await.unwrap().unwrap();
        wait_for(&subscription, Phase::Live).await;
        // The replay begins late.
        tokio::time::sleep(s(12)).await;
        for n in 1..=replayed {
            peer.event("s2", n).await;
        }
        for n in 1..=replayed {
            if is_full && n == 100 {
                assert_eq!(delivered(&mut subscription).await, "gap service_buffer_full");
                assert_eq!(delivered(&mut subscription).await, "resumed");
            }
            assert_eq!(delivered(&mut subscription).await, n.to_string());
        }
        assert!(is_silent(&mut subscription, s(5)).await);
    }
}

#[tokio::test(start_paused = true)]
async fn w42_after_a_sleep_another_connection_continues_the_session() {
    let mut service = Service::new();
    let (mut subscription, mut peer) = service.live("s1").await;
    wait_for(&subscription, Phase::Live).await;
    peer.event("s1", 1).await;
    // No close frame, which might end the session.
    let left = tokio::spawn(async move {
        while let Some(message) = peer.next().await {
            assert!(!message.is_close(), "{message:?}");
        }
    });
    subscription.handle().revalidate().await.unwrap();
    let mut second = service.accept().await;
    assert_eq!(second.wsc().as_deref(), Some("W1"));
    second.recovered("W2").await;
    second.event("s1", 2).await;
    // Events after the first connection's last pong count as sent and were not read.
    for want in ["1", "gap connection_broken", "resumed", "2"] {
        assert_eq!(delivered(&mut subscription).await, want);
    }
    assert!(is_silent(&mut subscription, s(20)).await);
    left.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_large_is_not_requested_for_ever() {
    let mut service = Service::with(WebSocket::builder().max_message(2_000));
    let (mut subscription, mut peer) = service.live("s1").await;
    wait_for(&subscription, Phase::Live).await;
    let large = event("s1", 1).replace("\"changes\"", &format!("\"{}\"", "x".repeat(3_000)));
    peer.send(large.clone()).await;
    let mut peer = service.accept().await;
    assert_eq!(peer.wsc().as_deref(), Some("W1"));
    peer.recovered("W2").await;
    peer.send(large).await;
    let mut peer = service.accept().await;
    assert_eq!(peer.wsc(), None);
    peer.details("W3", json!({})).await;
    peer.subscribed("s2").await;
    for want in ["gap connection_broken", "resumed", "gap too_large"] {
        assert_eq!(delivered(&mut subscription).await, want);
    }
    assert_eq!(delivered(&mut subscription).await, "resumed s1 as s2");
    peer.event("s2", 2).await;
    assert_eq!(delivered(&mut subscription).await, "2");
}
