//! One exchange over any [`HttpClient`]: bounded in time and size, decoded, with uniform redirect
//! rules and no URL in its errors.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, HeaderName, HeaderValue, LOCATION, RANGE, USER_AGENT};
use http::{HeaderMap, Method, StatusCode};
use tokio::time::{Instant, timeout_at};
#[cfg(any(feature = "agent", feature = "digital"))]
use tracing::Instrument as _;
use url::Url;

use super::loopback::is_exposed;
use super::{HttpClient, HttpError, HttpErrorKind, HttpRequest};
use crate::decode::{Undecoded, decode};
use crate::error::{Error, ErrorKind, Result};
#[cfg(any(feature = "agent", feature = "digital"))]
use crate::telemetry;

/// Maximum number of redirects per call.
const REDIRECTS: usize = 10;
/// Headers that another host or port may see: none that a caller added, since any of them may be a
/// credential.
const HARMLESS: [HeaderName; 5] = [ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, RANGE, USER_AGENT];

/// What to check where no connection was established.
pub(crate) const UNREACHABLE: &str = "check the server's URL, the network, and the proxy in HTTPS_PROXY and NO_PROXY";

/// A complete response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Which redirects to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redirects {
    /// For GET and HEAD, never from `https` to `http`, and to another host or port without
    /// credentials. Other methods get an error: repeating a body elsewhere discloses it, and a POST
    /// that becomes a GET was not carried out (found kind 8).
    Follow,
    /// None: the request itself is a credential. The redirect is the response.
    Refuse,
}

/// An [`HttpClient`] with limits.
#[derive(Clone, Debug)]
pub(crate) struct BoundedClient {
    http: Arc<dyn HttpClient>,
    user_agent: HeaderValue,
    body_limit: usize,
    redirects: Redirects,
    compressed: bool,
}

impl BoundedClient {
    pub(crate) fn new(
        http: Arc<dyn HttpClient>,
        user_agent: &str,
        body_limit: usize,
        redirects: Redirects,
    ) -> Result<Self> {
        let user_agent = HeaderValue::from_str(user_agent)
            .map_err(|error| Error::config("the user agent cannot be sent in a header").with_source(error))?;
        Ok(Self { http, user_agent, body_limit, redirects, compressed: false })
    }

    /// Accepts compressed responses, which every client decodes; the size limit applies to the
    /// decoded body.
    #[cfg(feature = "agent")]
    pub(crate) fn compressed(self) -> Self {
        Self { compressed: true, ..self }
    }

    /// Sends `request` and reads the response, with any status.
    ///
    /// Cancel safe on this side: the connection is dropped.
    ///
    /// # Errors
    /// `Network`, `Timeout` and `Protocol`; [`Error::is_ambiguous`] unless it is certain that nothing
    /// was sent.
    pub(crate) async fn exchange(&self, mut request: HttpRequest, deadline: Instant) -> Result<Answer> {
        request.headers_mut().entry(USER_AGENT).or_insert_with(|| self.user_agent.clone());
        if self.compressed {
            request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let host = authority(request.url());
        match timeout_at(deadline, self.redirected(request)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let message = format!("no answer from {host} before the deadline");
                Err(Error::new(ErrorKind::Timeout, message).with_ambiguous(true))
            }
        }
    }

    /// [`exchange`](Self::exchange), within a span. `template`: the path without ids.
    #[cfg(any(feature = "agent", feature = "digital"))]
    pub(crate) async fn traced(
        &self,
        request: HttpRequest,
        deadline: Instant,
        template: impl FnOnce() -> String,
    ) -> Result<Answer> {
        let span = telemetry::call("http", request.method(), template, request.url().host_str());
        let outcome = self.exchange(request, deadline).instrument(span.clone()).await;
        match &outcome {
            Ok(answer) => telemetry::answered(&span, answer.status.as_u16()),
            Err(error) => telemetry::failed(&span, error),
        }
        outcome
    }

