//! A program that stores its position, and is crashed repeatedly.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use ringcentral_events::{
    AckMode, Checkpoint, ErrorKind, FileCheckpoint, OnDrop, RedbCheckpoints, Subscription, System,
};

use super::http::{SimHttp, Waits};
use super::store::SimDisk;
use super::{
    Finished, Log, Patience, SimClock, SimRandom, build, close, failed, follow, login, note, said, take, until,
};
use crate::core::{Core, Shared};
use crate::disk::Disk;
use crate::net::ConnId;
use crate::oracle::Ack;
use crate::rng::Rng;
use crate::schedule::{Crash, CrashPlan, FaultKind, Schedule, Store};
use crate::service::subs::Sub;
use crate::time::{MS, Us};

/// A crash that waits for a disk operation happens without one after this time.
const NO_OPERATION: Duration = Duration::from_secs(15);

enum Ended {
    Crashed(Crash),
    Over,
}

/// Runs one schedule from beginning to end, each process in a separate runtime: the client's background tasks end with
/// it.
pub(super) fn run(schedule: &Arc<Schedule>, plan: &CrashPlan, keep_trace: bool) -> Finished {
    let log: Log = Arc::default();
    let mut world: Option<(Shared, SimDisk)> = None;
    let mut begins = 0;
    for number in 0.. {
        let runtime = super::paused();
        let crash = plan.crashes.get(number).copied();
        let ended = runtime.block_on(async {
            let (shared, disk) = world.get_or_insert_with(|| {
                let shared = Shared::new(Core::new(schedule.clone(), keep_trace));
                let disk = Disk::new(plan.disk, Rng::part(schedule.seed, 42));
                (shared.clone(), SimDisk::new(disk, shared))
            });
            if number > 0 {
                shared.begin_again(begins);
            }
            let drive = tokio::spawn(shared.clone().drive());
            let patience = Patience::begin();
            let process = Process { schedule, plan, shared, disk, log: &log, number };
            let ended = tokio::select! {
                biased;
                () = patience.over() => {
                    note(&log, |record| {
                        record.stuck = Some("a task that never waits");
                        record.closing = record.log.last().map_or(0, |(at, _)| *at);
                    });
                    Ended::Over
                }
                ended = crash_of(crash, disk) => ended,
                served = AssertUnwindSafe(process.serve()).catch_unwind() => {
                    match served {
                        Ok(served) => process.settle(served).await,
                        Err(_) => note(&log, |record| {
                            record.panics.push("the program under test panicked".into());
                            record.closing = shared.now();
                        }),
                    }
                    Ended::Over
                }
            };
            drive.abort();
            ended
        });
        let Some((shared, disk)) = &world else { unreachable!("it was made") };
        let Ended::Crashed(crash) = ended else {
            shared.end();
            drop(runtime);
            break;
        };
        begins = runtime.block_on(async {
            let now = shared.now();
            shared.with(|core| {
                core.note(format_args!("{crash:?}"));
                core.polls = false;
                core.say("starting", false);
                if crash.power {
                    core.net.client_vanish();
                } else {
                    core.net.client_killed(&mut core.q);
                }
            });
            note(&log, |record| {
                record.crashes.push(now);
                record.restarts.push(record.log.len());
            });
            now + crash.down_ms * MS
        });
        disk.disk().stop();
        shared.end();
        drop(runtime);
        disk.disk().restart(crash.power);
    }
    let Some((shared, disk)) = world else { unreachable!("it was made") };
    let mut record = log.lock().map(|record| record.clone()).unwrap_or_default();
    record.panics.extend(crate::runner::take_panics());
    {
        let disk = disk.disk();
        record.is_disk_honest = disk.lost_syncs == 0;
        (record.disk_operations, record.torn) = (disk.operations, disk.torn);
    }
    drop(disk);
    let core = shared.into_core(schedule);
    record.connections_most = core.net.client_open_most;
    Finished { core, record }
}

