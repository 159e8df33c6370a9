//! Rate groups: who may send now.

use std::collections::HashMap;
#[cfg(feature = "websocket")]
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Method};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::envelope::{WAIT_CAP, WAIT_FLOOR, wait_asked_for};
use crate::error::{Disposition, Error, ErrorKind, Result};

/// More groups and endpoints than the service has; beyond them nothing is learned.
const GROUPS: usize = 64;
const ENDPOINTS: usize = 512;

#[cfg(feature = "websocket")]
/// Calls for socket tokens in one [`DIAL_WINDOW`], until the service has said what
/// the group `Auth` may have: one less than its default, which refreshes need too.
const DIALS: usize = 4;
#[cfg(feature = "websocket")]
const DIAL_WINDOW: Duration = Duration::from_secs(60);

/// What one user of one app may still send, by rate group.
///
/// The service counts requests per user, app and group (`Light` 50, `Medium` 40,
/// `Heavy` 10, `Auth` 5 per minute by default) and punishes every request sent
/// during a penalty by starting it again. So all that talks for the same user
/// and app should share one budget; clones do. [`Client`](super::Client) takes
/// its provider's, see [`TokenProvider::rate_budget`](crate::auth::TokenProvider::rate_budget).
///
/// It closes a group for the time of `Retry-After` after a 429, and for
/// `X-Rate-Limit-Window` when `X-Rate-Limit-Remaining` reaches 0; requests under
/// way count as sent, so that many callers do not overrun what remains.
///
/// The first of these is the service's word, the second a prediction. The deletion
/// of a subscription heeds the first only: what is not deleted in time counts
/// against the limit of subscriptions until its lease ends.
#[derive(Clone, Default)]
pub struct RateBudget(Arc<Shared>);

#[derive(Default)]
struct Shared {
    groups: Mutex<Groups>,
    /// When sockets were dialled of late.
    #[cfg(feature = "websocket")]
    dials: Mutex<VecDeque<Instant>>,
    /// A request ended: what remains may be known better.
    ended: Notify,
}

impl RateBudget {
    /// A budget about which nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until a request may leave.
    ///
    /// # Errors
    /// [`ErrorKind::RateLimited`] without waiting, when the group opens after
    /// `deadline`.
    pub(crate) async fn admit(&self, method: &Method, path: &str, deadline: Instant) -> Result<Permit> {
        self.admit_heeding(Heed::All, method, path, deadline).await
    }

    /// As [`admit`](Self::admit), for a request that only some of it holds back.
    pub(crate) async fn admit_heeding(
        &self,
        heed: Heed,
        method: &Method,
        path: &str,
        deadline: Instant,
    ) -> Result<Permit> {
        loop {
            // Made before the look: it hears of every end from here on.
            let ended = self.0.ended.notified();
            let now = Instant::now();
            let (group, gate) = self.lock().enter(heed, method, path, now);
            match gate {
                Gate::Open => return Ok(Permit { budget: self.clone(), group }),
                Gate::Until(at) if at > deadline => return Err(closed(&group, at - now)),
                Gate::Until(at) => {
                    tracing::debug!(%group, wait = ?(at - now), "waiting for the rate group");
                    tokio::time::sleep_until(at).await;
                }
                Gate::Ends => timeout_at(deadline, ended).await.map_err(|_| closed(&group, WAIT_FLOOR))?,
            }
        }
    }

