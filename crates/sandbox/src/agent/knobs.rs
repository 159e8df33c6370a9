//! What can be turned of how the Contact Center behaves.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::knobs::millis;

/// How the sandbox serves agent sessions ([`Knobs::agent`](super::super::Knobs)). What
/// says *unverified* is not documented.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct AgentKnobs {
    /// Life of an access token. Default 3600 s.
    #[serde(with = "millis")]
    pub token_ttl: Duration,
    /// Life of a refresh token. Default 7200 s.
    #[serde(with = "millis")]
    pub refresh_ttl: Duration,
    /// Where tokens and discovery say that the sessions are served. Default here; a
    /// path before `inContactAPI` is served too.
    pub resource_server: Option<String>,
    /// What an id is answered that is not the newest of its session. Default a snapshot;
    /// *unverified* where the former answer may have been lost.
    pub stale_id: StaleId,
    /// What two polls of one session get. Default: the newer wins; *unverified*.
    pub concurrent: Concurrent,
    /// What a join does to the ids that others hold. Default: they are old by it;
    /// *unverified*.
    pub joined_ids: JoinedIds,
    /// How a session ends, or not, that nobody polls. Default it ends; which one it is
    /// without `inactivityForceLogout` is *unverified*.
    pub idle: Idle,
    /// After how long that is, where the start names no `inactivityTimeout`. Default
    /// 300 s; *unverified*.
    #[serde(with = "millis")]
    pub inactivity_timeout: Duration,
    /// What the id of a session that is over is answered. Default 409 for a time, 404
    /// then; inferred.
    pub after_end: AfterEnd,
    /// For how long it is 409. Default 120 s; *unverified*.
    #[serde(with = "millis")]
    pub conflict_for: Duration,
    /// Whether answers to polls have `icBranchValue`. Default true; whether versions
    /// before v23 send it is *unverified*.
    pub branch_header: bool,
    /// The branch of a snapshot for an old id. Default 3; *unverified*.
    pub stale_branch: u8,
    /// The branch of the snapshot after a join. Default 1; *unverified*.
    pub joined_branch: u8,
    /// Where an error says what it is. Default in the header and the body.
    pub errors_in: ErrorsIn,
    /// How the values of events are written. Default as strings.
    pub values: Values,
    /// How the keys of events are written. Default as documented.
    pub casing: Casing,
    /// What ids look like. Default base64 of base64.
    pub ids: IdForm,
    /// The cluster of the tenant and the domain of its host, `api-{cluster}.{domain}`,
    /// which a client asks who it is. Default `c99` and `localhost` with the port: what
    /// resolves such a name reaches the sandbox.
    pub cluster: String,
    /// See [`cluster`](Self::cluster).
    pub acd_domain: Option<String>,
    /// The order of a snapshot. Default `AgentSessionStart` first.
    pub snapshot_order: SnapshotOrder,
    /// Events that a session keeps for its polls; with more, a snapshot is all there
    /// is. Default 10 000; *unverified*.
    pub queue_capacity: usize,
    /// How much later than its timeout a poll is answered that has nothing to tell.
    /// Default not at all.
    #[serde(with = "millis")]
    pub answer_late: Duration,
    /// How a start is refused where there is a session. Default 409.
    pub existing_session: ExistingSession,
    /// The status of a start and a join that succeed. Default 202.
    pub started_status: u16,
    /// What an end gets while contacts are open, without `forceLogoff` and
    /// `endContacts`. Default it ends; *unverified*.
    pub end_with_contacts: EndWithContacts,
    /// The agent's first state. Default `Unavailable`; *unverified*, it may be
    /// `LoggedIn`.
    pub first_state: String,
}

impl Default for AgentKnobs {
    fn default() -> Self {
        Self {
            token_ttl: Duration::from_secs(3600),
            refresh_ttl: Duration::from_secs(7200),
            resource_server: None,
            stale_id: StaleId::Snapshot,
            concurrent: Concurrent::NewestWins,
            joined_ids: JoinedIds::MakeOthersOld,
            idle: Idle::EndSession,
            inactivity_timeout: Duration::from_secs(300),
            after_end: AfterEnd::ConflictThenUnknown,
            conflict_for: Duration::from_secs(120),
            branch_header: true,
            stale_branch: 3,
            joined_branch: 1,
            errors_in: ErrorsIn::Both,
            values: Values::Strings,
            casing: Casing::Documented,
            ids: IdForm::Base64,
            cluster: "c99".into(),
            acd_domain: None,
            snapshot_order: SnapshotOrder::StartFirst,
            queue_capacity: 10_000,
            answer_late: Duration::ZERO,
            existing_session: ExistingSession::Conflict,
            started_status: 202,
            end_with_contacts: EndWithContacts::Allowed,
            first_state: "Unavailable".into(),
        }
    }
}

/// Makes enums of knobs, which are all alike.
macro_rules! choices {
    ($($(#[$doc:meta])* pub enum $name:ident { $($(#[$said:meta])* $choice:ident,)+ })+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
            #[serde(rename_all = "snake_case")]
            #[non_exhaustive]
            pub enum $name {
                $($(#[$said])* $choice,)+
            }
        )+
    };
}

choices! {
    /// What an old id is answered.
    pub enum StaleId {
        /// What is: `AgentSessionStart` and an event per piece of live state.
        Snapshot,
        /// All that followed it, while it is still there; else a snapshot.
        Replay,
        /// 404.
        Unknown,
    }

    /// What two polls of one session get.
    pub enum Concurrent {
        /// The older one 304.
        NewestWins,
        /// Both what happens.
        BothServed,
        /// The newer one 409.
        SecondConflict,
    }

    /// What a join does to the ids that others hold.
    pub enum JoinedIds {
        /// They are old.
        MakeOthersOld,
        /// Nothing: whoever joined has a cursor of its own.
        OwnCursor,
    }

    /// What happens to a session that nobody polls.
    pub enum Idle {
        /// It ends, with `RemoteAgentSessionEnd` `SessionTimeout`.
        EndSession,
        /// The agent becomes unavailable; with `inactivityForceLogout` it ends.
        SetUnavailable,
    }

    /// What the id of a session that is over is answered.
    pub enum AfterEnd {
        /// 409, and 404 after a time.
        ConflictThenUnknown,
        /// 409.
        Conflict,
        /// 404.
        Unknown,
    }

    /// Where an error says what it is.
    pub enum ErrorsIn {
        /// In `icStatusDescription` and in the body.
        Both,
        /// In `icStatusDescription`, and there is no body.
        Header,
        /// In the body.
        Body,
    }

    /// How the values of events are written.
    pub enum Values {
        /// As strings.
        Strings,
        /// As what they are: `true`, `4500`, `null`.
        Native,
    }

    /// How the keys of events are written.
    pub enum Casing {
        /// As documented.
        Documented,
        /// In lower case.
        Lower,
        /// Each letter by chance.
        Random,
    }

    /// What session ids look like.
    pub enum IdForm {
        /// Base64 of a text that is itself base64.
        Base64,
        /// With `/`, `+`, `%` and `=`, for clients that put one into a URL as it is.
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
        /// By chance.
        Mixed,
    }

    /// How a start is refused where there is a session.
    pub enum ExistingSession {
        /// 409.
        Conflict,
        /// 400 `SessionInProgress`.
        BadRequest,
    }

    /// What an end gets while contacts are open.
    pub enum EndWithContacts {
        /// The session ends.
        Allowed,
        /// 409, and the session goes on.
        Refused,
        /// 202 and `AgentSessionEnd` with `Success` `False`, and the session goes on.
        Unsuccessful,
    }
}
