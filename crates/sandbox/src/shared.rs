//! The state behind one lock, and a way to wait for its changes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::rest;
use crate::state::State;

/// The state, and a way to wait for its changes.
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

impl Shared {
    pub(crate) fn new(state: State) -> Self {
        Self { state: Mutex::new(state), changed: watch::Sender::new(()) }
    }

    /// Locks the state. Ignores poison, so that a panic in one test's closure does not fail the
    /// others: changes are never partial.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, serves the requests that sockets made by it, and wakes the waiters.
    pub(crate) fn update<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let result = {
            let state = &mut *self.lock();
            let result = change(state);
            rest::serve_sockets(state);
            result
        };
        self.changed.send_replace(());
        result
    }

    /// Waits until `found` returns a value, or until `deadline`.
    pub(crate) async fn wait_until<R>(
        &self,
        deadline: Instant,
        mut found: impl FnMut(&mut State) -> Option<R>,
    ) -> Option<R> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Some(result) = found(&mut self.lock()) {
                return Some(result);
            }
            tokio::select! {
                change = changed.changed() => if change.is_err() { return None },
                () = tokio::time::sleep_until(deadline) => return found(&mut self.lock()),
            }
        }
    }
}
