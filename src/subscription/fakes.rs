//! An in-memory service for tests of the driver: calls are answered from a
//! script, links are fed by the test, time is paused.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::catch_up::{CatchUp, Found, SyncPage, SyncRequest, SyncToken};
use crate::clock::Clock;
use crate::control::{ControlPlane, CreateSubscription, Cursor, Deletion, DeliveryModeRequest, SubscriptionInfo};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{EventFilter, GapClosure};
use crate::http::RateBudget;
use crate::ids::SubscriptionId;
use crate::kind::TransportKind;
use crate::transport::{
    Coverage, Frame, FrameBody, Link, LinkBatch, LinkEvent, PossibleLoss, Target, Transport, TransportBinding,
};

/// A call as it reached the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Create(Vec<String>),
    List,
    Get(String),
    Update(String, Vec<String>),
    Renew(String),
    Delete(String),
}

/// What the service does with the next call of a kind.
pub(super) enum Script {
    Fail(Error),
    /// Carries it out and then fails.
    Lose(Error),
    /// Answers after this long.
    Slow(Duration),
    /// Sends the request after this long.
    Queued(Duration),
    /// Done at once, answered after so long.
    Late(Duration),
    /// Changes the answer.
    Answer(Box<dyn Fn(&mut serde_json::Value) + Send>),
    Panic,
}

#[derive(Default)]
struct Service {
    calls: Vec<(Instant, Call)>,
    scripts: VecDeque<(&'static str, Script)>,
    alive: Vec<(String, Vec<String>)>,
    made: usize,
    made_at: HashMap<String, String>,
    lifetime: u64,
    /// Calls of these kinds fail.
    refused: Vec<&'static str>,
    /// The deletion of this one always fails so.
    undeletable: Option<(String, fn() -> Error)>,
    address: String,
    key: Option<String>,
    /// Its clock, if it gives its time with its answers.
    clock: Option<Clock>,
    /// What other calls of the same login share.
    budget: Option<RateBudget>,
    /// When the request was sent that is answered next, if the client knows.
    sent_at: Option<Instant>,
}

/// The service's REST side.
#[derive(Clone)]
pub(super) struct FakeControl(Arc<Mutex<Service>>);

impl std::fmt::Debug for FakeControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FakeControl")
    }
}

impl FakeControl {
    pub(super) fn new() -> Self {
        let service = Service { lifetime: 900, address: "chan".into(), ..Service::default() };
        Self(Arc::new(Mutex::new(service)))
    }

    pub(super) fn script(&self, verb: &'static str, script: Script) {
        self.0.lock().unwrap().scripts.push_back((verb, script));
    }

    /// Calls of a kind fail from now on.
    pub(super) fn refuse(&self, verb: &'static str) {
        self.0.lock().unwrap().refused.push(verb);
    }

    /// The deletion of `id` always fails.
    pub(super) fn refuse_deletion(&self, id: &str, error: fn() -> Error) {
        self.0.lock().unwrap().undeletable = Some((id.into(), error));
    }

    /// Calls of a kind are answered again.
    pub(super) fn allow(&self, verb: &str) {
        self.0.lock().unwrap().refused.retain(|refused| *refused != verb);
    }

    pub(super) fn move_to(&self, address: &str) {
        self.0.lock().unwrap().address = address.into();
    }

    /// Other calls are made with this budget.
    pub(super) fn shares(&self, budget: &RateBudget) {
        self.0.lock().unwrap().budget = Some(budget.clone());
    }

    /// It gives the time of this clock with its answers.
    pub(super) fn dates_by(&self, clock: Clock) {
        self.0.lock().unwrap().clock = Some(clock);
    }

    fn dated(&self, value: serde_json::Value) -> SubscriptionInfo {
        let mut info = parse(value);
        let mut service = self.0.lock().unwrap();
        info.answered_at = service.clock.as_ref().map(Clock::wall);
        info.sent_at = service.sent_at.take();
        info
    }

    pub(super) fn encrypt_with(&self, key: &str) {
        self.0.lock().unwrap().key = Some(key.into());
    }

    pub(super) fn forget_all(&self) {
        self.0.lock().unwrap().alive.clear();
    }

    pub(super) fn plant(&self, id: &str, filters: &[&str]) {
        let filters = filters.iter().map(ToString::to_string).collect();
        self.0.lock().unwrap().alive.push((id.into(), filters));
    }

