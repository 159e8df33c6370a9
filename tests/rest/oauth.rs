//! Logging in and staying logged in, against a scripted server.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::scripted::{Reply, Scripted, Seen, texts_of};
use async_trait::async_trait;
use ringcentral_events::auth::{
    AccessToken, MemoryTokenStore, OAuth, OAuthBuilder, StoredTokens, TokenProvider, TokenStore,
};
use ringcentral_events::{Disposition, Error, ErrorKind, Result, Secret};
use tokio::sync::Semaphore;

const JWT: &str = "jwt-s3cret";
const CLIENT_SECRET: &str = "client-s3cret";

fn jwt(server: &Scripted) -> OAuthBuilder {
    OAuth::jwt("app", JWT).client_secret(CLIENT_SECRET).server(server.url()).repeat_pause(Duration::from_millis(1))
}

fn browser(server: &Scripted) -> OAuthBuilder {
    OAuth::authorization_code("app").server(server.url()).repeat_pause(Duration::from_millis(1))
}

/// A token answer whose tokens carry `n`.
fn grant(n: usize) -> Reply {
    Reply::new(
        200,
        format!(
            r#"{{"access_token":"access-{n}","token_type":"bearer","expires_in":3600,"refresh_token":"refresh-{n}",
                "refresh_token_expires_in":604800,"scope":"ReadMessages","owner_id":"7"}}"#
        ),
    )
}

fn dead() -> Reply {
    Reply::new(
        400,
        r#"{"error":"invalid_grant","error_description":"Token revoked","errors":[{"errorCode":"OAU-211","message":"Token revoked"}]}"#,
    )
}

fn kind(seen: &Seen) -> String {
    let grant = seen.field("grant_type").unwrap_or_default();
    grant.rsplit(':').next().unwrap().to_owned()
}

fn grants(server: &Scripted) -> Vec<String> {
    server.seen().iter().map(kind).collect()
}

/// A session whose access token has `left` seconds.
fn stored(server: &Scripted, left: i64) -> StoredTokens {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let json = serde_json::json!({
        "server": format!("{}/", server.url()), "client_id": "app", "access_token": "access-0",
        "expires_at": now.checked_add_signed(left).unwrap(), "refresh_token": "refresh-0", "owner_id": "7",
    });
    StoredTokens::from_json(&json.to_string()).unwrap()
}

/// A memory store that the test can read, block and break.
#[derive(Clone, Debug, Default)]
struct Watched(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    stored: MemoryTokenStore,
    log: Mutex<Vec<String>>,
    broken: AtomicBool,
    gate: Option<Semaphore>,
    saving: tokio::sync::Notify,
}

impl Watched {
    fn gated() -> Self {
        Self(Arc::new(Inner { gate: Some(Semaphore::new(0)), ..Inner::default() }))
    }

    async fn holding(tokens: &StoredTokens) -> Self {
        let store = Self::default();
        store.0.stored.save(tokens).await.unwrap();
        store
    }

    async fn refresh_token(&self) -> Option<String> {
        let json = self.0.stored.load().await.unwrap()?.to_json().unwrap();
        let json: serde_json::Value = serde_json::from_str(json.expose()).unwrap();
        json["refresh_token"].as_str().map(str::to_owned)
    }
}

#[async_trait]
impl TokenStore for Watched {
    async fn load(&self) -> Result<Option<StoredTokens>> {
        self.0.stored.load().await
    }

    async fn save(&self, tokens: &StoredTokens) -> Result<()> {
        self.0.saving.notify_one();
        if let Some(gate) = &self.0.gate {
            gate.acquire().await.unwrap().forget();
        }
        if self.0.broken.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Store, "the disk is full"));
        }
        self.0.log.lock().unwrap().push("save".into());
        self.0.stored.save(tokens).await
    }

    async fn clear(&self) -> Result<()> {
        self.0.log.lock().unwrap().push("clear".into());
        self.0.stored.clear().await
    }
}

