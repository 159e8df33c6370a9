//! A catch-up source of a subscription: its positions, and the round of queries in progress. Pure.
//!
//! A round is the pages of one answer: they have the same parameters, and each begins where the one before ended.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::counts;
use super::positions::{Positions, SourcePosition};
use crate::catch_up::{CatchUp, Open, SyncPage, SyncToken};
use crate::delivery::{Changes, OpenReason};
use crate::event::{EventFilter, GapClosure, Notification};
use crate::service_clock::sub;

/// The most pages of one round. The largest documented page has 1 000 records; a longer list has no end, or repeats
/// itself.
const PAGES: u32 = 1000;

/// Since when events may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Since {
    /// By the service's clock.
    pub(super) service: SystemTime,
    /// By this machine's, in which sources are asked.
    pub(super) wall: SystemTime,
}

/// A call of a source.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) source: Arc<dyn CatchUp>,
    pub(super) filters: Arc<[EventFilter]>,
    /// Where it begins.
    pub(super) token: Option<SyncToken>,
    /// Since when events may be missing, by this machine's clock.
    pub(super) since: Option<SystemTime>,
}

/// What a source did not answer in full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) since: Option<SystemTime>,
    pub(super) filters: Vec<String>,
    pub(super) reason: OpenReason,
}

/// Owns the positions of a source, the filters that it is asked for, and the round of queries in progress.
pub(super) struct Source {
    source: Arc<dyn CatchUp>,
    filters: Arc<[EventFilter]>,
    /// Its position, now and before.
    positions: Positions,
    /// Where the next page of the present round begins.
    next: Option<SyncToken>,
    /// The messages that the present round found.
    messages: counts::Found,
    /// What the answers of the present round, or the last one, left open.
    open: Vec<Open>,
    /// The parameter of all pages of the present round.
    round: Option<Option<Since>>,
    /// How many pages of it were read.
    pages: u32,
    /// When the last answered call was sent, and the one in flight.
    good: Option<SystemTime>,
    asked: Option<SystemTime>,
}

impl Source {
    pub(super) fn new(source: Arc<dyn CatchUp>) -> Self {
        Self {
            source,
            filters: [].into(),
            positions: Positions::default(),
            next: None,
            messages: counts::Found::default(),
            open: Vec::new(),
            round: None,
            pages: 0,
            good: None,
            asked: None,
        }
    }

    /// Another process stored these positions.
    pub(super) fn restore(&mut self, positions: Positions) {
        self.positions = positions;
    }

    /// Another process asked it last before this time.
    pub(super) fn asked_before(&mut self, at: Option<SystemTime>) {
        self.good = at;
    }

    /// The service's clock was set back by so much.
    pub(super) fn move_back(&mut self, by: Duration) {
        let round = self.round.iter_mut().flatten().map(|since| &mut since.service);
        self.good.iter_mut().chain(&mut self.asked).chain(round).for_each(|at| *at = sub(*at, by));
    }

