//! Events that have come and were not yet handed on. Pure.

use std::collections::VecDeque;
use std::time::SystemTime;

use super::frame::Event;
use crate::ids::SubscriptionId;
use crate::transport::{Frame, FrameBody};

/// Whose events a connection takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Not known yet: what comes before the answer to the creation is kept.
    Unknown,
    /// Only those of this subscription.
    Only(SubscriptionId),
    /// A creation may have been carried out without its answer being seen, so that
    /// another id than the one that is known may be ours too.
    Any,
}

#[derive(Debug)]
struct Waiting {
    frame: Frame,
    subscription: Option<Box<str>>,
}

/// Bounded by bytes; the oldest give way, and their number is told.
#[derive(Debug)]
pub(super) struct Inbox {
    owner: Owner,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    limit: usize,
    lost: usize,
}

impl Inbox {
    pub(super) fn new(limit: usize) -> Self {
        Self { owner: Owner::Unknown, waiting: VecDeque::new(), bytes: 0, limit, lost: 0 }
    }

    /// Takes an event in; `false` if it is somebody else's.
    pub(super) fn push(&mut self, event: Event, received_at: SystemTime) -> bool {
        let Event { position, subscription, sent_at, body } = event;
        if !is_ours(&self.owner, subscription.as_deref()) {
            return false;
        }
        let body = match body {
            Ok(raw) => FrameBody::Payload(raw),
            Err((raw, reason)) => FrameBody::Malformed { raw, reason },
        };
        let frame = Frame::new(body, received_at).at(position).sent(sent_at);
        self.put(Waiting { frame, subscription });
        true
    }

    fn put(&mut self, new: Waiting) {
        self.bytes += new.frame.weight();
        self.waiting.push_back(new);
        while self.bytes > self.limit {
            let Some(oldest) = self.waiting.pop_front() else { break };
            self.bytes -= oldest.frame.weight();
            self.lost += 1;
        }
    }

    /// The owner is known now: what came for others goes. How many those were.
    pub(super) fn own(&mut self, owner: Owner) -> usize {
        self.owner = owner;
        let before = self.waiting.len();
        self.waiting.retain(|waiting| is_ours(&self.owner, waiting.subscription.as_deref()));
        self.bytes = self.waiting.iter().map(|waiting| waiting.frame.weight()).sum();
        before - self.waiting.len()
    }

    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Puts what an earlier connection left before what came by this one.
    pub(super) fn inherit(&mut self, earlier: Self) {
        let mine = std::mem::replace(&mut self.waiting, earlier.waiting);
        self.bytes = earlier.bytes;
        self.lost += earlier.lost;
        mine.into_iter().for_each(|waiting| self.put(waiting));
    }

    /// Everything, and how many gave way before.
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

    fn push(inbox: &mut Inbox, event: Event) -> bool {
        inbox.push(event, SystemTime::UNIX_EPOCH)
    }

    fn taken(inbox: &mut Inbox) -> (Vec<String>, usize) {
        let (frames, lost) = inbox.take();
        (frames.into_iter().map(|frame| frame.position.unwrap().into()).collect(), lost)
    }

    #[test]
    fn w26_what_comes_before_the_answer_is_kept_for_whoever_it_names() {
        let mut inbox = Inbox::new(10_000);
        for (n, subscription) in [(1, Some("a")), (2, Some("b")), (3, None)] {
            assert!(push(&mut inbox, event(n, subscription)));
        }
        assert_eq!(inbox.own(Owner::Only("a".into())), 1);
        assert!(push(&mut inbox, event(4, Some("a"))) && !push(&mut inbox, event(5, Some("b"))));
        assert_eq!(taken(&mut inbox), (vec!["1".into(), "3".into(), "4".into()], 0));
        assert_eq!(inbox.own(Owner::Any), 0);
        assert!(push(&mut inbox, event(6, Some("b"))));
    }

    #[test]
    fn memory_is_bounded_and_what_gave_way_is_told() {
        let weight =
            Frame::new(FrameBody::Payload(RawValue::from_string("{}".into()).unwrap()), SystemTime::UNIX_EPOCH)
                .at(Some("1".into()))
                .weight();
        let mut inbox = Inbox::new(3 * weight);
        (1..=5).for_each(|n| assert!(push(&mut inbox, event(n, None))));
        assert_eq!(taken(&mut inbox), (vec!["3".into(), "4".into(), "5".into()], 2));
        assert!(inbox.is_empty());
        // One that fits nowhere gives way to itself.
        let mut small = Inbox::new(1);
        push(&mut small, event(1, None));
        assert!(!small.is_empty());
        assert_eq!(taken(&mut small), (vec![], 1));
    }

    #[test]
    fn what_an_earlier_connection_left_comes_first() {
        let (mut earlier, mut inbox) = (Inbox::new(10_000), Inbox::new(10_000));
        push(&mut earlier, event(1, None));
        push(&mut inbox, event(2, None));
        inbox.inherit(earlier);
        assert_eq!(taken(&mut inbox), (vec!["1".into(), "2".into()], 0));
    }
}
