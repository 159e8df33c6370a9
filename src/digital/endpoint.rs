//! The endpoint: one HTTP request in, one signed answer out.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;

use super::action::{Action, ActionRequest, unknown_action};
use super::failure::Failure;
use super::signature::{InvalidSignature, SIGNATURE_HEADER, SIGNATURE_QUERY, Signer};
use super::source::Source;
use super::value::Date;
use crate::error::{Error, Result};
use crate::secret::Secret;
use crate::system::System;
use crate::telemetry;

const BODY_LIMIT: usize = 1 << 20;
const BODY_LIMIT_CAP: usize = 64 << 20;
const DEADLINE: Duration = Duration::from_secs(8);
const DEADLINE_CAP: Duration = Duration::from_secs(600);
const MAX_CONCURRENT: usize = 256;
const HEADER: HeaderName = HeaderName::from_static(SIGNATURE_HEADER);
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Serves a [`Source`] at one URL, the channel's *Base URI*.
///
/// [`handle`](Self::handle) takes a complete request from any server. The endpoint is also a
/// `tower` service for any streaming body, so axum and hyper accept it directly. Path and query are
/// ignored, except for the signature.
///
/// Requests are checked in this order: too large (413), not a POST (405), not signed by the
/// platform (422), not JSON or not an action of this source (400). No handler runs before the
/// signature is verified. Every response is signed, including errors.
///
/// Cheap to clone.
#[derive(Clone)]
pub struct SourceEndpoint(Arc<Inner>);

struct Inner {
    source: RwLock<Source>,
    signer: Signer,
    body_limit: usize,
    deadline: Duration,
    max_age: Option<Duration>,
    query_signature: bool,
    max_concurrent: Arc<Semaphore>,
    system: System,
}

/// Builds a [`SourceEndpoint`].
#[must_use]
#[derive(Debug)]
pub struct SourceEndpointBuilder {
    source: Source,
    token: Secret,
    body_limit: usize,
    deadline: Duration,
    max_age: Option<Duration>,
    query_signature: bool,
    max_concurrent: usize,
    system: System,
}

impl SourceEndpoint {
    /// An endpoint for `source`, with the channel's API access token.
    pub fn builder(source: Source, token: impl Into<Secret>) -> SourceEndpointBuilder {
        SourceEndpointBuilder {
            source,
            token: token.into(),
            body_limit: BODY_LIMIT,
            deadline: DEADLINE,
            max_age: None,
            query_signature: false,
            max_concurrent: MAX_CONCURRENT,
            system: System::default(),
        }
    }

    /// Answers one request. Requires a tokio runtime with time.
    ///
    /// Cancel safe: an action that writes runs to its end.
    pub async fn handle(&self, request: Request<Bytes>) -> Response<Bytes> {
        let (span, started) = (telemetry::action(), Instant::now());
        let mut action = None;
        let answer = self.handled(request, &mut action).instrument(span.clone()).await;
        let (name, word) = action.as_ref().map_or((None, "none"), |(name, word)| (Some(name.as_str()), *word));
        telemetry::acted(&span, name, word, answer.status().as_u16(), started.elapsed());
        answer
    }

