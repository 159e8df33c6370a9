//! A transport and a catch-up source of the user, each as small as it can be.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use ringcentral_events::catch_up::{CatchUp, Found, SyncPage, SyncRequest, SyncToken};
use ringcentral_events::control::{Cursor, DeliveryModeRequest};
use ringcentral_events::event::GapClosure;
use ringcentral_events::transport::{
    Coverage, Frame, FrameBody, Link, LinkEvent, PossibleLoss, Target, Transport, TransportKind,
};
use ringcentral_events::{Delivery, Error, ErrorKind, EventFilter, Origin, Result, SystemClock, WallClock as _};
use serde_json::json;
use tokio::sync::mpsc;

use crate::support::subscribing::{STORE, client, quick, soon, start, subscribe};

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
    let cursor = Cursor::at(now());
    LinkEvent::Batch { frames: frames.into_iter().collect(), cursor, coverage: Coverage::Pushed, possible_loss }
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
