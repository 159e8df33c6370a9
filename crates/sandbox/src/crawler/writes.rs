//! Sends agents' writes and interprets the answers.

use serde_json::{Map, Value};

use super::core::Core;
use super::jobs::{Job, Write};
use super::store::Origin;
use crate::behavior::DigitalBehavior;
use crate::checks::id_of;
use crate::checks::{Failed, Needs, Said};
use crate::checks::{Rule, Violations};
use crate::checks::{is_empty, kind};
use ringcentral_events::digital::CollectionName;

type Sent = (String, Map<String, Value>, Needs);

/// The action of a job; `None` if it must not be sent now.
pub(crate) fn send(core: &mut Core, number: usize, repeated: bool, behavior: &DigitalBehavior) -> Option<Sent> {
    let Core { caps, jobs, store, .. } = core;
    let caps = caps.as_ref()?;
    let job = jobs.get_mut(number)?;
    // The first attempt may have removed the button that a repetition would need.
    if !repeated && (!job.status.is_open() || job.busy || (!job.unchecked && job.write.offered(caps, store).is_err())) {
        return None;
    }
    job.mark.get_or_insert(store.mark());
    let params = job.write.sent(job, caps);
    job.busy = true;
    if !repeated {
        job.attempts += 1;
    }
    let needs = if job.write.collection.is_none() { Needs::Success } else { Needs::Json };
    Some((job.write.wire_name(behavior, caps), params, needs))
}

/// Handles the answer to a job.
pub(crate) fn answered(
    core: &mut Core,
    behavior: &DigitalBehavior,
    number: usize,
    repeated: bool,
    said: Result<Said, Failed>,
    violations: &mut Violations,
) -> Result<String, String> {
    let Some(job) = core.jobs.get_mut(number) else { return Err("unknown write".into()) };
    job.busy = false;
    let job = job.clone();
    let (why, fatal) = match said {
        Ok(said) => match refusal(&said, violations) {
            None => return succeeded(core, &job, repeated, &said, violations, behavior),
            Some((why, fatal)) => (why, fatal),
        },
        Err(failed) => (failed.why, false),
    };
    if repeated {
        violations.add(
            Rule::RepeatRefused,
            target(&job),
            format!("the write succeeded before, but is refused now: {why}"),
        );
    } else if let Some(job) = core.jobs.get_mut(number) {
        // Writes without a content are sent once: by the next run they are outdated.
        job.fail(why.clone(), fatal || job.write.collection.is_none(), behavior.attempts);
        return Err(format!("{why} ({})", job.status.as_str()));
    }
    Err(why)
}

fn target(job: &Job) -> Option<&str> {
    job.id.as_deref().or(job.write.id())
}

/// Reads `{"error":{"fatal":…,"message":…}}`: the reason and whether it is permanent.
fn refusal(said: &Said, violations: &mut Violations) -> Option<(String, bool)> {
    let Said::Json(Value::Object(object)) = said else { return None };
    let error = object.get("error").filter(|error| !is_empty(error))?;
    let Value::Object(error) = error else {
        violations.add(
            Rule::ErrorShape,
            None,
            format!("error is {}, not an object with fatal and message", kind(error)),
        );
        return Some((error.as_str().unwrap_or("an error").to_owned(), false));
    };
    let fatal = error.get("fatal");
    if !fatal.is_some_and(Value::is_boolean) {
        violations.add(Rule::ErrorShape, None, "error.fatal is not a boolean");
    }
    let message = error.get("message").and_then(Value::as_str);
    if message.is_none() {
        violations.add(Rule::ErrorShape, None, "error.message is not a text");
    }
    Some((message.unwrap_or("an error").to_owned(), fatal == Some(&Value::Bool(true))))
}

fn succeeded(
    core: &mut Core,
    job: &Job,
    repeated: bool,
    said: &Said,
    violations: &mut Violations,
    behavior: &DigitalBehavior,
) -> Result<String, String> {
    let Some(collection) = job.write.collection else {
        done(core, job, None);
        return Ok("sent".into());
    };
    let create = job.write.operation == "create";
    let content = match said {
        Said::Json(Value::Object(content)) => content,
        other => {
            let what = match other {
                Said::Json(value) => kind(value),
                Said::Nothing => "nothing",
            };
            let why = format!("the answer is {what}, not the content");
            violations.add(shape_rule(&job.write), target(job), why.clone());
            return unusable(core, job, repeated, why, create, behavior);
        }
    };
    let given = id_of(content.get("id"));
    if let Some((id, false)) = &given {
        violations.add(Rule::IdForm, Some(id), "the id of the answer is a number, not a text");
    }
    let given = given.map(|(id, _)| id);
    if create {
        let Some(id) = given else {
            let why = "the answer has no id".to_owned();
            violations.add(Rule::CreateShape, None, why.clone());
            return unusable(core, job, repeated, why, true, behavior);
        };
        return Ok(created(core, job, collection, &id, repeated, content, violations));
    }
    let asked = job.write.id().unwrap_or_default().to_owned();
    if given.as_deref() != Some(&*asked) {
        let given = given.map_or("no id".to_owned(), |given| format!("the id {given:?}"));
        violations.add(
            shape_rule(&job.write),
            Some(&asked),
            format!("the write concerns {asked:?}, but the answer has {given}"),
        );
        done(core, job, None);
        return Ok(format!("{} {asked}, by its status", past(&job.write)));
    }
    changed(core, job, collection, &asked, content);
    done(core, job, None);
    Ok(format!("{} {asked}", past(&job.write)))
}

