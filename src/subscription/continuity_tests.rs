use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The service's clock, an hour ahead of this machine's.
fn at(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + s(1_700_003_600) + ms(millis)
}

fn ours(millis: u64) -> SystemTime {
    at(millis) - s(3600)
}

struct World {
    start: Instant,
    ledger: Ledger,
}

impl World {
    /// Begun at 0, with the service's clock known to a second.
    fn new() -> Self {
        let start = Instant::now();
        let mut ledger = Ledger::new(start, ours(0));
        ledger.learn_date(start, start, at(0));
        ledger.begin(start);
        Self { start, ledger }
    }

    fn instant(&self, millis: u64) -> Instant {
        self.start + ms(millis)
    }

    fn prove(&mut self, now: u64, proof: impl FnOnce(&Self) -> Proof) {
        let proof = proof(self);
        self.ledger.prove(self.instant(now), proof);
    }

    /// Up to when each loss is excluded, in milliseconds since the beginning.
    fn excluded(&self) -> [u64; 5] {
        self.ledger.excluded.map(|time| time.duration_since(at(0)).map_or(0, |it| it.as_millis() as u64))
    }
}

#[test]
fn each_proof_moves_the_kinds_it_proves_and_no_other() {
    use Loss::*;
    let asked = |world: &World| world.instant(5_000);
    type Make = fn(Instant) -> Proof;
    let rows: [(Make, &[Loss], u64); 9] = [
        (|asked| Proof::Described { asked }, &[There, Address, Key], 5_000),
        (|asked| Proof::Answer { asked, cursor: at(9_000) }, &[Read, Buffer], 9_000),
        (|asked| Proof::Answer { asked, cursor: at(9_000_000) }, &[Read, Buffer], 5_000),
        (|asked| Proof::CutAnswer { asked, cursor: at(9_000) }, &[Read], 9_000),
        (|_| Proof::Event { sent: at(8_000) }, &[There, Address, Read], 8_000),
        (|_| Proof::Retained { sent: at(8_000) }, &[There, Address, Read], 8_000),
        (|asked| Proof::Reply { asked }, &[Read], 5_000),
        (|_| Proof::Decrypted { sent: at(8_000) }, &[Key], 8_000),
        (|_| Proof::Polled { upto: at(8_000) }, &Loss::ALL, 8_000),
    ];
    for (make, moves, upto) in rows {
        let mut world = World::new();
        let proof = make(asked(&world));
        world.prove(10_000, |_| proof);
        let want = Loss::ALL.map(|loss| if moves.contains(&loss) { upto } else { 0 });
        assert_eq!(world.excluded(), want, "{proof:?}");
        // An older proof takes nothing back.
        world.prove(11_000, |world| make(world.instant(1_000)));
        assert!(world.excluded().iter().zip(want).all(|(now, before)| *now >= before), "{proof:?}");
    }
}

#[test]
fn found_1_2_an_answer_proves_nothing_up_to_its_arrival() {
    let mut world = World::new();
    // Asked at 1 s, answered up to 2 s, arrived at 14 s.
    world.prove(14_000, |world| Proof::Answer { asked: world.instant(1_000), cursor: at(2_000) });
    assert_eq!(world.excluded()[Loss::Read as usize], 2_000);
    // A position an hour ahead is by a clock that cannot be compared.
    let mut world = World::new();
    world.prove(14_000, |world| Proof::Answer { asked: world.instant(1_000), cursor: at(3_614_000) });
    assert_eq!(world.excluded()[Loss::Read as usize], 1_000);
    // And one an hour behind.
    let mut world = World::new();
    world.prove(14_000, |world| Proof::Answer { asked: world.instant(1_000), cursor: ours(2_000) });
    assert_eq!(world.excluded()[Loss::Read as usize], 1_000);
}

#[test]
fn an_event_from_the_future_proves_nothing() {
    let mut world = World::new();
    for sent in [at(100_000_000), SystemTime::UNIX_EPOCH + s(253_000_000_000)] {
        world.prove(5_000, |_| Proof::Event { sent });
        world.prove(5_000, |_| Proof::Decrypted { sent });
    }
    assert_eq!(world.excluded(), [0; 5]);
    assert_eq!(world.ledger.emitted(world.instant(5_000), Some(at(100_000_000))).to, at(6_000));
    // Nor is one emitted before the subscription began.
    assert_eq!(world.ledger.emitted(world.instant(5_000), Some(SystemTime::UNIX_EPOCH)).from, at(0) - ORDER_SLACK);
}

#[test]
fn clocks_an_hour_apart_that_jump_change_no_proof_and_no_gap() {
    for jump in [-7_200_i64, -1, 0, 1, 7_200] {
        let mut world = World::new();
        world.prove(5_000, |_| Proof::Event { sent: at(4_900) });
        let wall = if jump < 0 { ours(6_000) - s(jump.unsigned_abs()) } else { ours(6_000) + s(jump.unsigned_abs()) };
        world.ledger.compare_clocks(world.instant(6_000), wall);
        world.ledger.learn_date(world.instant(6_000), world.instant(6_100), at(6_000));
        let gap = world.ledger.possible(world.instant(7_000), &[Loss::Read]);
        assert_eq!(gap.since, at(3_900), "{jump}");
        assert!(gap.until >= at(7_000) && gap.until <= at(8_100), "{jump} {gap:?}");
    }
}

