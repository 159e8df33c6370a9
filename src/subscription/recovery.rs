//! The catch-up side of a subscription: its sources, and the gap that is being filled. Pure.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::continuity::Loss;
use super::counts::{Counts, Judged};
use super::machine::Phase;
use super::positions::SourcePosition;
use super::proof::{self, Answers};
use super::reconcile::{Outcome, Pace, Reconciler, Turn};
use super::setup::Setup;
use super::source::{Part, Query, Since, Source};
use crate::catch_up::{CatchUp, SyncPage};
use crate::delivery::{Changes, OpenReason, Recreated, Resumed, Unrecovered};
use crate::event::{DedupKey, Event, EventFilter, EventKind, GapClosure, Notification};
use crate::ids::ExtensionId;
use crate::service_clock::{add, sub};

/// The events behind a gap wait this long for the sources' findings; after that both are delivered as they arrive.
const WAIT_FOR_SOURCES: Duration = Duration::from_secs(5);

/// What the end of a gap reports, beside the filters that are in force then.
#[derive(Debug, Default)]
pub(super) struct Unended {
    /// The filters that the gap names. One that is removed meanwhile is queried no longer.
    filters: Vec<String>,
    /// What another gap within this one leaves open: the next end is the end of both.
    unrecovered: Vec<Unrecovered>,
    /// The subscription that replaced a lost one.
    recreated: Option<Recreated>,
    /// By how much the service's clock was set back since the gap was reported: its beginning is by the clock as it
    /// was.
    set_back: Duration,
}

impl Unended {
    pub(super) fn of(filters: Vec<String>) -> Self {
        Self { filters, ..Self::default() }
    }

    fn add(&mut self, filters: &[String]) {
        let new: Vec<String> = filters.iter().filter(|it| !self.filters.contains(it)).cloned().collect();
        self.filters.extend(new);
    }

    /// The end of this gap is the end of that one, too.
    fn join(&mut self, Self { filters, unrecovered, recreated, set_back }: Self) {
        self.add(&filters);
        self.set_back = self.set_back.max(set_back);
        self.unrecovered.extend(unrecovered);
        self.recreated = Recreated::joined(recreated, self.recreated.take());
    }
}

/// The gap that ends once it is filled.
struct Filling {
    unended: Unended,
    /// Until when later events wait for it.
    waits_until: Option<Instant>,
}

/// A count was taken: its messages are queried.
#[derive(Debug)]
pub(super) struct Counted {
    /// The oldest count, if too many wait.
    pub(super) overflow: Option<Box<Notification>>,
}

/// Owns the sources and their rounds, the gap that is being filled, and the counts whose messages are queried.
///
/// Inputs: gaps, filters, the answers of sources. Effects: queries, by its plan. Answers: what is proven at the end of a
/// gap, and what is not.
pub(super) struct Recovery {
    pub(super) plan: Reconciler,
    sources: Vec<Source>,
    /// Whether nothing is pushed.
    polls: bool,
    /// Whether counts of messages are replaced by the messages.
    enrich: bool,
    filling: Option<Filling>,
    /// What is reported of gaps that are not over.
    unended: Unended,
    /// Since when events may be missing, for the calls to come.
    since: Option<SystemTime>,
    /// Counts of messages that were pushed and whose messages are queried.
    counts: Counts,
    /// Since when polls replace push.
    polled_since: Option<SystemTime>,
    /// Sources with further pages, which wait until there is room for them.
    held_back: Vec<(usize, Turn, Outcome)>,
}

impl Recovery {
    /// With the sources, each for the filters that it covers, and its position.
    pub(super) fn new(setup: &Setup, now: Instant) -> Self {
        let mut recovery = Self::of(&setup.catch_up, setup.pace, setup.seed);
        (recovery.polls, recovery.enrich) = (setup.polls, setup.enrich);
        recovery.cover(&setup.filters);
        let Some(token) = &setup.resume else { return recovery };
        // Each source knows for which filters its positions are valid.
        for (at, source) in recovery.sources.iter_mut().enumerate() {
            let held = token.positions.get(source.name());
            source.restore(held.cloned().unwrap_or_default());
            // A count that was not replaced by its messages before is queried at once.
            let counted = setup.enrich && source.finds_messages();
            // Without push, the events since then are queried in any case.
            if held.is_some() || counted || setup.polls {
                recovery.plan.continues_from_position(at);
            }
            if counted {
                source.asked_before(Some(token.proven.get(Loss::There).min(token.proven.get(Loss::Read))));
                recovery.plan.news(now.into_std(), at);
            }
        }
        recovery
    }

