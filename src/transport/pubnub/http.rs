//! The vendor crate's `Transport` on this crate's HTTP client.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use ::pubnub::core::{PubNubError, Transport, TransportMethod, TransportRequest, TransportResponse};
use async_trait::async_trait;
use http::HeaderMap;
use reqwest::redirect::Policy;

use super::request::encode;
use crate::decode::{Undecoded, decode};
use crate::error::{Error, Result};

/// With three probes a dead path shows after about a minute.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 3;
/// A poll follows the last one at once, so a spare connection is of no use for long.
const POOL_IDLE: Duration = Duration::from_secs(20);
/// What to spend on the body of an answer whose status says it all.
const ERROR_BODY_BYTES: usize = 64 << 10;
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends one request and reads one answer; no retries, no redirects.
///
/// The kind of a failure is in the variant:
/// `Transport` the connection failed, `RequestCancel` the deadline passed,
/// `Deserialization` the answer is too large to read. Their texts hold no URL.
#[derive(Clone)]
pub(super) struct HttpTransport {
    http: reqwest::Client,
    origin: String,
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
    pub(super) fn new(
        origin: String,
        loopback: bool,
        connect_timeout: Duration,
        deadline: Duration,
        max_response: usize,
    ) -> Result<Self> {
        let mut http = reqwest::Client::builder()
            .connect_timeout(connect_timeout)
            // One connection per pending poll: polls that shared one would also
            // share its death.
            .http1_only()
            .tcp_nodelay(true)
            .tcp_keepalive(KEEPALIVE)
            .tcp_keepalive_interval(KEEPALIVE)
            .tcp_keepalive_retries(KEEPALIVE_PROBES)
            .pool_idle_timeout(POOL_IDLE)
            // Decoded below, so that no feature of any crate changes what is read.
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd()
            // A redirect would hand channel and key to whoever names himself.
            .redirect(Policy::none());
        if loopback {
            http = http.no_proxy();
        }
        // Bounds how long a request can be on its way, which keepalive does not.
        #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
        {
            http = http.tcp_user_timeout(KEEPALIVE * (KEEPALIVE_PROBES + 1));
        }
        let http = http
            .build()
            .map_err(|error| Error::config("the HTTP client cannot be made").with_source(error.without_url()))?;
        Ok(Self { http, origin, deadline, max_response })
    }

    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    async fn exchange(&self, request: TransportRequest) -> Result<TransportResponse, PubNubError> {
        let method = match request.method {
            TransportMethod::Get => reqwest::Method::GET,
            TransportMethod::Post => reqwest::Method::POST,
            TransportMethod::Delete => reqwest::Method::DELETE,
        };
        let mut builder = self.http.request(method, self.url(&request));
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        if let Some(body) = request.body {
            builder = builder.body(body);
        }
        let mut response = builder.send().await.map_err(failed)?;
        let status = response.status();
        let mut headers = std::mem::take(response.headers_mut());
        let body = if status.is_success() {
            Some(read(response, &mut headers, self.max_response).await?)
        } else {
            // The status is the answer; a body that fails to come changes nothing.
            let cap = self.max_response.min(ERROR_BODY_BYTES);
            let body = read(response, &mut headers, cap);
            tokio::time::timeout(ERROR_BODY_TIMEOUT, body).await.ok().and_then(Result::ok)
        };
        let headers = headers
            .iter()
            .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
            .collect();
        Ok(TransportResponse { status: status.as_u16(), headers, body })
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
    /// The deadline is `timeout` seconds, and this transport's own at most.
    async fn send(&self, request: TransportRequest) -> Result<TransportResponse, PubNubError> {
        let deadline = self.deadline.min(Duration::from_secs(request.timeout));
        tokio::time::timeout(deadline, self.exchange(request))
            .await
            .unwrap_or_else(|_| Err(PubNubError::RequestCancel { details: format!("no answer within {deadline:?}") }))
    }
}

/// Reads a body piece by piece, so that `cap` holds whatever the headers say, and
/// decodes it within the same bound.
async fn read(mut response: reqwest::Response, headers: &mut HeaderMap, cap: usize) -> Result<Vec<u8>, PubNubError> {
    let too_large = || PubNubError::Deserialization { details: format!("the answer is larger than {cap} bytes") };
    let declared = response.content_length().map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if declared > cap {
        return Err(too_large());
    }
    let mut body = Vec::with_capacity(declared);
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
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

/// Keeps the causes and drops the URL.
fn failed(error: reqwest::Error) -> PubNubError {
    let timed_out = error.is_timeout();
    let error = error.without_url();
    let mut details = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        details.push_str(": ");
        details.push_str(&error.to_string());
        cause = error.source();
    }
    if timed_out { PubNubError::RequestCancel { details } } else { PubNubError::Transport { details, response: None } }
}
