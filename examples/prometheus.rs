//! A server app with Prometheus metrics and health checks:
//! `cargo run --example prometheus --features metrics -- --port 9464`.
//!
//! `/metrics` is for Prometheus, `/health/ready` and `/health/live` for Kubernetes.
//! `docs/grafana-dashboard.json` shows the metrics. Without an account the sandbox sends messages;
//! `--outage 60` makes it unreachable after each minute, for 30 s.

#[path = "support/recorder.rs"]
mod recorder;
mod support;

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use lexopt::{Parser, ValueExt as _};
use recorder::Recorder;
use ringcentral_events::transport::TransportKind;
use ringcentral_events::{EventFilter, Subscription, catch_up};
use ringcentral_sandbox::{Sandbox, Service};
use support::{Failure, LAST_WORDS, cli, events, stop_signal, tasks};
use tokio::net::TcpListener;
use tokio::time::sleep;

const USAGE: &str = "usage: prometheus [--port N] [--transport websocket|pubnub] [--outage SECONDS]

A server app with Prometheus metrics and health checks.
  --port N           port on 127.0.0.1 (default 9464; 0: any free one)
  --transport NAME   websocket (the default) or pubnub
  --outage SECONDS   the sandbox is unreachable for 30 s each time after so long
Login: RC_APP_CLIENT_ID, RC_APP_CLIENT_SECRET, RC_USER_JWT and RC_SERVER_URL;
without them the sandbox, an emulator of the service.";
/// How long an outage lasts.
const OUTAGE: Duration = Duration::from_secs(30);

/// The command line.
struct Asked {
    port: u16,
    transport: TransportKind,
    outage: Option<Duration>,
}

fn option(asked: &mut Asked, name: &str, parser: &mut Parser) -> Result<bool, lexopt::Error> {
    match name {
        "--port" => asked.port = parser.value()?.parse()?,
        "--outage" => asked.outage = Some(Duration::from_secs(parser.value()?.parse()?)),
        "--transport" => {
            asked.transport = cli::transport(parser, &[TransportKind::WebSocket, TransportKind::PubNub])?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn router(recorder: Recorder, subscription: &Subscription) -> Router {
    let (ready, live) = (subscription.status(), subscription.status());
    Router::new()
        .route("/metrics", get(async move || recorder.text()))
        .route("/health/ready", get(async move || ready.health().readiness()))
        .route("/health/live", get(async move || live.health().liveness()))
}

/// Makes the sandbox's events unreachable now and then.
async fn outages(sandbox: Option<&Sandbox>, every: Option<Duration>) {
    let (Some(sandbox), Some(every)) = (sandbox, every) else { return std::future::pending().await };
    loop {
        sleep(every).await;
        for service in [Service::Gateway, Service::PubNub] {
            sandbox.stop_service(service).await;
        }
        sleep(OUTAGE).await;
        for service in [Service::Gateway, Service::PubNub] {
            sandbox.start_service(service).await;
        }
    }
}

async fn read(mut subscription: Subscription) -> Result<(), Failure> {
    while let Some(delivery) = subscription.next().await {
        // Your work. The metrics count by themselves.
        delivery?;
    }
    Ok(())
}

async fn run(asked: Asked) -> Result<(), Failure> {
    let stop = stop_signal()?;
    // Before the subscription, whose handles are made at its start.
    let recorder = Recorder::default();
    metrics::set_global_recorder(recorder.clone())?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, asked.port)).await;
    let listener = listener.map_err(|error| format!("cannot listen on 127.0.0.1:{}: {error}", asked.port))?;
    let url = format!("http://{}", listener.local_addr()?);
    let (sandbox, server) = support::server().await?;
    let (mut transports, tasks) = tasks::held(vec![server.transport(asked.transport)?]);
    let client = server.client()?;
    let filters = [EventFilter::instant_message(), EventFilter::team_posts()];
    let builder = client.subscribe(filters).transport(transports.remove(0));
    let subscription = builder.catch_up_all(catch_up::standard(&client)).start().await?;
    let handle = subscription.shutdown_handle();
    writeln!(
        std::io::stdout(),
        "metrics          {url}/metrics\nready            {url}/health/ready\nlive             {url}/health/live"
    )?;
    let served = axum::serve(listener, router(recorder, &subscription));
    let outcome = tokio::select! {
        outcome = read(subscription) => outcome,
        served = served => served.map_err(Failure::from),
        () = events(sandbox.as_ref()) => Ok(()),
        () = outages(sandbox.as_ref(), asked.outage) => Ok(()),
        () = stop => Ok(()),
    };
    handle.discard();
    tasks.over_within(LAST_WORDS).await?;
    outcome
}

#[tokio::main]
async fn main() -> ExitCode {
    let asked = Asked { port: 9464, transport: TransportKind::WebSocket, outage: None };
    cli::main(USAGE, asked, option, run).await
}
