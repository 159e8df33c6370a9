//! Two subscriptions that deliver the same events for a while: while one takes
//! over from the other, each event arrives once. Pure.
//!
//! Whether the service gives an event one uuid for all subscriptions or one for
//! each is not published, so uuids do not settle it. An event is a copy of one that
//! another subscription delivered, when both have the same content and that one could
//! have been delivered by this subscription too: not before it was created, and at about
//! the same time (found 4.4).
//!
//! A creation whose answer was lost can have made a subscription whose events wait at a
//! connection until that is continued: with several transports when one is used again, with one
//! when another creation is tried over it. Then a copy comes long after the event.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::event::{DedupKey, Notification};
use crate::ids::SubscriptionId;
use crate::timestamp::Timestamp;

/// The most remembered events. An overlap lasts seconds; beyond this many events, some may be delivered twice rather
/// than none.
const REMEMBERED: usize = 16_384;
/// The most outside an overlap, if a copy may come long after the event.
const REMEMBERED_BETWEEN: usize = 4_096;
/// The most subscriptions whose creation times are remembered.
const CREATIONS: usize = 64;

/// An event of one subscription arrives from the other within this time, and the service sends both at most this far
/// apart.
const SPAN: Duration = Duration::from_secs(5);

/// An event, and which subscriptions delivered it.
#[derive(Debug)]
struct Delivered {
    by: Vec<SubscriptionId>,
    uuid: Option<String>,
    /// When the service sent it, by its own clock.
    sent: Option<SystemTime>,
    at: Instant,
}

impl Delivered {
    /// Whether `notification`, of a subscription created at `created`, may be a copy.
    /// `begun`: when the overlap began.
    fn is_copied_by(
        &self,
        notification: &Notification,
        sent: Option<SystemTime>,
        created: Option<SystemTime>,
        begun: Option<Instant>,
    ) -> bool {
        if self.uuid.is_some() && self.uuid.as_deref() == notification.uuid() {
            return true;
        }
        let before = |created| self.sent.is_some_and(|sent| sent < created);
        let apart = |(one, other): (SystemTime, SystemTime)| {
            one.duration_since(other).or_else(|_| other.duration_since(one)).unwrap_or_default()
        };
        // Without both times, only what came since about the beginning.
        let came_lately = || begun.is_some_and(|begun| begun.saturating_duration_since(self.at) <= SPAN);
        !created.is_some_and(before) && self.sent.zip(sent).map_or_else(came_lately, |times| apart(times) <= SPAN)
    }
}

/// The events of each subscription, while two overlap; for longer if a copy may come long after the event.
#[derive(Debug, Default)]
pub(crate) struct Overlap {
    /// There are several transports, or a creation was not answered.
    always: bool,
    /// Since when two overlap, while they do.
    begun: Option<Instant>,
    /// Since when the remaining one delivers.
    alone_since: Option<Instant>,
    delivered: BTreeMap<DedupKey, Vec<Delivered>>,
    /// The remembered keys, the oldest first.
    order: VecDeque<DedupKey>,
    /// When the service created the subscriptions that take over, by its own clock.
    created: HashMap<SubscriptionId, SystemTime>,
}

impl Overlap {
    /// For a subscription that may use this number of transports.
    pub(crate) fn new(transports: usize) -> Self {
        Self { always: transports > 1, ..Self::default() }
    }

