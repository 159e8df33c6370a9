//! The WebSocket gateway: sessions, recovery, heartbeats, requests over the socket (websocket §1).

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::http::{Answer, Request};
use super::subs::Call;
use super::{Cx, Service, SvcEv, Wrong, frames};
use crate::net::{ConnId, End, Net};
use crate::rng::Rng;
use crate::time::{MS, SEC, Us, stamp_with};
use crate::world::Emission;

#[derive(Debug, Clone)]
struct WsToken {
    text: String,
    login: u64,
    until: Us,
    is_used: bool,
}

/// A frame that was written, and where its bytes end in the connection.
#[derive(Debug, Clone)]
struct Written {
    end: u64,
    text: String,
}

#[derive(Debug)]
pub(crate) struct Session {
    login: u64,
    pub(crate) conn: Option<ConnId>,
    pub(crate) sub: Option<usize>,
    /// Every token of the session, the newest last.
    tokens: Vec<String>,
    sequence: u64,
    /// Events that wait for a connection.
    buffer: VecDeque<String>,
    written: VecDeque<Written>,
    lost: Option<Us>,
    /// Counts losses, so that a timer knows its own.
    losses: u64,
    is_over: bool,
    /// The replay has not been sent yet, or not to its end.
    replays: bool,
    /// It is being sent, one frame after the other.
    is_sending: bool,
    /// When the first waiting event was sent.
    gathers_since: Option<Us>,
}

#[derive(Debug)]
struct Socket {
    conn: ConnId,
    login: u64,
    offer: Option<String>,
    session: Option<usize>,
    is_refused: bool,
    last_traffic: Us,
    ping: Option<Us>,
    is_closing: bool,
    replies: u64,
}

#[derive(Debug)]
pub(crate) enum GwEv {
    Details(ConnId),
    Replay(ConnId),
    /// The next frame of a replay, and how long after it the following one is sent.
    Next(ConnId, Us),
    Ping(ConnId),
    PongDue(ConnId, Us),
    Idle(ConnId),
    Absolute(ConnId),
    Over(usize, u64),
    Rotate(ConnId),
    Reply(ConnId, String),
    Close(ConnId),
}

/// A session that continued over another connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recovery {
    pub(crate) at: Us,
    session: usize,
    replayed: u64,
    /// Some of them were sent so long before that they show that they keep their time.
    shows_time: bool,
    /// Live events soon after it, and for as long as replayed ones may have a new time.
    soon: u64,
    later: u64,
}

/// By how much two clocks and a `Date` may blur when an event was sent.
const SHOWN: Us = 3 * SEC;

impl Recovery {
    /// Whether a client may think that the buffer was full: nothing marks the last replayed
    /// event, nor says whether replayed ones keep their time (websocket §1.12).
    pub(crate) fn may_be_full(&self, buffer: u64) -> bool {
        let live = if self.shows_time { self.soon } else { self.later };
        self.replayed + live + 2 >= buffer
    }
}

#[derive(Debug)]
pub(crate) struct Gateway {
    tokens: Vec<WsToken>,
    pub(crate) sessions: Vec<Session>,
    sockets: Vec<Socket>,
    rng: Rng,
    pub(crate) recoveries: Vec<Recovery>,
    /// Each event that was written to a connection, repetitions too, and when.
    pub(crate) writes: Vec<(u32, Us)>,
}

