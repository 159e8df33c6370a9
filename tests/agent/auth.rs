//! The three token providers, against a scripted service.

use crate::support::scripted::{Reply, Scripted, Seen, texts_of};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ringcentral_events::ErrorKind;
use ringcentral_events::agent::AgentSession;
use ringcentral_events::agent::auth::{AccessKeys, CentralTokens, CxOneTokens};
use ringcentral_events::auth::TokenProvider;
use serde_json::json;

const PASSWORD: &str = "p4ss=w+rd";

fn central(server: &Scripted) -> CentralTokens {
    let url = format!("{}/InContactAuthorizationServer/Token", server.url());
    CentralTokens::builder("App@Vendor:990001", "ada", PASSWORD).scope("AgentApi").token_url(url).build().unwrap()
}

fn host(seen: &Seen) -> String {
    format!("http://{}", seen.header("host").unwrap())
}

/// The n-th token of the legacy service.
fn central_answer(seen: &Seen, n: usize, life: u64) -> Reply {
    let host = host(seen);
    let body = json!({
        "access_token": format!("at-{n}"), "token_type": "bearer", "expires_in": life, "refresh_token": format!("rt-{n}"),
        "refresh_token_server_uri": format!("{host}/renew/Token"),
        "resource_server_base_uri": format!("{host}/c{n}/inContactAPI/"), "scope": "AgentApi",
    });
    Reply::new(200, body.to_string())
}

#[tokio::test]
async fn f20_legacy_tokens_may_move_the_sessions() {
    let server = Scripted::start(|seen| async move { central_answer(&seen, seen.n, 3600) }).await;
    let tokens = central(&server);
    assert!(tokens.server().is_none());
    let token = tokens.token().await.unwrap();
    assert_eq!(token.secret().expose(), "at-0");
    assert_eq!(tokens.token().await.unwrap().secret().expose(), "at-0", "from memory");
    assert_eq!(tokens.server().unwrap().path(), "/c0/inContactAPI/");
    let renewed = tokens.refresh(&token).await.unwrap();
    assert_eq!(renewed.secret().expose(), "at-1");
    assert_eq!(tokens.refresh(&token).await.unwrap().secret().expose(), "at-1", "it was replaced already");
    assert_eq!(tokens.server().unwrap().path(), "/c1/inContactAPI/");
    let seen = server.seen();
    assert_eq!(server.lines(), ["POST /InContactAuthorizationServer/Token", "POST /renew/Token"]);
    let basic = format!("basic {}", STANDARD.encode("App@Vendor:990001"));
    for request in &seen {
        assert_eq!(request.header("authorization"), Some(basic.as_str()));
    }
    let fields = ["grant_type", "username", "password", "scope"].map(|name| seen[0].field(name).unwrap());
    assert_eq!(fields, ["password", "ada", PASSWORD, "AgentApi"]);
    let fields = ["grant_type", "refresh_token"].map(|name| seen[1].field(name).unwrap());
    assert_eq!(fields, ["refresh_token", "rt-0"]);
}

#[tokio::test]
async fn a_refused_renewal_leads_to_another_login_and_a_failed_one_does_not() {
    for (status, lines) in [(401, 3), (503, 2)] {
        let server = Scripted::start(move |seen| async move {
            if seen.target.starts_with("/renew") { Reply::new(status, "") } else { central_answer(&seen, seen.n, 3600) }
        })
        .await;
        let tokens = central(&server);
        let token = tokens.token().await.unwrap();
        let renewed = tokens.refresh(&token).await;
        assert_eq!(server.lines().len(), lines);
        match renewed {
            Ok(token) => assert_eq!((status, token.secret().expose()), (401, "at-2")),
            Err(error) => assert_eq!((status, error.kind()), (503, ErrorKind::Service)),
        }
    }
}

#[tokio::test]
async fn a_refused_login_names_the_reason_and_hides_secrets() {
    let body =
        json!({ "error_description": format!("client application not authorized for user {PASSWORD}") }).to_string();
    let server = Scripted::start(move |_| {
        let body = body.clone();
        async move { Reply::new(400, body) }
    })
    .await;
    let tokens = central(&server);
    let error = tokens.token().await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Auth, Some(400)));
    assert!(!format!("{} {tokens:?}", texts_of(&error)).contains(PASSWORD));
}

