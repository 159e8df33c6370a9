//! Clients' requests over a socket.

use serde_json::Value;

use super::super::faults::{Action, Hit};
use super::super::http::{Call, Reply};
use super::super::requests::{Operation, Service};
use super::super::rest;
use super::super::schedule::Due;
use super::super::state::{State, later};
use super::Excess;
use super::frame::{self, Incoming};
use super::sockets::{self, Out};
use super::{events, greeting};

/// Maximum number of frames queued before `ConnectionDetails`.
const MAX_EARLY: usize = 100;
/// Maximum number of requests queued behind others.
const MAX_WAITING: usize = 10_000;

/// A parsed request.
#[derive(Clone, Debug)]
pub(in super::super) struct Pending {
    message_id: Value,
    call: Call,
    /// Its number in the log.
    sequence: u64,
}

/// A delayed action of the gateway.
#[derive(Clone, Debug)]
pub(in super::super) enum Later {
    /// Greet a socket.
    Greet(u64),
    /// Replay a session's missed events.
    Replay(u64),
    /// Send a frame.
    Send(u64, Out),
    /// Handle a request.
    Handle(u64, Box<Pending>),
    /// Answer a request that has taken effect.
    Answer(u64, Box<Pending>, Box<Reply>),
}

/// Performs a delayed action.
pub(super) fn run(state: &mut State, later: Later) {
    match later {
        Later::Greet(id) => greeting::greet(state, id),
        Later::Replay(id) => greeting::replay(state, id),
        Later::Send(id, out) => {
            if let Some(socket) = state.gateway.sockets.get_mut(&id).filter(|socket| !socket.ending) {
                socket.push(out);
            }
        }
        Later::Handle(id, pending) => {
            let reply = serve(state, &pending);
            done(state, id, &pending, &reply);
        }
        Later::Answer(id, pending, reply) => done(state, id, &pending, &reply),
    }
}

fn done(state: &mut State, id: u64, pending: &Pending, reply: &Reply) {
    respond(state, id, pending, reply, None);
    if let Some(socket) = state.gateway.sockets.get_mut(&id) {
        socket.active = socket.active.saturating_sub(1);
    }
    while let Some(socket) = state.gateway.sockets.get_mut(&id) {
        if socket.active >= socket.limits.max_active_requests {
            return;
        }
        let Some(next) = socket.waiting.pop_front() else { return };
        perform(state, id, next);
    }
}

/// Handles a text frame.
pub(super) fn received(state: &mut State, id: u64, text: &str) {
    let now = state.moment().now;
    let Some(socket) = state.gateway.sockets.get_mut(&id).filter(|socket| !socket.ending) else { return };
    socket.traffic = now;
    if !socket.greeted {
        if socket.limits.strict_first_frame {
            sockets::fail(state, id, &Value::Null, 400, "WSG-400", "Nothing may be sent before ConnectionDetails");
        } else if socket.early.len() < MAX_EARLY {
            socket.early.push(text.to_owned());
        }
        return;
    }
    match frame::read(text) {
        Incoming::Heartbeat(message_id) => heartbeat(state, id, &message_id),
        Incoming::Request(message_id, call) => request(state, id, message_id, *call),
        Incoming::BadBody(message_id) => {
            unreadable(state, id, &message_id, text, "body must be an object or a string");
        }
        Incoming::Unknown(message_id) => unreadable(state, id, &message_id, text, "frame is not understood"),
    }
}

/// Handles a binary frame; no real client sends one.
pub(super) fn received_binary(state: &mut State, id: u64, bytes: &[u8]) {
    unreadable(state, id, &Value::Null, &String::from_utf8_lossy(bytes), "frames are text");
}

fn record(state: &mut State, operation: Operation, call: &Call) -> u64 {
    let at = state.moment().wall;
    state.log.record(Service::Gateway, operation, call, at)
}

fn unreadable(state: &mut State, id: u64, message_id: &Value, text: &str, why: &str) {
    let sequence = record(state, Operation::OtherFrame, &Call::of_frame(text.to_owned()));
    state.log.answered(sequence, 400);
    sockets::error(state, id, message_id, 400, "WSG-808", why);
}

