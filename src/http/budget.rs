//! Rate groups: when a request may be sent.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
#[cfg(feature = "websocket")]
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::bounded::{Answer, BoundedClient};
use super::envelope::{WAIT_FLOOR, date, wait_asked_for};
use super::exchange::HttpRequest;
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::waiting::{self, WaitCause};

/// The documented limit of the group `Light`, per minute (rest §4.1).
const LIGHT: u64 = 50;
/// And of the group `Auth`, which holds while the service does not say what it allows: one call
/// too many costs a minute without any, and logins are few.
const AUTH: u64 = 5;

/// More groups and endpoints than the service has; further ones are not learned.
const GROUPS: usize = 64;
const ENDPOINTS: usize = 512;

/// The window of every documented group, if the service states none (rest §4.1).
const WINDOW: Duration = Duration::from_secs(60);
/// A longer window, or one of zero, is an invalid header.
const WINDOW_CAP: u64 = 3_600;
/// Calls within this fraction of the window share one entry, so that memory is bounded for any
/// limit.
const ENTRIES: u32 = 128;

#[cfg(feature = "websocket")]
/// Calls for socket tokens per [`DIAL_WINDOW`] while the limit of the group `Auth` is unknown: one
/// less than its default, since refreshes need it too.
const DIALS: usize = 4;
#[cfg(feature = "websocket")]
const DIAL_WINDOW: Duration = Duration::from_secs(60);
#[cfg(feature = "websocket")]
/// The gateway retains a session for 180 s (websocket §1.6): connections lost together can only
/// recover if all their dials fit into that.
const RECOVERY_WINDOWS: usize = 3;

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
pub struct RateBudget(Arc<Shared>);

#[derive(Default)]
struct Shared {
    groups: Mutex<Groups>,
    /// The calls for socket tokens within the last [`DIAL_WINDOW`].
    #[cfg(feature = "websocket")]
    dials: Mutex<Dials>,
    /// The newest `Date` of an answer.
    date: Mutex<Option<Dated>>,
    /// Number of subscriptions that need a connection to the gateway.
    #[cfg(feature = "websocket")]
    sockets: AtomicUsize,
    /// Notified when a request ends, since more may be known then.
    ended: Notify,
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

