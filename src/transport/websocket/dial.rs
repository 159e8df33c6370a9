//! Makes connections. The upgrade goes through the [`HttpClient`](crate::http::HttpClient),
//! so that TLS, its roots, proxies and names are the same as for every other call.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT,
};
use http::{HeaderMap, Method};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use url::Url;

use crate::control::SocketToken;
use crate::decode::decode;
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::http::envelope::{error_from, wait_asked_for};
use crate::http::loopback::is_loopback;
use crate::http::{ByteStream, HttpBody, HttpError, HttpErrorKind, HttpRequest, Purpose, UNREACHABLE, authority};
use crate::secret::Secret;
use crate::system::System;

/// The most bytes to read of a refusal's body.
const REFUSAL_BYTES: usize = 64 << 10;
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// The byte stream of a connection.
pub(super) type Stream = Box<dyn ByteStream>;

/// Where to connect: the gateway's address with both secrets in its query.
pub(super) struct Address {
    pub(super) url: Url,
    pub(super) secrets: Vec<Secret>,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

impl Address {
    /// The address for one token, and for the session to continue.
    ///
    /// # Errors
    /// `Config` when the service names an address to which no token may be sent.
    pub(super) fn new(token: &SocketToken, wsc: Option<&Secret>) -> Result<Self> {
        let mut url = token.uri.clone();
        let loopback = is_loopback(&url);
        match url.scheme() {
            "wss" => {}
            "ws" if loopback => {}
            "ws" => return Err(Error::config("the gateway's address must be wss, except on loopback")),
            _ => return Err(Error::config("the gateway's address is not a wss URL")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::config("the gateway's address must not hold credentials"));
        }
        url.set_fragment(None);
        url.query_pairs_mut().append_pair("access_token", token.token.expose());
        if let Some(wsc) = wsc {
            url.query_pairs_mut().append_pair("wsc", wsc.expose());
        }
        let secrets = std::iter::once(&token.token).chain(wsc).cloned().collect();
        Ok(Self { url, secrets })
    }
}

/// Makes a connection and upgrades it. For this module's tests only: users replace the network below it with their own
/// [`HttpClient`](crate::http::HttpClient).
#[async_trait]
pub(super) trait Dial: Send + Sync + fmt::Debug + 'static {
    /// # Errors
    /// Every error is transient; a status of 4xx means that the gateway refused. An ambiguous error: the gateway may
    /// have accepted the connection.
    async fn dial(&self, system: &System, to: &Address) -> Result<Stream>;
}

/// Dials by an HTTP upgrade.
#[derive(Clone, Debug)]
pub(super) struct HttpDialer {
    within: Duration,
}

impl HttpDialer {
    pub(super) fn new(within: Duration) -> Self {
        Self { within }
    }

    async fn upgrade(&self, system: &System, to: &Address) -> Result<Stream> {
        let mut url = to.url.clone();
        let scheme = if url.scheme() == "wss" { "https" } else { "http" };
        url.set_scheme(scheme).map_err(|()| Error::config("the gateway's address is not a wss URL"))?;
        let key = STANDARD.encode(system.random_bytes::<16>()?);
        // Ends before the whole deadline does, so that it is certain that nothing was sent.
        let connect_within = self.within * 9 / 10;
        let mut request = HttpRequest::new(Method::GET, url, Purpose::Upgrade).with_connect_within(connect_within);
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static(crate::http::USER_AGENT));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        let sent = HeaderValue::from_str(&key).map_err(|error| {
            Error::new(ErrorKind::Internal, "the key is not a valid header value").with_source(error)
        })?;
        headers.insert(SEC_WEBSOCKET_KEY, sent);
        let failed = |error| failed(error, &authority(&to.url));
        let (status, headers, body) = system.http().send(request).await.map_err(failed)?.into_parts();
        if status.as_u16() != 101 {
            return Err(refused(status.as_u16(), headers, body, to).await);
        }
        if !is_upgraded(&headers, &key) {
            let error = Error::new(ErrorKind::Protocol, "the gateway's answer to the upgrade is invalid");
            return Err(error.with_ambiguous(true));
        }
        body.upgrade().await.map_err(failed)
    }
}

#[async_trait]
impl Dial for HttpDialer {
    async fn dial(&self, system: &System, to: &Address) -> Result<Stream> {
        let late = |_| Error::new(ErrorKind::Timeout, "the gateway could not be reached in time").with_ambiguous(true);
        timeout(self.within, self.upgrade(system, to)).await.map_err(late)?
    }
}

fn is_upgraded(headers: &HeaderMap, key: &str) -> bool {
    let is = |name, want: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| value.eq_ignore_ascii_case(want))
    };
    is(UPGRADE, "websocket")
        && headers.get(SEC_WEBSOCKET_ACCEPT).is_some_and(|value| *value == derive_accept_key(key.as_bytes()))
}

