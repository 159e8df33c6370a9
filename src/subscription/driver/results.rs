//! Processes the results of calls.

use super::*;
use crate::subscription::failures::FailedCall;
use crate::timestamp::Timestamp;

impl Driver {
    pub(super) fn done(&mut self, done: Done) {
        match done {
            Done::Lease { op, asked, result } => {
                let is_ambiguous = result.as_ref().as_ref().is_err_and(|error| error.is_ambiguous());
                let route = self.routes.of(op);
                let has_address = self.setup.routes.get(route).map_or(self.setup.has_address, |it| it.has_address);
                if self.cleanup.answered(Instant::now(), op, route, is_ambiguous, has_address) {
                    tracing::warn!(
                        subscription = self.id_for_log(),
                        "a creation was not answered: the subscription that it may have made stays at the service until \
                         it expires"
                    );
                }
                let takes_over = self.routes.answered(op);
                match *result {
                    Ok(info) => self.leased(op, takes_over, asked.as_sent(&info), info),
                    Err(error) => self.failed(op, error),
                }
            }
            Done::Pruned { op, deleted } => {
                deleted.iter().for_each(|id| self.cleanup.gone(id));
                self.give(Input::Pruned { op, deleted: deleted.len() });
            }
            Done::Deleted { op, before, result } => {
                let gone = self.cleanup.was_gone_before(&result);
                if let Some(before) = before {
                    self.seen_at_end(*before, gone);
                }
                match result {
                    Ok(_) => self.give(Input::Deleted { op, found: !gone }),
                    Err(error) => self.failed(op, error),
                }
            }
            Done::Superseded { taken_over, result } => self.looked_back(taken_over, *result),
            Done::Jumped { by, asked, result } => self.judged(by, asked, &result),
            Done::Key { id, result } => self.key_answered(&id, *result),
            Done::Opened { link, result } => self.opened(link, result),
            Done::Discarded { id, gone: true, .. } => self.cleanup.gone(&id),
            Done::Discarded { id, gone: false, may_pass } => {
                tracing::warn!(subscription = %id, may_pass, "failed to delete an orphaned subscription");
                self.cleanup.not_deleted(Instant::now(), &id, may_pass);
            }
            Done::Begun { source, turn, result } => self.begun(source, turn, result),
            Done::Synced { source, turn, result } => self.synced(source, turn, result),
            Done::Parted | Done::BrokenOff => {}
        }
    }

    /// The answer about the key of events that no known one decrypts.
    fn key_answered(&mut self, id: &SubscriptionId, result: Result<SubscriptionInfo>) {
        let now = Instant::now();
        let Some(lease) = self.held.lease().filter(|lease| lease.id == *id) else {
            return self.intake.key_outdated();
        };
        match result {
            Ok(info) => {
                let kind = self.setup.transport.kind();
                let moved = !lease::is_served(&info)
                    || Lease::read(&info, Some(lease), kind, true).map_or(true, |read| !lease.same_place(&read));
                if let Err(error) = self.intake.key_answered(now, &info.delivery_mode) {
                    self.bad_key(error, false);
                }
                if moved {
                    // An audit carries out what follows.
                    self.give(Input::KeyMissing);
                }
            }
            Err(error) => {
                tracing::debug!(%error, subscription = self.id_for_log(), "the present key is not known yet");
                self.intake.key_unanswered(now);
                if error.disposition() == Disposition::Recreate {
                    self.give(Input::KeyMissing);
                }
            }
        }
    }

    /// The service's description of a subscription that another has taken over from. It may have silently stopped
    /// serving it since the last audit.
    fn looked_back(&mut self, taken_over: Instant, result: Result<SubscriptionInfo>) {
        let (cause, certainty) = match result {
            Ok(info) if lease::is_served(&info) => return self.ledger.confirm_superseded(),
            Ok(_) => (GapCause::SubscriptionInactive, Certainty::Certain),
            Err(error) if error.status() == Some(404) => (GapCause::SubscriptionGone, Certainty::Certain),
            Err(error) => {
                tracing::debug!(%error, subscription = self.id_for_log(), "not known to be served until it was replaced");
                (GapCause::SubscriptionGone, Certainty::Possible)
            }
        };
        if let Some(gap) = self.ledger.superseded(taken_over) {
            self.tell_gap(cause, Interval { certainty, ..gap });
        }
    }

