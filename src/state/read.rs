//! The lists and their requests.

use std::future::Future;
use std::pin::Pin;
use std::time::SystemTime;

use http::Method;
use serde_json::value::RawValue;

use super::core::{Answer, Found, Listed, Request};
use crate::catch_up::{CatchUp as _, PresenceSnapshot, SyncRequest, account_path, extension_path, get};
use crate::error::{Error, ErrorKind, Result};
use crate::event::lenient::Lenient as _;
use crate::event::{CallRecord, EventFilter, EventKind, GapClosure, Notification, Origin, TelephonySession};
use crate::http::segment;
use crate::rest::Client;

/// Calls of one page.
const PAGE: usize = 100;

/// A list to read.
#[derive(Clone, Debug)]
pub(super) enum List {
    Presence {
        filter: EventFilter,
        is_detailed: bool,
    },
    /// The path of the account or extension.
    Calls {
        path: String,
    },
}

impl List {
    pub(super) fn what(&self) -> Listed {
        match self {
            Self::Presence { is_detailed, .. } => Listed::Presence { is_detailed: *is_detailed },
            Self::Calls { .. } => Listed::Calls,
        }
    }
}

/// The lists that the filters need: one for each extension or account, as detailed as its most detailed filter.
pub(super) fn lists(client: &Client, filters: &[EventFilter]) -> Vec<List> {
    let source = PresenceSnapshot::new(client.clone());
    let mut presence: Vec<(String, EventFilter, bool)> = Vec::new();
    let mut calls: Vec<String> = Vec::new();
    for filter in filters {
        let is_account = matches!(filter.kind(), EventKind::AccountPresence | EventKind::AccountTelephonySessions);
        let path = if is_account { account_path(filter) } else { extension_path(filter) };
        // The subscription refuses such a filter.
        let Ok(path) = path else { continue };
        match filter.kind() {
            EventKind::AccountTelephonySessions | EventKind::ExtensionTelephonySessions => calls.push(path),
            EventKind::ExtensionDnd => presence.push((path, filter.clone(), false)),
            _ if source.covers(filter) != GapClosure::Nothing && is_presence(filter.kind()) => {
                let is_detailed = filter.as_str().contains("detailedTelephonyState=true");
                presence.push((path, filter.clone(), is_detailed));
            }
            _ => {}
        }
    }
    // The last of a path wins.
    presence.sort_by_key(|(path, filter, is_detailed)| {
        (path.clone(), *is_detailed, filter.kind() != EventKind::ExtensionDnd, filter.as_str().len())
    });
    presence.reverse();
    presence.dedup_by(|a, b| a.0 == b.0);
    calls.sort();
    calls.dedup();
    let accounts: Vec<String> = calls.iter().filter(|path| !path.contains("/extension/")).cloned().collect();
    calls.retain(|path| !accounts.iter().any(|account| path.starts_with(&format!("{account}/extension/"))));
    let presence = presence.into_iter().map(|(_, filter, is_detailed)| List::Presence { filter, is_detailed });
    presence.chain(calls.into_iter().map(|path| List::Calls { path })).collect()
}

fn is_presence(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::ExtensionPresence
            | EventKind::DetailedExtensionPresence
            | EventKind::DetailedExtensionPresenceWithSip
            | EventKind::AccountPresence
    )
}

type Asked = Pin<Box<dyn Future<Output = Result<Answer>> + Send>>;

pub(super) fn ask(client: &Client, lists: &[List], request: Request) -> Asked {
    let (Request::Presence { list, .. } | Request::Calls { list, .. } | Request::Session { list, .. }) = &request;
    let list = lists.get(*list).cloned();
    let client = client.clone();
    Box::pin(async move {
        match (request, list) {
            (Request::Presence { from, .. }, Some(List::Presence { filter, .. })) => {
                let now = client.system().clock().wall();
                let filters = [filter];
                let source = PresenceSnapshot::new(client);
                let page = source.sync(SyncRequest::new(from.as_ref(), &filters, Some(now))).await?;
                let found = page.found.into_iter().filter_map(|found| presence(found.notification, now)).collect();
                Ok(Answer::Presence { found, more: page.more.then_some(page.next), is_whole: page.complete })
            }
            (Request::Calls { page, .. }, Some(List::Calls { path })) => {
                let query = [("view", "Simple".to_owned()), ("page", page.to_string()), ("perPage", PAGE.to_string())];
                let clock = client.system().clock();
                let listing = get(&client, &clock, &format!("{path}/active-calls"), &query).await?.body;
                let records = listing.records.iter().filter_map(|raw| CallRecord::read(raw.into()));
                let ids = records.filter_map(|record| record.telephony_session_id).collect();
                Ok(Answer::Calls { ids, more: listing.records.len() >= PAGE, is_whole: listing.is_whole })
            }
            (Request::Session { id, .. }, Some(List::Calls { path })) => {
                let account = path.split_once("/extension/").map_or(path.as_str(), |(account, _)| account);
                session(&client, &format!("{account}/telephony/sessions/{}", segment(id.as_str())?)).await
            }
            _ => Err(Error::new(ErrorKind::Internal, "a request for a list of another kind")),
        }
    })
}

fn presence(notification: Box<RawValue>, now: SystemTime) -> Option<Found> {
    let it = Notification::parse(notification, Origin::Snapshot, now).ok()?;
    let in_body = it.event().presence().and_then(|presence| presence.extension_id.as_ref());
    let extension = it.extension(in_body).to_owned();
    let at = it.timestamp().and_then(|at| at.system_time());
    Some(Found { extension: extension.into(), body: it.raw_body()?.to_owned(), at })
}

async fn session(client: &Client, path: &str) -> Result<Answer> {
    let response = match client.request(Method::GET, path).send().await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Answer::Session(None)),
        answer => answer?,
    };
    let read = |text: &str| TelephonySession::read(serde_json::from_str::<&RawValue>(text).ok()?.into());
    let session = read(&response.text())
        .ok_or_else(|| Error::new(ErrorKind::Protocol, "unexpected answer").with_status(response.status().as_u16()))?;
    Ok(Answer::Session(Some(Box::new(session))))
}
