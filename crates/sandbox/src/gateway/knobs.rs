//! What can be turned on the gateway.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::knobs::{TimeFormat, millis};

/// How the gateway behaves; `gateway` of [`Knobs`](super::super::Knobs).
///
/// What `ConnectionDetails` announces, and the ping period, holds for a socket as
/// it was when the socket opened. The defaults are what the service documents;
/// where it documents nothing, the field says *unverified*.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct GatewayKnobs {
    /// Life of a socket token (`expires_in` of wstoken). Default 30 s; 60 and 600
    /// were seen.
    #[serde(with = "millis")]
    pub wstoken_ttl: Duration,
    /// Whether a socket token opens more than one socket. Default false, as
    /// documented; an SDK relies on true.
    pub wstoken_reuse: bool,
    /// Whether the app may ask for socket tokens; else wstoken answers 403
    /// `CMN-401`. Default true.
    pub may_connect: bool,
    /// Whether the app may subscribe with `WebSocket`; else 403 `SUB-528`.
    /// Default true.
    pub may_subscribe: bool,
    /// How a socket without a good token is refused. Default close code 4400
    /// after the upgrade.
    pub refusal: AuthRefusal,

    /// Wait between the upgrade and `ConnectionDetails`. Default 0.
    #[serde(with = "millis")]
    pub details_delay: Duration,
    /// Whether a frame before `ConnectionDetails` is an error that ends the
    /// socket. Else it waits for its turn. Default false. On loopback only a
    /// `details_delay` leaves time for such a frame.
    pub strict_first_frame: bool,
    /// Events kept for a session while it has no socket, the newest. Default 100.
    pub recovery_buffer_size: usize,
    /// How long a session waits for a new socket. Default 180 s.
    #[serde(with = "millis")]
    pub recovery_timeout: Duration,
    /// Time without traffic before `WSG-902`. Default 1800 s.
    #[serde(with = "millis")]
    pub idle_timeout: Duration,
    /// Life of a socket before `WSG-903`. Default 86 400 s.
    #[serde(with = "millis")]
    pub absolute_timeout: Duration,
    /// Sockets per login; one more is refused with 429 at the upgrade
    /// (*unverified*). Default 50.
    pub max_connections: usize,
    /// Requests in flight per socket. Default 10.
    pub max_active_requests: usize,
    /// What becomes of a request beyond that. Default refused (*unverified*).
    pub excess_requests: Excess,
    /// How `creationTime` of `ConnectionDetails` is written. Default `+0000`.
    pub creation_time_format: TimeFormat,

    /// Time between the pings of the gateway. Default 30 s (*unverified*).
    #[serde(with = "millis")]
    pub ping_period: Duration,
    /// How long a pong may take before the socket is dropped. Default 10 s. It
    /// is measured on the machine's clock: no [`advance`](super::super::Sandbox::advance)
    /// makes a client late. On a black-holed socket it is measured on the
    /// sandbox's.
    #[serde(with = "millis")]
    pub pong_deadline: Duration,
    /// Whether pings of the client count as traffic. Default false.
    pub ping_resets_idle: bool,

    /// Whether answers about a subscription have the header `WSG-SubscriptionId`,
    /// as in 2021. Default false.
    pub subscription_id_header: bool,
    /// Whether `/` is written as `\/`. Default false.
    pub escape_slashes: bool,
    /// Whether frames are written over many lines. Default false.
    pub pretty: bool,

    /// Whether `ConnectionDetails` and the replay leave in one piece. Default
    /// true, the harder case (*unverified*).
    pub coalesce_replay: bool,
    /// Wait between `ConnectionDetails` and the replay; what happens meanwhile
    /// comes after it. Default 20 ms: a client in the field loses what comes in the same
    /// read as `ConnectionDetails` (*unverified*).
    #[serde(with = "millis")]
    pub replay_delay: Duration,
    /// How many of the events that were sent before the loss are sent again, the
    /// newest; an event that was lost on its way counts as sent. Default 0
    /// (*unverified*).
    pub replay_duplicates: usize,
    /// Whether the replay comes newest first. Default false (*unverified*).
    pub replay_reversed: bool,
    /// Whether a session's token is renewed while it lives. Default never
    /// (*unverified*).
    pub wsc_rotation: WscRotation,
    /// Whether `wsc.sequence` begins at 1 in each session; else the gateway
    /// counts on. Default true.
    pub wsc_sequence_restarts: bool,
    /// What becomes of a session that lives when a second socket offers its
    /// token. Default taken over (*unverified*).
    pub live_recovery: LiveRecovery,
    /// `recoveryErrorCode` for a token whose session is gone. Default none
    /// (*unverified*).
    pub late_recovery_code: Option<String>,
    /// Whether recovery asks for the same login (`WSG-1003`). Default true.
    pub recovery_needs_same_login: bool,
    /// Whether recovery asks for a subscription (`WSG-1005`). Default true.
    pub recovery_needs_subscription: bool,

    /// What the end of the access token, or of its login, does to a socket.
    /// Default closes it.
    pub token_expiry: TokenExpiry,
    /// How long a socket serves after a logout (`revoke`): a client may still delete its
    /// subscription over it. Default 2 s (*unverified*).
    #[serde(with = "millis")]
    pub logout_grace: Duration,
    /// Close code after an `Error`, and whenever the gateway ends a socket.
    /// Default 1000 (*unverified*).
    pub close_code: u16,
    /// `expiresIn` of a new WebSocket subscription, and one second. Default
    /// 86 400 s; while its session lives the service renews it.
    #[serde(with = "millis")]
    pub subscription_lifetime: Duration,
    /// Whether a subscription whose session is gone still counts and is listed
    /// until its lifetime ends. Default false (*unverified*: the references
    /// disagree).
    pub keep_orphans: bool,
}

