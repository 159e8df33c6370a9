//! High-volume messages, by date.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::ask::{Listing, OVERLAP, get, read_position, write_position};
use super::{CatchUp, Found, SyncPage, SyncRequest, SyncToken, scope, time};
use crate::clock::Clock;
use crate::error::Result;
use crate::event::lenient::Lenient as _;
use crate::event::uri::Parts;
use crate::event::{A2pMessage, EventFilter, EventKind, GapClosure};
use crate::rest::Client;

/// Documented: the maximum of one answer.
const PAGE: usize = 1000;
/// How long before a gap a message may have been created whose status changed in it.
const REREAD: u64 = 3_600_000;

/// Backfills high-volume messages (`GET …/a2p-sms/messages`, rate group Light).
///
/// The service lists them by their creation time. So it finds all new ones, with their present status, and status
/// changes of those that were created within an hour before the gap. Each call is one request; the pages come newest
/// first. Where the answer holds the token of the next page is unverified.
#[derive(Clone, Debug)]
pub struct A2pMessages {
    client: Client,
    clock: Clock,
}

impl A2pMessages {
    /// Sends its requests through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let clock = client.system().clock();
        Self { client, clock }
    }
}

/// The position in one account's messages. All times are the service's.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    /// Every message that was created before this has been read.
    time: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    back: Option<Back>,
    /// Since when a list of several pages was read just now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    read_since: Option<u64>,
}

/// A list that is being read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Back {
    window: Window,
    /// The end of the list.
    to: u64,
    page: String,
}

/// Which times count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Window {
    created: u64,
    /// `None` if only new messages count.
    changed: Option<u64>,
}

impl Window {
    fn from(self) -> u64 {
        self.changed.map_or(self.created, |changed| self.created.min(changed.saturating_sub(REREAD)))
    }
}

/// Keyed by the account's path.
type Positions = BTreeMap<String, Position>;

#[async_trait]
impl CatchUp for A2pMessages {
    fn name(&self) -> &'static str {
        "a2p-messages"
    }

    fn covers(&self, filter: &EventFilter) -> GapClosure {
        match filter.kind() {
            EventKind::A2pMessage => GapClosure::Partial,
            _ => GapClosure::Nothing,
        }
    }

    fn overlap(&self) -> Duration {
        Duration::MAX
    }

    async fn begin(&self, filters: &[EventFilter]) -> Result<SyncToken> {
        let now = self.clock.wall();
        let mut positions = Positions::new();
        for path in by_account(filters)?.into_keys() {
            let from = time::millis(now).saturating_sub(OVERLAP);
            let query = [("dateFrom", time::text(from)), ("perPage", "1".to_owned())];
            let answer = get(&self.client, &self.clock, &list(&path), &query).await?;
            positions.insert(path, Position { time: answer.at, back: None, read_since: None });
        }
        write_position(&positions, now)
    }

    async fn sync(&self, request: SyncRequest<'_>) -> Result<SyncPage> {
        let now = self.clock.wall();
        let accounts = by_account(request.filters)?;
        let mut positions: Positions = read_position(request.from).unwrap_or_default();
        positions.retain(|path, _| accounts.contains_key(path));
        let unread = positions.iter().find(|(_, held)| held.back.is_some()).map(|(path, _)| path.clone());
        let (mut all, mut complete) = (Vec::new(), true);
        for (path, filters) in &accounts {
            if unread.as_ref().is_some_and(|unread| unread != path) {
                continue;
            }
            let (found, position, whole) = self.page(&request, path, filters, positions.remove(path)).await?;
            all.extend(found);
            complete &= whole;
            positions.insert(path.clone(), position);
        }
        let more = (unread.is_some() && request.since.is_some()) || positions.values().any(|held| held.back.is_some());
        Ok(SyncPage::new(all, write_position(&positions, now)?).with_more(more).with_complete(complete))
    }
}

impl A2pMessages {
    async fn page(
        &self,
        request: &SyncRequest<'_>,
        path: &str,
        filters: &[&EventFilter],
        held: Option<Position>,
    ) -> Result<(Vec<Found>, Position, bool)> {
        let ours = time::millis(self.clock.wall());
        let since = request.since.map(time::millis);
        let made = request.from.map(|token| time::millis(token.made_at()));
        let time = held.as_ref().map(|held| held.time);
        let read_since = held.as_ref().and_then(|held| held.read_since);
        let back = held.and_then(|held| held.back);
        let window = match (&back, time) {
            (Some(back), _) => back.window,
            // A last request after a list of several pages, for the messages that arrived meanwhile.
            (None, Some(time)) if read_since.is_some() && read_since == since => {
                Window { created: time, changed: None }
            }
            _ => Window {
                // A gap may begin before the position (found 3.1).
                created: time.into_iter().chain(since).min().or(made).unwrap_or(ours).saturating_sub(OVERLAP),
                changed: since.map(|since| since.saturating_sub(OVERLAP)),
            },
        };
        let mut query = vec![
            ("dateFrom", time::text(window.from())),
            ("perPage", PAGE.to_string()),
            ("view", "Detailed".to_owned()),
        ];
        if let Some(back) = &back {
            query.push(("dateTo", time::text(back.to)));
            query.push(("pageToken", back.page.clone()));
        }
        let answer = get(&self.client, &self.clock, &list(path), &query).await?;
        let Listing { uri, records, is_whole, next_page, .. } = answer.body;
        let mut all = Vec::new();
        for raw in records.iter().rev() {
            for filter in filters {
                all.extend(found(filter, uri.as_deref(), raw, window)?);
            }
        }
        let to = back.as_ref().map_or(answer.at, |back| back.to);
        let next = next_page.filter(|_| !records.is_empty());
        let position = match next {
            Some(page) => {
                let time = time.unwrap_or(window.created);
                Position { time, back: Some(Back { window, to, page }), read_since: None }
            }
            None => Position { time: to, back: None, read_since: since.filter(|_| back.is_some()) },
        };
        Ok((all, position, is_whole))
    }
}

