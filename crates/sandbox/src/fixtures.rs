//! Canned events.

use serde::Deserialize;

/// An event to trigger. Created by one of the functions; over HTTP by its name in `fixture`, such
/// as `{"fixture":"inbound_sms","text":"hi"}`.
///
/// Bodies have the fields of the service's samples and captures.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "fixture", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fixture {
    /// A text message was received: an instant event, and the message-store hint. The message store
    /// contains the message.
    #[non_exhaustive]
    InboundSms {
        /// Sender. Default `+16505550100`.
        #[serde(default = "caller")]
        from: String,
        /// Text (`subject`).
        #[serde(default = "greeting")]
        text: String,
        /// The message's owner. Default the user.
        #[serde(default)]
        extension: Option<String>,
    },
    /// Another user posted to a chat.
    #[non_exhaustive]
    TeamPost {
        /// The chat (`groupId`). Default the sandbox's first chat.
        #[serde(default = "chat")]
        chat_id: String,
        /// The author. Default another user.
        #[serde(default = "colleague")]
        creator_id: String,
        /// Text.
        #[serde(default = "greeting")]
        text: String,
    },
    /// The user's presence changed; filters with `detailedTelephonyState` and `sipData` get more
    /// detailed bodies.
    #[non_exhaustive]
    Presence {
        /// `presenceStatus`. Default `Busy`.
        #[serde(default = "busy")]
        presence_status: String,
        /// `telephonyStatus`. Default `CallConnected`.
        #[serde(default = "connected")]
        telephony_status: String,
    },
    /// A call changed its state. Until it is `Disconnected` or `Gone`, `telephony/sessions/{id}` has it; then it
    /// appears in the call log after `call_log_delay`.
    #[non_exhaustive]
    TelephonySession {
        /// `status.code` of its party. Default `Proceeding`.
        #[serde(default = "proceeding")]
        status: String,
        /// Caller. Default `+16505550100`.
        #[serde(default = "caller")]
        from: String,
        /// Number of its session, whose id is `s-sandbox-` and this number. Default a new one.
        #[serde(default)]
        session: Option<String>,
        /// Whether the call log will name a recording of it.
        #[serde(default)]
        recorded: bool,
        /// Whether it left a voicemail: at its end the message store contains it, and the call log will
        /// name it.
        #[serde(default)]
        voicemail: bool,
    },
    /// A voicemail was received: a dedicated event, and the message-store hint.
    #[non_exhaustive]
    Voicemail {
        /// Caller. Default `+16505550100`.
        #[serde(default = "caller")]
        from: String,
        /// The message's owner. Default the user.
        #[serde(default)]
        extension: Option<String>,
    },
    /// A fax was received: a dedicated event, and the message-store hint.
    #[non_exhaustive]
    Fax {
        /// Sender. Default `+16505550100`.
        #[serde(default = "caller")]
        from: String,
        /// The message's owner. Default the user.
        #[serde(default)]
        extension: Option<String>,
    },
    /// A message of the store was read; a hint about an update.
    #[non_exhaustive]
    MessageRead {
        /// Its id.
        id: u64,
    },
    /// A message of the store was deleted; a hint about an update.
    #[non_exhaustive]
    MessageDeleted {
        /// Its id.
        id: u64,
        /// Whether it is deleted permanently. Default false: moved to the bin.
        #[serde(default)]
        purge: bool,
    },
    /// Another user replied to a post, in its thread.
    #[non_exhaustive]
    PostReplied {
        /// The post's id.
        id: String,
        /// Who replied.
        #[serde(default = "colleague")]
        creator_id: String,
        /// The reply.
        #[serde(default = "greeting")]
        text: String,
    },
    /// A post was edited.
    #[non_exhaustive]
    PostEdited {
        /// Its id.
        id: String,
        /// Its new text.
        #[serde(default = "greeting")]
        text: String,
    },
    /// A post was removed.
    #[non_exhaustive]
    PostRemoved {
        /// Its id.
        id: String,
    },
    /// A chat was renamed, or joined if it is new.
    #[non_exhaustive]
    ChatNamed {
        /// The chat.
        id: String,
        /// Its name.
        name: String,
    },
    /// The user left a chat.
    #[non_exhaustive]
    ChatLeft {
        /// The chat.
        id: String,
    },
    /// An incoming webhook of a chat was created, changed or deleted.
    #[non_exhaustive]
    TeamWebhook {
        /// Its id.
        id: String,
        /// `eventType`: `WebhookCreated`, `WebhookUpdated` or `WebhookDeleted`. Default `WebhookCreated`.
        #[serde(default = "webhook_created")]
        event_type: String,
        /// The chat (`groupIds`). Default the sandbox's first chat.
        #[serde(default = "chat")]
        chat_id: String,
    },
    /// A call was missed: the missed-call event and the end of the session. The call log contains
    /// it after `call_log_delay`.
    #[non_exhaustive]
    MissedCall {
        /// Caller. Default `+16505550100`.
        #[serde(default = "caller")]
        from: String,
    },
    /// A recorded call ended; raises no event. The call log contains it after `call_log_delay`.
    #[non_exhaustive]
    RecordedCall {
        /// Number of its session, whose id is `s-sandbox-` and this number.
        session: String,
        /// Caller. Default `+16505550100`.
        #[serde(default = "caller")]
        from: String,
    },
    /// Insights of a session were made; the second ones of a session are added to the first.
    #[non_exhaustive]
    Insights {
        /// `pbx`, `rcv` or another. Default `pbx`.
        #[serde(default = "pbx")]
        domain: String,
        /// The id of the session or meeting (`sourceSessionId`).
        session: String,
        /// Its `Summary`.
        #[serde(default = "greeting")]
        summary: String,
    },
    /// A high-volume message was received.
    #[non_exhaustive]
    A2pMessage {
        /// Sender. Default `+16505550100`.
        #[serde(default = "caller")]
        from: String,
        /// Its text.
        #[serde(default = "greeting")]
        text: String,
        /// `Inbound` or `Outbound`. Default `Inbound`.
        #[serde(default = "inbound")]
        direction: String,
    },
    /// A high-volume message changed its status.
    #[non_exhaustive]
    A2pStatus {
        /// Its id.
        id: u64,
        /// `messageStatus`.
        status: String,
    },
    /// An extension was added to the account.
    #[non_exhaustive]
    ExtensionAdded {
        /// Its id, a decimal number.
        id: String,
    },
    /// An extension of the account changed: its name.
    #[non_exhaustive]
    ExtensionChanged {
        /// Its id.
        id: String,
    },
    /// An extension of the account was removed.
    #[non_exhaustive]
    ExtensionRemoved {
        /// Its id.
        id: String,
    },
    /// The message store changed. New messages are added to it, and the newest ones are touched for
    /// updates; the hint has no ids, like its older versions.
    #[non_exhaustive]
    MessageStore {
        /// `changes[].type`. Default `SMS`.
        #[serde(default = "sms")]
        message_type: String,
        /// `newCount`. Default 1.
        #[serde(default = "one")]
        new_count: u32,
        /// `updatedCount`. Default 0.
        #[serde(default)]
        updated_count: u32,
    },
    /// A subscription expires soon.
    #[non_exhaustive]
    SubscriptionReminder {
        /// Seconds left. Default 60.
        #[serde(default = "minute")]
        expires_in: u64,
    },
}

