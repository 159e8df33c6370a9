//! The subscription calls over REST.

use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

use super::client::Client;
use super::response::Response;
use crate::control::reading::lenient_seconds;
use crate::control::{ControlPlane, CreateSubscription, Deletion, SocketToken, SubscriptionInfo};
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::http::codes::NOT_READY_PAUSE;
use crate::http::envelope::json_error;
use crate::http::{RateBudget, segment};
use crate::ids::SubscriptionId;
use crate::secret::Secret;
use crate::system::System;

const PATH: &str = "/restapi/v1.0/subscription";
const SOCKET_TOKEN: &str = "/restapi/oauth/wstoken";

/// The [`ControlPlane`] of subscriptions created over HTTPS.
///
/// Each call is one attempt within the client's deadline; after a refused token it is repeated once
/// with a new one, and it waits for a closed rate group. After a `create` that fails
/// [unclearly](Error::is_ambiguous) a subscription may exist. `list` does not prove ownership:
/// another process of the same user and app may have created one with the same filters.
#[derive(Clone, Debug)]
pub struct RestControl {
    client: Client,
}

impl RestControl {
    /// Calls through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    fn path(id: &SubscriptionId, action: &str) -> Result<String> {
        Ok(format!("{PATH}/{}{action}", segment(id.as_str())?))
    }
}

fn read(response: &Response) -> Result<SubscriptionInfo> {
    let mut info: SubscriptionInfo = response.json()?;
    info.answered_at = response.answered_at();
    info.sent_at = Some(response.sent_at());
    Ok(info)
}

#[derive(Deserialize)]
struct Page {
    records: Vec<Box<RawValue>>,
}

impl Page {
    /// The readable records. An odd record, of any transport, must not hide the others.
    fn readable(self) -> impl Iterator<Item = SubscriptionInfo> {
        self.records.into_iter().filter_map(|record| {
            serde_json::from_str::<SubscriptionInfo>(record.get())
                .map_err(|error| json_error("a listed subscription", &error))
                .inspect_err(|error| tracing::warn!(%error, "ignoring a listed subscription"))
                .ok()
        })
    }
}

#[async_trait]
impl ControlPlane for RestControl {
    async fn create(&self, request: &CreateSubscription) -> Result<SubscriptionInfo> {
        let outcome = self.client.request(Method::POST, PATH).json(request).once().send().await;
        read(&outcome.map_err(of_create)?)
    }

    async fn list(&self) -> Result<Vec<SubscriptionInfo>> {
        let response = self.client.request(Method::GET, PATH).once().send().await?;
        let page: Page = response.json()?;
        let at = response.answered_at();
        Ok(page.readable().map(|info| SubscriptionInfo { answered_at: at, ..info }).collect())
    }

    async fn get(&self, id: &SubscriptionId) -> Result<SubscriptionInfo> {
        read(&self.client.request(Method::GET, &Self::path(id, "")?).once().send().await?)
    }

    async fn update(&self, id: &SubscriptionId, event_filters: &[String]) -> Result<SubscriptionInfo> {
        let body = serde_json::json!({ "eventFilters": event_filters });
        read(&self.client.request(Method::PUT, &Self::path(id, "")?).json(&body).once().send().await?)
    }

    async fn renew(&self, id: &SubscriptionId) -> Result<SubscriptionInfo> {
        read(&self.client.request(Method::POST, &Self::path(id, "/renew")?).once().send().await?)
    }

    async fn delete(&self, id: &SubscriptionId) -> Result<Deletion> {
        match self.client.request(Method::DELETE, &Self::path(id, "")?).once().urgent().send().await {
            Ok(answer) if is_confirmation(&answer) => Ok(Deletion::Deleted),
            Ok(answer) => Err(Error::new(ErrorKind::Protocol, "the answer to the deletion is not the service's")
                .with_status(answer.status().as_u16())
                .with_disposition(Disposition::Retry { after: None })
                .with_ambiguous(true)),
            Err(error) if error.status() == Some(404) => Ok(Deletion::GoneAlready),
            Err(error) => Err(error),
        }
    }

    async fn owner_id(&self) -> Result<Option<String>> {
        Ok(self.client.tokens().token().await?.owner_id().map(str::to_owned))
    }

    async fn socket_token(&self) -> Result<SocketToken> {
        let answer: SocketTokenAnswer = self.client.request(Method::POST, SOCKET_TOKEN).once().send().await?.json()?;
        answer.try_into()
    }

    fn system(&self) -> Option<System> {
        Some(self.client.system().clone())
    }

    fn rate_budget(&self) -> Option<RateBudget> {
        Some(self.client.budget().clone())
    }
}

/// Whether a deletion was answered by the service, with 204 or with a description, and not by
/// something in between: a portal answers everything with a page and 200.
fn is_confirmation(answer: &Response) -> bool {
    let body = answer.bytes().trim_ascii();
    body.is_empty() || body.starts_with(b"{") || body.starts_with(b"[")
}

/// For a create, "not found" concerns something in the request: another attempt would get the same
/// response. A 406 without a reason comes from an extension that is not ready yet, such as a newly
/// installed bot's.
pub(crate) fn of_create(error: Error) -> Error {
    match error.disposition() {
        Disposition::Recreate => error.with_disposition(Disposition::Fatal),
        Disposition::Fatal if error.status() == Some(406) && error.code().is_none() => {
            error.with_disposition(Disposition::Retry { after: Some(NOT_READY_PAUSE) })
        }
        _ => error,
    }
}

/// The raw response.
#[derive(Deserialize)]
struct SocketTokenAnswer {
    /// May contain a query, and so a secret.
    uri: Secret,
    ws_access_token: Secret,
    #[serde(default, deserialize_with = "lenient_seconds")]
    expires_in: Option<Duration>,
}

impl TryFrom<SocketTokenAnswer> for SocketToken {
    type Error = Error;

    fn try_from(answer: SocketTokenAnswer) -> Result<Self> {
        let uri = Url::parse(answer.uri.expose()).map_err(|error| {
            Error::new(ErrorKind::Protocol, "the gateway's address is not a URL").with_source(error)
        })?;
        Ok(Self { uri, token: answer.ws_access_token, expires_in: answer.expires_in })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::http::Answer;

    #[test]
    fn a_response_carries_the_services_time_and_that_of_its_request() {
        let sent_at = tokio::time::Instant::now();
        let answered_at = |date: &str| {
            let headers = HeaderMap::from_iter([(http::header::DATE, date.parse().unwrap())]);
            let body = r#"{"id":"a","deliveryMode":{}}"#.into();
            let answer = Answer { status: StatusCode::OK, headers, body };
            let info = read(&Response::new(answer, sent_at)).unwrap();
            assert_eq!(info.sent_at, Some(sent_at));
            info.answered_at
        };
        let want = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(answered_at("Sun, 06 Nov 1994 08:49:37 GMT"), Some(want));
        assert_eq!(answered_at("yesterday"), None);
    }
}
