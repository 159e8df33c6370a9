//! Processes the links' events.

use tokio::time::Instant;

use super::Driver;
use crate::control::Cursor;
use crate::delivery::GapCause;
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::ids::SubscriptionId;
use crate::subscription::continuity::{Loss, Proof};
use crate::subscription::links::{Epoch, Reads};
use crate::subscription::machine::{Cause, Input, LinkId};
use crate::subscription::ops;
use crate::telemetry;
use crate::transport::{Coverage, Link, LinkBatch, LinkEvent, PossibleLoss};

impl Driver {
    pub(super) fn opened(&mut self, id: LinkId, result: Result<Box<dyn Link>>) {
        match result {
            Ok(link) => {
                let unwanted = self.links.opened(Instant::now(), id, link);
                unwanted.into_iter().for_each(|link| self.calls.start(ops::part(link)));
                self.check_if_former(id);
            }
            Err(error) if self.links.not_opened(id) => self.link_failed(id, error),
            Err(_) => {}
        }
    }

    /// The address moved while the link was being opened: its peer is asked whether everything there is read.
    fn check_if_former(&mut self, id: LinkId) {
        if self.links.address_of(id).is_some_and(|epoch| !self.links.is_present(epoch))
            && let Some((_, link)) = self.links.reading().find(|(it, _)| *it == id)
        {
            link.check();
        }
    }

    pub(super) fn link_failed(&mut self, link: LinkId, error: Error) {
        tracing::debug!(%error, kind = ?error.kind(), subscription = self.id_for_log(), "the link failed");
        let is_current = self.machine.is_current(link) && self.routes.has_lease();
        let (phase, was_up) = (self.machine.phase(), self.machine.was_ever_up());
        let disposition = self.report.failures.link(Instant::now(), &error, phase, was_up);
        if is_current && disposition == Disposition::Fatal && self.fail_over_refused(&error) {
            return self.record_error(error);
        }
        let input = match (disposition, error.kind()) {
            (Disposition::Recreate, ErrorKind::SessionLost) => Input::LinkLost { link, cause: Cause::SessionLost },
            (Disposition::Recreate, ErrorKind::Protocol) => Input::LinkLost { link, cause: Cause::TooLarge },
            (disposition, _) => Input::LinkFailed { link, disposition },
        };
        self.record_error(error);
        self.feed(input);
    }

    pub(super) fn link_event(&mut self, id: LinkId, event: Result<LinkEvent>) {
        let Some(epoch) = self.links.address_of(id) else { return };
        match event {
            Err(error) => {
                self.links.ended(id);
                self.link_failed(id, error);
            }
            Ok(LinkEvent::Alive) => {
                self.report.failures.link_succeeded();
                self.feed(Input::LinkAlive { link: id });
            }
            Ok(LinkEvent::At(cursor)) => self.at(epoch, cursor),
            Ok(LinkEvent::Answered { asked }) => {
                let is_read = self.links.is_read(id, asked)
                    && (self.links.is_present(epoch) || self.active.ledger.is_former_read(asked));
                if is_read {
                    self.links.read(id);
                }
                self.feed(if is_read { Input::LinkRead { link: id } } else { Input::LinkAlive { link: id } });
                self.answered(epoch, asked);
            }
            Ok(LinkEvent::Continued { asked, read_to_end, buffer }) => {
                self.continued(epoch, asked, read_to_end, buffer);
            }
            Ok(LinkEvent::Leaving) => self.feed(Input::LinkLeaving { link: id }),
            Ok(LinkEvent::Batch(batch)) => {
                let Some(batch) = self.routed(epoch, batch) else { return };
                self.feed(if batch.frames.is_empty() {
                    Input::LinkAlive { link: id }
                } else {
                    Input::LinkProgress { link: id }
                });
                let _within = telemetry::batch(batch.frames.len()).entered();
                // The effects (the end of a gap) come before the events.
                self.run_effects();
                self.batch(epoch, batch);
            }
        }
    }

    pub(super) fn reads_links(&mut self, now: Instant) -> bool {
        match self.links.reads(now, self.intake.queue().is_full()) {
            Reads::Yes => true,
            Reads::No => false,
            Reads::Dropping => {
                tracing::debug!(
                    subscription = self.id_for_log(),
                    "the reader is too slow: what does not fit is dropped"
                );
                self.intake.queue_mut().spill();
                true
            }
        }
    }

    /// A position does not prove that the subscription delivers.
    fn at(&mut self, epoch: Epoch, cursor: Cursor) {
        if self.links.is_present(epoch) {
            self.active.read_to(cursor);
            self.push_mark();
        }
    }

