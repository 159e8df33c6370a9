//! Agent sessions of the contact center and their comet poll (incontact §4, §5).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::http::{Answer, Request};
use super::{Cx, Op, Service, SvcEv, Wrong};
use crate::net::{ConnId, Net};
use crate::rng::Rng;
use crate::time::{SEC, Us};
use crate::world::{Emission, What};

#[derive(Debug)]
struct Poll {
    conn: ConnId,
    after: usize,
    wrong: Option<Wrong>,
    id: u64,
}

#[derive(Debug, Default)]
struct Session {
    log: Vec<Value>,
    /// The position of each token; the last is the newest.
    tokens: Vec<(String, usize)>,
    /// More events waited than the service retains.
    is_overrun: bool,
    ended: bool,
    /// The last event was sent after the end.
    is_over: bool,
    last_poll: Us,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum AgentEv {
    Timeout(u64),
    Quiet,
}

#[derive(Debug)]
pub(crate) struct Agent {
    session: Option<Session>,
    poll: Option<Poll>,
    next: u64,
    contacts: BTreeMap<u32, Value>,
    state: &'static str,
    rng: Rng,
    pub(crate) snapshots: u64,
}

impl Agent {
    pub(crate) fn new(rng: Rng) -> Self {
        Self { session: None, poll: None, next: 0, contacts: BTreeMap::new(), state: "Unavailable", rng, snapshots: 0 }
    }

    pub(crate) fn forget(&mut self, conn: ConnId) {
        if self.poll.as_ref().is_some_and(|poll| poll.conn == conn) {
            self.poll = None;
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.session.as_ref().is_some_and(|it| !it.ended)
    }

    /// Whether an event would reach the open poll.
    pub(crate) fn delivers(&self, net: &Net, now: Us) -> bool {
        self.is_live() && self.poll.as_ref().is_some_and(|poll| net.conn(poll.conn).would_arrive(now))
    }

    fn mint(&mut self) -> String {
        use base64::Engine as _;
        let code = base64::engine::general_purpose::STANDARD;
        let mut bytes = [0; 24];
        self.rng.fill(&mut bytes);
        let text = code.encode(code.encode(bytes));
        if let Some(session) = &mut self.session {
            let at = session.log.len();
            session.tokens.push((text.clone(), at));
        }
        text
    }

    fn push(&mut self, event: Value) {
        if let Some(session) = &mut self.session {
            session.log.push(event);
        }
    }

    fn state_event(&self) -> Value {
        json!({"IISHost": "WEB", "VCHost": "VC", "Type": "AgentState", "CurrentState": self.state, "CurrentOutReason": "",
            "StartTimeUTC": "2026-03-01T08:00:00.000Z", "IsAcw": "False", "AcwTimeout": "0", "NextStates": [], "NextIsAcw": "False"})
    }

    fn snapshot(&mut self) -> Vec<Value> {
        self.snapshots += 1;
        let mut all = vec![start_event(), self.state_event()];
        all.extend(self.contacts.values().cloned());
        all
    }
}

fn start_event() -> Value {
    json!({"IISHost": "WEB", "VCHost": "VC", "Type": "AgentSessionStart", "SessionId": "310004411", "AgentId": "7001", "AgentUserName": "sim"})
}

impl Service {
    pub(super) fn agent_request(&mut self, request: &Request, op: Op, wrong: Option<Wrong>, cx: &mut Cx<'_>) {
        let path = request.path.to_ascii_lowercase();
        let Some(at) = path.find("/agent-sessions") else {
            return self.answer(request.conn, Answer::empty(404), wrong, cx);
        };
        if request.bearer().is_none() {
            return self.answer(request.conn, Answer::empty(401), wrong, cx);
        }
        let rest = request.path[at..].trim_start_matches("/agent-sessions").trim_start_matches('/').to_owned();
        let now = cx.now();
        if op == Op::AgentPoll {
            return self.agent_poll(request, &rest, wrong, cx);
        }
        let answer = match (request.method.as_str(), rest.as_str()) {
            ("POST", "") if self.agent.is_live() => {
                Answer::json(409, &json!({"error": "SessionInProgress", "error_description": "SessionInProgress"}))
            }
            ("POST", "") => {
                self.agent.session = Some(Session { last_poll: now, ..Session::default() });
                self.agent.state = "Unavailable";
                let token = self.agent.mint();
                let (start, state) = (start_event(), self.agent.state_event());
                self.agent.push(start);
                self.agent.push(state);
                cx.q.after(self.knobs.agent_inactivity_s * SEC, SvcEv::Agent(AgentEv::Quiet).into());
                Answer::json(202, &json!({"sessionId": token}))
            }
            ("POST", "join") if self.agent.is_live() => {
                let token = self.agent.mint();
                // A joined id is answered with a snapshot: another one is the newest.
                self.agent.mint();
                Answer::json(202, &json!({"sessionId": token}))
            }
            ("POST", "join") => Answer::json(409, &json!({"error": "NoSession"})),
            ("DELETE", sid) if self.agent_knows(sid) => {
                if self.agent.is_live() {
                    let end = json!({"IISHost": "WEB", "VCHost": "VC", "Type": "AgentSessionEnd", "Success": "True"});
                    self.agent.push(end);
                    if let Some(session) = &mut self.agent.session {
                        session.ended = true;
                    }
                    self.agent_news(cx);
                }
                Answer::empty(202)
            }
            ("POST", sid) if sid.ends_with("/state") => {
                let body = request.json().unwrap_or_default();
                let state = body.get("state").and_then(Value::as_str).unwrap_or_default();
                self.agent.state = if state == "Available" { "Available" } else { "Unavailable" };
                let event = self.agent.state_event();
                self.agent.push(event);
                self.agent_news(cx);
                Answer::empty(202)
            }
            _ => Answer::json(404, &json!({"error": "InvalidAgentSession"})),
        };
        self.answer(request.conn, answer, wrong, cx);
    }

