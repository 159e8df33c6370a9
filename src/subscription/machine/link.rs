//! The link: opened, trusted, moved, lost.

use super::*;

impl Machine {
    /// Opens a link for the lease; the former one lingers, so that events in transit over it arrive.
    pub(super) fn open_link(&mut self, now: Instant) {
        if let Some(link) = self.link.id() {
            let crowded = self.formers.len() >= FORMERS;
            self.retire(usize::from(crowded));
            let (was_up, reported) = (self.link == Link::Up { link }, self.gap == Gap::Open);
            self.formers.push(Former { link, was_up, proven: false, reported });
            self.arm(Timer::Retire, now + self.settings.linger);
        }
        self.dial();
    }

    /// Closes the oldest `count` former links. One that did not answer since it was left may have unread events.
    pub(super) fn retire(&mut self, count: usize) {
        let mut unread = false;
        for former in self.formers.drain(..count) {
            self.effects.push_back(Effect::CloseLink { link: former.link });
            unread |= !former.proven && !former.reported;
        }
        if unread {
            self.effects.push_back(Effect::FormerLinkLost);
        }
    }

    pub(super) fn link_read(&mut self, now: Instant, link: LinkId) {
        self.link_alive(now, link);
        for former in self.formers.iter_mut().filter(|former| former.link == link) {
            former.proven = true;
        }
    }

    pub(super) fn dial(&mut self) {
        self.disarm(Timer::Reopen);
        self.disarm(Timer::Stable);
        let link = self.next_generation();
        self.link = Link::Opening { link };
        self.effects.push_back(Effect::OpenLink { link });
    }

    pub(super) fn link_alive(&mut self, now: Instant, link: LinkId) {
        if self.link != (Link::Opening { link }) {
            return;
        }
        self.link = Link::Up { link };
        self.ever_up = true;
        self.arm(Timer::Stable, now + self.settings.stable_after);
        if self.gap == Gap::Open && self.expires_at().is_some() {
            self.gap = Gap::Closed;
            self.effects.push_back(Effect::Resumed);
        }
    }

    pub(super) fn link_progress(&mut self, now: Instant, link: LinkId) {
        if self.link.id() != Some(link) {
            return;
        }
        self.link_alive(now, link);
        self.trust_link();
    }

    pub(super) fn trust_link(&mut self) {
        self.link_attempts = 0;
        self.refusals = 0;
        self.first_refusal = None;
        if self.expires_at().is_some() {
            self.acquire_attempts = 0;
        }
    }

    pub(super) fn link_failed(&mut self, now: Instant, link: LinkId, disposition: Disposition) {
        // Without a lease there is no address to open another for.
        if !self.link_ended(link) || self.is_closing() || self.expires_at().is_none() {
            return;
        }
        match disposition {
            Disposition::Retry { after } => {
                let after = after.map(|wait| wait.min(LONGEST_LINK_WAIT));
                let delay = self.link_pause(self.link_attempts, after);
                self.link_attempts = self.link_attempts.saturating_add(1);
                self.arm(Timer::Reopen, now + delay);
            }
            Disposition::Recreate => self.link_refused(now),
            Disposition::Fatal | Disposition::Refresh | Disposition::Prune | Disposition::Resync => {
                self.fail(now, End::Fatal);
            }
        }
    }

    pub(super) fn link_lost(&mut self, now: Instant, link: LinkId, cause: Cause) {
        if self.link_ended(link) {
            self.lose_lease_by_link(now, cause);
        }
    }

    /// Removes a link that ended; returns whether it was the current one.
    fn link_ended(&mut self, link: LinkId) -> bool {
        if let Some(at) = self.formers.iter().position(|former| former.link == link) {
            let former = self.formers.remove(at);
            if self.formers.is_empty() {
                self.disarm(Timer::Retire);
            }
            if !former.reported {
                self.effects.push_back(Effect::FormerLinkLost);
            }
            return false;
        }
        if self.link.id() != Some(link) {
            return false;
        }
        self.link = Link::Down;
        self.disarm(Timer::Stable);
        true
    }

    /// During another operation on the lease, the link repeats its event later.
    pub(super) fn link_leaving(&mut self, link: LinkId) {
        if self.link.id() == Some(link) && !self.is_closing() {
            self.maintain(LeaseOp::Replace);
        }
    }

    pub(super) fn link_refused(&mut self, now: Instant) {
        self.refusals = self.refusals.saturating_add(1);
        let since = *self.first_refusal.get_or_insert(now);
        if self.refusals >= MAX_REFUSALS && now.saturating_duration_since(since) >= REFUSAL_PERIOD {
            return self.fail(now, End::Refused);
        }
        self.lose_lease_by_link(now, Cause::LinkRefused);
    }

    fn lose_lease_by_link(&mut self, now: Instant, cause: Cause) {
        match self.lease {
            Lease::Active { .. } => self.lose_lease(now, cause),
            Lease::Renewing { .. } => self.pending_loss = Some(cause),
            // A new lease is in progress, and a new link with it.
            Lease::Absent | Lease::Acquiring { .. } | Lease::Pruning { .. } | Lease::Deleting { .. } | Lease::Gone => {}
        }
    }

    pub(super) fn slept(&mut self, now: Instant, by: Duration) {
        if self.stage != Stage::Running {
            return;
        }
        match self.lease {
            Lease::Active { expires_at } => {
                let expires_at = lease::shortened(now, expires_at, by);
                self.lease = Lease::Active { expires_at };
                self.arm(Timer::Expire, expires_at);
                self.maintain(LeaseOp::Renew);
            }
            Lease::Renewing { op, expires_at, what } => {
                let expires_at = lease::shortened(now, expires_at, by);
                self.lease = Lease::Renewing { op, expires_at, what };
                self.arm(Timer::Expire, expires_at);
                self.slept_meanwhile = self.slept_meanwhile.saturating_add(by);
                self.check_again = true;
            }
            Lease::Acquiring { .. } => {
                self.slept_meanwhile = self.slept_meanwhile.saturating_add(by);
                self.check_again = true;
            }
            Lease::Absent | Lease::Pruning { .. } | Lease::Deleting { .. } | Lease::Gone => {}
        }
        if self.take(Timer::Attempt).is_some() {
            self.attempt();
        }
        if !by.is_zero() {
            // Their earlier proofs no longer count.
            self.formers.iter_mut().for_each(|former| former.proven = false);
            self.disarm(Timer::Retire);
            self.retire(self.formers.len());
        }
        match self.link {
            // Connections do not survive a sleep, but take time to report that.
            Link::Opening { link } | Link::Up { link } => {
                self.effects.push_back(Effect::CloseLink { link });
                if self.expires_at().is_some() {
                    self.dial();
                } else {
                    self.link = Link::Down;
                    self.disarm(Timer::Stable);
                }
            }
            Link::Down if self.is_armed(Timer::Reopen) => self.dial(),
            Link::Down => {}
        }
    }
}
