//! Bodies of high-volume text messages, of both API versions, and of message threads.

use super::id::{AttachmentId, BatchId, MessageId};
use super::lenient::RawJson;
use super::macros::{body, open_enum};
use super::message::{Direction, MessageStatus};
use crate::timestamp::Timestamp;

open_enum! {
    /// How far a batch got.
    pub enum BatchStatus {
        Processing = "Processing",
        Completed = "Completed",
        Sent = "Sent",
    }

    /// Whether a recipient wants messages.
    pub enum OptStatus {
        OptIn = "OptIn",
        OptOut = "OptOut",
    }

    /// Who changed a consent.
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
    /// Its id differs from the one in a filter of one batch, in the published sample.
    pub struct A2pBatch {
        /// Its id.
        pub id: Option<BatchId> = "id",
        /// The sender's number.
        pub from: Option<String> = "from",
        /// How many messages it has.
        pub batch_size: Option<u64> = "batchSize",
        /// How many of them are done.
        pub processed_count: Option<u64> = "processedCount",
        /// How far it got.
        pub status: Option<BatchStatus> = "status",
        /// When it was created.
        pub creation_time: Option<Timestamp> = "creationTime",
        /// When it changed last.
        pub last_modified_time: Option<Timestamp> = "lastModifiedTime",
        /// What it costs, in the account's currency.
        pub cost: Option<f64> = "cost",
        /// Recipients that were refused; their form is not documented.
        pub rejected: Vec<RawJson> = "rejected",
    }

    /// A high-volume message came in, or one that went out changed its status.
    pub struct A2pMessage {
        /// Its id.
        pub id: Option<MessageId> = "id",
        /// The sender's number.
        pub from: Option<String> = "from",
        /// The recipients' numbers; one without a list is read too.
        pub to: Vec<String> = "to",
        /// Its text.
        pub text: Option<String> = "text",
        /// When it was created.
        pub creation_time: Option<Timestamp> = "creationTime",
        /// When it changed last.
        pub last_modified_time: Option<Timestamp> = "lastModifiedTime",
        /// How far it got.
        pub message_status: Option<MessageStatus> = "messageStatus",
        /// In how many parts it is sent.
        pub segment_count: Option<u64> = "segmentCount",
        /// What it costs, in the account's currency.
        pub cost: Option<f64> = "cost",
        /// The batch it belongs to.
        pub batch_id: Option<BatchId> = "batchId",
        /// Whether it came in or went out.
        pub direction: Option<Direction> = "direction",
        /// Why it failed.
        pub error_code: Option<String> = "errorCode",
    }

    /// A recipient opted out of a sender's messages, or in again.
    pub struct A2pOptOut {
        /// The sender's number.
        pub from: Option<String> = "from",
        /// The recipient's number.
        pub to: Option<String> = "to",
        /// Whether the recipient opted out.
        pub active: Option<bool> = "active",
    }

    /// A batch of messages changed its status (second API version).
    pub struct SmsV2Batch {
        /// Its id.
        pub id: Option<BatchId> = "id",
        /// The sender.
        pub from: Option<SmsParty> = "from",
        /// How many messages it has.
        pub batch_size: Option<u64> = "batchSize",
        /// How many of them are done.
        pub processed_count: Option<u64> = "processedCount",
        /// How far it got.
        pub status: Option<BatchStatus> = "status",
        /// When it was created.
        pub creation_time: Option<Timestamp> = "creationTime",
        /// When it changed last.
        pub last_modified_time: Option<Timestamp> = "lastModifiedTime",
        /// What it costs, in the account's currency.
        pub cost: Option<f64> = "cost",
        /// Recipients that were refused; their form is not documented.
        pub rejected: Vec<RawJson> = "rejected",
    }

    /// A message came in, or one that went out changed its status (second API version).
    pub struct SmsV2Message {
        /// Its id.
        pub id: Option<MessageId> = "id",
        /// The batch it belongs to.
        pub batch_id: Option<BatchId> = "batchId",
        /// The sender.
        pub from: Option<SmsParty> = "from",
        /// The recipients, and how far it got to each.
        pub to: Vec<SmsParty> = "to",
        /// Its text.
        pub text: Option<String> = "text",
        /// Whether it came in or went out.
        pub direction: Option<Direction> = "direction",
        /// Its attachments.
        pub attachments: Vec<SmsAttachment> = "attachments",
        /// When it was created.
        pub creation_time: Option<Timestamp> = "creationTime",
        /// When it changed last.
        pub last_modified_time: Option<Timestamp> = "lastModifiedTime",
        /// In how many parts it is sent.
        pub segment_count: Option<u64> = "segmentCount",
        /// What it costs, in the account's currency.
        pub cost: Option<f64> = "cost",
    }

    /// Sender or recipient of a message.
    pub struct SmsParty {
        /// The number.
        pub phone_number: Option<String> = "phoneNumber",
        /// How far the message got to this recipient.
        pub message_status: Option<MessageStatus> = "messageStatus",
    }

    /// An attachment of a message.
    pub struct SmsAttachment {
        /// Its id.
        pub id: Option<AttachmentId> = "id",
        /// Its media type.
        pub content_type: Option<String> = "contentType",
        /// Where to get it, with an access token.
        pub content_uri: Option<String> = "contentUri",
    }

    /// Recipients changed their consent.
    pub struct SmsConsents {
        /// What changed.
        pub records: Vec<SmsConsent> = "records",
    }

    /// Whether a recipient wants a sender's messages.
    pub struct SmsConsent {
        /// The sender's number.
        pub from: Option<String> = "from",
        /// The recipient's number.
        pub to: Option<String> = "to",
        /// Whether the recipient wants them.
        pub opt_status: Option<OptStatus> = "optStatus",
        /// Who changed it.
        pub source: Option<ConsentSource> = "source",
        /// When it changed last.
        pub last_modified_time: Option<Timestamp> = "lastModifiedTime",
    }

    /// Message threads, or their entries, changed: run the sync of that resource.
    pub struct ThreadsChange {
        /// When they changed last.
        pub last_modified_time: Option<Timestamp> = "lastModifiedTime",
    }
}

impl A2pMessage {
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

impl SmsV2Message {
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
