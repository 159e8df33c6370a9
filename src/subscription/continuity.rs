//! Since when events may be missing. Pure: time comes in as an argument.
//!
//! The stream's claim is "everything up to here was delivered, or is inside a gap". An
//! event can be lost in several independent ways ([`Loss`]). For each of them the
//! [`Ledger`] holds the instant up to which that loss is excluded, in the service's
//! time. A [`Proof`] moves only the kinds it proves ([`Proof::excludes`]), and a gap
//! begins where the kind that failed was last excluded. No other code chooses the
//! beginning of a gap.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::clocks::{Clocks, Finding, Verdict};
use crate::control::SubscriptionInfo;
use crate::delivery::Certainty;
use crate::error::Result;
use crate::http::budget::Dated;
use crate::service_clock::{ORDER_SLACK, ServiceClock, add, sub};
use crate::timestamp::Timestamp;

pub(super) use crate::service_clock::Span;

/// A replay begins at most this long after the recovery, and replayed frames that carry a
/// new time carry one at most this much after it. When it begins, and whether they carry the
/// old time, is unverified (websocket-and-webhooks §1.12).
const REPLAY_WITHIN: Duration = Duration::from_secs(30);
/// A replay whose frames carry new times is sent faster than as many live events arrive: within this time, or within
/// that in which events could gather, if that is longer. Frames that come later than they were sent are counted apart.
const REPLAY_TAKES: Duration = Duration::from_secs(5);
/// After an outage of this length it may take as long as it may be late, and be as slow as a busy stream. A stream of
/// which as many events arrive in that time has filled the service's buffer in not much more than such an outage.
const LONG_OUTAGE: Duration = Duration::from_secs(20);
/// Events that were late by no more may have waited on a slow path. A path that is slower counts as dead, so that more is
/// another host's clock.
const LATE_BY: Duration = Duration::from_secs(10);
/// A frame that arrives within this time of its sending, by the most that the clocks allow, did not wait on a slow path.
const ON_TIME: Duration = Duration::from_secs(2);

/// A way in which an event can be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Loss {
    /// The service did not have the subscription.
    There,
    /// The subscription published at another address than the one listened to.
    Address,
    /// The event was encrypted with an unknown key.
    Key,
    /// The event was sent and not read.
    Read,
    /// The service's buffer dropped the event before it was read.
    Buffer,
}

impl Loss {
    pub(super) const ALL: [Self; 5] = [Self::There, Self::Address, Self::Key, Self::Read, Self::Buffer];
    /// What a replaced subscription may have lost: it may have been gone, or have moved, at any time since the service
    /// last described it.
    pub(super) const REPLACED: [Self; 3] = [Self::There, Self::Address, Self::Read];
}

/// Something that excludes a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// The service described the subscription as served, in answer to a call that was sent at `asked`.
    Described { asked: Instant },
    /// A poll that left then was answered with everything that was published before, or is
    /// held, while the service answers beside it; `cursor` is the position that came back.
    Answer { asked: Instant, cursor: SystemTime },
    /// As [`Answer`](Self::Answer), by an answer that the service's buffer may have cut.
    CutAnswer { asked: Instant, cursor: SystemTime },
    /// An event of this subscription arrived that was sent at `sent`.
    Event { sent: SystemTime },
    /// As [`Event`](Self::Event), by an answer out of the service's buffer.
    Retained { sent: SystemTime },
    /// The peer answered over the same connection to something that was sent at `asked`: a heartbeat, a ping, a
    /// request.
    Reply { asked: Instant },
    /// A payload that was sent at `sent` was decrypted.
    Decrypted { sent: SystemTime },
    /// Without push: all sources were asked for what happened up to then, and answered.
    Polled { upto: SystemTime },
}

