use proptest::prelude::*;

use super::*;

const RETRY: Outcome = Outcome::Failed(Disposition::Retry { after: None });
const OFF: Outcome = Outcome::Failed(Disposition::Fatal);

fn synced(found: usize) -> Outcome {
    Outcome::Synced { found, more: false }
}

/// Drives a plan and records its actions.
struct Bench {
    plan: Reconciler,
    now: Instant,
    asked: Vec<(Instant, Ask)>,
}

impl Bench {
    #[allow(clippy::disallowed_methods, reason = "a pure plan needs some first instant; none other can be made")]
    fn new(sources: usize) -> Self {
        let now = Instant::now();
        Self { plan: Reconciler::new(Pace::default(), &vec![Duration::ZERO; sources], 3), now, asked: Vec::new() }
    }

    /// Only polls, every source at rest with a position.
    fn alone(sources: usize) -> Self {
        let mut bench = Self::new(sources);
        bench.plan.polls_alone(true);
        bench.down();
        for at in 0..sources {
            bench.answer(at, Outcome::Began);
        }
        for at in (0..sources).filter(|at| bench.turn(*at).is_some()).collect::<Vec<_>>() {
            bench.answer(at, synced(0));
        }
        bench
    }

    /// Push up, every source at rest with a position.
    fn well(sources: usize) -> Self {
        let mut bench = Self::new(sources);
        bench.up();
        for at in 0..sources {
            bench.answer(at, Outcome::Began);
        }
        bench
    }

    fn drain(&mut self) -> Vec<Ask> {
        let new: Vec<_> = std::iter::from_fn(|| self.plan.poll_ask()).collect();
        self.asked.extend(new.iter().map(|ask| (self.now, *ask)));
        new
    }

    fn up(&mut self) -> Vec<Ask> {
        self.plan.push_up(self.now);
        self.drain()
    }

    fn down(&mut self) -> Vec<Ask> {
        self.plan.push_down(self.now);
        self.drain()
    }

    fn gap(&mut self) -> Vec<Ask> {
        self.plan.gap(self.now);
        self.drain()
    }

    /// The call of a source that is in flight.
    fn turn(&self, at: usize) -> Option<Turn> {
        match self.plan.sources[at].doing {
            Doing::Beginning { turn } | Doing::Syncing { turn } => Some(turn),
            Doing::Resting { .. } | Doing::Off => None,
        }
    }

    fn answer(&mut self, at: usize, outcome: Outcome) -> Vec<Ask> {
        let turn = self.turn(at).expect("a call under way");
        self.plan.done(self.now, at, turn, outcome);
        self.drain()
    }