impl Gateway {
    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            tokens: Vec::new(),
            sessions: Vec::new(),
            sockets: Vec::new(),
            rng,
            recoveries: Vec::new(),
            writes: Vec::new(),
        }
    }

    fn socket(&mut self, conn: ConnId) -> Option<&mut Socket> {
        self.sockets.iter_mut().find(|socket| socket.conn == conn)
    }

    /// Whether an event of this session's subscription would arrive over its connection.
    pub(crate) fn delivers(&self, sub: usize, net: &Net, now: Us) -> bool {
        self.sessions.iter().any(|session| {
            session.sub == Some(sub)
                && !session.is_over
                && session.conn.is_some_and(|conn| net.conn(conn).would_arrive(now))
        })
    }

    /// The connections that have a session, oldest first.
    pub(crate) fn attached(&self) -> Vec<ConnId> {
        self.sessions.iter().filter(|it| !it.is_over).filter_map(|it| it.conn).collect()
    }

    fn new_token(&mut self, session: usize) -> Value {
        let it = &mut self.sessions[session];
        it.sequence += 1;
        let text = format!("wsc-{session}-{}-{:x}", it.sequence, self.rng.next());
        it.tokens.push(text.clone());
        json!({"token": text, "sequence": it.sequence})
    }
}

impl Service {
    // ---- the token, the upgrade, the first frame ----

    pub(super) fn ws_token(&mut self, login: u64, cx: &mut Cx<'_>) -> Answer {
        let text = format!("ws-{}", self.hex(24));
        let life = self.knobs.ws_token_life_s;
        self.gateway.tokens.push(WsToken { text: text.clone(), login, until: cx.now() + life * SEC, is_used: false });
        Answer::json(200, &json!({"uri": "wss://gateway.sim.example/ws", "ws_access_token": text, "expires_in": life}))
    }

    pub(super) fn upgrade(&mut self, request: &Request, wrong: Option<Wrong>, cx: &mut Cx<'_>) {
        let now = cx.now();
        let conn = request.conn;
        let is_upgrade = request.header("upgrade").is_some_and(|it| it.eq_ignore_ascii_case("websocket"));
        let (Some(key), true) = (request.header("sec-websocket-key"), is_upgrade && request.path == "/ws") else {
            return self.answer(conn, Answer::empty(400), wrong, cx);
        };
        let reuse = self.knobs.ws_token_reuse == 1;
        let token = request.query("access_token").or_else(|| request.bearer()).unwrap_or_default();
        let login = self.gateway.tokens.iter_mut().find(|it| it.text == token).and_then(|it| {
            let good = it.until > now && (reuse || !it.is_used);
            it.is_used = true;
            good.then_some(it.login)
        });
        let login = login.filter(|login| self.auth.is_alive(*login, now));
        if login.is_none() {
            cx.trace(format_args!("#{conn} has no good token"));
            if self.knobs.ws_bad_token == 0 {
                return self.answer(conn, Answer::error(401, "OAU-213", "Token is not valid", None), wrong, cx);
            }
        }
        let answer = Answer::empty(101)
            .header("Upgrade", "websocket")
            .header("Connection", "Upgrade")
            .header("Sec-WebSocket-Accept", frames::accept(key));
        self.gateway.sockets.retain(|socket| socket.conn != conn);
        self.gateway.sockets.push(Socket {
            conn,
            login: login.unwrap_or(0),
            offer: request.query("wsc").map(str::to_owned),
            session: None,
            is_refused: login.is_none(),
            last_traffic: now,
            ping: None,
            is_closing: false,
            replies: 0,
        });
        self.answer(conn, answer, wrong, cx);
    }

    /// The upgrade is answered: the connection is a socket now.
    pub(super) fn socket_open(&mut self, conn: ConnId, cx: &mut Cx<'_>) {
        let Some(socket) = self.gateway.socket(conn) else { return };
        if socket.is_refused {
            socket.is_closing = true;
            cx.net.service_write(conn, &frames::close(4400, "Authorization is required"), cx.q);
            return self.hang_up(conn, End::FinBehind, cx);
        }
        let wait = self.knobs.ws_details_ms * MS;
        cx.q.after(wait, SvcEv::Gateway(GwEv::Details(conn)).into());
        cx.q.after(self.knobs.ws_ping_s * SEC, SvcEv::Gateway(GwEv::Ping(conn)).into());
        cx.q.after(self.knobs.ws_idle_s * SEC, SvcEv::Gateway(GwEv::Idle(conn)).into());
        cx.q.after(self.knobs.ws_absolute_s * SEC, SvcEv::Gateway(GwEv::Absolute(conn)).into());
    }

