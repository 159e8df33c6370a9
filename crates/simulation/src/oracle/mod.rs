//! Judges a run by the events and the deliveries alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::{Core, Sample};
use crate::schedule::{Fault, FaultKind, Mode, Schedule};
use crate::service::Op;
use crate::time::{MS, SEC, Us};
use crate::world::{Emission, Filter, What};

/// Microseconds since the beginning, by the client's clocks: it may be before it.
pub(crate) type Wall = i64;

/// A delivery of the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Event {
        /// The filter it belongs to.
        filter: Option<Filter>,
        /// The event whose tag it contains.
        tag: Option<u32>,
        /// The kind of change of a post, and the post.
        post: Option<(bool, u32)>,
        contact: Option<u32>,
        /// Found by catch-up, or part of a snapshot.
        found: bool,
    },
    Gap {
        cause: String,
        is_certain: bool,
        since: Option<Wall>,
        until: Option<Wall>,
        filters: Vec<Filter>,
    },
    Resumed {
        complete: bool,
        at: Wall,
        recreated: bool,
        unrecovered: Vec<Filter>,
    },
    Undecodable,
    ContactsGone(Vec<u32>),
    /// These filters are not served.
    Disabled(Vec<Filter>),
    SessionEnded,
    Other(String),
}

/// The program acknowledged everything that it had read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) process: usize,
    /// The number of items in the log.
    pub(crate) read: usize,
    /// Whether the store had saved it before the process ended.
    pub(crate) kept: bool,
}

/// The program replaced its filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Update {
    pub(crate) begin: Us,
    /// When it was answered, and whether it succeeded.
    pub(crate) end: Option<Us>,
    pub(crate) took: bool,
    pub(crate) filters: Vec<Filter>,
}

/// What the client's side of a run recorded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    /// When `start` had succeeded.
    pub(crate) started: Option<Us>,
    pub(crate) start_error: Option<String>,
    pub(crate) log: Vec<(Us, Item)>,
    /// The indices in the log where another process begins.
    pub(crate) restarts: Vec<usize>,
    pub(crate) stream_error: Option<(Us, String)>,
    pub(crate) closing: Us,
    /// When `close` had returned.
    pub(crate) closed: Option<Us>,
    pub(crate) deleted: bool,
    /// An operation that exceeded its deadline.
    pub(crate) stuck: Option<&'static str>,
    /// Panics of tasks that no caller awaited.
    pub(crate) panics: Vec<String>,
    /// When the subscriptions of ours that remain at the end were created. Of those of a crashed program, only those in
    /// its checkpoint count.
    pub(crate) left: Vec<Us>,
    pub(crate) connections_most: i64,
    /// Requests without an answer a minute after the end.
    pub(crate) unanswered: usize,
    /// The longest that a request waited for the head of its answer.
    pub(crate) longest_wait: Us,
    /// The last process with a store whose start had succeeded.
    pub(crate) last_up: Option<usize>,
    /// When processes with a store crashed.
    pub(crate) crashes: Vec<Us>,
    pub(crate) acks: Vec<Ack>,
    pub(crate) updates: Vec<Update>,
    /// When the store could not be used, so that the program was not started, and why.
    pub(crate) store_refused: Option<(Us, String)>,
    /// When a process began that found no position, though the previous one had started with one.
    pub(crate) forgotten: Vec<Us>,
    /// The disk did not lie.
    pub(crate) is_disk_honest: bool,
    pub(crate) disk_operations: u64,
    /// Crashes after which written data was missing or torn.
    pub(crate) torn: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) class: &'static str,
    pub(crate) at: Us,
    pub(crate) detail: String,
}

/// Numbers for the tables.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stats {
    pub(crate) events: u64,
    pub(crate) delivered: u64,
    pub(crate) found: u64,
    pub(crate) missing: u64,
    pub(crate) gaps: BTreeMap<String, u64>,
    pub(crate) resumed: BTreeMap<&'static str, u64>,
    /// Milliseconds from the beginning of a gap to the first event that push lost in it.
    pub(crate) gap_lead_ms: Vec<u64>,
    /// Milliseconds from a gap to its end.
    pub(crate) gap_length_ms: Vec<u64>,
    /// Gaps that the sources could fill for all filters.
    pub(crate) gaps_fillable: u64,
    /// Why each of the others began, and how it ended.
    pub(crate) unfilled: Vec<(String, &'static str)>,
    /// Those of them that ended complete within 10 s.
    pub(crate) gaps_filled: u64,
    /// Milliseconds from the service being reachable to events arriving again.
    pub(crate) back_ms: Vec<u64>,
    /// Milliseconds that the client reported "healthy" though nothing would arrive.
    pub(crate) late_ms: Vec<u64>,
}

/// Within this time a gap is filled if nothing prevents it.
const SOON: Us = 10 * SEC;

struct Gap {
    at: Us,
    /// Its place in the log; none for what the program knows by itself.
    place: Option<usize>,
    cause: String,
    since: Option<Wall>,
    until: Option<Wall>,
    filters: Vec<Filter>,
    /// When it ended in the stream, whether complete, by when, which filters remained open.
    resumed: Option<(Us, bool, Wall, Vec<Filter>)>,
}

impl Gap {
    /// The program acknowledged it, and the store kept that.
    fn is_finished(&self, record: &Record) -> bool {
        self.place.is_some_and(|place| record.acks.iter().any(|ack| ack.kept && ack.read > place))
    }
}

/// The client's wall clock at a time of the service's clock.
pub(crate) fn wall_at(core: &Core, at: Us) -> Wall {
    let jumps = core.jumps.iter().filter(|(when, _)| *when <= at);
    let skew = core.schedule.skew + jumps.map(|(_, seconds)| seconds).sum::<i64>();
    Wall::try_from(at).unwrap_or(Wall::MAX) + skew * 1_000_000
}

