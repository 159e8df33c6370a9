//! A shift of eight hours against a model of the service, in virtual time: sent events arrive in order, and those that
//! do not lie inside a gap.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::client::Calls;
use super::delivery::AgentDelivery;
use super::machine::SessionOrigin;
use super::station::Station;
use super::{AgentCursor, AgentEvent, AgentOrigin, AgentSession, AgentSessionBuilder, Desk, EndReason};
use crate::auth::{AccessToken, StaticToken};
use crate::error::{Error, ErrorKind, Result};
use crate::http::Answer;
use crate::secret::Secret;

const SHIFT: Duration = Duration::from_secs(8 * 60 * 60);

/// The service's reaction to an id that is not its newest.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stale {
    Snapshot,
    Replay,
}

#[derive(Debug)]
struct World {
    rng: Rng,
    stale: Stale,
    /// Whether `icBranchValue` is sent.
    branch: bool,
    log: Vec<Value>,
    /// The first event that the service still has as a single event.
    kept_from: usize,
    cursors: HashMap<String, usize>,
    newest: String,
    contacts: BTreeMap<String, &'static str>,
    token: u32,
    refused_before: u32,
    in_flight: u32,
    overlaps: u32,
    polls: u32,
    stale_polls: u32,
    transient: u32,
    last_answer: Option<Instant>,
    /// The longest time from a good answer to the poll after it.
    slowest: Duration,
    ended: bool,
}

#[derive(Clone, Debug)]
struct Model(Arc<(Mutex<World>, Notify)>);

/// One poll in flight.
struct InFlight(Model);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.with(|world| world.in_flight -= 1);
    }
}

impl World {
    fn mint(&mut self) -> String {
        self.newest = format!("S{}/{}", self.cursors.len(), self.rng.u64(..));
        self.cursors.insert(self.newest.clone(), self.log.len());
        self.newest.clone()
    }

    fn push(&mut self, event: Value) {
        self.log.push(event);
    }

    fn snapshot(&self) -> Vec<Value> {
        let mut events = vec![json!({ "Type": "AgentState", "CurrentState": "Available" })];
        events.extend(self.contacts.iter().map(|(id, status)| contact(id, status, false)));
        events.push(json!({ "Type": "AgentSessionStart", "AgentId": "7001" }));
        events
    }

    /// The events for a poll with `id`, and whether they are a snapshot.
    fn due(&mut self, id: &str) -> (Vec<Value>, bool) {
        let from = self.cursors[id];
        let is_stale = id != self.newest;
        if is_stale {
            self.stale_polls += 1;
        }
        let told = from >= self.kept_from && (!is_stale || self.stale == Stale::Replay);
        if told { (self.log[from..].to_vec(), false) } else { (self.snapshot(), true) }
    }
}

impl Model {
    fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        act(&mut self.0.0.lock().unwrap())
    }
}

fn contact(id: &str, status: &str, last: bool) -> Value {
    let last = if last { "True" } else { "False" };
    json!({ "Type": "CallContactEvent", "ContactID": id, "Status": status, "FinalState": last })
}

fn answer(status: StatusCode, body: String, branch: Option<&'static str>) -> Answer {
    let mut headers = HeaderMap::new();
    if let Some(branch) = branch {
        headers.insert("icBranchValue", branch.parse().unwrap());
    }
    Answer { status, headers, body: body.into() }
}

#[async_trait]
impl Calls for Model {
    async fn token(&self, _life: Duration) -> Result<AccessToken> {
        Ok(AccessToken::new(self.with(|world| world.token).to_string()))
    }

    async fn refresh(&self, refused: &AccessToken) -> Result<AccessToken> {
        if self.with(|world| world.rng.u8(..) < 60) {
            return Err(Error::new(ErrorKind::Service, "the token service is down"));
        }
        self.with(|world| {
            if refused.secret().expose() == world.token.to_string() {
                world.token += 1;
            }
        });
        self.token(Duration::ZERO).await
    }

