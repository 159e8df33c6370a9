//! Messages that push lost, found by message-sync.

use std::time::Duration;

use crate::support::catch_up::{Follower, LATER, client, free, lines, now};
use ringcentral_events::EventFilter;
use ringcentral_events::catch_up::{CatchUp as _, MessageSync, SyncRequest};
use ringcentral_events::event::{Direction, MessageStoreQuery, MessageType};
use ringcentral_sandbox::{Fault, Fixture, Operation, Sandbox, StaleToken};

fn sms(text: &str) -> Fixture {
    Fixture::inbound_sms("+16505550100", text)
}

fn newest_id(sandbox: &Sandbox) -> u64 {
    sandbox.stored_messages().last().unwrap()["id"].as_u64().unwrap()
}

fn sync_types(sandbox: &Sandbox) -> Vec<String> {
    let requests = sandbox.requests_to(Operation::MessageSync);
    requests.iter().filter_map(|request| request.query("syncType")).collect()
}

#[tokio::test]
async fn y1_an_incremental_sync_follows_a_full_one_and_its_overlap_is_delivered_once() {
    let sandbox = free().start().await.unwrap();
    let mut it = Follower::begin(MessageSync::new(client(&sandbox)), [EventFilter::instant_message()]).await;
    let gap = now();
    sandbox.trigger_all(&[sms("one"), sms("two")]);
    assert_eq!(lines(&it.sync(Some(gap)).await), ["sms one", "sms two"]);
    sandbox.trigger(&sms("three"));
    // The service repeats the last five seconds.
    let page = it.page(Some(gap)).await;
    assert_eq!((page.found.len(), page.more, page.complete), (3, false, true));
    assert_eq!(lines(&it.sync(Some(gap)).await), ["sms three"]);
    assert_eq!(sync_types(&sandbox), ["FSync", "ISync", "ISync", "ISync"]);
    // A full sync names its frame, an incremental one only its token.
    let requests = sandbox.requests_to(Operation::MessageSync);
    assert_eq!(requests[0].query("messageType").as_deref(), Some("SMS"));
    assert!(requests[0].query("dateFrom").is_some() && requests[0].query("recordCount").is_some());
    for request in &requests[1..] {
        let names: Vec<&str> = request.path_and_query.split(['?', '&']).skip(1).map(|it| &it[..8]).collect();
        assert_eq!(names, ["syncType", "syncToke"]);
    }
}

#[tokio::test]
async fn y2_a_refused_token_leads_to_a_full_sync_without_duplicates() {
    for stale in [StaleToken::Msg333, StaleToken::Cmn101] {
        let sandbox = free().behavior(|behavior| behavior.account.stale_message_token = stale).start().await.unwrap();
        let filters = [EventFilter::instant_message(), EventFilter::message_store()];
        let mut it = Follower::begin(MessageSync::new(client(&sandbox)), filters).await;
        let gap = now();
        sandbox.trigger(&sms("before"));
        assert_eq!(lines(&it.sync(Some(gap)).await), ["sms before", "SMS new 1 updated 0 ids 1 Alive"]);
        sandbox.advance(LATER);
        sandbox.trigger(&sms("after"));
        sandbox.behavior(|behavior| behavior.account.refuse_message_tokens = true);
        assert_eq!(lines(&it.sync(Some(gap)).await), ["sms after", "SMS new 1 updated 0 ids 1 Alive"]);
        assert!(!it.complete, "changes of older messages cannot be found by a full sync");
        sandbox.behavior(|behavior| behavior.account.refuse_message_tokens = false);
        sandbox.clear_requests();
        assert_eq!(lines(&it.sync(Some(gap)).await), [""; 0]);
        assert!(it.complete);
        assert_eq!(sync_types(&sandbox), ["ISync"], "the token of the full sync is good");
    }
}

