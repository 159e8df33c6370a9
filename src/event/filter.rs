//! Event filters.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::catalog::{CATALOG, CatalogRow};
use super::kind::EventKind;
use super::query::Query;
use super::route::route;
use super::uri::{self, Normal, Parts};
use crate::error::Error;
use crate::ids::{AccountId, ExtensionId};

/// An event filter of a subscription: the URI of the events to receive.
///
/// Created by a constructor per documented filter, which cannot be misspelled, or from text, which
/// is passed to the service unchanged:
///
/// ```
/// use ringcentral_events::event::{Direction, EventFilter, MessageStoreQuery, MessageType};
///
/// let mine = EventFilter::instant_message();
/// assert_eq!(mine.to_string(), "/restapi/v1.0/account/~/extension/~/message-store/instant?type=SMS");
///
/// let theirs = EventFilter::extension("823476228762").voicemail();
/// let faxes = EventFilter::message_store_with(
///     MessageStoreQuery::new().message_type(MessageType::Fax).direction(Direction::Inbound),
/// );
/// let newer: EventFilter = "/restapi/v1.0/account/~/extension/~/something-new".parse()?;
/// # Ok::<_, ringcentral_events::Error>(())
/// ```
///
/// A constructor on `EventFilter` uses the account and extension of the login (`~`);
/// [`account`](Self::account) and [`extension`](Self::extension) select others. Every constructor
/// is a row of [`catalog`](Self::catalog).
///
/// Two filters are equal if their texts are; to compare requested filters with those that the
/// service reports, use [`same_filters`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventFilter(Box<str>);

impl EventFilter {
    /// A custom filter, passed to the service unchanged. The same as parsing it.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) if the text is not a URI: empty, with white space or
    /// control characters, or neither a path nor an `http(s)` URL. A leading `!` is accepted (the
    /// service has such a syntax, which is undocumented).
    pub fn custom(uri: impl Into<String>) -> Result<Self, Error> {
        let uri = uri.into();
        match problem(&uri) {
            Some(problem) => Err(Error::config(problem)),
            None => Ok(Self(uri.into_boxed_str())),
        }
    }

    /// Filters of another account that the login may access.
    pub fn account(account: impl Into<AccountId>) -> AccountScope {
        AccountScope(Scope { account: Some(account.into()), extension: None })
    }

    /// Filters of another extension of the login's account.
    pub fn extension(extension: impl Into<ExtensionId>) -> ExtensionScope {
        ExtensionScope(Scope { account: None, extension: Some(extension.into()) })
    }

    /// Every documented filter, in the order of the table at [`EventKind`].
    pub fn catalog() -> impl Iterator<Item = &'static CatalogRow> + Clone {
        CATALOG.iter()
    }

    /// The URI as sent to the service.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The kind of its events, by its URI. With a leading `!` it is
    /// [`Unknown`](EventKind::Unknown), since the meaning of the exclusion is undocumented.
    ///
    /// The service may report an event of an account-wide filter under the URI of
    /// the extension concerned, so the events' own kind may be the extension's.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        route(&self.0)
    }

    /// Whether this filter may deliver an event with this URI.
    ///
    /// Ids match `~` and equal ids; the query is compared as a set; the service's host before the
    /// path is ignored. A filter of a whole account also matches the URIs of its extensions. The
    /// service reports only the most detailed of several presence filters.
    #[must_use]
    pub fn matches_uri(&self, event_uri: &str) -> bool {
        let filter = Normal::of(&self.0);
        let event = Normal::of(event_uri);
        filter.agrees(&event) || event.widened().is_some_and(|event| filter.agrees(&event))
    }

    /// Whether the service encrypts every payload of a PubNub subscription that has this filter:
    /// presence and telephony sessions. The reference documents this for presence only; for
    /// telephony it is inferred.
    #[must_use]
    pub fn is_sensitive(&self) -> bool {
        let mut previous = "";
        Parts::of(&self.0).segments().any(|segment| {
            let parent = std::mem::replace(&mut previous, segment);
            segment == "presence" || segment.ends_with("-presence") || (parent == "telephony" && segment == "sessions")
        })
    }
}

fn problem(uri: &str) -> Option<&'static str> {
    let target = uri.strip_prefix('!').unwrap_or(uri);
    let has_scheme = |scheme: &str| {
        target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
            && target.len() > scheme.len()
    };
    if target.is_empty() {
        Some("the event filter is empty")
    } else if uri.chars().any(|c| c.is_whitespace() || c.is_control()) {
        Some("the event filter holds white space or control characters")
    } else if target.starts_with('/') || has_scheme("http://") || has_scheme("https://") {
        None
    } else {
        Some("the event filter is neither a path nor an http URL")
    }
}

impl fmt::Display for EventFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EventFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventFilter({})", self.0)
    }
}

