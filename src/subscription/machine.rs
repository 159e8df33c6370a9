//! The lifecycle of a subscription, without IO.
//!
//! Three parts, each a small enum: the lease (our right at the service), the link
//! (the connection that events come over) and the gap (whether events are being
//! missed). Time comes in as an argument, what must be done comes out as
//! [`Effect`]s, and each effect that will be answered carries a generation, so
//! that an answer to an older one is recognised and dropped.
//!
//! Payloads never pass through here.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::error::Disposition;
use crate::policy::{BackoffPolicy, RenewalPolicy};

/// Generation of an operation on the lease.
pub(super) type Op = u64;
/// Generation of a link.
pub(super) type LinkId = u64;

/// So many links in a row that the peer refuses, over at least
/// [`REFUSAL_PERIOD`], end the subscription: the transport is closed to this app.
const MAX_REFUSALS: u32 = 5;
/// Shorter spells of refusal are trouble on the way, not an answer.
const REFUSAL_PERIOD: Duration = Duration::from_secs(120);
/// How long a lease is trusted after the machine slept, while it is being
/// renewed: the true expiry is unknown then.
const GRACE_AFTER_SLEEP: Duration = Duration::from_secs(30);

/// What can be set.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) renewal: RenewalPolicy,
    pub(super) backoff: BackoffPolicy,
    /// How long the first creation may take, repeats included.
    pub(super) start_within: Duration,
    /// How long the old link stays open after the address moved.
    pub(super) linger: Duration,
    /// A link that stayed up this long is trusted again.
    pub(super) stable_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            renewal: RenewalPolicy::default(),
            backoff: BackoffPolicy::default(),
            start_within: Duration::from_secs(60),
            linger: Duration::from_secs(10),
            stable_after: Duration::from_secs(60),
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub(super) enum Input {
    /// Begin: create a subscription, or take over one that exists.
    Start { adopt: bool },
    /// The service granted or prolonged the lease. `requested_at` is when the
    /// request left, so that the lifetime is never counted too long.
    Leased { op: Op, requested_at: Instant, lifetime: Duration, moved: bool },
    /// The subscription exists, but the service no longer serves it.
    Inactive { op: Op },
    /// The operation failed. `unclear`: the service may have carried it out.
    Failed { op: Op, disposition: Disposition, unclear: bool },
    /// No subscription is left over from an unclear creation.
    NoOrphan { op: Op },
    /// So many leftovers of our own were deleted.
    Pruned { op: Op, deleted: usize },
    /// The subscription is deleted.
    Deleted { op: Op },
    /// The link's peer proved to be there.
    LinkAlive { link: LinkId },
    /// The link delivered.
    LinkProgress { link: LinkId },
    /// The link ended.
    LinkFailed { link: LinkId, disposition: Disposition },
    /// The user wants other filters.
    Update,
    /// The clock jumped, by this much: check everything now.
    Slept { by: Duration },
    /// What the lease gives is of no use: end with an error.
    Abort,
    /// End. `delete` the subscription unless somebody is to take it over.
    Close { delete: bool, within: Duration },
}

/// What must be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Create a subscription.
    Create { op: Op },
    /// Look for a subscription that an unclear creation left, and take it over.
    FindOrphan { op: Op },
    /// Delete leftovers of our own.
    Prune { op: Op },
    /// Take over the subscription the user named.
    Adopt { op: Op },
    /// Renew.
    Renew { op: Op },
    /// Put the user's filters, which renews too.
    Update { op: Op },
    /// Delete.
    Delete { op: Op },
    /// The user's change is done, or failed for good.
    AnswerUpdate { ok: bool },
    /// Open a link to the current lease's address.
    OpenLink { link: LinkId },
    /// Close a link.
    CloseLink { link: LinkId },
    /// The link to a former address ended before its time, or was down when the
    /// address moved: what was still on its way there may be lost.
    FormerLinkLost,
    /// Events are being missed from here on.
    Gap(Cause),
    /// Events arrive again.
    Resumed,
    /// Over; nothing follows.
    Finish(End),
}

