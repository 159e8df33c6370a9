//! Measures an action's cost for a source, against the minimum, and a source under load. Compare the figures of one run
//! with each other. No time makes it fail; an action without a successful answer does.
//!
//! `cargo bench --bench digital`

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench")]
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::hint::black_box;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use bytes::Bytes;
use http::Request;
use ringcentral_events::digital::{
    Attachment, Date, MemoryFeed, Message, Messages, NewMessage, SIGNATURE_HEADER, Signer, Source, SourceEndpoint,
    SourceOption, User,
};
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const TOKEN: &str = "3YJZzqMJ5Ec7i2JGvnt8TgvleD7dtpwp";
const RATE: u64 = 1000;
/// One body of this size is part of the load.
const LARGE: usize = 10 << 20;

/// Whether to measure; `cargo test` only runs it.
fn is_measured() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}

fn report(what: &str, figure: f64, unit: &str, against: Option<f64>) {
    let ratio = against.map_or(String::new(), |base| format!("   x{:.2}", figure / base));
    println!("{what:<58} {figure:>10.2} {unit}{ratio}");
}

/// A source that discards all writes, and lists a hundred messages.
fn endpoint() -> SourceEndpoint {
    let feed = MemoryFeed::new();
    let user = User::new("cust-7", "Ana", Date::now());
    for number in 0..100 {
        let mut message = Message::new(format!("m-{number}"), user.clone());
        message.body = Some("Where is my order?".into());
        feed.put(message);
    }
    let shown = feed.clone();
    let source = Source::builder()
        .option(SourceOption::MessagesUnthreaded)
        .list(Messages, feed)
        .show(Messages, move |id: String| {
            let message = shown.get(&id);
            async move { Ok(message) }
        })
        .create(Messages, move |new: NewMessage| {
            let mut message = Message::new(format!("w-{}", new.content_id.unwrap_or_default()), user.clone());
            message.body = new.body;
            async move { Ok(message) }
        })
        .build()
        .unwrap();
    SourceEndpoint::builder(source, TOKEN).body_limit(16 << 20).build().unwrap()
}

fn create(number: u64, attachment: usize) -> Bytes {
    let mut params = json!({
        "author_id": "agent-1", "body": "On its way.", "content_id": format!("c-{number}"), "retry": false,
        "in_reply_to_id": "m-1", "format": "text", "created_at": "2026-01-02T03:04:05Z",
    });
    if attachment > 0 {
        params["attachments"] = json!([Attachment::of("a.bin", &vec![7; attachment / 4 * 3])]);
    }
    action("messages.create", &params)
}

fn action(name: &str, params: &serde_json::Value) -> Bytes {
    json!({ "action": name, "params": params, "time": "2026-01-02T03:04:05Z" }).to_string().into()
}

/// Of ten actions one is a show, three are lists, six are creates.
fn mixed(number: u64) -> Bytes {
    match number % 10 {
        0 => action("messages.show", &json!({ "id": "m-50" })),
        1..=3 => action("messages.list", &json!({ "since_id": "m-90" })),
        _ => create(number, 0),
    }
}

