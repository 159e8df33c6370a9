//! Backfilled copies of pushed events are recognized: no event is delivered twice.

use std::sync::Arc;
use std::time::Duration;

use crate::support::bare::{Client, Cursor, notification, quick};
use crate::support::catch_up::{Follower, client, line, lines, now};
use ringcentral_events::catch_up::{A2pMessages, CallLogSync, CatchUp, Insights, MessageSync, TeamPosts};
use ringcentral_events::event::RingSenseDomain;
use ringcentral_events::{EventFilter, Notification, Origin};
use ringcentral_sandbox::{Fixture, Sandbox};
use serde_json::value::RawValue;

fn filters() -> Vec<EventFilter> {
    vec![
        EventFilter::message_store(),
        EventFilter::instant_message(),
        EventFilter::fax(),
        EventFilter::voicemail(),
        EventFilter::missed_calls(),
        EventFilter::telephony_sessions(),
        EventFilter::team_posts(),
        EventFilter::a2p_messages(),
    ]
}

/// One event of each kind.
fn happenings() -> Vec<Fixture> {
    vec![
        Fixture::inbound_sms("+16505550100", "hi"),
        Fixture::fax("+16505550100"),
        Fixture::voicemail("+16505550100"),
        Fixture::missed_call("+16505550100"),
        Fixture::telephony_session("Disconnected"),
        Fixture::team_post("hi"),
        Fixture::a2p_message("+16505550100", "hi"),
    ]
}

async fn sandbox() -> Sandbox {
    let quick = quick().behavior(|behavior| {
        behavior.rate_limits.headers = false;
        behavior.account.call_log_delay = Duration::ZERO;
    });
    quick.start().await.unwrap()
}

/// The sources, each at its position.
async fn followers(sandbox: &Sandbox) -> Vec<Follower<Arc<dyn CatchUp>>> {
    let client = client(sandbox);
    let sources: Vec<Arc<dyn CatchUp>> = vec![
        Arc::new(MessageSync::new(client.clone())),
        Arc::new(CallLogSync::new(client.clone())),
        Arc::new(TeamPosts::new(client.clone())),
        Arc::new(A2pMessages::new(client)),
    ];
    let mut all = Vec::new();
    for source in sources {
        all.push(Follower::begin(source, filters()).await);
    }
    all
}

#[tokio::test]
async fn pushed_events_are_not_delivered_again() {
    let sandbox = sandbox().await;
    let push = Client::login(&sandbox).await;
    let texts: Vec<String> = filters().iter().map(ToString::to_string).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let info = push.subscribed(&texts).await;
    let mut cursor = Cursor::start();
    push.next(&info, &mut cursor).await;
    let mut followers = followers(&sandbox).await;
    let gap = now();
    let uuids = sandbox.trigger_all(&happenings());
    let pushed: Vec<Notification> = push
        .next(&info, &mut cursor)
        .await
        .iter()
        .map(|message| {
            let raw = RawValue::from_string(notification(&info, message).to_string()).unwrap();
            Notification::parse(raw, Origin::Push, now()).unwrap()
        })
        .collect();
    assert_eq!((uuids.len(), pushed.len()), (11, 11), "{:?}", lines(&pushed));
    for follower in &mut followers {
        assert!(pushed.iter().all(|it| !it.subject_keys().is_empty() && follower.is_news(it)));
        assert_eq!(lines(&follower.sync(Some(gap)).await), [""; 0], "{:?}", follower.source);
    }
}

#[tokio::test]
async fn missed_events_are_found_in_the_form_of_the_push() {
    let sandbox = sandbox().await;
    let push = Client::login(&sandbox).await;
    let mut followers = followers(&sandbox).await;
    let gap = now();
    assert!(sandbox.trigger_all(&happenings()).is_empty(), "no subscriber");
    let mut found = Vec::new();
    for follower in &mut followers {
        found.extend(follower.sync(Some(gap)).await);
    }
    assert!(found.iter().all(|it| it.origin() == Origin::CatchUp && it.uuid().is_none()));
    // The same events again, pushed.
    let texts: Vec<String> = filters().iter().map(ToString::to_string).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let info = push.subscribed(&texts).await;
    let mut cursor = Cursor::start();
    push.next(&info, &mut cursor).await;
    sandbox.trigger_all(&happenings());
    let pushed = push.next(&info, &mut cursor).await;
    let words = |all: &[Notification]| {
        // The list of high-volume messages contains no account id.
        let uri = |it: &Notification| it.event_uri().replace("/100200300/a2p-sms", "/~/a2p-sms");
        let what = |it: &Notification| line(it).trim_end_matches(" -").trim_end_matches(" Alive").to_owned();
        let mut all: Vec<String> = all.iter().map(|it| format!("{} {} {}", it.kind(), uri(it), what(it))).collect();
        all.sort();
        all
    };
    let pushed: Vec<Notification> = pushed
        .iter()
        .map(|message| {
            let raw = RawValue::from_string(notification(&info, message).to_string()).unwrap();
            Notification::parse(raw, Origin::Push, now()).unwrap()
        })
        .collect();
    assert_eq!(words(&found), words(&pushed));
}

#[tokio::test]
async fn found_3_8_insights_that_were_pushed_are_not_found_again() {
    let sandbox = sandbox().await;
    let push = Client::login(&sandbox).await;
    let filter = EventFilter::ring_sense_insights(RingSenseDomain::Pbx);
    let info = push.subscribed(&[filter.as_str()]).await;
    let mut cursor = Cursor::start();
    push.next(&info, &mut cursor).await;
    let mut follower = Follower::begin(Insights::new(client(&sandbox)), [filter]).await;
    let gap = now();
    let insights = |summary: &str| Fixture::insights("pbx", "s-sandbox-1", summary);
    let mut pushed = async || {
        let messages = push.next(&info, &mut cursor).await;
        let [message] = &messages[..] else { panic!("{messages:?}") };
        let raw = RawValue::from_string(notification(&info, message).to_string()).unwrap();
        Notification::parse(raw, Origin::Push, now()).unwrap()
    };
    sandbox.trigger_all(&[Fixture::recorded_call("1"), insights("notes")]);
    let notes = pushed().await;
    // The second event of a call is another one.
    sandbox.advance(Duration::from_millis(5));
    sandbox.trigger(&insights("more"));
    let more = pushed().await;
    assert!(follower.is_news(&notes) && follower.is_news(&more));
    assert_eq!(lines(&follower.sync(Some(gap)).await), [""; 0]);
    assert_eq!(notes.event_uri(), more.event_uri());
}
