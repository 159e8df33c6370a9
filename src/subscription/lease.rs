//! Reads the service's answers about a subscription. Pure.

use std::time::{Duration, SystemTime};

use super::endpoint::fingerprint;
use crate::control::SubscriptionInfo;
use crate::delivery::DisabledFilter;
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::ids::SubscriptionId;
use crate::kind::TransportKind;
use crate::secret::Secret;
use crate::timestamp::Timestamp;

/// Lifetime when the service names none, as RingCentral's own client assumes.
pub(super) const ASSUMED_LIFETIME: Duration = Duration::from_secs(900);

/// How far before a subscription's creation its events are requested. The channel is new, so it contains nothing older:
/// the margin costs nothing and covers clock differences between the service, PubNub and this machine.
const HEAD_START: Duration = Duration::from_secs(60);

/// A lease: the relevant part of an answer.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) id: SubscriptionId,
    pub(super) address: Secret,
    pub(super) subscriber_key: Secret,
    pub(super) filters: Vec<String>,
    pub(super) disabled: Vec<DisabledFilter>,
}

impl Lease {
    /// Reads an answer. Values that a renewal omits stay unchanged. `has_address`: whether the transport needs an
    /// address to listen at.
    pub(super) fn read(
        info: &SubscriptionInfo,
        before: Option<&Self>,
        transport: TransportKind,
        has_address: bool,
    ) -> Result<Self> {
        let mode = &info.delivery_mode;
        if !mode.transport_type.is_empty() && !mode.transport_type.eq_ignore_ascii_case(transport.as_str()) {
            return Err(unusable("the service answered with another transport than the one asked for"));
        }
        let before = before.filter(|before| before.id == info.id);
        let given = |new: &Option<Secret>, old: Option<&Secret>, is_needed: bool| {
            let known = new.as_ref().filter(|text| !text.expose().is_empty()).or(old).cloned();
            if is_needed { known } else { Some(Secret::new("")) }
        };
        let address = given(&mode.address, before.map(|lease| &lease.address), has_address);
        // An address of the app's own needs no key (websocket-and-webhooks.md §2.2).
        let has_key = has_address && transport != TransportKind::WebHook;
        let subscriber_key = given(&mode.subscriber_key, before.map(|lease| &lease.subscriber_key), has_key);
        Ok(Self {
            id: info.id.clone(),
            address: address.ok_or_else(|| unusable("the service answered without deliveryMode.address"))?,
            subscriber_key: subscriber_key
                .ok_or_else(|| unusable("the service answered without deliveryMode.subscriberKey"))?,
            filters: info.event_filters.clone(),
            disabled: info.disabled_filters.clone(),
        })
    }

    /// Whether `other` has the same address. Without one, and at an address of the app's own, which serves several
    /// subscriptions, each of them counts as a separate one.
    pub(super) fn same_endpoint(&self, other: &Self) -> bool {
        let is_named = !self.subscriber_key.expose().is_empty();
        self.address == other.address
            && self.subscriber_key == other.subscriber_key
            && (is_named || self.id == other.id)
    }

    pub(super) fn fingerprint(&self) -> String {
        fingerprint(&self.address, &self.subscriber_key)
    }
}

/// Owns the lease that is held, and the lifetime that was last granted.
///
/// Inputs: the service's answers. Answers: what the lease is, whether an answer moves it, the lifetime that one grants.
#[derive(Debug, Default)]
pub(super) struct Held {
    lease: Option<Lease>,
    granted: Option<Duration>,
}

impl Held {
    pub(super) fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    pub(super) fn id(&self) -> Option<&SubscriptionId> {
        self.lease.as_ref().map(|lease| &lease.id)
    }

    /// Whether it is a lease of this subscription.
    pub(super) fn is_of(&self, id: &SubscriptionId) -> bool {
        self.id() == Some(id)
    }

    pub(super) fn hold(&mut self, lease: Lease) {
        self.lease = Some(lease);
    }

    /// It is given up, or replaced.
    pub(super) fn take(&mut self) -> Option<Lease> {
        self.lease.take()
    }

    /// Reads an answer as a lease. See [`Lease::read`].
    pub(super) fn read(&self, info: &SubscriptionInfo, transport: TransportKind, has_address: bool) -> Result<Lease> {
        Lease::read(info, self.lease.as_ref(), transport, has_address)
    }

    /// Whether the subscription delivers at another address with the new lease.
    pub(super) fn moves_to(&self, new: &Lease) -> bool {
        self.lease.as_ref().is_some_and(|lease| !lease.same_endpoint(new))
    }

