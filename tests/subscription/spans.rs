//! The spans of a subscription's life: names, targets, levels, fields and parents are what `telemetry` documents, and
//! none of them shows a secret.
//!
//! In a separate process, since the collector is global to the process.

use ringcentral_events::rest::{Client, Method};
use ringcentral_events::transport::{Transport, WebSocket};
use ringcentral_events::{Delivery, Phase};
use ringcentral_sandbox::{Fault, Operation, Sandbox};

use crate::support::inspection::Inspection;
use crate::support::process::ran_alone;
use crate::support::spans::{Collector, Seen};
use crate::support::subscribing::*;

async fn lives_and_ends(sandbox: &Sandbox, transport: impl Transport, seen: &Collector) {
    let kind = transport.kind().as_str();
    let client = Client::builder(oauth(sandbox)).build().unwrap();
    let mut subscription = start(subscribe(&client, transport)).await;
    publish(sandbox, [1]);
    let Delivery::Notification(event) = next(&mut subscription).await else { panic!("no event") };
    let of_event =
        || seen.named("delivery").into_iter().rfind(|span| span.field("ringcentral.delivery") == Some("event"));
    let span = of_event().unwrap();
    assert!(!span.is_closed, "the reader works with it");
    assert_eq!((&*span.target, &*span.level), ("ringcentral_events::delivery", "DEBUG"));
    for (name, want) in [
        ("messaging.system", "ringcentral"),
        ("messaging.operation.name", "process"),
        ("messaging.message.id", event.uuid().unwrap()),
        ("ringcentral.event.kind", "MessageStore"),
        ("ringcentral.origin", "push"),
    ] {
        assert_eq!(span.field(name), Some(want), "{name}");
    }
    // Lost at the service: a gap, and another id.
    let id = subscription.id().unwrap();
    sandbox.forget(&id);
    soon(subscription.handle().revalidate()).await.unwrap();
    let Delivery::Gap(_) = next(&mut subscription).await else { panic!("no gap") };
    assert!(of_event().unwrap().is_closed, "the next one was asked for");
    phase(&subscription, Phase::Live).await;
    let new = subscription.id().unwrap();

    let [span] = &seen.named("subscription").into_iter().filter(|it| !it.is_closed).collect::<Vec<_>>()[..] else {
        panic!("{:?}", seen.named("subscription"))
    };
    assert_eq!((&*span.target, &*span.level), ("ringcentral_events::subscription", "INFO"));
    for (name, want) in [
        ("messaging.system", "ringcentral"),
        ("messaging.operation.name", "subscribe"),
        ("messaging.destination.subscription.name", new.as_str()),
        ("ringcentral.transport", kind),
    ] {
        assert_eq!(span.field(name), Some(want), "{name}");
    }
    let links: Vec<_> = seen.named("link").into_iter().filter(|it| it.parent == Some(span.id)).collect();
    for link in &links {
        assert_eq!((&*link.target, &*link.level), ("ringcentral_events::link", "DEBUG"));
        assert_eq!(link.field("ringcentral.transport"), Some(kind));
        assert_eq!(link.field("messaging.operation.name"), Some("receive"));
    }
    for id in [&id, &new] {
        let is_of = |it: &Seen| it.field("messaging.destination.subscription.name") == Some(id.as_str());
        assert!(links.iter().any(is_of), "{links:?}");
    }
    let counts = |it: &Seen| it.field("messaging.batch.message_count") == Some("1") && it.parent == Some(span.id);
    assert!(seen.named("batch").iter().any(counts), "{:?}", seen.named("batch"));
    soon(subscription.close()).await;
    let is_closed = || seen.named("subscription").iter().rfind(|it| it.id == span.id).unwrap().is_closed;
    soon(async {
        while !is_closed() {
            seen.1.notified().await;
        }
    })
    .await;
}

/// The polls so far, all of them over PubNub.
fn polls(seen: &Collector) {
    let polls = seen.named("poll");
    for poll in &polls {
        assert_eq!((&*poll.target, &*poll.level), ("ringcentral_events::poll", "DEBUG"));
        for (name, want) in [
            ("messaging.system", "ringcentral"),
            ("messaging.operation.name", "receive"),
            ("ringcentral.source", "pubnub"),
        ] {
            assert_eq!(poll.field(name), Some(want), "{name}");
        }
    }
    let with = |count| polls.iter().any(|poll| poll.field("messaging.batch.message_count") == Some(count));
    assert!(with("0") && with("1"), "{polls:?}");
}

/// A request that is repeated once.
async fn calls(sandbox: &Sandbox, seen: &Collector) {
    let client = Client::builder(oauth(sandbox)).build().unwrap();
    sandbox.faults().inject(Operation::OtherApi, Fault::status(503));
    let before = seen.named("call").len();
    client.request(Method::GET, "/restapi/v1.0/account/~/extension/~").send().await.unwrap();
    let [login, refused, answered] = &seen.named("call")[before..] else { panic!("{:?}", seen.named("call")) };
    for (call, method, template, status, error) in [
        (login, "POST", "/restapi/oauth/token", "200", None),
        (refused, "GET", "/restapi/v1.0/account/*/extension/*", "503", Some("503")),
        (answered, "GET", "/restapi/v1.0/account/*/extension/*", "200", None),
    ] {
        assert_eq!((&*call.target, &*call.level, call.is_closed), ("ringcentral_events::call", "DEBUG", true));
        assert_eq!(call.field("http.request.method"), Some(method));
        assert_eq!(call.field("url.template"), Some(template));
        assert_eq!(call.field("server.address"), Some("127.0.0.1"));
        assert_eq!(call.field("network.protocol.name"), Some("http"));
        assert_eq!((call.field("http.response.status_code"), call.field("error.type")), (Some(status), error));
    }
    sandbox.faults().inject(Operation::OtherApi, Fault::close().until_cleared());
    let call = client.request(Method::POST, "/restapi/v1.0/account/~/extension/~/sms").json(&serde_json::json!({}));
    call.send().await.unwrap_err();
    let broken = seen.named("call").pop().unwrap();
    assert_eq!((broken.field("error.type"), broken.field("http.response.status_code")), (Some("network"), None));
    sandbox.faults().clear_all();
}

#[tokio::test]
async fn the_documented_spans_are_opened_and_show_no_secret() {
    if ran_alone(module_path!(), "the_documented_spans_are_opened_and_show_no_secret").await {
        return;
    }
    let seen = Collector::global();
    let mut inspection = Inspection::default();
    for over_pubnub in [true, false] {
        let sandbox = quick().start().await.unwrap();
        calls(&sandbox, &seen).await;
        if over_pubnub {
            lives_and_ends(&sandbox, pubnub(&sandbox).build().unwrap(), &seen).await;
            polls(&seen);
        } else {
            lives_and_ends(&sandbox, WebSocket::builder().build().unwrap(), &seen).await;
            let over_socket = |it: &Seen| {
                it.field("network.protocol.name") == Some("websocket")
                    && it.field("url.template") == Some("/restapi/v1.0/subscription")
                    && it.field("http.response.status_code") == Some("200")
            };
            assert!(seen.named("call").iter().any(over_socket), "{:?}", seen.named("call"));
        }
        inspection.learn(&sandbox);
    }
    let all = format!("{:?}", seen.0.lock().unwrap());
    inspection.assert_hidden([("spans", &all), ("spans", &all)]);
}
