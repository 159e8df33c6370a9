//! No push: the crate polls the service at intervals.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Link, LinkEvent, Target, Transport, TransportBinding, TransportKind};
use crate::control::{ControlPlane, CreateSubscription, Deletion, DeliveryModeRequest, SubscriptionInfo};
use crate::error::{Error, ErrorKind, Result};
use crate::http::RateBudget;
use crate::ids::SubscriptionId;
use crate::system::System;

/// How often the login is renewed when nothing else needs it.
const LEASE: Duration = Duration::from_secs(60 * 60);
/// Prefix of the ids of polled subscriptions. The service never sees them.
const PREFIX: &str = "poll-";

/// The transport of apps that cannot have push: the service has no subscription;
/// the catch-up sources are polled at intervals
/// ([`poll_every`](crate::SubscriptionBuilder::poll_every)) instead.
///
/// Events are what those sources can find, so every filter needs a source that
/// [covers](crate::catch_up::CatchUp::covers) it, at least in part:
/// [`start`](crate::SubscriptionBuilder::start) fails with
/// [`Config`](ErrorKind::Config) otherwise. Filters whose events a source finds in
/// part only, or as states, are named by a [`Gap`](crate::Gap) without an end at the
/// beginning of the stream. Events carry [`Origin::CatchUp`](crate::Origin) or
/// `Snapshot`.
///
/// On close it reports a possible [`Gap`](crate::Gap) since the last poll.
///
/// Every source has its first position before `start` returns: each event after
/// that is delivered. The health of the subscription is that of its sources. A source
/// that is refused for good ends the stream with its error.
///
/// ```no_run
/// # async fn run(client: ringcentral_events::Client) -> ringcentral_events::Result<()> {
/// use ringcentral_events::{EventFilter, catch_up, transport::Poll};
///
/// let events = client
///     .subscribe([EventFilter::instant_message()])
///     .transport(Poll::new())
///     .catch_up_all(catch_up::standard(&client))
///     .start()
///     .await?;
/// # drop(events);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Poll(());

impl Poll {
    /// Makes the transport; it has no settings.
    #[must_use]
    pub fn new() -> Self {
        Self(())
    }
}

#[async_trait]
impl Transport for Poll {
    fn kind(&self) -> TransportKind {
        TransportKind::Poll
    }

    /// Never sent.
    fn delivery_mode(&self) -> DeliveryModeRequest {
        DeliveryModeRequest::new(TransportKind::Poll)
    }

    fn bind(&self, control: &Arc<dyn ControlPlane>) -> Option<TransportBinding> {
        let mut session = TransportBinding::new(Arc::new(PollControl(control.clone())), Arc::new(*self));
        session.polls = true;
        Some(session)
    }

    async fn open(&self, _target: Target) -> Result<Box<dyn Link>> {
        Ok(Box::new(Nothing { told: false }))
    }
}

/// A link without events.
struct Nothing {
    told: bool,
}

#[async_trait]
impl Link for Nothing {
    async fn next(&mut self) -> Result<LinkEvent> {
        if !self.told {
            self.told = true;
            return Ok(LinkEvent::Alive);
        }
        std::future::pending().await
    }

    async fn close(self: Box<Self>) {}
}

/// Keeps the login alive; polling holds nothing else at the service.
#[derive(Debug)]
struct PollControl(Arc<dyn ControlPlane>);

impl PollControl {
    fn info(id: SubscriptionId, filters: Vec<String>) -> SubscriptionInfo {
        let mut info = SubscriptionInfo::new(id);
        info.expires_in = Some(LEASE);
        info.event_filters = filters;
        info.delivery_mode.transport_type = TransportKind::Poll.as_str().to_owned();
        info
    }

    /// Ignores transient errors: the sources report them.
    async fn login(&self) -> Result<()> {
        match self.0.owner_id().await {
            Err(error) if error.disposition() == crate::Disposition::Fatal => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn known(&self, id: &SubscriptionId, filters: Vec<String>) -> Result<SubscriptionInfo> {
        if !id.as_str().starts_with(PREFIX) {
            return Err(Error::new(ErrorKind::NotFound, "no polled subscription has this id"));
        }
        self.login().await?;
        Ok(Self::info(id.clone(), filters))
    }
}

#[async_trait]
impl ControlPlane for PollControl {
    async fn create(&self, request: &CreateSubscription) -> Result<SubscriptionInfo> {
        self.0.owner_id().await?;
        let number = u64::from_le_bytes(self.0.system().unwrap_or_default().random_bytes()?);
        let id = SubscriptionId::new(format!("{PREFIX}{number:016x}"));
        Ok(Self::info(id, request.event_filters.clone()))
    }

    async fn list(&self) -> Result<Vec<SubscriptionInfo>> {
        Ok(Vec::new())
    }

    async fn get(&self, id: &SubscriptionId) -> Result<SubscriptionInfo> {
        self.known(id, Vec::new()).await
    }

    async fn update(&self, id: &SubscriptionId, event_filters: &[String]) -> Result<SubscriptionInfo> {
        self.known(id, event_filters.to_vec()).await
    }

    async fn renew(&self, id: &SubscriptionId) -> Result<SubscriptionInfo> {
        self.known(id, Vec::new()).await
    }

    async fn delete(&self, id: &SubscriptionId) -> Result<Deletion> {
        // The id belongs to another transport, before this one took over.
        if id.as_str().starts_with(PREFIX) { Ok(Deletion::Deleted) } else { self.0.delete(id).await }
    }

    async fn owner_id(&self) -> Result<Option<String>> {
        self.0.owner_id().await
    }

    fn rate_budget(&self) -> Option<RateBudget> {
        self.0.rate_budget()
    }

    fn system(&self) -> Option<System> {
        self.0.system()
    }
}
