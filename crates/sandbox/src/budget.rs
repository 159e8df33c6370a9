//! Rate limits: a sliding window per group, and a penalty that each request restarts.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::behavior::RateLimits;
use super::clock::later;

/// The usage plan groups of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Group {
    Light,
    Medium,
    Heavy,
    Auth,
}

impl Group {
    /// The value of `X-Rate-Limit-Group`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Medium => "medium",
            Self::Heavy => "heavy",
            Self::Auth => "auth",
        }
    }

    fn limit(self, limits: &RateLimits) -> u32 {
        match self {
            Self::Light => limits.light,
            Self::Medium => limits.medium,
            Self::Heavy => limits.heavy,
            Self::Auth => limits.auth,
        }
    }
}

/// The values of the rate-limit headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) group: Group,
    pub(crate) limit: u32,
    pub(crate) remaining: u32,
    pub(crate) window: Duration,
    /// How long to wait, if the request is refused.
    pub(crate) refused_for: Option<Duration>,
}

/// The budgets of one user and app.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    groups: HashMap<Group, Budget>,
}

#[derive(Debug, Default)]
struct Budget {
    spent: VecDeque<Instant>,
    penalty_until: Option<Instant>,
}

impl Budgets {
    /// Spends one request of `group`.
    pub(crate) fn spend(&mut self, group: Group, limits: &RateLimits, now: Instant) -> Spent {
        let limit = group.limit(limits);
        let budget = self.groups.entry(group).or_default();
        while budget.spent.front().is_some_and(|at| now.duration_since(*at) >= limits.window) {
            budget.spent.pop_front();
        }
        let used = u32::try_from(budget.spent.len()).unwrap_or(u32::MAX);
        let punished = budget.penalty_until.is_some_and(|until| now < until);
        let refused = limits.enforce && (punished || used >= limit);
        let mut spent = Spent { group, limit, remaining: 0, window: limits.window, refused_for: None };
        if refused {
            budget.penalty_until = Some(later(now, limits.penalty));
            spent.refused_for = Some(limits.penalty);
            return spent;
        }
        budget.penalty_until = None;
        if used >= limit {
            budget.spent.pop_front();
        }
        budget.spent.push_back(now);
        spent.remaining = limit.saturating_sub(used).saturating_sub(1);
        spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_budget_slides_and_a_request_restarts_the_penalty() {
        let limits = RateLimits {
            light: 2,
            window: Duration::from_secs(10),
            penalty: Duration::from_secs(5),
            ..RateLimits::default()
        };
        let mut budgets = Budgets::default();
        let start = Instant::now();
        let mut at = |seconds| budgets.spend(Group::Light, &limits, start + Duration::from_secs(seconds));
        assert_eq!(at(0).remaining, 1);
        assert_eq!(at(1).remaining, 0);
        assert_eq!(at(8).refused_for, Some(Duration::from_secs(5)));
        assert!(at(12).refused_for.is_some(), "a request during the penalty is refused and restarts it");
        assert!(at(16).refused_for.is_some());
        assert_eq!(at(21).refused_for, None);
        assert_eq!(budgets.spend(Group::Heavy, &limits, start).remaining, 9, "groups are independent");
    }

    #[tokio::test(start_paused = true)]
    async fn without_enforcement_nothing_is_refused_and_memory_is_bounded() {
        let limits = RateLimits { enforce: false, light: 3, ..RateLimits::default() };
        let mut budgets = Budgets::default();
        for _ in 0..100 {
            assert_eq!(budgets.spend(Group::Light, &limits, Instant::now()).refused_for, None);
        }
        assert_eq!(budgets.groups[&Group::Light].spent.len(), 3);
    }
}
