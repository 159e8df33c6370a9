//! The message store.

use std::collections::VecDeque;
use std::time::SystemTime;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::params::{batch, body, count_in, id_number, keep, time_in};
use crate::context::Context;
use crate::filters::{DomainEvent, Outcome};
use crate::http::{Call, Refused, Reply, empty_reply, json_reply, text_reply};
use crate::random::number;

/// Maximum number of stored messages; the oldest are dropped.
const KEPT: usize = 20_000;
const DEFAULT_PAGE: usize = 100;

/// The messages of all extensions, oldest first.
#[derive(Debug)]
pub(crate) struct Messages {
    stored: VecDeque<Stored>,
    next_id: u64,
}

impl Default for Messages {
    fn default() -> Self {
        Self { stored: VecDeque::new(), next_id: 606_090_030_000 }
    }
}

/// A message, alive or deleted.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) id: u64,
    pub(super) extension: String,
    /// By the service's clock, like `modified`.
    pub(super) created: SystemTime,
    pub(super) modified: SystemTime,
    /// The API's JSON.
    pub(super) record: Value,
}

impl Stored {
    pub(super) fn is(&self, field: &str, asked: &[String]) -> bool {
        asked.is_empty() || asked.iter().any(|value| self.record[field] == **value)
    }

    pub(super) fn is_alive(&self) -> bool {
        self.record["availability"] == "Alive"
    }
}

impl Messages {
    /// The messages of `extension`, newest first.
    pub(super) fn of<'a>(&'a self, extension: &'a str) -> impl Iterator<Item = &'a Stored> {
        self.stored.iter().rev().filter(move |stored| stored.extension == extension)
    }

    /// All records, oldest first, including deleted messages.
    pub(crate) fn records(&self) -> Vec<Value> {
        self.stored.iter().map(|stored| stored.record.clone()).collect()
    }

    fn find(&mut self, id: u64) -> Option<&mut Stored> {
        self.stored.iter_mut().find(|stored| stored.id == id)
    }
}

/// A new message.
#[derive(Clone, Copy)]
pub(crate) struct NewMessage<'a> {
    pub(crate) extension: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) direction: &'a str,
    pub(crate) from: &'a str,
    pub(crate) to: &'a [String],
    pub(crate) subject: &'a str,
    /// Content types of the attachments.
    pub(crate) attachments: &'a [String],
}

/// A change of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Read,
    Unread,
    Delete,
    Purge,
}

impl Messages {
    /// Stores a message; returns its id and its record, with numeric ids.
    pub(crate) fn store_message(&mut self, ctx: &mut Context, new: &NewMessage<'_>) -> (u64, Value) {
        self.next_id += 4;
        let id = self.next_id;
        let (created, now) = ctx.written_now();
        let conversation = number(&mut ctx.rng, 19);
        let inbound = new.direction == "Inbound";
        let party = |number: &str| match number.strip_prefix("ext:") {
            Some(extension) => json!({ "extensionNumber": extension }),
            None => json!({ "phoneNumber": number }),
        };
        let path = ctx.extension_uri(new.extension, &format!("/message-store/{id}"));
        let mut record = json!({
            "id": id,
            "uri": path,
            "extensionId": id_number(new.extension),
            "to": new.to.iter().map(|number| party(number)).collect::<Vec<_>>(),
            "from": party(new.from),
            "type": new.kind,
            "creationTime": now,
            "lastModifiedTime": now,
            "readStatus": if inbound { "Unread" } else { "Read" },
            "priority": "Normal",
            "attachments": [{
                "id": id, "uri": format!("{path}/content/{id}"), "type": "Text", "contentType": "text/plain",
            }],
            "direction": new.direction,
            "availability": "Alive",
            "subject": new.subject,
            "messageStatus": if inbound { "Received" } else { "Sent" },
            "conversationId": conversation,
            "conversation": { "id": conversation },
        });
        let attachment = number(&mut ctx.rng, 12);
        match new.kind {
            "Fax" => {
                record["faxResolution"] = json!("High");
                record["faxPageCount"] = json!(2);
                record["attachments"] = json!([{ "id": attachment, "uri": format!("{path}/content/{attachment}"), "type": "RenderedDocument", "contentType": "application/pdf" }]);
            }
            "VoiceMail" => {
                record["vmTranscriptionStatus"] = json!("NotAvailable");
                record["attachments"] = json!([{
                    "id": attachment, "uri": format!("{path}/content/{attachment}"), "type": "AudioRecording", "contentType": "audio/mpeg", "vmDuration": 7,
                }]);
            }
            _ => {}
        }
        let sort = if new.kind == "Fax" { "RenderedDocument" } else { "MmsAttachment" };
        for kind in new.attachments {
            let attached = number(&mut ctx.rng, 12);
            let item = json!({
                "id": attached, "uri": format!("{path}/content/{attached}"), "type": sort, "contentType": kind,
            });
            if let Some(list) = record["attachments"].as_array_mut() {
                list.push(item);
            }
        }
        let extension = new.extension.to_owned();
        let stored = Stored { id, extension, created, modified: created, record: record.clone() };
        keep(&mut self.stored, stored, KEPT);
        (id, record)
    }

