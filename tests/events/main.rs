//! Events, filters and the envelope.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod filters;
mod fixtures;
mod leaves;
mod notification;
mod stored;
mod subject;
mod wild;

#[allow(dead_code, reason = "each test binary uses its part")]
#[path = "../support"]
mod support {
    pub(crate) mod events;
}
