//! RingCentral events that are never lost quietly.

mod clock;
mod error;
pub mod event;
mod ids;
pub mod rest;
mod secret;
mod timestamp;
pub mod transport;

pub use error::{Disposition, Error, ErrorKind, Result};
pub use event::{Event, EventFilter, EventKind, Notification, Origin};
pub use ids::{AccountId, ExtensionId, SubscriptionId};
pub use secret::Secret;
pub use timestamp::Timestamp;
