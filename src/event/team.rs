//! Bodies of team messaging.

use serde::{Serialize, Serializer};

use super::id::{AttachmentId, ChatId, PersonId, PostId, WebhookId};
use super::lenient::Lenient;
use super::macros::{body, open_enum};
use crate::json::Json;
use crate::secret::Secret;
use crate::timestamp::Timestamp;

open_enum! {
    /// A change of a post.
    pub enum PostEventType {
        PostAdded = "PostAdded",
        PostChanged = "PostChanged",
        PostRemoved = "PostRemoved",
    }

    /// The type of a post.
    pub enum PostType {
        TextMessage = "TextMessage",
        PersonJoined = "PersonJoined",
        PersonsAdded = "PersonsAdded",
        /// Implied by `removedPersonIds`; not in a published sample.
        PersonsRemoved = "PersonsRemoved",
        Card = "Card",
    }

    /// The target of a mention.
    pub enum MentionType {
        Person = "Person",
        Team = "Team",
        File = "File",
        Link = "Link",
        Event = "Event",
        Task = "Task",
        Note = "Note",
        Card = "Card",
    }

    /// The type of an attachment of a post.
    pub enum PostAttachmentType {
        Card = "Card",
        Event = "Event",
        File = "File",
        Note = "Note",
        Task = "Task",
        AdaptiveCard = "AdaptiveCard",
    }

    /// The color of an event in a calendar.
    pub enum EventColor {
        Black = "Black",
        Red = "Red",
        Orange = "Orange",
        Yellow = "Yellow",
        Green = "Green",
        Blue = "Blue",
        Purple = "Purple",
        Magenta = "Magenta",
    }

    /// How often an event repeats.
    pub enum RecurrenceSchedule {
        /// Once.
        None = "None",
        Day = "Day",
        /// Monday to Friday.
        Weekday = "Weekday",
        Week = "Week",
        Month = "Month",
        Year = "Year",
    }

    /// What ends the repetitions of an event.
    pub enum RecurrenceEnd {
        /// Nothing.
        None = "None",
        /// Their number.
        Count = "Count",
        /// A date.
        Date = "Date",
    }

    /// The width of a field of a card.
    pub enum CardFieldStyle {
        Short = "Short",
        Long = "Long",
    }

    /// A change of a chat, or of this user's membership.
    pub enum ChatEventType {
        /// This user joined; other members get no event.
        GroupJoined = "GroupJoined",
        /// This user left; other members get no event.
        GroupLeft = "GroupLeft",
        /// In an old page of the documentation.
        GroupAdded = "GroupAdded",
        GroupRenamed = "GroupRenamed",
        GroupChanged = "GroupChanged",
    }

    /// The type of a chat. The API's other calls use different names, which are included.
    pub enum ChatType {
        PrivateChat = "PrivateChat",
        Group = "Group",
        Team = "Team",
        PersonalChat = "PersonalChat",
        Everyone = "Everyone",
        Direct = "Direct",
        Personal = "Personal",
    }

    /// Whether a chat is in use.
    pub enum ChatStatus {
        Active = "Active",
        Archived = "Archived",
    }

    /// A change of an incoming webhook.
    pub enum WebhookEventType {
        WebhookCreated = "WebhookCreated",
        WebhookUpdated = "WebhookUpdated",
        WebhookDeleted = "WebhookDeleted",
    }

    /// Whether an incoming webhook accepts posts.
    pub enum WebhookStatus {
        Active = "Active",
        Suspended = "Suspended",
        Deleted = "Deleted",
    }
}

