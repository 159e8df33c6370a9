//! Agents' writes and their state.

use serde_json::{Map, Value, json};

use super::store::Store;
use crate::behavior::DigitalBehavior;
use crate::checks::Capabilities;
use crate::checks::reply_to;
use ringcentral_events::digital::{CollectionName, Date, Format};
use ringcentral_events::{Error, ErrorKind, Result};

const DELETIONS: [&str; 2] = ["delete", "destroy"];

/// An agent's write: created here, performed by
/// [`DigitalChannel::write`](crate::digital::DigitalChannel::write).
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    pub(crate) collection: Option<CollectionName>,
    pub(crate) operation: String,
    pub(crate) params: Map<String, Value>,
}

impl Write {
    fn create(collection: CollectionName, author_id: &str, body: &str) -> Self {
        Self { collection: Some(collection), operation: "create".into(), params: Map::new() }
            .with("author_id", author_id)
            .with("body", body)
    }

    /// A message, written as one of the source's identities.
    #[must_use]
    pub fn message(author_id: &str, body: &str) -> Self {
        Self::create(CollectionName::Messages, author_id, body)
    }

    /// A private message.
    #[must_use]
    pub fn private_message(author_id: &str, recipient_id: &str, body: &str) -> Self {
        Self::create(CollectionName::PrivateMessages, author_id, body).with("recipient_id", recipient_id)
    }

    /// A thread.
    #[must_use]
    pub fn thread(author_id: &str, title: &str, body: &str) -> Self {
        Self::create(CollectionName::Threads, author_id, body).with("title", title)
    }

    /// An operation on one content: `delete`, `publish`, `unpublish`. A deletion is sent by the name
    /// that the source declares, `delete` or `destroy`.
    #[must_use]
    pub fn on(collection: CollectionName, operation: &str, id: &str) -> Self {
        Self { collection: Some(collection), operation: operation.into(), params: Map::new() }.with("id", id)
    }

    /// A custom operation, with the agent's identity in the source.
    #[must_use]
    pub fn custom(collection: CollectionName, operation: &str, id: &str, user_id: &str) -> Self {
        Self::on(collection, operation, id).with("user_id", user_id)
    }

    /// The customer's position in the queue (`messaging.queuing_update`).
    #[must_use]
    pub fn queuing_update(thread_id: &str, position: u64, estimated_wait_time: u64) -> Self {
        Self { collection: None, operation: "queuing_update".into(), params: Map::new() }
            .with("thread_id", thread_id)
            .with("position", position)
            .with("estimated_wait_time", estimated_wait_time)
    }

    /// Sets the thread.
    #[must_use]
    pub fn in_thread(self, thread_id: &str) -> Self {
        self.with("thread_id", thread_id)
    }

    /// Makes it a reply to a content.
    #[must_use]
    pub fn in_reply_to(self, id: &str) -> Self {
        self.with("in_reply_to_id", id)
    }

    /// Overrides the format that follows from the options.
    #[must_use]
    pub fn format(self, format: &Format) -> Self {
        self.with("format", json!(format))
    }

