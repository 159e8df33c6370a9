//! The Contact Center: agent sessions, their events and their logins. It moves no bytes.

mod calls;
#[allow(clippy::module_inception, reason = "the sessions and every call except the poll")]
mod center;
mod event;
mod events;
mod ids;
mod live;
mod log;
mod params;
mod session;
mod tokens;

pub use self::calls::ContactStep;
pub use self::log::Fate;

pub(crate) use self::center::{
    AGENT, Branch, Center, Route, Wrong, call_for_agent, describe, handle, mark, next_deadline, push_to_agent, route,
    run_due, step_for_agent, terminate,
};
pub(crate) use self::event::Event;
pub(crate) use self::params::Params;
pub(crate) use self::session::{PollResult, Session};
pub(crate) use self::tokens::given;

use crate::http::Call;
use crate::requests::Operation;

/// The operation of a call.
pub(crate) fn operation(call: &Call) -> Operation {
    match route(call.method.as_str(), &call.segments()) {
        Some(Route::Start) => Operation::AgentStart,
        Some(Route::Join) => Operation::AgentJoin,
        Some(Route::Poll(_)) => Operation::AgentPoll,
        Some(Route::End(_)) => Operation::AgentEnd,
        Some(Route::State(_) | Route::KeepAlive(_) | Route::Resize(_) | Route::Phone(..) | Route::Contact(..)) => {
            Operation::AgentCommand
        }
        Some(Route::Central | Route::AccessKey | Route::UserRefresh | Route::CxOne) => Operation::AgentToken,
        Some(Route::WhoAmI | Route::OpenId | Route::Configuration) => Operation::AgentDiscovery,
        Some(Route::ServerTime | Route::NoId | Route::Nothing) | None => Operation::OtherContactCenter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_has_its_operation() {
        use http::Method;
        for (method, path, want) in [
            (Method::POST, "/inContactAPI/services/v23.0/agent-sessions", Operation::AgentStart),
            (Method::POST, "/inContactAPI/services/v23.0/agent-sessions/join", Operation::AgentJoin),
            (Method::GET, "/inContactAPI/services/v23.0/agent-sessions/x/get-next-event", Operation::AgentPoll),
            (Method::DELETE, "/inContactAPI/services/v23.0/agent-sessions/x", Operation::AgentEnd),
            (Method::POST, "/inContactAPI/services/v23.0/agent-sessions/x/state", Operation::AgentCommand),
            (Method::POST, "/inContactAPI/services/v23.0/agent-sessions/x/keep-alive", Operation::AgentCommand),
            (Method::POST, "/inContactAPI/services/v23.0/agent-sessions/x/event-queue-resize", Operation::AgentCommand),
            (Method::POST, "/inContactAPI/services/v23.0/agent-sessions/x/agent-phone/dial", Operation::AgentCommand),
            (
                Method::POST,
                "/inContactAPI/services/v23.0/agent-sessions/x/interactions/1/hold",
                Operation::AgentCommand,
            ),
            (Method::POST, "/InContactAuthorizationServer/Token", Operation::AgentToken),
            (Method::POST, "/authentication/v1/token/access-key", Operation::AgentToken),
            (Method::POST, "/public/user/refresh", Operation::AgentToken),
            (Method::POST, "/auth/token", Operation::AgentToken),
            (Method::POST, "/InContactAuthorizationServer/Token/WhoAmI", Operation::AgentDiscovery),
            (Method::GET, "/.well-known/openid-configuration", Operation::AgentDiscovery),
            (Method::GET, "/.well-known/cxone-configuration", Operation::AgentDiscovery),
            (Method::GET, "/inContactAPI/services/v23.0/server-time", Operation::OtherContactCenter),
            (Method::GET, "/inContactAPI/services/v23.0/agent-sessions//get-next-event", Operation::OtherContactCenter),
            (Method::GET, "/x", Operation::OtherContactCenter),
            (Method::GET, "/auth/token", Operation::OtherContactCenter),
        ] {
            let call = Call::bare(method, path, "");
            assert_eq!(operation(&call), want, "{path}");
        }
    }
}