    fn details(&mut self, conn: ConnId, cx: &mut Cx<'_>) {
        let now = cx.now();
        let (newest_only, window) = (self.knobs.ws_old_wsc == 0, self.knobs.ws_recovery_s * SEC);
        let Some(socket) = self.gateway.socket(conn) else { return };
        let (login, offer) = (socket.login, socket.offer.clone());
        let mut body = json!({
            "creationTime": stamp_with(self.clock.at(now), "+0000"), "maxConnectionsPerSession": 50, "recoveryBufferSize": self.knobs.ws_buffer,
            "recoveryTimeout": self.knobs.ws_recovery_s, "idleTimeout": self.knobs.ws_idle_s,
            "absoluteTimeout": self.knobs.ws_absolute_s, "maxActiveRequests": 10,
        });
        let mut recovered = None;
        if let Some(offer) = offer {
            let well_formed = offer.starts_with("wsc-");
            if !well_formed {
                let id = self.uuid();
                let error = json!([{"type": "Error", "messageId": id, "status": 400, "headers": {"RCRequestId": id}},
                    {"errorCode": "WSG-400", "message": "Malformed WebSocket session context token"}]);
                self.write_text(conn, &error.to_string(), cx);
                self.close_socket(conn, 1000, cx);
                return;
            }
            let found = self.gateway.sessions.iter().position(|it| {
                !it.is_over
                    && it.lost.is_none_or(|lost| now < lost + window)
                    && if newest_only { it.tokens.last() == Some(&offer) } else { it.tokens.contains(&offer) }
            });
            let code = match found.map(|index| &self.gateway.sessions[index]) {
                Some(session) if session.login != login => Some("WSG-1003"),
                Some(session) if session.sub.is_none() => Some("WSG-1005"),
                Some(_) => None,
                None => Some("WSG-1003"),
            };
            if let Some(map) = body.as_object_mut() {
                map.insert("recoveryState".into(), if code.is_none() { "Successful" } else { "Failed" }.into());
                if let Some(code) = code {
                    map.insert("recoveryErrorCode".into(), code.into());
                }
            }
            if code.is_none() {
                recovered = found;
            }
        }
        let session = match recovered {
            Some(index) => {
                // The gateway may not have noticed yet that the connection before is dead.
                if let Some(old) = self.gateway.sessions[index].conn {
                    self.detach(old, cx);
                    if let Some(socket) = self.gateway.socket(old) {
                        socket.session = None;
                    }
                    self.hang_up(old, End::ResetBehind, cx);
                }
                index
            }
            None => {
                self.gateway.sessions.push(Session {
                    login,
                    conn: None,
                    sub: None,
                    tokens: Vec::new(),
                    sequence: 0,
                    buffer: VecDeque::new(),
                    written: VecDeque::new(),
                    lost: None,
                    losses: 0,
                    is_over: false,
                    replays: false,
                    is_sending: false,
                    gathers_since: None,
                });
                self.gateway.sessions.len() - 1
            }
        };
        let it = &mut self.gateway.sessions[session];
        it.conn = Some(conn);
        it.lost = None;
        it.losses += 1;
        it.written.clear();
        it.replays = recovered.is_some();
        if let Some(socket) = self.gateway.socket(conn) {
            socket.session = Some(session);
        }
        cx.trace(format_args!("#{conn} has session {session}, recovered: {}", recovered.is_some()));
        self.write_details(conn, session, Some(body), cx);
        if recovered.is_some() {
            let waited = self.gateway.sessions[session].gathers_since;
            let keeps_time = self.knobs.ws_replay_renews == 0;
            let shows_time = keeps_time && waited.is_some_and(|since| since + SHOWN < now);
            self.gateway.recoveries.push(Recovery { at: now, session, replayed: 0, shows_time, soon: 0, later: 0 });
            let wait = self.knobs.ws_replay_ms * MS;
            if wait == 0 {
                self.replay(conn, cx);
            } else {
                cx.q.after(wait, SvcEv::Gateway(GwEv::Replay(conn)).into());
            }
        }
        if self.knobs.ws_rotate_s > 0 {
            cx.q.after(self.knobs.ws_rotate_s * SEC, SvcEv::Gateway(GwEv::Rotate(conn)).into());
        }
    }

