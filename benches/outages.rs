//! Measures outages on real sockets. The service publishes five events a second and is down
//! for 10 s and for 60 s; there is no catch-up. Prints how long after the service each
//! subscription recovered, and how many events were lost. Fails if an event was lost outside
//! a gap or arrived twice.
//!
//! `cargo bench --bench outages` (about 90 s). `RUNS` sets how many outages run side by
//! side for each length and transport, default 20.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench")]
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use ringcentral_events::rest::Client;
use ringcentral_events::transport::{PubNub, WebSocket};
use ringcentral_events::{Delivery, GapCause, OAuth, Phase, Subscription, SubscriptionBuilder};
use ringcentral_sandbox::{Sandbox, Service};
use serde::Deserialize;

const STORE: &str = "/restapi/v1.0/account/~/extension/~/message-store";
const EVERY: Duration = Duration::from_millis(200);
/// How many events the sandbox's PubNub and gateway buffer for a disconnected client.
const SERVICE_BUFFER: u64 = 100;

#[derive(Deserialize)]
struct Numbered {
    n: u64,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    transport: Service,
    away: Duration,
    /// Before the outage, and after it.
    around: Duration,
}

#[derive(Debug)]
struct Run {
    /// From the service's return to `Live`, and to the next event.
    live: Duration,
    event: Duration,
    emitted: u64,
    received: u64,
    /// Missing before an event, with a gap between it and the event before.
    in_gaps: u64,
    silent: u64,
    twice: u64,
    /// Causes of the gaps.
    gaps: Vec<GapCause>,
}

async fn publish(sandbox: Arc<Sandbox>, stop: Arc<AtomicBool>) -> u64 {
    let mut due = tokio::time::interval(EVERY);
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        due.tick().await;
        n += 1;
        let body = format!(r#"{{"n":{n},"changes":[{{"type":"SMS","newCount":1,"updatedCount":0}}]}}"#);
        sandbox.trigger_json(STORE, &body).unwrap();
    }
    n
}

/// Returns the deliveries, each with its time of arrival.
async fn read(mut subscription: Subscription, stop: Arc<AtomicBool>) -> (Vec<(Instant, Delivery)>, Subscription) {
    let mut came = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        if let Ok(Some(delivery)) = tokio::time::timeout(EVERY, subscription.next()).await {
            came.push((Instant::now(), delivery.unwrap()));
        }
    }
    (came, subscription)
}

fn builder(sandbox: &Sandbox, transport: Service) -> SubscriptionBuilder {
    let login = OAuth::jwt(sandbox.client_id(), sandbox.jwt())
        .client_secret(sandbox.client_secret())
        .server(sandbox.base_url())
        .build()
        .unwrap();
    let builder = Client::builder(login).build().unwrap().subscribe([STORE.parse().unwrap()]);
    if transport == Service::PubNub {
        builder.transport(PubNub::builder().origin(sandbox.pubnub_origin()).build().unwrap())
    } else {
        builder.transport(WebSocket::builder().build().unwrap())
    }
}

async fn run(plan: Plan) -> Run {
    let sandbox = Arc::new(Sandbox::start().await.unwrap());
    let subscription = builder(&sandbox, plan.transport).start().await.unwrap();
    let mut status = subscription.status();
    status.wait_for(|status| status.phase == Phase::Live).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let publisher = tokio::spawn(publish(sandbox.clone(), stop.clone()));
    let enough = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn(read(subscription, enough.clone()));
    tokio::time::sleep(plan.around).await;
    sandbox.stop_service(plan.transport).await;
    sandbox.stop_service(Service::Api).await;
    tokio::time::sleep(plan.away).await;
    sandbox.start_service(Service::Api).await;
    sandbox.start_service(plan.transport).await;
    let back = Instant::now();
    status.wait_for(|status| status.phase == Phase::Live).await.unwrap();
    let live = back.elapsed();
    tokio::time::sleep(plan.around).await;
    stop.store(true, Ordering::Relaxed);
    let emitted = publisher.await.unwrap();
    enough.store(true, Ordering::Relaxed);
    let (mut came, subscription) = reader.await.unwrap();
    came.extend(subscription.close().await.unread.into_iter().map(|delivery| (Instant::now(), delivery)));
    let is_event = |delivery: &Delivery| matches!(delivery, Delivery::Notification(_));
    let first = came.iter().find(|(at, delivery)| *at >= back && is_event(delivery));
    let event = first.map_or(Duration::MAX, |(at, _)| *at - back);
    judge(
        emitted,
        came.into_iter().map(|(_, delivery)| delivery),
        Run { live, event, emitted, received: 0, in_gaps: 0, silent: 0, twice: 0, gaps: Vec::new() },
    )
}

