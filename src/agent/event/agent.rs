//! Events about the agent and the agent's phone.

use super::value::{Fields, body, date, flag, text, words};
use crate::event::RawJson;
use crate::event::lenient::Slot as _;
use crate::json::Json;

words! {
    /// The agent's state (`CurrentState`).
    pub enum State {
        /// Accepts contacts.
        Available = "Available",
        /// Accepts no contacts; the reason is in `CurrentOutReason`.
        Unavailable = "Unavailable",
        /// Has an inbound contact.
        InboundContact = "InboundContact",
        /// Has an outbound contact.
        OutboundContact = "OutboundContact",
        /// Is being consulted.
        InboundConsult = "InboundConsult",
        /// Is consulting.
        OutboundConsult = "OutboundConsult",
        /// Works for the dialer.
        Dialer = "Dialer",
        /// Waits for the dialer.
        DialerPending = "DialerPending",
        /// Has a session but no state yet.
        LoggedIn = "LoggedIn",
        /// Has no session.
        LoggedOut = "LoggedOut",
    }

    /// The state of the phone between the platform and the agent (`AgentLeg.Status`).
    pub enum LegStatus {
        /// Rings.
        Dialing = "Dialing",
        /// Is connected.
        Active = "Active",
        /// Is disconnected.
        Disconnected = "Disconnected",
    }
}

body! {
    /// `AgentLeg`: the phone between the platform and the agent.
    pub struct AgentLeg {
        /// The leg's id.
        agent_leg_id: text = "AgentLegId",
        /// See [`status`](Self::status).
        status_text: text = "Status",
        /// Whether this is the leg's last event.
        final_state: flag = "FinalState",
    }

    /// `Mute`.
    pub struct Mute {
        /// Whether the agent's leg is muted.
        agent_muted: flag = "AgentMuted",
    }

    /// `PromiseKeeper`: a callback is due. A one-shot.
    pub struct PromiseKeeper {
        /// The agent's id.
        agent_id: agent = "AgentId",
        /// The callback's id.
        callback_id: int = "CallbackId",
        /// When to call the customer.
        callback_time: date = "CallbackTime",
        /// When the callback expires.
        callback_expire_time: date = "CallbackExpireTime",
        /// When it was delivered.
        delivery_time: date = "DeliveryTime",
        /// The number to dial.
        dial_number: text = "DialNumber",
        /// The number to show.
        orig_number: text = "OrigNumber",
        /// The customer's first name.
        first_name: text = "FirstName",
        /// The customer's last name.
        last_name: text = "LastName",
        /// The notes.
        notes: text = "Notes",
        /// The skill's id.
        skill_id: skill = "SkillId",
        /// `Agent` or `Skill`.
        target_type: text = "TargetType",
    }

    /// `PromiseKeeperStatus`.
    pub struct PromiseKeeperStatus {
        /// The callback's id (unconfirmed).
        callback_id: int = "CallbackId",
        /// `Dialing`, `Refused`, `Delivered`, `Rescheduled`, `Cancelled` (unofficial).
        status: text = "Status",
    }

    /// `NaturalCallingSkillList`.
    pub struct NaturalCallingSkillList {
        /// Whether the list is empty.
        empty: flag = "Empty",
    }

    /// `Conference`.
    pub struct Conference {
        /// The conference's number.
        conference_no: text = "ConferenceNo",
    }

    /// `HoursOfOperation`: the target of a transfer is closed; ask the agent whether to continue.
    pub struct HoursOfOperation {
        /// Whether the agent may continue.
        show_continue_reskill: flag = "ShowContinueReskill",
        /// The contact.
        contact_id: contact = "ContactID",
    }
}

impl AgentLeg {
    /// The leg's state, if the event names it.
    #[must_use]
    pub fn status(&self) -> Option<LegStatus> {
        self.status_text.as_deref().map(LegStatus::from)
    }

    /// Whether the leg has ended for good.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.final_state == Some(true) || (self.status() == Some(LegStatus::Disconnected) && self.final_state.is_none())
    }
}

/// `AgentState`: the agent's state, and the states that follow.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct AgentState {
    /// The agent's state (`CurrentState`).
    pub state: Option<State>,
    /// The reason for `Unavailable` (`CurrentOutReason`).
    pub out_reason: Option<String>,
    /// Since when (`StartTimeUTC`).
    pub start_time_utc: Option<crate::Timestamp>,
    /// Whether this is the work after a contact (`IsAcw`).
    pub is_acw: Option<bool>,
    /// How long that work may take, in seconds; 0 for no limit (`AcwTimeout`).
    pub acw_timeout: Option<i64>,
    /// The requested states that follow (`NextStates`).
    pub next_states: Vec<NextState>,
    /// Whether work after a contact follows (`NextIsAcw`).
    pub next_is_acw: Option<bool>,
}

/// A requested state that follows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NextState {
    /// The state (`State`).
    pub state: State,
    /// The reason for `Unavailable` (`OutReason`).
    pub out_reason: Option<String>,
}

impl AgentState {
    pub(super) fn read(fields: &Fields<'_>) -> Self {
        let get = |key| fields.get(&[key]);
        Self {
            state: get("CurrentState").and_then(text).map(|word| State::from(word.as_str())),
            out_reason: get("CurrentOutReason").and_then(text),
            // A time without a zone is used if the other one is missing.
            start_time_utc: get("StartTimeUTC").and_then(date).or_else(|| get("StartTime").and_then(date)),
            is_acw: get("IsAcw").and_then(flag),
            acw_timeout: get("AcwTimeout").and_then(super::value::int),
            next_states: get("NextStates").map(NextState::read_all).unwrap_or_default(),
            next_is_acw: get("NextIsAcw").and_then(flag),
        }
    }
}

impl NextState {
    /// A list of objects, one object, the name alone, or nothing.
    fn read_all(raw: Json<'_>) -> Vec<Self> {
        let mut list: Vec<RawJson> = Vec::new();
        list.fill(raw);
        list.iter().filter_map(|one| Self::read(one.get().into())).collect()
    }

    fn read(raw: Json<'_>) -> Option<Self> {
        match Fields::of(raw) {
            Some(fields) => Some(Self {
                state: State::from(fields.get(&["State"]).and_then(text)?.as_str()),
                out_reason: fields.get(&["OutReason"]).and_then(text),
            }),
            None => text(raw).map(|word| Self { state: State::from(word.as_str()), out_reason: None }),
        }
    }
}
