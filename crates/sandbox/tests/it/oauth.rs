//! Logins: every grant, its refusals, and the rotation of refresh tokens.

use std::time::Duration;

use crate::support::bare::*;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use ringcentral_events::auth::{FileTokenStore, OAuth, TokenProvider};
use ringcentral_sandbox::{Operation, Sandbox};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const JWT_GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

async fn is_let_in(sandbox: &Sandbox, access_token: &str) -> (u16, Value) {
    let answer = http()
        .get(format!("{}/restapi/v1.0/account/~/extension/~", sandbox.base_url()))
        .bearer_auth(access_token)
        .send()
        .await
        .unwrap();
    body(answer).await
}

async fn refresh(sandbox: &Sandbox, token: &Value) -> (u16, Value) {
    token_request(sandbox, &[("grant_type", "refresh_token"), ("refresh_token", token.as_str().unwrap())]).await
}

async fn token_request(sandbox: &Sandbox, form: &[(&str, &str)]) -> (u16, Value) {
    token(sandbox, form).await
}

async fn login(sandbox: &Sandbox) -> Value {
    let jwt = sandbox.jwt();
    let (status, answer) = token(sandbox, &[("grant_type", JWT_GRANT), ("assertion", jwt.expose())]).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

#[tokio::test]
async fn a_login_answers_all_that_clients_read() {
    let sandbox = quick().start().await.unwrap();
    let answer = login(&sandbox).await;
    assert_eq!(answer["token_type"], "bearer");
    assert_eq!(answer["owner_id"], sandbox.extension_id());
    assert!((3598..=3600).contains(&answer["expires_in"].as_u64().unwrap()));
    assert!((604_798..=604_800).contains(&answer["refresh_token_expires_in"].as_u64().unwrap()));
    let (status, extension) = is_let_in(&sandbox, answer["access_token"].as_str().unwrap()).await;
    assert_eq!((status, &extension["id"]), (200, &json!(100_200_301)));
    sandbox.behavior(|behavior| behavior.issue_refresh_tokens = false);
    assert!(login(&sandbox).await.get("refresh_token").is_none());
}

#[tokio::test]
async fn asked_lifetimes_are_clamped() {
    let sandbox = quick().start().await.unwrap();
    let jwt = sandbox.jwt();
    for (asked, want) in [("1", 600), ("900", 900), ("99999", 3600)] {
        let form = [("grant_type", JWT_GRANT), ("assertion", jwt.expose()), ("access_token_ttl", asked)];
        let expires_in = token(&sandbox, &form).await.1["expires_in"].as_u64().unwrap();
        assert!((want - 2..=want).contains(&expires_in), "{asked}: {expires_in}");
    }
}

#[tokio::test]
async fn every_refusal_has_its_message_and_code() {
    let sandbox = quick().start().await.unwrap();
    let (jwt, secret) = (sandbox.jwt(), sandbox.client_secret());
    let id = sandbox.client_id();
    let good = Some((id, secret.expose()));
    let jwt_form = [("grant_type", JWT_GRANT), ("assertion", jwt.expose())];
    for (client, form, error, code) in [
        (Some((id, "wrong")), &jwt_form[..], "invalid_client", "OAU-146"),
        (None, &jwt_form[..], "invalid_client", "OAU-123"),
        (None, &[("client_id", id), jwt_form[0], jwt_form[1]], "invalid_client", "OAU-123"),
        (None, &[("client_id", "nobody"), jwt_form[0], jwt_form[1]], "invalid_client", "OAU-146"),
        (good, &[("grant_type", JWT_GRANT), ("assertion", "forged")], "invalid_grant", "OAU-140"),
        (good, &[("grant_type", "refresh_token"), ("refresh_token", "stale")], "invalid_grant", "OAU-213"),
        (good, &[("grant_type", "authorization_code"), ("code", "stale")], "invalid_grant", "OAU-106"),
        (good, &[("grant_type", "magic")], "unsupported_grant_type", "OAU-250"),
    ] {
        let (status, answer) = token_as(&sandbox, client, form).await;
        assert_eq!((status, &answer["error"]), (400, &json!(error)), "{answer}");
        assert_eq!(answer["errors"][0]["errorCode"], code, "{answer}");
    }
}

#[tokio::test]
async fn a_refresh_rotates_and_may_be_repeated_until_its_grace_ends() {
    let sandbox = quick().start().await.unwrap();
    let first = login(&sandbox).await;
    let (status, second) = refresh(&sandbox, &first["refresh_token"]).await;
    assert_eq!(status, 200);
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    let (status, refused) = is_let_in(&sandbox, first["access_token"].as_str().unwrap()).await;
    assert_eq!((status, &refused["errors"][0]["errorCode"]), (401, &json!("OAU-213")), "the old access token is dead");

    sandbox.advance(Duration::from_secs(3000));
    let (status, again) = refresh(&sandbox, &first["refresh_token"]).await;
    assert_eq!((status, &again["access_token"]), (200, &second["access_token"]), "a lost answer can be had again");
    assert_eq!(is_let_in(&sandbox, second["access_token"].as_str().unwrap()).await.0, 200);
    sandbox.advance(Duration::from_secs(9));
    assert_eq!(refresh(&sandbox, &first["refresh_token"]).await.0, 200);
    sandbox.advance(Duration::from_secs(2));
    let (status, dead) = refresh(&sandbox, &first["refresh_token"]).await;
    assert_eq!((status, &dead["errors"][0]["errorCode"]), (400, &json!("OAU-211")));
    assert_eq!(refresh(&sandbox, &second["refresh_token"]).await.0, 200, "the new one works");
}

#[tokio::test]
async fn the_setting_sets_how_long_a_used_refresh_token_works_after_the_new_access_token_is_used() {
    let builder = quick().behavior(|behavior| behavior.refresh_reuse_grace = Duration::from_secs(60));
    let sandbox = builder.start().await.unwrap();
    let first = login(&sandbox).await;
    let second = refresh(&sandbox, &first["refresh_token"]).await.1;
    assert_eq!(is_let_in(&sandbox, second["access_token"].as_str().unwrap()).await.0, 200);
    sandbox.advance(Duration::from_secs(50));
    assert_eq!(refresh(&sandbox, &first["refresh_token"]).await.0, 200);
    sandbox.advance(Duration::from_secs(10));
    let (status, refused) = refresh(&sandbox, &first["refresh_token"]).await;
    assert_eq!((status, &refused["errors"][0]["errorCode"]), (400, &json!("OAU-211")));
}

#[tokio::test]
async fn tokens_expire_are_revoked_and_make_room() {
    let sandbox = quick().start().await.unwrap();
    let answer = login(&sandbox).await;
    let access = answer["access_token"].as_str().unwrap();
    sandbox.expire_access_tokens();
    let (status, refused) = is_let_in(&sandbox, access).await;
    assert_eq!((status, &refused["errors"][0]["errorCode"]), (401, &json!("OAU-128")));
    let renewed = refresh(&sandbox, &answer["refresh_token"]).await.1;
    let access = renewed["access_token"].as_str().unwrap();
    let revoke = http()
        .post(format!("{}/restapi/oauth/revoke", sandbox.base_url()))
        .basic_auth(sandbox.client_id(), Some(sandbox.client_secret().expose()))
        .body(format!("token={access}"));
    assert_eq!(body(revoke.send().await.unwrap()).await.0, 200);
    assert_eq!(is_let_in(&sandbox, access).await.0, 401);
    assert_eq!(refresh(&sandbox, &renewed["refresh_token"]).await.0, 400, "the whole session is gone");

    let oldest = login(&sandbox).await;
    for _ in 0..5 {
        login(&sandbox).await;
    }
    assert_eq!(sandbox.gauges().sessions, 5);
    assert_eq!(is_let_in(&sandbox, oldest["access_token"].as_str().unwrap()).await.0, 401);
    sandbox.advance(Duration::from_secs(604_801));
    let newest = login(&sandbox).await;
    sandbox.advance(Duration::from_secs(604_801));
    assert_eq!(refresh(&sandbox, &newest["refresh_token"]).await.0, 400);
}

#[tokio::test]
async fn calls_without_valid_authorization_are_refused() {
    let sandbox = quick().start().await.unwrap();
    let url = format!("{}{SUBSCRIPTION}", sandbox.base_url());
    for (header, code) in [(None, "AGW-401"), (Some("Basic eA=="), "AGW-402"), (Some("Bearer nonsense"), "OAU-213")] {
        let mut request = http().request(Method::GET, &url);
        if let Some(value) = header {
            request = request.header("authorization", value);
        }
        let (status, answer) = body(request.send().await.unwrap()).await;
        assert_eq!((status, &answer["errors"][0]["errorCode"]), (401, &json!(code)));
    }
}

/// Follows an authorize request; returns the query of the redirect.
async fn authorize(sandbox: &Sandbox, extra: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut url = url::Url::parse(&format!("{}/restapi/oauth/authorize", sandbox.base_url())).unwrap();
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("redirect_uri", "http://localhost/cb?x=1")
        .extend_pairs(extra);
    let answer = http().get(url).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 302);
    let location = url::Url::parse(answer.headers()["location"].to_str().unwrap()).unwrap();
    location.query_pairs().into_owned().collect()
}