    /// `named` becomes the action's name, and the word for it, once these are known.
    async fn handled(&self, request: Request<Bytes>, named: &mut Option<(String, &'static str)>) -> Response<Bytes> {
        let (head, body) = request.into_parts();
        if body.len() > self.0.body_limit {
            return self.refuse(&too_large());
        }
        if let Some(refusal) = self.refuse_method(&head.method) {
            return refusal;
        }
        let source = self.source();
        let action = match self.0.read(&source, &head.headers, head.uri.query(), &body) {
            Ok(action) => action,
            Err(failure) => return self.refuse(&failure),
        };
        drop(body);
        let name = &named.insert((action.name(), action.word())).0;
        match self.0.run(source, action).await {
            Ok(body) => {
                tracing::debug!(action = name, bytes = body.len(), "answered");
                self.answer(StatusCode::OK, JSON, body)
            }
            Err(failure) => {
                tracing::warn!(action = name, status = failure.http_status(), "refused: {}", failure.message());
                self.refuse(&failure)
            }
        }
    }

    /// The source that is served.
    #[must_use]
    pub fn source(&self) -> Source {
        self.0.source.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Serves another source from now on, with more or fewer operations. The platform asks what a
    /// source can do at the begin of every run, and adopts the answer. Until then it may still send
    /// an action that `source` does not have, which is refused with 400. An action that has begun
    /// ends with the former source. Give both the same store with
    /// [`SourceBuilder::contents`](super::SourceBuilder::contents), so that a repeated create is
    /// recognized.
    pub fn set_source(&self, source: Source) {
        *self.0.source.write().unwrap_or_else(PoisonError::into_inner) = source;
    }

    /// The maximum size of a body, in bytes.
    #[must_use]
    pub fn body_limit(&self) -> usize {
        self.0.body_limit
    }

    /// The deadline for receiving a body.
    pub(super) fn deadline(&self) -> Duration {
        self.0.deadline
    }

    pub(super) fn refuse_method(&self, method: &Method) -> Option<Response<Bytes>> {
        if method == Method::POST {
            return None;
        }
        let mut answer = self.refuse(&Failure::of(StatusCode::METHOD_NOT_ALLOWED, "actions are posted"));
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        Some(answer)
    }

    pub(super) fn refuse(&self, failure: &Failure) -> Response<Bytes> {
        let content_type = if failure.is_fatal().is_some() { JSON } else { TEXT };
        self.answer(failure.status_code(), content_type, failure.body().into())
    }

    fn answer(&self, status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<Bytes> {
        let signature = HeaderValue::from_str(&self.0.signer.sign(&body));
        let mut answer = Response::new(body);
        *answer.status_mut() = status;
        answer.headers_mut().insert(CONTENT_TYPE, content_type);
        // Hexadecimal digits are always a valid header value.
        if let Ok(signature) = signature {
            answer.headers_mut().insert(HEADER, signature);
        }
        answer
    }
}

impl fmt::Debug for SourceEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceEndpoint")
            .field("source", &self.source())
            .field("body_limit", &self.0.body_limit)
            .field("deadline", &self.0.deadline)
            .field("max_age", &self.0.max_age)
            .field("query_signature", &self.0.query_signature)
            .finish_non_exhaustive()
    }
}

pub(super) fn too_large() -> Failure {
    Failure::of(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large")
}

impl Inner {
    /// Verifies a request and returns its action.
    fn read(&self, source: &Source, headers: &HeaderMap, query: Option<&str>, body: &[u8]) -> Result<Action, Failure> {
        self.verify(headers, query, body)
            .map_err(|error| Failure::of(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
        let request = ActionRequest::parse(body).map_err(|error| bad_request(&error))?;
        if !source.knows(&request.action) {
            return Err(bad_request(&unknown_action()));
        }
        if let Some(max_age) = self.max_age
            && !is_recent(request.time, self.system.now(), max_age)
        {
            return Err(Failure::of(StatusCode::UNPROCESSABLE_ENTITY, "the action's time is too far from now"));
        }
        Ok(request.action)
    }

    /// Verifies the header's signature or, without one, the query's; there must be exactly one.
    fn verify(&self, headers: &HeaderMap, query: Option<&str>, body: &[u8]) -> Result<(), InvalidSignature> {
        let mut given = headers.get_all(HEADER).iter();
        if let Some(signature) = given.next() {
            let signature = signature.to_str().map_err(|_| InvalidSignature)?;
            return if given.next().is_some() { Err(InvalidSignature) } else { self.signer.verify(body, signature) };
        }
        if !self.query_signature {
            return Err(InvalidSignature);
        }
        let mut given = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes())
            .filter_map(|(key, value)| (key == SIGNATURE_QUERY).then_some(value));
        match (given.next(), given.next()) {
            (Some(signature), None) => self.signer.verify(body, &signature),
            _ => Err(InvalidSignature),
        }
    }

    /// Runs the action in a separate task and waits for it until the deadline.
    async fn run(&self, source: Source, action: Action) -> Result<Bytes, Failure> {
        let Ok(runtime) = Handle::try_current() else {
            return Err(Failure::status(500, "the source has no runtime"));
        };
        let Ok(place) = Arc::clone(&self.max_concurrent).try_acquire_owned() else {
            return Err(Failure::unavailable("too many actions are under way"));
        };
        let writes = action.writes();
        let run = async move {
            let outcome = source.run(action).await;
            drop(place);
            outcome
        };
        let task = runtime.spawn(run.in_current_span());
        let mut task = Task { handle: task, keep: writes };
        match timeout(self.deadline, &mut task.handle).await {
            Ok(Ok(outcome)) => outcome,
            // The runtime reports the panic itself, whose text may contain anything.
            Ok(Err(_)) => Err(Failure::status(500, "the source failed")),
            Err(_) => Err(Failure::unavailable("the source did not answer in time")),
        }
    }
}

/// A running handler. Dropping it aborts a handler that only reads.
struct Task {
    handle: JoinHandle<Result<Bytes, Failure>>,
    keep: bool,
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.keep {
            self.handle.abort();
        }
    }
}

fn bad_request(error: &Error) -> Failure {
    Failure::of(StatusCode::BAD_REQUEST, error.to_string())
}

fn is_recent(time: Option<Date>, now: SystemTime, max_age: Duration) -> bool {
    let Some(time) = time.map(Date::system_time) else { return false };
    let apart = now.duration_since(time).unwrap_or_else(|ahead| ahead.duration());
    apart <= max_age
}

impl SourceEndpointBuilder {
    /// The maximum size of a body, in bytes. Default 1 MiB: nothing larger is documented in this
    /// direction. From 1 KiB to 64 MiB.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }

    /// How long a handler may take before the platform gets 503 and retries, and how long a body
    /// may take to arrive. Default 8 s; the platform's timeout is not documented. At most 10
    /// minutes.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Refuses actions whose `time` is further from now than this, in either direction, or missing,
    /// with 422. Off by default: no window is documented, and it requires your clock to be right. 5
    /// to 15 minutes are sensible. It protects against replayed requests: repeating a create or a
    /// deletion has no effect, but repeating an `unpublish` after a `publish` does.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// The source of wall-clock time for [`max_age`](Self::max_age). Default: the machine's clock.
    pub fn system(mut self, system: System) -> Self {
        self.system = system;
        self
    }

    /// Whether a request without the header may carry its signature in the query, for proxies that
    /// strip headers. Off by default: queries end up in logs.
    pub fn query_signature(mut self, accepted: bool) -> Self {
        self.query_signature = accepted;
        self
    }

    /// Maximum number of concurrent actions; more get 503. Default 256. A write past its deadline
    /// counts until it ends.
    pub fn max_concurrent(mut self, actions: usize) -> Self {
        self.max_concurrent = actions;
        self
    }

    /// Builds the endpoint.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) for an invalid token, as in [`Signer::new`], and for a
    /// value out of its range.
    pub fn build(self) -> Result<SourceEndpoint> {
        if !(1024..=BODY_LIMIT_CAP).contains(&self.body_limit) {
            return Err(Error::config("the limit of a body is from 1 KiB to 64 MiB"));
        }
        if self.deadline.is_zero() || self.deadline > DEADLINE_CAP {
            return Err(Error::config("the deadline of a handler is up to 10 minutes, and not zero"));
        }
        if self.max_age.is_some_and(|age| age.is_zero()) {
            return Err(Error::config("no action is as new as that"));
        }
        if !(1..=Semaphore::MAX_PERMITS).contains(&self.max_concurrent) {
            return Err(Error::config("at least one action runs at once"));
        }
        Ok(SourceEndpoint(Arc::new(Inner {
            source: RwLock::new(self.source),
            signer: Signer::new(self.token)?,
            body_limit: self.body_limit,
            deadline: self.deadline,
            max_age: self.max_age,
            query_signature: self.query_signature,
            max_concurrent: Arc::new(Semaphore::new(self.max_concurrent)),
            system: self.system,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_symmetric_and_rejects_a_missing_time() {
        let at = |seconds| Date::from_unix(seconds);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000);
        for (time, want) in [
            (at(10_000), true),
            (at(9_700), true),
            (at(9_699), false),
            (at(10_300), true),
            (at(10_301), false),
            (at(-1), false),
            (None, false),
        ] {
            assert_eq!(is_recent(time, now, Duration::from_secs(300)), want, "{time:?}");
        }
    }
}
