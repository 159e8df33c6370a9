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
}

impl ServiceClock {
    pub(crate) fn new(now: Instant, wall: SystemTime) -> Self {
        Self { base: now, least: wall, most: wall, assumed: true, compared: (now, wall), jumped_at: None }
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

    /// The `Date` of an answer, to the second, asked for at `asked` and read at `read`.
    pub(crate) fn learn_date(&mut self, asked: Instant, read: Instant, date: SystemTime) {
        self.learn(asked, read, Span { from: date, to: add(date, Duration::from_secs(1)) });
    }

    /// At an instant between `asked` and `read` the service's time lay in `span`.
    fn learn(&mut self, asked: Instant, read: Instant, span: Span) {
        let (least, most) = (self.back(span.from, read), self.back(span.to, asked));
        // Over a sleep nothing is known of how late it is at most: an answer from before it may
        // be looked at after it.
        let is_before_jump = self.jumped_at.is_some_and(|at| asked < at);
        let most = if is_before_jump { most.max(self.most) } else { most };
        if self.assumed || least > self.most || most < self.least {
            // The newest word counts: one of the clocks was set, or the machine slept.
            (self.least, self.most, self.assumed) = (least, most, false);
        } else {
            (self.least, self.most) = (self.least.max(least), self.most.min(most));
        }
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

    pub(crate) fn compare(&mut self, now: Instant, wall: SystemTime) {
        let passed = now.saturating_duration_since(self.compared.0);
        let gained = wall.duration_since(self.compared.1).unwrap_or_default().saturating_sub(passed);
        self.compared = (now, wall);
        if gained > JUMP {
            self.most = add(self.most, gained);
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
    fn an_answer_from_before_a_sleep_does_not_hide_it() {
        let (start, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + 1_000 * SECOND);
        let service = wall + 5_000 * SECOND;
        for sleep in [0, 12] {
            let mut clock = ServiceClock::new(start, wall);
            clock.learn_date(start, start, service);
            let now = start + 2 * SECOND;
            clock.compare(now, wall + (2 + sleep) * SECOND);
            clock.learn_date(start + SECOND / 2, start + SECOND, service);
            let late = clock.at(now).to;
            assert!(late >= service + (2 + sleep) * SECOND, "{sleep}");
            // The next answer tells.
            clock.learn_date(now, now, service + (2 + sleep) * SECOND);
            let Span { from, to } = clock.at(now);
            assert!(from >= service + (2 + sleep) * SECOND && to <= service + (3 + sleep) * SECOND, "{sleep}");
        }
    }
}
