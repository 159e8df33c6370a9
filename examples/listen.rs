//! Listens to events and prints them, one line each.
//!
//! ```text
//! cargo run --example listen --features sandbox
//! cargo run --example listen --features sandbox -- --transport websocket
//! cargo run --example listen -- --filter /restapi/v1.0/account/~/extension/~/presence --format json
//! ```
//!
//! With `RC_SERVER_URL`, `RC_APP_CLIENT_ID`, `RC_APP_CLIENT_SECRET` and
//! `RC_USER_JWT` set (and `RC_PUBNUB_ORIGIN`, where PubNub is elsewhere) it
//! listens there; without them it starts the sandbox, if it was built with it,
//! and lets a few things happen.
//!
//! It ends at the end of standard input, by Ctrl-C or by SIGTERM; with
//! `</dev/null` that is at once, as soon as it is ready. Then it deletes its
//! subscriptions, prints what had come, and says so. The exit code is 0 when all
//! went well, 1 after an error, 2 for a mistake on the command line. Nobody
//! reading standard output any more is a reason to end, not an error.
//!
//! `--format json` prints one object per line, and nothing else, on standard
//! output; logs (`RUST_LOG`) go to standard error. `type` is `ready`, when all
//! subscriptions are there, then `event`, `gap`, `resumed`, `undecodable`,
//! `filters_disabled`, `status` and `error`, and `closed` at last. `index` counts
//! the subscriptions from 0. An event's `body` is the service's text to the byte,
//! but for line breaks between its tokens, which become spaces.

#[path = "support/arguments.rs"]
mod arguments;
#[path = "support/lines.rs"]
mod lines;
#[path = "support/offline.rs"]
mod offline;
#[path = "support/output.rs"]
mod output;
mod support;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arguments::{Arguments, Asked, Mistake, USAGE};
use futures_util::StreamExt as _;
use lines::{Format, Line};
use offline::Emulator;
use output::Output;
use ringcentral_events::transport::{Transport, TransportKind, WebSocket};
use ringcentral_events::{Delivery, Error, ErrorKind, Result, ShutdownHandle, Subscription, SubscriptionId};
use support::{Server, Stop};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Within this all is deleted and written once it is time to end: what `close`
/// allows itself (10 s), and some for standard output.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// What one subscription did.
struct Followed {
    index: usize,
    /// The last, where it was recreated.
    id: Option<SubscriptionId>,
    events: u64,
    failed: bool,
}

/// Prints what comes from one subscription, until its stream ends and it is
/// deleted. Reads on when nobody reads the output any more: the end is near then.
async fn follow(mut subscription: Subscription, index: usize, out: Output, format: Format) -> Followed {
    let mut status = subscription.status();
    let mut followed = Followed { index, id: subscription.id(), events: 0, failed: false };
    loop {
        let line = tokio::select! {
            biased;
            Some(status) = status.changed() => {
                followed.id = status.subscription_id.clone().or(followed.id);
                Line::status(&status, index).write(format)
            }
            delivery = subscription.next() => match delivery {
                Some(Ok(delivery)) => {
                    followed.events += u64::from(matches!(delivery, Delivery::Notification(_)));
                    Line::delivery(&delivery, index).write(format)
                }
                Some(Err(error)) => {
                    followed.failed = true;
                    Line::error(&error, Some(index)).write(format)
                }
                None => break,
            },
        };
        followed.failed |= print(&out, line).await.is_err();
    }
    // The stream may end before the last change of status.
    while let Some(status) = status.changed().await {
        followed.id = status.subscription_id.clone().or(followed.id);
        followed.failed |= print(&out, Line::status(&status, index).write(format)).await.is_err();
    }
    followed
}

/// An error is a line that could not be written as JSON; a reader who is gone is
/// none, and seen by [`Output::gone`].
async fn print(out: &Output, line: serde_json::Result<String>) -> Result<()> {
    let line = line.map_err(|error| Error::new(ErrorKind::Internal, "a line cannot be written").with_source(error))?;
    // Gone is told to `listen`, which then ends everything.
    let _ = out.line(line).await;
    Ok(())
}

/// Creates all subscriptions, on one client and one transport. When one fails,
/// those before it are deleted.
async fn subscribe(asked: &Arguments, server: &Server) -> Result<Vec<Subscription>> {
    let client = server.client()?;
    let transport: Arc<dyn Transport> = match asked.transport {
        TransportKind::PubNub => Arc::new(server.pubnub()?),
        TransportKind::WebSocket => Arc::new(WebSocket::builder().build()?),
        other => return Err(Error::new(ErrorKind::Config, format!("{other} is not a transport of this program"))),
    };
    let mut subscriptions = Vec::new();
    for _ in 0..asked.subscriptions.get() {
        let mut builder = client.subscribe(asked.filters.iter().cloned()).shared_transport(Arc::clone(&transport));
        if let Some(lifetime) = asked.expires_in {
            builder = builder.expires_in(lifetime);
        }
        match builder.start().await {
            Ok(subscription) => subscriptions.push(subscription),
            Err(error) => {
                for subscription in subscriptions {
                    if let Some(error) = subscription.close().await.error {
                        tracing::warn!(%error, "a subscription had failed already");
                    }
                }
                return Err(error);
            }
        }
    }
    Ok(subscriptions)
}

