//! What comes after a recovery. Pure.
//!
//! The service keeps the newest events of a lost connection, up to a number, and
//! sends them without saying how many there were, nor which was the last. So what
//! comes is counted until it pauses: as many as the service keeps may mean that
//! there were more. Nothing is handed on before that is known, so that it can be
//! told before them.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

/// The first of them comes within this.
const BEGINS: Duration = Duration::from_secs(10);
/// They come in one go: a pause this long is their end.
const PAUSE: Duration = Duration::from_millis(250);
/// So long it is counted at most: a busy stream has no pauses.
const COUNT: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Awaited,
    Counted {
        first: Instant,
        last: Instant,
    },
    /// Settled, and told.
    Over,
}

#[derive(Debug)]
pub(super) struct Replay {
    phase: Phase,
    began: Instant,
    /// By their number in the stream; the service may send one twice.
    seen: HashSet<Box<str>>,
    /// Those without one.
    unnamed: usize,
    /// How many events the service keeps.
    buffer: usize,
}

impl Replay {
    /// A session went on at `now`; the service keeps `buffer` events.
    pub(super) fn new(buffer: usize, now: Instant) -> Self {
        Self { phase: Phase::Awaited, began: now, seen: HashSet::new(), unnamed: 0, buffer }
    }

    /// Nothing is replayed.
    pub(super) fn none(now: Instant) -> Self {
        Self { phase: Phase::Over, ..Self::new(usize::MAX, now) }
    }

    /// An event came.
    pub(super) fn came(&mut self, position: Option<&str>, now: Instant) {
        let live = self.phase == Phase::Over || self.settles_at(now).is_none();
        if live {
            return;
        }
        self.phase = match self.phase {
            Phase::Counted { first, .. } => Phase::Counted { first, last: now },
            Phase::Awaited | Phase::Over => Phase::Counted { first: now, last: now },
        };
        match position {
            Some(position) => drop(self.seen.insert(position.into())),
            None => self.unnamed += 1,
        }
    }

    /// When it is known how many there were; `None`: it is.
    pub(super) fn settles_at(&self, now: Instant) -> Option<Instant> {
        let at = match self.phase {
            Phase::Over => return None,
            Phase::Awaited => self.began + BEGINS,
            Phase::Counted { first, last } => (last + PAUSE).min(first + COUNT),
        };
        (at > now && self.full().is_none()).then_some(at)
    }

    /// How many there were, if as many as the service keeps.
    pub(super) fn full(&self) -> Option<usize> {
        let count = self.seen.len() + self.unnamed;
        Some(count).filter(|count| *count >= self.buffer && self.phase != Phase::Over)
    }

    /// It is told; whether it was not before.
    pub(super) fn settle(&mut self) -> bool {
        self.seen = HashSet::new();
        std::mem::replace(&mut self.phase, Phase::Over) != Phase::Over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Events that come at these milliseconds: when it settles after the last of
    /// them, and how many there were.
    fn run(events: &[(u32, usize)]) -> (Option<u64>, Option<usize>) {
        let start = Instant::now();
        let mut replay = Replay::new(100, start);
        let mut now = start;
        for (at, n) in events {
            now = start + *at * MS;
            replay.came(Some(&n.to_string()), now);
        }
        let settles = replay.settles_at(now).map(|at| (at - start).as_millis() as u64);
        (settles, replay.full())
    }

    fn burst(at: u32, numbers: std::ops::Range<usize>) -> Vec<(u32, usize)> {
        numbers.map(|n| (at, n)).collect()
    }

    #[test]
    fn w20_distinct_events_are_counted_from_the_first_to_a_pause() {
        let stream: Vec<_> = (0..200).map(|n| (n as u32 * 50, n)).collect();
        for (what, events, want) in [
            ("nothing", vec![], (Some(10_000), None)),
            ("few", burst(10, 0..3), (Some(260), None)),
            ("all but one", burst(10, 0..99), (Some(260), None)),
            ("as many as are kept", burst(10, 0..100), (None, Some(100))),
            ("late", burst(9_000, 0..150), (None, Some(100))),
            ("in two goes", [burst(10, 0..60), burst(200, 60..100)].concat(), (None, Some(100))),
            ("each twice", [burst(10, 0..60), burst(20, 0..60)].concat(), (Some(270), None)),
            ("a pause", [burst(10, 0..60), burst(261, 60..200)].concat(), (None, None)),
            ("a busy stream", stream, (None, None)),
            ("too late", burst(10_001, 0..150), (None, None)),
        ] {
            assert_eq!(run(&events), want, "{what}");
        }
    }

    #[test]
    fn it_is_told_once_and_where_nothing_is_replayed_never() {
        let start = Instant::now();
        let mut replay = Replay::new(2, start);
        replay.came(None, start);
        assert_eq!((replay.full(), replay.settles_at(start)), (None, Some(start + PAUSE)));
        replay.came(None, start);
        assert_eq!((replay.full(), replay.settles_at(start)), (Some(2), None));
        assert!(replay.settle() && !replay.settle());
        assert_eq!((replay.full(), replay.settles_at(start)), (None, None));
        let mut none = Replay::none(start);
        none.came(None, start);
        assert_eq!((none.full(), none.settles_at(start), none.settle()), (None, None, false));
    }
}
