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
/// Calls under way; more are dropped, oldest first.
const KEPT_ACTIVE: usize = 2_000;
const RESOURCE: &str = "call-log-sync";
/// Documented: how far back a full sync may reach.
const REACH: Duration = Duration::from_secs(30 * 86_400);

/// The calls of all extensions, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    ended: VecDeque<Ended>,
    active: VecDeque<Active>,
}

/// A call that is under way, or ended a short time ago.
#[derive(Clone, Debug)]
struct Active {
    extension: String,
    session: String,
    /// When `active-calls` shows it.
    visible: SystemTime,
    ended: Option<SystemTime>,
    /// The resource of its session.
    resource: Value,
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
    /// The voicemail that it left.
    pub(crate) message: Option<u64>,
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
            let content = format!("{uri}/content");
            record["recording"] = json!({ "id": id, "uri": uri, "type": "Automatic", "contentUri": content });
        }
        if let Some(message) = new.message {
            let uri = ctx.extension_uri(&extension, &format!("/message-store/{message}"));
            record["message"] = json!({ "id": message.to_string(), "type": "VoiceMail", "uri": uri });
        }
        let visible = later_on(start, ctx.behavior.account.call_log_delay);
        keep(&mut self.ended, Ended { extension, start, visible, record }, KEPT);
    }

    /// A call changed: `body` is the event about it.
    pub(crate) fn changed(&mut self, ctx: &Context, session: &str, body: &Value, is_over: bool) {
        let (now, text) = ctx.written_now();
        let resource = json!({
            "id": body["telephonySessionId"], "sessionId": session, "origin": body["origin"],
            "parties": body["parties"], "creationTime": text,
        });
        if !self.active.iter().any(|call| call.session == session) {
            let visible = later_on(now, ctx.behavior.account.active_calls_delay);
            let extension = ctx.identity.extension_id.clone();
            let resource = Value::Null;
            let call = Active { extension, session: session.to_owned(), visible, ended: None, resource };
            keep(&mut self.active, call, KEPT_ACTIVE);
        }
        for call in self.active.iter_mut().filter(|call| call.session == session) {
            call.ended = is_over.then_some(now);
            call.resource.clone_from(&resource);
        }
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

/// `GET …/telephony/sessions/{id}`: a call that is under way.
pub(crate) fn session(own: &Calls, id: &str) -> Result<Reply, Refused> {
    let is_this = |call: &&Active| call.ended.is_none() && call.resource["id"] == id;
    let call = own.active.iter().find(is_this).ok_or_else(|| Refused::not_found("telephonySessionId", id))?;
    Ok(json_reply(StatusCode::OK, &call.resource))
}

/// `GET …/active-calls` of an extension, or of the account.
pub(crate) fn active(own: &Calls, ctx: &Context, call: &Call, extension: Option<&str>) -> Result<Reply, Refused> {
    let now = ctx.service_now();
    let page = count_in(call, "page")?.unwrap_or(1);
    let per_page = count_in(call, "perPage")?.unwrap_or(100).min(1000);
    let is_kept = |ended: SystemTime| now < later_on(ended, ctx.behavior.account.active_calls_kept);
    let shown = own
        .active
        .iter()
        .rev()
        .filter(|call| extension.is_none_or(|extension| call.extension == extension))
        .filter(|call| call.visible <= now && call.ended.is_none_or(is_kept));
    let records: Vec<Value> = shown
        .skip((page - 1).saturating_mul(per_page))
        .take(per_page)
        .map(|call| {
            let party = &call.resource["parties"][0];
            json!({
                "id": call.session,
                "sessionId": call.session,
                "telephonySessionId": call.resource["id"],
                "partyId": party["id"],
                "startTime": call.resource["creationTime"],
                "direction": party["direction"],
                "from": party["from"],
                "to": party["to"],
                "type": "Voice",
                "action": "Phone Call",
                "result": "In Progress",
                "extension": { "id": id_number(&call.extension) },
            })
        })
        .collect();
    let uri = format!("{}{}", ctx.base_url, resource_path(ctx, extension, "active-calls"));
    let body = json!({ "uri": uri, "records": records, "paging": { "page": page, "perPage": per_page } });
    Ok(json_reply(StatusCode::OK, &body))
}

/// `GET …/recording/{id}`: the recording of a call in the log.
pub(crate) fn recording(own: &Calls, ctx: &Context, id: &str) -> Result<Reply, Refused> {
    let now = ctx.service_now();
    let is_this = |call: &&Ended| {
        call.record["recording"]["id"] == id
            && later_on(call.start, ctx.behavior.account.recording_delay) <= now
            && call.visible <= now
    };
    let call = own.ended.iter().find(is_this).ok_or_else(|| Refused::not_found("recordingId", id))?;
    let mut body = call.record["recording"].clone();
    body["contentType"] = json!("audio/mpeg");
    body["duration"] = call.record["duration"].clone();
    Ok(json_reply(StatusCode::OK, &body))
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
