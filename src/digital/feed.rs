//! Lists: the new contents of a collection, in order of arrival.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::collection::Content;
use super::failure::Failure;

/// A content of a [`Feed`] and its position.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Entry<T> {
    /// Its position in the order in which contents became visible, such as a growing number in a
    /// database. Unlike dates, it never changes.
    pub sequence: u64,
    /// The content.
    pub content: T,
}

impl<T> Entry<T> {
    /// A content at a position.
    pub fn new(sequence: u64, content: T) -> Self {
        Self { sequence, content }
    }
}

/// The source of a collection's contents.
///
/// The platform asks for the contents after the last one it has seen, and takes the first of an
/// answer as the newest. An answer that is not newest first, or that contains the newest instead of
/// the oldest of many, loses contents permanently. So a feed only returns positions, and this crate
/// builds the answer: sorted, without contents the platform already has, and cut so that the next
/// list continues where this one ends.
#[async_trait]
pub trait Feed<T>: Send + Sync + 'static {
    /// The position of the content `id`, even after it was deleted: retain that much of it. `None`
    /// if it never existed; then the platform gets what it got the first time, and recognizes known
    /// contents by their ids.
    ///
    /// # Errors
    /// Your error; the platform asks again in its next run.
    async fn position(&self, id: &str) -> Result<Option<u64>, Failure>;

    /// The first `limit` contents after `place`, in any order. More are harmless; fewer mean that
    /// there are no others.
    ///
    /// Without a position, from the start of your history, of which you may return as little as you
    /// like.
    ///
    /// # Errors
    /// Your error; the platform asks again in its next run.
    async fn after(&self, place: Option<u64>, limit: usize) -> Result<Vec<Entry<T>>, Failure>;
}

#[async_trait]
impl<T: Send + 'static, F: Feed<T> + ?Sized> Feed<T> for Arc<F> {
    async fn position(&self, id: &str) -> Result<Option<u64>, Failure> {
        (**self).position(id).await
    }

    async fn after(&self, place: Option<u64>, limit: usize) -> Result<Vec<Entry<T>>, Failure> {
        (**self).after(place, limit).await
    }
}

/// The answer to a list: the oldest `limit` contents after `since_id`, newest first.
pub(super) async fn page<T: Content>(
    feed: &dyn Feed<T>,
    since_id: Option<&str>,
    limit: usize,
) -> Result<Vec<T>, Failure> {
    let mut place = match since_id {
        Some(id) => feed.position(id).await?,
        None => None,
    };
    if place.is_none() && since_id.is_some() {
        tracing::warn!("a list refers to an unknown content: answering with the history");
    }
    let mut page = Vec::new();
    // Unusable entries may fill the feed's answer; the platform must not get stuck at them.
    while page.len() < limit {
        let wanted = limit - page.len();
        let mut batch = feed.after(place, wanted).await?;
        let given = batch.len();
        batch.retain(|entry| place.is_none_or(|place| entry.sequence > place));
        batch.sort_by_key(|entry| entry.sequence);
        batch.truncate(wanted);
        let Some(last) = batch.last() else { break };
        place = Some(last.sequence);
        page.extend(batch.into_iter().map(|entry| entry.content).filter(|content| is_listed(content, since_id)));
        if given < wanted {
            break;
        }
    }
    Ok(newest_first(page))
}

fn is_listed<T: Content>(content: &T, since_id: Option<&str>) -> bool {
    if content.id().is_empty() {
        tracing::warn!("omitted a content without an id from a list");
        return false;
    }
    if let Err(error) = content.check() {
        // It stays in the list, so that the platform moves past it.
        tracing::warn!(id = content.id(), %error, "listed a content that the platform will ignore");
    }
    Some(content.id()) != since_id
}

/// Reversed; of duplicate ids only the newest.
fn newest_first<T: Content>(page: Vec<T>) -> Vec<T> {
    let mut seen = HashSet::new();
    page.into_iter().rev().filter(|content| seen.insert(content.id().to_owned())).collect()
}

/// A feed in memory, for tests, examples and sources that can lose it.
///
/// It maintains the order in which contents were [put](Self::put), and the positions of removed
/// ones. Clones share the contents. Nothing outlives the process.
pub struct MemoryFeed<T>(Arc<Mutex<Memory<T>>>);

struct Memory<T> {
    next: u64,
    places: HashMap<String, u64>,
    contents: BTreeMap<u64, Stored<T>>,
}

/// A content, and whether it still exists.
struct Stored<T> {
    content: T,
    removed: bool,
}

impl<T: Content> MemoryFeed<T> {
    /// An empty feed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `content` at the end, or replaces the one with its id in place. Removed contents stay
    /// removed.
    pub fn put(&self, content: T) {
        let mut memory = self.lock();
        let place = memory.places.get(content.id()).copied();
        let place = place.unwrap_or(memory.next);
        if place == memory.next {
            memory.next += 1;
            memory.places.insert(content.id().to_owned(), place);
        }
        let removed = memory.contents.get(&place).is_some_and(|kept| kept.removed);
        memory.contents.insert(place, Stored { content, removed });
    }

    /// The content `id`, unless it was removed.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<T> {
        let memory = self.lock();
        let kept = memory.contents.get(memory.places.get(id)?)?;
        (!kept.removed).then(|| kept.content.clone())
    }

    /// Removes the content `id` from lists and returns it, also when called again: a repeated
    /// deletion gets the same answer.
    pub fn remove(&self, id: &str) -> Option<T> {
        let mut memory = self.lock();
        let place = *memory.places.get(id)?;
        let kept = memory.contents.get_mut(&place)?;
        kept.removed = true;
        Some(kept.content.clone())
    }

    /// Changes the content `id`, unless it was removed, and returns it.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut T)) -> Option<T> {
        let mut memory = self.lock();
        let place = *memory.places.get(id)?;
        let kept = memory.contents.get_mut(&place).filter(|kept| !kept.removed)?;
        let mut changed = kept.content.clone();
        change(&mut changed);
        // Another id would be a content without a position.
        if changed.id() == id {
            kept.content = changed;
        }
        Some(kept.content.clone())
    }

    /// The existing contents, oldest first.
    #[must_use]
    pub fn contents(&self) -> Vec<T> {
        self.lock().contents.values().filter(|kept| !kept.removed).map(|kept| kept.content.clone()).collect()
    }
}

impl<T> MemoryFeed<T> {
    fn lock(&self) -> MutexGuard<'_, Memory<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for MemoryFeed<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Memory { next: 0, places: HashMap::new(), contents: BTreeMap::new() })))
    }
}

impl<T> Clone for MemoryFeed<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for MemoryFeed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFeed").field("contents", &self.lock().contents.len()).finish()
    }
}

#[async_trait]
impl<T: Content> Feed<T> for MemoryFeed<T> {
    async fn position(&self, id: &str) -> Result<Option<u64>, Failure> {
        Ok(self.lock().places.get(id).copied())
    }

    async fn after(&self, place: Option<u64>, limit: usize) -> Result<Vec<Entry<T>>, Failure> {
        let from = place.map_or(0, |place| place.saturating_add(1));
        let memory = self.lock();
        let there = memory.contents.range(from..).filter(|(_, kept)| !kept.removed);
        Ok(there.take(limit).map(|(place, kept)| Entry::new(*place, kept.content.clone())).collect())
    }
}
