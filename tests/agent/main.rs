//! Agent sessions of NICE inContact / CXone.

#![cfg(feature = "agent")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod auth;
mod faults;
mod places;
mod sandbox;
mod secrets;
mod session;
mod shift;
mod telemetry;

#[allow(dead_code, reason = "each test binary uses its part")]
#[path = "../support"]
mod support {
    pub(crate) mod agent;
    pub(crate) mod capture;
    pub(crate) mod center;
    pub(crate) mod common;
    pub(crate) mod process;
    #[cfg(feature = "metrics")]
    #[path = "../../examples/support/recorder.rs"]
    pub(crate) mod recorder;
    pub(crate) mod scripted;
    pub(crate) mod spans;
}
