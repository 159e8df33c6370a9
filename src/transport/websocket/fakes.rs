//! An in-memory gateway for tests: the test plays the service, time is paused.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role};
use url::Url;

use super::dial::{Address, Dial, Stream};
use super::{WebSocket, WebSocketBuilder};
use crate::control::{ControlPlane, CreateSubscription, Deletion, SocketToken, SubscriptionInfo};
use crate::error::{Error, Result};
use crate::event::EventFilter;
use crate::http::RateBudget;
use crate::ids::SubscriptionId;
use crate::secret::Secret;
use crate::subscription::{Subscription, SubscriptionBuilder};
use crate::system::System;

/// The service's HTTPS side.
#[derive(Clone, Debug, Default)]
pub(super) struct Https(Arc<Mutex<HttpsState>>);

#[derive(Debug, Default)]
struct HttpsState {
    tokens: Vec<Instant>,
    refusals: VecDeque<Error>,
    deleted: Vec<String>,
    owner_asked: usize,
    listed: Vec<Value>,
    odd: usize,
    down: bool,
    budget: RateBudget,
}

impl Https {
    pub(super) fn refuse_token(&self, error: Error) {
        self.0.lock().unwrap().refusals.push_back(error);
    }

    /// The next `tokens` tokens name an address to which they must not be sent.
    pub(super) fn name_odd_addresses(&self, tokens: usize) {
        self.0.lock().unwrap().odd = tokens;
    }

    /// Sets whether nothing accepts a connection, here and at the gateway.
    pub(super) fn is_down(&self, down: bool) {
        self.0.lock().unwrap().down = down;
    }

    /// Adds `id` to the list of all subscriptions.
    pub(super) fn lists(&self, id: &str) {
        self.0.lock().unwrap().listed.push(info(id));
    }

    pub(super) fn tokens(&self) -> Vec<Instant> {
        self.0.lock().unwrap().tokens.clone()
    }

    pub(super) fn deleted(&self) -> Vec<String> {
        self.0.lock().unwrap().deleted.clone()
    }

    pub(super) fn owner_asked(&self) -> usize {
        self.0.lock().unwrap().owner_asked
    }

    pub(super) fn budget(&self) -> RateBudget {
        self.0.lock().unwrap().budget.clone()
    }
}

#[async_trait]
impl ControlPlane for Https {
    async fn create(&self, _: &CreateSubscription) -> Result<SubscriptionInfo> {
        panic!("a WebSocket subscription is made over its connection")
    }
    async fn list(&self) -> Result<Vec<SubscriptionInfo>> {
        let listed = self.0.lock().unwrap().listed.clone();
        Ok(listed.into_iter().map(|info| serde_json::from_value(info).unwrap()).collect())
    }
    async fn get(&self, _: &SubscriptionId) -> Result<SubscriptionInfo> {
        panic!("not asked for")
    }
    async fn update(&self, _: &SubscriptionId, _: &[String]) -> Result<SubscriptionInfo> {
        panic!("refused over HTTPS")
    }
    async fn renew(&self, _: &SubscriptionId) -> Result<SubscriptionInfo> {
        panic!("not asked for")
    }
    async fn delete(&self, id: &SubscriptionId) -> Result<Deletion> {
        self.0.lock().unwrap().deleted.push(id.to_string());
        Ok(Deletion::Deleted)
    }
    async fn owner_id(&self) -> Result<Option<String>> {
        self.0.lock().unwrap().owner_asked += 1;
        Ok(None)
    }
    async fn socket_token(&self) -> Result<SocketToken> {
        let mut state = self.0.lock().unwrap();
        if state.down {
            return Err(Error::new(crate::ErrorKind::Network, "no connection"));
        }
        state.tokens.push(Instant::now());
        if let Some(error) = state.refusals.pop_front() {
            return Err(error);
        }
        let n = state.tokens.len();
        if state.odd > 0 {
            state.odd -= 1;
            return Ok(SocketToken::new(Url::parse("http://gw.example/ws").unwrap(), Secret::new("x")));
        }
        Ok(SocketToken::new(Url::parse("wss://gw.example/ws").unwrap(), Secret::new(format!("T0KEN-{n}"))))
    }
    fn rate_budget(&self) -> Option<RateBudget> {
        Some(self.budget())
    }
}

