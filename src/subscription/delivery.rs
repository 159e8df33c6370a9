//! What the stream yields.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::catch_up::{Changes, OpenReason};
use crate::event::{GapClosure, Notification};
use crate::ids::SubscriptionId;
use crate::rest::DisabledFilter;

/// One item of a [`Subscription`](crate::Subscription)'s stream.
///
/// Everything that can happen to an event is one of these: it arrives, or a
/// [`Gap`] says that it may not, or it came and could not be read.
///
/// With the feature `agent` the stream of an agent session yields them too, with
/// another `E`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Delivery<E = Notification> {
    /// An event.
    Notification(Box<E>),
    /// Events are missing, or may be, from here on.
    Gap(Gap),
    /// Events arrive again after a gap.
    Resumed(Resumed),
    /// Something came that could not be read.
    Undecodable(Undecodable),
    /// The service accepted these filters but will not serve them: it is silent
    /// about their events. Those are its `disabledFilters`, and those that were
    /// asked for and that its answer leaves out of both lists, without a `reason`
    /// ([`missing_filters`](crate::event::missing_filters)). Told again when they
    /// become others.
    FiltersDisabled(Vec<DisabledFilter>),
    /// Agent sessions only: contacts that were there before a gap are over. The
    /// snapshot after it leaves them out, so no event of their own tells it.
    #[cfg(feature = "agent")]
    ContactsGone(Vec<crate::agent::GoneContact>),
    /// Agent sessions only, and the last item: the session is over.
    #[cfg(feature = "agent")]
    SessionEnded(crate::agent::SessionEnded),
}

/// Events are missing, or may be.
///
/// A gap comes in the stream at the place where the missing events would have come, or
/// where it is noticed. [`Resumed`] follows: at once, or after what catch-up sources found.
/// Events that came later wait for that, for 5 s at most. A gap in which nothing was lost
/// is a `Gap` and a complete `Resumed`, one right after the other.
///
/// What opens one, besides an ended subscription:
///
/// - PubNub: only what its buffer may have dropped, by number or age, or when another
///   region took over. A broken connection opens none, since the position covers what was
///   on its way.
/// - WebSocket: every connection that ends without a close frame from the gateway, from
///   the sending of the last frame that came to the recovery.
/// - Poll: what a source could not answer in full.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// Why.
    pub cause: GapCause,
    /// Whether events were lost for certain, or only may have been.
    pub certainty: Certainty,
    /// Since when, by the service's clock: up to here the loss that [`cause`](Self::cause)
    /// names is excluded by what the service answered or sent, less a second for the order
    /// inside the service. Until the service has given its time (the `Date` of its answers),
    /// this machine's clock stands in for it. Never `None` for a subscription.
    pub since: Option<SystemTime>,
    /// Until when, by the service's clock, where that is known already; else see
    /// [`Resumed::at`].
    pub until: Option<SystemTime>,
    /// How many events are missing, where that is known.
    pub lost: Option<u64>,
    /// The filters whose events they may be: those of the subscription at any time since
    /// [`since`](Self::since), also where they were taken out before the gap was noticed. An
    /// agent session has none.
    pub filters: Vec<String>,
}

/// How sure a [`Gap`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Certainty {
    /// Events were dropped, or none were published for a while.
    Certain,
    /// The service may have dropped events; it does not say.
    Possible,
}

impl Certainty {
    /// A word for logs and machines.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certain => "certain",
            Self::Possible => "possible",
        }
    }
}

/// Why events are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GapCause {
    /// The subscription expired before it could be renewed; nothing is published
    /// until it is created again.
    LeaseExpired,
    /// The service no longer knows the subscription (404, `CMN-102`, `SUB-507`).
    SubscriptionGone,
    /// The service stopped serving the subscription (`Suspended`, `Blacklisted`).
    SubscriptionInactive,
    /// The transport's peer refused the address or key of the subscription.
    TransportRefused,
    /// The connection was down for longer than the service keeps its session, or the
    /// service would not continue it: the subscription in it is gone. Of an agent session:
    /// the service no longer has it (404, 409), and it is joined or started again.
    SessionLost,
    /// Something came that is larger than this side reads, and would have come
    /// again: the subscription was given up to go on behind it.
    TooLarge,
    /// An answer of the service cannot be read as a whole, and was the same each time it was
    /// asked for. What could be read of it is delivered, the rest as
    /// [`Undecodable`](Delivery::Undecodable).
    Unreadable,
    /// The reader was too slow: the queue between the connection and the reader
    /// reached its bound.
    Overflow,
    /// One answer held as many events as the service's buffer does: older ones may
    /// have been pushed out.
    ServiceBufferFull {
        /// How many events came at once.
        events: usize,
    },
    /// There was no good answer for longer than the service keeps events.
    ServiceBufferAged {
        /// For how long.
        pause: Duration,
    },
    /// PubNub answers from another region than before, as in a fail-over: what the former
    /// region had not delivered may be lost.
    RegionChanged,
    /// WebSocket: the connection ended without a close frame from the gateway, or was left,
    /// and its session was continued. What the gateway had sent over it and what it sent
    /// until it noticed may be lost. Over PubNub a broken connection is no gap: its position
    /// covers what was on its way.
    ConnectionBroken,
    /// Events came that no known key opens. The service was asked for its present key
    /// first.
    KeyUnknown,
    /// The address moved, and the connection to the former one ended before all
    /// that was on its way there had surely come.
    AddressMoved,
    /// The subscription was ended while the connection was down, or did not answer: what
    /// had come meanwhile was not read.
    EndedOffline,
    /// Another transport is used from here on, since the one before did not deliver,
    /// was refused, or was only a stand-in.
    TransportChanged,
    /// Without push, or where messages stand for counts of them: a source could not
    /// tell everything that happened since it was asked before, or can never tell all
    /// of it.
    PolledInPart,
    /// Likewise: the subscription was ended, and what happened since the sources were
    /// asked last was not asked for.
    NotPolled,
    /// The stream was shut down at once, or that of an agent session dropped: what had
    /// come and was not read is discarded.
    Discarded,
    /// Agent sessions: the service no longer has, one by one, what happened since the
    /// poll before (`icBranchValue` 3, or a snapshot that was not asked for).
    EventsMissed,
    /// Agent sessions: an answer was lost on its way, or with a stream that was dropped
    /// before it had been read, and what it held is told only as far as it is state.
    AnswerLost,
    /// Agent sessions: the session was there before it was joined.
    SessionJoined,
}

