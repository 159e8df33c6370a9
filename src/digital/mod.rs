//! Your app as a source that Engage Digital (since 2024 RingCX Digital) polls.
//!
//! The platform calls a URL of yours about every minute with signed actions: what can
//! you do (`implementation.info`), what is new (`messages.list`, …), write this
//! (`messages.create`), delete that. A [`Source`] has a handler for each, typed, and a
//! [`SourceEndpoint`] serves it: signatures, limits, order of lists and repetitions are
//! this crate's business.
//!
//! ```
//! use ringcentral_events::digital::{
//!     Date, Failure, MemoryFeed, Message, Messages, NewMessage, Source, SourceEndpoint, SourceOption, User,
//! };
//!
//! let feed = MemoryFeed::new();
//! let written = feed.clone();
//! let source = Source::builder()
//!     .option(SourceOption::MessagesUnthreaded)
//!     .list(Messages, feed)
//!     .create(Messages, move |new: NewMessage| {
//!         let feed = written.clone();
//!         async move {
//!             let id = format!("m-{}", feed.contents().len());
//!             let mut message = Message::new(id, User::new(new.author_id, "Agent", Date::now()).puppet());
//!             message.body = Some(new.body.ok_or_else(|| Failure::fatal("text only"))?);
//!             message.in_reply_to_id = new.in_reply_to_id;
//!             feed.put(message.clone());
//!             Ok(message)
//!         }
//!     })
//!     .reply(Messages)
//!     .build()?;
//! let endpoint = SourceEndpoint::builder(source, "the channel's API access token").build()?;
//! # drop(endpoint);
//! # Ok::<(), ringcentral_events::Error>(())
//! ```
//!
//! With axum: `Router::new().route_service("/", endpoint)`.
//!
//! # What this crate sees to
//!
//! - Signatures are verified over the bytes that came, before anything else is read,
//!   and every answer is signed; see [`Signer`] and [`SourceEndpoint`].
//! - A list is newest first and has the oldest of what is new, so that the next one
//!   goes on from there; see [`Feed`].
//! - A create that is repeated, because its answer was lost, is answered again and not
//!   written again; see [`ContentStore`].
//! - What is registered is what the platform is told; see [`SourceBuilder`].
//! - A handler that panics or takes too long is an answer that says so.
//!
//! # Without waiting for the next poll
//!
//! With [`SendApi`] your app sends what happens at once. The source is polled all the
//! same, at the least for what it can do; use the same ids in both.

mod action;
mod collection;
mod contents;
mod create;
mod endpoint;
mod failure;
mod feed;
mod object;
mod option;
mod send;
mod service;
mod signature;
mod source;
mod structured;
mod value;
mod whole;

pub use action::{Action, ActionRequest, CollectionName, CustomAction};
pub use collection::{Collection, Content, Messages, PrivateMessages, Threads};
pub use contents::{ContentStore, MemoryContents};
pub use create::{NewMessage, NewPrivateMessage, NewThread, QueuingUpdate, Typing};
pub use endpoint::{SourceEndpoint, SourceEndpointBuilder};
pub use failure::Failure;
pub use feed::{Entry, Feed, MemoryFeed};
pub use object::{Attachment, Gender, Message, PrivateMessage, Thread, User};
pub use option::SourceOption;
pub use send::{SendApi, SendApiBuilder};
pub use signature::{InvalidSignature, SIGNATURE_HEADER, SIGNATURE_QUERY, Signer};
pub use source::{Source, SourceBuilder};
pub use structured::{ButtonKind, StructuredContent, StructuredItem, StructuredKind, StructuredReply};
pub use value::{ContextData, ContextValue, Date, Format};
