//! The stream of a subscription, and what its reader has acknowledged.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use futures_core::Stream;
use futures_core::stream::FusedStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::Span;

use super::acknowledged::Acknowledged;
use super::checkpoint::{AckMode, Checkpoint, Keeper};
use super::ending::Shutdown;
use super::handle::{ShutdownHandle, SubscriptionHandle};
use super::ports::{Batch, StreamItem};
use super::progress::{Progress, Step};
use super::redelivery::Next;
use super::resume::ResumeToken;
use crate::auth::StoreLock;
use crate::batches::{Batches, Counted};
use crate::delivery::Delivery;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Notification;
use crate::ids::SubscriptionId;
use crate::status::{Phase, StatusWatch};
use crate::telemetry;

/// A subscription, and the stream of its deliveries.
///
/// A background task renews it before expiry, reconnects, and recreates it when it is lost, whether or not the stream
/// is read. The stream yields [`Delivery`]s; an `Err` is always the last item, and means that nothing more can come.
/// Transient errors are retried inside and appear in [`status`](Self::status) and as [`Delivery::Gap`].
///
/// Reading is cancel safe: a dropped `next()` loses nothing.
///
/// A slow reader blocks nothing: events wait in a queue bounded by bytes ([`SubscriptionBuilder::queue_bytes`](crate::SubscriptionBuilder::queue_bytes)), and
/// those that do not fit become a [`Delivery::Gap`].
///
/// Dropping it deletes the subscription at the service, in the background and within a time limit ([`OnDrop`](crate::OnDrop));
/// [`close`](Self::close) waits for that.
#[must_use = "dropping a subscription deletes it"]
pub struct Subscription {
    pub(super) batches: Batches<Batch>,
    /// The unread rest of the last batch.
    batch: Batch,
    counted: Option<Counted>,
    shutdown: watch::Sender<Option<Shutdown>>,
    handle: SubscriptionHandle,
    pub(super) acks: Acks,
    ended: Ended,
    /// The number of the last yielded delivery, and which attempt it is.
    yielded: (u64, u32),
    /// Wakes the reader when a delivery is to come again.
    again: Option<Pin<Box<Sleep>>>,
    yields: telemetry::Yields,
    /// The span of the delivery that the reader works with.
    delivery: Span,
}

/// What the reader acknowledges, and how that is saved.
pub(super) struct Acks {
    pub(super) keeper: Arc<Keeper>,
    /// Requests a save at once; `None` without a checkpoint. Closing it ends the task that saves.
    ask: Option<mpsc::Sender<oneshot::Sender<Result<()>>>>,
    pub(super) mode: AckMode,
}

impl Acks {
    /// `read`: what another process has acknowledged.
    pub(super) fn new(
        read: Progress,
        checkpoint: Option<(Arc<dyn Checkpoint>, AckMode)>,
        claim: Option<Arc<StoreLock>>,
    ) -> Self {
        let keeper = Arc::new(Keeper::new(Acknowledged::new(read)));
        let Some((store, mode)) = checkpoint else { return Self { keeper, ask: None, mode: AckMode::OnNext } };
        // No more callers ever wait: there is one reader, and a save serves all waiting callers.
        let (ask, asked) = mpsc::channel(8);
        drop(tokio::spawn(keeper.clone().run(store, asked, claim)));
        Self { keeper, ask: Some(ask), mode }
    }

    /// The reader requests the next item.
    fn next_requested(&self) {
        if self.mode == AckMode::OnNext {
            self.keeper.change(Acknowledged::acknowledge_all);
        }
    }

    /// From now on each delivery is acknowledged by itself. What the reader read before, it has finished, if asking for
    /// the next one says so.
    pub(super) fn each_by_itself(&mut self) {
        self.next_requested();
        self.mode = AckMode::Explicit;
    }

    pub(super) fn pass(&self, step: Step) {
        self.keeper.change(|acknowledged| acknowledged.pass(step));
    }

    pub(super) async fn ack(&self) -> Result<()> {
        self.keeper.change(Acknowledged::acknowledge_all);
        self.save().await
    }

    /// Saves what is acknowledged by now. A dropped call does not drop the save.
    async fn save(&self) -> Result<()> {
        let none = || Error::config("there is no checkpoint to store the position in");
        let over = || Error::new(ErrorKind::Internal, "the task that saves the checkpoint ended with its runtime");
        let (answer, saved) = oneshot::channel();
        self.ask.as_ref().ok_or_else(none)?.send(answer).await.map_err(|_| over())?;
        saved.await.unwrap_or_else(|_| Err(over()))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    No,
    /// The stream has reported its end.
    Yes,
}

impl Subscription {
    pub(super) fn new(
        batches: Batches<Batch>,
        shutdown: watch::Sender<Option<Shutdown>>,
        handle: SubscriptionHandle,
        acks: Acks,
        yields: telemetry::Yields,
    ) -> Self {
        let handle = handle.with_keeper(Arc::downgrade(&acks.keeper), acks.ask.is_some());
        Self {
            batches,
            batch: Batch::new(),
            counted: None,
            shutdown,
            handle,
            acks,
            ended: Ended::No,
            yielded: (0, 0),
            again: None,
            yields,
            delivery: Span::none(),
        }
    }

