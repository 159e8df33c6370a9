//! What the crate shows of itself to `tracing` and, with the feature `metrics`, to the facade
//! [`metrics`](https://docs.rs/metrics): names, fields and labels.
//!
//! Whether events can arrive now is a [`Health`](crate::Health), which needs neither.
//!
//! Names, targets, fields and labels below are part of this crate's interface: they change only with a version
//! that says so. None of them holds a token, a key, a channel name, a signed URL or a payload. A span
//! that no subscriber wants costs one check of an atomic; without the feature `metrics` no code of it
//! is compiled. The targets of log events are the crate's
//! modules and may change; `ringcentral_events` is the prefix of all.
//!
//! # Spans
//!
//! The fields follow OpenTelemetry's semantic conventions for messaging and HTTP where they have a
//! name for it; `tracing-opentelemetry` exports them as they are.
//!
//! | Span | Target | Level | From, to | Fields |
//! | --- | --- | --- | --- | --- |
//! | `subscription` | `ringcentral_events::subscription` | info | the start, the end of its task | `messaging.system` (`ringcentral`), `messaging.operation.name` (`subscribe`), `messaging.destination.subscription.name` (the present id), `ringcentral.transport`, `error.type` (the kind of the error that ended it) |
//! | `link` | `ringcentral_events::link` | debug | the opening of a connection, its end; within `subscription` | `messaging.system`, `messaging.operation.name` (`receive`), `messaging.destination.subscription.name`, `ringcentral.transport`, `error.type` |
//! | `batch` | `ringcentral_events::link` | debug | what arrived at once is put into the queue; within `link`'s `subscription` | `messaging.system`, `messaging.operation.name` (`receive`), `messaging.batch.message_count` |
//! | `call` | `ringcentral_events::call` | debug | one request to the REST API or the login, its answer; each repetition is a span | `http.request.method`, `url.template` (the path with `*` for ids), `server.address`, `http.response.status_code`, `error.type` (the kind of error, or a status from 400 on), `network.protocol.name` (`http` or `websocket`) |
//! | `delivery` | `ringcentral_events::delivery` | debug | the stream yields it, the next one is asked for: the time that your program spends with it | `messaging.system`, `messaging.operation.name` (`process`), `messaging.message.id` (the event's `uuid`), `ringcentral.delivery` (`event`, `gap`, `resumed`, …), `ringcentral.event.kind`, `ringcentral.origin` |
//!
//! | `poll` | `ringcentral_events::poll` | debug | one poll for events, its answer, over PubNub or of an agent session | `messaging.system` (`ringcentral`, `cxone`), `messaging.operation.name` (`receive`), `messaging.batch.message_count` (once it is answered), `ringcentral.source` (`pubnub`, `agent`), `error.type` (the kind of the error) |
//! | `agent_session` | `ringcentral_events::agent` | info | the first poll of a stream of an agent session, the end of its task | `messaging.system` (`cxone`), `messaging.operation.name` (`subscribe`), `error.type` |
//! | `action` | `ringcentral_events::digital` | debug | a request of the Digital platform is read, its answer; a crawl is the actions `implementation.info`, `threads.list`, `messages.list`, … | `messaging.system` (`ringcentral`), `messaging.operation.name` (`process`), `ringcentral.digital.action` (once its signature is verified), `messaging.batch.message_count` (contents of a list), `http.response.status_code`, `error.type` (the status, from 400 on) |
//!
//! The calls of an agent session, of its logins and of `digital::SendApi` are `call`s too. A
//! subscription's span is open for as long as the subscription, and an exporter sends it at its
//! end. To export the others only, filter by target.
//!
//! # Metrics
//!
//! Install a recorder before the first subscription starts: handles are made at its start.
//! Labels have few values: fixed words and the names of rate groups, no id and no address.
//!
//! | Metric | Kind | Labels | What it counts |
//! | --- | --- | --- | --- |
//! | `ringcentral_events_total` | counter | `origin` (`push`, `catch_up`, `snapshot`) | events that the stream yielded, each once: what is given back counts no second time |
//! | `ringcentral_event_lag_seconds` | histogram | `origin` | from the event's timestamp, which the service sets, to its `next()`. By this machine's clock; a clock that is behind counts as 0 |
//! | `ringcentral_undecodable_total` | counter | | payloads that could not be decrypted or read |
//! | `ringcentral_duplicates_total` | counter | | repetitions that were dropped |
//! | `ringcentral_gaps_opened_total` | counter | `cause`, `certainty` (`certain`, `possible`) | gaps that the stream yielded |
//! | `ringcentral_gaps_closed_total` | counter | `complete` (`true`, `false`) | `Resumed` that the stream yielded, each of which ends all gaps before it |
//! | `ringcentral_reconnects_total` | counter | `transport` | how often a link was lost and the subscription held |
//! | `ringcentral_recreations_total` | counter | `transport` | how often the subscription was lost and created anew |
//! | `ringcentral_renewals_total` | counter | `transport`, `outcome` (`ok`, or the kind of the error) | renewals of the lease. Over WebSocket heartbeats prolong the session, and these are audits |
//! | `ringcentral_subscriptions` | gauge | `transport`, `phase` | subscriptions in each phase |
//! | `ringcentral_gap_open` | gauge | | subscriptions that are lost, or whose gap is being filled |
//! | `ringcentral_polling` | gauge | | subscriptions for which catch-up sources are polled in place of push |
//! | `ringcentral_queue_bytes` | gauge | | bytes of received events that wait for the reader; at most 256 KiB more wait decoded |
//! | `ringcentral_rate_limit_remaining` | gauge | `group` | requests left in the present window, of the user that was answered last |
//! | `ringcentral_rate_limit` | gauge | `group` | the limit of that window |
//! | `ringcentral_polls_total` | counter | `source` (`pubnub`, `agent`), `outcome` (`ok`, or the kind of the error) | polls that were answered, or failed |
//! | `ringcentral_polled_events_total` | counter | `source` | events in the answers to polls, before any is recognized as a repetition |
//! | `ringcentral_agent_sessions` | gauge | `phase` | agent sessions whose events are polled, in each phase |
//! | `ringcentral_agent_events_total` | counter | `origin` (`live`, `snapshot`) | events of agent sessions that the stream yielded. Their gaps, ends of gaps and undecodable answers are counted above |
//! | `ringcentral_digital_actions_total` | counter | `action` (`messages_list`, …; `custom` for operations of your own, `none` for a request that names none, or is not signed), `outcome` (`ok`, `refused`, `failed`: by the first digit of the status) | requests of the Digital platform that were answered |
//! | `ringcentral_digital_action_seconds` | histogram | `action` | from the request's complete arrival to its answer |
//! | `ringcentral_digital_listed_total` | counter | `collection` | contents in the answers to lists |