pub(crate) fn caller() -> String {
    "+16505550100".into()
}
pub(crate) fn greeting() -> String {
    "Hello from the sandbox".into()
}
fn chat() -> String {
    "1200000001".into()
}
fn colleague() -> String {
    "100200399".into()
}
fn webhook_created() -> String {
    "WebhookCreated".into()
}
fn busy() -> String {
    "Busy".into()
}
fn connected() -> String {
    "CallConnected".into()
}
fn proceeding() -> String {
    "Proceeding".into()
}
fn sms() -> String {
    "SMS".into()
}
fn one() -> u32 {
    1
}
fn inbound() -> String {
    "Inbound".into()
}
fn pbx() -> String {
    "pbx".into()
}
fn minute() -> u64 {
    60
}

impl Fixture {
    /// A text message from `from`.
    #[must_use]
    pub fn inbound_sms(from: impl Into<String>, text: impl Into<String>) -> Self {
        Self::InboundSms { from: from.into(), text: text.into(), extension: None }
    }

    /// A post in the sandbox's first chat by another user.
    #[must_use]
    pub fn team_post(text: impl Into<String>) -> Self {
        Self::TeamPost { chat_id: chat(), creator_id: colleague(), text: text.into() }
    }

    /// A presence change: `presenceStatus` and `telephonyStatus`.
    #[must_use]
    pub fn presence(presence_status: impl Into<String>, telephony_status: impl Into<String>) -> Self {
        Self::Presence { presence_status: presence_status.into(), telephony_status: telephony_status.into() }
    }

    /// A call whose party is now in `status`.
    #[must_use]
    pub fn telephony_session(status: impl Into<String>) -> Self {
        Self::TelephonySession {
            status: status.into(),
            from: caller(),
            session: None,
            recorded: false,
            voicemail: false,
        }
    }

    /// The call of the session `s-sandbox-{session}` is now in `status`.
    #[must_use]
    pub fn call(session: impl Into<String>, status: impl Into<String>) -> Self {
        let call = Self::telephony_session(status);
        match call {
            Self::TelephonySession { status, from, recorded, voicemail, .. } => {
                Self::TelephonySession { status, from, session: Some(session.into()), recorded, voicemail }
            }
            other => other,
        }
    }

    /// A call with a recording, if this is a call.
    #[must_use]
    pub fn with_recording(mut self) -> Self {
        if let Self::TelephonySession { recorded, .. } = &mut self {
            *recorded = true;
        }
        self
    }