/// A proof holds for an instant: by a clock that was set back, that was earlier.
#[test]
fn a_gap_that_spans_a_clock_set_back_begins_and_ends_by_both_clocks() {
    for by in [10, 120, 3_600].map(s) {
        let back = |millis: u64| at(millis) - by;
        let near = |time: SystemTime, want: SystemTime| time <= want && want <= time + s(4);
        let mut world = World::new();
        world.prove(5_000, |_| Proof::Event { sent: at(5_000) });
        world.prove(5_000, |_| Proof::Decrypted { sent: at(5_000) });
        world.prove(5_000, |world| Proof::Answer { asked: world.instant(5_000), cursor: at(5_000) });
        world.ledger.supersede();
        let since = world.ledger.open(&Loss::ALL);
        assert_eq!((since, world.ledger.take_set_back()), (at(4_000), Duration::ZERO));
        world.ledger.learn_date(world.instant(10_000), world.instant(10_000), back(10_000));
        let set_back = world.ledger.take_set_back();
        assert!(set_back >= by && set_back <= by + s(3), "{set_back:?}");
        assert_eq!(world.ledger.take_set_back(), Duration::ZERO, "only once");
        assert!(near(world.ledger.open_since().unwrap(), back(4_000)), "{by:?}");
        for loss in Loss::ALL {
            assert!(near(world.ledger.since(&[loss]), back(4_000)), "{by:?} {loss:?}");
        }
        let superseded = world.ledger.superseded(world.instant(20_000)).unwrap();
        assert!(near(superseded.since, back(4_000)), "{by:?}");
        // No event of this subscription is older.
        let emitted = world.ledger.emitted(world.instant(20_000), Some(SystemTime::UNIX_EPOCH));
        assert!(near(emitted.from, back(0) - ORDER_SLACK), "{by:?}");
        let gap = world.ledger.close(world.instant(20_000));
        assert!(near(gap.since, back(4_000)) && gap.until >= back(20_000), "{by:?} {gap:?}");
        assert!(world.ledger.is_clock_set(gap.since), "sources are asked by its time");
        // What was lost before the clock was set bears its times.
        let until = world.ledger.latest(gap.since, gap.until);
        assert!(until >= at(10_000).max(back(20_000)) && until <= at(11_000).max(back(21_000)), "{by:?} {gap:?}");
        // A later gap ends by the clock as it is.
        world.prove(30_000, |_| Proof::Event { sent: back(30_000) });
        let gap = world.ledger.possible(world.instant(40_000), &[Loss::Read]);
        assert_eq!((gap.since, world.ledger.latest(gap.since, gap.until)), (back(29_000), gap.until), "{by:?}");
        assert!(!world.ledger.is_clock_set(gap.since), "{by:?}");
    }
    // A clock that is set forward moves nothing.
    let mut world = World::new();
    world.prove(5_000, |_| Proof::Event { sent: at(5_000) });
    world.ledger.learn_date(world.instant(10_000), world.instant(10_000), at(130_000));
    assert_eq!(world.ledger.take_set_back(), Duration::ZERO);
    assert_eq!(world.ledger.since(&[Loss::Read]), at(4_000));
}

#[test]
fn what_was_read_at_a_former_address_is_earlier_by_a_clock_that_was_set_back() {
    let mut world = World::new();
    world.prove(5_000, |_| Proof::Event { sent: at(5_000) });
    world.ledger.relocate();
    world.ledger.learn_date(world.instant(10_000), world.instant(10_000), at(10_000) - s(120));
    let of_buffer = world.ledger.former.as_ref().unwrap().buffer;
    assert!(of_buffer <= at(0) - s(120), "{of_buffer:?}");
    let gap = world.ledger.former(world.instant(20_000));
    assert!(gap.since <= at(4_000) - s(120) && gap.since >= at(0) - s(120), "{gap:?}");
    assert!(world.ledger.latest(gap.since, gap.until) >= at(10_000), "{gap:?}");
}

/// Replayed frames keep the time of the clock as it was.
#[test]
fn a_replay_that_spans_a_clock_set_back_is_counted() {
    for (sent, by) in [(6_000, 10), (6_000, 120), (11_000, 120)] {
        let mut world = World::new();
        world.prove(5_000, |_| Proof::Event { sent: at(5_000) });
        world.ledger.continued(world.instant(12_000), world.instant(11_900), true, 20, true);
        let mut gaps = Vec::new();
        for n in 0..20 {
            if n == 10 {
                world.ledger.learn_date(world.instant(12_300), world.instant(12_300), at(12_300) - s(by));
            }
            gaps.extend(world.ledger.counted(world.instant(12_200 + n * 10), Some(at(sent + n)), true));
        }
        let [(gap, 20)] = gaps[..] else { panic!("{sent} {by} {gaps:?}") };
        assert!(gap.since <= at(5_000) - s(by), "{sent} {by} {gap:?}");
        assert!(world.ledger.latest(gap.since, gap.until) >= at(sent), "{sent} {by} {gap:?}");
    }
}

#[test]
fn a_machine_that_slept_knows_the_time_again_with_the_next_date() {
    let mut world = World::new();
    // An hour passed, of which the monotonic clock saw a second.
    world.ledger.compare_clocks(world.instant(1_000), ours(3_601_000));
    let now = world.ledger.time(world.instant(1_000));
    assert!(now.from <= at(3_601_000) && at(3_601_000) <= now.to, "{now:?}");
    world.ledger.learn_date(world.instant(1_000), world.instant(1_200), at(3_601_000));
    let now = world.ledger.time(world.instant(1_200));
    assert!(now.from >= at(3_600_900) && now.to <= at(3_602_300), "{now:?}");
    // Without the wall clock's help, too.
    let mut world = World::new();
    world.ledger.learn_date(world.instant(1_000), world.instant(1_200), at(3_601_000));
    assert!(world.ledger.time(world.instant(1_200)).from >= at(3_600_900));
}

