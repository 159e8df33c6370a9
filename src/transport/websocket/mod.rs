//! RingCentral's WebSocket gateway.
//!
//! A connection has a session at the service, and the session one subscription,
//! made over the connection and served by it. When the connection is lost, another
//! one that offers the session's token in time goes on with it and gets what was
//! missed. So what is a lease elsewhere is a session here:
//!
//! - `session` makes connections and knows which subscription lives in which;
//! - `calls` makes the subscription's calls over them, `link` reads them;
//! - `socket` is one connection, `pump` the task that reads it;
//! - `wire` is the bytes of it on their way to the WebSocket library;
//! - `frame`, `liveness`, `recovery`, `inbox`, `ended`, `pacing` and
//!   `refusals` decide, without IO.

mod calls;
mod client;
mod dial;
mod ended;
#[cfg(test)]
mod fakes;
mod frame;
mod inbox;
mod link;
mod liveness;
mod pacing;
mod pump;
mod recovery;
mod refusals;
mod session;
mod socket;
mod stats;
#[cfg(test)]
mod tests;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use self::dial::{Dial, HttpDialer};
use self::link::Links;
use self::liveness::Pace;
use self::session::SocketSession;
use super::{DeliveryModeRequest, Link, Session, Target, Transport, TransportKind};
use crate::error::{Error, Result};
use crate::rest::{ControlPlane, RateBudget};

pub use self::client::{SocketClient, SocketRequest};
pub use self::stats::SocketStats;

/// What holds for each connection.
#[derive(Clone, Debug)]
struct Tuning {
    pace: Pace,
    details_within: Duration,
    dial_pause: Duration,
    max_message: usize,
    inbox_bytes: usize,
}

/// What all subscriptions of a [`WebSocket`] share.
#[derive(Debug)]
struct Gateway {
    dial: Arc<dyn Dial>,
    tuning: Tuning,
    audit_every: Duration,
    /// For a control plane that has none.
    budget: RateBudget,
}

