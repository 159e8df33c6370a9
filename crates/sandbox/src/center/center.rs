//! The Contact Center: its sessions, and every call except the poll.

use std::collections::HashMap;
use std::time::Duration;

use fastrand::Rng;
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::json;
use tokio::time::Instant;

use super::calls::{self, ContactStep};
use super::event::Event;
use super::events::{agent_state, own_end, remote_end};
use super::params::Params;
use super::session::{Session, Station};
use super::tokens::{self, Denied, Tokens};
use crate::behavior::{AgentBehavior, EndWithContacts, ErrorsIn, ExistingSession, TimeFormat};
use crate::context::Context;
use crate::http::{Call, Reply, empty_reply, json_reply};

/// The agent who logs in.
pub(crate) const AGENT: &str = "7001";

/// The state of the Contact Center.
pub(crate) struct Center {
    pub(crate) tokens: Tokens,
    /// Oldest first; at most the last session of an agent is live.
    pub(crate) sessions: Vec<Session>,
    /// Custom events that outlive a session, by agent.
    persistent: HashMap<String, Vec<Event>>,
}

/// Maximum number of ended sessions remembered.
const OVER: usize = 1000;

impl Center {
    pub(crate) fn at(url: String, rng: &mut Rng) -> Self {
        Self { tokens: Tokens::new(url, rng), sessions: Vec::new(), persistent: HashMap::new() }
    }

    /// The session with an id, current or old.
    pub(crate) fn of_id(&mut self, id: &str) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.log.place(id).is_some())
    }

    /// The agent's live session.
    pub(crate) fn of_agent(&mut self, agent: &str) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.agent == agent && !session.is_over())
    }

    /// Stores a custom event for the agent's future sessions; the latest of each name wins.
    pub(crate) fn persist(&mut self, agent: &str, event: Event) {
        let kept = self.persistent.entry(agent.to_owned()).or_default();
        kept.retain(|held| held.custom_name() != event.custom_name());
        kept.push(event);
    }

    fn add(&mut self, session: Session) {
        self.sessions.push(session);
        if self.sessions.len() > OVER
            && let Some(at) = self.sessions.iter().position(Session::is_over)
        {
            self.sessions.remove(at);
        }
    }
}

/// The branch of a poll's answer (`icBranchValue`). Only 3 is documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Branch(pub(crate) u8);

impl Branch {
    pub(crate) const QUIET: Self = Self(2);
    const OVER: Self = Self(4);
    const UNKNOWN: Self = Self(5);
    const DENIED: Self = Self(6);
    const TIMEOUT: Self = Self(7);
}

/// An error response of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    status: u16,
    code: &'static str,
    text: &'static str,
    branch: Option<Branch>,
}

impl Wrong {
    const fn new(status: u16, code: &'static str, text: &'static str, branch: Option<Branch>) -> Self {
        Self { status, code, text, branch }
    }

    pub(crate) const UNKNOWN: Self =
        Self::new(404, "InvalidAgentSession", "the session is not known", Some(Branch::UNKNOWN));
    pub(crate) const OVER: Self = Self::new(409, "AgentSessionEnded", "the session has ended", Some(Branch::OVER));
    pub(crate) const TIMEOUT: Self =
        Self::new(400, "InvalidTimeout", "timeout is a whole number from 0 to 60", Some(Branch::TIMEOUT));
    const NOTHING: Self = Self::new(404, "NotFound", "unknown endpoint", None);
    const METHOD: Self = Self::new(405, "MethodNotAllowed", "not with this method", None);
    const PARAMETER: Self = Self::new(400, "InvalidParameter", "a parameter is not valid", None);

    fn start(code: &'static str) -> Self {
        Self::new(400, "InvalidParameter", code, None)
    }

    pub(crate) fn denied(denied: Denied) -> Self {
        match denied {
            Denied::Token => Self::new(401, "InvalidToken", "the token is missing or expired", Some(Branch::DENIED)),
            Denied::Scope => Self::new(403, "InvalidSecurityUser", "invalid security user", Some(Branch::DENIED)),
        }
    }

