//! Applies a fixture to the account and to the subscribers.

use serde_json::{Value, json};

use super::Account;
use super::calls::NewCall;
use super::messages::{Change, NewMessage, hint};
use super::people::{self, ExtensionChange};
use crate::context::Context;
use crate::filters::DomainEvent;
use crate::fixtures::{Fixture, caller, greeting};
use crate::random::number;

impl Account {
    /// Applies a fixture and returns the events.
    pub(crate) fn apply(&mut self, ctx: &mut Context, fixture: &Fixture) -> Vec<DomainEvent> {
        let own = self;
        match fixture {
            Fixture::InboundSms { from, text, extension } => inbound_sms(own, ctx, from, text, extension.as_deref()),
            Fixture::TeamPost { chat_id, creator_id, text } => {
                vec![own.team.add_post(ctx, chat_id, creator_id, text).1]
            }
            Fixture::Presence { presence_status, telephony_status } => {
                vec![people::report(&mut own.people, ctx, presence_status, telephony_status)]
            }
            Fixture::TelephonySession { status, from, session, recorded, voicemail } => {
                let of = CallOf { status, from, session: session.as_deref(), missed: false, recorded: *recorded };
                call(own, ctx, &of, *voicemail)
            }
            Fixture::Voicemail { from, extension } => {
                stored(own, ctx, "VoiceMail", "/voicemail", from, extension.as_deref())
            }
            Fixture::Fax { from, extension } => {
                stored(own, ctx, "Fax", "/fax?direction=Inbound", from, extension.as_deref())
            }
            Fixture::MessageRead { id } => own.messages.change_message(ctx, *id, Change::Read),
            Fixture::MessageDeleted { id, purge: false } => own.messages.change_message(ctx, *id, Change::Delete),
            Fixture::MessageDeleted { id, purge: true } => own.messages.change_message(ctx, *id, Change::Purge),
            Fixture::PostReplied { id, creator_id, text } => own.team.reply_to_post(ctx, id, creator_id, text),
            Fixture::PostEdited { id, text } => own.team.edit_post(ctx, id, text),
            Fixture::PostRemoved { id } => own.team.remove_post(ctx, id),
            Fixture::ChatNamed { id, name } => vec![own.team.name_chat(ctx, id, name)],
            Fixture::ChatLeft { id } => own.team.leave_chat(ctx, id),
            Fixture::TeamWebhook { id, event_type, chat_id } => {
                vec![team_webhook(ctx, id, event_type, chat_id)]
            }
            Fixture::MissedCall { from } => missed_call(own, ctx, from),
            Fixture::RecordedCall { session, from } => {
                let result = "Call connected";
                own.calls.log_call(ctx, &NewCall { from, result, session, recorded: true, message: None });
                Vec::new()
            }
            Fixture::Insights { domain, session, summary } => {
                vec![own.insights.add_insights(ctx, domain, session, summary)]
            }
            Fixture::A2pMessage { from, text, direction } => vec![own.a2p.add_a2p(ctx, direction, from, text)],
            Fixture::A2pStatus { id, status } => own.a2p.change_a2p(ctx, *id, status),
            Fixture::ExtensionAdded { id } => own.people.change_extension(ctx, id, ExtensionChange::Create),
            Fixture::ExtensionChanged { id } => own.people.change_extension(ctx, id, ExtensionChange::Update),
            Fixture::ExtensionRemoved { id } => own.people.change_extension(ctx, id, ExtensionChange::Delete),
            Fixture::MessageStore { message_type, new_count, updated_count } => {
                vec![store_changed(own, ctx, message_type, *new_count, *updated_count)]
            }
            Fixture::SubscriptionReminder { expires_in } => {
                vec![DomainEvent::new(
                    &ctx.identity,
                    "/restapi/v1.0/subscription/~",
                    &json!({ "expiresIn": expires_in }),
                )]
            }
        }
    }
}

fn inbound(
    own: &mut Account,
    ctx: &mut Context,
    extension: Option<&str>,
    kind: &str,
    from: &str,
    subject: &str,
) -> (String, u64, Value) {
    let to = [ctx.identity.phone_number.clone()];
    let extension = extension.unwrap_or(&ctx.identity.extension_id).to_owned();
    let new =
        NewMessage { extension: &extension, kind, direction: "Inbound", from, to: &to, subject, attachments: &[] };
    let (id, mut body) = own.messages.store_message(ctx, &new);
    body["id"] = json!(id.to_string());
    (extension, id, body)
}

pub(crate) fn inbound_sms(
    own: &mut Account,
    ctx: &mut Context,
    from: &str,
    text: &str,
    extension: Option<&str>,
) -> Vec<DomainEvent> {
    let (extension, id, body) = inbound(own, ctx, extension, "SMS", from, text);
    let instant =
        DomainEvent::new(&ctx.identity, &ctx.extension_path(&extension, "/message-store/instant?type=SMS"), &body);
    vec![instant, hint(ctx, &extension, "SMS", 1, 0, &[id])]
}

