//! Insights of recorded calls and meetings.

use std::collections::VecDeque;

use http::StatusCode;
use serde_json::{Value, json};

use super::params::keep;
use crate::context::Context;
use crate::filters::DomainEvent;
use crate::http::{Refused, Reply, json_reply};
use crate::random::uuid;

const KEPT: usize = 2_000;

/// The insights of each session, oldest session first.
#[derive(Debug, Default)]
pub(crate) struct Insights {
    records: VecDeque<Value>,
}

impl Insights {
    /// Makes insights of a session, or adds to them; returns their event.
    pub(crate) fn add_insights(
        &mut self,
        ctx: &mut Context,
        domain: &str,
        session: &str,
        summary: &str,
    ) -> DomainEvent {
        let (_, now) = ctx.written_now();
        let known = |record: &&mut Value| record["domain"] == domain && record["sourceSessionId"] == session;
        let record = if let Some(record) = self.records.iter_mut().find(known) {
            record["lastModifiedTime"] = json!(now);
            if let Some(list) = record["insights"]["Summary"].as_array_mut() {
                list.push(json!({ "value": summary }));
            }
            record.clone()
        } else {
            let extension = ctx.identity.extension_id.clone();
            let record = json!({
                "eventType": "Create",
                "title": "Inbound call",
                "rsRecordUri": format!("{}/calls/{}", ctx.base_url, uuid(&mut ctx.rng)),
                "domain": domain,
                "sourceSessionId": session,
                "sourceRecordId": format!("r-{session}"),
                "callDirection": "Inbound",
                "ownerExtensionId": extension,
                "recordingDurationMs": 42_000,
                "recordingStartTime": now,
                "creationTime": now,
                "lastModifiedTime": now,
                "speakerInfo": [{ "speakerId": "1", "name": "Sandbox User", "extensionId": extension }],
                "insights": { "Summary": [{ "value": summary }] },
            });
            keep(&mut self.records, record.clone(), KEPT);
            record
        };
        let account = &ctx.identity.account_id;
        DomainEvent::new(
            &ctx.identity,
            &format!("/ai/ringsense/v1/public/accounts/{account}/domains/{domain}/insights"),
            &record,
        )
    }
}

/// `GET …/domains/{domain}/sessions/{id}/insights`: as the event has them, without its type.
pub(crate) fn of_session(own: &Insights, ctx: &Context, domain: &str, session: &str) -> Result<Reply, Refused> {
    let behavior = &ctx.behavior.account;
    // Documented: for the other domains push is the only way.
    let is_served = matches!(domain, "pbx" | "rcv");
    let of_it = |record: &&Value| is_served && record["domain"] == domain && record["sourceSessionId"] == session;
    let mut records: Vec<Value> = own.records.iter().filter(of_it).cloned().collect();
    for record in &mut records {
        record.as_object_mut().map(|record| record.remove("eventType"));
    }
    let answer = match records.pop() {
        None if !behavior.empty_insights || !is_served => {
            return Err(Refused::not_found("sourceSessionId", session));
        }
        record if behavior.insights_in_list => json!({ "records": Vec::from_iter(record) }),
        record => record.unwrap_or_else(|| json!({})),
    };
    Ok(json_reply(StatusCode::OK, &answer))
}
