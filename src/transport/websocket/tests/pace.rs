//! How often it is dialled and asked, and how a start and an end come out.

use super::*;

fn no_connection() -> Error {
    Error::new(ErrorKind::Network, "refused")
}

#[tokio::test(start_paused = true)]
async fn w41_the_dials_of_an_outage_are_spread() {
    let mut service = Service::new();
    let (_subscription, mut peer) = service.live("s1").await;
    let lived = tokio::time::timeout(s(120), async { while peer.request().await.is_some() {} }).await;
    assert!(lived.is_err());
    let before = service.https.tokens().len();
    (0..4).for_each(|_| service.refuse_dial(no_connection()));
    drop(peer);
    let _peer = service.accept().await;
    let tokens = service.https.tokens();
    let pauses: Vec<_> = tokens[before..].windows(2).map(|two| (two[1] - two[0]).as_millis()).collect();
    for (pause, (least, most)) in pauses.iter().zip([(1_500, 2_500), (3_000, 5_000), (6_000, 9_000), (30_000, 60_000)])
    {
        assert!((least..=most).contains(pause), "{pauses:?}");
    }
    assert_eq!(pauses.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_takeover_that_is_not_answered_does_not_keep_a_lost_connection_from_coming_back() {
    let mut service = Service::new();
    let start = service.start();
    let mut peer = service.accept().await;
    peer.details("W1", json!({"absoluteTimeout": 60})).await;
    peer.subscribed("s1").await;
    let mut subscription = start.await.unwrap().unwrap();
    let first = tokio::spawn(async move {
        while let Ok(request) = tokio::time::timeout(s(300), peer.request()).await {
            if request.is_none() {
                break;
            }
        }
    });
    let mut second = service.accept().await;
    second.details("X1", json!({})).await;
    let (meta, _) = second.request().await.unwrap();
    assert_eq!(meta["method"], "POST");
    first.abort();
    let lost_at = Instant::now();
    let mut third = service.accept().await;
    assert_eq!(third.wsc().as_deref(), Some("W1"));
    assert!(lost_at.elapsed() < s(5), "{:?}", lost_at.elapsed());
    third.recovered("W2").await;
    third.event("s1", 1).await;
    assert_eq!(told(&mut subscription).await, "1");
}

#[tokio::test(start_paused = true)]
async fn w05_refusals_at_the_start_are_told_soon() {
    let service = Service::new();
    (0..9).for_each(|_| service.refuse_dial(no_connection().with_status(401)));
    let since = Instant::now();
    let error = service.start().await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::TransportRefused, Some(401)));
    assert!(since.elapsed() < s(15), "{:?}", since.elapsed());
    assert_eq!(service.https.tokens().len(), 3);

    let mut service = Service::new();
    let start = service.start();
    for _ in 0..3 {
        service.accept().await.close(4400).await;
    }
    assert_eq!(start.await.unwrap().unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test(start_paused = true)]
async fn a_full_rate_does_not_hide_why_there_is_no_connection() {
    let service = Service::new();
    (0..20).for_each(|_| service.https.refuse_token(Error::new(ErrorKind::Service, "down").with_status(503)));
    let start = service.builder().start_within(s(45)).start();
    let error = start.await.unwrap_err();
    let causes = format!("{error:?} {error}");
    assert!(causes.contains("down") && !causes.contains("rate group"), "{causes}");
    assert_eq!(service.https.tokens().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn one_odd_address_ends_no_subscription_and_at_the_start_they_are_told_when_they_last() {
    let mut service = Service::new();
    let (mut subscription, peer) = service.live("s1").await;
    wait_for(&subscription, Phase::Live).await;
    service.https.name_odd_addresses(3);
    drop(peer);
    let mut peer = service.accept().await;
    peer.recovered("W2").await;
    peer.event("s1", 1).await;
    assert_eq!(told(&mut subscription).await, "1");

    let mut service = Service::new();
    service.https.name_odd_addresses(1);
    drop(service.live("s1").await);

    let service = Service::new();
    service.https.name_odd_addresses(9);
    let error = service.start().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("wss"), "{error}");
    assert_eq!(service.https.tokens().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn w32_the_service_is_asked_as_often_as_it_should_be() {
    for every in [30, 100, 2_400] {
        let mut service = Service::with(WebSocket::builder().audit_every(s(every)));
        let (_subscription, mut peer) = service.live("s1").await;
        for _ in 0..3 {
            let since = Instant::now();
            let (meta, _) = peer.request().await.unwrap();
            assert_eq!(meta["method"], "GET");
            let (least, most) = (s(every) * 95 / 100, s(every) * 9 / 8 + s(3));
            assert!((least..=most).contains(&since.elapsed()), "{every} {:?}", since.elapsed());
            peer.send(reply(&meta, 200, Some(info("s1")))).await;
        }
    }
}

/// A creation is under way that is carried out and not answered.
#[tokio::test(start_paused = true)]
async fn w44_what_a_creation_without_an_answer_made_is_not_left_behind() {
    let mut service = Service::new();
    let (subscription, peer) = service.live("s1").await;
    wait_for(&subscription, Phase::Live).await;
    drop(peer);
    let mut peer = service.accept().await;
    peer.details("W2", json!({"recoveryState": "Failed"})).await;
    let (meta, _) = peer.request().await.unwrap();
    assert_eq!(meta["method"], "POST");
    service.https.lists("s2");
    let end = tokio::spawn(subscription.close());
    // Made once more, in the place of the one that is not known.
    peer.subscribed("s3").await;
    let (meta, _) = peer.request().await.unwrap();
    assert_eq!(
        (meta["method"].as_str(), meta["path"].as_str()),
        (Some("DELETE"), Some("/restapi/v1.0/subscription/s3"))
    );
    peer.send(reply(&meta, 204, None)).await;
    let rest = tokio::spawn(async move { while peer.next().await.is_some() {} });
    assert!(end.await.unwrap().deleted);
    rest.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_creation_is_refused_as_it_is_over_https() {
    // An extension that is not ready yet.
    let mut service = Service::new();
    let start = service.start();
    let mut peer = service.accept().await;
    peer.details("W1", json!({})).await;
    let (meta, _) = peer.request().await.unwrap();
    let since = Instant::now();
    peer.send(reply(&meta, 406, None)).await;
    peer.subscribed("s1").await;
    assert!(since.elapsed() >= s(10), "{:?}", since.elapsed());
    assert!(start.await.unwrap().is_ok());
}
