//! Subscriptions without push.

use super::*;
use crate::kind::TransportKind;
use crate::transport::Poll;

fn polled(world: &World, source: &FakeSource) -> SubscriptionBuilder {
    SubscriptionBuilder::new(world.control.clone(), [filter(TEXTS)]).transport(Poll::new()).catch_up(source.clone())
}

#[tokio::test(start_paused = true)]
async fn events_after_the_start_arrive_and_none_from_before() {
    let (world, source) = (World::new(), FakeSource::default());
    source.happen([1]);
    let mut subscription = polled(&world, &source).start().await.unwrap();
    source.happen([2]);
    let before = Instant::now();
    assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, 2));
    sleep(secs(300)).await;
    source.happen([3, 4]);
    let idle = Instant::now();
    for n in [3, 4] {
        assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, n));
    }
    assert!(idle.elapsed() <= secs(30) && before.elapsed() > secs(300), "{:?}", idle.elapsed());
    assert_eq!(subscription.status().current().transport, TransportKind::Poll);
    assert!(world.control.calls().is_empty(), "nothing is subscribed to: {:?}", world.control.calls());
    let closed = subscription.close().await;
    let [Delivery::Gap(gap)] = &closed.unread[..] else { panic!("{:?}", closed.unread) };
    assert_eq!((&gap.cause, gap.certainty), (&GapCause::NotPolled, Certainty::Possible));
    assert!(closed.deleted);
}

#[tokio::test(start_paused = true)]
async fn the_interval_is_as_set_and_a_poll_can_be_had_at_once() {
    let (world, source) = (World::new(), FakeSource::default());
    let every = polled(&world, &source).poll_every(secs(100)..=secs(400));
    let mut subscription = every.start().await.unwrap();
    sleep(secs(4000)).await;
    let polls = source.calls().len();
    assert!((10..=16).contains(&polls), "{polls}");
    source.happen([1]);
    let asked = Instant::now();
    subscription.handle().revalidate().await.unwrap();
    assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, 1));
    assert!(asked.elapsed() < secs(1), "{:?}", asked.elapsed());
    for (least, most) in [(0, 10), (20, 10), (10, 100_000)] {
        let error = polled(&world, &source).poll_every(secs(least)..=secs(most)).start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    }
}

#[tokio::test(start_paused = true)]
async fn a_filter_without_a_source_is_refused() {
    let (world, source) = (World::new(), FakeSource::default());
    let presence = "/restapi/v1.0/account/~/extension/~/presence";
    let both = SubscriptionBuilder::new(world.control.clone(), [filter(TEXTS), filter(presence)]);
    let error = both.transport(Poll::new()).catch_up(source.clone()).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains(presence), "{error}");

    let subscription = polled(&world, &source).start().await.unwrap();
    let error = subscription.handle().update_filters([filter(presence)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_cannot_begin_keeps_it_from_starting() {
    let (world, source) = (World::new(), FakeSource::default());
    source.fail_begin(unavailable());
    let subscription = polled(&world, &source).start().await.unwrap();
    drop(subscription);
    source.fail_begin(Error::new(ErrorKind::Permission, "ReadMessages").with_status(403));
    let error = polled(&world, &source).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission);
}

#[tokio::test(start_paused = true)]
async fn its_health_is_that_of_its_sources() {
    let (world, source) = (World::new(), FakeSource::default());
    let mut subscription = polled(&world, &source).start().await.unwrap();
    phase(&subscription, Phase::Live).await;
    for _ in 0..3 {
        source.fail(unavailable());
    }
    phase(&subscription, Phase::Reconnecting).await;
    assert_eq!(subscription.status().current().last_error.unwrap().status(), Some(503));
    source.happen([1]);
    phase(&subscription, Phase::Live).await;
    assert!(subscription.status().current().last_error.is_none());
    assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, 1));

    source.fail(Error::new(ErrorKind::Permission, "ReadMessages").with_status(403));
    let error = subscription.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert!(subscription.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_answer_of_a_source_is_a_gap() {
    let (world, source) = (World::new(), FakeSource::default());
    let mut subscription = polled(&world, &source).start().await.unwrap();
    source.partial();
    source.happen([1]);
    let gap = next_gap(&mut subscription).await;
    assert_eq!(
        (gap.cause, gap.certainty, gap.filters),
        (GapCause::PolledInPart, Certainty::Possible, vec![TEXTS.into()])
    );
    assert!(gap.since.unwrap() <= gap.until.unwrap());
    let resumed = next_resumed(&mut subscription).await;
    assert!(!resumed.complete && resumed.unrecovered[0].filter == TEXTS, "{resumed:?}");
    assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, 1));
    settle().await;
    assert!(is_quiet(&mut subscription));
}

#[tokio::test(start_paused = true)]
async fn a_restart_continues_from_the_sources_positions() {
    let (world, source) = (World::new(), FakeSource::default());
    let store = crate::MemoryCheckpoint::new();
    let start = async || {
        let builder = polled(&world, &source).checkpoint(store.clone()).ack_mode(crate::AckMode::Explicit);
        builder.on_drop(OnDrop::Keep).start().await.unwrap()
    };
    // One that ends before its first poll.
    drop(start().await);
    source.happen([1, 2]);
    let mut subscription = start().await;
    assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, 1));
    subscription.ack().await.unwrap();
    assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, 2));
    let id = subscription.id();
    drop(subscription);
    source.happen([3]);
    let mut subscription = start().await;
    assert_eq!(subscription.id(), id);
    for n in [2, 3] {
        assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, n));
    }
    settle().await;
    assert!(is_quiet(&mut subscription), "no gap, nothing twice");
}

