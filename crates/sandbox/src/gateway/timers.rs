//! Timeouts of sockets and sessions.

use serde_json::Value;
use tokio::time::Instant;

use super::Gateway;
use super::requests;
use super::sockets::{self, End, Out, Socket};
use crate::behavior::TokenExpiry;
use crate::clock::later;
use crate::context::Context;
use crate::oauth::OAuth;

/// The next deadline.
pub(crate) fn next_deadline(own: &Gateway, ctx: &Context, oauth: &OAuth) -> Option<Instant> {
    let behavior = &ctx.behavior.gateway;
    let open = own.sockets.values().filter(|socket| !socket.ending);
    let sockets = open.flat_map(|socket| {
        let login = socket.login.filter(|_| behavior.token_expiry == TokenExpiry::Close);
        [
            Some(later(socket.opened, socket.limits.absolute_timeout)),
            Some(later(socket.traffic, socket.limits.idle_timeout)),
            Some(socket.pong_due.unwrap_or_else(|| next_probe(socket))),
            login.and_then(|login| oauth.socket_until(login)),
        ]
    });
    let sessions = own.sessions.iter().map(super::Session::ends_at);
    sockets.chain(sessions).flatten().chain(own.timers.next()).min()
}

/// When a socket is pinged next, or dropped for a missing pong.
fn next_probe(socket: &Socket) -> Instant {
    if socket.is_silent() { later(socket.ping_at, socket.limits.pong_deadline) } else { socket.ping_at }
}

/// Performs what is due; returns the subscriptions of the sessions that ended.
pub(crate) fn run_due(own: &mut Gateway, ctx: &mut Context, oauth: &OAuth) -> Vec<String> {
    let now = ctx.moment().now;
    for action in own.timers.take(now) {
        requests::run(own, ctx, action);
    }
    let ids: Vec<u64> = own.sockets.iter().filter(|(_, socket)| !socket.ending).map(|(id, _)| *id).collect();
    for id in ids {
        run_socket(own, ctx, oauth, id);
    }
    let is_over = |session: &super::Session| session.ends_at().is_some_and(|end| now >= end);
    let over: Vec<Option<String>> =
        own.sessions.iter().filter(|session| is_over(session)).map(|held| held.subscription.clone()).collect();
    own.sessions.retain(|session| !is_over(session));
    over.into_iter().flatten().collect()
}

fn run_socket(own: &mut Gateway, ctx: &mut Context, oauth: &OAuth, id: u64) {
    let now = ctx.moment().now;
    let Some(socket) = own.sockets.get(&id) else { return };
    let limits = &socket.limits;
    if now >= later(socket.opened, limits.absolute_timeout) {
        return sockets::fail(own, ctx, id, &Value::Null, 408, "WSG-903", "Absolute timeout expired");
    }
    if now >= later(socket.traffic, limits.idle_timeout) {
        return sockets::fail(own, ctx, id, &Value::Null, 408, "WSG-902", "Idle timeout expired");
    }
    if is_expired(ctx, oauth, socket, now) {
        let code = ctx.behavior.gateway.close_code;
        return sockets::end(own, ctx, id, End::Close(code, String::new()));
    }
    if socket.is_silent() && now >= later(socket.ping_at, limits.pong_deadline) {
        return sockets::end(own, ctx, id, End::Park);
    }
    if socket.pong_due.is_some_and(|due| now >= due) {
        return sockets::end(own, ctx, id, End::Drop);
    }
    if socket.pong_due.is_none() && now >= socket.ping_at {
        let due = later(now, limits.pong_deadline);
        if let Some(socket) = own.sockets.get_mut(&id) {
            socket.pong_due = Some(due);
            socket.push(Out::Ping);
        }
    }
}

fn is_expired(ctx: &Context, oauth: &OAuth, socket: &Socket, now: Instant) -> bool {
    ctx.behavior.gateway.token_expiry == TokenExpiry::Close
        && socket.login.is_some_and(|login| oauth.socket_until(login).is_none_or(|until| now >= until))
}

/// Handles a pong.
pub(crate) fn pong(own: &mut Gateway, ctx: &Context, id: u64) {
    let now = ctx.moment().now;
    if let Some(socket) = own.sockets.get_mut(&id) {
        socket.pong_due = None;
        socket.ping_at = later(now, socket.limits.ping_period);
        ctx.poke();
    }
}

/// Handles a ping.
pub(crate) fn ping(own: &mut Gateway, ctx: &Context, id: u64) {
    let now = ctx.moment().now;
    if let Some(socket) = own.sockets.get_mut(&id)
        && socket.limits.ping_resets_idle
    {
        socket.traffic = now;
    }
}

/// Shifts the pong deadlines after the sandbox's clock moved, so that no client is late.
pub(crate) fn clock_moved(own: &mut Gateway, by: std::time::Duration) {
    for socket in own.sockets.values_mut() {
        socket.pong_due = socket.pong_due.map(|due| later(due, by));
    }
}
