//! Calls, by call-log-sync.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::ask::{LONG_CALL, Listing, OVERLAP, get, is_stale};
use super::call_map::{CallRecord, found};
use super::round::{self, Ask, Keyed};
use super::{CatchUp, Found, SyncPage, SyncRequest, SyncToken, scope, time};
use crate::clock::Clock;
use crate::delivery::{Changes, OpenReason};
use crate::error::Result;
use crate::event::{EventFilter, EventKind, GapClosure};
use crate::rest::Client;

/// Documented: the maximum of one sync.
const PAGE: usize = 250;
/// Documented: a full sync reaches back 30 days; a minute less, for the clocks.
const LONGEST: u64 = 30 * 86_400_000 - 60_000;
/// Documented: calls enter the log 15 to 30 s after their end. Whether an unanswered call has a duration, so that its
/// end is known, is unverified: without one it counts from its start.
const LATE: Duration = Duration::from_secs(180);
const LEAST_LATE: Duration = Duration::from_secs(35);
const MOST_LATE: Duration = Duration::from_secs(3_600);
/// As long as other clients rely on a token.
const TOKEN_LIFE: u64 = 3_600_000;

/// Backfills calls by call-log-sync (`GET …/call-log-sync`, rate group Heavy): missed calls, and the end of any other,
/// of extensions or of an account.
///
/// - A missed call is found as the event that push would have delivered.
/// - For a telephony-session filter a call is found as the last event of its session: one party, gone. Earlier events
///   of the session are lost.
///
/// A call enters the log some time after its end: see [`late`](Self::late). Until then a gap is not complete, and the
/// source queries the log again. A sync costs one request per extension or account; if the service refuses the
/// position, or if it is older than an hour, one more for each 250 calls. Calls of more than an hour that began before
/// the gap are not found then.
#[derive(Clone, Debug)]
pub struct CallLogSync {
    client: Client,
    late: Duration,
    clock: Clock,
}

impl CallLogSync {
    /// Sends its requests through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let clock = client.system().clock();
        Self { client, late: LATE, clock }
    }

    /// How long after the end of a call its record may enter the log. Default 3 min, 35 s at least, an hour at most.
    /// Documented are 15 to 30 s (ringcentral-rest-and-events.md §6.3); a call whose record has no duration counts from
    /// its start, so this includes the time that it rang. A gap that is declared complete is complete within this time.
    #[must_use]
    pub fn late(self, late: Duration) -> Self {
        Self { late: late.clamp(LEAST_LATE, MOST_LATE), ..self }
    }
}

/// The position in one extension's or account's sync.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CallPosition {
    /// Empty if the service named none.
    token: String,
    /// When the token was made, by the service's clock.
    time: u64,
    /// The same time by this machine's clock.
    at: u64,
    /// Whether it covers missed calls only.
    missed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    back: Option<Back>,
    /// Since when everything was read; 0 in a check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    read_since: Option<u64>,
    /// Earlier calls, by the service's clock, are none of the subscription's events.
    #[serde(default)]
    first: u64,
    /// Ids of calls that were in the log at `first`, so that they had ended, though their records do not say when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ended: Vec<String>,
}

impl CallPosition {
    /// Continues from another position. `since`: later calls count, too.
    fn after(mut self, held: &Self, since: Option<u64>) -> Self {
        (self.first, self.ended) = (held.first, held.ended.clone());
        self.reach(since);
        self
    }

    /// Calls since then count, too. Two clocks may differ, and a record takes longer than the overlap to enter the log.
    fn reach(&mut self, since: Option<u64>) {
        if let Some(since) = since.filter(|since| since.saturating_add(OVERLAP) < self.first) {
            self.first = since;
            self.ended.clear();
        }
    }

    /// Whether a call precedes the subscription. A call with an unknown end may have rung for as long as its record may
    /// be late.
    fn is_before(&self, record: &CallRecord, late: u64) -> bool {
        let Some(ended) = record.ended() else { return false };
        let first = self.first.saturating_sub(OVERLAP);
        match record.endless_id() {
            Some(id) => ended < first.saturating_sub(late) || ended < first && self.ended.iter().any(|it| it == id),
            None => ended < first,
        }
    }

    /// Whether everything since `since` was read.
    fn has_read(&self, since: Option<u64>) -> bool {
        self.read_since.is_some_and(|read| since.is_none_or(|since| read == since))
    }
}

