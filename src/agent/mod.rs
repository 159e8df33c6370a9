//! Agent sessions of NICE inContact / CXone ("RingCentral Contact Center"): events of
//! an agent, a phone and contacts, polled with `get-next-event`.
//!
//! An [`AgentSession`] is started or joined; a background task then always has one poll
//! open. You read a stream of [`AgentDelivery`]s, like that of a
//! [`Subscription`](crate::Subscription): every event arrives once, or a
//! [`Gap`](crate::Gap) reports its loss.
//!
//! ```no_run
//! use ringcentral_events::agent::{AgentDelivery, AgentSession, Desk, EndSession};
//! # async fn run(tokens: impl ringcentral_events::auth::TokenProvider) -> ringcentral_events::Result<()> {
//!
//! let session = AgentSession::builder(tokens).phone_number("+12055550100").start().await?;
//! let mut events = session.events()?;
//! let mut desk = Desk::new();
//! while let Some(delivery) = events.next().await {
//!     let delivery = delivery?;
//!     desk.apply(&delivery);
//!     match &delivery {
//!         AgentDelivery::Notification(event) => println!("{:?}", event.event()),
//!         AgentDelivery::Gap(gap) => println!("events may be missing: {}", gap.cause),
//!         other => println!("{other:?}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What a lost answer means
//!
//! The wire carries neither acknowledgements nor numbers or ids of events: polling
//! with the new session id is the acknowledgement. After a lost answer the crate polls
//! with the previous id, and the service answers with a *snapshot*: the session and
//! the latest state of everything. The stream then yields a [`Gap`](crate::Gap), the
//! snapshot's events with [`AgentOrigin::Snapshot`], the contacts that ended meanwhile as
//! [`ContactsGone`](crate::agent::AgentDelivery::ContactsGone), and
//! [`Resumed`](crate::agent::AgentDelivery::Resumed). State is correct again then; one-shots,
//! such as `PopURL` and `CustomEvent`, may be lost for good
//! ([`AgentEvent::is_state`]). If the service sends the lost batch again instead,
//! which is not documented, it arrives as if nothing had been lost.
//!
//! Apply contact and state events by contact id, as [`Desk`] does: a snapshot
//! repeats them.

mod answer;
pub mod auth;
mod builder;
mod client;
mod delivery;
mod desk;
mod driver;
mod event;
mod machine;
mod proven;
mod queued_batch;
mod session;
mod shared;
#[cfg(test)]
mod shift_tests;
mod station;
mod stored;
mod stream;

pub use builder::{AgentSessionBuilder, OnExisting, OnLost};
pub use delivery::{AgentDelivery, Channel, EndReason, GoneContact, SessionEnded};
pub use desk::{Desk, DeskContact};
pub use event::{
    ActionType, AgentAssist, AgentEvent, AgentEventKind, AgentId, AgentLeg, AgentNotification, AgentOrigin,
    AgentSessionEnd, AgentSessionStart, AgentState, AgentWorkflow, CallContact, CallType, Conference, ContactId,
    ContactStatus, CustomEvent, CustomEventName, DigitalContact, HoursOfOperation, Indicator, LegStatus, ListChanged,
    MchAgentSettingsChange, Mute, NaturalCallingSkillList, NextState, PageOpen, PopUrl, PromiseKeeper,
    PromiseKeeperStatus, RemoteAgentSessionEnd, RemoteEnd, RunApp, SessionStartFailed, SkillId, SmartReachValidation,
    State, Supervisor, TextContact, Undocumented, UnknownAgentEvent, VoiceMailContact, VoiceMailPlayBack,
    WorkItemContact,
};
pub use session::{AgentSession, EndSession};
pub use shared::{AgentCursor, AgentStatus};
pub use stream::AgentEvents;
