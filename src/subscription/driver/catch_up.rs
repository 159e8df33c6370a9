//! Fills gaps, and polls in place of push.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{Driver, Handed, Setup};
use crate::catch_up::{CatchUp, Found, Open, SyncPage, SyncToken};
use crate::decode::is_too_large;
use crate::delivery::{
    Certainty, Changes, Delivery, Gap, GapCause, OpenReason, Recreated, Resumed, Undecodable, Unrecovered,
};
use crate::error::{Disposition, Error, Result};
use crate::event::{self, EventFilter, GapClosure, Notification, Origin};
use crate::service_clock::sub;
use crate::subscription::continuity::{Loss, Proof};
use crate::subscription::counts::{self, Counts};
use crate::subscription::machine::{self, Input};
use crate::subscription::ops;
use crate::subscription::positions::Positions;
use crate::subscription::progress::Traces;
use crate::subscription::proof::{self, Answers};
use crate::subscription::queue::Item;
use crate::subscription::reconcile::{Ask, Outcome, Reconciler, Turn};
use crate::subscription::resume::Position;

/// The most pages of one round. The largest documented page has 1 000 records; a longer list has no end, or repeats
/// itself.
const PAGES: u32 = 1000;

/// The catch-up side of a subscription.
pub(super) struct Recovery {
    pub(super) sources: Vec<Source>,
    pub(super) plan: Reconciler,
    /// The gap that ends once it is filled.
    ending: Option<Ending>,
    /// What is reported of gaps that are not over.
    unended: Unended,
    /// Since when events may be missing, for the calls to come.
    since: Option<SystemTime>,
    /// Counts of messages that were pushed and whose messages are queried.
    counts: Counts,
    /// Since when polls replace push.
    polled_since: Option<SystemTime>,
    /// A source with further pages waits until there is room for them.
    held_back: Vec<(usize, Turn, Outcome)>,
}

pub(super) struct Source {
    pub(super) source: Arc<dyn CatchUp>,
    pub(super) filters: Arc<[EventFilter]>,
    /// Its position, now and before.
    positions: Positions,
    /// Where the next page of the present round begins.
    next: Option<SyncToken>,
    /// The messages that the present round found.
    messages: counts::Found,
    /// What the answers of the present round, or the last one, left open.
    open: Vec<Open>,
    /// The parameters of all pages of the present round.
    round: Option<Option<Since>>,
    /// How many pages of it were read.
    pages: u32,
    /// When the last answered call was sent, and the one in flight.
    good: Option<SystemTime>,
    asked: Option<SystemTime>,
}

/// Since when events may be missing.
#[derive(Clone, Copy)]
struct Since {
    /// By the service's clock.
    service: SystemTime,
    /// By this machine's, in which sources are asked.
    wall: SystemTime,
}

/// What is reported once a gap is filled.
struct Ending {
    unended: Unended,
    /// Until when what came later waits for it.
    waits_until: Option<Instant>,
}

/// What the end of a gap has to make up for, beside the filters that are in force then.
#[derive(Default)]
struct Unended {
    /// The filters that the gap names. One that is taken out meanwhile is asked about no more.
    filters: Vec<String>,
    /// What another gap within this one leaves open: the next end is the end of both.
    unrecovered: Vec<Unrecovered>,
    /// The subscription that replaced a lost one.
    recreated: Option<Recreated>,
}

impl Unended {
    fn add(&mut self, filters: &[String]) {
        let new: Vec<String> = filters.iter().filter(|it| !self.filters.contains(it)).cloned().collect();
        self.filters.extend(new);
    }

    /// What a gap whose end is still to come makes up for.
    fn join(&mut self, Self { filters, unrecovered, recreated }: Self) {
        self.add(&filters);
        self.unrecovered.extend(unrecovered);
        self.recreated = Recreated::joined(recreated, self.recreated.take());
    }
}

/// What came behind a gap waits this long for what the sources find; after that both
/// arrive as they come.
pub(super) const WAIT_FOR_SOURCES: Duration = Duration::from_secs(5);

