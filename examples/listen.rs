//! Listens to events and prints them, one line each.
//!
//! ```text
//! cargo run --example listen
//! cargo run --example listen -- --transport websocket
//! cargo run --example listen -- --transport websocket,pubnub,poll
//! cargo run --example listen -- --filter /restapi/v1.0/account/~/extension/~/presence --format json
//! ```
//!
//! With `RC_SERVER_URL`, `RC_APP_CLIENT_ID`, `RC_APP_CLIENT_SECRET` and
//! `RC_USER_JWT` set (and `RC_PUBNUB_ORIGIN`, where PubNub is elsewhere) it
//! listens there; without them it starts the sandbox
//! and lets a few things happen.
//!
//! It ends at the end of standard input, by Ctrl-C or by SIGTERM; with
//! `</dev/null` that is at once, as soon as it is ready (within 10 s; a signal is
//! not kept waiting). Then it deletes its subscriptions, also those that it was
//! still creating, prints what had come, and says so. The exit code is 0 when all
//! went well, 1 after an error, 2 for a mistake on the command line. Nobody
//! reading standard output any more is a reason to end, not an error.
//!
//! `--format json` prints one object per line, and nothing else, on standard
//! output; logs (`RUST_LOG`) go to standard error. `type` is `ready`, when all
//! subscriptions are there, then `event`, `gap`, `resumed`, `undecodable`,
//! `filters_disabled`, `status` and `error`, and `closed` at last, if any
//! subscription was there or being created. `index` counts
//! the subscriptions from 0. An event's `body` is the service's text to the byte,
//! but for line breaks between its tokens, which become spaces. `raw`, the text of
//! what is `undecodable`, comes with `--show-raw` only: of a malformed answer it is
//! the whole, with the name of the channel, which is a secret.
//!
//! `--format text` shows control characters and the like as escapes.

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
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arguments::{Arguments, Asked, Mistake, USAGE};
use futures_util::StreamExt as _;
use lines::{Format, Line};
use offline::Emulator;
use output::Output;
use ringcentral_events::transport::{Poll, Transport, TransportKind, WebSocket};
use ringcentral_events::{
    Client, Delivery, Error, ErrorKind, FileCheckpoint, Phase, Result, ShutdownHandle, StatusWatch, Subscription,
    SubscriptionId, catch_up,
};
use support::tasks::{Tasks, held};
use support::{LAST_WORDS, Server, Stop};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};

/// A line gets so long when nothing may read standard output any more.
const LAST_LINE: Duration = Duration::from_secs(1);

/// What is watched of one subscription while its stream is being read.
struct Subject {
    handle: ShutdownHandle,
    status: StatusWatch,
    /// The first.
    id: Option<SubscriptionId>,
}

impl Subject {
    fn of(subscription: &Subscription) -> Self {
        Self { handle: subscription.shutdown_handle(), status: subscription.status(), id: subscription.id() }
    }

    /// The last, where it was recreated.
    fn id(&self) -> Option<SubscriptionId> {
        self.status.current().subscription_id.or_else(|| self.id.clone())
    }
}

/// Where lines go, and how they look.
#[derive(Clone)]
struct Printer {
    out: Output,
    format: Format,
    show_raw: bool,
    events: Arc<AtomicU64>,
}

impl Printer {
    /// An error is a line that could not be written as JSON; a reader who is gone is
    /// none, and seen by [`Output::gone`].
    async fn print(&self, line: &Line<'_>) -> Result<()> {
        let line = line.write(self.format);
        let line =
            line.map_err(|error| Error::new(ErrorKind::Internal, "a line cannot be written").with_source(error))?;
        // Gone is told to `listen`, which then ends everything.
        let _ = self.out.line(line).await;
        Ok(())
    }

    async fn delivery(&self, delivery: &Delivery, index: usize) -> Result<()> {
        let is_event = matches!(delivery, Delivery::Notification(_));
        self.events.fetch_add(u64::from(is_event), Ordering::Relaxed);
        self.print(&Line::delivery(delivery, index, self.show_raw)).await
    }

    /// Tells an error that belongs to no stream.
    async fn tell(&self, error: &Error) {
        eprintln!("listen: {}", support::printable(&support::whole_story(error)));
        // Standard error has it, if standard output takes nothing any more.
        let _ = timeout(LAST_LINE, self.print(&Line::error(error, None))).await;
    }
}

