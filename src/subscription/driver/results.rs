//! Processes the results of calls.

use std::time::Duration;

use tokio::time::Instant;

use super::Driver;
use crate::control::SubscriptionInfo;
use crate::delivery::{Certainty, Delivery, GapCause};
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::ids::SubscriptionId;
use crate::subscription::active::{Address, Described, Former, Handover};
use crate::subscription::cleanup::Orphan;
use crate::subscription::continuity::Interval;
use crate::subscription::failures::FailedCall;
use crate::subscription::lease::{self, Lease};
use crate::subscription::machine::{self, Input, Op};
use crate::subscription::ops::{self, Asked, Done};
use crate::telemetry;
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
                    if !has_address {
                        self.routes.unanswered();
                    }
                }
                if self.machine.is_renewal(op) {
                    self.meter.renewed(result.as_ref().as_ref().err());
                }
                let takes_over = self.routes.answered(op);
                match *result {
                    Ok(info) => self.leased(op, takes_over, asked.as_sent(&info), info),
                    Err(error) => self.failed(op, error),
                }
            }
            Done::Pruned { op, deleted } => {
                deleted.iter().for_each(|id| self.cleanup.gone(id));
                self.feed(Input::Pruned { op, deleted: deleted.len() });
            }
            Done::Deleted { op, before, result } => {
                let gone = self.cleanup.was_gone_before(&result);
                if let Some(before) = before.filter(|_| self.cleanup.audited()) {
                    self.audited_at_end(*before, gone);
                }
                match result {
                    Ok(_) => self.feed(Input::Deleted { op, found: !gone }),
                    Err(error) => self.failed(op, error),
                }
            }
            Done::Superseded { taken_over, result } => self.former_described(taken_over, *result),
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

    /// Whether the subscription delivers at another address than the one that is read.
    pub(super) fn is_elsewhere(&self, info: &SubscriptionInfo) -> bool {
        self.active.held.is_elsewhere(info, self.setup.transport.kind(), self.setup.has_address)
    }

    /// The answer about the key of events that no known one decrypts.
    fn key_answered(&mut self, id: &SubscriptionId, result: Result<SubscriptionInfo>) {
        let now = Instant::now();
        if !self.active.held.is_of(id) {
            return self.intake.key_outdated();
        }
        match result {
            Ok(info) => {
                let moved = !lease::is_served(&info) || self.is_elsewhere(&info);
                if let Err(error) = self.intake.key_answered(now, &info.delivery_mode) {
                    self.bad_key(error, false);
                }
                if moved {
                    // An audit carries out what follows.
                    self.feed(Input::KeyMissing);
                }
            }
            Err(error) => {
                tracing::debug!(%error, subscription = self.id_for_log(), "the present key is not known yet");
                self.intake.key_unanswered(now);
                if error.disposition() == Disposition::Recreate {
                    self.feed(Input::KeyMissing);
                }
            }
        }
    }

    /// The service's description of a subscription that another has taken over from. It may have silently stopped
    /// serving it since the last audit.
    fn former_described(&mut self, taken_over: Instant, result: Result<SubscriptionInfo>) {
        let (cause, certainty) = match result {
            Ok(info) if lease::is_served(&info) => return self.active.ledger.confirm_superseded(),
            Ok(_) => (GapCause::SubscriptionInactive, Certainty::Certain),
            Err(error) if error.status() == Some(404) => (GapCause::SubscriptionGone, Certainty::Certain),
            Err(error) => {
                tracing::debug!(%error, subscription = self.id_for_log(), "not known to be served until it was replaced");
                (GapCause::SubscriptionGone, Certainty::Possible)
            }
        };
        if let Some(gap) = self.active.ledger.superseded(taken_over) {
            self.report_gap(cause, Interval { certainty, ..gap });
        }
    }

    pub(super) fn failed(&mut self, op: Op, error: Error) {
        let call = FailedCall {
            phase: self.machine.phase(),
            transport: self.setup.transport.kind(),
            has_worked: self.active.held.lease().is_some() && self.routes.has_lease(),
            is_renewing: self.machine.is_renewing(),
        };
        let (error, disposition) = self.report.failures.call(Instant::now(), error, call);
        tracing::debug!(%error, kind = ?error.kind(), subscription = self.id_for_log(), "a call failed");
        let is_first = call.phase == machine::Phase::Starting && self.machine.failed_attempts() == 0;
        if is_first && error.kind() == ErrorKind::Network && error.sent_nothing() {
            // Probably a wrong address: a start has no status yet, and its first pauses are too short to be reported.
            tracing::warn!(?error, "the start failed and is tried again");
        }
        if self.machine.expects(op) && disposition == Disposition::Fatal && self.fail_over_refused(&error) {
            return self.record_error(error);
        }
        // The subscription that was to be continued is gone.
        if self.active.held.lease().is_none() && error.status() == Some(404) {
            self.cleanup.former_is_settled();
        }
        let unclear = error.is_ambiguous();
        if unclear && self.machine.phase() == machine::Phase::Closing {
            self.cleanup.deletion_unconfirmed();
        }
        self.record_error(error);
        self.feed(Input::Failed { op, disposition, unclear });
    }

    pub(super) fn record_error(&mut self, error: Error) {
        self.report.failures.note(self.machine.phase(), error);
    }

    pub(super) fn leased(&mut self, op: Op, takes_over: bool, asked: Asked, info: SubscriptionInfo) {
        if self.report.ending.has_ended() {
            return self.too_late(op, info.id);
        }
        if !self.machine.expects(op) {
            // The result of an abandoned call. It names another subscription than the present one: an orphan.
            if !self.active.held.is_of(&info.id) {
                self.too_late(op, info.id);
            }
            return;
        }
        // A subscription that the user named and that was never ours is not deleted.
        let ours = self.active.held.lease().is_some() || self.cleanup.has_created();
        if !lease::is_served(&info) {
            self.record_error(Error::new(ErrorKind::Rejected, "the service does not serve the subscription"));
            if ours {
                self.orphan(self.routes.current(), info.id);
            }
            return self.feed(Input::Inactive { op });
        }
        let read = self.active.held.read(&info, self.setup.transport.kind(), self.setup.has_address);
        let lease = match read {
            Ok(lease) => lease,
            Err(error) => {
                // Another process had it over another transport: it was ours, and is of no use to this one.
                let taken_up = !ours && self.active.is_resumed();
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
        let moved = self.active.held.moves_to(&lease);
        let first = self.active.held.lease().is_none();
        let key = self.intake.learn_key(&info.delivery_mode);
        let asked_for = self.setup.expires_in.map(Duration::from_secs);
        let left = self.machine.audited_lease_ends_at().map(|end| end.saturating_duration_since(asked.at.into_std()));
        let lifetime = self.active.held.lifetime(&info, asked_for, left, self.setup.clock.wall());
        self.report.failures.call_succeeded();
        if let Some(date) = info.answered_at {
            self.active.ledger.learn_date(asked.at, Instant::now(), date);
            self.follow_clock();
        }
        let handover = match (takes_over, self.routes.has_lease()) {
            (true, _) => Handover::TakesOver,
            (false, false) => Handover::Switched,
            (false, true) => Handover::Plain,
        };
        self.replace_lease(handover, lease, &info, asked);
        self.feed(Input::Leased { op, requested_at: asked.at.into_std(), lifetime, moved });
        if let Err(error) = key {
            self.bad_key(error, first);
        }
        self.check_filters(first);
        self.report_not_served();
    }

    /// The service granted an abandoned creation. Another process may continue the present subscription, and knows of no
    /// other.
    pub(super) fn too_late(&mut self, op: Op, id: SubscriptionId) {
        if !self.report.ending.keeps_subscription() || !self.active.held.is_of(&id) {
            let orphan = self.cleanup.unused(Instant::now(), self.routes.of(op), id, self.active.held.granted());
            self.delete_orphans(orphan);
        }
    }

    /// A first lease whose payloads could never be decrypted is useless; a later one is better held: its events are
    /// delivered as undecodable.
    pub(super) fn bad_key(&mut self, error: Error, first: bool) {
        tracing::warn!(%error, subscription = self.id_for_log(), "the service sent an unusable key");
        if first {
            self.record_error(error);
            self.feed(Input::Abort);
        }
    }

    fn replace_lease(&mut self, handover: Handover, lease: Lease, info: &SubscriptionInfo, asked: Asked) {
        let (now, id) = (Instant::now(), lease.id.clone());
        self.intake.learn_owner(|| self.filters.own_extension(&lease.filters));
        let (has_address, owner) = (self.setup.has_address, self.intake.owner().cloned());
        let succession = self.active.leased(now, lease, Described { info, asked, handover, has_address, owner });
        match succession.former {
            Some(Former::TakenOver(former)) => {
                let control = self.control_of(self.routes.leased());
                self.calls.start_passing(ops::audit_former(control, former.clone(), asked.at));
                self.routes.retire(self.links.epoch(), former);
            }
            Some(Former::Left(former)) => self.routes.retire(self.links.epoch(), former),
            Some(Former::Lost(former)) => self.orphan(self.routes.leased(), former),
            Some(Former::OfToken(former)) => {
                let orphan = self.cleanup.former(now, self.routes.current(), former, self.active.held.granted());
                self.delete_orphans(orphan);
            }
            None => {}
        }
        match succession.address {
            Address::First => self.links.begin(),
            Address::Same => {}
            // An answer of the peer proves nothing about events in transit at the former one.
            Address::Other => self.links.leave(now).for_each(|link| link.check()),
        }
        if let Some((cause, gap)) = succession.gap {
            self.report_gap(cause, gap);
        }
        self.routes.granted(&id, info.creation_time.as_ref().and_then(Timestamp::system_time));
        telemetry::subscribed(&id);
        self.cleanup.in_use(&id);
        // A restart continues from here, also before anything was read.
        self.push_mark();
        if succession.address == Address::First {
            self.report_left_out();
        }
    }

    /// Sets the requested filters if the service may have others.
    pub(super) fn check_filters(&mut self, first: bool) {
        let is_adopted = first && !self.cleanup.has_created();
        if self.active.held.lease().is_some_and(|lease| self.filters.must_be_set(lease, is_adopted)) {
            self.feed(Input::Update);
        }
    }

    pub(super) fn report_not_served(&mut self) {
        if let Some(not_served) = self.active.held.lease().and_then(|lease| self.filters.not_served(lease)) {
            self.intake.queue_mut().push_marker(Delivery::FiltersDisabled(not_served));
        }
    }

    /// Deletes a subscription that is provably ours.
    pub(super) fn orphan(&mut self, route: usize, id: SubscriptionId) {
        let orphan = self.cleanup.orphan(Instant::now(), route, id, self.active.held.granted());
        self.delete_orphans(orphan);
    }

    pub(super) fn delete_orphans(&mut self, orphans: impl IntoIterator<Item = Orphan>) {
        for (route, id) in orphans {
            self.calls.start(ops::discard(self.control_of(route), id));
        }
    }
}