    fn of(sources: &[Arc<dyn CatchUp>], pace: Pace, seed: u64) -> Self {
        let settle: Vec<Duration> = sources.iter().map(|source| source.settles_after()).collect();
        Self {
            plan: Reconciler::new(pace, &settle, seed),
            sources: sources.iter().cloned().map(Source::new).collect(),
            polls: false,
            enrich: false,
            filling: None,
            unended: Unended::default(),
            since: None,
            counts: Counts::default(),
            polled_since: None,
            held_back: Vec::new(),
        }
    }

    /// Another transport is used; `polls`: nothing is pushed over it.
    pub(super) fn polls_alone(&mut self, polls: bool) {
        self.polls = polls;
        self.plan.polls_alone(polls);
    }

    /// Passes the state of push to the plan. `false`: nothing is queried now, so that no gap is filled.
    pub(super) fn observe(&mut self, phase: Phase, has_room: bool, now: Instant) -> bool {
        let is_over = matches!(phase, Phase::Closing | Phase::Closed);
        if is_over || !self.can_ask() {
            self.plan.stop(is_over);
            return false;
        }
        match phase {
            Phase::Live if !self.polls => self.plan.push_up(now.into_std()),
            Phase::Live | Phase::Connecting | Phase::Reconnecting | Phase::Recreating => {
                self.plan.push_down(now.into_std());
            }
            Phase::Starting | Phase::Closing | Phase::Closed => return false,
        }
        self.release(has_room, now);
        self.plan.handle_timeout(now.into_std());
        true
    }

    /// The service's clock was set back by so much: an instant is that much earlier by it. The positions of sources
    /// stay as they are: by a later time they prove less.
    pub(super) fn move_back(&mut self, by: Duration) {
        self.since.iter_mut().chain(&mut self.polled_since).for_each(|at| *at = sub(*at, by));
        self.sources.iter_mut().for_each(|source| source.move_back(by));
        let filled = self.filling.as_mut().map(|filling| &mut filling.unended);
        for unended in filled.into_iter().chain([&mut self.unended]).filter(|unended| !unended.filters.is_empty()) {
            unended.set_back = unended.set_back.saturating_add(by);
        }
    }

    /// Whether a poll delivers what is not pushed.
    pub(super) fn is_polled(&self) -> bool {
        self.polls || self.plan.has_news()
    }

    /// Whether the polls that replace push fail.
    pub(super) fn is_poll_failing(&self) -> bool {
        self.polls && !self.plan.is_well()
    }

    /// Whether the latest query of a source failed.
    pub(super) fn does_source_fail(&self) -> bool {
        !self.plan.is_well()
    }

    /// Since when events may be missing in the gap that is being filled.
    pub(super) fn unfilled_since(&self) -> Option<SystemTime> {
        self.since.filter(|_| self.is_filling())
    }

    /// The user asks for events now: without push, the sources are polled.
    pub(super) fn poll_now(&mut self, now: Instant) {
        if self.polls {
            self.plan.poll_now(now.into_std());
        }
    }

    /// Covers `filters` from now on. Returns the sources for which that is a change.
    fn cover(&mut self, filters: &[String]) -> Vec<usize> {
        let filters: Vec<EventFilter> = filters.iter().filter_map(|text| text.parse().ok()).collect();
        let sources = self.sources.iter_mut().enumerate();
        sources.filter_map(|(at, source)| source.cover(&filters).then_some(at)).collect()
    }

    /// The filters were changed. What was answered for others proves nothing for these.
    pub(super) fn change_filters(&mut self, filters: &[String], now: Instant) {
        let (changed, now) = (self.cover(filters), now.into_std());
        if !changed.is_empty() && self.is_filling() {
            self.plan.gap(now);
        }
        // A gap that begins soon needs a position for the present filters.
        changed.into_iter().for_each(|at| self.plan.check_one(now, at));
    }

