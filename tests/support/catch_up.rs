//! A logged-in client of the sandbox, and the results of its sources.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use ringcentral_events::catch_up::{CatchUp, SyncPage, SyncRequest, SyncToken};
use ringcentral_events::event::DedupKey;
use ringcentral_events::{Event, EventFilter, Notification, Origin};
use ringcentral_sandbox::{Sandbox, SandboxBuilder};

pub(crate) use super::login::*;

/// Longer than the service's overlap.
pub(crate) const LATER: Duration = Duration::from_secs(30);

/// Limits off, and not announced.
pub(crate) fn free() -> SandboxBuilder {
    Sandbox::builder().behavior(|behavior| {
        behavior.rate_limits.enforce = false;
        behavior.rate_limits.headers = false;
    })
}

/// This machine's clock, which sources use.
#[allow(clippy::disallowed_methods, reason = "what the subscription does through its own clock")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// A source, its position, and the deliveries so far.
pub(crate) struct Follower<S> {
    pub(crate) source: S,
    pub(crate) filters: Vec<EventFilter>,
    pub(crate) position: SyncToken,
    pub(crate) known: HashSet<DedupKey>,
    /// Whether all pages of the last round were complete.
    pub(crate) complete: bool,
    pub(crate) pages: usize,
}

impl<S: CatchUp> Follower<S> {
    pub(crate) async fn begin(source: S, filters: impl Into<Vec<EventFilter>>) -> Self {
        let filters = filters.into();
        let position = source.begin(&filters).await.unwrap();
        Self { source, filters, position, known: HashSet::new(), complete: true, pages: 0 }
    }

    /// Reads all pages; each notification once, like a subscription.
    pub(crate) async fn sync(&mut self, since: Option<SystemTime>) -> Vec<Notification> {
        let (mut delivered, mut more) = (Vec::new(), true);
        (self.complete, self.pages) = (true, 0);
        while more {
            let page = self.page(since).await;
            self.complete &= page.complete;
            self.pages += 1;
            assert!(self.pages < 1000, "a round ends");
            more = page.more;
            self.position = stored(&page.next);
            delivered.extend(page.found.into_iter().map(read));
        }
        delivered.retain(|it| self.is_news(it));
        delivered
    }

    pub(crate) async fn page(&self, since: Option<SystemTime>) -> SyncPage {
        self.source.sync(SyncRequest::new(Some(&self.position), &self.filters, since)).await.unwrap()
    }

    /// Whether this was not delivered yet; marks it as delivered.
    pub(crate) fn is_news(&mut self, it: &Notification) -> bool {
        let keys = it.subject_keys();
        let keys = if keys.is_empty() { vec![it.dedup_key()] } else { keys };
        keys.into_iter().map(|key| self.known.insert(key)).fold(false, |news, new| news | new)
    }
}

/// A position after a round trip through storage.
fn stored(token: &SyncToken) -> SyncToken {
    serde_json::from_str(&serde_json::to_string(token).unwrap()).unwrap()
}

pub(crate) fn read(found: ringcentral_events::catch_up::Found) -> Notification {
    let origin = if found.snapshot { Origin::Snapshot } else { Origin::CatchUp };
    Notification::parse(found.notification, origin, now()).unwrap()
}

/// A notification's content on one line.
pub(crate) fn line(it: &Notification) -> String {
    let text = |text: Option<&str>| text.unwrap_or("-").to_owned();
    match it.event() {
        Event::InstantMessage(sms) => format!("sms {}", text(sms.text())),
        Event::FaxMessage(fax) => format!("fax {}", text(fax.read_status.as_ref().map(|it| it.as_str()))),
        Event::VoicemailMessage(it) => format!("voicemail {}", text(it.read_status.as_ref().map(|it| it.as_str()))),
        Event::MessageStore(it) => {
            let record = it.records.first().and_then(|it| it.availability.as_ref());
            let kind = it.changes.first().and_then(|it| it.message_type.as_ref());
            let ids = it.new_message_ids().count();
            format!(
                "{} new {} updated {} ids {ids} {}",
                text(kind.map(|kind| kind.as_str())),
                it.new_count(),
                it.updated_count(),
                text(record.map(|it| it.as_str())),
            )
        }
        Event::MissedCall(call) => format!("missed {}", text(call.from.as_deref())),
        Event::ExtensionTelephonySessions(call) | Event::AccountTelephonySessions(call) => {
            let party = &call.parties[0];
            format!("call {} missed {}", text(party.state().map(|it| it.as_str())), party.is_missed())
        }
        Event::TeamMessagingPost(post) => {
            format!("{} {}", text(post.event_type.as_ref().map(|it| it.as_str())), text(post.text.as_deref()))
        }
        Event::A2pMessage(it) => {
            format!("{} {}", text(it.text.as_deref()), text(it.message_status.as_ref().map(|it| it.as_str())))
        }
        Event::ExtensionPresence(it) | Event::DetailedExtensionPresence(it) | Event::AccountPresence(it) => format!(
            "{} {} calls {}",
            text(it.extension_id.as_ref().map(|it| it.as_str())),
            text(it.presence_status.as_ref().map(|it| it.as_str())),
            it.active_calls.len()
        ),
        Event::ExtensionList(it) => {
            let change = &it.extensions[0];
            let what = change.event_type.as_ref().map(|it| it.as_str());
            format!("{} {}", text(what), text(change.extension_id.as_ref().map(|it| it.as_str())))
        }
        Event::RingSenseInsights(it) => {
            let said: Vec<&str> = it.insight("Summary").filter_map(|it| it.content()).collect();
            format!("insights {}", said.join(", "))
        }
        other => format!("{}", other.kind()),
    }
}

pub(crate) fn lines(all: &[Notification]) -> Vec<String> {
    all.iter().map(line).collect()
}
