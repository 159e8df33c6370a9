//! Scheduled actions.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::delivery::DomainEvent;
use super::gateway;
use super::pubnub::{ChannelId, Payload};
use super::requests::Service;
use super::state::{Shared, State};

/// An action that is due at a time of the sandbox's clock.
#[derive(Clone, Debug)]
pub(super) enum Due {
    /// A delayed event.
    Deliver(DomainEvent),
    /// A delayed message.
    Publish(ChannelId, String),
    /// A server restarts.
    Up(Service),
    /// A server stops.
    Down(Service),
    /// A delayed action of the gateway.
    Gateway(gateway::Later),
}

/// The list of scheduled actions.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    entries: Vec<(Instant, Due)>,
    wake: Arc<Notify>,
}

impl Schedule {
    pub(super) fn add(&mut self, at: Instant, due: Due) {
        self.entries.push((at, due));
        self.wake.notify_one();
    }

    /// Reports that the deadlines or the clock changed.
    pub(super) fn poke(&self) {
        self.wake.notify_one();
    }

    fn next(&self) -> Option<Instant> {
        self.entries.iter().map(|(at, _)| *at).min()
    }

    /// Removes and returns what is due, earliest first.
    fn take(&mut self, now: Instant) -> Vec<Due> {
        self.entries.sort_by_key(|(at, _)| *at);
        let due = self.entries.partition_point(|(at, _)| *at <= now);
        self.entries.drain(..due).map(|(_, due)| due).collect()
    }
}

fn run(state: &mut State, due: Due) {
    match due {
        Due::Deliver(domain_event) => drop(state.deliver_now(&domain_event)),
        Due::Publish(channel, text) => state.publish_payload(&channel, Payload::Data(text)),
        Due::Gateway(later) => gateway::run_later(state, later),
        Due::Up(service) => state.server(service).want(true),
        Due::Down(service) => state.server(service).want(false),
    }
}

/// Performs actions when they are due, until the sandbox ends.
pub(super) async fn keep(shared: Arc<Shared>) {
    let wake = Arc::clone(&shared.lock().schedule.wake);
    loop {
        let next = {
            let state = shared.lock();
            let next = state.schedule.next().into_iter().chain(gateway::next_deadline(&state));
            let next = next.chain(super::agent::next_deadline(&state));
            let next = next.min();
            next.map(|at| state.clock.real(at))
        };
        match next {
            None => wake.notified().await,
            Some(at) => tokio::select! {
                () = wake.notified() => {}
                () = tokio::time::sleep_until(at) => {}
            },
        }
        shared.update(|state| {
            let now = state.moment().now;
            for due in state.schedule.take(now) {
                run(state, due);
            }
            gateway::run_due(state);
            super::agent::run_due(state);
        });
    }
}
