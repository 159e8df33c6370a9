//! Turns of connections to the gateway: each needs a token, and a call of the rate group `Auth`.

use std::sync::atomic::Ordering;

use tokio::time::{Instant, sleep_until};

use super::budget::{RateBudget, closed};
use super::groups::{DIALS, DialRoom, Gate, Group, WINDOW};
use crate::error::Result;
use crate::waiting::{self, WaitCause};

/// The gateway retains a session for 180 s (websocket §1.6): connections lost together can only
/// recover if all their dials fit into that.
const RECOVERY_WINDOWS: usize = 3;

impl RateBudget {
    /// Waits until another token for the gateway may be requested. Many sockets that are lost
    /// together reconnect one after the other, and leave part of the group for the login itself.
    ///
    /// # Errors
    /// [`RateLimited`](crate::ErrorKind::RateLimited) if that is after `deadline`: immediately if the limit is known;
    /// else at `deadline`, since a pending response may report a higher limit than assumed.
    pub(crate) async fn admit_dial(&self, deadline: Instant) -> Result<DialTurn> {
        loop {
            let ended = self.0.ended.notified();
            let now = Instant::now();
            let limit = self.lock().dials();
            let (at, may_end) = match self.dials().enter(limit.unwrap_or(DIALS), now) {
                Gate::Open => return Ok(DialTurn { budget: self.clone(), was_sent: true }),
                Gate::Until(at) => (at, false),
                // One in flight starts its window when it ends.
                Gate::Full { frees_at, may_end } => (frees_at.unwrap_or(now + WINDOW), may_end),
            };
            if at > deadline && (now >= deadline || (limit.is_some() && !may_end)) {
                return Err(closed(&Group::new("auth"), at - now));
            }
            tracing::debug!(wait = ?(at - now), "waiting before another connection");
            let until = at.min(deadline);
            waiting::during(until, WaitCause::RateLimit, async {
                tokio::select! {
                    biased;
                    () = sleep_until(until) => {}
                    // A response may have reported a higher limit, or a turn was returned.
                    () = ended => {}
                }
            })
            .await;
        }
    }

    /// How many more tokens for the gateway one of the subscriptions may request in this window.
    pub(crate) fn dial_room(&self, now: Instant) -> DialRoom {
        let limit = self.lock().dials().unwrap_or(DIALS);
        let sockets = self.0.sockets.load(Ordering::Relaxed).max(1);
        let (used, frees_at) = self.dials().used(now);
        let share = |calls: usize| u32::try_from(calls / sockets).unwrap_or(u32::MAX);
        DialRoom {
            left: share(limit.saturating_sub(used)),
            limit: share(limit),
            frees_at: frees_at.unwrap_or(now + WINDOW),
            window: WINDOW,
        }
    }

    /// Counts a subscription that needs connections to the gateway, while the returned value is
    /// held.
    pub(crate) fn socket(&self) -> SocketSeat {
        let sockets = self.0.sockets.fetch_add(1, Ordering::Relaxed) + 1;
        let recoverable = self.lock().dials().unwrap_or(DIALS) * RECOVERY_WINDOWS;
        if sockets == recoverable + 1 {
            tracing::warn!(
                recoverable,
                "more WebSocket subscriptions than can reconnect within the gateway's 180 s after a common drop: each \
                 reconnect needs a call of this user's rate group Auth; those beyond will be recreated with a gap. Use \
                 fewer subscriptions with more filters each, or ask RingCentral for a higher limit"
            );
        }
        SocketSeat(self.clone())
    }
}

/// Permission to request a gateway token. Dropping it ends the call, whose window starts then.
#[derive(Debug)]
#[must_use]
pub(crate) struct DialTurn {
    budget: RateBudget,
    was_sent: bool,
}

impl DialTurn {
    /// Nothing was sent: returns the turn.
    pub(crate) fn give_back(mut self) {
        self.was_sent = false;
    }
}

impl Drop for DialTurn {
    fn drop(&mut self) {
        self.budget.dials().leave(self.was_sent, Instant::now());
        self.budget.0.ended.notify_waiters();
    }
}

/// One of the subscriptions that need connections to the gateway.
#[derive(Debug)]
pub(crate) struct SocketSeat(RateBudget);

impl Drop for SocketSeat {
    fn drop(&mut self) {
        self.0.0.sockets.fetch_sub(1, Ordering::Relaxed);
    }
}
