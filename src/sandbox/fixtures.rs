//! Canned events.

use serde::Deserialize;
use serde_json::{Value, json};

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
    },
    /// A fax came in: its own event, and the message-store hint.
    #[non_exhaustive]
    Fax {
        /// Sender. Default `+16505550100`.
        #[serde(default = "caller")]
        from: String,
    },
    /// The message store changed.
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
        Self::InboundSms { from: from.into(), text: text.into() }
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
        Self::Voicemail { from: from.into() }
    }

    /// A fax from `from`.
    #[must_use]
    pub fn fax(from: impl Into<String>) -> Self {
        Self::Fax { from: from.into() }
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
            Self::InboundSms { from, text } => inbound_sms(state, from, text),
            Self::TeamPost { chat_id, creator_id, text } => vec![post(state, chat_id, creator_id, text).1],
            Self::Presence { presence_status, telephony_status } => {
                vec![presence(state, presence_status, telephony_status)]
            }
            Self::TelephonySession { status, from } => vec![telephony(state, status, from)],
            Self::Voicemail { from } => stored(state, "VoiceMail", "voicemail", from),
            Self::Fax { from } => stored(state, "Fax", "fax?direction=Inbound", from),
            Self::MessageStore { message_type, new_count, updated_count } => {
                vec![hint(state, message_type, *new_count, *updated_count, &[])]
            }
            Self::SubscriptionReminder { expires_in } => {
                vec![happening(state, "/restapi/v1.0/subscription/~", &json!({ "expiresIn": expires_in }))]
            }
        }
    }
}

fn own(identity: &Identity, tail: &str) -> String {
    format!("/restapi/v1.0/account/{}/extension/{}/{tail}", identity.account_id, identity.extension_id)
}

fn happening(state: &State, uri: &str, body: &Value) -> Happening {
    let uri = EventUri::parse(uri, &state.identity.account_id, &state.identity.extension_id);
    Happening { uri, bodies: vec![body.to_string()] }
}

fn times(state: &State) -> String {
    state.write_time(state.moment().wall)
}

/// The hint that the message store changed. Ids are numbers here, as captured.
pub(super) fn hint(state: &State, kind: &str, new_count: u32, updated_count: u32, ids: &[u64]) -> Happening {
    let mut change = json!({ "type": kind, "newCount": new_count, "updatedCount": updated_count });
    if !ids.is_empty() {
        change["newMessageIds"] = json!(ids);
    }
    let body = json!({
        "extensionId": state.identity.extension_id.parse::<u64>().map_or(Value::Null, Value::from),
        "lastUpdated": times(state),
        "changes": [change],
    });
    happening(state, &format!("{}?type={kind}", own(&state.identity, "message-store")), &body)
}

fn inbound_sms(state: &mut State, from: &str, text: &str) -> Vec<Happening> {
    let to = state.identity.phone_number.clone();
    let (id, record) = state.store_message("SMS", "Inbound", from, &[to], text);
    let mut body = record;
    body["id"] = json!(id.to_string());
    let instant = happening(state, &own(&state.identity, "message-store/instant?type=SMS"), &body);
    vec![instant, hint(state, "SMS", 1, 0, &[id])]
}

fn stored(state: &mut State, kind: &str, tail: &str, from: &str) -> Vec<Happening> {
    let to = state.identity.phone_number.clone();
    let (id, mut body) = state.store_message(kind, "Inbound", from, &[to], from);
    body["id"] = json!(id.to_string());
    let attachment = number(&mut state.rng, 12);
    if kind == "Fax" {
        body["faxResolution"] = json!("High");
        body["faxPageCount"] = json!(2);
        body["attachments"] =
            json!([{ "id": attachment, "type": "RenderedDocument", "contentType": "application/pdf" }]);
    } else {
        body["vmTranscriptionStatus"] = json!("NotAvailable");
        body["attachments"] =
            json!([{ "id": attachment, "type": "AudioRecording", "contentType": "audio/mpeg", "vmDuration": 7 }]);
    }
    let event = happening(state, &own(&state.identity, tail), &body);
    vec![event, hint(state, kind, 1, 0, &[id])]
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
