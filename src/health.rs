//! Whether events can arrive, as a health check answers it.

use std::fmt;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;

use crate::status::{Phase, Status, StatusWatch};
use crate::timestamp::Timestamp;

/// Whether an event can arrive now, and if not, why. From [`StatusWatch::health`](crate::StatusWatch::health).
///
/// How soon a fault shows:
///
/// | Fault | Not ready within |
/// | --- | --- |
/// | the connection ends, or a poll fails | at once |
/// | WebSocket: the path is dead | 15 s |
/// | PubNub: the path is dead | 60 s |
/// | the service ends, suspends or refuses the subscription with a notice | at once |
/// | the service drops the subscription without a notice | 60 s, while more than a fifth of the user's light calls remains; else with the renewal |
/// | polls replace push, and fail | at once |
/// | the subscription ended, or its task panicked | at once |
///
/// Slow reading, undecodable events and filters that the service does not serve are reported in the stream and change
/// nothing here: events arrive.
///
/// ```
/// # fn handler(events: &ringcentral_events::Subscription) {
/// let watch = events.status(); // cheap to clone into a web server's state
/// let answer = watch.health().readiness(); // an `http::Response<String>`, 200 or 503
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Health {
    status: Status,
    has_task: bool,
}

impl StatusWatch<Status> {
    /// Whether an event can arrive now, and if not, why. After the subscription's end it remains what it was then.
    #[must_use]
    pub fn health(&self) -> Health {
        Health { status: self.current(), has_task: self.has_task() }
    }
}

impl Health {
    /// Whether an event can arrive now: pushed, or found by polls that replace push.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.reason().is_none()
    }

    /// Whether the subscription is running: without help it becomes ready once the trouble is over. `false` after its
    /// end: only another start helps.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.has_task && self.status.phase != Phase::Closed
    }

    /// Why no event can arrive: the phase, or `task_ended` after a panic or with the runtime. `None` when ready.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        let Status { phase, is_polling, is_poll_failing, .. } = self.status;
        match phase {
            Phase::Closed => Some(phase.as_str()),
            _ if !self.has_task => Some("task_ended"),
            Phase::Live => None,
            Phase::Connecting | Phase::Reconnecting | Phase::Recreating if is_polling && !is_poll_failing => None,
            Phase::Starting | Phase::Connecting | Phase::Reconnecting | Phase::Recreating | Phase::Closing => {
                Some(phase.as_str())
            }
        }
    }

    /// The details.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// The answer of a readiness check: 200 if an event can arrive, otherwise 503. The body is one JSON object without
    /// ids, addresses and texts of errors, so that it may be public.
    #[must_use]
    pub fn readiness(&self) -> Response<String> {
        self.answer(self.is_ready())
    }

    /// The answer of a liveness check: 503 once only another start helps. An outage is no reason to restart a program,
    /// which would lose its place in the service's buffers. The body is that of [`readiness`](Self::readiness).
    #[must_use]
    pub fn liveness(&self) -> Response<String> {
        self.answer(self.is_alive())
    }

    fn answer(&self, good: bool) -> Response<String> {
        // Fixed words, numbers and times: they can be written.
        let mut answer = Response::new(serde_json::to_string(&Body::of(self)).unwrap_or_default());
        *answer.status_mut() = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}

/// As in "ready over WebSocket", "not ready over PubNub: reconnecting".
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = self.status.transport;
        match self.reason() {
            None if self.status.phase == Phase::Live => write!(f, "ready over {transport}"),
            None => write!(f, "ready by polling, {transport} is down"),
            Some(reason) => write!(f, "not ready over {transport}: {reason}"),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    ready: bool,
    alive: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    phase: &'static str,
    /// When the phase began.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    transport: &'static str,
    polling: bool,
    /// Since when events may be missing, while that is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing_since: Option<String>,
    failed_attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
}

#[derive(Serialize)]
struct Failure {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
}

impl Body {
    fn of(health: &Health) -> Self {
        let status = &health.status;
        let text = |at| Timestamp::from(at).to_string();
        Self {
            ready: health.is_ready(),
            alive: health.is_alive(),
            reason: health.reason(),
            phase: status.phase.as_str(),
            since: status.since.map(text),
            transport: status.transport.as_str(),
            polling: status.is_polling,
            missing_since: status.missing_since.map(text),
            failed_attempts: status.failed_attempts,
            next_attempt: status.waiting.map(|wait| text(wait.until)),
            waits_for: status.waiting.map(|wait| wait.cause.as_str()),
            error: status
                .last_error
                .as_ref()
                .map(|error| Failure { kind: error.kind().as_str(), status: error.status() }),
        }
    }
}
