//! Endpoints for sending messages and reading the account.

use http::StatusCode;
use serde_json::{Value, json};

use super::Account;
use super::cards::{self, Added};
use super::fixtures::inbound_sms;
use super::messages::{NewMessage, hint};
use super::params::{body, text_field};
use super::sent::SentKind;
use crate::context::Context;
use crate::filters::Outcome;
use crate::http::{Call, Part, Refused, Reply, json_reply};

/// The user's extension number.
const OWN_NUMBER: &str = "101";

/// Reads a message: JSON, or multipart with a JSON part or one part per field, and attachments.
/// Also returns the attachments' types.
fn sent_body(call: &Call) -> Result<(Value, Vec<String>), Refused> {
    let Some(parts) = call.parts() else { return Ok((body(call)?, Vec::new())) };
    let is_json = |part: &Part| part.content_type.as_deref().is_some_and(|kind| kind.starts_with("application/json"));
    let object = |part: &Part| serde_json::from_slice::<Value>(&part.data).ok().filter(Value::is_object);
    let whole = parts.iter().position(|part| is_json(part) && object(part).is_some_and(|it| it.get("to").is_some()));
    let mut message = whole.and_then(|at| object(&parts[at])).unwrap_or_else(|| json!({}));
    let mut attachments = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        if whole == Some(at) {
            continue;
        }
        match (&part.name, &part.content_type) {
            (Some(name), _)
                if whole.is_none()
                    && ["from", "to", "text", "country", "coverPageText", "faxResolution"].contains(&name.as_str()) =>
            {
                let text = String::from_utf8_lossy(&part.data).into_owned();
                message[name.as_str()] = serde_json::from_str(&text).unwrap_or(Value::String(text));
            }
            (_, Some(kind)) => attachments.push(kind.clone()),
            (_, None) => {}
        }
    }
    Ok((message, attachments))
}

fn recipients(body: &Value, names: &[&str]) -> Result<Vec<String>, Refused> {
    let list = body["to"].as_array().filter(|list| !list.is_empty()).ok_or_else(|| Refused::parameter("to"))?;
    let found = |item: &Value| names.iter().find_map(|name| item[*name].as_str().map(str::to_owned));
    list.iter().map(found).collect::<Option<_>>().ok_or_else(|| Refused::parameter("to"))
}

/// `POST …/sms` and `…/mms`: the response and the events.
pub(crate) fn send_sms(own: &mut Account, ctx: &mut Context, call: &Call) -> Outcome {
    let (body, attachments) = sent_body(call)?;
    // A picture needs no text.
    let text = match (text_field(&body, "text"), attachments.is_empty()) {
        (Err(_), false) => "",
        (text, _) => text?,
    };
    let to = recipients(&body, &["phoneNumber"])?;
    let from = body["from"]["phoneNumber"].as_str().ok_or_else(|| Refused::parameter("from"))?;
    if from != ctx.identity.phone_number {
        let number = "Phone number doesn't belong to extension";
        return Err(Refused { message: number.into(), ..Refused::new(400, "MSG-304", "") });
    }
    let extension = &ctx.identity.extension_id.clone();
    let new =
        NewMessage { extension, kind: "SMS", direction: "Outbound", from, to: &to, subject: text, attachments: &[] };
    let (id, record) = own.messages.store_message(ctx, &NewMessage { attachments: &attachments, ..new });
    // A message to the own number is also received.
    let received = to.contains(&ctx.identity.phone_number);
    own.note_sent(ctx, SentKind::Sms, to, text, id.to_string());
    let mut sent = hint(ctx, extension, "SMS", 1, 0, &[id]);
    sent.uri.query.push_str("&direction=Outbound");
    let mut raised = vec![sent];
    if received {
        raised.extend(inbound_sms(own, ctx, from, text, None));
    }
    Ok((json_reply(StatusCode::OK, &record), raised))
}

