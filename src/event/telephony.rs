//! Bodies of telephony: call sessions, missed and incoming calls.

use super::id::{PartyId, RecordingId, SessionId, TelephonySessionId};
use super::macros::{body, open_enum};
use super::message::Direction;
use super::presence::CallInfo;
use super::push::Aps;
use crate::ids::{AccountId, ExtensionId};
use crate::timestamp::Timestamp;

open_enum! {
    /// The origin of a call.
    pub enum CallOrigin {
        Call = "Call",
        RingOut = "RingOut",
        RingMe = "RingMe",
        Conference = "Conference",
        GreetingsRecording = "GreetingsRecording",
        VerificationCall = "VerificationCall",
        TestCall = "TestCall",
        Zoom = "Zoom",
        CallOut = "CallOut",
    }

    /// State of a party.
    pub enum PartyStatusCode {
        Setup = "Setup",
        Proceeding = "Proceeding",
        Answered = "Answered",
        Disconnected = "Disconnected",
        /// Moved to another session; see `peer_id`.
        Gone = "Gone",
        Parked = "Parked",
        Hold = "Hold",
        VoiceMail = "VoiceMail" | "Voicemail",
        FaxReceive = "FaxReceive",
        Tds = "Tds",
        VoiceMailScreening = "VoiceMailScreening" | "VMScreening",
    }

    /// The reason of a party's state.
    pub enum PartyStatusReason {
        Pickup = "Pickup",
        Supervising = "Supervising",
        TakeOver = "TakeOver",
        Timeout = "Timeout",
        BlindTransfer = "BlindTransfer",
        RccTransfer = "RccTransfer",
        AttendedTransfer = "AttendedTransfer",
        CallerInputRedirect = "CallerInputRedirect",
        CallFlip = "CallFlip",
        ParkLocation = "ParkLocation",
        DtmfTransfer = "DtmfTransfer",
        AgentAnswered = "AgentAnswered",
        AgentDropped = "AgentDropped",
        Rejected = "Rejected",
        Cancelled = "Cancelled",
        InternalError = "InternalError",
        NoAnswer = "NoAnswer",
        TargetBusy = "TargetBusy",
        InvalidNumber = "InvalidNumber",
        InternationalDisabled = "InternationalDisabled",
        DestinationBlocked = "DestinationBlocked",
        NotEnoughFunds = "NotEnoughFunds",
        NoSuchUser = "NoSuchUser",
        CallPark = "CallPark",
        CallRedirected = "CallRedirected",
        CallReplied = "CallReplied",
        CallSwitch = "CallSwitch",
        CallFinished = "CallFinished",
        CallDropped = "CallDropped",
        Voicemail = "Voicemail",
    }

    /// Role of a party in a conference.
    pub enum ConferenceRole {
        Host = "Host",
        Participant = "Participant",
    }
}

