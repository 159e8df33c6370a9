//! One subscription's part of the gateway: the connections that its subscription lives in, one after the other.
//!
//! This file makes connections and tracks them; [`calls`](super::calls) makes the subscription's calls over them,
//! [`link`](super::link) reads them.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::dial::{self, Address};
use super::ended::Ended;
use super::gateway::Gateway;
use super::pacing::Pacing;
use super::recovery::{self, RecoveryState, Resumable, Wsc};
use super::refusals::Refusals;
use super::socket::Socket;
use super::stats::Counters;
use crate::control::{ControlPlane, SocketToken, SubscriptionInfo};
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::http::RateBudget;
use crate::http::dials::SocketSeat;
use crate::ids::SubscriptionId;
use crate::kind::is_of_transport;
use crate::secret::Secret;
use crate::system::System;
use crate::waiting::{self, WaitCause};

/// How long a dial may wait for the user's rate.
const TURN_WITHIN: Duration = Duration::from_secs(20);
/// The shortest observed life of a token (websocket §1.2), used where the service names none.
const TOKEN_LIFE: Duration = Duration::from_secs(30);
/// A token is not used for a connection so shortly before its end, since connecting takes time.
const TOKEN_MARGIN: Duration = Duration::from_secs(5);
/// The longest observed life of a token; a longer one is a fault.
const TOKEN_LIFE_CAP: Duration = Duration::from_secs(600);
/// If a connection ends with an unreadable message so soon after the connection before it did, it is the same message
/// again.
const SAME_AGAIN: Duration = Duration::from_secs(60);

/// A subscription and its last connection.
#[derive(Clone)]
pub(super) struct ActiveSubscription {
    pub(super) id: SubscriptionId,
    pub(super) socket: Arc<Socket>,
    /// The service's last description of it.
    pub(super) info: SubscriptionInfo,
    /// When the service last described it.
    pub(super) served_at: Instant,
    /// A connection that was to continue it may have received the missed events and did not deliver them.
    pub(super) doubtful: bool,
}

#[derive(Default)]
pub(super) struct Connections {
    /// Two during a takeover, otherwise one or none.
    pub(super) held: Vec<ActiveSubscription>,
    /// A connection whose session has no subscription yet, or may have one.
    pub(super) idle: Option<Arc<Socket>>,
    /// A lost session that may have a subscription: a creation was sent, and its answer never arrived.
    orphan: Option<Resumable>,
    /// The number of sessions in which a creation was sent that is still unanswered.
    pub(super) unanswered: usize,
    refusals: Refusals,
    pacing: Pacing,
    /// A token that the gateway never saw.
    unused: Option<Ticket>,
    /// Why the last dial failed.
    trouble: Option<Error>,
}

impl Connections {
    /// Room for one: a vector that grows by itself has room for four.
    pub(super) fn hold(&mut self, subscription: ActiveSubscription) {
        self.held.reserve_exact(1);
        self.held.push(subscription);
    }
}

/// A token for one connection. The guide forbids a second connection with it, not a second attempt at the first
/// (websocket §1.2, found 6.1).
struct Ticket {
    token: SocketToken,
    good_until: Instant,
}

impl Ticket {
    fn new(token: SocketToken, asked_at: Instant) -> Self {
        let life = token.expires_in.unwrap_or(TOKEN_LIFE).min(TOKEN_LIFE_CAP);
        Self { token, good_until: asked_at + life.saturating_sub(TOKEN_MARGIN) }
    }
}

pub(super) struct SocketSession {
    pub(super) outer: Arc<dyn ControlPlane>,
    pub(super) gateway: Arc<Gateway>,
    pub(super) counters: Arc<Counters>,
    pub(super) system: System,
    connections: Mutex<Connections>,
    /// Serializes the dials.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// Signals a new connection.
    pub(super) changed: Notify,
    _seat: SocketSeat,
}

impl fmt::Debug for SocketSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = self.connections();
        f.debug_struct("SocketSession")
            .field("held", &connections.held.iter().map(|held| (&held.id, &held.socket)).collect::<Vec<_>>())
            .field("idle", &connections.idle)
            .finish_non_exhaustive()
    }
}

