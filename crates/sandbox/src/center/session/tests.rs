use fastrand::Rng;
use futures_util::FutureExt as _;
use proptest::prelude::*;

use super::super::events::own_end;
use super::super::log::Fate;
use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const AT: &str = "2025-02-03T08:00:00.000Z";

/// A session with a manual clock.
struct Run {
    session: Session,
    behavior: AgentBehavior,
    rng: Rng,
    now: Instant,
}

fn custom(name: &str) -> Event {
    Event::of(&json!({ "type": "CustomEvent", "eventName": name }))
}

impl Run {
    fn new(change: impl FnOnce(&mut AgentBehavior)) -> (Self, String) {
        let mut behavior = AgentBehavior::default();
        change(&mut behavior);
        let (mut rng, now) = (Rng::with_seed(7), Instant::now());
        let roomy = AgentBehavior { queue_capacity: 100, ..behavior.clone() };
        let (session, id) = Session::start("7001", Station::default(), AT, &roomy, &mut rng, now);
        (Self { session, behavior, rng, now }, id)
    }

    /// A session whose first batch has been delivered.
    fn live(change: impl FnOnce(&mut AgentBehavior)) -> (Self, String) {
        let (mut run, id) = Self::new(change);
        let (next, kinds, _) = run.poll_once(&id);
        assert_eq!(kinds, ["agentsessionstart", "agentstate", "updateindicators"]);
        (run, next)
    }

    fn push(&mut self, name: &str) -> u64 {
        self.session.push(custom(name), &self.behavior, self.now)
    }

    fn poll(&mut self, id: &str) -> (u64, PollResult) {
        let (number, _, delivered) = self.session.poll(id, MINUTE, &self.behavior, &mut self.rng, self.now);
        (number, delivered)
    }

    fn look(&mut self, number: u64) -> PollResult {
        self.session.look(number, &self.behavior, &mut self.rng, self.now)
    }

    /// Polls and closes: returns the next id, one word per event, and the branch.
    fn poll_once(&mut self, id: &str) -> (String, Vec<String>, u8) {
        let (number, delivered) = self.poll(id);
        self.session.close(number, self.now);
        batch(delivered)
    }

    fn run_due(&mut self) {
        self.session.run_due(AT, &self.behavior, self.now);
    }

    fn fates(&self) -> Vec<Fate> {
        self.session.log.fates().skip(3).map(|(_, _, fate)| fate).collect()
    }
}

fn batch(delivered: PollResult) -> (String, Vec<String>, u8) {
    let PollResult::Batch { id, events, branch } = delivered else { panic!("{delivered:?}") };
    let word = |it: &Event| it.field("eventname").map_or_else(|| it.kind().to_owned(), str::to_owned);
    (id, events.iter().map(word).collect(), branch)
}

#[test]
fn a_poll_waits_for_an_event_and_gets_those_after_its_id() {
    let (mut run, s1) = Run::live(|_| {});
    let (number, delivered) = run.poll(&s1);
    assert_eq!(delivered, PollResult::Wait);
    run.push("a");
    run.push("b");
    let (s2, events, branch) = batch(run.look(number));
    assert_eq!((events, branch), (vec!["a".to_owned(), "b".to_owned()], 1));
    run.session.close(number, run.now);
    assert_eq!(run.fates(), [Fate::Answered, Fate::Answered]);
    run.push("c");
    assert_eq!(run.poll_once(&s2).1, ["c"]);
    assert_eq!((run.session.counts.polls, run.session.counts.overlaps, run.session.counts.stale), (3, 0, 0));
}

#[test]
fn an_empty_poll_ends_at_its_deadline_or_later_if_configured() {
    for late in [Duration::ZERO, Duration::from_secs(5)] {
        let (mut run, s1) = Run::live(|behavior| behavior.answer_late = late);
        let (number, delivered) = run.poll(&s1);
        assert_eq!(delivered, PollResult::Wait);
        assert_eq!(run.session.next_deadline(&run.behavior), Some(run.now + MINUTE + late));
        run.now += MINUTE + late - Duration::from_millis(1);
        assert_eq!(run.look(number), PollResult::Wait);
        run.now += Duration::from_millis(1);
        run.run_due();
        assert_eq!(run.session.next_deadline(&run.behavior), None, "once");
        assert_eq!(run.look(number), PollResult::Quiet);
        run.session.close(number, run.now);
        // The id remains valid.
        run.push("a");
        assert_eq!(run.poll_once(&s1).1, ["a"]);
    }
    let (mut run, s1) = Run::live(|_| {});
    let (_, _, delivered) = run.session.poll(&s1, Duration::ZERO, &run.behavior, &mut run.rng, run.now);
    assert_eq!(delivered, PollResult::Quiet);
}

