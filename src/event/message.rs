//! Bodies of the message store: text messages, faxes, voicemail.

use super::id::{AttachmentId, ConversationId, MessageId};
use super::macros::{body, open_enum};
use crate::ids::{AccountId, ExtensionId};
use crate::timestamp::Timestamp;

open_enum! {
    /// From whose point of view something goes which way.
    pub enum Direction {
        Inbound = "Inbound",
        Outbound = "Outbound",
    }

    /// Type of a message.
    pub enum MessageType {
        /// A text message, with or without media.
        Sms = "SMS",
        /// A message between extensions.
        Pager = "Pager",
        Fax = "Fax",
        /// Guide and captures disagree on the spelling; both are read.
        VoiceMail = "VoiceMail" | "Voicemail",
    }

    /// Whether a message was read.
    pub enum ReadStatus {
        Read = "Read",
        Unread = "Unread",
    }

    /// Priority of a message.
    pub enum Priority {
        Normal = "Normal",
        High = "High",
    }

    /// Whether a message still exists.
    pub enum Availability {
        Alive = "Alive",
        /// In the bin.
        Deleted = "Deleted",
        Purged = "Purged",
    }

    /// How far a message got.
    pub enum MessageStatus {
        Queued = "Queued",
        Sent = "Sent",
        Delivered = "Delivered",
        DeliveryFailed = "DeliveryFailed",
        SendingFailed = "SendingFailed",
        Received = "Received",
    }

    /// Resolution of a fax.
    pub enum FaxResolution {
        High = "High",
        Low = "Low",
    }

    /// What an attachment of a message is.
    pub enum AttachmentType {
        AudioRecording = "AudioRecording",
        AudioTranscription = "AudioTranscription",
        Text = "Text",
        SourceDocument = "SourceDocument",
        RenderedDocument = "RenderedDocument",
        MmsAttachment = "MmsAttachment",
    }

    /// How far the transcription of a voicemail got.
    pub enum TranscriptionStatus {
        NotAvailable = "NotAvailable",
        InProgress = "InProgress",
        TimedOut = "TimedOut",
        Completed = "Completed",
        CompletedPartially = "CompletedPartially",
        Failed = "Failed",
        Unknown = "Unknown",
    }
}

