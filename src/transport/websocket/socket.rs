//! One connection to the gateway: its state and its requests.
//!
//! A background task reads it, see [`reader`](super::reader). Dropping the last [`Socket`] ends that task.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::Method;
use tokio::sync::futures::Notified;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::Instrument as _;

use super::dial::{Address, Stream};
use super::ended::{Cause, Ended};
use super::event_buffer::{EventBuffer, Owner};
use super::frame::{self, Reply};
use super::gateway::Tuning;
use super::reader::{PROBE_WITHIN, ReaderTask};
use super::recovery::{Details, RecoveryState, Resumable, Wsc};
use super::state::{CLOSE_WITHIN, Command, Continued, Request, Shared, State};
use super::stats::Counters;
use crate::control::ControlPlane;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::SubscriptionId;

/// The capacity of the task's channel: more than the 100 requests in flight at most, and the pings, so that a close
/// finds room. The task never waits, so commands gather only while it hangs.
const COMMANDS: usize = 256;
/// With so many commands waiting, a ping is left out.
const PINGS: usize = 64;

/// A connection.
pub(super) struct Socket {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    /// One for each concurrent request that the gateway allows.
    slots: Semaphore,
    next_id: AtomicU64,
    task: JoinHandle<()>,
    /// When it was requested, and when it was open.
    pub(super) asked_at: Instant,
    pub(super) opened_at: Instant,
    /// Whether the connection before it ended with an unreadable message.
    pub(super) after_unreadable: bool,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Socket")
            .field("owner", state.event_buffer.owner())
            .field("retired", &state.retired)
            .field("ended", &state.ended)
            .finish_non_exhaustive()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Socket {
    /// Starts to read a connection that continues `lost`, if given, and waits for the gateway's `ConnectionDetails`.
    /// `asked_at` is when it was dialled.
    pub(super) async fn open(
        (stream, asked_at): (Stream, Instant),
        tuning: &Tuning,
        address: &Address,
        lost: Option<&Resumable>,
        after_unreadable: bool,
        control: Arc<dyn ControlPlane>,
        counters: Arc<Counters>,
    ) -> Result<Self, Ended> {
        let now = Instant::now();
        let system = control.system().unwrap_or_default();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                opened: false,
                details: Details::default(),
                // Valid until the gateway sends another one.
                wsc: lost.map(|lost| Wsc { token: lost.wsc.token.clone(), sequence: None }),
                opened_with: address.secrets.clone(),
                heard_at: now,
                event_buffer: EventBuffer::new(tuning.inbox_bytes),
                earlier: None,
                continued: None,
                answered: None,
                leave_at: None,
                ended: None,
                retired: false,
                reader: 0,
                attached: false,
            }),
            changed: Notify::new(),
            drained: Notify::new(),
            counters,
            system,
        });
        let (commands, commands_out) = mpsc::channel(COMMANDS);
        let reader = ReaderTask::new(stream, shared.clone(), commands_out, tuning.clone(), control).await;
        let socket = Self {
            shared,
            commands,
            slots: Semaphore::new(0),
            next_id: AtomicU64::new(1),
            task: tokio::spawn(reader.run().in_current_span()),
            asked_at,
            opened_at: now,
            after_unreadable,
        };
        loop {
            // Registered before the check, so that no change is missed.
            let changed = socket.changed();
            {
                let state = socket.lock();
                if state.opened {
                    socket.slots.add_permits(state.details.requests());
                    break;
                }
                if let Some(ended) = &state.ended {
                    return Err(Ended { unread: !state.event_buffer.is_empty(), ..ended.clone() });
                }
            }
            changed.await;
        }
        Ok(socket)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// Completes at the next change.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.shared.changed.notified()
    }

    /// A link took the waiting events: there is room.
    pub(super) fn drained(&self) {
        self.shared.drained.notify_one();
    }

    pub(super) fn recovery(&self) -> Option<RecoveryState> {
        self.lock().details.recovery
    }

    /// Whether it is open and not retired.
    pub(super) fn is_usable(&self) -> bool {
        let state = self.lock();
        state.ended.is_none() && !state.retired
    }

    pub(super) fn is_open(&self) -> bool {
        self.lock().ended.is_none()
    }

    pub(super) fn ended(&self) -> Option<Ended> {
        self.lock().ended.clone()
    }

    /// The data to continue the session on another connection; `None` without a recovery token.
    pub(super) fn resumable(&self) -> Option<Resumable> {
        let state = self.lock();
        Some(Resumable {
            wsc: state.wsc.clone()?,
            subscription: match state.event_buffer.owner() {
                Owner::Only(id) => Some(id.clone()),
                Owner::Unknown | Owner::Any => None,
            },
            heard_at: state.heard_at,
            window: state.details.window(),
        })
    }

    /// Sets whose events it accepts.
    pub(super) fn own(&self, owner: Owner) {
        let foreign = self.lock().event_buffer.own(owner, Instant::now());
        self.shared.counters.foreign(foreign);
        self.shared.changed.notify_waiters();
    }

    /// Makes another link the reader, and returns that reader's number.
    pub(super) fn attach(&self) -> u64 {
        let reader = {
            let mut state = self.lock();
            state.reader += 1;
            state.attached = true;
            state.reader
        };
        self.shared.changed.notify_waiters();
        reader
    }

    /// The link `reader` no longer reads.
    pub(super) fn detach(&self, reader: u64) -> bool {
        let mut state = self.lock();
        let current = state.reader == reader;
        state.attached &= !current;
        current
    }

    pub(super) fn is_attached(&self) -> bool {
        self.lock().attached
    }

    /// Reserves it for its subscription's deletion; it closes after `grace`.
    pub(super) fn retire(&self, grace: Duration) {
        self.lock().retired = true;
        self.end(Command::Close { after: grace });
    }

    /// Pings the peer: after the pong, everything that it sent before has been read.
    pub(super) fn ping(&self) {
        if self.commands.capacity() > COMMANDS - PINGS {
            // The task may have ended already.
            let _ = self.commands.try_send(Command::Ping);
        }
    }

    /// Asks the task to end, which it may have done already. One that took none of so many commands hangs.
    fn end(&self, command: Command) {
        if let Err(TrySendError::Full(_)) = self.commands.try_send(command) {
            tracing::warn!("a connection's task hangs: it is aborted");
            self.task.abort();
            self.lock().ended.get_or_insert(Ended { cause: Cause::Ours, complaint: None, unread: false });
            self.shared.changed.notify_waiters();
        }
    }

    /// Sends a close frame and waits for the peer's, within a time limit.
    pub(super) async fn close(&self) {
        self.retire(Duration::ZERO);
        if timeout(CLOSE_WITHIN * 2, self.over()).await.is_err() {
            tracing::debug!("the connection took too long to close");
        }
    }

    /// Ends it without a close frame, so that the session can be continued. A last ping shows whether the peer was
    /// alive until then.
    pub(super) async fn break_off(&self) {
        {
            let mut state = self.lock();
            state.retired = true;
            // A link that still reads it gets nothing more.
            state.reader += 1;
            state.attached = false;
        }
        // It ends by itself, so that nothing it has read is lost, unless it hangs.
        self.end(Command::BreakOff);
        if timeout(PROBE_WITHIN * 2, self.over()).await.is_err() {
            self.task.abort();
        }
        self.lock().ended.get_or_insert(Ended { cause: Cause::Ours, complaint: None, unread: false });
        self.shared.changed.notify_waiters();
    }

    /// Takes over the events that `earlier`, which has ended, had received and not delivered. `read_to_end`: it
    /// received everything that was sent to it.
    pub(super) fn inherit(&self, earlier: &Self, read_to_end: bool) {
        let (event_buffer, owner, reported, answered) = {
            let mut state = earlier.lock();
            let mut event_buffer = std::mem::replace(&mut state.event_buffer, EventBuffer::new(0));
            let owner = event_buffer.owner().clone();
            if let Some(before) = state.earlier.take() {
                event_buffer.inherit(before);
            }
            (event_buffer, owner, state.continued.is_none(), state.answered.take())
        };
        self.own(owner);
        let mut state = self.lock();
        if reported {
            state.earlier = Some(event_buffer);
        } else {
            // They may be a part of a replay that pushed out others: the recovery is reported before them, so that its
            // gap begins before them.
            state.event_buffer.inherit(event_buffer);
        }
        // A replay over a connection whose beginning was not reported is not counted, so it cannot be called complete.
        state.continued = Some(Continued { read_to_end: read_to_end && reported });
        state.answered = answered;
    }

    /// Continues the subscription of another process, which may not have read everything that was sent to it.
    pub(super) fn continues(&self, id: &SubscriptionId) {
        self.own(Owner::Only(id.clone()));
        self.lock().continued = Some(Continued { read_to_end: false });
    }

    /// Continues a session in which a creation may have been carried out whose answer was lost. Nothing is expected from
    /// before the next creation, but what the gateway retained until then is replayed, and may be cut.
    pub(super) fn continues_orphan(&self) {
        self.own(Owner::Any);
        self.lock().continued = Some(Continued { read_to_end: true });
    }

    async fn over(&self) {
        loop {
            let changed = self.changed();
            if !self.is_open() {
                return;
            }
            changed.await;
        }
    }

    /// Sends one request and returns its reply of any status.
    ///
    /// Cancel safe on this side: a late reply is dropped.
    pub(super) async fn request(
        &self,
        method: &Method,
        path: &str,
        body: Option<&str>,
        deadline: Instant,
    ) -> Result<Reply> {
        let slot = timeout_at(deadline, self.slots.acquire()).await;
        let _slot = slot
            .map_err(|_| Error::new(ErrorKind::Timeout, "other requests blocked this one until the deadline"))?
            .map_err(|_| self.gone())?;
        let id = format!("r-{}", self.next_id.fetch_add(1, Ordering::Relaxed));
        let text = frame::request(&id, method, path, body);
        let (answer, answered) = oneshot::channel();
        let room = timeout_at(deadline, self.commands.reserve()).await;
        let room =
            room.map_err(|_| Error::new(ErrorKind::Timeout, "the connection took no request until the deadline"))?;
        room.map_err(|_| self.gone())?.send(Command::Request(Box::new(Request { id, text, deadline, answer })));
        match timeout_at(deadline, answered).await {
            Ok(Ok(reply)) => reply,
            // The task was aborted.
            Ok(Err(_)) => Err(self.gone().with_ambiguous(true)),
            Err(_) => Err(Error::new(ErrorKind::Timeout, "no reply before the deadline").with_ambiguous(true)),
        }
    }

    /// The error of a request that was not sent, because the connection has ended.
    fn gone(&self) -> Error {
        match self.ended() {
            Some(ended) => ended.error(),
            None => Error::new(ErrorKind::Network, "the connection has ended"),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::stream::FuturesUnordered;
    use serde_json::json;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::{Message, Role};
    use url::Url;

    use super::super::WebSocket;
    use super::super::fakes::{Https, Peer};
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_commands_that_wait_for_a_connection_are_bounded_and_leave_room_for_a_close() {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let url = Url::parse("wss://gw.example/ws").unwrap();
        let peer = tokio::spawn({
            let url = url.clone();
            async move {
                let ws = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
                let mut peer = Peer { url, ws };
                peer.details("W1", json!({"maxActiveRequests": 1_000_000})).await;
                let (mut pings, mut requests) = (0, 0);
                loop {
                    match peer.next().await.unwrap() {
                        Message::Ping(_) => pings += 1,
                        Message::Text(text) if text.contains("ClientRequest") => requests += 1,
                        Message::Close(_) => return (pings, requests),
                        _ => {}
                    }
                }
            }
        });
        let tuning = WebSocket::builder().tuning;
        let address = Address { url, secrets: Vec::new() };
        let https = Arc::new(Https::default());
        let opening = Socket::open(
            (Box::new(ours), Instant::now()),
            &tuning,
            &address,
            None,
            false,
            https,
            Arc::new(Counters::default()),
        );
        let socket = opening.await.unwrap();
        // The task does not run in between.
        for _ in 0..10_000 {
            socket.ping();
        }
        assert_eq!(COMMANDS - socket.commands.capacity(), PINGS);
        let by = Instant::now() + Duration::from_secs(60);
        let mut calls: FuturesUnordered<_> =
            (0..1_000).map(|_| socket.request(&Method::GET, "/x", None, by).boxed()).collect();
        assert!(tokio::task::unconstrained(futures_util::StreamExt::next(&mut calls)).now_or_never().is_none());
        assert_eq!(COMMANDS - socket.commands.capacity(), PINGS + 100, "one for each request in flight");
        socket.close().await;
        assert_eq!(peer.await.unwrap(), (PINGS, 100), "the task did not hang: nothing was left out");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_task_takes_nothing_is_aborted_by_its_close() {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let url = Url::parse("wss://gw.example/ws").unwrap();
        let ws = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
        let mut peer = Peer { url: url.clone(), ws };
        peer.details("W1", json!({})).await;
        let tuning = WebSocket::builder().tuning;
        let address = Address { url, secrets: Vec::new() };
        let https = Arc::new(Https::default());
        let opening = Socket::open(
            (Box::new(ours), Instant::now()),
            &tuning,
            &address,
            None,
            false,
            https,
            Arc::new(Counters::default()),
        );
        let socket = opening.await.unwrap();
        for _ in 0..COMMANDS {
            assert!(socket.is_open());
            socket.retire(Duration::from_secs(60));
        }
        socket.retire(Duration::ZERO);
        assert!(!socket.is_open());
        socket.over().await;
    }

    /// What the WebSocket library logs, at every level.
    static LOGGED: Mutex<String> = Mutex::new(String::new());

    struct Logger;

    impl log::Log for Logger {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            if record.target().contains("tungstenite") {
                LOGGED.lock().unwrap().push_str(&format!("{} {}\n", record.level(), record.args()));
            }
        }
        fn flush(&self) {}
    }

    /// The next frame of a client: its opcode and payload.
    async fn frame_of(client: &mut tokio::io::DuplexStream) -> (u8, String) {
        use tokio::io::AsyncReadExt as _;
        let mut head = [0; 2];
        client.read_exact(&mut head).await.unwrap();
        assert!(head[1] & 0x80 != 0 && head[1] & 0x7f < 127, "masked and short");
        let mut length = usize::from(head[1] & 0x7f);
        if length == 126 {
            length = client.read_u16().await.unwrap().into();
        }
        let (mut mask, mut payload) = ([0; 4], vec![0; length]);
        client.read_exact(&mut mask).await.unwrap();
        client.read_exact(&mut payload).await.unwrap();
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        (head[0] & 0x0f, String::from_utf8(payload).unwrap())
    }

    /// The peer here is no WebSocket library: everything logged is the client's.
    #[tokio::test(start_paused = true)]
    async fn a7_the_library_logs_nothing_that_is_sent_or_received() {
        use tokio::io::AsyncWriteExt as _;
        const SECRET: &str = "s3cr3t";
        log::set_logger(&Logger).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let peer = tokio::spawn(async move {
            let say = |text: String| {
                let mut frame = vec![0x81, 126];
                frame.extend((text.len() as u16).to_be_bytes());
                frame.extend(text.into_bytes());
                frame
            };
            let details = json!([{"type": "ConnectionDetails", "wsc": {"token": SECRET}}, {"absoluteTimeout": 3600}]);
            theirs.write_all(&say(details.to_string())).await.unwrap();
            let request = frame_of(&mut theirs).await;
            let reply = json!([{"type": "ClientRequest", "messageId": "r-1", "status": 200}, {"token": SECRET}]);
            theirs.write_all(&say(reply.to_string())).await.unwrap();
            let reason = format!("{SECRET} is not valid").into_bytes();
            let mut close = vec![0x88, 2 + reason.len() as u8, 0x0f, 0xa0];
            close.extend(reason);
            theirs.write_all(&close).await.unwrap();
            request
        });
        let tuning = WebSocket::builder().tuning;
        let address = Address { url: Url::parse("wss://gw.example/ws").unwrap(), secrets: Vec::new() };
        let stream: (Stream, Instant) = (Box::new(ours), Instant::now());
        let https = Arc::new(Https::default());
        let opening = Socket::open(stream, &tuning, &address, None, false, https, Arc::new(Counters::default()));
        let socket = opening.await.unwrap();
        let body = json!({"password": SECRET}).to_string();
        let by = Instant::now() + Duration::from_secs(60);
        let reply = socket.request(&Method::POST, &format!("/x?key={SECRET}"), Some(&body), by).await.unwrap();
        assert!(reply.body.contains(SECRET));
        let (opcode, text) = peer.await.unwrap();
        assert_eq!(opcode, 1, "a text");
        assert!(text.contains("/x?key=s3cr3t") && text.ends_with(&format!(",{body}]")), "{text}");
        socket.over().await;
        assert!(matches!(socket.ended().unwrap().cause, Cause::Closed(Some(4000))), "{:?}", socket.ended());

        let logged = LOGGED.lock().unwrap().clone();
        for what in ["Sending frame", "writing frame", "received frame", "Received message", "Received close frame"] {
            assert!(logged.contains(what), "{what} is not logged any more: {logged}");
        }
        for secret in [SECRET, "ConnectionDetails", "ClientRequest", "password"] {
            let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
            let list = format!("{:?}", secret.as_bytes());
            for form in [secret, &hex, list.trim_matches(['[', ']'])] {
                assert!(!logged.contains(form), "{form} in {logged}");
            }
        }
    }
}