    /// The response; only polls carry the branch.
    pub(crate) fn reply(self, behavior: &AgentBehavior, is_poll: bool) -> Reply {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut reply = match behavior.errors_in {
            ErrorsIn::Header => empty_reply(status),
            ErrorsIn::Both | ErrorsIn::Body => {
                json_reply(status, &json!({ "error": self.code, "error_description": self.text }))
            }
        };
        if behavior.errors_in != ErrorsIn::Body {
            // The text is the code, as for the parameters of a start.
            let said = if self.code == "InvalidParameter" { self.text } else { self.code };
            describe(&mut reply, said);
        }
        if let Some(branch) = self.branch.filter(|_| is_poll) {
            mark(&mut reply, branch, behavior);
        }
        reply
    }
}

pub(crate) fn describe(reply: &mut Reply, said: &'static str) {
    reply.headers_mut().insert(HeaderName::from_static("icstatusdescription"), HeaderValue::from_static(said));
}

pub(crate) fn mark(reply: &mut Reply, branch: Branch, behavior: &AgentBehavior) {
    if behavior.branch_header {
        reply.headers_mut().insert(HeaderName::from_static("icbranchvalue"), HeaderValue::from(u16::from(branch.0)));
    }
}

/// The requested operation; casing and version of the path do not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Central,
    AccessKey,
    UserRefresh,
    CxOne,
    WhoAmI,
    OpenId,
    Configuration,
    Start,
    Join,
    /// Ends the session with this id.
    End(String),
    Poll(String),
    State(String),
    KeepAlive(String),
    Resize(String),
    Phone(String, String),
    Contact(String, String, String),
    ServerTime,
    /// An empty id.
    NoId,
    Nothing,
}

