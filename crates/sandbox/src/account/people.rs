//! Extensions and their presence.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::{Value, json};

use super::super::delivery::DomainEvent;
use super::super::fixtures_apply::{self, domain_event};
use super::super::http::{Call, Refused, Reply, json_reply};
use super::super::state::State;
use super::{batch, count_in, id_number};

/// Names and presence of the extensions.
#[derive(Debug, Default)]
pub(in super::super) struct People {
    /// The last reported presence, by extension and level of detail.
    presence: BTreeMap<String, [Value; 3]>,
    /// Assigned names.
    names: BTreeMap<String, String>,
    renames: u64,
}

/// A change of an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum ExtensionChange {
    Create,
    Update,
    Delete,
}

impl State {
    /// The last reported presence, if there is one.
    pub(in super::super) fn last_presence(&self, extension: &str) -> Option<[Value; 3]> {
        self.account.people.presence.get(extension).cloned()
    }

    /// Stores a presence in its three forms: plain, detailed, with SIP data.
    pub(in super::super) fn set_presence(&mut self, extension: &str, bodies: [Value; 3]) {
        self.account.people.presence.insert(extension.to_owned(), bodies);
    }

    /// Changes the list of extensions and returns the events. Does nothing when creating a known
    /// extension or changing an unknown one.
    pub(in super::super) fn change_extension(&mut self, id: &str, change: ExtensionChange) -> Vec<DomainEvent> {
        let others = &mut self.knobs.account.other_extensions;
        let at = others.iter().position(|other| other == id);
        let what = match (change, at) {
            (ExtensionChange::Create, None) if id != self.identity.extension_id => {
                others.push(id.to_owned());
                "Create"
            }
            (ExtensionChange::Delete, Some(at)) => {
                others.remove(at);
                "Delete"
            }
            (ExtensionChange::Update, Some(_)) => {
                self.account.people.renames += 1;
                let name = format!("Renamed {}", self.account.people.renames);
                self.account.people.names.insert(id.to_owned(), name);
                "Update"
            }
            _ => return Vec::new(),
        };
        let account = self.identity.account_id.clone();
        let list = format!("/restapi/v1.0/account/{account}/extension");
        let mut changed = json!({ "extensionId": id, "eventType": what });
        if what == "Update" {
            changed["hints"] = json!(["ExtensionInfo"]);
        }
        let mut all = vec![domain_event(self, &list, &json!({ "extensions": [changed] }))];
        if what != "Create" {
            all.push(domain_event(self, &format!("{list}/{id}"), &changed));
        }
        all
    }

    fn extensions(&self) -> impl Iterator<Item = &str> {
        let others = self.knobs.account.other_extensions.iter().map(String::as_str);
        std::iter::once(&*self.identity.extension_id).chain(others)
    }

    fn extension_record(&self, id: &str, at: usize) -> Value {
        let default = if at == 0 { "Sandbox User".to_owned() } else { format!("Colleague {at}") };
        json!({
            "uri": self.extension_uri(id, ""),
            "id": id_number(id),
            "extensionNumber": (101 + at).to_string(),
            "name": self.account.people.names.get(id).unwrap_or(&default),
            "type": "User",
            "status": "Enabled",
        })
    }

    fn extension_info(&self, extension: &str) -> Value {
        let at = self.extensions().position(|other| other == extension).unwrap_or(0);
        let mut body = self.extension_record(extension, at);
        let account = format!("{}/restapi/v1.0/account/{}", self.base_url, self.identity.account_id);
        body["contact"] = json!({ "firstName": "Sandbox", "lastName": "User", "email": "user@sandbox.invalid" });
        body["account"] = json!({ "id": self.identity.account_id, "uri": account });
        body
    }

    fn presence_record(&self, id: &str, richness: usize) -> Value {
        let simple = json!({
            "presenceStatus": "Available",
            "telephonyStatus": "NoCall",
            "userStatus": "Available",
            "dndStatus": "TakeAllCalls",
            "allowSeeMyPresence": true,
            "ringOnMonitoredCall": false,
            "pickUpCallsOnHold": false,
        });
        let known = self.account.people.presence.get(id).and_then(|bodies| bodies.get(richness));
        let mut record = known.cloned().unwrap_or(simple);
        if let Some(fields) = record.as_object_mut() {
            // The event has these fields, unlike the resource.
            for name in ["sequence", "extensionId", "totalActiveCalls"] {
                fields.remove(name);
            }
            let at = self.extensions().position(|other| other == id).unwrap_or(0);
            fields.insert("uri".into(), json!(self.extension_uri(id, "/presence")));
            fields.insert(
                "extension".into(),
                json!({
                    "id": id_number(id),
                    "uri": self.extension_uri(id, ""),
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
pub(in super::super) fn presence(state: &State, call: &Call, extension: &str) -> Reply {
    json_reply(StatusCode::OK, &state.presence_record(extension, richness(call)))
}

/// `GET …/extension/{id},{id}/presence`: each part has a status.
pub(in super::super) fn presences(state: &State, call: &Call, ids: &str) -> Reply {
    let richness = richness(call);
    batch(call, ids, |id| {
        let known = state.extension_of(id).ok_or_else(|| Refused::not_found("extensionId", id));
        (state.extension_uri(id, "/presence"), known.map(|known| state.presence_record(&known, richness)))
    })
}

/// `GET …/extension/{id},{id}`: each part has a status.
pub(in super::super) fn several(state: &State, call: &Call, ids: &str) -> Reply {
    batch(call, ids, |id| {
        let known = state.extension_of(id).ok_or_else(|| Refused::not_found("extensionId", id));
        (state.extension_uri(id, ""), known.map(|known| state.extension_info(&known)))
    })
}

/// `PUT …/extension/~/presence`: only for the user's extension.
pub(in super::super) fn set(
    state: &mut State,
    call: &Call,
    extension: &str,
) -> Result<(Reply, Vec<DomainEvent>), Refused> {
    if extension != state.identity.extension_id {
        return Err(Refused::new(
            403,
            "CMN-408",
            "In order to call this API endpoint, user needs to have [EditPresenceStatus] permission",
        ));
    }
    let asked = super::super::messages::body(call)?;
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
    let event = fixtures_apply::change_presence(state, &changes);
    Ok((presence(state, call, extension), vec![event]))
}

/// `GET …/account/{id}/presence`: all extensions, paged.
pub(in super::super) fn account_presence(state: &State, call: &Call) -> Result<Reply, Refused> {
    let richness = richness(call);
    let all: Vec<&str> = state.extensions().collect();
    paged(state, call, "/presence", &all, |_, id| state.presence_record(id, richness))
}

/// `GET …/account/{id}/extension`: all extensions, paged.
pub(in super::super) fn list(state: &State, call: &Call) -> Result<Reply, Refused> {
    let all: Vec<&str> = state.extensions().collect();
    paged(state, call, "/extension", &all, |at, id| state.extension_record(id, at))
}

fn paged(
    state: &State,
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
    let uri = format!("{}/restapi/v1.0/account/{}{tail}", state.base_url, state.identity.account_id);
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
pub(in super::super) fn get(state: &State, extension: &str) -> Reply {
    json_reply(StatusCode::OK, &state.extension_info(extension))
}
