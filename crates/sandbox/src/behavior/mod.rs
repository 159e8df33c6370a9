//! Settings that can change while a sandbox runs.

#[macro_use]
mod macros;

mod account;
mod agent;
mod digital;
mod gateway;
pub(crate) mod millis;
mod time_format;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::account::{AccountBehavior, OldCallLog, StaleToken};
pub use self::agent::{
    AfterEnd, AgentBehavior, Casing, Concurrent, EndWithContacts, ErrorsIn, ExistingSession, IdForm, Idle, JoinedIds,
    SnapshotOrder, StaleId, Values,
};
pub use self::digital::{DigitalBehavior, RefusalForm, SignatureIn, WireForm};
pub use self::gateway::{AuthRefusal, Excess, GatewayBehavior, LiveRecovery, TokenExpiry, WscRotation};
pub use self::time_format::TimeFormat;

settings! {
    /// How a sandbox behaves. Every field can be set at the start
    /// ([`SandboxBuilder::behavior`](super::SandboxBuilder::behavior)), while it runs
    /// ([`Sandbox::behavior`](super::Sandbox::behavior)), or over HTTP (`PATCH /_sandbox/behavior`), where
    /// durations are in milliseconds.
    ///
    /// The defaults are those that the service documents.
    pub struct Behavior {
        /// Lifetime of an access token. Default 3600 s.
        #[serde(with = "millis")]
        pub access_token_ttl: Duration = Duration::from_secs(3600),
        /// Lifetime of a refresh token. Default 604 800 s.
        #[serde(with = "millis")]
        pub refresh_token_ttl: Duration = Duration::from_secs(604_800),
        /// Whether logins return refresh tokens; an app setting at the service. Default true.
        pub issue_refresh_tokens: bool = true,
        /// How long a used refresh token still works after the first use of the new access token.
        /// Before that use it works for 60 minutes. Default 10 s.
        #[serde(with = "millis")]
        pub refresh_reuse_grace: Duration = Duration::from_secs(10),
        /// Maximum number of sessions per app; the oldest is dropped. Default 5.
        pub max_sessions: usize = 5,

        /// Lifetime of a PubNub subscription, and the maximum that a request may ask for. Default 900
        /// s.
        #[serde(with = "millis")]
        pub subscription_lifetime: Duration = Duration::from_secs(900),
        /// Number of subscriptions before `SUB-505`. Default 20, as until early 2025; 30 since.
        pub subscription_limit: usize = 20,
        /// How a create with `PubNub` is refused. Default: accepted.
        pub refuse_pubnub: Option<Refusal> = None,
        /// Whether responses expand `~` in filters to numeric ids. Default true.
        pub expand_tilde: bool = true,
        /// The format of times. Default `…Z`.
        pub time_format: TimeFormat = TimeFormat::Zulu,
        /// Whether responses contain `expiresIn`. Default true.
        pub send_expires_in: bool = true,
        /// Whether `uri` of a subscription is relative, as in older responses. Default false.
        pub relative_uri: bool = false,
        /// Whether `deliveryMode` contains a `secretKey`. Default false.
        pub send_secret_key: bool = false,
        /// When payloads are encrypted. Default as the service does.
        pub encryption: Encryption = Encryption::Service,
        /// Filters that a create or an update reports as disabled, with the reason (`SUB-412`): those
        /// that contain one of these texts. Default none.
        pub disabled_filters: Vec<String> = Vec::new(),
        /// Permissions that the app lacks, such as `ReadMessages`: subscriptions whose filters need one, and calls that
        /// need one, are refused with 403 `CMN-401`. Default none.
        pub app_lacks: Vec<String> = Vec::new(),
        /// Permissions that the user's role lacks: as `app_lacks`, with 403 `CMN-408`. Default none.
        pub user_lacks: Vec<String> = Vec::new(),
        /// Filters refused with `SUB-508`: those that contain one of these texts.
        /// Default none; a filter outside the known path families is always refused.
        pub invalid_filters: Vec<String> = Vec::new(),
        /// What each renewal or update changes. Default nothing; for a single subscription see
        /// [`Sandbox::rotate_on_renew`](super::Sandbox::rotate_on_renew).
        pub rotate_on_renew: Option<Rotation> = None,
        /// Milliseconds by which the service's wall clock is ahead of this machine's: `Date`,
        /// `expirationTime`, event times; not PubNub's tokens. Default 0.
        pub clock_skew_ms: i64 = 0,

        /// The rate limits. Default as documented, enforced.
        pub rate_limits: RateLimits = RateLimits::default(),

        /// Whether all notifications of one event have the same `uuid` across subscriptions. Default
        /// false; the service's behavior is *unverified*.
        pub shared_uuid: bool = false,

        /// Delay between an event and its delivery, when the recipients are determined. Default 0; the
        /// live service takes some hundred milliseconds, so that a client may subscribe after it acted.
        /// With a delay, calls do not return the uuids of the events they trigger.
        #[serde(with = "millis")]
        pub event_latency: Duration = Duration::ZERO,

        /// The agent sessions.
        pub agent: AgentBehavior = AgentBehavior::default(),

        /// The account's resources.
        pub account: AccountBehavior = AccountBehavior::default(),
        /// The WebSocket gateway.
        pub gateway: GatewayBehavior = GatewayBehavior::default(),
        /// Channels of Engage Digital.
        pub digital: DigitalBehavior = DigitalBehavior::default(),

        /// How long an empty poll is held. Default 280 s.
        #[serde(with = "millis")]
        pub hold: Duration = Duration::from_secs(280),
        /// Maximum number of messages buffered per channel; then the oldest is dropped. Default 100;
        /// 300 and 500 exist too.
        pub ring: usize = 100,
        /// Maximum number of messages per answer, over all its channels. Default 100.
        pub response_cap: usize = 100,
        /// How messages beyond `response_cap` are handled. Default dropped, oldest first: the service
        /// has one buffer for all channels of a connection.
        pub overflow: Overflow = Overflow::DropOldest,
        /// How long a message is retained. Default 20 min; clients can rely on 2 min.
        #[serde(with = "millis")]
        pub retention: Duration = Duration::from_secs(1200),
        /// `t.r` and `p.r`. Default 12. A cursor is a position in its region's stream: see
        /// `region_offset_ms`.
        pub region: u32 = 12,
        /// Milliseconds by which the current region's tokens are ahead. With a new `region` it makes
        /// `t.t` jump forwards or backwards, so that a client that does not send `tr` loses or repeats
        /// messages. Default 0.
        pub region_offset_ms: i64 = 0,
        /// Ticks of 100 ns by which `p.t` is ahead of the position in `t.t`, so that `t.t` is less than
        /// its `p.t`. Default 0; 1210 has been observed.
        pub published_ahead: u64 = 0,
        /// Fields omitted from each message: any of `a`, `f`, `i`, `p`, `k`, `b`, `e`, `c`, `d`, `s`.
        /// Default `e`, which plain messages need not have, and `s`.
        pub omit: Vec<String> = vec!["e".into(), "s".into()],
        /// `e` of each message, unless omitted. Default 0.
        pub event_type: u32 = 0,
    }
}