/// Reads method and path. `None`: the path exists, but not with this method.
pub(crate) fn route(method: &str, segments: &[String]) -> Option<Route> {
    let lower: Vec<String> = segments.iter().map(|part| part.to_ascii_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    let api = lower.iter().position(|part| *part == "incontactapi");
    if let Some(api) = api
        && let Some(["services", version, _, ..]) = lower.get(api + 1..)
        && is_version(version)
    {
        return of_api(method, &segments[api + 3..], &lower[api + 3..]);
    }
    let (wanted, route) = match lower.as_slice() {
        [.., "incontactauthorizationserver", "token"] => ("POST", Route::Central),
        [.., "incontactauthorizationserver", "token", "whoami"] => ("POST", Route::WhoAmI),
        ["authentication", "v1", "token", "access-key"] => ("POST", Route::AccessKey),
        ["public", "user", "refresh"] => ("POST", Route::UserRefresh),
        ["auth", "token"] => ("POST", Route::CxOne),
        [".well-known", "openid-configuration"] => ("GET", Route::OpenId),
        [".well-known", "cxone-configuration"] => ("GET", Route::Configuration),
        _ => return Some(Route::Nothing),
    };
    (method == wanted).then_some(route)
}

/// `v23.0`, `V8`.
fn is_version(text: &str) -> bool {
    let Some(numbers) = text.strip_prefix('v') else { return false };
    let (major, minor) = numbers.split_once('.').unwrap_or((numbers, "0"));
    [major, minor].iter().all(|part| !part.is_empty() && part.bytes().all(|it| it.is_ascii_digit()))
}

fn of_api(method: &str, parts: &[String], lower: &[&str]) -> Option<Route> {
    // Ids are case-sensitive.
    let id = || parts.get(1).cloned().unwrap_or_default();
    let (wanted, route) = match lower {
        ["agent-sessions"] => ("POST", Route::Start),
        ["agent-sessions", "join"] => ("POST", Route::Join),
        ["agent-sessions", "", ..] => return Some(Route::NoId),
        ["agent-sessions", _] => ("DELETE", Route::End(id())),
        ["agent-sessions", _, "get-next-event"] => ("GET", Route::Poll(id())),
        ["agent-sessions", _, "state"] => ("POST", Route::State(id())),
        ["agent-sessions", _, "keep-alive"] => ("POST", Route::KeepAlive(id())),
        ["agent-sessions", _, "event-queue-resize"] => ("POST", Route::Resize(id())),
        ["agent-sessions", _, "agent-phone", action] => ("POST", Route::Phone(id(), (*action).to_owned())),
        ["agent-sessions", _, "interactions", _, action] => {
            ("POST", Route::Contact(id(), parts[3].clone(), (*action).to_owned()))
        }
        ["server-time"] => ("GET", Route::ServerTime),
        _ => return Some(Route::Nothing),
    };
    (method == wanted).then_some(route)
}

/// The time in the format of the events.
pub(super) fn time(ctx: &Context) -> String {
    ctx.write_time_as(ctx.moment().wall, TimeFormat::Zulu)
}

/// Answers every call except polls.
pub(crate) fn handle(own: &mut Center, ctx: &mut Context, call: &Call, route: Option<Route>) -> Reply {
    let behavior = ctx.behavior.agent.clone();
    let now = ctx.moment().now;
    let Some(route) = route else { return Wrong::METHOD.reply(&behavior, false) };
    match route {
        Route::Central => return tokens::central(&mut own.tokens, ctx, call),
        Route::AccessKey => return tokens::access_key(&mut own.tokens, ctx, call),
        Route::UserRefresh => return tokens::user_refresh(&mut own.tokens, ctx, call),
        Route::CxOne => return tokens::cxone(&mut own.tokens, ctx, call),
        Route::WhoAmI => return tokens::who_am_i(&own.tokens, ctx, call),
        Route::OpenId => return tokens::openid(&own.tokens),
        Route::Configuration => return tokens::configuration(&own.tokens, ctx, call),
        Route::Nothing => return Wrong::NOTHING.reply(&behavior, false),
        _ => {}
    }
    if let Err(denied) = own.tokens.check(call, now) {
        return Wrong::denied(denied).reply(&behavior, false);
    }
    let params = Params::of(call);
    let done = match route {
        Route::Start => {
            return start(own, ctx, &params).unwrap_or_else(|wrong| wrong.reply(&behavior, false));
        }
        Route::Join => return join(own, ctx, &params).unwrap_or_else(|wrong| wrong.reply(&behavior, false)),
        Route::ServerTime => {
            let body = json!({ "ServerTime": time(ctx) });
            return json_reply(StatusCode::OK, &body);
        }
        Route::NoId if call.method == "DELETE" => Err(Wrong::UNKNOWN),
        Route::NoId => Err(Wrong::METHOD),
        Route::End(id) => end(own, ctx, &id, &params),
        Route::State(id) => set_state(own, ctx, &id, &params),
        Route::KeepAlive(id) | Route::Resize(id) => living(own, ctx, &id).map(drop),
        Route::Phone(id, action) => match calls::phone(&action) {
            Some(events) => living(own, ctx, &id).map(drop).map(|()| {
                push_to(own, ctx, &id, events.iter().map(Event::of));
            }),
            None => Err(Wrong::NOTHING),
        },
        Route::Contact(id, contact, action) => {
            step_of(&action).ok_or(Wrong::NOTHING).and_then(|step| contact_step(own, ctx, &id, &contact, step))
        }
        _ => Err(Wrong::NOTHING),
    };
    match done {
        Ok(()) => empty_reply(StatusCode::ACCEPTED),
        Err(wrong) => wrong.reply(&behavior, false),
    }
}

fn push_to(own: &mut Center, ctx: &Context, id: &str, events: impl IntoIterator<Item = Event>) {
    let (behavior, now) = (&ctx.behavior.agent, ctx.moment().now);
    let Some(session) = own.of_id(id) else { return };
    for event in events {
        session.push(event, behavior, now);
    }
}

/// The live session with an id.
fn living<'a>(own: &'a mut Center, ctx: &Context, id: &str) -> Result<&'a mut Session, Wrong> {
    let session = own.of_id(id).ok_or(Wrong::UNKNOWN)?;
    ctx.poke();
    let now = ctx.moment().now;
    if session.is_forgotten(&ctx.behavior.agent, now) {
        return Err(Wrong::UNKNOWN);
    }
    if session.is_over() {
        return Err(Wrong::OVER);
    }
    session.touch(now);
    Ok(session)
}

fn agent_of(params: &Params) -> Result<&str, Wrong> {
    let agent = params.get("asAgentId").unwrap_or(AGENT);
    if agent.bytes().all(|it| it.is_ascii_digit()) { Ok(agent) } else { Err(Wrong::start("InvalidAgentId")) }
}

fn begun(id: &str, behavior: &AgentBehavior) -> Reply {
    let status = StatusCode::from_u16(behavior.started_status).unwrap_or(StatusCode::ACCEPTED);
    json_reply(status, &json!({ "sessionId": id }))
}