/// The WebSocket transport: one connection per subscription, to RingCentral's own
/// gateway.
///
/// What it promises, beyond what every transport does:
///
/// - A lost connection is replaced by one that goes on with the same session, and
///   what was missed arrives, also what comes together with the gateway's first
///   words. When the service has given the session up, the subscription is made
///   again on the connection that is there, and a [`Gap`](crate::Gap) says so.
/// - A connection that ends without a close frame from the gateway, or is left, is a
///   possible [`Gap`](crate::Gap) from the sending of the last frame that came to the
///   recovery: what was on its way counts as sent. The service's replay after the recovery
///   is inside that gap.
/// - After a close frame everything that was sent is read, and what was missed is
///   replayed. As many replayed events as the service keeps are a possible
///   [`Gap`](crate::Gap): there may have been more.
/// - A connection that looks open and is dead is noticed within 15 s: by a ping when
///   nothing came for 5 s, which must be answered within 8 s. A gateway that answers
///   pings and nothing else is noticed within 40 s, by a heartbeat when no message came
///   for 30 s. Heartbeats also keep an idle connection alive, which pings do not.
/// - While the reader's queue is full the connection is not read, for up to 8 s: a
///   longer time would keep the gateway waiting for its pongs. What comes meanwhile
///   waits in the network. Only then does the queue overflow, with a reported gap.
/// - A connection has one subscription. Where for 5 s all events name another one they
///   are delivered: the service names it in two ways, or has another of ours in its place.
///   Where an event named the right one before it takes ten of them.
/// - A subscription that the service lost without a word is noticed within a minute, by
///   asking after it every [`audit_every`](WebSocketBuilder::audit_every), while more than
///   a fifth of the user's light calls remains; within a quarter of an hour otherwise.
/// - The service ends each connection after a day. Before that another one takes
///   over, both delivering for a while, each event told once.
/// - The login is kept alive, without which the session would end, and one user's
///   connections are made one after the other, within the service's rate.
/// - While nothing accepts a connection, it is tried at least every 4 s, which costs no
///   call of that rate, nor a token: one that the gateway never saw is used again.
///
/// Each connection that reaches the gateway costs a call of the user's rate group `Auth`,
/// 5 a minute by default, of which one is left for the login. So **no more than about 12
/// WebSocket subscriptions of one user and app come back within the 180 s for which the
/// gateway keeps their sessions**, when all lose their connections together; the others
/// are created again, with a [`Gap`](crate::Gap). A warning is logged when there are more.
/// Put more filters into one subscription, or ask RingCentral for a higher limit, which is
/// used as soon as the service names it. [`Status::waiting`](crate::Status::waiting) shows
/// what a connection waits for.
///
/// A subscription lives in its connection. Another process goes on with it
/// ([`resume`](crate::SubscriptionBuilder::resume),
/// [`checkpoint`](crate::SubscriptionBuilder::checkpoint)) for as long as the gateway keeps
/// the session, and with the same login; otherwise, and with
/// [`adopt`](crate::SubscriptionBuilder::adopt), another one is made and a
/// [`Gap`](crate::Gap) told. `expires_in` has no meaning here, and what
/// [`Status`](crate::Status) tells as the expiry is when the service is asked at
/// the latest.
///
/// Clones share one HTTP client; so should all subscriptions of a process. The app
/// needs the permission `WebSocketsSubscription`.
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

    /// Events are not encrypted beyond TLS; the service takes no other wish here.
    fn delivery_mode(&self) -> DeliveryModeRequest {
        DeliveryModeRequest::new(TransportKind::WebSocket)
    }

    fn session(&self, control: &Arc<dyn ControlPlane>) -> Option<Session> {
        let session = Arc::new(SocketSession::new(control.clone(), self.gateway.clone()));
        let socket = SocketClient::new(Arc::downgrade(&session));
        let mut parts = Session::new(session.clone(), Arc::new(Links(session)));
        parts.socket = Some(socket);
        Some(parts)
    }

    /// # Errors
    /// Always `Config`: a link is opened by the subscription's own
    /// [`session`](Transport::session).
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
    /// After how long a silence the peer is pinged. Default 5 s, so that a dead connection
    /// is noticed within 15 s: what the gateway sends over it until then may be lost. From
    /// 100 ms to an hour.
    pub fn ping_after(mut self, silence: Duration) -> Self {
        self.tuning.pace.ping_after = silence;
        self
    }

    /// After how long without a message a heartbeat is sent. Default 30 s, the
    /// shortest that RingCentral's guide allows; from 100 ms to an hour. It is sent
    /// at every third of the gateway's idle limit in any case.
    pub fn heartbeat_after(mut self, silence: Duration) -> Self {
        self.tuning.pace.beat_after = silence;
        self
    }

    /// How long the answer to either may take before the connection is given up.
    /// Default 8 s, less than the 10 s that the gateway itself allows for a pong; from
    /// 100 ms to an hour.
    pub fn answer_within(mut self, bound: Duration) -> Self {
        self.tuning.pace.answer_within = bound;
        self
    }

    /// How long connecting may take, TLS and upgrade included. Default 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long the gateway may take from there to its first words, which tell the
    /// terms of the session. Default 15 s.
    pub fn details_within(mut self, bound: Duration) -> Self {
        self.tuning.details_within = bound;
        self
    }

    /// How long a connection that was refused, or was lost within 10 s, is not tried anew.
    /// Default 2 s, and each time within a minute twice as long, up to eight times:
    /// so one subscription does not spend at once the four connections a minute that
    /// the service's default leaves a user. Tries that reach nobody are not held back by
    /// it. From 100 ms to an hour.
    pub fn dial_pause(mut self, pause: Duration) -> Self {
        self.tuning.dial_pause = pause;
        self
    }

    /// How often the service is asked whether it still serves the subscription.
    /// Default 45 s: 1.3 of 50 light calls a minute, so that a loss without a word is noticed
    /// within a minute. One is left out while less than a fifth of those calls remains. At
    /// least 30 s, at most 40 min; chance makes it up to an eighth longer. While the service does not answer it is asked every
    /// minute, and the subscription is kept for a quarter of an hour.
    pub fn audit_every(mut self, period: Duration) -> Self {
        self.audit_every = period;
        self
    }

    /// The largest message to read, in bytes. Default 16 MiB, far beyond any event:
    /// a larger one breaks the connection, which a possible [`Gap`](crate::Gap) tells of,
    /// and when it comes again after the
    /// recovery, the subscription is made anew with a [`Gap`](crate::Gap).
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.tuning.max_message = bytes;
        self
    }

    /// How many bytes of events may wait between a connection and its reader.
    /// Default 8 MiB. When they do not fit, the connection is not read for a while;
    /// after that the oldest give way, and a [`Gap`](crate::Gap) reports it.
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

    /// Makes the transport and its HTTP client. Nothing is sent.
    ///
    /// # Errors
    /// Kind `Config` when a value is out of its range, or the HTTP client cannot be
    /// made, for example because the platform has no root certificates.
    pub fn build(self) -> Result<WebSocket> {
        self.check()?;
        let dial = HttpDialer::new(self.connect_timeout);
        Ok(self.with(Arc::new(dial)))
    }

    fn with(self, dial: Arc<dyn Dial>) -> WebSocket {
        let Self { tuning, audit_every, .. } = self;
        WebSocket { gateway: Arc::new(Gateway { dial, tuning, audit_every, budget: RateBudget::new() }) }
    }
}

/// Reads any text as a frame, for the fuzzer.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn fuzz_frame(text: &str) {
    let read = frame::read(text);
    let event = text.contains("\"ServerNotification\"");
    assert!(read.is_ok() || !event, "what may have been an event is lost");
    if let Ok(frame::Incoming { what: frame::What::Notification(event), .. }) = read {
        match event.body {
            Ok(body) => assert!(text.contains(body.get())),
            Err((raw, _)) => assert_eq!(&*raw, text),
        }
    }
}