struct Oracle<'a> {
    core: &'a Core,
    schedule: &'a Schedule,
    record: &'a Record,
    gaps: Vec<Gap>,
    out: Vec<Violation>,
    stats: Stats,
}

/// Judges one run.
pub(crate) fn judge(core: &Core, record: &Record) -> (Vec<Violation>, Stats) {
    let mut oracle =
        Oracle { core, schedule: &core.schedule, record, gaps: Vec::new(), out: Vec::new(), stats: Stats::default() };
    oracle.ends();
    oracle.gaps();
    // Events before an aborted run are not judged.
    if record.started.is_some() && record.stuck.is_none() {
        oracle.events();
        oracle.order();
        oracle.health();
        oracle.calm();
        oracle.disabled();
        oracle.false_full();
    }
    if core.schedule.crashes.is_some() {
        oracle.store();
    }
    oracle.service();
    oracle.out.sort_by_key(|violation| violation.at);
    (oracle.out, oracle.stats)
}

impl Oracle<'_> {
    fn violate(&mut self, class: &'static str, at: Us, detail: String) {
        self.out.push(Violation { class, at, detail });
    }

    /// Everything returns, in time, and without a crash.
    fn ends(&mut self) {
        let record = self.record;
        if let Some(what) = record.stuck {
            let class = if what == "a task that never waits" { "livelock" } else { "stuck" };
            self.violate(class, self.core.now(), format!("{what} did not return"));
        }
        for panic in &record.panics {
            self.violate("panic", record.closing, panic.clone());
        }
        // The last save may fail with the disk.
        let of_disk = |error: &str| {
            error.contains("/sim/place") && self.schedule.crashes.as_ref().is_some_and(|it| it.disk.fails_percent > 0)
        };
        if let Some((at, error)) = record.stream_error.as_ref().filter(|(_, error)| !of_disk(error)) {
            self.violate("stream-error", *at, error.clone());
        }
        if let Some(error) = &record.start_error
            && self
                .schedule
                .faults
                .iter()
                .all(|fault| matches!(fault.what, FaultKind::Foreign | FaultKind::WallJump(_) | FaultKind::ClockSet(_)))
        {
            self.violate("start-error", 0, error.clone());
        }
        if record.unanswered > 0 {
            self.violate("exchange-left", record.closing, format!("{} requests wait for ever", record.unanswered));
        }
        if record.longest_wait > 330 * SEC {
            self.violate("unbounded-wait", record.closing, format!("a request waited {} s", record.longest_wait / SEC));
        }
        if record.connections_most > 24 {
            self.violate("connections", record.closing, format!("{} at once", record.connections_most));
        }
    }

    /// An agent's answers are repeated, and nothing in them says so: the id of the poll is stale, and the service
    /// replays its queue (incontact §10).
    fn is_replayed_blindly(&self) -> bool {
        let knobs = &self.schedule.knobs;
        self.schedule.mode == Mode::Agent
            && knobs.agent_no_id_percent > 0
            && knobs.agent_stale == 1
            && knobs.agent_no_id_moves == 0
    }

    /// Which process read the item at this index of the log.
    fn process(&self, place: usize) -> usize {
        self.record.restarts.iter().filter(|first| **first <= place).count()
    }

    /// A store preserves what it was given, or reports that it did not.
    fn store(&mut self) {
        let fails = self.schedule.crashes.as_ref().is_some_and(|plan| plan.disk.fails_percent > 0)
            || self.schedule.faults.iter().any(|fault| matches!(fault.what, FaultKind::Freeze(_)));
        if let Some(at) = self.record.forgotten.first()
            && self.record.is_disk_honest
        {
            self.violate("place-lost", *at, "the disk lost nothing, and the store has no position".into());
        }
        if let Some((at, error)) = &self.record.store_refused
            && self.record.is_disk_honest
            && !fails
        {
            self.violate("store-refused", *at, format!("the disk lost nothing, and the store is refused: {error}"));
        }
    }

    fn gaps(&mut self) {
        let mut open: Vec<usize> = Vec::new();
        let record = self.record;
        let mut ends = record.crashes.iter().zip(&record.restarts).peekable();
        for (place, (at, item)) in record.log.iter().enumerate() {
            while let Some((crash, _)) = ends.next_if(|(_, first)| **first <= place) {
                // A gap that is finished is not reported again: what follows in the stream of
                // another process ends that stream's gaps, and not this one.
                let end = wall_at(self.core, *crash).max(Wall::try_from(*crash).unwrap_or(Wall::MAX));
                open.retain(|index| {
                    let is_finished = self.gaps[*index].is_finished(record);
                    if is_finished {
                        self.gaps[*index].until.get_or_insert(end);
                    }
                    !is_finished
                });
            }
            match item {
                Item::Gap { cause, since, until, filters, .. } => {
                    *self.stats.gaps.entry(cause.clone()).or_default() += 1;
                    open.push(self.gaps.len());
                    self.gaps.push(Gap {
                        at: *at,
                        place: Some(place),
                        cause: cause.clone(),
                        since: *since,
                        until: *until,
                        filters: filters.clone(),
                        resumed: None,
                    });
                }
                Item::Resumed { complete, at: end, recreated, unrecovered } => {
                    let name = match (complete, recreated) {
                        (true, true) => "complete, recreated",
                        (true, false) => "complete",
                        (false, true) => "incomplete, recreated",
                        (false, false) => "incomplete",
                    };
                    *self.stats.resumed.entry(name).or_default() += 1;
                    for index in open.drain(..) {
                        self.gaps[index].resumed = Some((*at, *complete, *end, unrecovered.clone()));
                        self.stats.gap_length_ms.push((at - self.gaps[index].at) / MS);
                    }
                }
                _ => {}
            }
        }
        if !self.record.is_disk_honest {
            // A process that lost the whole store cannot know that it had one.
            for at in &self.record.forgotten {
                let cause = "the store lost everything".into();
                *self.stats.gaps.entry("the store lost everything".into()).or_default() += 1;
                let until = Wall::try_from(*at).ok().map(|at| at + 100_000_000);
                self.gaps.push(Gap {
                    at: *at,
                    place: None,
                    cause,
                    since: None,
                    until,
                    filters: Vec::new(),
                    resumed: None,
                });
            }
        }
        if let Some((at, _)) = &self.record.store_refused {
            // The program was not started, and knows that anything may be lost.
            *self.stats.gaps.entry("the store is refused".into()).or_default() += 1;
            let cause = "the store is refused".into();
            self.gaps.push(Gap {
                at: *at,
                place: None,
                cause,
                since: None,
                until: None,
                filters: Vec::new(),
                resumed: None,
            });
        }
        let fillable: Vec<Option<Us>> = self.gaps.iter().map(|gap| self.fillable_from(gap)).collect();
        for (gap, from) in self.gaps.iter().zip(fillable) {
            if let Some(from) = from {
                self.stats.gaps_fillable += 1;
                let soon = |(at, complete, ..): &(Us, bool, Wall, Vec<Filter>)| *complete && *at <= from + SOON;
                if gap.resumed.as_ref().is_some_and(soon) {
                    self.stats.gaps_filled += 1;
                    continue;
                }
                let how = match &gap.resumed {
                    None => "without an end",
                    Some((_, false, ..)) => "incomplete",
                    Some((_, true, ..)) => "complete, late",
                };
                self.stats.unfilled.push((gap.cause.clone(), how));
            }
        }
    }

    /// The earliest time at which a gap can end: when it is noticed; without an `until`, when events arrive again and
    /// continue to. How soon they do is another figure.
    fn may_end_from(&self, gap: &Gap) -> Option<Us> {
        if gap.until.is_some() {
            return Some(gap.at);
        }
        let samples = &self.core.samples;
        let mut since: Option<Us> = None;
        for sample in samples.iter().filter(|sample| sample.at >= gap.at) {
            if !sample.delivers {
                since = None;
                continue;
            }
            let since = *since.get_or_insert(sample.at);
            if sample.at >= since + SOON {
                return Some(since);
            }
        }
        None
    }

    /// From when on each filter has a source, and nothing prevents it from answering at once; none if that never holds.
    /// A call appears in the log much later, a removed post in no list, and a deleted message nowhere.
    fn fillable_from(&self, gap: &Gap) -> Option<Us> {
        let from = self.may_end_from(gap)?;
        let schedule = self.schedule;
        let covered = |filter: &Filter| matches!(filter, Filter::Sms | Filter::Voicemail);
        let hindered = schedule.faults.iter().any(|fault| match fault.what {
            FaultKind::Http { op, .. } => matches!(op, Op::Sync | Op::Token),
            // A source's position from before its clock was set proves nothing of the time after.
            FaultKind::Slow { .. } | FaultKind::ExpireTokens | FaultKind::EndLogins | FaultKind::ClockSet(_) => true,
            FaultKind::Freeze(_) | FaultKind::Sleep(_) | FaultKind::Stall(_) => {
                fault.at < from + SOON && gap.at < fault.at + 100 * SEC
            }
            _ => false,
        });
        // Where the token has expired, a full sync shows what was created, and no change of what had existed before
        // (rest §6.1): no answer proves that a voicemail did not change.
        let forgets_changes = schedule.knobs.sync_token_life_s < 3600 && schedule.filters.contains(&Filter::Voicemail);
        // Nor does any answer without a position of a source, and a store has none before it is saved, within a second.
        let forgets_changes =
            forgets_changes || schedule.filters.contains(&Filter::Voicemail) && self.is_before_first_position(gap);
        let mut after = self.core.samples.iter().filter(|sample| sample.at >= gap.at && sample.at <= from + SOON);
        // A source is not asked for what the program does not want any more.
        let wanted = |filter: &Filter| [gap.at, from + SOON].iter().all(|at| self.is_subscribed(*filter, *at));
        let is_fillable = schedule.catch_up
            && schedule.mode != Mode::Agent
            && schedule.filters.iter().all(covered)
            && schedule.deletions.is_empty()
            && !forgets_changes
            && !hindered
            && gap.filters.iter().all(wanted)
            && !self.is_cut_off(gap, from)
            // A loss that no stream reported has no end in a stream.
            && gap.place.is_some()
            && from + SOON < self.record.closing
            && after.all(|sample| sample.reachable);
        is_fillable.then_some(from)
    }

    /// The gap begins before the first process crashed, which had not saved a position of a source yet.
    fn is_before_first_position(&self, gap: &Gap) -> bool {
        const SAVED_WITHIN: Us = 2 * SEC;
        let Some(crash) = self.record.crashes.first().copied() else { return false };
        let has_position = self.core.service.first_source.is_some_and(|at| at + SAVED_WITHIN < crash);
        let by_service = Wall::try_from(crash).unwrap_or(Wall::MAX);
        let until = if self.is_told_the_time() { by_service } else { by_service.max(wall_at(self.core, crash)) };
        !has_position && gap.since.is_none_or(|since| since <= until)
    }

    /// The process that reported the gap ended before the time to fill it was over.
    fn is_cut_off(&self, gap: &Gap, from: Us) -> bool {
        let restart =
            |(index, ..): &&(usize, Us, &str)| matches!(self.schedule.faults[*index].what, FaultKind::Restart { .. });
        let restarts = self.core.applied.iter().filter(restart).map(|(_, at, _)| at);
        restarts.chain(&self.record.crashes).any(|at| gap.at <= *at && *at <= from + SOON)
    }

    /// Whether the reader has a claim to the event.
    fn is_due(&self, event: &Emission) -> bool {
        let Some(started) = self.record.started else { return false };
        let mut over = self.record.stream_error.as_ref().map_or(self.record.closing, |(at, _)| *at);
        if self.schedule.mode == Mode::Agent && !self.record.deleted {
            // A stream that was dropped, since its end could not be requested, owes nothing of the time since it was
            // cut off.
            let heard = self.core.samples.iter().rfind(|sample| sample.at <= self.record.closing && sample.delivers);
            over = over.min(heard.map_or(0, |sample| sample.at));
        }
        event.at >= started
            && event.at + 2 * SEC <= over.min(self.record.closing)
            && self.is_subscribed(event.what.filter(), event.at)
    }

    /// Whether the filter is one that the program had requested then, and that the service serves. While a change is in
    /// progress, and after one that failed, both may hold.
    fn is_subscribed(&self, filter: Filter, at: Us) -> bool {
        let record = self.record;
        if self.core.service.subs.disabled.iter().any(|(since, it, _)| *it == filter && *since <= at + SEC) {
            return false;
        }
        let mut asked = self.schedule.mode == Mode::Agent || self.schedule.filters.contains(&filter);
        for update in record.updates.iter().filter(|update| update.begin <= at + 2 * SEC) {
            let is_in = update.filters.contains(&filter);
            let settled = update.end.is_some_and(|end| end + SEC <= at) && update.took;
            asked = if settled { is_in } else { asked && is_in };
        }
        asked
    }

    /// Filters that the service does not serve are named in the stream.
    fn disabled(&mut self) {
        let record = self.record;
        let named = |filter: Filter| {
            record.log.iter().any(|(_, item)| matches!(item, Item::Disabled(filters) if filters.contains(&filter)))
        };
        for (at, filter, sub) in &self.core.service.subs.disabled {
            // One that ends before a description of it can have arrived is known by its gap:
            // only answers name what is not served (rest §2).
            let over = self.core.service.subs.all[*sub].expires.min(record.closing);
            if at + 90 * SEC < over && record.stream_error.is_none() && !named(*filter) {
                let detail =
                    format!("{filter:?} is not served since {} s, and nothing in the stream says so", at / SEC);
                return self.violate("disabled-unsaid", *at, detail);
            }
        }
    }

    /// A service's buffer counts as full if it may have been full, and not without a sign.
    fn false_full(&mut self) {
        let is_told = self.is_told_the_time();
        let is_again = !self.record.restarts.is_empty();
        if self.schedule.skew != 0 || !self.core.jumps.is_empty() || self.is_clock_set() || !is_told || is_again {
            // By a wrong clock, or to another process, others are new.
            return;
        }
        let service = &self.core.service;
        let buffer = service.knobs.ws_buffer;
        let mut signs = service.pubnub.full.clone();
        signs.extend(service.gateway.recoveries.iter().filter(|it| it.may_be_full(buffer)).map(|it| it.at));
        const BEFORE: Us = 150 * SEC;
        let without = self.gaps.iter().find(|gap| {
            gap.cause == "service_buffer_full" && !signs.iter().any(|at| *at <= gap.at && gap.at <= at + BEFORE)
        });
        if let Some(gap) = without {
            let at = gap.at;
            self.violate("false-full", at, "service_buffer_full, though no buffer can have been".into());
        }
    }

    /// Times in gaps are the service's, if it sends them; otherwise the client has only its own clock.
    fn is_told_the_time(&self) -> bool {
        self.schedule.knobs.http_date == 1 && self.schedule.mode != Mode::Agent
    }

    /// The gap covers the event: by its time or by that of its sending.
    fn covers(&self, gap: &Gap, event: &Emission) -> bool {
        let filter = event.what.filter();
        if filter != Filter::Agent && !gap.filters.is_empty() && !gap.filters.contains(&filter) {
            return false;
        }
        let sent = event.at + self.schedule.knobs.send_lag_ms * MS + MS;
        let by_service = |at: Us| Wall::try_from(at).unwrap_or(Wall::MAX);
        let until = gap.until.or(gap.resumed.as_ref().map(|(_, _, end, _)| *end));
        // A gap that is reported before its client can know that the clock was set has an end by the clock as it was,
        // and one that is reported later a beginning by the clock as it is. So an event counts as covered by the time
        // that the service wrote on it or by the instant of its emission, both by either clock; not by a mixture of
        // them.
        self.clock_sets().any(|back| {
            let (mut latest, mut earliest) = (by_service(sent) - back, by_service(event.at) - back);
            if !self.is_told_the_time() {
                latest = latest.max(wall_at(self.core, sent));
                earliest = earliest.min(wall_at(self.core, event.at));
            }
            gap.since.is_none_or(|since| since <= latest) && until.is_none_or(|until| until >= earliest - 1000)
        })
    }

    /// By how much the service's clock was set back in all, from the beginning on.
    fn clock_sets(&self) -> impl Iterator<Item = Wall> {
        let sets = self.core.service.clock.sets.iter();
        let mut back = 0;
        std::iter::once(0).chain(sets.map(move |(_, by)| {
            back += Wall::try_from(*by).unwrap_or(Wall::MAX);
            back
        }))
    }

    fn is_clock_set(&self) -> bool {
        !self.core.service.clock.sets.is_empty()
    }

    fn events(&mut self) {
        let record = self.record;
        let events = &self.schedule.events;
        let by_id: BTreeMap<u32, &Emission> = events.iter().map(|event| (event.id, event)).collect();
        // Deliveries by event: index in the log, found by catch-up.
        let mut got: BTreeMap<u32, Vec<(usize, bool)>> = BTreeMap::new();
        // The newest text of a post, or the newest step of a contact, that catch-up found.
        let mut newest: BTreeMap<(bool, u32), u32> = BTreeMap::new();
        let mut gone: BTreeSet<u32> = BTreeSet::new();
        for (place, (_, item)) in record.log.iter().enumerate() {
            match item {
                Item::Event { filter, tag, post, contact, found } => {
                    // The call log reports of a missed call that its session has ended, too.
                    let is_other = |tag: &u32| by_id.get(tag).is_some_and(|it| Some(it.what.filter()) != *filter);
                    if *found && tag.as_ref().is_some_and(is_other) {
                        continue;
                    }
                    let added = post.filter(|(added, _)| *added).map(|(_, post)| post);
                    let event = match added {
                        Some(post) => events.iter().find(|it| it.what == What::PostAdded(post)).map(|it| it.id),
                        None => *tag,
                    };
                    let Some(event) = event.filter(|id| by_id.contains_key(id)) else {
                        // A message that was deleted has no text.
                        let is_store = *filter == Some(Filter::Store);
                        if contact.is_none() && !is_store && self.schedule.mode != Mode::Agent {
                            self.out.push(Violation { class: "unknown", at: 0, detail: format!("{item:?}") });
                        }
                        continue;
                    };
                    if *found && let Some(tag) = tag {
                        if let Some((_, post)) = post {
                            let it = newest.entry((false, *post)).or_default();
                            *it = (*it).max(*tag);
                        }
                        if let Some(contact) = contact {
                            let it = newest.entry((true, *contact)).or_default();
                            *it = (*it).max(*tag);
                        }
                    }
                    let is_changed_of_added = matches!(post, Some((false, _)))
                        && by_id.get(&event).is_some_and(|it| matches!(it.what, What::PostAdded(_)));
                    if !is_changed_of_added {
                        got.entry(event).or_default().push((place, *found));
                    }
                }
                Item::ContactsGone(contacts) => gone.extend(contacts),
                _ => {}
            }
        }
        for event in events {
            let deliveries = got.get(&event.id).map_or(&[][..], Vec::as_slice);
            // A count of messages that are not found yet contains none of them.
            let is_count = event.what == What::Stored && self.schedule.enrich;
            let is_state = matches!(event.what, What::AgentContact { .. }) || is_count;
            let twice = deliveries
                .windows(2)
                .find(|two| self.process(two[0].0) == self.process(two[1].0) && (!is_state || !two[1].1))
                .map(|two| two[1]);
            if let Some(twice) = twice.filter(|_| !self.is_replayed_blindly()) {
                let at = record.log[twice.0].0;
                let how: Vec<&str> =
                    deliveries.iter().map(|(_, found)| if *found { "found" } else { "pushed" }).collect();
                self.violate("duplicate", at, format!("event {} {:?} came {how:?}", event.id, event.what));
            }
            if self.schedule.crashes.is_some() {
                self.finished(event, deliveries);
            }
            if !self.is_due(event) {
                continue;
            }
            self.stats.events += 1;
            if deliveries.is_empty() {
                let superseded = match event.what {
                    // A list shows its newest state.
                    What::Voicemail => events.iter().any(|it| {
                        let found = |deliveries: &Vec<(usize, bool)>| deliveries.iter().any(|(_, found)| *found);
                        it.what == What::VoicemailRead(event.id) && got.get(&it.id).is_some_and(found)
                    }),
                    What::PostChanged(post) => newest.get(&(false, post)).is_some_and(|tag| *tag >= event.id),
                    What::AgentContact { contact, .. } => {
                        newest.get(&(true, contact)).is_some_and(|tag| *tag >= event.id) || gone.contains(&contact)
                    }
                    _ => false,
                };
                self.missing(event, superseded);
            } else {
                self.stats.delivered += 1;
                if deliveries[0].1 {
                    self.stats.found += 1;
                    self.late_find(event, deliveries[0].0);
                }
            }
        }
        self.leads(&got);
    }

    /// A finished event is not delivered again after a crash; an unfinished one is, or is in a gap.
    fn finished(&mut self, event: &Emission, deliveries: &[(usize, bool)]) {
        let Some(plan) = &self.schedule.crashes else { return };
        let record = self.record;
        for (i, (place, _)) in deliveries.iter().enumerate() {
            let process = self.process(*place);
            let Some(crash) = record.crashes.get(process) else { continue };
            let (at, again) = (record.log[*place].0, deliveries.get(i + 1));
            let mut acks = record.acks.iter().filter(|ack| ack.process == process && ack.read > *place);
            let is_kept = if plan.explicit {
                acks.clone().any(|ack| ack.kept)
            } else {
                // Requesting the next event finishes one, which is saved within a second.
                let stands_still =
                    |kind| matches!(kind, FaultKind::Stall(_) | FaultKind::Freeze(_) | FaultKind::Sleep(_));
                plan.disk.fails_percent == 0
                    && at + 3 * SEC < *crash
                    && !self.schedule.faults.iter().any(|fault| stands_still(fault.what))
            };
            if is_kept
                && record.is_disk_honest
                && let Some((again, _)) = again
            {
                let detail = format!(
                    "event {} {:?} is finished since {} s, and comes again after the crash at {} s",
                    event.id,
                    event.what,
                    at / SEC,
                    crash / SEC
                );
                self.violate("again-after-ack", record.log[*again].0, detail);
            }
            let may_be_kept = !plan.explicit || acks.next().is_some();
            if !may_be_kept && again.is_none() && self.is_due(event) {
                // An event of an acknowledged gap that ended incomplete is already reported as lost.
                let is_open = |gap: &Gap| match &gap.resumed {
                    None => true,
                    Some((_, complete, _, left)) => {
                        !complete && (left.is_empty() || left.contains(&event.what.filter()))
                    }
                };
                let in_gap = self.gaps.iter().any(|gap| {
                    self.covers(gap, event) && (gap.at >= *crash || is_open(gap) && gap.is_finished(record))
                });
                // A process that lost the whole store owes nothing from before it, though a sync that reaches back may
                // find it.
                let is_before =
                    !record.is_disk_honest && record.forgotten.iter().any(|begun| event.at < *begun && *begun <= at);
                if !in_gap && !is_before {
                    let detail = format!(
                        "event {} {:?} was read and not finished at the crash at {} s, and does not come again",
                        event.id,
                        event.what,
                        crash / SEC
                    );
                    self.violate("unfinished-lost", at, detail);
                }
            }
        }
    }

    fn missing(&mut self, event: &Emission, superseded: bool) {
        let covering: Vec<&Gap> = self.gaps.iter().filter(|gap| self.covers(gap, event)).collect();
        if superseded {
            return;
        }
        self.stats.missing += 1;
        if covering.is_empty() {
            let gaps: Vec<String> = self
                .gaps
                .iter()
                .map(|gap| format!("{} at {} s [{:?}..{:?}]", gap.cause, gap.at / SEC, gap.since, gap.until))
                .collect();
            let detail = format!(
                "event {} of {} ms {:?} is neither delivered nor in a gap; gaps {gaps:?}",
                event.id,
                event.at / MS,
                event.what
            );
            return self.violate("lost", event.at, detail);
        }
        let filter = event.what.filter();
        let open = covering.iter().any(|gap| match &gap.resumed {
            None => true,
            Some((_, complete, ..)) => !complete,
        });
        if !open {
            let detail =
                format!("event {} of {} ms {:?} is in gaps that all end complete", event.id, event.at / MS, event.what);
            return self.violate("complete-unfound", event.at, detail);
        }
        let named = covering.iter().any(|gap| match &gap.resumed {
            None => true,
            Some((_, complete, _, left)) => !complete && (left.is_empty() || left.contains(&filter)),
        });
        if !named {
            let detail =
                format!("event {} {:?} is lost, and its filter is not among what is left open", event.id, event.what);
            self.violate("left-open-unnamed", event.at, detail);
        }
    }

    /// A backfilled event must precede the end that calls its gap complete.
    fn late_find(&mut self, event: &Emission, place: usize) {
        let at = self.record.log[place].0;
        let late = self.gaps.iter().find(|gap| {
            gap.resumed
                .as_ref()
                .is_some_and(|(ended, complete, ..)| *complete && *ended + 100 * MS < at && event.at + 2 * SEC < gap.at)
                && self.covers(gap, event)
        });
        if late.is_some()
            && !self.gaps.iter().any(|gap| {
                self.covers(gap, event)
                    && gap.resumed.as_ref().is_none_or(|(ended, complete, ..)| !complete || *ended >= at)
            })
        {
            let detail =
                format!("event {} {:?} is found after the end of its gap, which was complete", event.id, event.what);
            self.violate("complete-early", at, detail);
        }
    }

    /// By how much each gap begins before the first event that push lost in it, or the earliest time at which one would
    /// have been lost.
    fn leads(&mut self, got: &BTreeMap<u32, Vec<(usize, bool)>>) {
        let mut leads = Vec::new();
        // A wrong clock allows no statement.
        let is_wrong =
            self.schedule.skew != 0 || self.schedule.faults.iter().any(|it| matches!(it.what, FaultKind::WallJump(_)));
        if self.is_clock_set() {
            // A gap begins by one clock, and its events may bear another.
            return;
        }
        // After a crash a gap begins where the program acknowledged last, however long ago.
        let is_explicit = self.schedule.crashes.as_ref().is_some_and(|plan| plan.explicit);
        let is_by_ack = |gap: &Gap, since: Wall| {
            let crash = self.record.crashes.iter().rfind(|crash| **crash <= gap.at);
            is_explicit && crash.is_some_and(|crash| Wall::try_from(*crash).is_ok_and(|crash| since < crash))
        };
        for gap in &self.gaps {
            if gap.since.is_some_and(|since| is_by_ack(gap, since)) {
                continue;
            }
            let Some(since) = gap.since.filter(|_| self.is_told_the_time() || !is_wrong) else { continue };
            let first = self.schedule.events.iter().find(|event| {
                self.is_due(event)
                    && self.covers(gap, event)
                    && got.get(&event.id).is_none_or(|all| all.iter().all(|(_, found)| *found))
            });
            if let Some(event) = first {
                let down = self.core.samples.iter().find(|it| {
                    !it.delivers
                        && it.at >= self.record.started.unwrap_or(0)
                        && Wall::try_from(it.at).is_ok_and(|at| at >= since)
                });
                // A region that another one replaces loses the events that it had not delivered.
                let is_purge = |index: &usize| matches!(self.schedule.faults[*index].what, FaultKind::PurgeBuffers);
                let mut purges = self.core.applied.iter().filter(|(index, ..)| is_purge(index)).map(|(_, at, _)| *at);
                let purged = purges.find(|at| Wall::try_from(*at).is_ok_and(|at| at >= since));
                let down = down.map(|sample| sample.at).into_iter().chain(purged).min();
                let first = down.map_or(event.at, |at| at.min(event.at));
                let by_service = Wall::try_from(first).unwrap_or(Wall::MAX) - since;
                let by_wall = wall_at(self.core, first) - since;
                let is_nearer = self.is_told_the_time() || by_service.abs() <= by_wall.abs();
                let lead = if is_nearer { by_service } else { by_wall };
                leads.push(u64::try_from(lead.max(0)).unwrap_or(0) / MS);
            }
        }
        self.stats.gap_lead_ms = leads;
    }

    /// Pushed events of one resource arrive in order.
    fn order(&mut self) {
        let mut last: BTreeMap<(u8, u32), u32> = BTreeMap::new();
        let mut wrong = Vec::new();
        for (place, (at, item)) in self.record.log.iter().enumerate() {
            if self.record.restarts.contains(&place) {
                last.clear();
            }
            let Item::Event { tag: Some(tag), found: false, .. } = item else { continue };
            let Some(event) = self.schedule.events.iter().find(|event| event.id == *tag) else { continue };
            let resource = match event.what {
                What::PostAdded(post) | What::PostChanged(post) => (0, post),
                What::Telephony { call, .. } => (1, call),
                What::AgentContact { contact, .. } => (2, contact),
                _ => continue,
            };
            if let Some(before) = last.insert(resource, *tag)
                && before > *tag
                && !self.is_sent_late(*tag, before, *at)
            {
                wrong.push((*at, format!("event {tag} after event {before} of one resource")));
            }
        }
        // The service itself sends in another order if each event has a separate delay.
        let in_order = self.schedule.knobs.send_lag_ms == 0 && !self.is_replayed_blindly();
        if in_order && self.schedule.mode != Mode::FailOver {
            for (at, detail) in wrong {
                self.violate("order", at, detail);
            }
        }
    }

    /// Whether the gateway sent the first event so long after the other one, over another connection, that a client
    /// cannot be expected to wait: it replays a session when and as it will (websocket §1.12).
    fn is_sent_late(&self, first: u32, other: u32, read: Us) -> bool {
        const WAITED_FOR: Us = 3 * SEC;
        let writes =
            |event| self.core.service.gateway.writes.iter().filter(move |(it, _)| *it == event).map(|(_, at)| at);
        let sent = writes(first).filter(|at| **at <= read).max();
        sent.zip(writes(other).min()).is_some_and(|(sent, other)| other + WAITED_FOR <= *sent)
    }

    fn health(&mut self) {
        let (Some(started), closing) = (self.record.started, self.record.closing) else { return };
        let over = self.record.stream_error.as_ref().map_or(closing, |(at, _)| *at);
        let bound = match self.schedule.mode {
            Mode::PubNub => 60 * SEC,
            Mode::WebSocket => 15 * SEC,
            Mode::Agent => 95 * SEC,
            // It is a socket, a poll of PubNub, or polls of sources.
            Mode::FailOver => 60 * SEC,
        };
        let samples: Vec<Sample> =
            self.core.samples.iter().copied().filter(|sample| sample.at >= started && sample.at <= over).collect();
        // An audit that fails is repeated, and so is one that waits for a token.
        let fails = |fault: &Fault| matches!(fault.what, FaultKind::Http { op: Op::Get | Op::Token, .. });
        let audited = if self.schedule.faults.iter().any(fails) { 90 * SEC } else { 66 * SEC };
        // One that waited for its reader says nothing about the path.
        let waits = self.schedule.faults.iter().any(|fault| matches!(fault.what, FaultKind::Stall(_)));
        let is_pushed = |item: &Item| !waits && matches!(item, Item::Event { found: false, .. });
        let log = self.record.log.iter();
        let pushed: Vec<Us> = log.filter(|(_, item)| is_pushed(item)).map(|(at, _)| *at).collect();
        // Reported healthy, though nothing would arrive.
        let mut since: Option<Us> = None;
        let mut gone: Option<Us> = None;
        let mut worst: Option<(Us, Us, bool)> = None;
        for sample in &samples {
            let wrong = sample.healthy
                && !sample.delivers
                && !sample.frozen
                && !(sample.deaf && !(sample.reachable && sample.has_room));
            // A path that was dead says nothing of a subscription that was there: each has its bound.
            gone = if sample.deaf { gone.or(Some(sample.at)) } else { None };
            if !wrong {
                if let Some(begin) = since.take() {
                    self.stats.late_ms.push((sample.at - begin) / MS);
                }
                continue;
            }
            let begin = *since.get_or_insert(sample.at);
            // An event that arrives shows that the path was alive, even if no poll was open when it was looked at.
            let arrived = pushed.partition_point(|at| *at <= sample.at).checked_sub(1).map(|last| pushed[last]);
            let begin = arrived.filter(|_| !sample.deaf).map_or(begin, |at| begin.max(at)).max(gone.unwrap_or(0));
            let length = sample.at - begin;
            let bound = if sample.deaf { audited } else { bound + 2 * SEC };
            if length > bound && worst.is_none_or(|(longest, ..)| length > longest) {
                worst = Some((length, begin, sample.deaf));
            }
        }
        if let Some((length, begin, deaf)) = worst {
            let what = if deaf { "the subscription is gone" } else { "the path is dead" };
            self.violate("health-late", begin, format!("{what} for {} s, and the status is healthy", length / SEC));
        }
        // How long it takes until events arrive again.
        let mut down: Option<Us> = None;
        for sample in &samples {
            if sample.delivers {
                if let Some(begin) = down.take() {
                    self.stats.back_ms.push((sample.at - begin) / MS);
                }
            } else if down.is_none() || !sample.reachable || sample.frozen {
                down = Some(sample.at);
            }
        }
        // Each fault begins it anew, and so does an answer that the calls of a process before this one have used up.
        let faults = self.core.applied.iter().map(|(_, at, _)| *at);
        let refusals =
            self.core.service.misdeeds.iter().filter(|it| it.what == "a rate group is exceeded").map(|it| it.at);
        let last = faults.chain(refusals).filter(|at| *at <= over).max();
        if let Some(begin) = down.map(|begin| last.map_or(begin, |at| begin.max(at)))
            && self.schedule.crashes.is_none()
            && over.saturating_sub(begin) > 100 * SEC
            && samples.last().is_some_and(|sample| !sample.delivers)
        {
            self.violate("not-back", begin, format!("nothing would arrive for {} s, to the end", (over - begin) / SEC));
        }
    }

    /// Without faults there is no gap, and no second of false health.
    fn calm(&mut self) {
        if !self.schedule.is_calm() || self.schedule.mode == Mode::FailOver {
            return;
        }
        // A count whose messages are not found in time is a gap.
        let lags = self.schedule.enrich && self.schedule.knobs.sync_lag_ms > 0;
        let is_lag = |gap: &&Gap| !(lags && gap.cause == "polled_in_part");
        // A poll has to be held for a while to prove anything (pubnub.md §3.2): not yet at a channel that the service has
        // changed within the last second.
        let closing = self.record.closing;
        let mut moved = self.core.service.subs.all.iter().filter_map(|sub| sub.moved);
        let is_moving = moved.any(|at| at <= closing && closing < at + SEC);
        let is_false = |gap: &&Gap| !(is_moving && gap.cause == "ended_offline");
        // If the service sends no time, a wall clock that was set looks like a machine that slept while a former channel
        // was still read.
        let is_set = |fault: &Fault| matches!(fault.what, FaultKind::WallJump(_));
        let may_have_slept = self.schedule.knobs.http_date == 0 && self.schedule.faults.iter().any(is_set);
        let is_sleep = |gap: &&Gap| !(may_have_slept && gap.cause == "address_moved");
        let gaps = self.gaps.iter().filter(is_lag).filter(is_false).filter(is_sleep);
        let gaps: Vec<(Us, String)> = gaps.map(|gap| (gap.at, gap.cause.clone())).collect();
        for (at, cause) in gaps {
            self.violate("false-gap", at, format!("{cause} without a fault"));
        }
        let first = self.core.samples.iter().position(|sample| sample.healthy);
        let (Some(first), closing) = (first, self.record.closing) else {
            return self.violate("false-health", 0, "never healthy".into());
        };
        // A moment between two polls, two channels or two connections does not count.
        const MOMENT: usize = 5;
        // A machine that may have slept checks its connections, which takes a few exchanges.
        let moment = if may_have_slept { 2 * MOMENT } else { MOMENT };
        let sick = self.core.samples[first..]
            .windows(moment)
            .find(|part| part.iter().all(|sample| !sample.healthy && sample.at < closing));
        if let Some([sample, ..]) = sick {
            self.violate("false-health", sample.at, "unhealthy without a fault".into());
        }
    }

    /// What the service saw.
    fn service(&mut self) {
        let delays = self.schedule.faults.iter().any(|fault| {
            matches!(
                fault.what,
                FaultKind::Slow { .. }
                    | FaultKind::Hold(..)
                    | FaultKind::BlackHole(_)
                    | FaultKind::Hang { .. }
                    | FaultKind::Freeze(_)
                    | FaultKind::Sleep(_)
            )
        });
        // Another process cannot know the calls before it.
        let restarted = |at: Us| {
            self.schedule.faults.iter().any(|fault| {
                matches!(fault.what, FaultKind::Restart { .. }) && fault.at < at && at < fault.at + 100 * SEC
            }) || self.record.crashes.iter().any(|crash| *crash < at && at < crash + 100 * SEC)
        };
        // A limit below the documented one (rest §4.1) that no answer names cannot be kept.
        let knobs = &self.schedule.knobs;
        let is_secret = |detail: &str| {
            let limits =
                [("Auth", knobs.rate_auth, 5), ("Light", knobs.rate_light, 50), ("Medium", knobs.rate_medium, 40)];
            let group = limits.iter().find(|(name, ..)| detail.starts_with(name));
            knobs.rate_headers == 0 && group.is_some_and(|(_, limit, documented)| limit < documented)
        };
        for misdeed in &self.core.service.misdeeds {
            let class = match misdeed.what {
                "a rate group is exceeded" if is_secret(&misdeed.detail) => continue,
                "a rate group is exceeded" if delays || restarted(misdeed.at) => continue,
                "a rate group is exceeded" => "rate",
                "another program's subscription is touched" => "foreign",
                "two polls of one agent session" => "two-polls",
                _ => "protocol",
            };
            self.out.push(Violation { class, at: misdeed.at, detail: format!("{}: {}", misdeed.what, misdeed.detail) });
        }
        let record = self.record;
        let end = record.closed.unwrap_or(record.closing);
        let left = record.left.len();
        if record.deleted && left > 0 {
            self.violate("left-behind", end, format!("{left} subscriptions are left, and the end says that none is"));
        } else if left > 0 && record.closed.is_some() {
            let quiet = record.closing.saturating_sub(40 * SEC);
            let troubled = self
                .schedule
                .faults
                .iter()
                .any(|fault| fault.at + 90 * SEC > quiet || matches!(fault.what, FaultKind::Http { .. }));
            // A client whose creation was not answered never learns the id.
            let may_be_unread = |created: &Us| {
                self.core.applied.iter().any(|(_, at, _)| *at < created + 60 * SEC && *created < at + 100 * SEC)
            };
            if !troubled && !record.left.iter().all(may_be_unread) {
                self.violate("left-behind", end, format!("{left} subscriptions are left"));
            }
        }
        let missing = self.core.foreign_missing(end);
        if missing > 0 {
            self.violate("foreign", end, format!("{missing} subscriptions of another program are gone"));
        }
    }
}
