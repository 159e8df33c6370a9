//! Fills gaps, and polls in place of push.

use std::time::SystemTime;

use tokio::time::Instant;

use super::Driver;
use crate::catch_up::{Found, Open, SyncPage, SyncToken};
use crate::decode::is_too_large;
use crate::delivery::{Certainty, Changes, Delivery, Gap, GapCause, OpenReason, Recreated, Resumed, Undecodable};
use crate::error::{Disposition, Error, Result};
use crate::event::{self, Notification, Origin};
use crate::subscription::continuity::{Loss, Proof};
use crate::subscription::counts;
use crate::subscription::machine::{self, Input};
use crate::subscription::ops;
use crate::subscription::ports::StreamItem;
use crate::subscription::positions::SourcePosition;
use crate::subscription::progress::Traces;
use crate::subscription::proof;
use crate::subscription::queue::Item;
use crate::subscription::reconcile::{Ask, Outcome, Turn};
use crate::subscription::recovery::{Filling, Since, Source, Unended, WAIT_FOR_SOURCES};

/// The most pages of one round. The largest documented page has 1 000 records; a longer list has no end, or repeats
/// itself.
const PAGES: u32 = 1000;

impl Driver {
    /// The filters were changed. What was answered for others proves nothing for these.
    pub(super) fn cover(&mut self) {
        let (changed, now) = (self.recovery.cover(self.filters.requested()), Instant::now().into_std());
        if !changed.is_empty() && self.recovery.filling.is_some() {
            self.recovery.plan.gap(now);
        }
        // A gap that begins soon needs a position for the present filters.
        changed.into_iter().for_each(|at| self.recovery.plan.check_one(now, at));
    }

    /// A gap that ends here, unless its events can be asked for first. A `Resumed` ends every gap before it, so none
    /// comes while the subscription is lost: what is missing now is asked for with what that loss left out.
    pub(super) fn end_gap(&mut self, since: Option<SystemTime>, recreated: Option<Recreated>) {
        if self.active.ledger.open_since().is_some() {
            return self.recovery.missing_since(since);
        }
        let mut unended = std::mem::take(&mut self.recovery.unended);
        unended.recreated = Recreated::joined(unended.recreated, recreated);
        if !self.recovery.can_ask() {
            let resumed = self.resumed_marker(Some(OpenReason::NoSource), unended);
            let continues = self.left_out_from(resumed.at);
            return self.intake.queue_mut().push_end(resumed, continues);
        }
        self.intake.forget_states();
        self.recovery.missing_since(since);
        self.recovery.filling = Some(Filling { unended, waits_until: None });
        self.intake.queue_mut().open_hole();
        self.recovery.plan.gap(Instant::now().into_std());
    }

    /// The reader has come to a place where events were dropped or could not be opened:
    /// they are queried before it continues.
    pub(super) fn refill(&mut self, since: Option<SystemTime>, filters: Vec<String>) {
        // Another end would be that of the open gap, too, and what is being filled is filled with this.
        if self.intake.queue().is_gap_open() || self.recovery.filling.is_some() {
            return self.leave_to_next_end(since, &filters);
        }
        let unended = Unended { filters, ..Unended::default() };
        // Without push nothing would end the wait.
        if !self.recovery.can_ask() || self.machine.phase() != machine::Phase::Live {
            let resumed = self.resumed_marker(Some(OpenReason::NotAnswered), unended);
            return self.intake.queue_mut().push_first(Item::End { resumed, continues: None });
        }
        self.intake.forget_states();
        self.recovery.missing_since(since);
        self.recovery.filling = Some(Filling { unended, waits_until: None });
        self.intake.queue_mut().open_hole_first();
        self.recovery.plan.gap(Instant::now().into_std());
    }

    /// The end that the reader gets next is that of what is missing since then, too.
    fn leave_to_next_end(&mut self, since: Option<SystemTime>, filters: &[String]) {
        let open = self.recovery.unrecovered(filters, Some(OpenReason::NotAnswered), self.now().to);
        if self.intake.queue_mut().leave_open(&open) {
            return;
        }
        if let Some(filling) = &mut self.recovery.filling {
            filling.unended.add(filters);
            self.intake.forget_states();
            self.recovery.missing_since(since);
            self.recovery.plan.gap(Instant::now().into_std());
        } else if self.active.ledger.open_since().is_some() {
            self.recovery.unended.add(filters);
            self.recovery.missing_since(since);
        } else {
            self.recovery.unended.unrecovered.extend(open);
        }
    }