mod meters;

use http::Method;
use tracing::field::{Empty, display};
use tracing::{Span, debug_span, info_span};

use crate::delivery::Delivery;
use crate::error::Error;
use crate::ids::SubscriptionId;
use crate::kind::TransportKind;

#[cfg(feature = "agent")]
pub(crate) use meters::{AgentLifecycle, agent_event, gap_closed, gap_opened, undecodable};
pub(crate) use meters::{Lifecycle, Yields, rate_budget};

const SYSTEM: &str = "ringcentral";
#[cfg(any(feature = "pubnub", feature = "agent", feature = "digital"))]
const COUNT: &str = "messaging.batch.message_count";
const SUBSCRIPTION: &str = "messaging.destination.subscription.name";

/// The span of a subscription.
pub(crate) fn subscription(transport: TransportKind) -> Span {
    info_span!(
        target: "ringcentral_events::subscription",
        "subscription",
        messaging.system = SYSTEM,
        messaging.operation.name = "subscribe",
        messaging.destination.subscription.name = Empty,
        ringcentral.transport = transport.as_str(),
        "error.type" = Empty,
    )
}

/// The subscription of the present span has this id from now on.
pub(crate) fn subscribed(id: &SubscriptionId) {
    Span::current().record(SUBSCRIPTION, id.as_str());
}

/// The work of a span ended with `error`.
pub(crate) fn failed(span: &Span, error: &Error) {
    span.record("error.type", error.kind().as_str());
}

/// The span of a link.
pub(crate) fn link(transport: TransportKind, subscription: &SubscriptionId) -> Span {
    debug_span!(
        target: "ringcentral_events::link",
        "link",
        messaging.system = SYSTEM,
        messaging.operation.name = "receive",
        messaging.destination.subscription.name = subscription.as_str(),
        ringcentral.transport = transport.as_str(),
        "error.type" = Empty,
    )
}

/// The span of what arrived at once.
pub(crate) fn batch(events: usize) -> Span {
    debug_span!(
        target: "ringcentral_events::link",
        "batch",
        messaging.system = SYSTEM,
        messaging.operation.name = "receive",
        messaging.batch.message_count = events,
    )
}

