//! The envelope of every event.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::kind::EventKind;
use super::lenient::object;
use super::typed::{Event, Payload, kind_of};
use super::uri::{Normal, Parts};
use crate::ids::{ExtensionId, SubscriptionId};
use crate::json::Json;
use crate::timestamp::Timestamp;
use crate::words::words;

/// One event as sent by the service: envelope and body.
///
/// Parsed from the text of the whole notification, which is available byte for byte
/// ([`raw`](Self::raw), [`raw_body`](Self::raw_body)). That text is authoritative: the typed
/// [`event`](Self::event) is read field by field and omits fields that are missing, unknown, or of
/// a wrong type; numeric ids become text. Store and forward the raw text, and use
/// [`body_as`](Self::body_as) for fields unknown to this crate.
///
/// Cloning shares the raw text and copies the typed event.
#[derive(Clone)]
pub struct Notification {
    raw: Arc<Box<RawValue>>,
    /// Where the body stands in the text.
    body: Option<Range<usize>>,
    /// Where `pn_apns` stands, if it contained the notification.
    nested: Option<Range<usize>>,
    uuid: Option<String>,
    event_uri: String,
    timestamp: Option<Timestamp>,
    subscription_id: Option<SubscriptionId>,
    owner_id: Option<ExtensionId>,
    kind: EventKind,
    event: Event,
    origin: Origin,
    received_at: SystemTime,
}

/// The form of an event's extension in its keys. The service may write `~` for the login's
/// extension in a URI (ringcentral-rest-and-events §5.1), and its id is unknown until something
/// names the owner of the subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// The login's extension by its id, if known.
    Named,
    /// The login's extension as `~`: the form of its keys before the owner is known.
    Tilde,
}

/// How an event became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// The service pushed it.
    Push,
    /// Push missed it, and a later query found it.
    CatchUp,
    /// It describes the initial state, not a change.
    Snapshot,
}

words!("origin", Origin {
    Push = "push",
    CatchUp = "catch_up",
    Snapshot = "snapshot",
});

/// Identifies an event across deliveries: 128 bits of a SHA-256 over `uuid`, event URI, extension
/// and body, or over the whole text without a `uuid`.
///
/// The URI is compared by meaning: without scheme and host, with `~` for every account and
/// extension, its query as a set. It is part of the key because two overlapping filters may deliver
/// one event with one `uuid`, each under its URI (unverified): these are two deliveries. Extension
/// and body are part of it because nothing proves that a `uuid` is unique (found 4.6); `~` is the
/// extension of `ownerId`.
///
/// Keys may be stored: the same notification has the same key in every version of this crate; any
/// change of that is a breaking change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DedupKey([u8; 16]);

impl DedupKey {
    /// Restores a stored key.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The key's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub(crate) fn over(tag: u8, parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        hash.update([tag]);
        for part in parts {
            // The length prefix prevents different lists of parts from producing the same bytes.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let mut key = [0; 16];
        for (to, from) in key.iter_mut().zip(hash.finalize()) {
            *to = from;
        }
        Self(key)
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for DedupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DedupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DedupKey({self})")
    }
}

impl std::str::FromStr for DedupKey {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut key = [0; 16];
        let hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        for (at, byte) in key.iter_mut().enumerate() {
            *byte = text
                .get(2 * at..2 * at + 2)
                .filter(|_| hex)
                .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                .ok_or_else(|| crate::Error::config("a dedup key is 32 hexadecimal digits"))?;
        }
        Ok(Self(key))
    }
}

impl serde::Serialize for DedupKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(32);
        write!(text, "{self}").map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(&text)
    }
}

impl<'de> serde::Deserialize<'de> for DedupKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// JSON that is not a notification, returned unchanged.
pub struct Malformed {
    raw: Box<RawValue>,
    reason: MalformedReason,
}

/// Why JSON is not a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MalformedReason {
    /// It is not a JSON object.
    NotAnObject,
    /// It has no `event`, or an empty or non-text one; neither has its `pn_apns`.
    NoEvent,
}

impl MalformedReason {
    /// The reason as text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAnObject => "the notification is not a JSON object",
            Self::NoEvent => "the notification has no usable event field",
        }
    }
}

impl Malformed {
    /// The original text.
    #[must_use]
    pub fn raw(&self) -> &RawValue {
        &self.raw
    }

    /// The original text.
    #[must_use]
    pub fn into_raw(self) -> Box<RawValue> {
        self.raw
    }

    /// The reason.
    #[must_use]
    pub fn reason(&self) -> MalformedReason {
        self.reason
    }
}

