//! The test's handle on the Contact Center.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::poll;
use crate::Sandbox;
use crate::center::{
    AGENT, ContactStep, Event, Fate, Session, call_for_agent, given, push_to_agent, step_for_agent, terminate,
};
use crate::clock::later;
use crate::shared::Shared;
use crate::state::State;
use ringcentral_events::Secret;
use ringcentral_events::{Error, ErrorKind, Result};

/// The Contact Center of a sandbox, and one of its agents. Created by [`Sandbox::contact_center`].
///
/// Events go to the agent's session; without a session they are an error.
#[derive(Clone)]
pub struct ContactCenter {
    shared: Arc<Shared>,
    agent: String,
}

impl Sandbox {
    /// The Contact Center, for its agent 7001. See [the module](super).
    #[must_use]
    pub fn contact_center(&self) -> ContactCenter {
        ContactCenter { shared: Arc::clone(&self.shared), agent: AGENT.into() }
    }
}

/// The platform's view of a session: the live one, else the last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AgentSessionView {
    /// Whether it has ended.
    pub is_over: bool,
    /// `CurrentState` of the agent.
    pub state: String,
    /// The open contacts, oldest first.
    pub contacts: Vec<String>,
    /// Number of events that no poll has received yet.
    pub queued: usize,
    /// Number of open polls.
    pub open_polls: usize,
    /// Number of polls since the start.
    pub polls: u64,
    /// Number of polls that arrived while another one was open.
    pub overlaps: u64,
    /// Number of polls with an outdated id.
    pub stale_polls: u64,
    /// Number of snapshots sent.
    pub snapshots: u64,
    /// The longest time from an answer to the next poll, in real time.
    #[serde(rename = "longest_pause_ms", serialize_with = "millis")]
    pub longest_pause: Duration,
}

fn millis<S: serde::Serializer>(time: &Duration, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// A pushed event and its fate.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PushedEvent {
    /// Its number in the session, from 1; counts the session's initial events.
    pub number: u64,
    /// Its JSON.
    pub text: String,
    /// Its fate. The platform learns that an answered event arrived only from the next poll.
    pub fate: Fate,
}

impl AgentSessionView {
    pub(super) fn new(session: &Session) -> Self {
        Self {
            is_over: session.is_over(),
            state: session.live.agent_state().to_owned(),
            contacts: session.live.contact_ids().map(str::to_owned).collect(),
            queued: session.log.queued(),
            open_polls: session.open_polls(),
            polls: session.counts.polls,
            overlaps: session.counts.overlaps,
            stale_polls: session.counts.stale,
            snapshots: session.counts.snapshots,
            longest_pause: session.counts.longest_pause,
        }
    }
}

fn no_session() -> Error {
    Error::new(ErrorKind::NotFound, "the agent has no session")
}

impl ContactCenter {
    /// A handle on another agent (`asAgentId`), by decimal id.
    #[must_use]
    pub fn for_agent(&self, agent: impl Into<String>) -> Self {
        Self { shared: Arc::clone(&self.shared), agent: agent.into() }
    }

    /// The base URL, `http://127.0.0.1:port`, without a trailing slash. Agent sessions are below
    /// `/inContactAPI`; it is also the issuer of CXone's login and the region of UserHub.
    #[must_use]
    pub fn url(&self) -> String {
        self.shared.lock().center.tokens.url().to_owned()
    }

    /// The URL of the legacy Central token service.
    #[must_use]
    pub fn central_url(&self) -> String {
        format!("{}/InContactAuthorizationServer/Token", self.url())
    }

    /// The app (`AppName@VendorName:BusinessUnitNumber`), the user name and the password
    /// of the Central token service.
    #[must_use]
    pub fn central_login(&self) -> (Secret, String, Secret) {
        let logins = self.shared.lock().center.tokens.logins().clone();
        (Secret::new(logins.app), logins.username, Secret::new(logins.password))
    }

    /// The agent's access key: id and secret.
    #[must_use]
    pub fn access_key(&self) -> (Secret, Secret) {
        let logins = self.shared.lock().center.tokens.logins().clone();
        (Secret::new(logins.key_id), Secret::new(logins.key_secret))
    }

    /// The client of CXone's login: id and secret.
    #[must_use]
    pub fn client(&self) -> (String, Secret) {
        let logins = self.shared.lock().center.tokens.logins().clone();
        (logins.client_id, Secret::new(logins.client_secret))
    }

    /// An access token, for clients that do not log in themselves.
    #[must_use]
    pub fn access_token(&self) -> Secret {
        Secret::new(self.shared.update(|state| given(&mut state.center.tokens, &mut state.ctx)))
    }

    /// Expires every access token now: the next call gets 401.
    pub fn expire_tokens(&self) {
        self.shared.update(|state| state.center.tokens.expire());
    }

    /// Expires access and refresh tokens now.
    pub fn revoke_tokens(&self) {
        self.shared.update(|state| state.center.tokens.revoke());
    }

    /// Pushes an event to the agent's session: any JSON text, passed on byte for byte unless a setting
    /// changes the format. Returns its number.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for text that is not JSON, [`ErrorKind::NotFound`] if the agent has no
    /// session.
    pub fn push(&self, event: &str) -> Result<u64> {
        self.push_all(&[event]).map(|numbers| numbers[0])
    }

