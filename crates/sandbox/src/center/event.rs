//! An event: its text, and the parts that the platform reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::behavior::{AgentBehavior, Casing, Values};

/// A pushed event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) text: Arc<str>,
    /// Its type, in lower case.
    kind: String,
    /// Text fields by lower-case name; the first of a name counts.
    fields: BTreeMap<String, String>,
}

impl Event {
    pub(crate) fn of(value: &Value) -> Self {
        Self::read(&value.to_string())
    }

    /// Any JSON text; nothing is read from a non-object.
    pub(crate) fn read(text: &str) -> Self {
        let mut fields = BTreeMap::new();
        // A field that JSON libraries cannot read, such as a lone surrogate, does not affect the
        // others.
        let object: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).unwrap_or_default();
        for (name, value) in object {
            let value = value.get();
            let text = match value.as_bytes().first() {
                Some(b'"') => serde_json::from_str::<String>(value).ok(),
                Some(b'{' | b'[' | b'n') | None => None,
                // A number, a boolean.
                Some(_) => Some(value.to_owned()),
            };
            if let Some(text) = text {
                fields.entry(name.to_ascii_lowercase()).or_insert(text);
            }
        }
        let kind = fields.get("type").map(|kind| kind.to_ascii_lowercase()).unwrap_or_default();
        Self { text: text.into(), kind, fields }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// Its type, in lower case.
    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }

    pub(crate) fn is_true(&self, name: &str) -> Option<bool> {
        let value = self.field(name)?.trim().to_ascii_lowercase();
        (!value.is_empty()).then(|| matches!(&*value, "true" | "1" | "on"))
    }

    /// The name by which a custom event replaces earlier ones.
    pub(crate) fn custom_name(&self) -> Option<&str> {
        if self.kind == "customevent" { self.field("eventname") } else { None }
    }

    /// The contact that it reports, and whether the contact has ended.
    pub(crate) fn contact(&self) -> Option<(&str, bool)> {
        let kind = self.kind();
        if !kind.ends_with("contactevent") {
            return None;
        }
        let id = self.field("contactid").filter(|id| !id.is_empty())?;
        let status = self.field("status").unwrap_or_default().to_ascii_lowercase();
        let ends = matches!(&*status, "disconnected" | "callbackdisconnected" | "discarded");
        Some((id, self.is_true("finalstate").unwrap_or(ends)))
    }

    /// Whether it ends the session.
    pub(crate) fn ends_session(&self) -> bool {
        matches!(self.kind(), "agentsessionend" | "remoteagentsessionend") && self.is_true("success") != Some(false)
    }

    /// The text to send, in the format that the settings select.
    pub(crate) fn written(&self, behavior: &AgentBehavior, rng: &mut Rng) -> String {
        let plain = behavior.values == Values::Strings && behavior.casing == Casing::Documented;
        if !plain && let Ok(Value::Object(object)) = serde_json::from_str(&self.text) {
            return Value::Object(form(object, behavior, rng)).to_string();
        }
        (*self.text).to_owned()
    }
}

fn form(object: Map<String, Value>, behavior: &AgentBehavior, rng: &mut Rng) -> Map<String, Value> {
    let mut formed = Map::new();
    for (name, value) in object {
        let value = match value {
            // The keys inside it are the platform's.
            Value::Array(items) if name == "NextStates" => items
                .into_iter()
                .map(|item| match item {
                    Value::Object(item) => Value::Object(form(item, behavior, rng)),
                    other => other,
                })
                .collect(),
            Value::String(text) if behavior.values == Values::Native => native(text),
            other => other,
        };
        let name = match behavior.casing {
            Casing::Documented => name,
            Casing::Lower => name.to_ascii_lowercase(),
            Casing::Random => {
                let any = |it: char| if rng.bool() { it.to_ascii_uppercase() } else { it.to_ascii_lowercase() };
                name.chars().map(any).collect()
            }
        };
        formed.insert(name, value);
    }
    formed
}