#[test]
fn an_outdated_id_gets_a_snapshot_a_replay_or_nothing() {
    let (mut run, s1) = Run::live(|_| {});
    run.push("a");
    let (s2, ..) = run.poll_once(&s1);
    run.push("b");
    // The answer with `a` was lost.
    let (s3, events, branch) = run.poll_once(&s1);
    assert_eq!((events, branch), (vec!["agentsessionstart".to_owned(), "agentstate".to_owned()], 3));
    assert_eq!(run.fates(), [Fate::Missed, Fate::Missed]);
    assert_eq!(run.poll_once(&s2).1.len(), 2, "old ids stay valid");
    let (s4, ..) = run.poll_once(&s3);
    run.push("c");
    assert_eq!(run.poll_once(&s4).1, ["c"]);
    assert_eq!((run.session.counts.stale, run.session.counts.snapshots), (3, 3));

    let (mut run, s1) = Run::live(|behavior| behavior.stale_id = StaleId::Replay);
    run.push("a");
    run.poll_once(&s1);
    run.push("b");
    let (s3, events, branch) = run.poll_once(&s1);
    assert_eq!((events, branch), (vec!["a".to_owned(), "b".to_owned()], 1));
    run.behavior.queue_capacity = 1;
    run.push("c");
    run.push("d");
    let (_, events, branch) = run.poll_once(&s3);
    assert_eq!((events.len(), branch), (2, 3), "it is not queued any more");
    run.behavior.stale_branch = 1;
    assert_eq!(run.poll_once(&s1).2, 1, "as the setting says");

    let (mut run, s1) = Run::live(|behavior| behavior.stale_id = StaleId::Unknown);
    run.push("a");
    run.poll_once(&s1);
    assert_eq!(run.poll(&s1).1, PollResult::Unknown);
    assert_eq!(run.poll("x").1, PollResult::Unknown);
}

#[test]
fn f12_an_overflowing_queue_leaves_a_snapshot() {
    let (mut run, s1) = Run::live(|behavior| behavior.queue_capacity = 2);
    run.push("a");
    run.push("b");
    run.push("c");
    let (s2, events, branch) = run.poll_once(&s1);
    assert_eq!((events, branch), (vec!["agentsessionstart".to_owned(), "agentstate".to_owned()], 3));
    assert_eq!(run.fates(), [Fate::Missed; 3]);
    run.push("d");
    assert_eq!(run.poll_once(&s2).1, ["d"]);
    // With a waiting poll.
    let s = run.session.log.newest().to_owned();
    let (number, delivered) = run.poll(&s);
    assert_eq!(delivered, PollResult::Wait);
    for name in ["e", "f", "g"] {
        run.push(name);
    }
    assert_eq!(batch(run.look(number)).2, 3);
    // If the end is no longer queued, it cannot be delivered.
    let s = run.session.log.newest().to_owned();
    run.session.push(Event::of(&own_end(true)), &run.behavior, run.now);
    run.push("h");
    run.push("i");
    assert_eq!(run.poll(&s).1, PollResult::Over);
}

#[test]
fn the_newer_the_older_or_both_of_two_polls_win() {
    let (mut run, s1) = Run::live(|_| {});
    let (older, _) = run.poll(&s1);
    let (newer, delivered) = run.poll(&s1);
    assert_eq!((delivered, run.look(older)), (PollResult::Wait, PollResult::Quiet));
    run.push("a");
    assert_eq!(run.look(older), PollResult::Quiet, "even with a new event");
    assert_eq!(batch(run.look(newer)).1, ["a"]);
    assert_eq!(run.session.counts.overlaps, 1);

    let (mut run, s1) = Run::live(|behavior| behavior.concurrent = Concurrent::BothServed);
    let (older, _) = run.poll(&s1);
    let (newer, _) = run.poll(&s1);
    run.push("a");
    assert_eq!((batch(run.look(older)).1, batch(run.look(newer)).1), (vec!["a".to_owned()], vec!["a".to_owned()]));

    let (mut run, s1) = Run::live(|behavior| behavior.concurrent = Concurrent::SecondConflict);
    let (older, _) = run.poll(&s1);
    assert_eq!(run.poll(&s1).1, PollResult::Over);
    run.push("a");
    assert_eq!(batch(run.look(older)).1, ["a"]);
}

