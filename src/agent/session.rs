//! A session and its operations.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::builder::{AgentSessionBuilder, Station};
use super::client::Calls;
use super::delivery::SessionEnded;
use super::desk::Roster;
use super::machine::{Doubt, Rules, SessionOrigin};
use super::proven::{Moment, Proven};
use super::stream::AgentEvents;
use crate::auth::TokenProvider;
use crate::error::{Error, ErrorKind, Result};
use crate::secret::Secret;
use crate::status::{Phase, StatusWatch};
use crate::system::System;

/// A position in a session's events: the session id, which is also the cursor and suffices to read and to end the
/// session.
///
/// A secret, so `Debug` does not show it. [`expose`](Self::expose) it only to your store, and pass it to
/// [`AgentSessionBuilder::resume`] after a restart.
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

/// How to end a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct EndSession {
    force_logoff: bool,
    end_contacts: bool,
    ignore_personal_queue: bool,
}

impl EndSession {
    /// Ends it only if nothing prevents that.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends it even with open contacts (`forceLogoff`). Default no.
    pub fn force_logoff(mut self, force: bool) -> Self {
        self.force_logoff = force;
        self
    }

    /// Ends open contacts (`endContacts`). Default no.
    pub fn end_contacts(mut self, end: bool) -> Self {
        self.end_contacts = end;
        self
    }

    /// Ends it even with contacts in the agent's own queue (`ignorePersonalQueue`). Default no.
    pub fn ignore_personal_queue(mut self, ignore: bool) -> Self {
        self.ignore_personal_queue = ignore;
        self
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
pub(crate) struct Place {
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
    place: Mutex<Place>,
    pub(crate) status: watch::Sender<AgentStatus>,
    /// Whether a stream is being read.
    pub(crate) is_read: AtomicBool,
    /// Whether the service agreed to end the session.
    pub(crate) ended_here: AtomicBool,
}

impl Shared {
    pub(crate) fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An agent's session. Cheap to clone; clones are the same session.
///
/// Dropping it, or its stream, does not end it at the service: [`end`](Self::end) does.
#[derive(Clone)]
pub struct AgentSession(Arc<Shared>);

impl AgentSession {
    /// Configures a session whose calls carry the tokens of `tokens`.
    pub fn builder(tokens: impl TokenProvider) -> AgentSessionBuilder {
        AgentSessionBuilder::new(tokens)
    }

    pub(crate) fn new(api: impl Calls, settings: Settings, cursor: AgentCursor, origin: SessionOrigin) -> Self {
        let status = AgentStatus { phase: Phase::Connecting, failed_attempts: 0, ended: None, last_error: None };
        Self(Arc::new(Shared {
            api: Box::new(api),
            settings,
            place: Mutex::new(Place {
                cursor,
                origin,
                proven: Proven::default(),
                // Events that were in transit when the position was stored may not have arrived.
                doubt: if origin == SessionOrigin::Continued { Doubt::Unanswered } else { Doubt::No },
                discarded: false,
                roster: Roster::default(),
                refused_ends: 0,
                stream: 0,
            }),
            status: watch::Sender::new(status),
            is_read: AtomicBool::new(false),
            ended_here: AtomicBool::new(false),
        }))
    }

    /// The session was requested at `asked`: none of its events is older.
    pub(crate) fn began(self, asked: Moment) -> Self {
        self.0.place().proven = Proven::began(asked);
        self
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.0.clone()
    }

    /// The stream of events. It polls from now on, in a background task, whether or not it is read, as far as
    /// [`queue_bytes`](AgentSessionBuilder::queue_bytes) allow.
    ///
    /// Only one stream at a time: two polls of one session would take each other's events. A second stream after the
    /// drop of the first continues from where that one was read; the service answers an old position with a snapshot,
    /// so the second one begins with a [`Gap`](crate::Gap) unless everything had been read.
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy) while another stream of this session exists, [`Closed`](ErrorKind::Closed) once the
    /// session has ended, [`Config`](ErrorKind::Config) outside of a tokio runtime.
    pub fn events(&self) -> Result<AgentEvents> {
        if self.0.status.borrow().phase == Phase::Closed {
            return Err(Error::new(ErrorKind::Closed, "the session has ended"));
        }
        if self.0.is_read.swap(true, Ordering::AcqRel) {
            return Err(Error::new(ErrorKind::Busy, "another stream already reads the session's events"));
        }
        AgentEvents::open(self.0.clone()).inspect_err(|_| self.0.is_read.store(false, Ordering::Release))
    }

    /// A watch of the session's status.
    #[must_use]
    pub fn status(&self) -> StatusWatch<AgentStatus> {
        StatusWatch::new(self.0.status.subscribe())
    }

    /// The id of the next poll. For a position to continue from after a restart use [`AgentEvents::cursor`], which
    /// covers only what was read.
    #[must_use]
    pub fn newest_cursor(&self) -> AgentCursor {
        self.0.place().cursor.clone()
    }

    /// Ends the session (`DELETE agent-sessions/{id}`). An open stream yields the remaining events and then
    /// [`SessionEnded`](crate::agent::AgentDelivery::SessionEnded).
    ///
    /// A session that the service no longer knows counts as ended (404). The form of a refusal, with open contacts for
    /// instance, is not documented: an error here, or an `AgentSessionEnd` without success. Until a stream has reported
    /// the end, the phase is [`Closing`](Phase::Closing).
    ///
    /// # Errors
    /// The service's answer, [`Busy`](ErrorKind::Busy) for 409. The session continues then.
    pub async fn end(&self, how: EndSession) -> Result<()> {
        let query = [
            ("forceLogoff", how.force_logoff.to_string()),
            ("endContacts", how.end_contacts.to_string()),
            ("ignorePersonalQueue", how.ignore_personal_queue.to_string()),
        ];
        let (cursor, refused) = {
            let place = self.0.place();
            (place.cursor.clone(), place.refused_ends)
        };
        if let Err(error) = self.0.api.end(cursor.secret(), &query).await {
            // The service may answer so for a session that has ended before.
            let is_over = error.status() == Some(409) && self.0.status.borrow().phase == Phase::Closed;
            return if is_over { Ok(()) } else { Err(error) };
        }
        {
            let place = self.0.place();
            if place.refused_ends != refused {
                // The stream has read already that this end had no success.
                return Ok(());
            }
            self.0.ended_here.store(true, Ordering::Release);
        }
        self.0.status.send_if_modified(|status| {
            let is_open = status.phase != Phase::Closed && self.0.ended_here.load(Ordering::Acquire);
            if is_open {
                status.phase = Phase::Closing;
            }
            is_open
        });
        Ok(())
    }

    /// Makes the agent available (`POST agent-sessions/{id}/state`). The change itself arrives as `AgentState`.
    ///
    /// # Errors
    /// The service's answer.
    pub async fn set_available(&self) -> Result<()> {
        self.0.api.set_state(self.newest_cursor().secret(), "Available", None).await
    }

    /// Makes the agent unavailable, for a reason from the business unit's list.
    ///
    /// # Errors
    /// The service's answer.
    pub async fn set_unavailable(&self, reason: Option<&str>) -> Result<()> {
        self.0.api.set_state(self.newest_cursor().secret(), "Unavailable", reason).await
    }
}

impl fmt::Debug for AgentSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentSession").field("status", &*self.0.status.borrow()).finish_non_exhaustive()
    }
}
