//! A gap without `until` lasts until the next `Resumed`: while its cause lasts no `Resumed` ends it, or it is reported
//! again behind the `Resumed`.

use super::*;
use crate::kind::TransportKind;
use crate::transport::Poll;

const PRESENCE: &str = "/restapi/v1.0/account/~/extension/~/presence";

/// V1 of the reference: encrypted with a key that the subscription does not have.
fn sealed() -> String {
    format!("\"{}\"", include_str!("../../tests/fixtures/v1.base64").trim())
}

/// The gaps that are open behind these deliveries, as a reader follows them.
fn open_gaps(deliveries: &[Delivery]) -> Vec<&Gap> {
    let mut open = Vec::new();
    for delivery in deliveries {
        match delivery {
            Delivery::Gap(gap) if gap.until.is_none() => open.push(gap),
            Delivery::Resumed(_) => open.clear(),
            _ => {}
        }
    }
    open
}

fn ends(deliveries: &[Delivery]) -> Vec<&Resumed> {
    deliveries.iter().filter_map(|it| if let Delivery::Resumed(it) = it { Some(it) } else { None }).collect()
}

fn causes(deliveries: &[Delivery]) -> Vec<&'static str> {
    deliveries.iter().filter_map(|it| if let Delivery::Gap(it) = it { Some(it.cause.as_str()) } else { None }).collect()
}

/// What waits for the reader.
async fn read(subscription: &mut Subscription) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    while let Ok(item) = timeout(Duration::from_millis(1), subscription.next()).await {
        deliveries.push(item.expect("not over").expect("no error"));
    }
    deliveries
}

/// The transport delivers no more, and creations fail.
async fn polled(world: &World, source: &FakeSource) -> (Subscription, tokio::task::JoinHandle<()>) {
    source.reads_presence();
    let builder = SubscriptionBuilder::new(world.control.clone(), [filter(TEXTS), filter(PRESENCE)]);
    let builder = builder.transport(world.transport.clone()).catch_up(source.clone()).fall_back_to(Poll::new());
    let subscription = builder.start().await.unwrap();
    world.up(&subscription, 1).await;
    settle().await;
    let transport = world.transport.clone();
    let cutting = tokio::spawn(async move {
        for link in transport.count().max(1).. {
            transport.opened(link).await;
            transport.feed(link, Err(Error::new(ErrorKind::Network, "cut")));
        }
    });
    (subscription, cutting)
}

async fn is_polling(subscription: &Subscription) {
    let mut status = subscription.status();
    let there = status.wait_for(|status| status.transport == TransportKind::Poll && status.is_healthy());
    timeout(secs(7200), there).await.expect("in time").expect("not over");
}

