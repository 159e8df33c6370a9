//! The state, and what to ask the service next. No IO; the time is an argument.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::time::{Duration, SystemTime};

use serde_json::value::RawValue;
use tokio::time::Instant;

use super::change::StateChange;
use crate::calls::session::{Arrived, Ended, Tracked};
use crate::catch_up::SyncToken;
use crate::error::{Disposition, Error, ErrorKind};
use crate::event::lenient::Body as _;
use crate::event::{Presence, TelephonySession, TelephonySessionId, TelephonyStatus};
use crate::ids::ExtensionId;

/// A new call enters `active-calls` 3 to 10 s after its beginning (ringcentral-rest-and-events.md §6.3).
const LAG: Duration = Duration::from_secs(10);
/// Between two requests of one list, however many gaps there are: some lists are in rate group Heavy.
const SPACING: Duration = Duration::from_secs(10);
/// After a failed list.
const RETRY: Duration = Duration::from_secs(30);
/// After a refused one: permissions may be granted.
const REFUSED: Duration = Duration::from_secs(600);
/// A call without an event for this long is asked about: its end may have been missed.
const SILENT: Duration = Duration::from_secs(15 * 60);
/// A call that changed while it was asked about is asked about again then.
const CHECK_AGAIN: Duration = Duration::from_secs(5);
/// How often a call is asked about again while a list is read.
const MAX_AGAIN: u32 = 3;
const MAX_CALLS: usize = 10_000;
const MAX_PRESENCES: usize = 20_000;
/// Presence events during a list, which are applied to it.
const MAX_MEANWHILE: usize = 4 << 20;
/// Changes that wait for the reader.
const MAX_CHANGES: usize = 20_000;

/// The scope of one list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    Presence { is_detailed: bool },
    Calls,
}

/// A question to the service; `list` is its number.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Presence { list: usize, from: Option<SyncToken> },
    Calls { list: usize, page: u32 },
    Session { list: usize, id: TelephonySessionId },
}

/// The service's answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// Bodies of presence events, and where the list continues.
    Presence { found: Vec<Found>, more: Option<SyncToken>, is_whole: bool },
    /// Calls under way, and whether there may be more pages.
    Calls { ids: Vec<TelephonySessionId>, more: bool, is_whole: bool },
    /// A call; `None` if it is over.
    Session(Option<Box<TelephonySession>>),
}

/// The presence of one extension.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) extension: ExtensionId,
    pub(super) body: Box<RawValue>,
    /// When it was read, by the service's clock.
    pub(super) at: Option<SystemTime>,
}

#[derive(Debug)]
pub(super) enum Step {
    Change(StateChange),
    Ask(Request),
    /// Nothing before then.
    Wait(Option<Instant>),
}

#[derive(Debug, Default)]
struct Entry {
    presence: Presence,
    /// The number of the last event.
    sequence: Option<i64>,
    /// When the last event was sent.
    at: Option<SystemTime>,
    /// Events that were sent before this are part of the list.
    listed: Option<SystemTime>,
}

impl Entry {
    fn accepts(&self, sequence: Option<i64>, at: Option<SystemTime>) -> bool {
        if at.zip(self.listed).is_some_and(|(at, listed)| at < listed) {
            return false;
        }
        match (sequence.zip(self.sequence), at.zip(self.at)) {
            (Some((new, old)), _) => new > old,
            (None, Some((new, old))) => new >= old,
            (None, None) => true,
        }
    }

    /// Merges a body: an absent field did not change.
    fn absorb(&mut self, body: &RawValue) -> bool {
        let before = self.presence.clone();
        let mut change = Presence::default();
        change.absorb(body.into());
        self.presence.absorb(body.into());
        // Ended calls may be listed once more, and a list may be omitted when the last call ends.
        let has_none = change.telephony_status == Some(TelephonyStatus::NoCall) && change.active_calls.is_empty();
        let calls = &mut self.presence.active_calls;
        calls.retain(|call| !has_none && call.telephony_status != Some(TelephonyStatus::NoCall));
        if has_none && change.total_active_calls.is_none() {
            self.presence.total_active_calls = None;
        }
        self.presence != before
    }
}