/// The span of one request. `template`: the path without ids.
pub(crate) fn call(protocol: &str, method: &Method, template: impl FnOnce() -> String, host: Option<&str>) -> Span {
    debug_span!(
        target: "ringcentral_events::call",
        "call",
        otel.kind = "client",
        http.request.method = method.as_str(),
        url.template = template(),
        server.address = host,
        network.protocol.name = protocol,
        http.response.status_code = Empty,
        "error.type" = Empty,
    )
}

/// What is polled for events.
#[cfg(any(feature = "pubnub", feature = "agent"))]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Polled {
    #[cfg(feature = "pubnub")]
    PubNub,
    #[cfg(feature = "agent")]
    Agent,
}

#[cfg(any(feature = "pubnub", feature = "agent"))]
impl Polled {
    /// The system, and the word for the source.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            #[cfg(feature = "pubnub")]
            Self::PubNub => (SYSTEM, "pubnub"),
            #[cfg(feature = "agent")]
            Self::Agent => (CXONE, "agent"),
        }
    }

    /// The span of one poll.
    pub(crate) fn span(self) -> Span {
        let (system, source) = self.words();
        debug_span!(
            target: "ringcentral_events::poll",
            "poll",
            otel.kind = "consumer",
            messaging.system = system,
            messaging.operation.name = "receive",
            messaging.batch.message_count = Empty,
            ringcentral.source = source,
            "error.type" = Empty,
        )
    }

    /// A poll was answered with so many events.
    pub(crate) fn answered(self, span: &Span, events: usize) {
        span.record(COUNT, events);
        meters::polled(self.words().1, "ok", events);
    }

    /// A poll failed.
    pub(crate) fn failed(self, span: &Span, error: &Error) {
        failed(span, error);
        meters::polled(self.words().1, error.kind().as_str(), 0);
    }
}

#[cfg(feature = "agent")]
const CXONE: &str = "cxone";

/// The span of the polls of an agent session.
#[cfg(feature = "agent")]
pub(crate) fn agent_session() -> Span {
    info_span!(
        target: "ringcentral_events::agent",
        "agent_session",
        messaging.system = CXONE,
        messaging.operation.name = "subscribe",
        "error.type" = Empty,
    )
}

/// The span of an action of the Digital platform.
#[cfg(feature = "digital")]
pub(crate) fn action() -> Span {
    debug_span!(
        target: "ringcentral_events::digital",
        "action",
        otel.kind = "consumer",
        messaging.system = SYSTEM,
        messaging.operation.name = "process",
        messaging.batch.message_count = Empty,
        ringcentral.digital.action = Empty,
        http.response.status_code = Empty,
        "error.type" = Empty,
    )
}

/// An action is answered. `name`: the full one; `word`: the one for labels.
#[cfg(feature = "digital")]
pub(crate) fn acted(span: &Span, name: Option<&str>, word: &'static str, status: u16, took: std::time::Duration) {
    span.record("ringcentral.digital.action", name);
    answered(span, status);
    meters::acted(word, status, took);
}

/// The answer to the present action lists so many contents.
#[cfg(feature = "digital")]
pub(crate) fn listed(collection: &'static str, contents: usize) {
    Span::current().record(COUNT, contents);
    meters::listed(collection, contents);
}

/// A request was answered.
pub(crate) fn answered(span: &Span, status: u16) {
    span.record("http.response.status_code", status);
    if status >= 400 {
        span.record("error.type", display(status));
    }
}

/// The span of the reader's work with a delivery.
pub(crate) fn delivery(delivery: &Delivery) -> Span {
    let span = debug_span!(
        target: "ringcentral_events::delivery",
        "delivery",
        otel.kind = "consumer",
        messaging.system = SYSTEM,
        messaging.operation.name = "process",
        messaging.message.id = Empty,
        ringcentral.delivery = Empty,
        ringcentral.event.kind = Empty,
        ringcentral.origin = Empty,
    );
    if span.is_disabled() {
        return span;
    }
    let what = match delivery {
        Delivery::Notification(it) => {
            span.record("messaging.message.id", it.uuid());
            span.record("ringcentral.event.kind", it.kind().as_str());
            span.record("ringcentral.origin", it.origin().as_str());
            "event"
        }
        Delivery::Gap(_) => "gap",
        Delivery::Resumed(_) => "resumed",
        Delivery::Undecodable(_) => "undecodable",
        Delivery::FiltersDisabled(_) => "filters_disabled",
    };
    span.record("ringcentral.delivery", what);
    span
}
