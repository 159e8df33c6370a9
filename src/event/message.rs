//! Bodies of the message store: text messages, faxes, voicemail.

use super::account::{ChangeType, ExtensionType};
use super::id::{AttachmentId, ConversationId, MessageId};
use super::macros::{body, open_enum};
use crate::ids::{AccountId, ExtensionId};
use crate::timestamp::Timestamp;

open_enum! {
    /// The direction of a message or call, from the extension's point of view.
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
        /// A text message, in the newest API; see [`Sms`](Self::Sms).
        Text = "Text",
        /// Guide and captures disagree on the spelling; both are read.
        VoiceMail = "VoiceMail" | "Voicemail",
    }

    /// Whether a message has been read.
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

    /// The delivery status of a message.
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

    /// The type of an attachment of a message.
    pub enum AttachmentType {
        AudioRecording = "AudioRecording",
        AudioTranscription = "AudioTranscription",
        Text = "Text",
        SourceDocument = "SourceDocument",
        RenderedDocument = "RenderedDocument",
        MmsAttachment = "MmsAttachment",
    }

    /// The status of a voicemail's transcription.
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
    /// A message store changed: a hint, not the message.
    ///
    /// Updates have no ids; message-sync returns the changed messages.
    pub struct MessageStore {
        /// The account.
        pub account_id: Option<AccountId> = "accountId",
        /// The extension whose store it is.
        pub extension_id: Option<ExtensionId> = "extensionId",
        /// When the store last changed.
        pub last_updated: Option<Timestamp> = "lastUpdated",
        /// The changes by type of message.
        pub changes: Vec<MessageStoreChange> = "changes",
        /// The messages themselves. Never pushed: only catch-up fills them in; deleted ones have
        /// only `id` and `availability`.
        pub records: Vec<Message> = "records",
        /// The owner of the subscription, if the body repeats it.
        pub owner_id: Option<ExtensionId> = "ownerId",
    }

    /// Changes of one type of message.
    pub struct MessageStoreChange {
        /// The type of message.
        pub message_type: Option<MessageType> = "type",
        /// Number of new messages; may be omitted if zero.
        pub new_count: Option<u64> = "newCount",
        /// Number of updated messages; may be omitted if zero.
        pub updated_count: Option<u64> = "updatedCount",
        /// Ids of new messages; not sent by older versions, never for updates.
        pub new_message_ids: Vec<MessageId> = "newMessageIds",
    }

    /// A message: SMS or MMS, fax, or voicemail.
    pub struct Message {
        /// Its id in the message store.
        pub id: Option<MessageId> = "id",
        /// The recipients; some faxes have none.
        pub to: Vec<MessageParty> = "to",
        /// The sender.
        pub from: Option<MessageParty> = "from" | "_from",
        /// Its type.
        pub message_type: Option<MessageType> = "type",
        /// When it was created.
        pub creation_time: Option<Timestamp> = "creationTime",
        /// When it last changed.
        pub last_modified_time: Option<Timestamp> = "lastModifiedTime",
        /// Whether it has been read.
        pub read_status: Option<ReadStatus> = "readStatus",
        /// Its priority.
        pub priority: Option<Priority> = "priority",
        /// Pictures, pages, recordings, and the text itself.
        pub attachments: Vec<MessageAttachment> = "attachments",
        /// Whether it is inbound or outbound.
        pub direction: Option<Direction> = "direction",
        /// Whether it still exists.
        pub availability: Option<Availability> = "availability",
        /// The text of an SMS; for a fax, a phone number.
        pub subject: Option<String> = "subject",
        /// Its status.
        pub message_status: Option<MessageStatus> = "messageStatus",
        /// The older form of `conversation`; newer payloads lack it.
        /// [`conversation_id`](Self::conversation_id) reads both.
        pub legacy_conversation_id: Option<ConversationId> = "conversationId",
        /// The conversation it belongs to.
        pub conversation: Option<Conversation> = "conversation",
        /// The kind of change: a new message, in newer payloads.
        pub event_type: Option<ChangeType> = "eventType",
        /// The owner of the message store, in newer payloads.
        pub owner: Option<MessageOwner> = "owner",
        /// Resolution of a fax.
        pub fax_resolution: Option<FaxResolution> = "faxResolution",
        /// Pages of a fax.
        pub fax_page_count: Option<u64> = "faxPageCount",
        /// The status of a voicemail's transcription.
        pub vm_transcription_status: Option<TranscriptionStatus> = "vmTranscriptionStatus",
        /// Its address in the API; found by catch-up only, as are the following fields.
        pub uri: Option<String> = "uri",
        /// The extension whose message it is.
        pub extension_id: Option<ExtensionId> = "extensionId",
        /// Why an SMS was not delivered.
        pub delivery_error_code: Option<String> = "deliveryErrorCode",
        /// The number of parts of an SMS.
        pub segment_count: Option<u64> = "segmentCount",
        /// When an SMS reached the recipient's phone, if the carrier confirms that.
        pub sms_delivery_time: Option<Timestamp> = "smsDeliveryTime",
        /// Number of attempts to send an SMS.
        pub sms_sending_attempts_count: Option<u64> = "smsSendingAttemptsCount",
        /// The cover page of a fax; 0 for none.
        pub cover_index: Option<u64> = "coverIndex",
        /// The text on the cover page of a fax.
        pub cover_page_text: Option<String> = "coverPageText",
        /// Whether a pager message was sent to a call queue.
        pub pg_to_department: Option<bool> = "pgToDepartment",
        /// Whether a voicemail must not be forwarded.
        pub private: Option<bool> = "private",
        /// The owner of the subscription, if the body repeats it.
        pub owner_id: Option<ExtensionId> = "ownerId",
    }

    /// Sender or recipient of a message.
    pub struct MessageParty {
        /// The number, or text such as `anonymous`.
        pub phone_number: Option<String> = "phoneNumber",
        /// The short number within the company.
        pub extension_number: Option<String> = "extensionNumber",
        /// Whether this recipient is the owner of the message store.
        pub target: Option<bool> = "target",
        /// The number's location.
        pub location: Option<String> = "location",
        /// The name.
        pub name: Option<String> = "name",
        /// The parts of the number, in newer payloads.
        pub phone_number_info: Option<PhoneNumberParts> = "phoneNumberInfo",
        /// The extension, if it is one; found by catch-up only, as are the following fields.
        pub extension_id: Option<ExtensionId> = "extensionId",
        /// The delivery status for this recipient.
        pub message_status: Option<MessageStatus> = "messageStatus",
        /// Why a fax was not delivered to this recipient.
        pub fax_error_code: Option<String> = "faxErrorCode",
        /// The recipient's id in this message.
        pub recipient_id: Option<String> = "recipientId",
    }

    /// The parts of a phone number.
    pub struct PhoneNumberParts {
        /// The country code.
        pub country_code: Option<String> = "countryCode",
        /// The area code.
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

    /// The owner of a message store.
    pub struct MessageOwner {
        /// The extension.
        pub extension_id: Option<ExtensionId> = "extensionId",
        /// The extension's type.
        pub extension_type: Option<ExtensionType> = "extensionType",
        /// The extension's name.
        pub name: Option<String> = "name",
    }

    /// An attachment of a message.
    pub struct MessageAttachment {
        /// Its id.
        pub id: Option<AttachmentId> = "id",
        /// Its URL or API path, which requires an access token. Texts may lack it.
        pub uri: Option<String> = "uri",
        /// Its type.
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

    /// Number of new messages, of all types.
    #[must_use]
    pub fn new_count(&self) -> u64 {
        self.changes.iter().filter_map(|change| change.new_count).fold(0, u64::saturating_add)
    }

    /// Number of updated messages, of all types. Only message-sync returns which ones.
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

    /// The conversation, from either of the two fields.
    #[must_use]
    pub fn conversation_id(&self) -> Option<&ConversationId> {
        self.conversation.as_ref().and_then(|it| it.id.as_ref()).or(self.legacy_conversation_id.as_ref())
    }

    /// Whether it is inbound.
    #[must_use]
    pub fn is_inbound(&self) -> bool {
        self.direction == Some(Direction::Inbound)
    }

    /// Whether it is outbound.
    #[must_use]
    pub fn is_outbound(&self) -> bool {
        self.direction == Some(Direction::Outbound)
    }
}
