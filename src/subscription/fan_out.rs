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
use crate::timestamp::Timestamp;

/// The most filters that a gap of a reader names.
const FILTERS: usize = 256;
/// The bytes beyond a queue's limit for gaps and other reports.
const REPORTS: usize = 1 << 16;
/// The most gaps without an end that are remembered one by one.
const OPEN: usize = 16;

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is whole before anything can panic.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts the deliveries that some reader has not finished.
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

/// The deliveries that a reader lost. Pure.
#[derive(Debug)]
struct Lost {
    /// How many events, unless a gap is among what it does not get.
    count: Option<u64>,
    since: SystemTime,
    until: SystemTime,
    filters: BTreeSet<String>,
}

impl Lost {
    fn at(at: SystemTime) -> Self {
        Self { count: Some(0), since: at, until: at, filters: BTreeSet::new() }
    }

    fn add(&mut self, delivery: &Delivery) {
        let at = time_of(delivery);
        let filters: Vec<&str> = match delivery {
            Delivery::Notification(it) => vec![it.event_uri()],
            Delivery::Gap(gap) => gap.filters.iter().map(String::as_str).collect(),
            Delivery::Resumed(it) => it.unrecovered.iter().map(|open| open.filter.as_str()).collect(),
            Delivery::FiltersDisabled(all) => all.iter().map(|it| it.filter.as_str()).collect(),
            Delivery::Undecodable(_) => Vec::new(),
        };
        let is_event = matches!(delivery, Delivery::Notification(_) | Delivery::Undecodable(_));
        self.count =
            self.count.filter(|_| !matches!(delivery, Delivery::Gap(_))).map(|count| count + u64::from(is_event));
        (self.since, self.until) = (self.since.min(at), self.until.max(at));
        let room = FILTERS.saturating_sub(self.filters.len());
        self.filters.extend(filters.into_iter().take(room).map(str::to_owned));
    }

    /// `open`: the gaps of the subscription that have no end yet. The end of this gap ends them too, so they are reported
    /// again behind it.
    fn deliveries(mut self, open: &[Gap]) -> Vec<Delivery> {
        let gap_filters = self.filters.clone();
        self.filters.extend(open.iter().flat_map(|gap| gap.filters.iter().cloned()));
        let unproven = |filter: &String| Unrecovered {
            filter: filter.clone(),
            closure: GapClosure::Nothing,
            changes: Changes::ALL,
            reason: OpenReason::NoSource,
        };
        let unrecovered = self.filters.iter().map(unproven).collect();
        let gap = Gap {
            cause: GapCause::Overflow,
            certainty: Certainty::Certain,
            since: Some(self.since),
            until: Some(self.until),
            lost: self.count,
            filters: gap_filters.into_iter().collect(),
        };
        let resumed = Resumed { complete: false, at: self.until, recreated: None, unrecovered };
        let again = open.iter().cloned().map(Delivery::Gap);
        [Delivery::Gap(gap), Delivery::Resumed(resumed)].into_iter().chain(again).collect()
    }
}

/// When the service sent it, or since when events are missing; else when it came.
fn time_of(delivery: &Delivery) -> SystemTime {
    match delivery {
        Delivery::Notification(it) => {
            it.timestamp().and_then(Timestamp::system_time).unwrap_or_else(|| it.received_at())
        }
        Delivery::Gap(gap) => gap.since.or(gap.until).unwrap_or(SystemTime::UNIX_EPOCH),
        Delivery::Resumed(it) => it.at,
        Delivery::Undecodable(it) => it.received_at,
        Delivery::FiltersDisabled(_) => SystemTime::UNIX_EPOCH,
    }
}

#[derive(Debug)]
enum Entry {
    Shared(Arc<Shared>, usize),
    /// A gap of this reader alone, its end, and a gap that is reported again.
    Own(Delivery, usize),
    End(Error),
}

/// One gap for two.
fn join(gap: &mut Gap, other: &Gap) {
    gap.since = gap.since.min(other.since);
    gap.until = gap.until.zip(other.until).map(|(one, other)| one.max(other));
    gap.lost = None;
    let new: Vec<String> = other.filters.iter().filter(|it| !gap.filters.contains(it)).cloned().collect();
    let room = FILTERS.saturating_sub(gap.filters.len());
    gap.filters.extend(new.into_iter().take(room));
}

