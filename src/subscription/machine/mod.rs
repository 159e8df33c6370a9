//! The lifecycle of a subscription, without IO.
//!
//! Three parts, each a small enum: the lease (our right at the service), the link (the connection that carries the
//! events) and the gap (whether events are being missed). Time comes in as an argument, actions come out as
//! [`Effect`]s, and each effect with an answer carries a generation, so that an answer to an older one is recognized
//! and dropped.
//!
//! Payloads never pass through this module.

mod end;
mod lease;
mod link;
mod timers;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::error::Disposition;
use crate::policy::{BackoffPolicy, RenewalPolicy};

/// Generation of an operation on the lease.
pub(super) type Op = u64;
/// Generation of a link.
pub(super) type LinkId = u64;

/// Consecutive links that the peer refuses, over at least [`REFUSAL_PERIOD`], before the subscription ends: the
/// transport is closed to this app.
pub(super) const MAX_REFUSALS: u32 = 5;
/// Shorter periods of refusal are transient.
pub(super) const REFUSAL_PERIOD: Duration = Duration::from_secs(120);
/// The longest pause before a link is opened again: buffers at the service hold seconds of events, and a dial that
/// sends nothing costs nothing (found 6.1, 6.2).
const LINK_PAUSE: Duration = Duration::from_secs(4);
/// The first attempts at a lease, over more than a minute, have that limit too; later ones spare a service that is down
/// for long.
const EAGER_TRIES: u32 = 30;
/// The most time that the end of a start may take, and its largest share of the start's time.
const START_FAREWELL: Duration = Duration::from_secs(5);
const START_FAREWELL_SHARE: u32 = 4;

/// The pause after an audit without an answer.
const AUDIT_AGAIN: Duration = Duration::from_secs(10);

/// How long a lease is trusted after the machine slept, while it is being renewed: the true expiry is unknown then.
const GRACE_AFTER_SLEEP: Duration = Duration::from_secs(30);

/// The longest wait that a link's peer may name.
const LONGEST_LINK_WAIT: Duration = Duration::from_secs(300);

/// The settings.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) renewal: RenewalPolicy,
    pub(super) backoff: BackoffPolicy,
    /// How long the first creation may take, including retries.
    pub(super) start_within: Duration,
    /// How long the old link stays open after the address moved.
    pub(super) linger: Duration,
    /// A link that stayed up this long is trusted again.
    pub(super) stable_after: Duration,
    /// The time between two audits of the subscription.
    pub(super) audit_every: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            renewal: RenewalPolicy::default(),
            backoff: BackoffPolicy::default(),
            start_within: Duration::from_secs(150),
            linger: Duration::from_secs(10),
            stable_after: Duration::from_secs(60),
            audit_every: None,
        }
    }
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub(super) enum Input {
    /// Begin: create a subscription, or take over an existing one.
    Start { adopt: bool },
    /// The service granted or prolonged the lease. `requested_at` is when the request was sent, so that the lifetime is
    /// never overestimated.
    Leased { op: Op, requested_at: Instant, lifetime: Duration, moved: bool },
    /// The subscription exists, but the service no longer serves it.
    Inactive { op: Op },
    /// The operation failed. `unclear`: the service may have carried it out.
    Failed { op: Op, disposition: Disposition, unclear: bool },
    /// This many of our own orphans were deleted.
    Pruned { op: Op, deleted: usize },
    /// Nothing of the subscription remains; `found`: it still existed.
    Deleted { op: Op, found: bool },
    /// The link's peer proved to be alive.
    LinkAlive { link: LinkId },
    /// The link delivered.
    LinkProgress { link: LinkId },
    /// Everything that was sent over the link before it was left, if it was, is read.
    LinkRead { link: LinkId },
    /// The link ended.
    LinkFailed { link: LinkId, disposition: Disposition },
    /// The link ended, and the subscription is no longer usable.
    LinkLost { link: LinkId, cause: Cause },
    /// The link's peer will end it soon.
    LinkLeaving { link: LinkId },
    /// The user wants other filters.
    Update,
    /// The control plane and the transport have changed: create another subscription with them.
    TransportSwitched,
    /// No key decrypts a payload: ask for the present one.
    KeyMissing,
    /// The clock jumped, by this much: check everything now.
    Slept { by: Duration },
    /// The lease is unusable: end with an error.
    Abort,
    /// End. `delete` the subscription unless another process takes it over. `linger`: the link is read until the
    /// deletion is answered.
    Close { delete: bool, within: Duration, linger: bool },
}

