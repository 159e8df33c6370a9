//! The control API, for programs in other languages: `/_sandbox/…` on the API server. See the table
//! in the [module's documentation](super).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::behavior::{Behavior, Rotation};
use super::cipher;
use super::fault::Fault;
use super::faults::{FaultId, Target};
use super::filters::{DomainEvent, EventUri};
use super::fixtures::Fixture;
use super::http::{Call, Reply, empty_reply, json_reply};
use super::pubnub::Payload;
use super::requests::{Recorded, Service};
use super::servers::Cut;
use super::shared::Shared;
use super::state::{Due, State};
use super::view::{Gauges, SubscriptionView};
use super::{faults, gateway, subscriptions};
use ringcentral_events::Timestamp;

const PREFIX: &str = "/_sandbox/";
/// Maximum number of events triggered by one call.
const MAX_COUNT: usize = 10_000;

/// An error response.
struct Bad(StatusCode, String);

impl Bad {
    fn request(why: impl fmt::Display) -> Self {
        Self(StatusCode::BAD_REQUEST, format!("{why}"))
    }

    fn missing() -> Self {
        Self(StatusCode::NOT_FOUND, "no live subscription with this id".into())
    }
}

type Answer = Result<Reply, Bad>;

/// Whether a call is for the control API; such calls are not recorded, and faults do not apply.
pub(crate) fn is_control(call: &Call) -> bool {
    call.path.starts_with(PREFIX)
}

pub(crate) fn handle(shared: &Arc<Shared>, call: &Call) -> Reply {
    // Web pages must neither change a developer's sandbox nor read its tokens. Browsers send an
    // origin with writes. Reads from a page whose name resolves to loopback (DNS rebinding) may
    // lack it, but carry the page's host.
    if call.headers.contains_key(http::header::ORIGIN) {
        return json_reply(StatusCode::FORBIDDEN, &json!({ "error": "not from a browser" }));
    }
    if !is_loopback(call) {
        let error = "the host must be localhost or an address of this machine's loopback";
        return json_reply(StatusCode::FORBIDDEN, &json!({ "error": error }));
    }
    shared
        .update(|state| route(state, call))
        .unwrap_or_else(|Bad(status, why)| json_reply(status, &json!({ "error": why })))
}

/// Whether the call names this machine as its host. The port does not matter, since a forwarded one
/// differs.
fn is_loopback(call: &Call) -> bool {
    let mut hosts = call.headers.get_all(http::header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(authority) = http::uri::Authority::try_from(host.as_bytes()) else { return false };
    let name = authority.host().trim_matches(['[', ']']).trim_end_matches('.');
    match name.parse::<std::net::IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost"),
    }
}

fn route(state: &mut State, call: &Call) -> Answer {
    let segments = call.segments();
    let rest: Vec<&str> = segments.iter().skip(1).map(String::as_str).collect();
    match (call.method.as_str(), rest.as_slice()) {
        ("GET", ["state"]) => Ok(ok(&describe(state))),
        ("GET", ["behavior"]) => behavior(state, None),
        ("PATCH", ["behavior"]) => behavior(state, Some(read(call)?)),
        ("GET", ["requests"]) => requests(state, call),
        ("POST", ["trigger"]) => trigger(state, call),
        ("POST", ["faults"]) => {
            let Scripted { target, fault } = read(call)?;
            Ok(ok(&json!({ "id": state.ctx.faults.add(target, fault) })))
        }
        ("POST", ["frames"]) => frames(state, read(call)?),
        (method, ["agents", rest @ ..]) => agents(state, call, method, rest),
        ("GET", ["faults", id]) => Ok(ok(&json!({ "hits": state.ctx.faults.hits(fault_id(id)?) }))),
        (method, rest) => command(state, call, method, rest).map(|()| empty_reply(StatusCode::NO_CONTENT)),
    }
}

