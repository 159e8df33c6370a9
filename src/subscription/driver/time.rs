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
        [machine, plan, failover, farewell, start, self.waits_until(), draining, held]
            .into_iter()
            .flatten()
            .fold(check, Instant::min)
    }

    /// The monotonic clock stands still while the machine sleeps, the wall clock
    /// does not.
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
            tracing::info!(seconds = slept.as_secs(), "the machine slept");
            self.give(Input::Slept { by: slept });
        } else if passed > CLOCK_CHECK + FROZEN {
            // Both clocks ran on, but this process did not.
            tracing::info!(seconds = passed.as_secs(), "the process stood still");
            self.give(Input::Slept { by: Duration::ZERO });
        }
    }

    pub(super) fn id_for_log(&self) -> Option<&str> {
        self.lease.as_ref().map(|lease| lease.id.as_str())
    }
}
