//! The platform's copy of a source's contents.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value};

use crate::checks::id_of;
use ringcentral_events::digital::CollectionName;

/// How a content first reached the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// From a list.
    Listed,
    /// From the Send API.
    Pushed,
    /// An agent wrote it, and the source returned it.
    Created,
    /// From a show, because another content pointed to it.
    Shown,
}

/// The platform's copy of a content.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Imported {
    /// The collection.
    pub collection: CollectionName,
    /// The source's id.
    pub id: String,
    /// How it first arrived.
    pub origin: Origin,
    /// The number of lists that contained it.
    pub listed: u32,
    /// Its position in the order of arrival, over all collections.
    pub sequence: u64,
    /// Whether the platform deleted it.
    pub deleted: bool,
    /// The platform's own id, if an agent wrote it.
    pub content_id: Option<String>,
    /// The latest version from the source.
    pub content: Map<String, Value>,
}

impl Imported {
    /// A text field.
    #[must_use]
    pub fn text(&self, field: &str) -> Option<&str> {
        self.content.get(field)?.as_str()
    }

    /// The actions that the source allows on it.
    pub fn actions(&self) -> impl Iterator<Item = &str> {
        self.content.get("actions").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }
}

/// The contents, the identities, and the position of each list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    contents: BTreeMap<CollectionName, HashMap<String, Imported>>,
    users: BTreeMap<String, Map<String, Value>>,
    next: u64,
    pub(crate) since: BTreeMap<CollectionName, String>,
    /// The ids of the page that `since` belongs to.
    pub(crate) page: BTreeMap<CollectionName, HashSet<String>>,
}

impl Store {
    pub(crate) fn get(&self, collection: CollectionName, id: &str) -> Option<&Imported> {
        self.contents.get(&collection)?.get(id)
    }

    pub(crate) fn get_mut(&mut self, collection: CollectionName, id: &str) -> Option<&mut Imported> {
        self.contents.get_mut(&collection)?.get_mut(id)
    }

    /// The contents of a collection, in order of arrival.
    pub(crate) fn all(&self, collection: CollectionName) -> Vec<Imported> {
        let mut all: Vec<_> = self.contents.get(&collection).into_iter().flat_map(HashMap::values).cloned().collect();
        all.sort_by_key(|content| content.sequence);
        all
    }

    pub(crate) fn count(&self) -> usize {
        self.contents.values().map(HashMap::len).sum()
    }

    /// The sequence number of the latest content.
    pub(crate) fn mark(&self) -> u64 {
        self.next
    }

    /// Stores a content or a new version of it; fields missing from the new version are dropped.
    pub(crate) fn put(
        &mut self,
        collection: CollectionName,
        id: &str,
        origin: Origin,
        content: &Map<String, Value>,
    ) -> &mut Imported {
        for name in ["author", "recipient"] {
            if let Some(Value::Object(user)) = content.get(name) {
                self.put_user(user);
            }
        }
        let next = &mut self.next;
        let kept = self.contents.entry(collection).or_default().entry(id.to_owned()).or_insert_with(|| {
            *next += 1;
            Imported {
                collection,
                id: id.to_owned(),
                origin,
                listed: 0,
                sequence: *next,
                deleted: false,
                content_id: None,
                content: Map::new(),
            }
        });
        kept.content = content.clone();
        kept
    }

    /// Stores an identity; the latest fields win.
    pub(crate) fn put_user(&mut self, user: &Map<String, Value>) {
        if let Some((id, _)) = id_of(user.get("id")) {
            self.users.entry(id).or_default().extend(user.clone());
        }
    }

    pub(crate) fn users(&self) -> Vec<Map<String, Value>> {
        self.users.values().cloned().collect()
    }

    /// An identity that the platform may write as.
    pub(crate) fn puppet(&self) -> Option<String> {
        let is_puppet = |user: &&Map<String, Value>| user.get("puppetizable") == Some(&Value::Bool(true));
        self.users.values().find(is_puppet).and_then(|user| id_of(user.get("id"))).map(|(id, _)| id)
    }
}