/// The queue of a reader. Pure.
#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Entry>,
    bytes: usize,
    limit: usize,
    lost: Option<Lost>,
    /// The gaps of the subscription that have no end yet.
    open: Vec<Gap>,
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
        let (weight, delivery) = (weight(&item.delivery), &item.delivery);
        // What reports a loss is dropped last, and its loss is reported with the events'.
        let is_event = matches!(delivery, Delivery::Notification(_) | Delivery::Undecodable(_));
        let limit = if is_event { self.limit } else { self.limit.saturating_add(REPORTS) };
        if !self.entries.is_empty() && self.bytes.saturating_add(weight) > limit {
            self.lost.get_or_insert_with(|| Lost::at(time_of(delivery))).add(delivery);
        } else {
            self.report_lost();
            self.bytes += weight;
            self.entries.push_back(Entry::Shared(item.clone(), weight));
        }
        match delivery {
            Delivery::Gap(gap) if self.open.len() < OPEN => self.open.push(gap.clone()),
            // Too many to be reported one by one: the last stands for all of them.
            Delivery::Gap(gap) => self.open.iter_mut().last().into_iter().for_each(|last| join(last, gap)),
            Delivery::Resumed(_) => self.open.clear(),
            Delivery::Notification(_) | Delivery::Undecodable(_) | Delivery::FiltersDisabled(_) => {}
        }
        self.wake();
    }

    fn report_lost(&mut self) {
        let Some(lost) = self.lost.take() else { return };
        for delivery in lost.deliveries(&self.open) {
            let weight = weight(&delivery);
            self.bytes += weight;
            self.entries.push_back(Entry::Own(delivery, weight));
        }
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
        if let Entry::Shared(_, weight) | Entry::Own(_, weight) = &entry {
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
    /// The delivery that the reader is handling.
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
            Some(Entry::Own(delivery, _)) => Some(Ok(delivery)),
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
    /// [`Gap`] with [`GapCause::Overflow`], their number and up to 256 of their event URIs as filters, and a [`Resumed`]
    /// that is not complete. A gap of the subscription that has no end yet is reported again behind that. Gaps and their
    /// ends may take 64 KiB more than events; beyond that they become a part of the reader's own gap.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::value::RawValue;

    use super::*;
    use crate::event::{Notification, Origin};

    const LIMIT: usize = 4_000;

    fn at(secs: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + secs)
    }

    fn event(secs: u64) -> Delivery {
        let text = format!(r#"{{"event":"/x","timestamp":"{}","body":{{}}}}"#, Timestamp::from(at(secs)));
        // Received by a clock that is far off.
        let raw = RawValue::from_string(text).unwrap();
        Delivery::Notification(Box::new(Notification::parse(raw, Origin::Push, SystemTime::UNIX_EPOCH).unwrap()))
    }

    fn undecodable() -> Delivery {
        Delivery::Undecodable(crate::delivery::Undecodable {
            reason: String::new(),
            raw: "x".repeat(1_000).into(),
            received_at: at(0),
        })
    }

    fn gap(secs: u64) -> Delivery {
        Delivery::Gap(Gap {
            cause: GapCause::SubscriptionGone,
            certainty: Certainty::Certain,
            since: Some(at(secs)),
            until: None,
            lost: None,
            filters: vec!["/gone".into()],
        })
    }

    fn resumed(secs: u64) -> Delivery {
        Delivery::Resumed(Resumed { complete: true, at: at(secs), recreated: None, unrecovered: Vec::new() })
    }

    fn push(queue: &mut Queue, delivery: Delivery) {
        let all = Arc::new(Unfinished { count: Mutex::new(1), keeper: Arc::new(Keeper::new(Acknowledged::default())) });
        queue.push(&Arc::new(Shared { number: 1, delivery, abandoned: Mutex::new(false), all }));
    }

    fn all(queue: &mut Queue) -> Vec<Delivery> {
        std::iter::from_fn(|| queue.pop())
            .filter_map(|entry| match entry {
                Entry::Shared(item, _) => Some(item.delivery.clone()),
                Entry::Own(delivery, _) => Some(delivery),
                Entry::End(_) => None,
            })
            .collect()
    }

    #[test]
    fn an_overflow_has_the_services_times_and_the_number_of_events() {
        let mut queue = Queue { limit: LIMIT, ..Queue::default() };
        (0..20).for_each(|n| push(&mut queue, event(n)));
        let read = all(&mut queue);
        let fit = read.iter().filter(|it| matches!(it, Delivery::Notification(_))).count() as u64;
        let [.., Delivery::Gap(gap), Delivery::Resumed(end)] = &read[..] else { panic!("{read:?}") };
        assert_eq!((gap.since, gap.until, gap.lost), (Some(at(fit)), Some(at(19)), Some(20 - fit)));
        assert!(!end.complete && end.at == at(19) && end.unrecovered[0].filter == "/x", "{end:?}");
        assert_eq!(queue.bytes, 0);
    }

    /// The end of the reader's own gap would end that of the subscription too.
    #[test]
    fn a_gap_without_an_end_is_reported_again_behind_the_readers_own() {
        let mut queue = Queue { limit: LIMIT, ..Queue::default() };
        push(&mut queue, gap(0));
        (1..20).for_each(|n| push(&mut queue, event(n)));
        let read = all(&mut queue);
        let [.., Delivery::Gap(own), Delivery::Resumed(end), Delivery::Gap(again)] = &read[..] else {
            panic!("{read:?}")
        };
        assert_eq!((&own.cause, &again.cause), (&GapCause::Overflow, &GapCause::SubscriptionGone));
        let open: Vec<&str> = end.unrecovered.iter().map(|it| it.filter.as_str()).collect();
        assert_eq!(open, ["/gone", "/x"]);
        assert_eq!(own.filters, ["/x"]);
        // Once it has an end, it is over.
        push(&mut queue, resumed(30));
        (31..50).for_each(|n| push(&mut queue, event(n)));
        assert!(matches!(all(&mut queue).last(), Some(Delivery::Resumed(_))));
    }

    #[test]
    fn a_queue_that_is_never_read_is_bounded_whatever_comes() {
        let mut queue = Queue { limit: LIMIT, ..Queue::default() };
        for n in 0..10_000 {
            push(&mut queue, event(n));
            push(&mut queue, undecodable());
            push(&mut queue, gap(n));
            if n % 100 == 0 {
                push(&mut queue, resumed(n));
            }
        }
        assert!(queue.bytes <= LIMIT + REPORTS + 8 * 1024, "{}", queue.bytes);
        assert!(queue.open.len() <= OPEN);
        let read = all(&mut queue);
        let last_gap = read.iter().rev().find_map(|it| match it {
            Delivery::Gap(gap) if gap.cause == GapCause::Overflow => Some(gap),
            _ => None,
        });
        assert_eq!(last_gap.unwrap().lost, None, "a gap is among what was dropped");
        assert_eq!(queue.bytes, 0);
    }
}
