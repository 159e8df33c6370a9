//! The items that the expansion of [`event_body!`](crate::event_body) uses.

pub use serde;
pub use serde_json::value::RawValue;

pub use super::lenient::{Body, Lenient, Slot, deserialize, object};
