//! The metrics, through the facade `metrics`. Without the feature `metrics` nothing is recorded, and the types below
//! are empty.
//!
//! Recorded by the driver (what happens to the subscription), by the stream (what it yields), by
//! the rate budget, by polls, and by the endpoint of a Digital source.

#[cfg(not(feature = "metrics"))]
mod absent;
#[cfg(feature = "metrics")]
mod facade;

#[cfg(not(feature = "metrics"))]
pub(crate) use absent::*;
#[cfg(feature = "metrics")]
pub(crate) use facade::*;
