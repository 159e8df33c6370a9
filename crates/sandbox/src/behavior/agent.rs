//! Settings of the emulated Contact Center.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::millis;

settings! {
    /// How the sandbox serves agent sessions ([`Behavior::agent`](super::Behavior)). *Unverified*
    /// defaults are undocumented.
    pub struct AgentBehavior {
        /// Lifetime of an access token. Default 3600 s.
        #[serde(with = "millis")]
        pub token_ttl: Duration = Duration::from_secs(3600),
        /// Lifetime of a refresh token. Default 7200 s.
        #[serde(with = "millis")]
        pub refresh_ttl: Duration = Duration::from_secs(7200),
        /// The address of the sessions in tokens and discovery. Default this server; a path before
        /// `inContactAPI` is served too.
        pub resource_server: Option<String> = None,
        /// The answer to an outdated id. Default a snapshot; *unverified* if the previous answer may
        /// have been lost.
        pub stale_id: StaleId = StaleId::Snapshot,
        /// The answers to two concurrent polls of one session. Default: the newer wins; *unverified*.
        pub concurrent: Concurrent = Concurrent::NewestWins,
        /// The effect of a join on the ids of others. Default: they become outdated; *unverified*.
        pub joined_ids: JoinedIds = JoinedIds::MakeOthersOld,
        /// The fate of a session that is not polled. Default: it ends; the behavior without
        /// `inactivityForceLogout` is *unverified*.
        pub idle: Idle = Idle::EndSession,
        /// The inactivity timeout if the start has no `inactivityTimeout`. Default 300 s; *unverified*.
        #[serde(with = "millis")]
        pub inactivity_timeout: Duration = Duration::from_secs(300),
        /// The answer to the id of an ended session. Default 409 for a time, then 404; inferred.
        pub after_end: AfterEnd = AfterEnd::ConflictThenUnknown,
        /// How long it is 409. Default 120 s; *unverified*.
        #[serde(with = "millis")]
        pub conflict_for: Duration = Duration::from_secs(120),
        /// Whether answers to polls have `icBranchValue`. Default true; whether versions before v23
        /// send it is *unverified*.
        pub branch_header: bool = true,
        /// The branch of a snapshot for an outdated id. Default 3; *unverified*.
        pub stale_branch: u8 = 3,
        /// The branch of the snapshot after a join. Default 1; *unverified*.
        pub joined_branch: u8 = 1,
        /// Where an error response carries its code. Default header and body.
        pub errors_in: ErrorsIn = ErrorsIn::Both,
        /// The format of the events' values. Default strings.
        pub values: Values = Values::Strings,
        /// The casing of the events' keys. Default as documented.
        pub casing: Casing = Casing::Documented,
        /// The form of ids. Default base64 of base64.
        pub ids: IdForm = IdForm::Base64,
        /// The order of a snapshot. Default `AgentSessionStart` first.
        pub snapshot_order: SnapshotOrder = SnapshotOrder::StartFirst,
        /// Maximum number of events queued for a session's polls; beyond it, only a snapshot is
        /// available. Default 10 000; *unverified*.
        pub queue_capacity: usize = 10_000,
        /// How long after its timeout an empty poll is answered. Default zero.
        #[serde(with = "millis")]
        pub answer_late: Duration = Duration::ZERO,
        /// How a start is refused if there is a session. Default 409.
        pub existing_session: ExistingSession = ExistingSession::Conflict,
        /// The status of a successful start or join. Default 202.
        pub started_status: u16 = 202,
        /// The answer to an end while contacts are open, without `forceLogoff` and `endContacts`.
        /// Default: it ends; *unverified*.
        pub end_with_contacts: EndWithContacts = EndWithContacts::Allowed,
        /// The agent's first state. Default `Unavailable`; *unverified*, it may be
        /// `LoggedIn`.
        pub first_state: String = "Unavailable".into(),
    }
}

choices! {
    /// The answer to an outdated id.
    pub enum StaleId {
        /// The current state: `AgentSessionStart` and one event per piece of live state.
        Snapshot,
        /// The events after it if still queued, else a snapshot.
        Replay,
        /// 404.
        Unknown,
    }

    /// The answers to two concurrent polls of one session.
    pub enum Concurrent {
        /// The older one gets 304.
        NewestWins,
        /// Both get the events.
        BothServed,
        /// The newer one gets 409.
        SecondConflict,
    }

    /// The effect of a join on the ids of others.
    pub enum JoinedIds {
        /// They become outdated.
        MakeOthersOld,
        /// None: each join has an independent cursor.
        OwnCursor,
    }

    /// The fate of a session that is not polled.
    pub enum Idle {
        /// It ends, with `RemoteAgentSessionEnd` `SessionTimeout`.
        EndSession,
        /// The agent becomes unavailable; with `inactivityForceLogout` the session ends.
        SetUnavailable,
    }

    /// The answer to the id of an ended session.
    pub enum AfterEnd {
        /// 409, later 404.
        ConflictThenUnknown,
        /// 409.
        Conflict,
        /// 404.
        Unknown,
    }

    /// Where an error response carries its code.
    pub enum ErrorsIn {
        /// In `icStatusDescription` and in the body.
        Both,
        /// In `icStatusDescription`, without a body.
        Header,
        /// In the body.
        Body,
    }

    /// The format of the events' values.
    pub enum Values {
        /// As strings.
        Strings,
        /// As JSON values: `true`, `4500`, `null`.
        Native,
    }

    /// The casing of the events' keys.
    pub enum Casing {
        /// As documented.
        Documented,
        /// In lower case.
        Lower,
        /// Each letter at random.
        Random,
    }

    /// The form of session ids.
    pub enum IdForm {
        /// Base64 of a base64 text.
        Base64,
        /// With `/`, `+`, `%` and `=`, for clients that do not encode ids in URLs.
        Reserved,
        /// 4 KB.
        Long,
    }

    /// The order of a snapshot.
    pub enum SnapshotOrder {
        /// `AgentSessionStart` first.
        StartFirst,
        /// `AgentSessionStart` last.
        StartLast,
        /// Random order.
        Mixed,
    }

    /// How a start is refused if there is a session.
    pub enum ExistingSession {
        /// 409.
        Conflict,
        /// 400 `SessionInProgress`.
        BadRequest,
    }

    /// The answer to an end while contacts are open.
    pub enum EndWithContacts {
        /// The session ends.
        Allowed,
        /// 409, and the session continues.
        Refused,
        /// 202 and `AgentSessionEnd` with `Success` `False`, and the session continues.
        Unsuccessful,
    }
}
