//! The IO of a poll, which is held until it has something to return.

use std::sync::Arc;
use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::center::{self, Branch, Event, Params, PollResult, Route, Wrong, describe, mark};
use crate::context::Context;
use crate::http::{Call, Reply, empty_reply, text_reply};
use crate::shared::Shared;
use crate::state::State;

/// How long reading the end of a connection may take.
const CLOSING: Duration = Duration::from_millis(20);
/// The maximum timeout of a poll, in seconds.
const MAX_POLL: u64 = 60;

/// Answers a call to the Contact Center; a poll waits.
pub(crate) async fn handle(shared: &Arc<Shared>, call: &Call) -> Reply {
    if call.method == Method::OPTIONS {
        return with_origin(preflight(call), call);
    }
    let route = center::route(call.method.as_str(), &call.segments());
    let mut reply = match route {
        Some(Route::Poll(id)) => poll(shared, call, &id).await,
        other => shared.update(|state| center::handle(&mut state.center, &mut state.ctx, call, other)),
    };
    if let Some(id) = call.headers.get("correlationid") {
        reply.headers_mut().insert(HeaderName::from_static("correlationid"), id.clone());
    }
    with_origin(reply, call)
}

/// The answer to a browser's preflight: everything is allowed.
fn preflight(call: &Call) -> Reply {
    let mut reply = empty_reply(StatusCode::NO_CONTENT);
    for (asked, allowed) in [
        (ACCESS_CONTROL_REQUEST_METHOD, ACCESS_CONTROL_ALLOW_METHODS),
        (ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_ALLOW_HEADERS),
    ] {
        if let Some(value) = call.headers.get(asked) {
            reply.headers_mut().insert(allowed, value.clone());
        }
    }
    reply
}

/// Lets a page in a browser read the answer.
fn with_origin(mut reply: Reply, call: &Call) -> Reply {
    if let Some(origin) = call.headers.get(ORIGIN) {
        let exposed = HeaderValue::from_static("icBranchValue, icStatusDescription, CorrelationId");
        reply.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        reply.headers_mut().insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    reply
}

/// An open poll. Dropping it closes it, also when the client disconnects.
struct Open {
    shared: Arc<Shared>,
    session: String,
    number: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.update(|state| {
            let now = state.ctx.moment().now;
            if let Some(session) = state.center.of_id(&self.session) {
                session.close(self.number, now);
            }
            state.ctx.poke();
        });
    }
}

async fn poll(shared: &Arc<Shared>, call: &Call, id: &str) -> Reply {
    // A client that closed its poll has none open, even if the close is read after the new poll.
    let deadline = Instant::now() + CLOSING;
    let alone = |state: &mut State| state.center.of_id(id).is_none_or(|it| it.open_polls() == 0).then_some(());
    let _alone_or_not = shared.wait_until(deadline, alone).await;
    let begun = shared.update(|state| begin(state, call, id));
    let (number, wake, mut result) = match begun {
        Ok(begun) => begun,
        Err(wrong) => return wrong.reply(&shared.lock().ctx.behavior.agent, true),
    };
    let _open = Open { shared: Arc::clone(shared), session: id.to_owned(), number };
    while result == PollResult::Wait {
        wake.notified().await;
        result = shared.update(|state| {
            let now = state.ctx.moment().now;
            let State { center, ctx, .. } = state;
            let session = center.of_id(id);
            session.map_or(PollResult::Unknown, |it| it.look(number, &ctx.behavior.agent, &mut ctx.rng, now))
        });
    }
    shared.update(|state| {
        if let Some(session) = state.center.of_id(id) {
            session.answered(Instant::now());
        }
        write(&mut state.ctx, result)
    })
}

type Begun = (u64, Arc<tokio::sync::Notify>, PollResult);

fn begin(state: &mut State, call: &Call, id: &str) -> Result<Begun, Wrong> {
    let now = state.ctx.moment().now;
    state.center.tokens.check(call, now).map_err(Wrong::denied)?;
    let timeout = Params::of(call).get("timeout").and_then(|text| text.parse::<u64>().ok());
    let timeout = timeout.filter(|seconds| *seconds <= MAX_POLL).ok_or(Wrong::TIMEOUT)?;
    let State { center, ctx, .. } = state;
    let session = center.of_id(id).ok_or(Wrong::UNKNOWN)?;
    session.asked(Instant::now());
    let begun = session.poll(id, Duration::from_secs(timeout), &ctx.behavior.agent, &mut ctx.rng, now);
    ctx.poke();
    Ok(begun)
}

