//! When to query which catch-up source, without IO.
//!
//! Each source is at rest, or one call of it is in flight. Three reasons lead to a call: a gap that is to be filled,
//! push that has been down for long, and a regular check during healthy push, which keeps the source's position recent.

use std::time::{Duration, Instant};

use crate::error::Disposition;
use crate::policy::{BackoffPolicy, LONGEST_WAIT};

/// Generation of a call.
pub(super) type Turn = u64;

/// When this many subjects were delivered since the last check, the next one is due: their register is bounded, and
/// must reach back to the position of each source (found 4.5).
const SUBJECTS_PER_CHECK: usize = 4_096;
/// The least time between checks.
const LEAST_CHECK: Duration = Duration::from_secs(30);
/// The first repeated query for late findings of a source.
const SETTLING: Duration = Duration::from_secs(35);
/// A source that settles within this time is queried once it has, and the gap ends then: one answer proves its findings
/// (found 3.5).
const PROMPT: Duration = Duration::from_secs(5);
/// News within this time is queried together.
const BURST: Duration = Duration::from_millis(300);

/// The settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Whether nothing is pushed, so that there are only polls.
    pub(super) alone: bool,
    /// Poll once push has been down this long.
    pub(super) poll_after: Duration,
    /// The time between two polls of one source: the shortest, after an event was found, and the longest, after a long
    /// silence.
    pub(super) poll_every: (Duration, Duration),
    /// The time between two calls of each source during healthy push.
    pub(super) check_every: Duration,
    /// A gap is declared filled or not by then.
    pub(super) fill_within: Duration,
    pub(super) backoff: BackoffPolicy,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            alone: false,
            poll_after: Duration::from_secs(20),
            poll_every: (Duration::from_secs(10), Duration::from_secs(30)),
            check_every: Duration::from_secs(30 * 60),
            fill_within: Duration::from_secs(60),
            backoff: BackoffPolicy::default(),
        }
    }
}

/// An action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Get a first position of a source.
    Begin { source: usize, turn: Turn },
    /// Query a source. `missed`: events are known to be missing, or nothing else delivers them.
    Sync { source: usize, turn: Turn, missed: bool },
    /// The source failed permanently; deliver the count instead.
    GiveUpCounts { source: usize },
    /// The gap is filled as far as possible: see [`Reconciler::verdict`].
    Filled,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The source has a position.
    Began,
    /// The source answered.
    Synced {
        found: usize,
        more: bool,
    },
    Failed(Disposition),
}

/// The state of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// At rest; `until`: when the next call is due.
    Resting {
        until: Option<Instant>,
    },
    Beginning {
        turn: Turn,
    },
    Syncing {
        turn: Turn,
    },
    /// Not permitted to this app, or nonexistent: no longer queried.
    Off,
}

/// The state of a source in the gap that is being filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Debt {
    None,
    /// Not queried since the gap opened.
    Owed,
    Paid {
        at: Instant,
    },
    /// It will never be answered.
    Refused,
}

/// The result of a source when the gap was declared over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Answered,
    /// It answered, but finds the latest events only after this time.
    NotSettled {
        after: Duration,
    },
    NotAnswered,
    Refused,
}

/// News whose details a source is to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    None,
    /// It arrived, and the source was not queried since.
    Due,
    /// The source is being queried.
    Asked,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    doing: Doing,
    debt: Debt,
    news: News,
    /// Whether the call in flight began before the gap opened, so that its answer does not count.
    is_early: bool,
    /// When the call in flight, or the last one, was made.
    asked: Option<Instant>,
    /// Whether it has a position.
    has_position: bool,
    failures: u32,
    /// The present time between polls.
    interval: Duration,
    /// How long after an event it may find it.
    settle: Duration,
    /// Its result when the last gap was declared over, and when that was.
    verdict: Verdict,
    filled_at: Option<Instant>,
}

impl Source {
    /// Of a gap whose end was `end`.
    fn judge(&self, end: Instant) -> Verdict {
        match self.debt {
            Debt::Owed => Verdict::NotAnswered,
            Debt::Refused => Verdict::Refused,
            // An answer finds the events up to this time before it (found 3.5).
            Debt::Paid { at } if at < end + self.settle => Verdict::NotSettled { after: self.settle },
            Debt::Paid { .. } | Debt::None => Verdict::Answered,
        }
    }

    /// From when on an answer proves that a gap that ended at `end` is filled. A source that takes long to settle is
    /// queried at once, for its present findings.
    fn proves_from(&self, end: Instant) -> Instant {
        if self.settle <= PROMPT { end + self.settle } else { end }
    }

    /// When it is queried again for late findings: soon, then less and less often, and for the last time when
    /// everything has settled (found 3.4).
    fn next_settling(&self, now: Instant) -> Option<Instant> {
        let filled_at = self.filled_at.filter(|_| self.settle > PROMPT)?;
        let settled = filled_at + self.settle;
        let pause = now.saturating_duration_since(filled_at).max(SETTLING);
        (now < settled).then(|| (now + pause).min(settled))
    }
}

/// The state of push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Push {
    /// There is no subscription yet.
    Unmade,
    Up,
    Down {
        since: Instant,
    },
    /// The subscription is ending: no more queries.
    Over,
}

