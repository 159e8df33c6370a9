//! Runs the machine's effects.

use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::Driver;
use crate::control::{ControlPlane, CreateSubscription, Cursor, SubscriptionInfo};
use crate::delivery::{Certainty, Delivery, Gap, GapCause};
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::ids::SubscriptionId;
use crate::subscription::cleanup::END_WITHIN;
use crate::subscription::continuity::{Interval, Loss, Span};
use crate::subscription::ending::Ended;
use crate::subscription::filters::Changed;
use crate::subscription::lease;
use crate::subscription::links::{Drained, Epoch};
use crate::subscription::machine::{self, Cause, Effect, End, Input, LinkId, Op};
use crate::subscription::ops::{self, Pending};
use crate::telemetry;
use crate::transport::{Link, LinkEvent, Target};

/// The most received answers that are read when the link is closed.
const READ_OUT: usize = 10_000;

impl Driver {
    pub(super) fn run_effects(&mut self) {
        while let Some(effect) = self.machine.poll_effect() {
            tracing::debug!(?effect, subscription = self.id_for_log(), "lifecycle");
            match effect {
                Effect::Create { op } => self.create(op),
                Effect::Prune { op } => self.prune(op),
                Effect::Adopt { op } => self.adopt(op),
                Effect::Renew { op } => self.maintain(op, ops::renew),
                Effect::Audit { op } => self.audit(op),
                Effect::Update { op } => {
                    let filters = self.filters.to_set().to_vec();
                    self.maintain(op, |control, op, id| ops::update(control, op, id, filters));
                }
                Effect::Replace { op } => self.replace(op),
                Effect::Delete { op } => {
                    let by = self.machine.closes_at().map(Instant::from_std);
                    let within = by.map_or(END_WITHIN, |by| by.saturating_duration_since(Instant::now()));
                    let audit = self.audits_before_the_end();
                    self.on_lease(op, |control, op, id| ops::delete(control, op, id, within, audit));
                }
                Effect::DeleteFormer => {
                    if let Some(former) = self.active.held.take() {
                        let orphan = self.cleanup.unused(
                            Instant::now(),
                            self.routes.leased(),
                            former.id,
                            self.active.held.granted(),
                        );
                        self.delete_orphans(orphan);
                    }
                }
                Effect::AnswerUpdate { ok } => self.answer_update(ok),
                Effect::OpenLink { link } => self.open(link),
                Effect::CloseLink { link } => self.close(link),
                Effect::FormerLinkLost => {
                    let gap = self.active.ledger.former(Instant::now());
                    self.report_gap(GapCause::AddressMoved, gap);
                }
                Effect::Gap(cause) => self.gap(cause),
                Effect::Resumed => self.resumed(),
                Effect::Finish(end) => self.finish(end),
            }
        }
        self.retire();
    }

    /// Deletes subscriptions that were taken over from and are no longer read.
    fn retire(&mut self) {
        let is_over = self.report.ending.has_ended();
        for (route, id) in self.routes.retired(|epoch| !is_over && self.links.listen_at(epoch)) {
            self.orphan(route, id);
        }
    }

    fn request(&self) -> CreateSubscription {
        let mut request =
            CreateSubscription::new(self.filters.requested().to_vec(), self.setup.transport.delivery_mode());
        request.expires_in = self.setup.expires_in;
        request
    }

    pub(super) fn create(&mut self, op: Op) {
        self.cleanup.creates(op);
        self.routes.creates(Instant::now(), self.active.id().is_some());
        self.calls.start(self.calls.watched(ops::create(self.setup.control.clone(), op, self.request())));
    }

    fn replace(&mut self, op: Op) {
        self.cleanup.creates(op);
        self.routes.replaces(Instant::now(), op);
        self.calls.start(ops::replace(self.setup.control.clone(), op, self.request()));
    }

    pub(super) fn prune(&mut self, op: Op) {
        let ids = self.cleanup.to_prune(self.active.id());
        self.calls.start(ops::prune(self.setup.control.clone(), op, ids));
    }

    pub(super) fn adopt(&mut self, op: Op) {
        if let Some((id, from)) = self.active.to_adopt() {
            let adopt = ops::adopt(self.setup.control.clone(), op, id.clone(), from.cloned());
            self.calls.start_passing(self.calls.watched(adopt));
        }
    }

    /// Audits the subscription if the transport does not do so by itself, and if that leaves room for the user's other
    /// calls.
    fn audit(&mut self, op: Op) {
        let budget = self.setup.control.rate_budget();
        let has_room = budget.is_none_or(|budget| budget.has_room_to_audit());
        if self.setup.has_address && has_room {
            return self.maintain(op, ops::audit);
        }
        self.feed(Input::Failed { op, disposition: Disposition::Retry { after: None }, unclear: false });
    }

