//! The parties of one telephony session, from its events in any order.

use std::collections::{HashMap, VecDeque};
use std::time::SystemTime;

use crate::event::{Party, PartyStatusCode, TelephonySession};

/// More parties than any call has: a fault of the service must not exhaust the memory.
const MAX_PARTIES: usize = 256;
/// Ended calls whose late events are recognized.
const MAX_ENDED: usize = 4_096;

/// A session, with the latest state of each party.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tracked {
    session: TelephonySession,
    /// The place of each party's state in the order of the session's events.
    places: Vec<Place>,
}

/// The place of a state among the events of its session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    sequence: Option<i64>,
    at: Option<SystemTime>,
}

impl Place {
    fn of(event: &TelephonySession) -> Self {
        Self { sequence: event.sequence, at: event.event_time.as_ref().and_then(|at| at.system_time()) }
    }

    /// Whether a state in `self` replaces one in `other`. A state without a number, from the call log, is ordered by its
    /// time; one that cannot be ordered replaces the other, unless it would bring an ended party back.
    fn replaces(self, other: Self, is_gone: bool, was_gone: bool) -> bool {
        match (self.sequence.zip(other.sequence), self.at.zip(other.at)) {
            (Some((new, old)), _) => new > old,
            (None, Some((new, old))) => new > old || is_gone && !was_gone,
            (None, None) => is_gone || !was_gone,
        }
    }
}

impl Tracked {
    pub(crate) fn session(&self) -> &TelephonySession {
        &self.session
    }

    pub(crate) fn into_session(self) -> TelephonySession {
        self.session
    }

    /// Applies an event. Returns whether anything changed: a repeated or an older event changes nothing.
    pub(crate) fn apply(&mut self, event: &TelephonySession) -> bool {
        let place = Place::of(event);
        let mut changed = false;
        for party in &event.parties {
            let known = self.session.parties.iter().zip(&self.places).position(|(known, _)| is_same(known, party));
            match known {
                Some(at) => {
                    let Some((known, was)) = self.session.parties.get_mut(at).zip(self.places.get_mut(at)) else {
                        continue;
                    };
                    if place.replaces(*was, is_gone(party), is_gone(known)) {
                        changed |= *known != *party;
                        *was = place;
                        let recordings = std::mem::take(&mut known.recordings);
                        known.clone_from(party);
                        // Only some events list them.
                        if known.recordings.is_empty() {
                            known.recordings = recordings;
                        }
                    }
                }
                None if self.places.len() < MAX_PARTIES => {
                    self.session.parties.push(party.clone());
                    self.places.push(place);
                    changed = true;
                }
                None => {}
            }
        }
        self.take_in(event);
        changed
    }

    /// Fields of the session itself.
    fn take_in(&mut self, event: &TelephonySession) {
        let it = &mut self.session;
        it.sequence = it.sequence.max(event.sequence);
        set(&mut it.session_id, &event.session_id);
        set(&mut it.telephony_session_id, &event.telephony_session_id);
        set(&mut it.server_id, &event.server_id);
        set(&mut it.account_id, &event.account_id);
        set(&mut it.extension_id, &event.extension_id);
        set(&mut it.origin, &event.origin);
        let time = |session: &TelephonySession| session.event_time.as_ref().and_then(|at| at.system_time());
        if time(it).is_none() || time(event) > time(it) {
            set(&mut it.event_time, &event.event_time);
        }
    }

    /// Replaces the parties by those that the service lists now.
    pub(crate) fn replace(&mut self, listed: TelephonySession) -> bool {
        self.take_in(&listed);
        let parties = listed.parties;
        let changed = self.session.parties != parties;
        // The list has no number. It is newer than the events that came before it.
        let place = Place { sequence: self.session.sequence, at: None };
        self.places = vec![place; parties.len()];
        self.session.parties = parties;
        changed
    }

    /// Whether every known party has left.
    pub(crate) fn is_over(&self) -> bool {
        !self.session.parties.is_empty() && self.session.parties.iter().all(is_gone)
    }
}

/// Ended calls, to recognize their late events.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    order: VecDeque<String>,
    calls: HashMap<String, (Tracked, u64)>,
}

