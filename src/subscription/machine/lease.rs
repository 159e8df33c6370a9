//! The lease: requested, held, renewed, lost.

use super::*;

impl Machine {
    pub(super) fn start(&mut self, now: Instant, adopt: bool) {
        if self.stage != Stage::Idle {
            return;
        }
        self.stage = Stage::Starting;
        let within = self.settings.start_within;
        self.start_by = Some(now + within);
        // Its end counts towards the limit (found 6.12).
        self.arm(Timer::Start, now + within - START_FAREWELL.min(within / START_FAREWELL_SHARE));
        self.plan = if adopt { Plan::Adopt } else { Plan::Create };
        self.acquire(now, None);
    }

    /// Requests a lease: at once the first time, later after a back-off.
    pub(super) fn acquire(&mut self, now: Instant, retry_after: Option<Duration>) {
        self.lease = Lease::Absent;
        let attempt = self.acquire_attempts;
        self.acquire_attempts = attempt.saturating_add(1);
        if attempt == 0 && retry_after.is_none() {
            self.attempt();
        } else {
            let delay = self.back_off(attempt.saturating_sub(1), retry_after);
            self.arm(Timer::Attempt, now + delay);
        }
    }

    pub(super) fn attempt(&mut self) {
        let op = self.next_generation();
        self.slept_meanwhile = Duration::ZERO;
        self.lease = Lease::Acquiring { op };
        self.effects.push_back(match self.plan {
            Plan::Create => Effect::Create { op },
            Plan::Adopt => Effect::Adopt { op },
        });
    }

    pub(super) fn leased(&mut self, now: Instant, op: Op, requested_at: Instant, lifetime: Duration, moved: bool) {
        let (fresh, updated, looked) = match self.lease {
            Lease::Acquiring { op: current } if current == op => (true, false, None),
            Lease::Renewing { op: current, what, expires_at } if current == op => {
                (false, what == LeaseOp::Update, Some(expires_at).filter(|_| what == LeaseOp::Audit))
            }
            _ => return,
        };
        if updated {
            self.effects.push_back(Effect::AnswerUpdate { ok: true });
        }
        let lifetime = RenewalPolicy::lifetime(lifetime);
        let slept = std::mem::take(&mut self.slept_meanwhile);
        let expires_at = shortened(now, requested_at + lifetime, slept);
        // An audit renews nothing: its answer can only end the lease earlier.
        let expires_at = looked.map_or(expires_at, |known| known.min(expires_at));
        self.lease = Lease::Active { expires_at };
        let made = fresh && self.plan == Plan::Create;
        self.plan = Plan::Create;
        self.pruned = false;
        self.stale = false;
        self.renew_attempts = 0;
        self.disarm(Timer::Attempt);
        if let Stage::Closing { delete, .. } = &mut self.stage {
            // If it was created during the end, no resume token contains it, so no process can continue it.
            *delete |= made;
            return self.end_lease();
        }
        let renew_after = self.settings.renewal.renew_after(lifetime, self.chance.f64());
        let renew_at = requested_at + renew_after.saturating_sub(slept);
        let renew_at = self.renew_at.filter(|_| looked.is_some()).map_or(renew_at, |planned| planned.min(renew_at));
        self.schedule(now, renew_at, expires_at);
        self.audit_later(now);
        if self.stage == Stage::Starting {
            self.stage = Stage::Running;
            self.disarm(Timer::Start);
        }
        if !fresh {
            self.acquire_attempts = 0;
        }
        if !fresh && moved && self.link.id().is_none() {
            // Nothing reads at the former address any more.
            self.effects.push_back(Effect::FormerLinkLost);
        }
        if fresh || moved {
            self.open_link(now);
        }
        if let Some(cause) = self.pending_loss.take().filter(|_| !fresh && !moved) {
            return self.lose_lease(now, cause);
        }
        self.start_update();
        if std::mem::take(&mut self.check_again) {
            self.maintain(LeaseOp::Renew);
        }
    }

    fn audit_later(&mut self, now: Instant) {
        if let Some(every) = self.settings.audit_every {
            self.arm(Timer::Audit, now + every);
        }
    }