    /// As [`plant`](Self::plant), and the service tells when it was made.
    pub(super) fn plant_made_at(&self, id: &str, filters: &[&str], at: &crate::Timestamp) {
        self.plant(id, filters);
        self.0.lock().unwrap().made_at.insert(id.into(), at.as_str().into());
    }

    pub(super) fn alive(&self) -> Vec<String> {
        self.0.lock().unwrap().alive.iter().map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.0.lock().unwrap().calls.iter().map(|(_, call)| call.clone()).collect()
    }

    pub(super) fn count(&self, is_it: impl Fn(&Call) -> bool) -> usize {
        self.calls().iter().filter(|call| is_it(call)).count()
    }

    async fn serve<T>(
        &self,
        verb: &'static str,
        call: Call,
        act: impl FnOnce(&mut Service) -> Result<T>,
        change: impl FnOnce(T, &dyn Fn(&mut serde_json::Value)) -> T,
    ) -> Result<T> {
        let script = {
            let mut service = self.0.lock().unwrap();
            service.calls.push((Instant::now(), call));
            if service.refused.contains(&verb) {
                return Err(unavailable());
            }
            let at = service.scripts.iter().position(|(wanted, _)| *wanted == verb);
            at.and_then(|at| service.scripts.remove(at)).map(|(_, script)| script)
        };
        match script {
            None => act(&mut self.0.lock().unwrap()),
            Some(Script::Fail(error)) => Err(error),
            Some(Script::Lose(error)) => act(&mut self.0.lock().unwrap()).and(Err(error)),
            Some(Script::Slow(time)) => {
                tokio::time::sleep(time).await;
                act(&mut self.0.lock().unwrap())
            }
            Some(Script::Queued(time)) => {
                tokio::time::sleep(time).await;
                let mut service = self.0.lock().unwrap();
                service.sent_at = Some(Instant::now());
                act(&mut service)
            }
            Some(Script::Late(time)) => {
                let answer = act(&mut self.0.lock().unwrap());
                tokio::time::sleep(time).await;
                answer
            }
            Some(Script::Answer(edit)) => {
                let answer = act(&mut self.0.lock().unwrap())?;
                Ok(change(answer, &*edit))
            }
            Some(Script::Panic) => panic!("scripted"),
        }
    }
}

impl Service {
    fn info(&self, id: &str, filters: &[String]) -> serde_json::Value {
        let mut info = json!({
            "id": id, "eventFilters": filters, "expiresIn": self.lifetime, "status": "Active",
            "deliveryMode": {"transportType": "PubNub", "address": self.address, "subscriberKey": "sub-c"},
        });
        if let Some(at) = self.made_at.get(id) {
            info["creationTime"] = at.clone().into();
        }
        if let Some(key) = &self.key {
            info["deliveryMode"]["encryptionKey"] = key.clone().into();
            info["deliveryMode"]["encryptionAlgorithm"] = "AES".into();
        }
        info
    }

    fn known(&self, id: &SubscriptionId) -> Result<serde_json::Value> {
        match self.alive.iter().find(|(known, _)| id == known.as_str()) {
            Some((id, filters)) => Ok(self.info(id, filters)),
            None => Err(gone()),
        }
    }
}

pub(super) fn gone() -> Error {
    Error::new(ErrorKind::NotFound, "unknown subscription").with_status(404)
}

pub(super) fn unavailable() -> Error {
    Error::new(ErrorKind::Service, "temporarily unavailable").with_status(503)
}

fn parse(value: serde_json::Value) -> SubscriptionInfo {
    serde_json::from_value(value).unwrap()
}

#[async_trait]
impl ControlPlane for FakeControl {
    async fn create(&self, request: &CreateSubscription) -> Result<SubscriptionInfo> {
        let filters = request.event_filters.clone();
        let act = |service: &mut Service| {
            service.made += 1;
            let id = format!("sub-{}", service.made);
            service.alive.push((id.clone(), filters.clone()));
            Ok(service.info(&id, &filters))
        };
        let call = Call::Create(request.event_filters.clone());
        self.serve("create", call, act, edit).await.map(|value| self.dated(value))
    }

    async fn list(&self) -> Result<Vec<SubscriptionInfo>> {
        let act = |service: &mut Service| {
            Ok(service.alive.iter().map(|(id, filters)| parse(service.info(id, filters))).collect())
        };
        self.serve("list", Call::List, act, |all, _| all).await
    }

