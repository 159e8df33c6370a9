//! Shared by the examples of a Digital source: the port, the token, and the sandbox as the platform.

#![allow(dead_code, reason = "each example uses its part")]

#[path = "cli.rs"]
pub(crate) mod cli;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

pub(crate) use cli::Failure;
use ringcentral_events::digital::CollectionName;
use ringcentral_sandbox::Sandbox;
use ringcentral_sandbox::digital::SourceAt;
use tokio::net::TcpListener;

/// The command line of a source.
#[derive(Debug, Default)]
pub(crate) struct Args {
    pub(crate) port: u16,
    pub(crate) sandbox: bool,
}

/// Reads an option of a source.
pub(crate) fn option(args: &mut Args, name: &str, parser: &mut lexopt::Parser) -> Result<bool, lexopt::Error> {
    use lexopt::ValueExt as _;
    match name {
        "--port" => args.port = parser.value()?.parse()?,
        "--sandbox" => args.sandbox = true,
        _ => return Ok(false),
    }
    Ok(true)
}

/// A listener on loopback, and its URL.
pub(crate) async fn listen(port: u16) -> Result<(TcpListener, String), Failure> {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(at).await.map_err(|error| format!("cannot listen on {at}: {error}"))?;
    let url = format!("http://{}/", listener.local_addr()?);
    Ok((listener, url))
}

/// The channel's API access token.
pub(crate) fn token() -> Result<String, Failure> {
    let token = std::env::var("RC_DIGITAL_TOKEN").ok().filter(|token| !token.is_empty());
    token.ok_or_else(|| "RC_DIGITAL_TOKEN, the channel's API access token, is not set".into())
}

const QUICKSTART: &str = "usage: digital_quickstart [--port N] [--sandbox]

Serves a source with one message for Engage Digital (RingCX Digital).
  --port N           port on 127.0.0.1 (0: any free one)
  --sandbox          the sandbox crawls it once, and the program ends
  RC_DIGITAL_TOKEN   the channel's API access token; not with --sandbox";

/// Serves `run` until Ctrl-C; with `--sandbox` until it was crawled.
pub(crate) async fn quickstart<R>(run: R) -> ExitCode
where
    R: AsyncFnOnce(String, TcpListener) -> Result<(), Failure>,
{
    cli::main(QUICKSTART, Args::default(), option, async |args| {
        let stop = cli::stop_signal()?;
        let (listener, url) = listen(args.port).await?;
        let token = if args.sandbox { "the token of the example's channel".to_owned() } else { token()? };
        writeln!(std::io::stdout(), "ready            {url}")?;
        tokio::select! {
            outcome = run(token.clone(), listener) => outcome,
            crawled = crawl(&url, &token), if args.sandbox => crawled,
            () = stop => Ok(()),
        }
    })
    .await
}

/// One run of the crawler, and what it found.
async fn crawl(url: &str, token: &str) -> Result<(), Failure> {
    let sandbox = Sandbox::start().await?;
    let channel = sandbox.digital_channel(SourceAt::url(url)?, token)?;
    let run = channel.run().await;
    let mut out = std::io::stdout();
    for step in &run.steps {
        writeln!(out, "crawl            {step}")?;
    }
    for message in channel.contents(CollectionName::Messages) {
        writeln!(out, "message          {} {:?}", message.id, message.text("body").unwrap_or_default())?;
    }
    match run.violations().count() {
        0 => Ok(()),
        count => Err(format!("the source has {count} violations").into()),
    }
}
