//! A transport and a catch-up source of the user, each as small as it can be.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use async_trait::async_trait;
use ringcentral_events::catch_up::{CatchUp, Found, SyncPage, SyncRequest, SyncToken};
use ringcentral_events::control::{
    ControlPlane, CreateSubscription, Cursor, Deletion, DeliveryModeRequest, SubscriptionInfo,
};
use ringcentral_events::event::GapClosure;
use ringcentral_events::transport::{
    Coverage, Frame, FrameBody, Link, LinkBatch, LinkEvent, PossibleLoss, Target, Transport, TransportKind,
};
use ringcentral_events::{
    Delivery, Error, ErrorKind, EventFilter, Origin, Phase, Result, SubscriptionBuilder, SubscriptionId, SystemClock,
    WallClock as _,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::subscribing::{STORE, client, phase, quick, soon, start, subscribe};

fn now() -> SystemTime {
    SystemClock.now()
}

/// Events of this process.
#[derive(Debug)]
struct Local(Mutex<Option<mpsc::Receiver<LinkEvent>>>);

#[async_trait]
impl Transport for Local {
    fn kind(&self) -> TransportKind {
        TransportKind::PubNub
    }

    fn delivery_mode(&self) -> DeliveryModeRequest {
        DeliveryModeRequest::new(self.kind())
    }

    async fn open(&self, _target: Target) -> Result<Box<dyn Link>> {
        let events = self.0.lock().unwrap().take();
        Ok(Box::new(LocalLink(events.ok_or_else(|| Error::new(ErrorKind::Network, "there is one link only"))?)))
    }
}

struct LocalLink(mpsc::Receiver<LinkEvent>);

#[async_trait]
impl Link for LocalLink {
    async fn next(&mut self) -> Result<LinkEvent> {
        self.0.recv().await.ok_or_else(|| Error::new(ErrorKind::Network, "the sender is gone"))
    }

    async fn close(self: Box<Self>) {}
}

/// Finds one change after each position.
#[derive(Debug)]
struct OneChange;

#[async_trait]
impl CatchUp for OneChange {
    fn name(&self) -> &'static str {
        "one-change"
    }

    fn covers(&self, _filter: &EventFilter) -> GapClosure {
        GapClosure::Complete
    }

    async fn begin(&self, _filters: &[EventFilter]) -> Result<SyncToken> {
        Ok(SyncToken::new("start", now()))
    }

    async fn sync(&self, request: SyncRequest<'_>) -> Result<SyncPage> {
        let change = Found::change(STORE, None, &json!({ "found": "missed" }))?;
        let found = if request.since.is_some() { vec![change] } else { Vec::new() };
        Ok(SyncPage::new(found, SyncToken::new("next", now())))
    }
}

fn batch(text: Option<&str>, possible_loss: Option<PossibleLoss>) -> LinkEvent {
    let frames = text.map(|text| {
        let payload = json!({ "uuid": text, "event": STORE, "body": { "pushed": text } });
        let body = FrameBody::Payload(serde_json::value::to_raw_value(&payload).unwrap());
        Frame::new(body, now())
    });
    let batch = LinkBatch::new(frames.into_iter().collect(), Cursor::at(now()), Coverage::Pushed);
    LinkEvent::Batch(batch.with_possible_loss(possible_loss))
}

