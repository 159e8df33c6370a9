//! One HTTP exchange: bounded in time and size, without a URL in its errors.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use reqwest::redirect::Policy;
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::decode::decode;
use crate::error::{Error, ErrorKind, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Shorter than common gateways keep a connection: one that the server closed
/// meanwhile costs a request that may not be repeated.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// A dead HTTP/2 connection would swallow one request after the other: a call
/// that gives up ends its stream, not the connection.
const PING: Duration = Duration::from_secs(10);
const REDIRECTS: usize = 10;

/// What came back, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Which redirects to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redirects {
    /// As HTTP says, but never from `https` to `http`. reqwest drops the bearer
    /// as soon as host or port change.
    Follow,
    /// None: the body itself is a credential.
    Refuse,
}

/// The connection pool and its bounds.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    http: reqwest::Client,
    body_limit: usize,
}

impl Wire {
    pub(crate) fn new(user_agent: &str, body_limit: usize, redirects: Redirects) -> Result<Self> {
        Self::built(user_agent, body_limit, redirects, |builder| builder)
    }

    /// One that asks for compressed answers; every one reads them.
    #[cfg(feature = "agent")]
    pub(crate) fn decoding(user_agent: &str, body_limit: usize, redirects: Redirects) -> Result<Self> {
        let headers = HeaderMap::from_iter([(http::header::ACCEPT_ENCODING, http::HeaderValue::from_static("gzip"))]);
        Self::built(user_agent, body_limit, redirects, |builder| builder.default_headers(headers))
    }

    /// One that speaks HTTP/1.1 only.
    #[cfg(feature = "agent")]
    pub(crate) fn over_http1(user_agent: &str, body_limit: usize, redirects: Redirects) -> Result<Self> {
        Self::built(user_agent, body_limit, redirects, reqwest::ClientBuilder::http1_only)
    }

    /// One that speaks HTTP/2 where there is no TLS to agree on it.
    #[cfg(all(test, feature = "agent"))]
    pub(crate) fn over_http2(user_agent: &str, body_limit: usize) -> Result<Self> {
        Self::built(user_agent, body_limit, Redirects::Refuse, reqwest::ClientBuilder::http2_prior_knowledge)
    }

    fn built(
        user_agent: &str,
        body_limit: usize,
        redirects: Redirects,
        adjust: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> Result<Self> {
        let policy = match redirects {
            Redirects::Refuse => Policy::none(),
            Redirects::Follow => Policy::custom(|attempt| {
                let from_tls = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
                if attempt.previous().len() > REDIRECTS {
                    attempt.error("too many redirects")
                } else if from_tls && attempt.url().scheme() != "https" {
                    attempt.error("a redirect away from TLS")
                } else {
                    attempt.follow()
                }
            }),
        };
        let http = adjust(reqwest::Client::builder())
            // Decoded below, so that no feature of any crate changes what is sent or read.
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd()
            .user_agent(user_agent)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(PING)
            .redirect(policy)
            .build()
            .map_err(|error| Error::config("the HTTP client cannot be built").with_source(error.without_url()))?;
        Ok(Self { http, body_limit })
    }

    /// Sends `request` and reads its answer, whatever its status.
    ///
    /// Cancel safe as far as this side goes: the connection is given up.
    ///
    /// # Errors
    /// `Network`, `Timeout` and `Protocol`; [`Error::is_unclear`] unless it is
    /// certain that nothing was sent.
    pub(crate) async fn exchange(&self, request: reqwest::Request, deadline: Instant) -> Result<Answer> {
        let exchange = async {
            let mut response = self.http.execute(request).await.map_err(network_error)?;
            let (status, mut headers) = (response.status(), std::mem::take(response.headers_mut()));
            let mut body = BytesMut::new();
            // With the status: that the answer had begun.
            let broke_off = |error| network_error(error).with_status(status.as_u16());
            while let Some(chunk) = response.chunk().await.map_err(broke_off)? {
                if body.len() + chunk.len() > self.body_limit {
                    let message = format!("the answer is longer than the limit of {} bytes", self.body_limit);
                    let error = Error::new(ErrorKind::Protocol, message).with_status(status.as_u16());
                    return Err(error.with_unclear(true));
                }
                body.extend_from_slice(&chunk);
            }
            let body = decode(&mut headers, body.freeze(), self.body_limit).map_err(|why| {
                Error::new(ErrorKind::Protocol, why.to_string()).with_status(status.as_u16()).with_unclear(true)
            })?;
            Ok(Answer { status, headers, body })
        };
        match timeout_at(deadline, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::new(ErrorKind::Timeout, "no answer before the deadline").with_unclear(true)),
        }
    }
}