/// An action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Create a subscription.
    Create { op: Op },
    /// Delete our own orphans.
    Prune { op: Op },
    /// Take over the subscription that the user named.
    Adopt { op: Op },
    /// Renew.
    Renew { op: Op },
    /// Ask for the subscription's state, which renews nothing.
    Audit { op: Op },
    /// Set the user's filters, which renews too.
    Update { op: Op },
    /// Create a subscription that takes over from the present one.
    Replace { op: Op },
    /// Delete.
    Delete { op: Op },
    /// Delete the one that was lost here and may still be there; nothing waits for that but
    /// the end of the whole.
    DeleteFormer,
    /// The user's change is done, or failed for good.
    AnswerUpdate { ok: bool },
    /// Open a link to the current lease's address.
    OpenLink { link: LinkId },
    /// Close a link.
    CloseLink { link: LinkId },
    /// The link to a former address ended too early, or was down when the address moved: events in transit there may be
    /// lost.
    FormerLinkLost,
    /// Events are being missed from here on.
    Gap(Cause),
    /// Events arrive again.
    Resumed,
    /// The end; nothing follows.
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
    /// The connection's session is lost, and the subscription with it.
    SessionLost,
    /// Something arrived that is too large to be read, and would come again.
    TooLarge,
    /// Another transport is used from here on.
    TransportSwitched,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// As requested. `deleted` says whether nothing of it remains at the service.
    Closed { deleted: bool },
    /// By an error that a retry cannot fix.
    Fatal,
    /// The transport's peer refused too often.
    Refused,
    /// The first creation took too long.
    StartTimeout,
}

/// Our right at the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lease {
    /// None; `Timer::Attempt` leads to the next attempt.
    Absent,
    /// An operation that will give one is in flight.
    Acquiring { op: Op },
    /// Orphans are being deleted to make room.
    Pruning { op: Op },
    /// Held; `Timer::Renew` and `Timer::Expire` watch it.
    Active { expires_at: Instant },
    /// Held, while an operation on it is in flight.
    Renewing { op: Op, expires_at: Instant, what: LeaseOp },
    /// Being deleted.
    Deleting { op: Op },
    /// Deleted, or left to another process.
    Gone,
}

/// The operation on a held lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeaseOp {
    /// It is renewed.
    Renew,
    /// An audit.
    Audit,
    /// The user's filters are set.
    Update,
    /// Another is created that takes over, since the link is about to end.
    Replace,
}

/// The connection that carries the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// None. `Timer::Reopen` leads to the next one, unless there is no lease to open it for.
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

/// A link to a former address, still read for events in transit there.
#[derive(Clone, Copy, Debug)]
struct Former {
    link: LinkId,
    /// Whether its peer had answered.
    was_up: bool,
    /// Whether its peer answered to a question since it was left: only then does its silence mean that nothing is in
    /// transit.
    proven: bool,
    /// Whether the gap in which it was left has reported its possible loss already.
    reported: bool,
}

/// The most former links that linger at once; moves come with renewals, minutes apart.
const FORMERS: usize = 8;

/// Whether events are being missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gap {
    Closed,
    Open,
}

/// The stage of the subscription's life.
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

/// How the next lease is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Create,
    Adopt,
}

/// The phase that a user sees.
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

/// One timer per reason to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The end must be reached by then.
    Close,
    /// The first lease must be held by then.
    Start,
    /// The lease ends.
    Expire,
    /// The lease is due for renewal.
    Renew,
    /// The subscription is due for an audit.
    Audit,
    /// The next attempt to get a lease, or to delete the present one.
    Attempt,
    /// The next attempt to open a link.
    Reopen,
    /// The former link has lingered long enough.
    Retire,
    /// The link has been up long enough to be trusted.
    Stable,
}