body! {
    /// A post was added, changed or removed. A removed one often has only `id` and `event_type`.
    pub struct Post {
        /// Its id.
        pub id: Option<PostId> = "id",
        /// Its chat.
        pub group_id: Option<ChatId> = "groupId",
        /// Its type; changed posts may lack it.
        pub post_type: Option<PostType> = "type",
        /// Its text.
        pub text: Option<String> = "text",
        /// The author.
        pub creator_id: Option<PersonId> = "creatorId",
        /// The people added to the chat.
        pub added_person_ids: Vec<PersonId> = "addedPersonIds" | "addedPersonsIds",
        /// The people removed from the chat.
        pub removed_person_ids: Vec<PersonId> = "removedPersonIds",
        /// When it was written.
        pub creation_time: Option<Timestamp> = "creationTime",
        /// When it last changed.
        pub last_modified_time: Option<Timestamp> = "lastModifiedTime",
        /// Files, notes, tasks, cards.
        pub attachments: Vec<PostAttachment> = "attachments",
        /// The mentions in its text.
        pub mentions: Vec<Mention> = "mentions",
        /// The activity reported by an integration.
        pub activity: Option<String> = "activity",
        /// Title of an integration's post.
        pub title: Option<String> = "title",
        /// Picture of an integration's post.
        pub icon_uri: Option<String> = "iconUri",
        /// Emoji instead of a picture.
        pub icon_emoji: Option<String> = "iconEmoji",
        /// The kind of change.
        pub event_type: Option<PostEventType> = "eventType",
        /// Whether it has replies in a thread; documented for the API's calls only.
        pub is_parent: Option<bool> = "isParent",
        /// The post it replies to; documented for the API's calls only.
        pub parent_post_id: Option<PostId> = "parentPostId",
        /// Its thread; documented for the API's calls only.
        pub thread_id: Option<PostId> = "threadId",
    }

    /// A mention in a post.
    pub struct Mention {
        /// The id of the mentioned person or object.
        pub id: Option<PersonId> = "id",
        /// Its type.
        pub mention_type: Option<MentionType> = "type",
        /// Its name.
        pub name: Option<String> = "name",
    }

    /// An attachment of a post. Cards created elsewhere contain more: read them from the
    /// notification's raw body.
    pub struct PostAttachment {
        /// Its id.
        pub id: Option<AttachmentId> = "id",
        /// Its type.
        pub attachment_type: Option<PostAttachmentType> = "type",
        /// The URL of its content.
        pub content_uri: Option<String> = "contentUri",
        /// Its name.
        pub name: Option<String> = "name",
        /// Text to show instead of a card.
        pub fallback: Option<String> = "fallback",
        /// Text before a card.
        pub intro: Option<String> = "intro",
        /// Author of a card.
        pub author: Option<CardAuthor> = "author",
        /// Title.
        pub title: Option<String> = "title",
        /// Text.
        pub text: Option<String> = "text",
        /// Picture.
        pub image_uri: Option<String> = "imageUri",
        /// Small picture.
        pub thumbnail_uri: Option<String> = "thumbnailUri",
        /// Fields of a card.
        pub fields: Vec<CardField> = "fields",
        /// Last line of a card.
        pub footnote: Option<CardFootnote> = "footnote",
        /// The creator.
        pub creator_id: Option<PersonId> = "creatorId",
        /// When an event begins.
        pub start_time: Option<Timestamp> = "startTime",
        /// When an event ends.
        pub end_time: Option<Timestamp> = "endTime",
        /// Whether an event takes whole days.
        pub all_day: Option<bool> = "allDay",
        /// How an event repeats.
        pub recurrence: Option<Recurrence> = "recurrence",
        /// Color of an event; of a card, an RGB value such as `#00ff2a`, in `Other`.
        pub color: Option<EventColor> = "color",
        /// Where an event is.
        pub location: Option<String> = "location",
        /// Description.
        pub description: Option<String> = "description",
    }

    /// Author of a card.
    pub struct CardAuthor {
        /// Name.
        pub name: Option<String> = "name",
        /// Page.
        pub uri: Option<String> = "uri",
        /// Picture.
        pub icon_uri: Option<String> = "iconUri",
    }

    /// A field of a card.
    pub struct CardField {
        /// Title.
        pub title: Option<String> = "title",
        /// Text.
        pub value: Option<String> = "value",
        /// Width.
        pub style: Option<CardFieldStyle> = "style",
    }

    /// Last line of a card.
    pub struct CardFootnote {
        /// Text.
        pub text: Option<String> = "text",
        /// Picture.
        pub icon_uri: Option<String> = "iconUri",
        /// Time.
        pub time: Option<Timestamp> = "time",
    }

    /// How an event repeats.
    pub struct Recurrence {
        /// The schedule.
        pub schedule: Option<RecurrenceSchedule> = "schedule",
        /// The condition that ends it.
        pub ending_condition: Option<RecurrenceEnd> = "endingCondition",
        /// Number of repetitions after which it ends.
        pub ending_after: Option<u64> = "endingAfter",
        /// When it ends.
        pub ending_on: Option<Timestamp> = "endingOn",
    }

    /// A chat changed, or this user joined or left it. After leaving it may have only `id` and
    /// `event_type`.
    pub struct Chat {
        /// Its id.
        pub id: Option<ChatId> = "id",
        /// Its name.
        pub name: Option<String> = "name",
        /// Its description.
        pub description: Option<String> = "description",
        /// Its type.
        pub chat_type: Option<ChatType> = "type",
        /// Whether it is in use.
        pub status: Option<ChatStatus> = "status",
        /// Its members; an older form with objects that have an id is read too.
        pub members: Vec<PersonId> = "members",
        /// Whether anyone in the company may join.
        pub is_public: Option<bool> = "isPublic" | "public",
        /// When it was created.
        pub creation_time: Option<Timestamp> = "creationTime",
        /// When it last changed.
        pub last_modified_time: Option<Timestamp> = "lastModifiedTime",
        /// The kind of change.
        pub event_type: Option<ChatEventType> = "eventType",
    }

    /// An incoming webhook: an address that posts to a chat what is sent to it.
    pub struct TeamWebhook {
        /// Its id.
        pub id: Option<WebhookId> = "id",
        /// The creator.
        pub creator_id: Option<PersonId> = "creatorId",
        /// The chats that it posts to.
        pub group_ids: Vec<ChatId> = "groupIds",
        /// When it was created.
        pub creation_time: Option<Timestamp> = "creationTime",
        /// When it last changed.
        pub last_modified_time: Option<Timestamp> = "lastModifiedTime",
        /// Its address. Whoever knows it can post.
        pub uri: Option<WebhookUri> = "uri",
        /// Whether it accepts posts.
        pub status: Option<WebhookStatus> = "status",
        /// The kind of change.
        pub event_type: Option<WebhookEventType> = "eventType",
    }
}