    pub(super) fn failed(&mut self, op: Op, error: Error) {
        let call = FailedCall {
            phase: self.machine.phase(),
            transport: self.setup.transport.kind(),
            has_worked: self.held.lease().is_some() && self.routes.has_lease(),
            is_renewing: self.machine.is_renewing(),
        };
        let (error, disposition) = self.report.failures.call(Instant::now(), error, call);
        tracing::debug!(%error, kind = ?error.kind(), subscription = self.id_for_log(), "a call failed");
        if self.machine.expects(op) && disposition == Disposition::Fatal && self.fail_over_refused(&error) {
            return self.note(error);
        }
        // The subscription that was to be continued is gone.
        if self.held.lease().is_none() && error.status() == Some(404) {
            self.cleanup.former_is_settled();
        }
        let unclear = error.is_ambiguous();
        if unclear && self.machine.phase() == machine::Phase::Closing {
            self.cleanup.deletion_unconfirmed();
        }
        self.note(error);
        self.give(Input::Failed { op, disposition, unclear });
    }

    pub(super) fn note(&mut self, error: Error) {
        self.report.failures.note(self.machine.phase(), error);
    }

    pub(super) fn leased(&mut self, op: Op, takes_over: bool, asked: Asked, info: SubscriptionInfo) {
        if self.report.ending.has_ended() {
            return self.too_late(op, info.id);
        }
        if !self.machine.expects(op) {
            // The result of an abandoned call. It names another subscription than the present one: an orphan.
            if !self.held.is_of(&info.id) {
                self.too_late(op, info.id);
            }
            return;
        }
        // A subscription that the user named and that was never ours is not deleted.
        let ours = self.held.lease().is_some() || self.cleanup.has_created();
        if !lease::is_served(&info) {
            self.note(Error::new(ErrorKind::Rejected, "the service does not serve the subscription"));
            if ours {
                self.orphan(self.routes.current(), info.id);
            }
            return self.give(Input::Inactive { op });
        }
        let read = self.held.read(&info, self.setup.transport.kind(), self.setup.has_address);
        let lease = match read {
            Ok(lease) => lease,
            Err(error) => {
                // Another process had it over another transport: it was ours, and is of no use to this one.
                let taken_up = !ours && self.setup.resume.is_some();
                if ours || taken_up {
                    self.orphan(self.routes.current(), info.id);
                }
                if taken_up {
                    self.cleanup.former_is_settled();
                }
                return self.failed(op, if taken_up { error.with_disposition(Disposition::Recreate) } else { error });
            }
        };
        if info.is_only {
            self.cleanup.is_only(self.routes.of(op));
        }
        let moved = self.held.moves_to(&lease);
        let first = self.held.lease().is_none();
        let key = self.intake.learn_key(&info.delivery_mode);
        let asked_for = self.setup.expires_in.map(Duration::from_secs);
        let left = self.machine.looks_at().map(|end| end.saturating_duration_since(asked.at.into_std()));
        let lifetime = self.held.lifetime(&info, asked_for, left, self.setup.clock.wall());
        self.report.failures.call_succeeded();
        if let Some(date) = info.answered_at {
            self.ledger.learn_date(asked.at, Instant::now(), date);
        }
        self.replace_lease(takes_over, lease, &info, asked);
        self.give(Input::Leased { op, requested_at: asked.at.into_std(), lifetime, moved });
        if let Err(error) = key {
            self.bad_key(error, first);
        }
        self.check_filters(first);
        self.report_not_served();
    }

