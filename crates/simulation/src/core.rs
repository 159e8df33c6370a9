//! One run: the network, the service, the faults of its schedule, and the client's time.
//!
//! Everything but the client is a heap of events with due times. One task advances it with tokio's paused clock; every
//! socket operation of the client brings it up to date first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::net::{Dir, Host, Net, NetEv, Upcall};
use crate::rng::Rng;
use crate::sched::Sched;
use crate::schedule::{FaultKind, Hosts, Mode, Schedule};
use crate::service::{Cx, HttpFault, Service, SvcEv};
use crate::time::{MS, SEC, Us};
use crate::trace::Trace;
use crate::world::Filter;

/// An event that is due at a time.
#[derive(Debug)]
pub(crate) enum Ev {
    Net(NetEv),
    Svc(SvcEv),
    Emit(usize),
    Remove(u32),
    Fault(usize),
    Sample,
}

impl From<NetEv> for Ev {
    fn from(event: NetEv) -> Self {
        Self::Net(event)
    }
}

impl From<SvcEv> for Ev {
    fn from(event: SvcEv) -> Self {
        Self::Svc(event)
    }
}

/// The truth and the client's status at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) at: Us,
    /// An event that is sent now would arrive by itself.
    pub(crate) delivers: bool,
    /// The client says that events can arrive.
    pub(crate) healthy: bool,
    /// The client cannot notice because it is not running.
    pub(crate) frozen: bool,
    /// The service is reachable: every host accepts.
    pub(crate) reachable: bool,
    /// The client's process has light calls left for an audit.
    pub(crate) has_room: bool,
    /// The subscription is gone at the service, and only a request shows it.
    pub(crate) deaf: bool,
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) q: Sched<Ev>,
    pub(crate) net: Net,
    pub(crate) service: Service,
    pub(crate) trace: Trace,
    pub(crate) schedule: Arc<Schedule>,
    pub(crate) samples: Vec<Sample>,
    /// Each fault that was applied: its number, when, and the client's phase.
    pub(crate) applied: Vec<(usize, Us, &'static str)>,
    pub(crate) phase: &'static str,
    pub(crate) healthy: bool,
    /// The client polls sources, and has no push.
    pub(crate) polls: bool,
    frozen: bool,
    /// The subscription whose events arrived last.
    served: Option<usize>,
    up: Vec<Upcall>,
    /// Faults that wait for a phase of the client.
    waiting: Vec<usize>,
    /// Until when the client's process stands still, and whether its clock continues.
    stops: VecDeque<(Us, bool)>,
    /// How often it stood still.
    stopped: u64,
    /// When the client's wall clock jumped, and by how many seconds.
    pub(crate) jumps: Vec<(Us, i64)>,
    /// The program's next actions.
    pub(crate) program: VecDeque<FaultKind>,
    /// Signals an action for the program.
    pub(crate) bell: Arc<Notify>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Service")
    }
}

const SAMPLE: Us = SEC / 2;
/// How long polling takes to read everything that push would have delivered.
const POLLED: Us = 75 * SEC;

impl Core {
    pub(crate) fn new(schedule: Arc<Schedule>, keep_trace: bool) -> Self {
        let seed = schedule.seed;
        let mut q = Sched::new();
        for (index, event) in schedule.events.iter().enumerate() {
            q.at(event.at, Ev::Emit(index));
        }
        for (index, fault) in schedule.faults.iter().enumerate() {
            q.at(fault.at, Ev::Fault(index));
        }
        for (at, event) in &schedule.deletions {
            q.at(*at, Ev::Remove(*event));
        }
        q.at(0, Ev::Sample);
        Self {
            q,
            net: Net::new(schedule.profile.clone(), Rng::part(seed, 21)),
            service: Service::new(schedule.knobs.clone(), seed),
            trace: Trace::new(keep_trace),
            schedule,
            samples: Vec::new(),
            applied: Vec::new(),
            phase: "starting",
            healthy: false,
            polls: false,
            frozen: false,
            served: None,
            up: Vec::new(),
            waiting: Vec::new(),
            stops: VecDeque::new(),
            stopped: 0,
            jumps: Vec::new(),
            program: VecDeque::new(),
            bell: Arc::default(),
        }
    }

    /// Records the client's status.
    pub(crate) fn say(&mut self, phase: &'static str, healthy: bool) {
        (self.phase, self.healthy) = (phase, healthy);
        let schedule = self.schedule.clone();
        let mut due = Vec::new();
        self.waiting.retain(|index| {
            let is_due = schedule.faults[*index].phase == Some(phase);
            if is_due {
                due.push(*index);
            }
            !is_due
        });
        for index in due {
            // Some time later the client may have left the phase again.
            self.q.after(MS, Ev::Fault(index));
        }
    }

