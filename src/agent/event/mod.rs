//! What happens to an agent, a phone and contacts, as `get-next-event` tells it.

mod agent;
mod contact;
mod script;
mod session;
pub(crate) mod value;

use std::time::SystemTime;

use serde_json::value::RawValue;

use crate::event::RawJson;
use value::{Fields, text};

pub use agent::{
    AgentLeg, AgentState, Conference, HoursOfOperation, LegStatus, Mute, NaturalCallingSkillList, NextState,
    PromiseKeeper, PromiseKeeperStatus, State,
};
pub use contact::{
    CallContact, CallType, ContactStatus, DigitalContact, TextContact, VoiceMailContact, VoiceMailPlayBack,
    WorkItemContact,
};
pub use script::{
    ActionType, AgentAssist, AgentWorkflow, CustomEvent, Indicator, PageOpen, PopUrl, RunApp, SmartReachValidation,
    Supervisor, Undocumented,
};
pub use session::{
    AgentSessionEnd, AgentSessionStart, ListChanged, MchAgentSettingsChange, RemoteAgentSessionEnd, RemoteEnd,
    SessionStartFailed,
};

/// Makes the enum of events and what names them.
macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident($body:ident) = $name:literal,)+) => {
        /// An event, typed.
        ///
        /// The service's list is open: what this crate has no type for is
        /// [`Unknown`](Self::Unknown), and every event keeps the object that it was read
        /// from ([`AgentNotification::raw`]).
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum AgentEvent {
            $(
                #[doc = concat!("`", $name, "`.")]
                $(#[$doc])*
                $variant(Box<$body>),
            )+
            /// An event of a type that is not known here, or of none at all.
            Unknown(UnknownAgentEvent),
        }

        /// Which event it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum AgentEventKind {
            $(#[doc = concat!("`", $name, "`.")] $variant,)+
            /// Not known here.
            Unknown,
        }

        impl AgentEventKind {
            /// Every kind but `Unknown`.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The service's name (`Type`); `Unknown` for what is not known here.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                    Self::Unknown => "Unknown",
                }
            }

            /// The kind of that name, in any casing.
            fn named(name: &str) -> Self {
                Self::ALL.iter().copied().find(|kind| kind.as_str().eq_ignore_ascii_case(name)).unwrap_or(Self::Unknown)
            }
        }

        impl AgentEvent {
            fn read(raw: &RawValue) -> Self {
                let Some(fields) = Fields::of(raw) else {
                    return Self::Unknown(UnknownAgentEvent { event_type: None, contact_id: None });
                };
                let event_type = fields.get(&["Type", "type"]).and_then(text);
                match event_type.as_deref().map_or(AgentEventKind::Unknown, |name| AgentEventKind::named(name.trim())) {
                    $(AgentEventKind::$variant => Self::$variant(Box::new($body::read(&fields))),)+
                    AgentEventKind::Unknown => {
                        Self::Unknown(UnknownAgentEvent { event_type, contact_id: contact::contact_id(&fields) })
                    }
                }
            }

            /// Which event it is.
            #[must_use]
            pub fn kind(&self) -> AgentEventKind {
                match self {
                    $(Self::$variant(_) => AgentEventKind::$variant,)+
                    Self::Unknown(_) => AgentEventKind::Unknown,
                }
            }
        }
    };
}