    /// Another gap begins before the sources have answered for the one that is being filled: both are filled together,
    /// and the end of the later one is that of both. Cut short, the first would never be proven.
    pub(super) fn fill_with_next(&mut self) {
        if let Some(Filling { unended, .. }) = self.recovery.filling.take() {
            self.recovery.unended.join(unended);
            self.intake.queue_mut().close_hole();
        }
    }

    /// Reports the gap that is being filled as not filled, since nothing follows.
    pub(super) fn cut_filling(&mut self) {
        if let Some(filling) = self.recovery.filling.take() {
            self.report_resumed(Some(OpenReason::CutShort), filling);
        }
    }

    /// Delivers the events behind the gap before the sources' findings, if those take long. The wait begins with the
    /// first waiting event.
    pub(super) fn stop_waiting(&mut self) {
        let now = Instant::now();
        let holds_back = self.intake.queue().holds_back();
        let Some(Filling { waits_until, .. }) = &mut self.recovery.filling else { return };
        if !holds_back {
            *waits_until = None;
        } else if *waits_until.get_or_insert(now + WAIT_FOR_SOURCES) <= now {
            self.intake.queue_mut().close_hole();
        }
    }

    /// When [`stop_waiting`](Self::stop_waiting) must be called next.
    pub(super) fn waits_until(&self) -> Option<Instant> {
        self.recovery
            .filling
            .as_ref()
            .and_then(|filling| filling.waits_until)
            .filter(|_| self.intake.queue().holds_back())
    }

    fn filled(&mut self) {
        if let Some(filling) = self.recovery.filling.take() {
            self.recovery.since = None;
            self.report_resumed(None, filling);
        }
    }

    /// `reason`: why nothing is proven, overriding the sources' answers.
    fn resumed_marker(
        &self,
        reason: Option<OpenReason>,
        Unended { filters, unrecovered: more, recreated }: Unended,
    ) -> Resumed {
        let now = self.now().to;
        let mut unrecovered = self.recovery.unrecovered(self.filters.requested(), reason, now);
        let out = filters.iter().filter(|filter| !self.filters.requested().contains(filter));
        let more = out.filter_map(|filter| proof::unrecovered(filter, std::iter::empty(), now)).chain(more);
        for open in more {
            if unrecovered.iter().all(|it| it.filter != open.filter) {
                unrecovered.push(open);
            }
        }
        let at = self.active.ledger.latest(now);
        Resumed { complete: unrecovered.is_empty(), at, recreated, unrecovered }
    }

    fn report_resumed(&mut self, reason: Option<OpenReason>, filling: Filling) {
        let resumed = self.resumed_marker(reason, filling.unended);
        let continues = self.left_out_from(resumed.at);
        self.intake.queue_mut().push_found(Item::End { resumed, continues });
        self.intake.queue_mut().close_hole();
    }

    /// Passes the state of push to the plan, and runs its requests.
    pub(super) fn reconcile(&mut self) {
        let phase = self.machine.phase();
        let is_over = matches!(phase, machine::Phase::Closing | machine::Phase::Closed);
        if is_over || !self.recovery.can_ask() {
            self.recovery.plan.stop(is_over);
            return self.cut_filling();
        }
        let now = Instant::now().into_std();
        match phase {
            machine::Phase::Live if !self.setup.polls => self.recovery.plan.push_up(now),
            machine::Phase::Live => self.recovery.plan.push_down(now),
            machine::Phase::Connecting | machine::Phase::Reconnecting | machine::Phase::Recreating => {
                self.recovery.plan.push_down(now);
            }
            machine::Phase::Starting | machine::Phase::Closing | machine::Phase::Closed => return self.cut_filling(),
        }
        self.release();
        self.recovery.plan.handle_timeout(now);
        while let Some(ask) = self.recovery.plan.poll_ask() {
            tracing::debug!(?ask, subscription = self.id_for_log(), "catch-up");
            match ask {
                Ask::Begin { source, turn } => self.begin(source, turn),
                Ask::Sync { source, turn, missed } => self.sync(source, turn, missed),
                Ask::GiveUpCounts { source } => {
                    for count in self.recovery.counts.give_up() {
                        self.intake.queue_mut().push_marker(Delivery::Notification(Box::new(count)));
                    }
                    self.polled_in_part(source, None, None);
                }
                Ask::Filled => self.filled(),
            }
        }
    }