/// Handles a success without a usable content: a create without an id is retried, any other write
/// counts as done.
fn unusable(
    core: &mut Core,
    job: &Job,
    repeated: bool,
    why: String,
    create: bool,
    behavior: &DigitalBehavior,
) -> Result<String, String> {
    if !create {
        done(core, job, None);
        return Ok(format!("{}, by its status", past(&job.write)));
    }
    if let (false, Some(job)) = (repeated, core.jobs.get_mut(job.number)) {
        job.fail(why.clone(), false, behavior.attempts);
    }
    Err(why)
}

fn done(core: &mut Core, job: &Job, id: Option<String>) {
    if let Some(job) = core.jobs.get_mut(job.number) {
        let id = id.or_else(|| job.id.clone());
        job.succeed(id);
    }
}

fn created(
    core: &mut Core,
    job: &Job,
    collection: CollectionName,
    id: &str,
    repeated: bool,
    content: &Map<String, Value>,
    violations: &mut Violations,
) -> String {
    if let (true, Some(first)) = (repeated, job.id.as_deref()) {
        if first != id {
            let why = format!("the create got the id {first:?} before, but gets {id:?} now");
            violations.add(Rule::CreateIdChanged, Some(id), why);
        }
        return format!("answered again with {id}");
    }
    let echoes = job.write.reply_to().as_deref() == Some(id);
    if echoes {
        let why = "the new content has the id of the content it replies to, so the platform merges the two";
        violations.add(Rule::CreateEchoes, Some(id), why);
    }
    let taken = core.store.get(collection, id);
    // A content that arrived after the first attempt may be this very one.
    let is_taken = taken.is_some_and(|taken| taken.content_id != job.content_id && Some(taken.sequence) <= job.mark);
    if is_taken && !echoes {
        violations.add(Rule::CreateIdTaken, Some(id), "the new content has the id of another content");
    }
    done(core, job, Some(id.to_owned()));
    if is_taken {
        return format!("created {id}, in place of another");
    }
    let mut content = content.clone();
    for name in ["body", "thread_id", "in_reply_to_id"] {
        // An id is the minimum that must be returned.
        if let (None, Some(sent)) = (content.get(name), job.write.params.get(name)) {
            content.insert(name.to_owned(), sent.clone());
        }
    }
    let kept = core.store.put(collection, id, Origin::Created, &content);
    kept.content_id.clone_from(&job.content_id);
    format!("created {id}")
}

fn changed(core: &mut Core, job: &Job, collection: CollectionName, id: &str, content: &Map<String, Value>) {
    let deleted = job.write.is_deletion();
    match core.store.get_mut(collection, id) {
        Some(kept) => {
            kept.deleted |= deleted;
            // Missing actions mean no actions.
            kept.content.remove("actions");
            kept.content.extend(content.clone());
        }
        None => core.store.put(collection, id, Origin::Shown, content).deleted = deleted,
    }
}

/// Checks that a created content is listed with the body that was written.
pub(crate) fn compare_listed(
    core: &Core,
    collection: CollectionName,
    id: &str,
    content: &Map<String, Value>,
    violations: &mut Violations,
) {
    let Some(kept) = core.store.get(collection, id) else { return };
    if kept.deleted {
        violations.add(Rule::DeletedListed, Some(id), "the content was deleted, but is listed");
    }
    let Some(content_id) = &kept.content_id else { return };
    let job = core.jobs.iter().find(|job| job.content_id.as_ref() == Some(content_id));
    let wrote = job.and_then(|job| job.write.params.get("body")).and_then(Value::as_str).unwrap_or_default();
    let listed = content.get("body").and_then(Value::as_str).unwrap_or_default();
    if wrote != listed {
        let (wrote, listed) = (wrote.chars().count(), listed.chars().count());
        let why = format!("the listed body of {listed} characters differs from the written one of {wrote}");
        violations.add(Rule::CreateBodyChanged, Some(id), why);
    }
}

fn shape_rule(write: &Write) -> Rule {
    match write.operation.as_str() {
        "create" => Rule::CreateShape,
        "delete" | "destroy" => Rule::DeleteShape,
        _ => Rule::ChangeShape,
    }
}

fn past(write: &Write) -> String {
    match write.operation.as_str() {
        "delete" | "destroy" => "deleted".into(),
        "publish" => "published".into(),
        "unpublish" => "unpublished".into(),
        "create" => "created".into(),
        other => format!("did {other} on"),
    }
}
