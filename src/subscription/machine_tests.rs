use proptest::prelude::*;

use super::*;

/// Drives a machine and records its effects.
struct Bench {
    machine: Machine,
    now: Instant,
    effects: Vec<Effect>,
}

const RETRY: Disposition = Disposition::Retry { after: None };

impl Bench {
    #[allow(clippy::disallowed_methods, reason = "a pure machine needs some first instant; none other can be made")]
    fn new() -> Self {
        Self { machine: Machine::new(Settings::default(), 7), now: Instant::now(), effects: Vec::new() }
    }

    fn started() -> Self {
        let mut bench = Self::new();
        bench.give(Input::Start { adopt: false });
        bench
    }

    /// Leased for 900 s, link up.
    fn live() -> Self {
        let mut bench = Self::started();
        bench.lease(900);
        bench.link_up();
        assert_eq!(bench.machine.phase(), Phase::Live);
        bench
    }

    fn give(&mut self, input: Input) -> Vec<Effect> {
        self.machine.handle(self.now, input);
        self.drain()
    }

    fn drain(&mut self) -> Vec<Effect> {
        let new: Vec<_> = std::iter::from_fn(|| self.machine.poll_effect()).collect();
        self.effects.extend(&new);
        new
    }

    /// Lets time pass, stopping at every timer on the way.
    fn pass(&mut self, time: Duration) -> Vec<Effect> {
        let until = self.now + time;
        let mut seen = Vec::new();
        let mut steps = 0;
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= until) {
            steps += 1;
            assert!(steps < 10_000, "a hot loop at {:?}", self.machine);
            self.now = self.now.max(at);
            self.machine.handle_timeout(self.now);
            seen.extend(self.drain());
        }
        self.now = until;
        seen
    }

    fn secs(&mut self, secs: u64) -> Vec<Effect> {
        self.pass(Duration::from_secs(secs))
    }

    fn op(&self) -> Op {
        match self.machine.lease {
            Lease::Acquiring { op } | Lease::Pruning { op } | Lease::Renewing { op, .. } | Lease::Deleting { op } => op,
            other => panic!("no operation under way: {other:?}"),
        }
    }

    /// The operation that is under way once `act` was done.
    fn op_after(&mut self, act: impl FnOnce(&mut Self) -> Vec<Effect>) -> Op {
        act(self);
        self.op()
    }

    fn link(&self) -> LinkId {
        self.machine.link.id().expect("a link")
    }

    fn lease(&mut self, secs: u64) -> Vec<Effect> {
        self.lease_moved(secs, false)
    }

    fn lease_moved(&mut self, secs: u64, moved: bool) -> Vec<Effect> {
        let (op, requested_at) = (self.op(), self.now);
        self.give(Input::Leased { op, requested_at, lifetime: Duration::from_secs(secs), moved })
    }

    fn fail(&mut self, disposition: Disposition) -> Vec<Effect> {
        let op = self.op();
        self.give(Input::Failed { op, disposition, unclear: false })
    }

    fn link_up(&mut self) -> Vec<Effect> {
        let link = self.link();
        self.give(Input::LinkAlive { link })
    }

    fn link_progress(&mut self) -> Vec<Effect> {
        let link = self.link();
        self.give(Input::LinkProgress { link })
    }

    fn link_fail(&mut self, disposition: Disposition) -> Vec<Effect> {
        let link = self.link();
        self.give(Input::LinkFailed { link, disposition })
    }

    fn close(&mut self, delete: bool) -> Vec<Effect> {
        self.give(Input::Close { delete, within: Duration::from_secs(5), linger: false })
    }
}

fn has(effects: &[Effect], want: impl Fn(&Effect) -> bool) -> bool {
    effects.iter().any(want)
}

fn creates(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Create { .. })).count()
}

fn gaps(effects: &[Effect]) -> Vec<Cause> {
    effects.iter().filter_map(|effect| if let Effect::Gap(cause) = effect { Some(*cause) } else { None }).collect()
}

#[test]
fn the_way_up_is_create_then_open_then_live() {
    let mut bench = Bench::started();
    assert!(matches!(bench.effects[..], [Effect::Create { .. }]));
    assert_eq!(bench.machine.phase(), Phase::Starting);
    assert!(matches!(bench.lease(900)[..], [Effect::OpenLink { .. }]));
    assert_eq!(bench.machine.phase(), Phase::Connecting);
    assert!(bench.link_up().is_empty());
    assert_eq!(bench.machine.phase(), Phase::Live);
}

#[test]
fn l3_renews_ahead_of_expiry_by_the_lifetime_counted_from_the_request() {
    let mut bench = Bench::started();
    let requested_at = bench.now;
    bench.now += Duration::from_secs(20); // a slow answer
    let op = bench.op();
    bench.give(Input::Leased { op, requested_at, lifetime: Duration::from_secs(900), moved: false });
    bench.link_up();
    let before = bench.secs(699);
    assert!(!has(&before, |effect| matches!(effect, Effect::Renew { .. })), "{before:?}");
    let after = bench.secs(61);
    assert!(has(&after, |effect| matches!(effect, Effect::Renew { .. })), "{after:?}");
    assert_eq!(bench.machine.expires_at(), Some(requested_at + Duration::from_secs(900)));
}

#[test]
fn a_month_of_renewals_needs_nothing_else() {
    let mut bench = Bench::live();
    bench.effects.clear();
    for _ in 0..4000 {
        bench.secs(780);
        bench.lease(900);
    }
    let renews = bench.effects.iter().filter(|effect| matches!(effect, Effect::Renew { .. })).count();
    assert_eq!((renews, bench.effects.len()), (4000, 4000), "only renewals");
}

#[test]
fn l4_a_failing_renewal_is_retried_until_expiry_then_recreated_with_one_gap() {
    let mut bench = Bench::live();
    bench.effects.clear();
    let expires_at = bench.machine.expires_at().unwrap();
    let mut attempts = 0;
    while creates(&bench.effects) == 0 {
        assert!(bench.now <= expires_at + Duration::from_secs(60), "nothing leads on");
        bench.secs(1);
        if let Lease::Renewing { .. } = bench.machine.lease {
            attempts += 1;
            assert!(bench.now <= expires_at + Duration::from_secs(1));
            bench.fail(RETRY);
        }
    }
    assert!(attempts > 5, "{attempts}");
    assert!(bench.now >= expires_at);
    assert_eq!(gaps(&bench.effects), [Cause::Expired]);
    assert_eq!(bench.machine.phase(), Phase::Recreating);
    bench.lease(900);
    assert!(has(&bench.link_up(), |effect| *effect == Effect::Resumed));
}

#[test]
fn l5_a_subscription_that_is_gone_is_recreated_once() {
    let mut bench = Bench::live();
    bench.link_progress();
    bench.secs(780);
    bench.effects.clear();
    let op = bench.op();
    let effects = bench.fail(Disposition::Recreate);
    assert!(matches!(effects[..], [Effect::Gap(Cause::Gone), Effect::Create { .. }]), "{effects:?}");
    // The same result again changes nothing.
    assert!(bench.give(Input::Failed { op, disposition: Disposition::Recreate, unclear: false }).is_empty());
    bench.lease(900);
    bench.link_up();
    bench.secs(60);
    assert_eq!(creates(&bench.effects), 1);
    assert_eq!(gaps(&bench.effects), [Cause::Gone]);
}