/// The part of the log that remains to be read.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Back {
    /// Calls that ended since then count.
    ended: u64,
    to: u64,
    page: u64,
}

type Step = round::Step<CallPosition>;

/// Whether the filters want missed calls only.
fn missed(ask: Ask<'_>) -> bool {
    ask.filters.iter().all(|filter| filter.kind() == EventKind::MissedCall)
}

/// The events of the records for the filters, oldest first. `counts` selects the calls.
fn read(ask: Ask<'_>, listing: &Listing, counts: impl Fn(&CallRecord) -> bool) -> Result<Vec<(Option<u64>, Found)>> {
    let (uri, mut all) = (listing.uri.as_deref(), Vec::new());
    for raw in listing.records.iter().rev() {
        let record = CallRecord::of(raw);
        if !counts(&record) {
            continue;
        }
        for filter in ask.filters {
            all.extend(found(filter, uri, &record)?.map(|found| (record.ended(), found)));
        }
    }
    Ok(all)
}

#[async_trait]
impl CatchUp for CallLogSync {
    fn name(&self) -> &'static str {
        "call-log-sync"
    }

    fn covers(&self, filter: &EventFilter) -> GapClosure {
        match filter.kind() {
            EventKind::MissedCall => GapClosure::Complete,
            EventKind::ExtensionTelephonySessions | EventKind::AccountTelephonySessions => GapClosure::Partial,
            _ => GapClosure::Nothing,
        }
    }

    fn settles_after(&self) -> Duration {
        self.late
    }

    /// A call enters the log 15 s after its end or later (ringcentral-rest-and-events §6.3), so one that ended shortly
    /// before a position is new after it.
    fn overlap(&self) -> Duration {
        Duration::from_millis(OVERLAP)
    }

    async fn begin(&self, filters: &[EventFilter]) -> Result<SyncToken> {
        round::begin(self, filters, &self.clock).await
    }

    async fn sync(&self, request: SyncRequest<'_>) -> Result<SyncPage> {
        round::sync(self, request, &self.clock).await
    }
}

#[async_trait]
impl Keyed for CallLogSync {
    type Position = CallPosition;

    fn path(&self, filter: &EventFilter) -> Option<Result<String>> {
        match filter.kind() {
            EventKind::MissedCall | EventKind::ExtensionTelephonySessions => Some(scope::extension_path(filter)),
            EventKind::AccountTelephonySessions => Some(scope::account_path(filter)),
            _ => None,
        }
    }

    fn is_partly_read(position: &CallPosition) -> bool {
        position.back.is_some()
    }

    async fn first(&self, ask: Ask<'_>) -> Result<CallPosition> {
        let (listed, mut position) = self.start(ask, self.before(time::millis(self.clock.wall())), PAGE).await?;
        position.first = position.time;
        let ended = listed.records.iter().filter_map(|raw| CallRecord::of(raw).endless_id().map(str::to_owned));
        position.ended = ended.collect();
        Ok(position)
    }

    async fn step(&self, ask: Ask<'_>, held: Option<CallPosition>) -> Result<Step> {
        let Some(mut held) = held else { return self.full(ask, None).await };
        if let Some(back) = held.back.take() {
            return self.page(ask, held, back).await;
        }
        let age = time::millis(self.clock.wall()).saturating_sub(held.at);
        if age > TOKEN_LIFE || held.missed != missed(ask) || held.token.is_empty() {
            return self.full(ask, Some(&held)).await;
        }
        match self.incremental(ask, &held).await {
            Err(error) if is_stale(&error) => {
                tracing::debug!(%error, "sync token refused: full sync");
                self.full(ask, Some(&held)).await
            }
            outcome => outcome,
        }
    }
}

impl CallLogSync {
    async fn incremental(&self, ask: Ask<'_>, held: &CallPosition) -> Result<Step> {
        let query = [("syncType", "ISync".to_owned()), ("syncToken", held.token.clone())];
        let (synced, position) = self.ask(ask, &query).await?;
        // A call enters the log late, and an old one appears again when it changed.
        let ended = self.before(held.time);
        // By the service's own clock: this machine's may have been set since.
        let since = ask.since.map(|since| time::shift(since, synced.sync_info.clocks(&self.clock).1));
        let mut held = held.clone();
        held.reach(since);
        let found = read(ask, &synced, |call| self.counts(call, ended, &held))?;
        let is_late = since.is_some_and(|since| held.time.saturating_sub(OVERLAP) > since);
        if !synced.is_whole || is_late && !held.has_read(ask.since) {
            // The omitted calls may be found by their time.
            tracing::debug!(is_late, "the sync is incomplete: full sync");
            let mut step = self.full(Ask { made: None, ..ask }, Some(&held)).await?;
            step.found.splice(0..0, found);
            return Ok(step);
        }
        // Without a new position the next sync starts from the same one.
        let mut position = if position.token.is_empty() { held } else { position.after(&held, None) };
        position.read_since = ask.since;
        Ok(Step { found, position, open: Vec::new() })
    }

