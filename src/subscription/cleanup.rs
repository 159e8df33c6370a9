//! Which subscriptions of ours may be at the service, and which have to be deleted there. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::lease;
use super::machine::Op;
use super::orphans::Orphans;
use crate::control::Deletion;
use crate::error::Result;
use crate::ids::SubscriptionId;
use crate::registry::Registry;

/// How long the end waits for the deletion of orphans.
pub(super) const END_WITHIN: Duration = Duration::from_secs(5);
/// How long it waits in any case, when the end itself took long.
const LEAST_WAIT: Duration = Duration::from_secs(1);
/// How long a subscription from an unanswered creation can exist, unless it is renewed: the lifetime of PubNub
/// subscriptions (ringcentral-rest-and-events.md §2.5).
pub(super) const UNCONFIRMED_FOR: Duration = Duration::from_secs(900);
/// The same over a WebSocket. It may stay for a day when its session has ended (websocket-and-webhooks.md §1.7).
const UNCONFIRMED_IN_SESSION_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest assumed life of a lease after it was given up.
const ORPHAN_LIFE_CAP: Duration = Duration::from_secs(24 * 60 * 60);

/// A subscription to delete, over the route that created it.
pub(super) type Orphan = (usize, SubscriptionId);

/// The audit of the subscription at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Audit {
    NotRequested,
    Pending,
    Over,
}

/// Owns the creations without an answer, the orphans until they are deleted, and the deadline of their deletion.
///
/// Inputs: the calls that create and delete, and how they ended. Effects: the [`Orphan`]s to delete now. Answers:
/// whether the end may be reported, and whether nothing of ours is left.
#[derive(Debug)]
pub(super) struct Cleanup {
    registry: Arc<Registry>,
    /// Orphans of a former process that the user named.
    leftovers: Vec<SubscriptionId>,
    has_created: bool,
    /// The creations in flight.
    creating: Vec<Op>,
    /// Until when a subscription may exist at the service whose id was never read, by its route.
    unconfirmed: BTreeMap<usize, Instant>,
    orphans: Orphans,
    /// Whether the subscription of the resume token needs no action.
    former_is_settled: bool,
    /// Whether a deletion was sent whose answer did not arrive.
    is_deletion_unconfirmed: bool,
    /// The audit of the subscription before its deletion.
    audit: Audit,
    /// Until when the end waits.
    deadline: Option<Instant>,
}

impl Cleanup {
    pub(super) fn new(registry: Arc<Registry>, leftovers: Vec<SubscriptionId>) -> Self {
        Self {
            registry,
            leftovers,
            has_created: false,
            creating: Vec::new(),
            unconfirmed: BTreeMap::new(),
            orphans: Orphans::default(),
            former_is_settled: false,
            is_deletion_unconfirmed: false,
            audit: Audit::NotRequested,
            deadline: None,
        }
    }

    /// A subscription is being created.
    pub(super) fn creates(&mut self, op: Op) {
        self.has_created = true;
        self.creating.push(op);
    }

    /// Whether this process created a subscription, or tried to.
    pub(super) fn has_created(&self) -> bool {
        self.has_created
    }

    /// A call ended, with an answer unless `is_ambiguous`. Returns whether it may have created a subscription whose id
    /// was never read. A listed one with the same filters may be another process's, so it is not touched (found 5.1).
    pub(super) fn answered(
        &mut self,
        now: Instant,
        op: Op,
        route: usize,
        is_ambiguous: bool,
        has_address: bool,
    ) -> bool {
        let before = self.creating.len();
        self.creating.retain(|creating| *creating != op);
        let is_unconfirmed = is_ambiguous && self.creating.len() < before;
        if is_unconfirmed {
            let life = if has_address { UNCONFIRMED_FOR } else { UNCONFIRMED_IN_SESSION_FOR };
            self.unconfirmed.insert(route, now + life);
        }
        is_unconfirmed
    }

    /// The service has no other subscription of this session, which every creation over the route was made in.
    pub(super) fn is_only(&mut self, route: usize) {
        self.unconfirmed.remove(&route);
    }