    /// Whether it has a checkpoint that holds no position yet.
    pub(super) fn needs_first_position(&self) -> bool {
        self.acks.ask.is_some() && !self.acks.keeper.read(Acknowledged::is_after_restart)
    }

    /// The next delivery; `None` once the stream has ended. An `Err` is the last item.
    ///
    /// The same as `StreamExt::next`, without an import. Cancel safe: a dropped call loses nothing.
    pub async fn next(&mut self) -> Option<Result<Delivery>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The subscription's id at the service; changes when it is recreated.
    #[must_use]
    pub fn id(&self) -> Option<SubscriptionId> {
        self.handle.id()
    }

    /// A watch of the subscription's status.
    #[must_use]
    pub fn status(&self) -> StatusWatch {
        self.handle.status()
    }

    /// A handle to change filters and the like while the stream is being read.
    #[must_use]
    pub fn handle(&self) -> SubscriptionHandle {
        self.handle.clone()
    }

    /// A handle to end the subscription from another task, such as a signal handler.
    #[must_use]
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle::new(self.shutdown.clone(), self.status())
    }

    /// Where to continue after a restart: covers the items that the stream has yielded, and none that still wait. Until
    /// something is read, a resumed subscription returns the position that it continued from; another one returns
    /// `None` before the stream is polled for the first time.
    #[must_use]
    pub fn resume_token(&self) -> Option<ResumeToken> {
        self.acks.keeper.read(Acknowledged::read_token)
    }

    /// The number of the last delivery that the stream has yielded: 1 for the first one, 0 before it, and the former
    /// number of one that comes again. It names that delivery to [`SubscriptionHandle::ack`] and
    /// [`nack`](SubscriptionHandle::nack), for as long as this stream lasts.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.yielded.0
    }

    /// Which attempt the last delivery is: 1, or more for one that was given back to
    /// [`SubscriptionHandle::nack`]. 0 before the first delivery. A restart begins with 1 again.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.yielded.1
    }

    /// Marks everything that the stream has yielded as finished, and saves that in the [`Checkpoint`]: after a restart
    /// none of it is delivered again, and everything after it is.
    ///
    /// Works in both [`AckMode`]s. Cancel safe: after a drop, it is saved now or within a second.
    ///
    /// # Errors
    /// [`ErrorKind::Store`] when it cannot be saved: the save is repeated in the background, and the stream continues.
    /// [`ErrorKind::Config`] without a checkpoint.
    pub async fn ack(&mut self) -> Result<()> {
        self.acks.ack().await
    }

    /// Stores the position where a new subscription begins.
    pub(super) async fn save_first_position(&mut self) -> Result<()> {
        let mut is_found = false;
        while !is_found && let Some((batch, counted)) = self.batches.recv().await {
            self.counted = Some(counted);
            for item in batch {
                match item {
                    StreamItem::Step(step) if !is_found => {
                        is_found = matches!(step, Step::Mark(_));
                        self.acks.pass(step);
                    }
                    item => {
                        is_found |= matches!(item, StreamItem::End(_));
                        self.batch.push_back(item);
                    }
                }
            }
        }
        self.ack().await
    }

    /// Only the events, without the other deliveries.
    ///
    /// Gaps and undecodable payloads then appear only in logs (`tracing`, level `warn`): for apps that can tolerate a
    /// missed event.
    pub fn notifications(self) -> Notifications {
        Notifications(self)
    }

    /// Deletes the subscription, waits for that, and returns the received events that were not read.
    ///
    /// Takes at most the time of [`SubscriptionBuilder::close_within`](crate::SubscriptionBuilder::close_within). Dropping the future leaves the deletion to the
    /// background.
    pub async fn close(mut self) -> Closed {
        let _ = self.shutdown.send_replace(Some(Shutdown::Drain));
        let (mut unread, mut error) = (Vec::new(), None);
        // The deliveries returned below are not finished.
        if self.acks.ask.is_some() {
            self.acks.next_requested();
            error = self.acks.save().await.err();
            self.acks.ask = None;
        }
        while let Some(item) = self.next().await {
            match item {
                Ok(delivery) => unread.push(delivery),
                Err(ended_by) => error = Some(ended_by),
            }
        }
        Closed { deleted: self.shutdown_handle().finished().await, unread, error }
    }

    fn take_in(&mut self, item: StreamItem) -> Option<Result<Delivery>> {
        match item {
            StreamItem::Delivery { delivery, traces } => {
                self.acks.pass(match &delivery {
                    Delivery::Gap(gap) => Step::Gap(gap.since.unwrap_or(SystemTime::UNIX_EPOCH)),
                    Delivery::Resumed(_) => Step::GapEnd,
                    _ => Step::Event(traces),
                });
                self.yielded = (self.acks.keeper.read(Acknowledged::last), 1);
                self.delivery = telemetry::delivery(&delivery);
                self.yields.yielded(&delivery);
                Some(Ok(delivery))
            }
            StreamItem::Step(step) => {
                self.acks.pass(step);
                None
            }
            StreamItem::End(error) => {
                self.end();
                Some(Err(error))
            }
        }
    }

    fn end(&mut self) {
        self.ended = Ended::Yes;
        self.acks.keeper.redeliveries().close();
    }

    /// A delivery that comes again by now; every one if the stream is about to end.
    fn come_again(&mut self, cx: &mut Context<'_>, at_end: bool) -> Option<Delivery> {
        loop {
            let next = self.acks.keeper.redeliveries().next(Instant::now, at_end, cx.waker());
            match next {
                Next::Now(number, delivery) => {
                    let mut attempt = 1;
                    self.acks.keeper.change(|acknowledged| {
                        attempt = acknowledged.delivered_again(number);
                        false
                    });
                    self.yielded = (number, attempt);
                    self.delivery = telemetry::delivery(&delivery);
                    return Some(delivery);
                }
                Next::At(due) => {
                    let sleep = self.again.get_or_insert_with(|| Box::pin(sleep_until(due)));
                    sleep.as_mut().reset(due);
                    if sleep.as_mut().poll(cx).is_pending() {
                        return None;
                    }
                }
                Next::Nothing => return None,
            }
        }
    }

    /// The task ended without reporting it: by a panic, or with its runtime.
    fn ended_quietly(&mut self) -> Option<Result<Delivery>> {
        self.end();
        let closed = self.handle.status().current().phase == Phase::Closed;
        (!closed).then(|| {
            Err(Error::new(
                ErrorKind::Internal,
                "the subscription's task ended: its runtime was shut down, or it panicked",
            ))
        })
    }
}