/// Listens until `stop`, prints, and deletes. `false` when something failed
/// and was told.
async fn listen(asked: &Arguments, server: &Server, out: &Output, ready: impl FnOnce(), stop: &Stop) -> Result<bool> {
    let late = || Error::new(ErrorKind::Timeout, "told to end before the service had answered");
    let subscriptions = stop.grace(subscribe(asked, server)).await.ok_or_else(late)??;
    let ids: Vec<SubscriptionId> = subscriptions.iter().filter_map(Subscription::id).collect();
    let handles: Vec<ShutdownHandle> = subscriptions.iter().map(Subscription::shutdown_handle).collect();
    let filters: Vec<String> = asked.filters.iter().map(ToString::to_string).collect();
    print(out, Line::ready(asked.transport, &ids, &filters).write(asked.format)).await?;

    let mut following = JoinSet::new();
    for (index, subscription) in subscriptions.into_iter().enumerate() {
        following.spawn(follow(subscription, index, out.clone(), asked.format));
    }
    ready();
    let first = tokio::select! {
        () = stop.asked() => None,
        () = out.gone() => None,
        first = following.join_next() => first,
    };

    for handle in &handles {
        handle.drain();
    }
    let rest = async {
        let mut all: Vec<_> = first.into_iter().collect();
        while let Some(followed) = following.join_next().await {
            all.push(followed);
        }
        all
    };
    let Ok(all) = timeout(LAST_WORDS, rest).await else {
        return Err(Error::new(ErrorKind::Timeout, "standard output is not read; what came last was not printed"));
    };
    let mut deleted = true;
    for handle in &handles {
        deleted &= handle.finished().await;
    }
    let all = all.into_iter().collect::<std::result::Result<Vec<_>, _>>();
    let mut all =
        all.map_err(|error| Error::new(ErrorKind::Internal, "a task of this program failed").with_source(error))?;
    all.sort_by_key(|followed| followed.index);
    let failed = all.iter().any(|followed| followed.failed);
    let events = all.iter().map(|followed| followed.events).sum();
    let ids: Vec<SubscriptionId> = all.into_iter().filter_map(|followed| followed.id).collect();
    print(out, Line::Closed { deleted, subscription_ids: &ids, events }.write(asked.format)).await?;
    Ok(deleted && !failed)
}

/// Ends with standard input. A thread of its own reads it: a read of a terminal
/// cannot be cancelled, and must not keep the process.
fn end_of_input() -> impl Future<Output = ()> {
    let (ended, wait) = oneshot::channel();
    std::thread::spawn(move || {
        if let Err(error) = io::copy(&mut io::stdin().lock(), &mut io::sink()) {
            tracing::debug!(%error, "standard input cannot be read; taken for its end");
        }
        // Nobody may be waiting for it any more.
        let _: std::result::Result<(), ()> = ended.send(());
    });
    async move {
        // The thread cannot go without telling, but by a panic; that is an end too.
        let _ = wait.await;
    }
}

async fn run(asked: &Arguments, out: &Output) -> Result<bool> {
    let signal = support::stop_signal()
        .map_err(|error| Error::new(ErrorKind::Config, "signals cannot be waited for").with_source(error))?;
    let input = end_of_input();
    let stop = Stop::when(async {
        tokio::select! {
            () = signal => {}
            () = input => {}
        }
    });
    match Server::from_env().map_err(|message| Error::new(ErrorKind::Config, message))? {
        Some(server) => listen(asked, &server, out, || (), &stop).await,
        None => {
            let emulator = Emulator::start().await?;
            let outcome = listen(asked, &emulator.server(), out, || emulator.show(), &stop).await;
            emulator.stop().await;
            outcome
        }
    }
}

/// Runs, tells what failed, and waits until all is written.
async fn run_and_tell(asked: &Arguments) -> ExitCode {
    let (out, written) = output::start(io::stdout());
    let well = match run(asked, &out).await {
        Ok(well) => well,
        Err(error) => {
            eprintln!("listen: {}", support::whole_story(&error));
            let line = Line::error(&error, None).write(asked.format);
            // Standard error has it, if standard output takes nothing any more.
            let _ = timeout(LAST_WORDS, print(&out, line)).await;
            false
        }
    };
    drop(out);
    match timeout(LAST_WORDS, written.finished()).await {
        Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("listen: standard output: {error}");
            ExitCode::FAILURE
        }
        Err(_) => {
            eprintln!("listen: standard output is not read");
            ExitCode::FAILURE
        }
        Ok(_) if well => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
    }
}

fn complain(Mistake { message, format }: Mistake) -> ExitCode {
    eprintln!("listen: {message}\n{USAGE}");
    if format == Format::Json {
        let error = Error::new(ErrorKind::Config, message);
        // The exit code and standard error tell it as well.
        let line = Line::error(&error, None).write(format).unwrap_or_default();
        let _ = writeln!(io::stdout(), "{line}");
    }
    ExitCode::from(2)
}

#[tokio::main]
async fn main() -> ExitCode {
    match arguments::parse(std::env::args_os().skip(1)) {
        Ok(Asked::Listen(asked)) => {
            support::log_to_stderr();
            run_and_tell(&asked).await
        }
        Ok(Asked::Help) => {
            // A reader who is gone does not need help.
            let _ = writeln!(io::stdout(), "{USAGE}");
            ExitCode::SUCCESS
        }
        Err(mistake) => complain(mistake),
    }
}
