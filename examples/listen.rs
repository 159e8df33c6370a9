//! Prints events, one line each.
//!
//! ```text
//! cargo run --example listen
//! cargo run --example listen -- --transport pubnub
//! cargo run --example listen -- --transport websocket,pubnub,poll
//! cargo run --example listen -- --filter /restapi/v1.0/account/~/extension/~/presence --format json
//! ```
//!
//! With `RC_APP_CLIENT_ID`, `RC_APP_CLIENT_SECRET`, `RC_USER_JWT` and `RC_SERVER_URL` set (and
//! `RC_PUBNUB_ORIGIN` for another PubNub server) it connects there; without them it starts the
//! sandbox and triggers some events. With `--tokens FILE` the login is used again by the next run.
//!
//! It ends at the end of standard input, on Ctrl-C or SIGTERM; with `</dev/null` as soon as it is
//! ready (within 10 s; a signal ends it immediately). Then it deletes its subscriptions, including
//! those still being created, prints the remaining events and a last line. The exit code is 0 on
//! success, 1 after an error, 2 for a usage error. A closed standard output is a reason to end, not
//! an error.
//!
//! `--format json` prints only JSON objects, one per line, on standard output; logs (`RUST_LOG`) go
//! to standard error. `type` is `ready` once all subscriptions exist, then `event`, `gap`,
//! `resumed`, `undecodable`, `filters_disabled`, `status` and `error`, and finally `closed`, if any
//! subscription existed or was being created. Deliveries and states have the crate's stored form
//! (see `Delivery`), so that each of these lines can be read as a `Delivery` or a `Status`. Beside
//! it, `index` counts the subscriptions from 0, and an event's `body` is the service's text byte
//! for byte, except that line breaks between tokens become spaces. `raw`, the text of an
//! `undecodable` item, requires `--show-raw`: for a malformed answer it is the whole answer,
//! including the channel's name, which is a secret.
//!
//! `--format text` escapes control characters.

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
use lines::{Format, Line};
use offline::Emulator;
use output::Output;
use ringcentral_events::transport::{Transport, TransportKind};
use ringcentral_events::{
    Client, Delivery, Error, ErrorKind, FileCheckpoint, Phase, Result, ShutdownHandle, StatusWatch, Subscription,
    SubscriptionId, catch_up,
};
use support::tasks::{Tasks, held};
use support::{LAST_WORDS, Server, Stop};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};

/// Timeout of the last line if standard output may not be read any more.
const LAST_LINE: Duration = Duration::from_secs(1);

/// What the end of a subscription needs while its stream is being read.
struct Subject {
    handle: ShutdownHandle,
    status: StatusWatch,
    /// The first id.
    id: Option<SubscriptionId>,
}

impl Subject {
    fn of(subscription: &Subscription) -> Self {
        Self { handle: subscription.shutdown_handle(), status: subscription.status(), id: subscription.id() }
    }

    /// The latest id, which changes when the subscription is recreated.
    fn id(&self) -> Option<SubscriptionId> {
        self.status.current().subscription_id.or_else(|| self.id.clone())
    }
}

/// Prints lines in a format.
#[derive(Clone)]
struct Printer {
    out: Output,
    format: Format,
    show_raw: bool,
    events: Arc<AtomicU64>,
}

impl Printer {
    /// An error means that a line could not be serialized; a closed reader is not an error here and
    /// is noticed through [`Output::gone`].
    async fn print(&self, line: &Line<'_>) -> Result<()> {
        let line = line.write(self.format);
        let line =
            line.map_err(|error| Error::new(ErrorKind::Internal, "failed to serialize a line").with_source(error))?;
        // `listen` notices a closed reader and ends everything.
        let _ = self.out.line(line).await;
        Ok(())
    }

    async fn delivery(&self, delivery: &Delivery, index: usize) -> Result<()> {
        let is_event = matches!(delivery, Delivery::Notification(_));
        self.events.fetch_add(u64::from(is_event), Ordering::Relaxed);
        self.print(&Line::delivery(delivery, index, self.show_raw)).await
    }

    /// Prints an error that belongs to no stream.
    async fn report(&self, error: &Error) {
        eprintln!("listen: {}", support::printable(&support::error_chain(error)));
        // Standard error has it already, in case standard output is stuck.
        let _ = timeout(LAST_LINE, self.print(&Line::error(error, None))).await;
    }
}

/// Prints the deliveries of one subscription until its stream ends and the service confirmed the
/// deletion. Continues if the output is closed: the end is near then. `false` after a failure.
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
    // The stream may end before the last status change.
    while phase != Phase::Closed {
        let Some(status) = status.changed().await else { break };
        phase = status.phase;
        well &= printer.print(&Line::status(&status, index)).await.is_ok();
    }
    well
}

/// The result of creating the subscriptions.
struct Started {
    subscriptions: Vec<Subscription>,
    failure: Option<Error>,
    /// A creation was in progress at the end.
    aborted: bool,
}

