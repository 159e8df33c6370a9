//! The spans and metrics of the platform's actions are what `telemetry` documents.
//!
//! In separate processes, since collector and recorder are global to a process.

use bytes::Bytes;
use http::Request;
use ringcentral_events::digital::{Failure, MemoryFeed, Message, Messages, Source, SourceEndpoint, SourceOption};
use serde_json::json;

use crate::support::digital::{act, agent, ask, body_of, endpoint};
use crate::support::process::ran_alone;
use crate::support::spans::Collector;

fn source() -> SourceEndpoint {
    let feed = MemoryFeed::new();
    for id in ["m-1", "m-2"] {
        let mut message = Message::new(id, agent());
        message.body = Some("Hi".into());
        feed.put(message);
    }
    let source = Source::builder()
        .option(SourceOption::MessagesUnthreaded)
        .list(Messages, feed)
        .create(Messages, |_| std::future::ready(Err::<Message, _>(Failure::unavailable("not now"))));
    endpoint(source.build().unwrap())
}

/// A crawl, a write that fails, and a request that is not signed.
async fn acted() {
    let source = source();
    act(&source, "messages.list", json!({})).await;
    let create = body_of("messages.create", Some(json!({ "author_id": "agent-1", "body": "s3cret" })));
    assert_eq!(ask(&source, create).await.0, 503);
    let unsigned = Request::post("/").body(Bytes::from_static(b"{\"action\":\"s3cret\"}")).unwrap();
    assert_eq!(source.handle(unsigned).await.status().as_u16(), 422);
}

#[tokio::test]
async fn each_action_of_the_platform_is_a_span_without_its_content() {
    if ran_alone(module_path!(), "each_action_of_the_platform_is_a_span_without_its_content").await {
        return;
    }
    let seen = Collector::global();
    acted().await;
    let actions = seen.named("action");
    assert_eq!(actions.len(), 3, "{actions:?}");
    for (action, name, status, count, error) in [
        (&actions[0], Some("messages.list"), "200", Some("2"), None),
        (&actions[1], Some("messages.create"), "503", None, Some("503")),
        (&actions[2], None, "422", None, Some("422")),
    ] {
        assert_eq!((&*action.target, &*action.level), ("ringcentral_events::digital", "DEBUG"));
        for (field, want) in [
            ("messaging.system", Some("ringcentral")),
            ("messaging.operation.name", Some("process")),
            ("ringcentral.digital.action", name),
            ("http.response.status_code", Some(status)),
            ("messaging.batch.message_count", count),
            ("error.type", error),
        ] {
            assert_eq!(action.field(field), want, "{field}: {action:?}");
        }
    }
    let all = format!("{:?}", seen.0.lock().unwrap());
    assert!(!all.contains("s3cret"), "{all}");
}

#[cfg(feature = "metrics")]
#[tokio::test]
async fn the_actions_of_the_platform_are_counted_by_name_and_outcome() {
    use crate::support::recorder::Recorder;

    if ran_alone(module_path!(), "the_actions_of_the_platform_are_counted_by_name_and_outcome").await {
        return;
    }
    let recorder = Recorder::default();
    metrics::set_global_recorder(recorder.clone()).unwrap();
    acted().await;
    let text = recorder.text();
    for series in [
        r#"ringcentral_digital_actions_total{action="messages_list",outcome="ok"} 1"#,
        r#"ringcentral_digital_actions_total{action="messages_create",outcome="failed"} 1"#,
        r#"ringcentral_digital_actions_total{action="none",outcome="refused"} 1"#,
        r#"ringcentral_digital_action_seconds_count{action="messages_list"} 1"#,
        r#"ringcentral_digital_listed_total{collection="messages"} 2"#,
    ] {
        assert!(text.lines().any(|line| line == series), "{series} in\n{text}");
    }
}
