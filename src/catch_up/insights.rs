//! Insights of recorded calls and meetings, session by session.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ask::{LONG_CALL, OVERLAP, ask, get, objects, read_position, write_position};
use super::proof::Open;
use super::{CatchUp, Found, SyncPage, SyncRequest, SyncToken, scope, time};
use crate::clock::Clock;
use crate::decode::is_too_large;
use crate::delivery::{Changes, OpenReason};
use crate::error::{Disposition, Result};
use crate::event::uri::Parts;
use crate::event::{EventFilter, EventKind, GapClosure, RingSenseDomain};
use crate::http::segment;
use crate::rest::Client;
use crate::salvage::unwrapped;
use crate::timestamp::Timestamp;

/// The maximum of one page of the call log.
const PAGE: usize = 250;
/// The most sessions of one round, the newest; each is a request.
const SESSIONS: usize = 100;
/// If this many first requests are refused and none is answered, the round stops.
const REFUSALS: u32 = 3;
/// The published sample has its insights 5 min 16 s after the end of its recording.
const LATE: Duration = Duration::from_secs(30 * 60);
const LEAST_LATE: Duration = Duration::from_secs(10 * 60);
const MOST_LATE: Duration = Duration::from_secs(7 * 86_400);
/// The least time between two rounds: each reads the call log (rate group Heavy).
const APART: u64 = 240_000;
/// An older round begins anew.
const STALE: u64 = 3_600_000;
/// A round that was skipped because of that follows within this time.
const SETTLES: Duration = Duration::from_secs(300);

type Meetings = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// Backfills insights of recorded calls
/// (`GET /ai/ringsense/v1/public/accounts/{a}/domains/{d}/sessions/{id}/insights`, rate group
/// Light), of the domains `pbx` and `rcv`. For the other domains push is the only way: a lost
/// event is lost for good.
///
/// The service has no list of insights, so the source requests them session by session:
///
/// - `pbx`: the calls of the account's log (rate group Heavy) that were recorded, the newest 100
///   of those that ended within [`late`](Self::late) before the gap, or in it.
/// - `rcv`: the meetings that [`meetings`](Self::meetings) names; none by default, and then the
///   domain has no source.
///
/// Insights that were made or changed since the gap began are found, in their present state: of
/// two events of one call only the later one. A gap of these filters is never complete
/// ([`GapClosure::Partial`]): nothing proves that every session with new insights was requested.
/// Rounds are 4 min apart, so the last part of a gap may be found 5 min after its end.
///
/// Needs an ACE licence, the permission to read insights, and `ReadCallLog` for the account.
///
/// Unverified: the form of the answer (the pushed body, or a list of them under `records`), the
/// answer where a session has no insights (404, or an empty one), whether an entry of the log has
/// `recording` as soon as the call is over, and whether later insights change `lastModifiedTime`.
#[derive(Clone)]
pub struct Insights {
    client: Client,
    late: Duration,
    meetings: Option<Meetings>,
    clock: Clock,
}

impl fmt::Debug for Insights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Insights")
            .field("late", &self.late)
            .field("meetings", &self.meetings.is_some())
            .finish_non_exhaustive()
    }
}

impl Insights {
    /// Sends its requests through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let clock = client.system().clock();
        Self { client, late: LATE, meetings: None, clock }
    }

    /// How long after the end of a call its insights may be made or changed. Default 30 min,
    /// 10 min at least, 7 days at most. Undocumented; the published sample has 5 min 16 s
    /// (ringcentral-rest-and-events.md §5.9.2).
    #[must_use]
    pub fn late(self, late: Duration) -> Self {
        Self { late: late.clamp(LEAST_LATE, MOST_LATE), ..self }
    }

    /// The ids of the meetings whose insights may be missing, requested at each round: at most 100 of them are read.
    /// The service has no documented list of meetings.
    #[must_use]
    pub fn meetings(self, ids: impl Fn() -> Vec<String> + Send + Sync + 'static) -> Self {
        Self { meetings: Some(Arc::new(ids)), ..self }
    }
}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct InsightPosition {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    read: Option<Read>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    round: Option<Round>,
}

/// The span that the last round read.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Read {
    /// Its beginning, by this machine's clock.
    since: u64,
    /// Its end, by the service's clock.
    upto: u64,
    /// When it began, by this machine's clock.
    at: u64,
}

