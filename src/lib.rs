//! RingCentral events that are never lost quietly.

pub mod auth;
mod clock;
pub mod codec;
mod dedup;
mod error;
pub mod event;
mod ids;
pub mod policy;
mod registry;
pub mod rest;
#[cfg(feature = "sandbox")]
pub mod sandbox;
mod secret;
mod subscription;
mod timestamp;
pub mod transport;

pub use auth::OAuth;
pub use error::{Disposition, Error, ErrorKind, Result};
pub use event::{Event, EventFilter, EventKind, Notification, Origin};
pub use ids::{AccountId, ExtensionId, SubscriptionId};
pub use rest::Client;
pub use secret::Secret;
pub use subscription::{
    Certainty, Closed, Delivery, Gap, GapCause, Notifications, OnDrop, Phase, Recreated, ResumeToken, Resumed,
    ShutdownHandle, Status, StatusWatch, Subscription, SubscriptionBuilder, SubscriptionHandle, Undecodable,
};
pub use timestamp::Timestamp;
