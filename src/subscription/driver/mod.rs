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
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::active::Active;
use super::calls::Calls;
use super::cleanup::Cleanup;
use super::continuity::Proven;
use super::ending::{self, Ending, Shutdown};
use super::failover;
use super::filters::Filters;
use super::intake::Intake;
use super::links::Links;
use super::machine::{Input, LinkId, Machine, Settings};
use super::ops::{AbortOnDrop, Done};
use super::progress::{Step, Traces};
use super::reconcile::Pace;
use super::report::Report;
use super::resume::ResumeToken;
use super::routes::Routes;
use crate::auth::StoreLock;
use crate::catch_up::CatchUp;
use crate::clock::Clock;
use crate::control::{ControlPlane, Cursor};
use crate::delivery::Delivery;
use crate::error::{Error, Result};
use crate::ids::{ExtensionId, SubscriptionId};
use crate::registry::Registry;
use crate::status::Status;
use crate::transport::{Link, LinkEvent, Transport};
use catch_up::Recovery;
use links::next_event;
pub(in crate::subscription) use routes::Route;

/// The driver's configuration at its start.
pub(in crate::subscription) struct Setup {
    pub(in crate::subscription) control: Arc<dyn ControlPlane>,
    pub(in crate::subscription) transport: Arc<dyn Transport>,
    /// Whether the service names an address to listen at.
    pub(in crate::subscription) has_address: bool,
    /// Whether nothing is pushed.
    pub(in crate::subscription) polls: bool,
    /// The transports, the present one first.
    pub(in crate::subscription) routes: Vec<Route>,
    pub(in crate::subscription) failover: failover::Terms,
    pub(in crate::subscription) registry: Arc<Registry>,
    pub(in crate::subscription) filters: Vec<String>,
    pub(in crate::subscription) catch_up: Vec<Arc<dyn CatchUp>>,
    pub(in crate::subscription) pace: Pace,
    /// Whether counts of messages are replaced by the messages.
    pub(in crate::subscription) enrich: bool,
    pub(in crate::subscription) expires_in: Option<u64>,
    pub(in crate::subscription) settings: Settings,
    pub(in crate::subscription) queue_bytes: usize,
    pub(in crate::subscription) dedup_window: (usize, Duration),
    pub(in crate::subscription) adopt: Option<SubscriptionId>,
    pub(in crate::subscription) resume: Option<ResumeToken>,
    pub(in crate::subscription) leftovers: Vec<SubscriptionId>,
    pub(in crate::subscription) ending: ending::Terms,
    pub(in crate::subscription) clock: Clock,
    pub(in crate::subscription) seed: u64,
}

/// The ends of the channels that the driver holds.
pub(in crate::subscription) struct Ports {
    pub(in crate::subscription) out: mpsc::Sender<Handed>,
    pub(in crate::subscription) commands: mpsc::Receiver<Command>,
    pub(in crate::subscription) shutdown: watch::Receiver<Option<Shutdown>>,
    pub(in crate::subscription) status: watch::Sender<Status>,
    pub(in crate::subscription) started: Option<oneshot::Sender<Result<()>>>,
    /// Holds the checkpoint for as long as the subscription may be at the service.
    pub(in crate::subscription) claim: Option<Arc<StoreLock>>,
}

/// An item for the reader.
pub(in crate::subscription) enum Handed {
    Delivery { delivery: Delivery, traces: Traces },
    Step(Step),
    End(Error),
}

/// A request of the user.
pub(in crate::subscription) enum Command {
    Update { filters: Vec<String>, answer: oneshot::Sender<Result<()>> },
    Revalidate,
}

/// A position in the stream: everything before it was delivered.
#[derive(Clone, Debug)]
pub(in crate::subscription) struct Mark {
    pub(in crate::subscription) cursor: Cursor,
    pub(in crate::subscription) place: Arc<Place>,
    /// What is proven once everything before it was read.
    pub(in crate::subscription) proven: Proven,
}

/// The subscription, and a fingerprint of its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::subscription) struct Place {
    pub(in crate::subscription) id: SubscriptionId,
    pub(in crate::subscription) fingerprint: String,
    /// The extension that `~` stands for, once that is known.
    pub(in crate::subscription) owner: Option<ExtensionId>,
}

pub(in crate::subscription) struct Driver {
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
pub(in crate::subscription) fn run(setup: Setup, mut ports: Ports) -> impl Future<Output = ()> + Send {
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
            intake: Intake::new(setup.queue_bytes, setup.dedup_window, setup.resume.as_ref(), now),
            recovery: Recovery::new(&setup, now),
            active: Active::new(now, setup.clock.wall(), setup.resume.take(), setup.adopt.take()),
            filters: Filters::new(std::mem::take(&mut setup.filters)),
            cleanup: Cleanup::new(setup.registry.clone(), std::mem::take(&mut setup.leftovers)),
            routes: Routes::new(setup.failover, setup.routes.len()),
            links: Links::new(),
            calls: Calls::new(),
            report: Report::new(Ending::new(setup.ending, now + setup.settings.start_within)),
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
        out: &mpsc::Sender<Handed>,
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
            permit = out.reserve(), if self.intake.is_ready() => match permit {
                Ok(_) => Wakeup::Room,
                Err(_) => Wakeup::ReaderGone,
            },
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

#[cfg(test)]
#[path = "../driver_tests.rs"]
mod tests;
