//! Extensions and their presence.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::{Value, json};

use super::params::{batch, body, count_in, id_number};
use crate::context::Context;
use crate::filters::{DomainEvent, EventUri, Outcome};
use crate::fixtures::caller;
use crate::http::{Call, Refused, Reply, json_reply};
use crate::random::number;

/// Names and presence of the extensions.
#[derive(Debug, Default)]
pub(crate) struct People {
    /// The last reported presence, by extension and level of detail.
    presence: BTreeMap<String, [Value; 3]>,
    /// Assigned names.
    names: BTreeMap<String, String>,
    renames: u64,
    sequence: u64,
}

/// A change of an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExtensionChange {
    Create,
    Update,
    Delete,
}

impl People {
    /// The number of the next presence or telephony event.
    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// The last reported presence, if there is one.
    fn last_presence(&self, extension: &str) -> Option<[Value; 3]> {
        self.presence.get(extension).cloned()
    }

    /// Stores a presence in its three forms: plain, detailed, with SIP data.
    fn set_presence(&mut self, extension: &str, bodies: [Value; 3]) {
        self.presence.insert(extension.to_owned(), bodies);
    }

    /// Changes the list of extensions and returns the events. Does nothing when creating a known
    /// extension or changing an unknown one.
    pub(crate) fn change_extension(
        &mut self,
        ctx: &mut Context,
        id: &str,
        change: ExtensionChange,
    ) -> Vec<DomainEvent> {
        let others = &mut ctx.behavior.account.other_extensions;
        let at = others.iter().position(|other| other == id);
        let what = match (change, at) {
            (ExtensionChange::Create, None) if id != ctx.identity.extension_id => {
                others.push(id.to_owned());
                "Create"
            }
            (ExtensionChange::Delete, Some(at)) => {
                others.remove(at);
                "Delete"
            }
            (ExtensionChange::Update, Some(_)) => {
                self.renames += 1;
                let name = format!("Renamed {}", self.renames);
                self.names.insert(id.to_owned(), name);
                "Update"
            }
            _ => return Vec::new(),
        };
        let account = ctx.identity.account_id.clone();
        let list = format!("/restapi/v1.0/account/{account}/extension");
        let mut changed = json!({ "extensionId": id, "eventType": what });
        if what == "Update" {
            changed["hints"] = json!(["ExtensionInfo"]);
        }
        let mut all = vec![DomainEvent::new(&ctx.identity, &list, &json!({ "extensions": [changed] }))];
        if what != "Create" {
            all.push(DomainEvent::new(&ctx.identity, &format!("{list}/{id}"), &changed));
        }
        all
    }

    fn extensions(ctx: &Context) -> impl Iterator<Item = &str> {
        let others = ctx.behavior.account.other_extensions.iter().map(String::as_str);
        std::iter::once(&*ctx.identity.extension_id).chain(others)
    }

    fn extension_record(&self, ctx: &Context, id: &str, at: usize) -> Value {
        let default = if at == 0 { "Sandbox User".to_owned() } else { format!("Colleague {at}") };
        json!({
            "uri": ctx.extension_uri(id, ""),
            "id": id_number(id),
            "extensionNumber": (101 + at).to_string(),
            "name": self.names.get(id).unwrap_or(&default),
            "type": "User",
            "status": "Enabled",
        })
    }

    fn extension_info(&self, ctx: &Context, extension: &str) -> Value {
        let at = Self::extensions(ctx).position(|other| other == extension).unwrap_or(0);
        let mut body = self.extension_record(ctx, extension, at);
        let account = format!("{}/restapi/v1.0/account/{}", ctx.base_url, ctx.identity.account_id);
        body["contact"] = json!({ "firstName": "Sandbox", "lastName": "User", "email": "user@sandbox.invalid" });
        body["account"] = json!({ "id": ctx.identity.account_id, "uri": account });
        body
    }

