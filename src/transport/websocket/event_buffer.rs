//! Received events that are not yet delivered. Pure.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::frame::Event;
use crate::ids::SubscriptionId;
use crate::transport::{Frame, FrameBody};

/// How long events that name another subscription wait for one that names ours.
const STRANGE: Duration = Duration::from_secs(5);
/// How many of them are required if an earlier event named ours.
const STRANGERS: usize = 10;

/// Whose events a connection accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Not known yet: events before the answer to the creation wait.
    Unknown,
    /// Only those of this subscription.
    Only(SubscriptionId),
    /// The service may have carried out a creation without our seeing the answer, so that an id other than the known
    /// one may be ours too.
    Any,
}

#[derive(Debug)]
struct Waiting {
    frame: Frame,
    subscription: Option<Box<str>>,
}

/// Bounded by bytes; the oldest events are dropped, and their number is reported.
#[derive(Debug)]
pub(super) struct EventBuffer {
    owner: Owner,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    limit: usize,
    lost: usize,
    /// Events that name another subscription, since the last that named ours. A connection has one subscription
    /// (websocket-and-webhooks.md §1.7), so if all events name another one, they are ours (found 6.9): either the
    /// service names one subscription in two ways, or it carried out a creation that was given up, with our filters.
    strangers: VecDeque<Waiting>,
    strange_bytes: usize,
    strange_since: Option<Instant>,
    /// Whether an event named our subscription.
    knows_ours: bool,
}

impl EventBuffer {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            owner: Owner::Unknown,
            waiting: VecDeque::new(),
            bytes: 0,
            limit,
            lost: 0,
            strangers: VecDeque::new(),
            strange_bytes: 0,
            strange_since: None,
            knows_ours: false,
        }
    }

    /// Adds an event; `false` if it names another subscription.
    pub(super) fn push(&mut self, event: Event, received_at: SystemTime, now: Instant) -> bool {
        let Event { position, subscription, sent_at, body } = event;
        let body = match body {
            Ok(raw) => FrameBody::Payload(raw),
            Err((raw, reason)) => FrameBody::Malformed { raw, reason },
        };
        let waiting = Waiting { frame: Frame::new(body, received_at).at(position).sent(sent_at), subscription };
        let ours = is_ours(&self.owner, waiting.subscription.as_deref());
        if ours {
            // An event without an id says nothing about the others.
            if waiting.subscription.is_some() {
                self.take_strangers();
                self.knows_ours = true;
            }
            self.put(waiting);
        } else {
            self.put_aside(waiting, now);
        }
        ours
    }

    fn put_aside(&mut self, stranger: Waiting, now: Instant) {
        self.strange_since.get_or_insert(now);
        self.strange_bytes += stranger.frame.weight();
        self.strangers.push_back(stranger);
        if self.strange_bytes > self.limit {
            self.adopt();
        }
    }

    fn take_strangers(&mut self) -> VecDeque<Waiting> {
        (self.strange_since, self.strange_bytes) = (None, 0);
        std::mem::take(&mut self.strangers)
    }

    /// When events that name another subscription are accepted as ours.
    pub(super) fn adopts_at(&self) -> Option<Instant> {
        let enough = !self.knows_ours || self.strangers.len() >= STRANGERS;
        self.strange_since.filter(|_| enough).map(|since| since + STRANGE)
    }

    /// Accepts them as ours if it is time; returns whether it did.
    pub(super) fn adopt_if_due(&mut self, now: Instant) -> bool {
        let due = self.adopts_at().is_some_and(|at| at <= now);
        if due {
            self.adopt();
        }
        due
    }

    fn adopt(&mut self) {
        self.owner = Owner::Any;
        self.take_strangers().into_iter().for_each(|stranger| self.put(stranger));
    }

    fn put(&mut self, new: Waiting) {
        // A buffer that was not full drops nothing: then the connection should have been read.
        while self.is_full() {
            let Some(oldest) = self.waiting.pop_front() else { break };
            self.bytes -= oldest.frame.weight();
            self.lost += 1;
        }
        self.bytes += new.frame.weight();
        self.waiting.push_back(new);
    }

    /// Whether the next event may find no room.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= self.limit
    }

    /// The owner is known now: events for others are put aside. Returns their number.
    pub(super) fn own(&mut self, owner: Owner, now: Instant) -> usize {
        self.owner = owner;
        let before = std::mem::take(&mut self.waiting).into_iter().chain(self.take_strangers());
        let (ours, strangers): (VecDeque<_>, VecDeque<_>) =
            before.partition(|waiting| is_ours(&self.owner, waiting.subscription.as_deref()));
        let count = strangers.len();
        self.knows_ours = ours.iter().any(|waiting| waiting.subscription.is_some());
        if !self.knows_ours {
            strangers.into_iter().for_each(|stranger| self.put_aside(stranger, now));
        }
        self.waiting = ours;
        self.bytes = self.waiting.iter().map(|waiting| waiting.frame.weight()).sum();
        count
    }

    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Inserts the events that an earlier connection left before those of this one.
    pub(super) fn inherit(&mut self, earlier: Self) {
        let mine = std::mem::replace(&mut self.waiting, earlier.waiting);
        self.bytes = earlier.bytes;
        self.lost += earlier.lost;
        mine.into_iter().for_each(|waiting| self.put(waiting));
        self.strange_bytes += earlier.strange_bytes;
        self.strange_since = earlier.strange_since.or(self.strange_since);
        let mine = std::mem::replace(&mut self.strangers, earlier.strangers);
        self.strangers.extend(mine);
    }

    /// All events, and how many were dropped before.
    pub(super) fn take(&mut self) -> (Vec<Frame>, usize) {
        self.bytes = 0;
        let frames = std::mem::take(&mut self.waiting).into_iter().map(|waiting| waiting.frame).collect();
        (frames, std::mem::take(&mut self.lost))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.lost == 0
    }
}

