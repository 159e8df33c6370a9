//! Gaps filled, and polls in the place of push.

use super::*;
use crate::catch_up::{CatchUp, Found, SyncPage, SyncToken};
use crate::event::{EventFilter, GapClosure};
use crate::subscription::reconcile::{Ask, Outcome, Reconciler, Turn};

/// The catch-up side of a subscription.
pub(super) struct Recovery {
    pub(super) sources: Vec<Source>,
    pub(super) plan: Reconciler,
    /// The gap whose end waits until it is filled.
    ending: Option<Ending>,
    /// Since when events may be missing, for the calls to come.
    since: Option<SystemTime>,
    /// A source that has more to tell waits until there is room for it.
    held_back: Vec<(usize, Turn, Outcome)>,
}

pub(super) struct Source {
    pub(super) source: Arc<dyn CatchUp>,
    pub(super) filters: Arc<[EventFilter]>,
    pub(super) token: Option<SyncToken>,
}

/// What is told once a gap is filled.
struct Ending {
    recreated: Option<Recreated>,
}

impl Recovery {
    /// With those of `sources` that cover one of `filters`.
    pub(super) fn new(sources: &[Arc<dyn CatchUp>], filters: &[String], pace: Pace, seed: u64) -> Self {
        let filters: Vec<EventFilter> = filters.iter().filter_map(|text| text.parse().ok()).collect();
        let sources: Vec<Source> = sources
            .iter()
            .map(|source| {
                let covered = filters.iter().filter(|filter| source.covers(filter) != GapClosure::Nothing);
                Source { source: source.clone(), filters: covered.cloned().collect(), token: None }
            })
            .filter(|source| !source.filters.is_empty())
            .collect();
        let plan = Reconciler::new(pace, sources.len(), Instant::now().into_std(), seed);
        Self { sources, plan, ending: None, since: None, held_back: Vec::new() }
    }

    /// The filters that no source, or no source in full, makes up for.
    fn left_open(&self, filters: &[String]) -> Vec<LeftOpen> {
        let best = |filter: &EventFilter| {
            let covers = self.sources.iter().map(|source| source.source.covers(filter));
            covers.max_by_key(|quality| match quality {
                GapClosure::Nothing => 0,
                GapClosure::StateOnly => 1,
                GapClosure::Partial => 2,
                GapClosure::Complete => 3,
            })
        };
        let quality = |text: &String| {
            let filter = text.parse::<EventFilter>().ok();
            (text.clone(), filter.as_ref().and_then(best).unwrap_or(GapClosure::Nothing))
        };
        filters
            .iter()
            .map(quality)
            .filter(|(_, closure)| *closure != GapClosure::Complete)
            .map(|(filter, closure)| LeftOpen { filter, closure })
            .collect()
    }
}

impl Driver {
    /// A gap that ends here, unless its events can be asked for first.
    pub(super) fn end_gap(&mut self, since: Option<SystemTime>, recreated: Option<Recreated>) {
        if self.recovery.sources.is_empty() {
            return self.tell_resumed(false, recreated);
        }
        // One that is being filled has its end before this one begins.
        self.cut_filling();
        let earliest = self.recovery.since.into_iter().chain(since).min();
        self.recovery.since = earliest;
        self.recovery.ending = Some(Ending { recreated });
        self.queue.open_hole();
        self.recovery.plan.gap(Instant::now().into_std());
    }

    /// The reader has come to the place where the queue had been full: what was
    /// dropped there is asked for.
    pub(super) fn refill(&mut self, since: Option<SystemTime>) {
        if self.recovery.sources.is_empty() || !self.may_ask() {
            return;
        }
        self.queue.drop_overflow_end();
        self.cut_filling();
        self.recovery.since = self.recovery.since.into_iter().chain(since).min();
        self.recovery.ending = Some(Ending { recreated: None });
        self.queue.open_hole_first();
        self.recovery.plan.gap(Instant::now().into_std());
    }

    /// Not at the end: what is missing then stays so.
    fn may_ask(&self) -> bool {
        matches!(
            self.machine.phase(),
            machine::Phase::Live
                | machine::Phase::Connecting
                | machine::Phase::Reconnecting
                | machine::Phase::Recreating
        )
    }

    /// The gap that is being filled is told as not filled.
    pub(super) fn cut_filling(&mut self) {
        if let Some(Ending { recreated }) = self.recovery.ending.take() {
            self.tell_resumed_in_hole(false, recreated);
        }
    }

    fn filled(&mut self, complete: bool) {
        if let Some(Ending { recreated }) = self.recovery.ending.take() {
            self.recovery.since = None;
            self.tell_resumed_in_hole(complete, recreated);
        }
    }

