//! Logins: `/restapi/oauth/*`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::behavior::{Behavior, TokenExpiry};
use super::clock::later;
use super::context::{Context, Identity};
use super::http::{Call, Refused, Reply, empty_reply, json_reply};
use super::random::token;

/// Lifetime of an authorization code.
const CODE_LIFE: Duration = Duration::from_secs(60);
/// How long a used refresh token works while the new access token is unused.
const UNUSED_GRACE: Duration = Duration::from_secs(3600);
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const SCOPE: &str =
    "ReadMessages ReadPresence ReadAccounts SMS TeamMessaging CallControl SubscriptionWebhook WebSocketsSubscription";

/// Maximum number of ended logins remembered for their sockets.
const LOGGED_OUT: usize = 64;

/// Sessions and codes.
#[derive(Debug, Default)]
pub(crate) struct OAuth {
    sessions: Vec<Session>,
    next_id: u64,
    codes: Vec<Code>,
    /// Ended logins, and when their sockets end.
    logged_out: Vec<(u64, Instant)>,
    /// Number of tokens issued since the start, for tests that count logins.
    issued: u64,
}

#[derive(Debug)]
struct Session {
    /// Does not change on refresh.
    id: u64,
    client_id: String,
    access: String,
    access_until: Instant,
    /// When the access token was first used.
    used_at: Option<Instant>,
    refresh: Option<(String, Instant)>,
    /// The previous refresh token, and when it was used.
    spent_refresh: Option<(String, Instant)>,
    scope: String,
}

#[derive(Debug)]
struct Code {
    code: String,
    client_id: String,
    redirect_uri: String,
    challenge: Option<(String, bool)>,
    until: Instant,
}

/// An error of the token endpoint: OAuth's error and RingCentral's code.
struct GrantRefused {
    error: &'static str,
    code: &'static str,
    description: &'static str,
}

impl GrantRefused {
    fn reply(&self) -> Reply {
        json_reply(
            StatusCode::BAD_REQUEST,
            &json!({
                "error": self.error,
                "error_description": self.description,
                "errors": [{ "errorCode": self.code, "message": self.description }],
            }),
        )
    }
}

const BAD_CLIENT: GrantRefused =
    GrantRefused { error: "invalid_client", code: "OAU-146", description: "Invalid client credentials" };
const NO_CLIENT: GrantRefused =
    GrantRefused { error: "invalid_client", code: "OAU-123", description: "Client authentication is required" };
const BAD_USER: GrantRefused =
    GrantRefused { error: "invalid_grant", code: "OAU-140", description: "Invalid resource owner credentials" };
const BAD_CODE: GrantRefused =
    GrantRefused { error: "invalid_grant", code: "OAU-106", description: "Invalid authorization code" };
const EXPIRED_CODE: GrantRefused =
    GrantRefused { error: "invalid_grant", code: "OAU-108", description: "Authorization code is expired" };
const OTHER_REDIRECT: GrantRefused =
    GrantRefused { error: "invalid_grant", code: "OAU-109", description: "Redirect URIs do not match" };
const DEAD_REFRESH: GrantRefused =
    GrantRefused { error: "invalid_grant", code: "OAU-213", description: "Token not found" };
const SPENT_REFRESH: GrantRefused =
    GrantRefused { error: "invalid_grant", code: "OAU-211", description: "Token revoked" };
const BAD_GRANT: GrantRefused =
    GrantRefused { error: "unsupported_grant_type", code: "OAU-250", description: "Unsupported grant type" };

struct Form(Vec<(String, String)>);

