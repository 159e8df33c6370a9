//! The rules of polling, without IO: what an answer means, and what to do next.
//!
//! One action is in flight at a time: the caller asks [`Machine::next`], performs the action, and reports its result;
//! time and randomness are arguments.

use std::time::{Duration, Instant};

use crate::delivery::{Certainty, GapCause};
use crate::policy::{BackoffPolicy, LONGEST_POLL_PAUSE, doubled};
use crate::status::Phase;

/// Consecutive immediate empty answers before polls are paced.
const QUICK_ANSWERS: u32 = 5;
const QUICK_WAIT: Duration = Duration::from_secs(1);
const QUICK_WAIT_MAX: Duration = Duration::from_secs(10);
/// The poll timeout while polls fail: an early answer shows that the service works again.
const TIMEOUT_WHILE_FAILING: Duration = Duration::from_secs(1);
/// The shortest wait after a failure.
const MIN_WAIT: Duration = Duration::from_millis(500);
/// A connection that breaks sooner was closed while it was idle.
const BROKEN_AT_ONCE: Duration = Duration::from_secs(1);
/// Oversized answers before the session is joined again to move past them.
const OVERSIZED: u32 = 2;

/// The caller's settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// The timeout in a poll, in whole seconds.
    pub(crate) timeout: Duration,
    /// For how long consecutive polls may fail.
    pub(crate) give_up_after: Duration,
    pub(crate) backoff: BackoffPolicy,
    /// Whether a lost session (404, 409) is joined or started again.
    pub(crate) reestablish: bool,
    /// Whether an `AgentSessionEnd` without success is an end.
    pub(crate) unsuccessful_end_is_end: bool,
}

/// The session's origin, which decides what its first batch means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionOrigin {
    /// Started just now; everything in it is new.
    Started,
    /// It existed before; the events before are not delivered.
    Joined,
    /// It continues from a stored position.
    Continued,
}

/// The outcome of a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 200.
    Batch(Batch),
    /// 304.
    Quiet,
    /// 401.
    Unauthorized,
    /// 404.
    Unknown,
    /// 409.
    Over,
    /// Refused for good, or the token provider gave up.
    Fatal,
    /// The answer exceeds the size limit.
    TooLarge,
    /// A transient failure.
    Transient(Transient),
}

/// The properties of a batch that the machine needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Whether it names the id of the next poll.
    pub(crate) moves: bool,
    /// Whether that id differs from the one of this poll.
    pub(crate) new_id: bool,
    /// Whether it has events.
    pub(crate) has_events: bool,
    /// Whether `AgentSessionStart` is one of them.
    pub(crate) has_start: bool,
    /// Whether `icBranchValue` is 3.
    pub(crate) missed: bool,
    /// The event that ends the session, if it has one.
    pub(crate) end: Option<EndSeen>,
}

/// An end event, the most certain last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EndSeen {
    /// `AgentSessionEnd`.
    Own { success: bool },
    /// `RemoteAgentSessionEnd`. `unpolled`: because no poll arrived for too long.
    Remote { unpolled: bool },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transient {
    /// The wait that the service asked for.
    pub(crate) retry_after: Option<Duration>,
    /// Whether the service may have sent a batch that never arrived.
    pub(crate) doubt: Doubt,
    /// Whether the connection broke before any byte arrived.
    pub(crate) broken: bool,
}

/// Whether an answer to an earlier poll may have been lost.
///
/// The reference says that each answer carries a new id, and that a poll with an old one is answered with a snapshot;
/// whether every answer does is unverified (incontact-agent-events.md §5.4, found 1.9). After the loss of an answer
/// without an id, a service may silently continue behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Doubt {
    #[default]
    No,
    /// No byte of an answer arrived, or this side dropped the poll. An answer with a new id that is no snapshot shows
    /// that the former id was still the newest.
    Unanswered,
    /// An answer began and broke off: it existed, and may have had an id. No later answer proves that it held no
    /// events.
    Broken,
}

/// The next action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Poll with the id that was adopted last.
    Poll { timeout: Duration },
    /// Wait until then, and ask the machine again.
    Wait(Instant),
    /// Get another token.
    Refresh,
    /// Join the session or, if allowed and none exists, start one.
    Establish { may_start: bool },
    /// Nothing more.
    Nothing(Outcome),
}

