//! The task that performs what is due.

use std::sync::Arc;

use crate::shared::Shared;
use crate::state::State;

/// Performs actions when they are due, until the sandbox ends.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let wake = Arc::clone(&shared.lock().ctx.wake);
    loop {
        let next = {
            let state = shared.lock();
            state.next_deadline().map(|at| state.ctx.clock.real(at))
        };
        match next {
            None => wake.notified().await,
            Some(at) => tokio::select! {
                () = wake.notified() => {}
                () = tokio::time::sleep_until(at) => {}
            },
        }
        shared.update(State::run_due);
    }
}
