use fastrand::Rng;
use futures_util::FutureExt as _;
use proptest::prelude::*;

use super::super::log::Fate;
use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const AT: &str = "2025-02-03T08:00:00.000Z";

/// A session with a clock of its own.
struct Run {
    session: Session,
    knobs: AgentKnobs,
    rng: Rng,
    now: Instant,
}

fn custom(name: &str) -> Event {
    Event::of(&json!({ "type": "CustomEvent", "eventName": name }))
}

impl Run {
    fn new(change: impl FnOnce(&mut AgentKnobs)) -> (Self, String) {
        let mut knobs = AgentKnobs::default();
        change(&mut knobs);
        let (mut rng, now) = (Rng::with_seed(7), Instant::now());
        let roomy = AgentKnobs { queue_capacity: 100, ..knobs.clone() };
        let (session, id) = Session::start("7001", Station::default(), AT, &roomy, &mut rng, now);
        (Self { session, knobs, rng, now }, id)
    }

    /// One whose first batch was told.
    fn live(change: impl FnOnce(&mut AgentKnobs)) -> (Self, String) {
        let (mut run, id) = Self::new(change);
        let (next, kinds, _) = run.told(&id);
        assert_eq!(kinds, ["agentsessionstart", "agentstate", "updateindicators"]);
        (run, next)
    }

    fn push(&mut self, name: &str) -> u64 {
        self.session.push(custom(name), &self.knobs, self.now)
    }

    fn poll(&mut self, id: &str) -> (u64, Told) {
        let (number, _, told) = self.session.poll(id, MINUTE, &self.knobs, &mut self.rng, self.now);
        (number, told)
    }

    fn look(&mut self, number: u64) -> Told {
        self.session.look(number, &self.knobs, &mut self.rng, self.now)
    }

    /// Polls, and is done with it: the next id, the events in a word each, the branch.
    fn told(&mut self, id: &str) -> (String, Vec<String>, u8) {
        let (number, told) = self.poll(id);
        self.session.close(number, self.now);
        batch(told)
    }

    fn run_due(&mut self) {
        self.session.run_due(AT, &self.knobs, self.now);
    }

    fn fates(&self) -> Vec<Fate> {
        self.session.log.fates().skip(3).map(|(_, _, fate)| fate).collect()
    }
}

fn batch(told: Told) -> (String, Vec<String>, u8) {
    let Told::Batch { id, events, branch } = told else { panic!("{told:?}") };
    let word = |it: &Event| it.field("eventname").map_or_else(|| it.kind().to_owned(), str::to_owned);
    (id, events.iter().map(word).collect(), branch)
}

#[test]
fn a_poll_waits_for_an_event_and_gets_what_follows_its_id() {
    let (mut run, s1) = Run::live(|_| {});
    let (number, told) = run.poll(&s1);
    assert_eq!(told, Told::Wait);
    run.push("a");
    run.push("b");
    let (s2, events, branch) = batch(run.look(number));
    assert_eq!((events, branch), (vec!["a".to_owned(), "b".to_owned()], 1));
    run.session.close(number, run.now);
    assert_eq!(run.fates(), [Fate::Answered, Fate::Answered]);
    run.push("c");
    assert_eq!(run.told(&s2).1, ["c"]);
    assert_eq!((run.session.counts.polls, run.session.counts.overlaps, run.session.counts.stale), (3, 0, 0));
}

#[test]
fn a_poll_is_quiet_at_its_deadline_and_later_where_that_is_asked_for() {
    for late in [Duration::ZERO, Duration::from_secs(5)] {
        let (mut run, s1) = Run::live(|knobs| knobs.answer_late = late);
        let (number, told) = run.poll(&s1);
        assert_eq!(told, Told::Wait);
        assert_eq!(run.session.next_deadline(&run.knobs), Some(run.now + MINUTE + late));
        run.now += MINUTE + late - Duration::from_millis(1);
        assert_eq!(run.look(number), Told::Wait);
        run.now += Duration::from_millis(1);
        run.run_due();
        assert_eq!(run.session.next_deadline(&run.knobs), None, "once");
        assert_eq!(run.look(number), Told::Quiet);
        run.session.close(number, run.now);
        // The id is as good as before.
        run.push("a");
        assert_eq!(run.told(&s1).1, ["a"]);
    }
    let (mut run, s1) = Run::live(|_| {});
    let (_, _, told) = run.session.poll(&s1, Duration::ZERO, &run.knobs, &mut run.rng, run.now);
    assert_eq!(told, Told::Quiet);
}

