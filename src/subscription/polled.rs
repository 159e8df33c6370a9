//! Subscriptions that rely on their sources: these have a first position before the subscription is created.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::catch_up::{CatchUp, SyncPage, SyncRequest, SyncToken};
use crate::control::{ControlPlane, CreateSubscription, Cursor, Deletion, SocketToken, SubscriptionInfo};
use crate::error::{Error, Result};
use crate::event::{EventFilter, GapClosure};
use crate::http::RateBudget;
use crate::ids::SubscriptionId;
use crate::system::System;

/// A source whose first position was taken when the subscription was created.
#[derive(Debug)]
pub(super) struct Begun {
    source: Arc<dyn CatchUp>,
    first: Mutex<First>,
}

/// The first position of a source.
#[derive(Debug, Default)]
enum First {
    #[default]
    None,
    Had(SyncToken),
    /// It was passed on, and the source continues from there.
    Used,
}

impl Begun {
    fn first(&self) -> MutexGuard<'_, First> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gets the first position, once.
    async fn begin_now(&self, filters: &[EventFilter]) -> Result<()> {
        let covered = filters.iter().filter(|filter| self.source.covers(filter) != GapClosure::Nothing);
        let covered: Vec<EventFilter> = covered.cloned().collect();
        if !covered.is_empty() && matches!(*self.first(), First::None) {
            let token = self.source.begin(&covered).await?;
            *self.first() = First::Had(token);
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

    fn covers_messages(&self) -> bool {
        self.source.covers_messages()
    }

    fn settles_after(&self) -> Duration {
        self.source.settles_after()
    }

    fn overlap(&self) -> Duration {
        self.source.overlap()
    }

    async fn begin(&self, filters: &[EventFilter]) -> Result<SyncToken> {
        let first = std::mem::replace(&mut *self.first(), First::Used);
        match first {
            First::Had(token) => Ok(token),
            First::None | First::Used => self.source.begin(filters).await,
        }
    }

    async fn sync(&self, request: SyncRequest<'_>) -> Result<SyncPage> {
        self.source.sync(request).await
    }
}

/// Creates a subscription once every source has its first position.
#[derive(Debug)]
struct Beginning {
    control: Arc<dyn ControlPlane>,
    sources: Vec<Arc<Begun>>,
    filters: Vec<EventFilter>,
    /// Whether there is no other transport, which could deliver what polls cannot find.
    alone: bool,
}

/// The sources, each of which may get its first position before it is requested.
pub(super) fn first_positions(sources: Vec<Arc<dyn CatchUp>>) -> Vec<Arc<Begun>> {
    sources.into_iter().map(|source| Arc::new(Begun { source, first: Mutex::default() })).collect()
}

pub(super) fn erased(sources: Vec<Arc<Begun>>) -> Vec<Arc<dyn CatchUp>> {
    let erase = |source: Arc<Begun>| -> Arc<dyn CatchUp> { source };
    sources.into_iter().map(erase).collect()
}

/// The control plane of a subscription to `filters` whose counts of messages are replaced by the messages.
pub(super) fn enriching(
    control: Arc<dyn ControlPlane>,
    sources: &[Arc<Begun>],
    filters: Vec<EventFilter>,
) -> Arc<dyn ControlPlane> {
    let sources = sources.iter().filter(|source| source.covers_messages()).cloned().collect();
    Arc::new(Beginning { control, sources, filters, alone: false })
}

/// The control plane of a polled subscription to `filters`.
///
/// # Errors
/// If there is no other transport and a filter without a source.
pub(super) fn beginning(
    control: Arc<dyn ControlPlane>,
    sources: &[Arc<Begun>],
    filters: Vec<EventFilter>,
    alone: bool,
) -> Result<Arc<dyn ControlPlane>> {
    if alone {
        check_covered(&filters, sources)?;
    }
    Ok(Arc::new(Beginning { control, sources: sources.to_vec(), filters, alone }))
}

/// Every filter needs a source that covers it: nothing else delivers its events.
fn check_covered(filters: &[EventFilter], sources: &[Arc<Begun>]) -> Result<()> {
    let is_told = |filter: &EventFilter| sources.iter().any(|source| source.covers(filter) != GapClosure::Nothing);
    match filters.iter().find(|filter| !is_told(filter)) {
        None => Ok(()),
        Some(filter) => Err(Error::config(format!(
            "no catch-up source of this subscription covers {filter}, and nothing is pushed"
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

    async fn resume(&self, id: &SubscriptionId, at: &Cursor) -> Result<SubscriptionInfo> {
        self.control.resume(id, at).await
    }

    async fn update(&self, id: &SubscriptionId, event_filters: &[String]) -> Result<SubscriptionInfo> {
        let filters = event_filters.iter().map(|text| text.parse()).collect::<Result<Vec<EventFilter>>>()?;
        if self.alone {
            check_covered(&filters, &self.sources)?;
        }
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

    fn system(&self) -> Option<System> {
        self.control.system()
    }
}
