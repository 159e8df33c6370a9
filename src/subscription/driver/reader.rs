//! Delivers items to the reader, and handles its requests.

use std::time::{Duration, SystemTime};

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};
use tracing::Span;

use super::Driver;
use crate::batches::Sender;
use crate::dedup::About;
use crate::delivery::{Delivery, Gap, GapCause, Undecodable};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Notification;
use crate::ids::SubscriptionId;
use crate::status::Status;
use crate::subscription::calls::Calls;
use crate::subscription::cleanup::END_WITHIN;
use crate::subscription::continuity::{Interval, Loss, Proof};
use crate::subscription::ending::{Request, Shutdown, Start, Unread};
use crate::subscription::intake::Admitted;
use crate::subscription::machine::{self, Input};
use crate::subscription::ops::{self, Done};
use crate::subscription::ports::{Batch, Command, StreamItem, Update};
use crate::subscription::progress::{Step, Traces};
use crate::subscription::queue::{Discarded, Item};
use crate::subscription::report::Facts;
use crate::telemetry;

impl Driver {
    /// Sends what waits in one batch, as far as there is room. The rest stays in the queue, where it can be amended:
    /// equal gaps become one, and an end names what else stays open.
    pub(super) fn deliver(&mut self, out: &Sender<Batch>) -> Result<(), ()> {
        let (mut batch, mut bytes) = (Batch::new(), 0);
        loop {
            self.report_undecrypted();
            self.check_key();
            if !out.has_room(bytes) || !self.intake.is_ready() {
                break;
            }
            // A position that is held back is no item.
            let Some(item) = self.intake.next() else { continue };
            bytes += item.weight().max(self.setup.item_bytes);
            if let Item::Marker(Delivery::Gap(gap)) = &item
                && gap.cause == GapCause::Overflow
                && gap.lost.is_some()
            {
                self.refill(gap.since, gap.filters.clone());
            }
            batch.extend(self.decode(item));
        }
        if !batch.is_empty() {
            out.send(batch, bytes);
        }
        self.meter.queued(self.intake.queue().bytes());
        let is_live = self.machine.phase() == machine::Phase::Live;
        self.routes.observe(Instant::now(), is_live, self.intake.queue().is_empty());
        if out.is_closed() { Err(()) } else { Ok(()) }
    }

    /// Asks the service for the key that the next payload waits for.
    fn check_key(&mut self) {
        // At the end nothing waits. Without a lease, or an address, there is no key to ask for.
        let is_held = self.machine.expires_at().is_some() && self.setup.has_address;
        let lease = self.active.held.lease().filter(|_| is_held && !self.report.ending.has_begun());
        let must_ask = self.intake.needs_key(Instant::now(), lease.is_some(), self.machine.is_renewing());
        let Some(lease) = lease.filter(|_| must_ask) else { return };
        if self.setup.control.rate_budget().is_none_or(|budget| budget.has_room_to_audit()) {
            self.calls.start_passing(ops::ask_for_key(self.setup.control.clone(), lease.id.clone()));
        } else {
            self.intake.key_unanswered(Instant::now());
        }
    }

    /// Events that no key decrypts are a possible gap, which begins with the last decrypted event.
    fn report_undecrypted(&mut self) {
        let Some(span) = self.intake.undecrypted_due(Instant::now(), self.report.ending.has_begun()) else { return };
        let interval = self.active.ledger.unopened(span);
        let gap = self.reported(GapCause::KeyUnknown, interval);
        self.refill(Some(interval.since), gap.filters.clone());
        self.intake.queue_mut().push_first(Item::Marker(Delivery::Gap(gap)));
    }

