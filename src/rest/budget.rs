//! Rate groups: who may send now.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Method};
use tokio::time::Instant;

use super::envelope::{WAIT_CAP, WAIT_FLOOR, wait_asked_for};
use crate::error::{Disposition, Error, ErrorKind, Result};

/// More groups and endpoints than the service has; beyond them nothing is learned.
const GROUPS: usize = 64;
const ENDPOINTS: usize = 512;

/// What one user of one app may still send, by rate group.
///
/// The service counts requests per user, app and group (`Light` 50, `Medium` 40,
/// `Heavy` 10, `Auth` 5 per minute by default) and punishes every request sent
/// during a penalty by starting it again. So all that talks for the same user
/// and app should share one budget; clones do. [`Client`](super::Client) takes
/// its provider's, see [`TokenProvider::rate_budget`](crate::auth::TokenProvider::rate_budget).
///
/// It closes a group for the time of `Retry-After` after a 429, and for
/// `X-Rate-Limit-Window` when `X-Rate-Limit-Remaining` reaches 0.
#[derive(Clone, Default)]
pub struct RateBudget(Arc<Mutex<Groups>>);

impl RateBudget {
    /// A budget about which nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until a request may leave.
    ///
    /// # Errors
    /// [`ErrorKind::RateLimited`] at once, when that would be after `deadline`.
    pub(crate) async fn admit(&self, method: &Method, path: &str, deadline: Instant) -> Result<()> {
        loop {
            let (group, opens_at) = {
                let groups = self.lock();
                let group = groups.group_of(method, path);
                let opens_at = groups.opens_at(&group);
                (group, opens_at)
            };
            let now = Instant::now();
            let Some(opens_at) = opens_at.filter(|at| *at > now) else { return Ok(()) };
            if opens_at > deadline {
                let error =
                    Error::new(ErrorKind::RateLimited, format!("the rate group {group} is closed; nothing was sent"));
                return Err(error.with_disposition(Disposition::Retry { after: Some(opens_at - now) }));
            }
            tracing::debug!(%group, wait = ?(opens_at - now), "waiting for the rate group");
            tokio::time::sleep_until(opens_at).await;
        }
    }

    /// Takes note of an answer.
    pub(crate) fn observe(&self, method: &Method, path: &str, status: u16, headers: &HeaderMap) {
        self.lock().observe(method, path, status, headers, Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, Groups> {
        // Every change is a single assignment: what a panicking holder left is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RateBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.lock().closed_until).finish()
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

/// The pure part: time is an argument.
#[derive(Debug, Default)]
struct Groups {
    closed_until: HashMap<Group, Instant>,
    /// Where an answer named another group than the guess.
    learned: HashMap<(Method, String), Group>,
}

impl Groups {
    fn group_of(&self, method: &Method, path: &str) -> Group {
        let learned = self.learned.get(&(method.clone(), template(path)));
        learned.cloned().unwrap_or_else(|| Group::new(guess(method, path)))
    }

    fn opens_at(&self, group: &Group) -> Option<Instant> {
        self.closed_until.get(group).copied()
    }

    fn observe(&mut self, method: &Method, path: &str, status: u16, headers: &HeaderMap, now: Instant) {
        let group = match limit_header(headers, "group").filter(|name| !name.is_empty() && name.len() <= 40) {
            Some(name) => self.learn(method, path, Group::new(name)),
            None => self.group_of(method, path),
        };
        let penalty = (status == 429).then(|| wait_asked_for(status, headers)).flatten();
        let window = (number(headers, "remaining") == Some(0)).then(|| {
            let window = number(headers, "window").map_or(Duration::from_secs(60), Duration::from_secs);
            window.clamp(WAIT_FLOOR, WAIT_CAP)
        });
        let Some(wait) = penalty.max(window) else { return };
        let known = self.closed_until.contains_key(&group);
        if known || self.closed_until.len() < GROUPS {
            let until = self.closed_until.entry(group).or_insert(now);
            *until = (*until).max(now + wait);
        }
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
        groups.observe(&Method::POST, POSTS, 200, &headers(&[("X-Rate-Limit-Group", "Glip")]), now);
        assert_eq!(groups.group_of(&Method::POST, "/team-messaging/v1/chats/456/posts?x=1"), Group::new("glip"));
        assert_eq!(groups.group_of(&Method::GET, POSTS), Group::new("medium"));
        groups.observe(&Method::POST, POSTS, 429, &headers(&[("retry-after", "5")]), now);
        assert_eq!(groups.opens_at(&Group::new("GLIP")), Some(now + Duration::from_secs(5)));
        assert_eq!(groups.opens_at(&Group::new("medium")), None);
    }

    #[test]
    fn a_group_closes_when_nothing_remains_and_for_a_penalty() {
        let seconds = Duration::from_secs;
        let spent = ("X-RATE-LIMIT-REMAINING", "0");
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
            groups.observe(&Method::GET, LIGHT, status, &headers(pairs), now);
            assert_eq!(groups.opens_at(&Group::new("light")), want.map(|wait| now + wait), "{status} {pairs:?}");
        }
        assert_eq!(number(&headers(&[(spent.0, spent.1)]), "remaining"), Some(0));
    }

    #[test]
    fn a_later_answer_never_opens_a_group_early() {
        let (mut groups, now) = (Groups::default(), Instant::now());
        groups.observe(&Method::GET, LIGHT, 429, &headers(&[("retry-after", "60")]), now);
        groups.observe(&Method::GET, LIGHT, 429, &headers(&[("retry-after", "2")]), now);
        groups.observe(&Method::GET, LIGHT, 200, &headers(&[("x-rate-limit-remaining", "9")]), now);
        assert_eq!(groups.opens_at(&Group::new("light")), Some(now + Duration::from_secs(60)));
    }

    #[test]
    fn what_is_learned_is_bounded() {
        let (mut groups, now) = (Groups::default(), Instant::now());
        for n in 0..2_000 {
            let name = format!("g{n}");
            let path = format!("/{}", "a".repeat(n % 30) + &"b-".repeat(n / 30));
            groups.observe(&Method::GET, &path, 429, &headers(&[("x-rate-limit-group", &name)]), now);
        }
        assert!(groups.closed_until.len() <= GROUPS && groups.learned.len() <= ENDPOINTS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_its_group_if_the_deadline_allows_and_fails_at_once_if_not() {
        let budget = RateBudget::new();
        budget.observe(&Method::GET, LIGHT, 429, &headers(&[("retry-after", "20")]));
        let start = Instant::now();
        let error = budget.admit(&Method::GET, LIGHT, start + Duration::from_secs(19)).await.unwrap_err();
        assert_eq!((error.kind(), error.retry_after()), (ErrorKind::RateLimited, Some(Duration::from_secs(20))));
        assert!(!error.is_unclear());
        budget.admit(&Method::POST, POSTS, start).await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        budget.admit(&Method::GET, LIGHT, start + Duration::from_secs(30)).await.unwrap();
        assert!(start.elapsed() >= Duration::from_secs(20) && start.elapsed() < Duration::from_secs(21));
    }
}
