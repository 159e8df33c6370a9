//! Events that may have been sent and were not read are reported; those that were not lost are not.

use http::Method;
use tokio::io::AsyncWriteExt as _;

use super::*;

/// The next gap: its cause, and how long it is.
async fn gap(subscription: &mut Subscription) -> (&'static str, Duration) {
    match subscription.next().await.unwrap().unwrap() {
        Delivery::Gap(gap) => {
            assert_eq!(gap.certainty, Certainty::Possible);
            (gap.cause.as_str(), gap.until.unwrap().duration_since(gap.since.unwrap()).unwrap_or_default())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_with_invalid_utf8_is_undecodable_and_spoils_no_other() {
    let mut service = Service::new();
    let (mut subscription, mut peer) = service.live("s1").await;
    let latin = |text: String| {
        let at = text.find("\"body\"").unwrap();
        let mut bytes = text.into_bytes();
        bytes.splice(at..at, *b"\"t\":\"caf\xe9\",");
        bytes
    };
    peer.send_bytes(latin(event("s1", 1))).await;
    // Another subscription's event, and a frame that is not an event.
    peer.send_bytes(latin(event("s9", 2))).await;
    peer.send_bytes(b"[{\"type\":\"Heartbeat\",\"messageId\":\"\xff\"}]".to_vec()).await;
    peer.event("s1", 3).await;
    match subscription.next().await.unwrap().unwrap() {
        Delivery::Undecodable(it) => assert!(format!("{it:?}").contains("UTF-8"), "{it:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(delivered(&mut subscription).await, "3");
    assert!(is_silent(&mut subscription, s(10)).await && service.is_quiet());
}

#[tokio::test(start_paused = true)]
async fn messages_behind_an_unreadable_one_are_a_possible_loss() {
    // Too large; a control frame that exceeds the limit.
    let large = |n| event("s1", n).replace("\"changes\"", &format!("\"{}\"", "x".repeat(3_000))).into_bytes();
    let long_ping = [&[0x89, 126, 0, 200][..], &[0; 200]].concat();
    for breaks_off in ["large", "protocol"] {
        let mut service = Service::with(WebSocket::builder().max_message(2_000));
        let (mut subscription, mut peer) = service.live("s1").await;
        wait_for(&subscription, Phase::Live).await;
        peer.event("s1", 1).await;
        assert_eq!(delivered(&mut subscription).await, "1");
        match breaks_off {
            "large" => peer.send_bytes(large(2)).await,
            _ => peer.ws.get_mut().write_all(&long_ping).await.unwrap(),
        }
        let mut peer = service.accept().await;
        peer.recovered("W2").await;
        // At once, without any further frame.
        let gap = tokio::time::timeout(s(1), gap(&mut subscription)).await.unwrap();
        assert_eq!(gap.0, "connection_broken", "{breaks_off}");
        peer.event("s1", 3).await;
        assert_eq!(
            (delivered(&mut subscription).await, delivered(&mut subscription).await),
            ("resumed".into(), "3".into())
        );
        // The same message is not requested for ever.
        match breaks_off {
            "large" => peer.send_bytes(large(4)).await,
            _ => peer.ws.get_mut().write_all(&long_ping).await.unwrap(),
        }
        let mut peer = service.accept().await;
        assert_eq!(peer.wsc(), None, "{breaks_off}");
        peer.details("W3", json!({})).await;
        peer.subscribed("s2").await;
        assert_eq!(delivered(&mut subscription).await, "gap too_large");
        assert_eq!(delivered(&mut subscription).await, "resumed s1 as s2");
    }
}

#[tokio::test(start_paused = true)]
async fn w05_an_interrupted_recovery_is_a_possible_loss() {
    let mut service = Service::new();
    let (mut subscription, mut peer) = service.live("s1").await;
    wait_for(&subscription, Phase::Live).await;
    peer.event("s1", 1).await;
    assert_eq!(delivered(&mut subscription).await, "1");
    peer.leave().await;
    let cut = service.accept().await;
    // Before `ConnectionDetails`, a new dial replaces the opening one.
    subscription.handle().revalidate().await.unwrap();
    let mut peer = service.accept().await;
    assert_eq!(peer.wsc().as_deref(), Some("W1"));
    peer.recovered("W2").await;
    peer.event("s1", 3).await;
    assert_eq!(gap(&mut subscription).await.0, "connection_broken");
    assert_eq!(
        (delivered(&mut subscription).await, delivered(&mut subscription).await),
        ("resumed".into(), "3".into())
    );
    drop(cut);
    // The loss is reported once.
    peer.leave().await;
    let mut peer = service.accept().await;
    peer.recovered("W3").await;
    peer.event("s1", 4).await;
    assert_eq!(delivered(&mut subscription).await, "4");
}

#[tokio::test(start_paused = true)]
async fn a_failed_dial_is_a_possible_loss_only_if_the_request_was_sent() {
    let network = || Error::new(ErrorKind::Network, "no");
    for (error, doubt) in [
        (network(), false),
        (network().with_ambiguous(true), true),
        (network().with_status(503), false),
        (network().with_status(403), false),
    ] {
        let mut service = Service::new();
        let (mut subscription, peer) = service.live("s1").await;
        wait_for(&subscription, Phase::Live).await;
        let text = format!("{error:?}");
        service.refuse_dial(error);
        peer.leave().await;
        let mut peer = service.accept().await;
        peer.recovered("W2").await;
        peer.event("s1", 1).await;
        if doubt {
            assert_eq!(gap(&mut subscription).await.0, "connection_broken", "{text}");
            assert_eq!(delivered(&mut subscription).await, "resumed");
        }
        assert_eq!(delivered(&mut subscription).await, "1", "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn found_2_1_2_2_a_replay_is_counted_with_pauses_and_with_repetitions() {
    for (what, wait, pause, numbers, full) in [
        ("late", 12_000, 0, (0..150).collect::<Vec<_>>(), true),
        ("with pauses", 0, 400, (0..150).collect(), true),
        ("each twice", 0, 0, (0..60).chain(0..60).collect(), true),
        ("too few", 12_000, 400, (0..99).collect(), false),
    ] {
        let mut service = Service::new();
        let (mut subscription, peer) = service.live("s1").await;
        wait_for(&subscription, Phase::Live).await;
        peer.leave().await;
        let mut peer = service.accept().await;
        peer.recovered("W2").await;
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let feed = tokio::spawn(async move {
            for n in numbers {
                peer.event("s1", n).await;
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            peer
        });
        let count = if what == "each twice" {
            60
        } else if full {
            150
        } else {
            99
        };
        let mut all = Vec::new();
        while all.len() < count + if full { 2 } else { 0 } {
            all.push(delivered(&mut subscription).await);
        }
        let gaps: Vec<_> = all.iter().filter(|word| word.parse::<usize>().is_err()).map(String::as_str).collect();
        assert_eq!(gaps, if full { vec!["gap service_buffer_full", "resumed"] } else { vec![] }, "{what}");
        let mut peer = feed.await.unwrap();
        // Live events are not a replay.
        for n in 1_000..1_100 {
            peer.event("s1", n).await;
        }
        let live = if full { 100 } else { 0 };
        for n in 1_000..1_000 + live {
            assert_eq!(delivered(&mut subscription).await, n.to_string(), "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_message_is_awaited_but_not_for_ever() {
    let mut service = Service::new();
    let (mut subscription, mut peer) = service.live("s1").await;
    wait_for(&subscription, Phase::Live).await;
    let text = event("s1", 1).replace("\"changes\"", &format!("\"{}\":0,\"changes\"", "x".repeat(300 << 10)));
    let head = [&[0x81, 127][..], &(text.len() as u64).to_be_bytes()].concat();
    for piece in [&head, text.as_bytes()].concat().chunks(5_000) {
        peer.ws.get_mut().write_all(piece).await.unwrap();
        tokio::time::sleep(s(1)).await;
    }
    assert_eq!(delivered(&mut subscription).await, "1");
    assert!(service.is_quiet());
    // One that never ends.
    let since = Instant::now();
    let drip = tokio::spawn(async move {
        let head = [&[0x81, 127][..], &1_000_000_u64.to_be_bytes()].concat();
        let mut sent = peer.ws.get_mut().write_all(&head).await;
        while sent.is_ok() {
            tokio::time::sleep(s(1)).await;
            sent = peer.ws.get_mut().write_all(b"x").await;
        }
    });
    let _peer = service.accept().await;
    assert!((s(300)..s(350)).contains(&since.elapsed()), "{:?}", since.elapsed());
    drip.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_audit_does_not_end_the_subscription_at_once() {
    let mut service = Service::with(WebSocket::builder().audit_every(s(30)));
    let (mut subscription, mut peer) = service.live("s1").await;
    wait_for(&subscription, Phase::Live).await;
    let mut asked = Instant::now();
    // The answer, and after how many seconds the question is repeated: soon after one without an answer.
    for (answer, least, most) in [
        (Some(429), 28, 40),
        (Some(503), 8, 75),
        (None, 8, 20),
        (None, 2, 4),
        (None, 6, 20),
        (Some(200), 2, 4),
        // 30 s at least after the first of two questions, which was up to 4 s earlier.
        (None, 26, 40),
    ] {
        let (meta, _) = peer.request().await.unwrap();
        assert_eq!(meta["method"], "GET");
        let pause = asked.elapsed();
        assert!((s(least)..=s(most)).contains(&pause), "{answer:?} {pause:?}");
        asked = Instant::now();
        match answer {
            Some(200) => peer.send(reply(&meta, 200, Some(info("s1")))).await,
            Some(status) => peer.send(reply(&meta, status, None)).await,
            None => {}
        }
        peer.event("s1", asked.elapsed().as_millis() as usize).await;
    }
    assert_eq!(delivered(&mut subscription).await, "0");
    assert!(is_silent(&mut subscription, s(1)).await);
    // No answer for a quarter of an hour, while heartbeats are answered.
    let mute = tokio::spawn(async move { while peer.request().await.is_some() {} });
    let word = delivered(&mut subscription).await;
    assert_eq!(word, "gap lease_expired");
    assert!((s(800)..s(1_100)).contains(&asked.elapsed()), "{:?}", asked.elapsed());
    mute.abort();
}

/// The connection ends instead of the answer, and its session continues over another one.
#[tokio::test(start_paused = true)]
async fn an_audit_that_ends_with_its_connection_is_repeated_soon_over_the_next() {
    for window in [180, 30] {
        let mut service = Service::new();
        let start = service.start();
        let mut peer = service.accept().await;
        peer.details("W1", json!({"recoveryTimeout": window})).await;
        peer.subscribed("s1").await;
        let subscription = start.await.unwrap().unwrap();
        wait_for(&subscription, Phase::Live).await;
        let (meta, _) = peer.request().await.unwrap();
        assert_eq!(meta["method"], "GET");
        let asked = Instant::now();
        peer.leave().await;
        let mut peer = service.accept().await;
        peer.details("W2", json!({"recoveryState": "Successful"})).await;
        let (meta, _) = peer.request().await.unwrap();
        assert_eq!(meta["method"], "GET");
        assert!(asked.elapsed() <= s(20), "{window}: {:?}", asked.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn an_audit_that_is_due_without_a_connection_follows_soon_after_the_next_one() {
    let mut service = Service::new();
    let (mut subscription, mut peer) = service.live("s1").await;
    wait_for(&subscription, Phase::Live).await;
    let due = tokio::time::timeout(s(40), peer.request()).await;
    assert!(due.is_err(), "{due:?}");
    service.https.is_down(true);
    peer.leave().await;
    assert!(is_silent(&mut subscription, s(15)).await);
    service.https.is_down(false);
    let mut peer = service.accept().await;
    peer.recovered("W2").await;
    let back = Instant::now();
    let (meta, _) = peer.request().await.unwrap();
    assert_eq!(meta["method"], "GET");
    assert!(back.elapsed() <= s(16), "{:?}", back.elapsed());
}

/// The answer to one question is lost: the next one shows within a minute that the subscription is gone.
#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_an_audit_does_not_delay_the_notice_of_a_loss() {
    let mut service = Service::new();
    let (mut subscription, mut peer) = service.live("s1").await;
    wait_for(&subscription, Phase::Live).await;
    let gone = Instant::now();
    let (_lost, _) = peer.request().await.unwrap();
    let (meta, _) = peer.request().await.unwrap();
    peer.send(reply(&meta, 404, Some(json!({"errorCode": "CMN-102"})))).await;
    assert_eq!(delivered(&mut subscription).await, "gap subscription_gone");
    assert!(gone.elapsed() <= s(60), "{:?}", gone.elapsed());
}

#[tokio::test(start_paused = true)]
async fn found_6_5_an_unreadable_frame_is_delivered_as_undecodable_and_hides_the_token() {
    let mut service = Service::new();
    let (mut subscription, mut peer) = service.live("s1").await;
    for (frame, shown) in [
        (r#"[{"type":"ServerNot"#, true),
        ("not a frame", true),
        (r#"[{"type":"ConnectionDetails","wsc":{"token":"S3CRET"#, false),
    ] {
        peer.send(frame).await;
        match subscription.next().await.unwrap().unwrap() {
            Delivery::Undecodable(it) => assert_eq!(&*it.raw == frame, shown, "{}", it.raw),
            other => panic!("{other:?}"),
        }
    }
    // A type of a later version that carries an event counts as an event.
    peer.send(event("s1", 1).replace("ServerNotification", "ServerNotification2")).await;
    assert_eq!(delivered(&mut subscription).await, "1");
}

#[tokio::test(start_paused = true)]
async fn found_6_9_events_that_all_name_another_subscription_are_delivered_within_seconds() {
    let mut service = Service::new();
    let (mut subscription, mut peer) = service.live("s1").await;
    peer.event("another", 1).await;
    peer.event("another", 2).await;
    let began = Instant::now();
    assert_eq!((delivered(&mut subscription).await, delivered(&mut subscription).await), ("1".into(), "2".into()));
    assert_eq!(began.elapsed(), s(5));
    peer.event("another", 3).await;
    assert_eq!(delivered(&mut subscription).await, "3");
    assert_eq!(began.elapsed(), s(5), "from then on at once");
}

#[tokio::test(start_paused = true)]
async fn found_6_13_while_nothing_is_read_calls_and_the_end_are_still_served() {
    let mut service = Service::with(WebSocket::builder().inbox_bytes(20_000));
    let builder = service.builder().queue_bytes(20_000).buffer(std::num::NonZeroUsize::MIN);
    let start = tokio::spawn(builder.start());
    let mut peer = service.accept().await;
    peer.details("W1", json!({})).await;
    peer.subscribed("s1").await;
    let mut subscription = start.await.unwrap().unwrap();
    let client = subscription.handle().socket().unwrap();
    // More than the queue, the event buffer and the pipe hold; the rest waits at the peer.
    let sending = tokio::spawn(async move {
        for n in 1..=1_000 {
            peer.event("s1", n).await;
        }
        let (meta, _) = peer.request().await.unwrap();
        peer.send(reply(&meta, 204, None)).await;
        peer
    });
    let call = tokio::spawn(async move { client.request(Method::GET, "/x").deadline(s(20)).send().await });
    tokio::time::sleep(s(5)).await;
    if sending.is_finished() {
        sending.await.unwrap();
        panic!("the connection was read");
    }
    for n in 1..=1_000 {
        assert_eq!(delivered(&mut subscription).await, n.to_string());
    }
    assert_eq!(call.await.unwrap().unwrap().status(), 204);
    let mut peer = sending.await.unwrap();
    peer.event("s1", 1_001).await;
    assert_eq!(delivered(&mut subscription).await, "1001");
}

#[tokio::test(start_paused = true)]
async fn found_6_13_a_reader_that_never_reads_costs_bounded_memory_and_one_gap() {
    let mut service = Service::with(WebSocket::builder().inbox_bytes(20_000));
    let builder = service.builder().queue_bytes(20_000).buffer(std::num::NonZeroUsize::MIN);
    let start = tokio::spawn(builder.start());
    let mut peer = service.accept().await;
    peer.details("W1", json!({})).await;
    peer.subscribed("s1").await;
    let mut subscription = start.await.unwrap().unwrap();
    let sending = tokio::spawn(async move {
        for n in 1..=2_000 {
            peer.event("s1", n).await;
        }
        peer
    });
    tokio::time::sleep(s(60)).await;
    assert!(sending.is_finished(), "the connection is read again, for its pings");
    let (mut next, mut gaps) = (1, 0);
    while next <= 2_000 {
        match subscription.next().await.unwrap().unwrap() {
            Delivery::Notification(it) => {
                assert_eq!(it.uuid().unwrap(), next.to_string());
                next += 1;
            }
            Delivery::Gap(gap) => {
                assert_eq!(gap.cause.as_str(), "overflow");
                next += gap.lost.unwrap();
                gaps += 1;
            }
            Delivery::Resumed(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(gaps, 1);
}

/// A session has one subscription: the one that is answered replaced the one that was not.
#[tokio::test(start_paused = true)]
async fn a_creation_in_the_same_session_replaces_one_without_an_answer() {
    for same in [true, false] {
        let mut service = Service::new();
        let start = service.start();
        let mut peer = service.accept().await;
        peer.details("W1", json!({})).await;
        let (meta, _) = peer.request().await.unwrap();
        assert_eq!(meta["method"], "POST");
        if !same {
            drop(peer);
            peer = service.accept().await;
            peer.details("W2", json!({})).await;
        }
        peer.subscribed("s1").await;
        let subscription = start.await.unwrap().unwrap();
        wait_for(&subscription, Phase::Live).await;
        let serving = tokio::spawn(peer.serve("s1"));
        let closed = subscription.close().await;
        assert_eq!(closed.deleted, same, "{closed:?}");
        assert!(serving.await.unwrap().contains(&"DELETE".to_owned()));
    }
}
