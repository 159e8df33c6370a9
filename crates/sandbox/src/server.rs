//! The IO: listeners, connections, and the faults that act on them.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::clock::later;
use super::digital;
use super::faults::{Action, Hit};
use super::http::{Call, Reply, empty_reply};
use super::link::{Link, LinkControl};
use super::requests::{Operation, Service};
use super::shared::Shared;
use super::{agent, center, control, gateway, rest, socket, subscribe};

/// Larger than any request body of the service.
const MAX_BODY: usize = 4 << 20;
const BACKLOG: i32 = 1024;
/// Delay before a failed `accept` or rebind is retried.
const RETRY: Duration = Duration::from_millis(20);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A loopback port that stays reserved while its server is down.
#[derive(Debug)]
pub(crate) struct Port {
    address: SocketAddr,
    /// Bound but never listening, so that no other process takes the port while the server is down.
    /// On Linux a second socket may bind beside it; on other systems it is `None`.
    _reserved: Option<Socket>,
}

fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

impl Port {
    /// Binds `port` on loopback, any free one for 0, and listens.
    pub(crate) fn open(port: u16) -> io::Result<(Self, TcpListener)> {
        let first = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        let address = first.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        if cfg!(target_os = "linux") {
            let port = Self { address, _reserved: Some(first) };
            let listener = port.listen()?;
            return Ok((port, listener));
        }
        let listener = listening(first)?;
        Ok((Self { address, _reserved: None }, listener))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    fn listen(&self) -> io::Result<TcpListener> {
        listening(bound(self.address)?)
    }
}

fn listening(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Starts and stops one server as the state requires. Dropping it ends its connections too.
pub(crate) async fn keep(shared: Arc<Shared>, service: Service, port: Port, first: TcpListener) {
    let power = shared.lock().servers.of(service).power();
    let mut listener = Some(first);
    let mut connections = JoinSet::new();
    loop {
        let wanted = shared.lock().servers.of(service).is_wanted_up();
        if wanted && listener.is_none() {
            match port.listen() {
                Ok(bound) => listener = Some(bound),
                Err(error) => {
                    tracing::warn!(?service, %error, "the sandbox failed to listen; retrying");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            }
        }
        if !wanted && listener.take().is_some() {
            connections.shutdown().await;
        }
        let listening = listener.is_some();
        shared.update(|state| state.servers.of(service).listening = listening);
        tracing::debug!(?service, listening, "sandbox server");
        match &listener {
            Some(listener) => accept(&shared, service, listener, &mut connections, &power).await,
            None => power.notified().await,
        }
    }
}

/// Accepts connections until the server is stopped.
async fn accept(
    shared: &Arc<Shared>,
    service: Service,
    listener: &TcpListener,
    connections: &mut JoinSet<()>,
    power: &tokio::sync::Notify,
) {
    loop {
        tokio::select! {
            () = power.notified() => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(Arc::clone(shared), service, stream));
                }
                Err(error) => {
                    // Probably out of file descriptors: some will be free soon.
                    tracing::warn!(?service, %error, "the sandbox failed to accept; retrying");
                    tokio::time::sleep(RETRY).await;
                }
            },
        }
    }
}

/// Counts a connection while it is open.
struct Counted {
    shared: Arc<Shared>,
    service: Service,
    id: u64,
}

impl Counted {
    fn new(shared: &Arc<Shared>, service: Service, control: &Arc<LinkControl>) -> Self {
        let id = shared.update(|state| state.servers.of(service).connected(control));
        Self { shared: Arc::clone(shared), service, id }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.update(|state| state.servers.of(self.service).disconnected(self.id));
    }
}

async fn connection(shared: Arc<Shared>, service: Service, stream: TcpStream) {
    let control = Arc::new(LinkControl::new());
    let _counted = Counted::new(&shared, service, &control);
    // Responses are small and latency matters more than batching.
    let _ = stream.set_nodelay(true);
    let link = Link::new(stream, Arc::clone(&control));
    if service == Service::Gateway {
        return tokio::select! {
            () = upgradable(&shared, &control, link) => {}
            () = control.cut.notified() => {}
        };
    }
    let io = TokioIo::new(link);
    let answering = service_fn(|request| answer(Arc::clone(&shared), Arc::clone(&control), service, request));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().header_read_timeout(None);
    let mut serving = pin!(builder.serve_connection(io, answering));
    loop {
        tokio::select! {
            served = serving.as_mut() => {
                if let Err(error) = served {
                    tracing::trace!(?service, error = %error, "a sandbox connection broke");
                }
                return;
            }
            () = control.cut.notified() => return,
            () = control.finish.notified() => serving.as_mut().graceful_shutdown(),
        }
    }
}