    fn write_details(&mut self, conn: ConnId, session: usize, body: Option<Value>, cx: &mut Cx<'_>) {
        let wsc = self.gateway.new_token(session);
        let id = self.uuid();
        let meta = json!({"type": "ConnectionDetails", "messageId": id, "status": 200, "wsc": wsc, "headers": {"RCRequestId": id}});
        let frame = body.map_or_else(|| json!([meta]), |body| json!([meta, body]));
        self.write_text(conn, &frame.to_string(), cx);
    }

    fn replay(&mut self, conn: ConnId, cx: &mut Cx<'_>) {
        let Some(session) = self.gateway.socket(conn).and_then(|socket| socket.session) else { return };
        let takes = self.knobs.ws_replay_takes_ms * MS;
        let it = &mut self.gateway.sessions[session];
        let count = it.buffer.len() as u64;
        it.gathers_since = None;
        cx.trace(format_args!("session {session} replays {count} frames"));
        if let Some(recovery) = self.gateway.recoveries.iter_mut().rfind(|it| it.session == session) {
            recovery.replayed = count;
        }
        *self.facts.entry("a replayed event").or_default() += count;
        it.is_sending = true;
        if takes > 0 {
            return self.replay_next(conn, takes / count.max(1), cx);
        }
        while self.replay_one(session, conn, cx) {}
    }

    /// Sends the next frame of a replay, and later the one after it.
    fn replay_next(&mut self, conn: ConnId, pace: Us, cx: &mut Cx<'_>) {
        let Some(session) = self.gateway.socket(conn).and_then(|socket| socket.session) else { return };
        if self.gateway.sessions[session].is_sending && self.replay_one(session, conn, cx) {
            cx.q.after(pace, SvcEv::Gateway(GwEv::Next(conn, pace)).into());
        }
    }

    /// Sends one frame of a replay; whether there was one.
    fn replay_one(&mut self, session: usize, conn: ConnId, cx: &mut Cx<'_>) -> bool {
        let it = &mut self.gateway.sessions[session];
        let Some(mut text) = it.buffer.pop_front() else {
            (it.replays, it.is_sending) = (false, false);
            return false;
        };
        if self.knobs.ws_replay_renews == 1
            && let Ok(mut frame) = serde_json::from_str::<Value>(&text)
        {
            frame[1]["timestamp"] = self.clock.stamp(cx.now()).into();
            text = frame.to_string();
        }
        self.write_event(session, conn, text, cx);
        true
    }

    // ---- events ----

