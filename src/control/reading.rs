//! Reads the service's description of a subscription, field by field.
//!
//! A creation with an unreadable response would leave an unknown subscription behind. So only the
//! id is required: every other field that is absent, null or of a wrong type counts as missing and
//! does not affect the rest.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use super::info::{BlacklistedData, DeliveryMode, SubscriptionInfo, SubscriptionStatus};
use crate::delivery::DisabledFilter;
use crate::event::lenient::{Lenient, Slot as _, object};
use crate::http::segment;
use crate::ids::SubscriptionId;
use crate::json::Json;
use crate::secret::Secret;

/// A text. A number is neither a channel nor an algorithm nor a state.
struct Words(String);

impl Lenient for Words {
    fn read(raw: Json<'_>) -> Option<Self> {
        raw.get().starts_with('"').then(|| String::read(raw).map(Self)).flatten()
    }
}

fn words(raw: Json<'_>) -> Option<String> {
    Words::read(raw).map(|words| words.0)
}

/// An id that a call about the subscription can use.
fn id(raw: Json<'_>) -> Option<SubscriptionId> {
    String::read(raw).filter(|id| !id.trim().is_empty() && segment(id).is_ok()).map(SubscriptionId::new)
}

/// Seconds, as a number or its text; never negative.
fn seconds(raw: Json<'_>) -> Option<Duration> {
    let seconds = f64::read(raw)?;
    Some(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX))
}

/// A list, or a single element if the service omitted the brackets; unreadable elements are
/// skipped.
fn list<T: Lenient>(raw: Json<'_>) -> Option<Vec<T>> {
    let mut list = Vec::new();
    list.fill(raw);
    list.is_present().then_some(list)
}

/// Assigns a readable value; of duplicate keys the last one wins.
fn keep<T>(field: &mut T, read: Option<T>) {
    if let Some(value) = read {
        *field = value;
    }
}

impl SubscriptionInfo {
    fn read(raw: Json<'_>) -> Option<Self> {
        let mut found = None;
        let mut info = Self::new(SubscriptionId::new(""));
        object(raw, &mut |key, value| match key {
            "id" => found = id(value).or(found.take()),
            "eventFilters" => {
                let filters = list::<Words>(value);
                keep(&mut info.event_filters, filters.map(|all| all.into_iter().map(|words| words.0).collect()));
            }
            "disabledFilters" => keep(&mut info.disabled_filters, list(value)),
            "expirationTime" => info.expiration_time.fill(value),
            "expiresIn" => info.expires_in = seconds(value).or(info.expires_in),
            "status" => keep(&mut info.status, words(value).map(SubscriptionStatus::named)),
            "creationTime" => info.creation_time.fill(value),
            "deliveryMode" => keep(&mut info.delivery_mode, DeliveryMode::read(value)),
            "blacklistedData" => info.blacklisted_data.fill(value),
            _ => {}
        });
        Some(Self { id: found?, ..info })
    }
}

impl Lenient for DeliveryMode {
    fn read(raw: Json<'_>) -> Option<Self> {
        let mut mode = Self::default();
        let secret = |value| words(value).map(Secret::new);
        object(raw, &mut |key, value| match key {
            "transportType" => keep(&mut mode.transport_type, words(value)),
            "encryption" => mode.encryption.fill(value),
            "address" => mode.address = secret(value).or(mode.address.take()),
            "subscriberKey" => mode.subscriber_key = secret(value).or(mode.subscriber_key.take()),
            "encryptionAlgorithm" => mode.encryption_algorithm = words(value).or(mode.encryption_algorithm.take()),
            "encryptionKey" => mode.encryption_key = secret(value).or(mode.encryption_key.take()),
            _ => {}
        })
        .then_some(mode)
    }
}