impl Proof {
    /// The table: what each proof excludes, and why.
    pub(super) const fn excludes(self) -> &'static [Loss] {
        match self {
            // A description holds for a moment after it was asked for, never for the
            // moment of its arrival (found 1.2). It names id, address and key
            // (ringcentral-rest-and-events §3), and says nothing of what was read.
            Self::Described { .. } => &[Loss::There, Loss::Address, Loss::Key],
            // A poll is answered with everything newer than its cursor, or held if there is
            // nothing (pubnub.md §3.2), and fewer events than the buffer holds were not pushed out of it (§6).
            Self::Answer { .. } => &[Loss::Read, Loss::Buffer],
            // Overflow drops the oldest and sets no flag (pubnub.md §6, §7.2): nothing is
            // known of what came before the first event of such an answer.
            Self::CutAnswer { .. } => &[Loss::Read],
            // The service published it for this subscription, at this address. One
            // connection keeps its order, so what was sent before was read (found 1.1).
            Self::Event { .. } | Self::Retained { .. } => &[Loss::There, Loss::Address, Loss::Read],
            // As an event, but the peer answers by itself: nothing about the subscription.
            Self::Reply { .. } => &[Loss::Read],
            // A key proves what it opened (found 1.5).
            Self::Decrypted { .. } => &[Loss::Key],
            // Nothing else could fail.
            Self::Polled { .. } => &Loss::ALL,
        }
    }
}

/// Up to when each loss is excluded. Part of a resume token.
///
/// Whole milliseconds since 1970, by [`Loss`]: every mark that waits for the reader holds one. Written as text, with
/// the names of the losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "ProvenText", from = "ProvenText")]
pub(crate) struct Proven {
    excluded: [u64; 5],
    /// How far the service's clock was ahead of the machine's: see [`ServiceClock::ahead`].
    ahead: Option<[i64; 2]>,
}

/// Its serialized form, in the service's format of a time.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProvenText {
    there: Timestamp,
    address: Timestamp,
    key: Timestamp,
    read: Timestamp,
    buffer: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clock_ahead_ms: Option<[i64; 2]>,
}

impl From<Proven> for ProvenText {
    fn from(proven: Proven) -> Self {
        let at = |loss: Loss| Timestamp::from(proven.get(loss));
        Self {
            there: at(Loss::There),
            address: at(Loss::Address),
            key: at(Loss::Key),
            read: at(Loss::Read),
            buffer: at(Loss::Buffer),
            clock_ahead_ms: proven.ahead,
        }
    }
}

impl From<ProvenText> for Proven {
    /// Invalid text excludes nothing.
    fn from(text: ProvenText) -> Self {
        let ProvenText { there, address, key, read, buffer, clock_ahead_ms: ahead } = text;
        let at = |text: Timestamp| text.system_time().map_or(0, millis);
        Self { excluded: [at(there), at(address), at(key), at(read), at(buffer)], ahead }
    }
}

impl Proven {
    /// Everything is excluded up to `at`.
    #[cfg(test)]
    pub(super) fn all(at: SystemTime) -> Self {
        Self { excluded: [millis(at); 5], ahead: None }
    }

    fn of(excluded: &[SystemTime; 5], ahead: Option<[i64; 2]>) -> Self {
        Self { excluded: excluded.map(millis), ahead }
    }

    /// Up to when a loss is excluded.
    pub(super) fn get(&self, loss: Loss) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.excluded[loss as usize])
    }
}

/// Whole milliseconds since 1970, never later than `at`, and until the year 9999: such a
/// time can be written as text.
fn millis(at: SystemTime) -> u64 {
    const LATEST: u64 = 253_402_300_799_000;
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(LATEST).min(LATEST)
}

/// A span in which events may be missing, by the service's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) since: SystemTime,
    pub(super) until: SystemTime,
    pub(super) certainty: Certainty,
}