/// A live subscription that is lost in the given way, and whose successor could not be made yet.
fn lost(gone: bool) -> Bench {
    let mut bench = Bench::live();
    bench.secs(780);
    let op = bench.op();
    bench.give(match gone {
        true => Input::Failed { op, disposition: Disposition::Recreate, unclear: false },
        false => Input::Inactive { op },
    });
    bench
}

#[test]
fn a_close_deletes_a_lost_subscription_that_may_still_be_there() {
    for (gone, deletes) in [(true, false), (false, true)] {
        let mut bench = lost(gone);
        bench.fail(RETRY);
        let before = gaps(&bench.effects);
        let effects = bench.close(true);
        assert_eq!(has(&effects, |effect| matches!(effect, Effect::Delete { .. })), deletes, "{effects:?}");
        if deletes {
            let op = bench.op();
            bench.give(Input::Deleted { op, found: false });
        }
        // Its gap is open already.
        assert_eq!(gaps(&bench.effects), before);
        assert!(has(&bench.effects, |effect| *effect == Effect::Finish(End::Closed { deleted: true })));
    }
}

#[test]
fn a_lost_subscription_of_before_does_not_hide_that_the_present_one_is_gone() {
    let mut bench = lost(false);
    bench.lease(900);
    bench.link_up();
    bench.effects.clear();
    bench.close(true);
    let op = bench.op();
    bench.give(Input::Deleted { op, found: false });
    assert_eq!(gaps(&bench.effects), [Cause::Gone]);
}

#[test]
fn what_is_made_after_a_drop_that_keeps_is_deleted() {
    // It is in no resume token, unlike one that is taken up.
    for (adopt, deletes) in [(false, true), (true, false)] {
        let mut bench = Bench::new();
        bench.give(Input::Start { adopt });
        assert_eq!(bench.close(false), []);
        let effects = bench.lease(900);
        assert_eq!(has(&effects, |effect| matches!(effect, Effect::Delete { .. })), deletes, "{effects:?}");
        assert_eq!(has(&effects, |effect| matches!(effect, Effect::Finish(_))), !deletes, "{effects:?}");
    }
}

#[test]
fn answers_of_an_older_generation_change_nothing() {
    let mut bench = Bench::live();
    bench.secs(780);
    let stale = bench.op() - 1;
    let now = bench.now;
    for input in [
        Input::Leased { op: stale, requested_at: now, lifetime: Duration::from_secs(9), moved: true },
        Input::Inactive { op: stale },
        Input::Failed { op: stale, disposition: Disposition::Fatal, unclear: false },
        Input::Pruned { op: stale, deleted: 3 },
        Input::Deleted { op: stale, found: true },
        Input::LinkAlive { link: 999 },
        Input::LinkProgress { link: 999 },
        Input::LinkRead { link: 999 },
        Input::LinkFailed { link: 999, disposition: Disposition::Fatal },
    ] {
        let before = format!("{:?}", bench.machine);
        assert!(bench.give(input).is_empty(), "{input:?}");
        assert_eq!(format!("{:?}", bench.machine), before, "{input:?}");
    }
}

#[test]
fn stale_answers_are_dropped_in_every_state_of_the_lease() {
    let states: [fn() -> Bench; 4] = [
        Bench::started,
        Bench::live,
        || {
            let mut bench = Bench::started();
            bench.fail(Disposition::Prune);
            bench
        },
        || {
            let mut bench = Bench::live();
            bench.close(true);
            bench
        },
    ];
    for (at, state) in states.into_iter().enumerate() {
        for stale in [0, 1000] {
            let mut bench = state();
            let before = format!("{:?}", bench.machine);
            let now = bench.now;
            for input in [
                Input::Leased { op: stale, requested_at: now, lifetime: Duration::from_secs(9), moved: true },
                Input::Inactive { op: stale },
                Input::Failed { op: stale, disposition: RETRY, unclear: false },
                Input::Pruned { op: stale, deleted: 3 },
                Input::Deleted { op: stale, found: true },
            ] {
                bench.give(input);
                assert_eq!(format!("{:?}", bench.machine), before, "state {at}, {input:?}");
            }
        }
    }
}

#[test]
fn l6_a_moved_address_opens_the_new_link_before_the_old_one_closes() {
    let mut bench = Bench::live();
    let old = bench.link();
    bench.secs(780);
    let effects = bench.lease_moved(900, true);
    let new = bench.link();
    assert_ne!(old, new);
    assert_eq!(effects, [Effect::OpenLink { link: new }]);
    assert!(!has(&bench.secs(9), |effect| matches!(effect, Effect::CloseLink { .. })));
    bench.give(Input::LinkRead { link: old });
    assert_eq!(bench.secs(1), [Effect::CloseLink { link: old }]);
}

#[test]
fn a_move_of_the_address_is_no_interruption_while_the_former_link_is_open() {
    let moved = || {
        let mut bench = Bench::live();
        let old = bench.link();
        bench.secs(780);
        bench.lease_moved(900, true);
        (bench, old)
    };
    let (mut bench, _) = moved();
    bench.secs(9);
    assert_eq!(bench.machine.phase(), Phase::Live);
    bench.secs(1);
    assert_eq!(bench.machine.phase(), Phase::Reconnecting, "the new link does not answer");
    bench.link_up();
    assert_eq!(bench.machine.phase(), Phase::Live);
    let (mut bench, old) = moved();
    bench.give(Input::LinkFailed { link: old, disposition: RETRY });
    assert_eq!(bench.machine.phase(), Phase::Reconnecting, "the former link ended");
    let (mut bench, _) = moved();
    bench.link_fail(RETRY);
    assert_eq!(bench.machine.phase(), Phase::Reconnecting, "the new link failed");
    // A subscription that was lost meanwhile misses events, though its link is open.
    let (mut bench, _) = moved();
    bench.link_up();
    bench.machine.lose_lease(bench.now, Cause::Gone);
    bench.lease(900);
    assert_eq!(bench.machine.phase(), Phase::Reconnecting, "a gap is open");
}

#[test]
fn a_former_link_that_ends_early_is_reported_and_not_reopened() {
    let mut bench = Bench::live();
    let old = bench.link();
    bench.secs(780);
    bench.lease_moved(900, true);
    bench.link_up();
    let effects = bench.give(Input::LinkFailed { link: old, disposition: RETRY });
    assert_eq!(effects, [Effect::FormerLinkLost]);
    assert!(bench.secs(30).is_empty());
}

#[test]
fn the_current_link_can_fail_while_a_former_one_lingers() {
    let mut bench = Bench::live();
    let former = bench.link();
    bench.secs(780);
    bench.lease_moved(900, true);
    bench.link_up();
    assert!(bench.link_fail(RETRY).is_empty(), "no loss at the former address");
    assert_eq!(bench.machine.phase(), Phase::Reconnecting);
    bench.give(Input::LinkRead { link: former });
    let effects = bench.secs(10);
    assert!(
        matches!(effects[..], [Effect::OpenLink { .. }, Effect::CloseLink { link }] if link == former),
        "{effects:?}"
    );
}