#[test]
fn a_gap_begins_where_the_failed_kind_was_excluded_and_settles_only_its_span() {
    let mut world = World::new();
    world.prove(10_000, |world| Proof::Reply { asked: world.instant(9_000) });
    // The subscription was last known to be there at 0, so that stays open.
    let gap = world.ledger.possible(world.instant(20_000), &[Loss::Read]);
    assert_eq!((gap.since, gap.until), (at(8_000), at(21_000)));
    assert_eq!(world.excluded(), [0, 0, 0, 20_000, 0]);
    let since = world.ledger.open(&[Loss::There, Loss::Read]);
    assert_eq!(since, at(0) - ORDER_SLACK);
    assert_eq!(world.ledger.open(&[Loss::Read]), since, "one gap at a time");
    let gap = world.ledger.close(world.instant(30_000));
    assert_eq!((gap.since, gap.certainty), (since, Certainty::Certain));
    assert_eq!(world.excluded(), [30_000; 5]);
}

#[test]
fn found_1_4_a_moved_address_was_confirmed_at_its_last_request() {
    let mut world = World::new();
    world.prove(300_000, |world| Proof::Answer { asked: world.instant(299_000), cursor: at(300_000) });
    world.ledger.relocate();
    // The link can tell how long ago the new address may have come into use.
    let read_at = world.ledger.read_at().unwrap();
    assert!(read_at <= world.start && world.start - read_at <= SECOND, "{:?}", world.start - read_at);
    assert_eq!(world.ledger.former(world.instant(301_000)).since, at(299_000));
    // An event at the former address confirms it.
    let mut world = World::new();
    world.prove(300_000, |_| Proof::Event { sent: at(299_500) });
    world.prove(300_000, |world| Proof::Answer { asked: world.instant(200_000), cursor: at(299_600) });
    world.ledger.relocate();
    assert!(world.ledger.read_at().unwrap() >= world.instant(298_000));
}

/// A socket's events prove nothing of a buffer, and the address that a fail-over brings had
/// nothing in its buffer before it was made.
#[test]
fn the_buffer_of_a_new_address_holds_nothing_from_before() {
    let mut world = World::new();
    world.prove(300_000, |_| Proof::Event { sent: at(299_500) });
    world.ledger.relocate();
    let age = world.instant(300_000) - world.ledger.read_at().unwrap();
    assert!(age <= 2 * SECOND, "{age:?}");
    // What the link of a former address reports begins where that was excluded last.
    let mut world = World::new();
    world.prove(300_000, |world| Proof::Answer { asked: world.instant(200_000), cursor: at(200_000) });
    world.prove(300_000, |world| Proof::Described { asked: world.instant(300_000) });
    world.ledger.relocate();
    let now = world.instant(310_000);
    assert_eq!(world.ledger.clone().pushed_out(now, None, true).since, at(299_000));
    assert_eq!(world.ledger.clone().pushed_out(now, None, false).since, at(199_000));
    assert_eq!(world.ledger.clone().aged(now, false).since, at(199_000));
}

/// The machine slept, and its wall clock was set back: nothing shows for how long.
#[test]
fn what_a_full_buffer_dropped_during_a_sleep_is_inside_its_gap() {
    let mut world = World::new();
    let now = world.instant(10_000);
    let gap = world.ledger.pushed_out(now, Some(at(70_000)), true);
    assert_eq!(gap.until, at(71_000));
    // What comes next is not inside it.
    assert!(world.ledger.since(&[Loss::Buffer]) < at(12_000));
}

#[test]
fn found_2_1_and_2_2_replayed_frames_are_counted_without_an_end_and_with_repetitions() {
    let (before, live) = (|n: u64| Some(at(5_000 + n)), |n: u64| Some(at(60_000 + n)));
    type Frames = Vec<Option<SystemTime>>;
    // How many, and until when events may be missing: older ones than the first that came,
    // where that keeps its time.
    type Full = Option<(usize, u64)>;
    let rows: [(&str, Frames, Full); 8] = [
        ("all but one", (0..99).map(before).collect(), None),
        ("as many as are kept", (0..100).map(before).collect(), Some((100, 6_000))),
        ("each twice", (0..50).chain(0..50).map(before).collect(), Some((100, 6_000))),
        // Until the replay begins, what is emitted pushes older events out.
        (
            "with what came before its begin",
            (0..100).map(|n| Some(at(18_000 + n * 140))).collect(),
            Some((100, 19_000)),
        ),
        ("live ones between", (0..60).flat_map(|n| [before(n), live(n)]).collect(), None),
        ("live ones after", (0..60).map(before).chain((0..500).map(live)).collect(), None),
        ("without a time", vec![None; 100], Some((100, 34_000))),
        ("with the time of the replay", (0..100).map(|n| Some(at(33_000 + n))).collect(), Some((100, 34_000))),
    ];
    for (what, frames, want) in rows {
        let mut world = World::new();
        world.prove(4_000, |_| Proof::Event { sent: at(4_000) });
        let (asked, now) = (world.instant(20_000), world.instant(20_500));
        assert_eq!(world.ledger.continued(now, asked, true, 100, true), None, "{what}");
        // It begins 12 s after the recovery.
        let now = world.instant(33_000);
        let told: Vec<_> = frames.into_iter().filter_map(|sent| world.ledger.counted(now, sent, true)).collect();
        assert!(told.len() <= 1, "{what}: once");
        let told = told.first().map(|(gap, count)| (*count, gap.since, gap.until));
        assert_eq!(told, want.map(|(count, until)| (count, at(3_000), at(until))), "{what}");
    }
}