    pub(super) fn push_to_session(&mut self, index: usize, envelope: &str, cx: &mut Cx<'_>) {
        let Some(session) = self.subs.all[index].session else { return };
        let body: Value = serde_json::from_str(envelope).unwrap_or_default();
        let id = body.get("uuid").cloned().unwrap_or_default();
        let mut meta =
            json!({"type": "ServerNotification", "messageId": id, "status": 200, "headers": {"RCRequestId": id}});
        let it = &mut self.gateway.sessions[session];
        if it.is_over {
            return;
        }
        if self.knobs.ws_wsc_everywhere == 1
            && let (Some(map), Some(token)) = (meta.as_object_mut(), it.tokens.last())
        {
            map.insert("wsc".into(), json!({"token": token, "sequence": it.sequence}));
        }
        let text = json!([meta, body]).to_string();
        let now = cx.now();
        if it.conn.is_some()
            && (!it.replays || it.is_sending)
            && let Some(recovery) = self.gateway.recoveries.iter_mut().rfind(|it| it.session == session)
        {
            recovery.soon += u64::from(now < recovery.at + 4 * SEC);
            recovery.later += u64::from(now < recovery.at + 34 * SEC);
        }
        match it.conn {
            Some(conn) if !it.replays => {
                self.fact("an event over a socket");
                self.write_event(session, conn, text, cx);
            }
            // Behind what is replayed.
            Some(_) if it.is_sending => it.buffer.push_back(text),
            _ => {
                let is_doubled = self.rng.percent(self.knobs.ws_doubles_percent);
                let it = &mut self.gateway.sessions[session];
                it.gathers_since.get_or_insert(now);
                if is_doubled {
                    it.buffer.push_back(text.clone());
                }
                it.buffer.push_back(text);
                self.cut_buffer(session);
            }
        }
    }

    /// Truncates to the gateway's limit; the newest events stay, and nothing reports it (websocket §1.12).
    fn cut_buffer(&mut self, session: usize) {
        let most = usize::try_from(self.knobs.ws_buffer).unwrap_or(100);
        let buffer = &mut self.gateway.sessions[session].buffer;
        while buffer.len() > most {
            buffer.pop_front();
        }
    }

    fn write_event(&mut self, session: usize, conn: ConnId, text: String, cx: &mut Cx<'_>) {
        self.write_text(conn, &text, cx);
        if let Some(event) = Emission::tagged(&text) {
            self.gateway.writes.push((event, cx.now()));
        }
        if self.knobs.ws_push_is_traffic == 1 {
            let now = cx.now();
            if let Some(socket) = self.gateway.socket(conn) {
                socket.last_traffic = now;
            }
        }
        let (end, _) = cx.net.progress(conn);
        let written = &mut self.gateway.sessions[session].written;
        written.push_back(Written { end, text });
        if written.len() > 500 {
            written.pop_front();
        }
        if cx.net.service_backlog(conn) > usize::try_from(self.knobs.ws_backlog).unwrap_or(usize::MAX) {
            cx.trace(format_args!("#{conn} reads too slowly"));
            self.hang_up(conn, End::ResetBehind, cx);
        }
    }

    fn write_text(&mut self, conn: ConnId, text: &str, cx: &mut Cx<'_>) {
        cx.net.service_write(conn, &frames::write(frames::TEXT, text.as_bytes()), cx.q);
    }

    // ---- what the client sends ----

    pub(super) fn socket_bytes(&mut self, conn: ConnId, bytes: &[u8], cx: &mut Cx<'_>) {
        if let Some(buffer) = self.socket_buffer(conn) {
            buffer.extend_from_slice(bytes);
        }
        loop {
            let Some(buffer) = self.socket_buffer(conn) else { return };
            match frames::parse(buffer) {
                Ok(None) => return,
                Ok(Some((opcode, payload))) => self.frame(conn, opcode, &payload, cx),
                Err(what) => {
                    self.misdeed(cx.now(), "a frame is no WebSocket frame", what.into());
                    return self.close_socket(conn, 1002, cx);
                }
            }
        }
    }

    fn frame(&mut self, conn: ConnId, opcode: u8, payload: &[u8], cx: &mut Cx<'_>) {
        let now = cx.now();
        cx.trace(format_args!("#{conn} frame {opcode} of {} bytes", payload.len()));
        match opcode {
            frames::PING => {
                self.fact("a pong");
                cx.net.service_write(conn, &frames::write(frames::PONG, payload), cx.q);
            }
            frames::PONG => {
                if let Some(socket) = self.gateway.socket(conn) {
                    socket.ping = None;
                }
            }
            frames::CLOSE => {
                cx.net.service_write(conn, &frames::write(frames::CLOSE, payload), cx.q);
                self.hang_up(conn, End::FinBehind, cx);
            }
            frames::TEXT => {
                if let Some(socket) = self.gateway.socket(conn) {
                    socket.last_traffic = now;
                }
                self.message(conn, payload, cx);
            }
            _ => self.misdeed(now, "a frame of an unknown kind", opcode.to_string()),
        }
    }