fn stored(
    own: &mut Account,
    ctx: &mut Context,
    kind: &str,
    tail: &str,
    from: &str,
    extension: Option<&str>,
) -> Vec<DomainEvent> {
    let (extension, id, body) = inbound(own, ctx, extension, kind, from, from);
    let event = DomainEvent::new(&ctx.identity, &ctx.extension_path(&extension, tail), &body);
    vec![event, hint(ctx, &extension, kind, 1, 0, &[id])]
}

/// Maximum count of a hint that changes the store; callers may pass any number.
const MOST: u32 = 10_000;

fn store_changed(own: &mut Account, ctx: &mut Context, kind: &str, new_count: u32, updated_count: u32) -> DomainEvent {
    own.messages.touch_messages(ctx, kind, usize::try_from(updated_count).unwrap_or(usize::MAX));
    for _ in 0..new_count.min(MOST) {
        inbound(own, ctx, None, kind, &caller(), &greeting());
    }
    let extension = ctx.identity.extension_id.clone();
    hint(ctx, &extension, kind, new_count, updated_count, &[])
}

fn team_webhook(ctx: &Context, id: &str, event_type: &str, chat: &str) -> DomainEvent {
    let now = ctx.write_time(ctx.moment().wall);
    let body = json!({
        "id": id,
        "creatorId": ctx.identity.extension_id,
        "groupIds": [chat],
        "creationTime": now,
        "lastModifiedTime": now,
        "uri": format!("{}/webhook/v2/{id}", ctx.base_url),
        "status": if event_type == "WebhookDeleted" { "Deleted" } else { "Active" },
        "eventType": event_type,
    });
    DomainEvent::new(&ctx.identity, "/restapi/v1.0/glip/webhooks", &body)
}

/// A change of a call.
struct CallOf<'a> {
    status: &'a str,
    from: &'a str,
    /// Its session's number, if it is not a new one.
    session: Option<&'a str>,
    missed: bool,
    recorded: bool,
}

fn is_end(status: &str) -> bool {
    matches!(status, "Disconnected" | "Gone")
}

fn call(own: &mut Account, ctx: &mut Context, of: &CallOf<'_>, voicemail: bool) -> Vec<DomainEvent> {
    if !(voicemail && is_end(of.status)) {
        return vec![telephony(own, ctx, of, None).1];
    }
    let (extension, id, body) = inbound(own, ctx, None, "VoiceMail", of.from, of.from);
    let event = DomainEvent::new(&ctx.identity, &ctx.extension_path(&extension, "/voicemail"), &body);
    let hint = hint(ctx, &extension, "VoiceMail", 1, 0, &[id]);
    vec![telephony(own, ctx, of, Some(id)).1, event, hint]
}

fn telephony(own: &mut Account, ctx: &mut Context, of: &CallOf<'_>, message: Option<u64>) -> (String, DomainEvent) {
    let &CallOf { status, from, missed, recorded, .. } = of;
    let session = of.session.map_or_else(|| number(&mut ctx.rng, 12), str::to_owned);
    let identity = ctx.identity.clone();
    let body = json!({
        "sequence": own.people.next_sequence(),
        "sessionId": session,
        "telephonySessionId": format!("s-sandbox-{session}"),
        "serverId": "10.0.0.1.SBX",
        "eventTime": ctx.write_time(ctx.moment().wall),
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
    own.calls.changed(ctx, &session, &body, is_end(status));
    if is_end(status) {
        let result = match message {
            Some(_) => "Voicemail",
            None if missed => "Missed",
            None => "Call connected",
        };
        own.calls.log_call(ctx, &NewCall { from, result, session: &session, recorded, message });
    }
    let event =
        DomainEvent::new(&ctx.identity, &ctx.extension_path(&identity.extension_id, "/telephony/sessions"), &body);
    (session, event)
}

fn missed_call(own: &mut Account, ctx: &mut Context, from: &str) -> Vec<DomainEvent> {
    let of = CallOf { status: "Disconnected", from, session: None, missed: true, recorded: false };
    let (session, event) = telephony(own, ctx, &of, None);
    let identity = &ctx.identity;
    let body = json!({
        "extensionId": identity.extension_id,
        "action": "MissedCall",
        "sessionId": session,
        "serverId": "10.0.0.1.SBX",
        "from": from,
        "to": identity.phone_number,
        "toName": "Sandbox User",
    });
    vec![event, DomainEvent::new(&ctx.identity, &ctx.extension_path(&identity.extension_id, "/missed-calls"), &body)]
}