fn list(path: &str) -> String {
    format!("{path}/a2p-sms/messages")
}

fn by_account(filters: &[EventFilter]) -> Result<BTreeMap<String, Vec<&EventFilter>>> {
    let mut accounts = BTreeMap::<String, Vec<&EventFilter>>::new();
    for filter in filters.iter().filter(|filter| filter.kind() == EventKind::A2pMessage) {
        accounts.entry(scope::account_path(filter)?).or_default().push(filter);
    }
    Ok(accounts)
}

/// The events of a message for a filter.
fn found(filter: &EventFilter, answered: Option<&str>, raw: &RawValue, window: Window) -> Result<Option<Found>> {
    let message = A2pMessage::read(raw).unwrap_or_default();
    let created = message.creation_time.as_ref().and_then(time::of);
    let modified = message.last_modified_time.as_ref().and_then(time::of).or(created);
    let new = created.is_none_or(|created| created >= window.created);
    let changed = window.changed.is_some_and(|since| modified.is_none_or(|at| at >= since));
    if !(new || changed) || !fits(filter, &message) {
        return Ok(None);
    }
    let stamp = message.last_modified_time.as_ref().or(message.creation_time.as_ref());
    let uri = scope::event_uri(filter, answered);
    Found::change(&uri, stamp.map(crate::timestamp::Timestamp::as_str), &raw).map(Some)
}

/// Whether the message's fields match the filter's parameters, as far as present.
fn fits(filter: &EventFilter, message: &A2pMessage) -> bool {
    let fits = |key: &str, value: &str| match key {
        "direction" => message.direction.as_ref().is_none_or(|it| it.as_str() == value),
        "batchId" => message.batch_id.as_ref().is_none_or(|it| it == value),
        "from" => message.from.as_deref().is_none_or(|it| it == value),
        "to" => message.to.is_empty() || message.to.iter().any(|it| it == value),
        _ => true,
    };
    let pairs = Parts::of(filter.as_str()).pairs();
    pairs.clone().all(|(key, _)| pairs.clone().any(|(other, value)| other == key && fits(&key, &value)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOON: u64 = 1_714_996_800_000;

    #[test]
    fn a_message_is_delivered_for_the_filters_that_count_it() {
        let after = Window { created: NOON, changed: Some(NOON) };
        let check = Window { created: NOON, changed: None };
        let filter =
            |query: &str| EventFilter::custom(format!("/restapi/v1.0/account/~/a2p-sms/messages{query}")).unwrap();
        for (query, created, modified, window, want) in [
            ("", "12:00:01", "12:00:01", after, true),
            ("", "11:30:00", "12:00:01", after, true),
            ("", "11:30:00", "11:40:00", after, false),
            ("", "11:30:00", "12:00:01", check, false),
            ("", "12:00:01", "12:00:01", check, true),
            ("?direction=Inbound", "12:00:01", "12:00:01", after, true),
            ("?direction=Outbound", "12:00:01", "12:00:01", after, false),
            ("?from=+1&to=+2", "12:00:01", "12:00:01", after, true),
            ("?from=+1&to=+9", "12:00:01", "12:00:01", after, false),
            ("?from=+9&from=+1", "12:00:01", "12:00:01", after, true),
            ("?batchId=b", "12:00:01", "12:00:01", after, true),
        ] {
            let at = |clock: &str| format!("2024-05-06T{clock}Z");
            let record = json!({
                "id": 3, "from": "+1", "to": ["+2"], "direction": "Inbound",
                "creationTime": at(created), "lastModifiedTime": at(modified),
            });
            let raw = RawValue::from_string(record.to_string()).unwrap();
            let found = found(&filter(query), None, &raw, window).unwrap();
            assert_eq!(found.is_some(), want, "{query} {created} {modified} {window:?}");
        }
    }

    #[test]
    fn the_list_reaches_back_for_changes_of_status() {
        for (created, changed, want) in
            [(NOON, None, NOON), (NOON, Some(NOON + 60_000), NOON + 60_000 - REREAD), (5, Some(NOON), 5)]
        {
            assert_eq!(Window { created, changed }.from(), want);
        }
    }
}
