//! The sandbox alone, with a bare client, a Digital source, or the control API.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod account;
mod agent;
mod agent_calls;
mod control;
mod core;
mod digital;
mod digital_send;
mod digital_trouble;
mod digital_wrong;
mod extremes;
mod faults;
mod foreign_suites;
mod gateway;
mod gateway_control;
mod gateway_faults;
mod gateway_liveness;
mod gateway_recovery;
mod gateway_requests;
mod load;
mod oauth;
mod own_calls;
mod pubnub;
mod subscriptions;

#[allow(dead_code, reason = "each test binary uses its part")]
#[path = "../../../../tests/support"]
mod support {
    pub(crate) mod bare;
    pub(crate) mod center;
    pub(crate) mod common;
    pub(crate) mod digital;
    pub(crate) mod gateway;
    pub(crate) mod wrong;
}
