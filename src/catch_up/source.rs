//! The trait of catch-up sources, with its requests and answers.

use super::Open;
use crate::delivery::{Changes, OpenReason};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{DedupKey, EventFilter, GapClosure};
use crate::secret::Secret;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A source of missed events.
///
/// Its events are delivered with [`Origin::CatchUp`](crate::Origin) (or `Snapshot`, if [`Found::snapshot`] says so). It
/// may find pushed events as well: the subscription recognizes duplicates by the subject of the event, among the last
/// 65 536 events of at most 100 minutes. A source is also queried whenever some thousand events were pushed, so that its
/// position stays within these; where more than that arrive before it answers, it may repeat the oldest.
///
/// After a gap at the beginning of a subscription it may find messages from a few seconds before: the service returns
/// some of the time before a position, and no clock excludes exactly these.
///
/// Each call is one request or a few, with its own deadline, inside the rate budget of its client; the subscription
/// decides when to call again. Cancel safe: a dropped call has no effect.
#[async_trait]
pub trait CatchUp: Send + Sync + fmt::Debug + 'static {
    /// A word for logs, status and resume tokens; unique within a subscription.
    fn name(&self) -> &'static str;

    /// How well this source fills a gap in the events of `filter`.
    fn covers(&self, filter: &EventFilter) -> GapClosure;

    /// Whether its events for a message-store filter contain the message, so that they can replace a notification that
    /// only counts. Default: no.
    fn covers_messages(&self) -> bool {
        false
    }

    /// How long after an event the source is certain to find it. Until this time has passed since the end of a gap, no
    /// answer proves the gap complete ([`OpenReason::NotSettled`]); the source is queried again. Default: at once.
    fn settles_after(&self) -> Duration {
        Duration::ZERO
    }

    /// How far before the time of a position a sync from it reaches, because the service itself does. A gap that begins
    /// earlier needs an older position. Default: not at all.
    fn overlap(&self) -> Duration {
        Duration::ZERO
    }

    /// A position from which [`sync`](Self::sync) finds all later events.
    ///
    /// # Errors
    /// The service's answer.
    async fn begin(&self, filters: &[EventFilter]) -> Result<SyncToken>;

    /// The events since `request.from`, page by page.
    ///
    /// # Errors
    /// The service's answer. A position that the service no longer accepts is not an error: the source finds what it
    /// can from `request.since` on, and the page is not [`complete`](SyncPage::complete).
    async fn sync(&self, request: SyncRequest<'_>) -> Result<SyncPage>;
}

#[async_trait]
impl<T: CatchUp + ?Sized> CatchUp for Arc<T> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn covers(&self, filter: &EventFilter) -> GapClosure {
        (**self).covers(filter)
    }

    fn covers_messages(&self) -> bool {
        (**self).covers_messages()
    }

    fn settles_after(&self) -> Duration {
        (**self).settles_after()
    }

    fn overlap(&self) -> Duration {
        (**self).overlap()
    }

    async fn begin(&self, filters: &[EventFilter]) -> Result<SyncToken> {
        (**self).begin(filters).await
    }

    async fn sync(&self, request: SyncRequest<'_>) -> Result<SyncPage> {
        (**self).sync(request).await
    }
}

/// A request to a source.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SyncRequest<'a> {
    /// The position to continue from; `None` if no position is old enough for `since`: then the events are requested by
    /// their time.
    pub from: Option<&'a SyncToken>,
    /// The filters of the subscription that this source covers.
    pub filters: &'a [EventFilter],
    /// Since when events may be missing, by this machine's clock. `None` if none is known to be: a check, in which only
    /// events that are certainly new count.
    pub since: Option<SystemTime>,
}

impl<'a> SyncRequest<'a> {
    /// Requests the events since `from`.
    #[must_use]
    pub fn new(from: Option<&'a SyncToken>, filters: &'a [EventFilter], since: Option<SystemTime>) -> Self {
        Self { from, filters, since }
    }
}

/// A source's answer.
#[derive(Debug)]
#[non_exhaustive]
pub struct SyncPage {
    /// The events, oldest first.
    pub found: Vec<Found>,
    /// The position to continue from.
    pub next: SyncToken,
    /// Whether the next page can be requested at once.
    pub more: bool,
    /// Whether `found` has everything from the requested position up to `next`, as far as the source can know: see
    /// [`CatchUp::covers`]. `false` as soon as something is [`open`](Self::open).
    pub complete: bool,
    /// The changes that `found` may lack, and why.
    pub open: Vec<Open>,
}

impl SyncPage {
    /// A last page that is complete.
    #[must_use]
    pub fn new(found: Vec<Found>, next: SyncToken) -> Self {
        Self { found, next, more: false, complete: true, open: Vec::new() }
    }

