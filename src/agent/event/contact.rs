//! Events about the agent's contacts.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::value::{Fields, body, text, words};
use crate::event::RawJson;
use crate::event::lenient::{Lenient as _, Slot as _, object};
use crate::timestamp::Timestamp;

words! {
    /// What a contact does (`Status`, of every channel).
    pub enum ContactStatus {
        /// Is offered.
        Incoming = "Incoming",
        /// Rings.
        Ringing = "Ringing",
        /// Is dialled.
        Dialing = "Dialing",
        /// Is being worked on. Also what follows a hold.
        Active = "Active",
        /// Is on hold. There is no event called "hold".
        Holding = "Holding",
        /// Is part of a conference.
        Joined = "Joined",
        /// The recording is stopped for a while.
        Masking = "Masking",
        /// The dialer shows it before it dials.
        Preview = "Preview",
        /// The customer is gone; comes again with `FinalState` `True` once the work after
        /// it is done.
        Disconnected = "Disconnected",
        /// A callback is gone.
        CallBackDisconnected = "CallBackDisconnected",
        /// Natural calling dials.
        NaturalCallDialing = "NaturalCallDialing",
        /// Natural calling listens for an answering machine.
        NaturalCallAmd = "NaturalCallAMD",
        /// Natural calling rings.
        NaturalCallRinging = "NaturalCallRinging",
        /// A work item is given away.
        Transfer = "Transfer",
        /// Is interrupted.
        Interrupted = "Interrupted",
        /// A voicemail is put away.
        Discarded = "Discarded",
        /// Waits (unofficial).
        Waiting = "Waiting",
        /// Invites (unofficial).
        Inviting = "Inviting",
    }

    /// What sort of call it is (`CallType`).
    pub enum CallType {
        /// An ordinary one.
        Regular = "Regular",
        /// The agent's own leg.
        AgentLeg = "AgentLeg",
        /// Is given to another skill.
        ReskillProxy = "ReskillProxy",
        /// A consultation.
        Consult = "Consult",
        /// Of the agent's own queue.
        PersonalQueue = "PersonalQueue",
        /// Of the dialer.
        Dialer = "Dialer",
        /// A supervisor took it over.
        TakeOver = "TakeOver",
        /// Of natural calling.
        NaturalCalling = "NaturalCalling",
    }
}

