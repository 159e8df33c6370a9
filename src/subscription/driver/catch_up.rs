//! Fills gaps, and polls in place of push.

use std::time::SystemTime;

use tokio::time::Instant;

use super::Driver;
use crate::catch_up::{Found, SyncPage, SyncToken};
use crate::decode::is_too_large;
use crate::delivery::{Certainty, Delivery, Gap, GapCause, OpenReason, Recreated, Resumed, Undecodable};
use crate::error::{Disposition, Error, Result};
use crate::event::{Notification, Origin};
use crate::subscription::continuity::{Loss, Proof};
use crate::subscription::machine::{self, Input};
use crate::subscription::ops;
use crate::subscription::ports::StreamItem;
use crate::subscription::positions::SourcePosition;
use crate::subscription::progress::Traces;
use crate::subscription::queue::Item;
use crate::subscription::reconcile::{Ask, Outcome, Turn};
use crate::subscription::recovery::{Counted, Unended};

impl Driver {
    /// A gap that ends here, unless its events can be asked for first. A `Resumed` ends every gap before it, so none
    /// comes while the subscription is lost: what is missing now is asked for with what that loss left out.
    pub(super) fn end_gap(&mut self, since: Option<SystemTime>, recreated: Option<Recreated>) {
        if self.active.ledger.open_since().is_some() {
            return self.recovery.missing_since(since);
        }
        let unended = self.recovery.take_unended(recreated);
        if !self.recovery.can_ask() {
            let resumed = self.resumed_marker(Some(OpenReason::NoSource), unended);
            let continues = self.left_out_from(resumed.at);
            return self.intake.queue_mut().push_end(resumed, continues);
        }
        self.intake.forget_states();
        self.recovery.fill(since, unended, Instant::now());
        self.intake.queue_mut().open_hole();
    }

    /// The reader has come to a place where events were dropped or could not be opened:
    /// they are queried before it continues.
    pub(super) fn refill(&mut self, since: Option<SystemTime>, filters: Vec<String>) {
        // Another end would be that of the open gap, too, and what is being filled is filled with this.
        if self.intake.queue().is_gap_open() || self.recovery.is_filling() {
            return self.leave_to_next_end(since, &filters);
        }
        let unended = Unended::of(filters);
        // Without push nothing would end the wait.
        if !self.recovery.can_ask() || self.machine.phase() != machine::Phase::Live {
            let resumed = self.resumed_marker(Some(OpenReason::NotAnswered), unended);
            return self.intake.queue_mut().push_first(Item::End { resumed, continues: None });
        }
        self.intake.forget_states();
        self.recovery.fill(since, unended, Instant::now());
        self.intake.queue_mut().open_hole_first();
    }

    /// The end that the reader gets next is that of what is missing since then, too.
    fn leave_to_next_end(&mut self, since: Option<SystemTime>, filters: &[String]) {
        let open = self.recovery.unrecovered(filters, Some(OpenReason::NotAnswered), self.now().to);
        if self.intake.queue_mut().leave_open(&open) {
            return;
        }
        if self.recovery.fill_more(since, filters, Instant::now()) {
            self.intake.forget_states();
        } else if self.active.ledger.open_since().is_some() {
            self.recovery.opened(filters);
            self.recovery.missing_since(since);
        } else {
            self.recovery.leave_open(open);
        }
    }

    /// Another gap begins before the sources have answered for the one that is being filled: both are filled together,
    /// and the end of the later one is that of both. Cut short, the first would never be proven.
    pub(super) fn fill_with_next(&mut self) {
        if self.recovery.fill_with_next() {
            self.intake.queue_mut().close_hole();
        }
    }

    /// Reports the gap that is being filled as not filled, since nothing follows.
    pub(super) fn cut_filling(&mut self) {
        if let Some(unended) = self.recovery.cut() {
            self.report_resumed(Some(OpenReason::CutShort), unended);
        }
    }

