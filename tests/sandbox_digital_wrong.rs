//! A source that is wrong in one way for each rule, and what the crawler says of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod digital_support;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use digital_support::{TOKEN, signer};
use http::{Request, Response};
use proptest::prelude::*;
use ringcentral_events::digital::{CollectionName, SIGNATURE_HEADER};
use ringcentral_events::sandbox::Sandbox;
use ringcentral_events::sandbox::digital::{DigitalChannel, Finding, Rule, Run, RunEnd, SourceAt, SyncStatus, Write};
use serde_json::{Value, json};

const MESSAGES: CollectionName = CollectionName::Messages;

/// How an answer is signed.
#[derive(Clone, Copy)]
enum Sign {
    Right,
    Not,
    Twice,
    Short,
    OfOther,
}

struct Answer {
    status: u16,
    body: Vec<u8>,
    sign: Sign,
    headers: Vec<(&'static str, &'static str)>,
}

impl Answer {
    fn bytes(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), sign: Sign::Right, headers: vec![("content-type", "application/json")] }
    }

    fn json(body: &Value) -> Self {
        Self::bytes(200, body.to_string())
    }

    fn signed(mut self, sign: Sign) -> Self {
        self.sign = sign;
        self
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value));
        self
    }

    fn response(self) -> Response<Bytes> {
        let mut response = Response::builder().status(self.status);
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        let signature = signer().sign(&self.body);
        response = match self.sign {
            Sign::Not => response,
            Sign::Right => response.header(SIGNATURE_HEADER, signature),
            Sign::Twice => response.header(SIGNATURE_HEADER, &signature).header(SIGNATURE_HEADER, &signature),
            Sign::Short => response.header(SIGNATURE_HEADER, &signature[..64]),
            Sign::OfOther => response.header(SIGNATURE_HEADER, signer().sign(b"other")),
        };
        response.body(self.body.into()).unwrap()
    }
}

/// What a test does, after one run.
#[derive(Clone)]
enum Then {
    Nothing,
    Run,
    Audit,
    Show,
    Probe,
    Write(Write),
    /// And once more.
    Repeat(Write),
    WriteAndRun(Write),
    WriteAndAudit(Write),
}

/// Answers an action in its own way, or leaves it: the action, its parameters, and how
/// often it came before.
type Own = fn(&str, &Value, usize) -> Option<Answer>;

fn user() -> Value {
    json!({ "id": "u-1", "screenname": "Ana", "created_at": "2026-01-01", "updated_at": "2026-01-01T00:00:00Z" })
}

fn message(id: &str) -> Value {
    let actions = ["show", "reply", "delete", "publish", "spam"];
    json!({ "id": id, "thread_id": "t-1", "author": user(), "body": format!("text of {id}"), "actions": actions })
}

fn info() -> Value {
    let operations = ["create", "delete", "list", "publish", "reply", "show", "spam"];
    json!({
        "objects": { "messages": operations, "threads": ["list"] },
        "options": ["threads.no_content", "messages.text"],
    })
}

/// What a right source answers.
fn right(action: &str, params: &Value) -> Answer {
    let id = params["id"].as_str().unwrap_or_default();
    Answer::json(&match (action, params.get("since_id")) {
        ("implementation.info", _) => info(),
        ("threads.list", None) => json!([{ "id": "t-1", "title": "Delivery" }]),
        ("messages.list", None) => json!([message("m-1")]),
        ("threads.list" | "messages.list", Some(_)) => json!([]),
        ("messages.create", _) => json!({ "id": "m-2", "body": params["body"] }),
        _ => message(id),
    })
}