    /// Changes a message and returns the events; does nothing if the id is unknown.
    pub(crate) fn change_message(&mut self, ctx: &mut Context, id: u64, change: Change) -> Vec<DomainEvent> {
        let (modified, now) = ctx.written_now();
        let Some(stored) = self.find(id) else { return Vec::new() };
        let (field, value) = match change {
            Change::Read => ("readStatus", "Read"),
            Change::Unread => ("readStatus", "Unread"),
            Change::Delete => ("availability", "Deleted"),
            Change::Purge => ("availability", "Purged"),
        };
        stored.record[field] = json!(value);
        stored.record["lastModifiedTime"] = json!(now);
        stored.modified = modified;
        let Stored { extension, record, .. } = stored.clone();
        let kind = record["type"].as_str().unwrap_or_default();
        let mut changed = hint(ctx, &extension, kind, 0, 1, &[]);
        if record["direction"] == "Outbound" {
            changed.uri.query.push_str("&direction=Outbound");
        }
        vec![changed]
    }

    /// Changes the newest `count` messages of a type without events.
    pub(crate) fn touch_messages(&mut self, ctx: &mut Context, kind: &str, count: usize) {
        let (modified, now) = ctx.written_now();
        let touched = self.stored.iter_mut().rev().filter(|stored| stored.record["type"] == kind);
        for stored in touched.take(count) {
            stored.record["lastModifiedTime"] = json!(now);
            stored.modified = modified;
        }
    }
}

/// `GET …/message-store`: newest first, paged.
pub(crate) fn list(own: &Messages, ctx: &Context, call: &Call, extension: &str) -> Result<Reply, Refused> {
    let page = count_in(call, "page")?.unwrap_or(1);
    let per_page = count_in(call, "perPage")?.unwrap_or(DEFAULT_PAGE).min(1000);
    let (from, to) = (time_in(call, "dateFrom")?, time_in(call, "dateTo")?);
    let asked = ["messageType", "direction", "availability", "readStatus"].map(|name| call.query_all(name));
    let found: Vec<&Value> = own
        .of(extension)
        .filter(|it| from.is_none_or(|from| it.created >= from) && to.is_none_or(|to| it.created <= to))
        .filter(|it| !asked[2].is_empty() || it.is_alive())
        .filter(|it| {
            ["type", "direction", "availability", "readStatus"]
                .iter()
                .zip(&asked)
                .all(|(name, asked)| it.is(name, asked))
        })
        .map(|it| &it.record)
        .collect();
    let start = (page - 1).saturating_mul(per_page);
    let records: Vec<&Value> = found.iter().skip(start).take(per_page).copied().collect();
    let uri = format!("{}{}", ctx.base_url, call.path);
    let body = json!({
        "uri": uri,
        "records": records,
        "paging": {
            "page": page,
            "perPage": per_page,
            "pageStart": start,
            "pageEnd": (start + records.len()).saturating_sub(1),
            "totalPages": found.len().div_ceil(per_page),
            "totalElements": found.len(),
        },
        "navigation": { "firstPage": { "uri": format!("{uri}?page=1&perPage={per_page}") } },
    });
    Ok(json_reply(StatusCode::OK, &body))
}

