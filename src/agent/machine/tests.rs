use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const FRESH: Batch = Batch { moves: true, new_id: true, has_events: true, has_start: false, missed: false, end: None };
const START: Batch = Batch { has_start: true, ..FRESH };
const MISSED: Batch = Batch { missed: true, has_start: true, ..FRESH };
/// No byte of the answer arrived.
const CUT: Transient = Transient { retry_after: None, doubt: Doubt::Unanswered, broken: true };
/// The answer had origin.
const TORN: Transient = Transient { doubt: Doubt::Broken, ..CUT };
const DOWN: Transient = Transient { retry_after: None, doubt: Doubt::No, broken: false };

fn rules() -> Rules {
    Rules {
        timeout: Duration::from_secs(60),
        give_up_after: Duration::from_secs(600),
        backoff: BackoffPolicy::new().base(Duration::from_millis(500)).cap(Duration::from_secs(10)),
        reestablish: false,
        unsuccessful_end_is_end: true,
    }
}

/// A machine with a simulated clock.
struct Run {
    machine: Machine,
    now: Instant,
}

impl Run {
    fn new(rules: Rules, origin: SessionOrigin) -> Self {
        Self { machine: Machine::new(rules, origin, Doubt::No), now: tokio::time::Instant::now().into_std() }
    }

    /// A session that has received its first batch.
    fn live() -> Self {
        Self::live_with(rules())
    }

    fn live_with(rules: Rules) -> Self {
        let mut run = Self::new(rules, SessionOrigin::Started);
        assert_eq!(run.after(Answer::Batch(START), SECOND), Report::default());
        run
    }

    fn after(&mut self, answer: Answer, elapsed: Duration) -> Report {
        self.now += elapsed;
        self.machine.answered(answer, elapsed, self.now, 1.0)
    }

    fn next(&self) -> Next {
        self.machine.next(self.now)
    }

    /// How long the machine waits now; advances the clock to the end of the wait.
    fn wait(&mut self) -> Duration {
        match self.next() {
            Next::Wait(at) => {
                let wait = at - self.now;
                self.now = at;
                wait
            }
            _ => Duration::ZERO,
        }
    }
}

fn poll(seconds: u64) -> Next {
    Next::Poll { timeout: Duration::from_secs(seconds) }
}

fn gap(cause: GapCause, certainty: Certainty) -> Report {
    Report { gap: Some((cause, certainty)), is_snapshot: true, resumed: true, ..Report::default() }
}

#[test]
fn f01_after_200_and_304_the_next_poll_follows_at_once() {
    let mut run = Run::new(rules(), SessionOrigin::Started);
    assert_eq!((run.next(), run.machine.phase()), (poll(60), Phase::Connecting));
    run.after(Answer::Batch(START), Duration::ZERO);
    assert_eq!((run.next(), run.machine.phase()), (poll(60), Phase::Live));
    for _ in 0..10 {
        assert_eq!(run.after(Answer::Quiet, 60 * SECOND), Report::default());
        assert_eq!(run.next(), poll(60));
    }
    for _ in 0..100 {
        assert_eq!(run.after(Answer::Batch(FRESH), Duration::ZERO), Report::default());
        assert_eq!(run.next(), poll(60));
    }
}

#[test]
fn f02_immediate_answers_without_progress_are_paced() {
    let still = Batch { moves: false, new_id: false, ..FRESH };
    let empty = Batch { has_events: false, ..FRESH };
    for answer in [Answer::Quiet, Answer::Batch(still), Answer::Batch(empty)] {
        let mut run = Run::live();
        let waits: Vec<u64> = (0..11)
            .map(|_| {
                run.after(answer, Duration::ZERO);
                run.wait().as_secs()
            })
            .collect();
        assert_eq!(waits, [0, 0, 0, 0, 1, 2, 4, 8, 10, 10, 10], "{answer:?}");
        // An answer that takes long ends the pacing, and so does an event.
        run.after(Answer::Quiet, 30 * SECOND);
        assert_eq!(run.next(), poll(60));
        for _ in 0..4 {
            run.after(answer, Duration::ZERO);
            assert_eq!(run.next(), poll(60), "counted from the start again");
        }
        run.after(answer, Duration::ZERO);
        assert_eq!(run.wait(), SECOND);
        run.after(Answer::Batch(FRESH), Duration::ZERO);
        assert_eq!(run.next(), poll(60));
    }
}

