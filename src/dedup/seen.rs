//! The keys of what was delivered lately. Pure.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

use foldhash::fast::FixedState;
use tokio::time::{Duration, Instant};

use crate::event::DedupKey;

/// A window of keys seen lately, bounded by count and by time.
///
/// Replays come from cursors that are read again after a fault, from two links
/// that overlap while an address moves, and from publishers that repeat: all
/// within the age of the service's buffer, which the window outlives.
#[derive(Debug)]
pub(crate) struct Seen<K = DedupKey> {
    /// The keys are hashes already.
    keys: HashSet<K, FixedState>,
    order: VecDeque<(Instant, K)>,
    capacity: usize,
    keep: Duration,
}

impl<K: Copy + Eq + Hash> Seen<K> {
    pub(crate) fn new(capacity: usize, keep: Duration) -> Self {
        Self { keys: HashSet::default(), order: VecDeque::new(), capacity: capacity.max(1), keep }
    }

    /// Whether `key` is new; it is not from now on.
    pub(crate) fn admit(&mut self, key: K, now: Instant) -> bool {
        self.forget(now, self.capacity);
        if !self.keys.insert(key) {
            return false;
        }
        self.order.push_back((now, key));
        true
    }

    /// Whether `key` was seen within the window.
    pub(crate) fn holds(&mut self, key: K, now: Instant) -> bool {
        self.forget(now, self.capacity.saturating_add(1));
        self.keys.contains(&key)
    }

    /// Whether nothing is remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Leaves fewer than `below`, all of them young.
    fn forget(&mut self, now: Instant, below: usize) {
        while let Some((at, key)) = self.order.front() {
            let fresh = now.saturating_duration_since(*at) < self.keep;
            if fresh && self.order.len() < below {
                break;
            }
            self.keys.remove(key);
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(n: u32) -> DedupKey {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        DedupKey::from_bytes(bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_new_once_until_it_ages_out() {
        let mut seen = Seen::new(100, Duration::from_secs(60));
        let now = Instant::now();
        assert!(seen.admit(key(1), now));
        assert!(!seen.admit(key(1), now + Duration::from_secs(59)));
        assert!(seen.admit(key(1), now + Duration::from_secs(60)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_window_holds_its_capacity_and_no_more() {
        let mut seen = Seen::new(3, Duration::from_secs(60));
        let now = Instant::now();
        for n in 0..1000 {
            assert!(seen.admit(key(n), now));
            assert!(seen.order.len() <= 3 && seen.keys.len() == seen.order.len());
        }
        assert!(!seen.admit(key(999), now) && !seen.admit(key(998), now));
        assert!(seen.admit(key(0), now));
    }

    proptest! {
        #[test]
        fn keys_and_order_never_drift_apart(steps in prop::collection::vec((0u32..20, 0u64..30), 1..200)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let mut seen = Seen::new(8, Duration::from_secs(60));
                let mut now = Instant::now();
                for (n, secs) in steps {
                    now += Duration::from_secs(secs);
                    seen.admit(key(n), now);
                    assert!(!seen.admit(key(n), now), "just admitted");
                    assert_eq!(seen.keys.len(), seen.order.len());
                }
            });
        }
    }
}