impl GapCause {
    /// A word for logs and machines.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::LeaseExpired => "lease_expired",
            Self::SubscriptionGone => "subscription_gone",
            Self::SubscriptionInactive => "subscription_inactive",
            Self::TransportRefused => "transport_refused",
            Self::SessionLost => "session_lost",
            Self::TooLarge => "too_large",
            Self::Unreadable => "unreadable",
            Self::Overflow => "overflow",
            Self::ServiceBufferFull { .. } => "service_buffer_full",
            Self::ServiceBufferAged { .. } => "service_buffer_aged",
            Self::RegionChanged => "region_changed",
            Self::ConnectionBroken => "connection_broken",
            Self::KeyUnknown => "key_unknown",
            Self::AddressMoved => "address_moved",
            Self::EndedOffline => "ended_offline",
            Self::TransportChanged => "transport_changed",
            Self::PolledInPart => "polled_in_part",
            Self::NotPolled => "not_polled",
            Self::Discarded => "discarded",
            Self::EventsMissed => "events_missed",
            Self::AnswerLost => "answer_lost",
            Self::SessionJoined => "session_joined",
        }
    }
}

impl fmt::Display for GapCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeaseExpired => "the subscription expired before it could be renewed",
            Self::SubscriptionGone => "the service no longer knew the subscription",
            Self::SubscriptionInactive => "the service stopped serving the subscription",
            Self::TransportRefused => "the transport refused the subscription's address",
            Self::SessionLost => "the connection's session was lost",
            Self::TooLarge => "something came that is too large to be read",
            Self::Unreadable => "an answer of the service could not be read as a whole",
            Self::Overflow => "the reader was too slow and the queue was full",
            Self::ServiceBufferFull { events } => {
                return write!(f, "{events} events came at once, as many as the service keeps");
            }
            Self::ServiceBufferAged { pause } => {
                return write!(f, "no answer for {} s, longer than the service keeps events", pause.as_secs());
            }
            Self::RegionChanged => "PubNub answers from another region than before",
            Self::ConnectionBroken => "the connection broke with events on their way",
            Self::KeyUnknown => "events came that no known key opens",
            Self::AddressMoved => "the address moved and the former connection ended early",
            Self::EndedOffline => "the subscription was ended while the connection was down",
            Self::TransportChanged => "another transport is used from here on",
            Self::PolledInPart => "polls could not tell everything that happened",
            Self::NotPolled => "the subscription was ended before the next poll",
            Self::Discarded => "the stream was shut down before everything was read",
            Self::EventsMissed => "the service no longer had what happened since the poll before",
            Self::AnswerLost => "an answer was lost and only the latest state was told again",
            Self::SessionJoined => "the session was there before it was joined",
        })
    }
}

/// Events arrive again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resumed {
    /// Whether everything that the gap left out is proven to have been delivered by now:
    /// every filter's every kind of change, in all of the gap. Never so without a catch-up
    /// source for every filter. What no answer can prove is a setting of the source:
    /// complete means complete within [`CallLogSync::late`](crate::catch_up::CallLogSync::late)
    /// and [`MessageSync::reach`](crate::catch_up::MessageSync::reach), and as far as the
    /// service's answers agree with what it pushes.
    pub complete: bool,
    /// When, by the service's clock, as [`Gap::since`].
    pub at: SystemTime,
    /// The subscription that replaced the one that was lost, if one did.
    pub recreated: Option<Recreated>,
    /// The filters for which that is not proven, and why. Empty exactly when it is
    /// [`complete`](Self::complete).
    pub left_open: Vec<LeftOpen>,
}

/// A filter of which something may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftOpen {
    /// The filter.
    pub filter: String,
    /// How well a source of this subscription makes up for it.
    pub closure: GapClosure,
    /// Which kinds of change may be missing.
    pub changes: Changes,
    /// Why.
    pub reason: OpenReason,
}

/// A subscription was lost and another one took its place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recreated {
    /// The one that was lost.
    pub old: SubscriptionId,
    /// The one that replaced it.
    pub new: SubscriptionId,
}

/// Something that came and could not be read.
#[derive(Clone)]
#[non_exhaustive]
pub struct Undecodable {
    /// What is wrong with it.
    pub reason: String,
    /// The text as it came over the transport, or as it was decrypted. Treat it as
    /// data of the account: `Debug` does not show it. Where the transport's answer
    /// itself is malformed it is that answer, with the channel's name and the
    /// subscribe key, which let anybody listen.
    pub raw: Box<str>,
    /// When it came, by this machine's clock.
    pub received_at: SystemTime,
}

impl fmt::Debug for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undecodable")
            .field("reason", &self.reason)
            .field("bytes", &self.raw.len())
            .field("received_at", &self.received_at)
            .finish()
    }
}
