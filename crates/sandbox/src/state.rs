//! All services with their state, and the delivery of events from one to the other.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::account::Account;
use crate::budget::Budgets;
use crate::center::{self, Center};
use crate::cipher::encrypt;
use crate::clock::later;
use crate::context::{Context, Timers};
use crate::crawler::Channels;
use crate::faults::DeliveryFault;
use crate::filters::{DomainEvent, EventUri};
use crate::fixtures::Fixture;
use crate::gateway::{self, Gateway};
use crate::oauth::OAuth;
use crate::pubnub::{ChannelId, Payload, PubNub};
use crate::random::uuid;
use crate::requests::Service;
use crate::servers::{Cut, Servers};
use crate::stubs::Stubs;
use crate::subscriptions::{self, Change, Subscription, Subscriptions};

/// A delayed action that concerns several services.
#[derive(Debug)]
pub(crate) enum Due {
    /// A delayed event.
    Deliver(DomainEvent),
    /// A delayed message.
    Publish(ChannelId, String),
    /// A server restarts.
    Up(Service),
    /// A server stops.
    Down(Service),
}

/// The state of all services. No `Debug`: it holds keys and tokens.
pub(crate) struct State {
    pub(crate) ctx: Context,
    pub(crate) oauth: OAuth,
    pub(crate) budgets: Budgets,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) account: Account,
    pub(crate) pubnub: PubNub,
    pub(crate) gateway: Gateway,
    pub(crate) center: Center,
    pub(crate) digital: Channels,
    pub(crate) servers: Servers,
    pub(crate) stubs: Stubs,
    timers: Timers<Due>,
    /// Messages that a swap fault holds until the next one of their channel.
    held_back: Vec<(ChannelId, String)>,
}

impl State {
    pub(crate) fn new(ctx: Context, gateway: Gateway, center: Center) -> Self {
        Self {
            ctx,
            oauth: OAuth::default(),
            budgets: Budgets::default(),
            subscriptions: Subscriptions::default(),
            account: Account::default(),
            pubnub: PubNub::default(),
            gateway,
            center,
            digital: Channels::default(),
            servers: Servers::default(),
            stubs: Stubs::default(),
            timers: Timers::default(),
            held_back: Vec::new(),
        }
    }

    /// Performs an action after `delay`.
    pub(crate) fn schedule(&mut self, delay: Duration, due: Due) {
        let at = later(self.ctx.moment().now, delay);
        self.timers.add(&self.ctx, at, due);
    }

    /// The next deadline of any service.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let gateway = gateway::next_deadline(&self.gateway, &self.ctx, &self.oauth);
        let center = center::next_deadline(&self.center, &self.ctx);
        [self.timers.next(), gateway, center].into_iter().flatten().min()
    }

    /// Performs what is due in all services.
    pub(crate) fn run_due(&mut self) {
        for due in self.timers.take(self.ctx.moment().now) {
            match due {
                Due::Deliver(event) => drop(self.deliver_now(&event)),
                Due::Publish(channel, text) => self.publish_payload(&channel, Payload::Data(text)),
                Due::Up(service) => self.servers.of(service).want(true),
                Due::Down(service) => self.servers.of(service).want(false),
            }
        }
        for subscription in gateway::run_due(&mut self.gateway, &mut self.ctx, &self.oauth) {
            subscriptions::orphan(&mut self.subscriptions, &self.ctx, &subscription);
        }
        center::run_due(&mut self.center, &self.ctx);
    }

    /// Moves the clock and performs what is due by then.
    pub(crate) fn advance(&mut self, by: Duration) {
        self.ctx.clock.advance(by);
        gateway::clock_moved(&mut self.gateway, by);
        // Expired things must end before the next call arrives.
        center::run_due(&mut self.center, &self.ctx);
        self.ctx.poke();
    }

    /// Cuts every open connection of a server.
    pub(crate) fn cut(&mut self, service: Service, how: Cut) {
        self.servers.cut(service, how);
        if service == Service::Gateway && how != Cut::Blackhole {
            gateway::detach_all(&mut self.gateway, &self.ctx);
        }
    }

    /// Passes changes of subscriptions on to the gateway.
    pub(crate) fn pass_changes(&mut self) {
        for change in self.subscriptions.changes() {
            match change {
                Change::Created { socket, id } => self.gateway.subscribe(socket, &id),
                Change::Deleted(id) => self.gateway.unsubscribe(&id),
            }
        }
    }

    /// Changes the account as a fixture describes, and delivers its events; returns the notifications' uuids.
    pub(crate) fn trigger(&mut self, fixture: &Fixture) -> Vec<String> {
        let events = self.account.apply(&mut self.ctx, fixture);
        events.iter().flat_map(|event| self.deliver(event)).collect()
    }

    /// Delivers an event now, or after the configured latency. Returns the notifications' uuids if
    /// they are known.
    pub(crate) fn deliver(&mut self, domain_event: &DomainEvent) -> Vec<String> {
        let latency = self.ctx.behavior.event_latency;
        if latency.is_zero() {
            return self.deliver_now(domain_event);
        }
        let at = later(self.ctx.moment().now, latency);
        self.timers.add(&self.ctx, at, Due::Deliver(domain_event.clone()));
        Vec::new()
    }

    /// Delivers to every live subscription with a matching filter, once each. Returns the
    /// notifications' uuids.
    fn deliver_now(&mut self, domain_event: &DomainEvent) -> Vec<String> {
        let moment = self.ctx.moment();
        let timestamp = self.ctx.write_time(moment.wall);
        let owner = self.ctx.identity.extension_id.clone();
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
        let shared = self.ctx.behavior.shared_uuid.then(|| uuid(&mut self.ctx.rng));
        let mut uuids = Vec::with_capacity(targets.len());
        for (subscription, filter) in targets {
            let id = shared.clone().unwrap_or_else(|| uuid(&mut self.ctx.rng));
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
    fn send(&mut self, subscription: &Subscription, notification: &str) {
        let data = match &subscription.key {
            Some(key) => format!("\"{}\"", encrypt(key, notification.as_bytes())),
            None => notification.to_owned(),
        };
        let fault = self.ctx.faults.next_delivery();
        match fault {
            Some(DeliveryFault::Lose) => {}
            Some(DeliveryFault::Delay { by }) => {
                let at = later(self.ctx.moment().now, by);
                self.timers.add(&self.ctx, at, Due::Publish(subscription.channel.clone(), data));
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
    fn publish(&mut self, channel: &ChannelId, data: String) {
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
    pub(crate) fn publish_payload(&mut self, channel: &ChannelId, payload: Payload) {
        if let Some(subscription) = channel.socket() {
            match payload {
                Payload::Data(text) => {
                    gateway::notify(&mut self.gateway, &mut self.ctx, &self.oauth, subscription, text)
                }
                Payload::Envelope(frame) => drop(gateway::send_raw(&mut self.gateway, Some(subscription), &frame)),
            }
            return;
        }
        let moment = self.ctx.moment();
        self.pubnub.publish(channel, payload, &self.ctx.behavior, moment.now, moment.wall);
    }
}

/// The event's path if its ids are more specific than the filter's (an account filter and an
/// extension's event), else the filter's spelling (legacy aliases).
fn event_path(event: &EventUri, filter: &EventUri) -> String {
    let legacy = filter.path.contains("/glip/") || filter.path.starts_with("/team-messaging/");
    if legacy { filter.path.clone() } else { event.path.clone() }
}