/// A gateway connection: serves requests until an upgrade.
async fn upgradable(shared: &Arc<Shared>, control: &Arc<LinkControl>, link: Link) {
    let upgrade = Mutex::new(None);
    let answering = service_fn(|mut request: Request<Incoming>| {
        let upgraded = hyper::upgrade::on(&mut request);
        let answer = answer(Arc::clone(shared), Arc::clone(control), Service::Gateway, request);
        let upgrade = &upgrade;
        async move {
            let mut response = answer.await?;
            if let Some(admitted) = response.extensions_mut().remove::<gateway::Admitted>() {
                *upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some((upgraded, admitted));
            }
            Ok::<_, NoAnswer>(response)
        }
    });
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None);
    if let Err(error) = builder.serve_connection(TokioIo::new(link), answering).with_upgrades().await {
        tracing::trace!(error = %error, "a connection to the sandbox's gateway broke");
    }
    let Some((upgraded, admitted)) = upgrade.into_inner().unwrap_or_else(PoisonError::into_inner) else { return };
    let Ok(upgraded) = upgraded.await else { return };
    // Recovers our link, with the bytes read past the request.
    if let Ok(parts) = upgraded.downcast::<TokioIo<Link>>() {
        socket::serve(shared, control, parts.io.into_inner(), parts.read_buf, admitted).await;
    }
}

/// Why a connection ends without a response.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("the request is incomplete")]
    Request,
    #[error("scripted")]
    Scripted,
}

async fn read(shared: &Shared, request: Request<Incoming>) -> Result<Result<Call, Reply>, NoAnswer> {
    let (mut head, body) = request.into_parts();
    // HTTP/2 has the host in the authority.
    if let (Some(authority), false) = (head.uri.authority(), head.headers.contains_key(http::header::HOST))
        && let Ok(host) = http::HeaderValue::from_str(authority.as_str())
    {
        head.headers.insert(http::header::HOST, host);
    }
    let body = match Limited::new(body, body_limit(head.uri.path())).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return Ok(Err(too_large(shared, head.uri.path())));
        }
        Err(_) => return Err(NoAnswer::Request),
    };
    Ok(Ok(Call {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body,
        socket: None,
    }))
}

fn body_limit(path: &str) -> usize {
    if digital::source_of(path).is_some() { digital::request_limit() } else { MAX_BODY }
}

fn too_large(shared: &Shared, path: &str) -> Reply {
    if digital::source_of(path).is_some() {
        return digital::too_large(shared);
    }
    empty_reply(StatusCode::PAYLOAD_TOO_LARGE)
}

async fn answer(
    shared: Arc<Shared>,
    link: Arc<LinkControl>,
    service: Service,
    request: Request<Incoming>,
) -> Result<Response<Body>, NoAnswer> {
    let call = match read(&shared, request).await? {
        Ok(call) => call,
        Err(reply) => return Ok(whole(reply)),
    };
    if service == Service::Api && control::is_control(&call) {
        return Ok(whole(control::handle(&shared, &call)));
    }
    let operation = match service {
        Service::Api => Operation::of_api(&call),
        Service::PubNub => Operation::of_pubnub(&call),
        Service::Gateway => Operation::Upgrade,
        Service::ContactCenter => center::operation(&call),
    };
    let (sequence, hit) = shared.update(|state| {
        let at = state.ctx.moment().wall;
        let sequence = state.ctx.log.record(service, operation, &call, at);
        (sequence, state.ctx.faults.take(service, operation, &call))
    });
    let response = with_fault(&shared, &link, service, &call, hit).await?;
    shared.update(|state| state.ctx.log.answered(sequence, response.status().as_u16()));
    Ok(response)
}