#[tokio::test]
async fn a_full_sync_is_complete_if_only_new_messages_count() {
    let sandbox = free().behavior(|behavior| behavior.account.refuse_message_tokens = true).start().await.unwrap();
    for (filter, since, complete) in [
        (EventFilter::instant_message(), Some(now()), true),
        (EventFilter::message_store(), None, true),
        (EventFilter::message_store(), Some(now()), false),
        (EventFilter::fax(), Some(now()), false),
    ] {
        let mut it = Follower::begin(MessageSync::new(client(&sandbox)), [filter.clone()]).await;
        sandbox.trigger_all(&[sms("hi"), Fixture::fax("+16505550100")]);
        assert!(!it.sync(since).await.is_empty(), "{filter}");
        assert_eq!(it.complete, complete, "{filter} {since:?}");
    }
}

#[tokio::test]
async fn y3_a_closed_rate_group_is_reported_and_the_position_stays_valid() {
    let sandbox = free().start().await.unwrap();
    let mut it = Follower::begin(MessageSync::new(client(&sandbox)), [EventFilter::instant_message()]).await;
    let gap = now();
    sandbox.trigger(&sms("hi"));
    sandbox.faults().inject(Operation::MessageSync, Fault::status(429).header("Retry-After", "300"));
    for _ in 0..3 {
        let request = SyncRequest::new(Some(&it.position), &it.filters, Some(gap));
        let error = it.source.sync(request).await.unwrap_err();
        assert_eq!(error.kind(), ringcentral_events::ErrorKind::RateLimited);
        assert!(error.retry_after().unwrap() > LATER, "{error:?}");
    }
    assert_eq!(sync_types(&sandbox).len(), 2, "nothing is sent during a penalty");
    // Another client has another budget.
    it.source = MessageSync::new(client(&sandbox));
    assert_eq!(lines(&it.sync(Some(gap)).await), ["sms hi"]);
}

#[tokio::test]
async fn y6_updated_and_deleted_messages_are_changes() {
    let sandbox = free().start().await.unwrap();
    sandbox.trigger_all(&[sms("a"), sms("b"), sms("c"), Fixture::fax("+16505550100")]);
    let ids: Vec<u64> = sandbox.stored_messages().iter().map(|it| it["id"].as_u64().unwrap()).collect();
    sandbox.advance(LATER);
    let filters = [EventFilter::message_store(), EventFilter::fax(), EventFilter::instant_message()];
    let mut it = Follower::begin(MessageSync::new(client(&sandbox)), filters).await;
    let gap = now();
    sandbox.trigger_all(&[
        Fixture::message_read(ids[0]),
        Fixture::message_deleted(ids[1]),
        Fixture::message_purged(ids[2]),
        Fixture::message_read(ids[3]),
    ]);
    let delivered = it.sync(Some(gap)).await;
    let mut got = lines(&delivered);
    got.sort();
    let want = [
        "- new 0 updated 1 ids 0 Deleted",
        "- new 0 updated 1 ids 0 Purged",
        "Fax new 0 updated 1 ids 0 Alive",
        "SMS new 0 updated 1 ids 0 Alive",
        "fax Read",
    ];
    assert_eq!(got, want);
    // The messages themselves are found, too.
    let raw: Vec<&str> = delivered.iter().map(|it| it.raw().get()).collect();
    assert!(ids.iter().all(|id| raw.iter().any(|raw| raw.contains(&id.to_string()))));
    assert_eq!(lines(&it.sync(Some(gap)).await), [""; 0], "the overlap is delivered once");
}