/// Prints what comes from one subscription, until its stream ends and the service
/// was told. Reads on when nobody reads the output any more: the end is near then.
/// `false` when something failed.
async fn follow(mut subscription: Subscription, index: usize, printer: Printer) -> bool {
    let mut status = subscription.status();
    let (mut well, mut phase) = (true, Phase::Starting);
    loop {
        let printed = tokio::select! {
            biased;
            Some(status) = status.changed() => {
                phase = status.phase;
                printer.print(&Line::status(&status, index)).await
            }
            delivery = subscription.next() => match delivery {
                Some(Ok(delivery)) => printer.delivery(&delivery, index).await,
                Some(Err(error)) => {
                    well = false;
                    printer.print(&Line::error(&error, Some(index))).await
                }
                None => break,
            },
        };
        well &= printed.is_ok();
    }
    // The stream may end before the last change of status.
    while phase != Phase::Closed {
        let Some(status) = status.changed().await else { break };
        phase = status.phase;
        well &= printer.print(&Line::status(&status, index)).await.is_ok();
    }
    well
}

/// What came of creating the subscriptions.
struct Begun {
    subscriptions: Vec<Subscription>,
    failure: Option<Error>,
    /// One was being created when it was time to end.
    broken_off: bool,
}

fn transport(kind: TransportKind, server: &Server) -> Result<Arc<dyn Transport>> {
    match kind {
        TransportKind::PubNub => Ok(Arc::new(server.pubnub()?)),
        TransportKind::WebSocket => Ok(Arc::new(WebSocket::builder().build()?)),
        TransportKind::Poll => Ok(Arc::new(Poll::new())),
        other => Err(Error::new(ErrorKind::Config, format!("{other} is not a transport of this program"))),
    }
}

/// Creates all subscriptions, on one client and the same transports, until one fails.
async fn subscribe(asked: &Arguments, client: &Client, transports: &[Arc<dyn Transport>], stop: &Stop) -> Begun {
    let mut begun = Begun { subscriptions: Vec::new(), failure: None, broken_off: false };
    for _ in 0..asked.subscriptions.get() {
        let mut builder = client.subscribe(asked.filters.iter().cloned());
        for (at, transport) in transports.iter().cloned().enumerate() {
            builder = if at == 0 { builder.shared_transport(transport) } else { builder.fall_back_to(transport) };
        }
        if asked.transports.contains(&TransportKind::Poll) {
            builder = builder.catch_up_all(catch_up::standard(client));
        }
        if let Some(lifetime) = asked.expires_in {
            builder = builder.expires_in(lifetime);
        }
        if let Some(path) = &asked.checkpoint {
            builder = builder.checkpoint(FileCheckpoint::new(path));
        }
        match stop.grace(builder.start()).await {
            Some(Ok(subscription)) => begun.subscriptions.push(subscription),
            Some(Err(error)) => {
                begun.failure = Some(error);
                break;
            }
            None => {
                let message = "told to end before the service had answered; what it creates all the same is deleted \
                               if it answers soon";
                begun.failure = Some(Error::new(ErrorKind::Timeout, message));
                begun.broken_off = true;
                break;
            }
        }
    }
    begun
}

