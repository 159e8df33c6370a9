//! When the service is asked for the key of events that no known key decrypts, how long they wait for it, and when they
//! are reported as a possible gap. Pure.
//!
//! The service may change the key without notice, and a request for it may fail: events wait until an answer arrived
//! (found 1.5).

use std::time::Duration;

use tokio::time::Instant;

use super::continuity::Span;
use crate::policy::doubled;

/// How long events wait for an answer: longer than one call and its repeats take at a service that answers at all.
const WAIT: Duration = Duration::from_secs(30);
/// The pauses after failed requests: the first one, doubled after each further failure up to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(8);
/// The same after answers whose key decrypts nothing new. A replica may return the former key for a while, and a
/// payload may be damaged.
const FIRST_CHECK: Duration = Duration::from_secs(2);
const LAST_CHECK: Duration = Duration::from_secs(30);
/// A longer time without such events ends the row of failures.
const FORGET: Duration = Duration::from_secs(60);
/// How often at most undecrypted events are reported as a gap. Each of them is delivered as undecodable at once.
const REPORT_EVERY: Duration = Duration::from_secs(60);
/// Events that follow within this time belong to the same gap.
const QUIET: Duration = Duration::from_secs(2);

/// What to do about the first waiting event, which no key decrypts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needed {
    /// Request the present key.
    pub(super) ask: bool,
    /// Hold the event back.
    pub(super) wait: bool,
}

#[derive(Debug, Default)]
pub(super) struct KeyWait {
    /// Since when events wait for an answer.
    since: Option<Instant>,
    /// When such an event was last seen.
    seen: Option<Instant>,
    asking: bool,
    /// The earliest time of the next request after a failed one.
    ask_at: Option<Instant>,
    /// Until when the last answer stands: nothing is requested, and no event waits.
    settled_until: Option<Instant>,
    failures: u32,
    useless: u32,
}

impl KeyWait {
    /// The first waiting event cannot be decrypted. `is_renewing`: a renewal is in flight, whose answer may bring a key.
    pub(super) fn needed(&mut self, now: Instant, is_renewing: bool) -> Needed {
        if self.seen.is_some_and(|seen| now.saturating_duration_since(seen) >= FORGET) {
            let asking = self.asking;
            *self = Self { asking, ..Self::default() };
        }
        self.seen = Some(now);
        if self.settled_until.is_some_and(|until| now < until) {
            return Needed { ask: false, wait: is_renewing };
        }
        let since = *self.since.get_or_insert(now);
        let ask = !self.asking && self.ask_at.is_none_or(|at| at <= now);
        self.asking |= ask;
        Needed { ask, wait: now < since + WAIT }
    }

    /// The request failed, or was not sent: that says nothing about the key.
    pub(super) fn failed(&mut self, now: Instant) {
        self.asking = false;
        self.ask_at = Some(now + doubled(FIRST_PAUSE, self.failures, LAST_PAUSE));
        self.failures = self.failures.saturating_add(1);
    }

    /// The service answered with a key, which was known before unless `is_new`.
    pub(super) fn answered(&mut self, now: Instant, is_new: bool) {
        let useless = if is_new { 0 } else { self.useless.saturating_add(1) };
        let settled_until = (!is_new).then(|| now + doubled(FIRST_CHECK, self.useless, LAST_CHECK));
        *self = Self { seen: self.seen, settled_until, useless, ..Self::default() };
    }

    /// A key came with another answer. The request in flight is still answered.
    pub(super) fn learned(&mut self) {
        *self = Self { asking: self.asking, seen: self.seen, ..Self::default() };
    }

    /// When an event that waits is to be looked at again.
    pub(super) fn next(&self) -> Option<Instant> {
        let Some(since) = self.since else { return self.settled_until };
        let gives_up = since + WAIT;
        let ask_at = self.ask_at.filter(|_| !self.asking);
        Some(ask_at.map_or(gives_up, |at| at.min(gives_up)))
    }
}

/// Undecrypted events that were delivered and are not reported as a gap yet.
#[derive(Debug, Default)]
pub(super) struct Undecrypted {
    /// When they were emitted, and when the first and the last of them were delivered.
    run: Option<(Span, Instant, Instant)>,
    reported: Option<Instant>,
}

impl Undecrypted {
    pub(super) fn add(&mut self, now: Instant, emitted: Span) {
        let (span, first, _) = self.run.unwrap_or((emitted, now, now));
        let span = Span { from: span.from.min(emitted.from), to: span.to.max(emitted.to) };
        self.run = Some((span, first, now));
    }

    /// Whether anything is not reported yet.
    pub(super) fn is_empty(&self) -> bool {
        self.run.is_none()
    }