    /// An unanswered audit, or one without room in the rate group, shows nothing: the next one comes sooner, so that a
    /// loss is noticed within a minute once the service answers.
    fn audit_again(&mut self, now: Instant, after: Option<Duration>) {
        if let Some(every) = self.settings.audit_every {
            self.arm(Timer::Audit, now + after.unwrap_or_default().max(AUDIT_AGAIN).min(every));
        }
    }

    /// Arms the timers of an active lease. Both lie in the future, so that a slow answer to a short lease cannot cause
    /// a tight loop.
    pub(super) fn schedule(&mut self, now: Instant, renew_at: Instant, expires_at: Instant) {
        let earliest = now + RenewalPolicy::FLOOR;
        self.renew_at = Some(renew_at.max(earliest));
        self.arm(Timer::Renew, renew_at.max(earliest));
        self.arm(Timer::Expire, expires_at.max(earliest));
    }

    pub(super) fn inactive(&mut self, now: Instant, op: Op) {
        match self.lease {
            Lease::Acquiring { op: current } if current == op => {
                // The adopted subscription is not served: create another.
                self.plan = Plan::Create;
                self.open_gap(Cause::Inactive);
                self.acquire_or_end(now, None);
            }
            Lease::Renewing { op: current, what, .. } if current == op => {
                if what == LeaseOp::Update {
                    self.effects.push_back(Effect::AnswerUpdate { ok: false });
                }
                self.lose_lease(now, Cause::Inactive);
            }
            _ => {}
        }
    }

    pub(super) fn failed(&mut self, now: Instant, op: Op, disposition: Disposition, unclear: bool) {
        match self.lease {
            Lease::Acquiring { op: current } if current == op => self.acquire_failed(now, disposition),
            Lease::Pruning { .. } => self.pruned(now, op, 0),
            Lease::Renewing { op: current, expires_at, what } if current == op => {
                self.renew_failed(now, disposition, expires_at, what, unclear);
            }
            Lease::Deleting { op: current } if current == op => self.delete_failed(now, disposition),
            _ => {}
        }
    }

    /// The result of an unanswered creation is neither searched for nor taken over: it cannot be distinguished from a
    /// subscription of another process with the same filters, so it is left to expire (found 5.1).
    pub(super) fn acquire_failed(&mut self, now: Instant, disposition: Disposition) {
        match disposition {
            Disposition::Retry { after } => self.acquire_or_end(now, after),
            Disposition::Prune if !self.pruned && self.plan == Plan::Create && !self.is_closing() => {
                self.pruned = true;
                let op = self.next_generation();
                self.lease = Lease::Pruning { op };
                self.effects.push_back(Effect::Prune { op });
            }
            // While running, orphans of a former process expire; at the start the user should know at once.
            Disposition::Prune if self.stage == Stage::Running => self.acquire_or_end(now, None),
            Disposition::Recreate if self.plan == Plan::Adopt => {
                self.plan = Plan::Create;
                self.acquire_attempts = 0;
                self.open_gap(Cause::Gone);
                self.acquire_or_end(now, None);
            }
            Disposition::Fatal
            | Disposition::Refresh
            | Disposition::Recreate
            | Disposition::Prune
            | Disposition::Resync => {
                self.lease = Lease::Absent;
                self.fail(now, End::Fatal);
            }
        }
    }

    /// Retries, unless it is ending.
    pub(super) fn acquire_or_end(&mut self, now: Instant, retry_after: Option<Duration>) {
        self.lease = Lease::Absent;
        if self.is_closing() {
            self.end_nothing();
        } else {
            self.acquire(now, retry_after);
        }
    }

    pub(super) fn pruned(&mut self, now: Instant, op: Op, deleted: usize) {
        if self.lease != (Lease::Pruning { op }) {
            return;
        }
        self.lease = Lease::Absent;
        match self.stage {
            Stage::Closing { .. } => self.end_nothing(),
            _ if deleted > 0 => self.attempt(),
            Stage::Running => self.acquire(now, None),
            Stage::Idle | Stage::Starting | Stage::Finished => self.fail(now, End::Fatal),
        }
    }

    pub(super) fn maintain(&mut self, what: LeaseOp) {
        let Lease::Active { expires_at } = self.lease else { return };
        let op = self.next_generation();
        self.slept_meanwhile = Duration::ZERO;
        self.lease = Lease::Renewing { op, expires_at, what };
        self.disarm(Timer::Renew);
        self.effects.push_back(match what {
            LeaseOp::Renew => Effect::Renew { op },
            LeaseOp::Audit => Effect::Audit { op },
            LeaseOp::Update => Effect::Update { op },
            LeaseOp::Replace => Effect::Replace { op },
        });
    }

