//! Domain events, filters, and which events a filter matches. Pure.

use super::context::Identity;
use super::http::{Refused, Reply, percent_decode};

/// Query parameters that change the shape of a body; all others narrow the set of events.
const SHAPES: [&str; 4] = ["detailedTelephonyState", "sipData", "totalActiveCalls", "aggregated"];

/// First path segments that the service accepts in filters.
const FAMILIES: [&str; 4] = ["restapi", "team-messaging", "ai", "webinar"];

/// A parsed filter or event URI.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EventUri {
    /// The path with numeric ids, as reported.
    pub(crate) path: String,
    /// The query as written, without `?`, in its order.
    pub(crate) query: String,
}

impl EventUri {
    /// Parses `text`: drops scheme and host and expands `~` to the ids.
    pub(crate) fn parse(text: &str, account: &str, extension: &str) -> Self {
        let text = text.trim();
        let relative = match text.find("://") {
            Some(at) => text[at + 3..].find('/').map_or("/", |slash| &text[at + 3 + slash..]),
            None => text,
        };
        let (path, query) = relative.split_once('?').unwrap_or((relative, ""));
        Self { path: expand(path, account, extension), query: query.to_owned() }
    }

    /// The URI as text.
    pub(crate) fn text(&self) -> String {
        if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query) }
    }

    /// Parameters; a flag without a value is `true`. `+` is literal, since phone numbers come
    /// unescaped.
    fn parameters(&self) -> impl Iterator<Item = (String, String)> {
        self.query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
            (percent_decode(name), percent_decode(value))
        })
    }

    fn values(&self, name: &str) -> Vec<String> {
        self.parameters().filter(|(key, _)| key == name).map(|(_, value)| value).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.values(name).iter().any(|value| value == "true")
    }

    /// The level of detail that a filter requests: SIP data above details above the plain body. The
    /// highest of overlapping filters wins.
    pub(crate) fn richness(&self) -> u8 {
        match (self.has("detailedTelephonyState"), self.has("sipData")) {
            (true, true) => 2,
            (true, false) => 1,
            (false, _) => 0,
        }
    }

    /// Whether an event with this URI matches `filter`.
    ///
    /// Paths are equal, or the filter is the account's and the event an extension's. Parameters are
    /// compared as sets: a parameter of both needs a common value; one of the filter alone narrows
    /// by something absent from the event, so it passes; a shape of the event alone was not
    /// requested.
    pub(crate) fn meets(&self, filter: &Self) -> bool {
        if !path_meets(&canonical(&self.path), &canonical(&filter.path)) {
            return false;
        }
        let common = filter.parameters().all(|(name, _)| {
            let values = self.values(&name);
            values.is_empty() || filter.values(&name).iter().any(|value| values.contains(value))
        });
        let unasked = self
            .parameters()
            .any(|(name, value)| SHAPES.contains(&name.as_str()) && value == "true" && filter.values(&name).is_empty());
        common && !unasked
    }

    /// Whether the service knows filters of this family.
    pub(crate) fn is_known_family(&self) -> bool {
        let mut segments = self.path.split('/');
        segments.next() == Some("")
            && segments.next().is_some_and(|family| FAMILIES.contains(&family))
            && segments.next().is_some_and(|rest| !rest.is_empty())
    }

    /// Whether the service always encrypts it: presence and telephony.
    pub(crate) fn is_sensitive(&self) -> bool {
        self.path.contains("/presence") || self.path.contains("/telephony/sessions")
    }

    /// Whether this is the reminder about the subscription itself.
    pub(crate) fn is_reminder(&self) -> bool {
        self.path == "/restapi/v1.0/subscription/~"
    }
}

/// A domain event: an event URI, and a body for each level of detail that a filter can request
/// (plain, detailed, with SIP data); the last body also serves the levels above it.
#[derive(Clone, Debug)]
pub(crate) struct DomainEvent {
    pub(crate) uri: EventUri,
    /// JSON bodies, least detailed first; at least one.
    pub(crate) bodies: Vec<String>,
}

impl DomainEvent {
    /// The body for a filter that matches.
    pub(crate) fn body(&self, filter: &EventUri) -> &str {
        let richest = self.bodies.len().saturating_sub(1);
        self.bodies.get(richest.min(usize::from(filter.richness()))).map_or("null", String::as_str)
    }
}

impl DomainEvent {
    /// An event with one body.
    pub(crate) fn new(identity: &Identity, uri: &str, body: &serde_json::Value) -> Self {
        let uri = EventUri::parse(uri, &identity.account_id, &identity.extension_id);
        Self { uri, bodies: vec![body.to_string()] }
    }
}

/// The outcome of a REST call: its answer, and the changes of the account.
pub(crate) type Outcome = Result<(Reply, Vec<DomainEvent>), Refused>;

