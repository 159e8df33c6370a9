//! What failed calls and links require, and which error is reported. Pure.

use std::sync::Arc;

use tokio::time::Instant;

use super::machine::{End, MAX_REFUSALS, Phase, REFUSAL_PERIOD};
use super::refusal;
use crate::error::{Disposition, Error, ErrorKind};
use crate::kind::TransportKind;
use crate::waiting::WaitCause;

/// Owns the last error, and how long calls and links that had worked before have been refused.
///
/// Inputs: each failure with its circumstances, and each success. Answers: what a failure requires, and the errors for
/// the user.
#[derive(Debug, Default)]
pub(super) struct Failures {
    last: Option<Arc<Error>>,
    calls: Refusals,
    links: Refusals,
}

/// The circumstances in which a call failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct FailedCall {
    pub(super) phase: Phase,
    pub(super) transport: TransportKind,
    /// Whether this transport has given a lease.
    pub(super) has_worked: bool,
    /// Whether a lease is held, whose end decides.
    pub(super) is_renewing: bool,
}

impl Failures {
    /// A call failed. Returns the error for the user and what it requires.
    pub(super) fn call(&mut self, now: Instant, error: Error, call: FailedCall) -> (Error, Disposition) {
        let FailedCall { phase, transport, has_worked, is_renewing } = call;
        // A transport that has delivered is not withdrawn for this app (found 6.4).
        let error = if has_worked { error } else { refusal::explain(error, transport) };
        // "Not ready yet" (SUB-406) passes after an installation; later it is a withdrawn permission.
        let is_withdrawn = error.kind() == ErrorKind::Permission && phase != Phase::Starting;
        let disposition = if is_withdrawn { Disposition::Fatal } else { error.disposition() };
        let lasts = || !is_renewing && (!has_worked || self.calls.note(now));
        let disposition = if phase == Phase::Closing { disposition } else { judged(disposition, &error, lasts) };
        (error, disposition)
    }

    /// A link failed. `has_worked`: some link has been up before.
    pub(super) fn link(&mut self, now: Instant, error: &Error, phase: Phase, has_worked: bool) -> Disposition {
        if phase == Phase::Closing {
            return error.disposition();
        }
        judged(error.disposition(), error, || !has_worked || self.links.note(now))
    }

    /// The service granted or confirmed the lease.
    pub(super) fn call_succeeded(&mut self) {
        self.calls = Refusals::default();
    }

    /// A link's peer answered.
    pub(super) fn link_succeeded(&mut self) {
        self.links = Refusals::default();
    }

    /// Remembers an error for the status and the end. Once the end has begun, the error that caused it counts, and not
    /// later ones.
    pub(super) fn note(&mut self, phase: Phase, error: Error) {
        if phase != Phase::Closing {
            self.last = Some(Arc::new(error));
        }
    }

    /// Events can arrive again.
    pub(super) fn recovered(&mut self) {
        self.last = None;
    }

    /// The last error.
    pub(super) fn last(&self) -> Option<&Arc<Error>> {
        self.last.as_ref()
    }

    /// Why the next attempt waits.
    pub(super) fn wait_cause(&self) -> WaitCause {
        self.last.as_ref().map_or(WaitCause::BackOff, |error| WaitCause::after(error))
    }

    /// The result of a change that failed, and whether it may have been carried out, since it was not answered.
    pub(super) fn of_update(&self) -> (Error, bool) {
        let is_ambiguous = self.last.as_ref().is_some_and(|error| error.is_ambiguous());
        (self.last_or("the filters could not be changed"), is_ambiguous)
    }

    /// The error with which the stream ends, unless the end was requested.
    pub(super) fn of_end(&self, end: End) -> Option<Error> {
        match end {
            End::Closed { .. } => None,
            End::Fatal => Some(self.last_or("the subscription cannot continue")),
            End::Refused => Some(
                Error::new(
                    ErrorKind::TransportRefused,
                    "the transport's peer keeps refusing the subscriptions that RingCentral makes for it; PubNub is \
                     withdrawn for new apps: use the WebSocket transport or webhooks instead",
                )
                .with_source(self.last_or("the last refusal")),
            ),
            // Retried for a while, since it can pass (SUB-406); the user must see the cause.
            End::StartTimeout
                if self
                    .last
                    .as_ref()
                    .is_some_and(|it| matches!(it.kind(), ErrorKind::Permission | ErrorKind::Auth)) =>
            {
                Some(self.last_or("a permission is missing").with_disposition(Disposition::Fatal))
            }
            End::StartTimeout => Some(
                Error::new(ErrorKind::Timeout, "the subscription could not be created in time")
                    .with_source(self.last_or("no call failed, but none was answered")),
            ),
        }
    }