/// A call that is not known to have ended, with an event applied.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) tracked: Tracked,
    /// Whether it was known to have ended before.
    pub(crate) is_back: bool,
}

impl Ended {
    /// `mark`: the caller's number of this moment.
    pub(crate) fn insert(&mut self, key: String, tracked: Tracked, mark: u64) {
        if self.calls.insert(key.clone(), (tracked, mark)).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > MAX_ENDED {
            if let Some(oldest) = self.order.pop_front() {
                self.calls.remove(&oldest);
            }
        }
    }

    /// The number of the moment when the call ended.
    pub(crate) fn mark(&self, key: &str) -> Option<u64> {
        self.calls.get(key).map(|(_, mark)| *mark)
    }

    pub(crate) fn take(&mut self, key: &str) -> Option<Tracked> {
        self.order.retain(|it| it != key);
        self.calls.remove(key).map(|(tracked, _)| tracked)
    }

    /// The call of an event; `None` if it ended and the event does not show that it continues.
    pub(crate) fn tracked(&mut self, key: &str, event: &TelephonySession) -> Option<Arrived> {
        let Some((known, _)) = self.calls.get_mut(key) else {
            let mut tracked = Tracked::default();
            tracked.apply(event);
            return Some(Arrived { tracked, is_back: false });
        };
        let continues = known.apply(event) && !event.parties.iter().all(is_gone) && !known.is_over();
        if !continues {
            return None;
        }
        self.take(key).map(|tracked| Arrived { tracked, is_back: true })
    }
}

/// The key of a call: its id, else that of the older API, which no other id equals.
pub(crate) fn key_of(event: &TelephonySession) -> Option<String> {
    let older = || event.session_id.as_ref().map(|id| format!("={id}"));
    event.telephony_session_id.as_ref().map(|id| id.as_str().to_owned()).or_else(older)
}

/// Whether a party is at its beginning.
pub(crate) fn is_new(party: &Party) -> bool {
    matches!(party.state(), Some(PartyStatusCode::Setup | PartyStatusCode::Proceeding))
}

fn set<T: Clone>(field: &mut Option<T>, new: &Option<T>) {
    if new.is_some() {
        field.clone_from(new);
    }
}

/// Without ids, there is one party for each extension.
fn is_same(a: &Party, b: &Party) -> bool {
    match (&a.id, &b.id) {
        (Some(a), Some(b)) => a == b,
        _ => a.extension_id == b.extension_id,
    }
}

