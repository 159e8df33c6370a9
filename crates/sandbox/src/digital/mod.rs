//! Engage Digital (RingCX Digital) on loopback: a crawler for sources, and the Send API.
//!
//! [`Sandbox::digital_channel`](super::Sandbox::digital_channel) opens a channel for a source at a
//! URL or in this process. The channel treats it as the platform does: it asks for the source's
//! capabilities and lists new contents ([`DigitalChannel::run`], or periodically after
//! [`DigitalChannel::start`]), lets agents write ([`DigitalChannel::write`]), and receives what the
//! source sends to [`DigitalChannel::send_url`]. Each violation is a [`Violation`] with its [`Rule`],
//! action, content and body.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use ringcentral_events::digital::{CollectionName, Date, MemoryFeed, Message, Messages};
//! use ringcentral_events::digital::{Source, SourceEndpoint, SourceOption, User};
//! use ringcentral_sandbox::Sandbox;
//! use ringcentral_sandbox::digital::SourceAt;
//!
//! let feed = MemoryFeed::new();
//! let mut message = Message::new("m-1", User::new("ana", "Ana", Date::now()));
//! message.body = Some("Where is my order?".into());
//! feed.put(message);
//! let source = Source::builder().option(SourceOption::MessagesUnthreaded).list(Messages, feed).build()?;
//! let endpoint = SourceEndpoint::builder(source, "the token").build()?;
//!
//! let sandbox = Sandbox::start().await?;
//! let channel = sandbox.digital_channel(SourceAt::endpoint(endpoint), "the token")?;
//! let run = channel.run().await;
//! assert!(run.is_clean(), "{run}");
//! assert_eq!(channel.contents(CollectionName::Messages)[0].text("body"), Some("Where is my order?"));
//! # Ok::<(), ringcentral_events::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A run sends `implementation.info`; lists threads, messages and private messages; requests
//! unknown contents that others point to (`show`); and sends the pending writes: creates, changes,
//! deletes. Undocumented behavior is a [setting](DigitalBehavior).
//!
//! [`DigitalChannel::audit`] and [`DigitalChannel::check_requests`] exist only to test a source: the
//! platform does neither.

mod channel;
mod send;
mod target;

pub use self::channel::{DigitalChannel, Written};
pub use self::target::SourceAt;
pub use crate::behavior::{DigitalBehavior, RefusalForm, SignatureIn, WireForm};
pub use crate::checks::{Capabilities, Rule, Run, RunEnd, Severity, Step, Violation};
pub use crate::crawler::{Imported, Job, Origin, Received, SyncStatus, Write};

pub(crate) use self::send::{handle, request_limit, source_of, too_large};
