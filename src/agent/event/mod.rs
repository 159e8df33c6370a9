//! Events of an agent, a phone and contacts, from `get-next-event`.

mod agent;
mod contact;
mod id;
mod script;
mod session;
pub(crate) mod value;

use std::fmt;
use std::time::SystemTime;

use serde_json::value::RawValue;

use crate::event::RawJson;
use crate::json::Json;
use crate::words::words;
use value::{Fields, text};

pub use agent::{
    AgentLeg, AgentState, Conference, HoursOfOperation, LegStatus, Mute, NaturalCallingSkillList, NextState,
    PromiseKeeper, PromiseKeeperStatus, State,
};
pub use contact::{
    CallContact, CallType, ContactStatus, DigitalContact, TextContact, VoiceMailContact, VoiceMailPlayBack,
    WorkItemContact,
};
pub use id::{AgentId, ContactId, SkillId};
pub use script::{
    ActionType, AgentAssist, AgentWorkflow, CustomEvent, CustomEventName, Indicator, PageOpen, PopUrl, RunApp,
    SmartReachValidation, Supervisor, Undocumented,
};
pub use session::{
    AgentSessionEnd, AgentSessionStart, ListChanged, MchAgentSettingsChange, RemoteAgentSessionEnd, RemoteEnd,
    SessionStartFailed,
};