pub(crate) fn is_gone(party: &Party) -> bool {
    matches!(party.state(), Some(PartyStatusCode::Disconnected | PartyStatusCode::Gone))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(sequence: impl Into<Option<i64>>, at: u32, parties: &[(&str, &str)]) -> TelephonySession {
        let parties: Vec<_> =
            parties.iter().map(|(id, code)| serde_json::json!({"id": id, "status": {"code": code}})).collect();
        let body = serde_json::json!({
            "telephonySessionId": "s-1", "sequence": sequence.into(),
            "eventTime": format!("2026-03-01T08:00:{at:02}Z"), "parties": parties,
        });
        serde_json::from_value(body).unwrap()
    }

    fn states(it: &Tracked) -> String {
        let mut states: Vec<String> =
            it.session.party_states().map(|(id, code)| format!("{}:{code}", id.as_str())).collect();
        states.sort();
        states.join(" ")
    }

    #[test]
    fn each_party_has_its_latest_state() {
        let mut it = Tracked::default();
        for (event, changes, want) in [
            (event(2, 1, &[("a", "Setup")]), true, "a:Setup"),
            (event(5, 4, &[("a", "Disconnected")]), true, "a:Disconnected"),
            // The other party's earlier event, late.
            (event(3, 2, &[("b", "Answered")]), true, "a:Disconnected b:Answered"),
            (event(4, 3, &[("a", "Answered")]), false, "a:Disconnected b:Answered"),
            (event(5, 4, &[("a", "Disconnected")]), false, "a:Disconnected b:Answered"),
            (event(6, 5, &[("b", "Gone")]), true, "a:Disconnected b:Gone"),
            // From the call log.
            (event(None, 6, &[("b", "Disconnected")]), true, "a:Disconnected b:Disconnected"),
            // A push from before the end that the log reports.
            (event(7, 5, &[("b", "Hold")]), false, "a:Disconnected b:Disconnected"),
            (event(8, 9, &[("b", "Answered")]), true, "a:Disconnected b:Answered"),
        ] {
            assert_eq!((it.apply(&event), states(&it).as_str()), (changes, want), "{:?}", event.sequence);
            assert_eq!(it.is_over(), !want.contains("Setup") && !want.contains("Answered"), "{want}");
        }
        assert_eq!(it.session().sequence, Some(8));
        assert!(!Tracked::default().is_over());
    }

    #[test]
    fn recordings_that_later_events_omit_are_preserved() {
        let mut first = event(1, 1, &[("a", "Answered")]);
        first.parties[0].recordings = serde_json::from_str(r#"[{"id":"7","active":true}]"#).unwrap();
        let mut it = Tracked::default();
        it.apply(&first);
        it.apply(&event(2, 2, &[("a", "Disconnected")]));
        assert_eq!(it.session().parties[0].recordings.len(), 1);
    }

    #[test]
    fn a_list_replaces_the_parties_and_events_continue_from_it() {
        let mut it = Tracked::default();
        it.apply(&event(9, 1, &[("a", "Setup"), ("b", "Setup")]));
        assert!(it.replace(event(None, 1, &[("b", "Answered")])));
        assert_eq!(states(&it), "b:Answered");
        assert!(!it.apply(&event(9, 2, &[("b", "Setup")])), "older than the list");
        assert!(it.apply(&event(10, 2, &[("b", "Hold")])));
        assert_eq!(states(&it), "b:Hold");
    }

    #[test]
    fn parties_have_a_bound() {
        let mut it = Tracked::default();
        for id in 0..2 * MAX_PARTIES {
            it.apply(&event(1, 1, &[(&id.to_string(), "Answered")]));
        }
        assert_eq!(it.session().parties.len(), MAX_PARTIES);
    }

    #[test]
    fn late_events_of_an_ended_call_are_recognized() {
        let mut ended = Ended::default();
        let mut tracked = Tracked::default();
        tracked.apply(&event(5, 1, &[("a", "Answered"), ("b", "Disconnected")]));
        ended.insert("s-1".into(), tracked, 7);
        assert_eq!((ended.mark("s-1"), ended.mark("s-2")), (Some(7), None));
        for (late, is_back) in [
            (event(5, 1, &[("a", "Answered")]), false),
            (event(4, 1, &[("a", "Setup")]), false),
            (event(6, 2, &[("b", "Gone")]), false),
            (event(7, 2, &[("a", "Hold")]), true),
        ] {
            let arrived = ended.tracked("s-1", &late);
            assert_eq!(arrived.map(|it| it.is_back), is_back.then_some(true), "{:?}", late.sequence);
        }
        assert_eq!(ended.mark("s-1"), None);
        assert!(ended.tracked("s-2", &event(1, 1, &[("a", "Setup")])).is_some_and(|it| !it.is_back));
        for n in 0..2 * MAX_ENDED {
            ended.insert(n.to_string(), Tracked::default(), 0);
        }
        assert_eq!((ended.order.len(), ended.calls.len()), (MAX_ENDED, MAX_ENDED));
    }

    proptest! {
        #[test]
        fn any_order_with_repetitions_leads_to_the_same_states(
            order in Just((0..8_usize).collect::<Vec<_>>()).prop_shuffle(),
            again in prop::collection::vec(0..8_usize, 0..8),
        ) {
            const CODES: [&str; 8] =
                ["Setup", "Setup", "Proceeding", "Answered", "Answered", "Hold", "Disconnected", "Gone"];
            let events: Vec<_> = CODES
                .iter()
                .enumerate()
                .map(|(at, code)| event(i64::try_from(at).unwrap(), 1, &[(if at % 2 == 0 { "a" } else { "b" }, code)]))
                .collect();
            let mut sorted = Tracked::default();
            events.iter().for_each(|event| { sorted.apply(event); });
            let mut shuffled = Tracked::default();
            for at in order.into_iter().chain(again) {
                shuffled.apply(&events[at]);
            }
            prop_assert_eq!(states(&shuffled), states(&sorted));
            prop_assert!(shuffled.is_over());
        }
    }
}
