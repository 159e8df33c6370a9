//! When refusals of the gateway are an answer, and no accident. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// So many in a row, over at least [`PERIOD`], are an answer. Shorter spells are
/// trouble on the way, and a live subscription must not die of them.
const MOST: u32 = 3;
const PERIOD: Duration = Duration::from_secs(120);

/// Counts connections that the gateway refused before their session began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Refusals {
    count: u32,
    first: Option<Instant>,
}

impl Refusals {
    /// One more; whether it is the last.
    pub(super) fn note(&mut self, now: Instant) -> bool {
        self.count = self.count.saturating_add(1);
        let first = *self.first.get_or_insert(now);
        self.count >= MOST && now.saturating_duration_since(first) >= PERIOD
    }

    /// A session began.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refusals_that_last_are_an_answer() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut refusals = Refusals::default();
        for (second, last) in [(0, false), (1, false), (2, false), (119, false), (120, true)] {
            assert_eq!(refusals.note(at(second)), last, "{second}");
        }
        refusals.clear();
        for (second, last) in [(200, false), (330, false), (331, true)] {
            assert_eq!(refusals.note(at(second)), last, "{second}");
        }
    }
}
