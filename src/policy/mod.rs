//! When to try again. Pure: time and randomness are arguments.

mod backoff;

pub use backoff::BackoffPolicy;
