//! Events about the agent's contacts.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::id::ContactId;
use super::value::{Fields, body, text, words};
use crate::event::RawJson;
use crate::event::lenient::{Lenient as _, Slot as _, object};
use crate::json::Json;
use crate::timestamp::Timestamp;

words! {
    /// The state of a contact (`Status`, of every channel).
    pub enum ContactStatus {
        /// Is offered.
        Incoming = "Incoming",
        /// Rings.
        Ringing = "Ringing",
        /// Is dialled.
        Dialing = "Dialing",
        /// Is being worked on. Also follows a hold.
        Active = "Active",
        /// Is on hold. There is no event called "hold".
        Holding = "Holding",
        /// Is part of a conference.
        Joined = "Joined",
        /// The recording is paused.
        Masking = "Masking",
        /// The dialer shows it before it dials.
        Preview = "Preview",
        /// The customer has left; comes again with `FinalState` `True` once the work after the contact is done.
        Disconnected = "Disconnected",
        /// A callback has ended.
        CallBackDisconnected = "CallBackDisconnected",
        /// Natural calling dials.
        NaturalCallDialing = "NaturalCallDialing",
        /// Natural calling listens for an answering machine.
        NaturalCallAmd = "NaturalCallAMD",
        /// Natural calling rings.
        NaturalCallRinging = "NaturalCallRinging",
        /// A work item is transferred.
        Transfer = "Transfer",
        /// Is interrupted.
        Interrupted = "Interrupted",
        /// A voicemail is discarded.
        Discarded = "Discarded",
        /// Is waiting (unofficial).
        Waiting = "Waiting",
        /// Is inviting (unofficial).
        Inviting = "Inviting",
    }

    /// The type of a call (`CallType`).
    pub enum CallType {
        /// An ordinary call.
        Regular = "Regular",
        /// The agent's own leg.
        AgentLeg = "AgentLeg",
        /// Is transferred to another skill.
        ReskillProxy = "ReskillProxy",
        /// A consultation.
        Consult = "Consult",
        /// From the agent's own queue.
        PersonalQueue = "PersonalQueue",
        /// From the dialer.
        Dialer = "Dialer",
        /// A supervisor took it over.
        TakeOver = "TakeOver",
        /// From natural calling.
        NaturalCalling = "NaturalCalling",
    }
}

