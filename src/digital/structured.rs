//! Structured messages: questions, cards and rows of cards.

use url::Url;

use crate::error::{Error, Result};
use crate::event::macros::{body, open_enum};

/// Documented limits, in characters.
const ITEM_TITLE: usize = 80;
const PAYLOAD: usize = 1000;
const TITLE: usize = 350;
const SUBTITLE: usize = 1000;
const URL: usize = 2048;
const URL_TEXT: usize = 80;
const SELECT_ITEMS: usize = 13;
const BUTTONS: usize = 4;
const CARDS: usize = 10;

open_enum! {
    /// The type of a structured message. A source supports only these four.
    pub enum StructuredKind {
        /// A question, which is the message's body, with answers to choose from.
        Select = "select",
        /// A link with title and picture.
        RichLink = "rich_link",
        /// A card with buttons.
        Template = "template",
        /// Several cards.
        Carousel = "carousel",
    }
}

open_enum! {
    /// The action of a button.
    pub enum ButtonKind {
        /// Opens its `url`.
        Url = "url",
        /// Replies with its title and payload.
        Reply = "reply",
    }
}

body! {
    /// A structured message (`structured_content`). Requires the option
    /// [`ViewMessaging`](super::SourceOption::ViewMessaging), and a controlled identity as the
    /// author.
    pub struct StructuredContent {
        /// The type. Required.
        pub kind: Option<StructuredKind> = "type",
        /// Answers of a select, buttons of a template, or cards of a carousel.
        pub items: Vec<StructuredItem> = "items",
        /// Title of a link or a card.
        pub title: Option<String> = "title",
        /// Below the title.
        pub subtitle: Option<String> = "subtitle",
        /// The target, `http` or `https`.
        pub url: Option<String> = "url",
        /// The text shown for the URL. Default its host.
        pub url_text: Option<String> = "url_text",
        /// A public picture, jpg or png under 5 MB.
        pub attachment_url: Option<String> = "attachment_url",
    }

    /// A choice, a button or a card.
    pub struct StructuredItem {
        /// The action of a button.
        pub kind: Option<ButtonKind> = "type",
        /// The displayed text. Required.
        pub title: String = "title",
        /// The payload returned when it is chosen; ASCII.
        pub payload: Option<String> = "payload",
        /// The target of a button or a card.
        pub url: Option<String> = "url",
        /// For cards: below the title.
        pub subtitle: Option<String> = "subtitle",
        /// For cards: the text shown for the URL.
        pub url_text: Option<String> = "url_text",
        /// For cards: a public picture.
        pub attachment_url: Option<String> = "attachment_url",
        /// For cards: the attachment that replaces it.
        pub attachment_fallback_id: Option<String> = "attachment_fallback_id",
        /// For cards: its buttons.
        pub items: Vec<StructuredItem> = "items",
    }

    /// A customer's choice (`structured_reply`).
    pub struct StructuredReply {
        /// The payload of the choice.
        pub payload: Option<String> = "payload",
    }
}

impl StructuredItem {
    /// A choice of a select.
    #[must_use]
    pub fn choice(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// A button that replies.
    #[must_use]
    pub fn reply(title: impl Into<String>) -> Self {
        Self { kind: Some(ButtonKind::Reply), ..Self::choice(title) }
    }

    /// A button that opens `url`.
    #[must_use]
    pub fn link(title: impl Into<String>, url: impl Into<String>) -> Self {
        Self { kind: Some(ButtonKind::Url), url: Some(url.into()), ..Self::choice(title) }
    }

    /// A card of a carousel, with its buttons.
    #[must_use]
    pub fn card(title: impl Into<String>, buttons: impl IntoIterator<Item = Self>) -> Self {
        Self { items: buttons.into_iter().collect(), ..Self::choice(title) }
    }

    /// Sets the payload returned when it is chosen.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<String>) -> Self {
        self.payload = Some(payload.into());
        self
    }
}

impl StructuredContent {
    /// A question, which is the message's body, with answers.
    #[must_use]
    pub fn select(items: impl IntoIterator<Item = StructuredItem>) -> Self {
        Self { kind: Some(StructuredKind::Select), items: items.into_iter().collect(), ..Self::default() }
    }

    /// A link with a title.
    #[must_use]
    pub fn rich_link(title: impl Into<String>, url: impl Into<String>) -> Self {
        let (title, url) = (Some(title.into()), Some(url.into()));
        Self { kind: Some(StructuredKind::RichLink), url, title, ..Self::default() }
    }

    /// A card with buttons.
    #[must_use]
    pub fn template(title: impl Into<String>, items: impl IntoIterator<Item = StructuredItem>) -> Self {
        let (title, items) = (Some(title.into()), items.into_iter().collect());
        Self { kind: Some(StructuredKind::Template), title, items, ..Self::default() }
    }

