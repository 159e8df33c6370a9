//! RingCentral's WebSocket gateway.
//!
//! A connection has a session at the service, and the session has one subscription, which is created over the
//! connection and served by it. When the connection is lost, another one that presents the session's token in time
//! continues the session and receives the missed events. So a session takes the place of the lease that other
//! transports have:
//!
//! - `session` makes connections and knows which subscription lives in which;
//! - `calls` makes the subscription's calls over them, `link` reads them;
//! - `socket` is one connection, `reader` the task that reads it, `state` what both share;
//! - `payload_shim` passes a connection's bytes to the WebSocket library;
//! - `frame`, `liveness`, `recovery`, `event_buffer`, `ended`, `pacing` and `refusals` decide, without IO.

mod calls;
mod client;
mod dial;
mod ended;
mod event_buffer;
#[cfg(test)]
mod fakes;
mod frame;
mod gateway;
mod link;
mod liveness;
mod pacing;
mod payload_shim;
mod reader;
mod recovery;
mod refusals;
mod replies;
mod session;
mod socket;
mod state;
mod stats;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use self::dial::{Dial, HttpDialer};
use self::gateway::{Gateway, Tuning};
use self::link::Links;
use self::liveness::Pace;
use self::session::SocketSession;
use super::{Link, Target, Transport, TransportBinding, TransportKind};
use crate::control::{ControlPlane, DeliveryModeRequest};
use crate::error::{Error, Result};

pub use self::client::{SocketClient, SocketRequest};
pub use self::stats::SocketStats;

/// The WebSocket transport: one connection per subscription, to RingCentral's own gateway.
///
/// Its promises, beyond those of every transport:
///
/// - After a lost connection, a new one continues the same session and receives the missed events, including those that
///   arrive together with the gateway's first frame. When the service has given up the session, the subscription is
///   created again on the new connection, and a [`Gap`](crate::Gap) reports it.
/// - A connection that ends without a close frame from the gateway, or that this side abandons, is a possible
///   [`Gap`](crate::Gap) from the sending of the last received frame to the recovery: everything in transit counts as
///   sent. The service's replay after the recovery is inside that gap.
/// - After a close frame everything that was sent has been read, and the missed events are replayed. A replay with as
///   many events as the service retains is a possible [`Gap`](crate::Gap): there may have been more.
/// - A connection that looks open and is dead is noticed within 15 s: by a ping after 5 s of silence, which must be
///   answered within 8 s. A gateway that answers only pings is noticed within 40 s, by a heartbeat after 30 s without a
///   message. Heartbeats also keep an idle connection alive, unlike pings.
/// - While the reader's queue is full the connection is not read, for up to 8 s: a longer time would keep the gateway
///   waiting for its pongs. Events wait in the network meanwhile. Only then does the queue overflow, with a reported
///   gap.
/// - A connection has one subscription. If for 5 s all events name another one, they are delivered: the service names
///   it in two ways, or has replaced it by another of ours. If an event named the right one before, ten such events are
///   required.
/// - A subscription that the service lost silently is noticed within a minute: the connection asks for it every
///   [`audit_every`](WebSocketBuilder::audit_every), while more than a fifth of the user's light calls remains;
///   otherwise it is noticed within a quarter of an hour.
/// - The service ends each connection after a day. Before that another one takes over; both deliver for a while, and
///   each event is delivered once.
/// - The login is kept alive, without which the session would end, and one user's connections are made one after the
///   other, within the service's rate.
/// - While nothing accepts a connection, the client retries at least every 4 s. Such an attempt costs neither a call of
///   that rate nor a token: a token that the gateway never saw is used again.
///
/// Each connection that reaches the gateway costs a call of the user's rate group `Auth`, 5 a minute by default, of
/// which one is left for the login. So **no more than about 12 WebSocket subscriptions of one user and app come back
/// within the 180 s for which the gateway retains their sessions**, when all lose their connections together; the
/// others are created again, with a [`Gap`](crate::Gap). A warning is logged when there are more. Put more filters into
/// one subscription, or ask RingCentral for a higher limit, which is used as soon as the service names it.
/// [`Status::waiting`](crate::Status::waiting) shows what a connection waits for.
///
/// A subscription lives in its connection. Another process can continue it
/// ([`resume`](crate::SubscriptionBuilder::resume), [`checkpoint`](crate::SubscriptionBuilder::checkpoint)) for as long
/// as the gateway retains the session, and with the same login; otherwise, and with
/// [`adopt`](crate::SubscriptionBuilder::adopt), another one is created and a [`Gap`](crate::Gap) reported.
/// `expires_in` has no meaning here, and the expiry in [`Status`](crate::Status) is the latest time of the next audit.
///
/// The HTTP client is that of the [`Client`](crate::Client), and makes the connections. The app needs the permission
/// `WebSocketsSubscription`.
#[derive(Clone)]
pub struct WebSocket {
    gateway: Arc<Gateway>,
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").field("gateway", &self.gateway).finish()
    }
}

