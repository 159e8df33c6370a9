//! Since when a session's events may be missing. Pure.

use std::time::{Duration, Instant, SystemTime};

/// What was on its way when an answer was given may be missing too.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

/// One moment by both clocks. The monotonic one stands still while the machine sleeps, and
/// the wall clock may be set.
#[derive(Clone, Copy, Debug)]
struct Moment {
    at: Instant,
    wall: SystemTime,
}

/// The last moment before which no event can be missing. It is the one owner of where an
/// agent's gap begins.
#[derive(Debug, Default)]
pub(super) struct Proven {
    /// When the newest poll left.
    asked: Option<Moment>,
    /// The proven moment.
    good: Option<Moment>,
}

impl Proven {
    /// A poll leaves.
    pub(super) fn asked(&mut self, now: Instant, wall: SystemTime) {
        self.asked = Some(Moment { at: now, wall });
    }

    /// It was answered, and no answer before it may have been lost. The service gave this
    /// one at some time between the two, and it may have been long on its way.
    pub(super) fn answered(&mut self, now: Instant, wall: SystemTime) {
        self.good = self.asked.map(|asked| Moment {
            at: now.checked_sub(ON_ITS_WAY).map_or(asked.at, |read| read.min(asked.at)),
            wall: wall.checked_sub(ON_ITS_WAY).map_or(asked.wall, |read| read.min(asked.wall)),
        });
    }

    /// Where a gap begins that is noticed now: the earlier of what the two clocks say.
    pub(super) fn since(&self, now: Instant, wall: SystemTime) -> Option<SystemTime> {
        let good = self.good?;
        let by_monotonic = wall.checked_sub(now.saturating_duration_since(good.at));
        Some(by_monotonic.map_or(good.wall, |since| since.min(good.wall)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_begins_when_the_last_proven_poll_left() {
        let (start, epoch) = (tokio::time::Instant::now().into_std(), SystemTime::UNIX_EPOCH);
        let wall = |secs| epoch + Duration::from_secs(secs);
        let secs = Duration::from_secs;
        // When the poll left and was answered, and when the gap is noticed, by the monotonic
        // clock and by the wall clock, and where it begins.
        for (what, left, answered, noticed, want) in [
            ("a poll that waits long", (0, 1000), (54, 1054), (60, 1060), 1000),
            ("one that is answered at once", (0, 1000), (1, 1001), (60, 1060), 996),
            ("the wall clock goes back meanwhile", (0, 9000), (54, 5454), (60, 5460), 5400),
            ("it goes back before the gap is noticed", (0, 9000), (54, 9054), (60, 5460), 5400),
            ("it goes forward", (0, 1000), (54, 4654), (60, 4660), 1000),
            ("the machine sleeps", (0, 1000), (54, 1654), (60, 1660), 1000),
        ] {
            let mut proven = Proven::default();
            assert_eq!(proven.since(start, wall(0)), None, "{what}");
            // The margin does not reach before the clock's beginning.
            let at = |at: u64| start + secs(100 + at);
            proven.asked(at(left.0), wall(left.1));
            assert_eq!(proven.since(at(left.0), wall(left.1)), None, "{what}");
            proven.answered(at(answered.0), wall(answered.1));
            // A poll that failed since proves nothing.
            proven.asked(at(noticed.0), wall(noticed.1));
            assert_eq!(proven.since(at(noticed.0), wall(noticed.1)), Some(wall(want)), "{what}");
        }
    }
}