    async fn get(&self, id: &SubscriptionId) -> Result<SubscriptionInfo> {
        let answer = self.serve("get", Call::Get(id.to_string()), |service| service.known(id), edit).await;
        answer.map(|value| self.dated(value))
    }

    async fn update(&self, id: &SubscriptionId, event_filters: &[String]) -> Result<SubscriptionInfo> {
        let act = |service: &mut Service| {
            service.known(id)?;
            for (known, filters) in &mut service.alive {
                if id == known.as_str() {
                    *filters = event_filters.to_vec();
                }
            }
            service.known(id)
        };
        self.serve("update", Call::Update(id.to_string(), event_filters.to_vec()), act, edit).await.map(parse)
    }

    async fn renew(&self, id: &SubscriptionId) -> Result<SubscriptionInfo> {
        self.serve("renew", Call::Renew(id.to_string()), |service| service.known(id), edit).await.map(parse)
    }

    async fn delete(&self, id: &SubscriptionId) -> Result<Deletion> {
        let act = |service: &mut Service| {
            if let Some((_, error)) = service.undeletable.as_ref().filter(|(of, _)| id == of.as_str()) {
                return Err(error());
            }
            let before = service.alive.len();
            service.alive.retain(|(known, _)| id != known.as_str());
            Ok(if service.alive.len() < before { Deletion::Deleted } else { Deletion::GoneAlready })
        };
        self.serve("delete", Call::Delete(id.to_string()), act, |found, _| found).await
    }

    async fn owner_id(&self) -> Result<Option<String>> {
        Ok(Some("owner-1".into()))
    }

    fn rate_budget(&self) -> Option<RateBudget> {
        self.0.lock().unwrap().budget.clone()
    }
}

fn edit(mut value: serde_json::Value, change: &dyn Fn(&mut serde_json::Value)) -> serde_json::Value {
    change(&mut value);
    value
}

/// The transport's peer: the test feeds the newest link.
#[derive(Clone, Default)]
pub(super) struct FakeTransport(Arc<Peer>);

#[derive(Default)]
struct Peer {
    links: Mutex<Vec<Opened>>,
    opened: Notify,
    /// How many links said good-bye.
    parted: AtomicU64,
    /// Whether its subscriptions live in its connection.
    in_connection: AtomicBool,
    /// Whether nothing comes over its links any more, and nothing says so.
    is_dead: AtomicBool,
    /// Whether opening a link never ends.
    hangs: AtomicBool,
    released: Notify,
}

/// A link that was opened.
pub(super) struct Opened {
    pub(super) target: Target,
    feed: mpsc::UnboundedSender<Result<LinkEvent>>,
}

impl std::fmt::Debug for FakeTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FakeTransport")
    }
}

impl FakeTransport {
    /// One whose subscriptions live in its connection.
    pub(super) fn in_connection() -> Self {
        let transport = Self::default();
        transport.0.in_connection.store(true, Ordering::Relaxed);
        transport
    }

    /// Links cannot be opened any more, nor does that fail.
    pub(super) fn hang(&self) {
        self.0.hangs.store(true, Ordering::Relaxed);
    }

    /// The path dies without a word.
    pub(super) fn die(&self) {
        self.0.is_dead.store(true, Ordering::Relaxed);
    }

    /// How many links were ended with a good-bye.
    pub(super) fn parted(&self) -> u64 {
        self.0.parted.load(Ordering::Relaxed)
    }

    /// Waits until an opening that hangs is given up.
    pub(super) async fn released(&self) {
        self.0.released.notified().await;
    }

    /// Waits for the `n`th link (from 1) to be opened.
    pub(super) async fn opened(&self, n: usize) {
        loop {
            let notified = self.0.opened.notified();
            if self.0.links.lock().unwrap().len() >= n {
                return;
            }
            notified.await;
        }
    }

    pub(super) fn count(&self) -> usize {
        self.0.links.lock().unwrap().len()
    }

    pub(super) fn target(&self, n: usize) -> Target {
        self.0.links.lock().unwrap()[n - 1].target.clone()
    }

    pub(super) fn is_open(&self, n: usize) -> bool {
        !self.0.links.lock().unwrap()[n - 1].feed.is_closed()
    }

    /// Feeds the `n`th link; whether it still listens.
    pub(super) fn feed(&self, n: usize, event: Result<LinkEvent>) -> bool {
        self.0.links.lock().unwrap()[n - 1].feed.send(event).is_ok()
    }