impl WebSocket {
    /// Starts with the defaults, which suit the service.
    pub fn builder() -> WebSocketBuilder {
        WebSocketBuilder::default()
    }
}

#[async_trait]
impl Transport for WebSocket {
    fn kind(&self) -> TransportKind {
        TransportKind::WebSocket
    }

    /// Events are not encrypted beyond TLS; the service supports nothing else here.
    fn delivery_mode(&self) -> DeliveryModeRequest {
        DeliveryModeRequest::new(TransportKind::WebSocket)
    }

    fn bind(&self, control: &Arc<dyn ControlPlane>) -> Option<TransportBinding> {
        let session = Arc::new(SocketSession::new(control.clone(), self.gateway.clone()));
        let socket = SocketClient::new(Arc::downgrade(&session));
        let mut parts = TransportBinding::new(session.clone(), Arc::new(Links(session)));
        parts.caller = Some(Arc::new(socket));
        Some(parts)
    }

    /// # Errors
    /// Always `Config`: the subscription's own binding opens its links.
    async fn open(&self, _target: Target) -> Result<Box<dyn Link>> {
        Err(Error::config("a WebSocket link is opened by its subscription's session"))
    }
}

/// Makes a [`WebSocket`].
#[derive(Clone, Debug)]
#[must_use]
pub struct WebSocketBuilder {
    tuning: Tuning,
    audit_every: Duration,
    connect_timeout: Duration,
}