    /// Several cards.
    #[must_use]
    pub fn carousel(cards: impl IntoIterator<Item = StructuredItem>) -> Self {
        Self { kind: Some(StructuredKind::Carousel), items: cards.into_iter().collect(), ..Self::default() }
    }

    /// Checks the documented rules; the platform refuses messages that break them.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config), naming the rule.
    pub fn check(&self) -> Result<()> {
        match &self.kind {
            Some(StructuredKind::Select) => {
                count("select", &self.items, SELECT_ITEMS)?;
                self.items.iter().try_for_each(check_choice)
            }
            Some(StructuredKind::RichLink) => {
                required("url", self.url.as_deref())?;
                self.check_card()
            }
            Some(StructuredKind::Template) => {
                self.check_card()?;
                at_most("template", &self.items, BUTTONS)?;
                self.items.iter().try_for_each(check_button)
            }
            Some(StructuredKind::Carousel) => {
                count("carousel", &self.items, CARDS)?;
                self.items.iter().try_for_each(check_carousel_card)
            }
            Some(StructuredKind::Other(_)) => Err(Error::config("a source has no structured message of this type")),
            None => Err(Error::config("a structured message has a type")),
        }
    }

    fn check_card(&self) -> Result<()> {
        required("title", self.title.as_deref())?;
        card_texts(
            self.title.as_deref(),
            self.subtitle.as_deref(),
            self.url_text.as_deref(),
            [self.url.as_deref(), self.attachment_url.as_deref()],
        )
    }
}

fn check_choice(item: &StructuredItem) -> Result<()> {
    required("title", Some(&item.title))?;
    short("title", Some(&item.title), ITEM_TITLE)?;
    payload(item.payload.as_deref())
}

fn check_button(item: &StructuredItem) -> Result<()> {
    check_choice(item)?;
    match &item.kind {
        Some(ButtonKind::Reply) => Ok(()),
        Some(ButtonKind::Url) if item.payload.is_some() => Err(Error::config("a button with a url has no payload")),
        Some(ButtonKind::Url) => {
            required("url", item.url.as_deref())?;
            web_url("url", item.url.as_deref())
        }
        Some(ButtonKind::Other(_)) | None => Err(Error::config("a button's type is url or reply")),
    }
}

fn check_carousel_card(card: &StructuredItem) -> Result<()> {
    required("title", Some(&card.title))?;
    card_texts(
        Some(&card.title),
        card.subtitle.as_deref(),
        card.url_text.as_deref(),
        [card.url.as_deref(), card.attachment_url.as_deref()],
    )?;
    at_most("card", &card.items, BUTTONS)?;
    card.items.iter().try_for_each(check_button)
}

fn card_texts(
    title: Option<&str>,
    subtitle: Option<&str>,
    url_text: Option<&str>,
    urls: [Option<&str>; 2],
) -> Result<()> {
    short("title", title, TITLE)?;
    short("subtitle", subtitle, SUBTITLE)?;
    short("url_text", url_text, URL_TEXT)?;
    web_url("url", urls[0])?;
    web_url("attachment_url", urls[1])
}

fn required(field: &str, text: Option<&str>) -> Result<()> {
    match text {
        Some(text) if !text.trim().is_empty() => Ok(()),
        _ => Err(Error::config(format!("a structured message lacks its {field}"))),
    }
}

fn short(field: &str, text: Option<&str>, limit: usize) -> Result<()> {
    match text {
        Some(text) if text.chars().count() > limit => {
            Err(Error::config(format!("the {field} of a structured message is longer than {limit} characters")))
        }
        _ => Ok(()),
    }
}

fn payload(text: Option<&str>) -> Result<()> {
    short("payload", text, PAYLOAD)?;
    match text {
        Some(text) if !text.is_ascii() => Err(Error::config("a payload is ASCII only")),
        _ => Ok(()),
    }
}

fn web_url(field: &str, text: Option<&str>) -> Result<()> {
    short(field, text, URL)?;
    let Some(text) = text else { return Ok(()) };
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(()),
        _ => Err(Error::config(format!("the {field} of a structured message is not http or https"))),
    }
}

fn count(kind: &str, items: &[StructuredItem], limit: usize) -> Result<()> {
    if items.is_empty() {
        return Err(Error::config(format!("a {kind} has at least one item")));
    }
    at_most(kind, items, limit)
}

fn at_most(kind: &str, items: &[StructuredItem], limit: usize) -> Result<()> {
    if items.len() > limit {
        return Err(Error::config(format!("a {kind} has at most {limit} items")));
    }
    Ok(())
}