#[test]
fn repeated_snapshots_are_paced_too() {
    let mut run = Run::live();
    let waits: Vec<u64> = (0..7)
        .map(|_| {
            run.after(Answer::Batch(START), Duration::ZERO);
            run.wait().as_secs()
        })
        .collect();
    assert_eq!(waits, [0, 0, 0, 0, 0, 1, 2]);
}

#[test]
fn f03_a_timeout_of_zero_is_polled_with_zero_and_paced() {
    let mut run = Run::live_with(Rules { timeout: Duration::ZERO, ..rules() });
    for _ in 0..4 {
        assert_eq!(run.next(), poll(0));
        run.after(Answer::Quiet, Duration::from_millis(1));
    }
    run.after(Answer::Quiet, Duration::from_millis(1));
    assert_eq!(run.wait(), SECOND);
    run.after(Answer::Transient(DOWN), Duration::ZERO);
    run.wait();
    assert_eq!(run.next(), poll(0));
}

#[test]
fn f08_a_lost_answer_leads_to_a_gap_unless_a_new_id_shows_that_there_was_none() {
    let mut run = Run::live();
    run.after(Answer::Transient(CUT), 20 * SECOND);
    assert!(run.wait() >= MIN_WAIT);
    assert_eq!(run.next(), poll(1), "an early answer shows that the service works");
    assert_eq!(run.after(Answer::Batch(START), Duration::ZERO), gap(GapCause::AnswerLost, Certainty::Possible));
    assert_eq!(run.next(), poll(60));
    // F09: it is delivered again, or nothing was lost.
    run.after(Answer::Transient(CUT), 20 * SECOND);
    run.wait();
    assert_eq!(run.after(Answer::Batch(FRESH), Duration::ZERO), Report::default());
    assert_eq!(run.after(Answer::Batch(START), 9 * SECOND), gap(GapCause::EventsMissed, Certainty::Possible));
}

#[test]
fn a_truncated_answer_is_a_gap_after_any_next_answer() {
    let no_id = Batch { moves: false, new_id: false, ..FRESH };
    let want = Report { is_snapshot: false, ..gap(GapCause::AnswerLost, Certainty::Possible) };
    for answer in [Answer::Batch(FRESH), Answer::Quiet, Answer::Batch(no_id)] {
        let mut run = Run::live();
        // Another failure in between does not remove the doubt.
        for transient in [TORN, CUT, DOWN] {
            run.after(Answer::Transient(transient), 20 * SECOND);
            run.wait();
        }
        assert_eq!(run.after(answer, Duration::ZERO), want, "{answer:?}");
        assert_eq!(run.after(answer, Duration::ZERO), Report::default(), "once: {answer:?}");
    }
    let mut run = Run::live();
    run.after(Answer::Transient(TORN), 20 * SECOND);
    run.wait();
    assert_eq!(run.after(Answer::Batch(START), Duration::ZERO), gap(GapCause::AnswerLost, Certainty::Possible));
}

/// The lost answer may have had no id, so that the former one stays good.
#[test]
fn a_poll_without_an_answer_is_a_gap_where_answers_came_without_ids() {
    let no_id = Batch { moves: false, new_id: false, ..FRESH };
    for (before, want) in [(FRESH, None), (no_id, Some((GapCause::AnswerLost, Certainty::Possible)))] {
        let mut run = Run::live();
        assert_eq!(run.after(Answer::Batch(before), SECOND).gap, None);
        run.after(Answer::Batch(FRESH), SECOND);
        run.after(Answer::Transient(CUT), 20 * SECOND);
        run.wait();
        assert_eq!(run.after(Answer::Batch(FRESH), SECOND).gap, want, "{before:?}");
    }
}