    /// Delivers the events behind the gap before the sources' findings, if those take long.
    pub(super) fn stop_waiting(&mut self) {
        if self.recovery.waited_enough(self.intake.queue().holds_back(), Instant::now()) {
            self.intake.queue_mut().close_hole();
        }
    }

    /// When [`stop_waiting`](Self::stop_waiting) must be called next.
    pub(super) fn waits_until(&self) -> Option<Instant> {
        self.recovery.waits_until().filter(|_| self.intake.queue().holds_back())
    }

    /// `reason`: why nothing is proven, overriding the sources' answers.
    fn resumed_marker(&self, reason: Option<OpenReason>, unended: Unended) -> Resumed {
        let now = self.now().to;
        self.recovery.resumed(unended, self.filters.requested(), reason, (now, self.active.ledger.latest(now, now)))
    }

    fn report_resumed(&mut self, reason: Option<OpenReason>, unended: Unended) {
        let resumed = self.resumed_marker(reason, unended);
        let continues = self.left_out_from(resumed.at);
        self.intake.queue_mut().push_found(Item::End { resumed, continues });
        self.intake.queue_mut().close_hole();
    }

    /// Passes the state of push to the plan, and runs its requests.
    pub(super) fn reconcile(&mut self) {
        let has_room = self.intake.queue().has_room();
        if !self.recovery.observe(self.machine.phase(), has_room, Instant::now()) {
            return self.cut_filling();
        }
        while let Some(ask) = self.recovery.plan.poll_ask() {
            tracing::debug!(?ask, subscription = self.id_for_log(), "catch-up");
            match ask {
                Ask::Begin { source, turn } => self.begin(source, turn),
                Ask::Sync { source, turn, missed } => self.sync(source, turn, missed),
                Ask::GiveUpCounts { source } => {
                    for count in self.recovery.give_up_counts() {
                        self.intake.queue_mut().push_marker(Delivery::Notification(Box::new(count)));
                    }
                    self.polled_in_part(source, None, None);
                }
                Ask::Filled => {
                    let is_set = self.recovery.since(None).is_some_and(|since| self.active.ledger.is_clock_set(since));
                    if let Some(unended) = self.recovery.filled() {
                        self.report_resumed(is_set.then_some(OpenReason::ClockSet), unended);
                    }
                }
            }
        }
    }

    /// A source that covers no filter is not queried.
    fn begin(&mut self, at: usize, turn: Turn) {
        match self.recovery.begin(at, self.now().from) {
            Some(query) => self.calls.start_passing(ops::begin(query, at, turn)),
            None => self.recovery.plan.done(Instant::now().into_std(), at, turn, Outcome::Began),
        }
    }

    fn sync(&mut self, at: usize, turn: Turn, missed: bool) {
        let ledger = &self.active.ledger;
        let since = self.recovery.since(ledger.open_since());
        let since = since.or_else(|| Some(ledger.since(&[Loss::There, Loss::Read]))).filter(|_| missed);
        let (now, wall) = (self.now(), self.setup.clock.wall());
        match self.recovery.ask(at, since, now.from, |at| by_wall(at, now.to, wall)) {
            Some(query) => self.calls.start_passing(ops::sync(query, at, turn)),
            None => {
                let nothing = Outcome::Synced { found: 0, more: false };
                self.recovery.plan.done(Instant::now().into_std(), at, turn, nothing);
            }
        }
    }

    pub(super) fn begun(&mut self, at: usize, turn: Turn, result: Result<SyncToken>) {
        let outcome = match result {
            Ok(token) => {
                let position = SourcePosition::new(token, true, self.now().to);
                self.recovery.begun(at, position.clone());
                self.prove_polled();
                self.push_position(at, position);
                Outcome::Began
            }
            Err(error) => self.source_failed(at, error),
        };
        self.recovery.plan.done(Instant::now().into_std(), at, turn, outcome);
    }

