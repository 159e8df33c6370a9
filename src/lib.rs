//! RingCentral's events as a typed stream in which nothing is lost silently.
//!
//! A [`Client`] logs in and calls the REST API. [`Client::subscribe`] starts a
//! [`Subscription`]: a background task creates it at the service, renews it,
//! reconnects, recreates it when it is lost, and finally deletes it. You read a
//! stream of [`Delivery`]s: every event arrives once as a [`Notification`], or a
//! [`Gap`] reports its loss.
//!
//! ```no_run
//! use ringcentral_events::{Client, Delivery, Event, EventFilter};
//!
//! # async fn run() -> ringcentral_events::Result<()> {
//! let client = Client::from_env()?;
//! let mut events = client.subscribe([EventFilter::instant_message(), EventFilter::team_posts()]).start().await?;
//! while let Some(delivery) = events.next().await {
//!     match delivery? {
//!         Delivery::Notification(it) => match it.event() {
//!             Event::InstantMessage(sms) => println!("{:?}: {:?}", sms.from_number(), sms.text()),
//!             other => println!("{}", other.kind()),
//!         },
//!         Delivery::Gap(gap) => println!("events may be missing: {}", gap.cause),
//!         other => println!("{other}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Client::from_env`] reads `RC_APP_CLIENT_ID`, `RC_APP_CLIENT_SECRET`, `RC_USER_JWT` and, unless it
//! is production, `RC_SERVER_URL`; [`Client::builder`] takes any other login. Events come over a
//! WebSocket; [`SubscriptionBuilder::transport`] sets another way.
//!
//! Needs a tokio runtime with time and IO enabled. The repository's example
//! `message_bot` runs all of this without an account, against an emulator of the service.
//!
//! # The life of a subscription
//!
//! ```text
//!  start()
//!     │
//!  Starting ── created ──> Connecting ── first answer ──> Live <──────────────┐
//!     │                                                    │                  │
//!     │ refused                    ┌── the link breaks ────┤                  │
//!     │                            v                       │                  │
//!     │                      Reconnecting ── same place in the stream: ───────┤
//!     │                            │         no gap        │                  │
//!     │                            │ the lease is lost ────┤                  │
//!     │                            v                       │                  │
//!     │                       Recreating <── 404, expired ─┘                  │
//!     │                            └── created: Gap … Resumed ────────────────┘
//!     v
//!   Err          close(), drop, or an error that needs human action, from
//!                any phase:  Closing ── deleted ──> Closed
//! ```
//!
//! [`Subscription::status`] reports the [`Phase`]. The crate renews the lease before it
//! expires in every phase that has one, whether or not you read.
//!
//! # What you see when the network drops
//!
//! - **For a moment:** nothing in the stream, the events arrive late. The status is
//!   [`Reconnecting`](Phase::Reconnecting), then [`Live`](Phase::Live).
//! - **For longer than the service is guaranteed to retain events, or with more events than
//!   it buffers:** a [`Gap`] that is [`Possible`](Certainty::Possible), then the retained
//!   events.
//! - **For longer than the lease:** a [`Gap`] that is [`Certain`](Certainty::Certain),
//!   another subscription, and [`Resumed`] with both ids.
//! - **For good, or refused:** an `Err` as the last item. Transient errors are retried
//!   without limit; [`Status::last_error`] has the latest.
//!
//! A gap comes in the stream where the missing events would have come. The table at
//! [`EventKind`] shows where the service can be asked for them; a subscription with
//! sources from [`catch_up`] asks by itself.
//!
//! # Where things are
//!
//! You use:
//!
//! | For | Start at |
//! | --- | --- |
//! | a login | [`Client::from_env`], [`OAuth`], [`auth`] |
//! | REST calls | [`Client`] |
//! | a subscription | [`Client::subscribe`], [`SubscriptionBuilder`], [`transport`] |
//! | what it delivers | [`Delivery`], [`Notification`], [`Event`], [`Gap`], [`Resumed`] |
//! | filters | [`EventFilter`], [`EventKind`] |
//! | missed events | [`catch_up`] |
//! | ended calls with record, recording and voicemail | [`calls`] |
//! | the present calls and presence | [`state`] |
//! | restarts and crashes | [`Checkpoint`], [`ResumeToken`], [`AckMode`] |
//! | handlers that run concurrently, another attempt | [`Subscription::for_each_concurrent`], [`SubscriptionHandle::nack`] |
//! | several readers | [`Subscription::fan_out`] |
//! | journals, queues and CloudEvents | [`Delivery`'s stored form](Delivery#stored-form), [`Delivery::to_cloud_event`] |
//! | event types of your own | [`event_body!`], [`Notification::body_as`] |
//! | health, spans and metrics | [`Health`], [`telemetry`] |
//! | errors | [`Error`], [`ErrorKind`], [`Disposition`] |
//!
//! You may implement, to replace a part of the crate by your own:
//!
//! | Trait | Replaces |
//! | --- | --- |
//! | [`Transport`](transport::Transport), [`Link`](transport::Link) | how events travel to this process |
//! | [`CatchUp`](catch_up::CatchUp) | where missed events are asked for |
//! | [`Checkpoint`], [`TokenStore`](auth::TokenStore) | where positions and tokens are stored |
//! | [`TokenProvider`](auth::TokenProvider) | where tokens come from |
//! | [`ControlPlane`](control::ControlPlane) | the calls that create, renew and delete a subscription |
//! | [`HttpClient`](http::HttpClient), [`WallClock`], [`Random`], [`Files`] | the network, time, randomness and the disk |
//!
//! # Features
//!
//! | Feature | Default | What it adds |
//! | --- | --- | --- |
//! | `pubnub` | yes | [`transport`]`::PubNub`, on PubNub's crate, which is source-available and not open source |
//! | `websocket` | yes | [`transport`]`::WebSocket`, over RingCentral's own gateway |
//! | `redb` | no | `RedbCheckpoints`: checkpoints of many subscriptions in one embedded database |
//! | `digital` | no | `digital`: your own source that Engage Digital (RingCX Digital) polls, and its Send API |
//! | `metrics` | no | the metrics of [`telemetry`], through the facade `metrics` |
//! | `agent` | no | `agent`: agent sessions of NICE inContact / CXone, polled for events |
//!
//! Features are additive. To test your program, use the crate `ringcentral-sandbox`, an
//! emulator of the service on loopback.
//!
//! # Logs and secrets
//!
//! The crate logs through `tracing`: `info` for changes of state, `debug` for calls,
//! `trace` for frames. Tokens, keys, channel names, signed URLs and message bodies never appear in
//! logs, at any level, in errors or in `Debug`; only [`Secret::expose`] shows a [`Secret`], whose
//! memory is overwritten when it is dropped. The `Debug` of a typed event shows its fields.
//!
//! `tungstenite`, which the feature `websocket` uses, logs messages through the crate `log`
//! at `trace`. It is given zeros in place of every payload, so that it logs only lengths.
//! The spans of subscriptions, links, calls and deliveries are in [`telemetry`].
//! `SECURITY.md` in the repository has the threat model.

