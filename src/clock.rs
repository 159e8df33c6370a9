//! The one place that reads the wall clock.
//!
//! Deadlines run on `tokio::time`, which tests can pause. The wall clock serves
//! three things only: time marks a person reads, the first PubNub cursor, and
//! noticing that the machine slept.

use std::time::SystemTime;

/// The wall clock's time.
#[allow(clippy::disallowed_methods, reason = "this is the one place that the ban in clippy.toml points to")]
pub(crate) fn wall_now() -> SystemTime {
    SystemTime::now()
}
