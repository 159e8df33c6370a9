//! What comes after a recovery. Pure.
//!
//! The service keeps the newest events of a lost connection, up to a number, and
//! sends them without saying how many there were, nor which was the last. So what
//! comes is counted until it is quiet: as many as the service keeps may mean that
//! there were more.

use std::time::Duration;

use tokio::time::Instant;

/// Replayed events come in one go; a pause this long is the end of what is handed
/// on together.
const PAUSE: Duration = Duration::from_millis(250);
/// So long may be gathered at most.
const GATHER: Duration = Duration::from_secs(2);
/// After a pause this long nothing more is counted as replayed.
const QUIET: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Gathering,
    Counting { told: bool },
    Over,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Replay {
    phase: Phase,
    began: Instant,
    last: Instant,
    count: usize,
    /// How many events the service keeps.
    buffer: usize,
}

impl Replay {
    /// A session went on at `now`; the service keeps `buffer` events.
    pub(super) fn new(buffer: usize, now: Instant) -> Self {
        Self { phase: Phase::Gathering, began: now, last: now, count: 0, buffer }
    }

    /// Nothing is replayed.
    pub(super) fn none(now: Instant) -> Self {
        Self { phase: Phase::Over, began: now, last: now, count: 0, buffer: usize::MAX }
    }

    /// Until when to go on gathering, with `waiting` events there, the last of them
    /// since `came`.
    pub(super) fn gather_until(&self, waiting: usize, came: Option<Instant>, now: Instant) -> Option<Instant> {
        if self.phase != Phase::Gathering || waiting >= self.buffer {
            return None;
        }
        let quiet = came.unwrap_or(self.began).max(self.began) + PAUSE;
        Some(quiet.min(self.began + GATHER)).filter(|until| *until > now)
    }

    /// Whether something is still to be handed on, if only that nothing came.
    pub(super) fn is_gathering(&self) -> bool {
        self.phase == Phase::Gathering
    }

    /// Takes note that `events` are handed on. The number of replayed ones, when
    /// it has become as many as the service keeps.
    pub(super) fn hand_on(&mut self, events: usize, now: Instant) -> Option<usize> {
        match self.phase {
            Phase::Over => return None,
            Phase::Counting { .. } if now > self.last + QUIET => {
                self.phase = Phase::Over;
                return None;
            }
            Phase::Gathering => self.phase = Phase::Counting { told: false },
            Phase::Counting { .. } => {}
        }
        self.last = now;
        self.count += events;
        if self.count < self.buffer || self.phase == (Phase::Counting { told: true }) {
            return None;
        }
        self.phase = Phase::Counting { told: true };
        Some(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn events_are_gathered_until_it_is_quiet_or_enough() {
        let start = Instant::now();
        let replay = Replay::new(100, start);
        for (waiting, came, now, until) in [
            (0, None, 0, Some(250)),
            (3, Some(10), 20, Some(260)),
            (3, Some(10), 260, None),
            (99, Some(1_900), 1_950, Some(2_000)),
            (99, Some(1_999), 2_000, None),
            (100, Some(10), 10, None),
        ] {
            let came = came.map(|ms| start + ms * MS);
            let want = until.map(|ms| start + ms * MS);
            assert_eq!(replay.gather_until(waiting, came, start + now * MS), want, "{waiting} at {now}");
        }
        assert_eq!(Replay::none(start).gather_until(0, None, start), None);
    }

    #[test]
    fn w20_a_full_replay_is_told_once_at_once_or_late() {
        let start = Instant::now();
        for (handed, want) in [
            (&[(0, 100)][..], &[Some(100)][..]),
            (&[(0, 99)], &[None]),
            (&[(0, 60), (900, 40), (1_000, 40)], &[None, Some(100), None]),
            // Quiet for more than a second: what comes then is live.
            (&[(0, 60), (1_001, 40), (1_100, 400)], &[None, None, None]),
            (&[(0, 0), (500, 150)], &[None, Some(150)]),
        ] {
            let mut replay = Replay::new(100, start);
            let told: Vec<_> = handed.iter().map(|(at, events)| replay.hand_on(*events, start + *at * MS)).collect();
            assert_eq!(told, want, "{handed:?}");
        }
        assert_eq!(Replay::none(start).hand_on(1_000_000, start), None);
    }
}
