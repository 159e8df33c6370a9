//! Two subscriptions that deliver the same events for a while: while one takes
//! over from the other, each event arrives once. Pure.
//!
//! Whether the service gives an event one uuid for all subscriptions or one for
//! each is not published, so uuids do not settle it. Both tell the same events,
//! each from its own beginning to its own end: an event is new when its
//! subscription has told its like more often than the other has.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::event::{DedupKey, Notification};
use crate::ids::SubscriptionId;

/// How many different contents are remembered. An overlap lasts seconds; beyond
/// this many events, some may come twice rather than none.
const REMEMBERED: usize = 16_384;

/// What one subscription told is on its way from the other for no longer.
const SPAN: Duration = Duration::from_secs(5);

/// How often a subscription told one content, and when it last did.
#[derive(Debug)]
struct Told {
    by: SubscriptionId,
    count: u64,
    last: Instant,
}

/// How often each content came by each subscription, while two overlap.
#[derive(Debug, Default)]
pub(super) struct Overlap {
    on: bool,
    /// Since when the one that is left delivers.
    alone_since: Option<Instant>,
    told: HashMap<DedupKey, Vec<Told>>,
}

impl Overlap {
    /// Another subscription is about to be made. It tells nothing of what came long
    /// before, so that what is like that is new.
    pub(super) fn begin(&mut self, now: Instant) {
        self.on = true;
        self.alone_since = None;
        self.told.retain(|_, told| {
            told.retain(|told| now.saturating_duration_since(told.last) <= SPAN);
            !told.is_empty()
        });
    }

    /// Another attempt to make it.
    pub(super) fn begin_again(&mut self, now: Instant) {
        if self.on {
            self.begin(now);
        }
    }

    /// Whether only one is left, and delivers; `is_read` if nothing waits that came. It
    /// has told all that the other had told a while after that, and not as soon.
    pub(super) fn observe(&mut self, now: Instant, is_alone: bool, is_read: bool) {
        if !self.on || !is_alone {
            self.alone_since = None;
        } else if now.saturating_duration_since(*self.alone_since.get_or_insert(now)) >= SPAN && is_read {
            *self = Self::default();
        }
    }

    /// Counts a notification; `false` if the other subscription told it already.
    pub(super) fn admit(&mut self, notification: &Notification, now: Instant) -> bool {
        let Some(from) = notification.subscription_id().filter(|_| self.on) else { return true };
        let body = notification.raw_body().map_or("", |raw| raw.get());
        let key = DedupKey::over(3, &[notification.event_uri(), body]);
        if self.told.len() >= REMEMBERED && !self.told.contains_key(&key) {
            return true;
        }
        let counts = self.told.entry(key).or_default();
        let most_by_others = counts.iter().filter(|told| told.by != *from).map(|told| told.count).max().unwrap_or(0);
        let own = match counts.iter_mut().find(|told| told.by == *from) {
            Some(told) => {
                (told.count, told.last) = (told.count + 1, now);
                told.count
            }
            None => {
                counts.push(Told { by: from.clone(), count: 1, last: now });
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
        let (mut overlap, now) = (Overlap::default(), Instant::now());
        assert!(overlap.admit(&told("a", 1), now) && overlap.admit(&told("b", 1), now));
        overlap.begin(now);
        assert!(overlap.admit(&told("a", 1), now) && !overlap.admit(&told("b", 1), now));
        overlap.observe(now, true, true);
        overlap.observe(now + SPAN, true, true);
        assert!(overlap.admit(&told("b", 1), now + SPAN) && overlap.admit(&told("b", 1), now + SPAN));
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
            overlap.admit(&told("a", 1), now);
            for (share, is_alone, is_read) in observed {
                overlap.observe(at(*share), *is_alone, *is_read);
            }
            assert_eq!(!overlap.admit(&told("b", 1), at(20)), is_on, "{observed:?}");
        }
    }

    #[test]
    fn what_is_like_something_told_long_before_the_other_was_made_is_new() {
        let (mut overlap, now) = (Overlap::default(), Instant::now());
        overlap.begin_again(now);
        assert!(overlap.admit(&told("a", 1), now) && overlap.admit(&told("b", 1), now), "none is being made");
        overlap.begin(now);
        overlap.admit(&told("a", 1), now);
        overlap.begin_again(now + SPAN);
        assert!(!overlap.admit(&told("b", 1), now + SPAN));
        overlap.admit(&told("a", 2), now + SPAN);
        overlap.begin_again(now + SPAN * 3);
        assert!(overlap.admit(&told("b", 2), now + SPAN * 3));
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
            let (mut overlap, now) = (Overlap::default(), Instant::now());
            overlap.begin(now);
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
                if overlap.admit(&told(by, *event), now) {
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