    pub(crate) fn now(&self) -> Us {
        self.q.now()
    }

    pub(crate) fn note(&mut self, what: std::fmt::Arguments<'_>) {
        let now = self.q.now();
        self.trace.add(now, what);
    }

    fn cx(&mut self) -> (&mut Service, Cx<'_>) {
        (&mut self.service, Cx { q: &mut self.q, net: &mut self.net, trace: &mut self.trace })
    }

    /// Processes everything that is due by `until`.
    pub(crate) fn run_until(&mut self, until: Us) {
        while let Some(event) = self.q.pop(until) {
            match event {
                Ev::Net(event) => {
                    let mut up = std::mem::take(&mut self.up);
                    self.net.step(event, &mut self.q, &mut up);
                    for call in up.drain(..) {
                        let (service, mut cx) = self.cx();
                        service.upcall(call, &mut cx);
                    }
                    self.up = up;
                }
                Ev::Svc(event) => {
                    let (service, mut cx) = self.cx();
                    service.step(event, &mut cx);
                }
                Ev::Emit(index) => {
                    let event = self.schedule.events[index];
                    let (service, mut cx) = self.cx();
                    service.emit(event, &mut cx);
                }
                Ev::Remove(event) => {
                    let now = self.q.now();
                    self.service.delete_message(event, now);
                }
                Ev::Fault(index) => {
                    self.fault(index);
                    self.sample();
                }
                Ev::Sample => {
                    self.sample();
                    self.q.after(SAMPLE, Ev::Sample);
                }
            }
        }
    }

    /// Samples at regular times, and where a fault may have changed the truth.
    fn sample(&mut self) {
        let at = self.q.now();
        let delivers = self.delivering(at);
        self.served = delivers.filter(|index| *index < self.service.subs.all.len()).or(self.served);
        let sample = Sample {
            at,
            delivers: delivers.is_some(),
            healthy: self.healthy,
            frozen: self.frozen,
            reachable: Host::ALL.iter().all(|host| self.net.accepts_from(*host) <= at),
            has_room: self.service.rates.has_room(crate::service::auth::Group::Light, at, 2),
            deaf: self.is_deaf(at),
        };
        self.samples.push(sample);
    }

    /// The subscription whose events arrived last serves no more. One that was created without the client having read
    /// its id makes no difference: only a request shows that this one is gone.
    fn is_deaf(&self, now: Us) -> bool {
        let subs = &self.service.subs.all;
        let is_serving = match self.served.and_then(|index| subs.get(index)) {
            Some(sub) => sub.is_serving(now),
            None => subs.iter().any(|sub| sub.is_ours && sub.is_serving(now)),
        };
        self.schedule.mode != Mode::Agent && !self.polls && !is_serving
    }

    /// The subscription whose events would reach the client by themselves, for each filter.
    fn delivering(&self, now: Us) -> Option<usize> {
        const BETWEEN_POLLS: Us = 3 * SEC;
        if self.schedule.mode == Mode::Agent {
            return self.service.agent.delivers(&self.net, now).then_some(0);
        }
        if self.polls {
            let is_recent = self.service.last_source.is_some_and(|at| at + POLLED > now);
            // It has no subscription.
            return is_recent.then_some(usize::MAX);
        }
        (0..self.service.subs.all.len()).rev().find(|index| {
            let index = *index;
            let sub = &self.service.subs.all[index];
            if !sub.is_ours || !sub.is_serving(now) {
                return false;
            }
            if sub.is_socket {
                return self.service.gateway.delivers(index, &self.net, now);
            }
            let polls = &self.service.pubnub;
            polls.is_polled(&sub.channel, &self.net, now)
                || polls.last_poll.get(&sub.channel).is_some_and(|at| at + BETWEEN_POLLS > now)
        })
    }

    /// The connections that bring events now.
    fn push_conns(&self) -> Vec<u32> {
        let host = match self.schedule.mode {
            Mode::Agent => Host::Agent,
            Mode::WebSocket => Host::Gateway,
            Mode::PubNub => Host::PubNub,
            Mode::FailOver => {
                let mut both = self.net.open_to(Host::Gateway);
                both.extend(self.net.open_to(Host::PubNub));
                return both;
            }
        };
        self.net.open_to(host)
    }