impl Default for GatewayKnobs {
    fn default() -> Self {
        Self {
            wstoken_ttl: Duration::from_secs(30),
            wstoken_reuse: false,
            may_connect: true,
            may_subscribe: true,
            refusal: AuthRefusal::Close4400,
            details_delay: Duration::ZERO,
            strict_first_frame: false,
            recovery_buffer_size: 100,
            recovery_timeout: Duration::from_secs(180),
            idle_timeout: Duration::from_secs(1800),
            absolute_timeout: Duration::from_secs(86_400),
            max_connections: 50,
            max_active_requests: 10,
            excess_requests: Excess::Refuse,
            creation_time_format: TimeFormat::PlusFour,
            ping_period: Duration::from_secs(30),
            pong_deadline: Duration::from_secs(10),
            ping_resets_idle: false,
            subscription_id_header: false,
            escape_slashes: false,
            pretty: false,
            coalesce_replay: true,
            replay_delay: Duration::from_millis(20),
            replay_duplicates: 0,
            replay_reversed: false,
            wsc_rotation: WscRotation::Never,
            wsc_sequence_restarts: true,
            live_recovery: LiveRecovery::TakeOver,
            late_recovery_code: None,
            recovery_needs_same_login: true,
            recovery_needs_subscription: true,
            token_expiry: TokenExpiry::Close,
            logout_grace: Duration::from_secs(2),
            close_code: 1000,
            subscription_lifetime: Duration::from_secs(86_400),
            keep_orphans: false,
        }
    }
}

/// How a socket without a good token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuthRefusal {
    /// It is opened, and closed with 4400.
    #[serde(rename = "close_4400")]
    Close4400,
    /// 401 in place of the upgrade.
    #[serde(rename = "status_401")]
    Status401,
}

/// What becomes of a request when too many are in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Excess {
    /// It is answered 429 `CMN-301`.
    Refuse,
    /// It waits until another is answered.
    Queue,
}

/// When a session gets a new `wsc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WscRotation {
    /// With a new socket only.
    Never,
    /// Each notification carries one.
    Notifications,
    /// After each notification comes a `ConnectionDetails` without body that
    /// carries one.
    Details,
}

/// What becomes of a session that lives when a second socket offers its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LiveRecovery {
    /// The new socket has it, the old one is closed.
    TakeOver,
    /// The old socket keeps it; `recoveryState` is `Failed`.
    Fail,
}

/// What the end of an access token does to its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TokenExpiry {
    /// They are closed.
    Close,
    /// They stay, answer heartbeats, and get no events.
    Zombie,
}