/// The frames that follow the recovery of a session. The service keeps the newest
/// events of a lost connection, up to a number, and neither announces how many it
/// replays nor marks the last (websocket-and-webhooks §1.12). So frames are counted,
/// repetitions included, since the buffer counts frames (found 2.2), and no timer ends
/// the count (found 2.1).
///
/// Where replayed frames carry new times, a frame that comes on time is replayed or live. As many events gathered, at a
/// steady rate, as arrive in as much time: only that many within such a time may be a full buffer, or within the time
/// that a replay may take if that is longer.
#[derive(Clone, Debug)]
struct Replay {
    buffer: usize,
    count: usize,
    /// The times of those that may be live as well, within the time of a replay. Fewer than `buffer`.
    on_time: VecDeque<SystemTime>,
    /// When the session was continued.
    recovered: Span,
    /// When the first frame came, and what is known of when it was sent. Until then events
    /// gathered in the buffer, those emitted after the recovery too.
    first: Option<(SystemTime, Option<SystemTime>)>,
    since: SystemTime,
    /// Whether a replayed frame showed that it keeps its time.
    keeps_time: bool,
    /// Whether what was emitted before the recovery is inside a reported gap.
    is_reported: bool,
    /// Whether a live event came, behind which nothing of it is expected. Some services mix
    /// both (websocket-and-webhooks §1, W19), so frames from before the recovery still count.
    is_over: bool,
}

impl Replay {
    /// Counts a frame that came at `now`; whether the buffer may have been full.
    fn came(&mut self, now: Span, sent: Option<SystemTime>) -> bool {
        let keeps_time = sent.is_some_and(|sent| sent < self.recovered.from);
        if self.is_over && !keeps_time {
            return false;
        }
        self.keeps_time |= keeps_time;
        let (began, _) = *self.first.get_or_insert((now.to, sent.filter(|_| keeps_time)));
        let latest = if self.keeps_time { began } else { began.max(self.may_begin_until()) };
        match sent {
            _ if keeps_time => self.count += 1,
            Some(sent) if sent > latest => return false,
            Some(sent) if sent > began && now.to <= add(sent, ON_TIME) => {
                let away = began.duration_since(self.since).unwrap_or_default();
                let takes = away.max(if away >= LONG_OUTAGE { REPLAY_WITHIN } else { REPLAY_TAKES });
                // In order, so that the oldest come first.
                let newest = self.on_time.back().map_or(sent, |last| sent.max(*last));
                self.on_time.push_back(newest);
                while self.on_time.front().is_some_and(|oldest| add(*oldest, takes) < newest) {
                    self.on_time.pop_front();
                }
            }
            _ => self.count += 1,
        }
        self.events() >= self.buffer
    }

    /// How many frames may have been replayed.
    fn events(&self) -> usize {
        // Frames that keep their time are not on time.
        self.count + if self.keeps_time { 0 } else { self.on_time.len() }
    }

    /// The replay has begun by then.
    fn may_begin_until(&self) -> SystemTime {
        add(self.recovered.to, REPLAY_WITHIN)
    }

    /// No event that was sent later was pushed out of the buffer; `None`: no event outside of a reported gap was.
    fn until(&self) -> Option<SystemTime> {
        match self.first {
            Some((_, Some(_))) if self.is_reported => None,
            Some((_, Some(sent))) => Some(add(sent, ORDER_SLACK)),
            Some((came, None)) => Some(came),
            None => Some(self.recovered.to),
        }
    }

    /// The service's clock was set back by so much. The time of the recovery stays as it is for frames that keep their
    /// time, which is by the clock as it was: a live one may be counted with them, and none of them is missed.
    fn move_back(&mut self, by: Duration) {
        self.since = sub(self.since, by);
        self.recovered.to = sub(self.recovered.to, by);
        self.on_time.iter_mut().chain(self.first.as_mut().map(|(came, _)| came)).for_each(|at| *at = sub(*at, by));
    }

    /// Whether what was sent then came behind all of it: it had begun by then, and is sent
    /// at once.
    fn is_before(&self, sent: SystemTime) -> bool {
        let has_begun = self.first.is_some_and(|(came, first)| first.is_some() && sent > came);
        has_begun || sent > self.may_begin_until()
    }
}