    fn last_or(&self, otherwise: &'static str) -> Error {
        self.last.as_deref().cloned().unwrap_or_else(|| Error::new(ErrorKind::Internal, otherwise))
    }
}

/// Classifies an error of a request that may have worked before: only permanent errors are fatal at once, a refusal
/// when it `lasts` (found 6.4).
fn judged(disposition: Disposition, error: &Error, lasts: impl FnOnce() -> bool) -> Disposition {
    let retry = Disposition::Retry { after: None };
    match (disposition, error.kind()) {
        // Another token may work.
        (Disposition::Refresh, _) => retry,
        (Disposition::Fatal, ErrorKind::Auth) if error.is_login_refused() => Disposition::Fatal,
        (
            Disposition::Fatal,
            ErrorKind::Auth
            | ErrorKind::Permission
            | ErrorKind::TransportRefused
            | ErrorKind::Rejected
            | ErrorKind::NotFound
            | ErrorKind::Protocol,
        ) => {
            if lasts() {
                Disposition::Fatal
            } else {
                retry
            }
        }
        (disposition, _) => disposition,
    }
}

/// Counts consecutive refusals of requests that had worked before.
#[derive(Clone, Copy, Debug, Default)]
struct Refusals {
    count: u32,
    first: Option<Instant>,
}

