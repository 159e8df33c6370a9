//! The stored form of the items of a stream.

use std::fmt;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::form::{Moment, Nanos, VERSION, check, check_version, known_version, required, shown, through};
use crate::delivery::{
    Certainty, Changes, Delivery, DisabledFilter, Gap, GapCause, OpenReason, Recreated, Resumed, Undecodable,
    Unrecovered,
};
use crate::event::{EventKind, GapClosure, Notification, Origin};
use crate::ids::{ExtensionId, SubscriptionId};
use crate::timestamp::Timestamp;

/// Every field that an item can have. Fields with other names are ignored.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Item {
    pub(crate) r#type: String,
    #[serde(deserialize_with = "known_version")]
    pub(crate) v: u64,
    pub(crate) origin: Option<String>,
    pub(crate) received_ns: Option<Nanos>,
    owner_id: Option<String>,
    pub(crate) raw: Option<String>,
    cause: Option<String>,
    events: Option<usize>,
    pause_ns: Option<u64>,
    certainty: Option<Certainty>,
    since: Option<Moment>,
    until: Option<Moment>,
    lost: Option<u64>,
    filters: Vec<FilterOrText>,
    complete: Option<bool>,
    at: Option<Moment>,
    old_id: Option<String>,
    new_id: Option<String>,
    open: Vec<Unrecovered>,
    pub(crate) reason: Option<String>,
    #[cfg(feature = "agent")]
    pub(crate) batch: Option<u64>,
    #[cfg(feature = "agent")]
    pub(crate) batch_index: Option<usize>,
    #[cfg(feature = "agent")]
    pub(crate) contacts: Vec<Contact>,
    #[cfg(feature = "agent")]
    pub(crate) remote: Option<String>,
    #[cfg(feature = "agent")]
    pub(crate) message: Option<String>,
}

/// A contact of an agent session.
#[cfg(feature = "agent")]
#[derive(Deserialize)]
pub(crate) struct Contact {
    pub(crate) contact_id: String,
    pub(crate) channel: String,
}

/// A filter alone, as in a gap, or with why it is disabled.
struct FilterOrText(DisabledFilter);

/// Read without `RawValue`, which only `serde_json` has.
#[derive(Deserialize)]
struct FilterRead {
    filter: String,
    #[serde(default)]
    reason: String,
    message: Option<String>,
}

impl<'de> Deserialize<'de> for FilterOrText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = FilterOrText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a filter")
            }

            fn visit_str<E>(self, filter: &str) -> Result<FilterOrText, E> {
                Ok(FilterOrText(DisabledFilter { filter: filter.to_owned(), ..DisabledFilter::default() }))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FilterOrText, A::Error> {
                let FilterRead { filter, reason, message } = FilterRead::deserialize(MapAccessDeserializer::new(map))?;
                Ok(FilterOrText(DisabledFilter { filter, reason, message }))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// The JSON of a text as the service wrote it.
pub(crate) fn json(text: Option<String>) -> Result<Box<RawValue>, String> {
    RawValue::from_string(required(text, "raw")?).map_err(|error| format!("`raw` is not JSON: {error}"))
}

#[derive(Serialize)]
struct EventForm<'a> {
    r#type: &'static str,
    v: u64,
    uuid: Option<&'a str>,
    kind: EventKind,
    origin: Origin,
    received_ns: Nanos,
    event: &'a str,
    timestamp: Option<&'a Timestamp>,
    subscription_id: Option<&'a SubscriptionId>,
    owner_id: Option<&'a ExtensionId>,
    raw: &'a str,
}

impl<'a> EventForm<'a> {
    fn of(it: &'a Notification) -> Self {
        Self {
            r#type: "event",
            v: VERSION,
            uuid: it.uuid(),
            kind: it.kind(),
            origin: it.origin(),
            received_ns: Nanos(it.received_at()),
            event: it.event_uri(),
            timestamp: it.timestamp(),
            subscription_id: it.subscription_id(),
            owner_id: it.owner_id(),
            raw: it.raw().get(),
        }
    }
}

impl TryFrom<Item> for Notification {
    type Error = String;

    fn try_from(item: Item) -> Result<Self, String> {
        check(&item.r#type, item.v, "event")?;
        let origin: Origin =
            required(item.origin, "origin")?.parse().map_err(|error: crate::Error| error.to_string())?;
        let received_at = required(item.received_ns, "received_ns")?.0;
        let notification = Self::parse(json(item.raw)?, origin, received_at).map_err(|error| error.to_string())?;
        // The text of what catch-up found does not name the owner.
        Ok(notification.owned_by(item.owner_id.map(ExtensionId::from).as_ref()))
    }
}

#[derive(Serialize)]
struct CauseForm {
    cause: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pause_ns: Option<u64>,
}

impl CauseForm {
    fn of(cause: &GapCause) -> Self {
        let (events, pause) = match cause {
            GapCause::ServiceBufferFull { events } => (Some(*events), None),
            GapCause::ServiceBufferAged { pause } => (None, Some(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX))),
            _ => (None, None),
        };
        Self { cause: cause.as_str(), events, pause_ns: pause }
    }
}

#[derive(Deserialize)]
struct CauseRead {
    cause: String,
    events: Option<usize>,
    pause_ns: Option<u64>,
}

/// The causes that are a word alone.
const CAUSES: [GapCause; 20] = [
    GapCause::LeaseExpired,
    GapCause::SubscriptionGone,
    GapCause::SubscriptionInactive,
    GapCause::TransportRefused,
    GapCause::SessionLost,
    GapCause::TooLarge,
    GapCause::Unreadable,
    GapCause::Overflow,
    GapCause::RegionChanged,
    GapCause::ConnectionBroken,
    GapCause::KeyUnknown,
    GapCause::AddressMoved,
    GapCause::EndedOffline,
    GapCause::TransportChanged,
    GapCause::PolledInPart,
    GapCause::NotPolled,
    GapCause::Discarded,
    GapCause::EventsMissed,
    GapCause::AnswerLost,
    GapCause::SessionJoined,
];

impl TryFrom<CauseRead> for GapCause {
    type Error = String;

    fn try_from(CauseRead { cause, events, pause_ns }: CauseRead) -> Result<Self, String> {
        Ok(match cause.as_str() {
            "service_buffer_full" => Self::ServiceBufferFull { events: required(events, "events")? },
            "service_buffer_aged" => {
                Self::ServiceBufferAged { pause: Duration::from_nanos(required(pause_ns, "pause_ns")?) }
            }
            word => CAUSES.into_iter().find(|cause| cause.as_str() == word).unwrap_or(Self::Unknown),
        })
    }
}

#[derive(Serialize)]
struct GapForm<'a> {
    r#type: &'static str,
    v: u64,
    #[serde(flatten)]
    cause: CauseForm,
    detail: String,
    certainty: Certainty,
    since: Option<Moment>,
    until: Option<Moment>,
    lost: Option<u64>,
    filters: &'a [String],
}