impl fmt::Debug for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Malformed({:?}, {} bytes)", self.reason, self.raw.get().len())
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.as_str())
    }
}

impl std::error::Error for Malformed {}

/// The fields of one envelope. The last usable value of a duplicate key wins; a value of a wrong
/// type counts as absent.
#[derive(Default)]
struct Envelope<'a> {
    uuid: Option<String>,
    event: Option<String>,
    timestamp: Option<Timestamp>,
    subscription_id: Option<SubscriptionId>,
    owner_id: Option<ExtensionId>,
    body: Option<Json<'a>>,
    nested: Option<Json<'a>>,
}

impl<'a> Envelope<'a> {
    fn of(raw: Json<'a>) -> Option<Self> {
        let mut it = Self::default();
        object(raw, &mut |key, value| match key {
            "uuid" => it.uuid = text(value).or(it.uuid.take()),
            "event" if value.get().starts_with('"') => it.event = text(value).or(it.event.take()),
            "timestamp" => it.timestamp = text(value).map(Timestamp::new).or(it.timestamp.take()),
            "subscriptionId" => it.subscription_id = text(value).map(Into::into).or(it.subscription_id.take()),
            "ownerId" => it.owner_id = text(value).map(Into::into).or(it.owner_id.take()),
            "body" if value.get() != "null" || it.body.is_none() => it.body = Some(value),
            "pn_apns" => it.nested = Some(value),
            _ => {}
        })
        .then_some(it)
    }

    /// Fills absent fields from the inner envelope.
    fn or(self, inner: Self) -> Self {
        Self {
            uuid: self.uuid.or(inner.uuid),
            event: self.event.or(inner.event),
            timestamp: self.timestamp.or(inner.timestamp),
            subscription_id: self.subscription_id.or(inner.subscription_id),
            owner_id: self.owner_id.or(inner.owner_id),
            body: self.body.filter(|body| body.get() != "null").or(inner.body).or(self.body),
            nested: self.nested,
        }
    }
}

/// A text or a number; an empty text counts as absent.
fn text(raw: Json<'_>) -> Option<String> {
    raw.text_or_digits().filter(|text| !text.trim().is_empty()).map(Cow::into_owned)
}

impl Notification {
    /// Parses the text of a whole notification.
    ///
    /// A notification inside `pn_apns` is unwrapped if it has an `event` there.
    ///
    /// # Errors
    /// Only if the text is not a JSON object or has no usable `event`; any other oddity leaves a
    /// getter empty. [`Malformed`] returns the text.
    pub fn parse(raw: Box<RawValue>, origin: Origin, received_at: SystemTime) -> Result<Self, Malformed> {
        let Some(mut envelope) = Envelope::of((&raw).into()) else {
            return Err(Malformed { raw, reason: MalformedReason::NotAnObject });
        };
        let nested = envelope.nested.filter(|nested| match Envelope::of(*nested) {
            Some(inner) if inner.event.is_some() => {
                envelope = std::mem::take(&mut envelope).or(inner);
                true
            }
            _ => false,
        });
        let Some(event_uri) = envelope.event else {
            return Err(Malformed { raw, reason: MalformedReason::NoEvent });
        };
        let kind = kind_of(&event_uri, envelope.body);
        let payload = Payload { uri: &event_uri, outer: Some((&raw).into()), nested, body: envelope.body };
        let event = Event::decode(kind, payload);
        Ok(Self {
            body: envelope.body.map(|body| body.place_in(&raw)),
            nested: nested.map(|nested| nested.place_in(&raw)),
            uuid: envelope.uuid,
            event_uri,
            timestamp: envelope.timestamp,
            subscription_id: envelope.subscription_id,
            owner_id: envelope.owner_id,
            kind,
            event,
            origin,
            received_at,
            raw: Arc::new(raw),
        })
    }

    /// The service's id of this event, as opaque text.
    #[must_use]
    pub fn uuid(&self) -> Option<&str> {
        self.uuid.as_deref()
    }

    /// The filter that fired (`event`). Ids and `~` may differ from the subscribed filter; see
    /// [`EventFilter::matches_uri`](super::EventFilter::matches_uri).
    #[must_use]
    pub fn event_uri(&self) -> &str {
        &self.event_uri
    }

    /// When the service sent it, which may be long after the event.
    #[must_use]
    pub fn timestamp(&self) -> Option<&Timestamp> {
        self.timestamp.as_ref()
    }

    /// The subscription; the service sometimes omits it.
    #[must_use]
    pub fn subscription_id(&self) -> Option<&SubscriptionId> {
        self.subscription_id.as_ref()
    }

