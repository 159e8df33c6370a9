//! Timeouts of sockets and sessions.

use serde_json::Value;
use tokio::time::Instant;

use super::super::state::{State, later};
use super::super::subscriptions;
use super::TokenExpiry;
use super::requests::{self, Later};
use super::sockets::{self, End, Out, Socket};

/// The next deadline.
pub(in super::super) fn next_deadline(state: &State) -> Option<Instant> {
    let knobs = &state.knobs.gateway;
    let open = state.gateway.sockets.values().filter(|socket| !socket.ending);
    let sockets = open.flat_map(|socket| {
        let login = socket.login.filter(|_| knobs.token_expiry == TokenExpiry::Close);
        [
            Some(later(socket.opened, socket.limits.absolute_timeout)),
            Some(later(socket.traffic, socket.limits.idle_timeout)),
            Some(socket.pong_due.unwrap_or_else(|| next_probe(socket))),
            login.and_then(|login| state.oauth.socket_until(login)),
        ]
    });
    let sessions = state.gateway.sessions.iter().map(super::Session::ends_at);
    sockets.chain(sessions).flatten().min()
}

/// When a socket is pinged next, or dropped for a missing pong.
fn next_probe(socket: &Socket) -> Instant {
    if socket.is_silent() { later(socket.ping_at, socket.limits.pong_deadline) } else { socket.ping_at }
}

/// Performs what is due.
pub(in super::super) fn run_due(state: &mut State) {
    let ids: Vec<u64> = state.gateway.sockets.iter().filter(|(_, socket)| !socket.ending).map(|(id, _)| *id).collect();
    for id in ids {
        run_socket(state, id);
    }
    let now = state.moment().now;
    let is_over = |session: &super::Session| session.ends_at().is_some_and(|end| now >= end);
    let over: Vec<Option<String>> = state
        .gateway
        .sessions
        .iter()
        .filter(|session| is_over(session))
        .map(|held| held.subscription.clone())
        .collect();
    state.gateway.sessions.retain(|session| !is_over(session));
    for subscription in over.into_iter().flatten() {
        subscriptions::orphan(state, &subscription);
    }
}

/// Performs a delayed action.
pub(in super::super) fn run_later(state: &mut State, due: Later) {
    requests::run(state, due);
}

fn run_socket(state: &mut State, id: u64) {
    let now = state.moment().now;
    let Some(socket) = state.gateway.sockets.get(&id) else { return };
    let limits = &socket.limits;
    if now >= later(socket.opened, limits.absolute_timeout) {
        return sockets::fail(state, id, &Value::Null, 408, "WSG-903", "Absolute timeout expired");
    }
    if now >= later(socket.traffic, limits.idle_timeout) {
        return sockets::fail(state, id, &Value::Null, 408, "WSG-902", "Idle timeout expired");
    }
    if is_expired(state, socket, now) {
        let code = state.knobs.gateway.close_code;
        return sockets::end(state, id, End::Close(code, String::new()));
    }
    if socket.is_silent() && now >= later(socket.ping_at, limits.pong_deadline) {
        return sockets::end(state, id, End::Park);
    }
    if socket.pong_due.is_some_and(|due| now >= due) {
        return sockets::end(state, id, End::Drop);
    }
    if socket.pong_due.is_none() && now >= socket.ping_at {
        let due = later(now, limits.pong_deadline);
        if let Some(socket) = state.gateway.sockets.get_mut(&id) {
            socket.pong_due = Some(due);
            socket.push(Out::Ping);
        }
    }
}

fn is_expired(state: &State, socket: &Socket, now: Instant) -> bool {
    state.knobs.gateway.token_expiry == TokenExpiry::Close
        && socket.login.is_some_and(|login| state.oauth.socket_until(login).is_none_or(|until| now >= until))
}

/// Handles a pong.
pub(super) fn pong(state: &mut State, id: u64) {
    let now = state.moment().now;
    if let Some(socket) = state.gateway.sockets.get_mut(&id) {
        socket.pong_due = None;
        socket.ping_at = later(now, socket.limits.ping_period);
        state.schedule.poke();
    }
}

/// Handles a ping.
pub(super) fn ping(state: &mut State, id: u64) {
    let now = state.moment().now;
    if let Some(socket) = state.gateway.sockets.get_mut(&id)
        && socket.limits.ping_resets_idle
    {
        socket.traffic = now;
    }
}

/// Shifts the pong deadlines after the sandbox's clock moved, so that no client is late.
pub(in super::super) fn clock_moved(state: &mut State, by: std::time::Duration) {
    for socket in state.gateway.sockets.values_mut() {
        socket.pong_due = socket.pong_due.map(|due| later(due, by));
    }
}
