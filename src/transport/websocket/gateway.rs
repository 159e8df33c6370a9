//! What the connections of a [`WebSocket`](super::WebSocket) share.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::dial::Dial;
use super::liveness::Pace;
use crate::control::ControlPlane;
use crate::http::RateBudget;

/// The settings of each connection.
#[derive(Clone, Debug)]
pub(super) struct Tuning {
    pub(super) pace: Pace,
    pub(super) details_within: Duration,
    pub(super) dial_pause: Duration,
    pub(super) max_message: usize,
    pub(super) inbox_bytes: usize,
}

/// State that all subscriptions of a [`WebSocket`](super::WebSocket) share.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) dial: Arc<dyn Dial>,
    pub(super) tuning: Tuning,
    pub(super) audit_every: Duration,
    /// For control planes without a budget.
    budget: OnceLock<RateBudget>,
}

impl Gateway {
    pub(super) fn new(dial: Arc<dyn Dial>, tuning: Tuning, audit_every: Duration) -> Self {
        Self { dial, tuning, audit_every, budget: OnceLock::new() }
    }

    /// The budget of `control`, or the one that all control planes without a budget share.
    pub(super) fn budget_of(&self, control: &dyn ControlPlane) -> RateBudget {
        control.rate_budget().unwrap_or_else(|| self.budget.get_or_init(RateBudget::new).clone())
    }
}