#[test]
fn nothing_is_proven_read_until_a_replay_must_have_begun() {
    let mut world = World::new();
    world.prove(4_000, |_| Proof::Event { sent: at(4_000) });
    world.ledger.continued(world.instant(20_500), world.instant(20_000), true, 100, true);
    // Answers come, and an event that may be live.
    world.prove(26_000, |world| Proof::Reply { asked: world.instant(25_000) });
    let mut quiet = world.ledger.clone();
    assert!(world.ledger.counted(world.instant(30_000), None, true).is_none());
    world.prove(30_000, |_| Proof::Event { sent: at(29_000) });
    assert_eq!(world.excluded()[Loss::Read as usize], 4_000);
    assert_eq!(world.excluded()[Loss::There as usize], 29_000);
    // The connection breaks: what was missed may be lost.
    let gap = world.ledger.continued(world.instant(41_000), world.instant(40_500), false, 100, true);
    assert_eq!(gap.map(|gap| gap.since), Some(at(3_000)));
    // What was sent half a minute after the recovery came behind all of it.
    quiet.prove(world.instant(53_000), Proof::Reply { asked: world.instant(52_000) });
    assert_eq!(quiet.proven().get(Loss::Read), at(52_000));
    assert!((0..200).all(|_| quiet.counted(world.instant(54_000), Some(at(53_900)), true).is_none()));
}

#[test]
fn a_session_that_the_link_to_a_former_address_continues_is_judged_like_the_present_one() {
    let relocated = || {
        let mut world = World::new();
        world.prove(4_000, |_| Proof::Event { sent: at(4_000) });
        world.prove(9_000, |world| Proof::Described { asked: world.instant(8_500) });
        world.ledger.relocate();
        // The new address proves nothing about the former one.
        world.prove(11_000, |world| Proof::Reply { asked: world.instant(10_500) });
        world
    };
    // What was sent over the lost connection may not have been read.
    let mut world = relocated();
    let gap = world.ledger.continued(world.instant(12_500), world.instant(12_000), false, 100, false);
    assert_eq!(gap.map(|gap| gap.since), Some(at(3_000)));
    assert_eq!(world.ledger.former(world.instant(20_000)).since, at(11_500), "it is reported once");
    // As many events are replayed as the service retains.
    let mut world = relocated();
    assert_eq!(world.ledger.continued(world.instant(12_500), world.instant(12_000), true, 100, false), None);
    let counted = |world: &mut World, is_present| {
        let now = world.instant(13_000);
        (0..100).filter_map(|n| world.ledger.counted(now, Some(at(5_000 + n)), is_present)).next()
    };
    assert_eq!(counted(&mut world, true), None);
    assert_eq!(counted(&mut world, false).map(|(gap, count)| (gap.since, count)), Some((at(3_000), 100)));
    // A replay that was counted when the address moved is counted to its end.
    let mut world = World::new();
    world.prove(4_000, |_| Proof::Event { sent: at(4_000) });
    world.ledger.continued(world.instant(12_500), world.instant(12_000), true, 100, true);
    world.ledger.relocate();
    assert!(counted(&mut world, false).is_some());
}

#[test]
fn a_link_to_a_former_address_is_not_read_to_its_end_before_a_replay() {
    let mut world = World::new();
    world.prove(4_000, |_| Proof::Event { sent: at(4_000) });
    world.ledger.relocate();
    assert!(world.ledger.is_former_read(world.instant(11_000)));
    world.ledger.continued(world.instant(12_500), world.instant(12_000), true, 100, false);
    assert!(!world.ledger.is_former_read(world.instant(13_000)));
    assert!(world.ledger.is_former_read(world.instant(45_000)), "half a minute later it has begun");
}

#[test]
fn an_event_sent_after_a_replayed_one_arrived_is_behind_the_replay() {
    let mut world = World::new();
    world.prove(4_000, |_| Proof::Event { sent: at(4_000) });
    world.ledger.continued(world.instant(20_500), world.instant(20_000), true, 100, true);
    assert!(world.ledger.counted(world.instant(22_500), Some(at(9_000)), true).is_none());
    world.prove(22_500, |_| Proof::Event { sent: at(9_000) });
    assert_eq!(world.excluded()[Loss::Read as usize], 4_000, "it may be the first of many");
    world.prove(25_000, |world| Proof::Reply { asked: world.instant(24_000) });
    assert_eq!(world.excluded()[Loss::Read as usize], 24_000);
}

/// Events that waited on a slow path look like those of a host whose clock is behind. A reply has the time of the
/// request, by this side's clock.
#[test]
fn a_reply_is_not_behind_a_replay_because_events_were_late() {
    let mut world = World::new();
    for (now, sent) in [(30_700, 2), (32_000, 678)] {
        world.prove(now, |_| Proof::Event { sent: at(sent) });
    }
    world.ledger.continued(world.instant(34_600), world.instant(34_300), true, 5, true);
    let read = world.excluded()[Loss::Read as usize];
    world.prove(36_000, |world| Proof::Reply { asked: world.instant(35_400) });
    assert_eq!(world.excluded()[Loss::Read as usize], read);
    world.prove(36_500, |_| Proof::Event { sent: at(36_400) });
    assert_eq!(world.excluded()[Loss::Read as usize], read);
}

