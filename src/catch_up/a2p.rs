//! High-volume messages, by date.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::ask::{Listing, OVERLAP, get};
use super::round::{self, Ask, Keyed, Step};
use super::{CatchUp, Found, SyncPage, SyncRequest, SyncToken, scope, time};
use crate::clock::Clock;
use crate::delivery::{Changes, OpenReason};
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
pub(super) struct A2pPosition {
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
        round::begin(self, filters, &self.clock).await
    }

    async fn sync(&self, request: SyncRequest<'_>) -> Result<SyncPage> {
        round::sync(self, request, &self.clock).await
    }
}

#[async_trait]
impl Keyed for A2pMessages {
    type Position = A2pPosition;

    fn path(&self, filter: &EventFilter) -> Option<Result<String>> {
        (filter.kind() == EventKind::A2pMessage).then(|| scope::account_path(filter))
    }

    fn is_partly_read(position: &A2pPosition) -> bool {
        position.back.is_some()
    }

    async fn first(&self, ask: Ask<'_>) -> Result<A2pPosition> {
        let from = time::millis(self.clock.wall()).saturating_sub(OVERLAP);
        let query = [("dateFrom", time::text(from)), ("perPage", "1".to_owned())];
        let answer = get(&self.client, &self.clock, &list(ask.path), &query).await?;
        Ok(A2pPosition { time: answer.at, back: None, read_since: None })
    }

    async fn step(&self, ask: Ask<'_>, held: Option<A2pPosition>) -> Result<Step<A2pPosition>> {
        let ours = time::millis(self.clock.wall());
        let Ask { path, filters, since, made } = ask;
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
                all.extend(found(filter, uri.as_deref(), raw, window)?.map(|found| (None, found)));
            }
        }
        let to = back.as_ref().map_or(answer.at, |back| back.to);
        let next = next_page.filter(|_| !records.is_empty());
        let position = match next {
            Some(page) => {
                let time = time.unwrap_or(window.created);
                A2pPosition { time, back: Some(Back { window, to, page }), read_since: None }
            }
            None => A2pPosition { time: to, back: None, read_since: since.filter(|_| back.is_some()) },
        };
        let open = if is_whole { Vec::new() } else { vec![(Changes::ALL, OpenReason::Unread)] };
        Ok(Step { found: all, position, open })
    }
}

fn list(path: &str) -> String {
    format!("{path}/a2p-sms/messages")
}

/// The events of a message for a filter.
fn found(filter: &EventFilter, answered: Option<&str>, raw: &RawValue, window: Window) -> Result<Option<Found>> {
    let message = A2pMessage::read(raw.into()).unwrap_or_default();
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
