//! Subscriptions end to end, over both transports, against the sandbox.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[cfg(all(feature = "pubnub", feature = "websocket"))]
mod bursts;
#[cfg(feature = "pubnub")]
mod catch_up;
#[cfg(feature = "pubnub")]
mod completed_calls;
#[cfg(feature = "pubnub")]
mod conformance_lifecycle;
mod conformance_rows;
#[cfg(feature = "pubnub")]
mod conformance_stream;
mod first_steps;
#[cfg(feature = "pubnub")]
mod flood;
#[cfg(all(feature = "pubnub", feature = "websocket"))]
mod lossless;
#[cfg(all(feature = "metrics", feature = "websocket"))]
mod metrics;
#[cfg(feature = "websocket")]
mod own_network;
#[cfg(any(feature = "pubnub", feature = "websocket"))]
mod own_parts;
#[cfg(feature = "pubnub")]
mod pubnub_bursts;
#[cfg(feature = "pubnub")]
mod pubnub_faults;
#[cfg(feature = "pubnub")]
mod pubnub_lease;
#[cfg(feature = "pubnub")]
mod pubnub_link;
#[cfg(feature = "pubnub")]
mod pubnub_logs;
#[cfg(feature = "pubnub")]
mod pubnub_secrets;
#[cfg(feature = "pubnub")]
mod scale;
#[cfg(all(feature = "pubnub", feature = "websocket"))]
mod spans;
#[cfg(feature = "pubnub")]
mod state_view;
#[cfg(feature = "websocket")]
mod websocket;
#[cfg(feature = "websocket")]
mod websocket_secrets;

#[allow(dead_code, reason = "each test binary uses its part")]
#[path = "../support"]
mod support {
    pub(crate) mod capture;
    pub(crate) mod common;
    pub(crate) mod inspection;
    pub(crate) mod login;
    pub(crate) mod process;
    #[cfg(feature = "pubnub")]
    pub(crate) mod pubnub;
    pub(crate) mod raw;
    #[cfg(feature = "metrics")]
    #[path = "../../examples/support/recorder.rs"]
    pub(crate) mod recorder;
    pub(crate) mod spans;
    pub(crate) mod subscribing;
}
