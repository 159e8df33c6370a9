//! Runs events and faults over both transports for two hours, with the sandbox in a separate
//! process. Prints memory, file handles and counts every five minutes. Fails if an event was
//! lost outside a gap or arrived twice, or if memory or handles grew.
//!
//! `cargo bench --bench soak`. `SOAK_SECONDS` sets how long, default 7200; `SOAK_SEED` the
//! faults; `RUST_LOG=info` shows each fault and gap.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench")]
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ringcentral_events::rest::Client;
use ringcentral_events::transport::{PubNub, WebSocket};
use ringcentral_events::{Delivery, Gap, OAuth, Subscription};
use ringcentral_sandbox::{Fault, Operation, Sandbox, Service};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;

const STORE: &str = "/restapi/v1.0/account/~/extension/~/message-store";
const PER_SECOND: u64 = 20;
/// Published at once every minute: more than the service's buffer holds.
const BURST: usize = 150;
const LIFETIME: Duration = Duration::from_secs(120);

#[derive(Serialize, Deserialize)]
struct Served {
    base_url: String,
    pubnub: String,
    client_id: String,
    client_secret: String,
    jwt: String,
}

#[derive(Deserialize)]
struct Numbered {
    n: u64,
}

fn seconds() -> u64 {
    let set = std::env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    set.unwrap_or(if std::env::args().any(|arg| arg == "--bench") { 7200 } else { 5 })
}

