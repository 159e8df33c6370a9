//! Bodies of high-volume text messages, in both API versions, and of message threads.

use super::id::{AttachmentId, BatchId, MessageId};
use super::lenient::RawJson;
use super::macros::{body, list_body, open_enum};
use super::message::{Direction, MessageStatus};
use crate::timestamp::Timestamp;

open_enum! {
    /// The status of a batch.
    pub enum BatchStatus {
        Processing = "Processing",
        Completed = "Completed",
        Sent = "Sent",
    }

    /// Whether a recipient accepts messages.
    pub enum OptStatus {
        OptIn = "OptIn",
        OptOut = "OptOut",
    }

    /// The source of a change of consent.
    pub enum ConsentSource {
        Recipient = "Recipient",
        Account = "Account",
        Upstream = "Upstream",
        Carrier = "Carrier",
        Api = "Api",
    }
}

body! {
    /// A batch of high-volume messages changed its status.
    ///
    /// In the published sample, its id differs from the one in a filter for one batch.
    pub struct A2pBatch {
        /// Its id.
        pub id: Option<BatchId> = "id",
        /// The sender's number.
        pub from: Option<String> = "from",
        /// Number of messages in it.
        pub batch_size: Option<u64> = "batchSize",
        /// Number of processed messages.
        pub processed_count: Option<u64> = "processedCount",
        /// Its status.
        pub status: Option<BatchStatus> = "status",
        /// When it was created.
        pub creation_time: Option<Timestamp> = "creationTime",
        /// When it last changed.
        pub last_modified_time: Option<Timestamp> = "lastModifiedTime",
        /// Its cost, in the account's currency.
        pub cost: Option<f64> = "cost",
        /// Refused recipients; their form is undocumented.
        pub rejected: Vec<RawJson> = "rejected",
    }

    /// A high-volume message was received, or a sent one changed its status.
    pub struct A2pMessage {
        /// Its id.
        pub id: Option<MessageId> = "id",
        /// The sender's number.
        pub from: Option<String> = "from",
        /// The recipients' numbers; a single one without a list is read too.
        pub to: Vec<String> = "to",
        /// Its text.
        pub text: Option<String> = "text",
        /// When it was created.
        pub creation_time: Option<Timestamp> = "creationTime",
        /// When it last changed.
        pub last_modified_time: Option<Timestamp> = "lastModifiedTime",
        /// Its status.
        pub message_status: Option<MessageStatus> = "messageStatus",
        /// The number of parts.
        pub segment_count: Option<u64> = "segmentCount",
        /// Its cost, in the account's currency.
        pub cost: Option<f64> = "cost",
        /// The batch it belongs to.
        pub batch_id: Option<BatchId> = "batchId",
        /// Whether it is inbound or outbound.
        pub direction: Option<Direction> = "direction",
        /// Why it failed.
        pub error_code: Option<String> = "errorCode",
    }

    /// A recipient opted out of a sender's messages, or opted in again.
    pub struct A2pOptOut {
        /// The sender's number.
        pub from: Option<String> = "from",
        /// The recipient's number.
        pub to: Option<String> = "to",
        /// Whether the recipient opted out.
        pub active: Option<bool> = "active",
        /// The same in words.
        pub status: Option<OptStatus> = "status",
        /// The source of the change.
        pub source: Option<ConsentSource> = "source",
    }

    /// A batch of messages changed its status (second API version).
    pub struct SmsV2Batch {
        /// Its id.
        pub id: Option<BatchId> = "id",
        /// The sender.
        pub from: Option<SmsParty> = "from",
        /// Number of messages in it.
        pub batch_size: Option<u64> = "batchSize",
        /// Number of processed messages.
        pub processed_count: Option<u64> = "processedCount",
        /// Its status.
        pub status: Option<BatchStatus> = "status",
        /// When it was created.
        pub creation_time: Option<Timestamp> = "creationTime",
        /// When it last changed.
        pub last_modified_time: Option<Timestamp> = "lastModifiedTime",
        /// Its cost, in the account's currency.
        pub cost: Option<f64> = "cost",
        /// Refused recipients; their form is undocumented.
        pub rejected: Vec<RawJson> = "rejected",
    }

    /// A message was received, or a sent one changed its status (second API version).
    pub struct SmsV2Message {
        /// Its id.
        pub id: Option<MessageId> = "id",
        /// The batch it belongs to.
        pub batch_id: Option<BatchId> = "batchId",
        /// The sender.
        pub from: Option<SmsParty> = "from",
        /// The recipients, with the status for each.
        pub to: Vec<SmsParty> = "to",
        /// Its text.
        pub text: Option<String> = "text",
        /// Whether it is inbound or outbound.
        pub direction: Option<Direction> = "direction",
        /// Its attachments.
        pub attachments: Vec<SmsAttachment> = "attachments",
        /// When it was created.
        pub creation_time: Option<Timestamp> = "creationTime",
        /// When it last changed.
        pub last_modified_time: Option<Timestamp> = "lastModifiedTime",
        /// The number of parts.
        pub segment_count: Option<u64> = "segmentCount",
        /// Its cost, in the account's currency.
        pub cost: Option<f64> = "cost",
    }

    /// Sender or recipient of a message.
    pub struct SmsParty {
        /// The number.
        pub phone_number: Option<String> = "phoneNumber",
        /// The delivery status for this recipient.
        pub message_status: Option<MessageStatus> = "messageStatus",
    }

    /// An attachment of a message.
    pub struct SmsAttachment {
        /// Its id.
        pub id: Option<AttachmentId> = "id",
        /// Its media type.
        pub content_type: Option<String> = "contentType",
        /// Its URL, which requires an access token.
        pub content_uri: Option<String> = "contentUri",
    }

    /// Whether a recipient accepts a sender's messages.
    pub struct SmsConsent {
        /// The sender's number.
        pub from: Option<String> = "from",
        /// The recipient's number.
        pub to: Option<String> = "to",
        /// Whether the recipient accepts them.
        pub opt_status: Option<OptStatus> = "optStatus",
        /// The source of the change.
        pub source: Option<ConsentSource> = "source",
        /// When it last changed.
        pub last_modified_time: Option<Timestamp> = "lastModifiedTime",
    }

    /// Message threads, or their entries, changed: run the sync of that resource.
    pub struct ThreadsChange {
        /// When they last changed.
        pub last_modified_time: Option<Timestamp> = "lastModifiedTime",
    }
}

list_body! {
    /// Recipients changed their consent. A single change without the list is read as a list of one.
    pub struct SmsConsents {
        /// The changes.
        pub records: Vec<SmsConsent> = "records",
    }
}

impl A2pMessage {
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

impl SmsV2Message {
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
