//! The spans and metrics of an agent session are what `telemetry` documents, and none of them shows a secret.
//!
//! In separate processes, since collector and recorder are global to a process.

use ringcentral_events::agent::{AgentDelivery, AgentEvent, AgentEvents, EndSession};

use crate::support::agent::*;
use crate::support::process::ran_alone;
use crate::support::scripted::Reply;
use crate::support::spans::Collector;

/// A service with two batches and a failure between them; the session id and the token are secrets.
async fn service() -> Service {
    let service = Service::start().await;
    service.polls.then(batch("S3cretA", &[start_event(), state("Available")]));
    service.polls.then(Reply::new(503, "")).then(batch("S3cretB", &[call("1", "Active", false)]));
    service
}

async fn called(events: &mut AgentEvents) {
    loop {
        let delivery = soon(events.next()).await.unwrap().unwrap();
        if let AgentDelivery::Notification(it) = delivery
            && matches!(it.event(), AgentEvent::CallContact(_))
        {
            return;
        }
    }
}

#[tokio::test]
async fn the_polls_and_calls_of_an_agent_session_have_spans_without_its_id() {
    if ran_alone(module_path!(), "the_polls_and_calls_of_an_agent_session_have_spans_without_its_id").await {
        return;
    }
    let seen = Collector::global();
    let service = service().await;
    let (session, mut events) = service.events().await;
    called(&mut events).await;
    let [span] = &seen.named("agent_session")[..] else { panic!("{:?}", seen.named("agent_session")) };
    assert_eq!((&*span.target, &*span.level, span.is_closed), ("ringcentral_events::agent", "INFO", false));
    assert_eq!(span.field("messaging.system"), Some("cxone"));
    assert_eq!(span.field("messaging.operation.name"), Some("subscribe"));
    let polls = seen.named("poll");
    for (poll, count, error) in
        [(&polls[0], Some("2"), None), (&polls[1], None, Some("service")), (&polls[2], Some("1"), None)]
    {
        assert_eq!((&*poll.target, &*poll.level), ("ringcentral_events::poll", "DEBUG"));
        assert_eq!(poll.parent, Some(span.id));
        for (name, want) in [
            ("messaging.system", Some("cxone")),
            ("messaging.operation.name", Some("receive")),
            ("ringcentral.source", Some("agent")),
            ("messaging.batch.message_count", count),
            ("error.type", error),
        ] {
            assert_eq!(poll.field(name), want, "{name}");
        }
    }
    service.calls.then(Reply::new(202, ""));
    session.end(EndSession::new()).await.unwrap();
    let calls = seen.named("call");
    let sessions = "/inContactAPI/services/v23.0/agent-sessions";
    let poll = format!("{sessions}/*/get-next-event");
    for (method, template, status, parent) in [
        ("POST", sessions, "202", None),
        ("GET", &poll, "200", Some(polls[0].id)),
        ("GET", &poll, "503", Some(polls[1].id)),
        ("DELETE", &format!("{sessions}/*"), "202", None),
    ] {
        let is_it = |it: &&crate::support::spans::Seen| {
            it.field("http.request.method") == Some(method)
                && it.field("url.template") == Some(template)
                && it.field("http.response.status_code") == Some(status)
                && it.field("server.address") == Some("127.0.0.1")
                && parent.is_none_or(|parent| it.parent == Some(parent))
        };
        assert!(calls.iter().any(|it| is_it(&it)), "{method} {template} {status}: {calls:?}");
    }
    let all = format!("{:?}", seen.0.lock().unwrap());
    for secret in ["S3cret", "t0ken", "+12055550100"] {
        assert!(!all.contains(secret), "{all}");
    }
}

#[cfg(feature = "metrics")]
#[tokio::test]
async fn the_polls_events_and_phases_of_agent_sessions_are_counted() {
    use crate::support::recorder::Recorder;

    if ran_alone(module_path!(), "the_polls_events_and_phases_of_agent_sessions_are_counted").await {
        return;
    }
    let recorder = Recorder::default();
    metrics::set_global_recorder(recorder.clone()).unwrap();
    let service = service().await;
    let (_session, mut events) = service.events().await;
    called(&mut events).await;
    let text = recorder.text();
    for series in [
        r#"ringcentral_polls_total{source="agent",outcome="ok"} 2"#,
        r#"ringcentral_polls_total{source="agent",outcome="service"} 1"#,
        r#"ringcentral_polled_events_total{source="agent"} 3"#,
        r#"ringcentral_agent_sessions{phase="live"} 1"#,
        r#"ringcentral_agent_sessions{phase="reconnecting"} 0"#,
    ] {
        assert!(text.lines().any(|line| line == series), "{series} in\n{text}");
    }
    let yielded: f64 = text
        .lines()
        .filter_map(|line| line.strip_prefix("ringcentral_agent_events_total{")?.rsplit(' ').next())
        .map(|value| value.parse::<f64>().unwrap())
        .sum();
    assert_eq!(yielded, 3.0, "{text}");
    drop(events);
    let sessions = || {
        let text = recorder.text();
        let values = text.lines().filter(|line| line.starts_with("ringcentral_agent_sessions{")).map(str::to_owned);
        values.collect::<Vec<_>>()
    };
    // The aborted task is dropped by the runtime.
    soon(async {
        while sessions().iter().any(|line| !line.ends_with(" 0")) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