    /// Whether there is a source to query.
    pub(super) fn can_ask(&self) -> bool {
        self.sources.iter().any(|source| !source.filters().is_empty())
    }

    /// A gap that has no end yet names these filters.
    pub(super) fn opened(&mut self, filters: &[String]) {
        self.unended.add(filters);
    }

    /// Events are missing since then, or since earlier: the queries begin anew.
    pub(super) fn missing_since(&mut self, since: Option<SystemTime>) {
        self.since = self.since.into_iter().chain(since).min();
        self.sources.iter_mut().for_each(Source::restart);
    }

    /// What the end of all gaps until now reports.
    pub(super) fn take_unended(&mut self, recreated: Option<Recreated>) -> Unended {
        let mut unended = std::mem::take(&mut self.unended);
        unended.recreated = Recreated::joined(unended.recreated, recreated);
        unended
    }

    /// Fills a gap: the sources are queried for what is missing since then.
    pub(super) fn fill(&mut self, since: Option<SystemTime>, unended: Unended, now: Instant) {
        self.missing_since(since);
        self.filling = Some(Filling { unended, waits_until: None });
        self.plan.gap(now.into_std());
    }

    /// Whether a gap is being filled.
    pub(super) fn is_filling(&self) -> bool {
        self.filling.is_some()
    }

    /// The gap that is being filled is filled for what is missing since then, too; `false` if no gap is being filled.
    pub(super) fn fill_more(&mut self, since: Option<SystemTime>, filters: &[String], now: Instant) -> bool {
        let Some(filling) = &mut self.filling else { return false };
        filling.unended.add(filters);
        self.missing_since(since);
        self.plan.gap(now.into_std());
        true
    }

    /// The next end of a gap reports these as not recovered.
    pub(super) fn leave_open(&mut self, open: Vec<Unrecovered>) {
        self.unended.unrecovered.extend(open);
    }

    /// Another gap begins: its end is that of the gap that is being filled, too; `false` if no gap is.
    pub(super) fn fill_with_next(&mut self) -> bool {
        let Some(Filling { unended, .. }) = self.filling.take() else { return false };
        self.unended.join(unended);
        true
    }

    /// The gap is not filled any further. Returns what its end reports.
    pub(super) fn cut(&mut self) -> Option<Unended> {
        self.filling.take().map(|filling| filling.unended)
    }

    /// The gap is filled as far as possible. Returns what its end reports.
    pub(super) fn filled(&mut self) -> Option<Unended> {
        let unended = self.cut()?;
        self.since = None;
        Some(unended)
    }

    /// Whether events behind the gap that is being filled are to be delivered before it is: `holds_back`, whether there
    /// are any. The wait begins with the first of them.
    pub(super) fn waited_enough(&mut self, holds_back: bool, now: Instant) -> bool {
        let Some(Filling { waits_until, .. }) = &mut self.filling else { return false };
        if holds_back {
            return *waits_until.get_or_insert(now + WAIT_FOR_SOURCES) <= now;
        }
        *waits_until = None;
        false
    }

    /// When [`waited_enough`](Self::waited_enough) must be called next, if events are held back.
    pub(super) fn waits_until(&self) -> Option<Instant> {
        self.filling.as_ref()?.waits_until
    }

    /// The end of a gap, with `requested` as the filters in force. `now` by the service's clock; `at`: the time that it
    /// reports. `reason`: why nothing is proven, overriding the sources' answers.
    pub(super) fn resumed(
        &self,
        Unended { filters, unrecovered: more, recreated, set_back }: Unended,
        requested: &[String],
        reason: Option<OpenReason>,
        (now, at): (SystemTime, SystemTime),
    ) -> Resumed {
        let mut unrecovered = self.unrecovered(requested, reason, now);
        let out = filters.iter().filter(|filter| !requested.contains(filter));
        let more = out.filter_map(|filter| proof::unrecovered(filter, std::iter::empty(), now)).chain(more);
        for open in more {
            if unrecovered.iter().all(|it| it.filter != open.filter) {
                unrecovered.push(open);
            }
        }
        Resumed { complete: unrecovered.is_empty(), at: add(at, set_back), recreated, unrecovered }
    }

