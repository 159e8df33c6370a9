//! The subscription's calls, over its connection.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;

use super::event_buffer::Owner;
use super::recovery::{audit_within, lease};
use super::replies::{REPLY_WITHIN, answer, status_of};
use super::session::{ActiveSubscription, SocketSession, in_time};
use super::socket::Socket;
use crate::control::{ControlPlane, CreateSubscription, Cursor, Deletion, SocketToken, SubscriptionInfo};
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::http::groups::template;
use crate::http::{RateBudget, segment};
use crate::ids::SubscriptionId;
use crate::rest::Response;
use crate::rest::control::of_create;
use crate::system::System;
use crate::telemetry;

const PATH: &str = "/restapi/v1.0/subscription";
/// A subscription's last call must leave time for another transport, and for another attempt.
const DELETE_WITHIN: Duration = Duration::from_secs(2);
/// How much longer than the service retains the session the lifecycle waits before it considers the subscription lost.
const BEYOND: Duration = Duration::from_secs(60);
/// When the service does not say whether it serves a subscription, or it could not be asked for want of a connection or
/// of room in the rate, the audit is repeated after this: a loss must be noticed within a minute.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// After this long without an answer to an audit, the subscription counts as lost.
const UNANSWERED: Duration = Duration::from_secs(15 * 60);

impl SocketSession {
    /// Sends one request over `socket`, within the user's rate.
    pub(super) async fn call(
        &self,
        socket: &Socket,
        method: &Method,
        path: &str,
        body: Option<&str>,
        deadline: Instant,
    ) -> Result<Response> {
        let permit = self.budget().admit(method, path, deadline).await?;
        let sent_at = Instant::now();
        let span = telemetry::call("websocket", method, || template(path), None);
        let outcome = match socket.request(method, path, body, deadline).instrument(span.clone()).await {
            Ok(reply) => {
                telemetry::answered(&span, status_of(&reply));
                permit.answered(method, path, status_of(&reply), &reply.headers);
                answer(reply, sent_at, &socket.lock().secrets())
            }
            Err(error) => {
                telemetry::failed(&span, &error);
                permit.failed(&error);
                Err(error)
            }
        };
        tracing::debug!(
            %method, path = path.split('?').next(), error = outcome.as_ref().err().map(tracing::field::display),
            "call over the gateway"
        );
        outcome.map_err(|error| self.no_refresh(socket, error))
    }

    /// The connection's login is no longer valid: only a new connection gets a new one.
    fn no_refresh(&self, socket: &Socket, error: Error) -> Error {
        if error.disposition() != Disposition::Refresh {
            return error;
        }
        socket.retire(Duration::ZERO);
        self.refused(error.with_disposition(Disposition::Retry { after: None }))
    }

    /// Creates a subscription in the session of `socket`.
    async fn subscribe(&self, socket: &Arc<Socket>, request: &CreateSubscription) -> Result<SubscriptionInfo> {
        let body = serde_json::to_string(request)
            .map_err(|error| Error::config("the request cannot be written as JSON").with_source(error))?;
        let before = socket.lock().event_buffer.owner().clone();
        // From here on the service may carry it out without our seeing the answer.
        socket.own(Owner::Any);
        let is_first = before != Owner::Any;
        self.connections().unanswered += usize::from(is_first);
        let deadline = Instant::now() + REPLY_WITHIN;
        let answer = self.call(socket, &Method::POST, PATH, Some(&body), deadline).await;
        let mut info = match answer.and_then(|response| self.read(&response)) {
            Ok(info) => info,
            Err(error) if error.is_ambiguous() => return Err(error),
            Err(error) => {
                socket.own(before);
                self.connections().unanswered -= usize::from(is_first);
                return Err(of_create(error));
            }
        };
        socket.own(if before == Owner::Any { before } else { Owner::Only(info.id.clone()) });
        let mut connections = self.connections();
        // A session has one subscription: this one replaced any other in it (websocket §1.7).
        connections.unanswered = connections.unanswered.saturating_sub(1);
        info.is_only = connections.unanswered == 0;
        connections.idle.take_if(|idle| Arc::ptr_eq(idle, socket));
        connections.held.retain(|held| held.id != info.id && !Arc::ptr_eq(&held.socket, socket));
        connections.hold(ActiveSubscription {
            id: info.id.clone(),
            socket: socket.clone(),
            info: info.clone(),
            served_at: Instant::now(),
            doubtful: false,
        });
        drop(connections);
        self.changed.notify_waiters();
        Ok(info)
    }

