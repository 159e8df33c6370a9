//! The service's reminder that a subscription is about to end.

use std::time::Duration;

use super::macros::body;

body! {
    /// A subscription is about to end: renew it.
    ///
    /// Only `expiresIn` is documented. This crate's subscriptions renew by themselves
    /// and do not need it.
    pub struct SubscriptionReminder {
        /// How long the subscription still lives, in seconds.
        pub expires_in: Option<u64> = "expiresIn",
    }
}

impl SubscriptionReminder {
    /// How long the subscription still lives.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.expires_in.map(Duration::from_secs)
    }
}
