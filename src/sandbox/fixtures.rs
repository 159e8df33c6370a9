//! Canned events.

use serde::Deserialize;
use serde_json::{Value, json};

use super::account::messages::{Change, NewMessage};
use super::delivery::Happening;
use super::filters::EventUri;
use super::state::{Identity, State, number};

/// An event to trigger. Made by one of the functions; over HTTP by its name in
/// `fixture`, such as `{"fixture":"inbound_sms","text":"hi"}`.
///
/// Bodies have the fields that the service's samples and captures have.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "fixture", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fixture {
    /// A text message came in: an instant event, and the message-store hint.
    /// The message can be fetched from the message store.
    #[non_exhaustive]
    InboundSms {
        /// Sender. Default `+16505550100`.
        #[serde(default = "caller")]
        from: String,
        /// Text (`subject`).
        #[serde(default = "greeting")]
        text: String,
        /// Whose message it is. Default the user's.
        #[serde(default)]
        extension: Option<String>,
    },
    /// Somebody wrote into a chat.
    #[non_exhaustive]
    TeamPost {
        /// The chat (`groupId`). Default the sandbox's first chat.
        #[serde(default = "chat")]
        chat_id: String,
        /// The author. Default another user.
        #[serde(default = "colleague")]
        creator_id: String,
        /// Text.
        #[serde(default = "greeting")]
        text: String,
    },
    /// The user's presence changed; filters with `detailedTelephonyState` and
    /// `sipData` get their richer bodies.
    #[non_exhaustive]
    Presence {
        /// `presenceStatus`. Default `Busy`.
        #[serde(default = "busy")]
        presence_status: String,
        /// `telephonyStatus`. Default `CallConnected`.
        #[serde(default = "connected")]
        telephony_status: String,
    },
    /// A call changed its state.
    #[non_exhaustive]
    TelephonySession {
        /// `status.code` of its party. Default `Proceeding`.
        #[serde(default = "proceeding")]
        status: String,
        /// Caller. Default `+16505550100`.
        #[serde(default = "caller")]
        from: String,
    },
    /// A voicemail came in: its own event, and the message-store hint.
    #[non_exhaustive]
    Voicemail {
        /// Caller. Default `+16505550100`.
        #[serde(default = "caller")]
        from: String,
        /// Whose message it is. Default the user's.
        #[serde(default)]
        extension: Option<String>,
    },
    /// A fax came in: its own event, and the message-store hint.
    #[non_exhaustive]
    Fax {
        /// Sender. Default `+16505550100`.
        #[serde(default = "caller")]
        from: String,
        /// Whose message it is. Default the user's.
        #[serde(default)]
        extension: Option<String>,
    },
    /// A message of the store was read; a hint about an update.
    #[non_exhaustive]
    MessageRead {
        /// Its id.
        id: u64,
    },
    /// A message of the store was deleted; a hint about an update.
    #[non_exhaustive]
    MessageDeleted {
        /// Its id.
        id: u64,
        /// Whether for good. Default false: into the bin.
        #[serde(default)]
        purge: bool,
    },
    /// The message store changed. New messages are put into it, the newest ones
    /// are touched for updates; the hint has no ids, as older versions of it.
    #[non_exhaustive]
    MessageStore {
        /// `changes[].type`. Default `SMS`.
        #[serde(default = "sms")]
        message_type: String,
        /// `newCount`. Default 1.
        #[serde(default = "one")]
        new_count: u32,
        /// `updatedCount`. Default 0.
        #[serde(default)]
        updated_count: u32,
    },
    /// A subscription ends soon.
    #[non_exhaustive]
    SubscriptionReminder {
        /// Seconds left. Default 60.
        #[serde(default = "minute")]
        expires_in: u64,
    },
}

fn caller() -> String {
    "+16505550100".into()
}
fn greeting() -> String {
    "Hello from the sandbox".into()
}
fn chat() -> String {
    "1200000001".into()
}
fn colleague() -> String {
    "100200399".into()
}
fn busy() -> String {
    "Busy".into()
}
fn connected() -> String {
    "CallConnected".into()
}
fn proceeding() -> String {
    "Proceeding".into()
}
fn sms() -> String {
    "SMS".into()
}
fn one() -> u32 {
    1
}
fn minute() -> u64 {
    60
}

impl Fixture {
    /// A text message from `from`.
    #[must_use]
    pub fn inbound_sms(from: impl Into<String>, text: impl Into<String>) -> Self {
        Self::InboundSms { from: from.into(), text: text.into(), extension: None }
    }

    /// A post in the sandbox's first chat by another user.
    #[must_use]
    pub fn team_post(text: impl Into<String>) -> Self {
        Self::TeamPost { chat_id: chat(), creator_id: colleague(), text: text.into() }
    }

    /// A presence change: `presenceStatus` and `telephonyStatus`.
    #[must_use]
    pub fn presence(presence_status: impl Into<String>, telephony_status: impl Into<String>) -> Self {
        Self::Presence { presence_status: presence_status.into(), telephony_status: telephony_status.into() }
    }

