//! Digital sources, and the Send API.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod conversation;
mod create;
mod endpoint;
mod lists;
mod send;
mod server;
mod signature;
mod source;
mod telemetry;

#[allow(dead_code, reason = "each test binary uses its part")]
#[path = "../support"]
mod support {
    pub(crate) mod common;
    pub(crate) mod digital;
    pub(crate) mod process;
    #[cfg(feature = "metrics")]
    #[path = "../../examples/support/recorder.rs"]
    pub(crate) mod recorder;
    pub(crate) mod spans;
}