impl<'a> GapForm<'a> {
    fn of(gap: &'a Gap) -> Self {
        Self {
            r#type: "gap",
            v: VERSION,
            cause: CauseForm::of(&gap.cause),
            detail: gap.cause.to_string(),
            certainty: gap.certainty,
            since: gap.since.map(Moment),
            until: gap.until.map(Moment),
            lost: gap.lost,
            filters: &gap.filters,
        }
    }
}

impl TryFrom<Item> for Gap {
    type Error = String;

    fn try_from(item: Item) -> Result<Self, String> {
        check(&item.r#type, item.v, "gap")?;
        let cause = required(item.cause, "cause")?;
        Ok(Self {
            cause: CauseRead { cause, events: item.events, pause_ns: item.pause_ns }.try_into()?,
            certainty: required(item.certainty, "certainty")?,
            since: item.since.map(|it| it.0),
            until: item.until.map(|it| it.0),
            lost: item.lost,
            filters: item.filters.into_iter().map(|it| it.0.filter).collect(),
        })
    }
}

#[derive(Serialize)]
struct ReasonForm {
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Moment>,
}

impl ReasonForm {
    fn of(reason: &OpenReason) -> Self {
        let until = match reason {
            OpenReason::NotSettled { until } => Some(Moment(*until)),
            _ => None,
        };
        Self { reason: reason.as_str(), until }
    }
}

#[derive(Deserialize)]
struct ReasonRead {
    reason: String,
    until: Option<Moment>,
}

/// The reasons that are a word alone.
const REASONS: [OpenReason; 12] = [
    OpenReason::NoSource,
    OpenReason::InPart,
    OpenReason::NoPosition,
    OpenReason::Deleted,
    OpenReason::OutOfReach,
    OpenReason::TooMuch,
    OpenReason::Unread,
    OpenReason::NotAnswered,
    OpenReason::Refused,
    OpenReason::NotFound,
    OpenReason::CutShort,
    OpenReason::ClockSet,
];

impl TryFrom<ReasonRead> for OpenReason {
    type Error = String;

    fn try_from(ReasonRead { reason, until }: ReasonRead) -> Result<Self, String> {
        if reason == "not_settled" {
            return Ok(Self::NotSettled { until: required(until, "until")?.0 });
        }
        Ok(REASONS.into_iter().find(|it| it.as_str() == reason).unwrap_or(Self::Unknown))
    }
}

#[derive(Serialize)]
struct OpenForm<'a> {
    filter: &'a str,
    closure: GapClosure,
    changes: Changes,
    #[serde(flatten)]
    reason: ReasonForm,
}

impl<'a> OpenForm<'a> {
    fn of(it: &'a Unrecovered) -> Self {
        Self { filter: &it.filter, closure: it.closure, changes: it.changes, reason: ReasonForm::of(&it.reason) }
    }
}