#[tokio::test]
async fn a_transport_and_a_source_of_the_user_work_together() {
    let sandbox = quick().start().await.unwrap();
    let (send, events) = mpsc::channel(8);
    let local = Arc::new(Local(Mutex::new(Some(events))));
    send.send(LinkEvent::Alive).await.unwrap();
    let mut subscription = start(subscribe(&client(&sandbox), local).catch_up(OneChange)).await;

    send.send(batch(Some("first"), None)).await.unwrap();
    let pushed = match soon(subscription.next()).await.unwrap().unwrap() {
        Delivery::Notification(it) => it,
        other => panic!("{other:?}"),
    };
    assert_eq!((pushed.origin(), pushed.uuid()), (Origin::Push, Some("first")));

    send.send(batch(Some("second"), Some(PossibleLoss::RegionChanged))).await.unwrap();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| *last != "pushed") {
        seen.push(match soon(subscription.next()).await.unwrap().unwrap() {
            Delivery::Notification(it) if it.origin() == Origin::CatchUp => "found",
            Delivery::Notification(_) => "pushed",
            Delivery::Gap(_) => "gap",
            Delivery::Resumed(resumed) if resumed.complete => "complete",
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(seen, ["gap", "found", "complete", "pushed"]);
    assert!(soon(subscription.close()).await.deleted);
}

const ADDRESS: &str = "https://app.example/events";
const TOKEN: &str = "verification-token";

/// An HTTP endpoint of the app, one for all its subscriptions. The service calls it, so no link has a connection.
#[derive(Clone, Debug, Default)]
struct Endpoint(Arc<Mutex<HashMap<SubscriptionId, mpsc::UnboundedSender<LinkEvent>>>>);

impl Endpoint {
    /// Before it creates a subscription the service calls the address, and expects this token back.
    fn validate(&self, token: &str) -> String {
        token.to_owned()
    }

    /// The service delivers an event, and gets a status.
    fn call(&self, token: Option<&str>, event: &Value) -> u16 {
        if token != Some(TOKEN) {
            return 401;
        }
        let id = SubscriptionId::from(event["subscriptionId"].as_str().unwrap());
        self.route(&id, &id, event)
    }

    /// Routes an event of one subscription to the link of another, or of the same.
    fn route(&self, to: &SubscriptionId, of: &SubscriptionId, event: &Value) -> u16 {
        let frame = Frame::new(FrameBody::Payload(serde_json::value::to_raw_value(event).unwrap()), now());
        let batch = LinkBatch::new(vec![frame], Cursor::at(now()), Coverage::Pushed).of(of.clone());
        let links = self.0.lock().unwrap();
        let sent = links.get(to).is_some_and(|link| link.send(LinkEvent::Batch(batch)).is_ok());
        if sent { 200 } else { 404 }
    }
}

#[async_trait]
impl Transport for Endpoint {
    fn kind(&self) -> TransportKind {
        TransportKind::WebHook
    }

    fn delivery_mode(&self) -> DeliveryModeRequest {
        DeliveryModeRequest::new(self.kind()).address(ADDRESS).verification_token(TOKEN)
    }

    async fn open(&self, target: Target) -> Result<Box<dyn Link>> {
        assert_eq!(target.address.expose(), ADDRESS);
        let (events, routed) = mpsc::unbounded_channel();
        events.send(LinkEvent::Alive).unwrap();
        self.0.lock().unwrap().insert(target.subscription_id, events);
        Ok(Box::new(Routed(routed)))
    }
}

struct Routed(mpsc::UnboundedReceiver<LinkEvent>);

#[async_trait]
impl Link for Routed {
    async fn next(&mut self) -> Result<LinkEvent> {
        self.0.recv().await.ok_or_else(|| Error::new(ErrorKind::Network, "the endpoint is closed"))
    }

    async fn close(self: Box<Self>) {}
}

/// The service's calls on subscriptions whose events it sends to an address.
#[derive(Clone, Debug)]
struct Service {
    endpoint: Endpoint,
    created: Arc<Mutex<Vec<Value>>>,
}

impl Service {
    fn info(id: &SubscriptionId) -> SubscriptionInfo {
        let mode = json!({ "transportType": "WebHook", "encryption": false, "address": ADDRESS });
        let info = json!({ "id": id, "eventFilters": [STORE], "expiresIn": 604_800, "deliveryMode": mode });
        serde_json::from_value(info).unwrap()
    }
}

#[async_trait]
impl ControlPlane for Service {
    async fn create(&self, request: &CreateSubscription) -> Result<SubscriptionInfo> {
        assert_eq!(self.endpoint.validate("validation-token"), "validation-token");
        let mut created = self.created.lock().unwrap();
        created.push(serde_json::to_value(request).unwrap());
        Ok(Self::info(&format!("hook-{}", created.len()).into()))
    }

    async fn list(&self) -> Result<Vec<SubscriptionInfo>> {
        Ok(Vec::new())
    }

    async fn get(&self, id: &SubscriptionId) -> Result<SubscriptionInfo> {
        Ok(Self::info(id))
    }

    async fn update(&self, id: &SubscriptionId, _event_filters: &[String]) -> Result<SubscriptionInfo> {
        Ok(Self::info(id))
    }

    async fn renew(&self, id: &SubscriptionId) -> Result<SubscriptionInfo> {
        Ok(Self::info(id))
    }

    async fn delete(&self, _id: &SubscriptionId) -> Result<Deletion> {
        Ok(Deletion::Deleted)
    }

    async fn owner_id(&self) -> Result<Option<String>> {
        Ok(None)
    }
}

#[tokio::test]
async fn a_transport_may_be_an_address_that_the_service_calls_for_several_subscriptions() {
    let endpoint = Endpoint::default();
    let service = Service { endpoint: endpoint.clone(), created: Arc::default() };
    let transport: Arc<dyn Transport> = Arc::new(endpoint.clone());
    let begin = async || {
        let builder = SubscriptionBuilder::new(service.clone(), [STORE.parse().unwrap()]);
        start(builder.shared_transport(transport.clone())).await
    };
    let (mut one, mut other) = (begin().await, begin().await);
    let mode = json!({ "transportType": "WebHook", "address": ADDRESS, "verificationToken": TOKEN });
    assert!(service.created.lock().unwrap().iter().all(|request| request["deliveryMode"] == mode));
    phase(&one, Phase::Live).await;
    phase(&other, Phase::Live).await;

    let event = |of: &str, n: u64| json!({ "uuid": format!("{of}-{n}"), "event": STORE, "subscriptionId": of, "body": { "n": n } });
    assert_eq!(endpoint.call(None, &event("hook-1", 0)), 401);
    assert_eq!(endpoint.call(Some(TOKEN), &event("unknown", 0)), 404);
    assert_eq!(endpoint.route(&"hook-1".into(), &"hook-2".into(), &event("hook-2", 9)), 200);
    for n in 1..3 {
        for of in ["hook-2", "hook-1"] {
            assert_eq!(endpoint.call(Some(TOKEN), &event(of, n)), 200);
        }
    }
    for (subscription, of) in [(&mut one, "hook-1"), (&mut other, "hook-2")] {
        for n in 1..3 {
            let Delivery::Notification(got) = soon(subscription.next()).await.unwrap().unwrap() else { panic!("{of}") };
            assert_eq!(got.uuid(), Some(format!("{of}-{n}").as_str()));
        }
    }
    for subscription in [one, other] {
        let closed = soon(subscription.close()).await;
        assert!(closed.deleted && closed.unread.iter().all(|it| matches!(it, Delivery::Gap(_))), "{closed:?}");
    }
}