/// The present round.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Round {
    /// By this machine's clock.
    since: u64,
    at: u64,
    /// Earlier insights, by the service's clock, do not count. Known from the first answer on.
    #[serde(default)]
    from: Option<u64>,
    /// When the first request was answered, by the service's clock.
    #[serde(default)]
    upto: Option<u64>,
    todo: Vec<Step>,
    /// The URI of the log, which has the account's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    /// How many sessions there are in it.
    sessions: usize,
    /// Whether a session was answered, and how many were refused.
    answered: bool,
    refused: u32,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Step {
    /// A page of the call log: the calls that began before `to`.
    Log {
        filter: String,
        to: Option<u64>,
        page: u64,
    },
    Session {
        filter: String,
        session: String,
    },
}

impl Step {
    fn session(filter: &str, session: String) -> Self {
        Self::Session { filter: filter.to_owned(), session }
    }

    fn is_session(&self, id: &str) -> bool {
        matches!(self, Self::Session { session, .. } if session == id)
    }
}

impl InsightPosition {
    /// Whether the last round is so recent that none is due now.
    fn rests(&self, since: u64, now: u64) -> bool {
        let fresh = |read: &Read| read.reaches(since) && read.at <= now && now - read.at < APART;
        self.read.as_ref().is_some_and(fresh)
    }
}

impl Read {
    /// Whether it read everything from `since` on. Two readings of the clocks may differ.
    fn reaches(&self, since: u64) -> bool {
        since.saturating_add(OVERLAP) >= self.since
    }
}

impl Round {
    /// A round for events that may be missing since `since`, behind the span that was read.
    fn new(since: u64, read: Option<Read>, now: u64) -> Self {
        let from = read.filter(|read| read.reaches(since)).map(|read| read.upto);
        let since = read.filter(|_| from.is_some()).map_or(since, |read| read.since);
        Self { since, at: now, from, ..Self::default() }
    }

    /// Whether it covers the request. A round from before a restart may be old.
    fn serves(&self, since: u64, now: u64) -> bool {
        since.saturating_add(OVERLAP) >= self.since && self.at <= now && now - self.at < STALE
    }

    /// Records the time of an answer; returns from when on insights count.
    fn answered_at(&mut self, at: u64, skew: i64) -> u64 {
        self.upto.get_or_insert(at);
        *self.from.get_or_insert(time::shift(self.since, skew))
    }

    /// Adds sessions; `false` when there are too many.
    fn add(&mut self, filter: &str, sessions: Vec<String>) -> bool {
        let mut new: Vec<String> = Vec::new();
        for session in sessions {
            if !new.contains(&session) && !self.todo.iter().any(|step| step.is_session(&session)) {
                new.push(session);
            }
        }
        let room = SESSIONS.saturating_sub(self.sessions);
        let fits = new.len() <= room;
        new.truncate(room);
        self.sessions += new.len();
        self.todo.splice(0..0, new.into_iter().map(|session| Step::session(filter, session)));
        fits
    }
}

fn domain(filter: &EventFilter) -> Option<RingSenseDomain> {
    let domain = Parts::of(filter.as_str()).after("domains")?;
    (filter.kind() == EventKind::RingSenseInsights).then(|| domain.into())
}

#[async_trait]
impl CatchUp for Insights {
    fn name(&self) -> &'static str {
        "insights"
    }

    fn covers(&self, filter: &EventFilter) -> GapClosure {
        match domain(filter) {
            Some(RingSenseDomain::Pbx) => GapClosure::Partial,
            Some(RingSenseDomain::Rcv) if self.meetings.is_some() => GapClosure::Partial,
            _ => GapClosure::Nothing,
        }
    }

    fn settles_after(&self) -> Duration {
        SETTLES
    }

    fn overlap(&self) -> Duration {
        Duration::MAX
    }

    /// Needs no request: insights are requested by their time.
    async fn begin(&self, _filters: &[EventFilter]) -> Result<SyncToken> {
        write_position(&InsightPosition::default(), self.clock.wall())
    }

    async fn sync(&self, request: SyncRequest<'_>) -> Result<SyncPage> {
        let wall = self.clock.wall();
        let now = time::millis(wall);
        let nothing = |held: &InsightPosition| Ok(SyncPage::new(Vec::new(), write_position(held, wall)?));
        // A check needs no request.
        let Some(since) = request.since.map(time::millis) else { return nothing(&InsightPosition::default()) };
        let mut held: InsightPosition = read_position(request.from).unwrap_or_default();
        held.round = held.round.filter(|round| round.serves(since, now));
        let mut open = Vec::new();
        if held.round.is_none() {
            if held.rests(since, now) {
                return nothing(&held);
            }
            held.round = Some(self.begin_round(Round::new(since, held.read, now), request.filters, &mut open));
        }
        let mut found = Vec::new();
        if let Some(round) = &mut held.round {
            found = self.step(round, &mut open).await?;
            if round.todo.is_empty() {
                held.read = round.upto.map(|upto| Read { since: round.since, upto, at: round.at });
                held.round = None;
            }
        }
        let more = held.round.is_some();
        Ok(SyncPage::new(found, write_position(&held, wall)?).with_more(more).with_open(open))
    }
}

