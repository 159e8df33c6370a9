//! The IO shell of the lifecycle: one task that turns effects into calls and
//! links, and their results into inputs. It decides nothing that the machine, the
//! queue or the lease could decide, and it never waits for the reader.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use futures_util::future::select_all;
use futures_util::stream::FuturesUnordered;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::delivery::{Certainty, Delivery, Gap, GapCause, Recreated, Resumed, Undecodable};
use super::keys::Keys;
use super::lease::{self, Lease};
use super::machine::{self, Cause, Effect, End, Input, LinkId, Machine, Op, Settings};
use super::ops::{self, Asked, Done, Pending};
use super::queue::{Item, Queue};
use super::refusal;
use super::resume::ResumeToken;
use super::status::{Phase, Status};
use crate::clock::Clock;
use crate::codec::DecodeError;
use crate::dedup::Seen;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{self, DedupKey, Notification, Origin};
use crate::ids::SubscriptionId;
use crate::registry::Registry;
use crate::rest::{ControlPlane, CreateSubscription, DisabledFilter, SubscriptionInfo};
use crate::transport::{Cursor, Frame, FrameBody, Link, LinkEvent, SuspectedLoss, Target, Transport};

/// How often the wall clock is held against the monotonic one.
const CLOCK_CHECK: Duration = Duration::from_secs(15);
/// The clocks may drift apart by this much before it counts as a sleep.
const CLOCK_SLACK: Duration = Duration::from_secs(10);

/// What the driver is told at its start.
pub(super) struct Setup {
    pub(super) control: Arc<dyn ControlPlane>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) registry: Arc<Registry>,
    pub(super) filters: Vec<String>,
    pub(super) expires_in: Option<u64>,
    pub(super) settings: Settings,
    pub(super) queue_bytes: usize,
    pub(super) dedup_window: (usize, Duration),
    pub(super) adopt: Option<SubscriptionId>,
    pub(super) resume: Option<ResumeToken>,
    pub(super) leftovers: Vec<SubscriptionId>,
    pub(super) delete_on_drop: bool,
    pub(super) close_within: Duration,
    pub(super) drop_within: Duration,
    pub(super) clock: Clock,
    pub(super) seed: u64,
}

/// The ends of the channels that the driver holds.
pub(super) struct Ports {
    pub(super) out: mpsc::Sender<Handed>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) shutdown: watch::Receiver<Option<Shutdown>>,
    pub(super) status: watch::Sender<Status>,
    pub(super) started: oneshot::Sender<Result<()>>,
}

/// What is handed to the reader.
pub(super) enum Handed {
    Delivery { delivery: Delivery, key: Option<DedupKey> },
    Mark(Mark),
    End(Error),
}

/// What the user asks for.
pub(super) enum Command {
    Update { filters: Vec<String>, answer: oneshot::Sender<Result<()>> },
    Revalidate,
}

/// How to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shutdown {
    /// Delete, hand out what waits, end.
    Drain,
    /// Delete, discard what waits and say so, end.
    Discard,
    /// The reader is gone.
    Dropped,
}

/// A place in the stream: everything before it was handed out.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) cursor: Cursor,
    pub(super) place: Arc<Place>,
    /// When the service answered.
    pub(super) at: SystemTime,
}

/// Which subscription, and a fingerprint of where it is listened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) id: SubscriptionId,
    pub(super) fingerprint: String,
}

/// A link that is being read.
struct Reading {
    id: LinkId,
    place: u64,
    link: Box<dyn Link>,
}

/// A link that is being opened.
struct Opening {
    id: LinkId,
    place: u64,
}

struct Update {
    filters: Vec<String>,
    answer: Option<oneshot::Sender<Result<()>>>,
}

pub(super) struct Driver {
    setup: Setup,
    machine: Machine,
    queue: Queue,
    seen: Seen,
    keys: Keys,
    lease: Option<Lease>,
    /// Counts the addresses listened to, so that links of a former one are told apart.
    place: u64,
    /// Where is listened now, as a resume token tells it.
    listening: Option<Arc<Place>>,
    /// The last good answer at the former address.
    former_good: Option<SystemTime>,
    /// Whether the service may have other filters than the ones asked for.
    filters_doubtful: bool,
    cursor: Option<Cursor>,
    /// When the present address was last known to be the only one.
    confirmed: Option<SystemTime>,
    /// What waits first may be made with a key that is on its way.
    sealed: bool,
    last_good: Option<(Instant, SystemTime)>,
    recreated: Option<Recreated>,
    disabled: Vec<DisabledFilter>,
    update: Option<Update>,
    created: Option<Asked>,
    last_error: Option<Arc<Error>>,
    end: Option<End>,
    shutdown: Option<Shutdown>,
    opening: Vec<Opening>,
    reading: Vec<Reading>,
    pending: FuturesUnordered<Pending>,
    clock_check: (Instant, SystemTime),
    /// The lease's end on the monotonic clock, and as told on the wall clock:
    /// worked out once, so that what is told changes only when the end does.
    expiry: Option<(std::time::Instant, SystemTime)>,
}

