//! Bodies of telephony: call sessions, missed and incoming calls.

use super::id::{MessageId, PartyId, RecordingId, SessionId, TelephonySessionId};
use super::lenient::{Body, Lenient, Slot, object};
use super::macros::{body, deserialize_leniently, open_enum, write_present};
use super::message::{Direction, MessageType};
use super::presence::CallInfo;
use super::push::Aps;
use crate::ids::{AccountId, ExtensionId};
use crate::json::Json;
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

    /// Role of a party in a call that the service set up between two phones.
    pub enum RingRole {
        /// Asked for the call; its phone rings first.
        Initiator = "Initiator",
        /// Is called next.
        Target = "Target",
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
        /// Whether the call is inbound or outbound for it, as sent. The service calls the phone of a
        /// RingOut's initiator and may report that as an inbound call, with `from` and `to` exchanged:
        /// [`call_direction`](Self::call_direction), [`caller`](Self::caller) and
        /// [`callee`](Self::callee) correct it.
        pub direction: Option<Direction> = "direction",
        /// The called party, as sent.
        pub to: Option<PartyAddress> = "to",
        /// The calling party, as sent.
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
        /// Its role in a RingOut.
        pub ring_out_role: Option<RingRole> = "ringOutRole",
        /// Its role in a RingMe.
        pub ring_me_role: Option<RingRole> = "ringMeRole",
        /// The owner of the call, if it is monitored.
        pub owner: Option<PartyOwner> = "owner",
        /// The message that the call left.
        pub message: Option<PartyMessage> = "message",
        /// Recordings, if the filter requests them.
        pub recordings: Vec<Recording> = "recordings",
        /// Where it is parked; often empty.
        pub park: Option<Park> = "park",
        /// SIP data, if the filter requests it.
        pub sip_data: Option<PartySipData> = "sipData",
        /// The label that a phone should show.
        pub ui_call_info: Option<CallInfo> = "uiCallInfo",
    }

    /// The owner of a monitored call.
    pub struct PartyOwner {
        /// The account.
        pub account_id: Option<AccountId> = "accountId",
        /// The extension.
        pub extension_id: Option<ExtensionId> = "extensionId",
    }

    /// One end of a call.
    pub struct PartyAddress {
        /// A full or short number, or text such as `conference`.
        pub phone_number: Option<String> = "phoneNumber" | "number",
        /// The short number, where it is sent apart.
        pub extension_number: Option<String> = "extensionNumber",
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

/// The message that a call left, in the form of the call log: a voicemail or fax of the message store. The
/// form in events is undocumented; a plain text is read too.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PartyMessage {
    /// The message.
    ///
    /// On the wire `id`.
    pub id: Option<MessageId>,
    /// Its type.
    ///
    /// On the wire `type`.
    pub message_type: Option<MessageType>,
    /// Its address in the API.
    ///
    /// On the wire `uri`.
    pub uri: Option<String>,
    /// Its text.
    ///
    /// On the wire `text`, or the message itself.
    pub text: Option<String>,
}

impl Body for PartyMessage {
    fn absorb(&mut self, raw: Json<'_>) -> bool {
        object(raw, &mut |key, value| match key {
            "id" => self.id.fill(value),
            "type" => self.message_type.fill(value),
            "uri" => self.uri.fill(value),
            "text" => self.text.fill(value),
            _ => {}
        })
    }
}

impl Lenient for PartyMessage {
    fn read(raw: Json<'_>) -> Option<Self> {
        let mut message = Self::default();
        if !message.absorb(raw) {
            message.text = Some(String::read(raw)?);
        }
        Some(message)
    }
}

write_present!(PartyMessage { id = "id", message_type = "type", uri = "uri", text = "text" });
deserialize_leniently!(PartyMessage, "an object or a text");

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

    /// Whether the call is inbound or outbound for it. A RingOut is outbound for its initiator, even if
    /// it was sent as inbound since the initiator's phone rings first.
    #[must_use]
    pub fn call_direction(&self) -> Option<&Direction> {
        if self.is_reversed() { Some(&Direction::Outbound) } else { self.direction.as_ref() }
    }

    /// The calling party, with the correction of [`call_direction`](Self::call_direction).
    #[must_use]
    pub fn caller(&self) -> Option<&PartyAddress> {
        if self.is_reversed() { self.to.as_ref() } else { self.from.as_ref() }
    }

    /// The called party, with the correction of [`call_direction`](Self::call_direction).
    #[must_use]
    pub fn callee(&self) -> Option<&PartyAddress> {
        if self.is_reversed() { self.from.as_ref() } else { self.to.as_ref() }
    }

    /// Whether this is the initiator of a RingOut, sent as the recipient of the service's call to its phone.
    fn is_reversed(&self) -> bool {
        self.ring_out_role == Some(RingRole::Initiator) && self.direction == Some(Direction::Inbound)
    }

    /// Whether the call is inbound for it, by [`call_direction`](Self::call_direction).
    #[must_use]
    pub fn is_inbound(&self) -> bool {
        self.call_direction() == Some(&Direction::Inbound)
    }

    /// Whether the call is outbound for it, by [`call_direction`](Self::call_direction).
    #[must_use]
    pub fn is_outbound(&self) -> bool {
        self.call_direction() == Some(&Direction::Outbound)
    }
}