    /// The filters whose events are not proven to be delivered, and why. `reason`: overrides the sources' answers.
    pub(super) fn unrecovered(
        &self,
        filters: &[String],
        reason: Option<OpenReason>,
        end: SystemTime,
    ) -> Vec<Unrecovered> {
        let of = |text: &String| {
            let filter = text.parse::<EventFilter>().ok();
            let sources = self.sources.iter().enumerate().map(|(at, source)| {
                let closure = filter.as_ref().map_or(GapClosure::Nothing, |filter| source.covers(filter));
                (closure, Answers { verdict: self.plan.verdict(at), open: source.open() })
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

    /// Without push: the filters that no source covers in full.
    pub(super) fn left_out(&self, filters: &[String]) -> Vec<String> {
        if !self.polls {
            return Vec::new();
        }
        let open = self.unrecovered(filters, Some(OpenReason::InPart), SystemTime::UNIX_EPOCH);
        open.into_iter().filter(|open| open.closure != GapClosure::Complete).map(|open| open.filter).collect()
    }

    pub(super) fn name(&self, at: usize) -> Option<&'static str> {
        self.sources.get(at).map(Source::name)
    }

    /// Queries a source for its first position; `None` if it covers no filter.
    pub(super) fn begin(&mut self, at: usize, asked: SystemTime) -> Option<Query> {
        self.sources.get_mut(at)?.begin(asked)
    }

    /// Since when events may be missing, for the next calls; `open`: since when they are, in a gap that is open.
    pub(super) fn since(&self, open: Option<SystemTime>) -> Option<SystemTime> {
        self.since.into_iter().chain(open).min()
    }

    /// Queries a source: for events that may be missing `since` then, if they may. `None` if it covers no filter.
    pub(super) fn ask(
        &mut self,
        at: usize,
        since: Option<SystemTime>,
        asked: SystemTime,
        to_wall: impl Fn(SystemTime) -> SystemTime,
    ) -> Option<Query> {
        let source = self.sources.get_mut(at)?;
        let finds_messages = self.enrich && source.finds_messages();
        // Changes count since the last query: counts reported them.
        let since =
            if self.enrich { since.or(source.good()).map(|it| it.min(source.good().unwrap_or(it))) } else { since };
        let begins = source.is_between_rounds();
        // If nothing else delivers, everything up to its newest position was found.
        let from_newest = self.polls || finds_messages;
        let query = source.ask(since.map(|service| Since { service, wall: to_wall(service) }), from_newest, asked)?;
        if begins && finds_messages {
            self.counts.ask();
        }
        Some(query)
    }

    /// A source answered with its first position.
    pub(super) fn begun(&mut self, at: usize, position: SourcePosition) {
        if let Some(source) = self.sources.get_mut(at) {
            source.begun(position);
        }
    }

    /// A source answered with a page.
    pub(super) fn answered(&mut self, at: usize, page: &mut SyncPage, position: SourcePosition) {
        if let Some(source) = self.sources.get_mut(at) {
            source.answered(page, position);
        }
    }

    /// Whether a page that is not complete is to be reported: in a gap, its end does.
    pub(super) fn reports_part(&self, page: &SyncPage) -> bool {
        (self.polls || self.enrich) && !page.complete && !self.is_filling()
    }

    /// The answer of a source was too large.
    pub(super) fn answered_too_much(&mut self, at: usize) {
        if let Some(source) = self.sources.get_mut(at) {
            source.answered_too_much();
        }
    }

    /// The call of a source failed.
    pub(super) fn failed(&mut self, at: usize) {
        let finds_messages = self.finds_messages(at);
        if self.sources.get_mut(at).is_some_and(Source::failed) && finds_messages {
            self.counts.not_asked();
        }
    }

    /// Whether a source is asked for the messages behind counts.
    pub(super) fn finds_messages(&self, at: usize) -> bool {
        self.enrich && self.sources.get(at).is_some_and(Source::finds_messages)
    }

    /// The present round of a source found messages.
    pub(super) fn found(&mut self, at: usize, notification: &Notification) {
        if let Some(source) = self.sources.get_mut(at) {
            source.found(notification);
        }
    }

    /// A source answered everything that it was asked. Counts whose messages it did not find are delivered themselves,
    /// queried again, and finally reported missing (found 3.7). `is_known`: what was delivered before.
    pub(super) fn judge_counts(&mut self, at: usize, now: Instant, is_known: impl FnMut(&DedupKey) -> bool) -> Judged {
        let Some(source) = self.sources.get_mut(at).filter(|source| self.enrich && source.finds_messages()) else {
            return Judged::default();
        };
        let judged = self.counts.judge(&source.take_messages(), is_known);
        if let Some(after) = judged.again_after {
            self.plan.ask_again(now.into_std(), at, after);
        }
        judged
    }

    /// The source for messages will not answer: the counts are delivered.
    pub(super) fn give_up_counts(&mut self) -> Vec<Notification> {
        self.counts.give_up()
    }

    /// Takes a notification that only counts messages, if a source is asked for the messages.
    pub(super) fn count(
        &mut self,
        notification: &Notification,
        owner: Option<&ExtensionId>,
        now: Instant,
    ) -> Option<Counted> {
        if !self.enrich || !matches!(notification.event(), Event::MessageStore(_)) {
            return None;
        }
        let covers = |source: &Source| {
            source.filters().iter().any(|filter| filter.kind() == EventKind::MessageStore) && source.finds_messages()
        };
        let at = self.sources.iter().position(covers)?;
        let is_taken = self.plan.news(now.into_std(), at);
        is_taken.then(|| Counted { overflow: self.counts.push(Box::new(notification.clone()), owner) })
    }

    /// Since when a count is pending whose messages no source has found yet.
    pub(super) fn counts_wait_since(&self) -> Option<SystemTime> {
        let sources = self.sources.iter().enumerate().filter(|(at, _)| self.plan.has_news_for(*at));
        sources.filter_map(|(_, source)| source.good()).min()
    }

    /// What a source did not answer in full, and what that leaves open.
    pub(super) fn part(
        &self,
        at: usize,
        since: Option<SystemTime>,
        reason: Option<OpenReason>,
        now: SystemTime,
    ) -> Option<(Part, Vec<Unrecovered>)> {
        let part = self.sources.get(at)?.part(since, reason);
        let unrecovered = self.unrecovered(&part.filters, Some(part.reason), now);
        Some((part, unrecovered))
    }

    /// Within another gap, what is left open has no separate end, which would be the end of both. `lost`: whether a gap
    /// is open. Returns it if there is no gap around it.
    pub(super) fn leave_to_gap_around(
        &mut self,
        unrecovered: Vec<Unrecovered>,
        lost: bool,
    ) -> Result<(), Vec<Unrecovered>> {
        let around = match &mut self.filling {
            Some(filling) => &mut filling.unended,
            None if lost => &mut self.unended,
            None => return Err(unrecovered),
        };
        around.unrecovered.extend(unrecovered);
        Ok(())
    }

    /// A call of a source ended. The next answer may be large, so there has to be room for it.
    pub(super) fn done(&mut self, at: usize, turn: Turn, outcome: Outcome, has_room: bool, now: Instant) {
        self.held_back.push((at, turn, outcome));
        self.release(has_room, now);
    }

    /// There may be room for further pages.
    fn release(&mut self, has_room: bool, now: Instant) {
        let now = now.into_std();
        for (at, turn, outcome) in std::mem::take(&mut self.held_back) {
            if matches!(outcome, Outcome::Synced { .. }) && !has_room {
                self.held_back.push((at, turn, outcome));
                // The reader's time does not count as the source's.
                self.plan.waits_for_room(now);
            } else {
                self.plan.done(now, at, turn, outcome);
            }
        }
    }

    /// Without push, everything up to the last answers of all sources is read: up to when. `read`: up to when everything
    /// was read before the first of them.
    pub(super) fn polled_up_to(&mut self, read: SystemTime) -> Option<SystemTime> {
        let asked = self.sources.iter().filter(|source| !source.filters().is_empty()).map(Source::good);
        let upto = asked.min().flatten().filter(|_| self.polls)?;
        self.polled_since.get_or_insert(read);
        Some(upto)
    }

    /// Polls end. Returns what the sources' answers do not prove: since when, and for which filters.
    pub(super) fn end_polls(&mut self) -> Vec<(SystemTime, Vec<String>)> {
        let Some(begun) = self.polled_since.take() else { return Vec::new() };
        self.sources.iter().filter_map(|source| source.unsettled(begun)).collect()
    }
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
