use std::time::SystemTime;

use super::super::groups::{AUTH, ENDPOINTS, ENTRIES, GROUPS, guess};
#[cfg(feature = "websocket")]
use super::super::groups::{DIALS, Dials};
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
        (429, &[("retry-after", "7"), ("x-rate-limit-remaining", "0"), ("x-rate-limit-window", "9")], Some(seconds(9))),
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
    answer(&budget, &Method::GET, LIGHT, 200, &[("x-rate-limit-remaining", "2"), ("x-rate-limit-limit", "3")]).await;
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
