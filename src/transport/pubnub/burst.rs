//! Whether the service's buffer may have dropped events before an answer. Pure.
//!
//! An overflow drops the oldest events and sets no flag (pubnub.md §6). One sign is an answer with as many events as
//! the buffer holds. A service that limits its answers further sends its backlog as several answers of one size, so
//! after a fault those are added up (found 2.4).

use std::time::Duration;

/// Smaller answers of equal size are coincidence.
const LEAST: usize = 10;
/// An answer that began later was waiting for an event, and is no part of a backlog. A new
/// connection over a slow path may take most of that.
const AT_ONCE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug)]
pub(super) struct Burst {
    buffer: usize,
    /// The size of the answers since the fault, and how many events they held; `None` once an answer of another size
    /// arrived.
    run: Option<(usize, usize)>,
}

impl Burst {
    /// `continues`: the link continues one that failed.
    pub(super) fn new(buffer: usize, continues: bool) -> Self {
        Self { buffer, run: continues.then_some((0, 0)) }
    }

    /// A fault: events may have accumulated at the service.
    pub(super) fn fault(&mut self) {
        self.run = Some((0, 0));
    }

    /// Notes an answer with `events`, whose first byte came after `held`. Returns how many events arrived in a row,
    /// when those may have filled the buffer, and whether the answer may be truncated.
    pub(super) fn answered(&mut self, events: usize, held: Duration) -> (Option<usize>, bool) {
        if events >= self.buffer {
            self.run = None;
            return (Some(events), true);
        }
        let Some((size, sum)) = self.run else { return (None, false) };
        let first = sum == 0;
        if events < LEAST || held > AT_ONCE || !first && events != size {
            self.run = None;
            return (None, false);
        }
        let sum = sum + events;
        if sum >= self.buffer {
            self.run = None;
            return (Some(sum), true);
        }
        self.run = Some((events, sum));
        (None, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(answers: &[(usize, u64)]) -> Vec<Option<usize>> {
        let mut burst = Burst::new(100, true);
        answers.iter().map(|(events, held)| burst.answered(*events, Duration::from_millis(*held)).0).collect()
    }

    #[test]
    fn found_2_4_answers_of_one_size_after_a_fault_add_up() {
        for (what, answers, want) in [
            ("one full", &[(100, 5)][..], vec![Some(100)]),
            ("one larger", &[(131, 5_000)], vec![Some(131)]),
            ("two halves", &[(50, 5), (50, 5), (7, 5)], vec![None, Some(100), None]),
            ("four quarters", &[(25, 5), (25, 5), (25, 5), (25, 5)], vec![None, None, None, Some(100)]),
            ("another size", &[(50, 5), (49, 5), (50, 5)], vec![None, None, None]),
            ("waited for", &[(50, 5), (50, 2_500), (50, 5)], vec![None, None, None]),
            ("few", &[(9, 5); 12], vec![None; 12]),
            ("none", &[(0, 5), (50, 5), (50, 5)], vec![None, None, None]),
        ] {
            assert_eq!(run(answers), want, "{what}");
        }
    }

    #[test]
    fn without_a_fault_equal_sizes_are_chance() {
        let mut burst = Burst::new(100, false);
        assert!((0..10).all(|_| burst.answered(50, Duration::ZERO) == (None, false)));
        burst.fault();
        assert_eq!(burst.answered(50, Duration::ZERO), (None, true));
        assert_eq!(burst.answered(50, Duration::ZERO), (Some(100), true));
        assert_eq!(burst.answered(50, Duration::ZERO), (None, false));
    }
}