/// Listens until `stop`, prints, and deletes. `false` when something failed
/// and was told.
async fn listen(
    asked: &Arguments,
    server: &Server,
    tokens: Option<PathBuf>,
    printer: &Printer,
    ready: impl FnOnce(),
    stop: &Stop,
) -> Result<bool> {
    let client = server.client_keeping(tokens.as_deref())?;
    let transports = asked.transports.iter().map(|kind| transport(*kind, server)).collect::<Result<_>>()?;
    let (transports, tasks) = held(transports);
    let Begun { subscriptions, failure, broken_off } = subscribe(asked, &client, &transports, stop).await;
    // Their tasks hold them from here on.
    drop(transports);
    let subjects: Vec<Subject> = subscriptions.iter().map(Subject::of).collect();
    let mut well = failure.is_none();
    if failure.is_none() {
        let ids: Vec<SubscriptionId> = subjects.iter().filter_map(Subject::id).collect();
        let filters: Vec<String> = asked.filters.iter().map(ToString::to_string).collect();
        let transport = subjects.first().map_or(asked.transports[0], |subject| subject.status.current().transport);
        well = printer.print(&Line::ready(transport, &ids, &filters)).await.is_ok();
    }
    let mut following = JoinSet::new();
    for (index, subscription) in subscriptions.into_iter().enumerate() {
        following.spawn(follow(subscription, index, printer.clone()));
    }
    match &failure {
        Some(error) => printer.tell(error).await,
        None => {
            ready();
            tokio::select! {
                () = stop.asked() => {}
                () = printer.out.gone() => {}
                Some(followed) = following.join_next() => well &= went_well(followed),
            }
        }
    }
    subjects.iter().for_each(|subject| subject.handle.drain());
    let (followed, over) = end(&subjects, following, tasks, printer).await;
    let deleted = over && subjects.iter().all(|subject| subject.status.current().deleted);
    if !subjects.is_empty() || broken_off {
        let ids: Vec<SubscriptionId> = subjects.iter().filter_map(Subject::id).collect();
        let events = printer.events.load(Ordering::Relaxed);
        let closed = Line::Closed { deleted, subscription_ids: &ids, events };
        // What standard output does not take was told on standard error.
        let _ = timeout(LAST_LINE, printer.print(&closed)).await;
    }
    Ok(well && followed && deleted)
}

/// Waits, within [`LAST_WORDS`], until all is printed and nothing is under way at
/// the service any more, and tells what is not. Whether the one went well, and
/// whether the other is known.
async fn end(subjects: &[Subject], mut following: JoinSet<bool>, tasks: Tasks, printer: &Printer) -> (bool, bool) {
    let deadline = Instant::now() + LAST_WORDS;
    let rest = async {
        let mut well = true;
        while let Some(followed) = following.join_next().await {
            well &= went_well(followed);
        }
        well
    };
    let followed = timeout_at(deadline, rest).await;
    if followed.is_err() {
        printer.tell(&Error::new(ErrorKind::Timeout, why_late(subjects))).await;
    }
    // Ends who still waits for standard output; their tasks need nobody to read.
    following.shutdown().await;
    let left = deadline.saturating_duration_since(Instant::now()).max(LAST_LINE);
    let over = tasks.over_within(left).await;
    if let (Ok(_), Err(error)) = (&followed, &over) {
        printer.tell(error).await;
    }
    (followed.unwrap_or(false), over.is_ok())
}

/// A task of this program that panicked is no success.
fn went_well(followed: std::result::Result<bool, JoinError>) -> bool {
    followed.unwrap_or(false)
}

/// Why not all was printed in time.
fn why_late(subjects: &[Subject]) -> &'static str {
    if subjects.iter().all(|subject| subject.status.current().phase == Phase::Closed) {
        "standard output is not read; what came last was not printed"
    } else {
        "the service has not confirmed the deletion in time; what came last may not have been printed"
    }
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

async fn run(asked: &Arguments, printer: &Printer) -> Result<bool> {
    let signal = support::stop_signal()
        .map_err(|error| Error::new(ErrorKind::Config, "signals cannot be waited for").with_source(error))?;
    let stop = Stop::when(signal, end_of_input());
    match Server::from_env().map_err(|message| Error::new(ErrorKind::Config, message))? {
        Some(server) => listen(asked, &server, asked.tokens(), printer, || (), &stop).await,
        None => {
            let emulator = Emulator::start().await?;
            let outcome =
                listen(asked, &emulator.server(), asked.tokens.clone(), printer, || emulator.show(), &stop).await;
            emulator.stop().await;
            outcome
        }
    }
}

/// Runs, tells what failed, and waits until all is written.
async fn run_and_tell(asked: &Arguments) -> ExitCode {
    let (out, written) = output::start(io::stdout());
    let printer = Printer { out, format: asked.format, show_raw: asked.show_raw, events: Arc::default() };
    let well = match run(asked, &printer).await {
        Ok(well) => well,
        Err(error) => {
            printer.tell(&error).await;
            false
        }
    };
    drop(printer);
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
    eprintln!("listen: {}\n{USAGE}", support::printable(&message));
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