/// Ends a process that has to crash.
async fn crash_of(crash: Option<Crash>, disk: &SimDisk) -> Ended {
    let Some(crash) = crash else { return std::future::pending().await };
    tokio::time::sleep(Duration::from_micros(crash.after)).await;
    if let Some(operation) = crash.operation {
        disk.disk().arm(operation);
        // The process ends, whether or not the operation was reached.
        let _reached = tokio::time::timeout(NO_OPERATION, disk.stopped()).await;
    }
    Ended::Crashed(crash)
}

struct Process<'a> {
    schedule: &'a Arc<Schedule>,
    plan: &'a CrashPlan,
    shared: &'a Shared,
    disk: &'a SimDisk,
    log: &'a Log,
    number: usize,
}

/// The state of a process that ended normally.
struct Served {
    waits: Arc<Mutex<Waits>>,
    /// Its first connection.
    began: ConnId,
    /// The subscription that it took over.
    adopted: Option<String>,
    follow: Option<tokio::task::JoinHandle<()>>,
}

impl Process<'_> {
    /// Gives background tasks time, then counts what remains.
    async fn settle(&self, served: Served) {
        let Served { waits, began, adopted, follow } = served;
        tokio::time::sleep(Duration::from_secs(20)).await;
        if let Some(follow) = follow {
            follow.abort();
        }
        // A creation that an earlier process requested may be carried out after that process ended.
        let left = self.shared.with(|core| {
            let is_its = |sub: &Sub| sub.by.is_some_and(|by| by >= began) || adopted.as_ref() == Some(&sub.id);
            core.service.subs.ours_left(core.now(), is_its)
        });
        tokio::time::sleep(Duration::from_secs(60)).await;
        note(self.log, |record| {
            record.left = left;
            if let Ok(waits) = waits.lock() {
                (record.unanswered, record.longest_wait) = (waits.under_way, waits.longest);
            }
        });
    }

    /// The program's report of an unusable store.
    fn refused(&self, error: &impl std::fmt::Display) {
        let now = self.shared.now();
        self.shared.with(|core| core.note(format_args!("the store is refused: {error}")));
        note(self.log, |record| {
            record.store_refused = Some((now, error.to_string()));
            record.closing = now;
        });
    }

    async fn store(&self) -> Option<Arc<dyn Checkpoint>> {
        match self.plan.store {
            Store::File => Some(Arc::new(FileCheckpoint::new("/sim/place").with_files(self.disk.clone()))),
            Store::Redb => match RedbCheckpoints::open_backend("sim", self.disk.clone()) {
                Ok(all) => Some(Arc::new(all.checkpoint("place"))),
                Err(error) => {
                    self.ends_with_the_machine().await;
                    self.refused(&error);
                    None
                }
            },
        }
    }

    /// Errors that a process handles after its machine stopped do not count.
    async fn ends_with_the_machine(&self) {
        if self.disk.disk().is_down() {
            std::future::pending::<()>().await;
        }
    }

    async fn serve(&self) -> Served {
        let (schedule, shared, log) = (self.schedule, self.shared, self.log);
        let http = SimHttp::new(shared.clone());
        let began = shared.with(|core| core.net.next_id());
        let mut served = Served { waits: http.waits(), began, adopted: None, follow: None };
        let clock = SimClock { shared: shared.clone() };
        let random = SimRandom::new(Rng::part(schedule.seed, 61 + self.number as u64));
        let system = System::new().with_http(http).with_clock(clock).with_random(random);
        let client = login(system);
        let built = client.and_then(|client| build(schedule, &client));
        let builder = match built {
            Ok(builder) => builder,
            Err(error) => {
                failed(log, &error);
                return served;
            }
        };
        let Some(store) = self.store().await else { return served };
        if has_started(log) && matches!(store.load().await, Ok(None)) {
            note(log, |record| record.forgotten.push(shared.now()));
        }
        let builder = builder.checkpoint(store);
        let mode = if self.plan.explicit { AckMode::Explicit } else { AckMode::OnNext };
        let start = builder.ack_mode(mode).on_drop(OnDrop::Keep).start();
        let subscription = match self.shared.within(Duration::from_secs(170), start).await {
            Some(Ok(subscription)) => subscription,
            Some(Err(error)) => {
                self.ends_with_the_machine().await;
                if error.kind() == ErrorKind::Store {
                    self.refused(&error);
                } else if has_started(log) {
                    self.not_up(&error);
                } else {
                    failed(log, &error);
                }
                return served;
            }
            None => {
                note(log, |record| record.stuck = Some("start"));
                return served;
            }
        };
        note(log, |record| {
            record.started.get_or_insert(shared.now());
            record.last_up = Some(self.number);
        });
        shared.with(|core| core.note(format_args!("started")));
        served.adopted = subscription.id().filter(|_| self.number > 0).map(|id| id.to_string());
        let status = subscription.status();
        served.follow = Some(tokio::spawn(follow(status, shared.clone(), said)));
        let left = self.read(subscription).await;
        note(log, |record| record.closing = shared.now());
        if let Some(subscription) = left {
            close(subscription, shared, log).await;
        }
        served
    }

    /// A program that never started has no claim to the events that it missed: its last stream
    /// ended with the last process that had started.
    fn not_up(&self, error: &impl std::fmt::Display) {
        self.shared.with(|core| core.note(format_args!("not started: {error}")));
        note(self.log, |record| {
            let last = record.last_up.and_then(|process| record.crashes.get(process));
            record.closing = last.copied().unwrap_or_default();
        });
    }

    async fn read(&self, mut subscription: Subscription) -> Option<Subscription> {
        let (schedule, shared, log) = (self.schedule, self.shared, self.log);
        let mut rng = Rng::part(schedule.seed, 81 + self.number as u64);
        let mut stalls: Vec<(Us, Us)> = schedule
            .faults
            .iter()
            .filter_map(|fault| match fault.what {
                FaultKind::Stall(ms) if fault.at >= shared.now() => Some((fault.at, ms * MS)),
                _ => None,
            })
            .collect();
        stalls.reverse();
        loop {
            let wait = until(shared, schedule.end);
            if wait.is_zero() {
                return Some(subscription);
            }
            let now = shared.now();
            if let Some((_, length)) = stalls.pop_if(|(at, _)| *at <= now) {
                tokio::time::sleep(Duration::from_micros(length).min(wait)).await;
                continue;
            }
            let next = stalls.last().map_or(wait, |(at, _)| until(shared, *at).min(wait));
            let delivery = tokio::select! {
                biased;
                delivery = subscription.next() => delivery,
                () = tokio::time::sleep(next.max(Duration::from_millis(1))) => continue,
            };
            match delivery {
                Some(Ok(delivery)) => take(delivery, shared, log),
                Some(Err(error)) => {
                    note(log, |record| record.stream_error = Some((shared.now(), error.to_string())));
                    return None;
                }
                None => {
                    note(log, |record| {
                        record.stream_error.get_or_insert((shared.now(), "the stream ended".into()));
                    });
                    return None;
                }
            }
            if self.plan.explicit && rng.percent(self.plan.ack_percent) {
                let place = self.begin_ack();
                let kept = subscription.ack().await;
                shared.with(|core| core.note(format_args!("acknowledged: {}", kept.is_ok())));
                note(log, |record| {
                    if let Some(ack) = record.acks.get_mut(place) {
                        ack.kept = kept.is_ok();
                    }
                });
            }
        }
    }

    /// The program has finished everything that was read until now.
    fn begin_ack(&self) -> usize {
        let mut place = 0;
        note(self.log, |record| {
            place = record.acks.len();
            record.acks.push(Ack { process: self.number, read: record.log.len(), kept: false });
        });
        place
    }
}

/// Whether a process before this one had started.
fn has_started(log: &Log) -> bool {
    log.lock().is_ok_and(|record| record.started.is_some())
}