    /// Reads a description of the subscription, and sets the lifetime that makes the lifecycle audit it.
    fn read(&self, response: &Response) -> Result<SubscriptionInfo> {
        let mut info: SubscriptionInfo = response.json()?;
        info.answered_at = response.answered_at();
        info.sent_at = Some(response.sent_at());
        info.expires_in = Some(self.lease());
        // The service's own expiry is that of the session, and is renewed with it.
        info.expiration_time = None;
        Ok(info)
    }

    fn describe(&self, id: &SubscriptionId, info: &SubscriptionInfo) {
        let mut connections = self.connections();
        if let Some(held) = connections.held.iter_mut().find(|held| held.id == *id) {
            held.info = info.clone();
            held.served_at = Instant::now();
        }
    }

    /// Waits for a connection that the subscription lives in.
    async fn live(&self, id: &SubscriptionId, deadline: Instant) -> Result<Arc<Socket>> {
        loop {
            let changed = self.changed.notified();
            let held = self.held(id).ok_or_else(|| elsewhere(id))?;
            if held.socket.is_usable() {
                return Ok(held.socket);
            }
            if !in_time(changed, deadline).await {
                return Err(Error::new(ErrorKind::Network, "no connection to the gateway before the deadline"));
            }
        }
    }

    /// Asks the service over the connection whether it serves the subscription.
    async fn audit(&self, held: &ActiveSubscription, within: Duration) -> Result<SubscriptionInfo> {
        let path = path(&held.id)?;
        let deadline = Instant::now() + within;
        let answer = self.call(&held.socket, &Method::GET, &path, None, deadline).await?;
        let info = self.read(&answer)?;
        if info.id != held.id {
            return Err(Error::new(ErrorKind::NotFound, "the service no longer serves the subscription"));
        }
        self.describe(&held.id, &info);
        Ok(info)
    }

    /// Like [`audit`](Self::audit), with a second question in parallel if no answer comes soon: the answer itself may
    /// be lost. Both end before the lifetime does.
    async fn audit_twice(&self, held: &ActiveSubscription) -> Result<SubscriptionInfo> {
        let within = audit_within(self.lease());
        let mut first = pin!(self.audit(held, within));
        if let Ok(answer) = timeout(within / 2, &mut first).await {
            return answer;
        }
        if !held.socket.is_usable() || !self.budget().has_room_to_audit() {
            return first.await;
        }
        let mut second = pin!(self.audit(held, within / 2));
        let is_lost =
            |answer: &Result<SubscriptionInfo>| answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Timeout);
        tokio::select! {
            biased;
            answer = &mut first => if is_lost(&answer) { second.await } else { answer },
            answer = &mut second => if is_lost(&answer) { first.await } else { answer },
        }
    }
}

fn path(id: &SubscriptionId) -> Result<String> {
    Ok(format!("{PATH}/{}", segment(id.as_str())?))
}

fn elsewhere(id: &SubscriptionId) -> Error {
    let message = format!("the subscription {id} lives in another process's connection; it cannot be moved here");
    Error::new(ErrorKind::NotFound, message)
}

/// The last known description with this lifetime: the service sent nothing new.
fn unchanged(held: ActiveSubscription, lease: Duration) -> SubscriptionInfo {
    let mut info = held.info;
    info.expires_in = Some(lease);
    (info.answered_at, info.sent_at, info.remembered) = (None, None, true);
    info
}

#[async_trait]
impl ControlPlane for SocketSession {
    /// Connects, unless an idle connection is available, and creates the subscription.
    ///
    /// When an earlier attempt ended ambiguously, this one replaces what it may have created: a session has one
    /// subscription. Events of both are accepted.
    async fn create(&self, request: &CreateSubscription) -> Result<SubscriptionInfo> {
        let socket = {
            let _turn = self.turn.lock().await;
            self.fresh().await?
        };
        self.subscribe(&socket, request).await
    }

    async fn list(&self) -> Result<Vec<SubscriptionInfo>> {
        self.outer.list().await
    }

    async fn get(&self, id: &SubscriptionId) -> Result<SubscriptionInfo> {
        let held = self.held(id).ok_or_else(|| elsewhere(id))?;
        self.audit(&held, audit_within(self.lease())).await
    }

    /// Continues the session of another process, if the gateway allows it.
    async fn resume(&self, id: &SubscriptionId, at: &Cursor) -> Result<SubscriptionInfo> {
        let Some(token) = at.secret().cloned().filter(|_| self.held(id).is_none()) else { return self.get(id).await };
        let _turn = self.turn.lock().await;
        let socket = self.take_up(id, token).await?;
        let held = ActiveSubscription {
            id: id.clone(),
            socket: socket.clone(),
            info: SubscriptionInfo::new(id.clone()),
            served_at: Instant::now(),
            doubtful: false,
        };
        self.connections().hold(held.clone());
        // The subscription is gone: another can be created over the same connection.
        self.audit(&held, audit_within(self.lease())).await.inspect_err(|_| {
            self.forget(id);
            self.connections().idle = Some(socket);
        })
    }