    fn maintain(&mut self, op: Op, call: impl FnOnce(Arc<dyn ControlPlane>, Op, SubscriptionId) -> Pending) {
        if let Some(lease) = self.active.held.lease() {
            self.calls.start_passing(call(self.setup.control.clone(), op, lease.id.clone()));
        }
    }

    pub(super) fn on_lease(&mut self, op: Op, call: impl FnOnce(Arc<dyn ControlPlane>, Op, SubscriptionId) -> Pending) {
        if let Some(lease) = self.active.held.lease() {
            self.calls.start(call(self.control_of(self.routes.leased()), op, lease.id.clone()));
        }
    }

    /// Whether to audit the subscription before it is deleted: once, if a reader can receive a gap, and none is open
    /// already.
    fn audits_before_the_end(&mut self) -> bool {
        let asks =
            self.report.ending.has_reader_at_end() && !self.setup.polls && self.active.ledger.open_since().is_none();
        self.cleanup.audits(asks)
    }

    pub(super) fn answer_update(&mut self, ok: bool) {
        let (error, is_ambiguous) = self.report.failures.of_update();
        let Some(Changed { reply, added }) = self.filters.changed(ok, is_ambiguous, self.now().to) else { return };
        let result = if ok {
            self.recovery.change_filters(self.filters.requested(), Instant::now());
            self.polls_leave_out_more(&added);
            self.report_not_served();
            Ok(())
        } else {
            Err(error)
        };
        match reply {
            // The caller may have stopped waiting; the change stands.
            Some(reply) => drop(reply.send(result)),
            None => {
                if let Err(error) = result {
                    tracing::warn!(%error, "the filters could not be set; again with the next renewal");
                }
            }
        }
    }

    pub(super) fn open(&mut self, link: LinkId) {
        let Some(lease) = self.active.held.lease() else { return };
        let target = Target {
            subscription_id: lease.id.clone(),
            address: lease.address.clone(),
            subscriber_key: lease.subscriber_key.clone(),
            user_id: None,
            cursor: self.active.cursor().cloned().unwrap_or_else(|| Cursor::at(self.setup.clock.wall())),
            last_good: self.active.ledger.read_at(),
        };
        let subscription = target.subscription_id.clone();
        let span = telemetry::link(self.setup.transport.kind(), &subscription);
        let opening = ops::open(self.setup.control.clone(), self.setup.transport.clone(), link, target, span);
        let (call, abort) = ops::abortable(self.calls.watched(opening));
        self.links.open(link, subscription, abort);
        self.calls.start_passing(call);
    }

    pub(super) fn close(&mut self, id: LinkId) {
        let Some((epoch, mut link)) = self.links.close(id) else { return };
        if self.report.ending.drains_links() {
            self.read_out(epoch, &mut *link);
        }
        // Without a close frame, if another process is to continue the session.
        if !self.report.ending.keeps_subscription() {
            self.calls.start(ops::part(link));
        }
    }

    /// The end is requested: the present link checks whether something is unread.
    pub(super) fn drain(&mut self) {
        let machine = &self.machine;
        if let Some(link) = self.links.drain(Instant::now(), |link| machine.is_current(link)) {
            link.check();
        }
    }

    /// The service's description of the subscription before its deletion. It may have silently stopped serving it since
    /// the last audit.
    pub(super) fn audited_at_end(&mut self, before: Result<SubscriptionInfo>, gone: bool) {
        let losses = [Loss::There];
        let now = Instant::now();
        match before {
            Ok(info) if lease::is_served(&info) && !self.is_elsewhere(&info) => {}
            // A renewal whose answer was lost moved it, and the new address was never read.
            Ok(info) if lease::is_served(&info) => {
                let gap = self.active.ledger.possible(now, &losses);
                self.end_unread(GapCause::AddressMoved, gap);
            }
            Ok(_) => {
                let gap = Interval { certainty: Certainty::Certain, ..self.active.ledger.possible(now, &losses) };
                self.end_unread(GapCause::SubscriptionInactive, gap);
            }
            // The end of the deletion opens the gap.
            Err(_) if gone => {}
            Err(error) if error.status() == Some(404) => {
                let gap = Interval { certainty: Certainty::Certain, ..self.active.ledger.possible(now, &losses) };
                self.end_unread(GapCause::SubscriptionGone, gap);
            }
            Err(error) => {
                tracing::debug!(%error, subscription = self.id_for_log(), "not known to be served until the end");
                let gap = self.active.ledger.possible(now, &losses);
                self.end_unread(GapCause::EndedOffline, gap);
            }
        }
    }