impl Timer {
    const COUNT: usize = 9;
    /// The order of timers that are due together: ends first, and expiry before the renewal that it makes pointless.
    const ALL: [Self; Self::COUNT] = [
        Self::Close,
        Self::Start,
        Self::Expire,
        Self::Renew,
        Self::Audit,
        Self::Attempt,
        Self::Reopen,
        Self::Retire,
        Self::Stable,
    ];
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
    /// Whether nothing remains at the service.
    deleted: bool,
    /// Whether a lost lease may still exist at the service.
    stale: bool,
    update_wanted: bool,
    /// How long the machine slept while the operation that gives the lease was in flight: the clock stood still, but
    /// the lifetime continued.
    slept_meanwhile: Duration,
    /// Whether to check the lease once more: the operation in flight may have been answered before the check was
    /// requested.
    check_again: bool,
    /// A loss noticed during an operation; handled at its answer.
    pending_loss: Option<Cause>,
    acquire_attempts: u32,
    renew_attempts: u32,
    link_attempts: u32,
    refusals: u32,
    first_refusal: Option<Instant>,
    ever_up: bool,
    renew_at: Option<Instant>,
    timers: [Option<Instant>; Timer::COUNT],
    /// When the start must have ended, including its cleanup.
    start_by: Option<Instant>,
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
            deleted: false,
            stale: false,
            update_wanted: false,
            slept_meanwhile: Duration::ZERO,
            check_again: false,
            pending_loss: None,
            acquire_attempts: 0,
            renew_attempts: 0,
            link_attempts: 0,
            refusals: 0,
            first_refusal: None,
            ever_up: false,
            renew_at: None,
            timers: [None; Timer::COUNT],
            start_by: None,
            effects: VecDeque::new(),
            generation: 0,
        }
    }

    /// Processes an input.
    pub(super) fn handle(&mut self, now: Instant, input: Input) {
        if self.stage == Stage::Finished {
            return;
        }
        match input {
            Input::Start { adopt } => self.start(now, adopt),
            Input::Leased { op, requested_at, lifetime, moved } => self.leased(now, op, requested_at, lifetime, moved),
            Input::Inactive { op } => self.inactive(now, op),
            Input::Failed { op, disposition, unclear } => self.failed(now, op, disposition, unclear),
            Input::Pruned { op, deleted } => self.pruned(now, op, deleted),
            Input::Deleted { op, found } => self.deleted(op, found),
            Input::LinkAlive { link } => self.link_alive(now, link),
            Input::LinkProgress { link } => self.link_progress(now, link),
            Input::LinkRead { link } => self.link_read(now, link),
            Input::LinkFailed { link, disposition } => self.link_failed(now, link, disposition),
            Input::LinkLost { link, cause } => self.link_lost(now, link, cause),
            Input::LinkLeaving { link } => self.link_leaving(link),
            Input::Update => self.update(),
            Input::TransportSwitched => self.transport_switched(now),
            Input::KeyMissing => self.maintain(LeaseOp::Audit),
            Input::Slept { by } => self.slept(now, by),
            Input::Abort => self.fail(now, End::Fatal),
            Input::Close { delete, within, linger } => {
                self.close(now, End::Closed { deleted: false }, delete, within, linger);
            }
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

    /// The next action.
    pub(super) fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) must be called next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.iter().flatten().min().copied()
    }

    /// Until when no attempt is made on the way to a lease or a link.
    pub(super) fn waits_until(&self) -> Option<Instant> {
        let tries = [Timer::Attempt, Timer::Reopen].map(|timer| self.timers[timer as usize]);
        let is_on_the_way = matches!(self.stage, Stage::Starting | Stage::Running);
        tries.into_iter().flatten().min().filter(|_| is_on_the_way)
    }

    /// By when the end must be reached, once it has begun.
    pub(super) fn closes_at(&self) -> Option<Instant> {
        self.timers[Timer::Close as usize]
    }

    /// The phase that a user sees.
    pub(super) fn phase(&self) -> Phase {
        match (self.stage, self.lease, self.link) {
            (Stage::Finished, ..) => Phase::Closed,
            (Stage::Closing { .. }, ..) => Phase::Closing,
            (Stage::Idle | Stage::Starting, ..) => Phase::Starting,
            (Stage::Running, Lease::Active { .. } | Lease::Renewing { .. }, Link::Up { .. }) => Phase::Live,
            // The link to the former address may still read, and the events at the new one wait at the service.
            (Stage::Running, Lease::Active { .. } | Lease::Renewing { .. }, Link::Opening { .. })
                if self.gap == Gap::Closed && self.formers.iter().any(|former| former.was_up) =>
            {
                Phase::Live
            }
            (Stage::Running, Lease::Active { .. } | Lease::Renewing { .. }, _) if self.ever_up => Phase::Reconnecting,
            (Stage::Running, Lease::Active { .. } | Lease::Renewing { .. }, _) => Phase::Connecting,
            (Stage::Running, ..) => Phase::Recreating,
        }
    }

    /// Whether a link ever came up.
    pub(super) fn was_ever_up(&self) -> bool {
        self.ever_up
    }

    /// Whether a link is the one that carries the events now.
    pub(super) fn is_current(&self, link: LinkId) -> bool {
        self.link.id() == Some(link)
    }

    /// The newest generation that was issued.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether nothing remains at the service.
    pub(super) fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// Whether the answer to `op` is still awaited.
    pub(super) fn expects(&self, op: Op) -> bool {
        match self.lease {
            Lease::Acquiring { op: current }
            | Lease::Pruning { op: current }
            | Lease::Renewing { op: current, .. }
            | Lease::Deleting { op: current } => current == op,
            Lease::Absent | Lease::Active { .. } | Lease::Gone => false,
        }
    }

    /// Whether a change of filters is pending.
    pub(super) fn update_pending(&self) -> bool {
        self.update_wanted || matches!(self.lease, Lease::Renewing { what: LeaseOp::Update, .. })
    }

    /// Whether a renewal or a change is in flight, whose answer may bring a key.
    pub(super) fn is_renewing(&self) -> bool {
        self.stage != Stage::Finished && matches!(self.lease, Lease::Renewing { .. })
    }

    /// Whether this is the renewal in flight.
    pub(super) fn is_renewal(&self, op: Op) -> bool {
        matches!(self.lease, Lease::Renewing { op: current, what: LeaseOp::Renew, .. } if current == op)
    }

    /// When the lease ends that is being audited.
    pub(super) fn audited_lease_ends_at(&self) -> Option<Instant> {
        match self.lease {
            Lease::Renewing { what: LeaseOp::Audit, expires_at, .. } => Some(expires_at),
            _ => None,
        }
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

    /// How many consecutive attempts to get a lease or a link failed.
    pub(super) fn failed_attempts(&self) -> u32 {
        self.acquire_attempts.saturating_sub(1).max(self.link_attempts).max(self.renew_attempts)
    }
}

#[cfg(test)]
#[path = "../machine_tests.rs"]
mod tests;
