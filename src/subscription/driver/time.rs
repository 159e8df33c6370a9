//! The clocks.

use super::*;

impl Driver {
    pub(super) fn next_timer(&self) -> Instant {
        let check = self.clock_check.0 + CLOCK_CHECK;
        let machine = self.machine.poll_timeout().map(Instant::from_std);
        let farewell = self.farewell_by.filter(|_| !self.is_settled());
        let plan = self.recovery.plan.poll_timeout().map(Instant::from_std);
        let failover = self.failover.poll_timeout().map(Instant::from_std);
        let draining = self.draining.map(|draining| draining.until);
        let held = self.held_since.map(|since| since + HOLD);
        // Before the end it is the machine that bounds the start: this one would be due for ever.
        let start = self.start_by.filter(|_| self.end.is_some());
        let deletion = self.orphans.next();
        [machine, plan, failover, deletion, farewell, start, self.waits_until(), draining, held]
            .into_iter()
            .flatten()
            .fold(check, Instant::min)
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
        let slept = wall.duration_since(wall_then).unwrap_or_default().saturating_sub(passed);
        if slept > CLOCK_SLACK {
            match self.lease.as_ref().filter(|_| self.machine.phase() == machine::Phase::Live) {
                Some(lease) => {
                    tracing::info!(seconds = slept.as_secs(), "the wall clock jumped");
                    self.passing.push(ops::judge_jump(self.setup.control.clone(), lease.id.clone(), slept));
                }
                None => self.give(Input::Slept { by: slept }),
            }
        } else if passed > CLOCK_CHECK + FROZEN {
            // Both clocks ran on, but this process did not.
            tracing::info!(seconds = passed.as_secs(), "the process stood still");
            self.give(Input::Slept { by: Duration::ZERO });
        }
    }

    /// The wall clock had jumped, and the service was asked. It was set, and nothing was
    /// missed, where the service's time went on with the monotonic clock; or where the answer
    /// came over the connection that carries the events, which then outlived whatever it was.
    pub(super) fn judged(&mut self, by: Duration, asked: ops::Asked, result: Result<SubscriptionInfo>) {
        let now = Instant::now();
        let was_set = result.is_ok_and(|info| {
            let on_time = info.answered_at.is_some_and(|date| self.ledger.runs_with(now, date));
            if let Some(date) = info.answered_at {
                self.ledger.learn_date(asked.at, now, date);
            }
            lease::is_served(&info) && (on_time || !self.setup.has_address)
        });
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