#[test]
fn a_poll_without_an_answer_is_a_gap_unless_the_service_gives_new_ids() {
    let no_id = Batch { moves: false, new_id: false, ..FRESH };
    let same_id = Batch { new_id: false, ..FRESH };
    let lost = Some((GapCause::AnswerLost, Certainty::Possible));
    for (batch, want) in [(FRESH, None), (no_id, lost.clone()), (same_id, lost.clone()), (START, lost)] {
        for quiet in [0, 2] {
            let mut run = Run::new(rules(), SessionOrigin::Continued);
            run.machine = Machine::new(rules(), SessionOrigin::Continued, Doubt::Unanswered);
            for _ in 0..quiet {
                assert_eq!(run.after(Answer::Quiet, 60 * SECOND), Report::default(), "it proves nothing");
                assert_eq!(run.machine.doubt(), Doubt::Unanswered);
            }
            assert_eq!(run.after(Answer::Batch(batch), SECOND).gap, want, "{batch:?}");
            assert_eq!(run.machine.doubt(), Doubt::No);
        }
    }
}

#[test]
fn an_answer_that_was_lost_before_an_error_is_reported_before_it() {
    let lost = Some((GapCause::AnswerLost, Certainty::Possible));
    for (transient, want) in [(TORN, lost), (DOWN, None)] {
        for end in [Answer::Fatal, Answer::Unauthorized, Answer::Over] {
            let mut run = Run::live();
            run.after(Answer::Transient(transient), SECOND);
            run.wait();
            let mut gaps = Vec::new();
            while !matches!(run.next(), Next::Nothing(_)) {
                gaps.extend(run.after(end, SECOND).gap);
                if run.next() == Next::Refresh {
                    run.machine.refreshed();
                }
            }
            gaps.extend(run.machine.last_gap());
            gaps.extend(run.machine.last_gap());
            assert_eq!(gaps, want.clone().into_iter().collect::<Vec<_>>(), "{end:?}");
        }
    }
    // An open gap covers it.
    let mut run = Run::live();
    run.after(Answer::TooLarge, SECOND);
    assert_eq!(run.machine.last_gap(), None);
}

#[test]
fn a_loss_before_the_first_batch_is_a_gap() {
    for (transient, lost) in [(CUT, true), (DOWN, false)] {
        let mut run = Run::new(rules(), SessionOrigin::Started);
        run.after(Answer::Transient(transient), 20 * SECOND);
        run.wait();
        let report = run.after(Answer::Batch(START), Duration::ZERO);
        assert_eq!(report.gap.is_some(), lost, "{transient:?}");
        assert_eq!(report.is_snapshot, lost);
    }
}

#[test]
fn f12_f14_a_snapshot_is_recognized_by_its_branch_or_by_its_start() {
    for (batch, certainty) in [
        (MISSED, Certainty::Certain),
        (Batch { has_start: false, ..MISSED }, Certainty::Certain),
        (START, Certainty::Possible),
    ] {
        let mut run = Run::live();
        assert_eq!(run.after(Answer::Batch(batch), SECOND), gap(GapCause::EventsMissed, certainty), "{batch:?}");
        assert_eq!(run.after(Answer::Batch(FRESH), SECOND), Report::default());
    }
    let mut first = Run::new(rules(), SessionOrigin::Started);
    assert_eq!(first.after(Answer::Batch(MISSED), SECOND), gap(GapCause::EventsMissed, Certainty::Certain));
}