    fn presence_record(&self, ctx: &Context, id: &str, richness: usize) -> Value {
        let simple = json!({
            "presenceStatus": "Available",
            "telephonyStatus": "NoCall",
            "userStatus": "Available",
            "dndStatus": "TakeAllCalls",
            "allowSeeMyPresence": true,
            "ringOnMonitoredCall": false,
            "pickUpCallsOnHold": false,
        });
        let known = self.presence.get(id).and_then(|bodies| bodies.get(richness));
        let mut record = known.cloned().unwrap_or(simple);
        if let Some(fields) = record.as_object_mut() {
            // The event has these fields, unlike the resource.
            for name in ["sequence", "extensionId", "totalActiveCalls"] {
                fields.remove(name);
            }
            let at = Self::extensions(ctx).position(|other| other == id).unwrap_or(0);
            fields.insert("uri".into(), json!(ctx.extension_uri(id, "/presence")));
            fields.insert(
                "extension".into(),
                json!({
                    "id": id_number(id),
                    "uri": ctx.extension_uri(id, ""),
                    "extensionNumber": (101 + at).to_string(),
                }),
            );
        }
        record
    }
}

fn richness(call: &Call) -> usize {
    let is = |name| call.query(name).is_some_and(|value| value == "true");
    match (is("detailedTelephonyState"), is("sipData")) {
        (true, true) => 2,
        (true, false) => 1,
        (false, _) => 0,
    }
}

/// `GET …/extension/{id}/presence`.
pub(crate) fn presence(own: &People, ctx: &Context, call: &Call, extension: &str) -> Reply {
    json_reply(StatusCode::OK, &own.presence_record(ctx, extension, richness(call)))
}

/// `GET …/extension/{id},{id}/presence`: each part has a status.
pub(crate) fn presences(own: &People, ctx: &Context, call: &Call, ids: &str) -> Reply {
    let richness = richness(call);
    batch(call, ids, |id| {
        let known = ctx.extension_of(id).ok_or_else(|| Refused::not_found("extensionId", id));
        (ctx.extension_uri(id, "/presence"), known.map(|known| own.presence_record(ctx, &known, richness)))
    })
}

/// `GET …/extension/{id},{id}`: each part has a status.
pub(crate) fn several(own: &People, ctx: &Context, call: &Call, ids: &str) -> Reply {
    batch(call, ids, |id| {
        let known = ctx.extension_of(id).ok_or_else(|| Refused::not_found("extensionId", id));
        (ctx.extension_uri(id, ""), known.map(|known| own.extension_info(ctx, &known)))
    })
}