/// What woke the driver.
enum Woken {
    Shutdown(Option<Shutdown>),
    Command(Command),
    Done(Box<Done>),
    Link(usize, Result<LinkEvent>),
    Timer,
    Room,
    ReaderGone,
}

impl Driver {
    pub(super) fn new(setup: Setup) -> Self {
        let now = Instant::now();
        let mut seen = Seen::new(setup.dedup_window.0, setup.dedup_window.1);
        for key in setup.resume.iter().flat_map(|token| &token.seen) {
            seen.admit(*key, now);
        }
        Self {
            machine: Machine::new(setup.settings.clone(), setup.seed),
            queue: Queue::new(setup.queue_bytes),
            seen,
            keys: Keys::default(),
            lease: None,
            place: 0,
            listening: None,
            former_good: None,
            filters_doubtful: false,
            cursor: None,
            confirmed: None,
            sealed: false,
            last_good: None,
            recreated: None,
            disabled: Vec::new(),
            update: None,
            created: None,
            last_error: None,
            end: None,
            shutdown: None,
            opening: Vec::new(),
            reading: Vec::new(),
            pending: FuturesUnordered::new(),
            clock_check: (now, setup.clock.wall()),
            expiry: None,
            setup,
        }
    }

    /// Runs until the subscription is over and everything is handed out.
    pub(super) async fn run(mut self, mut ports: Ports) {
        let mut started = Some(ports.started);
        self.give(Input::Start { adopt: self.adopted_id().is_some() });
        loop {
            self.carry_out();
            self.publish(&ports.status);
            self.report_start(&mut started);
            if self.hand_out(&ports.out).is_err() {
                self.reader_gone();
                self.carry_out();
            }
            if self.is_over() {
                break;
            }
            let woken = self.wait(&ports.out, &mut ports.commands, &mut ports.shutdown).await;
            self.take_in(woken);
        }
        self.publish(&ports.status);
        self.last_words(ports.out).await;
    }

    async fn wait(
        &mut self,
        out: &mpsc::Sender<Handed>,
        commands: &mut mpsc::Receiver<Command>,
        shutdown: &mut watch::Receiver<Option<Shutdown>>,
    ) -> Woken {
        let timer = self.next_timer();
        let watching = self.shutdown != Some(Shutdown::Dropped);
        tokio::select! {
            biased;
            changed = shutdown.changed(), if watching => match changed {
                Ok(()) => Woken::Shutdown(*shutdown.borrow_and_update()),
                Err(_) => Woken::ReaderGone,
            },
            Some(command) = commands.recv() => Woken::Command(command),
            Some(done) = self.pending.next() => Woken::Done(Box::new(done)),
            () = sleep_until(timer) => Woken::Timer,
            (at, event) = next_event(&mut self.reading) => Woken::Link(at, event),
            permit = out.reserve(), if !self.queue.is_empty() && !self.sealed => match permit {
                Ok(_) => Woken::Room,
                Err(_) => Woken::ReaderGone,
            },
        }
    }

    fn take_in(&mut self, woken: Woken) {
        match woken {
            Woken::Shutdown(Some(how)) => self.shut_down(how),
            Woken::Command(command) => self.command(command),
            Woken::Done(done) => self.done(*done),
            Woken::Link(at, event) => self.link_event(at, event),
            Woken::ReaderGone => self.reader_gone(),
            Woken::Timer | Woken::Room | Woken::Shutdown(None) => {}
        }
        self.check_clock();
        self.machine.handle_timeout(Instant::now().into_std());
    }

    fn give(&mut self, input: Input) {
        self.machine.handle(Instant::now().into_std(), input);
    }

    // --- effects -------------------------------------------------------------

    fn carry_out(&mut self) {
        while let Some(effect) = self.machine.poll_effect() {
            tracing::debug!(?effect, subscription = self.id_for_log(), "lifecycle");
            match effect {
                Effect::Create { op } => self.create(op),
                Effect::FindOrphan { op } => self.find_orphan(op),
                Effect::Prune { op } => self.prune(op),
                Effect::Adopt { op } => self.adopt(op),
                Effect::Renew { op } => self.on_lease(op, ops::renew),
                Effect::Update { op } => {
                    let filters =
                        self.update.as_ref().map_or_else(|| self.setup.filters.clone(), |u| u.filters.clone());
                    self.on_lease(op, |control, op, id| ops::update(control, op, id, filters));
                }
                Effect::Delete { op } => self.on_lease(op, ops::delete),
                Effect::AnswerUpdate { ok } => self.answer_update(ok),
                Effect::OpenLink { link } => self.open(link),
                Effect::CloseLink { link } => self.close(link),
                Effect::FormerLinkLost => {
                    let since = self.former_good.or_else(|| self.good_since());
                    self.possible_gap(GapCause::AddressMoved, since);
                }
                Effect::Gap(cause) => self.gap(cause),
                Effect::Resumed => self.resumed(),
                Effect::Finish(end) => self.finish(end),
            }
        }
    }

