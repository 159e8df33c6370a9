//! Two subscriptions that deliver the same events for a while: while one takes
//! over from the other, each event arrives once. Pure.
//!
//! Whether the service gives an event one uuid for all subscriptions or one for
//! each is not published, so uuids do not settle it. Both tell the same events,
//! each from its own beginning to its own end: an event is new when its
//! subscription has told its like more often than the other has.

use std::collections::HashMap;

use crate::event::{DedupKey, Notification};
use crate::ids::SubscriptionId;

/// How many different contents are remembered. An overlap lasts seconds; beyond
/// this many events, some may come twice rather than none.
const REMEMBERED: usize = 16_384;

/// How often each content came by each subscription, while two overlap.
#[derive(Debug, Default)]
pub(super) struct Overlap {
    on: bool,
    told: HashMap<DedupKey, Vec<(SubscriptionId, u64)>>,
}

impl Overlap {
    /// Another subscription is about to be made.
    pub(super) fn begin(&mut self) {
        self.on = true;
    }

    /// Only one is left, and all that the other had told was looked at.
    pub(super) fn end(&mut self) {
        self.on = false;
        self.told = HashMap::new();
    }

    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    /// Counts a notification; `false` if the other subscription told it already.
    pub(super) fn admit(&mut self, notification: &Notification) -> bool {
        let Some(from) = notification.subscription_id().filter(|_| self.on) else { return true };
        let body = notification.raw_body().map_or("", |raw| raw.get());
        let key = DedupKey::over(3, &[notification.event_uri(), body]);
        if self.told.len() >= REMEMBERED && !self.told.contains_key(&key) {
            return true;
        }
        let counts = self.told.entry(key).or_default();
        let most_by_others = counts.iter().filter(|(id, _)| id != from).map(|(_, count)| *count).max().unwrap_or(0);
        let own = match counts.iter_mut().find(|(id, _)| id == from) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                counts.push((from.clone(), 1));
                1
            }
        };
        own > most_by_others
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Origin;

    fn told(by: &str, body: u8) -> Notification {
        let text = format!(r#"{{"uuid":"u","event":"/x","subscriptionId":"{by}","body":{{"n":{body}}}}}"#);
        let json = serde_json::value::RawValue::from_string(text).unwrap();
        Notification::parse(json, Origin::Push, std::time::SystemTime::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn outside_an_overlap_everything_is_new() {
        let mut overlap = Overlap::default();
        assert!(overlap.admit(&told("a", 1)) && overlap.admit(&told("b", 1)));
        overlap.begin();
        assert!(overlap.admit(&told("a", 1)) && !overlap.admit(&told("b", 1)));
        overlap.end();
        assert!(overlap.admit(&told("b", 1)) && overlap.admit(&told("b", 1)));
    }

    #[test]
    fn a_notification_that_does_not_say_whose_it_is_passes() {
        let mut overlap = Overlap::default();
        overlap.begin();
        let json = serde_json::value::RawValue::from_string(r#"{"event":"/x","body":{}}"#.into()).unwrap();
        let anonymous = Notification::parse(json, Origin::Push, std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert!(overlap.admit(&anonymous) && overlap.admit(&anonymous));
    }

    proptest! {
        /// Events in a row, like ones among them. The old subscription tells a first
        /// part, the new one a last part; together all of them. However the two are
        /// interleaved, each event is admitted once.
        #[test]
        fn two_that_overlap_tell_each_event_once(
            events in proptest::collection::vec(0u8..4, 1..60),
            cut in (0.0..1.0f64, 0.0..1.0f64),
            order in proptest::collection::vec(any::<bool>(), 200),
        ) {
            let at = |share: f64| (share * events.len() as f64) as usize;
            let (new_from, old_to) = (at(cut.0.min(cut.1)), at(cut.0.max(cut.1)));
            // What came before the overlap began is not looked at.
            let mut old = events[new_from..old_to].iter();
            let mut new = events[new_from..].iter();
            let mut overlap = Overlap::default();
            overlap.begin();
            let mut admitted = Vec::new();
            let mut order = order.into_iter().cycle();
            loop {
                let first_old = order.next().unwrap_or(true);
                let next = if first_old {
                    old.next().map(|event| ("old", event)).or_else(|| new.next().map(|event| ("new", event)))
                } else {
                    new.next().map(|event| ("new", event)).or_else(|| old.next().map(|event| ("old", event)))
                };
                let Some((by, event)) = next else { break };
                if overlap.admit(&told(by, *event)) {
                    admitted.push(*event);
                }
            }
            let mut wanted = events[new_from..].to_vec();
            wanted.sort_unstable();
            admitted.sort_unstable();
            prop_assert_eq!(admitted, wanted);
        }
    }
}