events! {
    AgentSessionStart(AgentSessionStart) = "AgentSessionStart",
    AgentSessionEnd(AgentSessionEnd) = "AgentSessionEnd",
    RemoteAgentSessionEnd(RemoteAgentSessionEnd) = "RemoteAgentSessionEnd",
    SessionStartFailed(SessionStartFailed) = "SessionStartFailed",
    UpdatePermissions(ListChanged) = "UpdatePermissions",
    UpdateUnavailableCodes(ListChanged) = "UpdateUnavailableCodes",
    UpdateSkills(ListChanged) = "UpdateSkills",
    UpdateDialerCampaigns(ListChanged) = "UpdateDialerCampaigns",
    UpdateMessages(ListChanged) = "UpdateMessages",
    UpdateIndicators(ListChanged) = "UpdateIndicators",
    UpdateCallbacks(ListChanged) = "UpdateCallbacks",
    /// Unofficial.
    UpdateTeams(ListChanged) = "UpdateTeams",
    MchAgentSettingsChange(MchAgentSettingsChange) = "MchAgentSettingsChangeEvent",
    AgentState(AgentState) = "AgentState",
    AgentLeg(AgentLeg) = "AgentLeg",
    Mute(Mute) = "Mute",
    PromiseKeeper(PromiseKeeper) = "PromiseKeeper",
    PromiseKeeperStatus(PromiseKeeperStatus) = "PromiseKeeperStatus",
    NaturalCallingSkillList(NaturalCallingSkillList) = "NaturalCallingSkillList",
    Conference(Conference) = "Conference",
    HoursOfOperation(HoursOfOperation) = "HoursOfOperation",
    CallContact(CallContact) = "CallContactEvent",
    WorkItemContact(WorkItemContact) = "WorkItemContactEvent",
    VoiceMailContact(VoiceMailContact) = "VoiceMailContactEvent",
    VoiceMailPlayBack(VoiceMailPlayBack) = "VoiceMailPlayBackEvent",
    /// Only its contact, status and skill are documented.
    EmailContact(TextContact) = "EmailContactEvent",
    /// The former name of `TextContactEvent`.
    ChatContact(TextContact) = "ChatContactEvent",
    TextContact(TextContact) = "TextContactEvent",
    DigitalContact(DigitalContact) = "DigitalContactEvent",
    Indicator(Indicator) = "Indicator",
    PageOpen(PageOpen) = "PageOpen",
    RunApp(RunApp) = "RunApp",
    PopUrl(PopUrl) = "PopURL",
    Custom(CustomEvent) = "CustomEvent",
    AgentWorkflowConfiguration(AgentWorkflow) = "AgentWorkflowConfiguration",
    AgentWorkflowCreatePayload(AgentWorkflow) = "AgentWorkflowCreatePayload",
    AgentAssist(AgentAssist) = "AgentAssist",
    SmartReachValidation(SmartReachValidation) = "SmartReachValidation",
    /// Unofficial.
    SupervisorContact(Supervisor) = "SupervisorContact",
    /// Unofficial.
    SupervisorMonitor(Supervisor) = "SupervisorMonitor",
    /// Unofficial.
    SupervisorTakeOver(Supervisor) = "SupervisorTakeOver",
    /// Unofficial.
    TakeOver(Supervisor) = "TakeOver",
    /// Unofficial.
    CustomWebRtc(Undocumented) = "CUSTOM_WebRTC",
    /// Unofficial.
    CustomScreenPop(Undocumented) = "CustomScreenPop",
    /// Unofficial.
    PostData(Undocumented) = "PostData",
}

/// An event without a type of this crate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownAgentEvent {
    /// What the service calls it, if it says (`Type`).
    pub event_type: Option<String>,
    /// The contact, where one is named.
    pub contact_id: Option<String>,
}

impl AgentEvent {
    /// The contact that it is about, where it names one.
    #[must_use]
    pub fn contact_id(&self) -> Option<&str> {
        match self {
            Self::CallContact(it) => it.contact_id.as_deref(),
            Self::WorkItemContact(it) => it.contact_id.as_deref(),
            Self::VoiceMailContact(it) => it.contact_id.as_deref(),
            Self::VoiceMailPlayBack(it) => it.contact_id.as_deref(),
            Self::EmailContact(it) | Self::ChatContact(it) | Self::TextContact(it) => it.contact_id.as_deref(),
            Self::DigitalContact(it) => it.contact_id.as_deref(),
            Self::HoursOfOperation(it) => it.contact_id.as_deref(),
            Self::Indicator(it) => it.contact_id.as_deref(),
            Self::PageOpen(it) => it.contact_id.as_deref(),
            Self::RunApp(it) => it.contact_id.as_deref(),
            Self::PopUrl(it) => it.contact_id.as_deref(),
            Self::AgentWorkflowConfiguration(it) | Self::AgentWorkflowCreatePayload(it) => it.contact_id.as_deref(),
            Self::AgentAssist(it) => it.contact_id.as_deref(),
            Self::SupervisorContact(it)
            | Self::SupervisorMonitor(it)
            | Self::SupervisorTakeOver(it)
            | Self::TakeOver(it) => it.contact_id.as_deref(),
            Self::CustomWebRtc(it) | Self::CustomScreenPop(it) | Self::PostData(it) => it.contact_id.as_deref(),
            Self::Unknown(it) => it.contact_id.as_deref(),
            Self::AgentSessionStart(_)
            | Self::AgentSessionEnd(_)
            | Self::RemoteAgentSessionEnd(_)
            | Self::SessionStartFailed(_)
            | Self::UpdatePermissions(_)
            | Self::UpdateUnavailableCodes(_)
            | Self::UpdateSkills(_)
            | Self::UpdateDialerCampaigns(_)
            | Self::UpdateMessages(_)
            | Self::UpdateIndicators(_)
            | Self::UpdateCallbacks(_)
            | Self::UpdateTeams(_)
            | Self::MchAgentSettingsChange(_)
            | Self::AgentState(_)
            | Self::AgentLeg(_)
            | Self::Mute(_)
            | Self::PromiseKeeper(_)
            | Self::PromiseKeeperStatus(_)
            | Self::NaturalCallingSkillList(_)
            | Self::Conference(_)
            | Self::Custom(_)
            | Self::SmartReachValidation(_) => None,
        }
    }

