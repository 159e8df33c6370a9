//! Posts, high-volume messages, presence and extensions that push lost.

use std::time::Duration;

use crate::support::catch_up::{Follower, LATER, client, free, lines, now};
use ringcentral_events::catch_up::{
    A2pMessages, CatchUp as _, ExtensionList, PresenceSnapshot, SyncRequest, TeamPosts, standard,
};
use ringcentral_events::event::{A2pMessageQuery, Direction, GapClosure};
use ringcentral_events::{EventFilter, EventKind, Origin};
use ringcentral_sandbox::{Fault, Fixture, Operation, Sandbox};

fn post(text: &str) -> Fixture {
    Fixture::team_post(text)
}

fn newest_post(sandbox: &Sandbox) -> String {
    sandbox.stored_posts().last().unwrap()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn posts_are_found_as_added_or_changed_and_once() {
    let sandbox = free().start().await.unwrap();
    sandbox.trigger(&post("old"));
    let old = newest_post(&sandbox);
    sandbox.advance(LATER);
    let mut it = Follower::begin(TeamPosts::new(client(&sandbox)), [EventFilter::team_posts()]).await;
    let gap = now();
    sandbox.trigger_all(&[post("new"), Fixture::post_edited(old, "edited")]);
    let mut got = lines(&it.sync(Some(gap)).await);
    got.sort();
    assert_eq!(got, ["PostAdded new", "PostChanged edited"]);
    assert!(it.complete);
    assert_eq!(lines(&it.sync(Some(gap)).await), [""; 0], "the overlap is delivered once");
    // Quiet chats are not read.
    sandbox.advance(LATER);
    assert_eq!(lines(&it.sync(Some(gap)).await), [""; 0]);
    sandbox.clear_requests();
    assert_eq!(lines(&it.sync(Some(gap)).await), [""; 0]);
    let asked = [Operation::RecentChats, Operation::Posts].map(|operation| sandbox.requests_to(operation).len());
    assert_eq!(asked, [1, 0]);
}

#[tokio::test]
async fn found_3_9_replies_in_threads_are_found_in_every_list_of_the_service() {
    for listed in [true, false] {
        let sandbox = free().behavior(|behavior| behavior.account.replies_in_posts = listed).start().await.unwrap();
        sandbox.trigger(&post("old"));
        let old = newest_post(&sandbox);
        sandbox.trigger(&Fixture::post_reply(&old, "first reply"));
        sandbox.advance(LATER);
        let mut it = Follower::begin(TeamPosts::new(client(&sandbox)), [EventFilter::team_posts()]).await;
        let gap = now();
        sandbox.trigger_all(&[Fixture::post_reply(&old, "reply"), post("new")]);
        let new = newest_post(&sandbox);
        sandbox.trigger(&Fixture::post_reply(&new, "reply to new"));
        let mut got = lines(&it.sync(Some(gap)).await);
        got.sort();
        assert_eq!(got, ["PostAdded new", "PostAdded reply", "PostAdded reply to new"], "{listed}");
        assert!(it.complete);
        assert_eq!(lines(&it.sync(Some(gap)).await), [""; 0], "the overlap is delivered once");
    }
}

#[tokio::test]
async fn a_check_finds_new_posts_only() {
    let sandbox = free().start().await.unwrap();
    sandbox.trigger(&post("old"));
    let old = newest_post(&sandbox);
    sandbox.advance(LATER);
    let mut it = Follower::begin(TeamPosts::new(client(&sandbox)), [EventFilter::team_posts()]).await;
    sandbox.trigger_all(&[post("new"), Fixture::post_edited(old, "edited")]);
    assert_eq!(lines(&it.sync(None).await), ["PostAdded new"]);
}

#[tokio::test]
async fn posts_of_several_chats_are_read_by_page_within_the_rate_limit() {
    let sandbox = Sandbox::builder().start().await.unwrap();
    let mut it = Follower::begin(TeamPosts::new(client(&sandbox)), [EventFilter::team_posts()]).await;
    let gap = now();
    for n in 0..700 {
        sandbox.trigger(&post(&n.to_string()));
    }
    let other: Fixture =
        serde_json::from_str(r#"{"fixture":"team_post","chat_id":"1200000002","text":"elsewhere"}"#).unwrap();
    sandbox.trigger(&other);
    let delivered = it.sync(Some(gap)).await;
    assert_eq!(delivered.len(), 701);
    assert!(it.complete);
    assert_eq!(sandbox.requests_to(Operation::Posts).len(), 4, "three pages of one, one of the other");
    assert!(sandbox.requests().iter().all(|request| request.status == Some(200)));
}

#[tokio::test]
async fn a_chat_that_was_deleted_meanwhile_is_skipped() {
    let sandbox = free().start().await.unwrap();
    let mut it = Follower::begin(TeamPosts::new(client(&sandbox)), [EventFilter::team_posts()]).await;
    let gap = now();
    sandbox.trigger(&post("new"));
    sandbox.faults().inject(Operation::Posts, Fault::code(404, "CMN-102"));
    assert_eq!(lines(&it.sync(Some(gap)).await), [""; 0]);
}

#[tokio::test]
async fn high_volume_messages_and_their_status_are_found() {
    let sandbox = free().start().await.unwrap();
    let outbound = r#"{"fixture":"a2p_message","text":"out","direction":"Outbound"}"#;
    let outbound: Fixture = serde_json::from_str(outbound).unwrap();
    sandbox.trigger(&outbound);
    sandbox.advance(LATER);
    let mut it = Follower::begin(A2pMessages::new(client(&sandbox)), [EventFilter::a2p_messages()]).await;
    let gap = now();
    sandbox.trigger_all(&[Fixture::a2p_message("+1", "in"), Fixture::a2p_status(7_000_001, "Delivered")]);
    assert_eq!(lines(&it.sync(Some(gap)).await), ["out Delivered", "in Delivered"]);
    assert_eq!(lines(&it.sync(Some(gap)).await), [""; 0], "the overlap is delivered once");
    sandbox.trigger_all(&[Fixture::a2p_message("+1", "two"), Fixture::a2p_status(7_000_001, "DeliveryFailed")]);
    assert_eq!(lines(&it.sync(None).await), ["two Delivered"], "a check finds new ones only");
    let only_out = EventFilter::a2p_messages_with(A2pMessageQuery::new().direction(Direction::Outbound));
    let mut it = Follower::begin(A2pMessages::new(client(&sandbox)), [only_out]).await;
    sandbox.trigger_all(&[outbound, Fixture::a2p_message("+1", "three")]);
    assert_eq!(lines(&it.sync(None).await), ["out Queued"]);
}

#[tokio::test]
async fn many_high_volume_messages_are_read_by_page() {
    let sandbox = free().start().await.unwrap();
    let mut it = Follower::begin(A2pMessages::new(client(&sandbox)), [EventFilter::a2p_messages()]).await;
    let gap = now();
    sandbox.trigger_all(&(0..2500).map(|n| Fixture::a2p_message("+1", n.to_string())).collect::<Vec<_>>());
    assert_eq!(it.sync(Some(gap)).await.len(), 2500);
    // Three pages, and one more check.
    assert_eq!(it.pages, 4);
}

#[tokio::test]
async fn presence_is_delivered_as_a_state_and_not_in_a_check() {
    let sandbox = free().start().await.unwrap();
    let own = sandbox.extension_id().to_owned();
    let filters = [
        EventFilter::presence(),
        EventFilter::detailed_presence(),
        EventFilter::extension("100200302").presence(),
        EventFilter::dnd(),
    ];
    let mut it = Follower::begin(PresenceSnapshot::new(client(&sandbox)), filters).await;
    assert!(sandbox.requests_to(Operation::Presence).is_empty());
    sandbox.trigger(&Fixture::presence("Busy", "CallConnected"));
    assert_eq!(lines(&it.sync(None).await), [""; 0]);
    assert!(sandbox.requests_to(Operation::Presence).is_empty());
    let delivered = it.sync(Some(now())).await;
    let want = [
        format!("{own} Busy calls 0"),
        format!("{own} Busy calls 1"),
        "100200302 Available calls 0".into(),
        "ExtensionDnd".into(),
    ];
    assert_eq!(lines(&delivered), want);
    assert!(delivered.iter().all(|it| it.origin() == Origin::Snapshot && it.sequence().is_none()));
    assert!(delivered.iter().all(|it| it.timestamp().is_some()), "to order it against pushed ones");
}

#[tokio::test]
async fn presence_of_an_account_is_read_by_page() {
    let sandbox = free()
        .behavior(|behavior| behavior.account.other_extensions = (0..149).map(|n| (200_000 + n).to_string()).collect())
        .start()
        .await
        .unwrap();
    let filters = [EventFilter::account_presence(), EventFilter::presence()];
    let mut it = Follower::begin(PresenceSnapshot::new(client(&sandbox)), filters).await;
    let delivered = it.sync(Some(now())).await;
    assert_eq!((delivered.len(), it.pages), (151, 2));
}

#[tokio::test]
async fn changed_extensions_are_found_by_comparison() {
    let sandbox = free().start().await.unwrap();
    let mut it = Follower::begin(ExtensionList::new(client(&sandbox)), [EventFilter::extension_list()]).await;
    assert_eq!(lines(&it.sync(Some(now())).await), [""; 0]);
    sandbox.trigger_all(&[
        Fixture::extension_added("100200777"),
        Fixture::extension_changed("100200302"),
        Fixture::extension_removed("100200399"),
    ]);
    let mut got = lines(&it.sync(Some(now())).await);
    got.sort();
    assert_eq!(got, ["Create 100200777", "Delete 100200399", "Update 100200302"]);
    assert!(it.complete);
    // A check delivers nothing, and pushed events are not new later.
    sandbox.trigger(&Fixture::extension_changed("100200302"));
    assert_eq!(lines(&it.sync(None).await), [""; 0]);
    assert_eq!(lines(&it.sync(Some(now())).await), [""; 0]);
    // Another change is delivered again.
    sandbox.trigger(&Fixture::extension_changed("100200302"));
    assert_eq!(lines(&it.sync(Some(now())).await), ["Update 100200302"]);
    // Without a list to compare with nothing is known.
    let request = SyncRequest::new(None, &it.filters, Some(now()));
    assert!(!it.source.sync(request).await.unwrap().complete);
}

#[tokio::test]
async fn the_standard_sources_match_the_catalog() {
    let sandbox = free().start().await.unwrap();
    let sources = standard(&client(&sandbox));
    for row in EventFilter::catalog() {
        let filter = EventFilter::custom(row.template()).unwrap();
        let covering: Vec<_> = sources.iter().filter(|source| source.covers(&filter) != GapClosure::Nothing).collect();
        assert!(covering.len() <= 1, "{filter}: {covering:?}");
        for source in covering {
            assert_eq!(source.covers(&filter), row.gap_closure(), "{filter} {source:?}");
        }
    }
    let covered = |kind: EventKind| {
        EventFilter::catalog().any(|row| {
            let filter = EventFilter::custom(row.template()).unwrap();
            row.kind() == kind && sources.iter().any(|source| source.covers(&filter) != GapClosure::Nothing)
        })
    };
    let kinds: Vec<&str> = EventKind::all().filter(|kind| covered(*kind)).map(EventKind::as_str).collect();
    let want = [
        "MessageStore",
        "InstantMessage",
        "FaxMessage",
        "VoicemailMessage",
        "ExtensionPresence",
        "DetailedExtensionPresence",
        "DetailedExtensionPresenceWithSip",
        "AccountPresence",
        "ExtensionDnd",
        "AccountTelephonySessions",
        "ExtensionTelephonySessions",
        "MissedCall",
        "TeamMessagingPost",
        "A2pMessage",
        "ExtensionList",
    ];
    assert_eq!(kinds, want);
    let mut names: Vec<&str> = sources.iter().map(|source| source.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), sources.len(), "names are unique");
}

#[tokio::test]
async fn clocks_that_differ_find_the_same_events() {
    for skew in [-600_000, 600_000] {
        let sandbox = free().behavior(|behavior| behavior.clock_skew_ms = skew).start().await.unwrap();
        let client = client(&sandbox);
        let mut posts = Follower::begin(TeamPosts::new(client.clone()), [EventFilter::team_posts()]).await;
        let mut a2p = Follower::begin(A2pMessages::new(client.clone()), [EventFilter::a2p_messages()]).await;
        sandbox.advance(Duration::from_secs(20));
        let gap = now();
        sandbox.trigger_all(&[post("hi"), Fixture::a2p_message("+1", "ho")]);
        assert_eq!(lines(&posts.sync(Some(gap)).await), ["PostAdded hi"], "{skew}");
        assert_eq!(lines(&a2p.sync(Some(gap)).await), ["ho Delivered"], "{skew}");
    }
}
