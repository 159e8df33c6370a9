//! Several readers of one stream, each with its own queue.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use futures_core::Stream;
use futures_core::stream::FusedStream;
use tokio::sync::mpsc;

use super::acknowledged::Acknowledged;
use super::checkpoint::{AckMode, Keeper};
use super::redelivery::weight;
use super::stream::Subscription;
use crate::delivery::{Certainty, Changes, Delivery, Gap, GapCause, OpenReason, Resumed, Unrecovered};
use crate::error::{Error, ErrorKind, Result};
use crate::event::GapClosure;

/// The most filters that a gap of a reader names.
const FILTERS: usize = 256;

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is whole before anything can panic.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is not finished by all readers.
#[derive(Debug)]
struct Unfinished {
    count: Mutex<usize>,
    keeper: Arc<Keeper>,
}

/// A delivery that some readers have not finished. It is acknowledged when the last of them has.
#[derive(Debug)]
struct Shared {
    number: u64,
    delivery: Delivery,
    /// Whether a reader panicked with it.
    abandoned: Mutex<bool>,
    all: Arc<Unfinished>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Held while the pump takes the next delivery, so that it is counted before all are acknowledged.
        let mut count = lock(&self.all.count);
        *count -= 1;
        if *lock(&self.abandoned) {
            return;
        }
        // Beyond what is tracked: when nothing else is unfinished, all can be acknowledged together.
        let is_untracked = |error: Error| error.kind() == ErrorKind::Busy;
        if self.all.keeper.acknowledge(self.number).is_err_and(is_untracked) && *count == 0 {
            self.all.keeper.change(Acknowledged::acknowledge_all);
        }
    }
}

/// Events that a reader does not get. Pure.
#[derive(Debug)]
struct Lost {
    count: u64,
    since: SystemTime,
    until: SystemTime,
    filters: BTreeSet<String>,
}

impl Lost {
    fn deliveries(self) -> [Delivery; 2] {
        let open = |filter: &String| Unrecovered {
            filter: filter.clone(),
            closure: GapClosure::Nothing,
            changes: Changes::ALL,
            reason: OpenReason::NoSource,
        };
        let unrecovered = self.filters.iter().map(open).collect();
        let gap = Gap {
            cause: GapCause::Overflow,
            certainty: Certainty::Certain,
            since: Some(self.since),
            until: Some(self.until),
            lost: Some(self.count),
            filters: self.filters.into_iter().collect(),
        };
        let resumed = Resumed { complete: false, at: self.until, recreated: None, unrecovered };
        [Delivery::Gap(gap), Delivery::Resumed(resumed)]
    }
}

#[derive(Debug)]
enum Entry {
    Shared(Arc<Shared>, usize),
    /// A gap of this reader alone, and its end.
    Own(Delivery),
    End(Error),
}

/// The queue of a reader. Pure.
#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Entry>,
    bytes: usize,
    limit: usize,
    lost: Option<Lost>,
    /// The reader is gone.
    gone: bool,
    /// Nothing more comes.
    closed: bool,
    reader: Option<Waker>,
}

impl Queue {
    fn push(&mut self, item: &Arc<Shared>) {
        if self.gone {
            return;
        }
        let weight = weight(&item.delivery);
        match &item.delivery {
            // Only events are dropped, not what reports a loss.
            Delivery::Notification(it)
                if !self.entries.is_empty() && self.bytes.saturating_add(weight) > self.limit =>
            {
                let at = it.received_at();
                let lost =
                    self.lost.get_or_insert_with(|| Lost { count: 0, since: at, until: at, filters: BTreeSet::new() });
                lost.count += 1;
                lost.until = at.max(lost.until);
                if lost.filters.len() < FILTERS {
                    lost.filters.insert(it.event_uri().to_owned());
                }
            }
            _ => {
                self.report_lost();
                self.bytes += weight;
                self.entries.push_back(Entry::Shared(item.clone(), weight));
            }
        }
        self.wake();
    }

    fn report_lost(&mut self) {
        let lost = self.lost.take().into_iter().flat_map(Lost::deliveries);
        self.entries.extend(lost.map(Entry::Own));
    }

    fn close(&mut self, error: Option<Error>) {
        self.report_lost();
        self.entries.extend(error.map(Entry::End));
        self.closed = true;
        self.wake();
    }