#[test]
fn f11_f34_the_sessions_origin_decides_what_its_first_batch_means() {
    for (origin, batch, want) in [
        (SessionOrigin::Started, START, Report::default()),
        (SessionOrigin::Started, FRESH, Report::default()),
        (SessionOrigin::Joined, START, gap(GapCause::SessionJoined, Certainty::Possible)),
        (
            SessionOrigin::Joined,
            FRESH,
            Report { is_snapshot: false, ..gap(GapCause::SessionJoined, Certainty::Possible) },
        ),
        (SessionOrigin::Continued, START, gap(GapCause::EventsMissed, Certainty::Possible)),
        (SessionOrigin::Continued, FRESH, Report::default()),
    ] {
        assert_eq!(Run::new(rules(), origin).after(Answer::Batch(batch), SECOND), want, "{origin:?} {batch:?}");
    }
}

#[test]
fn found_6_4_a_401_gets_one_token_at_once_and_further_ones_with_pauses_up_to_a_limit() {
    let mut run = Run::live();
    run.after(Answer::Unauthorized, SECOND);
    assert_eq!(run.next(), Next::Refresh);
    run.machine.refreshed();
    assert_eq!(run.next(), poll(60));
    // After an answer in between, another 401 counts as the first one.
    run.after(Answer::Quiet, 60 * SECOND);
    run.after(Answer::Unauthorized, SECOND);
    assert_eq!(run.next(), Next::Refresh);
    run.machine.refreshed();
    run.after(Answer::Unauthorized, SECOND);
    assert!(run.wait() >= MIN_WAIT);
    assert_eq!((run.next(), run.machine.failures()), (Next::Refresh, 1));
    run.machine.refreshed();
    run.after(Answer::Quiet, SECOND);
    assert_eq!((run.machine.phase(), run.machine.failures()), (Phase::Live, 0));
    let mut tokens = 0;
    while run.next() != Next::Nothing(Outcome::GaveUp) {
        if run.next() == Next::Refresh {
            tokens += 1;
            run.machine.refreshed();
        }
        run.after(Answer::Unauthorized, SECOND);
        if let Next::Wait(_) = run.next() {
            run.wait();
        }
        assert!(tokens < 200);
    }
    assert!(tokens > 5, "{tokens}");
    assert_eq!(run.machine.phase(), Phase::Closed);
}

#[test]
fn f18_a_refresh_is_repeated_up_to_a_limit() {
    let mut run = Run::live();
    run.after(Answer::Unauthorized, SECOND);
    run.machine.on_transient_error(None, run.now, 1.0);
    assert!(run.wait() >= MIN_WAIT);
    assert_eq!((run.next(), run.machine.failures()), (Next::Refresh, 1));
    run.machine.refreshed();
    assert_eq!(run.next(), poll(1));
    run.machine.refused();
    assert_eq!(run.next(), Next::Nothing(Outcome::Refused));
}

#[test]
fn f21_f22_f23_terminal_answers_are_terminal() {
    for (answer, outcome) in
        [(Answer::Fatal, Outcome::Refused), (Answer::Unknown, Outcome::Invalid), (Answer::Over, Outcome::Conflict)]
    {
        let mut run = Run::live();
        run.after(answer, SECOND);
        assert_eq!(run.next(), Next::Nothing(outcome), "{answer:?}");
    }
    for answer in [Answer::Unknown, Answer::Over] {
        let mut run = Run::live_with(Rules { reestablish: true, ..rules() });
        run.machine.ended_here();
        assert_eq!(run.machine.phase(), Phase::Closing);
        run.after(answer, SECOND);
        assert_eq!(run.next(), Next::Nothing(Outcome::Conflict), "a session that this side ended is not started again");
    }
}

