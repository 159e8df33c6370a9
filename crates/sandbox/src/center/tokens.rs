//! The three logins: Central, UserHub's access keys, and CXone's.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fastrand::Rng;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::params::Params;
use crate::clock::later;
use crate::context::Context;
use crate::http::{Call, Reply, json_reply};
use crate::random::{token, uuid};

/// The accepted credentials.
#[derive(Clone)]
pub(crate) struct Logins {
    /// `AppName@VendorName:BusinessUnitNumber`.
    pub(crate) app: String,
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) key_id: String,
    pub(crate) key_secret: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) tenant: String,
}

impl Logins {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        Self {
            app: "SandboxApp@Sandbox:990001".into(),
            username: "agent@sandbox.example".into(),
            password: token(rng, "p+w=", 16),
            // Not URL-safe: a client that does not encode them fails here.
            key_id: format!("{}=", token(rng, "KEY+", 24)),
            key_secret: format!("{}==", token(rng, "s+/", 32)),
            client_id: "sandbox-cxone-client".into(),
            client_secret: token(rng, "cxone-", 24),
            tenant: uuid(rng),
        }
    }
}

/// An access token.
#[derive(Clone, Copy, Debug)]
struct Granted {
    until: Instant,
    /// Whether its scope includes the agent API.
    agent: bool,
}

/// The issued tokens.
pub(crate) struct Tokens {
    logins: Logins,
    /// `http://127.0.0.1:port`.
    url: String,
    access: HashMap<String, Granted>,
    refresh: HashMap<String, Granted>,
}

/// Why a call is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    Token,
    Scope,
}

/// The tokens of a login.
struct Pair {
    access: String,
    refresh: String,
    life: Duration,
    refresh_life: Duration,
}

impl Tokens {
    pub(crate) fn new(url: String, rng: &mut Rng) -> Self {
        Self { logins: Logins::new(rng), url, access: HashMap::new(), refresh: HashMap::new() }
    }

    /// The accepted credentials.
    pub(crate) fn logins(&self) -> &Logins {
        &self.logins
    }

    /// The base URL of the Contact Center.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn check(&self, call: &Call, now: Instant) -> Result<(), Denied> {
        let granted = call.scheme("bearer").and_then(|token| self.access.get(token)).ok_or(Denied::Token)?;
        if granted.until <= now {
            return Err(Denied::Token);
        }
        if granted.agent { Ok(()) } else { Err(Denied::Scope) }
    }

    pub(crate) fn expire(&mut self) {
        self.access.clear();
    }

    pub(crate) fn revoke(&mut self) {
        self.access.clear();
        self.refresh.clear();
    }

    /// Whether a refresh token is valid, and whether its scope includes the agent API.
    fn refreshes(&self, token: Option<&str>, now: Instant) -> Option<bool> {
        self.refresh.get(token?).filter(|granted| granted.until > now).map(|granted| granted.agent)
    }
}

/// A JWT as CXone issues it, without a signature.
fn jwt(own: &Tokens, ctx: &Context, rng_text: &str) -> String {
    let exp = ctx.moment().wall.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let exp = exp.as_secs().saturating_add(ctx.behavior.agent.token_ttl.as_secs());
    let claims = json!({ "tenantId": own.logins.tenant, "icBUId": 990_001, "icClusterId": "C99",
        "exp": exp, "jti": rng_text });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{rng_text}", part(&json!({ "alg": "RS256", "typ": "JWT" })), part(&claims))
}

fn grant(own: &mut Tokens, ctx: &mut Context, agent: bool) -> Pair {
    let now = ctx.moment().now;
    let (life, refresh_life) = (ctx.behavior.agent.token_ttl, ctx.behavior.agent.refresh_ttl);
    let signature = token(&mut ctx.rng, "", 32);
    let access = jwt(own, ctx, &signature);
    let refresh = token(&mut ctx.rng, "rt-", 32);
    own.access.retain(|_, granted| granted.until > now);
    own.refresh.retain(|_, granted| granted.until > now);
    own.access.insert(access.clone(), Granted { until: later(now, life), agent });
    own.refresh.insert(refresh.clone(), Granted { until: later(now, refresh_life), agent });
    Pair { access, refresh, life, refresh_life }
}

