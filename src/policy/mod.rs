//! Decisions about when, without IO: time and chance are arguments.

mod backoff;
mod renewal;

pub use backoff::BackoffPolicy;
pub(crate) use backoff::doubled;
pub use renewal::RenewalPolicy;

/// The longest wait between two polls that a service may ask for: PubNub retains messages for minutes, and an agent's
/// session ends after 300 s without a poll at the latest.
#[cfg(any(feature = "pubnub", feature = "agent"))]
pub(crate) const LONGEST_POLL_PAUSE: std::time::Duration = std::time::Duration::from_secs(300);

/// No wait that a user sets is longer: a year stands for never. A sum of two of them and
/// the time of now stays far from what a clock can hold (found 8).
pub(crate) const LONGEST_WAIT: std::time::Duration = std::time::Duration::from_secs(365 * 24 * 60 * 60);
