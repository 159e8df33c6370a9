//! Messages of any type, by message-sync.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::ask::{Listing, OVERLAP, get, is_stale};
use super::message_map::{Record, Window, found};
use super::round::{self, Ask, Keyed};
use super::{CatchUp, Found, SyncPage, SyncRequest, SyncToken, scope, time};
use crate::clock::Clock;
use crate::decode::is_too_large;
use crate::delivery::{Changes, OpenReason};
use crate::error::{Disposition, Result};
use crate::event::uri::Parts;
use crate::event::{EventFilter, EventKind, GapClosure, MessageType};
use crate::rest::Client;

/// No maximum is published; other clients request the same number.
const PAGE: usize = 250;
const REACH: Duration = Duration::from_secs(7 * 86_400);
/// The service's own default frame: a shorter one could lie in the future of a service whose clock is slow.
const LEAST_REACH: Duration = Duration::from_secs(86_400);
const MOST_REACH: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How far an answer lags behind push is undocumented.
const LAG: Duration = Duration::from_secs(1);
const MOST_LAG: Duration = Duration::from_secs(60);
/// Documented: the maximum of one page of the message store.
const LIST: usize = 1_000;

/// Backfills messages by message-sync (`GET …/message-sync`, rate group Light): the filters of the message store,
/// instant messages, faxes and voicemail, of one or more extensions.
///
/// - An inbound text message is found as the event that push would have delivered.
/// - So is a fax or a voicemail, and each later change of one.
/// - For a message-store filter each message is a separate hint, with the message in
///   [`records`](crate::event::MessageStore::records). New ones have their ids in `newMessageIds`. Messages that were
///   changed, deleted or purged are updates; for deleted ones the service sends only the id, and their type is known
///   only if all filters of the extension want the same one.
///
/// The message store shows a message that arrived and was deleted since; it does not show a purged one, which leaves
/// the gap open ([`OpenReason::Deleted`](crate::OpenReason)).
///
/// A sync costs one request per extension, and one more if messages were deleted. When the service no longer accepts
/// the position, it costs three, and one for each 250 messages: the pages of such a full sync come newest first, each
/// oldest first in itself. It cannot find changes of messages from before the gap, and no message that was purged
/// since.
#[derive(Clone, Debug)]
pub struct MessageSync {
    client: Client,
    page: usize,
    reach: Duration,
    lag: Duration,
    clock: Clock,
}

impl MessageSync {
    /// Sends its requests through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let clock = client.system().clock();
        Self { client, page: PAGE, reach: REACH, lag: LAG, clock }
    }

    /// How many messages to request at once in a full sync. Default 250; at least 1. The service treats it as a hint,
    /// and publishes no maximum.
    #[must_use]
    pub fn page_size(self, messages: usize) -> Self {
        Self { page: messages.max(1), ..self }
    }

    /// How old a message may be whose changes are to be found. Default 7 days, one day at least, ten years at most.
    /// Whether the service reports changes only of messages from within the frame of the full sync is unverified
    /// (ringcentral-rest-and-events.md §6.1): a gap that is declared complete is complete within this reach.
    #[must_use]
    pub fn reach(self, reach: Duration) -> Self {
        Self { reach: reach.clamp(LEAST_REACH, MOST_REACH), ..self }
    }

    /// How long after a message arrived or changed a sync may still omit it, since the service answers from a replica.
    /// Default 1 s, a minute at most. That such a lag exists is unverified (ringcentral-rest-and-events.md §6.1); a gap
    /// that is declared complete is complete within it. After a gap the sync waits for this time if it is 5 s at most;
    /// otherwise it runs at once, the gap stays open as not settled, and the sync is repeated later.
    #[must_use]
    pub fn lag(self, lag: Duration) -> Self {
        Self { lag: lag.min(MOST_LAG), ..self }
    }
}

/// The position in one extension's sync.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MessagePosition {
    /// Empty if the service named none.
    token: String,
    /// When the token was made, by the service's clock.
    time: u64,
    /// The types of message that it covers; empty for all.
    types: Vec<String>,
    /// The part that a full sync still has to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    back: Option<Back>,
    /// Since when everything was read; 0 in a check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    read_since: Option<u64>,
}