fn is_ours(owner: &Owner, subscription: Option<&str>) -> bool {
    match (owner, subscription) {
        (Owner::Only(id), Some(named)) => id.as_str() == named,
        (Owner::Only(_), None) | (Owner::Unknown | Owner::Any, _) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use serde_json::value::RawValue;

    use super::*;

    fn event(n: usize, subscription: Option<&str>) -> Event {
        Event {
            position: Some(n.to_string().into()),
            subscription: subscription.map(Into::into),
            sent_at: None,
            body: Ok(RawValue::from_string("{}".into()).unwrap()),
        }
    }

    fn push(event_buffer: &mut EventBuffer, event: Event) -> bool {
        event_buffer.push(event, SystemTime::UNIX_EPOCH, Instant::now())
    }

    fn taken(event_buffer: &mut EventBuffer) -> (Vec<String>, usize) {
        let (frames, lost) = event_buffer.take();
        (frames.into_iter().map(|frame| frame.position.unwrap().into()).collect(), lost)
    }

    #[test]
    fn w26_events_before_the_answer_wait_for_their_owner() {
        let mut event_buffer = EventBuffer::new(10_000);
        for (n, subscription) in [(1, Some("a")), (2, Some("b")), (3, None)] {
            assert!(push(&mut event_buffer, event(n, subscription)));
        }
        assert_eq!(event_buffer.own(Owner::Only("a".into()), Instant::now()), 1);
        assert!(push(&mut event_buffer, event(4, Some("a"))) && !push(&mut event_buffer, event(5, Some("b"))));
        assert_eq!(taken(&mut event_buffer), (vec!["1".into(), "3".into(), "4".into()], 0));
        assert_eq!(event_buffer.own(Owner::Any, Instant::now()), 0);
        assert!(push(&mut event_buffer, event(6, Some("b"))));
    }

    #[test]
    fn memory_is_bounded_and_dropped_events_are_counted() {
        let weight =
            Frame::new(FrameBody::Payload(RawValue::from_string("{}".into()).unwrap()), SystemTime::UNIX_EPOCH)
                .at(Some("1".into()))
                .weight();
        let mut event_buffer = EventBuffer::new(3 * weight);
        let second = std::time::Duration::from_secs(1);
        (1..=5_u32).for_each(|n| {
            assert_eq!(event_buffer.is_full(), n > 3);
            assert!(event_buffer.push(event(n as usize, None), SystemTime::UNIX_EPOCH + n * second, Instant::now()));
        });
        assert_eq!(event_buffer.lost, 2);
        assert_eq!(taken(&mut event_buffer), (vec!["3".into(), "4".into(), "5".into()], 2));
        assert!(event_buffer.is_empty());
        // One that is larger than the limit fits if nothing else waits.
        let mut small = EventBuffer::new(1);
        push(&mut small, event(1, None));
        push(&mut small, event(2, None));
        assert_eq!(taken(&mut small), (vec!["2".into()], 1));
    }

    #[test]
    fn found_6_9_where_every_event_names_another_subscription_they_are_delivered_soon() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut event_buffer = EventBuffer::new(10_000);
        push(&mut event_buffer, event(1, Some("b")));
        assert_eq!(event_buffer.own(Owner::Only("a".into()), at(0)), 1);
        assert!(!event_buffer.push(event(2, Some("b")), SystemTime::UNIX_EPOCH, at(1)));
        assert!(event_buffer.is_empty() && !event_buffer.adopt_if_due(at(4)));
        assert_eq!(event_buffer.adopts_at(), Some(at(5)));
        assert!(event_buffer.adopt_if_due(at(5)));
        assert_eq!(taken(&mut event_buffer), (vec!["1".into(), "2".into()], 0));
        assert!(push(&mut event_buffer, event(3, Some("b"))), "and the next ones at once");
        assert_eq!(event_buffer.adopts_at(), None);
    }

    #[test]
    fn found_6_9_an_event_of_ours_proves_that_the_others_are_foreign() {
        let start = Instant::now();
        let mut event_buffer = EventBuffer::new(10_000);
        event_buffer.own(Owner::Only("a".into()), start);
        push(&mut event_buffer, event(1, Some("b")));
        push(&mut event_buffer, event(2, None));
        assert!(event_buffer.adopts_at().is_some(), "one without an id proves nothing");
        push(&mut event_buffer, event(3, Some("a")));
        assert!(!event_buffer.adopt_if_due(start + Duration::from_secs(60)));
        assert_eq!(taken(&mut event_buffer), (vec!["2".into(), "3".into()], 0));
        // After an event of ours, many are required.
        for n in 0..STRANGERS {
            assert_eq!(event_buffer.adopts_at(), None);
            event_buffer.push(event(n, Some("b")), SystemTime::UNIX_EPOCH, start);
        }
        assert!(event_buffer.adopt_if_due(start + STRANGE));
    }

    #[test]
    fn found_6_9_events_put_aside_are_bounded() {
        let mut event_buffer = EventBuffer::new(2_000);
        event_buffer.own(Owner::Only("a".into()), Instant::now());
        (0..1_000).for_each(|n| assert!(!push(&mut event_buffer, event(n, Some("b"))) || n > 5));
        let (frames, lost) = event_buffer.take();
        assert_eq!(frames.len() + lost, 1_000);
        assert!(frames.len() < 30);
    }

    #[test]
    fn events_of_an_earlier_connection_come_first() {
        let (mut earlier, mut event_buffer) = (EventBuffer::new(10_000), EventBuffer::new(10_000));
        push(&mut earlier, event(1, None));
        push(&mut event_buffer, event(2, None));
        event_buffer.inherit(earlier);
        assert_eq!(taken(&mut event_buffer), (vec!["1".into(), "2".into()], 0));
    }
}
