//! Which ended calls wait for what, and what to ask the service next. No IO; the time is an argument.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::completed::{CallCompleted, CallPart, MissingPart, MissingReason};
use super::session::{Arrived, Ended, Tracked, is_new, key_of};
use crate::error::{Disposition, Error, ErrorKind};
use crate::event::{
    CallRecord, CallRecording, CallResult, Message, MessageId, MessageType, Party, RecordingId, TelephonySession,
    TelephonySessionId,
};

/// Calls enter the log 15 to 30 s after their end (ringcentral-rest-and-events.md §6.3).
const SETTLE: Duration = Duration::from_secs(20);
/// A call that entered the log late, a recording in processing: this much later again.
const RETRY: Duration = Duration::from_secs(15);
/// Between two readings of the log, which is in rate group Heavy (10 per minute by default): catch-up needs its share.
const SPACING: Duration = Duration::from_secs(12);
/// An open call without an event for this long is asked about: its end may have been missed.
const SILENT: Duration = Duration::from_secs(15 * 60);
/// A call whose first event is its beginning is in the log from about then on.
const NARROW: Duration = Duration::from_secs(5 * 60);
/// Otherwise, or if that reading did not find it, it may have begun this long before.
const WIDE: Duration = Duration::from_secs(3_600);
/// Pages of one reading: 2 000 calls.
const MAX_PAGES: u32 = 8;
/// A service that fails to say whether an open call still exists is asked again then.
const CHECK_AGAIN: Duration = Duration::from_secs(60);
/// An open call about which nothing was heard for this long is given up.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);
/// Bounds of the calls that are open or wait to be joined.
const MAX_CALLS: usize = 10_000;
const MAX_BYTES: usize = 32 << 20;
/// Calls that were given up for a bound and wait for the reader.
const MAX_READY: usize = 1_000;
/// More records, recordings or voicemails than any call has.
const MAX_PARTS: usize = 64;

/// A question to the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// One page of the call log of `scope`: calls that began from `from` to `to`, newest first.
    Log { scope: String, from: SystemTime, to: Option<SystemTime>, page: u32 },
    /// A recording of a call.
    Recording { key: String, scope: String, id: RecordingId },
    /// A voicemail that a call left, in the message store of `scope`.
    Voicemail { key: String, scope: String, id: MessageId },
    /// The present parties of an open call.
    Session { key: String, scope: String, id: TelephonySessionId },
}

/// The service's answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// Records, the start of the oldest, and whether there may be older ones.
    Log {
        records: Vec<CallRecord>,
        oldest: Option<SystemTime>,
        more: bool,
    },
    Recording(Box<CallRecording>),
    Voicemail(Box<Message>),
    Session(Vec<Party>),
}

/// The next step.
#[derive(Debug)]
pub(super) enum Step {
    Deliver(Box<CallCompleted>),
    Ask(Request),
    /// Nothing before then; `None` if no call is open.
    Wait(Option<Instant>),
}

#[derive(Debug)]
struct Call {
    tracked: Tracked,
    /// The path of the account or extension in the API.
    scope: String,
    /// The earliest time in an event, by the service's clock.
    first: SystemTime,
    /// Whether the first event was the beginning.
    from_start: bool,
    bytes: usize,
    phase: Phase,
    /// The order of arrival.
    number: u64,
}

#[derive(Debug)]
enum Phase {
    Open { heard: Instant, check_at: Instant },
    Joining(Box<Joining>),
}

impl Phase {
    fn open(now: Instant) -> Self {
        Self::Open { heard: now, check_at: now + SILENT }
    }

    fn joining(tracked: &Tracked, within: Duration, now: Instant) -> Self {
        let mut joining = Joining {
            deadline: now + within,
            log_at: Some(now + SETTLE),
            readings: 0,
            records: Vec::new(),
            recordings: Vec::new(),
            voicemails: Vec::new(),
            todo: Vec::new(),
            missing: Vec::new(),
        };
        for recording in tracked.session().parties.iter().flat_map(|party| &party.recordings) {
            joining.expect(recording.id.clone().map(Detail::Recording), now + SETTLE);
        }
        Self::Joining(Box::new(joining))
    }
}

/// The known parts of an ended call, and the missing ones.
#[derive(Debug)]
struct Joining {
    deadline: Instant,
    /// When the log is read next; `None` once the record was found or refused.
    log_at: Option<Instant>,
    readings: u32,
    records: Vec<CallRecord>,
    recordings: Vec<CallRecording>,
    voicemails: Vec<Message>,
    todo: Vec<Todo>,
    missing: Vec<MissingPart>,
}