fn network_error(error: reqwest::Error) -> Error {
    // A URL may carry a token in its query.
    let error = error.without_url();
    let (kind, message, sent) = if error.is_connect() {
        (ErrorKind::Network, "no connection", false)
    } else if error.is_builder() {
        (ErrorKind::Config, "the request cannot be built", false)
    } else if error.is_redirect() {
        (ErrorKind::Protocol, "a redirect that is not followed", true)
    } else if error.is_timeout() {
        (ErrorKind::Timeout, "no answer in time", true)
    } else {
        (ErrorKind::Network, "the connection broke", true)
    };
    Error::new(kind, message).with_unclear(sent).with_source(error)
}

/// Reads a server's URL: `http` or `https`, a host, and nothing after the port.
pub(crate) fn server_url(text: &str) -> Result<Url> {
    // The parser's error quotes nothing, but the text may hold a password: no echo.
    let url = Url::parse(text.trim()).map_err(|error| Error::config("the server's URL is none").with_source(error))?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !bare || !anonymous {
        return Err(Error::config("the server's URL must be http(s)://host[:port] and nothing more"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn a_server_is_an_origin() {
        for good in ["https://platform.ringcentral.com", "http://127.0.0.1:8080/", " https://h "] {
            assert!(server_url(good).is_ok(), "{good}");
        }
        for bad in
            ["", "platform.ringcentral.com", "ftp://h", "https://h/x", "https://h?x", "https://h#x", "https://u:pw@h"]
        {
            let error = server_url(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
            assert!(!format!("{error:?}").contains("pw"));
        }
    }

    /// A server on loopback that gives one answer.
    async fn answering(head: &str, body: &[u8]) -> Url {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let head = format!("HTTP/1.1 200 OK\r\n{head}\r\ncontent-length: {}\r\n\r\n", body.len());
        let answer = [head.as_bytes(), body].concat();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _request = socket.read(&mut request).await.unwrap();
            socket.write_all(&answer).await.unwrap();
        });
        url.parse().unwrap()
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[tokio::test]
    async fn found_6_7_an_answer_in_gzip_is_read_by_every_caller_and_bounded() {
        let wire = Wire::new("test", 1000, Redirects::Follow).unwrap();
        let ask = async |head: &str, body: Vec<u8>| {
            let request = reqwest::Request::new(http::Method::GET, answering(head, &body).await);
            wire.exchange(request, Instant::now() + Duration::from_secs(30)).await
        };
        let answer = ask("Content-Encoding: gzip", gzip(b"{}")).await.unwrap();
        assert_eq!(answer.body, "{}");
        assert!(!answer.headers.contains_key("content-encoding"));
        let bomb = ask("Content-Encoding: gzip", gzip(&[b'x'; 1001])).await.unwrap_err();
        assert_eq!((bomb.kind(), bomb.is_unclear()), (ErrorKind::Protocol, true));
        let unknown = ask("Content-Encoding: br", vec![7; 10]).await.unwrap_err();
        assert_eq!((unknown.kind(), unknown.status()), (ErrorKind::Protocol, Some(200)));
    }
}