    fn message(&mut self, conn: ConnId, payload: &[u8], cx: &mut Cx<'_>) {
        let now = cx.now();
        let Ok(Value::Array(parts)) = serde_json::from_slice::<Value>(payload) else {
            return self.misdeed(now, "a frame is no JSON array", String::new());
        };
        let meta = parts.first().cloned().unwrap_or_default();
        let id = meta.get("messageId").cloned().unwrap_or_default();
        match meta.get("type").and_then(Value::as_str) {
            Some("Heartbeat") => {
                self.fact("a heartbeat is answered");
                let wait = MS + self.rng.below(self.knobs.http_work_ms * MS);
                let echo = json!([{"type": "Heartbeat", "messageId": id}]).to_string();
                cx.q.after(wait, SvcEv::Gateway(GwEv::Reply(conn, echo)).into());
            }
            Some("ClientRequest") => self.client_request(conn, &meta, parts.get(1), &id, cx),
            other => self.misdeed(now, "a frame of an unknown type", format!("{other:?}")),
        }
    }

    fn client_request(&mut self, conn: ConnId, meta: &Value, body: Option<&Value>, id: &Value, cx: &mut Cx<'_>) {
        let now = cx.now();
        let text = |name: &str| meta.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (method, path) = (text("method"), text("path"));
        let Some(socket) = self.gateway.socket(conn) else { return };
        socket.replies += 1;
        let Some(session) = socket.session else {
            return self.misdeed(now, "a request comes before ConnectionDetails", format!("{method} {path}"));
        };
        cx.trace(format_args!("#{conn} {method} over the socket"));
        let path = path.split('?').next().unwrap_or_default().to_owned();
        let op = match method.as_str() {
            "POST" => super::Op::Create,
            "PUT" => super::Op::Update,
            "DELETE" => super::Op::Delete,
            _ => super::Op::Get,
        };
        let group = super::auth::Group::of(op, &path);
        let answer = match self.rates.take(group, now, true) {
            Some(refusal) => {
                self.misdeed(now, "a rate group is exceeded", format!("{group:?} by {op:?} over a socket"));
                refusal
            }
            None => match self.fault_for(op, now) {
                Some(Wrong::Status(status, _)) => Answer::error(status, "CMN-201", "Trouble", None),
                Some(Wrong::Silent) => {
                    let call = Call { conn, method: &method, path: &path, body, session: Some(session) };
                    self.subscription_call(&call, cx);
                    return;
                }
                Some(Wrong::ResetBefore) => return self.hang_up(conn, End::ResetBehind, cx),
                Some(Wrong::ResetAfter | Wrong::CutBody | Wrong::CutHead) => {
                    let call = Call { conn, method: &method, path: &path, body, session: Some(session) };
                    self.subscription_call(&call, cx);
                    return self.hang_up(conn, End::ResetBehind, cx);
                }
                _ => {
                    let call = Call { conn, method: &method, path: &path, body, session: Some(session) };
                    self.subscription_call(&call, cx)
                        .unwrap_or_else(|| Answer::error(404, "AGW-404", "Resource not found", None))
                }
            },
        };
        let request_id = self.uuid();
        let mut meta = json!({"type": "ClientRequest", "messageId": id, "status": answer.status, "headers": {"RCRequestId": request_id}});
        if self.knobs.http_date == 1
            && let Some(headers) = meta.get_mut("headers").and_then(Value::as_object_mut)
        {
            headers.insert("Date".into(), self.clock.http_date(now).into());
        }
        if self.knobs.rate_headers == 1 {
            let label = self.rates.label(Answer::empty(200), group, now, true);
            if let Some(headers) = meta.get_mut("headers").and_then(Value::as_object_mut) {
                for (name, value) in label.headers {
                    headers.insert(name, value.into());
                }
            }
        }
        let reply = match serde_json::from_slice::<Value>(&answer.body) {
            Ok(body) => json!([meta, body]),
            Err(_) => json!([meta]),
        };
        let late = if self.knobs.ws_event_first == 1 && method == "POST" { 400 * MS } else { 0 };
        let wait = MS + self.rng.below(self.knobs.http_work_ms * MS) + late;
        cx.q.after(wait, SvcEv::Gateway(GwEv::Reply(conn, reply.to_string())).into());
    }