/// A token without a login, for clients whose tokens come from elsewhere.
pub(crate) fn given(own: &mut Tokens, ctx: &mut Context) -> String {
    grant(own, ctx, true).access
}

fn refused(why: &str) -> Reply {
    json_reply(StatusCode::UNAUTHORIZED, &json!({ "error": "invalid_grant", "error_description": why }))
}

fn ok(body: &Value) -> Reply {
    json_reply(StatusCode::OK, body)
}

/// The address of the sessions, with and without `inContactAPI`.
fn server(own: &Tokens, ctx: &Context) -> (String, String) {
    match &ctx.behavior.agent.resource_server {
        Some(base) => (base.clone(), base.trim_end_matches('/').trim_end_matches("/inContactAPI").to_owned()),
        None => (format!("{}/inContactAPI/", own.url), own.url.clone()),
    }
}

/// `POST InContactAuthorizationServer/Token`.
pub(super) fn central(own: &mut Tokens, ctx: &mut Context, call: &Call) -> Reply {
    let logins = &own.logins;
    let app = call.basic().map(|(name, number)| format!("{name}:{number}"));
    if app.as_deref() != Some(&*logins.app) {
        return refused("client application not authorized");
    }
    let params = Params::of(call);
    let agent = match params.get("grant_type") {
        Some("password") => {
            let is_right =
                params.get("username") == Some(&*logins.username) && params.get("password") == Some(&*logins.password);
            let scope = params.get("scope");
            is_right.then(|| scope.is_none_or(|scope| scope.split(' ').any(|it| it.eq_ignore_ascii_case("AgentApi"))))
        }
        Some("refresh_token") => own.refreshes(params.get("refresh_token"), ctx.moment().now),
        _ => return json_reply(StatusCode::BAD_REQUEST, &json!({ "error": "unsupported_grant_type" })),
    };
    let Some(agent) = agent else { return refused("client application not authorized for user") };
    let scope = if agent { params.get("scope").unwrap_or("AgentApi") } else { "AdminApi" }.to_owned();
    let pair = grant(own, ctx, agent);
    ok(&json!({
        "access_token": pair.access,
        "token_type": "bearer",
        "expires_in": pair.life.as_secs(),
        "refresh_token": pair.refresh,
        "refresh_token_server_uri": format!("{}/InContactAuthorizationServer/Token", own.url),
        "resource_server_base_uri": server(own, ctx).0,
        "scope": scope,
        "agent_id": 7001,
        "team_id": 42,
        "bus_no": 990_001,
    }))
}

/// `POST authentication/v1/token/access-key`.
pub(super) fn access_key(own: &mut Tokens, ctx: &mut Context, call: &Call) -> Reply {
    let params = Params::of(call);
    let logins = &own.logins;
    if params.get("accessKeyId") != Some(&*logins.key_id) || params.get("accessKeySecret") != Some(&*logins.key_secret)
    {
        return refused("unknown access key");
    }
    let pair = grant(own, ctx, true);
    ok(&json!({ "access_token": pair.access, "refresh_token": pair.refresh, "token_type": "Bearer",
        "expires_in": pair.life.as_secs() }))
}

/// `POST public/user/refresh`.
pub(super) fn user_refresh(own: &mut Tokens, ctx: &mut Context, call: &Call) -> Reply {
    let now = ctx.moment().now;
    let Some(agent) = own.refreshes(Params::of(call).get("token"), now) else {
        return refused("unknown refresh token");
    };
    let pair = grant(own, ctx, agent);
    ok(&json!({ "token": pair.access, "refreshToken": pair.refresh, "tokenExpirationTimeSec": pair.life.as_secs(),
        "refreshTokenExpirationTimeSec": pair.refresh_life.as_secs() }))
}

/// `GET .well-known/openid-configuration`.
pub(super) fn openid(own: &Tokens) -> Reply {
    let url = &own.url;
    ok(&json!({ "issuer": url, "token_endpoint": format!("{url}/auth/token") }))
}

