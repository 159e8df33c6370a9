//! What the status shows. Pure.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::ending::Ending;
use super::failures::Failures;
use super::machine;
use crate::ids::SubscriptionId;
use crate::kind::TransportKind;
use crate::status::{Phase, Status, Wait};
use crate::waiting::{REPORTED_WAIT, Waiting};

/// What the other owners answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) phase: machine::Phase,
    pub(super) transport: TransportKind,
    pub(super) id: Option<&'a SubscriptionId>,
    /// When the lease ends.
    pub(super) expires_at: Option<std::time::Instant>,
    pub(super) failed_attempts: u32,
    pub(super) is_polling: bool,
    /// Whether nothing is pushed and a source fails: the sources show the health of a polled subscription.
    pub(super) is_poll_failing: bool,
    /// Whether a source's latest query failed.
    pub(super) does_source_fail: bool,
    /// Since when events may be missing, while that is open.
    pub(super) missing_since: Option<SystemTime>,
    /// Whether no orphan is being deleted.
    pub(super) is_settled: bool,
    /// Whether nothing of it remains at the service.
    pub(super) is_deleted: bool,
    /// What a call in flight waits for.
    pub(super) call_waits: Option<Waiting>,
    /// Until when the machine delays the next attempt.
    pub(super) next_attempt: Option<Instant>,
}

/// Owns what is reported of the subscription as a whole: how it ends, its last error, its status. What the status shows
/// by the wall clock is computed once for each deadline, so that a reported time changes only when the deadline does.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) ending: Ending,
    pub(super) failures: Failures,
    /// The lease's end by both clocks.
    expiry: Option<(std::time::Instant, SystemTime)>,
    /// The delay of the next attempt, and what is reported of it.
    waiting: Option<(Waiting, Option<Wait>)>,
}

impl Report {
    pub(super) fn new(ending: Ending) -> Self {
        Self { ending, failures: Failures::default(), expiry: None, waiting: None }
    }

    /// The status to publish, if it differs from the published one. Once events can arrive, the last error is over.
    pub(super) fn update(
        &mut self,
        now: Instant,
        wall: SystemTime,
        facts: Facts<'_>,
        published: &Status,
    ) -> Option<Status> {
        let (phase, has_ended) = (phase(facts), self.ending.has_ended());
        if phase == Phase::Live && published.phase != Phase::Live {
            self.failures.recovered();
        }
        let is_polling = facts.is_polling && !has_ended;
        let new = Status {
            phase,
            since: if phase == published.phase { published.since } else { Some(wall) },
            subscription_id: facts.id.cloned(),
            transport: facts.transport,
            expires_at: self.expires_at(now, wall, facts.expires_at),
            is_polling,
            is_poll_failing: is_polling && facts.does_source_fail,
            missing_since: facts.missing_since.filter(|_| !has_ended),
            failed_attempts: facts.failed_attempts,
            waiting: self.waiting(now, wall, phase, facts),
            last_error: self.failures.last().cloned(),
            deleted: has_ended && facts.is_deleted,
        };
        differs(&new, published).then_some(new)
    }

    fn expires_at(&mut self, now: Instant, wall: SystemTime, end: Option<std::time::Instant>) -> Option<SystemTime> {
        if self.expiry.map(|(reported, _)| reported) != end {
            self.expiry = end.and_then(|end| {
                let left = end.saturating_duration_since(now.into_std());
                Some((end, wall.checked_add(left)?))
            });
        }
        self.expiry.map(|(_, wall)| wall)
    }

    /// What the next attempt on the way to [`Phase::Live`] waits for, if that is worth reporting.
    fn waiting(&mut self, now: Instant, wall: SystemTime, phase: Phase, facts: Facts<'_>) -> Option<Wait> {
        let next_attempt = || facts.next_attempt.map(|until| (until, self.failures.wait_cause()));
        let found = match phase {
            Phase::Live | Phase::Closing | Phase::Closed => None,
            Phase::Starting | Phase::Connecting | Phase::Reconnecting | Phase::Recreating => {
                facts.call_waits.or_else(next_attempt)
            }
        };
        if self.waiting.map(|(waiting, _)| waiting) != found {
            self.waiting = found.map(|(until, cause)| {
                let left = until.saturating_duration_since(now);
                ((until, cause), (left > REPORTED_WAIT).then(|| Wait::new(wall + left, cause)))
            });
        }
        self.waiting.and_then(|(_, wait)| wait)
    }
}