impl Recovery {
    /// With the sources, each for the filters that it covers, and its position.
    pub(super) fn new(setup: &Setup, now: Instant) -> Self {
        let settle: Vec<Duration> = setup.catch_up.iter().map(|source| source.settles_after()).collect();
        let plan = Reconciler::new(setup.pace, &settle, setup.seed);
        let sources = setup.catch_up.iter().map(|source| Source {
            source: source.clone(),
            filters: [].into(),
            positions: Positions::default(),
            next: None,
            messages: counts::Found::default(),
            open: Vec::new(),
            round: None,
            pages: 0,
            good: None,
            asked: None,
        });
        let mut recovery = Self {
            sources: sources.collect(),
            plan,
            ending: None,
            unended: Unended::default(),
            since: None,
            counts: Counts::default(),
            polled_since: None,
            held_back: Vec::new(),
        };
        recovery.cover(&setup.filters);
        // Each source knows for which filters its positions are valid.
        for (at, source) in recovery.sources.iter_mut().enumerate() {
            let held = setup.resume.as_ref().and_then(|token| token.positions.get(source.source.name()));
            source.positions = held.cloned().unwrap_or_default();
            let resumed = setup.resume.as_ref();
            // A count that was not replaced by its messages before is queried at once.
            let counted = setup.enrich && resumed.is_some() && source.source.covers_messages();
            // Without push, the events since then are queried in any case.
            if held.is_some() || counted || setup.polls && resumed.is_some() {
                recovery.plan.continues_from_position(at);
            }
            if counted {
                source.good = resumed.map(|token| token.proven.get(Loss::There).min(token.proven.get(Loss::Read)));
                recovery.plan.news(now.into_std(), at);
            }
        }
        recovery
    }

    /// Covers `filters` from now on. A position is good for what it was made for:
    /// where that changed, the next call begins at the time since when events may
    /// be missing. The sources for which that changed.
    pub(super) fn cover(&mut self, filters: &[String]) -> Vec<usize> {
        let mut changed = Vec::new();
        let filters: Vec<EventFilter> = filters.iter().filter_map(|text| text.parse().ok()).collect();
        for (at, source) in self.sources.iter_mut().enumerate() {
            let covered = filters.iter().filter(|filter| source.source.covers(filter) != GapClosure::Nothing);
            let covered: Arc<[EventFilter]> = covered.cloned().collect();
            if covered != source.filters {
                source.positions.clear();
                source.next = None;
                source.filters = covered;
                changed.push(at);
            }
        }
        changed
    }

    /// A gap that has no end yet names these filters.
    pub(super) fn opened(&mut self, filters: &[String]) {
        self.unended.add(filters);
    }

    /// Events are missing since then, or since earlier: the queries begin anew.
    fn missing_since(&mut self, since: Option<SystemTime>) {
        self.since = self.since.into_iter().chain(since).min();
        for source in &mut self.sources {
            (source.round, source.next) = (None, None);
        }
    }

    /// When the source was queried whose last query is the oldest; `None` before all were.
    pub(super) fn good_since(&self) -> Option<SystemTime> {
        let asked = self.sources.iter().filter(|source| !source.filters.is_empty()).map(|source| source.good);
        asked.min().flatten()
    }

    /// What the answers of sources in place of push do not prove: an event may enter a source some time after it
    /// happened. For which filters, and since when.
    fn unsettled(&self) -> Vec<(SystemTime, Vec<String>)> {
        let unsettled = |source: &Source| {
            let (begin, settles_after) = (self.polled_since?, source.source.settles_after());
            let since = source.good.map_or(begin, |good| sub(good, settles_after).max(begin));
            let filters: Vec<String> = source.filters.iter().map(ToString::to_string).collect();
            (!settles_after.is_zero() && !filters.is_empty()).then_some((since, filters))
        };
        self.sources.iter().filter_map(unsettled).collect()
    }

    /// Since when a count is pending whose messages no source has found yet.
    pub(super) fn counts_wait_since(&self) -> Option<SystemTime> {
        let sources = self.sources.iter().enumerate().filter(|(at, _)| self.plan.has_news_for(*at));
        sources.filter_map(|(_, source)| source.good).min()
    }

    /// Whether there is a source to query.
    pub(super) fn can_ask(&self) -> bool {
        self.sources.iter().any(|source| !source.filters.is_empty())
    }

    /// The filters whose events are not proven to be delivered, and why. `reason`: overrides the sources' answers.
    fn unrecovered(&self, filters: &[String], reason: Option<OpenReason>, end: SystemTime) -> Vec<Unrecovered> {
        let of = |text: &String| {
            let filter = text.parse::<EventFilter>().ok();
            let sources = self.sources.iter().enumerate().map(|(at, source)| {
                let closure = filter.as_ref().map_or(GapClosure::Nothing, |filter| source.source.covers(filter));
                (closure, Answers { verdict: self.plan.verdict(at), open: &source.open })
            });
            match reason {
                None => proof::unrecovered(text, sources, end),
                Some(reason) => {
                    let closure = sources.map(|(closure, _)| closure).max_by_key(|closure| proof::rank(*closure));
                    let closure = closure.unwrap_or(GapClosure::Nothing);
                    let changes = filter.as_ref().map_or(Changes::ALL, Changes::reported_by);
                    let reason = if closure == GapClosure::Nothing { OpenReason::NoSource } else { reason };
                    Some(Unrecovered { filter: text.clone(), closure, changes, reason })
                }
            }
        };
        filters.iter().filter_map(of).collect()
    }

