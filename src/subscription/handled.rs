//! Handlers of a stream's deliveries that run concurrently, and in order per resource.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::checkpoint::Keeper;
use super::redelivery::{ATTEMPTS, weight};
use super::stream::Subscription;
use crate::delivery::Delivery;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Spelling;

/// The most deliveries from the oldest unfinished one to the newest: their steps are tracked for single
/// acknowledgements.
const WINDOW: u64 = 1024;
/// The most bytes of unfinished deliveries; one more may exceed it.
const BYTES: usize = 8 << 20;
/// The pause after a handler's first failure. It doubles with each one.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The pause before the next attempt.
fn pause(attempt: u32) -> Duration {
    PAUSE.saturating_mul(1 << attempt.saturating_sub(1).min(10)).min(LONGEST_PAUSE)
}

/// A delivery whose handler has not finished. It comes again if it is dropped before.
struct Job {
    number: u64,
    attempt: u32,
    weight: usize,
    /// `None` once it is finished.
    delivery: Option<Arc<Delivery>>,
    keeper: Arc<Keeper>,
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(delivery) = self.delivery.take() {
            self.keeper.put_back(self.number, Arc::unwrap_or_clone(delivery));
        }
    }
}

/// Which deliveries may be handled now. Pure.
#[derive(Default)]
struct Lanes {
    /// Of each resource the deliveries behind the one that is being handled.
    lanes: HashMap<String, VecDeque<Job>>,
    /// The weights of what is not finished.
    unfinished: BTreeMap<u64, usize>,
    bytes: usize,
    /// A delivery that is handled alone: after everything before it, and before everything behind it.
    barrier: Option<Job>,
    barred: bool,
}

/// The lane of a gap and the like.
const BARRIER: &str = "";

impl Lanes {
    /// Whether another delivery fits in.
    fn has_room(&self) -> bool {
        let first = self.unfinished.first_key_value().map(|(number, _)| *number);
        let last = self.unfinished.last_key_value().map(|(number, _)| *number);
        let spans = first.zip(last).map_or(0, |(first, last)| last - first);
        !self.barred && self.bytes < BYTES && spans < WINDOW
    }

    /// Takes a delivery in. Returns it if it is to be handled now.
    fn push(&mut self, resource: Option<String>, job: Job) -> Option<(String, Job)> {
        self.unfinished.insert(job.number, job.weight);
        self.bytes += job.weight;
        let Some(resource) = resource else {
            self.barred = true;
            self.barrier = Some(job);
            return self.pass_barrier();
        };
        if let Some(lane) = self.lanes.get_mut(&resource) {
            lane.push_back(job);
            return None;
        }
        self.lanes.insert(resource.clone(), VecDeque::new());
        Some((resource, job))
    }

    fn pass_barrier(&mut self) -> Option<(String, Job)> {
        if !self.lanes.is_empty() {
            return None;
        }
        let job = self.barrier.take()?;
        self.lanes.insert(BARRIER.to_owned(), VecDeque::new());
        Some((BARRIER.to_owned(), job))
    }

    /// A delivery of a resource is finished. Returns what is to be handled next.
    fn finish(&mut self, resource: String, number: u64) -> Option<(String, Job)> {
        self.bytes -= self.unfinished.remove(&number).unwrap_or_default();
        if let Some(next) = self.lanes.get_mut(&resource).and_then(VecDeque::pop_front) {
            return Some((resource, next));
        }
        self.lanes.remove(&resource);
        if resource == BARRIER {
            self.barred = false;
        }
        self.pass_barrier()
    }
}