    pub(super) fn renew_failed(
        &mut self,
        now: Instant,
        disposition: Disposition,
        expires_at: Instant,
        what: LeaseOp,
        unclear: bool,
    ) {
        self.lease = Lease::Active { expires_at };
        match (what, disposition) {
            (LeaseOp::Audit, Disposition::Retry { after }) => self.audit_again(now, after),
            _ => self.audit_later(now),
        }
        if what == LeaseOp::Update {
            self.effects.push_back(Effect::AnswerUpdate { ok: false });
        }
        let lost = match disposition {
            Disposition::Recreate if what != LeaseOp::Replace => Some(Cause::Gone),
            _ if expires_at <= now => Some(Cause::Expired),
            _ => self.pending_loss,
        };
        if let Some(cause) = lost {
            return self.lose_lease(now, cause);
        }
        match (what, disposition) {
            // The request was refused, not the lease. A link that is about to end repeats its event.
            (LeaseOp::Audit | LeaseOp::Update | LeaseOp::Replace, _) => {
                let renew_at = self.renew_at.unwrap_or(now);
                self.schedule(now, renew_at, expires_at);
            }
            (LeaseOp::Renew, Disposition::Retry { after }) => {
                let delay = self.back_off(self.renew_attempts, after);
                self.renew_attempts = self.renew_attempts.saturating_add(1);
                self.schedule(now, now + delay, expires_at);
                if unclear {
                    // It may have been carried out, and have changed the address or the key (found 1.5).
                    self.maintain(LeaseOp::Audit);
                }
            }
            (
                LeaseOp::Renew,
                Disposition::Fatal
                | Disposition::Refresh
                | Disposition::Recreate
                | Disposition::Prune
                | Disposition::Resync,
            ) => self.fail(now, End::Fatal),
        }
        self.start_update();
    }

    pub(super) fn lose_lease(&mut self, now: Instant, cause: Cause) {
        self.pending_loss = None;
        self.stale = cause != Cause::Gone;
        self.disarm(Timer::Renew);
        self.disarm(Timer::Audit);
        self.disarm(Timer::Expire);
        self.open_gap(cause);
        self.plan = Plan::Create;
        self.acquire(now, None);
    }

    /// Gives up the lease of the former transport, held or requested. Its link is read while it delivers, until the new
    /// one opens.
    pub(super) fn transport_switched(&mut self, now: Instant) {
        if !matches!(self.stage, Stage::Starting | Stage::Running) {
            return;
        }
        if let Lease::Renewing { what: LeaseOp::Update, .. } = self.lease {
            self.effects.push_back(Effect::AnswerUpdate { ok: false });
        }
        if let Link::Opening { link } = self.link {
            self.effects.push_back(Effect::CloseLink { link });
            self.link = Link::Down;
        }
        self.disarm(Timer::Reopen);
        self.disarm(Timer::Attempt);
        (self.acquire_attempts, self.renew_attempts) = (0, 0);
        self.pruned = false;
        self.trust_link();
        if self.stage == Stage::Running || self.plan == Plan::Adopt {
            self.lose_lease(now, Cause::TransportSwitched);
        } else {
            self.plan = Plan::Create;
            self.acquire(now, None);
        }
    }

    pub(super) fn update(&mut self) {
        self.update_wanted = true;
        self.start_update();
    }

    pub(super) fn start_update(&mut self) {
        if self.update_wanted && matches!(self.lease, Lease::Active { .. }) && !self.is_closing() {
            self.update_wanted = false;
            self.maintain(LeaseOp::Update);
        }
    }
}

/// The end of a lease that was to end at `expires_at`, after a sleep of `by` that the clock did not see. The true end
/// is uncertain: it may be past, so there is time left to ask.
pub(super) fn shortened(now: Instant, expires_at: Instant, by: Duration) -> Instant {
    if by.is_zero() {
        return expires_at;
    }
    let at_most = expires_at.checked_sub(by).unwrap_or(now);
    at_most.max(now + GRACE_AFTER_SLEEP).min(expires_at)
}
