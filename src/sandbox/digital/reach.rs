//! How a source is reached.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use tokio::time::{Instant, timeout};
use url::Url;

use super::answer::{Answer, Answered, Lost};
use super::knobs::DigitalKnobs;
use crate::digital::SourceEndpoint;
use crate::error::{Error, ErrorKind, Result};
use crate::rest::wire::{Redirects, Wire};

/// The service's own name is not documented.
const USER_AGENT: &str = "ringcentral-events-sandbox";

type Answers = dyn Fn(Request<Bytes>) -> BoxFuture<'static, Response<Bytes>> + Send + Sync;

/// Where a source is: the channel's *Base URI*, or something in this process.
#[derive(Clone)]
pub struct SourceAt(At);

#[derive(Clone)]
enum At {
    Url(Url),
    Here(Arc<Answers>),
}

impl SourceAt {
    /// At a URL, which may have a path and a query.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it is not `http` or `https`.
    pub fn url(url: &str) -> Result<Self> {
        let url =
            Url::parse(url.trim()).map_err(|error| Error::config("the source's URL is none").with_source(error))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(Error::config("the source's URL is http(s), with a host"));
        }
        Ok(Self(At::Url(url)))
    }

    /// In this process: an endpoint that no server serves.
    #[must_use]
    pub fn endpoint(endpoint: SourceEndpoint) -> Self {
        Self::answers(move |request| {
            let endpoint = endpoint.clone();
            async move { endpoint.handle(request).await }
        })
    }

    /// In this process: anything that answers requests, right or wrong.
    #[must_use]
    pub fn answers<F, Fut>(answers: F) -> Self
    where
        F: Fn(Request<Bytes>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Response<Bytes>> + Send + 'static,
    {
        Self(At::Here(Arc::new(move |request| Box::pin(answers(request)))))
    }

    /// The URL that requests are made for; for a source in this process one of no server.
    pub(super) fn address(&self) -> Url {
        match &self.0 {
            At::Url(url) => url.clone(),
            At::Here(_) => here(),
        }
    }
}

/// A URL that nothing resolves.
#[allow(clippy::expect_used, reason = "a constant")]
fn here() -> Url {
    Url::parse("http://source.invalid/").expect("a constant URL")
}

impl fmt::Debug for SourceAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            // A path or a query may hold a secret.
            At::Url(url) => write!(f, "SourceAt({})", url.origin().ascii_serialization()),
            At::Here(_) => f.write_str("SourceAt(here)"),
        }
    }
}

/// The connections to a source.
pub(super) struct Reach {
    at: SourceAt,
    wire: Wire,
}

impl Reach {
    pub(super) fn new(at: SourceAt, answer_limit: usize) -> Result<Self> {
        Ok(Self { at, wire: Wire::new(USER_AGENT, answer_limit, Redirects::Refuse)? })
    }

    pub(super) fn address(&self) -> Url {
        self.at.address()
    }

    /// Sends a request and waits for its whole answer, as long as the knob says.
    pub(super) async fn exchange(&self, request: Request<Bytes>, knobs: &DigitalKnobs) -> Answered {
        match &self.at.0 {
            At::Url(_) => self.over_http(request, knobs).await,
            At::Here(answers) => {
                let response = timeout(knobs.timeout, answers(request)).await.map_err(|_| Lost::Late)?;
                let (head, body) = response.into_parts();
                Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
            }
        }
    }

    async fn over_http(&self, request: Request<Bytes>, knobs: &DigitalKnobs) -> Answered {
        let request = reqwest::Request::try_from(request.map(reqwest::Body::from))
            .map_err(|error| Lost::Broken(error.without_url().to_string()))?;
        let answer = self.wire.exchange(request, Instant::now() + knobs.timeout).await;
        let answer = answer.map_err(|error| match error.kind() {
            ErrorKind::Timeout => Lost::Late,
            ErrorKind::Protocol => Lost::TooLarge(knobs.answer_limit),
            _ => Lost::Broken(error.to_string()),
        })?;
        Ok(Answer { status: answer.status.as_u16(), headers: answer.headers, body: answer.body })
    }
}
