//! Faults of the agent-session service that concern bytes, time and hosts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::support::agent::*;
use crate::support::scripted::{Reply, Scripted};
use ringcentral_events::agent::auth::CentralTokens;
use ringcentral_events::agent::{AgentDelivery, AgentOrigin, AgentSession};
use ringcentral_events::auth::{AccessToken, StaticToken, TokenFn};
use ringcentral_events::http::{ByteStream, HttpBody, HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpResponse};
use ringcentral_events::{Disposition, Error, ErrorKind, System};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

/// A server whose every byte the test writes: a start is answered, and the n-th poll by `write`, which gets its
/// connection; then the connection is closed.
async fn raw<F, Fut>(write: F) -> (String, watch::Sender<Vec<String>>)
where
    F: Fn(usize, TcpStream) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let polls = watch::Sender::new(Vec::new());
    let (log, write) = (polls.clone(), Arc::new(write));
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let (log, write) = (log.clone(), write.clone());
            tokio::spawn(async move {
                let Some(head) = head(&mut socket).await else { return };
                if head.contains("get-next-event") {
                    let mut n = 0;
                    log.send_modify(|log| {
                        n = log.len();
                        log.push(head);
                    });
                    return write(n, socket).await;
                }
                let body = r#"{"sessionId":"S0"}"#;
                let text =
                    format!("HTTP/1.1 202 X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                let _sent = socket.write_all(text.as_bytes()).await;
            });
        }
    });
    (url, polls)
}

