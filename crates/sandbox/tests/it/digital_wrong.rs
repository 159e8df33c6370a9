//! For each rule, a source that violates it, and the resulting violation.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::wrong::{Answer, Own, Sign, Then, delete, find, info, message, reply, spam, wrong};
use ringcentral_sandbox::digital::{Rule, RunEnd, SourceAt, Write};
use serde_json::{Value, json};

/// Sets the response to `action` to `body`.
macro_rules! says {
    ($action:literal, $($body:tt)+) => {
        |action, _, _| (action == $action).then(|| Answer::json(&json!($($body)+)))
    };
}

/// Changes the first message of the list.
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

/// The rule, the action concerned, the content, part of the message, the source, and the test's
/// action.
type Row = (Rule, &'static str, Option<&'static str>, &'static str, Own, Then);

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
            "redirects somewhere else",
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
            "unknown option \"x\"",
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
            Rule::DestroyDeclared,
            INFO,
            None,
            "sent as messages.delete",
            says!("implementation.info", { "objects": {
                "messages": ["create", "delete", "destroy", "list", "publish", "reply", "show", "spam"],
                "threads": ["list"],
            }, "options": ["threads.no_content", "messages.text"] }),
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
            "check: wrong key",
            None,
            "a request with wrong key is accepted",
            info!(Answer::json(&info())),
            Then::Check,
        ),
        (
            Rule::GenuineRefused,
            "check: a line feed at the end",
            None,
            "gets status 400",
            |action, params, _| {
                (action == INFO && params.get("note").is_some()).then(|| Answer::bytes(400, "re-serialised"))
            },
            Then::Check,
        ),
        (
            Rule::NonsenseAccepted,
            "check: a list",
            None,
            "a list is accepted",
            |action, _, _| action.is_empty().then(|| Answer::bytes(200, "{}")),
            Then::Check,
        ),
        (
            Rule::RefusalStatus,
            "check: no action",
            None,
            "status 500",
            |action, _, _| action.is_empty().then(|| Answer::bytes(500, "boom")),
            Then::Check,
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
        (
            Rule::IdTwice,
            LIST,
            m1,
            "element 1 has the id of an earlier element",
            list!([message("m-1"), message("m-1")]),
            Then::Nothing,
        ),
        (Rule::SinceListed, LIST, m1, "since_id itself", says!("messages.list", [message("m-1")]), Then::Nothing),
        (
            Rule::ListOrder,
            LIST,
            m1,
            "the list after m-1 repeats m-2, m-3",
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
            "the list after m-3 repeats m-1",
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

/// How often the source of `ListLost` was listed from the start.
static LISTS_FROM_START: AtomicUsize = AtomicUsize::new(0);
const ORDER: Ordering = Ordering::Relaxed;

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
            "the id of the content it replies to",
            says!("messages.create", { "id": "m-1" }),
            Then::Write(reply()),
        ),
        (
            Rule::CreateIdTaken,
            CREATE,
            m1,
            "the id of another content",
            says!("messages.create", { "id": "m-1" }),
            Then::Write(Write::message("agent-1", "Hello").in_thread("t-1")),
        ),
        (
            Rule::CreateIdChanged,
            CREATE,
            Some("w-1"),
            "the id \"w-0\" before",
            |action, _, calls| (action == CREATE).then(|| Answer::json(&json!({ "id": format!("w-{calls}") }))),
            Then::Repeat(reply()),
        ),
        (
            Rule::CreateNotListed,
            "messages.list",
            m2,
            "a list from the start omits it",
            |_, _, _| None,
            Then::WriteAndAudit(reply()),
        ),
        (
            Rule::CreateBodyChanged,
            "messages.list",
            m2,
            "the listed body of 11 characters differs from the written one of 5",
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
            "the content was deleted, but is listed",
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
            "refused now: the answer has status 404",
            |action, _, calls| (action == "messages.delete" && calls > 0).then(|| Answer::bytes(404, "")),
            Then::Repeat(delete()),
        ),
    ]
}

/// Whether the source of `CreateBodyChanged` received a write.
static WRITTEN: AtomicBool = AtomicBool::new(false);

#[tokio::test]
async fn each_rule_has_a_source_that_violates_it_and_a_finding() {
    let mut covered = BTreeSet::new();
    for (rule, action, id, part, own, then) in of_answers().into_iter().chain(of_lists()).chain(of_writes()) {
        let (violations, runs, _channel, _sandbox) = find(wrong(own), then).await;
        let report = || runs.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let found = violations
            .iter()
            .find(|found| found.rule == rule && found.message.contains(part) && found.action == action);
        let found = found.unwrap_or_else(|| panic!("{rule} {part:?} not in\n{}", report()));
        assert_eq!(found.id.as_deref(), id, "{rule}\n{}", report());
        assert_eq!(found.severity, rule.severity(), "{rule}");
        let others: Vec<_> = violations.iter().filter(|other| other.rule != rule).map(|other| other.rule).collect();
        // Consequences are found too.
        let follow = match rule {
            Rule::RepeatRefused => vec![Rule::Status],
            Rule::ForgeryAccepted | Rule::NonsenseAccepted => vec![Rule::ForgeryAccepted, Rule::NonsenseAccepted],
            Rule::ListOrder => vec![Rule::ListedAgain],
            _ => vec![],
        };
        assert!(others.iter().all(|other| follow.contains(other)), "{rule}: {others:?}\n{}", report());
        covered.insert(rule);
    }

    // A refused connection and a timeout. The port is bound without listening, so that no other
    // process takes it.
    let port = tokio::net::TcpSocket::new_v4().unwrap();
    port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = SourceAt::url(&format!("http://{}/", port.local_addr().unwrap())).unwrap();
    let silent = SourceAt::answers(|_| std::future::pending());
    for (source, rule, part) in
        [(closed, Rule::NoAnswer, "no connection"), (silent, Rule::Late, "no answer within 300 ms")]
    {
        let (violations, runs, ..) = find(source, Then::Nothing).await;
        assert_eq!((violations.len(), runs[0].end), (1, RunEnd::Aborted), "{rule}");
        assert!(violations[0].rule == rule && violations[0].message.contains(part), "{violations:?}");
        covered.insert(rule);
    }
    let missing: Vec<_> = Rule::ALL.iter().filter(|rule| !covered.contains(rule)).collect();
    assert!(missing.is_empty(), "no source for {missing:?}");
}
