//! Options of a source and their consistency.

use std::collections::BTreeMap;

use super::action::CollectionName;
use crate::error::{Error, Result};
use crate::event::macros::open_enum;

open_enum! {
    /// The options of a source (`options`). All are off by default.
    ///
    /// Registering a handler declares `messaging.queuing_update`.
    pub enum SourceOption {
        /// Messages have no thread: conversations follow `in_reply_to_id`, and the platform ignores
        /// `thread_id` and every operation on threads. A source may declare threads nevertheless, as an
        /// example of the polling guide does; that is logged as a warning.
        MessagesUnthreaded = "messages.unthreaded",
        /// Messages from agents have no title.
        MessagesNoTitle = "messages.no_title",
        /// Private messages from agents have no title.
        PrivateMessagesNoTitle = "private_messages.no_title",
        /// Threads have only an id and a title.
        ThreadsNoContent = "threads.no_content",
        /// Agents may write messages in plain text.
        MessagesText = "messages.text",
        /// Agents may write messages in HTML, the default without text.
        MessagesHtml = "messages.html",
        /// Agents may write private messages in plain text.
        PrivateMessagesText = "private_messages.text",
        /// Agents may write private messages in HTML, the default without text.
        PrivateMessagesHtml = "private_messages.html",
        /// Agents may write threads in plain text.
        ThreadsText = "threads.text",
        /// Agents may write threads in HTML, the default without text.
        ThreadsHtml = "threads.html",
        /// Agents may attach files to messages.
        MessagesAttachments = "messages.attachments",
        /// Agents may attach files to private messages.
        PrivateMessagesAttachments = "private_messages.attachments",
        /// Agents may attach files to threads.
        ThreadsAttachments = "threads.attachments",
        /// Surveys may be sent as messages. Requires messages and no other collection.
        MessagesAllowSurvey = "messages.allow_survey",
        /// Displayed like a chat. Requires either messages or private messages, in plain text only;
        /// required for structured messages.
        ViewMessaging = "view.messaging",
        /// Typing is reported in both directions. Requires [`ViewMessaging`](Self::ViewMessaging).
        MessagingTypingIndicator = "messaging.typing_indicator",
        /// The platform reports the position in the queue.
        MessagingQueuingUpdate = "messaging.queuing_update",
    }
}

/// The registered operations; no collection is empty.
pub(super) type Operations = BTreeMap<CollectionName, Vec<String>>;

/// Checks `options` against each other and against the registered operations.
///
/// The platform silently drops inconsistent options, so they are an error here.
pub(super) fn check(options: &[SourceOption], operations: &Operations) -> Result<()> {
    let on = |option: SourceOption| options.contains(&option);
    let any = |collection| operations.contains_key(&collection);
    if on(SourceOption::ThreadsNoContent) && has_more_than_structure(operations) {
        return Err(Error::config("with threads.no_content the platform uses only list and show of threads"));
    }
    if on(SourceOption::MessagingTypingIndicator) && !on(SourceOption::ViewMessaging) {
        return Err(Error::config("messaging.typing_indicator needs view.messaging"));
    }
    if on(SourceOption::MessagesAllowSurvey)
        && (!any(CollectionName::Messages) || any(CollectionName::PrivateMessages) || any(CollectionName::Threads))
    {
        return Err(Error::config("messages.allow_survey needs messages, and nothing else"));
    }
    if !on(SourceOption::ViewMessaging) {
        return Ok(());
    }
    let (text, html) = match (any(CollectionName::Messages), any(CollectionName::PrivateMessages)) {
        (true, false) => (SourceOption::MessagesText, SourceOption::MessagesHtml),
        (false, true) => (SourceOption::PrivateMessagesText, SourceOption::PrivateMessagesHtml),
        _ => return Err(Error::config("view.messaging needs either messages or private messages")),
    };
    if !on(text) || on(html) {
        return Err(Error::config("view.messaging needs plain text, and no HTML"));
    }
    Ok(())
}

/// Whether operations on threads are declared that the platform ignores.
pub(super) fn ignores_threads(options: &[SourceOption], operations: &Operations) -> bool {
    options.contains(&SourceOption::MessagesUnthreaded) && operations.contains_key(&CollectionName::Threads)
}

fn has_more_than_structure(operations: &Operations) -> bool {
    let threads = operations.get(&CollectionName::Threads);
    threads.is_some_and(|threads| threads.iter().any(|operation| !matches!(operation.as_str(), "list" | "show")))
}