#[tokio::test]
async fn access_keys_are_exchanged_renewed_and_find_the_api() {
    let server = Scripted::start(|seen| async move {
        let body = match seen.target.as_str() {
            "/authentication/v1/token/access-key" => {
                json!({ "access_token": "at", "refresh_token": "rt", "token_type": "Bearer", "expires_in": 3600 })
            }
            "/.well-known/cxone-configuration" => {
                json!({ "api_endpoint": "http://127.0.0.1:9", "auth_endpoint": "http://127.0.0.1:9" })
            }
            "/public/user/refresh" => {
                json!({ "token": "at-2", "refreshToken": "rt-2", "tokenExpirationTimeSec": 3600,
                    "refreshTokenExpirationTimeSec": 7200 })
            }
            _ => return Reply::new(404, ""),
        };
        Reply::new(200, body.to_string())
    })
    .await;
    let tokens = AccessKeys::builder("na1", "key=1", "s3cret+").base_url(server.url()).build().unwrap();
    let token = tokens.token().await.unwrap();
    assert_eq!(token.secret().expose(), "at");
    assert_eq!(tokens.server().unwrap().as_str(), "http://127.0.0.1:9/");
    assert_eq!(tokens.refresh(&token).await.unwrap().secret().expose(), "at-2");
    assert_eq!(tokens.server().unwrap().as_str(), "http://127.0.0.1:9/", "a renewal does not name it again");
    let seen = server.seen();
    let body = |n: usize| serde_json::from_str::<serde_json::Value>(&seen[n].body).unwrap();
    assert_eq!(body(0), json!({ "accessKeyId": "key=1", "accessKeySecret": "s3cret+" }));
    assert_eq!(body(2), json!({ "token": "rt" }));
}

#[tokio::test]
async fn cxone_is_discovered_from_its_issuer_to_the_tenants_api() {
    let server = Scripted::start(|seen| async move {
        let host = host(&seen);
        let path = seen.target.split('?').next().unwrap().to_owned();
        let claims = URL_SAFE_NO_PAD.encode(json!({ "tenantId": "tenant 1" }).to_string());
        let body = match path.as_str() {
            "/.well-known/openid-configuration" => json!({ "token_endpoint": format!("{host}/auth/token") }),
            "/auth/token" => {
                json!({ "access_token": format!("h.{claims}.s{}", seen.n), "refresh_token": "rt", "expires_in": 3600 })
            }
            "/.well-known/cxone-configuration" => {
                json!({ "api_endpoint": format!("{host}/x"), "cluster": "c1", "acdDomain": "invalid" })
            }
            _ => return Reply::new(404, ""),
        };
        Reply::new(200, body.to_string())
    })
    .await;
    let builder = CxOneTokens::builder("client", "s3cret", "key=+", PASSWORD).issuer(server.url());
    let tokens = builder.build().unwrap();
    let token = tokens.token().await.unwrap();
    assert_eq!(tokens.server().unwrap().as_str(), format!("{}/x", server.url()));
    let renewed = tokens.refresh(&token).await.unwrap();
    assert_ne!(renewed.secret(), token.secret());
    let seen = server.seen();
    assert_eq!(seen[1].header("authorization"), Some(format!("basic {}", STANDARD.encode("client:s3cret")).as_str()));
    let fields = ["grant_type", "username", "password"].map(|name| seen[1].field(name).unwrap());
    assert_eq!(fields, ["password", "key=+", PASSWORD]);
    assert!(seen[1].body.contains("key%3D%2B"), "{}", seen[1].body);
    assert_eq!(seen[2].target, "/.well-known/cxone-configuration?tenantId=tenant+1");
    assert_eq!(seen[3].line(), "POST /auth/token");
}

#[tokio::test]
async fn an_unusable_token_answer_is_an_error() {
    for body in [
        "",
        "<html>",
        "[]",
        "{}",
        "{\"access_token\":\"\"}",
        "{\"access_token\":\"a\",\"resource_server_base_uri\":\"ftp://x\"}",
    ] {
        let server = Scripted::start(move |_| async move { Reply::new(200, body) }).await;
        assert_eq!(central(&server).token().await.unwrap_err().kind(), ErrorKind::Protocol, "{body}");
    }
}

