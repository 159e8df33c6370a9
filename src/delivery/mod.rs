//! The items of the stream.

mod display;
mod unrecovered;

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::event::Notification;
use crate::ids::SubscriptionId;
use crate::words::words;

pub use unrecovered::{Changes, OpenReason, Unrecovered};

/// One item of a [`Subscription`](crate::Subscription)'s stream.
///
/// Every possible fate of an event is one of these: it arrives, or a [`Gap`] says that it may not, or it arrived and
/// could not be decoded.
///
/// # Stored form
///
/// `Serialize` and `Deserialize` have one form for deliveries, their parts and [`Status`](crate::Status), for journals,
/// queues and logs. It is one object with `type`, the version `v` (1), and fields by the type:
///
/// | `type` | Fields |
/// | --- | --- |
/// | `event` | `uuid`, `kind`, `origin`, `received_ns`, `event` (the URI), `timestamp`, `subscription_id`, `owner_id`, `raw` |
/// | `gap` | `cause` (with `events` or `pause_ns`), `detail`, `certainty`, `since`, `until`, `lost`, `filters` |
/// | `resumed` | `complete`, `at`, `old_id` and `new_id`, `unrecovered` (filters), `open` ([`Unrecovered`] whole) |
/// | `undecodable` | `reason`, `bytes`, `received_ns`, `raw` |
/// | `filters_disabled` | `filters`: `filter`, `reason` and `message` of each |
/// | `status` | `phase`, `healthy`, `transport`, `expires_at`, `waiting`, `last_error` and others |
/// | `agent_event` | an event of an agent session (feature `agent`): `kind`, `contact_id`, `origin`, `batch`, `batch_index`, `received_ns`, `raw` |
/// | `contacts_gone`, `session_ended` | other deliveries of agent sessions |
/// | `agent_status` | `phase`, `healthy`, `failed_attempts`, `ended`, `error`, `last_error` |
///
/// - `raw` is a JSON string with the whole text as the service sent it: order and duplicates of keys, white space,
///   numbers and escapes are those of the service, through any format and through `serde_json::Value`. A notification
///   is read from it, with the same [`dedup_key`](Notification::dedup_key); the fields beside it are for other readers.
///   It holds the account's data, and that of an `undecodable` may hold the channel's name.
/// - `received_ns` counts nanoseconds since 1970. Other times are text in RFC 3339, to the nanosecond, `timestamp` as
///   the service wrote it.
/// - Readers ignore fields that they do not know. A cause or reason of a later version is `Unknown`; any other unknown
///   word, type or version is an error of the deserializer.
/// - The format must name fields, as JSON, CBOR and MessagePack with names do.
///
/// ```
/// use ringcentral_events::{Delivery, Gap};
/// let line = r#"{"type":"gap","v":1,"cause":"overflow","certainty":"certain","lost":3}"#;
/// let Delivery::Gap(gap) = serde_json::from_str(line)? else { panic!("it is a gap") };
/// assert_eq!(gap, serde_json::from_str::<Gap>(&serde_json::to_string(&gap)?)?);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Delivery {
    /// An event.
    Notification(Box<Notification>),
    /// Events are missing, or may be, from here on.
    Gap(Gap),
    /// Events arrive again after a gap.
    Resumed(Resumed),
    /// Something arrived that could not be decoded.
    Undecodable(Undecodable),
    /// The service accepted these filters but does not serve them: it sends none of their events. They are its
    /// `disabledFilters`, and the requested filters that its answer omits from both lists, without a `reason`
    /// ([`missing_filters`](crate::event::missing_filters)). Reported again when they change.
    FiltersDisabled(Vec<DisabledFilter>),
}

/// A filter that the service accepted but will not serve, or that its response omits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DisabledFilter {
    /// The filter.
    pub filter: String,
    /// An error code, such as `SUB-412` (a permission is missing). Empty if the service gave none.
    pub reason: String,
    /// A message for humans.
    pub message: Option<String>,
}

impl DisabledFilter {
    /// A filter that the response omits, from both the served and the disabled ones.
    pub(crate) fn left_out(filter: &str) -> Self {
        Self {
            filter: filter.to_owned(),
            reason: String::new(),
            message: Some("the service's answer leaves it out".to_owned()),
        }
    }
}

