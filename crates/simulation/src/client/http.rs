//! The client's HTTP: hyper's own connections over simulated bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use ringcentral_events::http::{
    ByteStream, HttpBody, HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpResponse, Purpose,
};

use crate::core::Shared;
use crate::net::Host;
use crate::net::stream::SimStream;
use crate::time::Us;

type Sender = SendRequest<Full<Bytes>>;

/// Idle connections by host and whether they are for polls.
type Pool = Mutex<BTreeMap<(Host, bool), Vec<Sender>>>;

/// HTTP/1.1 over the simulated network.
pub(crate) struct SimHttp {
    shared: Shared,
    pool: Arc<Pool>,
    waits: Arc<Mutex<Waits>>,
}

/// How long requests wait for the heads of their answers.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    pub(crate) under_way: usize,
    pub(crate) longest: Us,
}

/// One waiting request.
struct Wait<'a> {
    http: &'a SimHttp,
    since: Us,
}

impl<'a> Wait<'a> {
    fn begin(http: &'a SimHttp) -> Self {
        if let Ok(mut waits) = http.waits.lock() {
            waits.under_way += 1;
        }
        Self { http, since: http.shared.now() }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Ok(mut waits) = self.http.waits.lock() {
            waits.under_way -= 1;
            waits.longest = waits.longest.max(self.http.shared.now().saturating_sub(self.since));
        }
    }
}

impl fmt::Debug for SimHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimHttp")
    }
}

impl SimHttp {
    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared, pool: Arc::new(Pool::default()), waits: Arc::default() }
    }

    pub(crate) fn waits(&self) -> Arc<Mutex<Waits>> {
        self.waits.clone()
    }

    async fn dial(&self, host: Host, request: &HttpRequest) -> Result<Sender, HttpError> {
        let connect = SimStream::connect(&self.shared, host);
        let stream = match tokio::time::timeout(request.connect_within(), connect).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(_)) => return Err(HttpError::new(HttpErrorKind::Connect)),
            Err(_) => return Err(HttpError::new(HttpErrorKind::Timeout).with_sent(false)),
        };
        let shaken = Builder::new().handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|_| HttpError::new(HttpErrorKind::Connect))?;
        tokio::spawn(async move {
            // Callers that wait for answers get the connection's error.
            let _ended = connection.with_upgrades().await;
        });
        Ok(sender)
    }

    fn idle(&self, key: (Host, bool)) -> Option<Sender> {
        let mut pool = self.pool.lock().ok()?;
        let idle = pool.get_mut(&key)?;
        while let Some(sender) = idle.pop() {
            if sender.is_ready() && !sender.is_closed() {
                return Some(sender);
            }
            if !sender.is_closed() {
                // Its answer is still being read, so it is not idle yet.
                idle.insert(0, sender);
                if idle.iter().all(|it| !it.is_ready()) {
                    return None;
                }
            }
        }
        None
    }

    fn keep(&self, key: (Host, bool), sender: Sender) {
        if let Ok(mut pool) = self.pool.lock() {
            let idle = pool.entry(key).or_default();
            idle.retain(|it| !it.is_closed());
            idle.push(sender);
        }
    }
}

fn message(request: &HttpRequest, host: Host) -> Result<http::Request<Full<Bytes>>, HttpError> {
    let mut path = request.url().path().to_owned();
    if let Some(query) = request.url().query() {
        path.push('?');
        path.push_str(query);
    }
    let mut message = http::Request::builder()
        .method(request.method().clone())
        .uri(path)
        .header(http::header::HOST, host.name())
        .body(Full::new(request.body().clone()))
        .map_err(|error| HttpError::new(HttpErrorKind::Config).with_source(error))?;
    for (name, value) in request.headers() {
        message.headers_mut().append(name, value.clone());
    }
    Ok(message)
}

#[async_trait]
impl HttpClient for SimHttp {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let host = request.url().host_str().and_then(Host::of).ok_or_else(|| HttpError::new(HttpErrorKind::Connect))?;
        let purpose = request.purpose();
        let _wait = Wait::begin(self);
        let key = (host, purpose == Purpose::Poll);
        let mut message = message(&request, host)?;
        loop {
            let pooled = if purpose == Purpose::Upgrade { None } else { self.idle(key) };
            let was_pooled = pooled.is_some();
            let mut sender = match pooled {
                Some(sender) => sender,
                None => self.dial(host, &request).await?,
            };
            match sender.try_send_request(message).await {
                Ok(response) => {
                    if purpose != Purpose::Upgrade {
                        self.keep(key, sender);
                    }
                    let (parts, body) = response.into_parts();
                    let upgrade = (parts.status == http::StatusCode::SWITCHING_PROTOCOLS).then_some(());
                    let mut body = SimBody { body: Some(body), upgrade: None };
                    if upgrade.is_some() {
                        let incoming = body.body.take().unwrap_or_else(|| unreachable!("it was put there"));
                        let mut response = http::Response::from_parts(parts.clone(), incoming);
                        body.upgrade = Some(hyper::upgrade::on(&mut response));
                    }
                    return Ok(HttpResponse::new(parts.status, parts.headers, body));
                }
                Err(mut failed) => {
                    // A pooled connection that was closed before the request was sent.
                    if let (true, Some(unsent)) = (was_pooled, failed.take_message()) {
                        message = unsent;
                        continue;
                    }
                    let error = failed.into_error();
                    let kind = if error.is_parse() { HttpErrorKind::Protocol } else { HttpErrorKind::Broken };
                    return Err(HttpError::new(kind).with_source(error));
                }
            }
        }
    }
}