impl Default for WebSocketBuilder {
    fn default() -> Self {
        let pace = Pace {
            ping_after: Duration::from_secs(5),
            beat_after: Duration::from_secs(30),
            answer_within: Duration::from_secs(8),
        };
        let details_within = Duration::from_secs(15);
        Self {
            tuning: Tuning {
                pace,
                details_within,
                dial_pause: Duration::from_secs(2),
                max_message: 16 << 20,
                inbox_bytes: 8 << 20,
            },
            audit_every: Duration::from_secs(45),
            connect_timeout: Duration::from_secs(10),
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);

impl WebSocketBuilder {
    /// After how much silence the peer is pinged. Default 5 s, so that a dead connection is noticed within 15 s: events
    /// that the gateway sends over it until then may be lost. From 100 ms to an hour.
    pub fn ping_after(mut self, silence: Duration) -> Self {
        self.tuning.pace.ping_after = silence;
        self
    }

    /// After how much time without a message a heartbeat is sent. Default 30 s, the shortest that RingCentral's guide
    /// allows; from 100 ms to an hour. In any case one is sent at every third of the gateway's idle limit.
    pub fn heartbeat_after(mut self, silence: Duration) -> Self {
        self.tuning.pace.beat_after = silence;
        self
    }

    /// How long the answer to a ping or a heartbeat may take before the connection is given up. Default 8 s, less than
    /// the 10 s that the gateway itself allows for a pong; from 100 ms to an hour.
    pub fn answer_within(mut self, bound: Duration) -> Self {
        self.tuning.pace.answer_within = bound;
        self
    }

    /// How long connecting may take, TLS and upgrade included. Default 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long the gateway may take after the connection to send its first frame, `ConnectionDetails`. Default 15 s.
    pub fn details_within(mut self, bound: Duration) -> Self {
        self.tuning.details_within = bound;
        self
    }

    /// How long to wait before the next dial after a connection that was refused, or lost within 10 s. Default 2 s, and
    /// twice as long before later ones; where the user's rate leaves little, the later ones are spread over its window, so
    /// that one subscription does not spend at once the four connections a minute that the service's default leaves a
    /// user. Attempts that reach no server are not delayed by it. From 100 ms to an hour.
    pub fn dial_pause(mut self, pause: Duration) -> Self {
        self.tuning.dial_pause = pause;
        self
    }

    /// How often to ask the service whether it still serves the subscription. Default 45 s: 1.3 of 50 light calls a
    /// minute, so that a silent loss is noticed within a minute. The question is skipped while less than a fifth of
    /// those calls remains. At least 30 s, at most 40 min; a random part makes it up to an eighth longer. While the
    /// service does not answer, the question is repeated every minute, and the subscription counts as lost only after a
    /// quarter of an hour.
    pub fn audit_every(mut self, period: Duration) -> Self {
        self.audit_every = period;
        self
    }

    /// The largest message to read, in bytes. Default 16 MiB, far beyond any event: a larger one breaks the connection,
    /// which a possible [`Gap`](crate::Gap) reports, and when it comes again after the recovery, the subscription is
    /// created again with a [`Gap`](crate::Gap).
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.tuning.max_message = bytes;
        self
    }

    /// How many bytes of events may wait between a connection and its reader. Default 8 MiB. When events do not fit,
    /// the connection is not read for a while; after that the oldest events are dropped, and a [`Gap`](crate::Gap)
    /// reports it.
    pub fn inbox_bytes(mut self, bytes: usize) -> Self {
        self.tuning.inbox_bytes = bytes;
        self
    }

    fn check(&self) -> Result<()> {
        const LEAST: Duration = Duration::from_millis(100);
        let bounds = [
            ("ping_after", self.tuning.pace.ping_after),
            ("heartbeat_after", self.tuning.pace.beat_after),
            ("answer_within", self.tuning.pace.answer_within),
            ("connect_timeout", self.connect_timeout),
            ("details_within", self.tuning.details_within),
            ("dial_pause", self.tuning.dial_pause),
        ];
        for (name, value) in bounds {
            if value < LEAST || value > HOUR {
                return Err(Error::config(format!("{name} must be from 100 ms to an hour")));
            }
        }
        if self.audit_every < Duration::from_secs(30) || self.audit_every > HOUR * 2 / 3 {
            return Err(Error::config("audit_every must be from 30 s to 40 min"));
        }
        if self.tuning.max_message < 1 << 10 {
            return Err(Error::config("max_message must be at least 1 KiB"));
        }
        if self.tuning.inbox_bytes == 0 {
            return Err(Error::config("inbox_bytes must not be zero"));
        }
        Ok(())
    }

    /// Makes the transport. Nothing is sent.
    ///
    /// # Errors
    /// Kind `Config` when a value is out of its range.
    pub fn build(self) -> Result<WebSocket> {
        self.check()?;
        let dial = HttpDialer::new(self.connect_timeout);
        Ok(self.with(Arc::new(dial)))
    }

    fn with(self, dial: Arc<dyn Dial>) -> WebSocket {
        let Self { tuning, audit_every, .. } = self;
        WebSocket { gateway: Arc::new(Gateway::new(dial, tuning, audit_every)) }
    }
}

/// Reads any text as a frame, for the fuzzer.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn fuzz_frame(text: &str) {
    let read = frame::read(text);
    let event = text.contains("\"ServerNotification\"");
    assert!(read.is_ok() || !event, "an unreadable event was lost");
    if let Ok(frame::Incoming { what: frame::What::Notification(event), .. }) = read {
        match event.body {
            Ok(body) => assert!(text.contains(body.get())),
            Err((raw, _)) => assert_eq!(&*raw, text),
        }
    }
}