/// Nanoseconds of one call: the median of several rounds.
fn nanos(calls: u32, mut call: impl FnMut()) -> f64 {
    let calls = if is_measured() { calls } else { calls.div_ceil(100) };
    let mut rounds: Vec<f64> = (0..9)
        .map(|_| {
            let began = Instant::now();
            (0..calls).for_each(|_| call());
            began.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

/// An action in memory, against the signatures of request and response.
fn cost(runtime: &Runtime) {
    let (endpoint, signer) = (endpoint(), Signer::new(TOKEN).unwrap());
    for (name, body, calls) in [
        ("a create", create(1, 0), 2000),
        ("a list of 9", action("messages.list", &json!({ "since_id": "m-90" })), 2000),
        ("a create with 1 MiB", create(2, 1 << 20), 20),
    ] {
        let signature = signer.sign(&body);
        let request = || Request::post("/").header(SIGNATURE_HEADER, &signature).body(body.clone()).unwrap();
        let answer = runtime.block_on(endpoint.handle(request()));
        assert_eq!(answer.status(), 200);
        let least = nanos(calls, || {
            signer.verify(black_box(&body), &signature).unwrap();
            black_box(signer.sign(answer.body()));
        });
        let whole = nanos(calls, || {
            black_box(runtime.block_on(endpoint.handle(request())));
        });
        report(&format!("{name}: verify and sign only"), least / 1e3, "us", None);
        report(&format!("{name}: answered"), whole / 1e3, "us", Some(least / 1e3));
    }
}

/// Memory of a process, in MiB, and its maximum; on Linux only.
fn resident(child: &Child) -> Option<(f64, f64)> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
    };
    Some((of("VmRSS:")?, of("VmHWM:")?))
}

/// The source in a separate process, so that its memory is measured alone.
async fn serve() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("http://{}/", listener.local_addr().unwrap());
    let server = axum::serve(listener, Router::new().route_service("/", endpoint()));
    let (mut input, mut rest) = (tokio::io::stdin(), Vec::new());
    tokio::select! {
        served = server => served.unwrap(),
        read = input.read_to_end(&mut rest) => drop(read.unwrap()),
    }
}

async fn load() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
    let url: Arc<str> = url.trim().into();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let signer = Signer::new(TOKEN).unwrap();
    let send = async |http: reqwest::Client, url: Arc<str>, signer: Signer, body: Bytes| {
        let began = Instant::now();
        let signature = signer.sign(&body);
        let answer = http.post(&*url).header(SIGNATURE_HEADER, signature).body(body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        let signature = answer.headers()[SIGNATURE_HEADER].to_str().unwrap().to_owned();
        let body = answer.bytes().await.unwrap();
        signer.verify(&body, &signature).unwrap();
        began.elapsed()
    };
    send(http.clone(), Arc::clone(&url), signer.clone(), mixed(0)).await;
    let before = resident(&child);
    // As many concurrent actions as the endpoint's default limit.
    let places = Arc::new(Semaphore::new(256));
    let total = RATE * if is_measured() { 30 } else { 1 };
    let large = create(total, LARGE);
    let mut calls = JoinSet::new();
    let began = tokio::time::Instant::now();
    for number in 0..total {
        tokio::time::sleep_until(began + Duration::from_micros(number * 1_000_000 / RATE)).await;
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let body = if number == total / 3 { large.clone() } else { mixed(number) };
        let (http, url, signer) = (http.clone(), Arc::clone(&url), signer.clone());
        calls.spawn(async move {
            let took = send(http, url, signer, body).await;
            drop(place);
            took
        });
    }
    let mut took: Vec<f64> = calls.join_all().await.into_iter().map(|took| took.as_secs_f64() * 1e3).collect();
    let elapsed = began.elapsed().as_secs_f64();
    took.sort_by(f64::total_cmp);
    let of = |part: usize| took[(took.len() * part / 1000).min(took.len() - 1)];
    let wanted = f64::from(u32::try_from(RATE).unwrap());
    println!("{} actions, all answered with a success and a right signature, one of {LARGE} bytes", took.len());
    report("actions per second, against what was wanted", took.len() as f64 / elapsed, "/s", Some(wanted));
    report("half of them answered within", of(500), "ms", None);
    report("99 of 100 within", of(990), "ms", Some(of(500)));
    report("the slowest", of(1000), "ms", Some(of(500)));
    if let (Some((start, _)), Some((end, most))) = (before, resident(&child)) {
        report("memory of the source at the start", start, "MiB", None);
        report("at the end", end, "MiB", Some(start));
        report("at the most", most, "MiB", Some(start));
    }
    drop(child.stdin.take());
    child.wait().unwrap();
}

fn main() {
    let runtime = Runtime::new().unwrap();
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return runtime.block_on(serve());
    }
    cost(&runtime);
    runtime.block_on(load());
}
