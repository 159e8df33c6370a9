//! High-volume messages.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use serde_json::{Value, json};

use super::params::{count_in, keep, time_in};
use crate::context::Context;
use crate::filters::DomainEvent;
use crate::http::{Call, Refused, Reply, json_reply};

const KEPT: usize = 20_000;

/// The messages, oldest first, with their creation times.
#[derive(Debug, Default)]
pub(crate) struct A2p {
    messages: VecDeque<(SystemTime, Value)>,
    last_id: u64,
}

impl A2p {
    /// Adds a message to the account; returns its id and its event.
    pub(crate) fn add_a2p(&mut self, ctx: &mut Context, direction: &str, from: &str, text: &str) -> DomainEvent {
        let (created, now) = ctx.written_now();
        let inbound = direction == "Inbound";
        self.last_id += 1;
        let record = json!({
            "id": 7_000_000 + self.last_id,
            "from": from,
            "to": [ctx.identity.phone_number],
            "text": text,
            "creationTime": now,
            "lastModifiedTime": now,
            "messageStatus": if inbound { "Delivered" } else { "Queued" },
            "segmentCount": 1,
            "cost": 0.007,
            "direction": direction,
        });
        keep(&mut self.messages, (created, record.clone()), KEPT);
        change_event(ctx, &record)
    }

    /// Changes a message's status; does nothing if the id is unknown.
    pub(crate) fn change_a2p(&mut self, ctx: &mut Context, id: u64, status: &str) -> Vec<DomainEvent> {
        let (_, now) = ctx.written_now();
        let Some((_, record)) = self.messages.iter_mut().find(|(_, record)| record["id"] == id) else {
            return Vec::new();
        };
        record["messageStatus"] = json!(status);
        record["lastModifiedTime"] = json!(now);
        let record = record.clone();
        vec![change_event(ctx, &record)]
    }
}

fn change_event(ctx: &Context, record: &Value) -> DomainEvent {
    let direction = record["direction"].as_str().unwrap_or_default();
    let uri = format!("/restapi/v1.0/account/{}/a2p-sms/messages?direction={direction}", ctx.identity.account_id);
    DomainEvent::new(&ctx.identity, &uri, record)
}

/// `GET …/a2p-sms/messages`: newest first, paged; texts with `view=Detailed`.
pub(crate) fn list(own: &A2p, ctx: &Context, call: &Call) -> Result<Reply, Refused> {
    let to = time_in(call, "dateTo")?.unwrap_or_else(|| ctx.service_now());
    let from = time_in(call, "dateFrom")?.unwrap_or(to - Duration::from_secs(86_400));
    let per_page = count_in(call, "perPage")?.unwrap_or(1000).min(1000);
    let start = match call.query("pageToken") {
        Some(text) => text.parse().map_err(|_| Refused::parameter("pageToken"))?,
        None => 0_usize,
    };
    let detailed = call.query("view").is_some_and(|view| view == "Detailed");
    let directions = call.query_all("direction");
    let all: Vec<&Value> = own
        .messages
        .iter()
        .rev()
        .filter(|(created, _)| *created >= from && *created <= to)
        .map(|(_, record)| record)
        .filter(|record| directions.is_empty() || directions.iter().any(|it| record["direction"] == **it))
        .collect();
    let shown: Vec<Value> = all
        .iter()
        .skip(start)
        .take(per_page)
        .map(|record| {
            let mut record = (*record).clone();
            if let (false, Some(fields)) = (detailed, record.as_object_mut()) {
                fields.remove("text");
            }
            record
        })
        .collect();
    let end = start.saturating_add(shown.len());
    let mut paging = json!({ "perPage": per_page });
    if end < all.len() {
        paging["nextPageToken"] = json!(end.to_string());
    }
    Ok(json_reply(StatusCode::OK, &json!({ "records": shown, "paging": paging })))
}
