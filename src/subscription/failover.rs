//! Which of several transports to use, without IO.

use std::time::{Duration, Instant};

use crate::policy::{LONGEST_WAIT, doubled};

/// The longest wait before the first transport is tried again, after any number of vain attempts.
const LONGEST: Duration = Duration::from_secs(6 * 60 * 60);
/// An earlier transport that could not connect now is not tried for this long.
const PUT_OFF: Duration = Duration::from_secs(10);

/// The settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// A transport that does not deliver for this long is replaced by the next one.
    pub(super) after: Duration,
    /// One that is not the first is replaced by an earlier one after this long; twice as long after each vain attempt.
    pub(super) back_after: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self { after: Duration::from_secs(60), back_after: Duration::from_secs(10 * 60) }
    }
}

/// The state of the present transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has not delivered since then.
    Down(Instant),
    /// It has delivered since then.
    Up(Instant),
    /// Its state does not matter: nothing has begun, or it has ended.
    Idle,
}

/// Decides when to change the transport. See the module.
#[derive(Debug)]
pub(super) struct Failover {
    terms: Terms,
    /// The transports, in order of preference; `true`: refused for good.
    routes: Vec<bool>,
    route: usize,
    state: State,
    /// How many vain returns to an earlier transport there were.
    in_vain: u32,
}

impl Failover {
    pub(super) fn new(terms: Terms, routes: usize) -> Self {
        let terms = Terms { after: terms.after.min(LONGEST_WAIT), back_after: terms.back_after.min(LONGEST_WAIT) };
        Self { terms, routes: vec![false; routes], route: 0, state: State::Idle, in_vain: 0 }
    }

    /// Sets whether the present transport delivers, as of now.
    pub(super) fn observe(&mut self, now: Instant, delivers: bool) {
        match (self.state, delivers) {
            (State::Down(_) | State::Idle, true) => self.state = State::Up(now),
            (State::Up(_) | State::Idle, false) => self.state = State::Down(now),
            (State::Up(_), true) | (State::Down(_), false) => {}
        }
        if let State::Up(since) = self.state
            && self.route == self.first()
            && now.saturating_duration_since(since) >= self.terms.back_after
        {
            self.in_vain = 0;
        }
    }

    /// No more changes.
    pub(super) fn end(&mut self) {
        self.routes.clear();
        self.state = State::Idle;
    }

    /// The first that was not refused.
    fn first(&self) -> usize {
        self.routes.iter().position(|refused| !refused).unwrap_or(self.route)
    }

    /// The one to use after the present one, if there is any other.
    fn next(&self) -> Option<usize> {
        let routes = self.routes.len();
        (1..routes).map(|step| (self.route + step) % routes).find(|route| !self.routes[*route])
    }

    fn wait(&self) -> Duration {
        doubled(self.terms.back_after, self.in_vain, LONGEST.max(self.terms.back_after))
    }