impl Subscription {
    /// Handles the deliveries: up to `limit` at a time, those of one resource one after the other and in order, each
    /// acknowledged alone when its handler returns `Ok`.
    ///
    /// `handler` gets the delivery and which attempt this is, from 1. After an `Err` it is called again with the same
    /// delivery, after 1 s, doubled each time up to 60 s; later deliveries of the resource wait meanwhile, others do
    /// not. Return `Ok` for a delivery that you give up, for example after having stored it elsewhere.
    ///
    /// The resource is the conversation of a text message, another message, the chat of a post, the call of a telephony
    /// session, the extension of a presence; otherwise everything of the filter and the extension. A gap, its end and
    /// other deliveries without a resource are handled alone: after everything before them, before everything behind.
    ///
    /// From then on the subscription acknowledges in the way of [`AckMode::Explicit`](crate::AckMode), whatever was set:
    /// after a crash or restart exactly the deliveries come again whose handlers did not finish. With
    /// [`AckMode::OnNext`](crate::AckMode), this call acknowledges what was read before. Works without a checkpoint too.
    /// While 8 MiB, or 1024 deliveries from the oldest to the newest, are unfinished, the stream is not read, and its
    /// queue fills.
    ///
    /// Cancel safe: deliveries whose handlers did not finish come again in this stream, before all others.
    ///
    /// ```no_run
    /// # async fn run(mut subscription: ringcentral_events::Subscription) -> ringcentral_events::Result<()> {
    /// subscription.for_each_concurrent(16, |delivery, _attempt| async move {
    ///     println!("{delivery}");
    ///     Ok::<(), std::io::Error>(())
    /// }).await
    /// # }
    /// ```
    ///
    /// # Errors
    /// What ended the stream, when all handlers have finished. [`ErrorKind::Internal`], with the handler's error as
    /// source, when it has failed ten times with one delivery: the stream can be read further, and the delivery comes
    /// again in it. [`ErrorKind::Config`] for a `limit` of 0.
    pub async fn for_each_concurrent<F, Fut, E>(&mut self, limit: usize, handler: F) -> Result<()>
    where
        F: Fn(Arc<Delivery>, u32) -> Fut,
        Fut: Future<Output = std::result::Result<(), E>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if limit == 0 {
            return Err(Error::config("no handler could run at a time"));
        }
        self.acks.each_by_itself();
        let keeper = self.acks.keeper.clone();
        let slots = Semaphore::new(limit.min(Semaphore::MAX_PERMITS));
        let (handler, slots) = (&handler, &slots);
        let handle = |(resource, mut job): (String, Job)| async move {
            let failed = loop {
                let Some(delivery) = job.delivery.clone() else { break None };
                // The semaphore is never closed.
                let slot = slots.acquire().await;
                let outcome = handler(delivery, job.attempt).await;
                drop(slot);
                match outcome {
                    Ok(()) => break None,
                    Err(error) if job.attempt >= ATTEMPTS => break Some(error),
                    Err(_) => {
                        let (number, attempt) = (job.number, job.attempt);
                        tracing::warn!(number, attempt, "a handler failed; it is called again");
                        sleep(pause(attempt)).await;
                        job.attempt += 1;
                    }
                }
            };
            (resource, job, failed)
        };
        let mut lanes = Lanes::default();
        let mut running = FuturesUnordered::new();
        let mut end = None;
        loop {
            tokio::select! {
                biased;
                Some(done) = running.next(), if !running.is_empty() => {
                    let (resource, mut job, failed): (String, Job, Option<E>) = done;
                    if let Some(error) = failed {
                        let text = format!("the handler failed {ATTEMPTS} times with one delivery");
                        return Err(Error::new(ErrorKind::Internal, text).with_source(error));
                    }
                    keeper.acknowledge(job.number)?;
                    job.delivery = None;
                    running.extend(lanes.finish(resource, job.number).map(&handle));
                }
                item = self.next(), if end.is_none() && lanes.has_room() => match item {
                    Some(Ok(delivery)) => {
                        let resource = match &delivery {
                            Delivery::Notification(it) => {
                                Some(it.resource().unwrap_or_else(|| it.scope(Spelling::Tilde)))
                            }
                            _ => None,
                        };
                        let (number, attempt) = (self.number(), self.attempt().max(1));
                        let weight = weight(&delivery);
                        let job = Job { number, attempt, weight, delivery: Some(Arc::new(delivery)), keeper: keeper.clone() };
                        running.extend(lanes.push(resource, job).map(&handle));
                    }
                    Some(Err(error)) => end = Some(Err(error)),
                    None => end = Some(Ok(())),
                },
                else => return end.unwrap_or(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::acknowledged::Acknowledged;
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let pauses: Vec<u64> = (1..=9).map(|attempt| pause(attempt).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }

    fn job(number: u64, weight: usize) -> Job {
        let keeper = Arc::new(Keeper::new(Acknowledged::default()));
        Job { number, attempt: 1, weight, delivery: None, keeper }
    }

    #[test]
    fn there_is_no_room_beyond_the_bounds() {
        let mut lanes = Lanes::default();
        assert!(lanes.push(Some("a".into()), job(1, 0)).is_some() && lanes.has_room());
        lanes.push(Some("b".into()), job(WINDOW + 1, 0));
        assert!(!lanes.has_room(), "they are too far apart");
        assert!(lanes.finish("a".into(), 1).is_none() && lanes.has_room());
        lanes.push(Some("b".into()), job(WINDOW + 2, BYTES));
        assert!(!lanes.has_room(), "they are too large");
        assert_eq!(lanes.finish("b".into(), WINDOW + 1).unwrap().1.number, WINDOW + 2);
        assert!(lanes.finish("b".into(), WINDOW + 2).is_none() && lanes.has_room());
        assert!(lanes.lanes.is_empty() && lanes.bytes == 0);
    }

    proptest! {
        #[test]
        fn each_resource_is_handled_in_order_and_a_barrier_alone(
            kinds in prop::collection::vec(0_u8..4, 1..40), picks in prop::collection::vec(any::<prop::sample::Index>(), 200),
        ) {
            let mut lanes = Lanes::default();
            let (mut running, mut done, mut sent) = (Vec::new(), Vec::new(), 0);
            let mut picks = picks.into_iter();
            while done.len() < kinds.len() {
                if sent < kinds.len() && lanes.has_room() && (running.is_empty() || picks.next().is_some_and(|it| it.index(2) == 0)) {
                    let resource = (kinds[sent] != 0).then(|| kinds[sent].to_string());
                    sent += 1;
                    running.extend(lanes.push(resource, job(sent as u64, 1)));
                } else {
                    prop_assert!(!running.is_empty(), "nothing is stuck");
                    let at = picks.next().map_or(0, |it| it.index(running.len()));
                    let (resource, job): (String, Job) = running.remove(at);
                    done.push(job.number);
                    running.extend(lanes.finish(resource, job.number));
                }
                let barriers = running.iter().filter(|(resource, _)| resource == BARRIER).count();
                prop_assert!(barriers == 0 || running.len() == 1, "it is alone");
            }
            let kind = |number: u64| kinds[number as usize - 1];
            for (at, number) in done.iter().enumerate() {
                let later = &done[at + 1..];
                prop_assert!(later.iter().all(|it| it > number || kind(*it) != kind(*number) && kind(*it) != 0 && kind(*number) != 0));
            }
        }
    }
}
