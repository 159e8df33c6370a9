//! The calls in flight: it polls them and decides nothing.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::ops::{Done, Pending};
use crate::waiting::{Board, BoardReader, Waiting};

/// The futures of the driver's calls, and what they wait for.
pub(super) struct Calls {
    /// Calls whose answers are needed after the end too: they may name a subscription that must be deleted.
    lasting: FuturesUnordered<Pending>,
    /// Calls whose answers are not needed once the subscription has ended.
    passing: FuturesUnordered<Pending>,
    board: Board,
    waits: BoardReader,
}

impl Calls {
    pub(super) fn new() -> Self {
        let board = Board::new();
        let waits = board.reader();
        Self { lasting: FuturesUnordered::new(), passing: FuturesUnordered::new(), board, waits }
    }

    /// Starts a call that the end waits for.
    pub(super) fn start(&self, call: Pending) {
        self.lasting.push(call);
    }

    /// Starts a call that the end drops.
    pub(super) fn start_passing(&self, call: Pending) {
        self.passing.push(call);
    }

    /// Makes the waits of a call appear in the status.
    pub(super) fn watched(&self, call: Pending) -> Pending {
        Box::pin(self.board.during(call))
    }

    /// The wait of a watched call that ends last.
    pub(super) fn longest_wait(&self) -> Option<Waiting> {
        self.waits.current()
    }

    /// Drops the passing calls.
    pub(super) fn without_passing(self) -> Self {
        Self { passing: FuturesUnordered::new(), ..self }
    }

    /// The next answer; `None` when a wait of a watched call began or ended. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Done> {
        tokio::select! {
            biased;
            Some(done) = self.lasting.next() => Some(done),
            Some(done) = self.passing.next() => Some(done),
            () = self.waits.changed() => None,
        }
    }

    /// After the end: the next needed answer; `None` once all have arrived. Cancel safe.
    pub(super) async fn next_lasting(&mut self) -> Option<Done> {
        self.lasting.next().await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::time::{Instant, sleep_until};

    use super::*;
    use crate::waiting::{self, WaitCause};

    fn answer(done: Done) -> Pending {
        Box::pin(async { done })
    }

    fn answered(op: u64) -> Done {
        Done::Pruned { op, deleted: Vec::new() }
    }

    fn op(done: Option<&Done>) -> u64 {
        match done {
            Some(Done::Pruned { op, .. }) => *op,
            _ => panic!("another answer"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_lasting_calls_and_drops_passing_ones() {
        let mut calls = Calls::new();
        calls.start_passing(answer(answered(1)));
        calls.start(answer(answered(2)));
        assert_eq!((op(calls.next().await.as_ref()), op(calls.next().await.as_ref())), (2, 1));
        assert!(calls.next().now_or_never().is_none(), "nothing is in flight");
        calls.start_passing(answer(answered(3)));
        calls.start(answer(answered(4)));
        assert_eq!(op(calls.next_lasting().await.as_ref()), 4);
        assert!(calls.next_lasting().await.is_none());
        assert!(calls.without_passing().next().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watched_call_reports_its_wait() {
        let mut calls = Calls::new();
        let until = Instant::now() + Duration::from_secs(9);
        calls.start(calls.watched(Box::pin(async move {
            waiting::during(until, WaitCause::RateLimit, sleep_until(until)).await;
            answered(1)
        })));
        assert!(calls.next().await.is_none(), "a wait began");
        assert_eq!(calls.longest_wait(), Some((until, WaitCause::RateLimit)));
        assert_eq!(op(calls.next().await.as_ref()), 1);
        assert!(calls.next().await.is_none(), "it ended");
        assert_eq!(calls.longest_wait(), None);
    }
}
