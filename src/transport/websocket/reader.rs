//! The task that reads one connection. Received messages go into the event buffer or to the caller; outgoing ones wait
//! in the stream's buffer. While the event buffer is full the task stops reading, for as long as the peer's pings and
//! the calls in flight allow: events wait in the buffers of the peer and of both systems meanwhile.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::{FutureExt as _, Sink as _, SinkExt as _, StreamExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, error::ProtocolError};

use super::dial::Stream;
use super::ended::{Cause, Ended};
use super::frame::{self, Incoming, Reply, What};
use super::gateway::Tuning;
use super::liveness::{Due, Heard, Liveness};
use super::payload_shim::PayloadShim;
use super::recovery::Wsc;
use super::replies;
use super::state::{CLOSE_WITHIN, Command, Request, Shared};
use crate::control::ControlPlane;
use crate::error::{Error, ErrorKind, Result};

/// Thousands of connections may be open: the library's buffer is small, and grows for larger messages. It is filled
/// from what [`PayloadShim`] has read, in larger pieces.
const BUFFER: usize = 1 << 10;
/// The most unsent bytes; beyond it requests fail at once.
const UNSENT: usize = 16 << 20;
/// Deadline of the pong when this side abandons a connection.
pub(super) const PROBE_WITHIN: Duration = Duration::from_secs(1);
/// Deadline of the last flush.
const LAST_FLUSH: Duration = Duration::from_millis(500);

/// The most messages that are handled before others have their turn: requests, timers, other tasks.
const TOGETHER: usize = 64;
/// How long received data may stay unread. It may hold a ping of the gateway, whose pong is due within 10 s
/// (websocket-and-webhooks.md, D).
const HOLD: Duration = Duration::from_secs(8);
/// How long before its deadline the task reads for the reply to a call.
const CALL_MARGIN: Duration = Duration::from_secs(2);

/// A caller that waits for a reply: since when and until when.
struct Waiting {
    answer: oneshot::Sender<Result<Reply>>,
    asked: Instant,
    deadline: Instant,
}

pub(super) struct ReaderTask {
    ws: WebSocketStream<PayloadShim>,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    tuning: Tuning,
    /// Keeps the login alive, which the session needs; never ends.
    upkeep: Pin<Box<dyn Future<Output = ()> + Send>>,
    pending: BTreeMap<String, Waiting>,
    /// Since when data may be unread, because the event buffer was full.
    behind_since: Option<Instant>,
    /// Whether reading is paused.
    holding: bool,
    /// Whether the stream's buffer may hold unsent data.
    unflushed: bool,
    /// Set by the gateway's `ConnectionDetails`: nothing may be sent before.
    liveness: Option<Liveness>,
    deadline: Deadline,
    beats: u64,
    pings: u64,
    /// When the newest heartbeat and the newest ping were sent.
    beat_at: Option<Instant>,
    ping_at: Option<Instant>,
    complaint: Option<Box<str>>,
    /// Whether an event arrived that the link does not know of.
    changed: bool,
}

/// What makes this side end the connection.
#[derive(Clone, Copy)]
enum Deadline {
    /// `ConnectionDetails` must have arrived.
    Details(Instant),
    None,
    /// A close frame must be sent.
    Bye(Instant),
    /// A close frame was sent, and the peer's must have arrived.
    Gone(Instant),
    /// Ended without a close frame, once it is known whether the peer was alive until then.
    Probed(Instant),
}

impl Deadline {
    fn at(self) -> Option<Instant> {
        match self {
            Self::Details(at) | Self::Bye(at) | Self::Gone(at) | Self::Probed(at) => Some(at),
            Self::None => None,
        }
    }
}