    /// Feeds events numbered `numbers` in one batch.
    pub(super) fn events(&self, n: usize, numbers: impl IntoIterator<Item = u64>) -> bool {
        self.batch(n, numbers.into_iter().map(event_text).collect(), None)
    }

    /// Feeds one payload at a position.
    pub(super) fn placed(&self, n: usize, text: &str, position: Option<&str>) -> bool {
        let body = FrameBody::Payload(serde_json::value::RawValue::from_string(text.into()).unwrap());
        let frame = Frame::new(body, SystemTime::UNIX_EPOCH).at(position.map(Into::into));
        let cursor = cursor(self.next_token());
        self.feed(n, Ok(LinkEvent::Batch(LinkBatch::new(vec![frame], cursor, whole()))))
    }

    pub(super) fn batch(&self, n: usize, payloads: Vec<String>, possible_loss: Option<PossibleLoss>) -> bool {
        let frames = payloads
            .into_iter()
            .map(|text| {
                let body = FrameBody::Payload(serde_json::value::RawValue::from_string(text).unwrap());
                Frame::new(body, SystemTime::UNIX_EPOCH)
            })
            .collect();
        let cursor = cursor(self.next_token());
        self.feed(n, Ok(LinkEvent::Batch(LinkBatch::new(frames, cursor, whole()).with_possible_loss(possible_loss))))
    }

    /// Feeds the answer to a poll that left at `asked`: events by their numbers, each with when
    /// it was published.
    pub(super) fn answer(&self, n: usize, asked: Instant, events: &[(u64, SystemTime)], at: SystemTime) -> bool {
        self.answer_after(n, asked, events, at, None)
    }

    pub(super) fn answer_after(
        &self,
        n: usize,
        asked: Instant,
        events: &[(u64, SystemTime)],
        at: SystemTime,
        possible_loss: Option<PossibleLoss>,
    ) -> bool {
        let frame = |(n, sent): &(u64, SystemTime)| {
            let body = FrameBody::Payload(serde_json::value::RawValue::from_string(event_text(*n)).unwrap());
            Frame::new(body, *sent).at(Some(format!("{n}/1").into())).sent(Some(*sent))
        };
        let frames = events.iter().map(frame).collect();
        let coverage = Coverage::Whole { asked };
        self.feed(
            n,
            Ok(LinkEvent::Batch(LinkBatch::new(frames, Cursor::at(at), coverage).with_possible_loss(possible_loss))),
        )
    }

    fn next_token(&self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(50_000_000_000_000_000);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }
}

/// What an answer to a poll that was just sent proves.
fn whole() -> Coverage {
    Coverage::Whole { asked: Instant::now() }
}

pub(super) fn cursor(token: u64) -> Cursor {
    Cursor::from_ticks(token).with_detail(Some("7".to_owned()))
}

/// An event as subscription `by` tells it: its own uuid, the same body.
pub(super) fn event_told_by(by: &str, n: u64) -> String {
    json!({"uuid": format!("{by}:{n}"), "event": "/restapi/v1.0/account/1/extension/2/message-store",
           "subscriptionId": by, "body": {"extensionId": 2, "n": n}})
    .to_string()
}

pub(super) fn event_text(n: u64) -> String {
    json!({"uuid": n.to_string(), "event": "/restapi/v1.0/account/1/extension/2/message-store",
           "timestamp": "2026-01-01T00:00:00Z", "body": {"extensionId": 2, "changes": []}})
    .to_string()
}

#[async_trait]
impl Transport for FakeTransport {
    fn kind(&self) -> TransportKind {
        TransportKind::PubNub
    }

    fn delivery_mode(&self) -> DeliveryModeRequest {
        DeliveryModeRequest::new(TransportKind::PubNub)
    }

    fn bind(&self, control: &Arc<dyn ControlPlane>) -> Option<TransportBinding> {
        let has_one = self.0.in_connection.load(Ordering::Relaxed);
        has_one.then(|| TransportBinding::new(control.clone(), Arc::new(self.clone())))
    }

    async fn open(&self, target: Target) -> Result<Box<dyn Link>> {
        if self.0.hangs.load(Ordering::Relaxed) {
            let _released = Released(self.clone());
            return std::future::pending().await;
        }
        let (feed, events) = mpsc::unbounded_channel();
        self.0.links.lock().unwrap().push(Opened { target, feed });
        self.0.opened.notify_waiters();
        Ok(Box::new(FakeLink { events, peer: self.0.clone(), checked: None }))
    }
}

