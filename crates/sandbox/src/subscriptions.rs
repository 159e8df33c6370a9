//! The subscription resource: `/restapi/v1.0/subscription*`.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::cipher::{Key, key_to_base64};
use super::filters::EventUri;
use super::http::{Call, Refused, Reply, empty_reply, json_reply};
use super::knobs::{Encryption, Refusal, Rotation};
use super::pubnub::ChannelId;
use super::state::{Moment, State, later, later_on, number, token, uuid};
use super::view::Transport;

/// Maximum number of removed ids remembered.
const FORGOTTEN: usize = 1000;

/// All subscriptions, oldest first.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    live: Vec<Subscription>,
    /// The subscribe key of all subscriptions without an individual one.
    common_key: Option<String>,
    /// The newest ids answered with `SUB-507`.
    forgotten: VecDeque<String>,
}

/// One subscription.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub(super) id: String,
    pub(super) filters: Vec<EventUri>,
    /// The filters as reported.
    pub(super) answered: Vec<String>,
    pub(super) disabled: Vec<String>,
    pub(super) created: SystemTime,
    pub(super) expires_at: Instant,
    /// The lifetime granted at creation, granted again by each renewal.
    lifetime: Duration,
    /// Whether encryption was requested.
    asked_encryption: bool,
    pub(super) transport: Transport,
    pub(super) key: Option<Key>,
    pub(super) channel: ChannelId,
    pub(super) status: String,
    /// What the next renewal changes.
    pub(super) pending: Rotation,
    pub(super) renewals: u32,
}

impl Subscriptions {
    /// The live ones; expired ones are dropped.
    pub(super) fn alive(&mut self, now: Instant) -> &mut Vec<Subscription> {
        self.live.retain(|subscription| now < subscription.expires_at);
        &mut self.live
    }

    /// Whether a live subscription has this channel.
    pub(super) fn has_channel(&self, channel: &ChannelId) -> bool {
        self.live.iter().any(|subscription| subscription.channel == *channel)
    }
}

impl Subscription {
    /// Time until it expires; always the full lifetime if its session renews it.
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.expires_at.saturating_duration_since(now).min(self.lifetime)
    }

    fn encrypts(&self, knob: Encryption) -> bool {
        if self.transport == Transport::WebSocket {
            return false;
        }
        match knob {
            Encryption::Always => true,
            Encryption::Never => false,
            Encryption::Service => self.asked_encryption || self.filters.iter().any(EventUri::is_sensitive),
        }
    }
}

/// The request of a create or an update.
struct Asked {
    filters: Vec<String>,
    expires_in: Option<Duration>,
}

fn asked(body: &Value) -> Result<Asked, Refused> {
    let list = body["eventFilters"].as_array().filter(|list| !list.is_empty());
    let filters = list
        .and_then(|list| list.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>())
        .ok_or_else(|| Refused::parameter("eventFilters"))?;
    if filters.iter().any(|filter| filter.trim().is_empty()) {
        return Err(Refused::parameter("eventFilters"));
    }
    Ok(Asked { filters, expires_in: expires_in(body)? })
}

fn expires_in(body: &Value) -> Result<Option<Duration>, Refused> {
    match &body["expiresIn"] {
        Value::Null => Ok(None),
        value => {
            let seconds = value.as_u64().or_else(|| value.as_str()?.parse().ok());
            let seconds = seconds.filter(|seconds| *seconds >= 1).ok_or_else(|| Refused::parameter("expiresIn"))?;
            Ok(Some(Duration::from_secs(seconds)))
        }
    }
}

fn body(call: &Call) -> Result<Option<Value>, Refused> {
    call.json().map_err(|_| Refused::new(400, "CMN-103", "Request body is not readable"))
}

/// A filter list, split into accepted and rejected filters.
struct Accepted {
    filters: Vec<EventUri>,
    answered: Vec<String>,
    disabled: Vec<String>,
}

