//! Records of the call log.

use super::id::{PartyId, RecordingId, SessionId, TelephonySessionId};
use super::macros::{body, open_enum};
use super::message::Direction;
use super::telephony::{PartyAddress, PartyMessage};
use crate::ids::ExtensionId;
use crate::timestamp::Timestamp;

open_enum! {
    /// How a call ended, in the words of the call log.
    pub enum CallResult {
        Emergency911 = "911",
        Emergency933 = "933",
        Abandoned = "Abandoned",
        Accepted = "Accepted",
        AnsweredElsewhere = "Answered Elsewhere",
        AnsweredNotAccepted = "Answered Not Accepted",
        Blocked = "Blocked",
        Busy = "Busy",
        CallConnected = "Call connected",
        CallFailed = "Call Failed",
        CallFailure = "Call Failure",
        CallbackRequested = "Callback requested",
        CarrierIsNotActive = "Carrier is not active",
        Declined = "Declined",
        EdgeTrunkMisconfigured = "EDGE trunk misconfigured",
        FaxNotSent = "Fax Not Sent",
        FaxOnDemand = "Fax on Demand",
        FaxPartiallySent = "Fax Partially Sent",
        FaxPoorLine = "Fax Poor Line",
        FaxReceiptError = "Fax Receipt Error",
        HangUp = "Hang Up",
        /// The call has not ended.
        InProgress = "In Progress",
        InternalError = "Internal Error",
        InternationalDisabled = "International Disabled",
        InternationalRestricted = "International Restricted",
        IpPhoneOffline = "IP Phone Offline",
        Missed = "Missed",
        NoAnswer = "No Answer",
        NoCallingCredit = "No Calling Credit",
        NotAllowed = "Not Allowed",
        PartialReceive = "Partial Receive",
        PhoneLogin = "Phone Login",
        ReceiveError = "Receive Error",
        Received = "Received",
        Rejected = "Rejected",
        Reply = "Reply",
        RestrictedNumber = "Restricted Number",
        SendError = "Send Error",
        Sent = "Sent",
        SentToVoicemail = "Sent to Voicemail",
        Stopped = "Stopped",
        SuspendedAccount = "Suspended account",
        Unknown = "Unknown",
        /// The caller left a voicemail.
        Voicemail = "Voicemail",
        WrongNumber = "Wrong Number",
    }

    /// What started a recording.
    pub enum RecordingType {
        Automatic = "Automatic",
        OnDemand = "OnDemand",
    }
}

body! {
    /// A call in the call log, or one of its legs.
    pub struct CallRecord {
        /// The record's id; a leg has none.
        pub id: Option<String> = "id",
        /// Its address in the API.
        pub uri: Option<String> = "uri",
        /// The call's id by the older API.
        pub session_id: Option<SessionId> = "sessionId",
        /// The call.
        pub telephony_session_id: Option<TelephonySessionId> = "telephonySessionId",
        /// The owner's party in it.
        pub party_id: Option<PartyId> = "partyId",
        /// The extension that the record belongs to.
        pub extension: Option<ExtensionId> = "extension",
        /// When it began.
        pub start_time: Option<Timestamp> = "startTime",
        /// Its length in seconds.
        pub duration: Option<u64> = "duration",
        /// Its length in milliseconds.
        pub duration_ms: Option<u64> = "durationMs",
        /// `Voice` or `Fax`.
        pub call_type: Option<String> = "type",
        /// `Local`, `International`, `RingOut` and others.
        pub internal_type: Option<String> = "internalType",
        /// Whether it is inbound or outbound for its owner.
        pub direction: Option<Direction> = "direction",
        /// What was done, such as `Phone Call` or `Transfer`.
        pub action: Option<String> = "action",
        /// How it ended.
        pub result: Option<CallResult> = "result",
        /// Why it ended so.
        pub reason: Option<String> = "reason",
        /// The same in a sentence.
        pub reason_description: Option<String> = "reasonDescription",
        /// The caller.
        pub from: Option<PartyAddress> = "from",
        /// The called party.
        pub to: Option<PartyAddress> = "to",
        /// `PSTN` or `VoIP`.
        pub transport: Option<String> = "transport",
        /// Its recording.
        pub recording: Option<CallRecording> = "recording",
        /// Whether it was recorded for too short a time to have a recording.
        pub short_recording: Option<bool> = "shortRecording",
        /// The voicemail or fax that it left.
        pub message: Option<PartyMessage> = "message",
        /// Whether it was deleted from the log.
        pub deleted: Option<bool> = "deleted",
        /// When the record last changed.
        pub last_modified_time: Option<Timestamp> = "lastModifiedTime",
        /// Its legs, in the detailed view.
        pub legs: Vec<CallRecord> = "legs",
    }

    /// The recording of a call.
    pub struct CallRecording {
        /// Its id.
        pub id: Option<RecordingId> = "id",
        /// Its address in the API.
        pub uri: Option<String> = "uri",
        /// What started it.
        pub recording_type: Option<RecordingType> = "type",
        /// The URL of its content, which requires an access token.
        pub content_uri: Option<String> = "contentUri",
        /// The media type of its content, such as `audio/mpeg`.
        pub content_type: Option<String> = "contentType",
        /// Its length in seconds.
        pub duration: Option<u64> = "duration",
    }
}

impl CallRecord {
    /// The record and its legs.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.legs)
    }
}