/// What was excluded at an address that is left.
#[derive(Clone, Debug)]
struct Former {
    read: SystemTime,
    buffer: SystemTime,
    /// The replay of a session that was continued over its link.
    replay: Option<Replay>,
}

/// Up to when each loss is excluded, and since when events are missing. See the module.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    clock: ServiceClock,
    clocks: Clocks,
    /// By [`Loss`].
    excluded: [SystemTime; 5],
    /// No event of this subscription can be older.
    began: SystemTime,
    /// Up to when the former address was read, while a link may still read it.
    former: Option<Former>,
    /// Up to when the subscription was there that the present one took over from, until it
    /// is known that it was there to the last.
    superseded: Option<SystemTime>,
    /// The beginning of the gap that has no end yet.
    open: Option<SystemTime>,
    replay: Option<Replay>,
    /// Everything that was sent before this was read, or is inside a reported gap. By this
    /// machine's clock alone: the service's is not known so exactly.
    read_before: Option<Instant>,
    /// See [`take_set_back`](Self::take_set_back).
    set_back: Duration,
    /// How far the service's clock was ahead in the process that stored what is proven, until it is known here.
    ahead_before: Option<[i64; 2]>,
}

impl Ledger {
    /// Nothing is expected from before now.
    pub(super) fn new(now: Instant, wall: SystemTime) -> Self {
        let clock = ServiceClock::new(now, wall);
        Self {
            clock,
            clocks: Clocks::new(now, wall),
            excluded: [wall; 5],
            began: wall,
            former: None,
            superseded: None,
            open: None,
            replay: None,
            read_before: None,
            set_back: Duration::ZERO,
            ahead_before: None,
        }
    }

    /// Continues where another process stopped.
    pub(super) fn restore(&mut self, proven: &Proven) {
        self.excluded = Loss::ALL.map(|loss| proven.get(loss));
        self.began = self.excluded.into_iter().min().unwrap_or(self.began);
        self.ahead_before = proven.ahead;
    }

    /// Another process reported a gap since then, and not its end.
    pub(super) fn reopen(&mut self, since: SystemTime) {
        let there = &mut self.excluded[Loss::There as usize];
        *there = since.min(*there);
        self.began = self.began.min(since);
    }

    /// The subscription begins: nothing is expected from before `asked`.
    pub(super) fn begin(&mut self, asked: Instant) {
        let at = self.clock.at(asked).from;
        (self.excluded, self.began) = ([at; 5], at);
    }

    /// Compares both of this machine's clocks.
    pub(super) fn compare_clocks(&mut self, now: Instant, wall: SystemTime) {
        self.clock.compare(now, wall);
    }

    /// The service's `Date` of an answer, to the second, asked for at `asked` and read at `read`.
    pub(super) fn learn_date(&mut self, asked: Instant, read: Instant, date: SystemTime) {
        let by = self.clock.learn_date(asked, read, date);
        self.follow_clock(by);
    }

    /// The newest answer that gave the service's time. See [`Clocks::learn`].
    pub(super) fn learn(&mut self, newest: Option<Dated>) {
        let by = self.clocks.learn(newest, &mut self.clock);
        self.follow_clock(by);
    }

    /// The service's clock was set back by so much, or since another process stored what is proven.
    fn follow_clock(&mut self, by: Duration) {
        self.move_back(by);
        if let Some(before) = self.ahead_before.take_if(|_| self.clock.is_given()) {
            let since_stored = self.clock.was_set_back(before);
            self.move_back(since_stored);
        }
    }

