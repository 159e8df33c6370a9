//! Subscriptions to which nothing is pushed: their sources have a first position
//! before they count as made.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::catch_up::{CatchUp, SyncPage, SyncRequest, SyncToken};
use crate::error::{Error, Result};
use crate::event::{EventFilter, GapClosure};
use crate::ids::SubscriptionId;
use crate::rest::{ControlPlane, CreateSubscription, Deletion, RateBudget, SocketToken, SubscriptionInfo};

/// A source whose first position was had when the subscription was made.
#[derive(Debug)]
pub(super) struct Begun {
    source: Arc<dyn CatchUp>,
    first: Mutex<Option<SyncToken>>,
}

impl Begun {
    async fn begin_now(&self, filters: &[EventFilter]) -> Result<()> {
        let covered = filters.iter().filter(|filter| self.source.covers(filter) != GapClosure::Nothing);
        let covered: Vec<EventFilter> = covered.cloned().collect();
        if !covered.is_empty() {
            let token = self.source.begin(&covered).await?;
            *self.first.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        }
        Ok(())
    }
}

#[async_trait]
impl CatchUp for Begun {
    fn name(&self) -> &'static str {
        self.source.name()
    }

    fn covers(&self, filter: &EventFilter) -> GapClosure {
        self.source.covers(filter)
    }

    fn settles_after(&self) -> Duration {
        self.source.settles_after()
    }

    async fn begin(&self, filters: &[EventFilter]) -> Result<SyncToken> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        match first {
            Some(token) => Ok(token),
            None => self.source.begin(filters).await,
        }
    }

    async fn sync(&self, request: SyncRequest<'_>) -> Result<SyncPage> {
        self.source.sync(request).await
    }
}

/// Makes a subscription once every source has its first position.
#[derive(Debug)]
struct Beginning {
    control: Arc<dyn ControlPlane>,
    sources: Vec<Arc<Begun>>,
    filters: Vec<EventFilter>,
}

/// The control plane and the sources of a subscription to `filters` that is polled.
pub(super) fn beginning(
    control: Arc<dyn ControlPlane>,
    sources: Vec<Arc<dyn CatchUp>>,
    filters: Vec<EventFilter>,
) -> (Arc<dyn ControlPlane>, Vec<Arc<dyn CatchUp>>) {
    let begun: Vec<Arc<Begun>> =
        sources.into_iter().map(|source| Arc::new(Begun { source, first: Mutex::default() })).collect();
    let sources = begun.iter().map(erased).collect();
    (Arc::new(Beginning { control, sources: begun, filters }), sources)
}

fn erased(source: &Arc<Begun>) -> Arc<dyn CatchUp> {
    source.clone()
}

/// Every filter needs a source that can tell of it: nothing else does.
pub(super) fn check_covered(filters: &[EventFilter], sources: &[Arc<dyn CatchUp>]) -> Result<()> {
    let is_told = |filter: &EventFilter| sources.iter().any(|source| source.covers(filter) != GapClosure::Nothing);
    match filters.iter().find(|filter| !is_told(filter)) {
        None => Ok(()),
        Some(filter) => Err(Error::config(format!(
            "without push nothing would tell of {filter}: no catch-up source of this subscription covers it"
        ))),
    }
}

#[async_trait]
impl ControlPlane for Beginning {
    async fn create(&self, request: &CreateSubscription) -> Result<SubscriptionInfo> {
        for source in &self.sources {
            source.begin_now(&self.filters).await?;
        }
        self.control.create(request).await
    }

    async fn list(&self) -> Result<Vec<SubscriptionInfo>> {
        self.control.list().await
    }

    async fn get(&self, id: &SubscriptionId) -> Result<SubscriptionInfo> {
        self.control.get(id).await
    }

    async fn update(&self, id: &SubscriptionId, event_filters: &[String]) -> Result<SubscriptionInfo> {
        let filters = event_filters.iter().map(|text| text.parse()).collect::<Result<Vec<EventFilter>>>()?;
        check_covered(&filters, &self.sources.iter().map(erased).collect::<Vec<_>>())?;
        self.control.update(id, event_filters).await
    }

    async fn renew(&self, id: &SubscriptionId) -> Result<SubscriptionInfo> {
        self.control.renew(id).await
    }

    async fn delete(&self, id: &SubscriptionId) -> Result<Deletion> {
        self.control.delete(id).await
    }

    async fn owner_id(&self) -> Result<Option<String>> {
        self.control.owner_id().await
    }

    async fn replace(&self, request: &CreateSubscription) -> Result<SubscriptionInfo> {
        self.control.replace(request).await
    }

    async fn socket_token(&self) -> Result<SocketToken> {
        self.control.socket_token().await
    }

    fn rate_budget(&self) -> Option<RateBudget> {
        self.control.rate_budget()
    }
}