    /// The service granted an abandoned creation.
    pub(super) fn too_late(&mut self, op: Op, id: SubscriptionId) {
        if !self.report.ending.keeps_subscription() {
            let orphan = self.cleanup.unused(Instant::now(), self.routes.of(op), id, self.held.granted());
            self.delete_orphans(orphan);
        }
    }

    /// A first lease whose payloads could never be decrypted is useless; a later one is better held: its events are
    /// delivered as undecodable.
    pub(super) fn bad_key(&mut self, error: Error, first: bool) {
        tracing::warn!(%error, subscription = self.id_for_log(), "the service sent an unusable key");
        if first {
            self.note(error);
            self.give(Input::Abort);
        }
    }

    pub(super) fn replace_lease(&mut self, takes_over: bool, lease: Lease, info: &SubscriptionInfo, asked: Asked) {
        let resumed = self.setup.resume.take_if(|_| self.held.lease().is_none());
        let adopted = self.setup.adopt.take();
        let has_switched = !self.routes.has_lease();
        match self.held.take() {
            // It delivers until its link is closed; then it is deleted.
            Some(before) if (takes_over || has_switched) && before.id != lease.id => {
                if has_switched {
                    let old = self.recreated.take().map_or_else(|| before.id.clone(), |recreated| recreated.old);
                    self.recreated = Some(Recreated { old, new: lease.id.clone() });
                }
                if takes_over {
                    self.ledger.supersede();
                    self.calls.start_passing(ops::look_back(
                        self.control_of(self.routes.leased()),
                        before.id.clone(),
                        asked.at,
                    ));
                }
                self.routes.retire(self.links.epoch(), before.id);
                self.move_cursor(lease::before_first_event(info, asked.wall));
            }
            Some(before) if before.id != lease.id => {
                self.orphan(self.routes.leased(), before.id.clone());
                // Lost again before events arrived: the gap is still the first one's.
                let old = self.recreated.take().map_or(before.id, |recreated| recreated.old);
                self.recreated = Some(Recreated { old, new: lease.id.clone() });
                self.move_cursor(lease::before_first_event(info, asked.wall));
            }
            // It moved at some time since the address was last confirmed, which may have been long before this answer
            // was requested (found 1.4).
            Some(before) if !before.same_place(&lease) => {
                let confirmed = lease::head_start(self.ledger.since(&[Loss::Address]));
                // By the transport's own clock, should this machine's be ahead: it was confirmed at most a lifetime
                // before the last answer. At a new address nothing is older.
                let lifetime = self.held.longest_lifetime();
                let read = self.cursor.as_ref().and_then(|at| at.time().checked_sub(lifetime));
                self.move_cursor(read.map_or(confirmed, |read| read.min(confirmed)));
            }
            Some(_) => {}
            None => self.first_cursor(&lease, info, asked, resumed, adopted),
        }
        self.routes.granted(&lease.id, info.creation_time.as_ref().and_then(Timestamp::system_time));
        if !info.remembered {
            self.ledger.prove(Instant::now(), Proof::Described { asked: asked.at });
        }
        self.cleanup.in_use(&lease.id);
        self.intake.learn_owner(|| self.filters.own_extension(&lease.filters));
        let (id, fingerprint) = (lease.id.clone(), lease.fingerprint());
        let place = Arc::new(Place { id, fingerprint, owner: self.intake.owner().cloned() });
        if self.listening.is_none() {
            // Nothing was read yet, and a restart begins where this does.
            let cursor = self.cursor.clone().unwrap_or_else(|| Cursor::at(asked.wall));
            self.intake.queue_mut().push_mark(Mark { cursor, place: place.clone(), proven: self.ledger.proven() });
        }
        let first = self.listening.is_none();
        self.listening = Some(place);
        self.held.hold(lease);
        if !first {
            self.push_mark();
        }
        if first {
            self.tell_what_polls_leave_out();
        }
    }

