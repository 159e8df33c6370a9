//! Several readers of one stream, each with its own queue.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use futures_core::Stream;
use futures_core::stream::FusedStream;
use tokio::sync::mpsc;

use super::acknowledged::{Acknowledged, TRACKED};
use super::checkpoint::Keeper;
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

/// What the readers together have not finished.
#[derive(Debug)]
struct Unfinished {
    open: Mutex<Open>,
    keeper: Arc<Keeper>,
}

#[derive(Debug, Default)]
struct Open {
    /// How many deliveries some reader has not finished.
    count: usize,
    /// Whether a reader was dropped with one of them: then the position must not pass it.
    is_abandoned: bool,
}

/// Stands for a delivery that some readers have not finished. It is acknowledged when the last of them has.
#[derive(Debug)]
struct Receipt {
    number: u64,
    is_abandoned: AtomicBool,
    all: Arc<Unfinished>,
}

impl Receipt {
    /// A reader will never finish it: it comes again after a restart.
    fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::Relaxed);
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        // Held while the pump takes the next delivery, so that it is counted before all are acknowledged.
        let mut open = lock(&self.all.open);
        open.count -= 1;
        if *self.is_abandoned.get_mut() {
            open.is_abandoned = true;
            return;
        }
        // Beyond what is tracked: when nothing else is unfinished, all can be acknowledged together.
        let is_untracked = |error: Error| error.kind() == ErrorKind::Busy;
        let is_last = open.count == 0 && !open.is_abandoned;
        if self.all.keeper.acknowledge(self.number).is_err_and(is_untracked) && is_last {
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
    /// They are finished when their gap is: a crash before that must repeat them.
    receipts: Vec<Arc<Receipt>>,
}