/// Why events are being missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The lease ended before it could be renewed.
    Expired,
    /// The service no longer knows the subscription.
    Gone,
    /// The service stopped serving the subscription.
    Inactive,
    /// The transport's peer refused the address or key it was given.
    LinkRefused,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// As asked. `deleted` says whether the service confirmed the deletion.
    Closed { deleted: bool },
    /// By an error that repeating cannot help.
    Fatal,
    /// The transport's peer refused too often.
    Refused,
    /// The first creation took too long.
    StartTimeout,
}

/// Our right at the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lease {
    /// None; `Timer::Attempt` leads to the next try.
    Absent,
    /// An operation that will give one is on its way.
    Acquiring { op: Op },
    /// Leftovers are being deleted to make room.
    Pruning { op: Op },
    /// Held; `Timer::Renew` and `Timer::Expire` watch it.
    Active { expires_at: Instant },
    /// Held, while it is renewed or its filters are put.
    Renewing { op: Op, expires_at: Instant, for_user: bool },
    /// On its way out.
    Deleting { op: Op },
    /// Deleted, or left to somebody else.
    Gone,
}

/// The connection that events come over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// None. `Timer::Reopen` leads to the next one, unless there is no lease to
    /// open it for.
    Down,
    /// Opened; the peer has not yet answered.
    Opening { link: LinkId },
    /// The peer answered.
    Up { link: LinkId },
}

impl Link {
    fn id(self) -> Option<LinkId> {
        match self {
            Self::Down => None,
            Self::Opening { link } | Self::Up { link } => Some(link),
        }
    }
}

/// A link to an address that was left, still read for what is on its way there.
#[derive(Clone, Copy, Debug)]
struct Former {
    link: LinkId,
    /// Whether its peer answered: only then is its silence an empty place.
    proven: bool,
}

/// So many former links linger at once; moves come with renewals, minutes apart.
const FORMERS: usize = 8;

/// Whether events are being missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gap {
    Closed,
    Open,
}

/// Where in its life the whole is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    /// Until the first lease.
    Starting,
    Running,
    /// Ending; `Timer::Close` bounds it.
    Closing {
        end: End,
        delete: bool,
    },
    Finished,
}

/// How the next lease is sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Create,
    FindOrphan,
    Adopt,
}

/// What a user may see of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Connecting,
    Live,
    Reconnecting,
    Recreating,
    Closing,
    Closed,
}

/// One slot per reason to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The end must be reached by then.
    Close,
    /// The first lease must be held by then.
    Start,
    /// The lease ends.
    Expire,
    /// The lease is to be renewed.
    Renew,
    /// The next try to get a lease, or to delete the one we have.
    Attempt,
    /// The next try to open a link.
    Reopen,
    /// The former link has lingered long enough.
    Retire,
    /// The link has been up long enough to be trusted.
    Stable,
}

impl Timer {
    const COUNT: usize = 8;
    /// The order in which timers that are due together are handled: ends first,
    /// and expiry before the renewal it makes pointless.
    const ALL: [Self; Self::COUNT] =
        [Self::Close, Self::Start, Self::Expire, Self::Renew, Self::Attempt, Self::Reopen, Self::Retire, Self::Stable];
}

/// The lifecycle. See the module.
#[derive(Debug)]
pub(super) struct Machine {
    settings: Settings,
    chance: fastrand::Rng,
    stage: Stage,
    lease: Lease,
    link: Link,
    formers: Vec<Former>,
    gap: Gap,
    plan: Plan,
    pruned: bool,
    update_wanted: bool,
    /// A loss noticed while an operation was on its way; acted on at its answer.
    pending_loss: Option<Cause>,
    acquire_attempts: u32,
    renew_attempts: u32,
    link_attempts: u32,
    refusals: u32,
    first_refusal: Option<Instant>,
    ever_up: bool,
    renew_at: Option<Instant>,
    timers: [Option<Instant>; Timer::COUNT],
    effects: VecDeque<Effect>,
    generation: u64,
}

