//! Subscriptions of ours that another took over from, until they are deleted. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::ids::SubscriptionId;
use crate::policy::doubled;

/// The pause before the second attempt; each further one is twice as long, up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The most remembered orphans: the service allows 30 subscriptions per user and app, and an orphan ends with its
/// lease.
const REMEMBERED: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The call is in flight.
    Deleting,
    /// It failed, and is repeated then.
    Waiting(Instant),
    /// It was refused: another attempt would be refused too.
    Refused,
}

#[derive(Debug)]
struct Orphan {
    id: SubscriptionId,
    /// The transport that created it.
    route: usize,
    failures: u32,
    /// When it ends at the service by itself.
    until: Instant,
    state: State,
}

/// A failed deletion leaves a subscription that counts against the user's quota, so it is repeated with a back-off
/// until the lease has ended. Only ids that the service gave us, or that one of our resume tokens names, are added.
#[derive(Debug, Default)]
pub(super) struct Orphans(Vec<Orphan>);

impl Orphans {
    /// Returns whether to begin the deletion; `false` while one is in flight or planned.
    pub(super) fn add(&mut self, route: usize, id: &SubscriptionId, until: Instant) -> bool {
        if self.0.iter().any(|orphan| orphan.id == *id) {
            return false;
        }
        if self.0.len() == REMEMBERED {
            self.0.remove(0);
        }
        self.0.push(Orphan { id: id.clone(), route, failures: 0, until, state: State::Deleting });
        true
    }

    /// It is deleted.
    pub(super) fn gone(&mut self, id: &SubscriptionId) {
        self.0.retain(|orphan| orphan.id != *id);
    }

    /// Its deletion failed; `may_pass`: transiently.
    pub(super) fn failed(&mut self, id: &SubscriptionId, may_pass: bool, now: Instant) {
        if let Some(orphan) = self.0.iter_mut().find(|orphan| orphan.id == *id) {
            let pause = doubled(PAUSE, orphan.failures, LONGEST_PAUSE);
            orphan.failures = orphan.failures.saturating_add(1);
            orphan.state = if may_pass { State::Waiting(now + pause) } else { State::Refused };
        }
        self.0.retain(|orphan| orphan.until > now);
    }

    /// The end is near: waiting deletions are due at once.
    pub(super) fn hurry(&mut self, now: Instant) {
        for orphan in &mut self.0 {
            if let State::Waiting(_) = orphan.state {
                orphan.failures = 0;
                orphan.state = State::Waiting(now);
            }
        }
    }

    /// Those whose deletion is to be repeated now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(usize, SubscriptionId)> {
        let mut due = Vec::new();
        for orphan in &mut self.0 {
            if matches!(orphan.state, State::Waiting(at) if at <= now) {
                orphan.state = State::Deleting;
                due.push((orphan.route, orphan.id.clone()));
            }
        }
        due
    }

    /// When the next attempt is due.
    pub(super) fn next(&self) -> Option<Instant> {
        let at = |orphan: &Orphan| match orphan.state {
            State::Waiting(at) => Some(at),
            State::Deleting | State::Refused => None,
        };
        self.0.iter().filter_map(at).min()
    }

    /// Whether nothing more can be done about the remaining ones.
    pub(super) fn is_settled(&self) -> bool {
        self.0.iter().all(|orphan| orphan.state == State::Refused)
    }

    /// Whether none remains.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_that_failed_is_repeated_with_growing_pauses_until_the_lease_has_ended() {
        let start = Instant::now();
        let (mut orphans, id, mut now) = (Orphans::default(), SubscriptionId::new("a"), start);
        assert!(orphans.add(1, &id, start + Duration::from_secs(300)));
        assert!(!orphans.add(1, &id, start), "its deletion is under route");
        let mut pauses = Vec::new();
        loop {
            assert!(!orphans.is_settled() && orphans.next().is_none());
            orphans.failed(&id, true, now);
            let Some(next) = orphans.next() else { break };
            assert!(orphans.due(next - Duration::from_millis(1)).is_empty());
            assert_eq!(orphans.due(next), [(1, id.clone())]);
            pauses.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        assert!(orphans.is_settled() && orphans.is_empty(), "it has ended by itself");
    }

    #[test]
    fn a_refused_deletion_stays_known_and_does_not_delay_the_end() {
        let start = Instant::now();
        let until = start + Duration::from_secs(300);
        let (mut orphans, a, b) = (Orphans::default(), SubscriptionId::new("a"), SubscriptionId::new("b"));
        orphans.add(0, &a, until);
        orphans.add(0, &b, until);
        orphans.failed(&a, false, start);
        orphans.failed(&b, true, start);
        orphans.hurry(start);
        assert_eq!(orphans.due(start), [(0, b.clone())]);
        assert!(!orphans.is_settled());
        orphans.gone(&b);
        assert!(orphans.is_settled());
        assert!(!orphans.is_empty());
    }

    #[test]
    fn orphans_are_bounded() {
        let (mut orphans, now) = (Orphans::default(), Instant::now());
        for n in 0..1_000 {
            orphans.add(0, &SubscriptionId::new(n.to_string()), now + PAUSE);
        }
        assert_eq!(orphans.0.len(), REMEMBERED);
    }
}
