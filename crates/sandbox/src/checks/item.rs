//! Checks a content against the platform's requirements.

use base64::Engine as _;
use serde_json::{Map, Value};

use super::capabilities::{Capabilities, field, is_standard, is_word, kind, texts};
use super::violation::{Rule, Severity, Violations};
use ringcentral_events::digital::{CollectionName, Date, StructuredContent};

/// "20k" in the documentation.
const BODY: usize = 20_000;
const TEXTS: [&str; 5] = ["title", "display_url", "ip", "language", "format"];

/// A content to check.
#[derive(Clone, Copy)]
pub(crate) struct Item<'a> {
    pub(crate) collection: CollectionName,
    pub(crate) caps: &'a Capabilities,
    pub(crate) object: &'a Map<String, Value>,
}

/// An id: a text, or leniently a number; the flag is true for a number.
pub(crate) fn id_of(value: Option<&Value>) -> Option<(String, bool)> {
    match value? {
        Value::String(text) if !text.is_empty() => Some((text.clone(), true)),
        Value::Number(number) => Some((number.to_string(), false)),
        _ => None,
    }
}

/// The id of the content it replies to; some sources use `"0"` for "no reply".
pub(crate) fn reply_to(object: &Map<String, Value>) -> Option<String> {
    id_of(object.get("in_reply_to_id")).map(|(id, _)| id).filter(|id| id != "0")
}