fn write(ctx: &mut Context, result: PollResult) -> Reply {
    let (behavior, rng) = (&ctx.behavior.agent, &mut ctx.rng);
    match result {
        PollResult::Batch { id, events, branch } => {
            let written: Vec<String> = events.iter().map(|event| Event::written(event, behavior, rng)).collect();
            let mut reply = text_reply(StatusCode::OK, "application/json; charset=utf-8", batch(&id, &written));
            mark(&mut reply, Branch(branch), behavior);
            reply
        }
        PollResult::Quiet | PollResult::Wait => {
            let mut reply = empty_reply(StatusCode::NOT_MODIFIED);
            describe(&mut reply, "No new events");
            mark(&mut reply, Branch::QUIET, behavior);
            reply
        }
        PollResult::Over => Wrong::OVER.reply(behavior, true),
        PollResult::Unknown => Wrong::UNKNOWN.reply(behavior, true),
    }
}

fn batch(id: &str, events: &[String]) -> String {
    // Ids and JSON texts: writing them cannot fail, and odd events are sent unchanged.
    let id = serde_json::Value::from(id);
    format!("{{\"sessionId\":{id},\"events\":[{}]}}", events.join(","))
}

/// Whether a text is valid as an event in an answer.
pub(super) fn is_event(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{Method, header};

    use super::*;
    use crate::Sandbox;
    use crate::behavior::Idle;
    use crate::center::given;

    const HOUR: Duration = Duration::from_secs(3600);

    /// A sandbox with a paused clock, and no server in between.
    struct Run {
        sandbox: Sandbox,
    }

    impl Run {
        async fn ask(&self, method: Method, path: &str, query: &str) -> Reply {
            let shared = &self.sandbox.shared;
            let token = format!("Bearer {}", shared.update(|state| given(&mut state.center.tokens, &mut state.ctx)));
            let target = format!("/inContactAPI/services/v23.0/agent-sessions{path}?{query}");
            let mut call = Call::bare(method, &target, "");
            call.headers.insert(header::AUTHORIZATION, token.parse().unwrap());
            handle(shared, &call).await
        }

        /// A session that is idle after 30 s, and the path of its id.
        async fn start() -> (Self, String) {
            let run = Self { sandbox: Sandbox::start().await.unwrap() };
            run.sandbox.behavior(|behavior| behavior.agent.first_state = "Available".into());
            // Work scheduled so far runs first.
            tokio::time::advance(Duration::from_secs(1)).await;
            let started = run.ask(Method::POST, "", "stationId=7&inactivityTimeout=30").await;
            let path = run.path(&started);
            (run, path)
        }

        fn path(&self, reply: &Reply) -> String {
            let body: serde_json::Value = serde_json::from_slice(reply.body()).unwrap();
            let id = body["sessionId"].as_str().unwrap().as_bytes();
            format!("/{}", url::form_urlencoded::byte_serialize(id).collect::<String>())
        }

        async fn is_over(&self) -> bool {
            self.sandbox.contact_center().wait_session(|session| session.is_over, HOUR).await
        }

        async fn is_unavailable(&self) -> bool {
            self.sandbox.contact_center().wait_session(|session| session.state == "Unavailable", HOUR).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_is_never_polled_ends_on_its_own() {
        let (run, _) = Run::start().await;
        assert!(run.is_over().await);
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_poll_ends_and_a_session_becomes_idle_on_time() {
        let (run, path) = Run::start().await;
        run.sandbox.behavior(|behavior| behavior.agent.inactivity_timeout = HOUR);
        let first = run.ask(Method::GET, &format!("{path}/get-next-event"), "timeout=0").await;
        let path = format!("{}/get-next-event", run.path(&first));
        tokio::time::advance(Duration::from_secs(1)).await;
        let begun = Instant::now();
        let quiet = run.ask(Method::GET, &path, "timeout=10").await;
        assert_eq!(quiet.status(), StatusCode::NOT_MODIFIED);
        assert!(begun.elapsed() < Duration::from_secs(11), "not when the session would have been idle");
        let push = async {
            tokio::time::advance(Duration::from_secs(1)).await;
            run.sandbox.contact_center().push("{}").unwrap();
        };
        let (result, ()) = tokio::join!(run.ask(Method::GET, &path, "timeout=60"), push);
        assert_eq!(result.status(), StatusCode::OK);
        let begun = Instant::now();
        assert!(run.is_over().await);
        assert!(begun.elapsed() < Duration::from_secs(31), "not when the poll would have ended");
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_reactivated_by_a_command_or_a_join_becomes_idle_again() {
        let (run, path) = Run::start().await;
        run.sandbox.behavior(|behavior| behavior.agent.idle = Idle::SetUnavailable);
        for path in [format!("{path}/keep-alive"), "/join".to_owned()] {
            assert!(run.is_unavailable().await, "{path}");
            assert_eq!(run.ask(Method::POST, &path, "").await.status(), StatusCode::ACCEPTED);
            let state = r#"{"Type":"AgentState","CurrentState":"Available"}"#;
            run.sandbox.contact_center().push(state).unwrap();
        }
        assert!(run.is_unavailable().await);
    }
}