#[test]
fn of_two_former_links_the_one_that_ends_is_the_one_forgotten() {
    let mut bench = Bench::live();
    let first = bench.link();
    bench.secs(780);
    bench.lease_moved(900, true);
    bench.link_up();
    let second = bench.link();
    bench.give(Input::Update);
    bench.lease_moved(900, true);
    assert_eq!(bench.give(Input::LinkFailed { link: second, disposition: RETRY }), [Effect::FormerLinkLost]);
    bench.give(Input::LinkRead { link: first });
    assert_eq!(bench.secs(10), [Effect::CloseLink { link: first }]);
}

#[test]
fn one_former_links_answer_proves_nothing_of_another() {
    let mut bench = Bench::live();
    bench.secs(780);
    bench.link_fail(RETRY);
    bench.now += Duration::from_secs(1);
    bench.machine.handle_timeout(bench.now);
    bench.drain();
    let silent = bench.link();
    bench.lease_moved(900, true);
    let answering = bench.link();
    bench.give(Input::Update);
    bench.lease_moved(900, true);
    bench.give(Input::LinkRead { link: answering });
    let closed = [silent, answering].map(|link| Effect::CloseLink { link });
    assert_eq!(bench.secs(10), [closed[0], closed[1], Effect::FormerLinkLost]);
}

#[test]
fn a_move_makes_the_reopening_it_overtakes_pointless() {
    let mut bench = Bench::live();
    bench.secs(780);
    bench.link_fail(Disposition::Retry { after: Some(Duration::from_secs(40)) });
    bench.lease_moved(900, true);
    bench.link_up();
    assert!(bench.secs(100).is_empty(), "one link, not two");
}

#[test]
fn a_link_that_ended_or_was_left_is_not_trusted_afterwards() {
    let failed = || {
        let mut bench = Bench::live();
        for _ in 0..3 {
            bench.link_fail(RETRY);
            bench.secs(31);
            bench.link_up();
        }
        bench
    };
    let stable = Settings::default().stable_after;
    // It ended, and the next one takes long.
    let mut bench = failed();
    bench.link_fail(Disposition::Retry { after: Some(stable * 2) });
    let attempts = bench.machine.link_attempts;
    bench.pass(stable + Duration::from_secs(1));
    assert_eq!(bench.machine.link_attempts, attempts);
    // The address moved, and the new one does not answer.
    let mut bench = failed();
    let attempts = bench.machine.link_attempts;
    bench.give(Input::Update);
    bench.lease_moved(900, true);
    bench.pass(stable + Duration::from_secs(1));
    assert_eq!(bench.machine.link_attempts, attempts);
}

#[test]
fn an_answer_of_an_older_link_does_not_make_the_current_one_live() {
    let mut bench = Bench::live();
    let older = bench.link();
    bench.link_fail(RETRY);
    bench.secs(1);
    assert!(bench.give(Input::LinkAlive { link: older }).is_empty());
    assert_eq!(bench.machine.phase(), Phase::Reconnecting);
}

#[test]
fn moving_twice_keeps_both_former_links_for_their_time() {
    let mut bench = Bench::live();
    let first = bench.link();
    bench.secs(780);
    bench.lease_moved(900, true);
    let second = bench.link();
    bench.link_up();
    bench.give(Input::Update);
    let effects = bench.lease_moved(900, true);
    assert!(!has(&effects, |effect| matches!(effect, Effect::CloseLink { .. })), "{effects:?}");
    for link in [first, second] {
        bench.give(Input::LinkRead { link });
    }
    let closed = [Effect::CloseLink { link: first }, Effect::CloseLink { link: second }];
    assert_eq!(bench.secs(10), closed, "without a gap: both had answered");
}

#[test]
fn links_that_move_without_end_are_bounded() {
    let mut bench = Bench::live();
    for _ in 0..100 {
        bench.link_up();
        bench.give(Input::Update);
        let former = bench.link();
        bench.lease_moved(900, true);
        bench.give(Input::LinkRead { link: former });
    }
    assert_eq!(bench.machine.formers.len(), FORMERS);
    assert!(!bench.effects.contains(&Effect::FormerLinkLost));
}

#[test]
fn a_sleep_ends_former_links_and_reports_a_possible_loss() {
    let mut bench = Bench::live();
    bench.secs(780);
    bench.lease_moved(900, true);
    bench.link_up();
    let effects = bench.give(Input::Slept { by: Duration::from_secs(60) });
    assert!(effects.contains(&Effect::FormerLinkLost), "{effects:?}");
    assert!(bench.machine.formers.is_empty());
}

#[test]
fn found_6_2_a_failed_link_is_reopened_with_growing_delays_of_a_few_seconds_that_progress_resets() {
    let mut bench = Bench::live();
    let mut longest = Duration::ZERO;
    for _ in 0..40 {
        let before = bench.now;
        bench.link_fail(RETRY);
        assert_eq!(bench.machine.phase(), Phase::Reconnecting);
        let at = bench.machine.timers[Timer::Reopen as usize].expect("a reopen timer");
        longest = longest.max(at - before);
        bench.pass(at - before);
        bench.link_up(); // alive alone is not yet trusted
    }
    // A buffer at the service holds events for seconds (found 6.1, 6.2).
    assert!(longest > Duration::from_secs(3) && longest <= LINK_PAUSE, "{longest:?}");
    bench.link_progress();
    bench.link_fail(RETRY);
    let at = bench.machine.timers[Timer::Reopen as usize].unwrap();
    assert!(at - bench.now <= Duration::from_millis(200));
}

#[test]
fn a_former_links_events_do_not_prove_the_current_link() {
    let mut bench = Bench::live();
    let former = bench.link();
    bench.link_fail(RETRY);
    bench.secs(1);
    assert_ne!(bench.link(), former);
    bench.give(Input::LinkProgress { link: former });
    assert_eq!((bench.machine.link_attempts, bench.machine.phase()), (1, Phase::Reconnecting));
}

#[test]
fn a_link_that_stays_up_is_trusted_again() {
    let mut bench = Bench::live();
    for _ in 0..10 {
        bench.link_fail(RETRY);
        bench.secs(31);
        bench.link_up();
    }
    assert!(bench.machine.link_attempts >= 10);
    bench.secs(60);
    assert_eq!(bench.machine.link_attempts, 0);
}

#[test]
fn found_6_2_a_wait_that_the_peer_of_a_link_names_is_bounded() {
    let mut bench = Bench::live();
    bench.link_fail(Disposition::Retry { after: Some(Duration::from_secs(3000)) });
    let at = bench.machine.timers[Timer::Reopen as usize].unwrap();
    assert_eq!(at - bench.now, Duration::from_secs(300));
}

#[test]
fn retry_after_is_a_floor() {
    let after = Some(Duration::from_secs(40));
    let mut bench = Bench::live();
    bench.link_fail(Disposition::Retry { after });
    assert!(!has(&bench.secs(39), |effect| matches!(effect, Effect::OpenLink { .. })));
    assert!(has(&bench.secs(1), |effect| matches!(effect, Effect::OpenLink { .. })));
    let mut bench = Bench::started();
    bench.fail(Disposition::Retry { after });
    assert_eq!(creates(&bench.secs(39)), 0);
    assert_eq!(creates(&bench.secs(1)), 1);
}

