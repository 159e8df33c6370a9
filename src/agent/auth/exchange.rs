//! One request to a token service.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use serde_json::value::RawValue;
use tokio::time::Instant;
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::super::answer;
use super::super::event::value::{Fields, text};
use crate::auth::AccessToken;
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::event::lenient::Lenient as _;
use crate::http::groups::template;
use crate::http::{Answer, BoundedClient, HttpRequest, Purpose, Redirects, USER_AGENT};
use crate::secret::{self, Secret};
use crate::system::System;

/// The limit of a whole login, which must fit into a poll's wait for a token.
const WITHIN: Duration = Duration::from_secs(7);
const BODY_LIMIT: usize = 1024 * 1024;
/// A token with a longer life is a fault: it would never be renewed.
const MAX_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A token with less time left counts as expired, as in the vendor's own program; for a token with a shorter life, a
/// quarter of its life.
const EARLY: Duration = Duration::from_secs(120);

/// The result of a login or a renewal.
#[derive(Clone, Debug)]
pub(super) struct Granted {
    pub(super) access: AccessToken,
    pub(super) life: Option<Duration>,
    pub(super) refresh: Option<Secret>,
    /// The URL of renewals.
    pub(super) refresh_at: Option<Url>,
    /// The URL of sessions, if the answer named it.
    pub(super) server: Option<Url>,
    /// The tenant, if a token named it.
    pub(super) tenant: Option<String>,
}

#[derive(Debug)]
pub(super) struct Exchange {
    http: BoundedClient,
    /// For servers that break HTTP/2 streams.
    http1_only: AtomicBool,
}

/// The purpose of a request, which decides what its refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    Token,
    /// The URLs of the service's parts. A refusal says nothing about the credentials.
    Discovery,
}