    /// A source that covers no filter is not queried.
    fn begin(&mut self, at: usize, turn: Turn) {
        let asked = self.now().from;
        let Some(source) = self.recovery.sources.get_mut(at) else { return };
        source.asked = Some(asked);
        if source.filters.is_empty() {
            self.recovery.plan.done(Instant::now().into_std(), at, turn, Outcome::Began);
        } else {
            self.calls.start_passing(ops::begin(source.source.clone(), source.filters.clone(), at, turn));
        }
    }

    fn sync(&mut self, at: usize, turn: Turn, missed: bool) {
        let since = self.recovery.since.into_iter().chain(self.active.ledger.open_since()).min();
        let since = since.or_else(|| Some(self.active.ledger.since(&[Loss::There, Loss::Read]))).filter(|_| missed);
        let (asked, enrich) = (self.now().from, self.setup.enrich);
        let Some(source) = self.recovery.sources.get_mut(at) else { return };
        source.asked.get_or_insert(asked);
        // Changes count since the last query: counts reported them.
        let since = if enrich {
            since.or(source.good).map(|since| source.good.map_or(since, |good| good.min(since)))
        } else {
            since
        };
        let since = since.map(|service| Since { service, wall: self.to_wall(service) });
        let Some(source) = self.recovery.sources.get_mut(at) else { return };
        if source.filters.is_empty() {
            let nothing = Outcome::Synced { found: 0, more: false };
            self.recovery.plan.done(Instant::now().into_std(), at, turn, nothing);
        } else {
            if source.round.is_none() {
                source.open.clear();
                source.messages = counts::Found::default();
                if enrich && source.source.covers_messages() {
                    self.recovery.counts.ask();
                }
            }
            let since = *source.round.get_or_insert(since);
            // If nothing else delivers, everything up to its newest position was found.
            let first = self.setup.polls || enrich && source.source.covers_messages();
            let position = match since.filter(|_| !first) {
                Some(since) => source.positions.reaching(since.service, source.source.overlap()),
                None => source.positions.newest(),
            };
            let token = source.next.clone().or_else(|| position.map(|position| position.token.clone()));
            let (source, filters) = (source.source.clone(), source.filters.clone());
            self.calls.start_passing(ops::sync(source, filters, token, since.map(|since| since.wall), at, turn));
        }
    }

