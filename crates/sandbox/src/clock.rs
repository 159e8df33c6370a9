//! The sandbox's clock, and deadlines on it.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// The maximum distance of a deadline.
pub(crate) const FAR: Duration = Duration::from_secs(10 * 365 * 86_400);

/// `now` plus `by`, capped.
pub(crate) fn later(now: Instant, by: Duration) -> Instant {
    now + by.min(FAR)
}

/// Like [`later`], on the wall clock.
pub(crate) fn later_on(wall: SystemTime, by: Duration) -> SystemTime {
    wall + by.min(FAR)
}

/// `by` before `wall`.
pub(crate) fn earlier_on(wall: SystemTime, by: Duration) -> SystemTime {
    wall - by.min(FAR)
}

/// The sandbox's clock: the real clock plus the offset set by tests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    moved: Duration,
}

/// One reading of the clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// For deadlines.
    pub(crate) now: Instant,
    /// For timetokens.
    pub(crate) wall: SystemTime,
}

/// The machine's wall clock.
#[allow(clippy::disallowed_methods, reason = "the one place of this crate that reads it")]
fn wall_now() -> SystemTime {
    SystemTime::now()
}

impl Clock {
    pub(crate) fn read(self) -> Moment {
        Moment { now: Instant::now() + self.moved, wall: wall_now() + self.moved }
    }

    /// Moves the clock, by ten years at most in total.
    pub(crate) fn advance(&mut self, by: Duration) {
        self.moved = self.moved.saturating_add(by).min(FAR);
    }

    /// Converts a deadline of this clock to tokio's.
    pub(crate) fn real(self, at: Instant) -> Instant {
        at.checked_sub(self.moved).unwrap_or_else(Instant::now)
    }
}
