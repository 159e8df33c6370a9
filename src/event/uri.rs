//! Parses and compares event URIs.
//!
//! The service reports the same filter in several spellings: ids or `~`, query in any order, `+`
//! escaped or not, with or without its host.

use std::borrow::Cow;

/// An event URI without scheme and host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    path: &'a str,
    query: &'a str,
}

impl<'a> Parts<'a> {
    pub(crate) fn of(uri: &'a str) -> Self {
        let relative = without_host(uri);
        let relative = relative.split_once('#').map_or(relative, |(before, _)| before);
        let (path, query) = relative.split_once('?').unwrap_or((relative, ""));
        Self { path, query }
    }

    /// The non-empty segments. A missing id, as in `account//extension`, is `~`.
    pub(crate) fn segments(self) -> impl Iterator<Item = &'a str> + Clone {
        Segments { parts: self.path.split('/'), after_owner: false, held: None }
    }

    /// Keys and values, unescaped; a flag without a value counts as `true`.
    pub(crate) fn pairs(self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + Clone {
        self.query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, "true"));
            (unescape(key), unescape(value))
        })
    }

    /// The segment that follows `name`, such as the id after `extension`.
    pub(crate) fn after(self, name: &str) -> Option<&'a str> {
        self.segments().skip_while(|segment| *segment != name).nth(1).filter(|id| !id.is_empty())
    }
}

#[derive(Clone)]
struct Segments<'a> {
    parts: std::str::Split<'a, char>,
    /// Whether the previous segment is followed by an id.
    after_owner: bool,
    /// The segment behind a missing id.
    held: Option<&'a str>,
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (segment, follows_empty) = match self.held.take() {
            Some(segment) => (segment, false),
            None => {
                let mut follows_empty = false;
                let segment = self.parts.find(|part| {
                    follows_empty |= part.is_empty();
                    !part.is_empty()
                })?;
                (segment, follows_empty)
            }
        };
        let lacks_id = std::mem::replace(&mut self.after_owner, is_owner(segment)) && follows_empty && !is_id(segment);
        if lacks_id {
            self.after_owner = false;
            self.held = Some(segment);
            return Some("~");
        }
        Some(segment)
    }
}

fn is_id(segment: &str) -> bool {
    segment == "~" || segment.starts_with('{') || segment.bytes().all(|byte| byte.is_ascii_digit())
}

fn without_host(uri: &str) -> &str {
    let scheme = ["https://", "http://"]
        .into_iter()
        .find(|scheme| uri.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    match scheme.and_then(|scheme| uri.get(scheme.len()..)) {
        Some(rest) => rest.find(['/', '?']).and_then(|at| rest.get(at..)).unwrap_or(""),
        None => uri,
    }
}

pub(crate) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        match (byte, tail) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                bytes.push(nibble(*high) << 4 | nibble(*low));
                rest = after;
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// Escapes characters that would end a path segment or a query value. `+` stays: the service writes
/// phone numbers in filters with a bare one.
pub(crate) fn escape(text: &str, into: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~+:,@*".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push('%');
            into.push(char::from(HEX[usize::from(byte >> 4)]));
            into.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// An event URI in a comparable form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Normal<'a> {
    segments: Vec<Segment<'a>>,
    query: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Segment<'a> {
    Text(Cow<'a, str>),
    /// `~`, or a placeholder that the service did not replace: any account or extension.
    Own,
    Id(Cow<'a, str>),
}

impl Segment<'_> {
    fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Own, Self::Own | Self::Id(_)) | (Self::Id(_), Self::Own) => true,
            _ => self == other,
        }
    }
}

impl<'a> Normal<'a> {
    pub(crate) fn of(uri: &'a str) -> Self {
        let parts = Parts::of(uri);
        let mut owner = false;
        let segments = parts
            .segments()
            .map(|segment| {
                let text = unescape(segment);
                let is_id = std::mem::replace(&mut owner, is_owner(&text));
                match (is_id, text.as_ref()) {
                    (true, "~") => Segment::Own,
                    (true, id) if id.starts_with('{') && id.ends_with('}') => Segment::Own,
                    (true, id) if !is_owner(id) => Segment::Id(text),
                    _ => Segment::Text(text),
                }
            })
            .collect();
        let mut query: Vec<_> = parts.pairs().collect();
        query.sort_unstable();
        query.dedup();
        Self { segments, query }
    }

    /// Whether both may be equivalent: `~` matches any id, ids match only equal ones.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        self.query == other.query && self.agrees_in_path(other)
    }

    fn agrees_in_path(&self, other: &Self) -> bool {
        self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(|(a, b)| a.agrees(b))
    }

    /// Whether its extension is written as `~`.
    pub(crate) fn is_of_own_extension(&self) -> bool {
        matches!(self.extension(), Some(Segment::Own))
    }

    /// The id of its extension, if it is explicit.
    pub(crate) fn extension_id(&self) -> Option<&str> {
        match self.extension()? {
            Segment::Id(id) => Some(id),
            Segment::Own | Segment::Text(_) => None,
        }
    }

    fn extension(&self) -> Option<&Segment<'a>> {
        let at = self.segments.iter().position(|segment| *segment == Segment::Text("extension".into()))?;
        self.segments.get(at + 1)
    }

    /// Whether this is a presence filter that `other`, on the same path, replaces: it reports all
    /// of this, and more.
    pub(crate) fn is_simpler_presence_than(&self, other: &Self) -> bool {
        let is_presence = matches!(self.segments.last(), Some(Segment::Text(word)) if word == "presence");
        let has = |(key, value): &(Cow<'_, str>, Cow<'_, str>)| {
            value == "false" || other.query.iter().any(|(other_key, other)| other_key == key && other == value)
        };
        is_presence && self.agrees_in_path(other) && self.query.iter().all(has)
    }

    /// The canonical text of all equivalent URIs: a path with `~` for each account and extension,
    /// then the sorted query. It is part of a [`DedupKey`](super::DedupKey), so it must not change.
    pub(crate) fn canonical(&self) -> String {
        let mut text = String::new();
        if self.segments.is_empty() {
            text.push('/');
        }
        for segment in &self.segments {
            text.push('/');
            match segment {
                Segment::Own | Segment::Id(_) => text.push('~'),
                Segment::Text(word) => escape(word, &mut text),
            }
        }
        for (at, (key, value)) in self.query.iter().enumerate() {
            text.push(if at == 0 { '?' } else { '&' });
            escape(key, &mut text);
            text.push('=');
            escape(value, &mut text);
        }
        text
    }

    /// The same for the whole account, if this concerns an extension.
    pub(crate) fn widened(mut self) -> Option<Self> {
        let at = self.segments.iter().position(|segment| *segment == Segment::Text("extension".into()))?;
        let is_pair = matches!(self.segments.get(at + 1), Some(Segment::Own | Segment::Id(_)));
        is_pair.then(|| {
            self.segments.drain(at..=at + 1);
            self
        })
    }
}

