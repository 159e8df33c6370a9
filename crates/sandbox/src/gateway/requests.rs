//! Clients' requests over a socket.

use serde_json::Value;

use super::frame::{self, Incoming};
use super::sockets::{self, Out};
use super::{Gateway, PATH};
use super::{events, greeting};
use crate::behavior::Excess;
use crate::clock::later;
use crate::context::Context;
use crate::faults::{Action, Hit};
use crate::http::{Call, Reply};
use crate::requests::{Operation, Service};

/// Maximum number of frames queued before `ConnectionDetails`.
const MAX_EARLY: usize = 100;
/// Maximum number of requests queued behind others.
const MAX_WAITING: usize = 10_000;

/// A parsed request.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    message_id: Value,
    call: Call,
    /// Its number in the log.
    sequence: u64,
}

/// A delayed action of the gateway.
#[derive(Clone, Debug)]
pub(crate) enum Later {
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

/// A request that REST has to handle.
#[derive(Debug)]
pub(crate) struct Asked {
    id: u64,
    pending: Pending,
    /// The fault of its answer, if any.
    hit: Option<Action>,
    /// Whether a delay counted it as active.
    is_delayed: bool,
}

impl Asked {
    pub(crate) fn call(&self) -> &Call {
        &self.pending.call
    }
}

/// Performs a delayed action.
pub(super) fn run(own: &mut Gateway, ctx: &mut Context, later: Later) {
    match later {
        Later::Greet(id) => greeting::greet(own, ctx, id),
        Later::Replay(id) => greeting::replay(own, ctx, id),
        Later::Send(id, out) => {
            if let Some(socket) = own.sockets.get_mut(&id).filter(|socket| !socket.ending) {
                socket.push(out);
            }
        }
        Later::Handle(id, pending) => ask(own, Asked { id, pending: *pending, hit: None, is_delayed: true }),
        Later::Answer(id, pending, reply) => done(own, ctx, id, &pending, &reply),
    }
}

fn ask(own: &mut Gateway, asked: Asked) {
    own.asked.push_back(asked);
}

/// The next request for REST, with the socket that carries it.
pub(crate) fn next_request(own: &mut Gateway) -> Option<Asked> {
    let mut asked = own.asked.pop_front()?;
    asked.pending.call.socket = Some(own.carrier(asked.id));
    Some(asked)
}

/// Whether REST serves this call over a socket.
pub(crate) fn refusal_of(call: &Call) -> Option<Reply> {
    let is_login = call.path.starts_with("/restapi/oauth/");
    is_login.then(|| frame::refusal(404, "AGW-404", "Logins are not served over the socket"))
}

/// Takes the answer to a request.
pub(crate) fn answer(own: &mut Gateway, ctx: &mut Context, asked: Asked, reply: Reply) {
    let Asked { id, pending, hit, is_delayed } = asked;
    if is_delayed {
        return done(own, ctx, id, &pending, &reply);
    }
    finish(own, ctx, id, pending, Some(reply), hit);
}

fn done(own: &mut Gateway, ctx: &mut Context, id: u64, pending: &Pending, reply: &Reply) {
    respond(own, ctx, id, pending, reply, None);
    if let Some(socket) = own.sockets.get_mut(&id) {
        socket.active = socket.active.saturating_sub(1);
    }
    // A waiting request takes the free place before the requests that came later.
    let later = std::mem::take(&mut own.asked);
    while let Some(socket) = own.sockets.get_mut(&id) {
        if socket.active >= socket.limits.max_active_requests {
            break;
        }
        let Some(next) = socket.waiting.pop_front() else { break };
        perform(own, ctx, id, next);
    }
    own.asked.extend(later);
}

/// Handles a text frame.
pub(crate) fn received(own: &mut Gateway, ctx: &mut Context, id: u64, text: &str) {
    let now = ctx.moment().now;
    let Some(socket) = own.sockets.get_mut(&id).filter(|socket| !socket.ending) else { return };
    socket.traffic = now;
    if !socket.greeted {
        if socket.limits.strict_first_frame {
            sockets::fail(own, ctx, id, &Value::Null, 400, "WSG-400", "Nothing may be sent before ConnectionDetails");
        } else if socket.early.len() < MAX_EARLY {
            socket.early.push(text.to_owned());
        }
        return;
    }
    match frame::read(text) {
        Incoming::Heartbeat(message_id) => heartbeat(own, ctx, id, &message_id),
        Incoming::Request(message_id, call) => request(own, ctx, id, message_id, *call),
        Incoming::BadBody(message_id) => {
            unreadable(own, ctx, id, &message_id, text, "body must be an object or a string");
        }
        Incoming::Unknown(message_id) => unreadable(own, ctx, id, &message_id, text, "frame is not understood"),
    }
}

/// Handles a binary frame; no real client sends one.
pub(crate) fn received_binary(own: &mut Gateway, ctx: &mut Context, id: u64, bytes: &[u8]) {
    unreadable(own, ctx, id, &Value::Null, &String::from_utf8_lossy(bytes), "frames are text");
}

fn record(ctx: &mut Context, operation: Operation, call: &Call) -> u64 {
    let at = ctx.moment().wall;
    ctx.log.record(Service::Gateway, operation, call, at)
}

fn unreadable(own: &mut Gateway, ctx: &mut Context, id: u64, message_id: &Value, text: &str, why: &str) {
    let sequence = record(ctx, Operation::OtherFrame, &Call::of_frame(PATH, text.to_owned()));
    ctx.log.answered(sequence, 400);
    sockets::error(own, ctx, id, message_id, 400, "WSG-808", why);
}

fn heartbeat(own: &mut Gateway, ctx: &mut Context, id: u64, message_id: &Value) {
    let call = Call::of_frame(PATH, frame::heartbeat(message_id));
    let sequence = record(ctx, Operation::SocketHeartbeat, &call);
    let hit = ctx.faults.take(Service::Gateway, Operation::SocketHeartbeat, &call).map(|Hit { action, .. }| action);
    if hit != Some(Action::Hang) {
        ctx.log.answered(sequence, 200);
    }
    events::transmit(own, ctx, id, frame::heartbeat(message_id), None, hit);
}

fn request(own: &mut Gateway, ctx: &mut Context, id: u64, message_id: Value, call: Call) {
    let sequence = record(ctx, Operation::of_api(&call), &call);
    let pending = Pending { message_id, call, sequence };
    let Some(socket) = own.sockets.get_mut(&id) else { return };
    if socket.active < socket.limits.max_active_requests {
        return perform(own, ctx, id, pending);
    }
    if socket.limits.excess_requests == Excess::Queue && socket.waiting.len() < MAX_WAITING {
        return socket.waiting.push_back(pending);
    }
    let reply = frame::refusal(429, "CMN-301", "Too many active requests");
    respond(own, ctx, id, &pending, &reply, None);
}

/// Has REST handle a request, or applies a fault instead.
fn perform(own: &mut Gateway, ctx: &mut Context, id: u64, pending: Pending) {
    let hit = ctx.faults.take(Service::Gateway, Operation::of_api(&pending.call), &pending.call);
    match hit {
        None => ask(own, Asked { id, pending, hit: None, is_delayed: false }),
        Some(Hit { action, after_effect: true }) => {
            ask(own, Asked { id, pending, hit: Some(action), is_delayed: false });
        }
        Some(Hit { action, after_effect: false }) => finish(own, ctx, id, pending, None, Some(action)),
    }
}

/// Answers a request as a fault demands; `reply` is present if the request has taken effect.
fn finish(own: &mut Gateway, ctx: &mut Context, id: u64, pending: Pending, reply: Option<Reply>, hit: Option<Action>) {
    match (hit, reply) {
        (Some(Action::Delay { by }), reply) => {
            busy(own, id);
            let at = later(ctx.moment().now, by);
            let pending = Box::new(pending);
            let due = match reply {
                Some(reply) => Later::Answer(id, pending, Box::new(reply)),
                None => Later::Handle(id, pending),
            };
            own.timers.add(ctx, at, due);
        }
        (Some(Action::Hang), _) => busy(own, id),
        (Some(Action::ErrorFrame { status, code }), _) => {
            ctx.log.answered(pending.sequence, status);
            sockets::error(own, ctx, id, &pending.message_id, status, &code, "Scripted by the sandbox");
        }
        (Some(action @ (Action::Status { .. } | Action::Code { .. })), _) => {
            if let Some(reply) = action.own_reply() {
                respond(own, ctx, id, &pending, &reply, None);
            }
        }
        // These end the socket; only `after_effect` lets the request through.
        (Some(action @ (Action::Close | Action::CloseCode { .. } | Action::Reset)), _) => {
            events::transmit(own, ctx, id, String::new(), None, Some(action));
        }
        (hit, Some(reply)) => respond(own, ctx, id, &pending, &reply, hit),
        // The others change an answer, so the request has taken effect.
        (_, None) => {}
    }
}

fn busy(own: &mut Gateway, id: u64) {
    if let Some(socket) = own.sockets.get_mut(&id) {
        socket.active += 1;
    }
}

fn respond(own: &mut Gateway, ctx: &mut Context, id: u64, pending: &Pending, reply: &Reply, hit: Option<Action>) {
    ctx.log.answered(pending.sequence, reply.status().as_u16());
    let named = ctx.behavior.gateway.subscription_id_header && Operation::of_api(&pending.call).is_subscription();
    let subscription = if named { own.subscription_of(id) } else { None };
    let Some(socket) = own.sockets.get_mut(&id) else { return };
    socket.replies += 1;
    let request = format!("{}-{}", socket.name, socket.replies);
    let frame = frame::reply(&pending.message_id, reply, &request, subscription.as_deref());
    events::transmit(own, ctx, id, frame, None, hit);
}
