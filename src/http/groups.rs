//! What is known of the service's rate groups. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

use http::{HeaderMap, Method};
use tokio::time::Instant;

use super::envelope::wait_asked_for;

/// The documented limit of the group `Light`, per minute (rest §4.1).
pub(super) const LIGHT: u64 = 50;
/// And of the group `Auth`, which holds while the service does not say what it allows: one call
/// too many costs a minute without any, and logins are few.
pub(super) const AUTH: u64 = 5;

/// More groups and endpoints than the service has; further ones are not learned.
pub(super) const GROUPS: usize = 64;
pub(super) const ENDPOINTS: usize = 512;

/// The window of every documented group, if the service states none (rest §4.1).
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// A longer window, or one of zero, is an invalid header.
pub(super) const WINDOW_CAP: u64 = 3_600;
/// Calls within this fraction of the window share one entry, so that memory is bounded for any
/// limit.
pub(super) const ENTRIES: u32 = 128;

#[cfg(feature = "websocket")]
/// Calls for socket tokens per [`WINDOW`] while the limit of the group `Auth` is unknown: one
/// less than its default, since refreshes need it too.
pub(super) const DIALS: usize = 4;
/// What holds a request back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BudgetMode {
    /// A penalty, and the remaining count of the service.
    All,
    /// Only a penalty.
    Penalty,
}

/// The name of a rate group, in lower case: the service uses either case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Group(Box<str>);