    /// The extension that owns the subscription; the service leaves it out at times. Of
    /// what catch-up found it is the one that the subscription's other events name.
    #[must_use]
    pub fn owner_id(&self) -> Option<&ExtensionId> {
        self.owner_id.as_ref()
    }

    /// With the owner of the subscription, where the text does not name it: what a
    /// catch-up source finds has `~` in its URI.
    pub(crate) fn owned_by(mut self, owner: Option<&ExtensionId>) -> Self {
        self.owner_id = self.owner_id.or_else(|| owner.cloned());
        self
    }

    /// The event.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// The event, without the envelope.
    #[must_use]
    pub fn into_event(self) -> Event {
        self.event
    }

    /// Which event this is, by its URI; posts and chats, which come under each other's
    /// URIs, by their `eventType`. The [`event`](Self::event) is of that kind, except when
    /// its body is not a JSON object: then it is [`Event::Unknown`].
    #[must_use]
    pub fn kind(&self) -> EventKind {
        self.kind
    }

    /// How it became known.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// When this process received it, by the wall clock.
    #[must_use]
    pub fn received_at(&self) -> SystemTime {
        self.received_at
    }

    /// The whole notification, byte for byte.
    #[must_use]
    pub fn raw(&self) -> &RawValue {
        &self.raw
    }

    /// The body, byte for byte; `None` without a body, as for the flat kinds
    /// ([`Event::MissedCall`] and similar ones), whose fields are in [`raw`](Self::raw).
    #[must_use]
    pub fn raw_body(&self) -> Option<&RawValue> {
        // It was cut out of a valid text, so that it is valid.
        serde_json::from_str(self.part(self.body.as_ref())?.get()).ok()
    }