    /// Lets time pass; calls are answered with `outcome` at once.
    fn pass(&mut self, secs: u64, outcome: Outcome) -> Vec<(Instant, Ask)> {
        let (from, until) = (self.asked.len(), self.now + Duration::from_secs(secs));
        let mut steps = 0;
        loop {
            for at in 0..self.plan.sources.len() {
                if self.turn(at).is_some() {
                    self.answer(at, outcome);
                }
            }
            let Some(next) = self.plan.poll_timeout().filter(|next| *next <= until) else { break };
            steps += 1;
            assert!(steps < 100_000, "a hot loop: {:?}", self.plan);
            self.now = self.now.max(next);
            self.plan.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
        self.asked[from..].to_vec()
    }
}

fn syncs(asked: &[(Instant, Ask)]) -> usize {
    asked.iter().filter(|(_, ask)| matches!(ask, Ask::Sync { .. })).count()
}

#[test]
fn where_polls_are_all_there_is_a_gap_is_filled_at_once() {
    let mut bench = Bench::alone(2);
    let asked = bench.gap();
    assert!(matches!(asked[..], [Ask::Sync { source: 0, .. }, Ask::Sync { source: 1, .. }]), "{asked:?}");
    bench.answer(0, synced(0));
    assert_eq!(bench.answer(1, synced(0)), [Ask::Filled]);
}

#[test]
fn a_gap_during_a_poll_is_queried_as_soon_as_the_poll_ends() {
    let mut bench = Bench::alone(1);
    bench.gap();
    // That call may have been answered before more events went missing.
    bench.gap();
    let asked = bench.answer(0, synced(0));
    assert!(matches!(asked[..], [Ask::Sync { source: 0, .. }]), "{asked:?}");
    assert_eq!(bench.answer(0, synced(0)), [Ask::Filled]);
}

#[test]
fn sources_get_a_position_once_push_is_up() {
    let mut bench = Bench::new(2);
    assert_eq!(bench.up(), [Ask::Begin { source: 0, turn: 1 }, Ask::Begin { source: 1, turn: 2 }]);
    bench.answer(0, Outcome::Began);
    bench.answer(1, RETRY);
    assert_eq!(bench.turn(0), None);
    let asked = bench.pass(60, Outcome::Began);
    assert!(matches!(asked[..], [(_, Ask::Begin { source: 1, .. })]), "{asked:?}");
}

#[test]
fn while_all_is_well_each_source_is_checked_every_half_hour() {
    let mut bench = Bench::well(3);
    let hours = 20;
    let asked = bench.pass(hours * 3600, synced(0));
    for source in 0..3 {
        let its =
            |(_, ask): &&(Instant, Ask)| matches!(ask, Ask::Sync { source: it, missed: false, .. } if *it == source);
        let count = asked.iter().filter(its).count();
        assert!((36..=40).contains(&count), "source {source}: {count}");
    }
}

/// Found 4.5: the register must reach back to the position of each source.
#[test]
fn a_check_comes_early_when_much_was_delivered_and_not_too_often() {
    let mut bench = Bench::well(2);
    let mut asked = Vec::new();
    for _ in 0..20 {
        bench.plan.delivered(bench.now, SUBJECTS_PER_CHECK / 10);
        asked.extend(bench.pass(3, synced(0)));
    }
    assert_eq!(syncs(&asked), 2, "each source once: {asked:?}");
    for _ in 0..60 {
        bench.plan.delivered(bench.now, SUBJECTS_PER_CHECK);
        asked.extend(bench.pass(1, synced(0)));
    }
    assert!((4..=8).contains(&syncs(&asked)), "{asked:?}");
}

#[test]
fn a_gap_is_filled_by_every_source_and_each_has_its_verdict() {
    for (second, verdict) in [(synced(1), Verdict::Answered), (OFF, Verdict::Refused)] {
        let mut bench = Bench::well(2);
        let asked = bench.gap();
        assert!(matches!(asked[..], [Ask::Sync { missed: true, .. }, Ask::Sync { missed: true, .. }]), "{asked:?}");
        assert!(bench.plan.is_filling());
        assert_eq!(bench.answer(0, synced(3)), []);
        assert_eq!(bench.answer(1, second), [Ask::Filled]);
        assert!(!bench.plan.is_filling());
        assert_eq!((bench.plan.verdict(0), bench.plan.verdict(1)), (Verdict::Answered, verdict));
    }
}

#[test]
fn a_source_that_does_not_answer_in_time_has_not_answered() {
    let mut bench = Bench::well(1);
    bench.gap();
    bench.now += Pace::default().fill_within;
    bench.plan.handle_timeout(bench.now);
    assert!(bench.drain().contains(&Ask::Filled));
    assert_eq!(bench.plan.verdict(0), Verdict::NotAnswered);
}

/// The second gap is to be filled within the time of the first, or anew if it was put off.
#[test]
fn gaps_that_follow_each_other_put_off_the_end_of_the_first_no_further() {
    let within = Pace::default().fill_within;
    for (is_put_off, want) in [(false, within), (true, within + Duration::from_secs(40))] {
        let mut bench = Bench::well(1);
        let begin = bench.now;
        bench.gap();
        bench.now += Duration::from_secs(40);
        if is_put_off {
            bench.plan.put_off();
        }
        bench.gap();
        assert_eq!(bench.plan.fill_deadline().map(|at| at - begin), Some(want), "{is_put_off}");
    }
}

#[test]
fn a_source_whose_filters_changed_is_checked_at_once_if_it_rests() {
    let mut bench = Bench::well(2);
    bench.plan.check_one(bench.now, 1);
    assert!(matches!(bench.drain()[..], [Ask::Sync { source: 1, missed: false, .. }]));
    bench.plan.check_one(bench.now, 1);
    assert_eq!(bench.drain(), [], "it is being asked");
    bench.answer(1, synced(0));
    bench.down();
    bench.plan.check_one(bench.now, 0);
    assert_eq!(bench.drain(), [], "it is asked once push has been down for long");
}

/// Found 3.5: an answer finds what happened up to the settle time before it.
#[test]
fn a_source_that_finds_late_has_not_settled_until_its_time() {
    let unsettled = Verdict::NotSettled { after: Duration::from_secs(30) };
    // When the call that is answered is made, and when it is answered.
    for (asked, answered, verdict) in
        [(0, 0, unsettled), (0, 40, unsettled), (29, 30, unsettled), (30, 30, Verdict::Answered)]
    {
        let mut bench = Bench::well(1);
        bench.plan.sources[0].settle = Duration::from_secs(30);
        bench.gap();
        let end = bench.now;
        if asked > 0 {
            let after = Duration::from_secs(asked);
            bench.answer(0, Outcome::Failed(Disposition::Retry { after: Some(after) }));
            bench.now += after;
            bench.plan.sources[0].doing = Doing::Resting { until: Some(bench.now) };
            bench.plan.handle_timeout(bench.now);
            bench.drain();
        }
        bench.now = end + Duration::from_secs(answered);
        assert_eq!(bench.answer(0, synced(0)), [Ask::Filled]);
        assert_eq!(bench.plan.verdict(0), verdict, "{asked} {answered}");
    }
}

/// Found 3.5: a replica may lag behind by so little that the gap can wait for it.
#[test]
fn a_source_that_settles_soon_is_asked_once_it_has() {
    let settle = Duration::from_secs(1);
    let mut bench = Bench::well(1);
    bench.plan.sources[0].settle = settle;
    assert_eq!(bench.gap(), []);
    let asked = bench.pass(10, synced(1));
    let [(at, Ask::Sync { missed: true, .. }), (filled, Ask::Filled)] = asked[..] else { panic!("{asked:?}") };
    assert!(at == filled && bench.plan.verdict(0) == Verdict::Answered);
    assert_eq!(bench.plan.gap_end.map(|end| at - end), Some(settle));

    // An answer to a call that was made before that, for another reason, does not suffice.
    assert_eq!(bench.gap(), []);
    let end = bench.now;
    bench.plan.news(bench.now, 0);
    let asked = bench.pass(10, synced(1));
    let times: Vec<_> = asked.iter().map(|(at, ask)| (at.duration_since(end), *ask == Ask::Filled)).collect();
    assert_eq!(times, [(BURST, false), (settle, false), (settle, true)]);
}

/// Found 3.4: the record of a call may enter the log minutes after its end.
#[test]
fn a_source_that_finds_late_is_asked_until_it_has_settled() {
    let mut bench = Bench::well(1);
    bench.plan.sources[0].settle = Duration::from_secs(180);
    bench.gap();
    bench.answer(0, synced(0));
    let from = bench.now;
    let asked = bench.pass(1000, synced(0));
    let times: Vec<u64> = asked.iter().map(|(at, _)| at.duration_since(from).as_secs()).collect();
    assert_eq!(times, [35, 70, 140, 180]);
}

#[test]
fn a_source_with_more_pages_is_queried_again_before_the_gap_is_filled() {
    let mut bench = Bench::well(1);
    bench.gap();
    let asked = bench.answer(0, Outcome::Synced { found: 100, more: true });
    assert!(matches!(asked[..], [Ask::Sync { missed: true, .. }]), "{asked:?}");
    assert_eq!(bench.answer(0, synced(3)), [Ask::Filled]);
}

#[test]
fn a_gap_while_push_is_down_is_filled_when_it_is_up() {
    let mut bench = Bench::well(1);
    bench.down();
    assert_eq!(bench.gap(), []);
    let asked = bench.up();
    assert!(matches!(asked[..], [Ask::Sync { missed: true, .. }]), "{asked:?}");
}

#[test]
fn a_gap_after_a_gap_is_queried_anew() {
    let mut bench = Bench::well(1);
    bench.gap();
    let stale = bench.turn(0).unwrap();
    bench.gap();
    // The answer to the first may be from before the second.
    bench.plan.done(bench.now, 0, stale, synced(1));
    let asked = bench.drain();
    assert!(matches!(asked[..], [Ask::Sync { missed: true, .. }]), "{asked:?}");
    assert_eq!(bench.answer(0, synced(0)), [Ask::Filled]);
}

#[test]
fn a_failing_source_keeps_the_gap_open_for_a_minute_and_is_retried() {
    let mut bench = Bench::well(1);
    bench.gap();
    let asked = bench.pass(70, RETRY);
    let filled: Vec<_> = asked.iter().filter(|(_, ask)| *ask == Ask::Filled).collect();
    assert_eq!(filled.len(), 1, "{asked:?}");
    assert!(syncs(&asked) >= 3);
    // It still owes the answer.
    assert!(syncs(&bench.pass(60, RETRY)) >= 1);
}

#[test]
fn y4_push_that_is_down_for_long_is_stood_in_for_and_hands_back() {
    let mut bench = Bench::well(1);
    bench.down();
    assert_eq!(syncs(&bench.pass(19, synced(0))), 0, "most interruptions are shorter");
    let asked = bench.pass(600, synced(0));
    let times: Vec<_> = asked.iter().map(|(at, _)| *at).collect();
    let longest = times.windows(2).map(|two| two[1] - two[0]).max().unwrap();
    assert!(longest <= Duration::from_secs(30), "{longest:?}");
    assert!(syncs(&asked) <= 600 / 10);
    // A found event makes it poll more often.
    let busy = syncs(&bench.pass(600, synced(1)));
    assert!(busy > syncs(&asked), "{busy}");
    bench.up();
    assert_eq!(syncs(&bench.pass(1500, synced(0))), 0);
}

#[test]
fn push_that_never_comes_up_is_stood_in_for() {
    let mut bench = Bench::new(2);
    assert_eq!(bench.down(), [Ask::Begin { source: 0, turn: 1 }, Ask::Begin { source: 1, turn: 2 }]);
    bench.answer(0, Outcome::Began);
    bench.answer(1, RETRY);
    assert_eq!(syncs(&bench.pass(19, Outcome::Began)), 0, "most interruptions are shorter");
    let asked = bench.pass(600, synced(0));
    for source in 0..2 {
        let its = asked.iter().filter(|(_, ask)| matches!(ask, Ask::Sync { source: it, .. } if *it == source));
        assert!(its.count() >= 600 / 30 - 1, "source {source}: {asked:?}");
    }
    bench.up();
    assert_eq!(syncs(&bench.pass(1500, synced(0))), 0);
}

#[test]
fn a_late_source_is_queried_again_after_the_gap() {
    let mut bench = Bench::well(1);
    bench.plan.sources[0].settle = Duration::from_secs(30);
    bench.gap();
    assert_eq!(bench.answer(0, synced(0)), [Ask::Filled]);
    assert_eq!(syncs(&bench.pass(29, synced(0))), 0);
    assert_eq!(syncs(&bench.pass(2, synced(0))), 1);
    assert_eq!(syncs(&bench.pass(1000, synced(0))), 0, "once");
}

#[test]
fn a_source_that_is_not_allowed_is_asked_no_more() {
    let mut bench = Bench::well(2);
    bench.gap();
    bench.answer(0, OFF);
    bench.answer(1, synced(0));
    bench.down();
    let asked = bench.pass(600, synced(0));
    assert!(asked.iter().all(|(_, ask)| !matches!(ask, Ask::Sync { source: 0, .. })), "{asked:?}");
    assert!(syncs(&asked) > 5);
}

#[test]
fn only_a_permanent_error_turns_a_source_off() {
    for how in [Disposition::Refresh, Disposition::Recreate, Disposition::Prune, Disposition::Resync] {
        let mut bench = Bench::well(1);
        bench.gap();
        bench.answer(0, Outcome::Failed(how));
        let asked = bench.pass(60, synced(0));
        assert!(asked.iter().any(|(_, ask)| *ask == Ask::Filled), "{how:?}: {asked:?}");
    }
}

#[test]
fn news_that_comes_in_a_burst_is_asked_about_once_and_never_forgotten() {
    let mut bench = Bench::well(1);
    for _ in 0..10 {
        assert!(bench.plan.news(bench.now, 0));
        bench.now += Duration::from_millis(20);
    }
    assert_eq!(syncs(&bench.pass(60, synced(3))), 1);
    assert!(!bench.plan.has_news());
    // During a query, which may have missed it.
    bench.plan.news(bench.now, 0);
    bench.now += Duration::from_millis(300);
    bench.plan.handle_timeout(bench.now);
    bench.drain();
    bench.plan.news(bench.now, 0);
    bench.answer(0, synced(1));
    assert!(bench.plan.has_news());
    assert_eq!(syncs(&bench.pass(60, synced(0))), 1);
    // A call that failed is made again, though all else is well.
    bench.plan.news(bench.now, 0);
    assert!(syncs(&bench.pass(120, RETRY)) > 2);
    assert!(bench.plan.has_news());
    assert!(syncs(&bench.pass(60, synced(0))) >= 1);
    assert!(!bench.plan.has_news());
    // A permanent failure is reported.
    bench.plan.news(bench.now, 0);
    let asked = bench.pass(1, OFF);
    assert!(asked.iter().any(|(_, ask)| *ask == Ask::GiveUpCounts { source: 0 }), "{asked:?}");
    assert!(!bench.plan.news(bench.now, 0));
}

#[test]
fn answers_to_an_older_call_are_none() {
    let mut bench = Bench::well(1);
    bench.gap();
    let turn = bench.turn(0).unwrap();
    bench.plan.done(bench.now, 0, turn - 1, synced(1));
    bench.plan.done(bench.now, 7, turn, synced(1));
    assert_eq!(bench.drain(), []);
    assert!(bench.plan.is_filling());
}

#[derive(Clone, Copy, Debug)]
enum Step {
    News(usize),
    Up,
    Down,
    Gap,
    Pass(u64),
    Answer(usize, Outcome),
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => (0usize..3, any::<bool>())
            .prop_map(|(found, more)| Outcome::Synced { found, more }),
        1 => Just(Outcome::Began),
        3 => (0u64..100).prop_map(|secs| {
            Outcome::Failed(Disposition::Retry { after: Some(Duration::from_secs(secs)) })
        }),
        1 => Just(OFF),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0usize..3).prop_map(Step::News),
        2 => Just(Step::Up),
        2 => Just(Step::Down),
        2 => Just(Step::Gap),
        4 => (0u64..4000).prop_map(Step::Pass),
        8 => (0usize..3, outcome()).prop_map(|(at, outcome)| Step::Answer(at, outcome)),
    ]
}