impl Stream for Subscription {
    type Item = Result<Delivery>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.acks.next_requested();
        this.delivery = Span::none();
        while this.ended == Ended::No {
            let at_end = matches!(this.batch.front(), Some(StreamItem::End(_)));
            if let Some(delivery) = this.come_again(cx, at_end) {
                this.delivery = telemetry::delivery(&delivery);
                return Poll::Ready(Some(Ok(delivery)));
            }
            let Some(item) = this.batch.pop_front() else {
                let Some((batch, counted)) = std::task::ready!(this.batches.poll_recv(cx)) else {
                    return Poll::Ready(match this.come_again(cx, true) {
                        Some(delivery) => {
                            this.delivery = telemetry::delivery(&delivery);
                            Some(Ok(delivery))
                        }
                        None => this.ended_quietly(),
                    });
                };
                (this.batch, this.counted) = (batch, Some(counted));
                continue;
            };
            if this.batch.is_empty() {
                // Makes room for the next one, and releases the memory of this one.
                (this.batch, this.counted) = (Batch::new(), None);
            }
            if let Some(item) = this.take_in(item) {
                return Poll::Ready(Some(item));
            }
        }
        Poll::Ready(None)
    }
}

impl FusedStream for Subscription {
    fn is_terminated(&self) -> bool {
        self.ended == Ended::Yes
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.acks.keeper.redeliveries().close();
        // The task is already running, so this needs no runtime. If the task has ended, the message has no receiver.
        let _ = self.shutdown.send_replace(Some(Shutdown::Dropped));
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("status", &self.handle.status().current()).finish_non_exhaustive()
    }
}

/// The result of closing a subscription.
#[derive(Debug)]
#[non_exhaustive]
pub struct Closed {
    /// Whether nothing of it remains at the service: the service confirmed that the subscription is gone, and so is
    /// each one that it took over from, and answered every attempt to create one. Otherwise the remains end by
    /// themselves when their leases do. A subscription whose id was never read is never deleted: it could belong to
    /// another process with the same filters.
    pub deleted: bool,
    /// Received deliveries that were not read.
    pub unread: Vec<Delivery>,
    /// The error that ended the subscription before it was closed, if there was one; otherwise the error that prevented
    /// storing its position in its [`Checkpoint`].
    pub error: Option<Error>,
}

/// The events of a [`Subscription`], without the other deliveries. See
/// [`Subscription::notifications`].
#[derive(Debug)]
#[must_use = "dropping it deletes the subscription"]
pub struct Notifications(Subscription);

impl Notifications {
    /// The next event; `None` once the stream has ended. An `Err` is the last item. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Notification>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The subscription with all its deliveries.
    pub fn into_inner(self) -> Subscription {
        self.0
    }

    /// The subscription.
    pub fn subscription(&self) -> &Subscription {
        &self.0
    }
}

impl Stream for Notifications {
    type Item = Result<Notification>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match std::task::ready!(Pin::new(&mut self.0).poll_next(cx)) {
                Some(Ok(Delivery::Notification(notification))) => return Poll::Ready(Some(Ok(*notification))),
                Some(Ok(Delivery::Gap(gap))) => {
                    tracing::warn!(cause = gap.cause.as_str(), "events are missing, or may be")
                }
                Some(Ok(Delivery::FiltersDisabled(filters))) => {
                    tracing::warn!(count = filters.len(), "the service does not serve some filters");
                }
                // Logged when it arrived.
                Some(Ok(Delivery::Undecodable(_) | Delivery::Resumed(_))) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}