struct SimBody {
    body: Option<Incoming>,
    upgrade: Option<hyper::upgrade::OnUpgrade>,
}

#[async_trait]
impl HttpBody for SimBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        let Some(body) = &mut self.body else { return Ok(None) };
        loop {
            match body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) => return Err(HttpError::new(HttpErrorKind::Body).with_source(error)),
            }
        }
    }

    async fn upgrade(self: Box<Self>) -> Result<Box<dyn ByteStream>, HttpError> {
        let Some(upgrade) = self.upgrade else { return Err(HttpError::new(HttpErrorKind::Protocol)) };
        match upgrade.await {
            Ok(upgraded) => Ok(Box::new(TokioIo::new(upgraded))),
            Err(error) => Err(HttpError::new(HttpErrorKind::Broken).with_source(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use ringcentral_events::http::{HttpClient as _, HttpErrorKind, HttpRequest, Purpose};

    use super::SimHttp;
    use crate::core::{Core, Shared};
    use crate::net::Host;
    use crate::schedule::{Mode, Schedule};
    use crate::service::knobs::Knobs;
    use crate::service::{HttpFault, Op, Wrong};
    use crate::time::{SEC, Us};

    /// Whether the whole answer arrived, or the failure and whether the request may have been sent.
    type Outcome = Result<u16, (HttpErrorKind, bool)>;

    fn quiet() -> Schedule {
        let mut schedule = Schedule::draw(1, Some(Mode::PubNub));
        (schedule.events, schedule.faults, schedule.knobs) = (Vec::new(), Vec::new(), Knobs::plain());
        schedule
    }

    async fn ask(http: &SimHttp) -> Outcome {
        let url = "https://platform.sim.example/restapi/v1.0/account/~/extension/~/message-sync".parse().unwrap();
        let sent = http.send(HttpRequest::new(http::Method::GET, url, Purpose::Call)).await;
        let seen = |error: &ringcentral_events::http::HttpError| (error.kind(), error.sent());
        let (status, _, mut body) = sent.map_err(|error| seen(&error))?.into_parts();
        while body.chunk().await.map_err(|error| seen(&error))?.is_some() {}
        Ok(status.as_u16())
    }

    fn run(test: impl AsyncFnOnce(Shared, SimHttp)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let shared = Shared::new(Core::new(Arc::new(quiet()), false));
            let drive = tokio::spawn(shared.clone().drive());
            test(shared.clone(), SimHttp::new(shared.clone())).await;
            drive.abort();
            shared.end();
        });
    }

    /// The simulator's side of the table of faults.
    #[test]
    fn each_fault_of_an_exchange_is_of_one_kind_and_says_whether_it_was_sent() {
        let broken: Outcome = Err((HttpErrorKind::Broken, true));
        let body: Outcome = Err((HttpErrorKind::Body, true));
        let table: [(Wrong, Outcome); 8] = [
            (Wrong::ResetBefore, broken),
            (Wrong::ResetAfter, broken),
            (Wrong::CutHead, broken),
            (Wrong::CutBody, body),
            (Wrong::BadLength, body),
            (Wrong::Slow(5_000), Ok(401)),
            (Wrong::Status(503, None), Ok(503)),
            (Wrong::Html, Ok(200)),
        ];
        for (wrong, expected) in table {
            run(async |shared, http| {
                let fault = HttpFault { op: Op::Sync, wrong, left: 1, until: Us::MAX };
                shared.with(|core| core.service.faults.push(fault));
                assert_eq!(ask(&http).await, expected, "{wrong:?}");
                assert_eq!(ask(&http).await, Ok(401), "the next one is served, after {wrong:?}");
            });
        }
    }

    #[test]
    fn a_connection_that_is_refused_or_never_made_sends_nothing() {
        run(async |shared, http| {
            shared.with(|core| core.net.refuse(Host::Platform, core.now() + SEC));
            assert_eq!(ask(&http).await, Err((HttpErrorKind::Connect, false)));
            shared.with(|core| core.net.hang(Host::Platform, core.now() + 60 * SEC));
            assert_eq!(ask(&http).await, Err((HttpErrorKind::Timeout, false)));
        });
    }

    #[test]
    fn a_pooled_connection_that_was_closed_meanwhile_is_replaced() {
        run(async |shared, http| {
            assert_eq!(ask(&http).await, Ok(401));
            tokio::time::sleep(Duration::from_secs(30)).await;
            assert_eq!(ask(&http).await, Ok(401));
            assert_eq!(shared.with(|core| core.net.client_open_most), 1, "the connection was used again");
            tokio::time::sleep(Duration::from_secs(100)).await;
            assert_eq!(ask(&http).await, Ok(401), "the service closed it after a minute");
        });
    }
}
