//! Measures the client's overhead between an answer and the next poll: polls of a session's stream against a minimal
//! loop of requests, on one loopback server. Compare the figures of one run with each other. No time makes it fail.
//!
//! `cargo bench --features agent --bench agent_poll`

#![allow(clippy::unwrap_used, reason = "a bench")]
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::time::Instant;

use ringcentral_events::agent::{AgentDelivery, AgentSession};
use ringcentral_events::auth::{AccessToken, StaticToken};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const ROUNDS: usize = 5;

/// Polls of a round: few if it only has to run, as by `cargo test`.
fn polls() -> usize {
    if std::env::args().any(|arg| arg == "--bench") { 5_000 } else { 50 }
}

/// A service that answers each poll at once with a new id and `events` events.
async fn serve(listener: TcpListener, events: usize) {
    let event = r#"{"IISHost":"WEB-X01","VCHost":"VC-X01","Type":"AgentState","CurrentState":"Available","CurrentOutReason":"","StartTimeUTC":"2025-02-03T12:00:01.250Z","IsAcw":"False","AcwTimeout":"0","NextStates":"","NextIsAcw":"False"}"#;
    let list = vec![event; events].join(",");
    let mut n = 0_u64;
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        n += 1;
        tokio::spawn(connection(socket, n << 32, list.clone()));
    }
}

async fn connection(mut socket: TcpStream, mut n: u64, list: String) {
    let mut bytes = Vec::with_capacity(4096);
    loop {
        while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
            if socket.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        }
        bytes.clear();
        n += 1;
        let body = format!(r#"{{"sessionId":"{n:080}","events":[{list}]}}"#);
        let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        if socket.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Microseconds per poll.
fn each(began: Instant) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a small number")]
    let polls = polls() as f64;
    began.elapsed().as_secs_f64() * 1e6 / polls
}

async fn bare(url: &str) -> f64 {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let began = Instant::now();
    for _ in 0..polls() {
        let url = format!("{url}/inContactAPI/services/v23.0/agent-sessions/S0/get-next-event?timeout=60");
        let answer = http.get(url).bearer_auth("t").send().await.unwrap();
        std::hint::black_box(answer.bytes().await.unwrap());
    }
    each(began)
}

async fn stream(url: &str, events: usize) -> f64 {
    let tokens = StaticToken::new(AccessToken::new("t"));
    let session = AgentSession::builder(tokens).base_url(url).join().await.unwrap();
    let mut stream = session.events().unwrap();
    let mut left = polls() * events;
    let began = Instant::now();
    while left > 0 {
        if let AgentDelivery::Notification(event) = stream.next().await.unwrap().unwrap() {
            std::hint::black_box(event.event());
            left -= 1;
        }
    }
    each(began)
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        for events in [1, 20] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let server = tokio::spawn(serve(listener, events));
            let (mut bares, mut streams) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                bares.push(bare(&url).await);
                streams.push(stream(&url, events).await);
            }
            server.abort();
            let median = |figures: &mut Vec<f64>| {
                figures.sort_by(f64::total_cmp);
                figures[figures.len() / 2]
            };
            let (bare, stream) = (median(&mut bares), median(&mut streams));
            println!("{events:>3} events a batch: a bare request                {bare:>10.2} us");
            println!(
                "{events:>3} events a batch: a poll, read as typed events  {stream:>10.2} us   x{:.2}",
                stream / bare
            );
        }
    });
}
