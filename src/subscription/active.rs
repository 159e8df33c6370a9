//! The active subscription: its lease, how far it was read, since when events may be missing, and which one it
//! replaced. Pure.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::continuity::{Interval, Ledger, Loss, Proof};
use super::endpoint::Endpoint;
use super::lease::{self, Held, Lease};
use super::ops::Asked;
use super::resume::{Mark, ResumeToken};
use crate::control::{Cursor, SubscriptionInfo};
use crate::delivery::{GapCause, Recreated};
use crate::ids::{ExtensionId, SubscriptionId};

/// The subscription that is to be taken up at the start.
#[derive(Debug)]
enum Origin {
    /// Where a reader stopped: the subscription was ours.
    Token(Box<ResumeToken>),
    /// One that the user named.
    Named(SubscriptionId),
}

/// How a lease comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handover {
    /// By a creation without a working subscription before, or by a renewal.
    Plain,
    /// By a creation that takes over from a working subscription.
    TakesOver,
    /// Over another transport.
    Switched,
}

/// The service's description of the subscription.
#[derive(Debug)]
pub(super) struct Described<'a> {
    pub(super) info: &'a SubscriptionInfo,
    pub(super) asked: Asked,
    pub(super) handover: Handover,
    /// Whether the transport listens at an address.
    pub(super) has_address: bool,
    /// The extension that `~` stands for.
    pub(super) owner: Option<ExtensionId>,
}

/// The fate of the previous subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Former {
    /// It delivers until its link is closed. Whether it was served until now has to be asked.
    TakenOver(SubscriptionId),
    /// It delivers until its link is closed, inside a gap.
    Left(SubscriptionId),
    /// It is deleted.
    Lost(SubscriptionId),
    /// The resume token names it: it is deleted, unless it is known to be gone.
    OfToken(SubscriptionId),
}

/// The address that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Address {
    First,
    Same,
    Other,
}

/// The consequences of a new lease.
#[derive(Debug, PartialEq)]
pub(super) struct Succession {
    pub(super) former: Option<Former>,
    pub(super) address: Address,
    /// The losses that are possible since another process stopped reading.
    pub(super) gap: Option<(GapCause, Interval)>,
}

/// Owns the lease, the place in the stream that it gives, the position up to which that was read, and the ledger.
///
/// Inputs: the service's descriptions of the subscription, and positions. Effects: a [`Succession`]. Answers: which
/// subscription to take up, where to read on, and the mark up to which everything was read.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) held: Held,
    /// Since when events may be missing.
    pub(super) ledger: Ledger,
    origin: Option<Origin>,
    /// The present address, as in a resume token.
    endpoint: Option<Arc<Endpoint>>,
    cursor: Option<Cursor>,
    /// The replacement that the next end of a gap reports.
    recreated: Option<Recreated>,
}

impl Active {
    /// `token`: where a reader stopped; `named`: the subscription to take up otherwise.
    pub(super) fn new(
        now: Instant,
        wall: SystemTime,
        token: Option<ResumeToken>,
        named: Option<SubscriptionId>,
    ) -> Self {
        let mut ledger = Ledger::new(now, wall);
        if let Some(token) = &token {
            ledger.restore(&token.proven);
            token.missing_since().into_iter().for_each(|since| ledger.reopen(since));
        }
        let origin = token.map(|token| Origin::Token(Box::new(token))).or(named.map(Origin::Named));
        Self { held: Held::default(), ledger, origin, endpoint: None, cursor: None, recreated: None }
    }

    /// The subscription to take up, and the position where a reader stopped.
    pub(super) fn to_adopt(&self) -> Option<(&SubscriptionId, Option<&Cursor>)> {
        Some(match self.origin.as_ref()? {
            Origin::Token(token) => (&token.subscription_id, token.cursor.as_ref()),
            Origin::Named(id) => (id, None),
        })
    }

    /// Whether a subscription is taken up that was another process's.
    pub(super) fn is_resumed(&self) -> bool {
        matches!(self.origin, Some(Origin::Token(_)))
    }

