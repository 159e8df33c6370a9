//! Socket tokens and upgrade requests.

use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::json;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Gateway, PATH, WsToken};
use crate::behavior::AuthRefusal;
use crate::clock::later;
use crate::context::Context;
use crate::http::{Call, Refused, Reply, empty_reply, json_reply};
use crate::oauth::OAuth;
use crate::random::token;

/// Accompanies a 101: the socket's owner.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    /// The login; `None` for a socket that is opened only to be closed.
    pub(super) login: Option<u64>,
    /// The resume token from the request.
    pub(super) wsc: Option<String>,
}

/// `POST /restapi/oauth/wstoken` for a login.
pub(crate) fn issue(own: &mut Gateway, ctx: &mut Context, login: u64) -> Result<Reply, Refused> {
    if !ctx.behavior.gateway.may_connect {
        let message = "In order to call this API endpoint, application needs [WebSocketsSubscription] permission";
        return Err(Refused::new(403, "CMN-401", message));
    }
    let now = ctx.moment().now;
    let ttl = ctx.behavior.gateway.wstoken_ttl;
    let token = token(&mut ctx.rng, "U0pDV1M", 40);
    own.tokens.retain(|held| now < held.until);
    own.tokens.push(WsToken { token: token.clone(), login, until: later(now, ttl), used: false });
    let body = json!({ "uri": own.url, "ws_access_token": token, "expires_in": ttl.as_secs() });
    Ok(json_reply(StatusCode::OK, &body))
}

/// Answers an upgrade request: 101 with [`Admitted`] in its extensions, or a refusal.
pub(crate) fn admit(own: &mut Gateway, ctx: &Context, oauth: &OAuth, call: &Call) -> Reply {
    if call.path.trim_end_matches('/') != PATH {
        return Refused::new(404, "AGW-404", "The gateway has one resource").reply();
    }
    let Some(accept) = accept_key(call) else {
        let mut reply = empty_reply(StatusCode::UPGRADE_REQUIRED);
        reply.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        return reply;
    };
    let given = call.query("access_token").or_else(|| call.scheme("bearer").map(str::to_owned));
    let login = given.and_then(|given| spend(own, ctx, oauth, &given));
    let behavior = &ctx.behavior.gateway;
    match login {
        None if behavior.refusal == AuthRefusal::Status401 => {
            return Refused::new(401, "OAU-213", "Token not found").reply();
        }
        Some(login) => {
            let held = own.open_sockets().filter(|socket| socket.login == Some(login)).count();
            if held >= behavior.max_connections {
                return Refused::new(429, "CMN-301", "Too many connections of this session").reply();
            }
        }
        None => {}
    }
    let mut reply = empty_reply(StatusCode::SWITCHING_PROTOCOLS);
    let headers = reply.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    reply.extensions_mut().insert(Admitted { login, wsc: call.query("wsc") });
    reply
}

/// The login of a socket token; uses the token up.
fn spend(own: &mut Gateway, ctx: &Context, oauth: &OAuth, given: &str) -> Option<u64> {
    let now = ctx.moment().now;
    let reuse = ctx.behavior.gateway.wstoken_reuse;
    let held = own.tokens.iter_mut().find(|held| held.token == given && now < held.until)?;
    if std::mem::replace(&mut held.used, true) && !reuse {
        return None;
    }
    let login = held.login;
    // The token's lifetime may exceed its login's, which then counts.
    oauth.access_until(login).filter(|until| now < *until).map(|_| login)
}

fn accept_key(call: &Call) -> Option<HeaderValue> {
    let has = |name: HeaderName, word: &str| names(&call.headers, &name, word);
    if call.method != Method::GET || !has(UPGRADE, "websocket") || !has(CONNECTION, "upgrade") {
        return None;
    }
    if !has(SEC_WEBSOCKET_VERSION, "13") {
        return None;
    }
    let key = call.headers.get(SEC_WEBSOCKET_KEY)?;
    HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok()
}

fn names(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
}
