//! The subject of an event, independent of how it became known.

use super::kind::EventKind;
use super::message::{Message, MessageStore};
use super::notification::{DedupKey, Notification, Spelling};
use super::team::PostEventType;
use super::telephony::{Party, PartyStatusCode, TelephonySession};
use super::typed::Event;
use crate::ids::ExtensionId;
use crate::timestamp::Timestamp;

/// Distinguishes these keys from those over `uuid` (1) and over the whole text (0).
const TAG: u8 = 2;

impl Notification {
    /// The subject of this event, as keys shared by the pushed event and the one found by a later
    /// query ([`Origin::CatchUp`](super::Origin)), which has no `uuid`. An event is known if all of
    /// its keys are; one without keys can only be compared by [`dedup_key`](Self::dedup_key).
    ///
    /// | Event | Keys |
    /// | --- | --- |
    /// | instant message | the message in its extension |
    /// | fax, voicemail | the message in its extension, at its last change |
    /// | message store | each new message; each change of a message, if it is named |
    /// | post | its addition; any other change at its time |
    /// | chat | the kind of change, at its last change |
    /// | missed call | the session in its extension |
    /// | telephony session | each party that has left |
    /// | high-volume message | the message with its status |
    /// | insights | the recording, at the last change of its insights |
    /// | other | none |
    ///
    /// Content that no query could find in that form gets a key unique to the event: updates pushed
    /// without ids, new messages without ids, parties still in the call. So such an event is never
    /// recognized by only a part of it.
    ///
    /// Ids are compared as text, times as instants. The extension is the one in the body or the
    /// event URI; `~` is that of `ownerId`.
    #[must_use]
    pub fn subject_keys(&self) -> Vec<DedupKey> {
        self.subject_keys_by(Spelling::Named)
    }

    /// Like [`subject_keys`](Self::subject_keys), with the given spelling of the login's extension.
    pub(crate) fn subject_keys_by(&self, spelling: Spelling) -> Vec<DedupKey> {
        let extension = |in_body| self.extension_by(spelling, in_body);
        let key = |parts: &[&str]| self.subject(self.kind(), parts);
        let one = |id: Option<&str>, rest: &[&str]| {
            let parts = |id| [&[id], rest].concat();
            id.map(|id| key(&parts(id))).into_iter().collect::<Vec<_>>()
        };
        match self.event() {
            Event::InstantMessage(it) => one(message_id(it), &[extension(None)]),
            Event::FaxMessage(it) | Event::VoicemailMessage(it) => {
                one(message_id(it), &[extension(None), &last_change(it)])
            }
            Event::MessageStore(it) => self.store_keys(it, extension(it.extension_id.as_ref())),
            Event::TeamMessagingPost(it) => {
                let what = it.event_type.as_ref().map_or("", |what| what.as_str());
                // A post is added once, regardless of later edits.
                let at = it.last_modified_time.as_ref().filter(|_| it.event_type != Some(PostEventType::PostAdded));
                one(it.id.as_ref().map(|id| id.as_str()), &[what, &moment(at)])
            }
            Event::TeamMessagingChat(it) => {
                let what = it.event_type.as_ref().map_or("", |what| what.as_str());
                one(it.id.as_ref().map(|id| id.as_str()), &[what, &moment(it.last_modified_time.as_ref())])
            }
            Event::MissedCall(it) => {
                let session = it.session_id.as_ref().map(|id| id.as_str());
                let session = session.or(it.telephony_session_id.as_ref().map(|id| id.as_str()));
                // Each extension of a ring group misses the same call (found 4.1).
                one(session, &[extension(it.extension_id.as_ref())])
            }
            Event::AccountTelephonySessions(it) | Event::ExtensionTelephonySessions(it) => self.session_keys(it),
            Event::A2pMessage(it) => {
                let status = it.message_status.as_ref().map_or("", |status| status.as_str());
                one(it.id.as_ref().map(|id| id.as_str()), &[status])
            }
            Event::RingSenseInsights(it) => {
                let domain = it.domain.as_ref().map_or("", |domain| domain.as_str());
                let record = it.source_record_id.as_deref().unwrap_or_default();
                let at = it.last_modified_time.as_ref().or(it.creation_time.as_ref());
                // Without a time, two events of one call cannot be distinguished.
                one(it.source_session_id.as_deref().filter(|_| at.is_some()), &[domain, record, &moment(at)])
            }
            _ => Vec::new(),
        }
    }

