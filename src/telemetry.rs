//! What the crate shows of itself to `tracing`: names, targets and fields of its spans.
//!
//! Names, targets and fields below are part of this crate's interface: they change only with a version
//! that says so. None of them holds a token, a key, a channel name, a signed URL or a payload. A span
//! that no subscriber wants costs one check of an atomic. The targets of log events are the crate's
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
//! A subscription's span is open for as long as the subscription, and an exporter sends it at its
//! end. To export the others only, filter by target.

use http::Method;
use tracing::field::{Empty, display};
use tracing::{Span, debug_span, info_span};

use crate::delivery::Delivery;
use crate::error::Error;
use crate::ids::SubscriptionId;
use crate::kind::TransportKind;

const SYSTEM: &str = "ringcentral";
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