    pub(super) fn synced(&mut self, at: usize, turn: Turn, result: Result<SyncPage>) {
        let mut is_answered = false;
        let outcome = match result {
            Ok(mut page) => {
                let (wall, answered) = (self.setup.clock.wall(), self.now().to);
                let position = SourcePosition::new(page.next.clone(), false, answered);
                self.recovery.answered(at, &mut page, position.clone());
                is_answered = !page.more;
                let outcome = Outcome::Synced { found: page.found.len(), more: page.more };
                self.prove_polled();
                if self.recovery.reports_part(&page) {
                    self.polled_in_part(at, None, None);
                }
                for found in page.found {
                    self.note_messages(at, &found, wall);
                    self.intake.queue_mut().push_found(Item::Found { found, at: wall });
                }
                self.push_position(at, position);
                outcome
            }
            // The next answer would be as large: the gap does not wait for it (found 6.10).
            Err(error) if is_too_large(&error) && self.recovery.is_filling() => {
                self.source_failed(at, error);
                self.recovery.answered_too_much(at);
                is_answered = true;
                Outcome::Synced { found: 0, more: false }
            }
            Err(error) => {
                self.recovery.failed(at);
                self.source_failed(at, error)
            }
        };
        self.recovery.done(at, turn, outcome, self.intake.queue().has_room(), Instant::now());
        if is_answered {
            self.judge_counts(at);
        }
    }

    fn note_messages(&mut self, at: usize, found: &Found, wall: SystemTime) {
        if !self.recovery.finds_messages(at) {
            return;
        }
        if let Ok(notification) = Notification::parse(found.notification.clone(), Origin::CatchUp, wall) {
            // With the same extension as the pushed counts.
            self.recovery.found(at, &self.intake.owned(&notification));
        }
    }

    fn judge_counts(&mut self, at: usize) {
        let now = Instant::now();
        let judged = self.recovery.judge_counts(at, now, |key| self.intake.is_known(*key, now));
        for count in judged.deliver {
            self.intake.queue_mut().push_marker(Delivery::Notification(Box::new(count)));
        }
        if let Some(since) = judged.missing_since {
            self.polled_in_part(at, Some(since), Some(OpenReason::NotFound));
        }
    }

    /// A poll that a source could not answer in full.
    fn polled_in_part(&mut self, at: usize, since: Option<SystemTime>, reason: Option<OpenReason>) {
        let now = self.now().to;
        let Some((part, unrecovered)) = self.recovery.part(at, since, reason, now) else { return };
        let gap = Delivery::Gap(Gap {
            cause: GapCause::PolledInPart,
            certainty: Certainty::Possible,
            since: part.since,
            until: Some(self.active.ledger.latest(part.since.unwrap_or(now), now)),
            lost: None,
            filters: part.filters,
        });
        match self.recovery.leave_to_gap_around(unrecovered, self.active.ledger.open_since().is_some()) {
            Ok(()) => self.intake.queue_mut().push_found(Item::Marker(gap)),
            Err(unrecovered) => {
                self.intake.queue_mut().push_marker(gap);
                let resumed = Resumed { complete: false, at: now, recreated: None, unrecovered };
                let continues = self.left_out_from(now);
                self.intake.queue_mut().push_end(resumed, continues);
            }
        }
    }

    /// Reports what polls can find only in part as missing, from the beginning.
    pub(super) fn report_left_out(&mut self) {
        let since = self.active.ledger.earliest(self.active.ledger.since(&[Loss::Read]));
        if let Some(gap) = self.left_out(since) {
            self.intake.queue_mut().push_marker(Delivery::Gap(gap));
        }
    }

    /// The filters were changed: polls may find only in part what they did not have to find before.
    pub(super) fn polls_leave_out_more(&mut self, added: &[String]) {
        if !self.recovery.left_out(added).is_empty() {
            self.report_left_out();
        }
    }

    /// What polls leave out is missing for as long as they replace push: beyond the end of any gap.
    fn left_out_from(&mut self, end: SystemTime) -> Option<Gap> {
        self.left_out(self.active.ledger.earliest(self.now().from).min(end))
    }