pub(super) type Refusals = Arc<Mutex<VecDeque<Error>>>;

/// Accepts the gateway's connections.
#[derive(Debug)]
pub(super) struct Door {
    https: Https,
    knocking: mpsc::UnboundedSender<Peer>,
    refusals: Refusals,
}

#[async_trait]
impl Dial for Door {
    async fn dial(&self, _: &System, to: &Address) -> Result<Stream> {
        if self.https.0.lock().unwrap().down {
            return Err(Error::new(crate::ErrorKind::Network, "no connection"));
        }
        if let Some(error) = self.refusals.lock().unwrap().pop_front() {
            return Err(error);
        }
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let ws = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
        let peer = Peer { url: to.url.clone(), ws };
        self.knocking.send(peer).map_err(|_| Error::new(crate::ErrorKind::Network, "the gateway is down"))?;
        Ok(Box::new(ours))
    }
}

/// The service.
pub(super) struct Service {
    pub(super) https: Https,
    knocking: mpsc::UnboundedReceiver<Peer>,
    refusals: Refusals,
    pub(super) transport: WebSocket,
}

impl Service {
    pub(super) fn new() -> Self {
        Self::with(WebSocket::builder())
    }

    pub(super) fn with(builder: WebSocketBuilder) -> Self {
        builder.check().unwrap();
        let (knocking, knocked) = mpsc::unbounded_channel();
        let refusals = Refusals::default();
        let https = Https::default();
        let door = Door { https: https.clone(), knocking, refusals: Arc::clone(&refusals) };
        let transport = builder.with(Arc::new(door));
        Self { https, knocking: knocked, refusals, transport }
    }

    pub(super) fn refuse_dial(&self, error: Error) {
        self.refusals.lock().unwrap().push_back(error);
    }

    /// The refusals of the next connections.
    pub(super) fn scripts(&self) -> Refusals {
        Arc::clone(&self.refusals)
    }

    pub(super) fn builder(&self) -> SubscriptionBuilder {
        SubscriptionBuilder::new(self.https.clone(), [EventFilter::instant_message()])
            .transport(self.transport.clone())
            // The user's rate allows four connections a minute.
            .start_within(std::time::Duration::from_secs(300))
    }

    /// Starts a subscription; the test must serve its connection meanwhile.
    pub(super) fn start(&self) -> tokio::task::JoinHandle<Result<Subscription>> {
        tokio::spawn(self.builder().start())
    }

    /// Accepts the next connection.
    pub(super) async fn accept(&mut self) -> Peer {
        self.knocking.recv().await.unwrap()
    }

    /// Whether no client tries to connect.
    pub(super) fn is_quiet(&self) -> bool {
        self.knocking.is_empty()
    }

    /// Starts a subscription `id` and serves its first connection up to the creation.
    pub(super) async fn live(&mut self, id: &str) -> (Subscription, Peer) {
        let start = self.start();
        let mut peer = self.accept().await;
        peer.details("W1", json!({})).await;
        peer.subscribed(id).await;
        (start.await.unwrap().unwrap(), peer)
    }
}

/// The gateway's end of a connection.
pub(super) struct Peer {
    pub(super) url: Url,
    pub(super) ws: WebSocketStream<DuplexStream>,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Peer")
    }
}

pub(super) fn details(wsc: &str, body: &Value) -> String {
    let mut terms = json!({"creationTime": "2026-03-01T08:00:00.000+0000", "recoveryBufferSize": 100,
        "recoveryTimeout": 180, "idleTimeout": 1800, "absoluteTimeout": 86400, "maxActiveRequests": 10});
    for (name, value) in body.as_object().unwrap() {
        terms[name] = value.clone();
    }
    json!([{"type": "ConnectionDetails", "messageId": "c", "status": 200, "wsc": {"token": wsc, "sequence": 1}}, terms])
        .to_string()
}

pub(super) fn info(id: &str) -> Value {
    json!({"uri": "/restapi/v1.0/subscription/x", "id": id, "status": "Active", "expiresIn": 86399,
           "eventFilters": ["/restapi/v1.0/account/1/extension/2/message-store/instant?type=SMS"],
           "deliveryMode": {"transportType": "WebSocket", "encryption": false}})
}