    /// Continues at a new address, from a time before its first event. Not from the position at the former address:
    /// that may lie behind that event, if the former link was answered while the address moved.
    pub(super) fn move_cursor(&mut self, made_before: SystemTime) {
        self.cursor = Some(Cursor::at(made_before));
        self.ledger.relocate();
        // An answer of the peer proves nothing about events in transit there.
        self.links.leave(Instant::now()).for_each(|link| link.check());
    }

    pub(super) fn first_cursor(
        &mut self,
        lease: &Lease,
        info: &SubscriptionInfo,
        asked: Asked,
        resumed: Option<ResumeToken>,
        adopted: Option<SubscriptionId>,
    ) {
        self.links.begin();
        if resumed.is_none() {
            self.ledger.begin(asked.at);
        }
        let made = lease::before_first_event(info, asked.wall);
        match resumed {
            Some(token) if token.subscription_id == lease.id => self.resume_at(token, lease, made),
            Some(ResumeToken { subscription_id, .. }) => {
                let orphan = self.cleanup.former(
                    Instant::now(),
                    self.routes.current(),
                    subscription_id.clone(),
                    self.held.granted(),
                );
                self.delete_orphans(orphan);
                self.recreated = Some(Recreated { old: subscription_id, new: lease.id.clone() });
                self.cursor = Some(Cursor::at(made));
            }
            // An adopted one may be old: its events from now on are requested.
            None if adopted.as_ref() == Some(&lease.id) => {
                let answered = info.answered_at.unwrap_or(asked.wall);
                self.cursor = Some(Cursor::at(answered.min(asked.wall) - Duration::from_secs(60)));
            }
            None => {
                self.recreated = adopted.map(|old| Recreated { old, new: lease.id.clone() });
                self.cursor = Some(Cursor::at(made));
            }
        }
    }

    /// Continues where a reader stopped, and reports it if that may be too long ago or at another address.
    pub(super) fn resume_at(&mut self, token: ResumeToken, lease: &Lease, made: SystemTime) {
        let same_place = token.address == lease.fingerprint();
        self.cursor = token.cursor.map(|cursor| if same_place { cursor } else { cursor.with_detail(None) });
        self.cursor.get_or_insert_with(|| Cursor::at(made));
        let now = Instant::now();
        if !same_place {
            // At some time since it was last confirmed, while the former address still answered.
            let gap = self.ledger.possible(now, &[Loss::Address, Loss::Read]);
            self.tell_gap(GapCause::AddressMoved, gap);
        } else if self.setup.has_address && self.ledger.read_at().is_none() {
            // A clock that was set, or a machine that is younger than the token.
            let pause = self.ledger.unread_for(now);
            let gap = self.ledger.possible(now, &[Loss::Read, Loss::Buffer]);
            self.tell_gap(GapCause::ServiceBufferAged { pause }, gap);
        }
    }

    /// Sets the requested filters if the service may have others.
    pub(super) fn check_filters(&mut self, first: bool) {
        let is_adopted = first && !self.cleanup.has_created();
        if self.held.lease().is_some_and(|lease| self.filters.must_be_set(lease, is_adopted)) {
            self.give(Input::Update);
        }
    }

    pub(super) fn report_not_served(&mut self) {
        if let Some(not_served) = self.held.lease().and_then(|lease| self.filters.not_served(lease)) {
            self.intake.queue_mut().push_marker(Delivery::FiltersDisabled(not_served));
        }
    }

    /// Deletes a subscription that is provably ours.
    pub(super) fn orphan(&mut self, route: usize, id: SubscriptionId) {
        let orphan = self.cleanup.orphan(Instant::now(), route, id, self.held.granted());
        self.delete_orphans(orphan);
    }

    pub(super) fn delete_orphans(&mut self, orphans: impl IntoIterator<Item = Orphan>) {
        for (route, id) in orphans {
            self.calls.start(ops::discard(self.control_of(route), id));
        }
    }
}
