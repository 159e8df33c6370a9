//! Decides whether a call is retried. Pure.

use std::time::Duration;

use crate::error::{Disposition, Error};
use crate::policy::BackoffPolicy;

/// The retry policy's "up to 3 times".
const REPEATS: u32 = 3;

/// Which retries a call allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idempotency {
    /// Sending it twice has the same effect as once.
    Safe,
    /// Sending it twice may act twice: only if it was certainly not carried out.
    IfUndone,
    /// The caller decides. A refused token is still replaced.
    Never,
}

/// The attempts so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attempts {
    pub(crate) repeats: u32,
    pub(crate) refreshed: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Get another token, then retry.
    Refresh,
    /// Retry after this delay.
    Wait(Duration),
    /// Return the error to the caller.
    GiveUp,
}

/// The step after `error`, with `left` until the call's deadline.
pub(crate) fn next_step(
    error: &Error,
    repeat: Idempotency,
    attempts: Attempts,
    backoff: &BackoffPolicy,
    random: f64,
    left: Duration,
) -> Step {
    match error.disposition() {
        Disposition::Refresh if !attempts.refreshed => Step::Refresh,
        Disposition::Retry { after } => {
            let allowed = match repeat {
                Idempotency::Safe => true,
                Idempotency::IfUndone => !error.is_ambiguous(),
                Idempotency::Never => false,
            };
            let wait = backoff.delay(attempts.repeats, after, random);
            if allowed && attempts.repeats < REPEATS && wait < left { Step::Wait(wait) } else { Step::GiveUp }
        }
        Disposition::Refresh
        | Disposition::Fatal
        | Disposition::Recreate
        | Disposition::Prune
        | Disposition::Resync => Step::GiveUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const SECOND: Duration = Duration::from_secs(1);

    fn step(error: &Error, repeat: Idempotency, repeats: u32, refreshed: bool, left: Duration) -> Step {
        next_step(error, repeat, Attempts { repeats, refreshed }, &BackoffPolicy::default(), 1.0, left)
    }

    #[test]
    fn only_safe_calls_are_retried_after_ambiguous_errors() {
        let broken = Error::new(ErrorKind::Network, "x").with_ambiguous(true);
        let unsent = Error::new(ErrorKind::Network, "x");
        let limited =
            Error::new(ErrorKind::RateLimited, "x").with_disposition(Disposition::Retry { after: Some(SECOND) });
        let fatal = Error::new(ErrorKind::Rejected, "x");
        let quick = Step::Wait(Duration::from_millis(200));
        let plenty = SECOND * 9;
        for (error, repeat, want) in [
            (&broken, Idempotency::Safe, quick),
            (&broken, Idempotency::IfUndone, Step::GiveUp),
            (&broken, Idempotency::Never, Step::GiveUp),
            (&unsent, Idempotency::Safe, quick),
            (&unsent, Idempotency::IfUndone, quick),
            (&unsent, Idempotency::Never, Step::GiveUp),
            (&limited, Idempotency::Safe, Step::Wait(SECOND)),
            (&limited, Idempotency::IfUndone, Step::Wait(SECOND)),
            (&limited, Idempotency::Never, Step::GiveUp),
            (&fatal, Idempotency::Safe, Step::GiveUp),
        ] {
            assert_eq!(step(error, repeat, 0, false, plenty), want, "{error} {repeat:?}");
        }
    }

    #[test]
    fn a_call_is_repeated_three_times_and_never_past_its_deadline() {
        let error = Error::new(ErrorKind::Service, "x");
        assert_eq!(step(&error, Idempotency::Safe, 2, false, SECOND), Step::Wait(Duration::from_millis(800)));
        assert_eq!(step(&error, Idempotency::Safe, 3, false, SECOND * 99), Step::GiveUp);
        assert_eq!(step(&error, Idempotency::Safe, 2, false, Duration::from_millis(800)), Step::GiveUp);
    }

    #[test]
    fn a_refused_token_is_replaced_once_for_any_call() {
        let error = Error::new(ErrorKind::Auth, "x").with_disposition(Disposition::Refresh);
        for repeat in [Idempotency::Safe, Idempotency::IfUndone, Idempotency::Never] {
            assert_eq!(step(&error, repeat, 3, false, Duration::ZERO), Step::Refresh);
            assert_eq!(step(&error, repeat, 0, true, SECOND), Step::GiveUp);
        }
    }
}