/// `PUT …/extension/~/presence`: only for the user's extension.
pub(crate) fn set(own: &mut People, ctx: &mut Context, call: &Call, extension: &str) -> Outcome {
    if extension != ctx.identity.extension_id {
        return Err(Refused::permission("CMN-408", "user", "EditPresenceStatus"));
    }
    let asked = body(call)?;
    let is_one_of = |name: &str, known: &[&str]| match &asked[name] {
        Value::Null => Ok(None),
        Value::String(value) if known.contains(&value.as_str()) => Ok(Some(value.clone())),
        _ => Err(Refused::parameter(name)),
    };
    let user = is_one_of("userStatus", &["Available", "Busy", "Offline"])?;
    let dnd = ["TakeAllCalls", "DoNotAcceptDepartmentCalls", "TakeDepartmentCallsOnly", "DoNotAcceptAnyCalls"];
    let dnd = is_one_of("dndStatus", &dnd)?;
    let mut changes = serde_json::Map::new();
    if let Some(user) = user {
        changes.insert("presenceStatus".into(), json!(user));
        changes.insert("userStatus".into(), json!(user));
    }
    changes.extend(dnd.map(|dnd| ("dndStatus".to_owned(), json!(dnd))));
    for name in ["message", "allowSeeMyPresence", "ringOnMonitoredCall", "pickUpCallsOnHold"] {
        changes.extend(asked.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    let event = change_presence(own, ctx, &changes);
    Ok((presence(own, ctx, call, extension), vec![event]))
}

/// `GET …/account/{id}/presence`: all extensions, paged.
pub(crate) fn account_presence(own: &People, ctx: &Context, call: &Call) -> Result<Reply, Refused> {
    let richness = richness(call);
    let all: Vec<&str> = People::extensions(ctx).collect();
    paged(ctx, call, "/presence", &all, |_, id| own.presence_record(ctx, id, richness))
}

/// `GET …/account/{id}/extension`: all extensions, paged.
pub(crate) fn list(own: &People, ctx: &Context, call: &Call) -> Result<Reply, Refused> {
    let all: Vec<&str> = People::extensions(ctx).collect();
    paged(ctx, call, "/extension", &all, |at, id| own.extension_record(ctx, id, at))
}

fn paged(
    ctx: &Context,
    call: &Call,
    tail: &str,
    all: &[&str],
    record: impl Fn(usize, &str) -> Value,
) -> Result<Reply, Refused> {
    let page = count_in(call, "page")?.unwrap_or(1);
    let per_page = count_in(call, "perPage")?.unwrap_or(100).min(1000);
    let start = (page - 1).saturating_mul(per_page);
    let shown = all.iter().enumerate().skip(start).take(per_page);
    let records: Vec<Value> = shown.map(|(at, id)| record(at, id)).collect();
    let uri = format!("{}/restapi/v1.0/account/{}{tail}", ctx.base_url, ctx.identity.account_id);
    let mut navigation = json!({ "firstPage": { "uri": format!("{uri}?page=1&perPage={per_page}") } });
    if start + records.len() < all.len() {
        navigation["nextPage"] = json!({ "uri": format!("{uri}?page={}&perPage={per_page}", page + 1) });
    }
    let paging = json!({
        "page": page,
        "perPage": per_page,
        "pageStart": start,
        "totalPages": all.len().div_ceil(per_page),
        "totalElements": all.len(),
    });
    let body = json!({ "uri": uri, "records": records, "paging": paging, "navigation": navigation });
    Ok(json_reply(StatusCode::OK, &body))
}

/// `GET …/extension/{id}`.
pub(crate) fn get(own: &People, ctx: &Context, extension: &str) -> Reply {
    json_reply(StatusCode::OK, &own.extension_info(ctx, extension))
}

/// Reports a presence of the user; returns its event.
pub(super) fn report(
    own: &mut People,
    ctx: &mut Context,
    presence_status: &str,
    telephony_status: &str,
) -> DomainEvent {
    let sequence = own.next_sequence();
    let identity = ctx.identity.clone();
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
        let session = number(&mut ctx.rng, 12);
        let mut call = json!({
            "id": number(&mut ctx.rng, 12),
            "direction": "Inbound",
            "queueCall": false,
            "from": caller(),
            "to": identity.phone_number,
            "startTime": ctx.write_time(ctx.moment().wall),
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
    own.set_presence(&identity.extension_id, [simple.clone(), detailed.clone(), with_sip.clone()]);
    let uri = EventUri { path: ctx.extension_path(&ctx.identity.extension_id, "/presence"), query: String::new() };
    DomainEvent { uri, bodies: vec![simple.to_string(), detailed.to_string(), with_sip.to_string()] }
}

/// Changes fields of the user's presence and returns the events.
fn change_presence(own: &mut People, ctx: &mut Context, changes: &serde_json::Map<String, Value>) -> DomainEvent {
    let extension = ctx.identity.extension_id.clone();
    if own.last_presence(&extension).is_none() {
        drop(report(own, ctx, "Available", "NoCall"));
    }
    let sequence = own.next_sequence();
    let mut bodies = own.last_presence(&extension).unwrap_or_default();
    for body in &mut bodies {
        body["sequence"] = json!(sequence);
        for (name, value) in changes {
            body[name.as_str()] = value.clone();
        }
    }
    own.set_presence(&extension, bodies.clone());
    let uri = EventUri { path: ctx.extension_path(&ctx.identity.extension_id, "/presence"), query: String::new() };
    DomainEvent { uri, bodies: bodies.iter().map(Value::to_string).collect() }
}