    fn create(&mut self, op: Op) {
        let mut request = CreateSubscription::new(self.setup.filters.clone(), self.setup.transport.delivery_mode());
        request.expires_in = self.setup.expires_in;
        self.created = Some(Asked::now());
        self.pending.push(ops::create(self.setup.control.clone(), op, request));
    }

    fn find_orphan(&mut self, op: Op) {
        let created = self.created.unwrap_or_else(Asked::now);
        self.pending.push(ops::find_orphan(
            self.setup.control.clone(),
            op,
            self.setup.filters.clone(),
            self.setup.transport.kind(),
            created,
            self.setup.registry.clone(),
        ));
    }

    fn prune(&mut self, op: Op) {
        let mut ids = self.setup.registry.leftovers();
        ids.extend(self.setup.leftovers.iter().cloned());
        if let Some(former) = self.lease.as_ref().map(|lease| lease.id.clone()) {
            ids.push(former);
        }
        ids.sort();
        ids.dedup();
        self.pending.push(ops::prune(self.setup.control.clone(), op, ids));
    }

    fn adopted_id(&self) -> Option<&SubscriptionId> {
        self.setup.resume.as_ref().map(|token| &token.subscription_id).or(self.setup.adopt.as_ref())
    }

    fn adopt(&mut self, op: Op) {
        if let Some(id) = self.adopted_id().cloned() {
            self.pending.push(ops::adopt(self.setup.control.clone(), op, id));
        }
    }

    fn on_lease(&mut self, op: Op, call: impl FnOnce(Arc<dyn ControlPlane>, Op, SubscriptionId) -> Pending) {
        if let Some(lease) = &self.lease {
            self.pending.push(call(self.setup.control.clone(), op, lease.id.clone()));
        }
    }

    fn answer_update(&mut self, ok: bool) {
        let Some(update) = self.update.take() else { return };
        self.filters_doubtful = !ok;
        let result = if ok {
            self.setup.filters = update.filters;
            Ok(())
        } else {
            Err(self.shared_error("the filters could not be changed"))
        };
        match update.answer {
            // Whoever asked may have stopped waiting; the change stands.
            Some(answer) => drop(answer.send(result)),
            None => {
                if let Err(error) = result {
                    tracing::warn!(%error, "the filters could not be set; again with the next renewal");
                }
            }
        }
    }

    fn open(&mut self, link: LinkId) {
        let Some(lease) = &self.lease else { return };
        let target = Target {
            address: lease.address.clone(),
            subscriber_key: lease.subscriber_key.clone(),
            user_id: None,
            cursor: self.cursor.clone().unwrap_or_else(|| Cursor::at(self.setup.clock.wall())),
            last_good: self.last_good.map(|(at, _)| at),
        };
        self.opening.push(Opening { id: link, place: self.place });
        self.pending.push(ops::open(self.setup.control.clone(), self.setup.transport.clone(), link, target));
    }

    fn close(&mut self, link: LinkId) {
        self.opening.retain(|opening| opening.id != link);
        if let Some(at) = self.reading.iter().position(|reading| reading.id == link) {
            let reading = self.reading.swap_remove(at);
            self.pending.push(ops::part(reading.link));
        }
    }

    fn gap(&mut self, cause: Cause) {
        let cause = match cause {
            Cause::Expired => GapCause::LeaseExpired,
            Cause::Gone => GapCause::SubscriptionGone,
            Cause::Inactive => GapCause::SubscriptionInactive,
            Cause::LinkRefused => GapCause::TransportRefused,
        };
        tracing::info!(cause = cause.as_str(), subscription = self.id_for_log(), "events are being missed");
        let gap = Gap { cause, certainty: Certainty::Certain, since: self.good_since(), until: None, lost: None };
        self.queue.push_marker(Delivery::Gap(gap));
    }

    fn good_since(&self) -> Option<SystemTime> {
        let saved = || self.setup.resume.as_ref().and_then(|token| token.saved_at.system_time());
        self.last_good.map(|(_, wall)| wall).or_else(saved)
    }

    fn resumed(&mut self) {
        let resumed = Resumed { complete: false, at: self.setup.clock.wall(), recreated: self.recreated.take() };
        tracing::info!(subscription = self.id_for_log(), "events arrive again");
        self.queue.push_marker(Delivery::Resumed(resumed));
    }

    /// A gap that only may be one has its end where it is noticed.
    fn possible_gap(&mut self, cause: GapCause, since: Option<SystemTime>) {
        let now = self.setup.clock.wall();
        let gap = Gap { cause, certainty: Certainty::Possible, since, until: Some(now), lost: None };
        tracing::info!(cause = gap.cause.as_str(), subscription = self.id_for_log(), "events may be missing");
        self.queue.push_marker(Delivery::Gap(gap));
        self.queue.push_marker(Delivery::Resumed(Resumed { complete: false, at: now, recreated: None }));
    }