impl Item<'_> {
    /// Records violations and returns whether the platform can import the content. `id` is for the
    /// violations.
    pub(crate) fn check(&self, id: Option<&str>, violations: &mut Violations) -> bool {
        let structure_only = self.structure_only();
        if structure_only {
            return true;
        }
        let mut whole = self.user("author", id, violations);
        if self.collection == CollectionName::PrivateMessages {
            whole &= self.user("recipient", id, violations);
        }
        if self.collection == CollectionName::Messages && !self.caps.unthreaded() {
            whole &= self.thread(id, violations);
        }
        whole &= self.text(id, violations);
        self.attachments(id, violations);
        self.fields(id, violations);
        self.actions(id, violations);
        context_data(self.object, "context_data", id, violations);
        self.structured(id, violations);
        whole
    }

    /// Of a thread without content only id and title are read.
    fn structure_only(&self) -> bool {
        self.collection == CollectionName::Threads && self.caps.has("threads.no_content")
    }

    fn user(&self, name: &str, id: Option<&str>, violations: &mut Violations) -> bool {
        match field(self.object, name) {
            None => {
                violations.add(Rule::FieldMissing, id, format!("{name} is missing; the content is ignored"));
                false
            }
            Some(Value::Object(user)) => check_user(user, name, id, violations),
            Some(other) => {
                violations.add(
                    Rule::FieldForm,
                    id,
                    format!("{name} is {}, not a user; the content is ignored", kind(other)),
                );
                false
            }
        }
    }

    fn thread(&self, id: Option<&str>, violations: &mut Violations) -> bool {
        match id_of(self.object.get("thread_id")) {
            Some((_, true)) => true,
            Some((thread, false)) => {
                violations.add(Rule::IdForm, id, format!("thread_id is the number {thread}, not a text"));
                true
            }
            None => {
                violations.add(Rule::FieldMissing, id, "thread_id is missing; the content is ignored");
                false
            }
        }
    }

    fn text(&self, id: Option<&str>, violations: &mut Violations) -> bool {
        let other = field(self.object, "attachments").is_some() && self.collection != CollectionName::Threads;
        match field(self.object, "body") {
            Some(Value::String(text)) => {
                let length = text.chars().count();
                if length > BODY {
                    violations.add(
                        Rule::BodyTooLong,
                        id,
                        format!("body has {length} characters; at most {BODY} are allowed"),
                    );
                }
                true
            }
            Some(other) => {
                violations.add(
                    Rule::FieldForm,
                    id,
                    format!("body is {}, not a text; the content is ignored", kind(other)),
                );
                false
            }
            None if other || field(self.object, "structured_content").is_some() => true,
            None => {
                violations.add(Rule::FieldMissing, id, "body is missing; the content is ignored");
                false
            }
        }
    }

    fn attachments(&self, id: Option<&str>, violations: &mut Violations) {
        let list = match field(self.object, "attachments") {
            None => return,
            Some(Value::Array(list)) => list,
            Some(other) => {
                return violations.add(Rule::AttachmentForm, id, format!("attachments is {}, not a list", kind(other)));
            }
        };
        for (number, attachment) in list.iter().enumerate() {
            if let Some(why) = wrong_attachment(attachment) {
                violations.add(Rule::AttachmentForm, id, format!("attachments[{number}] {why}"));
            }
        }
    }

    fn fields(&self, id: Option<&str>, violations: &mut Violations) {
        for name in TEXTS {
            if let Some(other) = field(self.object, name).filter(|value| !value.is_string()) {
                violations.add(Rule::FieldForm, id, format!("{name} is {}, not a text", kind(other)));
            }
        }
        if let Some(Value::String(format)) = field(self.object, "format")
            && !matches!(format.as_str(), "html" | "text")
        {
            violations.add(Rule::FieldForm, id, format!("format is {format:?}, neither html nor text"));
        }
        if let Some(categories) = self.object.get("categories")
            && texts(categories).is_none()
        {
            violations.add(Rule::FieldForm, id, format!("categories is {}, not a list of texts", kind(categories)));
        }
        match field(self.object, "in_reply_to_id") {
            None | Some(Value::String(_)) => {}
            Some(Value::Number(number)) => {
                violations.add(Rule::IdForm, id, format!("in_reply_to_id is the number {number}, not a text"));
            }
            Some(other) => {
                violations.add(Rule::FieldForm, id, format!("in_reply_to_id is {}, not a text", kind(other)))
            }
        }
        for name in ["created_at", "updated_at"] {
            date(self.object, name, name, id, violations);
        }
    }

    fn actions(&self, id: Option<&str>, violations: &mut Violations) {
        let Some(actions) = self.object.get("actions") else { return };
        let Some(actions) = texts(actions) else {
            return violations.add(Rule::FieldForm, id, format!("actions is {}, not a list of texts", kind(actions)));
        };
        for action in actions {
            // The platform ignores actions on whole collections.
            let of_collection = matches!(action, "list" | "show" | "create");
            if !of_collection && !self.caps.can(self.collection, action) {
                let name = self.collection;
                let what = if is_standard(action) || is_word(action) { "" } else { "is not a word, and " };
                let why = format!("actions has {action:?}, which {what}is not in objects.{name}");
                // A reply also applies to the whole collection, but belongs in both lists.
                let severity = if action == "reply" { Severity::Warning } else { Severity::Error };
                violations.add_as(severity, Rule::ActionUndeclared, id, why);
            }
        }
    }

    fn structured(&self, id: Option<&str>, violations: &mut Violations) {
        if let Some(why) = wrong_structure(self.object, self.caps) {
            violations.add(Rule::Structured, id, why);
        }
        match field(self.object, "structured_reply") {
            None | Some(Value::Object(_)) => {}
            Some(other) => {
                violations.add(Rule::FieldForm, id, format!("structured_reply is {}, not an object", kind(other)))
            }
        }
    }
}

/// The first fault of a structured message, if there is one.
pub(crate) fn wrong_structure(object: &Map<String, Value>, caps: &Capabilities) -> Option<String> {
    let value = field(object, "structured_content")?;
    let Value::Object(content) = value else {
        return Some(format!("structured_content is {}, not an object", kind(value)));
    };
    if !caps.has("view.messaging") {
        return Some("Source doesn't support structured contents".into());
    }
    if field(content, "type").is_none() {
        return Some("Type is required for structured contents".into());
    }
    let read: StructuredContent = match serde_json::from_value(value.clone()) {
        Ok(read) => read,
        Err(error) => return Some(format!("structured_content cannot be read: {error}")),
    };
    if let Err(error) = read.check() {
        return Some(format!("structured_content: {error}"));
    }
    let puppet = object.get("author").and_then(|author| author.get("puppetizable"));
    (puppet == Some(&Value::Bool(false))).then(|| "The author must be puppetizable".into())
}