    /// Waits until one more connection to the gateway may be made. Many sockets that
    /// are lost together come back one after the other, and leave something of the
    /// group for the login itself.
    ///
    /// # Errors
    /// [`ErrorKind::RateLimited`] when that is after `deadline`: without waiting if
    /// the service has told its limit; else at `deadline`, since an answer on its
    /// way may tell a higher one than is assumed.
    #[cfg(feature = "websocket")]
    pub(crate) async fn admit_dial(&self, deadline: Instant) -> Result<()> {
        loop {
            let ended = self.0.ended.notified();
            let now = Instant::now();
            let told = self.lock().dials();
            let free_at = enter_dial(&mut self.dials(), told.unwrap_or(DIALS), now);
            let Some(at) = free_at else { return Ok(()) };
            if at > deadline && (told.is_some() || now >= deadline) {
                return Err(closed(&Group::new("auth"), at - now));
            }
            tracing::debug!(wait = ?(at - now), "waiting before another connection");
            tokio::select! {
                () = tokio::time::sleep_until(at.min(deadline)) => {}
                // An answer may have told a higher limit.
                () = ended => {}
            }
        }
    }

    #[cfg(feature = "websocket")]
    fn dials(&self) -> MutexGuard<'_, VecDeque<Instant>> {
        self.0.dials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Groups> {
        // Every change is whole before anything can panic.
        self.0.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What holds a request back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heed {
    /// A penalty, and what the service says remains.
    All,
    /// A penalty alone.
    Penalty,
}

/// Counts a connection in, if there were less than `most` within the window; else
/// when there is room.
#[cfg(feature = "websocket")]
fn enter_dial(dials: &mut VecDeque<Instant>, most: usize, now: Instant) -> Option<Instant> {
    while dials.front().is_some_and(|at| *at + DIAL_WINDOW <= now) {
        dials.pop_front();
    }
    if dials.len() < most {
        dials.push_back(now);
        return None;
    }
    // All but `most - 1` of them must have passed.
    dials.get(dials.len() - most).map(|at| *at + DIAL_WINDOW)
}

fn closed(group: &Group, wait: Duration) -> Error {
    Error::new(ErrorKind::RateLimited, format!("the rate group {group} is closed; nothing was sent"))
        .with_disposition(Disposition::Retry { after: Some(wait) })
}

/// One request under way; it ends when this is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Permit {
    budget: RateBudget,
    group: Group,
}

impl Permit {
    /// Takes note of the answer, which ends the request.
    pub(crate) fn answered(self, method: &Method, path: &str, status: u16, headers: &HeaderMap) {
        self.budget.lock().observe(method, path, status, headers, &self.group, Instant::now());
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.lock().leave(&self.group);
        self.budget.0.ended.notify_waiters();
    }
}

impl fmt::Debug for RateBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.lock().standing).finish()
    }
}

/// The name of a rate group, in lower case: the service writes it in either.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

/// Whether a request may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Open,
    /// Not before this.
    Until(Instant),
    /// Not before another one ends: those under way may use up what remains.
    Ends,
}

/// How one group stands.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// A penalty runs until then.
    penalty_until: Option<Instant>,
    /// Nothing remains until then.
    used_up_until: Option<Instant>,
    /// What remains after those under way, where the service said.
    remaining: Option<u64>,
    /// What a new window has, where the service said.
    limit: Option<u64>,
    under_way: u64,
}

impl Standing {
    fn closed_until(&self) -> Option<Instant> {
        self.penalty_until.max(self.used_up_until)
    }
}

/// The pure part: time is an argument.
#[derive(Debug, Default)]
struct Groups {
    standing: HashMap<Group, Standing>,
    /// Where an answer named another group than the guess.
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

    /// How many connections may be made within [`DIAL_WINDOW`]: four fifths of what
    /// the service gives the group `Auth`, where it has told.
    #[cfg(feature = "websocket")]
    fn dials(&self) -> Option<usize> {
        const MOST: u64 = 10_000;
        let limit = self.standing.get(&Group::new("auth")).and_then(|standing| standing.limit)?;
        Some(usize::try_from(limit.min(MOST) * 4 / 5).unwrap_or(DIALS).max(DIALS))
    }

