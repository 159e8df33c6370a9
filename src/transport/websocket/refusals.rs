//! When refusals of the gateway are an answer, and no accident. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// So many in a row are an answer, once there was a connection only if they last for
/// [`PERIOD`]. Shorter spells are trouble on the way, and a live subscription must
/// not die of them; one that is to be started should say what is wrong soon.
const MOST: u32 = 3;
const PERIOD: Duration = Duration::from_secs(120);

/// Counts connections that the gateway refused before their session began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Refusals {
    count: u32,
    first: Option<Instant>,
    /// There was a connection before.
    had_one: bool,
}

impl Refusals {
    /// One more; whether it is the last.
    pub(super) fn note(&mut self, now: Instant) -> bool {
        self.count = self.count.saturating_add(1);
        let first = *self.first.get_or_insert(now);
        let lasts = !self.had_one || now.saturating_duration_since(first) >= PERIOD;
        self.count >= MOST && lasts
    }

    /// Whether there was ever a connection.
    pub(super) fn had_one(&self) -> bool {
        self.had_one
    }

    /// A session began.
    pub(super) fn clear(&mut self) {
        *self = Self { had_one: true, ..Self::default() };
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
        for (second, last) in [(0, false), (1, false), (2, true)] {
            assert_eq!((refusals.note(at(second)), refusals.had_one()), (last, false), "{second}");
        }
        refusals.clear();
        assert!(refusals.had_one());
        for (second, last) in [(0, false), (1, false), (2, false), (119, false), (120, true)] {
            assert_eq!(refusals.note(at(second)), last, "{second}");
        }
        refusals.clear();
        for (second, last) in [(200, false), (330, false), (331, true)] {
            assert_eq!(refusals.note(at(second)), last, "{second}");
        }
    }
}