/// Checks a user, on its own or inside a content.
pub(crate) fn check_user(user: &Map<String, Value>, name: &str, id: Option<&str>, violations: &mut Violations) -> bool {
    let mut whole = true;
    match id_of(user.get("id")) {
        Some((_, true)) => {}
        Some((number, false)) => {
            violations.add(Rule::IdForm, id, format!("{name}.id is the number {number}, not a text"))
        }
        None => {
            violations.add(Rule::FieldMissing, id, format!("{name}.id is missing; the content is ignored"));
            whole = false;
        }
    }
    if !matches!(field(user, "screenname"), Some(Value::String(_))) {
        violations.add(Rule::FieldMissing, id, format!("{name}.screenname is missing; the content is ignored"));
        whole = false;
    }
    for key in ["created_at", "updated_at"] {
        let path = format!("{name}.{key}");
        if field(user, key).is_none() {
            violations.add(Rule::UserDates, id, format!("{path} is missing"));
        }
        date(user, key, &path, id, violations);
    }
    if let Some(value) = field(user, "puppetizable").filter(|value| !value.is_boolean()) {
        violations.add(Rule::FieldForm, id, format!("{name}.puppetizable is {}, not a boolean", kind(value)));
    }
    if let Some(gender) = field(user, "gender")
        && !matches!(gender.as_str(), Some("man" | "woman"))
    {
        violations.add(Rule::FieldForm, id, format!("{name}.gender is neither man nor woman"));
    }
    context_data(user, &format!("{name}.context_data"), id, violations);
    whole
}

fn context_data(object: &Map<String, Value>, path: &str, id: Option<&str>, violations: &mut Violations) {
    let data = match field(object, "context_data") {
        None => return,
        Some(Value::Object(data)) => data,
        Some(other) => {
            return violations.add(Rule::ContextData, id, format!("{path} is {}, not an object", kind(other)));
        }
    };
    for (key, value) in data {
        // Letters and "-" are documented; the underscore is in an example.
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_')) {
            violations.add(Rule::ContextData, id, format!("{path} has the key {key:?}; letters and - are allowed"));
        }
        if !value.is_string() && texts(value).is_none() {
            violations.add(Rule::ContextData, id, format!("{path}.{key} is {}, not a text or texts", kind(value)));
        }
    }
}

fn wrong_attachment(attachment: &Value) -> Option<String> {
    let Value::Object(attachment) = attachment else { return Some(format!("is {}, not an object", kind(attachment))) };
    let text = |name| field(attachment, name).map(Value::as_str);
    match (text("url"), text("content")) {
        (Some(Some(url)), None) => match url::Url::parse(url) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => None,
            _ => Some("has a url that is not http or https".into()),
        },
        (None, Some(Some(content))) => {
            if !matches!(text("filename"), Some(Some(_))) {
                return Some("has content, but no filename".into());
            }
            let decoded = base64::engine::general_purpose::STANDARD.decode(content.replace(['\n', '\r'], ""));
            decoded.is_err().then(|| "has content that is not base64".into())
        }
        (Some(_), Some(_)) => Some("has both url and content".into()),
        (None, None) => Some("has neither url nor content".into()),
        (Some(None), None) | (None, Some(None)) => Some("has a url or content that is not a text".into()),
    }
}

