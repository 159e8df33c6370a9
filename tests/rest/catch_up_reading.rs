//! Answers of the sync resources whose fields have other types than documented.

use std::time::Duration;

use crate::support::catch_up::{Follower, client, free, lines, now};
use ringcentral_events::catch_up::{A2pMessages, CallLogSync, ExtensionList, MessageSync, PresenceSnapshot, TeamPosts};
use ringcentral_events::{Client, EventFilter, OAuth};
use ringcentral_sandbox::{Fault, Fixture, Operation};
use serde_json::{Value, json};

fn sms(text: &str) -> Fixture {
    Fixture::inbound_sms("+16505550100", text)
}

#[tokio::test]
async fn found_6_6_a_sync_answer_with_other_types_is_read_at_once() {
    for info in [
        json!({"syncToken": 17, "syncTime": 5}),
        json!({"syncToken": null, "olderRecordsExist": null}),
        json!({"olderRecordsExist": "false"}),
        json!([]),
        Value::Null,
    ] {
        let sandbox = free().start().await.unwrap();
        let mut it = Follower::begin(MessageSync::new(client(&sandbox)), [EventFilter::instant_message()]).await;
        let gap = now();
        sandbox.trigger(&sms("one"));
        sandbox.faults().inject(Operation::MessageSync, Fault::amend().field("syncInfo", info.clone()));
        assert_eq!(lines(&it.sync(Some(gap)).await), ["sms one"], "{info}");
        assert!(it.complete, "{info}");
        sandbox.trigger(&sms("two"));
        assert_eq!(lines(&it.sync(Some(gap)).await), ["sms two"], "{info}");
    }
}

#[tokio::test]
async fn found_6_6_a_missing_list_is_requested_by_time_and_proves_nothing_by_itself() {
    for (fault, times, found, complete) in [
        (Fault::amend().field("records", Value::Null), Some(1), vec!["sms one"], true),
        (Fault::amend().without_field("records"), Some(1), vec!["sms one"], true),
        (Fault::amend().field("records", "none".into()), Some(1), vec!["sms one"], true),
        (Fault::amend().field("records", Value::Null), None, vec![], false),
        (Fault::amend().without_field("records"), None, vec![], false),
    ] {
        let sandbox = free().start().await.unwrap();
        let mut it = Follower::begin(MessageSync::new(client(&sandbox)), [EventFilter::instant_message()]).await;
        let gap = now();
        sandbox.trigger(&sms("one"));
        let fault = times.map_or_else(|| fault.clone().until_cleared(), |times| fault.clone().times(times));
        sandbox.faults().inject(Operation::MessageSync, fault.clone());
        assert_eq!(lines(&it.sync(Some(gap)).await), found, "{fault:?}");
        assert_eq!(it.complete, complete, "{fault:?}");
    }
}

#[tokio::test]
async fn found_6_6_a_first_position_without_a_token_leads_to_a_full_sync() {
    let sandbox = free().start().await.unwrap();
    sandbox.faults().inject(Operation::MessageSync, Fault::amend().field("syncInfo", Value::Null));
    let mut it = Follower::begin(MessageSync::new(client(&sandbox)), [EventFilter::instant_message()]).await;
    let gap = now();
    sandbox.trigger(&sms("one"));
    assert_eq!(lines(&it.sync(Some(gap)).await), ["sms one"]);
    assert!(it.complete);
    let types = sandbox.requests_to(Operation::MessageSync);
    assert!(types.iter().take(2).all(|request| request.query("syncType").as_deref() == Some("FSync")));
}

