//! Sockets: opening, sending, ending.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::events::transmit;
use super::frame;
use super::greeting::greet;
use super::requests::{Later, Pending};
use super::{Admitted, Gateway};
use crate::behavior::GatewayBehavior;
use crate::clock::later;
use crate::context::Context;
use crate::link::LinkControl;
use crate::random::uuid;

/// Maximum number of frames queued for a client that does not read; one more resets its socket.
pub(super) const MAX_OUTBOX: usize = 20_000;

/// An output for a socket's task.
#[derive(Clone, Debug)]
pub(crate) enum Out {
    Text(String),
    /// The original notification beside its frame: it is stored for the next socket if this one is
    /// lost first.
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
    /// Flushes the preceding outputs.
    Flush,
    End(End),
}

/// How a socket ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With a close frame.
    Close(u16, String),
    /// By closing the TCP connection in order.
    Drop,
    /// With a reset.
    Reset,
    /// With a reset in the middle of a frame.
    HalfThenReset(String),
    /// The connection stays open as a black hole.
    Park,
}

/// One socket.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) link: Arc<LinkControl>,
    pub(super) login: Option<u64>,
    pub(super) session: Option<u64>,
    /// The resume token of its request.
    pub(super) wsc: Option<String>,
    /// Its connection id, the base of reply ids.
    pub(super) name: String,
    pub(super) replies: u64,
    outbox: VecDeque<Out>,
    wake: Arc<Notify>,
    /// Whether it has or had a session.
    pub(super) greeted: bool,
    /// Whether a replay is pending; events are held until then.
    pub(super) replaying: bool,
    pub(super) ending: bool,
    /// Frames received before `ConnectionDetails`.
    pub(super) early: Vec<String>,
    pub(super) active: usize,
    pub(super) waiting: VecDeque<Pending>,
    pub(super) opened: Instant,
    pub(super) traffic: Instant,
    pub(super) ping_at: Instant,
    pub(super) pong_due: Option<Instant>,
    /// The settings at the time it opened.
    pub(super) limits: GatewayBehavior,
}

impl Socket {
    pub(super) fn is_open(&self) -> bool {
        !self.ending && !self.is_silent()
    }

    /// Whether it is a black hole.
    pub(super) fn is_silent(&self) -> bool {
        self.link.silent().load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Number of outputs queued for its task.
    pub(super) fn queued(&self) -> usize {
        self.outbox.len()
    }

    pub(super) fn push(&mut self, out: Out) {
        self.outbox.push_back(out);
        self.wake.notify_one();
    }
}

/// Opens a socket; returns its number and the notifier of its task.
pub(crate) fn open(
    own: &mut Gateway,
    ctx: &mut Context,
    admitted: Admitted,
    link: &Arc<LinkControl>,
) -> (u64, Arc<Notify>) {
    let now = ctx.moment().now;
    let limits = ctx.behavior.gateway.clone();
    let id = own.id();
    let wake = Arc::new(Notify::new());
    let delay = limits.details_delay;
    let socket = Socket {
        link: Arc::clone(link),
        login: admitted.login,
        session: None,
        wsc: admitted.wsc,
        name: uuid(&mut ctx.rng),
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
    own.sockets.insert(id, socket);
    if admitted.login.is_none() {
        end(own, ctx, id, End::Close(4400, String::new()));
        return (id, wake);
    }
    own.opened += 1;
    own.max_open = own.max_open.max(own.open_sockets().count());
    if delay.is_zero() {
        greet(own, ctx, id);
    } else {
        own.timers.add(ctx, later(now, delay), Later::Greet(id));
    }
    ctx.poke();
    (id, wake)
}

/// Sends an `Error`, in reply to a request if it has an id.
pub(super) fn error(
    own: &mut Gateway,
    ctx: &mut Context,
    id: u64,
    message_id: &Value,
    status: u16,
    code: &str,
    message: &str,
) {
    let request = uuid(&mut ctx.rng);
    let made = json!(request);
    let message_id = if message_id.is_null() { &made } else { message_id };
    transmit(own, ctx, id, frame::error(message_id, &request, status, code, message), None, None);
}

/// Sends an `Error` and closes.
pub(super) fn fail(
    own: &mut Gateway,
    ctx: &mut Context,
    id: u64,
    message_id: &Value,
    status: u16,
    code: &str,
    message: &str,
) {
    error(own, ctx, id, message_id, status, code, message);
    let close = ctx.behavior.gateway.close_code;
    end(own, ctx, id, End::Close(close, String::new()));
}

/// Ends a socket after its queued outputs.
pub(super) fn end(own: &mut Gateway, ctx: &Context, id: u64, how: End) {
    detach(own, ctx, id, false);
    if let Some(socket) = own.sockets.get_mut(&id).filter(|socket| !socket.ending) {
        socket.ending = true;
        socket.push(Out::End(how));
    }
}

/// Detaches a socket from its session, which then waits for a new one. With `reclaim`, unsent
/// events return to the session.
pub(super) fn detach(own: &mut Gateway, ctx: &Context, id: u64, reclaim: bool) {
    let now = ctx.moment().now;
    let Some(socket) = own.sockets.get_mut(&id) else { return };
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
    if let Some(held) = own.session(session) {
        held.socket = None;
        held.lost_at = Some(now);
        for text in unsent {
            held.missed(text);
        }
    }
    ctx.poke();
}

/// Removes a socket whose task has ended.
pub(crate) fn lost(own: &mut Gateway, ctx: &Context, id: u64) {
    detach(own, ctx, id, true);
    own.sockets.remove(&id);
}

/// Takes the queued outputs of a socket.
pub(crate) fn take(own: &mut Gateway, id: u64) -> VecDeque<Out> {
    let Some(socket) = own.sockets.get_mut(&id) else { return VecDeque::new() };
    let taken = std::mem::take(&mut socket.outbox);
    if let Some(session) = own.session_of(id) {
        for out in &taken {
            if let Out::Event { text, .. } = out {
                session.sent(text.clone());
            }
        }
    }
    taken
}
