//! The requests, and where a call belongs.

use http::Method;
use serde_json::value::RawValue;

use super::joiner::{Answer, Request};
use crate::catch_up::{get, id_in, millis, text};
use crate::error::{Error, ErrorKind, Result};
use crate::event::lenient::Lenient;
use crate::event::{CallRecord, CallRecording, EventKind, Message, Notification, TelephonySession};
use crate::http::segment;
use crate::rest::Client;

/// Documented: the maximum of one page.
const PAGE: usize = 250;

/// The path of the account or extension whose call log has the call.
pub(super) fn scope(notification: &Notification, account_wide: bool) -> String {
    let account = id_in(notification.event_uri(), "account").unwrap_or("~");
    let account = format!("/restapi/v1.0/account/{account}");
    if account_wide || notification.kind() == EventKind::AccountTelephonySessions {
        return account;
    }
    let in_body = notification.event().telephony_session().and_then(|session| session.extension_id.as_ref());
    let extension = notification.extension(in_body);
    format!("{account}/extension/{}", if extension.is_empty() { "~" } else { extension })
}

pub(super) async fn ask(client: Client, request: Request) -> Result<Answer> {
    match request {
        Request::Log { scope, from, to, .. } => {
            let mut query =
                vec![("dateFrom", text(millis(from))), ("view", "Detailed".to_owned()), ("perPage", PAGE.to_string())];
            query.extend(to.map(|to| ("dateTo", text(millis(to)))));
            let clock = client.system().clock();
            let listing = get(&client, &clock, &format!("{scope}/call-log"), &query).await?.body;
            let records: Vec<CallRecord> =
                listing.records.iter().filter_map(|raw| CallRecord::read(raw.into())).collect();
            let started = |record: &CallRecord| record.start_time.as_ref().and_then(|at| at.system_time());
            let oldest = records.iter().filter_map(started).min();
            Ok(Answer::Log { more: listing.records.len() >= PAGE, oldest, records })
        }
        Request::Recording { scope, id, .. } => {
            let path = format!("{scope}/recording/{}", segment(id.as_str())?);
            Ok(Answer::Recording(Box::new(record::<CallRecording>(&client, &path).await?)))
        }
        Request::Voicemail { scope, id, .. } => {
            let path = format!("{scope}/message-store/{}", segment(id.as_str())?);
            Ok(Answer::Voicemail(Box::new(record::<Message>(&client, &path).await?)))
        }
        Request::Session { scope, id, .. } => {
            let path = format!("{scope}/telephony/sessions/{}", segment(id.as_str())?);
            Ok(Answer::Session(record::<TelephonySession>(&client, &path).await?.parties))
        }
    }
}

async fn record<T: Lenient>(client: &Client, path: &str) -> Result<T> {
    let response = client.request(Method::GET, path).send().await?;
    let read = |text: &str| T::read(serde_json::from_str::<&RawValue>(text).ok()?.into());
    read(&response.text()).ok_or_else(|| {
        Error::new(ErrorKind::Protocol, "unexpected answer")
            .with_status(response.status().as_u16())
            .with_ambiguous(true)
    })
}
