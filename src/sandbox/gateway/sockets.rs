//! Sockets: how they open, what they are sent, how they end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::faults::{Action, Hit};
use super::super::http::Call;
use super::super::link::LinkControl;
use super::super::requests::{Operation, Service};
use super::super::schedule::Due;
use super::super::state::{State, later, uuid};
use super::frame::{self, Wsc};
use super::requests::{self, Later, Pending};
use super::session::{Rules, Session, Verdict, judge};
use super::{Admitted, GatewayKnobs, LiveRecovery, TokenExpiry, WscRotation};

/// Frames that wait for a client that does not read; one more breaks its socket.
const MAX_OUTBOX: usize = 65_536;

/// Something a socket's task is to do.
#[derive(Clone, Debug)]
pub(in super::super) enum Out {
    Text(String),
    /// A notification as it came, beside its frame: it is kept for the next socket
    /// if this one is lost first.
    Event {
        frame: String,
        text: String,
    },
    Binary(String),
    /// A message in fragments.
    Pieces {
        text: String,
        chunk: usize,
        every: Duration,
    },
    Ping,
    /// What is before it leaves before what is behind it.
    Flush,
    End(End),
}

/// How a socket ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum End {
    /// With a close frame.
    Close(u16),
    /// With the TCP connection, in order.
    Drop,
    /// With a reset.
    Reset,
    /// With a reset in the middle of a frame.
    HalfThenReset(String),
    /// Not at all: a black hole stays.
    Park,
}

/// One socket.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) link: Arc<LinkControl>,
    pub(super) login: Option<u64>,
    pub(super) session: Option<u64>,
    wsc: Option<String>,
    /// Its connection's id, from which those of replies are made.
    pub(super) name: String,
    pub(super) replies: u64,
    outbox: VecDeque<Out>,
    wake: Arc<Notify>,
    /// Whether it has a session, now or before.
    pub(super) greeted: bool,
    /// Whether a replay is due, before which no event is sent.
    replaying: bool,
    pub(super) ending: bool,
    /// Frames that came before `ConnectionDetails`.
    pub(super) early: Vec<String>,
    pub(super) active: usize,
    pub(super) waiting: VecDeque<Pending>,
    pub(super) opened: Instant,
    pub(super) traffic: Instant,
    pub(super) ping_at: Instant,
    pub(super) pong_due: Option<Instant>,
    /// The knobs as they were when it opened.
    pub(super) limits: GatewayKnobs,
}

impl Socket {
    pub(super) fn is_open(&self) -> bool {
        !self.ending && !self.is_silent()
    }

    /// Whether it is a black hole.
    pub(super) fn is_silent(&self) -> bool {
        self.link.silent().load(std::sync::atomic::Ordering::Relaxed)
    }

    pub(super) fn push(&mut self, out: Out) {
        self.outbox.push_back(out);
        self.wake.notify_one();
    }
}

/// Opens a socket. Its number, and what wakes its task.
pub(super) fn open(state: &mut State, admitted: Admitted, link: &Arc<LinkControl>) -> (u64, Arc<Notify>) {
    let now = state.moment().now;
    let limits = state.knobs.gateway.clone();
    let id = state.gateway.id();
    let wake = Arc::new(Notify::new());
    let delay = limits.details_delay;
    let socket = Socket {
        link: Arc::clone(link),
        login: admitted.login,
        session: None,
        wsc: admitted.wsc,
        name: uuid(&mut state.rng),
        replies: 0,
        outbox: VecDeque::new(),
        wake: Arc::clone(&wake),
        greeted: false,
        replaying: false,
        ending: false,
        early: Vec::new(),
        active: 0,
        waiting: VecDeque::new(),
        opened: now,
        traffic: now,
        ping_at: later(now, limits.ping_period),
        pong_due: None,
        limits,
    };
    state.gateway.sockets.insert(id, socket);
    if admitted.login.is_none() {
        end(state, id, End::Close(4400));
        return (id, wake);
    }
    state.gateway.opened += 1;
    state.gateway.max_open = state.gateway.max_open.max(state.gateway.open_sockets().count());
    if delay.is_zero() {
        greet(state, id);
    } else {
        state.schedule.add(later(now, delay), Due::Gateway(Later::Greet(id)));
    }
    state.schedule.poke();
    (id, wake)
}