/// Makes the enum of events and their names.
macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident($body:ident) = $name:literal,)+) => {
        /// An event, typed.
        ///
        /// The service's list is open: an event without a type in this crate is [`Unknown`](Self::Unknown), and every
        /// event holds the object that it was read from ([`AgentNotification::raw`]).
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum AgentEvent {
            $(
                #[doc = concat!("`", $name, "`.")]
                $(#[$doc])*
                $variant(Box<$body>),
            )+
            /// An event of an unknown type, or without a type.
            Unknown(UnknownAgentEvent),
        }

        /// The kind of an event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum AgentEventKind {
            $(#[doc = concat!("`", $name, "`.")] $variant,)+
            /// Unknown to this crate.
            Unknown,
        }

        impl AgentEventKind {
            /// Every kind but `Unknown`.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The service's name (`Type`); `Unknown` for an unknown event.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                    Self::Unknown => "Unknown",
                }
            }

            /// The kind with that name, in any casing.
            fn named(name: &str) -> Self {
                Self::ALL.iter().copied().find(|kind| kind.as_str().eq_ignore_ascii_case(name)).unwrap_or(Self::Unknown)
            }
        }

        impl ::std::fmt::Display for AgentEventKind {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl ::serde::Serialize for AgentEventKind {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        /// Reads the service's name; an unknown one is [`Unknown`](Self::Unknown).
        impl<'de> ::serde::Deserialize<'de> for AgentEventKind {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <::std::borrow::Cow<'_, str> as ::serde::Deserialize>::deserialize(deserializer).map(|it| Self::named(&it))
            }
        }

        impl AgentEvent {
            fn read(raw: Json<'_>) -> Self {
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

            /// The kind of the event.
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
    /// The service's name for it, if present (`Type`).
    pub event_type: Option<String>,
    /// The contact, if the event names one.
    pub contact_id: Option<ContactId>,
}

impl AgentEvent {
    /// The contact of the event, if it names one.
    #[must_use]
    pub fn contact_id(&self) -> Option<&ContactId> {
        match self {
            Self::CallContact(it) => it.contact_id.as_ref(),
            Self::WorkItemContact(it) => it.contact_id.as_ref(),
            Self::VoiceMailContact(it) => it.contact_id.as_ref(),
            Self::VoiceMailPlayBack(it) => it.contact_id.as_ref(),
            Self::EmailContact(it) | Self::ChatContact(it) | Self::TextContact(it) => it.contact_id.as_ref(),
            Self::DigitalContact(it) => it.contact_id.as_ref(),
            Self::HoursOfOperation(it) => it.contact_id.as_ref(),
            Self::Indicator(it) => it.contact_id.as_ref(),
            Self::PageOpen(it) => it.contact_id.as_ref(),
            Self::RunApp(it) => it.contact_id.as_ref(),
            Self::PopUrl(it) => it.contact_id.as_ref(),
            Self::AgentWorkflowConfiguration(it) | Self::AgentWorkflowCreatePayload(it) => it.contact_id.as_ref(),
            Self::AgentAssist(it) => it.contact_id.as_ref(),
            Self::SupervisorContact(it)
            | Self::SupervisorMonitor(it)
            | Self::SupervisorTakeOver(it)
            | Self::TakeOver(it) => it.contact_id.as_ref(),
            Self::CustomWebRtc(it) | Self::CustomScreenPop(it) | Self::PostData(it) => it.contact_id.as_ref(),
            Self::Unknown(it) => it.contact_id.as_ref(),
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

    /// Whether it describes a state, which a snapshot would repeat; otherwise it is a one-shot, which is lost for good
    /// if its answer is lost.
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

/// The origin of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AgentOrigin {
    /// It happened since the previous poll.
    Live,
    /// It describes a state, in a batch that replaces missed events: apply it as the latest state of its subject. It
    /// may have happened long ago.
    Snapshot,
}

words!("origin", AgentOrigin {
    Live = "live",
    Snapshot = "snapshot",
});

/// An event of an agent session, with the circumstances of its arrival.
///
/// The wire carries neither an id nor a number nor a time of an event: the order is that of arrival. `Debug` does not
/// show the raw object.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentNotification {
    event: AgentEvent,
    raw: RawJson,
    origin: AgentOrigin,
    batch: u64,
    index: usize,
    received_at: SystemTime,
    happened_at: Option<SystemTime>,
}

impl AgentNotification {
    pub(crate) fn new(raw: Box<RawValue>, batch: u64, index: usize, received_at: SystemTime) -> Self {
        let event = AgentEvent::read((&raw).into());
        let time = |fields: &Fields<'_>, key| value::date(fields.get(&[key])?)?.system_time();
        let happened_at = Fields::of(&raw)
            .and_then(|fields| time(&fields, "LastStateChangeTimeUTC").max(time(&fields, "StartTimeUTC")));
        Self { event, raw: raw.into(), origin: AgentOrigin::Live, batch, index, received_at, happened_at }
    }

    pub(crate) fn with_origin(self, origin: AgentOrigin) -> Self {
        Self { origin, ..self }
    }

    /// Reads an event from its JSON, as one that arrives now: for your tests, and for other transports of the same
    /// events.
    ///
    /// # Errors
    /// When `json` is not valid JSON. Everything else is at least an [`Unknown`](AgentEvent::Unknown).
    pub fn from_json(json: &str) -> serde_json::Result<Self> {
        Ok(Self::new(serde_json::from_str(json)?, 0, 0, crate::clock::wall_now()))
    }

    /// The event.
    #[must_use]
    pub fn event(&self) -> &AgentEvent {
        &self.event
    }

    /// The object that it was read from, byte for byte, with the fields that this crate does not type, such as
    /// `IISHost` and `VCHost`.
    #[must_use]
    pub fn raw(&self) -> &RawJson {
        &self.raw
    }

    /// When it happened, by the service's clock: the newest of its times in UTC. Most kinds of event have none.
    pub(crate) fn happened_at(&self) -> Option<SystemTime> {
        self.happened_at
    }

    /// Whether it is live or part of a snapshot.
    #[must_use]
    pub fn origin(&self) -> AgentOrigin {
        self.origin
    }

    /// The number of its batch, counted from 1 in each stream.
    #[must_use]
    pub fn batch(&self) -> u64 {
        self.batch
    }

    /// Its index in the batch, in the service's order, counted from 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// When it arrived, by this machine's clock.
    #[must_use]
    pub fn received_at(&self) -> SystemTime {
        self.received_at
    }
}

/// One line without the account's data: kind, contact, and whether it is part of a snapshot.
impl fmt::Display for AgentNotification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.event.kind().as_str())?;
        if let Some(contact) = self.event.contact_id() {
            write!(f, ", contact {}", contact.as_str().escape_debug())?;
        }
        match self.origin {
            AgentOrigin::Live => Ok(()),
            AgentOrigin::Snapshot => f.write_str(", part of a snapshot"),
        }
    }
}

#[cfg(test)]
mod tests;