/// The body of a request.
pub(super) enum Body {
    None,
    Form(Vec<(&'static str, String)>),
    Json(serde_json::Value),
}

/// An object in an answer.
pub(super) struct Object {
    raw: Box<RawValue>,
}

impl Exchange {
    pub(super) fn new(system: &System, http1_only: bool) -> Result<Self> {
        // A redirect would send the credentials to another host.
        let http = BoundedClient::new(system.http().clone(), USER_AGENT, BODY_LIMIT, Redirects::Refuse)?;
        Ok(Self { http: http.compressed(), http1_only: AtomicBool::new(http1_only) })
    }

    /// One exchange. A server that breaks its HTTP/2 streams is asked over HTTP/1.1 from then on: it offers HTTP/2 and
    /// resets its streams (found 7).
    async fn exchange(&self, request: &HttpRequest) -> Result<Answer> {
        let deadline = Instant::now() + WITHIN;
        if !self.http1_only.load(Ordering::Relaxed) {
            match self.http.traced(request.clone(), deadline, || template(request.url().path())).await {
                Err(error) if is_broken_http2(&error) => {
                    tracing::info!("the token service breaks HTTP/2 streams: using HTTP/1.1");
                    self.http1_only.store(true, Ordering::Relaxed);
                }
                outcome => return outcome,
            }
        }
        let request = request.clone().with_http1_only(true);
        let path = request.url().path().to_owned();
        self.http.traced(request, deadline, || template(&path)).await
    }

    pub(super) async fn send(
        &self,
        asking: Asking,
        method: Method,
        url: &Url,
        basic: Option<&Secret>,
        body: Body,
        secrets: &[&Secret],
    ) -> Result<Object> {
        let mut request = HttpRequest::new(method, url.clone(), Purpose::Call);
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(basic) = basic {
            let encoded = Zeroizing::new(STANDARD.encode(basic.expose()));
            let value = secret::header(format!("basic {}", *encoded));
            let value = value.map_err(|_| Error::config("the credentials cannot be sent in a header"))?;
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let (kind, text) = match body {
            Body::None => (None, String::new()),
            Body::Form(fields) => {
                let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
                (Some("application/x-www-form-urlencoded"), form)
            }
            Body::Json(value) => (Some("application/json"), value.to_string()),
        };
        if let Some(kind) = kind {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            request = request.with_body(secret::body(text));
        }
        let answer = self.exchange(&request).await?;
        if !answer.status.is_success() {
            return Err(refused(asking, &answer, secrets));
        }
        let body = answer.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&answer.body);
        let raw = serde_json::from_slice::<Box<RawValue>>(body).ok().filter(|raw| Fields::of(raw).is_some());
        raw.map(|raw| Object { raw }).ok_or_else(|| {
            let message = match asking {
                Asking::Token => "the token service's answer is not a JSON object",
                Asking::Discovery => "the service's configuration is not a JSON object",
            };
            Error::new(ErrorKind::Protocol, message).with_status(answer.status.as_u16())
        })
    }
}

impl Granted {
    pub(super) fn new(access: Secret, life: Option<Duration>) -> Self {
        let token = AccessToken::new(access);
        let access = match life {
            Some(life) => token.with_expires_in(life),
            None => token,
        };
        Self { access, life, refresh: None, refresh_at: None, server: None, tenant: None }
    }

    /// Fills the values that a renewal omitted from `former`.
    pub(super) fn with_rest_of(mut self, former: &Self) -> Self {
        self.refresh = self.refresh.or_else(|| former.refresh.clone());
        self.refresh_at = self.refresh_at.or_else(|| former.refresh_at.clone());
        self.server = self.server.or_else(|| former.server.clone());
        self.tenant = self.tenant.or_else(|| former.tenant.clone());
        self
    }

    pub(super) fn is_good(&self) -> bool {
        let early = EARLY.min(self.life.unwrap_or(Duration::MAX) / 4);
        self.access.expires_in().is_none_or(|left| left > early)
    }

    pub(super) fn is_over(&self) -> bool {
        self.access.expires_in().is_some_and(|left| left.is_zero())
    }
}

/// Whether a server broke an HTTP/2 stream or connection. HTTP clients report that only in the texts of their errors.
fn is_broken_http2(error: &Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let text = cause.to_string();
        if text.contains("http2 error") || text.contains("stream error") {
            return true;
        }
        source = cause.source();
    }
    false
}

/// Classifies a refusal. The credentials count as refused only where the service itself says so, with its reason: a
/// proxy's refusal is transient (found 6.4).
fn refused(asking: Asking, answer: &Answer, secrets: &[&Secret]) -> Error {
    let said = answer::words(answer, secrets);
    let (kind, message) = match (answer.status.as_u16(), asking) {
        (429, Asking::Token) => (ErrorKind::RateLimited, "too many requests for tokens"),
        (429, Asking::Discovery) => (ErrorKind::RateLimited, "too many requests for the service's configuration"),
        (408 | 500.., Asking::Token) => (ErrorKind::Service, "the token service failed"),
        (408 | 500.., Asking::Discovery) => (ErrorKind::Service, "the service failed to give its configuration"),
        (300..=399, _) => (ErrorKind::Protocol, "refused to follow a redirect of the token service"),
        (400 | 401, Asking::Token) if said.is_some() => (ErrorKind::Auth, "the token service refused the credentials"),
        (_, Asking::Token) => (ErrorKind::Auth, "the token service rejected the login"),
        (_, Asking::Discovery) => (ErrorKind::Rejected, "the service refused its configuration"),
    };
    let disposition = match (kind, answer.status.as_u16()) {
        (ErrorKind::Auth, 400 | 401) if said.is_some() => Disposition::Fatal,
        _ => Disposition::Retry { after: answer::wait_asked_for(&answer.headers) },
    };
    let error = match said {
        Some(said) => Error::new(kind, format!("{message}: {said}")),
        None => Error::new(kind, message),
    };
    error.with_disposition(disposition).with_status(answer.status.as_u16())
}

impl Object {
    pub(super) fn text(&self, keys: &[&str]) -> Option<String> {
        Fields::of(&self.raw)?.get(keys).and_then(text)
    }

