//! One subscription's part of the gateway: the connections that its subscription
//! lives in, one after the other.
//!
//! This file makes connections and knows them; [`calls`](super::calls) makes the
//! subscription's calls over them, [`link`](super::link) reads them.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::dial::{self, Address};
use super::ended::{Cause, Ended};
use super::recovery::{RecoveryState, Resumable};
use super::refusals::Refusals;
use super::socket::Socket;
use super::stats::Counters;
use super::{Gateway, recovery};
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::ids::SubscriptionId;
use crate::rest::{ControlPlane, RateBudget, SubscriptionInfo};

/// So long a new connection may wait for its turn within the user's rate.
const TURN_WITHIN: Duration = Duration::from_secs(20);
/// A message that is too large, so soon after the connection before it ended by
/// one, is the same message again.
const SAME_AGAIN: Duration = Duration::from_secs(60);

/// A subscription and the connection it was last on.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) id: SubscriptionId,
    pub(super) socket: Arc<Socket>,
    /// As the service last described it.
    pub(super) info: SubscriptionInfo,
    /// A connection that was to go on with it broke before its session began: what
    /// was missed may have been sent there.
    pub(super) doubtful: bool,
}

#[derive(Default)]
pub(super) struct Known {
    /// Two while one takes over from the other, else one or none.
    pub(super) held: Vec<Held>,
    /// A connection whose session has no subscription yet, or may have one.
    pub(super) spare: Option<Arc<Socket>>,
    /// A lost session that may have a subscription: a creation was sent, and its
    /// answer never came.
    orphan: Option<Resumable>,
    refusals: Refusals,
}

pub(super) struct SocketSession {
    pub(super) outer: Arc<dyn ControlPlane>,
    pub(super) gateway: Arc<Gateway>,
    pub(super) counters: Arc<Counters>,
    known: Mutex<Known>,
    /// One connection is made at a time.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// A connection came into use.
    pub(super) changed: Notify,
}

impl fmt::Debug for SocketSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known();
        f.debug_struct("SocketSession")
            .field("held", &known.held.iter().map(|held| (&held.id, &held.socket)).collect::<Vec<_>>())
            .field("spare", &known.spare)
            .finish_non_exhaustive()
    }
}

/// Why there is no connection.
pub(super) struct Failed {
    pub(super) error: Error,
    pub(super) ended: Option<Ended>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, ended: None }
    }
}

/// What a redial came to.
pub(super) enum Redialled {
    /// The session goes on. `unheard`: for how long nothing had come on the former
    /// connection, if that is why it was left.
    Recovered { socket: Arc<Socket>, unheard: Option<Duration> },
    /// It is lost.
    Lost,
}

impl SocketSession {
    pub(super) fn new(outer: Arc<dyn ControlPlane>, gateway: Arc<Gateway>) -> Self {
        Self {
            outer,
            gateway,
            counters: Arc::default(),
            known: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            changed: Notify::new(),
        }
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        // Every change is whole before anything can panic.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn held(&self, id: &SubscriptionId) -> Option<Held> {
        self.known().held.iter().find(|held| held.id == *id).cloned()
    }

    pub(super) fn forget(&self, id: &SubscriptionId) {
        self.known().held.retain(|held| held.id != *id);
    }

    /// The lifetime that the lifecycle is told.
    pub(super) fn lease(&self, socket: &Socket) -> Duration {
        recovery::lease(self.gateway.audit_every, socket.lock().details.window())
    }

    pub(super) fn budget(&self) -> RateBudget {
        self.outer.rate_budget().unwrap_or_else(|| self.gateway.budget.clone())
    }

    /// Makes a connection; with `lost`, one that is to go on with that session.
    ///
    /// Dropped halfway, it leaves nothing but a token that was not used.
    pub(super) async fn connect(&self, lost: Option<&Resumable>, after_too_large: bool) -> Result<Arc<Socket>, Failed> {
        self.budget().admit_dial(Instant::now() + TURN_WITHIN).await?;
        let token = self.outer.socket_token().await.map_err(no_token)?;
        let address = Address::new(&token, lost.map(|lost| &lost.wsc.token))?;
        let subscription = lost.and_then(|lost| lost.subscription.as_ref());
        tracing::debug!(host = address.url.host_str(), recover = lost.is_some(), ?subscription, "connecting");
        let stream = match self.gateway.dial.dial(&address).await {
            Ok(stream) => stream,
            Err(error) if error.status().is_some_and(dial::is_final) => {
                return Err(self.refused(error).into());
            }
            Err(error) => return Err(error.into()),
        };
        let (tuning, counters) = (&self.gateway.tuning, self.counters.clone());
        let opened = Socket::open(stream, tuning, lost, after_too_large, self.outer.clone(), counters).await;
        match opened {
            Ok(socket) => {
                self.counters.connected();
                self.known().refusals.clear();
                tracing::debug!(recovery = ?socket.recovery(), "connected to the gateway");
                Ok(Arc::new(socket))
            }
            Err(ended) => {
                let error = ended.error();
                let error = if ended.refused_token() { self.refused(error) } else { error };
                Err(Failed { error, ended: Some(ended) })
            }
        }
    }

    /// The gateway refused a connection, or what is asked over it for want of a
    /// good token: at the next try it gets another. Refusals that last end it.
    pub(super) fn refused(&self, error: Error) -> Error {
        if !self.known().refusals.note(Instant::now()) {
            return error;
        }
        let kind = if error.status().is_none() { ErrorKind::Config } else { ErrorKind::TransportRefused };
        Error::new(kind, "RingCentral's WebSocket gateway keeps refusing the tokens that it was given")
            .with_status_of(&error)
            .with_code(error.code().map(str::to_owned))
            .with_request_id(error.request_id().map(str::to_owned))
            .with_source(error)
    }

