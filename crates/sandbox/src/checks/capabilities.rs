//! A source's capabilities, as the platform reads them from `implementation.info`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::violation::{Rule, Violations};
use ringcentral_events::digital::CollectionName;

const OPTIONS: [&str; 17] = [
    "messages.unthreaded",
    "messages.no_title",
    "private_messages.no_title",
    "threads.no_content",
    "messages.text",
    "messages.html",
    "private_messages.text",
    "private_messages.html",
    "threads.text",
    "threads.html",
    "messages.attachments",
    "private_messages.attachments",
    "threads.attachments",
    "messages.allow_survey",
    "view.messaging",
    "messaging.typing_indicator",
    "messaging.queuing_update",
];
const STANDARD: [&str; 8] = ["create", "delete", "destroy", "list", "publish", "reply", "show", "unpublish"];

/// A source's capabilities: its answer to `implementation.info`, minus what its options disable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    operations: BTreeMap<String, BTreeSet<String>>,
    options: BTreeSet<String>,
    locales: BTreeMap<String, BTreeMap<String, String>>,
}

impl Capabilities {
    /// Whether the source supports the operation on a collection.
    #[must_use]
    pub fn can(&self, collection: CollectionName, operation: &str) -> bool {
        self.declares(collection.as_str(), operation)
    }

    /// The operations of a collection.
    pub fn operations(&self, collection: CollectionName) -> impl Iterator<Item = &str> {
        self.operations.get(collection.as_str()).into_iter().flatten().map(String::as_str)
    }

    /// Whether an option is on.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.options.contains(option)
    }

    /// The button text of an operation in a language: its label, else the `default` label, else one
    /// derived from the name.
    #[must_use]
    pub fn label(&self, language: &str, operation: &str) -> String {
        let labels = [language, "default"].into_iter().filter_map(|language| self.locales.get(language));
        let label = labels.filter_map(|labels| labels.get(operation)).next();
        label.cloned().unwrap_or_else(|| humanised(operation))
    }

    /// For any key of `objects`, including non-collections such as `status`.
    pub(crate) fn declares(&self, object: &str, operation: &str) -> bool {
        self.operations.get(object).is_some_and(|operations| operations.contains(operation))
    }

    /// Whether a collection has any operation.
    pub(crate) fn any(&self, collection: CollectionName) -> bool {
        self.operations.get(collection.as_str()).is_some_and(|operations| !operations.is_empty())
    }

    pub(crate) fn lists(&self) -> bool {
        CollectionName::ALL.into_iter().any(|collection| self.can(collection, "list"))
    }

    pub(crate) fn unthreaded(&self) -> bool {
        self.has("messages.unthreaded")
    }

    /// Reads an answer; `None` if the platform could not continue with it.
    pub(crate) fn read(answer: &Value, violations: &mut Violations) -> Option<Self> {
        let Value::Object(answer) = answer else {
            violations.add(Rule::InfoShape, None, format!("the answer is {}, not an object", kind(answer)));
            return None;
        };
        let operations = operations(answer.get("objects"), violations)?;
        let mut read = Self { operations, options: options(answer.get("options"), violations), ..Self::default() };
        read.locales = locales(answer.get("locales"), violations);
        read.reduce(violations);
        Some(read)
    }

    /// Removes the operations that the options disable.
    fn reduce(&mut self, violations: &mut Violations) {
        if self.unthreaded() && self.operations.remove("threads").is_some_and(|operations| !operations.is_empty()) {
            violations.add(Rule::Reduced, None, "with messages.unthreaded the operations on threads are ignored");
        }
        if self.has("threads.no_content")
            && let Some(threads) = self.operations.get_mut("threads")
        {
            let count = threads.len();
            threads.retain(|operation| matches!(operation.as_str(), "list" | "show"));
            if threads.len() < count {
                violations.add(Rule::Reduced, None, "with threads.no_content only list and show of threads are used");
            }
        }
        if self.has("messaging.typing_indicator") && !self.has("view.messaging") {
            violations.add(Rule::OptionsConflict, None, "messaging.typing_indicator needs view.messaging");
        }
        let (messages, private) = (self.any(CollectionName::Messages), self.any(CollectionName::PrivateMessages));
        if self.has("view.messaging") {
            if messages == private {
                violations.add(Rule::OptionsConflict, None, "view.messaging needs either messages or private messages");
            }
            let of = if messages { "messages" } else { "private_messages" };
            if !self.has(&format!("{of}.text")) || self.has(&format!("{of}.html")) {
                violations.add(
                    Rule::OptionsConflict,
                    None,
                    format!("view.messaging needs {of}.text, and no {of}.html"),
                );
            }
        }
        if self.has("messages.allow_survey") && (!messages || private || self.any(CollectionName::Threads)) {
            violations.add(Rule::OptionsConflict, None, "messages.allow_survey needs messages, and nothing else");
        }
    }
}

