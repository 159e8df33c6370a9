//! Subscriptions over REST and over the socket (rest §2, websocket §1.7), and the envelope.

use serde_json::{Value, json};

use super::http::Answer;
use super::{Cx, Service};
use crate::net::ConnId;
use crate::time::{SEC, Us, stamp, stamp_with};
use crate::world::{ACCOUNT, CHAT, EXTENSION, Emission, Filter, What};

#[derive(Debug, Clone)]
pub(crate) struct Sub {
    pub(crate) id: String,
    /// Created by the program under test, and not by another one of the same user and app.
    pub(crate) is_ours: bool,
    /// The connection over which it was made, if it is ours.
    pub(crate) by: Option<ConnId>,
    pub(crate) is_socket: bool,
    pub(crate) asked: Vec<String>,
    pub(crate) created: Us,
    pub(crate) lease: Us,
    pub(crate) expires: Us,
    pub(crate) is_active: bool,
    pub(crate) is_gone: bool,
    /// Silently gone or inactive since then.
    pub(crate) deaf_since: Option<Us>,
    pub(crate) channel: String,
    pub(crate) subscriber_key: String,
    pub(crate) key: Option<[u8; 16]>,
    /// The previous key, for messages that are published until then.
    pub(crate) old_key: Option<([u8; 16], Us)>,
    pub(crate) renewals: u64,
    /// When its channel changed last.
    pub(crate) moved: Option<Us>,
    pub(crate) session: Option<usize>,
    /// The filter that is not served, though the subscription is.
    pub(crate) disabled: Option<Filter>,
}

impl Sub {
    pub(crate) fn is_serving(&self, now: Us) -> bool {
        !self.is_gone && self.is_active && self.expires > now
    }

    pub(crate) fn exists(&self, now: Us) -> bool {
        !self.is_gone && self.expires > now
    }
}

#[derive(Debug, Default)]
pub(crate) struct Subs {
    pub(crate) all: Vec<Sub>,
    /// Filters that were not served from then on, and by which subscription.
    pub(crate) disabled: Vec<(Us, Filter, usize)>,
}

impl Subs {
    /// The subscriptions that deliver events of `filter`.
    pub(crate) fn serving(&self, filter: Filter, now: Us) -> Vec<usize> {
        (0..self.all.len())
            .filter(|&i| {
                let sub = &self.all[i];
                sub.is_serving(now)
                    && sub.disabled != Some(filter)
                    && sub.asked.iter().any(|uri| Filter::of(uri) == Some(filter))
            })
            .collect()
    }

    fn find(&self, id: &str, now: Us) -> Option<usize> {
        self.all.iter().position(|sub| sub.id == id && sub.exists(now))
    }

    /// When ours that exist were created, of those that count.
    pub(crate) fn ours_left(&self, now: Us, counts: impl Fn(&Sub) -> bool) -> Vec<Us> {
        self.all.iter().filter(|sub| sub.is_ours && sub.exists(now) && counts(sub)).map(|sub| sub.created).collect()
    }
}

/// A call of the subscription API, over HTTPS or within a session.
pub(crate) struct Call<'a> {
    pub(crate) conn: ConnId,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) body: Option<&'a Value>,
    pub(crate) session: Option<usize>,
}

impl Service {
    /// Answers a call that is about subscriptions; `None` for another.
    pub(super) fn subscription_call(&mut self, call: &Call<'_>, cx: &mut Cx<'_>) -> Option<Answer> {
        let answer = self.act_on_subscription(call, cx)?;
        match (call.method, answer.status) {
            ("GET", 200) => self.fact("a subscription is described"),
            (_, 200) => self.fact("a subscription is made or renewed"),
            (_, 204) => self.fact("a subscription is deleted"),
            (_, 404) => self.fact("a subscription is not there"),
            _ => {}
        }
        Some(answer)
    }