impl Machine {
    /// A machine at rest; `seed` makes its jitter.
    pub(super) fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            chance: fastrand::Rng::with_seed(seed),
            stage: Stage::Idle,
            lease: Lease::Absent,
            link: Link::Down,
            formers: Vec::new(),
            gap: Gap::Closed,
            plan: Plan::Create,
            pruned: false,
            update_wanted: false,
            pending_loss: None,
            acquire_attempts: 0,
            renew_attempts: 0,
            link_attempts: 0,
            refusals: 0,
            first_refusal: None,
            ever_up: false,
            renew_at: None,
            timers: [None; Timer::COUNT],
            effects: VecDeque::new(),
            generation: 0,
        }
    }

    /// Takes in what happened.
    pub(super) fn handle(&mut self, now: Instant, input: Input) {
        if self.stage == Stage::Finished {
            return;
        }
        match input {
            Input::Start { adopt } => self.start(now, adopt),
            Input::Leased { op, requested_at, lifetime, moved } => self.leased(now, op, requested_at, lifetime, moved),
            Input::Inactive { op } => self.inactive(now, op),
            Input::Failed { op, disposition, unclear } => self.failed(now, op, disposition, unclear),
            Input::NoOrphan { op } => self.no_orphan(op),
            Input::Pruned { op, deleted } => self.pruned(now, op, deleted),
            Input::Deleted { op } => self.deleted(op),
            Input::LinkAlive { link } => self.link_alive(now, link),
            Input::LinkProgress { link } => self.link_progress(now, link),
            Input::LinkFailed { link, disposition } => self.link_failed(now, link, disposition),
            Input::Update => self.update(),
            Input::Slept { by } => self.slept(now, by),
            Input::Abort => self.fail(now, End::Fatal),
            Input::Close { delete, within } => self.close(now, End::Closed { deleted: false }, delete, within),
        }
    }

    /// Handles every timer that is due, in a fixed order.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for timer in Timer::ALL {
            if self.stage != Stage::Finished && self.take_if_due(now, timer) {
                self.fire(now, timer);
            }
        }
    }

    /// The next thing to do.
    pub(super) fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) must be called next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.iter().flatten().min().copied()
    }

    /// What a user may see.
    pub(super) fn phase(&self) -> Phase {
        match (self.stage, self.lease, self.link) {
            (Stage::Finished, ..) => Phase::Closed,
            (Stage::Closing { .. }, ..) => Phase::Closing,
            (Stage::Idle | Stage::Starting, ..) => Phase::Starting,
            (Stage::Running, Lease::Active { .. } | Lease::Renewing { .. }, Link::Up { .. }) => Phase::Live,
            (Stage::Running, Lease::Active { .. } | Lease::Renewing { .. }, _) if self.ever_up => Phase::Reconnecting,
            (Stage::Running, Lease::Active { .. } | Lease::Renewing { .. }, _) => Phase::Connecting,
            (Stage::Running, ..) => Phase::Recreating,
        }
    }

    /// Whether a change of filters is pending.
    pub(super) fn update_pending(&self) -> bool {
        self.update_wanted || matches!(self.lease, Lease::Renewing { for_user: true, .. })
    }

    /// Whether a renewal or a change is under way, whose answer may bring a key.
    pub(super) fn is_renewing(&self) -> bool {
        self.stage != Stage::Finished && matches!(self.lease, Lease::Renewing { .. })
    }

    /// When the lease ends, if one is held.
    pub(super) fn expires_at(&self) -> Option<Instant> {
        match self.lease {
            Lease::Active { expires_at } | Lease::Renewing { expires_at, .. } => Some(expires_at),
            Lease::Absent | Lease::Acquiring { .. } | Lease::Pruning { .. } | Lease::Deleting { .. } | Lease::Gone => {
                None
            }
        }
    }

    /// How many tries to get a lease or a link failed in a row.
    pub(super) fn failed_attempts(&self) -> u32 {
        self.acquire_attempts.saturating_sub(1).max(self.link_attempts).max(self.renew_attempts)
    }

    // --- lease ---------------------------------------------------------------

    fn start(&mut self, now: Instant, adopt: bool) {
        if self.stage != Stage::Idle {
            return;
        }
        self.stage = Stage::Starting;
        self.arm(Timer::Start, now + self.settings.start_within);
        self.plan = if adopt { Plan::Adopt } else { Plan::Create };
        self.acquire(now, None);
    }

    /// Seeks a lease: at once the first time, later after a back-off.
    fn acquire(&mut self, now: Instant, retry_after: Option<Duration>) {
        self.lease = Lease::Absent;
        let attempt = self.acquire_attempts;
        self.acquire_attempts = attempt.saturating_add(1);
        if attempt == 0 && retry_after.is_none() {
            self.attempt();
        } else {
            let delay = self.back_off(attempt.saturating_sub(1), retry_after);
            self.arm(Timer::Attempt, now + delay);
        }
    }

    fn attempt(&mut self) {
        let op = self.next_generation();
        self.lease = Lease::Acquiring { op };
        self.effects.push_back(match self.plan {
            Plan::Create => Effect::Create { op },
            Plan::FindOrphan => Effect::FindOrphan { op },
            Plan::Adopt => Effect::Adopt { op },
        });
    }

    fn leased(&mut self, now: Instant, op: Op, requested_at: Instant, lifetime: Duration, moved: bool) {
        let (fresh, for_user) = match self.lease {
            Lease::Acquiring { op: current } if current == op => (true, false),
            Lease::Renewing { op: current, for_user, .. } if current == op => (false, for_user),
            _ => return,
        };
        if for_user {
            self.effects.push_back(Effect::AnswerUpdate { ok: true });
        }
        let lifetime = RenewalPolicy::lifetime(lifetime);
        let expires_at = requested_at + lifetime;
        self.lease = Lease::Active { expires_at };
        self.plan = Plan::Create;
        self.pruned = false;
        self.renew_attempts = 0;
        if let Stage::Closing { .. } = self.stage {
            return self.end_lease();
        }
        let renew_at = requested_at + self.settings.renewal.renew_after(lifetime, self.chance.f64());
        self.schedule(now, renew_at, expires_at);
        if self.stage == Stage::Starting {
            self.stage = Stage::Running;
            self.disarm(Timer::Start);
        }
        if !fresh {
            self.acquire_attempts = 0;
        }
        if !fresh && moved && self.link.id().is_none() {
            // Nothing reads on at the former address.
            self.effects.push_back(Effect::FormerLinkLost);
        }
        if fresh || moved {
            self.open_link(now);
        }
        if let Some(cause) = self.pending_loss.take().filter(|_| !fresh && !moved) {
            return self.lose_lease(now, cause);
        }
        self.start_update();
    }

    /// Arms what watches an active lease. Both lie in the future, so that a
    /// slow answer to a short lease cannot make a hot loop.
    fn schedule(&mut self, now: Instant, renew_at: Instant, expires_at: Instant) {
        let earliest = now + RenewalPolicy::FLOOR;
        self.renew_at = Some(renew_at.max(earliest));
        self.arm(Timer::Renew, renew_at.max(earliest));
        self.arm(Timer::Expire, expires_at.max(earliest));
    }

    fn inactive(&mut self, now: Instant, op: Op) {
        match self.lease {
            Lease::Acquiring { op: current } if current == op => {
                // What was found serves nobody: make another.
                self.plan = Plan::Create;
                self.open_gap(Cause::Inactive);
                self.acquire_or_end(now, None);
            }
            Lease::Renewing { op: current, for_user, .. } if current == op => {
                if for_user {
                    self.effects.push_back(Effect::AnswerUpdate { ok: false });
                }
                if self.is_closing() {
                    self.end_lease();
                } else {
                    self.lose_lease(now, Cause::Inactive);
                }
            }
            _ => {}
        }
    }

    fn failed(&mut self, now: Instant, op: Op, disposition: Disposition, unclear: bool) {
        match self.lease {
            Lease::Acquiring { op: current } if current == op => self.acquire_failed(now, disposition, unclear),
            Lease::Pruning { .. } => self.pruned(now, op, 0),
            Lease::Renewing { op: current, expires_at, for_user } if current == op => {
                self.renew_failed(now, disposition, expires_at, for_user);
            }
            Lease::Deleting { op: current } if current == op => self.delete_failed(now, disposition),
            _ => {}
        }
    }

    fn acquire_failed(&mut self, now: Instant, disposition: Disposition, unclear: bool) {
        if unclear && self.plan == Plan::Create {
            self.plan = Plan::FindOrphan;
        }
        match disposition {
            Disposition::Retry { after } => self.acquire_or_end(now, after),
            Disposition::Prune if !self.pruned && self.plan == Plan::Create && !self.is_closing() => {
                self.pruned = true;
                let op = self.next_generation();
                self.lease = Lease::Pruning { op };
                self.effects.push_back(Effect::Prune { op });
            }
            // While running, leftovers of a former life expire; at the start the
            // user should know at once.
            Disposition::Prune if self.stage == Stage::Running => self.acquire_or_end(now, None),
            Disposition::Recreate if self.plan == Plan::Adopt => {
                self.plan = Plan::Create;
                self.acquire_attempts = 0;
                self.open_gap(Cause::Gone);
                self.acquire_or_end(now, None);
            }
            Disposition::Fatal
            | Disposition::Refresh
            | Disposition::Recreate
            | Disposition::Prune
            | Disposition::Resync => {
                self.lease = Lease::Absent;
                self.fail(now, End::Fatal);
            }
        }
    }

    /// Tries again, unless we are on the way out and nothing can be left over.
    fn acquire_or_end(&mut self, now: Instant, retry_after: Option<Duration>) {
        self.lease = Lease::Absent;
        if self.is_closing() && self.plan != Plan::FindOrphan {
            self.finish();
        } else {
            self.acquire(now, retry_after);
        }
    }

    fn no_orphan(&mut self, op: Op) {
        if self.lease != (Lease::Acquiring { op }) {
            return;
        }
        self.plan = Plan::Create;
        if self.is_closing() {
            self.lease = Lease::Absent;
            self.finish();
        } else {
            self.attempt();
        }
    }

    fn pruned(&mut self, now: Instant, op: Op, deleted: usize) {
        if self.lease != (Lease::Pruning { op }) {
            return;
        }
        self.lease = Lease::Absent;
        match self.stage {
            Stage::Closing { .. } => self.finish(),
            _ if deleted > 0 => self.attempt(),
            Stage::Running => self.acquire(now, None),
            Stage::Idle | Stage::Starting | Stage::Finished => self.fail(now, End::Fatal),
        }
    }

    fn renew(&mut self, for_user: bool) {
        let Lease::Active { expires_at } = self.lease else { return };
        let op = self.next_generation();
        self.lease = Lease::Renewing { op, expires_at, for_user };
        self.disarm(Timer::Renew);
        self.effects.push_back(if for_user { Effect::Update { op } } else { Effect::Renew { op } });
    }

    fn renew_failed(&mut self, now: Instant, disposition: Disposition, expires_at: Instant, for_user: bool) {
        self.lease = Lease::Active { expires_at };
        if for_user {
            self.effects.push_back(Effect::AnswerUpdate { ok: false });
        }
        if self.is_closing() {
            return match disposition {
                Disposition::Recreate => {
                    self.lease = Lease::Gone;
                    self.finish();
                }
                _ => self.end_lease(),
            };
        }
        let lost = match disposition {
            Disposition::Recreate => Some(Cause::Gone),
            _ if expires_at <= now => Some(Cause::Expired),
            _ => self.pending_loss,
        };
        if let Some(cause) = lost {
            return self.lose_lease(now, cause);
        }
        match disposition {
            // The user's request was refused, not the lease.
            _ if for_user => {
                let renew_at = self.renew_at.unwrap_or(now);
                self.schedule(now, renew_at, expires_at);
            }
            Disposition::Retry { after } => {
                let delay = self.back_off(self.renew_attempts, after);
                self.renew_attempts = self.renew_attempts.saturating_add(1);
                self.schedule(now, now + delay, expires_at);
            }
            Disposition::Fatal
            | Disposition::Refresh
            | Disposition::Recreate
            | Disposition::Prune
            | Disposition::Resync => self.fail(now, End::Fatal),
        }
        self.start_update();
    }

    fn lose_lease(&mut self, now: Instant, cause: Cause) {
        self.pending_loss = None;
        self.disarm(Timer::Renew);
        self.disarm(Timer::Expire);
        self.open_gap(cause);
        self.plan = Plan::Create;
        self.acquire(now, None);
    }

    fn update(&mut self) {
        self.update_wanted = true;
        self.start_update();
    }

    fn start_update(&mut self) {
        if self.update_wanted && matches!(self.lease, Lease::Active { .. }) && !self.is_closing() {
            self.update_wanted = false;
            self.renew(true);
        }
    }

    // --- link ----------------------------------------------------------------

    /// Opens a link for the lease; the one that was current lingers, so that
    /// what is still on its way over it arrives.
    fn open_link(&mut self, now: Instant) {
        if let Some(link) = self.link.id() {
            let crowded = self.formers.len() >= FORMERS;
            self.retire(usize::from(crowded));
            self.formers.push(Former { link, proven: matches!(self.link, Link::Up { .. }) });
            self.arm(Timer::Retire, now + self.settings.linger);
        }
        self.dial();
    }

    /// Closes the oldest `count` former links. One that never answered may have
    /// left events unread.
    fn retire(&mut self, count: usize) {
        let mut unread = false;
        for former in self.formers.drain(..count) {
            self.effects.push_back(Effect::CloseLink { link: former.link });
            unread |= !former.proven;
        }
        if unread {
            self.effects.push_back(Effect::FormerLinkLost);
        }
    }

    fn prove(&mut self, link: LinkId) {
        for former in self.formers.iter_mut().filter(|former| former.link == link) {
            former.proven = true;
        }
    }

    fn dial(&mut self) {
        self.disarm(Timer::Reopen);
        self.disarm(Timer::Stable);
        let link = self.next_generation();
        self.link = Link::Opening { link };
        self.effects.push_back(Effect::OpenLink { link });
    }

    fn link_alive(&mut self, now: Instant, link: LinkId) {
        self.prove(link);
        if self.link != (Link::Opening { link }) {
            return;
        }
        self.link = Link::Up { link };
        self.ever_up = true;
        self.arm(Timer::Stable, now + self.settings.stable_after);
        if self.gap == Gap::Open && self.expires_at().is_some() {
            self.gap = Gap::Closed;
            self.effects.push_back(Effect::Resumed);
        }
    }

    fn link_progress(&mut self, now: Instant, link: LinkId) {
        self.prove(link);
        if self.link.id() != Some(link) {
            return;
        }
        self.link_alive(now, link);
        self.trust_link();
    }

    fn trust_link(&mut self) {
        self.link_attempts = 0;
        self.refusals = 0;
        self.first_refusal = None;
        if self.expires_at().is_some() {
            self.acquire_attempts = 0;
        }
    }

    fn link_failed(&mut self, now: Instant, link: LinkId, disposition: Disposition) {
        if let Some(at) = self.formers.iter().position(|former| former.link == link) {
            self.formers.remove(at);
            if self.formers.is_empty() {
                self.disarm(Timer::Retire);
            }
            self.effects.push_back(Effect::FormerLinkLost);
            return;
        }
        if self.link.id() != Some(link) {
            return;
        }
        self.link = Link::Down;
        self.disarm(Timer::Stable);
        match disposition {
            Disposition::Retry { after } => {
                let delay = self.back_off(self.link_attempts, after);
                self.link_attempts = self.link_attempts.saturating_add(1);
                self.arm(Timer::Reopen, now + delay);
            }
            Disposition::Recreate => self.link_refused(now),
            Disposition::Fatal | Disposition::Refresh | Disposition::Prune | Disposition::Resync => {
                self.fail(now, End::Fatal);
            }
        }
    }

    fn link_refused(&mut self, now: Instant) {
        self.refusals = self.refusals.saturating_add(1);
        let since = *self.first_refusal.get_or_insert(now);
        if self.refusals >= MAX_REFUSALS && now.saturating_duration_since(since) >= REFUSAL_PERIOD {
            return self.fail(now, End::Refused);
        }
        match self.lease {
            Lease::Active { .. } => self.lose_lease(now, Cause::LinkRefused),
            Lease::Renewing { .. } => self.pending_loss = Some(Cause::LinkRefused),
            // A new lease is on its way, and a new link with it.
            Lease::Absent | Lease::Acquiring { .. } | Lease::Pruning { .. } | Lease::Deleting { .. } | Lease::Gone => {}
        }
    }

    fn slept(&mut self, now: Instant, by: Duration) {
        if self.stage != Stage::Running {
            return;
        }
        if let Lease::Active { expires_at } = self.lease {
            let at_most = expires_at.checked_sub(by).unwrap_or(now);
            let expires_at = at_most.max(now + GRACE_AFTER_SLEEP).min(expires_at);
            self.lease = Lease::Active { expires_at };
            self.renew(false);
        }
        if self.take(Timer::Attempt).is_some() {
            self.attempt();
        }
        if !by.is_zero() {
            // Whatever they had proved is past.
            self.formers.iter_mut().for_each(|former| former.proven = false);
            self.disarm(Timer::Retire);
            self.retire(self.formers.len());
        }
        match self.link {
            // Connections do not outlive a sleep, but take their time to say so.
            Link::Opening { link } | Link::Up { link } => {
                self.effects.push_back(Effect::CloseLink { link });
                self.dial();
            }
            Link::Down if self.is_armed(Timer::Reopen) => self.dial(),
            Link::Down => {}
        }
    }

    // --- gap -----------------------------------------------------------------

    fn open_gap(&mut self, cause: Cause) {
        if self.gap == Gap::Closed {
            self.gap = Gap::Open;
            self.effects.push_back(Effect::Gap(cause));
        }
    }

    // --- end -----------------------------------------------------------------

    fn is_closing(&self) -> bool {
        matches!(self.stage, Stage::Closing { .. })
    }

    fn fail(&mut self, now: Instant, end: End) {
        self.close(now, end, true, Duration::from_secs(5));
    }

    fn close(&mut self, now: Instant, end: End, delete: bool, within: Duration) {
        if self.is_closing() {
            if end != (End::Closed { deleted: false }) {
                // Nothing worse can come of it: what was asked for is under way.
                self.finish_if_idle();
            }
            return;
        }
        if self.stage == Stage::Idle {
            return self.finish_as(end);
        }
        self.stage = Stage::Closing { end, delete };
        self.timers = [None; Timer::COUNT];
        self.arm(Timer::Close, now + within);
        let formers = self.formers.drain(..).map(|former| former.link);
        self.effects.extend(formers.chain(self.link.id()).map(|link| Effect::CloseLink { link }));
        self.link = Link::Down;
        match self.lease {
            Lease::Active { .. } => self.end_lease(),
            Lease::Absent if self.plan == Plan::FindOrphan => self.attempt(),
            Lease::Absent | Lease::Gone => self.finish(),
            // Their answers go on from here.
            Lease::Acquiring { .. } | Lease::Pruning { .. } | Lease::Renewing { .. } | Lease::Deleting { .. } => {}
        }
    }

    fn finish_if_idle(&mut self) {
        if matches!(self.lease, Lease::Absent | Lease::Gone) {
            self.finish();
        }
    }

    fn end_lease(&mut self) {
        let Stage::Closing { delete, .. } = self.stage else { return };
        if delete {
            let op = self.next_generation();
            self.lease = Lease::Deleting { op };
            self.effects.push_back(Effect::Delete { op });
        } else {
            self.lease = Lease::Gone;
            self.finish();
        }
    }

    fn deleted(&mut self, op: Op) {
        if self.lease != (Lease::Deleting { op }) {
            return;
        }
        self.lease = Lease::Gone;
        if let Stage::Closing { end: End::Closed { deleted }, .. } = &mut self.stage {
            *deleted = true;
        }
        self.finish();
    }

    fn delete_failed(&mut self, now: Instant, disposition: Disposition) {
        match disposition {
            Disposition::Retry { after } => {
                let delay = self.back_off(self.renew_attempts, after);
                self.renew_attempts = self.renew_attempts.saturating_add(1);
                self.arm(Timer::Attempt, now + delay);
            }
            Disposition::Fatal
            | Disposition::Refresh
            | Disposition::Recreate
            | Disposition::Prune
            | Disposition::Resync => self.finish(),
        }
    }

    fn finish(&mut self) {
        if let Stage::Closing { end, .. } = self.stage {
            self.finish_as(end);
        }
    }

    fn finish_as(&mut self, end: End) {
        self.stage = Stage::Finished;
        self.timers = [None; Timer::COUNT];
        self.effects.push_back(Effect::Finish(end));
    }

    // --- timers --------------------------------------------------------------

    fn fire(&mut self, now: Instant, timer: Timer) {
        match timer {
            Timer::Close => self.finish(),
            Timer::Start => self.fail(now, End::StartTimeout),
            // While a renewal is on its way its answer decides.
            Timer::Expire => {
                if matches!(self.lease, Lease::Active { .. }) {
                    self.lose_lease(now, Cause::Expired);
                }
            }
            Timer::Renew => self.renew(false),
            Timer::Attempt => match self.lease {
                Lease::Deleting { .. } => self.end_lease(),
                _ => self.attempt(),
            },
            Timer::Reopen => self.dial(),
            Timer::Retire => self.retire(self.formers.len()),
            Timer::Stable => self.trust_link(),
        }
    }

    fn arm(&mut self, timer: Timer, at: Instant) {
        self.timers[timer as usize] = Some(at);
    }

    fn disarm(&mut self, timer: Timer) {
        self.timers[timer as usize] = None;
    }

    fn is_armed(&self, timer: Timer) -> bool {
        self.timers[timer as usize].is_some()
    }

    fn take(&mut self, timer: Timer) -> Option<Instant> {
        self.timers[timer as usize].take()
    }

    fn take_if_due(&mut self, now: Instant, timer: Timer) -> bool {
        match self.timers[timer as usize] {
            Some(at) if at <= now => self.take(timer).is_some(),
            _ => false,
        }
    }

    fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    fn back_off(&mut self, attempt: u32, retry_after: Option<Duration>) -> Duration {
        self.settings.backoff.delay(attempt, retry_after, self.chance.f64())
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
