//! Compares what was sent with what the typed event holds.

use ringcentral_events::event::{Event, Notification};
use serde_json::Value;

/// Fields of a flat notification that are no part of a body's meaning.
const ENVELOPE: [&str; 7] = ["uuid", "event", "timestamp", "subscriptionId", "body", "pn_apns", "pn_gcm"];

/// Fields that are read under another name.
const ALIASES: [(&str, &str); 4] =
    [("_from", "from"), ("filename", "fileName"), ("srvlvl", "srvLvl"), ("formatted", "formattedPhoneNumber")];

/// The paths of the scalars of a body that the typed event lacks, or holds with another value. `null` holds nothing, so
/// it cannot be lost. The typed event is compared as it is serialized, which writes every field that was read.
pub(crate) fn lost_leaves(notification: &Notification, text: &str) -> Vec<String> {
    let whole: Value = serde_json::from_str(text).unwrap();
    let inner = if whole["event"].is_string() { &whole } else { &whole["pn_apns"] };
    let mut sent = inner.get("body").unwrap_or(inner).clone();
    if let (Value::Object(fields), None) = (&mut sent, inner.get("body")) {
        fields.retain(|key, _| !ENVELOPE.contains(&key.as_str()));
    }
    let mut lost = Vec::new();
    match notification.event() {
        Event::Unknown(unknown) => {
            let body = unknown.body().map_or(Value::Null, |body| serde_json::from_str(body.get().get()).unwrap());
            compare("", inner.get("body").unwrap_or(&Value::Null), &body, &mut lost);
        }
        event => compare("", without_wrapper(&sent), &serde_json::to_value(event).unwrap(), &mut lost),
    }
    lost
}

/// The old form of team messaging with every field inside `data`.
fn without_wrapper(body: &Value) -> &Value {
    match body.as_object() {
        Some(fields) if fields.len() == 1 => fields.get("data").filter(|data| data.is_object()).unwrap_or(body),
        _ => body,
    }
}

fn compare(path: &str, sent: &Value, read: &Value, lost: &mut Vec<String>) {
    match (sent, read) {
        (Value::Null, _) => {}
        // The flat form of a list of one.
        (Value::Object(flat), Value::Object(list))
            if list.len() == 1 && !list.keys().any(|key| flat.contains_key(key)) =>
        {
            let (_, one) = list.iter().next().expect("it has one field");
            compare(path, sent, &one[0], lost);
        }
        (Value::Object(sent), read) if !matches!(read, Value::Array(_)) => {
            for (key, value) in sent {
                let name = ALIASES.iter().find(|(alias, _)| alias == key).map_or(key.as_str(), |(_, name)| name);
                compare(&format!("{path}/{key}"), value, read.get(name).unwrap_or(&Value::Null), lost);
            }
        }
        (Value::Array(sent), Value::Array(read)) if sent.len() == read.len() => {
            for (at, (sent, read)) in sent.iter().zip(read).enumerate() {
                compare(&format!("{path}/{at}"), sent, read, lost);
            }
        }
        (Value::Array(sent), Value::Null) if sent.is_empty() => {}
        // One element without its brackets.
        (Value::Object(_), Value::Array(list)) if list.len() == 1 => compare(path, sent, &list[0], lost),
        (Value::String(text), Value::Array(list)) if list.len() == 1 && list[0] == **text => {}
        // A text where an object is usual.
        (Value::String(text), Value::Object(fields)) if fields.len() == 1 && fields.values().any(|it| it == text) => {}
        (Value::Number(sent), Value::Number(read)) if sent.as_f64() == read.as_f64() => {}
        // Ids and counts, as numbers or as text; two spellings of one word.
        (Value::Number(_) | Value::String(_), Value::Number(_) | Value::String(_)) => {
            let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if plain(sent) != plain(read) && !(plain(sent) == "Voicemail" && plain(read) == "VoiceMail") {
                lost.push(path.to_owned());
            }
        }
        _ if sent == read => {}
        _ => lost.push(path.to_owned()),
    }
}

#[test]
fn a_leaf_that_is_not_held_is_reported_by_its_path() {
    for (sent, read, want) in [
        (r#"{"a":1,"b":{"c":"x"}}"#, r#"{"a":1}"#, "/b/c"),
        (r#"{"a":[{"b":1},{"b":2}]}"#, r#"{"a":[{"b":1},{"b":3}]}"#, "/a/1/b"),
        (r#"{"a":[1,2]}"#, r#"{"a":[1]}"#, "/a"),
        (r#"{"a":"1","b":null,"c":{},"d":[]}"#, r#"{"a":1}"#, ""),
        (r#"{"a":true}"#, r#"{"a":false}"#, "/a"),
        (r#"{"a":"x"}"#, r#"{"list":[{"a":"x"}]}"#, ""),
        (r#"{"a":"x","b":"y"}"#, r#"{"list":[{"a":"x"}]}"#, "/b"),
        (r#"{"a":"x"}"#, r#"{"a":{"text":"x"}}"#, ""),
        (r#"{"a":"x"}"#, r#"{"a":{"text":"y"}}"#, "/a"),
    ] {
        let mut lost = Vec::new();
        compare("", &serde_json::from_str(sent).unwrap(), &serde_json::from_str(read).unwrap(), &mut lost);
        assert_eq!(lost.join(" "), want, "{sent} {read}");
    }
}
