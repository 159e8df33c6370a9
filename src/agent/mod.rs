//! Agent sessions of NICE inContact / CXone ("RingCentral Contact Center"): what happens
//! to an agent, a phone and contacts, polled for with `get-next-event`.
//!
//! An [`AgentSession`] is started or joined; a task of its own then always has one poll
//! open. You read a stream of [`AgentDelivery`]s, in the words of a
//! [`Subscription`](crate::Subscription): every event arrives once, or a
//! [`Gap`](crate::Gap) stands in its place.
//!
//! ```no_run
//! use futures_util::StreamExt as _;
//! use ringcentral_events::Delivery;
//! use ringcentral_events::agent::{AgentSession, Desk, EndSession};
//! # async fn run(tokens: impl ringcentral_events::auth::TokenProvider) -> ringcentral_events::Result<()> {
//!
//! let session = AgentSession::builder(tokens).phone_number("+12055550100").start().await?;
//! let mut events = session.events()?;
//! let mut desk = Desk::new();
//! while let Some(delivery) = events.next().await {
//!     let delivery = delivery?;
//!     desk.apply(&delivery);
//!     match &delivery {
//!         Delivery::Notification(event) => println!("{:?}", event.event()),
//!         Delivery::Gap(gap) => println!("events may be missing: {}", gap.cause),
//!         other => println!("{other:?}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What a lost answer means
//!
//! There is no acknowledgement, no number and no id of an event on this wire: polling
//! with the new session id is the acknowledgement. After an answer that was lost the
//! service is polled with the id before, and answers with a *snapshot*: the session and
//! the latest state of everything. The stream then yields a [`Gap`](crate::Gap), the
//! snapshot's events with [`AgentOrigin::Snapshot`], the contacts that ended meanwhile as
//! [`ContactsGone`](crate::Delivery::ContactsGone), and
//! [`Resumed`](crate::Delivery::Resumed). What is state is right again then; one-shots,
//! such as `PopURL` and `CustomEvent`, may be lost for good
//! ([`AgentEvent::is_state`]). Where the service tells the lost batch again instead,
//! which is not documented, it arrives as if nothing had been lost.
//!
//! Contact and state events are to be applied by contact id, as [`Desk`] does: a snapshot
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
mod session;
#[cfg(test)]
mod shift_tests;
mod stream;

pub use builder::{AgentSessionBuilder, OnExisting, OnLost};
pub use delivery::{AgentDelivery, Channel, EndReason, GoneContact, SessionEnded};
pub use desk::{Desk, DeskContact};
pub use event::*;
pub use session::{AgentCursor, AgentSession, AgentStatus, EndSession};
pub use stream::AgentEvents;