    fn act_on_subscription(&mut self, call: &Call<'_>, cx: &mut Cx<'_>) -> Option<Answer> {
        let rest = call.path.strip_prefix("/restapi/v1.0/subscription")?;
        let rest = rest.trim_matches('/');
        let now = cx.now();
        if rest.is_empty() {
            return Some(match call.method {
                "POST" => self.create(call, cx),
                "GET" => {
                    let records: Vec<Value> = (0..self.subs.all.len())
                        .filter(|&i| self.subs.all[i].exists(now))
                        .map(|i| self.info(i, now, call.session.is_some()))
                        .collect();
                    Answer::json(200, &json!({"uri": "/restapi/v1.0/subscription", "records": records}))
                }
                _ => Answer::error(405, "CMN-120", "Not allowed", None),
            });
        }
        let (id, action) = rest.split_once('/').unwrap_or((rest, ""));
        let Some(index) = self.subs.find(id, now) else { return Some(self.gone()) };
        let is_change = call.method != "GET";
        if is_change && !self.subs.all[index].is_ours {
            self.misdeed(now, "another program's subscription is touched", format!("{} {action}", call.method));
        }
        Some(match (call.method, action) {
            ("GET", "") => Answer::json(200, &self.info(index, now, call.session.is_some())),
            ("POST", "renew") => {
                self.renew(index, cx);
                Answer::json(200, &self.info(index, now, false))
            }
            ("PUT", "") => {
                if self.subs.all[index].is_socket && call.session.is_none() {
                    return Some(Answer::error(400, "CMN-101", "A WebSocket subscription", Some("subscriptionId")));
                }
                if let Some(filters) = call.body.and_then(|body| body.get("eventFilters")).and_then(Value::as_array) {
                    let asked = filters.iter().filter_map(|it| it.as_str().map(str::to_owned)).collect();
                    self.subs.all[index].asked = asked;
                }
                self.renew(index, cx);
                Answer::json(200, &self.info(index, now, call.session.is_some()))
            }
            ("DELETE", "") => {
                let sub = &mut self.subs.all[index];
                sub.is_gone = true;
                sub.deaf_since = Some(now);
                cx.trace(format_args!("sub {index} is deleted"));
                Answer::empty(204)
            }
            _ => Answer::error(405, "CMN-120", "Not allowed", None),
        })
    }

    fn gone(&self) -> Answer {
        if self.knobs.gone_code == 0 {
            Answer::error(
                404,
                "CMN-102",
                "Resource for parameter [subscriptionId] is not found",
                Some("subscriptionId"),
            )
        } else {
            Answer::error(404, "SUB-507", "Subscription is not found", None)
        }
    }

    fn create(&mut self, call: &Call<'_>, cx: &mut Cx<'_>) -> Answer {
        let now = cx.now();
        let body = call.body.cloned().unwrap_or_default();
        let filters: Vec<String> = body
            .get("eventFilters")
            .and_then(Value::as_array)
            .map(|list| list.iter().filter_map(|it| it.as_str().map(str::to_owned)).collect())
            .unwrap_or_default();
        if filters.is_empty() {
            return Answer::error(400, "CMN-101", "Parameter [eventFilters] is invalid", Some("eventFilters"));
        }
        let transport = body.pointer("/deliveryMode/transportType").and_then(Value::as_str).unwrap_or_default();
        let is_socket = transport == "WebSocket";
        if !(is_socket && call.session.is_some() || transport == "PubNub" && call.session.is_none()) {
            return Answer::error(
                400,
                "CMN-101",
                "Parameter [deliveryMode.transportType] is invalid",
                Some("deliveryMode"),
            );
        }
        if self.subs.all.iter().filter(|sub| sub.exists(now)).count() >= 20 {
            return Answer::error(403, "SUB-505", "Subscriptions limit exceeded", None);
        }
        let index = self.add_sub(filters, is_socket, Some(call.conn), cx);
        if let Some(session) = call.session {
            // A second one silently cancels the first (websocket §1.7).
            self.bind(session, index, cx);
        }
        cx.trace(format_args!("sub {index} is created"));
        Answer::json(200, &self.info(index, now, is_socket))
    }

    /// Ours is made over a connection; without one another program of the same user and app
    /// subscribes.
    pub(crate) fn add_sub(
        &mut self,
        asked: Vec<String>,
        is_socket: bool,
        by: Option<ConnId>,
        cx: &mut Cx<'_>,
    ) -> usize {
        let (now, is_ours) = (cx.now(), by.is_some());
        let seconds = if is_socket { 86_399 } else { self.knobs.lease_s };
        let sensitive = asked.iter().filter_map(|uri| Filter::of(uri)).any(Filter::is_sensitive);
        let encrypted = !is_socket && (sensitive || self.knobs.pn_encrypted == 1);
        let sub = Sub {
            id: self.uuid(),
            is_ours,
            by,
            is_socket,
            asked,
            created: now,
            lease: seconds * SEC,
            expires: now + seconds * SEC,
            is_active: true,
            is_gone: false,
            deaf_since: None,
            channel: self.channel(),
            subscriber_key: format!("sub-c-{}", self.uuid()),
            key: encrypted.then(|| self.aes_key()),
            old_key: None,
            renewals: 0,
            moved: None,
            session: None,
            disabled: None,
        };
        self.subs.all.push(sub);
        let index = self.subs.all.len() - 1;
        if self.knobs.disables == 1 && is_ours {
            self.disable(index, now);
        }
        index
    }