body! {
    /// The state of a call after a change; usually with only the party that changed.
    ///
    /// Bodies may arrive out of order: drop those of a session with a lower `sequence` than the
    /// last. Parties outside the subscriber's account or extension, or without a mailbox, are not
    /// reported.
    pub struct TelephonySession {
        /// Orders the bodies of one session.
        pub sequence: Option<i64> = "sequence",
        /// The call's id by the older API.
        pub session_id: Option<SessionId> = "sessionId",
        /// The call.
        pub telephony_session_id: Option<TelephonySessionId> = "telephonySessionId",
        /// The service's server that runs it.
        pub server_id: Option<String> = "serverId",
        /// When the change occurred, unlike the notification's timestamp, which is the time of
        /// sending.
        pub event_time: Option<Timestamp> = "eventTime",
        /// The account.
        pub account_id: Option<AccountId> = "accountId",
        /// The extension.
        pub extension_id: Option<ExtensionId> = "extensionId",
        /// The origin of the call.
        pub origin: Option<SessionOrigin> = "origin",
        /// The parties that changed.
        pub parties: Vec<Party> = "parties",
    }

    /// The origin of a call.
    pub struct SessionOrigin {
        /// The type of origin.
        pub origin_type: Option<CallOrigin> = "type",
    }

    /// A party of a call.
    pub struct Party {
        /// Its account.
        pub account_id: Option<AccountId> = "accountId",
        /// Its extension.
        pub extension_id: Option<ExtensionId> = "extensionId",
        /// Its id.
        pub id: Option<PartyId> = "id",
        /// Whether the call is inbound or outbound for it.
        pub direction: Option<Direction> = "direction",
        /// The called party.
        pub to: Option<PartyAddress> = "to",
        /// The calling party.
        pub from: Option<PartyAddress> = "from",
        /// Its state.
        pub status: Option<PartyStatus> = "status",
        /// Whether it missed the call.
        pub missed_call: Option<bool> = "missedCall",
        /// Whether its media are independent of the others.
        pub stand_alone: Option<bool> = "standAlone",
        /// Whether it is muted.
        pub muted: Option<bool> = "muted",
        /// Whether the call arrived through a call queue.
        pub queue_call: Option<bool> = "queueCall",
        /// Its role in a conference.
        pub conference_role: Option<ConferenceRole> = "conferenceRole",
        /// Recordings, if the filter requests them.
        pub recordings: Vec<Recording> = "recordings",
        /// Where it is parked; often empty.
        pub park: Option<Park> = "park",
        /// SIP data, if the filter requests it.
        pub sip_data: Option<PartySipData> = "sipData",
        /// The label that a phone should show.
        pub ui_call_info: Option<CallInfo> = "uiCallInfo",
    }

    /// One end of a call.
    pub struct PartyAddress {
        /// A full or short number, or text such as `conference`.
        pub phone_number: Option<String> = "phoneNumber",
        /// The name.
        pub name: Option<String> = "name",
        /// The extension, if it is one.
        pub extension_id: Option<ExtensionId> = "extensionId",
        /// The device.
        pub device_id: Option<super::DeviceId> = "deviceId",
    }

    /// State of a party, and its reason.
    pub struct PartyStatus {
        /// The state.
        pub code: Option<PartyStatusCode> = "code",
        /// The reason.
        pub reason: Option<PartyStatusReason> = "reason",
        /// The reason as text.
        pub description: Option<String> = "description",
        /// Where it was parked.
        pub park_data: Option<String> = "parkData",
        /// The session in which the call continued.
        pub peer_id: Option<Peer> = "peerId",
        /// Whether it is under remote call control.
        pub rcc: Option<bool> = "rcc",
        /// The data that a mobile app needs to pick it up.
        pub mobile_pickup_data: Option<MobilePickup> = "mobilePickupData",
    }

    /// A party of another session.
    pub struct Peer {
        /// The session by the older API.
        pub session_id: Option<SessionId> = "sessionId",
        /// The session.
        pub telephony_session_id: Option<TelephonySessionId> = "telephonySessionId",
        /// The party.
        pub party_id: Option<PartyId> = "partyId",
    }

    /// The data that a mobile app needs to pick up a call.
    pub struct MobilePickup {
        /// Mailboxes that may pick it up.
        pub cc_mailboxes: Vec<ExtensionId> = "ccMailboxes",
        /// The SIP address.
        pub to: Option<String> = "to",
        /// The session.
        pub sid: Option<String> = "sid",
        /// Service level.
        pub srv_lvl: Option<String> = "srvLvl" | "srvlvl",
        /// Service level, extended.
        pub srv_lvl_ext: Option<String> = "srvLvlExt",
    }

    /// A recording of a call.
    pub struct Recording {
        /// Its id.
        pub id: Option<RecordingId> = "id",
        /// Whether it is running.
        pub active: Option<bool> = "active",
    }

    /// The place where a party is parked.
    pub struct Park {
        /// The place.
        pub id: Option<String> = "id",
    }

    /// SIP data of a party.
    pub struct PartySipData {
        /// `Call-ID` header.
        pub call_id: Option<String> = "callId",
        /// Tag of the callee.
        pub to_tag: Option<String> = "toTag",
        /// Tag of the caller.
        pub from_tag: Option<String> = "fromTag",
    }

    /// A missed or incoming call, as reported to mobile apps.
    ///
    /// Its fields are beside those of the envelope, without a body. Over PubNub and webhooks the
    /// shape is undocumented; the same fields in a body, or in `pn_apns`, are read as well.
    pub struct CallPush {
        /// The extension called.
        pub extension_id: Option<ExtensionId> = "extensionId",
        /// What happened, such as `StartRing`.
        pub action: Option<String> = "action",
        /// The call's id by the older API.
        pub session_id: Option<SessionId> = "sessionId",
        /// The call, if sent.
        pub telephony_session_id: Option<TelephonySessionId> = "telephonySessionId",
        /// The service's server that runs it.
        pub server_id: Option<String> = "serverId",
        /// The caller's number.
        pub from: Option<String> = "from" | "_from",
        /// The caller's name.
        pub from_name: Option<String> = "fromName",
        /// The number called.
        pub to: Option<String> = "to",
        /// The name of the called party.
        pub to_name: Option<String> = "toName",
        /// The session.
        pub sid: Option<String> = "sid",
        /// The SIP address.
        pub to_url: Option<String> = "toUrl",
        /// Service level.
        pub srv_lvl: Option<String> = "srvLvl" | "srvlvl",
        /// Service level, extended.
        pub srv_lvl_ext: Option<String> = "srvLvlExt",
        /// The URL of the recording.
        pub rec_url: Option<String> = "recUrl",
        /// How long the push is worth showing, in seconds.
        pub pn_ttl: Option<u64> = "pn_ttl",
        /// Owner of the subscription.
        pub owner_id: Option<ExtensionId> = "ownerId",
        /// The content that a phone shows.
        pub aps: Option<Aps> = "aps",
    }
}

impl TelephonySession {
    /// The state of each party.
    pub fn party_states(&self) -> impl Iterator<Item = (&PartyId, &PartyStatusCode)> {
        self.parties.iter().filter_map(|party| Some((party.id.as_ref()?, party.state()?)))
    }

    /// The state of one party.
    #[must_use]
    pub fn party_state(&self, id: &PartyId) -> Option<&PartyStatusCode> {
        self.parties.iter().find(|party| party.id.as_ref() == Some(id))?.state()
    }

    /// Whether a party missed the call.
    #[must_use]
    pub fn is_missed(&self) -> bool {
        self.parties.iter().any(Party::is_missed)
    }
}

impl Party {
    /// Its state.
    #[must_use]
    pub fn state(&self) -> Option<&PartyStatusCode> {
        self.status.as_ref()?.code.as_ref()
    }

    /// Whether it missed the call.
    #[must_use]
    pub fn is_missed(&self) -> bool {
        self.missed_call == Some(true)
    }

    /// Whether the call is inbound for it.
    #[must_use]
    pub fn is_inbound(&self) -> bool {
        self.direction == Some(Direction::Inbound)
    }

    /// Whether the call is outbound for it.
    #[must_use]
    pub fn is_outbound(&self) -> bool {
        self.direction == Some(Direction::Outbound)
    }
}
