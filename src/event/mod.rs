//! Events: filters and typed notifications.
//!
//! An [`EventFilter`] selects events, with one constructor per documented filter. A
//! [`Notification`] is one received event; its [`Event`] is typed by the filter that fired, and its
//! text is available byte for byte. [`EventKind`] has the table of all filters, their bodies,
//! required permissions, and sources for recovering missed events; [`EventFilter::catalog`] has it
//! as data.
//!
//! # Lenient reading
//!
//! The service's payloads differ from its own schemas: ids are text or numbers, lists may be single
//! objects, fields come and go. So nothing is mandatory and nothing fails: a field that is absent,
//! `null`, or of a wrong type is `None` (or missing from its list), an unknown text of an enum is
//! preserved in `Other`, and an unknown event is [`Event::Unknown`]. [`Notification::raw_body`]
//! shows whether something was skipped: it is the body as the service wrote it.
//!
//! [`event_body`](crate::event_body) defines bodies of your own that are read in the same way.
//!
//! Bodies can be stored and read again with `serde_json`: only present fields are written, with ids
//! and numbers in one canonical form. To store the exact bytes use [`Notification::raw`].

mod account;
mod call_log;
mod catalog;
mod constructors;
mod filter;
mod id;
mod insights;
mod kind;
pub(crate) mod lenient;
pub(crate) mod macros;
mod message;
mod missing;
mod notification;
mod own;
mod presence;
mod push;
mod query;
mod reminder;
mod route;
mod sms;
mod subject;
mod table;
mod team;
mod telephony;
mod typed;
mod unknown;
pub(crate) mod uri;

/// The items that the expansion of [`event_body`](crate::event_body) uses.
#[doc(hidden)]
pub mod __private;

pub use account::{
    ChangeType, CompanyDirectory, ContactCenterNumber, ContactCenterPhoneNumber, ContactCenterProvider, CustomField,
    DirectoryAccount, DirectoryContact, DirectoryIntegration, DirectoryPhoneNumber, DirectorySite, EmergencyAddress,
    ExtensionChange, ExtensionHint, ExtensionList, ExtensionRef, ExtensionStatus, ExtensionType, NumberEventType,
    NumberStatus, NumberUsage, PaymentType, PhoneNumberType, ProfileImage, SmsAvailability,
};
pub use call_log::{CallRecord, CallRecording, CallResult, RecordingType};
pub use catalog::{CatalogRow, FilterScope, GapClosure};
pub use filter::{AccountScope, EventFilter, ExtensionScope, same_filters};
pub use id::{
    AttachmentId, BatchId, CallQueueId, ChatId, ConversationId, DeviceId, MessageId, PartyId, PersonId, PhoneNumberId,
    PostId, RecordingId, SessionId, SiteId, TelephonySessionId, WebhookId,
};
pub use insights::{Insight, RingSenseDomain, RingSenseInsights, Speaker};
pub use kind::EventKind;
pub use lenient::RawJson;
pub use message::{
    AttachmentType, Availability, Conversation, Direction, FaxResolution, Message, MessageAttachment, MessageOwner,
    MessageParty, MessageStatus, MessageStore, MessageStoreChange, MessageType, PhoneNumberParts, Priority, ReadStatus,
    TranscriptionStatus,
};
pub use missing::missing_filters;
pub(crate) use notification::Spelling;
pub use notification::{DedupKey, Malformed, MalformedReason, Notification, Origin, Resource, Sequence};
pub(crate) use own::own_extension;
pub use presence::{
    ActiveCall, ActiveCallSipData, Appearance, CallInfo, CallInfoLine, CallInfoType, CallerIdVisibility, DndStatus,
    ExtensionDnd, LineExtension, LineStatus, MeetingStatus, Presence, PresenceLine, PresenceStatus, QueueMember,
    QueueMemberRef, QueuePresence, TelephonyStatus, TerminationType,
};
pub use push::{Aps, ApsAlert, InboundMessagePush};
pub use query::{
    A2pMessageQuery, AccountPresenceQuery, BatchQuery, MessageStoreQuery, OptOutQuery, PresenceQuery, Seconds,
    SmsV2MessageQuery, TelephonyQuery, WebinarQuery,
};
pub use reminder::SubscriptionReminder;
pub use sms::{
    A2pBatch, A2pMessage, A2pOptOut, BatchStatus, ConsentSource, OptStatus, SmsAttachment, SmsConsent, SmsConsents,
    SmsParty, SmsV2Batch, SmsV2Message, ThreadsChange,
};
pub use team::{
    CardAuthor, CardField, CardFieldStyle, CardFootnote, Chat, ChatEventType, ChatStatus, ChatType, EventColor,
    Mention, MentionType, Post, PostAttachment, PostAttachmentType, PostEventType, PostType, Recurrence, RecurrenceEnd,
    RecurrenceSchedule, TeamWebhook, WebhookEventType, WebhookStatus, WebhookUri,
};
pub use telephony::{
    CallOrigin, CallPush, ConferenceRole, MobilePickup, Park, Party, PartyAddress, PartyMessage, PartyOwner,
    PartySipData, PartyStatus, PartyStatusCode, PartyStatusReason, Peer, Recording, RingRole, SessionOrigin,
    TelephonySession,
};
pub use typed::Event;
pub use unknown::{Undocumented, UnknownEvent};