    /// The last of several filters is not served from now on, as after a permission was
    /// taken away (`SUB-412`).
    fn disable(&mut self, index: usize, now: Us) {
        let sub = &mut self.subs.all[index];
        let filters: Vec<Filter> = sub.asked.iter().filter_map(|uri| Filter::of(uri)).collect();
        if let [_, .., last] = filters[..]
            && sub.disabled.is_none()
        {
            sub.disabled = Some(last);
            self.subs.disabled.push((now, last, index));
        }
    }

    fn channel(&mut self) -> String {
        format!("{}_{}", 54_770_000_000_000 + self.rng.below(999_999_999), self.hex(8))
    }

    fn aes_key(&mut self) -> [u8; 16] {
        let mut key = [0; 16];
        self.rng.fill(&mut key);
        key
    }

    fn renew(&mut self, index: usize, cx: &mut Cx<'_>) {
        let now = cx.now();
        let (key, channel) = (self.aes_key(), self.channel());
        let subscriber_key = format!("sub-c-{}", self.uuid());
        let moves = self.knobs.renew_moves;
        let late = self.knobs.pn_key_late == 1;
        let sub = &mut self.subs.all[index];
        sub.expires = now + sub.lease;
        sub.renewals += 1;
        let disables = self.knobs.disables == 2 && sub.renewals == 1;
        cx.trace(format_args!("sub {index} is renewed, moves {moves}"));
        if disables {
            self.disable(index, now);
        }
        let sub = &mut self.subs.all[index];
        if sub.is_socket {
            return;
        }
        if matches!(moves, 1 | 3 | 4)
            && let Some(old) = sub.key
        {
            sub.old_key = Some((old, if late { now + SEC / 2 } else { now }));
            sub.key = Some(key);
        }
        if matches!(moves, 2..=4) {
            sub.channel = channel;
            sub.moved = Some(now);
        }
        if moves == 4 {
            sub.subscriber_key = subscriber_key;
        }
    }

    fn time(&self, at: Us) -> String {
        let shown = self.clock.at(at);
        if self.knobs.time_form == 1 { stamp_with(shown, "+0000") } else { stamp(shown) }
    }

    fn info(&self, index: usize, now: Us, is_relative: bool) -> Value {
        use base64::Engine as _;
        let sub = &self.subs.all[index];
        let is_disabled = |uri: &&String| sub.disabled.is_some() && Filter::of(uri) == sub.disabled;
        let filters: Vec<String> =
            sub.asked.iter().filter(|uri| !is_disabled(uri)).map(|uri| self.expanded(uri)).collect();
        let disabled: Vec<Value> = sub
            .asked
            .iter()
            .filter(is_disabled)
            .map(|uri| json!({"filter": self.expanded(uri), "reason": "SUB-412", "message": "A permission is missing"}))
            .collect();
        let mut mode = json!({"transportType": if sub.is_socket { "WebSocket" } else { "PubNub" }, "encryption": sub.key.is_some()});
        if let Some(map) = mode.as_object_mut()
            && !sub.is_socket
        {
            map.insert("address".into(), sub.channel.clone().into());
            map.insert("subscriberKey".into(), sub.subscriber_key.clone().into());
            if let Some(key) = sub.key {
                map.insert("encryptionAlgorithm".into(), "AES".into());
                map.insert("encryptionKey".into(), base64::engine::general_purpose::STANDARD.encode(key).into());
            }
        }
        let host = if is_relative { "" } else { "https://platform.sim.example" };
        let mut info = json!({
            "uri": format!("{host}/restapi/v1.0/subscription/{}", sub.id), "id": sub.id, "creationTime": self.time(sub.created),
            "status": if sub.is_active { "Active" } else { "Suspended" }, "eventFilters": filters, "deliveryMode": mode,
        });
        if let Some(map) = info.as_object_mut() {
            if !disabled.is_empty() {
                map.insert("disabledFilters".into(), disabled.into());
            }
            if self.knobs.lease_form != 2 {
                map.insert("expiresIn".into(), ((sub.expires - now) / SEC).into());
            }
            if self.knobs.lease_form != 1 {
                map.insert("expirationTime".into(), self.time(sub.expires).into());
            }
        }
        info
    }

