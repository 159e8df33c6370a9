//! The status of a subscription.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;

use crate::error::Error;
use crate::ids::SubscriptionId;
use crate::kind::TransportKind;
use crate::timestamp::Timestamp;
use crate::waiting::WaitCause;
use crate::words::words;

/// The status of a [`Subscription`](crate::Subscription).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// Its phase.
    pub phase: Phase,
    /// When that phase began, by this machine's clock. `None` before the start.
    pub since: Option<SystemTime>,
    /// The subscription at the service; changes when it is recreated.
    pub subscription_id: Option<SubscriptionId>,
    /// The transport in use.
    pub transport: TransportKind,
    /// When the lease ends unless renewed, by this machine's clock.
    pub expires_at: Option<SystemTime>,
    /// Whether catch-up sources are being polled, because push has been down for longer than
    /// [`poll_after`](crate::SubscriptionBuilder::poll_after) or the transport is [`Poll`](crate::transport::Poll).
    /// Filters that no source covers are not served then.
    pub is_polling: bool,
    /// Whether the latest query of a source failed, while sources are polled.
    pub is_poll_failing: bool,
    /// Since when events may be missing, by the service's clock, while the subscription is lost or catch-up sources are
    /// being asked for them. The stream has a [`Gap`](crate::Gap) for it, and gets a [`Resumed`](crate::Resumed).
    pub missing_since: Option<SystemTime>,
    /// How many consecutive attempts failed; 0 while they succeed.
    pub failed_attempts: u32,
    /// What delays the start, or the return to [`Phase::Live`], for more than 2 s: the user's rate group, a wait that
    /// the service named, the pauses between attempts. `None` while a call is in flight or no delay exists.
    pub waiting: Option<Wait>,
    /// Whether the service confirmed that the subscription is gone; only once the
    /// phase is [`Phase::Closed`].
    pub deleted: bool,
    /// The latest error, until the phase is [`Phase::Live`] again.
    pub last_error: Option<Arc<Error>>,
}

impl Status {
    /// Before the first step.
    pub(crate) fn starting(transport: TransportKind) -> Self {
        Self {
            phase: Phase::Starting,
            since: None,
            subscription_id: None,
            transport,
            expires_at: None,
            is_polling: false,
            is_poll_failing: false,
            missing_since: None,
            failed_attempts: 0,
            waiting: None,
            deleted: false,
            last_error: None,
        }
    }

    /// Whether events can arrive: the lease is held, and the transport's peer has answered on the present link. A path
    /// that dies silently is noticed within 15 s over WebSocket, within 60 s over PubNub. A subscription that the service
    /// lost silently is noticed within a minute while its rate limit allows an audit. [`Health`](crate::Health) counts
    /// polls that replace push, too.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.phase == Phase::Live
    }
}

/// One line: the phase, the transport, and what is unusual.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} over {}", self.phase, self.transport)?;
        if self.is_polling {
            f.write_str(", polling")?;
        }
        if let Some(until) = self.expires_at {
            write!(f, ", lease until {}", Timestamp::from(until))?;
        }
        if self.phase == Phase::Closed {
            f.write_str(if self.deleted { ", deleted" } else { ", not known to be deleted" })?;
        }
        if self.failed_attempts > 0 {
            write!(f, ", {} failed attempts", self.failed_attempts)?;
        }
        if let Some(wait) = &self.waiting {
            write!(f, ", {wait}")?;
        }
        self.last_error.as_ref().map_or(Ok(()), |error| write!(f, ": {error}"))
    }
}

/// As in "waits until 2026-01-02T03:04:05.000Z (rate_limit)".
impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waits until {} ({})", Timestamp::from(self.until), self.cause)
    }
}

/// Why attempts are delayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wait {
    /// The latest end of the delay, by this machine's clock.
    pub until: SystemTime,
    /// The cause.
    pub cause: WaitCause,
}

impl Wait {
    pub(crate) fn new(until: SystemTime, cause: WaitCause) -> Self {
        Self { until, cause }
    }
}

/// The phase of a subscription's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// It is being created for the first time.
    Starting,
    /// Created; the transport's peer has not answered yet.
    Connecting,
    /// Events can arrive.
    Live,
    /// The link is down, the lease is held. Events wait at the service.
    Reconnecting,
    /// The lease is lost and being replaced. Events are being missed.
    Recreating,
    /// It is being deleted.
    Closing,
    /// It has ended.
    Closed,
}

words!("phase", Phase {
    Starting = "starting",
    Connecting = "connecting",
    Live = "live",
    Reconnecting = "reconnecting",
    Recreating = "recreating",
    Closing = "closing",
    Closed = "closed",
});

/// A watch of a subscription's [`Status`], or that of an agent session. Cheap to clone; does not keep the subscription
/// alive.
#[derive(Clone, Debug)]
pub struct StatusWatch<S = Status>(watch::Receiver<S>);

impl<S: Clone> StatusWatch<S> {
    pub(crate) fn new(receiver: watch::Receiver<S>) -> Self {
        Self(receiver)
    }

    /// The present status.
    #[must_use]
    pub fn current(&self) -> S {
        self.0.borrow().clone()
    }

    /// Whether the subscription's task runs.
    pub(crate) fn has_task(&self) -> bool {
        self.0.has_changed().is_ok()
    }

    /// Waits for a change; `None` once the subscription has ended and its last status was seen.
    ///
    /// Changes in quick succession may be seen as one. Cancel safe.
    pub async fn changed(&mut self) -> Option<S> {
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().clone())
    }

    /// Waits until `wanted` holds; `None` if the subscription ends before. Cancel safe.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&S) -> bool) -> Option<S> {
        self.0.wait_for(|status| wanted(status)).await.ok().map(|status| status.clone())
    }
}
