//! The service on loopback: an emulator of RingCentral's OAuth, subscriptions, PubNub delivery and
//! WebSocket gateway, for tests of clients.
//!
//! It runs separate servers on 127.0.0.1, so that each can be stopped alone: the API server
//! ([`Sandbox::base_url`]: OAuth and REST), the PubNub server ([`Sandbox::pubnub_origin`]) and the
//! gateway ([`Sandbox::gateway_url`], which clients get from `POST /restapi/oauth/wstoken`). Any
//! client with configurable addresses works against it, in any language, without changes. It never
//! calls the real service.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use ringcentral_sandbox::{Fault, Fixture, Operation, Sandbox};
//!
//! let sandbox = Sandbox::builder().behavior(|behavior| behavior.rate_limits.auth = 100).start().await?;
//! // A client that is logged in. Any other program can log in at `base_url()`.
//! let client = sandbox.client()?;
//! assert_eq!(client.me().await?.id, sandbox.extension_id());
//! // The first renewal meets a 503, then a text message comes in.
//! sandbox.faults().inject(Operation::Renew, Fault::status(503));
//! let uuids = sandbox.trigger(&Fixture::inbound_sms("+16505550100", "hello"));
//! assert!(uuids.is_empty(), "there is no subscription yet");
//! # Ok::<(), ringcentral_events::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Dropping the [`Sandbox`] ends its tasks and closes its sockets, also outside a runtime. A
//! sandbox uses real sockets and real time, so it does not work with a paused tokio clock.
//! [`Sandbox::advance`] moves the sandbox's clock instead, so that a 15-minute lease or a 60-second
//! penalty ends now.
//!
//! Undocumented behavior is a setting: see [`Behavior`] and, for the gateway, [`GatewayBehavior`].
//!
//! # The gateway
//!
//! A socket is opened with a single-use token (`?access_token=` or a `Bearer` header).
//! `ConnectionDetails` is the first frame. REST calls over it use the handlers, budgets and faults
//! of HTTPS and are recorded with [`Service::Gateway`]; so are heartbeats
//! ([`Operation::SocketHeartbeat`]) and unknown frames ([`Operation::OtherFrame`]). A session has
//! one subscription: a second `POST` replaces the first. After losing its socket, a session retains
//! its subscription and its events for `recoveryTimeout`, until another socket presents its `wsc`.
//! [`Sandbox::reset_connections`] and similar calls detach sessions from their sockets at once:
//! later events wait for the next socket.
//!
//! A fault on a request affects its response. Two more phases are targets:
//! [`Operation::ConnectionDetails`] (here `status`, `code` and `error_frame` send an `Error` and
//! close, `hang` sends nothing, `delay` sends it later) and [`Operation::Notification`]. Faults on
//! the upgrade ([`Operation::Upgrade`]) are those of HTTP.
//!
//! # Engage Digital
//!
//! The sandbox is also the platform that polls a Digital source, with its Send API: see
//! [`digital`].
//!
//! # The Contact Center
//!
//! The sandbox also serves agent sessions of NICE inContact / CXone, from a separate server: see
//! [`agent`].
//!
//! # Missed events
//!
//! Every fixture also changes the account, whether or not a subscriber received the event:
//! [`stored_messages`](Sandbox::stored_messages), message-sync, the call log, the posts of a chat,
//! and so on. So a test can lose events and let its program recover them: see [`AccountBehavior`] for
//! the behavior of these resources.
//!
//! # Over HTTP
//!
//! The API server offers the same to programs in other languages. Bodies are JSON; calls without a
//! result answer 204, mistakes 400 or 404 with `error`. These calls are not recorded, faults do not
//! apply to them, and browsers are refused.
//!
//! | Call | Body or answer |
//! | --- | --- |
//! | `GET /_sandbox/state` | gauges, `caught_up`, subscriptions with channel and keys, sent messages |
//! | `GET /_sandbox/requests?after=7&target=renew` | requests, newest last; both parameters optional; targets as for faults |
//! | `DELETE /_sandbox/requests` | clears them |
//! | `GET`, `PATCH /_sandbox/behavior` | [`Behavior`] by name, durations in ms: `{"hold":200,"rate_limits":{"auth":99}}` |
//! | `POST /_sandbox/trigger` | a [`Fixture`]: `{"fixture":"inbound_sms","text":"hi","count":3}`, or `{"event":"/restapi/…","body":{…}}`; answers `uuids` |
//! | `POST /_sandbox/publish` | `subscription` and one of `data` (text of `d`), `envelope` (text of the envelope), `encrypt` (plain text, with `key` or the subscription's) |
//! | `POST /_sandbox/faults` | `{"target":…,"fault":{"kind":…}}`, below; answers `id` |
//! | `GET`, `DELETE /_sandbox/faults/{id}`, `DELETE /_sandbox/faults` | hits; clears one, clears all |
//! | `POST /_sandbox/stubs` | `{"method":"GET","path":"/restapi/…/{id}","status":200,"body":{…}}` answers such calls |
//! | `POST /_sandbox/frames` | `{"text":"[…]","subscription":…}` sends a raw text frame, without `subscription` on every socket; answers `sockets` |
//! | `POST /_sandbox/deliveries` | `{"kind":"duplicate"}`, `swap`, `lose` or `delay` with `ms`; `count` |
//! | `POST /_sandbox/subscriptions/{id}/expire`, `…/forget` | |
//! | `POST /_sandbox/subscriptions/{id}/rotate` | `{"what":{"key":true,"address":true,"subscriber_key":true},"on_renew":false}` |
//! | `POST /_sandbox/subscriptions/{id}/status` | `{"status":"Suspended"}` |
//! | `POST /_sandbox/tokens/expire`, `…/tokens/revoke` | |
//! | `POST /_sandbox/advance` | `{"ms":900000}` moves the clock |
//! | `POST /_sandbox/servers/pubnub`, `…/gateway`, `…/contact_center`, `…/api` | `{"down_ms":30000}` stops it for a time, `{}` starts it |
//! | `POST /_sandbox/connections/pubnub`, `…/gateway`, `…/contact_center` | `{"action":"reset"}`, `close`, `finish` or `blackhole` |
//!
//! A target is `"any"`, `"api"`, `"pubnub"`, `"gateway"`, `"contact_center"`, `"oauth"`,
//! `"subscriptions"`, `"subscribe"`, `{"operation":"renew"}` (an [`Operation`] in snake case),
//! `{"path":"/prefix"}` or `{"method_path":["POST","/prefix"]}`. A fault has a `kind`: `status`
//! (with `status`, and `headers` as pairs, `body`), `code` (with `status`, `code`, and `parameter`,
//! `headers`), `cut_json`, `close`, `reset_mid_body`, `hang`, `blackhole`, `drip` (with
//! `every_ms`, and `chunk`), `delay` (with `ms`), `reset`, and for sockets `close_code` (with
//! `code`, and `reason`), `error_frame` (with `code`, and `status`), `twice`, `garbage` (with
//! `text`), `binary`, `padded` (with `bytes`), `boundary`, and `amend`, which changes the regular
//! response (with `headers` and `fields` to set, `without_headers`, `without_fields`,
//! `byte_order_mark`, `gzip`, `chunked`); and may have `times` (1; null for unlimited), `after` (0)
//! and `after_effect` (false).