    fn agent_knows(&self, sid: &str) -> bool {
        let sid = super::http::decode(sid, false);
        self.agent.session.as_ref().is_some_and(|session| session.tokens.iter().any(|(token, _)| *token == sid))
    }

    fn agent_poll(&mut self, request: &Request, rest: &str, wrong: Option<Wrong>, cx: &mut Cx<'_>) {
        let now = cx.now();
        let sid = super::http::decode(rest.split('/').next().unwrap_or_default(), false);
        let replays = self.knobs.agent_stale == 1;
        let Some(timeout) = request.query("timeout").and_then(|text| text.parse::<u64>().ok()).filter(|n| *n <= 60)
        else {
            return self.answer(request.conn, Answer::empty(400), wrong, cx);
        };
        // A second poll takes the place of the first (incontact §10: newest wins).
        if let Some(old) = self.agent.poll.take() {
            let is_alive = |conn| cx.net.conn(conn).would_arrive(now) && cx.net.conn(conn).is_alive();
            if is_alive(old.conn) && is_alive(request.conn) {
                cx.trace(format_args!("#{} polls beside #{}", request.conn, old.conn));
                self.misdeed(now, "two polls of one agent session", String::new());
            }
            self.answer(old.conn, Answer::empty(304), None, cx);
        }
        let most = usize::try_from(self.knobs.agent_queue).unwrap_or(500);
        let Some(session) = &mut self.agent.session else {
            return self.answer(request.conn, Answer::json(404, &json!({"error": "InvalidAgentSession"})), wrong, cx);
        };
        session.last_poll = now;
        let Some((_, at)) = session.tokens.iter().find(|(token, _)| *token == sid).cloned() else {
            return self.answer(request.conn, Answer::json(404, &json!({"error": "InvalidAgentSession"})), wrong, cx);
        };
        if session.is_over {
            let answer = Answer::json(409, &json!({"error": "SessionEnded"}));
            return self.answer(request.conn, self.branch(answer, 4), wrong, cx);
        }
        let is_newest = session.tokens.last().is_some_and(|(token, _)| *token == sid);
        let waiting = session.log.len() - at;
        let overrun = is_newest && waiting > most;
        session.is_overrun |= overrun;
        let too_far = waiting > most;
        let first = session.tokens.len() == 1;
        let is_stale = !is_newest && (!replays || too_far);
        if (is_stale || session.is_overrun) && !first {
            session.is_overrun = false;
            let ended = session.ended;
            let mut events = self.agent.snapshot();
            if ended {
                events.push(json!({"IISHost": "WEB", "VCHost": "VC", "Type": "AgentSessionEnd", "Success": "True"}));
            }
            cx.trace(format_args!("#{} gets a snapshot", request.conn));
            return self.agent_answer(request.conn, &events, 3, wrong, cx);
        }
        let id = self.agent.next;
        self.agent.next += 1;
        self.agent.poll = Some(Poll { conn: request.conn, after: at, wrong, id });
        cx.q.after(timeout * SEC, SvcEv::Agent(AgentEv::Timeout(id)).into());
        self.agent_news(cx);
    }

