//! When to renew.

use std::time::Duration;

use crate::error::{Error, Result};

/// When a subscription is renewed, counted back from its expiry.
///
/// The lead is a fifth of the lifetime the service granted, at least
/// [`min_lead`](Self::min_lead), at most [`max_lead`](Self::max_lead) and never
/// more than half the lifetime. Chance makes it up to half a lead earlier, never
/// later, so that many subscriptions made at once do not renew at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewalPolicy {
    min_lead: Duration,
    max_lead: Duration,
}

impl Default for RenewalPolicy {
    fn default() -> Self {
        Self { min_lead: Duration::from_secs(10), max_lead: Duration::from_secs(120) }
    }
}

impl RenewalPolicy {
    /// The least time between two attempts, for any granted lifetime.
    pub const FLOOR: Duration = Duration::from_secs(1);
    /// Longer lifetimes than this are cut: ten years, the most the service
    /// documents (`expiresIn` of webhooks).
    pub const MAX_LIFETIME: Duration = Duration::from_secs(315_360_000);

    /// The least lead. Default 10 s: a slow answer (the call deadline is 30 s)
    /// and one repeat should fit even into short leases.
    #[must_use]
    pub fn min_lead(mut self, lead: Duration) -> Self {
        self.min_lead = lead;
        self
    }

    /// The greatest lead. Default 2 min, what RingCentral's guide recommends and
    /// its JavaScript client uses.
    #[must_use]
    pub fn max_lead(mut self, lead: Duration) -> Self {
        self.max_lead = lead;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.min_lead > self.max_lead {
            return Err(Error::config("the renewal policy's least lead is greater than its greatest"));
        }
        Ok(())
    }

    /// What a granted lifetime is taken for: within bounds that keep timers sane.
    pub(crate) fn lifetime(granted: Duration) -> Duration {
        granted.clamp(2 * Self::FLOOR, Self::MAX_LIFETIME)
    }

    /// How long after the grant to renew; `chance` in `0..1`.
    pub(crate) fn renew_after(&self, lifetime: Duration, chance: f64) -> Duration {
        let lead = (lifetime / 5).clamp(self.min_lead, self.max_lead).min(lifetime / 2);
        let earlier = (lead / 2).mul_f64(chance.clamp(0.0, 1.0));
        lifetime.saturating_sub(lead).saturating_sub(earlier).max(Self::FLOOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_lead_is_a_share_of_the_lifetime_within_bounds() {
        let policy = RenewalPolicy::default();
        for (lifetime, at_latest, at_earliest) in
            [(900, 780, 720), (899, 779, 719), (100, 80, 70), (30, 20, 15), (10, 5, 2), (2, 1, 1)]
        {
            let lifetime = Duration::from_secs(lifetime);
            assert_eq!(policy.renew_after(lifetime, 0.0).as_secs(), at_latest, "{lifetime:?}");
            assert_eq!(policy.renew_after(lifetime, 1.0).as_secs(), at_earliest, "{lifetime:?}");
        }
    }

    #[test]
    fn a_policy_whose_bounds_cross_is_refused() {
        assert!(RenewalPolicy::default().min_lead(Duration::from_secs(200)).check().is_err());
        assert!(RenewalPolicy::default().check().is_ok());
    }

    proptest! {
        #[test]
        fn renewal_comes_before_expiry_and_not_in_a_hot_loop(granted in 0u64..u64::MAX, chance in 0.0f64..1.0) {
            let lifetime = RenewalPolicy::lifetime(Duration::from_secs(granted));
            let after = RenewalPolicy::default().renew_after(lifetime, chance);
            prop_assert!(after >= RenewalPolicy::FLOOR);
            prop_assert!(after < lifetime);
        }
    }
}
