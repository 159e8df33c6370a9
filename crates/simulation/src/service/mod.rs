//! A model of the service, written from its documentation alone.
//!
//! It knows no client. Its inputs are events of the schedule and arriving bytes; behavior that the references leave
//! open is a knob.

pub(crate) mod agent;
pub(crate) mod auth;
pub(crate) mod data;
pub(crate) mod frames;
pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod knobs;
pub(crate) mod pubnub;
pub(crate) mod subs;

use std::collections::BTreeMap;

use self::agent::{Agent, AgentEv};
use self::auth::{Auth, Group, Rates};
use self::data::Store;
use self::gateway::{Gateway, GwEv};
use self::http::{Answer, Request};
use self::knobs::Knobs;
use self::pubnub::{PnEv, PubNub};
use self::subs::Subs;
use crate::core::Ev;
use crate::net::{ConnId, End, Host, Net, Upcall};
use crate::rng::Rng;
use crate::sched::Sched;
use crate::time::{MS, SEC, ServiceClock, Us};
use crate::trace::Trace;
use crate::world::{Emission, Filter};

/// The state that the service acts on.
pub(crate) struct Cx<'a> {
    pub(crate) q: &'a mut Sched<Ev>,
    pub(crate) net: &'a mut Net,
    pub(crate) trace: &'a mut Trace,
}

impl Cx<'_> {
    pub(crate) fn now(&self) -> Us {
        self.q.now()
    }

    pub(crate) fn trace(&mut self, what: std::fmt::Arguments<'_>) {
        let now = self.q.now();
        self.trace.add(now, what);
    }
}

/// The purpose of a request, as the target of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Op {
    Token,
    WsToken,
    Create,
    List,
    Get,
    Update,
    Renew,
    Delete,
    Sync,
    PubNubPoll,
    Upgrade,
    AgentPoll,
    AgentOther,
    Other,
}

impl Op {
    fn of(host: Host, request: &Request) -> Self {
        let path = request.path.as_str();
        match host {
            Host::PubNub => Self::PubNubPoll,
            Host::Gateway => Self::Upgrade,
            Host::Agent if path.ends_with("/get-next-event") => Self::AgentPoll,
            Host::Agent => Self::AgentOther,
            Host::Platform => match (request.method.as_str(), path) {
                (_, "/restapi/oauth/token") => Self::Token,
                (_, "/restapi/oauth/wstoken") => Self::WsToken,
                ("POST", "/restapi/v1.0/subscription") => Self::Create,
                ("GET", "/restapi/v1.0/subscription") => Self::List,
                ("GET", _) if path.starts_with("/restapi/v1.0/subscription/") => Self::Get,
                ("PUT", _) if path.starts_with("/restapi/v1.0/subscription/") => Self::Update,
                ("POST", _) if path.ends_with("/renew") => Self::Renew,
                ("DELETE", _) => Self::Delete,
                ("GET", _) => Self::Sync,
                _ => Self::Other,
            },
        }
    }
}

/// How an answer fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// This status, without effect; seconds of `Retry-After`, or none.
    Status(u16, Option<u64>),
    /// Reset before the request takes effect.
    ResetBefore,
    /// The request takes effect, then a reset before the answer.
    ResetAfter,
    /// The request takes effect; the head is truncated.
    CutHead,
    /// The request takes effect; a reset truncates the body.
    CutBody,
    /// The request takes effect; the declared length is too large, and then the connection ends.
    BadLength,
    /// The request takes effect; the answer comes this many milliseconds later.
    Slow(u64),
    /// The request takes effect; no answer.
    Silent,
    /// A page of HTML with status 200, without effect.
    Html,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HttpFault {
    pub(crate) op: Op,
    pub(crate) wrong: Wrong,
    pub(crate) left: u64,
    pub(crate) until: Us,
}

#[derive(Debug)]
pub(crate) enum SvcEv {
    Respond { conn: ConnId, answer: Box<Answer>, wrong: Option<Wrong> },
    Idle { conn: ConnId, since: Us },
    Send(u32),
    PubNub(PnEv),
    Gateway(GwEv),
    Agent(AgentEv),
    TokenEnd(u64),
}

#[derive(Debug, Default)]
struct HttpConn {
    buffer: Vec<u8>,
    is_busy: bool,
    is_socket: bool,
    last: Us,
}

/// A violation by the client that the service saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misdeed {
    pub(crate) at: Us,
    pub(crate) what: &'static str,
    pub(crate) detail: String,
}