    async fn update(&self, id: &SubscriptionId, event_filters: &[String]) -> Result<SubscriptionInfo> {
        let deadline = Instant::now() + REPLY_WITHIN;
        let body = serde_json::json!({ "eventFilters": event_filters }).to_string();
        let socket = self.live(id, deadline).await?;
        let answer = self.call(&socket, &Method::PUT, &path(id)?, Some(&body), deadline).await?;
        let info = self.read(&answer)?;
        self.describe(id, &info);
        Ok(info)
    }

    /// The service renews by itself; this asks whether the subscription still exists. Without a connection, that can be
    /// asked over the next one: until the service is certain to have dropped the session, the answer is the last one, so
    /// that the subscription is not considered lost too early. The same holds, for a quarter of an hour, when the service
    /// does not answer on a connection that is alive. Such an answer shows nothing, so the next question follows soon.
    async fn renew(&self, id: &SubscriptionId) -> Result<SubscriptionInfo> {
        let held = self.held(id).ok_or_else(|| elsewhere(id))?;
        // The room belongs to the user's other calls, but not for ever.
        let may_wait = held.served_at.elapsed() < UNANSWERED;
        let soon = lease(self.gateway.audit_every.min(ASK_AGAIN));
        if held.socket.is_usable() && may_wait && !self.budget().has_room_to_audit() {
            return Ok(unchanged(held, soon));
        }
        if held.socket.is_usable() {
            match self.audit_twice(&held).await {
                Err(_) if !held.socket.is_usable() => {}
                Err(error)
                    if matches!(error.disposition(), Disposition::Retry { .. })
                        && held.served_at.elapsed() < UNANSWERED =>
                {
                    tracing::debug!(%error, %id, "the service does not say whether it serves the subscription");
                    return Ok(unchanged(held, soon));
                }
                audit => return audit,
            }
        }
        let until = held.socket.resumable().map(|lost| lost.until() + BEYOND);
        match until.map(|until| until.saturating_duration_since(Instant::now())) {
            Some(left) if !left.is_zero() => Ok(unchanged(held, soon.min(left))),
            _ => Err(Error::new(ErrorKind::Network, "no connection to the gateway")),
        }
    }

    /// Deletes over the subscription's connection while that is open, otherwise over HTTPS. The connection is closed
    /// after that.
    async fn delete(&self, id: &SubscriptionId) -> Result<Deletion> {
        let held = self.held(id);
        let (mut done, mut asked) = (None, false);
        if let Some(held) = held.as_ref().filter(|held| held.socket.is_open()) {
            let deadline = Instant::now() + DELETE_WITHIN;
            match self.call(&held.socket, &Method::DELETE, &path(id)?, None, deadline).await {
                Ok(_) => done = Some(Deletion::Deleted),
                Err(error) if error.status() == Some(404) => done = Some(Deletion::GoneAlready),
                Err(error) => {
                    asked = error.is_ambiguous();
                    tracing::debug!(%error, %id, "not deleted over the connection");
                }
            }
        }
        let done = match done {
            Some(done) => done,
            // The call over the connection may have deleted it.
            None => match self.outer.delete(id).await? {
                Deletion::GoneAlready if !asked => Deletion::GoneAlready,
                Deletion::GoneAlready | Deletion::Deleted => Deletion::Deleted,
            },
        };
        self.forget(id);
        let shared =
            |socket: &Arc<Socket>| self.connections().held.iter().any(|held| Arc::ptr_eq(&held.socket, socket));
        if let Some(held) = held.filter(|held| held.socket.is_open() && !shared(&held.socket)) {
            held.socket.close().await;
        }
        Ok(done)
    }

    async fn owner_id(&self) -> Result<Option<String>> {
        self.outer.owner_id().await
    }

    /// Creates on a new connection, while the former one continues.
    async fn replace(&self, request: &CreateSubscription) -> Result<SubscriptionInfo> {
        self.create(request).await
    }

    async fn socket_token(&self) -> Result<SocketToken> {
        self.outer.socket_token().await
    }

    fn rate_budget(&self) -> Option<RateBudget> {
        self.outer.rate_budget()
    }

    fn system(&self) -> Option<System> {
        Some(self.system.clone())
    }
}
