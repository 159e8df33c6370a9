//! The service on loopback: an emulator of RingCentral's OAuth, subscriptions,
//! PubNub delivery and WebSocket gateway, for tests of clients.
//!
//! Servers on 127.0.0.1, so that each can be taken down alone: the API server
//! ([`Sandbox::base_url`]: OAuth and REST), the PubNub server
//! ([`Sandbox::pubnub_origin`]) and the gateway ([`Sandbox::gateway_url`], which
//! clients learn from `POST /restapi/oauth/wstoken`). Clients need to know nothing
//! of it: any client whose addresses can be set works against it, in any language.
//! The real service is never called.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use ringcentral_sandbox::{Fault, Fixture, Operation, Sandbox};
//!
//! let sandbox = Sandbox::builder().knobs(|knobs| knobs.rate_limits.auth = 100).start().await?;
//! // Point the program under test at these:
//! let (api, pubnub) = (sandbox.base_url(), sandbox.pubnub_origin());
//! # let _ = (api, pubnub);
//! // The first renewal meets a 503, then a text message comes in.
//! sandbox.faults().inject(Operation::Renew, Fault::status(503));
//! let uuids = sandbox.trigger(&Fixture::inbound_sms("+16505550100", "hello"));
//! assert!(uuids.is_empty(), "nobody has subscribed yet");
//! # Ok::<(), ringcentral_events::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Dropping the [`Sandbox`] ends its tasks and closes its sockets; that is safe
//! outside a runtime too. Time is real: a sandbox works on sockets, so a paused
//! tokio clock must not be used with it. [`Sandbox::advance`] moves the sandbox's
//! own clock instead, so that a 15-minute lease or a 60-second penalty ends now.
//!
//! What the references leave open is a knob: see [`Knobs`] and, for the gateway,
//! [`GatewayKnobs`].
//!
//! # The gateway
//!
//! A socket is opened with a token of its own (`?access_token=` or a `Bearer`
//! header), used once. `ConnectionDetails` comes first. REST calls over it have the
//! handlers, budgets and faults of HTTPS and stand in the request log with
//! [`Service::Gateway`]; so do heartbeats ([`Operation::SocketHeartbeat`]) and what
//! was not understood ([`Operation::OtherFrame`]). One subscription per session: a
//! second `POST` replaces the first. A session that loses its socket keeps its
//! subscription and its events for `recoveryTimeout`, for a socket that offers its
//! `wsc`. [`Sandbox::reset_connections`] and its kin part sessions from their sockets
//! at once: what is triggered after them waits for the next socket.
//!
//! A fault on a request hits the answer to it. Two more phases are targets:
//! [`Operation::ConnectionDetails`] (here `status`, `code` and `error_frame` send
//! an `Error` and close, `hang` sends nothing, `delay` sends it later) and
//! [`Operation::Notification`]. Faults on the upgrade ([`Operation::Upgrade`]) are
//! those of HTTP.
//!
//! # Engage Digital
//!
//! The sandbox is the platform that polls a source of yours too, and its Send API: see
//! [`digital`].
//!
//! # The Contact Center
//!
//! The sandbox serves agent sessions of NICE inContact / CXone too, from a server of its
//! own: see [`agent`].
//!
//! # What is missed
//!
//! Whatever a fixture tells is in the account as well, whether or not anybody was
//! told: [`stored_messages`](Sandbox::stored_messages), message-sync, the call log,
//! the posts of a chat, and so on. So a test can lose events and have its program
//! find them: see [`AccountKnobs`] for how those resources behave.
//!
//! # Over HTTP
//!
//! The same for programs in other languages, on the API server. Bodies are JSON;
//! what has nothing to tell is answered 204, a mistake 400 or 404 with `error`.
//! These calls are neither recorded nor hit by faults, and refused to browsers.
//!
//! | Call | Body or answer |
//! | --- | --- |
//! | `GET /_sandbox/state` | gauges, `caught_up`, subscriptions with channel and keys, sent messages |
//! | `GET /_sandbox/requests?after=7&target=renew` | requests, newest last; both parameters optional; targets as for faults |
//! | `DELETE /_sandbox/requests` | forgets them |
//! | `GET`, `PATCH /_sandbox/knobs` | [`Knobs`] by name, durations in ms: `{"hold":200,"rate_limits":{"auth":99}}` |
//! | `POST /_sandbox/trigger` | a [`Fixture`]: `{"fixture":"inbound_sms","text":"hi","count":3}`, or `{"event":"/restapi/…","body":{…}}`; answers `uuids` |
//! | `POST /_sandbox/publish` | `subscription` and one of `data` (text of `d`), `envelope` (text of the envelope), `encrypt` (plain text, with `key` or the subscription's) |
//! | `POST /_sandbox/faults` | `{"target":…,"fault":{"kind":…}}`, below; answers `id` |
//! | `GET`, `DELETE /_sandbox/faults/{id}`, `DELETE /_sandbox/faults` | hits; clears one, clears all |
//! | `POST /_sandbox/frames` | `{"text":"[…]","subscription":…}` sends a text frame as it is, without `subscription` on every socket; answers `sockets` |
//! | `POST /_sandbox/deliveries` | `{"kind":"duplicate"}`, `swap`, `lose` or `delay` with `ms`; `count` |
//! | `POST /_sandbox/subscriptions/{id}/expire`, `…/forget` | |
//! | `POST /_sandbox/subscriptions/{id}/rotate` | `{"what":{"key":true,"address":true,"subscriber_key":true},"on_renew":false}` |
//! | `POST /_sandbox/subscriptions/{id}/status` | `{"status":"Suspended"}` |
//! | `POST /_sandbox/tokens/expire`, `…/tokens/revoke` | |
//! | `POST /_sandbox/advance` | `{"ms":900000}` moves the clock |
//! | `POST /_sandbox/servers/pubnub`, `…/gateway`, `…/contact_center`, `…/api` | `{"down_ms":30000}` takes it down for a time, `{}` brings it up |
//! | `POST /_sandbox/connections/pubnub`, `…/gateway`, `…/contact_center` | `{"action":"reset"}`, `close`, `finish` or `black_hole` |
//!
//! A target is `"any"`, `"api"`, `"pubnub"`, `"gateway"`, `"contact_center"`, `"oauth"`,
//! `"subscriptions"`, `"subscribe"`, `{"operation":"renew"}` (an [`Operation`] in snake case),
//! `{"path":"/prefix"}` or `{"method_path":["POST","/prefix"]}`. A fault has a
//! `kind`: `status` (with `status`, and `headers` as pairs, `body`), `code` (with
//! `status`, `code`, and `parameter`, `headers`), `cut_json`, `close`,
//! `reset_mid_body`, `hang`, `black_hole`, `drip` (with `every_ms`, and `chunk`),
//! `delay` (with `ms`), `reset`, and for sockets `close_code` (with `code`, and `reason`),
//! `error_frame` (with `code`, and `status`), `twice`, `garbage` (with `text`),
//! `binary`, `padded` (with `bytes`), `boundary`, and `amend`, which changes the answer that
//! there is (with `headers` and `fields` to set, `without_headers`, `without_fields`,
//! `byte_order_mark`, `gzip`, `chunked`); and may have `times` (1; null for ever), `after` (0) and
//! `after_effect` (false).