/// Finds or makes the session, sends `ConnectionDetails` and what was missed.
pub(super) fn greet(state: &mut State, id: u64) {
    let Some(socket) = state.gateway.sockets.get(&id).filter(|socket| !socket.ending) else { return };
    let (Some(login), name) = (socket.login, socket.name.clone()) else { return };
    let knobs = &socket.limits;
    let rules = Rules {
        same_login: knobs.recovery_needs_same_login,
        needs_subscription: knobs.recovery_needs_subscription,
        take_over: knobs.live_recovery == LiveRecovery::TakeOver,
        late_code: knobs.late_recovery_code.clone(),
    };
    let moment = state.moment();
    let verdict = judge(&state.gateway.sessions, socket.wsc.as_deref(), login, rules, moment.now);
    if verdict == Verdict::Malformed {
        return fail(state, id, &json!(name), 400, "WSG-400", "Malformed WebSocket session context token");
    }
    let hit = scripted(state, Operation::ConnectionDetails);
    match hit {
        Some(Action::ErrorFrame { status, code } | Action::Code { status, code, .. }) => {
            return fail(state, id, &json!(name), status, &code, "Scripted by the sandbox");
        }
        Some(Action::Status { status, .. }) => {
            return fail(state, id, &json!(name), status, "WSG-400", "Scripted by the sandbox");
        }
        Some(Action::Delay { by }) => {
            return state.schedule.add(later(moment.now, by), Due::Gateway(Later::Greet(id)));
        }
        _ => {}
    }
    let session = attach(state, id, login, &verdict);
    let Some(wsc) = new_wsc(state, session) else { return };
    let body = describe(state, id, &verdict);
    transmit(state, id, frame::details(&name, Some(&wsc), Some(&body)), None, hit);
    let Some(socket) = state.gateway.sockets.get_mut(&id) else { return };
    socket.greeted = true;
    socket.replaying = true;
    let delay = socket.limits.replay_delay;
    if delay.is_zero() {
        if !socket.limits.coalesce_replay {
            socket.push(Out::Flush);
        }
        replay(state, id);
    } else {
        state.schedule.add(later(moment.now, delay), Due::Gateway(Later::Replay(id)));
    }
    let early = state.gateway.sockets.get_mut(&id).map(|socket| std::mem::take(&mut socket.early));
    for text in early.unwrap_or_default() {
        requests::received(state, id, &text);
    }
}

/// The session that goes on, or a new one, with this socket.
fn attach(state: &mut State, id: u64, login: u64, verdict: &Verdict) -> u64 {
    let moment = state.moment();
    let session = match verdict {
        Verdict::Resumed(session) => *session,
        Verdict::Fresh | Verdict::Malformed | Verdict::Failed(_) => {
            let gateway = &mut state.gateway;
            let knobs = &state.knobs.gateway;
            let sequence = if knobs.wsc_sequence_restarts { 0 } else { gateway.sequence };
            let session = gateway.id();
            let (timeout, size) = (knobs.recovery_timeout, knobs.recovery_buffer_size);
            gateway.sessions.push(Session::new(session, login, timeout, size, sequence, moment.wall));
            session
        }
    };
    let former = state.gateway.session(session).and_then(|session| session.socket);
    if let Some(former) = former {
        let code = state.knobs.gateway.close_code;
        detach(state, former, true);
        end(state, former, End::Close(code));
    }
    if let Some(held) = state.gateway.session(session) {
        held.socket = Some(id);
        held.lost_at = None;
        held.login = login;
    }
    if let Some(socket) = state.gateway.sockets.get_mut(&id) {
        socket.session = Some(session);
    }
    session
}

fn new_wsc(state: &mut State, session: u64) -> Option<Wsc> {
    let State { gateway, rng, .. } = state;
    let wsc = gateway.session(session)?.next_wsc(rng);
    gateway.sequence = gateway.sequence.max(wsc.sequence);
    Some(wsc)
}

