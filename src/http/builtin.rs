//! The built-in [`HttpClient`]: reqwest. No other file names it.

use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::ClientBuilder;
use reqwest::redirect::Policy;

use super::loopback::is_loopback;
use super::{ByteStream, HttpBody, HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpResponse, Purpose};

/// Shorter than the keep-alive of common gateways: a call on a connection that the server has
/// closed cannot always be repeated.
const CALL_IDLE: Duration = Duration::from_secs(30);
/// A dead HTTP/2 connection would swallow every request: a call that times out ends its stream, not
/// the connection.
const PING: Duration = Duration::from_secs(10);
/// A poll follows the last one immediately, so an idle connection is soon useless.
const POLL_IDLE: Duration = Duration::from_secs(20);
/// With three probes a dead path is detected after about a minute.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 3;

type Configure = Arc<dyn Fn(ClientBuilder) -> ClientBuilder + Send + Sync>;

/// The built-in [`HttpClient`], over [reqwest](https://docs.rs/reqwest) with rustls.
///
/// It trusts the platform's root certificates and uses the system's proxy (`HTTPS_PROXY` and
/// similar variables), except for hosts on this machine. Connections are pooled and belong to the
/// tokio runtime that created them: use one `ReqwestClient` in one runtime. Clones share the pools.
#[derive(Clone, Default)]
pub struct ReqwestClient {
    configure: Option<Configure>,
    /// Created on first use.
    pools: Arc<Mutex<Vec<(Pool, reqwest::Client)>>>,
}

/// The properties that requests must share to use one pool.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Pool {
    purpose: Purpose,
    /// To this machine, bypassing the system's proxy.
    direct: bool,
    connect_within: Duration,
    http1_only: bool,
}

impl ReqwestClient {
    /// The default settings, which suit the service.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With your settings, such as a proxy, root certificates or a resolver.
    ///
    /// `configure` is called for each pool (one for each [`Purpose`] and way to connect) after the
    /// crate's defaults. Redirects, decompression, the connect timeout, and HTTP/1.1 where a
    /// [`Purpose`] requires it are set afterwards, since the crate relies on them.
    ///
    /// ```
    /// use ringcentral_events::{System, http::ReqwestClient};
    ///
    /// let http = ReqwestClient::configured(|settings| settings.tls_sni(true).no_proxy());
    /// let system = System::new().with_http(http);
    /// ```
    pub fn configured(configure: impl Fn(ClientBuilder) -> ClientBuilder + Send + Sync + 'static) -> Self {
        Self { configure: Some(Arc::new(configure)), pools: Arc::default() }
    }

    /// Checks that requests can be sent, so that missing root certificates are reported while the
    /// program is set up.
    pub(crate) fn prepare(&self) -> Result<(), HttpError> {
        let connect_within = HttpRequest::CONNECT_WITHIN;
        self.pool(Pool { purpose: Purpose::Call, direct: false, connect_within, http1_only: false }).map(drop)
    }

    fn pool(&self, pool: Pool) -> Result<reqwest::Client, HttpError> {
        // A push cannot leave the list in a partial state.
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = pools.iter().find(|(made, _)| *made == pool) {
            return Ok(client.clone());
        }
        let client = self.client(pool)?;
        pools.push((pool, client.clone()));
        Ok(client)
    }

    fn client(&self, pool: Pool) -> Result<reqwest::Client, HttpError> {
        let mut builder = reqwest::Client::builder().tcp_nodelay(true);
        builder = match pool.purpose {
            Purpose::Call => {
                builder.pool_idle_timeout(CALL_IDLE).http2_keep_alive_interval(PING).http2_keep_alive_timeout(PING)
            }
            Purpose::Poll => lasting(builder).pool_idle_timeout(POLL_IDLE),
            // An upgraded connection never returns to the pool.
            Purpose::Upgrade => lasting(builder).pool_max_idle_per_host(0),
        };
        if pool.direct {
            builder = builder.no_proxy();
        }
        if let Some(configure) = &self.configure {
            builder = configure(builder);
        }
        // After the user's settings: upgrades and polls require it.
        if pool.http1_only || pool.purpose != Purpose::Call {
            builder = builder.http1_only();
        }
        builder
            .redirect(Policy::none())
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .connect_timeout(pool.connect_within)
            .build()
            .map_err(|error| HttpError::new(HttpErrorKind::Config).with_source(error.without_url()))
    }
}