struct Released(FakeTransport);

impl Drop for Released {
    fn drop(&mut self) {
        self.0.0.released.notify_one();
    }
}

struct FakeLink {
    events: mpsc::UnboundedReceiver<Result<LinkEvent>>,
    peer: Arc<Peer>,
    checked: Option<Instant>,
}

#[async_trait]
impl Link for FakeLink {
    async fn next(&mut self) -> Result<LinkEvent> {
        if let Ok(event) = self.events.try_recv() {
            return event;
        }
        if let Some(asked) = self.checked.take().filter(|_| !self.peer.is_dead.load(Ordering::Relaxed)) {
            return Ok(LinkEvent::Answered { asked });
        }
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    fn check(&mut self) {
        self.checked = Some(Instant::now());
    }

    async fn close(self: Box<Self>) {
        self.peer.parted.fetch_add(1, Ordering::Relaxed);
    }
}

/// A source of text messages, numbered; the test says what has happened there.
#[derive(Clone, Debug, Default)]
pub(super) struct FakeSource(Arc<Mutex<Account>>);

#[derive(Debug, Default)]
struct Account {
    messages: Vec<u64>,
    calls: Vec<(Instant, bool)>,
    since: Vec<Option<SystemTime>>,
    slow: Option<Duration>,
    fail: VecDeque<Error>,
    fail_begin: VecDeque<Error>,
    /// So many of the next answers are not complete.
    partial: usize,
    page: usize,
    /// Its messages have no ids, and it tells the last one again each time.
    nameless: bool,
    /// It tells the messages behind counts.
    tells_messages: bool,
    /// How long its first position takes.
    begins_after: Duration,
    /// So many of the next calls panic.
    panics: usize,
    /// It always has one more page.
    endless: bool,
    /// The URI of what it finds, in the place of the one that is pushed.
    uri: Option<&'static str>,
    /// A check finds nothing, and moves the position all the same.
    blind_checks: bool,
    /// How late it may find something.
    settles: Duration,
    /// It finds messages as counts that name them, of the login's own extension.
    counts: bool,
    /// It reads the state of presence, and not the changes that led to it.
    reads_presence: bool,
}

impl FakeSource {
    /// Messages happen, whoever hears of them.
    pub(super) fn happen(&self, numbers: impl IntoIterator<Item = u64>) {
        self.0.lock().unwrap().messages.extend(numbers);
    }

    /// It covers presence in part.
    pub(super) fn reads_presence(&self) {
        self.0.lock().unwrap().reads_presence = true;
    }

    pub(super) fn slow(&self, time: Duration) {
        self.0.lock().unwrap().slow = Some(time);
    }

    pub(super) fn fail(&self, error: Error) {
        self.0.lock().unwrap().fail.push_back(error);
    }

    /// It tells the messages behind counts.
    pub(super) fn tells_messages(&self) {
        self.0.lock().unwrap().tells_messages = true;
    }

    /// Its first position cannot be had.
    pub(super) fn tells_counts(&self) {
        let mut account = self.0.lock().unwrap();
        (account.counts, account.uri) = (true, Some("/restapi/v1.0/account/~/extension/~/message-store"));
    }

    pub(super) fn fail_begin(&self, error: Error) {
        self.0.lock().unwrap().fail_begin.push_back(error);
    }

    /// Whatever it was to fail with, it fails no more.
    pub(super) fn well(&self) {
        self.0.lock().unwrap().fail.clear();
    }

    /// The next answer is not complete.
    pub(super) fn partial(&self) {
        self.0.lock().unwrap().partial += 1;
    }

    /// Its messages have no ids from now on, and the last one is told each time.
    pub(super) fn nameless(&self) {
        self.0.lock().unwrap().nameless = true;
    }

    /// So many of its next calls panic.
    pub(super) fn panic(&self, times: usize) {
        self.0.lock().unwrap().panics = times;
    }

    /// What it finds has this URI.
    pub(super) fn find_under(&self, uri: &'static str) {
        self.0.lock().unwrap().uri = Some(uri);
    }

    /// It says after each page that there is one more.
    pub(super) fn endless(&self) {
        self.0.lock().unwrap().endless = true;
    }

    /// A check finds nothing of what changed, and moves the position all the same.
    pub(super) fn blind_checks(&self) {
        self.0.lock().unwrap().blind_checks = true;
    }