    /// A call whose party is now in `status`.
    #[must_use]
    pub fn telephony_session(status: impl Into<String>) -> Self {
        Self::TelephonySession { status: status.into(), from: caller() }
    }

    /// A voicemail from `from`.
    #[must_use]
    pub fn voicemail(from: impl Into<String>) -> Self {
        Self::Voicemail { from: from.into(), extension: None }
    }

    /// A fax from `from`.
    #[must_use]
    pub fn fax(from: impl Into<String>) -> Self {
        Self::Fax { from: from.into(), extension: None }
    }

    /// The message `id` was read.
    #[must_use]
    pub fn message_read(id: u64) -> Self {
        Self::MessageRead { id }
    }

    /// The message `id` was put into the bin.
    #[must_use]
    pub fn message_deleted(id: u64) -> Self {
        Self::MessageDeleted { id, purge: false }
    }

    /// The message `id` was deleted for good.
    #[must_use]
    pub fn message_purged(id: u64) -> Self {
        Self::MessageDeleted { id, purge: true }
    }

    /// The same in the message store of another extension; only messages have one.
    #[must_use]
    pub fn for_extension(mut self, id: impl Into<String>) -> Self {
        if let Self::InboundSms { extension, .. } | Self::Voicemail { extension, .. } | Self::Fax { extension, .. } =
            &mut self
        {
            *extension = Some(id.into());
        }
        self
    }

    /// `new_count` new messages of `message_type`.
    #[must_use]
    pub fn message_store(message_type: impl Into<String>, new_count: u32) -> Self {
        Self::MessageStore { message_type: message_type.into(), new_count, updated_count: 0 }
    }

    /// The reminder that a subscription has `expires_in` seconds left.
    #[must_use]
    pub fn subscription_reminder(expires_in: u64) -> Self {
        Self::SubscriptionReminder { expires_in }
    }

    /// What happens by it; messages it brings are put into the store.
    pub(super) fn happen(&self, state: &mut State) -> Vec<Happening> {
        match self {
            Self::InboundSms { from, text, extension } => inbound_sms(state, from, text, extension.as_deref()),
            Self::TeamPost { chat_id, creator_id, text } => vec![post(state, chat_id, creator_id, text).1],
            Self::Presence { presence_status, telephony_status } => {
                vec![presence(state, presence_status, telephony_status)]
            }
            Self::TelephonySession { status, from } => vec![telephony(state, status, from)],
            Self::Voicemail { from, extension } => stored(state, "VoiceMail", "voicemail", from, extension.as_deref()),
            Self::Fax { from, extension } => stored(state, "Fax", "fax?direction=Inbound", from, extension.as_deref()),
            Self::MessageRead { id } => state.change_message(*id, Change::Read),
            Self::MessageDeleted { id, purge: false } => state.change_message(*id, Change::Delete),
            Self::MessageDeleted { id, purge: true } => state.change_message(*id, Change::Purge),
            Self::MessageStore { message_type, new_count, updated_count } => {
                vec![store_changed(state, message_type, *new_count, *updated_count)]
            }
            Self::SubscriptionReminder { expires_in } => {
                vec![happening(state, "/restapi/v1.0/subscription/~", &json!({ "expiresIn": expires_in }))]
            }
        }
    }
}

fn own(identity: &Identity, tail: &str) -> String {
    of(identity, &identity.extension_id, tail)
}

fn of(identity: &Identity, extension: &str, tail: &str) -> String {
    format!("/restapi/v1.0/account/{}/extension/{extension}/{tail}", identity.account_id)
}

fn happening(state: &State, uri: &str, body: &Value) -> Happening {
    let uri = EventUri::parse(uri, &state.identity.account_id, &state.identity.extension_id);
    Happening { uri, bodies: vec![body.to_string()] }
}

fn times(state: &State) -> String {
    state.write_time(state.moment().wall)
}

/// The hint that a message store changed. Ids are numbers here, as captured.
pub(super) fn hint(
    state: &State,
    extension: &str,
    kind: &str,
    new_count: u32,
    updated_count: u32,
    ids: &[u64],
) -> Happening {
    let mut change = json!({ "type": kind, "newCount": new_count, "updatedCount": updated_count });
    if !ids.is_empty() {
        change["newMessageIds"] = json!(ids);
    }
    let body = json!({
        "extensionId": extension.parse::<u64>().map_or(Value::Null, Value::from),
        "lastUpdated": times(state),
        "changes": [change],
    });
    happening(state, &format!("{}?type={kind}", of(&state.identity, extension, "message-store")), &body)
}

fn inbound(state: &mut State, extension: Option<&str>, kind: &str, from: &str, subject: &str) -> (String, u64, Value) {
    let to = [state.identity.phone_number.clone()];
    let extension = extension.unwrap_or(&state.identity.extension_id).to_owned();
    let new = NewMessage { extension: &extension, kind, direction: "Inbound", from, to: &to, subject };
    let (id, mut body) = state.store_message(&new);
    body["id"] = json!(id.to_string());
    (extension, id, body)
}