    /// Whether the service's description shows that the subscription delivers at another address than the held one: a
    /// renewal whose answer was lost may have moved it.
    pub(super) fn is_elsewhere(&self, info: &SubscriptionInfo, transport: TransportKind, has_address: bool) -> bool {
        self.read(info, transport, has_address).map_or(true, |lease| self.moves_to(&lease))
    }

    /// The lifetime after an answer. `left`: what was left of the lease when this answer was requested, if it is an
    /// audit, which grants nothing: without a lifetime it changes nothing.
    pub(super) fn lifetime(
        &mut self,
        info: &SubscriptionInfo,
        asked_for: Option<Duration>,
        left: Option<Duration>,
        wall: SystemTime,
    ) -> Duration {
        match left {
            Some(left) if info.expires_in.is_none() && info.expiration_time.is_none() => left,
            Some(_) => lifetime(info, None, None, wall),
            None => {
                let granted = lifetime(info, asked_for, self.granted, wall);
                self.granted = Some(granted);
                granted
            }
        }
    }

    /// The lifetime that was last granted.
    pub(super) fn granted(&self) -> Option<Duration> {
        self.granted
    }

    /// How long ago the lease was confirmed last, at most.
    pub(super) fn longest_lifetime(&self) -> Duration {
        self.granted.unwrap_or(ASSUMED_LIFETIME).max(ASSUMED_LIFETIME)
    }
}

fn unusable(what: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, what).with_disposition(Disposition::Fatal)
}

/// If two parts of an answer contradict each other, or name no time at all, the lease is no shorter than this: a
/// renewal costs a call of a rate group.
const LEAST_DOUBTED: Duration = Duration::from_secs(20);

/// The granted lifetime, as far as known: the shorter of `expiresIn` and `expirationTime`. An answer with neither
/// grants no more than the lease `before`, nor than the `asked` one, nor than the usual one (found 6.8).
pub(super) fn lifetime(
    info: &SubscriptionInfo,
    asked: Option<Duration>,
    before: Option<Duration>,
    now: SystemTime,
) -> Duration {
    let until = info.expiration_time.as_ref().and_then(Timestamp::system_time);
    let left = |at: SystemTime| until.and_then(|until| until.duration_since(at).ok()).filter(|left| !left.is_zero());
    let by_service = info.answered_at.and_then(left);
    match info.expires_in {
        // A grant that ends at once is a mistake.
        Some(said) => match by_service {
            _ if said.is_zero() => LEAST_DOUBTED,
            Some(left) if left < said => left.max(LEAST_DOUBTED).min(said),
            Some(_) | None => said,
        },
        None => {
            // Without the service's own time, the clocks may differ by any amount. A creation that is just answered
            // gives it; after that, it lies too far back to shorten anything.
            let created = info.creation_time.as_ref().filter(|_| info.answered_at.is_none());
            let created = created.and_then(Timestamp::system_time).and_then(left);
            let usual = asked.map_or(ASSUMED_LIFETIME, |asked| asked.min(ASSUMED_LIFETIME));
            let left = match info.answered_at {
                Some(_) => by_service,
                None => left(now).map(|left| left.clamp(LEAST_DOUBTED, usual.max(LEAST_DOUBTED))),
            };
            left.into_iter().chain(created).chain(before).min().unwrap_or(usual)
        }
    }
}

/// Whether the service says that it serves the subscription.
pub(super) fn is_served(info: &SubscriptionInfo) -> bool {
    info.status.delivers()
}

/// A time that is certainly before the first event of a new subscription: the earliest of all clocks involved, with a
/// margin.
pub(super) fn before_first_event(info: &SubscriptionInfo, asked_at: SystemTime) -> SystemTime {
    let created = info.creation_time.as_ref().and_then(Timestamp::system_time);
    let earliest = [created, info.answered_at].into_iter().flatten().fold(asked_at, SystemTime::min);
    head_start(earliest)
}

