//! A loopback HTTP server with a scripted reply to each request.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A received request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The number of requests before it.
    pub(crate) n: usize,
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// A field of a form body.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let pairs = url::form_urlencoded::parse(self.body.as_bytes());
        pairs.into_owned().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// The reaction to a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Answer {
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
    },
    /// A TCP reset instead of an answer.
    Reset,
    /// An answer that stops halfway through its body.
    Cut,
    /// No answer, and the connection stays open.
    Hang,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<String>) -> Self {
        Self::Answer { status, headers: Vec::new(), body: body.into() }
    }

    pub(crate) fn code(status: u16, code: &str) -> Self {
        Self::new(status, format!(r#"{{"errors":[{{"errorCode":"{code}","message":"no"}}]}}"#))
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name.into(), value.into()));
        }
        self
    }
}

/// The server; it stops when it is dropped.
pub(crate) struct Scripted {
    address: SocketAddr,
    seen: watch::Sender<Vec<Seen>>,
    _tasks: JoinSet<()>,
}

impl Scripted {
    pub(crate) async fn start<F, Fut>(script: F) -> Self
    where
        F: Fn(Seen) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Reply> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = watch::Sender::new(Vec::new());
        let mut tasks = JoinSet::new();
        let (script, log) = (Arc::new(script), seen.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (script, log) = (script.clone(), log.clone());
                connections.spawn(serve(socket, log, move |seen| {
                    let script = script.clone();
                    async move { script(seen).await }
                }));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, seen, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// Waits until `holds`, which is checked again after each request.
    pub(crate) async fn until(&self, holds: impl Fn() -> bool) {
        let mut requests = self.seen.subscribe();
        while !holds() {
            requests.changed().await.unwrap();
        }
    }

    /// Method and target of each request so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }
}

async fn serve<F, Fut>(mut socket: TcpStream, log: watch::Sender<Vec<Seen>>, script: F)
where
    F: Fn(Seen) -> Fut,
    Fut: Future<Output = Reply>,
{
    let Some(mut seen) = read(&mut socket).await else { return };
    log.send_modify(|log| {
        seen.n = log.len();
        log.push(seen.clone());
    });
    let (text, reset) = match script(seen).await {
        Reply::Answer { status, headers, body } => {
            let mut text = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
            for (name, value) in headers {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
            (format!("{text}\r\n{body}"), false)
        }
        Reply::Cut => ("HTTP/1.1 200 X\r\ncontent-length: 99\r\n\r\n{".to_owned(), false),
        Reply::Reset => (String::new(), true),
        Reply::Hang => std::future::pending().await,
    };
    if reset {
        socket.set_zero_linger().unwrap();
    }
    // The client may have closed already; that is part of some tests.
    let _sent = socket.write_all(text.as_bytes()).await;
}

async fn read(socket: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).ok()?;
    let mut lines = text.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: Vec<(String, String)> =
        lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
    while bytes.len() < head + 4 + length {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8(bytes[head + 4..].to_vec()).ok()?;
    Some(Seen { n: 0, method, target, headers, body })
}

/// The texts of `error` and its causes.
pub(crate) fn texts_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    if let Some(cause) = error.source() {
        text.push_str(&texts_of(cause));
    }
    text
}