    /// Pushes several events at once: a waiting poll gets them in one answer.
    ///
    /// # Errors
    /// As for [`push`](Self::push); no event is pushed then.
    pub fn push_all<E: AsRef<str>>(&self, events: &[E]) -> Result<Vec<u64>> {
        if !events.iter().all(|event| poll::is_event(event.as_ref())) {
            return Err(Error::new(ErrorKind::Config, "an event must be JSON"));
        }
        let events = events.iter().map(|event| Event::read(event.as_ref())).collect();
        self.shared
            .update(|state| push_to_agent(&mut state.center, &state.ctx, &self.agent, events))
            .ok_or_else(no_session)
    }

    /// Pushes a custom event that outlives the session (`PersistInMemory` of the script's action):
    /// the first batch of each later session of the agent repeats it until another event of the
    /// same name replaces it. Returns its number.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] unless it is a `CustomEvent`, else as for [`push`](Self::push).
    pub fn push_persistent(&self, event: &str) -> Result<u64> {
        let read = Event::read(event);
        if read.custom_name().is_none() {
            return Err(Error::new(ErrorKind::Config, "only a CustomEvent with an eventName can be persistent"));
        }
        let number = self.push(event)?;
        self.shared.update(|state| state.center.persist(&self.agent, read));
        Ok(number)
    }

    /// Answers the session's poll with a batch without events.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the agent has no session.
    pub fn end_poll(&self) -> Result<()> {
        self.shared.update(|state| state.center.of_agent(&self.agent).map(Session::end_poll)).ok_or_else(no_session)
    }

    /// Starts an incoming call: one batch with the agent's state, the ringing leg, the contact and
    /// a `PopURL`. Returns the contact's id.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the agent has no session.
    pub fn call(&self, from: &str) -> Result<String> {
        self.shared
            .update(|state| call_for_agent(&mut state.center, &mut state.ctx, &self.agent, from))
            .ok_or_else(no_session)
    }

    /// Performs a step of a contact, from a call or [pushed](Self::push).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the agent has no session, or the session has no such contact.
    pub fn step(&self, contact: &str, step: ContactStep) -> Result<()> {
        self.shared
            .update(|state| step_for_agent(&mut state.center, &mut state.ctx, &self.agent, contact, step))
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "the agent has no such contact"))
    }

    /// Ends the session as an administrator or the platform does: with `RemoteAgentSessionEnd` and
    /// this message, such as `RemoteLogoff`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the agent has no session.
    pub fn terminate(&self, message: &str) -> Result<()> {
        self.shared
            .update(|state| terminate(&mut state.center, &state.ctx, &self.agent, message))
            .ok_or_else(no_session)
    }

    /// The agent's live session, else the last one.
    #[must_use]
    pub fn session(&self) -> Option<AgentSessionView> {
        let state = self.shared.lock();
        self.last(&state).map(AgentSessionView::new)
    }

    fn last<'a>(&self, state: &'a State) -> Option<&'a Session> {
        state.center.sessions.iter().rfind(|session| session.agent == self.agent)
    }

    /// The newest 100 000 events of that session with their fates, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<PushedEvent> {
        let state = self.shared.lock();
        let Some(session) = self.last(&state) else { return Vec::new() };
        let pushed =
            |(number, event, fate): (u64, &Event, Fate)| PushedEvent { number, text: (*event.text).to_owned(), fate };
        session.log.fates().map(pushed).collect()
    }

    /// Waits until `wanted` accepts the agent's session; checked after each change. False after
    /// `timeout`. `wanted` must not call the sandbox, which is locked meanwhile.
    pub async fn wait_session(&self, mut wanted: impl FnMut(&AgentSessionView) -> bool, timeout: Duration) -> bool {
        let deadline = later(Instant::now(), timeout);
        let reached = |state: &mut State| {
            let session = self.last(state).map(AgentSessionView::new)?;
            wanted(&session).then_some(())
        };
        self.shared.wait_until(deadline, reached).await.is_some()
    }

    /// Waits until polls have received every event and the next poll is open, which proves that all
    /// answers but lost ones arrived. False after `timeout`.
    pub async fn wait_caught_up(&self, timeout: Duration) -> bool {
        self.wait_session(|session| session.queued == 0 && session.open_polls == 1, timeout).await
    }

    /// Waits until the agent's session has exactly `count` polls open. False after
    /// `timeout`.
    pub async fn wait_open_polls(&self, count: usize, timeout: Duration) -> bool {
        self.wait_session(|session| session.open_polls == count, timeout).await
    }
}

impl fmt::Debug for ContactCenter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContactCenter").field("agent", &self.agent).finish_non_exhaustive()
    }
}

/// The JSON of all agents' sessions.
pub(super) fn describe(state: &State) -> Value {
    let sessions: Vec<Value> = state
        .center
        .sessions
        .iter()
        .map(|session| {
            let mut view = serde_json::json!(AgentSessionView::new(session));
            view["agent"] = session.agent.as_str().into();
            view
        })
        .collect();
    serde_json::json!({ "url": state.center.tokens.url(), "sessions": sessions })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pause_is_in_milliseconds() {
        let view = AgentSessionView {
            is_over: false,
            state: String::new(),
            contacts: Vec::new(),
            queued: 0,
            open_polls: 0,
            polls: 0,
            overlaps: 0,
            stale_polls: 0,
            snapshots: 0,
            longest_pause: Duration::from_millis(1500),
        };
        assert_eq!(serde_json::json!(view)["longest_pause_ms"], 1500);
    }
}