fn native(text: String) -> Value {
    match &*text {
        "True" => true.into(),
        "False" => false.into(),
        "" => Value::Null,
        digits => match digits.parse::<u64>() {
            // Only numbers that survive the round trip to the digit.
            Ok(number) if number.to_string() == digits && number < 1 << 53 => number.into(),
            _ => text.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn an_event_ends_its_contact_only_if_it_says_so() {
        for (event, want) in [
            (json!({"Type":"CallContactEvent","ContactID":"7","Status":"Active"}), Some(("7", false))),
            (json!({"type":"EMAILCONTACTEVENT","contactid":"7","status":"disconnected"}), Some(("7", true))),
            (
                json!({"Type":"CallContactEvent","ContactID":"7","Status":"Disconnected","FinalState":"False"}),
                Some(("7", false)),
            ),
            (json!({"Type":"VoiceMailContactEvent","ContactId":"7","Status":"Discarded"}), Some(("7", true))),
            (
                json!({"Type":"CallContactEvent","ContactID":"7","Status":"Active","FinalState":"TRUE"}),
                Some(("7", true)),
            ),
            (
                json!({"Type":"CallContactEvent","ContactID":7,"Status":"Disconnected","FinalState":false}),
                Some(("7", false)),
            ),
            (json!({"Type":"CallContactEvent","ContactID":"7","FinalState":" on "}), Some(("7", true))),
            (
                json!({"Type":"CallContactEvent","ContactID":"7","Status":"Active","FinalState":null}),
                Some(("7", false)),
            ),
            (json!({"Type":"CallContactEvent","ContactID":"7","Status":"CallbackDisconnected"}), Some(("7", true))),
            (
                json!({"Type":"CallContactEvent","ContactID":"7","Status":"Disconnected","FinalState":""}),
                Some(("7", true)),
            ),
            (json!({"Type":"CallContactEvent","ContactID":"","Status":"Active"}), None),
            (json!({"Type":"CallContactEvent","Status":"Active"}), None),
            (json!({"Type":"PopURL","ContactId":"7"}), None),
        ] {
            let event = Event::of(&event);
            assert_eq!(event.contact(), want, "{}", event.text);
        }
    }

    #[test]
    fn the_first_of_duplicate_fields_counts_and_only_custom_events_have_a_custom_name() {
        let event = Event::of(&json!({"Type":"Mute","AgentMuted":"True","agentMuted":"False","eventName":"a"}));
        assert_eq!((event.is_true("agentmuted"), event.custom_name()), (Some(true), None));
    }

    #[test]
    fn only_a_successful_end_ends_a_session() {
        for (event, want) in [
            (json!({"Type":"AgentSessionEnd","Success":"True"}), true),
            (json!({"Type":"AgentSessionEnd","Success":"False"}), false),
            (json!({"type":"remoteagentsessionend"}), true),
            (json!({"Type":"AgentSessionStart","Success":"True"}), false),
        ] {
            assert_eq!(Event::of(&event).ends_session(), want, "{event}");
        }
    }

    #[test]
    fn the_settings_select_the_format_of_values_and_keys() {
        let text = r#"{"Type":"AgentState","IsAcw":"True","AcwTimeout":"30","Long":"9007199254740992","Safe":"9007199254740991","Zip":"007","NextStates":[{"State":"Available","OutReason":""}],"Own":[{"Key":"1"}],"Empty":""}"#;
        let written = |values, casing| {
            let behavior = AgentBehavior { values, casing, ..AgentBehavior::default() };
            Event::read(text).written(&behavior, &mut Rng::with_seed(1))
        };
        assert_eq!(written(Values::Strings, Casing::Documented), text);
        let native: Value = serde_json::from_str(&written(Values::Native, Casing::Documented)).unwrap();
        let want = json!({"Type":"AgentState","IsAcw":true,"AcwTimeout":30,"Long":"9007199254740992","Safe":9_007_199_254_740_991_u64,
            "Zip":"007","NextStates":[{"State":"Available","OutReason":null}],"Own":[{"Key":"1"}],"Empty":null});
        assert_eq!(native, want);
        let lower = written(Values::Strings, Casing::Lower);
        assert!(lower.contains(r#""isacw":"True""#) && lower.contains(r#""outreason":"""#), "{lower}");
        assert!(lower.contains(r#""Key":"1""#), "a script's keys are unchanged: {lower}");
        let random = written(Values::Strings, Casing::Random);
        assert!(random.to_ascii_lowercase().contains(r#""acwtimeout":"30""#) && !random.contains("AcwTimeout"));
        let odd = Event::read("[1,2]");
        let behavior = AgentBehavior { casing: Casing::Lower, ..AgentBehavior::default() };
        assert_eq!(odd.written(&behavior, &mut Rng::with_seed(1)), "[1,2]");
    }

    proptest! {
        #[test]
        fn any_text_is_an_event(text in "\\PC{0,40}") {
            let event = Event::read(&text);
            prop_assert_eq!(&*event.text, &*text);
            event.contact();
        }
    }
}