impl Lost {
    fn at(at: SystemTime) -> Self {
        Self { count: Some(0), since: at, until: at, filters: BTreeSet::new(), receipts: Vec::new() }
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
    /// again behind it. With the last of these deliveries the lost ones are finished.
    fn deliveries(mut self, open: &[Gap]) -> (Vec<Delivery>, Vec<Arc<Receipt>>) {
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
        let all = [Delivery::Gap(gap), Delivery::Resumed(resumed)].into_iter().chain(again).collect();
        (all, self.receipts)
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

/// A delivery that waits for its reader.
#[derive(Debug)]
struct Entry {
    delivery: Arc<Delivery>,
    /// Whether other readers have it too. They do not have a gap of this reader alone, its end, and a gap that is
    /// reported again.
    is_shared: bool,
    /// What is finished with it.
    receipts: Vec<Arc<Receipt>>,
    weight: usize,
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
    /// How many receipts of lost deliveries it holds.
    held: usize,
    /// The error that ends the stream.
    error: Option<Error>,
    /// The gaps of the subscription that have no end yet.
    open: Vec<Gap>,
    /// The reader is gone.
    gone: bool,
    /// Nothing more comes.
    closed: bool,
    reader: Option<Waker>,
}

impl Queue {
    fn push(&mut self, delivery: &Arc<Delivery>, receipt: &Arc<Receipt>) {
        if self.gone {
            return;
        }
        let weight = weight(delivery);
        // What reports a loss is dropped last, and its loss is reported with the events'.
        let is_event = matches!(**delivery, Delivery::Notification(_) | Delivery::Undecodable(_));
        let limit = if is_event { self.limit } else { self.limit.saturating_add(REPORTS) };
        if !self.entries.is_empty() && self.bytes.saturating_add(weight) > limit {
            let lost = self.lost.get_or_insert_with(|| Lost::at(time_of(delivery)));
            lost.add(delivery);
            // The first of them holds the position, so that none so far behind it can be acknowledged by itself.
            if self.held < TRACKED {
                self.held += 1;
                lost.receipts.push(receipt.clone());
            }
        } else {
            self.report_lost();
            self.bytes += weight;
            self.entries.push_back(Entry {
                delivery: delivery.clone(),
                is_shared: true,
                receipts: vec![receipt.clone()],
                weight,
            });
        }
        match &**delivery {
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
        let (deliveries, receipts) = lost.deliveries(&self.open);
        for delivery in deliveries {
            let weight = weight(&delivery);
            self.bytes += weight;
            self.entries.push_back(Entry {
                delivery: Arc::new(delivery),
                is_shared: false,
                receipts: Vec::new(),
                weight,
            });
        }
        if let Some(last) = self.entries.back_mut() {
            last.receipts = receipts;
        }
    }

    fn close(&mut self, error: Option<Error>) {
        self.report_lost();
        self.error = error;
        self.closed = true;
        self.wake();
    }

    fn pop(&mut self) -> Option<Entry> {
        if self.entries.is_empty() {
            self.report_lost();
        }
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.weight;
        if !entry.is_shared {
            self.held -= entry.receipts.len();
        }
        Some(entry)
    }

    /// The reader is gone. Returns what it has not finished.
    fn leave(&mut self) -> Vec<Arc<Receipt>> {
        self.gone = true;
        self.open = Vec::new();
        let waiting = std::mem::take(&mut self.entries).into_iter().flat_map(|entry| entry.receipts);
        waiting.chain(self.lost.take().into_iter().flat_map(|lost| lost.receipts)).collect()
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
    /// What is finished with the delivery that the reader is handling.
    current: Vec<Arc<Receipt>>,
    ended: bool,
    /// The pump ends when the last one is dropped.
    _alive: mpsc::Sender<Infallible>,
}

impl SubscriptionReader {
    /// The next delivery; `None` once the stream has ended. An `Err` is the last item. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Delivery>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Ends this reader alone, as one that has finished everything. A reader that is only dropped leaves what it has not
    /// finished for a restart.
    pub fn leave(mut self) {
        self.current.clear();
        drop(lock(&self.queue).leave());
    }
}

impl Stream for SubscriptionReader {
    type Item = Result<Delivery>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        // The reader has finished it.
        this.current.clear();
        if this.ended {
            return Poll::Ready(None);
        }
        let mut queue = lock(&this.queue);
        if let Some(entry) = queue.pop() {
            this.current = entry.receipts;
            return Poll::Ready(Some(Ok((*entry.delivery).clone())));
        }
        if !queue.closed {
            queue.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        this.ended = true;
        Poll::Ready(queue.error.take().map(Err))
    }
}

impl FusedStream for SubscriptionReader {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl Drop for SubscriptionReader {
    fn drop(&mut self) {
        // A task that is cancelled or panics had not finished them.
        let waiting = lock(&self.queue).leave();
        self.current.iter().chain(&waiting).for_each(|receipt| receipt.abandon());
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
    /// acknowledged when every reader has asked for the next one. One that a reader has lost is acknowledged when that
    /// reader has read its gap. After a crash the others come again, to all readers, and so does what a dropped reader had
    /// not finished, whether its task ended, was cancelled or panicked. [`leave`](SubscriptionReader::leave) ends a reader
    /// that has finished. When all are dropped, so is the subscription.
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
        self.acks.each_by_itself();
        let queues: [Arc<Mutex<Queue>>; READERS] =
            std::array::from_fn(|_| Arc::new(Mutex::new(Queue { limit: queue_bytes, ..Queue::default() })));
        let (alive, gone) = mpsc::channel(1);
        drop(tokio::spawn(pump(self, queues.to_vec(), gone)));
        queues.map(|queue| SubscriptionReader { queue, current: Vec::new(), ended: false, _alive: alive.clone() })
    }
}

/// Gives a delivery to each reader.
fn give(queues: &[Arc<Mutex<Queue>>], delivery: &Arc<Delivery>, receipt: &Arc<Receipt>) {
    let mut is_taken = false;
    for queue in queues {
        let mut queue = lock(queue);
        queue.push(delivery, receipt);
        is_taken |= !queue.gone;
    }
    // The last reader was dropped while the delivery was taken from the stream.
    if !is_taken {
        receipt.abandon();
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
    let all = Arc::new(Unfinished { open: Mutex::default(), keeper: subscription.acks.keeper.clone() });
    loop {
        let next = poll_fn(|cx| {
            let mut open = lock(&all.open);
            let next = Pin::new(&mut subscription).poll_next(cx);
            open.count += usize::from(matches!(next, Poll::Ready(Some(Ok(_)))));
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
                let receipt = Arc::new(Receipt { number, is_abandoned: AtomicBool::new(false), all });
                give(&ends.0, &Arc::new(delivery), &receipt);
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

    use super::super::progress::Step;
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

    fn receipt() -> Arc<Receipt> {
        let open = Mutex::new(Open { count: 1, is_abandoned: false });
        let all = Arc::new(Unfinished { open, keeper: Arc::new(Keeper::new(Acknowledged::default())) });
        Arc::new(Receipt { number: 1, is_abandoned: AtomicBool::new(false), all })
    }

    fn push(queue: &mut Queue, delivery: Delivery) {
        let (delivery, receipt) = (Arc::new(delivery), receipt());
        queue.push(&delivery, &receipt);
    }

    fn all(queue: &mut Queue) -> Vec<Delivery> {
        std::iter::from_fn(|| queue.pop()).map(|entry| (*entry.delivery).clone()).collect()
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
        assert!(queue.open.len() <= OPEN && queue.held <= TRACKED);
        let read = all(&mut queue);
        let last_gap = read.iter().rev().find_map(|it| match it {
            Delivery::Gap(gap) if gap.cause == GapCause::Overflow => Some(gap),
            _ => None,
        });
        assert_eq!(last_gap.unwrap().lost, None, "a gap is among what was dropped");
        assert_eq!((queue.bytes, queue.held), (0, 0));
    }

    #[test]
    fn a_delivery_that_no_reader_is_left_for_stays_unfinished() {
        for gone in [[true, true], [true, false], [false, false]] {
            let queues = gone.map(|gone| Arc::new(Mutex::new(Queue { limit: LIMIT, gone, ..Queue::default() })));
            let receipt = receipt();
            give(&queues, &Arc::new(resumed(1)), &receipt);
            assert_eq!(receipt.is_abandoned.load(Ordering::Relaxed), gone == [true, true], "{gone:?}");
        }
    }

    /// The position would pass it: beyond what is tracked, everything is acknowledged together.
    #[test]
    fn an_abandoned_delivery_stays_unfinished_however_many_come_behind_it() {
        let keeper = Arc::new(Keeper::new(Acknowledged::default()));
        let all = Arc::new(Unfinished { open: Mutex::default(), keeper: keeper.clone() });
        for number in 1..=TRACKED as u64 + 10 {
            keeper.change(|acknowledged| acknowledged.pass(Step::GapEnd));
            lock(&all.open).count += 1;
            let receipt = Receipt { number, is_abandoned: AtomicBool::new(number == 2), all: all.clone() };
            drop(receipt);
        }
        keeper.change(|acknowledged| {
            assert!(!acknowledged.acknowledge(1).unwrap() && acknowledged.acknowledge(2).unwrap());
            false
        });
    }
}