    /// The token in this answer's fields of these names.
    pub(super) fn granted(&self, access: &[&str], refresh: &[&str], life: &[&str]) -> Result<Granted> {
        let token = self.text(access);
        let token =
            token.ok_or_else(|| Error::new(ErrorKind::Protocol, "the token service answered without a token"))?;
        let seconds = Fields::of(&self.raw).and_then(|fields| fields.get(life).and_then(f64::read));
        // A token that has expired when it is granted would be requested before each call.
        let seconds = seconds.filter(|seconds| *seconds > 0.0);
        let life = seconds.map(|it| Duration::try_from_secs_f64(it).unwrap_or(MAX_LIFE).min(MAX_LIFE));
        let mut granted = Granted::new(token.into(), life);
        granted.refresh = self.text(refresh).map(Secret::new);
        Ok(granted)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const HEADERS: u8 = 1;

    /// How a server breaks an HTTP/2 stream.
    #[derive(Clone, Copy, Debug)]
    enum Breaking {
        Reset(u8),
        /// After the head of a 200.
        ResetBody(u8),
        GoAway(u8),
    }

    impl Breaking {
        fn frames(self, stream: u8) -> Vec<u8> {
            let reset = |code| vec![0, 0, 4, 3, 0, 0, 0, 0, stream, 0, 0, 0, code];
            match self {
                Self::Reset(code) => reset(code),
                Self::ResetBody(code) => [vec![0, 0, 1, HEADERS, 4, 0, 0, 0, stream, 0x88], reset(code)].concat(),
                Self::GoAway(code) => vec![0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, code],
            }
        }
    }

    /// How many requests arrived over each protocol.
    #[derive(Debug, Default)]
    struct Asked {
        http2: AtomicUsize,
        http1: AtomicUsize,
    }

    async fn serve(mut peer: TcpStream, asked: Arc<Asked>, breaking: Breaking) -> std::io::Result<()> {
        let mut first = [0; 3];
        peer.read_exact(&mut first).await?;
        if !PREFACE.starts_with(&first) {
            asked.http1.fetch_add(1, Ordering::SeqCst);
            let mut head = first.to_vec();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(peer.read_u8().await?);
            }
            let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|it| it.lines().next()?.parse().ok());
            peer.read_exact(&mut vec![0; length.unwrap_or(0)]).await?;
            let body = r#"{"access_token":"at"}"#;
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            return peer.write_all(answer.as_bytes()).await;
        }
        peer.read_exact(&mut [0; 21]).await?;
        peer.write_all(&SETTINGS).await?;
        loop {
            let mut frame = [0; 9];
            peer.read_exact(&mut frame).await?;
            let length = usize::from(frame[1]) << 8 | usize::from(frame[2]);
            peer.read_exact(&mut vec![0; length]).await?;
            if frame[3] == HEADERS {
                asked.http2.fetch_add(1, Ordering::SeqCst);
                peer.write_all(&breaking.frames(frame[8])).await?;
            }
        }
    }

    /// A server that breaks each HTTP/2 stream with these frames.
    async fn server(breaking: Breaking) -> (Url, Arc<Asked>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/auth/token", listener.local_addr().unwrap())).unwrap();
        let asked = Arc::new(Asked::default());
        let counts = asked.clone();
        tokio::spawn(async move {
            while let Ok((peer, _)) = listener.accept().await {
                tokio::spawn(serve(peer, counts.clone(), breaking));
            }
        });
        (url, asked)
    }

    /// Like [`Exchange::new`] without TLS, which would negotiate the protocol.
    fn exchange(http1_only: bool) -> Exchange {
        let http = crate::http::ReqwestClient::configured(|settings| settings.http2_prior_knowledge());
        Exchange::new(&System::new().with_http(http), http1_only).unwrap()
    }

    async fn ask(http: &Exchange, url: &Url) -> Result<String> {
        let form = Body::Form(vec![("grant_type", "password".into())]);
        let object = http.send(Asking::Token, Method::POST, url, None, form, &[]).await?;
        object.granted(&["access_token"], &[], &[]).map(|it| it.access.secret().expose().to_owned())
    }

    #[tokio::test]
    async fn a_server_that_breaks_http2_streams_is_asked_over_http1_from_then_on() {
        // HTTP_1_1_REQUIRED, PROTOCOL_ERROR, INTERNAL_ERROR, REFUSED_STREAM.
        let resets = [0xd, 1, 2, 7].map(Breaking::Reset);
        for breaking in resets.into_iter().chain([Breaking::ResetBody(2), Breaking::GoAway(0xd)]) {
            let (url, asked) = server(breaking).await;
            let http = exchange(false);
            let first = ask(&http, &url).await;
            assert_eq!(first.as_deref().ok(), Some("at"), "{breaking:?}: {first:?}");
            let over_http2 = asked.http2.load(Ordering::SeqCst);
            assert!(over_http2 > 0);
            assert_eq!(ask(&http, &url).await.unwrap(), "at");
            assert_eq!(asked.http2.load(Ordering::SeqCst), over_http2, "not tried again: {breaking:?}");
            assert_eq!(asked.http1.load(Ordering::SeqCst), 2);
        }
    }

    #[tokio::test]
    async fn http1_only_never_tries_http2() {
        let (url, asked) = server(Breaking::Reset(0xd)).await;
        assert_eq!(ask(&exchange(true), &url).await.unwrap(), "at");
        assert_eq!((asked.http2.load(Ordering::SeqCst), asked.http1.load(Ordering::SeqCst)), (0, 1));
    }

    #[tokio::test]
    async fn only_a_broken_http2_stream_is_repeated() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let http = Exchange::new(&System::new(), false).unwrap();
        let (failed, peers) = tokio::join!(ask(&http, &url), async {
            // Reads the request, and closes the connection.
            let (mut peer, _) = listener.accept().await.unwrap();
            let mut head = [0; 16];
            peer.read_exact(&mut head).await.unwrap();
            1
        });
        assert_eq!((failed.unwrap_err().kind(), peers), (ErrorKind::Network, 1));
        assert!(!http.http1_only.load(Ordering::SeqCst));
    }
}
