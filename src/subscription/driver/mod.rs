//! The IO shell of the lifecycle: one task that turns effects into calls and links, and their results into inputs. It
//! never waits for the reader.

mod catch_up;
mod effects;
mod links;
mod reader;
mod results;
mod routes;
mod time;

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use futures_util::future::select_all;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::active::Active;
use super::calls::Calls;
use super::cleanup::Cleanup;
use super::ending::{Ending, Shutdown};
use super::filters::Filters;
use super::intake::Intake;
use super::links::Links;
use super::machine::{Input, LinkId, Machine};
use super::ops::{AbortOnDrop, Done};
use super::ports::{Batch, Command, Ports};
use super::recovery::Recovery;
use super::report::Report;
use super::routes::Routes;
use super::setup::Setup;
use crate::batches::Sender;
use crate::error::Result;
use crate::guard;
use crate::status::Status;
use crate::telemetry;
use crate::transport::{Link, LinkEvent};

pub(super) struct Driver {
    setup: Setup,
    machine: Machine,
    intake: Intake,
    recovery: Recovery,
    active: Active,
    filters: Filters<oneshot::Sender<Result<()>>>,
    cleanup: Cleanup,
    routes: Routes,
    links: Links<Box<dyn Link>, AbortOnDrop>,
    calls: Calls,
    report: Report,
    meter: telemetry::Lifecycle,
}

/// What woke the driver.
enum Wakeup {
    Shutdown(Option<Shutdown>),
    Command(Command),
    Done(Box<Done>),
    Link(LinkId, Result<LinkEvent>),
    Timer,
    Room,
    ReaderGone,
}

/// Runs a subscription until it has ended and every item is delivered. If the task panics, its subscriptions at the
/// service are deleted before the reader is informed (found 8).
///
/// Made before the first poll and boxed, since a future holds its arguments and the values made of them side by side:
/// that is several KiB for each subscription.
pub(super) fn run(setup: Setup, mut ports: Ports) -> impl Future<Output = ()> + Send {
    let mut driver = Box::new(Driver::new(setup));
    async move {
        if AssertUnwindSafe(driver.run(&mut ports)).catch_unwind().await.is_err() {
            return driver.abandon().await;
        }
        driver.publish(&ports.status);
        // Closes the status channel first so that watchers do not wait for cleanup.
        drop(ports.status);
        drop(ports.claim);
        driver.report_end(ports.out).await;
    }
}

impl Driver {
    fn new(mut setup: Setup) -> Self {
        let now = Instant::now();
        Self {
            machine: Machine::new(setup.settings.clone(), setup.seed),
            intake: Intake::new(setup.queue_bytes, setup.dedup_window, setup.resume.as_deref(), now),
            recovery: Recovery::new(&setup, now),
            active: Active::new(now, setup.clock.wall(), setup.resume.take().map(|token| *token), setup.adopt.take()),
            filters: Filters::new(std::mem::take(&mut setup.filters)),
            cleanup: Cleanup::new(setup.registry.clone(), std::mem::take(&mut setup.leftovers)),
            routes: Routes::new(setup.failover, setup.routes.len()),
            links: Links::new(),
            calls: Calls::new(),
            report: Report::new(Ending::new(setup.ending, now + setup.settings.start_within)),
            meter: telemetry::Lifecycle::new(&Status::starting(setup.transport.kind())),
            setup,
        }
    }

    async fn run(&mut self, ports: &mut Ports) {
        #[cfg(test)]
        let mut turns = tests::Turns::new(Instant::now());
        self.feed(Input::Start { adopt: self.active.to_adopt().is_some() });
        loop {
            self.run_effects();
            self.fail_over();
            self.run_effects();
            self.reconcile();
            self.publish(&ports.status);
            self.report_start(&mut ports.started);
            if self.deliver(&ports.out).is_err() {
                self.reader_gone();
                self.run_effects();
            }
            // There may be room now for a source's further pages.
            self.reconcile();
            self.stop_waiting();
            if self.is_over() {
                break;
            }
            #[cfg(test)]
            turns.count(Instant::now());
            let wakeup = self.wait(&ports.out, &mut ports.commands, &mut ports.shutdown).await;
            self.handle_wakeup(wakeup);
        }
    }

    async fn wait(
        &mut self,
        out: &Sender<Batch>,
        commands: &mut mpsc::Receiver<Command>,
        shutdown: &mut watch::Receiver<Option<Shutdown>>,
    ) -> Wakeup {
        let reads_links = self.reads_links(Instant::now());
        let timer = self.next_timer();
        let watching = !self.report.ending.is_dropped();
        tokio::select! {
            biased;
            changed = shutdown.changed(), if watching => match changed {
                Ok(()) => Wakeup::Shutdown(*shutdown.borrow_and_update()),
                Err(_) => Wakeup::ReaderGone,
            },
            Some(command) = commands.recv() => Wakeup::Command(command),
            done = self.calls.next() => done.map_or(Wakeup::Timer, |done| Wakeup::Done(Box::new(done))),
            () = sleep_until(timer) => Wakeup::Timer,
            (link, event) = next_event(&mut self.links), if reads_links => Wakeup::Link(link, event),
            () = out.room(), if self.intake.is_ready() => Wakeup::Room,
        }
    }

    fn handle_wakeup(&mut self, wakeup: Wakeup) {
        self.active.ledger.compare_clocks(Instant::now(), self.setup.clock.wall());
        self.learn_time();
        match wakeup {
            Wakeup::Shutdown(Some(how)) => self.shut_down(how),
            Wakeup::Command(command) => self.command(command),
            Wakeup::Done(done) => self.done(*done),
            Wakeup::Link(link, event) => self.link_event(link, event),
            Wakeup::ReaderGone => self.reader_gone(),
            Wakeup::Timer | Wakeup::Room | Wakeup::Shutdown(None) => {}
        }
        self.check_clock();
        let due = self.cleanup.due(Instant::now());
        self.delete_orphans(due);
        self.stop_waiting();
        self.drained();
        self.machine.handle_timeout(Instant::now().into_std());
    }

    fn feed(&mut self, input: Input) {
        self.machine.handle(Instant::now().into_std(), input);
        self.report.ending.observe(Instant::now(), self.machine.phase());
    }
}

/// The next event of any link; pends for ever without a link.
async fn next_event(links: &mut Links<Box<dyn Link>, AbortOnDrop>) -> (LinkId, Result<LinkEvent>) {
    let mut links = links.ready(Instant::now()).peekable();
    if links.peek().is_none() {
        return std::future::pending().await;
    }
    select_all(links.map(|(id, link)| event_of(link).map(move |event| (id, event)))).await.0
}

/// A link may be a user's code, and panic.
fn event_of(link: &mut Box<dyn Link>) -> impl Future<Output = Result<LinkEvent>> + Send + Unpin {
    let event = AssertUnwindSafe(link.next()).catch_unwind();
    event.map(|event| event.unwrap_or_else(|_| Err(guard::panicked("the transport's link"))))
}

#[cfg(test)]
#[path = "../driver_tests.rs"]
mod tests;
