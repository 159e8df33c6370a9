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
#[path = "reconcile_tests.rs"]
mod tests;