    fn pop(&mut self) -> Option<Entry> {
        if self.entries.is_empty() {
            self.report_lost();
        }
        let entry = self.entries.pop_front()?;
        if let Entry::Shared(_, weight) = &entry {
            self.bytes -= weight;
        }
        Some(entry)
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// One of several readers of a subscription: see [`Subscription::fan_out`].
#[must_use = "a dropped reader gets nothing"]
pub struct SubscriptionReader {
    queue: Arc<Mutex<Queue>>,
    /// What the reader works with.
    current: Option<Arc<Shared>>,
    ended: bool,
    /// The pump ends when the last one is dropped.
    _alive: mpsc::Sender<Infallible>,
}

impl SubscriptionReader {
    /// The next delivery; `None` once the stream has ended. An `Err` is the last item. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Delivery>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for SubscriptionReader {
    type Item = Result<Delivery>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        // The reader has finished it.
        this.current = None;
        if this.ended {
            return Poll::Ready(None);
        }
        let entry = {
            let mut queue = lock(&this.queue);
            match queue.pop() {
                None if !queue.closed => {
                    queue.reader = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                entry => entry,
            }
        };
        Poll::Ready(match entry {
            Some(Entry::Shared(item, _)) => Some(Ok(this.current.insert(item).delivery.clone())),
            Some(Entry::Own(delivery)) => Some(Ok(delivery)),
            Some(Entry::End(error)) => {
                this.ended = true;
                Some(Err(error))
            }
            None => {
                this.ended = true;
                None
            }
        })
    }
}

impl FusedStream for SubscriptionReader {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl Drop for SubscriptionReader {
    fn drop(&mut self) {
        let panicked = std::thread::panicking();
        if let (Some(item), true) = (&self.current, panicked) {
            *lock(&item.abandoned) = true;
        }
        let mut queue = lock(&self.queue);
        queue.gone = true;
        let left = std::mem::take(&mut queue.entries);
        drop(queue);
        if panicked {
            for entry in &left {
                if let Entry::Shared(item, _) = entry {
                    *lock(&item.abandoned) = true;
                }
            }
        }
    }
}

impl fmt::Debug for SubscriptionReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionReader").field("bytes", &lock(&self.queue).bytes).finish_non_exhaustive()
    }
}

impl Subscription {
    /// Gives the stream to several readers: each gets every delivery, through a queue of its own of `queue_bytes`
    /// bytes (at least one delivery). Take [`handle`](Self::handle), [`status`](Self::status) and
    /// [`shutdown_handle`](Self::shutdown_handle) before.
    ///
    /// A slow reader delays no other one. Events that do not fit in its queue are lost for that reader alone: it gets a
    /// [`Gap`] with [`GapCause::Overflow`], their number and their event URIs as filters, and a [`Resumed`] that is not
    /// complete.
    ///
    /// Acknowledges in the way of [`AckMode::Explicit`](crate::AckMode), in place of what is set: a delivery is
    /// acknowledged when every reader has asked for the next one, or has lost it. After a crash the others come again,
    /// to all readers. A dropped reader counts as finished, except if its task panicked: then what it had not finished
    /// comes again after a restart. When all are dropped, so is the subscription.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// ```no_run
    /// # async fn run(subscription: ringcentral_events::Subscription) {
    /// let [mut storage, mut screen] = subscription.fan_out::<2>(8 << 20);
    /// tokio::spawn(async move { while let Some(delivery) = storage.next().await { /* store it */ } });
    /// while let Some(Ok(delivery)) = screen.next().await {
    ///     println!("{delivery}");
    /// }
    /// # }
    /// ```
    pub fn fan_out<const READERS: usize>(mut self, queue_bytes: usize) -> [SubscriptionReader; READERS] {
        self.acks.mode = AckMode::Explicit;
        let queues: [Arc<Mutex<Queue>>; READERS] =
            std::array::from_fn(|_| Arc::new(Mutex::new(Queue { limit: queue_bytes, ..Queue::default() })));
        let (alive, gone) = mpsc::channel(1);
        drop(tokio::spawn(pump(self, queues.to_vec(), gone)));
        queues.map(|queue| SubscriptionReader { queue, current: None, ended: false, _alive: alive.clone() })
    }
}

/// Reads the subscription until it ends, or no reader is left.
async fn pump(mut subscription: Subscription, queues: Vec<Arc<Mutex<Queue>>>, mut gone: mpsc::Receiver<Infallible>) {
    /// Ends the queues even if the runtime ends first.
    struct Ends(Vec<Arc<Mutex<Queue>>>);

    impl Ends {
        fn with(&self, error: Option<&Error>) {
            self.0.iter().map(|queue| lock(queue)).filter(|it| !it.closed).for_each(|mut it| it.close(error.cloned()));
        }
    }

    impl Drop for Ends {
        fn drop(&mut self) {
            let text = "the task of the readers ended: its runtime was shut down, or it panicked";
            self.with(Some(&Error::new(ErrorKind::Internal, text)));
        }
    }

    let ends = Ends(queues);
    let all = Arc::new(Unfinished { count: Mutex::new(0), keeper: subscription.acks.keeper.clone() });
    loop {
        let next = poll_fn(|cx| {
            let mut count = lock(&all.count);
            let next = Pin::new(&mut subscription).poll_next(cx);
            *count += usize::from(matches!(next, Poll::Ready(Some(Ok(_)))));
            next
        });
        let next = tokio::select! {
            biased;
            _ = gone.recv() => None,
            next = next => next,
        };
        match next {
            Some(Ok(delivery)) => {
                let (number, all) = (subscription.number(), all.clone());
                let item = Arc::new(Shared { number, delivery, abandoned: Mutex::new(false), all });
                ends.0.iter().for_each(|queue| lock(queue).push(&item));
            }
            Some(Err(error)) => return ends.with(Some(&error)),
            None => return ends.with(None),
        }
    }
}
