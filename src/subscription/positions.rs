//! The positions of a catch-up source, now and before. Pure.
//!
//! A source is also queried while push is healthy, and each answer gives a newer position. A gap that began before that
//! answer and is discovered after it is queried from the position before (found 3.1).

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::catch_up::SyncToken;
use crate::timestamp::Timestamp;

/// How many positions are remembered. Checks are half an hour apart.
const REMEMBERED: usize = 4;
/// The least distance between the older ones: polls come every few seconds, and a loss may take minutes to be
/// discovered.
const APART: Duration = Duration::from_secs(120);

/// The position of a catch-up source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourcePosition {
    #[serde(flatten)]
    pub(crate) token: SyncToken,
    /// Whether no sync was made yet: it does not cover earlier events.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) begun: bool,
    /// When it arrived.
    answered: Timestamp,
}

impl SourcePosition {
    pub(super) fn new(token: SyncToken, begun: bool, answered: SystemTime) -> Self {
        Self { token, begun, answered: answered.into() }
    }

    /// When it arrived, by the service's clock: a sync from it finds everything that happens later.
    pub(super) fn answered_at(&self) -> SystemTime {
        self.answered.system_time().unwrap_or_else(|| self.token.made_at())
    }
}

/// The positions of one source, the newest last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Positions(VecDeque<SourcePosition>);

impl Positions {
    pub(super) fn push(&mut self, position: SourcePosition) {
        let crowded =
            |(before, last): (&SourcePosition, &SourcePosition)| last.token.made_at() < before.token.made_at() + APART;
        let before_last = self.0.len().checked_sub(2).and_then(|at| self.0.get(at));
        if before_last.zip(self.0.back()).is_some_and(crowded) {
            self.0.pop_back();
        }
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(position);
    }

    /// A page of the same round: the next page replaces it.
    pub(super) fn replace(&mut self, position: SourcePosition) {
        self.0.pop_back();
        self.0.push_back(position);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn newest(&self) -> Option<&SourcePosition> {
        self.0.back()
    }

    pub(super) fn oldest(&self) -> Option<&SourcePosition> {
        self.0.front()
    }

    /// The newest one from which a sync finds everything since `since`; `overlap`: how far a sync reaches back before
    /// its position.
    pub(super) fn reaching(&self, since: SystemTime, overlap: Duration) -> Option<&SourcePosition> {
        let by = since.checked_add(overlap);
        self.0.iter().rev().find(|position| by.is_none_or(|by| position.answered_at() <= by))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
    }

    fn positions(made: &[u64]) -> Positions {
        let mut positions = Positions::default();
        for secs in made {
            let token = SyncToken::new(secs.to_string(), at(*secs));
            positions.push(SourcePosition::new(token, false, at(secs + 2)));
        }
        positions
    }

    fn texts(positions: &Positions) -> Vec<&str> {
        positions.0.iter().map(|position| position.token.text().expose()).collect()
    }

    #[test]
    fn the_newest_and_older_ones_that_lie_apart_are_remembered() {
        for (made, want) in [
            (&[][..], &[][..]),
            (&[1800, 3600, 5400], &["1800", "3600", "5400"]),
            (&[0, 1800, 3600, 5400, 7200], &["1800", "3600", "5400", "7200"]),
            (&[0, 10, 20, 30], &["0", "30"]),
            (&[0, 100, 200, 300, 400], &["0", "200", "400"]),
        ] {
            assert_eq!(texts(&positions(made)), want, "{made:?}");
        }
    }

    #[test]
    fn a_gap_is_queried_from_a_position_before_its_beginning() {
        let positions = positions(&[1000, 2000, 3000]);
        for (since, overlap, want) in [
            (4000, 0, Some("3000")),
            (3002, 0, Some("3000")),
            (3001, 0, Some("2000")),
            (3001, 5, Some("3000")),
            (2996, 5, Some("2000")),
            (1500, 0, Some("1000")),
            (1001, 0, None),
        ] {
            let found = positions.reaching(at(since), Duration::from_secs(overlap));
            assert_eq!(found.map(|it| it.token.text().expose()), want, "{since} {overlap}");
        }
        let anywhere = positions.reaching(at(0), Duration::MAX);
        assert_eq!(anywhere.unwrap().token.text().expose(), "3000", "one that is asked by time");
    }
}
