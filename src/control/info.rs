//! The subscription resource, as the service describes it.

use std::time::Duration;

use crate::delivery::DisabledFilter;
use crate::ids::SubscriptionId;
use crate::secret::Secret;
use crate::timestamp::Timestamp;

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
    /// When the request was sent whose response this is, if it was.
    pub(crate) sent_at: Option<tokio::time::Instant>,
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
            sent_at: None,
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