    /// The service's clock was set back by so much, at most. A proof holds for an instant, and that is earlier by the
    /// clock as it is now. Nothing moves when a clock is set forward: what was proven then still is.
    fn move_back(&mut self, by: Duration) {
        if by.is_zero() {
            return;
        }
        let Self { excluded, began, former, superseded, open, replay, .. } = self;
        excluded.iter_mut().chain([began]).chain(superseded).chain(open).for_each(|at| *at = sub(*at, by));
        if let Some(Former { read, buffer, replay }) = former {
            (*read, *buffer) = (sub(*read, by), sub(*buffer, by));
            replay.iter_mut().for_each(|replay| replay.move_back(by));
        }
        replay.iter_mut().for_each(|replay| replay.move_back(by));
        self.set_back = self.set_back.saturating_add(by);
    }

    /// By how much the service's clock was set back since this was asked last: times of it that others hold are earlier
    /// by so much.
    pub(super) fn take_set_back(&mut self) -> Duration {
        std::mem::take(&mut self.set_back)
    }

    /// Looks for a jump of the wall clock, if it is time. See [`Clocks::compare`].
    pub(super) fn find_jump(&mut self, now: Instant, wall: SystemTime, can_ask: bool) -> Option<Finding> {
        self.clocks.compare(now, wall, can_ask)
    }

    /// The service's answer after a jump. See [`Clocks::judged`].
    pub(super) fn judge_jump(
        &mut self,
        now: Instant,
        jumped: Duration,
        asked: Instant,
        has_address: bool,
        answer: &Result<SubscriptionInfo>,
    ) -> Verdict {
        let (verdict, by) = self.clocks.judged(now, jumped, asked, has_address, answer, &mut self.clock);
        self.follow_clock(by);
        verdict
    }

    /// When [`find_jump`](Self::find_jump) is due.
    pub(super) fn next_comparison(&self) -> Instant {
        self.clocks.next()
    }

    /// The service's time now, or at another instant.
    pub(super) fn time(&self, at: Instant) -> Span {
        self.clock.at(at)
    }

    /// The beginning of a gap as it is reported: by whichever host's clock is behind.
    pub(super) fn earliest(&self, since: SystemTime) -> SystemTime {
        self.clock.by_any_clock(since, since).0
    }

    /// The end of a gap since then, as it is reported: by whichever host's clock is ahead, and by the clock as it was
    /// before it was set back, if that was in the gap.
    pub(super) fn latest(&self, since: SystemTime, until: SystemTime) -> SystemTime {
        self.clock.end(since, self.clock.by_any_clock(until, until).1)
    }

    /// Whether the service's clock was set back since then.
    pub(super) fn is_clock_set(&self, since: SystemTime) -> bool {
        self.clock.is_set_back(since)
    }

    /// Applies a proof, at `now`.
    pub(super) fn prove(&mut self, now: Instant, proof: Proof) {
        // A replayed event is late, and shows no clock, and so is one that waited in the service's buffer (pubnub.md §6).
        if let Proof::Event { sent } = proof
            && self.replay.as_ref().is_none_or(|replay| replay.is_over)
        {
            self.clock.sample(now, sent);
        }
        let latest = self.clock.at(now).to;
        let upto = match proof {
            Proof::Described { asked } => Some(self.clock.at(asked).from),
            Proof::Reply { asked } => Some(self.clock.at(asked).from).filter(|asked| self.is_behind_replay(*asked)),
            Proof::Answer { asked, cursor } | Proof::CutAnswer { asked, cursor } => {
                let asked = self.clock.at(asked).from;
                // A position beyond the present is by a clock that cannot be compared.
                let is_plausible = cursor <= add(latest, ORDER_SLACK);
                Some(if is_plausible { cursor.min(latest).max(asked) } else { asked })
            }
            Proof::Event { sent } | Proof::Retained { sent } => self.clock.sent(now, sent).then_some(sent),
            Proof::Polled { upto } => Some(upto),
            Proof::Decrypted { sent } => (sent <= add(latest, ORDER_SLACK)).then_some(sent),
        };
        let Some(upto) = upto else { return };
        if let Proof::Answer { asked, .. } | Proof::CutAnswer { asked, .. } | Proof::Reply { asked } = proof {
            self.read_before = self.read_before.max(Some(asked));
        }
        // What was missed may still be on its way, behind an event that is live.
        let is_behind_replay = !matches!(proof, Proof::Event { .. })
            || self.replay.is_none()
            || self.clock.is_given() && self.is_behind_replay(upto.min(self.clock.comparable(upto)));
        for loss in proof.excludes().iter().filter(|loss| **loss != Loss::Read || is_behind_replay) {
            let excluded = &mut self.excluded[*loss as usize];
            *excluded = (*excluded).max(upto.min(latest));
        }
    }