#[tokio::test]
async fn found_6_6_calls_are_read_from_a_log_without_its_list_or_token() {
    for (fault, times, complete) in [
        (Fault::amend().field("records", Value::Null), Some(1), true),
        (Fault::amend().field("records", Value::Null), None, false),
        (Fault::amend().field("syncInfo", json!({"syncToken": 5})), Some(1), true),
        (Fault::amend().field("syncInfo", Value::Null), Some(1), true),
    ] {
        let sandbox =
            free().behavior(|behavior| behavior.account.call_log_delay = Duration::ZERO).start().await.unwrap();
        let mut it = Follower::begin(CallLogSync::new(client(&sandbox)), [EventFilter::missed_calls()]).await;
        let gap = now();
        sandbox.trigger(&Fixture::missed_call("+1"));
        let fault = times.map_or_else(|| fault.clone().until_cleared(), |times| fault.clone().times(times));
        sandbox.faults().inject(Operation::CallLogSync, fault.clone());
        let want: &[&str] = if complete { &["missed +1"] } else { &[] };
        assert_eq!(lines(&it.sync(Some(gap)).await), want, "{fault:?}");
        assert_eq!(it.complete, complete, "{fault:?}");
    }
}

#[tokio::test]
async fn found_6_6_an_extension_omitted_by_a_missing_list_is_not_reported_deleted() {
    for change in [
        Fault::amend().field("records", Value::Null),
        Fault::amend().without_field("records"),
        Fault::amend().field("records", json!([{"name": "of no id"}])),
    ] {
        let sandbox = free().start().await.unwrap();
        let mut it = Follower::begin(ExtensionList::new(client(&sandbox)), [EventFilter::extension_list()]).await;
        sandbox.faults().inject(Operation::ExtensionList, change.clone());
        assert_eq!(lines(&it.sync(Some(now())).await), [""; 0], "{change:?}");
        assert!(!it.complete, "{change:?}");
        assert_eq!(lines(&it.sync(Some(now())).await), [""; 0], "nothing is new in a list that is whole again");
        assert!(it.complete);
    }
}

#[tokio::test]
async fn found_6_6_a_missing_list_proves_nothing_for_any_source() {
    let sandbox = free().start().await.unwrap();
    let client = client(&sandbox);
    let none = || Fault::amend().field("records", Value::Null);
    let mut posts = Follower::begin(TeamPosts::new(client.clone()), [EventFilter::team_posts()]).await;
    sandbox.faults().inject(Operation::RecentChats, none());
    assert_eq!(lines(&posts.sync(Some(now())).await), [""; 0]);
    assert!(!posts.complete);
    let mut a2p = Follower::begin(A2pMessages::new(client.clone()), [EventFilter::a2p_messages()]).await;
    sandbox.faults().inject(Operation::A2pMessages, none());
    assert_eq!(lines(&a2p.sync(Some(now())).await), [""; 0]);
    assert!(!a2p.complete);
    let mut presence = Follower::begin(PresenceSnapshot::new(client), [EventFilter::account_presence()]).await;
    sandbox.faults().inject(Operation::Presence, none());
    assert_eq!(lines(&presence.sync(Some(now())).await), [""; 0]);
    assert!(!presence.complete);
}

#[tokio::test]
async fn found_6_10_an_oversized_answer_is_requested_in_smaller_pages() {
    let sandbox = free().start().await.unwrap();
    let jwt = sandbox.jwt();
    let oauth = OAuth::jwt(sandbox.client_id(), jwt.expose()).client_secret(sandbox.client_secret().expose());
    let oauth = oauth.server(sandbox.base_url()).build().unwrap();
    let small = Client::builder(oauth).body_limit(16 << 10).build().unwrap();
    let mut it = Follower::begin(MessageSync::new(small), [EventFilter::instant_message()]).await;
    let gap = now();
    let texts: Vec<String> = (0..60).map(|n| format!("{n:02} {}", "x".repeat(600))).collect();
    for text in &texts {
        sandbox.trigger(&sms(text));
        sandbox.advance(Duration::from_millis(10));
    }
    let mut found = lines(&it.sync(Some(gap)).await);
    found.sort();
    assert_eq!(found, texts.iter().map(|text| format!("sms {text}")).collect::<Vec<_>>());
    assert!(it.complete);
}
