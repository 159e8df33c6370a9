//! The reader's side of a session.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_core::stream::FusedStream;
use tokio::task::AbortHandle;
use tracing::Instrument as _;

use super::delivery::AgentDelivery;
use super::driver::Driver;
use super::machine::{Doubt, SessionOrigin};
use super::proven::Proven;
use super::queued_batch::QueuedBatch;
use super::shared::{AgentCursor, AgentStatus, Shared};
use crate::batches::{self, Batches, Counted};
use crate::error::{Error, ErrorKind, Result};
use crate::status::{Phase, StatusWatch};
use crate::telemetry;

/// The stream of a session's events.
///
/// Yields the items of a [`Subscription`](crate::Subscription): events, gaps, and undecodable events. The last item is
/// [`SessionEnded`](crate::agent::AgentDelivery::SessionEnded) or an `Err`; transient errors are retried inside and appear in
/// [`status`](Self::status).
///
/// Reading is cancel safe: a dropped `next()` loses nothing. Dropping the stream aborts the poll, and leaves the
/// session running.
#[must_use = "a dropped stream stops polling"]
pub struct AgentEvents {
    shared: Arc<Shared>,
    batches: Batches<QueuedBatch>,
    task: AbortHandle,
    /// The unread rest of the newest batch.
    open: Option<(QueuedBatch, Counted)>,
    /// The position after everything that was read.
    read: AgentCursor,
    /// What is proven by that.
    read_proven: Proven,
    over: bool,
}

impl AgentEvents {
    pub(crate) fn open(shared: Arc<Shared>) -> Result<Self> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|error| Error::config("polls need a tokio runtime").with_source(error))?;
        // While they have no room, there is no poll.
        let (sender, batches) = batches::channel(shared.settings.queue_bytes);
        let (driver, read, read_proven) = {
            let mut start = shared.stream_start();
            start.stream += 1;
            let driver = Driver::new(shared.clone(), &start, sender);
            start.discarded = false;
            (driver, start.cursor.clone(), start.proven.clone())
        };
        let task = runtime.spawn(driver.run().instrument(telemetry::agent_session())).abort_handle();
        Ok(Self { shared, batches, task, open: None, read, read_proven, over: false })
    }

    /// The next delivery; `None` once the stream has ended. An `Err` is the last item.
    ///
    /// The same as `StreamExt::next`, without an import. Cancel safe: a dropped call loses nothing.
    pub async fn next(&mut self) -> Option<Result<AgentDelivery>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The position to continue from after a restart: it covers the batches that were read to their end and no delivery
    /// that still waits. Store it once you have processed them, and pass it to
    /// [`AgentSessionBuilder::resume`](super::AgentSessionBuilder::resume).
    ///
    /// The service answers a position that is not its newest with a snapshot, so the events that were unread then
    /// arrive as a [`Gap`](crate::Gap) and the present state.
    #[must_use]
    pub fn cursor(&self) -> AgentCursor {
        self.read.clone()
    }

    /// A watch of the session's status.
    #[must_use]
    pub fn status(&self) -> StatusWatch<AgentStatus> {
        StatusWatch::new(self.shared.status.subscribe())
    }

    fn next_open(&mut self) -> Option<Result<AgentDelivery>> {
        let (queued, _) = self.open.as_mut()?;
        let item = queued.items.pop_front();
        if let Some(Ok(delivery)) = &item {
            self.shared.stream_start().roster.note(delivery);
            count(delivery);
        }
        if queued.items.is_empty() {
            if let Some(after) = queued.after.take() {
                self.read = after;
            }
            self.read_proven = std::mem::take(&mut queued.proven);
            self.open = None;
        }
        item
    }
}

/// Counts what the stream yields.
fn count(delivery: &AgentDelivery) {
    match delivery {
        AgentDelivery::Notification(it) => telemetry::agent_event(it.origin().as_str()),
        AgentDelivery::Gap(gap) => telemetry::gap_opened(gap),
        AgentDelivery::Resumed(resumed) => telemetry::gap_closed(resumed),
        AgentDelivery::Undecodable(_) => telemetry::undecodable(),
        AgentDelivery::ContactsGone(_) | AgentDelivery::SessionEnded(_) => {}
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
            match std::task::ready!(this.batches.poll_recv(cx)) {
                Some(queued) => this.open = Some(queued),
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
            // From here on the task moves no position, in any state.
            let mut start = self.shared.stream_start();
            start.stream += 1;
            let mut unread = self.open.as_ref().is_some_and(|(queued, _)| queued.holds_events());
            let mut waits = self.open.is_some();
            while let Ok((queued, _)) = self.batches.try_recv() {
                unread |= queued.holds_events();
                waits = true;
            }
            if waits {
                // A gap that the next stream reports begins before the unread events.
                start.proven = self.read_proven.clone();
            }
            if start.cursor != self.read {
                // The service sends unread events again, as far as they are state.
                start.cursor = self.read.clone();
                start.origin = SessionOrigin::Continued;
                start.doubt = Doubt::Broken;
            } else if unread {
                // It came without a new id, so the service considers it read.
                start.discarded = true;
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
