//! The stored form of what an agent session delivers.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::delivery::{AgentDelivery, Channel, EndReason, GoneContact, SessionEnded};
use super::event::{AgentEventKind, AgentNotification, AgentOrigin, ContactId, RemoteEnd};
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
            contact_id: it.event().contact_id().map(ContactId::as_str),
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
                    Ok(GoneContact { contact_id: it.contact_id.into(), channel })
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use serde_json::value::RawValue;
    use serde_json::{Value, json};

    use super::*;
    use crate::delivery::{Certainty, Gap, GapCause, Resumed, Undecodable};

    fn restored(item: &AgentDelivery) -> [AgentDelivery; 2] {
        let text = serde_json::to_string(item).unwrap();
        [serde_json::from_str(&text).unwrap(), serde_json::from_value(serde_json::to_value(item).unwrap()).unwrap()]
    }

    fn notification(raw: &str) -> AgentNotification {
        let at = SystemTime::UNIX_EPOCH + Duration::new(1_714_979_289, 5);
        let raw = RawValue::from_string(raw.to_owned()).unwrap();
        AgentNotification::new(raw, 3, 4, at).with_origin(AgentOrigin::Snapshot)
    }

    #[test]
    fn every_event_of_an_agent_is_restored_byte_for_byte() {
        let fixtures = include_str!("../../tests/fixtures/agent/events.jsonl");
        let odd = [r#"{"Type":"Mute","a":1e400,"a":"\u0000\ud800" }"#, "[ 1e400 ]", "null", "\"\\ud800\"", "{\n}"];
        for raw in fixtures.lines().chain(odd) {
            let item = notification(raw);
            let stored = serde_json::to_value(&item).unwrap();
            assert_eq!((&stored["type"], &stored["v"]), (&json!("agent_event"), &json!(1)));
            assert_eq!(stored["kind"], item.event().kind().as_str());
            assert_eq!(stored["contact_id"].as_str(), item.event().contact_id().map(ContactId::as_str));
            for again in restored(&AgentDelivery::Notification(Box::new(item.clone()))) {
                assert!(matches!(again, AgentDelivery::Notification(again) if *again == item), "{raw}");
            }
        }
    }

    #[test]
    fn every_other_delivery_of_an_agent_session_is_restored() {
        let at = SystemTime::UNIX_EPOCH + Duration::new(1_714_979_289, 5);
        let gap = Gap {
            cause: GapCause::EventsMissed,
            certainty: Certainty::Certain,
            since: Some(at),
            until: None,
            lost: None,
            filters: Vec::new(),
        };
        let resumed = Resumed { complete: false, at, recreated: None, unrecovered: Vec::new() };
        let undecodable = Undecodable { reason: "why".into(), raw: "{".into(), received_at: at };
        let gone = Channel::ALL.iter().map(|channel| GoneContact { contact_id: "1".into(), channel: *channel });
        let ended = |reason, message: Option<&str>| {
            AgentDelivery::SessionEnded(SessionEnded { reason, message: message.map(Into::into) })
        };
        for item in [
            AgentDelivery::Gap(gap),
            AgentDelivery::Resumed(resumed),
            AgentDelivery::Undecodable(undecodable),
            AgentDelivery::ContactsGone(gone.collect()),
            ended(EndReason::Asked, None),
            ended(EndReason::Conflict, Some("m")),
            ended(EndReason::Remote(RemoteEnd::SessionTimeout), None),
            ended(EndReason::Remote(RemoteEnd::RemoteLogoff), None),
            ended(EndReason::Remote(RemoteEnd::Other("x".into())), Some("")),
        ] {
            for again in restored(&item) {
                assert_eq!(format!("{again:?}"), format!("{item:?}"));
            }
        }
    }

    #[test]
    fn a_delivery_of_an_agent_session_is_one_line_without_the_accounts_data() {
        let raw = r#"{"Type":"CallContactEvent","ContactID":"77","ANI":"+16505550100"}"#;
        let ended = SessionEnded { reason: EndReason::Conflict, message: Some("secret".into()) };
        let gone = GoneContact { contact_id: "77".into(), channel: Channel::Voice };
        for (delivery, want) in [
            (
                AgentDelivery::Notification(Box::new(notification(raw))),
                "CallContactEvent, contact 77, part of a snapshot",
            ),
            (AgentDelivery::ContactsGone(vec![gone]), "1 contacts ended during a gap"),
            (AgentDelivery::SessionEnded(ended), "the session ended: conflict"),
        ] {
            assert_eq!(delivery.to_string(), want);
        }
    }

    #[test]
    fn unknown_words_of_an_agent_session_are_read_or_refused_by_name() {
        let read = serde_json::from_value::<AgentDelivery>;
        let AgentDelivery::SessionEnded(ended) =
            read(json!({"type": "session_ended", "v": 1, "reason": "flare"})).unwrap()
        else {
            panic!("an end")
        };
        assert_eq!(ended.reason, EndReason::Remote(RemoteEnd::Other("flare".into())));
        let event =
            json!({"type": "agent_event", "v": 1, "origin": "live", "batch": 1, "batch_index": 0, "received_ns": 1});
        let with = |field: &str, value: Value| {
            let mut event = event.clone();
            event[field] = value;
            event
        };
        for (item, named) in [
            (event.clone(), "`raw` is missing"),
            (with("raw", json!("{")), "not JSON"),
            (with("origin", json!("mail")), "origin \"mail\""),
            (with("batch", Value::Null), "`batch` is missing"),
            (with("v", json!(2)), "version 2"),
            (with("type", json!("event")), "\"event\" is no type of delivery of an agent session"),
            (json!({"type": "contacts_gone", "v": 1, "contacts": [{"contact_id": "1", "channel": "fax"}]}), "\"fax\""),
        ] {
            let error = read(item.clone()).unwrap_err().to_string();
            assert!(error.contains(named), "{item}: {error}");
        }
    }
}