    async fn redirected(&self, mut request: HttpRequest) -> Result<Answer> {
        for _ in 0..=REDIRECTS {
            let host = authority(request.url());
            let network_error = |error| network_error(error, &host);
            let response = self.http.send(request.clone()).await.map_err(network_error)?;
            let (status, mut headers, mut body) = response.into_parts();
            if self.redirects == Redirects::Follow
                && let Some(next) = redirect(&request, status, &headers)?
            {
                request = next;
                continue;
            }
            let mut bytes = BytesMut::new();
            // With the status, to show that the response had begun.
            let broke_off = |error| network_error(error).with_status(status.as_u16());
            while let Some(chunk) = body.chunk().await.map_err(broke_off)? {
                if chunk.len() > self.body_limit - bytes.len() {
                    let message = format!("the answer is longer than the limit of {} bytes", self.body_limit);
                    let error = Error::new(ErrorKind::Protocol, message).with_status(status.as_u16());
                    return Err(error.with_ambiguous(true).with_source(Undecoded::TooLarge));
                }
                bytes.extend_from_slice(&chunk);
            }
            let body = decode(&mut headers, bytes.freeze(), self.body_limit).map_err(|why| {
                Error::new(ErrorKind::Protocol, why.to_string())
                    .with_status(status.as_u16())
                    .with_ambiguous(true)
                    .with_source(why)
            })?;
            return Ok(Answer { status, headers, body });
        }
        Err(Error::new(ErrorKind::Protocol, "more than ten redirects are not followed").with_ambiguous(true))
    }
}

/// The redirected request; `None` if the response is not a redirect.
fn redirect(request: &HttpRequest, status: StatusCode, headers: &HeaderMap) -> Result<Option<HttpRequest>> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = headers.get(LOCATION) else { return Ok(None) };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(not_followed("a redirect of a request that changes something", status));
    }
    let from = request.url();
    // The parser's error would quote the address, which may hold a secret.
    let to = location.to_str().ok().and_then(|location| from.join(location).ok());
    let Some(mut to) = to.filter(|to| matches!(to.scheme(), "http" | "https") && to.has_host()) else {
        return Err(not_followed("a redirect to an address that cannot be used", status));
    };
    if from.scheme() == "https" && to.scheme() != "https" {
        return Err(not_followed("a redirect away from TLS", status));
    }
    let same_place = from.host() == to.host() && from.port_or_known_default() == to.port_or_known_default();
    let named = to.set_username("").and_then(|()| to.set_password(None));
    if named.is_err() {
        return Err(not_followed("a redirect to an address that cannot be used", status));
    }
    let mut next = request.clone();
    next.url = to;
    if !same_place {
        next.headers = HARMLESS
            .iter()
            .flat_map(|name| request.headers().get_all(name).iter().map(move |value| (name.clone(), value.clone())))
            .collect();
    }
    Ok(Some(next))
}

fn not_followed(what: &'static str, status: StatusCode) -> Error {
    // 307 and 308 require sending the request elsewhere: it was not carried out.
    let unclear = !matches!(status.as_u16(), 307 | 308);
    Error::new(ErrorKind::Protocol, format!("{what} is not followed"))
        .with_status(status.as_u16())
        .with_ambiguous(unclear)
}

/// The host and port of a URL: the rest may be secret.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn network_error(error: HttpError, host: &str) -> Error {
    let (kind, message) = match error.kind() {
        HttpErrorKind::Config => (ErrorKind::Config, format!("the request to {host} cannot be built")),
        _ if !error.sent() => (ErrorKind::Network, format!("no connection to {host}")),
        HttpErrorKind::Timeout => (ErrorKind::Timeout, format!("no answer from {host} in time")),
        HttpErrorKind::Connect | HttpErrorKind::Broken | HttpErrorKind::Body | HttpErrorKind::Protocol => {
            (ErrorKind::Network, format!("the connection to {host} broke"))
        }
    };
    let is_unreachable = kind == ErrorKind::Network && !error.sent();
    Error::new(kind, message)
        .with_help(is_unreachable.then_some(UNREACHABLE))
        .with_ambiguous(error.sent())
        .with_source(error)
}

/// Parses a server's URL: `https`, or `http` on loopback, a host, and nothing after the port.
pub(crate) fn server_url(text: &str) -> Result<Url> {
    // The parser's error quotes nothing, but the text may hold a password: do not echo it.
    let form = "the server's URL must be https://host[:port] and nothing more";
    let url = Url::parse(text.trim()).map_err(|error| Error::config(form).with_source(error))?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !bare || !anonymous {
        return Err(Error::config(form));
    }
    if is_exposed(&url) {
        return Err(Error::config(format!(
            "credentials are sent to {} by https only: plain http is for loopback",
            url.host_str().unwrap_or_default()
        )));
    }
    Ok(url)
}

