//! The current state of an agent, the phone and the contacts, folded from the events.

use fastrand::Rng;

use super::event::Event;
use crate::behavior::SnapshotOrder;

/// The latest event of each piece of state.
#[derive(Debug, Default)]
pub(crate) struct Live {
    start: Option<Event>,
    state: Option<Event>,
    leg: Option<Event>,
    mute: Option<Event>,
    /// By id, in order of arrival.
    contacts: Vec<(String, Event)>,
    /// By contact and name.
    indicators: Vec<((String, String), Event)>,
}

/// Sets or removes a piece of state.
fn put<K: PartialEq>(list: &mut Vec<(K, Event)>, key: K, event: Option<&Event>) {
    let at = list.iter().position(|(held, _)| *held == key);
    match (at, event) {
        (Some(at), Some(event)) => list[at].1 = event.clone(),
        (None, Some(event)) => list.push((key, event.clone())),
        (Some(at), None) => drop(list.remove(at)),
        (None, None) => {}
    }
}

impl Live {
    pub(crate) fn fold(&mut self, event: &Event) {
        if let Some((id, is_over)) = event.contact() {
            put(&mut self.contacts, id.to_owned(), (!is_over).then_some(event));
            if is_over {
                self.indicators.retain(|((contact, _), _)| contact != id);
            }
        }
        match event.kind() {
            "agentsessionstart" => self.start = Some(event.clone()),
            "agentstate" => self.state = Some(event.clone()),
            "agentleg" => self.leg = (event.is_true("finalstate") != Some(true)).then(|| event.clone()),
            "mute" => self.mute = (event.is_true("agentmuted") == Some(true)).then(|| event.clone()),
            "indicator" => {
                let part = |name| event.field(name).unwrap_or_default().to_owned();
                let is_lit = part("indicatorstate").eq_ignore_ascii_case("on");
                put(&mut self.indicators, (part("contactid"), part("name")), is_lit.then_some(event));
            }
            _ => {}
        }
    }

    /// The events that represent the current state.
    pub(crate) fn snapshot(&self, order: SnapshotOrder, rng: &mut Rng) -> Vec<Event> {
        let one = [&self.start, &self.state, &self.leg, &self.mute].into_iter().flatten();
        let contacts = self.contacts.iter().map(|(_, event)| event);
        let indicators = self.indicators.iter().map(|(_, event)| event);
        let mut events: Vec<Event> = one.chain(contacts).chain(indicators).cloned().collect();
        match order {
            SnapshotOrder::StartFirst => {}
            SnapshotOrder::StartLast => events.rotate_left(usize::from(self.start.is_some())),
            SnapshotOrder::Mixed => rng.shuffle(&mut events),
        }
        events
    }

    pub(crate) fn contact(&self, id: &str) -> Option<&Event> {
        self.contacts.iter().find(|(held, _)| held == id).map(|(_, event)| event)
    }

    pub(crate) fn contact_ids(&self) -> impl Iterator<Item = &str> {
        self.contacts.iter().map(|(id, _)| id.as_str())
    }

    /// `CurrentState`.
    pub(crate) fn agent_state(&self) -> &str {
        self.state.as_ref().and_then(|event| event.field("currentstate")).unwrap_or_default()
    }

    pub(crate) fn leg_is_up(&self) -> bool {
        self.leg.as_ref().and_then(|event| event.field("status")).is_some_and(|it| it.eq_ignore_ascii_case("active"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn folded(events: &[Value]) -> Live {
        let mut live = Live::default();
        for event in events {
            live.fold(&Event::of(event));
        }
        live
    }

    fn described(live: &Live, order: SnapshotOrder) -> Vec<String> {
        let events = live.snapshot(order, &mut Rng::with_seed(3));
        events.iter().map(|it| format!("{} {}", it.kind(), it.field("contactid").unwrap_or_default())).collect()
    }

    #[test]
    fn a_snapshot_has_only_current_state() {
        let call = |id: &str, last: &str| json!({"Type":"CallContactEvent","ContactID":id,"FinalState":last});
        let lit = |contact: &str, name: &str, state: &str| json!({"Type":"Indicator","ContactID":contact,"Name":name,"IndicatorState":state});
        let live = folded(&[
            json!({"Type":"AgentSessionStart"}),
            json!({"Type":"AgentState","CurrentState":"Unavailable"}),
            json!({"Type":"AgentState","CurrentState":"Available"}),
            json!({"Type":"AgentLeg","Status":"Active","FinalState":"False"}),
            json!({"Type":"Mute","AgentMuted":"True"}),
            json!({"Type":"PopURL","ContactId":"1"}),
            call("1", "False"),
            call("2", "False"),
            lit("1", "VIP", "On"),
            lit("2", "VIP", "On"),
            lit("2", "Late", "On"),
            lit("2", "Late", "Off"),
            lit("", "VIP", "On"),
            lit("", "VIP", "Off"),
            call("1", "True"),
            call("2", "False"),
        ]);
        let want = ["agentsessionstart ", "agentstate ", "agentleg ", "mute ", "callcontactevent 2", "indicator 2"];
        assert_eq!(described(&live, SnapshotOrder::StartFirst), want);
        assert_eq!(live.agent_state(), "Available");
        assert!(live.leg_is_up());
        assert_eq!(described(&live, SnapshotOrder::StartLast).last().map(String::as_str), Some("agentsessionstart "));
        let mut mixed = described(&live, SnapshotOrder::Mixed);
        assert_ne!(mixed, want);
        mixed.sort();
        let mut want = want;
        want.sort_unstable();
        assert_eq!(mixed, want, "the same, in another order");
    }

    #[test]
    fn a_snapshot_omits_ended_legs_and_mutes() {
        let live = folded(&[
            json!({"Type":"AgentLeg","Status":"Active"}),
            json!({"Type":"AgentLeg","Status":"Disconnected","FinalState":"True"}),
            json!({"Type":"Mute","AgentMuted":"True"}),
            json!({"Type":"Mute","AgentMuted":"False"}),
        ]);
        assert!(described(&live, SnapshotOrder::StartLast).is_empty());
    }

    #[test]
    fn contacts_stay_in_order_of_arrival() {
        let call = |id: &str| json!({"Type":"CallContactEvent","ContactID":id});
        let live = folded(&[call("2"), call("1"), call("2"), json!({"Type":"AgentLeg","Status":"Dialing"})]);
        assert_eq!(live.contact_ids().collect::<Vec<_>>(), ["2", "1"]);
        assert!(!live.leg_is_up());
        let want = ["agentleg ", "callcontactevent 2", "callcontactevent 1"];
        assert_eq!(described(&live, SnapshotOrder::StartLast), want, "without a start");
    }
}