fn wrong(own: Own) -> SourceAt {
    let calls: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    SourceAt::answers(move |request: Request<Bytes>| {
        let signed = request.headers().get(SIGNATURE_HEADER).and_then(|value| value.to_str().ok().map(str::to_owned));
        let is_signed = signed.is_some_and(|signature| signer().verify(request.body(), &signature).is_ok());
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let action = body["action"].as_str().unwrap_or_default().to_owned();
        let before = {
            let mut calls = calls.lock().unwrap();
            let calls = calls.entry(action.clone()).or_default();
            *calls += 1;
            *calls - 1
        };
        let known = ["implementation", "messages", "threads"].iter().any(|it| action.starts_with(it));
        let answer = match own(&action, &body["params"], before) {
            Some(answer) => answer,
            None if !is_signed || request.headers().get_all(SIGNATURE_HEADER).iter().count() > 1 => {
                Answer::bytes(422, "no")
            }
            None if request.method() != "POST" || !known || action.ends_with("no_such_operation") => {
                Answer::bytes(400, "no")
            }
            None => right(&action, &body["params"]),
        };
        let response = answer.response();
        async move { response }
    })
}

async fn find(source: SourceAt, then: Then) -> (Vec<Finding>, Vec<Run>, DigitalChannel, Sandbox) {
    let knobs = |knobs: &mut ringcentral_events::sandbox::Knobs| {
        knobs.digital.timeout = Duration::from_millis(300);
        knobs.digital.page_cap = 5;
        knobs.digital.answer_limit = 100_000;
    };
    let sandbox = Sandbox::builder().knobs(knobs).start().await.unwrap();
    let channel = sandbox.digital_channel(source, TOKEN).unwrap();
    let mut runs = vec![channel.run().await];
    match then {
        Then::Nothing => {}
        Then::Run => runs.push(channel.run().await),
        Then::Audit => runs.push(channel.audit().await),
        Then::Show => runs.push(channel.show(MESSAGES, "m-1").await),
        Then::Probe => runs.push(channel.probe().await),
        Then::Write(write) => runs.push(channel.write(write).await.unwrap().run),
        Then::Repeat(write) => {
            let written = channel.write(write).await.unwrap();
            runs.push(written.run);
            runs.push(channel.repeat(written.job.number).await);
        }
        Then::WriteAndRun(write) => {
            runs.push(channel.write(write).await.unwrap().run);
            runs.push(channel.run().await);
        }
        Then::WriteAndAudit(write) => {
            runs.push(channel.write(write).await.unwrap().run);
            runs.push(channel.run().await);
            runs.push(channel.audit().await);
        }
    }
    let findings = runs.iter().flat_map(Run::findings).cloned().collect();
    (findings, runs, channel, sandbox)
}

/// The answer of `action` is `body`.
macro_rules! says {
    ($action:literal, $($body:tt)+) => {
        |action, _, _| (action == $action).then(|| Answer::json(&json!($($body)+)))
    };
}

/// The first messages are one with these changes.
macro_rules! item {
    ($($change:tt)+) => {
        |action, params, _| {
            (action == "messages.list" && params.get("since_id").is_none()).then(|| {
                let mut item = message("m-1");
                let Value::Object(change) = json!($($change)+) else { panic!("an object") };
                item.as_object_mut().unwrap().extend(change);
                Answer::json(&json!([item]))
            })
        }
    };
}