/// The open changes of a filter, of any kind: a session that was not read may have new insights, changed ones or none.
fn open_of(filter: &str, reason: OpenReason) -> Option<Open> {
    Some(Open { filter: Some(filter.parse().ok()?), changes: Changes::ALL, reason })
}

impl Insights {
    fn begin_round(&self, mut round: Round, filters: &[EventFilter], open: &mut Vec<Open>) -> Round {
        for filter in filters {
            match (domain(filter), &self.meetings) {
                (Some(RingSenseDomain::Pbx), _) => {
                    round.todo.push(Step::Log { filter: filter.to_string(), to: None, page: 1 });
                }
                (Some(RingSenseDomain::Rcv), Some(meetings)) if !round.add(filter.as_str(), meetings()) => {
                    open.extend(open_of(filter.as_str(), OpenReason::TooMuch));
                }
                _ => {}
            }
        }
        round
    }

    /// One request of a round.
    async fn step(&self, round: &mut Round, open: &mut Vec<Open>) -> Result<Vec<Found>> {
        if round.todo.is_empty() {
            return Ok(Vec::new());
        }
        match round.todo.remove(0) {
            Step::Log { filter, to, page } => {
                self.log(round, &filter, (to, page), open).await?;
                Ok(Vec::new())
            }
            Step::Session { filter, session } => self.session(round, filter, session, open).await,
        }
    }

    /// Finds recorded calls.
    async fn log(
        &self,
        round: &mut Round,
        filter: &str,
        (to, page): (Option<u64>, u64),
        open: &mut Vec<Open>,
    ) -> Result<()> {
        let asked_from = round.from.unwrap_or(round.since);
        let late = u64::try_from(self.late.as_millis()).unwrap_or(u64::MAX);
        let earliest = asked_from.saturating_sub(late.saturating_add(LONG_CALL));
        let mut query = vec![
            ("dateFrom", time::text(earliest)),
            ("view", "Simple".to_owned()),
            ("page", page.to_string()),
            ("perPage", PAGE.to_string()),
        ];
        query.extend(to.map(|to| ("dateTo", time::text(to))));
        let account = Parts::of(filter).after("accounts").unwrap_or("~");
        let path = format!("/restapi/v1.0/account/{}/call-log", segment(account)?);
        let listed = get(&self.client, &self.clock, &path, &query).await?;
        if round.answered_at(listed.at, listed.skew) < asked_from {
            // This machine's clock is ahead: the list began too late.
            round.todo.insert(0, Step::Log { filter: filter.to_owned(), to, page });
            return Ok(());
        }
        let (calls, is_whole) = objects(&listed.body);
        let next = (listed.body.records.len() >= PAGE).then(|| next_page(&calls, to, page));
        round.uri = listed.body.uri.or(round.uri.take());
        let mut is_read = round.add(filter, recorded(&calls));
        if let Some((to, page)) = next {
            if round.sessions < SESSIONS {
                let behind = round.todo.iter().take_while(|step| matches!(step, Step::Session { .. })).count();
                round.todo.insert(behind, Step::Log { filter: filter.to_owned(), to, page });
            } else {
                is_read = false;
            }
        }
        open.extend((!is_read).then(|| open_of(filter, OpenReason::TooMuch)).flatten());
        open.extend((!is_whole).then(|| open_of(filter, OpenReason::Unread)).flatten());
        Ok(())
    }

