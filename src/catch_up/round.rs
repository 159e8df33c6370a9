//! One round over the extensions or accounts of a source: a position for each, keyed by its path.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ask::{read_position, write_position};
use super::proof::open_for;
use super::{Found, SyncPage, SyncRequest, SyncToken, time};
use crate::clock::Clock;
use crate::delivery::{Changes, OpenReason};
use crate::error::Result;
use crate::event::EventFilter;

/// The request for one extension or account.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) path: &'a str,
    pub(super) filters: &'a [&'a EventFilter],
    /// Since when events may be missing, by this machine's clock.
    pub(super) since: Option<u64>,
    /// When the position was made: also known of a position of another kind or version.
    pub(super) made: Option<u64>,
}

/// The result of one step.
pub(super) struct Step<P> {
    /// With the times by which they are ordered.
    pub(super) found: Vec<(Option<u64>, Found)>,
    pub(super) position: P,
    /// The changes that it does not prove, and why.
    pub(super) open: Vec<(Changes, OpenReason)>,
}

/// A source with one position for each extension or account.
#[async_trait]
pub(super) trait Keyed: Sync {
    type Position: Serialize + DeserializeOwned + Send + Sync;

    /// The path of what has the events of `filter`; `None` if the source does not cover it.
    fn path(&self, filter: &EventFilter) -> Option<Result<String>>;

    /// Whether a list is read in part.
    fn is_partly_read(position: &Self::Position) -> bool;

    /// A position from now on.
    async fn first(&self, ask: Ask<'_>) -> Result<Self::Position>;

    async fn step(&self, ask: Ask<'_>, held: Option<Self::Position>) -> Result<Step<Self::Position>>;
}

/// The filters by the path of their extension or account.
pub(super) fn by_path(
    filters: &[EventFilter],
    path: impl Fn(&EventFilter) -> Option<Result<String>>,
) -> Result<BTreeMap<String, Vec<&EventFilter>>> {
    let mut keys = BTreeMap::<String, Vec<&EventFilter>>::new();
    for filter in filters {
        if let Some(path) = path(filter) {
            keys.entry(path?).or_default().push(filter);
        }
    }
    Ok(keys)
}

/// The first position of each.
pub(super) async fn begin<S: Keyed>(source: &S, filters: &[EventFilter], clock: &Clock) -> Result<SyncToken> {
    let now = clock.wall();
    let mut positions = BTreeMap::<String, S::Position>::new();
    for (path, filters) in &by_path(filters, |filter| source.path(filter))? {
        let ask = Ask { path, filters, since: None, made: None };
        positions.insert(path.clone(), source.first(ask).await?);
    }
    write_position(&positions, now)
}

/// One step of each, or of the one whose list is read in part: that goes first. Every round ends with a step of all, so
/// that the last page reaches up to its own time.
pub(super) async fn sync<S: Keyed>(source: &S, request: SyncRequest<'_>, clock: &Clock) -> Result<SyncPage> {
    let now = clock.wall();
    let keys = by_path(request.filters, |filter| source.path(filter))?;
    let mut positions: BTreeMap<String, S::Position> = read_position(request.from).unwrap_or_default();
    positions.retain(|path, _| keys.contains_key(path));
    let partly_read = positions.iter().find(|(_, held)| S::is_partly_read(held)).map(|(path, _)| path.clone());
    let since = request.since.map(time::millis);
    let made = request.from.map(|token| time::millis(token.made_at()));
    let (mut all, mut left) = (Vec::new(), Vec::new());
    for (path, filters) in &keys {
        if partly_read.as_ref().is_some_and(|first| first != path) {
            continue;
        }
        let step = source.step(Ask { path, filters, since, made }, positions.remove(path)).await?;
        all.extend(step.found);
        left.extend(open_for(filters, &step.open));
        positions.insert(path.clone(), step.position);
    }
    // A record without a time reports a deletion: it comes last.
    all.sort_by_key(|(at, _)| (at.is_none(), *at));
    let more = partly_read.is_some() || positions.values().any(S::is_partly_read);
    let found = all.into_iter().map(|(_, found)| found).collect();
    Ok(SyncPage::new(found, write_position(&positions, now)?).with_more(more).with_open(left))
}