/// Why a dial failed.
pub(super) struct Failed {
    error: Error,
    ended: Option<Ended>,
    /// The gateway may have begun the session and sent the missed events.
    doubtful: bool,
}

/// The result of a redial.
pub(super) enum Reconnect {
    /// The session continues.
    Recovered(Arc<Socket>),
    /// The session is lost.
    Lost,
}

impl SocketSession {
    pub(super) fn new(outer: Arc<dyn ControlPlane>, gateway: Arc<Gateway>) -> Self {
        let system = outer.system().unwrap_or_default();
        let seat = gateway.budget_of(&*outer).socket();
        Self {
            _seat: seat,
            outer,
            gateway,
            system,
            counters: Arc::default(),
            connections: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            changed: Notify::new(),
        }
    }

    pub(super) fn connections(&self) -> MutexGuard<'_, Connections> {
        // Every change is complete before anything can panic.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn held(&self, id: &SubscriptionId) -> Option<ActiveSubscription> {
        self.connections().held.iter().find(|held| held.id == *id).cloned()
    }

    pub(super) fn forget(&self, id: &SubscriptionId) {
        self.connections().held.retain(|held| held.id != *id);
    }

    /// The lifetime to report to the lifecycle.
    pub(super) fn lease(&self) -> Duration {
        recovery::lease(self.gateway.audit_every)
    }

    pub(super) fn budget(&self) -> RateBudget {
        self.gateway.budget_of(&*self.outer)
    }

    /// Makes a connection for a subscription that is not created yet; with `lost`, one that continues that session.
    ///
    /// If dropped halfway, it leaves at most an unused token.
    async fn connect(&self, lost: Option<&Resumable>) -> Result<Arc<Socket>, Failed> {
        let ticket = self.ticket().await.map_err(|error| Failed { error, ended: None, doubtful: false })?;
        self.dial(ticket, lost, false).await
    }

    /// A token to connect with: one that was never presented, otherwise a new one, once it is this subscription's turn.
    async fn ticket(&self) -> Result<Ticket> {
        let unused = self.connections().unused.take().filter(|ticket| ticket.good_until > Instant::now());
        if let Some(ticket) = unused {
            return Ok(ticket);
        }
        let next = self.connections().pacing.next(Instant::now());
        if let Some(next) = next {
            waiting::during(next, WaitCause::BackOff, sleep_until(next)).await;
        }
        let turn = self.budget().admit_dial(Instant::now() + TURN_WITHIN).await;
        let turn = turn.map_err(|error| self.cause_of(error))?;
        let asked_at = Instant::now();
        let before = self.connections().pacing;
        let room = self.budget().dial_room(asked_at);
        self.connections().pacing.began(asked_at, self.gateway.tuning.dial_pause, self.system.jitter(), room);
        match self.outer.socket_token().await {
            Ok(token) => Ok(Ticket::new(token, asked_at)),
            Err(error) => {
                if error.sent_nothing() {
                    // It cost no call of the group that the pause protects.
                    turn.give_back();
                    self.connections().pacing = before;
                }
                let error = no_token(error);
                self.connections().trouble = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Connects with `ticket`, which is spent unless none of it left this machine.
    async fn dial(
        &self,
        ticket: Ticket,
        lost: Option<&Resumable>,
        after_unreadable: bool,
    ) -> Result<Arc<Socket>, Failed> {
        let address = Address::new(&ticket.token, lost.map(|lost| &lost.wsc.token)).map_err(|error| {
            let error = self.odd(error);
            self.connections().trouble = Some(error.clone());
            Failed { error, ended: None, doubtful: false }
        })?;
        let address = &address;
        let subscription = lost.and_then(|lost| lost.subscription.as_ref());
        tracing::debug!(host = address.url.host_str(), recover = lost.is_some(), ?subscription, "connecting");
        let asked_at = Instant::now();
        let failed = match self.gateway.dial.dial(&self.system, address).await {
            Ok(stream) => {
                let (tuning, counters) = (&self.gateway.tuning, self.counters.clone());
                let opened = Socket::open(
                    (stream, asked_at),
                    tuning,
                    address,
                    lost,
                    after_unreadable,
                    self.outer.clone(),
                    counters,
                )
                .await;
                match opened {
                    Ok(socket) => {
                        self.counters.connected();
                        let mut connections = self.connections();
                        if !connections.refusals.had_one() {
                            // Replacing the first connection is not a repeat.
                            connections.pacing = Pacing::default();
                        }
                        connections.refusals.clear();
                        connections.trouble = None;
                        drop(connections);
                        tracing::debug!(recovery = ?socket.recovery(), "connected to the gateway");
                        return Ok(Arc::new(socket));
                    }
                    Err(ended) => {
                        let error = ended.error();
                        let error = if ended.refused_token() { self.refused(error) } else { error };
                        let doubtful = !ended.read_to_end();
                        Failed { error, ended: Some(ended), doubtful }
                    }
                }
            }
            Err(error) => {
                let doubtful = error.is_ambiguous();
                if error.sent_nothing() {
                    self.connections().unused = Some(ticket);
                }
                // No request was sent over it.
                let error = error.with_ambiguous(false);
                let error = if error.status().is_some_and(dial::is_final) { self.refused(error) } else { error };
                Failed { error, ended: None, doubtful }
            }
        };
        self.connections().trouble = Some(failed.error.clone());
        Err(failed)
    }

    /// The user's rate has no room for another connection: the cause of the last failure says more.
    fn cause_of(&self, closed: Error) -> Error {
        let wait = closed.retry_after();
        let trouble = self.connections().trouble.clone();
        trouble.map_or(closed, |trouble| trouble.with_disposition(Disposition::Retry { after: wait }))
    }

    /// The service named an address to which no token may be sent. The cause may pass, and ends no subscription that
    /// was connected before.
    fn odd(&self, error: Error) -> Error {
        let mut connections = self.connections();
        let lasts = connections.refusals.note();
        if lasts { error } else { error.with_disposition(Disposition::Retry { after: None }) }
    }

    /// The gateway refused a connection, or a request for want of a valid token: the next attempt gets another token.
    /// Refusals end the subscription only before its first connection: later they are transient, and a withdrawn
    /// permission shows when a token is requested (found 6.4).
    pub(super) fn refused(&self, error: Error) -> Error {
        if !self.connections().refusals.note() {
            return error;
        }
        let kind = if error.status().is_none() { ErrorKind::Config } else { ErrorKind::TransportRefused };
        Error::new(kind, "RingCentral's WebSocket gateway keeps refusing the tokens of RingCentral's REST API")
            .with_status_of(&error)
            .with_code(error.code().map(str::to_owned))
            .with_request_id(error.request_id().map(str::to_owned))
            .with_source(error)
    }

    /// A connection for a subscription that is not created yet: one that remains from a failed recovery, or a new one.
    pub(super) async fn fresh(&self) -> Result<Arc<Socket>> {
        let idle = self.connections().idle.take_if(|idle| !idle.is_usable());
        if let Some(dead) = idle {
            self.orphaned(&dead);
        }
        if let Some(idle) = self.connections().idle.clone() {
            return Ok(idle);
        }
        let orphan = self.connections().orphan.clone().filter(|orphan| orphan.is_fresh(Instant::now()));
        let connected = self.connect(orphan.as_ref()).await;
        if connected.as_ref().is_ok() || connected.as_ref().is_err_and(is_wsc_refused) {
            self.connections().orphan = None;
        }
        let socket = connected.map_err(|failed| failed.error)?;
        if orphan.is_some() && socket.recovery() == Some(RecoveryState::Successful) {
            socket.continues_orphan();
        }
        self.connections().idle = Some(socket.clone());
        Ok(socket)
    }

    /// A connection is gone over which a creation may have been carried out.
    fn orphaned(&self, socket: &Socket) {
        if *socket.lock().event_buffer.owner() == super::event_buffer::Owner::Any {
            self.connections().orphan = socket.resumable();
        }
    }

    /// Continues the session of a connection that is gone, or is being retired.
    ///
    /// If dropped halfway, it leaves a doubt: the gateway may have sent the missed events.
    pub(super) async fn redial(&self, held: &ActiveSubscription) -> Result<Reconnect> {
        let left = &held.socket;
        left.break_off().await;
        let ended = left.ended();
        let unreadable = ended.as_ref().is_some_and(Ended::unreadable);
        let lost = left.resumable().filter(|lost| lost.is_fresh(Instant::now()));
        let Some(lost) = lost else { return Ok(Reconnect::Lost) };
        self.connections().pacing.lost(left.opened_at, Instant::now());
        let ticket = self.ticket().await?;
        let doubtful = self.doubt(&held.id, true);
        let socket = match self.dial(ticket, Some(&lost), unreadable).await {
            Ok(socket) => socket,
            Err(failed) => {
                self.doubt(&held.id, doubtful || failed.doubtful);
                if is_wsc_refused(&failed) {
                    return Ok(Reconnect::Lost);
                }
                let again = unreadable && failed.ended.as_ref().is_some_and(Ended::unreadable);
                return Err(if again { poisoned() } else { failed.error });
            }
        };
        if socket.recovery() == Some(RecoveryState::Successful) {
            socket.inherit(left, !doubtful && ended.is_some_and(|ended| ended.read_to_end()));
            let mut connections = self.connections();
            if let Some(held) = connections.held.iter_mut().find(|connections| connections.id == held.id) {
                held.socket = socket.clone();
                held.doubtful = false;
            }
            drop(connections);
            self.changed.notify_waiters();
            return Ok(Reconnect::Recovered(socket));
        }
        // The connection is good: the next creation uses it.
        self.connections().idle = Some(socket);
        Ok(Reconnect::Lost)
    }

    /// A connection that continues the session of another process. Only the gateway knows when that connection ended.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) where the gateway does not continue it.
    pub(super) async fn take_up(&self, id: &SubscriptionId, token: Secret) -> Result<Arc<Socket>> {
        let lost = Resumable {
            wsc: Wsc { token, sequence: None },
            subscription: Some(id.clone()),
            heard_at: Instant::now(),
            window: Duration::ZERO,
        };
        let gone = || Error::new(ErrorKind::NotFound, "the gateway has given up the session of the previous process");
        let socket = match self.connect(Some(&lost)).await {
            Ok(socket) => socket,
            Err(failed) if is_wsc_refused(&failed) => return Err(gone()),
            Err(failed) => return Err(failed.error),
        };
        if socket.recovery() != Some(RecoveryState::Successful) {
            self.connections().idle = Some(socket);
            return Err(gone());
        }
        socket.continues(id);
        Ok(socket)
    }

    /// Sets whether the missed events may have been sent in vain; returns the former value.
    fn doubt(&self, id: &SubscriptionId, doubtful: bool) -> bool {
        let mut connections = self.connections();
        let held = connections.held.iter_mut().find(|held| held.id == *id);
        held.is_some_and(|held| std::mem::replace(&mut held.doubtful, doubtful))
    }

    /// The error that a connection's end is to its link.
    pub(super) fn link_error(&self, socket: &Socket, ended: &Ended) -> Error {
        let soon = socket.asked_at.elapsed() < SAME_AGAIN;
        if ended.unreadable() && socket.after_unreadable && soon { poisoned() } else { ended.error() }
    }
}

fn is_wsc_refused(failed: &Failed) -> bool {
    failed.ended.as_ref().is_some_and(Ended::refused_wsc)
}

/// Another recovery would bring the same message again.
fn poisoned() -> Error {
    Error::new(ErrorKind::Protocol, "the gateway sent an unreadable message, and again after a recovery")
        .with_disposition(Disposition::Recreate)
}

/// No token: the service's answer decides what to do, but says nothing about the subscription.
fn no_token(error: Error) -> Error {
    match (error.kind(), error.disposition()) {
        (ErrorKind::Permission, _) if error.permission().is_some_and(|named| !is_of_transport(named)) => error,
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

/// Waits for `notified` until `deadline`; returns whether it completed in time.
pub(super) async fn in_time(notified: impl Future<Output = ()>, deadline: Instant) -> bool {
    timeout_at(deadline, notified).await.is_ok()
}