impl Group {
    pub(super) fn new(name: &str) -> Self {
        Self(name.trim().to_ascii_lowercase().into_boxed_str())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a request may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
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
pub(super) struct Counted {
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
pub(super) struct Standing {
    /// The end of the current penalty.
    penalty_until: Option<Instant>,
    /// The limit of a window, if the service stated it.
    limit: Option<u64>,
    /// A lower bound of the limit, if the service stated only the remaining count, and how long it
    /// is valid.
    at_least: Option<(u64, Instant)>,
    window: Option<Duration>,
    pub(super) counted: VecDeque<Counted>,
    under_way: u64,
}

impl Standing {
    pub(super) fn window(&self) -> Duration {
        self.window.unwrap_or(WINDOW)
    }

    /// The limit of a window, as far as known.
    pub(super) fn limit(&self, now: Instant) -> Option<u64> {
        self.limit.or_else(|| self.at_least.filter(|(_, until)| *until > now).map(|(least, _)| least))
    }

    /// Number of calls that count now.
    pub(super) fn used(&mut self, now: Instant) -> u64 {
        let window = self.window();
        while self.counted.front().is_some_and(|counted| counted.last + window <= now) {
            self.counted.pop_front();
        }
        self.counted.iter().map(|counted| counted.calls).sum()
    }

    /// Adds calls that the service had counted by `now`.
    pub(super) fn count(&mut self, calls: u64, now: Instant) {
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
    pub(super) fn keep_at_most(&mut self, most: u64, by: Instant) {
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
    pub(super) fn gate(&mut self, now: Instant) -> Gate {
        let limit = self.limit(now);
        self.gate_of(limit, now)
    }

    /// Whether one more may leave where a window has `limit`.
    pub(super) fn gate_of(&mut self, limit: Option<u64>, now: Instant) -> Gate {
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
    pub(super) fn answered(&mut self, remaining: Option<u64>, entered_at: Instant, now: Instant) {
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
pub(super) struct Groups {
    pub(super) standing: BTreeMap<Group, Standing>,
    /// Endpoints whose responses named another group than the guess.
    pub(super) learned: HashMap<(Method, String), Group>,
}

impl Groups {
    pub(super) fn group_of(&self, method: &Method, path: &str) -> Group {
        let learned = self.learned.get(&(method.clone(), template(path)));
        learned.cloned().unwrap_or_else(|| Group::new(guess(method, path)))
    }

    pub(super) fn standing(&mut self, group: &Group) -> Option<&mut Standing> {
        if !self.standing.contains_key(group) && self.standing.len() >= GROUPS {
            return None;
        }
        Some(self.standing.entry(group.clone()).or_default())
    }

    /// The number of connections per [`WINDOW`]: four fifths of the limit of the group `Auth`,
    /// if known.
    #[cfg(feature = "websocket")]
    pub(super) fn dials(&self) -> Option<usize> {
        const MOST: u64 = 10_000;
        let limit = self.standing.get(&Group::new("auth")).and_then(|standing| standing.limit)?;
        Some(usize::try_from(limit.min(MOST) * 4 / 5).unwrap_or(DIALS).max(DIALS))
    }

    /// Counts a request if it may be sent.
    pub(super) fn enter(&mut self, mode: BudgetMode, method: &Method, path: &str, now: Instant) -> (Group, Gate) {
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
    pub(super) fn has_room(&mut self, group: &Group, now: Instant) -> bool {
        let Some(standing) = self.standing.get_mut(group) else { return true };
        if standing.penalty_until.is_some_and(|at| at > now) {
            return false;
        }
        let documented = if &*group.0 == "auth" { AUTH } else { LIGHT };
        let limit = standing.limit(now).unwrap_or(documented);
        standing.used(now).saturating_add(standing.under_way) < limit.saturating_mul(4) / 5
    }

    /// How many requests are left in the present window, and of how many, as far as the service stated a limit.
    pub(super) fn left(&mut self, group: &Group, now: Instant) -> Option<(u64, u64)> {
        let standing = self.standing.get_mut(group)?;
        let limit = standing.limit?;
        let used = standing.used(now).saturating_add(standing.under_way);
        let is_closed = standing.penalty_until.is_some_and(|until| until > now);
        Some((if is_closed { 0 } else { limit.saturating_sub(used) }, limit))
    }

    /// Ends one in flight that does not count.
    pub(super) fn leave(&mut self, group: &Group) {
        if let Some(standing) = self.standing.get_mut(group) {
            standing.under_way = standing.under_way.saturating_sub(1);
        }
    }

    /// Ends one in flight without a response: it may have reached the service by now.
    pub(super) fn lost(&mut self, group: &Group, now: Instant) {
        self.leave(group);
        if let Some(standing) = self.standing.get_mut(group) {
            standing.used(now);
            standing.count(1, now);
        }
    }

    #[cfg(test)]
    pub(super) fn opens_at(&mut self, group: &Group, now: Instant) -> Option<Instant> {
        let standing = self.standing.get_mut(group)?;
        let frees_at = match standing.gate(now) {
            Gate::Full { frees_at, .. } => frees_at,
            Gate::Open | Gate::Until(_) => None,
        };
        standing.penalty_until.max(frees_at)
    }

    /// Records the response to a request in group `entered`, sent at `entered_at`.
    #[allow(clippy::too_many_arguments, reason = "an answer, the request it is to, and the time")]
    pub(super) fn observe(
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

    pub(super) fn learn(&mut self, method: &Method, path: &str, group: Group) -> Group {
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
pub(crate) fn template(path: &str) -> String {
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
pub(super) fn guess(method: &Method, path: &str) -> &'static str {
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
pub(super) struct Dials {
    /// When those within the window ended: the service counted them no later.
    ended: VecDeque<Instant>,
    under_way: usize,
}

#[cfg(feature = "websocket")]
impl Dials {
    /// How many count now, and when the oldest one no longer does.
    pub(super) fn used(&mut self, now: Instant) -> (usize, Option<Instant>) {
        while self.ended.front().is_some_and(|at| *at + WINDOW <= now) {
            self.ended.pop_front();
        }
        (self.ended.len() + self.under_way, self.ended.front().map(|at| *at + WINDOW))
    }

    /// Counts a call if there are fewer than `most` within the window.
    pub(super) fn enter(&mut self, most: usize, now: Instant) -> Gate {
        let (used, _) = self.used(now);
        if used < most {
            self.under_way += 1;
            return Gate::Open;
        }
        // All but `most - 1` of them must have left the window.
        let frees_at = self.ended.get(used - most).map(|at| *at + WINDOW);
        Gate::Full { frees_at, may_end: self.under_way > 0 }
    }

    /// Ends one in flight. The service counts a call on arrival, which may be as late as this: with
    /// the time of sending, the next one would be too early.
    pub(super) fn leave(&mut self, was_sent: bool, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        if was_sent {
            self.ended.push_back(now);
        }
    }
}
