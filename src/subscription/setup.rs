//! The configuration of a subscription at its start.

use std::sync::Arc;
use std::time::Duration;

use super::machine::Settings;
use super::reconcile::Pace;
use super::resume::ResumeToken;
use super::{ending, failover};
use crate::catch_up::CatchUp;
use crate::clock::Clock;
use crate::control::ControlPlane;
use crate::ids::SubscriptionId;
use crate::registry::Registry;
use crate::transport::Transport;

/// The driver's configuration at its start.
pub(super) struct Setup {
    pub(super) control: Arc<dyn ControlPlane>,
    pub(super) transport: Arc<dyn Transport>,
    /// Whether the service names an address to listen at.
    pub(super) has_address: bool,
    /// Whether nothing is pushed.
    pub(super) polls: bool,
    /// The transports, the present one first.
    pub(super) routes: Vec<Route>,
    pub(super) failover: failover::Terms,
    pub(super) registry: Arc<Registry>,
    pub(super) filters: Vec<String>,
    pub(super) catch_up: Vec<Arc<dyn CatchUp>>,
    pub(super) pace: Pace,
    /// Whether counts of messages are replaced by the messages.
    pub(super) enrich: bool,
    pub(super) expires_in: Option<u64>,
    pub(super) settings: Settings,
    pub(super) queue_bytes: usize,
    /// What an item for the reader costs at least, of the bytes that may wait for it decoded.
    pub(super) item_bytes: usize,
    pub(super) dedup_window: (usize, Duration),
    pub(super) adopt: Option<SubscriptionId>,
    pub(super) resume: Option<Box<ResumeToken>>,
    pub(super) leftovers: Vec<SubscriptionId>,
    pub(super) ending: ending::Terms,
    pub(super) clock: Clock,
    pub(super) seed: u64,
}

/// One of the transports of a subscription.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) control: Arc<dyn ControlPlane>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) has_address: bool,
    pub(super) polls: bool,
}

impl Route {
    /// Whether it could connect without a wait: a socket needs a token of the rate group Auth.
    pub(super) fn can_connect(&self) -> bool {
        let is_socket = !self.has_address && !self.polls;
        !is_socket || self.control.rate_budget().is_none_or(|budget| budget.has_room_to_connect())
    }
}
