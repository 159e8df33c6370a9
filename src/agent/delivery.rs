//! The items of a session's stream besides events and gaps.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::event::{AgentNotification, ContactId, RemoteEnd};
use crate::delivery::{Gap, Resumed, Undecodable};
use crate::words::words;

/// One item of the stream of an agent session.
///
/// Every possible fate of an event is one of these: it arrives, or a [`Gap`] says that it may not, or it arrived and
/// could not be decoded.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AgentDelivery {
    /// An event.
    Notification(Box<AgentNotification>),
    /// Events are missing, or may be, from here on.
    Gap(Gap),
    /// Events arrive again after a gap.
    Resumed(Resumed),
    /// Something arrived that could not be decoded.
    Undecodable(Undecodable),
    /// Contacts that existed before a gap have ended. The snapshot after it omits them, so no event reports their end.
    ContactsGone(Vec<GoneContact>),
    /// The last item: the session has ended.
    SessionEnded(SessionEnded),
}

/// One line without the account's data.
impl fmt::Display for AgentDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Notification(it) => it.fmt(f),
            Self::Gap(it) => it.fmt(f),
            Self::Resumed(it) => it.fmt(f),
            Self::Undecodable(it) => it.fmt(f),
            Self::ContactsGone(contacts) => write!(f, "{} contacts ended during a gap", contacts.len()),
            Self::SessionEnded(it) => it.fmt(f),
        }
    }
}

/// The reason, not the service's message.
impl fmt::Display for SessionEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the session ended: {}", self.reason.as_str())
    }
}

/// The channel of a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Channel {
    /// A call.
    Voice,
    /// A voicemail.
    VoiceMail,
    /// A work item.
    WorkItem,
    /// A chat or a text message.
    Text,
    /// An e-mail.
    Email,
    /// A digital contact.
    Digital,
}

words!("channel", Channel {
    Voice = "voice",
    VoiceMail = "voice_mail",
    WorkItem = "work_item",
    Text = "text",
    Email = "email",
    Digital = "digital",
});

/// A contact that ended without an end event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GoneContact {
    /// Its id (`ContactID`).
    pub contact_id: ContactId,
    /// Its channel: voice, voicemail or work item. A snapshot need not list the others.
    pub channel: Channel,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionEnded {
    /// Why.
    pub reason: EndReason,
    /// The service's message about it (`Message`, `icStatusDescription`).
    pub message: Option<String>,
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// This agent's program requested it (`AgentSessionEnd`, or an `end` of this side).
    Asked,
    /// Another program or an administrator ended it (`RemoteAgentSessionEnd`).
    Remote(RemoteEnd),
    /// The service answered a poll with 409: the session has ended, and no event named the reason.
    Conflict,
}

impl EndReason {
    /// A word for logs and machines.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Remote(RemoteEnd::SessionTimeout) => "session_timeout",
            Self::Remote(RemoteEnd::RemoteLogoff) => "remote_logoff",
            Self::Remote(RemoteEnd::Other(_)) => "remote",
            Self::Conflict => "conflict",
        }
    }
}
