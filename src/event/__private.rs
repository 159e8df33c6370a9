//! The items that the expansion of [`event_body!`](crate::event_body) uses.

pub use serde;

pub use crate::json::Json;

pub use super::lenient::{Body, Lenient, Slot, deserialize, object};