/// The calls without an answer.
fn command(state: &mut State, call: &Call, method: &str, rest: &[&str]) -> Result<(), Bad> {
    match (method, rest) {
        ("DELETE", ["requests"]) => state.ctx.log.clear(),
        ("POST", ["stubs"]) => stub(state, read(call)?)?,
        ("POST", ["publish"]) => publish(state, read(call)?)?,
        ("DELETE", ["faults", id]) => state.ctx.faults.clear(fault_id(id)?),
        ("DELETE", ["faults"]) => state.ctx.faults.clear_all(),
        ("POST", ["deliveries"]) => state.ctx.faults.script_deliveries(read(call)?),
        ("POST", ["subscriptions", id, action]) => subscription(state, call, id, action)?,
        ("POST", ["tokens", "expire"]) => {
            let now = state.ctx.moment().now;
            state.oauth.expire_access(now);
            state.ctx.poke();
        }
        ("POST", ["tokens", "revoke"]) => {
            state.oauth.revoke_all();
            state.ctx.poke();
        }
        ("POST", ["advance"]) => {
            let Advance { ms } = read(call)?;
            state.advance(Duration::from_millis(ms));
        }
        ("POST", ["servers", name]) => power(state, service(name)?, &read(call)?),
        ("POST", ["connections", name]) => connections(state, service(name)?, &read(call)?)?,
        _ => return Err(Bad(StatusCode::NOT_FOUND, "unknown control call".into())),
    }
    Ok(())
}

fn stub(state: &mut State, asked: Stub) -> Result<(), Bad> {
    let method = asked.method.parse().map_err(Bad::request)?;
    let status = StatusCode::from_u16(asked.status).map_err(Bad::request)?;
    state.stubs.add(method, &asked.path, status, asked.body);
    Ok(())
}

/// A stubbed call.
#[derive(Deserialize)]
struct Stub {
    method: String,
    path: String,
    #[serde(default = "success")]
    status: u16,
    #[serde(default)]
    body: Value,
}

fn success() -> u16 {
    200
}

fn agents(state: &mut State, call: &Call, method: &str, rest: &[&str]) -> Answer {
    use super::agent::Not;
    let asked = if method == "POST" { Some(read(call)?) } else { None };
    match super::agent::control(state, method, rest, asked) {
        Ok(Some(answer)) => Ok(ok(&answer)),
        Ok(None) => Ok(empty_reply(StatusCode::NO_CONTENT)),
        Err(Not::Found(why)) => Err(Bad(StatusCode::NOT_FOUND, why.into())),
        Err(Not::Complete(name)) => Err(Bad::request(format!("{name} is missing or invalid"))),
    }
}

fn subscription(state: &mut State, call: &Call, id: &str, action: &str) -> Result<(), Bad> {
    let held = subscriptions::find(&mut state.subscriptions, &state.ctx, id).map_err(|_| Bad::missing())?;
    match action {
        "expire" => drop(subscriptions::delete(&mut state.subscriptions, &state.ctx, id).map_err(|_| Bad::missing())?),
        "forget" => drop(subscriptions::forget(&mut state.subscriptions, &state.ctx, id)),
        "status" => {
            let NewStatus { status } = read(call)?;
            held.status = status;
        }
        "rotate" => {
            let Rotate { on_renew, what } = read(call)?;
            if on_renew {
                held.pending = what;
            } else {
                subscriptions::rotate(&mut state.subscriptions, &mut state.ctx, id, what);
            }
        }
        _ => return Err(Bad(StatusCode::NOT_FOUND, "unknown action on a subscription".into())),
    }
    Ok(())
}

fn read<T: DeserializeOwned>(call: &Call) -> Result<T, Bad> {
    serde_json::from_slice(&call.body).map_err(Bad::request)
}

fn ok(body: &Value) -> Reply {
    json_reply(StatusCode::OK, body)
}

