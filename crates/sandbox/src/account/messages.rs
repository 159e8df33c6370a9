//! The message store.

use std::collections::VecDeque;
use std::time::SystemTime;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::super::delivery::DomainEvent;
use super::super::fixtures_apply;
use super::super::http::{Call, Refused, Reply, empty_reply, json_reply, text_reply};
use super::super::state::{State, number};
use super::{batch, count_in, id_number, time_in};

/// Maximum number of stored messages; the oldest are dropped.
const KEPT: usize = 20_000;
const DEFAULT_PAGE: usize = 100;

/// The messages of all extensions, oldest first.
#[derive(Debug)]
pub(in super::super) struct Messages {
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
    pub(in super::super) fn records(&self) -> Vec<Value> {
        self.stored.iter().map(|stored| stored.record.clone()).collect()
    }

    fn find(&mut self, id: u64) -> Option<&mut Stored> {
        self.stored.iter_mut().find(|stored| stored.id == id)
    }
}

/// A new message.
#[derive(Clone, Copy)]
pub(in super::super) struct NewMessage<'a> {
    pub(in super::super) extension: &'a str,
    pub(in super::super) kind: &'a str,
    pub(in super::super) direction: &'a str,
    pub(in super::super) from: &'a str,
    pub(in super::super) to: &'a [String],
    pub(in super::super) subject: &'a str,
    /// Content types of the attachments.
    pub(in super::super) attachments: &'a [String],
}

/// A change of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Change {
    Read,
    Unread,
    Delete,
    Purge,
}

impl State {
    /// Stores a message; returns its id and its record, with numeric ids.
    pub(in super::super) fn store_message(&mut self, new: &NewMessage<'_>) -> (u64, Value) {
        self.account.messages.next_id += 4;
        let id = self.account.messages.next_id;
        let (created, now) = self.written_now();
        let conversation = number(&mut self.rng, 19);
        let inbound = new.direction == "Inbound";
        let party = |number: &str| match number.strip_prefix("ext:") {
            Some(extension) => json!({ "extensionNumber": extension }),
            None => json!({ "phoneNumber": number }),
        };
        let path = self.extension_uri(new.extension, &format!("/message-store/{id}"));
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
        let attachment = number(&mut self.rng, 12);
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
            let attached = number(&mut self.rng, 12);
            let item = json!({
                "id": attached, "uri": format!("{path}/content/{attached}"), "type": sort, "contentType": kind,
            });
            if let Some(list) = record["attachments"].as_array_mut() {
                list.push(item);
            }
        }
        let extension = new.extension.to_owned();
        let stored = Stored { id, extension, created, modified: created, record: record.clone() };
        super::super::messages::keep(&mut self.account.messages.stored, stored, KEPT);
        (id, record)
    }

    /// Changes a message and returns the events; does nothing if the id is unknown.
    pub(in super::super) fn change_message(&mut self, id: u64, change: Change) -> Vec<DomainEvent> {
        let (modified, now) = self.written_now();
        let Some(stored) = self.account.messages.find(id) else { return Vec::new() };
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
        let mut hint = fixtures_apply::hint(self, &extension, kind, 0, 1, &[]);
        if record["direction"] == "Outbound" {
            hint.uri.query.push_str("&direction=Outbound");
        }
        vec![hint]
    }

    /// Changes the newest `count` messages of a type without events.
    pub(in super::super) fn touch_messages(&mut self, kind: &str, count: usize) {
        let (modified, now) = self.written_now();
        let touched = self.account.messages.stored.iter_mut().rev().filter(|stored| stored.record["type"] == kind);
        for stored in touched.take(count) {
            stored.record["lastModifiedTime"] = json!(now);
            stored.modified = modified;
        }
    }
}

/// `GET …/message-store`: newest first, paged.
pub(in super::super) fn list(state: &State, call: &Call, extension: &str) -> Result<Reply, Refused> {
    let page = count_in(call, "page")?.unwrap_or(1);
    let per_page = count_in(call, "perPage")?.unwrap_or(DEFAULT_PAGE).min(1000);
    let (from, to) = (time_in(call, "dateFrom")?, time_in(call, "dateTo")?);
    let asked = ["messageType", "direction", "availability", "readStatus"].map(|name| call.query_all(name));
    let found: Vec<&Value> = state
        .account
        .messages
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
    let uri = format!("{}{}", state.base_url, call.path);
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

fn found<'a>(state: &'a State, extension: &str, id: &str) -> Result<&'a Stored, Refused> {
    let stored = id.parse::<u64>().ok().and_then(|id| state.account.messages.stored.iter().find(|it| it.id == id));
    stored.filter(|it| it.extension == extension).ok_or_else(|| Refused::not_found("messageId", id))
}

/// `GET …/message-store/{id}`.
pub(in super::super) fn get(state: &State, extension: &str, id: &str) -> Result<Reply, Refused> {
    found(state, extension, id).map(|stored| json_reply(StatusCode::OK, &stored.record))
}

/// `GET …/message-store/{id},{id}`: each part has a status.
pub(in super::super) fn several(state: &State, call: &Call, extension: &str, ids: &str) -> Reply {
    batch(call, ids, |id| {
        let uri = state.extension_uri(extension, &format!("/message-store/{id}"));
        (uri, found(state, extension, id).map(|stored| stored.record.clone()))
    })
}

/// `GET …/message-store/{id}/content/{id}`: the text of a message, or a short file of the attachment's type.
pub(in super::super) fn content(state: &State, extension: &str, id: &str, attachment: &str) -> Result<Reply, Refused> {
    let record = &found(state, extension, id)?.record;
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
pub(in super::super) fn update(
    state: &mut State,
    call: &Call,
    extension: &str,
    id: &str,
) -> Result<(Reply, Vec<DomainEvent>), Refused> {
    let key = found(state, extension, id)?.id;
    let body = super::super::messages::body(call)?;
    let change = match body["readStatus"].as_str() {
        Some("Read") => Change::Read,
        Some("Unread") => Change::Unread,
        _ => return Err(Refused::parameter("readStatus")),
    };
    let domain_events = state.change_message(key, change);
    Ok((get(state, extension, id)?, domain_events))
}

/// `DELETE …/message-store/{id}`, or of several ids; `purge=true` deletes permanently.
pub(in super::super) fn delete(
    state: &mut State,
    call: &Call,
    extension: &str,
    id: &str,
) -> Result<(Reply, Vec<DomainEvent>), Refused> {
    let keys = id.split(',').map(|id| found(state, extension, id).map(|it| it.id)).collect::<Result<Vec<_>, _>>()?;
    let purge = call.query("purge").is_some_and(|purge| purge == "true");
    let change = if purge { Change::Purge } else { Change::Delete };
    let domain_events = keys.into_iter().flat_map(|key| state.change_message(key, change)).collect();
    Ok((empty_reply(StatusCode::NO_CONTENT), domain_events))
}