#[test]
fn a_refused_link_recreates_the_subscription_and_many_end_it() {
    let mut bench = Bench::live();
    bench.effects.clear();
    let effects = bench.link_fail(Disposition::Recreate);
    assert!(effects.contains(&Effect::Gap(Cause::LinkRefused)));
    let began = bench.now;
    let mut rounds = 0;
    while bench.machine.phase() != Phase::Closing {
        while !matches!(bench.machine.lease, Lease::Acquiring { .. }) {
            assert!(bench.machine.poll_timeout().is_some(), "nothing leads on");
            bench.secs(1);
        }
        bench.lease(900);
        bench.link_fail(Disposition::Recreate);
        rounds += 1;
        assert!(rounds < 200);
    }
    assert!(bench.now - began >= REFUSAL_PERIOD);
    assert!(rounds < 60, "{rounds} subscriptions made in {:?}", bench.now - began);
    assert_eq!(gaps(&bench.effects), [Cause::LinkRefused], "one gap, however often");
}

#[test]
fn a_refusal_during_a_renewal_waits_for_its_answer() {
    let mut bench = Bench::live();
    bench.secs(780);
    bench.effects.clear();
    assert!(bench.link_fail(Disposition::Recreate).is_empty());
    let effects = bench.lease(900);
    assert!(effects.contains(&Effect::Gap(Cause::LinkRefused)), "{effects:?}");
}

#[test]
fn a_move_answers_a_refusal() {
    let mut bench = Bench::live();
    bench.secs(780);
    bench.link_fail(Disposition::Recreate);
    let effects = bench.lease_moved(900, true);
    // Unread events at the former address may be lost; no others.
    assert!(matches!(effects[..], [Effect::FormerLinkLost, Effect::OpenLink { .. }]), "{effects:?}");
}

#[test]
fn an_address_that_moves_while_its_link_is_down_may_have_lost_events() {
    let mut bench = Bench::live();
    bench.secs(780);
    bench.link_fail(RETRY);
    let effects = bench.lease_moved(900, true);
    assert!(matches!(effects[..], [Effect::FormerLinkLost, Effect::OpenLink { .. }]), "{effects:?}");
}

#[test]
fn a_link_that_never_answered_covers_nothing_when_the_address_moves() {
    let mut bench = Bench::live();
    bench.secs(780);
    bench.link_fail(RETRY);
    bench.now += Duration::from_secs(1);
    bench.machine.handle_timeout(bench.now);
    bench.drain();
    assert_eq!(bench.machine.phase(), Phase::Reconnecting);
    let former = bench.link();
    assert!(matches!(bench.lease_moved(900, true)[..], [Effect::OpenLink { .. }]));
    assert_eq!(bench.machine.phase(), Phase::Reconnecting);
    assert_eq!(bench.secs(10), [Effect::CloseLink { link: former }, Effect::FormerLinkLost]);

    // One that answers in its last seconds does.
    let mut bench = Bench::live();
    bench.secs(780);
    bench.link_fail(RETRY);
    bench.now += Duration::from_secs(1);
    bench.machine.handle_timeout(bench.now);
    bench.drain();
    let former = bench.link();
    bench.lease_moved(900, true);
    bench.give(Input::LinkRead { link: former });
    assert_eq!(bench.secs(10), [Effect::CloseLink { link: former }]);

    // A live peer, or delivered events, prove nothing (found 1.2).
    let mut bench = Bench::live();
    bench.secs(780);
    let former = bench.link();
    bench.lease_moved(900, true);
    bench.give(Input::LinkAlive { link: former });
    bench.give(Input::LinkProgress { link: former });
    assert_eq!(bench.secs(10), [Effect::CloseLink { link: former }, Effect::FormerLinkLost]);
}

#[test]
fn l11_too_many_subscriptions_prunes_once_then_creates_or_gives_up() {
    let mut bench = Bench::started();
    assert!(matches!(bench.fail(Disposition::Prune)[..], [Effect::Prune { .. }]));
    let op = bench.op();
    assert!(matches!(bench.give(Input::Pruned { op, deleted: 2 })[..], [Effect::Create { .. }]));
    assert_eq!(bench.fail(Disposition::Prune), [Effect::Finish(End::Fatal)]);

    let mut bench = Bench::started();
    bench.fail(Disposition::Prune);
    let op = bench.op();
    assert_eq!(bench.give(Input::Pruned { op, deleted: 0 }), [Effect::Finish(End::Fatal)]);
}

#[test]
fn while_running_a_full_service_is_waited_out() {
    let mut bench = Bench::live();
    bench.secs(780);
    bench.fail(Disposition::Recreate);
    bench.fail(Disposition::Prune);
    let op = bench.op();
    bench.give(Input::Pruned { op, deleted: 0 });
    bench.secs(30);
    bench.fail(Disposition::Prune);
    assert_eq!(bench.machine.phase(), Phase::Recreating);
    assert_eq!(creates(&bench.secs(31)), 1);
}

#[test]
fn the_start_gives_up_in_time_and_says_so() {
    let mut bench = Bench::started();
    let mut effects = Vec::new();
    for _ in 0..160 {
        if let Lease::Acquiring { .. } = bench.machine.lease {
            effects.extend(bench.fail(RETRY));
        }
        effects.extend(bench.secs(1));
    }
    assert!(effects.ends_with(&[Effect::Finish(End::StartTimeout)]), "{effects:?}");
}

#[test]
fn found_6_12_the_end_of_a_start_is_part_of_its_time() {
    for within in [4, 20, 150] {
        let within = Duration::from_secs(within);
        let mut bench = Bench::new();
        bench.machine.settings.start_within = within;
        bench.give(Input::Start { adopt: false });
        let began = bench.now;
        // The creation is never answered, so the machine waits for its result.
        let mut step = 0;
        while bench.machine.phase() != Phase::Closed {
            bench.pass(Duration::from_millis(100));
            step += 1;
            assert!(step < 2_000);
        }
        assert!(bench.now - began <= within, "{:?}", bench.now - began);
        assert!(bench.now - began >= within * 3 / 4, "{:?}", bench.now - began);
    }
}

#[test]
fn found_6_1_tries_for_a_lease_are_seconds_apart_for_a_minute_and_later_spare_the_service() {
    let mut bench = Bench::live();
    bench.secs(900);
    let (began, mut longest) = (bench.now, Duration::ZERO);
    while bench.now - began < Duration::from_secs(600) {
        if let Lease::Acquiring { .. } = bench.machine.lease {
            bench.fail(RETRY);
        }
        let at = bench.machine.waits_until().unwrap();
        let pause = at - bench.now;
        longest = longest.max(pause);
        if bench.now - began < Duration::from_secs(45) {
            assert!(pause <= LINK_PAUSE, "{pause:?}");
        }
        bench.pass(pause);
    }
    assert!(longest > Duration::from_secs(15) && longest <= Duration::from_secs(30), "{longest:?}");
}

#[test]
fn a_fatal_answer_ends_it_and_takes_the_subscription_along() {
    let mut bench = Bench::started();
    assert_eq!(bench.fail(Disposition::Fatal), [Effect::Finish(End::Fatal)]);

    let mut bench = Bench::live();
    bench.secs(780);
    let effects = bench.fail(Disposition::Fatal);
    assert!(has(&effects, |effect| matches!(effect, Effect::Delete { .. })), "{effects:?}");
    let op = bench.op();
    assert_eq!(bench.give(Input::Deleted { op, found: true }), [Effect::Finish(End::Fatal)]);
}