fn operations(objects: Option<&Value>, violations: &mut Violations) -> Option<BTreeMap<String, BTreeSet<String>>> {
    let objects = match objects {
        Some(Value::Object(objects)) => objects,
        None | Some(Value::Null) => {
            violations.add(Rule::ObjectsShape, None, "objects is missing");
            return None;
        }
        Some(other) => {
            let why = format!("objects is {}, not an object of lists by collection", kind(other));
            violations.add(Rule::ObjectsShape, None, why);
            return None;
        }
    };
    let mut read = BTreeMap::new();
    for (name, declared) in objects {
        let is_collection = CollectionName::ALL.iter().any(|collection| collection.as_str() == name);
        if !is_collection && !matches!(name.as_str(), "status" | "users" | "typing") {
            violations.add(Rule::CollectionUnknown, None, format!("objects.{name} is not a known collection"));
        }
        let Some(declared) = texts(declared) else {
            let why = format!("objects.{name} is {}, not a list of texts", kind(declared));
            violations.add(Rule::ObjectsShape, None, why);
            continue;
        };
        let mut operations = BTreeSet::new();
        if is_collection && declared.contains(&"destroy") {
            let why = format!("objects.{name} has destroy: deletions are sent as {name}.{}", {
                if declared.contains(&"delete") { "delete" } else { "destroy" }
            });
            violations.add(Rule::DestroyDeclared, None, why);
        }
        for operation in declared {
            if is_word(operation) {
                operations.insert(operation.to_owned());
            } else {
                violations.add(
                    Rule::OperationName,
                    None,
                    format!("objects.{name} has {operation:?}, which is not a word"),
                );
            }
        }
        read.insert(name.clone(), operations);
    }
    Some(read)
}

fn options(options: Option<&Value>, violations: &mut Violations) -> BTreeSet<String> {
    let Some(options) = options.filter(|value| !is_empty(value)) else { return BTreeSet::new() };
    let Some(options) = texts(options) else {
        violations.add(Rule::OptionsShape, None, format!("options is {}, not a list of texts", kind(options)));
        return BTreeSet::new();
    };
    for option in &options {
        if !OPTIONS.contains(option) {
            violations.add(Rule::OptionUnknown, None, format!("options has the unknown option {option:?}"));
        }
    }
    options.into_iter().map(str::to_owned).collect()
}

fn locales(locales: Option<&Value>, violations: &mut Violations) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut read = BTreeMap::new();
    let Some(locales) = locales.filter(|value| !is_empty(value)) else { return read };
    let Value::Object(locales) = locales else {
        violations.add(Rule::LocalesShape, None, format!("locales is {}, not an object by language", kind(locales)));
        return read;
    };
    for (language, labels) in locales {
        let Some(labels) = labels_of(labels) else {
            violations.add(
                Rule::LocalesShape,
                None,
                format!("locales.{language} is not an object of texts by operation"),
            );
            continue;
        };
        read.insert(language.clone(), labels);
    }
    read
}

fn labels_of(labels: &Value) -> Option<BTreeMap<String, String>> {
    let Value::Object(labels) = labels else { return is_empty(labels).then(BTreeMap::new) };
    labels.iter().map(|(operation, label)| Some((operation.clone(), label.as_str()?.to_owned()))).collect()
}

/// `mark_as_spam`: "Mark as spam".
fn humanised(operation: &str) -> String {
    let text = operation.strip_suffix("_id").unwrap_or(operation).replace('_', " ");
    let mut letters = text.trim().chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Whether an operation has a fixed meaning; any other is a button.
pub(crate) fn is_standard(operation: &str) -> bool {
    STANDARD.contains(&operation)
}

/// Only letters, digits and `_`.
pub(crate) fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// `null`, an empty value and an absent one are equivalent.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A present, non-empty field.
pub(crate) fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|value| !is_empty(value))
}

/// A list of texts; an empty value is an empty list.
pub(crate) fn texts(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::Array(list) => list.iter().map(Value::as_str).collect(),
        value => is_empty(value).then(Vec::new),
    }
}

