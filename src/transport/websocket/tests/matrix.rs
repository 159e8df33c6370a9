//! Every fault in every phase of a connection's life: the subscription survives, or ends with an error that names the
//! cause; no later event is lost, none is delivered twice, and possible losses are reported.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::sync::Notify;

use super::super::dial::refusal;
use super::*;
use crate::http::envelope::error_from;

/// The kind of fault.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Status(u16),
    TimeOut,
    /// A DNS failure, or no listener.
    Refused,
    Tls,
    Reset,
    Close(u16),
    Malformed,
    Large,
}

const FAULTS: [Fault; 17] = [
    Fault::Status(400),
    Fault::Status(401),
    Fault::Status(403),
    Fault::Status(404),
    Fault::Status(429),
    Fault::Status(500),
    Fault::Status(503),
    Fault::TimeOut,
    Fault::Refused,
    Fault::Tls,
    Fault::Reset,
    Fault::Close(1000),
    Fault::Close(1006),
    Fault::Close(1011),
    Fault::Close(4400),
    Fault::Malformed,
    Fault::Large,
];

/// When it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Token,
    Dial,
    Details,
    Subscribe,
    Steady,
    Heartbeat,
    Recovery,
    RollOver,
}

const PHASES: [Phase; 8] = [
    Phase::Token,
    Phase::Dial,
    Phase::Details,
    Phase::Subscribe,
    Phase::Steady,
    Phase::Heartbeat,
    Phase::Recovery,
    Phase::RollOver,
];

/// The error that ends the subscription, if the fault does.
fn fatal(fault: Fault, phase: Phase) -> Option<ErrorKind> {
    match (fault, phase) {
        // The service's answer about the app.
        (Fault::Status(403), Phase::Token) => Some(ErrorKind::Permission),
        (Fault::Status(403), Phase::Subscribe) => Some(ErrorKind::Permission),
        // The service's answer about the request.
        (Fault::Status(400), Phase::Subscribe) => Some(ErrorKind::Rejected),
        (Fault::Status(404), Phase::Subscribe) => Some(ErrorKind::NotFound),
        (Fault::Status(400), Phase::Token) => Some(ErrorKind::Rejected),
        _ => None,
    }
}

/// An HTTP fault, as the layer below reports it.
fn error(fault: Fault, phase: Phase) -> Error {
    let none = http::HeaderMap::new();
    match fault {
        Fault::Status(status) if phase == Phase::Token => error_from(status, &none, b"", &[]),
        Fault::Status(status) => refusal(status, &none, b"", &[]),
        Fault::TimeOut => Error::new(ErrorKind::Timeout, "no answer in time"),
        Fault::Refused | Fault::Tls => Error::new(ErrorKind::Network, "no connection"),
        Fault::Reset | Fault::Close(_) => Error::new(ErrorKind::Network, "the connection broke"),
        Fault::Malformed | Fault::Large => Error::new(ErrorKind::Protocol, "the answer is not valid JSON"),
    }
}

/// The service as all its connections see it.
#[derive(Default)]
struct World {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Events that no connection has sent.
    waiting: VecDeque<usize>,
    /// The number of subscriptions created.
    made: usize,
    armed: bool,
    hit: bool,
}

impl World {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let outcome = change(&mut self.state.lock().unwrap());
        self.changed.notify_waiters();
        outcome
    }

    async fn until(&self, wanted: impl Fn(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            if wanted(&self.state.lock().unwrap()) {
                return;
            }
            changed.await;
        }
    }

    /// Whether to inject the fault now; at most once.
    fn strikes(&self, here: bool) -> bool {
        here && self.with(|state| {
            let now = state.armed && !state.hit;
            state.hit |= now;
            now
        })
    }
}

/// What follows on the connection after a fault.
enum After {
    Goes,
    IsDeaf,
    GoesOn,
}