impl Form {
    fn read(call: &Call) -> Self {
        Self(url::form_urlencoded::parse(&call.body).into_owned().collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    fn ttl(&self, name: &str, default: Duration, range: std::ops::RangeInclusive<u64>) -> Duration {
        let asked = self.get(name).and_then(|text| text.parse::<u64>().ok());
        asked.map_or(default, |seconds| Duration::from_secs(seconds.clamp(*range.start(), *range.end())))
    }
}

/// The requesting app: authenticated, or public.
fn client(call: &Call, form: &Form, identity: &Identity) -> Result<(String, bool), GrantRefused> {
    if let Some((id, secret)) = call.basic() {
        let known = id == identity.client_id && secret == identity.client_secret;
        return if known { Ok((id, true)) } else { Err(BAD_CLIENT) };
    }
    if call.headers.contains_key(header::AUTHORIZATION) {
        return Err(GrantRefused { description: "Invalid Authorization header", code: "OAU-123", ..BAD_CLIENT });
    }
    if let Some(assertion) = form.get("client_assertion") {
        let known = form.get("client_assertion_type") == Some(ASSERTION_TYPE)
            && subject(assertion).is_some_and(|subject| subject == identity.client_id)
            && form.get("client_id").is_none_or(|id| id == identity.client_id);
        return if known { Ok((identity.client_id.clone(), true)) } else { Err(BAD_CLIENT) };
    }
    match form.get("client_id") {
        Some(id) if id == identity.public_client_id => Ok((id.to_owned(), false)),
        Some(id) if id == identity.client_id => Err(NO_CLIENT),
        Some(_) => Err(BAD_CLIENT),
        None => Err(NO_CLIENT),
    }
}

/// The subject of a JWT. The signature is not checked, since the sandbox has no key.
fn subject(jwt: &str) -> Option<String> {
    let claims = URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    claims["sub"].as_str().map(str::to_owned)
}

/// `POST /restapi/oauth/token`.
pub(crate) fn grant(oauth: &mut OAuth, ctx: &mut Context, call: &Call) -> Reply {
    grant_inner(oauth, ctx, call).unwrap_or_else(|refused| refused.reply())
}

fn grant_inner(oauth: &mut OAuth, ctx: &mut Context, call: &Call) -> Result<Reply, GrantRefused> {
    let form = Form::read(call);
    let (client_id, confidential) = client(call, &form, &ctx.identity)?;
    let now = ctx.moment().now;
    match form.get("grant_type") {
        Some("urn:ietf:params:oauth:grant-type:jwt-bearer") => {
            if !confidential {
                return Err(NO_CLIENT);
            }
            if form.get("assertion") != Some(&ctx.identity.jwt) {
                return Err(BAD_USER);
            }
        }
        Some("password") => {
            let identity = &ctx.identity;
            let user = form.get("username").unwrap_or_default().split('*').next();
            if user != Some(&identity.username) || form.get("password") != Some(&identity.password) {
                return Err(BAD_USER);
            }
        }
        Some("authorization_code") => redeem(oauth, &form, &client_id, confidential, now)?,
        Some("refresh_token") => return refresh(oauth, ctx, &form, &client_id, now),
        _ => return Err(BAD_GRANT),
    }
    let session = new_session(oauth, ctx, &form, client_id, now);
    let reply = token_reply(&session, &ctx.identity, now);
    oauth.sessions.push(session);
    let surplus = oauth.sessions.len().saturating_sub(ctx.behavior.max_sessions.max(1));
    oauth.sessions.drain(..surplus);
    Ok(reply)
}

fn redeem(
    oauth: &mut OAuth,
    form: &Form,
    client_id: &str,
    confidential: bool,
    now: Instant,
) -> Result<(), GrantRefused> {
    let wanted = form.get("code").ok_or(BAD_CODE)?;
    let at = oauth.codes.iter().position(|code| code.code == wanted && code.client_id == client_id).ok_or(BAD_CODE)?;
    let code = oauth.codes.swap_remove(at);
    if now >= code.until {
        return Err(EXPIRED_CODE);
    }
    if form.get("redirect_uri") != Some(&code.redirect_uri) {
        return Err(OTHER_REDIRECT);
    }
    let Some((challenge, hashed)) = code.challenge else {
        // A public app authenticates by PKCE only.
        return if confidential { Ok(()) } else { Err(NO_CLIENT) };
    };
    let verifier = form.get("code_verifier").ok_or(BAD_CODE)?;
    let shown = if hashed { URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)) } else { verifier.to_owned() };
    if shown == challenge { Ok(()) } else { Err(BAD_CODE) }
}