/// How the session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An event ended the session.
    Ended,
    /// The service says that the session is over (409), or no longer knows one that this side ended.
    Conflict,
    /// The service does not know the session (404).
    Invalid,
    /// Refused for good.
    Refused,
    /// Polls failed for too long.
    GaveUp,
}

/// What to deliver for an answer: the gap first, then the batch, then the end of the gap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) gap: Option<(GapCause, Certainty)>,
    /// Whether the batch is the whole live state and not a list of new events.
    pub(crate) is_snapshot: bool,
    pub(crate) resumed: bool,
    /// Whether it says that the session did not end, though an end was requested.
    pub(crate) end_refused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Poll,
    Refresh,
    Establish { may_start: bool },
    Nothing(Outcome),
}

#[derive(Debug)]
pub(crate) struct Machine {
    rules: Rules,
    want: Want,
    /// The origin whose first batch comes next.
    origin: Option<SessionOrigin>,
    answered: bool,
    /// Whether an answer was lost since the last good one.
    doubt: Doubt,
    /// Whether events came in an answer without a new id (incontact-agent-events.md §5.3): one
    /// that is lost leaves no sign then.
    is_without_ids: bool,
    /// Whether a reported gap has not ended yet.
    gap_open: bool,
    last_was_snapshot: bool,
    unauthorized: bool,
    /// Whether the next connection that breaks at once is excused.
    grace: bool,
    quick: u32,
    oversized: u32,
    failures: u32,
    failing_since: Option<Instant>,
    not_before: Option<Instant>,
    /// Whether this side requested the end, and the service agreed.
    ended_here: bool,
}

impl Machine {
    pub(crate) fn new(rules: Rules, origin: SessionOrigin, doubt: Doubt) -> Self {
        Self {
            rules,
            want: Want::Poll,
            origin: Some(origin),
            answered: false,
            doubt,
            is_without_ids: false,
            gap_open: false,
            last_was_snapshot: false,
            unauthorized: false,
            grace: true,
            quick: 0,
            oversized: 0,
            failures: 0,
            failing_since: None,
            not_before: None,
            ended_here: false,
        }
    }

    /// The action at `now`.
    pub(crate) fn next(&self, now: Instant) -> Next {
        if let Want::Nothing(outcome) = self.want {
            return Next::Nothing(outcome);
        }
        match self.not_before {
            Some(at) if at > now => Next::Wait(at),
            _ => match self.want {
                Want::Poll => Next::Poll { timeout: self.timeout() },
                Want::Refresh => Next::Refresh,
                Want::Establish { may_start } => Next::Establish { may_start },
                Want::Nothing(outcome) => Next::Nothing(outcome),
            },
        }
    }

    fn timeout(&self) -> Duration {
        if self.failures > 0 { self.rules.timeout.min(TIMEOUT_WHILE_FAILING) } else { self.rules.timeout }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.want {
            Want::Nothing(_) => Phase::Closed,
            _ if self.ended_here => Phase::Closing,
            Want::Establish { may_start: true } => Phase::Recreating,
            _ if self.failures > 0 || matches!(self.want, Want::Establish { .. }) => Phase::Reconnecting,
            _ if self.answered => Phase::Live,
            _ => Phase::Connecting,
        }
    }

    /// How many consecutive attempts failed.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// The unread events of the previous stream are lost.
    pub(crate) fn discarded(&mut self) -> Report {
        self.open_gap(GapCause::Discarded)
    }

    /// Whether an answer may have been lost since the last good one.
    pub(crate) fn doubt(&self) -> Doubt {
        self.doubt
    }

    /// The gap to report before the stream ends, if an answer was lost and no gap that covers it was reported.
    pub(crate) fn last_gap(&mut self) -> Option<(GapCause, Certainty)> {
        let lost = self.doubt == Doubt::Broken && !self.gap_open;
        lost.then(|| self.answer_lost())
    }

    /// One possible gap covers the doubt.
    fn answer_lost(&mut self) -> (GapCause, Certainty) {
        self.doubt = Doubt::No;
        (GapCause::AnswerLost, Certainty::Possible)
    }

