//! Rate groups: when a request may be sent.

use std::fmt;
#[cfg(feature = "websocket")]
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::Instrument as _;

use super::bounded::{Answer, BoundedClient};
use super::envelope::{WAIT_FLOOR, date};
use super::exchange::HttpRequest;
#[cfg(feature = "websocket")]
use super::groups::Dials;
use super::groups::{BudgetMode, Gate, Group, Groups, template};
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::telemetry;
use crate::waiting::{self, WaitCause};

/// The remaining requests of one user of one app, by rate group.
///
/// The service counts requests per user, app and group (`Light` 50, `Medium` 40, `Heavy` 10, `Auth`
/// 5 per minute by default), and every request during a penalty restarts it. So all clients of the
/// same user and app should share one budget; clones do. [`Client`](crate::Client) uses its
/// provider's, see [`TokenProvider::rate_budget`](crate::auth::TokenProvider::rate_budget).
///
/// After a 429 it closes a group for the time of `Retry-After`. When `X-Rate-Limit-Remaining`
/// reaches 0, it closes the group until the oldest call of the window is as old as
/// `X-Rate-Limit-Window`. Requests in flight count as sent, so that concurrent callers do not
/// exceed the limit; a request that was never sent does not count.
///
/// The first is the service's statement, the second a prediction. Deleting a subscription obeys
/// only the first: a late deletion counts against the subscription limit until the lease ends.
#[derive(Clone, Default)]
pub struct RateBudget(pub(super) Arc<Shared>);

#[derive(Default)]
pub(super) struct Shared {
    groups: Mutex<Groups>,
    /// The calls for socket tokens within the last window.
    #[cfg(feature = "websocket")]
    dials: Mutex<Dials>,
    /// The newest `Date` of an answer.
    date: Mutex<Option<Dated>>,
    /// Number of subscriptions that need a connection to the gateway.
    #[cfg(feature = "websocket")]
    pub(super) sockets: AtomicUsize,
    /// Notified when a request ends, since more may be known then.
    pub(super) ended: Notify,
}

/// The service's time, as an answer gave it: between these two instants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dated {
    pub(crate) asked: Instant,
    pub(crate) read: Instant,
    pub(crate) date: SystemTime,
}

impl RateBudget {
    /// A budget without any knowledge of the limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until a request may be sent.
    ///
    /// # Errors
    /// [`ErrorKind::RateLimited`], immediately, if the group opens after `deadline`.
    pub(crate) async fn admit(&self, method: &Method, path: &str, deadline: Instant) -> Result<Permit> {
        self.admit_with(BudgetMode::All, method, path, deadline).await
    }

    /// Like [`admit`](Self::admit), for a request that obeys only `mode`.
    pub(crate) async fn admit_with(
        &self,
        mode: BudgetMode,
        method: &Method,
        path: &str,
        deadline: Instant,
    ) -> Result<Permit> {
        loop {
            // Created before the check, so that no notification is missed.
            let ended = self.0.ended.notified();
            let now = Instant::now();
            let (group, gate) = self.lock().enter(mode, method, path, now);
            match gate {
                Gate::Open => return Ok(Permit { budget: self.clone(), group, entered_at: now, is_over: false }),
                Gate::Until(at) if at > deadline => return Err(closed(&group, at - now)),
                Gate::Until(at) => {
                    tracing::debug!(%group, wait = ?(at - now), "waiting for the rate group");
                    waiting::during(at, WaitCause::RateLimit, sleep_until(at)).await;
                }
                Gate::Full { frees_at, may_end } => {
                    let in_time = frees_at.is_some_and(|at| at <= deadline);
                    if now >= deadline || !(in_time || may_end) {
                        return Err(closed(&group, frees_at.map_or(WAIT_FLOOR, |at| at - now)));
                    }
                    tracing::debug!(%group, wait = ?frees_at.map(|at| at - now), "waiting for room in the rate group");
                    let until = frees_at.map_or(deadline, |at| at.min(deadline));
                    waiting::during(until, WaitCause::RateLimit, async {
                        tokio::select! {
                            biased;
                            () = sleep_until(until) => {}
                            // An unsent request returns its turn, and a response may report more
                            // remaining requests.
                            () = ended => {}
                        }
                    })
                    .await;
                }
            }
        }
    }

