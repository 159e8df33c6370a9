//! Which transport carries what: the present one, the lease's, and those of former calls and subscriptions. Pure.

use std::time::SystemTime;

use tokio::time::Instant;

use super::cleanup::Orphan;
use super::failover::{Failover, Terms};
use super::machine::Op;
use crate::dedup::Overlap;
use crate::event::Notification;
use crate::ids::SubscriptionId;

/// How many switches are remembered. They are a second apart at least and calls end within a minute, so no call of an
/// older one is in flight.
const SWITCHES: usize = 128;

/// A subscription that another took over from, read while a link to its address is open.
#[derive(Debug)]
struct Retiring {
    epoch: u64,
    route: usize,
    id: SubscriptionId,
}

/// Owns the choice of the transport, and the handover from one subscription to the next.
///
/// A route is the index of a transport in the order of preference. Inputs: whether the present one delivers, and which
/// calls create subscriptions. Effects: the route to switch to, and the subscriptions that are no longer read. Answers:
/// the route of a call, and whether an event is a copy that a former subscription delivered.
#[derive(Debug)]
pub(super) struct Routes {
    failover: Failover,
    current: usize,
    /// Former routes, and the last call over each.
    former: Vec<(Op, usize)>,
    /// The route of the lease.
    leased: usize,
    /// The creation of a subscription that takes over.
    replacing: Option<Op>,
    retiring: Vec<Retiring>,
    overlap: Overlap,
}

impl Routes {
    pub(super) fn new(terms: Terms, count: usize) -> Self {
        Self {
            failover: Failover::new(terms, count),
            current: 0,
            former: Vec::new(),
            leased: 0,
            replacing: None,
            retiring: Vec::new(),
            overlap: Overlap::new(count),
        }
    }

    /// The present route.
    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// The route of the lease.
    pub(super) fn leased(&self) -> usize {
        self.leased
    }

    /// Whether the lease is one of the present route.
    pub(super) fn has_lease(&self) -> bool {
        self.leased == self.current
    }

    /// The route of a call.
    pub(super) fn of(&self, op: Op) -> usize {
        self.former.iter().find(|(last, _)| op <= *last).map_or(self.current, |(_, route)| *route)
    }

    /// The route to switch to now, if the present one has not delivered for long, or an earlier one is to be tried again.
    /// `can_connect`: that route, without a wait for its turn within the rate.
    pub(super) fn due(&mut self, now: Instant, delivers: bool, can_connect: impl Fn(usize) -> bool) -> Option<usize> {
        self.failover.observe(now.into_std(), delivers);
        self.failover.due(now.into_std(), can_connect)
    }

    /// The route to switch to, since the service refuses the present one; `None` if none is left.
    pub(super) fn refused(&mut self, now: Instant) -> Option<usize> {
        self.failover.refused(now.into_std())
    }

    /// The subscription ends: no more switches.
    pub(super) fn end(&mut self) {
        self.failover.end();
    }

    /// Another route is used from now on, after the call `last`. `is_leased`: a subscription of a former one may still
    /// deliver.
    pub(super) fn switched(&mut self, now: Instant, to: usize, last: Op, is_leased: bool) {
        if self.former.len() == SWITCHES {
            self.former.remove(0);
        }
        self.former.push((last, self.current));
        self.current = to;
        if is_leased {
            self.overlap.begin(now);
        }
    }

    /// A subscription is being created. `is_lost`: in place of a lost one, which may still deliver: the service may not
    /// have ended it, and continue its connection.
    pub(super) fn creates(&mut self, now: Instant, is_lost: bool) {
        if is_lost {
            self.overlap.begin(now);
        } else {
            self.overlap.begin_again(now);
        }
    }

    /// A subscription is being created that takes over from the present one. It may deliver the same events before the
    /// call is answered.
    pub(super) fn replaces(&mut self, now: Instant, op: Op) {
        self.replacing = Some(op);
        self.overlap.begin(now);
    }

    /// A creation was not answered, over a route where its events would wait at a connection.
    pub(super) fn unanswered(&mut self) {
        self.overlap.outlast();
    }

