//! The Contact Center (NICE inContact / CXone) on loopback: agent sessions and the logins they
//! need.
//!
//! [`Sandbox::contact_center`](super::Sandbox::contact_center) is the platform's side of one agent:
//! a program starts a session at [`ContactCenter::url`] and polls it; the test causes events
//! ([`ContactCenter::call`], [`ContactCenter::push`]) and checks their fates
//! ([`ContactCenter::events`]).
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use futures_util::StreamExt;
//! use ringcentral_events::agent::{AgentDelivery, AgentEvent, AgentSession, auth::CxOneTokens};
//! use ringcentral_sandbox::Sandbox;
//! use ringcentral_sandbox::agent::ContactStep;
//!
//! let sandbox = Sandbox::start().await?;
//! let center = sandbox.contact_center();
//! let (client, secret) = center.client();
//! let (key, key_secret) = center.access_key();
//! let tokens = CxOneTokens::builder(&client, secret, key, key_secret).issuer(center.url()).build()?;
//! let session = AgentSession::builder(tokens).phone_number("+12055550100").start().await?;
//! let mut events = session.events()?;
//!
//! let contact = center.call("+12055550143")?;
//! center.step(&contact, ContactStep::Answer)?;
//! while let Some(delivery) = events.next().await {
//!     let AgentDelivery::Notification(event) = delivery? else { continue };
//!     if let AgentEvent::CallContact(call) = event.event() {
//!         assert_eq!(call.ani.as_deref(), Some("+12055550143"));
//!         break;
//!     }
//! }
//! # Ok::<(), ringcentral_events::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It is a separate server ([`Service::ContactCenter`](super::Service)), so that it can be stopped
//! and disconnected alone. Paths may have any casing and version. Undocumented behavior is a
//! [setting](AgentBehavior).
//!
//! # Faults
//!
//! Use the [sandbox's faults](super::Fault) on [`Operation::AgentPoll`](super::Operation) and
//! related operations. A fault applies to new polls: [`ContactCenter::end_poll`] ends the open one.
//! [`Sandbox::advance`](super::Sandbox::advance) ends 60 s polls, idle sessions and tokens now.
//!
//! | Fault | How |
//! | --- | --- |
//! | the answer is lost after the cursor has moved | `Fault::reset().after_effect()`, `close` |
//! | it breaks off, or contains half of its JSON | `Fault::reset_mid_body()`, `cut_json` |
//! | the lost batch is repeated, or the old id is unknown | [`AgentBehavior::stale_id`] |
//! | no id, no events, another branch, gzip, no content type, a closed connection | `Fault::amend()` with `without_field("sessionId")`, `header("icBranchValue", "03")` and so on |
//! | an empty batch | [`ContactCenter::end_poll`] |
//! | endless immediate empty answers | `Fault::status(304).until_cleared()` |
//! | the queue overflows | [`AgentBehavior::queue_capacity`] |
//! | 401, 403, 404, 409, 429, 500 | `Fault::status(…)`, with `header("Retry-After", …)` |
//! | the token expires, the login fails or hangs | [`ContactCenter::expire_tokens`]; `Operation::AgentToken` |
//! | the token moves the sessions to another host | [`AgentBehavior::resource_server`] |
//! | no answer, a late one, a slow one | `Fault::hang()`, [`AgentBehavior::answer_late`], `Fault::drip(1, …)` |
//! | the session ends: by the agent, an administrator, inactivity | [`ContactCenter::push`] of `AgentSessionEnd`, [`ContactCenter::terminate`], `Sandbox::advance` |
//! | a session exists already, an end is refused | [`AgentBehavior::existing_session`], [`AgentBehavior::end_with_contacts`] |
//! | odd events | [`ContactCenter::push`] of any JSON; [`AgentBehavior::values`], [`AgentBehavior::casing`] |
//! | ids with `/`, `+`, `%`, or of 4 KB | [`AgentBehavior::ids`] |
//! | redirects | `Fault::status(302).header("Location", …)` |
//! | a GOAWAY, a reset, an outage | [`Sandbox::finish_connections`](super::Sandbox::finish_connections), `reset_connections`, `stop_service` |
//!
//! # Over HTTP
//!
//! Served by the API server, as in the [table of the sandbox](super); `agent` defaults to 7001.
//!
//! | Call | Body or answer |
//! | --- | --- |
//! | `GET /_sandbox/agents` | `url`, `sessions` with their counts |
//! | `GET /_sandbox/agents/{agent}/events` | `number`, `event` (its text) and `fate` of each event of the agent's last session |
//! | `POST /_sandbox/agents/events` | `{"agent":"7001","events":[…]}`, of JSON; answers `numbers` |
//! | `POST /_sandbox/agents/call` | `{"from":"+12055550143"}`; answers `contact` |
//! | `POST /_sandbox/agents/step` | `{"contact":"…","step":"hold"}`, a [`ContactStep`] |
//! | `POST /_sandbox/agents/end_poll` | `{}`: an empty batch |
//! | `POST /_sandbox/agents/terminate` | `{"message":"RemoteLogoff"}` |
//! | `POST /_sandbox/agents/tokens` | `{"action":"expire"}` or `revoke`; `give` answers `access_token` |
//! | `GET /_sandbox/agents/logins` | the accepted credentials of the three logins |

mod control;
mod handle;
mod poll;

pub use self::handle::{AgentSessionView, ContactCenter, PushedEvent};
pub use crate::behavior::{
    AfterEnd, AgentBehavior, Casing, Concurrent, EndWithContacts, ErrorsIn, ExistingSession, IdForm, Idle, JoinedIds,
    SnapshotOrder, StaleId, Values,
};
pub use crate::center::{ContactStep, Fate};

pub(crate) use self::control::{Not, handle as control};
pub(crate) use self::poll::handle;
