//! How events travel from the service to here.
//!
//! A [`Transport`] opens [`Link`]s; a link reads one connection and reports what
//! it read. Neither decides anything about the subscription's life: when to open,
//! when to try again and when to give up is the lifecycle's business.

mod kind;
mod poll;
#[cfg(feature = "pubnub")]
mod pubnub;
#[cfg(feature = "websocket")]
mod websocket;

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::error::Result;
use crate::ids::SubscriptionId;
use crate::rest::ControlPlane;
use crate::secret::Secret;

pub use kind::TransportKind;
pub use poll::Poll;
#[cfg(feature = "pubnub")]
pub use pubnub::{PubNub, PubNubBuilder};
#[cfg(all(fuzzing, feature = "websocket"))]
#[doc(hidden)]
pub use websocket::fuzz_frame;
#[cfg(feature = "websocket")]
pub use websocket::{SocketClient, SocketRequest, SocketStats, WebSocket, WebSocketBuilder};

/// What is asked for when a subscription is created (`deliveryMode` of the
/// request).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryModeRequest {
    transport_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption: Option<bool>,
}

impl DeliveryModeRequest {
    /// Asks for `transport`.
    #[must_use]
    pub fn new(transport: TransportKind) -> Self {
        Self { transport_type: transport.as_str(), encryption: None }
    }

    /// Asks for payload encryption or for none. The service encrypts anyway as
    /// soon as one filter is sensitive (presence, telephony).
    #[must_use]
    pub fn encryption(mut self, on: bool) -> Self {
        self.encryption = Some(on);
        self
    }
}

/// A position in a transport's stream: where to go on without loss.
///
/// Opaque: only the transport that made it can read it. For PubNub it is the
/// timetoken and region; neither is a secret. For WebSocket it is the session's
/// recovery token, which `Debug` hides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    pub(crate) timetoken: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) region: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "expose")]
    pub(crate) session: Option<Secret>,
}

/// A position must survive a restart, so it is written out.
fn expose<S: serde::Serializer>(session: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    session.as_ref().map(Secret::expose).serialize(serializer)
}

impl Cursor {
    /// PubNub's position of a moment, its region unknown: what was published from
    /// then on is delivered, as far as the service still has it.
    ///
    /// Taken from before the subscription is created, it leaves no hole between
    /// the creation and the first poll. In ticks of 100 ns since 1970, always 17
    /// digits: times before 2001 and after 2286 become those. So it is never
    /// zero, which PubNub reads as "from now on".
    #[must_use]
    pub fn at(time: SystemTime) -> Self {
        const LEAST: u128 = 10_000_000_000_000_000;
        const MOST: u128 = 99_999_999_999_999_999;
        let ticks = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() / 100;
        Self { timetoken: ticks.clamp(LEAST, MOST).to_string(), region: None, session: None }
    }

    /// The moment of a PubNub position, by PubNub's clock.
    pub(crate) fn time(&self) -> Option<SystemTime> {
        time_of(&self.timetoken)
    }
}

/// The moment of a timetoken: ticks of 100 ns since 1970 (pubnub.md §1).
pub(crate) fn time_of(timetoken: &str) -> Option<SystemTime> {
    let ticks: u64 = timetoken.parse().ok()?;
    let time = std::time::Duration::new(ticks / 10_000_000, u32::try_from(ticks % 10_000_000).ok()? * 100);
    UNIX_EPOCH.checked_add(time)
}

/// Where to listen: what the service answered when it created or renewed the
/// subscription, and where to go on.
#[derive(Clone, Debug)]
pub struct Target {
    /// Which subscription.
    pub subscription_id: SubscriptionId,
    /// `deliveryMode.address`: for PubNub the channel. Empty for a transport whose
    /// subscriptions live in its connection.
    pub address: Secret,
    /// `deliveryMode.subscriberKey`; empty likewise.
    pub subscriber_key: Secret,
    /// The token's `owner_id`, which RingCentral's clients use as PubNub user id.
    pub user_id: Option<String>,
    /// Where to go on.
    pub cursor: Cursor,
    /// Everything that was published before this instant was read, if that is known.
    /// A pause since then that is longer than the service keeps events is a
    /// [`SuspectedLoss::BufferAged`].
    pub last_good: Option<Instant>,
}

