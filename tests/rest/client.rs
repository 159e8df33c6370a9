//! The client's rules, against a scripted server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::scripted::{Reply, Scripted, texts_of};
use ringcentral_events::auth::{AccessToken, OAuth, StaticToken, TokenFn, TokenProvider};
use ringcentral_events::http::{HttpClient, HttpError, HttpRequest, HttpResponse};
use ringcentral_events::policy::BackoffPolicy;
use ringcentral_events::rest::{Client, ClientBuilder, Method};
use ringcentral_events::{Disposition, Error, ErrorKind, System};
use tokio::time::Instant;

const TOKEN: &str = "t0ps3cret";

fn builder(server: &Scripted, tokens: impl TokenProvider) -> ClientBuilder {
    let quick = BackoffPolicy::new().base(Duration::from_millis(1)).cap(Duration::from_millis(2));
    Client::builder(tokens).server(server.url()).backoff(quick)
}

fn client(server: &Scripted) -> Client {
    builder(server, StaticToken::new(AccessToken::new(TOKEN))).build().unwrap()
}

/// Tokens `t0`, `t1`, …: a new one for each refusal.
fn counted() -> (impl TokenProvider, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let tokens = TokenFn::new({
        let asked = asked.clone();
        move |_| {
            let n = asked.fetch_add(1, Ordering::Relaxed);
            async move { Ok(AccessToken::new(format!("t{n}"))) }
        }
    });
    (tokens, asked)
}

/// Answers `first` to the first request and `{}` to all others.
async fn first(first: Reply) -> Scripted {
    Scripted::start(move |seen| {
        let first = first.clone();
        async move { if seen.n == 0 { first } else { Reply::new(200, "{}") } }
    })
    .await
}

async fn always(reply: Reply) -> Scripted {
    Scripted::start(move |_| {
        let reply = reply.clone();
        async move { reply }
    })
    .await
}

