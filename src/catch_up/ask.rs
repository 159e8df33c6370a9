//! Calls that several sources make in the same way.

use http::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{SyncToken, time};
use crate::clock::Clock;
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::rest::Client;
use crate::secret::Secret;
use crate::timestamp::Timestamp;

/// What the service itself goes back before a sync token (documented: 5 s); other
/// queries by time do the same here.
pub(super) const OVERLAP: u64 = 5_000;

/// An answer, and by how much the service's clock was ahead of this machine's.
pub(super) struct Answered<T> {
    pub(super) body: T,
    /// When it was answered, by the service's clock.
    pub(super) at: u64,
    pub(super) skew: i64,
}

/// One `GET`.
pub(super) async fn get<T: DeserializeOwned>(
    client: &Client,
    clock: &Clock,
    path: &str,
    query: &[(&str, String)],
) -> Result<Answered<T>> {
    let request = client.request(Method::GET, path);
    let response = query.iter().fold(request, |request, (name, value)| request.query(name, value)).send().await?;
    let ours = time::millis(clock.wall());
    let at = response.answered_at().map_or(ours, time::millis);
    // `Date` has whole seconds: what is within one is no difference.
    let skew = time::skew(at, ours);
    let skew = if skew.abs() <= 1_000 { 0 } else { skew };
    Ok(Answered { body: response.json()?, at: time::shift(ours, skew), skew })
}

/// `syncInfo` of a sync.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SyncInfo {
    pub(super) sync_token: Secret,
    #[serde(default)]
    pub(super) sync_time: Option<Timestamp>,
    #[serde(default)]
    pub(super) older_records_exist: bool,
}

impl SyncInfo {
    /// The service's time at the answer, and by how much it was ahead of ours.
    pub(super) fn clocks(&self, clock: &Clock) -> (u64, i64) {
        let ours = time::millis(clock.wall());
        let theirs = self.sync_time.as_ref().and_then(time::of).unwrap_or(ours);
        (theirs, time::skew(theirs, ours))
    }
}

/// Whether the service does not take a position, for whatever reason.
pub(super) fn is_stale(error: &Error) -> bool {
    error.disposition() == Disposition::Resync || error.kind() == ErrorKind::Rejected
}

/// A position of another kind or version is none.
pub(super) fn read_position<T: DeserializeOwned>(token: Option<&SyncToken>) -> Option<T> {
    serde_json::from_str(token?.text().expose()).ok()
}

pub(super) fn write_position<T: Serialize>(position: &T, made_at: std::time::SystemTime) -> Result<SyncToken> {
    let text = serde_json::to_string(position);
    let text = text.map_err(|error| Error::new(ErrorKind::Internal, "a position cannot be written").with_source(error));
    Ok(SyncToken::new(text?, made_at))
}
