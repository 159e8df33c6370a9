//! The stored form of what an agent session delivers.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::delivery::{AgentDelivery, Channel, EndReason, GoneContact, SessionEnded};
use super::event::{AgentEventKind, AgentNotification, AgentOrigin, RemoteEnd};
use crate::stored::{Item, Nanos, VERSION, check, check_version, json, required, shown, through};

#[derive(Serialize)]
struct EventForm<'a> {
    r#type: &'static str,
    v: u64,
    kind: AgentEventKind,
    contact_id: Option<&'a str>,
    origin: AgentOrigin,
    batch: u64,
    batch_index: usize,
    received_ns: Nanos,
    raw: &'a str,
}

impl<'a> EventForm<'a> {
    fn of(it: &'a AgentNotification) -> Self {
        Self {
            r#type: "agent_event",
            v: VERSION,
            kind: it.event().kind(),
            contact_id: it.event().contact_id(),
            origin: it.origin(),
            batch: it.batch(),
            batch_index: it.index(),
            received_ns: Nanos(it.received_at()),
            raw: it.raw().get().get(),
        }
    }
}

impl TryFrom<Item> for AgentNotification {
    type Error = String;

    fn try_from(item: Item) -> Result<Self, String> {
        check(&item.r#type, item.v, "agent_event")?;
        let (batch, index) = (required(item.batch, "batch")?, required(item.batch_index, "batch_index")?);
        let origin: AgentOrigin =
            required(item.origin, "origin")?.parse().map_err(|error: crate::Error| error.to_string())?;
        let received_at = required(item.received_ns, "received_ns")?.0;
        Ok(Self::new(json(item.raw)?, batch, index, received_at).with_origin(origin))
    }
}

#[derive(Serialize)]
struct EndedForm<'a> {
    r#type: &'static str,
    v: u64,
    reason: &'static str,
    /// The service's word for it, if another program ended the session.
    remote: Option<&'a str>,
    message: Option<&'a str>,
}

impl<'a> EndedForm<'a> {
    fn of(it: &'a SessionEnded) -> Self {
        let remote = match &it.reason {
            EndReason::Remote(remote) => Some(remote.as_str()),
            EndReason::Asked | EndReason::Conflict => None,
        };
        let (reason, message) = (it.reason.as_str(), it.message.as_deref());
        Self { r#type: "session_ended", v: VERSION, reason, remote, message }
    }
}

impl TryFrom<Item> for SessionEnded {
    type Error = String;

    fn try_from(item: Item) -> Result<Self, String> {
        check(&item.r#type, item.v, "session_ended")?;
        let reason = required(item.reason, "reason")?;
        let reason = match (reason.as_str(), item.remote) {
            (_, Some(remote)) => EndReason::Remote(RemoteEnd::from(remote.as_str())),
            ("asked", None) => EndReason::Asked,
            ("conflict", None) => EndReason::Conflict,
            // A reason of a later version.
            (other, None) => EndReason::Remote(RemoteEnd::Other(other.to_owned())),
        };
        Ok(Self { reason, message: item.message })
    }
}

#[derive(Serialize)]
struct GoneForm<'a> {
    r#type: &'static str,
    v: u64,
    contacts: &'a [GoneContact],
}

/// Writes the [stored form](crate::Delivery#stored-form).
impl Serialize for AgentDelivery {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Notification(it) => it.serialize(serializer),
            Self::Gap(it) => it.serialize(serializer),
            Self::Resumed(it) => it.serialize(serializer),
            Self::Undecodable(it) => it.serialize(serializer),
            Self::ContactsGone(contacts) => {
                GoneForm { r#type: "contacts_gone", v: VERSION, contacts }.serialize(serializer)
            }
            Self::SessionEnded(it) => it.serialize(serializer),
        }
    }
}

impl TryFrom<Item> for AgentDelivery {
    type Error = String;

    fn try_from(item: Item) -> Result<Self, String> {
        check_version(item.v)?;
        match item.r#type.as_str() {
            "agent_event" => item.try_into().map(Box::new).map(Self::Notification),
            "gap" => item.try_into().map(Self::Gap),
            "resumed" => item.try_into().map(Self::Resumed),
            "undecodable" => item.try_into().map(Self::Undecodable),
            "contacts_gone" => {
                let contacts = item.contacts.into_iter().map(|it| {
                    let channel: Channel = it.channel.parse().map_err(|error: crate::Error| error.to_string())?;
                    Ok(GoneContact { contact_id: it.contact_id, channel })
                });
                contacts.collect::<Result<_, String>>().map(Self::ContactsGone)
            }
            "session_ended" => item.try_into().map(Self::SessionEnded),
            other => Err(format!("{:?} is no type of delivery of an agent session", shown(other))),
        }
    }
}

/// Reads the [stored form](crate::Delivery#stored-form).
impl<'de> Deserialize<'de> for AgentDelivery {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Item::deserialize(deserializer)?.try_into().map_err(serde::de::Error::custom)
    }
}

through! {
    AgentNotification: EventForm, Item;
    SessionEnded: EndedForm, Item;
}