fn date(object: &Map<String, Value>, key: &str, path: &str, id: Option<&str>, violations: &mut Violations) {
    let wrong = match field(object, key) {
        None => return,
        // Milliseconds since 1970, as one SDK writes them.
        Some(Value::Number(number)) => number.as_i64().and_then(|ms| Date::from_unix(ms.div_euclid(1000))).is_none(),
        Some(Value::String(text)) => Date::parse(text).is_none(),
        Some(_) => true,
    };
    if wrong {
        let written = object.get(key).map(Value::to_string).unwrap_or_default();
        let written: String = written.chars().take(40).collect();
        violations.add(Rule::DateForm, id, format!("{path} is {written}, not an ISO 8601 date"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn caps(options: &[&str]) -> Capabilities {
        let answer = json!({
            "objects": {
                "messages": ["create", "delete", "list", "reply", "spam"], "private_messages": ["list"], "threads": ["list"],
            },
            "options": options,
        });
        Capabilities::read(&answer, &mut Violations::about("implementation.info")).unwrap()
    }

    fn user() -> Value {
        json!({ "id": "u-1", "screenname": "Ana", "created_at": "2026-01-01", "updated_at": "2026-01-01T00:00:00Z" })
    }

    fn message(change: Value) -> Value {
        let mut message = json!({
            "id": "m-1", "thread_id": "t-1", "author": user(), "body": "Hello", "actions": ["show", "reply", "delete"],
        });
        let Value::Object(change) = change else { panic!("an object") };
        message.as_object_mut().unwrap().extend(change);
        message
    }

    fn check(collection: CollectionName, item: &Value, options: &[&str]) -> (bool, Vec<(Rule, String)>) {
        let mut violations = Violations::about("messages.list");
        let item = Item { collection, caps: &caps(options), object: item.as_object().unwrap() };
        let whole = item.check(Some("m-1"), &mut violations);
        (whole, violations.finish().into_iter().map(|found| (found.rule, found.message)).collect())
    }

    #[test]
    fn every_rule_of_a_message_has_its_finding() {
        let long = "é".repeat(20_001);
        let deep = json!({ "id": "u-1", "screenname": "Ana", "created_at": "x", "updated_at": "2026-01-01" });
        let with = |key: &str, value: Value| {
            let mut user = user();
            user[key] = value;
            json!({ "author": user })
        };
        for (change, rule, message_part, whole) in [
            (json!({ "author": null }), Rule::FieldMissing, "author is missing; the content is ignored", false),
            (json!({ "author": "Ana" }), Rule::FieldForm, "author is a text, not a user", false),
            (with("id", json!("")), Rule::FieldMissing, "author.id is missing", false),
            (with("id", json!(7)), Rule::IdForm, "author.id is the number 7", true),
            (with("screenname", json!(null)), Rule::FieldMissing, "author.screenname is missing", false),
            (with("updated_at", json!(null)), Rule::UserDates, "author.updated_at is missing", true),
            (json!({ "author": deep }), Rule::DateForm, "author.created_at is \"x\"", true),
            (with("puppetizable", json!("yes")), Rule::FieldForm, "author.puppetizable is a text", true),
            (with("gender", json!("x")), Rule::FieldForm, "author.gender is neither", true),
            (with("context_data", json!([1])), Rule::ContextData, "author.context_data is a list", true),
            (json!({ "thread_id": null }), Rule::FieldMissing, "thread_id is missing", false),
            (json!({ "thread_id": 5 }), Rule::IdForm, "thread_id is the number 5", true),
            (json!({ "body": "" }), Rule::FieldMissing, "body is missing", false),
            (json!({ "body": ["x"] }), Rule::FieldForm, "body is a list", false),
            (json!({ "body": long }), Rule::BodyTooLong, "body has 20001 characters", true),
            (json!({ "title": 1 }), Rule::FieldForm, "title is a number", true),
            (json!({ "format": "markdown" }), Rule::FieldForm, "format is \"markdown\"", true),
            (json!({ "categories": "a" }), Rule::FieldForm, "categories is a text", true),
            (json!({ "in_reply_to_id": 9 }), Rule::IdForm, "in_reply_to_id is the number 9", true),
            (json!({ "in_reply_to_id": true }), Rule::FieldForm, "in_reply_to_id is a boolean", true),
            (json!({ "created_at": "06/11/2017" }), Rule::DateForm, "created_at is \"06/11/2017\"", true),
            (json!({ "actions": "reply" }), Rule::FieldForm, "actions is a text", true),
            (json!({ "actions": ["ban"] }), Rule::ActionUndeclared, "\"ban\", which is not in objects.messages", true),
            (json!({ "actions": ["a b"] }), Rule::ActionUndeclared, "\"a b\", which is not a word, and", true),
            (json!({ "context_data": "x" }), Rule::ContextData, "context_data is a text", true),
            (json!({ "context_data": { "a1": "x" } }), Rule::ContextData, "the key \"a1\"", true),
            (json!({ "context_data": { "a": 1 } }), Rule::ContextData, "context_data.a is a number", true),
            (json!({ "attachments": "x" }), Rule::AttachmentForm, "attachments is a text", true),
            (json!({ "attachments": ["x"] }), Rule::AttachmentForm, "attachments[0] is a text", true),
            (json!({ "attachments": [{}] }), Rule::AttachmentForm, "[0] has neither url nor content", true),
            (json!({ "attachments": [{ "url": 1 }] }), Rule::AttachmentForm, "that is not a text", true),
            (json!({ "attachments": [{ "url": "/x" }] }), Rule::AttachmentForm, "not http or https", true),
            (
                json!({ "attachments": [{ "url": "https://h/x", "content": "eA==" }] }),
                Rule::AttachmentForm,
                "both url and content",
                true,
            ),
            (json!({ "attachments": [{ "content": "eA==" }] }), Rule::AttachmentForm, "no filename", true),
            (json!({ "attachments": [{ "content": "?", "filename": "a" }] }), Rule::AttachmentForm, "not base64", true),
            (
                json!({ "structured_content": { "type": "select" } }),
                Rule::Structured,
                "Source doesn't support structured contents",
                true,
            ),
            (json!({ "structured_content": "x" }), Rule::Structured, "structured_content is a text", true),
            (json!({ "structured_reply": "x" }), Rule::FieldForm, "structured_reply is a text", true),
        ] {
            let item = message(change);
            let (is_whole, found) = check(CollectionName::Messages, &item, &[]);
            let short: String = item.to_string().chars().take(300).collect();
            assert_eq!((is_whole, found.len()), (whole, 1), "{short}: {found:?}");
            assert!(found[0].0 == rule && found[0].1.contains(message_part), "{short}: {found:?}");
        }
    }

    #[test]
    fn structured_messages_need_their_type_and_a_puppet() {
        let options = ["view.messaging", "messages.text"];
        for (content, part) in [
            (json!({ "items": [] , "title": "x" }), "Type is required"),
            (json!({ "type": "list_time" }), "no structured message of this type"),
            (json!({ "type": "select" }), "at least one item"),
            (json!({ "type": "rich_link", "url": "github://x", "title": "x" }), "not http or https"),
        ] {
            let (_, found) =
                check(CollectionName::Messages, &message(json!({ "structured_content": content })), &options);
            assert!(found.len() == 1 && found[0].1.contains(part), "{content}: {found:?}");
        }
        let mut item = message(json!({ "structured_content": { "type": "select", "items": [{ "title": "Yes" }] } }));
        assert!(check(CollectionName::Messages, &item, &options).1.is_empty());
        item["author"]["puppetizable"] = json!(false);
        assert_eq!(check(CollectionName::Messages, &item, &options).1[0].1, "The author must be puppetizable");
    }

    #[test]
    fn only_required_fields_are_required() {
        let good = message(json!({
            "context_data": { "a-b": "x", "c_d": ["y", "z"] }, "created_at": "2026-01-01T00:00:00.123+0000",
            "updated_at": 1_767_225_600_000_i64, "attachments": [{ "url": "https://h/a.png" }], "body": null,
        }));
        assert_eq!(check(CollectionName::Messages, &good, &[]), (true, vec![]));
        let unthreaded = message(json!({ "thread_id": null }));
        assert_eq!(check(CollectionName::Messages, &unthreaded, &["messages.unthreaded"]), (true, vec![]));
        let thread = json!({ "id": "t-1", "title": "Delivery" });
        assert_eq!(check(CollectionName::Threads, &thread, &["threads.no_content"]), (true, vec![]));
        let (whole, found) = check(CollectionName::Threads, &thread, &[]);
        assert!(!whole && found.len() == 2, "author and body: {found:?}");
        let (whole, found) = check(CollectionName::PrivateMessages, &message(json!({ "actions": [] })), &[]);
        assert!(!whole && found[0].1.starts_with("recipient is missing"), "{found:?}");
    }
}