impl AsRef<str> for EventFilter {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for EventFilter {
    type Err = Error;

    fn from_str(uri: &str) -> Result<Self, Error> {
        Self::custom(uri)
    }
}

impl TryFrom<&str> for EventFilter {
    type Error = Error;

    fn try_from(uri: &str) -> Result<Self, Error> {
        Self::custom(uri)
    }
}

impl TryFrom<String> for EventFilter {
    type Error = Error;

    fn try_from(uri: String) -> Result<Self, Error> {
        Self::custom(uri)
    }
}

impl From<EventFilter> for String {
    fn from(filter: EventFilter) -> Self {
        filter.0.into_string()
    }
}

impl Serialize for EventFilter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EventFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::custom(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// The scope; `None` is the login's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    account: Option<AccountId>,
    extension: Option<ExtensionId>,
}

/// Filters of one account; see [`EventFilter::account`].
#[derive(Clone, Debug)]
#[must_use]
pub struct AccountScope(pub(crate) Scope);

impl AccountScope {
    /// Filters of one extension of this account.
    pub fn extension(self, extension: impl Into<ExtensionId>) -> ExtensionScope {
        ExtensionScope(Scope { extension: Some(extension.into()), ..self.0 })
    }
}

/// Filters of one extension; see [`EventFilter::extension`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ExtensionScope(pub(crate) Scope);

/// Fills a template's placeholders: account and extension from the scope, any other from `args` in
/// order.
pub(crate) fn render(template: &str, scope: &Scope, args: &[&str], query: Option<&dyn Query>) -> EventFilter {
    let mut text = String::with_capacity(template.len() + 32);
    let mut args = args.iter();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        text.push_str(before);
        let value = match name {
            "accountId" => scope.account.as_ref().map(AccountId::as_str),
            "extensionId" => scope.extension.as_ref().map(ExtensionId::as_str),
            _ => args.next().copied(),
        };
        uri::escape(value.unwrap_or("~"), &mut text);
        rest = after;
    }
    text.push_str(rest);
    if let Some(query) = query {
        let start = text.len();
        query.write(&mut text);
        if text.len() > start && !template.contains('?') {
            text.replace_range(start..=start, "?");
        }
    }
    EventFilter(text.into_boxed_str())
}

/// Whether two lists of filters are equivalent for the service.
///
/// The order of filters and of query parameters is ignored, as is the service's host before a path;
/// `~` equals any id. Duplicate filters count once. For comparing requested filters with those that
/// a subscription reports.
///
/// ```
/// use ringcentral_events::event::same_filters;
/// assert!(same_filters(
///     &["/restapi/v1.0/account/~/presence?sipData=true&detailedTelephonyState=true", "/team-messaging/v1/posts"],
///     &["/team-messaging/v1/posts", "/restapi/v1.0/account/400/presence?detailedTelephonyState=true&sipData=true"],
/// ));
/// ```
#[must_use]
pub fn same_filters(a: &[impl AsRef<str>], b: &[impl AsRef<str>]) -> bool {
    let a: Vec<Normal<'_>> = a.iter().map(|filter| Normal::of(filter.as_ref())).collect();
    let b: Vec<Normal<'_>> = b.iter().map(|filter| Normal::of(filter.as_ref())).collect();
    // `~` and an id in one list can match a single id in the other, written twice or once, so try
    // counting both ways.
    pair_up(&a.iter().collect::<Vec<_>>(), &b.iter().collect::<Vec<_>>()) || pair_up(&distinct(&a), &distinct(&b))
}

fn distinct<'n, 'a>(filters: &'n [Normal<'a>]) -> Vec<&'n Normal<'a>> {
    let mut kept: Vec<&Normal<'a>> = Vec::with_capacity(filters.len());
    for filter in filters {
        if !kept.contains(&filter) {
            kept.push(filter);
        }
    }
    kept
}

/// Whether each of `a` can be paired with a different one of `b`. Matching is not transitive (`~`
/// matches 1 and 2), so existing pairs are rearranged if necessary.
fn pair_up(a: &[&Normal<'_>], b: &[&Normal<'_>]) -> bool {
    fn place(at: usize, a: &[&Normal<'_>], b: &[&Normal<'_>], tried: &mut [bool], owner: &mut [Option<usize>]) -> bool {
        for (slot, candidate) in b.iter().enumerate() {
            if tried[slot] || !a[at].agrees(candidate) {
                continue;
            }
            tried[slot] = true;
            if owner[slot].is_none_or(|other| place(other, a, b, tried, owner)) {
                owner[slot] = Some(at);
                return true;
            }
        }
        false
    }

    let mut owner = vec![None; b.len()];
    a.len() == b.len() && (0..a.len()).all(|at| place(at, a, b, &mut vec![false; b.len()], &mut owner))
}