    fn left_out(&mut self, since: SystemTime) -> Option<Gap> {
        let filters = self.recovery.left_out(self.filters.requested());
        if filters.is_empty() {
            return None;
        }
        self.recovery.opened(&filters);
        Some(Gap {
            cause: GapCause::PolledInPart,
            certainty: Certainty::Possible,
            since: Some(since),
            until: None,
            lost: None,
            filters,
        })
    }

    /// Polls end here: what may not have been in a source yet at its last answer is a possible gap.
    pub(super) fn polls_end(&mut self, cause: &GapCause) {
        let unsettled = self.recovery.end_polls();
        // The gap that begins here covers what lies behind the last answers of all sources.
        let last = self.active.ledger.since(&Loss::ALL);
        let now = self.now().to;
        for (since, filters) in unsettled.into_iter().filter(|(since, _)| *since < last) {
            let until = Some(self.active.ledger.latest(since, now));
            self.cut_filling();
            self.recovery.opened(&filters);
            self.intake.queue_mut().push_marker(Delivery::Gap(Gap {
                cause: cause.clone(),
                certainty: Certainty::Possible,
                since: Some(self.active.ledger.earliest(since)),
                until,
                lost: None,
                filters,
            }));
        }
    }

    fn prove_polled(&mut self) {
        if let Some(upto) = self.recovery.polled_up_to(self.active.ledger.since(&[Loss::Read])) {
            self.active.ledger.prove(Instant::now(), Proof::Polled { upto });
        }
    }

    /// The position of a source once its findings were read.
    fn push_position(&mut self, at: usize, position: SourcePosition) {
        if let Some(name) = self.recovery.name(at) {
            self.intake.queue_mut().push_position(name, position);
        }
    }

    fn source_failed(&mut self, at: usize, error: Error) -> Outcome {
        let name = self.recovery.name(at);
        tracing::warn!(%error, source = name, subscription = self.id_for_log(), "a catch-up source failed");
        let disposition = error.disposition();
        if self.setup.polls {
            if disposition == Disposition::Fatal && self.fail_over_refused(&error) {
                self.record_error(error);
                return Outcome::Failed(disposition);
            }
            self.record_error(error);
            if disposition == Disposition::Fatal {
                // Nothing else would ever find its events.
                self.feed(Input::Abort);
            }
        }
        Outcome::Failed(disposition)
    }

    /// Whether a source delivers the messages behind a notification that only counts them.
    pub(super) fn is_enriched(&mut self, notification: &Notification) -> bool {
        let counted = self.recovery.count(notification, self.intake.owner(), Instant::now());
        let Some(Counted { overflow }) = counted else { return false };
        if let Some(oldest) = overflow {
            self.intake.queue_mut().push_marker(Delivery::Notification(oldest));
        }
        true
    }

    /// An event that a source found; `None` for a duplicate.
    pub(super) fn found(&mut self, found: Found, at: SystemTime) -> Option<StreamItem> {
        if !self.intake.admit_state(found.state) {
            return None;
        }
        let origin = if found.snapshot { Origin::Snapshot } else { Origin::CatchUp };
        match Notification::parse(found.notification, origin, at) {
            Ok(notification) => {
                // The pushed event names its extension; the found one says `~` for the same.
                self.learn_owner(&notification);
                let notification = self.intake.owned(&notification).into_owned();
                let (delivery, traces) = self.intake.admit_found(notification, at, Instant::now())?;
                Some(StreamItem::Delivery { delivery, traces })
            }
            Err(malformed) => {
                let reason = malformed.to_string();
                let raw = malformed.raw().get().into();
                let undecodable = Undecodable { reason, raw, received_at: at };
                Some(StreamItem::Delivery { delivery: Delivery::Undecodable(undecodable), traces: Traces::default() })
            }
        }
    }
}

/// A time of the service by this machine's clock, which the sources use: the earliest possible.
fn by_wall(at: SystemTime, service: SystemTime, wall: SystemTime) -> SystemTime {
    let shifted = match service.duration_since(wall) {
        Ok(ahead) => at.checked_sub(ahead),
        Err(behind) => at.checked_add(behind.duration()),
    };
    shifted.unwrap_or(at)
}