    pub(super) fn id(&self) -> Option<&SubscriptionId> {
        self.held.id()
    }

    /// The service described the subscription, or granted another one: `lease`.
    pub(super) fn leased(&mut self, now: Instant, lease: Lease, described: Described<'_>) -> Succession {
        let origin = self.origin.take();
        let succession = match self.held.take() {
            None => self.begin(now, &lease, &described, origin),
            Some(before) if before.id != lease.id => {
                let old = before.id;
                let former = match described.handover {
                    Handover::Plain => Former::Lost(old.clone()),
                    Handover::Switched => Former::Left(old.clone()),
                    Handover::TakesOver => Former::TakenOver(old.clone()),
                };
                if described.handover == Handover::TakesOver {
                    self.ledger.supersede();
                } else {
                    // Lost again before events arrived: the gap is still the first one's.
                    let old = self.recreated.take().map_or(old, |recreated| recreated.old);
                    self.recreated = Some(Recreated { old, new: lease.id.clone() });
                }
                self.move_to(lease::before_first_event(described.info, described.asked.wall));
                Succession { former: Some(former), address: Address::Other, gap: None }
            }
            // It moved at some time since the address was last confirmed, which may have been long before this answer
            // was requested (found 1.4).
            Some(before) if !before.same_endpoint(&lease) => {
                let confirmed = lease::head_start(self.ledger.since(&[Loss::Address]));
                // By the transport's own clock, should this machine's be ahead: it was confirmed at most a lifetime
                // before the last answer. At a new address nothing is older.
                let lifetime = self.held.longest_lifetime();
                let read = self.cursor.as_ref().and_then(|at| at.time().checked_sub(lifetime));
                self.move_to(read.map_or(confirmed, |read| read.min(confirmed)));
                Succession { former: None, address: Address::Other, gap: None }
            }
            Some(_) => Succession { former: None, address: Address::Same, gap: None },
        };
        if !described.info.remembered {
            self.ledger.prove(now, Proof::Described { asked: described.asked.at });
        }
        let (id, fingerprint) = (lease.id.clone(), lease.fingerprint());
        self.endpoint = Some(Arc::new(Endpoint { id, fingerprint, owner: described.owner }));
        self.held.hold(lease);
        succession
    }

    /// Continues at a new address, from a time before its first event. Not from the position at the former address:
    /// that may lie behind that event, if the former link was answered while the address moved.
    fn move_to(&mut self, made_before: SystemTime) {
        self.cursor = Some(Cursor::at(made_before));
        self.ledger.relocate();
    }

    fn begin(
        &mut self,
        now: Instant,
        lease: &Lease,
        &Described { info, asked, has_address, .. }: &Described<'_>,
        origin: Option<Origin>,
    ) -> Succession {
        let (mut former, mut gap) = (None, None);
        if !matches!(origin, Some(Origin::Token(_))) {
            self.ledger.begin(asked.at);
        }
        self.cursor = Some(Cursor::at(lease::before_first_event(info, asked.wall)));
        match origin {
            Some(Origin::Token(token)) if token.subscription_id == lease.id => {
                gap = self.resume_at(now, *token, lease, has_address);
            }
            // One that was adopted may be old: its events from now on are requested.
            Some(Origin::Named(id)) if id == lease.id => {
                let answered = info.answered_at.unwrap_or(asked.wall);
                self.cursor = Some(Cursor::at(lease::head_start(answered.min(asked.wall))));
            }
            Some(Origin::Token(token)) => {
                let old = token.subscription_id;
                former = Some(Former::OfToken(old.clone()));
                self.recreated = Some(Recreated { old, new: lease.id.clone() });
            }
            Some(Origin::Named(old)) => self.recreated = Some(Recreated { old, new: lease.id.clone() }),
            None => {}
        }
        Succession { former, address: Address::First, gap }
    }