    /// The subscription is in use.
    pub(super) fn in_use(&self, id: &SubscriptionId) {
        self.registry.live(id);
    }

    /// A subscription that is provably ours is of no more use: an orphan counts against the user's quota. `granted`: the
    /// lifetime of its lease.
    pub(super) fn orphan(
        &mut self,
        now: Instant,
        route: usize,
        id: SubscriptionId,
        granted: Option<Duration>,
    ) -> Option<Orphan> {
        let life = granted.map_or(lease::ASSUMED_LIFETIME, |granted| granted.max(lease::ASSUMED_LIFETIME));
        let is_new = self.orphans.add(route, &id, now + life.min(ORPHAN_LIFE_CAP));
        is_new.then_some((route, id))
    }

    /// As [`orphan`](Self::orphan), of one that only this process knows: its other subscriptions may delete it as well.
    pub(super) fn unused(
        &mut self,
        now: Instant,
        route: usize,
        id: SubscriptionId,
        granted: Option<Duration>,
    ) -> Option<Orphan> {
        self.registry.left_over(&id);
        self.orphan(now, route, id, granted)
    }

    /// The subscription of the resume token is gone, or is being deleted.
    pub(super) fn former_is_settled(&mut self) {
        self.former_is_settled = true;
    }

    /// Another subscription was created than the resume token's. The token proves that it is ours, and no other process
    /// can continue it.
    pub(super) fn former(
        &mut self,
        now: Instant,
        route: usize,
        id: SubscriptionId,
        granted: Option<Duration>,
    ) -> Option<Orphan> {
        if self.former_is_settled { None } else { self.orphan(now, route, id, granted) }
    }

