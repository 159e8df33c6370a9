//! The first frame of a socket, and the replay of missed events.

use std::time::Duration;

use serde_json::{Value, json};

use super::Gateway;
use super::events::{scripted, send_event, transmit};
use super::frame::{self, Wsc};
use super::requests::{self, Later};
use super::session::{Rules, Session, Verdict, judge};
use super::sockets::{End, Out, detach, end, fail};
use crate::behavior::LiveRecovery;
use crate::clock::later;
use crate::context::Context;
use crate::faults::Action;
use crate::requests::Operation;

/// Finds or creates the session, sends `ConnectionDetails` and the missed events.
pub(super) fn greet(own: &mut Gateway, ctx: &mut Context, id: u64) {
    let Some(socket) = own.sockets.get(&id).filter(|socket| !socket.ending) else { return };
    let (Some(login), name) = (socket.login, socket.name.clone()) else { return };
    let behavior = &socket.limits;
    let rules = Rules {
        same_login: behavior.recovery_needs_same_login,
        needs_subscription: behavior.recovery_needs_subscription,
        take_over: behavior.live_recovery == LiveRecovery::TakeOver,
        late_code: behavior.late_recovery_code.clone(),
    };
    let moment = ctx.moment();
    let verdict = judge(&own.sessions, socket.wsc.as_deref(), login, rules, moment.now);
    if verdict == Verdict::Malformed {
        return fail(own, ctx, id, &json!(name), 400, "WSG-400", "Malformed WebSocket session context token");
    }
    let hit = scripted(ctx, Operation::ConnectionDetails);
    match hit {
        Some(Action::ErrorFrame { status, code } | Action::Code { status, code, .. }) => {
            return fail(own, ctx, id, &json!(name), status, &code, "Scripted by the sandbox");
        }
        Some(Action::Status { status, .. }) => {
            return fail(own, ctx, id, &json!(name), status, "WSG-400", "Scripted by the sandbox");
        }
        Some(Action::Delay { by }) => {
            return own.timers.add(ctx, later(moment.now, by), Later::Greet(id));
        }
        _ => {}
    }
    let resumed = matches!(verdict, Verdict::Resumed(_));
    let session = attach(own, ctx, id, login, &verdict);
    let Some(wsc) = new_wsc(own, ctx, session) else { return };
    let body = describe(own, ctx, id, &verdict);
    transmit(own, ctx, id, frame::details(&name, Some(&wsc), Some(&body)), None, hit);
    let Some(socket) = own.sockets.get_mut(&id) else { return };
    socket.greeted = true;
    socket.replaying = true;
    // Only a resumed session can have events to replay.
    let delay = if resumed { socket.limits.replay_delay } else { Duration::ZERO };
    if delay.is_zero() {
        if !socket.limits.coalesce_replay {
            socket.push(Out::Flush);
        }
        replay(own, ctx, id);
    } else {
        own.timers.add(ctx, later(moment.now, delay), Later::Replay(id));
    }
    let early = own.sockets.get_mut(&id).map(|socket| std::mem::take(&mut socket.early));
    for text in early.unwrap_or_default() {
        requests::received(own, ctx, id, &text);
    }
}

/// Attaches the socket to the resumed session, or to a new one.
fn attach(own: &mut Gateway, ctx: &mut Context, id: u64, login: u64, verdict: &Verdict) -> u64 {
    let moment = ctx.moment();
    let session = match verdict {
        Verdict::Resumed(session) => *session,
        Verdict::Fresh | Verdict::Malformed | Verdict::Failed(_) => {
            let behavior = &ctx.behavior.gateway;
            let sequence = if behavior.wsc_sequence_restarts { 0 } else { own.sequence };
            let session = own.id();
            let (timeout, size) = (behavior.recovery_timeout, behavior.recovery_buffer_size);
            own.sessions.push(Session::new(session, login, timeout, size, sequence, moment.wall));
            session
        }
    };
    let former = own.session(session).and_then(|session| session.socket);
    if let Some(former) = former {
        let code = ctx.behavior.gateway.close_code;
        detach(own, ctx, former, true);
        end(own, ctx, former, End::Close(code, String::new()));
    }
    if let Some(held) = own.session(session) {
        held.socket = Some(id);
        held.lost_at = None;
        held.login = login;
    }
    if let Some(socket) = own.sockets.get_mut(&id) {
        socket.session = Some(session);
    }
    session
}

/// A new resume token for a session.
pub(super) fn new_wsc(own: &mut Gateway, ctx: &mut Context, session: u64) -> Option<Wsc> {
    let wsc = own.session(session)?.next_wsc(&mut ctx.rng);
    own.sequence = own.sequence.max(wsc.sequence);
    Some(wsc)
}

/// The body of `ConnectionDetails`.
fn describe(own: &mut Gateway, ctx: &Context, id: u64, verdict: &Verdict) -> Value {
    let created = own.session_of(id).map(|session| session.created);
    let format = ctx.behavior.gateway.creation_time_format;
    let created = created.map(|created| ctx.write_time_as(created, format));
    let behavior = own.sockets.get(&id).map_or(&ctx.behavior.gateway, |socket| &socket.limits);
    let mut body = json!({
        "creationTime": created,
        "maxConnectionsPerSession": behavior.max_connections,
        "recoveryBufferSize": behavior.recovery_buffer_size,
        "recoveryTimeout": behavior.recovery_timeout.as_secs(),
        "idleTimeout": behavior.idle_timeout.as_secs(),
        "absoluteTimeout": behavior.absolute_timeout.as_secs(),
        "maxActiveRequests": behavior.max_active_requests,
    });
    match verdict {
        Verdict::Fresh | Verdict::Malformed => {}
        Verdict::Resumed(_) => body["recoveryState"] = json!("Successful"),
        Verdict::Failed(code) => {
            body["recoveryState"] = json!("Failed");
            if let Some(code) = code {
                body["recoveryErrorCode"] = json!(code);
            }
        }
    }
    body
}

/// Sends the events that a session missed.
pub(super) fn replay(own: &mut Gateway, ctx: &mut Context, id: u64) {
    let Some(socket) = own.sockets.get_mut(&id) else { return };
    socket.replaying = false;
    let (duplicates, reversed) = (socket.limits.replay_duplicates, socket.limits.replay_reversed);
    let Some(session) = own.session_of(id) else { return };
    for text in session.replay(duplicates, reversed) {
        send_event(own, ctx, id, text);
    }
}