/// A part that exists and is not read yet.
#[derive(Debug)]
struct Todo {
    at: Instant,
    what: Detail,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Detail {
    Recording(RecordingId),
    Voicemail { extension: String, id: MessageId },
}

impl Detail {
    fn part(&self) -> CallPart {
        match self {
            Self::Recording(id) => CallPart::Recording(id.clone()),
            Self::Voicemail { id, .. } => CallPart::Voicemail(Some(id.clone())),
        }
    }
}

impl Joining {
    /// A part that is to be read, unless that was tried already.
    fn expect(&mut self, what: Option<Detail>, at: Instant) {
        let Some(what) = what else { return };
        let is_read = match &what {
            Detail::Recording(id) => self.recordings.iter().any(|it| it.id.as_ref() == Some(id)),
            Detail::Voicemail { id, .. } => self.voicemails.iter().any(|it| it.id.as_ref() == Some(id)),
        };
        let is_known = self.todo.iter().any(|todo| todo.what == what)
            || self.missing.iter().any(|missing| missing.part == what.part());
        if !is_read && !is_known && self.todo.len() < MAX_PARTS {
            self.todo.push(Todo { at, what });
        }
    }

    /// A record of this call; a later reading of the same one replaces it.
    fn take_in(&mut self, record: CallRecord) {
        if record.deleted == Some(true) {
            return;
        }
        let is_same = |known: &&mut CallRecord| known.id.is_some() && known.id == record.id;
        if let Some(known) = self.records.iter_mut().find(is_same) {
            *known = record;
        } else if self.records.len() < MAX_PARTS {
            self.records.push(record);
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.log_at.is_some_and(|at| at <= now)
    }

    /// The log was read.
    fn log_read(&mut self, now: Instant) {
        self.readings = self.readings.saturating_add(1);
        let mut details = Vec::new();
        for part in self.records.iter().flat_map(|record| record.parts().map(move |part| (record, part))) {
            let (record, part) = part;
            details.extend(part.recording.as_ref().and_then(|it| it.id.clone()).map(Detail::Recording));
            let message = part.message.as_ref().filter(|it| it.message_type != Some(MessageType::Fax));
            let extension = part.extension.as_ref().or(record.extension.as_ref());
            let extension = extension.map_or("~", |id| id.as_str()).to_owned();
            details.extend(message.and_then(|it| it.id.clone()).map(|id| Detail::Voicemail { extension, id }));
        }
        for detail in details {
            self.expect(Some(detail), now);
        }
        let is_whole = !self.records.is_empty() && !self.records.iter().any(lacks_voicemail);
        self.log_at = (!is_whole).then_some(now + RETRY);
    }

    fn log_failed(&mut self, error: &Error, now: Instant) {
        if is_final(error) {
            self.log_at = None;
            self.missing.push(MissingPart { part: CallPart::Record, reason: MissingReason::Failed(error.clone()) });
        } else {
            self.log_at = Some(now + RETRY.max(error.retry_after().unwrap_or_default()));
        }
    }
}

/// The state of all calls.
#[derive(Debug)]
pub(super) struct Joiner {
    within: Duration,
    calls: BTreeMap<String, Call>,
    bytes: usize,
    arrived: u64,
    over: Ended,
    ready: VecDeque<CallCompleted>,
    dropped: u64,
    asked: Option<Request>,
    /// The next page of the reading that is under way.
    next_page: Option<Request>,
    /// When the reading that is under way began.
    reading: Instant,
    /// The next reading begins then at the earliest.
    log_from: Instant,
    /// No more events come: open calls are given up then.
    finish_by: Option<Instant>,
}

impl Joiner {
    pub(super) fn new(within: Duration, now: Instant) -> Self {
        Self {
            within,
            calls: BTreeMap::new(),
            bytes: 0,
            arrived: 0,
            over: Ended::default(),
            ready: VecDeque::new(),
            dropped: 0,
            asked: None,
            next_page: None,
            reading: now,
            log_from: now,
            finish_by: None,
        }
    }

    pub(super) fn set_within(&mut self, within: Duration) {
        self.within = within;
    }