    /// Turns a waiting item into the reader's; `None` for a duplicate.
    pub(super) fn decode(&mut self, item: Item) -> Option<StreamItem> {
        let (frame, keys, emitted) = match item {
            Item::Frame { frame, keys, emitted } => (frame, keys, emitted),
            Item::Found { found, at } => return self.found(found, at),
            Item::Marker(delivery) => return Some(StreamItem::Delivery { delivery, traces: Traces::default() }),
            Item::End { resumed, .. } => {
                return Some(StreamItem::Delivery { delivery: Delivery::Resumed(resumed), traces: Traces::default() });
            }
            Item::Mark(mark) => return Some(StreamItem::Step(Step::Mark(mark))),
            Item::Position { source, position } => return Some(StreamItem::Step(Step::Position { source, position })),
        };
        let (now, sent) = (Instant::now(), frame.sent_at);
        let opened = self.intake.open(now, frame, &keys, emitted);
        let can_ask = self.recovery.can_ask();
        let (mut about, mut is_copy) = (None, false);
        match &opened.delivery {
            Delivery::Notification(notification) => {
                self.learn_owner(notification);
                if let Some(sent) = sent {
                    self.active.ledger.prove(now, Proof::Decrypted { sent });
                }
                let event = self.intake.owned(notification);
                is_copy = !self.routes.admit(&event, now);
                // A count that two subscriptions push waits for its messages once.
                if !is_copy && self.intake.is_first(&opened, now) {
                    if self.is_enriched(notification) {
                        self.intake.replaced(&opened, now);
                        return None;
                    }
                    about = self.intake.compares_subjects(can_ask).then(|| About::of(&event));
                }
            }
            Delivery::Undecodable(Undecodable { reason, .. }) => {
                tracing::warn!(%reason, subscription = self.id_for_log(), "undecodable payload");
            }
            _ => {}
        }
        let Some(Admitted { delivery, traces, subjects }) = self.intake.admit(opened, about, is_copy, can_ask, now)
        else {
            tracing::trace!(subscription = self.id_for_log(), "a repetition");
            self.meter.duplicate();
            return None;
        };
        self.recovery.plan.delivered(now.into_std(), subjects);
        Some(StreamItem::Delivery { delivery, traces })
    }

    /// The first event that names its extension shows what `~` stands for.
    pub(super) fn learn_owner(&mut self, notification: &Notification) {
        let written = || self.filters.own_extension(&[notification.event_uri()]);
        if let Some(owner) = self.intake.learn_owner(|| notification.owner_id().cloned().or_else(written)) {
            self.active.learn_owner(owner);
        }
    }

    pub(super) fn command(&mut self, command: Command) {
        match command {
            Command::Update(update) => {
                let Update { filters, answer } = *update;
                if !self.report.ending.has_ended() {
                    match self.filters.change(filters, answer, self.machine.update_pending()) {
                        Ok(()) => self.feed(Input::Update),
                        Err(answer) => {
                            let busy = Error::new(ErrorKind::Busy, "another change of this subscription is pending");
                            drop(answer.send(Err(busy)));
                        }
                    }
                }
            }
            Command::Revalidate => {
                self.feed(Input::Slept { by: Duration::ZERO });
                self.recovery.poll_now(Instant::now());
            }
        }
    }

    pub(super) fn shut_down(&mut self, how: Shutdown) {
        let phase = self.machine.phase();
        let is_polled = self.recovery.is_polled();
        let Request { unread, delete, within, linger } = self.report.ending.request(how, phase, is_polled);
        match unread {
            Unread::Report(cause) => {
                if cause == GapCause::NotPolled {
                    self.polls_end(&GapCause::NotPolled);
                }
                let gap = self.active.ledger.possible(Instant::now(), &[Loss::Read]);
                let since = self.recovery.counts_wait_since().map_or(gap.since, |counts| counts.min(gap.since));
                self.end_unread(cause, Interval { since, ..gap });
            }
            Unread::Check => self.drain(),
            Unread::Ignore => {}
        }
        self.feed(Input::Close { delete, within, linger });
        match how {
            Shutdown::Drain => {}
            Shutdown::Discard => self.discard_queue(),
            Shutdown::Dropped => self.intake.drop_items(),
        }
    }

    /// A possible gap without an end marker, since nothing follows it.
    pub(super) fn end_unread(&mut self, cause: GapCause, interval: Interval) {
        let gap = self.reported(cause, interval);
        self.intake.queue_mut().push_marker(Delivery::Gap(gap));
    }

    pub(super) fn discard_queue(&mut self) {
        if let Some(Discarded { since, certainty, lost }) = self.intake.queue_mut().discard() {
            let begun = since.unwrap_or(SystemTime::UNIX_EPOCH);
            let (cause, until) = (GapCause::Discarded, Some(self.active.ledger.latest(begun, self.now().to)));
            let filters = self.filters.since(begun).to_vec();
            let gap = Gap { cause, certainty, since, until, lost, filters };
            self.intake.queue_mut().push_marker(Delivery::Gap(gap));
        }
    }

    pub(super) fn reader_gone(&mut self) {
        if !self.report.ending.is_dropped() {
            self.shut_down(Shutdown::Dropped);
        }
        self.intake.drop_items();
    }

