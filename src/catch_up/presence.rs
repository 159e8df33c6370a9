//! The present presence.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::ask::{get, get_record, objects, read_position, write_position};
use super::{CatchUp, Found, SyncPage, SyncRequest, SyncToken, scope, time};
use crate::clock::Clock;
use crate::error::Result;
use crate::event::uri::Parts;
use crate::event::{EventFilter, EventKind, GapClosure};
use crate::rest::Client;

/// Records of one page of an account's presence; the maximum is undocumented.
const PAGE: usize = 100;

/// Reads the present presence (`GET …/presence`): of an extension in one request (rate group Light), of an account page
/// by page (Heavy).
///
/// It finds states, not changes: the states in between are lost. A state has no `sequence`: its `timestamp`, when it
/// was read, orders it against pushed events. A check, when no event is known to be missing, sends no request.
#[derive(Clone, Debug)]
pub struct PresenceSnapshot {
    client: Client,
    clock: Clock,
}

impl PresenceSnapshot {
    /// Sends its requests through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let clock = client.system().clock();
        Self { client, clock }
    }
}

/// Pages of accounts' lists that remain to be read, keyed by the filter.
#[derive(Default, Serialize, Deserialize)]
struct PagePosition {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pages: BTreeMap<String, u64>,
}

#[async_trait]
impl CatchUp for PresenceSnapshot {
    fn name(&self) -> &'static str {
        "presence"
    }

    fn covers(&self, filter: &EventFilter) -> GapClosure {
        match filter.kind() {
            // Those of monitored lines and favorites concern other extensions.
            EventKind::ExtensionPresence
            | EventKind::DetailedExtensionPresence
            | EventKind::DetailedExtensionPresenceWithSip
                if is_own(filter) =>
            {
                GapClosure::StateOnly
            }
            EventKind::ExtensionDnd | EventKind::AccountPresence => GapClosure::StateOnly,
            _ => GapClosure::Nothing,
        }
    }

    async fn begin(&self, _filters: &[EventFilter]) -> Result<SyncToken> {
        write_position(&PagePosition::default(), self.clock.wall())
    }

    async fn sync(&self, request: SyncRequest<'_>) -> Result<SyncPage> {
        let now = self.clock.wall();
        let mut held: PagePosition = read_position(request.from).unwrap_or_default();
        let covered = |filter: &&EventFilter| self.covers(filter) != GapClosure::Nothing;
        let filters: Vec<&EventFilter> = request.filters.iter().filter(covered).collect();
        held.pages.retain(|uri, _| filters.iter().any(|filter| filter.as_str() == uri));
        let (mut all, mut complete) = (Vec::new(), true);
        if let Some((uri, page)) = held.pages.pop_first() {
            if let Some(filter) = filters.iter().find(|filter| filter.as_str() == uri) {
                complete = self.account(filter, page, &mut held, &mut all).await?;
            }
        } else if request.since.is_some() {
            for filter in filters {
                match filter.kind() {
                    EventKind::AccountPresence => complete &= self.account(filter, 1, &mut held, &mut all).await?,
                    _ => all.push(self.extension(filter).await?),
                }
            }
        }
        let more = !held.pages.is_empty();
        Ok(SyncPage::new(all, write_position(&held, now)?).with_more(more).with_complete(complete))
    }
}

impl PresenceSnapshot {
    async fn extension(&self, filter: &EventFilter) -> Result<Found> {
        let path = format!("{}/presence", scope::extension_path(filter)?);
        let answer = get_record(&self.client, &self.clock, &path, &details(filter)).await?;
        let uri = answer.body.get("uri").and_then(Value::as_str).map(str::to_owned);
        state(filter, uri.as_deref(), answer.at, answer.body)
    }

    /// Reads one page of an account; returns whether every record of it was read.
    async fn account(
        &self,
        filter: &EventFilter,
        page: u64,
        held: &mut PagePosition,
        all: &mut Vec<Found>,
    ) -> Result<bool> {
        let path = format!("{}/presence", scope::account_path(filter)?);
        let mut query = details(filter);
        query.extend([("page", page.to_string()), ("perPage", PAGE.to_string())]);
        let answer = get(&self.client, &self.clock, &path, &query).await?;
        let (records, whole) = objects(&answer.body);
        if answer.body.records.len() >= PAGE {
            held.pages.insert(filter.as_str().to_owned(), page.saturating_add(1));
        }
        for record in records {
            all.push(state(filter, answer.body.uri.as_deref(), answer.at, record)?);
        }
        Ok(whole)
    }
}

