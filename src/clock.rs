//! The one place that reads the wall clock.
//!
//! Deadlines run on `tokio::time`, which tests can pause. The wall clock serves
//! three things only: time marks a person reads, the first PubNub cursor, and
//! noticing that the machine slept.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// The wall clock's time.
#[allow(clippy::disallowed_methods, reason = "this is the one place that the ban in clippy.toml points to")]
pub(crate) fn wall_now() -> SystemTime {
    SystemTime::now()
}

/// A wall clock: the machine's, or a test's.
#[derive(Clone)]
pub(crate) struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    pub(crate) fn wall(&self) -> SystemTime {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self(Arc::new(wall_now))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[cfg(test)]
impl Clock {
    pub(crate) fn from_fn(read: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }
}