/// Settings for a long-silent connection whose death must be detected.
fn lasting(builder: ClientBuilder) -> ClientBuilder {
    let builder =
        builder.tcp_keepalive(KEEPALIVE).tcp_keepalive_interval(KEEPALIVE).tcp_keepalive_retries(KEEPALIVE_PROBES);
    // Limits how long sent data may stay unacknowledged, which keepalive does not.
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    let builder = builder.tcp_user_timeout(KEEPALIVE * (KEEPALIVE_PROBES + 1));
    builder
}

impl fmt::Debug for ReqwestClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqwestClient").field("configured", &self.configure.is_some()).finish_non_exhaustive()
    }
}

#[async_trait]
impl HttpClient for ReqwestClient {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let direct = is_loopback(request.url());
        let HttpRequest { purpose, connect_within, http1_only, .. } = request;
        let pool = Pool { purpose, direct, connect_within, http1_only };
        let client = self.pool(pool)?;
        let mut sent = reqwest::Request::new(request.method, request.url);
        *sent.headers_mut() = request.headers;
        if !request.body.is_empty() {
            *sent.body_mut() = Some(request.body.into());
        }
        let mut answer = client.execute(sent).await.map_err(|error| failed(error, HttpErrorKind::Broken))?;
        let headers = std::mem::take(answer.headers_mut());
        Ok(HttpResponse::new(answer.status(), headers, Body(answer)))
    }
}

struct Body(reqwest::Response);

#[async_trait]
impl HttpBody for Body {
    async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        self.0.chunk().await.map_err(|error| failed(error, HttpErrorKind::Body))
    }

    async fn upgrade(self: Box<Self>) -> Result<Box<dyn ByteStream>, HttpError> {
        let stream = self.0.upgrade().await.map_err(|error| failed(error, HttpErrorKind::Broken))?;
        Ok(Box::new(stream))
    }
}

/// Classifies `error`, with `place` for a broken connection.
fn failed(error: reqwest::Error, place: HttpErrorKind) -> HttpError {
    let error = error.without_url();
    let cause = Cause::of(&error);
    let kind = if error.is_builder() {
        HttpErrorKind::Config
    } else if error.is_timeout() {
        HttpErrorKind::Timeout
    } else if error.is_connect() {
        HttpErrorKind::Connect
    } else if cause == Cause::NotHttp {
        HttpErrorKind::Protocol
    } else {
        place
    };
    let unsent = error.is_builder() || error.is_connect() || cause == Cause::Unprocessed;
    HttpError::new(kind).with_sent(!unsent).with_source(error)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The request was never sent, or the server reported it as unprocessed.
    Unprocessed,
    NotHttp,
    Other,
}

impl Cause {
    fn of(error: &reqwest::Error) -> Self {
        let mut next = error.source();
        while let Some(cause) = next {
            if let Some(cause) = cause.downcast_ref::<hyper::Error>() {
                if cause.is_canceled() {
                    return Self::Unprocessed;
                }
                if cause.is_parse() {
                    return Self::NotHttp;
                }
            }
            if let Some(cause) = cause.downcast_ref::<h2::Error>() {
                let refused = cause.is_reset() && cause.reason() == Some(h2::Reason::REFUSED_STREAM);
                // Streams covered by a GOAWAY continue; the others end.
                if cause.is_remote() && (refused || cause.is_go_away()) {
                    return Self::Unprocessed;
                }
            }
            next = cause.source();
        }
        Self::Other
    }
}
