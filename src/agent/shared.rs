//! What a session, its stream and its driver share.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::client::Calls;
use super::delivery::SessionEnded;
use super::desk::Roster;
use super::machine::{Doubt, Rules, SessionOrigin};
use super::proven::{Moment, Proven};
use super::station::Station;
use crate::error::Error;
use crate::secret::Secret;
use crate::status::Phase;
use crate::system::System;

/// A position in a session's events: the session id, which is also the cursor and suffices to read and to end the
/// session.
///
/// A secret, so `Debug` does not show it. [`expose`](Self::expose) it only to your store, and pass it to
/// [`AgentSessionBuilder::resume`](super::AgentSessionBuilder::resume) after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentCursor(Secret);

impl AgentCursor {
    pub(crate) fn new(id: Secret) -> Self {
        Self(id)
    }

    /// Makes a cursor from a stored text. The text is the service's: do not assemble one.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(Secret::new(text))
    }

    /// The text, for your store.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.0
    }
}

/// The status of a session.
///
/// `Serialize` and `Deserialize` have its [stored form](crate::Delivery#stored-form).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AgentStatus {
    /// Its phase: [`Connecting`](Phase::Connecting) until the first answer to a poll,
    /// [`Reconnecting`](Phase::Reconnecting) while polls fail, [`Recreating`](Phase::Recreating) while a lost session
    /// is being replaced.
    pub phase: Phase,
    /// How many consecutive attempts failed; 0 while polls succeed.
    pub failed_attempts: u32,
    /// How it ended, if it has.
    pub ended: Option<SessionEnded>,
    /// The latest error, until a poll succeeds again.
    pub last_error: Option<Arc<Error>>,
}

impl AgentStatus {
    /// Whether events can arrive.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.phase == Phase::Live
    }
}

#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) rules: Rules,
    pub(crate) margin: Duration,
    pub(crate) queue_bytes: usize,
    pub(crate) station: Station,
    pub(crate) system: System,
}

impl Settings {
    pub(crate) fn moment(&self) -> Moment {
        Moment { at: tokio::time::Instant::now(), wall: self.system.now() }
    }
}

/// Where the next stream begins.
#[derive(Debug)]
pub(crate) struct StreamStart {
    pub(crate) cursor: AgentCursor,
    pub(crate) origin: SessionOrigin,
    /// Up to when every event was delivered, or is in a gap.
    pub(crate) proven: Proven,
    /// Whether an answer with that id may have been lost.
    pub(crate) doubt: Doubt,
    /// A stream was dropped with unread events that have no later id at the service.
    pub(crate) discarded: bool,
    /// The contacts that were delivered.
    pub(crate) roster: Roster,
    /// The number of ends without success that were read.
    pub(crate) refused_ends: u64,
    /// Counts the streams: only the newest may move the position.
    pub(crate) stream: u64,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) api: Box<dyn Calls>,
    pub(crate) settings: Settings,
    pub(super) start: Mutex<StreamStart>,
    pub(crate) status: watch::Sender<AgentStatus>,
    /// Whether a stream is being read.
    pub(crate) is_read: AtomicBool,
    /// Whether the service agreed to end the session.
    pub(crate) ended_here: AtomicBool,
}

impl Shared {
    pub(crate) fn stream_start(&self) -> MutexGuard<'_, StreamStart> {
        self.start.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