/// Decides when to query. See the module.
#[derive(Debug)]
pub(super) struct Reconciler {
    pace: Pace,
    chance: fastrand::Rng,
    sources: Vec<Source>,
    push: Push,
    /// A gap is open, since its first sign; queried as soon as push is up.
    filling: Option<Option<Instant>>,
    /// When the gap ended that is being filled.
    gap_end: Option<Instant>,
    next_check: Option<Instant>,
    last_check: Option<Instant>,
    /// How many subjects were delivered since then.
    delivered: usize,
    asks: std::collections::VecDeque<Ask>,
    turn: Turn,
}

impl Reconciler {
    /// For sources with these settle times.
    pub(super) fn new(pace: Pace, settle: &[Duration], seed: u64) -> Self {
        let source = |settle: &Duration| Source {
            doing: Doing::Resting { until: None },
            debt: Debt::None,
            news: News::None,
            is_early: false,
            asked: None,
            has_position: false,
            failures: 0,
            interval: pace.poll_every.0,
            settle: (*settle).min(LONGEST_WAIT),
            verdict: Verdict::Answered,
            filled_at: None,
        };
        let pace = Pace { poll_after: pace.poll_after.min(LONGEST_WAIT), ..pace };
        Self {
            pace,
            chance: fastrand::Rng::with_seed(seed),
            sources: settle.iter().map(source).collect(),
            push: Push::Unmade,
            filling: None,
            gap_end: None,
            next_check: None,
            last_check: None,
            delivered: 0,
            asks: std::collections::VecDeque::new(),
            turn: 0,
        }
    }

    /// A source has a position from before a restart.
    pub(super) fn continues_from_position(&mut self, at: usize) {
        if let Some(source) = self.sources.get_mut(at) {
            source.has_position = true;
        }
    }

    /// The next action.
    pub(super) fn poll_ask(&mut self) -> Option<Ask> {
        self.asks.pop_front()
    }

    /// Whether a gap is being filled.
    #[cfg(test)]
    fn is_filling(&self) -> bool {
        matches!(self.filling, Some(Some(_)))
    }