pub(super) fn event(subscription: &str, n: usize) -> String {
    json!([{"type": "ServerNotification", "messageId": n.to_string(), "status": 200},
           {"uuid": n.to_string(), "event": "/restapi/v1.0/account/1/extension/2/message-store",
            "timestamp": "2026-01-01T00:00:00Z", "subscriptionId": subscription, "ownerId": "2",
            "body": {"extensionId": 2, "n": n, "changes": []}}])
    .to_string()
}

pub(super) fn reply(to: &Value, status: u16, body: Option<Value>) -> String {
    let meta = json!({"type": "ClientRequest", "messageId": to["messageId"], "status": status});
    body.map_or_else(|| json!([meta]), |body| json!([meta, body])).to_string()
}

impl Peer {
    pub(super) fn wsc(&self) -> Option<String> {
        self.url.query_pairs().find(|(name, _)| name == "wsc").map(|(_, value)| value.into_owned())
    }

    pub(super) fn token(&self) -> Option<String> {
        self.url.query_pairs().find(|(name, _)| name == "access_token").map(|(_, value)| value.into_owned())
    }

    pub(super) async fn send(&mut self, text: impl Into<String>) {
        self.ws.send(Message::text(text.into())).await.unwrap();
    }

    pub(super) async fn details(&mut self, wsc: &str, body: Value) {
        self.send(details(wsc, &body)).await;
    }

    pub(super) async fn recovered(&mut self, wsc: &str) {
        self.details(wsc, json!({"recoveryState": "Successful"})).await;
    }

    pub(super) async fn event(&mut self, subscription: &str, n: usize) {
        self.send(event(subscription, n)).await;
    }

    /// The next message of the client; `None` once it has disconnected.
    pub(super) async fn next(&mut self) -> Option<Message> {
        self.ws.next().await?.ok()
    }

    /// The next frame of the client, as meta and body. Answers pings.
    pub(super) async fn frame(&mut self) -> Option<(Value, Option<Value>)> {
        loop {
            if let Message::Text(text) = self.next().await? {
                let frame: Vec<Value> = serde_json::from_str(&text).unwrap();
                return Some((frame[0].clone(), frame.get(1).cloned()));
            }
        }
    }

    /// The next request; answers heartbeats.
    pub(super) async fn request(&mut self) -> Option<(Value, Option<Value>)> {
        loop {
            let (meta, body) = self.frame().await?;
            if meta["type"] != "Heartbeat" {
                return Some((meta, body));
            }
            self.ws.send(Message::text(json!([meta]).to_string())).await.ok()?;
        }
    }

    /// Answers the creation.
    pub(super) async fn subscribed(&mut self, id: &str) {
        let (meta, body) = self.request().await.unwrap();
        assert_eq!(
            (meta["method"].as_str(), meta["path"].as_str()),
            (Some("POST"), Some("/restapi/v1.0/subscription"))
        );
        assert_eq!(body.unwrap()["deliveryMode"], json!({"transportType": "WebSocket"}));
        self.send(reply(&meta, 200, Some(info(id)))).await;
    }

    /// Serves every request until the client disconnects; returns the requests.
    pub(super) async fn serve(mut self, id: &str) -> Vec<String> {
        let mut asked = Vec::new();
        while let Some((meta, _)) = self.request().await {
            let method = meta["method"].as_str().unwrap().to_owned();
            let answer = match method.as_str() {
                "DELETE" => reply(&meta, 204, None),
                _ => reply(&meta, 200, Some(info(id))),
            };
            asked.push(method);
            if self.ws.send(Message::text(answer)).await.is_err() {
                break;
            }
        }
        asked
    }

    /// Sends a text frame of any bytes.
    pub(super) async fn send_bytes(&mut self, bytes: Vec<u8>) {
        let frame = Frame::message(bytes, OpCode::Data(Data::Text), true);
        self.ws.send(Message::Frame(frame)).await.unwrap();
    }

    /// Closes with a close frame, so that the client reads everything that was sent.
    pub(super) async fn leave(mut self) {
        self.close(1001).await;
    }

    pub(super) async fn close(&mut self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "whatever".into() };
        self.ws.close(Some(frame)).await.unwrap();
    }
}