#[test]
fn l7_closing_at_any_moment_leaves_no_orphan() {
    // During create: the answer is awaited, then deleted.
    let mut bench = Bench::started();
    assert!(bench.close(true).is_empty());
    assert!(matches!(bench.lease(900)[..], [Effect::Delete { .. }]));
    let op = bench.op();
    assert_eq!(bench.give(Input::Deleted { op, found: true }), [Effect::Finish(End::Closed { deleted: true })]);

    // During an update or a renewal: their answers may never come.
    for update in [true, false] {
        let mut bench = Bench::live();
        if update {
            bench.give(Input::Update);
        } else {
            bench.secs(780);
        }
        let stale = bench.op();
        let effects = bench.close(true);
        assert!(has(&effects, |effect| matches!(effect, Effect::Delete { .. })), "{effects:?}");
        assert_eq!(bench.give(Input::Failed { op: stale, disposition: RETRY, unclear: false }), []);
        let op = bench.op();
        assert_eq!(bench.give(Input::Deleted { op, found: true }), [Effect::Finish(End::Closed { deleted: true })]);
    }

    // It was silently gone before: the events since then are missing.
    let mut bench = Bench::live();
    bench.close(true);
    let op = bench.op();
    let effects = bench.give(Input::Deleted { op, found: false });
    assert_eq!(effects, [Effect::Gap(Cause::Gone), Effect::Finish(End::Closed { deleted: true })]);

    // During back-off: nothing is left.
    let mut bench = Bench::started();
    bench.fail(RETRY);
    assert_eq!(bench.close(true), [Effect::Finish(End::Closed { deleted: true })]);
}

#[test]
fn l7_closing_while_another_is_made_deletes_the_former_that_may_be_there() {
    for (delete, wanted) in [(true, true), (false, false)] {
        let mut bench = Bench::live();
        bench.give(Input::TransportSwitched);
        let effects = bench.close(delete);
        assert_eq!(has(&effects, |effect| *effect == Effect::DeleteFormer), wanted, "{effects:?}");
        let op = bench.op();
        let effects = bench.give(Input::Failed { op, disposition: RETRY, unclear: false });
        let ended = |effect: &Effect| *effect == Effect::Finish(End::Closed { deleted: wanted });
        assert!(has(&effects, ended), "{effects:?}");
    }
    // The first has no former.
    assert!(Bench::started().close(true).is_empty());
}

#[test]
fn l7_a_creation_is_waited_for_until_the_bound_and_only_its_answer_is_deleted() {
    let mut bench = Bench::started();
    bench.close(true);
    assert!(bench.secs(4).is_empty());
    assert!(matches!(bench.lease(900)[..], [Effect::Delete { .. }]));

    let mut bench = Bench::started();
    bench.close(true);
    assert_eq!(bench.secs(5), [Effect::Finish(End::Closed { deleted: false })], "it may yet be made");
}

#[test]
fn l7_a_creation_that_is_answered_at_the_end_is_deleted_once() {
    let mut bench = Bench::started();
    bench.close(true);
    bench.secs(1);
    assert!(matches!(bench.lease(900)[..], [Effect::Delete { .. }]));
    assert_eq!(bench.secs(3), [], "one deletion");
}

#[test]
fn after_a_sleep_that_outlasted_the_lease_an_unanswered_renewal_is_not_waited_for() {
    // Whether it was in flight before or begins with the wake-up.
    for before in [true, false] {
        let mut bench = Bench::live();
        bench.link_progress();
        bench.secs(if before { 780 } else { 100 });
        bench.give(Input::Slept { by: Duration::from_secs(3600) });
        assert_eq!(gaps(&bench.secs(29)), []);
        assert_eq!(gaps(&bench.secs(2)), [Cause::Expired], "under way before: {before}");
    }
}

#[test]
fn an_operation_in_flight_at_a_check_is_checked_again() {
    for creating in [true, false] {
        let mut bench = Bench::live();
        if creating {
            bench.give(Input::TransportSwitched);
        } else {
            bench.secs(780);
        }
        bench.give(Input::Slept { by: Duration::ZERO });
        let effects = bench.lease(900);
        assert!(matches!(effects.last(), Some(Effect::Renew { .. })), "{effects:?}");
        // Once.
        assert!(bench.lease(900).is_empty());
    }
}

#[test]
fn another_transport_makes_another_subscription_at_once_and_reads_the_former_link_on() {
    // Before there is one, nothing can be missing.
    let mut bench = Bench::started();
    bench.fail(RETRY);
    assert!(matches!(bench.give(Input::TransportSwitched)[..], [Effect::Create { .. }]));
    assert_eq!(bench.secs(20), [], "the attempt that was due is no other one");

    let mut bench = Bench::live();
    let former = bench.link();
    bench.give(Input::Update);
    let effects = bench.give(Input::TransportSwitched);
    assert!(
        matches!(
            effects[..],
            [Effect::AnswerUpdate { ok: false }, Effect::Gap(Cause::TransportSwitched), Effect::Create { .. }]
        ),
        "{effects:?}"
    );
    let effects = bench.lease(900);
    assert!(matches!(effects[..], [Effect::OpenLink { .. }]), "{effects:?}");
    let link = bench.link();
    assert_eq!(bench.give(Input::LinkAlive { link }), [Effect::Resumed]);
    assert_eq!(bench.secs(10), [Effect::CloseLink { link: former }]);

    // One that was about to be opened again is not.
    let mut bench = Bench::live();
    let link = bench.link();
    bench.give(Input::LinkFailed { link, disposition: Disposition::Retry { after: Some(Duration::from_secs(5)) } });
    bench.give(Input::TransportSwitched);
    assert_eq!(bench.secs(10), []);
    assert!(matches!(bench.lease(900)[..], [Effect::OpenLink { .. }]));

    // One that ends, or is left after a sleep, before there is another subscription has nothing to be opened for.
    for asleep in [true, false] {
        let mut bench = Bench::live();
        let link = bench.link();
        bench.give(Input::TransportSwitched);
        if asleep {
            bench.give(Input::Slept { by: Duration::ZERO });
        } else {
            bench.give(Input::LinkFailed { link, disposition: RETRY });
        }
        let effects = bench.secs(60);
        assert!(!has(&effects, |effect| matches!(effect, Effect::OpenLink { .. })), "{effects:?}");
        assert!(matches!(bench.lease(900).first(), Some(Effect::OpenLink { .. })));
    }

    // A link of the former transport that does not open is of no use.
    let mut bench = Bench::live();
    bench.link_fail(RETRY);
    bench.secs(60);
    let opening = bench.link();
    let effects = bench.give(Input::TransportSwitched);
    assert!(has(&effects, |effect| *effect == Effect::CloseLink { link: opening }), "{effects:?}");
    assert!(!has(&bench.secs(60), |effect| matches!(effect, Effect::OpenLink { .. })));
}