#[derive(Debug)]
struct Call {
    tracked: Tracked,
    /// The number of its last event, counted over all calls.
    heard: u64,
    check_at: Instant,
}

#[derive(Debug)]
struct List {
    what: Listed,
    is_current: bool,
    /// A list that was requested earlier proves nothing.
    needed: Instant,
    due: Option<Instant>,
    /// When it was requested last.
    requested: Option<Instant>,
    reading: Option<Reading>,
}

/// A list that is being read.
#[derive(Debug)]
struct Reading {
    began: Instant,
    next: Option<Request>,
    is_whole: bool,
    /// Calls to ask about.
    checks: BTreeSet<TelephonySessionId>,
    /// How often a call changed while it was asked about.
    again: BTreeMap<TelephonySessionId, u32>,
}

#[derive(Debug)]
struct Asked {
    request: Request,
    at: Instant,
    heard: u64,
}

/// The state of calls and presence.
#[derive(Debug)]
pub(super) struct State {
    presence: BTreeMap<ExtensionId, Entry>,
    calls: BTreeMap<TelephonySessionId, Call>,
    ended: Ended,
    heard: u64,
    lists: Vec<List>,
    asked: Option<Asked>,
    /// Presence events since the list was requested.
    meanwhile: Vec<(ExtensionId, Option<SystemTime>, Box<RawValue>)>,
    meanwhile_bytes: usize,
    /// Changes that were not read, each once.
    changes: VecDeque<StateChange>,
    queued: HashSet<StateChange>,
    was_current: bool,
    /// Whether it was current before the gaps that have not ended.
    before_gap: Option<bool>,
    /// Whether something did not fit into the bounds.
    is_full: bool,
    last_error: Option<Error>,
}

impl State {
    pub(super) fn new(lists: impl IntoIterator<Item = Listed>, now: Instant) -> Self {
        let list = |what| List { what, is_current: false, needed: now, due: None, requested: None, reading: None };
        let mut state = Self {
            presence: BTreeMap::new(),
            calls: BTreeMap::new(),
            ended: Ended::default(),
            heard: 0,
            lists: lists.into_iter().map(list).collect(),
            asked: None,
            meanwhile: Vec::new(),
            meanwhile_bytes: 0,
            changes: VecDeque::new(),
            queued: HashSet::new(),
            was_current: false,
            before_gap: None,
            is_full: false,
            last_error: None,
        };
        state.relist(now);
        state
    }

    pub(super) fn calls(&self) -> impl Iterator<Item = &TelephonySession> {
        self.calls.values().map(|call| call.tracked.session())
    }

    pub(super) fn call(&self, id: &TelephonySessionId) -> Option<&TelephonySession> {
        self.calls.get(id).map(|call| call.tracked.session())
    }

    pub(super) fn presences(&self) -> impl Iterator<Item = (&ExtensionId, &Presence)> {
        self.presence.iter().map(|(id, entry)| (id, &entry.presence))
    }

    pub(super) fn presence(&self, extension: &ExtensionId) -> Option<&Presence> {
        self.presence.get(extension).map(|entry| &entry.presence)
    }

    pub(super) fn is_current(&self) -> bool {
        !self.is_full && self.lists.iter().all(|list| list.is_current)
    }

    pub(super) fn last_error(&self) -> Option<&Error> {
        self.last_error.as_ref()
    }

    /// Events are missing, or may be: until the gap ends, no list would help.
    pub(super) fn gap(&mut self) {
        self.before_gap.get_or_insert_with(|| self.lists.iter().all(|list| list.is_current));
        for list in &mut self.lists {
            (list.is_current, list.due, list.reading) = (false, None, None);
        }
        self.note_currency();
    }

    /// Every gap ended. `complete`: every event of it was delivered.
    pub(super) fn resumed(&mut self, complete: bool, now: Instant) {
        if complete && self.before_gap == Some(true) {
            for list in &mut self.lists {
                list.is_current = true;
            }
            self.before_gap = None;
            self.note_currency();
        } else {
            self.relist(now);
        }
    }

