//! Bodies of the presence family.

use super::id::{CallQueueId, PartyId, SessionId, TelephonySessionId};
use super::macros::{body, open_enum};
use super::message::Direction;
use crate::ids::ExtensionId;
use crate::timestamp::Timestamp;

open_enum! {
    /// The state of an extension's phone.
    pub enum TelephonyStatus {
        NoCall = "NoCall",
        CallConnected = "CallConnected",
        Ringing = "Ringing",
        OnHold = "OnHold",
        ParkedCall = "ParkedCall",
    }

    /// Presence, as shown to others or as set by the user.
    pub enum PresenceStatus {
        Offline = "Offline",
        Busy = "Busy",
        Available = "Available",
    }

    /// Whether the user is in a meeting.
    pub enum MeetingStatus {
        Connected = "Connected",
        Disconnected = "Disconnected",
    }

    /// The calls that an extension accepts (do not disturb).
    pub enum DndStatus {
        TakeAllCalls = "TakeAllCalls",
        DoNotAcceptAnyCalls = "DoNotAcceptAnyCalls",
        /// All except those of call queues.
        DoNotAcceptDepartmentCalls = "DoNotAcceptDepartmentCalls",
        /// Only those of call queues.
        TakeDepartmentCallsOnly = "TakeDepartmentCallsOnly",
        Unknown = "Unknown",
    }

    /// Whether a call has ended or continues elsewhere.
    pub enum TerminationType {
        Final = "final",
        Intermediate = "intermediate",
    }

    /// Who may see the numbers of an extension's calls.
    pub enum CallerIdVisibility {
        All = "All",
        None = "None",
        PermittedUsers = "PermittedUsers",
    }

    /// State of an appearance of a shared line.
    pub enum LineStatus {
        Seized = "Seized",
        Released = "Released",
    }

    /// The kind of a part of a call's label.
    pub enum CallInfoType {
        PhoneNumberLabel = "PhoneNumberLabel",
        PhoneNumber = "PhoneNumber",
        QueueExtension = "QueueExtension",
        QueueName = "QueueName",
        CallerIdName = "CallerIdName",
        CallerIdNumber = "CallerIdNumber",
        None = "None",
    }
}