#[test]
fn a_lost_subscription_that_may_still_exist_is_deleted_at_the_end() {
    for cause in [
        Cause::SessionLost,
        Cause::TooLarge,
        Cause::LinkRefused,
        Cause::Inactive,
        Cause::Expired,
        Cause::TransportSwitched,
    ] {
        let mut bench = Bench::live();
        match cause {
            Cause::SessionLost | Cause::TooLarge | Cause::Gone => {
                let link = bench.link();
                bench.give(Input::LinkLost { link, cause });
            }
            Cause::LinkRefused => drop(bench.link_fail(Disposition::Recreate)),
            Cause::Inactive => {
                bench.secs(780);
                let op = bench.op();
                bench.give(Input::Inactive { op });
            }
            Cause::Expired => drop(bench.secs(901)),
            Cause::TransportSwitched => drop(bench.give(Input::TransportSwitched)),
        }
        assert_eq!(gaps(&bench.effects), [cause]);
        // Whether the next one is waited for or under way.
        if let Lease::Acquiring { .. } = bench.machine.lease {
            bench.fail(RETRY);
        }
        let effects = bench.close(true);
        assert!(has(&effects, |effect| matches!(effect, Effect::Delete { .. })), "{cause:?}: {effects:?}");
    }
    // One that the service does not know is not asked about again.
    let mut bench = Bench::live();
    bench.link_progress();
    bench.secs(780);
    bench.fail(Disposition::Recreate);
    bench.fail(RETRY);
    let effects = bench.close(true);
    assert!(has(&effects, |effect| *effect == Effect::Finish(End::Closed { deleted: true })), "{effects:?}");
}

#[test]
fn a_renewal_that_is_not_answered_does_not_hide_the_expiry() {
    for update in [true, false] {
        let mut bench = Bench::live();
        bench.link_progress();
        bench.secs(700);
        if update {
            bench.give(Input::Update);
        }
        let effects = bench.secs(200);
        let told = effects.iter().filter(|effect| matches!(effect, Effect::AnswerUpdate { ok: false })).count();
        assert_eq!(told, usize::from(update));
        assert_eq!(gaps(&effects), [Cause::Expired]);
        assert_eq!(creates(&effects), 1);
    }
}

#[test]
fn deleting_is_repeated_until_the_bound() {
    let mut bench = Bench::live();
    bench.close(true);
    bench.fail(RETRY);
    let effects = bench.secs(1);
    assert!(matches!(effects[..], [Effect::Delete { .. }]), "{effects:?}");
    assert_eq!(bench.secs(5), [Effect::Finish(End::Closed { deleted: false })]);
    assert!(bench.secs(1000).is_empty());
}

#[test]
fn keeping_the_subscription_sends_no_delete() {
    let mut bench = Bench::live();
    let link = bench.link();
    assert_eq!(bench.close(false), [Effect::CloseLink { link }, Effect::Finish(End::Closed { deleted: false })]);
}

#[test]
fn an_update_waits_for_a_renewal_and_leaves_the_lease_when_refused() {
    let mut bench = Bench::live();
    bench.secs(780); // renewing
    assert!(bench.give(Input::Update).is_empty());
    assert!(bench.machine.update_pending());
    assert!(matches!(bench.lease(900)[..], [Effect::Update { .. }]));
    assert_eq!(bench.fail(Disposition::Fatal), [Effect::AnswerUpdate { ok: false }]);
    assert_eq!(bench.machine.phase(), Phase::Live);
    assert!(has(&bench.secs(781), |effect| matches!(effect, Effect::Renew { .. })), "renewal goes on");
}

#[test]
fn an_update_that_finds_the_subscription_gone_recreates_it() {
    let mut bench = Bench::live();
    bench.link_progress();
    bench.give(Input::Update);
    let effects = bench.fail(Disposition::Recreate);
    assert!(
        matches!(effects[..], [Effect::AnswerUpdate { ok: false }, Effect::Gap(Cause::Gone), Effect::Create { .. }]),
        "{effects:?}"
    );
}

#[test]
fn after_a_sleep_lease_and_link_are_checked_at_once() {
    let mut bench = Bench::live();
    let old = bench.link();
    let effects = bench.give(Input::Slept { by: Duration::from_secs(3600) });
    assert!(has(&effects, |effect| matches!(effect, Effect::Renew { .. })), "{effects:?}");
    assert!(effects.contains(&Effect::CloseLink { link: old }));
    assert!(has(&effects, |effect| matches!(effect, Effect::OpenLink { .. })));
    // No network yet: the lease is not trusted for long.
    bench.secs(1);
    bench.fail(RETRY);
    let expires_at = bench.machine.expires_at().unwrap();
    assert!(expires_at - bench.now <= GRACE_AFTER_SLEEP);
}

#[test]
fn a_sleep_cuts_back_off_short() {
    let mut bench = Bench::live();
    bench.link_fail(Disposition::Retry { after: Some(Duration::from_secs(3000)) });
    let effects = bench.give(Input::Slept { by: Duration::from_secs(60) });
    assert!(has(&effects, |effect| matches!(effect, Effect::OpenLink { .. })), "{effects:?}");
}

#[test]
fn timers_due_together_end_in_a_sane_state() {
    let mut bench = Bench::live();
    bench.link_fail(RETRY);
    bench.now += Duration::from_secs(100_000);
    bench.machine.handle_timeout(bench.now);
    let effects = bench.drain();
    assert_eq!(gaps(&effects), [Cause::Expired]);
    assert_eq!(creates(&effects) + usize::from(bench.machine.is_armed(Timer::Attempt)), 1);
    assert!(!has(&effects, |effect| matches!(effect, Effect::Renew { .. })), "expiry makes renewal pointless");
}

#[test]
fn a_lost_adopted_subscription_is_recreated_with_a_gap() {
    let mut bench = Bench::new();
    assert!(matches!(bench.give(Input::Start { adopt: true })[..], [Effect::Adopt { .. }]));
    let effects = bench.fail(Disposition::Recreate);
    assert!(matches!(effects[..], [Effect::Gap(Cause::Gone), Effect::Create { .. }]), "{effects:?}");
    bench.lease(900);
    assert_eq!(bench.link_up(), [Effect::Resumed]);
}

#[test]
fn a_subscription_no_longer_served_is_recreated() {
    let mut bench = Bench::live();
    bench.link_progress();
    bench.secs(780);
    let op = bench.op();
    let effects = bench.give(Input::Inactive { op });
    assert!(matches!(effects[..], [Effect::Gap(Cause::Inactive), Effect::Create { .. }]), "{effects:?}");
    let effects = bench.close(true);
    assert!(has(&effects, |effect| *effect == Effect::DeleteFormer), "the one that was given up: {effects:?}");
    let op = bench.op();
    let effects = bench.give(Input::Inactive { op });
    assert_eq!(effects, [Effect::Finish(End::Closed { deleted: true })]);
}

#[test]
fn a_link_that_is_leaving_is_replaced_without_a_gap() {
    let mut bench = Bench::live();
    let old = bench.link();
    let effects = bench.give(Input::LinkLeaving { link: old });
    assert!(matches!(effects[..], [Effect::Replace { .. }]), "{effects:?}");
    assert_eq!(bench.give(Input::LinkLeaving { link: old }), [], "one at a time");
    let effects = bench.lease_moved(900, true);
    assert!(matches!(effects[..], [Effect::OpenLink { .. }]), "{effects:?}");
    bench.link_up();
    assert_eq!(bench.machine.phase(), Phase::Live);
    bench.give(Input::LinkRead { link: old });
    assert_eq!(bench.secs(10), [Effect::CloseLink { link: old }]);
    assert_eq!(gaps(&bench.effects), []);
}