/// The address of an incoming webhook. Whoever knows it can post to its chats, so `Debug` does not show it; `Serialize`
/// writes it, like all other data of an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WebhookUri(Secret);

impl WebhookUri {
    /// The address itself. Do not log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl Lenient for WebhookUri {
    fn read(raw: Json<'_>) -> Option<Self> {
        String::read(raw).map(|uri| Self(Secret::new(uri)))
    }
}

impl Serialize for WebhookUri {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.expose())
    }
}

impl Post {
    /// Whether its text mentions this person.
    #[must_use]
    pub fn mentions(&self, person: &PersonId) -> bool {
        self.mentions.iter().any(|mention| {
            mention.id.as_ref() == Some(person)
                && mention.mention_type.as_ref().is_none_or(|kind| *kind == MentionType::Person)
        })
    }

    /// Whether this person wrote it; a bot receives its own posts.
    #[must_use]
    pub fn is_by(&self, person: &PersonId) -> bool {
        self.creator_id.as_ref() == Some(person)
    }

    /// Whether it is new.
    #[must_use]
    pub fn is_added(&self) -> bool {
        self.event_type == Some(PostEventType::PostAdded)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use serde_json::value::RawValue;

    use crate::event::{Event, Notification, Origin};

    #[test]
    fn the_address_of_an_incoming_webhook_is_read_and_not_shown() {
        let text = include_str!("../../tests/fixtures/events/TeamMessagingWebhook--documented.json");
        let raw = RawValue::from_string(text.trim().to_owned()).unwrap();
        let item = Notification::parse(raw, Origin::Push, SystemTime::UNIX_EPOCH).unwrap();
        let Event::TeamMessagingWebhook(webhook) = item.event() else { panic!("{item:?}") };
        let uri = webhook.uri.as_ref().unwrap();
        assert_eq!(uri.expose(), "https://hooks.example.com/webhook/v2/0b7c8a54");
        for shown in [format!("{:?}", item.event()), format!("{:#?}", item.event()), format!("{item:?}")] {
            assert!(!shown.contains("webhook/v2"), "{shown}");
        }
        assert_eq!(serde_json::to_value(webhook).unwrap()["uri"], uri.expose());
        let id = webhook.id.as_ref().unwrap();
        assert_eq!(item.resource(), Some(format!("webhook/{id}")));
    }
}