    async fn session(
        &self,
        round: &mut Round,
        filter: String,
        session: String,
        open: &mut Vec<Open>,
    ) -> Result<Vec<Found>> {
        let (Ok(parsed), Ok(id)) = (filter.parse::<EventFilter>(), segment(&session)) else {
            open.extend(open_of(&filter, OpenReason::Unread));
            return Ok(Vec::new());
        };
        let path = format!("{}/sessions/{id}/insights", collection(&filter));
        let read = |text: &str, _| Some(serde_json::from_str::<Value>(unwrapped(text)).ok());
        let reason = match ask(&self.client, &self.clock, &path, &[], read).await {
            Ok(answer) => {
                let from = round.answered_at(answer.at, answer.skew).saturating_sub(OVERLAP);
                round.answered = true;
                match answer.body.and_then(records) {
                    Some(all) => return found(&parsed, round.uri.as_deref(), &session, all, from),
                    None => OpenReason::Unread,
                }
            }
            // It has no insights yet: push will deliver them.
            Err(error) if error.status() == Some(404) => {
                round.answered = true;
                return Ok(Vec::new());
            }
            Err(error) if is_too_large(&error) => OpenReason::TooMuch,
            // The client retried it. It does not delay the other sessions.
            Err(error) if error.status().is_some_and(|status| status >= 500 && status != 503) => {
                tracing::debug!(%error, "insights of a session are not answered");
                OpenReason::Unread
            }
            Err(error) if error.disposition() == Disposition::Fatal => {
                tracing::debug!(%error, "insights of a session are refused");
                round.refused += 1;
                if !round.answered && round.refused >= REFUSALS {
                    round.todo.retain(|step| matches!(step, Step::Log { filter: other, .. } if *other != filter));
                }
                OpenReason::Refused
            }
            Err(error) => return Err(error),
        };
        open.extend(open_of(&filter, reason));
        Ok(Vec::new())
    }
}

/// The path of a filter without its last segment.
fn collection(filter: &str) -> &str {
    let path = filter.split('?').next().unwrap_or(filter);
    path.trim_end_matches('/').strip_suffix("/insights").unwrap_or(path)
}

/// The page of the log behind a full one: by time, since a call that enters the log meanwhile
/// moves the pages; within one millisecond by number.
fn next_page(calls: &[Map<String, Value>], to: Option<u64>, page: u64) -> (Option<u64>, u64) {
    let oldest = calls.iter().filter_map(|call| stamp(call, "startTime")).min();
    match oldest.map(|oldest| oldest.saturating_add(1)) {
        Some(next) if to.is_none_or(|to| next < to) => (Some(next), 1),
        _ => (to, page.saturating_add(1)),
    }
}

/// The sessions of calls that were recorded, the newest first.
fn recorded(calls: &[Map<String, Value>]) -> Vec<String> {
    let is_recorded = |call: &&Map<String, Value>| call.get("recording").is_some_and(|it| !it.is_null());
    let id = |call: &Map<String, Value>| call.get("telephonySessionId")?.as_str().map(str::to_owned);
    calls.iter().filter(is_recorded).filter_map(id).filter(|id| !id.is_empty()).collect()
}

/// The insights of an answer in any of its forms; `None` for anything else.
fn records(answer: Value) -> Option<Vec<Map<String, Value>>> {
    let list = match answer {
        Value::Array(list) => list,
        Value::Object(mut answer) => match answer.remove("records") {
            Some(Value::Array(list)) => list,
            Some(_) => return None,
            None if answer.is_empty() => Vec::new(),
            None => vec![Value::Object(answer)],
        },
        Value::Null => Vec::new(),
        _ => return None,
    };
    let object = |record| match record {
        Value::Object(record) if record.contains_key("insights") => Some(record),
        _ => None,
    };
    list.into_iter().map(object).collect()
}

fn stamp(record: &Map<String, Value>, name: &str) -> Option<u64> {
    time::of(&Timestamp::new(record.get(name)?.as_str()?))
}

/// The insights that were made or changed since `from`, in the form of the push.
fn found(
    filter: &EventFilter,
    answered: Option<&str>,
    session: &str,
    all: Vec<Map<String, Value>>,
    from: u64,
) -> Result<Vec<Found>> {
    let uri = scope::event_uri(filter, answered);
    let mut events = Vec::new();
    for mut record in all {
        let is_empty = record.get("insights").and_then(Value::as_object).is_none_or(Map::is_empty);
        let name = ["lastModifiedTime", "creationTime"].into_iter().find(|name| stamp(&record, name).is_some());
        if is_empty || name.and_then(|name| stamp(&record, name)).is_some_and(|at| at < from) {
            continue;
        }
        // What names the session in a pushed event, so that the two are recognized as one.
        record.entry("sourceSessionId").or_insert_with(|| session.into());
        if let Some(domain) = domain(filter) {
            record.entry("domain").or_insert_with(|| domain.as_str().into());
        }
        let at = name.and_then(|name| record.get(name)).and_then(Value::as_str).map(str::to_owned);
        events.push(Found::change(&uri, at.as_deref(), &record)?);
    }
    Ok(events)
}

#[cfg(test)]
mod tests;
