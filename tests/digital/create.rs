//! A content is written once, even if the platform repeats the request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::digital::{TOKEN, act, agent, ask, body_of, endpoint};
use async_trait::async_trait;
use ringcentral_events::digital::{
    CollectionName, Failure, IdempotencyStore, MemoryFeed, MemoryIdempotencyStore, Message, Messages, NewMessage,
    Source, SourceBuilder, SourceEndpoint, Thread, Threads,
};
use ringcentral_events::{Error, ErrorKind, Result};
use serde_json::{Value, json};

/// Writes into the feed after a delay, with a new number as the id.
fn slow(feed: &MemoryFeed<Message>) -> SourceBuilder {
    let feed = feed.clone();
    Source::builder().create(Messages, move |new: NewMessage| {
        let feed = feed.clone();
        async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let mut message = Message::new(format!("m-{}", feed.contents().len()), agent());
            message.body = new.body;
            feed.put(message.clone());
            Ok(message)
        }
    })
}

fn new(content_id: &str, retry: bool) -> Value {
    json!({ "author_id": "agent-1", "body": "Hi", "content_id": content_id, "retry": retry })
}

#[tokio::test(start_paused = true)]
async fn two_creates_of_one_content_at_once_write_one_message() {
    let feed = MemoryFeed::new();
    let endpoint = endpoint(slow(&feed).build().unwrap());
    let (first, second) = tokio::join!(
        act(&endpoint, "messages.create", new("c-1", false)),
        act(&endpoint, "messages.create", new("c-1", true)),
    );
    assert_eq!(first, second);
    assert_eq!(feed.contents().len(), 1);
    let other = act(&endpoint, "messages.create", new("c-2", false)).await;
    assert_ne!(first["id"], other["id"]);
    assert_eq!(act(&endpoint, "messages.create", new("c-1", true)).await, first);
    assert_eq!(feed.contents().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_create_with_a_lost_answer_gets_the_same_answer() {
    let feed = MemoryFeed::new();
    let source = slow(&feed).build().unwrap();
    let endpoint = SourceEndpoint::builder(source, TOKEN).deadline(Duration::from_millis(500)).build().unwrap();
    let late = (503, "the source did not answer in time".to_owned());
    assert_eq!(ask(&endpoint, body_of("messages.create", Some(new("c-1", false)))).await, late);
    // The first attempt is still running; this one waits for it, and writes nothing.
    assert_eq!(ask(&endpoint, body_of("messages.create", Some(new("c-1", true)))).await, late);
    let again = act(&endpoint, "messages.create", new("c-1", true)).await;
    assert_eq!((again["id"].as_str(), feed.contents().len()), (Some("m-0"), 1));
}

#[tokio::test(start_paused = true)]
async fn a_retry_of_a_create_that_never_arrived_is_written() {
    let feed = MemoryFeed::new();
    let endpoint = endpoint(slow(&feed).build().unwrap());
    assert_eq!(act(&endpoint, "messages.create", new("c-9", true)).await["id"], "m-0");
}

#[tokio::test(start_paused = true)]
async fn creates_without_a_content_id_are_written_each_time() {
    let feed = MemoryFeed::new();
    let endpoint = endpoint(slow(&feed).build().unwrap());
    for params in
        [json!({ "author_id": "a", "body": "Hi" }), json!({ "author_id": "a", "body": "Hi", "content_id": "" })]
    {
        act(&endpoint, "messages.create", params).await;
    }
    assert_eq!(feed.contents().len(), 2);
}

#[tokio::test]
async fn a_failed_create_is_retried() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&attempts);
    let source = Source::builder().create(Messages, move |_| {
        let attempt = count.fetch_add(1, Ordering::SeqCst);
        async move {
            match attempt {
                0 => Err(Failure::unavailable("storage")),
                1 => Err(Failure::retry("locked")),
                2 => panic!("broken"),
                _ => Ok(Message::new("m-1", agent())),
            }
        }
    });
    let endpoint = endpoint(source.build().unwrap());
    let body = body_of("messages.create", Some(new("c-1", true)));
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(ask(&endpoint, body.clone()).await.0);
    }
    assert_eq!(statuses, [503, 200, 500, 200, 200]);
    assert_eq!(attempts.load(Ordering::SeqCst), 4, "the last is answered from the store");
}

#[tokio::test]
async fn collections_do_not_share_content_ids() {
    let source = Source::builder()
        .create(Messages, |_| std::future::ready(Ok(Message::new("m-1", agent()))))
        .create(Threads, |_| std::future::ready(Ok(Thread::new("t-1", "News"))))
        .build()
        .unwrap();
    let endpoint = endpoint(source);
    assert_eq!(act(&endpoint, "messages.create", new("c-1", false)).await["id"], "m-1");
    assert_eq!(act(&endpoint, "threads.create", new("c-1", false)).await["id"], "t-1");
}

#[tokio::test]
async fn a_created_content_has_a_new_id() {
    for (id, status) in [("m-42", 500), ("", 500), ("m-43", 200)] {
        let source = Source::builder().create(Messages, move |_| std::future::ready(Ok(Message::new(id, agent()))));
        let endpoint = endpoint(source.build().unwrap());
        let params = json!({ "author_id": "a", "body": "Hi", "in_reply_to_id": "m-42" });
        assert_eq!(ask(&endpoint, body_of("messages.create", Some(params))).await.0, status, "{id:?}");
    }
}

/// A store that fails on demand.
#[derive(Clone, Debug, Default)]
struct Moody {
    stored: Arc<MemoryIdempotencyStore>,
    load_fails: Arc<AtomicBool>,
    save_fails: Arc<AtomicBool>,
}

fn unless(fails: &AtomicBool) -> Result<()> {
    if fails.load(Ordering::SeqCst) { Err(Error::new(ErrorKind::Store, "the disk is gone")) } else { Ok(()) }
}

#[async_trait]
impl IdempotencyStore for Moody {
    async fn load(&self, collection: CollectionName, content_id: &str) -> Result<Option<String>> {
        unless(&self.load_fails)?;
        self.stored.load(collection, content_id).await
    }

    async fn save(&self, collection: CollectionName, content_id: &str, answer: &str) -> Result<()> {
        unless(&self.save_fails)?;
        self.stored.save(collection, content_id, answer).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_to_load_stops_the_write_and_one_that_fails_to_save_does_not() {
    let (feed, store) = (MemoryFeed::new(), Moody::default());
    let endpoint = endpoint(slow(&feed).contents(store.clone()).build().unwrap());
    store.load_fails.store(true, Ordering::SeqCst);
    let body = body_of("messages.create", Some(new("c-1", false)));
    assert_eq!(ask(&endpoint, body).await, (503, "the source cannot do this now".into()));
    assert!(feed.contents().is_empty());
    store.load_fails.store(false, Ordering::SeqCst);
    store.save_fails.store(true, Ordering::SeqCst);
    assert_eq!(act(&endpoint, "messages.create", new("c-1", true)).await["id"], "m-0");
}

#[tokio::test]
async fn a_memory_store_drops_the_oldest() {
    let store = MemoryIdempotencyStore::new(2);
    for id in ["a", "b", "b", "c"] {
        store.save(CollectionName::Messages, id, id).await.unwrap();
    }
    let mut stored = Vec::new();
    for id in ["a", "b", "c"] {
        stored.push(store.load(CollectionName::Messages, id).await.unwrap());
    }
    assert_eq!(stored, [None, Some("b".into()), Some("c".into())]);
    assert_eq!(store.load(CollectionName::Threads, "b").await.unwrap(), None);
}
