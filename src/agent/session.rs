//! A session and its operations.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::client::Calls;
use super::desk::Roster;
use super::machine::{Doubt, SessionOrigin};
use super::proven::{Moment, Proven};
use super::shared::{AgentCursor, AgentStatus, Settings, Shared, StreamStart};
use super::stream::AgentEvents;
use crate::error::{Error, ErrorKind, Result};
use crate::status::{Phase, StatusWatch};

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

/// An agent's session. Cheap to clone; clones are the same session.
///
/// Dropping it, or its stream, does not end it at the service: [`end`](Self::end) does.
#[derive(Clone)]
pub struct AgentSession {
    shared: Arc<Shared>,
    /// The stream that polls from the start on, until it is requested.
    first: Arc<Mutex<Option<AgentEvents>>>,
}

impl AgentSession {
    pub(crate) fn new(api: impl Calls, settings: Settings, cursor: AgentCursor, origin: SessionOrigin) -> Self {
        let status = AgentStatus { phase: Phase::Connecting, failed_attempts: 0, ended: None, last_error: None };
        let shared = Arc::new(Shared {
            api: Box::new(api),
            settings,
            start: Mutex::new(StreamStart {
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
        });
        Self { shared, first: Arc::default() }
    }

    /// Polls from now on, whether or not the stream is requested: the service ends a session that is not polled, and
    /// gathers its events only for a while.
    pub(crate) fn polling(self) -> Result<Self> {
        let events = self.open()?;
        *self.first() = Some(events);
        Ok(self)
    }

    fn first(&self) -> MutexGuard<'_, Option<AgentEvents>> {
        // A change of it is whole before anything can panic.
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<AgentEvents> {
        if self.shared.is_read.swap(true, Ordering::AcqRel) {
            return Err(Error::new(ErrorKind::Busy, "another stream already reads the session's events"));
        }
        AgentEvents::open(self.shared.clone()).inspect_err(|_| self.shared.is_read.store(false, Ordering::Release))
    }

    /// The session was requested at `asked`: none of its events is older.
    pub(crate) fn began(self, asked: Moment) -> Self {
        self.shared.stream_start().proven = Proven::began(asked);
        self
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// The stream of events, from the start of the session on. A background task polls since the start, whether or not
    /// this is called and the stream is read, as far as
    /// [`queue_bytes`](super::AgentSessionBuilder::queue_bytes) allow.
    ///
    /// Only one stream at a time: two polls of one session would take each other's events. Dropping it ends the polls. A
    /// second stream polls again, and continues from where the first one was read; the service answers an old position
    /// with a snapshot, so the second one begins with a [`Gap`](crate::Gap) unless everything had been read.
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy) while another stream of this session exists, [`Closed`](ErrorKind::Closed) once the
    /// session has ended, [`Config`](ErrorKind::Config) outside of a tokio runtime.
    pub fn events(&self) -> Result<AgentEvents> {
        if let Some(first) = self.first().take() {
            return Ok(first);
        }
        if self.shared.status.borrow().phase == Phase::Closed {
            return Err(Error::new(ErrorKind::Closed, "the session has ended"));
        }
        self.open()
    }

    /// A watch of the session's status.
    #[must_use]
    pub fn status(&self) -> StatusWatch<AgentStatus> {
        StatusWatch::new(self.shared.status.subscribe())
    }

    /// The id of the next poll. For a position to continue from after a restart use [`AgentEvents::cursor`], which
    /// covers only what was read.
    #[must_use]
    pub fn newest_cursor(&self) -> AgentCursor {
        self.shared.stream_start().cursor.clone()
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
            let start = self.shared.stream_start();
            (start.cursor.clone(), start.refused_ends)
        };
        if let Err(error) = self.shared.api.end(cursor.secret(), &query).await {
            // The service may answer so for a session that has ended before.
            let is_over = error.status() == Some(409) && self.shared.status.borrow().phase == Phase::Closed;
            return if is_over { Ok(()) } else { Err(error) };
        }
        {
            let start = self.shared.stream_start();
            if start.refused_ends != refused {
                // The stream has read already that this end had no success.
                return Ok(());
            }
            self.shared.ended_here.store(true, Ordering::Release);
        }
        self.shared.status.send_if_modified(|status| {
            let is_open = status.phase != Phase::Closed && self.shared.ended_here.load(Ordering::Acquire);
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
        self.shared.api.set_state(self.newest_cursor().secret(), "Available", None).await
    }

    /// Makes the agent unavailable, for a reason from the business unit's list.
    ///
    /// # Errors
    /// The service's answer.
    pub async fn set_unavailable(&self, reason: Option<&str>) -> Result<()> {
        self.shared.api.set_state(self.newest_cursor().secret(), "Unavailable", reason).await
    }
}

impl fmt::Debug for AgentSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentSession").field("status", &*self.shared.status.borrow()).finish_non_exhaustive()
    }
}