    /// A call ended. Returns whether it was to create a subscription that takes over.
    pub(super) fn answered(&mut self, op: Op) -> bool {
        self.replacing.take_if(|replacing| *replacing == op).is_some()
    }

    /// The present route has the lease: of a subscription that the service created at `created`, by its own clock.
    pub(super) fn granted(&mut self, id: &SubscriptionId, created: Option<SystemTime>) {
        self.leased = self.current;
        self.overlap.created(id, created);
    }

    /// Another subscription takes over from this one, which delivers until its links are closed.
    pub(super) fn retire(&mut self, epoch: u64, id: SubscriptionId) {
        self.retiring.push(Retiring { epoch, route: self.leased, id });
    }

    /// The subscriptions taken over from that are no longer read.
    pub(super) fn retired(&mut self, is_read: impl Fn(u64) -> bool) -> Vec<Orphan> {
        self.retiring.extract_if(.., |it| !is_read(it.epoch)).map(|it| (it.route, it.id)).collect()
    }

    /// Remembers a pushed event; `false` if it is a copy of one that another subscription delivered.
    pub(super) fn admit(&mut self, notification: &Notification, now: Instant) -> bool {
        self.overlap.admit(notification, now)
    }

    /// `is_live`: the present subscription delivers; `is_read`: no received event waits. Copies are expected until the
    /// former ones are no longer read, and for a while after.
    pub(super) fn observe(&mut self, now: Instant, is_live: bool, is_read: bool) {
        let is_alone = is_live && self.retiring.is_empty() && self.replacing.is_none() && self.has_lease();
        self.overlap.observe(now, is_alone, is_read);
    }

    /// When [`due`](Self::due) has an answer, as things are.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.failover.poll_timeout().map(Instant::from_std)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::Origin;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn event(by: &str) -> Notification {
        let text = format!(r#"{{"event":"/x","subscriptionId":"{by}","body":{{"n":1}}}}"#);
        let json = serde_json::value::RawValue::from_string(text).unwrap();
        Notification::parse(json, Origin::Push, SystemTime::UNIX_EPOCH).unwrap()
    }

    /// Whether the events of two subscriptions are compared.
    fn compares(routes: &mut Routes, now: Instant) -> bool {
        routes.admit(&event("a"), now) && !routes.admit(&event("b"), now)
    }

    #[test]
    fn a_call_belongs_to_the_route_that_was_used_then() {
        let now = Instant::now();
        let mut routes = Routes::new(Terms::default(), 3);
        routes.switched(now, 2, 5, false);
        routes.switched(now, 1, 9, false);
        for (op, route) in [(1, 0), (5, 0), (6, 2), (9, 2), (10, 1)] {
            assert_eq!(routes.of(op), route, "{op}");
        }
        for n in 10..10 + SWITCHES as u64 {
            routes.switched(now, 0, n, false);
        }
        assert_eq!((routes.former.len(), routes.of(10)), (SWITCHES, 1));
    }

    #[test]
    fn the_lease_is_of_the_former_route_until_the_present_one_has_one() {
        let now = Instant::now();
        let mut routes = Routes::new(Terms::default(), 2);
        assert!(routes.has_lease());
        routes.due(now, false, |_| true);
        assert_eq!(routes.poll_timeout(), Some(now + secs(60)));
        assert_eq!(routes.due(now + secs(60), false, |_| true), Some(1));
        routes.switched(now, 1, 1, true);
        assert_eq!((routes.current(), routes.leased(), routes.has_lease()), (1, 0, false));
        routes.retire(7, "a".into());
        routes.granted(&"b".into(), None);
        assert_eq!((routes.current(), routes.leased(), routes.has_lease()), (1, 1, true));
        assert_eq!(routes.refused(now), Some(0));
        routes.end();
        assert_eq!((routes.refused(now), routes.poll_timeout()), (None, None));
        assert_eq!(routes.retired(|epoch| epoch == 7), []);
        assert_eq!(routes.retired(|_| false), [(0, "a".into())], "over the route that created it");
        assert_eq!(routes.retired(|_| false), []);
    }

