//! Handles that outlive a borrow of the stream.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::checkpoint::Keeper;
use super::ending::Shutdown;
use super::ports::{Command, Update};
use crate::delivery::Delivery;
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventFilter;
use crate::ids::SubscriptionId;
use crate::status::{Phase, StatusWatch};

/// Changes a subscription while its stream is being read. Cheap to clone; does not keep the subscription alive.
#[derive(Clone)]
pub struct SubscriptionHandle {
    commands: mpsc::Sender<Command>,
    status: StatusWatch,
    caller: Option<Arc<dyn Any + Send + Sync>>,
    keeper: Weak<Keeper>,
    has_checkpoint: bool,
}

impl SubscriptionHandle {
    pub(super) fn new(commands: mpsc::Sender<Command>, status: StatusWatch) -> Self {
        Self { commands, status, caller: None, keeper: Weak::new(), has_checkpoint: false }
    }

    pub(super) fn with_caller(self, caller: Option<Arc<dyn Any + Send + Sync>>) -> Self {
        Self { caller, ..self }
    }

    pub(super) fn with_keeper(self, keeper: Weak<Keeper>, has_checkpoint: bool) -> Self {
        Self { keeper, has_checkpoint, ..self }
    }

    /// What makes the app's own calls over the subscription's connection, if the transport supports that, by its type:
    /// see [`TransportBinding::caller`](crate::transport::TransportBinding).
    #[must_use]
    pub fn caller<T: Clone + 'static>(&self) -> Option<T> {
        self.caller.as_ref()?.downcast_ref().cloned()
    }

    /// Makes REST calls over the subscription's own connection to the WebSocket
    /// gateway; `None` with another transport.
    #[cfg(feature = "websocket")]
    #[must_use]
    pub fn socket(&self) -> Option<crate::transport::SocketClient> {
        self.caller()
    }

    /// The subscription's id at the service; changes when it is recreated.
    #[must_use]
    pub fn id(&self) -> Option<SubscriptionId> {
        self.status.current().subscription_id
    }

    /// A watch of the subscription's status.
    #[must_use]
    pub fn status(&self) -> StatusWatch {
        self.status.clone()
    }

    /// Acknowledges one delivery by its [number](crate::Subscription::number), in any order: after a restart it is not
    /// delivered again, though deliveries before it may be. For [`AckMode::Explicit`](crate::AckMode::Explicit), and
    /// readers that process events concurrently. It is saved within a second, or with the next
    /// [`Subscription::ack`](crate::Subscription::ack).
    ///
    /// The stored position stays before the oldest delivery that is not acknowledged. A [`Gap`](crate::Gap) and its end
    /// have no identity at the service: they may be delivered again from that position.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] without a checkpoint, or for a number that the stream has not yielded;
    /// [`ErrorKind::Busy`] for a delivery that came when some 4096 waited for an acknowledgement: it and those after it
    /// can only be acknowledged together, by [`Subscription::ack`](crate::Subscription::ack); [`ErrorKind::Closed`]
    /// when the stream was dropped.
    pub fn ack(&self, number: u64) -> Result<()> {
        if !self.has_checkpoint {
            return Err(Error::config("there is no checkpoint to store the position in"));
        }
        self.keeper()?.acknowledge(number)
    }

    fn keeper(&self) -> Result<Arc<Keeper>> {
        self.keeper.upgrade().ok_or_else(|| Error::new(ErrorKind::Closed, "the stream was dropped"))
    }

    /// Gives back a delivery that could not be processed: the stream yields it again after `after` (100 ms at least,
    /// 10 min at most), with the same [number](crate::Subscription::number) and the next
    /// [attempt](crate::Subscription::attempt). `delivery` must be the one with that number.
    ///
    /// Until then it counts as not acknowledged, also by [`Subscription::ack`](crate::Subscription::ack) and in
    /// [`AckMode::OnNext`](crate::AckMode::OnNext): a restart delivers it again too. Works without a checkpoint. When
    /// the stream ends, deliveries that wait come at once, before its end.
    ///
    /// Later deliveries do not wait for it. For order per resource, see
    /// [`Subscription::for_each_concurrent`](crate::Subscription::for_each_concurrent).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] at the tenth attempt: acknowledge it, after having stored it elsewhere, or leave it for
    /// the next start. The same for a delivery that is acknowledged, or comes again already. [`ErrorKind::Busy`] while
    /// 8 MiB wait to come again, or as in [`ack`](Self::ack). [`ErrorKind::Closed`] when
    /// the stream has ended. After an error it is not acknowledged either, so that a restart delivers it again.
    pub fn nack(&self, number: u64, delivery: Delivery, after: Duration) -> Result<()> {
        self.keeper()?.give_back(number, delivery, after)
    }

    /// Replaces all filters (`PUT /restapi/v1.0/subscription/{id}`).
    ///
    /// The stream continues meanwhile. A failed change leaves the filters unchanged: only the service's confirmation
    /// changes them. Dropping the future does not undo the change.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an empty list, [`ErrorKind::Busy`] while another change is pending (nothing is sent
    /// then), [`ErrorKind::Closed`] when the subscription has ended, or the service's answer.
    pub async fn update_filters(&self, filters: impl IntoIterator<Item = EventFilter>) -> Result<()> {
        let filters: Vec<String> = filters.into_iter().map(|filter| filter.to_string()).collect();
        if filters.is_empty() {
            return Err(Error::config("a subscription needs at least one event filter"));
        }
        let closed = || Error::new(ErrorKind::Closed, "the subscription has ended");
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Update(Box::new(Update { filters, answer }))).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// Renews the lease and opens a new link now, as after a sleep of the machine: for apps that notice a change of
    /// network before the link does.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] when the subscription has ended.
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

/// Ends a subscription from another task. Cheap to clone; does not keep the subscription alive, and dropping it does
/// not end the subscription.
#[derive(Clone)]
pub struct ShutdownHandle {
    shutdown: watch::Sender<Option<Shutdown>>,
    status: StatusWatch,
}

impl ShutdownHandle {
    pub(super) fn new(shutdown: watch::Sender<Option<Shutdown>>, status: StatusWatch) -> Self {
        Self { shutdown, status }
    }

    /// Deletes the subscription; the stream delivers the received events and ends. Returns at once.
    pub fn drain(&self) {
        self.ask(Shutdown::Drain);
    }

    /// Deletes the subscription; the stream ends soon. Received events that were not delivered are discarded, which a
    /// last [`Gap`](crate::Gap) reports. Returns at once.
    pub fn discard(&self) {
        self.ask(Shutdown::Discard);
    }

    /// Waits until the service has answered the deletion, or its deadline has passed. `true` if the service confirmed
    /// the deletion. Cancel safe.
    pub async fn finished(&self) -> bool {
        let mut status = self.status.clone();
        match status.wait_for(|status| status.phase == Phase::Closed).await {
            Some(status) => status.deleted,
            None => self.status.current().deleted,
        }
    }

    /// A dropped reader is final.
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