    fn finish(&mut self, end: End) {
        tracing::info!(?end, subscription = self.id_for_log(), "the subscription is over");
        self.end = Some(end);
        self.opening.clear();
        if let Some(lease) = &self.lease {
            match end {
                End::Closed { deleted: true } => self.setup.registry.gone(&lease.id),
                End::Closed { deleted: false } if self.keeps_subscription() => self.setup.registry.gone(&lease.id),
                _ => self.setup.registry.left_over(&lease.id),
            }
        }
        self.update = None;
    }

    fn keeps_subscription(&self) -> bool {
        self.shutdown == Some(Shutdown::Dropped) && !self.setup.delete_on_drop
    }

    // --- results -------------------------------------------------------------

    fn done(&mut self, done: Done) {
        match done {
            Done::Lease { op, asked, result } => match result {
                Ok(info) => self.leased(op, asked, info),
                Err(error) => self.failed(op, error),
            },
            Done::Orphan { op, asked, result } => match result {
                Ok(Some(info)) => self.leased(op, asked, info),
                Ok(None) => self.give(Input::NoOrphan { op }),
                Err(error) => self.failed(op, error),
            },
            Done::Pruned { op, deleted } => {
                deleted.iter().for_each(|id| self.setup.registry.gone(id));
                self.setup.leftovers.retain(|id| !deleted.contains(id));
                self.give(Input::Pruned { op, deleted: deleted.len() });
            }
            Done::Deleted { op, result } => match result {
                Ok(()) => self.give(Input::Deleted { op }),
                Err(error) => self.failed(op, error),
            },
            Done::Opened { link, result } => self.opened(link, result),
            Done::Discarded { id, gone: true } => self.setup.registry.gone(&id),
            Done::Discarded { id, gone: false } => self.setup.registry.left_over(&id),
            Done::Parted => {}
        }
    }

    fn failed(&mut self, op: Op, error: Error) {
        let error = refusal::explain(error, self.setup.transport.kind());
        tracing::debug!(%error, kind = ?error.kind(), subscription = self.id_for_log(), "a call failed");
        let (disposition, unclear) = (error.disposition(), error.is_unclear());
        self.note(error);
        self.give(Input::Failed { op, disposition, unclear });
    }

    /// Once it is over, what ended it counts, and not what goes wrong on the way out.
    fn note(&mut self, error: Error) {
        if self.machine.phase() != machine::Phase::Closing {
            self.last_error = Some(Arc::new(error));
        }
    }

    fn leased(&mut self, op: Op, asked: Asked, info: SubscriptionInfo) {
        if self.end.is_some() {
            return self.too_late(info.id);
        }
        // What the user named and was never ours is not deleted.
        let ours = self.lease.is_some() || self.created.is_some();
        if !lease::is_served(&info) {
            self.note(Error::new(ErrorKind::Rejected, "the service does not serve the subscription"));
            if ours {
                self.discard(info.id);
            }
            return self.give(Input::Inactive { op });
        }
        let read = Lease::read(&info, self.lease.as_ref(), self.setup.transport.kind());
        let lease = match read {
            Ok(lease) => lease,
            Err(error) => {
                if ours {
                    self.discard(info.id);
                }
                return self.failed(op, error);
            }
        };
        let moved = self.lease.as_ref().is_some_and(|before| !before.same_place(&lease));
        let first = self.lease.is_none();
        let mode = &info.delivery_mode;
        let key = match &mode.encryption_key {
            Some(key) => self.keys.add(mode.encryption_algorithm.as_deref(), key),
            None => Ok(()),
        };
        let lifetime = lease::lifetime(&info, self.setup.clock.wall());
        self.replace_lease(lease, &info, asked);
        self.give(Input::Leased { op, requested_at: asked.at.into_std(), lifetime, moved });
        if let Err(error) = key {
            self.bad_key(error, first);
        }
        self.check_filters(first);
    }

    /// The service granted what nobody waits for any more.
    fn too_late(&mut self, id: SubscriptionId) {
        if !self.keeps_subscription() {
            self.setup.registry.left_over(&id);
            self.discard(id);
        }
    }

    /// A first lease whose payloads could never be read is no use; a later one is
    /// better kept: its events come as undecodable, for all to see.
    fn bad_key(&mut self, error: Error, first: bool) {
        tracing::warn!(%error, subscription = self.id_for_log(), "the service sent an unusable key");
        if first {
            self.last_error = Some(Arc::new(error));
            self.give(Input::Abort);
        }
    }