    fn expanded(&self, uri: &str) -> String {
        if self.knobs.filters_tilde == 1 {
            return uri.to_owned();
        }
        uri.replace("account/~", &format!("account/{ACCOUNT}"))
            .replace("extension/~", &format!("extension/{EXTENSION}"))
    }

    /// A notification (rest §5).
    pub(super) fn envelope(&mut self, event: &Emission, index: usize, now: Us) -> String {
        let salt = if self.knobs.uuid_per_subscription == 1 { index as u64 + 1 } else { 0 };
        let number =
            (u64::from(event.id) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ salt.wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let uuid = if self.knobs.uuid_form == 1 {
            number.to_string()
        } else {
            format!("{:08x}-{:04x}-4000-8000-{:012x}", number >> 32, (number >> 16) & 0xffff, event.id)
        };
        let (uri, body) = self.body(event);
        let sub = &self.subs.all[index];
        let mut whole = json!({
            "uuid": uuid, "event": self.expanded(uri), "timestamp": self.clock.stamp(now), "subscriptionId": sub.id, "ownerId": EXTENSION,
        });
        if let Some(map) = whole.as_object_mut() {
            match (event.what, body) {
                // Flat, without a body (rest §5.5.2).
                (What::MissedCall, Value::Object(fields)) => map.extend(fields),
                (_, body) => {
                    map.insert("body".into(), body);
                }
            }
        }
        whole.to_string()
    }

    fn body(&self, event: &Emission) -> (&'static str, Value) {
        let at = self.clock.stamp(event.at);
        let body = match event.what {
            What::AgentShot | What::AgentContact { .. } => Value::Null,
            What::Sms | What::Voicemail => {
                self.store.message(event.id).map(|it| it.record(&self.clock)).unwrap_or_default()
            }
            What::VoicemailRead(voicemail) => {
                self.store.message(voicemail).map(|it| it.record(&self.clock)).unwrap_or_default()
            }
            What::Stored => json!({
                "extensionId": EXTENSION.parse::<u64>().unwrap_or_default(), "lastUpdated": at,
                "changes": [{"type": "Fax", "newCount": 1, "updatedCount": 0, "newMessageIds": [600_000 + u64::from(event.id)]}],
            }),
            What::PostAdded(post) | What::PostChanged(post) => {
                let created = self.store.post(post).map_or(event.at, |it| it.created);
                let kind = if matches!(event.what, What::PostAdded(_)) { "PostAdded" } else { "PostChanged" };
                json!({
                    "id": post_id(post), "groupId": CHAT, "type": "TextMessage", "text": event.tag(), "creatorId": "555",
                    "addedPersonIds": null, "creationTime": self.clock.stamp(created), "lastModifiedTime": at, "attachments": null,
                    "activity": null, "title": null, "iconUri": null, "iconEmoji": null, "mentions": null, "eventType": kind,
                })
            }
            What::MissedCall => json!({
                "extensionId": EXTENSION, "action": "StartRing", "sessionId": call_session(event.id), "serverId": "10.1.1.1",
                "from": "+16505550100", "fromName": event.tag(), "to": "+16505550199", "toName": "Sim",
            }),
            What::Telephony { call, step, last } => {
                let code = match (step, last) {
                    (_, true) => "Disconnected",
                    (0, _) => "Setup",
                    (1, _) => "Proceeding",
                    _ => "Answered",
                };
                json!({
                    "sequence": step + 1, "sessionId": call_session(call), "telephonySessionId": telephony_session(call),
                    "serverId": "10.1.1.1", "eventTime": at, "origin": {"type": "Call"},
                    "parties": [{
                        "accountId": ACCOUNT, "extensionId": EXTENSION, "id": format!("p-{}-1", telephony_session(call)),
                        "direction": "Inbound", "from": {"phoneNumber": "+16505550100", "name": event.tag()},
                        "to": {"phoneNumber": "+16505550199"}, "status": {"code": code}, "missedCall": false,
                        "standAlone": false, "muted": false,
                    }],
                })
            }
        };
        (event.what.filter().uri(), body)
    }
}

pub(crate) fn post_id(post: u32) -> String {
    (8_000_000 + u64::from(post)).to_string()
}

pub(crate) fn call_session(call: u32) -> String {
    (9_000_000_000 + u64::from(call)).to_string()
}

pub(crate) fn telephony_session(call: u32) -> String {
    format!("s-sim{call:08}")
}
