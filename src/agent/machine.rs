//! The rules of polling, without IO: what an answer means, and what to do next.
//!
//! One thing is in flight at a time, so the machine is asked [`Machine::next`], that is
//! done, and its outcome is told; time and chance are arguments.

use std::time::{Duration, Instant};

use crate::policy::BackoffPolicy;
use crate::subscription::{Certainty, GapCause, Phase};

/// Empty answers in a row that come at once before polls are paced.
const QUICK_ANSWERS: u32 = 5;
const QUICK_WAIT: Duration = Duration::from_secs(1);
const QUICK_WAIT_MAX: Duration = Duration::from_secs(10);
/// What is asked for while polls fail: an answer soon tells that all is well again.
const TIMEOUT_IN_TROUBLE: Duration = Duration::from_secs(1);
/// No wait after a failure is shorter.
const MIN_WAIT: Duration = Duration::from_millis(500);
/// The longest inactivity that a session can be given: a server that asks for a longer
/// pause asks for the session's end.
pub(crate) const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);
/// A connection that breaks sooner was closed while it was idle.
const BROKEN_AT_ONCE: Duration = Duration::from_secs(1);
/// Answers larger than what is read before the session is joined to get behind them.
const OVERSIZED: u32 = 2;

/// The caller's numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// What is asked for in a poll, in whole seconds.
    pub(crate) timeout: Duration,
    /// For how long polls may fail in a row.
    pub(crate) give_up_after: Duration,
    pub(crate) backoff: BackoffPolicy,
    /// Whether a session that is gone (404, 409) is joined or started again.
    pub(crate) reestablish: bool,
    /// Whether an `AgentSessionEnd` without success is an end.
    pub(crate) unsuccessful_end_is_end: bool,
}

/// How the session came to be: what the first batch of it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// Just now; everything in it is new.
    Started,
    /// It was there before; what happened meanwhile is not told.
    Joined,
    /// It goes on from a place that was kept.
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
    /// Refused for good, or the token's source gave up.
    Fatal,
    /// The answer is larger than what is read.
    TooLarge,
    /// Anything that can pass.
    Trouble(Trouble),
}

/// What of a batch matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    /// It names the id to poll with next.
    pub(crate) moves: bool,
    /// That id is another one than it was polled with.
    pub(crate) new_id: bool,
    /// It has events.
    pub(crate) has_events: bool,
    /// `AgentSessionStart` is one of them.
    pub(crate) has_start: bool,
    /// `icBranchValue` is 3.
    pub(crate) missed: bool,
    /// It has an event that ends the session.
    pub(crate) end: Option<EndSeen>,
}

/// An end event, the surest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EndSeen {
    /// `AgentSessionEnd`.
    Own { success: bool },
    /// `RemoteAgentSessionEnd`.
    Remote,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// What the service asked for.
    pub(crate) retry_after: Option<Duration>,
    /// Whether the service may have handed out a batch that never came.
    pub(crate) doubt: Doubt,
    /// The connection broke before anything came.
    pub(crate) broken: bool,
}

/// Whether an answer to an earlier poll may have been lost.
///
/// The reference says that each answer carries a new id, and that an old one is answered
/// with a snapshot; that every answer does is unverified (incontact-agent-events.md §5.4,
/// found 1.9). After an answer without an id that was lost, a service may continue behind
/// it without a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Doubt {
    #[default]
    No,
    /// Nothing of an answer came, or this side dropped the poll. An answer with a new id
    /// that is no snapshot shows that the former id was still the newest.
    Unanswered,
    /// An answer began and broke off: there was one, and whether it had an id is not known.
    /// Nothing that comes later proves that it held no events.
    Broken,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Poll with the id that was adopted last.
    Poll { timeout: Duration },
    /// Wait until then, and ask again.
    Wait(Instant),
    /// Get another token.
    Refresh,
    /// Join the session or, where that is allowed and there is none, start one.
    Establish { may_start: bool },
    /// Nothing any more.
    Nothing(Outcome),
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The session was ended with an event.
    Ended,
    /// The service says that the session is over (409), or no longer knows one that this
    /// side ended.
    Conflict,
    /// It does not know it (404).
    Invalid,
    /// Refused for good.
    Refused,
    /// Polls failed for too long.
    GaveUp,
}

