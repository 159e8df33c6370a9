//! What an event is about, however it came to be known.

use super::message::Message;
use super::notification::{DedupKey, Notification};
use super::team::PostEventType;
use super::telephony::{Party, PartyStatusCode, TelephonySession};
use super::{Event, EventKind};
use crate::timestamp::Timestamp;

/// Apart from the keys over `uuid` (1) and over the whole text (0).
const TAG: u8 = 2;

impl Notification {
    /// What this event is about, as keys that are the same for the pushed event and
    /// for what a later query finds of it ([`Origin::CatchUp`](super::Origin)), which
    /// has no `uuid`. An event is known when all of its keys are; one without keys
    /// can only be compared with [`dedup_key`](Self::dedup_key).
    ///
    /// | Event | A key for |
    /// | --- | --- |
    /// | instant message | the message |
    /// | fax, voicemail | the message at its last change |
    /// | message store | each new message; none for updates, which are pushed without ids |
    /// | post | that it was added; any other change at its time |
    /// | chat | what happened to it, at its last change |
    /// | missed call | the session |
    /// | telephony session | each party that is gone; none while all are there |
    /// | high-volume message | the message in its status |
    /// | any other | none |
    ///
    /// Ids count as text, whether they were text or numbers; times as instants,
    /// however they were written.
    #[must_use]
    pub fn subject_keys(&self) -> Vec<DedupKey> {
        let key = |parts: &[&str]| {
            let kind = [self.kind().as_str()];
            DedupKey::over(TAG, &[&kind, parts].concat())
        };
        let one = |id: Option<&str>, rest: &[&str]| {
            let parts = |id| [&[id], rest].concat();
            id.map(|id| key(&parts(id))).into_iter().collect::<Vec<_>>()
        };
        match self.event() {
            Event::InstantMessage(it) => one(message_id(it), &[]),
            Event::FaxMessage(it) | Event::VoicemailMessage(it) => {
                one(message_id(it), &[&moment(it.last_modified_time.as_ref().or(it.creation_time.as_ref()))])
            }
            Event::MessageStore(it) => it.new_message_ids().map(|id| key(&[id.as_str()])).collect(),
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
                one(session.or(it.telephony_session_id.as_ref().map(|id| id.as_str())), &[])
            }
            Event::AccountTelephonySessions(it) | Event::ExtensionTelephonySessions(it) => {
                // The account's filter may be told under the extension's URI.
                let over = |parts: &[&str]| {
                    DedupKey::over(TAG, &[&[EventKind::ExtensionTelephonySessions.as_str()], parts].concat())
                };
                let party = |party: &Party| party.id.as_ref().map_or_else(String::new, ToString::to_string);
                let session = session_id(it);
                let gone = it.parties.iter().filter(|party| is_gone(party));
                gone.filter_map(|gone| Some(over(&[session?, &party(gone)]))).collect()
            }
            Event::A2pMessage(it) => {
                let status = it.message_status.as_ref().map_or("", |status| status.as_str());
                one(it.id.as_ref().map(|id| id.as_str()), &[status])
            }
            _ => Vec::new(),
        }
    }

    /// Of something that changes: what it is, and its last change, in nanoseconds
    /// since 1970. A later look at it tells of every change before.
    pub(crate) fn version(&self) -> Option<(DedupKey, i128)> {
        let (id, at) = match self.event() {
            Event::FaxMessage(it) | Event::VoicemailMessage(it) => (message_id(it)?, it.last_modified_time.as_ref()?),
            Event::TeamMessagingPost(it) if it.event_type == Some(PostEventType::PostChanged) => {
                (it.id.as_ref()?.as_str(), it.last_modified_time.as_ref()?)
            }
            _ => return None,
        };
        let at = at.system_time()?.duration_since(std::time::SystemTime::UNIX_EPOCH).ok()?;
        Some((DedupKey::over(TAG, &["version", self.kind().as_str(), id]), i128::try_from(at.as_nanos()).ok()?))
    }
}

fn message_id(message: &Message) -> Option<&str> {
    message.id.as_ref().map(|id| id.as_str())
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