/// Events are missing, or may be.
///
/// A gap stands in the stream where the missing events would have been, or where it is noticed. [`Resumed`] follows: at
/// once, or after the events that catch-up sources found. Later events wait for that, for 5 s at most. A gap in which
/// nothing was lost is a `Gap` directly followed by a complete `Resumed`.
///
/// Gaps can overlap. The next `Resumed` in the stream ends every gap before it, so a reader that remembers the gaps
/// since the last `Resumed` knows which are open. Therefore:
///
/// - No `Resumed` comes while the subscription is lost: a gap that is noticed meanwhile, or before the end of the loss
///   is reported, ends with it.
/// - A gap that is noticed while sources are still asked about another one ends with it: they are asked about both.
/// - Polls that leave out the events of a filter open a gap that lasts as long as they replace push. Behind every
///   `Resumed` that comes meanwhile it is reported again, from there on.
///
/// These things open one, besides an ended subscription:
///
/// - PubNub: only events that its buffer may have dropped, by number or age, or a change of its region. A broken
///   connection opens none, since the position covers everything in transit.
/// - WebSocket: every connection that ends without a close frame from the gateway, from the sending of the last
///   received frame to the recovery.
/// - Poll: an incomplete answer of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// The cause.
    pub cause: GapCause,
    /// Whether events were certainly lost, or only may have been.
    pub certainty: Certainty,
    /// When it begins, by the service's clock: up to this time the service's answers or events exclude the loss that
    /// [`cause`](Self::cause) names, less a second for the order inside the service. Until the service has sent its
    /// time (the `Date` of its answers), this machine's clock is used. Never `None` for a subscription.
    pub since: Option<SystemTime>,
    /// When it ends, by the service's clock, if that is known already. Otherwise it ends at the [`Resumed::at`] of the
    /// next `Resumed` in the stream, and never before; without one it lasts to the end of the stream.
    pub until: Option<SystemTime>,
    /// How many events are missing, if that is known.
    pub lost: Option<u64>,
    /// The filters of the missing events: those of the subscription at any time since [`since`](Self::since), including
    /// those that were removed before the gap was noticed. An agent session has none.
    pub filters: Vec<String>,
}

/// How certain a [`Gap`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Certainty {
    /// Events were dropped, or none were published for a while.
    Certain,
    /// The service may have dropped events; it does not report that.
    Possible,
}