impl MessagePosition {
    /// Whether everything since `since` was read.
    fn has_read(&self, since: Option<u64>) -> bool {
        self.read_since.is_some_and(|read| since.is_none_or(|since| read == since))
    }
}

/// The part of the past that remains to be read.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Back {
    from: u64,
    /// `None` for up to now.
    to: Option<u64>,
    /// How many messages to request, if more than usual.
    #[serde(default)]
    count: usize,
    /// The most to request, if more would make an answer too large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    most: Option<usize>,
}

type Step = round::Step<MessagePosition>;

#[async_trait]
impl CatchUp for MessageSync {
    fn name(&self) -> &'static str {
        "message-sync"
    }

    fn covers(&self, filter: &EventFilter) -> GapClosure {
        match types_of(filter) {
            Some(_) => GapClosure::Complete,
            None => GapClosure::Nothing,
        }
    }

    fn covers_messages(&self) -> bool {
        true
    }

    fn settles_after(&self) -> Duration {
        self.lag
    }

    /// The service's syncs reach back by so much (ringcentral-rest-and-events §6.1).
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
impl Keyed for MessageSync {
    type Position = MessagePosition;

    fn path(&self, filter: &EventFilter) -> Option<Result<String>> {
        types_of(filter).map(|_| scope::extension_path(filter))
    }

    fn is_partly_read(position: &MessagePosition) -> bool {
        position.back.is_some()
    }

    async fn first(&self, ask: Ask<'_>) -> Result<MessagePosition> {
        Ok(self.start(ask).await?.0)
    }

    async fn step(&self, ask: Ask<'_>, held: Option<MessagePosition>) -> Result<Step> {
        let Some(mut held) = held else { return self.full(ask, None).await };
        if let Some(back) = held.back.take() {
            return self.page(ask, held, back).await;
        }
        if held.types != types(ask.filters) || held.token.is_empty() {
            return self.full(ask, Some(&held)).await;
        }
        match self.incremental(ask, &held).await {
            Err(error) if is_stale(&error) || is_too_large(&error) => {
                tracing::debug!(%error, "sync token refused: full sync");
                self.full(ask, Some(&held)).await
            }
            outcome => outcome,
        }
    }
}

impl MessageSync {
    async fn incremental(&self, ask: Ask<'_>, held: &MessagePosition) -> Result<Step> {
        let query = [("syncType", "ISync".to_owned()), ("syncToken", held.token.clone())];
        let mut answer = self.ask(ask.path, &query).await?;
        let (time, skew) = answer.sync_info.clocks(&self.clock);
        let window = Window {
            created: held.time.saturating_sub(OVERLAP),
            changed: ask.since.map(|since| time::shift(since, skew).saturating_sub(OVERLAP)),
        };
        let open = match ask.since {
            Some(_) => self.show_deleted(ask, &mut answer, window.created).await?,
            None => Vec::new(),
        };
        let found = self.read(ask, &answer, window)?;
        // By the service's own clock: this machine's may have been set since.
        let is_late = window.changed.is_some_and(|since| held.time.saturating_sub(2 * OVERLAP) > since);
        if !answer.is_whole || is_late && !held.has_read(ask.since) {
            // The omitted messages may be found by their time.
            tracing::debug!(is_late, "the sync is incomplete: full sync");
            let mut step = self.full(Ask { made: None, ..ask }, Some(held)).await?;
            step.found.splice(0..0, found);
            return Ok(step);
        }
        // Without a new position the next sync starts from the same one.
        let token = answer.sync_info.sync_token.take();
        let (token, time) = token.map_or_else(|| (held.token.clone(), held.time), |token| (token, time));
        let position = MessagePosition { token, time, types: types(ask.filters), back: None, read_since: ask.since };
        Ok(Step { found, position, open })
    }