async fn all(callers: Vec<tokio::task::JoinHandle<Result<AccessToken>>>) -> Vec<String> {
    let mut tokens = Vec::new();
    for caller in callers {
        tokens.push(caller.await.unwrap().unwrap().secret().expose().to_owned());
    }
    tokens.dedup();
    tokens
}

#[tokio::test]
async fn a1_a_hundred_callers_cause_one_refresh() {
    let server = Scripted::start(|seen| async move { grant(seen.n) }).await;
    let oauth = jwt(&server).build().unwrap();
    let first = (0..100).map(|_| {
        tokio::spawn({
            let oauth = oauth.clone();
            async move { oauth.token().await }
        })
    });
    assert_eq!(all(first.collect()).await, ["access-0"]);
    let token = oauth.token().await.unwrap();
    let again = (0..100).map(|_| {
        let (oauth, token) = (oauth.clone(), token.clone());
        tokio::spawn(async move { oauth.refresh(&token).await })
    });
    assert_eq!(all(again.collect()).await, ["access-1"]);
    // A late caller with the old token gets the current one.
    assert_eq!(oauth.refresh(&token).await.unwrap().secret().expose(), "access-1");
    assert_eq!(grants(&server), ["jwt-bearer", "refresh_token"]);
}

#[tokio::test]
async fn a1_a_hundred_callers_share_one_failure() {
    let server = Scripted::start(|_| async { dead() }).await;
    let oauth = jwt(&server).build().unwrap();
    let callers: Vec<_> = (0..100)
        .map(|_| {
            tokio::spawn({
                let oauth = oauth.clone();
                async move { oauth.token().await }
            })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap_err().code(), Some("OAU-211"));
    }
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a2_transient_errors_preserve_the_tokens() {
    for trouble in [
        Reply::new(500, ""),
        Reply::new(500, r#"{"error":"invalid_grant"}"#),
        Reply::new(502, "<html>"),
        Reply::new(408, ""),
        Reply::new(503, "").with("retry-after", "3600"),
        Reply::new(429, r#"{"errors":[{"errorCode":"CMN-301"}]}"#).with("retry-after", "3600"),
        Reply::new(403, "<html>blocked</html>"),
        Reply::new(404, ""),
        Reply::new(302, "").with("location", "/elsewhere"),
        Reply::new(200, "<html>login</html>"),
        Reply::Reset,
        Reply::Cut,
    ] {
        let shown = format!("{trouble:?}");
        let server = Scripted::start(move |_| {
            let trouble = trouble.clone();
            async move { trouble }
        })
        .await;
        let store = Watched::holding(&stored(&server, -1)).await;
        let oauth = browser(&server).store(store.clone()).build().unwrap();
        let error = oauth.token().await.unwrap_err();
        assert_eq!(store.refresh_token().await.as_deref(), Some("refresh-0"), "{shown}: {error}");
        assert!(
            server.seen().iter().all(|seen| seen.field("refresh_token").as_deref() == Some("refresh-0")),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn a2_a_hanging_service_preserves_the_tokens() {
    let server = Scripted::start(|seen| async move { if seen.n < 2 { Reply::Hang } else { grant(1) } }).await;
    let store = Watched::holding(&stored(&server, -1)).await;
    let oauth = browser(&server).store(store.clone()).deadline(Duration::from_millis(200)).build().unwrap();
    let error = oauth.token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(store.refresh_token().await.as_deref(), Some("refresh-0"));
}

#[tokio::test]
async fn a2_after_a_transient_error_the_same_refresh_token_is_used() {
    for trouble in [Reply::new(500, ""), Reply::new(408, ""), Reply::Reset, Reply::Cut, Reply::new(200, "{}")] {
        let server = Scripted::start(move |seen| {
            let trouble = trouble.clone();
            async move { if seen.n == 0 { trouble } else { grant(1) } }
        })
        .await;
        let store = Watched::holding(&stored(&server, -1)).await;
        let oauth = browser(&server).store(store.clone()).build().unwrap();
        assert_eq!(oauth.token().await.unwrap().secret().expose(), "access-1");
        let sent: Vec<_> = server.seen().iter().map(|seen| seen.field("refresh_token").unwrap()).collect();
        assert_eq!(sent, ["refresh-0", "refresh-0"]);
        assert_eq!(store.refresh_token().await.as_deref(), Some("refresh-1"));
    }
}

#[tokio::test]
async fn a_valid_token_is_used_while_its_renewal_fails() {
    let server = Scripted::start(|_| async { Reply::new(503, "") }).await;
    let store = Watched::holding(&stored(&server, 30)).await;
    let oauth = browser(&server).store(store).build().unwrap();
    for _ in 0..5 {
        assert_eq!(oauth.token().await.unwrap().secret().expose(), "access-0");
    }
    assert_eq!(server.seen().len(), 1, "and the service is spared meanwhile");
}

#[tokio::test]
async fn a_stored_session_is_used_without_a_request_until_its_renewal() {
    let server = Scripted::start(|_| async { grant(1) }).await;
    let store = Watched::holding(&stored(&server, 3000)).await;
    let oauth = browser(&server).store(store).build().unwrap();
    let token = oauth.token().await.unwrap();
    assert_eq!((token.secret().expose(), token.owner_id()), ("access-0", Some("7")));
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_stored_session_of_another_server_is_not_sent() {
    let (server, other) =
        (Scripted::start(|_| async { grant(1) }).await, Scripted::start(|_| async { grant(1) }).await);
    let store = Watched::holding(&stored(&other, -1)).await;
    let oauth = jwt(&server).store(store).build().unwrap();
    assert_eq!(oauth.token().await.unwrap_err().kind(), ErrorKind::Store);
    assert!(server.seen().is_empty() && other.seen().is_empty());
}

#[tokio::test]
async fn a3_a_rotated_token_is_stored_before_it_is_used() {
    let server = Scripted::start(|seen| async move { grant(seen.n) }).await;
    let store = Watched::gated();
    let oauth = jwt(&server).store(store.clone()).build().unwrap();
    let caller = tokio::spawn({
        let oauth = oauth.clone();
        async move { oauth.token().await }
    });
    store.0.saving.notified().await;
    // It is not saved, so no caller gets it, neither the first one nor another.
    let other = tokio::spawn({
        let oauth = oauth.clone();
        async move { oauth.token().await }
    });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!caller.is_finished() && !other.is_finished());
    store.0.gate.as_ref().unwrap().add_permits(1);
    assert_eq!(all(vec![caller, other]).await, ["access-0"]);
    assert_eq!(*store.0.log.lock().unwrap(), ["save"]);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn an_unsaved_session_is_saved_by_the_next_call() {
    let server = Scripted::start(|seen| async move { grant(seen.n) }).await;
    let store = Watched::default();
    store.0.broken.store(true, Ordering::Relaxed);
    let oauth = jwt(&server).store(store.clone()).build().unwrap();
    for _ in 0..2 {
        let error = oauth.token().await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Store, "the disk is full"));
    }
    store.0.broken.store(false, Ordering::Relaxed);
    assert_eq!(oauth.token().await.unwrap().secret().expose(), "access-0");
    assert_eq!((server.seen().len(), store.refresh_token().await.as_deref()), (1, Some("refresh-0")));
}

#[tokio::test]
async fn a_caller_cancelled_during_a_refresh_loses_nothing() {
    let gate = Arc::new(Semaphore::new(0));
    let server = Scripted::start({
        let gate = gate.clone();
        move |_| {
            let gate = gate.clone();
            async move {
                gate.acquire().await.unwrap().forget();
                grant(1)
            }
        }
    })
    .await;
    let store = Watched::holding(&stored(&server, -1)).await;
    let oauth = browser(&server).store(store.clone()).build().unwrap();
    let caller = tokio::spawn({
        let oauth = oauth.clone();
        async move { oauth.token().await }
    });
    while server.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    gate.add_permits(1);
    assert_eq!(oauth.token().await.unwrap().secret().expose(), "access-1");
    assert_eq!((server.seen().len(), store.refresh_token().await.as_deref()), (1, Some("refresh-1")));
}

#[tokio::test]
async fn a5_invalid_grant_is_fatal_once() {
    let server =
        Scripted::start(|seen| async move { if kind(&seen) == "refresh_token" { dead() } else { grant(2) } }).await;
    let store = Watched::holding(&stored(&server, -1)).await;
    let oauth = browser(&server).store(store.clone()).build().unwrap();
    for _ in 0..3 {
        let error = oauth.token().await.unwrap_err();
        assert_eq!((error.kind(), error.disposition()), (ErrorKind::Auth, Disposition::Fatal));
        assert_eq!((error.code(), error.status()), (Some("OAU-211"), Some(400)));
    }
    assert_eq!(grants(&server), ["refresh_token"], "asked once");
    assert_eq!((store.refresh_token().await, store.0.log.lock().unwrap().join(" ").as_str()), (None, "clear"));
    // New credentials restore the login.
    let request = oauth.authorize("https://me.example/back").unwrap();
    let redirect = format!("https://me.example/back?code=c&state={}", request.state().expose());
    oauth.exchange(&request, &redirect).await.unwrap();
    assert_eq!(oauth.token().await.unwrap().secret().expose(), "access-2");
}

#[tokio::test]
async fn a5_a_refused_jwt_is_fatal_once() {
    let server = Scripted::start(|_| async { dead() }).await;
    let oauth = jwt(&server).build().unwrap();
    for _ in 0..3 {
        assert_eq!(oauth.token().await.unwrap_err().kind(), ErrorKind::Auth);
    }
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_dead_refresh_token_falls_back_to_the_jwt() {
    let server =
        Scripted::start(|seen| async move { if kind(&seen) == "refresh_token" { dead() } else { grant(9) } }).await;
    let store = Watched::holding(&stored(&server, -1)).await;
    let oauth = jwt(&server).store(store.clone()).build().unwrap();
    assert_eq!(oauth.token().await.unwrap().secret().expose(), "access-9");
    assert_eq!(grants(&server), ["refresh_token", "jwt-bearer"]);
    assert_eq!(store.refresh_token().await.as_deref(), Some("refresh-9"));
}

#[tokio::test]
async fn an_expired_refresh_token_is_not_used_if_a_jwt_exists() {
    let server = Scripted::start(|_| async { grant(9) }).await;
    let old = stored(&server, -1)
        .to_json()
        .unwrap()
        .expose()
        .replace("\"refresh_token\"", "\"refresh_expires_at\":1,\"refresh_token\"");
    let old = StoredTokens::from_json(&old).unwrap();
    jwt(&server).store(Watched::holding(&old).await).build().unwrap().token().await.unwrap();
    browser(&server).store(Watched::holding(&old).await).build().unwrap().token().await.unwrap();
    assert_eq!(grants(&server), ["jwt-bearer", "refresh_token"]);
}

#[tokio::test]
async fn a_transient_refresh_error_does_not_fall_back_to_the_jwt() {
    let server = Scripted::start(|_| async { Reply::new(500, "") }).await;
    let store = Watched::holding(&stored(&server, -1)).await;
    let oauth = jwt(&server).store(store).build().unwrap();
    assert_eq!(oauth.token().await.unwrap_err().kind(), ErrorKind::Service);
    assert_eq!(grants(&server), ["refresh_token"; 4], "three repeats, the session may live");
}

#[tokio::test]
async fn a_refused_client_preserves_the_session_and_is_not_retried() {
    let server = Scripted::start(|_| async { Reply::new(401, r#"{"error":"invalid_client","errors":[]}"#) }).await;
    let store = Watched::holding(&stored(&server, -1)).await;
    let oauth = browser(&server).store(store.clone()).build().unwrap();
    for _ in 0..2 {
        let error = oauth.token().await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Auth, Some("invalid_client")));
    }
    assert_eq!((server.seen().len(), store.refresh_token().await.as_deref()), (1, Some("refresh-0")));
}

/// The outcome of a refused refresh: the status and code of the answer, whether the access token is still valid,
/// whether a JWT exists and whether the service accepts it; then the token or the error's code, and the requested
/// grants.
#[tokio::test]
async fn a_refused_refresh_preserves_a_valid_token() {
    let over = r#"{"error":"invalid_grant","errors":[{"errorCode":"OAU-211"}]}"#;
    let client = r#"{"error":"invalid_client","errors":[]}"#;
    let request = r#"{"errors":[{"errorCode":"CMN-101"}]}"#;
    let locked = r#"{"errors":[{"errorCode":"OAU-167"}]}"#;
    let (refresh, both): (&[&str], &[&str]) = (&["refresh_token"], &["refresh_token", "jwt-bearer"]);
    for (status, body, good, jwt_taken, want, asked) in [
        (400, request, true, None, "access-0", refresh),
        (401, client, true, None, "access-0", refresh),
        (403, locked, true, None, "access-0", refresh),
        (400, request, true, Some(true), "access-9", both),
        (401, client, true, Some(true), "access-9", both),
        (403, locked, true, Some(true), "access-9", both),
        (400, request, true, Some(false), "access-0", both),
        (401, client, true, Some(false), "access-0", both),
        (400, request, false, None, "CMN-101", refresh),
        (401, client, false, None, "invalid_client", refresh),
        (403, locked, false, None, "OAU-167", refresh),
        (400, request, false, Some(true), "access-9", both),
        (403, locked, false, Some(true), "access-9", both),
        (401, client, false, Some(false), "OAU-146", both),
        // Only these drop the session, together with its access token.
        (400, over, true, None, "OAU-211", refresh),
        (400, over, false, None, "OAU-211", refresh),
        (400, over, true, Some(true), "access-9", both),
        (400, over, true, Some(false), "OAU-146", both),
        // Not the service's answer about the grant.
        (403, "<html>", true, None, "access-0", refresh),
        (500, over, true, None, "access-0", refresh),
        (503, request, true, Some(true), "access-0", refresh),
    ] {
        let row = format!("{status} {body} {good} {jwt_taken:?}");
        let server = Scripted::start(move |seen| async move {
            match (kind(&seen).as_str(), jwt_taken) {
                ("refresh_token", _) => Reply::new(status, body),
                (_, Some(true)) => grant(9),
                (_, Some(false) | None) => Reply::code(401, "OAU-146"),
            }
        })
        .await;
        let store = Watched::holding(&stored(&server, if good { 30 } else { -1 })).await;
        let builder = if jwt_taken.is_some() { jwt(&server) } else { browser(&server) };
        let oauth = builder.store(store.clone()).build().unwrap();
        // The second call sends nothing: the result is known, or the pause is active.
        for _ in 0..2 {
            let got = match oauth.token().await {
                Ok(token) => token.secret().expose().to_owned(),
                Err(error) => {
                    // A reason that does not concern the login may pass (found 6.4).
                    let is_final = error.disposition() == Disposition::Fatal;
                    assert_eq!((error.kind(), is_final), (ErrorKind::Auth, body != request), "{row}");
                    error.code().unwrap_or_default().to_owned()
                }
            };
            assert_eq!(got, want, "{row}");
        }
        assert_eq!(grants(&server), asked, "{row}");
        let stored = match want {
            "access-9" => Some("refresh-9"),
            _ if body == over && status == 400 => None,
            _ => Some("refresh-0"),
        };
        assert_eq!(store.refresh_token().await.as_deref(), stored, "{row}");
    }
}

#[tokio::test]
async fn a_refused_refresh_is_fatal_once_the_service_refuses_the_token_too() {
    let server = Scripted::start(|_| async { Reply::new(401, r#"{"error":"invalid_client"}"#) }).await;
    let store = Watched::holding(&stored(&server, 30)).await;
    let oauth = browser(&server).store(store).build().unwrap();
    let token = oauth.token().await.unwrap();
    for _ in 0..2 {
        assert_eq!(oauth.refresh(&token).await.unwrap_err().code(), Some("invalid_client"));
    }
    assert_eq!(server.seen().len(), 2, "ahead of time, and once in need");
}

#[tokio::test]
async fn a_session_rotated_by_another_process_is_loaded_from_the_store() {
    let server = Scripted::start(|seen| async move { if seen.n == 0 { grant(0) } else { dead() } }).await;
    let store = Watched::default();
    let oauth = jwt(&server).store(store.clone()).build().unwrap();
    let token = oauth.token().await.unwrap();
    let theirs = stored(&server, 3000).to_json().unwrap();
    let theirs = theirs.expose().replace("access-0", "access-5").replace("refresh-0", "refresh-5");
    store.0.stored.save(&StoredTokens::from_json(&theirs).unwrap()).await.unwrap();
    assert_eq!(oauth.refresh(&token).await.unwrap().secret().expose(), "access-5");
    assert_eq!(grants(&server), ["jwt-bearer", "refresh_token"]);
    assert_eq!(store.refresh_token().await.as_deref(), Some("refresh-5"));
}

#[tokio::test]
async fn a_jwt_without_refresh_token_logs_in_again() {
    let server = Scripted::start(|seen| async move {
        Reply::new(200, format!(r#"{{"access_token":"access-{}","expires_in":"3600"}}"#, seen.n))
    })
    .await;
    let oauth = jwt(&server).build().unwrap();
    let token = oauth.token().await.unwrap();
    assert_eq!(oauth.refresh(&token).await.unwrap().secret().expose(), "access-1");
    assert_eq!(grants(&server), ["jwt-bearer", "jwt-bearer"]);
}

#[tokio::test]
async fn missing_credentials_are_an_error_without_a_request() {
    let server = Scripted::start(|_| async { grant(0) }).await;
    let oauth = browser(&server).build().unwrap();
    assert_eq!(oauth.token().await.unwrap_err().kind(), ErrorKind::Auth);
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn an_app_authenticates_by_basic_or_in_the_form() {
    let server = Scripted::start(|_| async { grant(0) }).await;
    jwt(&server).build().unwrap().token().await.unwrap();
    OAuth::jwt("public", JWT).server(server.url()).build().unwrap().token().await.unwrap();
    let [confidential, public] = &server.seen()[..] else { panic!("two requests") };
    assert_eq!(confidential.header("authorization"), Some("Basic YXBwOmNsaWVudC1zM2NyZXQ="));
    assert_eq!((public.header("authorization"), public.field("client_id").as_deref()), (None, Some("public")));
    for seen in [confidential, public] {
        assert_eq!(seen.line(), "POST /restapi/oauth/token");
        assert_eq!(seen.header("content-type"), Some("application/x-www-form-urlencoded"));
        assert_eq!(seen.header("accept"), Some("application/json"));
        assert_eq!(seen.field("assertion").as_deref(), Some(JWT));
    }
}

#[tokio::test]
async fn an_app_may_authenticate_by_a_fresh_assertion_each_time() {
    let server = Scripted::start(|seen| async move { grant(seen.n) }).await;
    let app = || OAuth::jwt("app", JWT).server(server.url());
    let made = Arc::new(AtomicUsize::new(0));
    let fresh = app().endpoint_id("e 1").client_assertion_with({
        let made = made.clone();
        move || {
            let n = made.fetch_add(1, Ordering::Relaxed);
            async move { Ok(Secret::new(format!("assertion-{n}"))) }
        }
    });
    let fresh = fresh.build().unwrap();
    let token = fresh.token().await.unwrap();
    fresh.refresh(&token).await.unwrap();
    fresh.revoke().await.unwrap();
    let fixed = app().client_assertion("the same").build().unwrap();
    let token = fixed.token().await.unwrap();
    fixed.refresh(&token).await.unwrap();
    let sent: Vec<_> = server.seen().iter().map(|seen| seen.field("client_assertion").unwrap()).collect();
    assert_eq!(sent, ["assertion-0", "assertion-1", "assertion-2", "the same", "the same"]);
    for seen in server.seen() {
        let kind = seen.field("client_assertion_type");
        assert_eq!(kind.as_deref(), Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer"));
        assert_eq!((seen.header("authorization"), seen.field("client_id").as_deref()), (None, Some("app")));
    }
    let named = server.seen().iter().filter(|seen| seen.field("endpoint_id").as_deref() == Some("e 1")).count();
    assert_eq!(named, 2, "on both grants of the first, and on nothing else");
}

#[tokio::test]
async fn a_failing_assertion_is_the_callers_error_and_nothing_is_sent() {
    let server = Scripted::start(|_| async { grant(0) }).await;
    let made = Arc::new(AtomicUsize::new(0));
    let make = {
        let made = made.clone();
        move || {
            let n = made.fetch_add(1, Ordering::Relaxed);
            async move {
                match n {
                    0 => Err(Error::new(ErrorKind::Config, "no key")),
                    1 => Err(Error::new(ErrorKind::Network, "the vault is away")),
                    _ => Ok(Secret::new("assertion")),
                }
            }
        }
    };
    let oauth = OAuth::jwt("app", JWT).server(server.url()).client_assertion_with(make).build().unwrap();
    let error = oauth.token().await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Config, "no key"));
    assert!(server.seen().is_empty());
    // A transient error is retried within the same call.
    assert_eq!(oauth.token().await.unwrap().secret().expose(), "access-0");
    assert_eq!((made.load(Ordering::Relaxed), server.seen().len()), (3, 1));
}

#[tokio::test]
async fn a7_an_assertion_is_never_shown() {
    let server = Scripted::start(|_| async {
        Reply::new(
            401,
            r#"{"error":"invalid_client","errors":[{"errorCode":"OAU-146 a55ertion","message":"a55ertion"}]}"#,
        )
    })
    .await;
    let builder = OAuth::jwt("app", JWT).server(server.url()).client_assertion("a55ertion");
    let mut shown = format!("{builder:?}");
    let oauth = builder.build().unwrap();
    shown += &texts_of(&oauth.token().await.unwrap_err());
    shown += &format!("{oauth:?}");
    assert!(!shown.contains("a55ertion"), "{shown}");
}

#[tokio::test]
async fn a_code_is_exchanged_with_its_verifier_and_only_for_the_right_state() {
    let server = Scripted::start(|_| async { grant(0) }).await;
    let oauth = browser(&server).build().unwrap();
    let request = oauth.authorize("https://me.example/back").unwrap();
    assert!(request.url().as_str().starts_with(&format!("{}/restapi/oauth/authorize?", server.url())));
    let error = oauth.exchange(&request, "https://me.example/back?code=c&state=forged").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth);
    let declined = format!("https://me.example/back?error=access_denied&state={}", request.state().expose());
    let error = oauth.exchange(&request, &declined).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Auth, Some("access_denied")));
    assert!(server.seen().is_empty());
    let redirect = format!("https://me.example/back?code=c%2F1&state={}", request.state().expose());
    assert_eq!(oauth.exchange(&request, &redirect).await.unwrap().owner_id(), Some("7"));
    let seen = &server.seen()[0];
    assert_eq!((kind(seen).as_str(), seen.field("code").as_deref()), ("authorization_code", Some("c/1")));
    assert_eq!(seen.field("redirect_uri").as_deref(), Some("https://me.example/back"));
    assert_eq!((seen.field("code_verifier").unwrap().len(), seen.field("client_id").as_deref()), (43, Some("app")));
}

#[tokio::test]
async fn a_logout_ends_the_local_session_after_any_answer() {
    for answer in [Reply::new(200, ""), Reply::code(400, "CMN-101"), Reply::Reset] {
        let server = Scripted::start(move |seen| {
            let answer = answer.clone();
            async move { if seen.target.ends_with("revoke") { answer } else { grant(seen.n) } }
        })
        .await;
        let store = Watched::default();
        let oauth = jwt(&server).store(store.clone()).build().unwrap();
        oauth.token().await.unwrap();
        oauth.revoke().await.unwrap();
        assert_eq!(store.refresh_token().await, None);
        let seen = &server.seen()[1];
        assert_eq!(
            (seen.line().as_str(), seen.field("token").as_deref()),
            ("POST /restapi/oauth/revoke", Some("refresh-0"))
        );
        assert!(seen.header("authorization").unwrap().starts_with("Basic "));
        // The JWT can log in again; without a session there is nothing to revoke.
        oauth.token().await.unwrap();
        assert_eq!(kind(server.seen().last().unwrap()), "jwt-bearer");
    }
    let server = Scripted::start(|_| async { grant(0) }).await;
    browser(&server).build().unwrap().revoke().await.unwrap();
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_penalty_of_the_auth_group_is_honoured() {
    let server = Scripted::start(|_| async { Reply::code(429, "CMN-301").with("retry-after", "50") }).await;
    let oauth = jwt(&server).build().unwrap();
    for _ in 0..3 {
        let error = oauth.token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RateLimited);
        let wait = error.retry_after().unwrap();
        assert!(wait > Duration::from_secs(45) && wait <= Duration::from_secs(50), "{wait:?}");
    }
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_short_requested_wait_is_obeyed() {
    let server = Scripted::start(|seen| async move {
        if seen.n == 0 { Reply::new(503, "").with("retry-after", "1") } else { grant(1) }
    })
    .await;
    assert_eq!(jwt(&server).build().unwrap().token().await.unwrap().secret().expose(), "access-1");
}

#[tokio::test]
async fn a7_credentials_are_never_shown() {
    let echo = format!(
        r#"{{"error":"invalid_grant","error_description":"{JWT} refresh-0","errors":[{{"errorCode":"OAU-211","message":"{JWT} {CLIENT_SECRET} refresh-0","parameterName":"{JWT}"}}]}}"#
    );
    let server = Scripted::start(move |_| {
        let echo = echo.clone();
        async move { Reply::new(400, echo) }
    })
    .await;
    let builder = jwt(&server);
    let mut shown = format!("{builder:?}");
    let store = Watched::holding(&stored(&server, -1)).await;
    let oauth = builder.store(store).build().unwrap();
    shown += &texts_of(&oauth.token().await.unwrap_err());
    shown += &format!("{oauth:?} {oauth:#?}");
    let live = Scripted::start(|_| async { grant(0) }).await;
    let oauth = jwt(&live).build().unwrap();
    shown += &format!("{:?} {oauth:?}", oauth.token().await.unwrap());
    let request = oauth.authorize("https://me.example").unwrap();
    shown += &format!("{request:?}");
    for secret in [JWT, CLIENT_SECRET, "refresh-0", "access-0", "YXBwOmNsaWVudC1zM2NyZXQ", request.state().expose()] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[tokio::test]
async fn unusable_settings_are_config_errors() {
    for builder in [
        OAuth::jwt("", JWT),
        OAuth::jwt("app", JWT).server("nowhere"),
        OAuth::jwt("app", JWT).server("https://h/path"),
        OAuth::jwt("app", JWT).user_agent("a\nb"),
        OAuth::jwt("app", JWT).client_assertion(""),
        OAuth::jwt("app", JWT).client_secret(CLIENT_SECRET).client_assertion("a"),
    ] {
        assert_eq!(builder.build().unwrap_err().kind(), ErrorKind::Config);
    }
}

#[test]
fn a_login_is_restarted_after_its_runtime_ended() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outer = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let server = outer.block_on(Scripted::start({
        let asked = asked.clone();
        move |seen| {
            asked.fetch_add(1, Ordering::Relaxed);
            async move { if seen.n == 0 { Reply::Hang } else { grant(1) } }
        }
    }));
    let oauth = jwt(&server).build().unwrap();
    let first = runtime();
    first.block_on(async {
        let caller = tokio::spawn({
            let oauth = oauth.clone();
            async move { oauth.token().await }
        });
        while asked.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        caller.abort();
    });
    drop(first);
    assert_eq!(runtime().block_on(oauth.token()).unwrap().secret().expose(), "access-1");
}
