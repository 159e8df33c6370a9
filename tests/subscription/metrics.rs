//! The metrics of a subscription's life, by a recorder that the example `prometheus` uses too.
//!
//! In a separate process, since the recorder is global to the process.

use ringcentral_events::Delivery;
use ringcentral_events::rest::Client;
use ringcentral_events::transport::WebSocket;

use crate::support::inspection::Inspection;
use crate::support::process::ran_alone;
use crate::support::recorder::Recorder;
use crate::support::subscribing::*;

/// The value of a series, by the beginning of its line.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
}

#[tokio::test]
async fn the_documented_metrics_are_recorded_and_their_labels_are_fixed_words() {
    if ran_alone(module_path!(), "the_documented_metrics_are_recorded_and_their_labels_are_fixed_words").await {
        return;
    }
    let recorder = Recorder::default();
    metrics::set_global_recorder(recorder.clone()).unwrap();
    let mut inspection = Inspection::default();
    let sandbox = quick()
        .behavior(|behavior| {
            // Announced, so that the budget knows them, and never reached.
            let limits = &mut behavior.rate_limits;
            (limits.headers, limits.auth, limits.heavy, limits.medium, limits.light) =
                (true, 100_000, 100_000, 100_000, 100_000);
        })
        .start()
        .await
        .unwrap();
    let client = Client::builder(oauth(&sandbox)).build().unwrap();
    let mut subscription = start(subscribe(&client, WebSocket::builder().build().unwrap())).await;
    let text = recorder.text();
    let live = r#"ringcentral_subscriptions{transport="WebSocket",phase="live"}"#;
    assert_eq!(value(&text, live), 1.0);
    assert_eq!(value(&text, r#"ringcentral_subscriptions{transport="WebSocket",phase="starting"}"#), 0.0);

    publish(&sandbox, [1, 2, 3]);
    for _ in 0..3 {
        assert!(matches!(next(&mut subscription).await, Delivery::Notification(_)));
    }
    let text = recorder.text();
    assert_eq!(value(&text, r#"ringcentral_events_total{origin="push"}"#), 3.0);
    assert_eq!(value(&text, r#"ringcentral_event_lag_seconds_count{origin="push"}"#), 3.0);
    assert!(value(&text, r#"ringcentral_event_lag_seconds_sum{origin="push"}"#) < 3.0 * SOON.as_secs_f64());

    // The same event again.
    let id = subscription.id().unwrap();
    sandbox.faults().duplicate_next(1);
    publish(&sandbox, [4]);
    assert!(matches!(next(&mut subscription).await, Delivery::Notification(_)));
    publish(&sandbox, [5]);
    assert!(matches!(next(&mut subscription).await, Delivery::Notification(_)));
    assert_eq!(value(&recorder.text(), "ringcentral_duplicates_total"), 1.0);
    assert_eq!(sandbox.send_frame(Some(&id), "[{\"type\":\"ServerNotification\"},pay10ad]"), 1);
    while !matches!(next(&mut subscription).await, Delivery::Undecodable(_)) {}

    sandbox.forget(&id);
    soon(subscription.handle().revalidate()).await.unwrap();
    let gap = loop {
        if let Delivery::Gap(gap) = next(&mut subscription).await {
            break gap;
        }
    };
    assert_eq!(value(&recorder.text(), "ringcentral_gap_open"), 1.0);
    while !matches!(next(&mut subscription).await, Delivery::Resumed(_)) {}
    let text = recorder.text();
    let opened = format!(
        r#"ringcentral_gaps_opened_total{{cause="{}",certainty="{}"}}"#,
        gap.cause.as_str(),
        gap.certainty.as_str()
    );
    for (series, want) in [
        (&*opened, 1.0),
        ("ringcentral_undecodable_total", 1.0),
        (r#"ringcentral_recreations_total{transport="WebSocket"}"#, 1.0),
        ("ringcentral_gap_open", 0.0),
        ("ringcentral_polling", 0.0),
        ("ringcentral_queue_bytes", 0.0),
    ] {
        assert_eq!(value(&text, series), want, "{series} in\n{text}");
    }
    assert!(text.contains("ringcentral_gaps_closed_total{complete="), "{text}");
    let (left, limit) = (
        value(&text, r#"ringcentral_rate_limit_remaining{group="auth"}"#),
        value(&text, r#"ringcentral_rate_limit{group="auth"}"#),
    );
    assert!(left < limit && limit >= 1.0, "{left} of {limit}");

    soon(subscription.close()).await;
    inspection.learn(&sandbox);
    let text = recorder.text();
    assert!(
        text.lines().filter(|line| line.starts_with("ringcentral_subscriptions{")).all(|line| line.ends_with(" 0")),
        "{text}"
    );
    // Labels are words of the crate, or names of rate groups.
    for line in text.lines().filter(|line| line.starts_with("ringcentral_")) {
        let labels = line.split_once('{').map_or("", |(_, rest)| rest.split_once('}').unwrap().0);
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (name, value) = label.split_once('=').unwrap();
            let is_word = value.trim_matches('"').bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
            assert!(name == "le" || is_word, "{line}");
        }
    }
    inspection.assert_hidden([("metrics", &text), ("metrics", &text)]);
}

#[cfg(feature = "pubnub")]
#[tokio::test]
async fn the_polls_of_pubnub_are_counted_by_their_outcome() {
    use ringcentral_sandbox::{Fault, Operation};

    if ran_alone(module_path!(), "the_polls_of_pubnub_are_counted_by_their_outcome").await {
        return;
    }
    let recorder = Recorder::default();
    metrics::set_global_recorder(recorder.clone()).unwrap();
    let sandbox = quick().start().await.unwrap();
    let client = Client::builder(oauth(&sandbox)).build().unwrap();
    let mut subscription = start(subscribe(&client, pubnub(&sandbox).build().unwrap())).await;
    publish(&sandbox, [1]);
    assert!(matches!(next(&mut subscription).await, Delivery::Notification(_)));
    // The poll that is open is answered, and the one after it fails.
    sandbox.faults().inject(Operation::Poll, Fault::status(503));
    publish(&sandbox, [2]);
    publish(&sandbox, [3]);
    for _ in 0..2 {
        assert!(matches!(next(&mut subscription).await, Delivery::Notification(_)));
    }
    let text = recorder.text();
    assert!(value(&text, r#"ringcentral_polls_total{source="pubnub",outcome="ok"}"#) >= 2.0, "{text}");
    assert_eq!(value(&text, r#"ringcentral_polled_events_total{source="pubnub"}"#), 3.0, "{text}");
    let failed = r#"ringcentral_polls_total{source="pubnub",outcome="service"} 1"#;
    soon(async {
        while !recorder.text().lines().any(|line| line == failed) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    soon(subscription.close()).await;
}
