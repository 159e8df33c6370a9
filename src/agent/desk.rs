//! The state of an agent's desk, built from the events.

use std::collections::{BTreeMap, HashSet};

use super::delivery::{AgentDelivery, Channel, GoneContact};
use super::event::{
    AgentEvent, AgentLeg, AgentNotification, AgentOrigin, AgentSessionStart, AgentState, ContactId, ContactStatus,
    Indicator, LegStatus,
};

/// More contacts than any agent has: a fault of the service must not exhaust the memory.
const MAX_CONTACTS: usize = 10_000;

/// An event's statement about a contact.
struct Seen<'a> {
    id: &'a ContactId,
    channel: Channel,
    is_over: bool,
}

fn seen(event: &AgentEvent) -> Option<Seen<'_>> {
    let (id, channel, status, is_final) = match event {
        AgentEvent::CallContact(it) => (&it.contact_id, Channel::Voice, it.status(), it.final_state),
        AgentEvent::VoiceMailContact(it) => (&it.contact_id, Channel::VoiceMail, it.status(), it.final_state),
        AgentEvent::WorkItemContact(it) => (&it.contact_id, Channel::WorkItem, it.status(), it.final_state),
        AgentEvent::EmailContact(it) => (&it.contact_id, Channel::Email, it.status(), it.final_state),
        AgentEvent::ChatContact(it) | AgentEvent::TextContact(it) => {
            (&it.contact_id, Channel::Text, it.status(), it.final_state)
        }
        AgentEvent::DigitalContact(it) => (&it.contact_id, Channel::Digital, it.status(), it.final_state),
        _ => return None,
    };
    let ends = matches!(
        status,
        Some(ContactStatus::Disconnected | ContactStatus::CallBackDisconnected | ContactStatus::Discarded)
    );
    // A call that was hung up exists until the work after it is done.
    let is_over = is_final == Some(true) || (ends && is_final.is_none());
    Some(Seen { id: id.as_ref()?, channel, is_over })
}

/// The existing contacts, to find those that a snapshot omits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roster(BTreeMap<ContactId, Channel>);

impl Roster {
    pub(crate) fn take_in(&mut self, events: &[AgentNotification]) {
        for event in events {
            self.take(event);
        }
    }

    fn take(&mut self, event: &AgentNotification) {
        let Some(seen) = seen(event.event()) else { return };
        if seen.is_over {
            self.0.remove(seen.id);
        } else if self.0.len() < MAX_CONTACTS {
            self.0.insert(seen.id.clone(), seen.channel);
        }
    }

    /// Applies a delivery.
    pub(crate) fn note(&mut self, delivery: &AgentDelivery) {
        match delivery {
            AgentDelivery::Notification(event) => self.take(event),
            AgentDelivery::ContactsGone(gone) => self.0.retain(|id, _| gone.iter().all(|it| it.contact_id != *id)),
            AgentDelivery::SessionEnded(_) => self.0.clear(),
            _ => {}
        }
    }

    /// All contacts, which no longer exist.
    pub(crate) fn drain(&mut self) -> Vec<GoneContact> {
        let all = std::mem::take(&mut self.0);
        all.into_iter().map(|(contact_id, channel)| GoneContact { contact_id, channel }).collect()
    }

    /// Applies a snapshot; returns the contacts that it omits and would have listed.
    pub(crate) fn reconcile(&mut self, events: &[AgentNotification]) -> Vec<GoneContact> {
        let named: HashSet<&ContactId> =
            events.iter().filter_map(|event| seen(event.event())).map(|it| it.id).collect();
        let gone: Vec<GoneContact> = self
            .0
            .iter()
            .filter(|(id, channel)| is_in_snapshots(**channel) && !named.contains(id))
            .map(|(id, channel)| GoneContact { contact_id: id.clone(), channel: *channel })
            .collect();
        for gone in &gone {
            self.0.remove(&gone.contact_id);
        }
        self.take_in(events);
        gone
    }
}

/// Whether a snapshot lists every contact of the channel.
fn is_in_snapshots(channel: Channel) -> bool {
    matches!(channel, Channel::Voice | Channel::VoiceMail | Channel::WorkItem)
}

/// A contact on the desk.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DeskContact {
    /// Its channel.
    pub channel: Channel,
    /// Its state.
    pub status: Option<ContactStatus>,
    /// The event with that state.
    pub latest: AgentNotification,
}

/// The state of an agent's desk: the agent's state, the phone and the contacts.
///
/// Built from the deliveries of a stream, one after the other, and corrected by a
/// snapshot after a gap.
///
/// ```
/// use ringcentral_events::agent::{AgentDelivery, AgentNotification, Desk};
///
/// let mut desk = Desk::new();
/// let json = r#"{"Type":"CallContactEvent","ContactID":"7","Status":"Incoming","FinalState":"False"}"#;
/// desk.apply(&AgentDelivery::Notification(Box::new(AgentNotification::from_json(json)?)));
/// assert_eq!(desk.contacts().count(), 1);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Desk {
    session: Option<AgentSessionStart>,
    state: Option<AgentState>,
    leg: Option<AgentLeg>,
    muted: bool,
    contacts: BTreeMap<ContactId, DeskContact>,
    indicators: BTreeMap<(Option<ContactId>, String), Indicator>,
    stale: bool,
    ended: bool,
    /// The snapshot that is being applied.
    snapshot: Option<u64>,
}

