//! A week at a gateway that enforces its limits: idle and absolute timeouts, sessions that are retained for three
//! minutes with a hundred events, lost connections, hours of outage. Time is paused.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, sleep_until};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::*;
use crate::delivery::GapCause;
use crate::error::Result;

const WEEK: Duration = Duration::from_secs(7 * 86_400);
const EVENTS: usize = 100_000;
/// As in `ConnectionDetails`.
const KEPT: usize = 100;
const WINDOW: Duration = Duration::from_secs(180);
const IDLE: Duration = Duration::from_secs(1800);
const ABSOLUTE: Duration = Duration::from_secs(86_400);

/// One session and the subscription in it.
#[derive(Default)]
struct Session {
    subscription: Option<String>,
    /// The connection's outbox.
    connected: Option<mpsc::UnboundedSender<String>>,
    /// Events since it was lost.
    kept: VecDeque<usize>,
    lost_at: Option<Instant>,
}

#[derive(Default)]
struct Gateway {
    sessions: Vec<Session>,
    made: usize,
    connections: usize,
    recovered: usize,
    /// Dropping one cuts its connection.
    cables: Vec<oneshot::Sender<()>>,
}

type Shared = Arc<Mutex<Gateway>>;

fn told_by(subscription: &str, n: usize) -> String {
    json!([{"type": "ServerNotification", "messageId": format!("{subscription}-{n}"), "status": 200},
           {"uuid": format!("{subscription}-{n}"), "event": "/restapi/v1.0/account/1/extension/2/message-store",
            "subscriptionId": subscription, "body": {"n": n}}])
    .to_string()
}

/// Publishes an event: every live subscription receives it, or its session retains it.
fn publish(gateway: &Shared, n: usize) {
    let mut gateway = gateway.lock().unwrap();
    for session in &mut gateway.sessions {
        let Some(id) = &session.subscription else { continue };
        let sent = session.connected.as_ref().is_some_and(|outbox| outbox.send(told_by(id, n)).is_ok());
        if sent {
            continue;
        }
        session.kept.push_back(n);
        if session.kept.len() > KEPT {
            session.kept.pop_front();
        }
    }
}

/// Resumes a session, or begins one: its number, and the first frame.
fn join(gateway: &Shared, wsc: Option<&str>, outbox: &mpsc::UnboundedSender<String>) -> (usize, Vec<String>) {
    let mut gateway = gateway.lock().unwrap();
    gateway.connections += 1;
    let known = wsc.and_then(|wsc| wsc.parse::<usize>().ok()).filter(|at| *at < gateway.sessions.len());
    if let Some(at) = known {
        let session = &mut gateway.sessions[at];
        let in_time = session.lost_at.is_some_and(|lost| lost.elapsed() <= WINDOW);
        if let (true, Some(id)) = (in_time, session.subscription.clone()) {
            let replay: Vec<_> = session.kept.drain(..).map(|n| told_by(&id, n)).collect();
            session.connected = Some(outbox.clone());
            session.lost_at = None;
            gateway.recovered += 1;
            let first = details(&at.to_string(), &json!({"recoveryState": "Successful"}));
            return (at, std::iter::once(first).chain(replay).collect());
        }
    }
    let at = gateway.sessions.len();
    gateway.sessions.push(Session { connected: Some(outbox.clone()), ..Session::default() });
    let state = if wsc.is_some() { json!({"recoveryState": "Failed"}) } else { json!({}) };
    (at, vec![details(&at.to_string(), &state)])
}

/// Answers a request.
fn answer(gateway: &Shared, at: usize, meta: &Value) -> String {
    let mut gateway = gateway.lock().unwrap();
    let path = meta["path"].as_str().unwrap_or_default();
    match meta["method"].as_str() {
        Some("POST") => {
            gateway.made += 1;
            let id = format!("s{}", gateway.made);
            gateway.sessions[at].subscription = Some(id.clone());
            reply(meta, 200, Some(info(&id)))
        }
        Some("GET") => match &gateway.sessions[at].subscription {
            Some(id) if path.ends_with(&format!("/{id}")) => reply(meta, 200, Some(info(id))),
            _ => reply(meta, 404, Some(json!({"errorCode": "CMN-102"}))),
        },
        Some("DELETE") => {
            gateway.sessions[at].subscription = None;
            reply(meta, 204, None)
        }
        other => panic!("{other:?} {path}"),
    }
}

