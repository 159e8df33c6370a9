//! The crawler against failing sources and arbitrary responses.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::wrong::{Answer, MESSAGES, Own, Sign, Then, delete, find, info, reply, right, spam, wrong};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::Request;
use proptest::prelude::*;
use ringcentral_events::digital::CollectionName;
use ringcentral_sandbox::digital::{Rule, Run, RunEnd, Severity, SourceAt, SyncStatus, Write};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// Sets the response to `action` to `body`.
macro_rules! says {
    ($action:literal, $($body:tt)+) => {
        |action, _, _| (action == $action).then(|| Answer::json(&json!($($body)+)))
    };
}

#[tokio::test]
async fn the_reference_source_is_correct() {
    for then in
        [Then::Run, Then::Show, Then::Check, Then::Repeat(reply()), Then::Repeat(delete()), Then::Repeat(spam())]
    {
        let (violations, runs, ..) = find(wrong(|_, _, _| None), then).await;
        assert!(violations.is_empty(), "{violations:?}\n{runs:?}");
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
async fn the_setting_makes_a_failed_list_end_the_run() {
    for ends in [false, true] {
        // The first run asks twice for threads.
        let own: Own = |action, _, calls| (action == "threads.list" && calls == 2).then(|| Answer::bytes(503, "later"));
        let (_, _, channel, sandbox) = find(wrong(own), Then::Nothing).await;
        sandbox.behavior(|behavior| behavior.digital.failed_list_ends_run = ends);
        let run = channel.run().await;
        let actions: Vec<_> = run.actions().collect();
        if ends {
            assert_eq!((run.end, &*actions), (RunEnd::Aborted, &["implementation.info", "threads.list"][..]), "{run}");
        } else {
            assert_eq!((run.end, actions[2]), (RunEnd::Complete, "messages.list"), "{run}");
        }
        assert!(channel.run().await.is_clean());
    }
}

#[tokio::test]
async fn the_setting_sets_how_often_a_write_is_tried() {
    for most in [1, 2] {
        let own: Own = |action, _, _| (action == "messages.create").then(|| Answer::bytes(503, "later"));
        let (_, _, channel, sandbox) = find(wrong(own), Then::Nothing).await;
        sandbox.behavior(|behavior| behavior.digital.attempts = most);
        let number = channel.write(reply()).await.unwrap().job.number;
        for _ in 0..2 {
            channel.run().await;
        }
        let job = channel.job(number).unwrap();
        assert_eq!((job.status, job.attempts), (SyncStatus::ExportAborted, most));
    }
}

#[tokio::test]
async fn a_write_is_tried_three_times_and_abandoned_at_once_if_fatal() {
    for (own, statuses, attempts) in [
        // 503 twice, then success.
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
async fn the_queue_position_is_sent_once() {
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
async fn referenced_contents_are_requested_once_and_at_most_a_hundred_per_run() {
    let own: Own = |action, params, _| {
        let item = |number: usize| {
            let mut item = crate::support::wrong::message(&format!("m-{number}"));
            item["in_reply_to_id"] = json!(format!("old-{}", number / 2));
            item
        };
        match action {
            "messages.list" if params.get("since_id").is_none() => {
                Some(Answer::json(&(0..240).rev().map(item).collect()))
            }
            "messages.show" => Some(Answer::json(&json!({}))),
            _ => None,
        }
    };
    let (violations, runs, ..) = find(wrong(own), Then::Nothing).await;
    let mut shows: Vec<_> = runs[0].steps.iter().filter(|step| step.action == "messages.show").collect();
    assert_eq!(shows.len(), 100);
    shows.dedup_by_key(|step| step.params.clone());
    assert_eq!(shows.len(), 100, "each once");
    assert_eq!(violations.len(), 240, "skipped references are reported too");
}

#[tokio::test]
async fn a_cancelled_write_is_retried_and_a_dropped_channel_leaves_nothing() {
    let kept = Arc::new(());
    let left = Arc::downgrade(&kept);
    let calls = Arc::new(AtomicUsize::new(0));
    let source = SourceAt::answers(move |request: Request<Bytes>| {
        let (kept, calls) = (Arc::clone(&kept), Arc::clone(&calls));
        async move {
            let body: Value = serde_json::from_slice(request.body()).unwrap();
            let action = body["action"].as_str().unwrap();
            if action == "messages.create" && calls.fetch_add(1, Ordering::Relaxed) == 0 {
                std::future::pending::<()>().await;
            }
            drop(kept);
            right(action, &body["params"]).response()
        }
    });
    let (_, _, mut channel, sandbox) = find(source, Then::Nothing).await;
    sandbox.behavior(|behavior| behavior.digital.timeout = PATIENCE);
    let mut write = Box::pin(channel.write(reply()));
    while channel.jobs().first().is_none_or(|job| job.attempts == 0) {
        assert!((&mut write).now_or_never().is_none());
    }
    drop(write);
    let job = &channel.jobs()[0];
    assert_eq!((job.status, job.why.as_deref()), (SyncStatus::ExportFailure, Some("aborted")));
    assert!(channel.run().await.is_clean());
    assert_eq!(channel.jobs()[0].status, SyncStatus::Success);

    channel.start();
    assert!(channel.wait_runs(4, PATIENCE).await);
    drop(channel);
    let gone = async {
        while left.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the crawl has ended");
}

#[tokio::test]
async fn contents_that_a_failed_list_may_contain_are_not_errors() {
    let own: Own = |action, params, _| match action {
        "threads.list" => Some(Answer::bytes(503, "later")),
        "messages.list" if params.get("since_id").is_none() => {
            let mut item = crate::support::wrong::message("m-1");
            item["in_reply_to_id"] = json!("m-0");
            Some(Answer::json(&json!([item])))
        }
        "messages.show" => Some(Answer::json(&json!({}))),
        _ => None,
    };
    let (violations, ..) = find(wrong(own), Then::Nothing).await;
    let unresolved: Vec<_> = violations.iter().filter(|found| found.rule == Rule::ReplyUnresolved).collect();
    assert_eq!((unresolved.len(), unresolved[0].severity), (1, Severity::Warning), "{violations:?}");
}

#[tokio::test]
async fn a_deletion_has_the_name_that_the_source_declares() {
    let rows: [(Own, &str); 3] = [
        (says!("implementation.info", { "objects": { "messages": ["list", "destroy"] } }), "messages.destroy"),
        (says!("implementation.info", { "objects": { "messages": ["list", "delete"] } }), "messages.delete"),
        (says!("implementation.info", { "objects": { "messages": ["list", "destroy", "delete"] } }), "messages.delete"),
    ];
    for (own, sent) in rows {
        let (_, _, channel, _sandbox) = find(wrong(own), Then::Nothing).await;
        let written = channel.write_unchecked(delete()).await.unwrap();
        assert_eq!(written.run.actions().collect::<Vec<_>>(), [sent]);
    }
}

#[tokio::test]
async fn the_setting_defers_writes_to_the_next_run_in_order() {
    let (_, _, channel, sandbox) = find(wrong(|_, _, _| None), Then::Nothing).await;
    sandbox.behavior(|behavior| (behavior.digital.write_at_once, behavior.digital.destroy) = (false, true));
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
    sandbox.behavior(|behavior| behavior.digital.disable_after = Some(2));
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
async fn a_setting_accepts_unsigned_answers() {
    let own: Own = |action, params, _| Some(right(action, params).signed(Sign::Not));
    let (_, runs, channel, sandbox) = find(wrong(own), Then::Nothing).await;
    assert_eq!(runs[0].end, RunEnd::Aborted);
    sandbox.behavior(|behavior| behavior.digital.unsigned_answers = true);
    let run = channel.run().await;
    assert_eq!((run.end, run.errors().count()), (RunEnd::Complete, 0), "{run}");
    assert_eq!(channel.contents(MESSAGES).len(), 1);
}

/// JSON of any shape, with the protocol's names among the keys.
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
    fn no_answer_makes_the_crawler_panic_or_run_forever(
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
            channel.check_requests().await;
        });
    }
}
