//! The subscription resource: `/restapi/v1.0/subscription*`.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use ringcentral_events::{EventFilter, EventKind};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::behavior::{Encryption, Refusal, Rotation};
use super::cipher::{Key, key_to_base64};
use super::clock::{Moment, later, later_on};
use super::context::Context;
use super::filters::EventUri;
use super::http::{Call, Refused, Reply, empty_reply, json_reply};
use super::pubnub::ChannelId;
use super::random::{number, token, uuid};

/// Maximum number of removed ids remembered.
const FORGOTTEN: usize = 1000;

/// All subscriptions, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    live: Vec<Subscription>,
    /// The subscribe key of all subscriptions without an individual one.
    common_key: Option<String>,
    /// Every subscribe key ever issued.
    keys: HashSet<String>,
    /// The newest ids answered with `SUB-507`.
    forgotten: VecDeque<String>,
    /// Not yet passed on to the gateway.
    changes: Vec<Change>,
}

/// A change that concerns the gateway's sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A socket's session has this subscription from now on.
    Created { socket: u64, id: String },
    /// The subscription is gone.
    Deleted(String),
}

/// The transport of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum Transport {
    /// A PubNub channel.
    PubNub,
    /// The socket that created it.
    WebSocket,
}

/// One subscription.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    pub(crate) id: String,
    pub(crate) filters: Vec<EventUri>,
    /// The filters as reported.
    pub(crate) answered: Vec<String>,
    pub(crate) disabled: Vec<String>,
    pub(crate) created: SystemTime,
    pub(crate) expires_at: Instant,
    /// The lifetime granted at creation, granted again by each renewal.
    lifetime: Duration,
    /// Whether encryption was requested.
    asked_encryption: bool,
    pub(crate) transport: Transport,
    pub(crate) key: Option<Key>,
    pub(crate) channel: ChannelId,
    pub(crate) status: String,
    /// What the next renewal changes.
    pub(crate) pending: Rotation,
    pub(crate) renewals: u32,
}

impl Subscriptions {
    /// The live ones; expired ones are dropped.
    pub(crate) fn alive(&mut self, now: Instant) -> &mut Vec<Subscription> {
        self.live.retain(|subscription| now < subscription.expires_at);
        &mut self.live
    }

    /// Whether a subscribe key was ever issued.
    pub(crate) fn has_key(&self, key: &str) -> bool {
        self.keys.contains(key)
    }

    /// Takes the changes for the gateway.
    pub(crate) fn changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Whether a live subscription has this channel.
    pub(crate) fn has_channel(&self, channel: &ChannelId) -> bool {
        self.live.iter().any(|subscription| subscription.channel == *channel)
    }
}

impl Subscription {
    /// Time until it expires; always the full lifetime if its session renews it.
    pub(crate) fn left(&self, now: Instant) -> Duration {
        self.expires_at.saturating_duration_since(now).min(self.lifetime)
    }