#[test]
fn an_old_id_is_told_what_is_or_what_was_or_nothing() {
    let (mut run, s1) = Run::live(|_| {});
    run.push("a");
    let (s2, ..) = run.told(&s1);
    run.push("b");
    // The answer with `a` was lost.
    let (s3, events, branch) = run.told(&s1);
    assert_eq!((events, branch), (vec!["agentsessionstart".to_owned(), "agentstate".to_owned()], 3));
    assert_eq!(run.fates(), [Fate::Missed, Fate::Missed]);
    assert_eq!(run.told(&s2).1.len(), 2, "old ids stay good");
    let (s4, ..) = run.told(&s3);
    run.push("c");
    assert_eq!(run.told(&s4).1, ["c"]);
    assert_eq!((run.session.counts.stale, run.session.counts.snapshots), (3, 3));

    let (mut run, s1) = Run::live(|knobs| knobs.stale_id = StaleId::Replay);
    run.push("a");
    run.told(&s1);
    run.push("b");
    let (s3, events, branch) = run.told(&s1);
    assert_eq!((events, branch), (vec!["a".to_owned(), "b".to_owned()], 1));
    run.knobs.queue_capacity = 1;
    run.push("c");
    run.push("d");
    let (_, events, branch) = run.told(&s3);
    assert_eq!((events.len(), branch), (2, 3), "it is not queued any more");
    run.knobs.stale_branch = 1;
    assert_eq!(run.told(&s1).2, 1, "as the knob says");

    let (mut run, s1) = Run::live(|knobs| knobs.stale_id = StaleId::Unknown);
    run.push("a");
    run.told(&s1);
    assert_eq!(run.poll(&s1).1, Told::Unknown);
    assert_eq!(run.poll("x").1, Told::Unknown);
}

#[test]
fn f12_a_queue_that_overflows_leaves_a_snapshot() {
    let (mut run, s1) = Run::live(|knobs| knobs.queue_capacity = 2);
    run.push("a");
    run.push("b");
    run.push("c");
    let (s2, events, branch) = run.told(&s1);
    assert_eq!((events, branch), (vec!["agentsessionstart".to_owned(), "agentstate".to_owned()], 3));
    assert_eq!(run.fates(), [Fate::Missed; 3]);
    run.push("d");
    assert_eq!(run.told(&s2).1, ["d"]);
    // While a poll waits as well.
    let s = run.session.log.newest().to_owned();
    let (number, told) = run.poll(&s);
    assert_eq!(told, Told::Wait);
    for name in ["e", "f", "g"] {
        run.push(name);
    }
    assert_eq!(batch(run.look(number)).2, 3);
    // Where the end is not queued any more, it cannot be told.
    let s = run.session.log.newest().to_owned();
    run.session.push(Event::of(&own_end(true)), &run.knobs, run.now);
    run.push("h");
    run.push("i");
    assert_eq!(run.poll(&s).1, Told::Over);
}

#[test]
fn of_two_polls_the_newer_wins_or_both_or_the_older() {
    let (mut run, s1) = Run::live(|_| {});
    let (older, _) = run.poll(&s1);
    let (newer, told) = run.poll(&s1);
    assert_eq!((told, run.look(older)), (Told::Wait, Told::Quiet));
    run.push("a");
    assert_eq!(run.look(older), Told::Quiet, "whatever comes");
    assert_eq!(batch(run.look(newer)).1, ["a"]);
    assert_eq!(run.session.counts.overlaps, 1);

    let (mut run, s1) = Run::live(|knobs| knobs.concurrent = Concurrent::BothServed);
    let (older, _) = run.poll(&s1);
    let (newer, _) = run.poll(&s1);
    run.push("a");
    assert_eq!((batch(run.look(older)).1, batch(run.look(newer)).1), (vec!["a".to_owned()], vec!["a".to_owned()]));

    let (mut run, s1) = Run::live(|knobs| knobs.concurrent = Concurrent::SecondConflict);
    let (older, _) = run.poll(&s1);
    assert_eq!(run.poll(&s1).1, Told::Over);
    run.push("a");
    assert_eq!(batch(run.look(older)).1, ["a"]);
}

#[test]
fn a_join_is_told_what_is_and_makes_other_ids_old() {
    let (mut run, s1) = Run::live(|_| {});
    run.push("a");
    let joined = run.session.join(&run.knobs, &mut run.rng, run.now);
    let (j1, events, branch) = run.told(&joined);
    assert_eq!((events.len(), branch), (2, 1));
    assert_eq!(run.fates(), [Fate::Missed], "nobody is going to be told of it");
    run.push("b");
    assert_eq!(run.told(&j1).1, ["b"]);
    assert_eq!(run.told(&s1).2, 3);

    let (mut run, _) = Run::live(|knobs| (knobs.stale_id, knobs.joined_branch) = (StaleId::Replay, 7));
    let joined = run.session.join(&run.knobs, &mut run.rng, run.now);
    run.push("a");
    let (_, events, branch) = run.told(&joined);
    assert_eq!((events, branch), (vec!["agentsessionstart".to_owned(), "agentstate".to_owned()], 7));
    let (_, events, branch) = run.told(&joined);
    assert_eq!((events.len(), branch), (2, 3), "its holder knows nothing, and it is old");
}

