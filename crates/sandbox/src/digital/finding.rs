//! What a source does wrong.

use std::fmt;

/// What of a body is quoted beside a finding, in characters.
const EXCERPT: usize = 160;
/// Findings that one answer may have; a page of garbage has thousands.
const MOST: usize = 100;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// It works, but not by the letter, or the documentation is unclear.
    Warning,
    /// The platform refuses it, loses something by it, or shows something wrong.
    Error,
}

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident = $name:literal, $severity:ident;)+) => {
        /// A rule of the protocol. Each has a name, which is in printed findings.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Rule {
            $($(#[$doc])* $rule,)+
        }

        impl Rule {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$rule,)+];

            /// Its name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$rule => $name,)+
                }
            }

            /// How bad it is to break it, unless the finding says otherwise.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self {
                    $(Self::$rule => Severity::$severity,)+
                }
            }
        }
    };
}

rules! {
    // The answer as such.
    /// The source answers.
    NoAnswer = "no_answer", Error;
    /// It answers in time.
    Late = "late", Error;
    /// With a success.
    Status = "status", Error;
    /// Itself: no redirect is followed with a signed body.
    Redirect = "redirect", Error;
    /// The answer is signed.
    SignatureMissing = "signature_missing", Error;
    /// Once.
    SignatureTwice = "signature_twice", Error;
    /// In 128 lower-case hexadecimal digits.
    SignatureForm = "signature_form", Error;
    /// Over the bytes of the body, with the channel's token as text.
    SignatureWrong = "signature_wrong", Error;
    /// The body is not larger than the platform reads.
    TooLarge = "too_large", Error;
    /// In UTF-8.
    NotUtf8 = "not_utf8", Error;
    /// JSON.
    NotJson = "not_json", Error;
    /// And says so.
    ContentType = "content_type", Warning;
    /// Without a content coding: the signature is over the plain body.
    ContentCoding = "content_coding", Warning;

    // implementation.info.
    /// `implementation.info` answers an object.
    InfoShape = "info_shape", Error;
    /// With `objects`, lists of operations by collection.
    ObjectsShape = "objects_shape", Error;
    /// Of the collections that there are.
    CollectionUnknown = "collection_unknown", Warning;
    /// Operations are words.
    OperationName = "operation_name", Error;
    /// `options` is a list of texts.
    OptionsShape = "options_shape", Error;
    /// Of known ones.
    OptionUnknown = "option_unknown", Warning;
    /// `locales` has labels by language and operation.
    LocalesShape = "locales_shape", Error;
    /// What is declared is not taken away by an option.
    Reduced = "reduced", Warning;
    /// Options have what they need beside them.
    OptionsConflict = "options_conflict", Warning;

    // Lists.
    /// A list answers a list, also where it is empty.
    ListShape = "list_shape", Error;
    /// Of objects.
    ItemShape = "item_shape", Error;
    /// Contents have an id.
    IdMissing = "id_missing", Error;
    /// Which is a text.
    IdForm = "id_form", Warning;
    /// No id is twice in a page.
    IdTwice = "id_twice", Error;
    /// `since_id` itself is not listed.
    SinceListed = "since_listed", Error;
    /// A page is newest first.
    ListOrder = "list_order", Error;
    /// What was listed before `since_id` is not listed after it.
    ListedAgain = "listed_again", Error;
    /// Lists come to an end.
    Endless = "endless", Error;
    /// Lists leave nothing out.
    ListLost = "list_lost", Error;
    /// A content has what the platform needs of it.
    FieldMissing = "field_missing", Error;
    /// Fields have their documented types.
    FieldForm = "field_form", Error;
    /// Users say when they were created and changed.
    UserDates = "user_dates", Warning;
    /// Dates are `YYYY-MM-DD` or `YYYY-MM-DDThh:mm:ssZ`.
    DateForm = "date_form", Warning;
    /// A body has 20 000 characters at most.
    BodyTooLong = "body_too_long", Error;
    /// `in_reply_to_id` is the id of a content.
    ReplyUnresolved = "reply_unresolved", Error;
    /// `thread_id` is the id of a thread.
    ThreadUnresolved = "thread_unresolved", Warning;
    /// What can be done with a content is declared for its collection.
    ActionUndeclared = "action_undeclared", Error;
    /// `context_data` has texts, or lists of them, by keys of letters and `-`.
    ContextData = "context_data", Error;
    /// An attachment has either a `url`, or `content` in base64 and `filename`.
    AttachmentForm = "attachment_form", Error;
    /// A structured message keeps the rules of its type, and those around it.
    Structured = "structured", Error;

    // Show.
    /// A show answers an object, or nothing.
    ShowShape = "show_shape", Error;
    /// The one that was asked for.
    ShowOther = "show_other", Error;

    // Writes.
    /// A refusal is `{"error":{"fatal":…,"message":"…"}}`.
    ErrorShape = "error_shape", Error;
    /// A create answers the content.
    CreateShape = "create_shape", Error;
    /// With an id of its own, not that of the content which is answered.
    CreateEchoes = "create_echoes", Error;
    /// Which no other content has.
    CreateIdTaken = "create_id_taken", Error;
    /// And which it keeps, when the create is repeated.
    CreateIdChanged = "create_id_changed", Error;
    /// What was created is listed afterwards.
    CreateNotListed = "create_not_listed", Error;
    /// With the body that was written.
    CreateBodyChanged = "create_body_changed", Error;
    /// A delete answers the content.
    DeleteShape = "delete_shape", Error;
    /// What was deleted is not listed any more.
    DeletedListed = "deleted_listed", Error;
    /// An operation on a content answers it.
    ChangeShape = "change_shape", Error;
    /// A repetition is answered as the first time.
    RepeatRefused = "repeat_refused", Error;

    // Probes.
    /// What is not from the platform is refused.
    ForgeryAccepted = "forgery_accepted", Error;
    /// What is from the platform is accepted, however it is written.
    GenuineRefused = "genuine_refused", Error;
    /// What is no action, or none that is declared, is refused.
    NonsenseAccepted = "nonsense_accepted", Error;
    /// A refusal says by its status what is wrong.
    RefusalStatus = "refusal_status", Warning;
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A rule that an answer breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// Which.
    pub rule: Rule,
    /// How bad it is.
    pub severity: Severity,
    /// The action that was answered.
    pub action: String,
    /// The content it is about, where it is about one.
    pub id: Option<String>,
    /// What exactly is wrong.
    pub message: String,
    /// The start of the body it is about, where there is one.
    pub body: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity} {} in {}", self.rule, self.action)?;
        if let Some(id) = &self.id {
            write!(f, ", {id}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Collects the findings about one answer.
#[derive(Debug)]
pub(super) struct Findings {
    action: String,
    body: Option<String>,
    found: Vec<Finding>,
    left_out: usize,
}

impl Findings {
    pub(super) fn about(action: &str) -> Self {
        Self { action: action.to_owned(), body: None, found: Vec::new(), left_out: 0 }
    }

    /// From here on findings quote this body.
    pub(super) fn quote(&mut self, body: &[u8]) {
        let start = body.get(..body.len().min(4 * EXCERPT)).unwrap_or_default();
        let text: String = String::from_utf8_lossy(start).chars().take(EXCERPT).collect();
        self.body = Some(if text.len() < body.len() { format!("{text}…") } else { text });
    }

    pub(super) fn add(&mut self, rule: Rule, id: Option<&str>, message: impl Into<String>) {
        self.add_as(rule.severity(), rule, id, message);
    }

    pub(super) fn add_as(&mut self, severity: Severity, rule: Rule, id: Option<&str>, message: impl Into<String>) {
        if self.found.len() >= MOST {
            self.left_out += 1;
            return;
        }
        self.found.push(Finding {
            rule,
            severity,
            action: self.action.clone(),
            id: id.map(str::to_owned),
            message: message.into(),
            body: self.body.clone(),
        });
    }

    /// All of them; the last one says how many more there were.
    pub(super) fn finish(mut self) -> Vec<Finding> {
        if let (true, Some(last)) = (self.left_out > 0, self.found.last_mut()) {
            last.message = format!("{}; and {} findings more", last.message, self.left_out);
        }
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_words_and_differ() {
        let names: HashSet<_> = Rule::ALL.iter().map(|rule| rule.as_str()).collect();
        assert_eq!(names.len(), Rule::ALL.len());
        assert!(
            names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte == b'8'))
        );
    }

    #[test]
    fn findings_are_bounded_and_say_what_is_left_out() {
        let mut findings = Findings::about("messages.list");
        findings.quote(&vec![b'x'; 1000]);
        for number in 0..MOST + 5 {
            findings.add(Rule::IdMissing, None, format!("{number}"));
        }
        let found = findings.finish();
        assert_eq!(found.len(), MOST);
        assert_eq!(found[0].body.as_ref().unwrap().chars().count(), EXCERPT + 1);
        assert!(found[MOST - 1].message.ends_with("and 5 findings more"));
    }
}
