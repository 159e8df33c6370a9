//! Checks objects against the platform's requirements.

use super::object::{Attachment, Message, PrivateMessage, Thread, User};
use super::structured::StructuredContent;
use crate::error::{Error, Result};

/// "20k" in the documentation; the exact number is unknown.
const BODY: usize = 20_000;

impl User {
    /// Checks that it has an id and a name.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config), naming the field.
    pub fn check(&self) -> Result<()> {
        named(&self.id, "id")?;
        named(&self.screenname, "screenname")
    }
}

impl Message {
    pub(super) fn validate(&self) -> Result<()> {
        named(&self.id, "id")?;
        user(self.author.as_ref(), "author")?;
        structured(self.structured_content.as_ref(), self.author.as_ref())?;
        text(self.body.as_deref(), &self.attachments, self.structured_content.is_some())
    }
}

impl PrivateMessage {
    pub(super) fn validate(&self) -> Result<()> {
        named(&self.id, "id")?;
        user(self.author.as_ref(), "author")?;
        user(self.recipient.as_ref(), "recipient")?;
        structured(self.structured_content.as_ref(), self.author.as_ref())?;
        text(self.body.as_deref(), &self.attachments, self.structured_content.is_some())
    }
}

impl Thread {
    /// The source's options determine whether author and body are required.
    pub(super) fn validate(&self) -> Result<()> {
        named(&self.id, "id")?;
        self.author.as_ref().map_or(Ok(()), User::check)?;
        text(self.body.as_deref(), &self.attachments, true)
    }
}

fn named(text: &str, field: &'static str) -> Result<()> {
    if text.is_empty() { Err(missing(field)) } else { Ok(()) }
}

fn user(user: Option<&User>, field: &'static str) -> Result<()> {
    user.ok_or_else(|| missing(field))?.check()
}

fn text(body: Option<&str>, attachments: &[Attachment], may_lack: bool) -> Result<()> {
    if body.is_some_and(|body| body.chars().count() > BODY) {
        return Err(Error::config("the body is longer than 20 000 characters"));
    }
    for attachment in attachments {
        let whole = match (&attachment.url, &attachment.content) {
            (Some(_), None) => true,
            (None, Some(_)) => attachment.filename.is_some(),
            (Some(_), Some(_)) | (None, None) => false,
        };
        if !whole {
            return Err(Error::config("an attachment has either a url, or content and filename"));
        }
    }
    if body.is_none_or(str::is_empty) && attachments.is_empty() && !may_lack {
        return Err(missing("body"));
    }
    Ok(())
}

fn structured(content: Option<&StructuredContent>, author: Option<&User>) -> Result<()> {
    let Some(content) = content else { return Ok(()) };
    content.check()?;
    // The platform has a separate mark on known identities; only an explicit "no" is a
    // contradiction.
    match author.and_then(|author| author.puppetizable) {
        Some(false) => Err(Error::config("the author of a structured message is puppetizable")),
        Some(true) | None => Ok(()),
    }
}

fn missing(field: &'static str) -> Error {
    Error::config(format!("the field {field} is missing"))
}
