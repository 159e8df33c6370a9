//! The state of the WebSocket gateway. All decisions are made here, under the sandbox's lock;
//! [`serve`] only moves frames.

mod admit;
mod events;
mod frame;
mod greeting;
mod knobs;
mod requests;
mod serve;
mod session;
mod sockets;
mod timers;

use std::collections::BTreeMap;

use tokio::time::Instant;

pub(super) use self::admit::{Admitted, admit, issue};
pub(super) use self::events::{notify, send_raw};
pub use self::knobs::{AuthRefusal, Excess, GatewayKnobs, LiveRecovery, TokenExpiry, WscRotation};
pub(super) use self::requests::Later;
pub(super) use self::serve::serve;
use self::session::Session;
use self::sockets::Socket;

pub(super) use self::timers::{clock_moved, next_deadline, run_due, run_later};
use super::state::State;

/// The path of the socket.
pub(super) const PATH: &str = "/ws";

/// The state of the gateway.
#[derive(Debug, Default)]
pub(super) struct Gateway {
    /// `ws://127.0.0.1:port/ws`.
    pub(super) url: String,
    tokens: Vec<WsToken>,
    sessions: Vec<Session>,
    sockets: BTreeMap<u64, Socket>,
    next_id: u64,
    /// The latest `wsc.sequence` of all sessions.
    sequence: u64,
    /// Sockets opened since the start.
    pub(super) opened: u64,
    max_open: usize,
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
    pub(super) fn at(url: String) -> Self {
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

    /// The number of open sockets, and its maximum so far.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.open_sockets().count(), self.max_open)
    }

    /// The login of a socket.
    pub(super) fn login(&self, socket: u64) -> Option<u64> {
        self.sockets.get(&socket)?.login
    }

    /// Whether a subscription has a connected socket; `None` if no session has it.
    pub(super) fn is_connected(&self, subscription: &str) -> Option<bool> {
        let session = self.sessions.iter().find(|session| session.subscription.as_deref() == Some(subscription))?;
        Some(session.socket.and_then(|socket| self.sockets.get(&socket)).is_some_and(Socket::is_open))
    }

    /// The subscription of a socket's session.
    pub(super) fn subscription_of(&mut self, socket: u64) -> Option<String> {
        self.session_of(socket)?.subscription.clone()
    }

    /// Whether a socket has a session that can own a subscription.
    pub(super) fn has_session(&mut self, socket: u64) -> bool {
        self.session_of(socket).is_some()
    }

    /// Assigns a subscription to a session, whose previous one must be gone.
    pub(super) fn subscribe(&mut self, socket: u64, subscription: &str) {
        if let Some(session) = self.session_of(socket) {
            session.subscription = Some(subscription.to_owned());
        }
    }

    /// Removes a subscription from its session.
    pub(super) fn unsubscribe(&mut self, subscription: &str) {
        for session in &mut self.sessions {
            if session.subscription.as_deref() == Some(subscription) {
                session.subscription = None;
            }
        }
    }
}

/// Detaches all sockets from their sessions at once, before their tasks notice that the connections
/// are cut.
pub(super) fn part(state: &mut State) {
    let ids: Vec<u64> = state.gateway.sockets.keys().copied().collect();
    for id in ids {
        sockets::detach(state, id, true);
        if let Some(socket) = state.gateway.sockets.get_mut(&id) {
            socket.ending = true;
        }
    }
}