    /// Whether it says what is, and a snapshot would say it again; else it is a one-shot,
    /// which is gone for good if the answer that held it is lost.
    #[must_use]
    pub fn is_state(&self) -> bool {
        matches!(
            self.kind(),
            AgentEventKind::AgentSessionStart
                | AgentEventKind::AgentState
                | AgentEventKind::AgentLeg
                | AgentEventKind::Mute
                | AgentEventKind::CallContact
                | AgentEventKind::WorkItemContact
                | AgentEventKind::VoiceMailContact
                | AgentEventKind::EmailContact
                | AgentEventKind::ChatContact
                | AgentEventKind::TextContact
                | AgentEventKind::DigitalContact
                | AgentEventKind::Indicator
        )
    }
}

/// Where an event came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AgentOrigin {
    /// It happened since the poll before.
    Live,
    /// It says what is, in a batch that stands for what was missed: apply it as the
    /// latest state of what it names. It may have happened long ago.
    Snapshot,
}

/// An event of an agent session, with what is known about its arrival.
///
/// There is no id, no number and no time of an event on this wire: order is that of
/// arrival. `Debug` does not show the raw object.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentNotification {
    event: AgentEvent,
    raw: RawJson,
    origin: AgentOrigin,
    batch: u64,
    index: usize,
    received_at: SystemTime,
}

impl AgentNotification {
    pub(crate) fn new(raw: Box<RawValue>, batch: u64, index: usize, received_at: SystemTime) -> Self {
        let event = AgentEvent::read(&raw);
        Self { event, raw: raw.into(), origin: AgentOrigin::Live, batch, index, received_at }
    }

    pub(crate) fn with_origin(self, origin: AgentOrigin) -> Self {
        Self { origin, ..self }
    }

    /// Reads an event from its JSON, as one that came now: for tests of yours, and for
    /// other transports of the same events.
    ///
    /// # Errors
    /// When `json` is no JSON. Everything else is at least an
    /// [`Unknown`](AgentEvent::Unknown).
    pub fn from_json(json: &str) -> serde_json::Result<Self> {
        Ok(Self::new(serde_json::from_str(json)?, 0, 0, crate::clock::wall_now()))
    }

    /// The event.
    #[must_use]
    pub fn event(&self) -> &AgentEvent {
        &self.event
    }

    /// The object it was read from, byte for byte: all that this crate does not type is
    /// in it, such as `IISHost` and `VCHost`.
    #[must_use]
    pub fn raw(&self) -> &RawJson {
        &self.raw
    }

    /// Whether it happened just now, or is part of a snapshot.
    #[must_use]
    pub fn origin(&self) -> AgentOrigin {
        self.origin
    }

    /// The number of the batch it came in, counted from 1 in each stream.
    #[must_use]
    pub fn batch(&self) -> u64 {
        self.batch
    }

    /// Its place in the batch, as the service sent it, counted from 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// When it came, by this machine's clock.
    #[must_use]
    pub fn received_at(&self) -> SystemTime {
        self.received_at
    }
}

#[cfg(test)]
mod tests;
