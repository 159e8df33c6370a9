//! The service's clock, as far as its answers show it. Pure.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// How far the clocks and queues inside the service may put an event's emission before
/// the time that stands on it, and one event before its neighbour: notifications carry
/// the time of *sending* (websocket-and-webhooks §1.8), and a later one may arrive
/// first (§1.8, voice guide).
pub(crate) const ORDER_SLACK: Duration = Duration::from_secs(1);
/// A wall clock that gains more than this on the monotonic one was set, or the machine
/// slept: either way the service's time is known less exactly.
const JUMP: Duration = Duration::from_secs(1);
/// The two clocks are read one after the other: differences below this are not counted.
const READING: Duration = Duration::from_millis(10);
/// Events that are less than this off the clock are late, not by another clock.
const SKEW_FLOOR: Duration = Duration::from_secs(2);
/// No host's clock is further off: an event that says so has a wrong time.
const SKEW_CAP: Duration = Duration::from_secs(2 * 60 * 60);
/// Events that come within this may be one answer, which was late as a whole.
const SKEW_APART: Duration = Duration::from_millis(500);
/// Two arrivals that are late by the same show a clock, up to this.
const SKEW_AGREES: Duration = Duration::from_millis(1_500);

/// A span of the service's time in which an instant surely lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: SystemTime,
    pub(crate) to: SystemTime,
}

/// The service's clock relative to the monotonic one. Until the service has sent its
/// time, this machine's wall clock at the start is used.
#[derive(Clone, Debug)]
pub(crate) struct ServiceClock {
    base: Instant,
    /// The service's time at `base`, at least and at most.
    least: SystemTime,
    most: SystemTime,
    /// The service has not given its time.
    assumed: bool,
    /// When both clocks were compared last.
    compared: (Instant, SystemTime),
    /// When the comparison was made that showed the last jump.
    jumped_at: Option<Instant>,
    set_back: Option<SetBack>,
    skew: Skew,
}

/// The service's clock was set back. What happened before bears times of the clock as it was.
#[derive(Clone, Copy, Debug)]
struct SetBack {
    /// The latest that it was when that was noticed, by the clock as it is.
    noticed: SystemTime,
    /// The latest that the clock showed before.
    before: SystemTime,
}

/// How far the times on events are from the `Date` of answers: other hosts set them. In
/// milliseconds, positive where events are ahead. An event may be late and is never early,
/// so a larger offset counts at once, and a smaller one when two arrivals agree.
#[derive(Clone, Copy, Debug, Default)]
struct Skew {
    offset: i64,
    /// When an event showed a smaller offset, and the largest that came then.
    smaller: Option<(Instant, i64)>,
}

impl Skew {
    fn sample(&mut self, read: Instant, offset: i64) {
        if offset >= self.offset {
            (self.offset, self.smaller) = (offset, None);
            return;
        }
        let agrees = |before: i64| offset.abs_diff(before) <= millis(SKEW_AGREES);
        self.smaller = match self.smaller {
            Some((at, before)) if read.saturating_duration_since(at) < SKEW_APART => Some((at, before.max(offset))),
            Some((_, before)) if agrees(before) => {
                self.offset = offset.max(before);
                None
            }
            Some(_) | None => Some((read, offset)),
        };
    }

