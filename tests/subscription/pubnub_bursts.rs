//! Many events at once, and readers that are slower than the events: the messages of one answer arrive whole, and
//! polling never waits for the reader.

use std::num::NonZeroUsize;

use crate::support::subscribing::*;
use ringcentral_events::{Certainty, GapCause, Subscription};
use ringcentral_sandbox::{Overflow, Sandbox};

/// A subscription at a service that retains, and returns, `ring` messages.
async fn live_with_ring(ring: usize, hint: usize) -> (Sandbox, Subscription) {
    let sandbox =
        quick().behavior(|behavior| (behavior.ring, behavior.response_cap) = (ring, ring)).start().await.unwrap();
    let subscription = live_over(&sandbox, pubnub(&sandbox).buffer_size_hint(hint)).await;
    (sandbox, subscription)
}

async fn one_answer_arrives_whole(events: u64) {
    let count = usize::try_from(events).unwrap();
    let (sandbox, mut subscription) = live_with_ring(count, count + 1).await;
    publish_at_once(&sandbox, 1..=events);
    Journal::upto(&mut subscription, events).await.assert_only(1..=events);
    assert_eq!(sandbox.gauges().dropped_messages, 0);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn burst_of_100_to_1000_in_one_answer_loses_nothing() {
    for events in [99, 100, 101, 150, 300, 1000] {
        one_answer_arrives_whole(events).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn burst_of_100_to_1000_in_one_answer_loses_nothing_on_two_workers() {
    for events in [100, 101, 150, 300, 1000] {
        one_answer_arrives_whole(events).await;
    }
}

#[tokio::test]
async fn burst_as_large_as_the_services_buffer_is_preceded_by_a_possible_gap() {
    for events in [100_u64, 300] {
        let (sandbox, mut subscription) = live_with_ring(300, 100).await;
        publish_at_once(&sandbox, 1..=events);
        let journal = Journal::upto(&mut subscription, events).await;
        assert_eq!(journal.events(), (1..=events).collect::<Vec<_>>());
        let gap = journal.gaps()[0];
        let count = usize::try_from(events).unwrap();
        assert_eq!(gap.cause, GapCause::ServiceBufferFull { events: count });
        assert_eq!((gap.certainty, gap.lost), (Certainty::Possible, None));
        assert!(matches!(journal.entries[0], Entry::Gap(_)) && matches!(journal.entries[1], Entry::Resumed(_)));
        assert_eq!(journal.trouble().len(), 2);
        close(&sandbox, subscription).await;
    }
}

#[tokio::test]
async fn burst_beyond_the_services_buffer_is_in_the_gap() {
    let (sandbox, mut subscription) = live_with_ring(100, 100).await;
    publish(&sandbox, 1..=5);
    let mut journal = Journal::upto(&mut subscription, 5).await;
    publish_at_once(&sandbox, 6..=205);
    journal.read_to(&mut subscription, 205).await;
    journal.assert_missing_only_in_gaps(1..=205);
    assert_eq!(journal.events().len(), 105);
    assert!(is_buffer_full(journal.gaps()[0]));
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn burst_of_the_largest_messages_arrives_whole() {
    let (sandbox, mut subscription) = live_with_ring(100, 101).await;
    // 32 KiB once it is encrypted and in base64.
    let filling = "x".repeat(24_000);
    let bodies: Vec<String> = (1..=100).map(|n| format!(r#"{{"n":{n},"filling":"{filling}"}}"#)).collect();
    sandbox.trigger_json_all(STORE, &bodies).unwrap();
    Journal::upto(&mut subscription, 100).await.assert_only(1..=100);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn burst_in_pages_loses_nothing() {
    let sandbox = quick()
        .behavior(|behavior| (behavior.ring, behavior.response_cap, behavior.overflow) = (5000, 50, Overflow::Page))
        .start()
        .await
        .unwrap();
    let mut subscription = live(&sandbox).await;
    publish_at_once(&sandbox, 1..=1000);
    Journal::upto(&mut subscription, 1000).await.assert_only(1..=1000);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn slow_reader_with_the_100_message_ring_loses_nothing() {
    let sandbox = quick().start().await.unwrap();
    let builder = subscribe(&client(&sandbox), pubnub(&sandbox).build().unwrap()).buffer(NonZeroUsize::MIN);
    let mut subscription = start(builder).await;
    // Without a reader, ten times the ring's capacity is published.
    for first in (1..=1000).step_by(50) {
        publish_at_once(&sandbox, first..first + 50);
        assert!(sandbox.wait_caught_up(SOON).await, "polls go on without a reader");
    }
    Journal::upto(&mut subscription, 1000).await.assert_only(1..=1000);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn slow_reader_with_a_full_queue_gets_one_gap_with_the_count() {
    let sandbox = quick().start().await.unwrap();
    let builder =
        subscribe(&client(&sandbox), pubnub(&sandbox).build().unwrap()).buffer(NonZeroUsize::MIN).queue_bytes(64 << 10);
    let mut subscription = start(builder).await;
    for first in (1..=1000).step_by(50) {
        publish_at_once(&sandbox, first..first + 50);
        assert!(sandbox.wait_caught_up(SOON).await);
    }
    let mut journal = Journal::default();
    while journal.gaps().is_empty() {
        journal.entries.push_back(next(&mut subscription).await.into());
    }
    publish_at_once(&sandbox, 1001..=1010);
    journal.read_to(&mut subscription, 1010).await;
    journal.assert_missing_only_in_gaps(1..=1010);
    assert_eq!(journal.gaps().len(), 1);
    let gap = journal.gaps()[0];
    assert_eq!((&gap.cause, gap.certainty), (&GapCause::Overflow, Certainty::Certain));
    assert_eq!(journal.events().len() as u64 + gap.lost.unwrap(), 1010);
    close(&sandbox, subscription).await;
}
