//! The calls on subscriptions.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Serialize, Serializer};
use url::Url;

use super::cursor::Cursor;
use super::info::SubscriptionInfo;
use crate::error::Result;
use crate::http::RateBudget;
use crate::ids::SubscriptionId;
use crate::kind::TransportKind;
use crate::secret::Secret;
use crate::system::System;

/// The parameters of a new subscription.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CreateSubscription {
    /// At least one filter.
    pub event_filters: Vec<String>,
    /// The transport.
    pub delivery_mode: DeliveryModeRequest,
    /// The requested lifetime in seconds, which the service may change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
}

impl CreateSubscription {
    /// Requests `event_filters` by `delivery_mode`, for the default lifetime.
    #[must_use]
    pub fn new(event_filters: Vec<String>, delivery_mode: DeliveryModeRequest) -> Self {
        Self { event_filters, delivery_mode, expires_in: None }
    }
}

/// The result of a successful deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deletion {
    /// The subscription existed and was deleted.
    Deleted,
    /// The subscription did not exist any more.
    GoneAlready,
}

/// What the crate asks for when it creates a subscription (`deliveryMode` of the request).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryModeRequest {
    transport_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "exposed")]
    address: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "exposed")]
    verification_token: Option<Secret>,
}

/// For the request itself.
fn exposed<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(Secret::expose).serialize(serializer)
}

impl DeliveryModeRequest {
    /// Asks for `transport`.
    #[must_use]
    pub fn new(transport: TransportKind) -> Self {
        Self { transport_type: transport.as_str(), encryption: None, address: None, verification_token: None }
    }

    /// Sets whether to ask for payload encryption. The service encrypts anyway as soon as one filter is sensitive
    /// (presence, telephony).
    #[must_use]
    pub fn encryption(mut self, on: bool) -> Self {
        self.encryption = Some(on);
        self
    }

    /// Sets the app's own address, which the service calls with each event: an HTTPS URL.
    #[must_use]
    pub fn address(mut self, url: impl Into<Secret>) -> Self {
        self.address = Some(url.into());
        self
    }

    /// Sets what the service returns in the header `Verification-Token` of each call of the [address](Self::address),
    /// so that the app can refuse the calls of others (websocket-and-webhooks.md §2.4).
    #[must_use]
    pub fn verification_token(mut self, token: impl Into<Secret>) -> Self {
        self.verification_token = Some(token.into());
        self
    }
}

/// The calls that create, maintain and end a subscription.
///
/// The usual implementation is REST; a transport that owns its subscriptions (the WebSocket
/// gateway) has its own. Each call is one attempt with a deadline: the lifecycle decides about
/// retries.
#[async_trait]
pub trait ControlPlane: Send + Sync + fmt::Debug + 'static {
    /// `POST /restapi/v1.0/subscription`.
    async fn create(&self, request: &CreateSubscription) -> Result<SubscriptionInfo>;
    /// `GET /restapi/v1.0/subscription`: all subscriptions of this user and app.
    async fn list(&self) -> Result<Vec<SubscriptionInfo>>;
    /// `GET /restapi/v1.0/subscription/{id}`.
    async fn get(&self, id: &SubscriptionId) -> Result<SubscriptionInfo>;
    /// Resumes a subscription of another process from the last read position `at`. Default:
    /// [`get`](Self::get).
    async fn resume(&self, id: &SubscriptionId, at: &Cursor) -> Result<SubscriptionInfo> {
        let _ = at;
        self.get(id).await
    }
    /// `PUT /restapi/v1.0/subscription/{id}`: replaces all filters and renews.
    async fn update(&self, id: &SubscriptionId, event_filters: &[String]) -> Result<SubscriptionInfo>;
    /// `POST /restapi/v1.0/subscription/{id}/renew`.
    async fn renew(&self, id: &SubscriptionId) -> Result<SubscriptionInfo>;
    /// `DELETE /restapi/v1.0/subscription/{id}`. A missing subscription (404) is a separate kind of
    /// success: its end was never reported, so events may be missing.
    async fn delete(&self, id: &SubscriptionId) -> Result<Deletion>;
    /// The token's `owner_id`, if the login returned one.
    ///
    /// Also keeps an otherwise unused login alive: it gets a token, which refreshes one that
    /// expires soon.
    async fn owner_id(&self) -> Result<Option<String>>;

    /// Creates a subscription that takes over from one that still delivers, on a separate
    /// connection. Default: [`create`](Self::create).
    async fn replace(&self, request: &CreateSubscription) -> Result<SubscriptionInfo> {
        self.create(request).await
    }

    /// `POST /restapi/oauth/wstoken`: the token for one connection to the WebSocket gateway.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) by default: only a control plane with a login can
    /// support it.
    async fn socket_token(&self) -> Result<SocketToken> {
        Err(crate::Error::new(crate::ErrorKind::Config, "this control plane has no tokens for the WebSocket gateway"))
    }

    /// The rate budget of the user and app, shared by all their clients. Default: none.
    fn rate_budget(&self) -> Option<RateBudget> {
        None
    }

    /// HTTP client, clock and randomness, which a subscription, its transports and its persistence
    /// inherit. Default: the system's.
    fn system(&self) -> Option<System> {
        None
    }
}

/// Opens one connection to the WebSocket gateway (response of `POST /restapi/oauth/wstoken`).
/// Single use according to the guide; `Debug` shows neither the token nor the address's query.
#[derive(Clone)]
#[non_exhaustive]
pub struct SocketToken {
    /// The address (`uri`), a `ws` or `wss` URL.
    pub uri: Url,
    /// `ws_access_token`.
    pub token: Secret,
    /// How long it is valid for connecting; 30, 60 and 600 s have been observed.
    pub expires_in: Option<Duration>,
}

impl SocketToken {
    /// A token for one connection to `uri`.
    #[must_use]
    pub fn new(uri: Url, token: Secret) -> Self {
        Self { uri, token, expires_in: None }
    }
}

impl fmt::Debug for SocketToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketToken")
            .field("host", &self.uri.host_str())
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_has_what_was_set_and_shows_neither_address_nor_token() {
        let bare = DeliveryModeRequest::new(TransportKind::WebSocket);
        assert_eq!(serde_json::to_value(&bare).unwrap(), json!({"transportType": "WebSocket"}));
        let hook = DeliveryModeRequest::new(TransportKind::WebHook)
            .encryption(false)
            .address("https://app.example/hook?key=s3cret")
            .verification_token("t0ken");
        let sent = json!({
            "transportType": "WebHook", "encryption": false,
            "address": "https://app.example/hook?key=s3cret", "verificationToken": "t0ken",
        });
        assert_eq!(serde_json::to_value(&hook).unwrap(), sent);
        let shown = format!("{hook:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("t0ken"), "{shown}");
    }
}