#[tokio::test]
async fn found_3_3_a_message_that_arrived_and_was_deleted_is_found() {
    for (is_full, purged) in [(false, false), (true, false), (false, true)] {
        let sandbox = free().start().await.unwrap();
        let filters = [EventFilter::instant_message()];
        let mut it = Follower::begin(MessageSync::new(client(&sandbox)), filters).await;
        let gap = now();
        sandbox.trigger(&sms("brief"));
        let id = sandbox.stored_messages()[0]["id"].as_u64().unwrap();
        sandbox.trigger(&if purged { Fixture::message_purged(id) } else { Fixture::message_deleted(id) });
        sandbox.behavior(|behavior| behavior.account.refuse_message_tokens = is_full);
        let found = lines(&it.sync(Some(gap)).await);
        // A purged message is not listed, so the gap stays open.
        let want: &[&str] = if purged { &[] } else { &["sms brief"] };
        assert_eq!(found, want, "{is_full} {purged}");
        assert_eq!(it.complete, !purged, "{is_full} {purged}");
    }
}

/// What is deleted between the two requests is in one of them.
#[tokio::test]
async fn a_full_sync_lists_deleted_messages_behind_its_last_page() {
    let sandbox = free().behavior(|behavior| behavior.account.refuse_message_tokens = true).start().await.unwrap();
    let source = MessageSync::new(client(&sandbox)).page_size(1);
    let mut it = Follower::begin(source, [EventFilter::instant_message()]).await;
    let gap = now();
    for text in ["one", "two", "three"] {
        sandbox.trigger(&sms(text));
        sandbox.advance(Duration::from_secs(1));
    }
    sandbox.clear_requests();
    assert_eq!(it.sync(Some(gap)).await.len(), 3);
    assert!(it.pages >= 3, "{}", it.pages);
    let requests = sandbox.requests();
    let paths: Vec<&str> = requests.iter().map(|request| request.path_and_query.as_str()).collect();
    let is_list = |path: &&&str| path.contains("/message-store?");
    assert!(is_list(&paths.last().unwrap()), "{paths:?}");
    let older_pages_behind_a_list =
        paths.iter().skip_while(|path| !is_list(path)).filter(|path| path.contains("dateTo"));
    assert_eq!(older_pages_behind_a_list.count(), 0, "{paths:?}");
}

#[tokio::test]
async fn a_check_during_healthy_push_counts_new_messages_only() {
    let sandbox = free().start().await.unwrap();
    sandbox.trigger_all(&[sms("old"), Fixture::voicemail("+16505550100")]);
    let ids: Vec<u64> = sandbox.stored_messages().iter().map(|it| it["id"].as_u64().unwrap()).collect();
    sandbox.advance(LATER);
    let filters = [EventFilter::message_store(), EventFilter::voicemail(), EventFilter::instant_message()];
    let mut it = Follower::begin(MessageSync::new(client(&sandbox)), filters).await;
    let mut fixtures: Vec<Fixture> = ids.iter().map(|id| Fixture::message_read(*id)).collect();
    fixtures.push(sms("new"));
    sandbox.trigger_all(&fixtures);
    let mut got = lines(&it.sync(None).await);
    got.sort();
    assert_eq!(got, ["SMS new 1 updated 0 ids 1 Alive", "sms new"]);
}

#[tokio::test]
async fn a_known_message_is_delivered_as_changed() {
    let sandbox = free().start().await.unwrap();
    let mut it = Follower::begin(MessageSync::new(client(&sandbox)), [EventFilter::message_store()]).await;
    sandbox.trigger(&sms("pushed"));
    sandbox.advance(LATER);
    // It was pushed, then the gap began, then it was read.
    let gap = now() - std::time::Duration::from_millis(1);
    sandbox.trigger(&Fixture::message_read(newest_id(&sandbox)));
    let got = lines(&it.sync(Some(gap)).await);
    assert_eq!(got, ["SMS new 1 updated 0 ids 1 Alive", "SMS new 0 updated 1 ids 0 Alive"]);
}

