//! How a subscription ends, and when its start must be answered. Pure.

use std::time::Duration;

use tokio::time::Instant;

use super::machine::{End, Phase};
use crate::delivery::GapCause;

/// How to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shutdown {
    /// Delete, deliver the waiting items, end.
    Drain,
    /// Delete, discard the waiting items and report that, end.
    Discard,
    /// The reader was dropped.
    Dropped,
}

/// The settings of the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Whether the subscription is deleted when its reader is dropped. If not, another process continues it.
    pub(super) delete_on_drop: bool,
    pub(super) close_within: Duration,
    pub(super) drop_within: Duration,
}

/// What to do about events that may be unread when the end is requested: they are deleted with the subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// The present link shows whether there are any.
    Check,
    /// Report them.
    Report(GapCause),
    Ignore,
}

/// How to carry out a request to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) unread: Unread,
    pub(super) delete: bool,
    pub(super) within: Duration,
    /// Whether the link is read until the deletion is answered.
    pub(super) linger: bool,
}

/// What remains to be done once it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// When the end began.
    pub(super) began: Option<Instant>,
    /// How long it may take in all, if a caller waits for it.
    pub(super) within: Option<Duration>,
    /// Whether a subscription may be left at the service that no other process continues.
    pub(super) leaves_orphan: bool,
}

/// The answer to the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Pending,
    Succeeded,
    Failed(End),
}

/// Owns the request to end, the begin of the end, the end, and the deadline of the start's answer.
///
/// Inputs: requests to end, the machine's phase, the end. Effects: a [`Request`] to carry out, and what is left at the
/// [`Ended`]. Answers: whether it has ended, whether a reader can still receive something, the answer to the start.
#[derive(Debug)]
pub(super) struct Ending {
    terms: Terms,
    requested: Option<Shutdown>,
    /// Since when it is being ended.
    began: Option<Instant>,
    end: Option<End>,
    /// When the start must be answered, until it is.
    start_by: Option<Instant>,
}

impl Ending {
    pub(super) fn new(terms: Terms, start_by: Instant) -> Self {
        Self { terms, requested: None, began: None, end: None, start_by: Some(start_by) }
    }

    /// The end is requested; a later request replaces an earlier one. `is_polled`: some events are delivered by polls
    /// only.
    pub(super) fn request(&mut self, how: Shutdown, phase: Phase, is_polled: bool) -> Request {
        self.requested = Some(how);
        let unread = match phase {
            Phase::Live if is_polled => Unread::Report(GapCause::NotPolled),
            Phase::Live if how == Shutdown::Drain => Unread::Check,
            // A subscription that continues another process's has not read the events since then.
            Phase::Connecting | Phase::Reconnecting => Unread::Report(GapCause::EndedOffline),
            Phase::Live | Phase::Starting | Phase::Recreating | Phase::Closing | Phase::Closed => Unread::Ignore,
        };
        let (delete, within) = match how {
            Shutdown::Drain | Shutdown::Discard => (true, self.terms.close_within),
            Shutdown::Dropped => (self.terms.delete_on_drop, self.terms.drop_within),
        };
        Request { unread, delete, within, linger: how == Shutdown::Drain }
    }

    /// The machine reached a phase.
    pub(super) fn observe(&mut self, now: Instant, phase: Phase) {
        if phase == Phase::Closing {
            self.began.get_or_insert(now);
        }
    }

    /// It has ended. The end is counted from its begin, so that its deadlines are not added up; a call to `close` waits
    /// no longer than configured.
    pub(super) fn ended(&mut self, end: End) -> Ended {
        self.end = Some(end);
        let leaves_orphan = match end {
            End::Closed { deleted } => !deleted && !self.keeps_subscription(),
            End::Fatal | End::Refused | End::StartTimeout => true,
        };
        Ended { began: self.began, within: self.has_reader_at_end().then_some(self.terms.close_within), leaves_orphan }
    }

    /// How it ended.
    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    pub(super) fn has_begun(&self) -> bool {
        self.began.is_some()
    }

    /// Whether the reader was dropped: no other request follows.
    pub(super) fn is_dropped(&self) -> bool {
        self.requested == Some(Shutdown::Dropped)
    }

    /// Whether the end was requested by a reader that can still receive a gap.
    pub(super) fn has_reader_at_end(&self) -> bool {
        matches!(self.requested, Some(Shutdown::Drain | Shutdown::Discard))
    }

    /// Whether events that have arrived over a link are delivered before it is closed.
    pub(super) fn drains_links(&self) -> bool {
        self.requested == Some(Shutdown::Drain)
    }

    /// Whether another process continues the subscription.
    pub(super) fn keeps_subscription(&self) -> bool {
        self.is_dropped() && !self.terms.delete_on_drop
    }

    /// Whether the subscription is deleted when its reader is dropped.
    pub(super) fn deletes_when_dropped(&self) -> bool {
        self.terms.delete_on_drop
    }

    /// The answer to the start. `is_settled`: no orphan is being deleted; the start waits for that until its deadline.
    pub(super) fn start(&mut self, now: Instant, phase: Phase, is_settled: bool) -> Start {
        let start = match (phase, self.end) {
            // If it ends before it began, the end has the result.
            (Phase::Starting | Phase::Closing, None) => return Start::Pending,
            (_, Some(_)) if !is_settled && self.start_by.is_some_and(|by| by > now) => return Start::Pending,
            (_, Some(end)) => Start::Failed(end),
            (_, None) => Start::Succeeded,
        };
        self.start_by = None;
        start
    }

    /// When [`start`](Self::start) may change. Before the end the machine bounds the start.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.start_by.filter(|_| self.has_ended())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSED: End = End::Closed { deleted: false };
    const CLOSE_WITHIN: Duration = Duration::from_secs(10);
    const DROP_WITHIN: Duration = Duration::from_secs(5);