    /// For a deleted message a sync has only the id. If it arrived and was deleted within the requested time, the
    /// message store shows it in full: that record replaces the bare one (found 3.3). Returns what remains open.
    async fn show_deleted(&self, ask: Ask<'_>, answer: &mut Listing, since: u64) -> Result<Vec<(Changes, OpenReason)>> {
        let bare = |raw: &RawValue| Record::of(raw).bare_id();
        if !answer.records.iter().any(|raw| bare(raw).is_some()) {
            return Ok(Vec::new());
        }
        let Some(listed) = self.deleted(ask, since).await? else {
            return Ok(vec![(Changes::NEW, OpenReason::Deleted)]);
        };
        let mut shown: BTreeMap<String, Box<RawValue>> =
            listed.records.into_iter().filter_map(|raw| Some((Record::of(&raw).id()?, raw))).collect();
        let mut purged = BTreeSet::new();
        for raw in &mut answer.records {
            let Some(id) = bare(raw) else { continue };
            match shown.remove(&id) {
                Some(whole) => *raw = whole,
                // The list of recently deleted messages lacks it: it had arrived before.
                None if !Record::of(raw).is_purged() => {}
                None => drop(purged.insert(id)),
            }
        }
        Ok(if purged.is_empty() { Vec::new() } else { vec![(Changes::NEW, OpenReason::Deleted)] })
    }

    /// The messages that were created since then and are deleted; `None` if the service does not list them all.
    async fn deleted(&self, ask: Ask<'_>, since: u64) -> Result<Option<Listing>> {
        let mut query = vec![("availability", "Deleted".to_owned()), ("dateFrom", time::text(since))];
        query.push(("perPage", LIST.to_string()));
        query.extend(types(ask.filters).into_iter().map(|kind| ("messageType", kind)));
        self.store(ask, &query).await
    }

    /// A list of the message store; `None` if it is incomplete.
    async fn store(&self, ask: Ask<'_>, query: &[(&str, String)]) -> Result<Option<Listing>> {
        let path = format!("{}/message-store", ask.path);
        match get(&self.client, &self.clock, &path, query).await {
            Ok(listed) if listed.body.is_whole && listed.body.records.len() < LIST => Ok(Some(listed.body)),
            Err(error) if matches!(error.disposition(), Disposition::Retry { .. }) => Err(error),
            Ok(_) | Err(_) => Ok(None),
        }
    }

    /// Starts a full sync, and reads the messages that were created since then.
    async fn full(&self, ask: Ask<'_>, held: Option<&MessagePosition>) -> Result<Step> {
        let (mut position, skew) = self.start(ask).await?;
        let from = match (ask.since, held) {
            // Messages before the last start were read after it. So a service that accepts no position at all does not
            // cause a busy loop.
            (since, Some(held)) if held.types == types(ask.filters) && held.has_read(since) => Some(held.time),
            // As the incremental sync would have, from the position: that is by the service's clock, and this machine's may
            // have been set since the gap began.
            (Some(since), held) => {
                let since = time::shift(since, skew);
                let held = held.filter(|held| held.types == types(ask.filters));
                Some(held.map_or(since, |held| held.time.min(since)).saturating_sub(OVERLAP))
            }
            (None, Some(held)) => Some(held.time.saturating_sub(OVERLAP)),
            (None, None) => ask.made.map(|made| time::shift(made, skew).saturating_sub(OVERLAP)),
        };
        let Some(from) = from else { return Ok(Step { found: Vec::new(), position, open: Vec::new() }) };
        position.read_since = Some(ask.since.unwrap_or(0));
        self.page(ask, position, Back { from, to: None, count: 0, most: None }).await
    }

    /// A position from now on, and by how much the service's clock is ahead.
    async fn start(&self, ask: Ask<'_>) -> Result<(MessagePosition, i64)> {
        let from =
            time::millis(self.clock.wall()).saturating_sub(u64::try_from(self.reach.as_millis()).unwrap_or(u64::MAX));
        let answer = self.ask(ask.path, &frame(ask, from, None, 1)).await?;
        let (time, skew) = answer.sync_info.clocks(&self.clock);
        let token = answer.sync_info.sync_token.unwrap_or_default();
        let position = MessagePosition { token, time, types: types(ask.filters), back: None, read_since: None };
        Ok((position, skew))
    }