fn accept(state: &State, filters: &[String]) -> Result<Accepted, Refused> {
    let identity = &state.identity;
    let parse = |text: &String| EventUri::parse(text, &identity.account_id, &identity.extension_id);
    let names = |list: &[String], text: &str| list.iter().any(|part| text.contains(part.as_str()));
    let invalid: Vec<&str> = filters
        .iter()
        .filter(|text| !parse(text).is_known_family() || names(&state.knobs.invalid_filters, text))
        .map(String::as_str)
        .collect();
    if !invalid.is_empty() {
        let message = format!("Event filters [{}] are not valid", invalid.join(", "));
        return Err(Refused::new(400, "SUB-508", message));
    }
    let mut accepted = Accepted { filters: Vec::new(), answered: Vec::new(), disabled: Vec::new() };
    for text in filters {
        let uri = parse(text);
        let answer = if state.knobs.expand_tilde { uri.text() } else { text.clone() };
        if names(&state.knobs.disabled_filters, text) {
            accepted.disabled.push(answer);
        } else if !accepted.filters.contains(&uri) {
            accepted.filters.push(uri);
            accepted.answered.push(answer);
        }
    }
    if !accepted.filters.is_empty() && accepted.filters.iter().all(EventUri::is_reminder) {
        return Err(Refused::new(400, "SUB-515", "Subscription for the reminder only is not allowed"));
    }
    Ok(accepted)
}

/// The requested transport, or its refusal.
fn transport(state: &mut State, call: &Call, body: &Value) -> Result<Transport, Refused> {
    let transport = body["deliveryMode"]["transportType"].as_str();
    match (transport, state.knobs.refuse_pubnub) {
        // Created on a socket only.
        (Some("WebSocket"), _) if call.socket.is_some_and(|socket| state.gateway.has_session(socket)) => {
            if state.knobs.gateway.may_subscribe {
                return Ok(Transport::WebSocket);
            }
            let message = "Application permission [WebSocketsSubscription] is required for the transport";
            Err(Refused::new(403, "SUB-528", message))
        }
        (Some("PubNub"), None) => Ok(Transport::PubNub),
        (Some("PubNub"), Some(Refusal::Sub528)) => {
            Err(Refused::new(403, "SUB-528", "Application permission [PubNub] is required for the transport"))
        }
        (Some("PubNub"), Some(Refusal::Cmn401)) => {
            let mut refused = Refused::new(
                403,
                "CMN-401",
                "In order to call this API endpoint, application needs [PubNub] permission",
            );
            refused.parameter = None;
            Err(refused)
        }
        // Other transports go here.
        (_, _) => Err(Refused::parameter("deliveryMode.transportType")),
    }
}

/// `POST /restapi/v1.0/subscription`.
pub(super) fn create(state: &mut State, call: &Call) -> Result<Reply, Refused> {
    let body = body(call)?.ok_or_else(|| Refused::new(400, "CMN-103", "Request body is required"))?;
    let transport = transport(state, call, &body)?;
    let asked = asked(&body)?;
    let accepted = accept(state, &asked.filters)?;
    let moment = state.moment();
    let replaced = call.socket.filter(|_| transport == Transport::WebSocket);
    let replaced = replaced.and_then(|socket| state.gateway.subscription_of(socket));
    let held = state.subscriptions.alive(moment.now).iter().filter(|held| Some(&held.id) != replaced.as_ref()).count();
    if held >= state.knobs.subscription_limit {
        let limit = state.knobs.subscription_limit;
        let message = format!("Subscriptions limit is exceeded: [{limit}] subscriptions are allowed");
        return Err(Refused::new(403, "SUB-505", message));
    }
    let most = state.knobs.subscription_lifetime;
    let id = uuid(&mut state.rng);
    let (lifetime, expires_at, channel) = match transport {
        Transport::PubNub => {
            let lifetime = asked.expires_in.map_or(most, |asked| asked.min(most));
            let channel = ChannelId { key: common_key(state), name: channel_name(state) };
            (lifetime, later(moment.now, lifetime), channel)
        }
        // The service renews it while its session lives.
        Transport::WebSocket => {
            let lifetime = state.knobs.gateway.subscription_lifetime;
            (lifetime, later(moment.now, Duration::MAX), ChannelId::of_socket(&id))
        }
    };
    if let Some(replaced) = replaced {
        state.subscriptions.live.retain(|held| held.id != replaced);
    }
    let encryption = &body["deliveryMode"]["encryption"];
    let mut subscription = Subscription {
        id,
        filters: accepted.filters,
        answered: accepted.answered,
        disabled: accepted.disabled,
        created: moment.wall,
        expires_at,
        lifetime,
        asked_encryption: encryption.as_bool() == Some(true) || encryption.as_str() == Some("true"),
        key: None,
        transport,
        channel,
        status: "Active".into(),
        pending: Rotation::default(),
        renewals: 0,
    };
    settle_key(state, &mut subscription);
    let answer = describe(state, &subscription, moment, call.socket.is_some());
    if let Some(socket) = call.socket.filter(|_| transport == Transport::WebSocket) {
        state.gateway.subscribe(socket, &subscription.id);
    }
    state.subscriptions.live.push(subscription);
    Ok(json_reply(StatusCode::OK, &answer))
}