/// A request's head; its body, if any, is in the same packet or not needed.
async fn head(socket: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

async fn hold(socket: TcpStream) {
    let _open = socket;
    std::future::pending::<()>().await;
}

fn session(url: &str) -> ringcentral_events::agent::AgentSessionBuilder {
    AgentSession::builder(StaticToken::new(AccessToken::new("t"))).base_url(url).phone_number("1")
}

/// gzip without compression.
fn gzip(data: &[u8]) -> Vec<u8> {
    let mut crc = u32::MAX;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    let len = u16::try_from(data.len()).unwrap();
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    out.extend(len.to_le_bytes());
    out.extend((!len).to_le_bytes());
    out.extend(data);
    out.extend((!crc).to_le_bytes());
    out.extend(u32::from(len).to_le_bytes());
    out
}

#[tokio::test]
async fn f13_f14_f47_a_snapshot_without_a_branch_and_with_its_start_last() {
    let service = Service::start().await;
    let digital = json!({ "Type": "DigitalContactEvent", "ContactID": "5", "Status": "Incoming", "StartTimeUTC": "2025-02-03T13:25:00.000Z" });
    service
        .polls
        .then(batch("S1", &[start_event()]))
        .then(batch("S2", &[state("Available"), digital, start_event()]).with("icBranchValue", "banana"));
    let (_session, mut events) = service.events().await;
    assert_eq!(words(&mut events, 2).await, ["AgentSessionStart", "gap events_missed"]);
    for (kind, index) in [("AgentSessionStart", 2), ("AgentState", 0), ("DigitalContactEvent", 1)] {
        let event = notification(&mut events).await;
        assert_eq!((event.event().kind().as_str(), event.index()), (kind, index));
        assert_eq!(event.origin(), AgentOrigin::Snapshot);
    }
    assert_eq!(word(&mut events).await, "resumed");
}

#[tokio::test]
async fn f18_a_failing_token_provider_is_asked_again_and_a_refusing_one_is_not() {
    for (kind, want) in [(ErrorKind::Service, "CustomEvent"), (ErrorKind::Auth, "error auth")] {
        let service = Service::start().await;
        service.polls.then(batch("S1", &[start_event()])).then(Reply::new(401, "")).then(batch("S2", &[custom("a")]));
        let asked = AtomicUsize::new(0);
        let tokens = TokenFn::new(move |_| {
            let n = asked.fetch_add(1, Ordering::Relaxed);
            async move { if n == 1 { Err(Error::new(kind, "no")) } else { Ok(AccessToken::new(format!("t{n}"))) } }
        });
        let session = service.with(tokens).start().await.unwrap();
        let mut events = session.events().unwrap();
        assert_eq!(words(&mut events, 2).await, ["AgentSessionStart", want]);
        let polled = service.polled();
        assert!(polled.len() < 3 || polled[1].0 == polled[2].0, "{polled:?}");
    }
}

/// The token provider moves the sessions to another host with a renewal.
#[tokio::test]
async fn f20_polls_follow_the_token_provider_to_another_host() {
    let (first, second) = (Service::start().await, Service::start().await);
    first.polls.then(batch("S1", &[start_event()])).then(Reply::new(401, ""));
    second.polls.then(batch("S2", &[custom("a")]));
    let hosts = [first.server.url(), second.server.url()];
    let tokens = Scripted::start(move |seen| {
        let host = hosts[seen.n.min(1)].clone();
        async move {
            let body = json!({ "access_token": format!("at-{}", seen.n), "expires_in": 3600, "refresh_token": "rt",
                "resource_server_base_uri": format!("{host}/inContactAPI/") });
            Reply::new(200, body.to_string())
        }
    })
    .await;
    let tokens =
        CentralTokens::builder("a@v:1", "u", "p").token_url(tokens.url()).build().map(|it| (it, tokens)).unwrap();
    let session = AgentSession::builder(tokens.0).phone_number("1").start().await.unwrap();
    let mut events = session.events().unwrap();
    assert_eq!(words(&mut events, 2).await, ["AgentSessionStart", "CustomEvent"]);
    assert_eq!(second.polled()[0].0, "S1", "the same session");
    assert_eq!(second.server.seen()[0].header("authorization"), Some("Bearer at-1"));
    assert!(first.server.seen().iter().all(|it| it.header("authorization") == Some("Bearer at-0")));
}

/// The service in virtual time: it answers a start at once, and the n-th poll as the n-th of `answers` says: how long
/// its head takes, and then each byte. It holds later polls.
#[derive(Debug)]
struct Timed {
    answers: Vec<(Duration, Duration)>,
    body: &'static str,
    polls: Mutex<Vec<Option<String>>>,
}

#[async_trait]
impl HttpClient for Timed {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if !request.url().path().ends_with("/get-next-event") {
            return Ok(HttpResponse::whole(StatusCode::ACCEPTED, HeaderMap::new(), r#"{"sessionId":"S0"}"#));
        }
        let n = {
            let mut polls = self.polls.lock().unwrap();
            polls.push(request.url().query().map(str::to_owned));
            polls.len() - 1
        };
        let Some((head, byte)) = self.answers.get(n).copied() else { return std::future::pending().await };
        tokio::time::sleep(head).await;
        let body = Trickle { rest: self.body.as_bytes(), pause: byte };
        Ok(HttpResponse::new(StatusCode::OK, HeaderMap::new(), body))
    }
}

/// A body that arrives byte by byte.
struct Trickle {
    rest: &'static [u8],
    pause: Duration,
}

#[async_trait]
impl HttpBody for Trickle {
    async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        tokio::time::sleep(self.pause).await;
        let Some((first, rest)) = self.rest.split_at_checked(1) else { return Ok(None) };
        self.rest = rest;
        Ok(Some(Bytes::from_static(first)))
    }

    async fn upgrade(self: Box<Self>) -> Result<Box<dyn ByteStream>, HttpError> {
        Err(HttpError::new(HttpErrorKind::Body))
    }
}

#[tokio::test(start_paused = true)]
async fn f30_a_late_answer_within_the_margin_is_read() {
    let answers = vec![(Duration::from_millis(1500), Duration::ZERO)];
    let body = r#"{"sessionId":"S1","events":[{"Type":"Mute"}]}"#;
    let service = Arc::new(Timed { answers, body, polls: Mutex::default() });
    let system = System::new().with_http(service.clone());
    let session =
        session("https://sim.example").system(system).poll_timeout(Duration::from_secs(1)).start().await.unwrap();
    let mut events = session.events().unwrap();
    assert_eq!(word(&mut events).await, "Mute");
    assert_eq!(service.polls.lock().unwrap()[0].as_deref(), Some("timeout=1"), "it was asked for a second");
}

#[tokio::test(start_paused = true)]
async fn f31_a_body_that_trickles_is_bounded_by_the_deadline() {
    let answers = vec![(Duration::ZERO, Duration::from_millis(100)), (Duration::ZERO, Duration::ZERO)];
    let body = r#"{"sessionId":"S1","events":[{"Type":"AgentSessionStart"}]}"#;
    let system = System::new().with_http(Timed { answers, body, polls: Mutex::default() });
    let builder =
        session("https://sim.example").system(system).poll_timeout(Duration::ZERO).margin(Duration::from_millis(400));
    let mut events = builder.start().await.unwrap().events().unwrap();
    assert_eq!(words(&mut events, 3).await, ["gap answer_lost", "AgentSessionStart", "resumed"]);
}

#[tokio::test]
async fn f33_a_reader_that_stopped_too_long_gets_the_reason_of_the_end() {
    let service = Service::start().await;
    let large = json!({ "type": "CustomEvent", "eventName": "a", "data": "d".repeat(5_000) });
    service.polls.then(batch("S1", &[large])).then(Reply::new(409, "").with("icStatusDescription", "SessionTimeout"));
    let session = service.builder().queue_bytes(1_000).start().await.unwrap();
    let mut events = session.events().unwrap();
    service.until("the first poll", |it| it.polled().len() == 1).await;
    assert_eq!(word(&mut events).await, "CustomEvent");
    let Some(Ok(AgentDelivery::SessionEnded(ended))) = next(&mut events).await else { panic!() };
    assert_eq!((ended.reason.as_str(), ended.message.as_deref()), ("conflict", Some("SessionTimeout")));
}

#[tokio::test]
async fn f44_bodies_are_decoded_in_every_encoding() {
    let (url, _polls) = raw(|n, mut socket| async move {
        let body = format!(r#"{{"sessionId":"S{}","events":[{{"type":"CustomEvent","eventName":"{n}"}}]}}"#, n + 1);
        let head = |more: &str| format!("HTTP/1.1 200 X\r\nconnection: close\r\n{more}\r\n");
        let bytes = match n {
            0 => [head("content-encoding: gzip\r\n").into_bytes(), gzip(body.as_bytes())].concat(),
            1 => {
                let (a, b) = body.split_at(10);
                let chunks = format!("{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\n\r\n", a.len(), b.len());
                [head("transfer-encoding: chunked\r\n"), chunks].concat().into_bytes()
            }
            2 => [head("content-type: text/json; charset=utf-8\r\n").as_bytes(), b"\xef\xbb\xbf", body.as_bytes()]
                .concat(),
            3 => [head(""), body].concat().into_bytes(),
            _ => return hold(socket).await,
        };
        let _sent = socket.write_all(&bytes).await;
    })
    .await;
    let mut events = session(&url).start().await.unwrap().events().unwrap();
    for n in 0..4 {
        let event = notification(&mut events).await;
        assert_eq!(event.raw().parse::<Value>().unwrap()["eventName"], n.to_string());
    }
}

#[tokio::test]
async fn a_small_body_that_decompresses_to_a_large_one_is_too_large() {
    let (url, _polls) = raw(|_, mut socket| async move {
        let body = format!(r#"{{"sessionId":"S1","events":["{}"]}}"#, "x".repeat(20_000));
        let head = "HTTP/1.1 200 X\r\nconnection: close\r\ncontent-encoding: gzip\r\n\r\n";
        let _sent = socket.write_all(&[head.as_bytes(), &gzip(body.as_bytes())].concat()).await;
    })
    .await;
    let mut events = session(&url).body_limit(10_000).start().await.unwrap().events().unwrap();
    assert_eq!(word(&mut events).await, "gap too_large");
}

/// The server holds a connection open and closes it just when the next poll arrives.
#[tokio::test]
async fn f45_a_connection_that_closes_while_idle_is_replaced_at_once() {
    let (url, polls) = raw(|n, mut socket| async move {
        if n > 2 {
            return hold(socket).await;
        }
        let body = format!(r#"{{"sessionId":"S{}","events":[{{"Type":"Mute"}}]}}"#, n + 1);
        let text = format!("HTTP/1.1 200 X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let _sent = socket.write_all(text.as_bytes()).await;
        // The next poll arrives on this connection, and is not answered.
        let _next = head(&mut socket).await;
    })
    .await;
    let session = session(&url).start().await.unwrap();
    let mut events = session.events().unwrap();
    assert_eq!(words(&mut events, 3).await, ["Mute", "Mute", "Mute"]);
    assert_eq!(session.status().current().failed_attempts, 0);
    // After a failure that counts, the timeout would be shorter.
    assert!(polls.borrow().iter().all(|head| head.contains("timeout=60 ")));
}

#[tokio::test]
async fn the_last_transient_error_is_reported_with_its_cause() {
    let service = Service::start().await;
    service.polls.then(Reply::new(500, "")).then(Reply::new(500, "")).then(Reply::new(500, ""));
    let session = service.builder().give_up_after(Duration::ZERO).start().await.unwrap();
    let mut events = session.events().unwrap();
    let Some(Err(error)) = next(&mut events).await else { panic!() };
    assert_eq!((error.kind(), error.disposition()), (ErrorKind::Service, Disposition::Fatal));
    assert!(std::error::Error::source(&error).is_some());
}

#[tokio::test]
async fn f42_an_id_is_one_path_segment_and_is_sent_back_unchanged() {
    for (id, sent) in [
        ("a/b+c%2F=?#".to_owned(), "a%2Fb%2Bc%252F%3D%3F%23".to_owned()),
        ("60timeout=60".to_owned(), "60timeout%3D60".to_owned()),
        ("x".repeat(4096), "x".repeat(4096)),
    ] {
        let service = Service::start().await;
        service.polls.then(batch(&id, &[start_event()])).then(Reply::new(500, ""));
        let (session, mut events) = service.events().await;
        assert_eq!(word(&mut events).await, "AgentSessionStart");
        service.until("polls", |it| it.polled().len() == 3).await;
        assert_eq!(service.polled()[1..], [(sent.clone(), "60".to_owned()), (sent, "1".to_owned())]);
        assert_eq!(session.newest_cursor().expose(), id);
        assert!(!format!("{session:?} {events:?} {:?}", session.newest_cursor()).contains(&id));
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_a_gap() {
    let service = Service::start().await;
    let large = batch("S9", &[json!({ "type": "CustomEvent", "data": "x".repeat(10_000) })]);
    service
        .polls
        .then(batch("S1", &[start_event()]))
        .then(large.clone())
        .then(large)
        .then(batch("J1", &[start_event(), state("Available")]));
    let session = service.builder().body_limit(5_000).start().await.unwrap();
    let mut events = session.events().unwrap();
    let want = ["AgentSessionStart", "gap too_large", "AgentSessionStart", "AgentState", "resumed"];
    assert_eq!(words(&mut events, 5).await, want);
    assert_eq!(service.polled()[3].0, "J0", "joined to get behind it");
}

/// A server that holds every poll, and reports when the client closes one.
async fn held() -> (String, watch::Sender<Vec<String>>, mpsc::UnboundedReceiver<()>) {
    let (sender, closed) = mpsc::unbounded_channel();
    let (url, polls) = raw(move |_, mut socket| {
        let sender = sender.clone();
        async move {
            let mut rest = [0; 16];
            while socket.read(&mut rest).await.is_ok_and(|read| read > 0) {}
            let _told = sender.send(());
        }
    })
    .await;
    (url, polls, closed)
}

#[tokio::test]
async fn f29_an_abandoned_poll_is_closed() {
    let (url, _polls, mut closed) = held().await;
    let builder = session(&url).poll_timeout(Duration::ZERO).margin(Duration::from_millis(200));
    let _events = builder.start().await.unwrap().events().unwrap();
    assert_eq!(tokio::time::timeout(SOON, closed.recv()).await.unwrap(), Some(()));
}

#[tokio::test]
async fn f48_the_poll_of_a_dropped_stream_is_closed_at_once() {
    let (url, polls, mut closed) = held().await;
    let events = session(&url).start().await.unwrap().events().unwrap();
    soon(polls.subscribe().wait_for(|polls| !polls.is_empty())).await.unwrap();
    assert!(closed.try_recv().is_err());
    drop(events);
    assert_eq!(tokio::time::timeout(SOON, closed.recv()).await.unwrap(), Some(()));
}