/// Injects a fault on an open connection, in answer to `asked` if given.
async fn play(fault: Fault, peer: &mut Peer, asked: Option<&Value>) -> After {
    let text = match (fault, asked) {
        (Fault::Status(status), Some(meta)) if meta["type"] == "ClientRequest" => reply(meta, status, None),
        (Fault::Status(status), asked) => {
            let id = asked.map_or(json!("e"), |meta| meta["messageId"].clone());
            json!([{"type": "Error", "messageId": id, "status": status}, {"errorCode": format!("WSG-{status}")}])
                .to_string()
        }
        (Fault::Malformed, _) => "[{\"type\":".to_owned(),
        (Fault::Large, _) => format!("[{{\"type\":\"New\"}},\"{}\"]", "x".repeat(5_000_000)),
        (Fault::TimeOut, _) => return After::IsDeaf,
        (Fault::Close(code), _) if code != 1006 => {
            peer.close(code).await;
            return After::Goes;
        }
        (Fault::Close(_) | Fault::Refused | Fault::Tls | Fault::Reset, _) => return After::Goes,
    };
    // The client may have disconnected.
    if peer.ws.send(Message::text(text)).await.is_err() {
        return After::Goes;
    }
    After::GoesOn
}

/// Serves one connection until its client disconnects, or the fault is injected.
async fn serve(world: Arc<World>, mut peer: Peer, fault: Fault, phase: Phase) {
    let wsc = peer.wsc();
    let strikes = world.strikes(phase == Phase::Details || phase == Phase::Recovery && wsc.is_some());
    if strikes {
        return match play(fault, &mut peer, None).await {
            After::Goes => {}
            After::IsDeaf | After::GoesOn => while peer.next().await.is_some() {},
        };
    }
    let mut id = wsc.as_deref().and_then(|wsc| wsc.strip_prefix("W-")).map(str::to_owned);
    let mut terms = json!({"absoluteTimeout": 3600});
    if id.is_some() {
        terms["recoveryState"] = "Successful".into();
    }
    let fresh = world.with(|state| format!("s{}", state.made + 1));
    peer.details(&format!("W-{}", id.as_deref().unwrap_or(&fresh)), terms).await;
    loop {
        let changed = world.changed.notified();
        if let Some(id) = &id {
            let waiting = world.state.lock().unwrap().waiting.drain(..).collect::<Vec<_>>();
            for n in waiting {
                peer.event(id, n).await;
            }
        }
        let asked = tokio::select! {
            asked = peer.frame() => asked,
            () = changed => {
                if world.strikes(phase == Phase::Steady) {
                    match play(fault, &mut peer, None).await {
                        After::Goes => return,
                        After::IsDeaf => break,
                        After::GoesOn => {}
                    }
                }
                continue;
            }
        };
        let Some((meta, _)) = asked else { return };
        let method = meta["method"].as_str();
        if world.strikes(
            phase == Phase::Subscribe && method == Some("POST") || phase == Phase::Heartbeat && method.is_none(),
        ) {
            match play(fault, &mut peer, Some(&meta)).await {
                After::Goes => return,
                After::IsDeaf => break,
                After::GoesOn => continue,
            }
        }
        let answer = match method {
            None => json!([meta]).to_string(),
            Some("DELETE") => reply(&meta, 204, None),
            Some("POST") => {
                let made = world.with(|state| {
                    state.made += 1;
                    format!("s{}", state.made)
                });
                reply(&meta, 200, Some(info(id.insert(made))))
            }
            Some(_) => reply(&meta, 200, Some(info(id.as_deref().unwrap()))),
        };
        if peer.ws.send(Message::text(answer)).await.is_err() {
            return;
        }
    }
    while peer.next().await.is_some() {}
}