/// The rule, the action that is blamed, the content, a part of the message, the source,
/// and what is done.
type Row = (Rule, &'static str, Option<&'static str>, &'static str, Own, Then);

fn reply() -> Write {
    Write::message("agent-1", "Hello").in_thread("t-1").in_reply_to("m-1")
}

fn delete() -> Write {
    Write::on(MESSAGES, "delete", "m-1")
}

fn spam() -> Write {
    Write::custom(MESSAGES, "spam", "m-1", "agent-1")
}

fn of_answers() -> Vec<Row> {
    const INFO: &str = "implementation.info";
    macro_rules! info {
        ($answer:expr) => {
            |action, _, _| (action == INFO).then(|| $answer)
        };
    }
    vec![
        (Rule::Status, INFO, None, "status 503: down", info!(Answer::bytes(503, "down")), Then::Nothing),
        (
            Rule::Redirect,
            INFO,
            None,
            "leads somewhere else",
            info!(Answer::bytes(302, "").with("location", "/x")),
            Then::Nothing,
        ),
        (
            Rule::SignatureMissing,
            INFO,
            None,
            "no header",
            info!(Answer::json(&info()).signed(Sign::Not)),
            Then::Nothing,
        ),
        (
            Rule::SignatureTwice,
            INFO,
            None,
            "2 signatures",
            info!(Answer::json(&info()).signed(Sign::Twice)),
            Then::Nothing,
        ),
        (
            Rule::SignatureForm,
            INFO,
            None,
            "64 characters, not 128",
            info!(Answer::json(&info()).signed(Sign::Short)),
            Then::Nothing,
        ),
        (
            Rule::SignatureWrong,
            INFO,
            None,
            "not that of the",
            info!(Answer::json(&info()).signed(Sign::OfOther)),
            Then::Nothing,
        ),
        (
            Rule::TooLarge,
            INFO,
            None,
            "larger than 100000",
            info!(Answer::bytes(200, vec![b' '; 100_001])),
            Then::Nothing,
        ),
        (Rule::NotUtf8, INFO, None, "from byte 1", info!(Answer::bytes(200, *b"\"\xff\"")), Then::Nothing),
        (Rule::NotJson, INFO, None, "is not JSON", info!(Answer::bytes(200, *b"<html>")), Then::Nothing),
        (
            Rule::ContentType,
            INFO,
            None,
            "text/html",
            info!(Answer::json(&info()).with("content-type", "text/html")),
            Then::Nothing,
        ),
        (
            Rule::ContentCoding,
            INFO,
            None,
            "content coding",
            info!(Answer::json(&info()).with("content-encoding", "br")),
            Then::Nothing,
        ),
        (Rule::InfoShape, INFO, None, "is a list, not an object", says!("implementation.info", []), Then::Nothing),
        (
            Rule::ObjectsShape,
            INFO,
            None,
            "objects is a list",
            says!("implementation.info", { "objects": ["messages.list"] }),
            Then::Nothing,
        ),
        (
            Rule::CollectionUnknown,
            INFO,
            None,
            "objects.gadgets",
            says!("implementation.info", { "objects": { "gadgets": ["list"] } }),
            Then::Nothing,
        ),
        (
            Rule::OperationName,
            INFO,
            None,
            "\"a-b\"",
            says!("implementation.info", { "objects": { "messages": ["a-b"] } }),
            Then::Nothing,
        ),
        (
            Rule::OptionsShape,
            INFO,
            None,
            "options is a text",
            says!("implementation.info", { "objects": {}, "options": "x" }),
            Then::Nothing,
        ),
        (
            Rule::OptionUnknown,
            INFO,
            None,
            "no option \"x\"",
            says!("implementation.info", { "objects": {}, "options": ["x"] }),
            Then::Nothing,
        ),
        (
            Rule::LocalesShape,
            INFO,
            None,
            "locales is a list",
            says!("implementation.info", { "objects": {}, "locales": [1] }),
            Then::Nothing,
        ),
        (
            Rule::Reduced,
            INFO,
            None,
            "messages.unthreaded",
            says!("implementation.info", { "objects": { "threads": ["list"] }, "options": ["messages.unthreaded"] }),
            Then::Nothing,
        ),
        (
            Rule::OptionsConflict,
            INFO,
            None,
            "needs view.messaging",
            says!("implementation.info", { "objects": {}, "options": ["messaging.typing_indicator"] }),
            Then::Nothing,
        ),
        (
            Rule::ForgeryAccepted,
            "probe: wrong key",
            None,
            "a request with wrong key is accepted",
            info!(Answer::json(&info())),
            Then::Probe,
        ),
        (
            Rule::GenuineRefused,
            "probe: a line feed at the end",
            None,
            "gets status 400",
            |action, params, _| {
                (action == INFO && params.get("note").is_some()).then(|| Answer::bytes(400, "re-serialised"))
            },
            Then::Probe,
        ),
        (
            Rule::NonsenseAccepted,
            "probe: a list",
            None,
            "a list is accepted",
            |action, _, _| action.is_empty().then(|| Answer::bytes(200, "{}")),
            Then::Probe,
        ),
        (
            Rule::RefusalStatus,
            "probe: no action",
            None,
            "status 500",
            |action, _, _| action.is_empty().then(|| Answer::bytes(500, "boom")),
            Then::Probe,
        ),
    ]
}

fn of_lists() -> Vec<Row> {
    const LIST: &str = "messages.list";
    macro_rules! list {
        ($($body:tt)+) => {
            |action, params, _| {
                (action == LIST && params.get("since_id").is_none()).then(|| Answer::json(&json!($($body)+)))
            }
        };
    }
    let m1 = Some("m-1");
    vec![
        (Rule::ListShape, LIST, None, "is an object, not a list", says!("messages.list", {}), Then::Nothing),
        (Rule::ItemShape, LIST, None, "element 1 is a text", list!([message("m-1"), "x"]), Then::Nothing),
        (Rule::IdMissing, LIST, None, "element 0 has no id", list!([{ "body": "x" }]), Then::Nothing),
        (Rule::IdForm, LIST, Some("7"), "the id of element 0 is a number", item!({ "id": 7 }), Then::Nothing),
        (Rule::IdTwice, LIST, m1, "again in element 1", list!([message("m-1"), message("m-1")]), Then::Nothing),
        (Rule::SinceListed, LIST, m1, "since_id itself", says!("messages.list", [message("m-1")]), Then::Nothing),
        (
            Rule::ListOrder,
            LIST,
            m1,
            "m-2, m-3 came again after m-1",
            |action, params, _| {
                let after = params["since_id"].as_str().map_or(0, |id| id[2..].parse::<usize>().unwrap());
                (action == LIST).then(|| Answer::json(&(after + 1..4).map(|it| message(&format!("m-{it}"))).collect()))
            },
            Then::Nothing,
        ),
        (
            Rule::ListedAgain,
            LIST,
            Some("m-3"),
            "m-1 came before m-3",
            |action, params, _| {
                let body = match params["since_id"].as_str() {
                    None => json!([message("m-1")]),
                    Some("m-1") => json!([message("m-3")]),
                    Some("m-3") => json!([message("m-4"), message("m-1")]),
                    Some(_) => json!([]),
                };
                (action == LIST).then(|| Answer::json(&body))
            },
            Then::Nothing,
        ),
        (
            Rule::Endless,
            LIST,
            None,
            "not ended after 5 pages",
            |action, _, calls| (action == LIST).then(|| Answer::json(&json!([message(&format!("m-{calls}"))]))),
            Then::Nothing,
        ),
        (
            Rule::ListLost,
            LIST,
            Some("m-2"),
            "before m-9",
            |action, params, _| {
                let from_start = params.get("since_id").is_none();
                let body =
                    match (from_start, LISTS_FROM_START.fetch_add(usize::from(from_start && action == LIST), ORDER)) {
                        (true, 0) => json!([message("m-9"), message("m-1")]),
                        (true, _) => json!([message("m-9"), message("m-2"), message("m-1")]),
                        (false, _) => json!([]),
                    };
                (action == LIST).then(|| Answer::json(&body))
            },
            Then::Audit,
        ),
        (Rule::FieldMissing, LIST, m1, "author is missing", item!({ "author": null }), Then::Nothing),
        (Rule::FieldForm, LIST, m1, "body is a number", item!({ "body": 5 }), Then::Nothing),
        (
            Rule::UserDates,
            LIST,
            m1,
            "author.created_at is missing",
            item!({ "author": { "id": "u", "screenname": "U", "updated_at": "2026-01-01" } }),
            Then::Nothing,
        ),
        (
            Rule::DateForm,
            LIST,
            m1,
            "created_at is \"06/11/2017\"",
            item!({ "created_at": "06/11/2017" }),
            Then::Nothing,
        ),
        (Rule::BodyTooLong, LIST, m1, "20001 characters", item!({ "body": "x".repeat(20_001) }), Then::Nothing),
        (
            Rule::ReplyUnresolved,
            LIST,
            m1,
            "in_reply_to_id is \"m-0\"",
            |action, params, _| match action {
                "messages.list" if params.get("since_id").is_none() => {
                    let mut item = message("m-1");
                    item["in_reply_to_id"] = json!("m-0");
                    Some(Answer::json(&json!([item])))
                }
                "messages.show" => Some(Answer::json(&json!({}))),
                _ => None,
            },
            Then::Nothing,
        ),
        (Rule::ThreadUnresolved, LIST, m1, "thread_id is \"t-9\"", item!({ "thread_id": "t-9" }), Then::Nothing),
        (
            Rule::ActionUndeclared,
            LIST,
            m1,
            "\"ban\", which is not in objects.messages",
            item!({ "actions": ["ban"] }),
            Then::Nothing,
        ),
        (Rule::ContextData, LIST, m1, "the key \"a b\"", item!({ "context_data": { "a b": "x" } }), Then::Nothing),
        (Rule::AttachmentForm, LIST, m1, "attachments[0] has neither", item!({ "attachments": [{}] }), Then::Nothing),
        (
            Rule::Structured,
            LIST,
            m1,
            "doesn't support structured",
            item!({ "structured_content": { "type": "select" } }),
            Then::Nothing,
        ),
        (Rule::ShowShape, "messages.show", m1, "is a list, not a content", says!("messages.show", [1]), Then::Show),
        (Rule::ShowOther, "messages.show", m1, "the id \"m-2\"", says!("messages.show", message("m-2")), Then::Show),
    ]
}

/// How often the source of `ListLost` was asked for its start.
static LISTS_FROM_START: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
const ORDER: std::sync::atomic::Ordering = std::sync::atomic::Ordering::Relaxed;

fn of_writes() -> Vec<Row> {
    const CREATE: &str = "messages.create";
    let (m1, m2) = (Some("m-1"), Some("m-2"));
    vec![
        (
            Rule::ErrorShape,
            CREATE,
            None,
            "error is a text",
            says!("messages.create", { "error": "no" }),
            Then::Write(reply()),
        ),
        (Rule::CreateShape, CREATE, None, "has no id", says!("messages.create", {}), Then::Write(reply())),
        (
            Rule::CreateEchoes,
            CREATE,
            m1,
            "the id of the one that it answers",
            says!("messages.create", { "id": "m-1" }),
            Then::Write(reply()),
        ),
        (
            Rule::CreateIdTaken,
            CREATE,
            m1,
            "an id that another content has",
            says!("messages.create", { "id": "m-1" }),
            Then::Write(Write::message("agent-1", "Hello").in_thread("t-1")),
        ),
        (
            Rule::CreateIdChanged,
            CREATE,
            Some("w-1"),
            "answered with \"w-0\" before",
            |action, _, calls| (action == CREATE).then(|| Answer::json(&json!({ "id": format!("w-{calls}") }))),
            Then::Repeat(reply()),
        ),
        (
            Rule::CreateNotListed,
            "messages.list",
            m2,
            "not in a list from the start",
            |_, _, _| None,
            Then::WriteAndAudit(reply()),
        ),
        (
            Rule::CreateBodyChanged,
            "messages.list",
            m2,
            "other 5 characters than the 11",
            |action, params, _| {
                (action == "messages.list" && params["since_id"] == "m-1" && WRITTEN.load(ORDER))
                    .then(|| Answer::json(&json!([message("m-2")])))
                    .or_else(|| {
                        WRITTEN.fetch_or(action == CREATE, ORDER);
                        None
                    })
            },
            Then::WriteAndRun(reply()),
        ),
        (
            Rule::DeleteShape,
            "messages.delete",
            m1,
            "the id \"m-9\"",
            says!("messages.delete", message("m-9")),
            Then::Write(delete()),
        ),
        (
            Rule::DeletedListed,
            "messages.list",
            m1,
            "it was deleted, and is listed",
            |_, _, _| None,
            Then::WriteAndAudit(delete()),
        ),
        (
            Rule::ChangeShape,
            "messages.spam",
            m1,
            "is a list, not the content",
            says!("messages.spam", []),
            Then::Write(spam()),
        ),
        (
            Rule::RepeatRefused,
            "messages.delete",
            m1,
            "refused now: status 404",
            |action, _, calls| (action == "messages.delete" && calls > 0).then(|| Answer::bytes(404, "")),
            Then::Repeat(delete()),
        ),
    ]
}

/// Whether the source of `CreateBodyChanged` was written to.
static WRITTEN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

#[tokio::test]
async fn each_rule_has_a_source_that_breaks_it_and_a_finding_that_says_so() {
    let mut covered = BTreeSet::new();
    for (rule, action, id, part, own, then) in of_answers().into_iter().chain(of_lists()).chain(of_writes()) {
        let (findings, runs, _channel, _sandbox) = find(wrong(own), then).await;
        let report = || runs.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let found =
            findings.iter().find(|found| found.rule == rule && found.message.contains(part) && found.action == action);
        let found = found.unwrap_or_else(|| panic!("{rule} {part:?} not in\n{}", report()));
        assert_eq!(found.id.as_deref(), id, "{rule}\n{}", report());
        assert_eq!(found.severity, rule.severity(), "{rule}");
        let others: Vec<_> = findings.iter().filter(|other| other.rule != rule).map(|other| other.rule).collect();
        // What follows from it is found as well.
        let follow = match rule {
            Rule::RepeatRefused => vec![Rule::Status],
            Rule::ForgeryAccepted | Rule::NonsenseAccepted => vec![Rule::ForgeryAccepted, Rule::NonsenseAccepted],
            Rule::ListOrder => vec![Rule::ListedAgain],
            _ => vec![],
        };
        assert!(others.iter().all(|other| follow.contains(other)), "{rule}: {others:?}\n{}", report());
        covered.insert(rule);
    }

    // Nobody there, nobody who answers in time.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let closed = SourceAt::url(&format!("http://{port}/")).unwrap();
    let silent = SourceAt::answers(|_| std::future::pending());
    for (source, rule, part) in
        [(closed, Rule::NoAnswer, "no connection"), (silent, Rule::Late, "no answer within 300 ms")]
    {
        let (findings, runs, ..) = find(source, Then::Nothing).await;
        assert_eq!((findings.len(), runs[0].end), (1, RunEnd::Aborted), "{rule}");
        assert!(findings[0].rule == rule && findings[0].message.contains(part), "{findings:?}");
        covered.insert(rule);
    }
    let missing: Vec<_> = Rule::ALL.iter().filter(|rule| !covered.contains(rule)).collect();
    assert!(missing.is_empty(), "no source for {missing:?}");
}

#[tokio::test]
async fn the_right_source_of_these_tests_is_right() {
    for then in
        [Then::Run, Then::Show, Then::Probe, Then::Repeat(reply()), Then::Repeat(delete()), Then::Repeat(spam())]
    {
        let (findings, runs, ..) = find(wrong(|_, _, _| None), then).await;
        assert!(findings.is_empty(), "{findings:?}\n{runs:?}");
    }
}

#[tokio::test]
async fn a_failed_info_ends_the_run_a_failed_list_does_not() {
    let (_, runs, channel, sandbox) = find(
        wrong(|action, _, calls| (action == "threads.list" && calls == 0).then(|| Answer::bytes(503, "later"))),
        Then::Run,
    )
    .await;
    let actions = |run: &Run| run.actions().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(runs[0].end, RunEnd::Complete);
    assert_eq!(actions(&runs[0])[1..3], ["threads.list", "messages.list"]);
    assert!(runs[1].is_clean(), "{}", runs[1]);
    assert_eq!(channel.contents(CollectionName::Threads).len(), 1);
    drop((channel, sandbox));

    let (_, runs, ..) = find(
        wrong(|action, _, calls| (action == "implementation.info" && calls == 0).then(|| Answer::bytes(500, ""))),
        Then::Run,
    )
    .await;
    assert_eq!((runs[0].end, runs[0].steps.len()), (RunEnd::Aborted, 1));
    assert!(runs[1].is_clean(), "it recovers: {}", runs[1]);
}

#[tokio::test]
async fn a_write_is_tried_three_times_and_given_up_at_once_when_it_is_fatal() {
    for (own, statuses, attempts) in [
        // 503 twice, then well.
        (
            (|action, _, calls| (action == "messages.create" && calls < 2).then(|| Answer::bytes(503, "later"))) as Own,
            [SyncStatus::ExportFailure, SyncStatus::ExportFailure, SyncStatus::Success, SyncStatus::Success],
            3,
        ),
        (
            |action, _, _| (action == "messages.create").then(|| Answer::bytes(503, "later")),
            [
                SyncStatus::ExportFailure,
                SyncStatus::ExportFailure,
                SyncStatus::ExportAborted,
                SyncStatus::ExportAborted,
            ],
            3,
        ),
        (
            says!("messages.create", { "error": { "fatal": true, "message": "locked" } }),
            [SyncStatus::ExportAborted; 4],
            1,
        ),
        (
            says!("messages.create", { "error": { "fatal": false, "message": "busy" } }),
            [
                SyncStatus::ExportFailure,
                SyncStatus::ExportFailure,
                SyncStatus::ExportAborted,
                SyncStatus::ExportAborted,
            ],
            3,
        ),
    ] {
        let (_, _, channel, _sandbox) = find(wrong(own), Then::Nothing).await;
        let job = channel.write(reply()).await.unwrap().job;
        let mut seen = vec![job.status];
        let content_id = job.content_id.clone();
        for _ in 0..3 {
            let run = channel.run().await;
            if let Some(step) = run.steps.iter().find(|step| step.action == "messages.create") {
                let params = step.params.as_ref().unwrap();
                assert_eq!((&params["retry"], params["content_id"].as_str()), (&json!(true), content_id.as_deref()));
            }
            seen.push(channel.job(job.number).unwrap().status);
        }
        assert_eq!((seen.as_slice(), channel.job(job.number).unwrap().attempts), (&statuses[..], attempts));
    }
}

#[tokio::test]
async fn the_place_in_the_queue_is_told_once() {
    fn answer(action: &str, status: u16) -> Option<Answer> {
        match action {
            "messaging.queuing_update" => Some(Answer::bytes(status, "")),
            "implementation.info" => Some(queue_info()),
            _ => None,
        }
    }
    let well: Own = |action, _, _| answer(action, 204);
    let ill: Own = |action, _, _| answer(action, 500);
    for (own, status) in [(well, SyncStatus::Success), (ill, SyncStatus::ExportAborted)] {
        let (_, _, channel, _sandbox) = find(wrong(own), Then::Nothing).await;
        let job = channel.write(Write::queuing_update("t-1", 1, 30)).await.unwrap().job;
        let run = channel.run().await;
        assert_eq!((job.status, job.attempts), (status, 1), "{run}");
        assert!(!run.actions().any(|action| action.starts_with("messaging.")), "{run}");
    }
}

fn queue_info() -> Answer {
    let mut info = info();
    info["options"] = json!(["threads.no_content", "messages.text", "messaging.queuing_update"]);
    Answer::json(&info)
}

#[tokio::test]
async fn writes_wait_for_a_run_in_their_order_where_the_knob_says_so() {
    let (_, _, channel, sandbox) = find(wrong(|_, _, _| None), Then::Nothing).await;
    sandbox.knobs(|knobs| (knobs.digital.write_at_once, knobs.digital.destroy) = (false, true));
    for write in [delete(), spam(), reply()] {
        let written = channel.write(write).await.unwrap();
        assert_eq!((written.job.status, written.run.steps.len()), (SyncStatus::ExportPending, 0));
    }
    let run = channel.run().await;
    let writes: Vec<_> = run.actions().skip(3).collect();
    assert_eq!(writes, ["messages.create", "messages.spam", "messages.destroy"]);
}

#[tokio::test]
async fn a_channel_is_switched_off_after_failed_runs_until_it_is_saved() {
    let own: Own = |action, _, calls| (action == "implementation.info" && calls < 3).then(|| Answer::bytes(500, ""));
    let (_, _, channel, sandbox) = find(wrong(own), Then::Nothing).await;
    sandbox.knobs(|knobs| knobs.digital.disable_after = Some(2));
    assert!(!channel.is_switched_off());
    channel.run().await;
    assert!(channel.is_switched_off());
    let off = channel.run().await;
    assert_eq!((off.end, off.steps.len()), (RunEnd::SwitchedOff, 0));
    channel.save().await;
    assert!(channel.is_switched_off(), "saving asks the source, and it failed");
    assert!(channel.save().await.is_clean() && !channel.is_switched_off());
    assert!(channel.run().await.is_clean());
}

#[tokio::test]
async fn an_answer_without_signature_is_read_where_the_knob_says_so() {
    let own: Own = |action, params, _| Some(right(action, params).signed(Sign::Not));
    let (_, runs, channel, sandbox) = find(wrong(own), Then::Nothing).await;
    assert_eq!(runs[0].end, RunEnd::Aborted);
    sandbox.knobs(|knobs| knobs.digital.unsigned_answers = true);
    let run = channel.run().await;
    assert_eq!((run.end, run.errors().count()), (RunEnd::Complete, 0), "{run}");
    assert_eq!(channel.contents(MESSAGES).len(), 1);
}

/// JSON of any shape, with the protocol's own names among the keys.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "(m-1|t-1|0||list|reply|\\PC{0,8})".prop_map(Value::from),
    ];
    let keys = "(id|author|recipient|thread_id|in_reply_to_id|body|actions|attachments|objects|options|locales|messages|threads|error|fatal|structured_content|items|type|context_data|created_at|screenname)";
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map(keys, inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        any_json().prop_map(|value| value.to_string().into_bytes()),
        prop::collection::vec(any_json(), 0..4).prop_map(|list| Value::from(list).to_string().into_bytes()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_answer_makes_the_crawler_panic_or_go_on_for_ever(
        bodies in prop::collection::vec(any_body(), 1..6),
        status in prop_oneof![9 => Just(200_u16), 1 => 100..600_u16],
        keep_info in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let next = Arc::new(Mutex::new(bodies.into_iter().cycle()));
            let source = SourceAt::answers(move |request: Request<Bytes>| {
                let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
                let is_info = body["action"] == "implementation.info";
                let answer = if keep_info && is_info {
                    Answer::json(&info())
                } else {
                    Answer::bytes(status, next.lock().unwrap().next().unwrap())
                };
                let response = answer.response();
                async move { response }
            });
            let (_, _, channel, _sandbox) = find(source, Then::Run).await;
            if channel.capabilities().is_some() {
                for write in [reply(), delete(), spam(), Write::queuing_update("t-1", 1, 1)] {
                    let number = channel.write_unchecked(write).await.unwrap().job.number;
                    channel.repeat(number).await;
                }
                channel.show(MESSAGES, "m-1").await;
                channel.run().await;
            }
            channel.audit().await;
            channel.probe().await;
        });
    }
}
