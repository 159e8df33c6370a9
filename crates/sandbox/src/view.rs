//! A test's view of the sandbox.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::cipher::key_to_base64;
use super::clock::later;
use super::fault::Fault;
use super::faults::{Deliveries, DeliveryFault, FaultId, Target};
use super::gateway::Gateway;
use super::requests::Service;
use super::shared::Shared;
use super::state::State;
use super::subscriptions::{Subscription, Transport};
use ringcentral_events::Secret;
use ringcentral_events::SubscriptionId;

/// A live subscription.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SubscriptionView {
    /// Its id.
    pub id: SubscriptionId,
    /// Its filters as reported.
    pub event_filters: Vec<String>,
    /// Time until it expires.
    pub expires_in: Duration,
    /// Its status.
    pub status: String,
    /// Number of renewals and updates so far.
    pub renewals: u32,
    /// Its transport.
    pub transport: Transport,
    /// Whether its session has an open socket; `None` for other transports and without a session.
    pub connected: Option<bool>,
    /// Its channel; empty for transports other than PubNub.
    pub address: Secret,
    /// Its subscribe key; empty for transports other than PubNub.
    pub subscriber_key: Secret,
    /// Its encryption key in base64; `None` if payloads are plain.
    pub encryption_key: Option<Secret>,
}

impl SubscriptionView {
    pub(crate) fn new(held: &Subscription, gateway: &Gateway, now: Instant) -> Self {
        let address = if held.channel.socket().is_some() { "" } else { &*held.channel.name };
        Self {
            id: SubscriptionId::new(&*held.id),
            event_filters: held.answered.clone(),
            expires_in: held.left(now),
            status: held.status.clone(),
            renewals: held.renewals,
            transport: held.transport,
            connected: gateway.is_connected(&held.id),
            address: Secret::new(address),
            subscriber_key: Secret::new(&*held.channel.key),
            encryption_key: held.key.as_ref().map(|key| Secret::new(key_to_base64(key))),
        }
    }
}

/// Counts, for tests that look for leaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Gauges {
    /// Open connections to the API server.
    pub api_connections: usize,
    /// Their maximum so far.
    pub max_api_connections: usize,
    /// Open connections to the PubNub server.
    pub pubnub_connections: usize,
    /// Their maximum so far.
    pub max_pubnub_connections: usize,
    /// Open connections to the gateway.
    pub gateway_connections: usize,
    /// Their maximum so far.
    pub max_gateway_connections: usize,
    /// Open connections to the Contact Center.
    pub contact_center_connections: usize,
    /// Their maximum so far.
    pub max_contact_center_connections: usize,
    /// Open sockets at the gateway, without black holes.
    pub open_sockets: usize,
    /// Their maximum so far.
    pub max_open_sockets: usize,
    /// Sockets opened since the start.
    pub sockets_opened: u64,
    /// Open polls.
    pub open_polls: usize,
    /// Their maximum so far.
    pub max_open_polls: usize,
    /// How often two polls of one channel were open for more than a quarter of a second: a client
    /// error.
    pub overlapping_polls: u64,
    /// Messages dropped for space or age before a poll's cursor confirmed their arrival.
    pub dropped_messages: u64,
    /// Requests read since the start.
    pub requests: u64,
    /// Access tokens issued since the start.
    pub tokens_issued: u64,
    /// Live logins.
    pub sessions: usize,
}

impl Gauges {
    pub(crate) fn read(state: &mut State) -> Self {
        let now = state.ctx.moment().now;
        let polls = state.pubnub.counts(now);
        let (api_connections, max_api_connections) = state.servers.of(Service::Api).connections();
        let (gateway_connections, max_gateway_connections) = state.servers.of(Service::Gateway).connections();
        let (open_sockets, max_open_sockets, sockets_opened) = state.gateway.counts();
        let (sessions, tokens_issued) = state.oauth.counts();
        let (contact_center_connections, max_contact_center_connections) =
            state.servers.of(Service::ContactCenter).connections();
        let (pubnub_connections, max_pubnub_connections) = state.servers.of(Service::PubNub).connections();
        Self {
            api_connections,
            max_api_connections,
            pubnub_connections,
            max_pubnub_connections,
            gateway_connections,
            max_gateway_connections,
            contact_center_connections,
            max_contact_center_connections,
            open_sockets,
            max_open_sockets,
            sockets_opened,
            open_polls: polls.open,
            max_open_polls: polls.max_open,
            overlapping_polls: polls.overlaps,
            dropped_messages: state.pubnub.dropped(),
            requests: state.ctx.log.total(),
            tokens_issued,
            sessions,
        }
    }
}

/// Scripts faults; from [`Sandbox::faults`](super::Sandbox::faults).
#[derive(Clone, Copy)]
pub struct Faults<'a> {
    pub(crate) shared: &'a Arc<Shared>,
}

impl fmt::Debug for Faults<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").finish_non_exhaustive()
    }
}

impl Faults<'_> {
    /// Adds a fault. If several match a request, the first one added applies.
    pub fn inject(&self, target: impl Into<Target>, fault: Fault) -> FaultId {
        self.shared.update(|state| state.ctx.faults.add(target.into(), fault))
    }

    /// Removes a fault.
    pub fn clear(&self, id: FaultId) {
        self.shared.update(|state| state.ctx.faults.clear(id));
    }

    /// Removes all faults.
    pub fn clear_all(&self) {
        self.shared.update(|state| state.ctx.faults.clear_all());
    }

    /// How often a fault has been applied; 0 once it is cleared.
    #[must_use]
    pub fn hits(&self, id: FaultId) -> u32 {
        self.shared.lock().ctx.faults.hits(id)
    }

    /// Waits until a fault has been applied `count` times. False after `timeout`.
    pub async fn wait_hits(&self, id: FaultId, count: u32, timeout: Duration) -> bool {
        let deadline = later(Instant::now(), timeout);
        self.shared.wait_until(deadline, |state| (state.ctx.faults.hits(id) >= count).then_some(())).await.is_some()
    }

    /// Publishes each of the next `count` notifications twice.
    pub fn duplicate_next(&self, count: usize) {
        self.deliveries(DeliveryFault::Duplicate, count);
    }

    /// Publishes the next notification after the following one on its channel; `count` times.
    pub fn swap_next(&self, count: usize) {
        self.deliveries(DeliveryFault::Swap, count);
    }

    /// Delays each of the next `count` notifications by `by`.
    pub fn delay_next(&self, count: usize, by: Duration) {
        self.deliveries(DeliveryFault::Delay { by }, count);
    }

    /// Drops the next `count` notifications, as if the service lost them.
    pub fn lose_next(&self, count: usize) {
        self.deliveries(DeliveryFault::Lose, count);
    }

    fn deliveries(&self, fault: DeliveryFault, count: usize) {
        self.shared.update(|state| state.ctx.faults.script_deliveries(Deliveries { fault, count }));
    }
}