    /// A subscription is created within a session and replaces the previous one.
    pub(super) fn bind(&mut self, session: usize, index: usize, cx: &mut Cx<'_>) {
        let now = cx.now();
        if let Some(old) = self.gateway.sessions[session].sub.replace(index) {
            let old = &mut self.subs.all[old];
            old.is_gone = true;
            old.deaf_since = Some(now);
        }
        self.subs.all[index].session = Some(session);
    }

    // ---- ends ----

    /// Says goodbye in good order.
    pub(crate) fn close_socket(&mut self, conn: ConnId, code: u64, cx: &mut Cx<'_>) {
        if let Some(socket) = self.gateway.socket(conn) {
            socket.is_closing = true;
        }
        self.fact("a close frame");
        cx.net.service_write(conn, &frames::close(code, ""), cx.q);
        self.hang_up(conn, End::FinBehind, cx);
    }

    /// The gateway considers a socket closed.
    pub(super) fn socket_lost(&mut self, conn: ConnId, why: &str, cx: &mut Cx<'_>) {
        cx.trace(format_args!("#{conn} is lost: {why}"));
        self.detach(conn, cx);
        self.gateway.sockets.retain(|socket| socket.conn != conn);
    }

    fn detach(&mut self, conn: ConnId, cx: &mut Cx<'_>) {
        let now = cx.now();
        let (replays_lost, repeats) = (self.knobs.ws_replays_lost == 1, self.knobs.ws_repeats);
        let window = self.knobs.ws_recovery_s * SEC;
        let Some((index, it)) = self.gateway.sessions.iter_mut().enumerate().find(|(_, it)| it.conn == Some(conn))
        else {
            return;
        };
        let (_, delivered) = cx.net.progress(conn);
        it.conn = None;
        it.lost = Some(now);
        it.losses += 1;
        (it.replays, it.is_sending) = (false, false);
        let written = std::mem::take(&mut it.written);
        let arrived = written.iter().filter(|frame| frame.end <= delivered).count();
        let from =
            if replays_lost { arrived.saturating_sub(usize::try_from(repeats).unwrap_or(0)) } else { written.len() };
        for frame in written.into_iter().skip(from).rev() {
            it.buffer.push_front(frame.text);
        }
        cx.q.after(window, SvcEv::Gateway(GwEv::Over(index, it.losses)).into());
        self.cut_buffer(index);
    }

    fn session_over(&mut self, index: usize, cx: &mut Cx<'_>) {
        let now = cx.now();
        let stays = self.knobs.ws_sub_stays == 1;
        let it = &mut self.gateway.sessions[index];
        it.is_over = true;
        it.buffer.clear();
        cx.trace(format_args!("session {index} is over"));
        if let Some(sub) = it.sub {
            let sub = &mut self.subs.all[sub];
            sub.deaf_since = sub.deaf_since.or(Some(now));
            if !stays {
                sub.is_gone = true;
            }
        }
    }

    /// A login is over, as after a revocation.
    pub(crate) fn end_login(&mut self, login: u64, cx: &mut Cx<'_>) {
        self.end_sessions_of(login, cx);
    }

