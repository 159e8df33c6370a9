//! The subscription resource and the calls on it.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use url::Url;

use super::budget::RateBudget;
use super::reading::lenient_seconds;
use crate::error::Result;
use crate::ids::SubscriptionId;
use crate::secret::Secret;
use crate::system::System;
use crate::timestamp::Timestamp;
use crate::transport::{Cursor, DeliveryModeRequest};

/// A subscription as the service describes it (`SubscriptionInfo`).
///
/// Reading it from JSON needs an `id` that a call can name, and nothing else: any
/// other field that is absent, null or of a type that makes no sense counts as
/// left out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SubscriptionInfo {
    /// Its id.
    pub id: SubscriptionId,
    /// The filters as accepted: `~` is usually expanded and the order may differ.
    /// Empty when the service left them out.
    pub event_filters: Vec<String>,
    /// Filters that the service accepted but will not serve; partial success.
    pub disabled_filters: Vec<DisabledFilter>,
    /// When it ends, by the service's clock. For people; timers use `expires_in`.
    pub expiration_time: Option<Timestamp>,
    /// How long it still lives.
    pub expires_in: Option<Duration>,
    /// Its state; `Active` when the service left it out.
    pub status: SubscriptionStatus,
    /// When it was created, by the service's clock.
    pub creation_time: Option<Timestamp>,
    /// How its events are delivered.
    pub delivery_mode: DeliveryMode,
    /// Why it is blacklisted, if it is.
    pub blacklisted_data: Option<BlacklistedData>,
    /// The `Date` header of the answer this came in, if it had one.
    pub(crate) answered_at: Option<std::time::SystemTime>,
    /// Whether this repeats what the service said earlier, in the place of an answer that
    /// did not come.
    pub(crate) remembered: bool,
}

impl SubscriptionInfo {
    /// One of which only the id is known.
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
        }
    }

    /// This answer, with what it leaves out taken from an earlier one.
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

/// A filter that the service accepted but will not serve, or of which it says
/// nothing at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DisabledFilter {
    /// The filter.
    pub filter: String,
    /// An error code, such as `SUB-412` (a permission is missing). Empty when the
    /// service told none.
    pub reason: String,
    /// A sentence for people.
    pub message: Option<String>,
}

impl DisabledFilter {
    /// One that is neither among the served nor among the disabled ones.
    pub(crate) fn left_out(filter: &str) -> Self {
        Self {
            filter: filter.to_owned(),
            reason: String::new(),
            message: Some("the service's answer leaves it out".to_owned()),
        }
    }
}

/// State of a subscription (`status`).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SubscriptionStatus {
    /// Events are sent.
    #[default]
    Active,
    /// In specifications up to 2023; no meaning published.
    Suspended,
    /// The service stopped sending, for good.
    Blacklisted,
    /// A state this crate does not know.
    Other(String),
}

impl SubscriptionStatus {
    /// Whether events are sent in this state. One that is not known is taken for one in
    /// which none are (websocket-and-webhooks.md, R8): a subscription that is made anew
    /// with a reported gap is better than one that is silent.
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

/// `deliveryMode` of an answer. What could serve to listen in is a [`Secret`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DeliveryMode {
    /// The transport, in the service's words; empty when it left that out.
    pub transport_type: String,
    /// Whether payloads are encrypted; sent as a boolean or as text.
    pub encryption: Option<bool>,
    /// For PubNub the channel.
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
    /// Why, in the service's words.
    pub reason: Option<String>,
}

/// What to create.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CreateSubscription {
    /// At least one filter.
    pub event_filters: Vec<String>,
    /// By which transport.
    pub delivery_mode: DeliveryModeRequest,
    /// The lifetime asked for, in seconds; the service grants what it will.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
}