    /// Waits until another token for the gateway may be requested. Many sockets that are lost
    /// together reconnect one after the other, and leave part of the group for the login itself.
    ///
    /// # Errors
    /// [`ErrorKind::RateLimited`] if that is after `deadline`: immediately if the limit is known;
    /// else at `deadline`, since a pending response may report a higher limit than assumed.
    #[cfg(feature = "websocket")]
    pub(crate) async fn admit_dial(&self, deadline: Instant) -> Result<DialTurn> {
        loop {
            let ended = self.0.ended.notified();
            let now = Instant::now();
            let limit = self.lock().dials();
            let (at, may_end) = match self.dials().enter(limit.unwrap_or(DIALS), now) {
                Gate::Open => return Ok(DialTurn { budget: self.clone(), was_sent: true }),
                Gate::Until(at) => (at, false),
                // One in flight starts its window when it ends.
                Gate::Full { frees_at, may_end } => (frees_at.unwrap_or(now + DIAL_WINDOW), may_end),
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
    #[cfg(feature = "websocket")]
    pub(crate) fn dial_room(&self, now: Instant) -> DialRoom {
        let limit = self.lock().dials().unwrap_or(DIALS);
        let sockets = self.0.sockets.load(Ordering::Relaxed).max(1);
        let (used, frees_at) = self.dials().used(now);
        let share = |calls: usize| u32::try_from(calls / sockets).unwrap_or(u32::MAX);
        DialRoom {
            left: share(limit.saturating_sub(used)),
            limit: share(limit),
            frees_at: frees_at.unwrap_or(now + DIAL_WINDOW),
            window: DIAL_WINDOW,
        }
    }

    /// Counts a subscription that needs connections to the gateway, while the returned value is
    /// held.
    #[cfg(feature = "websocket")]
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

    /// The newest time that an answer of the service gave.
    pub(crate) fn dated(&self) -> Option<Dated> {
        *self.date()
    }

    fn date(&self) -> MutexGuard<'_, Option<Dated>> {
        self.0.date.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(feature = "websocket")]
    fn dials(&self) -> MutexGuard<'_, Dials> {
        self.0.dials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Groups> {
        // Every change is complete before anything can panic.
        self.0.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What holds a request back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BudgetMode {
    /// A penalty, and the remaining count of the service.
    All,
    /// Only a penalty.
    Penalty,
}

/// One subscription's share of the calls for socket tokens.
#[cfg(feature = "websocket")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct DialRoom {
    /// How many are left in the present window, and of how many.
    pub(crate) left: u32,
    pub(crate) limit: u32,
    /// When the oldest call leaves the window.
    pub(crate) frees_at: Instant,
    pub(crate) window: Duration,
}

/// The calls for socket tokens.
#[cfg(feature = "websocket")]
#[derive(Debug, Default)]
struct Dials {
    /// When those within the window ended: the service counted them no later.
    ended: VecDeque<Instant>,
    under_way: usize,
}

#[cfg(feature = "websocket")]
impl Dials {
    /// How many count now, and when the oldest one no longer does.
    fn used(&mut self, now: Instant) -> (usize, Option<Instant>) {
        while self.ended.front().is_some_and(|at| *at + DIAL_WINDOW <= now) {
            self.ended.pop_front();
        }
        (self.ended.len() + self.under_way, self.ended.front().map(|at| *at + DIAL_WINDOW))
    }

    /// Counts a call if there are fewer than `most` within the window.
    fn enter(&mut self, most: usize, now: Instant) -> Gate {
        let (used, _) = self.used(now);
        if used < most {
            self.under_way += 1;
            return Gate::Open;
        }
        // All but `most - 1` of them must have left the window.
        let frees_at = self.ended.get(used - most).map(|at| *at + DIAL_WINDOW);
        Gate::Full { frees_at, may_end: self.under_way > 0 }
    }

    /// Ends one in flight. The service counts a call on arrival, which may be as late as this: with
    /// the time of sending, the next one would be too early.
    fn leave(&mut self, was_sent: bool, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        if was_sent {
            self.ended.push_back(now);
        }
    }
}

fn closed(group: &Group, wait: Duration) -> Error {
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
        let outcome = http.exchange(request, deadline).await;
        let (took, path) = (started.elapsed(), url.path());
        match &outcome {
            Ok(answer) => {
                let status = answer.status.as_u16();
                tracing::debug!(status, ?took, %method, path, "answer");
                self.answered(&method, path, status, &answer.headers);
            }
            Err(error) => {
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

/// Permission to request a gateway token. Dropping it ends the call, whose window starts then.
#[cfg(feature = "websocket")]
#[derive(Debug)]
#[must_use]
pub(crate) struct DialTurn {
    budget: RateBudget,
    was_sent: bool,
}

#[cfg(feature = "websocket")]
impl DialTurn {
    /// Nothing was sent: returns the turn.
    pub(crate) fn give_back(mut self) {
        self.was_sent = false;
    }
}

#[cfg(feature = "websocket")]
impl Drop for DialTurn {
    fn drop(&mut self) {
        self.budget.dials().leave(self.was_sent, Instant::now());
        self.budget.0.ended.notify_waiters();
    }
}

/// One of the subscriptions that need connections to the gateway.
#[cfg(feature = "websocket")]
#[derive(Debug)]
pub(crate) struct SocketSeat(RateBudget);

#[cfg(feature = "websocket")]
impl Drop for SocketSeat {
    fn drop(&mut self) {
        self.0.0.sockets.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for RateBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.lock().standing).finish()
    }
}

/// The name of a rate group, in lower case: the service uses either case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Group(Box<str>);

impl Group {
    fn new(name: &str) -> Self {
        Self(name.trim().to_ascii_lowercase().into_boxed_str())
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a request may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Open,
    /// Not before this, by the service's statement.
    Until(Instant),
    /// The limit of the window is reached.
    Full {
        /// When the oldest counted call leaves the window; `None` while all of them are in flight.
        frees_at: Option<Instant>,
        /// Whether one in flight may end without counting.
        may_end: bool,
    },
}

/// Calls counted close together.
#[derive(Clone, Copy, Debug)]
struct Counted {
    first: Instant,
    /// The latest call; the window of all of them starts here.
    last: Instant,
    calls: u64,
}

/// The state of one group.
///
/// The service counts in a sliding window (rest §4.1). The calls of the last window are recorded by
/// the time of their responses, which is no earlier than the service counted them: one more may be
/// sent when the oldest of them is as old as the window. This also holds for a window that starts
/// with its first call (found 6.14).
#[derive(Clone, Debug, Default)]
struct Standing {
    /// The end of the current penalty.
    penalty_until: Option<Instant>,
    /// The limit of a window, if the service stated it.
    limit: Option<u64>,
    /// A lower bound of the limit, if the service stated only the remaining count, and how long it
    /// is valid.
    at_least: Option<(u64, Instant)>,
    window: Option<Duration>,
    counted: VecDeque<Counted>,
    under_way: u64,
}

impl Standing {
    fn window(&self) -> Duration {
        self.window.unwrap_or(WINDOW)
    }

    /// The limit of a window, as far as known.
    fn limit(&self, now: Instant) -> Option<u64> {
        self.limit.or_else(|| self.at_least.filter(|(_, until)| *until > now).map(|(least, _)| least))
    }

    /// Number of calls that count now.
    fn used(&mut self, now: Instant) -> u64 {
        let window = self.window();
        while self.counted.front().is_some_and(|counted| counted.last + window <= now) {
            self.counted.pop_front();
        }
        self.counted.iter().map(|counted| counted.calls).sum()
    }

    /// Adds calls that the service had counted by `now`.
    fn count(&mut self, calls: u64, now: Instant) {
        let apart = self.window() / ENTRIES;
        match self.counted.back_mut() {
            Some(counted) if now.saturating_duration_since(counted.first) < apart => {
                counted.last = now;
                counted.calls = counted.calls.saturating_add(calls);
            }
            Some(_) | None => self.counted.push_back(Counted { first: now, last: now, calls }),
        }
    }

    /// Removes the oldest calls with responses by `by`, until at most `most` of these are left.
    fn keep_at_most(&mut self, most: u64, by: Instant) {
        let known: u64 = self.counted.iter().filter(|counted| counted.last <= by).map(|counted| counted.calls).sum();
        let mut surplus = known.saturating_sub(most);
        while let Some(counted) = self.counted.front_mut().filter(|counted| surplus > 0 && counted.last <= by) {
            let taken = surplus.min(counted.calls);
            surplus -= taken;
            counted.calls -= taken;
            if counted.calls == 0 {
                self.counted.pop_front();
            }
        }
    }

    #[cfg(test)]
    fn gate(&mut self, now: Instant) -> Gate {
        let limit = self.limit(now);
        self.gate_of(limit, now)
    }

    /// Whether one more may leave where a window has `limit`.
    fn gate_of(&mut self, limit: Option<u64>, now: Instant) -> Gate {
        let used = self.used(now).saturating_add(self.under_way);
        let Some(limit) = limit.filter(|limit| used >= *limit) else { return Gate::Open };
        let mut to_leave = (used - limit).saturating_add(1);
        let frees_at = self.counted.iter().find_map(|counted| {
            to_leave = to_leave.saturating_sub(counted.calls);
            (to_leave == 0).then(|| counted.last + self.window())
        });
        Gate::Full { frees_at, may_end: self.under_way > 0 }
    }

    /// Records a request sent at `entered_at` and answered now, with `remaining` by the service's
    /// count.
    fn answered(&mut self, remaining: Option<u64>, entered_at: Instant, now: Instant) {
        self.used(now);
        match (remaining, self.limit) {
            (Some(remaining), Some(limit)) => {
                let by_service = limit.saturating_sub(remaining).max(1);
                // If the service counts less than assumed, its window differs. Calls answered since
                // may be missing from its count, so they stay.
                self.keep_at_most(by_service - 1, entered_at);
                self.count(1, now);
                // The rest was sent by other clients of the same user and app.
                let foreign = by_service.saturating_sub(self.used(now));
                if foreign > 0 {
                    self.count(foreign, now);
                }
            }
            (Some(remaining), None) => {
                self.count(1, now);
                let least = self.used(now).saturating_add(remaining);
                // A response that was overtaken reports an earlier, higher number.
                let overtaking = self.at_least.filter(|(_, until)| *until > entered_at + self.window());
                let least = overtaking.map_or(least, |(newer, _)| newer.min(least));
                self.at_least = Some((least, now + self.window()));
            }
            (None, _) => self.count(1, now),
        }
    }
}

/// The pure part: time is an argument.
#[derive(Debug, Default)]
struct Groups {
    standing: BTreeMap<Group, Standing>,
    /// Endpoints whose responses named another group than the guess.
    learned: HashMap<(Method, String), Group>,
}

impl Groups {
    fn group_of(&self, method: &Method, path: &str) -> Group {
        let learned = self.learned.get(&(method.clone(), template(path)));
        learned.cloned().unwrap_or_else(|| Group::new(guess(method, path)))
    }

    fn standing(&mut self, group: &Group) -> Option<&mut Standing> {
        if !self.standing.contains_key(group) && self.standing.len() >= GROUPS {
            return None;
        }
        Some(self.standing.entry(group.clone()).or_default())
    }

    /// The number of connections per [`DIAL_WINDOW`]: four fifths of the limit of the group `Auth`,
    /// if known.
    #[cfg(feature = "websocket")]
    fn dials(&self) -> Option<usize> {
        const MOST: u64 = 10_000;
        let limit = self.standing.get(&Group::new("auth")).and_then(|standing| standing.limit)?;
        Some(usize::try_from(limit.min(MOST) * 4 / 5).unwrap_or(DIALS).max(DIALS))
    }

    /// Counts a request if it may be sent.
    fn enter(&mut self, mode: BudgetMode, method: &Method, path: &str, now: Instant) -> (Group, Gate) {
        let group = self.group_of(method, path);
        let documented = (&*group.0 == "auth").then_some(AUTH);
        let Some(standing) = self.standing(&group) else { return (group, Gate::Open) };
        if let Some(at) = standing.penalty_until.filter(|at| *at > now) {
            return (group, Gate::Until(at));
        }
        standing.penalty_until = None;
        let gate = match mode {
            BudgetMode::All => {
                let limit = standing.limit(now);
                standing.gate_of(limit.or(documented), now)
            }
            BudgetMode::Penalty => Gate::Open,
        };
        if gate == Gate::Open {
            standing.under_way += 1;
        }
        (group, gate)
    }

    /// Whether more than a fifth of the window's limit remains.
    fn has_room(&mut self, group: &Group, now: Instant) -> bool {
        let Some(standing) = self.standing.get_mut(group) else { return true };
        if standing.penalty_until.is_some_and(|at| at > now) {
            return false;
        }
        let documented = if &*group.0 == "auth" { AUTH } else { LIGHT };
        let limit = standing.limit(now).unwrap_or(documented);
        standing.used(now).saturating_add(standing.under_way) < limit.saturating_mul(4) / 5
    }

    /// Ends one in flight that does not count.
    fn leave(&mut self, group: &Group) {
        if let Some(standing) = self.standing.get_mut(group) {
            standing.under_way = standing.under_way.saturating_sub(1);
        }
    }

    /// Ends one in flight without a response: it may have reached the service by now.
    fn lost(&mut self, group: &Group, now: Instant) {
        self.leave(group);
        if let Some(standing) = self.standing.get_mut(group) {
            standing.used(now);
            standing.count(1, now);
        }
    }

    #[cfg(test)]
    fn opens_at(&mut self, group: &Group, now: Instant) -> Option<Instant> {
        let standing = self.standing.get_mut(group)?;
        let frees_at = match standing.gate(now) {
            Gate::Full { frees_at, .. } => frees_at,
            Gate::Open | Gate::Until(_) => None,
        };
        standing.penalty_until.max(frees_at)
    }

    /// Records the response to a request in group `entered`, sent at `entered_at`.
    #[allow(clippy::too_many_arguments, reason = "an answer, the request it is to, and the time")]
    fn observe(
        &mut self,
        method: &Method,
        path: &str,
        status: u16,
        headers: &HeaderMap,
        entered: &Group,
        entered_at: Instant,
        now: Instant,
    ) {
        let group = match limit_header(headers, "group").filter(|name| !name.is_empty() && name.len() <= 40) {
            Some(name) => self.learn(method, path, Group::new(name)),
            None => entered.clone(),
        };
        let Some(standing) = self.standing(&group) else { return };
        if let Some(window) = number(headers, "window").filter(|window| (1..=WINDOW_CAP).contains(window)) {
            standing.window = Some(Duration::from_secs(window));
        }
        if let Some(limit) = number(headers, "limit") {
            standing.limit = Some(limit.max(1));
        }
        standing.answered(number(headers, "remaining"), entered_at, now);
        let penalty = (status == 429).then(|| wait_asked_for(status, headers)).flatten();
        standing.penalty_until = standing.penalty_until.max(penalty.map(|wait| now + wait));
    }

    fn learn(&mut self, method: &Method, path: &str, group: Group) -> Group {
        if self.group_of(method, path) != group && self.learned.len() < ENDPOINTS {
            self.learned.insert((method.clone(), template(path)), group.clone());
        }
        group
    }
}

/// `X-Rate-Limit-*`; one page of the guide spells it `X-RateLimit-*`.
fn limit_header<'a>(headers: &'a HeaderMap, part: &str) -> Option<&'a str> {
    let value = headers.get(format!("x-rate-limit-{part}")).or_else(|| headers.get(format!("x-ratelimit-{part}")));
    value?.to_str().ok().map(str::trim)
}

fn number(headers: &HeaderMap, part: &str) -> Option<u64> {
    limit_header(headers, part)?.parse().ok()
}

/// `path` without its ids, so that the group learned for one chat applies to the next.
fn template(path: &str) -> String {
    let is_word = |part: &str| {
        part.len() <= 32
            && (part == "v1.0" || part.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') || is_version(part))
    };
    path.split('?')
        .next()
        .unwrap_or_default()
        .split('/')
        .map(|part| if is_word(part) { part } else { "*" })
        .collect::<Vec<_>>()
        .join("/")
}

fn is_version(part: &str) -> bool {
    part.strip_prefix('v').is_some_and(|digits| digits.len() <= 2 && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// The group of an endpoint by the specification of 2026-08, until a response names it.
fn guess(method: &Method, path: &str) -> &'static str {
    let path = path.split('?').next().unwrap_or_default().trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let has = |name: &str| parts.contains(&name);
    let last = parts.last().copied().unwrap_or_default();
    let before_last = parts.iter().rev().nth(1).copied().unwrap_or_default();
    if has("oauth") {
        return "auth";
    }
    if has("subscription") || has("subscriptions") {
        return if method == Method::GET || last == "renew" { "light" } else { "medium" };
    }
    if has("call-log-sync") || has("call-log") || has("active-calls") || has("address-book-sync") {
        return "heavy";
    }
    match last {
        "presence" if parts.iter().rev().nth(2) == Some(&"account") => "heavy",
        "phone-number" => "heavy",
        "presence" | "call-queue-presence" | "favorite" | "grant" | "consents" => "light",
        "chats" if before_last == "recent" => "light",
        _ if has("message-sync") || has("message-store") || has("a2p-sms") || has("ringsense") => "light",
        _ if before_last == "extension" || before_last == "device" || before_last == "sessions" => "light",
        _ => "medium",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIGHT: &str = "/restapi/v1.0/subscription";
    const POSTS: &str = "/team-messaging/v1/chats/123/posts";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn observe(
        groups: &mut Groups,
        method: &Method,
        path: &str,
        status: u16,
        pairs: &[(&'static str, &str)],
        now: Instant,
    ) {
        let entered = groups.group_of(method, path);
        groups.observe(method, path, status, &headers(pairs), &entered, now, now);
    }

    /// One call too many costs a minute without any, and the service may not announce its limits.
    #[tokio::test(start_paused = true)]
    async fn an_unannounced_limit_of_logins_is_the_documented_one() {
        for path in ["/restapi/oauth/token", "/restapi/oauth/wstoken"] {
            let (budget, begun) = (RateBudget::new(), Instant::now());
            for n in 0..=AUTH {
                let permit = budget.admit(&Method::POST, path, begun + Duration::from_secs(90)).await.unwrap();
                permit.answered(&Method::POST, path, 200, &HeaderMap::new());
                assert_eq!(begun.elapsed() >= Duration::from_secs(60), n == AUTH, "{path} {n}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_date_of_every_answer_is_the_services_time() {
        let budget = RateBudget::new();
        assert!(budget.dated().is_none());
        let path = "/restapi/oauth/wstoken";
        for (date, want) in [("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777), ("yesterday", 784_111_777)] {
            let asked = Instant::now();
            let permit = budget.admit(&Method::POST, path, asked).await.unwrap();
            tokio::time::advance(Duration::from_secs(2)).await;
            permit.answered(&Method::POST, path, 401, &headers(&[("date", date)]));
            let dated = budget.dated().unwrap();
            assert_eq!(dated.date, SystemTime::UNIX_EPOCH + Duration::from_secs(want));
            assert_eq!(dated.read - dated.asked, Duration::from_secs(2));
        }
    }

    #[test]
    fn the_first_guess_is_the_specifications_group() {
        let extension = "/restapi/v1.0/account/~/extension/~";
        for (method, path, want) in [
            ("POST", "/restapi/oauth/token", "auth"),
            ("POST", "/restapi/oauth/wstoken", "auth"),
            ("GET", LIGHT, "light"),
            ("GET", "/restapi/v1.0/subscription/ab-1", "light"),
            ("POST", "/restapi/v1.0/subscription/ab-1/renew", "light"),
            ("POST", LIGHT, "medium"),
            ("PUT", "/restapi/v1.0/subscription/ab-1", "medium"),
            ("DELETE", "/restapi/v1.0/subscription/ab-1", "medium"),
            ("POST", "/webinar/notifications/v1/subscriptions", "medium"),
            ("GET", &format!("{extension}/message-sync?syncType=ISync"), "light"),
            ("GET", &format!("{extension}/message-store/12"), "light"),
            ("GET", &format!("{extension}/call-log-sync"), "heavy"),
            ("GET", "/restapi/v1.0/account/~/call-log", "heavy"),
            ("GET", &format!("{extension}/active-calls"), "heavy"),
            ("GET", &format!("{extension}/address-book-sync"), "heavy"),
            ("GET", &format!("{extension}/presence"), "light"),
            ("GET", "/restapi/v1.0/account/~/presence", "heavy"),
            ("GET", "/restapi/v1.0/account/~/call-queues/5/presence", "light"),
            ("GET", &format!("{extension}/call-queue-presence"), "light"),
            ("GET", &format!("{extension}/favorite"), "light"),
            ("GET", &format!("{extension}/grant"), "light"),
            ("GET", extension, "light"),
            ("GET", "/restapi/v1.0/account/~/device/7", "light"),
            ("GET", "/restapi/v1.0/account/~/extension", "medium"),
            ("GET", "/restapi/v1.0/account/~/directory/entries", "medium"),
            ("GET", "/restapi/v1.0/account/~/phone-number", "heavy"),
            ("GET", "/restapi/v1.0/account/~/telephony/sessions/s-1", "light"),
            ("POST", POSTS, "medium"),
            ("GET", "/team-messaging/v1/chats", "medium"),
            ("GET", "/team-messaging/v1/recent/chats", "light"),
            ("GET", "/restapi/v1.0/account/~/a2p-sms/messages", "light"),
            ("GET", "/restapi/v2/accounts/~/sms/consents", "light"),
            ("GET", "/restapi/v1.0/account/~/message-threads/sync", "medium"),
            ("GET", "/ai/ringsense/v1/public/accounts/~/domains/pbx/records/9/insights", "light"),
            ("GET", "", "medium"),
        ] {
            assert_eq!(guess(&method.parse().unwrap(), path), want, "{method} {path}");
        }
    }

    #[test]
    fn a_response_teaches_the_group_of_its_endpoint_for_every_id() {
        let mut groups = Groups::default();
        let now = Instant::now();
        observe(&mut groups, &Method::POST, POSTS, 200, &[("X-Rate-Limit-Group", "Glip")], now);
        assert_eq!(groups.group_of(&Method::POST, "/team-messaging/v1/chats/456/posts?x=1"), Group::new("glip"));
        assert_eq!(groups.group_of(&Method::GET, POSTS), Group::new("medium"));
        observe(&mut groups, &Method::POST, POSTS, 429, &[("retry-after", "5")], now);
        assert_eq!(groups.opens_at(&Group::new("GLIP"), now), Some(now + Duration::from_secs(5)));
        assert_eq!(groups.opens_at(&Group::new("medium"), now), None);
    }

    #[test]
    fn a_group_closes_when_nothing_remains_and_for_a_penalty() {
        let seconds = Duration::from_secs;
        for (status, pairs, want) in [
            (200, &[("x-rate-limit-remaining", "1"), ("x-rate-limit-window", "60")][..], None),
            (200, &[("x-rate-limit-remaining", "0"), ("x-rate-limit-window", "40")], Some(seconds(40))),
            (200, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-window", "40")], Some(seconds(40))),
            (200, &[("x-rate-limit-remaining", "0")], Some(seconds(60))),
            // Windows of zero or hours are invalid: the documented one counts.
            (200, &[("x-rate-limit-remaining", "0"), ("x-rate-limit-window", "0")], Some(seconds(60))),
            (200, &[("x-rate-limit-remaining", "0"), ("x-rate-limit-window", "99999999999")], Some(seconds(60))),
            (200, &[("x-rate-limit-remaining", "0"), ("x-rate-limit-window", "-7")], Some(seconds(60))),
            (200, &[("x-rate-limit-remaining", "0"), ("x-rate-limit-window", "soon")], Some(seconds(60))),
            (200, &[("x-rate-limit-remaining", "none")], None),
            (200, &[("x-rate-limit-remaining", "-1")], None),
            (200, &[("x-rate-limit-limit", "0")], Some(seconds(60))),
            (200, &[("x-rate-limit-limit", "many"), ("x-rate-limit-remaining", "0")], Some(seconds(60))),
            // The remaining count exceeds the limit: this request counted nevertheless.
            (200, &[("x-rate-limit-limit", "1"), ("x-rate-limit-remaining", "97")], Some(seconds(60))),
            (200, &[("x-rate-limit-limit", "5"), ("x-rate-limit-remaining", "97")], None),
            (429, &[("retry-after", "7")], Some(seconds(7))),
            (
                429,
                &[("retry-after", "7"), ("x-rate-limit-remaining", "0"), ("x-rate-limit-window", "9")],
                Some(seconds(9)),
            ),
            (429, &[], Some(seconds(30))),
            (429, &[("retry-after", "0")], Some(seconds(1))),
            (429, &[("retry-after", "99999999999")], Some(seconds(3_600))),
            (503, &[("retry-after", "7")], None),
        ] {
            let (mut groups, now) = (Groups::default(), Instant::now());
            observe(&mut groups, &Method::GET, LIGHT, status, pairs, now);
            assert_eq!(groups.opens_at(&Group::new("light"), now), want.map(|wait| now + wait), "{status} {pairs:?}");
        }
    }

    #[test]
    fn a_later_answer_never_opens_a_group_early() {
        let (mut groups, now) = (Groups::default(), Instant::now());
        observe(&mut groups, &Method::GET, LIGHT, 429, &[("retry-after", "60")], now);
        observe(&mut groups, &Method::GET, LIGHT, 429, &[("retry-after", "2")], now);
        observe(&mut groups, &Method::GET, LIGHT, 200, &[("x-rate-limit-remaining", "9")], now);
        assert_eq!(groups.opens_at(&Group::new("light"), now), Some(now + Duration::from_secs(60)));
    }

    #[cfg(feature = "websocket")]
    #[test]
    fn w41_no_more_than_four_connections_a_minute_until_the_service_grants_more() {
        let (mut groups, mut dials, start) = (Groups::default(), Dials::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for (second, wait_until) in
            [(0, None), (1, None), (2, None), (3, None), (4, Some(60)), (59, Some(60)), (60, None), (60, Some(61))]
        {
            let gate = dials.enter(DIALS, at(second));
            let want = wait_until.map_or(Gate::Open, |free| Gate::Full { frees_at: Some(at(free)), may_end: false });
            assert_eq!(gate, want, "{second}");
            if gate == Gate::Open {
                dials.leave(true, at(second));
            }
        }
        let wstoken = "/restapi/oauth/wstoken";
        assert_eq!(groups.dials(), None);
        for (limit, dials) in [("5", 4), ("0", 4), ("10", 8), ("1000", 800), ("99999999999", 8_000)] {
            observe(&mut groups, &Method::POST, wstoken, 200, &[("x-rate-limit-limit", limit)], start);
            assert_eq!(groups.dials(), Some(dials), "{limit}");
        }
    }

    #[cfg(feature = "websocket")]
    #[tokio::test(start_paused = true)]
    async fn connections_wait_for_the_limit_to_be_known_and_then_fail_at_once() {
        let (budget, start) = (RateBudget::new(), Instant::now());
        let dial = |within| {
            let budget = budget.clone();
            async move { budget.admit_dial(Instant::now() + Duration::from_secs(within)).await }
        };
        for _ in 0..4 {
            drop(dial(0).await.unwrap());
        }
        assert_eq!(dial(5).await.unwrap_err().kind(), ErrorKind::RateLimited);
        assert_eq!(start.elapsed().as_secs(), 5, "a response might have raised the limit");
        let waiting = tokio::spawn(dial(20));
        tokio::task::yield_now().await;
        answer(&budget, &Method::POST, "/restapi/oauth/wstoken", 200, &[("x-rate-limit-limit", "100")]).await;
        drop(waiting.await.unwrap().unwrap());
        assert_eq!(start.elapsed().as_secs(), 5);
        for _ in 5..80 {
            drop(dial(0).await.unwrap());
        }
        assert_eq!(dial(20).await.unwrap_err().retry_after(), Some(Duration::from_secs(55)));
        assert_eq!(start.elapsed().as_secs(), 5);
        drop(dial(55).await.unwrap());
        assert_eq!(start.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn gateway_tokens_keep_to_five_calls_a_minute_where_no_limit_is_announced() {
        let (budget, start) = (RateBudget::new(), Instant::now());
        let (token, wstoken) = ("/restapi/oauth/token", "/restapi/oauth/wstoken");
        // A login counts, and does not wait itself.
        for path in [token, wstoken, wstoken, wstoken, wstoken] {
            answer(&budget, &Method::POST, path, 200, &[]).await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        let refused = budget.admit(&Method::POST, wstoken, start + Duration::from_secs(59)).await.unwrap_err();
        assert_eq!((refused.kind(), refused.retry_after()), (ErrorKind::RateLimited, Some(Duration::from_secs(60))));
        drop(budget.admit(&Method::POST, wstoken, start + Duration::from_secs(61)).await.unwrap());
        assert!(start.elapsed() >= Duration::from_secs(60) && start.elapsed() < Duration::from_secs(61));
        // An announced limit takes its place.
        answer(&budget, &Method::POST, wstoken, 200, &[("x-rate-limit-limit", "100")]).await;
        let now = Instant::now();
        for _ in 0..50 {
            drop(budget.admit(&Method::POST, wstoken, now).await.unwrap());
        }
    }

    #[cfg(feature = "websocket")]
    #[tokio::test(start_paused = true)]
    async fn a_call_for_a_socket_token_counts_from_its_response() {
        let (budget, start) = (RateBudget::new(), Instant::now());
        let seconds = Duration::from_secs;
        // The response to the first call takes 5 s: it may have arrived that late.
        let first = budget.admit_dial(start).await.unwrap();
        tokio::time::advance(seconds(5)).await;
        drop(first);
        for _ in 1..4 {
            drop(budget.admit_dial(start).await.unwrap());
        }
        drop(budget.admit_dial(start + seconds(70)).await.unwrap());
        assert_eq!(start.elapsed().as_secs(), 65);
    }

    #[cfg(feature = "websocket")]
    #[tokio::test(start_paused = true)]
    async fn an_unsent_call_for_a_socket_token_makes_room_at_once() {
        let (budget, start) = (RateBudget::new(), Instant::now());
        answer(&budget, &Method::POST, "/restapi/oauth/wstoken", 200, &[("x-rate-limit-limit", "5")]).await;
        let mut turns = Vec::new();
        for _ in 0..4 {
            turns.push(budget.admit_dial(start).await.unwrap());
        }
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.admit_dial(start + Duration::from_secs(20)).await }
        });
        tokio::task::yield_now().await;
        turns.pop().unwrap().give_back();
        let turn = waiting.await.unwrap().unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        // Once all are counted, waiting is pointless.
        drop((turn, turns));
        let refused = budget.admit_dial(start + Duration::from_secs(20)).await.unwrap_err();
        assert_eq!((refused.retry_after(), start.elapsed()), (Some(Duration::from_secs(60)), Duration::ZERO));
    }

    #[test]
    fn learned_groups_are_bounded() {
        let (mut groups, now) = (Groups::default(), Instant::now());
        for n in 0..2_000 {
            let name = format!("g{n}");
            let path = format!("/{}", "a".repeat(n % 30) + &"b-".repeat(n / 30));
            observe(&mut groups, &Method::GET, &path, 429, &[("x-rate-limit-group", &name)], now);
        }
        assert!(groups.standing.len() <= GROUPS && groups.learned.len() <= ENDPOINTS);
    }

    async fn answer(budget: &RateBudget, method: &Method, path: &str, status: u16, pairs: &[(&'static str, &str)]) {
        let permit = budget.admit(method, path, Instant::now()).await.unwrap();
        permit.answered(method, path, status, &headers(pairs));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_its_group_if_the_deadline_allows_and_fails_at_once_if_not() {
        let budget = RateBudget::new();
        answer(&budget, &Method::GET, LIGHT, 429, &[("retry-after", "20")]).await;
        let start = Instant::now();
        let error = budget.admit(&Method::GET, LIGHT, start + Duration::from_secs(19)).await.unwrap_err();
        assert_eq!((error.kind(), error.retry_after()), (ErrorKind::RateLimited, Some(Duration::from_secs(20))));
        assert!(!error.is_ambiguous());
        let _other_group = budget.admit(&Method::POST, POSTS, start).await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        let _permit = budget.admit(&Method::GET, LIGHT, start + Duration::from_secs(30)).await.unwrap();
        assert!(start.elapsed() >= Duration::from_secs(20) && start.elapsed() < Duration::from_secs(21));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_in_flight_count_so_that_callers_do_not_exceed_the_limit() {
        let budget = RateBudget::new();
        let start = Instant::now();
        let get = |budget: RateBudget, deadline| async move { budget.admit(&Method::GET, LIGHT, deadline).await };
        answer(&budget, &Method::GET, LIGHT, 200, &[("x-rate-limit-remaining", "2"), ("x-rate-limit-limit", "3")])
            .await;
        let first = get(budget.clone(), start).await.unwrap();
        let second = get(budget.clone(), start).await.unwrap();
        assert_eq!(get(budget.clone(), start).await.unwrap_err().kind(), ErrorKind::RateLimited);
        // A waiting one continues as soon as a response reports a remaining request.
        let waiting = tokio::spawn(get(budget.clone(), start + Duration::from_secs(5)));
        tokio::task::yield_now().await;
        first.answered(&Method::GET, LIGHT, 200, &headers(&[("x-rate-limit-remaining", "2")]));
        let third = waiting.await.unwrap().unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(get(budget.clone(), start).await.is_err());
        // One that ends without a response may have been counted.
        drop((second, third));
        assert!(get(budget.clone(), start).await.is_err());
        // After the window the stated limit applies again.
        let deadline = start + Duration::from_secs(61);
        let mut permits = Vec::new();
        for _ in 0..3 {
            permits.push(get(budget.clone(), deadline).await.unwrap());
        }
        assert_eq!(start.elapsed().as_secs(), 60);
        assert!(get(budget.clone(), Instant::now()).await.is_err());
    }

    fn unsent() -> Error {
        Error::new(ErrorKind::Network, "no connection")
    }

    #[tokio::test(start_paused = true)]
    async fn found_6_1_an_unsent_request_returns_its_turn() {
        let budget = RateBudget::new();
        let start = Instant::now();
        let limit = [("x-rate-limit-limit", "2"), ("x-rate-limit-remaining", "1")];
        answer(&budget, &Method::GET, LIGHT, 200, &limit).await;
        for _ in 0..9 {
            let permit = budget.admit(&Method::GET, LIGHT, start).await.unwrap();
            permit.failed(&unsent());
        }
        // A waiter gets it immediately.
        let last = budget.admit(&Method::GET, LIGHT, start).await.unwrap();
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.admit(&Method::GET, LIGHT, start + Duration::from_secs(5)).await }
        });
        tokio::task::yield_now().await;
        last.failed(&unsent());
        let last = waiting.await.unwrap().unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        // One that may have been sent, or that was answered, counts.
        last.failed(&unsent().with_ambiguous(true));
        assert!(budget.admit(&Method::GET, LIGHT, start).await.is_err());
        tokio::time::advance(Duration::from_secs(60)).await;
        for status in [500, 503] {
            let permit = budget.admit(&Method::GET, LIGHT, Instant::now()).await.unwrap();
            permit.failed(&Error::new(ErrorKind::Service, "x").with_status(status));
        }
        assert!(budget.admit(&Method::GET, LIGHT, Instant::now()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn found_6_14_a_used_up_window_ends_with_its_oldest_call() {
        let token = "/restapi/oauth/wstoken";
        let (budget, start) = (RateBudget::new(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        // A login and four drops within 84 s, five calls a minute.
        for (second, remaining) in [(0, "4"), (1, "3"), (21, "2"), (42, "1"), (56, "0")] {
            tokio::time::sleep_until(at(second)).await;
            let headers =
                [("x-rate-limit-limit", "5"), ("x-rate-limit-remaining", remaining), ("x-rate-limit-window", "60")];
            answer(&budget, &Method::POST, token, 200, &headers).await;
        }
        assert!(budget.admit(&Method::POST, token, at(59)).await.is_err());
        let permit = budget.admit(&Method::POST, token, at(84)).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 60);
        // And no more than five in any minute.
        drop(permit);
        let _second = budget.admit(&Method::POST, token, at(84)).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 61);
        assert!(budget.admit(&Method::POST, token, at(80)).await.is_err());
    }

    #[test]
    fn foreign_requests_count_until_the_service_counts_less() {
        let (mut groups, start) = (Groups::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let light = Group::new("light");
        let limit = |remaining| [("x-rate-limit-limit", "5"), ("x-rate-limit-remaining", remaining)];
        observe(&mut groups, &Method::GET, LIGHT, 200, &limit("4"), at(0));
        // Three by other clients, at some time up to now.
        observe(&mut groups, &Method::GET, LIGHT, 200, &limit("0"), at(10));
        assert_eq!(groups.opens_at(&light, at(10)), Some(at(60)));
        assert_eq!(groups.opens_at(&light, at(60)), None);
        observe(&mut groups, &Method::GET, LIGHT, 200, &limit("0"), at(61));
        assert_eq!(groups.opens_at(&light, at(61)), Some(at(70)));
        // Its window restarted.
        observe(&mut groups, &Method::GET, LIGHT, 200, &limit("4"), at(62));
        assert_eq!(groups.opens_at(&light, at(62)), None);
        for second in 63..67 {
            assert_eq!(groups.opens_at(&light, at(second)), None, "{second}");
            observe(&mut groups, &Method::GET, LIGHT, 200, &[], at(second));
        }
        assert_eq!(groups.opens_at(&light, at(67)), Some(at(122)));
    }

    #[test]
    fn an_overtaken_response_lowers_no_count() {
        let (mut groups, start) = (Groups::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let light = Group::new("light");
        let mut answered = |remaining: &str, limit: Option<&str>, sent: u64, now: u64| {
            let mut pairs = vec![("x-rate-limit-remaining", remaining)];
            pairs.extend(limit.map(|limit| ("x-rate-limit-limit", limit)));
            groups.observe(&Method::GET, LIGHT, 200, &headers(&pairs), &light, at(sent), at(now));
            groups.opens_at(&light, at(now))
        };
        // Two were in flight together, and the one counted last is answered first.
        assert_eq!(answered("0", Some("2"), 0, 2), Some(at(62)));
        assert_eq!(answered("1", None, 0, 3), Some(at(62)));
        let mut groups = Groups::default();
        let mut answered = |remaining: &str, sent: u64, now: u64| {
            let pairs = [("x-rate-limit-remaining", remaining)];
            groups.observe(&Method::GET, LIGHT, 200, &headers(&pairs), &light, at(sent), at(now));
            groups.opens_at(&light, at(now))
        };
        assert_eq!(answered("0", 0, 2), Some(at(62)));
        assert_eq!(answered("1", 0, 3), Some(at(63)));
        assert_eq!(answered("1", 64, 65), None);
    }

    #[cfg(feature = "websocket")]
    #[test]
    fn found_8_too_many_sockets_to_reconnect_together_are_warned_of_once() {
        let (warnings, _guard) = crate::waiting::Warnings::recorded();
        let budget = RateBudget::new();
        let mut seats: Vec<_> = (0..12).map(|_| budget.socket()).collect();
        assert!(warnings.lines().is_empty());
        seats.push(budget.socket());
        seats.push(budget.socket());
        let lines = warnings.lines();
        assert!(lines.len() == 1 && lines[0].contains("recoverable=12"), "{lines:?}");
        // Dropped ones make room; so does a higher limit.
        seats.truncate(12);
        seats.push(budget.socket());
        assert_eq!(warnings.lines().len(), 2);
        let (method, limit) = (Method::POST, [("x-rate-limit-limit", "100")]);
        observe(&mut budget.lock(), &method, "/restapi/oauth/wstoken", 200, &limit, Instant::now());
        seats.extend((0..100).map(|_| budget.socket()));
        assert_eq!(warnings.lines().len(), 2);
    }

    #[test]
    fn counted_calls_are_bounded_in_memory() {
        let (mut groups, start) = (Groups::default(), Instant::now());
        for n in 0..100_000 {
            observe(&mut groups, &Method::GET, LIGHT, 200, &[], start + Duration::from_millis(n));
        }
        let standing = &groups.standing[&Group::new("light")];
        assert!(standing.counted.len() <= ENTRIES as usize + 2, "{}", standing.counted.len());
    }

    proptest::proptest! {
        /// The service's window slides, starts with its first call, or starts at fixed times. It
        /// counts a call on arrival, and calls overtake each other.
        #[test]
        fn no_service_ever_counts_more_than_its_limit(
            limit in 1_u64..8, window in 1_u64..90, kind in 0_u8..3, headers_every in 1_usize..4,
            steps in proptest::collection::vec((0_u64..20_000, 0_u64..6_000, 0_u64..6_000, 0_u8..8), 1..80),
        ) {
            #[derive(Debug)]
            enum Event {
                Sent { to: u64, back: u64, fate: u8 },
                Arrived { entered: Instant, limit_known: bool, back: u64, fate: u8, has_headers: bool },
                Answered { entered: Instant, left: Option<u64> },
                Lost,
                Unsent,
            }
            let (mut groups, start) = (Groups::default(), Instant::now());
            let window = Duration::from_secs(window);
            let group = Group::new("light");
            let mut counted: Vec<Instant> = Vec::new();
            let (mut began, mut limit_known, mut clock) = (start, false, 0);
            // In order of time, and stable for equal times.
            let mut events = std::collections::BTreeMap::new();
            let mut number = 0_usize;
            for (pause, to, back, fate) in steps {
                clock += pause;
                number += 1;
                events.insert((clock, number), Event::Sent { to, back, fate });
            }
            while let Some(((millis, _), event)) = events.pop_first() {
                let now = start + Duration::from_millis(millis);
                number += 1;
                match event {
                    Event::Sent { to, back, fate } => {
                        if groups.enter(BudgetMode::All, &Method::GET, LIGHT, now).1 != Gate::Open {
                            continue;
                        }
                        let has_headers = !limit_known || number.is_multiple_of(headers_every);
                        let next = match fate {
                            0 => Event::Unsent,
                            _ => Event::Arrived { entered: now, limit_known, back, fate, has_headers },
                        };
                        events.insert((millis + to, number), next);
                    }
                    Event::Arrived { entered, limit_known, back, fate, has_headers } => {
                        match kind {
                            0 => counted.retain(|counted| *counted + window > now),
                            1 if counted.is_empty() || began + window <= now => {
                                counted.clear();
                                began = now;
                            }
                            2 => while began + window <= now {
                                counted.clear();
                                began += window;
                            },
                            _ => {}
                        }
                        counted.push(now);
                        // Before the limit is known nothing holds a client back.
                        proptest::prop_assert!(!limit_known || counted.len() as u64 <= limit, "{counted:?}");
                        let left = limit.saturating_sub(counted.len() as u64);
                        let next = match fate {
                            1 => Event::Lost,
                            _ => Event::Answered { entered, left: has_headers.then_some(left) },
                        };
                        events.insert((millis + back, number), next);
                    }
                    Event::Answered { entered, left } => {
                        groups.leave(&group);
                        let (limit, seconds) = (limit.to_string(), window.as_secs().to_string());
                        let left = left.map(|left| left.to_string());
                        let pairs = left.iter().flat_map(|left| [
                            ("x-rate-limit-limit", &*limit),
                            ("x-rate-limit-remaining", &**left),
                            ("x-rate-limit-window", &*seconds),
                        ]);
                        let pairs: Vec<_> = pairs.collect();
                        limit_known |= !pairs.is_empty();
                        groups.observe(&Method::GET, LIGHT, 200, &headers(&pairs), &group, entered, now);
                    }
                    Event::Lost => groups.lost(&group, now),
                    Event::Unsent => groups.leave(&group),
                }
            }
        }
    }

    const ONE: &str = "/restapi/v1.0/subscription/ab-1";

    async fn delete(budget: &RateBudget, deadline: Instant) -> Result<Permit> {
        budget.admit_with(BudgetMode::Penalty, &Method::DELETE, ONE, deadline).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_deletion_ignores_the_predicted_limit_but_waits_for_a_penalty() {
        let start = Instant::now();
        let budget = RateBudget::new();
        let used_up = [("x-rate-limit-remaining", "0"), ("x-rate-limit-limit", "40"), ("x-rate-limit-window", "60")];
        answer(&budget, &Method::POST, LIGHT, 200, &used_up).await;
        let other = budget.admit(&Method::PUT, ONE, start).await.unwrap_err();
        assert_eq!(other.retry_after(), Some(Duration::from_secs(60)));
        // Nor does one in flight delay the next.
        let first = delete(&budget, start).await.unwrap();
        let second = delete(&budget, start).await.unwrap();
        // The service's statement then counts: all wait, and no longer than it says.
        let penalty = [("retry-after", "7"), ("x-rate-limit-remaining", "0"), ("x-rate-limit-window", "60")];
        first.answered(&Method::DELETE, ONE, 429, &headers(&penalty));
        second.answered(&Method::DELETE, ONE, 429, &headers(&[("retry-after", "2")]));
        let error = delete(&budget, start + Duration::from_secs(6)).await.unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert_eq!(start.elapsed(), Duration::ZERO);
        let third = delete(&budget, start + Duration::from_secs(8)).await.unwrap();
        assert!(start.elapsed() >= Duration::from_secs(7) && start.elapsed() < Duration::from_secs(8));
        // Sending it opened the group for no other request.
        drop(third);
        assert!(budget.admit(&Method::PUT, ONE, start + Duration::from_secs(59)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_deletion_does_not_wait_for_requests_in_flight() {
        let start = Instant::now();
        let budget = RateBudget::new();
        answer(&budget, &Method::POST, LIGHT, 200, &[("x-rate-limit-remaining", "1")]).await;
        let _last = budget.admit(&Method::PUT, ONE, start).await.unwrap();
        assert!(budget.admit(&Method::PUT, ONE, start).await.is_err());
        let _deletion = delete(&budget, start).await.unwrap();
    }
}
