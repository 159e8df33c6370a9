//! What an event is about, however it came to be known.

use super::message::{Message, MessageStore};
use super::notification::{DedupKey, Notification};
use super::team::PostEventType;
use super::telephony::{Party, PartyStatusCode, TelephonySession};
use super::{Event, EventKind};
use crate::ids::ExtensionId;
use crate::timestamp::Timestamp;

/// Apart from the keys over `uuid` (1) and over the whole text (0).
const TAG: u8 = 2;

/// How the extension of an event stands in its keys. The service may leave `~` for the
/// login's own extension in a URI (ringcentral-rest-and-events §5.1), and until something
/// names the owner of the subscription nothing shows which one that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// The own one by its id, where it is known.
    Named,
    /// The own one as `~`: as its events are known before the owner is.
    Tilde,
}

impl Notification {
    /// What this event is about, as keys that are the same for the pushed event and
    /// for what a later query finds of it ([`Origin::CatchUp`](super::Origin)), which
    /// has no `uuid`. An event is known when all of its keys are; one without keys
    /// can only be compared with [`dedup_key`](Self::dedup_key).
    ///
    /// | Event | A key for |
    /// | --- | --- |
    /// | instant message | the message in its extension |
    /// | fax, voicemail | the message in its extension, at its last change |
    /// | message store | each new message; each change of a message, where it is found |
    /// | post | that it was added; any other change at its time |
    /// | chat | what happened to it, at its last change |
    /// | missed call | the session in its extension |
    /// | telephony session | each party that is gone |
    /// | high-volume message | the message in its status |
    /// | any other | none |
    ///
    /// What an event reports besides, and no query could find in that form, has a key that
    /// no other event has: updates that are pushed without ids, new messages without ids,
    /// parties of a call that are there. So such an event is never known by a part of it.
    ///
    /// Ids count as text, whether they were text or numbers; times as instants,
    /// however they were written. The extension is the one in the body or the event URI;
    /// `~` is that of `ownerId`.
    #[must_use]
    pub fn subject_keys(&self) -> Vec<DedupKey> {
        self.subject_keys_by(Spelling::Named)
    }

    /// As [`subject_keys`](Self::subject_keys), by another spelling of the own extension.
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
                // A post is added once, however it looks by the time it is found.
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
                // One call of a ring group is missed by each of its extensions (found 4.1).
                one(session, &[extension(it.extension_id.as_ref())])
            }
            Event::AccountTelephonySessions(it) | Event::ExtensionTelephonySessions(it) => self.session_keys(it),
            Event::A2pMessage(it) => {
                let status = it.message_status.as_ref().map_or("", |status| status.as_str());
                one(it.id.as_ref().map(|id| id.as_str()), &[status])
            }
            _ => Vec::new(),
        }
    }

    fn subject(&self, kind: EventKind, parts: &[&str]) -> DedupKey {
        DedupKey::over(TAG, &[&[kind.as_str()], parts].concat())
    }

    /// A key for what only this event reports.
    fn rest_key(&self) -> DedupKey {
        self.subject(self.kind(), &["rest", self.uuid().unwrap_or_default(), self.raw().get()])
    }

    /// A hint may count both new messages and updates, and name the new ones only (found
    /// 4.2).
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

    /// Only the end of a party can be found later, so a party that is there makes the event
    /// one of its own (found 4.3).
    fn session_keys(&self, it: &TelephonySession) -> Vec<DedupKey> {
        let Some(session) = session_id(it) else { return Vec::new() };
        let gone = |party: &Party| {
            let id = party.id.as_ref().map_or("", |id| id.as_str());
            // Without an id, the extension is what tells two parties apart.
            let extension = party.extension_id.as_ref().filter(|_| id.is_empty()).map_or("", ExtensionId::as_str);
            // The account's filter may be told under the extension's URI.
            self.subject(EventKind::ExtensionTelephonySessions, &[session, id, extension])
        };
        let mut keys: Vec<DedupKey> = it.parties.iter().filter(|party| is_gone(party)).map(gone).collect();
        if !keys.is_empty() && keys.len() < it.parties.len() {
            keys.push(self.rest_key());
        }
        keys
    }

    /// Of something that changes: what it is, and its last change, in nanoseconds
    /// since 1970. A later look at it tells of every change before.
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

/// Its last change, else its creation.
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

/// A time as its instant; text that is none as it is.
fn moment(stamp: Option<&Timestamp>) -> String {
    let Some(stamp) = stamp else { return String::new() };
    stamp.instant().map_or_else(|| stamp.as_str().to_owned(), |at| at.unix_timestamp_nanos().to_string())
}