    /// A part of the text.
    fn part(&self, place: Option<&Range<usize>>) -> Option<Json<'_>> {
        Json::at(&self.raw, place?)
    }

    /// Parses the body as your type; without a body, the notification itself (the one in `pn_apns`,
    /// if it was there).
    ///
    /// # Errors
    /// If the JSON does not match `T`.
    pub fn body_as<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        let source = self.part(self.body.as_ref().or(self.nested.as_ref()));
        serde_json::from_str(source.map_or(self.raw.get(), Json::get))
    }

    /// What makes two deliveries the same event.
    #[must_use]
    pub fn dedup_key(&self) -> DedupKey {
        match &self.uuid {
            Some(_) => self.dedup_key_at(None, &self.canonical_uri()),
            None => self.dedup_key_at(None, ""),
        }
    }

    /// The event URI by its meaning.
    pub(crate) fn canonical_uri(&self) -> String {
        Normal::of(&self.event_uri).canonical()
    }

    /// As [`dedup_key`](Self::dedup_key) for what came at `position` of a transport: without a uuid, two notifications of
    /// the same text in two places are two. `uri` is the [`canonical_uri`](Self::canonical_uri).
    pub(crate) fn dedup_key_at(&self, position: Option<&str>, uri: &str) -> DedupKey {
        match (&self.uuid, position) {
            (Some(uuid), _) => DedupKey::over(6, &[uuid, uri, self.extension(None), &self.content()]),
            (None, Some(position)) => DedupKey::over(0, &[self.raw.get(), position]),
            (None, None) => DedupKey::over(0, &[self.raw.get()]),
        }
    }

    /// The URI by its meaning, the extension, and what the event says without its envelope:
    /// the same for one event that two subscriptions deliver.
    pub(crate) fn content_key(&self) -> DedupKey {
        DedupKey::over(3, &[&self.canonical_uri(), self.extension_by(Spelling::Tilde, None), &self.content()])
    }

    /// The filter that it comes by: the URI by its meaning, and the extension.
    pub(crate) fn scope(&self, spelling: Spelling) -> String {
        format!("{} {}", self.canonical_uri(), self.extension_by(spelling, None))
    }

    /// The content: the body, or for a flat kind the fields outside the envelope.
    fn content(&self) -> Cow<'_, str> {
        if let Some(body) = self.part(self.body.as_ref()) {
            return Cow::Borrowed(body.get());
        }
        let mut text = String::new();
        let around = self.part(self.nested.as_ref()).unwrap_or_else(|| Json::from(&*self.raw));
        object(around, &mut |key, value| {
            if !matches!(key, "uuid" | "event" | "timestamp" | "subscriptionId" | "ownerId" | "pn_ttl") {
                text.push_str(key);
                text.push(':');
                text.push_str(value.get());
                text.push(',');
            }
        });
        Cow::Owned(text)
    }

    /// The extension that it is about: `in_body`, else the one in its URI, else, for `~`,
    /// the owner of the subscription. Empty where nothing names one.
    pub(crate) fn extension<'a>(&'a self, in_body: Option<&'a ExtensionId>) -> &'a str {
        let in_uri = Parts::of(&self.event_uri);
        let in_uri = in_uri.after("extension").or_else(|| in_uri.after("extensions"));
        let is_id = |id: &&str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
        let owner = self.owner_id.as_ref().map(ExtensionId::as_str);
        in_body.map(ExtensionId::as_str).filter(is_id).or(in_uri.filter(is_id)).or(owner).unwrap_or_default()
    }

    /// Likewise, by a spelling of the own one.
    pub(crate) fn extension_by<'a>(&'a self, spelling: Spelling, in_body: Option<&'a ExtensionId>) -> &'a str {
        let named = self.extension(in_body);
        let is_own = self.owner_id.as_ref().is_some_and(|owner| owner.as_str() == named);
        if is_own && spelling == Spelling::Tilde { "" } else { named }
    }

    /// What the event is about, where its body says so: events about different things are independent of each other.
    pub(crate) fn resource(&self) -> Option<String> {
        let (what, id) = match &self.event {
            Event::InstantMessage(it) => ("conversation", it.conversation_id()?.as_str()),
            Event::FaxMessage(it) | Event::VoicemailMessage(it) => ("message", it.id.as_ref()?.as_str()),
            Event::TeamMessagingPost(it) => ("chat", it.group_id.as_ref()?.as_str()),
            Event::TeamMessagingChat(it) => ("chat", it.id.as_ref()?.as_str()),
            Event::TeamMessagingWebhook(it) => ("webhook", it.id.as_ref()?.as_str()),
            _ => match self.sequence()?.resource {
                Resource::Presence(id) => ("presence", id),
                Resource::PresenceLines(id) => ("lines", id),
                Resource::TelephonySession(id) => ("session", id),
            },
        };
        Some(format!("{what}/{id}"))
    }

    /// Where this stands among the events of the same resource, where the body says
    /// so (presence and telephony sessions). They may arrive out of order.
    #[must_use]
    pub fn sequence(&self) -> Option<Sequence<'_>> {
        let in_uri = || Parts::of(&self.event_uri).after("extension");
        let (resource, number) = match &self.event {
            Event::ExtensionPresence(it)
            | Event::DetailedExtensionPresence(it)
            | Event::DetailedExtensionPresenceWithSip(it)
            | Event::AccountPresence(it) => {
                let extension = it.extension_id.as_ref().map(ExtensionId::as_str).filter(|id| *id != "~");
                (Resource::Presence(extension.or_else(in_uri)?), it.sequence?)
            }
            Event::ExtensionPresenceLine(it) => (Resource::PresenceLines(in_uri()?), it.sequence?),
            Event::AccountTelephonySessions(it) | Event::ExtensionTelephonySessions(it) => {
                (Resource::TelephonySession(it.telephony_session_id.as_ref()?.as_str()), it.sequence?)
            }
            _ => return None,
        };
        Some(Sequence { resource, number })
    }
}

/// A position among the events of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Sequence<'a> {
    /// The resource; numbers of different resources are unrelated.
    pub resource: Resource<'a>,
    /// The body's `sequence`: higher is later. May have holes.
    pub number: i64,
}

/// A resource with numbered events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resource<'a> {
    /// Presence of this extension.
    Presence(&'a str),
    /// The lines that this extension monitors.
    PresenceLines(&'a str),
    /// This telephony session.
    TelephonySession(&'a str),
}

/// One line without the account's data: kind, uuid, time, and the origin if it was not pushed.
impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.uuid.as_deref().unwrap_or("without uuid").escape_debug())?;
        if let Some(sent) = &self.timestamp {
            write!(f, ", sent {}", sent.as_str().escape_debug())?;
        }
        match self.origin {
            Origin::Push => Ok(()),
            Origin::CatchUp => f.write_str(", found by catch-up"),
            Origin::Snapshot => f.write_str(", part of a snapshot"),
        }
    }
}

/// Kind, ids and URI; never the body.
impl fmt::Debug for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notification")
            .field("kind", &self.kind)
            .field("uuid", &self.uuid)
            .field("event_uri", &self.event_uri)
            .field("timestamp", &self.timestamp)
            .field("subscription_id", &self.subscription_id)
            .field("owner_id", &self.owner_id)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}