    /// Reads one page of the past, the newest part of it.
    async fn page(&self, ask: Ask<'_>, mut position: MessagePosition, back: Back) -> Result<Step> {
        // An oversized page is requested in smaller ones (found 6.10).
        let mut most = back.most;
        let mut count = back.count.max(self.page).min(most.unwrap_or(LIST));
        let answer = loop {
            match self.ask(ask.path, &frame(ask, back.from, back.to, count)).await {
                Err(error) if is_too_large(&error) && count > 1 => {
                    count = count.div_ceil(4);
                    most = Some(count);
                }
                Err(error) if is_too_large(&error) => {
                    let open = vec![(Changes::ALL, OpenReason::TooMuch)];
                    return Ok(Step { found: Vec::new(), position, open });
                }
                answer => break answer?,
            }
        };
        let (_, skew) = answer.sync_info.clocks(&self.clock);
        let changed = ask.since.map(|since| time::shift(since, skew).saturating_sub(OVERLAP));
        let window = Window { created: back.from, changed };
        let mut found = self.read(ask, &answer, window)?;
        let oldest = answer.records.iter().filter_map(|raw| Record::of(raw).created_up()).min();
        let full = answer.records.len() >= count;
        let next = older(Back { count, most, ..back }, oldest, full, answer.sync_info.older_exist());
        position.back = next.map(|(back, _)| back);
        let mut lost = next.is_some_and(|(_, lost)| lost);
        if let Some(at) = oldest.filter(|_| lost)
            && let Some(mut listed) = self.moment(ask, &answer, at).await?
        {
            listed.uri.clone_from(&answer.uri);
            found.extend(self.read(ask, &listed, window)?);
            lost = false;
        }
        let mut open = Vec::new();
        open.extend(lost.then_some((Changes::ALL, OpenReason::TooMuch)));
        open.extend((!answer.is_whole).then_some((Changes::ALL, OpenReason::Unread)));
        // It finds messages by their creation only.
        open.extend(ask.since.map(|_| (Changes::CHANGED.and(Changes::DELETED), OpenReason::NoPosition)));
        if ask.since.is_some() && position.back.is_none() {
            // A full sync omits deleted messages (found 3.3). They are listed behind its last page, so that what is
            // deleted meanwhile is in one of them.
            match self.deleted(ask, back.from).await? {
                Some(listed) => {
                    // Events name the extension that a sync names.
                    let listed = Listing { uri: answer.uri, ..listed };
                    let deleted = self.read(ask, &listed, Window { created: back.from, changed: None })?;
                    found.splice(0..0, deleted);
                }
                None => open.push((Changes::NEW, OpenReason::Deleted)),
            }
        }
        Ok(Step { found, position, open })
    }

    /// All messages of one millisecond, by the message store; `None` if it does not list them all. `page`: a part of
    /// them.
    async fn moment(&self, ask: Ask<'_>, page: &Listing, at: u64) -> Result<Option<Listing>> {
        let mut query = vec![("dateFrom", time::text(at.saturating_sub(1))), ("dateTo", time::text(at + 1))];
        query.push(("perPage", LIST.to_string()));
        query.extend(types(ask.filters).into_iter().map(|kind| ("messageType", kind)));
        let count =
            |listing: &Listing| listing.records.iter().filter(|raw| Record::of(raw).created_up() == Some(at)).count();
        let listed = self.store(ask, &query).await?;
        Ok(listed.filter(|listed| count(listed) >= count(page)))
    }