fn found<'a>(own: &'a Messages, extension: &str, id: &str) -> Result<&'a Stored, Refused> {
    let stored = id.parse::<u64>().ok().and_then(|id| own.stored.iter().find(|it| it.id == id));
    stored.filter(|it| it.extension == extension).ok_or_else(|| Refused::not_found("messageId", id))
}

/// `GET …/message-store/{id}`.
pub(crate) fn get(own: &Messages, extension: &str, id: &str) -> Result<Reply, Refused> {
    found(own, extension, id).map(|stored| json_reply(StatusCode::OK, &stored.record))
}

/// `GET …/message-store/{id},{id}`: each part has a status.
pub(crate) fn several(own: &Messages, ctx: &Context, call: &Call, extension: &str, ids: &str) -> Reply {
    batch(call, ids, |id| {
        let uri = ctx.extension_uri(extension, &format!("/message-store/{id}"));
        (uri, found(own, extension, id).map(|stored| stored.record.clone()))
    })
}

/// `GET …/message-store/{id}/content/{id}`: the text of a message, or a short file of the attachment's type.
pub(crate) fn content(own: &Messages, extension: &str, id: &str, attachment: &str) -> Result<Reply, Refused> {
    let record = &found(own, extension, id)?.record;
    let is_it =
        |it: &&Value| it["id"] == *attachment || it["id"].as_u64().is_some_and(|id| id.to_string() == attachment);
    let found = record["attachments"].as_array().and_then(|all| all.iter().find(is_it));
    let found = found.ok_or_else(|| Refused::not_found("attachmentId", attachment))?;
    let kind = found["contentType"].as_str().unwrap_or_default();
    let body = if found["type"] == "Text" { record["subject"].as_str().unwrap_or_default() } else { "sandbox" };
    let mut reply = text_reply(StatusCode::OK, "application/octet-stream", body.to_owned());
    if let Ok(kind) = HeaderValue::from_str(kind) {
        reply.headers_mut().insert(CONTENT_TYPE, kind);
    }
    Ok(reply)
}

/// `PUT …/message-store/{id}`: sets the read status.
pub(crate) fn update(own: &mut Messages, ctx: &mut Context, call: &Call, extension: &str, id: &str) -> Outcome {
    let key = found(own, extension, id)?.id;
    let body = body(call)?;
    let change = match body["readStatus"].as_str() {
        Some("Read") => Change::Read,
        Some("Unread") => Change::Unread,
        _ => return Err(Refused::parameter("readStatus")),
    };
    let domain_events = own.change_message(ctx, key, change);
    Ok((get(own, extension, id)?, domain_events))
}

/// `DELETE …/message-store/{id}`, or of several ids; `purge=true` deletes permanently.
pub(crate) fn delete(own: &mut Messages, ctx: &mut Context, call: &Call, extension: &str, id: &str) -> Outcome {
    let keys = id.split(',').map(|id| found(own, extension, id).map(|it| it.id)).collect::<Result<Vec<_>, _>>()?;
    let purge = call.query("purge").is_some_and(|purge| purge == "true");
    let change = if purge { Change::Purge } else { Change::Delete };
    let domain_events = keys.into_iter().flat_map(|key| own.change_message(ctx, key, change)).collect();
    Ok((empty_reply(StatusCode::NO_CONTENT), domain_events))
}

/// The hint that a message store changed. Its ids are numbers, as captured.
pub(crate) fn hint(
    ctx: &Context,
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
        "lastUpdated": ctx.write_time(ctx.moment().wall),
        "changes": [change],
    });
    DomainEvent::new(&ctx.identity, &format!("{}?type={kind}", ctx.extension_path(extension, "/message-store")), &body)
}