    /// Whether what was sent then came behind all that a recovered session replays. Until then nothing proves what is older: a replayed frame may be the
    /// first of as many as the buffer holds.
    fn is_behind_replay(&mut self, sent: SystemTime) -> bool {
        let Some(replay) = &mut self.replay else { return true };
        replay.is_over |= replay.is_before(sent);
        replay.is_over
    }

    fn excluded(&self, losses: &[Loss]) -> SystemTime {
        let there = self.superseded.filter(|_| losses.contains(&Loss::There));
        losses.iter().map(|loss| self.excluded[*loss as usize]).chain(there).min().unwrap_or(self.began)
    }

    /// Where a gap of these kinds would begin.
    pub(super) fn since(&self, losses: &[Loss]) -> SystemTime {
        sub(self.excluded(losses), ORDER_SLACK)
    }

    /// A possible gap of these kinds that ends now. What it covers counts as excluded.
    pub(super) fn possible(&mut self, now: Instant, losses: &[Loss]) -> Interval {
        let since = self.since(losses);
        self.report(now, since)
    }

    /// As [`since`](Self::since), for what a link reports of the service's buffer: the
    /// former address has another one.
    fn since_of_buffer(&self, losses: &[Loss], is_present: bool) -> SystemTime {
        let former = self.former.as_ref().filter(|_| !is_present);
        let former = former.map(|former| sub(former.read.min(former.buffer), ORDER_SLACK));
        let since = self.since(losses);
        former.map_or(since, |former| former.min(since))
    }

    /// The service's buffer may no longer have had all of what it holds for the address.
    pub(super) fn aged(&mut self, now: Instant, is_present: bool) -> Interval {
        let since = self.since_of_buffer(&[Loss::Buffer, Loss::Read], is_present);
        self.report(now, since)
    }

    /// Events up to the first of an answer may have been pushed out of the service's buffer.
    pub(super) fn pushed_out(&mut self, now: Instant, first: Option<SystemTime>, is_present: bool) -> Interval {
        let since = self.since_of_buffer(&[Loss::Buffer], is_present);
        let Some(first) = first else { return self.report(now, since) };
        if first > self.clock.at(now).to {
            // The clock stood still, and the service's time is not known yet.
            let gap = self.report(now, since);
            return Interval { until: gap.until.max(add(first, ORDER_SLACK)), ..gap };
        }
        self.settle(since, sub(first, ORDER_SLACK));
        Interval { since, until: add(first, ORDER_SLACK).max(since), certainty: Certainty::Possible }
    }

    /// Events that were emitted in `span` could not be opened.
    pub(super) fn unopened(&mut self, span: Span) -> Interval {
        let since = self.since(&[Loss::Key]).min(span.from);
        self.settle(since, span.to);
        Interval { since, until: span.to.max(since), certainty: Certainty::Possible }
    }

    /// What may be missing of the former address, whose link ended early.
    pub(super) fn former(&mut self, now: Instant) -> Interval {
        let read = self.former.take().map_or_else(|| self.excluded(&[Loss::Read]), |former| former.read);
        self.report(now, sub(read, ORDER_SLACK))
    }

    fn report(&mut self, now: Instant, since: SystemTime) -> Interval {
        let Span { from, to } = self.clock.at(now);
        let until = to.max(since);
        self.read_before = self.read_before.max(Some(now));
        // A later gap begins before this one's end by any clock.
        self.settle(since, from);
        Interval { since, until, certainty: Certainty::Possible }
    }