    fn subject(&self, kind: EventKind, parts: &[&str]) -> DedupKey {
        DedupKey::over(TAG, &[&[kind.as_str()], parts].concat())
    }

    /// A key for content that only this event has.
    fn rest_key(&self) -> DedupKey {
        self.subject(self.kind(), &["rest", self.uuid().unwrap_or_default(), self.raw().get()])
    }

    /// A hint may count both new messages and updates, but name only the new ones (found 4.2).
    fn store_keys(&self, hint: &MessageStore, extension: &str) -> Vec<DedupKey> {
        let of = |parts: &[&str]| self.subject(EventKind::MessageStore, &[parts, &[extension]].concat());
        let mut keys: Vec<DedupKey> = hint.new_message_ids().map(|id| of(&[id.as_str()])).collect();
        let unnamed_new = hint.new_count() > count(keys.len());
        let (mut updates, mut named) = (hint.updated_count(), 0);
        if updates > 0 {
            let changed = hint.records.iter().filter_map(|record| {
                let availability = record.availability.as_ref().map_or("", |it| it.as_str());
                Some(of(&[message_id(record)?, &last_change(record), availability, "changed"]))
            });
            keys.extend(changed.inspect(|_| named += 1));
            updates = updates.saturating_sub(named);
        }
        if unnamed_new || updates > 0 {
            keys.push(self.rest_key());
        }
        keys
    }

    /// A query can only find that a party has left, so an event with a remaining party gets a
    /// unique key (found 4.3).
    fn session_keys(&self, it: &TelephonySession) -> Vec<DedupKey> {
        let Some(session) = session_id(it) else { return Vec::new() };
        let gone = |party: &Party| {
            let id = party.id.as_ref().map_or("", |id| id.as_str());
            // Without an id, the extension distinguishes the parties.
            let extension = party.extension_id.as_ref().filter(|_| id.is_empty()).map_or("", ExtensionId::as_str);
            // Events of the account's filter may arrive under the extension's URI.
            self.subject(EventKind::ExtensionTelephonySessions, &[session, id, extension])
        };
        let mut keys: Vec<DedupKey> = it.parties.iter().filter(|party| is_gone(party)).map(gone).collect();
        if !keys.is_empty() && keys.len() < it.parties.len() {
            keys.push(self.rest_key());
        }
        keys
    }

    /// For objects that change: the identity and the last change, in nanoseconds since 1970. A
    /// later version implies all earlier changes.
    pub(crate) fn version(&self, spelling: Spelling) -> Option<(DedupKey, i128)> {
        let (id, extension, at) = match self.event() {
            Event::FaxMessage(it) | Event::VoicemailMessage(it) => {
                (message_id(it)?, self.extension_by(spelling, None), it.last_modified_time.as_ref()?)
            }
            Event::TeamMessagingPost(it) if it.event_type == Some(PostEventType::PostChanged) => {
                (it.id.as_ref()?.as_str(), "", it.last_modified_time.as_ref()?)
            }
            _ => return None,
        };
        let at = at.system_time()?.duration_since(std::time::SystemTime::UNIX_EPOCH).ok()?;
        Some((
            DedupKey::over(TAG, &["version", self.kind().as_str(), id, extension]),
            i128::try_from(at.as_nanos()).ok()?,
        ))
    }
}

fn message_id(message: &Message) -> Option<&str> {
    message.id.as_ref().map(|id| id.as_str())
}

/// The last change, else the creation.
fn last_change(message: &Message) -> String {
    moment(message.last_modified_time.as_ref().or(message.creation_time.as_ref()))
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

fn session_id(session: &TelephonySession) -> Option<&str> {
    let id = session.telephony_session_id.as_ref().map(|id| id.as_str());
    id.or(session.session_id.as_ref().map(|id| id.as_str()))
}

fn is_gone(party: &Party) -> bool {
    matches!(party.state(), Some(PartyStatusCode::Disconnected | PartyStatusCode::Gone))
}

/// A time as its instant; an invalid one as its text.
fn moment(stamp: Option<&Timestamp>) -> String {
    let Some(stamp) = stamp else { return String::new() };
    stamp.instant().map_or_else(|| stamp.as_str().to_owned(), |at| at.unix_timestamp_nanos().to_string())
}