/// What to deliver for an answer: the gap first, then the batch, then that it goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) gap: Option<(GapCause, Certainty)>,
    /// The batch is the whole live state, not what is new.
    pub(crate) is_snapshot: bool,
    pub(crate) resumed: bool,
    /// It says that the session did not end, though it was asked to.
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
    /// What the next batch is the first one of.
    begun: Option<Begun>,
    answered: bool,
    /// Whether one was lost since the last good answer.
    doubt: Doubt,
    /// A gap was told that has no end yet.
    gap_open: bool,
    last_was_snapshot: bool,
    unauthorized: bool,
    /// The next connection that breaks at once does not count.
    grace: bool,
    quick: u32,
    oversized: u32,
    failures: u32,
    failing_since: Option<Instant>,
    not_before: Option<Instant>,
    /// This side asked for the end, and the service agreed.
    ended_here: bool,
}

impl Machine {
    pub(crate) fn new(rules: Rules, begun: Begun, doubt: Doubt) -> Self {
        Self {
            rules,
            want: Want::Poll,
            begun: Some(begun),
            answered: false,
            doubt,
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

    /// What to do at `now`.
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
        if self.failures > 0 { self.rules.timeout.min(TIMEOUT_IN_TROUBLE) } else { self.rules.timeout }
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

    /// How many tries failed in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// What the stream before had not read is gone.
    pub(crate) fn discarded(&mut self) -> Verdict {
        self.open_gap(GapCause::Discarded)
    }

    /// Whether an answer may have been lost since the last good one.
    pub(crate) fn doubt(&self) -> Doubt {
        self.doubt
    }

    /// The gap to report before the stream ends, where an answer was lost and no gap that
    /// covers it was reported.
    pub(crate) fn last_gap(&mut self) -> Option<(GapCause, Certainty)> {
        let lost = self.doubt == Doubt::Broken && !self.gap_open;
        lost.then(|| self.answer_lost())
    }

    /// One possible gap covers the doubt.
    fn answer_lost(&mut self) -> (GapCause, Certainty) {
        self.doubt = Doubt::No;
        (GapCause::AnswerLost, Certainty::Possible)
    }

    /// The service agreed to end the session: one that is gone stays so.
    pub(crate) fn ended_here(&mut self) {
        self.ended_here = true;
        if matches!(self.want, Want::Establish { .. }) {
            self.want = Want::Nothing(Outcome::Conflict);
        }
    }

    /// A poll's answer, which took `elapsed`.
    pub(crate) fn answered(&mut self, answer: Answer, elapsed: Duration, now: Instant, random: f64) -> Verdict {
        if answer != Answer::Unauthorized {
            self.unauthorized = false;
        }
        match answer {
            Answer::Batch(batch) => self.batch(batch, elapsed, now),
            Answer::Quiet => {
                self.pace(elapsed, now);
                let gap = self.last_gap();
                // It shows nothing of the service's ids.
                let doubt = self.doubt;
                self.good();
                self.doubt = doubt;
                // A session that was joined or started again, and has nothing to tell.
                let resumed = std::mem::take(&mut self.gap_open) || gap.is_some();
                Verdict { gap, resumed, ..Verdict::default() }
            }
            Answer::Unauthorized => {
                // One new token at once. When that is refused too, it is trouble like any
                // other: only a login that is refused is final (found 6.4).
                self.want = Want::Refresh;
                if std::mem::replace(&mut self.unauthorized, true) {
                    self.failed(None, now, random);
                }
                Verdict::default()
            }
            Answer::Unknown | Answer::Over if self.ended_here => self.over(Outcome::Conflict),
            Answer::Unknown | Answer::Over if self.rules.reestablish => self.lost(now, random),
            Answer::Unknown => self.over(Outcome::Invalid),
            Answer::Over => self.over(Outcome::Conflict),
            Answer::Fatal => self.stop(Outcome::Refused),
            Answer::TooLarge => self.too_large(now, random),
            Answer::Trouble(trouble) => {
                self.doubt = self.doubt.max(trouble.doubt);
                if trouble.broken && elapsed < BROKEN_AT_ONCE && self.failures == 0 && std::mem::take(&mut self.grace) {
                    self.not_before = None;
                } else {
                    self.failed(trouble.retry_after, now, random);
                }
                Verdict::default()
            }
        }
    }

    /// Another token is there.
    pub(crate) fn refreshed(&mut self) {
        self.want = Want::Poll;
        self.not_before = None;
    }

    /// A session is there again: joined, or started anew.
    pub(crate) fn established(&mut self, begun: Begun) {
        self.want = Want::Poll;
        self.begun = Some(begun);
        // The gap that is open until the first answer covers it.
        self.doubt = Doubt::No;
        self.unauthorized = false;
        self.not_before = None;
    }

    /// What was to be done instead of a poll failed, and may pass.
    pub(crate) fn stumbled(&mut self, retry_after: Option<Duration>, now: Instant, random: f64) {
        self.failed(retry_after, now, random);
    }

    /// Likewise, and will not pass.
    pub(crate) fn refused(&mut self) {
        self.stop(Outcome::Refused);
    }

    fn batch(&mut self, batch: Batch, elapsed: Duration, now: Instant) -> Verdict {
        let begun = self.begun.take();
        // The first batch after a start begins with `AgentSessionStart` too; after an
        // answer that was lost that is what is told instead of it.
        let is_first = begun == Some(Begun::Started) && self.doubt == Doubt::No;
        let is_snapshot = batch.missed || (batch.has_start && !is_first);
        let cause = match begun {
            _ if self.gap_open => None,
            _ if batch.missed => Some((GapCause::EventsMissed, Certainty::Certain)),
            Some(Begun::Joined) => Some((GapCause::SessionJoined, Certainty::Possible)),
            _ if is_snapshot && self.doubt == Doubt::No => Some((GapCause::EventsMissed, Certainty::Possible)),
            // A replay of what was lost cannot be told from what is new.
            _ if is_snapshot || self.is_lost_by(batch) => Some(self.answer_lost()),
            Some(Begun::Started | Begun::Continued) | None => None,
        };
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
            EndSeen::Remote => true,
        });
        if is_end {
            self.want = Want::Nothing(Outcome::Ended);
        }
        let end_refused = batch.end.is_some() && !is_end;
        self.ended_here &= !end_refused;
        let resumed = cause.is_some() || std::mem::take(&mut self.gap_open);
        Verdict { gap: cause, is_snapshot, resumed, end_refused }
    }