/// A time that is certainly before `at` by the clocks of the service and of PubNub. Events that are read twice because
/// of it are recognized.
pub(super) fn head_start(at: SystemTime) -> SystemTime {
    at.checked_sub(HEAD_START).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn info(value: serde_json::Value) -> SubscriptionInfo {
        serde_json::from_value(value).unwrap()
    }

    fn at(secs: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
    }

    fn full() -> serde_json::Value {
        json!({"id": "a", "eventFilters": ["/restapi/v1.0/account/1/extension/2/message-store"],
               "creationTime": "1970-01-01T00:16:40Z",
               "deliveryMode": {"transportType": "PubNub", "address": "c", "subscriberKey": "k"}})
    }

    #[test]
    fn values_that_a_renewal_omits_stay_unchanged() {
        let first = Lease::read(&info(full()), None, TransportKind::PubNub, true).unwrap();
        let bare = info(json!({"id": "a", "deliveryMode": {"address": ""}}));
        let renewed = Lease::read(&bare, Some(&first), TransportKind::PubNub, true).unwrap();
        assert!(renewed.same_endpoint(&first));
        let other = info(json!({"id": "b", "deliveryMode": {}}));
        let error = Lease::read(&other, Some(&first), TransportKind::PubNub, true).unwrap_err();
        assert_eq!(error.disposition(), Disposition::Fatal);
    }

    #[test]
    fn without_an_address_each_subscription_counts_as_a_separate_address() {
        let read = |id: &str| {
            let value = json!({"id": id, "deliveryMode": {"transportType": "WebSocket", "encryption": false}});
            Lease::read(&info(value), None, TransportKind::WebSocket, false).unwrap()
        };
        assert!(read("a").same_endpoint(&read("a")));
        assert!(!read("a").same_endpoint(&read("b")));
    }

    #[test]
    fn at_an_address_of_the_app_each_subscription_counts_as_a_separate_one() {
        let read = |id: &str, address: &str| {
            let mode = json!({"transportType": "WebHook", "encryption": false, "address": address});
            Lease::read(&info(json!({"id": id, "deliveryMode": mode})), None, TransportKind::WebHook, true)
        };
        let lease = read("a", "https://app.example/hook").unwrap();
        assert_eq!(lease.address.expose(), "https://app.example/hook");
        assert!(lease.same_endpoint(&read("a", "https://app.example/hook").unwrap()));
        assert!(!lease.same_endpoint(&read("b", "https://app.example/hook").unwrap()));
        assert!(!lease.same_endpoint(&read("a", "https://app.example/other").unwrap()));
        assert!(read("a", "").is_err());
    }

    #[test]
    fn a_transport_other_than_the_requested_one_is_refused() {
        let mut value = full();
        value["deliveryMode"]["transportType"] = "WebHook".into();
        assert!(Lease::read(&info(value), None, TransportKind::PubNub, true).is_err());
    }

    #[test]
    fn the_lifetime_is_relative_then_absolute_by_the_services_clock_then_usual() {
        let mut value = full();
        assert_eq!(lifetime(&info(value.clone()), None, None, at(0)), ASSUMED_LIFETIME);
        value["expirationTime"] = "1970-01-01T00:20:00+0000".into();
        assert_eq!(lifetime(&info(value.clone()), None, None, at(1100)), Duration::from_secs(100));
        let mut skewed = info(value.clone());
        skewed.answered_at = Some(at(300));
        assert_eq!(lifetime(&skewed, None, None, at(1100)), Duration::from_secs(900));
        value["expiresIn"] = 7.into();
        assert_eq!(lifetime(&info(value), None, None, at(1100)), Duration::from_secs(7));
    }

    #[test]
    fn found_6_8_the_lifetime_is_the_smallest_known_one() {
        // The service answers at 1000 s; this machine's clock is an hour ahead.
        for (expires_in, expiration, dated, before, want) in [
            // Nothing said: as before, or as asked for, or as usual.
            (json!(null), json!(null), true, Some(22), 22),
            (json!(null), json!("soon"), true, Some(22), 22),
            (json!(null), json!("1970-01-01T00:10:00Z"), true, Some(22), 22),
            (json!("soon"), json!("1970-01-01T00:16:40Z"), true, Some(22), 22),
            (json!(null), json!(null), true, None, 600),
            (json!(null), json!("1970-01-01T00:10:00Z"), false, None, 600),
            // One of them: that, and no more than before where it is the vaguer one.
            (json!(899), json!(null), true, Some(22), 899),
            (json!(899), json!("garbage"), true, Some(22), 899),
            (json!(899), json!("1970-01-01T00:10:00Z"), true, Some(22), 899),
            (json!(null), json!("1970-01-01T00:20:00Z"), true, Some(22), 22),
            (json!(null), json!("1970-01-01T00:20:00Z"), true, Some(900), 200),
            // Both, and they contradict each other.
            (json!(899), json!("1970-01-01T00:17:05Z"), true, None, 25),
            (json!(25), json!("1970-01-01T00:31:40Z"), true, None, 25),
            (json!(899), json!("1970-01-01T00:16:41Z"), true, None, 20),
            (json!(3), json!("1970-01-01T00:16:41Z"), true, None, 3),
            // The wall clocks differ, and no header tells by how much.
            (json!(899), json!("1970-01-01T00:31:40Z"), false, None, 899),
            (json!(null), json!("1970-01-01T02:31:40Z"), false, None, 600),
            (json!(null), json!("1970-01-01T01:16:41Z"), false, None, 20),
            // No time at all.
            (json!(0), json!(null), true, Some(22), 20),
            (json!(-9), json!("1970-01-01T00:20:00Z"), true, None, 20),
        ] {
            let mut value = full();
            (value["expiresIn"], value["expirationTime"]) = (expires_in, expiration);
            let case = format!("{value} {dated} {before:?}");
            let mut info = info(value);
            info.answered_at = dated.then(|| at(1000));
            let secs = Duration::from_secs;
            let got = lifetime(&info, Some(secs(600)), before.map(secs), at(4600));
            assert_eq!(got, secs(want), "{case}");
        }
    }

    /// Its wall clock behind, a client without the service's time would renew too late.
    #[test]
    fn a_creation_gives_the_lifetime_by_the_services_clock() {
        // Created at 1000 s by the service, for 90 s; this machine's clock shows another time, and before that granted.
        for (expiration, now, before, want) in [
            ("1970-01-01T00:18:10Z", 960, None, 90),
            ("1970-01-01T00:18:10Z", 1000, None, 90),
            ("1970-01-01T00:18:10Z", 1060, None, 30),
            // A renewal, an hour later.
            ("1970-01-01T01:18:10Z", 4560, Some(90), 90),
        ] {
            let mut value = full();
            value["expirationTime"] = expiration.into();
            let secs = Duration::from_secs;
            let got = lifetime(&info(value), None, before.map(secs), at(now));
            assert_eq!(got, secs(want), "{expiration} {now}");
        }
    }

    #[test]
    fn the_first_cursor_lies_before_the_creation_by_every_clock() {
        let mut made = info(full()); // created at 1000 by the service
        assert_eq!(before_first_event(&made, at(5000)), at(940));
        assert_eq!(before_first_event(&made, at(700)), at(640));
        made.answered_at = Some(at(900));
        assert_eq!(before_first_event(&made, at(5000)), at(840));
    }

    #[test]
    fn only_a_grant_is_remembered_as_the_lifetime() {
        let secs = Duration::from_secs;
        let answer = |expires_in: Option<u64>| info(json!({"id": "a", "deliveryMode": {}, "expiresIn": expires_in}));
        let mut held = Held::default();
        assert_eq!((held.granted(), held.longest_lifetime()), (None, ASSUMED_LIFETIME));
        // What the answer says, what was asked for, what was left if it is an audit; the lifetime, and what is granted.
        for (expires_in, asked_for, left, want, granted) in [
            (None, Some(600), None, 600, 600),
            (Some(3_600), Some(600), None, 3_600, 3_600),
            (None, None, Some(77), 77, 3_600),
            (Some(50), None, Some(77), 50, 3_600),
            (Some(30), None, None, 30, 30),
            (None, Some(600), None, 30, 30),
        ] {
            let got = held.lifetime(&answer(expires_in), asked_for.map(secs), left.map(secs), at(0));
            assert_eq!((got, held.granted()), (secs(want), Some(secs(granted))), "{expires_in:?} {left:?}");
            assert_eq!(held.longest_lifetime(), secs(granted).max(ASSUMED_LIFETIME));
        }
    }

    #[test]
    fn the_lease_that_is_held_is_known_by_its_subscription_and_address() {
        let mut held = Held::default();
        let first = held.read(&info(full()), TransportKind::PubNub, true).unwrap();
        assert!(!held.moves_to(&first) && held.lease().is_none() && !held.is_of(&first.id));
        held.hold(first.clone());
        assert!(held.is_of(&first.id) && !held.is_of(&SubscriptionId::new("b")));
        let mut value = full();
        value["deliveryMode"]["address"] = "another".into();
        let moved = held.read(&info(value), TransportKind::PubNub, true).unwrap();
        assert!(held.moves_to(&moved) && !held.moves_to(&first));
        // What a renewal omits is that of the lease.
        let bare = held.read(&info(json!({"id": "a", "deliveryMode": {}})), TransportKind::PubNub, true).unwrap();
        assert!(!held.moves_to(&bare));
        assert_eq!(held.take().map(|lease| lease.id), Some(first.id));
        assert_eq!(held.id(), None);
    }
}