/// As before: the replayed frames would be live by that clock.
#[test]
fn a_replay_is_counted_though_earlier_events_were_late() {
    let mut world = World::new();
    for (now, sent) in [(30_443, 1), (31_001, 2)] {
        world.prove(now, |_| Proof::Event { sent: at(sent) });
    }
    world.ledger.continued(world.instant(31_879), world.instant(31_321), true, 5, true);
    let sent = [31_201, 31_241, 31_281, 31_321, 32_438];
    let gaps: Vec<_> =
        sent.iter().filter_map(|sent| world.ledger.counted(world.instant(32_996), Some(at(*sent)), true)).collect();
    let [(gap, 5)] = gaps[..] else { panic!("{gaps:?}") };
    assert!(gap.since <= at(0) && gap.until >= at(31_201), "{gap:?}");
}

/// The replayed frames that come last would be live by a clock that is as far behind as the events were late.
#[test]
fn the_end_of_a_replay_is_counted_though_earlier_events_were_late() {
    let mut world = World::new();
    // The service's clock is known to a millisecond.
    let read = world.instant(100_999);
    world.ledger.learn_date(read, read, at(100_000));
    for sent in [157_218, 157_793] {
        world.prove(sent + 2_020, |_| Proof::Event { sent: at(sent) });
    }
    world.ledger.continued(world.instant(162_410), world.instant(162_370), true, 100, true);
    let full = (0..100).find_map(|n| {
        let (now, sent) = (162_415 + n * 143 / 100, 159_548 + n * 11);
        world.ledger.counted(world.instant(now), Some(at(sent)), true)
    });
    let Some((gap, 100)) = full else { panic!("{full:?}") };
    assert!(gap.since <= at(157_793) && gap.until >= at(159_548), "{gap:?}");
}

/// Where a replay gives its frames the time of their sending, a slow path makes them late too.
#[test]
fn a_replay_with_new_times_over_a_slow_path_is_counted() {
    let mut world = World::new();
    world.prove(4_000, |_| Proof::Event { sent: at(4_000) });
    world.ledger.continued(world.instant(20_500), world.instant(20_000), true, 100, true);
    let full = (0..150).find_map(|n| {
        let sent = 20_600 + n * 50;
        world.ledger.counted(world.instant(sent + 2_500), Some(at(sent)), true)
    });
    assert!(full.is_some_and(|(_, count)| count == 100), "{full:?}");
}

/// Where replayed frames carry new times, nothing marks a live one. As many as the buffer holds within the time in which
/// events could gather, or within five seconds, may be a full buffer.
#[test]
fn live_events_after_a_clean_recovery_are_a_full_buffer_only_if_as_many_could_gather() {
    for (away, per_second, late, is_full) in [
        (100, 1, 100, false),
        (100, 4, 100, false),
        (100, 15, 100, false),
        (100, 25, 100, true),
        (12_000, 4, 100, false),
        (12_000, 10, 100, true),
        (30_000, 4, 100, true),
        (16_000, 4, 100, false),
        // A replay after so long may be as slow as this.
        (20_000, 4, 100, true),
        (20_000, 3, 100, false),
        // They waited somewhere.
        (100, 4, 3_000, true),
    ] {
        let mut world = World::new();
        world.prove(4_000, |_| Proof::Event { sent: at(4_000) });
        let back = 4_200 + away;
        world.ledger.continued(world.instant(back), world.instant(back - 50), true, 100, true);
        let mut gaps = Vec::new();
        for n in 1..=60 * per_second {
            let sent = back + n * 1_000 / per_second;
            gaps.extend(world.ledger.counted(world.instant(sent + late), Some(at(sent)), true));
            world.prove(sent + late, |_| Proof::Event { sent: at(sent) });
        }
        let counts: Vec<_> = gaps.iter().map(|(_, count)| *count).collect();
        let want: &[usize] = if is_full { &[100] } else { &[] };
        assert_eq!(counts, want, "{away} {per_second} {late}");
        assert!(gaps.iter().all(|(gap, _)| gap.since == at(3_000) && gap.until >= at(back)), "{gaps:?}");
    }
}

/// Where replayed frames carry new times and come slowly, they look like a busy stream.
#[test]
fn a_slow_replay_with_new_times_after_a_long_outage_is_counted() {
    for (pace, begins) in [(30, 0), (150, 12_000), (250, 0), (280, 1_000)] {
        let mut world = World::new();
        world.prove(4_000, |_| Proof::Event { sent: at(4_000) });
        world.ledger.continued(world.instant(26_500), world.instant(26_400), true, 100, true);
        let gaps: Vec<_> = (0..100)
            .filter_map(|n| {
                let sent = 26_500 + begins + n * pace;
                world.prove(sent + 40, |_| Proof::Event { sent: at(sent) });
                world.ledger.counted(world.instant(sent + 40), Some(at(sent)), true)
            })
            .collect();
        let [(gap, 100)] = gaps[..] else { panic!("{pace} {begins} {gaps:?}") };
        assert!(gap.since == at(3_000) && gap.until >= at(26_500 + begins), "{gap:?}");
    }
}

