//! Lists: newest first, the oldest new contents, no duplicates and no omissions.

use crate::support::digital::{act, ask, body_of, customer, endpoint};
use async_trait::async_trait;
use proptest::prelude::*;
use ringcentral_events::digital::{Entry, Failure, Feed, MemoryFeed, Message, Messages, Source, SourceEndpoint};
use serde_json::json;

fn message(id: impl Into<String>) -> Message {
    let mut message = Message::new(id, customer());
    message.body = Some("Hello".into());
    message
}

/// A feed that returns contents in any order, more than requested, and old ones too.
#[derive(Clone, Debug)]
struct Careless {
    entries: Vec<(u64, &'static str)>,
    known: Vec<(&'static str, u64)>,
}

#[async_trait]
impl Feed<Message> for Careless {
    async fn position(&self, id: &str) -> Result<Option<u64>, Failure> {
        Ok(self.known.iter().find(|(known, _)| *known == id).map(|(_, place)| *place))
    }

    async fn after(&self, _: Option<u64>, _: usize) -> Result<Vec<Entry<Message>>, Failure> {
        Ok(self.entries.iter().map(|(place, id)| Entry::new(*place, message(*id))).collect())
    }
}

fn serve(feed: impl Feed<Message>, page: usize) -> SourceEndpoint {
    endpoint(Source::builder().page(page).list(Messages, feed).build().unwrap())
}

async fn list(endpoint: &SourceEndpoint, since_id: Option<&str>) -> Vec<String> {
    let params = since_id.map_or(json!({}), |id| json!({ "since_id": id }));
    let items = act(endpoint, "messages.list", params).await;
    items.as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

/// Like a crawler: the first id of an answer is the next `since_id`.
async fn crawl(endpoint: &SourceEndpoint, mut since_id: Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    loop {
        let items = list(endpoint, since_id.as_deref()).await;
        let Some(first) = items.first() else { return found };
        assert_ne!(Some(first), since_id.as_ref(), "the crawler continues");
        since_id = Some(first.clone());
        found.extend(items.into_iter().rev());
    }
}

#[tokio::test]
async fn a_disordered_feed_still_gives_correct_lists() {
    let feed = Careless {
        entries: vec![(7, "d"), (2, "a"), (9, "e"), (4, "b"), (5, "c"), (8, "a")],
        known: vec![("a", 2), ("b", 4), ("gone", 6), ("e", 9)],
    };
    for (limit, since, want) in [
        // "a" occurs twice: its newest position counts.
        (9, None, vec!["e", "a", "d", "c", "b"]),
        (3, None, vec!["c", "b", "a"]),
        (2, Some("b"), vec!["d", "c"]),
        (9, Some("b"), vec!["e", "a", "d", "c"]),
        (9, Some("gone"), vec!["e", "a", "d"]),
        (1, Some("gone"), vec!["d"]),
        (9, Some("e"), vec![]),
        // Contents that the platform has are not repeated, even if the feed returns them.
        (9, Some("a"), vec!["e", "d", "c", "b"]),
        (3, Some("a"), vec!["d", "c", "b"]),
        // An unknown id: the whole history.
        (2, Some("unknown"), vec!["b", "a"]),
    ] {
        assert_eq!(list(&serve(feed.clone(), limit), since).await, want, "{limit} after {since:?}");
    }
}

#[tokio::test]
async fn contents_without_an_id_do_not_stop_the_crawler() {
    let entries = vec![(1, ""), (2, ""), (3, ""), (4, "a"), (5, ""), (6, "b")];
    let endpoint = serve(Careless { entries, known: vec![("a", 4), ("b", 6)] }, 1);
    assert_eq!(crawl(&endpoint, None).await, ["a", "b"]);
}

#[tokio::test]
async fn a_failing_feed_is_a_failure_not_an_empty_list() {
    struct Broken;
    #[async_trait]
    impl Feed<Message> for Broken {
        async fn position(&self, _: &str) -> Result<Option<u64>, Failure> {
            Err(Failure::unavailable("no position"))
        }
        async fn after(&self, _: Option<u64>, _: usize) -> Result<Vec<Entry<Message>>, Failure> {
            Err(Failure::unavailable("no contents"))
        }
    }
    let endpoint = serve(Broken, 10);
    assert_eq!(ask(&endpoint, body_of("messages.list", None)).await, (503, "no contents".into()));
    let since = body_of("messages.list", Some(json!({ "since_id": "a" })));
    assert_eq!(ask(&endpoint, since).await, (503, "no position".into()));
}

#[tokio::test]
async fn a_memory_feed_preserves_positions() {
    let feed = MemoryFeed::new();
    for id in ["a", "b", "c"] {
        feed.put(message(id));
    }
    let mut edited = message("a");
    edited.body = Some("Edited".into());
    feed.put(edited);
    let endpoint = serve(feed.clone(), 10);
    assert_eq!(list(&endpoint, None).await, ["c", "b", "a"]);
    assert_eq!(feed.get("a").unwrap().body.as_deref(), Some("Edited"));
    assert_eq!(feed.remove("b"), feed.remove("b"));
    assert!(feed.remove("b").is_some() && feed.remove("nobody").is_none());
    assert_eq!((feed.get("b"), feed.change("b", |_| ())), (None, None));
    feed.put(message("b"));
    assert_eq!(feed.get("b"), None, "removed contents stay removed");
    assert_eq!(list(&endpoint, Some("b")).await, ["c"]);
    assert_eq!(list(&endpoint, None).await, ["c", "a"]);
    let changed = feed.change("a", |message| message.id = "z".into()).unwrap();
    assert_eq!(changed.id, "a", "an id does not change");
    assert_eq!(format!("{feed:?}"), "MemoryFeed { contents: 3 }");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_crawler_finds_everything_once_and_in_order(
        count in 0_usize..40, page in 1_usize..9, removed in proptest::collection::vec(any::<bool>(), 40), since in any::<Option<prop::sample::Index>>(),
    ) {
        let feed = MemoryFeed::new();
        // Ids without an order.
        let id = |number: usize| format!("{}-{number}", number * 7919 % 101);
        for number in 0..count {
            feed.put(message(id(number)));
        }
        for number in (0..count).filter(|number| removed[*number]) {
            feed.remove(&id(number));
        }
        let since = since.filter(|_| count > 0).map(|index| index.index(count));
        let want: Vec<_> =
            (since.map_or(0, |since| since + 1)..count).filter(|number| !removed[*number]).map(id).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let found = runtime.block_on(crawl(&serve(feed, page), since.map(id)));
        prop_assert_eq!(found, want);
    }
}