/// Expands `~` to numeric ids, in both spellings of the API.
fn expand(path: &str, account: &str, extension: &str) -> String {
    let mut previous = "";
    let segments: Vec<&str> = path
        .split('/')
        .map(|segment| {
            let name = std::mem::replace(&mut previous, segment);
            match (name, segment) {
                ("account" | "accounts", "~") => account,
                ("extension" | "extensions", "~") => extension,
                _ => segment,
            }
        })
        .collect();
    segments.join("/")
}

/// The canonical spelling of legacy team-messaging URIs.
fn canonical(path: &str) -> String {
    match path.rsplit_once("/glip/") {
        Some((_, "posts")) => "/team-messaging/v1/posts".into(),
        Some((_, "groups")) => "/team-messaging/v1/chats".into(),
        _ if path == "/team-messaging/v1/groups" => "/team-messaging/v1/chats".into(),
        _ => path.to_owned(),
    }
}

fn path_meets(event: &str, filter: &str) -> bool {
    if event == filter {
        return true;
    }
    let Some((account, rest)) = event.split_once("/extension/") else { return false };
    let Some((_, tail)) = rest.split_once('/') else { return false };
    filter.strip_prefix(account).and_then(|found| found.strip_prefix('/')) == Some(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> EventUri {
        EventUri::parse(text, "11", "22")
    }

    #[test]
    fn tilde_is_expanded_for_account_and_extension_only() {
        for (text, want) in [
            (
                "/restapi/v1.0/account/~/extension/~/presence?sipData=true",
                "/restapi/v1.0/account/11/extension/22/presence?sipData=true",
            ),
            ("/restapi/v1.0/account/7/extension/~", "/restapi/v1.0/account/7/extension/22"),
            ("/restapi/v2/accounts/~/extensions/~/sms/batches", "/restapi/v2/accounts/11/extensions/22/sms/batches"),
            ("/restapi/v1.0/subscription/~?threshold=60", "/restapi/v1.0/subscription/~?threshold=60"),
            ("https://host.example/team-messaging/v1/posts", "/team-messaging/v1/posts"),
        ] {
            assert_eq!(uri(text).text(), want);
        }
    }

    #[test]
    fn an_event_meets_a_filter() {
        const E: &str = "/restapi/v1.0/account/~/extension/~";
        for (event, filter, want) in [
            (format!("{E}/message-store"), format!("{E}/message-store"), true),
            (format!("{E}/message-store"), "/restapi/v1.0/account/11/extension/22/message-store".into(), true),
            (format!("{E}/message-store"), format!("{E}/message-store?type=SMS&direction=Inbound"), true),
            (format!("{E}/message-store?type=SMS"), format!("{E}/message-store?type=Fax"), false),
            (format!("{E}/message-store?type=SMS"), format!("{E}/message-store?type=Fax&type=SMS"), true),
            (format!("{E}/message-store"), format!("{E}/message-store/instant?type=SMS"), false),
            (format!("{E}/message-store"), "/restapi/v1.0/account/11/extension/23/message-store".into(), false),
            (format!("{E}/presence"), "/restapi/v1.0/account/~/presence".into(), true),
            (format!("{E}/presence"), "/restapi/v1.0/account/12/presence".into(), false),
            ("/restapi/v1.0/account/~/presence".into(), format!("{E}/presence"), false),
            (format!("{E}/presence"), format!("{E}/presence?detailedTelephonyState=true"), true),
            (format!("{E}/presence?detailedTelephonyState=true"), format!("{E}/presence"), false),
            (format!("{E}/presence/line"), format!("{E}/presence"), false),
            (format!("{E}/presence?a=1&b=2"), format!("{E}/presence?b=2&a=1"), true),
            ("/team-messaging/v1/posts".into(), "/restapi/v1.0/glip/posts".into(), true),
            ("/team-messaging/v1/posts".into(), format!("{E}/glip/posts"), true),
            ("/team-messaging/v1/chats".into(), "/team-messaging/v1/groups".into(), true),
            ("/x?to=+1650".into(), "/x?to=%2B1650".into(), true),
        ] {
            assert_eq!(uri(&event).meets(&uri(&filter)), want, "{event} ~ {filter}");
        }
    }

    #[test]
    fn families_sensitivity_and_richness() {
        assert!(uri("/restapi/v1.0/x").is_known_family());
        for bad in ["", "/", "/restapi", "/restapi/", "restapi/v1.0/x", "/nope/v1"] {
            assert!(!uri(bad).is_known_family(), "{bad}");
        }
        assert!(uri("/restapi/v1.0/account/~/telephony/sessions").is_sensitive());
        assert!(!uri("/restapi/v1.0/account/~/extension/~/message-store").is_sensitive());
        for (query, want) in [
            ("", 0),
            ("sipData=true", 0),
            ("detailedTelephonyState=true", 1),
            ("sipData=true&detailedTelephonyState", 2),
        ] {
            assert_eq!(uri(&format!("/restapi/v1.0/p?{query}")).richness(), want, "{query}");
        }
    }
}