fn body(n: u64) -> String {
    format!(r#"{{"n":{n},"changes":[{{"type":"SMS","newCount":1,"updatedCount":0}}]}}"#)
}

/// One fault, drawn.
async fn trouble(sandbox: &Sandbox, draw: &mut fastrand::Rng) {
    let service = if draw.bool() { Service::PubNub } else { Service::Gateway };
    let calls = [Operation::Renew, Operation::Token, Operation::Create, Operation::Get, Operation::WsToken];
    let call = calls[draw.usize(..calls.len())];
    let kind = draw.u8(..12);
    tracing::info!(kind, ?service, ?call, "trouble");
    match kind {
        0 | 1 => sandbox.reset_connections(service),
        2 => sandbox.close_connections(service),
        3 => sandbox.finish_connections(service),
        4 => sandbox.stop_service_for(service, Duration::from_millis(draw.u64(500..15_000))).await,
        5 => sandbox.stop_service_for(Service::Api, Duration::from_millis(draw.u64(500..15_000))).await,
        6 => sandbox.expire_access_tokens(),
        7 => {
            if let Some(held) = sandbox.subscriptions().first() {
                sandbox.forget(&held.id);
            }
        }
        8 => drop(sandbox.faults().inject(call, Fault::status(503).times(3))),
        9 => drop(sandbox.faults().inject(call, Fault::reset().after_effect().times(1))),
        10 => drop(sandbox.faults().inject(Operation::Poll, Fault::reset_mid_body().times(2))),
        _ => drop(sandbox.faults().inject(Operation::Poll, Fault::html(502).times(2))),
    }
}

/// The other process: serves, publishes and injects faults until its input ends.
async fn serve() {
    let seed = std::env::var("SOAK_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    eprintln!("SOAK_SEED={seed}");
    let mut draw = fastrand::Rng::with_seed(seed);
    let sandbox =
        Sandbox::builder().behavior(|behavior| behavior.subscription_lifetime = LIFETIME).start().await.unwrap();
    let served = Served {
        base_url: sandbox.base_url().into(),
        pubnub: sandbox.pubnub_origin().into(),
        client_id: sandbox.client_id().into(),
        client_secret: sandbox.client_secret().expose().into(),
        jwt: sandbox.jwt().expose().into(),
    };
    println!("{}", serde_json::to_string(&served).unwrap());
    let (mut input, mut byte) = (tokio::io::stdin(), [0_u8; 1]);
    let mut due = tokio::time::interval(Duration::from_millis(1000 / PER_SECOND));
    let (mut n, mut next) = (0, Instant::now() + Duration::from_secs(5));
    loop {
        tokio::select! {
            _ = input.read(&mut byte) => return,
            _ = due.tick() => {}
        }
        if sandbox.subscriptions().is_empty() {
            continue;
        }
        let together = if (n + 1) % (PER_SECOND * 60) == 0 { BURST } else { 1 };
        let bodies: Vec<String> = (0..together as u64).map(|more| body(n + 1 + more)).collect();
        n += together as u64;
        sandbox.trigger_json_all(STORE, &bodies).unwrap();
        if Instant::now() >= next {
            trouble(&sandbox, &mut draw).await;
            next = Instant::now() + Duration::from_secs(draw.u64(10..30));
        }
    }
}

struct Apart {
    process: Child,
    served: Served,
}

impl Apart {
    fn start() -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut process = command.arg("--serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let line = BufReader::new(process.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        Self { process, served: serde_json::from_str(&line).unwrap() }
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // The end of its input ends the process.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

#[derive(Debug, Default)]
struct Counts {
    events: AtomicU64,
    gaps: AtomicU64,
    in_gaps: AtomicU64,
    silent: AtomicU64,
    twice: AtomicU64,
}

/// A run of events that did not arrive, between the send times of its neighbours. A gap may follow it: a replay that
/// fills the service's buffer is recognized by its last event.
#[derive(Debug)]
struct Missing {
    count: u64,
    from: SystemTime,
    to: SystemTime,
}

impl Missing {
    /// Events are 50 ms apart, so the first missing one was sent later than that after `from`.
    fn is_inside(&self, gap: &Gap) -> bool {
        let apart = Duration::from_millis(1000 / PER_SECOND);
        gap.since.is_none_or(|since| since <= self.from + apart)
            && gap.until.is_none_or(|until| until + apart >= self.to)
    }
}

async fn read(name: &'static str, mut subscription: Subscription, counts: Arc<Counts>, until: Instant) -> Subscription {
    let add = |what: &AtomicU64, count: u64| {
        what.fetch_add(count, Ordering::Relaxed);
    };
    let mut last = None::<(u64, SystemTime)>;
    let (mut gaps, mut missing) = (Vec::<Gap>::new(), Vec::<Missing>::new());
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let Ok(Some(delivery)) = tokio::time::timeout(left, subscription.next()).await else { break };
        match delivery.unwrap() {
            Delivery::Notification(event) => {
                let n = event.body_as::<Numbered>().unwrap().n;
                let sent = event.timestamp().unwrap().system_time().unwrap();
                // The first event may come after others that were published before the start.
                let (before, from) = last.unwrap_or((n - 1, sent));
                add(&counts.events, 1);
                add(&counts.twice, u64::from(n <= before));
                if n > before + 1 {
                    tracing::info!(name, before, n, "events are missing");
                    missing.push(Missing { count: n - before - 1, from, to: sent });
                }
                last = Some(if n > before { (n, sent) } else { (before, from) });
            }
            Delivery::Gap(gap) => {
                tracing::info!(name, ?last, ?gap, "gap");
                add(&counts.gaps, 1);
                gaps.push(gap);
            }
            Delivery::Resumed(resumed) => {
                gaps.iter_mut().for_each(|gap| gap.until = gap.until.or(Some(resumed.at)));
            }
            _ => {}
        }
        missing.retain(|missing| {
            let reported = gaps.iter().any(|gap| missing.is_inside(gap));
            add(&counts.in_gaps, if reported { missing.count } else { 0 });
            !reported
        });
    }
    for missing in missing {
        tracing::error!(name, ?missing, "lost outside every gap");
        add(&counts.silent, missing.count);
    }
    subscription
}

/// Resident bytes and open handles of this process; zeros if the system does not report them.
fn held() -> (u64, u64) {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let resident = pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096;
    let handles = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    (resident, handles)
}

fn median(samples: &[(u64, u64)], of: fn(&(u64, u64)) -> u64) -> u64 {
    let mut values: Vec<u64> = samples.iter().map(of).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

async fn soak() -> bool {
    let apart = Apart::start();
    let served = &apart.served;
    let login = OAuth::jwt(served.client_id.as_str(), served.jwt.as_str())
        .client_secret(served.client_secret.as_str())
        .server(served.base_url.as_str())
        .build()
        .unwrap();
    let client = Client::builder(login).build().unwrap();
    let until = Instant::now() + Duration::from_secs(seconds());
    let mut readers = Vec::new();
    let names = ["pubnub", "websocket"];
    for name in names {
        let builder = client.subscribe([STORE.parse().unwrap()]);
        let builder = if name == "pubnub" {
            builder.transport(PubNub::builder().origin(served.pubnub.as_str()).build().unwrap())
        } else {
            builder.transport(WebSocket::builder().build().unwrap())
        };
        let counts = Arc::new(Counts::default());
        let reader = tokio::spawn(read(name, builder.start().await.unwrap(), counts.clone(), until));
        readers.push((counts, reader));
    }
    let mut samples = Vec::new();
    let mut due = tokio::time::interval(Duration::from_secs(10));
    while Instant::now() < until {
        due.tick().await;
        samples.push(held());
        if samples.len() % 30 == 1 {
            let (resident, handles) = held();
            println!(
                "{:>5} s  {:.1} MiB  {handles} handles",
                samples.len() * 10 - 10,
                resident as f64 / (1 << 20) as f64
            );
            for (name, (counts, _)) in names.iter().zip(&readers) {
                println!("         {name}: {counts:?}");
            }
        }
    }
    let mut sound = true;
    for (name, (counts, reader)) in names.iter().zip(readers) {
        let closed = reader.await.unwrap().close().await;
        println!("{name}: {counts:?}, deleted {}", closed.deleted);
        let count = |what: &AtomicU64| what.load(Ordering::Relaxed);
        sound &= count(&counts.silent) == 0 && count(&counts.twice) == 0 && count(&counts.events) > 0;
    }
    let quarter = samples.len() / 4;
    if quarter >= 10 {
        let (early, late) = (&samples[quarter..2 * quarter], &samples[3 * quarter..]);
        let (memory, handles) = (|it: &(u64, u64)| it.0, |it: &(u64, u64)| it.1);
        let (memory_early, memory_late) = (median(early, memory), median(late, memory));
        let (handles_early, handles_late) = (median(early, handles), median(late, handles));
        println!(
            "median of the second and the last quarter: {:.1} and {:.1} MiB, {handles_early} and {handles_late} handles",
            memory_early as f64 / (1 << 20) as f64,
            memory_late as f64 / (1 << 20) as f64,
        );
        sound &= memory_late <= memory_early + memory_early / 10 + (1 << 20) && handles_late <= handles_early + 2;
    }
    sound
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let shown = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "error".into());
    tracing_subscriber::fmt().with_env_filter(shown).with_writer(std::io::stderr).init();
    if std::env::args().any(|arg| arg == "--serve") {
        return serve().await;
    }
    std::process::exit(i32::from(!soak().await));
}