mod account;
pub mod agent;
mod amend;
mod behavior;
mod budget;
mod builder;
mod center;
mod checks;
mod cipher;
mod clock;
mod context;
mod control;
mod crawler;
pub mod digital;
mod fault;
mod faults;
mod filters;
mod fixtures;
mod gateway;
mod http;
mod link;
mod oauth;
mod pubnub;
mod random;
mod requests;
mod rest;
mod schedule;
mod server;
mod servers;
mod shared;
mod socket;
mod state;
mod stubs;
mod subscribe;
mod subscriptions;
mod view;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::http::StatusCode;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use self::account::{SentKind, SentMessage};
pub use self::behavior::{
    AccountBehavior, AuthRefusal, Behavior, Encryption, Excess, GatewayBehavior, LiveRecovery, OldCallLog, Overflow,
    RateLimits, Refusal, Rotation, StaleToken, TimeFormat, TokenExpiry, WscRotation,
};
pub use self::builder::SandboxBuilder;
pub use self::fault::Fault;
pub use self::faults::{FaultId, Target};
pub use self::fixtures::Fixture;
pub use self::requests::{Operation, Recorded, Service};
pub use self::subscriptions::Transport;
pub use self::view::{Faults, Gauges, SubscriptionView};

use self::clock::later;
use self::context::Identity;
use self::filters::{DomainEvent, EventUri};
use self::servers::Cut;
use self::shared::Shared;
use self::state::{Due, State};
use ringcentral_events::Secret;
use ringcentral_events::{Client, OAuth, SubscriptionId};
use ringcentral_events::{Error, ErrorKind, Result};