#[tokio::test]
async fn type_and_direction_of_a_filter_are_respected() {
    let sandbox = free().start().await.unwrap();
    let with = |query| EventFilter::message_store_with(query);
    let client = client(&sandbox);
    let sms_in = with(MessageStoreQuery::new().message_type(MessageType::Sms).direction(Direction::Inbound));
    let outbound = with(MessageStoreQuery::new().direction(Direction::Outbound));
    let faxes = with(MessageStoreQuery::new().message_type(MessageType::Fax));
    let gap = now();
    let mut followers = Vec::new();
    for filter in [sms_in, outbound, faxes, EventFilter::instant_message(), EventFilter::voicemail()] {
        followers.push(Follower::begin(MessageSync::new(client.clone()), [filter]).await);
    }
    sandbox.trigger_all(&[sms("in"), Fixture::fax("+16505550100"), Fixture::voicemail("+16505550100")]);
    client.send_sms(sandbox.phone_number(), "+16505550100", "out").await.unwrap();
    let mut got = Vec::new();
    for follower in &mut followers {
        let delivered = follower.sync(Some(gap)).await;
        got.push(lines(&delivered));
        assert!(delivered.iter().all(|it| follower.filters[0].matches_uri(it.event_uri())));
        assert!(delivered.iter().all(|it| it.event_uri().contains(sandbox.extension_id())), "with ids");
    }
    let new = |kind: &str| vec![format!("{kind} new 1 updated 0 ids 1 Alive")];
    let want = [new("SMS"), new("SMS"), new("Fax"), vec!["sms in".to_owned()], vec!["voicemail Unread".to_owned()]];
    assert_eq!(got, want);
}

#[tokio::test]
async fn each_extension_has_its_own_token() {
    let sandbox = free().start().await.unwrap();
    let other = "100200302";
    let filters = [EventFilter::instant_message(), EventFilter::extension(other).instant_message()];
    let mut it = Follower::begin(MessageSync::new(client(&sandbox)), filters).await;
    let gap = now();
    sandbox.trigger_all(&[sms("theirs").for_extension(other), sms("mine")]);
    let delivered = it.sync(Some(gap)).await;
    assert_eq!(lines(&delivered), ["sms theirs", "sms mine"]);
    assert!(delivered[0].event_uri().contains(other) && delivered[1].event_uri().contains(sandbox.extension_id()));
    // A removed filter is no longer queried, an added one from the gap on.
    it.filters = vec![EventFilter::extension(other).message_store()];
    sandbox.clear_requests();
    assert_eq!(lines(&it.sync(Some(gap)).await), ["SMS new 1 updated 0 ids 1 Alive"]);
    assert!(sandbox.requests_to(Operation::MessageSync).iter().all(|request| request.path().contains(other)));
    assert_eq!(sync_types(&sandbox), ["FSync", "FSync"], "another frame needs another token");
}

#[tokio::test]
async fn without_a_position_everything_since_the_gap_is_found() {
    let sandbox = free().start().await.unwrap();
    let source = MessageSync::new(client(&sandbox));
    let filters = [EventFilter::instant_message()];
    let gap = now();
    sandbox.trigger(&sms("hi"));
    let page = source.sync(SyncRequest::new(None, &filters, Some(gap))).await.unwrap();
    assert_eq!((page.found.len(), page.more, page.complete), (1, false, true));
    let page = source.sync(SyncRequest::new(None, &filters, None)).await.unwrap();
    assert_eq!((page.found.len(), page.more, page.complete), (0, false, true), "nothing is known to be missing");
}

#[tokio::test]
async fn a_service_that_accepts_no_token_causes_no_busy_loop() {
    let sandbox = free().behavior(|behavior| behavior.account.refuse_message_tokens = true).start().await.unwrap();
    for since in [Some(now()), None] {
        let source = MessageSync::new(client(&sandbox)).page_size(10);
        let mut it = Follower::begin(source, [EventFilter::instant_message()]).await;
        for n in 0..95 {
            sandbox.trigger(&sms(&n.to_string()));
            sandbox.advance(std::time::Duration::from_millis(1));
        }
        let delivered = it.sync(since).await.len();
        assert!(delivered >= 95, "{delivered} {since:?}");
        // Begun ten pages ago, it reads those once, and checks once more.
        assert!(it.pages <= 25, "{} pages {since:?}", it.pages);
    }
}