    async fn poll(&self, id: &Secret, token: &AccessToken, ask: Duration, within: Duration) -> Result<Answer> {
        let id = id.expose().to_owned();
        let (dice, expired) = self.with(|world| {
            world.polls += 1;
            world.in_flight += 1;
            world.overlaps += u32::from(world.in_flight > 1);
            if let Some(at) = world.last_answer.take() {
                world.slowest = world.slowest.max(at.elapsed());
            }
            let dice = world.rng.u32(0..1000);
            world.transient += u32::from(dice < 120);
            (dice, token.secret().expose().parse::<u32>().unwrap() < world.refused_before)
        });
        let _in_flight = InFlight(self.clone());
        let broken = || Error::new(ErrorKind::Network, "the connection broke").with_ambiguous(true);
        if expired {
            return Ok(answer(StatusCode::UNAUTHORIZED, String::new(), None));
        }
        match dice {
            0..10 => return Ok(answer(StatusCode::SERVICE_UNAVAILABLE, String::new(), None)),
            10..20 => return Ok(answer(StatusCode::BAD_GATEWAY, "<html>".into(), None)),
            20..35 => return Err(broken()),
            35..45 => {
                sleep(within).await;
                return Err(Error::new(ErrorKind::Timeout, "no answer").with_ambiguous(true));
            }
            45..50 => return Err(Error::new(ErrorKind::Network, "no connection")),
            _ => {}
        }
        let until = Instant::now() + ask;
        loop {
            let woken = self.0.1.notified();
            let due = self.with(|world| {
                assert!(world.cursors.contains_key(&id), "an id that was never issued");
                if world.ended && world.cursors[&id] == world.log.len() {
                    return Some(answer(StatusCode::CONFLICT, String::new(), Some("4")));
                }
                if world.cursors[&id] == world.log.len() && id == world.newest {
                    return None;
                }
                let (events, is_snapshot) = world.due(&id);
                let next = world.mint();
                let branch = world.branch.then_some(if is_snapshot { "3" } else { "1" });
                Some(answer(StatusCode::OK, json!({ "sessionId": next, "events": events }).to_string(), branch))
            });
            match due {
                // The cursor has moved; the answer is lost wholly or in part.
                Some(_) if (50..90).contains(&dice) => return Err(broken()),
                Some(told) if (90..100).contains(&dice) => {
                    return Ok(Answer { body: told.body.slice(..told.body.len() / 2), ..told });
                }
                Some(told) => {
                    self.with(|world| world.last_answer = Some(Instant::now()));
                    return Ok(told);
                }
                None => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if timeout(left, woken).await.is_err() {
                self.with(|world| world.last_answer = Some(Instant::now()));
                return Ok(answer(StatusCode::NOT_MODIFIED, String::new(), None));
            }
        }
    }

    async fn start(&self, _station: &Station) -> Result<Secret> {
        Ok(Secret::new(self.with(World::mint)))
    }

    async fn join(&self, _agent: Option<&str>) -> Result<Secret> {
        Ok(Secret::new(self.with(World::mint)))
    }

    async fn end(&self, _id: &Secret, _query: &[(&str, String)]) -> Result<()> {
        Ok(())
    }

    async fn set_state(&self, _id: &Secret, _state: &str, _reason: Option<&str>) -> Result<()> {
        Ok(())
    }
}

/// Simulates the agent's shift; returns the number of one-shots.
async fn work(model: Model) -> u64 {
    let begun = Instant::now();
    let mut sent = 0;
    let mut calls = 0_u32;
    while begun.elapsed() < SHIFT {
        let pause = model.with(|world| world.rng.u64(0..40_000));
        sleep(Duration::from_millis(pause)).await;
        model.with(|world| {
            match world.rng.u8(0..10) {
                0..5 => {
                    world.push(json!({ "type": "CustomEvent", "eventName": sent.to_string(), "data": "" }));
                    sent += 1;
                }
                5..7 if world.contacts.len() < 4 => {
                    calls += 1;
                    let id = calls.to_string();
                    world.push(contact(&id, "Incoming", false));
                    world.contacts.insert(id, "Incoming");
                }
                7 => {
                    if let Some(id) = world.contacts.keys().next().cloned() {
                        world.push(contact(&id, "Disconnected", true));
                        world.contacts.remove(&id);
                    }
                }
                _ => {
                    if let Some((id, status)) = world.contacts.iter_mut().next_back() {
                        *status = if *status == "Active" { "Holding" } else { "Active" };
                        let event = contact(id, status, false);
                        world.push(event);
                    }
                }
            }
            // The token expires about each hour, and the service's queue overflows.
            if world.rng.u16(0..90) == 0 {
                world.refused_before = world.token + 1;
            }
            if world.rng.u16(0..120) == 0 {
                world.kept_from = world.log.len();
            }
        });
        model.0.1.notify_waiters();
    }
    // The last events are delivered for certain, so the desk can be compared with the model.
    model.with(|world| {
        world.push(json!({ "Type": "AgentSessionEnd", "Success": "True" }));
        world.ended = true;
    });
    model.0.1.notify_waiters();
    sent
}

async fn shift(seed: u64, stale: Stale, branch: bool) {
    let world = World {
        rng: Rng::with_seed(seed),
        stale,
        branch,
        log: vec![json!({ "Type": "AgentSessionStart", "AgentId": "7001" })],
        kept_from: 0,
        cursors: HashMap::new(),
        newest: String::new(),
        contacts: BTreeMap::new(),
        token: 0,
        refused_before: 0,
        in_flight: 0,
        overlaps: 0,
        polls: 0,
        stale_polls: 0,
        transient: 0,
        last_answer: None,
        slowest: Duration::ZERO,
        ended: false,
    };
    let model = Model(Arc::new((Mutex::new(world), Notify::new())));
    // The session's first events wait in its queue.
    let first = model.with(|world| {
        let id = world.mint();
        world.cursors.insert(id.clone(), 0);
        id
    });
    let builder: AgentSessionBuilder = AgentSession::builder(StaticToken::new(AccessToken::new("unused")));
    let session = builder.session(model.clone(), AgentCursor::from_text(first), SessionOrigin::Started);
    let mut events = session.events().unwrap();
    let worker = tokio::spawn(work(model.clone()));

    let (mut desk, mut before_end) = (Desk::new(), Desk::new());
    // How many gaps were reported before each one-shot that arrived.
    let (mut arrived, mut gaps) = (Vec::new(), 0_u64);
    let mut last = None;
    while let Some(delivery) = events.next().await {
        let delivery = delivery.unwrap();
        match &delivery {
            AgentDelivery::Gap(_) => gaps += 1,
            AgentDelivery::Notification(event) => {
                if let AgentEvent::Custom(custom) = event.event() {
                    assert_eq!(event.origin(), AgentOrigin::Live);
                    arrived.push((custom.name.as_ref().unwrap().parse::<u64>().unwrap(), gaps));
                }
            }
            AgentDelivery::SessionEnded(ended) => {
                last = Some(ended.reason.clone());
                before_end = desk.clone();
            }
            _ => {}
        }
        desk.apply(&delivery);
    }
    let sent = worker.await.unwrap();
    assert!(matches!(last, Some(EndReason::Asked | EndReason::Conflict)), "{last:?}");

    let mut missing = 0;
    let (mut wanted, mut gaps_before) = (0, 0);
    for (name, gaps_then) in arrived.into_iter().chain([(sent, gaps)]) {
        assert!(name >= wanted, "{name} came again, or late (seed {seed})");
        if name > wanted {
            assert!(gaps_then > gaps_before, "{wanted}..{name} are missing without a gap (seed {seed})");
            missing += name - wanted;
        }
        (wanted, gaps_before) = (name + 1, gaps_then);
    }
    model.with(|world| {
        let there: Vec<_> =
            before_end.contacts().map(|(id, it)| (id.to_string(), it.status.clone().unwrap().to_string())).collect();
        let want: Vec<_> = world.contacts.iter().map(|(id, status)| (id.clone(), (*status).to_owned())).collect();
        assert_eq!(there, want, "the desk (seed {seed})");
        assert_eq!(world.overlaps, 0, "two polls at a time (seed {seed})");
        assert!(world.slowest <= Duration::from_millis(50), "{:?} until the next poll (seed {seed})", world.slowest);
        assert!(world.transient > 20 && world.stale_polls > 5 && sent > 300, "the shift was too quiet (seed {seed})");
        if stale == Stale::Snapshot {
            assert!(gaps > 3, "{gaps} gaps, {missing} missing of {sent} (seed {seed})");
        }
    });
}

#[tokio::test(start_paused = true)]
async fn eight_hours_with_faults_lose_no_event_silently() {
    for seed in 0..8 {
        for stale in [Stale::Snapshot, Stale::Replay] {
            for branch in [true, false] {
                shift(seed, stale, branch).await;
            }
        }
    }
}
