//! From something that happened to messages on channels.

use std::collections::VecDeque;

use super::cipher::encrypt;
use super::faults::DeliveryFault;
use super::filters::EventUri;
use super::gateway;
use super::pubnub::{ChannelId, Payload};
use super::schedule::Due;
use super::state::{State, later, uuid};
use super::subscriptions::Subscription;

/// Something that happened: an event URI, and the body for each richness that a
/// filter can ask for (plain, detailed, with SIP data); the last one stands for
/// all richer ones.
#[derive(Clone, Debug)]
pub(super) struct Happening {
    pub(super) uri: EventUri,
    /// JSON text of the bodies, poorest first; at least one.
    pub(super) bodies: Vec<String>,
}

impl Happening {
    fn body(&self, filter: &EventUri) -> &str {
        let richest = self.bodies.len().saturating_sub(1);
        self.bodies.get(richest.min(usize::from(filter.richness()))).map_or("null", String::as_str)
    }
}

impl State {
    /// Delivers what happened: now, or after the latency that is set. Returns the
    /// notifications' uuids, as far as they are known.
    pub(super) fn deliver(&mut self, happening: &Happening) -> Vec<String> {
        let latency = self.knobs.event_latency;
        if latency.is_zero() {
            return self.deliver_now(happening);
        }
        let at = later(self.moment().now, latency);
        self.schedule.add(at, Due::Deliver(happening.clone()));
        Vec::new()
    }

    /// Delivers to every live subscription with a filter that the event meets,
    /// once each. Returns the notifications' uuids.
    pub(super) fn deliver_now(&mut self, happening: &Happening) -> Vec<String> {
        let moment = self.moment();
        let timestamp = self.write_time(moment.wall);
        let owner = self.identity.extension_id.clone();
        let targets: Vec<(Subscription, EventUri)> = self
            .subscriptions
            .alive(moment.now)
            .iter()
            .filter(|subscription| subscription.status == "Active")
            .filter_map(|subscription| {
                let met = subscription.filters.iter().filter(|filter| happening.uri.meets(filter));
                // Where filters overlap, the richest body replaces the others.
                Some((subscription.clone(), met.max_by_key(|filter| filter.richness())?.clone()))
            })
            .collect();
        let shared = self.knobs.shared_uuid.then(|| uuid(&mut self.rng));
        let mut uuids = Vec::with_capacity(targets.len());
        for (subscription, filter) in targets {
            let id = shared.clone().unwrap_or_else(|| uuid(&mut self.rng));
            let event = EventUri { path: event_path(&happening.uri, &filter), query: filter.query.clone() };
            let text = format!(
                r#"{{"uuid":"{id}","event":{},"timestamp":"{timestamp}","subscriptionId":"{}","ownerId":"{owner}","body":{}}}"#,
                serde_json::Value::from(event.text()),
                subscription.id,
                happening.body(&filter),
            );
            self.send(&subscription, &text);
            uuids.push(id);
        }
        uuids
    }

    /// Encrypts a notification where its subscription says so, and publishes it.
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

    /// Publishes the text of a `d`, and after it what was held back for it.
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

    /// Puts a payload on a channel, or on a socket, as it is.
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

/// The event's own path where ids tell more than the filter's (an account filter
/// met by an extension's event), else the filter's spelling (legacy aliases).
fn event_path(event: &EventUri, filter: &EventUri) -> String {
    let legacy = filter.path.contains("/glip/") || filter.path.starts_with("/team-messaging/");
    if legacy { filter.path.clone() } else { event.path.clone() }
}