/// Serves one connection until it ends.
async fn connection(mut peer: Peer, gateway: Shared) {
    let (outbox, mut out) = mpsc::unbounded_channel();
    let (cable, mut cut) = oneshot::channel::<()>();
    let (at, first) = join(&gateway, peer.wsc().as_deref(), &outbox);
    gateway.lock().unwrap().cables.push(cable);
    let (began, mut heard) = (Instant::now(), Instant::now());
    for text in first {
        if peer.ws.send(Message::text(text)).await.is_err() {
            break;
        }
    }
    let last = loop {
        tokio::select! {
            biased;
            _ = &mut cut => break None,
            text = out.recv() => {
                if peer.ws.send(Message::text(text.unwrap())).await.is_err() {
                    break None;
                }
            }
            message = peer.ws.next() => {
                let Some(Ok(message)) = message else { break None };
                let Message::Text(text) = message else { continue };
                heard = Instant::now();
                let frame: Vec<Value> = serde_json::from_str(&text).unwrap();
                let answer = match frame[0]["type"].as_str() {
                    Some("Heartbeat") => json!([frame[0]]).to_string(),
                    _ => answer(&gateway, at, &frame[0]),
                };
                if peer.ws.send(Message::text(answer)).await.is_err() {
                    break None;
                }
            }
            () = sleep_until(began + ABSOLUTE) => break Some("WSG-903"),
            () = sleep_until(heard + IDLE) => break Some("WSG-902"),
        }
    };
    {
        let mut gateway = gateway.lock().unwrap();
        let session = &mut gateway.sessions[at];
        session.connected = None;
        session.lost_at = Some(Instant::now());
        // Retains what had not been sent yet.
        while let Ok(text) = out.try_recv() {
            let frame: Value = serde_json::from_str(&text).unwrap();
            session.kept.push_back(frame[1]["body"]["n"].as_u64().unwrap() as usize);
        }
        assert_ne!(last, Some("WSG-902"), "heartbeats keep a connection alive");
    }
    if let Some(code) = last {
        let error = json!([{"type": "Error", "messageId": "e", "status": 408}, {"errorCode": code}]);
        let _ = peer.ws.send(Message::text(error.to_string())).await;
        let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame { code: CloseCode::Normal, reason: "".into() };
        let _ = peer.ws.close(Some(frame)).await;
    }
}

/// What a reader received: the numbers in order, a gap as `None`.
async fn read(mut subscription: Subscription) -> (Vec<Option<usize>>, Vec<GapCause>) {
    let (mut delivered, mut causes) = (Vec::new(), Vec::new());
    loop {
        match subscription.next().await {
            Some(Ok(Delivery::Notification(it))) => {
                let body: Value = it.body_as().unwrap();
                let n = body["n"].as_u64().unwrap() as usize;
                delivered.push(Some(n));
                if n == EVENTS {
                    break;
                }
            }
            Some(Ok(Delivery::Gap(gap))) => {
                causes.push(gap.cause);
                delivered.push(None);
            }
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(subscription.close().await.deleted);
    (delivered, causes)
}

#[tokio::test(start_paused = true)]
async fn a_week_of_timeouts_losses_and_outages_loses_no_event_silently() {
    let seed = 20_260_301;
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut service = Service::new();
    let gateway = Shared::default();
    let (start, scripts) = (service.start(), service.scripts());
    tokio::spawn({
        let gateway = gateway.clone();
        async move {
            loop {
                let peer = service.accept().await;
                tokio::spawn(connection(peer, gateway.clone()));
            }
        }
    });
    let subscription = start.await.unwrap().unwrap();
    wait_for(&subscription, Phase::Live).await;
    let reader = tokio::spawn(read(subscription));

    let pause = WEEK / EVENTS as u32;
    let (mut drops, mut outages, mut until) = (0, 0, None::<Instant>);
    for n in 1..=EVENTS {
        sleep(pause).await;
        // Quiet days, so that connections reach their age limit, and busy ones.
        let quiet = matches!(n * 7 / EVENTS, 1 | 2 | 4 | 5);
        if until.is_none() && !quiet && n < EVENTS - 200 && chance.usize(..200) == 0 {
            // Now and then for longer than the service retains a session.
            let long = chance.usize(..8) == 0;
            let secs = if long { chance.u64(200..1500) } else { chance.u64(0..60) };
            until = Some(Instant::now() + s(secs));
            drops += 1;
            outages += usize::from(long);
            gateway.lock().unwrap().cables.clear();
        }
        if let Some(end) = until {
            let mut refusals = scripts.lock().unwrap();
            refusals.clear();
            if Instant::now() < end {
                let refused: Result<()> = Err(Error::new(ErrorKind::Network, "down"));
                refusals.extend((0..50).map(|_| refused.clone().unwrap_err()));
            } else {
                until = None;
            }
        }
        publish(&gateway, n);
    }
    let (delivered, causes) = reader.await.unwrap();

    let (mut last, mut gap, mut missing, mut holes) = (0, false, 0, 0);
    for it in delivered {
        match it {
            None => gap = true,
            Some(n) => {
                assert!(n > last, "{n} after {last}: seed {seed}");
                if n > last + 1 {
                    assert!(gap, "{} to {} are missing without a word: seed {seed}", last + 1, n - 1);
                    missing += n - last - 1;
                    holes += 1;
                }
                (last, gap) = (n, false);
            }
        }
    }
    let gateway = gateway.lock().unwrap();
    println!(
        "{EVENTS} events, {drops} drops, {outages} long ones, {} connections, {} recovered, {} subscriptions; \
         {missing} missing in {holes} places, {} gaps: {causes:?}",
        gateway.connections,
        gateway.recovered,
        gateway.made,
        causes.len(),
    );
    assert!(drops > 100 && outages > 5, "the week was too quiet");
    let lost = causes.iter().filter(|cause| **cause == GapCause::SessionLost).count();
    assert!(gateway.made > 1 + lost + 2, "connections reach their age limit and are replaced");
    assert!(gateway.recovered > 50);
    assert!(holes <= outages, "retained events are not lost");
    assert!(lost <= outages);
}
