//! The gap, and the end.

use super::*;

impl Machine {
    pub(super) fn open_gap(&mut self, cause: Cause) {
        if self.gap == Gap::Closed {
            self.gap = Gap::Open;
            self.effects.push_back(Effect::Gap(cause));
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        matches!(self.stage, Stage::Closing { .. })
    }

    pub(super) fn fail(&mut self, now: Instant, end: End) {
        let starting = self.start_by.filter(|_| self.stage == Stage::Starting);
        let within = starting.map_or(START_FAREWELL, |by| by.saturating_duration_since(now).min(START_FAREWELL));
        self.close(now, end, true, within, false);
    }

    pub(super) fn close(&mut self, now: Instant, end: End, delete: bool, within: Duration, linger: bool) {
        if self.is_closing() {
            if end != (End::Closed { deleted: false }) {
                // The end is already in progress.
                self.finish_if_idle();
            }
            return;
        }
        if self.stage == Stage::Idle {
            return self.finish_as(end);
        }
        self.stage = Stage::Closing { end, delete };
        self.timers = [None; Timer::COUNT];
        self.arm(Timer::Close, now + within);
        let formers = self.formers.drain(..).map(|former| former.link);
        self.effects.extend(formers.map(|link| Effect::CloseLink { link }));
        // Events that the service sent before its answer come before it.
        if !(linger && delete && matches!(self.link, Link::Up { .. })) {
            self.close_link();
        }
        match self.lease {
            // Calls in flight are not awaited: their answers may never arrive.
            Lease::Active { .. } | Lease::Renewing { .. } => self.end_lease(),
            Lease::Absent => self.end_nothing(),
            Lease::Gone => self.finish(),
            // Only its answer names what a creation made, so it is waited for (found 5.1). What
            // it was to replace is deleted meanwhile: the creation may wait for its rate group
            // for longer than the end may take.
            Lease::Acquiring { .. } | Lease::Pruning { .. } => {
                if delete && std::mem::take(&mut self.stale) {
                    self.effects.push_back(Effect::DeleteFormer);
                }
            }
            Lease::Deleting { .. } => {}
        }
    }

    /// Ends without a lease: nothing remains at the service, except a lost lease that may still exist there.
    pub(super) fn end_nothing(&mut self) {
        if self.stale {
            return self.end_lease();
        }
        self.lease = Lease::Gone;
        self.confirm_deleted();
        self.finish();
    }

    fn confirm_deleted(&mut self) {
        self.deleted = true;
        if let Stage::Closing { end: End::Closed { deleted }, .. } = &mut self.stage {
            *deleted = true;
        }
    }

    pub(super) fn finish_if_idle(&mut self) {
        match self.lease {
            Lease::Absent => self.end_nothing(),
            Lease::Gone => self.finish(),
            Lease::Acquiring { .. }
            | Lease::Pruning { .. }
            | Lease::Active { .. }
            | Lease::Renewing { .. }
            | Lease::Deleting { .. } => {}
        }
    }

    pub(super) fn end_lease(&mut self) {
        let Stage::Closing { delete, .. } = self.stage else { return };
        if delete {
            let op = self.next_generation();
            self.lease = Lease::Deleting { op };
            self.effects.push_back(Effect::Delete { op });
        } else {
            self.lease = Lease::Gone;
            self.finish();
        }
    }

    /// If it was gone before, it has delivered nothing since, and no gap reported it.
    pub(super) fn deleted(&mut self, op: Op, found: bool) {
        if self.lease != (Lease::Deleting { op }) {
            return;
        }
        if !found && !self.stale {
            self.open_gap(Cause::Gone);
        }
        self.lease = Lease::Gone;
        self.confirm_deleted();
        self.finish();
    }

    pub(super) fn delete_failed(&mut self, now: Instant, disposition: Disposition) {
        match disposition {
            Disposition::Retry { after } => {
                let delay = self.back_off(self.renew_attempts, after);
                self.renew_attempts = self.renew_attempts.saturating_add(1);
                self.arm(Timer::Attempt, now + delay);
            }
            Disposition::Fatal
            | Disposition::Refresh
            | Disposition::Recreate
            | Disposition::Prune
            | Disposition::Resync => self.finish(),
        }
    }

    pub(super) fn finish(&mut self) {
        if let Stage::Closing { end, .. } = self.stage {
            self.finish_as(end);
        }
    }

    fn close_link(&mut self) {
        self.effects.extend(self.link.id().map(|link| Effect::CloseLink { link }));
        self.link = Link::Down;
    }

    pub(super) fn finish_as(&mut self, end: End) {
        self.close_link();
        self.stage = Stage::Finished;
        self.timers = [None; Timer::COUNT];
        self.effects.push_back(Effect::Finish(end));
    }
}