    /// A call that leaves a voicemail, if this is a call.
    #[must_use]
    pub fn with_voicemail(mut self) -> Self {
        if let Self::TelephonySession { voicemail, .. } = &mut self {
            *voicemail = true;
        }
        self
    }

    /// A voicemail from `from`.
    #[must_use]
    pub fn voicemail(from: impl Into<String>) -> Self {
        Self::Voicemail { from: from.into(), extension: None }
    }

    /// A fax from `from`.
    #[must_use]
    pub fn fax(from: impl Into<String>) -> Self {
        Self::Fax { from: from.into(), extension: None }
    }

    /// The message `id` was read.
    #[must_use]
    pub fn message_read(id: u64) -> Self {
        Self::MessageRead { id }
    }

    /// The message `id` was moved to the bin.
    #[must_use]
    pub fn message_deleted(id: u64) -> Self {
        Self::MessageDeleted { id, purge: false }
    }

    /// The message `id` was deleted permanently.
    #[must_use]
    pub fn message_purged(id: u64) -> Self {
        Self::MessageDeleted { id, purge: true }
    }

    /// A recorded call of the session `s-sandbox-{session}` ended.
    #[must_use]
    pub fn recorded_call(session: impl Into<String>) -> Self {
        Self::RecordedCall { session: session.into(), from: caller() }
    }

    /// Insights of a session of `domain` were made.
    #[must_use]
    pub fn insights(domain: impl Into<String>, session: impl Into<String>, summary: impl Into<String>) -> Self {
        Self::Insights { domain: domain.into(), session: session.into(), summary: summary.into() }
    }

    /// Another user replies to the post `id`.
    #[must_use]
    pub fn post_reply(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self::PostReplied { id: id.into(), creator_id: colleague(), text: text.into() }
    }

    /// The post `id` has a new text.
    #[must_use]
    pub fn post_edited(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self::PostEdited { id: id.into(), text: text.into() }
    }

    /// The post `id` was removed.
    #[must_use]
    pub fn post_removed(id: impl Into<String>) -> Self {
        Self::PostRemoved { id: id.into() }
    }

    /// The chat `id` was renamed to `name`.
    #[must_use]
    pub fn chat_named(id: impl Into<String>, name: impl Into<String>) -> Self {
        Self::ChatNamed { id: id.into(), name: name.into() }
    }

    /// The user left the chat `id`.
    #[must_use]
    pub fn chat_left(id: impl Into<String>) -> Self {
        Self::ChatLeft { id: id.into() }
    }

    /// The incoming webhook `id` of the sandbox's first chat was created (`WebhookCreated`), changed
    /// (`WebhookUpdated`) or deleted (`WebhookDeleted`).
    #[must_use]
    pub fn team_webhook(id: impl Into<String>, event_type: impl Into<String>) -> Self {
        Self::TeamWebhook { id: id.into(), event_type: event_type.into(), chat_id: chat() }
    }

    /// A missed call from `from`.
    #[must_use]
    pub fn missed_call(from: impl Into<String>) -> Self {
        Self::MissedCall { from: from.into() }
    }

    /// A high-volume message from `from`.
    #[must_use]
    pub fn a2p_message(from: impl Into<String>, text: impl Into<String>) -> Self {
        Self::A2pMessage { from: from.into(), text: text.into(), direction: inbound() }
    }

    /// The high-volume message `id` is now `status`.
    #[must_use]
    pub fn a2p_status(id: u64, status: impl Into<String>) -> Self {
        Self::A2pStatus { id, status: status.into() }
    }

    /// The extension `id`, a decimal number, was added.
    #[must_use]
    pub fn extension_added(id: impl Into<String>) -> Self {
        Self::ExtensionAdded { id: id.into() }
    }

    /// The extension `id` changed.
    #[must_use]
    pub fn extension_changed(id: impl Into<String>) -> Self {
        Self::ExtensionChanged { id: id.into() }
    }

    /// The extension `id` was removed.
    #[must_use]
    pub fn extension_removed(id: impl Into<String>) -> Self {
        Self::ExtensionRemoved { id: id.into() }
    }

    /// The same event for another extension; only messages support it.
    #[must_use]
    pub fn for_extension(mut self, id: impl Into<String>) -> Self {
        if let Self::InboundSms { extension, .. } | Self::Voicemail { extension, .. } | Self::Fax { extension, .. } =
            &mut self
        {
            *extension = Some(id.into());
        }
        self
    }

    /// `new_count` new messages of `message_type`.
    #[must_use]
    pub fn message_store(message_type: impl Into<String>, new_count: u32) -> Self {
        Self::MessageStore { message_type: message_type.into(), new_count, updated_count: 0 }
    }

    /// The reminder that a subscription has `expires_in` seconds left.
    #[must_use]
    pub fn subscription_reminder(expires_in: u64) -> Self {
        Self::SubscriptionReminder { expires_in }
    }
}