fn judge(emitted: u64, came: impl Iterator<Item = Delivery>, mut run: Run) -> Run {
    let (mut expected, mut gap) = (1, false);
    let mut missing = |run: &mut Run, upto: u64, gap: bool| {
        let count = upto.saturating_sub(expected);
        *(if gap { &mut run.in_gaps } else { &mut run.silent }) += count;
        expected = expected.max(upto + 1);
    };
    let mut last = 0;
    for delivery in came {
        match delivery {
            Delivery::Notification(event) => {
                let n = event.body_as::<Numbered>().unwrap().n;
                run.received += 1;
                run.twice += u64::from(n <= last);
                missing(&mut run, n, gap);
                (last, gap) = (last.max(n), false);
            }
            Delivery::Gap(found) => {
                run.gaps.push(found.cause);
                gap = true;
            }
            _ => {}
        }
    }
    missing(&mut run, emitted + 1, gap);
    run
}

/// The middle one and the highest, in seconds.
fn seconds(mut of: Vec<Duration>) -> (f64, f64) {
    of.sort();
    (of[of.len() / 2].as_secs_f64(), of[of.len() - 1].as_secs_f64())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let measured = std::env::args().any(|arg| arg == "--bench");
    let set = std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok());
    let runs: usize = set.unwrap_or(if measured { 20 } else { 1 });
    let lengths: &[u64] = if measured { &[10, 60] } else { &[1] };
    let around = Duration::from_secs(if measured { 10 } else { 1 });
    println!(
        "transport  away  runs  live median/max  event median/max  emitted  received  in gaps  expected lost  silent  twice  causes"
    );
    let mut failed = false;
    for (transport, name) in [(Service::PubNub, "pubnub"), (Service::Gateway, "websocket")] {
        for &away in lengths {
            let plan = Plan { transport, away: Duration::from_secs(away), around };
            let done = join_all((0..runs).map(|_| tokio::spawn(run(plan)))).await;
            let done: Vec<Run> = done.into_iter().map(|run| run.unwrap()).collect();
            let (live, live_max) = seconds(done.iter().map(|run| run.live).collect());
            let (event, event_max) = seconds(done.iter().map(|run| run.event).collect());
            let sum = |of: fn(&Run) -> u64| done.iter().map(of).sum::<u64>();
            let mut causes: Vec<&str> = done.iter().flat_map(|run| &run.gaps).map(GapCause::as_str).collect();
            causes.sort_unstable();
            causes.dedup();
            let overflow = (away * 5).saturating_sub(SERVICE_BUFFER) * runs as u64;
            let (silent, twice) = (sum(|run| run.silent), sum(|run| run.twice));
            println!(
                "{name:<9}  {away:>3}s  {runs:>4}  {live:>6.2} / {live_max:<6.2}  {event:>7.2} / {event_max:<6.2}  {:>7}  {:>8}  {:>7}  {overflow:>13}  {silent:>6}  {twice:>5}  {}",
                sum(|run| run.emitted),
                sum(|run| run.received),
                sum(|run| run.in_gaps),
                causes.join(" "),
            );
            failed |= silent > 0 || twice > 0;
        }
    }
    std::process::exit(i32::from(failed));
}