    /// Another subscription is about to be created. It delivers no event from long before, so an equal event is new.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.begun = Some(now);
        self.alone_since = None;
        if !self.always {
            self.delivered.retain(|_, all| {
                all.retain(|it| now.saturating_duration_since(it.at) <= SPAN);
                !all.is_empty()
            });
            let mut left: BTreeMap<DedupKey, usize> =
                self.delivered.iter().map(|(key, all)| (*key, all.len())).collect();
            // Of equal ones the last remain, and stand last.
            let mut order: VecDeque<DedupKey> = std::mem::take(&mut self.order);
            while let Some(key) = order.pop_back() {
                if let Some(count) = left.get_mut(&key).filter(|count| **count > 0) {
                    *count -= 1;
                    self.order.push_front(key);
                }
            }
        }
    }

    /// A creation was not answered: the events of what it may have made, the first of which came since it began, may wait
    /// at its connection.
    pub(crate) fn outlast(&mut self) {
        self.always = true;
    }

    /// Another attempt to make it.
    pub(crate) fn begin_again(&mut self, now: Instant) {
        if self.begun.is_some() {
            self.begin(now);
        }
    }

    /// When the service created a subscription: it delivers nothing sent before.
    pub(crate) fn created(&mut self, id: &SubscriptionId, at: Option<SystemTime>) {
        let Some(at) = at.filter(|_| self.always || self.begun.is_some()) else { return };
        if self.created.len() >= CREATIONS {
            self.created.clear();
        }
        self.created.insert(id.clone(), at);
    }

    /// Whether only one is left, and delivers; `is_read` if no received event waits. It has delivered everything that
    /// the other had only a while after that.
    pub(crate) fn observe(&mut self, now: Instant, is_alone: bool, is_read: bool) {
        if self.begun.is_none() || !is_alone {
            self.alone_since = None;
        } else if now.saturating_duration_since(*self.alone_since.get_or_insert(now)) >= SPAN && is_read {
            if self.always {
                (self.begun, self.alone_since) = (None, None);
                self.forget(REMEMBERED_BETWEEN);
            } else {
                *self = Self::default();
            }
        }
    }

    /// Remembers a notification; `false` if the other subscription delivered it already.
    pub(crate) fn admit(&mut self, notification: &Notification, now: Instant) -> bool {
        let is_on = self.always || self.begun.is_some();
        let Some(from) = notification.subscription_id().filter(|_| is_on) else { return true };
        let sent = notification.timestamp().and_then(Timestamp::system_time);
        let created = self.created.get(from).copied();
        let begun = self.begun;
        let key = notification.content_key();
        let same = self.delivered.entry(key).or_default();
        // The same event again is not another one.
        if same.iter().any(|it| it.by.contains(from) && it.uuid.is_some() && it.uuid.as_deref() == notification.uuid())
        {
            return true;
        }
        let is_copy =
            |it: &&mut Delivered| !it.by.contains(from) && it.is_copied_by(notification, sent, created, begun);
        if let Some(first) = same.iter_mut().find(is_copy) {
            first.by.push(from.clone());
            return false;
        }
        let uuid = notification.uuid().map(str::to_owned);
        same.push(Delivered { by: vec![from.clone()], uuid, sent, at: now });
        self.order.push_back(key);
        self.forget(if begun.is_some() { REMEMBERED } else { REMEMBERED_BETWEEN });
        true
    }

    /// Forgets the oldest beyond `most`.
    fn forget(&mut self, most: usize) {
        while self.order.len() > most {
            let Some(key) = self.order.pop_front() else { break };
            if let Some(same) = self.delivered.get_mut(&key) {
                // Those of one key stand in the order in which they came.
                if !same.is_empty() {
                    same.remove(0);
                }
                if same.is_empty() {
                    self.delivered.remove(&key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Origin;

    fn event(by: &str, body: u8) -> Notification {
        let text = format!(r#"{{"event":"/x","subscriptionId":"{by}","body":{{"n":{body}}}}}"#);
        let json = serde_json::value::RawValue::from_string(text).unwrap();
        Notification::parse(json, Origin::Push, std::time::SystemTime::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn outside_an_overlap_everything_is_new() {
        let (mut overlap, now) = (Overlap::default(), Instant::now());
        assert!(overlap.admit(&event("a", 1), now) && overlap.admit(&event("b", 1), now));
        overlap.begin(now);
        assert!(overlap.admit(&event("a", 1), now) && !overlap.admit(&event("b", 1), now));
        overlap.observe(now, true, true);
        overlap.observe(now + SPAN, true, true);
        assert!(overlap.admit(&event("b", 1), now + SPAN) && overlap.admit(&event("b", 1), now + SPAN));
    }

    #[test]
    fn it_lasts_until_the_one_that_is_left_has_delivered_for_a_while_and_all_is_read() {
        let now = Instant::now();
        let at = |share: u32| now + SPAN * share / 10;
        for (observed, is_on) in [
            (&[(0, true, true), (9, true, true)][..], true),
            (&[(0, true, true), (10, true, true)], false),
            (&[(0, false, true), (10, true, true)], true),
            (&[(0, true, true), (5, false, true), (10, true, true)], true),
            (&[(0, true, true), (5, false, true), (9, true, true), (19, true, true)], false),
            (&[(0, true, true), (10, true, false)], true),
            (&[(0, true, false), (10, true, true)], false),
        ] {
            let mut overlap = Overlap::default();
            overlap.begin(now);
            overlap.admit(&event("a", 1), now);
            for (share, is_alone, is_read) in observed {
                overlap.observe(at(*share), *is_alone, *is_read);
            }
            assert_eq!(!overlap.admit(&event("b", 1), at(20)), is_on, "{observed:?}");
        }
    }

    #[test]
    fn an_event_equal_to_one_long_before_the_takeover_is_new() {
        let (mut overlap, now) = (Overlap::default(), Instant::now());
        overlap.begin_again(now);
        assert!(overlap.admit(&event("a", 1), now) && overlap.admit(&event("b", 1), now), "none is being made");
        overlap.begin(now);
        overlap.admit(&event("a", 1), now);
        overlap.begin_again(now + SPAN);
        assert!(!overlap.admit(&event("b", 1), now + SPAN));
        overlap.admit(&event("a", 2), now + SPAN);
        overlap.begin_again(now + SPAN * 3);
        assert!(overlap.admit(&event("b", 2), now + SPAN * 3));
    }

    fn sent_at(by: &str, uuid: &str, secs: u64) -> Notification {
        let at = Timestamp::from(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(secs));
        let text =
            format!(r#"{{"uuid":"{uuid}","event":"/x","timestamp":"{at}","subscriptionId":"{by}","body":{{"n":1}}}}"#);
        let json = serde_json::value::RawValue::from_string(text).unwrap();
        Notification::parse(json, Origin::Push, std::time::SystemTime::UNIX_EPOCH).unwrap()
    }

    /// Found 4.4: the new subscription did not exist yet when the first one was sent.
    #[test]
    fn an_event_like_one_sent_before_the_subscription_was_created_is_new() {
        let second = |secs| std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
        // When the old one's event was sent, when the new subscription was created, when its
        // event was sent, whether both have one uuid, and whether it is another event.
        for (old, created, new, same_uuid, is_new) in [
            (100, Some(101), 102, false, true),
            (101, Some(101), 102, false, false),
            (100, Some(99), 102, false, false),
            (100, None, 102, false, false),
            (100, Some(101), 102, true, false),
            // Too far apart to be one event, whenever it was created.
            (100, None, 106, false, true),
            (106, None, 100, false, true),
            (100, None, 105, false, false),
        ] {
            let (mut overlap, now) = (Overlap::default(), Instant::now());
            overlap.begin(now);
            assert!(overlap.admit(&sent_at("a", "1", old), now));
            overlap.created(&"b".into(), created.map(second));
            let uuid = if same_uuid { "1" } else { "2" };
            let case = format!("{old} {created:?} {new} {same_uuid}");
            assert_eq!(overlap.admit(&sent_at("b", uuid, new), now), is_new, "{case}");
        }
    }

    /// The events of a subscription whose creation was not answered wait at a connection, and
    /// come when that transport is used again.
    #[test]
    fn a_copy_over_another_transport_is_one_however_late_it_comes() {
        let start = Instant::now();
        let later = |secs| start + Duration::from_secs(secs);
        let mut overlap = Overlap::new(2);
        assert!(overlap.admit(&sent_at("pubnub", "1", 100), start));
        overlap.begin(later(60));
        overlap.observe(later(61), true, true);
        overlap.observe(later(70), true, true);
        overlap.begin(later(100));
        assert!(!overlap.admit(&sent_at("socket", "2", 101), later(101)));
        assert!(overlap.admit(&sent_at("socket", "3", 107), later(101)), "an equal one, sent later");
        assert!(overlap.admit(&sent_at("pubnub", "4", 100), later(101)), "an equal one by the same subscription");
        let mut overlap = Overlap::new(2);
        assert!(overlap.admit(&event("pubnub", 1), start));
        overlap.begin(later(100));
        assert!(overlap.admit(&event("socket", 1), later(101)), "when it was sent is not known");
    }

    /// With one transport too: the connection is continued for the next creation.
    #[test]
    fn a_copy_by_a_subscription_whose_creation_was_not_answered_is_one_however_late_it_comes() {
        let start = Instant::now();
        let later = |secs| start + Duration::from_secs(secs);
        for is_answered in [true, false] {
            let mut overlap = Overlap::new(1);
            overlap.begin(start);
            if !is_answered {
                overlap.outlast();
            }
            overlap.observe(later(1), true, true);
            overlap.observe(later(10), true, true);
            assert!(overlap.admit(&sent_at("present", "1", 120), later(20)));
            overlap.begin(later(100));
            assert_eq!(overlap.admit(&sent_at("unknown", "2", 120), later(101)), is_answered);
            assert!(overlap.admit(&sent_at("unknown", "3", 126), later(101)), "an equal one, sent later");
        }
    }

    #[test]
    fn the_memory_of_events_is_bounded() {
        let now = Instant::now();
        let mut overlap = Overlap::new(2);
        for n in 0..u64::try_from(REMEMBERED_BETWEEN).unwrap() + 10 {
            overlap.admit(&sent_at("a", "1", 100 + 10 * n), now);
            overlap.admit(&sent_at("a", &n.to_string(), 100 + 10 * n), now);
        }
        assert_eq!(overlap.order.len(), REMEMBERED_BETWEEN);
        assert_eq!(overlap.delivered.values().map(Vec::len).sum::<usize>(), REMEMBERED_BETWEEN);
        let mut overlap = Overlap::new(1);
        overlap.begin(now);
        for n in 0..10 {
            overlap.admit(&event("a", n), now + SPAN * u32::from(n));
        }
        overlap.begin(now + SPAN * 9);
        let left = overlap.delivered.values().map(Vec::len).sum::<usize>();
        assert_eq!((left, overlap.order.len()), (2, 2));
    }

    #[test]
    fn a_third_subscription_repeats_events_of_two_others() {
        let (mut overlap, now) = (Overlap::default(), Instant::now());
        overlap.begin(now);
        assert!(overlap.admit(&event("a", 1), now));
        assert!(!overlap.admit(&event("b", 1), now) && !overlap.admit(&event("c", 1), now));
        assert!(overlap.admit(&event("c", 1), now), "once more than the others");
    }

    /// A flat notification has no body: its own fields are its content.
    #[test]
    fn two_flat_events_are_not_taken_for_one() {
        let flat = |by: &str, session: u8| {
            let text = format!(
                r#"{{"uuid":"{by}{session}","event":"/restapi/v1.0/account/1/extension/2/missed-calls",
                    "subscriptionId":"{by}","sessionId":"{session}"}}"#
            );
            let json = serde_json::value::RawValue::from_string(text).unwrap();
            Notification::parse(json, Origin::Push, std::time::SystemTime::UNIX_EPOCH).unwrap()
        };
        let (mut overlap, now) = (Overlap::default(), Instant::now());
        overlap.begin(now);
        assert!(overlap.admit(&flat("a", 1), now) && !overlap.admit(&flat("b", 1), now));
        assert!(overlap.admit(&flat("b", 2), now), "another call");
    }

    #[test]
    fn a_notification_that_does_not_say_whose_it_is_passes() {
        let (mut overlap, now) = (Overlap::default(), Instant::now());
        overlap.begin(now);
        let json = serde_json::value::RawValue::from_string(r#"{"event":"/x","body":{}}"#.into()).unwrap();
        let anonymous = Notification::parse(json, Origin::Push, std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert!(overlap.admit(&anonymous, now) && overlap.admit(&anonymous, now));
    }

    proptest! {
        /// Events in a row, some of them equal. The old subscription delivers a first part, the new one a last part;
        /// together all of them. In any interleaving, each event is admitted once.
        #[test]
        fn two_overlapping_subscriptions_deliver_each_event_once(
            events in proptest::collection::vec(0u8..4, 1..60),
            cut in (0.0..1.0f64, 0.0..1.0f64),
            order in proptest::collection::vec(any::<bool>(), 200),
        ) {
            let at = |share: f64| (share * events.len() as f64) as usize;
            let (new_from, old_to) = (at(cut.0.min(cut.1)), at(cut.0.max(cut.1)));
            // Events before the overlap are not compared.
            let mut old = events[new_from..old_to].iter();
            let mut new = events[new_from..].iter();
            let (mut overlap, now) = (Overlap::default(), Instant::now());
            overlap.begin(now);
            let mut admitted = Vec::new();
            let mut order = order.into_iter().cycle();
            loop {
                let first_old = order.next().unwrap_or(true);
                let next = if first_old {
                    old.next().map(|body| ("old", body)).or_else(|| new.next().map(|body| ("new", body)))
                } else {
                    new.next().map(|body| ("new", body)).or_else(|| old.next().map(|body| ("old", body)))
                };
                let Some((by, body)) = next else { break };
                if overlap.admit(&event(by, *body), now) {
                    admitted.push(*body);
                }
            }
            let mut wanted = events[new_from..].to_vec();
            wanted.sort_unstable();
            admitted.sort_unstable();
            prop_assert_eq!(admitted, wanted);
        }
    }
}
