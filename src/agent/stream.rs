//! The reader's side of a session.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_core::stream::FusedStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use super::delivery::AgentDelivery;
use super::driver::Driver;
use super::machine::{Begun, Doubt};
use super::proven::Proven;
use super::session::{AgentCursor, AgentStatus, Shared};
use crate::error::{Error, ErrorKind, Result};
use crate::subscription::{Delivery, Phase, StatusWatch};

/// What one answer brought.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) items: VecDeque<Result<AgentDelivery>>,
    /// Where to go on once all of it was read.
    pub(crate) after: Option<AgentCursor>,
    /// What is proven then.
    pub(crate) proven: Proven,
    /// Bytes.
    pub(crate) weight: usize,
}

impl Parcel {
    /// Whether it has something in it that is not told again.
    fn tells(&self) -> bool {
        let tells = |item: &Result<AgentDelivery>| {
            matches!(item, Ok(Delivery::Notification(_) | Delivery::Undecodable(_) | Delivery::Gap(_)))
        };
        self.items.iter().any(tells)
    }
}

/// How much waits for the reader.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    bytes: AtomicUsize,
    read: Notify,
}

impl Backlog {
    pub(crate) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    fn take(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.read.notify_one();
    }

    pub(crate) fn is_over(&self, limit: usize) -> bool {
        self.bytes.load(Ordering::Acquire) > limit
    }

    /// Waits until no more than `limit` bytes wait.
    pub(crate) async fn room(&self, limit: usize) {
        while self.is_over(limit) {
            self.read.notified().await;
        }
    }
}

/// The stream of a session's events.
///
/// Yields what [`Subscription`](crate::Subscription) yields: events, gaps, and what could
/// not be read. The last item is [`SessionEnded`](crate::Delivery::SessionEnded) or an
/// `Err`; everything that can pass is retried inside and seen in
/// [`status`](Self::status).
///
/// Reading is cancel safe: a dropped `next()` loses nothing. Dropping the stream cuts the
/// poll, and leaves the session as it is.
#[must_use = "a stream that is dropped polls no more"]
pub struct AgentEvents {
    shared: Arc<Shared>,
    parcels: mpsc::UnboundedReceiver<Parcel>,
    backlog: Arc<Backlog>,
    task: AbortHandle,
    /// What of the newest parcel was not read yet.
    open: Option<Parcel>,
    /// Covers what was read.
    read: AgentCursor,
    /// What is proven of that.
    read_proven: Proven,
    over: bool,
}

impl AgentEvents {
    pub(crate) fn open(shared: Arc<Shared>) -> Result<Self> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|error| Error::config("polls need a tokio runtime").with_source(error))?;
        // Bounded by what the backlog weighs: while it is over, there is no poll.
        let (sender, parcels) = mpsc::unbounded_channel();
        let backlog = Arc::new(Backlog::default());
        let (driver, read, read_proven) = {
            let mut place = shared.place();
            place.stream += 1;
            let driver = Driver::new(shared.clone(), &place, backlog.clone(), sender);
            place.discarded = false;
            (driver, place.cursor.clone(), place.proven.clone())
        };
        let task = runtime.spawn(driver.run()).abort_handle();
        Ok(Self { shared, parcels, backlog, task, open: None, read, read_proven, over: false })
    }

    /// Where to go on after a restart: covers the batches that were read to their end and
    /// nothing that still waits. Keep it once you are done with what was read, and hand
    /// it to [`AgentSessionBuilder::resume`](super::AgentSessionBuilder::resume).
    ///
    /// The service answers a place that is not its newest with a snapshot, so what was
    /// not read then comes as a [`Gap`](crate::Gap) and the state of things.
    #[must_use]
    pub fn cursor(&self) -> AgentCursor {
        self.read.clone()
    }

    /// Follows what the session is doing.
    #[must_use]
    pub fn status(&self) -> StatusWatch<AgentStatus> {
        StatusWatch::new(self.shared.status.subscribe())
    }

    fn next_open(&mut self) -> Option<Result<AgentDelivery>> {
        let parcel = self.open.as_mut()?;
        let item = parcel.items.pop_front();
        if let Some(Ok(delivery)) = &item {
            self.shared.place().roster.note(delivery);
        }
        if parcel.items.is_empty() {
            if let Some(after) = parcel.after.take() {
                self.read = after;
            }
            self.read_proven = std::mem::take(&mut parcel.proven);
            self.backlog.take(parcel.weight);
            self.open = None;
        }
        item
    }
}

impl Stream for AgentEvents {
    type Item = Result<AgentDelivery>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(item) = this.next_open() {
                return Poll::Ready(Some(item));
            }
            if this.over {
                return Poll::Ready(None);
            }
            match std::task::ready!(this.parcels.poll_recv(cx)) {
                Some(parcel) => this.open = Some(parcel),
                None => {
                    this.over = true;
                    let closed = this.shared.status.borrow().phase == Phase::Closed;
                    return Poll::Ready((!closed).then(|| {
                        let message = "the session's task ended: its runtime was shut down, or it panicked";
                        Err(Error::new(ErrorKind::Internal, message))
                    }));
                }
            }
        }
    }
}

impl FusedStream for AgentEvents {
    fn is_terminated(&self) -> bool {
        self.over && self.open.is_none()
    }
}

impl Drop for AgentEvents {
    fn drop(&mut self) {
        self.task.abort();
        {
            // From here on the task moves nothing, wherever it is.
            let mut place = self.shared.place();
            place.stream += 1;
            let mut unread = self.open.as_ref().is_some_and(Parcel::tells);
            let mut waits = self.open.is_some();
            while let Ok(parcel) = self.parcels.try_recv() {
                unread |= parcel.tells();
                waits = true;
            }
            if waits {
                // A gap that the next stream reports begins before what was not read.
                place.proven = self.read_proven.clone();
            }
            if place.cursor != self.read {
                // What was not read is told again by the service, as far as it is state.
                place.cursor = self.read.clone();
                place.begun = Begun::Continued;
                place.doubt = Doubt::Broken;
            } else if unread {
                // It came with no id of its own, so the service takes it for read.
                place.discarded = true;
            }
        }
        self.shared.is_read.store(false, Ordering::Release);
    }
}

impl fmt::Debug for AgentEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentEvents").field("status", &*self.shared.status.borrow()).finish_non_exhaustive()
    }
}
