//! What a subscription is doing.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;

use crate::error::Error;
use crate::ids::SubscriptionId;
use crate::transport::TransportKind;
use crate::waiting::WaitCause;

/// What a [`Subscription`](crate::Subscription) is doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// Where in its life it is.
    pub phase: Phase,
    /// The subscription at the service; changes when it is recreated.
    pub subscription_id: Option<SubscriptionId>,
    /// The transport in use.
    pub transport: TransportKind,
    /// When the lease ends unless renewed, by this machine's clock.
    pub expires_at: Option<SystemTime>,
    /// Whether catch-up sources are being asked for events, because push is down for
    /// longer than [`poll_after`](crate::SubscriptionBuilder::poll_after) or the
    /// transport is [`Poll`](crate::transport::Poll). Filters that no source covers
    /// are not served by that.
    pub is_polling: bool,
    /// How many tries failed in a row; 0 when all is well.
    pub failed_attempts: u32,
    /// What holds the start, or the way back to [`Phase::Live`], off for more than 2 s:
    /// the user's rate group, a wait that the service named, the pauses between tries.
    /// `None` while a call is under way or nothing is wrong.
    pub waiting: Option<Wait>,
    /// Whether the service confirmed that the subscription is gone; only once the
    /// phase is [`Phase::Closed`].
    pub deleted: bool,
    /// The latest error, kept until the phase is [`Phase::Live`] again.
    pub last_error: Option<Arc<Error>>,
}

impl Status {
    /// Before the first step.
    pub(super) fn starting(transport: TransportKind) -> Self {
        Self {
            phase: Phase::Starting,
            subscription_id: None,
            transport,
            expires_at: None,
            is_polling: false,
            failed_attempts: 0,
            waiting: None,
            deleted: false,
            last_error: None,
        }
    }

    /// Whether events can arrive: the lease is held, and the transport's peer has
    /// answered on the link that is open now. A path that dies without a word is noticed
    /// within 15 s over WebSocket; over PubNub once a poll has met its deadline. A subscription
    /// that the service lost without a word is noticed within a minute while its rate limit
    /// allows to ask.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.phase == Phase::Live
    }
}

/// Why nothing is tried for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wait {
    /// Until when at the latest, by this machine's clock.
    pub until: SystemTime,
    /// Why.
    pub cause: WaitCause,
}

impl Wait {
    pub(super) fn new(until: SystemTime, cause: WaitCause) -> Self {
        Self { until, cause }
    }
}

/// Where in its life a subscription is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Being created for the first time.
    Starting,
    /// Created; the transport's peer has not yet answered.
    Connecting,
    /// Events can arrive.
    Live,
    /// The link is down, the lease is held. Events wait at the service.
    Reconnecting,
    /// The lease is lost and being replaced. Events are being missed.
    Recreating,
    /// Being deleted.
    Closing,
    /// Over.
    Closed,
}

impl Phase {
    /// A word for logs and machines.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Reconnecting => "reconnecting",
            Self::Recreating => "recreating",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }
}

/// Follows a subscription's [`Status`], or that of an agent session. Cheap to clone;
/// keeps nothing alive.
#[derive(Clone, Debug)]
pub struct StatusWatch<S = Status>(watch::Receiver<S>);

impl<S: Clone> StatusWatch<S> {
    pub(crate) fn new(receiver: watch::Receiver<S>) -> Self {
        Self(receiver)
    }

    /// The status now.
    #[must_use]
    pub fn current(&self) -> S {
        self.0.borrow().clone()
    }

    /// Waits for a change; `None` once the subscription is over and its last
    /// status was seen.
    ///
    /// Changes that follow each other quickly may be seen as one. Cancel safe.
    pub async fn changed(&mut self) -> Option<S> {
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().clone())
    }

    /// Waits until `wanted` holds; `None` if the subscription ends before.
    /// Cancel safe.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&S) -> bool) -> Option<S> {
        self.0.wait_for(|status| wanted(status)).await.ok().map(|status| status.clone())
    }
}
