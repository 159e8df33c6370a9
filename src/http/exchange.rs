//! One exchange over HTTP, and who makes it.

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use url::Url;

/// Production, for API and OAuth alike.
pub(crate) const PRODUCTION: &str = "https://platform.ringcentral.com";

pub(crate) const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// Sends HTTP requests, each independently.
///
/// Requirements for an implementation:
///
/// - **Do not follow redirects, decode bodies** or treat a status as an error: the crate does all
///   of that.
/// - **Do not repeat** a request that the server may have carried out. Opening another connection
///   is fine for a request that was never sent or that the server refused unprocessed (HTTP/2
///   `REFUSED_STREAM`, a `GOAWAY` that does not cover it).
/// - **Be cancel safe:** dropping the future or body abandons the exchange and leaks nothing.
/// - **Return the head as soon as it arrives**, and the body in pieces: a poll is answered after
///   minutes, and a body may exceed what the crate reads of it.
/// - **Set no deadline** except for connecting, [`HttpRequest::connect_within`]: the crate limits
///   the rest.
/// - **Put no URL into errors** or their causes: some URLs have tokens in their query.
///
/// See the [module](crate::http) for an example.
#[async_trait]
pub trait HttpClient: fmt::Debug + Send + Sync + 'static {
    /// Sends `request` and returns the head of the response.
    ///
    /// # Errors
    /// Anything that prevents the head from arriving. [`HttpError::sent`] states whether the server
    /// may have received the request.
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError>;
}

#[async_trait]
impl<T: HttpClient + ?Sized> HttpClient for Arc<T> {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        (**self).send(request).await
    }
}

/// The purpose of a request, which determines its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// A call with a prompt response. Connections are pooled, with HTTP/2 if the server offers it.
    Call,
    /// A long poll, which the server answers once there is something to return. HTTP/1.1 with one
    /// connection per pending request: polls on a shared connection would fail together. A
    /// connection whose peer is gone must break within about a minute (TCP keepalive).
    Poll,
    /// An upgrade to another protocol. HTTP/1.1, never over a pooled connection; TCP keepalive as
    /// for a poll.
    Upgrade,
}

/// A request.
#[derive(Clone)]
pub struct HttpRequest {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) purpose: Purpose,
    pub(super) connect_within: Duration,
    pub(super) http1_only: bool,
}

impl HttpRequest {
    pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(10);

    /// A request without headers and body.
    #[must_use]
    pub fn new(method: Method, url: Url, purpose: Purpose) -> Self {
        let connect_within = Self::CONNECT_WITHIN;
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        Self { method, url, headers, body, purpose, connect_within, http1_only: false }
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Sets the connect timeout. Default 10 s.
    #[must_use]
    pub fn with_connect_within(self, bound: Duration) -> Self {
        Self { connect_within: bound, ..self }
    }

    /// Requires HTTP/1.1 even if the purpose does not: some servers offer HTTP/2 but break its
    /// streams.
    #[must_use]
    pub fn with_http1_only(self, http1_only: bool) -> Self {
        Self { http1_only, ..self }
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The URL, `http` or `https`. It may hold secrets.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The headers. The implementation adds `Host`, `Content-Length` and other connection headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The headers, mutable.
    #[must_use]
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// The body, possibly empty.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The purpose.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Whether it must use HTTP/1.1.
    #[must_use]
    pub fn http1_only(&self) -> bool {
        self.http1_only
    }

    /// The connect timeout, including name resolution and TLS. When it passes, the error has
    /// [`sent`](HttpError::sent) false, so that a request that was never sent is recognized. An
    /// implementation that cannot apply it relies on the deadline of the whole exchange.
    #[must_use]
    pub fn connect_within(&self) -> Duration {
        self.connect_within
    }
}

impl fmt::Debug for HttpRequest {
    /// Path, query, headers and body may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("host", &self.url.host_str())
            .field("purpose", &self.purpose)
            .finish_non_exhaustive()
    }
}

/// The head of a response, and its pending body.
pub struct HttpResponse {
    status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Box<dyn HttpBody>,
}

impl HttpResponse {
    /// A response with a streaming body.
    pub fn new(status: StatusCode, headers: HeaderMap, body: impl HttpBody) -> Self {
        Self { status, headers, body: Box::new(body) }
    }