mod account;
pub mod agent;
mod amend;
mod budget;
mod builder;
mod cipher;
mod control;
mod delivery;
pub mod digital;
mod fault;
mod faults;
mod filters;
mod fixtures;
mod gateway;
mod happen;
mod http;
mod knobs;
mod link;
mod messages;
mod oauth;
mod pubnub;
mod requests;
mod rest;
mod schedule;
mod server;
mod state;
mod subscribe;
mod subscriptions;
mod view;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use self::account::{AccountKnobs, OldCallLog, StaleToken};
pub use self::builder::SandboxBuilder;
pub use self::fault::Fault;
pub use self::faults::{FaultId, Target};
pub use self::fixtures::Fixture;
pub use self::gateway::{AuthRefusal, Excess, GatewayKnobs, LiveRecovery, TokenExpiry, WscRotation};
pub use self::knobs::{Encryption, Knobs, Overflow, RateLimits, Refusal, Rotation, TimeFormat};
pub use self::messages::{SentKind, SentMessage};
pub use self::requests::{Operation, Recorded, Service};
pub use self::view::{Faults, Gauges, SubscriptionView, Transport};

use self::delivery::Happening;
use self::filters::EventUri;
use self::state::{Cut, Identity, Shared};
use ringcentral_events::Secret;
use ringcentral_events::SubscriptionId;
use ringcentral_events::{Error, ErrorKind, Result};