impl Desk {
    /// Makes an empty desk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies a stream's item. Call it for each item, in the order of the stream.
    pub fn apply(&mut self, delivery: &AgentDelivery) {
        match delivery {
            AgentDelivery::Notification(notification) => self.take_in(notification),
            AgentDelivery::Gap(_) => self.stale = true,
            AgentDelivery::Resumed(_) => {
                self.stale = false;
                self.snapshot = None;
            }
            AgentDelivery::ContactsGone(gone) => {
                for contact in gone {
                    self.contacts.remove(&contact.contact_id);
                }
            }
            AgentDelivery::SessionEnded(_) => {
                *self = Self { ended: true, session: self.session.take(), ..Self::default() };
            }
            AgentDelivery::Undecodable(_) => {}
        }
    }

    fn take_in(&mut self, notification: &AgentNotification) {
        if notification.origin() == AgentOrigin::Snapshot && self.snapshot != Some(notification.batch()) {
            // A snapshot lists what is lit, connected and muted, and not what is not.
            self.snapshot = Some(notification.batch());
            self.leg = None;
            self.muted = false;
            self.indicators.clear();
        }
        let event = notification.event();
        match event {
            AgentEvent::AgentSessionStart(start) => {
                if notification.origin() == AgentOrigin::Live {
                    // Another session: nothing of the previous one remains.
                    *self = Self { stale: self.stale, ..Self::default() };
                }
                self.session = Some((**start).clone());
                self.ended = false;
            }
            AgentEvent::AgentState(state) => self.state = Some((**state).clone()),
            AgentEvent::AgentLeg(leg) => self.leg = (!leg.is_over()).then(|| (**leg).clone()),
            AgentEvent::Mute(mute) => self.muted = mute.agent_muted.unwrap_or(self.muted),
            AgentEvent::Indicator(indicator) => {
                let key = (indicator.contact_id.clone(), indicator.name.clone().unwrap_or_default());
                if !indicator.is_on() {
                    self.indicators.remove(&key);
                } else if self.indicators.len() < MAX_CONTACTS {
                    self.indicators.insert(key, (**indicator).clone());
                }
            }
            _ => {}
        }
        if let Some(seen) = seen(event) {
            if seen.is_over {
                self.contacts.remove(seen.id);
            } else if self.contacts.len() < MAX_CONTACTS || self.contacts.contains_key(seen.id) {
                let contact =
                    DeskContact { channel: seen.channel, status: status(event), latest: notification.clone() };
                self.contacts.insert(seen.id.clone(), contact);
            }
        }
    }

    /// The session's start event.
    #[must_use]
    pub fn session(&self) -> Option<&AgentSessionStart> {
        self.session.as_ref()
    }

    /// The agent's state.
    #[must_use]
    pub fn state(&self) -> Option<&AgentState> {
        self.state.as_ref()
    }

    /// The phone between the platform and the agent, if there is one.
    #[must_use]
    pub fn leg(&self) -> Option<&AgentLeg> {
        self.leg.as_ref()
    }

    /// Whether the phone is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.leg.as_ref().and_then(AgentLeg::status) == Some(LegStatus::Active)
    }

    /// Whether the phone is muted.
    #[must_use]
    pub fn is_muted(&self) -> bool {
        self.muted
    }

    /// The contacts by their ids, including those in the work after them.
    pub fn contacts(&self) -> impl Iterator<Item = (&ContactId, &DeskContact)> {
        self.contacts.iter()
    }

    /// The contact with this id.
    #[must_use]
    pub fn contact(&self, id: &str) -> Option<&DeskContact> {
        self.contacts.get(id)
    }

    /// The indicators that are lit.
    pub fn indicators(&self) -> impl Iterator<Item = &Indicator> {
        self.indicators.values()
    }

    /// Whether a reported gap has not ended: the desk may be out of date.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Whether the session has ended.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }
}