impl Refusals {
    /// Counts one more; returns whether they last so long that they are permanent.
    fn note(&mut self, now: Instant) -> bool {
        self.count = self.count.saturating_add(1);
        let first = *self.first.get_or_insert(now);
        self.count >= MAX_REFUSALS && now.saturating_duration_since(first) >= REFUSAL_PERIOD
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RETRY: Disposition = Disposition::Retry { after: None };
    const FATAL: Disposition = Disposition::Fatal;

    fn error(kind: ErrorKind) -> Error {
        Error::new(kind, "x").with_disposition(FATAL)
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn in_phase(phase: Phase) -> FailedCall {
        FailedCall { phase, transport: TransportKind::PubNub, has_worked: true, is_renewing: false }
    }

    #[test]
    fn refusals_are_an_answer_when_there_are_many_over_two_minutes() {
        let start = Instant::now();
        let note = |seconds: &[u64]| {
            let mut refusals = Refusals::default();
            let last = seconds.iter().map(|second| refusals.note(start + secs(*second)));
            last.last().unwrap()
        };
        assert!(!note(&[0, 1, 2, 3, 4, 119]));
        assert!(!note(&[0, 50, 100, 200]));
        assert!(note(&[0, 1, 2, 3, 120]));
    }

    #[test]
    fn found_6_4_only_a_lasting_refusal_of_what_had_worked_is_fatal() {
        let login = Error::new(ErrorKind::Auth, "x").with_disposition(FATAL).with_login_refused();
        let refused = || error(ErrorKind::Rejected);
        let other = in_phase;
        // An error, its circumstances, and what it requires at first and once refusals last.
        for (error, call, first, later) in [
            (refused(), other(Phase::Live), RETRY, FATAL),
            (error(ErrorKind::Auth), other(Phase::Live), RETRY, FATAL),
            (error(ErrorKind::Permission), other(Phase::Live), RETRY, FATAL),
            (error(ErrorKind::TransportRefused), other(Phase::Live), RETRY, FATAL),
            (error(ErrorKind::NotFound), other(Phase::Live), RETRY, FATAL),
            (error(ErrorKind::Protocol), other(Phase::Live), RETRY, FATAL),
            (error(ErrorKind::Config), other(Phase::Live), FATAL, FATAL),
            (login, other(Phase::Live), FATAL, FATAL),
            (refused().with_disposition(Disposition::Refresh), other(Phase::Live), RETRY, RETRY),
            (
                refused().with_disposition(Disposition::Recreate),
                other(Phase::Live),
                Disposition::Recreate,
                Disposition::Recreate,
            ),
            (refused(), FailedCall { has_worked: false, ..other(Phase::Starting) }, FATAL, FATAL),
            (refused(), FailedCall { is_renewing: true, ..other(Phase::Live) }, RETRY, RETRY),
            (refused(), FailedCall { has_worked: false, is_renewing: true, ..other(Phase::Live) }, RETRY, RETRY),
            (refused(), other(Phase::Closing), FATAL, FATAL),
            (
                refused().with_disposition(Disposition::Refresh),
                other(Phase::Closing),
                Disposition::Refresh,
                Disposition::Refresh,
            ),
            // "Not ready yet" is transient at the start only.
            (
                error(ErrorKind::Permission).with_disposition(RETRY),
                FailedCall { has_worked: false, ..other(Phase::Starting) },
                RETRY,
                RETRY,
            ),
            (error(ErrorKind::Permission).with_disposition(RETRY), other(Phase::Live), RETRY, FATAL),
            (error(ErrorKind::Permission).with_disposition(RETRY), other(Phase::Closing), FATAL, FATAL),
        ] {
            let (mut failures, start) = (Failures::default(), Instant::now());
            let mut at = |second| failures.call(start + secs(second), error.clone(), call).1;
            assert_eq!(at(0), first, "{error:?} {call:?}");
            let last = [1, 2, 3, 120].map(&mut at)[3];
            assert_eq!(last, later, "{error:?} {call:?}");
            failures.call_succeeded();
            assert_eq!(failures.call(start + secs(240), error.clone(), call).1, first, "{error:?} {call:?}");
        }
    }

    #[test]
    fn links_that_had_worked_are_refused_for_good_when_that_lasts() {
        let (start, refused) = (Instant::now(), error(ErrorKind::TransportRefused));
        for (phase, has_worked, first, later) in [
            (Phase::Reconnecting, true, RETRY, FATAL),
            (Phase::Connecting, false, FATAL, FATAL),
            (Phase::Closing, true, FATAL, FATAL),
        ] {
            let mut failures = Failures::default();
            let mut at = |second| failures.link(start + secs(second), &refused, phase, has_worked);
            assert_eq!([0, 1, 2, 3, 120].map(&mut at), [first, first, first, first, later], "{phase:?}");
            failures.call_succeeded();
            assert_eq!(failures.link(start + secs(121), &refused, phase, has_worked), later, "calls are counted apart");
            failures.link_succeeded();
            assert_eq!(failures.link(start + secs(122), &refused, phase, has_worked), first);
        }
        let refresh = error(ErrorKind::Auth).with_disposition(Disposition::Refresh);
        for (phase, want) in [(Phase::Reconnecting, RETRY), (Phase::Closing, Disposition::Refresh)] {
            assert_eq!(Failures::default().link(start, &refresh, phase, true), want);
        }
    }

    #[test]
    fn a_refusal_is_explained_unless_the_transport_has_worked() {
        for has_worked in [false, true] {
            let refused = error(ErrorKind::TransportRefused);
            let call = FailedCall { has_worked, ..in_phase(Phase::Starting) };
            let (shown, _) = Failures::default().call(Instant::now(), refused, call);
            assert_eq!(shown.to_string().contains("webhooks"), !has_worked, "{shown}");
        }
    }

    #[test]
    fn the_error_that_caused_the_end_is_reported() {
        let mut failures = Failures::default();
        let kinds = |failures: &Failures| {
            [End::Closed { deleted: true }, End::Fatal, End::Refused, End::StartTimeout]
                .map(|end| failures.of_end(end).map(|error| error.kind()))
        };
        assert!(failures.last().is_none());
        let [internal, refused, late] =
            [ErrorKind::Internal, ErrorKind::TransportRefused, ErrorKind::Timeout].map(Some);
        assert_eq!(kinds(&failures), [None, internal, refused, late]);
        for (kind, start) in [
            (ErrorKind::Service, ErrorKind::Timeout),
            (ErrorKind::Auth, ErrorKind::Auth),
            (ErrorKind::Permission, ErrorKind::Permission),
        ] {
            failures.note(Phase::Starting, Error::new(kind, "the cause").with_disposition(RETRY));
            // What fails while it is ended does not count.
            failures.note(Phase::Closing, Error::new(ErrorKind::Network, "later"));
            assert_eq!(failures.last().unwrap().kind(), kind);
            assert_eq!(kinds(&failures), [None, Some(kind), refused, Some(start)]);
            let shown = failures.of_end(End::StartTimeout).unwrap();
            assert_eq!(shown.disposition() == FATAL, start != ErrorKind::Timeout);
            for end in [End::Refused, End::StartTimeout].into_iter().filter(|_| start == ErrorKind::Timeout) {
                let cause = failures.of_end(end).unwrap();
                assert_eq!(std::error::Error::source(&cause).unwrap().to_string(), "the cause");
            }
        }
        failures.recovered();
        assert!(failures.last().is_none());
    }

    #[test]
    fn a_change_that_was_not_answered_may_have_been_carried_out() {
        let mut failures = Failures::default();
        assert_eq!((failures.of_update().1, failures.wait_cause()), (false, WaitCause::BackOff));
        failures.note(Phase::Live, Error::new(ErrorKind::Timeout, "x").with_ambiguous(true));
        assert!(failures.of_update().1);
        failures.note(Phase::Live, Error::new(ErrorKind::RateLimited, "y"));
        let (error, is_ambiguous) = failures.of_update();
        assert_eq!((error.to_string().as_str(), is_ambiguous), ("y", false));
        assert_eq!(failures.wait_cause(), WaitCause::RateLimit);
    }
}
