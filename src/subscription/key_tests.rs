//! Events that no known key decrypts.

use super::*;
use crate::codec::Cipher;
use crate::secret::Secret;

const OLD_KEY: &str = "e0bMTqmumPfFUbwzppkSbA==";
const NEW_KEY: &str = "pdj+XYIRRBryWS2k33qXiA==";

fn sealed(key: &str, n: u64) -> String {
    let cipher = Cipher::from_delivery_mode(Some("AES"), &Secret::new(key)).unwrap();
    format!("\"{}\"", cipher.encrypt(event_text(n).as_bytes(), [0; 16]).unwrap())
}

/// A live subscription whose key has just changed without notice.
async fn changed() -> (World, Subscription) {
    let world = World::new();
    world.control.encrypt_with(OLD_KEY);
    let subscription = world.live().await;
    world.control.encrypt_with(NEW_KEY);
    (world, subscription)
}

/// Events at 10/s for as long as the range lasts.
async fn emit(world: &World, key: &str, events: std::ops::Range<u64>) {
    for n in events {
        world.transport.batch(1, vec![sealed(key, n)], None);
        sleep(Duration::from_millis(100)).await;
    }
}

/// Reads the items that wait, by kind.
async fn waiting(subscription: &mut Subscription) -> (Vec<u64>, usize, Vec<Gap>) {
    let (mut events, mut undecodable, mut gaps) = (Vec::new(), 0, Vec::new());
    while let Ok(Some(item)) = timeout(Duration::from_millis(1), subscription.next()).await {
        match item.unwrap() {
            Delivery::Notification(it) => events.push(it.uuid().unwrap().parse().unwrap()),
            Delivery::Undecodable(_) => undecodable += 1,
            Delivery::Gap(gap) => gaps.push(gap),
            Delivery::Resumed(_) => {}
            other => panic!("{other:?}"),
        }
    }
    (events, undecodable, gaps)
}

fn gets(control: &FakeControl) -> usize {
    control.count(|call| matches!(call, Call::Get(_)))
}

#[tokio::test(start_paused = true)]
async fn found_1_5_events_wait_while_requests_for_the_key_fail() {
    let (world, mut subscription) = changed().await;
    (0..3).for_each(|_| world.control.script("get", Script::Fail(unavailable())));
    emit(&world, NEW_KEY, 0..120).await;
    assert_eq!(waiting(&mut subscription).await, ((0..120).collect(), 0, vec![]));
    assert_eq!(gets(&world.control), 4);
}

#[tokio::test(start_paused = true)]
async fn found_1_5_events_wait_while_a_request_for_the_key_is_not_answered() {
    let (world, mut subscription) = changed().await;
    world.control.script("get", Script::Slow(secs(3600)));
    emit(&world, NEW_KEY, 0..120).await;
    assert_eq!(waiting(&mut subscription).await, ((0..120).collect(), 0, vec![]));
    assert_eq!(gets(&world.control), 2);
}

#[tokio::test(start_paused = true)]
async fn found_1_5_the_key_is_asked_for_beside_a_renewal_that_is_not_answered() {
    let (world, mut subscription) = changed().await;
    world.control.encrypt_with(OLD_KEY);
    world.control.script("renew", Script::Late(secs(3600)));
    while renews(&world.control) == 0 {
        sleep(secs(1)).await;
    }
    let before = gets(&world.control);
    world.control.encrypt_with(NEW_KEY);
    emit(&world, NEW_KEY, 0..20).await;
    assert_eq!(waiting(&mut subscription).await, ((0..20).collect(), 0, vec![]));
    assert_eq!(gets(&world.control), before + 1);
}

#[tokio::test(start_paused = true)]
async fn found_1_5_a_key_that_never_comes_is_one_gap_per_minute_and_no_event_is_lost() {
    let (world, mut subscription) = changed().await;
    world.control.encrypt_with(OLD_KEY);
    // The service still names the former key.
    let (mut undecodable, mut gaps) = (0, Vec::new());
    for tenth in 0..150 {
        emit(&world, NEW_KEY, tenth * 10..tenth * 10 + 10).await;
        let read = waiting(&mut subscription).await;
        undecodable += read.1;
        gaps.extend(read.2);
        assert_eq!(read.0.len(), 0);
    }
    assert_eq!(undecodable, 1_500);
    assert_eq!(gaps.len(), 2, "{gaps:?}");
    assert!(gaps.iter().all(|gap| gap.cause == GapCause::KeyUnknown));
    assert!(gets(&world.control) <= 13, "{}", gets(&world.control));
    emit(&world, OLD_KEY, 2_000..2_001).await;
    sleep(secs(60)).await;
    let (events, undecodable, gaps) = waiting(&mut subscription).await;
    assert_eq!((events, undecodable, gaps.len()), (vec![2_000], 0, 1));
}