/// A running emulator. See the [module](self).
///
/// ```no_run
/// use std::time::Duration;
/// use ringcentral_sandbox::{Fault, Fixture, Operation, Sandbox, Service};
///
/// # async fn start_the_bot(_api: &str, _pubnub: &str) {}
/// # async fn test() -> ringcentral_events::Result<()> {
/// let sandbox = Sandbox::builder().knobs(|knobs| knobs.hold = Duration::from_millis(500)).start().await?;
/// let minute = Duration::from_secs(60);
/// start_the_bot(sandbox.base_url(), sandbox.pubnub_origin()).await;
/// assert!(sandbox.wait_open_polls(1, minute).await, "it listens");
///
/// // A message while PubNub is down is there when it is back.
/// sandbox.take_down(Service::PubNub).await;
/// sandbox.trigger(&Fixture::inbound_sms("+16505550100", "ping"));
/// sandbox.bring_up(Service::PubNub).await;
/// assert!(sandbox.wait_sent_messages(1, minute).await, "it answered");
/// assert_eq!(sandbox.sent_messages()[0].text, "pong");
///
/// // A lease that the server forgets is made anew.
/// sandbox.forget(&sandbox.subscriptions()[0].id);
/// sandbox.faults().inject(Operation::Create, Fault::status(503).header("Retry-After", "1"));
/// assert!(sandbox.wait_requests(Operation::Create, 3, minute).await);
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping a sandbox stops it"]
pub struct Sandbox {
    shared: Arc<Shared>,
    running: Running,
    identity: Identity,
    base_url: String,
    pubnub_origin: String,
    gateway_url: String,
}

/// The tasks; dropping it aborts them, and what they own goes with them.
struct Running(Vec<JoinHandle<()>>);

impl Drop for Running {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox")
            .field("base_url", &self.base_url)
            .field("pubnub_origin", &self.pubnub_origin)
            .finish_non_exhaustive()
    }
}

impl Sandbox {
    /// Starts a sandbox with the defaults, on free ports.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Prepares a sandbox.
    pub fn builder() -> SandboxBuilder {
        SandboxBuilder::default()
    }

    /// Stops and waits until its tasks and sockets are gone.
    pub async fn stop(mut self) {
        self.take_down(Service::Api).await;
        self.take_down(Service::PubNub).await;
        self.take_down(Service::Gateway).await;
        self.take_down(Service::ContactCenter).await;
        for task in std::mem::take(&mut self.running.0) {
            task.abort();
            // Aborted, so the result says no more than that.
            let _ = task.await;
        }
    }

    /// Where OAuth and REST are: `http://127.0.0.1:port`, no slash at the end.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Where PubNub is: `http://127.0.0.1:port`, no slash at the end.
    #[must_use]
    pub fn pubnub_origin(&self) -> &str {
        &self.pubnub_origin
    }

    /// Where the WebSocket gateway is: `ws://127.0.0.1:port/ws`; wstoken tells it
    /// to clients.
    #[must_use]
    pub fn gateway_url(&self) -> &str {
        &self.gateway_url
    }