    /// The orphans whose deletion is to be repeated now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Orphan> {
        self.orphans.due(now)
    }

    /// A subscription is deleted.
    pub(super) fn gone(&mut self, id: &SubscriptionId) {
        self.orphans.gone(id);
        self.registry.gone(id);
        self.leftovers.retain(|left| left != id);
    }

    /// The deletion of an orphan failed; `may_pass`: transiently.
    pub(super) fn not_deleted(&mut self, now: Instant, id: &SubscriptionId, may_pass: bool) {
        self.registry.left_over(id);
        self.orphans.failed(id, may_pass, now);
    }

    /// The subscriptions to delete to make room: provably ours, `lost` among them.
    pub(super) fn to_prune(&self, lost: Option<&SubscriptionId>) -> Vec<SubscriptionId> {
        let mut ids = self.registry.leftovers();
        ids.extend(self.leftovers.iter().chain(lost).cloned());
        ids.sort();
        ids.dedup();
        ids
    }

    /// Whether to audit the subscription before this deletion, if the audit is wanted at all: once.
    pub(super) fn audits(&mut self, is_wanted: bool) -> bool {
        let is_new = is_wanted && self.audit == Audit::NotRequested;
        if is_new {
            self.audit = Audit::Pending;
        }
        is_new
    }

    /// The audit was answered, or is not waited for any more. Returns whether it was pending until now.
    pub(super) fn audited(&mut self) -> bool {
        let was_pending = self.audit == Audit::Pending;
        if was_pending {
            self.audit = Audit::Over;
        }
        was_pending
    }

    /// The deletion of the subscription may have been carried out.
    pub(super) fn deletion_unconfirmed(&mut self) {
        self.is_deletion_unconfirmed = true;
    }

    /// Whether the answer to a deletion shows that the subscription was gone before. If the first deletion was not
    /// answered, that one may have deleted it.
    pub(super) fn was_gone_before(&self, answer: &Result<Deletion>) -> bool {
        matches!(answer, Ok(Deletion::GoneAlready)) && !self.is_deletion_unconfirmed
    }

    /// It has ended. The wait for deletions counts from the start of the end, so that the two deadlines are not added
    /// up; a call to `close` waits no longer than `close_within`.
    pub(super) fn end(&mut self, now: Instant, began: Option<Instant>, close_within: Option<Duration>) {
        self.orphans.hurry(now);
        let began = began.unwrap_or(now);
        let by = (began + END_WITHIN).max(now + LEAST_WAIT);
        self.deadline = Some(close_within.map_or(by, |within| by.min((began + within).max(now))));
    }

    /// What the end leaves at the service: `is_left` unless the subscription is deleted, or another process takes it
    /// over.
    pub(super) fn ended(&mut self, id: &SubscriptionId, is_left: bool) {
        if is_left { self.registry.left_over(id) } else { self.registry.gone(id) }
    }

    /// Whether the end may be reported: no orphan is being deleted, or its time is up.
    pub(super) fn is_settled(&self, now: Instant) -> bool {
        self.orphans.is_settled() || self.deadline.is_some_and(|by| by <= now)
    }

    /// Whether nothing that this process created may remain at the service.
    pub(super) fn is_clean(&self, now: Instant) -> bool {
        let is_confirmed = self.creating.is_empty() && self.unconfirmed.values().all(|until| *until <= now);
        is_confirmed && self.orphans.is_empty()
    }

    /// When [`due`](Self::due) or [`is_settled`](Self::is_settled) may change.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let deadline = self.deadline.filter(|_| !self.is_settled(now));
        deadline.into_iter().chain(self.orphans.next()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn cleanup() -> Cleanup {
        Cleanup::new(Arc::default(), Vec::new())
    }

    #[test]
    fn a_creation_without_an_answer_may_have_left_a_subscription_until_it_expires() {
        let now = Instant::now();
        for (has_address, life) in [(true, 900), (false, 86_400)] {
            let mut cleanup = cleanup();
            assert!(cleanup.is_clean(now) && !cleanup.has_created());
            cleanup.creates(1);
            cleanup.creates(2);
            assert!(cleanup.has_created());
            assert!(!cleanup.answered(now, 3, 0, true, has_address), "another call");
            assert!(!cleanup.answered(now, 1, 0, false, has_address), "it was answered");
            assert!(!cleanup.is_clean(now), "the other creation is in flight");
            assert!(cleanup.answered(now, 2, 0, true, has_address));
            assert!(!cleanup.answered(now, 2, 0, true, has_address), "it has ended");
            assert!(!cleanup.is_clean(now + secs(life - 1)) && cleanup.is_clean(now + secs(life)), "{has_address}");
            cleanup.is_only(1);
            assert!(!cleanup.is_clean(now), "another route has other sessions");
            cleanup.is_only(0);
            assert!(cleanup.is_clean(now));
        }
    }

    #[test]
    fn an_orphan_is_deleted_once_at_a_time_and_until_its_lease_has_ended() {
        let now = Instant::now();
        for (granted, life) in
            [(None, 900), (Some(secs(60)), 900), (Some(secs(3600)), 3600), (Some(secs(1 << 40)), 86_400)]
        {
            let (mut cleanup, id) = (cleanup(), SubscriptionId::new("a"));
            assert_eq!(cleanup.orphan(now, 1, id.clone(), granted), Some((1, id.clone())));
            assert_eq!(cleanup.orphan(now, 1, id.clone(), granted), None, "its deletion is in flight");
            cleanup.not_deleted(now + secs(life - 1), &id, true);
            assert_eq!(cleanup.poll_timeout(now), Some(now + secs(life)));
            assert_eq!(cleanup.registry.leftovers(), std::slice::from_ref(&id));
            assert_eq!(cleanup.due(now + secs(life)), [(1, id.clone())]);
            assert!(!cleanup.is_clean(now));
            cleanup.not_deleted(now + secs(life), &id, true);
            assert!(cleanup.is_clean(now), "{granted:?}");
        }
    }

    #[test]
    fn only_provably_owned_subscriptions_are_deleted_to_make_room() {
        let now = Instant::now();
        let [a, b, c, d] = ["a", "b", "c", "d"].map(SubscriptionId::new);
        let mut cleanup = Cleanup::new(Arc::default(), vec![b.clone(), a.clone()]);
        cleanup.in_use(&d);
        assert!(cleanup.unused(now, 0, c.clone(), None).is_some());
        assert_eq!(cleanup.to_prune(Some(&a)), [a.clone(), b.clone(), c.clone()]);
        cleanup.ended(&d, true);
        assert_eq!(cleanup.to_prune(None), [a.clone(), b.clone(), c.clone(), d.clone()]);
        cleanup.in_use(&d);
        cleanup.ended(&d, false);
        cleanup.gone(&b);
        cleanup.gone(&c);
        assert_eq!(cleanup.to_prune(None), [a]);
        assert!(cleanup.is_clean(now));
    }

    #[test]
    fn the_subscription_of_a_resume_token_is_deleted_unless_it_is_gone() {
        let (now, id) = (Instant::now(), SubscriptionId::new("a"));
        assert_eq!(cleanup().former(now, 2, id.clone(), None), Some((2, id.clone())));
        let mut cleanup = cleanup();
        cleanup.former_is_settled();
        assert_eq!(cleanup.former(now, 2, id, None), None);
    }

    #[test]
    fn a_subscription_that_an_unanswered_deletion_may_have_deleted_was_not_gone_before() {
        let mut cleanup = cleanup();
        let failed = || Err(Error::new(ErrorKind::Timeout, "no answer"));
        for (answer, was_gone) in [(Ok(Deletion::GoneAlready), true), (Ok(Deletion::Deleted), false), (failed(), false)]
        {
            assert_eq!(cleanup.was_gone_before(&answer), was_gone);
        }
        cleanup.deletion_unconfirmed();
        assert!(!cleanup.was_gone_before(&Ok(Deletion::GoneAlready)));
    }

    #[test]
    fn a_subscription_is_audited_once_before_its_deletion() {
        let mut cleanup = cleanup();
        assert!(!cleanup.audited(), "none is pending");
        assert_eq!([false, true, true].map(|is_wanted| cleanup.audits(is_wanted)), [false, true, false]);
        assert_eq!([cleanup.audited(), cleanup.audited()], [true, false]);
        assert!(!cleanup.audits(true));
    }

    #[test]
    fn the_end_waits_for_deletions_for_a_limited_time_since_it_began() {
        let start = Instant::now();
        // When the end came after its begin, the limit of `close`, and how long it waits in all.
        for (took, close_within, waits) in [
            (0, None, 5),
            (3, None, 5),
            (9, None, 10),
            (0, Some(2), 2),
            (1, Some(2), 2),
            (3, Some(2), 3),
            (0, Some(60), 5),
        ] {
            let (mut cleanup, id, now) = (cleanup(), SubscriptionId::new("a"), start + secs(took));
            cleanup.end(now, Some(start), close_within.map(secs));
            assert!(cleanup.is_settled(start) && cleanup.poll_timeout(start).is_none(), "no orphan");
            cleanup.orphan(now, 0, id.clone(), None);
            let by = start + secs(waits);
            assert_eq!(cleanup.is_settled(now), waits == took, "{took} {close_within:?}");
            assert!(cleanup.is_settled(by) && !cleanup.is_settled(by - secs(1)), "{took} {close_within:?}");
            assert_eq!(cleanup.poll_timeout(by - secs(1)), Some(by));
            assert_eq!(cleanup.poll_timeout(by), None);
        }
    }

    #[test]
    fn the_end_repeats_failed_deletions_at_once() {
        let (now, id, mut cleanup) = (Instant::now(), SubscriptionId::new("a"), cleanup());
        cleanup.orphan(now, 0, id.clone(), None);
        cleanup.not_deleted(now, &id, true);
        assert!(cleanup.due(now).is_empty() && cleanup.poll_timeout(now) > Some(now));
        cleanup.end(now, None, None);
        assert_eq!(cleanup.poll_timeout(now), Some(now));
        assert_eq!(cleanup.due(now), [(0, id)]);
        assert_eq!(cleanup.poll_timeout(now), Some(now + END_WITHIN));
    }
}