body! {
    /// `CallContactEvent`: a call changed its state.
    pub struct CallContact {
        /// The contact's id; changes with a transfer.
        contact_id: contact = "ContactID",
        /// The id that stays the same over transfers.
        master_id: contact = "MasterID",
        /// The contact whose consultation or conference this is.
        parent_contact_id: contact = "ParentContactId",
        /// The id that links the channels of one customer.
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
        /// Whether it is inbound.
        is_inbound: flag = "IsInbound",
        /// Whether the agent may set a disposition.
        allow_dispositions: flag = "AllowDispositions",
        /// Whether this is the contact's last event.
        final_state: flag = "FinalState",
        /// Whether the agent asked to record.
        is_logging: flag = "IsLogging",
        /// Whether it is linked to a lead of the dialer.
        is_linked: flag = "IsLinked",
        /// When it started; may lack a zone. See [`started_at`](Self::started_at).
        start_time: date = "StartTime",
        /// When it started, in UTC.
        start_time_utc: date = "StartTimeUTC",
        /// When this state began; may lack a zone.
        last_state_change_time: date = "LastStateChangeTime",
        /// When this state began, in UTC.
        last_state_change_time_utc: date = "LastStateChangeTimeUTC",
        /// The page to show.
        screen_pop_url: text = "ScreenPopUrl",
        /// See [`screen_pop_variables`](Self::screen_pop_variables).
        screen_pop_url_variables: json = "ScreenPopUrlVariables",
        /// The customer's card.
        customer_card_url: text = "CustomerCardUrl",
        /// Why it ended.
        disconnect_code: text = "DisconnectCode",
        /// How long the agent may refuse or preview it, in seconds; 0 for no limit.
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
        /// Whether the agent must confirm that consent.
        confirmation_required: flag = "ConfirmationRequired",
        /// Whether the agent may override an answering machine.
        ans_machine_override: flag_or_false = "AnsMachineOverride",
        /// Until when the agent may override it.
        ans_machine_override_end_time: date = "AnsMachineOverrideEndTime",
        /// Whether the agent must accept it.
        is_require_manual_accept: flag = "IsRequireManualAccept",
    }

    /// `WorkItemContactEvent`.
    pub struct WorkItemContact {
        /// The contact's id.
        contact_id: contact = "ContactID",
        /// The id that stays the same over transfers.
        master_id: contact = "MasterID",
        /// The contact of which it is a part.
        parent_contact_id: contact = "ParentContactId" | "ParenContactId",
        /// The id that links the channels of one customer.
        omni_group_id: text = "OmniGroupId",
        /// The agent's id.
        agent_id: agent = "AgentId",
        /// See [`status`](Self::status).
        status_text: text = "Status",
        /// The item's id in its system of origin.
        work_item_id: text = "WorkItemId",
        /// The item's type in that system.
        work_item_type: text = "WorkItemType",
        /// The item's payload: JSON, XML or text.
        work_item_payload: text = "WorkItemPayload",
        /// JSON, XML or text, as the script wrote it.
        custom_data: text = "CustomData",
        /// The skill's id.
        skill_id: skill = "SkillId",
        /// When it started; may lack a zone.
        start_time: date = "StartTime",
        /// When it started, in UTC.
        start_time_utc: date = "StartTimeUTC",
        /// When this state began; may lack a zone.
        last_state_change_time: date = "LastStateChangeTime",
        /// When this state began, in UTC.
        last_state_change_time_utc: date = "LastStateChangeTimeUTC",
        /// The page to show.
        screen_pop_url: text = "ScreenPopUrl",
        /// See [`screen_pop_variables`](Self::screen_pop_variables).
        screen_pop_url_variables: json = "ScreenPopUrlVariables",
        /// How long the agent may refuse it, in seconds.
        refusal_timeout: int = "RefusalTimeout",
        /// Whether this is the contact's last event.
        final_state: flag = "FinalState",
        /// Whether it has the focus.
        in_focus: flag = "InFocus",
        /// The session's number in reports. Not the id that polls use.
        session_number: text = "SessionId",
        /// The page to open.
        url: text = "Url",
        /// The title of its tab.
        tab_title: text = "TabTitle",
        /// Where to open it.
        pop_destination: text = "PopDestination",
        /// The window's height, in pixels.
        popout_window_height: int = "PopoutWindowHeight",
        /// The window's width, in pixels.
        popout_window_width: int = "PopoutWindowWidth",
        /// Whether the page closes with the contact.
        close_popout_upon_termination: flag = "ClosePopoutUponTermination",
    }

    /// `VoiceMailContactEvent`.
    pub struct VoiceMailContact {
        /// The contact's id.
        contact_id: contact = "ContactId",
        /// The id that stays the same over transfers.
        master_id: contact = "MasterID",
        /// The contact of which it is a part.
        parent_contact_id: contact = "ParentContactId",
        /// The id that links the channels of one customer.
        omni_group_id: text = "OmniGroupId",
        /// See [`status`](Self::status).
        status_text: text = "Status",
        /// When it was recorded.
        created_date: date = "CreatedDate",
        /// The recording's length, in seconds.
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
        /// When it started; may lack a zone.
        start_time: date = "StartTime",
        /// When it started, in UTC, if the event names it.
        start_time_utc: date = "StartTimeUTC",
        /// When this state began; may lack a zone.
        last_state_change_time: date = "LastStateChangeTime",
        /// When this state began, in UTC, if the event names it.
        last_state_change_time_utc: date = "LastStateChangeTimeUTC",
        /// The page to show.
        screen_pop_url: text = "ScreenPopUrl",
        /// JSON, XML or text, as the script wrote it.
        custom_data: text = "CustomData",
        /// Whether this is the contact's last event.
        final_state: flag = "FinalState",
        /// Whether it is inbound.
        is_inbound: flag = "IsInbound",
        /// Whether the agent must set a disposition.
        require_disposition: flag = "RequireDisposition",
    }

    /// `VoiceMailPlayBackEvent`.
    pub struct VoiceMailPlayBack {
        /// The contact's id.
        contact_id: contact = "ContactId",
        /// Whether the playback is paused.
        paused: flag = "PlayBackPaused",
        /// The playback's position, in seconds.
        position: int = "PlayBackPosition",
    }

    /// `ChatContactEvent` and its successor `TextContactEvent` (chat and SMS), and, as far as documented,
    /// `EmailContactEvent`. The messages themselves are not in this feed.
    pub struct TextContact {
        /// The contact's id.
        contact_id: contact = "ContactID" | "ContactId",
        /// The id that stays the same over transfers.
        master_id: contact = "MasterID",
        /// The contact of which it is a part.
        parent_contact_id: contact = "ParentContactId",
        /// The id that links the channels of one customer.
        omni_group_id: text = "OmniGroupId",
        /// The chat's room.
        room_id: text = "RoomId",
        /// See [`status`](Self::status).
        status_text: text = "Status",
        /// The skill's name.
        skill: text = "Skill",
        /// When it started; may lack a zone.
        start_time: date = "StartTime",
        /// When it started, in UTC.
        start_time_utc: date = "StartTimeUTC",
        /// When this state began; may lack a zone.
        last_state_change_time: date = "LastStateChangeTime",
        /// When this state began, in UTC.
        last_state_change_time_utc: date = "LastStateChangeTimeUTC",
        /// The page to show.
        screen_pop_url: text = "ScreenPopUrl",
        /// How long the agent may refuse it, in seconds.
        refusal_timeout: int = "RefusalTimeout",
        /// Whether it is being worked on.
        is_active: flag = "IsActive",
        /// Whether it has the focus.
        in_focus: flag = "InFocus",
        /// Whether this is the contact's last event.
        final_state: flag = "FinalState",
        /// The address that the customer wrote to.
        point_of_contact_address: text = "PointOfContactAddress",
        /// The customer's address.
        from_address: text = "FromAddress",
        /// JSON, XML or text, as the script wrote it.
        custom_data: text = "CustomData",
        /// The customer's card.
        customer_card_url: text = "CustomerCardUrl",
    }

    /// `DigitalContactEvent`. In a snapshot it may be long past: check its start time.
    pub struct DigitalContact {
        /// The contact's id.
        contact_id: contact = "ContactID",
        /// Its id in the digital system.
        dfo_contact_id: text = "DFOContactId",
        /// The channel, such as `chat`.
        channel_type: text = "ChannelType",
        /// The customer's name.
        customer_name: text = "CustomerName",
        /// The skill's name.
        skill_name: text = "SkillName",
        /// How long the agent may refuse it, in seconds.
        refusal_timeout: int = "RefusalTimeout",
        /// When it started; may lack a zone.
        start_time: date = "StartTime",
        /// When it started, in UTC.
        start_time_utc: date = "StartTimeUTC",
        /// See [`status`](Self::status).
        status_text: text = "Status",
        /// Whether this is the contact's last event, if the event says so.
        final_state: flag = "FinalState",
    }
}