    /// Sets whether the next page can be requested at once.
    #[must_use]
    pub fn with_more(mut self, more: bool) -> Self {
        self.more = more;
        self
    }

    /// Sets whether the page is complete: if not, any change of any filter may be missing.
    #[must_use]
    pub fn with_complete(self, complete: bool) -> Self {
        let all = Open { filter: None, changes: Changes::ALL, reason: OpenReason::Unread };
        if complete { self } else { self.with_open([all]) }
    }

    /// Adds what the page is not proven to contain.
    #[must_use]
    pub fn with_open(mut self, open: impl IntoIterator<Item = Open>) -> Self {
        self.open.extend(open);
        self.complete = self.open.is_empty();
        self
    }
}

/// An event that a source found, in the form of the push.
#[derive(Clone)]
#[non_exhaustive]
pub struct Found {
    /// The notification's text: an envelope with `event`, `timestamp` (if the service names the time of the event) and
    /// `body`; without `uuid`.
    pub notification: Box<RawValue>,
    /// Whether it reports a state and not a change.
    pub snapshot: bool,
    /// The subject of the state, and the state, to see whether it changed.
    pub(crate) state: Option<(DedupKey, DedupKey)>,
}

impl Found {
    /// A change, in the form of the notification that push would have delivered.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) when the body cannot be serialized.
    pub fn change(event_uri: &str, timestamp: Option<&str>, body: &impl Serialize) -> Result<Self> {
        Ok(Self { notification: envelope(event_uri, timestamp, body)?, snapshot: false, state: None })
    }

    /// A state, in the form of the notification that push would have delivered. While it is polled and nothing is
    /// pushed in between, it is delivered only when it differs from the last state of `subject`.
    ///
    /// # Errors
    /// As [`change`](Self::change).
    pub fn state(event_uri: &str, subject: &str, timestamp: Option<&str>, body: &impl Serialize) -> Result<Self> {
        let bare = envelope(event_uri, None, body)?;
        let state = Some((DedupKey::over(4, &[event_uri, subject]), DedupKey::over(5, &[bare.get()])));
        Ok(Self { notification: envelope(event_uri, timestamp, body)?, snapshot: true, state })
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found")
            .field("bytes", &self.notification.get().len())
            .field("snapshot", &self.snapshot)
            .finish()
    }
}

fn envelope(event: &str, timestamp: Option<&str>, body: &impl Serialize) -> Result<Box<RawValue>> {
    #[derive(Serialize)]
    struct Envelope<'a, B> {
        event: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        timestamp: Option<&'a str>,
        body: &'a B,
    }
    let text = serde_json::to_string(&Envelope { event, timestamp, body }).and_then(RawValue::from_string);
    text.map_err(|error| Error::new(ErrorKind::Internal, "failed to serialize a found event").with_source(error))
}

/// A position in a source. Only the source can read its text; it contains a sync token of the service, so `Debug` does
/// not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncToken {
    #[serde(rename = "t", serialize_with = "expose")]
    text: Secret,
    /// When it was made, by this machine's clock, in seconds since 1970.
    #[serde(rename = "at")]
    made_at: u64,
}

impl SyncToken {
    /// A position made at `made_at`.
    #[must_use]
    pub fn new(text: impl Into<Secret>, made_at: SystemTime) -> Self {
        let made_at = made_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { text: text.into(), made_at }
    }

    /// The source's own text.
    #[must_use]
    pub fn text(&self) -> &Secret {
        &self.text
    }

    /// When it was made, to the second.
    #[must_use]
    pub fn made_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.made_at.min(u64::from(u32::MAX) * 4))
    }
}

/// A position must survive a restart, so it is serialized with its secret.
fn expose<S: serde::Serializer>(text: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text.expose())
}

impl fmt::Debug for SyncToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncToken").field("made_at", &self.made_at).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_found_event_reads_as_the_notification_it_stands_for() {
        let body = serde_json::json!({"id": "7", "subject": "hi"});
        let filter = EventFilter::instant_message();
        let found = Found::change(filter.as_str(), Some("2026-01-01T00:00:00Z"), &body).unwrap();
        let notification =
            crate::Notification::parse(found.notification, crate::Origin::CatchUp, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(notification.kind(), crate::EventKind::InstantMessage);
        assert_eq!(notification.uuid(), None);
    }

    #[test]
    fn a_position_survives_its_text_and_is_not_shown() {
        let token = SyncToken::new("secret-token", SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let text = serde_json::to_string(&token).unwrap();
        assert_eq!(serde_json::from_str::<SyncToken>(&text).unwrap(), token);
        assert!(!format!("{token:?}").contains("secret-token"));
    }
}