#[derive(Deserialize)]
struct OpenRead {
    filter: String,
    closure: GapClosure,
    changes: Changes,
    reason: String,
    until: Option<Moment>,
}

impl TryFrom<OpenRead> for Unrecovered {
    type Error = String;

    fn try_from(OpenRead { filter, closure, changes, reason, until }: OpenRead) -> Result<Self, String> {
        Ok(Self { filter, closure, changes, reason: ReasonRead { reason, until }.try_into()? })
    }
}

#[derive(Serialize)]
struct ResumedForm<'a> {
    r#type: &'static str,
    v: u64,
    complete: bool,
    at: Moment,
    old_id: Option<&'a SubscriptionId>,
    new_id: Option<&'a SubscriptionId>,
    /// The filters of `open`.
    unrecovered: Vec<&'a str>,
    open: &'a [Unrecovered],
}

impl<'a> ResumedForm<'a> {
    fn of(resumed: &'a Resumed) -> Self {
        let recreated = resumed.recreated.as_ref();
        Self {
            r#type: "resumed",
            v: VERSION,
            complete: resumed.complete,
            at: Moment(resumed.at),
            old_id: recreated.map(|it| &it.old),
            new_id: recreated.map(|it| &it.new),
            unrecovered: resumed.unrecovered.iter().map(|open| open.filter.as_str()).collect(),
            open: &resumed.unrecovered,
        }
    }
}

impl TryFrom<Item> for Resumed {
    type Error = String;

    fn try_from(item: Item) -> Result<Self, String> {
        check(&item.r#type, item.v, "resumed")?;
        let recreated = match (item.old_id, item.new_id) {
            (None, None) => None,
            (old, new) => {
                let (old, new) = (required(old, "old_id")?.into(), required(new, "new_id")?.into());
                Some(Recreated { old, new })
            }
        };
        Ok(Self {
            complete: required(item.complete, "complete")?,
            at: required(item.at, "at")?.0,
            recreated,
            unrecovered: item.open,
        })
    }
}

#[derive(Serialize)]
struct UndecodableForm<'a> {
    r#type: &'static str,
    v: u64,
    reason: &'a str,
    bytes: usize,
    received_ns: Nanos,
    raw: &'a str,
}

impl<'a> UndecodableForm<'a> {
    fn of(it: &'a Undecodable) -> Self {
        Self {
            r#type: "undecodable",
            v: VERSION,
            reason: &it.reason,
            bytes: it.raw.len(),
            received_ns: Nanos(it.received_at),
            raw: &it.raw,
        }
    }
}

impl TryFrom<Item> for Undecodable {
    type Error = String;

    fn try_from(item: Item) -> Result<Self, String> {
        check(&item.r#type, item.v, "undecodable")?;
        Ok(Self {
            reason: required(item.reason, "reason")?,
            // A log may leave it out, since it may hold secrets.
            raw: item.raw.unwrap_or_default().into(),
            received_at: required(item.received_ns, "received_ns")?.0,
        })
    }
}

#[derive(Serialize)]
struct DisabledForm<'a> {
    r#type: &'static str,
    v: u64,
    filters: &'a [DisabledFilter],
}

/// Writes the [stored form](Delivery#stored-form).
impl Serialize for Delivery {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Notification(it) => it.serialize(serializer),
            Self::Gap(it) => it.serialize(serializer),
            Self::Resumed(it) => it.serialize(serializer),
            Self::Undecodable(it) => it.serialize(serializer),
            Self::FiltersDisabled(filters) => {
                DisabledForm { r#type: "filters_disabled", v: VERSION, filters }.serialize(serializer)
            }
        }
    }
}

impl TryFrom<Item> for Delivery {
    type Error = String;

    fn try_from(item: Item) -> Result<Self, String> {
        check_version(item.v)?;
        match item.r#type.as_str() {
            "event" => item.try_into().map(Box::new).map(Self::Notification),
            "gap" => item.try_into().map(Self::Gap),
            "resumed" => item.try_into().map(Self::Resumed),
            "undecodable" => item.try_into().map(Self::Undecodable),
            "filters_disabled" => Ok(Self::FiltersDisabled(item.filters.into_iter().map(|it| it.0).collect())),
            other => Err(format!("{:?} is no type of delivery", shown(other))),
        }
    }
}

/// Reads the [stored form](Delivery#stored-form).
impl<'de> Deserialize<'de> for Delivery {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Item::deserialize(deserializer)?.try_into().map_err(serde::de::Error::custom)
    }
}

through! {
    Notification: EventForm, Item;
    Gap: GapForm, Item;
    Resumed: ResumedForm, Item;
    Undecodable: UndecodableForm, Item;
    GapCause: CauseForm, CauseRead;
    OpenReason: ReasonForm, ReasonRead;
    Unrecovered: OpenForm, OpenRead;
}
