//! A service of agent sessions on loopback, as far as one call needs it: it plays that
//! call to one session, and drops one answer on its way.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{Response, StatusCode};
use axum::routing::{delete, get, post};
use axum::{Router, serve};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const CALL: &str = "900100200301";

#[derive(Default)]
struct World {
    log: Vec<Value>,
    /// Up to where each id has been told.
    cursors: HashMap<String, usize>,
    newest: String,
    call: Option<&'static str>,
    /// The next answer with events is dropped on its way.
    drops_next: bool,
    is_over: bool,
}

impl World {
    fn mint(&mut self) -> String {
        self.newest = format!("session/{}=", self.cursors.len());
        self.cursors.insert(self.newest.clone(), self.log.len());
        self.newest.clone()
    }
}

#[derive(Clone, Default)]
struct Shared(Arc<(Mutex<World>, Notify)>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, World> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: Value) {
        self.lock().log.push(event);
        self.0.1.notify_waiters();
    }
}

/// Stops when it is dropped.
pub(crate) struct Service {
    address: SocketAddr,
    shared: Shared,
    tasks: Mutex<JoinSet<()>>,
}

pub(crate) async fn start() -> io::Result<Service> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let shared = Shared::default();
    let base = "/inContactAPI/services/v23.0/agent-sessions";
    let router = Router::new()
        .route(base, post(begin))
        .route(&format!("{base}/{{id}}"), delete(end))
        .route(&format!("{base}/{{id}}/state"), post(state))
        .route(&format!("{base}/{{id}}/get-next-event"), get(poll))
        .with_state(shared.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        if let Err(error) = serve(listener, router).await {
            eprintln!("the example's service: {error}");
        }
    });
    Ok(Service { address, shared, tasks: Mutex::new(tasks) })
}

impl Service {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Plays the call, from now on.
    pub(crate) fn play(&self) {
        let shared = self.shared.clone();
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(play(shared));
    }
}

async fn play(shared: Shared) {
    let pause = || sleep(Duration::from_millis(300));
    let say = |status: &'static str, last: bool| {
        shared.lock().call = (!last).then_some(status);
        shared.push(contact(status, last));
    };
    let pop = |url: &str| json!({ "Type": "PopURL", "ContactId": CALL, "URL": url });
    pause().await;
    shared.push(json!({ "Type": "AgentState", "CurrentState": "InboundContact", "IsAcw": "False" }));
    shared.push(pop("https://crm.example/caller"));
    say("Incoming", false);
    pause().await;
    shared.push(json!({ "Type": "AgentLeg", "AgentLegId": "880010001", "Status": "Active", "FinalState": "False" }));
    say("Active", false);
    pause().await;
    shared.lock().drops_next = true;
    say("Holding", false);
    pause().await;
    sleep(Duration::from_secs(1)).await;
    say("Active", false);
    shared.push(pop("https://crm.example/offer"));
    pause().await;
    shared.push(json!({ "Type": "AgentState", "CurrentState": "Unavailable", "IsAcw": "True", "AcwTimeout": "30" }));
    say("Disconnected", false);
    pause().await;
    shared.push(json!({ "Type": "AgentState", "CurrentState": "Available", "IsAcw": "False" }));
    say("Disconnected", true);
}

fn contact(status: &str, last: bool) -> Value {
    let last = if last { "True" } else { "False" };
    json!({ "Type": "CallContactEvent", "ContactID": CALL, "Status": status, "ANI": "+12055550143", "FinalState": last })
}

fn answer(status: StatusCode, body: &Value) -> Response<Body> {
    let mut answer = Response::new(Body::from(body.to_string()));
    *answer.status_mut() = status;
    answer
}

async fn begin(State(shared): State<Shared>) -> Response<Body> {
    let mut world = shared.lock();
    let id = world.mint();
    world.log.push(json!({ "Type": "AgentSessionStart", "AgentId": "7001" }));
    answer(StatusCode::ACCEPTED, &json!({ "sessionId": id }))
}

async fn state(State(shared): State<Shared>) -> Response<Body> {
    shared.push(json!({ "Type": "AgentState", "CurrentState": "Available", "IsAcw": "False" }));
    answer(StatusCode::ACCEPTED, &json!({}))
}

async fn end(State(shared): State<Shared>) -> Response<Body> {
    shared.lock().is_over = true;
    shared.push(json!({ "Type": "AgentSessionEnd", "Message": "", "Success": "True" }));
    answer(StatusCode::ACCEPTED, &json!({}))
}

async fn poll(State(shared): State<Shared>, Path(id): Path<String>, RawQuery(query): RawQuery) -> Response<Body> {
    let seconds = query.as_deref().and_then(|query| query.strip_prefix("timeout=")).and_then(|text| text.parse().ok());
    let Some(seconds @ 0..=60) = seconds else {
        return answer(StatusCode::BAD_REQUEST, &json!({ "error": "InvalidTimeout" }));
    };
    let due = async {
        loop {
            let happened = shared.0.1.notified();
            if let Some(answer) = due(&mut shared.lock(), &id) {
                return answer;
            }
            happened.await;
        }
    };
    let nothing = || {
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        answer
    };
    timeout(Duration::from_secs(seconds), due).await.unwrap_or_else(|_| nothing())
}

/// What there is to tell for `id`, if there is something.
fn due(world: &mut World, id: &str) -> Option<Response<Body>> {
    let Some(from) = world.cursors.get(id).copied() else {
        return Some(answer(StatusCode::NOT_FOUND, &json!({ "error": "InvalidAgentSession" })));
    };
    let is_newest = id == world.newest;
    if is_newest && from == world.log.len() {
        return world.is_over.then(|| answer(StatusCode::CONFLICT, &json!({ "error": "SessionEnded" })));
    }
    let events = if is_newest {
        world.log[from..].to_vec()
    } else {
        let mut state = vec![json!({ "Type": "AgentSessionStart", "AgentId": "7001" })];
        state.push(json!({ "Type": "AgentState", "CurrentState": "InboundContact", "IsAcw": "False" }));
        state.push(json!({ "Type": "AgentLeg", "AgentLegId": "880010001", "Status": "Active", "FinalState": "False" }));
        state.extend(world.call.map(|status| contact(status, false)));
        state
    };
    let next = world.mint();
    if std::mem::take(&mut world.drops_next) {
        // Its head is sent, and the connection breaks before its body.
        let broken = stream::once(async { Err::<Vec<u8>, _>(io::Error::other("dropped by the script")) });
        return Some(Response::new(Body::from_stream(broken)));
    }
    let mut told = answer(StatusCode::OK, &json!({ "sessionId": next, "events": events }));
    if !is_newest {
        told.headers_mut().insert("icBranchValue", axum::http::HeaderValue::from_static("3"));
    }
    Some(told)
}