fn inbound_sms(state: &mut State, from: &str, text: &str, extension: Option<&str>) -> Vec<Happening> {
    let (extension, id, body) = inbound(state, extension, "SMS", from, text);
    let instant = happening(state, &of(&state.identity, &extension, "message-store/instant?type=SMS"), &body);
    vec![instant, hint(state, &extension, "SMS", 1, 0, &[id])]
}

fn stored(state: &mut State, kind: &str, tail: &str, from: &str, extension: Option<&str>) -> Vec<Happening> {
    let (extension, id, body) = inbound(state, extension, kind, from, from);
    let event = happening(state, &of(&state.identity, &extension, tail), &body);
    vec![event, hint(state, &extension, kind, 1, 0, &[id])]
}

/// Counts of a hint that go into the store; a caller may name any number.
const MOST: u32 = 10_000;

fn store_changed(state: &mut State, kind: &str, new_count: u32, updated_count: u32) -> Happening {
    state.touch_messages(kind, usize::try_from(updated_count).unwrap_or(usize::MAX));
    for _ in 0..new_count.min(MOST) {
        inbound(state, None, kind, &caller(), &greeting());
    }
    let extension = state.identity.extension_id.clone();
    hint(state, &extension, kind, new_count, updated_count, &[])
}

/// A post and the event it raises.
pub(super) fn post(state: &mut State, chat_id: &str, creator_id: &str, text: &str) -> (Value, Happening) {
    let now = times(state);
    let record = json!({
        "id": number(&mut state.rng, 14),
        "groupId": chat_id,
        "type": "TextMessage",
        "text": text,
        "creatorId": creator_id,
        "addedPersonIds": null,
        "creationTime": now,
        "lastModifiedTime": now,
        "attachments": null,
        "activity": null,
        "title": null,
        "iconUri": null,
        "iconEmoji": null,
        "mentions": null,
    });
    state.messages.store_post(record.clone());
    let mut body = record.clone();
    body["eventType"] = json!("PostAdded");
    let event = happening(state, "/team-messaging/v1/posts", &body);
    (record, event)
}

fn presence(state: &mut State, presence_status: &str, telephony_status: &str) -> Happening {
    let sequence = state.messages.next_sequence();
    let identity = state.identity.clone();
    state.messages.presence = (presence_status.to_owned(), telephony_status.to_owned());
    let simple = json!({
        "extensionId": identity.extension_id,
        "telephonyStatus": telephony_status,
        "sequence": sequence,
        "presenceStatus": presence_status,
        "userStatus": "Available",
        "meetingStatus": "Disconnected",
        "dndStatus": "TakeAllCalls",
        "allowSeeMyPresence": true,
        "ringOnMonitoredCall": false,
        "pickUpCallsOnHold": false,
    });
    let mut detailed = simple.clone();
    let mut with_sip = simple.clone();
    if telephony_status != "NoCall" {
        let session = number(&mut state.rng, 12);
        let mut call = json!({
            "id": number(&mut state.rng, 12),
            "direction": "Inbound",
            "queueCall": false,
            "from": caller(),
            "to": identity.phone_number,
            "startTime": times(state),
            "telephonyStatus": telephony_status,
            "sessionId": session,
            "telephonySessionId": format!("s-sandbox-{session}"),
            "partyId": format!("p-sandbox-{session}-1"),
        });
        detailed["activeCalls"] = json!([call]);
        detailed["totalActiveCalls"] = json!(1);
        call["sipData"] = json!({ "callId": session, "toTag": "t", "fromTag": "f", "remoteUri": "-", "localUri": "-" });
        with_sip["activeCalls"] = json!([call]);
        with_sip["totalActiveCalls"] = json!(1);
    }
    let uri = EventUri::parse(&own(&identity, "presence"), &identity.account_id, &identity.extension_id);
    Happening { uri, bodies: vec![simple.to_string(), detailed.to_string(), with_sip.to_string()] }
}

fn telephony(state: &mut State, status: &str, from: &str) -> Happening {
    let session = number(&mut state.rng, 12);
    let identity = state.identity.clone();
    let body = json!({
        "sequence": state.messages.next_sequence(),
        "sessionId": session,
        "telephonySessionId": format!("s-sandbox-{session}"),
        "serverId": "10.0.0.1.SBX",
        "eventTime": times(state),
        "accountId": identity.account_id,
        "extensionId": identity.extension_id,
        "parties": [{
            "accountId": identity.account_id,
            "extensionId": identity.extension_id,
            "id": format!("p-sandbox-{session}-1"),
            "direction": "Inbound",
            "to": { "phoneNumber": identity.phone_number, "name": "Sandbox User", "extensionId": identity.extension_id },
            "from": { "phoneNumber": from },
            "status": { "code": status, "rcc": false },
            "missedCall": false,
            "standAlone": false,
            "muted": false,
        }],
        "origin": { "type": "Call" },
    });
    happening(state, &own(&identity, "telephony/sessions"), &body)
}
