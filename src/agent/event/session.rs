//! Events about the session itself.

use super::value::{body, words};

words! {
    /// Why another program ended the session (`Message` of `RemoteAgentSessionEnd`; unofficial).
    pub enum RemoteEnd {
        /// An administrator or another program ended it.
        RemoteLogoff = "RemoteLogoff",
        /// No poll arrived for too long.
        SessionTimeout = "SessionTimeout",
    }
}

body! {
    /// `AgentSessionStart`: the session exists. In any batch but the first one after a start it opens a snapshot.
    pub struct AgentSessionStart {
        /// The business unit's number.
        business_unit: int = "BusNo",
        /// The agent's id.
        agent_id: agent = "AgentId",
        /// The station's id; 0 for none.
        station_id: int = "StationId",
        /// The phone number of the agent's leg.
        station_phone_number: text = "StationPhoneNumber",
        /// The caller id of the station's calls.
        station_caller_id: text = "StationCallerId",
        /// The session's number in reports. **Not** the id that polls use.
        session_number: int = "SessionId",
        /// The dialer's campaign.
        dialer_campaign: text = "DialerCampaign",
        /// When that campaign started.
        dialer_campaign_start_time: date = "DialerCampaignStartTime",
        /// The supervisor's permission level; 0 for none.
        supervisor_permission_level: int = "SupervisorPermissionLevel",
        /// May pause the recording.
        can_mask: flag = "CanMask",
        /// May see the schedule.
        agent_schedule_permission: flag = "AgentSchedulePermission",
        /// May score recordings.
        score_recordings_permission: flag = "ScoreRecordingsPermission",
        /// The state is hidden from the agent.
        hide_agent_state_permission: flag = "HideAgentStatePermission",
        /// May hold conferences of more than three.
        can_multi_party_conference: flag = "CanMultiPartyConference",
        /// A port of the desktop's connector.
        client_connector_port: int = "ClientConnectorPort",
        /// The most concurrent chats.
        max_concurrent_chats: int = "MaxConcurrentChats",
        /// May record.
        can_record: flag = "CanRecord",
        /// Accepts contacts of several channels at a time.
        enabled_for_multi_channel: flag = "EnabledForMCH",
        /// Sees the customer's card.
        use_customer_card: flag = "UseCustomerCard",
        /// The agent's universal id.
        agent_uuid: text = "AgentUUId",
        /// Undocumented.
        entity_mode: text = "EntityMode",
        /// Another port of the desktop's.
        port_number: int = "portNo",
    }

    /// `AgentSessionEnd`: this agent's own program ended the session.
    pub struct AgentSessionEnd {
        /// The service's message.
        message: text = "Message",
        /// Whether the session ended. The meaning of `False` is not documented.
        success: flag = "Success",
    }

    /// `RemoteAgentSessionEnd`: another program or an administrator ended the session.
    pub struct RemoteAgentSessionEnd {
        /// Why; see [`reason`](Self::reason).
        message: text = "Message",
        /// Whether the session ended.
        success: flag = "Success",
    }

    /// `SessionStartFailed`: for example the agent's phone could not be reached (unofficial).
    pub struct SessionStartFailed {
        /// Why.
        message: text = "Message",
    }

    /// An event that only says that a list changed: fetch the list again.
    pub struct ListChanged {}

    /// `MchAgentSettingsChangeEvent`: the most concurrent contacts of each channel.
    pub struct MchAgentSettingsChange {
        /// Chats.
        chat_threshold: int = "ChatThreshold",
        /// Text messages.
        sms_threshold: int = "SmsThreshold",
        /// E-mails.
        email_threshold: int = "EmailThreshold",
        /// Work items.
        work_item_threshold: int = "WorkItemThreshold",
        /// Digital contacts.
        digital_threshold: int = "DigitalThreshold",
        /// Calls.
        voice_threshold: int = "VoiceThreshold",
        /// All together.
        total_contact_count: int = "TotalContactCount",
        /// Whether a new contact gets the focus.
        contact_auto_focus: flag = "ContactAutoFocus",
        /// Whether the agent may request the next contact.
        request_contact: flag = "RequestContact",
        /// How contacts are delivered.
        delivery_mode: text = "DeliveryMode",
    }
}

impl RemoteAgentSessionEnd {
    /// The reason, if the event names it.
    #[must_use]
    pub fn reason(&self) -> Option<RemoteEnd> {
        self.message.as_deref().map(RemoteEnd::from)
    }
}