fn start(own: &mut Center, ctx: &mut Context, params: &Params) -> Result<Reply, Wrong> {
    let agent = agent_of(params)?.to_owned();
    let station = station(params)?;
    if own.of_agent(&agent).is_some() {
        return Err(match ctx.behavior.agent.existing_session {
            ExistingSession::Conflict => Wrong::new(409, "SessionInProgress", "the agent has a session", None),
            ExistingSession::BadRequest => Wrong::start("SessionInProgress"),
        });
    }
    let taken = |same: &dyn Fn(&Station) -> bool| {
        own.sessions.iter().any(|session| !session.is_over() && same(&session.station))
    };
    if !station.id.is_empty() && taken(&|other| other.id == station.id) {
        return Err(Wrong::start("StationIDInUse"));
    }
    let is_shared = station.phone.is_empty() || station.phone.eq_ignore_ascii_case("WebRTC");
    if !is_shared && taken(&|other| other.phone == station.phone) {
        return Err(Wrong::start("PhoneNumberInUse"));
    }
    let (at, now) = (time(ctx), ctx.moment().now);
    let behavior = &ctx.behavior.agent;
    let (mut session, id) = Session::start(&agent, station, &at, behavior, &mut ctx.rng, now);
    for event in own.persistent.get(&agent).into_iter().flatten() {
        session.push(event.clone(), behavior, now);
    }
    own.add(session);
    ctx.poke();
    Ok(begun(&id, behavior))
}

fn station(params: &Params) -> Result<Station, Wrong> {
    let id = params.get("stationId").unwrap_or_default();
    let phone = params.get("stationPhoneNumber").unwrap_or_default();
    if !id.is_empty() && id.parse::<i32>().is_err() {
        return Err(Wrong::start("Invalid parameter 'stationId', must be type Int32"));
    }
    if id.is_empty() == phone.is_empty() || (!phone.is_empty() && !is_phone(phone)) {
        return Err(Wrong::start("InvalidPhoneNumberOrStation"));
    }
    let inactivity = match params.get("inactivityTimeout").map(str::parse::<u64>) {
        None | Some(Ok(0)) => None,
        Some(Ok(seconds @ 30..=300)) => Some(Duration::from_secs(seconds)),
        Some(_) => return Err(Wrong::start("Invalid parameter 'inactivityTimeout'")),
    };
    let force_logout = params.is_true("inactivityForceLogout");
    Ok(Station { id: id.to_owned(), phone: phone.to_owned(), inactivity, force_logout })
}

/// Ten digits, an international number, or `WebRTC`.
fn is_phone(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let is_number = (10..=15).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_digit());
    is_number || text.eq_ignore_ascii_case("WebRTC")
}

fn join(own: &mut Center, ctx: &mut Context, params: &Params) -> Result<Reply, Wrong> {
    let agent = agent_of(params)?;
    let none = Wrong::new(409, "NoAgentSession", "the agent has no session", None);
    let session = own.of_agent(agent).ok_or(none)?;
    ctx.poke();
    let (behavior, now) = (&ctx.behavior.agent, ctx.moment().now);
    Ok(begun(&session.join(behavior, &mut ctx.rng, now), behavior))
}

fn end(own: &mut Center, ctx: &mut Context, id: &str, params: &Params) -> Result<(), Wrong> {
    let session = living(own, ctx, id)?;
    let open: Vec<String> = session.live.contact_ids().map(str::to_owned).collect();
    let may = params.is_true("forceLogoff") || params.is_true("endContacts") || open.is_empty();
    if !may && ctx.behavior.agent.end_with_contacts == EndWithContacts::Refused {
        return Err(Wrong::new(409, "OpenContacts", "contacts are open", None));
    }
    if !may && ctx.behavior.agent.end_with_contacts == EndWithContacts::Unsuccessful {
        push_to(own, ctx, id, [Event::of(&own_end(false))]);
        return Ok(());
    }
    if params.is_true("endContacts") {
        for contact in open {
            // A contact whose event cannot be changed ends with the session.
            let _ = contact_step(own, ctx, id, &contact, ContactStep::Finish);
        }
    }
    push_to(own, ctx, id, [Event::of(&own_end(true))]);
    Ok(())
}

