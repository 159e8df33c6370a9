//! The HTTP client that everything in this crate goes through, as a trait.
//!
//! Logins, REST calls, long polls, the WebSocket upgrade, agent sessions and the Send
//! API all send their requests through one [`HttpClient`]. The built-in one is
//! [`ReqwestClient`]. Bring another one to use your own HTTP stack, proxy or TLS set-up,
//! or to put a test double in the place of the network. It is set once, as part of a
//! [`System`](crate::System).
//!
//! An implementation does one thing: it sends one request and hands the answer back as
//! it arrives. Deadlines, size limits, redirects, decompression and repetitions are the
//! crate's and stand above the trait, so that they are the same for each implementation.
//!
//! For another proxy, other root certificates or another resolver there is no need to
//! implement it: [`ReqwestClient::configured`] takes reqwest's own settings.
//!
//! # Implementing it
//!
//! A client for tests that answers each request from a function:
//!
//! ```
//! use async_trait::async_trait;
//! use http::{HeaderMap, StatusCode};
//! use ringcentral_events::auth::{AccessToken, StaticToken};
//! use ringcentral_events::http::{HttpClient, HttpError, HttpRequest, HttpResponse};
//! use ringcentral_events::{Client, System};
//!
//! #[derive(Debug)]
//! struct Canned;
//!
//! #[async_trait]
//! impl HttpClient for Canned {
//!     async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
//!         assert_eq!(request.url().path(), "/restapi/v1.0/account/~/extension/~");
//!         Ok(HttpResponse::whole(StatusCode::OK, HeaderMap::new(), r#"{"id":7}"#))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> ringcentral_events::Result<()> {
//! let tokens = StaticToken::new(AccessToken::new("a token"));
//! let client = Client::builder(tokens).system(System::new().with_http(Canned)).build()?;
//! let answer = client.request(http::Method::GET, "/restapi/v1.0/account/~/extension/~").send().await?;
//! assert_eq!(answer.json::<serde_json::Value>()?["id"], 7);
//! # Ok(())
//! # }
//! ```

mod bounded;
mod builtin;
pub(crate) mod loopback;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use url::Url;

pub(crate) use bounded::{Answer, BoundedClient, Redirects, server_url};
pub use builtin::ReqwestClient;

/// Sends HTTP requests, one at a time and each for itself.
///
/// What an implementation must keep to:
///
/// - **No redirect is followed, no body is decoded**, no status is an error: the crate
///   does all of that.
/// - **Nothing is repeated** that the server may have carried out. Taking another
///   connection for a request that never left, or that the server refused unprocessed
///   (HTTP/2 `REFUSED_STREAM`, a `GOAWAY` that does not cover it), is fine.
/// - **Cancel safe:** a dropped future or body gives the exchange up and leaks nothing.
/// - **The head comes as soon as it is there**, and the body in pieces: a poll is
///   answered after minutes, and a body may be larger than what the crate reads of it.
/// - **No deadline** but the one for connecting, [`HttpRequest::connect_within`]: how
///   long the rest may take is bounded above.
/// - **Errors hold no URL**, neither in their own text nor in that of their causes: some
///   URLs carry tokens in their query.
///
/// See the [module](self) for an example.
#[async_trait]
pub trait HttpClient: fmt::Debug + Send + Sync + 'static {
    /// Sends `request` and returns the head of its answer.
    ///
    /// # Errors
    /// Whatever keeps the head from arriving. [`HttpError::sent`] says whether the
    /// server may have got the request.
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError>;
}

#[async_trait]
impl<T: HttpClient + ?Sized> HttpClient for Arc<T> {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        (**self).send(request).await
    }
}

/// What a request is for, which decides about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// A call that is answered at once. Connections are pooled, HTTP/2 is used where the
    /// server offers it.
    Call,
    /// A long poll, which the server answers when it has something to say. HTTP/1.1 and
    /// one connection per pending request: polls that shared a connection would also
    /// share its death. A connection whose peer is gone must break by itself within
    /// about a minute (TCP keepalive).
    Poll,
    /// An upgrade to another protocol. HTTP/1.1, never over a pooled connection; TCP
    /// keepalive as for a poll.
    Upgrade,
}

/// One request.
#[derive(Clone)]
pub struct HttpRequest {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Bytes,
    purpose: Purpose,
    connect_within: Duration,
    http1_only: bool,
}

