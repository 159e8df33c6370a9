//! Turns domain events into messages on channels.

use std::collections::VecDeque;

use super::cipher::encrypt;
use super::faults::DeliveryFault;
use super::filters::EventUri;
use super::gateway;
use super::pubnub::{ChannelId, Payload};
use super::schedule::Due;
use super::state::{State, later, uuid};
use super::subscriptions::Subscription;

/// A domain event: an event URI, and a body for each level of detail that a filter can request
/// (plain, detailed, with SIP data); the last body also serves the levels above it.
#[derive(Clone, Debug)]
pub(super) struct DomainEvent {
    pub(super) uri: EventUri,
    /// JSON bodies, least detailed first; at least one.
    pub(super) bodies: Vec<String>,
}

impl DomainEvent {
    fn body(&self, filter: &EventUri) -> &str {
        let richest = self.bodies.len().saturating_sub(1);
        self.bodies.get(richest.min(usize::from(filter.richness()))).map_or("null", String::as_str)
    }
}

impl State {
    /// Delivers an event now, or after the configured latency. Returns the notifications' uuids if
    /// they are known.
    pub(super) fn deliver(&mut self, domain_event: &DomainEvent) -> Vec<String> {
        let latency = self.knobs.event_latency;
        if latency.is_zero() {
            return self.deliver_now(domain_event);
        }
        let at = later(self.moment().now, latency);
        self.schedule.add(at, Due::Deliver(domain_event.clone()));
        Vec::new()
    }

    /// Delivers to every live subscription with a matching filter, once each. Returns the
    /// notifications' uuids.
    pub(super) fn deliver_now(&mut self, domain_event: &DomainEvent) -> Vec<String> {
        let moment = self.moment();
        let timestamp = self.write_time(moment.wall);
        let owner = self.identity.extension_id.clone();
        let targets: Vec<(Subscription, EventUri)> = self
            .subscriptions
            .alive(moment.now)
            .iter()
            .filter(|subscription| subscription.status == "Active")
            .filter_map(|subscription| {
                let met = subscription.filters.iter().filter(|filter| domain_event.uri.meets(filter));
                // Where filters overlap, the most detailed body wins.
                Some((subscription.clone(), met.max_by_key(|filter| filter.richness())?.clone()))
            })
            .collect();
        let shared = self.knobs.shared_uuid.then(|| uuid(&mut self.rng));
        let mut uuids = Vec::with_capacity(targets.len());
        for (subscription, filter) in targets {
            let id = shared.clone().unwrap_or_else(|| uuid(&mut self.rng));
            let event = EventUri { path: event_path(&domain_event.uri, &filter), query: filter.query.clone() };
            let text = format!(
                r#"{{"uuid":"{id}","event":{},"timestamp":"{timestamp}","subscriptionId":"{}","ownerId":"{owner}","body":{}}}"#,
                serde_json::Value::from(event.text()),
                subscription.id,
                domain_event.body(&filter),
            );
            self.send(&subscription, &text);
            uuids.push(id);
        }
        uuids
    }

    /// Encrypts a notification if its subscription requires it, and publishes it.
    pub(super) fn send(&mut self, subscription: &Subscription, notification: &str) {
        let data = match &subscription.key {
            Some(key) => format!("\"{}\"", encrypt(key, notification.as_bytes())),
            None => notification.to_owned(),
        };
        let fault = self.faults.deliveries.pop_front().flatten();
        match fault {
            Some(DeliveryFault::Lose) => {}
            Some(DeliveryFault::Delay { by }) => {
                let at = later(self.moment().now, by);
                self.schedule.add(at, Due::Publish(subscription.channel.clone(), data));
            }
            Some(DeliveryFault::Swap) => self.held_back.push((subscription.channel.clone(), data)),
            Some(DeliveryFault::Duplicate) => {
                self.publish(&subscription.channel, data.clone());
                self.publish(&subscription.channel, data);
            }
            None => self.publish(&subscription.channel, data),
        }
    }

    /// Publishes the text of a `d`, then any message held back behind it.
    pub(super) fn publish(&mut self, channel: &ChannelId, data: String) {
        let mut texts = VecDeque::from([data]);
        self.held_back.retain_mut(|(held, text)| {
            let released = held == channel;
            if released {
                texts.push_back(std::mem::take(text));
            }
            !released
        });
        for text in texts {
            self.publish_payload(channel, Payload::Data(text));
        }
    }

    /// Sends a raw payload to a channel or a socket.
    pub(super) fn publish_payload(&mut self, channel: &ChannelId, payload: Payload) {
        if let Some(subscription) = channel.socket() {
            match payload {
                Payload::Data(text) => gateway::notify(self, subscription, text),
                Payload::Envelope(frame) => drop(gateway::send_raw(self, Some(subscription), &frame)),
            }
            return;
        }
        let moment = self.moment();
        self.pubnub.publish(channel, payload, &self.knobs, moment.now, moment.wall);
    }
}

/// The event's path if its ids are more specific than the filter's (an account filter and an
/// extension's event), else the filter's spelling (legacy aliases).
fn event_path(event: &EventUri, filter: &EventUri) -> String {
    let legacy = filter.path.contains("/glip/") || filter.path.starts_with("/team-messaging/");
    if legacy { filter.path.clone() } else { event.path.clone() }
}