#[test]
fn a_refused_end_leaves_the_session_unchanged() {
    let refused = Answer::Batch(Batch { end: Some(EndSeen::Own { success: false }), ..FRESH });
    let mut run = Run::live_with(Rules { unsuccessful_end_is_end: false, reestablish: true, ..rules() });
    run.machine.ended_here();
    assert!(run.after(refused, SECOND).end_refused);
    assert_eq!((run.next(), run.machine.phase()), (poll(60), Phase::Live));
    run.after(Answer::Over, SECOND);
    assert_eq!(run.next(), Next::Establish { may_start: true }, "it is started again like any other");
    let mut run = Run::live();
    assert!(!run.after(refused, SECOND).end_refused);
    assert_eq!(run.next(), Next::Nothing(Outcome::Ended));
}

#[test]
fn an_answer_that_was_lost_before_the_end_is_a_gap() {
    let lost = Some((GapCause::AnswerLost, Certainty::Possible));
    for (transient, want) in [(CUT, lost), (DOWN, None)] {
        for (answer, ended_here) in [(Answer::Over, false), (Answer::Unknown, false), (Answer::Over, true)] {
            let mut run = Run::live();
            if ended_here {
                run.machine.ended_here();
            }
            run.after(Answer::Transient(transient), SECOND);
            run.wait();
            let report = run.after(answer, SECOND);
            assert_eq!((report.gap, report.resumed), (want.clone(), false), "{answer:?}");
            assert!(matches!(run.next(), Next::Nothing(_)));
        }
    }
}

#[test]
fn a_lost_session_is_re_established_if_configured() {
    for answer in [Answer::Unknown, Answer::Over] {
        let mut run = Run::live_with(Rules { reestablish: true, ..rules() });
        let report = run.after(answer, SECOND);
        assert_eq!(report.gap, Some((GapCause::SessionLost, Certainty::Certain)));
        assert!(!report.resumed);
        assert_eq!((run.next(), run.machine.phase()), (Next::Establish { may_start: true }, Phase::Recreating));
        run.machine.on_transient_error(None, run.now, 1.0);
        assert!(run.wait() >= MIN_WAIT);
        run.machine.established(SessionOrigin::Started);
        // Gone again at once: no second gap, and not without a wait.
        assert_eq!(run.after(answer, Duration::ZERO), Report::default());
        assert!(run.wait() >= MIN_WAIT);
        run.machine.established(SessionOrigin::Joined);
        let report = run.after(Answer::Batch(START), Duration::ZERO);
        assert_eq!(report, Report { is_snapshot: true, resumed: true, ..Report::default() });
        assert_eq!((run.next(), run.machine.phase()), (poll(60), Phase::Live));
    }
}

#[test]
fn a_restarted_session_delivers_live_events_and_no_snapshot() {
    let mut run = Run::live_with(Rules { reestablish: true, ..rules() });
    run.after(Answer::Over, SECOND);
    run.machine.established(SessionOrigin::Started);
    assert_eq!(run.after(Answer::Batch(START), SECOND), Report { resumed: true, ..Report::default() });
}

#[test]
fn a_good_answer_resets_the_count_of_oversized_ones() {
    let mut run = Run::live();
    for _ in 0..3 {
        run.after(Answer::TooLarge, SECOND);
        run.wait();
        assert_eq!(run.next(), poll(1));
        run.after(Answer::Batch(START), SECOND);
        run.wait();
    }
}

#[test]
fn an_oversized_answer_is_a_gap_and_polling_continues_behind_it() {
    let mut run = Run::live();
    let report = run.after(Answer::TooLarge, SECOND);
    assert_eq!(report, Report { gap: Some((GapCause::TooLarge, Certainty::Certain)), ..Report::default() });
    assert!(run.wait() >= MIN_WAIT);
    assert_eq!(run.next(), poll(1));
    assert_eq!(run.after(Answer::TooLarge, SECOND), Report::default());
    run.wait();
    assert_eq!(run.next(), Next::Establish { may_start: false });
    run.machine.established(SessionOrigin::Joined);
    assert_eq!(
        run.after(Answer::Batch(START), SECOND),
        Report { is_snapshot: true, resumed: true, ..Report::default() }
    );
    let mut quiet = Run::live();
    quiet.after(Answer::TooLarge, SECOND);
    quiet.wait();
    assert!(quiet.after(Answer::Quiet, SECOND).resumed);
}