fn phase(facts: Facts<'_>) -> Phase {
    match facts.phase {
        machine::Phase::Starting => Phase::Starting,
        machine::Phase::Connecting => Phase::Connecting,
        machine::Phase::Live if facts.is_poll_failing => Phase::Reconnecting,
        machine::Phase::Live => Phase::Live,
        machine::Phase::Reconnecting => Phase::Reconnecting,
        machine::Phase::Recreating => Phase::Recreating,
        machine::Phase::Closing => Phase::Closing,
        machine::Phase::Closed if !facts.is_settled => Phase::Closing,
        machine::Phase::Closed => Phase::Closed,
    }
}

fn differs(new: &Status, published: &Status) -> bool {
    let same_error = match (&new.last_error, &published.last_error) {
        (Some(new), Some(published)) => Arc::ptr_eq(new, published),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    let rest = |it: &Status| {
        let polls = (it.is_polling, it.is_poll_failing);
        (it.phase, it.transport, it.expires_at, polls, it.missing_since, it.failed_attempts, it.waiting, it.deleted)
    };
    !same_error || new.subscription_id != published.subscription_id || rest(new) != rest(published)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::subscription::ending::Terms;
    use crate::subscription::machine::End;
    use crate::waiting::WaitCause;

    const WALL: SystemTime = SystemTime::UNIX_EPOCH;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn report() -> Report {
        let within = secs(10);
        let terms = Terms { delete_on_drop: true, close_within: within, drop_within: within };
        Report::new(Ending::new(terms, Instant::now()))
    }

    fn in_phase(phase: machine::Phase) -> Facts<'static> {
        Facts {
            phase,
            transport: TransportKind::PubNub,
            id: None,
            expires_at: None,
            failed_attempts: 0,
            is_polling: false,
            is_poll_failing: false,
            does_source_fail: false,
            missing_since: None,
            is_settled: true,
            is_deleted: false,
            call_waits: None,
            next_attempt: None,
        }
    }

    #[test]
    fn a_status_is_published_when_a_part_of_it_changed() {
        let (now, id) = (Instant::now(), SubscriptionId::new("a"));
        let base = in_phase(machine::Phase::Connecting);
        let wait = Some((now + secs(9), WaitCause::RateLimit));
        for (name, facts) in [
            ("phase", in_phase(machine::Phase::Recreating)),
            ("transport", Facts { transport: TransportKind::WebSocket, ..base }),
            ("id", Facts { id: Some(&id), ..base }),
            ("expires_at", Facts { expires_at: Some(now.into_std()), ..base }),
            ("failed_attempts", Facts { failed_attempts: 1, ..base }),
            ("is_polling", Facts { is_polling: true, ..base }),
            ("is_poll_failing", Facts { is_polling: true, does_source_fail: true, ..base }),
            ("missing_since", Facts { missing_since: Some(WALL), ..base }),
            ("waiting", Facts { call_waits: wait, ..base }),
        ] {
            let (mut report, mut status) = (report(), Status::starting(TransportKind::PubNub));
            let mut update = |facts, status: &mut Status| {
                let new = report.update(now, WALL, facts, status);
                let is_new = new.is_some();
                new.into_iter().for_each(|new| *status = new);
                is_new
            };
            assert!(update(base, &mut status) && !update(base, &mut status));
            assert!(update(facts, &mut status) && !update(facts, &mut status), "{name}");
        }
    }

    #[test]
    fn a_phase_is_shown_with_its_beginning() {
        let (mut report, now) = (report(), Instant::now());
        let mut status = Status::starting(TransportKind::PubNub);
        for (after, phase, failed_attempts, since) in [
            (1, machine::Phase::Live, 0, 1),
            (5, machine::Phase::Live, 1, 1),
            (8, machine::Phase::Reconnecting, 1, 8),
            (9, machine::Phase::Reconnecting, 2, 8),
            (20, machine::Phase::Live, 0, 20),
        ] {
            let facts = Facts { failed_attempts, ..in_phase(phase) };
            status = report.update(now, WALL + secs(after), facts, &status).unwrap();
            assert_eq!(status.since, Some(WALL + secs(since)), "{after}");
        }
    }

    #[test]
    fn the_last_error_is_shown_until_events_can_arrive() {
        let (mut report, now) = (report(), Instant::now());
        let mut status = Status::starting(TransportKind::PubNub);
        let error = |text| Error::new(ErrorKind::Service, text);
        let mut at = |phase, error: Option<Error>| {
            let facts = in_phase(phase);
            error.into_iter().for_each(|error| report.failures.note(phase, error));
            report.update(now, WALL, facts, &status).map(|new| {
                status = new;
                status.last_error.as_ref().map(ToString::to_string)
            })
        };
        assert_eq!(at(machine::Phase::Starting, Some(error("a"))), Some(Some("a".into())));
        assert_eq!(at(machine::Phase::Starting, None), None);
        assert_eq!(at(machine::Phase::Starting, Some(error("b"))), Some(Some("b".into())));
        assert_eq!(at(machine::Phase::Live, None), Some(None));
        assert_eq!(at(machine::Phase::Live, Some(error("c"))), Some(Some("c".into())), "a renewal failed");
    }

    #[test]
    fn each_phase_is_shown_as_the_user_sees_it() {
        for (facts, want) in [
            (in_phase(machine::Phase::Starting), Phase::Starting),
            (in_phase(machine::Phase::Connecting), Phase::Connecting),
            (in_phase(machine::Phase::Live), Phase::Live),
            (Facts { is_poll_failing: true, ..in_phase(machine::Phase::Live) }, Phase::Reconnecting),
            (in_phase(machine::Phase::Reconnecting), Phase::Reconnecting),
            (in_phase(machine::Phase::Recreating), Phase::Recreating),
            (in_phase(machine::Phase::Closing), Phase::Closing),
            (Facts { is_settled: false, ..in_phase(machine::Phase::Closed) }, Phase::Closing),
            (in_phase(machine::Phase::Closed), Phase::Closed),
        ] {
            assert_eq!(phase(facts), want, "{facts:?}");
        }
        let before = Status::starting(TransportKind::PubNub);
        for (has_ended, is_deleted, polls, deleted) in
            [(true, false, false, false), (false, true, true, false), (true, true, false, true)]
        {
            let mut report = report();
            if has_ended {
                report.ending.ended(End::Fatal);
            }
            let facts = Facts { is_polling: true, is_deleted, ..in_phase(machine::Phase::Closed) };
            let new = report.update(Instant::now(), WALL, facts, &before).unwrap();
            assert_eq!((new.is_polling, new.deleted), (polls, deleted), "{has_ended} {is_deleted}");
            assert!(report.update(Instant::now(), WALL, facts, &new).is_none());
            let other = Status { deleted: !deleted, ..new };
            assert!(report.update(Instant::now(), WALL, facts, &other).is_some());
        }
    }

    #[test]
    fn a_reported_time_stays_the_same_while_its_deadline_does() {
        let (mut report, start) = (report(), Instant::now());
        let end = |after| Some((start + secs(after)).into_std());
        assert_eq!(report.expires_at(start, WALL, end(60)), Some(WALL + secs(60)));
        // The wall clock was set, and time passed.
        assert_eq!(report.expires_at(start + secs(1), WALL + secs(99), end(60)), Some(WALL + secs(60)));
        assert_eq!(report.expires_at(start + secs(1), WALL + secs(99), end(61)), Some(WALL + secs(159)));
        assert_eq!(report.expires_at(start, WALL, None), None);
    }

    #[test]
    fn a_long_wait_is_shown_while_events_cannot_arrive() {
        let start = Instant::now();
        let by_call = |after| Facts {
            call_waits: Some((start + secs(after), WaitCause::RateLimit)),
            next_attempt: Some(start + secs(50)),
            ..in_phase(machine::Phase::Starting)
        };
        let by_machine = Facts { call_waits: None, ..by_call(0) };
        for (phase, facts, want) in [
            (Phase::Starting, by_call(9), Some((9, WaitCause::RateLimit))),
            (Phase::Connecting, by_machine, Some((50, WaitCause::BackOff))),
            (Phase::Reconnecting, by_call(2), None),
            (Phase::Recreating, by_call(3), Some((3, WaitCause::RateLimit))),
            (Phase::Recreating, in_phase(machine::Phase::Recreating), None),
            (Phase::Live, by_call(9), None),
            (Phase::Closing, by_call(9), None),
            (Phase::Closed, by_machine, None),
        ] {
            let mut report = report();
            let want = want.map(|(after, cause)| Wait::new(WALL + secs(after), cause));
            assert_eq!(report.waiting(start, WALL, phase, facts), want, "{phase:?} {facts:?}");
            // Computed once for each wait.
            assert_eq!(report.waiting(start + secs(1), WALL + secs(77), phase, facts), want);
        }
    }
}