/// One payload as a link read it, not decrypted, not decoded.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What came.
    pub body: FrameBody,
    /// When it was read, by this machine's clock.
    pub received_at: SystemTime,
    /// What the transport says of its place in the stream, where it does: PubNub's
    /// publish timetoken and region, a WebSocket frame's `messageId`. Tells two
    /// events of the same text apart when they carry no `uuid`.
    pub position: Option<Box<str>>,
    /// When the service sent it, by the service's clock, where that stands on it:
    /// PubNub's publish timetoken, the `timestamp` of a notification that is not
    /// encrypted.
    pub sent_at: Option<SystemTime>,
}

/// What a frame holds.
#[derive(Clone)]
#[non_exhaustive]
pub enum FrameBody {
    /// A payload: a JSON string (base64 of ciphertext) or a JSON object.
    Payload(Box<RawValue>),
    /// A piece of an answer that is not what the protocol says; `raw` is its
    /// text as it came.
    Malformed {
        /// The text as it came.
        raw: Box<str>,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl fmt::Debug for FrameBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Payload(raw) => write!(f, "Payload({} bytes)", raw.get().len()),
            Self::Malformed { raw, reason } => write!(f, "Malformed({} bytes, {reason})", raw.len()),
        }
    }
}

impl Frame {
    /// A frame without a position.
    #[must_use]
    pub fn new(body: FrameBody, received_at: SystemTime) -> Self {
        Self { body, received_at, position: None, sent_at: None }
    }

    /// Says where in the stream it stands.
    #[must_use]
    pub fn at(mut self, position: Option<Box<str>>) -> Self {
        self.position = position;
        self
    }

    /// Says when the service sent it.
    #[must_use]
    pub fn sent(mut self, at: Option<SystemTime>) -> Self {
        self.sent_at = at;
        self
    }

    /// What the frame weighs in a queue: its text and its keeping.
    #[must_use]
    pub fn weight(&self) -> usize {
        const KEEPING: usize = 96;
        KEEPING
            + self.position.as_deref().map_or(0, str::len)
            + match &self.body {
                FrameBody::Payload(raw) => raw.get().len(),
                FrameBody::Malformed { raw, .. } => raw.len(),
            }
    }
}

/// Events that a link can report.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LinkEvent {
    /// The peer proved to be there. That says nothing about the subscription, nor about
    /// what was read.
    Alive,
    /// The peer answered over this very connection to something that was sent at `asked`:
    /// what it had sent before that was read.
    Answered {
        /// When the question left.
        asked: Instant,
    },
    /// Events, or an answer without any.
    Batch {
        /// Its frames, in order; may be empty.
        frames: Vec<Frame>,
        /// Where to go on once every one of them is queued.
        cursor: Cursor,
        /// What it proves about events that were published before it.
        coverage: Coverage,
        /// Why events before these frames may be missing, if so.
        suspected_loss: Option<SuspectedLoss>,
    },
    /// A lost connection's session goes on over this link. What had come over the lost
    /// connection was reported before this, and what follows came over the new one.
    Continued {
        /// When the new connection was asked for.
        asked: Instant,
        /// Whether all that was sent over the lost connection was read: its close frame
        /// came, and no other connection was offered the session in between. Otherwise
        /// events may have been lost on their way.
        read_to_end: bool,
        /// How many missed events the service keeps for a session.
        buffer: usize,
    },
    /// Where to go on after a restart, though nothing came.
    At(Cursor),
    /// The peer will end this connection at a time it has set: another
    /// subscription on another connection should take over before. The link goes
    /// on meanwhile, and says so again if nothing came of it.
    Leaving,
}

/// What a batch proves about events that were published before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coverage {
    /// It came unasked: each of its frames follows the frame before it.
    Pushed,
    /// It answers a question that left at `asked`, with everything that was published
    /// before.
    Whole {
        /// When the question left.
        asked: Instant,
    },
    /// Likewise, but the service's buffer may have dropped the oldest.
    Cut {
        /// When the question left.
        asked: Instant,
    },
}

/// Why a link suspects that events were dropped before it could read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SuspectedLoss {
    /// The answer was as large as the service's buffer: older events may have
    /// been pushed out of it.
    BufferFull {
        /// How many events the answer held.
        events: usize,
    },
    /// Part of an answer could not be read, and would not have been the next time: what it
    /// held is delivered as far as it could be found.
    Unreadable,
    /// More time passed without a good answer than the service keeps events.
    BufferAged {
        /// How long.
        pause: std::time::Duration,
    },
    /// The service answers from another region than before, which may not hold all that the
    /// former one did.
    RegionChanged,
    /// The link itself had no room for this many of the oldest events.
    Overflow {
        /// How many.
        events: usize,
    },
}