#[test]
fn a_links_possible_loss_is_reported_once() {
    // Left within a gap: the gap reports it already, however the link ends.
    let mut bench = Bench::live();
    bench.link_progress();
    bench.secs(780);
    bench.fail(Disposition::Recreate);
    let old = bench.link();
    bench.lease(900);
    bench.link_up();
    assert_eq!(bench.give(Input::LinkFailed { link: old, disposition: RETRY }), []);
    // One that was left for another address is handled separately.
    let mut bench = Bench::live();
    bench.secs(780);
    let old = bench.link();
    bench.lease_moved(900, true);
    assert_eq!(bench.give(Input::LinkFailed { link: old, disposition: RETRY }), [Effect::FormerLinkLost]);
}

#[test]
fn an_end_by_an_error_reports_the_remains_too() {
    let mut bench = Bench::live();
    bench.secs(780);
    bench.fail(Disposition::Fatal);
    assert!(!bench.machine.is_deleted());
    let op = bench.op();
    bench.give(Input::Deleted { op, found: true });
    assert!(bench.machine.is_deleted());
}

#[test]
fn only_the_present_link_of_a_running_subscription_is_replaced() {
    let mut bench = Bench::live();
    let old = bench.link();
    assert_eq!(bench.give(Input::LinkLeaving { link: old + 1 }), []);
    bench.close(true);
    assert_eq!(bench.give(Input::LinkLeaving { link: old }), []);
}

#[test]
fn a_replacement_that_fails_leaves_the_old_one_in_force() {
    for disposition in [
        RETRY,
        Disposition::Fatal,
        Disposition::Recreate,
        Disposition::Prune,
        Disposition::Refresh,
        Disposition::Resync,
    ] {
        let mut bench = Bench::live();
        let link = bench.link();
        bench.give(Input::LinkLeaving { link });
        assert_eq!(bench.fail(disposition), [], "{disposition:?}");
        assert_eq!(bench.machine.phase(), Phase::Live);
        let effects = bench.give(Input::LinkLeaving { link });
        assert!(matches!(effects[..], [Effect::Replace { .. }]), "it is tried again: {effects:?}");
        bench.fail(disposition);
        assert!(has(&bench.secs(800), |effect| matches!(effect, Effect::Renew { .. })), "and renewed in time");
    }
}

#[test]
fn a_lost_session_loses_the_subscription_and_reports_it() {
    for cause in [Cause::SessionLost, Cause::TooLarge] {
        let mut bench = Bench::live();
        bench.link_progress();
        let link = bench.link();
        let effects = bench.give(Input::LinkLost { link, cause });
        let [Effect::Gap(told), Effect::Create { .. }] = effects[..] else { panic!("{effects:?}") };
        assert_eq!(told, cause);
        bench.lease(900);
        assert!(has(&bench.link_up(), |effect| *effect == Effect::Resumed));
    }
}

#[test]
fn sessions_lost_again_and_again_are_no_refusal() {
    let mut bench = Bench::live();
    for _ in 0..20 {
        let link = bench.link();
        bench.give(Input::LinkLost { link, cause: Cause::SessionLost });
        bench.secs(50);
        bench.lease(900);
        bench.link_up();
    }
    assert_eq!(bench.machine.phase(), Phase::Live);
}

#[test]
fn a_session_lost_during_a_renewal_is_acted_upon_at_its_answer() {
    let mut bench = Bench::live();
    bench.link_progress();
    bench.secs(780);
    let link = bench.link();
    assert_eq!(bench.give(Input::LinkLost { link, cause: Cause::SessionLost }), []);
    let effects = bench.lease(900);
    assert!(matches!(effects[..], [Effect::Gap(Cause::SessionLost), Effect::Create { .. }]), "{effects:?}");
}

#[test]
fn a_renewal_that_was_on_its_way_during_a_sleep_is_not_trusted_for_longer() {
    let mut bench = Bench::live();
    bench.secs(780);
    let (op, requested_at) = (bench.op(), bench.now);
    bench.give(Input::Slept { by: Duration::from_secs(600) });
    bench.give(Input::Leased { op, requested_at, lifetime: Duration::from_secs(900), moved: false });
    assert_eq!(bench.machine.expires_at(), Some(bench.now + Duration::from_secs(300)));
    let op = bench.op_after(|bench| bench.secs(200));
    // The next one was not slept through.
    let requested_at = bench.now;
    bench.give(Input::Leased { op, requested_at, lifetime: Duration::from_secs(900), moved: false });
    assert_eq!(bench.machine.expires_at(), Some(bench.now + Duration::from_secs(900)));
}

#[test]
fn a_renewal_on_its_way_through_a_sleep_longer_than_the_lease_is_asked_about_at_once() {
    let mut bench = Bench::live();
    bench.secs(780);
    let (op, requested_at) = (bench.op(), bench.now);
    bench.give(Input::Slept { by: Duration::from_secs(5000) });
    let effects = bench.give(Input::Leased { op, requested_at, lifetime: Duration::from_secs(900), moved: false });
    assert_eq!(bench.machine.expires_at(), Some(bench.now + GRACE_AFTER_SLEEP));
    assert!(has(&effects, |effect| matches!(effect, Effect::Renew { .. })), "{effects:?}");
}

#[test]
fn a_creation_slept_through_counts_the_sleep_too() {
    let mut bench = Bench::live();
    bench.link_progress();
    bench.secs(780);
    bench.fail(Disposition::Recreate);
    let (op, requested_at) = (bench.op(), bench.now);
    bench.give(Input::Slept { by: Duration::from_secs(600) });
    bench.give(Input::Leased { op, requested_at, lifetime: Duration::from_secs(900), moved: false });
    assert_eq!(bench.machine.expires_at(), Some(bench.now + Duration::from_secs(300)));
}

#[test]
fn the_machine_depends_on_no_io() {
    let files = [
        include_str!("machine/mod.rs"),
        include_str!("machine/end.rs"),
        include_str!("machine/lease.rs"),
        include_str!("machine/link.rs"),
        include_str!("machine/timers.rs"),
    ];
    for source in files {
        for line in source.lines().filter(|line| line.trim_start().starts_with("use ")) {
            let allowed = ["use std::", "use crate::error::Disposition", "use crate::policy::", "use super::*"];
            assert!(allowed.iter().any(|start| line.starts_with(start)), "{line}");
        }
        assert!(!source.contains("tokio") && !source.contains("reqwest") && !source.contains("serde"));
    }
}

/// A random input. Operations and links are named by their distance from the newest, so that stale answers are as
/// common as fresh ones.
#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Leased { back: u64, secs: u64, moved: bool },
    Inactive { back: u64 },
    Failed { back: u64, disposition: Disposition },
    Pruned { back: u64, deleted: usize },
    Deleted { back: u64, found: bool },
    TransportSwitched,
    Alive { back: u64 },
    Read { back: u64 },
    Progress { back: u64 },
    LinkFailed { back: u64, disposition: Disposition },
    LinkLost { back: u64 },
    LinkLeaving { back: u64 },
    Update,
    Slept(u64),
    Close { delete: bool },
}

