//! Handles that outlive a borrow of the stream.

use std::fmt;

use tokio::sync::{mpsc, oneshot, watch};

use super::driver::{Command, Shutdown};
use super::status::{Phase, StatusWatch};
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventFilter;
use crate::ids::SubscriptionId;
#[cfg(feature = "websocket")]
use crate::transport::SocketClient;

/// Changes a subscription while its stream is being read. Cheap to clone; keeps
/// nothing alive.
#[derive(Clone)]
pub struct SubscriptionHandle {
    commands: mpsc::Sender<Command>,
    status: StatusWatch,
    #[cfg(feature = "websocket")]
    socket: Option<SocketClient>,
}

impl SubscriptionHandle {
    pub(super) fn new(commands: mpsc::Sender<Command>, status: StatusWatch) -> Self {
        Self {
            commands,
            status,
            #[cfg(feature = "websocket")]
            socket: None,
        }
    }

    #[cfg(feature = "websocket")]
    pub(super) fn with_socket(self, socket: Option<SocketClient>) -> Self {
        Self { socket, ..self }
    }

    /// Makes REST calls over the subscription's own connection to the WebSocket
    /// gateway; `None` with another transport.
    #[cfg(feature = "websocket")]
    #[must_use]
    pub fn socket(&self) -> Option<SocketClient> {
        self.socket.clone()
    }

    /// The subscription's id at the service; changes when it is recreated.
    #[must_use]
    pub fn id(&self) -> Option<SubscriptionId> {
        self.status.current().subscription_id
    }

    /// Follows what the subscription is doing.
    #[must_use]
    pub fn status(&self) -> StatusWatch {
        self.status.clone()
    }

    /// Replaces all filters (`PUT /restapi/v1.0/subscription/{id}`).
    ///
    /// The stream goes on meanwhile. When it fails, the filters are as before:
    /// only the service's confirmation changes them. Dropping the future does not
    /// take the change back.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an empty list, [`ErrorKind::Busy`] while another
    /// change is pending (nothing is sent then), [`ErrorKind::Closed`] when the
    /// subscription is over, or what the service answered.
    pub async fn update_filters(&self, filters: impl IntoIterator<Item = EventFilter>) -> Result<()> {
        let filters: Vec<String> = filters.into_iter().map(|filter| filter.to_string()).collect();
        if filters.is_empty() {
            return Err(Error::config("a subscription needs at least one event filter"));
        }
        let closed = || Error::new(ErrorKind::Closed, "the subscription has ended");
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Update { filters, answer }).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// Renews the lease and opens a new link now, as after a sleep of the
    /// machine: for apps that learn of a change of network before the link does.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] when the subscription is over.
    pub async fn revalidate(&self) -> Result<()> {
        let closed = |_| Error::new(ErrorKind::Closed, "the subscription has ended");
        self.commands.send(Command::Revalidate).await.map_err(closed)
    }
}

impl fmt::Debug for SubscriptionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionHandle").field("status", &self.status.current()).finish_non_exhaustive()
    }
}

/// Ends a subscription from elsewhere. Cheap to clone; keeps nothing alive, and
/// dropping it ends nothing.
#[derive(Clone)]
pub struct ShutdownHandle {
    shutdown: watch::Sender<Option<Shutdown>>,
    status: StatusWatch,
}

impl ShutdownHandle {
    pub(super) fn new(shutdown: watch::Sender<Option<Shutdown>>, status: StatusWatch) -> Self {
        Self { shutdown, status }
    }

    /// Deletes the subscription; the stream hands out what has come and ends.
    /// Returns at once.
    pub fn drain(&self) {
        self.ask(Shutdown::Drain);
    }

    /// Deletes the subscription; the stream ends soon. What has come and was not
    /// handed out is discarded, which a last [`Gap`](super::Gap) tells. Returns at
    /// once.
    pub fn discard(&self) {
        self.ask(Shutdown::Discard);
    }

    /// Waits until the service has been told, or the bound for that has passed.
    /// `true` if the service confirmed the deletion. Cancel safe.
    pub async fn finished(&self) -> bool {
        let mut status = self.status.clone();
        match status.wait_for(|status| status.phase == Phase::Closed).await {
            Some(status) => status.deleted,
            None => self.status.current().deleted,
        }
    }

    /// The reader being gone is final.
    fn ask(&self, how: Shutdown) {
        self.shutdown.send_if_modified(|current| {
            let changed = *current != Some(Shutdown::Dropped) && *current != Some(how);
            if changed {
                *current = Some(how);
            }
            changed
        });
    }
}

impl fmt::Debug for ShutdownHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutdownHandle").field("status", &self.status.current()).finish_non_exhaustive()
    }
}
