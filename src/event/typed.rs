//! An event with its body.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::account::{
    CompanyDirectory, ContactCenterPhoneNumber, EmergencyAddress, ExtensionChange, ExtensionList, ExtensionRef,
};
use super::insights::RingSenseInsights;
use super::kind::EventKind;
use super::lenient::{Body, Lenient as _, object};
use super::message::{Message, MessageStore};
use super::presence::{ExtensionDnd, Presence, PresenceLine, QueuePresence};
use super::push::InboundMessagePush;
use super::reminder::SubscriptionReminder;
use super::route::route;
use super::sms::{A2pBatch, A2pMessage, A2pOptOut, SmsConsents, SmsV2Batch, SmsV2Message, ThreadsChange};
use super::table::event_table;
use super::team::{Chat, Post, TeamWebhook};
use super::telephony::{CallPush, TelephonySession};
use super::unknown::{Undocumented, UnknownEvent};
use crate::json::Json;

macro_rules! typed {
    ($(
        $(#[doc = $doc:literal])+
        $kind:ident($body:ty) $($flat:ident)? { $($row:tt)* }
    )+) => {
        /// An event, typed by the filter that fired.
        ///
        /// Bodies are boxed, so that an event is cheap to move. Each is read field by field: see
        /// [`Notification`](super::Notification).
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum Event {
            $(
                $(#[doc = $doc])+
                $kind(Box<$body>),
            )+
            /// A URI unknown to this crate, or a body that is not a JSON object.
            Unknown(Box<UnknownEvent>),
        }

        impl Event {
            /// The kind of this event.
            #[must_use]
            pub fn kind(&self) -> EventKind {
                match self {
                    $(Self::$kind(_) => EventKind::$kind,)+
                    Self::Unknown(_) => EventKind::Unknown,
                }
            }

            /// Reads the payload as an event of this kind.
            pub(super) fn decode(kind: EventKind, payload: Payload<'_>) -> Self {
                let typed = match kind {
                    $(EventKind::$kind => payload.read::<$body>(kind).map(|body| Self::$kind(Box::new(body))),)+
                    EventKind::Unknown => None,
                };
                typed.unwrap_or_else(|| Self::Unknown(Box::new(UnknownEvent::new(payload.uri, payload.body))))
            }
        }

        /// Writes the body.
        impl Serialize for Event {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $(Self::$kind(body) => body.serialize(serializer),)+
                    Self::Unknown(body) => body.serialize(serializer),
                }
            }
        }
    };
}
event_table!(typed);

impl Event {
    /// Reads a body of an event with this URI, such as a stored one. Never fails: unreadable parts
    /// are absent, or the event is [`Event::Unknown`].
    #[must_use]
    pub fn from_body(event_uri: &str, body: &RawValue) -> Self {
        let body = Json::from(body);
        Self::decode(
            kind_of(event_uri, Some(body)),
            Payload { uri: event_uri, outer: None, nested: None, body: Some(body) },
        )
    }

    /// The message, if the event has one: text message, fax or voicemail.
    #[must_use]
    pub fn message(&self) -> Option<&Message> {
        match self {
            Self::InstantMessage(it) | Self::FaxMessage(it) | Self::VoicemailMessage(it) => Some(it),
            _ => None,
        }
    }

    /// The presence, if the event has one, at any level of detail.
    #[must_use]
    pub fn presence(&self) -> Option<&Presence> {
        match self {
            Self::ExtensionPresence(it)
            | Self::DetailedExtensionPresence(it)
            | Self::DetailedExtensionPresenceWithSip(it)
            | Self::AccountPresence(it) => Some(it),
            _ => None,
        }
    }

    /// The call, if the event concerns one, of an account or an extension.
    #[must_use]
    pub fn telephony_session(&self) -> Option<&TelephonySession> {
        match self {
            Self::AccountTelephonySessions(it) | Self::ExtensionTelephonySessions(it) => Some(it),
            _ => None,
        }
    }
}

/// The kind of an event. Chats were captured under the URI of posts, and posts under those of chats: among the events of
/// team messaging the body's `eventType` decides (found 4.7).
pub(super) fn kind_of(uri: &str, body: Option<Json<'_>>) -> EventKind {
    let kind = route(uri);
    let Some(body) = body.filter(|_| kind.is_team_messaging()) else { return kind };
    let mut event_type = None;
    object(without_wrapper(body), &mut |key, value| {
        if key == "eventType" {
            event_type = String::read(value);
        }
    });
    match event_type {
        Some(what) if what.starts_with("Group") => EventKind::TeamMessagingChat,
        Some(what) if what.starts_with("Post") => EventKind::TeamMessagingPost,
        Some(what) if what.starts_with("Webhook") => EventKind::TeamMessagingWebhook,
        _ => kind,
    }
}

/// A body of team messaging without its wrapper: an old page of the documentation shows the fields in a single field
/// `data`.
fn without_wrapper(body: Json<'_>) -> Json<'_> {
    // Most bodies have many fields, and are not parsed for this.
    if !body.get().get(1..).is_some_and(|fields| fields.trim_start().starts_with("\"data\"")) {
        return body;
    }
    let (mut wrapped, mut fields) = (None, 0_usize);
    object(body, &mut |key, value| {
        fields += 1;
        if key == "data" && value.get().starts_with('{') {
            wrapped = Some(value);
        }
    });
    wrapped.filter(|_| fields == 1).unwrap_or(body)
}

/// The location of an event's fields.
#[derive(Clone, Copy)]
pub(super) struct Payload<'a> {
    pub(super) uri: &'a str,
    pub(super) outer: Option<Json<'a>>,
    pub(super) nested: Option<Json<'a>>,
    pub(super) body: Option<Json<'a>>,
}

impl Payload<'_> {
    /// `None` if there is a body that is not an object. Without a body, the event has only its
    /// kind.
    fn read<B: Body>(self, kind: EventKind) -> Option<B> {
        let mut read = B::default();
        if kind.is_flat() {
            for around in [self.outer, self.nested].into_iter().flatten() {
                read.absorb(around);
            }
        }
        match self.body.filter(|body| body.get() != "null") {
            Some(body) if kind.is_team_messaging() => read.absorb(without_wrapper(body)).then_some(read),
            Some(body) => read.absorb(body).then_some(read),
            None => Some(read),
        }
    }
}