    /// The filters that no source covers in full.
    fn covered_in_part(&self, filters: &[String]) -> Vec<Unrecovered> {
        let open = self.unrecovered(filters, Some(OpenReason::InPart), SystemTime::UNIX_EPOCH);
        open.into_iter().filter(|open| open.closure != GapClosure::Complete).collect()
    }
}

impl Driver {
    /// The filters were changed. What was answered for others proves nothing for these.
    pub(super) fn cover(&mut self) {
        let (changed, now) = (self.recovery.cover(self.filters.requested()), Instant::now().into_std());
        if !changed.is_empty() && self.recovery.ending.is_some() {
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
        self.recovery.ending = Some(Ending { unended, waits_until: None });
        self.intake.queue_mut().open_hole();
        self.recovery.plan.gap(Instant::now().into_std());
    }

    /// The reader has come to a place where events were dropped or could not be opened:
    /// they are queried before it continues.
    pub(super) fn refill(&mut self, since: Option<SystemTime>, filters: Vec<String>) {
        // Another end would be that of the open gap, too, and what is being filled is filled with this.
        if self.intake.queue().is_gap_open() || self.recovery.ending.is_some() {
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
        self.recovery.ending = Some(Ending { unended, waits_until: None });
        self.intake.queue_mut().open_hole_first();
        self.recovery.plan.gap(Instant::now().into_std());
    }

    /// The end that the reader gets next is that of what is missing since then, too.
    fn leave_to_next_end(&mut self, since: Option<SystemTime>, filters: &[String]) {
        let open = self.recovery.unrecovered(filters, Some(OpenReason::NotAnswered), self.now().to);
        if self.intake.queue_mut().leave_open(&open) {
            return;
        }
        if let Some(ending) = &mut self.recovery.ending {
            ending.unended.add(filters);
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
        if let Some(Ending { unended, .. }) = self.recovery.ending.take() {
            self.recovery.unended.join(unended);
            self.intake.queue_mut().close_hole();
        }
    }

    /// Reports the gap that is being filled as not filled, since nothing follows.
    pub(super) fn cut_filling(&mut self) {
        if let Some(ending) = self.recovery.ending.take() {
            self.report_resumed(Some(OpenReason::CutShort), ending);
        }
    }

    /// Delivers the events behind the gap before the sources' findings, if those take long. The wait begins with the
    /// first waiting event.
    pub(super) fn stop_waiting(&mut self) {
        let now = Instant::now();
        let holds_back = self.intake.queue().holds_back();
        let Some(Ending { waits_until, .. }) = &mut self.recovery.ending else { return };
        if !holds_back {
            *waits_until = None;
        } else if *waits_until.get_or_insert(now + WAIT_FOR_SOURCES) <= now {
            self.intake.queue_mut().close_hole();
        }
    }

    /// When [`stop_waiting`](Self::stop_waiting) must be called next.
    pub(super) fn waits_until(&self) -> Option<Instant> {
        self.recovery.ending.as_ref().and_then(|ending| ending.waits_until).filter(|_| self.intake.queue().holds_back())
    }

    fn filled(&mut self) {
        if let Some(ending) = self.recovery.ending.take() {
            self.recovery.since = None;
            self.report_resumed(None, ending);
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

    fn report_resumed(&mut self, reason: Option<OpenReason>, ending: Ending) {
        let resumed = self.resumed_marker(reason, ending.unended);
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
                let position = Position::new(token, true, self.now().to);
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
                let position = Position::new(page.next.clone(), false, answered);
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
                let cut = (self.setup.polls || self.setup.enrich) && !page.complete && self.recovery.ending.is_none();
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
            Err(error) if is_too_large(&error) && self.recovery.ending.is_some() => {
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
        let around = match &mut self.recovery.ending {
            Some(ending) => Some(&mut ending.unended),
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
    fn push_position(&mut self, at: usize, position: Position) {
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
    pub(super) fn found(&mut self, found: Found, at: SystemTime) -> Option<Handed> {
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
                Some(Handed::Delivery { delivery, traces })
            }
            Err(malformed) => {
                let reason = malformed.to_string();
                let raw = malformed.raw().get().into();
                let undecodable = Undecodable { reason, raw, received_at: at };
                Some(Handed::Delivery { delivery: Delivery::Undecodable(undecodable), traces: Traces::default() })
            }
        }
    }
}
