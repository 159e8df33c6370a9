//! Applies a fixture to the account and to the subscribers.

use serde_json::{Value, json};

use super::account::calls::NewCall;
use super::account::messages::{Change, NewMessage};
use super::account::people::ExtensionChange;
use super::delivery::DomainEvent;
use super::filters::EventUri;
use super::fixtures::{Fixture, caller, greeting};
use super::state::{Identity, State, number};

impl Fixture {
    /// Changes the account and returns the events.
    pub(super) fn apply(&self, state: &mut State) -> Vec<DomainEvent> {
        match self {
            Self::InboundSms { from, text, extension } => inbound_sms(state, from, text, extension.as_deref()),
            Self::TeamPost { chat_id, creator_id, text } => vec![state.add_post(chat_id, creator_id, text).1],
            Self::Presence { presence_status, telephony_status } => {
                vec![presence(state, presence_status, telephony_status)]
            }
            Self::TelephonySession { status, from } => vec![telephony(state, status, from, false).1],
            Self::Voicemail { from, extension } => stored(state, "VoiceMail", "voicemail", from, extension.as_deref()),
            Self::Fax { from, extension } => stored(state, "Fax", "fax?direction=Inbound", from, extension.as_deref()),
            Self::MessageRead { id } => state.change_message(*id, Change::Read),
            Self::MessageDeleted { id, purge: false } => state.change_message(*id, Change::Delete),
            Self::MessageDeleted { id, purge: true } => state.change_message(*id, Change::Purge),
            Self::PostReplied { id, creator_id, text } => state.reply_to_post(id, creator_id, text),
            Self::PostEdited { id, text } => state.edit_post(id, text),
            Self::PostRemoved { id } => state.remove_post(id),
            Self::ChatNamed { id, name } => vec![state.name_chat(id, name)],
            Self::ChatLeft { id } => state.leave_chat(id),
            Self::MissedCall { from } => missed_call(state, from),
            Self::RecordedCall { session, from } => {
                state.log_call(&NewCall { from, result: "Call connected", session, recorded: true });
                Vec::new()
            }
            Self::Insights { domain, session, summary } => vec![state.add_insights(domain, session, summary)],
            Self::A2pMessage { from, text, direction } => vec![state.add_a2p(direction, from, text)],
            Self::A2pStatus { id, status } => state.change_a2p(*id, status),
            Self::ExtensionAdded { id } => state.change_extension(id, ExtensionChange::Create),
            Self::ExtensionChanged { id } => state.change_extension(id, ExtensionChange::Update),
            Self::ExtensionRemoved { id } => state.change_extension(id, ExtensionChange::Delete),
            Self::MessageStore { message_type, new_count, updated_count } => {
                vec![store_changed(state, message_type, *new_count, *updated_count)]
            }
            Self::SubscriptionReminder { expires_in } => {
                vec![domain_event(state, "/restapi/v1.0/subscription/~", &json!({ "expiresIn": expires_in }))]
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

pub(super) fn domain_event(state: &State, uri: &str, body: &Value) -> DomainEvent {
    let uri = EventUri::parse(uri, &state.identity.account_id, &state.identity.extension_id);
    DomainEvent { uri, bodies: vec![body.to_string()] }
}

fn times(state: &State) -> String {
    state.write_time(state.moment().wall)
}

/// The hint that a message store changed. Its ids are numbers, as captured.
pub(super) fn hint(
    state: &State,
    extension: &str,
    kind: &str,
    new_count: u32,
    updated_count: u32,
    ids: &[u64],
) -> DomainEvent {
    let mut change = json!({ "type": kind, "newCount": new_count, "updatedCount": updated_count });
    if !ids.is_empty() {
        change["newMessageIds"] = json!(ids);
    }
    let body = json!({
        "extensionId": extension.parse::<u64>().map_or(Value::Null, Value::from),
        "lastUpdated": times(state),
        "changes": [change],
    });
    domain_event(state, &format!("{}?type={kind}", of(&state.identity, extension, "message-store")), &body)
}

fn inbound(state: &mut State, extension: Option<&str>, kind: &str, from: &str, subject: &str) -> (String, u64, Value) {
    let to = [state.identity.phone_number.clone()];
    let extension = extension.unwrap_or(&state.identity.extension_id).to_owned();
    let new =
        NewMessage { extension: &extension, kind, direction: "Inbound", from, to: &to, subject, attachments: &[] };
    let (id, mut body) = state.store_message(&new);
    body["id"] = json!(id.to_string());
    (extension, id, body)
}

pub(super) fn inbound_sms(state: &mut State, from: &str, text: &str, extension: Option<&str>) -> Vec<DomainEvent> {
    let (extension, id, body) = inbound(state, extension, "SMS", from, text);
    let instant = domain_event(state, &of(&state.identity, &extension, "message-store/instant?type=SMS"), &body);
    vec![instant, hint(state, &extension, "SMS", 1, 0, &[id])]
}

fn stored(state: &mut State, kind: &str, tail: &str, from: &str, extension: Option<&str>) -> Vec<DomainEvent> {
    let (extension, id, body) = inbound(state, extension, kind, from, from);
    let event = domain_event(state, &of(&state.identity, &extension, tail), &body);
    vec![event, hint(state, &extension, kind, 1, 0, &[id])]
}

/// Maximum count of a hint that changes the store; callers may pass any number.
const MOST: u32 = 10_000;

fn store_changed(state: &mut State, kind: &str, new_count: u32, updated_count: u32) -> DomainEvent {
    state.touch_messages(kind, usize::try_from(updated_count).unwrap_or(usize::MAX));
    for _ in 0..new_count.min(MOST) {
        inbound(state, None, kind, &caller(), &greeting());
    }
    let extension = state.identity.extension_id.clone();
    hint(state, &extension, kind, new_count, updated_count, &[])
}

fn presence(state: &mut State, presence_status: &str, telephony_status: &str) -> DomainEvent {
    let sequence = state.messages.next_sequence();
    let identity = state.identity.clone();
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
    state.set_presence(&identity.extension_id, [simple.clone(), detailed.clone(), with_sip.clone()]);
    let uri = EventUri::parse(&own(&identity, "presence"), &identity.account_id, &identity.extension_id);
    DomainEvent { uri, bodies: vec![simple.to_string(), detailed.to_string(), with_sip.to_string()] }
}

/// Changes fields of the user's presence and returns the events.
pub(super) fn change_presence(state: &mut State, changes: &serde_json::Map<String, Value>) -> DomainEvent {
    let extension = state.identity.extension_id.clone();
    if state.last_presence(&extension).is_none() {
        drop(presence(state, "Available", "NoCall"));
    }
    let sequence = state.messages.next_sequence();
    let mut bodies = state.last_presence(&extension).unwrap_or_default();
    for body in &mut bodies {
        body["sequence"] = json!(sequence);
        for (name, value) in changes {
            body[name.as_str()] = value.clone();
        }
    }
    state.set_presence(&extension, bodies.clone());
    let identity = &state.identity;
    let uri = EventUri::parse(&own(identity, "presence"), &identity.account_id, &identity.extension_id);
    DomainEvent { uri, bodies: bodies.iter().map(Value::to_string).collect() }
}

fn telephony(state: &mut State, status: &str, from: &str, missed: bool) -> (String, DomainEvent) {
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
            "missedCall": missed,
            "standAlone": false,
            "muted": false,
        }],
        "origin": { "type": "Call" },
    });
    if matches!(status, "Disconnected" | "Gone") {
        let result = if missed { "Missed" } else { "Call connected" };
        state.log_call(&NewCall { from, result, session: &session, recorded: false });
    }
    let event = domain_event(state, &own(&identity, "telephony/sessions"), &body);
    (session, event)
}

fn missed_call(state: &mut State, from: &str) -> Vec<DomainEvent> {
    let (session, event) = telephony(state, "Disconnected", from, true);
    let identity = &state.identity;
    let body = json!({
        "extensionId": identity.extension_id,
        "action": "MissedCall",
        "sessionId": session,
        "serverId": "10.0.0.1.SBX",
        "from": from,
        "to": identity.phone_number,
        "toName": "Sandbox User",
    });
    vec![event, domain_event(state, &own(identity, "missed-calls"), &body)]
}
