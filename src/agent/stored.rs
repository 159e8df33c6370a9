//! The stored form of what an agent session delivers.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::to_raw_value;

use super::delivery::{AgentDelivery, Channel, EndReason, GoneContact, SessionEnded};
use super::event::{AgentEventKind, AgentNotification, AgentOrigin, ContactId, RemoteEnd};
use super::shared::AgentStatus;
use crate::error::Error;
use crate::status::Phase;
use crate::stored::{
    CloudEvent, ErrorForm, Item, Moment, Nanos, VERSION, attribute, chain, check, check_version, json, key,
    known_version, required, shown, through,
};

/// The source of all CloudEvents of agent sessions: a session's id is a secret.
const SOURCE: &str = "/agent-sessions";

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

#[derive(Serialize)]
struct StatusForm<'a> {
    r#type: &'static str,
    v: u64,
    phase: Phase,
    healthy: bool,
    failed_attempts: u32,
    ended: Option<&'a SessionEnded>,
    /// The latest error and its causes, as one text.
    error: Option<String>,
    last_error: Option<ErrorForm>,
}

impl<'a> StatusForm<'a> {
    fn of(status: &'a AgentStatus) -> Self {
        let last_error: Option<&Error> = status.last_error.as_deref();
        Self {
            r#type: "agent_status",
            v: VERSION,
            phase: status.phase,
            healthy: status.is_healthy(),
            failed_attempts: status.failed_attempts,
            ended: status.ended.as_ref(),
            error: last_error.map(chain),
            last_error: last_error.map(ErrorForm::of),
        }
    }
}

#[derive(Deserialize)]
struct StatusRead {
    #[serde(default)]
    r#type: String,
    #[serde(default, deserialize_with = "known_version")]
    v: u64,
    phase: Phase,
    failed_attempts: u32,
    ended: Option<SessionEnded>,
    last_error: Option<ErrorForm>,
}

impl TryFrom<StatusRead> for AgentStatus {
    type Error = String;

    fn try_from(read: StatusRead) -> Result<Self, String> {
        check(&read.r#type, read.v, "agent_status")?;
        Ok(Self {
            phase: read.phase,
            failed_attempts: read.failed_attempts,
            ended: read.ended,
            last_error: read.last_error.map(|error| Arc::new(error.into_error())),
        })
    }
}

through! {
    AgentNotification: EventForm, Item;
    SessionEnded: EndedForm, Item;
    AgentStatus: StatusForm, StatusRead;
}

impl AgentNotification {
    /// The event as a CloudEvent 1.0, in structured mode: one JSON object (`application/cloudevents+json`).
    ///
    /// - `id` is a hash of the [stored form](crate::Delivery#stored-form): the service gives events no ids, so the same
    ///   event in an answer that was sent again, or in a snapshot, has another one.
    /// - `type` is `com.ringcentral.agent_event.` and the [`kind`](AgentEventKind), `subject` the contact
    ///   (`contact/900167658113`) where there is one, `time` when it happened, where the service says that.
    /// - `data` is the event byte for byte, and `origin` (`live`, `snapshot`) an extension attribute.
    ///
    /// # Errors
    /// None is known; the serializer's, if there is one.
    pub fn to_cloud_event(&self) -> serde_json::Result<String> {
        let contact = self.event().contact_id().and_then(|id| attribute(id.as_str()));
        serde_json::to_string(&CloudEvent {
            specversion: "1.0",
            id: key(&to_raw_value(self)?),
            source: SOURCE.to_owned(),
            r#type: format!("com.ringcentral.agent_event.{}", self.event().kind().as_str()),
            subject: contact.map(|id| format!("contact/{id}")),
            time: self.happened_at().map(Moment),
            datacontenttype: "application/json",
            origin: Some(self.origin().as_str()),
            uuid: None,
            subscriptionid: None,
            ownerid: None,
            data: self.raw().get(),
        })
    }
}

impl AgentDelivery {
    /// The delivery as a CloudEvent 1.0, in structured mode: an event as
    /// [`AgentNotification::to_cloud_event`] writes it, anything else with the types `com.ringcentral.gap`,
    /// `com.ringcentral.resumed`, `com.ringcentral.undecodable`, `com.ringcentral.contacts_gone` and
    /// `com.ringcentral.session_ended`, and its [stored form](crate::Delivery#stored-form) as `data`. Their `id` is a
    /// hash of that form.
    ///
    /// # Errors
    /// None is known; the serializer's, if there is one.
    pub fn to_cloud_event(&self) -> serde_json::Result<String> {
        let (name, time) = match self {
            Self::Notification(it) => return it.to_cloud_event(),
            Self::Gap(it) => ("gap", it.since),
            Self::Resumed(it) => ("resumed", Some(it.at)),
            Self::Undecodable(it) => ("undecodable", Some(it.received_at)),
            Self::ContactsGone(_) => ("contacts_gone", None),
            Self::SessionEnded(_) => ("session_ended", None),
        };
        let data = to_raw_value(self)?;
        serde_json::to_string(&CloudEvent {
            specversion: "1.0",
            id: key(&data),
            source: SOURCE.to_owned(),
            r#type: format!("com.ringcentral.{name}"),
            subject: None,
            time: time.map(Moment),
            datacontenttype: "application/json",
            origin: None,
            uuid: None,
            subscriptionid: None,
            ownerid: None,
            data: &data,
        })
    }
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