#[test]
fn f24_f25_an_end_event_ends_the_session_in_any_batch() {
    for (end, is_end) in [
        (EndSeen::Own { success: true }, true),
        (EndSeen::Own { success: false }, false),
        (EndSeen::Remote { unpolled: false }, true),
    ] {
        let batch = Answer::Batch(Batch { end: Some(end), ..FRESH });
        let mut strict = Run::live();
        strict.after(batch, SECOND);
        assert_eq!(strict.next(), Next::Nothing(Outcome::Ended), "{end:?}");
        let mut lenient = Run::live_with(Rules { unsuccessful_end_is_end: false, ..rules() });
        lenient.after(batch, SECOND);
        assert_eq!(lenient.next() == Next::Nothing(Outcome::Ended), is_end, "{end:?}");
    }
}

#[test]
fn a_session_that_ended_while_nothing_polled_is_a_possible_gap_since_the_last_answer() {
    let gap = Some((GapCause::SessionLost, Certainty::Possible));
    for (unpolled, fails, want) in
        [(false, false, None), (false, true, gap.clone()), (true, false, gap.clone()), (true, true, gap)]
    {
        let mut run = Run::live();
        if fails {
            run.after(Answer::Transient(DOWN), SECOND);
        }
        let report = run.after(Answer::Batch(Batch { end: Some(EndSeen::Remote { unpolled }), ..FRESH }), SECOND);
        assert_eq!((report.resumed, report.gap), (want.is_some(), want), "{unpolled} {fails}");
    }
}

#[test]
fn f27_the_services_wait_is_a_floor_and_has_a_cap() {
    for (asked, at_least, at_most) in [(Some(7), 7, 7), (Some(0), 0, 1), (None, 0, 1), (Some(1_000_000_000), 300, 300)]
    {
        let mut run = Run::live();
        let transient = Transient { retry_after: asked.map(Duration::from_secs), ..DOWN };
        run.after(Answer::Transient(transient), SECOND);
        let wait = run.wait();
        assert!(wait >= MIN_WAIT.max(Duration::from_secs(at_least)), "{asked:?}: {wait:?}");
        assert!(wait <= Duration::from_secs(at_most).max(MIN_WAIT), "{asked:?}: {wait:?}");
    }
}

#[test]
fn a_wait_after_a_failure_is_at_least_half_a_second() {
    let mut run = Run::live();
    for _ in 0..5 {
        run.machine.answered(Answer::Transient(DOWN), Duration::ZERO, run.now, 0.0);
        assert_eq!(run.wait(), MIN_WAIT);
    }
}

#[test]
fn f28_transient_errors_back_off_until_the_first_good_answer() {
    let mut run = Run::live();
    let waits: Vec<u128> = (0..7)
        .map(|_| {
            run.after(Answer::Transient(DOWN), Duration::ZERO);
            let wait = run.wait().as_millis();
            assert_eq!((run.next(), run.machine.phase()), (poll(1), Phase::Reconnecting));
            wait
        })
        .collect();
    assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
    run.after(Answer::Quiet, SECOND);
    assert_eq!((run.next(), run.machine.phase(), run.machine.failures()), (poll(60), Phase::Live, 0));
    run.after(Answer::Transient(DOWN), Duration::ZERO);
    assert_eq!(run.wait().as_millis(), 500);
}

#[test]
fn polls_give_up_at_the_limit_and_not_before() {
    let mut run = Run::live_with(Rules { give_up_after: Duration::from_secs(60), ..rules() });
    let begin = run.now;
    while run.next() != Next::Nothing(Outcome::GaveUp) {
        run.wait();
        run.after(Answer::Transient(DOWN), SECOND);
        assert!(run.now - begin < Duration::from_secs(75));
    }
    assert!(run.now - begin > Duration::from_secs(45));
}