    fn fault(&mut self, index: usize) {
        let fault = self.schedule.faults[index];
        let now = self.q.now();
        if fault.phase.is_some_and(|phase| phase != self.phase) {
            return self.waiting.push(index);
        }
        self.note(format_args!("fault {index}: {:?}", fault.what));
        self.applied.push((index, now, self.phase));
        let push = self.push_conns();
        match fault.what {
            FaultKind::End(how) => {
                for conn in push {
                    self.net.end(conn, how, &mut self.q);
                }
            }
            FaultKind::Hold(dir, ms) => {
                for conn in push {
                    self.net.hold(conn, dir, now + ms * MS, &mut self.q);
                }
            }
            FaultKind::BlackHole(ms) => {
                let until = now + ms * MS;
                for conn in push {
                    self.net.hold(conn, Dir::ToClient, until, &mut self.q);
                    self.net.hold(conn, Dir::ToService, until, &mut self.q);
                }
            }
            FaultKind::Swallow(ms) => {
                for conn in push {
                    self.net.swallow(conn, now + ms * MS, &mut self.q);
                }
            }
            FaultKind::Dribble(ms) => {
                for conn in push {
                    self.net.dribble(conn, now + ms * MS);
                }
            }
            FaultKind::Slow { by_ms, ms } => self.net.slow(by_ms * MS, now + ms * MS),
            FaultKind::Refuse { hosts, ms, kill } => {
                for host in Host::ALL.into_iter().filter(|host| hosts.has(*host)) {
                    self.net.refuse(host, now + ms * MS);
                    if let Some(how) = kill {
                        for conn in self.net.open_to(host) {
                            self.net.end(conn, how, &mut self.q);
                        }
                    }
                }
            }
            FaultKind::Hang { hosts, ms } => {
                for host in Host::ALL.into_iter().filter(|host| hosts.has(*host)) {
                    self.net.hang(host, now + ms * MS);
                    for conn in self.net.open_to(host) {
                        self.net.hold(conn, Dir::ToClient, now + ms * MS, &mut self.q);
                        self.net.hold(conn, Dir::ToService, now + ms * MS, &mut self.q);
                    }
                }
            }
            FaultKind::Http { op, wrong, times, ms } => {
                self.service.faults.push(HttpFault { op, wrong, left: times, until: now + ms * MS });
            }
            FaultKind::LoseSubscription | FaultKind::Suspend => {
                let gone = fault.what == FaultKind::LoseSubscription;
                for sub in self.service.subs.all.iter_mut().filter(|sub| sub.is_ours && sub.is_serving(now)) {
                    sub.deaf_since = Some(now);
                    if gone {
                        sub.is_gone = true;
                    } else {
                        sub.is_active = false;
                    }
                }
            }
            FaultKind::PurgeBuffers => self.service.pubnub.purge(),
            FaultKind::RepeatAll => self.service.pubnub.repeats_all = true,
            FaultKind::ExpireTokens => self.service.auth.expire_all(),
            FaultKind::EndLogins => {
                let logins = self.service.auth.end_all();
                for login in logins {
                    let (service, mut cx) = self.cx();
                    service.end_login(login, &mut cx);
                }
            }
            FaultKind::CloseSockets(code) => {
                for conn in self.service.gateway.attached() {
                    let (service, mut cx) = self.cx();
                    service.close_socket(conn, code, &mut cx);
                }
            }
            FaultKind::ForgetSessions => {
                let (service, mut cx) = self.cx();
                service.forget_sessions(&mut cx);
            }
            FaultKind::Foreign => {
                let asked: Vec<String> = self.schedule.filters.iter().map(|it| it.uri().to_owned()).collect();
                let is_socket = self.schedule.mode == Mode::WebSocket;
                let (service, mut cx) = self.cx();
                service.add_sub(asked, is_socket, None, &mut cx);
            }
            FaultKind::Freeze(ms) => self.stops.push_back((now + ms * MS, true)),
            FaultKind::Sleep(ms) => self.stops.push_back((now + ms * MS, false)),
            FaultKind::ClockSet(seconds) => self.service.set_clock_back(seconds * SEC, now),
            FaultKind::WallJump(seconds) => self.jumps.push((now, seconds)),
            // The program's side handles the ones with a fixed time.
            FaultKind::Stall(_) | FaultKind::Restart { .. } if fault.phase.is_none() => {}
            FaultKind::Stall(_) | FaultKind::Restart { .. } | FaultKind::Revalidate => {
                self.program.push_back(fault.what);
                self.bell.notify_one();
            }
        }
    }

    /// How many events of another program are missing.
    pub(crate) fn foreign_missing(&self, now: Us) -> usize {
        self.service.subs.all.iter().filter(|sub| !sub.is_ours && !sub.exists(now) && sub.expires > now).count()
    }
}

impl Hosts {
    fn has(self, host: Host) -> bool {
        match self {
            Self::All => true,
            Self::Platform => host == Host::Platform,
            Self::Push => host != Host::Platform,
        }
    }
}