    /// Reads every list; until then the state is stale.
    pub(super) fn relist(&mut self, now: Instant) {
        self.before_gap = None;
        for list in &mut self.lists {
            let lag = if list.what == Listed::Calls { LAG } else { Duration::ZERO };
            let due = list.requested.map_or(now, |at| now.max(at + SPACING));
            (list.is_current, list.needed, list.due, list.reading) = (false, now + lag, Some(due), None);
        }
        self.note_currency();
    }

    fn note_currency(&mut self) {
        let is_current = self.is_current();
        if is_current != self.was_current {
            self.was_current = is_current;
            self.note(self.currency());
        }
    }

    fn currency(&self) -> StateChange {
        if self.was_current { StateChange::Current } else { StateChange::Stale }
    }

    fn note(&mut self, change: StateChange) {
        if self.changes.len() >= MAX_CHANGES {
            // One change that stands for all.
            self.changes.clear();
            self.queued.clear();
            let of_all = self.currency();
            self.queued.insert(of_all.clone());
            self.changes.push_back(of_all);
        } else if self.queued.insert(change.clone()) {
            self.changes.push_back(change);
        }
    }

    /// The next change that still holds: a later one of the same thing may have replaced it.
    fn next_change(&mut self) -> Option<StateChange> {
        loop {
            let change = self.changes.pop_front()?;
            self.queued.remove(&change);
            let holds = match &change {
                StateChange::Call(id) => self.calls.contains_key(id),
                StateChange::CallEnded(id) => !self.calls.contains_key(id),
                StateChange::Presence(_) => true,
                StateChange::Current | StateChange::Stale => change == self.currency(),
            };
            if holds {
                return Some(change);
            }
        }
    }

    /// A presence event.
    pub(super) fn presence_event(
        &mut self,
        extension: ExtensionId,
        body: &RawValue,
        sequence: Option<i64>,
        at: Option<SystemTime>,
    ) {
        if self.presence.len() >= MAX_PRESENCES && !self.presence.contains_key(&extension) {
            self.is_full = true;
            self.note_currency();
            return;
        }
        let is_new = !self.presence.contains_key(&extension);
        let entry = self.presence.entry(extension.clone()).or_default();
        if !entry.accepts(sequence, at) {
            return;
        }
        entry.sequence = sequence.or(entry.sequence);
        entry.at = at.or(entry.at);
        let changed = entry.absorb(body) || is_new;
        if matches!(&self.asked, Some(Asked { request: Request::Presence { .. }, .. })) {
            self.meanwhile_bytes = self.meanwhile_bytes.saturating_add(body.get().len());
            if self.meanwhile_bytes <= MAX_MEANWHILE {
                self.meanwhile.push((extension.clone(), at, body.to_owned()));
            }
        }
        if changed {
            self.note(StateChange::Presence(extension));
        }
    }

    /// An event about a call.
    pub(super) fn call_event(&mut self, event: &TelephonySession, now: Instant) {
        let Some(id) = event.telephony_session_id.clone() else { return };
        self.heard += 1;
        if let Some(call) = self.calls.get_mut(&id) {
            call.heard = self.heard;
            // One that is due is still needed: events name only the party that changed.
            if call.check_at > now {
                call.check_at = now + SILENT;
            }
            let changed = call.tracked.apply(event);
            if call.tracked.is_over() {
                self.end_call(&id);
            } else if changed {
                self.note(StateChange::Call(id));
            }
            return;
        }
        let Some(Arrived { tracked, is_back }) = self.ended.tracked(id.as_str(), event) else { return };
        self.insert(id.clone(), tracked, now);
        if is_back && let Some(call) = self.calls.get_mut(&id) {
            // A late event looks the same.
            call.check_at = now;
        }
    }

    fn insert(&mut self, id: TelephonySessionId, tracked: Tracked, now: Instant) {
        if tracked.is_over() {
            self.ended.insert(id.as_str().to_owned(), tracked, self.heard);
            return;
        }
        if self.calls.len() >= MAX_CALLS {
            self.is_full = true;
            self.note_currency();
            return;
        }
        let call = Call { tracked, heard: self.heard, check_at: now + SILENT };
        self.calls.insert(id.clone(), call);
        self.note(StateChange::Call(id));
    }