#[tokio::test(start_paused = true)]
async fn what_polls_leave_out_stays_reported_when_their_lists_answer_late() {
    for late in [0, 3, 7, 20] {
        let (world, source) = (World::new(), FakeSource::default());
        let (mut subscription, cutting) = polled(&world, &source).await;
        source.slow(secs(late));
        is_polling(&subscription).await;
        sleep(secs(late + 30)).await;
        let mut all = read(&mut subscription).await;
        assert_eq!(causes(&all).last(), Some(&"polled_in_part"), "{all:?}");
        for _ in 0..3 {
            // Another gap ends meanwhile.
            source.partial();
            sleep(secs(120 + late)).await;
            all.extend(read(&mut subscription).await);
            let end = ends(&all).last().unwrap().at;
            let open = open_gaps(&all);
            assert!(open.iter().any(|gap| gap.filters == [PRESENCE] && gap.since.unwrap() <= end), "{late} {all:?}");
        }
        assert!(ends(&all).len() >= 4, "{all:?}");
        // Push is back.
        cutting.abort();
        let mut link = world.transport.count() + 1;
        while subscription.status().current().transport == TransportKind::Poll {
            world.transport.opened(link).await;
            world.transport.feed(link, Ok(LinkEvent::Alive));
            sleep(secs(1)).await;
            link += 1;
        }
        sleep(secs(late + 60)).await;
        all.extend(read(&mut subscription).await);
        assert!(open_gaps(&all).is_empty(), "{late} {all:?}");
        subscription.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_reports_what_polls_leave_out_from_the_last_poll_on() {
    let (world, source) = (World::new(), FakeSource::default());
    source.reads_presence();
    let store = crate::MemoryCheckpoint::new();
    let start = async || {
        let builder = SubscriptionBuilder::new(world.control.clone(), [filter(TEXTS), filter(PRESENCE)]);
        let builder = builder.transport(Poll::new()).catch_up(source.clone()).checkpoint(store.clone());
        builder.on_drop(OnDrop::Keep).clock(paused_wall()).start().await.unwrap()
    };
    let mut subscription = start().await;
    let mut all = read(&mut subscription).await;
    source.happen([1]);
    sleep(secs(120)).await;
    all.extend(read(&mut subscription).await);
    assert_eq!(open_gaps(&all).len(), 1, "{all:?}");
    drop(subscription);
    let ended = paused_wall().wall();
    sleep(secs(50)).await;
    let mut subscription = start().await;
    sleep(secs(120)).await;
    let again = read(&mut subscription).await;
    let open = open_gaps(&again);
    assert!(open.iter().any(|gap| gap.filters == [PRESENCE] && gap.since.unwrap() <= ended), "{again:?} {ended:?}");
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_polls_leave_out_is_reported_when_it_is_added() {
    let (world, source) = (World::new(), FakeSource::default());
    source.reads_presence();
    let builder = SubscriptionBuilder::new(world.control.clone(), [filter(TEXTS)]).transport(Poll::new());
    let mut subscription = builder.catch_up(source.clone()).start().await.unwrap();
    assert!(read(&mut subscription).await.is_empty());
    subscription.handle().update_filters([filter(TEXTS), filter(PRESENCE)]).await.unwrap();
    let all = read(&mut subscription).await;
    assert!(matches!(&open_gaps(&all)[..], [gap] if gap.filters == [PRESENCE]), "{all:?}");
    // Not again, when no other one is added.
    subscription.handle().update_filters([filter(PRESENCE)]).await.unwrap();
    let again = read(&mut subscription).await;
    assert!(causes(&again).is_empty(), "{again:?}");
    subscription.close().await;
}

/// Its lease has run out, the reader knows that, and no new subscription can be had before creations are allowed again.
async fn lost(world: &World, source: Option<&FakeSource>) -> Subscription {
    let builder = SubscriptionBuilder::new(world.control.clone(), [filter(TEXTS)]).transport(world.transport.clone());
    let builder = builder.queue_bytes(4_000).buffer(NonZeroUsize::MIN);
    let builder = match source {
        Some(source) => builder.catch_up(source.clone()),
        None => builder,
    };
    let mut subscription = builder.start().await.unwrap();
    world.up(&subscription, 1).await;
    settle().await;
    for verb in ["renew", "get", "create"] {
        world.control.refuse(verb);
    }
    let gap = next_gap(&mut subscription).await;
    assert_eq!((&gap.cause, gap.until), (&GapCause::LeaseExpired, None));
    subscription
}

/// Another subscription takes its place.
async fn replaced(world: &World, subscription: &Subscription) {
    world.control.allow("create");
    let link = world.transport.count() + 1;
    world.up(subscription, link).await;
}

fn assert_one_end(all: &[Delivery], also: &str) {
    assert!(causes(all).contains(&also), "{all:?}");
    let ends = ends(all);
    assert!(matches!(&ends[..], [end] if end.recreated.is_some()), "{ends:?} {all:?}");
    assert!(matches!(all.last(), Some(Delivery::Resumed(_) | Delivery::Notification(_))), "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn undecryptable_payloads_do_not_end_the_gap_of_a_lost_subscription() {
    for with_source in [false, true] {
        let (world, source) = (World::new(), FakeSource::default());
        let mut subscription = lost(&world, Some(&source).filter(|_| with_source)).await;
        assert!(world.transport.batch(1, vec![sealed()], None));
        sleep(secs(3)).await;
        let mut all = read(&mut subscription).await;
        assert!(causes(&all).contains(&"key_unknown"), "{all:?}");
        assert!(ends(&all).is_empty(), "{all:?}");
        replaced(&world, &subscription).await;
        sleep(secs(60)).await;
        all.extend(read(&mut subscription).await);
        assert_one_end(&all, "key_unknown");
        subscription.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_possible_loss_does_not_end_the_gap_of_a_lost_subscription() {
    for with_source in [false, true] {
        let (world, source) = (World::new(), FakeSource::default());
        let mut subscription = lost(&world, Some(&source).filter(|_| with_source)).await;
        for (loss, cause) in [
            (PossibleLoss::BufferFull { events: 1 }, "service_buffer_full"),
            (PossibleLoss::RegionChanged, "region_changed"),
        ] {
            assert!(world.transport.batch(1, vec![sms_text(7)], Some(loss)));
            sleep(secs(8)).await;
            let all = read(&mut subscription).await;
            assert!(causes(&all).contains(&cause) && ends(&all).is_empty(), "{all:?}");
        }
        assert!(world.transport.batch(1, vec![sms_text(8)], Some(PossibleLoss::BufferFull { events: 1 })));
        replaced(&world, &subscription).await;
        sleep(secs(60)).await;
        let all = read(&mut subscription).await;
        assert_one_end(&all, "service_buffer_full");
        assert_eq!(ends(&all)[0].complete, with_source, "{all:?}");
        subscription.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_overflow_does_not_end_the_gap_of_a_lost_subscription() {
    for (with_source, is_back) in [(false, false), (true, false), (false, true), (true, true)] {
        let (world, source) = (World::new(), FakeSource::default());
        let mut subscription = lost(&world, Some(&source).filter(|_| with_source)).await;
        for n in 0..3 {
            let texts = (n * 100..n * 100 + 100).map(sms_text).collect();
            assert!(world.transport.batch(1, texts, None), "{n}");
            sleep(secs(8)).await;
        }
        let mut all = Vec::new();
        if is_back {
            // The end waits in the queue, behind the overflow.
            replaced(&world, &subscription).await;
            sleep(secs(60)).await;
        } else {
            all = read(&mut subscription).await;
            assert!(causes(&all).contains(&"overflow") && ends(&all).is_empty(), "{all:?}");
            replaced(&world, &subscription).await;
            sleep(secs(60)).await;
        }
        all.extend(read(&mut subscription).await);
        assert_one_end(&all, "overflow");
        if is_back {
            assert!(!ends(&all)[0].complete, "what overflowed was not asked for: {all:?}");
        }
        subscription.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_overflow_before_a_gap_that_is_being_filled_is_filled_with_it() {
    let (world, source) = (World::new(), FakeSource::default());
    let mut subscription = lost(&world, Some(&source)).await;
    source.slow(secs(8));
    for n in 0..3 {
        source.happen(n * 100..n * 100 + 100);
        let texts = (n * 100..n * 100 + 100).map(sms_text).collect();
        assert!(world.transport.batch(1, texts, None), "{n}");
        sleep(secs(8)).await;
    }
    let before = crate::clock::wall_now();
    replaced(&world, &subscription).await;
    let mut all = read(&mut subscription).await;
    assert!(causes(&all).contains(&"overflow") && ends(&all).is_empty(), "{all:?}");
    for _ in 0..10 {
        sleep(secs(10)).await;
        all.extend(read(&mut subscription).await);
    }
    assert_one_end(&all, "overflow");
    assert!(ends(&all)[0].complete, "{all:?}");
    let events = all.iter().filter(|it| matches!(it, Delivery::Notification(_))).count();
    assert_eq!(events, 300);
    assert!(source.asked_since().last().unwrap().unwrap() < before);
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_close_does_not_end_the_gap_of_a_lost_subscription() {
    let world = World::new();
    let mut subscription = lost(&world, None).await;
    assert!(world.transport.batch(1, vec![sealed()], Some(PossibleLoss::BufferFull { events: 1 })));
    settle().await;
    let mut all = read(&mut subscription).await;
    all.extend(subscription.close().await.unread);
    assert!(causes(&all).contains(&"service_buffer_full") && ends(&all).is_empty(), "{all:?}");
}

/// Cut short, the first one would never be proven, though its source was there all the time.
#[tokio::test(start_paused = true)]
async fn a_gap_that_begins_while_another_is_being_filled_is_filled_with_it() {
    for is_lost in [false, true] {
        let (world, source) = (World::new(), FakeSource::default());
        let mut subscription = with_source(&world, &source).await;
        source.slow(secs(2));
        source.happen([1]);
        world.transport.batch(1, Vec::new(), Some(PossibleLoss::BufferFull { events: 100 }));
        sleep(secs(1)).await;
        source.happen([2]);
        if is_lost {
            world.transport.feed(1, Err(gone().with_disposition(Disposition::Recreate)));
            // Much longer than a gap is filled for.
            sleep(secs(90)).await;
            world.up(&subscription, 2).await;
        } else {
            world.transport.batch(1, Vec::new(), Some(PossibleLoss::RegionChanged));
        }
        sleep(secs(10)).await;
        let all = read(&mut subscription).await;
        let second = if is_lost { "transport_refused" } else { "region_changed" };
        assert_eq!(causes(&all), ["service_buffer_full", second], "{all:?}");
        let [end] = ends(&all)[..] else { panic!("{all:?}") };
        assert!(end.complete && end.recreated.is_some() == is_lost, "{all:?}");
        assert!(matches!(all.last(), Some(Delivery::Resumed(_))), "{all:?}");
        let events = all.iter().filter(|it| matches!(it, Delivery::Notification(_))).count();
        assert_eq!(events, 2, "{all:?}");
        subscription.close().await;
    }
}

/// Both replaced subscriptions lie in gaps with one end.
#[tokio::test(start_paused = true)]
async fn the_end_of_two_losses_names_the_first_lost_and_the_last_new_subscription() {
    let (world, source) = (World::new(), FakeSource::default());
    let mut subscription = with_source(&world, &source).await;
    source.slow(secs(2));
    for link in [1, 2] {
        world.transport.feed(link, Err(gone().with_disposition(Disposition::Recreate)));
        world.up(&subscription, link + 1).await;
    }
    sleep(secs(10)).await;
    let all = read(&mut subscription).await;
    let [end] = ends(&all)[..] else { panic!("{all:?}") };
    let recreated = end.recreated.as_ref().unwrap();
    assert_eq!((recreated.old.as_str(), recreated.new.as_str()), ("sub-1", "sub-3"), "{all:?}");
    assert!(end.complete, "{all:?}");
    subscription.close().await;
}

/// The reader has a gap of its own while a later one is being filled: one end, behind both.
#[tokio::test(start_paused = true)]
async fn events_that_no_key_decrypts_are_filled_with_the_gap_that_is_being_filled() {
    let (world, source) = (World::new(), FakeSource::default());
    let mut subscription = with_source(&world, &source).await;
    source.slow(secs(4));
    source.happen([1]);
    assert!(world.transport.batch(1, vec![sealed()], None));
    settle().await;
    world.transport.batch(1, Vec::new(), Some(PossibleLoss::RegionChanged));
    sleep(secs(20)).await;
    let all = read(&mut subscription).await;
    assert!(causes(&all).contains(&"key_unknown") && causes(&all).contains(&"region_changed"), "{all:?}");
    assert!(ends(&all).iter().all(|end| end.complete), "{all:?}");
    assert!(matches!(all.last(), Some(Delivery::Resumed(_))), "{all:?}");
    subscription.close().await;
}