body! {
    /// Presence of an extension: simple, detailed, or detailed with SIP data.
    ///
    /// The detailed forms add `active_calls`, `total_active_calls` and `appearances`; the form with
    /// SIP data also fills `sip_data` of each call. Bodies may arrive out of order: drop those of
    /// an extension with a lower `sequence` than the last.
    pub struct Presence {
        /// The extension; `~` is the login's.
        pub extension_id: Option<ExtensionId> = "extensionId",
        /// The state of its phone; only sent if that changed.
        pub telephony_status: Option<TelephonyStatus> = "telephonyStatus",
        /// Orders the bodies of one extension.
        pub sequence: Option<i64> = "sequence",
        /// Presence as others see it.
        pub presence_status: Option<PresenceStatus> = "presenceStatus",
        /// Presence as the user set it.
        pub user_status: Option<PresenceStatus> = "userStatus",
        /// Whether the user is in a meeting.
        pub meeting_status: Option<MeetingStatus> = "meetingStatus",
        /// The calls that the extension accepts.
        pub dnd_status: Option<DndStatus> = "dndStatus",
        /// The same, as the user set it; in newer payloads.
        pub dnd_status_personal: Option<DndStatus> = "dndStatusPersonal",
        /// Whether it accepts calls of its queues; in newer payloads.
        pub accept_call_queue_calls: Option<bool> = "acceptCallQueueCalls",
        /// Whether others may see this presence.
        pub allow_see_my_presence: Option<bool> = "allowSeeMyPresence",
        /// Who may see the numbers of its calls; found by catch-up only.
        pub caller_id_visibility: Option<CallerIdVisibility> = "callerIdVisibility",
        /// Whether it rings for monitored calls.
        pub ring_on_monitored_call: Option<bool> = "ringOnMonitoredCall",
        /// Whether it may pick up a monitored line on hold.
        pub pick_up_calls_on_hold: Option<bool> = "pickUpCallsOnHold",
        /// Telephony status over all systems; in newer payloads.
        pub aggregated_telephony_status: Option<TelephonyStatus> = "aggregatedTelephonyStatus",
        /// Telephony status in the contact centre; in newer payloads.
        pub cx_telephony_status: Option<TelephonyStatus> = "cxTelephonyStatus",
        /// The user's status message; in newer payloads.
        pub message: Option<String> = "message",
        /// The owner of the subscription, if the body repeats it.
        pub owner_id: Option<ExtensionId> = "ownerId",
        /// The latest seven calls; absent when idle.
        pub active_calls: Vec<ActiveCall> = "activeCalls",
        /// Number of calls. If more than listed, read the presence resource.
        pub total_active_calls: Option<u64> = "totalActiveCalls",
        /// Appearances of shared lines.
        pub appearances: Vec<Appearance> = "appearances",
    }

    /// A call of an extension.
    pub struct ActiveCall {
        /// Its id.
        pub id: Option<String> = "id",
        /// Whether it is inbound or outbound.
        pub direction: Option<Direction> = "direction",
        /// Whether it arrived through a call queue.
        pub queue_call: Option<bool> = "queueCall",
        /// The caller's number, full or short.
        pub from: Option<String> = "from" | "_from",
        /// The caller's name.
        pub from_name: Option<String> = "fromName",
        /// The number called, full or short.
        pub to: Option<String> = "to",
        /// The name of the called party.
        pub to_name: Option<String> = "toName",
        /// When it began.
        pub start_time: Option<Timestamp> = "startTime",
        /// Its state.
        pub telephony_status: Option<TelephonyStatus> = "telephonyStatus",
        /// Whether it has ended or continues elsewhere; with `NoCall`.
        pub termination_type: Option<TerminationType> = "terminationType",
        /// Its id by the older API.
        pub session_id: Option<SessionId> = "sessionId",
        /// Its id for call control.
        pub telephony_session_id: Option<TelephonySessionId> = "telephonySessionId",
        /// This extension's party in it.
        pub party_id: Option<PartyId> = "partyId",
        /// On whose behalf the call was made.
        pub on_behalf_of: Option<String> = "onBehalfOf",
        /// SIP data, if the filter requests it.
        pub sip_data: Option<ActiveCallSipData> = "sipData",
        /// The label that a phone should show for it.
        pub call_info: Option<CallInfo> = "callInfo",
        /// The appearance of a shared line it is on.
        pub appearance_info: Option<Appearance> = "appearanceInfo",
    }

    /// SIP data of an active call.
    pub struct ActiveCallSipData {
        /// `Call-ID` header.
        pub call_id: Option<String> = "callId",
        /// Tag of the callee.
        pub to_tag: Option<String> = "toTag",
        /// Tag of the caller.
        pub from_tag: Option<String> = "fromTag",
        /// The remote side's URI; may be `-`.
        pub remote_uri: Option<String> = "remoteUri",
        /// The local URI; may be `-`.
        pub local_uri: Option<String> = "localUri",
        /// RingCentral's id of the session.
        pub rc_session_id: Option<String> = "rcSessionId",
    }

    /// The label that a phone should show for a call.
    pub struct CallInfo {
        /// The first line.
        pub primary: Option<CallInfoLine> = "primary",
        /// The second line.
        pub additional: Option<CallInfoLine> = "additional",
    }

    /// One line of a call's label.
    pub struct CallInfoLine {
        /// Its kind.
        pub info_type: Option<CallInfoType> = "type",
        /// Its text.
        pub value: Option<String> = "value",
    }

    /// An appearance of a shared line.
    pub struct Appearance {
        /// The line's number.
        pub phone_number: Option<String> = "phoneNumber",
        /// The number of the appearance, 1 to 8.
        pub appearance_number: Option<u64> = "appearanceNumber",
        /// Its state.
        pub line_status: Option<LineStatus> = "lineStatus",
    }

    /// Names the changed monitored lines, not the change: read their presence.
    pub struct PresenceLine {
        /// The extensions concerned, and numbers of lines such as `3`.
        pub extensions: Vec<LineExtension> = "extension",
        /// Orders these bodies.
        pub sequence: Option<i64> = "sequence",
        /// The owner of the subscription, if the body repeats it.
        pub owner_id: Option<ExtensionId> = "ownerId",
    }

    /// A monitored line.
    pub struct LineExtension {
        /// The extension, or the number of a line.
        pub id: Option<ExtensionId> = "id",
    }

    /// The calls that an extension accepts.
    pub struct ExtensionDnd {
        /// The extension.
        pub extension_id: Option<ExtensionId> = "extensionId",
        /// The calls it accepts.
        pub dnd_status: Option<DndStatus> = "dndStatus",
        /// The owner of the subscription, if the body repeats it.
        pub owner_id: Option<ExtensionId> = "ownerId",
    }

    /// Whether members of a call queue accept its calls.
    ///
    /// Guide and schema show different forms, with `records` and flat. Both are read;
    /// [`members`](Self::members) covers either.
    pub struct QueuePresence {
        /// The members concerned, in the form with records.
        pub records: Vec<QueueMember> = "records",
        /// The member, in the flat form.
        pub extension_id: Option<ExtensionId> = "extensionId",
        /// The queue, in the flat form.
        pub call_queue_id: Option<CallQueueId> = "callQueueId",
        /// Whether the member accepts the queue's calls, in the flat form.
        pub accept_calls: Option<bool> = "acceptCalls",
        /// The owner of the subscription, if the body repeats it.
        pub owner_id: Option<ExtensionId> = "ownerId",
    }

    /// A member of a call queue.
    pub struct QueueMember {
        /// The member.
        pub member: Option<QueueMemberRef> = "member",
        /// Whether it accepts the queue's calls.
        pub accept_current_queue_calls: Option<bool> = "acceptCurrentQueueCalls",
    }

    /// The identity of a member of a call queue.
    pub struct QueueMemberRef {
        /// The extension.
        pub id: Option<ExtensionId> = "id",
    }
}

impl Presence {
    /// Whether the extension has a call, according to this body.
    #[must_use]
    pub fn is_on_call(&self) -> bool {
        self.telephony_status.as_ref().is_some_and(|status| *status != TelephonyStatus::NoCall)
    }

    /// Whether there are more calls than the body lists.
    #[must_use]
    pub fn has_unlisted_calls(&self) -> bool {
        self.total_active_calls.is_some_and(|total| total > self.active_calls.len() as u64)
    }
}

impl QueuePresence {
    /// Members and whether they accept the queue's calls, from either form.
    pub fn members(&self) -> impl Iterator<Item = (&ExtensionId, Option<bool>)> {
        let listed = self
            .records
            .iter()
            .filter_map(|record| Some((record.member.as_ref()?.id.as_ref()?, record.accept_current_queue_calls)));
        listed.chain(self.extension_id.as_ref().map(|id| (id, self.accept_calls)))
    }
}