    pub(super) fn drained(&mut self) {
        let (now, ledger) = (Instant::now(), &self.active.ledger);
        let Some(Drained { link, is_read }) = self.links.drained(now, |asked| ledger.is_read(asked)) else { return };
        if !is_read {
            let gap = self.active.ledger.possible(now, &[Loss::Read]);
            self.end_unread(GapCause::EndedOffline, gap);
        }
        if self.report.ending.has_ended() {
            self.close(link);
        }
    }

    /// Delivers the events that arrived before the end.
    fn read_out(&mut self, epoch: Epoch, link: &mut dyn Link) {
        for _ in 0..READ_OUT {
            match link.next().now_or_never() {
                Some(Ok(LinkEvent::Batch(batch))) => {
                    if let Some(batch) = self.routed(epoch, batch) {
                        self.batch(epoch, batch);
                    }
                }
                Some(Ok(LinkEvent::Continued { asked, read_to_end, buffer })) => {
                    self.continued(epoch, asked, read_to_end, buffer);
                }
                Some(Ok(LinkEvent::Answered { asked })) => self.answered(epoch, asked),
                Some(Ok(LinkEvent::Alive | LinkEvent::At(_) | LinkEvent::Leaving)) => {}
                Some(Err(_)) | None => break,
            }
        }
    }

    pub(super) fn gap(&mut self, cause: Cause) {
        // The subscription may have been gone before the event that made its replacement necessary.
        let since = self.active.ledger.open(&Loss::REPLACED);
        let cause = match cause {
            Cause::Expired => GapCause::LeaseExpired,
            Cause::Gone => GapCause::SubscriptionGone,
            Cause::Inactive => GapCause::SubscriptionInactive,
            Cause::LinkRefused => GapCause::TransportRefused,
            Cause::SessionLost => GapCause::SessionLost,
            Cause::TooLarge => GapCause::TooLarge,
            Cause::TransportSwitched => GapCause::TransportChanged,
        };
        tracing::info!(cause = cause.as_str(), subscription = self.id_for_log(), "events are being missed");
        let certainty = if cause == GapCause::TransportChanged { Certainty::Possible } else { Certainty::Certain };
        let until = self.is_ending().then(|| self.active.ledger.latest(since, self.now().to));
        let filters = self.filters.since(since).to_vec();
        self.fill_with_next();
        self.recovery.plan.put_off();
        self.recovery.opened(&filters);
        let gap = Gap { cause, certainty, since: Some(self.active.ledger.earliest(since)), until, lost: None, filters };
        self.intake.queue_mut().push_marker(Delivery::Gap(gap));
    }

    /// The service's time.
    pub(super) fn now(&self) -> Span {
        self.active.ledger.time(Instant::now())
    }

    fn is_ending(&self) -> bool {
        matches!(self.machine.phase(), machine::Phase::Closing | machine::Phase::Closed)
    }

    pub(super) fn resumed(&mut self) {
        tracing::info!(subscription = self.id_for_log(), "events arrive again");
        let recreated = self.active.take_recreated();
        let gap = self.active.ledger.close(Instant::now());
        self.end_gap(Some(gap.since), recreated);
    }

    /// A gap as the reader gets it: the times on events are by other clocks than the `Date` of
    /// answers.
    pub(super) fn reported(&self, cause: GapCause, Interval { since, until, certainty }: Interval) -> Gap {
        let filters = self.filters.since(since).to_vec();
        let (since, until) = (Some(self.active.ledger.earliest(since)), Some(self.active.ledger.latest(since, until)));
        Gap { cause, certainty, since, until, lost: None, filters }
    }

    /// A possible gap ends where it is noticed.
    pub(super) fn report_gap(&mut self, cause: GapCause, interval: Interval) {
        let (gap, since) = (self.reported(cause, interval), interval.since);
        self.recovery.opened(&gap.filters);
        tracing::info!(cause = gap.cause.as_str(), subscription = self.id_for_log(), "events may be missing");
        self.fill_with_next();
        self.intake.queue_mut().push_marker(Delivery::Gap(gap));
        self.end_gap(Some(since), None);
    }

    pub(super) fn finish(&mut self, end: End) {
        tracing::info!(?end, subscription = self.id_for_log(), "the subscription has ended");
        let Ended { began, within, leaves_orphan } = self.report.ending.ended(end);
        if self.cleanup.audited() {
            // The end's time was over before the service answered.
            self.audited_at_end(Err(Error::new(ErrorKind::Timeout, "the audit was not answered")), false);
        }
        self.links.end();
        if let Some(lease) = self.active.held.lease() {
            self.cleanup.ended(&lease.id, leaves_orphan);
        }
        self.filters.end();
        self.cleanup.end(Instant::now(), began, within);
    }
}