    async fn full(&self, ask: Ask<'_>, held: Option<&CallPosition>) -> Result<Step> {
        // Calls before the last start were read after it: so a service that accepts no position at all does not cause a
        // busy loop.
        let again = held.filter(|held| held.has_read(ask.since));
        let from = again.map(|held| held.at).or(ask.since).or(held.map(|held| held.at)).or(ask.made);
        let Some(from) = from else {
            let position = self.first(ask).await?;
            return Ok(Step { found: Vec::new(), position, open: Vec::new() });
        };
        let earliest = time::millis(self.clock.wall()).saturating_sub(LONGEST);
        let (synced, mut position) =
            self.start(ask, self.before(from).saturating_sub(LONG_CALL).max(earliest), PAGE).await?;
        let skew = synced.sync_info.clocks(&self.clock).1;
        // The position is by the service's clock: this machine's may have been set since the gap began.
        let from_there = time::shift(from, skew);
        let from_there = held.map_or(from_there, |held| held.time.min(from_there));
        position = match held {
            Some(held) => position.after(held, ask.since.map(|since| time::shift(since, skew))),
            None => CallPosition { first: from_there, ..position },
        };
        let ended = self.before(from_there);
        let found = read(ask, &synced, |call| self.counts(call, ended, &position))?;
        let oldest = synced.records.iter().filter_map(|raw| CallRecord::of(raw).started()).min();
        position.read_since = Some(ask.since.unwrap_or(0));
        // Whether `dateTo` is exclusive is unverified: one millisecond later (found 3.2).
        let to = oldest.unwrap_or(position.time).saturating_add(1);
        if synced.records.len() >= PAGE && again.is_none_or(|held| to > held.time) {
            position.back = Some(Back { ended, to, page: 1 });
        }
        let mut open = Vec::new();
        open.extend((from <= earliest).then_some((Changes::ALL, OpenReason::OutOfReach)));
        open.extend((!synced.is_whole).then_some((Changes::ALL, OpenReason::Unread)));
        Ok(Step { found, position, open })
    }

    /// A position from now on, and the newest calls since `from`.
    async fn start(&self, ask: Ask<'_>, from: u64, count: usize) -> Result<(Listing, CallPosition)> {
        let mut query = vec![
            ("syncType", "FSync".to_owned()),
            ("recordCount", count.to_string()),
            ("dateFrom", time::text(from)),
            ("view", "Simple".to_owned()),
        ];
        query.extend(missed(ask).then(|| ("statusGroup", "Missed".to_owned())));
        self.ask(ask, &query).await
    }

    async fn ask(&self, ask: Ask<'_>, query: &[(&str, String)]) -> Result<(Listing, CallPosition)> {
        let path = format!("{}/call-log-sync", ask.path);
        let mut synced = get(&self.client, &self.clock, &path, query).await?.body;
        let time = synced.sync_info.clocks(&self.clock).0;
        let at = time::millis(self.clock.wall());
        let token = synced.sync_info.sync_token.take().unwrap_or_default();
        let position = CallPosition {
            token,
            time,
            at,
            missed: missed(ask),
            back: None,
            read_since: None,
            first: 0,
            ended: Vec::new(),
        };
        Ok((synced, position))
    }

    /// Reads one page of the log itself.
    async fn page(&self, ask: Ask<'_>, mut position: CallPosition, back: Back) -> Result<Step> {
        let query = [
            ("dateFrom", time::text(back.ended.saturating_sub(LONG_CALL))),
            ("dateTo", time::text(back.to)),
            ("page", back.page.to_string()),
            ("perPage", PAGE.to_string()),
        ];
        let path = format!("{}/call-log", ask.path);
        let listed = get(&self.client, &self.clock, &path, &query).await?.body;
        let found = read(ask, &listed, |call| self.counts(call, back.ended, &position))?;
        let full = listed.records.len() >= PAGE;
        let oldest = listed.records.iter().filter_map(|raw| CallRecord::of(raw).started()).min();
        position.back = full.then(|| older(back, oldest));
        let open = if listed.is_whole { Vec::new() } else { vec![(Changes::ALL, OpenReason::Unread)] };
        Ok(Step { found, position, open })
    }