    /// A response with a complete body.
    pub fn whole(status: StatusCode, headers: HeaderMap, body: impl Into<Bytes>) -> Self {
        Self::new(status, headers, Whole(Some(body.into())))
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Status, headers and body.
    #[must_use]
    pub fn into_parts(self) -> (StatusCode, HeaderMap, Box<dyn HttpBody>) {
        (self.status, self.headers, self.body)
    }
}

impl fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpResponse").field("status", &self.status.as_u16()).finish_non_exhaustive()
    }
}

/// The body of a response, as it arrives.
#[async_trait]
pub trait HttpBody: Send + 'static {
    /// The next piece, as sent by the server; `None` at the end. Cancel safe.
    ///
    /// # Errors
    /// [`HttpErrorKind::Body`] if the connection breaks or ends before the body does.
    async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError>;

    /// The raw connection, after a response with status 101.
    ///
    /// # Errors
    /// If the connection broke, or the status was not 101.
    async fn upgrade(self: Box<Self>) -> Result<Box<dyn ByteStream>, HttpError>;
}

/// A connection's bytes in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// A complete body.
struct Whole(Option<Bytes>);

#[async_trait]
impl HttpBody for Whole {
    async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        Ok(self.0.take())
    }

    async fn upgrade(self: Box<Self>) -> Result<Box<dyn ByteStream>, HttpError> {
        Err(HttpError::new(HttpErrorKind::Protocol))
    }
}

/// Where an exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HttpErrorKind {
    /// No connection was established.
    Connect,
    /// A timeout: of connecting, or of the operating system for unacknowledged data.
    Timeout,
    /// The connection broke before the complete head of the response, or the server refused the
    /// request at the connection level.
    Broken,
    /// The connection broke or ended within the body.
    Body,
    /// The response is not HTTP.
    Protocol,
    /// The request cannot be sent, or the client cannot be set up.
    Config,
}

/// Why an exchange failed, and whether the server may have received the request.
///
/// Neither it nor its causes may hold a URL.
#[derive(Debug)]
pub struct HttpError {
    kind: HttpErrorKind,
    sent: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl HttpError {
    /// An error of `kind`. For `Connect` and `Config` nothing was sent; for other kinds something
    /// may have been.
    #[must_use]
    pub fn new(kind: HttpErrorKind) -> Self {
        let sent = !matches!(kind, HttpErrorKind::Connect | HttpErrorKind::Config);
        Self { kind, sent, source: None }
    }

    /// Sets whether the server may have received the request, if the kind does not determine it.
    #[must_use]
    pub fn with_sent(self, sent: bool) -> Self {
        Self { sent, ..self }
    }

    /// Sets the cause. Its text is shown: it must not contain a URL.
    #[must_use]
    pub fn with_source(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// Where it failed.
    #[must_use]
    pub fn kind(&self) -> HttpErrorKind {
        self.kind
    }

    /// Whether the server may have received and carried out the request. False only if it is
    /// certain that it did not: nothing was sent, or the server reported the request as
    /// unprocessed.
    #[must_use]
    pub fn sent(&self) -> bool {
        self.sent
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            HttpErrorKind::Connect => "no connection",
            HttpErrorKind::Timeout if !self.sent => "no connection in time",
            HttpErrorKind::Timeout => "no answer in time",
            HttpErrorKind::Broken => "the connection broke before the answer",
            HttpErrorKind::Body => "the connection broke within the answer's body",
            HttpErrorKind::Protocol => "the answer is not HTTP",
            HttpErrorKind::Config => "the request cannot be sent",
        })
    }
}

impl StdError for HttpError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_shows_its_method_host_and_purpose_only() {
        let url = Url::parse("https://h.example/s3cret?token=s3cret").unwrap();
        let mut request = HttpRequest::new(Method::POST, url, Purpose::Upgrade).with_body("s3cret");
        request.headers_mut().insert(::http::header::AUTHORIZATION, "s3cret".parse().unwrap());
        let shown = format!("{request:?}");
        assert!(shown.contains("POST") && shown.contains("h.example") && shown.contains("Upgrade"), "{shown}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn an_error_is_unsent_only_by_its_kind_or_explicitly() {
        for (kind, sent) in [
            (HttpErrorKind::Connect, false),
            (HttpErrorKind::Config, false),
            (HttpErrorKind::Timeout, true),
            (HttpErrorKind::Broken, true),
            (HttpErrorKind::Body, true),
            (HttpErrorKind::Protocol, true),
        ] {
            assert_eq!(HttpError::new(kind).sent(), sent, "{kind:?}");
            assert_eq!(HttpError::new(kind).with_sent(!sent).sent(), !sent, "{kind:?}");
        }
    }
}