#[tokio::test(start_paused = true)]
async fn found_1_5_a_short_run_without_a_key_is_one_gap_before_the_next_event() {
    let (world, mut subscription) = changed().await;
    world.control.encrypt_with(OLD_KEY);
    emit(&world, NEW_KEY, 0..15).await;
    // Not for want of a key.
    world.transport.batch(1, vec!["17".into()], None);
    emit(&world, NEW_KEY, 15..29).await;
    emit(&world, OLD_KEY, 30..31).await;
    for _ in 0..30 {
        assert!(matches!(next(&mut subscription).await, Delivery::Undecodable(_)));
    }
    assert_eq!(next_gap(&mut subscription).await.cause, GapCause::KeyUnknown);
    assert!(!next_resumed(&mut subscription).await.complete);
    assert_eq!(next_uuid(&mut subscription).await, 30);
}

#[tokio::test(start_paused = true)]
async fn found_1_5_events_wait_for_the_key_no_longer_than_30_s_and_it_is_used_when_it_comes() {
    let (world, mut subscription) = changed().await;
    world.control.refuse("get");
    let began = Instant::now();
    emit(&world, NEW_KEY, 0..1).await;
    assert!(matches!(next(&mut subscription).await, Delivery::Undecodable(_)));
    assert_eq!(began.elapsed(), secs(30));
    // Without a further wait.
    emit(&world, NEW_KEY, 1..2).await;
    assert!(matches!(next(&mut subscription).await, Delivery::Undecodable(_)));
    assert!(began.elapsed() < secs(31));
    world.control.allow("get");
    emit(&world, NEW_KEY, 2..120).await;
    let (events, undecodable, gaps) = waiting(&mut subscription).await;
    assert!(undecodable <= 80 && events.len() + undecodable == 118, "{undecodable}");
    assert_eq!(gaps.len(), 1, "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn found_1_5_waiting_for_a_key_neither_overflows_the_queue_nor_delays_the_end() {
    let world = World::new();
    world.control.encrypt_with(OLD_KEY);
    let mut subscription = world.builder().queue_bytes(20_000).start().await.unwrap();
    world.up(&subscription, 1).await;
    world.control.refuse("get");
    emit(&world, NEW_KEY, 0..200).await;
    let (events, undecodable, gaps) = waiting(&mut subscription).await;
    assert!(events.is_empty() && undecodable > 100 && gaps.is_empty(), "{events:?} {undecodable} {gaps:?}");
    let began = Instant::now();
    let closed = subscription.close().await;
    assert!(began.elapsed() < secs(5), "{:?}", began.elapsed());
    let gaps: Vec<_> = closed
        .unread
        .iter()
        .filter(|item| matches!(item, Delivery::Gap(gap) if gap.cause == GapCause::KeyUnknown))
        .collect();
    let left = closed.unread.iter().filter(|item| matches!(item, Delivery::Undecodable(_))).count();
    assert_eq!((undecodable + left, gaps.len()), (200, 1), "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn found_1_5_a_restart_continues_before_events_that_no_gap_reports_yet() {
    let (world, mut subscription) = changed().await;
    world.control.encrypt_with(OLD_KEY);
    emit(&world, OLD_KEY, 0..1).await;
    assert_eq!(next_uuid(&mut subscription).await, 0);
    assert!(is_quiet(&mut subscription));
    let before = subscription.resume_token().unwrap();
    emit(&world, NEW_KEY, 1..3).await;
    assert_eq!(waiting(&mut subscription).await.1, 2);
    assert_eq!(subscription.resume_token().unwrap().cursor, before.cursor);
    sleep(secs(3)).await;
    assert_eq!(waiting(&mut subscription).await.2.len(), 1);
    assert_ne!(subscription.resume_token().unwrap().cursor, before.cursor);
}