    /// Calls that are open, or wait to be joined or delivered.
    pub(super) fn pending(&self) -> usize {
        self.calls.len() + self.ready.len()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// An event of `bytes` about a call in `scope`; `at`: when, by the service's clock.
    pub(super) fn event(&mut self, event: &TelephonySession, scope: &str, at: SystemTime, bytes: usize, now: Instant) {
        let Some(key) = key_of(event) else { return };
        if let Some(call) = self.calls.get_mut(&key) {
            if call.tracked.apply(event) {
                call.bytes = call.bytes.saturating_add(bytes);
                self.bytes = self.bytes.saturating_add(bytes);
            }
            call.first = call.first.min(at);
            call.from_start |= event.parties.iter().any(is_new);
            match (&call.phase, call.tracked.is_over()) {
                (Phase::Open { .. }, true) => call.phase = Phase::joining(&call.tracked, self.within, now),
                // An ended call may continue: what was found of it may not be all.
                (phase, false) => {
                    // A check that is due is still needed: events name only the party that changed.
                    let check_at = match phase {
                        Phase::Open { check_at, .. } if *check_at <= now => *check_at,
                        _ => now + SILENT,
                    };
                    call.phase = Phase::Open { heard: now, check_at };
                }
                (Phase::Joining(_), true) => {}
            }
        } else {
            let Some(Arrived { tracked, is_back }) = self.over.tracked(&key, event) else { return };
            self.arrived += 1;
            self.bytes = self.bytes.saturating_add(bytes);
            let phase = match (tracked.is_over(), is_back) {
                (true, _) => Phase::joining(&tracked, self.within, now),
                (false, false) => Phase::open(now),
                // A late event looks the same.
                (false, true) => Phase::Open { heard: now, check_at: now },
            };
            let (scope, number) = (scope.to_owned(), self.arrived);
            let from_start = event.parties.iter().any(is_new);
            self.calls.insert(key, Call { tracked, scope, first: at, from_start, bytes, phase, number });
        }
        while self.calls.len() > MAX_CALLS || self.bytes > MAX_BYTES && self.calls.len() > 1 {
            self.give_up_oldest();
        }
    }

    /// Events may have been missed: every open call is asked about.
    pub(super) fn missed(&mut self, now: Instant) {
        for call in self.calls.values_mut() {
            if let Phase::Open { check_at, .. } = &mut call.phase {
                *check_at = now;
            }
        }
    }

    /// No more events come.
    pub(super) fn finish(&mut self, now: Instant) {
        self.finish_by = Some(now + self.within);
        self.missed(now);
    }

    fn give_up_oldest(&mut self) {
        let oldest = self.calls.iter().min_by_key(|(_, call)| call.number).map(|(key, _)| key.clone());
        let Some(call) = oldest.and_then(|key| self.end(&key, &MissingReason::TooManyCalls)) else { return };
        if self.ready.len() < MAX_READY {
            self.ready.push_back(call);
        } else {
            self.dropped += 1;
        }
    }

    pub(super) fn step(&mut self, now: Instant) -> Step {
        self.begin_without_id(now);
        if let Some(call) = self.ready.pop_front().or_else(|| self.next_ended(now)) {
            return Step::Deliver(Box::new(call));
        }
        if self.asked.is_none()
            && let Some(request) = self.next_request(now)
        {
            self.asked = Some(request.clone());
            return Step::Ask(request);
        }
        Step::Wait(self.next_time())
    }

    /// A silent call that cannot be asked about counts as ended.
    fn begin_without_id(&mut self, now: Instant) {
        for call in self.calls.values_mut() {
            let is_due = matches!(call.phase, Phase::Open { check_at, .. } if check_at <= now);
            if is_due && call.tracked.session().telephony_session_id.is_none() {
                call.phase = Phase::joining(&call.tracked, self.within, now);
            }
        }
    }

    /// A call with nothing left to find, or no time left.
    fn next_ended(&mut self, now: Instant) -> Option<CallCompleted> {
        let finish_by = self.finish_by;
        let reason = |call: &Call| match &call.phase {
            Phase::Joining(it) if it.deadline <= now => Some(MissingReason::NotFound),
            Phase::Joining(it) if it.log_at.is_none() && it.todo.is_empty() => Some(MissingReason::NotFound),
            Phase::Open { heard, .. } if *heard + LONGEST <= now || finish_by.is_some_and(|by| by <= now) => {
                Some(MissingReason::NotEnded)
            }
            _ => None,
        };
        let (key, reason) = self.calls.iter().find_map(|(key, call)| Some((key.clone(), reason(call)?)))?;
        self.end(&key, &reason)
    }

    /// Ends a call with what is known of it; the rest is missing for `reason`.
    fn end(&mut self, key: &str, reason: &MissingReason) -> Option<CallCompleted> {
        let call = self.calls.remove(key)?;
        self.bytes = self.bytes.saturating_sub(call.bytes);
        self.over.insert(key.to_owned(), call.tracked.clone(), self.arrived);
        let missing = |part| MissingPart { part, reason: reason.clone() };
        let session = call.tracked.into_session();
        let Phase::Joining(it) = call.phase else {
            let (records, recordings, voicemails) = Default::default();
            let missing = vec![missing(CallPart::Record)];
            return Some(CallCompleted { session, records, recordings, voicemails, missing });
        };
        let mut all = it.missing;
        if it.log_at.is_some() {
            let lacks_record = it.records.is_empty();
            all.push(missing(if lacks_record { CallPart::Record } else { CallPart::Voicemail(None) }));
        }
        all.extend(it.todo.iter().map(|todo| missing(todo.what.part())));
        Some(CallCompleted {
            session,
            records: it.records,
            recordings: it.recordings,
            voicemails: it.voicemails,
            missing: all,
        })
    }

    fn next_request(&mut self, now: Instant) -> Option<Request> {
        if let Some(page) = self.next_page.take() {
            return Some(page);
        }
        for (key, call) in &self.calls {
            let (key, account) = (key.clone(), account_of(&call.scope));
            match &call.phase {
                Phase::Joining(joining) => {
                    let Some(todo) = joining.todo.iter().find(|todo| todo.at <= now) else { continue };
                    return Some(match todo.what.clone() {
                        Detail::Recording(id) => Request::Recording { key, scope: account.to_owned(), id },
                        Detail::Voicemail { extension, id } => {
                            Request::Voicemail { key, scope: format!("{account}/extension/{extension}"), id }
                        }
                    });
                }
                Phase::Open { check_at, .. } if *check_at <= now => {
                    let id = call.tracked.session().telephony_session_id.clone()?;
                    return Some(Request::Session { key, scope: account.to_owned(), id });
                }
                Phase::Open { .. } => {}
            }
        }
        if self.log_from > now {
            return None;
        }
        let is_due = |call: &&Call| matches!(&call.phase, Phase::Joining(it) if it.is_due(now));
        let scope = self.calls.values().filter(is_due).min_by_key(|call| call.number)?.scope.clone();
        let from = self.calls.values().filter(|call| call.scope == scope).filter(is_due).map(Call::log_from).min()?;
        self.reading = now;
        Some(Request::Log { scope, from, to: None, page: 1 })
    }

    /// When something is to be done without an answer.
    fn next_time(&self) -> Option<Instant> {
        let is_asked = self.asked.is_some();
        let times = self.calls.values().flat_map(|call| match &call.phase {
            Phase::Open { heard, check_at } => {
                [Some(*heard + LONGEST), self.finish_by, Some(*check_at).filter(|_| !is_asked)]
            }
            Phase::Joining(it) => {
                let log = it.log_at.map(|at| at.max(self.log_from));
                let todo = it.todo.iter().map(|todo| todo.at).min();
                [Some(it.deadline), log.filter(|_| !is_asked), todo.filter(|_| !is_asked)]
            }
        });
        times.flatten().min()
    }

    /// The answer to the request of the last [`Step::Ask`].
    pub(super) fn answered(&mut self, answer: Result<Answer, Error>, now: Instant) {
        match (self.asked.take(), answer) {
            (Some(Request::Log { scope, from, to, page }), Ok(Answer::Log { records, oldest, more })) => {
                for record in records {
                    if let Some(Phase::Joining(joining)) = self.call_of(&record).map(|call| &mut call.phase) {
                        joining.take_in(record);
                    }
                }
                let next = oldest.map(|oldest| oldest + Duration::from_millis(1));
                let is_older = next.is_some_and(|next| to.is_none_or(|to| next < to));
                if more && is_older && page < MAX_PAGES && self.is_wanted(&scope) {
                    // By time and not by page number: records enter the log meanwhile.
                    self.next_page = Some(Request::Log { scope, from, to: next, page: page + 1 });
                } else {
                    self.reading_ended(&scope, &Ok(()), now);
                }
            }
            (Some(Request::Log { scope, .. }), answer) => self.reading_ended(&scope, &no_answer(answer), now),
            (Some(Request::Session { key, .. }), answer) => self.session_answered(&key, answer, now),
            (Some(Request::Recording { key, id, .. }), answer) => {
                self.detail_answered(&key, &CallPart::Recording(id), answer, now);
            }
            (Some(Request::Voicemail { key, id, .. }), answer) => {
                self.detail_answered(&key, &CallPart::Voicemail(Some(id)), answer, now);
            }
            (None, _) => {}
        }
    }

    fn call_of(&mut self, record: &CallRecord) -> Option<&mut Call> {
        let by_id = record.telephony_session_id.as_ref().map(|id| id.as_str().to_owned());
        let key = by_id.filter(|key| self.calls.contains_key(key)).or_else(|| {
            let id = record.session_id.as_ref()?;
            let is_same = |call: &Call| call.tracked.session().session_id.as_ref() == Some(id);
            self.calls.iter().find(|(_, call)| is_same(call)).map(|(key, _)| key.clone())
        });
        self.calls.get_mut(&key?)
    }

    /// The calls of the reading that is under way.
    fn in_reading<'a>(&'a mut self, scope: &'a str) -> impl Iterator<Item = &'a mut Joining> {
        let reading = self.reading;
        self.calls.values_mut().filter(move |call| call.scope == scope).filter_map(move |call| match &mut call.phase {
            Phase::Joining(it) if it.is_due(reading) => Some(&mut **it),
            _ => None,
        })
    }

    fn is_wanted(&mut self, scope: &str) -> bool {
        self.in_reading(scope).any(|joining| joining.records.is_empty())
    }

    fn reading_ended(&mut self, scope: &str, outcome: &Result<(), Error>, now: Instant) {
        self.log_from = now + SPACING;
        for joining in self.in_reading(scope) {
            match outcome {
                Ok(()) => joining.log_read(now),
                Err(error) => joining.log_failed(error, now),
            }
        }
    }

    fn session_answered(&mut self, key: &str, answer: Result<Answer, Error>, now: Instant) {
        let finishing = self.finish_by.is_some();
        let Some(call) = self.calls.get_mut(key) else { return };
        let Phase::Open { check_at, .. } = &mut call.phase else { return };
        let is_over = match answer {
            Ok(Answer::Session(parties)) => {
                call.tracked.replace(TelephonySession { parties, ..TelephonySession::default() });
                call.tracked.is_over() || call.tracked.session().parties.is_empty()
            }
            Err(error) if error.kind() == ErrorKind::NotFound => true,
            _ => {
                *check_at = now + CHECK_AGAIN;
                return;
            }
        };
        if is_over {
            call.phase = Phase::joining(&call.tracked, self.within, now);
        } else if finishing {
            if let Some(call) = self.end(key, &MissingReason::NotEnded) {
                self.ready.push_back(call);
            }
        } else {
            call.phase = Phase::open(now);
        }
    }

    fn detail_answered(&mut self, key: &str, part: &CallPart, answer: Result<Answer, Error>, now: Instant) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let Phase::Joining(joining) = &mut call.phase else { return };
        let Some(at) = joining.todo.iter().position(|todo| todo.what.part() == *part) else { return };
        match answer {
            Ok(Answer::Recording(recording)) => joining.recordings.push(*recording),
            Ok(Answer::Voicemail(message)) => joining.voicemails.push(*message),
            answer => {
                let Err(error) = no_answer(answer) else { return };
                if !is_final(&error) {
                    if let Some(todo) = joining.todo.get_mut(at) {
                        todo.at = now + RETRY.max(error.retry_after().unwrap_or_default());
                    }
                    return;
                }
                joining.missing.push(MissingPart { part: part.clone(), reason: MissingReason::Failed(error) });
            }
        }
        joining.todo.remove(at);
    }
}

impl Call {
    /// Since when the call may have begun.
    fn log_from(&self) -> SystemTime {
        let is_first = matches!(&self.phase, Phase::Joining(it) if it.readings == 0);
        let before = if self.from_start && is_first { NARROW } else { WIDE };
        self.first.checked_sub(before).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

fn account_of(scope: &str) -> &str {
    scope.split_once("/extension/").map_or(scope, |(account, _)| account)
}

/// The voicemail of such a call may enter the log after the call.
fn lacks_voicemail(record: &CallRecord) -> bool {
    record.result == Some(CallResult::Voicemail) && record.parts().all(|part| part.message.is_none())
}

/// Whether asking again is useless. What is not found may not be there yet.
fn is_final(error: &Error) -> bool {
    error.kind() != ErrorKind::NotFound && error.disposition() == Disposition::Fatal
}

fn no_answer(answer: Result<Answer, Error>) -> Result<(), Error> {
    match answer {
        Err(error) => Err(error),
        Ok(_) => Err(Error::new(ErrorKind::Protocol, "unexpected answer")),
    }
}

#[cfg(test)]
mod tests;
