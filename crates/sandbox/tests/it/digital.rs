//! The sandbox's crawler against correct sources.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::digital::{Forum, TOKEN};
use axum::Router;
use ringcentral_events::ErrorKind;
use ringcentral_events::digital::{CollectionName, Message, SourceEndpoint, Thread};
use ringcentral_sandbox::Sandbox;
use ringcentral_sandbox::digital::{
    DigitalChannel, Origin, Rule, RunEnd, SignatureIn, SourceAt, SyncStatus, WireForm, Write,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_secs(60);
const MESSAGES: CollectionName = CollectionName::Messages;

fn ids(channel: &DigitalChannel, collection: CollectionName) -> Vec<String> {
    channel.contents(collection).into_iter().map(|content| content.id).collect()
}

fn endpoint(forum: &Forum) -> SourceEndpoint {
    SourceEndpoint::builder(forum.source(), TOKEN).query_signature(true).build().unwrap()
}

#[tokio::test]
async fn a_run_asks_in_order_imports_all_pages_and_the_next_continues() {
    let forum = Forum::new();
    let message = |number: u32| forum.message(&format!("m-{number}"), "t-1", None);
    (1..=250).for_each(|number| forum.messages.put(message(number)));
    let sandbox = Sandbox::start().await.unwrap();
    let channel = sandbox.digital_channel(SourceAt::endpoint(endpoint(&forum)), TOKEN).unwrap();
    let run = channel.run().await;
    assert!(run.is_clean(), "{run}");
    let lists = ["threads.list", "threads.list", "messages.list", "messages.list", "messages.list", "messages.list"];
    assert_eq!(run.actions().collect::<Vec<_>>(), [&["implementation.info"][..], &lists].concat());
    let params: Vec<_> =
        run.steps.iter().map(|step| step.params.clone().map(|params| params["since_id"].clone())).collect();
    let since = |id: &str| Some(json!(id));
    assert_eq!(params, [None, None, since("t-1"), None, since("m-100"), since("m-200"), since("m-250")]);
    let want: Vec<_> = (1..=250).map(|number| format!("m-{number}")).collect();
    assert_eq!(ids(&channel, MESSAGES), want, "in the order in which they came");
    assert_eq!(ids(&channel, CollectionName::Threads), ["t-1"]);

    forum.messages.put(message(251));
    let run = channel.run().await;
    assert!(run.is_clean() && run.number == 2, "{run}");
    assert_eq!(run.steps[2].params.as_ref().unwrap()["since_id"], "m-250");
    assert_eq!(run.steps[2].outcome, "1 new: m-251");
    assert!(channel.missing(MESSAGES, ["m-251"]).is_empty());
    assert_eq!(channel.missing(MESSAGES, ["m-999"])[0].id.as_deref(), Some("m-999"));
    let audit = channel.audit().await;
    assert!(audit.is_clean(), "{audit}");
}

#[tokio::test]
async fn the_setting_limits_a_run_to_one_page() {
    let forum = Forum::new();
    (1..=150).for_each(|number| forum.messages.put(forum.message(&format!("m-{number}"), "t-1", None)));
    let sandbox = Sandbox::builder().behavior(|behavior| behavior.digital.all_pages = false).start().await.unwrap();
    let channel = sandbox.digital_channel(SourceAt::endpoint(endpoint(&forum)), TOKEN).unwrap();
    for want in [100, 150] {
        let run = channel.run().await;
        assert!(run.is_clean(), "{run}");
        assert_eq!(run.actions().collect::<Vec<_>>(), ["implementation.info", "threads.list", "messages.list"]);
        assert_eq!(ids(&channel, MESSAGES).len(), want);
    }
}

#[tokio::test]
async fn the_setting_adds_empty_params_to_first_lists() {
    let forum = Forum::new();
    forum.messages.put(forum.message("m-1", "t-1", None));
    for empty in [false, true] {
        let sandbox =
            Sandbox::builder().behavior(|behavior| behavior.digital.empty_params = empty).start().await.unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (endpoint, requests) = (endpoint(&forum), Arc::clone(&seen));
        let source = SourceAt::answers(move |request| {
            requests.lock().unwrap().push(serde_json::from_slice::<Value>(request.body()).unwrap());
            let endpoint = endpoint.clone();
            async move { endpoint.handle(request).await }
        });
        let run = sandbox.digital_channel(source, TOKEN).unwrap().run().await;
        assert!(run.is_clean(), "{run}");
        let first = empty.then(|| json!({}));
        let params: Vec<_> = seen.lock().unwrap().iter().map(|body| body.get("params").cloned()).collect();
        let since = |id: &str| Some(json!({ "since_id": id }));
        assert_eq!(params, [None, first.clone(), since("t-1"), first, since("m-1")]);
    }
}

#[tokio::test]
async fn agents_answer_hide_mark_and_delete() {
    let forum = Forum::new();
    forum.messages.put(forum.message("m-1", "t-1", None));
    let sandbox = Sandbox::start().await.unwrap();
    let channel = sandbox.digital_channel(SourceAt::endpoint(endpoint(&forum)), TOKEN).unwrap();
    let early = channel.write(Write::message("agent-1", "x")).await.unwrap_err();
    assert_eq!(early.kind(), ErrorKind::Config, "the capabilities are unknown");
    channel.run().await;

    let answer = Write::message("agent-1", "On its way. Ça va ?").in_thread("t-1").in_reply_to("m-1");
    let written = channel.write(answer).await.unwrap();
    assert!(written.run.is_clean(), "{}", written.run);
    assert_eq!((written.job.status, written.job.attempts), (SyncStatus::Success, 1));
    let id = written.job.id.clone().unwrap();
    assert_eq!(forum.messages.get(&id).unwrap().body.as_deref(), Some("On its way. Ça va ?"));
    let content = channel.content(MESSAGES, &id).unwrap();
    assert_eq!((content.origin, content.content_id.clone()), (Origin::Created, written.job.content_id.clone()));
    let sent = written.run.steps[0].params.clone().unwrap();
    assert_eq!((&sent["retry"], &sent["format"]), (&json!(false), &json!("text")));

    let again = channel.repeat(written.job.number).await;
    assert!(again.is_clean(), "{again}");
    assert_eq!(again.steps[0].params.as_ref().unwrap()["retry"], true);
    assert_eq!(forum.messages.contents().len(), 2, "it is written once");
    let run = channel.run().await;
    assert!(run.is_clean(), "a list returns the created content: {run}");
    assert_eq!(channel.content(MESSAGES, &id).unwrap().listed, 1);

    for (write, actions) in [
        (Write::on(MESSAGES, "unpublish", "m-1"), &["publish"][..]),
        (Write::on(MESSAGES, "publish", "m-1"), &Forum::SHOWN),
        (Write::custom(MESSAGES, "spam", "m-1", "agent-1"), &["unspam"]),
    ] {
        let written = channel.write(write).await.unwrap();
        assert!(written.run.is_clean(), "{}", written.run);
        assert_eq!(channel.content(MESSAGES, "m-1").unwrap().actions().collect::<Vec<_>>(), actions);
    }
    let gone = channel.write(Write::on(MESSAGES, "delete", "m-1")).await.unwrap_err();
    assert!(gone.to_string().contains("delete is not in the actions of m-1"), "{gone}");
    let deleted = channel.write(Write::on(MESSAGES, "delete", &id)).await.unwrap();
    assert!(deleted.run.is_clean() && channel.content(MESSAGES, &id).unwrap().deleted, "{}", deleted.run);
    assert!(channel.repeat(deleted.job.number).await.is_clean(), "the second time too");
    let audit = channel.audit().await;
    assert!(audit.is_clean(), "{audit}");
}

#[tokio::test]
async fn a_write_with_a_lost_answer_or_sent_twice_is_done_once() {
    let forum = Forum::new();
    let sandbox = Sandbox::start().await.unwrap();
    let channel = sandbox.digital_channel(SourceAt::endpoint(endpoint(&forum)), TOKEN).unwrap();
    channel.run().await;
    channel.lose_answers(2);
    let write = Write::message("agent-1", "On its way.").in_thread("t-1");
    let job = channel.write(write).await.unwrap().job;
    assert_eq!((job.status, forum.messages.contents().len()), (SyncStatus::ExportFailure, 1), "the source has it");
    let run = channel.run().await;
    assert!(run.violations().next().is_none(), "no fault of the source: {run}");
    let run = channel.run().await;
    assert!(run.is_clean(), "{run}");
    let job = channel.job(job.number).unwrap();
    assert_eq!((job.status, job.attempts), (SyncStatus::Success, 3));
    let (one, two) = tokio::join!(channel.repeat(job.number), channel.repeat(job.number));
    assert!(one.is_clean() && two.is_clean(), "{one}\n{two}");
    assert_eq!(forum.messages.contents().len(), 1, "it is written once");
    assert!(channel.audit().await.is_clean());
}

#[tokio::test]
async fn every_form_and_place_of_the_signature_is_accepted_and_every_forgery_refused() {
    let forum = Forum::new();
    forum.messages.put(forum.message("m-1", "t-1", None));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/source?tenant=1", listener.local_addr().unwrap());
    let router = Router::new().route_service("/source", endpoint(&forum));
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let sandbox = Sandbox::start().await.unwrap();
    let channel = sandbox.digital_channel(SourceAt::url(&url).unwrap(), TOKEN).unwrap();
    for place in [SignatureIn::Header, SignatureIn::Query, SignatureIn::Both] {
        for form in WireForm::ALL {
            sandbox.behavior(|behavior| (behavior.digital.signature_in, behavior.digital.wire) = (place, form));
            let run = channel.run().await;
            assert!(run.is_clean(), "{place:?} {form:?}: {run}");
            let body = "Ça va ? 😀 <b>&</b> /";
            let written = channel.write(Write::message("agent-1", body).in_thread("t-1")).await.unwrap();
            assert!(written.run.is_clean(), "{place:?} {form:?}: {}", written.run);
            let id = written.job.id.unwrap();
            assert_eq!(forum.messages.get(&id).unwrap().body.as_deref(), Some(body));
        }
    }
    let checks = channel.check_requests().await;
    assert!(checks.is_clean() && checks.steps.iter().all(|step| step.succeeded), "{checks}");
    assert!(checks.steps.len() > 20);
    server.abort();
    let run = {
        let _ = server.await;
        channel.run().await
    };
    assert_eq!((run.end, run.steps.len()), (RunEnd::Aborted, 1), "{run}");
}

#[tokio::test]
async fn it_runs_periodically_and_the_sandboxs_clock_skips_a_gap() {
    let forum = Forum::new();
    let sandbox = Sandbox::builder().behavior(|behavior| behavior.digital.faster = 1).start().await.unwrap();
    let mut channel = sandbox.digital_channel(SourceAt::endpoint(endpoint(&forum)), TOKEN).unwrap();
    channel.start();
    assert!(channel.wait_runs(1, PATIENCE).await);
    forum.messages.put(forum.message("m-1", "t-1", None));
    // Skips the longest gap; the second one is not waited for here.
    sandbox.advance(Duration::from_secs(120));
    assert!(channel.wait_runs(2, PATIENCE).await);
    assert_eq!(ids(&channel, MESSAGES), ["m-1"]);
    sandbox.advance(Duration::from_secs(59));
    channel.stop().await;
    assert_eq!(channel.runs().len(), 2);

    sandbox.behavior(|behavior| behavior.digital.faster = 6000);
    channel.start();
    assert!(channel.wait_runs(5, PATIENCE).await, "a minute is 10 ms, and a gap at most two");
}

#[tokio::test]
async fn referenced_contents_are_requested() {
    let forum = Forum::new();
    let mut answer = forum.message("m-9", "t-old", Some("m-old"));
    answer.body = Some("Thanks".into());
    forum.messages.put(answer);
    forum.archive(forum.message("m-old", "t-old", None), Thread::new("t-old", "Old"));
    let sandbox = Sandbox::start().await.unwrap();
    let channel = sandbox.digital_channel(SourceAt::endpoint(endpoint(&forum)), TOKEN).unwrap();
    let run = channel.run().await;
    assert!(run.is_clean(), "{run}");
    let shows: Vec<_> = run.actions().filter(|action| action.ends_with(".show")).collect();
    assert_eq!(shows, ["messages.show", "threads.show"]);
    assert_eq!(channel.content(MESSAGES, "m-old").unwrap().origin, Origin::Shown);
    assert!(channel.show(MESSAGES, "nobody").await.is_clean());
}

#[tokio::test]
async fn the_setting_leaves_referenced_contents_unrequested() {
    for show in [true, false] {
        let forum = Forum::new();
        forum.messages.put(forum.message("m-9", "t-1", Some("m-old")));
        forum.archive(forum.message("m-old", "t-1", None), Thread::new("t-1", "Delivery"));
        let sandbox =
            Sandbox::builder().behavior(|behavior| behavior.digital.show_unknown = show).start().await.unwrap();
        let channel = sandbox.digital_channel(SourceAt::endpoint(endpoint(&forum)), TOKEN).unwrap();
        let run = channel.run().await;
        let shows = run.actions().filter(|action| action.ends_with(".show")).count();
        let rules: Vec<_> = run.violations().map(|violation| violation.rule).collect();
        if show {
            assert_eq!((shows, rules), (1, Vec::new()), "{run}");
        } else {
            assert_eq!((shows, rules), (0, vec![Rule::ReplyUnresolved]), "{run}");
        }
        assert_eq!(channel.content(MESSAGES, "m-old").is_some(), show);
    }
}

#[tokio::test]
async fn the_channel_contains_the_crates_message_type() {
    let forum = Forum::new();
    forum.messages.put(forum.message("m-1", "t-1", None));
    let sandbox = Sandbox::start().await.unwrap();
    let channel = sandbox.digital_channel(SourceAt::endpoint(endpoint(&forum)), TOKEN).unwrap();
    channel.run().await;
    let content = serde_json::Value::Object(channel.content(MESSAGES, "m-1").unwrap().content);
    let read: Message = serde_json::from_value(content).unwrap();
    assert_eq!(read, forum.messages.get("m-1").unwrap());
    assert_eq!(channel.users().len(), 1);
    assert_eq!(channel.capabilities().unwrap().label("fr", "spam"), "Signaler");
}