    fn replace_lease(&mut self, lease: Lease, info: &SubscriptionInfo, asked: Asked) {
        let resumed = self.setup.resume.take_if(|_| self.lease.is_none());
        let adopted = self.setup.adopt.take();
        match self.lease.take() {
            Some(before) if before.id != lease.id => {
                self.discard(before.id.clone());
                // Lost again before events arrived: the gap is still the first one's.
                let old = self.recreated.take().map_or(before.id, |recreated| recreated.old);
                self.recreated = Some(Recreated { old, new: lease.id.clone() });
                self.move_cursor(lease::before_first_event(info, asked.wall), asked);
            }
            // It moved at some time since the last answer, which may have been long
            // before this one was asked for.
            Some(before) if !before.same_place(&lease) => {
                self.move_cursor(self.confirmed.unwrap_or(asked.wall), asked);
            }
            Some(_) => {}
            None => self.first_cursor(&lease, info, asked, resumed, adopted),
        }
        if self.disabled != lease.disabled {
            self.disabled.clone_from(&lease.disabled);
            if !lease.disabled.is_empty() {
                self.queue.push_marker(Delivery::FiltersDisabled(lease.disabled.clone()));
            }
        }
        self.confirmed = Some(lease::before_answer(info, asked.wall));
        self.setup.registry.live(&lease.id);
        let place = Arc::new(Place { id: lease.id.clone(), fingerprint: lease.fingerprint() });
        if self.listening.is_none() {
            // Nothing was read yet, and a restart begins where this does.
            let at = self.good_since().unwrap_or(asked.wall);
            self.queue.push_mark(Mark {
                cursor: self.cursor.clone().unwrap_or_else(|| Cursor::at(at)),
                place: place.clone(),
                at,
            });
        }
        self.listening = Some(place);
        self.lease = Some(lease);
    }

    /// Goes on at a new address, from a moment before its first event. Not from
    /// where the former address was read to: that may lie behind that event, if
    /// the former link was answered while the address moved.
    fn move_cursor(&mut self, made_before: SystemTime, asked: Asked) {
        self.cursor = Some(Cursor::at(made_before));
        self.former_good = self.last_good.map(|(_, wall)| wall);
        // The service keeps events from here on; how long they wait counts.
        self.last_good = Some((asked.at, asked.wall));
        self.place += 1;
    }

    fn first_cursor(
        &mut self,
        lease: &Lease,
        info: &SubscriptionInfo,
        asked: Asked,
        resumed: Option<ResumeToken>,
        adopted: Option<SubscriptionId>,
    ) {
        self.place += 1;
        self.last_good = Some((asked.at, asked.wall));
        let made = lease::before_first_event(info, asked.wall);
        match resumed {
            Some(token) if token.subscription_id == lease.id => self.resume_at(token, lease, made),
            Some(ResumeToken { subscription_id, .. }) => {
                self.recreated = Some(Recreated { old: subscription_id, new: lease.id.clone() });
                self.cursor = Some(Cursor::at(made));
            }
            // An adopted one may be old: its events from now on are asked for.
            None if adopted.as_ref() == Some(&lease.id) => {
                let answered = info.answered_at.unwrap_or(asked.wall);
                self.cursor = Some(Cursor::at(answered.min(asked.wall) - Duration::from_secs(60)));
            }
            None => {
                self.recreated = adopted.map(|old| Recreated { old, new: lease.id.clone() });
                self.cursor = Some(Cursor::at(made));
            }
        }
    }

    /// Goes on where a reader stopped, and says so if that may be too long ago or
    /// in another place.
    fn resume_at(&mut self, token: ResumeToken, lease: &Lease, made: SystemTime) {
        let saved_at = token.saved_at.system_time();
        let age = saved_at.and_then(|at| self.setup.clock.wall().duration_since(at).ok());
        let then = age.and_then(|age| Instant::now().checked_sub(age));
        let same_place = token.address == lease.fingerprint();
        self.cursor = token.cursor.map(|cursor| Cursor { region: cursor.region.filter(|_| same_place), ..cursor });
        self.cursor.get_or_insert_with(|| Cursor::at(made));
        match then.zip(saved_at) {
            _ if !same_place => self.possible_gap(GapCause::AddressMoved, saved_at),
            Some(good) => self.last_good = Some(good),
            // A clock that was set, or a machine younger than the token.
            None => self.possible_gap(GapCause::ServiceBufferAged { pause: age.unwrap_or_default() }, saved_at),
        }
    }

    /// The service may have other filters than the ones asked for: in what was
    /// taken over, and after a change that failed unclearly. What it answers to a
    /// creation or a change is its own affair.
    fn check_filters(&mut self, first: bool) {
        let doubtful = self.filters_doubtful || first && self.created.is_none();
        let Some(lease) = self.lease.as_ref().filter(|_| doubtful && self.update.is_none()) else { return };
        if lease.filters.is_empty() {
            return;
        }
        let served: Vec<&str> = lease
            .filters
            .iter()
            .map(String::as_str)
            .chain(lease.disabled.iter().map(|disabled| disabled.filter.as_str()))
            .collect();
        self.filters_doubtful = !event::same_filters(&served, &self.setup.filters);
        if self.filters_doubtful {
            self.update = Some(Update { filters: self.setup.filters.clone(), answer: None });
            self.give(Input::Update);
        }
    }