    /// One of each delivery that is no event.
    fn others() -> Vec<AgentDelivery> {
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
        vec![
            AgentDelivery::Gap(gap),
            AgentDelivery::Resumed(resumed),
            AgentDelivery::Undecodable(undecodable),
            AgentDelivery::ContactsGone(gone.collect()),
            ended(EndReason::Asked, None),
            ended(EndReason::Conflict, Some("m")),
            ended(EndReason::Remote(RemoteEnd::SessionTimeout), None),
            ended(EndReason::Remote(RemoteEnd::RemoteLogoff), None),
            ended(EndReason::Remote(RemoteEnd::Other("x".into())), Some("")),
        ]
    }

    #[test]
    fn every_other_delivery_of_an_agent_session_is_restored() {
        for item in others() {
            let text = serde_json::to_string(&item).unwrap();
            for again in restored(&item) {
                assert_eq!(format!("{again:?}"), format!("{item:?}"));
                assert_eq!(serde_json::to_string(&again).unwrap(), text);
            }
        }
    }

    #[test]
    fn the_status_of_an_agent_session_is_restored_byte_for_byte() {
        let cause = Error::new(crate::ErrorKind::Network, "the connection broke");
        let error = Error::new(crate::ErrorKind::Service, "polls fail").with_status(503).with_source(cause);
        let ended = SessionEnded { reason: EndReason::Remote(RemoteEnd::SessionTimeout), message: Some("m".into()) };
        for (phase, failed_attempts, ended, last_error, healthy) in [
            (Phase::Live, 0, None, None, true),
            (Phase::Reconnecting, 3, None, Some(Arc::new(error)), false),
            (Phase::Closed, 0, Some(ended), None, false),
        ] {
            let status = AgentStatus { phase, failed_attempts, ended: ended.clone(), last_error };
            let text = serde_json::to_string(&status).unwrap();
            let value: Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&value["type"], &value["v"]), (&json!("agent_status"), &json!(1)));
            assert_eq!((&value["phase"], &value["healthy"]), (&json!(phase.as_str()), &json!(healthy)));
            let chain = status.last_error.as_ref().map(|_| "polls fail (HTTP 503): the connection broke");
            assert_eq!(value["error"].as_str(), chain);
            for again in [serde_json::from_str::<AgentStatus>(&text).unwrap(), serde_json::from_value(value).unwrap()] {
                assert_eq!(serde_json::to_string(&again).unwrap(), text);
                assert_eq!((again.phase, again.failed_attempts), (phase, failed_attempts));
                assert_eq!(again.ended, ended);
            }
        }
        let read = serde_json::from_str::<AgentStatus>;
        for (text, named) in [
            (r#"{"type":"agent_status","v":2,"phase":7}"#, "version 2"),
            (r#"{"type":"status","v":1,"phase":"live","failed_attempts":0}"#, "type \"agent_status\""),
            (r#"{"type":"agent_status","phase":"live","failed_attempts":0}"#, "no version"),
            (r#"{"type":"agent_status","v":1,"phase":"asleep","failed_attempts":0}"#, "asleep"),
            (r#"{"type":"agent_status","v":1,"phase":"live"}"#, "failed_attempts"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn a_delivery_of_an_agent_session_is_a_cloud_event() {
        let raw = r#"{"Type":"CallContactEvent","ContactID":"77", "n":1e400}"#;
        let item = notification(raw);
        let delivery = AgentDelivery::Notification(Box::new(item.clone()));
        let text = delivery.to_cloud_event().unwrap();
        assert_eq!(text, item.to_cloud_event().unwrap());
        assert!(text.ends_with(&format!("\"data\":{raw}}}")), "the event is unchanged: {text}");
        let read = |text: &str| {
            #[derive(Deserialize)]
            struct Read {
                id: String,
                source: String,
                r#type: String,
                subject: Option<String>,
                origin: Option<String>,
                data: Box<RawValue>,
            }
            serde_json::from_str::<Read>(text).unwrap()
        };
        let event = read(&text);
        assert_eq!((&*event.r#type, &*event.source), ("com.ringcentral.agent_event.CallContactEvent", SOURCE));
        assert_eq!((event.subject.as_deref(), event.origin.as_deref()), (Some("contact/77"), Some("snapshot")));
        // The same again, and another one.
        let [again, _] = restored(&delivery);
        assert_eq!(again.to_cloud_event().unwrap(), text);
        assert_ne!(read(&notification(r#"{"Type":"Mute"}"#).to_cloud_event().unwrap()).id, event.id);
        for delivery in others() {
            let event = read(&delivery.to_cloud_event().unwrap());
            let stored = serde_json::to_string(&delivery).unwrap();
            assert_eq!(event.data.get(), stored);
            let kind: Value = serde_json::from_str(&stored).unwrap();
            assert_eq!(event.r#type, format!("com.ringcentral.{}", kind["type"].as_str().unwrap()));
            assert_eq!(event.source, SOURCE);
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
