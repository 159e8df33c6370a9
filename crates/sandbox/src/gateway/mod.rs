//! The WebSocket gateway: tokens, sessions, sockets and what they send. It moves no bytes.

mod admit;
mod events;
mod frame;
mod greeting;
mod requests;
mod session;
mod sockets;
mod timers;

use std::collections::{BTreeMap, VecDeque};

use tokio::time::Instant;

pub(crate) use self::admit::{Admitted, admit, issue};
pub(crate) use self::events::{notify, send_raw};
pub(crate) use self::frame::start;
use self::requests::{Asked, Later};
pub(crate) use self::requests::{answer, next_request, received, received_binary, refusal_of};
use self::session::Session;
use self::sockets::Socket;
pub(crate) use self::sockets::{End, Out, lost, open, take};
pub(crate) use self::timers::{clock_moved, next_deadline, ping, pong, run_due};
use crate::context::{Context, Timers};
use crate::http::Carrier;

/// The path of the socket.
pub(crate) const PATH: &str = "/ws";

/// The state of the gateway.
#[derive(Debug, Default)]
pub(crate) struct Gateway {
    /// `ws://127.0.0.1:port/ws`.
    url: String,
    tokens: Vec<WsToken>,
    sessions: Vec<Session>,
    sockets: BTreeMap<u64, Socket>,
    next_id: u64,
    /// The latest `wsc.sequence` of all sessions.
    sequence: u64,
    /// Sockets opened since the start.
    opened: u64,
    max_open: usize,
    timers: Timers<Later>,
    /// Requests that REST has to handle.
    asked: VecDeque<Asked>,
}

#[derive(Debug)]
struct WsToken {
    token: String,
    login: u64,
    until: Instant,
    used: bool,
}

impl Gateway {
    /// A gateway without connections.
    pub(crate) fn at(url: String) -> Self {
        Self { url, ..Self::default() }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn session(&mut self, id: u64) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.id == id)
    }

    fn session_of(&mut self, socket: u64) -> Option<&mut Session> {
        let id = self.sockets.get(&socket)?.session?;
        self.session(id)
    }

    fn open_sockets(&self) -> impl Iterator<Item = &Socket> {
        self.sockets.values().filter(|socket| socket.is_open())
    }

    /// The number of open sockets, its maximum so far, and the number of all since the start.
    pub(crate) fn counts(&self) -> (usize, usize, u64) {
        (self.open_sockets().count(), self.max_open, self.opened)
    }

    /// The state of a socket that REST needs.
    fn carrier(&mut self, socket: u64) -> Carrier {
        let login = self.sockets.get(&socket).and_then(|socket| socket.login);
        let session = self.session_of(socket);
        let has_session = session.is_some();
        Carrier { socket, login, has_session, subscription: session.and_then(|it| it.subscription.clone()) }
    }

    /// Whether a subscription has a connected socket; `None` if no session has it.
    pub(crate) fn is_connected(&self, subscription: &str) -> Option<bool> {
        let session = self.sessions.iter().find(|session| session.subscription.as_deref() == Some(subscription))?;
        Some(session.socket.and_then(|socket| self.sockets.get(&socket)).is_some_and(Socket::is_open))
    }

    /// The subscription of a socket's session.
    fn subscription_of(&mut self, socket: u64) -> Option<String> {
        self.session_of(socket)?.subscription.clone()
    }

    /// Assigns a subscription to a session, whose previous one must be gone.
    pub(crate) fn subscribe(&mut self, socket: u64, subscription: &str) {
        if let Some(session) = self.session_of(socket) {
            session.subscription = Some(subscription.to_owned());
        }
    }

    /// Removes a subscription from its session.
    pub(crate) fn unsubscribe(&mut self, subscription: &str) {
        for session in &mut self.sessions {
            if session.subscription.as_deref() == Some(subscription) {
                session.subscription = None;
            }
        }
    }
}

/// Detaches all sockets from their sessions at once, before their tasks notice that the connections
/// are cut.
pub(crate) fn detach_all(own: &mut Gateway, ctx: &Context) {
    let ids: Vec<u64> = own.sockets.keys().copied().collect();
    for id in ids {
        sockets::detach(own, ctx, id, true);
        if let Some(socket) = own.sockets.get_mut(&id) {
            socket.ending = true;
        }
    }
}