    /// When [`due`](Self::due) has an answer, as things are.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Down(since) => self.next().map(|_| since + self.terms.after),
            State::Up(since) => (self.first() < self.route).then(|| since + self.wait()),
            State::Idle => None,
        }
    }

    /// The transport to change to now, if it is time. `can_connect`: without a wait for its turn within the rate. One
    /// that delivers is not left for such a wait.
    pub(super) fn due(&mut self, now: Instant, can_connect: impl Fn(usize) -> bool) -> Option<usize> {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return None;
        }
        let to = match self.state {
            State::Down(_) => self.next()?,
            State::Up(since) if !can_connect(self.first()) => {
                self.state = State::Up(since + PUT_OFF);
                return None;
            }
            State::Up(_) => {
                self.in_vain = self.in_vain.saturating_add(1);
                self.first()
            }
            State::Idle => return None,
        };
        self.change(now, to);
        Some(to)
    }

    /// The service refused the present transport: returns the one to change to, if any is left.
    pub(super) fn refused(&mut self, now: Instant) -> Option<usize> {
        *self.routes.get_mut(self.route)? = true;
        let to = self.next()?;
        self.change(now, to);
        Some(to)
    }

    fn change(&mut self, now: Instant, to: usize) {
        self.route = to;
        self.state = State::Down(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[allow(clippy::disallowed_methods, reason = "a pure plan needs some first instant; none other can be made")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_longest_waits_are_a_year_and_never_overflow() {
        let now = start();
        for terms in [
            Terms { after: Duration::MAX, back_after: Duration::MAX },
            Terms { after: secs(1), back_after: Duration::MAX },
            Terms { after: secs(1), back_after: Duration::MAX / 3 },
        ] {
            let mut plan = Failover::new(terms, 2);
            plan.observe(now, false);
            assert_eq!(plan.poll_timeout(), Some(now + terms.after.min(LONGEST_WAIT)));
            let later = now + LONGEST_WAIT;
            assert_eq!(plan.due(later, |_| true), Some(1));
            for _ in 0..40 {
                plan.observe(later, true);
                assert_eq!(plan.poll_timeout(), Some(later + LONGEST_WAIT));
                plan.in_vain += 1;
            }
        }
    }

    #[test]
    fn one_that_does_not_deliver_is_left_after_a_minute_and_in_a_circle() {
        let now = start();
        let mut plan = Failover::new(Terms::default(), 3);
        assert_eq!(plan.poll_timeout(), None);
        plan.observe(now, false);
        assert_eq!(plan.due(now + secs(59), |_| true), None);
        assert_eq!(plan.due(now + secs(60), |_| true), Some(1));
        assert_eq!(plan.due(now + secs(119), |_| true), None, "it has its minute");
        assert_eq!(plan.due(now + secs(120), |_| true), Some(2));
        assert_eq!(plan.due(now + secs(180), |_| true), Some(0));
        // Down for a moment only, again and again.
        for n in 0..10 {
            plan.observe(now + secs(200 + 60 * n), true);
            plan.observe(now + secs(201 + 60 * n), false);
            assert_eq!(plan.due(now + secs(250 + 60 * n), |_| true), None);
        }
    }

    #[test]
    fn the_first_is_gone_back_to_and_less_often_when_that_was_in_vain() {
        let mut now = start();
        let mut plan = Failover::new(Terms::default(), 2);
        let mut waits = Vec::new();
        for _ in 0..8 {
            plan.observe(now, false);
            now += secs(60);
            assert_eq!(plan.due(now, |_| true), Some(1));
            plan.observe(now, true);
            let at = plan.poll_timeout().unwrap();
            waits.push((at - now).as_secs() / 60);
            now = at;
            assert_eq!(plan.due(now, |_| true), Some(0));
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 360, 360]);
        // Once it has delivered for long, all of that is forgotten.
        plan.observe(now, true);
        plan.observe(now + secs(600), true);
        plan.observe(now + secs(700), false);
        assert_eq!(plan.due(now + secs(760), |_| true), Some(1));
        plan.observe(now + secs(760), true);
        assert_eq!(plan.poll_timeout(), Some(now + secs(760 + 600)));
    }

    #[test]
    fn one_that_delivers_is_not_left_for_one_that_could_not_connect_yet() {
        let now = start();
        let mut plan = Failover::new(Terms::default(), 2);
        plan.observe(now, false);
        assert_eq!(plan.due(now + secs(60), |_| false), Some(1), "it does not deliver");
        plan.observe(now + secs(60), true);
        let at = plan.poll_timeout().unwrap();
        assert_eq!(plan.due(at, |to| to != 0), None);
        assert_eq!(plan.poll_timeout(), Some(at + PUT_OFF));
        assert_eq!(plan.due(at + PUT_OFF, |_| true), Some(0));
    }

    #[test]
    fn a_refused_transport_is_not_used_again() {
        let now = start();
        let mut plan = Failover::new(Terms::default(), 3);
        assert_eq!(plan.refused(now), Some(1));
        plan.observe(now, true);
        assert_eq!(plan.poll_timeout(), None);
        assert_eq!(plan.refused(now), Some(2));
        assert_eq!(plan.refused(now), None, "none is left");
        let mut one = Failover::new(Terms::default(), 1);
        one.observe(now, false);
        assert_eq!((one.poll_timeout(), one.refused(now)), (None, None));
    }

    proptest! {
        #[test]
        fn it_never_stays_with_one_that_is_down_and_never_names_the_present_one(
            routes in 1usize..4, steps in prop::collection::vec((0u64..2000, 0u8..5), 1..100),
        ) {
            let mut now = start();
            let mut plan = Failover::new(Terms::default(), routes);
            for (pass, what) in steps {
                now += secs(pass);
                let before = plan.route;
                let to = match what {
                    0 => plan.refused(now),
                    1 | 2 => { plan.observe(now, what == 1); None }
                    _ => plan.due(now, |_| true),
                };
                prop_assert!(to.is_none_or(|to| to != before && to < routes && !plan.routes[to]));
                if let State::Down(_) = plan.state && plan.next().is_some() {
                    prop_assert!(plan.poll_timeout().is_some());
                }
            }
            plan.end();
            prop_assert_eq!((plan.poll_timeout(), plan.due(now, |_| true), plan.refused(now)), (None, None, None));
        }
    }
}
