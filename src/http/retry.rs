//! Decides whether a call is retried, and waits for the next attempt.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Disposition, Error, Result};
use crate::policy::BackoffPolicy;
use crate::waiting;

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

/// The attempts of one call.
#[derive(Debug)]
pub(crate) struct Attempts {
    idempotency: Idempotency,
    backoff: BackoffPolicy,
    deadline: Instant,
    repeats: u32,
    refreshed: bool,
}

/// The next attempt.
#[derive(Debug)]
pub(crate) enum Next {
    /// With the same token.
    Repeat,
    /// With another token than the one that was refused with this error.
    Refresh(Error),
}

impl Attempts {
    pub(crate) fn new(idempotency: Idempotency, backoff: BackoffPolicy, deadline: Instant) -> Self {
        Self { idempotency, backoff, deadline, repeats: 0, refreshed: false }
    }

    /// Waits until the next attempt may be made; `Err` with this error if no other attempt is allowed. `random` in `0..1`
    /// is the share of the longest pause.
    pub(crate) async fn after(&mut self, error: Error, random: f64) -> Result<Next> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match self.step(&error, random, left) {
            Step::Refresh => {
                self.refreshed = true;
                Ok(Next::Refresh(error))
            }
            Step::Wait(wait) => {
                tracing::debug!(%error, ?wait, "repeating");
                self.repeats += 1;
                waiting::pause(wait, &error).await;
                Ok(Next::Repeat)
            }
            Step::GiveUp => Err(error),
        }
    }

    /// The step after `error`, with `left` until the call's deadline.
    fn step(&self, error: &Error, random: f64, left: Duration) -> Step {
        match error.disposition() {
            Disposition::Refresh if !self.refreshed => Step::Refresh,
            Disposition::Retry { after } => {
                let allowed = match self.idempotency {
                    Idempotency::Safe => true,
                    Idempotency::IfUndone => !error.is_ambiguous(),
                    Idempotency::Never => false,
                };
                let wait = self.backoff.delay(self.repeats, after, random);
                if allowed && self.repeats < REPEATS && wait < left { Step::Wait(wait) } else { Step::GiveUp }
            }
            Disposition::Refresh
            | Disposition::Fatal
            | Disposition::Recreate
            | Disposition::Prune
            | Disposition::Resync => Step::GiveUp,
        }
    }
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Get another token, then retry.
    Refresh,
    /// Retry after this delay.
    Wait(Duration),
    /// Return the error to the caller.
    GiveUp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const SECOND: Duration = Duration::from_secs(1);

    fn step(error: &Error, repeat: Idempotency, repeats: u32, refreshed: bool, left: Duration) -> Step {
        let attempts = Attempts::new(repeat, BackoffPolicy::default(), Instant::now());
        Attempts { repeats, refreshed, ..attempts }.step(error, 1.0, left)
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

    #[tokio::test(start_paused = true)]
    async fn each_repeat_waits_longer_and_a_token_is_replaced_once() {
        let begun = Instant::now();
        let mut attempts = Attempts::new(Idempotency::Safe, BackoffPolicy::default(), begun + SECOND * 9);
        let refused = || Error::new(ErrorKind::Auth, "x").with_disposition(Disposition::Refresh);
        assert!(matches!(attempts.after(refused(), 1.0).await, Ok(Next::Refresh(_))));
        assert_eq!(attempts.after(refused(), 1.0).await.unwrap_err().kind(), ErrorKind::Auth);
        for waited in [200, 600, 1_400] {
            let failed = Error::new(ErrorKind::Service, "x");
            assert!(matches!(attempts.after(failed, 1.0).await, Ok(Next::Repeat)));
            assert_eq!(begun.elapsed(), Duration::from_millis(waited));
        }
        let failed = Error::new(ErrorKind::Service, "x");
        assert_eq!(attempts.after(failed, 1.0).await.unwrap_err().kind(), ErrorKind::Service);
    }
}