    fn read(&self, ask: Ask<'_>, answer: &Listing, window: Window) -> Result<Vec<(Option<u64>, Found)>> {
        let mut all = Vec::new();
        let types = types(ask.filters);
        let known_type = match types.as_slice() {
            [only] => Some(only.as_str()),
            _ => None,
        };
        for raw in answer.records.iter().rev() {
            let record = Record::of(raw);
            for filter in ask.filters {
                let found = found(filter, answer.uri.as_deref(), &record, known_type, window)?;
                all.extend(found.into_iter().map(|found| (record.changed(), found)));
            }
        }
        Ok(all)
    }

    async fn ask(&self, path: &str, query: &[(&str, String)]) -> Result<Listing> {
        Ok(get(&self.client, &self.clock, &format!("{path}/message-sync"), query).await?.body)
    }
}

/// The query of a full sync.
fn frame(ask: Ask<'_>, from: u64, to: Option<u64>, count: usize) -> Vec<(&'static str, String)> {
    let mut query = vec![("syncType", "FSync".to_owned()), ("recordCount", count.to_string())];
    query.push(("dateFrom", time::text(from)));
    query.extend(to.map(|to| ("dateTo", time::text(to))));
    query.extend(types(ask.filters).into_iter().map(|kind| ("messageType", kind)));
    query
}

/// The rest of `back` after a page whose oldest message was created at `oldest`, and whether part of it must be
/// skipped. Whether `dateTo` is exclusive is unverified: so the request reaches one millisecond further, and duplicates
/// are recognized (found 3.2). `exist`: whether the service says that there are older ones.
fn older(back: Back, oldest: Option<u64>, full_page: bool, exist: Option<bool>) -> Option<(Back, bool)> {
    let oldest = oldest.filter(|oldest| exist != Some(false) && *oldest > back.from)?;
    let next = oldest.saturating_add(1);
    let most = back.most.unwrap_or(LIST);
    match back.to {
        // More messages of one millisecond than a page holds: a larger page shows them, up to its maximum. A page that
        // is not full has all there are, unless the service says that there are more: then it makes no larger ones.
        Some(to) if next >= to && back.count < most && full_page => {
            Some((Back { count: (2 * back.count).min(most), ..back }, false))
        }
        Some(to) if next >= to => (full_page || exist == Some(true))
            .then(|| (Back { to: Some(oldest.min(to.saturating_sub(1))), count: 0, ..back }, true)),
        _ => Some((Back { to: Some(next), count: 0, ..back }, false)),
    }
}

/// The types that the filters want, in a fixed order; empty for all.
fn types(filters: &[&EventFilter]) -> Vec<String> {
    let mut all = Vec::new();
    for filter in filters {
        match types_of(filter) {
            Some(types) if types.is_empty() => return types,
            types => all.extend(types.into_iter().flatten()),
        }
    }
    all.sort();
    all.dedup();
    all
}

