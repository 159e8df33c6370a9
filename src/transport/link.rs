//! The traits of transports and links, and the events of a link.

use crate::control::{ControlPlane, Cursor, DeliveryModeRequest};
use crate::error::Result;
use crate::ids::SubscriptionId;
use crate::kind::TransportKind;
use crate::secret::Secret;
use async_trait::async_trait;
use serde_json::value::RawValue;
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::time::Instant;

/// Where to listen: the service's answer to the creation or renewal of the subscription, and the position to read from.
#[derive(Clone, Debug)]
pub struct Target {
    /// The subscription.
    pub subscription_id: SubscriptionId,
    /// `deliveryMode.address`: for PubNub the channel. Empty for a transport whose
    /// subscriptions live in its connection.
    pub address: Secret,
    /// `deliveryMode.subscriberKey`; empty likewise.
    pub subscriber_key: Secret,
    /// The token's `owner_id`, which RingCentral's clients use as PubNub user id.
    pub user_id: Option<String>,
    /// The position to read from.
    pub cursor: Cursor,
    /// Everything that was published before this instant has been read, if that is known. If the pause since then is
    /// longer than the service retains events, the link reports [`PossibleLoss::BufferAged`].
    pub last_good: Option<Instant>,
}

/// One payload as a link read it, neither decrypted nor decoded.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The content.
    pub body: FrameBody,
    /// When the link read it, by this machine's clock.
    pub received_at: SystemTime,
    /// The frame's position in the stream, where the transport names one: PubNub's publish timetoken and region, a
    /// WebSocket frame's `messageId`. It distinguishes two events of the same text that carry no `uuid`.
    pub position: Option<Box<str>>,
    /// When the service sent it, by the service's clock, where the frame says so: PubNub's publish timetoken, the
    /// `timestamp` of a notification that is not encrypted.
    pub sent_at: Option<SystemTime>,
}

/// The content of a frame.
#[derive(Clone)]
#[non_exhaustive]
pub enum FrameBody {
    /// A payload: a JSON string (base64 of ciphertext) or a JSON object.
    Payload(Box<RawValue>),
    /// A part of an answer that violates the protocol; `raw` is its text.
    Malformed {
        /// The text as received.
        raw: Box<str>,
        /// What the protocol violation is.
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
    /// Makes a frame without a position.
    #[must_use]
    pub fn new(body: FrameBody, received_at: SystemTime) -> Self {
        Self { body, received_at, position: None, sent_at: None }
    }

    /// Sets the frame's position in the stream.
    #[must_use]
    pub fn at(mut self, position: Option<Box<str>>) -> Self {
        self.position = position;
        self
    }

    /// Sets when the service sent the frame.
    #[must_use]
    pub fn sent(mut self, at: Option<SystemTime>) -> Self {
        self.sent_at = at;
        self
    }

    /// The bytes that the frame takes in a queue: its text and the overhead.
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
    /// The peer is alive. This proves nothing about the subscription, nor about what was read.
    Alive,
    /// The peer answered over this connection to something that was sent at `asked`: the link has read everything that
    /// the peer had sent before.
    Answered {
        /// When the question was sent.
        asked: Instant,
    },
    /// Events, or an answer without any.
    Batch(LinkBatch),
    /// This link continues a lost connection's session. Events of the lost connection were reported before this event,
    /// and those that follow came over the new one.
    Continued {
        /// When the new connection was requested.
        asked: Instant,
        /// Whether everything that was sent over the lost connection was read: its close frame arrived, and the session
        /// was offered to no other connection in between. Otherwise events may have been lost in transit.
        read_to_end: bool,
        /// How many missed events the service retains for a session.
        buffer: usize,
    },
    /// The position to continue from after a restart, though no event arrived.
    At(Cursor),
    /// The peer will end this connection at a time that it has set: another subscription on another connection should
    /// take over before. The link continues meanwhile, and repeats this event if no other connection took over.
    Leaving,
}

/// Events of one subscription that a link read together, or an answer without any.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinkBatch {
    /// Whose events these are, if the link's connection serves several subscriptions. A batch that names another
    /// subscription than the link's [`Target`] is ignored, and counted in the log.
    pub subscription: Option<SubscriptionId>,
    /// The frames, in order; may be empty.
    pub frames: Vec<Frame>,
    /// The position to continue from once all frames are queued.
    pub cursor: Cursor,
    /// What the batch proves about events that were published before it.
    pub coverage: Coverage,
    /// Why events before these frames may be missing, if so.
    pub possible_loss: Option<PossibleLoss>,
}

impl LinkBatch {
    /// Makes a batch of the only subscription of a connection, before which no loss is suspected.
    #[must_use]
    pub fn new(frames: Vec<Frame>, cursor: Cursor, coverage: Coverage) -> Self {
        Self { subscription: None, frames, cursor, coverage, possible_loss: None }
    }

    /// Names the subscription, on a connection that serves several.
    #[must_use]
    pub fn of(self, subscription: SubscriptionId) -> Self {
        Self { subscription: Some(subscription), ..self }
    }