fn channel_name(state: &mut State) -> String {
    let digits = number(&mut state.rng, 14);
    format!("{digits}_{:08x}", state.rng.u32(..))
}

fn new_subscribe_key(state: &mut State) -> String {
    let key = format!("sub-c-{}", uuid(&mut state.rng));
    state.pubnub.keys.insert(key.clone());
    key
}

fn common_key(state: &mut State) -> String {
    if let Some(key) = &state.subscriptions.common_key {
        return key.clone();
    }
    let key = new_subscribe_key(state);
    state.subscriptions.common_key = Some(key.clone());
    key
}

/// Adds a key to a subscription that encrypts, removes it from one that does not.
fn settle_key(state: &mut State, subscription: &mut Subscription) {
    if !subscription.encrypts(state.knobs.encryption) {
        subscription.key = None;
    } else if subscription.key.is_none() {
        let mut key = Key::default();
        state.rng.fill(&mut key);
        subscription.key = Some(key);
    }
}

/// `GET /restapi/v1.0/subscription`.
pub(super) fn list(state: &mut State, call: &Call) -> Reply {
    let moment = state.moment();
    let alive = state.subscriptions.alive(moment.now).clone();
    let short = call.socket.is_some();
    let records: Vec<Value> = alive.iter().map(|held| describe(state, held, moment, short)).collect();
    json_reply(StatusCode::OK, &json!({ "uri": uri(state, "", short), "records": records }))
}

/// `GET /restapi/v1.0/subscription/{id}`.
pub(super) fn get(state: &mut State, call: &Call, id: &str) -> Result<Reply, Refused> {
    let moment = state.moment();
    let subscription = find(state, id)?.clone();
    Ok(json_reply(StatusCode::OK, &describe(state, &subscription, moment, call.socket.is_some())))
}

/// `PUT /restapi/v1.0/subscription/{id}`: new filters, or a renewal without them.
pub(super) fn update(state: &mut State, call: &Call, id: &str) -> Result<Reply, Refused> {
    refuse_foreign(state, call, id)?;
    let Some(body) = body(call)?.filter(|body| !body["eventFilters"].is_null()) else {
        return prolong(state, call, id, None);
    };
    let asked = asked(&body)?;
    let accepted = accept(state, &asked.filters)?;
    let subscription = find(state, id)?;
    subscription.filters = accepted.filters;
    subscription.answered = accepted.answered;
    subscription.disabled = accepted.disabled;
    prolong(state, call, id, asked.expires_in)
}

/// A WebSocket subscription can be changed over its socket only. The refusal is documented, its
/// form is not.
fn refuse_foreign(state: &mut State, call: &Call, id: &str) -> Result<(), Refused> {
    let transport = find(state, id)?.transport;
    let own = call.socket.and_then(|socket| state.gateway.subscription_of(socket));
    if transport == Transport::WebSocket && own.as_deref() != Some(id) {
        let message = "The subscription can be changed over its WebSocket only";
        return Err(Refused::new(405, "SUB-511", message));
    }
    Ok(())
}

/// `POST /restapi/v1.0/subscription/{id}/renew`.
pub(super) fn renew(state: &mut State, call: &Call, id: &str) -> Result<Reply, Refused> {
    refuse_foreign(state, call, id)?;
    prolong(state, call, id, None)
}

fn prolong(state: &mut State, call: &Call, id: &str, asked: Option<Duration>) -> Result<Reply, Refused> {
    let moment = state.moment();
    let most = state.knobs.subscription_lifetime;
    let always = state.knobs.rotate_on_renew.unwrap_or_default();
    let subscription = find(state, id)?;
    if subscription.transport == Transport::PubNub {
        subscription.lifetime = asked.unwrap_or(subscription.lifetime).min(most);
        subscription.expires_at = later(moment.now, subscription.lifetime);
    }
    subscription.renewals += 1;
    let pending = std::mem::take(&mut subscription.pending);
    rotate(
        state,
        id,
        Rotation {
            key: pending.key || always.key,
            address: pending.address || always.address,
            subscriber_key: pending.subscriber_key || always.subscriber_key,
        },
    );
    get(state, call, id)
}

