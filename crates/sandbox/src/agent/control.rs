//! The Contact Center over HTTP: `/_sandbox/agents…`.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::handle::describe;
use crate::center::{
    AGENT, ContactStep, Event, Fate, Session, call_for_agent, given, push_to_agent, step_for_agent, terminate,
};
use crate::state::State;

fn agent() -> String {
    AGENT.into()
}

/// A body; the required fields depend on the call.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    #[serde(default = "agent")]
    agent: String,
    events: Option<Vec<Box<RawValue>>>,
    from: Option<String>,
    contact: Option<String>,
    step: Option<ContactStep>,
    message: Option<String>,
    action: Option<String>,
}

/// Why a call failed.
pub(crate) enum Not {
    Found(&'static str),
    Complete(&'static str),
}

fn needed<T>(field: Option<T>, name: &'static str) -> Result<T, Not> {
    field.ok_or(Not::Complete(name))
}

const NO_SESSION: Not = Not::Found("the agent has no session");
const NO_CALL: Not = Not::Found("unknown control call");

/// Performs a call; the answer, if it has one.
pub(crate) fn handle(
    state: &mut State,
    method: &str,
    rest: &[&str],
    asked: Option<Asked>,
) -> Result<Option<Value>, Not> {
    let answer = match (method, rest, asked) {
        ("GET", [], _) => describe(state),
        ("GET", ["logins"], _) => logins(state),
        ("GET", [agent, "events"], _) => {
            let session = state.center.sessions.iter().rfind(|session| session.agent == *agent).ok_or(NO_SESSION)?;
            events(session)
        }
        ("POST", ["events"], Some(asked)) => {
            let events = needed(asked.events, "events")?.iter().map(|event| Event::read(event.get())).collect();
            json!({ "numbers": push_to_agent(&mut state.center, &state.ctx, &asked.agent, events).ok_or(NO_SESSION)? })
        }
        ("POST", ["call"], Some(asked)) => {
            let from = needed(asked.from, "from")?;
            json!({ "contact": call_for_agent(&mut state.center, &mut state.ctx, &asked.agent, &from).ok_or(NO_SESSION)? })
        }
        ("POST", ["step"], Some(asked)) => {
            let (contact, step) = (needed(asked.contact, "contact")?, needed(asked.step, "step")?);
            let done = step_for_agent(&mut state.center, &mut state.ctx, &asked.agent, &contact, step);
            return done.map(|()| None).ok_or(Not::Found("the agent has no such contact"));
        }
        ("POST", ["end_poll"], Some(asked)) => {
            state.center.of_agent(&asked.agent).ok_or(NO_SESSION)?.end_poll();
            return Ok(None);
        }
        ("POST", ["terminate"], Some(asked)) => {
            let message = needed(asked.message, "message")?;
            let done = terminate(&mut state.center, &state.ctx, &asked.agent, &message);
            return done.map(|()| None).ok_or(NO_SESSION);
        }
        ("POST", ["tokens"], Some(asked)) => match asked.action.as_deref() {
            Some("expire") => {
                state.center.tokens.expire();
                return Ok(None);
            }
            Some("revoke") => {
                state.center.tokens.revoke();
                return Ok(None);
            }
            Some("give") => json!({ "access_token": given(&mut state.center.tokens, &mut state.ctx) }),
            _ => return Err(Not::Complete("action")),
        },
        _ => return Err(NO_CALL),
    };
    Ok(Some(answer))
}

fn events(session: &Session) -> Value {
    let events: Vec<Value> = session
        .log
        .fates()
        .map(|(number, event, fate)| {
            let fate = match fate {
                Fate::Queued => "queued",
                Fate::Answered => "answered",
                Fate::Overwritten => "overwritten",
                Fate::Missed => "missed",
            };
            json!({ "number": number, "event": &*event.text, "fate": fate })
        })
        .collect();
    json!({ "events": events })
}

fn logins(state: &State) -> Value {
    let logins = state.center.tokens.logins();
    json!({
        "central": { "app": logins.app, "username": logins.username, "password": logins.password },
        "access_key": { "id": logins.key_id, "secret": logins.key_secret },
        "client": { "id": logins.client_id, "secret": logins.client_secret },
        "tenant": logins.tenant,
    })
}
