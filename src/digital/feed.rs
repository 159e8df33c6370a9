//! Lists: what is new in a collection, in the order in which it came.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::collection::Content;
use super::failure::Failure;

/// One content of a [`Feed`], and its place.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Entry<T> {
    /// Its place in the order in which contents became visible; a number in a
    /// database that only grows, for example. It never changes, unlike dates.
    pub sequence: u64,
    /// The content.
    pub content: T,
}

impl<T> Entry<T> {
    /// A content at its place.
    pub fn new(sequence: u64, content: T) -> Self {
        Self { sequence, content }
    }
}

/// Where the contents of a collection come from.
///
/// The platform asks for what came after the content that it has seen last, and takes
/// the first of an answer for the newest. An answer that is not newest first, or that
/// has the newest of many and not the oldest, loses contents for ever. So a feed is
/// asked for places only, and this crate makes the answer of them: sorted, without what
/// the platform has, cut so that the next list goes on where this one ends.
#[async_trait]
pub trait Feed<T>: Send + Sync + 'static {
    /// The place of the content `id`, also after it was deleted: keep that much of it.
    /// `None` when there was never one; then the platform is given what it would be
    /// given the first time, and recognises by their ids what it has already.
    ///
    /// # Errors
    /// Yours; the platform asks again in its next run.
    async fn position(&self, id: &str) -> Result<Option<u64>, Failure>;

    /// The first `limit` contents after `place`, by their place; in any order. More do
    /// no harm, fewer say that there are no others.
    ///
    /// Without a place from the start of your history, of which you may give as little
    /// as you like.
    ///
    /// # Errors
    /// Yours; the platform asks again in its next run.
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

/// The answer to a list: the oldest `limit` after `since_id`, newest first.
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
        tracing::warn!("a list after a content that the source never had: the history is given");
    }
    let mut page = Vec::new();
    // Entries that cannot be given may fill what the feed gives; the platform must
    // not stand still before them.
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
        tracing::warn!("a content without an id is left out of a list");
        return false;
    }
    if let Err(error) = content.check() {
        // It stays in the list, so that the platform gets past it.
        tracing::warn!(id = content.id(), %error, "a content is listed that the platform ignores");
    }
    Some(content.id()) != since_id
}

/// Reversed; of several with one id the newest only.
fn newest_first<T: Content>(page: Vec<T>) -> Vec<T> {
    let mut seen = HashSet::new();
    page.into_iter().rev().filter(|content| seen.insert(content.id().to_owned())).collect()
}

/// A feed in memory: for tests, for examples, and for sources that can afford it.
///
/// It keeps the order in which contents were [put](Self::put), and the places of
/// those that were removed. Clones share the contents. Nothing in it outlives the
/// process.
pub struct MemoryFeed<T>(Arc<Mutex<Memory<T>>>);

struct Memory<T> {
    next: u64,
    places: HashMap<String, u64>,
    contents: BTreeMap<u64, Kept<T>>,
}

/// A content, and whether it is still there.
struct Kept<T> {
    content: T,
    removed: bool,
}

impl<T: Content> MemoryFeed<T> {
    /// A feed without contents.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `content` at the end, or replaces the one with its id, in its place. What
    /// was removed stays so.
    pub fn put(&self, content: T) {
        let mut memory = self.lock();
        let place = memory.places.get(content.id()).copied();
        let place = place.unwrap_or(memory.next);
        if place == memory.next {
            memory.next += 1;
            memory.places.insert(content.id().to_owned(), place);
        }
        let removed = memory.contents.get(&place).is_some_and(|kept| kept.removed);
        memory.contents.insert(place, Kept { content, removed });
    }

    /// The content `id`, unless it was removed.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<T> {
        let memory = self.lock();
        let kept = memory.contents.get(memory.places.get(id)?)?;
        (!kept.removed).then(|| kept.content.clone())
    }

    /// Removes the content `id` from lists. Gives it, the second time too: a deletion
    /// that is repeated is answered as the first was.
    pub fn remove(&self, id: &str) -> Option<T> {
        let mut memory = self.lock();
        let place = *memory.places.get(id)?;
        let kept = memory.contents.get_mut(&place)?;
        kept.removed = true;
        Some(kept.content.clone())
    }

    /// Changes the content `id`, unless it was removed, and gives it.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut T)) -> Option<T> {
        let mut memory = self.lock();
        let place = *memory.places.get(id)?;
        let kept = memory.contents.get_mut(&place).filter(|kept| !kept.removed)?;
        let mut changed = kept.content.clone();
        change(&mut changed);
        // With another id it would be a content that has no place.
        if changed.id() == id {
            kept.content = changed;
        }
        Some(kept.content.clone())
    }

    /// What is there, oldest first.
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