body! {
    /// Something changed in a message store: a hint, not the message.
    ///
    /// Updates carry no ids; run message-sync to learn what changed.
    pub struct MessageStore {
        /// The account.
        pub account_id: Option<AccountId> = "accountId",
        /// The extension whose store it is.
        pub extension_id: Option<ExtensionId> = "extensionId",
        /// When the store changed last.
        pub last_updated: Option<Timestamp> = "lastUpdated",
        /// What changed, per type of message.
        pub changes: Vec<MessageStoreChange> = "changes",
        /// The messages themselves. Never pushed: only what was found by a later
        /// query has them, those that are gone with `id` and `availability` only.
        pub records: Vec<Message> = "records",
    }

    /// Changes of one type of message.
    pub struct MessageStoreChange {
        /// The type of message.
        pub message_type: Option<MessageType> = "type",
        /// How many are new; may be left out when none is.
        pub new_count: Option<u64> = "newCount",
        /// How many were updated; may be left out when none was.
        pub updated_count: Option<u64> = "updatedCount",
        /// Which are new; not sent by older versions, never for updates.
        pub new_message_ids: Vec<MessageId> = "newMessageIds",
    }

    /// A message: SMS or MMS, fax, or voicemail.
    pub struct Message {
        /// Its id in the message store.
        pub id: Option<MessageId> = "id",
        /// To whom; some faxes lack it.
        pub to: Vec<MessageParty> = "to",
        /// From whom.
        pub from: Option<MessageParty> = "from",
        /// Its type.
        pub message_type: Option<MessageType> = "type",
        /// When it was created.
        pub creation_time: Option<Timestamp> = "creationTime",
        /// When it changed last.
        pub last_modified_time: Option<Timestamp> = "lastModifiedTime",
        /// Whether it was read.
        pub read_status: Option<ReadStatus> = "readStatus",
        /// Its priority.
        pub priority: Option<Priority> = "priority",
        /// Pictures, pages, recordings, and the text itself.
        pub attachments: Vec<MessageAttachment> = "attachments",
        /// Whether it came in or went out.
        pub direction: Option<Direction> = "direction",
        /// Whether it still exists.
        pub availability: Option<Availability> = "availability",
        /// The text of an SMS; of a fax a phone number.
        pub subject: Option<String> = "subject",
        /// How far it got.
        pub message_status: Option<MessageStatus> = "messageStatus",
        /// The older form of `conversation`; newer payloads lack it.
        /// [`conversation_id`](Self::conversation_id) reads both.
        pub legacy_conversation_id: Option<ConversationId> = "conversationId",
        /// The conversation it belongs to.
        pub conversation: Option<Conversation> = "conversation",
        /// `Create`, in newer payloads.
        pub event_type: Option<String> = "eventType",
        /// Whose message store it is in, in newer payloads.
        pub owner: Option<MessageOwner> = "owner",
        /// Resolution of a fax.
        pub fax_resolution: Option<FaxResolution> = "faxResolution",
        /// Pages of a fax.
        pub fax_page_count: Option<u64> = "faxPageCount",
        /// How far the transcription of a voicemail got.
        pub vm_transcription_status: Option<TranscriptionStatus> = "vmTranscriptionStatus",
    }

    /// Sender or recipient of a message.
    pub struct MessageParty {
        /// The number, or text such as `anonymous`.
        pub phone_number: Option<String> = "phoneNumber",
        /// The short number within the company.
        pub extension_number: Option<String> = "extensionNumber",
        /// Whether this recipient is the owner of the message store.
        pub target: Option<bool> = "target",
        /// Where the number is from.
        pub location: Option<String> = "location",
        /// The name.
        pub name: Option<String> = "name",
        /// The number taken apart, in newer payloads.
        pub phone_number_info: Option<PhoneNumberParts> = "phoneNumberInfo",
    }

    /// A phone number taken apart.
    pub struct PhoneNumberParts {
        /// The country's code.
        pub country_code: Option<String> = "countryCode",
        /// The area's code.
        pub national_destination_code: Option<String> = "nationalDestinationCode",
        /// The rest.
        pub subscriber_number: Option<String> = "subscriberNumber",
    }

    /// A conversation of text messages.
    pub struct Conversation {
        /// Its id.
        pub id: Option<ConversationId> = "id",
        /// Its address in the API.
        pub uri: Option<String> = "uri",
    }

    /// Whose message store a message is in.
    pub struct MessageOwner {
        /// The extension.
        pub extension_id: Option<ExtensionId> = "extensionId",
        /// The extension's type, such as `User`.
        pub extension_type: Option<String> = "extensionType",
        /// The extension's name.
        pub name: Option<String> = "name",
    }

    /// An attachment of a message.
    pub struct MessageAttachment {
        /// Its id.
        pub id: Option<AttachmentId> = "id",
        /// Where to get it, with an access token: an URL, or a path of the API.
        /// Texts may lack it.
        pub uri: Option<String> = "uri",
        /// What it is.
        pub attachment_type: Option<AttachmentType> = "type",
        /// Its media type.
        pub content_type: Option<String> = "contentType",
        /// Its size in bytes.
        pub size: Option<u64> = "size",
        /// Length of a voicemail in seconds.
        pub vm_duration: Option<u64> = "vmDuration",
        /// Its file name.
        pub file_name: Option<String> = "fileName" | "filename",
        /// Height of a picture in pixels.
        pub height: Option<u64> = "height",
        /// Width of a picture in pixels.
        pub width: Option<u64> = "width",
    }
}

impl MessageStore {
    /// Ids of the new messages, of all types.
    pub fn new_message_ids(&self) -> impl Iterator<Item = &MessageId> {
        self.changes.iter().flat_map(|change| &change.new_message_ids)
    }

    /// How many messages are new, of all types.
    #[must_use]
    pub fn new_count(&self) -> u64 {
        self.changes.iter().filter_map(|change| change.new_count).fold(0, u64::saturating_add)
    }

    /// How many messages were updated, of all types. Which ones only message-sync tells.
    #[must_use]
    pub fn updated_count(&self) -> u64 {
        self.changes.iter().filter_map(|change| change.updated_count).fold(0, u64::saturating_add)
    }
}

impl Message {
    /// The text of an SMS (the service's `subject`).
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// The sender's number.
    #[must_use]
    pub fn from_number(&self) -> Option<&str> {
        self.from.as_ref()?.phone_number.as_deref()
    }

    /// The recipients' numbers.
    pub fn to_numbers(&self) -> impl Iterator<Item = &str> {
        self.to.iter().filter_map(|party| party.phone_number.as_deref())
    }

    /// The conversation, from either of the fields that may hold it.
    #[must_use]
    pub fn conversation_id(&self) -> Option<&ConversationId> {
        self.conversation.as_ref().and_then(|it| it.id.as_ref()).or(self.legacy_conversation_id.as_ref())
    }

    /// Whether it came in.
    #[must_use]
    pub fn is_inbound(&self) -> bool {
        self.direction == Some(Direction::Inbound)
    }

    /// Whether it went out.
    #[must_use]
    pub fn is_outbound(&self) -> bool {
        self.direction == Some(Direction::Outbound)
    }
}