    /// Whether a call counts, if calls are requested from `ended` on.
    fn counts(&self, call: &CallRecord, ended: u64, position: &CallPosition) -> bool {
        call.ended().is_none_or(|at| at >= ended) && !position.is_before(call, self.late_ms())
    }

    /// Calls that ended since then may not be in the log yet at `time`.
    fn before(&self, time: u64) -> u64 {
        time.saturating_sub(OVERLAP.saturating_add(self.late_ms()))
    }

    fn late_ms(&self) -> u64 {
        u64::try_from(self.late.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The rest after a full page whose oldest call began at `oldest`. By time and not by page number: a record that enters
/// or leaves the log meanwhile shifts the pages by one.
fn older(back: Back, oldest: Option<u64>) -> Back {
    match oldest.map(|oldest| oldest.saturating_add(1)) {
        Some(to) if to < back.to => Back { to, page: 1, ..back },
        // A page of calls that began in one millisecond.
        _ => Back { page: back.page.saturating_add(1), ..back },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn the_log_is_read_on_by_time_and_within_a_millisecond_by_number() {
        let back = |to, page| Back { ended: 100, to, page };
        for (before, oldest, want) in [
            (back(900, 1), Some(500), (501, 1)),
            (back(501, 1), Some(500), (501, 2)),
            (back(501, 2), Some(500), (501, 3)),
            (back(501, 3), Some(400), (401, 1)),
            (back(501, 1), None, (501, 2)),
        ] {
            let next = older(before, oldest);
            assert_eq!((next.to, next.page), want, "{} {} {oldest:?}", before.to, before.page);
        }
    }

    #[test]
    fn calls_of_the_time_before_the_subscription_do_not_count() {
        let client = Client::builder(crate::auth::StaticToken::new(crate::auth::AccessToken::new("t")));
        let source = CallLogSync::new(client.build().unwrap());
        let noon = 1_714_996_800_000;
        let begun = CallPosition {
            token: "t".into(),
            time: noon,
            at: noon,
            missed: true,
            back: None,
            read_since: None,
            first: noon,
            ended: vec!["over".into()],
        };
        let mut reaching = begun.clone();
        for since in [1_000, -1_000, -5_000] {
            reaching.reach(Some(noon.saturating_add_signed(since)));
            assert!(reaching == begun, "{since}");
        }
        reaching.reach(Some(noon - 60_000));
        for (id, start, duration, after_begin, after_gap) in [
            ("a", -130_000, 60, false, false),
            ("a", -100_000, 40, false, true),
            ("a", -64_000, 60, true, true),
            ("a", 1_000, 0, true, true),
            // Its end is unknown: it may have rung until the subscription existed.
            ("a", -100_000, 0, true, true),
            ("a", -184_000, 0, true, true),
            ("a", -186_000, 0, false, true),
            // It was in the log when the source began.
            ("over", -100_000, 0, false, true),
            ("over", -1_000, 0, true, true),
        ] {
            let start = time::text(noon.saturating_add_signed(start));
            let text = serde_json::json!({"id": id, "startTime": start, "duration": duration}).to_string();
            let record = RawValue::from_string(text).unwrap();
            let counts = |position: &CallPosition| source.counts(&CallRecord::of(&record), 0, position);
            assert_eq!((counts(&begun), counts(&reaching)), (after_begin, after_gap), "{id} {start} {duration}");
        }
    }

    #[test]
    fn how_late_a_record_may_be_has_a_floor_and_a_cap() {
        let client = Client::builder(crate::auth::StaticToken::new(crate::auth::AccessToken::new("t")));
        let source = CallLogSync::new(client.build().unwrap());
        assert_eq!(source.settles_after(), LATE);
        for (late, want) in [(Duration::ZERO, LEAST_LATE), (Duration::MAX, MOST_LATE)] {
            assert_eq!(source.clone().late(late).settles_after(), want, "{late:?}");
        }
        let (time, late) = (10_000_000, 180_000);
        assert_eq!(source.before(time), time - OVERLAP - late);
    }
}
