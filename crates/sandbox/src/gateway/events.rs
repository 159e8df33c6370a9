//! Outgoing frames: events, and the effects of faults on any frame.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::faults::{Action, Hit};
use super::super::http::Call;
use super::super::requests::{Operation, Service};
use super::super::schedule::Due;
use super::super::state::{State, later, uuid};
use super::frame;
use super::greeting::new_wsc;
use super::requests::Later;
use super::session::Session;
use super::sockets::{End, MAX_OUTBOX, Out, detach, end, error};
use super::{GatewayKnobs, TokenExpiry, WscRotation};

#[derive(Deserialize)]
struct Uuid {
    uuid: Option<Value>,
}

/// Sends a notification to the session of its subscription, or stores it there.
pub(in super::super) fn notify(state: &mut State, subscription: &str, text: String) {
    let gateway = &mut state.gateway;
    let Some(session) = gateway.sessions.iter_mut().find(|held| held.subscription.as_deref() == Some(subscription))
    else {
        return;
    };
    let login = session.login;
    let socket =
        session.socket.filter(|id| gateway.sockets.get(id).is_some_and(|held| !held.ending && !held.replaying));
    match socket {
        None => session.missed(text),
        Some(_) if is_zombie(state, login) => {}
        Some(id) => send_event(state, id, text),
    }
}

fn is_zombie(state: &State, login: u64) -> bool {
    let now = state.moment().now;
    state.knobs.gateway.token_expiry == TokenExpiry::Zombie
        && state.oauth.access_until(login).is_none_or(|until| now >= until)
}

/// Sends a notification over a socket.
pub(super) fn send_event(state: &mut State, id: u64, text: String) {
    let Some(session) = state.gateway.session_of(id).map(|session| session.id) else { return };
    let rotation = state.knobs.gateway.wsc_rotation;
    let wsc = if rotation == WscRotation::Notifications { new_wsc(state, session) } else { None };
    let request = uuid(&mut state.rng);
    let found = serde_json::from_str::<Uuid>(&text).ok().and_then(|found| found.uuid);
    let message_id = found.unwrap_or_else(|| json!(request));
    let hit = scripted(state, Operation::Notification);
    let frame = frame::notification(&message_id, &request, wsc.as_ref(), &text);
    transmit(state, id, frame, Some(text), hit);
    if rotation == WscRotation::Details
        && let Some(wsc) = new_wsc(state, session)
    {
        let name = uuid(&mut state.rng);
        transmit(state, id, frame::details(&name, Some(&wsc), None), None, None);
    }
}

/// A fault for a frame that the gateway sends unasked.
pub(super) fn scripted(state: &mut State, operation: Operation) -> Option<Action> {
    let call = Call::of_frame(String::new());
    state.faults.take(Service::Gateway, operation, &call).map(|Hit { action, .. }| action)
}

/// Sends a frame with the effects of a fault. `event` is the notification in it.
pub(super) fn transmit(state: &mut State, id: u64, frame: String, event: Option<String>, hit: Option<Action>) {
    let now = state.moment().now;
    let frame = styled(&state.knobs.gateway, frame);
    // A frame that a fault drops counts as sent, so that a replay of duplicates includes it.
    if let (Some(text), Some(action)) = (&event, &hit)
        && !matches!(action, Action::Twice | Action::Delay { .. })
        && let Some(session) = state.gateway.session_of(id)
    {
        session.sent(text.clone());
    }
    let Some(socket) = state.gateway.sockets.get_mut(&id).filter(|socket| !socket.ending) else { return };
    if socket.queued() >= MAX_OUTBOX {
        tracing::warn!("a client of the sandbox's gateway does not read; its socket is reset");
        socket.link.reset();
        socket.ending = true;
        let session = socket.session;
        detach(state, id, true);
        if let (Some(session), Some(text)) = (session.and_then(|id| state.gateway.session(id)), event) {
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
        Some(Action::Delay { by }) => state.schedule.add(later(now, by), Due::Gateway(Later::Send(id, whole))),
        Some(Action::BlackHole) => socket.link.mute(),
        Some(Action::Close) => end(state, id, End::Drop),
        Some(Action::CloseCode { code, reason }) => end(state, id, End::Close(code, reason)),
        Some(Action::Reset) => end(state, id, End::Reset),
        Some(Action::ResetMidBody) => end(state, id, End::HalfThenReset(frame)),
        Some(Action::ErrorFrame { status, code } | Action::Code { status, code, .. }) => {
            error(state, id, &Value::Null, status, &code, "Scripted by the sandbox");
        }
        Some(Action::Status { status, .. }) => {
            error(state, id, &Value::Null, status, "WSG-400", "Scripted by the sandbox");
        }
    }
}

fn styled(knobs: &GatewayKnobs, frame: String) -> String {
    let frame = if knobs.escape_slashes { frame::escape_slashes(&frame) } else { frame };
    // The boundary form is not JSON and keeps its lines.
    if knobs.pretty && !frame.contains(",--Boundary") { frame::pretty(&frame) } else { frame }
}

/// Sends a raw text to a subscription's socket or to all; returns the number of sockets.
pub(in super::super) fn send_raw(state: &mut State, subscription: Option<&str>, text: &str) -> usize {
    let gateway = &mut state.gateway;
    let ids: Vec<u64> = match subscription {
        None => gateway.sockets.keys().copied().collect(),
        Some(wanted) => {
            let wanted = |session: &&Session| session.subscription.as_deref() == Some(wanted);
            gateway.sessions.iter().filter(wanted).filter_map(|session| session.socket).collect()
        }
    };
    let mut sent = 0;
    for id in ids {
        if let Some(socket) = gateway.sockets.get_mut(&id).filter(|socket| socket.is_open()) {
            socket.push(Out::Text(text.to_owned()));
            sent += 1;
        }
    }
    sent
}
