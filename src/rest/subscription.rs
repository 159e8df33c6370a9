//! The subscription resource and the calls on it.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use url::Url;

use super::reading::lenient_seconds;
use crate::delivery::DisabledFilter;
use crate::error::Result;
use crate::http::RateBudget;
use crate::ids::SubscriptionId;
use crate::secret::Secret;
use crate::system::System;
use crate::timestamp::Timestamp;
use crate::transport::{Cursor, DeliveryModeRequest};

/// A subscription as the service describes it (`SubscriptionInfo`).
///
/// Parsing requires only an `id` that a call can use: any other field that is absent, null or of a
/// wrong type counts as missing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SubscriptionInfo {
    /// Its id.
    pub id: SubscriptionId,
    /// The accepted filters: `~` is usually expanded and the order may differ. Empty if the service
    /// omitted them.
    pub event_filters: Vec<String>,
    /// Filters that the service accepted but will not serve; partial success.
    pub disabled_filters: Vec<DisabledFilter>,
    /// When it expires, by the service's clock. For humans; timers use `expires_in`.
    pub expiration_time: Option<Timestamp>,
    /// Its remaining lifetime.
    pub expires_in: Option<Duration>,
    /// Its state; `Active` if the service omitted it.
    pub status: SubscriptionStatus,
    /// When it was created, by the service's clock.
    pub creation_time: Option<Timestamp>,
    /// How its events are delivered.
    pub delivery_mode: DeliveryMode,
    /// Why it is blacklisted, if it is.
    pub blacklisted_data: Option<BlacklistedData>,
    /// The `Date` header of the response, if it had one.
    pub(crate) answered_at: Option<std::time::SystemTime>,
    /// Whether this repeats an earlier response in place of one that did not arrive.
    pub(crate) remembered: bool,
    /// Whether it took the place of everything that earlier creations without an answer may
    /// have made.
    pub(crate) is_only: bool,
}

impl SubscriptionInfo {
    /// A subscription of which only the id is known.
    pub(crate) fn new(id: SubscriptionId) -> Self {
        Self {
            id,
            event_filters: Vec::new(),
            disabled_filters: Vec::new(),
            expiration_time: None,
            expires_in: None,
            status: SubscriptionStatus::default(),
            creation_time: None,
            delivery_mode: DeliveryMode::default(),
            blacklisted_data: None,
            answered_at: None,
            remembered: false,
            is_only: false,
        }
    }

    /// This response, with missing fields taken from an earlier one.
    pub(crate) fn or(mut self, earlier: Self) -> Self {
        if self.event_filters.is_empty() {
            self.event_filters = earlier.event_filters;
        }
        let mode = &mut self.delivery_mode;
        let before = earlier.delivery_mode;
        mode.address = mode.address.take().or(before.address);
        mode.subscriber_key = mode.subscriber_key.take().or(before.subscriber_key);
        mode.encryption_algorithm = mode.encryption_algorithm.take().or(before.encryption_algorithm);
        mode.encryption_key = mode.encryption_key.take().or(before.encryption_key);
        self.creation_time = self.creation_time.or(earlier.creation_time);
        self
    }
}

/// State of a subscription (`status`).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SubscriptionStatus {
    /// Events are delivered.
    #[default]
    Active,
    /// In specifications up to 2023; no meaning published.
    Suspended,
    /// The service stopped delivering permanently.
    Blacklisted,
    /// A state unknown to this crate.
    Other(String),
}

impl SubscriptionStatus {
    /// Whether events are delivered in this state. An unknown state counts as not delivering
    /// (websocket-and-webhooks.md, R8): recreating the subscription with a reported gap is better
    /// than silence.
    pub(crate) fn delivers(&self) -> bool {
        *self == Self::Active
    }

    pub(super) fn named(text: String) -> Self {
        match text {
            text if text.eq_ignore_ascii_case("Active") => Self::Active,
            text if text.eq_ignore_ascii_case("Suspended") => Self::Suspended,
            text if text.eq_ignore_ascii_case("Blacklisted") => Self::Blacklisted,
            text => Self::Other(text),
        }
    }
}

/// `deliveryMode` of a response. Values that would allow eavesdropping are [`Secret`]s.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DeliveryMode {
    /// The service's name of the transport; empty if omitted.
    pub transport_type: String,
    /// Whether payloads are encrypted; sent as a boolean or as text.
    pub encryption: Option<bool>,
    /// For PubNub, the channel.
    pub address: Option<Secret>,
    /// PubNub's subscribe key.
    pub subscriber_key: Option<Secret>,
    /// A JCA transformation name; `AES` means `AES/ECB/PKCS5Padding`.
    pub encryption_algorithm: Option<String>,
    /// The key, in base64.
    pub encryption_key: Option<Secret>,
}

/// Why a subscription is blacklisted.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct BlacklistedData {
    /// Since when.
    pub blacklisted_at: Option<Timestamp>,
    /// The reason, in the service's words.
    pub reason: Option<String>,
}

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

/// The raw response.
#[derive(Deserialize)]
pub(super) struct SocketTokenAnswer {
    /// May contain a query, and so a secret.
    uri: Secret,
    ws_access_token: Secret,
    #[serde(default, deserialize_with = "lenient_seconds")]
    expires_in: Option<Duration>,
}

impl TryFrom<SocketTokenAnswer> for SocketToken {
    type Error = crate::Error;

    fn try_from(answer: SocketTokenAnswer) -> Result<Self> {
        let uri = Url::parse(answer.uri.expose()).map_err(|error| {
            crate::Error::new(crate::ErrorKind::Protocol, "the gateway's address is not a URL").with_source(error)
        })?;
        Ok(Self { uri, token: answer.ws_access_token, expires_in: answer.expires_in })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_in_its_loosest_form() {
        let info: SubscriptionInfo = serde_json::from_str(
            r#"{"id":7,"eventFilters":null,"expiresIn":"899","expirationTime":"2014-03-12T19:54:35.613+0000",
                "status":"Frozen","disabledFilters":[{"filter":"/x","reason":"SUB-412"}],
                "deliveryMode":{"transportType":"PubNub","encryption":"true","address":"1_a","secretKey":"s"}}"#,
        )
        .unwrap();
        assert_eq!(info.id, "7");
        assert_eq!(info.expires_in, Some(Duration::from_secs(899)));
        assert!(info.expiration_time.unwrap().instant().is_some());
        assert_eq!(info.status, SubscriptionStatus::Other("Frozen".into()));
        assert_eq!(info.delivery_mode.encryption, Some(true));
        assert_eq!(info.disabled_filters[0].reason, "SUB-412");
        let bare: SubscriptionInfo = serde_json::from_str(r#"{"id":"a","deliveryMode":{}}"#).unwrap();
        assert_eq!((bare.status, bare.expires_in), (SubscriptionStatus::Active, None));
        let odd: SubscriptionInfo =
            serde_json::from_str(r#"{"id":"a","expiresIn":-5,"deliveryMode":{"encryption":1}}"#).unwrap();
        assert_eq!((odd.expires_in, odd.delivery_mode.encryption), (Some(Duration::ZERO), None));
    }

    #[test]
    fn debug_shows_neither_channel_nor_keys() {
        let info: SubscriptionInfo = serde_json::from_str(
            r#"{"id":"a","deliveryMode":{"address":"chan-1","subscriberKey":"sub-c-1","encryptionKey":"a2V5"}}"#,
        )
        .unwrap();
        let shown = format!("{info:?}");
        for secret in ["chan-1", "sub-c-1", "a2V5"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