    pub(super) fn name(&self) -> &'static str {
        self.source.name()
    }

    pub(super) fn covers(&self, filter: &EventFilter) -> GapClosure {
        self.source.covers(filter)
    }

    /// Whether it finds the messages behind a count.
    pub(super) fn finds_messages(&self) -> bool {
        self.source.covers_messages()
    }

    /// The filters that it is asked for.
    pub(super) fn filters(&self) -> &[EventFilter] {
        &self.filters
    }

    /// What its answers left open.
    pub(super) fn open(&self) -> &[Open] {
        &self.open
    }

    /// When the last answered call was sent.
    pub(super) fn good(&self) -> Option<SystemTime> {
        self.good
    }

    /// Covers `filters` from now on; returns whether that is a change. A position is good for the filters that it was
    /// made for: where they changed, the next call begins at the time since when events may be missing.
    pub(super) fn cover(&mut self, filters: &[EventFilter]) -> bool {
        let covered = filters.iter().filter(|filter| self.source.covers(filter) != GapClosure::Nothing);
        let covered: Arc<[EventFilter]> = covered.cloned().collect();
        let is_new = covered != self.filters;
        if is_new {
            self.positions.clear();
            self.next = None;
            self.filters = covered;
        }
        is_new
    }

    /// The next query begins a round.
    pub(super) fn restart(&mut self) {
        (self.round, self.next) = (None, None);
    }

    /// Asks for the first position; `None` if it covers no filter.
    pub(super) fn begin(&mut self, asked: SystemTime) -> Option<Query> {
        self.asked = Some(asked);
        self.query(None, None)
    }

    /// Asks for the next page, in the present round or a new one. `since`: since when events may be
    /// missing, if they may. `from_newest`: every event up to the newest position was found. `None` if it covers no
    /// filter.
    pub(super) fn ask(&mut self, since: Option<Since>, from_newest: bool, asked: SystemTime) -> Option<Query> {
        self.asked.get_or_insert(asked);
        if self.filters.is_empty() {
            return None;
        }
        if self.round.is_none() {
            self.open.clear();
            self.messages = counts::Found::default();
        }
        let since = *self.round.get_or_insert(since);
        let position = match since.filter(|_| !from_newest) {
            Some(since) => self.positions.reaching(since.service, self.source.overlap()),
            None => self.positions.newest(),
        };
        let token = self.next.clone().or_else(|| position.map(|position| position.token.clone()));
        self.query(token, since.map(|since| since.wall))
    }

    fn query(&self, token: Option<SyncToken>, since: Option<SystemTime>) -> Option<Query> {
        let (source, filters) = (self.source.clone(), self.filters.clone());
        (!filters.is_empty()).then_some(Query { source, filters, token, since })
    }

    /// Whether the next query begins a round.
    pub(super) fn is_between_rounds(&self) -> bool {
        self.round.is_none()
    }

    /// It answered with its first position.
    pub(super) fn begun(&mut self, position: SourcePosition) {
        self.good = self.asked.take();
        self.positions.push(position);
    }

    /// It answered with a page. An endless round ends here, and is not complete then.
    pub(super) fn answered(&mut self, page: &mut SyncPage, position: SourcePosition) {
        self.bound(page);
        if self.next.is_some() {
            self.positions.replace(position);
        } else {
            self.positions.push(position);
        }
        self.open.extend(page.open.iter().cloned());
        self.next = page.more.then(|| page.next.clone());
        if !page.more {
            self.round = None;
            self.good = self.asked.take();
        }
    }

    fn bound(&mut self, page: &mut SyncPage) {
        self.pages = if page.more { self.pages.saturating_add(1) } else { 0 };
        if self.pages >= PAGES {
            tracing::warn!(source = self.name(), pages = PAGES, "a catch-up source returns endless pages");
            self.pages = 0;
            (page.more, page.complete) = (false, false);
            page.open.push(Open { filter: None, changes: Changes::ALL, reason: OpenReason::TooMuch });
        }
    }

    /// Its answer was too large, and the next one would be as large (found 6.10).
    pub(super) fn answered_too_much(&mut self) {
        self.open.push(Open { filter: None, changes: Changes::ALL, reason: OpenReason::TooMuch });
        self.restart();
        self.asked = None;
    }

    /// The call failed. Returns whether no page of the round was answered: it begins anew then.
    pub(super) fn failed(&mut self) -> bool {
        let is_unanswered = self.next.is_none();
        if is_unanswered {
            self.round = None;
        }
        is_unanswered
    }

    /// The present round found messages.
    pub(super) fn found(&mut self, notification: &Notification) {
        self.messages.add(notification);
    }

    /// The messages that the round found.
    pub(super) fn take_messages(&mut self) -> counts::Found {
        std::mem::take(&mut self.messages)
    }

    /// What it did not answer in full: since `since`, or since the round or the last answer says so; for a source that
    /// never answers, everything.
    pub(super) fn part(&self, since: Option<SystemTime>, reason: Option<OpenReason>) -> Part {
        let round = self.round.flatten().map(|since| since.service);
        let reason = reason.or(self.open.first().map(|open| open.reason)).unwrap_or(OpenReason::Refused);
        Part { since: since.or(round).or(self.good), filters: self.filter_texts(), reason }
    }

    /// What its answers in place of push, which began at `begun`, do not prove: an event may enter it some time after
    /// it happened. Since when, and for which filters.
    pub(super) fn unsettled(&self, begun: SystemTime) -> Option<(SystemTime, Vec<String>)> {
        let settles_after = self.source.settles_after();
        let since = self.good.map_or(begun, |good| sub(good, settles_after).max(begun));
        (!settles_after.is_zero() && !self.filters.is_empty()).then(|| (since, self.filter_texts()))
    }

    fn filter_texts(&self) -> Vec<String> {
        self.filters.iter().map(ToString::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fakes::FakeSource;
    use super::*;

    const STORE: &str = "/restapi/v1.0/account/~/extension/~/message-store";
    const INSTANT: &str = "/restapi/v1.0/account/~/extension/~/message-store/instant?type=SMS";

    fn at(secs: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
    }

    fn since(secs: u64) -> Option<Since> {
        Some(Since { service: at(secs), wall: at(secs + 7) })
    }

    fn source() -> Source {
        let mut source = Source::new(Arc::new(FakeSource::default()));
        assert!(source.cover(&[STORE.parse().unwrap()]));
        source
    }

    fn position(secs: u64) -> SourcePosition {
        SourcePosition::new(SyncToken::new(secs.to_string(), at(secs)), false, at(secs))
    }

    fn page(secs: u64, more: bool) -> SyncPage {
        let mut page = SyncPage::new(Vec::new(), SyncToken::new(secs.to_string(), at(secs)));
        page.more = more;
        page
    }

    /// The text of the token, and the time since when events may be missing, of a query.
    fn asked(query: Option<Query>) -> Option<(Option<String>, Option<SystemTime>)> {
        query.map(|query| (query.token.map(|token| token.text().expose().to_owned()), query.since))
    }

    #[test]
    fn all_pages_of_a_round_have_its_parameter_and_begin_where_the_last_one_ended() {
        let mut source = source();
        source.begun(position(1_000));
        assert_eq!(asked(source.ask(since(2_000), false, at(2_100))), Some((Some("1000".into()), Some(at(2_007)))));
        source.answered(&mut page(2_110, true), position(2_110));
        // What is missing since another time belongs to the next round.
        assert_eq!(asked(source.ask(since(500), false, at(2_120))), Some((Some("2110".into()), Some(at(2_007)))));
        assert_eq!((source.is_between_rounds(), source.good()), (false, None));
        source.answered(&mut page(2_130, false), position(2_130));
        assert_eq!((source.is_between_rounds(), source.good()), (true, Some(at(2_100))));
        assert_eq!(asked(source.ask(since(3_000), false, at(3_100))), Some((Some("2130".into()), Some(at(3_007)))));
    }

    #[test]
    fn a_failed_round_begins_anew_unless_a_page_was_answered() {
        let mut source = source();
        source.ask(since(2_000), false, at(2_100));
        assert!(source.failed());
        assert_eq!(asked(source.ask(since(1_000), false, at(2_200))), Some((None, Some(at(1_007)))));
        source.answered(&mut page(2_210, true), position(2_210));
        assert!(!source.failed());
        assert_eq!(asked(source.ask(since(500), false, at(2_300))), Some((Some("2210".into()), Some(at(1_007)))));
        // The first call of the round counts, since its answers are of that time.
        source.answered(&mut page(2_310, false), position(2_310));
        assert_eq!(source.good(), Some(at(2_100)));
    }

    #[test]
    fn other_filters_need_another_position_and_none_need_no_query() {
        let mut source = source();
        source.begun(position(1_000));
        assert!(!source.cover(&[STORE.parse().unwrap()]), "the same");
        assert_eq!(asked(source.ask(None, true, at(1_100))), Some((Some("1000".into()), None)));
        source.answered(&mut page(1_110, false), position(1_110));
        assert!(source.cover(&[]));
        assert!(source.ask(None, true, at(1_200)).is_none() && source.begin(at(1_200)).is_none());
        assert!(source.cover(&[STORE.parse().unwrap()]));
        // A position was made before that time, for other filters.
        assert_eq!(asked(source.ask(since(1_200), false, at(1_300))), Some((None, Some(at(1_207)))));
        // The next page was one of the former filters' answer.
        source.answered(&mut page(1_310, true), position(1_310));
        assert!(source.cover(&[STORE, INSTANT].map(|filter| filter.parse().unwrap())));
        assert_eq!(asked(source.ask(since(900), false, at(1_400))), Some((None, Some(at(1_207)))));
    }

    #[test]
    fn an_endless_round_ends_and_is_not_complete() {
        let mut source = source();
        for n in 1..u64::from(PAGES) {
            let mut page = page(n, true);
            source.ask(None, false, at(n));
            source.answered(&mut page, position(n));
            assert!(page.more);
        }
        let mut last = page(1_000, true);
        source.answered(&mut last, position(1_000));
        assert_eq!((last.more, last.complete, source.is_between_rounds()), (false, false, true));
        assert_eq!(source.open().first().map(|open| open.reason), Some(OpenReason::TooMuch));
        // The next round is counted from its beginning.
        let mut next = page(1_001, true);
        source.answered(&mut next, position(1_001));
        assert!(next.more);
    }

    #[test]
    fn what_is_answered_in_part_begins_at_the_time_that_is_known() {
        let mut source = source();
        let part = |source: &Source, since, reason| {
            let part = source.part(since, reason);
            assert_eq!(part.filters, [STORE]);
            (part.since, part.reason)
        };
        assert_eq!(part(&source, None, None), (None, OpenReason::Refused));
        source.ask(None, false, at(10));
        source.answered(&mut page(20, false), position(20));
        assert_eq!(part(&source, None, None), (Some(at(10)), OpenReason::Refused));
        source.ask(since(5), false, at(30));
        assert_eq!(part(&source, None, None), (Some(at(5)), OpenReason::Refused));
        assert_eq!(part(&source, Some(at(3)), Some(OpenReason::NotFound)), (Some(at(3)), OpenReason::NotFound));
        source.answered_too_much();
        assert_eq!(part(&source, None, None), (Some(at(10)), OpenReason::TooMuch));
        // The next round begins with nothing left open.
        source.ask(None, false, at(40));
        assert_eq!((source.open().len(), source.good()), (0, Some(at(10))));
    }

    #[test]
    fn the_last_answers_prove_nothing_of_what_settles_later() {
        let fake = FakeSource::default();
        let mut source = Source::new(Arc::new(fake.clone()));
        source.cover(&[STORE.parse().unwrap()]);
        assert_eq!(source.unsettled(at(100)), None, "it finds everything at once");
        fake.settles_after(Duration::from_secs(30));
        for (good, want) in [(None, 100), (Some(110), 100), (Some(200), 170)] {
            source.asked_before(good.map(at));
            assert_eq!(source.unsettled(at(100)), Some((at(want), vec![STORE.to_owned()])), "{good:?}");
        }
        source.cover(&[]);
        assert_eq!(source.unsettled(at(100)), None, "it is asked for nothing");
    }
}