    /// Whether an optional request leaves room for other light calls: there is no penalty, and more
    /// than a fifth of the window's limit remains.
    pub(crate) fn has_room_to_audit(&self) -> bool {
        self.lock().has_room(&Group::new("light"), Instant::now())
    }

    /// Whether another connection to the gateway, which needs a token, could be requested now.
    pub(crate) fn has_room_to_connect(&self) -> bool {
        self.lock().has_room(&Group::new("auth"), Instant::now())
    }

    /// The newest time that an answer of the service gave.
    pub(crate) fn dated(&self) -> Option<Dated> {
        *self.date()
    }

    fn date(&self) -> MutexGuard<'_, Option<Dated>> {
        self.0.date.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(feature = "websocket")]
    pub(super) fn dials(&self) -> MutexGuard<'_, Dials> {
        self.0.dials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Groups> {
        // Every change is complete before anything can panic.
        self.0.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn closed(group: &Group, wait: Duration) -> Error {
    Error::new(ErrorKind::RateLimited, format!("the rate group {group} is closed; nothing was sent"))
        .with_disposition(Disposition::Retry { after: Some(wait) })
}

/// A request in flight. Dropped without a response it counts as sent: it may have reached the
/// service.
#[derive(Debug)]
#[must_use]
pub(crate) struct Permit {
    budget: RateBudget,
    group: Group,
    entered_at: Instant,
    is_over: bool,
}

impl Permit {
    /// Sends the admitted request, and records its outcome.
    pub(crate) async fn exchange(
        self,
        http: &BoundedClient,
        request: HttpRequest,
        deadline: Instant,
    ) -> Result<Answer> {
        let (method, url, started) = (request.method().clone(), request.url().clone(), Instant::now());
        let span = telemetry::call("http", &method, || template(url.path()), url.host_str());
        let outcome = http.exchange(request, deadline).instrument(span.clone()).await;
        let (took, path) = (started.elapsed(), url.path());
        let _within = span.enter();
        match &outcome {
            Ok(answer) => {
                let status = answer.status.as_u16();
                telemetry::answered(&span, status);
                tracing::debug!(status, ?took, %method, path, "answer");
                self.answered(&method, path, status, &answer.headers);
            }
            Err(error) => {
                telemetry::failed(&span, error);
                tracing::debug!(%error, ?took, %method, path, "no response");
                self.failed(error);
            }
        }
        outcome
    }

    /// Records the response, which ends the request.
    pub(crate) fn answered(mut self, method: &Method, path: &str, status: u16, headers: &HeaderMap) {
        self.is_over = true;
        let read = Instant::now();
        let mut groups = self.budget.lock();
        groups.leave(&self.group);
        groups.observe(method, path, status, headers, &self.group, self.entered_at, read);
        let group = groups.group_of(method, path);
        telemetry::rate_budget(group.as_str(), || groups.left(&group, read));
        drop(groups);
        if let Some(date) = date(headers) {
            *self.budget.date() = Some(Dated { asked: self.entered_at, read, date: date.into() });
        }
        self.budget.0.ended.notify_waiters();
    }

    /// Ends the request with `error`. If nothing was sent, it returns the turn: the service counts
    /// only what reaches it (found 6.1).
    pub(crate) fn failed(mut self, error: &Error) {
        if error.sent_nothing() {
            self.is_over = true;
            self.budget.lock().leave(&self.group);
            self.budget.0.ended.notify_waiters();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.is_over {
            self.budget.lock().lost(&self.group, Instant::now());
            self.budget.0.ended.notify_waiters();
        }
    }
}

impl fmt::Debug for RateBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.lock().standing).finish()
    }
}

#[cfg(test)]
mod tests;