    /// Everything before this position in the stream was read, and that is proven.
    pub(super) fn push_mark(&mut self) {
        let alone = self.links.listen_at_present_only();
        if alone {
            self.active.ledger.leave_former();
        }
        if let Some(mark) = self.active.mark().filter(|_| alone) {
            self.intake.queue_mut().push_mark(mark);
        }
    }

    /// The peer answered over the link to a question that was sent at `asked`.
    pub(super) fn answered(&mut self, epoch: Epoch, asked: Instant) {
        if self.links.is_present(epoch) {
            self.active.ledger.prove(Instant::now(), Proof::Reply { asked });
            self.push_mark();
        }
    }

    pub(super) fn continued(&mut self, epoch: Epoch, asked: Instant, read_to_end: bool, buffer: usize) {
        let is_present = self.links.is_present(epoch);
        if let Some(gap) = self.active.ledger.continued(Instant::now(), asked, read_to_end, buffer, is_present) {
            self.report_gap(GapCause::ConnectionBroken, gap);
        }
    }

    /// The batch, unless it names another subscription: that proves nothing about this one, not even a live link.
    pub(super) fn routed(&mut self, epoch: Epoch, batch: LinkBatch) -> Option<LinkBatch> {
        let Some(count) = self.links.misrouted(epoch, batch.subscription.as_ref()) else { return Some(batch) };
        tracing::warn!(
            count,
            of = batch.subscription.as_ref().map(SubscriptionId::as_str),
            subscription = self.id_for_log(),
            "the transport routed a batch to the wrong subscription: it is ignored"
        );
        None
    }

    pub(super) fn batch(&mut self, epoch: Epoch, batch: LinkBatch) {
        let LinkBatch { frames, cursor, coverage, possible_loss: loss, .. } = batch;
        let now = Instant::now();
        let is_present = self.links.is_present(epoch);
        let known = frames.first().is_some_and(|first| self.intake.has_seen(first, now));
        match loss {
            // The buffer still held events that were read before: it lost nothing (found 2.5).
            Some(PossibleLoss::BufferFull { .. }) if known => {}
            Some(PossibleLoss::BufferFull { events }) => {
                let gap =
                    self.active.ledger.pushed_out(now, frames.first().and_then(|first| first.sent_at), is_present);
                self.report_gap(GapCause::ServiceBufferFull { events }, gap);
            }
            Some(PossibleLoss::BufferAged { pause }) => {
                let gap = self.active.ledger.aged(now, is_present);
                self.report_gap(GapCause::ServiceBufferAged { pause }, gap);
            }
            Some(PossibleLoss::RegionChanged) => {
                let gap = self.active.ledger.possible(now, &[Loss::Read, Loss::Buffer]);
                self.report_gap(GapCause::RegionChanged, gap);
            }
            Some(PossibleLoss::Overflow { .. }) => {
                let gap = self.active.ledger.possible(now, &[Loss::Read]);
                self.report_gap(GapCause::Overflow, gap);
            }
            Some(PossibleLoss::Unreadable) => {
                let gap = self.active.ledger.possible(now, &[Loss::Read]);
                self.report_gap(GapCause::Unreadable, gap);
            }
            None => {}
        }
        // A service that limits its answers sends what it retained in several of them (found 2.4).
        let is_retained = matches!(coverage, Coverage::Cut { .. });
        for frame in frames {
            let sent = frame.sent_at;
            if let Some((gap, events)) = self.active.ledger.counted(now, sent, is_present) {
                self.report_gap(GapCause::ServiceBufferFull { events }, gap);
            }
            let emitted = self.active.ledger.emitted(now, sent);
            self.intake.arrived(now, frame, emitted, &self.filters.since(emitted.from));
            if is_present && let Some(sent) = sent {
                self.active
                    .ledger
                    .prove(now, if is_retained { Proof::Retained { sent } } else { Proof::Event { sent } });
            }
        }
        if !is_present {
            return;
        }
        let at = cursor.time();
        match coverage {
            Coverage::Pushed => {}
            // Events that it may have cut off are reported, or known to be read.
            Coverage::Whole { asked } => self.active.ledger.prove(now, Proof::Answer { asked, cursor: at }),
            Coverage::Cut { asked } if loss.is_some() => {
                self.active.ledger.prove(now, Proof::Answer { asked, cursor: at });
            }
            Coverage::Cut { asked } => self.active.ledger.prove(now, Proof::CutAnswer { asked, cursor: at }),
        }
        self.active.read_to(cursor);
        self.push_mark();
    }
}
