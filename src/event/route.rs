//! Maps event URIs to kinds.

use std::borrow::Cow;
use std::sync::LazyLock;

use super::catalog::CATALOG;
use super::kind::EventKind;
use super::uri::Parts;

/// The kind of a URI: the template with the most matching words of its path; among equal paths, the
/// one with the largest matching query.
pub(super) fn route(uri: &str) -> EventKind {
    static TREE: LazyLock<Node> = LazyLock::new(|| Node::of(routes()));
    TREE.best(uri)
}

/// A kind, and the template of a filter that delivers it.
type Route = (EventKind, &'static str);

/// URIs that no documentation offers as a filter: the present or former paths of the same resources. A service that
/// sends an event under one of them means the same kind.
const OTHER_SPELLINGS: &[Route] = &[
    (EventKind::TeamMessagingChat, "/restapi/v1.0/glip/chats"),
    (EventKind::TeamMessagingChat, "/restapi/v1.0/glip/teams"),
    (EventKind::TeamMessagingChat, "/team-messaging/v1/teams"),
    (EventKind::TeamMessagingWebhook, "/team-messaging/v1/webhooks"),
    (EventKind::TeamMessagingWebhook, "/restapi/v1.0/account/{accountId}/extension/{extensionId}/glip/webhooks"),
    // Opt-outs of the second API version are consents now (corrections-2026-11).
    (EventKind::SmsConsents, "/restapi/v2/accounts/{accountId}/sms/opt-outs"),
];

fn routes() -> impl Iterator<Item = Route> {
    // The last of equals wins, so the catalog comes last.
    OTHER_SPELLINGS.iter().copied().chain(CATALOG.iter().map(|row| (row.kind, row.template)))
}

/// The templates as a tree of path segments, so that common segments are compared once instead of
/// once per template.
#[derive(Default)]
struct Node {
    words: Vec<(&'static str, Self)>,
    /// The subtree after a placeholder, which matches any non-empty text.
    any: Option<Box<Self>>,
    ends: Vec<End>,
}

/// A template whose path ends here.
struct End {
    kind: EventKind,
    /// Its position in the table: the later one wins a tie.
    order: usize,
    query: Vec<(Cow<'static, str>, Cow<'static, str>)>,
}

impl Node {
    fn of(routes: impl Iterator<Item = Route>) -> Self {
        let mut root = Self::default();
        for (order, (kind, template)) in routes.enumerate() {
            let template = Parts::of(template);
            let end = End { kind, order, query: template.pairs().collect() };
            template.segments().fold(&mut root, Self::child).ends.push(end);
        }
        root
    }

    fn child(&mut self, segment: &'static str) -> &mut Self {
        if is_placeholder(segment) {
            return self.any.get_or_insert_default();
        }
        let at = self.words.iter().position(|(word, _)| *word == segment).unwrap_or_else(|| {
            self.words.push((segment, Self::default()));
            self.words.len() - 1
        });
        &mut self.words[at].1
    }

    fn best(&self, uri: &str) -> EventKind {
        let uri = Parts::of(uri);
        let mut best = None;
        self.find(uri.segments(), 0, &mut |words, end| {
            let score = (words, end.agrees(uri), end.query.len(), end.order);
            best = best.max(Some((score, end.kind)));
        });
        best.map_or(EventKind::Unknown, |(_, kind)| kind)
    }

    /// Calls `found` for every template whose path matches `segments`, with the number of matched
    /// words. Visits at most two branches per node, and no deeper than the longest template.
    fn find<'a, 'n>(
        &'n self,
        mut segments: impl Iterator<Item = &'a str> + Clone,
        words: usize,
        found: &mut dyn FnMut(usize, &'n End),
    ) {
        let Some(segment) = segments.next() else {
            return self.ends.iter().for_each(|end| found(words, end));
        };
        if let Some((_, node)) = self.words.iter().find(|(word, _)| *word == segment) {
            node.find(segments.clone(), words + 1, found);
        }
        if let Some(node) = self.any.as_ref().filter(|_| !segment.is_empty()) {
            node.find(segments, words, found);
        }
    }
}

impl End {
    fn agrees(&self, uri: Parts<'_>) -> bool {
        self.query.iter().all(|(key, want)| {
            let mut found = uri.pairs().filter(|(name, _)| name == key);
            found.any(|(_, value)| is_placeholder(want) || value.eq_ignore_ascii_case(want))
        })
    }
}

fn is_placeholder(segment: &str) -> bool {
    segment == "~" || (segment.starts_with('{') && segment.ends_with('}'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    /// The reference implementation of the rule: checks every template.
    fn by_the_rule(routes: &[Route], uri: &str) -> EventKind {
        let uri = Parts::of(uri);
        let segments: Vec<&str> = uri.segments().collect();
        let matching = routes.iter().filter_map(|route| {
            let template = Parts::of(route.1);
            let expected: Vec<&str> = template.segments().collect();
            let agree = |(want, got): (&&str, &&str)| want == got || (is_placeholder(want) && !got.is_empty());
            let takes = expected.len() == segments.len() && expected.iter().zip(&segments).all(agree);
            let words = expected.iter().filter(|segment| !is_placeholder(segment)).count();
            let end = End { kind: route.0, order: 0, query: template.pairs().collect() };
            takes.then(|| ((words, end.agrees(uri), end.query.len()), route.0))
        });
        // The last of equals.
        matching.max_by_key(|(score, _)| *score).map_or(EventKind::Unknown, |(_, kind)| kind)
    }

    fn routes() -> Vec<Route> {
        super::routes().collect()
    }

    /// A template with `fill` for each placeholder of its path.
    fn filled(template: &str, fill: &[String]) -> String {
        let (path, query) = template.split_once('?').map_or((template, ""), |(path, query)| (path, query));
        let mut fill = fill.iter().cycle();
        let path: Vec<&str> = path
            .split('/')
            .map(|segment| if is_placeholder(segment) { fill.next().map_or("", String::as_str) } else { segment })
            .collect();
        format!("{}?{query}", path.join("/"))
    }

    #[test]
    fn every_template_leads_to_its_kind_in_every_spelling() {
        for (kind, template) in routes() {
            for fill in ["~", "100200300", "{accountId}", "~é"] {
                let uri = filled(template, &[fill.to_owned()]);
                let doubled = uri.replace('/', "//");
                for uri in
                    [uri.clone(), format!("https://platform.ringcentral.com{uri}"), format!("{uri}&more=1"), doubled]
                {
                    if fill == "~é" && uri.contains("//") && !uri.contains("://") {
                        // An id in no known form behind an empty segment could as well be a missing one.
                        continue;
                    }
                    assert_eq!(super::route(&uri), kind, "{uri}");
                    assert_eq!(by_the_rule(&routes(), &uri), kind, "{uri}");
                }
            }
        }
    }

    /// Competing templates, which the table hardly has.
    const RIVALS: &[Route] = &[
        (EventKind::MessageStore, "/a/b/c"),
        (EventKind::InstantMessage, "/a/{x}/c"),
        (EventKind::ExtensionList, "/{x}/b/{y}"),
        (EventKind::ExtensionInfo, "/a/{x}/{y}"),
        (EventKind::ExtensionFavorites, "/q?one={x}"),
        (EventKind::ExtensionGrants, "/q?two={x}"),
        (EventKind::CompanyDirectory, "/q?one=1&two=2"),
    ];

    #[test]
    fn more_words_win_then_a_query_that_agrees_then_the_larger_then_the_later() {
        for (uri, want) in [
            ("/a/b/c", EventKind::MessageStore),
            ("/a/1/c", EventKind::InstantMessage),
            ("/1/b/1", EventKind::ExtensionList),
            ("/a/b/1", EventKind::ExtensionInfo),
            ("/q?one=7", EventKind::ExtensionFavorites),
            ("/q?two=7&one=7", EventKind::ExtensionGrants),
            ("/q?two=2&one=1", EventKind::CompanyDirectory),
        ] {
            assert_eq!(Node::of(RIVALS.iter().copied()).best(uri), want, "{uri}");
        }
    }

    proptest! {
        #[test]
        fn competing_templates_follow_the_rule(uri in "(/[abc1]){1,4}|/q[?](one|two)=[12](&(one|two)=[12])?") {
            prop_assert_eq!(Node::of(RIVALS.iter().copied()).best(&uri), by_the_rule(RIVALS, &uri), "{}", uri);
        }

        #[test]
        fn the_tree_follows_the_rule(
            at in 0..CATALOG.len(),
            fill in proptest::collection::vec("[0-9]{1,9}|~|[{]accountId[}]|extension|messages|", 1..4),
            host in select(vec!["", "https://platform.ringcentral.com", "http://127.0.0.1:8080", "!"]),
            query in select(vec!["", "type=SMS", "type=sms&direction=Inbound", "direction=Outbound&x", "&&usageType=X"]),
            tail in select(vec!["", "", "", "/", "/more", "//"]),
            swap in proptest::option::of((0_usize..9, "[a-z~-]{0,12}")),
        ) {
            let uri = filled(CATALOG[at].template, &fill);
            let (path, own) = uri.split_once('?').unwrap();
            let mut segments: Vec<&str> = path.split('/').collect();
            if let Some((at, word)) = &swap {
                let at = at % segments.len();
                segments[at] = word;
            }
            let path = segments.join("/");
            for uri in [format!("{host}{path}{tail}?{own}&{query}"), format!("{host}{path}{tail}?{query}"), format!("{host}{path}{tail}")] {
                prop_assert_eq!(super::route(&uri), by_the_rule(&routes(), &uri), "{}", uri);
            }
        }

        #[test]
        fn any_text_follows_the_rule(uri in "\\PC{0,60}") {
            prop_assert_eq!(super::route(&uri), by_the_rule(&routes(), &uri));
        }
    }
}