pub(crate) struct Service {
    pub(crate) knobs: Knobs,
    pub(crate) rng: Rng,
    /// The clock of all its hosts. PubNub, which others operate, has its own.
    pub(crate) clock: ServiceClock,
    conns: BTreeMap<ConnId, HttpConn>,
    pub(crate) auth: Auth,
    pub(crate) rates: Rates,
    pub(crate) subs: Subs,
    pub(crate) pubnub: PubNub,
    pub(crate) gateway: Gateway,
    pub(crate) store: Store,
    pub(crate) agent: Agent,
    pub(crate) faults: Vec<HttpFault>,
    pub(crate) misdeeds: Vec<Misdeed>,
    pub(crate) events: Vec<Emission>,
    /// How often each fault of an answer happened.
    pub(crate) went_wrong: u64,
    pub(crate) requests: u64,
    /// How often the service showed what the client may take for a proof.
    pub(crate) facts: BTreeMap<&'static str, u64>,
    /// When a source was answered last.
    pub(crate) last_source: Option<Us>,
    /// When a source was first asked.
    pub(crate) first_source: Option<Us>,
}

impl Service {
    pub(crate) fn new(knobs: Knobs, seed: u64) -> Self {
        let rng = Rng::part(seed, 11);
        Self {
            clock: ServiceClock::default(),
            conns: BTreeMap::new(),
            auth: Auth::default(),
            rates: Rates::new(&knobs),
            subs: Subs::default(),
            pubnub: PubNub::new(Rng::part(seed, 12)),
            gateway: Gateway::new(Rng::part(seed, 13)),
            store: Store::default(),
            agent: Agent::new(Rng::part(seed, 14)),
            faults: Vec::new(),
            misdeeds: Vec::new(),
            events: Vec::new(),
            went_wrong: 0,
            requests: 0,
            facts: BTreeMap::new(),
            last_source: None,
            first_source: None,
            knobs,
            rng,
        }
    }

    pub(crate) fn misdeed(&mut self, at: Us, what: &'static str, detail: String) {
        self.misdeeds.push(Misdeed { at, what, detail });
    }

    pub(crate) fn fact(&mut self, what: &'static str) {
        *self.facts.entry(what).or_default() += 1;
    }

    /// A text of random hex digits.
    pub(crate) fn hex(&mut self, digits: usize) -> String {
        (0..digits)
            .map(|_| char::from_digit(u32::try_from(self.rng.below(16)).unwrap_or(0), 16).unwrap_or('0'))
            .collect()
    }

    pub(crate) fn uuid(&mut self) -> String {
        format!("{}-{}-4{}-8{}-{}", self.hex(8), self.hex(4), self.hex(3), self.hex(3), self.hex(12))
    }

    // ---- the network's side ----

    pub(crate) fn upcall(&mut self, up: Upcall, cx: &mut Cx<'_>) {
        match up {
            Upcall::Opened(conn) => {
                let now = cx.now();
                self.conns.insert(conn, HttpConn { last: now, ..HttpConn::default() });
                self.watch_idle(conn, cx);
            }
            Upcall::Bytes(conn, bytes) => {
                let Some(it) = self.conns.get_mut(&conn) else { return };
                if it.is_socket {
                    self.socket_bytes(conn, &bytes, cx);
                } else {
                    it.buffer.extend_from_slice(&bytes);
                    self.read_requests(conn, cx);
                }
            }
            Upcall::Fin(conn) => {
                if let Some(it) = self.conns.remove(&conn) {
                    if it.is_socket {
                        self.socket_lost(conn, "fin", cx);
                    }
                    self.pubnub.forget(conn);
                    self.agent.forget(conn);
                    cx.net.end(conn, End::FinBehind, cx.q);
                }
            }
            Upcall::Reset(conn) => self.dropped(conn, cx),
        }
    }

    /// The service considers a connection closed.
    fn dropped(&mut self, conn: ConnId, cx: &mut Cx<'_>) {
        if let Some(it) = self.conns.remove(&conn) {
            if it.is_socket {
                self.socket_lost(conn, "reset", cx);
            }
            self.pubnub.forget(conn);
            self.agent.forget(conn);
        }
    }

    /// Ends a connection from the service's side.
    pub(crate) fn hang_up(&mut self, conn: ConnId, how: End, cx: &mut Cx<'_>) {
        cx.net.end(conn, how, cx.q);
        self.dropped(conn, cx);
    }

    pub(crate) fn becomes_socket(&mut self, conn: ConnId, cx: &mut Cx<'_>) {
        let Some(it) = self.conns.get_mut(&conn) else { return };
        it.is_socket = true;
        cx.net.mark_push(conn);
        let rest = std::mem::take(&mut it.buffer);
        if !rest.is_empty() {
            self.socket_bytes(conn, &rest, cx);
        }
    }