fn found<'a>(query: &'a [(String, String)], name: &str) -> &'a str {
    &query.iter().find(|(key, _)| key == name).unwrap().1
}

#[tokio::test]
async fn a_public_app_logs_in_by_code_and_pkce() {
    let sandbox = quick().start().await.unwrap();
    let verifier = "a-verifier-of-at-least-forty-three-characters-long";
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
    let id = sandbox.public_client_id();
    let ask = [("client_id", id), ("state", "s t"), ("code_challenge", &*challenge), ("code_challenge_method", "S256")];
    let query = authorize(&sandbox, &ask).await;
    assert_eq!((found(&query, "state"), found(&query, "x"), found(&query, "expires_in")), ("s t", "1", "60"));
    let form = |code: &str, verifier: &str, redirect: &str| {
        [
            ("grant_type", "authorization_code".to_owned()),
            ("code", code.to_owned()),
            ("client_id", id.to_owned()),
            ("redirect_uri", redirect.to_owned()),
            ("code_verifier", verifier.to_owned()),
        ]
    };
    let redeem = async |form: [(&'static str, String); 5]| {
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        token_as(&sandbox, None, &form).await
    };
    let code = found(&query, "code");
    let (status, answer) = redeem(form(code, verifier, "http://localhost/cb?x=1")).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(redeem(form(code, verifier, "http://localhost/cb?x=1")).await.0, 400, "a code works once");
    let query = authorize(&sandbox, &ask).await;
    assert_eq!(redeem(form(found(&query, "code"), "another", "http://localhost/cb?x=1")).await.0, 400);
    let query = authorize(&sandbox, &ask).await;
    let (_, answer) = redeem(form(found(&query, "code"), verifier, "http://localhost/other")).await;
    assert_eq!(answer["errors"][0]["errorCode"], "OAU-109");
    let query = authorize(&sandbox, &ask).await;
    sandbox.advance(Duration::from_secs(61));
    let (_, answer) = redeem(form(found(&query, "code"), verifier, "http://localhost/cb?x=1")).await;
    assert_eq!(answer["errors"][0]["errorCode"], "OAU-108");
}

#[tokio::test]
async fn the_password_grant_of_old_clients_works() {
    let sandbox = quick().start().await.unwrap();
    let (user, password) = sandbox.password_login();
    let form =
        |password| [("grant_type", "password"), ("username", user), ("password", password), ("extension", "101")];
    assert_eq!(token(&sandbox, &form(password.expose())).await.0, 200);
    assert_eq!(token(&sandbox, &form("wrong")).await.0, 400);
}

#[tokio::test]
async fn the_sixth_login_within_a_minute_is_refused() {
    let sandbox = Sandbox::start().await.unwrap();
    for _ in 0..5 {
        login(&sandbox).await;
    }
    let jwt = sandbox.jwt();
    let form = [("grant_type", JWT_GRANT), ("assertion", jwt.expose())];
    let (status, answer) = token(&sandbox, &form).await;
    assert_eq!((status, &answer["errors"][0]["errorCode"]), (429, &json!("CMN-301")));
    sandbox.advance(Duration::from_secs(61));
    login(&sandbox).await;
}

#[tokio::test]
async fn a_client_assertion_replaces_the_app_secret() {
    let sandbox = quick().start().await.unwrap();
    let id = sandbox.client_id();
    let assertion = |subject: &str| {
        let claims = json!({ "iss": subject, "sub": subject, "aud": sandbox.base_url() });
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
    };
    let app = || OAuth::jwt(id, sandbox.jwt()).server(sandbox.base_url());
    let oauth = app().client_assertion(assertion(id)).build().unwrap();
    let first = oauth.token().await.unwrap();
    let second = oauth.refresh(&first).await.unwrap();
    assert_eq!(is_let_in(&sandbox, second.secret().expose()).await.0, 200);
    oauth.revoke().await.unwrap();
    assert_eq!(is_let_in(&sandbox, second.secret().expose()).await.0, 401);
    for wrong in [assertion("somebody else"), "no JWT".to_owned(), "a.b.c".to_owned()] {
        let oauth = app().client_assertion(wrong).build().unwrap();
        assert_eq!(oauth.token().await.unwrap_err().code(), Some("OAU-146"));
    }
}

#[tokio::test]
async fn a4_two_processes_that_share_a_token_file_make_one_renewal() {
    let sandbox = Sandbox::builder().behavior(|behavior| behavior.rate_limits.auth = 1000).start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens.json");
    let process = || {
        let oauth = OAuth::jwt(sandbox.client_id(), sandbox.jwt()).client_secret(sandbox.client_secret());
        oauth.server(sandbox.base_url()).store(FileTokenStore::new(&path)).build().unwrap()
    };
    let (one, other) = (process(), process());
    let logins = || sandbox.requests_to(Operation::Token).len();
    // Both log in at once, and later learn at once that the token is refused.
    let (a, b) = tokio::join!(one.token(), other.token());
    let (mut a, mut b) = (a.unwrap(), b.unwrap());
    assert_eq!((a.secret().expose(), logins()), (b.secret().expose(), 1));
    for round in 2..=4 {
        sandbox.expire_access_tokens();
        let renewed = tokio::join!(one.refresh(&a), other.refresh(&b));
        assert_ne!(renewed.0.as_ref().unwrap().secret().expose(), a.secret().expose());
        (a, b) = (renewed.0.unwrap(), renewed.1.unwrap());
        assert_eq!((a.secret().expose(), logins()), (b.secret().expose(), round));
    }
}
