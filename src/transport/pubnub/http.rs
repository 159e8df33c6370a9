//! The vendor crate's `Transport` over an [`HttpClient`](crate::http::HttpClient).

use std::error::Error as StdError;
use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use ::pubnub::core::{PubNubError, Transport, TransportMethod, TransportRequest, TransportResponse};
use async_trait::async_trait;
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use tokio::time::Instant;
use url::Url;

use super::request::encode;
use crate::decode::{Undecoded, decode};
use crate::http::{HttpBody, HttpError, HttpErrorKind, HttpRequest, HttpResponse, Purpose};
use crate::system::System;

/// The longest pause within the body of an answer.
const BODY_PAUSE: Duration = Duration::from_secs(30);
/// The most bytes to read of an answer's body when its status says everything.
const ERROR_BODY_BYTES: usize = 64 << 10;
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends one request and reads one answer; no retries, no redirects.
///
/// The kind of a failure is in the variant:
/// `Transport` the connection failed, `RequestCancel` the deadline passed,
/// `Deserialization` the answer is too large to read. Their texts hold no URL.
#[derive(Clone)]
pub(super) struct HttpTransport {
    system: System,
    origin: String,
    connect_timeout: Duration,
    deadline: Duration,
    max_response: usize,
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport")
            .field("origin", &self.origin)
            .field("deadline", &self.deadline)
            .field("max_response", &self.max_response)
            .finish_non_exhaustive()
    }
}

impl HttpTransport {
    pub(super) fn new(origin: String, connect_timeout: Duration, deadline: Duration, max_response: usize) -> Self {
        Self { system: System::default(), origin, connect_timeout, deadline, max_response }
    }

    pub(super) fn with_system(self, system: System) -> Self {
        Self { system, ..self }
    }

    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(super) fn now(&self) -> SystemTime {
        self.system.now()
    }

    /// Polls; `None` if no byte of the answer arrived within `held`, which is not an error: the service holds the poll,
    /// or the connection is dead. `begun` is set once a byte arrived.
    pub(super) async fn poll(
        &self,
        request: TransportRequest,
        held: Duration,
        begun: &OnceLock<Instant>,
    ) -> Result<Option<TransportResponse>, PubNubError> {
        let exchange = async {
            match tokio::time::timeout(held, self.head(request)).await {
                Ok(response) => {
                    begun.get_or_init(Instant::now);
                    self.answer(response?).await.map(Some)
                }
                Err(_) => Ok(None),
            }
        };
        tokio::time::timeout(self.deadline, exchange).await.unwrap_or_else(|_| Err(late(self.deadline)))
    }

    async fn head(&self, request: TransportRequest) -> Result<HttpResponse, PubNubError> {
        let request = self.request(request)?;
        self.system.http().send(request).await.map_err(failed)
    }

    async fn answer(&self, response: HttpResponse) -> Result<TransportResponse, PubNubError> {
        let (status, mut headers, body) = response.into_parts();
        let body = if status.is_success() {
            Some(read(body, &mut headers, self.max_response).await?)
        } else {
            // The status is the answer; a body that fails to arrive changes nothing.
            let cap = self.max_response.min(ERROR_BODY_BYTES);
            let body = read(body, &mut headers, cap);
            tokio::time::timeout(ERROR_BODY_TIMEOUT, body).await.ok().and_then(Result::ok)
        };
        let headers = headers
            .iter()
            .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
            .collect();
        Ok(TransportResponse { status: status.as_u16(), headers, body })
    }

    fn request(&self, request: TransportRequest) -> Result<HttpRequest, PubNubError> {
        let odd = |details: &str| PubNubError::Transport { details: details.to_owned(), response: None };
        let method = match request.method {
            TransportMethod::Get => Method::GET,
            TransportMethod::Post => Method::POST,
            TransportMethod::Delete => Method::DELETE,
        };
        let url = Url::parse(&self.url(&request)).map_err(|_| odd("the request's URL cannot be used"))?;
        let mut sent = HttpRequest::new(method, url, Purpose::Poll).with_connect_within(self.connect_timeout);
        let mut headers: Vec<_> = request.headers.iter().collect();
        headers.sort_unstable();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| odd("a header's name cannot be sent"))?;
            let value = HeaderValue::from_str(value).map_err(|_| odd("a header's value cannot be sent"))?;
            sent.headers_mut().append(name, value);
        }
        Ok(sent.with_body(request.body.unwrap_or_default()))
    }

    fn url(&self, request: &TransportRequest) -> String {
        let mut query: Vec<_> = request.query_parameters.iter().collect();
        query.sort_unstable();
        let mut url = format!("{}{}", self.origin, request.path);
        for (position, (name, value)) in query.into_iter().enumerate() {
            url.push(if position == 0 { '?' } else { '&' });
            url.push_str(&encode(name));
            url.push('=');
            url.push_str(&encode(value));
        }
        url
    }
}

#[async_trait]
impl Transport for HttpTransport {
    /// The deadline is `timeout` seconds, and at most this transport's own.
    async fn send(&self, request: TransportRequest) -> Result<TransportResponse, PubNubError> {
        let deadline = self.deadline.min(Duration::from_secs(request.timeout));
        let exchange = async { self.answer(self.head(request).await?).await };
        tokio::time::timeout(deadline, exchange).await.unwrap_or_else(|_| Err(late(deadline)))
    }
}

fn late(within: Duration) -> PubNubError {
    PubNubError::RequestCancel { details: format!("no answer within {within:?}") }
}

/// Reads a body piece by piece, so that `cap` holds for any headers, and decodes it within the same bound.
async fn read(mut answer: Box<dyn HttpBody>, headers: &mut HeaderMap, cap: usize) -> Result<Vec<u8>, PubNubError> {
    let too_large = || PubNubError::Deserialization { details: format!("the answer is larger than {cap} bytes") };
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
    if declared > cap {
        return Err(too_large());
    }
    let mut body = Vec::with_capacity(declared);
    // An answer that has begun continues to arrive: a pause within it means a dead connection.
    let next = async |answer: &mut Box<dyn HttpBody>| {
        tokio::time::timeout(BODY_PAUSE, answer.chunk()).await.map_err(|_| late(BODY_PAUSE))?.map_err(failed)
    };
    while let Some(chunk) = next(&mut answer).await? {
        if chunk.len() > cap - body.len() {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    decode(headers, body.into(), cap).map(Into::into).map_err(|why| match why {
        Undecoded::TooLarge => too_large(),
        Undecoded::Unknown | Undecoded::Damaged => PubNubError::Transport { details: why.to_string(), response: None },
    })
}

/// Includes the causes in the text.
#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn failed(error: HttpError) -> PubNubError {
    let mut details = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        details.push_str(": ");
        details.push_str(&error.to_string());
        cause = error.source();
    }
    match error.kind() {
        HttpErrorKind::Timeout => PubNubError::RequestCancel { details },
        _ => PubNubError::Transport { details, response: None },
    }
}