    /// The events to report now: once an event was decrypted after them (`is_over`), or no other followed soon, and at
    /// most once per minute unless the subscription `ends`.
    pub(super) fn due(&mut self, now: Instant, is_over: bool, ends: bool) -> Option<Span> {
        let at = if is_over { self.open_at()? } else { self.next()? };
        if !ends && now < at {
            return None;
        }
        self.reported = Some(now);
        self.run.take().map(|(span, ..)| span)
    }

    /// When they are reported at the latest, if no further event arrives.
    pub(super) fn next(&self) -> Option<Instant> {
        let (_, first, last) = self.run?;
        Some((last + QUIET).min(first + REPORT_EVERY).max(self.open_at()?))
    }

    /// The earliest time of a report.
    fn open_at(&self) -> Option<Instant> {
        let (_, first, _) = self.run?;
        Some(self.reported.map_or(first, |at| at + REPORT_EVERY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const ASK: Needed = Needed { ask: true, wait: true };
    const HOLD: Needed = Needed { ask: false, wait: true };
    const PASS: Needed = Needed { ask: false, wait: false };

    #[test]
    fn found_1_5_a_failed_request_for_the_key_is_repeated_while_events_wait() {
        let start = Instant::now();
        let (mut wait, mut now, mut asked) = (KeyWait::default(), start, Vec::new());
        loop {
            match wait.needed(now, false) {
                ASK => {
                    asked.push((now - start).as_secs());
                    wait.failed(now);
                }
                HOLD => {}
                PASS => break,
                other => panic!("{other:?}"),
            }
            now = wait.next().unwrap();
        }
        assert_eq!((now - start, asked), (WAIT, vec![0, 1, 3, 7, 15, 23]));
        // Requested on, while the events are delivered.
        assert_eq!(wait.needed(start + ms(31_000), true), Needed { ask: true, wait: false });
        wait.answered(start + ms(31_100), true);
        assert_eq!(wait.needed(start + ms(32_000), false), ASK);
        // Forgotten after a quiet minute.
        wait.failed(start + ms(32_000));
        assert_eq!(wait.needed(start + ms(92_000), false), ASK);
        assert_eq!(wait.next(), Some(start + ms(122_000)));
    }

    #[test]
    fn found_1_5_an_answer_without_a_new_key_stands_for_longer_each_time() {
        let start = Instant::now();
        let mut wait = KeyWait::default();
        let mut now = start;
        for pause in [2, 4, 8, 16, 30, 30] {
            assert_eq!(wait.needed(now, false), ASK);
            assert_eq!(wait.needed(now + ms(50), false), HOLD);
            now += ms(100);
            wait.answered(now, false);
            assert_eq!(wait.needed(now, false), PASS);
            now += ms(pause * 1_000);
            assert_eq!(wait.next(), Some(now));
            assert_eq!(wait.needed(now - ms(1), false), PASS);
            // A renewal may bring it.
            assert_eq!(wait.needed(now - ms(1), true), HOLD);
        }
        // Another answer had the key: the next change is asked about at once.
        wait.learned();
        assert_eq!(wait.needed(now, false), ASK);
    }

    fn span(from: u64, to: u64) -> Span {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        Span { from: at(from), to: at(to) }
    }

    #[test]
    fn found_1_5_undecrypted_events_are_one_gap_per_run_and_minute() {
        let start = Instant::now();
        let at = |millis| start + ms(millis);
        let mut run = Undecrypted::default();
        assert_eq!((run.due(start, true, true), run.next()), (None, None));
        for n in 0..600 {
            run.add(at(n * 100), span(n, n + 1));
            assert_eq!(run.due(at(n * 100), false, false), None, "{n}");
        }
        assert_eq!(run.next(), Some(at(60_000)));
        assert_eq!(run.due(at(60_000), false, false), Some(span(0, 600)));
        assert!(run.is_empty());
        // At most one per minute, also when runs are short.
        run.add(at(61_000), span(700, 701));
        assert_eq!(run.due(at(61_500), true, false), None);
        run.add(at(65_000), span(702, 703));
        assert_eq!(run.next(), Some(at(120_000)));
        assert_eq!(run.due(at(120_000), true, false), Some(span(700, 703)));
        // The end waits for nothing.
        run.add(at(121_000), span(800, 801));
        assert_eq!(run.due(at(121_000), false, true), Some(span(800, 801)));
    }

    #[test]
    fn found_1_5_a_run_that_ends_is_reported_before_the_next_event_or_soon() {
        let start = Instant::now();
        let mut run = Undecrypted::default();
        run.add(start, span(1, 2));
        assert_eq!(run.due(start, false, false), None);
        assert_eq!(run.due(start, true, false), Some(span(1, 2)));
        let mut run = Undecrypted::default();
        run.add(start, span(1, 2));
        assert_eq!(run.due(start + ms(1_999), false, false), None);
        assert_eq!(run.due(start + ms(2_000), false, false), Some(span(1, 2)));
    }
}