impl CreateSubscription {
    /// Asks for `event_filters` by `delivery_mode`, for the default lifetime.
    #[must_use]
    pub fn new(event_filters: Vec<String>, delivery_mode: DeliveryModeRequest) -> Self {
        Self { event_filters, delivery_mode, expires_in: None }
    }
}

/// What a deletion that succeeded found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deletion {
    /// The subscription, until now.
    Deleted,
    /// None: the service had let go of it before.
    GoneAlready,
}

/// The calls that make, keep and end a subscription.
///
/// The paved path is REST; a transport that owns its subscriptions (the
/// WebSocket gateway) brings its own. Each call is one attempt with a deadline:
/// when to repeat it is the lifecycle's business.
#[async_trait]
pub trait ControlPlane: Send + Sync + fmt::Debug + 'static {
    /// `POST /restapi/v1.0/subscription`.
    async fn create(&self, request: &CreateSubscription) -> Result<SubscriptionInfo>;
    /// `GET /restapi/v1.0/subscription`: all of this user and app.
    async fn list(&self) -> Result<Vec<SubscriptionInfo>>;
    /// `GET /restapi/v1.0/subscription/{id}`.
    async fn get(&self, id: &SubscriptionId) -> Result<SubscriptionInfo>;
    /// Takes a subscription up again that another process had, at the place `at` that
    /// was read last. Default: [`get`](Self::get).
    async fn resume(&self, id: &SubscriptionId, at: &Cursor) -> Result<SubscriptionInfo> {
        let _ = at;
        self.get(id).await
    }
    /// `PUT /restapi/v1.0/subscription/{id}`: replaces all filters and renews.
    async fn update(&self, id: &SubscriptionId, event_filters: &[String]) -> Result<SubscriptionInfo>;
    /// `POST /restapi/v1.0/subscription/{id}/renew`.
    async fn renew(&self, id: &SubscriptionId) -> Result<SubscriptionInfo>;
    /// `DELETE /restapi/v1.0/subscription/{id}`. Gone already (404) is success of its
    /// own kind: nobody had been told, and events may be missing.
    async fn delete(&self, id: &SubscriptionId) -> Result<Deletion>;
    /// The token's `owner_id`, where the login gave one.
    ///
    /// Also what keeps a login alive that nothing else uses: it gets a token, which
    /// refreshes one that is near its end.
    async fn owner_id(&self) -> Result<Option<String>>;

    /// Creates a subscription that takes over from one that still delivers, on a
    /// connection of its own. Default: [`create`](Self::create).
    async fn replace(&self, request: &CreateSubscription) -> Result<SubscriptionInfo> {
        self.create(request).await
    }

    /// `POST /restapi/oauth/wstoken`: what opens one connection to the WebSocket
    /// gateway.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) by default: only a control plane that
    /// logs in can have it.
    async fn socket_token(&self) -> Result<SocketToken> {
        Err(crate::Error::new(crate::ErrorKind::Config, "this control plane has no tokens for the WebSocket gateway"))
    }

    /// What the user and app may still send, shared by all that talks for them.
    /// Default: none is known.
    fn rate_budget(&self) -> Option<RateBudget> {
        None
    }

    /// Where HTTP, the time of day and randomness come from. A subscription, its
    /// transports and its bookkeeping inherit it. Default: the machine's own.
    fn system(&self) -> Option<System> {
        None
    }
}

/// Opens one connection to the WebSocket gateway (answer of
/// `POST /restapi/oauth/wstoken`). By the guide single use; `Debug` shows neither
/// token nor the address's query.
#[derive(Clone)]
#[non_exhaustive]
pub struct SocketToken {
    /// Where to connect (`uri`), a `ws` or `wss` URL.
    pub uri: Url,
    /// `ws_access_token`.
    pub token: Secret,
    /// For how long it may be used to connect; 30, 60 and 600 s have been seen.
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

/// The answer as it comes.
#[derive(Deserialize)]
pub(super) struct SocketTokenAnswer {
    /// May hold a query, and so a secret.
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