/// `GET .well-known/cxone-configuration`, for a tenant or a region.
pub(super) fn configuration(own: &Tokens, ctx: &Context, call: &Call) -> Reply {
    let tenant = &own.logins.tenant;
    if call.query("tenantId").is_some_and(|asked| asked != *tenant) {
        return json_reply(StatusCode::NOT_FOUND, &json!({ "error": "no such tenant" }));
    }
    let url = &own.url;
    let port = url.rsplit(':').next().unwrap_or_default();
    // A client asks `api-{cluster}.{acdDomain}` who it is (incontact-agent-events.md §3): names under `localhost` reach
    // the sandbox.
    let domain = format!("localhost:{port}");
    ok(&json!({ "private": false, "area": "sandbox", "cluster": "c99", "domain": domain, "acdDomain": domain,
        "uhDomain": domain, "ui_endpoint": url, "auth_endpoint": url, "api_endpoint": server(own, ctx).1,
        "tenantId": tenant }))
}

/// `POST auth/token`.
pub(super) fn cxone(own: &mut Tokens, ctx: &mut Context, call: &Call) -> Reply {
    let logins = &own.logins;
    let client = call.basic().is_some_and(|(id, secret)| id == logins.client_id && secret == logins.client_secret);
    if !client {
        return json_reply(StatusCode::UNAUTHORIZED, &json!({ "error": "invalid_client" }));
    }
    let params = Params::of(call);
    let agent = match params.get("grant_type") {
        Some("password") => {
            let is_right =
                params.get("username") == Some(&*logins.key_id) && params.get("password") == Some(&*logins.key_secret);
            is_right.then_some(true)
        }
        Some("refresh_token") => own.refreshes(params.get("refresh_token"), ctx.moment().now),
        _ => return json_reply(StatusCode::BAD_REQUEST, &json!({ "error": "unsupported_grant_type" })),
    };
    let Some(agent) = agent else { return refused("unknown access key") };
    let pair = grant(own, ctx, agent);
    ok(&json!({ "access_token": pair.access, "id_token": pair.access, "token_type": "Bearer",
        "expires_in": pair.life.as_secs(), "refresh_token": pair.refresh,
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token" }))
}

/// `POST incontactauthorizationserver/token/whoami`.
pub(super) fn who_am_i(own: &Tokens, ctx: &Context, call: &Call) -> Reply {
    let params = Params::of(call);
    let now = ctx.moment().now;
    let known = params.get("token").and_then(|token| own.access.get(token));
    if known.is_none_or(|granted| granted.until <= now) {
        return refused("unknown token");
    }
    ok(&json!({ "resource_server_base_uri": server(own, ctx).0, "team_id": 42, "agent_id": 7001, "bus_no": 990_001 }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sandbox;

    #[tokio::test(start_paused = true)]
    async fn a_token_is_valid_until_it_expires_and_is_then_dropped() {
        let sandbox = Sandbox::start().await.unwrap();
        let access = sandbox.contact_center().access_token().expose().to_owned();
        {
            let state = sandbox.shared.lock();
            let tokens = &state.center.tokens;
            let bearer = format!("Bearer {access}").parse().unwrap();
            let mut call = Call::bare(http::Method::GET, "/", "");
            call.headers.insert(http::header::AUTHORIZATION, bearer);
            let (until, before) = (tokens.access[&access].until, Duration::from_millis(1));
            assert_eq!(tokens.check(&call, until - before), Ok(()));
            assert_eq!(tokens.check(&call, until), Err(Denied::Token));
            let (refresh, granted) = tokens.refresh.iter().next().unwrap();
            assert_eq!(tokens.refreshes(Some(refresh), granted.until - before), Some(true));
            assert_eq!(tokens.refreshes(Some(refresh), granted.until), None);
        }
        sandbox.advance(Duration::from_secs(3600));
        let _access = sandbox.contact_center().access_token();
        assert_eq!(sandbox.shared.lock().center.tokens.access.len(), 1);
    }
}