/// A replayed frame shows that it keeps its time, so that what was sent after the first one came is live.
#[test]
fn frames_that_came_on_time_are_no_replay_once_one_keeps_its_time() {
    let mut world = World::new();
    world.ledger.continued(world.instant(30_000), world.instant(29_900), true, 20, true);
    let mut gaps = Vec::new();
    for n in 0..12 {
        let sent = 32_000 + n * 200;
        gaps.extend(world.ledger.counted(world.instant(sent + 10), Some(at(sent)), true));
    }
    for n in 0..12 {
        gaps.extend(world.ledger.counted(world.instant(35_000), Some(at(10_000 + n)), true));
    }
    assert_eq!(gaps, []);
}

#[test]
fn found_2_3_a_busy_stream_after_a_clean_recovery_is_no_replay() {
    let mut world = World::new();
    world.prove(4_000, |_| Proof::Event { sent: at(4_000) });
    world.ledger.continued(world.instant(4_300), world.instant(4_200), true, 100, true);
    // 20 missed ones, then 50 a second.
    let missed = (0..10).map(|n| at(4_010 + n * 18));
    let live = (0..1_000).map(|n| at(5_400 + n * 20));
    assert!(missed.chain(live).all(|sent| world.ledger.counted(world.instant(5_300), Some(sent), true).is_none()));
}

#[test]
fn proofs_survive_their_text() {
    let mut world = World::new();
    world.prove(10_000, |_| Proof::Event { sent: at(9_123) });
    let proven = world.ledger.proven();
    let text = serde_json::to_string(&proven).unwrap();
    let again: Proven = serde_json::from_str(&text).unwrap();
    assert_eq!(again, proven);
    let mut other = Ledger::new(world.start, ours(0));
    other.restore(&again);
    assert_eq!(other.excluded, world.ledger.excluded);
    // What is no time excludes nothing.
    let garbage: Proven = serde_json::from_str(&text.replace("2023", "x")).unwrap();
    assert_eq!(garbage.get(Loss::Read), SystemTime::UNIX_EPOCH);
}

/// What may happen, a step at a time.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Time passes.
    Wait(u64),
    /// The service emits an event: over a connection that is alive, it is on its way.
    Emit,
    /// What is on its way arrives, up to so many; one answer.
    Arrive(usize),
    /// A heartbeat is echoed, behind all that was sent before.
    Beat,
    /// The path drops what is on its way, and all that follows.
    Break,
    /// A new connection goes on with the session; what came after the service noticed is
    /// replayed, the newest `BUFFER`.
    Recover { close_frame: bool },
    /// The replay begins, at the latest half a minute after the recovery.
    Replay,
    /// The service forgets the subscription: nothing is sent any more.
    Forget,
    /// It is asked after. What is gone is made anew.
    Audit,
    /// This machine's wall clock is set.
    Set(i64),
    /// The process stands still.
    Freeze(u64),
}

const BUFFER: usize = 5;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1u64..3_000).prop_map(Step::Wait),
        10 => Just(Step::Emit),
        6 => (1usize..8).prop_map(Step::Arrive),
        2 => Just(Step::Beat),
        1 => Just(Step::Break),
        2 => any::<bool>().prop_map(|close_frame| Step::Recover { close_frame }),
        3 => Just(Step::Replay),
        1 => Just(Step::Forget),
        2 => Just(Step::Audit),
        1 => (-7_200_000i64..7_200_000).prop_map(Step::Set),
        1 => (1u64..60_000).prop_map(Step::Freeze),
    ];
    proptest::collection::vec(step, 1..120)
}

/// Knows only what was emitted when, and what was read.
#[derive(Default)]
struct Oracle {
    emitted: Vec<(SystemTime, bool)>,
    gaps: Vec<(SystemTime, SystemTime)>,
}