#[test]
fn a_join_gets_a_snapshot_and_outdates_other_ids() {
    let (mut run, s1) = Run::live(|_| {});
    run.push("a");
    let joined = run.session.join(&run.behavior, &mut run.rng, run.now);
    let (j1, events, branch) = run.poll_once(&joined);
    assert_eq!((events.len(), branch), (2, 1));
    assert_eq!(run.fates(), [Fate::Missed], "no poll will receive it");
    run.push("b");
    assert_eq!(run.poll_once(&j1).1, ["b"]);
    assert_eq!(run.poll_once(&s1).2, 3);

    let (mut run, _) = Run::live(|behavior| (behavior.stale_id, behavior.joined_branch) = (StaleId::Replay, 7));
    let joined = run.session.join(&run.behavior, &mut run.rng, run.now);
    run.push("a");
    let (_, events, branch) = run.poll_once(&joined);
    assert_eq!((events, branch), (vec!["agentsessionstart".to_owned(), "agentstate".to_owned()], 7));
    let (_, events, branch) = run.poll_once(&joined);
    assert_eq!((events.len(), branch), (2, 3), "its holder has no state, and it is outdated");
}

#[test]
fn joins_and_answered_polls_are_activity_and_refused_polls_are_not() {
    let idle = Duration::from_secs(300);
    let (mut run, s1) = Run::live(|behavior| behavior.concurrent = Concurrent::SecondConflict);
    run.push("a");
    run.poll_once(&s1);
    run.now += idle;
    let joined = run.session.join(&run.behavior, &mut run.rng, run.now);
    run.run_due();
    assert!(!run.session.is_over());
    run.now += idle;
    assert_eq!(run.poll_once(&s1).2, 3);
    run.run_due();
    assert!(!run.session.is_over());

    let (s2, ..) = run.poll_once(&joined);
    let (older, _) = run.poll(&s2);
    let (refused, delivered) = run.poll(&s2);
    assert_eq!(delivered, PollResult::Over);
    run.session.close(older, run.now);
    run.now += idle;
    run.session.close(refused, run.now);
    run.run_due();
    assert!(run.session.is_over());
}

#[test]
fn a_poll_is_woken_at_its_deadline() {
    let (mut run, s1) = Run::live(|_| {});
    let (_, wake, _) = run.session.poll(&s1, MINUTE, &run.behavior, &mut run.rng, run.now);
    run.now += MINUTE - Duration::from_millis(1);
    run.run_due();
    assert!(wake.notified().now_or_never().is_none());
    run.now += Duration::from_millis(1);
    run.run_due();
    assert!(wake.notified().now_or_never().is_some());
}