    fn ending(delete_on_drop: bool) -> Ending {
        let terms = Terms { delete_on_drop, close_within: CLOSE_WITHIN, drop_within: DROP_WITHIN };
        Ending::new(terms, Instant::now() + Duration::from_secs(60))
    }

    #[test]
    fn a_request_deletes_within_its_own_time_unless_another_process_continues() {
        for (how, delete_on_drop, delete, within) in [
            (Shutdown::Drain, false, true, CLOSE_WITHIN),
            (Shutdown::Discard, false, true, CLOSE_WITHIN),
            (Shutdown::Dropped, true, true, DROP_WITHIN),
            (Shutdown::Dropped, false, false, DROP_WITHIN),
        ] {
            let mut ending = ending(delete_on_drop);
            assert_eq!(ending.deletes_when_dropped(), delete_on_drop);
            assert!(!ending.is_dropped() && !ending.has_reader_at_end() && !ending.drains_links());
            let request = ending.request(how, Phase::Starting, false);
            let linger = how == Shutdown::Drain;
            assert_eq!(request, Request { unread: Unread::Ignore, delete, within, linger }, "{how:?}");
            let is_dropped = how == Shutdown::Dropped;
            assert_eq!((ending.is_dropped(), ending.has_reader_at_end()), (is_dropped, !is_dropped), "{how:?}");
            assert_eq!((ending.drains_links(), ending.keeps_subscription()), (linger, !delete), "{how:?}");
        }
    }

    #[test]
    fn unread_events_are_checked_for_or_reported() {
        let offline = || Unread::Report(GapCause::EndedOffline);
        let not_polled = Unread::Report(GapCause::NotPolled);
        // By phase: what is done when it is drained, when it is dropped, and when events are polled.
        for (phase, drained, dropped, polled) in [
            (Phase::Live, Unread::Check, Unread::Ignore, not_polled),
            (Phase::Connecting, offline(), offline(), offline()),
            (Phase::Reconnecting, offline(), offline(), offline()),
            (Phase::Starting, Unread::Ignore, Unread::Ignore, Unread::Ignore),
            (Phase::Recreating, Unread::Ignore, Unread::Ignore, Unread::Ignore),
            (Phase::Closing, Unread::Ignore, Unread::Ignore, Unread::Ignore),
            (Phase::Closed, Unread::Ignore, Unread::Ignore, Unread::Ignore),
        ] {
            let unread = |how, is_polled| ending(true).request(how, phase, is_polled).unread;
            assert_eq!(
                (unread(Shutdown::Drain, false), unread(Shutdown::Dropped, false)),
                (drained, dropped),
                "{phase:?}"
            );
            assert_eq!(
                (unread(Shutdown::Drain, true), unread(Shutdown::Dropped, true)),
                (polled.clone(), polled),
                "{phase:?}"
            );
        }
    }

    #[test]
    fn the_end_leaves_an_orphan_unless_it_is_deleted_or_another_process_continues() {
        let deleted = End::Closed { deleted: true };
        for (how, end, leaves_orphan) in [
            (None, End::Fatal, true),
            (None, End::Refused, true),
            (None, End::StartTimeout, true),
            (Some(Shutdown::Drain), CLOSED, true),
            (Some(Shutdown::Drain), deleted, false),
            (Some(Shutdown::Dropped), CLOSED, false),
            (Some(Shutdown::Dropped), End::Fatal, true),
        ] {
            let mut ending = ending(false);
            how.map(|how| ending.request(how, Phase::Live, false));
            assert!(!ending.has_ended() && ending.end().is_none());
            let ended = ending.ended(end);
            let within = (how == Some(Shutdown::Drain)).then_some(CLOSE_WITHIN);
            assert_eq!(ended, Ended { began: None, within, leaves_orphan }, "{how:?} {end:?}");
            assert_eq!((ending.has_ended(), ending.end()), (true, Some(end)));
        }
    }

    #[test]
    fn the_end_begins_when_the_machine_first_closes() {
        let (mut ending, start) = (ending(true), Instant::now());
        ending.observe(start, Phase::Live);
        assert!(!ending.has_begun());
        ending.observe(start + DROP_WITHIN, Phase::Closing);
        ending.observe(start + CLOSE_WITHIN, Phase::Closing);
        assert!(ending.has_begun());
        assert_eq!(ending.ended(CLOSED).began, Some(start + DROP_WITHIN));
    }

    #[test]
    fn the_start_is_answered_by_its_result_or_its_end() {
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(61));
        for (phase, end, is_settled, at, want) in [
            (Phase::Starting, None, true, later, Start::Pending),
            (Phase::Closing, None, true, later, Start::Pending),
            (Phase::Connecting, None, false, now, Start::Succeeded),
            (Phase::Live, None, true, now, Start::Succeeded),
            (Phase::Closed, Some(End::Fatal), true, now, Start::Failed(End::Fatal)),
            (Phase::Closed, Some(CLOSED), false, now, Start::Pending),
            (Phase::Closed, Some(CLOSED), false, later, Start::Failed(CLOSED)),
        ] {
            let mut ending = ending(true);
            end.map(|end| ending.ended(end));
            assert_eq!(ending.poll_timeout().is_some(), end.is_some(), "before the end the machine bounds it");
            assert_eq!(ending.start(at, phase, is_settled), want, "{phase:?} {end:?} {is_settled}");
            let is_pending = want == Start::Pending;
            assert_eq!(ending.poll_timeout().is_some(), is_pending && end.is_some(), "{phase:?} {end:?}");
        }
    }
}
