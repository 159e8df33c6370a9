//! Deliveries as CloudEvents.

use std::time::SystemTime;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::form::Moment;
use crate::delivery::Delivery;
use crate::event::{DedupKey, Notification};

/// The source of what is no event: the subscriptions of the login.
const SUBSCRIPTION: &str = "/restapi/v1.0/subscription";
/// Sets the keys of deliveries apart from those of notifications.
const KEY_TAG: u8 = 9;

#[derive(Serialize)]
pub(crate) struct CloudEvent<'a> {
    pub(crate) specversion: &'static str,
    pub(crate) id: String,
    pub(crate) source: String,
    pub(crate) r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time: Option<Moment>,
    pub(crate) datacontenttype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uuid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subscriptionid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ownerid: Option<&'a str>,
    pub(crate) data: &'a RawValue,
}

/// The id of a delivery: a hash of its stored form.
pub(crate) fn key(stored: &RawValue) -> String {
    DedupKey::over(KEY_TAG, &[stored.get()]).to_string()
}

/// A value of an attribute: CloudEvents allow no control characters in one, and no empty one.
pub(crate) fn attribute<T: AsRef<str>>(text: T) -> Option<T> {
    let is_plain = !text.as_ref().is_empty() && !text.as_ref().contains(char::is_control);
    is_plain.then_some(text)
}

