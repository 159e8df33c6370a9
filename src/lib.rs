//! RingCentral events that are never lost quietly.

pub mod auth;
mod clock;
mod error;
mod ids;
pub mod policy;
pub mod rest;
mod secret;
mod timestamp;
pub mod transport;

pub use error::{Disposition, Error, ErrorKind, Result};
pub use ids::{AccountId, ExtensionId, SubscriptionId};
pub use secret::Secret;
pub use timestamp::Timestamp;