    fn branch(&self, answer: Answer, branch: u8) -> Answer {
        if self.knobs.agent_branch_header == 1 { answer.header("icBranchValue", branch.to_string()) } else { answer }
    }

    fn agent_answer(&mut self, conn: ConnId, events: &[Value], branch: u8, wrong: Option<Wrong>, cx: &mut Cx<'_>) {
        let percent = self.knobs.agent_no_id_percent;
        let no_id = percent > 0 && self.rng.percent(percent);
        self.fact(if no_id { "an agent's answer without an id" } else { "an agent's answer" });
        let token = if no_id && self.knobs.agent_no_id_moves == 1 {
            if let Some(session) = &mut self.agent.session {
                let end = session.log.len();
                if let Some((_, at)) = session.tokens.last_mut() {
                    *at = end;
                }
            }
            String::new()
        } else {
            self.agent.mint()
        };
        if let Some(session) = &mut self.agent.session {
            session.is_over |= session.ended;
        }
        let answer = if no_id {
            Answer::json(200, &json!({"events": events}))
        } else {
            Answer::json(200, &json!({"sessionId": token, "events": events}))
        };
        let answer = self.branch(answer, branch);
        self.answer(conn, answer, wrong, cx);
    }

    /// Answers the open poll if events are waiting.
    fn agent_news(&mut self, cx: &mut Cx<'_>) {
        let Some(session) = &self.agent.session else { return };
        let Some(poll) = self.agent.poll.take_if(|poll| poll.after < session.log.len()) else { return };
        let events = session.log[poll.after..].to_vec();
        cx.trace(format_args!("#{} gets {} agent events", poll.conn, events.len()));
        self.agent_answer(poll.conn, &events, 1, poll.wrong, cx);
    }

    pub(super) fn agent_event(&mut self, event: &Emission, cx: &mut Cx<'_>) {
        let tag = event.tag();
        let value = match event.what {
            What::AgentShot => {
                json!({"IISHost": "WEB", "VCHost": "VC", "Type": "PopURL", "ContactId": "1", "URL": format!("https://crm.example/{tag}"),
                    "TabTitle": tag, "PopDestination": "Default", "PopoutWindowHeight": "", "PopoutWindowWidth": "", "ClosePopoutUponTermination": "False"})
            }
            What::AgentContact { contact, step, last } => {
                let status = match (step, last) {
                    (_, true) => "Disconnected",
                    (0, _) => "Incoming",
                    (n, _) if n % 2 == 1 => "Active",
                    _ => "Holding",
                };
                let value = json!({"IISHost": "WEB", "VCHost": "VC", "Type": "CallContactEvent", "ContactID": (900_100 + contact).to_string(),
                    "MasterID": "1", "ParentContactId": "", "Status": status, "CallType": "Regular", "DNIS": "+1", "ANI": "+2",
                    "Skill": tag, "IsInbound": "True", "StartTimeUTC": self.clock.stamp(event.at), "LastStateChangeTimeUTC": self.clock.stamp(event.at),
                    "FinalState": if last { "True" } else { "False" }});
                if last {
                    self.agent.contacts.remove(&contact);
                } else {
                    self.agent.contacts.insert(contact, value.clone());
                }
                value
            }
            _ => return,
        };
        if self.agent.is_live() {
            self.agent.push(value);
            self.agent_news(cx);
        }
    }

    pub(super) fn agent_step(&mut self, event: AgentEv, cx: &mut Cx<'_>) {
        let now = cx.now();
        match event {
            AgentEv::Timeout(id) => {
                if let Some(poll) = self.agent.poll.take_if(|poll| poll.id == id) {
                    if let Some(session) = &mut self.agent.session {
                        session.last_poll = now;
                    }
                    let answer = Answer::empty(304).header("icStatusDescription", "No events");
                    let answer = self.branch(answer, 2);
                    self.answer(poll.conn, answer, poll.wrong, cx);
                }
            }
            AgentEv::Quiet => {
                let limit = self.knobs.agent_inactivity_s * SEC;
                let is_polled = self.agent.poll.is_some();
                let Some(session) = &mut self.agent.session else { return };
                if session.ended {
                    return;
                }
                if is_polled {
                    session.last_poll = now;
                }
                let due = session.last_poll + limit;
                if due > now {
                    cx.q.at(due, SvcEv::Agent(AgentEv::Quiet).into());
                } else {
                    cx.trace(format_args!("the agent session has ended: no polls"));
                    session.ended = true;
                    session.log.push(json!({"IISHost": "WEB", "VCHost": "VC", "Type": "RemoteAgentSessionEnd", "Message": "SessionTimeout"}));
                }
            }
        }
    }
}