    /// A connection for a subscription that is yet to be made: one that is left
    /// over from a recovery that failed, or a new one.
    pub(super) async fn fresh(&self) -> Result<Arc<Socket>> {
        let spare = self.known().spare.take_if(|spare| !spare.is_usable());
        if let Some(dead) = spare {
            self.orphaned(&dead);
        }
        if let Some(spare) = self.known().spare.clone() {
            return Ok(spare);
        }
        let orphan = self.known().orphan.clone().filter(|orphan| orphan.is_fresh(Instant::now()));
        let connected = self.connect(orphan.as_ref(), false).await;
        if connected.as_ref().is_ok() || connected.as_ref().is_err_and(is_wsc_refused) {
            self.known().orphan = None;
        }
        let socket = connected.map_err(|failed| failed.error)?;
        if orphan.is_some() && socket.recovery() == Some(RecoveryState::Successful) {
            socket.own(super::inbox::Owner::Any);
        }
        self.known().spare = Some(socket.clone());
        Ok(socket)
    }

    /// A connection is gone over which a creation may have been carried out.
    fn orphaned(&self, socket: &Socket) {
        if *socket.lock().inbox.owner() == super::inbox::Owner::Any {
            self.known().orphan = socket.resumable();
        }
    }

    /// Goes on with the session of a connection that is gone, or is being left.
    pub(super) async fn redial(&self, held: &Held) -> Result<Redialled> {
        let left = &held.socket;
        left.break_off().await;
        let cause = left.ended().map(|ended| ended.cause);
        let too_large = cause == Some(Cause::TooLarge);
        let silent = matches!(cause, Some(Cause::Silent(_)));
        let lost = left.resumable().filter(|lost| lost.is_fresh(Instant::now()));
        let Some(lost) = lost else { return Ok(Redialled::Lost) };
        let socket = match self.connect(Some(&lost), too_large).await {
            Ok(socket) => socket,
            Err(failed) if is_wsc_refused(&failed) => return Ok(Redialled::Lost),
            Err(failed) => {
                let cause = failed.ended.as_ref().map(|ended| &ended.cause);
                let doubtful = matches!(cause, Some(Cause::NoDetails | Cause::Broken(_) | Cause::Closed(None)));
                self.known().held.iter_mut().filter(|it| it.id == held.id).for_each(|it| it.doubtful |= doubtful);
                return Err(self.too_large_again(failed, too_large));
            }
        };
        if socket.recovery() == Some(RecoveryState::Successful) {
            socket.own(left.lock().inbox.owner().clone());
            socket.inherit(left.leave_inbox());
            let mut known = self.known();
            if let Some(held) = known.held.iter_mut().find(|known| known.id == held.id) {
                held.socket = socket.clone();
                held.doubtful = false;
            }
            drop(known);
            self.changed.notify_waiters();
            let unheard = (silent || held.doubtful).then(|| lost.heard_at.elapsed());
            return Ok(Redialled::Recovered { socket, unheard });
        }
        // The connection is good: the next creation uses it.
        self.known().spare = Some(socket);
        Ok(Redialled::Lost)
    }

    fn too_large_again(&self, failed: Failed, before: bool) -> Error {
        match failed.ended {
            Some(ended) if before && ended.cause == Cause::TooLarge => poisoned(),
            _ => failed.error,
        }
    }

    /// What a connection's end is to its link.
    pub(super) fn link_error(&self, socket: &Socket, ended: &Ended) -> Error {
        let soon = socket.opened_at.elapsed() < SAME_AGAIN;
        if ended.cause == Cause::TooLarge && socket.after_too_large && soon { poisoned() } else { ended.error() }
    }
}

fn is_wsc_refused(failed: &Failed) -> bool {
    failed.ended.as_ref().is_some_and(Ended::refused_wsc)
}

/// Recovering once more would bring the same message once more.
fn poisoned() -> Error {
    Error::new(ErrorKind::Protocol, "the gateway sent a message larger than the limit, and again after a recovery")
        .with_disposition(Disposition::Recreate)
}

/// No token: what to do is the service's word, except that it says nothing about
/// the subscription.
fn no_token(error: Error) -> Error {
    match (error.kind(), error.disposition()) {
        (ErrorKind::Permission, _) => Error::new(
            ErrorKind::Permission,
            "RingCentral refused a token for its WebSocket gateway. The app needs the permission \
             WebSocketsSubscription (\"WebSocket Subscriptions\" in the developer console)",
        )
        .with_status_of(&error)
        .with_code(error.code().map(str::to_owned))
        .with_permission(error.permission().map(str::to_owned).or_else(|| Some("WebSocketsSubscription".into())))
        .with_request_id(error.request_id().map(str::to_owned))
        .with_source(error),
        (_, Disposition::Recreate | Disposition::Prune | Disposition::Resync | Disposition::Refresh) => {
            error.with_disposition(Disposition::Retry { after: None })
        }
        (_, Disposition::Fatal | Disposition::Retry { .. }) => error,
    }
}

/// Waits for something of `notify` until `deadline`; whether there was time.
pub(super) async fn in_time(notified: impl Future<Output = ()>, deadline: Instant) -> bool {
    timeout_at(deadline, notified).await.is_ok()
}