    /// The service agreed to end the session, so it is not started again.
    pub(crate) fn ended_here(&mut self) {
        self.ended_here = true;
        if matches!(self.want, Want::Establish { .. }) {
            self.want = Want::Nothing(Outcome::Conflict);
        }
    }

    /// Processes a poll's answer, which took `elapsed`.
    pub(crate) fn answered(&mut self, answer: Answer, elapsed: Duration, now: Instant, random: f64) -> Report {
        if answer != Answer::Unauthorized {
            self.unauthorized = false;
        }
        match answer {
            Answer::Batch(batch) => self.batch(batch, elapsed, now),
            Answer::Quiet => {
                self.pace(elapsed, now);
                let gap = self.last_gap();
                // It proves nothing about the service's ids.
                let doubt = self.doubt;
                self.good();
                self.doubt = doubt;
                // A session that was joined or started again, without events.
                let resumed = std::mem::take(&mut self.gap_open) || gap.is_some();
                Report { gap, resumed, ..Report::default() }
            }
            Answer::Unauthorized => {
                // One new token at once. If that is refused too, the error is transient like any other: only a refused
                // login is final (found 6.4).
                self.want = Want::Refresh;
                if std::mem::replace(&mut self.unauthorized, true) {
                    self.failed(None, now, random);
                }
                Report::default()
            }
            Answer::Unknown | Answer::Over if self.ended_here => self.over(Outcome::Conflict),
            Answer::Unknown | Answer::Over if self.rules.reestablish => self.lost(now, random),
            Answer::Unknown => self.over(Outcome::Invalid),
            Answer::Over => self.over(Outcome::Conflict),
            Answer::Fatal => self.stop(Outcome::Refused),
            Answer::TooLarge => self.too_large(now, random),
            Answer::Transient(transient) => {
                self.doubt = self.doubt.max(transient.doubt);
                if transient.broken && elapsed < BROKEN_AT_ONCE && self.failures == 0 && std::mem::take(&mut self.grace)
                {
                    self.not_before = None;
                } else {
                    self.failed(transient.retry_after, now, random);
                }
                Report::default()
            }
        }
    }

    /// A new token is granted.
    pub(crate) fn refreshed(&mut self) {
        self.want = Want::Poll;
        self.not_before = None;
    }

    /// The session is re-established: joined, or started again.
    pub(crate) fn established(&mut self, origin: SessionOrigin) {
        self.want = Want::Poll;
        self.origin = Some(origin);
        // The gap that is open until the first answer covers it.
        self.doubt = Doubt::No;
        self.unauthorized = false;
        self.not_before = None;
    }

    /// A request other than a poll failed with a transient error.
    pub(crate) fn on_transient_error(&mut self, retry_after: Option<Duration>, now: Instant, random: f64) {
        self.failed(retry_after, now, random);
    }

    /// A request other than a poll failed for good.
    pub(crate) fn refused(&mut self) {
        self.stop(Outcome::Refused);
    }

    fn batch(&mut self, batch: Batch, elapsed: Duration, now: Instant) -> Report {
        let origin = self.origin.take();
        // The first batch after a start begins with `AgentSessionStart` too; after a lost answer that event is
        // repeated.
        let is_first = origin == Some(SessionOrigin::Started) && self.doubt == Doubt::No;
        let is_snapshot = batch.missed || (batch.has_start && !is_first);
        let cause = match origin {
            _ if self.gap_open => None,
            _ if batch.missed => Some((GapCause::EventsMissed, Certainty::Certain)),
            Some(SessionOrigin::Joined) => Some((GapCause::SessionJoined, Certainty::Possible)),
            _ if is_snapshot && self.doubt == Doubt::No => Some((GapCause::EventsMissed, Certainty::Possible)),
            // The session ended at some time since the last answer, and what happened after that is not in it
            // (incontact-agent-events.md §5.5).
            _ if self.ended_unpolled(batch) => Some((GapCause::SessionLost, Certainty::Possible)),
            // A replay of lost events cannot be distinguished from new ones.
            _ if is_snapshot || self.is_lost_by(batch) => Some(self.answer_lost()),
            Some(SessionOrigin::Started | SessionOrigin::Continued) | None => None,
        };
        self.is_without_ids |= batch.has_events && !batch.new_id;
        let progress = batch.has_events && batch.moves && !(is_snapshot && self.last_was_snapshot);
        if progress {
            self.quick = 0;
            self.not_before = None;
        } else {
            self.pace(elapsed, now);
        }
        self.last_was_snapshot = is_snapshot;
        self.good();
        let is_end = batch.end.is_some_and(|end| match end {
            EndSeen::Own { success } => success || self.rules.unsuccessful_end_is_end,
            EndSeen::Remote { .. } => true,
        });
        if is_end {
            self.want = Want::Nothing(Outcome::Ended);
        }
        let end_refused = batch.end.is_some() && !is_end;
        self.ended_here &= !end_refused;
        let resumed = cause.is_some() || std::mem::take(&mut self.gap_open);
        Report { gap: cause, is_snapshot, resumed, end_refused }
    }

