//! How long to wait before trying again.

use std::time::Duration;

/// Exponential backoff with full jitter.
///
/// The wait before repeat *n* (counted from 0) is a random share of
/// `base * 2^n`, at most `cap`. Full jitter spreads the clients that one outage
/// threw off together. What the service asks for (`Retry-After`) is a floor.
///
/// ```
/// use std::time::Duration;
/// use ringcentral_events::policy::BackoffPolicy;
///
/// let backoff = BackoffPolicy::default();
/// assert_eq!(backoff.delay(2, None, 0.5), Duration::from_millis(400));
/// assert_eq!(backoff.delay(2, Some(Duration::from_secs(9)), 0.5), Duration::from_secs(9));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffPolicy {
    base: Duration,
    cap: Duration,
}

impl BackoffPolicy {
    /// The longest wait that a service may ask for: a header of 10^9 seconds is
    /// a fault, not an order.
    pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

    /// The policy with its defaults.
    #[must_use]
    pub fn new() -> Self {
        Self { base: Duration::from_millis(200), cap: Duration::from_secs(30) }
    }

    /// The upper bound of the first wait. Default 200 ms: a connection lost by
    /// accident is back before a person notices.
    #[must_use]
    pub fn base(mut self, base: Duration) -> Self {
        self.base = base;
        self
    }

    /// The upper bound of every wait. Default 30 s: half of the service's
    /// one-minute rate windows, and well inside a PubNub lease of 15 minutes.
    #[must_use]
    pub fn cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// This policy, with no wait above `cap`.
    pub(crate) fn at_most(&self, cap: Duration) -> Self {
        Self { cap: self.cap.min(cap), ..*self }
    }

    /// How long to wait before repeat number `attempt` (the first is 0).
    ///
    /// `retry_after` is what the service asked for, cut to
    /// [`MAX_RETRY_AFTER`](Self::MAX_RETRY_AFTER); `random` is taken as a number
    /// in 0..=1, anything else as the nearest of them (NaN as 0).
    #[must_use]
    pub fn delay(&self, attempt: u32, retry_after: Option<Duration>, random: f64) -> Duration {
        let share = if random.is_nan() { 0.0 } else { random.clamp(0.0, 1.0) };
        let jittered = self.ceiling(attempt).mul_f64(share);
        jittered.max(retry_after.unwrap_or_default().min(Self::MAX_RETRY_AFTER))
    }

    fn ceiling(&self, attempt: u32) -> Duration {
        // Bounded before `mul_f64`, which panics beyond `Duration::MAX`.
        doubled(self.base, attempt, self.cap.min(Self::MAX_RETRY_AFTER))
    }
}

/// `first`, twice as long after each of `times` earlier attempts, at most `last`.
pub(crate) fn doubled(first: Duration, times: u32, last: Duration) -> Duration {
    first.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(last)
}

impl Default for BackoffPolicy {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn delays_double_up_to_the_cap_and_take_a_random_share() {
        let policy = BackoffPolicy::default();
        for (attempt, retry_after, random, want) in [
            (0, None, 1.0, ms(200)),
            (1, None, 1.0, ms(400)),
            (2, None, 0.25, ms(200)),
            (7, None, 1.0, ms(25_600)),
            (8, None, 1.0, ms(30_000)),
            (31, None, 1.0, ms(30_000)),
            (32, None, 1.0, ms(30_000)),
            (u32::MAX, None, 1.0, ms(30_000)),
            (3, None, 0.0, ms(0)),
            (3, None, f64::NAN, ms(0)),
            (3, None, -4.0, ms(0)),
            (3, None, f64::INFINITY, ms(1_600)),
            (0, Some(ms(7_000)), 1.0, ms(7_000)),
            (8, Some(ms(7_000)), 1.0, ms(30_000)),
            (0, Some(Duration::MAX), 0.0, BackoffPolicy::MAX_RETRY_AFTER),
        ] {
            assert_eq!(policy.delay(attempt, retry_after, random), want, "{attempt} {retry_after:?} {random}");
        }
    }

    #[test]
    fn base_and_cap_are_the_callers() {
        let policy = BackoffPolicy::new().base(ms(10)).cap(ms(15));
        assert_eq!((policy.delay(0, None, 1.0), policy.delay(1, None, 1.0)), (ms(10), ms(15)));
        let endless = BackoffPolicy::new().base(Duration::MAX).cap(Duration::MAX);
        assert_eq!(endless.delay(9, None, 1.0), BackoffPolicy::MAX_RETRY_AFTER);
    }

    proptest! {
        #[test]
        fn a_delay_is_never_below_the_floor_nor_above_the_bounds(
            attempt: u32, after in proptest::option::of(any::<Duration>()), random: f64,
            base in 0_u64..100_000, cap in 0_u64..100_000,
        ) {
            let policy = BackoffPolicy::new().base(ms(base)).cap(ms(cap));
            let delay = policy.delay(attempt, after, random);
            let floor = after.unwrap_or_default().min(BackoffPolicy::MAX_RETRY_AFTER);
            prop_assert!(delay >= floor);
            prop_assert!(delay <= floor.max(ms(cap)));
        }

        #[test]
        fn a_later_attempt_never_waits_less_for_the_same_dice(attempt in 0_u32..100, random in 0.0..=1.0_f64) {
            let policy = BackoffPolicy::default();
            prop_assert!(policy.delay(attempt + 1, None, random) >= policy.delay(attempt, None, random));
        }
    }
}
