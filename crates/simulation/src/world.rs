//! The events of the account, and how each is recognized.

use crate::time::Us;

/// A filter that the program subscribes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Filter {
    Sms,
    Voicemail,
    Posts,
    Missed,
    Telephony,
    /// What changed in the message store, as counts.
    Store,
    /// Everything of an agent's session, which has no filters.
    Agent,
}

impl Filter {
    pub(crate) const ALL: [Self; 5] = [Self::Sms, Self::Voicemail, Self::Posts, Self::Missed, Self::Telephony];

    /// The URI that the program requests.
    pub(crate) fn uri(self) -> &'static str {
        match self {
            Self::Sms => "/restapi/v1.0/account/~/extension/~/message-store/instant?type=SMS",
            Self::Voicemail => "/restapi/v1.0/account/~/extension/~/voicemail",
            Self::Posts => "/team-messaging/v1/posts",
            Self::Missed => "/restapi/v1.0/account/~/extension/~/missed-calls",
            Self::Telephony => "/restapi/v1.0/account/~/extension/~/telephony/sessions",
            Self::Store => "/restapi/v1.0/account/~/extension/~/message-store",
            Self::Agent => "",
        }
    }

    /// The filter of a URI, with ids or `~` in it.
    pub(crate) fn of(uri: &str) -> Option<Self> {
        let path = uri.split('?').next().unwrap_or(uri);
        Some(match path {
            _ if path.ends_with("/message-store/instant") => Self::Sms,
            _ if path.ends_with("/message-store") => Self::Store,
            _ if path.ends_with("/voicemail") => Self::Voicemail,
            _ if path.ends_with("/team-messaging/v1/posts") => Self::Posts,
            _ if path.ends_with("/missed-calls") => Self::Missed,
            _ if path.ends_with("/telephony/sessions") => Self::Telephony,
            _ => return None,
        })
    }

    /// Presence and telephony are always encrypted over PubNub.
    pub(crate) fn is_sensitive(self) -> bool {
        self == Self::Telephony
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Sms,
    /// A message of another kind, which only the store's counts report.
    Stored,
    Voicemail,
    /// The voicemail of the event with this number is marked as read.
    VoicemailRead(u32),
    /// A new post with this number.
    PostAdded(u32),
    /// Another text of the post with this number.
    PostChanged(u32),
    MissedCall,
    /// A step of the call with this number, and whether it is the last.
    Telephony {
        call: u32,
        step: u32,
        last: bool,
    },
    /// An event of an agent's session that is not a state.
    AgentShot,
    /// A step of a contact on an agent's desk, and whether it is the last.
    AgentContact {
        contact: u32,
        step: u32,
        last: bool,
    },
}

impl What {
    pub(crate) fn filter(self) -> Filter {
        match self {
            Self::Sms => Filter::Sms,
            Self::Stored => Filter::Store,
            Self::Voicemail | Self::VoicemailRead(_) => Filter::Voicemail,
            Self::PostAdded(_) | Self::PostChanged(_) => Filter::Posts,
            Self::MissedCall => Filter::Missed,
            Self::Telephony { .. } => Filter::Telephony,
            Self::AgentShot | Self::AgentContact { .. } => Filter::Agent,
        }
    }
}

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Emission {
    pub(crate) id: u32,
    pub(crate) at: Us,
    pub(crate) what: What,
}

impl Emission {
    /// A text that appears in every form of this event.
    pub(crate) fn tag(&self) -> String {
        format!("<e{}>", self.id)
    }

    /// The event whose tag the text has.
    pub(crate) fn tagged(text: &str) -> Option<u32> {
        let (_, rest) = text.split_once("<e")?;
        rest.split_once('>')?.0.parse().ok()
    }
}

pub(crate) const ACCOUNT: &str = "100200300";
pub(crate) const EXTENSION: &str = "100200301";
pub(crate) const CHAT: &str = "700800900";