    fn end_call(&mut self, id: &TelephonySessionId) {
        if let Some(call) = self.calls.remove(id) {
            self.ended.insert(id.as_str().to_owned(), call.tracked, self.heard);
            self.note(StateChange::CallEnded(id.clone()));
        }
    }

    pub(super) fn step(&mut self, now: Instant) -> Step {
        if let Some(change) = self.next_change() {
            return Step::Change(change);
        }
        if self.asked.is_none()
            && let Some(request) = self.next_request(now)
        {
            self.asked = Some(Asked { request: request.clone(), at: now, heard: self.heard });
            (self.meanwhile, self.meanwhile_bytes) = (Vec::new(), 0);
            return Step::Ask(request);
        }
        Step::Wait(if self.asked.is_some() { None } else { self.next_time() })
    }

    fn next_request(&mut self, now: Instant) -> Option<Request> {
        for (at, list) in self.lists.iter_mut().enumerate() {
            if let Some(reading) = &mut list.reading {
                if let Some(request) = reading.next.take() {
                    return Some(request);
                }
                if let Some(id) = reading.checks.pop_first() {
                    return Some(Request::Session { list: at, id });
                }
            } else if list.due.is_some_and(|due| due <= now) {
                (list.due, list.requested) = (None, Some(now));
                let reading =
                    Reading { began: now, next: None, is_whole: true, checks: BTreeSet::new(), again: BTreeMap::new() };
                list.reading = Some(reading);
                return Some(match list.what {
                    Listed::Presence { .. } => Request::Presence { list: at, from: None },
                    Listed::Calls => Request::Calls { list: at, page: 1 },
                });
            }
        }
        let list = self.lists.iter().position(|list| list.what == Listed::Calls)?;
        let (id, call) = self.calls.iter_mut().find(|(_, call)| call.check_at <= now)?;
        call.check_at = now + SILENT;
        Some(Request::Session { list, id: id.clone() })
    }

    fn next_time(&self) -> Option<Instant> {
        let lists = self.lists.iter().filter_map(|list| list.due);
        let can_check = self.lists.iter().any(|list| list.what == Listed::Calls);
        lists.chain(self.calls.values().filter(|_| can_check).map(|call| call.check_at)).min()
    }

    /// The answer to the request of the last [`Step::Ask`].
    pub(super) fn answered(&mut self, answer: Result<Answer, Error>, now: Instant) {
        let Some(asked) = self.asked.take() else { return };
        let (Request::Presence { list, .. } | Request::Calls { list, .. } | Request::Session { list, .. }) =
            asked.request.clone();
        match (&asked.request, answer) {
            (_, Err(error)) => self.failed(list, error, now),
            (Request::Presence { .. }, Ok(Answer::Presence { found, more, is_whole })) => {
                self.presence_listed(list, found, now.saturating_duration_since(asked.at));
                let next = more.map(|from| Request::Presence { list, from: Some(from) });
                self.read_on(list, next, is_whole, now);
            }
            (Request::Calls { page, .. }, Ok(Answer::Calls { ids, more, is_whole })) => {
                if let Some(reading) = self.lists.get_mut(list).and_then(|list| list.reading.as_mut()) {
                    reading.checks.extend(ids);
                }
                let next = more.then_some(Request::Calls { list, page: page.saturating_add(1) });
                let is_last = next.is_none();
                if is_last {
                    self.plan_checks(list);
                }
                self.read_on(list, next, is_whole, now);
            }
            (Request::Session { id, .. }, Ok(Answer::Session(session))) => {
                self.session_read(list, id, session.map(|it| *it), asked.heard, now);
                self.read_on(list, None, true, now);
            }
            (_, Ok(_)) => self.failed(list, Error::new(ErrorKind::Protocol, "unexpected answer"), now),
        }
    }

    fn failed(&mut self, list: usize, error: Error, now: Instant) {
        let is_final = error.disposition() == Disposition::Fatal;
        let pause = if is_final { REFUSED } else { RETRY.max(error.retry_after().unwrap_or_default()) };
        self.last_error = Some(error);
        // A check of a silent call is repeated later; a list is begun again.
        if let Some(list) = self.lists.get_mut(list).filter(|list| list.reading.is_some()) {
            (list.reading, list.due) = (None, Some(now + pause));
        }
    }

