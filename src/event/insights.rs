//! Bodies of RingSense: what was said in a call, and what it meant.

use std::collections::BTreeMap;

use super::account::ChangeType;
use super::macros::{body, open_enum};
use super::message::Direction;
use crate::ids::{AccountId, ExtensionId};
use crate::timestamp::Timestamp;

open_enum! {
    /// Which of the products a recording is of.
    pub enum RingSenseDomain {
        /// Phone calls.
        Pbx = "pbx",
        /// Video meetings.
        Rcv = "rcv",
        /// Contact centre (RingCX).
        Rcx = "rcx",
        MsTeams = "ms-teams",
        /// Contact centre (NICE inContact).
        NiceInContact = "nice-incontact",
    }
}

body! {
    /// Insights of a recorded call are there. A call may have two such events: notes
    /// first, then insights.
    pub struct RingSenseInsights {
        /// What happened: [`ChangeType::Create`]; in newer payloads.
        pub event_type: Option<ChangeType> = "eventType",
        /// A title.
        pub title: Option<String> = "title",
        /// The page of the recording.
        pub rs_record_uri: Option<String> = "rsRecordUri",
        /// Which product it is of.
        pub domain: Option<RingSenseDomain> = "domain",
        /// The product's id of the call.
        pub source_session_id: Option<String> = "sourceSessionId",
        /// The product's id of the recording.
        pub source_record_id: Option<String> = "sourceRecordId",
        /// Whether the call came in or went out.
        pub call_direction: Option<Direction> = "callDirection",
        /// Whose recording it is; samples have masked ids with letters.
        pub owner_extension_id: Option<ExtensionId> = "ownerExtensionId",
        /// Length of the recording in milliseconds.
        pub recording_duration_ms: Option<u64> = "recordingDurationMs",
        /// When the recording began.
        pub recording_start_time: Option<Timestamp> = "recordingStartTime",
        /// When the insights were made.
        pub creation_time: Option<Timestamp> = "creationTime",
        /// When the insights changed last.
        pub last_modified_time: Option<Timestamp> = "lastModifiedTime",
        /// Who spoke.
        pub speaker_info: Vec<Speaker> = "speakerInfo",
        /// The insights by their names: `Transcript`, `Summary`, `Highlights` and so on.
        /// See [`insight`](Self::insight).
        pub insights: BTreeMap<String, Vec<Insight>> = "insights",
    }

    /// A speaker.
    pub struct Speaker {
        /// The id that insights refer to.
        pub speaker_id: Option<String> = "speakerId",
        /// The name.
        pub name: Option<String> = "name",
        /// The account, if it is one of the service.
        pub account_id: Option<AccountId> = "accountId",
        /// The extension, if it is one.
        pub extension_id: Option<ExtensionId> = "extensionId",
        /// The number.
        pub phone_number: Option<String> = "phoneNumber",
    }

    /// One piece of insight.
    pub struct Insight {
        /// What it says.
        pub value: Option<String> = "value",
        /// What was said, in a transcript.
        pub text: Option<String> = "text",
        /// Where it begins, in seconds.
        pub start: Option<f64> = "start",
        /// Where it ends, in seconds.
        pub end: Option<f64> = "end",
        /// Who said it.
        pub speaker_id: Option<String> = "speakerId",
    }
}

impl RingSenseInsights {
    /// The insights of this name in any case: guide and samples differ in
    /// `Highlights` and `HighLights`.
    pub fn insight(&self, name: &str) -> impl Iterator<Item = &Insight> {
        let named = self.insights.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name));
        named.flat_map(|(_, list)| list)
    }
}

impl Insight {
    /// What it says, from either of the fields that may hold it.
    #[must_use]
    pub fn content(&self) -> Option<&str> {
        self.value.as_deref().or(self.text.as_deref())
    }
}