    /// It finds something so long after it happened only.
    pub(super) fn settles_after(&self, time: Duration) {
        self.0.lock().unwrap().settles = time;
    }

    /// Its first position takes so long.
    pub(super) fn begin_after(&self, time: Duration) {
        self.0.lock().unwrap().begins_after = time;
    }

    /// Since when it was asked for what is missing.
    pub(super) fn asked_since(&self) -> Vec<Option<SystemTime>> {
        self.0.lock().unwrap().since.clone()
    }

    /// So many messages in a page.
    pub(super) fn page(&self, messages: usize) {
        self.0.lock().unwrap().page = messages;
    }

    fn panic_if_scripted(&self) {
        let panics = {
            let mut account = self.0.lock().unwrap();
            let due = account.panics;
            account.panics = due.saturating_sub(1);
            due > 0
        };
        assert!(!panics, "scripted");
    }

    /// When it was asked, and whether something was known to be missing.
    pub(super) fn calls(&self) -> Vec<(Instant, bool)> {
        self.0.lock().unwrap().calls.clone()
    }
}

/// A text message as it is pushed.
pub(super) fn sms_text(n: u64) -> String {
    json!({"uuid": format!("push-{n}"), "event": SMS, "body": {"id": n.to_string(), "subject": "x"}}).to_string()
}

const SMS: &str = "/restapi/v1.0/account/1/extension/2/message-store/instant?type=SMS";

#[async_trait]
impl CatchUp for FakeSource {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn covers(&self, filter: &EventFilter) -> GapClosure {
        match filter.as_str() {
            text if text.contains("message-store") => GapClosure::Complete,
            text if text.contains("presence") && self.0.lock().unwrap().reads_presence => GapClosure::StateOnly,
            _ => GapClosure::Nothing,
        }
    }

    fn covers_messages(&self) -> bool {
        self.0.lock().unwrap().tells_messages
    }

    fn settles_after(&self) -> Duration {
        self.0.lock().unwrap().settles
    }

    fn overlap(&self) -> Duration {
        Duration::from_secs(5)
    }

    async fn begin(&self, _: &[EventFilter]) -> Result<SyncToken> {
        self.panic_if_scripted();
        let after = self.0.lock().unwrap().begins_after;
        if !after.is_zero() {
            tokio::time::sleep(after).await;
        }
        let mut account = self.0.lock().unwrap();
        if let Some(error) = account.fail_begin.pop_front() {
            return Err(error);
        }
        Ok(SyncToken::new(account.messages.len().to_string(), SystemTime::UNIX_EPOCH))
    }

    async fn sync(&self, request: SyncRequest<'_>) -> Result<SyncPage> {
        self.panic_if_scripted();
        let (slow, failure) = {
            let mut account = self.0.lock().unwrap();
            account.calls.push((Instant::now(), request.since.is_some()));
            account.since.push(request.since);
            (account.slow, account.fail.pop_front())
        };
        if let Some(slow) = slow {
            tokio::time::sleep(slow).await;
        }
        if let Some(error) = failure {
            return Err(error);
        }
        let mut account = self.0.lock().unwrap();
        let complete = account.partial == 0;
        account.partial = account.partial.saturating_sub(1);
        let mut from: usize = request.from.map_or(0, |token| token.text().expose().parse().unwrap());
        if account.nameless {
            from = from.saturating_sub(1);
        }
        let text = |n: &u64| match (account.counts, account.nameless) {
            (true, _) => json!({"changes": [{"type": "SMS", "newCount": 1, "newMessageIds": [n.to_string()]}]}),
            (false, true) => json!({"subject": n}),
            (false, false) => json!({"id": n, "subject": "x"}),
        };
        let page = if account.page == 0 { usize::MAX } else { account.page };
        let new: Vec<u64> = account.messages.iter().skip(from).take(page).copied().collect();
        let to = from + new.len();
        let uri = account.uri.unwrap_or(SMS);
        let sees = request.since.is_some() || !account.blind_checks;
        let found = new.iter().filter(|_| sees).map(|n| Found::change(uri, None, &text(n)).unwrap()).collect();
        let next = SyncToken::new(to.to_string(), SystemTime::UNIX_EPOCH);
        Ok(SyncPage::new(found, next).with_more(account.endless || to < account.messages.len()).with_complete(complete))
    }
}
