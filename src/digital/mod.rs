//! Your app as a source for Engage Digital (RingCX Digital since 2024).
//!
//! The platform calls your URL about every minute with signed actions: report your capabilities
//! (`implementation.info`), list new contents (`messages.list`, …), write this (`messages.create`),
//! delete that. A [`Source`] has a typed handler for each, and a [`SourceEndpoint`] serves it: this
//! crate handles signatures, limits, the order of lists and repetitions.
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
//! # What this crate handles
//!
//! - Signatures are verified over the raw bytes before anything else is read, and every response is
//!   signed; see [`Signer`] and [`SourceEndpoint`].
//! - A list is newest first and contains the oldest new contents, so that the next one continues
//!   there; see [`Feed`].
//! - A create that is repeated because its answer was lost gets the same answer and is not written
//!   again; see [`IdempotencyStore`].
//! - Registering a handler also advertises it to the platform; see [`SourceBuilder`].
//! - A handler that panics or takes too long produces an error response.
//!
//! # Without waiting for the next poll
//!
//! With [`SendApi`] your app pushes contents immediately. The platform still polls the source, at
//! least for its capabilities; use the same ids in both.

mod action;
mod collection;
mod create;
mod endpoint;
mod failure;
mod feed;
mod idempotency;
mod object;
mod options;
mod send;
mod service;
mod signature;
mod source;
mod structured;
mod validate;
mod value;

pub use action::{Action, ActionRequest, CollectionName, CustomAction};
pub use collection::{Collection, Content, Messages, PrivateMessages, Threads};
pub use create::{NewMessage, NewPrivateMessage, NewThread, QueuingUpdate, Typing};
pub use endpoint::{SourceEndpoint, SourceEndpointBuilder};
pub use failure::Failure;
pub use feed::{Entry, Feed, MemoryFeed};
pub use idempotency::{IdempotencyStore, MemoryIdempotencyStore};
pub use object::{Attachment, Gender, Message, PrivateMessage, Thread, User};
pub use options::SourceOption;
pub use send::{SendApi, SendApiBuilder};
pub use signature::{InvalidSignature, SIGNATURE_HEADER, SIGNATURE_QUERY, Signer};
pub use source::{Source, SourceBuilder};
pub use structured::{ButtonKind, StructuredContent, StructuredItem, StructuredKind, StructuredReply};
pub use value::{ContextData, ContextValue, Date, Format};
