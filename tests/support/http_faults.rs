//! A table of the faults that a connection can inject into an exchange, and a runner that plays each row over the
//! network of a [`Harness`].
//!
//! A row scripts the peer byte by byte and gives the expected result twice: at the [`HttpClient`] trait and for a user
//! of the crate ([`Client`]). The same rows run over real sockets and over simulated ones, so that both agree on "was
//! it sent".

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, Method};
use ringcentral_events::auth::{AccessToken, StaticToken};
use ringcentral_events::http::{HttpClient, HttpError, HttpErrorKind, HttpRequest, Purpose};
use ringcentral_events::policy::BackoffPolicy;
use ringcentral_events::{Client, Disposition, ErrorKind, System};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use url::Url;

/// A network, and an HTTP client on it.
#[async_trait]
pub(crate) trait Harness: Send + Sync {
    /// Whether it supports a row of this protocol.
    fn can(&self, protocol: Protocol) -> bool;

    /// The client under test, which uses HTTP/2 with prior knowledge for [`Protocol::Http2`].
    fn http(&self, protocol: Protocol) -> Arc<dyn HttpClient>;

    /// A listening peer, and its URL; for [`Protocol::Tls`] with `https`.
    async fn listen(&self, protocol: Protocol) -> (Url, Box<dyn Listener>);

    /// A URL that refuses connections, and what reserves it meanwhile: another program may listen at a port that is
    /// free.
    async fn nowhere(&self) -> (Url, Box<dyn Send>);
}

/// Accepts connections.
#[async_trait]
pub(crate) trait Listener: Send {
    /// The next connection.
    async fn accept(&mut self) -> Box<dyn Connection>;
}

/// The peer's side of a connection.
#[async_trait]
pub(crate) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {
    /// Closes it in order: FIN, and over TLS `close_notify` before that.
    async fn close(self: Box<Self>);
    /// Closes it by RST.
    async fn reset(self: Box<Self>);
    /// Closes the bytes below TLS by FIN, without `close_notify`.
    async fn truncate(self: Box<Self>);
}

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1 without TLS.
    Http1,
    /// HTTP/2 without TLS, with prior knowledge.
    Http2,
    /// HTTP/1.1 over TLS.
    Tls,
}

/// A step of the peer on one connection.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Reads one request to its end.
    Request,
    /// Writes these bytes.
    Send(Vec<u8>),
    /// Writes these bytes one by one, and lets the client read each.
    Dribble(Vec<u8>),
    /// FIN.
    Close,
    /// RST.
    Reset,
    /// FIN without TLS `close_notify`.
    Truncate,
    /// FIN, then waits until the client has closed, too.
    CloseAndWait,
    /// Sends nothing until the client closes.
    Silence,
    /// HTTP/2: reads requests and refuses each unprocessed (`RST_STREAM`), until the client closes.
    RefuseAll,
}

/// The result of the exchange at the trait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seam {
    /// Head and body arrive.
    Answer(u16, &'static str),
    /// It fails with this kind. `sent` is `None` where both values are correct, because it is a race.
    Fails(HttpErrorKind, Option<bool>),
    /// No result: deadlines are above the trait.
    Nothing,
}

/// The result of the same exchange for a user of the crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// It succeeds with this body.
    Answer(&'static str),
    /// It fails with this kind, and may have been carried out or not (`None` as above). The disposition is to retry, as
    /// for all network errors.
    Fails(ErrorKind, Option<bool>),
}

/// One fault.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The name of the fault.
    pub(crate) name: &'static str,
    /// The protocol.
    pub(crate) protocol: Protocol,
    /// The method of the request; a POST has a body.
    pub(crate) method: Method,
    /// Whether an earlier request was answered over the same client.
    pub(crate) after_one: bool,
    /// The peer's steps on its first connection, its second, and so on; the last ones apply to all that follow. Empty:
    /// nothing listens.
    pub(crate) peer: Vec<Vec<Step>>,
    /// The result at the trait.
    pub(crate) seam: Seam,
    /// The result for a user.
    pub(crate) call: Call,
    /// How often a user's call reached the peer completely, without the first request. `None` if the client decides
    /// that.
    pub(crate) reached: Option<usize>,
}