/// The gateway's answer in place of the upgrade.
async fn refused(status: u16, mut headers: HeaderMap, mut answer: Box<dyn HttpBody>, to: &Address) -> Error {
    let mut body = Vec::new();
    let read = async {
        while let Ok(Some(chunk)) = answer.chunk().await {
            let room = REFUSAL_BYTES - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if body.len() == REFUSAL_BYTES {
                break;
            }
        }
    };
    // The status is the answer; a body that fails to arrive changes nothing.
    let _ = timeout(REFUSAL_TIMEOUT, read).await;
    let secrets: Vec<&str> = to.secrets.iter().map(Secret::expose).collect();
    let body = decode(&mut headers, body.into(), REFUSAL_BYTES).unwrap_or_default();
    refusal(status, &headers, &body, &secrets)
}

/// Classifies a refusal of the connection, which says nothing about the requests over it. Its cause may have passed at
/// the next attempt; [`Refusals`](super::refusals::Refusals) counts the ones that last.
pub(super) fn refusal(status: u16, headers: &HeaderMap, body: &[u8], secrets: &[&str]) -> Error {
    let error = error_from(status, headers, body, secrets);
    let retry = Disposition::Retry { after: wait_asked_for(status, headers) };
    if !is_final(status) {
        return error.with_disposition(retry).with_ambiguous(false);
    }
    Error::new(ErrorKind::Network, "the gateway refused the connection")
        .with_disposition(retry)
        .with_status(status)
        .with_code(error.code().map(str::to_owned))
        .with_request_id(error.request_id().map(str::to_owned))
        .with_source(error)
}

/// Whether a status says that the client is at fault.
pub(super) fn is_final(status: u16) -> bool {
    matches!(status, 400..=499) && !matches!(status, 408 | 429)
}

fn failed(error: HttpError, host: &str) -> Error {
    let (kind, message) = match error.kind() {
        HttpErrorKind::Timeout => (ErrorKind::Timeout, format!("the gateway {host} could not be reached in time")),
        _ => (ErrorKind::Network, format!("no connection to the gateway {host}")),
    };
    let help = (!error.sent()).then_some(UNREACHABLE);
    Error::new(kind, message).with_help(help).with_ambiguous(error.sent()).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(uri: &str) -> SocketToken {
        SocketToken::new(Url::parse(uri).unwrap(), Secret::new("T0KEN"))
    }

    #[test]
    fn both_secrets_go_into_the_query_and_nowhere_else() {
        let address = Address::new(&token("wss://gw.example/ws?x=1#f"), Some(&Secret::new("W&SC"))).unwrap();
        assert_eq!(address.url.as_str(), "wss://gw.example/ws?x=1&access_token=T0KEN&wsc=W%26SC");
        let shown = format!("{address:?} {:?}", token("wss://gw.example/ws?s=e"));
        assert!(!shown.contains("T0KEN") && !shown.contains("SC") && !shown.contains("s=e"), "{shown}");
    }

    #[test]
    fn a_token_is_sent_over_tls_only_except_on_loopback() {
        for good in ["wss://gw.example/ws", "ws://127.0.0.1:9/ws", "ws://localhost/ws", "ws://[::1]:9/"] {
            assert!(Address::new(&token(good), None).is_ok(), "{good}");
        }
        for bad in ["ws://gw.example/ws", "https://gw.example/ws", "wss://u:pw@gw.example/ws", "file:///ws"] {
            let error = Address::new(&token(bad), None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
            assert!(error.to_string().contains("wss") || error.to_string().contains("credentials"), "{error}");
            assert!(!format!("{error:?}").contains("pw@"), "{error:?}");
        }
    }

    #[test]
    fn a_refused_connection_says_nothing_about_the_app_and_is_transient() {
        let headers = |wait: &str| HeaderMap::from_iter([(http::header::RETRY_AFTER, wait.parse().unwrap())]);
        let retry = |seconds: Option<u64>| Disposition::Retry { after: seconds.map(Duration::from_secs) };
        for (status, kind, after) in [
            (400, ErrorKind::Network, Some(7)),
            (401, ErrorKind::Network, Some(7)),
            (403, ErrorKind::Network, Some(7)),
            (404, ErrorKind::Network, Some(7)),
            (408, ErrorKind::Timeout, Some(7)),
            (429, ErrorKind::RateLimited, Some(7)),
            (503, ErrorKind::Service, Some(7)),
            (302, ErrorKind::Protocol, Some(7)),
        ] {
            let error = refusal(status, &headers("7"), b"the T0KEN", &["T0KEN"]);
            assert_eq!((error.kind(), error.disposition()), (kind, retry(after)), "{status}");
            assert_eq!((error.status(), error.is_ambiguous()), (Some(status), false));
        }
        assert_eq!(refusal(429, &HeaderMap::new(), b"", &[]).disposition(), retry(Some(30)));
        assert_eq!(refusal(503, &HeaderMap::new(), b"", &[]).disposition(), retry(None));
    }

    #[test]
    fn an_answer_with_another_key_is_refused() {
        let headers = |accept: &str| {
            HeaderMap::from_iter([
                (UPGRADE, "WebSocket".parse().unwrap()),
                (SEC_WEBSOCKET_ACCEPT, accept.parse().unwrap()),
            ])
        };
        // The example of RFC 6455.
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        assert!(is_upgraded(&headers("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), key));
        assert!(!is_upgraded(&headers("x"), key) && !is_upgraded(&HeaderMap::new(), key));
    }
}