/// Whether a presence filter concerns the extension in its path.
fn is_own(filter: &EventFilter) -> bool {
    let segments: Vec<&str> = Parts::of(filter.as_str()).segments().collect();
    matches!(segments.as_slice(), [.., "extension", _, "presence"])
}

/// The parameters that the resource shares with the filter.
fn details(filter: &EventFilter) -> Vec<(&'static str, String)> {
    let has = |name: &str| Parts::of(filter.as_str()).pairs().any(|(key, value)| key == name && value == "true");
    let names = ["detailedTelephonyState", "sipData"];
    names.into_iter().filter(|name| has(name)).map(|name| (name, "true".to_owned())).collect()
}

/// The event of a record of the resource, as it was at `at`.
fn state(filter: &EventFilter, answered: Option<&str>, at: u64, mut record: Map<String, Value>) -> Result<Found> {
    let (uri, at) = (scope::event_uri(filter, answered), time::text(at));
    record.remove("uri");
    let extension = record.remove("extension");
    let id = extension.and_then(|mut extension| extension.get_mut("id").map(Value::take)).unwrap_or(Value::Null);
    let subject = id.to_string();
    if filter.kind() == EventKind::ExtensionDnd {
        let dnd = record.remove("dndStatus").unwrap_or(Value::Null);
        return Found::state(&uri, &subject, Some(&at), &json!({ "extensionId": id, "dndStatus": dnd }));
    }
    record.insert("extensionId".into(), id);
    if details(filter).is_empty() {
        record.remove("activeCalls");
    }
    Found::state(&uri, &subject, Some(&at), &record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{AccessToken, StaticToken};
    use crate::{Notification, Origin};

    #[test]
    fn readable_resources_are_covered() {
        let source = PresenceSnapshot::new(Client::builder(StaticToken::new(AccessToken::new("t"))).build().unwrap());
        let covered: Vec<&str> = EventFilter::catalog()
            .filter(|row| source.covers(&EventFilter::custom(row.template()).unwrap()) == GapClosure::StateOnly)
            .map(|row| row.constructor())
            .collect();
        assert_eq!(covered, ["presence", "detailed_presence", "sip_presence", "account_presence", "dnd"]);
    }

    #[test]
    fn a_record_is_delivered_in_the_form_of_the_event() {
        let record = json!({
            "uri": "x", "extension": {"id": 7, "uri": "y"}, "presenceStatus": "Busy", "dndStatus": "TakeAllCalls",
            "activeCalls": [{"id": "1"}],
        });
        let answered = Some("https://h/restapi/v1.0/account/4/extension/7/presence");
        for (filter, want) in [
            (EventFilter::presence(), json!({"presenceStatus": "Busy", "dndStatus": "TakeAllCalls", "extensionId": 7})),
            (
                EventFilter::detailed_presence(),
                json!({"presenceStatus": "Busy", "dndStatus": "TakeAllCalls", "extensionId": 7, "activeCalls": [{"id": "1"}]}),
            ),
            (EventFilter::dnd(), json!({"extensionId": 7, "dndStatus": "TakeAllCalls"})),
        ] {
            let Value::Object(record) = record.clone() else { panic!("{record}") };
            let found = state(&filter, answered, 1_714_996_800_000, record).unwrap();
            assert!(found.snapshot);
            let it = Notification::parse(found.notification, Origin::Snapshot, std::time::SystemTime::UNIX_EPOCH);
            let it = it.unwrap();
            assert_eq!(it.body_as::<Value>().unwrap(), want, "{filter}");
            assert_eq!(it.timestamp().unwrap().as_str(), "2024-05-06T12:00:00.000Z", "{filter}");
            assert!(it.event_uri().starts_with("/restapi/v1.0/account/4/extension/7/presence"), "{filter}");
        }
    }
}