/// Creates all subscriptions, on one client and the same transports, until one fails.
async fn subscribe(asked: &Arguments, client: &Client, transports: &[Arc<dyn Transport>], stop: &Stop) -> Started {
    let mut started = Started { subscriptions: Vec::new(), failure: None, aborted: false };
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
            Some(Ok(subscription)) => started.subscriptions.push(subscription),
            Some(Err(error)) => {
                started.failure = Some(error);
                break;
            }
            None => {
                let message = "stopped before the service answered; anything it still creates is deleted \
                               if it answers soon";
                started.failure = Some(Error::new(ErrorKind::Timeout, message));
                started.aborted = true;
                break;
            }
        }
    }
    started
}

/// Listens until `stop`, prints, and deletes. `false` after a reported failure.
async fn listen(
    asked: &Arguments,
    server: &Server,
    tokens: Option<PathBuf>,
    printer: &Printer,
    ready: impl FnOnce(),
    stop: &Stop,
) -> Result<bool> {
    let client = server.client_keeping(tokens.as_deref())?;
    let transports = asked.transports.iter().map(|kind| server.transport(*kind)).collect::<Result<_>>()?;
    let (transports, tasks) = held(transports);
    let Started { subscriptions, failure, aborted } = subscribe(asked, &client, &transports, stop).await;
    // The subscriptions' tasks hold them from now on.
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
        Some(error) => printer.report(error).await,
        None => {
            ready();
            tokio::select! {
                () = stop.asked() => {}
                () = printer.out.gone() => {}
                Some(followed) = following.join_next() => well &= succeeded(followed),
            }
        }
    }
    subjects.iter().for_each(|subject| subject.handle.drain());
    let (followed, over) = end(&subjects, following, tasks, printer).await;
    let deleted = over && subjects.iter().all(|subject| subject.status.current().deleted);
    if !subjects.is_empty() || aborted {
        let ids: Vec<SubscriptionId> = subjects.iter().filter_map(Subject::id).collect();
        let events = printer.events.load(Ordering::Relaxed);
        let closed = Line::closed(deleted, &ids, events);
        // If standard output is stuck, standard error has it.
        let _ = timeout(LAST_LINE, printer.print(&closed)).await;
    }
    Ok(well && followed && deleted)
}

/// Waits, up to [`LAST_WORDS`], until everything is printed and no request is in progress, and
/// reports what is missing. Returns whether the streams succeeded, and whether the deletions are
/// known.
async fn end(subjects: &[Subject], mut following: JoinSet<bool>, tasks: Tasks, printer: &Printer) -> (bool, bool) {
    let deadline = Instant::now() + LAST_WORDS;
    let rest = async {
        let mut well = true;
        while let Some(followed) = following.join_next().await {
            well &= succeeded(followed);
        }
        well
    };
    let followed = timeout_at(deadline, rest).await;
    if followed.is_err() {
        printer.report(&Error::new(ErrorKind::Timeout, why_late(subjects))).await;
    }
    // Stops the tasks that still wait for standard output; the subscriptions' tasks need no reader.
    following.shutdown().await;
    let left = deadline.saturating_duration_since(Instant::now()).max(LAST_LINE);
    let over = tasks.over_within(left).await;
    if let (Ok(_), Err(error)) = (&followed, &over) {
        printer.report(error).await;
    }
    (followed.unwrap_or(false), over.is_ok())
}

/// A panicked task is a failure.
fn succeeded(followed: std::result::Result<bool, JoinError>) -> bool {
    followed.unwrap_or(false)
}

/// Why printing did not finish in time.
fn why_late(subjects: &[Subject]) -> &'static str {
    if subjects.iter().all(|subject| subject.status.current().phase == Phase::Closed) {
        "standard output is not being read; the last lines were not printed"
    } else {
        "the service did not confirm the deletion in time; the last lines may be missing"
    }
}

/// Completes at the end of standard input. A separate thread reads it: a read of a terminal cannot
/// be cancelled and must not delay the exit.
fn end_of_input() -> impl Future<Output = ()> {
    let (ended, wait) = oneshot::channel();
    std::thread::spawn(move || {
        if let Err(error) = io::copy(&mut io::stdin().lock(), &mut io::sink()) {
            tracing::debug!(%error, "failed to read standard input; treating it as the end");
        }
        // The receiver may be gone.
        let _: std::result::Result<(), ()> = ended.send(());
    });
    async move {
        // The thread always sends, unless it panics; that counts as the end too.
        let _ = wait.await;
    }
}

async fn run(asked: &Arguments, printer: &Printer) -> Result<bool> {
    let signal = support::stop_signal()
        .map_err(|error| Error::new(ErrorKind::Config, "failed to listen for signals").with_source(error))?;
    let stop = Stop::when(signal, end_of_input());
    match Server::from_env() {
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

/// Runs, reports failures, and waits until everything is written.
async fn run_and_report(asked: &Arguments) -> ExitCode {
    let (out, written) = output::start(io::stdout());
    let printer = Printer { out, format: asked.format, show_raw: asked.show_raw, events: Arc::default() };
    let well = match run(asked, &printer).await {
        Ok(well) => well,
        Err(error) => {
            printer.report(&error).await;
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
        // The exit code and standard error report it as well.
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
            run_and_report(&asked).await
        }
        Ok(Asked::Help) => {
            // A closed reader needs no help text.
            let _ = writeln!(io::stdout(), "{USAGE}");
            ExitCode::SUCCESS
        }
        Err(mistake) => complain(mistake),
    }
}