/// Runs one row: the deliveries, or the error.
async fn run(fault: Fault, phase: Phase) -> Result<Vec<String>, Error> {
    let mut service = Service::with(WebSocket::builder().max_message(1 << 20));
    let https = service.https.clone();
    let (builder, scripts) = (service.builder(), service.scripts());
    let world = Arc::new(World::default());
    let gateway = world.clone();
    let door = tokio::spawn(async move {
        loop {
            let peer = service.accept().await;
            tokio::spawn(serve(gateway.clone(), peer, fault, phase));
        }
    });
    let _door = AbortOnDrop(door);
    match phase {
        Phase::Token => https.refuse_token(error(fault, phase)),
        Phase::Dial => scripts.lock().unwrap().push_back(error(fault, phase)),
        Phase::Details | Phase::Subscribe => world.with(|state| state.armed = true),
        Phase::Steady | Phase::Heartbeat | Phase::Recovery | Phase::RollOver => {}
    }
    let mut subscription = builder.start().await?;
    let mut delivered = Vec::new();
    publish(&world, &mut subscription, 1, &mut delivered).await?;
    match phase {
        Phase::Token | Phase::Dial | Phase::Details | Phase::Subscribe => {}
        Phase::Steady | Phase::Heartbeat => {
            world.with(|state| state.armed = true);
            world.until(|state| state.hit).await;
        }
        Phase::Recovery => {
            world.with(|state| state.armed = true);
            subscription.handle().revalidate().await?;
            world.until(|state| state.hit).await;
        }
        Phase::RollOver => {
            scripts.lock().unwrap().push_back(error(fault, phase));
            world.until(|state| state.made == 2).await;
            assert!(scripts.lock().unwrap().is_empty(), "{fault:?}");
        }
    }
    for n in 2..=3 {
        publish(&world, &mut subscription, n, &mut delivered).await?;
    }
    assert!(subscription.close().await.deleted, "{fault:?} {phase:?}");
    Ok(delivered)
}

/// Publishes event `n` and reads up to it.
async fn publish(
    world: &World,
    subscription: &mut Subscription,
    n: usize,
    delivered: &mut Vec<String>,
) -> Result<(), Error> {
    world.with(|state| state.waiting.push_back(n));
    loop {
        let word = match subscription.next().await.unwrap()? {
            Delivery::Notification(it) => it.uuid().unwrap_or_default().to_owned(),
            Delivery::Gap(gap) => format!("gap {}", gap.cause.as_str()),
            Delivery::Resumed(_) => "resumed".into(),
            other => format!("{other:?}"),
        };
        let done = word == n.to_string();
        delivered.push(word);
        if done {
            return Ok(());
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn w04_the_subscription_survives_every_fault_in_every_phase_or_names_it() {
    let mut rows = 0;
    for phase in PHASES {
        for fault in FAULTS {
            let what = format!("{fault:?} at {phase:?}");
            let outcome = tokio::time::timeout(s(3 * 3600), run(fault, phase)).await;
            let outcome = outcome.unwrap_or_else(|_| panic!("{what}: nothing came of it"));
            match (outcome, fatal(fault, phase)) {
                (Err(error), Some(kind)) => {
                    assert_eq!((error.kind(), error.disposition()), (kind, Disposition::Fatal), "{what}");
                }
                (Err(error), None) => panic!("{what}: {error:?}"),
                (Ok(delivered), Some(_)) => panic!("{what}: {delivered:?}"),
                (Ok(delivered), None) => check(&what, &delivered),
            }
            rows += 1;
        }
    }
    println!("{rows} rows");
    assert_eq!(rows, FAULTS.len() * PHASES.len());
}

/// Each event arrives once and in order; a number may be missing only behind a gap.
fn check(what: &str, delivered: &[String]) {
    let (mut expected, mut gap) = (1, false);
    for word in delivered {
        match word.parse::<usize>() {
            Ok(n) => {
                assert!(n == expected || gap && n > expected, "{what}: {delivered:?}");
                (expected, gap) = (n + 1, false);
            }
            Err(_) if word.starts_with("gap") => gap = true,
            Err(_) if word.starts_with("Undecodable") && what.starts_with("Malformed") => {}
            Err(_) => assert_eq!(word, "resumed", "{what}: {delivered:?}"),
        }
    }
    let gaps = delivered.iter().filter(|word| word.starts_with("gap")).count();
    assert!(gaps <= 1, "{what}: one outage, one gap: {delivered:?}");
}