impl ReaderTask {
    pub(super) async fn new(
        stream: Stream,
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
        tuning: Tuning,
        control: Arc<dyn ControlPlane>,
    ) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(UNSENT)
            .max_message_size(Some(tuning.max_message))
            .max_frame_size(Some(tuning.max_message));
        Self {
            ws: WebSocketStream::from_raw_socket(PayloadShim::new(stream), Role::Client, Some(config)).await,
            shared,
            commands,
            upkeep: upkeep(control, tuning.pace.beat_after.min(Duration::from_secs(30))).boxed(),
            pending: BTreeMap::new(),
            behind_since: None,
            holding: false,
            unflushed: false,
            liveness: None,
            deadline: Deadline::Details(Instant::now() + tuning.details_within),
            beats: 0,
            pings: 0,
            beat_at: None,
            ping_at: None,
            complaint: None,
            changed: false,
            tuning,
        }
    }

    #[allow(clippy::manual_async_fn, reason = "an `async fn` holds its arguments twice")]
    pub(super) fn run(mut self) -> impl Future<Output = ()> + Send {
        async move {
            let cause = self.until_over().await;
            self.over(cause);
        }
    }

    fn over(&mut self, cause: Cause) {
        tracing::debug!(?cause, complaint = self.complaint.as_deref(), "the connection has ended");
        let ended = Ended { cause, complaint: self.complaint.take(), unread: false };
        // The peer may have carried out the requests that were sent, but not those that were not.
        for (_, waiting) in std::mem::take(&mut self.pending) {
            let _ = waiting.answer.send(Err(ended.error().with_ambiguous(true)));
        }
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Request(request) = command {
                let _ = request.answer.send(Err(ended.error()));
            }
        }
        self.shared.lock().ended.get_or_insert(ended);
        self.shared.changed.notify_waiters();
    }

    async fn until_over(&mut self) -> Cause {
        loop {
            let held_until = self.hold(Instant::now());
            if let Some(cause) = self.due() {
                return cause;
            }
            let liveness = self.liveness.as_ref().filter(|_| !self.holding).map(Liveness::next);
            let adopts_at = self.shared.lock().event_buffer.adopts_at();
            let timer = liveness.into_iter().chain(self.deadline.at()).chain(held_until).chain(adopts_at).min();
            let timer = timer.unwrap_or_else(|| Instant::now() + CLOSE_WITHIN);
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return Cause::Ours,
                },
                () = &mut self.upkeep => {}
                () = self.shared.drained.notified(), if self.holding => {}
                message = next(&mut self.ws, &mut self.unflushed, &mut self.behind_since, self.holding) => {
                    let result = self.messages(message).await;
                    self.notify();
                    if let Err(cause) = result {
                        return cause;
                    }
                }
                () = sleep_until(timer) => {}
            }
        }
    }

    /// Decides whether to read; `Some`: not before then, unless there is room again.
    fn hold(&mut self, now: Instant) -> Option<Instant> {
        let until = self.holds_until(now).filter(|until| *until > now);
        if let Some(liveness) = self.liveness.as_mut().filter(|_| self.holding && until.is_none()) {
            liveness.excuse(now);
        }
        self.holding = until.is_some();
        until
    }

    fn holds_until(&mut self, now: Instant) -> Option<Instant> {
        // The closing handshake has its own deadline.
        if !matches!(self.deadline, Deadline::None) {
            return None;
        }
        {
            let state = self.shared.lock();
            // If no link reads, none will make room.
            if !state.event_buffer.is_full() || !state.attached {
                return None;
            }
        }
        let since = *self.behind_since.get_or_insert(now);
        let calls = self.pending.values().filter(|waiting| !waiting.answer.is_closed());
        let calls = calls.filter_map(|waiting| waiting.deadline.checked_sub(CALL_MARGIN));
        calls.chain([since + HOLD]).min()
    }

    /// The action that is due by the clock.
    fn due(&mut self) -> Option<Cause> {
        let now = Instant::now();
        match self.deadline {
            Deadline::Details(at) if at <= now => return Some(Cause::NoDetails),
            Deadline::Gone(at) if at <= now => return Some(Cause::Ours),
            Deadline::Probed(at) if at <= now => return Some(Cause::Silent("no answer to the last ping")),
            Deadline::Bye(at) if at <= now => {
                self.send(Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() })));
                self.deadline = Deadline::Gone(now + CLOSE_WITHIN);
            }
            Deadline::Details(_) | Deadline::None | Deadline::Bye(_) | Deadline::Gone(_) | Deadline::Probed(_) => {}
        }
        if self.shared.lock().event_buffer.adopt_if_due(now) {
            tracing::warn!("all events of the connection name another subscription than its own: they are delivered");
            self.shared.changed.notify_waiters();
        }
        // An incomplete message delays every other answer.
        let grew = self.ws.get_ref().grew();
        if let Some((liveness, at)) = self.liveness.as_mut().zip(grew) {
            liveness.grew(at);
        }
        let holding = self.holding;
        while let Some(due) = self.liveness.as_mut().filter(|_| !holding).and_then(|liveness| liveness.poll(now)) {
            match due {
                Due::Dead(why) => return Some(Cause::Silent(why)),
                Due::Ping => {
                    self.shrink();
                    self.ping(now);
                }
                Due::Heartbeat => {
                    self.beats += 1;
                    self.beat_at = Some(now);
                    self.send_text(&frame::heartbeat(self.beats));
                }
            }
        }
        None
    }

    /// Puts a message into the stream's buffer; returns whether there was room. A broken stream reports its error when
    /// it is read.
    fn send(&mut self, message: Message) -> bool {
        self.unflushed = true;
        self.ws.start_send_unpin(message).is_ok()
    }

    /// As [`send`](Self::send); the library does not see the text.
    fn send_text(&mut self, text: &str) -> bool {
        let message = self.ws.get_mut().put(text);
        let accepted = self.send(message);
        if !accepted {
            self.ws.get_mut().take_back(text);
        }
        accepted
    }

    /// Frees what a connection that was silent for a while does not need.
    fn shrink(&mut self) {
        self.ws.get_mut().shrink();
        if self.pending.is_empty() {
            // An emptied map keeps a node.
            self.pending = BTreeMap::new();
        }
    }

    /// The pong that answers it carries its number.
    fn ping(&mut self, now: Instant) {
        self.pings += 1;
        self.ping_at = Some(now);
        self.send(Message::Ping(self.pings.to_be_bytes().to_vec().into()));
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Ping => self.ping(Instant::now()),
            Command::BreakOff => {
                let now = Instant::now();
                self.ping(now);
                self.deadline = Deadline::Probed(now + PROBE_WITHIN);
            }
            Command::Close { after } => {
                let at = Instant::now() + after;
                self.deadline = match self.deadline {
                    Deadline::Gone(_) | Deadline::Probed(_) => self.deadline,
                    Deadline::Bye(earlier) => Deadline::Bye(at.min(earlier)),
                    Deadline::Details(_) | Deadline::None => Deadline::Bye(at),
                };
            }
            Command::Request(request) => {
                let Request { id, text, deadline, answer } = *request;
                // The caller gave up.
                self.pending.retain(|_, waiting| !waiting.answer.is_closed());
                if self.send_text(&text) {
                    self.pending.insert(id, Waiting { answer, asked: Instant::now(), deadline });
                } else {
                    let error = Error::new(
                        ErrorKind::Network,
                        "the connection's send buffer is full; the request was not sent",
                    );
                    let _ = answer.send(Err(error));
                }
            }
        }
    }

    /// Handles a message and those that have arrived behind it, as far as there is room: the link wakes up once for all
    /// of them.
    async fn messages(&mut self, first: Option<Result<Message, WsError>>) -> Result<(), Cause> {
        self.message(first).await?;
        for _ in 1..TOGETHER {
            if self.shared.lock().event_buffer.is_full() {
                break;
            }
            let ws = &mut self.ws;
            match poll_fn(|cx| Poll::Ready(ws.poll_next_unpin(cx))).await {
                Poll::Ready(message) => self.message(message).await?,
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Wakes the link up if an event arrived.
    fn notify(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.shared.changed.notify_waiters();
        }
    }

    async fn message(&mut self, message: Option<Result<Message, WsError>>) -> Result<(), Cause> {
        let message = match message {
            None => return Err(self.ended(Cause::Cut)),
            Some(Err(error)) => return Err(self.broken(error)),
            Some(Ok(message)) => message,
        };
        let now = Instant::now();
        let heard = if message.is_text() || message.is_binary() { Heard::Text } else { Heard::Control };
        if let Some(liveness) = &mut self.liveness {
            liveness.heard(heard, now);
        }
        self.shared.lock().heard_at = now;
        match message {
            // Every message is binary for the library, which sees no more than its length.
            Message::Text(_) | Message::Binary(_) => {
                let bytes = self.ws.get_mut().take(message.len());
                self.frame(&bytes, now);
            }
            Message::Close(frame) => {
                self.notify();
                // The answer to it is in the buffer.
                let _ = timeout(LAST_FLUSH, self.ws.flush()).await;
                return Err(self.ended(Cause::Closed(frame.map(|frame| frame.code.into()))));
            }
            Message::Pong(number) => {
                if number[..] == self.pings.to_be_bytes() {
                    self.answered(self.ping_at);
                }
                if matches!(self.deadline, Deadline::Probed(_)) {
                    return Err(Cause::Ours);
                }
            }
            Message::Ping(_) | Message::Frame(_) => self.unflushed = true,
        }
        Ok(())
    }

    fn frame(&mut self, bytes: &[u8], now: Instant) {
        match frame::read_bytes(bytes) {
            Ok(incoming) => self.incoming(incoming, now),
            Err(reason) => {
                tracing::debug!(reason, bytes = bytes.len(), "unreadable frame");
                self.shared.counters.unreadable();
                // No subscription exists before `ConnectionDetails`.
                if self.liveness.is_some() && !bytes.trim_ascii().is_empty() {
                    self.shared.lock().event_buffer.push(
                        frame::unreadable(bytes, reason),
                        self.shared.system.now(),
                        now,
                    );
                    self.changed = true;
                }
            }
        }
    }

    /// The peer answered a question that was sent at `asked`: everything that it had sent before has been read.
    fn answered(&self, asked: Option<Instant>) {
        let Some(asked) = asked else { return };
        let mut state = self.shared.lock();
        state.answered = state.answered.max(Some(asked));
        drop(state);
        self.shared.changed.notify_waiters();
    }

    fn ended(&self, cause: Cause) -> Cause {
        if matches!(self.deadline, Deadline::Gone(_)) { Cause::Ours } else { cause }
    }

    fn broken(&self, error: WsError) -> Cause {
        match error {
            _ if matches!(self.deadline, Deadline::Gone(_)) => Cause::Ours,
            WsError::Capacity(_) => Cause::TooLarge,
            WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Cause::Cut,
            WsError::Io(error) => Cause::Broken(error.to_string()),
            error => Cause::Protocol(error.to_string()),
        }
    }

    fn incoming(&mut self, Incoming { wsc, what }: Incoming, now: Instant) {
        if let What::Details(details) = what {
            return self.details(*details, wsc, now);
        }
        self.keep(wsc);
        match what {
            What::Notification(event) => {
                let ours = self.shared.lock().event_buffer.push(event, self.shared.system.now(), now);
                self.changed |= ours;
                if !ours {
                    self.shared.counters.foreign(1);
                }
            }
            What::Heartbeat(id) => {
                if id == frame::heartbeat_id(self.beats) {
                    self.answered(self.beat_at);
                }
            }
            What::Reply(reply) => {
                if !self.answer(reply.id.clone(), || Ok(reply)) {
                    self.shared.counters.unasked();
                }
            }
            What::Error(reply) => {
                let refusal = replies::refusal(&reply, &self.shared.lock().secrets());
                let code = refusal.code().map(Box::from);
                if !self.answer(reply.id, || Err(refusal)) {
                    tracing::debug!(code = code.as_deref(), "the gateway complains of the connection");
                    self.complaint = code;
                }
            }
            What::Unknown => self.shared.counters.unreadable(),
            What::Details(_) => {}
        }
    }

    /// Passes a reply to its caller; returns whether there was one.
    fn answer(&mut self, id: Option<String>, reply: impl FnOnce() -> Result<Reply>) -> bool {
        let Some(waiting) = id.and_then(|id| self.pending.remove(&id)) else { return false };
        self.answered(Some(waiting.asked));
        // The caller may have given up meanwhile.
        let _ = waiting.answer.send(reply());
        true
    }

    fn keep(&self, wsc: Option<Wsc>) {
        let Some(wsc) = wsc else { return };
        let mut state = self.shared.lock();
        if wsc.replaces(state.wsc.as_ref()) {
            state.wsc = Some(wsc);
        }
    }

    /// The session begins, or its terms change.
    fn details(&mut self, details: super::recovery::Details, wsc: Option<Wsc>, now: Instant) {
        let mut state = self.shared.lock();
        if state.opened {
            drop(state);
            self.keep(wsc);
            let mut state = self.shared.lock();
            // In an update of the terms, the recovery state is outdated.
            let recovery = state.details.recovery;
            state.details = super::recovery::Details { recovery, ..details.or(state.details) };
            if let Some(liveness) = &mut self.liveness {
                liveness.idle_timeout(state.details.idle());
            }
            return;
        }
        state.opened = true;
        state.details = details;
        if wsc.is_some() {
            state.wsc = wsc;
        }
        state.leave_at = Some(now + details.leave_after(self.shared.system.jitter()));
        drop(state);
        if let Deadline::Details(_) = self.deadline {
            self.deadline = Deadline::None;
        }
        self.liveness = Some(Liveness::new(self.tuning.pace, details.idle(), now));
        self.shared.changed.notify_waiters();
    }
}

/// The next message, unless reading is paused; meanwhile flushes unsent data. `None` if no message is waiting. Cancel
/// safe.
async fn next(
    ws: &mut WebSocketStream<PayloadShim>,
    unflushed: &mut bool,
    behind_since: &mut Option<Instant>,
    holding: bool,
) -> Option<Result<Message, WsError>> {
    poll_fn(|cx| {
        if *unflushed {
            match Pin::new(&mut *ws).poll_flush(cx) {
                Poll::Ready(Ok(())) => *unflushed = false,
                // Reading reports the same error, after the messages that arrived before it.
                Poll::Ready(Err(_)) => *unflushed = false,
                Poll::Pending => {}
            }
        }
        if holding {
            return Poll::Pending;
        }
        let polled = ws.poll_next_unpin(cx);
        if polled.is_pending() {
            *behind_since = None;
        }
        polled
    })
    .await
}

/// Gets a token again and again, which refreshes one that is near its end: the session ends with the login.
async fn upkeep(control: Arc<dyn ControlPlane>, every: Duration) {
    const WITHIN: Duration = Duration::from_secs(60);
    loop {
        sleep(every).await;
        match timeout(WITHIN, control.owner_id()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "failed to refresh the login"),
            Err(_) => tracing::debug!("refreshing the login timed out"),
        }
    }
}