fn heartbeat(state: &mut State, id: u64, message_id: &Value) {
    let call = Call::of_frame(frame::heartbeat(message_id));
    let sequence = record(state, Operation::SocketHeartbeat, &call);
    let hit = state.faults.take(Service::Gateway, Operation::SocketHeartbeat, &call).map(|Hit { action, .. }| action);
    if hit != Some(Action::Hang) {
        state.log.answered(sequence, 200);
    }
    events::transmit(state, id, frame::heartbeat(message_id), None, hit);
}

fn request(state: &mut State, id: u64, message_id: Value, mut call: Call) {
    call.socket = Some(id);
    let sequence = record(state, Operation::of(Service::Gateway, &call), &call);
    let pending = Pending { message_id, call, sequence };
    let Some(socket) = state.gateway.sockets.get_mut(&id) else { return };
    if socket.active < socket.limits.max_active_requests {
        return perform(state, id, pending);
    }
    if socket.limits.excess_requests == Excess::Queue && socket.waiting.len() < MAX_WAITING {
        return socket.waiting.push_back(pending);
    }
    let reply = frame::refusal(429, "CMN-301", "Too many active requests");
    respond(state, id, &pending, &reply, None);
}

fn serve(state: &mut State, pending: &Pending) -> Reply {
    if pending.call.path.starts_with("/restapi/oauth/") {
        return frame::refusal(404, "AGW-404", "Logins are not served over the socket");
    }
    rest::handle(state, &pending.call)
}

/// Answers a request, or applies a fault.
fn perform(state: &mut State, id: u64, pending: Pending) {
    let operation = Operation::of(Service::Gateway, &pending.call);
    let Some(Hit { action, after_effect }) = state.faults.take(Service::Gateway, operation, &pending.call) else {
        let reply = serve(state, &pending);
        return respond(state, id, &pending, &reply, None);
    };
    let served = after_effect.then(|| serve(state, &pending));
    let now = state.moment().now;
    match action {
        Action::Delay { by } => {
            busy(state, id);
            let pending = Box::new(pending);
            let due = match served {
                Some(reply) => Later::Answer(id, pending, Box::new(reply)),
                None => Later::Handle(id, pending),
            };
            state.schedule.add(later(now, by), Due::Gateway(due));
        }
        Action::Hang => busy(state, id),
        Action::ErrorFrame { status, code } => {
            state.log.answered(pending.sequence, status);
            sockets::error(state, id, &pending.message_id, status, &code, "Scripted by the sandbox");
        }
        Action::Status { .. } | Action::Code { .. } => {
            if let Some(reply) = action.own_reply() {
                respond(state, id, &pending, &reply, None);
            }
        }
        // These end the socket; only `after_effect` lets the request through.
        Action::Close | Action::CloseCode { .. } | Action::Reset => {
            events::transmit(state, id, String::new(), None, Some(action));
        }
        action => {
            let reply = served.unwrap_or_else(|| serve(state, &pending));
            respond(state, id, &pending, &reply, Some(action));
        }
    }
}

fn busy(state: &mut State, id: u64) {
    if let Some(socket) = state.gateway.sockets.get_mut(&id) {
        socket.active += 1;
    }
}

fn respond(state: &mut State, id: u64, pending: &Pending, reply: &Reply, hit: Option<Action>) {
    state.log.answered(pending.sequence, reply.status().as_u16());
    let named =
        state.knobs.gateway.subscription_id_header && Operation::of(Service::Gateway, &pending.call).is_subscription();
    let subscription = if named { state.gateway.subscription_of(id) } else { None };
    let Some(socket) = state.gateway.sockets.get_mut(&id) else { return };
    socket.replies += 1;
    let request = format!("{}-{}", socket.name, socket.replies);
    let frame = frame::reply(&pending.message_id, reply, &request, subscription.as_deref());
    events::transmit(state, id, frame, None, hit);
}