fn set_state(own: &mut Center, ctx: &mut Context, id: &str, params: &Params) -> Result<(), Wrong> {
    living(own, ctx, id)?;
    let wanted = params.get("state").unwrap_or_default();
    let known = ["Available", "Unavailable"].into_iter().find(|known| known.eq_ignore_ascii_case(wanted));
    let known = known.ok_or(Wrong::PARAMETER)?;
    let reason = params.get("reason").filter(|_| known == "Unavailable").unwrap_or_default();
    let event = agent_state(known, reason, &time(ctx));
    push_to(own, ctx, id, [Event::of(&event)]);
    Ok(())
}

fn step_of(action: &str) -> Option<ContactStep> {
    Some(match action {
        "accept" | "activate" => ContactStep::Answer,
        "reject" => ContactStep::Reject,
        "hold" => ContactStep::Hold,
        "resume" => ContactStep::Resume,
        "mask" => ContactStep::Mask,
        "unmask" => ContactStep::Unmask,
        "end" => ContactStep::HangUp,
        "disposition" => ContactStep::Finish,
        _ => return None,
    })
}

/// Performs a step of a contact in the session with `id`.
pub(super) fn contact_step(
    own: &mut Center,
    ctx: &mut Context,
    id: &str,
    contact: &str,
    step: ContactStep,
) -> Result<(), Wrong> {
    let session = living(own, ctx, id)?;
    let none = Wrong::new(404, "InvalidContact", "the session has no such contact", None);
    let event = session.live.contact(contact).ok_or(none)?.clone();
    let leg_is_up = session.live.leg_is_up();
    let events = calls::step(ctx, &event, leg_is_up, step).ok_or(none)?;
    push_to(own, ctx, id, events);
    Ok(())
}

/// Pushes events to an agent; returns their numbers.
pub(crate) fn push_to_agent(own: &mut Center, ctx: &Context, agent: &str, events: Vec<Event>) -> Option<Vec<u64>> {
    let now = ctx.moment().now;
    let session = own.of_agent(agent)?;
    let numbers = events.into_iter().map(|event| session.push(event, &ctx.behavior.agent, now)).collect();
    Some(numbers)
}

/// Ends an agent's session as an administrator does.
pub(crate) fn terminate(own: &mut Center, ctx: &Context, agent: &str, message: &str) -> Option<()> {
    push_to_agent(own, ctx, agent, vec![Event::of(&remote_end(message))]).map(drop)
}

/// Starts a call for an agent; returns its contact's id.
pub(crate) fn call_for_agent(own: &mut Center, ctx: &mut Context, agent: &str, from: &str) -> Option<String> {
    let (contact, events) = calls::incoming(ctx, from);
    push_to_agent(own, ctx, agent, events.iter().map(Event::of).collect())?;
    Some(contact)
}

/// Performs a step of an agent's contact.
pub(crate) fn step_for_agent(
    own: &mut Center,
    ctx: &mut Context,
    agent: &str,
    contact: &str,
    step: ContactStep,
) -> Option<()> {
    // Not an action of the client: a silent program does not become active by it.
    let session = own.of_agent(agent)?;
    let (event, leg_is_up) = (session.live.contact(contact)?.clone(), session.live.leg_is_up());
    let events = calls::step(ctx, &event, leg_is_up, step)?;
    push_to_agent(own, ctx, agent, events).map(drop)
}

/// The next deadline.
pub(crate) fn next_deadline(own: &Center, ctx: &Context) -> Option<Instant> {
    own.sessions.iter().filter_map(|session| session.next_deadline(&ctx.behavior.agent)).min()
}