    /// Continues where a reader stopped. A gap, if that may be too long ago, was at another address, or was before the end
    /// of a gap: sources are asked about it again.
    fn resume_at(
        &mut self,
        now: Instant,
        token: ResumeToken,
        lease: &Lease,
        has_address: bool,
    ) -> Option<(GapCause, Interval)> {
        let is_same_endpoint = token.address == lease.fingerprint();
        let unended = token.missing_since.as_ref().map(|_| Loss::There);
        let losses = |losses: [Loss; 2]| losses.into_iter().chain(unended).collect::<Vec<_>>();
        if let Some(cursor) = token.cursor {
            self.cursor = Some(if is_same_endpoint { cursor } else { cursor.with_detail(None) });
        }
        if !is_same_endpoint {
            // At some time since it was last confirmed, while the former address still answered.
            return Some((GapCause::AddressMoved, self.ledger.possible(now, &losses([Loss::Address, Loss::Read]))));
        }
        // A clock that was set, or a machine that is younger than the token.
        let is_too_old = has_address && self.ledger.read_at().is_none();
        if is_too_old {
            let pause = self.ledger.unread_for(now);
            let gap = self.ledger.possible(now, &losses([Loss::Read, Loss::Buffer]));
            return Some((GapCause::ServiceBufferAged { pause }, gap));
        }
        unended.map(|there| (GapCause::EndedOffline, self.ledger.possible(now, &[there])))
    }

    /// Everything before this position of the present address was read.
    pub(super) fn read_to(&mut self, cursor: Cursor) {
        self.cursor = Some(cursor);
    }