impl Oracle {
    fn emit(&mut self, now: SystemTime) -> usize {
        self.emitted.push((now, false));
        self.emitted.len() - 1
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for (at, read) in &self.emitted {
            let told = self.gaps.iter().any(|(since, until)| since <= at && at <= until);
            prop_assert!(*read || told, "lost at {at:?}, gaps {:?}", self.gaps);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever happens, each event that was emitted is read or lies in a reported span.
    #[test]
    fn each_lost_emission_lies_in_a_reported_interval(steps in steps(), latency in 0u64..900) {
        let mut world = World::new();
        let (mut millis, mut skew, mut oracle) = (0u64, 0i64, Oracle::default());
        // On its way, each with when it was sent; what the service keeps for a lost one.
        let (mut flight, mut kept) = (Vec::<(usize, u64)>::new(), Vec::<(usize, u64)>::new());
        let (mut alive, mut there, mut recovered) = (true, true, None::<u64>);
        let mut steps = steps;
        // The end: everything settles.
        steps.extend([Step::Wait(2_000), Step::Recover { close_frame: false }, Step::Replay, Step::Arrive(10_000),
                      Step::Audit, Step::Wait(1_000), Step::Beat]);
        for step in steps {
            // Time may jump beyond the latest begin of the replay.
            if recovered.is_some_and(|at| millis > at + 29_000) {
                recovered = None;
                flight.append(&mut kept);
            }
            match step {
                Step::Wait(by) | Step::Freeze(by) => millis += by,
                Step::Set(by) => {
                    skew += by;
                    let wall = if skew < 0 { ours(millis) - ms(skew.unsigned_abs()) } else { ours(millis) + ms(skew.unsigned_abs()) };
                    world.ledger.compare_clocks(world.instant(millis), wall);
                }
                Step::Emit => {
                    millis += 1;
                    let n = oracle.emit(at(millis));
                    if !there {
                        continue;
                    }
                    if recovered.is_some() {
                        kept.push((n, millis));
                        let over = kept.len().saturating_sub(BUFFER);
                        kept.drain(..over);
                    } else if alive {
                        flight.push((n, millis));
                    }
                }
                Step::Arrive(most) if alive => {
                    let now = millis + latency;
                    let due = flight.len().min(most);
                    for (n, sent) in flight.drain(..due) {
                        if let Some((gap, _)) = world.ledger.counted(world.instant(now), Some(at(sent)), true) {
                            oracle.gaps.push((gap.since, gap.until));
                        }
                        world.prove(now, |_| Proof::Event { sent: at(sent) });
                        oracle.emitted[n].1 = true;
                    }
                    millis = now;
                }
                Step::Arrive(_) => {}
                Step::Beat => {
                    // Behind everything that is on its way.
                    if alive && flight.is_empty() {
                        let asked = world.instant(millis);
                        millis += latency;
                        world.prove(millis, |_| Proof::Reply { asked });
                    }
                }
                Step::Break => {
                    alive = false;
                    flight.clear();
                }
                Step::Replay => {
                    if recovered.take().is_some() {
                        flight.append(&mut kept);
                    }
                }
                Step::Recover { close_frame } => {
                    // A close frame that came says that nothing was dropped on its way.
                    let clean = close_frame && alive;
                    if clean {
                        for (n, sent) in flight.drain(..) {
                            if let Some((gap, _)) = world.ledger.counted(world.instant(millis), Some(at(sent)), true) {
                                oracle.gaps.push((gap.since, gap.until));
                            }
                            world.prove(millis, |_| Proof::Event { sent: at(sent) });
                            oracle.emitted[n].1 = true;
                        }
                        // Emitted while there was no connection.
                        for _ in 0..8 {
                            millis += 40;
                            let n = oracle.emit(at(millis));
                            if there {
                                kept.push((n, millis));
                                let over = kept.len().saturating_sub(BUFFER);
                                kept.drain(..over);
                            }
                        }
                    }
                    let asked = world.instant(millis);
                    millis += latency;
                    flight.clear();
                    let gap = world.ledger.continued(world.instant(millis), asked, clean, BUFFER, true);
                    oracle.gaps.extend(gap.map(|gap| (gap.since, gap.until)));
                    (alive, recovered) = (true, Some(millis));
                }
                Step::Forget => there = false,
                Step::Audit => {
                    let asked = world.instant(millis);
                    let date = at(millis / 1_000 * 1_000);
                    millis += latency;
                    let now = world.instant(millis);
                    world.ledger.learn_date(asked, now, date);
                    if there {
                        world.prove(millis, |_| Proof::Described { asked });
                    } else {
                        world.ledger.open(&[Loss::There, Loss::Read]);
                        let gap = world.ledger.close(now);
                        oracle.gaps.push((gap.since, gap.until));
                        world.ledger.relocate();
                        (there, recovered) = (true, None);
                        flight.clear();
                        kept.clear();
                    }
                }
            }
        }
        oracle.check()?;
    }
}

/// A gap is compared with the times on events, which other hosts set than the `Date` of
/// answers.
#[test]
fn a_gap_is_as_wide_as_the_clocks_of_the_hosts_make_it() {
    for (offset, until) in [(0, 20_000), (1_500, 20_000), (20_000, 40_500)] {
        let mut world = World::new();
        world.prove(5_000, |_| Proof::Event { sent: at(5_500 + offset) });
        assert_eq!(world.ledger.earliest(at(10_000)), at(10_000), "{offset}");
        assert_eq!(world.ledger.latest(at(20_000), at(20_000)), at(until), "{offset}");
    }
    let mut world = World::new();
    // Late, and not by another clock: so are two that came at once.
    world.prove(35_000, |_| Proof::Event { sent: at(5_000) });
    world.prove(35_100, |_| Proof::Event { sent: at(6_000) });
    assert_eq!(world.ledger.earliest(at(60_000)), at(60_000));
    // The next one is as late, so its clock is behind.
    world.prove(35_700, |_| Proof::Event { sent: at(6_500) });
    assert_eq!(world.ledger.earliest(at(60_000)), at(29_900));
    world.prove(35_800, |_| Proof::Event { sent: at(35_500) });
    assert_eq!(world.ledger.earliest(at(60_000)), at(60_000));
    // Two hours are the most: it is the event that is wrong.
    world.prove(36_000, |_| Proof::Event { sent: at(36_000) + s(3 * 3_600) });
    assert_eq!(world.ledger.latest(at(60_000), at(60_000)), at(60_000));
    // A clock that was set an hour ahead counts from the first event that shows it, and no
    // more once the `Date` of an answer shows it too.
    world.prove(37_000, |_| Proof::Event { sent: at(38_000) + s(3_600) });
    assert_eq!(world.ledger.latest(at(60_000), at(60_000)), at(61_000) + s(3_600));
    world.ledger.learn_date(world.instant(38_000), world.instant(38_000), at(38_000) + s(3_600));
    assert_eq!(world.ledger.latest(at(60_000), at(60_000)), at(60_000));
}

/// After an outage they come in several answers, all late by the same (found 2.4): no clock is off by that.
#[test]
fn events_that_waited_in_the_services_buffer_show_no_clock() {
    let mut world = World::new();
    for (now, sent) in [(35_000, 20_000), (35_700, 20_600), (36_400, 21_200)] {
        world.prove(now, |_| Proof::Retained { sent: at(sent) });
        assert_eq!(world.ledger.earliest(at(18_000)), at(18_000), "{now}");
    }
}

/// Replayed frames bear times of a host whose clock is off (found 2.1).
#[test]
fn a_replay_is_counted_by_the_clock_of_its_own_host() {
    // By less than ten seconds a clock that is behind looks like a slow path.
    for (sign, offset) in [(1, 0), (1, 5_000), (-1, 15_000), (1, 60_000), (-1, 60_000)] {
        let by = |millis: u64| if sign > 0 { at(millis + offset) } else { at(millis) - ms(offset) };
        let mut world = World::new();
        for live in [90_000, 100_000] {
            world.prove(live, |_| Proof::Event { sent: by(live + 500) });
        }
        assert!(world.ledger.continued(world.instant(112_000), world.instant(111_900), true, 20, true).is_none());
        let gaps: Vec<_> = (0..20)
            .filter_map(|n| world.ledger.counted(world.instant(112_010 + n), Some(by(106_000 + n * 300)), true))
            .collect();
        assert_eq!(gaps.len(), 1, "{sign} {offset}");
        // Live ones are no replay.
        let mut world = World::new();
        for live in [90_000, 100_000] {
            world.prove(live, |_| Proof::Event { sent: by(live + 500) });
        }
        world.ledger.continued(world.instant(112_000), world.instant(111_900), true, 20, true);
        assert!(world.ledger.counted(world.instant(112_010), Some(by(106_000)), true).is_none());
        for n in 0..40 {
            let now = 115_000 + n * 100;
            let gap = world.ledger.counted(world.instant(now), Some(by(now + 500)), true);
            assert!(gap.is_none(), "{sign} {offset} {n}");
            world.prove(now, |_| Proof::Event { sent: by(now + 500) });
        }
    }
}

/// The offset of a host was seen while the service's clock was known to a second, and is known better now.
#[test]
fn a_replay_is_counted_though_its_hosts_clock_was_known_less_exactly() {
    let mut world = World::new();
    for live in [90_000, 100_000] {
        world.prove(live, |_| Proof::Event { sent: at(live + 5_000) });
    }
    let read = world.instant(100_999);
    world.ledger.learn_date(read, read, at(100_000));
    world.ledger.continued(world.instant(112_000), world.instant(111_900), true, 20, true);
    let gaps: Vec<_> = (0..20)
        .filter_map(|n| world.ledger.counted(world.instant(112_010 + n), Some(at(106_000 + n * 300 + 5_000)), true))
        .collect();
    assert_eq!(gaps.len(), 1);
}

/// websocket-and-webhooks W19: replayed and live events may come mixed.
#[test]
fn a_replay_that_is_mixed_with_live_events_is_counted_to_its_end() {
    let mut world = World::new();
    world.ledger.continued(world.instant(12_000), world.instant(11_900), true, 20, true);
    let mut gaps = Vec::new();
    for n in 0..20 {
        let now = 12_100 + n * 100;
        gaps.extend(world.ledger.counted(world.instant(now), Some(at(6_000 + n * 200)), true));
        world.prove(now, |_| Proof::Event { sent: at(6_000 + n * 200) });
        gaps.extend(world.ledger.counted(world.instant(now + 50), Some(at(now + 40)), true));
        world.prove(now + 50, |_| Proof::Event { sent: at(now + 40) });
    }
    let [(gap, 20)] = gaps[..] else { panic!("{gaps:?}") };
    assert!(gap.since <= at(0) && gap.until >= at(6_000), "{gap:?}");
}

/// Another process stored what is proven, while the service's clock was 120 s ahead of what it is now.
#[test]
fn a_clock_that_was_set_back_while_no_process_ran_moves_what_was_stored() {
    // By how much the service's clock was set back, and how much the gap begins earlier than what is stored.
    for (set_back, earlier) in [(0, 0..=0), (1_000, 0..=0), (120_000, 119_000..=122_000)] {
        let mut before = World::new();
        before.prove(50_000, |world| Proof::Reply { asked: world.instant(50_000) });
        before.prove(50_000, |world| Proof::Described { asked: world.instant(50_000) });
        before.prove(50_000, |_| Proof::Event { sent: at(50_000) });
        let stored = serde_json::to_string(&before.ledger.proven()).unwrap();
        let start = Instant::now();
        // Started 200 s after the first.
        let mut ledger = Ledger::new(start, ours(200_000));
        ledger.restore(&serde_json::from_str(&stored).unwrap());
        let began = ledger.since(&[Loss::Read]);
        ledger.learn_date(start, start, at(200_000 - set_back));
        let moved = began.duration_since(ledger.since(&[Loss::Read])).unwrap();
        let moved = u64::try_from(moved.as_millis()).unwrap();
        assert!(earlier.contains(&moved), "{set_back} {moved}");
        // Nor is the gap complete, or over before the clock had shown.
        assert_eq!(ledger.is_clock_set(began), set_back > 1_000);
        assert!(ledger.latest(began, at(200_000 - set_back)) >= at(200_000 - set_back.min(1_000)), "{set_back}");
        // It is compared once.
        let read = ledger.since(&[Loss::Read]);
        ledger.learn_date(start, start, at(200_000 - set_back));
        assert_eq!(ledger.since(&[Loss::Read]), read);
    }
}