/// Performs everything that is due.
pub(crate) fn run_due(own: &mut Center, ctx: &Context) {
    let now = ctx.moment().now;
    let at = time(ctx);
    for session in &mut own.sessions {
        session.run_due(&at, &ctx.behavior.agent, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str, path: &str) -> Option<Route> {
        let segments: Vec<String> = path.split('/').skip(1).map(crate::http::percent_decode).collect();
        route(method, &segments)
    }

    #[test]
    fn every_path_has_its_route_in_any_casing_and_version() {
        let id = || "a/B+c%=".to_owned();
        for (method, path, want) in [
            ("POST", "/inContactAPI/services/v23.0/agent-sessions", Some(Route::Start)),
            ("POST", "/INCONTACTAPI/Services/V2.0/Agent-Sessions", Some(Route::Start)),
            ("POST", "/moved/incontactapi/services/v8/agent-sessions/join", Some(Route::Join)),
            (
                "GET",
                "/inContactAPI/services/v23.0/agent-sessions/a%2FB%2Bc%25=/get-next-event",
                Some(Route::Poll(id())),
            ),
            ("GET", "/inContactAPI/services/v23.0/agent-sessions/x/Get-Next-Event", Some(Route::Poll("x".into()))),
            ("DELETE", "/inContactAPI/services/v23.0/agent-sessions/a%2FB+c%25%3D", Some(Route::End(id()))),
            ("POST", "/inContactAPI/services/v33.0/agent-sessions/x/state", Some(Route::State("x".into()))),
            ("POST", "/inContactAPI/services/v31.0/agent-sessions/x/keep-alive", Some(Route::KeepAlive("x".into()))),
            (
                "POST",
                "/inContactAPI/services/v31.0/agent-sessions/x/event-queue-resize",
                Some(Route::Resize("x".into())),
            ),
            (
                "POST",
                "/inContactAPI/services/v23.0/agent-sessions/x/interactions/9A/Hold",
                Some(Route::Contact("x".into(), "9A".into(), "hold".into())),
            ),
            (
                "POST",
                "/inContactAPI/services/v23.0/agent-sessions/x/agent-phone/mute",
                Some(Route::Phone("x".into(), "mute".into())),
            ),
            ("GET", "/inContactAPI/services/v23.0/server-time", Some(Route::ServerTime)),
            ("GET", "/inContactAPI/services/v23.0/agent-sessions//get-next-event", Some(Route::NoId)),
            ("GET", "/inContactAPI/services/v23.0/agent-sessions/x", None),
            ("POST", "/inContactAPI/services/v23.0/agent-sessions/x/get-next-event", None),
            ("POST", "/inContactAPI/services/23/agent-sessions", Some(Route::Nothing)),
            ("POST", "/inContactAPI/services/v23./agent-sessions", Some(Route::Nothing)),
            ("POST", "/inContactAPI/services/v23.0", Some(Route::Nothing)),
            ("GET", "/inContactAPI/services/v23.0/agents/7/get-next-event", Some(Route::Nothing)),
            ("POST", "/InContactAuthorizationServer/Token", Some(Route::Central)),
            ("POST", "/incontactauthorizationserver/token/whoami", Some(Route::WhoAmI)),
            ("POST", "/authentication/v1/token/access-key", Some(Route::AccessKey)),
            ("POST", "/public/user/refresh", Some(Route::UserRefresh)),
            ("POST", "/auth/token", Some(Route::CxOne)),
            ("GET", "/.well-known/openid-configuration", Some(Route::OpenId)),
            ("GET", "/.well-known/cxone-configuration", Some(Route::Configuration)),
            ("GET", "/auth/token", None),
            ("GET", "/", Some(Route::Nothing)),
        ] {
            assert_eq!(of(method, path), want, "{method} {path}");
        }
    }

    #[test]
    fn the_oldest_ended_sessions_are_dropped() {
        let (mut rng, behavior) = (Rng::with_seed(1), AgentBehavior::default());
        let mut center = Center::at(String::new(), &mut rng);
        for agent in 0..=OVER + 1 {
            let agent = agent.to_string();
            let (mut session, _) = Session::start(&agent, Station::default(), "", &behavior, &mut rng, Instant::now());
            if agent != "0" {
                session.push(Event::of(&own_end(true)), &behavior, Instant::now());
            }
            center.add(session);
        }
        let agents: Vec<&str> = center.sessions.iter().map(|session| &*session.agent).collect();
        assert_eq!((agents.len(), &agents[..2]), (OVER, &["0", "3"][..]));
    }

    #[test]
    fn phones_are_numbers_or_webrtc() {
        for (phone, want) in [
            ("+12055550100", true),
            ("2055550100", true),
            ("webrtc", true),
            ("911", false),
            ("+1205555010x", false),
            ("+123456789012345", true),
            ("+1234567890123456", false),
        ] {
            assert_eq!(is_phone(phone), want, "{phone}");
        }
    }
}
