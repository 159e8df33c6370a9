//! The call log.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use serde_json::{Value, json};

use super::params::{count_in, id_number, keep, time_in};
use super::token::{Token, from_millis, to_millis};
use crate::behavior::OldCallLog;
use crate::clock::{earlier_on, later_on};
use crate::context::Context;
use crate::http::{Call, Refused, Reply, json_reply};
use crate::random::number;

const KEPT: usize = 20_000;
const RESOURCE: &str = "call-log-sync";
/// Documented: how far back a full sync may reach.
const REACH: Duration = Duration::from_secs(30 * 86_400);

/// The calls of all extensions, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    ended: VecDeque<Ended>,
}

/// An ended call.
#[derive(Clone, Debug)]
struct Ended {
    extension: String,
    start: SystemTime,
    /// When the log shows it.
    visible: SystemTime,
    record: Value,
}

/// One call of the user.
pub(crate) struct NewCall<'a> {
    pub(crate) from: &'a str,
    /// In the log's words: `Missed`, `Call connected`, …
    pub(crate) result: &'a str,
    /// The session's number.
    pub(crate) session: &'a str,
    pub(crate) recorded: bool,
}

impl Calls {
    /// Logs a call that just ended; the log shows it after a delay.
    pub(crate) fn log_call(&mut self, ctx: &mut Context, new: &NewCall<'_>) {
        let (start, now) = ctx.written_now();
        let extension = ctx.identity.extension_id.clone();
        let session = new.session;
        let id = number(&mut ctx.rng, 12);
        let mut record = json!({
            "id": id,
            "uri": ctx.extension_uri(&extension, &format!("/call-log/{id}?view=Simple")),
            "sessionId": session,
            "telephonySessionId": format!("s-sandbox-{session}"),
            "partyId": format!("p-sandbox-{session}-1"),
            "startTime": now,
            "duration": if new.result == "Missed" { 0 } else { 42 },
            "type": "Voice",
            "direction": "Inbound",
            "action": "Phone Call",
            "result": new.result,
            "from": { "phoneNumber": new.from },
            "to": { "phoneNumber": ctx.identity.phone_number, "name": "Sandbox User" },
            "extension": { "id": id_number(&extension) },
            "lastModifiedTime": now,
        });
        if new.recorded && ctx.behavior.account.recording_in_log {
            let uri = format!("{}/restapi/v1.0/account/{}/recording/{id}", ctx.base_url, ctx.identity.account_id);
            record["recording"] = json!({ "id": id, "uri": uri, "type": "Automatic" });
        }
        let visible = later_on(start, ctx.behavior.account.call_log_delay);
        keep(&mut self.ended, Ended { extension, start, visible, record }, KEPT);
    }

    /// The calls that the log shows, newest first: of one extension, or of all.
    fn calls<'a>(&'a self, ctx: &Context, extension: Option<&'a str>) -> impl Iterator<Item = &'a Ended> {
        let now = ctx.service_now();
        let of = move |call: &&Ended| extension.is_none_or(|extension| call.extension == extension);
        self.ended.iter().rev().filter(of).filter(move |call| call.visible <= now)
    }
}

/// `GET …/call-log-sync` of an extension, or of the account.
pub(crate) fn sync(own: &Calls, ctx: &Context, call: &Call, extension: Option<&str>) -> Result<Reply, Refused> {
    let now = ctx.service_now();
    let (kind, records, token) = match call.query("syncType").as_deref() {
        None | Some("FSync") => full(own, ctx, call, extension, now)?,
        Some("ISync") => incremental(own, ctx, call, extension, now)?,
        Some(_) => return Err(Refused::parameter("syncType")),
    };
    let body = json!({
        "uri": format!("{}{}?syncType={kind}", ctx.base_url, resource_path(ctx, extension, "call-log-sync")),
        "records": records,
        "syncInfo": { "syncType": kind, "syncToken": token.write(), "syncTime": ctx.write_service_time(now) },
    });
    Ok(json_reply(StatusCode::OK, &body))
}

fn resource_path(ctx: &Context, extension: Option<&str>, name: &str) -> String {
    let account = format!("/restapi/v1.0/account/{}", ctx.identity.account_id);
    extension.map_or_else(|| format!("{account}/{name}"), |id| format!("{account}/extension/{id}/{name}"))
}

type Synced<'a> = (&'static str, Vec<&'a Value>, Token);

