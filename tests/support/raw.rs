//! A PubNub server with the test's own answers: for behavior that a sandbox cannot be scripted to show, and for more
//! messages than it can produce in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The reaction to one poll.
pub(crate) enum Answer {
    /// 200 with this JSON; the connection stays.
    Json(String),
    /// These bytes, then the connection is closed.
    RawAndClose(Vec<u8>),
    /// No answer, for as long as the client waits.
    Hold,
}

/// Answers polls by a function of their timetoken; answers leaves and time requests normally.
pub(crate) struct RawPubNub {
    origin: String,
    polls: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl Drop for RawPubNub {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl RawPubNub {
    /// `answer` gets the number of the poll, from 0, and its timetoken.
    pub(crate) async fn start(answer: impl Fn(u64, u64) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let polls = Arc::new(AtomicU64::new(0));
        let (answer, counter) = (Arc::new(answer), polls.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer.clone(), counter.clone()));
            }
        });
        Self { origin, polls, accepting }
    }

    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    pub(crate) fn polls(&self) -> u64 {
        self.polls.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, answer: Arc<impl Fn(u64, u64) -> Answer + Send + Sync>, polls: Arc<AtomicU64>) {
    let mut buffer = Vec::new();
    while let Some(target) = request(&mut stream, &mut buffer).await {
        let reply = if target.contains("/v2/subscribe/") {
            let url = url::Url::parse(&format!("http://x{target}")).unwrap();
            let timetoken = url.query_pairs().find(|(name, _)| name == "tt").unwrap().1.parse().unwrap();
            answer(polls.fetch_add(1, Ordering::SeqCst), timetoken)
        } else if target.starts_with("/time/") {
            Answer::Json("[17000000000000000]".to_owned())
        } else {
            Answer::Json(r#"{"status":200,"message":"OK","action":"leave","service":"Presence"}"#.to_owned())
        };
        let written = match reply {
            Answer::Json(body) => {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/javascript\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                // In one piece, since Nagle's algorithm would delay every answer.
                stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await
            }
            Answer::RawAndClose(bytes) => {
                // A client that has closed needs no answer.
                let _ = stream.write_all(&bytes).await;
                return;
            }
            // Ends when the client closes.
            Answer::Hold => stream.read_u8().await.map(drop),
        };
        if written.is_err() {
            return;
        }
    }
}

/// The target of the next request; `None` when the client has closed.
async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head: Vec<u8> = buffer.drain(..end + 4).collect();
            return Some(String::from_utf8(head).unwrap().split(' ').nth(1).unwrap().to_owned());
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}