    fn discard(&mut self, id: SubscriptionId) {
        self.pending.push(ops::discard(self.setup.control.clone(), id));
    }

    // --- links ---------------------------------------------------------------

    fn opened(&mut self, id: LinkId, result: Result<Box<dyn Link>>) {
        let Some(at) = self.opening.iter().position(|opening| opening.id == id) else {
            // Closed while it was being opened.
            if let Ok(link) = result {
                self.pending.push(ops::part(link));
            }
            return;
        };
        let Opening { id, place } = self.opening.swap_remove(at);
        match result {
            Ok(link) => self.reading.push(Reading { id, place, link }),
            Err(error) => self.link_failed(id, error),
        }
    }

    fn link_failed(&mut self, link: LinkId, error: Error) {
        tracing::debug!(%error, kind = ?error.kind(), subscription = self.id_for_log(), "the link failed");
        let disposition = error.disposition();
        self.last_error = Some(Arc::new(error));
        self.give(Input::LinkFailed { link, disposition });
    }

    fn link_event(&mut self, at: usize, event: Result<LinkEvent>) {
        let Some(reading) = self.reading.get(at) else { return };
        let (id, place) = (reading.id, reading.place);
        match event {
            Err(error) => {
                drop(self.reading.swap_remove(at));
                self.link_failed(id, error);
            }
            Ok(LinkEvent::Alive) => {
                self.give(Input::LinkAlive { link: id });
            }
            Ok(LinkEvent::Batch { frames, cursor, suspected_loss }) => {
                self.give(if frames.is_empty() {
                    Input::LinkAlive { link: id }
                } else {
                    Input::LinkProgress { link: id }
                });
                // What the news leads to (the end of a gap) comes before the events.
                self.carry_out();
                self.batch(place, frames, cursor, suspected_loss);
            }
        }
    }

    fn batch(&mut self, place: u64, frames: Vec<Frame>, cursor: Cursor, loss: Option<SuspectedLoss>) {
        let cause = loss.map(|loss| match loss {
            SuspectedLoss::BufferFull { events } => GapCause::ServiceBufferFull { events },
            SuspectedLoss::BufferAged { pause } => GapCause::ServiceBufferAged { pause },
        });
        if let Some(cause) = cause {
            self.possible_gap(cause, self.good_since());
        }
        for frame in frames {
            self.queue.push_frame(frame, &self.keys);
        }
        if place == self.place {
            let now = (Instant::now(), self.setup.clock.wall());
            self.cursor = Some(cursor.clone());
            self.last_good = Some(now);
            // While a former link still delivers, only its own place covers all.
            let alone = self.reading.iter().all(|reading| reading.place == self.place);
            if let Some(place) = self.listening.clone().filter(|_| alone) {
                self.queue.push_mark(Mark { cursor, place, at: now.1 });
            }
        }
    }

    // --- towards the user ----------------------------------------------------

    fn hand_out(&mut self, out: &mpsc::Sender<Handed>) -> Result<(), ()> {
        while !self.queue.is_empty() {
            self.sealed = self.is_sealed();
            if self.sealed {
                break;
            }
            let permit = match out.try_reserve() {
                Ok(permit) => permit,
                Err(mpsc::error::TrySendError::Full(())) => return Ok(()),
                Err(mpsc::error::TrySendError::Closed(())) => return Err(()),
            };
            if let Some(handed) = self.queue.pop().and_then(|item| self.decode(item)) {
                permit.send(handed);
            }
        }
        if out.is_closed() { Err(()) } else { Ok(()) }
    }

    /// Whether the next payload opens with no key while a renewal is under way.
    /// The service may use the new key before it has told it, so the answer is
    /// waited for.
    fn is_sealed(&self) -> bool {
        self.machine.is_renewing()
            && self.queue.next_frame().is_some_and(|(frame, keys)| needs_key(frame, &keys.and_then(&self.keys)))
    }