fn full<'a>(
    own: &'a Calls,
    ctx: &Context,
    call: &Call,
    extension: Option<&'a str>,
    now: SystemTime,
) -> Result<Synced<'a>, Refused> {
    let most = ctx.behavior.account.call_log_limit;
    let count = count_in(call, "recordCount")?.filter(|count| *count <= most);
    let count = count.ok_or_else(|| Refused::parameter("recordCount"))?;
    let from = time_in(call, "dateFrom")?.unwrap_or(now);
    let from = match ctx.behavior.account.old_call_log {
        OldCallLog::Refuse if from < now - REACH => return Err(Refused::parameter("dateFrom")),
        OldCallLog::Refuse => from,
        OldCallLog::Cut => from.max(now - REACH),
    };
    let only = status_group(call)?;
    let found = own.calls(ctx, extension).filter(|call| call.start >= from && fits(call, &only));
    let records = found.take(count).map(|call| &call.record).collect();
    let at = to_millis(now);
    let token =
        Token { resource: RESOURCE.into(), at, from: to_millis(from), types: only, directions: scope(extension) };
    Ok(("FSync", records, token))
}

fn incremental<'a>(
    own: &'a Calls,
    ctx: &Context,
    call: &Call,
    extension: Option<&'a str>,
    now: SystemTime,
) -> Result<Synced<'a>, Refused> {
    let behavior = &ctx.behavior.account;
    let refused = |code: &str, why: &str| Refused {
        parameter: Some(("syncToken".into(), None)),
        ..Refused::new(400, code.to_owned(), format!("Parameter [syncToken] is invalid{why}"))
    };
    let text = call.query("syncToken").ok_or_else(|| Refused::parameter("syncToken"))?;
    let token = Token::read(&text).filter(|token| token.resource == RESOURCE && token.directions == scope(extension));
    let token = token.ok_or_else(|| refused("CLG-101", ""))?;
    let made = from_millis(token.at);
    if behavior.refuse_call_log_tokens || now.duration_since(made).unwrap_or_default() > behavior.call_log_token_life {
        return Err(refused("CLG-102", " [token is expired]"));
    }
    let since = earlier_on(made, behavior.sync_overlap);
    let records: Vec<&Value> = own
        .calls(ctx, extension)
        .filter(|call| call.visible >= since && fits(call, &token.types))
        .map(|call| &call.record)
        .collect();
    if records.len() > behavior.call_log_limit {
        return Err(refused("CLG-104", " [max sync record number limit is exceeded]"));
    }
    Ok(("ISync", records, Token { at: to_millis(now), ..token }))
}

/// The scope of a token: one for the account is invalid for an extension.
fn scope(extension: Option<&str>) -> Vec<String> {
    extension.map(str::to_owned).into_iter().collect()
}

/// The requested results; empty for all.
fn status_group(call: &Call) -> Result<Vec<String>, Refused> {
    match call.query("statusGroup").as_deref() {
        None | Some("All") => Ok(Vec::new()),
        Some("Missed") => Ok(vec!["Missed".into()]),
        Some(_) => Err(Refused::parameter("statusGroup")),
    }
}

fn fits(call: &Ended, results: &[String]) -> bool {
    results.is_empty() || results.iter().any(|result| call.record["result"] == **result)
}

/// `GET …/call-log` of an extension, or of the account: newest first, paged.
pub(crate) fn list(own: &Calls, ctx: &Context, call: &Call, extension: Option<&str>) -> Result<Reply, Refused> {
    let now = ctx.service_now();
    let page = count_in(call, "page")?.unwrap_or(1);
    let per_page = count_in(call, "perPage")?.unwrap_or(100).min(1000);
    let to = time_in(call, "dateTo")?.unwrap_or(now);
    let from = time_in(call, "dateFrom")?.unwrap_or(to - Duration::from_secs(86_400));
    let found: Vec<&Value> = own
        .calls(ctx, extension)
        .filter(|call| call.start >= from && call.start <= to)
        .map(|call| &call.record)
        .collect();
    let start = (page - 1).saturating_mul(per_page);
    let records: Vec<&Value> = found.iter().skip(start).take(per_page).copied().collect();
    let uri = format!("{}{}", ctx.base_url, resource_path(ctx, extension, "call-log"));
    let mut navigation = json!({ "firstPage": { "uri": format!("{uri}?page=1&perPage={per_page}") } });
    if start + records.len() < found.len() {
        navigation["nextPage"] = json!({ "uri": format!("{uri}?page={}&perPage={per_page}", page + 1) });
    }
    let paging = json!({ "page": page, "perPage": per_page, "pageStart": start });
    let body = json!({ "uri": uri, "records": records, "paging": paging, "navigation": navigation });
    Ok(json_reply(StatusCode::OK, &body))
}