/// A URI reference: what cannot stand in one is percent-encoded.
fn reference(uri: &str) -> String {
    let mut text = String::with_capacity(uri.len());
    for byte in uri.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

impl Notification {
    /// The notification as a CloudEvent 1.0, in structured mode: one JSON object (`application/cloudevents+json`).
    ///
    /// - `id` is the [`dedup_key`](Self::dedup_key): the same for each delivery of one event.
    /// - `type` is `com.ringcentral.event.` and the [`kind`](Self::kind), `source` the event URI, `time` the timestamp
    ///   in UTC, `subject` the resource where the body names one, such as `session/s-1`.
    /// - `data` is the body byte for byte; without one, as for flat kinds, the whole notification.
    /// - `origin`, `uuid`, `subscriptionid` and `ownerid` are extension attributes.
    ///
    /// An attribute that the service left out, or that has control characters, is absent. Line breaks in the body
    /// remain. [`Delivery::to_cloud_event`](crate::Delivery::to_cloud_event) has gaps too.
    ///
    /// # Errors
    /// None is known; the serializer's, if there is one.
    pub fn to_cloud_event(&self) -> serde_json::Result<String> {
        serde_json::to_string(&CloudEvent {
            specversion: "1.0",
            id: self.dedup_key().to_string(),
            source: reference(self.event_uri()),
            r#type: format!("com.ringcentral.event.{}", self.kind()),
            subject: self.resource().and_then(attribute),
            time: self.timestamp().and_then(|it| it.system_time()).map(Moment),
            datacontenttype: "application/json",
            origin: Some(self.origin().as_str()),
            uuid: self.uuid().and_then(attribute),
            subscriptionid: self.subscription_id().and_then(|id| attribute(id.as_str())),
            ownerid: self.owner_id().and_then(|id| attribute(id.as_str())),
            data: self.raw_body().unwrap_or(self.raw()),
        })
    }
}

impl Delivery {
    /// The delivery as a CloudEvent 1.0, in structured mode (`application/cloudevents+json`): an event as
    /// [`Notification::to_cloud_event`] writes it, anything else with the types `com.ringcentral.gap`,
    /// `com.ringcentral.resumed`, `com.ringcentral.undecodable` and `com.ringcentral.filters_disabled`, and its
    /// [stored form](Self#stored-form) as `data`. Their `id` is a hash of that form.
    ///
    /// ```
    /// use ringcentral_events::Delivery;
    /// let gap = r#"{"type":"gap","v":1,"cause":"overflow","certainty":"certain","since":"2026-01-02T03:04:05Z"}"#;
    /// let event = serde_json::from_str::<Delivery>(gap)?.to_cloud_event()?;
    /// let event: serde_json::Value = serde_json::from_str(&event)?;
    /// assert_eq!((&event["specversion"], &event["type"]), (&"1.0".into(), &"com.ringcentral.gap".into()));
    /// assert_eq!((&event["time"], &event["data"]["cause"]), (&"2026-01-02T03:04:05.000Z".into(), &"overflow".into()));
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    ///
    /// # Errors
    /// None is known; the serializer's, if there is one.
    pub fn to_cloud_event(&self) -> serde_json::Result<String> {
        let (name, time): (_, Option<SystemTime>) = match self {
            Self::Notification(it) => return it.to_cloud_event(),
            Self::Gap(it) => ("gap", it.since),
            Self::Resumed(it) => ("resumed", Some(it.at)),
            Self::Undecodable(it) => ("undecodable", Some(it.received_at)),
            Self::FiltersDisabled(_) => ("filters_disabled", None),
        };
        let data = to_raw_value(self)?;
        serde_json::to_string(&CloudEvent {
            specversion: "1.0",
            id: key(&data),
            source: SUBSCRIPTION.to_owned(),
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
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::super::tests::{any_json, gap, notification, resumed};
    use super::*;
    use crate::delivery::{DisabledFilter, Undecodable};
    use crate::event::Origin;

    #[derive(Deserialize)]
    struct Read {
        id: String,
        data: Box<RawValue>,
        #[serde(flatten)]
        others: serde_json::Map<String, Value>,
    }

    /// The rules of CloudEvents 1.0 for the attributes of an event in JSON.
    fn read(text: &str) -> Read {
        let event: Read = serde_json::from_str(text).unwrap();
        assert!(!event.id.is_empty());
        for name in ["specversion", "source", "type", "datacontenttype"] {
            assert!(event.others[name].as_str().is_some_and(|it| !it.is_empty()), "{name}: {text}");
        }
        for (name, value) in &event.others {
            let is_name = name.len() <= 20 && name.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit());
            let value = value.as_str().expect("text");
            assert!(is_name && !value.is_empty() && !value.contains(char::is_control), "{name}: {value:?}");
        }
        let source = event.others["source"].as_str().unwrap();
        assert!(source.is_ascii() && !source.contains([' ', '"', '<', '>', '\\', '^', '`', '{', '|', '}']), "{source}");
        event
    }

    #[test]
    fn an_event_is_a_cloud_event_with_its_own_attributes() {
        let raw = r#"{"uuid":"u-1","event":"/restapi/v1.0/account/1/telephony/sessions","timestamp":"2024-05-06T07:08:09.010+0000","subscriptionId":"s-1","ownerId":7,"body":{"telephonySessionId":"t-1","sequence":3, "n":1e400}}"#;
        let item = notification(raw, Origin::Push, SystemTime::UNIX_EPOCH);
        let event = read(&item.to_cloud_event().unwrap());
        assert_eq!(event.id, item.dedup_key().to_string());
        assert_eq!(event.data.get(), r#"{"telephonySessionId":"t-1","sequence":3, "n":1e400}"#);
        let want = json!({
            "specversion": "1.0", "source": "/restapi/v1.0/account/1/telephony/sessions",
            "type": "com.ringcentral.event.AccountTelephonySessions", "subject": "session/t-1",
            "time": "2024-05-06T07:08:09.010Z", "datacontenttype": "application/json", "origin": "push",
            "uuid": "u-1", "subscriptionid": "s-1", "ownerid": "7",
        });
        assert_eq!(Value::Object(event.others), want);
        let delivery = Delivery::Notification(Box::new(item.clone()));
        assert_eq!(delivery.to_cloud_event().unwrap(), item.to_cloud_event().unwrap());
    }

    #[test]
    fn odd_attributes_are_left_out_and_an_event_without_a_body_is_whole() {
        let raw = r#"{"uuid":"u\n","event":"/x y\u202e\\?a=\"","timestamp":"soon"}"#;
        let event = read(&notification(raw, Origin::CatchUp, SystemTime::UNIX_EPOCH).to_cloud_event().unwrap());
        assert_eq!((event.data.get(), event.others.len()), (raw, 5));
        assert_eq!(event.others["source"], "/x%20y%E2%80%AE%5C?a=%22");
    }

    proptest! {
        #[test]
        fn the_data_is_the_body_byte_for_byte(uuid: String, uri in "/\\PC{0,20}", body in any_json()) {
            let [uuid, uri] = [uuid, uri].map(|it| serde_json::to_string(&it).unwrap());
            let raw = format!("{{\"uuid\":{uuid},\"event\":{uri},\"body\": {body} }}");
            let item = notification(&raw, Origin::Push, SystemTime::UNIX_EPOCH);
            let event = read(&item.to_cloud_event().unwrap());
            prop_assert_eq!(event.data.get(), item.raw_body().map_or(raw.as_str(), RawValue::get));
            prop_assert_eq!(event.data.get(), body);
        }

        #[test]
        fn everything_else_is_a_cloud_event_with_its_stored_form(
            gap in gap(), resumed in resumed(), reason: String, raw: String, filter: String,
        ) {
            let received_at = SystemTime::UNIX_EPOCH;
            let disabled = DisabledFilter { filter, ..DisabledFilter::default() };
            for (delivery, kind) in [
                (Delivery::Gap(gap), "com.ringcentral.gap"),
                (Delivery::Resumed(resumed), "com.ringcentral.resumed"),
                (Delivery::Undecodable(Undecodable { reason, raw: raw.into(), received_at }), "com.ringcentral.undecodable"),
                (Delivery::FiltersDisabled(vec![disabled]), "com.ringcentral.filters_disabled"),
            ] {
                let event = read(&delivery.to_cloud_event().unwrap());
                prop_assert_eq!(event.others["type"].as_str(), Some(kind));
                prop_assert_eq!(event.data.get(), serde_json::to_string(&delivery).unwrap());
                let again: Delivery = serde_json::from_str(event.data.get()).unwrap();
                prop_assert_eq!(read(&again.to_cloud_event().unwrap()).id, event.id);
            }
        }
    }
}