impl HttpRequest {
    const CONNECT_WITHIN: Duration = Duration::from_secs(10);

    /// A request without headers and body.
    #[must_use]
    pub fn new(method: Method, url: Url, purpose: Purpose) -> Self {
        let connect_within = Self::CONNECT_WITHIN;
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        Self { method, url, headers, body, purpose, connect_within, http1_only: false }
    }

    /// Adds the body.
    #[must_use]
    pub fn with_body(self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Bounds the time for connecting. Default 10 s.
    #[must_use]
    pub fn with_connect_within(self, bound: Duration) -> Self {
        Self { connect_within: bound, ..self }
    }

    /// Asks for HTTP/1.1 though the purpose leaves the version open: some servers offer
    /// HTTP/2 and break its streams.
    #[must_use]
    pub fn with_http1_only(self, http1_only: bool) -> Self {
        Self { http1_only, ..self }
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Where to send it: an `http` or `https` URL. It may hold secrets.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The headers. `Host`, `Content-Length` and what else belongs to a connection are
    /// the implementation's to add.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The headers, to be changed.
    #[must_use]
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// The body; empty where there is none.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// What it is for.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Whether it goes over HTTP/1.1, whatever the server offers.
    #[must_use]
    pub fn http1_only(&self) -> bool {
        self.http1_only
    }

    /// How long connecting may take, name resolution and TLS included. What takes longer
    /// is an error with [`sent`](HttpError::sent) false, so that a request that never
    /// left is known as one. An implementation that cannot bound it leaves that to the
    /// deadline of the whole exchange.
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

/// The head of an answer, and its body to come.
pub struct HttpResponse {
    status: StatusCode,
    headers: HeaderMap,
    body: Box<dyn HttpBody>,
}

impl HttpResponse {
    /// An answer whose body comes as `body` hands it out.
    pub fn new(status: StatusCode, headers: HeaderMap, body: impl HttpBody) -> Self {
        Self { status, headers, body: Box::new(body) }
    }

    /// An answer whose body is at hand.
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

/// The body of an answer, as it arrives.
#[async_trait]
pub trait HttpBody: Send + 'static {
    /// The next piece, as the server sent it; `None` at the end. Cancel safe.
    ///
    /// # Errors
    /// [`HttpErrorKind::Body`] when the connection breaks or ends before the body does.
    async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError>;

    /// The connection itself, after an answer with status 101.
    ///
    /// # Errors
    /// When the connection broke meanwhile, or the answer was no 101.
    async fn upgrade(self: Box<Self>) -> Result<Box<dyn ByteStream>, HttpError>;
}

/// A connection's bytes in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// A body that is at hand.
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
    /// There was no connection.
    Connect,
    /// It took longer than a bound: that of connecting, or the operating system's for
    /// what was sent and not acknowledged.
    Timeout,
    /// The connection broke before the whole head of the answer was there, or the server
    /// refused the request at the level of the connection.
    Broken,
    /// The connection broke, or ended, within the body.
    Body,
    /// What came is not HTTP.
    Protocol,
    /// The request cannot be sent as it is, or the client cannot be set up.
    Config,
}

/// Why an exchange failed, and whether the server may have got the request.
///
/// Neither it nor its causes may hold a URL.
#[derive(Debug)]
pub struct HttpError {
    kind: HttpErrorKind,
    sent: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl HttpError {
    /// An error of `kind`. Nothing was sent where there was no connection or no usable
    /// request; after any other error something may have been.
    #[must_use]
    pub fn new(kind: HttpErrorKind) -> Self {
        let sent = !matches!(kind, HttpErrorKind::Connect | HttpErrorKind::Config);
        Self { kind, sent, source: None }
    }

    /// Says whether the server may have got the request, where the kind alone does not.
    #[must_use]
    pub fn with_sent(self, sent: bool) -> Self {
        Self { sent, ..self }
    }

    /// Adds the cause. Its text is shown: no URL in it.
    #[must_use]
    pub fn with_source(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// Where it failed.
    #[must_use]
    pub fn kind(&self) -> HttpErrorKind {
        self.kind
    }

    /// Whether the server may have got the request and carried it out. False only where
    /// it is certain that it did not: nothing left, or the server said that it did not
    /// process the request.
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
    fn an_error_is_unsent_only_where_its_kind_or_its_maker_says_so() {
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