fn refresh(
    oauth: &mut OAuth,
    ctx: &mut Context,
    form: &Form,
    client_id: &str,
    now: Instant,
) -> Result<Reply, GrantRefused> {
    let wanted = form.get("refresh_token").ok_or(DEAD_REFRESH)?;
    let grace = ctx.behavior.refresh_reuse_grace;
    let is = |held: &Option<(String, Instant)>| held.as_ref().is_some_and(|(token, _)| token == wanted);
    let at = oauth
        .sessions
        .iter()
        .position(|session| session.client_id == client_id && (is(&session.refresh) || is(&session.spent_refresh)))
        .ok_or(DEAD_REFRESH)?;
    let session = &oauth.sessions[at];
    if let Some((spent, spent_at)) = &session.spent_refresh
        && spent == wanted
    {
        let until = session.used_at.map_or(*spent_at + UNUSED_GRACE, |used| later(used, grace));
        // Returns the same new token again, so that a client can recover from a lost response.
        return if now < until { Ok(token_reply(session, &ctx.identity, now)) } else { Err(SPENT_REFRESH) };
    }
    if session.refresh.as_ref().is_some_and(|(_, until)| now >= *until) {
        oauth.sessions.remove(at);
        return Err(DEAD_REFRESH);
    }
    let mut next = new_session(oauth, ctx, form, client_id.to_owned(), now);
    next.id = oauth.sessions[at].id;
    next.spent_refresh = Some((wanted.to_owned(), now));
    let reply = token_reply(&next, &ctx.identity, now);
    oauth.sessions[at] = next;
    Ok(reply)
}

fn new_session(oauth: &mut OAuth, ctx: &mut Context, form: &Form, client_id: String, now: Instant) -> Session {
    let Behavior { access_token_ttl, refresh_token_ttl, issue_refresh_tokens, .. } = ctx.behavior;
    let access_ttl = form.ttl("access_token_ttl", access_token_ttl, 600..=3600);
    // Caps the requested lifetime at the app's; the service's minimum is not published.
    let asked = form.get("refresh_token_ttl").and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let refresh_ttl = asked.filter(|ttl| !ttl.is_zero()).map_or(refresh_token_ttl, |ttl| ttl.min(refresh_token_ttl));
    oauth.issued += 1;
    oauth.next_id += 1;
    Session {
        id: oauth.next_id,
        client_id,
        access: token(&mut ctx.rng, "U0pD", 96),
        access_until: later(now, access_ttl.min(access_token_ttl)),
        used_at: None,
        refresh: issue_refresh_tokens.then(|| (token(&mut ctx.rng, "U0pR", 96), later(now, refresh_ttl))),
        spent_refresh: None,
        scope: form.get("scope").unwrap_or(SCOPE).to_owned(),
    }
}

fn token_reply(session: &Session, identity: &Identity, now: Instant) -> Reply {
    let left = |until: Instant| until.saturating_duration_since(now).as_secs();
    let mut body = json!({
        "access_token": session.access,
        "token_type": "bearer",
        "expires_in": left(session.access_until),
        "scope": session.scope,
        "owner_id": identity.extension_id,
        "endpoint_id": "sandbox-endpoint",
    });
    if let Some((token, until)) = &session.refresh {
        body["refresh_token"] = json!(token);
        body["refresh_token_expires_in"] = json!(left(*until));
    }
    json_reply(StatusCode::OK, &body)
}

/// `POST /restapi/oauth/revoke`: ends the token's session.
pub(crate) fn revoke(oauth: &mut OAuth, ctx: &mut Context, call: &Call) -> Reply {
    let form = Form::read(call);
    if let Err(refused) = client(call, &form, &ctx.identity) {
        return refused.reply();
    }
    let Some(token) = form.get("token").map(str::to_owned).or_else(|| call.query("token")) else {
        return Refused::parameter("token").reply();
    };
    let is_ended = |session: &Session| {
        session.access == token || session.refresh.as_ref().is_some_and(|(refresh, _)| *refresh == token)
    };
    // A socket that becomes a zombie does so at once.
    let closes = ctx.behavior.gateway.token_expiry == TokenExpiry::Close;
    let grace = if closes { ctx.behavior.gateway.logout_grace } else { Duration::ZERO };
    let until = later(ctx.moment().now, grace);
    let OAuth { sessions, logged_out, .. } = oauth;
    logged_out.extend(sessions.iter().filter(|it| is_ended(it)).map(|it| (it.id, until.min(it.access_until))));
    logged_out.drain(..logged_out.len().saturating_sub(LOGGED_OUT));
    sessions.retain(|session| !is_ended(session));
    empty_reply(StatusCode::OK)
}