/// Changes channel and keys of a subscription; false if the id is unknown.
pub(super) fn rotate(state: &mut State, id: &str, rotation: Rotation) -> bool {
    let Ok(mut subscription) = find(state, id).cloned() else { return false };
    if subscription.transport == Transport::WebSocket {
        return true;
    }
    if rotation.address {
        subscription.channel.name = channel_name(state);
    }
    if rotation.subscriber_key {
        subscription.channel.key = new_subscribe_key(state);
    }
    if rotation.key {
        subscription.key = None;
    }
    settle_key(state, &mut subscription);
    find(state, id).map(|held| *held = subscription).is_ok()
}

/// `DELETE /restapi/v1.0/subscription/{id}`.
pub(super) fn delete(state: &mut State, id: &str) -> Result<Reply, Refused> {
    find(state, id)?;
    state.subscriptions.live.retain(|subscription| subscription.id != id);
    state.gateway.unsubscribe(id);
    Ok(empty_reply(StatusCode::NO_CONTENT))
}

/// The live subscription with this id.
pub(super) fn find<'a>(state: &'a mut State, id: &str) -> Result<&'a mut Subscription, Refused> {
    let now = state.moment().now;
    let held = &mut state.subscriptions;
    if let Some(at) = held.alive(now).iter().position(|held| held.id == id) {
        return Ok(&mut held.live[at]);
    }
    if held.forgotten.iter().any(|forgotten| forgotten == id) {
        return Err(Refused::new(404, "SUB-507", "Subscription session is expired"));
    }
    Err(Refused::not_found("subscriptionId", id))
}

/// Drops a subscription as if its session had ended; false if the id is unknown.
pub(super) fn forget(state: &mut State, id: &str) -> bool {
    let dropped = delete(state, id).is_ok();
    if dropped {
        let forgotten = &mut state.subscriptions.forgotten;
        if forgotten.len() >= FORGOTTEN {
            forgotten.pop_front();
        }
        forgotten.push_back(id.to_owned());
    }
    dropped
}

/// Ends the WebSocket subscription of a session that has ended.
pub(super) fn orphan(state: &mut State, id: &str) {
    let now = state.moment().now;
    let keep = state.knobs.gateway.keep_orphans;
    if let Ok(held) = find(state, id) {
        if keep {
            held.expires_at = later(now, held.lifetime);
        } else {
            state.subscriptions.live.retain(|held| held.id != id);
        }
    }
}

fn uri(state: &State, tail: &str, short: bool) -> String {
    let host = if short || state.knobs.relative_uri { "" } else { &state.base_url };
    format!("{host}/restapi/v1.0/subscription{tail}")
}

/// `SubscriptionInfo`, with a `short` URI for sockets.
fn describe(state: &mut State, subscription: &Subscription, moment: Moment, short: bool) -> Value {
    let left = subscription.left(moment.now);
    // Some time has passed since it was granted: 899 of 900, as captured.
    let seconds = left.saturating_sub(Duration::from_millis(1)).as_secs().max(1);
    let delivery = delivery_mode(state, subscription);
    let mut info = json!({
        "uri": uri(state, &format!("/{}", subscription.id), short),
        "id": subscription.id,
        "creationTime": state.write_time(subscription.created),
        "status": subscription.status,
        "eventFilters": subscription.answered,
        "expirationTime": state.write_time(later_on(moment.wall, left)),
        "deliveryMode": delivery,
    });
    if state.knobs.send_expires_in {
        info["expiresIn"] = json!(seconds);
    }
    if !subscription.disabled.is_empty() {
        let item = |filter: &String| json!({ "filter": filter, "reason": "SUB-412", "message": "Extension permission for this filter is missing" });
        info["disabledFilters"] = subscription.disabled.iter().map(item).collect();
    }
    info
}

fn delivery_mode(state: &mut State, subscription: &Subscription) -> Value {
    if subscription.transport == Transport::WebSocket {
        return json!({ "transportType": "WebSocket", "encryption": false });
    }
    let mut delivery = json!({
        "transportType": "PubNub",
        "encryption": subscription.key.is_some(),
        "address": subscription.channel.name,
        "subscriberKey": subscription.channel.key,
    });
    if let Some(key) = &subscription.key {
        delivery["encryptionAlgorithm"] = json!("AES");
        delivery["encryptionKey"] = json!(key_to_base64(key));
    }
    if state.knobs.send_secret_key {
        delivery["secretKey"] = json!(token(&mut state.rng, "sec-c-", 48));
    }
    delivery
}