#[derive(Debug)]
struct Inner {
    core: Mutex<Core>,
    notify: Notify,
    /// When the runtime of this process began.
    start: Mutex<Instant>,
    /// Microseconds that the client's own clock stood still for, or that passed before this process.
    slept: AtomicU64,
    armed: AtomicU64,
    is_over: AtomicBool,
}

/// The run, shared with the client's side.
#[derive(Debug, Clone)]
pub(crate) struct Shared(Arc<Inner>);

impl Shared {
    /// Must be called within a runtime whose clock is paused.
    pub(crate) fn new(core: Core) -> Self {
        Self(Arc::new(Inner {
            core: Mutex::new(core),
            notify: Notify::new(),
            start: Mutex::new(Instant::now()),
            slept: AtomicU64::new(0),
            armed: AtomicU64::new(Us::MAX),
            is_over: AtomicBool::new(false),
        }))
    }

    /// The service's time.
    pub(crate) fn now(&self) -> Us {
        let slept = self.0.slept.load(Ordering::Relaxed);
        let start = *self.0.start.lock().unwrap_or_else(PoisonError::into_inner);
        u64::try_from(start.elapsed().as_micros()).unwrap_or(Us::MAX) + slept
    }

    /// Another process begins at `at`, within another runtime whose clock is paused.
    pub(crate) fn begin_again(&self, at: Us) {
        *self.0.start.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.slept.store(at, Ordering::Relaxed);
        self.0.armed.store(Us::MAX, Ordering::Relaxed);
        self.0.is_over.store(false, Ordering::Relaxed);
    }

    /// Accesses the run, after bringing it up to date.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut Core) -> R) -> R {
        let mut core = match self.0.core.try_lock() {
            Ok(core) => core,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => panic!("the run is entered twice"),
        };
        if self.0.is_over.load(Ordering::Relaxed) {
            return act(&mut core);
        }
        core.run_until(self.now());
        let result = act(&mut core);
        let next = core.q.next_time().unwrap_or(Us::MAX);
        drop(core);
        if next < self.0.armed.load(Ordering::Relaxed) {
            self.0.notify.notify_one();
        }
        result
    }

    /// Waits for `what`, no longer than `bound`: `None`. If the process stood still meanwhile, it has that time again.
    pub(crate) async fn within<T>(&self, bound: Duration, what: impl Future<Output = T>) -> Option<T> {
        let mut what = std::pin::pin!(what);
        loop {
            let stopped = self.with(|core| core.stopped);
            match tokio::time::timeout(bound, &mut what).await {
                Ok(done) => return Some(done),
                Err(_) if self.with(|core| core.stopped) > stopped => {}
                Err(_) => return None,
            }
        }
    }

    /// No time passes from here on: the runtime is about to end.
    pub(crate) fn end(&self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }

    /// Advances the run, for ever.
    pub(crate) async fn drive(self) {
        loop {
            if let Some((until, counts)) = self.with(|core| core.stops.pop_front()) {
                // A stop that begins within another one adds its rest.
                self.stop(until.saturating_sub(self.now()), counts).await;
                continue;
            }
            let due = self.with(|core| core.q.next_time());
            let due = due.unwrap_or(Us::MAX);
            self.0.armed.store(due, Ordering::Relaxed);
            let wait = Duration::from_micros(due.saturating_sub(self.now()).max(1));
            tokio::select! {
                biased;
                () = self.0.notify.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// The client's process does not run for `length`; everything else does. `counts`: its monotonic clock continues
    /// meanwhile, as when the process is stopped; if not, the machine slept.
    async fn stop(&self, length: Us, counts: bool) {
        let until = self.now() + length;
        self.with(|core| {
            core.frozen = true;
            core.run_until(until);
            core.frozen = false;
            core.stopped += 1;
        });
        if counts {
            tokio::time::advance(Duration::from_micros(length)).await;
        } else {
            self.0.slept.fetch_add(length, Ordering::Relaxed);
        }
    }
}

/// The filters of a schedule as the oracle names them.
pub(crate) fn filters_of(uris: &[String]) -> Vec<Filter> {
    uris.iter().filter_map(|uri| Filter::of(uri)).collect()
}

impl Shared {
    /// The finished run.
    pub(crate) fn into_core(self, schedule: &Arc<Schedule>) -> Core {
        let empty = Core::new(schedule.clone(), false);
        match self.0.core.lock() {
            Ok(mut core) => std::mem::replace(&mut *core, empty),
            Err(poisoned) => std::mem::replace(&mut *poisoned.into_inner(), empty),
        }
    }
}
