//! Handles the timers.

use super::*;

impl Machine {
    pub(super) fn fire(&mut self, now: Instant, timer: Timer) {
        match timer {
            Timer::Close => self.finish(),
            Timer::Start => self.fail(now, End::StartTimeout),
            // A renewal that is still in flight comes too late, if at all.
            Timer::Expire => match self.lease {
                Lease::Active { .. } => self.lose_lease(now, Cause::Expired),
                Lease::Renewing { what, .. } => {
                    if what == LeaseOp::Update {
                        self.effects.push_back(Effect::AnswerUpdate { ok: false });
                    }
                    self.lose_lease(now, Cause::Expired);
                }
                Lease::Absent
                | Lease::Acquiring { .. }
                | Lease::Pruning { .. }
                | Lease::Deleting { .. }
                | Lease::Gone => {}
            },
            Timer::Renew => self.maintain(LeaseOp::Renew),
            // Another operation on the lease shows the same.
            Timer::Audit => self.maintain(LeaseOp::Audit),
            Timer::Attempt => match self.lease {
                Lease::Deleting { .. } => self.end_lease(),
                Lease::Absent => self.attempt(),
                Lease::Acquiring { .. }
                | Lease::Pruning { .. }
                | Lease::Active { .. }
                | Lease::Renewing { .. }
                | Lease::Gone => {}
            },
            Timer::Reopen => self.dial(),
            Timer::Retire => self.retire(self.formers.len()),
            Timer::Stable => self.trust_link(),
        }
    }

    pub(super) fn arm(&mut self, timer: Timer, at: Instant) {
        self.timers[timer as usize] = Some(at);
    }

    pub(super) fn disarm(&mut self, timer: Timer) {
        self.timers[timer as usize] = None;
    }

    pub(super) fn is_armed(&self, timer: Timer) -> bool {
        self.timers[timer as usize].is_some()
    }

    pub(super) fn take(&mut self, timer: Timer) -> Option<Instant> {
        self.timers[timer as usize].take()
    }

    pub(super) fn take_if_due(&mut self, now: Instant, timer: Timer) -> bool {
        match self.timers[timer as usize] {
            Some(at) if at <= now => self.take(timer).is_some(),
            _ => false,
        }
    }

    pub(super) fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    pub(super) fn back_off(&mut self, attempt: u32, retry_after: Option<Duration>) -> Duration {
        let policy = &self.settings.backoff;
        let chance = self.chance.f64();
        if attempt < EAGER_TRIES {
            policy.at_most(LINK_PAUSE).delay(attempt, retry_after, chance)
        } else {
            policy.delay(attempt, retry_after, chance)
        }
    }

    /// As [`back_off`](Self::back_off), for a link.
    pub(super) fn link_pause(&mut self, attempt: u32, retry_after: Option<Duration>) -> Duration {
        self.settings.backoff.at_most(LINK_PAUSE).delay(attempt, retry_after, self.chance.f64())
    }
}
