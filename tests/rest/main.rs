//! Logins, calls, and sources of missed events.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod catch_up_calls;
mod catch_up_insights;
mod catch_up_messages;
mod catch_up_pushed;
mod catch_up_reading;
mod catch_up_states;
mod client;
mod control;
mod http_faults;
mod oauth;

#[allow(dead_code, reason = "each test binary uses its part")]
#[path = "../support"]
mod support {
    pub(crate) mod bare;
    pub(crate) mod catch_up;
    pub(crate) mod common;
    pub(crate) mod http_faults;
    pub(crate) mod login;
    pub(crate) mod scripted;
}