    /// What lies in a reported gap need not be excluded: a kind that was excluded up to
    /// its beginning now is up to its end.
    fn settle(&mut self, since: SystemTime, until: SystemTime) {
        self.superseded.take_if(|there| *there >= since);
        for excluded in &mut self.excluded {
            if *excluded >= since {
                *excluded = (*excluded).max(until);
            }
        }
    }

    /// Events are missing from here on; the beginning of the gap.
    pub(super) fn open(&mut self, losses: &[Loss]) -> SystemTime {
        let since = self.since(losses);
        *self.open.get_or_insert(since)
    }

    /// Since when events are missing, while they are.
    pub(super) fn open_since(&self) -> Option<SystemTime> {
        self.open
    }

    /// Events arrive again: the gap, with its end.
    pub(super) fn close(&mut self, now: Instant) -> Interval {
        let since = self.open.take().unwrap_or_else(|| self.since(&Loss::ALL));
        Interval { certainty: Certainty::Certain, ..self.report(now, since) }
    }

    /// From here on another address is read, at a position that covers everything that was published there since the
    /// address was last confirmed.
    pub(super) fn relocate(&mut self) {
        let [read, buffer] = [Loss::Read, Loss::Buffer].map(|loss| self.excluded(&[loss]));
        let replay = self.replay.take();
        self.former = Some(match self.former.take() {
            None => Former { read, buffer, replay },
            Some(former) => Former {
                read: former.read.min(read),
                buffer: former.buffer.min(buffer),
                replay: replay.or(former.replay),
            },
        });
        let confirmed = self.excluded(&[Loss::Address]);
        self.excluded[Loss::Read as usize] = read.min(confirmed);
        // Nothing was in the buffer of an address before it came into use.
        self.excluded[Loss::Buffer as usize] = confirmed;
    }

    /// Another subscription takes over: what proves that this one is there says nothing of the
    /// one before, which may have been gone for a while.
    pub(super) fn supersede(&mut self) {
        self.superseded = Some(self.excluded(&[Loss::There]));
    }

    /// The one before was there to the last.
    pub(super) fn confirm_superseded(&mut self) {
        self.superseded = None;
    }

    /// The one before was not there to the last, or that is not known: a gap, up to when the
    /// present one was asked for.
    pub(super) fn superseded(&mut self, asked: Instant) -> Option<Interval> {
        let since = sub(self.superseded.take()?, ORDER_SLACK);
        let until = self.clock.at(asked).to.max(since);
        Some(Interval { since, until, certainty: Certainty::Possible })
    }

    /// The former place was read to its end, or what was missed there is in a gap.
    pub(super) fn leave_former(&mut self) {
        self.former = None;
    }

    /// The instant up to which everything published was read, as far as this machine's
    /// monotonic clock reaches back.
    pub(super) fn read_at(&self) -> Option<Instant> {
        self.clock.instant(self.excluded(&[Loss::Read, Loss::Buffer]))
    }

    /// Whether everything that was sent before `asked` is read, or inside a reported gap.
    pub(super) fn is_read(&self, asked: Instant) -> bool {
        self.read_before.is_some_and(|before| before >= asked)
    }

    /// For how long nothing was read for certain.
    pub(super) fn unread_for(&self, now: Instant) -> Duration {
        self.clock.at(now).to.duration_since(self.excluded(&[Loss::Read, Loss::Buffer])).unwrap_or_default()
    }

