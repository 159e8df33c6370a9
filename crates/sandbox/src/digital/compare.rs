//! Compares a list from the start with the incremental lists.

use std::collections::HashSet;

use super::core::Core;
use super::finding::{Findings, Rule, Severity};
use super::jobs::SyncStatus;
use super::page::Page;
use ringcentral_events::digital::CollectionName;

/// A list from the start, beside the incremental one.
#[derive(Debug, Default)]
pub(super) struct Walk {
    pub(super) since: Option<String>,
    pub(super) pages: u32,
    /// Ids, oldest first.
    order: Vec<String>,
    /// The ids of the last page, oldest first.
    pub(super) last: Vec<String>,
}

impl Walk {
    pub(super) fn add(&mut self, page: &Page<'_>) {
        self.pages += 1;
        self.last = page.items.iter().rev().map(|(id, _)| id.clone()).collect();
        self.order.extend(self.last.iter().cloned());
        if page.first.is_some() {
            self.since.clone_from(&page.first);
        }
    }
}

/// Records what either of the two lacks.
pub(super) fn compare(core: &Core, collection: CollectionName, walk: &Walk, findings: &mut Findings) {
    let there: HashSet<&str> = walk.order.iter().map(String::as_str).collect();
    for id in &there {
        if core.store.get(collection, id).is_some_and(|content| content.deleted) {
            findings.add(Rule::DeletedListed, Some(id), "the content was deleted, but is listed");
        }
    }
    for job in &core.jobs {
        let is_create = job.write.collection == Some(collection) && job.write.operation == "create";
        if let (true, SyncStatus::Success, Some(id)) = (is_create, job.status, job.id.as_deref())
            && !there.contains(id)
            && core.store.get(collection, id).is_some_and(|content| !content.deleted)
        {
            findings.add(
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
                findings.add(Rule::ListLost, Some(id), why);
            }
        }
    }
    let all = core.store.all(collection);
    let begins = all.iter().filter(|content| there.contains(content.id.as_str())).map(|content| content.sequence).min();
    for content in all.iter().filter(|content| content.listed > 0 && !content.deleted && content.content_id.is_none()) {
        // A source may return as little history as it likes, and its users may delete.
        if begins.is_some_and(|begins| content.sequence > begins) && !there.contains(content.id.as_str()) {
            let why = "the content was listed, but a list from the start that begins before it omits it";
            findings.add_as(Severity::Warning, Rule::ListLost, Some(&content.id), why);
        }
    }
}
