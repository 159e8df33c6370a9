//! A server with a page that shows the latest text messages and team posts.
//!
//! ```text
//! cargo run --example message_page -- --port 8080
//! ```
//!
//! The page is at `http://127.0.0.1:8080/`; `/health` answers 200 while events can arrive, else 503.
//! Without an account the sandbox sends messages.

mod support;

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::response::Html;
use axum::routing::get;
use lexopt::{Parser, ValueExt as _};
use ringcentral_events::transport::TransportKind;
use ringcentral_events::{Delivery, Event, EventFilter, StatusWatch, Subscription};
use support::{Failure, LAST_WORDS, cli, events, stop_signal, tasks};
use tokio::net::TcpListener;

const USAGE: &str = "usage: message_page [--port N] [--transport websocket|pubnub]

A server with a page that shows the latest text messages and team posts.
  --port N           port on 127.0.0.1 (0: any free one)
  --transport NAME   websocket (the default) or pubnub
Login: RC_APP_CLIENT_ID, RC_APP_CLIENT_SECRET, RC_USER_JWT and RC_SERVER_URL;
without them the sandbox, an emulator of the service.";
/// How many messages the page shows.
const SHOWN: usize = 50;

/// The content of the page.
#[derive(Clone)]
struct Page {
    lines: Arc<Mutex<VecDeque<String>>>,
    status: StatusWatch,
}

impl Page {
    fn add(&self, line: String) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_front(line);
        lines.truncate(SHOWN);
    }

    fn html(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let items: String = lines.iter().map(|line| format!("<li>{}</li>", escaped(line))).collect();
        let phase = self.status.current().phase;
        format!(
            "<!doctype html><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"2\">\
             <title>Messages</title><h1>Latest messages</h1><p>Subscription: {phase:?}</p><ul>{items}</ul>"
        )
    }
}

/// Text as HTML: what people write must not become part of the page.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut html, c| {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
        html
    })
}

/// Reads until the stream ends.
async fn read(mut subscription: Subscription, page: Page) -> Result<(), Failure> {
    while let Some(delivery) = subscription.next().await {
        match delivery? {
            Delivery::Notification(it) => match it.event() {
                Event::InstantMessage(sms) => {
                    page.add(format!("{}: {}", sms.from_number().unwrap_or("?"), sms.text().unwrap_or_default()));
                }
                Event::TeamMessagingPost(post) if post.is_added() => {
                    page.add(format!("team post: {}", post.text.as_deref().unwrap_or_default()));
                }
                _ => {}
            },
            Delivery::Gap(gap) => page.add(format!("(messages may be missing: {})", gap.cause)),
            _ => {}
        }
    }
    Ok(())
}

async fn health(State(page): State<Page>) -> axum::http::Response<String> {
    page.status.health().readiness()
}

fn router(page: Page) -> Router {
    let show = async |State(page): State<Page>| Html(page.html());
    Router::new().route("/", get(show)).route("/health", get(health)).with_state(page)
}

/// The command line.
struct Asked {
    port: u16,
    transport: TransportKind,
}

fn option(asked: &mut Asked, name: &str, parser: &mut Parser) -> Result<bool, lexopt::Error> {
    match name {
        "--port" => asked.port = parser.value()?.parse()?,
        "--transport" => {
            asked.transport = cli::transport(parser, &[TransportKind::WebSocket, TransportKind::PubNub])?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

async fn run(asked: Asked) -> Result<(), Failure> {
    let stop = stop_signal()?;
    // Before the subscription: a port in use must not leave one behind.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, asked.port)).await;
    let listener = listener.map_err(|error| format!("cannot listen on 127.0.0.1:{}: {error}", asked.port))?;
    let url = format!("http://{}/", listener.local_addr()?);
    let (sandbox, server) = support::server().await?;
    let (mut transports, tasks) = tasks::held(vec![server.transport(asked.transport)?]);
    let filters = [EventFilter::instant_message(), EventFilter::team_posts()];
    let subscription = server.client()?.subscribe(filters).transport(transports.remove(0)).start().await?;
    let (handle, page) =
        (subscription.shutdown_handle(), Page { lines: Arc::default(), status: subscription.status() });
    writeln!(std::io::stdout(), "ready            {url}")?;
    let served = axum::serve(listener, router(page.clone()));
    let outcome = tokio::select! {
        outcome = read(subscription, page) => outcome,
        served = served => served.map_err(Failure::from),
        () = events(sandbox.as_ref()) => Ok(()),
        () = stop => Ok(()),
    };
    handle.discard();
    tasks.over_within(LAST_WORDS).await?;
    outcome
}

#[tokio::main]
async fn main() -> ExitCode {
    cli::main(USAGE, Asked { port: 0, transport: TransportKind::WebSocket }, option, run).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_does_not_become_html() {
        assert_eq!(escaped("<b>\"a\" & 'c'</b> é"), "&lt;b&gt;&quot;a&quot; &amp; &#39;c&#39;&lt;/b&gt; é");
    }
}
