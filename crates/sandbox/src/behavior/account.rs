//! Settings of the account's resources.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::millis;

settings! {
    /// How the account's resources behave; `account` of [`Behavior`](super::Behavior).
    ///
    /// The defaults are those that the service documents; undocumented ones are marked *unverified*.
    pub struct AccountBehavior {
        /// Extensions of the account besides the user's, decimal numbers. Default `100200302` and
        /// `100200399`.
        pub other_extensions: Vec<String> = vec!["100200302".into(), "100200399".into()],
        /// How far an incremental sync reaches back before its token. Default 5 s.
        #[serde(with = "millis")]
        pub sync_overlap: Duration = Duration::from_secs(5),
        /// Lifetime of a message sync token. Default 24 h; *unverified*.
        #[serde(with = "millis")]
        pub message_token_life: Duration = Duration::from_secs(86_400),
        /// How a stale message sync token is refused. Default `MSG-333`.
        pub stale_message_token: StaleToken = StaleToken::Msg333,
        /// Whether every message sync token is stale. Default false.
        pub refuse_message_tokens: bool = false,
        /// How long after its end a call appears in the call log. Default 15 s; 30 s have been
        /// observed.
        #[serde(with = "millis")]
        pub call_log_delay: Duration = Duration::from_secs(15),
        /// How long after its beginning a call appears in `active-calls`. Default 5 s; 3 to 10 s have been
        /// observed.
        #[serde(with = "millis")]
        pub active_calls_delay: Duration = Duration::from_secs(5),
        /// How long `active-calls` shows a call after its end. Default 120 s.
        #[serde(with = "millis")]
        pub active_calls_kept: Duration = Duration::from_secs(120),
        /// How long after the end of a call its recording can be read; before, it gets 404. Default 0; *unverified*.
        #[serde(with = "millis")]
        pub recording_delay: Duration = Duration::ZERO,
        /// Lifetime of a call-log sync token, after which it gets 400 `CLG-102`. Default 24 h; lifetime
        /// and code are *unverified*.
        #[serde(with = "millis")]
        pub call_log_token_life: Duration = Duration::from_secs(86_400),
        /// Whether every call-log sync token is stale. Default false.
        pub refuse_call_log_tokens: bool = false,
        /// How a full sync of the call log with a `dateFrom` of more than 30 days ago is answered.
        /// Default cut, as a test of an official SDK expects; *unverified*.
        pub old_call_log: OldCallLog = OldCallLog::Cut,
        /// Maximum number of calls in one answer to a sync; more since the token get 400 `CLG-104`.
        /// Default 250; the code is *unverified*.
        pub call_log_limit: usize = 250,
        /// Whether an incremental sync omits changes of messages that are older than the `dateFrom` of
        /// its full sync. Default true; *unverified*.
        pub frame_hides_older: bool = true,
        /// Whether the posts of a chat include the replies of its threads. Default true;
        /// *unverified*.
        pub replies_in_posts: bool = true,
        /// Whether a session without insights is answered by an empty object. Default false: 404
        /// `CMN-102`; *unverified*.
        pub empty_insights: bool = false,
        /// Whether the insights of a session are answered as a list in `records`. Default false: as
        /// one object; *unverified*.
        pub insights_in_list: bool = false,
        /// Whether the call log has `recording` for recorded calls. Default true; *unverified*.
        pub recording_in_log: bool = true,
        /// Whether `olderRecordsExist` also covers records before `dateFrom`. Default false;
        /// *unverified*.
        pub older_beyond_frame: bool = false,
    }
}

choices! {
    /// How a call-log sync that begins too long ago is answered.
    pub enum OldCallLog {
        /// 400 `CMN-101` with `parameterName` `dateFrom`.
        Refuse,
        /// The sync begins 30 days ago.
        Cut,
    }

    /// How a stale sync token is refused; both forms are documented.
    pub enum StaleToken {
        /// 400 `MSG-333`: a full sync is required.
        Msg333,
        /// 400 `CMN-101` with `parameterName` `syncToken`.
        Cmn101,
    }
}