    pub(crate) fn socket_buffer(&mut self, conn: ConnId) -> Option<&mut Vec<u8>> {
        self.conns.get_mut(&conn).map(|it| &mut it.buffer)
    }

    fn watch_idle(&mut self, conn: ConnId, cx: &mut Cx<'_>) {
        let since = cx.now();
        if let Some(it) = self.conns.get_mut(&conn) {
            it.last = since;
            cx.q.after(self.knobs.http_idle_s * SEC, SvcEv::Idle { conn, since }.into());
        }
    }

    fn read_requests(&mut self, conn: ConnId, cx: &mut Cx<'_>) {
        let now = cx.now();
        let Some(it) = self.conns.get_mut(&conn) else { return };
        if it.is_busy {
            return;
        }
        match http::parse(conn, &mut it.buffer) {
            Ok(None) => {}
            Ok(Some(request)) => {
                it.is_busy = true;
                it.last = now;
                self.requests += 1;
                self.serve(&request, cx);
            }
            Err(what) => {
                self.misdeed(now, "a request is no HTTP", what.into());
                self.hang_up(conn, End::FinBehind, cx);
            }
        }
    }

    fn serve(&mut self, request: &Request, cx: &mut Cx<'_>) {
        let host = cx.net.conn(request.conn).host;
        let op = Op::of(host, request);
        let now = cx.now();
        let wrong = self.fault_for(op, now);
        let body = crate::trace::bytes(0, &request.body);
        let quiet = if op == Op::Upgrade { "/ws" } else { request.path.as_str() };
        cx.trace(format_args!("#{} {} {quiet} {op:?} {wrong:?} {body:x}", request.conn, request.method));
        if let Some(wrong) = wrong {
            self.went_wrong += 1;
            match wrong {
                Wrong::Status(status, wait) => {
                    let code = if status == 401 {
                        "OAU-213"
                    } else if status == 429 {
                        "CMN-301"
                    } else {
                        "CMN-201"
                    };
                    let mut answer = Answer::error(status, code, "Trouble", None);
                    if let Some(wait) = wait {
                        answer = answer.header("Retry-After", wait.to_string());
                    }
                    return self.answer(request.conn, answer, None, cx);
                }
                Wrong::Html => {
                    let answer =
                        Answer::empty(200).header("Content-Type", "text/html").body(b"<html>Welcome</html>".to_vec());
                    return self.answer(request.conn, answer, None, cx);
                }
                Wrong::ResetBefore => return self.hang_up(request.conn, End::ResetBehind, cx),
                _ => {}
            }
        }
        match host {
            Host::PubNub => self.pubnub_request(request, wrong, cx),
            Host::Gateway => self.upgrade(request, wrong, cx),
            Host::Agent => self.agent_request(request, op, wrong, cx),
            Host::Platform => {
                let answer = self.platform(request, op, cx);
                self.answer(request.conn, answer, wrong, cx);
            }
        }
    }

    fn fault_for(&mut self, op: Op, now: Us) -> Option<Wrong> {
        let fault = self.faults.iter_mut().find(|fault| fault.op == op && fault.left > 0 && now < fault.until)?;
        fault.left -= 1;
        Some(fault.wrong)
    }

    /// Answers after the usual work.
    pub(crate) fn answer(&mut self, conn: ConnId, answer: Answer, wrong: Option<Wrong>, cx: &mut Cx<'_>) {
        let mut wait = MS + self.rng.below(self.knobs.http_work_ms * MS) + answer.delay;
        if let Some(Wrong::Slow(more)) = wrong {
            wait += more * MS;
        }
        cx.q.after(wait, SvcEv::Respond { conn, answer: Box::new(answer), wrong }.into());
    }