body! {
    /// `CallContactEvent`: a call is in another state.
    pub struct CallContact {
        /// The contact's id; another one after a transfer.
        contact_id: text = "ContactID",
        /// The id that stays over transfers.
        master_id: text = "MasterID",
        /// Of what it is a consultation or a conference.
        parent_contact_id: text = "ParentContactId",
        /// What links the channels of one customer.
        omni_group_id: text = "OmniGroupId",
        /// Undocumented.
        external_id: text = "ExternalId",
        /// The interaction's id.
        interaction_id: text = "InteractionId",
        /// Undocumented.
        external_customer_id: text = "ExternalCustomerId",
        /// Undocumented.
        smart_reach_transaction_id: text = "SmartReachTransactionId",
        /// See [`status`](Self::status).
        status_text: text = "Status",
        /// Undocumented.
        original_state: flag = "OriginalState",
        /// See [`call_type`](Self::call_type).
        call_type_text: text = "CallType",
        /// The number that was called.
        dnis: text = "DNIS",
        /// The number that called.
        ani: text = "ANI",
        /// The skill's name.
        skill: text = "Skill",
        /// Undocumented.
        label: text = "Label",
        /// Undocumented.
        blending_to_skill_name: text = "BlendingToSkillName",
        /// Whether it came in.
        is_inbound: flag = "IsInbound",
        /// Whether a disposition may be given.
        allow_dispositions: flag = "AllowDispositions",
        /// Whether nothing follows for this contact.
        final_state: flag = "FinalState",
        /// Whether the agent asked to record.
        is_logging: flag = "IsLogging",
        /// Whether it is linked to a lead of the dialer.
        is_linked: flag = "IsLinked",
        /// Since when; may be without a zone. See [`started_at`](Self::started_at).
        start_time: date = "StartTime",
        /// Since when, in UTC.
        start_time_utc: date = "StartTimeUTC",
        /// Since when in this state; may be without a zone.
        last_state_change_time: date = "LastStateChangeTime",
        /// Since when in this state, in UTC.
        last_state_change_time_utc: date = "LastStateChangeTimeUTC",
        /// What to show.
        screen_pop_url: text = "ScreenPopUrl",
        /// See [`screen_pop_variables`](Self::screen_pop_variables).
        screen_pop_url_variables: json = "ScreenPopUrlVariables",
        /// The customer's card.
        customer_card_url: text = "CustomerCardUrl",
        /// Why it ended.
        disconnect_code: text = "DisconnectCode",
        /// How long it may be refused or previewed, in seconds; 0 for no bound.
        timeout: int_or_zero = "Timeout",
        /// Undocumented.
        time_zones: text = "TimeZones",
        /// HTML.
        other_information: text = "OtherInformation",
        /// HTML.
        other_information_new_format: text = "OtherInformationNewFormat",
        /// JSON, XML or text, as the script wrote it.
        custom_data: text = "CustomData",
        /// `single` or `multi-contact`.
        delivery_type: text = "DeliveryType",
        /// Whether consent to the recording is needed.
        compliance_record: flag = "ComplianceRecord",
        /// Whether that must be confirmed.
        confirmation_required: flag = "ConfirmationRequired",
        /// Whether the agent may override an answering machine.
        ans_machine_override: flag_or_false = "AnsMachineOverride",
        /// Until when.
        ans_machine_override_end_time: date = "AnsMachineOverrideEndTime",
        /// Whether the agent must accept it.
        is_require_manual_accept: flag = "IsRequireManualAccept",
    }

    /// `WorkItemContactEvent`.
    pub struct WorkItemContact {
        /// The contact's id.
        contact_id: text = "ContactID",
        /// The id that stays over transfers.
        master_id: text = "MasterID",
        /// Of what it is part.
        parent_contact_id: text = "ParentContactId" | "ParenContactId",
        /// What links the channels of one customer.
        omni_group_id: text = "OmniGroupId",
        /// The agent's id.
        agent_id: int = "AgentId",
        /// See [`status`](Self::status).
        status_text: text = "Status",
        /// The item's id in the system it came from.
        work_item_id: text = "WorkItemId",
        /// Its type there.
        work_item_type: text = "WorkItemType",
        /// What came with it: JSON, XML or text.
        work_item_payload: text = "WorkItemPayload",
        /// JSON, XML or text, as the script wrote it.
        custom_data: text = "CustomData",
        /// The skill's id.
        skill_id: int = "SkillId",
        /// Since when; may be without a zone.
        start_time: date = "StartTime",
        /// Since when, in UTC.
        start_time_utc: date = "StartTimeUTC",
        /// Since when in this state; may be without a zone.
        last_state_change_time: date = "LastStateChangeTime",
        /// Since when in this state, in UTC.
        last_state_change_time_utc: date = "LastStateChangeTimeUTC",
        /// What to show.
        screen_pop_url: text = "ScreenPopUrl",
        /// See [`screen_pop_variables`](Self::screen_pop_variables).
        screen_pop_url_variables: json = "ScreenPopUrlVariables",
        /// How long it may be refused, in seconds.
        refusal_timeout: int = "RefusalTimeout",
        /// Whether nothing follows for this contact.
        final_state: flag = "FinalState",
        /// Whether it has the focus.
        in_focus: flag = "InFocus",
        /// The session's number in reports. Not the id that polls are made with.
        session_number: text = "SessionId",
        /// What to open.
        url: text = "Url",
        /// Under which title.
        tab_title: text = "TabTitle",
        /// And where.
        pop_destination: text = "PopDestination",
        /// In pixels.
        popout_window_height: int = "PopoutWindowHeight",
        /// In pixels.
        popout_window_width: int = "PopoutWindowWidth",
        /// Whether it is closed with the contact.
        close_popout_upon_termination: flag = "ClosePopoutUponTermination",
    }

    /// `VoiceMailContactEvent`.
    pub struct VoiceMailContact {
        /// The contact's id.
        contact_id: text = "ContactId",
        /// The id that stays over transfers.
        master_id: text = "MasterID",
        /// Of what it is part.
        parent_contact_id: text = "ParentContactId",
        /// What links the channels of one customer.
        omni_group_id: text = "OmniGroupId",
        /// See [`status`](Self::status).
        status_text: text = "Status",
        /// When it was recorded.
        created_date: date = "CreatedDate",
        /// In seconds.
        file_duration: int_or_zero = "FileDuration",
        /// The file's name.
        file_name: text = "FileName",
        /// The number that called.
        from: text = "From",
        /// The number that was called.
        to: text = "To",
        /// Undocumented.
        label: text = "Label",
        /// The skill.
        skill: text = "Skill",
        /// The skill's name.
        skill_name: text = "SkillName",
        /// Undocumented.
        voice_mail_type: text = "VoiceMailType",
        /// Since when; may be without a zone.
        start_time: date = "StartTime",
        /// Since when, in UTC, where it is told.
        start_time_utc: date = "StartTimeUTC",
        /// Since when in this state; may be without a zone.
        last_state_change_time: date = "LastStateChangeTime",
        /// Since when in this state, in UTC, where it is told.
        last_state_change_time_utc: date = "LastStateChangeTimeUTC",
        /// What to show.
        screen_pop_url: text = "ScreenPopUrl",
        /// JSON, XML or text, as the script wrote it.
        custom_data: text = "CustomData",
        /// Whether nothing follows for this contact.
        final_state: flag = "FinalState",
        /// Whether it came in.
        is_inbound: flag = "IsInbound",
        /// Whether a disposition must be given.
        require_disposition: flag = "RequireDisposition",
    }

    /// `VoiceMailPlayBackEvent`.
    pub struct VoiceMailPlayBack {
        /// The contact's id.
        contact_id: text = "ContactId",
        /// Whether it stands still.
        paused: flag = "PlayBackPaused",
        /// Where, in seconds.
        position: int = "PlayBackPosition",
    }

    /// `ChatContactEvent` and its successor `TextContactEvent` (chat and SMS), and, as
    /// far as it is known, `EmailContactEvent`. The messages themselves are not in this
    /// feed.
    pub struct TextContact {
        /// The contact's id.
        contact_id: text = "ContactID" | "ContactId",
        /// The id that stays over transfers.
        master_id: text = "MasterID",
        /// Of what it is part.
        parent_contact_id: text = "ParentContactId",
        /// What links the channels of one customer.
        omni_group_id: text = "OmniGroupId",
        /// The chat's room.
        room_id: text = "RoomId",
        /// See [`status`](Self::status).
        status_text: text = "Status",
        /// The skill's name.
        skill: text = "Skill",
        /// Since when; may be without a zone.
        start_time: date = "StartTime",
        /// Since when, in UTC.
        start_time_utc: date = "StartTimeUTC",
        /// Since when in this state; may be without a zone.
        last_state_change_time: date = "LastStateChangeTime",
        /// Since when in this state, in UTC.
        last_state_change_time_utc: date = "LastStateChangeTimeUTC",
        /// What to show.
        screen_pop_url: text = "ScreenPopUrl",
        /// How long it may be refused, in seconds.
        refusal_timeout: int = "RefusalTimeout",
        /// Whether it is being worked on.
        is_active: flag = "IsActive",
        /// Whether it has the focus.
        in_focus: flag = "InFocus",
        /// Whether nothing follows for this contact.
        final_state: flag = "FinalState",
        /// The address that was written to.
        point_of_contact_address: text = "PointOfContactAddress",
        /// Who wrote.
        from_address: text = "FromAddress",
        /// JSON, XML or text, as the script wrote it.
        custom_data: text = "CustomData",
        /// The customer's card.
        customer_card_url: text = "CustomerCardUrl",
    }

    /// `DigitalContactEvent`. In a snapshot it may be long past: look at its start.
    pub struct DigitalContact {
        /// The contact's id.
        contact_id: text = "ContactID",
        /// Its id in the digital system.
        dfo_contact_id: text = "DFOContactId",
        /// The channel, such as `chat`.
        channel_type: text = "ChannelType",
        /// The customer's name.
        customer_name: text = "CustomerName",
        /// The skill's name.
        skill_name: text = "SkillName",
        /// How long it may be refused, in seconds.
        refusal_timeout: int = "RefusalTimeout",
        /// Since when; may be without a zone.
        start_time: date = "StartTime",
        /// Since when, in UTC.
        start_time_utc: date = "StartTimeUTC",
        /// See [`status`](Self::status).
        status_text: text = "Status",
        /// Whether nothing follows for this contact, where it is told.
        final_state: flag = "FinalState",
    }
}

