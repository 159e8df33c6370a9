//! The connection to a source.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::{Request, Response};
use reqwest::redirect::Policy;
use tokio::time::timeout;
use url::Url;

use crate::behavior::DigitalBehavior;
use crate::checks::{Answer, Answered, Lost};
use ringcentral_events::digital::SourceEndpoint;
use ringcentral_events::{Error, ErrorKind, Result};

/// The platform's own user agent is undocumented.
const USER_AGENT: &str = "ringcentral-events-sandbox";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Shorter than the keep-alive of common servers, so that no half-closed connection is reused.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

type Answers = dyn Fn(Request<Bytes>) -> BoxFuture<'static, Response<Bytes>> + Send + Sync;

/// The location of a source: the channel's *Base URI*, or an endpoint in this process.
#[derive(Clone)]
pub struct SourceAt(At);

#[derive(Clone)]
enum At {
    Url(Url),
    Here(Arc<Answers>),
}

impl SourceAt {
    /// A URL, which may have a path and a query.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] unless it is `http` or `https`.
    pub fn url(url: &str) -> Result<Self> {
        let url = Url::parse(url.trim())
            .map_err(|error| Error::new(ErrorKind::Config, "invalid source URL").with_source(error))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(Error::new(ErrorKind::Config, "the source's URL must be http or https, with a host"));
        }
        Ok(Self(At::Url(url)))
    }

    /// An endpoint in this process, without a server.
    #[must_use]
    pub fn endpoint(endpoint: SourceEndpoint) -> Self {
        Self::answers(move |request| {
            let endpoint = endpoint.clone();
            async move { endpoint.handle(request).await }
        })
    }

    /// A function in this process that answers requests, rightly or wrongly.
    #[must_use]
    pub fn answers<F, Fut>(answers: F) -> Self
    where
        F: Fn(Request<Bytes>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Response<Bytes>> + Send + 'static,
    {
        Self(At::Here(Arc::new(move |request| Box::pin(answers(request)))))
    }

    /// The URL of the requests; a placeholder for a source in this process.
    pub(super) fn address(&self) -> Url {
        match &self.0 {
            At::Url(url) => url.clone(),
            At::Here(_) => here(),
        }
    }
}

/// A URL that does not resolve.
#[allow(clippy::expect_used, reason = "a constant")]
fn here() -> Url {
    Url::parse("http://source.invalid/").expect("a constant URL")
}

impl fmt::Debug for SourceAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            // Path and query may hold a secret.
            At::Url(url) => write!(f, "SourceAt({})", url.origin().ascii_serialization()),
            At::Here(_) => f.write_str("SourceAt(here)"),
        }
    }
}

/// The connections to a source.
pub(super) struct Target {
    at: SourceAt,
    http: reqwest::Client,
    answer_limit: usize,
}

impl Target {
    pub(super) fn new(at: SourceAt, answer_limit: usize) -> Result<Self> {
        // Redirects are returned like any response: the body was signed for one address.
        let http = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .redirect(Policy::none())
            .no_gzip()
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::Config, "the HTTP client cannot be built").with_source(error.without_url())
            })?;
        Ok(Self { at, http, answer_limit })
    }

    pub(super) fn address(&self) -> Url {
        self.at.address()
    }

    /// Sends a request and waits for the complete response, up to the setting's timeout.
    pub(super) async fn exchange(&self, request: Request<Bytes>, behavior: &DigitalBehavior) -> Answered {
        match &self.at.0 {
            At::Url(_) => self.over_http(request, behavior).await,
            At::Here(answers) => {
                let response = timeout(behavior.timeout, answers(request)).await.map_err(|_| Lost::Late)?;
                let (head, body) = response.into_parts();
                Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
            }
        }
    }

    async fn over_http(&self, request: Request<Bytes>, behavior: &DigitalBehavior) -> Answered {
        // Shows no more of an error: its URL may hold a secret.
        let broken = |error: reqwest::Error| {
            Lost::Broken(if error.is_connect() { "no connection" } else { "the connection broke" }.into())
        };
        let request = reqwest::Request::try_from(request.map(reqwest::Body::from)).map_err(broken)?;
        let exchange = async {
            let mut response = self.http.execute(request).await.map_err(broken)?;
            let mut body = BytesMut::new();
            while let Some(chunk) = response.chunk().await.map_err(broken)? {
                if body.len() + chunk.len() > self.answer_limit {
                    return Err(Lost::TooLarge(self.answer_limit));
                }
                body.extend_from_slice(&chunk);
            }
            let headers = std::mem::take(response.headers_mut());
            Ok(Answer { status: response.status().as_u16(), headers, body: body.freeze() })
        };
        timeout(behavior.timeout, exchange).await.map_err(|_| Lost::Late)?
    }
}