/// Performs the request.
async fn effect(shared: &Arc<Shared>, link: &LinkControl, service: Service, call: &Call) -> Reply {
    if let (Service::Api, "POST", Some(source)) = (service, call.method.as_str(), digital::source_of(&call.path)) {
        return digital::handle(shared, call, source);
    }
    match service {
        Service::Api => shared.update(|state| rest::handle(state, call)),
        Service::PubNub => subscribe::handle(shared, link, call).await,
        Service::Gateway => shared.update(|state| gateway::admit(&mut state.gateway, &state.ctx, &state.oauth, call)),
        Service::ContactCenter => agent::handle(shared, call).await,
    }
}

async fn with_fault(
    shared: &Arc<Shared>,
    link: &LinkControl,
    service: Service,
    call: &Call,
    hit: Option<Hit>,
) -> Result<Response<Body>, NoAnswer> {
    let Some(Hit { action, after_effect }) = hit else {
        return Ok(whole(effect(shared, link, service, call).await));
    };
    let served = if after_effect { Some(effect(shared, link, service, call).await) } else { None };
    if let Some(reply) = action.own_reply() {
        return Ok(whole(reply));
    }
    match action {
        Action::Close | Action::CloseCode { .. } => return Err(NoAnswer::Scripted),
        Action::Reset => {
            link.reset();
            return std::future::pending().await;
        }
        Action::Hang => return std::future::pending().await,
        Action::Delay { by } => tokio::time::sleep(by).await,
        Action::Blackhole
        | Action::ResetMidBody
        | Action::CutJson
        | Action::Drip { .. }
        | Action::Twice
        | Action::Binary
        | Action::Padded { .. }
        | Action::Boundary
        | Action::Amend(_)
        | Action::Garbage { .. }
        | Action::ErrorFrame { .. }
        | Action::Status { .. }
        | Action::Code { .. } => {}
    }
    let reply = match served {
        Some(reply) => reply,
        None => effect(shared, link, service, call).await,
    };
    Ok(match action {
        Action::Blackhole => {
            link.silence();
            whole(reply)
        }
        Action::ResetMidBody if reply.body().is_empty() => {
            // There is no middle to cut at: the response never begins.
            link.reset();
            return std::future::pending().await;
        }
        Action::ResetMidBody => {
            link.cut_body_after(reply.body().len() / 2);
            whole(reply)
        }
        Action::CutJson => {
            let (parts, body) = reply.into_parts();
            whole(Response::from_parts(parts, body.slice(..body.len() / 2)))
        }
        Action::Drip { chunk, every } => dripping(reply, chunk, every),
        Action::Amend(amend) if amend.chunked => chunked(amend.apply(reply)),
        Action::Amend(amend) => whole(amend.apply(reply)),
        _ => whole(reply),
    })
}

fn whole(reply: Reply) -> Response<Body> {
    if reply.headers().contains_key(http::header::CONTENT_LENGTH) {
        // Chunked, because a body of known size would have to match the scripted length.
        return chunked(reply);
    }
    reply.map(|body| Full::new(body).boxed_unsync())
}

/// Sends the body in pieces. The length is announced, so that a client knows that more follows.
fn dripping(reply: Reply, chunk: usize, every: Duration) -> Response<Body> {
    let (mut parts, body) = reply.into_parts();
    announce(&mut parts.headers, body.len());
    let drip = Drip { rest: body, chunk, every, pause: Box::pin(tokio::time::sleep(Duration::ZERO)) };
    Response::from_parts(parts, StreamBody::new(drip).boxed_unsync())
}

/// Sends the body chunked, in two pieces.
fn chunked(reply: Reply) -> Response<Body> {
    reply.map(|mut body| {
        let first = body.split_to(body.len() / 2);
        // Each piece is sent before the next is created, including the end: a connection that
        // breaks does so after the complete first piece.
        let pieces = futures_util::stream::iter([first, body, Bytes::new()]).then(async |piece| {
            tokio::task::yield_now().await;
            Ok(Frame::data(piece))
        });
        StreamBody::new(pieces).boxed_unsync()
    })
}

fn announce(headers: &mut HeaderMap, length: usize) {
    headers.insert(http::header::CONTENT_LENGTH, http::HeaderValue::from(length));
}

struct Drip {
    rest: Bytes,
    chunk: usize,
    every: Duration,
    pause: Pin<Box<tokio::time::Sleep>>,
}

impl Stream for Drip {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        match self.pause.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                let length = self.chunk.min(self.rest.len());
                let piece = self.rest.split_to(length);
                let next = later(tokio::time::Instant::now(), self.every);
                self.pause.as_mut().reset(next);
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
        }
    }
}