    pub(super) fn report_start(&mut self, started: &mut Option<oneshot::Sender<Result<()>>>) {
        let (now, phase) = (Instant::now(), self.machine.phase());
        let outcome = match self.report.ending.start(now, phase, self.cleanup.is_settled(now)) {
            Start::Pending => return,
            Start::Succeeded => Ok(()),
            Start::Failed(end) => Err(self.report.failures.of_end(end).unwrap_or_else(|| {
                Error::new(ErrorKind::Closed, "the subscription was closed while it was being created")
            })),
        };
        if let Some(started) = started.take() {
            let refused = started.send(outcome).is_err();
            if refused {
                self.reader_gone();
            }
        }
    }

    pub(super) fn is_over(&self) -> bool {
        let is_settled = self.cleanup.is_settled(Instant::now());
        self.report.ending.has_ended() && self.intake.queue().is_empty() && is_settled && self.links.is_drained()
    }

    /// Reports the end; then calls in flight get a limited time, so that a late grant leaves no orphan.
    pub(super) async fn report_end(&mut self, out: Sender<Batch>) {
        self.links.take_all().for_each(|link| self.calls.start(ops::part(link)));
        if let Some(error) = self.report.ending.end().and_then(|end| self.report.failures.of_end(end)) {
            telemetry::failed(&Span::current(), &error);
            out.send(Batch::from([StreamItem::End(error)]), 0);
        }
        drop(out);
        while let Some(done) = self.calls.next_lasting().await {
            self.done(done);
        }
    }

    /// After a panic of the task: deletes its subscriptions, within a limited time.
    pub(super) async fn abandon(mut self: Box<Self>) {
        tracing::error!(subscription = self.id_for_log(), "the subscription's task panicked");
        drop(self.links.take_all());
        let mut calls = std::mem::replace(&mut self.calls, Calls::new()).without_passing();
        let mut held = self.routes.retired(|_| false);
        if self.report.ending.deletes_when_dropped() {
            held.extend(self.active.held.lease().map(|lease| (self.routes.leased(), lease.id.clone())));
        }
        held.iter().for_each(|(route, id)| calls.start(ops::discard(self.control_of(*route), id.clone())));
        let (control, registry) = (self.setup.control.clone(), self.setup.registry.clone());
        drop(self);
        let deleting = async {
            while let Some(done) = calls.next_lasting().await {
                match done {
                    Done::Discarded { id, gone: true, .. } => registry.gone(&id),
                    Done::Discarded { id, gone: false, .. } => registry.left_over(&id),
                    // The result of a call in flight is not needed now.
                    Done::Lease { result, .. } => {
                        let made = result.ok().filter(|info| held.iter().all(|(_, id)| *id != info.id));
                        made.into_iter().for_each(|info| calls.start(ops::discard(control.clone(), info.id)));
                    }
                    _ => {}
                }
            }
        };
        if timeout(END_WITHIN, deleting).await.is_err() {
            held.iter().for_each(|(_, id)| registry.left_over(id));
        }
    }

    pub(super) fn publish(&mut self, status: &watch::Sender<Status>) {
        let (now, wall) = (Instant::now(), self.setup.clock.wall());
        let facts = Facts {
            phase: self.machine.phase(),
            transport: self.setup.transport.kind(),
            id: self.active.id(),
            expires_at: self.machine.expires_at(),
            failed_attempts: self.machine.failed_attempts(),
            is_polling: self.recovery.plan.is_polling(now.into_std()),
            is_poll_failing: self.recovery.is_poll_failing(),
            does_source_fail: self.recovery.does_source_fail(),
            missing_since: self.active.ledger.open_since().into_iter().chain(self.recovery.unfilled_since()).min(),
            is_settled: self.cleanup.is_settled(now),
            is_deleted: self.machine.is_deleted() && self.cleanup.is_clean(now),
            call_waits: self.calls.longest_wait(),
            next_attempt: self.machine.waits_until().map(Instant::from_std),
        };
        status.send_if_modified(|status| {
            let Some(new) = self.report.update(now, wall, facts, status) else { return false };
            if let Some(wait) = new.waiting.filter(|wait| status.waiting != Some(*wait)) {
                tracing::warn!(
                    cause = wait.cause.as_str(),
                    seconds = wait.until.duration_since(wall).unwrap_or_default().as_secs(),
                    phase = new.phase.as_str(),
                    subscription = facts.id.map(SubscriptionId::as_str),
                    error = new.last_error.as_ref().map(tracing::field::debug),
                    "waiting before the next try"
                );
            }
            self.meter.changed(&new);
            *status = new;
            true
        });
    }
}