    fn resumed_marker(&self, answered: bool, recreated: Option<Recreated>) -> Delivery {
        let left_open = self.recovery.left_open(&self.setup.filters);
        let complete = answered && left_open.is_empty();
        Delivery::Resumed(Resumed { complete, at: self.setup.clock.wall(), recreated, left_open })
    }

    pub(super) fn tell_resumed(&mut self, answered: bool, recreated: Option<Recreated>) {
        let marker = self.resumed_marker(answered, recreated);
        self.queue.push_marker(marker);
    }

    fn tell_resumed_in_hole(&mut self, answered: bool, recreated: Option<Recreated>) {
        let marker = self.resumed_marker(answered, recreated);
        self.queue.push_found(Item::Marker(marker));
        self.queue.close_hole();
    }

    /// Tells the plan how push is, and does what it asks for.
    pub(super) fn reconcile(&mut self) {
        if self.recovery.sources.is_empty() {
            return;
        }
        let now = Instant::now().into_std();
        match self.machine.phase() {
            machine::Phase::Live => self.recovery.plan.push_up(now),
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
                Ask::Filled { complete } => self.filled(complete),
            }
        }
    }

    fn begin(&mut self, at: usize, turn: Turn) {
        if let Some(source) = self.recovery.sources.get(at) {
            self.passing.push(ops::begin(source.source.clone(), source.filters.clone(), at, turn));
        }
    }

    fn sync(&mut self, at: usize, turn: Turn, missed: bool) {
        let since = self.recovery.since.or_else(|| self.good_since()).filter(|_| missed);
        if let Some(source) = self.recovery.sources.get(at) {
            let (filters, token) = (source.filters.clone(), source.token.clone());
            self.passing.push(ops::sync(source.source.clone(), filters, token, since, at, turn));
        }
    }

    pub(super) fn begun(&mut self, at: usize, turn: Turn, result: Result<SyncToken>) {
        let outcome = match result {
            Ok(token) => {
                self.keep(at, token);
                Outcome::Began
            }
            Err(error) => self.source_failed(at, &error),
        };
        self.recovery.plan.done(Instant::now().into_std(), at, turn, outcome);
    }

    pub(super) fn synced(&mut self, at: usize, turn: Turn, result: Result<SyncPage>) {
        let outcome = match result {
            Ok(page) => {
                let outcome = Outcome::Synced { found: page.found.len(), more: page.more, complete: page.complete };
                self.keep(at, page.next);
                let wall = self.setup.clock.wall();
                for found in page.found {
                    self.queue.push_found(Item::Found { found, at: wall });
                }
                outcome
            }
            Err(error) => self.source_failed(at, &error),
        };
        self.recovery.held_back.push((at, turn, outcome));
        self.release();
    }

    /// What is asked for next may be large, so there has to be room for it.
    fn release(&mut self) {
        let wants_room = |outcome: &Outcome| matches!(outcome, Outcome::Synced { more: true, .. });
        let room = self.queue.has_room();
        let now = Instant::now().into_std();
        for (at, turn, outcome) in std::mem::take(&mut self.recovery.held_back) {
            if wants_room(&outcome) && !room {
                self.recovery.held_back.push((at, turn, outcome));
                // The reader's time is not the source's.
                self.recovery.plan.goes_on(now);
            } else {
                self.recovery.plan.done(now, at, turn, outcome);
            }
        }
    }

    fn keep(&mut self, at: usize, token: SyncToken) {
        if let Some(source) = self.recovery.sources.get_mut(at) {
            source.token = Some(token);
        }
    }

    fn source_failed(&self, at: usize, error: &Error) -> Outcome {
        let name = self.recovery.sources.get(at).map(|source| source.source.name());
        tracing::warn!(%error, source = name, subscription = self.id_for_log(), "a catch-up source failed");
        Outcome::Failed(error.disposition())
    }

    /// An event that a source found; `None` for a repetition.
    pub(super) fn found(&mut self, found: Found, at: SystemTime) -> Option<Handed> {
        let origin = if found.snapshot { Origin::Snapshot } else { Origin::CatchUp };
        match Notification::parse(found.notification, origin, at) {
            Ok(notification) => {
                let subjects = notification.subject_keys();
                if !found.snapshot && !self.told.admit_found(&subjects, Instant::now()) {
                    return None;
                }
                Some(Handed::Delivery { delivery: Delivery::Notification(Box::new(notification)), key: None })
            }
            Err(malformed) => {
                let reason = malformed.to_string();
                let raw = malformed.raw().get().into();
                let undecodable = Undecodable { reason, raw, received_at: at };
                Some(Handed::Delivery { delivery: Delivery::Undecodable(undecodable), key: None })
            }
        }
    }
}