/// A text is a filter without a reason; an object without a filter is skipped.
impl Lenient for DisabledFilter {
    fn read(raw: Json<'_>) -> Option<Self> {
        let mut it = Self { filter: words(raw).unwrap_or_default(), ..Self::default() };
        object(raw, &mut |key, value| match key {
            "filter" => keep(&mut it.filter, words(value)),
            "reason" => keep(&mut it.reason, String::read(value)),
            "message" => it.message.fill(value),
            _ => {}
        });
        (it != Self::default()).then_some(it)
    }
}

impl Lenient for BlacklistedData {
    fn read(raw: Json<'_>) -> Option<Self> {
        let mut it = Self::default();
        object(raw, &mut |key, value| match key {
            "blacklistedAt" => it.blacklisted_at.fill(value),
            "reason" => it.reason.fill(value),
            _ => {}
        })
        .then_some(it)
    }
}

impl<'de> Deserialize<'de> for SubscriptionInfo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::read((&raw).into()).ok_or_else(|| de::Error::custom("a subscription without a usable id"))
    }
}

impl<'de> Deserialize<'de> for DisabledFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::read((&raw).into()).ok_or_else(|| de::Error::custom("neither a filter nor an object that names one"))
    }
}

/// `expiresIn` of other responses.
pub(crate) fn lenient_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    Ok(seconds((&Box::<RawValue>::deserialize(deserializer)?).into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::timestamp::Timestamp;

    fn info(text: &str) -> SubscriptionInfo {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    #[test]
    fn an_odd_field_does_not_affect_the_rest() {
        let full = json!({
            "id": "a", "eventFilters": ["/a", "/b"], "expiresIn": 899, "status": "Active",
            "expirationTime": "2014-03-12T19:54:35.613+0000", "creationTime": "2014-03-12T19:39:35Z",
            "disabledFilters": [{ "filter": "/c", "reason": "SUB-412", "message": "m" }],
            "blacklistedData": { "blacklistedAt": "2014-03-12T19:54:35Z", "reason": "r" },
            "deliveryMode": {
                "transportType": "PubNub", "encryption": true, "address": "1_a", "subscriberKey": "sub-c-1",
                "encryptionAlgorithm": "AES", "encryptionKey": "a2V5",
            },
        });
        /// The fields of a response, each as text.
        fn shown(info: &SubscriptionInfo) -> Vec<String> {
            let mode = &info.delivery_mode;
            let exposed = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
            vec![
                format!("id {}", info.id),
                format!("eventFilters {:?}", info.event_filters),
                format!("disabledFilters {:?}", info.disabled_filters),
                format!("expirationTime {:?}", info.expiration_time),
                format!("expiresIn {:?}", info.expires_in),
                format!("status {:?}", info.status),
                format!("creationTime {:?}", info.creation_time),
                format!("blacklistedData {:?}", info.blacklisted_data),
                format!("transportType {}", mode.transport_type),
                format!("encryption {:?}", mode.encryption),
                format!("address {:?}", exposed(&mode.address)),
                format!("subscriberKey {:?}", exposed(&mode.subscriber_key)),
                format!("encryptionAlgorithm {:?}", mode.encryption_algorithm),
                format!("encryptionKey {:?}", exposed(&mode.encryption_key)),
            ]
        }
        let odd =
            [json!(null), json!(true), json!(5), json!(-1.5), json!([5, null]), json!([{}]), json!({ "x": [[1]] })];
        let want = shown(&info(&full.to_string()));
        let top = ["eventFilters", "disabledFilters", "expirationTime", "expiresIn", "status", "creationTime"];
        let mode = ["transportType", "encryption", "address", "subscriberKey", "encryptionAlgorithm", "encryptionKey"];
        let places = top.iter().chain(&["blacklistedData"]).map(|field| (format!("/{field}"), *field));
        let within = mode.iter().map(|field| (format!("/deliveryMode/{field}"), *field));
        for (place, field) in places.chain(within) {
            for value in &odd {
                let mut changed = full.clone();
                *changed.pointer_mut(&place).unwrap() = value.clone();
                let got = shown(&info(&changed.to_string()));
                for (got, want) in got.iter().zip(&want).filter(|(got, _)| !got.starts_with(&format!("{field} "))) {
                    assert_eq!(got, want, "{place} = {value}");
                }
            }
        }
    }

    #[test]
    fn a_field_of_a_wrong_type_counts_as_missing() {
        let odd = info(
            r#"{"id":7,"status":5,"expiresIn":[1],"encryption":{},"creationTime":{},"expirationTime":[],
                "blacklistedData":"x","eventFilters":[5,"/a",{}],"disabledFilters":true,
                "deliveryMode":{"transportType":null,"encryption":1,"encryptionAlgorithm":5,"address":["1"],
                                "subscriberKey":5,"encryptionKey":{}}}"#,
        );
        assert_eq!((odd.id.as_str(), &odd.status, odd.expires_in), ("7", &SubscriptionStatus::Active, None));
        assert!(odd.creation_time.is_none() && odd.expiration_time.is_none() && odd.blacklisted_data.is_none());
        assert_eq!(odd.event_filters, ["/a"]);
        assert_eq!(odd.disabled_filters, []);
        let mode = &odd.delivery_mode;
        assert_eq!((mode.transport_type.as_str(), mode.encryption), ("", None));
        assert!(mode.address.is_none() && mode.subscriber_key.is_none());
        assert!(mode.encryption_algorithm.is_none() && mode.encryption_key.is_none());
        let bare = info(r#"{"id":"a","deliveryMode":"PubNub"}"#);
        assert_eq!(bare.delivery_mode.transport_type, "");
    }

    #[test]
    fn a_disabled_filter_may_be_a_text_an_object_or_without_brackets() {
        let entry = |filter: &str, reason: &str| DisabledFilter {
            filter: filter.into(),
            reason: reason.into(),
            ..DisabledFilter::default()
        };
        for (json, want) in [
            (r#"["/x"]"#, vec![entry("/x", "")]),
            (r#""/x""#, vec![entry("/x", "")]),
            (r#"{"filter":"/x","reason":"SUB-412"}"#, vec![entry("/x", "SUB-412")]),
            (r#"[{"filter":"/x","reason":412},"/y",{"reason":"SUB-1"}]"#, {
                vec![entry("/x", "412"), entry("/y", ""), entry("", "SUB-1")]
            }),
            (r#"[{},5,null,[["/x"]],{"filter":7},""]"#, vec![]),
            ("{}", vec![]),
        ] {
            let got = info(&format!(r#"{{"id":"a","disabledFilters":{json}}}"#));
            assert_eq!(got.disabled_filters, want, "{json}");
        }
        assert_eq!(serde_json::from_str::<DisabledFilter>(r#""/x""#).unwrap(), entry("/x", ""));
        assert!(serde_json::from_str::<DisabledFilter>("5").is_err());
    }

    #[test]
    fn a_subscription_needs_an_id_that_a_call_can_use() {
        for json in [
            r#"{"deliveryMode":{}}"#,
            r#"{"id":null}"#,
            r#"{"id":""}"#,
            r#"{"id":" "}"#,
            r#"{"id":".."}"#,
            r#"{"id":[1]}"#,
            "[]",
            "5",
        ] {
            let error = serde_json::from_str::<SubscriptionInfo>(json).unwrap_err();
            assert!(error.to_string().contains("without a usable id"), "{error}");
        }
        assert_eq!(info(r#"{"id":"a","id":null}"#).id, "a");
        assert_eq!(info(r#"{"id":18446744073709551616}"#).id, "18446744073709551616");
    }

    #[test]
    fn nesting_of_any_depth_is_harmless() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let text = format!(
            r#"{{"x":{deep},"id":"a","disabledFilters":{deep},"deliveryMode":{{"address":{deep},"transportType":"PubNub"}}}}"#
        );
        assert_eq!(info(&text).delivery_mode.transport_type, "PubNub");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
            prop::sample::select(vec!["Active", "Blacklisted", "12.5", "-3", "true", "2014-03-12T19:54:35Z", "/a"])
                .prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            let key = prop::sample::select(vec!["filter", "reason", "message", "blacklistedAt", "address", "x"]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map(key, inner, 0..3).prop_map(|map| Value::Object(
                    map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
                )),
            ]
        })
    }

    fn fields(names: &'static [&'static str]) -> impl Strategy<Value = Map<String, Value>> {
        prop::collection::vec((prop::sample::select(names), any_json()), 0..names.len())
            .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// The readable elements of a list.
    fn strings(value: &Value) -> Vec<String> {
        let all = match value {
            Value::Array(all) => all.clone(),
            other => vec![other.clone()],
        };
        all.iter().filter_map(|it| it.as_str().map(str::to_owned)).collect()
    }

    fn number(value: &Value) -> Option<f64> {
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.filter(|number: &f64| number.is_finite())
    }

    fn text(value: &Value) -> Option<String> {
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn any_object_with_a_usable_id_is_read_with_its_readable_fields(
            id in "[a-z0-9-]{1,12}",
            top in fields(&["eventFilters", "disabledFilters", "expirationTime", "expiresIn", "status", "creationTime", "blacklistedData", "uri", "deliveryMode"]),
            mode in prop::option::of(fields(&["transportType", "encryption", "address", "subscriberKey", "encryptionAlgorithm", "encryptionKey", "secretKey"])),
        ) {
            let mut whole = top;
            whole.insert("id".into(), json!(id));
            if let Some(mode) = mode {
                whole.insert("deliveryMode".into(), Value::Object(mode));
            }
            let whole = Value::Object(whole);
            for got in [info(&whole.to_string()), serde_json::from_value(whole.clone()).unwrap()] {
                prop_assert_eq!(got.id.as_str(), &id);
                prop_assert_eq!(&got.event_filters, &strings(&whole["eventFilters"]));
                let expires = number(&whole["expiresIn"]).map(|it| Duration::try_from_secs_f64(it.max(0.0)).unwrap_or(Duration::MAX));
                prop_assert_eq!(got.expires_in, expires);
                prop_assert_eq!(got.expiration_time, text(&whole["expirationTime"]).map(Timestamp::new));
                prop_assert_eq!(got.creation_time, text(&whole["creationTime"]).map(Timestamp::new));
                let status = whole["status"].as_str().map(|it| SubscriptionStatus::named(it.to_owned())).unwrap_or_default();
                prop_assert_eq!(got.status, status);
                prop_assert_eq!(got.blacklisted_data.is_some(), whole["blacklistedData"].is_object());
                let reason = got.blacklisted_data.and_then(|data| data.reason);
                prop_assert_eq!(reason, text(&whole["blacklistedData"]["reason"]));
                let listed = match &whole["disabledFilters"] {
                    Value::Array(all) => all.clone(),
                    other => vec![other.clone()],
                };
                let named: Vec<&str> = listed.iter().filter_map(|it| it.as_str().or(it["filter"].as_str())).filter(|it| !it.is_empty()).collect();
                let got_named: Vec<&str> = got.disabled_filters.iter().map(|it| it.filter.as_str()).filter(|it| !it.is_empty()).collect();
                prop_assert_eq!(got_named, named);
                let mode = &whole["deliveryMode"];
                let text = |field: &str| mode[field].as_str();
                prop_assert_eq!(&got.delivery_mode.transport_type, text("transportType").unwrap_or_default());
                prop_assert_eq!(got.delivery_mode.encryption_algorithm.as_deref(), text("encryptionAlgorithm"));
                prop_assert_eq!(got.delivery_mode.address.as_ref().map(Secret::expose), text("address"));
                prop_assert_eq!(got.delivery_mode.subscriber_key.as_ref().map(Secret::expose), text("subscriberKey"));
                prop_assert_eq!(got.delivery_mode.encryption_key.as_ref().map(Secret::expose), text("encryptionKey"));
                let encryption = mode["encryption"].as_bool().or(match text("encryption") {
                    Some("true") => Some(true),
                    _ => None,
                });
                prop_assert_eq!(got.delivery_mode.encryption, encryption);
            }
        }
    }
}
