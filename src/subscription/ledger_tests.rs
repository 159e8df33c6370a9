//! Gaps begin where the kind of loss that failed was last excluded.

use super::*;

/// A wall clock that runs with the test's time, and the time at its beginning.
struct Time {
    began: Instant,
    wall: SystemTime,
}

impl Time {
    fn begin() -> Self {
        Self { began: Instant::now(), wall: crate::clock::wall_now() }
    }

    fn clock(&self) -> Clock {
        let (began, wall) = (self.began, self.wall);
        Clock::from_fn(move || wall + began.elapsed())
    }

    fn now(&self) -> SystemTime {
        self.wall + self.began.elapsed()
    }
}

async fn live(world: &World, time: &Time) -> Subscription {
    let subscription = world.builder().clock(time.clock()).start().await.unwrap();
    world.up(&subscription, 1).await;
    subscription
}

fn near(one: SystemTime, other: SystemTime, within: Duration) -> bool {
    let apart = one.duration_since(other).unwrap_or_else(|error| error.duration());
    apart <= within
}

#[tokio::test(start_paused = true)]
async fn found_1_2_and_1_3_a_late_read_answer_proves_only_its_own_time() {
    for late in [12, 40, 200] {
        let (world, time) = (World::new(), Time::begin());
        let mut subscription = live(&world, &time).await;
        let (asked, sent) = (Instant::now(), time.now());
        sleep(secs(late)).await;
        world.transport.answer(1, asked, &[(1, sent)], sent);
        assert_eq!(next_uuid(&mut subscription).await, 1);
        // What came meanwhile pushed itself out of the service's buffer.
        let first = time.now() - secs(1);
        let full = Some(PossibleLoss::BufferFull { events: 100 });
        world.transport.answer_after(1, Instant::now(), &[(200, first)], time.now(), full);
        let gap = next_gap(&mut subscription).await;
        assert_eq!(gap.cause, GapCause::ServiceBufferFull { events: 100 });
        let since = gap.since.unwrap();
        assert!(since <= sent && near(since, sent, secs(2)), "{late} {gap:?}");
        assert!(gap.until.unwrap() >= first, "{late} {gap:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn found_1_3_a_link_lost_during_a_suspension_is_reopened_from_the_last_proof() {
    let (world, time) = (World::new(), Time::begin());
    let _subscription = live(&world, &time).await;
    let asked = Instant::now();
    world.transport.answer(1, asked, &[(1, time.now())], time.now());
    settle().await;
    // An answer waits while the process stands still.
    world.transport.answer(1, asked, &[(2, time.now())], time.now());
    advance(secs(150)).await;
    world.transport.opened(2).await;
    let read_at = world.transport.target(2).last_good.unwrap();
    assert!(read_at <= asked + secs(2), "{:?} after", read_at - asked);
}

#[tokio::test(start_paused = true)]
async fn found_1_4_a_move_counts_from_when_the_address_was_confirmed_last() {
    let (world, time) = (World::new(), Time::begin());
    world.control.refuse("get");
    let mut subscription = live(&world, &time).await;
    let confirmed = Instant::now();
    for n in 0..7 {
        // Answers, as empty as those of an address that nothing is published at.
        world.transport.answer(1, Instant::now(), &[], time.now());
        sleep(secs(100)).await;
        if n == 5 {
            world.control.move_to("chan-2");
        }
    }
    world.transport.opened(2).await;
    let read_at = world.transport.target(2).last_good.unwrap();
    assert!(read_at <= confirmed, "{:?} after", read_at - confirmed);
    // So the link finds that the service may have dropped the oldest.
    let aged = Some(PossibleLoss::BufferAged { pause: secs(700) });
    world.transport.answer_after(2, Instant::now(), &[(1, time.now())], time.now(), aged);
    let gap = next_gap(&mut subscription).await;
    assert!(near(gap.since.unwrap(), time.wall, secs(3)), "{gap:?} {:?}", time.wall);
}

const OLD_KEY: &str = "e0bMTqmumPfFUbwzppkSbA==";
const NEW_KEY: &str = "pdj+XYIRRBryWS2k33qXiA==";

/// V1 of the reference, made with [`NEW_KEY`].
fn sealed_text() -> String {
    format!("\"{}\"", include_str!("../../tests/fixtures/v1.base64").trim())
}

fn audits(control: &FakeControl) -> usize {
    control.count(|call| matches!(call, Call::Get(_)))
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_lost_is_noticed_within_a_minute_though_an_audit_fails() {
    let world = World::new();
    let mut subscription = world.live().await;
    let lost = Instant::now();
    world.control.forget_all();
    world.control.script("get", Script::Fail(unavailable()));
    assert_eq!(next_gap(&mut subscription).await.cause, GapCause::SubscriptionGone);
    assert!(lost.elapsed() < secs(60), "{:?}", lost.elapsed());
    assert_eq!(audits(&world.control), 2);
}

#[tokio::test(start_paused = true)]
async fn an_audit_that_is_put_off_by_the_service_waits_for_as_long_as_it_says() {
    let world = World::new();
    let _subscription = world.live().await;
    let busy = || unavailable().with_disposition(Disposition::Retry { after: Some(secs(30)) });
    world.control.script("get", Script::Fail(busy()));
    sleep(secs(46)).await;
    assert_eq!(audits(&world.control), 1);
    sleep(secs(28)).await;
    assert_eq!(audits(&world.control), 1);
    sleep(secs(2)).await;
    assert_eq!(audits(&world.control), 2);
}

#[tokio::test(start_paused = true)]
async fn found_1_5_a_renewal_without_an_answer_is_looked_after_at_once() {
    let (world, time) = (World::new(), Time::begin());
    world.control.encrypt_with(OLD_KEY);
    let mut subscription = live(&world, &time).await;
    let lost = Error::new(ErrorKind::Timeout, "lost").with_ambiguous(true);
    world.control.script("renew", Script::Lose(lost));
    sleep(secs(700)).await;
    world.control.encrypt_with(NEW_KEY);
    world.control.move_to("chan-2");
    while renews(&world.control) == 0 {
        sleep(secs(1)).await;
    }
    world.transport.opened(2).await;
    let calls = world.control.calls();
    assert!(matches!(calls[calls.len() - 2..], [Call::Renew(_), Call::Get(_)]), "{calls:?}");
    assert_eq!(world.transport.target(2).address.expose(), "chan-2");
    world.transport.batch(2, vec![sealed_text()], None);
    assert!(matches!(next(&mut subscription).await, Delivery::Notification(_)));
}

#[tokio::test(start_paused = true)]
async fn found_1_5_a_payload_that_no_key_opens_asks_for_the_key() {
    let (world, time) = (World::new(), Time::begin());
    world.control.encrypt_with(OLD_KEY);
    let mut subscription = live(&world, &time).await;
    // Changed without a word, long before the next renewal.
    world.control.encrypt_with(NEW_KEY);
    world.control.script("get", Script::Late(secs(2)));
    world.transport.batch(1, vec![sealed_text()], None);
    assert!(matches!(next(&mut subscription).await, Delivery::Notification(_)));
    assert_eq!((audits(&world.control), renews(&world.control)), (1, 0));
    settle().await;
    assert!(is_quiet(&mut subscription), "no gap");
}

#[tokio::test(start_paused = true)]
async fn found_1_5_events_that_no_key_opens_are_a_possible_gap_that_sources_are_asked_about() {
    let (world, source, time) = (World::new(), FakeSource::default(), Time::begin());
    world.control.encrypt_with(OLD_KEY);
    let builder = SubscriptionBuilder::new(world.control.clone(), [filter(TEXTS)]).transport(world.transport.clone());
    let mut subscription = builder.catch_up(source.clone()).clock(time.clock()).start().await.unwrap();
    world.up(&subscription, 1).await;
    settle().await;
    sleep(secs(5)).await;
    source.happen([1, 2]);
    let asked = source.asked_since().len();
    world.transport.batch(1, vec![sealed_text(), sealed_text().replace("\"", "\" ")], None);
    push_sms(&world, 1, &[3]);
    assert!(matches!(next(&mut subscription).await, Delivery::Undecodable(_)));
    let mut gaps = Vec::new();
    let mut found = Vec::new();
    loop {
        match next(&mut subscription).await {
            Delivery::Gap(gap) => gaps.push(gap),
            Delivery::Undecodable(_) => {}
            Delivery::Resumed(resumed) => assert!(resumed.complete),
            Delivery::Notification(it) => found.push(it.origin()),
            other => panic!("{other:?}"),
        }
        if found.last() == Some(&Origin::Push) {
            break;
        }
    }
    assert_eq!(found, [Origin::CatchUp, Origin::CatchUp, Origin::Push]);
    let [gap] = &gaps[..] else { panic!("{gaps:?}") };
    assert_eq!((gap.cause.as_str(), gap.certainty), ("key_unknown", Certainty::Possible));
    assert!(gap.since.unwrap() <= time.now() - secs(5), "{gap:?}");
    assert!(source.asked_since().len() > asked, "catch-up is asked");
}

#[tokio::test(start_paused = true)]
async fn found_1_6_an_overflow_begins_when_the_first_dropped_event_was_sent() {
    let (world, time) = (World::new(), Time::begin());
    let weight = Frame::new(
        crate::transport::FrameBody::Payload(serde_json::value::RawValue::from_string(event_text(10)).unwrap()),
        SystemTime::UNIX_EPOCH,
    )
    .weight();
    let builder = world.builder().clock(time.clock()).buffer(NonZeroUsize::MIN).queue_bytes(weight * 12);
    let mut subscription = builder.start().await.unwrap();
    world.up(&subscription, 1).await;
    // After an outage of 90 s everything comes at once.
    let began = time.now();
    sleep(secs(90)).await;
    let events: Vec<(u64, SystemTime)> = (1..=40).map(|n| (n, began + secs(n * 2))).collect();
    world.transport.answer(1, Instant::now(), &events[..13], time.now());
    // Longer than the links are left unread while the queue is full.
    sleep(secs(8)).await;
    world.transport.answer(1, Instant::now(), &events[13..], time.now());
    settle().await;
    let mut read = 0;
    let gap = loop {
        match next(&mut subscription).await {
            Delivery::Notification(_) => read += 1,
            Delivery::Gap(gap) => break gap,
            other => panic!("{other:?}"),
        }
    };
    let first = began + secs((read + 1) * 2);
    let since = gap.since.unwrap();
    assert!(since <= first && near(since, first, secs(2)), "{read} {gap:?} {first:?}");
    assert!(gap.until.unwrap() >= began + secs(80), "{gap:?}");
    assert_eq!((gap.cause, gap.lost, gap.filters.len()), (GapCause::Overflow, Some(40 - read), 1));
}

#[tokio::test(start_paused = true)]
async fn found_1_7_a_resume_token_claims_no_more_than_is_proven() {
    let (world, time) = (World::new(), Time::begin());
    let mut subscription = live(&world, &time).await;
    let asked = Instant::now();
    world.transport.answer(1, asked, &[(1, time.now())], time.now());
    let proven = time.now();
    assert_eq!(next_uuid(&mut subscription).await, 1);
    settle().await;
    assert!(is_quiet(&mut subscription));
    // The path dies: a poll is under way, and nothing comes.
    sleep(secs(300)).await;
    assert!(is_quiet(&mut subscription) && subscription.status().current().is_healthy());
    let token = subscription.resume_token().unwrap();
    assert!(token.proven.get(Loss::Read) <= proven, "{token:?} {proven:?}");
    // An event that waits in the queue is not claimed either.
    world.transport.answer(1, Instant::now(), &[(2, time.now())], time.now());
    settle().await;
    let token = subscription.resume_token().unwrap();
    assert!(token.proven.get(Loss::Read) <= proven, "{token:?} {proven:?}");
}

#[tokio::test(start_paused = true)]
async fn found_2_5_a_full_answer_that_begins_with_a_known_event_lost_nothing() {
    let (world, time) = (World::new(), Time::begin());
    let mut subscription = live(&world, &time).await;
    let events: Vec<(u64, SystemTime)> = (1..=100).map(|n| (n, time.now())).collect();
    let full = || Some(PossibleLoss::BufferFull { events: 100 });
    world.transport.answer_after(1, Instant::now(), &events, time.now(), full());
    assert_eq!(next_gap(&mut subscription).await.cause, GapCause::ServiceBufferFull { events: 100 });
    next_resumed(&mut subscription).await;
    for n in 1..=100 {
        assert_eq!(next_uuid(&mut subscription).await, n);
    }
    for _ in 0..60 {
        world.transport.answer_after(1, Instant::now(), &events, time.now(), full());
    }
    settle().await;
    assert!(is_quiet(&mut subscription), "neither gaps nor repetitions");
}

#[tokio::test(start_paused = true)]
async fn a_silently_lost_subscription_is_noticed_within_a_minute() {
    let (world, time) = (World::new(), Time::begin());
    let mut subscription = live(&world, &time).await;
    sleep(secs(100)).await;
    world.transport.answer(1, Instant::now(), &[], time.now());
    settle().await;
    world.control.forget_all();
    let gone = Instant::now();
    let gap = next_gap(&mut subscription).await;
    assert_eq!(gap.cause, GapCause::SubscriptionGone);
    assert!(gone.elapsed() <= secs(60), "{:?}", gone.elapsed());
    // It was there when it was asked after last.
    assert!(near(gap.since.unwrap(), time.wall + secs(90), secs(3)), "{gap:?}");
    assert_eq!(renews(&world.control), 0);
}

#[tokio::test(start_paused = true)]
async fn found_1_8_the_end_over_a_silently_dead_path_is_a_possible_gap() {
    for dead in [false, true] {
        let (world, time) = (World::new(), Time::begin());
        let subscription = live(&world, &time).await;
        world.transport.answer(1, Instant::now(), &[(1, time.now())], time.now());
        settle().await;
        let proven = time.now();
        sleep(secs(20)).await;
        if dead {
            world.transport.die();
        }
        assert_eq!(subscription.status().current().phase, Phase::Live, "unnoticed");
        let began = Instant::now();
        let closed = subscription.close().await;
        assert!(closed.deleted && began.elapsed() <= secs(5), "{:?}", began.elapsed());
        let gaps: Vec<_> =
            closed.unread.iter().filter_map(|it| if let Delivery::Gap(gap) = it { Some(gap) } else { None }).collect();
        assert_eq!(gaps.len(), usize::from(dead), "{gaps:?}");
        for gap in gaps {
            assert_eq!((gap.cause.as_str(), gap.certainty), ("ended_offline", Certainty::Possible));
            assert!(near(gap.since.unwrap(), proven, secs(2)), "{gap:?}");
            assert!(gap.until.unwrap() >= time.now(), "{gap:?}");
        }
        let events = closed.unread.iter().filter(|it| matches!(it, Delivery::Notification(_))).count();
        assert_eq!(events, 1, "what had come is handed out");
    }
}

#[tokio::test(start_paused = true)]
async fn unread_events_at_the_end_still_arrive() {
    let (world, time) = (World::new(), Time::begin());
    let subscription = live(&world, &time).await;
    let closing = tokio::spawn(subscription.close());
    settle().await;
    world.transport.answer(1, Instant::now(), &[(1, time.now())], time.now());
    let closed = closing.await.unwrap();
    assert!(closed.deleted);
}

#[tokio::test(start_paused = true)]
async fn events_behind_a_gap_wait_five_seconds_for_its_sources() {
    let (world, source) = (World::new(), FakeSource::default());
    let mut subscription = with_source(&world, &source).await;
    source.slow(secs(30));
    source.happen([1]);
    world.transport.batch(1, Vec::new(), Some(PossibleLoss::BufferAged { pause: secs(300) }));
    assert_eq!(next_gap(&mut subscription).await.certainty, Certainty::Possible);
    let came = Instant::now();
    push_sms(&world, 1, &[2]);
    assert_eq!(next_sms(&mut subscription).await, (Origin::Push, 2));
    assert_eq!(came.elapsed(), secs(5));
    // Those that come later are not held back at all.
    push_sms(&world, 1, &[3]);
    let later = Instant::now();
    assert_eq!(next_sms(&mut subscription).await, (Origin::Push, 3));
    assert_eq!(later.elapsed(), Duration::ZERO);
    // What the source finds still arrives, and the gap ends with it.
    assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, 1));
    assert!(next_resumed(&mut subscription).await.complete);
}

#[tokio::test(start_paused = true)]
async fn a_gap_during_a_change_names_the_old_and_the_requested_filters() {
    let world = World::new();
    let mut subscription = world.live().await;
    let presence = "/restapi/v1.0/account/~/extension/~/presence";
    let aged = || Some(PossibleLoss::BufferAged { pause: secs(300) });
    world.control.script("update", Script::Slow(secs(5)));
    let handle = subscription.handle();
    let change = tokio::spawn(async move { handle.update_filters([filter(presence)]).await });
    settle().await;
    world.transport.batch(1, Vec::new(), aged());
    assert_eq!(next_gap(&mut subscription).await.filters, [MESSAGES, presence]);
    next_resumed(&mut subscription).await;
    change.await.unwrap().unwrap();
    // The next one begins before the change; the one after that does not.
    for want in [&[presence, MESSAGES][..], &[presence]] {
        sleep(secs(10)).await;
        world.transport.batch(1, Vec::new(), aged());
        assert_eq!(next_gap(&mut subscription).await.filters, want);
        next_resumed(&mut subscription).await;
    }
}

/// Two clocks that run with the test's time: this machine's wall clock, which jumps, and the
/// service's.
struct Clocks {
    ours: Arc<std::sync::atomic::AtomicI64>,
    theirs: Arc<std::sync::atomic::AtomicI64>,
}

fn jumping(jump: &Arc<std::sync::atomic::AtomicI64>) -> Clock {
    let (began, wall, jump) = (Instant::now(), crate::clock::wall_now(), jump.clone());
    Clock::from_fn(move || {
        let (now, jump) = (wall + began.elapsed(), jump.load(std::sync::atomic::Ordering::SeqCst));
        if jump < 0 { now - secs(jump.unsigned_abs()) } else { now + secs(jump.unsigned_abs()) }
    })
}

impl Clocks {
    async fn live(world: &World) -> (Self, Subscription) {
        let clocks = Self { ours: Arc::default(), theirs: Arc::default() };
        world.control.dates_by(jumping(&clocks.theirs));
        let subscription = world.builder().clock(jumping(&clocks.ours)).start().await.unwrap();
        world.up(&subscription, 1).await;
        (clocks, subscription)
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_opens_no_gap_and_breaks_no_connection() {
    for in_connection in [false, true] {
        for jump in [20_i64, 3600, -20, -3600] {
            let transport = if in_connection { FakeTransport::in_connection() } else { FakeTransport::default() };
            let world = World { control: FakeControl::new(), transport };
            let (clocks, mut subscription) = Clocks::live(&world).await;
            world.transport.events(1, [1]);
            assert_eq!(next_uuid(&mut subscription).await, 1);
            sleep(secs(100)).await;
            clocks.ours.store(jump, std::sync::atomic::Ordering::SeqCst);
            for n in 2..8 {
                sleep(secs(17)).await;
                world.transport.events(1, [n]);
                assert_eq!(next_uuid(&mut subscription).await, n, "{in_connection} {jump}");
            }
            assert!(is_quiet(&mut subscription), "{in_connection} {jump}");
            assert_eq!(world.transport.count(), 1, "{in_connection} {jump}");
            let closed = subscription.close().await;
            assert!(closed.deleted && closed.unread.is_empty(), "{in_connection} {jump} {:?}", closed.unread);
        }
    }
}

/// The link is down for a minute while the clock is set, and the service cannot be asked for
/// a while: the lease did not end by that.
#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_while_the_link_is_down_is_no_sleep() {
    for in_connection in [false, true] {
        for asked in [true, false] {
            let transport = if in_connection { FakeTransport::in_connection() } else { FakeTransport::default() };
            let world = World { control: FakeControl::new(), transport };
            let (clocks, mut subscription) = Clocks::live(&world).await;
            world.transport.events(1, [1]);
            assert_eq!(next_uuid(&mut subscription).await, 1);
            sleep(secs(100)).await;
            if !asked {
                world.control.refuse("get");
            }
            world.transport.feed(1, Err(Error::new(ErrorKind::Network, "the connection broke")));
            phase(&subscription, Phase::Reconnecting).await;
            clocks.ours.store(36_000, std::sync::atomic::Ordering::SeqCst);
            sleep(secs(40)).await;
            world.control.allow("get");
            let count = world.transport.count();
            world.up(&subscription, count).await;
            sleep(secs(60)).await;
            world.transport.events(world.transport.count(), [2]);
            let uuid = next_uuid(&mut subscription).await;
            assert_eq!(uuid, 2, "without a gap: {in_connection} {asked}");
            let made = world.control.count(|call| matches!(call, Call::Create(..)));
            assert_eq!(made, 1, "{in_connection} {asked}");
            subscription.close().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_services_time_distinguishes_a_sleep_from_a_set_clock() {
    for answered in [true, false] {
        let world = World::new();
        let (clocks, subscription) = Clocks::live(&world).await;
        sleep(secs(100)).await;
        for clock in [&clocks.ours, &clocks.theirs] {
            clock.store(3600, std::sync::atomic::Ordering::SeqCst);
        }
        if !answered {
            world.control.refuse("get");
        }
        sleep(secs(31)).await;
        assert_eq!(world.transport.count(), 2, "the connection is not trusted any more");
        assert!(!world.transport.is_open(1));
        drop(subscription);
    }
}

fn gaps(unread: &[Delivery]) -> Vec<&Gap> {
    unread.iter().filter_map(|it| if let Delivery::Gap(gap) = it { Some(gap) } else { None }).collect()
}

#[tokio::test(start_paused = true)]
async fn a_close_reports_since_when_a_silently_lost_subscription_is_not_proven() {
    let suspended = || Script::Answer(Box::new(|info: &mut serde_json::Value| info["status"] = "Suspended".into()));
    for in_connection in [false, true] {
        for (how, cause, certainty) in [
            ("suspended", GapCause::SubscriptionInactive, Certainty::Certain),
            ("lost", GapCause::SubscriptionGone, Certainty::Certain),
            ("unanswered", GapCause::EndedOffline, Certainty::Possible),
            ("cut off", GapCause::EndedOffline, Certainty::Possible),
            ("cut off once", GapCause::EndedOffline, Certainty::Possible),
            ("served", GapCause::EndedOffline, Certainty::Possible),
        ] {
            let transport = if in_connection { FakeTransport::in_connection() } else { FakeTransport::default() };
            let world = World { control: FakeControl::new(), transport };
            let time = Time::begin();
            let subscription = live(&world, &time).await;
            sleep(secs(10)).await;
            match how {
                "suspended" => world.control.script("get", suspended()),
                "lost" => world.control.forget_all(),
                "unanswered" => world.control.script("get", Script::Slow(secs(60))),
                // The service closes an idle connection just when it is used again.
                "cut off" | "cut off once" => {
                    for _ in 0..if how == "cut off" { 2 } else { 1 } {
                        world.control.script("get", Script::Fail(Error::new(ErrorKind::Network, "closed")));
                    }
                }
                _ => {}
            }
            let closed = subscription.close().await;
            assert!(closed.deleted, "{how}");
            let found = gaps(&closed.unread);
            assert_eq!(found.len(), usize::from(!["served", "cut off once"].contains(&how)), "{how} {found:?}");
            for gap in found {
                assert_eq!((&gap.cause, gap.certainty), (&cause, certainty), "{how}");
                assert!(near(gap.since.unwrap(), time.wall, secs(3)), "{how} {gap:?}");
                assert!(gap.until.unwrap() + secs(1) >= time.now(), "{how} {gap:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_that_the_service_does_not_answer_reports_a_possible_gap() {
    for (deletions, is_deleted) in [(1, true), (9, false)] {
        let (world, time) = (World::new(), Time::begin());
        let subscription = live(&world, &time).await;
        sleep(secs(10)).await;
        world.control.script("get", Script::Slow(secs(600)));
        for _ in 0..deletions {
            world.control.script("delete", Script::Slow(secs(600)));
        }
        let closed = subscription.close().await;
        assert_eq!(closed.deleted, is_deleted);
        let found = gaps(&closed.unread);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((&found[0].cause, found[0].certainty), (&GapCause::EndedOffline, Certainty::Possible));
        assert!(near(found[0].since.unwrap(), time.wall, secs(3)), "{:?}", found[0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_discard_reports_a_silently_suspended_subscription() {
    let (world, time) = (World::new(), Time::begin());
    let mut subscription = live(&world, &time).await;
    sleep(secs(10)).await;
    let suspended = |info: &mut serde_json::Value| info["status"] = "Suspended".into();
    world.control.script("get", Script::Answer(Box::new(suspended)));
    let shutdown = subscription.shutdown_handle();
    shutdown.discard();
    assert!(shutdown.finished().await);
    let gap = next_gap(&mut subscription).await;
    assert_eq!((&gap.cause, gap.certainty), (&GapCause::SubscriptionInactive, Certainty::Certain));
    assert!(near(gap.since.unwrap(), time.wall, secs(3)), "{gap:?}");
    assert!(subscription.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_replaced_may_have_been_gone_since_it_was_described_last() {
    for in_connection in [false, true] {
        let refused = Error::new(ErrorKind::TransportRefused, "refused").with_disposition(Disposition::Recreate);
        let lost = Error::new(ErrorKind::SessionLost, "the session is lost");
        for (error, cause) in [(refused, GapCause::TransportRefused), (lost, GapCause::SessionLost)] {
            let transport = if in_connection { FakeTransport::in_connection() } else { FakeTransport::default() };
            let world = World { control: FakeControl::new(), transport };
            let time = Time::begin();
            let mut subscription = live(&world, &time).await;
            // The path is read for 30 s more, which says nothing of the subscription.
            sleep(secs(30)).await;
            world.transport.feed(1, Ok(LinkEvent::Answered { asked: Instant::now() }));
            settle().await;
            world.transport.feed(1, Err(error));
            let gap = next_gap(&mut subscription).await;
            assert_eq!(gap.cause, cause);
            assert!(near(gap.since.unwrap(), time.wall, secs(3)), "{in_connection} {gap:?}");
        }
    }
}

/// A call waits for a login, a connection and its turn within the rate.
#[tokio::test(start_paused = true)]
async fn a_description_counts_from_the_sending_of_its_request() {
    let (world, time) = (World::new(), Time::begin());
    world.control.script("create", Script::Queued(secs(20)));
    let mut subscription = live(&world, &time).await;
    let created = time.now();
    sleep(secs(10)).await;
    world.transport.feed(1, Err(gone().with_disposition(Disposition::Recreate)));
    let gap = next_gap(&mut subscription).await;
    assert!(near(gap.since.unwrap(), created, secs(2)), "{:?} {gap:?}", time.wall);
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_close_before_the_first_link_reports_a_possible_loss() {
    let (world, time) = (World::new(), Time::begin());
    let mut subscription = live(&world, &time).await;
    world.transport.answer(1, Instant::now(), &[(1, time.now())], time.now());
    assert_eq!(next_uuid(&mut subscription).await, 1);
    settle().await;
    assert!(is_quiet(&mut subscription));
    let (token, proven) = (subscription.resume_token().unwrap(), time.now());
    drop(subscription);
    sleep(secs(30)).await;
    // The next process is closed as soon as it has begun.
    let other = World::new();
    other.control.plant("sub-1", &[MESSAGES]);
    let subscription = other.builder().clock(time.clock()).resume(token).start().await.unwrap();
    assert_eq!(subscription.status().current().phase, Phase::Connecting);
    let closed = subscription.close().await;
    let found = gaps(&closed.unread);
    let [gap] = &found[..] else { panic!("{found:?}") };
    assert_eq!((&gap.cause, gap.certainty), (&GapCause::EndedOffline, Certainty::Possible));
    assert!(near(gap.since.unwrap(), proven, secs(2)), "{gap:?}");
}

#[tokio::test(start_paused = true)]
async fn another_region_is_a_possible_gap_since_the_last_answer() {
    let (world, time) = (World::new(), Time::begin());
    let mut subscription = live(&world, &time).await;
    sleep(secs(20)).await;
    world.transport.answer(1, Instant::now(), &[], time.now());
    let proven = time.now();
    sleep(secs(20)).await;
    world.transport.answer_after(1, Instant::now(), &[(1, time.now())], time.now(), Some(PossibleLoss::RegionChanged));
    let gap = next_gap(&mut subscription).await;
    assert_eq!((gap.cause.as_str(), gap.certainty), ("region_changed", Certainty::Possible));
    assert!(near(gap.since.unwrap(), proven, secs(2)) && gap.until.unwrap() >= time.now(), "{gap:?}");
}

/// They are late as a whole, and no clock is off by that: the gap behind them begins where push ended.
#[tokio::test(start_paused = true)]
async fn what_the_service_retained_over_an_outage_widens_no_gap() {
    let (world, time) = (World::new(), Time::begin());
    let mut subscription = live(&world, &time).await;
    sleep(secs(10)).await;
    world.transport.answer(1, Instant::now(), &[(1, time.now())], time.now());
    let proven = time.now();
    sleep(secs(20)).await;
    for n in 2..6 {
        let raw = serde_json::value::RawValue::from_string(event_text(n));
        let body = crate::transport::FrameBody::Payload(raw.unwrap());
        let frames = vec![Frame::new(body, time.now()).sent(Some(time.now() - secs(15)))];
        let (cursor, coverage) = (Cursor::at(time.now()), Coverage::Cut { asked: Instant::now() });
        world.transport.feed(1, Ok(LinkEvent::Batch(crate::transport::LinkBatch::new(frames, cursor, coverage))));
        sleep(Duration::from_millis(600)).await;
    }
    let full = Some(PossibleLoss::BufferFull { events: 100 });
    world.transport.answer_after(1, Instant::now(), &[(9, time.now())], time.now(), full);
    for n in [1, 2, 3, 4, 5] {
        assert_eq!(next_uuid(&mut subscription).await, n);
    }
    let gap = next_gap(&mut subscription).await;
    assert!(near(gap.since.unwrap(), proven, secs(2)), "{gap:?}");
    subscription.close().await;
}