    /// Sets any parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.params.insert(name.to_owned(), value.into());
        self
    }

    /// The action's name.
    #[must_use]
    pub fn action(&self) -> String {
        format!("{}.{}", self.collection.map_or("messaging", CollectionName::as_str), self.operation)
    }

    pub(crate) fn id(&self) -> Option<&str> {
        self.params.get("id")?.as_str()
    }

    pub(crate) fn reply_to(&self) -> Option<String> {
        reply_to(&self.params)
    }

    /// Checks that an agent has a button for it.
    pub(crate) fn offered(&self, caps: &Capabilities, store: &Store) -> Result<()> {
        let refused = |why: String| Err(Error::new(ErrorKind::Config, why));
        let Some(collection) = self.collection else {
            return if caps.has("messaging.queuing_update") {
                Ok(())
            } else {
                refused("the source has no option messaging.queuing_update".into())
            };
        };
        let names = self.names();
        if !names.iter().any(|name| caps.can(collection, name)) {
            return refused(format!("the source does not declare {}", self.action()));
        }
        if self.operation == "create" {
            let answered = self.reply_to().and_then(|id| store.get(collection, &id).cloned());
            // The actions of an unknown content are not known either.
            return match answered {
                Some(answered) if !caps.can(collection, "reply") || !answered.actions().any(|it| it == "reply") => {
                    refused(format!("{} cannot be answered: reply is not in its actions, or not declared", answered.id))
                }
                _ => Ok(()),
            };
        }
        let Some(id) = self.id() else { return refused(format!("{} needs a content id", self.action())) };
        match store.get(collection, id) {
            None => refused(format!("the platform has no content {id}")),
            Some(content) if !content.actions().any(|action| names.contains(&action)) => {
                refused(format!("{} is not in the actions of {id}", self.operation))
            }
            Some(_) => Ok(()),
        }
    }

    /// The parameters to send in the next attempt, the one after `attempts`.
    pub(crate) fn sent(&self, job: &Job, caps: &Capabilities) -> Map<String, Value> {
        let mut params = self.params.clone();
        if self.operation != "create" {
            return params;
        }
        let Some(collection) = self.collection else { return params };
        let mut fill = |name: &str, value: Value| {
            params.entry(name).or_insert(value);
        };
        fill("content_id", json!(job.content_id));
        fill("created_at", json!(job.created_at));
        fill("format", json!(default_format(collection, caps)));
        fill("sender_name", json!("Agent"));
        if collection == CollectionName::Threads {
            fill("title", Value::Null);
        } else {
            fill("updated_at", json!(job.created_at));
            fill("in_reply_to_id", Value::Null);
            if !caps.has(&format!("{collection}.no_title")) {
                fill("title", Value::Null);
            }
        }
        params.insert("retry".into(), json!(job.attempts > 0));
        if collection == CollectionName::Messages && caps.unthreaded() {
            params.remove("thread_id");
        }
        params
    }

    /// The operation's names: a deletion has two (digital-source.md §16).
    fn names(&self) -> Vec<&str> {
        if self.is_deletion() { DELETIONS.to_vec() } else { vec![&self.operation] }
    }

    pub(crate) fn is_deletion(&self) -> bool {
        DELETIONS.contains(&self.operation.as_str())
    }

    /// A deletion has the name that the source declares, `delete` if it declares both.
    pub(crate) fn wire_name(&self, behavior: &DigitalBehavior, caps: &Capabilities) -> String {
        let Some(collection) = self.collection.filter(|_| self.is_deletion()) else { return self.action() };
        let declares = |name| caps.can(collection, name);
        let is_destroy = behavior.destroy || declares("destroy") && !declares("delete");
        format!("{collection}.{}", if is_destroy { "destroy" } else { "delete" })
    }

    fn aborted(&self) -> SyncStatus {
        match self.operation.as_str() {
            "delete" | "destroy" => SyncStatus::DeleteAborted,
            "unpublish" => SyncStatus::UnpublishAborted,
            _ => SyncStatus::ExportAborted,
        }
    }

    /// Creates are sent first, deletes last.
    pub(crate) fn order(&self) -> u8 {
        match self.operation.as_str() {
            "create" => 0,
            "delete" | "destroy" => 2,
            _ => 1,
        }
    }
}

fn default_format(collection: CollectionName, caps: &Capabilities) -> &'static str {
    if caps.has(&format!("{collection}.text")) { "text" } else { "html" }
}

/// The state of a write, with the platform's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SyncStatus {
    /// `export_pending`: not attempted yet.
    ExportPending,
    /// `success`.
    Success,
    /// `export_failure`: to be retried in the next run.
    ExportFailure,
    /// `export_aborted`: abandoned; also for a `publish` or a custom operation.
    ExportAborted,
    /// `delete_aborted`.
    DeleteAborted,
    /// `unpublish_aborted`.
    UnpublishAborted,
}

impl SyncStatus {
    /// The platform's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExportPending => "export_pending",
            Self::Success => "success",
            Self::ExportFailure => "export_failure",
            Self::ExportAborted => "export_aborted",
            Self::DeleteAborted => "delete_aborted",
            Self::UnpublishAborted => "unpublish_aborted",
        }
    }

    /// Whether it will be retried.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::ExportPending | Self::ExportFailure)
    }
}

/// A write and its state.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Job {
    /// Its number in the channel.
    pub number: usize,
    /// What the agent does.
    pub write: Write,
    /// For creates, the platform's id of the content, the same in every attempt.
    pub content_id: Option<String>,
    /// When the agent made it.
    pub created_at: Date,
    /// The number of attempts so far.
    pub attempts: u32,
    /// The state.
    pub status: SyncStatus,
    /// The source's id of the created content.
    pub id: Option<String>,
    /// Why the last attempt failed.
    pub why: Option<String>,
    /// In flight: runs skip it.
    pub(crate) busy: bool,
    /// Sent without checking that an agent has a button for it.
    pub(crate) unchecked: bool,
    /// The last content's sequence number at the first attempt.
    pub(crate) mark: Option<u64>,
}

impl Job {
    /// Records a failed attempt.
    pub(crate) fn fail(&mut self, why: String, fatal: bool, attempts: u32) {
        self.why = Some(why);
        self.status = if fatal || self.attempts >= attempts { self.write.aborted() } else { SyncStatus::ExportFailure };
    }