#[tokio::test]
async fn ten_thousand_messages_are_read_by_page_within_the_rate_limit() {
    let sandbox = Sandbox::builder().start().await.unwrap();
    // Messages outside the gap, on both sides of it.
    sandbox.trigger_all(&[sms("before"), sms("before")]);
    sandbox.advance(LATER);
    let source = MessageSync::new(client(&sandbox)).page_size(400);
    let mut it = Follower::begin(source, [EventFilter::instant_message()]).await;
    let gap = now();
    let fixtures: Vec<Fixture> = (0..10_000).map(|n| sms(&n.to_string())).collect();
    for some in fixtures.chunks(50) {
        sandbox.trigger_all(some);
        // The messages need more than one timestamp to be read by time.
        sandbox.advance(std::time::Duration::from_millis(2));
    }
    sandbox.behavior(|behavior| {
        behavior.account.refuse_message_tokens = true;
        behavior.account.older_beyond_frame = true;
    });
    let delivered = it.sync(Some(gap)).await;
    let mut numbers: Vec<u32> = lines(&delivered).iter().map(|line| line[4..].parse().unwrap()).collect();
    assert_eq!(numbers.len(), 10_000);
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..10_000));
    assert!(it.complete && it.pages > 20, "{} pages", it.pages);
    let requests = sandbox.requests_to(Operation::MessageSync);
    assert!(requests.iter().all(|request| request.status.is_some_and(|status| status == 200 || status == 400)));
    assert!(requests.len() <= 50, "{} requests", requests.len());
}

#[tokio::test]
async fn found_3_2_all_messages_with_one_timestamp_are_found() {
    let sandbox = free().behavior(|behavior| behavior.account.refuse_message_tokens = true).start().await.unwrap();
    // Whole seconds: the service's times are no finer, so many messages share one.
    sandbox.behavior(|behavior| behavior.time_format = ringcentral_sandbox::TimeFormat::NoFraction);
    let mut it =
        Follower::begin(MessageSync::new(client(&sandbox)).page_size(2), [EventFilter::instant_message()]).await;
    let gap = now();
    sandbox.trigger_all(&(0..9).map(|n| sms(&n.to_string())).collect::<Vec<_>>());
    assert_eq!((it.sync(Some(gap)).await.len(), it.complete), (9, true));
}

#[tokio::test]
async fn clocks_that_differ_by_an_hour_find_the_same_messages() {
    for skew in [-3_600_000, 3_600_000] {
        let sandbox = free().behavior(|behavior| behavior.clock_skew_ms = skew).start().await.unwrap();
        let filters = [EventFilter::message_store(), EventFilter::instant_message()];
        let mut it = Follower::begin(MessageSync::new(client(&sandbox)), filters).await;
        let gap = now();
        sandbox.trigger(&sms("one"));
        assert_eq!(lines(&it.sync(Some(gap)).await), ["SMS new 1 updated 0 ids 1 Alive", "sms one"]);
        sandbox.trigger(&sms("two"));
        sandbox.behavior(|behavior| behavior.account.refuse_message_tokens = true);
        assert_eq!(lines(&it.sync(Some(gap)).await), ["SMS new 1 updated 0 ids 1 Alive", "sms two"]);
    }
}

/// The gap began by the clock of another process, and no answer has the service's time.
#[tokio::test]
async fn a_clock_that_was_set_back_hides_no_message_from_a_full_sync() {
    let sandbox = free().start().await.unwrap();
    let mut it = Follower::begin(MessageSync::new(client(&sandbox)), [EventFilter::instant_message()]).await;
    let gap = now();
    sandbox.trigger(&sms("one"));
    sandbox.behavior(|behavior| (behavior.clock_skew_ms, behavior.account.refuse_message_tokens) = (3_600_000, true));
    assert_eq!(lines(&it.sync(Some(gap)).await), ["sms one"]);
}