/// `id` escaped as one path segment.
///
/// # Errors
/// `Config` for an id that would change the path: empty, `.` or `..`.
pub(crate) fn segment(id: &str) -> Result<String> {
    if matches!(id, "" | "." | "..") {
        return Err(Error::config("an empty or dotted id is no path segment"));
    }
    Ok(id.bytes().fold(String::with_capacity(id.len()), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(byte.into());
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        text
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::Write as _;
    use std::sync::Mutex;
    use std::time::Duration;

    use async_trait::async_trait;
    use http::header::{AUTHORIZATION, CONTENT_ENCODING};

    use super::*;
    use crate::http::{HttpResponse, Purpose};

    /// Answers from a list and records the requests.
    #[derive(Debug, Default)]
    struct Canned {
        answers: Mutex<VecDeque<(u16, HeaderMap, Bytes)>>,
        asked: Mutex<Vec<HttpRequest>>,
    }

    #[async_trait]
    impl HttpClient for Canned {
        async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
            self.asked.lock().unwrap().push(request);
            let (status, headers, body) = self.answers.lock().unwrap().pop_front().unwrap();
            Ok(HttpResponse::whole(StatusCode::from_u16(status).unwrap(), headers, body))
        }
    }

    fn headers(all: &[(HeaderName, &str)]) -> HeaderMap {
        all.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    fn answers(all: impl IntoIterator<Item = (u16, HeaderMap, Bytes)>) -> (Arc<Canned>, BoundedClient) {
        let canned = Arc::new(Canned { answers: Mutex::new(all.into_iter().collect()), asked: Mutex::default() });
        (canned.clone(), BoundedClient::new(canned, "test", 1000, Redirects::Follow).unwrap())
    }

    fn to(status: u16, location: &str) -> (u16, HeaderMap, Bytes) {
        (status, headers(&[(LOCATION, location)]), Bytes::new())
    }

    fn done() -> (u16, HeaderMap, Bytes) {
        (200, HeaderMap::new(), "{}".into())
    }

    async fn ask(client: &BoundedClient, method: Method) -> Result<Answer> {
        let url = Url::parse("https://h.example/a?b=c").unwrap();
        let mut request = HttpRequest::new(method, url, Purpose::Call).with_body("s3cret");
        request.headers_mut().insert(AUTHORIZATION, HeaderValue::from_static("Bearer s3cret"));
        request.headers_mut().insert("x-api-key", HeaderValue::from_static("s3cret"));
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("text/plain"));
        client.exchange(request, Instant::now() + Duration::from_secs(30)).await
    }

    #[tokio::test]
    async fn found_8_a_redirect_of_a_post_is_an_error_and_nothing_is_sent_again() {
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            for (status, unclear) in [(301, true), (302, true), (303, true), (307, false), (308, false)] {
                let (canned, client) = answers([to(status, "https://other.example/"), done()]);
                let error = ask(&client, method.clone()).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Protocol, "{method} {status}");
                assert_eq!((error.status(), error.is_ambiguous()), (Some(status), unclear), "{method} {status}");
                assert!(error.to_string().contains("redirect") && !format!("{error:?}").contains("other.example"));
                assert_eq!(canned.asked.lock().unwrap().len(), 1);
            }
        }
    }

    #[tokio::test]
    async fn a_redirected_get_sends_credentials_only_to_the_same_host_and_port() {
        for (location, url, keeps) in [
            ("/x", "https://h.example/x", true),
            ("?y=1", "https://h.example/a?y=1", true),
            ("https://h.example:443/x", "https://h.example/x", true),
            ("https://h.example:444/x", "https://h.example:444/x", false),
            ("https://other.example/x", "https://other.example/x", false),
            ("https://u:pw@other.example/x", "https://other.example/x", false),
            ("//other.example/x", "https://other.example/x", false),
        ] {
            for status in [301, 302, 303, 307, 308] {
                let (canned, client) = answers([to(status, location), done()]);
                assert_eq!(ask(&client, Method::GET).await.unwrap().body, "{}");
                let asked = canned.asked.lock().unwrap();
                assert_eq!((asked[1].method(), asked[1].url().as_str()), (&Method::GET, url), "{location}");
                for name in ["authorization", "x-api-key"] {
                    assert_eq!(asked[1].headers().contains_key(name), keeps, "{location} {name}");
                }
                assert_eq!(asked[1].headers()["accept"], "text/plain");
                assert_eq!(asked[1].headers()["user-agent"], "test");
            }
        }
    }

    #[tokio::test]
    async fn an_unusable_redirect_is_an_error_without_its_address() {
        for (location, what) in [
            ("http://h.example/s3cret", "TLS"),
            ("ftp://h.example/s3cret", "cannot be used"),
            ("https://[s3cret/", "cannot be used"),
            ("data:s3cret", "cannot be used"),
        ] {
            let (canned, client) = answers([to(302, location), done()]);
            let error = ask(&client, Method::GET).await.unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
            assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
            assert_eq!(canned.asked.lock().unwrap().len(), 1);
        }
    }

    #[tokio::test]
    async fn redirects_end_after_ten_and_are_responses_without_an_address() {
        let (canned, client) = answers((0..20).map(|n| to(302, &format!("/{n}"))));
        assert_eq!(ask(&client, Method::GET).await.unwrap_err().kind(), ErrorKind::Protocol);
        assert_eq!(canned.asked.lock().unwrap().len(), REDIRECTS + 1);
        for status in [300, 302, 304, 305] {
            let (_, client) = answers([(status, HeaderMap::new(), Bytes::new())]);
            assert_eq!(ask(&client, Method::GET).await.unwrap().status.as_u16(), status);
        }
        let (canned, mut client) = answers([to(307, "https://h.example/x")]);
        client.redirects = Redirects::Refuse;
        assert_eq!(ask(&client, Method::POST).await.unwrap().status.as_u16(), 307);
        assert_eq!(canned.asked.lock().unwrap().len(), 1);
    }

    fn gzip(data: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap().into()
    }

    #[tokio::test]
    async fn found_6_7_an_answer_in_gzip_is_read_by_every_caller_and_bounded() {
        let coded = |coding| headers(&[(CONTENT_ENCODING, coding)]);
        let all = [
            (200, coded("gzip"), gzip(b"{}")),
            (200, coded("gzip"), gzip(&[b'x'; 1001])),
            (200, coded("br"), Bytes::from_static(&[7; 10])),
            (200, HeaderMap::new(), vec![b'x'; 1001].into()),
        ];
        let (_, client) = answers(all);
        let answer = ask(&client, Method::GET).await.unwrap();
        assert_eq!(answer.body, "{}");
        assert!(!answer.headers.contains_key("content-encoding"));
        for what in ["bomb", "unknown", "long"] {
            let error = ask(&client, Method::GET).await.unwrap_err();
            assert_eq!(
                (error.kind(), error.status(), error.is_ambiguous()),
                (ErrorKind::Protocol, Some(200), true),
                "{what}"
            );
        }
    }

    /// A host at which nothing listens.
    #[derive(Debug)]
    struct Nobody;

    #[async_trait]
    impl HttpClient for Nobody {
        async fn send(&self, _request: HttpRequest) -> Result<HttpResponse, HttpError> {
            Err(HttpError::new(HttpErrorKind::Connect))
        }
    }

    #[tokio::test]
    async fn a_host_that_cannot_be_reached_is_named_with_its_port_and_what_to_check() {
        let client = BoundedClient::new(Arc::new(Nobody), "test", 1000, Redirects::Follow).unwrap();
        for (url, named) in [
            ("https://h.example/s3cret?s3cret", "h.example:443"),
            ("http://127.0.0.1:9/s3cret", "127.0.0.1:9"),
            ("https://u:s3cret@[::1]:99/", "[::1]:99"),
        ] {
            let request = HttpRequest::new(Method::GET, Url::parse(url).unwrap(), Purpose::Call);
            let error = client.exchange(request, Instant::now() + Duration::from_secs(30)).await.unwrap_err();
            assert_eq!(error.to_string(), format!("no connection to {named}; {UNREACHABLE}"));
            assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
        }
    }

    #[test]
    fn a_server_is_an_origin() {
        for good in ["https://platform.ringcentral.com", "http://127.0.0.1:8080/", " https://h "] {
            assert!(server_url(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "platform.ringcentral.com",
            "ftp://h",
            "https://h/x",
            "https://h?x",
            "https://h#x",
            "https://u:pw@h",
            "http://h",
        ] {
            let error = server_url(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
            assert!(!format!("{error:?}").contains("pw"));
        }
    }

    #[test]
    fn an_id_is_one_segment() {
        assert_eq!(segment("a-1.~_").unwrap(), "a-1.~_");
        assert_eq!(segment("a/../b?c#d%é").unwrap(), "a%2F..%2Fb%3Fc%23d%25%C3%A9");
        for bad in ["", ".", ".."] {
            assert_eq!(segment(bad).unwrap_err().kind(), ErrorKind::Config);
        }
    }
}