    /// Counts a request in, if it may leave.
    fn enter(&mut self, heed: Heed, method: &Method, path: &str, now: Instant) -> (Group, Gate) {
        let group = self.group_of(method, path);
        let Some(standing) = self.standing(&group) else { return (group, Gate::Open) };
        let closed_until = match heed {
            Heed::All => standing.closed_until(),
            Heed::Penalty => standing.penalty_until,
        };
        if let Some(at) = closed_until.filter(|at| *at > now) {
            return (group, Gate::Until(at));
        }
        if standing.closed_until().is_some_and(|at| at <= now) {
            (standing.penalty_until, standing.used_up_until) = (None, None);
            standing.remaining = standing.limit;
        }
        if heed == Heed::All && standing.remaining == Some(0) && standing.under_way > 0 {
            return (group, Gate::Ends);
        }
        standing.remaining = standing.remaining.map(|remaining| remaining.saturating_sub(1));
        standing.under_way += 1;
        (group, Gate::Open)
    }

    fn leave(&mut self, group: &Group) {
        if let Some(standing) = self.standing.get_mut(group) {
            standing.under_way = standing.under_way.saturating_sub(1);
        }
    }

    #[cfg(test)]
    fn opens_at(&self, group: &Group) -> Option<Instant> {
        self.standing.get(group)?.closed_until()
    }