    fn respond(&mut self, conn: ConnId, mut answer: Answer, wrong: Option<Wrong>, cx: &mut Cx<'_>) {
        if !self.conns.contains_key(&conn) {
            return;
        }
        if self.knobs.http_date == 1 {
            answer.headers.push(("Date".into(), self.clock.http_date(cx.now())));
        }
        cx.trace(format_args!("#{conn} <- {} {} bytes {wrong:?}", answer.status, answer.body.len()));
        let chunked = self.knobs.http_chunked == 1;
        let close = self.knobs.http_close == 1 && answer.status != 101;
        let lie = if wrong == Some(Wrong::BadLength) { 100 } else { 0 };
        let (head, body) = answer.write(chunked, close, lie);
        match wrong {
            Some(Wrong::ResetAfter) => return self.hang_up(conn, End::ResetBehind, cx),
            Some(Wrong::Silent) => {
                // The connection stays open, and nothing more is read from it.
                return;
            }
            Some(Wrong::CutHead) => {
                cx.net.service_write(conn, &head[..head.len() / 2], cx.q);
                return self.hang_up(conn, End::FinBehind, cx);
            }
            Some(Wrong::CutBody) => {
                cx.net.service_write(conn, &head, cx.q);
                cx.net.service_write(conn, &body[..body.len() / 2], cx.q);
                return self.hang_up(conn, End::ResetBehind, cx);
            }
            _ => {}
        }
        cx.net.service_write(conn, &head, cx.q);
        cx.net.service_write(conn, &body, cx.q);
        if lie > 0 || close {
            return self.hang_up(conn, End::FinBehind, cx);
        }
        if let Some(it) = self.conns.get_mut(&conn) {
            it.is_busy = false;
        }
        if answer.status == 101 {
            self.becomes_socket(conn, cx);
            self.socket_open(conn, cx);
        } else {
            self.watch_idle(conn, cx);
            self.read_requests(conn, cx);
        }
    }

    /// Its clock is set back, as after it was wrong. Whether that is ever visible, and how the hosts follow, is
    /// unverified.
    pub(crate) fn set_clock_back(&mut self, by: Us, now: Us) {
        self.fact("clock set");
        self.clock.sets.push((now, by));
    }

    // ---- what is due ----

    pub(crate) fn step(&mut self, event: SvcEv, cx: &mut Cx<'_>) {
        match event {
            SvcEv::Respond { conn, answer, wrong } => self.respond(conn, *answer, wrong, cx),
            SvcEv::Idle { conn, since } => {
                if self.conns.get(&conn).is_some_and(|it| !it.is_busy && !it.is_socket && it.last == since) {
                    self.hang_up(conn, End::FinBehind, cx);
                }
            }
            SvcEv::Send(id) => self.send_event(id, cx),
            SvcEv::PubNub(event) => self.pubnub_step(event, cx),
            SvcEv::Gateway(event) => self.gateway_step(event, cx),
            SvcEv::Agent(event) => self.agent_step(event, cx),
            SvcEv::TokenEnd(login) => self.login_may_end(login, cx),
        }
    }

    /// An event in the account.
    pub(crate) fn emit(&mut self, event: Emission, cx: &mut Cx<'_>) {
        cx.trace(format_args!("event {} {:?}", event.id, event.what));
        self.events.push(event);
        self.record(&event, cx.now());
        let lag = self.rng.below(self.knobs.send_lag_ms * MS + 1);
        cx.q.after(lag, SvcEv::Send(event.id).into());
    }

    fn send_event(&mut self, id: u32, cx: &mut Cx<'_>) {
        let Some(event) = self.events.iter().find(|event| event.id == id).copied() else { return };
        let now = cx.now();
        if event.what.filter() == Filter::Agent {
            return self.agent_event(&event, cx);
        }
        for index in self.subs.serving(event.what.filter(), now) {
            let envelope = self.envelope(&event, index, now);
            cx.trace(format_args!("send {} to sub {index}", event.id));
            if self.subs.all[index].is_socket {
                self.push_to_session(index, &envelope, cx);
            } else {
                self.publish(index, &envelope, cx);
            }
        }
    }

    /// A call of the REST API over HTTPS.
    fn platform(&mut self, request: &Request, op: Op, cx: &mut Cx<'_>) -> Answer {
        let now = cx.now();
        let group = Group::of(op, &request.path);
        if let Some(refusal) = self.rates.take(group, now, self.knobs.rate_headers == 1) {
            cx.trace(format_args!("rate group {group:?} is exceeded by {op:?}"));
            self.misdeed(now, "a rate group is exceeded", format!("{group:?} by {op:?}"));
            return refusal;
        }
        let answer = match op {
            Op::Token => self.token(request, cx),
            _ if request.path == "/restapi/oauth/revoke" => self.revoke(request, cx),
            _ => match self.auth.check(request.bearer(), now) {
                Err(refusal) => refusal,
                Ok(login) => match op {
                    Op::WsToken => self.ws_token(login, cx),
                    _ => {
                        let body = request.json();
                        let call = subs::Call {
                            conn: request.conn,
                            method: &request.method,
                            path: &request.path,
                            body: body.as_ref(),
                            session: None,
                        };
                        match self.subscription_call(&call, cx) {
                            Some(answer) => answer,
                            None => {
                                self.fact("a source is answered");
                                self.last_source = Some(now);
                                self.first_source.get_or_insert(now);
                                self.data_call(request, now)
                            }
                        }
                    }
                },
            },
        };
        self.rates.label(answer, group, now, self.knobs.rate_headers == 1)
    }
}