    fn presence_listed(&mut self, list: usize, found: Vec<Found>, took: Duration) {
        let is_detailed = self.lists.get(list).is_some_and(|list| list.what == Listed::Presence { is_detailed: true });
        let meanwhile = std::mem::take(&mut self.meanwhile);
        for Found { extension, body, at } in found {
            if self.presence.len() >= MAX_PRESENCES && !self.presence.contains_key(&extension) {
                self.is_full = true;
                continue;
            }
            let entry = self.presence.entry(extension.clone()).or_default();
            let before = std::mem::take(&mut entry.presence);
            entry.absorb(&body);
            if !is_detailed {
                entry.presence.active_calls.clone_from(&before.active_calls);
                entry.presence.total_active_calls = before.total_active_calls;
            }
            // It was read at any time since it was requested.
            entry.listed = at.and_then(|at| at.checked_sub(took + Duration::from_secs(1)));
            for (of, at, event) in &meanwhile {
                // An event that was sent before is part of the list.
                let is_older = at.zip(entry.listed).is_some_and(|(at, listed)| at < listed);
                if *of == extension && !is_older {
                    entry.absorb(event);
                }
            }
            if entry.presence != before {
                self.note(StateChange::Presence(extension));
            }
        }
        if self.meanwhile_bytes > MAX_MEANWHILE
            && let Some(reading) = self.lists.get_mut(list).and_then(|list| list.reading.as_mut())
        {
            reading.is_whole = false;
        }
    }

    /// Listed calls, and known ones that the list may omit because it lags.
    fn plan_checks(&mut self, list: usize) {
        let Some(reading) = self.lists.get_mut(list).and_then(|list| list.reading.as_mut()) else { return };
        reading.checks.extend(self.calls.keys().cloned());
    }

    fn session_read(
        &mut self,
        list: usize,
        id: &TelephonySessionId,
        session: Option<TelephonySession>,
        heard: u64,
        now: Instant,
    ) {
        let last = self.calls.get(id).map(|call| call.heard).or(self.ended.mark(id.as_str()));
        if last.is_some_and(|last| last > heard) {
            // An event came meanwhile: which of both is newer is unknown.
            if let Some(reading) = self.lists.get_mut(list).and_then(|list| list.reading.as_mut()) {
                let again = reading.again.entry(id.clone()).or_default();
                *again += 1;
                if *again <= MAX_AGAIN {
                    reading.checks.insert(id.clone());
                } else {
                    reading.is_whole = false;
                }
            } else if let Some(call) = self.calls.get_mut(id) {
                call.check_at = now + CHECK_AGAIN;
            }
            return;
        }
        let Some(session) = session else { return self.end_call(id) };
        // The resource names the call by `id`, and has no number.
        let session = TelephonySession { telephony_session_id: Some(id.clone()), sequence: None, ..session };
        if let Some(call) = self.calls.get_mut(id) {
            let changed = call.tracked.replace(session);
            if call.tracked.is_over() {
                self.end_call(id);
            } else if changed {
                self.note(StateChange::Call(id.clone()));
            }
        } else {
            let mut tracked = self.ended.take(id.as_str()).unwrap_or_default();
            tracked.replace(session);
            self.insert(id.clone(), tracked, now);
        }
    }

    /// Continues a list, or ends it.
    fn read_on(&mut self, at: usize, next: Option<Request>, is_whole: bool, now: Instant) {
        let Some(list) = self.lists.get_mut(at) else { return };
        let Some(reading) = &mut list.reading else { return };
        reading.is_whole &= is_whole;
        reading.next = next;
        if reading.next.is_some() || !reading.checks.is_empty() {
            return;
        }
        let (began, is_whole) = (reading.began, reading.is_whole);
        list.reading = None;
        if !is_whole {
            list.due = Some(now + RETRY);
        } else if began < list.needed {
            list.due = Some(list.needed);
        } else {
            list.is_current = true;
            self.last_error = None;
        }
        self.note_currency();
    }
}

#[cfg(test)]
mod tests;