// Shows on docs.rs which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "agent")]
pub mod agent;
pub mod auth;
mod batches;
pub mod calls;
pub mod catch_up;
mod clock;
pub mod codec;
pub mod control;
mod decode;
mod dedup;
mod delivery;
#[cfg(test)]
mod determinism_tests;
#[cfg(feature = "digital")]
pub mod digital;
mod durable;
mod error;
pub mod event;
#[cfg(test)]
mod extremes;
mod guard;
mod health;
pub mod http;
mod ids;
mod json;
mod kind;
pub mod policy;
mod random;
mod registry;
pub mod rest;
mod salvage;
mod secret;
mod service_clock;
pub mod state;
mod status;
mod stored;
mod subscription;
mod system;
pub mod telemetry;
mod timestamp;
pub mod transport;
mod waiting;
mod words;

pub use auth::OAuth;
pub use clock::{SystemClock, WallClock};
pub use delivery::{
    Certainty, Changes, Delivery, DisabledFilter, Gap, GapCause, OpenReason, Recreated, Resumed, Undecodable,
    Unrecovered,
};
pub use durable::{FileLock, Files};
pub use error::{Disposition, Error, ErrorKind, Result};
pub use event::{Event, EventFilter, EventKind, Notification, Origin};
pub use health::Health;
pub use ids::{AccountId, ExtensionId, SubscriptionId};
pub use random::{Random, SystemRandom};
pub use rest::Client;
pub use secret::Secret;
pub use status::{Phase, Status, StatusWatch, Wait};
pub use subscription::{
    AckMode, Checkpoint, Closed, FileCheckpoint, MemoryCheckpoint, Notifications, OnDrop, ResumeToken, ShutdownHandle,
    Subscription, SubscriptionBuilder, SubscriptionHandle, SubscriptionReader,
};
#[cfg(feature = "redb")]
pub use subscription::{RedbCheckpoint, RedbCheckpoints};
pub use system::System;
pub use timestamp::Timestamp;
pub use waiting::WaitCause;

/// The README's examples, compiled.
#[cfg(all(doctest, feature = "pubnub", feature = "websocket", feature = "digital", feature = "agent"))]
#[doc = include_str!("../README.md")]
struct Readme;
