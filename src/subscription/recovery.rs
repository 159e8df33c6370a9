//! The catch-up side of a subscription: its sources, and what they have yet to answer. Pure.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::continuity::Loss;
use super::counts::{self, Counts};
use super::positions::Positions;
use super::proof::{self, Answers};
use super::reconcile::{Outcome, Reconciler, Turn};
use super::setup::Setup;
use crate::catch_up::{CatchUp, Open, SyncToken};
use crate::delivery::{Changes, OpenReason, Recreated, Unrecovered};
use crate::event::{EventFilter, GapClosure};
use crate::service_clock::sub;

/// The catch-up side of a subscription.
pub(super) struct Recovery {
    pub(super) sources: Vec<Source>,
    pub(super) plan: Reconciler,
    /// The gap that ends once it is filled.
    pub(super) filling: Option<Filling>,
    /// What is reported of gaps that are not over.
    pub(super) unended: Unended,
    /// Since when events may be missing, for the calls to come.
    pub(super) since: Option<SystemTime>,
    /// Counts of messages that were pushed and whose messages are queried.
    pub(super) counts: Counts,
    /// Since when polls replace push.
    pub(super) polled_since: Option<SystemTime>,
    /// A source with further pages waits until there is room for them.
    pub(super) held_back: Vec<(usize, Turn, Outcome)>,
}

pub(super) struct Source {
    pub(super) source: Arc<dyn CatchUp>,
    pub(super) filters: Arc<[EventFilter]>,
    /// Its position, now and before.
    pub(super) positions: Positions,
    /// Where the next page of the present round begins.
    pub(super) next: Option<SyncToken>,
    /// The messages that the present round found.
    pub(super) messages: counts::Found,
    /// What the answers of the present round, or the last one, left open.
    pub(super) open: Vec<Open>,
    /// The parameters of all pages of the present round.
    pub(super) round: Option<Option<Since>>,
    /// How many pages of it were read.
    pub(super) pages: u32,
    /// When the last answered call was sent, and the one in flight.
    pub(super) good: Option<SystemTime>,
    pub(super) asked: Option<SystemTime>,
}

/// Since when events may be missing.
#[derive(Clone, Copy)]
pub(super) struct Since {
    /// By the service's clock.
    pub(super) service: SystemTime,
    /// By this machine's, in which sources are asked.
    pub(super) wall: SystemTime,
}

/// What is reported once a gap is filled.
pub(super) struct Filling {
    pub(super) unended: Unended,
    /// Until when what came later waits for it.
    pub(super) waits_until: Option<Instant>,
}

/// What the end of a gap has to make up for, beside the filters that are in force then.
#[derive(Default)]
pub(super) struct Unended {
    /// The filters that the gap names. One that is taken out meanwhile is asked about no more.
    pub(super) filters: Vec<String>,
    /// What another gap within this one leaves open: the next end is the end of both.
    pub(super) unrecovered: Vec<Unrecovered>,
    /// The subscription that replaced a lost one.
    pub(super) recreated: Option<Recreated>,
}

/// The events behind a gap wait this long for the sources' findings; after that both are delivered as they arrive.
pub(super) const WAIT_FOR_SOURCES: Duration = Duration::from_secs(5);

impl Unended {
    pub(super) fn add(&mut self, filters: &[String]) {
        let new: Vec<String> = filters.iter().filter(|it| !self.filters.contains(it)).cloned().collect();
        self.filters.extend(new);
    }

    /// What a gap whose end is still to come makes up for.
    pub(super) fn join(&mut self, Self { filters, unrecovered, recreated }: Self) {
        self.add(&filters);
        self.unrecovered.extend(unrecovered);
        self.recreated = Recreated::joined(recreated, self.recreated.take());
    }
}

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
            filling: None,
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
    pub(super) fn missing_since(&mut self, since: Option<SystemTime>) {
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
    pub(super) fn unsettled(&self) -> Vec<(SystemTime, Vec<String>)> {
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
    pub(super) fn unrecovered(
        &self,
        filters: &[String],
        reason: Option<OpenReason>,
        end: SystemTime,
    ) -> Vec<Unrecovered> {
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
    pub(super) fn covered_in_part(&self, filters: &[String]) -> Vec<Unrecovered> {
        let open = self.unrecovered(filters, Some(OpenReason::InPart), SystemTime::UNIX_EPOCH);
        open.into_iter().filter(|open| open.closure != GapClosure::Complete).collect()
    }
}
