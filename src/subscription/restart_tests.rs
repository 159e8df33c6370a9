//! Crashes and restarts with a checkpoint.

use std::collections::HashSet;
use std::ops::Range;

use super::*;
use crate::{AckMode, Checkpoint, MemoryCheckpoint};

/// The service's log of events, and the position behind each.
struct Log(u64);

impl Log {
    const BASE: u64 = 60_000_000_000_000_000;

    /// Where a link goes on: a first position lies before everything.
    fn place(world: &World, link: usize) -> u64 {
        let token: u64 = world.transport.target(link).cursor.ticks();
        token.saturating_sub(Self::BASE)
    }

    /// Delivers what a link has not had, in batches of up to `most`.
    fn deliver(&self, world: &World, link: usize, chance: &mut fastrand::Rng, most: u64) {
        let mut from = Self::place(world, link);
        while from < self.0 {
            let to = (from + chance.u64(1..=most)).min(self.0);
            // Of three resources.
            let extension = |n: u64| format!("/extension/{}/", 2 + n % 3);
            let payloads = (from..to).map(|n| event_text(n).replace("/extension/2/", &extension(n)));
            let frames = payloads.map(|text| {
                let raw = serde_json::value::RawValue::from_string(text).unwrap();
                Frame::new(crate::transport::FrameBody::Payload(raw), SystemTime::UNIX_EPOCH)
            });
            let coverage = Coverage::Whole { asked: Instant::now() };
            let batch = crate::transport::LinkBatch::new(frames.collect(), cursor(Self::BASE + to), coverage);
            world.transport.feed(link, Ok(LinkEvent::Batch(batch)));
            from = to;
        }
    }
}

fn keeping(world: &World, store: &MemoryCheckpoint, mode: AckMode) -> SubscriptionBuilder {
    world.builder().checkpoint(store.clone()).ack_mode(mode).on_drop(OnDrop::Keep)
}

