//! Keeps polls from forming a tight loop when a server answers each of them at once.

use std::time::Duration;

use crate::policy::doubled;

/// An answer after this long was held, as the answer to a long poll should be.
const HELD: Duration = Duration::from_millis(50);
const FIRST_GAP: Duration = Duration::from_millis(100);
/// Short, because messages may still arrive during the wait.
const LONGEST_GAP: Duration = Duration::from_secs(1);

/// How many answers in a row gave no reason to poll again at once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    idle: u32,
}

impl Pace {
    /// How long to wait before the next poll, after an answer that took `held`. `progress`: it brought messages and
    /// moved the position. Messages without a move would come again at the next poll.
    pub(super) fn after(&mut self, held: Duration, progress: bool) -> Option<Duration> {
        if progress || held >= HELD {
            self.idle = 0;
            return None;
        }
        let gap = doubled(FIRST_GAP, self.idle, LONGEST_GAP);
        self.idle = self.idle.saturating_add(1);
        Some(gap)
    }
}