#[test]
fn a_join_and_a_poll_that_is_not_held_are_activity_and_a_poll_that_is_refused_is_none() {
    let idle = Duration::from_secs(300);
    let (mut run, s1) = Run::live(|knobs| knobs.concurrent = Concurrent::SecondConflict);
    run.push("a");
    run.told(&s1);
    run.now += idle;
    let joined = run.session.join(&run.knobs, &mut run.rng, run.now);
    run.run_due();
    assert!(!run.session.is_over());
    run.now += idle;
    assert_eq!(run.told(&s1).2, 3);
    run.run_due();
    assert!(!run.session.is_over());

    let (s2, ..) = run.told(&joined);
    let (older, _) = run.poll(&s2);
    let (refused, told) = run.poll(&s2);
    assert_eq!(told, Told::Over);
    run.session.close(older, run.now);
    run.now += idle;
    run.session.close(refused, run.now);
    run.run_due();
    assert!(run.session.is_over());
}

#[test]
fn a_poll_is_woken_at_its_deadline() {
    let (mut run, s1) = Run::live(|_| {});
    let (_, wake, _) = run.session.poll(&s1, MINUTE, &run.knobs, &mut run.rng, run.now);
    run.now += MINUTE - Duration::from_millis(1);
    run.run_due();
    assert!(wake.notified().now_or_never().is_none());
    run.now += Duration::from_millis(1);
    run.run_due();
    assert!(wake.notified().now_or_never().is_some());
}

#[test]
fn the_longest_pause_is_from_an_answer_to_the_next_poll() {
    let (mut run, _) = Run::live(|_| {});
    let start = run.now;
    let at = |seconds| start + Duration::from_secs(seconds);
    run.session.asked(at(1));
    assert_eq!(run.session.counts.longest_pause, Duration::ZERO, "nothing was answered");
    run.session.answered(at(2));
    run.session.asked(at(5));
    run.session.asked(at(50));
    run.session.answered(at(60));
    run.session.asked(at(61));
    assert_eq!(run.session.counts.longest_pause, Duration::from_secs(3));
}

#[test]
fn f33_a_session_that_nobody_polls_ends_or_its_agent_is_made_unavailable() {
    let idle = Duration::from_secs(300);
    let (mut run, s1) = Run::live(|_| {});
    // A poll that is open is activity.
    let (number, _) = run.poll(&s1);
    run.now += 2 * idle;
    run.run_due();
    assert!(!run.session.is_over());
    run.session.close(number, run.now);
    assert_eq!(run.session.next_deadline(&run.knobs), Some(run.now + idle));
    run.now += idle - Duration::from_millis(1);
    run.run_due();
    assert!(!run.session.is_over());
    run.now += Duration::from_millis(1);
    run.run_due();
    assert!(run.session.is_over());
    assert_eq!(run.session.next_deadline(&run.knobs), None);
    let (s2, events, _) = run.told(&s1);
    assert_eq!(events, ["remoteagentsessionend"]);
    assert_eq!(run.poll(&s2).1, Told::Over);

    for (force_logout, want) in [(false, "agentstate"), (true, "remoteagentsessionend")] {
        let (mut run, s1) = Run::live(|knobs| knobs.idle = Idle::SetUnavailable);
        run.session.station = Station { force_logout, inactivity: Some(Duration::from_secs(30)), ..Station::default() };
        let (number, _) = run.poll(&s1);
        assert_eq!(run.session.next_deadline(&run.knobs), Some(run.now + MINUTE), "not while it is polled");
        run.session.close(number, run.now);
        run.now += Duration::from_secs(30);
        run.run_due();
        run.now += Duration::from_secs(60);
        run.run_due();
        assert_eq!(run.session.next_deadline(&run.knobs), None);
        let (s2, events, _) = run.told(&s1);
        assert_eq!(events, [want], "once");
        assert_eq!(run.session.is_over(), force_logout);
        if !force_logout {
            run.now += Duration::from_secs(30);
            run.run_due();
            assert_eq!(run.told(&s2).1, [want], "and again after a poll");
        }
    }
}