/// `POST …/fax`: at least one document or a text for the cover page.
pub(crate) fn send_fax(own: &mut Account, ctx: &mut Context, call: &Call) -> Outcome {
    let (body, documents) = sent_body(call)?;
    let text = body["coverPageText"].as_str().unwrap_or_default();
    if documents.is_empty() && text.is_empty() {
        return Err(Refused::parameter("attachment"));
    }
    // A form names a recipient by a field, not by an object.
    let to = match &body["to"] {
        Value::String(number) => vec![number.clone()],
        _ => recipients(&body, &["phoneNumber"])?,
    };
    let extension = &ctx.identity.extension_id.clone();
    let from = &ctx.identity.phone_number.clone();
    let new = NewMessage {
        extension,
        kind: "Fax",
        direction: "Outbound",
        from,
        to: &to,
        subject: text,
        attachments: &documents,
    };
    let (id, record) = own.messages.store_message(ctx, &new);
    own.note_sent(ctx, SentKind::Fax, to, text, id.to_string());
    let mut sent = hint(ctx, extension, "Fax", 1, 0, &[id]);
    sent.uri.query.push_str("&direction=Outbound");
    Ok((json_reply(StatusCode::OK, &record), vec![sent]))
}

/// `POST …/company-pager`.
pub(crate) fn send_pager(own: &mut Account, ctx: &mut Context, call: &Call) -> Outcome {
    let body = body(call)?;
    let text = text_field(&body, "text")?;
    let to = recipients(&body, &["extensionNumber", "extensionId"])?;
    let from = body["from"]["extensionNumber"].as_str().unwrap_or(OWN_NUMBER).to_owned();
    let tagged: Vec<String> = to.iter().map(|number| format!("ext:{number}")).collect();
    let (extension, from) = (&ctx.identity.extension_id.clone(), &format!("ext:{from}"));
    let new = NewMessage {
        extension,
        kind: "Pager",
        direction: "Outbound",
        from,
        to: &tagged,
        subject: text,
        attachments: &[],
    };
    let (id, record) = own.messages.store_message(ctx, &new);
    let received = to.iter().any(|it| it == extension || it == OWN_NUMBER);
    own.note_sent(ctx, SentKind::Pager, to, text, id.to_string());
    let mut sent = hint(ctx, extension, "Pager", 1, 0, &[id]);
    sent.uri.query.push_str("&direction=Outbound");
    let mut raised = vec![sent];
    if received {
        let (inbound, _) = own.messages.store_message(ctx, &NewMessage { direction: "Inbound", ..new });
        raised.push(hint(ctx, extension, "Pager", 1, 0, &[inbound]));
    }
    Ok((json_reply(StatusCode::OK, &record), raised))
}

/// `POST /team-messaging/v1/chats/{id}/posts`.
pub(crate) fn create_post(own: &mut Account, ctx: &mut Context, call: &Call, chat_id: &str) -> Outcome {
    let body = body(call)?;
    let text = text_field(&body, "text")?;
    let creator = ctx.identity.extension_id.clone();
    let (record, event) = own.team.add_post(ctx, chat_id, &creator, text);
    let id = record["id"].as_str().unwrap_or_default().to_owned();
    own.note_sent(ctx, SentKind::Post, vec![chat_id.to_owned()], text, id);
    Ok((json_reply(StatusCode::OK, &record), vec![event]))
}

/// `POST /team-messaging/v1/chats/{id}/adaptive-cards`. The card appears in the chat as a post with
/// an attachment.
pub(crate) fn create_card(own: &mut Account, ctx: &mut Context, call: &Call, chat_id: &str) -> Outcome {
    let Added { id, content, reply } = cards::add(&mut own.cards, ctx, call, chat_id)?;
    let creator = ctx.identity.extension_id.clone();
    let event = own.team.add_card_post(ctx, chat_id, &creator, &id);
    own.note_sent(ctx, SentKind::Card, vec![chat_id.to_owned()], &content, id);
    Ok((reply, vec![event]))
}

/// `GET …/account/~`.
pub(crate) fn get_account(ctx: &Context) -> Reply {
    let identity = &ctx.identity;
    let body = json!({
        "uri": format!("{}/restapi/v1.0/account/{}", ctx.base_url, identity.account_id),
        "id": identity.account_id.parse::<u64>().map_or(Value::Null, Value::from),
        "mainNumber": identity.phone_number,
        "status": "Confirmed",
    });
    json_reply(StatusCode::OK, &body)
}

/// `GET …/extension/~/phone-number`.
pub(crate) fn list_phone_numbers(ctx: &Context) -> Reply {
    let body = json!({
        "records": [{
            "id": 1,
            "phoneNumber": ctx.identity.phone_number,
            "usageType": "DirectNumber",
            "type": "VoiceFax",
            "features": ["SmsSender", "MmsSender", "CallerId"],
        }],
        "paging": { "page": 1, "perPage": 100, "pageStart": 0, "pageEnd": 0, "totalPages": 1, "totalElements": 1 },
        "navigation": {},
    });
    json_reply(StatusCode::OK, &body)
}
