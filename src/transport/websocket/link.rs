//! Reads one connection for the lifecycle.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};

use super::event_buffer::EventBuffer;
use super::session::{Reconnect, SocketSession};
use super::socket::Socket;
use super::state::{Continued, State};
use crate::control::{Cursor, DeliveryModeRequest};
use crate::error::{Error, ErrorKind, Result};
use crate::kind::TransportKind;
use crate::transport::{Coverage, Link, LinkBatch, LinkEvent, PossibleLoss, Target, Transport};

/// How often the link repeats that another connection should take over.
const LEAVING_AGAIN: Duration = Duration::from_secs(60);
/// How long a retired connection stays open for its subscription's deletion.
const GRACE: Duration = Duration::from_secs(3);

pub(super) struct SocketLink {
    session: Arc<SocketSession>,
    socket: Arc<Socket>,
    reader: u64,
    greeted: bool,
    /// Whether the position to continue from after a restart was reported.
    placed: bool,
}

/// The next event to report.
enum Look {
    Say(Result<LinkEvent>),
    /// Nothing before this time, unless something changes.
    Wait(Option<Instant>),
}

impl SocketLink {
    fn new(session: Arc<SocketSession>, socket: Arc<Socket>) -> Self {
        let reader = socket.attach();
        Self { session, socket, reader, greeted: false, placed: false }
    }

    fn look(&mut self, now: Instant) -> Look {
        let wall = self.session.system.now();
        let mut state = self.socket.lock();
        if state.reader != self.reader {
            return Look::Wait(None);
        }
        if !self.greeted {
            self.greeted = true;
            return Look::Say(Ok(LinkEvent::Alive));
        }
        if let Some(mut earlier) = state.earlier.take()
            && let Some(batch) = batch(&mut earlier, place(&state, wall))
        {
            return Look::Say(Ok(batch));
        }
        if let Some(Continued { read_to_end }) = state.continued.take() {
            let (asked, buffer) = (self.socket.asked_at, state.details.buffer());
            return Look::Say(Ok(LinkEvent::Continued { asked, read_to_end, buffer }));
        }
        if !self.placed {
            self.placed = true;
            return Look::Say(Ok(LinkEvent::At(place(&state, wall))));
        }
        let place = place(&state, wall);
        if let Some(batch) = batch(&mut state.event_buffer, place) {
            self.socket.drained();
            return Look::Say(Ok(batch));
        }
        // Everything that the peer had sent before it is reported.
        if let Some(asked) = state.answered.take() {
            return Look::Say(Ok(LinkEvent::Answered { asked }));
        }
        if let Some(ended) = state.ended.clone() {
            drop(state);
            return Look::Say(Err(self.session.link_error(&self.socket, &ended)));
        }
        match state.leave_at {
            Some(at) if at <= now => {
                state.leave_at = Some(now + LEAVING_AGAIN);
                Look::Say(Ok(LinkEvent::Leaving))
            }
            at => Look::Wait(at),
        }
    }
}

/// The received events, if there are any.
fn batch(event_buffer: &mut EventBuffer, cursor: Cursor) -> Option<LinkEvent> {
    if event_buffer.is_empty() {
        return None;
    }
    let (frames, lost) = event_buffer.take();
    let possible_loss = (lost > 0).then_some(PossibleLoss::Overflow { events: lost });
    Some(LinkEvent::Batch(LinkBatch::new(frames, cursor, Coverage::Pushed).with_possible_loss(possible_loss)))
}

/// The position from which another process would continue.
fn place(state: &State, wall: SystemTime) -> Cursor {
    Cursor::at(wall).with_secret(state.wsc.as_ref().map(|wsc| wsc.token.clone()))
}

#[async_trait]
impl Link for SocketLink {
    async fn next(&mut self) -> Result<LinkEvent> {
        let socket = self.socket.clone();
        loop {
            // Registered before the check, so that no change is missed.
            let changed = socket.changed();
            let until = match self.look(Instant::now()) {
                Look::Say(event) => return event,
                Look::Wait(until) => until,
            };
            match until {
                Some(until) => drop(timeout_at(until, changed).await),
                None => changed.await,
            }
        }
    }

    fn check(&mut self) {
        self.socket.ping();
    }

    /// Retires the connection. It closes a little later, so that its subscription can still be deleted over it.
    async fn close(self: Box<Self>) {
        if self.socket.detach(self.reader) {
            self.socket.retire(GRACE);
        }
    }
}

impl Drop for SocketLink {
    fn drop(&mut self) {
        self.socket.detach(self.reader);
    }
}

/// [`SocketSession`] as a transport: a session hands itself to its links.
#[derive(Clone, Debug)]
pub(super) struct Links(pub(super) Arc<SocketSession>);

#[async_trait]
impl Transport for Links {
    fn kind(&self) -> TransportKind {
        TransportKind::WebSocket
    }

    fn delivery_mode(&self) -> DeliveryModeRequest {
        DeliveryModeRequest::new(TransportKind::WebSocket)
    }

    async fn open(&self, target: Target) -> Result<Box<dyn Link>> {
        let session = &self.0;
        let _turn = session.turn.lock().await;
        let id = &target.subscription_id;
        let lost = || Error::new(ErrorKind::SessionLost, "the gateway has given up the connection's session");
        let held = session.held(id).ok_or_else(lost)?;
        // A link that reads it is about to close it.
        if held.socket.is_usable() && !held.socket.is_attached() {
            return Ok(Box::new(SocketLink::new(session.clone(), held.socket)));
        }
        match session.redial(&held).await? {
            Reconnect::Recovered(socket) => Ok(Box::new(SocketLink::new(session.clone(), socket))),
            Reconnect::Lost => {
                session.forget(id);
                Err(lost())
            }
        }
    }
}