/// `GET /restapi/oauth/authorize`: the user always consents.
pub(crate) fn authorize(oauth: &mut OAuth, ctx: &mut Context, call: &Call) -> Reply {
    let identity = &ctx.identity;
    let client_id = call.query("client_id").unwrap_or_default();
    if client_id != identity.client_id && client_id != identity.public_client_id {
        return Refused::new(400, "OAU-153", "Invalid client application").reply();
    }
    if call.query("response_type").as_deref() != Some("code") {
        return Refused::parameter("response_type").reply();
    }
    let redirect_uri = call.query("redirect_uri").unwrap_or_default();
    let Ok(mut location) = url::Url::parse(&redirect_uri) else {
        return Refused::new(403, "OAU-109", "Redirect URI is not usable").reply();
    };
    let hashed = call.query("code_challenge_method").as_deref() == Some("S256");
    let code = token(&mut ctx.rng, "C0", 40);
    let until = ctx.moment().now + CODE_LIFE;
    oauth.codes.retain(|code| code.until > until - CODE_LIFE);
    oauth.codes.push(Code {
        code: code.clone(),
        client_id,
        redirect_uri,
        challenge: call.query("code_challenge").map(|challenge| (challenge, hashed)),
        until,
    });
    {
        let mut query = location.query_pairs_mut();
        query.append_pair("code", &code).append_pair("expires_in", &CODE_LIFE.as_secs().to_string());
        if let Some(given) = call.query("state") {
            query.append_pair("state", &given);
        }
    }
    let mut reply = empty_reply(StatusCode::FOUND);
    match HeaderValue::try_from(location.as_str()) {
        Ok(location) => {
            reply.headers_mut().insert(header::LOCATION, location);
            reply
        }
        Err(_) => Refused::parameter("redirect_uri").reply(),
    }
}

/// Checks the bearer token of an API call, or the login of its socket. Returns the login's id.
pub(crate) fn check(oauth: &mut OAuth, ctx: &Context, call: &Call) -> Result<u64, Refused> {
    if let Some(carrier) = &call.socket {
        return oauth.check_login(carrier.login, ctx.moment().now);
    }
    if !call.headers.contains_key(header::AUTHORIZATION) {
        return Err(Refused::new(401, "AGW-401", "Authorization header is not specified"));
    }
    let Some(bearer) = call.scheme("bearer") else {
        return Err(Refused::new(401, "AGW-402", "Invalid Authorization header"));
    };
    let now = ctx.moment().now;
    let Some(session) = oauth.sessions.iter_mut().find(|session| session.access == bearer) else {
        return Err(Refused::new(401, "OAU-213", "Token not found"));
    };
    if now >= session.access_until {
        return Err(Refused::new(401, "OAU-128", "Access token expired"));
    }
    session.used_at.get_or_insert(now);
    Ok(session.id)
}

impl OAuth {
    /// Checks the login of a socket.
    fn check_login(&self, login: Option<u64>, now: Instant) -> Result<u64, Refused> {
        let until = login.and_then(|login| Some((login, self.socket_until(login)?)));
        match until {
            None => Err(Refused::new(401, "OAU-213", "Token not found")),
            Some((_, until)) if now >= until => Err(Refused::new(401, "OAU-128", "Access token expired")),
            Some((login, _)) => Ok(login),
        }
    }

    /// Expires every access token now.
    pub(crate) fn expire_access(&mut self, now: Instant) {
        for session in &mut self.sessions {
            session.access_until = now;
        }
    }

    /// When the access token of a login expires; `None` if the login has ended.
    pub(crate) fn access_until(&self, login: u64) -> Option<Instant> {
        self.sessions.iter().find(|session| session.id == login).map(|session| session.access_until)
    }

    /// When the sockets of a login end.
    pub(crate) fn socket_until(&self, login: u64) -> Option<Instant> {
        let ended = || self.logged_out.iter().find(|(id, _)| *id == login).map(|(_, until)| *until);
        self.access_until(login).or_else(ended)
    }

    /// Ends every session.
    pub(crate) fn revoke_all(&mut self) {
        self.sessions.clear();
    }

    /// The number of live sessions, and of tokens issued since the start.
    pub(crate) fn counts(&self) -> (usize, u64) {
        (self.sessions.len(), self.issued)
    }
}
