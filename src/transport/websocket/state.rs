//! What a connection and the task that reads it share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::ended::Ended;
use super::event_buffer::EventBuffer;
use super::frame::Reply;
use super::recovery::{Details, Wsc};
use super::stats::Counters;
use crate::error::Result;
use crate::secret::Secret;
use crate::system::System;

/// How long to wait for the peer's close frame.
pub(super) const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Requests to the task. Small, since a channel allocates room for 32 of them before the first.
pub(super) enum Command {
    Request(Box<Request>),
    /// Send a close frame, now or after a delay.
    Close {
        after: Duration,
    },
    /// Send a ping.
    Ping,
    /// End without a close frame, after a last ping.
    BreakOff,
}

const _: () = assert!(size_of::<Command>() <= 16);

/// A request to the peer.
pub(super) struct Request {
    pub(super) id: String,
    pub(super) text: String,
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Result<Reply>>,
}

/// The state of a connection.
pub(super) struct State {
    pub(super) opened: bool,
    pub(super) details: Details,
    pub(super) wsc: Option<Wsc>,
    /// The secrets of the opening request.
    pub(super) opened_with: Vec<Secret>,
    /// When the peer last sent anything.
    pub(super) heard_at: Instant,
    pub(super) event_buffer: EventBuffer,
    /// Events that the connection before had received and not delivered.
    pub(super) earlier: Option<EventBuffer>,
    /// This connection continues the session of another; `None` once that is reported.
    pub(super) continued: Option<Continued>,
    /// When the newest question that the peer answered was sent.
    pub(super) answered: Option<Instant>,
    /// When another connection should take over.
    pub(super) leave_at: Option<Instant>,
    pub(super) ended: Option<Ended>,
    /// Whether it stays open only until its subscription is deleted.
    pub(super) retired: bool,
    /// Counts the links that read it; only the latest one may read, while it is attached.
    pub(super) reader: u64,
    pub(super) attached: bool,
}

/// The continuation of a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Continued {
    pub(super) read_to_end: bool,
}

impl State {
    /// Secrets that the peer knows and that no error text may quote.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        self.opened_with.iter().chain(self.wsc.as_ref().map(|wsc| &wsc.token)).cloned().collect()
    }
}

/// State that the task shares with the callers.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) changed: Notify,
    /// A link took the waiting events.
    pub(super) drained: Notify,
    pub(super) counters: Arc<Counters>,
    pub(super) system: System,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
