//! Violations of the source protocol.

use std::fmt;

/// Characters of the body quoted in a violation.
const EXCERPT: usize = 160;
/// Maximum number of violations per answer; a page of garbage has thousands.
const MOST: usize = 100;

/// The severity of a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// It works, but deviates from the documentation, or the documentation is unclear.
    Warning,
    /// The platform refuses it, loses data, or shows something wrong.
    Error,
}

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident = $name:literal, $severity:ident;)+) => {
        /// A rule of the protocol, with a name that violations print.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Rule {
            $($(#[$doc])* $rule,)+
        }

        impl Rule {
            /// All rules.
            pub const ALL: &[Self] = &[$(Self::$rule,)+];

            /// Its name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$rule => $name,)+
                }
            }

            /// The severity of a violation, unless the violation overrides it.
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
    // Responses in general.
    /// The source answers.
    NoAnswer = "no_answer", Error;
    /// It answers in time.
    Late = "late", Error;
    /// The response has a success status.
    Status = "status", Error;
    /// The response is not a redirect: a signed body must not be redirected.
    Redirect = "redirect", Error;
    /// The response is signed.
    SignatureMissing = "signature_missing", Error;
    /// The response is signed exactly once.
    SignatureTwice = "signature_twice", Error;
    /// The signature is 128 lower-case hexadecimal digits.
    SignatureForm = "signature_form", Error;
    /// The signature covers the bytes of the body, keyed with the channel's token as text.
    SignatureWrong = "signature_wrong", Error;
    /// The body does not exceed the platform's limit.
    TooLarge = "too_large", Error;
    /// The body is UTF-8.
    NotUtf8 = "not_utf8", Error;
    /// The body is JSON.
    NotJson = "not_json", Error;
    /// The content type is `application/json`.
    ContentType = "content_type", Warning;
    /// The response has no content coding: the signature covers the plain body.
    ContentCoding = "content_coding", Warning;

    // implementation.info.
    /// `implementation.info` returns an object.
    InfoShape = "info_shape", Error;
    /// `objects` maps each collection to a list of operations.
    ObjectsShape = "objects_shape", Error;
    /// `objects` contains only known collections.
    CollectionUnknown = "collection_unknown", Warning;
    /// Operation names are words.
    OperationName = "operation_name", Error;
    /// Deletions are declared as `delete`: `destroy` is in the polling guide's examples only, and the platform may
    /// show it as a custom button (unverified).
    DestroyDeclared = "destroy_declared", Warning;
    /// `options` is a list of texts.
    OptionsShape = "options_shape", Error;
    /// `options` contains only known options.
    OptionUnknown = "option_unknown", Warning;
    /// `locales` maps languages to labels by operation.
    LocalesShape = "locales_shape", Error;
    /// No option disables a declared operation.
    Reduced = "reduced", Warning;
    /// Each option has the options and operations that it requires.
    OptionsConflict = "options_conflict", Warning;

    // Lists.
    /// A list returns an array, even if it is empty.
    ListShape = "list_shape", Error;
    /// The elements of a list are objects.
    ItemShape = "item_shape", Error;
    /// Each content has an id.
    IdMissing = "id_missing", Error;
    /// Ids are texts.
    IdForm = "id_form", Warning;
    /// Each id occurs once in a page.
    IdTwice = "id_twice", Error;
    /// `since_id` itself is not listed.
    SinceListed = "since_listed", Error;
    /// A page lists the newest content first.
    ListOrder = "list_order", Error;
    /// A list does not repeat contents listed before `since_id`.
    ListedAgain = "listed_again", Error;
    /// A list ends.
    Endless = "endless", Error;
    /// A list omits nothing.
    ListLost = "list_lost", Error;
    /// A content has the fields that the platform requires.
    FieldMissing = "field_missing", Error;
    /// Fields have their documented types.
    FieldForm = "field_form", Error;
    /// Users have creation and change dates.
    UserDates = "user_dates", Warning;
    /// Dates are `YYYY-MM-DD` or `YYYY-MM-DDThh:mm:ssZ`.
    DateForm = "date_form", Warning;
    /// A body has at most 20 000 characters.
    BodyTooLong = "body_too_long", Error;
    /// `in_reply_to_id` is the id of a content.
    ReplyUnresolved = "reply_unresolved", Error;
    /// `thread_id` is the id of a thread.
    ThreadUnresolved = "thread_unresolved", Warning;
    /// A content's actions are declared for its collection.
    ActionUndeclared = "action_undeclared", Error;
    /// `context_data` maps keys of letters and `-` to texts or lists of texts.
    ContextData = "context_data", Error;
    /// An attachment has either a `url`, or `content` in base64 and `filename`.
    AttachmentForm = "attachment_form", Error;
    /// A structured message follows the rules of its type and of its fields.
    Structured = "structured", Error;

    // Show.
    /// A show returns an object or nothing.
    ShowShape = "show_shape", Error;
    /// A show returns the requested content.
    ShowOther = "show_other", Error;

    // Writes.
    /// A refusal is `{"error":{"fatal":…,"message":"…"}}`.
    ErrorShape = "error_shape", Error;
    /// A create returns the content.
    CreateShape = "create_shape", Error;
    /// A created content has a new id, not that of the content it replies to.
    CreateEchoes = "create_echoes", Error;
    /// A created content has an id that no other content has.
    CreateIdTaken = "create_id_taken", Error;
    /// A repeated create returns the same id.
    CreateIdChanged = "create_id_changed", Error;
    /// A created content appears in later lists.
    CreateNotListed = "create_not_listed", Error;
    /// A created content is listed with the body that was written.
    CreateBodyChanged = "create_body_changed", Error;
    /// A delete returns the content.
    DeleteShape = "delete_shape", Error;
    /// A deleted content is no longer listed.
    DeletedListed = "deleted_listed", Error;
    /// An operation on a content returns that content.
    ChangeShape = "change_shape", Error;
    /// A repeated write gets the same answer as the first.
    RepeatRefused = "repeat_refused", Error;

    // Checks.
    /// Requests that are not from the platform are refused.
    ForgeryAccepted = "forgery_accepted", Error;
    /// Requests from the platform are accepted in any valid form.
    GenuineRefused = "genuine_refused", Error;
    /// Requests without a declared action are refused.
    NonsenseAccepted = "nonsense_accepted", Error;
    /// The status of a refusal says what is wrong.
    RefusalStatus = "refusal_status", Warning;
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A violation of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// The severity.
    pub severity: Severity,
    /// The action whose answer violates the rule.
    pub action: String,
    /// The content concerned, if any.
    pub id: Option<String>,
    /// What exactly is wrong.
    pub message: String,
    /// The start of the offending body, if any.
    pub body: Option<String>,
}