    /// Turns what waited into what the reader gets; `None` for a repetition.
    fn decode(&mut self, item: Item) -> Option<Handed> {
        let (frame, keys) = match item {
            Item::Frame { frame, keys } => (frame, keys),
            Item::Marker(delivery) => return Some(Handed::Delivery { delivery, key: None }),
            Item::Mark(mark) => return Some(Handed::Mark(mark)),
        };
        let received_at = frame.received_at;
        let (key, delivery) = match read(frame, &keys.and_then(&self.keys)) {
            Ok(notification) => (notification.dedup_key(), Delivery::Notification(Box::new(notification))),
            Err((reason, raw)) => {
                tracing::warn!(%reason, subscription = self.id_for_log(), "something came that cannot be read");
                let key = key_of(&raw);
                (key, Delivery::Undecodable(Undecodable { reason, raw, received_at }))
            }
        };
        if !self.seen.admit(key, Instant::now()) {
            tracing::trace!(subscription = self.id_for_log(), "a repetition");
            return None;
        }
        Some(Handed::Delivery { delivery, key: Some(key) })
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Update { filters, answer } => {
                if self.update.is_some() || self.machine.update_pending() {
                    let busy = Error::new(ErrorKind::Busy, "another change of this subscription is pending");
                    drop(answer.send(Err(busy)));
                } else if self.end.is_none() {
                    self.update = Some(Update { filters, answer: Some(answer) });
                    self.give(Input::Update);
                }
            }
            Command::Revalidate => self.give(Input::Slept { by: Duration::ZERO }),
        }
    }

    fn shut_down(&mut self, how: Shutdown) {
        self.shutdown = Some(how);
        let (delete, within) = match how {
            Shutdown::Drain | Shutdown::Discard => (true, self.setup.close_within),
            Shutdown::Dropped => (self.setup.delete_on_drop, self.setup.drop_within),
        };
        self.give(Input::Close { delete, within });
        match how {
            Shutdown::Drain => {}
            Shutdown::Discard => self.discard_queue(),
            Shutdown::Dropped => self.queue = Queue::new(self.setup.queue_bytes),
        }
    }

    fn discard_queue(&mut self) {
        let (mut lost, mut gaps, mut since) = (0, 0, None::<SystemTime>);
        let mut began = |at: Option<SystemTime>| since = since.into_iter().chain(at).min();
        while let Some(item) = self.queue.pop() {
            match item {
                Item::Frame { frame, .. } => {
                    lost += 1;
                    began(Some(frame.received_at));
                }
                Item::Marker(Delivery::Gap(gap)) => {
                    gaps += 1;
                    lost += gap.lost.unwrap_or(0);
                    began(gap.since);
                }
                Item::Marker(_) | Item::Mark(_) => {}
            }
        }
        if lost + gaps > 0 {
            let certainty = if lost > 0 { Certainty::Certain } else { Certainty::Possible };
            let lost = (gaps == 0).then_some(lost);
            let (cause, until) = (GapCause::Discarded, Some(self.setup.clock.wall()));
            self.queue.push_marker(Delivery::Gap(Gap { cause, certainty, since, until, lost }));
        }
    }

    fn reader_gone(&mut self) {
        if self.shutdown != Some(Shutdown::Dropped) {
            self.shut_down(Shutdown::Dropped);
        }
        self.queue = Queue::new(self.setup.queue_bytes);
    }

    fn report_start(&mut self, started: &mut Option<oneshot::Sender<Result<()>>>) {
        let outcome = match (self.machine.phase(), self.end) {
            (machine::Phase::Starting, None) => return,
            // Ending before it began: the end will tell how.
            (machine::Phase::Closing, None) => return,
            (_, Some(end)) => match self.end_error(end) {
                Some(error) => Err(error),
                None => Err(Error::new(ErrorKind::Closed, "the subscription was closed while it was being created")),
            },
            (_, None) => Ok(()),
        };
        if let Some(started) = started.take() {
            let refused = started.send(outcome).is_err();
            if refused {
                self.reader_gone();
            }
        }
    }

    fn end_error(&self, end: End) -> Option<Error> {
        match end {
            End::Closed { .. } => None,
            End::Fatal => Some(self.shared_error("the subscription cannot go on")),
            End::Refused => Some(
                Error::new(
                    ErrorKind::TransportRefused,
                    "the transport's peer keeps refusing the subscriptions that RingCentral makes for it; PubNub is \
                     withdrawn for new apps: use the WebSocket transport or webhooks instead",
                )
                .with_source(self.shared_error("the last refusal")),
            ),
            End::StartTimeout => Some(
                Error::new(ErrorKind::Timeout, "the subscription could not be created in time")
                    .with_source(self.shared_error("no call failed, but none answered")),
            ),
        }
    }

    fn shared_error(&self, otherwise: &'static str) -> Error {
        match &self.last_error {
            Some(error) => Error::clone(error),
            None => Error::new(ErrorKind::Internal, otherwise),
        }
    }

    fn is_over(&self) -> bool {
        self.end.is_some() && self.queue.is_empty()
    }

    /// The end is told; then what is still under way gets its bound, so that a
    /// grant that comes late is not left behind.
    async fn last_words(&mut self, out: mpsc::Sender<Handed>) {
        let links = std::mem::take(&mut self.reading);
        self.pending.extend(links.into_iter().map(|reading| ops::part(reading.link)));
        if let Some(error) = self.end.and_then(|end| self.end_error(end)) {
            // A reader that is gone needs no farewell.
            drop(out.send(Handed::End(error)).await);
        }
        drop(out);
        while let Some(done) = self.pending.next().await {
            self.done(done);
        }
    }

    fn publish(&mut self, status: &watch::Sender<Status>) {
        let phase = match self.machine.phase() {
            machine::Phase::Starting => Phase::Starting,
            machine::Phase::Connecting => Phase::Connecting,
            machine::Phase::Live => Phase::Live,
            machine::Phase::Reconnecting => Phase::Reconnecting,
            machine::Phase::Recreating => Phase::Recreating,
            machine::Phase::Closing => Phase::Closing,
            machine::Phase::Closed => Phase::Closed,
        };
        if phase == Phase::Live && status.borrow().phase != Phase::Live {
            self.last_error = None;
        }
        let id = self.lease.as_ref().map(|lease| lease.id.clone());
        let attempts = self.machine.failed_attempts();
        let expires_at = self.expires_at();
        status.send_if_modified(|status| {
            let new_error = self
                .last_error
                .as_ref()
                .is_some_and(|new| status.last_error.as_ref().is_none_or(|old| !Arc::ptr_eq(old, new)));
            let changed = status.phase != phase
                || status.subscription_id != id
                || status.failed_attempts != attempts
                || status.last_error.is_some() != self.last_error.is_some()
                || new_error
                || status.expires_at != expires_at;
            if changed {
                *status = Status {
                    phase,
                    subscription_id: id.clone(),
                    transport: status.transport,
                    expires_at,
                    failed_attempts: attempts,
                    last_error: self.last_error.clone(),
                    deleted: self.end == Some(End::Closed { deleted: true }),
                };
            }
            changed
        });
    }

    fn expires_at(&mut self) -> Option<SystemTime> {
        let end = self.machine.expires_at();
        if self.expiry.map(|(told, _)| told) != end {
            self.expiry = end.and_then(|end| {
                let left = end.saturating_duration_since(Instant::now().into_std());
                Some((end, self.setup.clock.wall().checked_add(left)?))
            });
        }
        self.expiry.map(|(_, wall)| wall)
    }

    // --- time ----------------------------------------------------------------

    fn next_timer(&self) -> Instant {
        let check = self.clock_check.0 + CLOCK_CHECK;
        self.machine.poll_timeout().map_or(check, |at| check.min(Instant::from_std(at)))
    }

    /// The monotonic clock stands still while the machine sleeps, the wall clock
    /// does not.
    fn check_clock(&mut self) {
        let (now, wall) = (Instant::now(), self.setup.clock.wall());
        let (then, wall_then) = self.clock_check;
        if now.duration_since(then) < CLOCK_CHECK {
            return;
        }
        self.clock_check = (now, wall);
        let passed = now.duration_since(then);
        let slept = wall.duration_since(wall_then).unwrap_or_default().saturating_sub(passed);
        if slept > CLOCK_SLACK {
            tracing::info!(seconds = slept.as_secs(), "the machine slept");
            if let Some((good, _)) = &mut self.last_good {
                *good = good.checked_sub(slept).unwrap_or(*good);
            }
            self.give(Input::Slept { by: slept });
        }
    }

    fn id_for_log(&self) -> Option<&str> {
        self.lease.as_ref().map(|lease| lease.id.as_str())
    }
}

