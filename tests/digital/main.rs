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

#[allow(dead_code, reason = "each test binary uses its part")]
#[path = "../support"]
mod support {
    pub(crate) mod digital;
}