/// `status()` and `started_at()` of the channels, which name them alike.
macro_rules! status_of {
    ($($name:ident)+) => {$(
        impl $name {
            /// What the contact does, if it is told (`Status`).
            #[must_use]
            pub fn status(&self) -> Option<ContactStatus> {
                self.status_text.as_deref().map(ContactStatus::from)
            }

            /// Since when: of `StartTimeUTC` and `StartTime` the one that names its zone.
            #[must_use]
            pub fn started_at(&self) -> Option<&Timestamp> {
                self.start_time_utc.as_ref().or(self.start_time.as_ref())
            }
        }
    )+};
}
status_of!(CallContact WorkItemContact VoiceMailContact TextContact DigitalContact);

impl CallContact {
    /// What sort of call it is, if it is told.
    #[must_use]
    pub fn call_type(&self) -> Option<CallType> {
        self.call_type_text.as_deref().map(CallType::from)
    }

    /// What is to be shown, as names and values.
    #[must_use]
    pub fn screen_pop_variables(&self) -> BTreeMap<String, String> {
        self.screen_pop_url_variables.as_ref().map(|json| variables(json.get())).unwrap_or_default()
    }
}

impl WorkItemContact {
    /// What is to be shown, as names and values.
    #[must_use]
    pub fn screen_pop_variables(&self) -> BTreeMap<String, String> {
        self.screen_pop_url_variables.as_ref().map(|json| variables(json.get())).unwrap_or_default()
    }
}

/// A list of objects of one key each, one object, or either of them as text.
fn variables(raw: &RawValue) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let inner = String::read(raw).and_then(|text| serde_json::from_str::<Box<RawValue>>(&text).ok());
    let mut list: Vec<RawJson> = Vec::new();
    list.fill(inner.as_deref().unwrap_or(raw));
    for one in &list {
        object(one.get(), &mut |key, value| {
            found.insert(key.to_owned(), text(value).unwrap_or_default());
        });
    }
    found
}

/// Which fields name a contact, in whatever channel.
pub(super) fn contact_id(fields: &Fields<'_>) -> Option<String> {
    fields.get(&["ContactID", "ContactId"]).and_then(text)
}