    pub(super) fn begun(&mut self, at: usize, turn: Turn, result: Result<SyncToken>) {
        let outcome = match result {
            Ok(token) => {
                let position = SourcePosition::new(token, true, self.now().to);
                if let Some(source) = self.recovery.sources.get_mut(at) {
                    source.good = source.asked.take();
                    source.positions.push(position.clone());
                }
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
                self.bound_round(at, &mut page);
                is_answered = !page.more;
                let outcome = Outcome::Synced { found: page.found.len(), more: page.more };
                let (wall, answered) = (self.setup.clock.wall(), self.now().to);
                let position = SourcePosition::new(page.next.clone(), false, answered);
                if let Some(source) = self.recovery.sources.get_mut(at) {
                    if source.next.is_some() {
                        source.positions.replace(position.clone());
                    } else {
                        source.positions.push(position.clone());
                    }
                    source.open.extend(page.open.iter().cloned());
                    source.next = page.more.then(|| page.next.clone());
                    if !page.more {
                        source.round = None;
                        source.good = source.asked.take();
                    }
                }
                self.prove_polled();
                let cut = (self.setup.polls || self.setup.enrich) && !page.complete && self.recovery.filling.is_none();
                if cut {
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
            Err(error) if is_too_large(&error) && self.recovery.filling.is_some() => {
                self.source_failed(at, error);
                if let Some(source) = self.recovery.sources.get_mut(at) {
                    source.open.push(Open { filter: None, changes: Changes::ALL, reason: OpenReason::TooMuch });
                    (source.round, source.next, source.asked) = (None, None, None);
                }
                is_answered = true;
                Outcome::Synced { found: 0, more: false }
            }
            Err(error) => {
                // If no page of the round was answered, it begins anew.
                let finds_messages = self.finds_messages(at);
                if let Some(source) = self.recovery.sources.get_mut(at).filter(|source| source.next.is_none()) {
                    source.round = None;
                    if finds_messages {
                        self.recovery.counts.not_asked();
                    }
                }
                self.source_failed(at, error)
            }
        };
        self.recovery.held_back.push((at, turn, outcome));
        self.release();
        if is_answered {
            self.judge_counts(at);
        }
    }

    fn finds_messages(&self, at: usize) -> bool {
        self.setup.enrich && self.recovery.sources.get(at).is_some_and(|source| source.source.covers_messages())
    }

    fn note_messages(&mut self, at: usize, found: &Found, wall: SystemTime) {
        if !self.finds_messages(at) {
            return;
        }
        if let Ok(notification) = Notification::parse(found.notification.clone(), Origin::CatchUp, wall)
            && let Some(source) = self.recovery.sources.get_mut(at)
        {
            // With the same extension as the pushed counts.
            source.messages.add(&self.intake.owned(&notification));
        }
    }

    /// Counts whose messages the source did not find are delivered themselves, queried again, and finally reported
    /// missing (found 3.7).
    fn judge_counts(&mut self, at: usize) {
        if !self.finds_messages(at) {
            return;
        }
        let Some(source) = self.recovery.sources.get_mut(at) else { return };
        let (found, now) = (std::mem::take(&mut source.messages), Instant::now());
        let judged = self.recovery.counts.judge(&found, |key| self.intake.is_known(*key, now));
        for count in judged.deliver {
            self.intake.queue_mut().push_marker(Delivery::Notification(Box::new(count)));
        }
        if let Some(since) = judged.missing_since {
            self.polled_in_part(at, Some(since), Some(OpenReason::NotFound));
        }
        if let Some(after) = judged.again_after {
            self.recovery.plan.ask_again(now.into_std(), at, after);
        }
    }

    /// Ends an endless round. It is not complete then.
    fn bound_round(&mut self, at: usize, page: &mut SyncPage) {
        let Some(source) = self.recovery.sources.get_mut(at) else { return };
        source.pages = if page.more { source.pages.saturating_add(1) } else { 0 };
        if source.pages >= PAGES {
            tracing::warn!(source = source.source.name(), pages = PAGES, "a catch-up source returns endless pages");
            source.pages = 0;
            (page.more, page.complete) = (false, false);
            page.open.push(Open { filter: None, changes: Changes::ALL, reason: OpenReason::TooMuch });
        }
    }

    /// A poll that a source could not answer in full.
    fn polled_in_part(&mut self, at: usize, since: Option<SystemTime>, reason: Option<OpenReason>) {
        let now = self.now().to;
        let Some(source) = self.recovery.sources.get(at) else { return };
        let filters: Vec<String> = source.filters.iter().map(ToString::to_string).collect();
        let since = since.or(source.round.flatten().map(|since| since.service)).or(source.good);
        // What the answer left open; for a source that never answers, everything.
        let open = reason.or(source.open.first().map(|open| open.reason)).unwrap_or(OpenReason::Refused);
        let unrecovered = self.recovery.unrecovered(&filters, Some(open), now);
        let gap = Delivery::Gap(Gap {
            cause: GapCause::PolledInPart,
            certainty: Certainty::Possible,
            since,
            until: Some(now),
            lost: None,
            filters,
        });
        // Within another gap it has no separate end, which would be the end of both.
        let around = match &mut self.recovery.filling {
            Some(filling) => Some(&mut filling.unended),
            None => self.active.ledger.open_since().map(|_| &mut self.recovery.unended),
        };
        match around {
            Some(around) => {
                around.unrecovered.extend(unrecovered);
                self.intake.queue_mut().push_found(Item::Marker(gap));
            }
            None => {
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
        if !self.recovery.covered_in_part(added).is_empty() {
            self.report_left_out();
        }
    }

    /// What polls leave out is missing for as long as they replace push: beyond the end of any gap.
    fn left_out_from(&mut self, end: SystemTime) -> Option<Gap> {
        self.left_out(self.active.ledger.earliest(self.now().from).min(end))
    }

    fn left_out(&mut self, since: SystemTime) -> Option<Gap> {
        let open = self.recovery.covered_in_part(self.filters.requested());
        if !self.setup.polls || open.is_empty() {
            return None;
        }
        let filters: Vec<String> = open.into_iter().map(|open| open.filter).collect();
        self.recovery.unended.add(&filters);
        Some(Gap {
            cause: GapCause::PolledInPart,
            certainty: Certainty::Possible,
            since: Some(since),
            until: None,
            lost: None,
            filters,
        })
    }

    /// The next answer may be large, so there has to be room for it.
    fn release(&mut self) {
        let wants_room = |outcome: &Outcome| matches!(outcome, Outcome::Synced { .. });
        let room = self.intake.queue().has_room();
        let now = Instant::now().into_std();
        for (at, turn, outcome) in std::mem::take(&mut self.recovery.held_back) {
            if wants_room(&outcome) && !room {
                self.recovery.held_back.push((at, turn, outcome));
                // The reader's time does not count as the source's.
                self.recovery.plan.waits_for_room(now);
            } else {
                self.recovery.plan.done(now, at, turn, outcome);
            }
        }
    }

    /// Polls end here: what may not have been in a source yet at its last answer is a possible gap.
    pub(super) fn polls_end(&mut self, cause: &GapCause) {
        let unsettled = self.recovery.unsettled();
        self.recovery.polled_since = None;
        // The gap that begins here covers what lies behind the last answers of all sources.
        let last = self.active.ledger.since(&Loss::ALL);
        let until = Some(self.active.ledger.latest(self.now().to));
        for (since, filters) in unsettled.into_iter().filter(|(since, _)| *since < last) {
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

    /// Without push, everything up to the last answers of all sources is read.
    fn prove_polled(&mut self) {
        if let Some(upto) = self.recovery.good_since().filter(|_| self.setup.polls) {
            self.recovery.polled_since.get_or_insert_with(|| self.active.ledger.since(&[Loss::Read]));
            self.active.ledger.prove(Instant::now(), Proof::Polled { upto });
        }
    }

    /// A time of the service by this machine's clock, which the sources use: the earliest possible.
    fn to_wall(&self, at: SystemTime) -> SystemTime {
        let (wall, service) = (self.setup.clock.wall(), self.now().to);
        let shifted = match service.duration_since(wall) {
            Ok(ahead) => at.checked_sub(ahead),
            Err(behind) => at.checked_add(behind.duration()),
        };
        shifted.unwrap_or(at)
    }

    /// The position of a source once its findings were read.
    fn push_position(&mut self, at: usize, position: SourcePosition) {
        if let Some(source) = self.recovery.sources.get(at) {
            self.intake.queue_mut().push_position(source.source.name(), position);
        }
    }

    fn source_failed(&mut self, at: usize, error: Error) -> Outcome {
        let name = self.recovery.sources.get(at).map(|source| source.source.name());
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
        if !self.setup.enrich || !matches!(notification.event(), event::Event::MessageStore(_)) {
            return false;
        }
        let covers = |source: &Source| {
            source.filters.iter().any(|filter| filter.kind() == event::EventKind::MessageStore)
                && source.source.covers_messages()
        };
        let Some(at) = self.recovery.sources.iter().position(covers) else { return false };
        if !self.recovery.plan.news(Instant::now().into_std(), at) {
            return false;
        }
        if let Some(oldest) = self.recovery.counts.push(Box::new(notification.clone()), self.intake.owner()) {
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
                let notification = self.intake.owned(&notification);
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