impl fmt::Display for Violation {
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

/// Collects the violations about one answer.
#[derive(Debug)]
pub(crate) struct Violations {
    action: String,
    body: Option<String>,
    found: Vec<Violation>,
    left_out: usize,
}

impl Violations {
    pub(crate) fn about(action: &str) -> Self {
        Self { action: action.to_owned(), body: None, found: Vec::new(), left_out: 0 }
    }

    /// Sets the body that subsequent violations quote.
    pub(crate) fn quote(&mut self, body: &[u8]) {
        let start = body.get(..body.len().min(4 * EXCERPT)).unwrap_or_default();
        let text: String = String::from_utf8_lossy(start).chars().take(EXCERPT).collect();
        self.body = Some(if text.len() < body.len() { format!("{text}…") } else { text });
    }

    pub(crate) fn add(&mut self, rule: Rule, id: Option<&str>, message: impl Into<String>) {
        self.add_as(rule.severity(), rule, id, message);
    }

    pub(crate) fn add_as(&mut self, severity: Severity, rule: Rule, id: Option<&str>, message: impl Into<String>) {
        if self.found.len() >= MOST {
            self.left_out += 1;
            return;
        }
        self.found.push(Violation {
            rule,
            severity,
            action: self.action.clone(),
            id: id.map(str::to_owned),
            message: message.into(),
            body: self.body.clone(),
        });
    }

    /// All violations; the last one states how many were omitted.
    pub(crate) fn finish(mut self) -> Vec<Violation> {
        if let (true, Some(last)) = (self.left_out > 0, self.found.last_mut()) {
            last.message = format!("{}; and {} violations more", last.message, self.left_out);
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
    fn violations_are_bounded_and_state_what_was_omitted() {
        let mut violations = Violations::about("messages.list");
        violations.quote(&vec![b'x'; 1000]);
        for number in 0..MOST + 5 {
            violations.add(Rule::IdMissing, None, format!("{number}"));
        }
        let found = violations.finish();
        assert_eq!(found.len(), MOST);
        assert_eq!(found[0].body.as_ref().unwrap().chars().count(), EXCERPT + 1);
        assert!(found[MOST - 1].message.ends_with("and 5 violations more"));
    }
}