    /// Takes note of the answer to a request that entered as one of `entered`
    /// and has not left yet.
    fn observe(
        &mut self,
        method: &Method,
        path: &str,
        status: u16,
        headers: &HeaderMap,
        entered: &Group,
        now: Instant,
    ) {
        let group = match limit_header(headers, "group").filter(|name| !name.is_empty() && name.len() <= 40) {
            Some(name) => self.learn(method, path, Group::new(name)),
            None => entered.clone(),
        };
        let remaining = number(headers, "remaining");
        let penalty = (status == 429).then(|| wait_asked_for(status, headers)).flatten();
        let window = (remaining == Some(0)).then(|| {
            let window = number(headers, "window").map_or(Duration::from_secs(60), Duration::from_secs);
            window.clamp(WAIT_FLOOR, WAIT_CAP)
        });
        let Some(standing) = self.standing(&group) else { return };
        if let Some(remaining) = remaining {
            let others = standing.under_way.saturating_sub(u64::from(group == *entered));
            standing.remaining = Some(remaining.saturating_sub(others));
        }
        if let Some(limit) = number(headers, "limit") {
            standing.limit = Some(limit.max(1));
        }
        standing.penalty_until = standing.penalty_until.max(penalty.map(|wait| now + wait));
        standing.used_up_until = standing.used_up_until.max(window.map(|wait| now + wait));
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

/// `path` without its ids, so that what one chat taught holds for the next.
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

/// The group an endpoint belongs to by the specification of 2026-08, until an
/// answer names it.
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
        groups.observe(method, path, status, &headers(pairs), &entered, now);
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
    fn an_answer_teaches_the_group_of_its_endpoint_whatever_the_id() {
        let mut groups = Groups::default();
        let now = Instant::now();
        observe(&mut groups, &Method::POST, POSTS, 200, &[("X-Rate-Limit-Group", "Glip")], now);
        assert_eq!(groups.group_of(&Method::POST, "/team-messaging/v1/chats/456/posts?x=1"), Group::new("glip"));
        assert_eq!(groups.group_of(&Method::GET, POSTS), Group::new("medium"));
        observe(&mut groups, &Method::POST, POSTS, 429, &[("retry-after", "5")], now);
        assert_eq!(groups.opens_at(&Group::new("GLIP")), Some(now + Duration::from_secs(5)));
        assert_eq!(groups.opens_at(&Group::new("medium")), None);
    }

    #[test]
    fn a_group_closes_when_nothing_remains_and_for_a_penalty() {
        let seconds = Duration::from_secs;
        for (status, pairs, want) in [
            (200, &[("x-rate-limit-remaining", "1"), ("x-rate-limit-window", "60")][..], None),
            (200, &[("x-rate-limit-remaining", "0"), ("x-rate-limit-window", "40")], Some(seconds(40))),
            (200, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-window", "40")], Some(seconds(40))),
            (200, &[("x-rate-limit-remaining", "0")], Some(seconds(60))),
            (200, &[("x-rate-limit-remaining", "0"), ("x-rate-limit-window", "0")], Some(WAIT_FLOOR)),
            (200, &[("x-rate-limit-remaining", "0"), ("x-rate-limit-window", "99999999999")], Some(WAIT_CAP)),
            (200, &[("x-rate-limit-remaining", "none")], None),
            (429, &[("retry-after", "7")], Some(seconds(7))),
            (
                429,
                &[("retry-after", "7"), ("x-rate-limit-remaining", "0"), ("x-rate-limit-window", "9")],
                Some(seconds(9)),
            ),
            (429, &[], Some(seconds(30))),
            (503, &[("retry-after", "7")], None),
        ] {
            let (mut groups, now) = (Groups::default(), Instant::now());
            observe(&mut groups, &Method::GET, LIGHT, status, pairs, now);
            assert_eq!(groups.opens_at(&Group::new("light")), want.map(|wait| now + wait), "{status} {pairs:?}");
        }
    }

    #[test]
    fn a_later_answer_never_opens_a_group_early() {
        let (mut groups, now) = (Groups::default(), Instant::now());
        observe(&mut groups, &Method::GET, LIGHT, 429, &[("retry-after", "60")], now);
        observe(&mut groups, &Method::GET, LIGHT, 429, &[("retry-after", "2")], now);
        observe(&mut groups, &Method::GET, LIGHT, 200, &[("x-rate-limit-remaining", "9")], now);
        assert_eq!(groups.opens_at(&Group::new("light")), Some(now + Duration::from_secs(60)));
    }

    #[cfg(feature = "websocket")]
    #[test]
    fn w41_no_more_than_four_connections_a_minute_until_the_service_grants_more() {
        let (mut groups, mut dials, start) = (Groups::default(), VecDeque::new(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for (second, wait_until) in
            [(0, None), (1, None), (2, None), (3, None), (4, Some(60)), (59, Some(60)), (60, None), (60, Some(61))]
        {
            assert_eq!(enter_dial(&mut dials, DIALS, at(second)), wait_until.map(at), "{second}");
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
    async fn connections_wait_for_the_first_word_about_the_limit_and_not_in_vain_after_it() {
        let (budget, start) = (RateBudget::new(), Instant::now());
        let dial = |within| {
            let budget = budget.clone();
            async move { budget.admit_dial(Instant::now() + Duration::from_secs(within)).await }
        };
        for _ in 0..4 {
            dial(0).await.unwrap();
        }
        assert_eq!(dial(5).await.unwrap_err().kind(), ErrorKind::RateLimited);
        assert_eq!(start.elapsed().as_secs(), 5, "an answer might have told more");
        let waiting = tokio::spawn(dial(20));
        tokio::task::yield_now().await;
        answer(&budget, &Method::POST, "/restapi/oauth/wstoken", 200, &[("x-rate-limit-limit", "100")]).await;
        waiting.await.unwrap().unwrap();
        assert_eq!(start.elapsed().as_secs(), 5);
        for _ in 5..80 {
            dial(0).await.unwrap();
        }
        assert_eq!(dial(20).await.unwrap_err().retry_after(), Some(Duration::from_secs(55)));
        assert_eq!(start.elapsed().as_secs(), 5);
        dial(55).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 60);
    }

    #[test]
    fn what_is_learned_is_bounded() {
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
        assert!(!error.is_unclear());
        let _other_group = budget.admit(&Method::POST, POSTS, start).await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        let _permit = budget.admit(&Method::GET, LIGHT, start + Duration::from_secs(30)).await.unwrap();
        assert!(start.elapsed() >= Duration::from_secs(20) && start.elapsed() < Duration::from_secs(21));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_under_way_count_so_that_many_callers_do_not_overrun_what_remains() {
        let budget = RateBudget::new();
        let start = Instant::now();
        let get = |budget: RateBudget, deadline| async move { budget.admit(&Method::GET, LIGHT, deadline).await };
        answer(&budget, &Method::GET, LIGHT, 200, &[("x-rate-limit-remaining", "2"), ("x-rate-limit-limit", "3")])
            .await;
        let first = get(budget.clone(), start).await.unwrap();
        let second = get(budget.clone(), start).await.unwrap();
        assert_eq!(get(budget.clone(), start).await.unwrap_err().kind(), ErrorKind::RateLimited);
        // One that waits goes as soon as an answer shows that something remains.
        let waiting = tokio::spawn(get(budget.clone(), start + Duration::from_secs(5)));
        tokio::task::yield_now().await;
        first.answered(&Method::GET, LIGHT, 200, &headers(&[("x-rate-limit-remaining", "2")]));
        let third = waiting.await.unwrap().unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        // A request that ends without an answer makes room, too.
        assert!(get(budget.clone(), start).await.is_err());
        drop((second, third));
        let last = get(budget.clone(), start).await.unwrap();
        // After the window there is as much as the service said.
        last.answered(
            &Method::GET,
            LIGHT,
            200,
            &headers(&[("x-rate-limit-remaining", "0"), ("x-rate-limit-window", "9")]),
        );
        let deadline = start + Duration::from_secs(10);
        let mut permits = Vec::new();
        for _ in 0..3 {
            permits.push(get(budget.clone(), deadline).await.unwrap());
        }
        assert!(start.elapsed() >= Duration::from_secs(9));
        assert!(get(budget.clone(), Instant::now()).await.is_err());
    }

    const ONE: &str = "/restapi/v1.0/subscription/ab-1";

    async fn delete(budget: &RateBudget, deadline: Instant) -> Result<Permit> {
        budget.admit_heeding(Heed::Penalty, &Method::DELETE, ONE, deadline).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_deletion_leaves_when_nothing_should_remain_but_waits_for_a_penalty() {
        let start = Instant::now();
        let budget = RateBudget::new();
        let used_up = [("x-rate-limit-remaining", "0"), ("x-rate-limit-limit", "40"), ("x-rate-limit-window", "60")];
        answer(&budget, &Method::POST, LIGHT, 200, &used_up).await;
        let other = budget.admit(&Method::PUT, ONE, start).await.unwrap_err();
        assert_eq!(other.retry_after(), Some(Duration::from_secs(60)));
        // Nor does one under way hold up the next.
        let first = delete(&budget, start).await.unwrap();
        let second = delete(&budget, start).await.unwrap();
        // What the service then says counts: all wait, and no longer than it says.
        let penalty = [("retry-after", "7"), ("x-rate-limit-remaining", "0"), ("x-rate-limit-window", "60")];
        first.answered(&Method::DELETE, ONE, 429, &headers(&penalty));
        second.answered(&Method::DELETE, ONE, 429, &headers(&[("retry-after", "2")]));
        let error = delete(&budget, start + Duration::from_secs(6)).await.unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert_eq!(start.elapsed(), Duration::ZERO);
        let third = delete(&budget, start + Duration::from_secs(8)).await.unwrap();
        assert!(start.elapsed() >= Duration::from_secs(7) && start.elapsed() < Duration::from_secs(8));
        // Its leaving opened the group for nobody else.
        drop(third);
        assert!(budget.admit(&Method::PUT, ONE, start + Duration::from_secs(59)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_deletion_does_not_wait_for_those_under_way() {
        let start = Instant::now();
        let budget = RateBudget::new();
        answer(&budget, &Method::POST, LIGHT, 200, &[("x-rate-limit-remaining", "1")]).await;
        let _last = budget.admit(&Method::PUT, ONE, start).await.unwrap();
        assert!(budget.admit(&Method::PUT, ONE, start).await.is_err());
        let _deletion = delete(&budget, start).await.unwrap();
    }
}