fn is_owner(segment: &str) -> bool {
    matches!(segment, "account" | "accounts" | "extension" | "extensions")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_uri_is_taken_apart() {
        for (uri, segments, pairs) in [
            ("/a/b?x=1&y", "a b", "x=1 y=true"),
            ("a/b/", "a b", ""),
            ("https://host:8/a/b?x=%2B1&&z=", "a b", "x=+1 z="),
            ("HTTP://host", "", ""),
            ("https://host?x=1", "", "x=1"),
            ("/a#b?c", "a", ""),
            ("//a//b//", "a b", ""),
            ("/account//extension/2/presence", "account ~ extension 2 presence", ""),
            ("/account/1/extension//presence", "account 1 extension ~ presence", ""),
            ("/account//extension//presence", "account ~ extension ~ presence", ""),
            ("/account//1/extension//~/presence", "account 1 extension ~ presence", ""),
            ("/account/1//extension//{extensionId}", "account 1 extension {extensionId}", ""),
            ("/account/1/extension//", "account 1 extension", ""),
            ("/a?x=%zz%4", "a", "x=%zz%4"),
            ("", "", ""),
        ] {
            let parts = Parts::of(uri);
            assert_eq!(parts.segments().collect::<Vec<_>>().join(" "), segments, "{uri}");
            let got: Vec<_> = parts.pairs().map(|(key, value)| format!("{key}={value}")).collect();
            assert_eq!(got.join(" "), pairs, "{uri}");
        }
        assert_eq!(Parts::of("/account/~/extension/7/presence").after("extension"), Some("7"));
        assert_eq!(Parts::of("/account/~/extension").after("extension"), None);
    }

    #[test]
    fn all_spellings_of_a_uri_have_one_canonical_text() {
        for (uris, want) in [
            (&["/x", "x", "/x/", "https://host/x", "/x?", "/x#y"][..], "/x"),
            (
                &[
                    "/restapi/v1.0/account/1/extension/2/message-store",
                    "/restapi/v1.0/account/~/extension/{extensionId}/message-store",
                    "https://host:8/restapi/v1.0/account/1/extension/~/message-store",
                    "/restapi/v1.0/%61ccount/%7E/extension/7/message%2Dstore",
                ],
                "/restapi/v1.0/account/~/extension/~/message-store",
            ),
            (&["/a?y=%2B1&x&x=true", "/a?x&y=+1", "/a?x=true&y=+1&"], "/a?x=true&y=+1"),
            (&["/a?x=b%26c=d"], "/a?x=b%26c%3Dd"),
            (&["/a%2Fb"], "/a%2Fb"),
            (&["/", "", "//", "https://host"], "/"),
            (
                &["//account/1//extension/2/presence", "/account//extension//presence"],
                "/account/~/extension/~/presence",
            ),
            (&["/chats/7/posts"], "/chats/7/posts"),
        ] {
            for uri in uris {
                assert_eq!(Normal::of(uri).canonical(), want, "{uri}");
                assert_eq!(Normal::of(want).canonical(), want, "it is unchanged");
            }
        }
    }

    proptest! {
        #[test]
        fn uris_that_agree_have_one_canonical_text(
            path in prop::collection::vec("account|extension|~|[12]|[{]id[}]|presence|%2F|é", 1..6),
            other in prop::collection::vec("account|extension|~|[12]|[{]id[}]|presence|%2F|é", 1..6),
            query in prop::sample::subsequence(vec!["a=1", "b", "b=true", "c=%2B1", "c=+1", ""], 0..6).prop_shuffle(),
        ) {
            let (a, b) = (format!("/{}?{}", path.join("/"), query.join("&")), format!("/{}", other.join("/")));
            let (a, b) = (Normal::of(&a), Normal::of(&b));
            prop_assert!(!a.agrees(&b) || a.canonical() == b.canonical());
            let canonical = a.canonical();
            prop_assert!(Normal::of(&canonical).agrees(&a), "{}", canonical);
            prop_assert_eq!(Normal::of(&canonical).canonical(), canonical);
        }

        #[test]
        fn escaping_is_undone_by_unescaping(text in "\\PC{0,20}") {
            let mut escaped = String::new();
            escape(&text, &mut escaped);
            prop_assert!(escaped.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(unescape(&escaped), text);
        }

        #[test]
        fn any_text_agrees_with_itself(text in "\\PC{0,40}") {
            prop_assert!(Normal::of(&text).agrees(&Normal::of(&text)));
        }
    }
}