    /// Where to read on.
    pub(super) fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }

    /// Where a restart may continue once everything so far was delivered.
    pub(super) fn mark(&self) -> Option<Mark> {
        let (endpoint, cursor) = self.endpoint.clone().zip(self.cursor.clone())?;
        Some(Mark { cursor, endpoint, proven: self.ledger.proven() })
    }

    /// The extension that `~` stands for is known.
    pub(super) fn learn_owner(&mut self, owner: &ExtensionId) {
        if let Some(endpoint) = &mut self.endpoint {
            Arc::make_mut(endpoint).owner = Some(owner.clone());
        }
    }

    /// The end of a gap is reported. Returns what was replaced before it.
    pub(super) fn take_recreated(&mut self) -> Option<Recreated> {
        self.recreated.take()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::continuity::Proven;
    use super::*;
    use crate::kind::TransportKind;
    use crate::secret::Secret;

    fn at(secs: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + secs)
    }

    fn secs(time: SystemTime) -> i64 {
        match time.duration_since(at(0)) {
            Ok(later) => later.as_secs().cast_signed(),
            Err(earlier) => -earlier.duration().as_secs().cast_signed(),
        }
    }

    /// A subscription that was created at 100, of an answer that was asked for at 1000.
    fn info(id: &str, address: &str) -> SubscriptionInfo {
        let mut info = SubscriptionInfo::new(id.into());
        info.creation_time = Some(at(100).into());
        info.delivery_mode.address = Some(Secret::new(address));
        info.delivery_mode.subscriber_key = Some(Secret::new("k"));
        info
    }

    fn lease(info: &SubscriptionInfo) -> Lease {
        Lease::read(info, None, TransportKind::PubNub, true).unwrap()
    }

    fn token(id: &str, address: &str, cursor: Option<u64>) -> ResumeToken {
        let cursor = cursor.map(|cursor| Cursor::at(at(cursor)).with_detail(Some("4".to_owned())));
        let address = lease(&info(id, address)).fingerprint();
        ResumeToken::new(id.into(), address, cursor, Proven::all(at(500)))
    }

    struct World {
        now: Instant,
        active: Active,
    }

    impl World {
        fn new(token: Option<ResumeToken>, named: Option<&str>) -> Self {
            let start = Instant::now();
            let now = start + Duration::from_secs(100);
            Self { now, active: Active::new(start, at(900), token, named.map(Into::into)) }
        }

        fn leased(&mut self, info: &SubscriptionInfo, handover: Handover) -> Succession {
            let asked = Asked { at: self.now, wall: at(1_000) };
            let described = Described { info, asked, handover, has_address: true, owner: None };
            self.active.leased(self.now, lease(info), described)
        }

        /// Seconds and detail of the position.
        fn cursor(&self) -> (i64, bool) {
            let cursor = self.active.cursor().unwrap();
            (secs(cursor.time()), cursor.detail().is_some())
        }

        fn recreated(&mut self) -> Option<String> {
            self.active.take_recreated().map(|it| format!("{} {}", it.old.as_str(), it.new.as_str()))
        }

        /// Up to when this loss is excluded.
        fn excluded(&self, loss: Loss) -> i64 {
            secs(self.active.ledger.proven().get(loss))
        }
    }

    #[test]
    fn a_first_lease_continues_what_was_to_be_taken_up() {
        let here = || Some(token("s", "a", Some(700)));
        let moved = || Some(token("s", "b", Some(700)));
        // What is to be taken up; the position, what is replaced, and the time from which everything is expected.
        for (token, named, cursor, recreated, expected) in [
            (None, None, (40, false), None, 1_000),
            (None, Some("s"), (940, false), None, 1_000),
            (None, Some("t"), (40, false), Some("t s"), 1_000),
            (here(), None, (700, true), None, 500),
            (moved(), None, (700, false), None, 500),
            (Some(token("s", "a", None)), None, (40, false), None, 500),
            (Some(token("t", "a", Some(700))), None, (40, false), Some("t s"), 500),
        ] {
            let case = format!("{token:?} {named:?}");
            let is_moved = token == moved();
            let is_other = token.as_ref().is_some_and(|token| token.subscription_id.as_str() == "t");
            let has_token = token.is_some();
            let mut world = World::new(token, named);
            assert_eq!(world.active.is_resumed(), has_token);
            assert_eq!(world.active.to_adopt().is_some(), has_token || named.is_some());
            assert!(world.active.mark().is_none() && world.active.id().is_none());
            let Succession { former, address, gap } = world.leased(&info("s", "a"), Handover::Plain);
            assert_eq!(address, Address::First);
            assert_eq!(former, is_other.then(|| Former::OfToken("t".into())), "{case}");
            assert_eq!(gap.as_ref().map(|(cause, _)| cause), is_moved.then_some(&GapCause::AddressMoved), "{case}");
            assert!(gap.is_none_or(|(_, gap)| secs(gap.since) < 500));
            assert_eq!((world.cursor(), world.recreated().as_deref()), (cursor, recreated), "{case}");
            // A reported gap counts as excluded.
            let expected = if is_moved { 1_000 } else { expected };
            assert_eq!(world.excluded(Loss::Buffer), expected, "{case}");
            assert!(world.active.to_adopt().is_none() && !world.active.is_resumed(), "only once");
        }
        let token = here().unwrap();
        let active = World::new(Some(token), None).active;
        let (id, cursor) = active.to_adopt().unwrap();
        assert_eq!((id.as_str(), secs(cursor.unwrap().time())), ("s", 700));
    }

    /// What sources found of it may not have been read.
    #[test]
    fn a_gap_without_its_end_is_reported_again() {
        for (id, address, cause) in [
            ("s", "a", Some(GapCause::EndedOffline)),
            ("s", "b", Some(GapCause::AddressMoved)),
            // Its loss is a gap.
            ("t", "a", None),
        ] {
            let mut token = token(id, address, Some(700));
            token.missing_since = Some(at(300).into());
            let mut world = World::new(Some(token), None);
            let lost = (id == "t").then(|| world.active.ledger.open(&Loss::REPLACED));
            let Succession { gap, .. } = world.leased(&info("s", "a"), Handover::Plain);
            assert_eq!(gap.as_ref().map(|(cause, _)| cause.clone()), cause, "{id} {address}");
            let since = lost.or(gap.map(|(_, gap)| gap.since)).unwrap();
            assert!((295..=300).contains(&secs(since)), "{}", secs(since));
        }
    }

    #[test]
    fn an_adopted_subscription_is_read_from_the_answer_on() {
        let mut world = World::new(None, Some("s"));
        let mut info = info("s", "a");
        info.answered_at = Some(at(900));
        world.leased(&info, Handover::Plain);
        assert_eq!(world.cursor(), (840, false));
    }

    #[test]
    fn a_former_subscription_is_read_to_its_end_where_it_can_be() {
        for (handover, former, recreated) in [
            (Handover::Plain, Former::Lost("s".into()), Some("s t")),
            (Handover::Switched, Former::Left("s".into()), Some("s t")),
            (Handover::TakesOver, Former::TakenOver("s".into()), None),
        ] {
            let mut world = World::new(None, None);
            world.leased(&info("s", "a"), Handover::Plain);
            let asked = world.now;
            assert!(world.active.ledger.superseded(asked).is_none());
            let succession = world.leased(&info("t", "b"), handover);
            assert_eq!(succession, Succession { former: Some(former), address: Address::Other, gap: None });
            assert_eq!(world.recreated().as_deref(), recreated, "{handover:?}");
            assert_eq!((world.cursor(), world.active.id()), ((40, false), Some(&"t".into())));
            assert_eq!(
                world.active.ledger.superseded(asked).is_some(),
                handover == Handover::TakesOver,
                "{handover:?}"
            );
        }
    }

    #[test]
    fn the_first_of_several_lost_subscriptions_is_the_replaced_one() {
        let mut world = World::new(None, None);
        for id in ["s", "t", "u"] {
            world.leased(&info(id, id), Handover::Plain);
        }
        assert_eq!(world.recreated().as_deref(), Some("s u"));
        assert_eq!(world.recreated(), None);
    }

    /// Found 1.4.
    #[test]
    fn a_moved_address_is_read_from_before_it_was_last_confirmed() {
        // The position that was read, the granted lifetime, and where reading begins: a minute before the address was
        // confirmed (with the slack of the order of events), or a lifetime before the position.
        for (read, granted, begins) in [(1_500, None, 600), (5_000, None, 939), (1_500, Some(1_200), 300)] {
            let mut world = World::new(None, None);
            let first = info("s", "a");
            world.leased(&first, Handover::Plain);
            let mut same = first.clone();
            same.expires_in = granted.map(Duration::from_secs);
            if granted.is_some() {
                world.active.held.lifetime(&same, None, None, at(1_000));
            }
            assert_eq!(world.leased(&same, Handover::Plain).address, Address::Same);
            world.active.read_to(Cursor::at(at(read)));
            let later = world.now + Duration::from_secs(500);
            world.active.ledger.prove(later, Proof::Reply { asked: later });
            assert_eq!(world.excluded(Loss::Read), 1_500);
            let moved = info("s", "b");
            let succession = world.leased(&moved, Handover::Plain);
            assert_eq!(succession, Succession { former: None, address: Address::Other, gap: None });
            assert_eq!(world.cursor().0, begins, "{read} {granted:?}");
            assert_eq!(world.excluded(Loss::Read), 1_000, "nothing was read there");
            assert!(world.recreated().is_none());
        }
    }

    #[test]
    fn a_description_proves_that_the_subscription_is_there_unless_it_repeats_an_older_one() {
        for remembered in [true, false] {
            let mut world = World::new(Some(token("s", "a", Some(700))), None);
            let mut info = info("s", "a");
            info.remembered = remembered;
            world.leased(&info, Handover::Plain);
            assert_eq!(world.excluded(Loss::There), if remembered { 500 } else { 1_000 });
            assert_eq!(world.excluded(Loss::Read), 500);
        }
    }

    #[test]
    fn a_mark_names_the_position_and_the_address() {
        let mut world = World::new(None, None);
        world.active.learn_owner(&"6".into());
        world.leased(&info("s", "a"), Handover::Plain);
        world.active.learn_owner(&"7".into());
        world.active.read_to(Cursor::at(at(800)));
        let mark = world.active.mark().unwrap();
        assert_eq!((secs(mark.cursor.time()), mark.proven), (800, world.active.ledger.proven()));
        let fingerprint = lease(&info("s", "a")).fingerprint();
        assert_eq!(*mark.endpoint, Endpoint { id: "s".into(), fingerprint, owner: Some("7".into()) });
    }
}
