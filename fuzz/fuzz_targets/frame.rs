//! Any text as a frame of the WebSocket gateway: no panic, and a possible event is preserved.
//!
//! `cargo +nightly fuzz run frame`
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| ringcentral_events::transport::fuzz_frame(text));
