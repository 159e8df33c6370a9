//! A server with hand-written answers.

use std::net::SocketAddr;

use ringcentral_events::Secret;
use ringcentral_events::control::Cursor;
use ringcentral_events::transport::{
    Frame, FrameBody, Link, LinkBatch, LinkEvent, PossibleLoss, PubNub, PubNubBuilder, Target, Transport,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

pub(crate) use super::common::*;

pub(crate) const KEY: &str = "sub-c-5ub5cr1be";
pub(crate) const CHANNEL: &str = "54770517599294_6dda849e";
pub(crate) const TT: &str = "17000000000000000";

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    polls: UnboundedReceiver<Request>,
    times: UnboundedReceiver<Request>,
    leaves: UnboundedReceiver<Request>,
    accepting: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[derive(Clone)]
struct Inbox {
    polls: UnboundedSender<Request>,
    times: UnboundedSender<Request>,
    leaves: UnboundedSender<Request>,
}

/// A request whose answer is still to be written.
pub(crate) struct Request {
    /// Path and query.
    pub(crate) line: String,
    stream: TcpStream,
    inbox: Inbox,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (polls, polls_in) = unbounded_channel();
        let (times, times_in) = unbounded_channel();
        let (leaves, leaves_in) = unbounded_channel();
        let inbox = Inbox { polls, times, leaves };
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(receive(stream, inbox.clone()));
            }
        });
        Self { address, polls: polls_in, times: times_in, leaves: leaves_in, accepting }
    }

    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) async fn poll(&mut self) -> Request {
        soon(self.polls.recv()).await.unwrap()
    }

    pub(crate) async fn time(&mut self) -> Request {
        soon(self.times.recv()).await.unwrap()
    }

    pub(crate) async fn leave(&mut self) -> Request {
        soon(self.leaves.recv()).await.unwrap()
    }

    /// Requests that no test has taken: polls, times, leaves.
    pub(crate) fn waiting(&self) -> (usize, usize, usize) {
        (self.polls.len(), self.times.len(), self.leaves.len())
    }
}

/// Reads one request from the connection.
async fn receive(mut stream: TcpStream, inbox: Inbox) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let line = head.split(' ').nth(1).unwrap().to_owned();
    let to = match &line {
        line if line.contains("/v2/subscribe/") => &inbox.polls,
        line if line.contains("/time/0") => &inbox.times,
        line if line.contains("/leave") => &inbox.leaves,
        line => panic!("unexpected request {line}"),
    }
    .clone();
    // A test that has ended needs no more requests.
    let _ = to.send(Request { line, stream, inbox });
}

impl Request {
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let url = url::Url::parse(&format!("http://x{}", self.line)).unwrap();
        url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    pub(crate) fn position(&self) -> (String, Option<String>) {
        (self.query("tt").unwrap(), self.query("tr"))
    }

    /// Writes `bytes` and keeps the connection open for the next request.
    pub(crate) async fn raw(mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        tokio::spawn(receive(self.stream, self.inbox));
    }

    /// Writes `bytes` and closes the connection.
    pub(crate) async fn raw_and_close(mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.shutdown().await.unwrap();
    }

    /// Writes `bytes` and resets the connection.
    pub(crate) async fn raw_and_reset(mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.set_zero_linger().unwrap();
    }

    pub(crate) async fn status(self, status: &str, headers: &str, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let mut answer = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len()).into_bytes();
        answer.extend_from_slice(body);
        self.raw(answer).await;
    }

    pub(crate) async fn json(self, body: impl AsRef<[u8]>) {
        self.status("200 OK", "content-type: text/javascript; charset=\"UTF-8\"\r\n", body).await;
    }

    /// Waits for the client to close the connection without an answer.
    pub(crate) async fn closed_by_client(mut self) {
        let end = soon(self.stream.read(&mut [0; 1])).await;
        assert!(matches!(end, Ok(0) | Err(_)), "the client sent more: {end:?}");
    }
}

/// An answer with the numbered messages of `numbers`, next position `tt` in
/// region 4.
pub(crate) fn answer(tt: &str, numbers: impl IntoIterator<Item = usize>) -> String {
    let messages: Vec<String> =
        numbers.into_iter().map(|n| format!(r#"{{"a":"1","f":514,"c":"{CHANNEL}","d":{{"n":{n}}}}}"#)).collect();
    format!(r#"{{"t":{{"t":"{tt}","r":4}},"m":[{}]}}"#, messages.join(","))
}

pub(crate) fn cursor(timetoken: &str, region: Option<u32>) -> Cursor {
    serde_json::from_value(serde_json::json!({"ticks": timetoken.parse::<u64>().unwrap(), "detail": region.map(|region| region.to_string())})).unwrap()
}

pub(crate) fn target(cursor: Cursor) -> Target {
    Target {
        subscription_id: "sub-1".into(),
        address: Secret::new(CHANNEL),
        subscriber_key: Secret::new(KEY),
        user_id: Some("100200301".to_owned()),
        cursor,
        last_good: None,
    }
}

pub(crate) fn builder(server: &Server) -> PubNubBuilder {
    PubNub::builder().origin(server.origin())
}

pub(crate) async fn link(server: &Server) -> Box<dyn Link> {
    link_of(builder(server)).await
}

pub(crate) async fn link_of(builder: PubNubBuilder) -> Box<dyn Link> {
    builder.build().unwrap().open(target(cursor(TT, None))).await.unwrap()
}

/// The next batch; skips an `Alive` and a position before it.
pub(crate) async fn batch(link: &mut Box<dyn Link>) -> (Vec<String>, Cursor, Option<PossibleLoss>) {
    loop {
        match soon(link.next()).await.unwrap() {
            LinkEvent::Alive | LinkEvent::At(_) => {}
            LinkEvent::Batch(LinkBatch { frames, cursor, possible_loss, .. }) => {
                return (frames.iter().map(shown).collect(), cursor, possible_loss);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The error that ends the link.
pub(crate) async fn error(link: &mut Box<dyn Link>) -> ringcentral_events::Error {
    loop {
        match soon(link.next()).await {
            Ok(LinkEvent::Alive) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => return error,
        }
    }
}

pub(crate) fn shown(frame: &Frame) -> String {
    match &frame.body {
        FrameBody::Payload(raw) => raw.get().to_owned(),
        FrameBody::Malformed { raw, .. } => format!("malformed {raw}"),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn numbered(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(|n| format!(r#"{{"n":{n}}}"#)).collect()
}
