//! Decisions about when, without IO: time and chance are arguments.

mod backoff;
mod renewal;

pub use backoff::BackoffPolicy;
pub use renewal::RenewalPolicy;
