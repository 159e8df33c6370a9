//! What the connections of a [`WebSocket`](super::WebSocket) share.

use std::sync::Arc;
use std::time::Duration;

use super::dial::Dial;
use super::liveness::Pace;
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
    /// For a control plane without a budget.
    pub(super) budget: RateBudget,
}
