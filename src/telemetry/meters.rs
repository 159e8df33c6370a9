//! The metrics, through the facade `metrics`. Without the feature `metrics` nothing is recorded, and the types below
//! are empty.
//!
//! Recorded by the driver (what happens to the subscription), by the stream (what it yields) and by the rate budget.

#[cfg(not(feature = "metrics"))]
mod absent;
#[cfg(feature = "metrics")]
mod facade;

#[cfg(not(feature = "metrics"))]
pub(crate) use absent::{Lifecycle, Yields, rate_budget};
#[cfg(feature = "metrics")]
pub(crate) use facade::{Lifecycle, Yields, rate_budget};