fn fault_id(text: &str) -> Result<FaultId, Bad> {
    text.parse::<u64>().map(FaultId::from).map_err(Bad::request)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scripted {
    target: Target,
    fault: Fault,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewStatus {
    status: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    ms: u64,
}

/// Reads or patches the settings; a patch contains only the changes.
fn behavior(state: &mut State, patch: Option<Value>) -> Answer {
    let mut all = serde_json::to_value(&state.ctx.behavior).map_err(Bad::request)?;
    if let Some(patch) = patch {
        merge(&mut all, patch);
        state.ctx.behavior = serde_json::from_value::<Behavior>(all.clone()).map_err(Bad::request)?;
        state.ctx.poke();
    }
    Ok(ok(&all))
}

/// Merges objects and replaces everything else.
fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (name, value) in patch {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch,
    }
}

fn describe(state: &mut State) -> Value {
    let now = state.ctx.moment().now;
    let gauges = Gauges::read(state);
    let views: Vec<SubscriptionView> =
        state.subscriptions.alive(now).iter().map(|held| SubscriptionView::new(held, &state.gateway, now)).collect();
    let subscriptions: Vec<Value> = views
        .iter()
        .map(|view| {
            json!({
                "id": view.id,
                "event_filters": view.event_filters,
                "expires_in_ms": u64::try_from(view.expires_in.as_millis()).unwrap_or(u64::MAX),
                "status": view.status,
                "renewals": view.renewals,
                "transport": view.transport,
                "connected": view.connected,
                "address": view.address.expose(),
                "subscriber_key": view.subscriber_key.expose(),
                "encryption_key": view.encryption_key.as_ref().map(|key| key.expose()),
            })
        })
        .collect();
    let sent: Vec<Value> = state
        .account
        .sent()
        .iter()
        .map(|sent| {
            json!({
                "kind": sent.kind,
                "to": sent.to,
                "text": sent.text,
                "id": sent.id,
                "at": Timestamp::from(sent.at),
            })
        })
        .collect();
    let is_live = |channel: &super::pubnub::ChannelId| state.subscriptions.has_channel(channel);
    json!({
        "gauges": gauges,
        "caught_up": state.pubnub.is_caught_up(is_live),
        "subscriptions": subscriptions,
        "sent_messages": sent,
    })
}

fn requests(state: &State, call: &Call) -> Answer {
    let after = call.query("after").map(|text| text.parse::<u64>()).transpose().map_err(Bad::request)?;
    let target = call.query("target").map(|text| parse_target(&text)).transpose()?;
    let wanted = |record: &&Recorded| {
        after.is_none_or(|after| record.sequence > after)
            && target.as_ref().is_none_or(|target| faults::hits_record(target, record))
    };
    let records: Vec<Value> = state.ctx.log.records().filter(wanted).map(write_record).collect();
    Ok(ok(&json!({ "records": records })))
}

/// A target by name or as JSON.
fn parse_target(text: &str) -> Result<Target, Bad> {
    serde_json::from_value(Value::from(text)).or_else(|_| serde_json::from_str(text)).map_err(Bad::request)
}

fn write_record(record: &Recorded) -> Value {
    let headers: Vec<[String; 2]> = record
        .headers
        .iter()
        .map(|(name, value)| [name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()])
        .collect();
    json!({
        "sequence": record.sequence,
        "service": record.service,
        "operation": record.operation,
        "method": record.method.as_str(),
        "path_and_query": record.shown_path_and_query(),
        "headers": headers,
        "body": String::from_utf8_lossy(&record.body),
        "at": Timestamp::from(record.at),
        "status": record.status,
    })
}

#[derive(Deserialize)]
struct Repeat {
    #[serde(default = "one")]
    count: usize,
}

fn one() -> usize {
    1
}

#[derive(Deserialize)]
struct Event {
    event: String,
    body: Box<RawValue>,
}

fn trigger(state: &mut State, call: &Call) -> Answer {
    let Repeat { count } = read(call)?;
    if count > MAX_COUNT {
        return Err(Bad::request(format!("count is at most {MAX_COUNT}")));
    }
    let mut uuids = Vec::new();
    if let Ok(Event { event, body }) = serde_json::from_slice::<Event>(&call.body) {
        let uri = EventUri::parse(&event, &state.ctx.identity.account_id, &state.ctx.identity.extension_id);
        for _ in 0..count {
            let domain_event = DomainEvent { uri: uri.clone(), bodies: vec![body.get().to_owned()] };
            uuids.extend(state.deliver(&domain_event));
        }
    } else {
        let fixture: Fixture = read(call)?;
        for _ in 0..count {
            uuids.extend(state.trigger(&fixture));
        }
    }
    Ok(ok(&json!({ "uuids": uuids })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Publish {
    subscription: String,
    /// The raw text of `d`.
    data: Option<String>,
    /// The raw text of the envelope.
    envelope: Option<String>,
    /// Plain text to encrypt with the subscription's key.
    encrypt: Option<String>,
    /// Overrides the key of `encrypt`.
    key: Option<String>,
}

fn publish(state: &mut State, asked: Publish) -> Result<(), Bad> {
    let held = subscriptions::find(&mut state.subscriptions, &state.ctx, &asked.subscription)
        .map_err(|_| Bad::missing())?
        .clone();
    let payload = match (asked.data, asked.envelope, asked.encrypt) {
        (Some(data), None, None) => Payload::Data(data),
        (None, Some(envelope), None) => Payload::Envelope(envelope),
        (None, None, Some(plain)) => {
            let given = asked.key.map(|key| cipher::key_from_base64(&key).ok_or("key is base64 of 16 bytes"));
            let key = given.transpose().map_err(Bad::request)?.or(held.key);
            let key = key.ok_or_else(|| Bad::request("this subscription has no key; name one"))?;
            Payload::Data(format!("\"{}\"", cipher::encrypt(&key, plain.as_bytes())))
        }
        _ => return Err(Bad::request("name one of data, envelope, encrypt")),
    };
    state.publish_payload(&held.channel, payload);
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Frames {
    text: String,
    subscription: Option<String>,
}

fn frames(state: &mut State, asked: Frames) -> Answer {
    let Frames { text, subscription } = asked;
    if let Some(id) = &subscription {
        subscriptions::find(&mut state.subscriptions, &state.ctx, id).map_err(|_| Bad::missing())?;
    }
    Ok(ok(&json!({ "sockets": gateway::send_raw(&mut state.gateway, subscription.as_deref(), &text) })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotate {
    #[serde(default)]
    on_renew: bool,
    what: Rotation,
}

fn service(name: &str) -> Result<Service, Bad> {
    serde_json::from_value(Value::from(name)).map_err(Bad::request)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Power {
    /// Absent: start.
    down_ms: Option<u64>,
}

/// Stops a server for a time. Stopping without a time is impossible, since the API server handles
/// this call.
fn power(state: &mut State, service: Service, asked: &Power) {
    let Some(ms) = asked.down_ms else { return state.servers.of(service).want(true) };
    let delay = match service {
        // Its connection must carry this answer first.
        Service::Api => Duration::from_millis(20),
        _ => Duration::ZERO,
    };
    state.schedule(delay, Due::Down(service));
    state.schedule(delay.saturating_add(Duration::from_millis(ms)), Due::Up(service));
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Connections {
    action: Cut,
}

/// The API server's connections carry this answer, so only those of other servers can be cut.
fn connections(state: &mut State, service: Service, asked: &Connections) -> Result<(), Bad> {
    if service == Service::Api {
        return Err(Bad::request("connections of the API server cannot be cut over HTTP"));
    }
    state.cut(service, asked.action);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_changes_only_its_fields() {
        let mut all = json!({ "a": 1, "b": { "c": 2, "d": 3 }, "e": [1] });
        merge(&mut all, json!({ "b": { "c": 9 }, "e": [] }));
        assert_eq!(all, json!({ "a": 1, "b": { "c": 9, "d": 3 }, "e": [] }));
    }

    #[test]
    fn only_names_and_addresses_of_loopback_are_this_machine() {
        let is_here = |hosts: &[&str]| {
            let mut call = Call::bare(http::Method::GET, "/_sandbox/state", "");
            for host in hosts {
                call.headers.append(http::header::HOST, host.parse().unwrap());
            }
            is_loopback(&call)
        };
        for good in [
            "127.0.0.1:8080",
            "127.0.0.1",
            "localhost:1",
            "LOCALHOST",
            "localhost.",
            "sandbox.localhost:9",
            "[::1]:8080",
            "127.8.8.8",
        ] {
            assert!(is_here(&[good]), "{good}");
        }
        for bad in [
            "evil.example",
            "localhost.evil.example:8080",
            "127.0.0.1.evil.example",
            "192.168.0.7",
            "0.0.0.0",
            "",
            "u@127.0.0.1@evil",
        ] {
            assert!(!is_here(&[bad]), "{bad}");
        }
        assert!(!is_here(&[]) && !is_here(&["localhost", "evil.example"]));
    }
}