#[test]
fn f45_a_connection_that_was_closed_while_idle_is_excused_once() {
    let mut run = Run::live();
    for _ in 0..3 {
        run.after(Answer::Transient(CUT), Duration::from_millis(2));
        assert_eq!((run.next(), run.machine.failures()), (poll(60), 0));
        run.after(Answer::Transient(CUT), Duration::from_millis(2));
        assert_eq!(run.machine.failures(), 1, "the second one does");
        run.wait();
        run.after(Answer::Batch(FRESH), SECOND);
    }
    run.after(Answer::Transient(CUT), 2 * SECOND);
    assert_eq!(run.machine.failures(), 1, "one that was open for longer does");
}

#[test]
fn the_machine_has_no_io_and_no_clock() {
    let source = include_str!("../machine.rs");
    let uses = source.lines().filter(|line| line.starts_with("use "));
    for line in uses {
        assert!(
            ["use std::time::", "use crate::policy::", "use crate::delivery::", "use crate::status::"]
                .iter()
                .any(|ok| line.starts_with(ok)),
            "{line}"
        );
    }
    assert!(!source.contains("Instant::now"));
}

fn any_answer() -> impl Strategy<Value = Answer> {
    let batch = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), 0_u8..12).prop_map(
        |(moves, has_events, has_start, missed, end)| {
            let end = match end {
                0 => Some(EndSeen::Own { success: true }),
                1 => Some(EndSeen::Remote { unpolled: true }),
                _ => None,
            };
            Answer::Batch(Batch { moves, new_id: moves, has_events, has_start, missed, end })
        },
    );
    let transient = (prop::option::of(0_u64..100_000), 0_usize..3, any::<bool>()).prop_map(|(after, doubt, broken)| {
        let doubt = [Doubt::No, Doubt::Unanswered, Doubt::Broken][doubt];
        Answer::Transient(Transient { retry_after: after.map(Duration::from_secs), doubt, broken })
    });
    prop_oneof![
        8 => batch, 4 => Just(Answer::Quiet), 4 => transient, 2 => Just(Answer::Unauthorized),
        1 => Just(Answer::Unknown), 1 => Just(Answer::Over), 1 => Just(Answer::Fatal), 1 => Just(Answer::TooLarge),
    ]
}

proptest! {
    #[test]
    fn gaps_end_waits_are_bounded_and_an_end_is_final(
        answers in prop::collection::vec((any_answer(), 0_u64..61, 0.0..=1.0_f64), 1..60),
        reestablish: bool,
    ) {
        let mut run = Run::new(Rules { reestablish, ..rules() }, SessionOrigin::Started);
        let mut open = false;
        for (answer, seconds, random) in answers {
            let wait = run.wait();
            prop_assert!(wait <= LONGEST_POLL_PAUSE);
            match run.next() {
                Next::Poll { timeout } => prop_assert!(timeout <= Duration::from_secs(60)),
                Next::Refresh => run.machine.refreshed(),
                Next::Establish { .. } => run.machine.established(SessionOrigin::Joined),
                Next::Wait(at) => prop_assert!(false, "waited until {at:?} already"),
                Next::Nothing(outcome) => {
                    run.now += 1000 * SECOND;
                    prop_assert_eq!(run.next(), Next::Nothing(outcome));
                    break;
                }
            }
            run.now += Duration::from_secs(seconds);
            let report = run.machine.answered(answer, Duration::from_secs(seconds), run.now, random);
            prop_assert!(!(open && report.gap.is_some()), "a second gap in a gap");
            open = (open || report.gap.is_some()) && !report.resumed;
            if let Answer::Batch(batch) = answer {
                prop_assert!(!open, "events outside of the reported gap");
                prop_assert!(!batch.missed || report.is_snapshot);
            }
        }
    }
}