/// As a crash does it: nothing is saved or deleted on the way out.
async fn crash(subscription: Subscription) {
    drop(subscription);
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_point_loses_nothing_and_repeats_only_unacknowledged_events() {
    for seed in 0..60 {
        let mut chance = fastrand::Rng::with_seed(seed);
        let (world, store) = (World::new(), MemoryCheckpoint::new());
        let (mut log, mut all, mut acknowledged) = (Log(0), HashSet::new(), HashSet::new());
        for life in 1..=8 {
            let mut subscription = keeping(&world, &store, AckMode::Explicit).start().await.unwrap();
            world.up(&subscription, life).await;
            log.0 += chance.u64(0..40);
            log.deliver(&world, life, &mut chance, 20);
            let mut here = Vec::new();
            let last = life == 8;
            let wanted = if last { usize::MAX } else { chance.usize(0..60) };
            while here.len() < wanted {
                let due: Vec<u64> = (0..log.0).filter(|n| !acknowledged.contains(n) && !here.contains(n)).collect();
                if due.is_empty() {
                    break;
                }
                let n = next_uuid(&mut subscription).await;
                assert!(!acknowledged.contains(&n), "seed {seed}: {n} was acknowledged and came again");
                assert!(here.last().is_none_or(|before| *before < n), "seed {seed}: {n} after {here:?}");
                here.push(n);
                all.insert(n);
                if chance.u8(0..4) == 0 {
                    subscription.ack().await.unwrap();
                    acknowledged.extend(here.drain(..here.len() - 1));
                    acknowledged.extend(here.last());
                }
            }
            if chance.bool() {
                // What is saved in the background is.
                sleep(secs(2)).await;
            }
            crash(subscription).await;
        }
        assert_eq!(all, (0..log.0).collect(), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_last_event_of_a_sequential_reader_is_repeated() {
    let (world, store) = (World::new(), MemoryCheckpoint::new());
    let mut subscription = keeping(&world, &store, AckMode::OnNext).start().await.unwrap();
    world.up(&subscription, 1).await;
    let (log, mut chance) = (Log(5), fastrand::Rng::with_seed(1));
    log.deliver(&world, 1, &mut chance, 5);
    for n in 0..3 {
        assert_eq!(next_uuid(&mut subscription).await, n);
    }
    // The third is still being worked on; the two before it are kept within a second.
    sleep(secs(2)).await;
    crash(subscription).await;
    let mut subscription = keeping(&world, &store, AckMode::OnNext).start().await.unwrap();
    world.up(&subscription, 2).await;
    log.deliver(&world, 2, &mut chance, 5);
    for n in 2..5 {
        assert_eq!(next_uuid(&mut subscription).await, n);
    }
    assert!(is_quiet(&mut subscription), "the reader came back for more: all is finished");
    sleep(secs(2)).await;
    crash(subscription).await;
    let mut subscription = keeping(&world, &store, AckMode::OnNext).start().await.unwrap();
    world.up(&subscription, 3).await;
    log.deliver(&world, 3, &mut chance, 5);
    settle().await;
    assert!(is_quiet(&mut subscription));
    crash(subscription).await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_repeats_the_deliveries_that_were_not_acknowledged_one_by_one() {
    for (acknowledged, repeated) in [
        (&[][..], &[0, 1, 2, 3, 4, 5][..]),
        (&[1, 2], &[2, 3, 4, 5]),
        (&[5, 2], &[0, 2, 3, 5]),
        (&[6, 5, 4, 3, 2], &[0]),
        (&[6, 1, 5, 2, 4, 3], &[]),
    ] {
        let (world, store) = (World::new(), MemoryCheckpoint::new());
        let mut subscription = keeping(&world, &store, AckMode::Explicit).start().await.unwrap();
        world.up(&subscription, 1).await;
        assert_eq!(subscription.number(), 0);
        let (log, mut chance) = (Log(6), fastrand::Rng::with_seed(1));
        log.deliver(&world, 1, &mut chance, 2);
        for n in 0..6 {
            assert_eq!((next_uuid(&mut subscription).await, subscription.number()), (n, n + 1));
        }
        assert!(is_quiet(&mut subscription));
        let handle = subscription.handle();
        acknowledged.iter().for_each(|number| handle.ack(*number).unwrap());
        sleep(secs(2)).await;
        crash(subscription).await;
        assert_eq!(handle.ack(1).unwrap_err().kind(), ErrorKind::Closed);
        let mut subscription = keeping(&world, &store, AckMode::Explicit).start().await.unwrap();
        world.up(&subscription, 2).await;
        log.deliver(&world, 2, &mut chance, 2);
        for n in repeated {
            assert_eq!(next_uuid(&mut subscription).await, *n, "{acknowledged:?}");
        }
        settle().await;
        assert!(is_quiet(&mut subscription), "{acknowledged:?}");
        crash(subscription).await;
    }
    let (world, store) = (World::new(), MemoryCheckpoint::new());
    let subscription = keeping(&world, &store, AckMode::Explicit).start().await.unwrap();
    assert_eq!(subscription.handle().ack(1).unwrap_err().kind(), ErrorKind::Config, "it was not delivered");
    crash(subscription).await;
    let subscription = World::new().start().await;
    assert_eq!(subscription.handle().ack(1).unwrap_err().kind(), ErrorKind::Config, "there is no checkpoint");
    subscription.close().await;
}

/// The number in the uuid of an event.
fn number_of(delivery: &Delivery) -> u64 {
    let Delivery::Notification(it) = delivery else { panic!("{delivery:?}") };
    it.uuid().unwrap().trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

async fn next_delivery(subscription: &mut Subscription) -> Delivery {
    subscription.next().await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_is_given_back_comes_again_after_the_delay_and_after_a_restart() {
    for mode in [AckMode::Explicit, AckMode::OnNext] {
        let (world, store) = (World::new(), MemoryCheckpoint::new());
        let mut subscription = keeping(&world, &store, mode).start().await.unwrap();
        world.up(&subscription, 1).await;
        assert_eq!((subscription.number(), subscription.attempt()), (0, 0));
        let (log, mut chance) = (Log(4), fastrand::Rng::with_seed(1));
        log.deliver(&world, 1, &mut chance, 4);
        let handle = subscription.handle();
        for n in 0..4 {
            let delivery = next_delivery(&mut subscription).await;
            assert_eq!((number_of(&delivery), subscription.attempt()), (n, 1));
            if n == 1 {
                handle.nack(2, delivery.clone(), secs(5)).unwrap();
                assert_eq!(handle.nack(2, delivery, secs(5)).unwrap_err().kind(), ErrorKind::Config, "twice");
            }
        }
        assert!(is_quiet(&mut subscription), "the other three are read");
        subscription.ack().await.unwrap();
        let began = Instant::now();
        let delivery = next_delivery(&mut subscription).await;
        assert_eq!((number_of(&delivery), subscription.number(), subscription.attempt()), (1, 2, 2));
        assert!((secs(4)..=secs(6)).contains(&began.elapsed()), "{:?}", began.elapsed());
        handle.nack(2, delivery, Duration::MAX).unwrap();
        assert!(is_quiet(&mut subscription));
        sleep(secs(2)).await;
        crash(subscription).await;
        let mut subscription = keeping(&world, &store, mode).start().await.unwrap();
        world.up(&subscription, 2).await;
        log.deliver(&world, 2, &mut chance, 4);
        assert_eq!((next_uuid(&mut subscription).await, subscription.attempt()), (1, 1), "{mode:?}");
        settle().await;
        assert!(is_quiet(&mut subscription));
        crash(subscription).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_delivery_is_given_back_nine_times_at_most_and_an_acknowledgement_ends_that() {
    let (world, store) = (World::new(), MemoryCheckpoint::new());
    let mut subscription = keeping(&world, &store, AckMode::Explicit).start().await.unwrap();
    world.up(&subscription, 1).await;
    Log(2).deliver(&world, 1, &mut fastrand::Rng::with_seed(1), 2);
    let handle = subscription.handle();
    let first = next_delivery(&mut subscription).await;
    next_delivery(&mut subscription).await;
    let mut delivery = first;
    for attempt in 2..=10 {
        handle.nack(1, delivery, Duration::ZERO).unwrap();
        delivery = next_delivery(&mut subscription).await;
        assert_eq!((subscription.number(), subscription.attempt()), (1, attempt));
    }
    let error = handle.nack(1, delivery.clone(), Duration::ZERO).unwrap_err();
    assert_eq!(error.to_string(), "the delivery with the number 1 was tried 10 times");
    handle.nack(2, delivery, Duration::ZERO).unwrap();
    handle.ack(2).unwrap();
    handle.ack(1).unwrap();
    sleep(secs(2)).await;
    assert!(is_quiet(&mut subscription), "it was acknowledged meanwhile");
    crash(subscription).await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_to_come_again_comes_before_the_end_and_nothing_is_given_back_after_it() {
    let world = World::new();
    let mut subscription = world.start().await;
    world.up(&subscription, 1).await;
    Log(2).deliver(&world, 1, &mut fastrand::Rng::with_seed(1), 2);
    let handle = subscription.handle();
    let delivery = next_delivery(&mut subscription).await;
    handle.nack(1, delivery, secs(600)).unwrap();
    next_delivery(&mut subscription).await;
    subscription.shutdown_handle().drain();
    let delivery = next_delivery(&mut subscription).await;
    assert_eq!((number_of(&delivery), subscription.attempt()), (0, 2), "without a checkpoint too");
    assert!(subscription.next().await.is_none());
    assert_eq!(handle.nack(1, delivery.clone(), secs(1)).unwrap_err().kind(), ErrorKind::Closed);
    drop(subscription);
    assert_eq!(handle.nack(1, delivery, secs(1)).unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn handlers_that_did_not_finish_before_a_crash_get_their_deliveries_again() {
    for seed in 0..30 {
        let mut chance = fastrand::Rng::with_seed(seed);
        let (world, store) = (World::new(), MemoryCheckpoint::new());
        let (mut log, mut finished) = (Log(0), HashSet::new());
        for life in 1..=6 {
            let mut subscription = keeping(&world, &store, AckMode::OnNext).start().await.unwrap();
            world.up(&subscription, life).await;
            log.0 += chance.u64(1..30);
            log.deliver(&world, life, &mut chance, 10);
            let (done, running) = (std::cell::RefCell::new(Vec::new()), std::cell::Cell::new(0));
            let last = life == 6;
            let handle = |delivery: Arc<Delivery>, attempt: u32| {
                let n = number_of(&delivery);
                let (done, running) = (&done, &running);
                async move {
                    running.set(running.get() + 1);
                    assert!(running.get() <= 4, "four at a time");
                    sleep(Duration::from_millis(n * 37 % 900)).await;
                    running.set(running.get() - 1);
                    if n % 5 == 3 && attempt == 1 {
                        return Err(std::io::Error::other("a failure"));
                    }
                    done.borrow_mut().push(n);
                    Ok(())
                }
            };
            let within = if last { secs(600) } else { Duration::from_millis(chance.u64(0..3000)) };
            let outcome = timeout(within, subscription.for_each_concurrent(4, handle)).await;
            assert!(outcome.is_err(), "it is stopped, not ended");
            for n in done.into_inner() {
                assert!(finished.insert(n), "seed {seed}: {n} was finished and came again");
            }
            // What is acknowledged is saved within a second.
            sleep(secs(2)).await;
            crash(subscription).await;
        }
        assert_eq!(finished, (0..log.0).collect(), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_gives_its_deliveries_back_in_order() {
    let world = World::new();
    let mut subscription = world.start().await;
    world.up(&subscription, 1).await;
    Log(4).deliver(&world, 1, &mut fastrand::Rng::with_seed(1), 4);
    let handle = |delivery: Arc<Delivery>, _attempt: u32| async move {
        // The fourth waits behind the first, the others do not.
        if number_of(&delivery) > 0 {
            std::future::pending::<()>().await;
        }
        Ok::<(), std::io::Error>(())
    };
    timeout(secs(1), subscription.for_each_concurrent(9, handle)).await.unwrap_err();
    for n in 1..4 {
        assert_eq!((next_uuid(&mut subscription).await, subscription.number()), (n, n + 1));
    }
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_fails_ten_times_ends_the_call_and_its_delivery_comes_again() {
    let world = World::new();
    let mut subscription = world.start().await;
    world.up(&subscription, 1).await;
    Log(1).deliver(&world, 1, &mut fastrand::Rng::with_seed(1), 1);
    let tried = std::cell::Cell::new(0);
    let (began, counted) = (Instant::now(), &tried);
    let fail = |_, attempt| async move {
        counted.set(counted.get() + 1);
        assert_eq!(counted.get(), attempt);
        Err::<(), _>(std::io::Error::other("why"))
    };
    let error = subscription.for_each_concurrent(1, fail).await.unwrap_err();
    assert_eq!((error.kind(), tried.get()), (ErrorKind::Internal, 10));
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "why");
    assert!(began.elapsed() >= secs(1 + 2 + 4 + 8 + 16 + 32 + 60 + 60 + 60));
    assert_eq!(next_uuid(&mut subscription).await, 0);
    let none = subscription.for_each_concurrent(0, fail).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Config);
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn handlers_finish_before_the_end_of_the_stream_is_reported() {
    let world = World::new();
    let mut subscription = world.start().await;
    world.up(&subscription, 1).await;
    Log(3).deliver(&world, 1, &mut fastrand::Rng::with_seed(1), 3);
    let shutdown = subscription.shutdown_handle();
    let done = std::cell::Cell::new(0);
    let counted = &done;
    let handle = |_, _| {
        shutdown.drain();
        async move {
            sleep(secs(1)).await;
            counted.set(counted.get() + 1);
            Ok::<(), std::io::Error>(())
        }
    };
    subscription.for_each_concurrent(2, handle).await.unwrap();
    assert_eq!(done.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn each_reader_gets_everything_and_a_slow_one_alone_loses_what_does_not_fit() {
    let world = World::new();
    let subscription = world.start().await;
    world.up(&subscription, 1).await;
    let shutdown = subscription.shutdown_handle();
    let [mut fast, mut slow] = subscription.fan_out::<2>(3000);
    // A burst would fill the queue of the fast one too.
    let (mut log, mut chance) = (Log(0), fastrand::Rng::with_seed(1));
    for n in 0..20 {
        log.0 += 1;
        log.deliver(&world, 1, &mut chance, 20);
        assert_eq!(number_of(&fast.next().await.unwrap().unwrap()), n);
    }
    shutdown.drain();
    assert!(fast.next().await.is_none());
    let (mut events, mut lost, mut open) = (Vec::new(), None, false);
    while let Some(delivery) = slow.next().await {
        match delivery.unwrap() {
            Delivery::Gap(gap) => {
                assert_eq!(
                    (&gap.cause, gap.certainty, gap.filters.len()),
                    (&GapCause::Overflow, Certainty::Certain, 3)
                );
                (lost, open) = (gap.lost, true);
            }
            Delivery::Resumed(resumed) => {
                assert!(open && !resumed.complete && resumed.unrecovered.len() == 3);
                open = false;
            }
            delivery => events.push(number_of(&delivery)),
        }
    }
    assert!(!open && !events.is_empty() && events.len() < 20);
    assert_eq!(events, (0..events.len() as u64).collect::<Vec<_>>());
    assert_eq!(lost, Some(20 - events.len() as u64));
}

#[tokio::test(start_paused = true)]
async fn a_restart_repeats_what_some_reader_had_not_finished() {
    let (world, store) = (World::new(), MemoryCheckpoint::new());
    let subscription = keeping(&world, &store, AckMode::OnNext).start().await.unwrap();
    world.up(&subscription, 1).await;
    let (log, mut chance) = (Log(6), fastrand::Rng::with_seed(1));
    log.deliver(&world, 1, &mut chance, 2);
    let [mut one, mut other] = subscription.fan_out::<2>(1 << 20);
    for n in 0..6 {
        assert_eq!(number_of(&one.next().await.unwrap().unwrap()), n);
    }
    for n in 0..3 {
        assert_eq!(number_of(&other.next().await.unwrap().unwrap()), n);
    }
    // Both have finished 0 and 1; the other one works with 2.
    sleep(secs(2)).await;
    let stored = MemoryCheckpoint::new();
    stored.save(&store.load().await.unwrap().unwrap()).await.unwrap();
    drop((one, other));
    settle().await;
    let mut subscription = keeping(&world, &stored, AckMode::OnNext).start().await.unwrap();
    world.up(&subscription, 2).await;
    log.deliver(&world, 2, &mut chance, 2);
    for n in 2..6 {
        assert_eq!(next_uuid(&mut subscription).await, n);
    }
    settle().await;
    assert!(is_quiet(&mut subscription));
    crash(subscription).await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_panics_leaves_its_deliveries_for_a_restart_and_the_last_one_ends_the_subscription() {
    let (world, store) = (World::new(), MemoryCheckpoint::new());
    let subscription = keeping(&world, &store, AckMode::Explicit).start().await.unwrap();
    world.up(&subscription, 1).await;
    let status = subscription.status();
    let (log, mut chance) = (Log(4), fastrand::Rng::with_seed(1));
    log.deliver(&world, 1, &mut chance, 4);
    let [mut one] = subscription.fan_out::<1>(1 << 20);
    let panicked = tokio::spawn(async move {
        one.next().await.unwrap().unwrap();
        one.next().await.unwrap().unwrap();
        // What is finished is saved within a second.
        sleep(secs(2)).await;
        panic!("a user's panic");
    });
    assert!(panicked.await.unwrap_err().is_panic());
    let mut watched = status.clone();
    watched.wait_for(|status| status.phase == Phase::Closed).await;
    sleep(secs(2)).await;
    let mut subscription = keeping(&world, &store, AckMode::Explicit).start().await.unwrap();
    world.up(&subscription, 2).await;
    log.deliver(&world, 2, &mut chance, 4);
    assert_eq!(next_uuid(&mut subscription).await, 1, "the first one was finished");
    crash(subscription).await;
}

/// Starts again from what `store` has, and checks that exactly `uuids` of the log come.
async fn assert_come_again(world: &World, store: &MemoryCheckpoint, log: &Log, uuids: Range<u64>) {
    let mut subscription = keeping(world, store, AckMode::OnNext).start().await.unwrap();
    world.up(&subscription, 2).await;
    log.deliver(world, 2, &mut fastrand::Rng::with_seed(1), log.0);
    for n in uuids {
        assert_eq!(next_uuid(&mut subscription).await, n);
    }
    settle().await;
    assert!(is_quiet(&mut subscription));
    crash(subscription).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_readers_or_handlers_took_over_is_finished() {
    for is_fan_out in [false, true] {
        let (world, store) = (World::new(), MemoryCheckpoint::new());
        let mut subscription = keeping(&world, &store, AckMode::OnNext).start().await.unwrap();
        world.up(&subscription, 1).await;
        let log = Log(3);
        log.deliver(&world, 1, &mut fastrand::Rng::with_seed(1), 3);
        assert_eq!(next_uuid(&mut subscription).await, 0);
        if is_fan_out {
            let [mut one] = subscription.fan_out::<1>(1 << 20);
            for n in 1..3 {
                assert_eq!(number_of(&one.next().await.unwrap().unwrap()), n);
            }
            sleep(secs(2)).await;
            drop(one);
        } else {
            let handle = |delivery: Arc<Delivery>, _attempt: u32| async move {
                if number_of(&delivery) > 1 {
                    std::future::pending::<()>().await;
                }
                Ok::<(), std::io::Error>(())
            };
            timeout(secs(2), subscription.for_each_concurrent(9, handle)).await.unwrap_err();
            crash(subscription).await;
        }
        settle().await;
        assert_come_again(&world, &store, &log, 2..3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_reader_leaves_its_deliveries_for_a_restart_and_one_that_leaves_does_not() {
    for leaves in [false, true] {
        let (world, store) = (World::new(), MemoryCheckpoint::new());
        let subscription = keeping(&world, &store, AckMode::OnNext).start().await.unwrap();
        world.up(&subscription, 1).await;
        let log = Log(4);
        log.deliver(&world, 1, &mut fastrand::Rng::with_seed(1), 4);
        let [mut one, mut other] = subscription.fan_out::<2>(1 << 20);
        for n in 0..2 {
            assert_eq!(number_of(&other.next().await.unwrap().unwrap()), n);
        }
        for n in 0..4 {
            assert_eq!(number_of(&one.next().await.unwrap().unwrap()), n);
        }
        if leaves {
            other.leave();
        } else {
            let task = tokio::spawn(async move {
                std::future::pending::<()>().await;
                drop(other);
            });
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
        // The reader that stays finishes everything.
        assert!(timeout(secs(2), one.next()).await.is_err());
        one.leave();
        settle().await;
        assert_come_again(&world, &store, &log, if leaves { 4..4 } else { 1..4 }).await;
    }
}

#[tokio::test(start_paused = true)]
async fn events_that_a_reader_lost_come_again_until_it_has_read_its_gap() {
    for reads_its_gap in [false, true] {
        let (world, store) = (World::new(), MemoryCheckpoint::new());
        let subscription = keeping(&world, &store, AckMode::OnNext).start().await.unwrap();
        world.up(&subscription, 1).await;
        let log = Log(4);
        log.deliver(&world, 1, &mut fastrand::Rng::with_seed(1), 4);
        // Room for one event.
        let [mut reader] = subscription.fan_out::<1>(1);
        settle().await;
        assert_eq!(number_of(&reader.next().await.unwrap().unwrap()), 0);
        assert!(matches!(reader.next().await.unwrap().unwrap(), Delivery::Gap(gap) if gap.lost == Some(3)));
        if reads_its_gap {
            assert!(matches!(reader.next().await.unwrap().unwrap(), Delivery::Resumed(_)));
            assert!(timeout(secs(2), reader.next()).await.is_err());
        }
        sleep(secs(2)).await;
        drop(reader);
        settle().await;
        assert_come_again(&world, &store, &log, if reads_its_gap { 4..4 } else { 1..4 }).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_unprocessed_gap_is_reported_again() {
    let (world, store) = (World::new(), MemoryCheckpoint::new());
    let mut subscription = keeping(&world, &store, AckMode::Explicit).start().await.unwrap();
    world.up(&subscription, 1).await;
    assert!(is_quiet(&mut subscription));
    sleep(secs(2)).await;
    let from = store.load().await.unwrap().unwrap();
    world.transport.batch(1, Vec::new(), Some(PossibleLoss::BufferAged { pause: secs(300) }));
    next_gap(&mut subscription).await;
    next_resumed(&mut subscription).await;
    sleep(secs(2)).await;
    assert_eq!(store.load().await.unwrap(), Some(from.clone()), "the gap is not finished");
    // What stands behind the gap is read by asking for more.
    assert!(is_quiet(&mut subscription));
    subscription.ack().await.unwrap();
    assert_ne!(store.load().await.unwrap(), Some(from));
    crash(subscription).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_position_is_stored_before_any_event() {
    let (world, store) = (World::new(), MemoryCheckpoint::new());
    let subscription = keeping(&world, &store, AckMode::Explicit).start().await.unwrap();
    let token = store.load().await.unwrap().expect("kept before the start is over");
    assert_eq!(Some(token.subscription_id()), subscription.id().as_ref());
    crash(subscription).await;
    let mut subscription = keeping(&world, &store, AckMode::Explicit).start().await.unwrap();
    assert_eq!(creates(&world.control), 1, "it goes on with the one that was made");
    world.up(&subscription, world.transport.count()).await;
    Log(3).deliver(&world, world.transport.count(), &mut fastrand::Rng::with_seed(1), 3);
    assert_eq!(next_uuid(&mut subscription).await, 0);
    crash(subscription).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_a_lost_subscription_is_made_up_for_from_where_its_source_stood() {
    let (world, store, source) = (World::new(), MemoryCheckpoint::new(), FakeSource::default());
    let start = async |life: usize| {
        let builder = SubscriptionBuilder::new(world.control.clone(), [filter(TEXTS)]).on_drop(OnDrop::Keep);
        let builder = builder.transport(world.transport.clone()).catch_up(source.clone());
        let subscription = builder.checkpoint(store.clone()).ack_mode(AckMode::Explicit).start().await.unwrap();
        world.up(&subscription, life).await;
        subscription
    };
    // Before the first position: nothing of this subscription's.
    source.happen([9]);
    let mut subscription = start(1).await;
    settle().await;
    // Pushed, and found in a gap.
    source.happen([1, 2]);
    world.transport.batch(1, vec![sms_text(1)], None);
    assert_eq!(next_sms(&mut subscription).await, (Origin::Push, 1));
    world.transport.batch(1, Vec::new(), Some(PossibleLoss::BufferAged { pause: secs(300) }));
    next_gap(&mut subscription).await;
    assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, 2));
    next_resumed(&mut subscription).await;
    // Pushed since: the source does not know that it was told.
    source.happen([3]);
    world.transport.batch(1, vec![sms_text(3)], None);
    assert_eq!(next_sms(&mut subscription).await, (Origin::Push, 3));
    assert!(is_quiet(&mut subscription));
    subscription.ack().await.unwrap();
    crash(subscription).await;
    world.control.forget_all();
    source.happen([4]);
    let mut subscription = start(2).await;
    assert_eq!(next_gap(&mut subscription).await.cause, GapCause::SubscriptionGone);
    assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, 4));
    assert!(next_resumed(&mut subscription).await.complete);
    // What was found before the crash and is pushed late tells nothing new.
    world.transport.batch(2, vec![sms_text(2), sms_text(4), sms_text(5)], None);
    assert_eq!(next_sms(&mut subscription).await, (Origin::Push, 5));
    crash(subscription).await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_began_after_a_gap_began_is_asked_from_before() {
    for (young, found) in [(true, vec![1, 2]), (false, vec![2])] {
        let (world, source) = (World::new(), FakeSource::default());
        source.happen([1]);
        if young {
            source.begin_after(secs(10));
        }
        let builder = SubscriptionBuilder::new(world.control.clone(), [filter(TEXTS)]).catch_up(source.clone());
        let mut subscription = builder.transport(world.transport.clone()).start().await.unwrap();
        world.up(&subscription, 1).await;
        sleep(secs(11)).await;
        source.happen([2]);
        world.transport.batch(1, Vec::new(), Some(PossibleLoss::BufferAged { pause: secs(300) }));
        next_gap(&mut subscription).await;
        for n in found {
            assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, n), "young: {young}");
        }
        next_resumed(&mut subscription).await;
        subscription.close().await;
    }
}

#[derive(Debug, Default)]
struct Broken {
    load: bool,
}

#[async_trait::async_trait]
impl Checkpoint for Broken {
    async fn load(&self) -> Result<Option<ResumeToken>> {
        if self.load { Err(Error::new(ErrorKind::Store, "no disk")) } else { Ok(None) }
    }

    async fn save(&self, _: &ResumeToken) -> Result<()> {
        Err(Error::new(ErrorKind::Store, "no disk"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_checkpoint_fails_the_start_and_leaves_no_orphan() {
    for load in [true, false] {
        let world = World::new();
        let error = world.builder().checkpoint(Broken { load }).start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
        settle().await;
        assert!(world.control.alive().is_empty());
    }
    let world = World::new();
    let error = world.builder().checkpoint(MemoryCheckpoint::new()).adopt("x".into()).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let mut subscription = world.start().await;
    assert_eq!(subscription.ack().await.unwrap_err().kind(), ErrorKind::Config);
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn events_returned_by_close_are_not_finished() {
    let (world, store) = (World::new(), MemoryCheckpoint::new());
    let mut subscription = keeping(&world, &store, AckMode::OnNext).start().await.unwrap();
    world.up(&subscription, 1).await;
    Log(3).deliver(&world, 1, &mut fastrand::Rng::with_seed(1), 3);
    assert_eq!(next_uuid(&mut subscription).await, 0);
    settle().await;
    // Long enough for whatever is saved in the background.
    world.control.script("delete", Script::Slow(secs(5)));
    let closed = subscription.close().await;
    assert_eq!(closed.unread.len(), 2);
    let token = store.load().await.unwrap().unwrap();
    assert_eq!(token.seen.len(), 1, "the one that was read");
}

#[tokio::test(start_paused = true)]
async fn events_before_the_first_position_are_delivered_too() {
    let (world, store) = (World::new(), MemoryCheckpoint::new());
    world.control.script(
        "create",
        Script::Answer(Box::new(|info| {
            info["disabledFilters"] = serde_json::json!([{"filter": "/x", "reason": "SUB-412", "message": "no"}]);
        })),
    );
    let mut subscription = keeping(&world, &store, AckMode::Explicit).start().await.unwrap();
    assert!(store.load().await.unwrap().is_some());
    assert!(matches!(next(&mut subscription).await, Delivery::FiltersDisabled(filters) if filters.len() == 1));
    crash(subscription).await;
}

/// Without it a gap that began after it could not be asked about from a position, which alone shows changes.
#[tokio::test(start_paused = true)]
async fn the_first_position_of_a_source_is_stored_though_events_before_it_are_not_finished() {
    let (world, store, source) = (World::new(), MemoryCheckpoint::new(), FakeSource::default());
    source.begin_after(secs(5));
    let builder = SubscriptionBuilder::new(world.control.clone(), [filter(TEXTS)]).on_drop(OnDrop::Keep);
    let builder = builder.transport(world.transport.clone()).catch_up(source.clone());
    let mut subscription = builder.checkpoint(store.clone()).ack_mode(AckMode::Explicit).start().await.unwrap();
    world.up(&subscription, 1).await;
    push_sms(&world, 1, &[1]);
    assert_eq!(next_sms(&mut subscription).await, (Origin::Push, 1));
    sleep(secs(10)).await;
    assert!(is_quiet(&mut subscription));
    sleep(secs(2)).await;
    let token = store.load().await.unwrap().unwrap();
    assert_eq!(token.positions.len(), 1);
    assert!(token.seen.is_empty() && token.pushed.is_empty(), "the event is not finished: {token:?}");
    crash(subscription).await;
}

/// What sources found of it may not all have been read, and the position behind it shows none of that.
#[tokio::test(start_paused = true)]
async fn a_gap_that_was_read_without_its_end_is_reported_again() {
    // How many of two found events were read, whether the end was, and what the next process reports.
    for (read, is_ended, cause) in [
        (0, false, Some(GapCause::SubscriptionGone)),
        (1, false, Some(GapCause::EndedOffline)),
        (2, false, Some(GapCause::EndedOffline)),
        (2, true, None),
    ] {
        let (world, source) = (World::new(), FakeSource::default());
        let build = || {
            let builder = SubscriptionBuilder::new(world.control.clone(), [filter(TEXTS)]);
            let builder = builder.transport(world.transport.clone()).clock(paused_wall());
            builder.catch_up(source.clone()).on_drop(OnDrop::Keep)
        };
        let mut subscription = build().start().await.unwrap();
        world.up(&subscription, 1).await;
        settle().await;
        world.control.forget_all();
        sleep(secs(800)).await;
        let gap = next_gap(&mut subscription).await;
        source.happen([1, 2]);
        world.transport.opened(2).await;
        world.transport.feed(2, Ok(LinkEvent::Alive));
        for n in 1..=read {
            assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, n));
        }
        if is_ended {
            assert!(next_resumed(&mut subscription).await.complete);
        }
        let token = subscription.resume_token().unwrap();
        crash(subscription).await;
        let mut subscription = build().resume(token).start().await.unwrap();
        world.up(&subscription, 3).await;
        if let Some(cause) = cause {
            let again = next_gap(&mut subscription).await;
            assert_eq!(again.cause, cause, "{read}");
            assert!(again.since <= gap.since, "{read} {again:?} {gap:?}");
            for n in read + 1..=2 {
                assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, n));
            }
            assert!(next_resumed(&mut subscription).await.complete, "{read}");
        }
        settle().await;
        assert!(is_quiet(&mut subscription), "{read} {is_ended}");
    }
}
