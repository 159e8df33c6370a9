//! Any text as a frame of the WebSocket gateway: no panic, and what may have been an
//! event is kept.
//!
//! `cargo +nightly fuzz run frame`
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| ringcentral_events::transport::fuzz_frame(text));
