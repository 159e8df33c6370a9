//! The service's reminder that a subscription is about to expire.

use std::time::Duration;

use super::macros::body;

body! {
    /// A subscription is about to expire: renew it.
    ///
    /// Only `expiresIn` is documented. This crate's subscriptions renew automatically and do not
    /// need it.
    pub struct SubscriptionReminder {
        /// The remaining lifetime of the subscription, in seconds.
        pub expires_in: Option<u64> = "expiresIn",
    }
}

impl SubscriptionReminder {
    /// The remaining lifetime of the subscription.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.expires_in.map(Duration::from_secs)
    }
}
