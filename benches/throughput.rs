//! Measures an event's cost, against the minimum. Compare the figures of one run with each other. No time makes it
//! fail.
//!
//! `cargo bench --bench throughput`

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench")]
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::hint::black_box;
use std::io::{BufRead as _, BufReader};
use std::num::NonZeroUsize;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ecb::cipher::block_padding::Pkcs7;
use ecb::cipher::{BlockModeDecrypt as _, KeyInit as _};
use futures_util::StreamExt as _;
use ringcentral_events::codec::{self, Cipher};
use ringcentral_events::control::{Cursor, DeliveryModeRequest};
use ringcentral_events::rest::Client;
use ringcentral_events::transport::{
    Coverage, Frame, FrameBody, Link, LinkBatch, LinkEvent, PubNub, Target, Transport, TransportKind, WebSocket,
};
use ringcentral_events::{Delivery, EventFilter, Notification, OAuth, Origin, Result, Secret, Subscription};
use ringcentral_sandbox::{Sandbox, encrypt};
use serde_json::value::RawValue;

const KEY: &str = "pdj+XYIRRBryWS2k33qXiA==";
const STORE: &str = "/restapi/v1.0/account/~/extension/~/message-store";
/// Events to measure the queue with; few if `cargo test` only runs it.
fn events() -> usize {
    if std::env::args().any(|arg| arg == "--bench") { 100_000 } else { 2_000 }
}

/// Subscriptions to measure the memory with.
const IDLE: usize = 500;

/// An event of about one kilobyte.
fn event(n: usize) -> String {
    let body = format!(
        r#"{{"accountId":"100200300","extensionId":"100200301","lastUpdated":"2024-05-06T07:08:09.123Z","changes":[{{"type":"SMS","newCount":1,"updatedCount":0,"newMessageIds":["{n}"]}}],"filling":"{}"}}"#,
        "x".repeat(500)
    );
    format!(
        r#"{{"uuid":"11111111-2222-4333-8444-{n:012}","event":"/restapi/v1.0/account/100200300/extension/100200301/message-store","timestamp":"2024-05-06T07:08:09.123Z","subscriptionId":"11111111-2222-4333-8444-555555555555","ownerId":"100200301","body":{body}}}"#
    )
}

fn report(what: &str, figure: f64, unit: &str, against: Option<f64>) {
    let ratio = against.map_or(String::new(), |base| format!("   x{:.2}", figure / base));
    println!("{what:<58} {figure:>10.2} {unit}{ratio}");
}

