//! `GET …/message-sync`.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use serde_json::{Value, json};

use super::messages::{Messages, Stored};
use super::params::{count_in, time_in};
use super::token::{Token, from_millis, to_millis};
use crate::behavior::StaleToken;
use crate::clock::earlier_on;
use crate::context::Context;
use crate::http::{Call, Refused, Reply, json_reply};

const RESOURCE: &str = "message-sync";
/// The documented time frame of a full sync without `dateFrom`.
const FRAME: Duration = Duration::from_secs(86_400);

/// Answers a sync, full or incremental.
pub(crate) fn answer(own: &Messages, ctx: &Context, call: &Call, extension: &str) -> Result<Reply, Refused> {
    match call.query("syncType").as_deref() {
        None | Some("FSync") => full(own, ctx, call, extension),
        Some("ISync") => incremental(own, ctx, call, extension),
        Some(_) => Err(Refused::parameter("syncType")),
    }
}

fn full(own: &Messages, ctx: &Context, call: &Call, extension: &str) -> Result<Reply, Refused> {
    let now = ctx.service_now();
    let to = time_in(call, "dateTo")?.unwrap_or(now);
    let from = time_in(call, "dateFrom")?.unwrap_or(to - FRAME);
    let count = count_in(call, "recordCount")?.unwrap_or(usize::MAX);
    let (types, directions) = (call.query_all("messageType"), call.query_all("direction"));
    let (mut records, mut older) = (Vec::new(), false);
    for stored in own.of(extension) {
        let inside = stored.created <= to && stored.is_alive() && fits(stored, &types, &directions);
        if inside && stored.created >= from && records.len() < count {
            records.push(stored.record.clone());
        } else if inside && (stored.created >= from || ctx.behavior.account.older_beyond_frame) {
            older = true;
        }
    }
    let at = to_millis(now);
    let token = Token { resource: RESOURCE.into(), at, from: to_millis(from), types, directions };
    Ok(reply(ctx, extension, "FSync", &records, &token, now, older))
}

fn incremental(own: &Messages, ctx: &Context, call: &Call, extension: &str) -> Result<Reply, Refused> {
    let behavior = &ctx.behavior.account;
    let text = call.query("syncToken").ok_or_else(|| Refused::parameter("syncToken"))?;
    let token = Token::read(&text).filter(|token| token.resource == RESOURCE);
    let token = token.ok_or_else(|| Refused::parameter("syncToken"))?;
    let (now, made) = (ctx.service_now(), from_millis(token.at));
    let age = now.duration_since(made).unwrap_or_default();
    if behavior.refuse_message_tokens || age > behavior.message_token_life {
        return Err(match behavior.stale_message_token {
            StaleToken::Msg333 => Refused::new(400, "MSG-333", "Full synchronization is required"),
            StaleToken::Cmn101 => Refused::parameter("syncToken"),
        });
    }
    let (since, frame) = (earlier_on(made, behavior.sync_overlap), from_millis(token.from));
    let mut changed: Vec<&Stored> = own
        .of(extension)
        .filter(|it| it.modified >= since && (it.created >= frame || !behavior.frame_hides_older))
        .filter(|it| fits(it, &token.types, &token.directions))
        .collect();
    changed.sort_by_key(|it| std::cmp::Reverse(it.modified));
    let records: Vec<Value> = changed
        .into_iter()
        .map(|it| match it.is_alive() {
            true => it.record.clone(),
            false => json!({ "id": it.id, "availability": it.record["availability"] }),
        })
        .collect();
    let next = Token { at: to_millis(now), ..token };
    Ok(reply(ctx, extension, "ISync", &records, &next, now, false))
}

fn fits(stored: &Stored, types: &[String], directions: &[String]) -> bool {
    stored.is("type", types) && stored.is("direction", directions)
}

fn reply(
    ctx: &Context,
    extension: &str,
    kind: &str,
    records: &[Value],
    token: &Token,
    now: SystemTime,
    older: bool,
) -> Reply {
    let body = json!({
        "uri": format!("{}?syncType={kind}", ctx.extension_uri(extension, "/message-sync")),
        "records": records,
        "syncInfo": {
            "syncType": kind,
            "syncToken": token.write(),
            "syncTime": ctx.write_service_time(now),
            "olderRecordsExist": older,
        },
    });
    json_reply(StatusCode::OK, &body)
}