    /// Whether an answer before one that is no snapshot may have been lost.
    fn is_lost_by(&self, batch: Batch) -> bool {
        match self.doubt {
            Doubt::No => false,
            Doubt::Unanswered => !batch.new_id,
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

    /// An answer without progress: a server that answers at once without end must not be
    /// asked at once without end.
    fn pace(&mut self, elapsed: Duration, now: Instant) {
        let took_its_time = self.timeout() > Duration::ZERO && elapsed >= self.timeout() / 2;
        self.quick = if took_its_time { 0 } else { self.quick.saturating_add(1) };
        self.not_before = self.quick.checked_sub(QUICK_ANSWERS).map(|over| {
            let wait = QUICK_WAIT.saturating_mul(1_u32.checked_shl(over).unwrap_or(u32::MAX));
            now + wait.min(QUICK_WAIT_MAX)
        });
    }

    fn too_large(&mut self, now: Instant, random: f64) -> Verdict {
        self.doubt = Doubt::Broken;
        self.oversized += 1;
        let verdict = self.open_gap(GapCause::TooLarge);
        self.failed(None, now, random);
        if self.oversized >= OVERSIZED && self.want == Want::Poll {
            self.oversized = 0;
            self.want = Want::Establish { may_start: false };
        }
        verdict
    }

    fn lost(&mut self, now: Instant, random: f64) -> Verdict {
        self.want = Want::Establish { may_start: true };
        let verdict = self.open_gap(GapCause::SessionLost);
        let is_first = self.failures == 0;
        self.failed(None, now, random);
        if is_first {
            self.not_before = None;
        }
        verdict
    }

    fn open_gap(&mut self, cause: GapCause) -> Verdict {
        let gap = (!std::mem::replace(&mut self.gap_open, true)).then_some((cause, Certainty::Certain));
        Verdict { gap, ..Verdict::default() }
    }

    fn failed(&mut self, retry_after: Option<Duration>, now: Instant, random: f64) {
        let since = *self.failing_since.get_or_insert(now);
        let asked = retry_after.map(|after| after.min(MAX_RETRY_AFTER));
        let wait = self.rules.backoff.delay(self.failures, asked, random).max(MIN_WAIT);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + wait);
        if (now + wait).saturating_duration_since(since) > self.rules.give_up_after {
            self.want = Want::Nothing(Outcome::GaveUp);
        }
    }

    /// The session is over: what was in an answer that was lost will not be told again.
    fn over(&mut self, outcome: Outcome) -> Verdict {
        self.want = Want::Nothing(outcome);
        let lost = self.doubt != Doubt::No && !self.gap_open;
        Verdict { gap: lost.then(|| self.answer_lost()), ..Verdict::default() }
    }

    fn stop(&mut self, outcome: Outcome) -> Verdict {
        self.want = Want::Nothing(outcome);
        Verdict::default()
    }
}

#[cfg(test)]
mod tests;
