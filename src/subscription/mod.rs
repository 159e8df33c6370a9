//! A subscription: created, renewed, reconnected and deleted for you, and read as a stream.

mod acknowledged;
mod active;
mod builder;
mod calls;
mod checkpoint;
mod cleanup;
mod clocks;
mod continuity;
mod counts;
mod driver;
mod ending;
mod endpoint;
mod failover;
mod failures;
#[cfg(test)]
mod fakes;
mod fan_out;
mod filters;
mod handle;
mod handled;
mod intake;
mod key_wait;
mod keys;
mod lease;
mod links;
mod machine;
mod ops;
mod orphans;
mod polled;
mod ports;
mod positions;
mod progress;
mod proof;
mod queue;
mod reconcile;
mod recovery;
#[cfg(feature = "redb")]
mod redb_checkpoint;
mod redelivery;
mod refusal;
mod report;
mod resume;
mod routes;
mod setup;
mod source;
mod stream;
mod traced;

use std::sync::Arc;

pub use builder::{OnDrop, SubscriptionBuilder};
pub use checkpoint::{AckMode, Checkpoint, FileCheckpoint, MemoryCheckpoint};
pub use fan_out::SubscriptionReader;
pub use handle::{ShutdownHandle, SubscriptionHandle};
#[cfg(feature = "redb")]
pub use redb_checkpoint::{RedbCheckpoint, RedbCheckpoints};
pub use resume::ResumeToken;
pub use stream::{Closed, Notifications, Subscription};

use crate::event::EventFilter;
use crate::rest::{Client, RestControl};

impl Client {
    /// Sets up a subscription to `filters`: at least one.
    ///
    #[cfg_attr(feature = "pubnub", doc = "```no_run")]
    #[cfg_attr(not(feature = "pubnub"), doc = "```text")]
    /// # async fn run(client: ringcentral_events::Client) -> ringcentral_events::Result<()> {
    /// use futures_util::StreamExt;
    /// use ringcentral_events::{Delivery, EventFilter};
    /// use ringcentral_events::transport::PubNub;
    ///
    /// let filter: EventFilter = "/restapi/v1.0/account/~/extension/~/message-store".parse()?;
    /// let transport = PubNub::builder().build()?;
    /// let mut subscription = client.subscribe([filter]).transport(transport).start().await?;
    /// while let Some(delivery) = subscription.next().await {
    ///     match delivery? {
    ///         Delivery::Notification(event) => println!("{:?}", event.event()),
    ///         Delivery::Gap(gap) => println!("events may be missing: {}", gap.cause),
    ///         other => println!("{other:?}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscribe(&self, filters: impl IntoIterator<Item = EventFilter>) -> SubscriptionBuilder {
        let control = Arc::new(RestControl::new(self.clone()));
        SubscriptionBuilder::with_registry(control, self.registry().clone(), filters)
    }
}