    /// The confidential app's client id.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.identity.client_id
    }

    /// The confidential app's client secret.
    #[must_use]
    pub fn client_secret(&self) -> Secret {
        Secret::new(&*self.identity.client_secret)
    }

    /// The client id of the public app, which logs in by authorization code and
    /// PKCE, without a secret.
    #[must_use]
    pub fn public_client_id(&self) -> &str {
        &self.identity.public_client_id
    }

    /// The user's JWT.
    #[must_use]
    pub fn jwt(&self) -> Secret {
        Secret::new(&*self.identity.jwt)
    }

    /// User name and password for the legacy password grant.
    #[must_use]
    pub fn password_login(&self) -> (&str, Secret) {
        (&self.identity.username, Secret::new(&*self.identity.password))
    }

    /// The account's id.
    #[must_use]
    pub fn account_id(&self) -> &str {
        &self.identity.account_id
    }

    /// The user's extension id; also the token's `owner_id`.
    #[must_use]
    pub fn extension_id(&self) -> &str {
        &self.identity.extension_id
    }

    /// The user's phone number, the only one that SMS can be sent from.
    #[must_use]
    pub fn phone_number(&self) -> &str {
        &self.identity.phone_number
    }

    /// The chat that exists from the start.
    #[must_use]
    pub fn chat_id(&self) -> &str {
        account::team::CHAT
    }

    /// Changes how the sandbox behaves, from the next request on. `change` must
    /// not call the sandbox: it is locked meanwhile.
    pub fn knobs(&self, change: impl FnOnce(&mut Knobs)) {
        self.shared.update(|state| {
            change(&mut state.knobs);
            // A time may be due by that.
            state.schedule.poke();
        });
    }

    /// Moves the sandbox's clock forward: tokens, subscriptions, penalties and
    /// the age of messages see the time pass at once.
    pub fn advance(&self, by: Duration) {
        self.shared.update(|state| state.advance(by));
    }

    /// Triggers `fixture`: every live subscription with a filter it meets is sent
    /// a notification. Returns their uuids in the order of publishing; empty when
    /// nobody has subscribed to it.
    pub fn trigger(&self, fixture: &Fixture) -> Vec<String> {
        self.trigger_all(std::slice::from_ref(fixture))
    }

    /// Triggers all of `fixtures` at once: a waiting poll gets them in one answer.
    pub fn trigger_all(&self, fixtures: &[Fixture]) -> Vec<String> {
        self.shared.update(|state| {
            let mut uuids = Vec::new();
            for fixture in fixtures {
                for happening in fixture.happen(state) {
                    uuids.extend(state.deliver(&happening));
                }
            }
            uuids
        })
    }

    /// Triggers an event of your own: `event_uri` (with `~` or ids) and the JSON
    /// text of its body, which is passed on byte for byte.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when `body` is no JSON.
    pub fn trigger_json(&self, event_uri: &str, body: &str) -> Result<Vec<String>> {
        self.trigger_json_all(event_uri, &[body])
    }

    /// [`trigger_json`](Self::trigger_json) for several bodies at once: a waiting
    /// poll gets them in one answer.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when one of `bodies` is no JSON; nothing is sent then.
    pub fn trigger_json_all<B: AsRef<str>>(&self, event_uri: &str, bodies: &[B]) -> Result<Vec<String>> {
        for body in bodies {
            serde_json::from_str::<&serde_json::value::RawValue>(body.as_ref()).map_err(|error| {
                Error::new(ErrorKind::Config, "the body of an event must be JSON").with_source(error)
            })?;
        }
        let uri = EventUri::parse(event_uri, &self.identity.account_id, &self.identity.extension_id);
        Ok(self.shared.update(|state| {
            let mut uuids = Vec::new();
            for body in bodies {
                let bodies = vec![body.as_ref().to_owned()];
                uuids.extend(state.deliver(&Happening { uri: uri.clone(), bodies }));
            }
            uuids
        }))
    }

    /// Publishes on a subscription's channel, as the value of `d`, a JSON text as
    /// it is: garbage, a plain object, JSON in a string. Text that is no JSON
    /// breaks the whole answer it is part of.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such subscription.
    pub fn publish_raw(&self, subscription: &SubscriptionId, data: &str) -> Result<()> {
        self.publish(subscription, pubnub::Payload::Data(data.to_owned()))
    }

    /// As [`publish_raw`](Self::publish_raw), but the text stands for the whole
    /// envelope in `m`: without `c`, without `d`, or no object at all.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such subscription.
    pub fn publish_envelope(&self, subscription: &SubscriptionId, envelope: &str) -> Result<()> {
        self.publish(subscription, pubnub::Payload::Envelope(envelope.to_owned()))
    }

    fn publish(&self, subscription: &SubscriptionId, payload: pubnub::Payload) -> Result<()> {
        let published = self.shared.update(|state| {
            let channel = subscriptions::find(state, subscription.as_str()).ok()?.channel.clone();
            state.publish_payload(&channel, payload);
            Some(())
        });
        published.ok_or_else(no_subscription)
    }

    /// Sends a text frame as it is over the socket of a subscription, or over every
    /// open socket: garbage, a frame of a kind of your own. Returns to how many.
    pub fn send_frame(&self, subscription: Option<&SubscriptionId>, text: &str) -> usize {
        self.shared.update(|state| gateway::send_raw(state, subscription.map(SubscriptionId::as_str), text))
    }

    /// The live subscriptions, oldest first.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<SubscriptionView> {
        let state = &mut *self.shared.lock();
        let now = state.moment().now;
        state.subscriptions.alive(now).iter().map(|held| SubscriptionView::new(held, &state.gateway, now)).collect()
    }

    /// Lets a subscription expire now: publishing stops, and every call on it is
    /// answered 404 `CMN-102`. False when there is none of this id.
    pub fn expire(&self, id: &SubscriptionId) -> bool {
        self.shared.update(|state| subscriptions::delete(state, id.as_str()).is_ok())
    }

    /// Forgets a subscription now, as when its session ends at the service: every
    /// call on it is answered 404 `SUB-507`. False when there is none of this id.
    pub fn forget(&self, id: &SubscriptionId) -> bool {
        self.shared.update(|state| subscriptions::forget(state, id.as_str()))
    }

    /// Changes channel or keys of a subscription now; the client learns of it
    /// with its next renewal. False when there is none of this id.
    pub fn rotate(&self, id: &SubscriptionId, rotation: Rotation) -> bool {
        self.shared.update(|state| subscriptions::rotate(state, id.as_str(), rotation))
    }

    /// Changes channel or keys of a subscription with its next renewal or update.
    /// False when there is none of this id.
    pub fn rotate_on_renew(&self, id: &SubscriptionId, rotation: Rotation) -> bool {
        self.shared.update(|state| subscriptions::find(state, id.as_str()).map(|held| held.pending = rotation).is_ok())
    }

    /// Sets a subscription's `status`. Anything but `Active` stops publishing.
    /// False when there is none of this id.
    pub fn set_status(&self, id: &SubscriptionId, status: &str) -> bool {
        self.shared
            .update(|state| subscriptions::find(state, id.as_str()).map(|held| held.status = status.into()).is_ok())
    }

    /// Lets every access token expire now (401 `OAU-128`).
    pub fn expire_access_tokens(&self) {
        self.shared.update(|state| {
            let now = state.moment().now;
            state.oauth.expire_access(now);
            state.schedule.poke();
        });
    }

    /// Ends every login: access and refresh tokens are unknown from now on.
    pub fn revoke_sessions(&self) {
        self.shared.update(|state| {
            state.oauth.revoke_all();
            state.schedule.poke();
        });
    }

    /// Faults to script.
    #[must_use]
    pub fn faults(&self) -> Faults<'_> {
        Faults { shared: &self.shared }
    }

    /// Takes a server down: open connections break, new ones are refused, the
    /// port stays taken. What happens meanwhile queues up. Returns once it is down.
    pub async fn take_down(&self, service: Service) {
        self.set_power(service, false).await;
    }

    /// As [`take_down`](Self::take_down), and up again by itself after `time` of
    /// the sandbox's clock.
    pub async fn take_down_for(&self, service: Service, time: Duration) {
        self.take_down(service).await;
        self.shared.update(|state| {
            let at = state::later(state.moment().now, time);
            state.schedule.add(at, schedule::Due::Up(service));
        });
    }

    /// Brings a server back on its port. Returns once it listens.
    pub async fn bring_up(&self, service: Service) {
        self.set_power(service, true).await;
    }

    async fn set_power(&self, service: Service, up: bool) {
        self.shared.update(|state| state.server(service).want(up));
        let deadline = Instant::now() + Duration::from_secs(10);
        let reached = self.shared.wait_until(deadline, |state| (state.server(service).listening == up).then_some(()));
        if reached.await.is_none() {
            tracing::error!(?service, up, "the sandbox's server did not follow within ten seconds");
        }
    }

    /// Resets every open connection of a server (RST); new ones are welcome.
    pub fn reset_connections(&self, service: Service) {
        self.shared.update(|state| state.cut(service, Cut::Reset));
    }

    /// Closes every open connection of a server in order (FIN); new ones are welcome.
    pub fn close_connections(&self, service: Service) {
        self.shared.update(|state| state.cut(service, Cut::Close));
    }

    /// Ends every open connection of a server after the answers that are under way: by
    /// `Connection: close`, over HTTP/2 by GOAWAY, at the gateway at once. New ones are
    /// welcome.
    pub fn finish_connections(&self, service: Service) {
        self.shared.update(|state| state.cut(service, Cut::Finish));
    }

    /// Turns every open connection of a server into a black hole: it stays open,
    /// and nothing is read from it or sent on it any more. New ones are welcome.
    /// Polls on them count as open no more.
    pub fn black_hole_connections(&self, service: Service) {
        self.shared.update(|state| state.cut(service, Cut::BlackHole));
    }

    /// The newest requests in the order they were read; how many are kept is set
    /// by [`SandboxBuilder::request_log`].
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.lock().log.records().cloned().collect()
    }

    /// The kept requests that `target` names.
    #[must_use]
    pub fn requests_to(&self, target: impl Into<Target>) -> Vec<Recorded> {
        let target = target.into();
        let state = self.shared.lock();
        state.log.records().filter(|record| faults::hits_record(&target, record)).cloned().collect()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.shared.update(|state| state.log.clear());
    }

    /// What was sent by SMS, pager and posts, oldest first; the newest 10 000.
    #[must_use]
    pub fn sent_messages(&self) -> Vec<SentMessage> {
        self.shared.lock().messages.sent.iter().cloned().collect()
    }

    /// The messages of the account, of all extensions, oldest first, as the API
    /// writes them; deleted ones with their `availability`.
    #[must_use]
    pub fn stored_messages(&self) -> Vec<serde_json::Value> {
        self.shared.lock().account.messages.records()
    }

    /// The posts of all chats, oldest first, as the API writes them.
    #[must_use]
    pub fn stored_posts(&self) -> Vec<serde_json::Value> {
        self.shared.lock().posts()
    }

    /// Counts of connections, polls and requests.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        Gauges::read(&mut self.shared.lock())
    }

    /// How many polls are open on a subscription's channel: 1 while a client
    /// listens, and never more but for the moment of a reconnect.
    #[must_use]
    pub fn open_polls_on(&self, id: &SubscriptionId) -> usize {
        let state = &mut *self.shared.lock();
        let Ok(channel) = subscriptions::find(state, id.as_str()).map(|held| held.channel.clone()) else { return 0 };
        state.pubnub.open_on(&channel)
    }

    /// Waits for a request, past or to come, that `wanted` accepts; asked again
    /// when a request was answered. `None` after `timeout`. `wanted` must not
    /// call the sandbox: it is locked meanwhile.
    pub async fn wait_for(&self, mut wanted: impl FnMut(&Recorded) -> bool, timeout: Duration) -> Option<Recorded> {
        let deadline = state::later(Instant::now(), timeout);
        self.shared.wait_until(deadline, |state| state.log.records().find(|record| wanted(record)).cloned()).await
    }

    /// Waits until `count` or more requests that `target` names were read.
    /// False after `timeout`.
    pub async fn wait_requests(&self, target: impl Into<Target>, count: usize, timeout: Duration) -> bool {
        let target = target.into();
        self.wait(timeout, |state| {
            state.log.records().filter(|record| faults::hits_record(&target, record)).count() >= count
        })
        .await
    }

    /// Waits until exactly `count` subscriptions live. False after `timeout`.
    pub async fn wait_subscriptions(&self, count: usize, timeout: Duration) -> bool {
        self.wait(timeout, |state| {
            let now = state.moment().now;
            state.subscriptions.alive(now).len() == count
        })
        .await
    }

    /// Waits until exactly `count` polls are open. False after `timeout`.
    pub async fn wait_open_polls(&self, count: usize, timeout: Duration) -> bool {
        self.wait(timeout, |state| state.pubnub.counts(state.clock.read().now).open == count).await
    }

    /// Waits until exactly `count` sockets are open at the gateway. False after
    /// `timeout`.
    pub async fn wait_open_sockets(&self, count: usize, timeout: Duration) -> bool {
        self.wait(timeout, |state| state.gateway.counts().0 == count).await
    }

    /// Waits until every live channel was polled beyond its last message: all
    /// that was published has arrived. False after `timeout`.
    pub async fn wait_caught_up(&self, timeout: Duration) -> bool {
        self.wait(timeout, |state| {
            let subscriptions = &state.subscriptions;
            state.pubnub.is_caught_up(|channel| subscriptions.has_channel(channel))
        })
        .await
    }

    /// Waits until `count` or more messages were sent by bots. False after `timeout`.
    pub async fn wait_sent_messages(&self, count: usize, timeout: Duration) -> bool {
        self.wait(timeout, |state| state.messages.sent.len() >= count).await
    }

    async fn wait(&self, timeout: Duration, mut reached: impl FnMut(&mut state::State) -> bool) -> bool {
        let deadline = state::later(Instant::now(), timeout);
        self.shared.wait_until(deadline, |state| reached(state).then_some(())).await.is_some()
    }
}

/// What the service makes of `plain` with a base64 key of 16 bytes: the base64 of
/// AES-128-ECB with PKCS#7 padding. `None` for any other key.
#[must_use]
pub fn encrypt(key: &Secret, plain: &[u8]) -> Option<String> {
    Some(cipher::encrypt(&cipher::key_from_base64(key.expose())?, plain))
}

/// As [`encrypt`], without padding: bytes past the last whole block are left out.
/// For payloads whose padding is wrong.
#[must_use]
pub fn encrypt_unpadded(key: &Secret, blocks: &[u8]) -> Option<String> {
    Some(cipher::encrypt_unpadded(&cipher::key_from_base64(key.expose())?, blocks))
}

fn no_subscription() -> Error {
    Error::new(ErrorKind::NotFound, "the sandbox has no live subscription of this id")
}
