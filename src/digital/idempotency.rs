//! Creates each content once: a repeated `content_id` gets the stored answer.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use bytes::Bytes;

use super::action::CollectionName;
use super::failure::Failure;
use crate::error::Result;

type Key = (CollectionName, String);

/// Held while creating; the others wait.
type Turn = tokio::sync::Mutex<()>;

/// Stores the answer to each `content_id`.
///
/// The platform repeats a create whose answer it did not receive. The repetition gets the stored
/// answer, and nothing is written twice. Within one process, concurrent creates of one content wait
/// for each other. If several processes serve one channel, they must share the store, and only a
/// unique `content_id` in your own table detects a create that arrives at two of them at once.
///
/// Retain entries for days, not minutes: a person can retry an old content.
#[async_trait]
pub trait IdempotencyStore: fmt::Debug + Send + Sync + 'static {
    /// The answer to `content_id`, if there is one.
    ///
    /// # Errors
    /// The store's error. Nothing is created then; the platform retries.
    async fn load(&self, collection: CollectionName, content_id: &str) -> Result<Option<String>>;

    /// Stores the answer, JSON. Called after the handler has created the content and before the
    /// platform gets the answer.
    ///
    /// # Errors
    /// The store's error, which is logged. The platform gets the answer nevertheless, since a
    /// repetition would create the content again.
    async fn save(&self, collection: CollectionName, content_id: &str, answer: &str) -> Result<()>;
}

/// Stores the latest answers in memory, for one process until it ends.
#[derive(Debug)]
pub struct MemoryIdempotencyStore {
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    answers: HashMap<Key, String>,
    order: VecDeque<Key>,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answers", self.answers.len())
    }
}

impl MemoryIdempotencyStore {
    /// Stores the latest `limit` answers, at least one.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), kept: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stores 10 000 answers: about 10 MiB at 1 KiB each, and more than agents write while the platform
/// repeats automatically.
impl Default for MemoryIdempotencyStore {
    fn default() -> Self {
        Self::new(10_000)
    }
}

#[async_trait]
impl IdempotencyStore for MemoryIdempotencyStore {
    async fn load(&self, collection: CollectionName, content_id: &str) -> Result<Option<String>> {
        Ok(self.lock().answers.get(&(collection, content_id.to_owned())).cloned())
    }

    async fn save(&self, collection: CollectionName, content_id: &str, answer: &str) -> Result<()> {
        let key = (collection, content_id.to_owned());
        let mut kept = self.lock();
        if kept.answers.insert(key.clone(), answer.to_owned()).is_none() {
            kept.order.push_back(key);
        }
        while kept.order.len() > self.limit {
            if let Some(oldest) = kept.order.pop_front() {
                kept.answers.remove(&oldest);
            }
        }
        Ok(())
    }
}

/// The store, and the creates in progress.
#[derive(Debug)]
pub(super) struct Once {
    store: Arc<dyn IdempotencyStore>,
    under_way: Mutex<HashMap<Key, Weak<Turn>>>,
}

impl Once {
    pub(super) fn new(store: Arc<dyn IdempotencyStore>) -> Self {
        Self { store, under_way: Mutex::default() }
    }

    /// The stored answer to `content_id`, or that of `create`.
    pub(super) async fn run<F>(&self, collection: CollectionName, content_id: &str, create: F) -> Result<Bytes, Failure>
    where
        F: Future<Output = Result<Bytes, Failure>>,
    {
        let turn = self.turn((collection, content_id.to_owned()));
        let _mine = turn.lock().await;
        if let Some(answer) = self.store.load(collection, content_id).await? {
            tracing::debug!(%collection, "repeating the stored answer to a create");
            return Ok(answer.into());
        }
        let answer = create.await?;
        let text = String::from_utf8_lossy(&answer);
        if let Err(error) = self.store.save(collection, content_id, &text).await {
            tracing::error!(%error, %collection, "created a content, but failed to store the answer");
        }
        Ok(answer)
    }

    fn turn(&self, key: Key) -> Arc<Turn> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = under_way.get(&key).and_then(Weak::upgrade) {
            return turn;
        }
        under_way.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::new(Turn::new(()));
        under_way.insert(key, Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finished_creates_are_not_remembered_as_in_progress() {
        let once = Once::new(Arc::new(MemoryIdempotencyStore::default()));
        for number in 0..100 {
            let create = async { Ok(Bytes::from_static(b"{}")) };
            once.run(CollectionName::Messages, &format!("c-{number}"), create).await.unwrap();
        }
        let under_way = once.under_way.lock().unwrap().len();
        assert!(under_way <= 1, "{under_way} of 100; the last may wait for the next");
    }
}