/// Nanoseconds of one call: the median of several rounds.
fn nanos(mut call: impl FnMut()) -> f64 {
    const CALLS: u32 = 2000;
    let mut rounds: Vec<f64> = (0..9)
        .map(|_| {
            let began = Instant::now();
            (0..CALLS).for_each(|_| call());
            began.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

fn decoding() {
    let secret = Secret::new(KEY);
    let sealed = encrypt(&secret, event(1).as_bytes()).unwrap();
    let payload = RawValue::from_string(format!("\"{sealed}\"")).unwrap();
    let cipher = Cipher::from_delivery_mode(Some("AES"), &secret).unwrap();
    let key: [u8; 16] = STANDARD.decode(KEY).unwrap().try_into().unwrap();
    println!("decoding, one event of {} bytes", event(1).len());

    // The minimum: base64, AES and a check whether it is JSON.
    let bare = nanos(|| {
        let mut bytes = STANDARD.decode(black_box(&sealed)).unwrap();
        let plain = ecb::Decryptor::<aes::Aes128>::new(&key.into()).decrypt_padded::<Pkcs7>(&mut bytes).unwrap();
        black_box(serde_json::from_slice::<&RawValue>(plain).unwrap());
    });
    let tree = nanos(|| {
        let mut bytes = STANDARD.decode(black_box(&sealed)).unwrap();
        let plain = ecb::Decryptor::<aes::Aes128>::new(&key.into()).decrypt_padded::<Pkcs7>(&mut bytes).unwrap();
        black_box(serde_json::from_slice::<serde_json::Value>(plain).unwrap());
    });
    let decoded = nanos(|| drop(black_box(codec::decode(black_box(&payload), &[&cipher]).unwrap())));
    let now = SystemTime::UNIX_EPOCH;
    let typed = nanos(|| {
        let json = codec::decode(black_box(&payload), &[&cipher]).unwrap();
        black_box(Notification::parse(json, Origin::Push, now).unwrap());
    });
    report("  bare base64 + AES + JSON check", bare, "ns", None);
    report("  bare base64 + AES + JSON tree", tree, "ns", Some(bare));
    report("  codec::decode", decoded, "ns", Some(bare));
    report("  codec::decode + typed notification", typed, "ns", Some(bare));
}

/// A transport that delivers everything at once.
#[derive(Debug)]
struct Instantly;

struct InstantLink {
    next: usize,
}

#[async_trait]
impl Transport for Instantly {
    fn kind(&self) -> TransportKind {
        TransportKind::PubNub
    }

    fn delivery_mode(&self) -> DeliveryModeRequest {
        DeliveryModeRequest::new(TransportKind::PubNub)
    }

    async fn open(&self, _: Target) -> Result<Box<dyn Link>> {
        Ok(Box::new(InstantLink { next: 0 }))
    }
}

#[async_trait]
impl Link for InstantLink {
    async fn next(&mut self) -> Result<LinkEvent> {
        if self.next >= events() {
            return std::future::pending().await;
        }
        let received_at = SystemTime::UNIX_EPOCH;
        let frame = |n| Frame::new(FrameBody::Payload(RawValue::from_string(event(n)).unwrap()), received_at);
        let frames = (self.next..self.next + 100).map(frame).collect();
        self.next += 100;
        Ok(LinkEvent::Batch(LinkBatch::new(frames, Cursor::at(received_at), Coverage::Pushed)))
    }

    async fn close(self: Box<Self>) {}
}

async fn sandbox() -> Sandbox {
    let free = |behavior: &mut ringcentral_sandbox::Behavior| {
        (behavior.rate_limits.enforce, behavior.rate_limits.headers) = (false, false);
        behavior.subscription_limit = 10_000;
    };
    Sandbox::builder().behavior(free).request_log(10).start().await.unwrap()
}

fn client(sandbox: &Sandbox) -> Client {
    let oauth = OAuth::jwt(sandbox.client_id(), sandbox.jwt()).client_secret(sandbox.client_secret());
    Client::builder(oauth.server(sandbox.base_url()).build().unwrap()).build().unwrap()
}

fn filter() -> EventFilter {
    STORE.parse().unwrap()
}

/// From a link's batch through queue, decoding and channel to the reader.
async fn queue() {
    let sandbox = sandbox().await;
    let client = client(&sandbox);
    println!("link to reader, {} plain events, 100 per batch", events());
    let began = Instant::now();
    for n in 0..events() {
        let json = RawValue::from_string(event(n)).unwrap();
        black_box(Notification::parse(json, Origin::Push, SystemTime::UNIX_EPOCH).unwrap());
    }
    let parsed = began.elapsed();
    report("  made and parsed in a loop", per_event(parsed), "ns", None);
    for buffer in [256, 1] {
        let builder = client.subscribe([filter()]).transport(Instantly).queue_bytes(1 << 30);
        let mut subscription = builder.buffer(NonZeroUsize::new(buffer).unwrap()).start().await.unwrap();
        let began = Instant::now();
        let mut read = 0;
        while read < events() {
            let delivery = subscription.next().await.unwrap().unwrap();
            read += usize::from(matches!(black_box(delivery), Delivery::Notification(_)));
        }
        let what = format!("  through a subscription, buffer of {buffer}");
        report(&what, per_event(began.elapsed()), "ns", Some(per_event(parsed)));
        let _ = subscription.close().await;
    }
}

/// The cost of recognizing duplicates: the same events through windows of any size.
async fn window() {
    let sandbox = sandbox().await;
    let client = client(&sandbox);
    println!("dedup window, {} events through a subscription (default 8192 events, 30 min)", events());
    let mut least = None;
    for window in [1, 8192, events()] {
        let builder = client.subscribe([filter()]).transport(Instantly).queue_bytes(1 << 30);
        let builder = builder.dedup_window(NonZeroUsize::new(window).unwrap(), Duration::from_secs(1800));
        let mut subscription = builder.start().await.unwrap();
        let (before, began) = (resident(), Instant::now());
        for read in 0.. {
            if read == events() {
                break;
            }
            black_box(subscription.next().await.unwrap().unwrap());
        }
        let time = per_event(began.elapsed());
        report(&format!("  window of {window}"), time, "ns", least);
        least.get_or_insert(time);
        if let Some((now, before)) = resident().zip(before) {
            report("    resident memory more than before", now - before, "KiB", None);
        }
        let _ = subscription.close().await;
    }
}

fn per_event(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9 / events() as f64
}

fn resident() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split(' ').nth(1)?.parse::<f64>().ok()? * 4.0)
}

/// A sandbox in a separate process, so that its memory is not in the figure.
struct Apart {
    process: Child,
    base_url: String,
    pubnub: String,
}

const CREDENTIALS: (&str, &str, &str) = ("bench-app", "bench-secret", "bench-jwt");

impl Apart {
    fn start() -> Self {
        let this = std::env::current_exe().unwrap();
        let mut process =
            Command::new(this).arg("--serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        Self { base_url: line(), pubnub: line(), process }
    }

    fn client(&self) -> Client {
        let (id, secret, jwt) = CREDENTIALS;
        let oauth = OAuth::jwt(id, jwt).client_secret(secret).server(self.base_url.as_str());
        Client::builder(oauth.build().unwrap()).build().unwrap()
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // The end of its input ends the process.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// The other process: serves until its input ends.
async fn serve() {
    let (id, secret, jwt) = CREDENTIALS;
    let wide = |behavior: &mut ringcentral_sandbox::Behavior| {
        let limits = &mut behavior.rate_limits;
        // Announced, so that a client knows how many connections it may make.
        (limits.auth, limits.light, limits.medium, limits.heavy) = (1_000_000, 1_000_000, 1_000_000, 1_000_000);
        behavior.subscription_limit = 100_000;
        behavior.gateway.max_connections = 100_000;
    };
    let sandbox = Sandbox::builder().behavior(wide).credentials(id, secret, jwt).request_log(10).start().await.unwrap();
    println!("{}\n{}", sandbox.base_url(), sandbox.pubnub_origin());
    let input = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    input.await.unwrap().unwrap();
}

/// Idle subscriptions; measures the cost of one more in this process, which is a separate one for each transport:
/// otherwise memory that another had freed would be reused.
async fn memory(name: &str) {
    let apart = Apart::start();
    let client = apart.client();
    let transport: Arc<dyn Transport> = match name {
        "PubNub" => Arc::new(PubNub::builder().origin(&apart.pubnub).build().unwrap()),
        _ => Arc::new(WebSocket::builder().build().unwrap()),
    };
    let start = |_| async {
        let subscription = client.subscribe([filter()]).shared_transport(transport.clone()).start().await.unwrap();
        subscription.status().wait_for(|status| status.is_healthy()).await.unwrap();
        subscription
    };
    let many = || futures_util::stream::iter(0..IDLE).map(start).buffer_unordered(50).collect::<Vec<_>>();
    // Part of the first ones' cost is the process's own.
    let first = many().await;
    let before = resident();
    let second = many().await;
    match resident().zip(before) {
        Some((now, before)) => {
            report(&format!("  per further subscription, {name}"), (now - before) / IDLE as f64, "KiB", None);
        }
        None => println!("  this system does not report it"),
    }
    // Over PubNub each waits half a second for messages in transit.
    let all = first.into_iter().chain(second).map(Subscription::close);
    futures_util::stream::iter(all).for_each_concurrent(IDLE, |closing| async { drop(closing.await) }).await;
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let args: Vec<String> = std::env::args().collect();
    if args.iter().any(|arg| arg == "--serve") {
        return runtime.block_on(serve());
    }
    if let Some(at) = args.iter().position(|arg| arg == "--memory") {
        return runtime.block_on(memory(&args[at + 1]));
    }
    decoding();
    runtime.block_on(queue());
    runtime.block_on(window());
    println!("memory, {IDLE} and {} idle subscriptions, the sandbox in a separate process", 2 * IDLE);
    for name in ["PubNub", "WebSocket"] {
        let run = Command::new(std::env::current_exe().unwrap()).args(["--memory", name]).status().unwrap();
        assert!(run.success(), "{name}: {run}");
    }
    println!("  handle on the stack: {} bytes", std::mem::size_of::<Subscription>());
}
