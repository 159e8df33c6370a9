//! Events about the agent and the agent's phone.

use serde_json::value::RawValue;

use super::value::{Fields, body, date, flag, text, words};
use crate::event::RawJson;
use crate::event::lenient::Slot as _;

words! {
    /// What an agent does (`CurrentState`).
    pub enum State {
        /// Takes contacts.
        Available = "Available",
        /// Takes none; the reason is in `CurrentOutReason`.
        Unavailable = "Unavailable",
        /// Has a contact that came in.
        InboundContact = "InboundContact",
        /// Has a contact that went out.
        OutboundContact = "OutboundContact",
        /// Is consulted.
        InboundConsult = "InboundConsult",
        /// Consults.
        OutboundConsult = "OutboundConsult",
        /// Works for the dialer.
        Dialer = "Dialer",
        /// Waits for the dialer.
        DialerPending = "DialerPending",
        /// Has a session and no state yet.
        LoggedIn = "LoggedIn",
        /// Has none.
        LoggedOut = "LoggedOut",
    }

    /// What the phone between the platform and the agent does (`AgentLeg.Status`).
    pub enum LegStatus {
        /// Rings.
        Dialing = "Dialing",
        /// Is up.
        Active = "Active",
        /// Is down.
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
        /// Whether nothing follows for this leg.
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
        agent_id: int = "AgentId",
        /// The callback's id.
        callback_id: int = "CallbackId",
        /// When the customer is to be called.
        callback_time: date = "CallbackTime",
        /// Until when it may be taken.
        callback_expire_time: date = "CallbackExpireTime",
        /// When it was handed out.
        delivery_time: date = "DeliveryTime",
        /// The number to dial.
        dial_number: text = "DialNumber",
        /// The number to show.
        orig_number: text = "OrigNumber",
        /// Of the customer.
        first_name: text = "FirstName",
        /// Of the customer.
        last_name: text = "LastName",
        /// What was noted.
        notes: text = "Notes",
        /// The skill's id.
        skill_id: int = "SkillId",
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
        /// Whether there is none.
        empty: flag = "Empty",
    }

    /// `Conference`.
    pub struct Conference {
        /// Its number.
        conference_no: text = "ConferenceNo",
    }

    /// `HoursOfOperation`: the target of a transfer is closed; ask the agent whether to
    /// go on.
    pub struct HoursOfOperation {
        /// Whether that can be gone on with.
        show_continue_reskill: flag = "ShowContinueReskill",
        /// The contact.
        contact_id: text = "ContactID",
    }
}

impl AgentLeg {
    /// What the leg does, if it is told.
    #[must_use]
    pub fn status(&self) -> Option<LegStatus> {
        self.status_text.as_deref().map(LegStatus::from)
    }

    /// Whether the leg is gone for good.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.final_state == Some(true) || (self.status() == Some(LegStatus::Disconnected) && self.final_state.is_none())
    }
}

/// `AgentState`: what the agent does, and what comes next.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct AgentState {
    /// What the agent does (`CurrentState`).
    pub state: Option<State>,
    /// Why, where it is `Unavailable` (`CurrentOutReason`).
    pub out_reason: Option<String>,
    /// Since when (`StartTimeUTC`).
    pub start_time_utc: Option<crate::Timestamp>,
    /// Whether this is the work after a contact (`IsAcw`).
    pub is_acw: Option<bool>,
    /// How long that may take, in seconds; 0 for no bound (`AcwTimeout`).
    pub acw_timeout: Option<i64>,
    /// What was asked for and follows (`NextStates`).
    pub next_states: Vec<NextState>,
    /// Whether work after a contact follows (`NextIsAcw`).
    pub next_is_acw: Option<bool>,
}

/// A state that was asked for and follows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NextState {
    /// The state (`State`).
    pub state: State,
    /// Why, where it is `Unavailable` (`OutReason`).
    pub out_reason: Option<String>,
}

impl AgentState {
    pub(super) fn read(fields: &Fields<'_>) -> Self {
        let get = |key| fields.get(&[key]);
        Self {
            state: get("CurrentState").and_then(text).map(|word| State::from(word.as_str())),
            out_reason: get("CurrentOutReason").and_then(text),
            // One without a zone stands in where the other is not told, whatever its casing.
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
    fn read_all(raw: &RawValue) -> Vec<Self> {
        let mut list: Vec<RawJson> = Vec::new();
        list.fill(raw);
        list.iter().filter_map(|one| Self::read(one.get())).collect()
    }

    fn read(raw: &RawValue) -> Option<Self> {
        match Fields::of(raw) {
            Some(fields) => Some(Self {
                state: State::from(fields.get(&["State"]).and_then(text)?.as_str()),
                out_reason: fields.get(&["OutReason"]).and_then(text),
            }),
            None => text(raw).map(|word| Self { state: State::from(word.as_str()), out_reason: None }),
        }
    }
}