/// The next event of any link; never, if there is none.
async fn next_event(links: &mut [Reading]) -> (usize, Result<LinkEvent>) {
    if links.is_empty() {
        return std::future::pending().await;
    }
    let (event, at, _) = select_all(links.iter_mut().map(|reading| reading.link.next())).await;
    (at, event)
}

fn read(frame: Frame, ciphers: &[&crate::codec::Cipher]) -> Result<Notification, (String, Box<str>)> {
    let raw = match frame.body {
        FrameBody::Payload(raw) => raw,
        FrameBody::Malformed { raw, reason } => return Err((reason.to_owned(), raw)),
    };
    let json = match crate::codec::decode(&raw, ciphers) {
        Ok(json) => json,
        Err(error) => return Err((error.to_string(), raw.get().into())),
    };
    Notification::parse(json, Origin::Push, frame.received_at)
        .map_err(|malformed| (malformed.to_string(), malformed.raw().get().into()))
}

/// Whether another key could open a payload that these do not.
fn needs_key(frame: &Frame, ciphers: &[&crate::codec::Cipher]) -> bool {
    let FrameBody::Payload(raw) = &frame.body else { return false };
    match crate::codec::decode(raw, ciphers) {
        Err(
            DecodeError::NoKey { .. }
            | DecodeError::Padding { .. }
            | DecodeError::Utf8 { .. }
            | DecodeError::Json { .. },
        ) => true,
        Ok(_) | Err(DecodeError::Base64 { .. } | DecodeError::Length { .. } | DecodeError::NotAnObject { .. }) => false,
    }
}

/// What cannot be read has no uuid; its text tells repetitions.
fn key_of(raw: &str) -> DedupKey {
    let mut key = [0; 16];
    for (to, from) in key.iter_mut().zip(Sha256::digest(raw)) {
        *to = from;
    }
    DedupKey::from_bytes(key)
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
