//! Settings of the emulated gateway.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::millis;
use super::time_format::TimeFormat;

settings! {
    /// How the gateway behaves; `gateway` of [`Behavior`](super::Behavior).
    ///
    /// An open socket keeps the values announced in `ConnectionDetails`, and the ping period. The
    /// defaults are those that the service documents; undocumented ones are marked *unverified*.
    pub struct GatewayBehavior {
        /// Lifetime of a socket token (`expires_in` of wstoken). Default 30 s; 60 and 600 have been
        /// observed.
        #[serde(with = "millis")]
        pub wstoken_ttl: Duration = Duration::from_secs(30),
        /// Whether a socket token opens more than one socket. Default false, as documented; an SDK
        /// relies on true.
        pub wstoken_reuse: bool = false,
        /// Whether the app may request socket tokens; otherwise wstoken answers 403 `CMN-401`. Default
        /// true.
        pub may_connect: bool = true,
        /// Whether the app may subscribe with `WebSocket`; otherwise 403 `SUB-528`. Default true.
        pub may_subscribe: bool = true,
        /// How a socket without a valid token is refused. Default close code 4400 after the upgrade.
        pub refusal: AuthRefusal = AuthRefusal::Close4400,

        /// Delay between the upgrade and `ConnectionDetails`. Default 0.
        #[serde(with = "millis")]
        pub details_delay: Duration = Duration::ZERO,
        /// Whether a frame before `ConnectionDetails` is an error that ends the socket; otherwise it is
        /// queued. Default false. On loopback only a `details_delay` leaves time for such a frame.
        pub strict_first_frame: bool = false,
        /// Maximum number of events stored for a session without a socket; the newest stay. Default
        /// 100.
        pub recovery_buffer_size: usize = 100,
        /// How long a session waits for a new socket. Default 180 s.
        #[serde(with = "millis")]
        pub recovery_timeout: Duration = Duration::from_secs(180),
        /// Idle time before `WSG-902`. Default 1800 s.
        #[serde(with = "millis")]
        pub idle_timeout: Duration = Duration::from_secs(1800),
        /// Lifetime of a socket before `WSG-903`. Default 86 400 s.
        #[serde(with = "millis")]
        pub absolute_timeout: Duration = Duration::from_secs(86_400),
        /// Maximum number of sockets per login; further upgrades get 429 (*unverified*). Default 50.
        pub max_connections: usize = 50,
        /// Maximum number of requests in flight per socket. Default 10.
        pub max_active_requests: usize = 10,
        /// How requests beyond that are handled. Default refused (*unverified*).
        pub excess_requests: Excess = Excess::Refuse,
        /// The format of `creationTime` in `ConnectionDetails`. Default `+0000`.
        pub creation_time_format: TimeFormat = TimeFormat::PlusFour,

        /// Interval of the gateway's pings. Default 30 s (*unverified*).
        #[serde(with = "millis")]
        pub ping_period: Duration = Duration::from_secs(30),
        /// Deadline of a pong before the socket is dropped. Default 10 s, in real time: no
        /// [`advance`](crate::Sandbox::advance) makes a client late. On a black-holed socket the
        /// sandbox's clock counts.
        #[serde(with = "millis")]
        pub pong_deadline: Duration = Duration::from_secs(10),
        /// Whether the client's pings count as traffic. Default false.
        pub ping_resets_idle: bool = false,

        /// Whether answers about a subscription have the header `WSG-SubscriptionId`, as in 2021.
        /// Default false.
        pub subscription_id_header: bool = false,
        /// Whether `/` is written as `\/`. Default false.
        pub escape_slashes: bool = false,
        /// Whether frames are formatted over several lines. Default false.
        pub pretty: bool = false,

        /// Whether `ConnectionDetails` and the replay are written in one piece. Default true, the
        /// harder case (*unverified*).
        pub coalesce_replay: bool = true,
        /// Delay between `ConnectionDetails` and the replay; events that occur meanwhile follow the
        /// replay. Default 20 ms: a client in the field loses events that arrive in the same read as
        /// `ConnectionDetails` (*unverified*).
        #[serde(with = "millis")]
        pub replay_delay: Duration = Duration::from_millis(20),
        /// How many of the newest events sent before the loss are sent again; an event lost in transit
        /// counts as sent. Default 0 (*unverified*).
        pub replay_duplicates: usize = 0,
        /// Whether the replay is newest first. Default false (*unverified*).
        pub replay_reversed: bool = false,
        /// Whether a live session gets new tokens. Default never (*unverified*).
        pub wsc_rotation: WscRotation = WscRotation::Never,
        /// Whether `wsc.sequence` begins at 1 in each session; otherwise one counter runs over all
        /// sessions. Default true.
        pub wsc_sequence_restarts: bool = true,
        /// The fate of a live session when a second socket presents its token. Default: taken over
        /// (*unverified*).
        pub live_recovery: LiveRecovery = LiveRecovery::TakeOver,
        /// `recoveryErrorCode` for a token of an expired session. Default none (*unverified*).
        pub late_recovery_code: Option<String> = None,
        /// Whether recovery requires the same login (`WSG-1003`). Default true.
        pub recovery_needs_same_login: bool = true,
        /// Whether recovery requires a subscription (`WSG-1005`). Default true.
        pub recovery_needs_subscription: bool = true,

        /// The fate of a socket when its access token or login ends. Default: it is closed.
        pub token_expiry: TokenExpiry = TokenExpiry::Close,
        /// How long a socket works after a logout (`revoke`): a client may still delete its
        /// subscription over it. Default 2 s (*unverified*).
        #[serde(with = "millis")]
        pub logout_grace: Duration = Duration::from_secs(2),
        /// Close code after an `Error`, and for every close by the gateway. Default 1000
        /// (*unverified*).
        pub close_code: u16 = 1000,
        /// `expiresIn` of a new WebSocket subscription, plus one second. Default 86 400 s; the service
        /// renews it while its session lives.
        #[serde(with = "millis")]
        pub subscription_lifetime: Duration = Duration::from_secs(86_400),
        /// Whether a subscription without a session still counts and is listed until its lifetime ends.
        /// Default false (*unverified*: the references disagree).
        pub keep_orphans: bool = false,
    }
}

choices! {
    /// How a socket without a valid token is refused.
    pub enum AuthRefusal {
        /// The socket is opened, then closed with 4400.
        #[serde(rename = "close_4400")]
        Close4400,
        /// 401 instead of the upgrade.
        #[serde(rename = "status_401")]
        Status401,
    }

    /// How requests beyond the limit are handled.
    pub enum Excess {
        /// Answered with 429 `CMN-301`.
        Refuse,
        /// Queued until another request is answered.
        Queue,
    }

    /// When a session gets a new `wsc`.
    pub enum WscRotation {
        /// Only with a new socket.
        Never,
        /// Each notification carries one.
        Notifications,
        /// A `ConnectionDetails` without a body follows each notification and carries one.
        Details,
    }

    /// The fate of a live session when a second socket presents its token.
    pub enum LiveRecovery {
        /// The new socket takes it over, and the old one is closed.
        TakeOver,
        /// The old socket keeps it; the new one's `recoveryState` is `Failed`.
        Fail,
    }

    /// The fate of the sockets of an expired access token.
    pub enum TokenExpiry {
        /// They are closed.
        Close,
        /// They stay open and answer heartbeats, but get no events.
        Zombie,
    }
}