#[tokio::test]
async fn a_call_carries_the_token_and_its_parameters() {
    let server = always(Reply::new(200, r#"{"id":7}"#).with("RCRequestId", "abc-0")).await;
    let client = builder(&server, StaticToken::new(AccessToken::new(TOKEN))).user_agent("mine/1").build().unwrap();
    let answer = client
        .request(Method::POST, "/restapi/v1.0/x?a=b")
        .query("c", "d e")
        .header("X-Mine", "1")
        .json(&serde_json::json!({"k": 1}))
        .send()
        .await
        .unwrap();
    assert_eq!((answer.status().as_u16(), answer.request_id().as_deref()), (200, Some("abc-0")));
    assert_eq!(answer.json::<serde_json::Value>().unwrap()["id"], 7);
    assert_eq!((answer.text().as_ref(), answer.bytes().len()), (r#"{"id":7}"#, 8));
    let seen = &server.seen()[0];
    assert_eq!((seen.line().as_str(), seen.body.as_str()), ("POST /restapi/v1.0/x?a=b&c=d+e", r#"{"k":1}"#));
    for (name, value) in [
        ("authorization", "Bearer t0ps3cret"),
        ("user-agent", "mine/1"),
        ("x-mine", "1"),
        ("content-type", "application/json"),
        ("accept", "application/json"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
}

#[tokio::test]
async fn a_refused_token_is_refreshed_and_the_call_repeated_once_even_a_post() {
    // For any body of the 401, including unknown codes (found 6.4).
    for code in [
        "OAU-128",
        "OAU-129",
        "OAU-149",
        "OAU-213",
        "OAU-210",
        "OAU-211",
        "OAU-151",
        "CMN-405",
        "AGW-402",
        "TokenExpired",
        "invalid_token",
        "",
    ] {
        for method in [Method::GET, Method::POST] {
            let server = first(Reply::code(401, code)).await;
            let (tokens, asked) = counted();
            builder(&server, tokens).build().unwrap().request(method, "/x").send().await.unwrap();
            let bearers: Vec<_> =
                server.seen().iter().map(|seen| seen.header("authorization").unwrap().to_owned()).collect();
            assert_eq!((bearers, asked.load(Ordering::Relaxed)), (vec!["Bearer t0".into(), "Bearer t1".to_owned()], 2));
        }
    }
}

#[tokio::test]
async fn found_6_4_a_second_401_is_transient_and_left_to_the_caller() {
    let server = always(Reply::code(401, "OAU-128")).await;
    let (tokens, asked) = counted();
    let error = builder(&server, tokens).build().unwrap().request(Method::GET, "/x").send().await.unwrap_err();
    assert_eq!((error.kind(), error.disposition()), (ErrorKind::Auth, Disposition::Retry { after: None }));
    assert_eq!((server.seen().len(), asked.load(Ordering::Relaxed)), (2, 2));
}

#[tokio::test]
async fn a_401_with_a_failed_refresh_reports_both() {
    let server = always(Reply::code(401, "OAU-213").with("RCRequestId", "r-1")).await;
    let error = client(&server).request(Method::GET, "/x").send().await.unwrap_err();
    assert_eq!((error.kind(), error.status(), error.request_id()), (ErrorKind::Auth, Some(401), Some("r-1")));
    assert_eq!(error.disposition(), Disposition::Fatal);
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("cannot be refreshed"));
}

#[tokio::test]
async fn a_safe_call_is_retried_after_a_transient_error() {
    for trouble in [Reply::new(500, ""), Reply::new(502, "<html>"), Reply::new(408, ""), Reply::Reset, Reply::Cut] {
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let server = first(trouble.clone()).await;
            client(&server).request(method, "/x").send().await.unwrap();
            assert_eq!(server.seen().len(), 2, "{trouble:?}");
        }
    }
    let server = always(Reply::code(500, "CMN-201")).await;
    let error = client(&server).request(Method::GET, "/x").send().await.unwrap_err();
    assert_eq!((error.kind(), error.code(), server.seen().len()), (ErrorKind::Service, Some("CMN-201"), 4));
}

#[tokio::test]
async fn an_ambiguous_post_is_not_retried() {
    for trouble in [Reply::new(500, ""), Reply::new(503, ""), Reply::new(504, ""), Reply::Reset, Reply::Cut] {
        let server = first(trouble.clone()).await;
        let error = client(&server).request(Method::POST, "/x").body("text", "text/plain").send().await.unwrap_err();
        assert!(error.is_ambiguous(), "{trouble:?}");
        assert_eq!(server.seen().len(), 1, "{trouble:?}");
        // Unless the caller declares it idempotent.
        let server = first(trouble).await;
        client(&server).request(Method::POST, "/x").idempotent(true).send().await.unwrap();
        assert_eq!(server.seen().len(), 2);
    }
}

#[tokio::test]
async fn a_refused_request_is_not_repeated() {
    for status in [400, 403, 404, 405, 409] {
        let server = first(Reply::new(status, "")).await;
        let error = client(&server).request(Method::GET, "/x").send().await.unwrap_err();
        assert_eq!((error.status(), error.is_ambiguous(), server.seen().len()), (Some(status), false, 1));
    }
}

#[tokio::test]
async fn a_post_is_repeated_after_the_penalty_of_a_429() {
    let server = first(Reply::code(429, "CMN-301").with("retry-after", "1")).await;
    client(&server).request(Method::POST, "/x").send().await.unwrap();
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn no_request_of_the_group_goes_out_during_a_penalty() {
    let server = Scripted::start(|seen| async move {
        if seen.n == 0 {
            Reply::code(429, "CMN-301").with("retry-after", "60").with("X-RATE-LIMIT-GROUP", "MEDIUM")
        } else {
            Reply::new(200, "{}")
        }
    })
    .await;
    let client = client(&server);
    for path in ["/restapi/v1.0/subscription", "/team-messaging/v1/chats/1/posts", "/restapi/v1.0/subscription"] {
        let error = client.request(Method::POST, path).send().await.unwrap_err();
        assert_eq!((error.kind(), error.is_ambiguous()), (ErrorKind::RateLimited, false));
        let wait = error.retry_after().unwrap();
        assert!(wait > Duration::from_secs(55) && wait <= Duration::from_secs(60), "{wait:?}");
    }
    // Clones share the budget; other groups are open.
    let other = client.clone();
    assert!(other.request(Method::POST, "/restapi/v1.0/subscription").send().await.is_err());
    other.request(Method::GET, "/restapi/v1.0/subscription").send().await.unwrap();
    assert_eq!(server.lines(), ["POST /restapi/v1.0/subscription", "GET /restapi/v1.0/subscription"]);
}

#[tokio::test]
async fn an_exhausted_group_is_paused_for_its_window() {
    let spent = Reply::new(200, "{}")
        .with("x-rate-limit-group", "light")
        .with("x-rate-limit-remaining", "0")
        .with("x-rate-limit-window", "1");
    let server = first(spent).await;
    let client = client(&server);
    let get = || client.request(Method::GET, "/restapi/v1.0/subscription");
    get().send().await.unwrap();
    let error = get().deadline(Duration::from_millis(100)).send().await.unwrap_err();
    assert_eq!((error.kind(), server.seen().len()), (ErrorKind::RateLimited, 1));
    get().send().await.unwrap();
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn logins_and_calls_share_one_budget() {
    let server = Scripted::start(|seen| async move {
        if seen.target.ends_with("token") {
            Reply::new(200, r#"{"access_token":"a"}"#)
                .with("x-rate-limit-remaining", "0")
                .with("x-rate-limit-window", "60")
        } else {
            Reply::new(200, "{}")
        }
    })
    .await;
    let oauth = OAuth::jwt("app", "jwt").server(server.url()).build().unwrap();
    let client = Client::builder(oauth).build().unwrap();
    assert_eq!(client.server().as_str().trim_end_matches('/'), server.url(), "the provider's server is the default");
    let error = client.request(Method::POST, "/restapi/oauth/wstoken").send().await.unwrap_err();
    assert_eq!((error.kind(), server.lines().len()), (ErrorKind::RateLimited, 1));
}

/// A service that answers nothing, in virtual time; and how many requests it got.
#[derive(Debug, Default)]
struct Hanging(AtomicUsize);

#[async_trait::async_trait]
impl HttpClient for Hanging {
    async fn send(&self, _request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_at_its_deadline_and_is_ambiguous() {
    let (http, begin) = (Arc::new(Hanging::default()), Instant::now());
    let client = Client::builder(StaticToken::new(AccessToken::new(TOKEN))).server("https://sim.example");
    let client = client.system(System::new().with_http(http.clone())).build().unwrap();
    let error = client.request(Method::GET, "/x").deadline(Duration::from_millis(100)).send().await.unwrap_err();
    assert_eq!((error.kind(), error.is_ambiguous()), (ErrorKind::Timeout, true));
    assert_eq!((begin.elapsed().as_millis(), http.0.load(Ordering::Relaxed)), (100, 1));
}

#[tokio::test]
async fn a_hanging_provider_is_bounded_by_the_deadline_and_nothing_is_sent() {
    let server = always(Reply::new(200, "{}")).await;
    let tokens = TokenFn::new(|_| std::future::pending());
    let client = builder(&server, tokens).deadline(Duration::from_millis(50)).build().unwrap();
    let error = client.request(Method::GET, "/x").send().await.unwrap_err();
    assert_eq!((error.kind(), error.is_ambiguous(), server.seen().len()), (ErrorKind::Timeout, false, 0));
}

#[tokio::test]
async fn a_wait_past_the_deadline_is_an_error_at_once() {
    let server = always(Reply::new(503, "").with("retry-after", "40")).await;
    let error = client(&server).request(Method::GET, "/x").send().await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Service, Some(Duration::from_secs(40))));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn any_call_is_retried_without_a_connection() {
    // Bound without listening: another program may listen at a port that is free.
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = closed.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    // The provider is called once per attempt: that counts the attempts.
    #[derive(Debug)]
    struct Counting(Arc<AtomicUsize>);
    #[async_trait::async_trait]
    impl TokenProvider for Counting {
        async fn token(&self) -> Result<AccessToken, Error> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(AccessToken::new("t"))
        }
        async fn refresh(&self, _rejected: &AccessToken) -> Result<AccessToken, Error> {
            self.token().await
        }
    }
    let quick = BackoffPolicy::new().base(Duration::ZERO);
    let client =
        Client::builder(Counting(asked.clone())).server(format!("http://{address}")).backoff(quick).build().unwrap();
    let error = client.request(Method::POST, "/x").send().await.unwrap_err();
    assert_eq!((error.kind(), error.is_ambiguous()), (ErrorKind::Network, false));
    assert_eq!(asked.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn an_answer_beyond_the_limit_is_not_read() {
    let server = always(Reply::new(200, "x".repeat(1001))).await;
    let client = builder(&server, StaticToken::new(AccessToken::new(TOKEN))).body_limit(1000).build().unwrap();
    let error = client.request(Method::POST, "/x").send().await.unwrap_err();
    assert_eq!((error.kind(), error.is_ambiguous()), (ErrorKind::Protocol, true));
    let server = always(Reply::new(200, "x".repeat(1000))).await;
    let client = builder(&server, StaticToken::new(AccessToken::new(TOKEN))).body_limit(1000).build().unwrap();
    assert_eq!(client.request(Method::POST, "/x").send().await.unwrap().bytes().len(), 1000);
}

#[tokio::test]
async fn a_redirect_never_sends_the_token_to_another_origin() {
    let other = always(Reply::new(200, "there")).await;
    let server = always(Reply::new(302, "").with("location", format!("{}/there", other.url()))).await;
    let answer = client(&server).request(Method::GET, "/x").send().await.unwrap();
    assert_eq!(answer.text(), "there");
    assert_eq!(server.seen()[0].header("authorization"), Some("Bearer t0ps3cret"));
    assert_eq!(other.seen()[0].header("authorization"), None);
}

#[tokio::test]
async fn an_endless_redirect_ends() {
    let server = always(Reply::new(302, "").with("location", "/again")).await;
    let error = client(&server).request(Method::GET, "/x").idempotent(false).send().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(server.seen().len(), 11);
}

#[tokio::test]
async fn not_modified_is_an_answer() {
    let server = always(Reply::new(304, "")).await;
    let answer = client(&server).request(Method::GET, "/x").header("if-none-match", "\"1\"").send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 304);
}

#[tokio::test]
async fn a_success_without_json_is_ambiguous_and_quotes_nothing() {
    let server = always(Reply::new(200, r#"{"id":{"key":"s3cret"}}"#)).await;
    let error = client(&server).send_sms("+1", "+2", "hi").await.unwrap_err();
    assert_eq!((error.kind(), error.is_ambiguous()), (ErrorKind::Protocol, true));
    assert!(!texts_of(&error).contains("s3cret"));
}

#[tokio::test]
async fn a_bot_sends_an_sms_a_post_and_a_card() {
    let server = always(Reply::new(
        200,
        r#"{"id":402853446008,"messageStatus":"Queued","creationTime":"2024-05-06T07:08:09Z"}"#,
    ))
    .await;
    let client = client(&server);
    let sms = client.send_sms("+16505550100", "+16505550101", "hi").await.unwrap();
    assert_eq!((sms.id.as_str(), sms.message_status.as_deref()), ("402853446008", Some("Queued")));
    let post = client.post_message("12/../3", "hello").await.unwrap();
    assert_eq!(post.id, "402853446008");
    let card = serde_json::json!({ "type": "AdaptiveCard", "version": "1.3", "body": [] });
    assert_eq!(client.post_card("7", &card).await.unwrap().id, "402853446008");
    let bodies: Vec<serde_json::Value> =
        server.seen().iter().map(|seen| serde_json::from_str(&seen.body).unwrap()).collect();
    assert_eq!(
        bodies,
        [
            serde_json::json!({"from":{"phoneNumber":"+16505550100"},"to":[{"phoneNumber":"+16505550101"}],"text":"hi"}),
            serde_json::json!({"text":"hello"}),
            card,
        ]
    );
    assert_eq!(
        server.lines(),
        [
            "POST /restapi/v1.0/account/~/extension/~/sms",
            "POST /team-messaging/v1/chats/12%2F..%2F3/posts",
            "POST /team-messaging/v1/chats/7/adaptive-cards",
        ]
    );
}

#[tokio::test]
async fn a7_no_error_shows_the_token_or_a_url() {
    let mut shown = String::new();
    for reply in [
        Reply::new(400, format!(r#"{{"errors":[{{"errorCode":"CMN-101","message":"token {TOKEN}"}}]}}"#)),
        Reply::new(401, format!(r#"{{"errors":[{{"errorCode":"{TOKEN}","parameterName":"{TOKEN}"}}]}}"#)),
        Reply::new(500, TOKEN),
        Reply::new(200, "").with("content-length", "x"),
        Reply::new(302, "").with("location", "ftp://nowhere/query-s3cret"),
        Reply::Reset,
        Reply::Cut,
        Reply::Hang,
    ] {
        let server = always(reply).await;
        let client = client(&server);
        let call =
            client.request(Method::POST, "/x").query("signature", "query-s3cret").deadline(Duration::from_millis(100));
        shown += &format!("{client:?} {call:?}");
        if let Err(error) = call.send().await {
            shown += &texts_of(&error);
        }
    }
    for secret in [TOKEN, "query-s3cret"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