#[test]
fn the_longest_pause_runs_from_an_answer_to_the_next_poll() {
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
fn f33_an_unpolled_session_ends_or_makes_its_agent_unavailable() {
    let idle = Duration::from_secs(300);
    let (mut run, s1) = Run::live(|_| {});
    // An open poll counts as activity.
    let (number, _) = run.poll(&s1);
    run.now += 2 * idle;
    run.run_due();
    assert!(!run.session.is_over());
    run.session.close(number, run.now);
    assert_eq!(run.session.next_deadline(&run.behavior), Some(run.now + idle));
    run.now += idle - Duration::from_millis(1);
    run.run_due();
    assert!(!run.session.is_over());
    run.now += Duration::from_millis(1);
    run.run_due();
    assert!(run.session.is_over());
    assert_eq!(run.session.next_deadline(&run.behavior), None);
    let (s2, events, _) = run.poll_once(&s1);
    assert_eq!(events, ["remoteagentsessionend"]);
    assert_eq!(run.poll(&s2).1, PollResult::Over);

    for (force_logout, want) in [(false, "agentstate"), (true, "remoteagentsessionend")] {
        let (mut run, s1) = Run::live(|behavior| behavior.idle = Idle::SetUnavailable);
        run.session.station = Station { force_logout, inactivity: Some(Duration::from_secs(30)), ..Station::default() };
        let (number, _) = run.poll(&s1);
        assert_eq!(run.session.next_deadline(&run.behavior), Some(run.now + MINUTE), "not while it is polled");
        run.session.close(number, run.now);
        run.now += Duration::from_secs(30);
        run.run_due();
        run.now += Duration::from_secs(60);
        run.run_due();
        assert_eq!(run.session.next_deadline(&run.behavior), None);
        let (s2, events, _) = run.poll_once(&s1);
        assert_eq!(events, [want], "once");
        assert_eq!(run.session.is_over(), force_logout);
        if !force_logout {
            run.now += Duration::from_secs(30);
            run.run_due();
            assert_eq!(run.poll_once(&s2).1, [want], "and again after a poll");
        }
    }
}

#[test]
fn an_ended_session_is_409_and_later_404() {
    for (after_end, at_once, later_on) in [
        (AfterEnd::ConflictThenUnknown, PollResult::Over, PollResult::Unknown),
        (AfterEnd::Conflict, PollResult::Over, PollResult::Over),
        (AfterEnd::Unknown, PollResult::Unknown, PollResult::Unknown),
    ] {
        let (mut run, s1) = Run::live(|behavior| behavior.after_end = after_end);
        let (number, _) = run.poll(&s1);
        run.session.push(Event::of(&own_end(false)), &run.behavior, run.now);
        assert!(!run.session.is_over(), "it did not succeed");
        run.session.push(Event::of(&own_end(true)), &run.behavior, run.now);
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
    run.session.push(Event::of(&own_end(true)), &run.behavior, run.now);
    assert_eq!(run.session.next_deadline(&run.behavior), None);
    run.now += Duration::from_secs(120);
    assert_eq!(run.poll(&s1).1, PollResult::Unknown, "the events have expired");
    run.now += Duration::from_secs(300);
    run.run_due();
    assert_eq!(run.fates(), [Fate::Missed], "it ends once");
}

#[test]
fn an_ended_poll_gets_an_empty_batch() {
    let (mut run, s1) = Run::live(|_| {});
    let (number, _) = run.poll(&s1);
    run.session.end_poll();
    let (s2, events, branch) = batch(run.look(number));
    assert_eq!((events.len(), branch, s2 == s1), (0, 1, false));
    run.session.close(number, run.now);
    assert_eq!(run.poll(&s2).1, PollResult::Wait, "one of them");
}

#[test]
fn a_closed_poll_receives_nothing() {
    let (mut run, s1) = Run::live(|_| {});
    let (number, _) = run.poll(&s1);
    assert_eq!(run.session.open_polls(), 1);
    run.session.close(number, run.now);
    assert_eq!(run.session.open_polls(), 0);
    run.push("a");
    assert_eq!(run.look(number), PollResult::Quiet);
    assert_eq!(run.fates(), [Fate::Queued]);
}

/// A step of the client model.
#[derive(Clone, Copy, Debug)]
enum Does {
    Push,
    Poll,
    /// A poll whose answer is lost.
    Lose,
}

proptest! {
    /// A client that uses its newest id receives each event once and in order, except those that
    /// count as missed, and a snapshot after each missed one.
    #[test]
    fn undelivered_events_are_missed_and_followed_by_a_snapshot(
        steps in proptest::collection::vec(prop_oneof![Just(Does::Push), Just(Does::Poll), Just(Does::Lose)], 1..60),
        replay: bool,
        capacity in 1_usize..6,
    ) {
        let (mut run, mut id) = Run::live(|behavior| {
            behavior.queue_capacity = capacity;
            behavior.stale_id = if replay { StaleId::Replay } else { StaleId::Snapshot };
        });
        let (mut sent, mut delivered, mut snapshots) = (0_u64, Vec::new(), 0);
        for does in steps.into_iter().chain([Does::Poll]) {
            if matches!(does, Does::Push) {
                run.push(&sent.to_string());
                sent += 1;
                continue;
            }
            let (number, answer) = run.poll(&id);
            run.session.close(number, run.now);
            if matches!(does, Does::Lose) || answer == PollResult::Wait {
                continue;
            }
            let (next, events, branch) = batch(answer);
            id = next;
            if branch == 3 {
                snapshots += 1;
                prop_assert_eq!(events[0].as_str(), "agentsessionstart");
            } else {
                delivered.extend(events.iter().map(|name| name.parse::<u64>().unwrap()));
            }
        }
        prop_assert!(delivered.is_sorted_by(|a, b| a < b), "{:?}", delivered);
        for (number, event, fate) in run.session.log.fates().skip(3) {
            let name: u64 = event.field("eventname").unwrap().parse().unwrap();
            match fate {
                Fate::Answered => prop_assert!(delivered.contains(&name), "{} is {:?} but was not delivered", number, fate),
                Fate::Missed => prop_assert!(snapshots > 0 && !delivered.contains(&name), "{}", number),
                Fate::Queued | Fate::Overwritten => prop_assert!(false, "{} is {:?}", number, fate),
            }
        }
    }
}