/// A running emulator. See the [module](self).
///
/// ```no_run
/// use std::time::Duration;
/// use ringcentral_sandbox::{Fault, Fixture, Operation, Sandbox, Service};
///
/// # async fn start_the_bot(_api: &str, _pubnub: &str) {}
/// # async fn test() -> ringcentral_events::Result<()> {
/// let sandbox = Sandbox::builder().behavior(|behavior| behavior.hold = Duration::from_millis(500)).start().await?;
/// let minute = Duration::from_secs(60);
/// start_the_bot(sandbox.base_url(), sandbox.pubnub_origin()).await;
/// assert!(sandbox.wait_open_polls(1, minute).await, "it listens");
///
/// // A message while PubNub is down is there when it is back.
/// sandbox.stop_service(Service::PubNub).await;
/// sandbox.trigger(&Fixture::inbound_sms("+16505550100", "ping"));
/// sandbox.start_service(Service::PubNub).await;
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

/// The tasks; dropping it aborts them and drops their resources.
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
    /// If no port is available.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Prepares a sandbox.
    pub fn builder() -> SandboxBuilder {
        SandboxBuilder::default()
    }

    /// Stops, and waits until its tasks and sockets are gone.
    pub async fn stop(mut self) {
        self.stop_service(Service::Api).await;
        self.stop_service(Service::PubNub).await;
        self.stop_service(Service::Gateway).await;
        self.stop_service(Service::ContactCenter).await;
        for task in std::mem::take(&mut self.running.0) {
            task.abort();
            let _ = task.await;
        }
    }

    /// The base URL of OAuth and REST: `http://127.0.0.1:port`, without a trailing slash.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// The base URL of PubNub: `http://127.0.0.1:port`, without a trailing slash.
    #[must_use]
    pub fn pubnub_origin(&self) -> &str {
        &self.pubnub_origin
    }

    /// The URL of the WebSocket gateway: `ws://127.0.0.1:port/ws`; clients get it from wstoken.
    #[must_use]
    pub fn gateway_url(&self) -> &str {
        &self.gateway_url
    }

    /// A client that is logged in to this sandbox as its user, with the defaults. It logs in with its
    /// first call; each call of `client` is another login.
    ///
    /// Events come over a WebSocket. For PubNub, set the origin:
    /// `PubNub::builder().origin(sandbox.pubnub_origin())`.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn client(&self) -> Result<Client> {
        let oauth = OAuth::jwt(self.client_id(), self.jwt()).client_secret(self.client_secret());
        Client::builder(oauth.server(self.base_url()).build()?).build()
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

    /// The user's phone number, the only valid sender of SMS.
    #[must_use]
    pub fn phone_number(&self) -> &str {
        &self.identity.phone_number
    }

    /// The chat that exists from the start.
    #[must_use]
    pub fn chat_id(&self) -> &str {
        account::team::CHAT
    }

    /// Changes the sandbox's behavior from the next request on. `change` must not call the sandbox,
    /// which is locked meanwhile.
    pub fn behavior(&self, change: impl FnOnce(&mut Behavior)) {
        self.shared.update(|state| {
            change(&mut state.ctx.behavior);
            // The change may make a deadline due.
            state.ctx.poke();
        });
    }

    /// Moves the sandbox's clock forward: tokens, subscriptions, penalties and the age of messages
    /// advance at once.
    pub fn advance(&self, by: Duration) {
        self.shared.update(|state| state.advance(by));
    }

    /// Triggers `fixture`: sends a notification to every live subscription with a matching filter.
    /// Returns the uuids in the order of publishing; empty without a matching subscription.
    pub fn trigger(&self, fixture: &Fixture) -> Vec<String> {
        self.trigger_all(std::slice::from_ref(fixture))
    }

    /// Triggers all of `fixtures` at once: a waiting poll gets them in one answer.
    pub fn trigger_all(&self, fixtures: &[Fixture]) -> Vec<String> {
        self.shared.update(|state| {
            let mut uuids = Vec::new();
            for fixture in fixtures {
                uuids.extend(state.trigger(fixture));
            }
            uuids
        })
    }

    /// Triggers a custom event: `event_uri` (with `~` or ids) and the JSON text of its body, which
    /// is passed on byte for byte.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if `body` is not JSON.
    pub fn trigger_json(&self, event_uri: &str, body: &str) -> Result<Vec<String>> {
        self.trigger_json_all(event_uri, &[body])
    }

    /// [`trigger_json`](Self::trigger_json) for several bodies at once: a waiting
    /// poll gets them in one answer.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if one of `bodies` is not JSON; nothing is sent then.
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
                uuids.extend(state.deliver(&DomainEvent { uri: uri.clone(), bodies }));
            }
            uuids
        }))
    }

    /// Publishes a raw JSON text as the value of `d` on a subscription's channel: garbage, a plain
    /// object, JSON in a string. Text that is not JSON breaks the whole answer that contains it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such subscription.
    pub fn publish_raw(&self, subscription: &SubscriptionId, data: &str) -> Result<()> {
        self.publish(subscription, pubnub::Payload::Data(data.to_owned()))
    }

    /// Like [`publish_raw`](Self::publish_raw), but the text is the whole envelope in `m`: without
    /// `c`, without `d`, or not an object at all.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such subscription.
    pub fn publish_envelope(&self, subscription: &SubscriptionId, envelope: &str) -> Result<()> {
        self.publish(subscription, pubnub::Payload::Envelope(envelope.to_owned()))
    }

    fn publish(&self, subscription: &SubscriptionId, payload: pubnub::Payload) -> Result<()> {
        let published = self.shared.update(|state| {
            let channel =
                subscriptions::find(&mut state.subscriptions, &state.ctx, subscription.as_str()).ok()?.channel.clone();
            state.publish_payload(&channel, payload);
            Some(())
        });
        published.ok_or_else(no_subscription)
    }

    /// Sends a raw text frame over the socket of a subscription, or over every open socket:
    /// garbage, or a frame of an unknown kind. Returns the number of sockets.
    pub fn send_frame(&self, subscription: Option<&SubscriptionId>, text: &str) -> usize {
        self.shared
            .update(|state| gateway::send_raw(&mut state.gateway, subscription.map(SubscriptionId::as_str), text))
    }

    /// The live subscriptions, oldest first.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<SubscriptionView> {
        let state = &mut *self.shared.lock();
        let now = state.ctx.moment().now;
        state.subscriptions.alive(now).iter().map(|held| SubscriptionView::new(held, &state.gateway, now)).collect()
    }

    /// Expires a subscription now: publishing stops, and every call on it gets 404 `CMN-102`. False
    /// if the id is unknown.
    pub fn expire(&self, id: &SubscriptionId) -> bool {
        self.shared.update(|state| subscriptions::delete(&mut state.subscriptions, &state.ctx, id.as_str()).is_ok())
    }

    /// Removes a subscription now, as if its session had ended at the service: every call on it
    /// gets 404 `SUB-507`. False if the id is unknown.
    pub fn forget(&self, id: &SubscriptionId) -> bool {
        self.shared.update(|state| subscriptions::forget(&mut state.subscriptions, &state.ctx, id.as_str()))
    }

    /// Changes the channel or keys of a subscription now; the client learns it from its next
    /// renewal. False if the id is unknown.
    pub fn rotate(&self, id: &SubscriptionId, rotation: Rotation) -> bool {
        self.shared
            .update(|state| subscriptions::rotate(&mut state.subscriptions, &mut state.ctx, id.as_str(), rotation))
    }

    /// Changes the channel or keys of a subscription with its next renewal or update. False if the
    /// id is unknown.
    pub fn rotate_on_renew(&self, id: &SubscriptionId, rotation: Rotation) -> bool {
        self.shared.update(|state| {
            subscriptions::find(&mut state.subscriptions, &state.ctx, id.as_str())
                .map(|held| held.pending = rotation)
                .is_ok()
        })
    }

    /// Sets a subscription's `status`. Any status but `Active` stops publishing. False if the id is
    /// unknown.
    pub fn set_status(&self, id: &SubscriptionId, status: &str) -> bool {
        self.shared.update(|state| {
            subscriptions::find(&mut state.subscriptions, &state.ctx, id.as_str())
                .map(|held| held.status = status.into())
                .is_ok()
        })
    }

    /// Expires every access token now (401 `OAU-128`).
    pub fn expire_access_tokens(&self) {
        self.shared.update(|state| {
            let now = state.ctx.moment().now;
            state.oauth.expire_access(now);
            state.ctx.poke();
        });
    }

    /// Ends every login: access and refresh tokens are unknown from now on.
    pub fn revoke_sessions(&self) {
        self.shared.update(|state| {
            state.oauth.revoke_all();
            state.ctx.poke();
        });
    }

    /// The faults to script.
    #[must_use]
    pub fn faults(&self) -> Faults<'_> {
        Faults { shared: &self.shared }
    }

    /// Stops a server: open connections break, new ones are refused, and the port stays reserved.
    /// Events are queued meanwhile. Returns once it has stopped.
    pub async fn stop_service(&self, service: Service) {
        self.set_power(service, false).await;
    }

    /// Like [`stop_service`](Self::stop_service), and restarts it after `time` of the sandbox's clock.
    pub async fn stop_service_for(&self, service: Service, time: Duration) {
        self.stop_service(service).await;
        self.shared.update(|state| state.schedule(time, Due::Up(service)));
    }

    /// Restarts a server on its port. Returns once it listens.
    pub async fn start_service(&self, service: Service) {
        self.set_power(service, true).await;
    }

    async fn set_power(&self, service: Service, up: bool) {
        self.shared.update(|state| state.servers.of(service).want(up));
        let deadline = Instant::now() + Duration::from_secs(10);
        let reached =
            self.shared.wait_until(deadline, |state| (state.servers.of(service).listening == up).then_some(()));
        if reached.await.is_none() {
            tracing::error!(?service, up, "the sandbox's server did not start or stop within ten seconds");
        }
    }

    /// Resets every open connection of a server (RST); new ones are accepted.
    pub fn reset_connections(&self, service: Service) {
        self.shared.update(|state| state.cut(service, Cut::Reset));
    }

    /// Closes every open connection of a server in order (FIN); new ones are accepted.
    pub fn close_connections(&self, service: Service) {
        self.shared.update(|state| state.cut(service, Cut::Close));
    }

    /// Ends every open connection of a server after the responses in progress: by `Connection:
    /// close`, over HTTP/2 by GOAWAY, at the gateway immediately. New connections are accepted.
    pub fn finish_connections(&self, service: Service) {
        self.shared.update(|state| state.cut(service, Cut::Finish));
    }

    /// Turns every open connection of a server into a black hole: it stays open, but nothing is
    /// read or sent on it any more. New connections are accepted. Polls on them no longer count as
    /// open.
    pub fn blackhole_connections(&self, service: Service) {
        self.shared.update(|state| state.cut(service, Cut::Blackhole));
    }

    /// Answers a REST call that the sandbox does not know, or one that it does differently: from now
    /// on, requests with this `method` and `path` get `status` and the JSON `body`
    /// ([`Value::Null`](serde_json::Value::Null): no body).
    ///
    /// In `path`, `~` also stands for the user's ids, and a segment in braces for any one segment:
    /// `/restapi/v1.0/account/~/extension/~/message-store/{id}/content/{part}`. A query is ignored.
    /// The request needs a valid access token, is not rate limited, and is recorded:
    /// [`requests_to`](Self::requests_to) with a [`Target::path`] has it, with its
    /// [body](Recorded::json). Of two stubs for one call, the later one answers.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// use ringcentral_events::rest::Method;
    /// use ringcentral_sandbox::{Sandbox, Target};
    /// use serde_json::json;
    ///
    /// let sandbox = Sandbox::start().await?;
    /// let path = "/restapi/v1.0/account/~/extension/~/ring-out";
    /// sandbox.stub(Method::POST, path, 200, json!({ "id": "1", "status": { "callStatus": "InProgress" } }))?;
    /// let call = json!({ "to": { "phoneNumber": "+16505550100" } });
    /// sandbox.client()?.request(Method::POST, path).json(&call).send().await?;
    /// assert_eq!(sandbox.requests_to(Target::path(path))[0].json()?, call);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if `status` is not an HTTP status.
    pub fn stub(&self, method: ::http::Method, path: &str, status: u16, body: serde_json::Value) -> Result<()> {
        let status = StatusCode::from_u16(status)
            .map_err(|error| Error::new(ErrorKind::Config, "a stub needs an HTTP status").with_source(error))?;
        self.shared.update(|state| state.stubs.add(method, path, status, body));
        Ok(())
    }

    /// The newest requests in the order they were read; [`SandboxBuilder::request_log`] sets their
    /// number.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.lock().ctx.log.records().cloned().collect()
    }

    /// The recorded requests that match `target`.
    #[must_use]
    pub fn requests_to(&self, target: impl Into<Target>) -> Vec<Recorded> {
        let target = target.into();
        let state = self.shared.lock();
        state.ctx.log.records().filter(|record| faults::hits_record(&target, record)).cloned().collect()
    }

    /// Clears the recorded requests.
    pub fn clear_requests(&self) {
        self.shared.update(|state| state.ctx.log.clear());
    }

    /// The newest 10 000 messages sent by SMS, pager and posts, oldest first.
    #[must_use]
    pub fn sent_messages(&self) -> Vec<SentMessage> {
        self.shared.lock().account.sent().iter().cloned().collect()
    }

    /// The messages of all extensions, oldest first, as the API formats them; deleted ones with
    /// their `availability`.
    #[must_use]
    pub fn stored_messages(&self) -> Vec<serde_json::Value> {
        self.shared.lock().account.messages.records()
    }

    /// The posts of all chats, oldest first, as the API formats them.
    #[must_use]
    pub fn stored_posts(&self) -> Vec<serde_json::Value> {
        self.shared.lock().account.team.posts()
    }

    /// Counts of connections, polls and requests.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        Gauges::read(&mut self.shared.lock())
    }

    /// The number of open polls on a subscription's channel: 1 while a client listens, and more
    /// only for the moment of a reconnect.
    #[must_use]
    pub fn open_polls_on(&self, id: &SubscriptionId) -> usize {
        let state = &mut *self.shared.lock();
        let Ok(channel) =
            subscriptions::find(&mut state.subscriptions, &state.ctx, id.as_str()).map(|held| held.channel.clone())
        else {
            return 0;
        };
        state.pubnub.open_on(&channel)
    }

    /// Waits for a past or future request that `wanted` accepts; checked again after each response.
    /// `None` after `timeout`. `wanted` must not call the sandbox, which is locked meanwhile.
    pub async fn wait_for(&self, mut wanted: impl FnMut(&Recorded) -> bool, timeout: Duration) -> Option<Recorded> {
        let deadline = later(Instant::now(), timeout);
        self.shared.wait_until(deadline, |state| state.ctx.log.records().find(|record| wanted(record)).cloned()).await
    }

    /// Waits until at least `count` requests that match `target` were read. False after `timeout`.
    pub async fn wait_requests(&self, target: impl Into<Target>, count: usize, timeout: Duration) -> bool {
        let target = target.into();
        self.wait(timeout, |state| {
            state.ctx.log.records().filter(|record| faults::hits_record(&target, record)).count() >= count
        })
        .await
    }

    /// Waits until there are exactly `count` live subscriptions. False after `timeout`.
    pub async fn wait_subscriptions(&self, count: usize, timeout: Duration) -> bool {
        self.wait(timeout, |state| {
            let now = state.ctx.moment().now;
            state.subscriptions.alive(now).len() == count
        })
        .await
    }

    /// Waits until exactly `count` polls are open. False after `timeout`.
    pub async fn wait_open_polls(&self, count: usize, timeout: Duration) -> bool {
        self.wait(timeout, |state| state.pubnub.counts(state.ctx.clock.read().now).open == count).await
    }

    /// Waits until exactly `count` sockets are open at the gateway. False after
    /// `timeout`.
    pub async fn wait_open_sockets(&self, count: usize, timeout: Duration) -> bool {
        self.wait(timeout, |state| state.gateway.counts().0 == count).await
    }

    /// Waits until every live channel was polled beyond its last message: every published message
    /// has arrived. False after `timeout`.
    pub async fn wait_caught_up(&self, timeout: Duration) -> bool {
        self.wait(timeout, |state| {
            let subscriptions = &state.subscriptions;
            state.pubnub.is_caught_up(|channel| subscriptions.has_channel(channel))
        })
        .await
    }

    /// Waits until bots have sent at least `count` messages. False after `timeout`.
    pub async fn wait_sent_messages(&self, count: usize, timeout: Duration) -> bool {
        self.wait(timeout, |state| state.account.sent().len() >= count).await
    }

    async fn wait(&self, timeout: Duration, mut reached: impl FnMut(&mut State) -> bool) -> bool {
        let deadline = later(Instant::now(), timeout);
        self.shared.wait_until(deadline, |state| reached(state).then_some(())).await.is_some()
    }
}

/// Encrypts `plain` as the service does, with a base64 key of 16 bytes: the base64 of AES-128-ECB
/// with PKCS#7 padding. `None` for any other key.
#[must_use]
pub fn encrypt(key: &Secret, plain: &[u8]) -> Option<String> {
    Some(cipher::encrypt(&cipher::key_from_base64(key.expose())?, plain))
}

/// Like [`encrypt`], without padding: bytes after the last whole block are dropped. For payloads
/// with wrong padding.
#[must_use]
pub fn encrypt_unpadded(key: &Secret, blocks: &[u8]) -> Option<String> {
    Some(cipher::encrypt_unpadded(&cipher::key_from_base64(key.expose())?, blocks))
}

fn no_subscription() -> Error {
    Error::new(ErrorKind::NotFound, "the sandbox has no live subscription with this id")
}