/// One subscription's own part of a transport: see [`Transport::session`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Session {
    /// Makes the subscription's calls.
    pub control: Arc<dyn ControlPlane>,
    /// Opens its links.
    pub transport: Arc<dyn Transport>,
    /// Whether the service names an address to listen at.
    pub has_address: bool,
    /// Whether nothing is pushed: what catch-up sources find at intervals is all
    /// there is.
    pub polls: bool,
    /// Makes calls over the subscription's own connection, where it can.
    #[cfg(feature = "websocket")]
    pub socket: Option<SocketClient>,
}

impl Session {
    /// A session whose subscriptions have no address of their own.
    #[must_use]
    pub fn new(control: Arc<dyn ControlPlane>, transport: Arc<dyn Transport>) -> Self {
        Self {
            control,
            transport,
            has_address: false,
            polls: false,
            #[cfg(feature = "websocket")]
            socket: None,
        }
    }
}

/// Opens links.
#[async_trait]
pub trait Transport: Send + Sync + fmt::Debug + 'static {
    /// Which one this is.
    fn kind(&self) -> TransportKind;

    /// What to ask for at creation.
    fn delivery_mode(&self) -> DeliveryModeRequest;

    /// Called once for each subscription, before anything else. A transport whose
    /// subscriptions live in its connection returns what makes their calls over
    /// it; `control` is the one over REST. Default: none, the calls go over REST.
    fn session(&self, control: &Arc<dyn ControlPlane>) -> Option<Session> {
        let _ = control;
        None
    }

    /// Opens a link to `target`. May return before anything was sent; the first
    /// [`Link::next`] then tells whether the peer is there.
    ///
    /// # Errors
    /// When the link cannot be opened; the disposition tells what helps. With
    /// [`Recreate`](crate::Disposition::Recreate) the kind says why the
    /// subscription is of no use any more:
    /// [`SessionLost`](crate::ErrorKind::SessionLost), its connection's session is
    /// gone; [`Protocol`](crate::ErrorKind::Protocol), something too large to be
    /// read would come again; any other, the peer refuses it.
    async fn open(&self, target: Target) -> Result<Box<dyn Link>>;
}

#[async_trait]
impl<T: Transport + ?Sized> Transport for Arc<T> {
    fn kind(&self) -> TransportKind {
        (**self).kind()
    }

    fn delivery_mode(&self) -> DeliveryModeRequest {
        (**self).delivery_mode()
    }

    fn session(&self, control: &Arc<dyn ControlPlane>) -> Option<Session> {
        (**self).session(control)
    }

    async fn open(&self, target: Target) -> Result<Box<dyn Link>> {
        (**self).open(target).await
    }
}

/// One open connection of a transport.
#[async_trait]
pub trait Link: Send {
    /// Waits for what comes next. An `Err` ends the link; what it had not yet
    /// returned is read again by a new link from the same cursor.
    ///
    /// Cancel safe: a dropped call loses nothing, the next one goes on.
    async fn next(&mut self) -> Result<LinkEvent>;

    /// Asks the peer whether something is unread, because the subscription is about to end.
    /// What is unread follows from [`next`](Self::next), then [`LinkEvent::Answered`], whose
    /// `asked` is not before this call. A link that cannot tell does nothing, and the end
    /// reports a possible gap since the last proof.
    fn check(&mut self) {}

    /// Says good-bye, within a bound of its own.
    async fn close(self: Box<Self>);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn first_cursor_is_seventeen_digits_of_100_ns() {
        let at = |duration| Cursor::at(UNIX_EPOCH + duration).timetoken;
        assert_eq!(at(Duration::from_secs(1_562_865_247)), "15628652470000000");
        assert_eq!(at(Duration::new(1_562_865_247, 993_271_799)), "15628652479932717");
        assert_eq!(Cursor::at(UNIX_EPOCH).region, None);
    }

    #[test]
    fn first_cursor_is_never_now_for_whatever_clock() {
        for time in [
            UNIX_EPOCH,
            UNIX_EPOCH - Duration::from_secs(5),
            UNIX_EPOCH + Duration::from_secs(1),
            UNIX_EPOCH + Duration::from_secs(100 * 365 * 86_400 * 10),
        ] {
            let timetoken = Cursor::at(time).timetoken;
            assert_eq!(timetoken.len(), 17, "{timetoken}");
            assert!(timetoken.parse::<u64>().unwrap() > 0);
        }
    }
}
