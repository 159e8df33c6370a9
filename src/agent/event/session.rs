//! Events about the session itself.

use super::value::{body, words};

words! {
    /// Why a session was ended from elsewhere (`Message` of `RemoteAgentSessionEnd`;
    /// unofficial).
    pub enum RemoteEnd {
        /// An administrator or another program ended it.
        RemoteLogoff = "RemoteLogoff",
        /// Nobody polled for too long.
        SessionTimeout = "SessionTimeout",
    }
}

body! {
    /// `AgentSessionStart`: the session is there. In any batch but the first one after a
    /// start it opens a snapshot.
    pub struct AgentSessionStart {
        /// The business unit's number.
        business_unit: int = "BusNo",
        /// The agent's id.
        agent_id: int = "AgentId",
        /// The station's id; 0 for none.
        station_id: int = "StationId",
        /// The number that the agent's leg is dialled at.
        station_phone_number: text = "StationPhoneNumber",
        /// The number that calls of the station show.
        station_caller_id: text = "StationCallerId",
        /// The session's number in reports. **Not** the id that polls are made with.
        session_number: int = "SessionId",
        /// The dialer's campaign.
        dialer_campaign: text = "DialerCampaign",
        /// Since when.
        dialer_campaign_start_time: date = "DialerCampaignStartTime",
        /// 0 for none.
        supervisor_permission_level: int = "SupervisorPermissionLevel",
        /// May stop the recording for a while.
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
        /// How many chats at a time.
        max_concurrent_chats: int = "MaxConcurrentChats",
        /// May record.
        can_record: flag = "CanRecord",
        /// Takes contacts of several channels at a time.
        enabled_for_multi_channel: flag = "EnabledForMCH",
        /// Is shown the customer's card.
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
        /// What is said about it.
        message: text = "Message",
        /// Whether it was ended. What `False` means is not documented.
        success: flag = "Success",
    }

    /// `RemoteAgentSessionEnd`: somebody or something else ended the session.
    pub struct RemoteAgentSessionEnd {
        /// Why; see [`reason`](Self::reason).
        message: text = "Message",
        /// Whether it was ended.
        success: flag = "Success",
    }

    /// `SessionStartFailed`: for example the agent's phone could not be reached
    /// (unofficial).
    pub struct SessionStartFailed {
        /// Why.
        message: text = "Message",
    }

    /// An event that says which list changed and nothing more: fetch it again.
    pub struct ListChanged {}

    /// `MchAgentSettingsChangeEvent`: how many contacts of each channel at a time.
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
        /// A new contact gets the focus.
        contact_auto_focus: flag = "ContactAutoFocus",
        /// The agent may ask for the next contact.
        request_contact: flag = "RequestContact",
        /// How contacts are handed out.
        delivery_mode: text = "DeliveryMode",
    }
}

impl RemoteAgentSessionEnd {
    /// Why, if it is told.
    #[must_use]
    pub fn reason(&self) -> Option<RemoteEnd> {
        self.message.as_deref().map(RemoteEnd::from)
    }
}
