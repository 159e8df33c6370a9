//! Outgoing frames: events, and the effects of faults on any frame.

use serde::Deserialize;
use serde_json::{Value, json};

use super::frame;
use super::greeting::new_wsc;
use super::requests::Later;
use super::session::Session;
use super::sockets::{End, MAX_OUTBOX, Out, detach, end, error};
use super::{Gateway, PATH};
use crate::behavior::{GatewayBehavior, TokenExpiry, WscRotation};
use crate::clock::later;
use crate::context::Context;
use crate::faults::{Action, Hit};
use crate::http::Call;
use crate::oauth::OAuth;
use crate::random::uuid;
use crate::requests::{Operation, Service};

#[derive(Deserialize)]
struct Uuid {
    uuid: Option<Value>,
}

/// Sends a notification to the session of its subscription, or stores it there.
pub(crate) fn notify(own: &mut Gateway, ctx: &mut Context, oauth: &OAuth, subscription: &str, text: String) {
    let Some(session) = own.sessions.iter_mut().find(|held| held.subscription.as_deref() == Some(subscription)) else {
        return;
    };
    let login = session.login;
    let socket = session.socket.filter(|id| own.sockets.get(id).is_some_and(|held| !held.ending && !held.replaying));
    match socket {
        None => session.missed(text),
        Some(_) if is_zombie(ctx, oauth, login) => {}
        Some(id) => send_event(own, ctx, id, text),
    }
}

fn is_zombie(ctx: &Context, oauth: &OAuth, login: u64) -> bool {
    let now = ctx.moment().now;
    ctx.behavior.gateway.token_expiry == TokenExpiry::Zombie
        && oauth.access_until(login).is_none_or(|until| now >= until)
}

/// Sends a notification over a socket.
pub(super) fn send_event(own: &mut Gateway, ctx: &mut Context, id: u64, text: String) {
    let Some(session) = own.session_of(id).map(|session| session.id) else { return };
    let rotation = ctx.behavior.gateway.wsc_rotation;
    let wsc = if rotation == WscRotation::Notifications { new_wsc(own, ctx, session) } else { None };
    let request = uuid(&mut ctx.rng);
    let found = serde_json::from_str::<Uuid>(&text).ok().and_then(|found| found.uuid);
    let message_id = found.unwrap_or_else(|| json!(request));
    let hit = scripted(ctx, Operation::Notification);
    let frame = frame::notification(&message_id, &request, wsc.as_ref(), &text);
    transmit(own, ctx, id, frame, Some(text), hit);
    if rotation == WscRotation::Details
        && let Some(wsc) = new_wsc(own, ctx, session)
    {
        let name = uuid(&mut ctx.rng);
        transmit(own, ctx, id, frame::details(&name, Some(&wsc), None), None, None);
    }
}

/// A fault for a frame that the gateway sends unasked.
pub(super) fn scripted(ctx: &mut Context, operation: Operation) -> Option<Action> {
    let call = Call::of_frame(PATH, String::new());
    ctx.faults.take(Service::Gateway, operation, &call).map(|Hit { action, .. }| action)
}

/// Sends a frame with the effects of a fault. `event` is the notification in it.
pub(super) fn transmit(
    own: &mut Gateway,
    ctx: &mut Context,
    id: u64,
    frame: String,
    event: Option<String>,
    hit: Option<Action>,
) {
    let now = ctx.moment().now;
    let frame = styled(&ctx.behavior.gateway, frame);
    // A frame that a fault drops counts as sent, so that a replay of duplicates includes it.
    if let (Some(text), Some(action)) = (&event, &hit)
        && !matches!(action, Action::Twice | Action::Delay { .. })
        && let Some(session) = own.session_of(id)
    {
        session.sent(text.clone());
    }
    let Some(socket) = own.sockets.get_mut(&id).filter(|socket| !socket.ending) else { return };
    if socket.queued() >= MAX_OUTBOX {
        tracing::warn!("a client of the sandbox's gateway does not read; its socket is reset");
        socket.link.reset();
        socket.ending = true;
        let session = socket.session;
        detach(own, ctx, id, true);
        if let (Some(session), Some(text)) = (session.and_then(|id| own.session(id)), event) {
            session.missed(text);
        }
        return;
    }
    socket.traffic = now;
    let whole = match event {
        Some(text) => Out::Event { frame: frame.clone(), text },
        None => Out::Text(frame.clone()),
    };
    match hit {
        None | Some(Action::Amend(_)) => socket.push(whole),
        Some(Action::Hang) => {}
        Some(Action::Twice) => {
            socket.push(whole);
            socket.push(Out::Text(frame));
        }
        Some(Action::Garbage { text }) => socket.push(Out::Text(text)),
        Some(Action::Binary) => socket.push(Out::Binary(frame)),
        Some(Action::Padded { bytes }) => socket.push(Out::Text(frame::padded(&frame, bytes))),
        Some(Action::Boundary) => socket.push(Out::Text(frame::with_boundary(&frame))),
        Some(Action::CutJson) => socket.push(Out::Text(frame::start(&frame, frame.len() / 2).to_owned())),
        Some(Action::Drip { chunk, every }) => socket.push(Out::Pieces { text: frame, chunk, every }),
        Some(Action::Delay { by }) => own.timers.add(ctx, later(now, by), Later::Send(id, whole)),
        Some(Action::Blackhole) => socket.link.silence(),
        Some(Action::Close) => end(own, ctx, id, End::Drop),
        Some(Action::CloseCode { code, reason }) => end(own, ctx, id, End::Close(code, reason)),
        Some(Action::Reset) => end(own, ctx, id, End::Reset),
        Some(Action::ResetMidBody) => end(own, ctx, id, End::HalfThenReset(frame)),
        Some(Action::ErrorFrame { status, code } | Action::Code { status, code, .. }) => {
            error(own, ctx, id, &Value::Null, status, &code, "Scripted by the sandbox");
        }
        Some(Action::Status { status, .. }) => {
            error(own, ctx, id, &Value::Null, status, "WSG-400", "Scripted by the sandbox");
        }
    }
}

fn styled(behavior: &GatewayBehavior, frame: String) -> String {
    let frame = if behavior.escape_slashes { frame::escape_slashes(&frame) } else { frame };
    // The boundary form is not JSON and keeps its lines.
    if behavior.pretty && !frame.contains(",--Boundary") { frame::pretty(&frame) } else { frame }
}

/// Sends a raw text to a subscription's socket or to all; returns the number of sockets.
pub(crate) fn send_raw(own: &mut Gateway, subscription: Option<&str>, text: &str) -> usize {
    let ids: Vec<u64> = match subscription {
        None => own.sockets.keys().copied().collect(),
        Some(wanted) => {
            let wanted = |session: &&Session| session.subscription.as_deref() == Some(wanted);
            own.sessions.iter().filter(wanted).filter_map(|session| session.socket).collect()
        }
    };
    let mut sent = 0;
    for id in ids {
        if let Some(socket) = own.sockets.get_mut(&id).filter(|socket| socket.is_open()) {
            socket.push(Out::Text(text.to_owned()));
            sent += 1;
        }
    }
    sent
}