    #[test]
    fn copies_are_expected_from_a_takeover_until_only_one_subscription_is_read() {
        let now = Instant::now();
        let quiet = |routes: &mut Routes| {
            routes.observe(now, true, true);
            routes.observe(now + secs(60), true, true);
        };
        // What happens, and whether copies are expected once the present one delivered alone.
        type Step = fn(&mut Routes, Instant);
        let cases: [(&str, Step, bool); 8] = [
            ("nothing", |_, _| {}, false),
            ("a first creation", |routes, now| routes.creates(now, false), false),
            (
                "a creation in place of a lost subscription",
                |routes, now| {
                    routes.creates(now, true);
                    assert!(compares(routes, now));
                },
                false,
            ),
            ("a takeover", |routes, now| routes.replaces(now, 3), true),
            (
                "another call",
                |routes, now| {
                    routes.replaces(now, 3);
                    assert!(!routes.answered(2));
                },
                true,
            ),
            (
                "an answer",
                |routes, now| {
                    routes.replaces(now, 3);
                    assert!(routes.answered(3) && !routes.answered(3));
                },
                false,
            ),
            (
                "one is read",
                |routes, now| {
                    routes.replaces(now, 3);
                    routes.answered(3);
                    routes.retire(1, "a".into());
                },
                true,
            ),
            ("another route", |routes, now| routes.switched(now, 0, 3, true), false),
        ];
        for (case, step, is_expected) in cases {
            let mut routes = Routes::new(Terms::default(), 1);
            step(&mut routes, now);
            quiet(&mut routes);
            assert_eq!(compares(&mut routes, now + secs(61)), is_expected, "{case}");
        }
        let mut routes = Routes::new(Terms::default(), 1);
        routes.switched(now, 0, 3, false);
        assert!(!compares(&mut routes, now), "no former subscription delivers");
        routes.switched(now, 0, 3, true);
        assert!(compares(&mut routes, now));
        routes.observe(now, true, false);
        routes.observe(now + secs(60), false, true);
        assert!(compares(&mut routes, now + secs(60)), "it does not deliver");
    }

    #[test]
    fn a_lease_of_another_route_ends_no_overlap() {
        let now = Instant::now();
        let mut routes = Routes::new(Terms::default(), 1);
        routes.switched(now, 1, 3, true);
        routes.observe(now, true, true);
        routes.observe(now + secs(60), true, true);
        assert!(compares(&mut routes, now + secs(60)));
        routes.granted(&"b".into(), None);
        routes.observe(now + secs(61), true, true);
        routes.observe(now + secs(90), true, true);
        assert!(!compares(&mut routes, now + secs(90)));
    }

    #[test]
    fn a_creation_is_tried_again_within_an_overlap() {
        let now = Instant::now();
        let mut routes = Routes::new(Terms::default(), 1);
        routes.replaces(now, 1);
        assert!(routes.admit(&event("a"), now));
        routes.creates(now + secs(60), false);
        assert!(routes.admit(&event("b"), now + secs(60)), "the new subscription delivers no event from long before");
    }

    #[test]
    fn an_event_from_before_a_subscription_was_created_is_no_copy() {
        let now = Instant::now();
        let mut routes = Routes::new(Terms::default(), 1);
        routes.replaces(now, 1);
        let sent = |by: &str, secs| {
            let at = crate::timestamp::Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_secs(secs));
            let text = format!(r#"{{"event":"/x","timestamp":"{at}","subscriptionId":"{by}","body":{{}}}}"#);
            let json = serde_json::value::RawValue::from_string(text).unwrap();
            Notification::parse(json, Origin::Push, SystemTime::UNIX_EPOCH).unwrap()
        };
        assert!(routes.admit(&sent("a", 100), now));
        routes.granted(&"b".into(), Some(SystemTime::UNIX_EPOCH + secs(101)));
        assert!(routes.admit(&sent("b", 102), now));
    }
}
