//! Compares a list from the start with the incremental lists.

use std::collections::HashSet;

use super::core::Core;
use super::jobs::SyncStatus;
use super::store::Store;
use crate::checks::Page;
use crate::checks::{Rule, Severity, Violations};
use ringcentral_events::digital::CollectionName;

/// Maximum number of ids in an outcome's line.
pub(crate) const NAMED_IDS: usize = 5;

/// A list from the start, beside the incremental one.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    pub(crate) since: Option<String>,
    pub(crate) pages: u32,
    /// Ids, oldest first.
    order: Vec<String>,
    /// The ids of the last page, oldest first.
    pub(crate) last: Vec<String>,
}

impl Walk {
    pub(crate) fn add(&mut self, page: &Page<'_>) {
        self.pages += 1;
        self.last = page.items.iter().rev().map(|(id, _)| id.clone()).collect();
        self.order.extend(self.last.iter().cloned());
        if page.first.is_some() {
            self.since.clone_from(&page.first);
        }
    }
}

/// Records what either of the two lacks.
pub(crate) fn compare(core: &Core, collection: CollectionName, walk: &Walk, violations: &mut Violations) {
    let there: HashSet<&str> = walk.order.iter().map(String::as_str).collect();
    for id in &there {
        if core.store.get(collection, id).is_some_and(|content| content.deleted) {
            violations.add(Rule::DeletedListed, Some(id), "the content was deleted, but is listed");
        }
    }
    for job in &core.jobs {
        let is_create = job.write.collection == Some(collection) && job.write.operation == "create";
        if let (true, SyncStatus::Success, Some(id)) = (is_create, job.status, job.id.as_deref())
            && !there.contains(id)
            && core.store.get(collection, id).is_some_and(|content| !content.deleted)
        {
            violations.add(
                Rule::CreateNotListed,
                Some(id),
                "the content was created, but a list from the start omits it",
            );
        }
    }
    let since = core.store.since.get(&collection);
    if let Some(place) = since.and_then(|since| walk.order.iter().position(|id| id == since)) {
        for id in walk.order.iter().take(place) {
            if core.store.get(collection, id).is_none() {
                let why = format!(
                    "a list from the start has the content before {}, but the incremental lists omitted it",
                    since.map_or("", String::as_str)
                );
                violations.add(Rule::ListLost, Some(id), why);
            }
        }
    }
    let all = core.store.all(collection);
    let begins = all.iter().filter(|content| there.contains(content.id.as_str())).map(|content| content.sequence).min();
    for content in all.iter().filter(|content| content.listed > 0 && !content.deleted && content.content_id.is_none()) {
        // A source may return as little history as it likes, and its users may delete.
        if begins.is_some_and(|begins| content.sequence > begins) && !there.contains(content.id.as_str()) {
            let why = "the content was listed, but a list from the start that begins before it omits it";
            violations.add_as(Severity::Warning, Rule::ListLost, Some(&content.id), why);
        }
    }
}

/// Whether a page repeats what earlier lists had; contents that were pushed, created or shown may
/// appear.
pub(crate) fn again(
    page: &Page<'_>,
    store: &Store,
    collection: CollectionName,
    since: Option<&str>,
    violations: &mut Violations,
) {
    let Some(since) = since else { return };
    let before = store.page.get(&collection);
    let was_listed = |id: &&String| store.get(collection, id).is_some_and(|content| content.listed > 0);
    let (of_page, older): (HashSet<&str>, HashSet<&str>) = page
        .ids
        .iter()
        .filter(|id| was_listed(id))
        .map(String::as_str)
        .partition(|id| before.is_some_and(|page| page.contains(*id)));
    if !of_page.is_empty() {
        let why = format!(
            "the list after {since} repeats {}: the page that began with {since} was not newest first",
            named(&of_page)
        );
        violations.add(Rule::ListOrder, Some(since), why);
    }
    if !older.is_empty() {
        let why = format!("the list after {since} repeats {}, which was listed before {since}", named(&older));
        violations.add(Rule::ListedAgain, Some(since), why);
    }
}

/// The ids of a set that has no order, for messages.
fn named(ids: &HashSet<&str>) -> String {
    let mut ids: Vec<_> = ids.iter().copied().collect();
    ids.sort_unstable();
    let more = ids.len().saturating_sub(NAMED_IDS);
    let shown = ids.into_iter().take(NAMED_IDS).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}
