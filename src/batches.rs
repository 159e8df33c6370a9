//! A channel of batches between a task and its reader, bounded by bytes.
//!
//! The reader's task wakes up once for each batch. A batch counts until the reader drops its [`Counted`], which it does
//! when it has taken the last item, so that the bound holds for what waits on both sides. The sender asks for room
//! before it makes a batch; one batch may exceed the bound.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

#[cfg(any(feature = "agent", test))]
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Notify, mpsc};

/// The reader's end.
///
/// The batches are boxed: the channel allocates room for 32 of them before the first, in every idle subscription.
#[derive(Debug)]
pub(crate) struct Batches<T>(mpsc::UnboundedReceiver<Box<(T, Counted)>>);

impl<T> Batches<T> {
    /// The next batch; `None` once the sender is gone. Cancel safe.
    pub(crate) async fn recv(&mut self) -> Option<(T, Counted)> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<(T, Counted)>> {
        self.0.poll_recv(cx).map(|batch| batch.map(|batch| *batch))
    }

    #[cfg(any(feature = "agent", test))]
    pub(crate) fn try_recv(&mut self) -> Result<(T, Counted), TryRecvError> {
        self.0.try_recv().map(|batch| *batch)
    }
}

/// A channel whose batches have at most `limit` bytes; a limit of 0 counts as 1.
pub(crate) fn channel<T>(limit: usize) -> (Sender<T>, Batches<T>) {
    let backlog = Arc::new(Backlog { bytes: AtomicUsize::new(0), limit: limit.max(1), read: Notify::new() });
    let (out, batches) = mpsc::unbounded_channel();
    (Sender { out, backlog }, Batches(batches))
}

#[derive(Debug)]
struct Backlog {
    bytes: AtomicUsize,
    limit: usize,
    read: Notify,
}

/// The bytes of a batch, until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    bytes: usize,
    backlog: Arc<Backlog>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.backlog.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.backlog.read.notify_one();
    }
}

/// The sender's end.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    out: mpsc::UnboundedSender<Box<(T, Counted)>>,
    backlog: Arc<Backlog>,
}

impl<T> Sender<T> {
    /// Sends a batch, whether or not there is room for it. A reader that is gone needs none.
    pub(crate) fn send(&self, batch: T, bytes: usize) {
        self.backlog.bytes.fetch_add(bytes, Ordering::AcqRel);
        drop(self.out.send(Box::new((batch, Counted { bytes, backlog: self.backlog.clone() }))));
    }

    /// Whether there is room beside `bytes` that are about to be sent.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.backlog.bytes.load(Ordering::Acquire).saturating_add(bytes) < self.backlog.limit
    }

    /// Waits until there is room.
    pub(crate) async fn room(&self) {
        while !self.has_room(0) {
            self.backlog.read.notified().await;
        }
    }

    /// Whether the reader is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.out.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn batches_count_until_the_reader_is_done_with_them() {
        let (sender, mut batches) = channel(10);
        for (bytes, has_room) in [(4, true), (5, true), (3, false), (7, false)] {
            sender.send("items", bytes);
            assert_eq!((sender.has_room(0), sender.room().now_or_never().is_some()), (has_room, has_room), "{bytes}");
        }
        for has_room in [false, false, true, true] {
            let (_, counted) = batches.try_recv().unwrap();
            assert!(!sender.has_room(4), "it is still read");
            drop(counted);
            assert_eq!(sender.has_room(0), has_room);
        }
        assert!(sender.has_room(9) && !sender.has_room(10) && !sender.has_room(usize::MAX));
    }

    #[tokio::test]
    async fn a_sender_that_waits_for_room_wakes_up_when_a_batch_is_read() {
        let (sender, mut batches) = channel(0);
        sender.send((), 9);
        let mut room = Box::pin(sender.room());
        assert!(futures_util::poll!(&mut room).is_pending());
        drop(batches.recv().await);
        room.await;
        assert!(!sender.is_closed());
        sender.send((), 9);
        drop(batches);
        assert!(sender.is_closed());
        sender.room().await;
        sender.send((), 9);
        assert!(sender.has_room(0), "what no reader takes does not count");
    }
}