    /// When [`handle_timeout`](Self::handle_timeout) must be called next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.is_dormant() {
            return None;
        }
        let resting = self.sources.iter().filter_map(|source| match source.doing {
            Doing::Resting { until } => until,
            Doing::Beginning { .. } | Doing::Syncing { .. } | Doing::Off => None,
        });
        resting.chain(self.next_check).chain(self.fill_deadline()).min()
    }

    /// Whether no timer runs: there is no subscription yet, or it is ending. A running timer would be due for ever,
    /// since no query is made then.
    fn is_dormant(&self) -> bool {
        matches!(self.push, Push::Unmade | Push::Over)
    }

    /// The subscription is ending, or no source covers anything: no query is made until push is up or down again.
    pub(super) fn stop(&mut self, over: bool) {
        self.push = if over { Push::Over } else { Push::Unmade };
        self.filling = None;
        self.next_check = None;
        for source in &mut self.sources {
            source.debt = Debt::None;
        }
    }

    /// Push delivers. The first time, sources get their first position.
    pub(super) fn push_up(&mut self, now: Instant) {
        if self.push == Push::Up {
            return;
        }
        self.push = Push::Up;
        self.next_check = Some(now + self.jittered(self.pace.check_every));
        for source in &mut self.sources {
            source.interval = self.pace.poll_every.0;
            let wanted = !source.has_position || source.debt == Debt::Owed || source.news != News::None;
            if let Doing::Resting { until } = &mut source.doing {
                *until = wanted.then_some(until.unwrap_or(now));
            }
        }
        if self.filling == Some(None) {
            self.fill(now);
        }
        self.handle_timeout(now);
    }

    /// Push does not deliver. If it never did, sources get their first position: it may never come up.
    pub(super) fn push_down(&mut self, now: Instant) {
        if matches!(self.push, Push::Down { .. }) {
            return;
        }
        self.push = Push::Down { since: now };
        self.next_check = None;
        let poll_after = self.poll_after();
        for source in &mut self.sources {
            if let Doing::Resting { until } = &mut source.doing {
                let later = if source.has_position { now + poll_after } else { now };
                // That does not delay news.
                let due = until.filter(|_| source.news != News::None);
                *until = Some(due.map_or(later, |due| due.min(later)));
            }
        }
        self.handle_timeout(now);
    }

    /// Events are missing, or may be.
    pub(super) fn gap(&mut self, now: Instant) {
        for source in &mut self.sources {
            source.debt = Debt::Owed;
            source.is_early = matches!(source.doing, Doing::Beginning { .. } | Doing::Syncing { .. });
        }
        match self.push {
            // A gap that is being filled starts over, to query the later part too, and keeps its deadline.
            Push::Up => self.fill(now),
            Push::Down { .. } if self.pace.alone => self.fill(now),
            Push::Unmade | Push::Down { .. } => self.filling = Some(None),
            Push::Over => {}
        }
    }

    /// The gap that is being filled lasts: it is filled with the next one.
    pub(super) fn put_off(&mut self) {
        self.filling = None;
    }

    fn fill(&mut self, now: Instant) {
        // Gaps that follow each other closely put off the end of the first no further.
        self.filling = Some(Some(self.filling.flatten().unwrap_or(now)));
        self.gap_end = Some(now);
        for at in 0..self.sources.len() {
            let source = &mut self.sources[at];
            if source.doing == Doing::Off {
                source.debt = Debt::Refused;
            }
            if let Doing::Resting { .. } = source.doing {
                let from = source.proves_from(now);
                source.doing = Doing::Resting { until: Some(from) };
                if from <= now {
                    self.sync(now, at, true);
                }
            }
        }
        self.check_filled(now);
    }

    /// A gap is being filled as fast as its reader accepts it: its deadline begins anew.
    pub(super) fn waits_for_room(&mut self, now: Instant) {
        if let Some(Some(since)) = &mut self.filling {
            *since = now;
        }
    }

    fn fill_deadline(&self) -> Option<Instant> {
        self.filling.flatten().map(|since| since + self.pace.fill_within)
    }

    fn poll_after(&self) -> Duration {
        if self.pace.alone { Duration::ZERO } else { self.pace.poll_after }
    }

    /// Whether polls replace push, with at least one source to query.
    pub(super) fn is_polling(&self, now: Instant) -> bool {
        self.polls_from().is_some_and(|from| from <= now)
            && self.sources.iter().any(|source| source.doing != Doing::Off && source.has_position)
    }

    fn polls_from(&self) -> Option<Instant> {
        match self.push {
            Push::Unmade | Push::Up | Push::Over => None,
            Push::Down { since } => Some(since + self.poll_after()),
        }
    }

    /// Records a call's result; results of stale calls are ignored.
    pub(super) fn done(&mut self, now: Instant, at: usize, turn: Turn, outcome: Outcome) {
        let Some(source) = self.sources.get_mut(at) else { return };
        let syncing = match source.doing {
            Doing::Beginning { turn: current } if current == turn => false,
            Doing::Syncing { turn: current } if current == turn => true,
            _ => return,
        };
        let is_early = std::mem::take(&mut source.is_early);
        match outcome {
            Outcome::Began => {
                source.failures = 0;
                source.has_position = true;
                self.rest(now, at, None);
            }
            Outcome::Synced { more: true, .. } if syncing => self.sync(now, at, true),
            Outcome::Synced { found, .. } => {
                if source.news == News::Asked {
                    source.news = News::None;
                }
                source.failures = 0;
                source.has_position = true;
                let asked = source.asked.unwrap_or(now);
                let proves = self.gap_end.is_none_or(|end| source.proves_from(end) <= asked);
                if source.debt == Debt::Owed && !is_early && proves {
                    source.debt = if self.filling.is_some() { Debt::Paid { at: asked } } else { Debt::None };
                }
                let (least, most) = self.pace.poll_every;
                source.interval = if found > 0 { least } else { (source.interval * 3 / 2).min(most) };
                self.rest(now, at, None);
            }
            Outcome::Failed(Disposition::Fatal) => {
                source.doing = Doing::Off;
                source.debt = Debt::Refused;
                if std::mem::replace(&mut source.news, News::None) != News::None {
                    self.asks.push_back(Ask::GiveUpCounts { source: at });
                }
            }
            // Transient: a login that is just being renewed, or a refused position.
            Outcome::Failed(how) => {
                let after = if let Disposition::Retry { after } = how { after } else { None };
                let delay = self.pace.backoff.delay(source.failures, after, self.chance.f64());
                source.failures = source.failures.saturating_add(1);
                if source.news == News::Asked {
                    source.news = News::Due;
                }
                self.rest(now, at, Some(delay));
            }
        }
        self.check_filled(now);
        self.handle_timeout(now);
    }

    /// Rests until the next call of this source; `retry`: the last one failed.
    fn rest(&mut self, now: Instant, at: usize, retry: Option<Duration>) {
        let polls_from = self.polls_from();
        let Some(source) = self.sources.get_mut(at) else { return };
        let owed = source.debt == Debt::Owed;
        let due = source.news == News::Due;
        let first = self.gap_end.filter(|_| owed).map_or(now, |end| source.proves_from(end).max(now));
        let until = match (retry, polls_from) {
            (Some(delay), Some(from)) => Some((now + delay).max(from)),
            (Some(delay), None) if owed || due || !source.has_position => Some((now + delay).max(first)),
            // The next check repeats the failed one.
            (Some(_), None) => None,
            (None, Some(_)) if owed && self.pace.alone => Some(first),
            (None, Some(from)) => Some((now + source.interval).max(from)),
            (None, None) if owed => Some(first),
            (None, None) if due => Some(now + BURST),
            (None, None) => source.next_settling(now),
        };
        source.doing = Doing::Resting { until };
    }

    fn sync(&mut self, now: Instant, at: usize, missed: bool) {
        self.turn += 1;
        let turn = self.turn;
        if let Some(source) = self.sources.get_mut(at) {
            source.asked = Some(now);
            source.doing = Doing::Syncing { turn };
            if source.news == News::Due {
                source.news = News::Asked;
            }
            self.asks.push_back(Ask::Sync { source: at, turn, missed });
        }
    }

    fn check_filled(&mut self, now: Instant) {
        let Some(since) = self.filling.flatten() else { return };
        let owed = self.sources.iter().any(|source| source.debt == Debt::Owed);
        if owed && now < since + self.pace.fill_within {
            return;
        }
        self.filling = None;
        self.asks.push_back(Ask::Filled);
        // A source that has not answered yet continues its attempts.
        for source in &mut self.sources {
            source.verdict = source.judge(self.gap_end.unwrap_or(since));
            source.filled_at = Some(now);
            if source.debt != Debt::Owed {
                source.debt = Debt::None;
            }
            // It may find the latest events later.
            if source.doing == (Doing::Resting { until: None }) {
                source.doing = Doing::Resting { until: source.next_settling(now) };
            }
        }
    }

    /// The result of a source when the last gap was declared over.
    pub(super) fn verdict(&self, at: usize) -> Verdict {
        self.sources.get(at).map_or(Verdict::Refused, |source| source.verdict)
    }

    /// Sets whether there are only polls.
    pub(super) fn polls_alone(&mut self, alone: bool) {
        self.pace.alone = alone;
    }

    /// News arrived whose details a source is to find: it is queried once per burst. `false` if it cannot be queried.
    pub(super) fn news(&mut self, now: Instant, at: usize) -> bool {
        if self.push == Push::Over {
            return false;
        }
        let Some(source) = self.sources.get_mut(at).filter(|source| source.doing != Doing::Off) else { return false };
        source.news = News::Due;
        // A failing source is not queried early.
        let in_trouble = source.failures > 0;
        if let Doing::Resting { until } = &mut source.doing {
            let soon = now + BURST;
            *until = Some(until.map_or(soon, |until| if in_trouble { until } else { until.min(soon) }));
        }
        true
    }

    /// A source is queried again after this time: it did not find a pushed event.
    pub(super) fn ask_again(&mut self, now: Instant, at: usize, after: Duration) {
        let Some(source) = self.sources.get_mut(at).filter(|source| source.doing != Doing::Off) else { return };
        source.news = News::Due;
        if let Doing::Resting { until } = &mut source.doing {
            let then = now + after;
            *until = Some(until.map_or(then, |until| until.min(then)));
        }
    }

    /// Whether news is pending at a source.
    pub(super) fn has_news(&self) -> bool {
        (0..self.sources.len()).any(|at| self.has_news_for(at))
    }

    /// Whether news is pending at this source.
    pub(super) fn has_news_for(&self, at: usize) -> bool {
        self.sources.get(at).is_some_and(|source| source.news != News::None)
    }

    /// Polls at once.
    pub(super) fn poll_now(&mut self, now: Instant) {
        for source in &mut self.sources {
            if let Doing::Resting { until: Some(until) } = &mut source.doing
                && source.failures == 0
            {
                *until = now;
            }
        }
        self.handle_timeout(now);
    }

    /// Whether new events would be found: no source is failing.
    pub(super) fn is_well(&self) -> bool {
        self.sources.iter().all(|source| source.failures == 0 && source.doing != Doing::Off)
    }

    /// Calls every source that is due: none of its times is due afterwards.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.is_dormant() {
            return;
        }
        self.check_filled(now);
        for at in 0..self.sources.len() {
            let Doing::Resting { until: Some(until) } = self.sources[at].doing else { continue };
            if until > now {
                continue;
            }
            // In place of push every event counts. If polls are the only transport, events before the start do not.
            let polls = !self.pace.alone && self.polls_from().is_some_and(|from| from <= now);
            let source = &mut self.sources[at];
            let wanted = source.has_position || polls || source.debt == Debt::Owed && self.push == Push::Up;
            if wanted {
                self.sync(now, at, true);
            } else {
                self.turn += 1;
                source.doing = Doing::Beginning { turn: self.turn };
                self.asks.push_back(Ask::Begin { source: at, turn: self.turn });
            }
        }
        if self.next_check.is_some_and(|at| at <= now) {
            self.next_check = Some(now + self.jittered(self.pace.check_every));
            (self.last_check, self.delivered) = (Some(now), 0);
            self.check(now);
        }
    }

    /// Pushed events with this many subjects were delivered.
    pub(super) fn delivered(&mut self, now: Instant, subjects: usize) {
        self.delivered += subjects;
        if let Some(next) = self.next_check.filter(|_| self.delivered >= SUBJECTS_PER_CHECK) {
            let earliest = self.last_check.map_or(now, |last| now.max(last + LEAST_CHECK));
            self.next_check = Some(next.min(earliest));
        }
    }

    /// One call of each source during healthy push, so that no position is older than the time between two checks.
    fn check(&mut self, now: Instant) {
        for at in 0..self.sources.len() {
            self.check_one(now, at);
        }
    }

    /// One call of a source during healthy push, unless one is due or in flight.
    pub(super) fn check_one(&mut self, now: Instant, at: usize) {
        let rests = self.sources.get(at).is_some_and(|source| source.doing == Doing::Resting { until: None });
        if rests && self.push == Push::Up {
            self.sync(now, at, false);
        }
    }

    /// Later by up to a tenth: sources that began together do not continue together.
    fn jittered(&mut self, time: Duration) -> Duration {
        time + (time / 10).mul_f64(self.chance.f64())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RETRY: Outcome = Outcome::Failed(Disposition::Retry { after: None });
    const OFF: Outcome = Outcome::Failed(Disposition::Fatal);

    fn synced(found: usize) -> Outcome {
        Outcome::Synced { found, more: false }
    }

    /// Drives a plan and records its actions.
    struct Bench {
        plan: Reconciler,
        now: Instant,
        asked: Vec<(Instant, Ask)>,
    }

    impl Bench {
        #[allow(clippy::disallowed_methods, reason = "a pure plan needs some first instant; none other can be made")]
        fn new(sources: usize) -> Self {
            let now = Instant::now();
            Self { plan: Reconciler::new(Pace::default(), &vec![Duration::ZERO; sources], 3), now, asked: Vec::new() }
        }

        /// Only polls, every source at rest with a position.
        fn alone(sources: usize) -> Self {
            let mut bench = Self::new(sources);
            bench.plan.polls_alone(true);
            bench.down();
            for at in 0..sources {
                bench.answer(at, Outcome::Began);
            }
            for at in (0..sources).filter(|at| bench.turn(*at).is_some()).collect::<Vec<_>>() {
                bench.answer(at, synced(0));
            }
            bench
        }

        /// Push up, every source at rest with a position.
        fn well(sources: usize) -> Self {
            let mut bench = Self::new(sources);
            bench.up();
            for at in 0..sources {
                bench.answer(at, Outcome::Began);
            }
            bench
        }

        fn drain(&mut self) -> Vec<Ask> {
            let new: Vec<_> = std::iter::from_fn(|| self.plan.poll_ask()).collect();
            self.asked.extend(new.iter().map(|ask| (self.now, *ask)));
            new
        }

        fn up(&mut self) -> Vec<Ask> {
            self.plan.push_up(self.now);
            self.drain()
        }

        fn down(&mut self) -> Vec<Ask> {
            self.plan.push_down(self.now);
            self.drain()
        }

        fn gap(&mut self) -> Vec<Ask> {
            self.plan.gap(self.now);
            self.drain()
        }

        /// The call of a source that is in flight.
        fn turn(&self, at: usize) -> Option<Turn> {
            match self.plan.sources[at].doing {
                Doing::Beginning { turn } | Doing::Syncing { turn } => Some(turn),
                Doing::Resting { .. } | Doing::Off => None,
            }
        }

        fn answer(&mut self, at: usize, outcome: Outcome) -> Vec<Ask> {
            let turn = self.turn(at).expect("a call under way");
            self.plan.done(self.now, at, turn, outcome);
            self.drain()
        }

        /// Lets time pass; calls are answered with `outcome` at once.
        fn pass(&mut self, secs: u64, outcome: Outcome) -> Vec<(Instant, Ask)> {
            let (from, until) = (self.asked.len(), self.now + Duration::from_secs(secs));
            let mut steps = 0;
            loop {
                for at in 0..self.plan.sources.len() {
                    if self.turn(at).is_some() {
                        self.answer(at, outcome);
                    }
                }
                let Some(next) = self.plan.poll_timeout().filter(|next| *next <= until) else { break };
                steps += 1;
                assert!(steps < 100_000, "a hot loop: {:?}", self.plan);
                self.now = self.now.max(next);
                self.plan.handle_timeout(self.now);
                self.drain();
            }
            self.now = until;
            self.asked[from..].to_vec()
        }
    }

    fn syncs(asked: &[(Instant, Ask)]) -> usize {
        asked.iter().filter(|(_, ask)| matches!(ask, Ask::Sync { .. })).count()
    }

    #[test]
    fn where_polls_are_all_there_is_a_gap_is_filled_at_once() {
        let mut bench = Bench::alone(2);
        let asked = bench.gap();
        assert!(matches!(asked[..], [Ask::Sync { source: 0, .. }, Ask::Sync { source: 1, .. }]), "{asked:?}");
        bench.answer(0, synced(0));
        assert_eq!(bench.answer(1, synced(0)), [Ask::Filled]);
    }

    #[test]
    fn a_gap_during_a_poll_is_queried_as_soon_as_the_poll_ends() {
        let mut bench = Bench::alone(1);
        bench.gap();
        // That call may have been answered before more events went missing.
        bench.gap();
        let asked = bench.answer(0, synced(0));
        assert!(matches!(asked[..], [Ask::Sync { source: 0, .. }]), "{asked:?}");
        assert_eq!(bench.answer(0, synced(0)), [Ask::Filled]);
    }

    #[test]
    fn sources_get_a_position_once_push_is_up() {
        let mut bench = Bench::new(2);
        assert_eq!(bench.up(), [Ask::Begin { source: 0, turn: 1 }, Ask::Begin { source: 1, turn: 2 }]);
        bench.answer(0, Outcome::Began);
        bench.answer(1, RETRY);
        assert_eq!(bench.turn(0), None);
        let asked = bench.pass(60, Outcome::Began);
        assert!(matches!(asked[..], [(_, Ask::Begin { source: 1, .. })]), "{asked:?}");
    }

    #[test]
    fn while_all_is_well_each_source_is_checked_every_half_hour() {
        let mut bench = Bench::well(3);
        let hours = 20;
        let asked = bench.pass(hours * 3600, synced(0));
        for source in 0..3 {
            let its = |(_, ask): &&(Instant, Ask)| matches!(ask, Ask::Sync { source: it, missed: false, .. } if *it == source);
            let count = asked.iter().filter(its).count();
            assert!((36..=40).contains(&count), "source {source}: {count}");
        }
    }

    /// Found 4.5: the register must reach back to the position of each source.
    #[test]
    fn a_check_comes_early_when_much_was_delivered_and_not_too_often() {
        let mut bench = Bench::well(2);
        let mut asked = Vec::new();
        for _ in 0..20 {
            bench.plan.delivered(bench.now, SUBJECTS_PER_CHECK / 10);
            asked.extend(bench.pass(3, synced(0)));
        }
        assert_eq!(syncs(&asked), 2, "each source once: {asked:?}");
        for _ in 0..60 {
            bench.plan.delivered(bench.now, SUBJECTS_PER_CHECK);
            asked.extend(bench.pass(1, synced(0)));
        }
        assert!((4..=8).contains(&syncs(&asked)), "{asked:?}");
    }

    #[test]
    fn a_gap_is_filled_by_every_source_and_each_has_its_verdict() {
        for (second, verdict) in [(synced(1), Verdict::Answered), (OFF, Verdict::Refused)] {
            let mut bench = Bench::well(2);
            let asked = bench.gap();
            assert!(matches!(asked[..], [Ask::Sync { missed: true, .. }, Ask::Sync { missed: true, .. }]), "{asked:?}");
            assert!(bench.plan.is_filling());
            assert_eq!(bench.answer(0, synced(3)), []);
            assert_eq!(bench.answer(1, second), [Ask::Filled]);
            assert!(!bench.plan.is_filling());
            assert_eq!((bench.plan.verdict(0), bench.plan.verdict(1)), (Verdict::Answered, verdict));
        }
    }

    #[test]
    fn a_source_that_does_not_answer_in_time_has_not_answered() {
        let mut bench = Bench::well(1);
        bench.gap();
        bench.now += Pace::default().fill_within;
        bench.plan.handle_timeout(bench.now);
        assert!(bench.drain().contains(&Ask::Filled));
        assert_eq!(bench.plan.verdict(0), Verdict::NotAnswered);
    }

    /// The second gap is to be filled within the time of the first, or anew if it was put off.
    #[test]
    fn gaps_that_follow_each_other_put_off_the_end_of_the_first_no_further() {
        let within = Pace::default().fill_within;
        for (is_put_off, want) in [(false, within), (true, within + Duration::from_secs(40))] {
            let mut bench = Bench::well(1);
            let begin = bench.now;
            bench.gap();
            bench.now += Duration::from_secs(40);
            if is_put_off {
                bench.plan.put_off();
            }
            bench.gap();
            assert_eq!(bench.plan.fill_deadline().map(|at| at - begin), Some(want), "{is_put_off}");
        }
    }

    #[test]
    fn a_source_whose_filters_changed_is_checked_at_once_if_it_rests() {
        let mut bench = Bench::well(2);
        bench.plan.check_one(bench.now, 1);
        assert!(matches!(bench.drain()[..], [Ask::Sync { source: 1, missed: false, .. }]));
        bench.plan.check_one(bench.now, 1);
        assert_eq!(bench.drain(), [], "it is being asked");
        bench.answer(1, synced(0));
        bench.down();
        bench.plan.check_one(bench.now, 0);
        assert_eq!(bench.drain(), [], "it is asked once push has been down for long");
    }

    /// Found 3.5: an answer finds what happened up to the settle time before it.
    #[test]
    fn a_source_that_finds_late_has_not_settled_until_its_time() {
        let unsettled = Verdict::NotSettled { after: Duration::from_secs(30) };
        // When the call that is answered is made, and when it is answered.
        for (asked, answered, verdict) in
            [(0, 0, unsettled), (0, 40, unsettled), (29, 30, unsettled), (30, 30, Verdict::Answered)]
        {
            let mut bench = Bench::well(1);
            bench.plan.sources[0].settle = Duration::from_secs(30);
            bench.gap();
            let end = bench.now;
            if asked > 0 {
                let after = Duration::from_secs(asked);
                bench.answer(0, Outcome::Failed(Disposition::Retry { after: Some(after) }));
                bench.now += after;
                bench.plan.sources[0].doing = Doing::Resting { until: Some(bench.now) };
                bench.plan.handle_timeout(bench.now);
                bench.drain();
            }
            bench.now = end + Duration::from_secs(answered);
            assert_eq!(bench.answer(0, synced(0)), [Ask::Filled]);
            assert_eq!(bench.plan.verdict(0), verdict, "{asked} {answered}");
        }
    }

    /// Found 3.5: a replica may lag behind by so little that the gap can wait for it.
    #[test]
    fn a_source_that_settles_soon_is_asked_once_it_has() {
        let settle = Duration::from_secs(1);
        let mut bench = Bench::well(1);
        bench.plan.sources[0].settle = settle;
        assert_eq!(bench.gap(), []);
        let asked = bench.pass(10, synced(1));
        let [(at, Ask::Sync { missed: true, .. }), (filled, Ask::Filled)] = asked[..] else { panic!("{asked:?}") };
        assert!(at == filled && bench.plan.verdict(0) == Verdict::Answered);
        assert_eq!(bench.plan.gap_end.map(|end| at - end), Some(settle));

        // An answer to a call that was made before that, for another reason, does not suffice.
        assert_eq!(bench.gap(), []);
        let end = bench.now;
        bench.plan.news(bench.now, 0);
        let asked = bench.pass(10, synced(1));
        let times: Vec<_> = asked.iter().map(|(at, ask)| (at.duration_since(end), *ask == Ask::Filled)).collect();
        assert_eq!(times, [(BURST, false), (settle, false), (settle, true)]);
    }

    /// Found 3.4: the record of a call may enter the log minutes after its end.
    #[test]
    fn a_source_that_finds_late_is_asked_until_it_has_settled() {
        let mut bench = Bench::well(1);
        bench.plan.sources[0].settle = Duration::from_secs(180);
        bench.gap();
        bench.answer(0, synced(0));
        let from = bench.now;
        let asked = bench.pass(1000, synced(0));
        let times: Vec<u64> = asked.iter().map(|(at, _)| at.duration_since(from).as_secs()).collect();
        assert_eq!(times, [35, 70, 140, 180]);
    }

    #[test]
    fn a_source_with_more_pages_is_queried_again_before_the_gap_is_filled() {
        let mut bench = Bench::well(1);
        bench.gap();
        let asked = bench.answer(0, Outcome::Synced { found: 100, more: true });
        assert!(matches!(asked[..], [Ask::Sync { missed: true, .. }]), "{asked:?}");
        assert_eq!(bench.answer(0, synced(3)), [Ask::Filled]);
    }

    #[test]
    fn a_gap_while_push_is_down_is_filled_when_it_is_up() {
        let mut bench = Bench::well(1);
        bench.down();
        assert_eq!(bench.gap(), []);
        let asked = bench.up();
        assert!(matches!(asked[..], [Ask::Sync { missed: true, .. }]), "{asked:?}");
    }

    #[test]
    fn a_gap_after_a_gap_is_queried_anew() {
        let mut bench = Bench::well(1);
        bench.gap();
        let stale = bench.turn(0).unwrap();
        bench.gap();
        // The answer to the first may be from before the second.
        bench.plan.done(bench.now, 0, stale, synced(1));
        let asked = bench.drain();
        assert!(matches!(asked[..], [Ask::Sync { missed: true, .. }]), "{asked:?}");
        assert_eq!(bench.answer(0, synced(0)), [Ask::Filled]);
    }

    #[test]
    fn a_failing_source_keeps_the_gap_open_for_a_minute_and_is_retried() {
        let mut bench = Bench::well(1);
        bench.gap();
        let asked = bench.pass(70, RETRY);
        let filled: Vec<_> = asked.iter().filter(|(_, ask)| *ask == Ask::Filled).collect();
        assert_eq!(filled.len(), 1, "{asked:?}");
        assert!(syncs(&asked) >= 3);
        // It still owes the answer.
        assert!(syncs(&bench.pass(60, RETRY)) >= 1);
    }

    #[test]
    fn y4_push_that_is_down_for_long_is_stood_in_for_and_hands_back() {
        let mut bench = Bench::well(1);
        bench.down();
        assert_eq!(syncs(&bench.pass(19, synced(0))), 0, "most interruptions are shorter");
        let asked = bench.pass(600, synced(0));
        let times: Vec<_> = asked.iter().map(|(at, _)| *at).collect();
        let longest = times.windows(2).map(|two| two[1] - two[0]).max().unwrap();
        assert!(longest <= Duration::from_secs(30), "{longest:?}");
        assert!(syncs(&asked) <= 600 / 10);
        // A found event makes it poll more often.
        let busy = syncs(&bench.pass(600, synced(1)));
        assert!(busy > syncs(&asked), "{busy}");
        bench.up();
        assert_eq!(syncs(&bench.pass(1500, synced(0))), 0);
    }

    #[test]
    fn push_that_never_comes_up_is_stood_in_for() {
        let mut bench = Bench::new(2);
        assert_eq!(bench.down(), [Ask::Begin { source: 0, turn: 1 }, Ask::Begin { source: 1, turn: 2 }]);
        bench.answer(0, Outcome::Began);
        bench.answer(1, RETRY);
        assert_eq!(syncs(&bench.pass(19, Outcome::Began)), 0, "most interruptions are shorter");
        let asked = bench.pass(600, synced(0));
        for source in 0..2 {
            let its = asked.iter().filter(|(_, ask)| matches!(ask, Ask::Sync { source: it, .. } if *it == source));
            assert!(its.count() >= 600 / 30 - 1, "source {source}: {asked:?}");
        }
        bench.up();
        assert_eq!(syncs(&bench.pass(1500, synced(0))), 0);
    }

    #[test]
    fn a_late_source_is_queried_again_after_the_gap() {
        let mut bench = Bench::well(1);
        bench.plan.sources[0].settle = Duration::from_secs(30);
        bench.gap();
        assert_eq!(bench.answer(0, synced(0)), [Ask::Filled]);
        assert_eq!(syncs(&bench.pass(29, synced(0))), 0);
        assert_eq!(syncs(&bench.pass(2, synced(0))), 1);
        assert_eq!(syncs(&bench.pass(1000, synced(0))), 0, "once");
    }

    #[test]
    fn a_source_that_is_not_allowed_is_asked_no_more() {
        let mut bench = Bench::well(2);
        bench.gap();
        bench.answer(0, OFF);
        bench.answer(1, synced(0));
        bench.down();
        let asked = bench.pass(600, synced(0));
        assert!(asked.iter().all(|(_, ask)| !matches!(ask, Ask::Sync { source: 0, .. })), "{asked:?}");
        assert!(syncs(&asked) > 5);
    }

    #[test]
    fn only_a_permanent_error_turns_a_source_off() {
        for how in [Disposition::Refresh, Disposition::Recreate, Disposition::Prune, Disposition::Resync] {
            let mut bench = Bench::well(1);
            bench.gap();
            bench.answer(0, Outcome::Failed(how));
            let asked = bench.pass(60, synced(0));
            assert!(asked.iter().any(|(_, ask)| *ask == Ask::Filled), "{how:?}: {asked:?}");
        }
    }

    #[test]
    fn news_that_comes_in_a_burst_is_asked_about_once_and_never_forgotten() {
        let mut bench = Bench::well(1);
        for _ in 0..10 {
            assert!(bench.plan.news(bench.now, 0));
            bench.now += Duration::from_millis(20);
        }
        assert_eq!(syncs(&bench.pass(60, synced(3))), 1);
        assert!(!bench.plan.has_news());
        // During a query, which may have missed it.
        bench.plan.news(bench.now, 0);
        bench.now += Duration::from_millis(300);
        bench.plan.handle_timeout(bench.now);
        bench.drain();
        bench.plan.news(bench.now, 0);
        bench.answer(0, synced(1));
        assert!(bench.plan.has_news());
        assert_eq!(syncs(&bench.pass(60, synced(0))), 1);
        // A call that failed is made again, though all else is well.
        bench.plan.news(bench.now, 0);
        assert!(syncs(&bench.pass(120, RETRY)) > 2);
        assert!(bench.plan.has_news());
        assert!(syncs(&bench.pass(60, synced(0))) >= 1);
        assert!(!bench.plan.has_news());
        // A permanent failure is reported.
        bench.plan.news(bench.now, 0);
        let asked = bench.pass(1, OFF);
        assert!(asked.iter().any(|(_, ask)| *ask == Ask::GiveUpCounts { source: 0 }), "{asked:?}");
        assert!(!bench.plan.news(bench.now, 0));
    }

    #[test]
    fn answers_to_an_older_call_are_none() {
        let mut bench = Bench::well(1);
        bench.gap();
        let turn = bench.turn(0).unwrap();
        bench.plan.done(bench.now, 0, turn - 1, synced(1));
        bench.plan.done(bench.now, 7, turn, synced(1));
        assert_eq!(bench.drain(), []);
        assert!(bench.plan.is_filling());
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        News(usize),
        Up,
        Down,
        Gap,
        Pass(u64),
        Answer(usize, Outcome),
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            4 => (0usize..3, any::<bool>())
                .prop_map(|(found, more)| Outcome::Synced { found, more }),
            1 => Just(Outcome::Began),
            3 => (0u64..100).prop_map(|secs| {
                Outcome::Failed(Disposition::Retry { after: Some(Duration::from_secs(secs)) })
            }),
            1 => Just(OFF),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => (0usize..3).prop_map(Step::News),
            2 => Just(Step::Up),
            2 => Just(Step::Down),
            2 => Just(Step::Gap),
            4 => (0u64..4000).prop_map(Step::Pass),
            8 => (0usize..3, outcome()).prop_map(|(at, outcome)| Step::Answer(at, outcome)),
        ]
    }

    fn check(plan: &Reconciler) {
        for source in &plan.sources {
            if source.doing == (Doing::Resting { until: None }) {
                assert!(source.news == News::None, "news is asked about: {plan:?}");
                assert!(plan.push == Push::Up && plan.next_check.is_some(), "a source at rest has its turn: {plan:?}");
                assert!(source.has_position, "a position is got: {plan:?}");
                assert!(!(plan.is_filling() && source.debt == Debt::Owed), "a debt is paid: {plan:?}");
            }
        }
        if plan.is_filling() {
            assert!(plan.poll_timeout().is_some(), "filling is bounded: {plan:?}");
            assert!(plan.sources.iter().any(|source| source.debt == Debt::Owed), "reported as filled: {plan:?}");
        }
    }

    proptest! {
        #[test]
        fn with_any_inputs_every_source_advances_and_every_gap_is_reported_filled_once(
            sources in 1usize..4, comes_up in any::<bool>(), steps in prop::collection::vec(step(), 1..80),
        ) {
            let mut bench = Bench::new(sources);
            if comes_up { bench.up() } else { bench.down() };
            let mut open = 0_i64;
            for step in steps {
                match step {
                    Step::News(at) => {
                        let off = bench.plan.sources.get(at).is_none_or(|source| source.doing == Doing::Off);
                        prop_assert_eq!(bench.plan.news(bench.now, at), !off);
                    }
                    Step::Up => drop(bench.up()),
                    Step::Down => drop(bench.down()),
                    Step::Gap => {
                        if !bench.plan.is_filling() && bench.plan.filling.is_none() {
                            open += 1;
                        }
                        bench.gap();
                    }
                    Step::Pass(secs) => {
                        bench.now += Duration::from_secs(secs);
                        bench.plan.handle_timeout(bench.now);
                        bench.drain();
                    }
                    Step::Answer(at, outcome) => {
                        let began = outcome == Outcome::Began;
                        let Some(source) = bench.plan.sources.get(at) else { continue };
                        if bench.turn(at).is_some() && began == matches!(source.doing, Doing::Beginning { .. }) {
                            bench.answer(at, outcome);
                        }
                    }
                }
                check(&bench.plan);
            }
            let fills = bench.asked.iter().filter(|(_, ask)| matches!(ask, Ask::Filled)).count();
            let fills = i64::try_from(fills).unwrap();
            prop_assert_eq!(fills, open - i64::from(bench.plan.filling.is_some()));
        }

        /// A timer that stays due makes the driver's loop turn without end.
        #[test]
        fn after_a_timeout_is_handled_nothing_is_due_in_any_state(
            sources in 1usize..4, stop in prop::option::of((0usize..80, any::<bool>())),
            steps in prop::collection::vec(step(), 1..80),
        ) {
            let mut bench = Bench::new(sources);
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    _ if stop.is_some_and(|(at, _)| at == n) => bench.plan.stop(stop.is_some_and(|(_, over)| over)),
                    Step::News(at) => _ = bench.plan.news(bench.now, at),
                    Step::Up if bench.plan.push != Push::Over => drop(bench.up()),
                    Step::Down if bench.plan.push != Push::Over => drop(bench.down()),
                    Step::Up | Step::Down => {}
                    Step::Gap => drop(bench.gap()),
                    Step::Pass(secs) => bench.now += Duration::from_secs(secs),
                    Step::Answer(at, outcome) => {
                        let turn = bench.plan.sources.get(at).and_then(|_| bench.turn(at));
                        if let Some(turn) = turn {
                            bench.plan.done(bench.now, at, turn, outcome);
                        }
                    }
                }
                bench.plan.handle_timeout(bench.now);
                bench.drain();
                let due = bench.plan.poll_timeout().filter(|due| *due <= bench.now);
                prop_assert_eq!(due, None, "{:?}", bench.plan);
            }
        }
    }
}