#[test]
fn after_its_end_a_session_is_409_and_404_then() {
    for (after_end, at_once, later_on) in [
        (AfterEnd::ConflictThenUnknown, Told::Over, Told::Unknown),
        (AfterEnd::Conflict, Told::Over, Told::Over),
        (AfterEnd::Unknown, Told::Unknown, Told::Unknown),
    ] {
        let (mut run, s1) = Run::live(|knobs| knobs.after_end = after_end);
        let (number, _) = run.poll(&s1);
        run.session.push(Event::of(&own_end(false)), &run.knobs, run.now);
        assert!(!run.session.is_over(), "it did not succeed");
        run.session.push(Event::of(&own_end(true)), &run.knobs, run.now);
        let (s2, events, _) = batch(run.look(number));
        assert_eq!(events, ["agentsessionend", "agentsessionend"], "{after_end:?}");
        run.session.close(number, run.now);
        assert_eq!(run.poll(&s2).1, at_once);
        assert_eq!(run.poll(&s1).1, at_once, "the answer may be lost");
        run.now += Duration::from_secs(119);
        assert_eq!(run.poll(&s2).1, at_once);
        run.now += Duration::from_secs(1);
        assert_eq!(run.poll(&s2).1, later_on);
    }
    let (mut run, s1) = Run::live(|_| {});
    run.session.push(Event::of(&own_end(true)), &run.knobs, run.now);
    assert_eq!(run.session.next_deadline(&run.knobs), None);
    run.now += Duration::from_secs(120);
    assert_eq!(run.poll(&s1).1, Told::Unknown, "nothing is kept for that long");
    run.now += Duration::from_secs(300);
    run.run_due();
    assert_eq!(run.fates(), [Fate::Missed], "it ends once");
}

#[test]
fn a_nudge_is_an_empty_batch() {
    let (mut run, s1) = Run::live(|_| {});
    let (number, _) = run.poll(&s1);
    run.session.nudge();
    let (s2, events, branch) = batch(run.look(number));
    assert_eq!((events.len(), branch, s2 == s1), (0, 1, false));
    run.session.close(number, run.now);
    assert_eq!(run.poll(&s2).1, Told::Wait, "one of them");
}

#[test]
fn a_poll_that_is_gone_is_open_no_more_and_is_told_nothing() {
    let (mut run, s1) = Run::live(|_| {});
    let (number, _) = run.poll(&s1);
    assert_eq!(run.session.open_polls(), 1);
    run.session.close(number, run.now);
    assert_eq!(run.session.open_polls(), 0);
    run.push("a");
    assert_eq!(run.look(number), Told::Quiet);
    assert_eq!(run.fates(), [Fate::Queued]);
}

/// What a model of a client does.
#[derive(Clone, Copy, Debug)]
enum Does {
    Push,
    Poll,
    /// A poll whose answer is lost.
    Lose,
}

proptest! {
    /// A client that uses the newest id it has is told each event once and in order, but
    /// for those that count as missed, and after each of those a snapshot.
    #[test]
    fn what_is_not_told_is_missed_and_a_snapshot_says_so(
        steps in proptest::collection::vec(prop_oneof![Just(Does::Push), Just(Does::Poll), Just(Does::Lose)], 1..60),
        replay: bool,
        capacity in 1_usize..6,
    ) {
        let (mut run, mut id) = Run::live(|knobs| {
            knobs.queue_capacity = capacity;
            knobs.stale_id = if replay { StaleId::Replay } else { StaleId::Snapshot };
        });
        let (mut sent, mut told, mut snapshots) = (0_u64, Vec::new(), 0);
        for does in steps.into_iter().chain([Does::Poll]) {
            if matches!(does, Does::Push) {
                run.push(&sent.to_string());
                sent += 1;
                continue;
            }
            let (number, answer) = run.poll(&id);
            run.session.close(number, run.now);
            if matches!(does, Does::Lose) || answer == Told::Wait {
                continue;
            }
            let (next, events, branch) = batch(answer);
            id = next;
            if branch == 3 {
                snapshots += 1;
                prop_assert_eq!(events[0].as_str(), "agentsessionstart");
            } else {
                told.extend(events.iter().map(|name| name.parse::<u64>().unwrap()));
            }
        }
        prop_assert!(told.is_sorted_by(|a, b| a < b), "{:?}", told);
        for (number, event, fate) in run.session.log.fates().skip(3) {
            let name: u64 = event.field("eventname").unwrap().parse().unwrap();
            match fate {
                Fate::Answered => prop_assert!(told.contains(&name), "{} is {:?} and was not told", number, fate),
                Fate::Missed => prop_assert!(snapshots > 0 && !told.contains(&name), "{}", number),
                Fate::Queued | Fate::Overwritten => prop_assert!(false, "{} is {:?}", number, fate),
            }
        }
    }
}