    /// A login is over: its sockets too.
    pub(super) fn end_sessions_of(&mut self, login: u64, cx: &mut Cx<'_>) {
        let conns: Vec<ConnId> =
            self.gateway.sockets.iter().filter(|it| it.login == login && !it.is_refused).map(|it| it.conn).collect();
        for conn in conns {
            if self.conns.get(&conn).is_some_and(|it| it.is_socket) {
                self.close_socket(conn, self.knobs.ws_close_code, cx);
            }
        }
    }

    /// The gateway forgets every session, as in a fail-over without its state.
    pub(crate) fn forget_sessions(&mut self, cx: &mut Cx<'_>) {
        for index in 0..self.gateway.sessions.len() {
            if self.gateway.sessions[index].is_over {
                continue;
            }
            let conn = self.gateway.sessions[index].conn;
            self.session_over(index, cx);
            if let Some(conn) = conn {
                self.hang_up(conn, End::ResetBehind, cx);
            }
        }
    }

    pub(super) fn gateway_step(&mut self, event: GwEv, cx: &mut Cx<'_>) {
        let now = cx.now();
        match event {
            GwEv::Details(conn) => self.details(conn, cx),
            GwEv::Replay(conn) => self.replay(conn, cx),
            GwEv::Next(conn, pace) => self.replay_next(conn, pace, cx),
            GwEv::Reply(conn, text) => {
                if self.gateway.socket(conn).is_some_and(|socket| !socket.is_closing) {
                    self.write_text(conn, &text, cx);
                }
            }
            GwEv::Ping(conn) => {
                let Some(socket) = self.gateway.socket(conn) else { return };
                socket.ping = Some(now);
                cx.net.service_write(conn, &frames::write(frames::PING, b"sim"), cx.q);
                cx.q.after(10 * SEC, SvcEv::Gateway(GwEv::PongDue(conn, now)).into());
                cx.q.after(self.knobs.ws_ping_s * SEC, SvcEv::Gateway(GwEv::Ping(conn)).into());
            }
            GwEv::PongDue(conn, at) => {
                if self.gateway.socket(conn).is_some_and(|socket| socket.ping == Some(at)) {
                    cx.trace(format_args!("#{conn} has not answered a ping"));
                    self.hang_up(conn, End::ResetBehind, cx);
                }
            }
            GwEv::Idle(conn) => {
                let idle = self.knobs.ws_idle_s * SEC;
                let Some(socket) = self.gateway.socket(conn) else { return };
                let due = socket.last_traffic + idle;
                if due > now {
                    cx.q.at(due, SvcEv::Gateway(GwEv::Idle(conn)).into());
                } else {
                    self.say_and_close(conn, "WSG-902", "Idle timeout expired", cx);
                }
            }
            GwEv::Absolute(conn) => {
                if self.gateway.socket(conn).is_some() {
                    self.say_and_close(conn, "WSG-903", "Absolute timeout expired", cx);
                }
            }
            GwEv::Over(index, losses) => {
                let it = &self.gateway.sessions[index];
                if it.losses == losses && it.conn.is_none() && !it.is_over {
                    self.session_over(index, cx);
                }
            }
            GwEv::Rotate(conn) => {
                if let Some(session) = self.gateway.socket(conn).and_then(|socket| socket.session) {
                    self.write_details(conn, session, None, cx);
                    cx.q.after(self.knobs.ws_rotate_s * SEC, SvcEv::Gateway(GwEv::Rotate(conn)).into());
                }
            }
            GwEv::Close(conn) => self.close_socket(conn, self.knobs.ws_close_code, cx),
        }
    }

    fn say_and_close(&mut self, conn: ConnId, code: &str, message: &str, cx: &mut Cx<'_>) {
        let id = self.uuid();
        let error = json!([{"type": "Error", "messageId": id, "status": 408, "headers": {"RCRequestId": id}},
            {"errorCode": code, "message": message}]);
        self.write_text(conn, &error.to_string(), cx);
        cx.q.after(5 * MS, SvcEv::Gateway(GwEv::Close(conn)).into());
    }
}