/// The type of a value, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(answer: &Value) -> (Option<Capabilities>, Vec<(Rule, String)>) {
        let mut violations = Violations::about("implementation.info");
        let caps = Capabilities::read(answer, &mut violations);
        (caps, violations.finish().into_iter().map(|found| (found.rule, found.message)).collect())
    }

    #[test]
    fn every_rule_of_the_answer_has_its_finding() {
        for (answer, rule, message, goes_on) in [
            (json!([]), Rule::InfoShape, "the answer is a list, not an object", false),
            (json!({}), Rule::ObjectsShape, "objects is missing", false),
            (json!({ "objects": ["messages.list"] }), Rule::ObjectsShape, "objects is a list", false),
            (json!({ "objects": { "messages": "list" } }), Rule::ObjectsShape, "objects.messages is a text", true),
            (json!({ "objects": { "messages": [1] } }), Rule::ObjectsShape, "objects.messages is a list", true),
            (json!({ "objects": { "message": ["list"] } }), Rule::CollectionUnknown, "objects.message is not", true),
            (json!({ "objects": { "messages": ["a b"] } }), Rule::OperationName, "\"a b\", which is not a word", true),
            (
                json!({ "objects": { "messages": ["destroy"] } }),
                Rule::DestroyDeclared,
                "deletions are sent as messages.destroy",
                true,
            ),
            (
                json!({ "objects": { "messages": ["destroy", "delete"] } }),
                Rule::DestroyDeclared,
                "deletions are sent as messages.delete",
                true,
            ),
            (json!({ "objects": {}, "options": "x" }), Rule::OptionsShape, "options is a text", true),
            (
                json!({ "objects": {}, "options": ["x"] }),
                Rule::OptionUnknown,
                "options has the unknown option \"x\"",
                true,
            ),
            (json!({ "objects": {}, "locales": ["x"] }), Rule::LocalesShape, "locales is a list", true),
            (
                json!({ "objects": {}, "locales": { "fr": "x" } }),
                Rule::LocalesShape,
                "locales.fr is not an object",
                true,
            ),
            (json!({ "objects": {}, "locales": { "fr": { "a": 1 } } }), Rule::LocalesShape, "locales.fr", true),
            (
                json!({ "objects": { "threads": ["list"] }, "options": ["messages.unthreaded"] }),
                Rule::Reduced,
                "with messages.unthreaded the operations on threads are ignored",
                true,
            ),
            (
                json!({ "objects": { "threads": ["list", "create"] }, "options": ["threads.no_content"] }),
                Rule::Reduced,
                "only list and show of threads",
                true,
            ),
            (
                json!({ "objects": {}, "options": ["messaging.typing_indicator"] }),
                Rule::OptionsConflict,
                "messaging.typing_indicator needs view.messaging",
                true,
            ),
            (
                json!({ "objects": { "messages": ["list"] }, "options": ["view.messaging", "messages.html"] }),
                Rule::OptionsConflict,
                "view.messaging needs messages.text, and no messages.html",
                true,
            ),
            (
                json!({
                    "objects": { "messages": ["list"], "private_messages": ["list"] },
                    "options": ["view.messaging", "messages.text"],
                }),
                Rule::OptionsConflict,
                "view.messaging needs either messages or private messages",
                true,
            ),
            (
                json!({ "objects": { "private_messages": ["list"] }, "options": ["messages.allow_survey"] }),
                Rule::OptionsConflict,
                "messages.allow_survey needs messages",
                true,
            ),
        ] {
            let (caps, found) = read(&answer);
            assert_eq!((caps.is_some(), found.len()), (goes_on, 1), "{answer}: {found:?}");
            assert!(found[0].0 == rule && found[0].1.contains(message), "{answer}: {found:?}");
        }
    }

    #[test]
    fn options_disable_operations() {
        let (caps, _) = read(&json!({
            "objects": { "threads": ["list", "create", "lock"], "messages": ["list", "spam"], "status": ["mark_as_read"] },
            "options": ["threads.no_content"],
            "locales": { "default": { "spam": "Report" }, "fr": { "spam": "Signaler" } },
        }));
        let caps = caps.unwrap();
        assert!(caps.can(CollectionName::Threads, "list") && !caps.can(CollectionName::Threads, "lock"));
        assert_eq!(caps.operations(CollectionName::Messages).collect::<Vec<_>>(), ["list", "spam"]);
        assert!(caps.declares("status", "mark_as_read") && caps.lists());
        let labels = ["fr", "de"].map(|language| caps.label(language, "spam"));
        assert_eq!(
            (labels, caps.label("fr", "mark_as_spam_id")),
            (["Signaler".into(), "Report".into()], "Mark as spam".into())
        );
        let (caps, _) = read(&json!({ "objects": { "threads": ["list"] }, "options": ["messages.unthreaded"] }));
        assert!(!caps.unwrap().lists());
    }

    #[test]
    fn nothing_at_all_is_the_same_as_empty() {
        for answer in [
            json!({ "objects": {}, "options": null, "locales": [] }),
            json!({ "objects": { "messages": null }, "options": [], "locales": { "fr": [] } }),
        ] {
            let (caps, found) = read(&answer);
            assert!(caps.is_some() && found.is_empty(), "{answer}: {found:?}");
        }
    }
}
