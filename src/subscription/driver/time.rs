//! The clocks.

use super::*;
use crate::http::budget::Dated;

impl Driver {
    pub(super) fn next_timer(&self) -> Instant {
        let check = self.clock_check.0 + CLOCK_CHECK;
        let machine = self.machine.poll_timeout().map(Instant::from_std);
        let plan = self.recovery.plan.poll_timeout().map(Instant::from_std);
        let failover = self.failover.poll_timeout().map(Instant::from_std);
        let draining = self.draining.map(|draining| draining.until);
        let held = self.held_since.map(|since| since + HOLD);
        // Before the end the machine bounds the start: this timer would be due for ever.
        let start = self.start_by.filter(|_| self.end.is_some());
        let cleanup = self.cleanup.poll_timeout(Instant::now());
        let key = self.key_wait.next().filter(|_| self.sealed);
        let undecrypted = self.undecrypted.next();
        [machine, plan, failover, cleanup, start, self.waits_until(), draining, held, key, undecrypted]
            .into_iter()
            .flatten()
            .fold(check, Instant::min)
    }

    /// Every answer of the service gives its time, also one to a call of something else: after
    /// a sleep a token for the socket is asked for first.
    pub(super) fn learn_time(&mut self) {
        let dated = self.setup.control.rate_budget().and_then(|budget| budget.dated());
        if let Some(Dated { asked, read, date }) = dated.filter(|it| self.dated.is_none_or(|last| it.read > last)) {
            self.dated = Some(read);
            self.stood_still |= self.ledger.is_ahead(read, date);
            self.ledger.learn_date(asked, read, date);
        }
    }

    /// The monotonic clock stands still while the machine sleeps, the wall clock does not. A
    /// wall clock that was set looks the same: the service's answer tells them apart.
    pub(super) fn check_clock(&mut self) {
        let (now, wall) = (Instant::now(), self.setup.clock.wall());
        let (then, wall_then) = self.clock_check;
        if now.duration_since(then) < CLOCK_CHECK {
            return;
        }
        self.clock_check = (now, wall);
        let passed = now.duration_since(then);
        let gained = wall.duration_since(wall_then).unwrap_or_default().saturating_sub(passed);
        if gained > CLOCK_SLACK {
            tracing::info!(seconds = gained.as_secs(), "the wall clock jumped");
            self.jumped = self.jumped.saturating_add(gained);
            self.jump_is_new = true;
        }
        if !self.jumped.is_zero() {
            self.ask_about_jump();
        } else if passed > CLOCK_CHECK + FROZEN {
            // Both clocks continued, but this process did not.
            tracing::info!(seconds = passed.as_secs(), "the process stood still");
            self.give(Input::Slept { by: Duration::ZERO });
        }
    }

    /// Asks the service for its time, if possible: for a subscription in a connection only while that exists. Until
    /// then the jump is unexplained.
    fn ask_about_jump(&mut self) {
        let can_ask = match self.machine.phase() {
            machine::Phase::Live => true,
            machine::Phase::Connecting | machine::Phase::Reconnecting => self.setup.has_address,
            machine::Phase::Starting
            | machine::Phase::Recreating
            | machine::Phase::Closing
            | machine::Phase::Closed => false,
        };
        if let Some(lease) = self.lease.as_ref().filter(|_| can_ask) {
            let by = std::mem::take(&mut self.jumped);
            self.calls.start_passing(ops::judge_jump(self.setup.control.clone(), lease.id.clone(), by));
        }
    }

    /// The wall clock had jumped, and the service was asked. It was set, and nothing was missed, if the service's time
    /// continued with the monotonic clock; or if the answer came over the connection that carries the events, which
    /// then survived the jump.
    pub(super) fn judged(&mut self, by: Duration, asked: ops::Asked, result: Result<SubscriptionInfo>) {
        let now = Instant::now();
        let is_new = std::mem::take(&mut self.jump_is_new);
        let was_set = match result {
            Ok(info) => {
                let stood_still = std::mem::take(&mut self.stood_still);
                let on_time = !stood_still && info.answered_at.is_some_and(|date| self.ledger.runs_with(now, date));
                if let Some(date) = info.answered_at {
                    self.ledger.learn_date(asked.at, now, date);
                }
                lease::is_served(&info) && (on_time || !self.setup.has_address)
            }
            // Nothing is known yet. The connections are not trusted, and the lease is not considered expired.
            Err(error) if matches!(error.disposition(), Disposition::Retry { .. }) => {
                self.jumped = self.jumped.saturating_add(by);
                if is_new {
                    self.give(Input::Slept { by: Duration::ZERO });
                }
                return;
            }
            Err(_) => false,
        };
        if was_set {
            tracing::info!(seconds = by.as_secs(), "the wall clock was set");
        } else {
            tracing::info!(seconds = by.as_secs(), "the machine slept");
            self.give(Input::Slept { by });
        }
    }

    pub(super) fn id_for_log(&self) -> Option<&str> {
        self.lease.as_ref().map(|lease| lease.id.as_str())
    }
}