fn status(event: &AgentEvent) -> Option<ContactStatus> {
    match event {
        AgentEvent::CallContact(it) => it.status(),
        AgentEvent::VoiceMailContact(it) => it.status(),
        AgentEvent::WorkItemContact(it) => it.status(),
        AgentEvent::EmailContact(it) | AgentEvent::ChatContact(it) | AgentEvent::TextContact(it) => it.status(),
        AgentEvent::DigitalContact(it) => it.status(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::agent::{EndReason, SessionEnded};
    use crate::delivery::{Certainty, Gap, GapCause};

    fn event(json: &Value) -> AgentNotification {
        AgentNotification::from_json(&json.to_string()).unwrap()
    }

    fn told(json: &Value) -> AgentDelivery {
        AgentDelivery::Notification(Box::new(event(json)))
    }

    fn contact(name: &str, id: &str, status: &str, last: &str) -> Value {
        json!({ "Type": name, "ContactID": id, "Status": status, "FinalState": last })
    }

    #[test]
    fn a_contact_exists_until_its_last_event() {
        for (name, channel) in [
            ("CallContactEvent", Channel::Voice),
            ("VoiceMailContactEvent", Channel::VoiceMail),
            ("WorkItemContactEvent", Channel::WorkItem),
            ("EmailContactEvent", Channel::Email),
            ("ChatContactEvent", Channel::Text),
            ("TextContactEvent", Channel::Text),
            ("DigitalContactEvent", Channel::Digital),
        ] {
            let mut desk = Desk::new();
            for (status, last, is_there) in [
                ("Incoming", "False", true),
                ("Active", "", true),
                ("Disconnected", "False", true),
                ("Disconnected", "True", false),
                ("Active", "False", true),
                ("Discarded", "", false),
            ] {
                desk.apply(&told(&contact(name, "7", status, last)));
                assert_eq!(desk.contact("7").is_some(), is_there, "{name} {status} {last}");
                if let Some(there) = desk.contact("7") {
                    assert_eq!((there.channel, there.status.clone()), (channel, Some(ContactStatus::from(status))));
                }
            }
        }
    }

    #[test]
    fn the_desk_shows_the_latest_phone_state_and_indicators() {
        let mut desk = Desk::new();
        desk.apply(&told(&json!({ "Type": "AgentState", "CurrentState": "Available" })));
        desk.apply(&told(&json!({ "Type": "AgentLeg", "AgentLegId": "1", "Status": "Active", "FinalState": "False" })));
        desk.apply(&told(&json!({ "Type": "Mute", "AgentMuted": "True" })));
        desk.apply(&told(&json!({ "Type": "Indicator", "Name": "VIP", "IndicatorState": "On" })));
        assert!(desk.is_connected() && desk.is_muted() && desk.state().is_some());
        assert_eq!(desk.indicators().count(), 1);
        desk.apply(&told(&json!({ "Type": "Indicator", "Name": "VIP", "IndicatorState": "" })));
        desk.apply(&told(
            &json!({ "Type": "AgentLeg", "AgentLegId": "1", "Status": "Disconnected", "FinalState": "True" }),
        ));
        assert!(desk.leg().is_none() && desk.indicators().next().is_none());
    }

    #[test]
    fn a_snapshot_turns_off_omitted_indicators_and_an_end_clears_the_desk() {
        let mut desk = Desk::new();
        desk.apply(&told(&json!({ "Type": "AgentLeg", "Status": "Active" })));
        desk.apply(&told(&json!({ "Type": "Mute", "AgentMuted": "True" })));
        desk.apply(&told(&json!({ "Type": "Indicator", "Name": "VIP", "IndicatorState": "On" })));
        desk.apply(&told(&contact("CallContactEvent", "7", "Active", "False")));
        desk.apply(&AgentDelivery::Gap(Gap {
            cause: GapCause::AnswerLost,
            certainty: Certainty::Possible,
            since: None,
            until: None,
            lost: None,
            filters: Vec::new(),
        }));
        assert!(desk.is_stale());
        let snapshot =
            |json: Value| AgentDelivery::Notification(Box::new(event(&json).with_origin(AgentOrigin::Snapshot)));
        desk.apply(&snapshot(json!({ "Type": "Indicator", "Name": "Late", "IndicatorState": "On" })));
        desk.apply(&snapshot(json!({ "Type": "AgentState", "CurrentState": "Available" })));
        assert!(desk.leg().is_none() && !desk.is_muted());
        assert_eq!(desk.indicators().map(|it| it.name.as_deref()).collect::<Vec<_>>(), [Some("Late")]);
        assert!(desk.contact("7").is_some(), "until its end is reported");
        let gone = GoneContact { contact_id: "7".into(), channel: Channel::Voice };
        desk.apply(&AgentDelivery::ContactsGone(vec![gone]));
        assert!(desk.contact("7").is_none());
        desk.apply(&AgentDelivery::SessionEnded(SessionEnded { reason: EndReason::Conflict, message: None }));
        assert!(desk.is_ended() && desk.state().is_none() && desk.indicators().next().is_none());
    }

    #[test]
    fn only_contacts_of_channels_that_a_snapshot_lists_can_be_gone() {
        let mut roster = Roster::default();
        let channels = [
            "CallContactEvent",
            "VoiceMailContactEvent",
            "WorkItemContactEvent",
            "TextContactEvent",
            "DigitalContactEvent",
        ];
        let events: Vec<_> = channels
            .iter()
            .enumerate()
            .map(|(n, name)| event(&contact(name, &n.to_string(), "Active", "False")))
            .collect();
        roster.take_in(&events);
        let gone = roster.reconcile(&[event(&contact("CallContactEvent", "0", "Holding", "False"))]);
        assert_eq!(gone.iter().map(|it| it.contact_id.as_str()).collect::<Vec<_>>(), ["1", "2"]);
        assert!(
            roster.reconcile(&[event(&contact("CallContactEvent", "0", "Holding", "False"))]).is_empty(),
            "reported once"
        );
    }
}