/// The types of message of a filter, empty for all; `None` for a filter that is not about messages.
fn types_of(filter: &EventFilter) -> Option<Vec<String>> {
    let of = |name: &str| Some(vec![name.to_owned()]);
    match filter.kind() {
        EventKind::InstantMessage => of("SMS"),
        EventKind::FaxMessage => of("Fax"),
        EventKind::VoicemailMessage => of("VoiceMail"),
        EventKind::MessageStore => {
            let named = Parts::of(filter.as_str()).pairs().filter(|(key, _)| key == "type");
            Some(named.map(|(_, value)| MessageType::from(&*value).as_str().to_owned()).collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catch_up::ask::{read_position, write_position};

    #[test]
    fn every_message_filter_is_covered_and_no_other() {
        let client = Client::builder(crate::auth::StaticToken::new(crate::auth::AccessToken::new("t")));
        let source = MessageSync::new(client.build().unwrap());
        for row in EventFilter::catalog() {
            let filter = EventFilter::custom(row.template()).unwrap();
            let ours = row.gap_source().starts_with("message-sync,");
            let want = if ours { GapClosure::Complete } else { GapClosure::Nothing };
            assert_eq!(source.covers(&filter), want, "{filter}");
        }
    }

    #[test]
    fn a_full_sync_asks_for_the_types_that_the_filters_want() {
        let store = |query| EventFilter::custom(format!("/restapi/v1.0/account/~/extension/~/message-store{query}"));
        let (sms, both, all) = (store("?type=SMS"), store("?type=Voicemail&type=SMS"), store("?direction=Inbound"));
        let (sms, both, all) = (sms.unwrap(), both.unwrap(), all.unwrap());
        let (instant, fax) = (EventFilter::instant_message(), EventFilter::fax());
        for (filters, want) in [
            (vec![&sms, &instant], vec!["SMS"]),
            (vec![&both, &fax], vec!["Fax", "SMS", "VoiceMail"]),
            (vec![&fax, &all, &sms], vec![]),
            (vec![], vec![]),
        ] {
            assert_eq!(types(&filters), want);
        }
    }

    #[test]
    fn a_full_sync_goes_back_until_all_is_read() {
        let back = |to, count| Back { from: 100, to, count, most: None };
        for (to, oldest, full, exist, want) in [
            (None, Some(500), true, None, Some((Some(501), 0, false))),
            (None, Some(500), false, Some(true), Some((Some(501), 0, false))),
            (Some(501), Some(400), true, Some(true), Some((Some(401), 0, false))),
            // The service has no more, or none of the requested time.
            (Some(500), Some(400), true, Some(false), None),
            (Some(500), Some(100), true, Some(true), None),
            (Some(500), Some(50), true, Some(true), None),
            (Some(500), None, false, Some(true), None),
            // The same page again: it becomes larger.
            (Some(501), Some(500), true, None, Some((Some(501), 20, false))),
            (Some(501), Some(501), true, Some(true), Some((Some(501), 20, false))),
            (Some(501), Some(500), false, None, None),
            // The service withholds messages, and makes no larger page.
            (Some(501), Some(500), false, Some(true), Some((Some(500), 0, true))),
        ] {
            let got = older(back(to, 10), oldest, full, exist).map(|(back, lost)| (back.to, back.count, lost));
            assert_eq!(got, want, "{to:?} {oldest:?} {full} {exist:?}");
        }
        // At its maximum: the rest of this millisecond is skipped, and that counts.
        for (to, oldest, want) in [(501, 500, 500), (501, 501, 500), (500, 500, 499)] {
            let got =
                older(back(Some(to), LIST), Some(oldest), true, None).map(|(back, lost)| (back.to, back.count, lost));
            assert_eq!(got, Some((Some(want), 0, true)), "{to} {oldest}");
            // A larger page would make the answer too large, so it is not requested again.
            let small = Back { most: Some(5), ..back(Some(to), 5) };
            let got = older(small, Some(oldest), true, None).map(|(back, lost)| (back.to, back.most, lost));
            assert_eq!(got, Some((Some(want), Some(5), true)), "{to} {oldest}");
        }
    }

    /// Found 3.6.
    #[test]
    fn the_reach_has_a_floor_and_a_cap() {
        let client = Client::builder(crate::auth::StaticToken::new(crate::auth::AccessToken::new("t")));
        let source = MessageSync::new(client.build().unwrap());
        for (reach, want) in [
            (Duration::ZERO, LEAST_REACH),
            (Duration::from_secs(3 * 86_400), Duration::from_secs(3 * 86_400)),
            (Duration::MAX, MOST_REACH),
        ] {
            assert_eq!(source.clone().reach(reach).reach, want, "{reach:?}");
        }
    }

    #[test]
    fn an_unreadable_position_counts_as_absent() {
        let epoch = std::time::SystemTime::UNIX_EPOCH;
        let read = |token: &SyncToken| read_position::<BTreeMap<String, MessagePosition>>(Some(token));
        for text in ["", "[]", r#"{"/x":{"token":7}}"#] {
            assert!(read(&SyncToken::new(text, epoch)).is_none(), "{text}");
        }
        let position = MessagePosition { token: "t".into(), time: 7, types: vec![], back: None, read_since: None };
        let all = BTreeMap::from([("/x".to_owned(), position)]);
        assert!(read(&write_position(&all, epoch).unwrap()) == Some(all));
    }
}