    fn encrypts(&self, setting: Encryption) -> bool {
        if self.transport == Transport::WebSocket {
            return false;
        }
        match setting {
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

fn accept(ctx: &Context, filters: &[String]) -> Result<Accepted, Refused> {
    let identity = &ctx.identity;
    let parse = |text: &String| EventUri::parse(text, &identity.account_id, &identity.extension_id);
    let names = |list: &[String], text: &str| list.iter().any(|part| text.contains(part.as_str()));
    let invalid: Vec<&str> = filters
        .iter()
        .filter(|text| !parse(text).is_known_family() || names(&ctx.behavior.invalid_filters, text))
        .map(String::as_str)
        .collect();
    if !invalid.is_empty() {
        let message = format!("Event filters [{}] are not valid", invalid.join(", "));
        return Err(Refused::new(400, "SUB-508", message));
    }
    for text in filters {
        let kind = text.parse::<EventFilter>().map_or(EventKind::Unknown, |filter| filter.kind());
        // Each filter of a kind needs the same permissions.
        let row = EventFilter::catalog().find(|row| row.kind() == kind);
        ctx.permit(row.and_then(|row| row.permission()))?;
    }
    let mut accepted = Accepted { filters: Vec::new(), answered: Vec::new(), disabled: Vec::new() };
    for text in filters {
        let uri = parse(text);
        let answer = if ctx.behavior.expand_tilde { uri.text() } else { text.clone() };
        if names(&ctx.behavior.disabled_filters, text) {
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
fn transport(ctx: &Context, call: &Call, body: &Value) -> Result<Transport, Refused> {
    let transport = body["deliveryMode"]["transportType"].as_str();
    match (transport, ctx.behavior.refuse_pubnub) {
        // Created on a socket only.
        (Some("WebSocket"), _) if call.socket.as_ref().is_some_and(|carrier| carrier.has_session) => {
            if ctx.behavior.gateway.may_subscribe {
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
pub(crate) fn create(all: &mut Subscriptions, ctx: &mut Context, call: &Call) -> Result<Reply, Refused> {
    let body = body(call)?.ok_or_else(|| Refused::new(400, "CMN-103", "Request body is required"))?;
    let transport = transport(ctx, call, &body)?;
    let asked = asked(&body)?;
    let accepted = accept(ctx, &asked.filters)?;
    let moment = ctx.moment();
    let carrier = call.socket.as_ref().filter(|_| transport == Transport::WebSocket);
    let replaced = carrier.and_then(|carrier| carrier.subscription.as_ref());
    let held = all.alive(moment.now).iter().filter(|held| Some(&held.id) != replaced).count();
    if held >= ctx.behavior.subscription_limit {
        let limit = ctx.behavior.subscription_limit;
        let message = format!("Subscriptions limit is exceeded: [{limit}] subscriptions are allowed");
        return Err(Refused::new(403, "SUB-505", message));
    }
    let most = ctx.behavior.subscription_lifetime;
    let id = uuid(&mut ctx.rng);
    let (lifetime, expires_at, channel) = match transport {
        Transport::PubNub => {
            let lifetime = asked.expires_in.map_or(most, |asked| asked.min(most));
            let channel = ChannelId { key: common_key(all, ctx), name: channel_name(ctx) };
            (lifetime, later(moment.now, lifetime), channel)
        }
        // The service renews it while its session lives.
        Transport::WebSocket => {
            let lifetime = ctx.behavior.gateway.subscription_lifetime;
            (lifetime, later(moment.now, Duration::MAX), ChannelId::of_socket(&id))
        }
    };
    if let Some(replaced) = replaced {
        all.live.retain(|held| held.id != *replaced);
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
    settle_key(ctx, &mut subscription);
    let answer = describe(ctx, &subscription, moment, call.socket.is_some());
    if let Some(carrier) = carrier {
        all.changes.push(Change::Created { socket: carrier.socket, id: subscription.id.clone() });
    }
    all.live.push(subscription);
    Ok(json_reply(StatusCode::OK, &answer))
}

fn channel_name(ctx: &mut Context) -> String {
    let digits = number(&mut ctx.rng, 14);
    format!("{digits}_{:08x}", ctx.rng.u32(..))
}

fn new_subscribe_key(all: &mut Subscriptions, ctx: &mut Context) -> String {
    let key = format!("sub-c-{}", uuid(&mut ctx.rng));
    all.keys.insert(key.clone());
    key
}

fn common_key(all: &mut Subscriptions, ctx: &mut Context) -> String {
    if let Some(key) = &all.common_key {
        return key.clone();
    }
    let key = new_subscribe_key(all, ctx);
    all.common_key = Some(key.clone());
    key
}

/// Adds a key to a subscription that encrypts, removes it from one that does not.
fn settle_key(ctx: &mut Context, subscription: &mut Subscription) {
    if !subscription.encrypts(ctx.behavior.encryption) {
        subscription.key = None;
    } else if subscription.key.is_none() {
        let mut key = Key::default();
        ctx.rng.fill(&mut key);
        subscription.key = Some(key);
    }
}

/// `GET /restapi/v1.0/subscription`.
pub(crate) fn list(all: &mut Subscriptions, ctx: &mut Context, call: &Call) -> Reply {
    let moment = ctx.moment();
    let alive = all.alive(moment.now).clone();
    let short = call.socket.is_some();
    let records: Vec<Value> = alive.iter().map(|held| describe(ctx, held, moment, short)).collect();
    json_reply(StatusCode::OK, &json!({ "uri": uri(ctx, "", short), "records": records }))
}

/// `GET /restapi/v1.0/subscription/{id}`.
pub(crate) fn get(all: &mut Subscriptions, ctx: &mut Context, call: &Call, id: &str) -> Result<Reply, Refused> {
    let moment = ctx.moment();
    let subscription = find(all, ctx, id)?.clone();
    Ok(json_reply(StatusCode::OK, &describe(ctx, &subscription, moment, call.socket.is_some())))
}

/// `PUT /restapi/v1.0/subscription/{id}`: new filters, or a renewal without them.
pub(crate) fn update(all: &mut Subscriptions, ctx: &mut Context, call: &Call, id: &str) -> Result<Reply, Refused> {
    refuse_foreign(all, ctx, call, id)?;
    let Some(body) = body(call)?.filter(|body| !body["eventFilters"].is_null()) else {
        return prolong(all, ctx, call, id, None);
    };
    let asked = asked(&body)?;
    let accepted = accept(ctx, &asked.filters)?;
    let subscription = find(all, ctx, id)?;
    subscription.filters = accepted.filters;
    subscription.answered = accepted.answered;
    subscription.disabled = accepted.disabled;
    prolong(all, ctx, call, id, asked.expires_in)
}

/// A WebSocket subscription can be changed over its socket only. The refusal is documented, its
/// form is not.
fn refuse_foreign(all: &mut Subscriptions, ctx: &Context, call: &Call, id: &str) -> Result<(), Refused> {
    let transport = find(all, ctx, id)?.transport;
    let own = call.socket.as_ref().and_then(|carrier| carrier.subscription.as_deref());
    if transport == Transport::WebSocket && own != Some(id) {
        let message = "The subscription can be changed over its WebSocket only";
        return Err(Refused::new(405, "SUB-511", message));
    }
    Ok(())
}

/// `POST /restapi/v1.0/subscription/{id}/renew`.
pub(crate) fn renew(all: &mut Subscriptions, ctx: &mut Context, call: &Call, id: &str) -> Result<Reply, Refused> {
    refuse_foreign(all, ctx, call, id)?;
    prolong(all, ctx, call, id, None)
}

fn prolong(
    all: &mut Subscriptions,
    ctx: &mut Context,
    call: &Call,
    id: &str,
    asked: Option<Duration>,
) -> Result<Reply, Refused> {
    let moment = ctx.moment();
    let most = ctx.behavior.subscription_lifetime;
    let always = ctx.behavior.rotate_on_renew.unwrap_or_default();
    let subscription = find(all, ctx, id)?;
    if subscription.transport == Transport::PubNub {
        subscription.lifetime = asked.unwrap_or(subscription.lifetime).min(most);
        subscription.expires_at = later(moment.now, subscription.lifetime);
    }
    subscription.renewals += 1;
    let pending = std::mem::take(&mut subscription.pending);
    rotate(
        all,
        ctx,
        id,
        Rotation {
            key: pending.key || always.key,
            address: pending.address || always.address,
            subscriber_key: pending.subscriber_key || always.subscriber_key,
        },
    );
    get(all, ctx, call, id)
}

/// Changes channel and keys of a subscription; false if the id is unknown.
pub(crate) fn rotate(all: &mut Subscriptions, ctx: &mut Context, id: &str, rotation: Rotation) -> bool {
    let Ok(mut subscription) = find(all, ctx, id).cloned() else { return false };
    if subscription.transport == Transport::WebSocket {
        return true;
    }
    if rotation.address {
        subscription.channel.name = channel_name(ctx);
    }
    if rotation.subscriber_key {
        subscription.channel.key = new_subscribe_key(all, ctx);
    }
    if rotation.key {
        subscription.key = None;
    }
    settle_key(ctx, &mut subscription);
    find(all, ctx, id).map(|held| *held = subscription).is_ok()
}

/// `DELETE /restapi/v1.0/subscription/{id}`.
pub(crate) fn delete(all: &mut Subscriptions, ctx: &Context, id: &str) -> Result<Reply, Refused> {
    find(all, ctx, id)?;
    all.live.retain(|subscription| subscription.id != id);
    all.changes.push(Change::Deleted(id.to_owned()));
    Ok(empty_reply(StatusCode::NO_CONTENT))
}

/// The live subscription with this id.
pub(crate) fn find<'a>(all: &'a mut Subscriptions, ctx: &Context, id: &str) -> Result<&'a mut Subscription, Refused> {
    let now = ctx.moment().now;
    if let Some(at) = all.alive(now).iter().position(|held| held.id == id) {
        return Ok(&mut all.live[at]);
    }
    if all.forgotten.iter().any(|forgotten| forgotten == id) {
        return Err(Refused::new(404, "SUB-507", "Subscription session is expired"));
    }
    Err(Refused::not_found("subscriptionId", id))
}

/// Drops a subscription as if its session had ended; false if the id is unknown.
pub(crate) fn forget(all: &mut Subscriptions, ctx: &Context, id: &str) -> bool {
    let dropped = delete(all, ctx, id).is_ok();
    if dropped {
        let forgotten = &mut all.forgotten;
        if forgotten.len() >= FORGOTTEN {
            forgotten.pop_front();
        }
        forgotten.push_back(id.to_owned());
    }
    dropped
}

/// Ends the WebSocket subscription of a session that has ended.
pub(crate) fn orphan(all: &mut Subscriptions, ctx: &Context, id: &str) {
    let now = ctx.moment().now;
    let keep = ctx.behavior.gateway.keep_orphans;
    let Ok(held) = find(all, ctx, id) else { return };
    if keep {
        held.expires_at = later(now, held.lifetime);
    } else {
        all.live.retain(|held| held.id != id);
    }
}

fn uri(ctx: &Context, tail: &str, short: bool) -> String {
    let host = if short || ctx.behavior.relative_uri { "" } else { &ctx.base_url };
    format!("{host}/restapi/v1.0/subscription{tail}")
}

/// `SubscriptionInfo`, with a `short` URI for sockets.
fn describe(ctx: &mut Context, subscription: &Subscription, moment: Moment, short: bool) -> Value {
    let left = subscription.left(moment.now);
    // Some time has passed since it was granted: 899 of 900, as captured.
    let seconds = left.saturating_sub(Duration::from_millis(1)).as_secs().max(1);
    let delivery = delivery_mode(ctx, subscription);
    let mut info = json!({
        "uri": uri(ctx, &format!("/{}", subscription.id), short),
        "id": subscription.id,
        "creationTime": ctx.write_time(subscription.created),
        "status": subscription.status,
        "eventFilters": subscription.answered,
        "expirationTime": ctx.write_time(later_on(moment.wall, left)),
        "deliveryMode": delivery,
    });
    if ctx.behavior.send_expires_in {
        info["expiresIn"] = json!(seconds);
    }
    if !subscription.disabled.is_empty() {
        let item = |filter: &String| json!({ "filter": filter, "reason": "SUB-412", "message": "Extension permission for this filter is missing" });
        info["disabledFilters"] = subscription.disabled.iter().map(item).collect();
    }
    info
}

fn delivery_mode(ctx: &mut Context, subscription: &Subscription) -> Value {
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
    if ctx.behavior.send_secret_key {
        delivery["secretKey"] = json!(token(&mut ctx.rng, "sec-c-", 48));
    }
    delivery
}