    /// Sets why events before these frames may be missing.
    #[must_use]
    pub fn with_possible_loss(self, possible_loss: Option<PossibleLoss>) -> Self {
        Self { possible_loss, ..self }
    }
}

/// What a batch proves about events that were published before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coverage {
    /// The peer pushed it: each of its frames follows the frame before it.
    Pushed,
    /// It answers a question that was sent at `asked`, with everything that was published before.
    Whole {
        /// When the question was sent.
        asked: Instant,
    },
    /// Like [`Whole`](Self::Whole), but the service's buffer may have dropped the oldest events.
    Cut {
        /// When the question was sent.
        asked: Instant,
    },
}

/// Why a link suspects that events were dropped before it could read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PossibleLoss {
    /// The answer was as large as the service's buffer: older events may have been pushed out of it.
    BufferFull {
        /// How many events the answer held.
        events: usize,
    },
    /// Part of an answer could not be read, and a repetition of the request would not have helped: the readable part is
    /// delivered.
    Unreadable,
    /// More time passed without a good answer than the service retains events.
    BufferAged {
        /// How long the pause was.
        pause: std::time::Duration,
    },
    /// The service answers from another region than before, which may not hold all events of the former one.
    RegionChanged,
    /// The link had no room for this many of the oldest events.
    Overflow {
        /// How many events were dropped.
        events: usize,
    },
}

/// One subscription's part of a transport: see [`Transport::bind`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TransportBinding {
    /// Makes the subscription's calls.
    pub control: Arc<dyn ControlPlane>,
    /// Opens the links.
    pub transport: Arc<dyn Transport>,
    /// Whether the service names an address to listen at.
    pub has_address: bool,
    /// Whether nothing is pushed, so that all events come from catch-up sources that are polled at intervals.
    pub polls: bool,
    /// What makes the app's own calls over the subscription's connection, if the transport supports that.
    pub caller: Option<Arc<dyn Any + Send + Sync>>,
}

impl TransportBinding {
    /// Makes a binding whose subscriptions have no address.
    #[must_use]
    pub fn new(control: Arc<dyn ControlPlane>, transport: Arc<dyn Transport>) -> Self {
        Self { control, transport, has_address: false, polls: false, caller: None }
    }
}

/// Opens links.
///
/// A link belongs to one subscription. A connection that serves several, such as a poll of a group of channels or an
/// HTTP endpoint that the service calls, stays behind the transport: it routes what it reads to its links, in batches
/// that name their subscription. The name is the id and no channel, since a channel is a secret and moves with a
/// renewal. An endpoint's link has no connection: [`open`](Self::open) registers the subscription, and
/// [`Link::next`] waits for what was routed to it.
#[async_trait]
pub trait Transport: Send + Sync + fmt::Debug + 'static {
    /// The kind of this transport.
    fn kind(&self) -> TransportKind;

    /// The delivery mode to request at creation, with the app's own address if the service is to call it.
    fn delivery_mode(&self) -> DeliveryModeRequest;

    /// Called once for each subscription, before anything else. A transport whose subscriptions live in its connection
    /// returns the control plane that makes their calls over it; `control` is the one over REST. Default: `None`, the
    /// calls go over REST.
    fn bind(&self, control: &Arc<dyn ControlPlane>) -> Option<TransportBinding> {
        let _ = control;
        None
    }

    /// Opens a link to `target`. May return before anything was sent; the first [`Link::next`] then shows whether the
    /// peer is alive.
    ///
    /// # Errors
    /// When the link cannot be opened; the disposition names the remedy. With
    /// [`Recreate`](crate::Disposition::Recreate) the kind says why the subscription is no longer usable:
    /// [`SessionLost`](crate::ErrorKind::SessionLost), its connection's session is gone;
    /// [`Protocol`](crate::ErrorKind::Protocol), something too large to read would come again; any other kind, the peer
    /// refuses it.
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

    fn bind(&self, control: &Arc<dyn ControlPlane>) -> Option<TransportBinding> {
        (**self).bind(control)
    }

    async fn open(&self, target: Target) -> Result<Box<dyn Link>> {
        (**self).open(target).await
    }
}

/// One open connection of a transport.
#[async_trait]
pub trait Link: Send {
    /// Waits for the next event. An `Err` ends the link; a new link from the same cursor reads again what this one had
    /// not yet returned.
    ///
    /// Cancel safe: dropping the call loses nothing, the next call continues.
    async fn next(&mut self) -> Result<LinkEvent>;

    /// Asks the peer whether something is unread, because the subscription is about to end. Unread events follow from
    /// [`next`](Self::next), then [`LinkEvent::Answered`], whose `asked` is not before this call. A link that cannot
    /// find out does nothing, and the end reports a possible gap since the last proof.
    fn check(&mut self) {}

    /// Closes the connection, within a time limit.
    async fn close(self: Box<Self>);
}
