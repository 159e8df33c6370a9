//! Compares the extensions of an account.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::ask::{Listing, get, read_position, write_position};
use super::round::by_path;
use super::{CatchUp, Found, SyncPage, SyncRequest, SyncToken, scope, time};
use crate::clock::Clock;
use crate::error::Result;
use crate::event::{EventFilter, EventKind, GapClosure};
use crate::ids::ExtensionId;
use crate::rest::Client;

/// The maximum of one answer elsewhere in the API; not documented for this list.
const PAGE: usize = 1000;
/// The most pages: an account with more extensions is compared in part.
const PAGES: u64 = 20;

/// Backfills changes of extensions by comparing lists (`GET …/extension`, rate group Medium): an extension that is new,
/// gone, or has another record.
///
/// Two changes of one extension appear as one, and hints are lost. The list is part of the position: an id and eight
/// digits for each extension. A check, when no event is known to be missing, only reads the list again: push has
/// delivered its changes.
#[derive(Clone, Debug)]
pub struct ExtensionList {
    client: Client,
    clock: Clock,
}

impl ExtensionList {
    /// Sends its requests through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let clock = client.system().clock();
        Self { client, clock }
    }
}

/// A digest of each extension's record, keyed by its id.
type List = BTreeMap<String, String>;

/// The lists, keyed by the account's path.
type Lists = BTreeMap<String, List>;

#[derive(Deserialize)]
struct Extension {
    id: ExtensionId,
}

struct Answer {
    uri: Option<String>,
    at: String,
    whole: bool,
}

/// The change of an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum What {
    Create,
    Update,
    Delete,
}

#[async_trait]
impl CatchUp for ExtensionList {
    fn name(&self) -> &'static str {
        "extension-list"
    }

    fn covers(&self, filter: &EventFilter) -> GapClosure {
        match filter.kind() {
            EventKind::ExtensionList => GapClosure::StateOnly,
            _ => GapClosure::Nothing,
        }
    }

    async fn begin(&self, filters: &[EventFilter]) -> Result<SyncToken> {
        let now = self.clock.wall();
        let mut lists = Lists::new();
        for path in by_account(filters)?.into_keys() {
            let (list, ..) = self.list(&path).await?;
            lists.insert(path, list);
        }
        write_position(&lists, now)
    }

    async fn sync(&self, request: SyncRequest<'_>) -> Result<SyncPage> {
        let now = self.clock.wall();
        let held: Option<Lists> = read_position(request.from);
        let (mut lists, mut all, mut complete) = (Lists::new(), Vec::new(), true);
        for (path, filters) in by_account(request.filters)? {
            let (mut list, answer) = self.list(&path).await?;
            let before = held.as_ref().and_then(|held| held.get(&path));
            if !answer.whole {
                // An extension that a partial list omits may still exist.
                let left_out = before.into_iter().flatten().filter(|(id, _)| !list.contains_key(*id));
                let left_out: List = left_out.map(|(id, digest)| (id.clone(), digest.clone())).collect();
                list.extend(left_out);
            }
            if request.since.is_some() {
                complete &= answer.whole && before.is_some();
                for (id, what) in before.map(|before| compare(before, &list)).unwrap_or_default() {
                    for filter in &filters {
                        all.push(told(filter, &answer, &id, what)?);
                    }
                }
            }
            lists.insert(path, list);
        }
        Ok(SyncPage::new(all, write_position(&lists, now)?).with_complete(complete))
    }
}

impl ExtensionList {
    /// The list, and its answer.
    async fn list(&self, path: &str) -> Result<(List, Answer)> {
        let (mut list, mut whole) = (List::new(), true);
        let mut page = 1;
        loop {
            let query = [("page", page.to_string()), ("perPage", PAGE.to_string())];
            let path = format!("{path}/extension");
            let answer = get(&self.client, &self.clock, &path, &query).await?;
            let Listing { uri, records, is_whole, .. } = answer.body;
            let full = records.len() >= PAGE;
            let read: Vec<_> = records.iter().filter_map(|raw| digest(raw)).collect();
            whole &= is_whole && read.len() == records.len();
            list.extend(read);
            if !full || page >= PAGES {
                return Ok((list, Answer { uri, at: time::text(answer.at), whole: whole && !full }));
            }
            page += 1;
        }
    }
}

/// An extension's id, and a digest of its record with fields in any order.
fn digest(raw: &RawValue) -> Option<(String, String)> {
    let id = serde_json::from_str::<Extension>(raw.get()).ok()?.id;
    let mut sorted: Value = serde_json::from_str(raw.get()).ok()?;
    // Picture URLs and the like may change without a change of the record.
    if let Some(fields) = sorted.as_object_mut() {
        fields.retain(|name, _| name != "uri" && name != "profileImage");
    }
    let hash = Sha256::digest(sorted.to_string().as_bytes());
    let digits = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    Some((id.as_str().to_owned(), digits))
}

/// The differences.
fn compare(before: &List, now: &List) -> Vec<(String, What)> {
    let gone = before.keys().filter(|id| !now.contains_key(*id)).map(|id| (id.clone(), What::Delete));
    let others = now.iter().filter_map(|(id, digest)| {
        let what = match before.get(id) {
            None => What::Create,
            Some(held) if held != digest => What::Update,
            Some(_) => return None,
        };
        Some((id.clone(), what))
    });
    gone.chain(others).collect()
}

fn told(filter: &EventFilter, answer: &Answer, id: &str, what: What) -> Result<Found> {
    let body = json!({ "extensions": [{ "extensionId": id, "eventType": what }] });
    Found::change(&scope::event_uri(filter, answer.uri.as_deref()), Some(&answer.at), &body)
}

fn by_account(filters: &[EventFilter]) -> Result<BTreeMap<String, Vec<&EventFilter>>> {
    by_path(filters, |filter| (filter.kind() == EventKind::ExtensionList).then(|| scope::account_path(filter)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(records: &[Value]) -> List {
        let raw = |record: &Value| RawValue::from_string(record.to_string()).unwrap();
        records.iter().filter_map(|record| digest(&raw(record))).collect()
    }

    #[test]
    fn lists_are_compared_by_content() {
        let before = list(&[
            json!({"id": 1, "name": "a", "uri": "x"}),
            json!({"id": 2, "name": "b"}),
            json!({"id": 3, "name": "c", "status": "Enabled"}),
        ]);
        let now = list(&[
            json!({"id": "4", "name": "d"}),
            json!({"name": "a", "id": 1, "uri": "y"}),
            json!({"status": "Disabled", "id": 3, "name": "c"}),
            json!({"name": "of no id"}),
        ]);
        let got = compare(&before, &now);
        let want = [("2", What::Delete), ("3", What::Update), ("4", What::Create)];
        assert_eq!(got, want.map(|(id, what)| (id.to_owned(), what)));
        assert!(compare(&now, &now).is_empty());
        assert_eq!(list(&[json!({"id": 1})]).values().next().unwrap().len(), 8);
    }
}