    fn offset(&self) -> i64 {
        if self.offset.unsigned_abs() < millis(SKEW_FLOOR) { 0 } else { self.offset }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl ServiceClock {
    pub(crate) fn new(now: Instant, wall: SystemTime) -> Self {
        Self {
            base: now,
            least: wall,
            most: wall,
            assumed: true,
            compared: (now, wall),
            jumped_at: None,
            set_back: None,
            skew: Skew::default(),
        }
    }

    pub(crate) fn at(&self, instant: Instant) -> Span {
        Span { from: self.shift(self.least, instant), to: self.shift(self.most, instant) }
    }

    fn shift(&self, at_base: SystemTime, instant: Instant) -> SystemTime {
        match instant.checked_duration_since(self.base) {
            Some(later) => add(at_base, later),
            None => sub(at_base, self.base.saturating_duration_since(instant)),
        }
    }

    fn back(&self, time: SystemTime, instant: Instant) -> SystemTime {
        match instant.checked_duration_since(self.base) {
            Some(later) => sub(time, later),
            None => add(time, self.base.saturating_duration_since(instant)),
        }
    }

    /// Whether the service gave its time. Until then this machine's stands in for it.
    pub(crate) fn is_given(&self) -> bool {
        !self.assumed
    }

    /// The `Date` of an answer, to the second, asked for at `asked` and read at `read`. Returns by how much the
    /// service's clock was set back, at most: an instant that is held as a time of it is that much earlier by the clock
    /// as it is.
    #[must_use]
    pub(crate) fn learn_date(&mut self, asked: Instant, read: Instant, date: SystemTime) -> Duration {
        self.learn(asked, read, Span { from: date, to: add(date, Duration::from_secs(1)) })
    }

    /// At an instant between `asked` and `read` the service's time lay in `span`.
    fn learn(&mut self, asked: Instant, read: Instant, span: Span) -> Duration {
        let (least, most) = (self.back(span.from, read), self.back(span.to, asked));
        // Over a sleep nothing is known of how late it is at most: an answer from before it may
        // be looked at after it.
        let is_before_jump = self.jumped_at.is_some_and(|at| asked < at);
        let most = if is_before_jump { most.max(self.most) } else { most };
        if !self.assumed && least <= self.most && most >= self.least {
            (self.least, self.most) = (self.least.max(least), self.most.min(most));
            return Duration::ZERO;
        }
        // The newest word counts: one of the clocks was set, or the machine slept.
        let before = self.at(read).to;
        let is_set_back = !self.assumed && most < self.least;
        let by = if is_set_back { self.most.duration_since(least).unwrap_or_default() } else { Duration::ZERO };
        (self.least, self.most, self.assumed) = (least, most, false);
        self.skew = Skew::default();
        if is_set_back {
            let before = self.set_back.map_or(before, |earlier| earlier.before.max(before));
            self.set_back = Some(SetBack { noticed: self.at(read).to, before });
        }
        by
    }

    /// How far the service's clock is ahead of this machine's, in milliseconds, at least and at most; `None` until the
    /// service has given its time.
    pub(crate) fn ahead(&self) -> Option<[i64; 2]> {
        let (instant, wall) = self.compared;
        let Span { from, to } = self.at(instant);
        let ahead = |at: SystemTime| match at.duration_since(wall) {
            Ok(ahead) => i64::try_from(ahead.as_millis()).unwrap_or(i64::MAX),
            Err(behind) => i64::try_from(behind.duration().as_millis()).map_or(i64::MIN, |millis| -millis),
        };
        self.is_given().then(|| [ahead(from), ahead(to)])
    }

    /// Compares with another process of the same subscription, in which the service's clock was ahead of its machine's by
    /// `before`. Returns by how much it was set back since, at most. A machine's clock that was set forward looks the same.
    #[must_use]
    pub(crate) fn was_set_back(&mut self, before: [i64; 2]) -> Duration {
        let Some([least, most]) = self.ahead() else { return Duration::ZERO };
        let tolerance = i64::try_from(millis(SKEW_FLOOR)).unwrap_or(i64::MAX);
        if most.saturating_add(tolerance) >= before[0] {
            return Duration::ZERO;
        }
        let by = Duration::from_millis(before[1].saturating_sub(least).unsigned_abs());
        let noticed = self.at(self.compared.0).to;
        self.set_back = Some(SetBack { noticed, before: add(noticed, by) });
        by
    }

    /// The end of a span since then, for a reader who compares it with the times on events: one that was sent before
    /// the clock was set back bears a later time than the span's end.
    pub(crate) fn end(&self, since: SystemTime, until: SystemTime) -> SystemTime {
        self.set_back.filter(|_| self.is_set_back(since)).map_or(until, |set_back| until.max(set_back.before))
    }

    /// Whether the clock was set back since then.
    pub(crate) fn is_set_back(&self, since: SystemTime) -> bool {
        self.set_back.is_some_and(|set_back| since <= set_back.noticed)
    }

    /// Something came at `read` that the service sent at `sent`; whether that can be true.
    pub(crate) fn sent(&mut self, read: Instant, sent: SystemTime) -> bool {
        let least = self.back(sent, read);
        if least > add(self.most, ORDER_SLACK) {
            return false;
        }
        self.least = self.least.max(least.min(self.most));
        true
    }

    /// An event was read that bears this time, by the clock of the host that sent it.
    pub(crate) fn sample(&mut self, read: Instant, sent: SystemTime) {
        let now = self.at(read);
        let (ahead, behind) = (sent.duration_since(now.to), now.from.duration_since(sent));
        let offset = match (ahead, behind) {
            (Ok(ahead), _) if ahead <= SKEW_CAP => i64::try_from(ahead.as_millis()).unwrap_or_default(),
            (_, Ok(behind)) if behind <= SKEW_CAP => -i64::try_from(behind.as_millis()).unwrap_or_default(),
            (Err(_), Err(_)) => 0,
            _ => return,
        };
        self.skew.sample(read, offset);
    }

    /// The time on an event, by this clock. A sender's clock that is ahead may be so by a second more than it showed, since
    /// a `Date` is exact to the second: then the earliest.
    pub(crate) fn comparable(&self, sent: SystemTime) -> SystemTime {
        let offset = self.skew.offset();
        let by = Duration::from_millis(offset.unsigned_abs());
        if offset > 0 { sub(sent, by + ORDER_SLACK) } else { add(sent, by) }
    }

    /// A span of this clock, as wide as the clocks of the hosts that send events make it: a
    /// reader compares it with the times on events.
    pub(crate) fn by_any_clock(&self, since: SystemTime, until: SystemTime) -> (SystemTime, SystemTime) {
        let offset = self.skew.offset();
        // A `Date` is exact to the second.
        let by = Duration::from_millis(offset.unsigned_abs()) + ORDER_SLACK;
        match offset.signum() {
            0 => (since, until),
            1 => (since, add(until, by)),
            _ => (sub(since, by), until),
        }
    }

    /// Compares this machine's clocks. By as much as the wall clock gained, the monotonic one may have stood still: a
    /// sleep of less than a second counts, too.
    pub(crate) fn compare(&mut self, now: Instant, wall: SystemTime) {
        let passed = now.saturating_duration_since(self.compared.0);
        let passed_by_wall = wall.duration_since(self.compared.1).unwrap_or_default();
        if passed_by_wall.abs_diff(passed) < READING {
            return;
        }
        let gained = passed_by_wall.saturating_sub(passed);
        self.compared = (now, wall);
        self.most = add(self.most, gained);
        if gained > JUMP {
            self.jumped_at = Some(now);
        }
    }

    /// The instant at which it was `time` at the service, as the beginning of that second;
    /// `None` before the monotonic clock began.
    pub(crate) fn instant(&self, time: SystemTime) -> Option<Instant> {
        match time.duration_since(self.least) {
            Ok(later) => self.base.checked_add(later),
            Err(earlier) => self.base.checked_sub(earlier.duration()),
        }
    }
}

pub(crate) fn add(time: SystemTime, by: Duration) -> SystemTime {
    time.checked_add(by).unwrap_or(time)
}

pub(crate) fn sub(time: SystemTime, by: Duration) -> SystemTime {
    time.checked_sub(by).unwrap_or(SystemTime::UNIX_EPOCH).max(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_sleep_of_less_than_a_second_widens_the_span() {
        let (start, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + 1_000 * SECOND);
        let ms = Duration::from_millis;
        // What the wall clock gains or loses at each of a hundred comparisons, and how much wider the span is then.
        for (gained, lost, wider) in [(ms(700), ms(0), ms(70_000)), (ms(0), ms(700), ms(0)), (ms(0), ms(0), ms(0))] {
            let mut clock = ServiceClock::new(start, wall);
            let _ = clock.learn_date(start, start, wall);
            for n in 1..=100 {
                clock.compare(start + SECOND * n, wall + SECOND * n + gained * n - lost * n);
            }
            let now = start + 100 * SECOND;
            assert_eq!(clock.at(now), Span { from: wall + 100 * SECOND, to: wall + 101 * SECOND + wider });
        }
        // Small gains add up, and those of reading the clocks do not.
        let mut clock = ServiceClock::new(start, wall);
        for n in 1..=1_000 {
            let noise = if n % 2 == 0 { ms(3) } else { ms(0) };
            clock.compare(start + SECOND * n, wall + SECOND * n + noise);
        }
        assert_eq!(clock.at(start).to, wall);
        for n in 1..=1_000 {
            clock.compare(start + 1_000 * SECOND + SECOND * n, wall + 1_000 * SECOND + SECOND * n + ms(3) * n);
        }
        let gained = clock.at(start).to.duration_since(wall).unwrap();
        assert!(gained > ms(3_000) - READING && gained <= ms(3_000), "{gained:?}");
    }

    #[test]
    fn an_answer_from_before_a_sleep_does_not_hide_it() {
        let (start, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + 1_000 * SECOND);
        let service = wall + 5_000 * SECOND;
        for sleep in [0, 12] {
            let mut clock = ServiceClock::new(start, wall);
            let _ = clock.learn_date(start, start, service);
            let now = start + 2 * SECOND;
            clock.compare(now, wall + (2 + sleep) * SECOND);
            let _ = clock.learn_date(start + SECOND / 2, start + SECOND, service);
            let late = clock.at(now).to;
            assert!(late >= service + (2 + sleep) * SECOND, "{sleep}");
            // The next answer tells.
            let _ = clock.learn_date(now, now, service + (2 + sleep) * SECOND);
            let Span { from, to } = clock.at(now);
            assert!(from >= service + (2 + sleep) * SECOND && to <= service + (3 + sleep) * SECOND, "{sleep}");
        }
    }
}
