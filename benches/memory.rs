//! Measures idle subscriptions, set up as README's plain program does: the memory of one more, the time to start them,
//! their CPU time, and the CPU time of an event as their number grows. Each figure is measured in a separate process,
//! and the service runs in another. No figure makes it fail.
//!
//! `cargo bench --all-features --bench memory [-- --counts 1,100,1000] [-- --idle SECONDS]`

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub, dead_code, reason = "a bench")]
#![allow(clippy::disallowed_methods, reason = "it measures real time")]
#![allow(clippy::cast_precision_loss, reason = "small numbers")]

mod generator;
mod measure;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use measure::{Load, Meter, argument, cpu, line, micros};
use ringcentral_events::rest::Client;
use ringcentral_events::transport::PubNub;
use ringcentral_events::{Delivery, Event, OAuth, Subscription};
use serde_json::{Value, json};

/// Subscriptions that start at once.
const AT_ONCE: usize = 50;

fn new_client(url: &str) -> Client {
    let oauth = OAuth::jwt("bench-app", "bench-jwt").client_secret("bench-secret").server(url);
    Client::builder(oauth.build().unwrap()).build().unwrap()
}

async fn start(url: &str, client: Client, transport: &str) -> Subscription {
    let filter: ringcentral_events::EventFilter = measure::FILTER.parse().unwrap();
    let mut builder = client.subscribe([filter]);
    if transport == "pubnub" {
        builder = builder.transport(PubNub::builder().origin(url).build().unwrap());
    }
    let subscription = builder.start().await.unwrap();
    subscription.status().wait_for(|status| status.is_healthy()).await.unwrap();
    subscription
}

/// KiB of this process that are in memory and its own.
fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = statm.split(' ').skip(1).map(|pages| pages.parse::<f64>().unwrap());
    pages.next().zip(pages.next()).map_or(f64::NAN, |(resident, shared)| (resident - shared) * 4.0)
}

/// Starts `count` more than one, in this process, and prints what they cost.
async fn measure_many() {
    let of = |name: &str| argument(name).unwrap();
    let (url, transport, clients) = (of("--url"), of("--transport"), of("--clients"));
    let (count, idle) = (of("--count").parse::<usize>().unwrap(), of("--idle").parse::<u64>().unwrap());
    let load = Load::read(&of("--load"));
    let shared = new_client(&url);
    let one = || start(&url, if clients == "one" { shared.clone() } else { new_client(&url) }, &transport);
    // The first one's cost is the process's own.
    let mut first = start(&url, shared.clone(), &transport).await;
    let (memory, began, work) = (resident(), Instant::now(), cpu());
    let held: Vec<Subscription> =
        futures_util::stream::iter(0..count).map(|_| one()).buffer_unordered(AT_ONCE).collect().await;
    let (took, work) = (began.elapsed(), cpu() - work);
    let memory = (resident() - memory) / count as f64;
    let before = cpu();
    tokio::time::sleep(Duration::from_secs(idle)).await;
    let idling = (cpu() - before).as_secs_f64() / idle as f64 * 100.0;
    let mut meter = Meter::new(&url, load);
    let id = first.id().unwrap().to_string();
    meter.ready(Some(&id));
    loop {
        match first.next().await.unwrap().unwrap() {
            Delivery::Notification(it) => {
                let Event::InstantMessage(sms) = it.event() else { panic!("another event") };
                if meter.event(sms.text().unwrap_or_default()) {
                    break;
                }
            }
            Delivery::Gap(_) | Delivery::Resumed(_) => meter.others += 1,
            other => panic!("{other}"),
        }
    }
    println!(
        "{}",
        json!({ "memory": memory, "start": micros(took) / 1000.0, "start_cpu": micros(work) / count as f64, "idle": idling })
    );
    meter.report();
    drop(held);
    // Ends are not measured.
    std::process::exit(0);
}

fn main() {
    if std::env::args().any(|arg| arg == "--generate") {
        return generator::serve();
    }
    if argument("--count").is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(measure_many());
    }
    let measured = measure::is_measured();
    let counts = argument("--counts").unwrap_or_else(|| if measured { "1,100,1000" } else { "2" }.to_owned());
    let idle = argument("--idle").unwrap_or_else(|| if measured { "20" } else { "1" }.to_owned());
    let (warm, events) = if measured { (2000, 10_000) } else { (50, 50) };
    let load = Load { warm, events, rate: 0, text: 300 };
    let generator = generator::Generator::start();
    for transport in ["pubnub", "websocket"] {
        for clients in ["one", "each"] {
            let mut alone = None;
            for count in counts.split(',') {
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.args(["--url", &generator.url, "--transport", transport, "--clients", clients]);
                command.args(["--count", count, "--idle", &idle, "--load", &load.write()]);
                let output = command.stderr(Stdio::inherit()).output().unwrap();
                assert!(output.status.success(), "{transport} {count}: {}", output.status);
                let text = String::from_utf8(output.stdout).unwrap();
                let found: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                let case = format!("{transport}, {count} more, {clients} client");
                let figure = |unit: &str, figure: &str, value: &Value, floor: Option<f64>| {
                    line("memory", &case, unit, value.as_f64().unwrap(), floor, json!({ "figure": figure }));
                };
                figure("KiB", "memory of one more", &found[0]["memory"], None);
                figure("ms", "start of all", &found[0]["start"], None);
                figure("µs", "CPU of one start", &found[0]["start_cpu"], None);
                figure("% of a core", "idle", &found[0]["idle"], None);
                figure("µs", "CPU of an event, against that of the first count", &found[1]["cpu"], alone);
                alone = alone.or(found[1]["cpu"].as_f64());
            }
        }
    }
}