/// `status()` and `started_at()` of the channels, whose fields have the same names.
macro_rules! status_of {
    ($($name:ident)+) => {$(
        impl $name {
            /// The contact's state, if the event names it (`Status`).
            #[must_use]
            pub fn status(&self) -> Option<ContactStatus> {
                self.status_text.as_deref().map(ContactStatus::from)
            }

            /// When it started: of `StartTimeUTC` and `StartTime` the one that names its zone.
            #[must_use]
            pub fn started_at(&self) -> Option<&Timestamp> {
                self.start_time_utc.as_ref().or(self.start_time.as_ref())
            }
        }
    )+};
}
status_of!(CallContact WorkItemContact VoiceMailContact TextContact DigitalContact);

impl CallContact {
    /// The type of the call, if the event names it.
    #[must_use]
    pub fn call_type(&self) -> Option<CallType> {
        self.call_type_text.as_deref().map(CallType::from)
    }

    /// The variables of the page to show, as names and values.
    #[must_use]
    pub fn screen_pop_variables(&self) -> BTreeMap<String, String> {
        self.screen_pop_url_variables.as_ref().map(|json| variables(json.get().into())).unwrap_or_default()
    }
}

impl WorkItemContact {
    /// The variables of the page to show, as names and values.
    #[must_use]
    pub fn screen_pop_variables(&self) -> BTreeMap<String, String> {
        self.screen_pop_url_variables.as_ref().map(|json| variables(json.get().into())).unwrap_or_default()
    }
}

/// A list of objects of one key each, one object, or either of them as text.
fn variables(raw: Json<'_>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let inner = String::read(raw).and_then(|text| serde_json::from_str::<Box<RawValue>>(&text).ok());
    let mut list: Vec<RawJson> = Vec::new();
    list.fill(inner.as_ref().map_or(raw, Json::from));
    for one in &list {
        object(one.get(), &mut |key, value| {
            found.insert(key.to_owned(), text(value).unwrap_or_default());
        });
    }
    found
}

/// The fields that name a contact, in any channel.
pub(super) fn contact_id(fields: &Fields<'_>) -> Option<ContactId> {
    fields.get(&["ContactID", "ContactId"]).and_then(super::value::contact)
}