    fn ended_unpolled(&self, batch: Batch) -> bool {
        let Some(EndSeen::Remote { unpolled }) = batch.end else { return false };
        unpolled || self.failures > 0
    }

    /// Whether an answer before one that is no snapshot may have been lost.
    fn is_lost_by(&self, batch: Batch) -> bool {
        match self.doubt {
            Doubt::No => false,
            Doubt::Unanswered => !batch.new_id || self.is_without_ids,
            Doubt::Broken => true,
        }
    }

    fn good(&mut self) {
        self.answered = true;
        self.doubt = Doubt::No;
        self.grace = true;
        self.oversized = 0;
        self.failures = 0;
        self.failing_since = None;
    }

    /// An answer without progress: repeated immediate answers must not cause repeated immediate polls.
    fn pace(&mut self, elapsed: Duration, now: Instant) {
        let took_its_time = self.timeout() > Duration::ZERO && elapsed >= self.timeout() / 2;
        self.quick = if took_its_time { 0 } else { self.quick.saturating_add(1) };
        self.not_before =
            self.quick.checked_sub(QUICK_ANSWERS).map(|over| now + doubled(QUICK_WAIT, over, QUICK_WAIT_MAX));
    }

    fn too_large(&mut self, now: Instant, random: f64) -> Report {
        self.doubt = Doubt::Broken;
        self.oversized += 1;
        let report = self.open_gap(GapCause::TooLarge);
        self.failed(None, now, random);
        if self.oversized >= OVERSIZED && self.want == Want::Poll {
            self.oversized = 0;
            self.want = Want::Establish { may_start: false };
        }
        report
    }

    fn lost(&mut self, now: Instant, random: f64) -> Report {
        self.want = Want::Establish { may_start: true };
        let report = self.open_gap(GapCause::SessionLost);
        let is_first = self.failures == 0;
        self.failed(None, now, random);
        if is_first {
            self.not_before = None;
        }
        report
    }

    fn open_gap(&mut self, cause: GapCause) -> Report {
        let gap = (!std::mem::replace(&mut self.gap_open, true)).then_some((cause, Certainty::Certain));
        Report { gap, ..Report::default() }
    }

    fn failed(&mut self, retry_after: Option<Duration>, now: Instant, random: f64) {
        let since = *self.failing_since.get_or_insert(now);
        let asked = retry_after.map(|after| after.min(LONGEST_POLL_PAUSE));
        let wait = self.rules.backoff.delay(self.failures, asked, random).max(MIN_WAIT);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + wait);
        if (now + wait).saturating_duration_since(since) > self.rules.give_up_after {
            self.want = Want::Nothing(Outcome::GaveUp);
        }
    }

    /// The session has ended: a lost answer's events will not be delivered again.
    fn over(&mut self, outcome: Outcome) -> Report {
        self.want = Want::Nothing(outcome);
        let lost = self.doubt != Doubt::No && !self.gap_open;
        Report { gap: lost.then(|| self.answer_lost()), ..Report::default() }
    }

    fn stop(&mut self, outcome: Outcome) -> Report {
        self.want = Want::Nothing(outcome);
        Report::default()
    }
}

#[cfg(test)]
mod tests;