fn check(plan: &Reconciler) {
    for source in &plan.sources {
        if source.doing == (Doing::Resting { until: None }) {
            assert!(source.news == News::None, "news is asked about: {plan:?}");
            assert!(plan.push == Push::Up && plan.next_check.is_some(), "a source at rest has its turn: {plan:?}");
            assert!(source.has_position, "a position is got: {plan:?}");
            assert!(!(plan.is_filling() && source.debt == Debt::Owed), "a debt is paid: {plan:?}");
        }
    }
    if plan.is_filling() {
        assert!(plan.poll_timeout().is_some(), "filling is bounded: {plan:?}");
        assert!(plan.sources.iter().any(|source| source.debt == Debt::Owed), "reported as filled: {plan:?}");
    }
}

proptest! {
    #[test]
    fn with_any_inputs_every_source_advances_and_every_gap_is_reported_filled_once(
        sources in 1usize..4, comes_up in any::<bool>(), steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut bench = Bench::new(sources);
        if comes_up { bench.up() } else { bench.down() };
        let mut open = 0_i64;
        for step in steps {
            match step {
                Step::News(at) => {
                    let off = bench.plan.sources.get(at).is_none_or(|source| source.doing == Doing::Off);
                    prop_assert_eq!(bench.plan.news(bench.now, at), !off);
                }
                Step::Up => drop(bench.up()),
                Step::Down => drop(bench.down()),
                Step::Gap => {
                    if !bench.plan.is_filling() && bench.plan.filling.is_none() {
                        open += 1;
                    }
                    bench.gap();
                }
                Step::Pass(secs) => {
                    bench.now += Duration::from_secs(secs);
                    bench.plan.handle_timeout(bench.now);
                    bench.drain();
                }
                Step::Answer(at, outcome) => {
                    let began = outcome == Outcome::Began;
                    let Some(source) = bench.plan.sources.get(at) else { continue };
                    if bench.turn(at).is_some() && began == matches!(source.doing, Doing::Beginning { .. }) {
                        bench.answer(at, outcome);
                    }
                }
            }
            check(&bench.plan);
        }
        let fills = bench.asked.iter().filter(|(_, ask)| matches!(ask, Ask::Filled)).count();
        let fills = i64::try_from(fills).unwrap();
        prop_assert_eq!(fills, open - i64::from(bench.plan.filling.is_some()));
    }

    /// A timer that stays due makes the driver's loop turn without end.
    #[test]
    fn after_a_timeout_is_handled_nothing_is_due_in_any_state(
        sources in 1usize..4, stop in prop::option::of((0usize..80, any::<bool>())),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut bench = Bench::new(sources);
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                _ if stop.is_some_and(|(at, _)| at == n) => bench.plan.stop(stop.is_some_and(|(_, over)| over)),
                Step::News(at) => _ = bench.plan.news(bench.now, at),
                Step::Up if bench.plan.push != Push::Over => drop(bench.up()),
                Step::Down if bench.plan.push != Push::Over => drop(bench.down()),
                Step::Up | Step::Down => {}
                Step::Gap => drop(bench.gap()),
                Step::Pass(secs) => bench.now += Duration::from_secs(secs),
                Step::Answer(at, outcome) => {
                    let turn = bench.plan.sources.get(at).and_then(|_| bench.turn(at));
                    if let Some(turn) = turn {
                        bench.plan.done(bench.now, at, turn, outcome);
                    }
                }
            }
            bench.plan.handle_timeout(bench.now);
            bench.drain();
            let due = bench.plan.poll_timeout().filter(|due| *due <= bench.now);
            prop_assert_eq!(due, None, "{:?}", bench.plan);
        }
    }
}
