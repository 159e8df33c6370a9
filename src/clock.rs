//! The one place that reads the wall clock.
//!
//! Deadlines run on `tokio::time`, which tests can pause. The wall clock serves
//! three things only: time marks a person reads, the first PubNub cursor, and
//! noticing that the machine slept.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// A source of the time of day. Part of a [`System`](crate::System).
///
/// It may jump and may be wrong; no wait and no deadline depends on it. Those run on
/// `tokio::time`.
pub trait WallClock: fmt::Debug + Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> SystemTime;
}

impl<T: WallClock + ?Sized> WallClock for Arc<T> {
    fn now(&self) -> SystemTime {
        (**self).now()
    }
}

/// The machine's clock. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    fn now(&self) -> SystemTime {
        wall_now()
    }
}

/// The machine's time, for values that a user makes without a [`System`](crate::System).
#[allow(clippy::disallowed_methods, reason = "this is the one place that the ban in clippy.toml points to")]
pub(crate) fn wall_now() -> SystemTime {
    SystemTime::now()
}

/// The wall clock of a [`System`](crate::System).
#[derive(Clone, Debug)]
pub(crate) struct Clock(pub(crate) Arc<dyn WallClock>);

impl Clock {
    pub(crate) fn wall(&self) -> SystemTime {
        self.0.now()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self(Arc::new(SystemClock))
    }
}

#[cfg(test)]
impl Clock {
    pub(crate) fn from_fn(read: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        struct Read<F>(F);

        impl<F> fmt::Debug for Read<F> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("Read")
            }
        }

        impl<F: Fn() -> SystemTime + Send + Sync + 'static> WallClock for Read<F> {
            fn now(&self) -> SystemTime {
                (self.0)()
            }
        }

        Self(Arc::new(Read(read)))
    }
}