choices! {
    /// How PubNub is refused; the references list all three as likely answers.
    pub enum Refusal {
        /// 403 `SUB-528`: the app lacks the transport's permission.
        Sub528,
        /// 403 `CMN-401`: the app lacks a permission.
        Cmn401,
        /// 400 `CMN-101` with `parameterName` `deliveryMode.transportType`.
        BadParameter,
    }

    /// When payloads are encrypted.
    pub enum Encryption {
        /// If requested, and always with presence or telephony filters.
        Service,
        /// Always, regardless of the request.
        Always,
        /// Never, regardless of the request.
        Never,
    }

    /// How messages beyond `response_cap` are handled.
    pub enum Overflow {
        /// The oldest are dropped silently.
        DropOldest,
        /// The next poll returns the rest.
        Page,
    }
}

/// What changes in a subscription's delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "meant to be written as a literal; the service has these three")]
pub struct Rotation {
    /// A new `encryptionKey`.
    pub key: bool,
    /// A new `address` (the channel).
    pub address: bool,
    /// A new `subscriberKey`.
    pub subscriber_key: bool,
}

impl Rotation {
    /// A new encryption key only.
    pub const KEY: Self = Self { key: true, address: false, subscriber_key: false };
    /// A new channel only.
    pub const ADDRESS: Self = Self { key: false, address: true, subscriber_key: false };
    /// A new subscribe key only.
    pub const SUBSCRIBER_KEY: Self = Self { key: false, address: false, subscriber_key: true };
    /// All three.
    pub const ALL: Self = Self { key: true, address: true, subscriber_key: true };
}

settings! {
    /// Requests per window, by usage plan group.
    pub struct RateLimits {
        /// Whether budgets are enforced; the headers are sent either way. Default true.
        pub enforce: bool = true,
        /// Whether responses have the `X-Rate-Limit-*` headers. Default true.
        pub headers: bool = true,
        /// Default 50.
        pub light: u32 = 50,
        /// Default 40.
        pub medium: u32 = 40,
        /// Default 10.
        pub heavy: u32 = 10,
        /// Default 5: six logins within a minute are refused.
        pub auth: u32 = 5,
        /// The sliding window. Default 60 s.
        #[serde(with = "millis")]
        pub window: Duration = Duration::from_secs(60),
        /// How long a group is refused once its budget is spent; a request during the penalty restarts
        /// it. Default 60 s.
        #[serde(with = "millis")]
        pub penalty: Duration = Duration::from_secs(60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_round_trip_through_json() {
        let behavior =
            Behavior { hold: Duration::from_millis(200), refuse_pubnub: Some(Refusal::Sub528), ..Behavior::default() };
        let json = serde_json::to_value(&behavior).unwrap();
        assert_eq!(json["hold"], 200);
        assert_eq!(serde_json::from_value::<Behavior>(json).unwrap(), behavior);
        assert!(serde_json::from_str::<Behavior>(r#"{"hodl":1}"#).is_err(), "a misspelt setting is an error");
    }
}