fn disposition() -> impl Strategy<Value = Disposition> {
    prop_oneof![
        8 => Just(RETRY),
        2 => (0u64..100).prop_map(|secs| Disposition::Retry { after: Some(Duration::from_secs(secs)) }),
        4 => Just(Disposition::Recreate),
        1 => Just(Disposition::Prune),
        1 => Just(Disposition::Fatal),
        1 => Just(Disposition::Refresh),
        1 => Just(Disposition::Resync),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let back = || 0u64..3;
    prop_oneof![
        6 => (0u64..2_000_000).prop_map(Step::Pass),
        8 => (back(), 0u64..2000, any::<bool>()).prop_map(|(back, secs, moved)| Step::Leased { back, secs, moved }),
        1 => back().prop_map(|back| Step::Inactive { back }),
        4 => (back(), disposition()).prop_map(|(back, disposition)| Step::Failed { back, disposition }),
        2 => (back(), 0usize..3).prop_map(|(back, deleted)| Step::Pruned { back, deleted }),
        2 => (back(), any::<bool>()).prop_map(|(back, found)| Step::Deleted { back, found }),
        1 => Just(Step::TransportSwitched),
        5 => back().prop_map(|back| Step::Alive { back }),
        2 => back().prop_map(|back| Step::Read { back }),
        3 => back().prop_map(|back| Step::Progress { back }),
        4 => (back(), disposition()).prop_map(|(back, disposition)| Step::LinkFailed { back, disposition }),
        1 => back().prop_map(|back| Step::LinkLost { back }),
        2 => back().prop_map(|back| Step::LinkLeaving { back }),
        1 => Just(Step::Update),
        1 => (0u64..10_000).prop_map(Step::Slept),
        1 => any::<bool>().prop_map(|delete| Step::Close { delete }),
    ]
}

/// Invariants of a machine at rest.
fn check_rest(machine: &Machine) {
    if matches!(machine.stage, Stage::Finished | Stage::Idle) {
        assert_eq!(machine.poll_timeout(), None, "nothing waits at the end");
        return;
    }
    let closing = machine.is_closing();
    if closing {
        assert!(machine.is_armed(Timer::Close), "closing is bounded");
    }
    if !matches!(machine.lease, Lease::Active { .. }) {
        assert!(!machine.is_armed(Timer::Renew), "only a lease at rest is renewed");
    }
    if machine.expires_at().is_none() {
        assert!(!machine.is_armed(Timer::Expire), "only a lease expires");
    }
    match machine.lease {
        Lease::Absent => assert!(machine.is_armed(Timer::Attempt), "no lease leads to the next attempt"),
        Lease::Active { .. } => {
            assert!(machine.is_armed(Timer::Renew), "a lease is renewed");
            assert!(machine.is_armed(Timer::Expire), "a lease expires");
        }
        // Under way: the answer leads on; a failed delete waits for the next.
        Lease::Acquiring { .. } | Lease::Pruning { .. } | Lease::Renewing { .. } | Lease::Deleting { .. } => {}
        Lease::Gone => panic!("gone, but not finished"),
    }
    if machine.stage == Stage::Starting {
        assert!(machine.is_armed(Timer::Start), "the start is bounded");
    }
    assert!(machine.formers.len() <= FORMERS);
    assert_eq!(machine.is_armed(Timer::Retire), !machine.formers.is_empty(), "former links are closed in time");
    if machine.link.id().is_some() {
        assert!(!machine.is_armed(Timer::Reopen), "a link that is there is not opened again");
    }
    if !matches!(machine.link, Link::Up { .. }) {
        assert!(!machine.is_armed(Timer::Stable), "only a link that is up is trusted");
    }
    match machine.link {
        Link::Down if matches!(machine.lease, Lease::Active { .. }) => {
            assert!(machine.is_armed(Timer::Reopen), "a link that is down is opened again");
        }
        Link::Up { .. } => assert!(
            machine.is_armed(Timer::Stable) || (machine.link_attempts == 0 && machine.refusals == 0),
            "a link that stays up is trusted in the end"
        ),
        Link::Down | Link::Opening { .. } => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn with_any_inputs_the_machine_invariants_hold(adopt: bool, steps in prop::collection::vec(step(), 1..60)) {
        let mut bench = Bench::new();
        bench.give(Input::Start { adopt });
        for step in steps {
            let newest = bench.machine.generation;
            let at = |back: u64| newest.saturating_sub(back);
            let now = bench.now;
            match step {
                Step::Pass(ms) => { bench.pass(Duration::from_millis(ms)); }
                Step::Leased { back, secs, moved } => {
                    bench.give(Input::Leased { op: at(back), requested_at: now, lifetime: Duration::from_secs(secs), moved });
                }
                Step::Inactive { back } => { bench.give(Input::Inactive { op: at(back) }); }
                Step::Failed { back, disposition } => { bench.give(Input::Failed { op: at(back), disposition, unclear: false }); }
                Step::Pruned { back, deleted } => { bench.give(Input::Pruned { op: at(back), deleted }); }
                Step::TransportSwitched => { bench.give(Input::TransportSwitched); }
                Step::Deleted { back, found } => { bench.give(Input::Deleted { op: at(back), found }); }
                Step::Alive { back } => { bench.give(Input::LinkAlive { link: at(back) }); }
                Step::Read { back } => { bench.give(Input::LinkRead { link: at(back) }); }
                Step::Progress { back } => { bench.give(Input::LinkProgress { link: at(back) }); }
                Step::LinkFailed { back, disposition } => {
                    bench.give(Input::LinkFailed { link: at(back), disposition });
                }
                Step::LinkLost { back } => {
                    bench.give(Input::LinkLost { link: at(back), cause: Cause::SessionLost });
                }
                Step::LinkLeaving { back } => { bench.give(Input::LinkLeaving { link: at(back) }); }
                Step::Update => { bench.give(Input::Update); }
                Step::Slept(secs) => { bench.give(Input::Slept { by: Duration::from_secs(secs) }); }
                Step::Close { delete } => { bench.close(delete); }
            }
            check_rest(&bench.machine);
        }
        check_history(&bench.effects);
    }

    #[test]
    fn closing_always_ends(adopt: bool, steps in prop::collection::vec(step(), 0..20), delete: bool) {
        let mut bench = Bench::new();
        bench.give(Input::Start { adopt });
        for step in steps {
            if let Step::Pass(ms) = step {
                bench.pass(Duration::from_millis(ms));
            } else if let Step::Leased { secs, moved, .. } = step {
                let (op, now) = (bench.machine.generation, bench.now);
                bench.give(Input::Leased { op, requested_at: now, lifetime: Duration::from_secs(secs), moved });
            }
        }
        bench.close(delete);
        bench.secs(5);
        prop_assert_eq!(bench.machine.phase(), Phase::Closed);
    }
}

/// Invariants over all effects of the machine.
fn check_history(effects: &[Effect]) {
    let mut open_links = Vec::new();
    let mut gap = false;
    for (at, effect) in effects.iter().enumerate() {
        match effect {
            Effect::Finish(_) => assert_eq!(at + 1, effects.len(), "nothing follows the end"),
            Effect::Gap(_) => assert!(!std::mem::replace(&mut gap, true), "a gap within a gap"),
            Effect::Resumed => assert!(std::mem::replace(&mut gap, false), "resumed without a gap"),
            Effect::OpenLink { link } => {
                open_links.push(*link);
            }
            Effect::CloseLink { link } => {
                assert!(open_links.contains(link), "closed what was not open");
                open_links.retain(|open| open != link);
            }
            Effect::Create { .. }
            | Effect::Replace { .. }
            | Effect::Prune { .. }
            | Effect::Adopt { .. }
            | Effect::Renew { .. }
            | Effect::Audit { .. }
            | Effect::Update { .. }
            | Effect::Delete { .. }
            | Effect::DeleteFormer
            | Effect::AnswerUpdate { .. }
            | Effect::FormerLinkLost => {}
        }
    }
}
