//! RingCentral events that are never lost quietly.

mod clock;
pub mod codec;
mod error;
mod ids;
mod policy;
pub mod rest;
mod secret;
mod subscription;
mod timestamp;
pub mod transport;

pub use error::{Disposition, Error, ErrorKind, Result};
pub use ids::{AccountId, ExtensionId, SubscriptionId};
pub use secret::Secret;
pub use timestamp::Timestamp;