fn enriched(world: &World, source: &FakeSource) -> SubscriptionBuilder {
    source.tells_messages();
    world.builder().catch_up(source.clone()).enrich_messages(true)
}

/// The service has errors with the source and not with push.
fn trouble(source: &FakeSource) {
    (0..1000).for_each(|_| source.fail(unavailable()));
}

#[tokio::test(start_paused = true)]
async fn pending_counts_are_delivered_after_a_restart() {
    let (world, source) = (World::new(), FakeSource::default());
    let mut subscription = enriched(&world, &source).on_drop(OnDrop::Keep).start().await.unwrap();
    world.up(&subscription, 1).await;
    settle().await;
    trouble(&source);
    source.happen([1]);
    world.transport.events(1, [1]);
    settle().await;
    assert!(is_quiet(&mut subscription), "a count is no delivery, and its place is behind it");
    let token = subscription.resume_token().unwrap();
    drop(subscription);
    source.well();
    let mut subscription = enriched(&world, &source).resume(token).start().await.unwrap();
    world.up(&subscription, 2).await;
    let before = Instant::now();
    assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, 1));
    assert!(before.elapsed() < secs(5), "{:?}", before.elapsed());
    assert!(source.asked_since().last().unwrap().is_some(), "changes count");
    settle().await;
    assert!(is_quiet(&mut subscription));
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_due_before_a_restart_has_its_lease_does_not_spin_the_driver() {
    let (world, source) = (World::new(), FakeSource::default());
    let mut subscription = enriched(&world, &source).on_drop(OnDrop::Keep).start().await.unwrap();
    world.up(&subscription, 1).await;
    settle().await;
    assert!(is_quiet(&mut subscription)); // takes the first mark
    let token = subscription.resume_token().unwrap();
    drop(subscription);
    source.happen([1]);
    world.control.script("get", Script::Slow(secs(20)));
    let mut subscription = enriched(&world, &source).resume(token).start().await.unwrap();
    world.up(&subscription, 2).await;
    assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, 1));
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn pending_counts_at_the_end_are_a_gap() {
    for down in [false, true] {
        let (world, source) = (World::new(), FakeSource::default());
        let subscription = enriched(&world, &source).start().await.unwrap();
        world.up(&subscription, 1).await;
        settle().await;
        let counted = crate::clock::wall_now();
        trouble(&source);
        world.transport.events(1, [1]);
        settle().await;
        sleep(secs(600)).await;
        // An answer that says nothing of what was counted.
        world.transport.batch(1, Vec::new(), None);
        if down {
            world.transport.feed(1, Err(unavailable()));
            phase(&subscription, Phase::Reconnecting).await;
        }
        let closed = subscription.close().await;
        let [Delivery::Gap(gap)] = &closed.unread[..] else { panic!("{:?}", closed.unread) };
        assert_eq!(gap.cause, if down { GapCause::EndedOffline } else { GapCause::NotPolled });
        assert!(gap.since.unwrap() <= counted, "{gap:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_polls_leave_out_within_a_gap_is_left_open_by_its_end() {
    let (world, source) = (World::new(), FakeSource::default());
    let mut subscription = enriched(&world, &source).start().await.unwrap();
    world.up(&subscription, 1).await;
    settle().await;
    world.control.script("create", Script::Slow(secs(200)));
    world.transport.feed(1, Err(gone().with_disposition(Disposition::Recreate)));
    let gap = next_gap(&mut subscription).await;
    assert_eq!(gap.until, None, "{gap:?}");
    // Asked in the place of push, the source answers in part.
    source.partial();
    let within = next_gap(&mut subscription).await;
    assert_eq!((within.cause, within.filters), (GapCause::PolledInPart, vec![MESSAGES.into()]));
    sleep(secs(30)).await;
    assert!(is_quiet(&mut subscription), "its end would be that of the outer gap");
    world.up(&subscription, 2).await;
    loop {
        match next(&mut subscription).await {
            Delivery::Gap(gap) => assert_eq!(gap.cause, GapCause::PolledInPart),
            Delivery::Resumed(resumed) => {
                break assert!(!resumed.complete && resumed.unrecovered[0].filter == MESSAGES);
            }
            other => panic!("{other:?}"),
        }
    }
    subscription.close().await;
}

/// The service writes the login's extension by its id in a count, and as `~` in the answer
/// of a source (ringcentral-rest-and-events §5.1).
#[tokio::test(start_paused = true)]
async fn the_first_count_is_known_by_its_message_however_the_extension_is_written() {
    let (world, source) = (World::new(), FakeSource::default());
    let mut subscription = enriched(&world, &source).start().await.unwrap();
    world.up(&subscription, 1).await;
    settle().await;
    source.tells_counts();
    source.happen([1]);
    let count = serde_json::json!({
        "uuid": "u", "event": MESSAGES, "ownerId": "7", "timestamp": "2026-01-01T00:00:00Z",
        "body": {"extensionId": "7", "changes": [{"type": "SMS", "newCount": 1, "newMessageIds": ["1"]}]},
    });
    world.transport.batch(1, vec![count.to_string()], None);
    let Delivery::Notification(found) = next(&mut subscription).await else { panic!() };
    assert_eq!(found.origin(), Origin::CatchUp);
    sleep(secs(60)).await;
    assert!(is_quiet(&mut subscription), "the count is the message");
    subscription.close().await;
}