const HEAD: &str = "HTTP/1.1 200 OK\r\n";

fn send(text: impl Into<String>) -> Step {
    Step::Send(text.into().into_bytes())
}

/// An HTTP/1.1 answer.
fn whole(body: &str) -> Step {
    send(format!("{HEAD}content-length: {}\r\n\r\n{body}", body.len()))
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Step {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    Step::Send([&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat())
}

/// HTTP/2 `HEADERS`: `:status: 200`, the body to come.
fn head2(stream: u32) -> Step {
    frame(1, 0x4, stream, &[0x88])
}

/// HTTP/2 `DATA`, the last.
fn data2(stream: u32, body: &str) -> Step {
    frame(0, 0x1, stream, body.as_bytes())
}

fn rst_stream(stream: u32, code: u32) -> Step {
    frame(3, 0, stream, &code.to_be_bytes())
}

/// Streams up to `last` were or will be processed.
fn goaway(last: u32, code: u32) -> Step {
    frame(7, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

// HTTP/2 error codes.
const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// The table.
pub(crate) fn rows() -> Vec<Row> {
    use HttpErrorKind::{Body, Broken, Connect, Protocol as NotHttp};
    use Step::{Close, CloseAndWait, Dribble, RefuseAll, Request, Reset, Silence, Truncate};
    let (broke, late) = (ErrorKind::Network, ErrorKind::Timeout);
    let (sent, unsent) = (Some(true), Some(false));
    let row = |name, peer: Vec<Vec<Step>>, seam: Seam, call: Call, reached: Option<usize>| Row {
        name,
        protocol: Protocol::Http1,
        method: Method::POST,
        after_one: false,
        peer,
        seam,
        call,
        reached,
    };
    let lost = |kind| (Seam::Fails(kind, sent), Call::Fails(broke, sent), Some(1));
    let fault = |name, steps: Vec<Step>, (seam, call, reached)| row(name, vec![steps], seam, call, reached);
    let fine = |body| (Seam::Answer(200, body), Call::Answer(body), Some(1));
    let h2 = |row: Row| Row { protocol: Protocol::Http2, ..row };
    let tls = |row: Row| Row { protocol: Protocol::Tls, ..row };
    let pooled = |row: Row| Row { after_one: true, ..row };
    // A call that was certainly not carried out is retried three times.
    let undone = (Seam::Fails(Broken, unsent), Call::Fails(broke, unsent), None);

    vec![
        // No connection.
        row("refused", vec![], Seam::Fails(Connect, unsent), Call::Fails(broke, unsent), Some(0)),
        row("reset when accepted", vec![vec![Reset]], Seam::Fails(Broken, None), Call::Fails(broke, None), Some(0)),
        row("closed when accepted", vec![vec![Close]], Seam::Fails(Broken, None), Call::Fails(broke, None), Some(0)),
        // Before, within and after the head.
        fault("reset before the head", vec![Request, Reset], lost(Broken)),
        fault("closed before the head", vec![Request, Close], lost(Broken)),
        fault("reset within the head", vec![Request, send("HTTP/1.1 200 O"), Reset], lost(Broken)),
        fault("closed within the head", vec![Request, send(HEAD), Close], lost(Broken)),
        fault(
            "reset after the head",
            vec![Request, send(format!("{HEAD}content-length: 9\r\n\r\n")), Reset],
            lost(Body),
        ),
        fault("not HTTP", vec![Request, send("SSH-2.0-OpenSSH_9.6\r\n"), Close], lost(NotHttp)),
        // Bodies.
        fault(
            "a body cut by FIN",
            vec![Request, send(format!("{HEAD}content-length: 9\r\n\r\n{{\"a\"")), Close],
            lost(Body),
        ),
        fault(
            "a body cut by RST",
            vec![Request, send(format!("{HEAD}content-length: 9\r\n\r\n{{\"a\"")), Reset],
            lost(Body),
        ),
        fault(
            "chunks without an end",
            vec![Request, send(format!("{HEAD}transfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n")), Close],
            lost(Body),
        ),
        fault(
            "a chunk with a wrong length",
            vec![Request, send(format!("{HEAD}transfer-encoding: chunked\r\n\r\n9\r\n{{}}\r\n0\r\n\r\n")), Close],
            lost(Body),
        ),
        fault("a body up to FIN", vec![Request, send(format!("{HEAD}\r\n{{}}")), Close], fine("{}")),
        fault("a body without a length cut by RST", vec![Request, send(format!("{HEAD}\r\n{{}}")), Reset], lost(Body)),
        fault(
            "a length that is too large, and then nothing",
            vec![Request, send(format!("{HEAD}content-length: 9\r\n\r\n{{}}")), Silence],
            (Seam::Nothing, Call::Fails(late, sent), Some(1)),
        ),
        fault(
            "a length that is too small",
            vec![Request, send(format!("{HEAD}content-length: 2\r\n\r\n{{}} and more")), Close],
            fine("{}"),
        ),
        // Slow.
        fault("nothing at all", vec![Request, Silence], (Seam::Nothing, Call::Fails(late, sent), Some(1))),
        fault(
            "half a head and then nothing",
            vec![Request, send(HEAD), Silence],
            (Seam::Nothing, Call::Fails(late, sent), Some(1)),
        ),
        fault(
            "byte by byte",
            vec![Request, Dribble(format!("{HEAD}content-length: 2\r\n\r\n{{}}").into_bytes()), Close],
            fine("{}"),
        ),
        // Redirects.
        fault(
            "a redirect of a POST",
            vec![
                Request,
                send("HTTP/1.1 307 T\r\nlocation: /x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"),
                Close,
            ],
            // 307 says that it was not carried out, so it is tried again.
            (Seam::Answer(307, ""), Call::Fails(ErrorKind::Protocol, unsent), None),
        ),
        Row {
            method: Method::GET,
            ..fault(
                "a redirect of a GET",
                vec![
                    Request,
                    send("HTTP/1.1 302 F\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n"),
                    Request,
                    whole("{}"),
                    Close,
                ],
                (Seam::Answer(302, ""), Call::Answer("{}"), Some(2)),
            )
        },
        // A pooled connection.
        pooled(row(
            "a pooled connection that was closed",
            vec![vec![Request, whole("{}"), CloseAndWait], vec![Request, whole("[]"), Close]],
            Seam::Answer(200, "[]"),
            Call::Answer("[]"),
            Some(1),
        )),
        pooled(row(
            "a pooled connection that closes on the request",
            vec![vec![Request, whole("{}"), Request, Close], vec![Request, whole("[]"), Close]],
            Seam::Fails(Broken, sent),
            Call::Fails(broke, sent),
            Some(1),
        )),
        pooled(row(
            "a pooled connection that is reset on the request",
            vec![vec![Request, whole("{}"), Request, Reset], vec![Request, whole("[]"), Close]],
            Seam::Fails(Broken, sent),
            Call::Fails(broke, sent),
            Some(1),
        )),
        // HTTP/2.
        h2(fault("HTTP/2: an answer", vec![Request, head2(1), data2(1, "{}"), Silence], fine("{}"))),
        h2(fault("HTTP/2: nothing at all", vec![Request, Silence], (Seam::Nothing, Call::Fails(late, sent), Some(1)))),
        h2(fault("HTTP/2: reset of the connection", vec![Request, Reset], lost(Broken))),
        h2(fault("HTTP/2: end of the connection", vec![Request, Close], lost(Broken))),
        h2(fault("HTTP/2: end within the body", vec![Request, head2(1), Close], lost(Body))),
        h2(fault("HTTP/2: RST_STREAM", vec![Request, rst_stream(1, INTERNAL_ERROR), Silence], lost(Broken))),
        h2(fault(
            "HTTP/2: RST_STREAM within the body",
            vec![Request, head2(1), rst_stream(1, CANCEL), Silence],
            lost(Body),
        )),
        h2(fault("HTTP/2: RST_STREAM, unprocessed", vec![RefuseAll], undone.clone())),
        h2(fault("HTTP/2: GOAWAY, unprocessed", vec![Request, goaway(0, NO_ERROR), Close], undone.clone())),
        h2(fault(
            "HTTP/2: GOAWAY, unprocessed and delivered off",
            vec![Request, goaway(0, ENHANCE_YOUR_CALM), Close],
            undone,
        )),
        h2(row(
            "HTTP/2: GOAWAY, unprocessed, and another connection",
            vec![vec![Request, goaway(0, NO_ERROR), Close], vec![Request, head2(1), data2(1, "{}"), Silence]],
            Seam::Answer(200, "{}"),
            Call::Answer("{}"),
            Some(2),
        )),
        h2(fault(
            "HTTP/2: GOAWAY that covers the request, and its answer",
            vec![Request, goaway(1, NO_ERROR), head2(1), data2(1, "{}"), Close],
            fine("{}"),
        )),
        h2(fault(
            "HTTP/2: GOAWAY that covers the request, and no answer",
            vec![Request, goaway(1, NO_ERROR), Close],
            lost(Broken),
        )),
        h2(fault(
            "HTTP/2: GOAWAY by a fault, and no answer",
            vec![Request, goaway(1, INTERNAL_ERROR), Close],
            lost(Broken),
        )),
        // TLS.
        tls(fault(
            "TLS: a body up to the end of TLS",
            vec![Request, send(format!("{HEAD}\r\n{{}}")), Close],
            fine("{}"),
        )),
        tls(fault(
            "TLS: truncated, a body without a length",
            vec![Request, send(format!("{HEAD}\r\n{{}}")), Truncate],
            lost(Body),
        )),
        tls(fault("TLS: truncated before the head", vec![Request, Truncate], lost(Broken))),
        tls(fault(
            "TLS: truncated, a body cut",
            vec![Request, send(format!("{HEAD}content-length: 9\r\n\r\n{{}}")), Truncate],
            lost(Body),
        )),
    ]
}

/// The deadline of a user's call without an answer. The wait itself is under test; everything else ends by itself.
const PATIENCE: Duration = Duration::from_millis(400);
/// A limit for a hanging test.
const HANG: Duration = Duration::from_secs(60);

/// Plays `row` and reports differences from its expected results.
pub(crate) async fn run(row: &Row, harness: &dyn Harness) -> Result<(), String> {
    if !harness.can(row.protocol) {
        return Ok(());
    }
    let (url, peer) = start(row, harness).await;
    let seam = at_the_seam(row, &*harness.http(row.protocol), &url, &peer).await;
    let as_said = match (&seam, &row.seam) {
        (Seam::Fails(kind, sent), Seam::Fails(want, want_sent)) => {
            kind == want && (want_sent.is_none() || sent == want_sent)
        }
        (is, want) => is == want,
    };
    if !as_said {
        return Err(format!("{}: {seam:?} at the seam, not {:?}", row.name, row.seam));
    }
    drop(peer);
    let (url, peer) = start(row, harness).await;
    let call = as_a_call(row, harness.http(row.protocol), &url, &peer).await?;
    let as_said = match (&call, &row.call) {
        (Call::Fails(kind, unclear), Call::Fails(want, want_unclear)) => {
            kind == want && (want_unclear.is_none() || unclear == want_unclear)
        }
        (is, want) => is == want,
    };
    if !as_said {
        return Err(format!("{}: {call:?} for a user, not {:?}", row.name, row.call));
    }
    let reached = peer.reached() - usize::from(row.after_one);
    match row.reached {
        Some(want) if want != reached => Err(format!("{}: reached the peer {reached} times, not {want}", row.name)),
        _ => Ok(()),
    }
}

/// Plays a row's peer; ends when dropped.
struct Peer {
    task: Option<tokio::task::JoinHandle<()>>,
    /// The number of requests that were read completely, and of connections that were played to their end.
    seen: Arc<Mutex<(usize, usize)>>,
    changed: Arc<tokio::sync::Notify>,
    /// An address at which nothing listens.
    _reserved: Option<Box<dyn Send>>,
}

impl Peer {
    fn reached(&self) -> usize {
        self.seen.lock().unwrap().0
    }

    async fn first_connection_is_over(&self) {
        loop {
            let changed = self.changed.notified();
            if self.seen.lock().unwrap().1 > 0 {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn start(row: &Row, harness: &dyn Harness) -> (Url, Peer) {
    let (seen, changed) = (Arc::<Mutex<(usize, usize)>>::default(), Arc::new(tokio::sync::Notify::new()));
    if row.peer.is_empty() {
        let (url, reserved) = harness.nowhere().await;
        return (url, Peer { task: None, seen, changed, _reserved: Some(reserved) });
    }
    let (url, mut listener) = harness.listen(row.protocol).await;
    let (scripts, protocol) = (row.peer.clone(), row.protocol);
    let (delivered, changes) = (seen.clone(), changed.clone());
    let task = tokio::spawn(async move {
        let mut playing = tokio::task::JoinSet::new();
        for number in 0.. {
            let connection = listener.accept().await;
            let script = scripts[number.min(scripts.len() - 1)].clone();
            let (delivered, changes) = (delivered.clone(), changes.clone());
            playing.spawn(async move {
                play(script, protocol, connection, &delivered).await;
                delivered.lock().unwrap().1 += 1;
                changes.notify_waiters();
            });
        }
    });
    (url, Peer { task: Some(task), seen, changed, _reserved: None })
}

/// Plays one connection. Write errors mean that the client has closed.
async fn play(
    script: Vec<Step>,
    protocol: Protocol,
    mut connection: Box<dyn Connection>,
    seen: &Mutex<(usize, usize)>,
) {
    let mut streams = Streams::default();
    for step in script {
        let written = match step {
            Step::Request => {
                let read = match protocol {
                    Protocol::Http1 | Protocol::Tls => read_request(&mut connection).await,
                    Protocol::Http2 => streams.read_request(&mut connection).await.map(drop),
                };
                if read.is_ok() {
                    seen.lock().unwrap().0 += 1;
                }
                read
            }
            Step::Send(bytes) => write(&mut connection, &bytes).await,
            Step::Dribble(bytes) => {
                let mut outcome = Ok(());
                for byte in bytes {
                    outcome = outcome.and(write(&mut connection, &[byte]).await);
                    tokio::task::yield_now().await;
                }
                outcome
            }
            Step::Close => return connection.close().await,
            Step::Reset => return connection.reset().await,
            Step::Truncate => return connection.truncate().await,
            Step::CloseAndWait => {
                let _gone = connection.shutdown().await;
                read_out(&mut connection).await;
                return;
            }
            Step::Silence => return read_out(&mut connection).await,
            Step::RefuseAll => loop {
                let Ok(stream) = streams.read_request(&mut connection).await else { return };
                seen.lock().unwrap().0 += 1;
                let Step::Send(refusal) = rst_stream(stream, REFUSED_STREAM) else { return };
                if write(&mut connection, &refusal).await.is_err() {
                    return;
                }
            },
        };
        if written.is_err() {
            return;
        }
    }
}

async fn write(connection: &mut Box<dyn Connection>, bytes: &[u8]) -> std::io::Result<()> {
    connection.write_all(bytes).await?;
    connection.flush().await
}

/// Reads until the client closes.
async fn read_out(connection: &mut Box<dyn Connection>) {
    let mut rest = [0; 1024];
    while matches!(connection.read(&mut rest).await, Ok(1..)) {}
}

/// Reads an HTTP/1.1 request to its end.
async fn read_request(connection: &mut Box<dyn Connection>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    connection.read_exact(&mut body).await.map(drop)
}

/// The peer's side of HTTP/2, as far as needed to read requests.
#[derive(Default)]
struct Streams {
    begun: bool,
}

impl Streams {
    /// Reads frames until a stream's request has ended; returns the stream.
    async fn read_request(&mut self, connection: &mut Box<dyn Connection>) -> std::io::Result<u32> {
        const SETTINGS: u8 = 4;
        const ACK: u8 = 1;
        const END_STREAM: u8 = 1;
        if !self.begun {
            self.begun = true;
            let mut preface = [0; 24];
            connection.read_exact(&mut preface).await?;
            write(connection, &[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]).await?;
        }
        loop {
            let mut head = [0; 9];
            connection.read_exact(&mut head).await?;
            let [a, b, c, kind, flags, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            connection.read_exact(&mut payload).await?;
            match kind {
                SETTINGS if flags & ACK == 0 => write(connection, &[0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0]).await?,
                // HEADERS and DATA.
                0 | 1 if flags & END_STREAM != 0 => return Ok(u32::from_be_bytes(stream)),
                _ => {}
            }
        }
    }
}

fn request(row: &Row, url: &Url) -> HttpRequest {
    let url = url.join("/x").unwrap();
    let body = if row.method == Method::POST { "{\"n\":1}" } else { "" };
    HttpRequest::new(row.method.clone(), url, Purpose::Call).with_body(body)
}

async fn exchange(http: &dyn HttpClient, request: HttpRequest) -> Result<(u16, String), HttpError> {
    let (status, _, mut body): (_, HeaderMap, _) = http.send(request).await?.into_parts();
    let mut bytes = Vec::new();
    while let Some(chunk) = body.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok((status.as_u16(), String::from_utf8(bytes).unwrap()))
}

async fn at_the_seam(row: &Row, http: &dyn HttpClient, url: &Url, peer: &Peer) -> Seam {
    if row.after_one {
        exchange(http, request(row, url)).await.unwrap();
        if matches!(row.peer[0].last(), Some(Step::CloseAndWait)) {
            peer.first_connection_is_over().await;
        }
    }
    let patience = if row.seam == Seam::Nothing { PATIENCE } else { HANG };
    match tokio::time::timeout(patience, exchange(http, request(row, url))).await {
        Ok(Ok((status, body))) => Seam::Answer(status, Box::leak(body.into_boxed_str())),
        Ok(Err(error)) => Seam::Fails(error.kind(), Some(error.sent())),
        Err(_) => Seam::Nothing,
    }
}

async fn as_a_call(row: &Row, http: Arc<dyn HttpClient>, url: &Url, peer: &Peer) -> Result<Call, String> {
    let late = matches!(row.call, Call::Fails(ErrorKind::Timeout, _));
    let client = Client::builder(StaticToken::new(AccessToken::new("t")))
        .server(url.origin().ascii_serialization())
        .system(System::new().with_http(http))
        .backoff(BackoffPolicy::new().base(Duration::from_millis(1)).cap(Duration::from_millis(2)))
        .deadline(if late { PATIENCE } else { HANG })
        .build()
        .map_err(|error| error.to_string())?;
    let call = || async {
        let call = client.request(row.method.clone(), "/x").idempotent(false);
        let call = if row.method == Method::POST { call.body("{\"n\":1}", "application/json") } else { call };
        call.send().await
    };
    if row.after_one {
        call().await.map_err(|error| format!("{}: the first request: {error}", row.name))?;
        if matches!(row.peer[0].last(), Some(Step::CloseAndWait)) {
            peer.first_connection_is_over().await;
        }
    }
    match call().await {
        Ok(answer) => Ok(Call::Answer(Box::leak(answer.text().into_owned().into_boxed_str()))),
        Err(error) if error.disposition() != (Disposition::Retry { after: None }) => {
            Err(format!("{}: {error} is not to be retried", row.name))
        }
        Err(error) => Ok(Call::Fails(error.kind(), Some(error.is_ambiguous()))),
    }
}