/// The body of `ConnectionDetails`.
fn describe(state: &mut State, id: u64, verdict: &Verdict) -> Value {
    let created = state.gateway.session_of(id).map(|session| session.created);
    let format = state.knobs.gateway.creation_time_format;
    let created = created.map(|created| state.write_time_as(created, format));
    let knobs = state.gateway.sockets.get(&id).map_or(&state.knobs.gateway, |socket| &socket.limits);
    let mut body = json!({
        "creationTime": created,
        "maxConnectionsPerSession": knobs.max_connections,
        "recoveryBufferSize": knobs.recovery_buffer_size,
        "recoveryTimeout": knobs.recovery_timeout.as_secs(),
        "idleTimeout": knobs.idle_timeout.as_secs(),
        "absoluteTimeout": knobs.absolute_timeout.as_secs(),
        "maxActiveRequests": knobs.max_active_requests,
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

/// Sends what a session missed.
pub(super) fn replay(state: &mut State, id: u64) {
    let Some(socket) = state.gateway.sockets.get_mut(&id) else { return };
    socket.replaying = false;
    let (duplicates, reversed) = (socket.limits.replay_duplicates, socket.limits.replay_reversed);
    let Some(session) = state.gateway.session_of(id) else { return };
    for text in session.replay(duplicates, reversed) {
        send_event(state, id, text);
    }
}

#[derive(Deserialize)]
struct Uuid {
    uuid: Option<Value>,
}

/// Sends a notification to the session of its subscription, or keeps it there.
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

fn send_event(state: &mut State, id: u64, text: String) {
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

/// A fault for a frame that the gateway sends by itself.
fn scripted(state: &mut State, operation: Operation) -> Option<Action> {
    let call = Call::of_frame(String::new());
    state.faults.take(Service::Gateway, operation, &call).map(|Hit { action, .. }| action)
}

/// Sends a frame, with what a fault does to it. `event` is the notification in it.
pub(super) fn transmit(state: &mut State, id: u64, frame: String, event: Option<String>, hit: Option<Action>) {
    let now = state.moment().now;
    let frame = styled(&state.knobs.gateway, frame);
    let Some(socket) = state.gateway.sockets.get_mut(&id).filter(|socket| !socket.ending) else { return };
    if socket.outbox.len() >= MAX_OUTBOX {
        tracing::warn!("a client of the sandbox's gateway does not read; its socket is reset");
        socket.link.reset();
        socket.ending = true;
        detach(state, id, true);
        return;
    }
    socket.traffic = now;
    let whole = match event {
        Some(text) => Out::Event { frame: frame.clone(), text },
        None => Out::Text(frame.clone()),
    };
    match hit {
        None => socket.push(whole),
        Some(Action::Hang) => {}
        Some(Action::Twice) => {
            socket.push(whole);
            socket.push(Out::Text(frame));
        }
        Some(Action::Garbage { text }) => socket.push(Out::Text(text)),
        Some(Action::Binary) => socket.push(Out::Binary(frame)),
        Some(Action::Padded { bytes }) => socket.push(Out::Text(frame::padded(&frame, bytes))),
        Some(Action::Boundary) => socket.push(Out::Text(frame::with_boundary(&frame))),
        Some(Action::CutJson) => socket.push(Out::Text(half(&frame).to_owned())),
        Some(Action::Drip { chunk, every }) => socket.push(Out::Pieces { text: frame, chunk, every }),
        Some(Action::Delay { by }) => state.schedule.add(later(now, by), Due::Gateway(Later::Send(id, whole))),
        Some(Action::BlackHole) => socket.link.mute(),
        Some(Action::Close) => end(state, id, End::Drop),
        Some(Action::CloseCode { code }) => end(state, id, End::Close(code)),
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

fn half(text: &str) -> &str {
    let mut at = text.len() / 2;
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    &text[..at]
}

fn styled(knobs: &GatewayKnobs, frame: String) -> String {
    let frame = if knobs.escape_slashes { frame::escape_slashes(&frame) } else { frame };
    // The boundary form is no JSON and stays on its lines.
    if knobs.pretty && !frame.contains(",--Boundary") { frame::pretty(&frame) } else { frame }
}

/// Sends an `Error`; to a request when it has an id.
pub(super) fn error(state: &mut State, id: u64, message_id: &Value, status: u16, code: &str, message: &str) {
    let request = uuid(&mut state.rng);
    let own = json!(request);
    let message_id = if message_id.is_null() { &own } else { message_id };
    transmit(state, id, frame::error(message_id, &request, status, code, message), None, None);
}

/// Sends an `Error` and closes.
pub(super) fn fail(state: &mut State, id: u64, message_id: &Value, status: u16, code: &str, message: &str) {
    error(state, id, message_id, status, code, message);
    let close = state.knobs.gateway.close_code;
    end(state, id, End::Close(close));
}

/// Ends a socket after what it was sent so far.
pub(super) fn end(state: &mut State, id: u64, how: End) {
    detach(state, id, false);
    if let Some(socket) = state.gateway.sockets.get_mut(&id).filter(|socket| !socket.ending) {
        socket.ending = true;
        socket.push(Out::End(how));
    }
}

/// Parts a socket from its session, which waits for the next one from now on.
/// With `reclaim`, events that were not sent yet wait with it.
pub(super) fn detach(state: &mut State, id: u64, reclaim: bool) {
    let now = state.moment().now;
    let Some(socket) = state.gateway.sockets.get_mut(&id) else { return };
    let Some(session) = socket.session.take() else { return };
    let mut unsent = Vec::new();
    if reclaim {
        socket.outbox.retain_mut(|out| match out {
            Out::Event { text, .. } => {
                unsent.push(std::mem::take(text));
                false
            }
            _ => true,
        });
    }
    if let Some(held) = state.gateway.session(session) {
        held.socket = None;
        held.lost_at = Some(now);
        for text in unsent {
            held.missed(text);
        }
    }
    state.schedule.poke();
}

/// Forgets a socket whose task has ended.
pub(super) fn lost(state: &mut State, id: u64) {
    detach(state, id, true);
    state.gateway.sockets.remove(&id);
}

/// What a socket's task is to do next.
pub(super) fn take(state: &mut State, id: u64) -> VecDeque<Out> {
    let Some(socket) = state.gateway.sockets.get_mut(&id) else { return VecDeque::new() };
    let taken = std::mem::take(&mut socket.outbox);
    if let Some(session) = state.gateway.session_of(id) {
        for out in &taken {
            if let Out::Event { text, .. } = out {
                session.sent(text.clone());
            }
        }
    }
    taken
}

/// Sends a text as it is, to the socket of a subscription or to all; to how many.
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