    pub(crate) fn succeed(&mut self, id: Option<String>) {
        (self.status, self.id, self.why) = (SyncStatus::Success, id, None);
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::Origin;
    use super::*;
    use crate::checks::Violations;

    fn caps(options: &[&str]) -> Capabilities {
        let objects = json!({ "messages": ["create", "reply", "delete", "spam"], "threads": ["create"] });
        let answer = json!({ "objects": objects, "options": options });
        Capabilities::read(&answer, &mut Violations::about("x")).unwrap()
    }

    fn job(write: Write) -> Job {
        Job {
            number: 0,
            write,
            content_id: Some("c-1".into()),
            created_at: Date::parse("2026-01-02T03:04:05Z").unwrap(),
            attempts: 0,
            status: SyncStatus::ExportPending,
            id: None,
            why: None,
            busy: false,
            unchecked: false,
            mark: None,
        }
    }

    #[test]
    fn a_create_has_the_documented_parameters() {
        let mut job = job(Write::message("agent-1", "Hi").in_thread("t-1").in_reply_to("m-1"));
        assert_eq!(
            Value::Object(job.write.sent(&job, &caps(&["messages.text"]))),
            json!({
                "author_id": "agent-1", "body": "Hi", "content_id": "c-1", "created_at": "2026-01-02T03:04:05Z",
                "format": "text", "in_reply_to_id": "m-1", "retry": false, "sender_name": "Agent", "thread_id": "t-1",
                "title": null, "updated_at": "2026-01-02T03:04:05Z",
            })
        );
        job.attempts = 1;
        let sent = job.write.sent(&job, &caps(&["messages.unthreaded", "messages.no_title"]));
        assert_eq!((&sent["retry"], &sent["format"]), (&json!(true), &json!("html")));
        assert!(!sent.contains_key("thread_id") && !sent.contains_key("title"));
        job.write = Write::thread("agent-1", "News", "<p>x</p>");
        let sent = job.write.sent(&job, &caps(&[]));
        assert_eq!((&sent["title"], sent.get("updated_at"), sent.get("in_reply_to_id")), (&json!("News"), None, None));
    }

    #[test]
    fn an_agent_has_only_the_buttons_that_source_and_content_both_offer() {
        let mut store = Store::default();
        let Value::Object(content) = json!({ "id": "m-1", "actions": ["reply", "spam"] }) else { panic!("an object") };
        store.put(CollectionName::Messages, "m-1", Origin::Listed, &content);
        let Value::Object(content) = json!({ "id": "m-2" }) else { panic!("an object") };
        store.put(CollectionName::Messages, "m-2", Origin::Listed, &content);
        for (write, part) in [
            (Write::message("a", "x"), ""),
            (Write::message("a", "x").in_reply_to("m-1"), ""),
            (Write::message("a", "x").in_reply_to("new"), ""),
            (Write::message("a", "x").in_reply_to("m-2"), "m-2 cannot be answered"),
            (Write::custom(CollectionName::Messages, "spam", "m-1", "a"), ""),
            (Write::custom(CollectionName::Messages, "spam", "m-2", "a"), "spam is not in the actions of m-2"),
            (Write::on(CollectionName::Messages, "delete", "m-1"), "delete is not in the actions of m-1"),
            (Write::on(CollectionName::Messages, "spam", "m-9"), "the platform has no content m-9"),
            (Write::on(CollectionName::Messages, "publish", "m-1"), "does not declare messages.publish"),
            (Write::private_message("a", "b", "x"), "does not declare private_messages.create"),
            (Write::queuing_update("t-1", 1, 30), "no option messaging.queuing_update"),
        ] {
            match write.offered(&caps(&[]), &store) {
                Ok(()) => assert_eq!(part, "", "{write:?}"),
                Err(error) => assert!(!part.is_empty() && error.to_string().contains(part), "{write:?}: {error}"),
            }
        }
    }

    #[test]
    fn a_write_is_abandoned_after_its_attempts_or_at_once() {
        for (operation, aborted) in [
            ("delete", SyncStatus::DeleteAborted),
            ("unpublish", SyncStatus::UnpublishAborted),
            ("spam", SyncStatus::ExportAborted),
        ] {
            let mut job = job(Write::on(CollectionName::Messages, operation, "m-1"));
            job.attempts = 2;
            job.fail("no".into(), false, 3);
            assert_eq!((job.status, job.status.is_open()), (SyncStatus::ExportFailure, true));
            job.attempts = 3;
            job.fail("no".into(), false, 3);
            assert_eq!((job.status, job.status.is_open()), (aborted, false));
        }
        let mut job = job(Write::message("a", "x"));
        job.attempts = 1;
        job.fail("locked".into(), true, 3);
        assert_eq!(job.status.as_str(), "export_aborted");
    }
}