/// A token service with this token, id token and configuration.
async fn cxone(access: String, id_token: Option<String>, configuration: (u16, &'static str)) -> Scripted {
    Scripted::start(move |seen| {
        let (access, id_token) = (access.clone(), id_token.clone());
        async move {
            let host = host(&seen);
            let path = seen.target.split('?').next().unwrap().to_owned();
            let body = match path.as_str() {
                "/.well-known/openid-configuration" => json!({ "token_endpoint": format!("{host}/auth/token") }),
                "/auth/token" => json!({ "access_token": access, "id_token": id_token, "expires_in": 3600 }),
                "/.well-known/cxone-configuration" => return Reply::new(configuration.0, configuration.1),
                "/inContactAPI/services/v23.0/agent-sessions/join" => return Reply::new(202, r#"{"sessionId":"S0"}"#),
                _ => return Reply::new(404, ""),
            };
            Reply::new(200, body.to_string())
        }
    })
    .await
}

fn jwt(claims: &serde_json::Value) -> String {
    format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

fn cxone_tokens(server: &Scripted) -> CxOneTokens {
    // As copied from the service's documentation.
    let issuer = format!("{}/auth/token", server.url());
    CxOneTokens::builder("client", "s3cret", "key", PASSWORD).issuer(issuer).build().unwrap()
}

const PLACE: (u16, &str) = (200, r#"{"api_endpoint":"http://127.0.0.1:9"}"#);

#[tokio::test]
async fn the_tenant_may_be_named_by_the_id_token_only() {
    for access in ["opaque".to_owned(), jwt(&json!({ "sub": "1" }))] {
        let server = cxone(access, Some(jwt(&json!({ "tenantId": "t-1" }))), PLACE).await;
        let tokens = cxone_tokens(&server);
        tokens.token().await.unwrap();
        assert_eq!(tokens.server().unwrap().as_str(), "http://127.0.0.1:9/");
        assert_eq!(server.seen()[2].target, "/.well-known/cxone-configuration?tenantId=t-1");
    }
}

#[tokio::test]
async fn with_a_base_url_a_token_needs_no_discovery() {
    let tenant = jwt(&json!({ "tenantId": "t-1" }));
    for (access, configuration) in
        [("opaque".to_owned(), PLACE), (tenant.clone(), (403, "")), (tenant.clone(), (503, "")), (tenant, (200, "{}"))]
    {
        let server = cxone(access.clone(), None, configuration).await;
        for path in ["", "/inContactAPI/", "/services/v23.0", "/inContactAPI/services/v23.0/"] {
            let builder = AgentSession::builder(cxone_tokens(&server)).base_url(format!("{}{path}", server.url()));
            builder.join().await.unwrap();
            let seen = server.seen();
            let last = seen.last().unwrap();
            assert_eq!(last.line(), "POST /inContactAPI/services/v23.0/agent-sessions/join");
            assert_eq!(last.header("authorization"), Some(format!("Bearer {access}").as_str()));
        }
    }
}

#[tokio::test]
async fn without_a_base_url_the_error_names_the_failed_discovery_and_not_the_credentials() {
    let tenant = jwt(&json!({ "tenantId": "t-1" }));
    for (access, configuration, kind) in [
        ("opaque".to_owned(), PLACE, ErrorKind::Protocol),
        (tenant.clone(), (401, ""), ErrorKind::Rejected),
        (tenant.clone(), (404, ""), ErrorKind::Rejected),
        (tenant.clone(), (503, ""), ErrorKind::Service),
        (tenant, (200, "{}"), ErrorKind::Protocol),
    ] {
        let server = cxone(access, None, configuration).await;
        let tokens = std::sync::Arc::new(cxone_tokens(&server));
        tokens.token().await.unwrap();
        assert!(tokens.server().is_none());
        let error = AgentSession::builder(tokens).join().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(!texts_of(&error).contains("credentials"), "{}", texts_of(&error));
        assert!(!server.lines().iter().any(|line| line.contains("agent-sessions")), "nothing is sent elsewhere");
    }
}
