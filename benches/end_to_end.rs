//! Measures the CPU time and the latency of an event from the socket to a field that the user reads, over loopback.
//! Each client and the generator is a separate process. This crate and the floor run in turn, and each figure is the
//! median of its runs. No time makes it fail.
//!
//! `cargo bench --all-features --bench end_to_end [-- --only CASE] [--pairs N]`

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub, reason = "a bench")]
#![allow(dead_code, reason = "a floor has every field, and reads one")]
#![allow(clippy::disallowed_methods, reason = "it measures real time")]
#![allow(clippy::cast_precision_loss, reason = "small numbers")]

mod floors;
mod generator;
mod measure;

use std::process::{Command, Stdio};

use measure::{Load, Meter, argument, line, median};
use ringcentral_events::transport::PubNub;
use ringcentral_events::{Client, Delivery, Event, EventFilter, OAuth};
use serde_json::{Value, json};

/// The plain program of README; its reader reads a field.
async fn ours(url: &str, transport: &str, meter: &mut Meter) {
    let oauth = OAuth::jwt("bench-app", "bench-jwt").client_secret("bench-secret").server(url);
    let client = Client::builder(oauth.build().unwrap()).build().unwrap();
    let filter: EventFilter = measure::FILTER.parse().unwrap();
    let mut builder = client.subscribe([filter]);
    if transport == "pubnub" {
        builder = builder.transport(PubNub::builder().origin(url).build().unwrap());
    }
    let mut events = builder.start().await.unwrap();
    events.status().wait_for(|status| status.is_healthy()).await.unwrap();
    meter.ready(None);
    while let Some(delivery) = events.next().await {
        match delivery.unwrap() {
            Delivery::Notification(it) => match it.event() {
                Event::InstantMessage(sms) => {
                    if meter.event(sms.text().unwrap_or_default()) {
                        return;
                    }
                }
                other => panic!("{}", other.kind()),
            },
            Delivery::Gap(_) | Delivery::Resumed(_) => meter.others += 1,
            other => panic!("{other}"),
        }
    }
}

/// Runs a client in this process.
fn client(who: &str) {
    let (url, transport) = (argument("--url").unwrap(), argument("--transport").unwrap());
    let mut meter = Meter::new(&url, Load::read(&argument("--load").unwrap()));
    // `#[tokio::main]` makes the first of these.
    let mut runtime = match who {
        "ours" => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    runtime.enable_all().build().unwrap().block_on(async {
        match (who, transport.as_str()) {
            ("ours" | "ours, one thread", transport) => ours(&url, transport, &mut meter).await,
            ("plain", "pubnub") => floors::plain_pubnub::run(&url, &mut meter).await,
            ("plain", _) => floors::plain_websocket::run(&url, &mut meter).await,
            other => panic!("{other:?}"),
        }
        meter.report();
        // The end of the subscription is not measured.
        std::process::exit(0);
    });
}

/// Runs a client in a separate process, and returns what it measured.
fn run(url: &str, who: &str, transport: &str, load: Load) -> Value {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--client", who, "--url", url, "--transport", transport, "--load", &load.write()]);
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{who} over {transport}: {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn main() {
    if std::env::args().any(|arg| arg == "--generate") {
        return generator::serve();
    }
    if let Some(who) = argument("--client") {
        return client(&who);
    }
    let measured = measure::is_measured();
    let pairs = argument("--pairs").map_or(if measured { 5 } else { 1 }, |text| text.parse().unwrap());
    let load = |events: usize, rate: u64| {
        let (warm, events) = if measured { (2000, events) } else { (100, 100) };
        Load { warm, events, rate: if measured { rate } else { rate * 10 }, text: 300 }
    };
    let cases =
        [("burst of 20 000", load(20_000, 0)), ("1 000 a second", load(10_000, 1000)), ("50 a second", load(500, 50))];
    let generator = generator::Generator::start();
    for transport in ["websocket", "pubnub"] {
        for (name, load) in cases {
            let case = format!("{transport}, {name}");
            if argument("--only").is_some_and(|only| !case.contains(&only)) {
                continue;
            }
            let who = ["ours", "ours, one thread", "plain"];
            let mut runs: [Vec<Value>; 3] = Default::default();
            for _ in 0..pairs {
                for (who, runs) in who.iter().zip(&mut runs) {
                    runs.push(run(&generator.url, who, transport, load));
                }
            }
            let middle = |runs: &[Value], name: &str| {
                median(&runs.iter().filter_map(|run| run[name].as_f64()).collect::<Vec<_>>())
            };
            let figures: &[_] = if load.rate == 50 { &["p50", "p99", "cpu"] } else { &["cpu", "wall"] };
            for (who, runs_of) in who.iter().zip(&runs).take(2) {
                for figure in figures {
                    let others = middle(runs_of, "others");
                    let more = json!({ "who": who, "figure": figure, "pairs": pairs, "others": others });
                    let value = middle(runs_of, figure);
                    line("end_to_end", &case, "µs", value, Some(middle(&runs[2], figure)), more);
                }
            }
        }
    }
}