    /// A lost session is continued over a connection that was requested at `asked`, by the present link or by one to a
    /// former address. `read_to_end`: everything that was sent over the lost one was read. A gap, unless it was.
    pub(super) fn continued(
        &mut self,
        now: Instant,
        asked: Instant,
        read_to_end: bool,
        buffer: usize,
        is_present: bool,
    ) -> Option<Interval> {
        let former = self.former.take_if(|_| !is_present);
        if former.is_none() {
            // What a replay leaves out that was still under way is read, or left out, with this one.
            self.replay = None;
        }
        let since = former.as_ref().map_or_else(|| self.since(&[Loss::Read]), |former| sub(former.read, ORDER_SLACK));
        let gap = (!read_to_end).then(|| self.report(now, since));
        let recovered = self.clock.at(now);
        let recovered_since = if read_to_end { since } else { sub(recovered.from, ORDER_SLACK) };
        let replay = Replay {
            buffer,
            count: 0,
            on_time: VecDeque::new(),
            recovered: Span { from: self.clock.at(asked).from, to: recovered.to },
            first: None,
            since: recovered_since,
            keeps_time: false,
            is_reported: !read_to_end,
            is_over: false,
        };
        match former {
            None => self.replay = Some(replay),
            Some(former) => {
                let read = if read_to_end { former.read } else { former.read.max(recovered.from) };
                self.former = Some(Former { read, replay: Some(replay), ..former });
            }
        }
        gap
    }

    /// Whether everything that was sent over the link to the former address before `asked`, when its peer was asked a
    /// question that it answered, is read: a replay may still follow.
    pub(super) fn is_former_read(&mut self, asked: Instant) -> bool {
        let asked = self.clock.at(asked).from;
        let replay = self.former.as_mut().and_then(|former| former.replay.as_mut());
        replay.is_none_or(|replay| {
            replay.is_over |= replay.is_before(asked);
            replay.is_over
        })
    }

    /// An event arrived over the present link, or over one to a former address: counts it as replayed, if it may be. A
    /// gap, and how many arrived, when as many may have been replayed as the service retains.
    pub(super) fn counted(
        &mut self,
        now: Instant,
        sent: Option<SystemTime>,
        is_present: bool,
    ) -> Option<(Interval, usize)> {
        let now = self.clock.at(now);
        let counting = if is_present { &mut self.replay } else { &mut self.former.as_mut()?.replay };
        let replay = counting.as_mut()?;
        // By a clock that cannot be compared nothing is known to be live. Late events may have shown a clock that is not
        // behind: that moves no frame past its arrival.
        let comparable = |sent| self.clock.comparable(sent).min(now.to.max(sent));
        // A slow path made the events before as late as a clock that is behind would: then the replayed frames behind the
        // first ones look live.
        let may_be_late = |sent: SystemTime| comparable(sent) <= add(sent, LATE_BY);
        let earliest = |sent| if may_be_late(sent) { sent.min(comparable(sent)) } else { comparable(sent) };
        let sent = sent.filter(|_| self.clock.is_given()).map(earliest);
        if !replay.came(now, sent) {
            return None;
        }
        let replay = counting.take()?;
        // What was pushed out is older than the first that came.
        let since = replay.since;
        let until = replay.until()?.max(since);
        self.settle(since, until);
        Some((Interval { since, until, certainty: Certainty::Possible }, replay.events()))
    }

    /// When an event was emitted that arrived at `now`, from the times in it: never before the subscription began.
    pub(super) fn emitted(&self, now: Instant, sent: Option<SystemTime>) -> Span {
        let latest = self.clock.at(now).to;
        match sent.filter(|sent| *sent <= add(self.clock.by_any_clock(latest, latest).1, ORDER_SLACK)) {
            Some(sent) => {
                Span { from: sub(sent, ORDER_SLACK).max(sub(self.began, ORDER_SLACK)), to: add(sent, ORDER_SLACK) }
            }
            None => Span { from: self.since(&[Loss::Read]), to: latest },
        }
    }

    /// What is proven now.
    pub(super) fn proven(&self) -> Proven {
        Proven::of(&Loss::ALL.map(|loss| self.excluded(&[loss])), self.clock.ahead())
    }
}

#[cfg(test)]
#[path = "continuity_tests.rs"]
mod tests;