words!("certainty", Certainty {
    Certain = "certain",
    Possible = "possible",
});

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
    /// The connection was down for longer than the service retains its session, or the service refused to continue it:
    /// the subscription in it is gone. Of an agent session: the service no longer has it (404, 409), and it is joined
    /// or started again.
    SessionLost,
    /// Something arrived that exceeds a size limit of this side, and would have come again: the subscription was given
    /// up to continue behind it.
    TooLarge,
    /// Part of an answer of the service could not be read, in each of several attempts. The readable part is delivered,
    /// the rest as [`Undecodable`](Delivery::Undecodable).
    Unreadable,
    /// The reader was too slow: the queue between the connection and the reader reached its limit.
    Overflow,
    /// One answer held as many events as the service's buffer does: older ones may have been pushed out. Over a
    /// WebSocket: as many may have been replayed after a recovery. Nothing marks a replayed event, so live ones count
    /// too if they come late, or as many come within the time in which events could gather (5 s at least).
    ServiceBufferFull {
        /// How many events came at once.
        events: usize,
    },
    /// There was no good answer for longer than the service retains events.
    ServiceBufferAged {
        /// For how long.
        pause: Duration,
    },
    /// PubNub answers from another region than before, as in a fail-over: events that the former region had not
    /// delivered may be lost.
    RegionChanged,
    /// WebSocket: the connection ended without a close frame from the gateway, or this side abandoned it, and its
    /// session was continued. Events that the gateway had sent over it, or sent until it noticed, may be lost. Over
    /// PubNub a broken connection is no gap: its position covers everything in transit.
    ConnectionBroken,
    /// No known key decrypts some events, which were delivered as [`Undecodable`]. They had waited, for at most 30 s,
    /// until the service answered which key it uses. One gap per run of them, and at most one per minute.
    KeyUnknown,
    /// The address moved, and the connection to the former one ended before all events in transit there had certainly
    /// arrived.
    AddressMoved,
    /// The subscription was ended while the connection was down, or did not answer: events that had arrived meanwhile
    /// were not read. After a restart: the process before had ended between a gap and its [`Resumed`].
    EndedOffline,
    /// Another transport is used from here on, since the previous one did not deliver, was refused, or was only a
    /// fallback.
    TransportChanged,
    /// Without push, or if messages replace counts of them: a source could not find all events since its previous
    /// answer. Without [`until`](Gap::until): no source ever finds all events of these filters, and the gap lasts as
    /// long as polls replace push.
    PolledInPart,
    /// Without push: the subscription was ended, and the sources were not queried for the events since their last
    /// answers.
    NotPolled,
    /// The stream was shut down at once, or that of an agent session dropped: received events that were not read are
    /// discarded.
    Discarded,
    /// Agent sessions: the service no longer has the single events since the previous poll (`icBranchValue` 3, or an
    /// unexpected snapshot).
    EventsMissed,
    /// Agent sessions: an answer was lost in transit, or with a dropped stream before it had been read, and only its
    /// state is delivered again.
    AnswerLost,
    /// Agent sessions: the session existed before it was joined.
    SessionJoined,
    /// Read from the stored form of a later version of this crate, which knows more causes.
    Unknown,
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
            Self::Unknown => "unknown",
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
            Self::TooLarge => "something arrived that is too large to be read",
            Self::Unreadable => "part of an answer of the service could not be read",
            Self::Overflow => "the reader was too slow and the queue was full",
            Self::ServiceBufferFull { events } => {
                return write!(f, "{events} events came at once, as many as the service keeps");
            }
            Self::ServiceBufferAged { pause } => {
                return write!(f, "no answer for {} s, longer than the service retains events", pause.as_secs());
            }
            Self::RegionChanged => "PubNub answers from another region than before",
            Self::ConnectionBroken => "the connection broke with events in transit",
            Self::KeyUnknown => "no known key decrypts some events",
            Self::AddressMoved => "the address moved and the former connection ended early",
            Self::EndedOffline => "the subscription was ended while the connection was down, or within a gap",
            Self::TransportChanged => "another transport is used from here on",
            Self::PolledInPart => "polls could not find all events",
            Self::NotPolled => "the subscription was ended before the next poll",
            Self::Discarded => "the stream was shut down before everything was read",
            Self::EventsMissed => "the service no longer had the events since the previous poll",
            Self::AnswerLost => "an answer was lost and only its state was delivered again",
            Self::SessionJoined => "the session existed before it was joined",
            Self::Unknown => "a cause that this version does not know",
        })
    }
}

/// Events arrive again: the end of every [`Gap`] before it in the stream. What is missing beyond it is in another gap,
/// directly behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resumed {
    /// Whether all events of these gaps are proven to have been delivered by now: every filter's every kind of change, in
    /// all of each gap. Never so without a catch-up source for every filter. Some things no answer can prove; a setting
    /// of the source bounds them: complete means complete within
    /// [`CallLogSync::late`](crate::catch_up::CallLogSync::late) and
    /// [`MessageSync::reach`](crate::catch_up::MessageSync::reach), and as far as the service's answers agree with its
    /// pushed events.
    pub complete: bool,
    /// When events arrive again, by the service's clock, as [`Gap::since`]: the end of the gaps without
    /// [`until`](Gap::until).
    pub at: SystemTime,
    /// The subscription that replaced a lost one, if one did.
    pub recreated: Option<Recreated>,
    /// The filters for which that is not proven, and why. Empty exactly if it is [`complete`](Self::complete).
    pub unrecovered: Vec<Unrecovered>,
}

/// A subscription was lost and another one replaced it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Recreated {
    /// The lost subscription.
    pub old: SubscriptionId,
    /// The new subscription.
    pub new: SubscriptionId,
}

impl Recreated {
    /// Of two gaps with one end: the first lost subscription, and the last new one.
    pub(crate) fn joined(first: Option<Self>, last: Option<Self>) -> Option<Self> {
        match (first, last) {
            (Some(first), Some(last)) => Some(Self { old: first.old, new: last.new }),
            (first, last) => first.or(last),
        }
    }
}

/// Something that arrived and could not be decoded.
#[derive(Clone)]
#[non_exhaustive]
pub struct Undecodable {
    /// The error.
    pub reason: String,
    /// The text as received over the transport, or as decrypted. Treat it as data of the account: `Debug` does not show
    /// it. If the transport's answer itself is malformed, it is that answer, with the channel's name and the subscribe
    /// key, which let anyone listen.
    pub raw: Box<str>,
    /// When it arrived, by this machine's clock.
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
