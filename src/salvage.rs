//! Reading the parts of a JSON text that is not JSON as a whole.
//!
//! One `NaN`, one comma too many or a text that was cut off would otherwise cost
//! everything around it (found 6.5, 6.6). The text is cut into pieces by its quotes
//! and brackets alone; whether a piece is JSON is for the caller to see. Pure, and
//! linear in the length of the text.

use std::borrow::Cow;

use memchr::memchr2;

/// A list or an object, cut into its parts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parts<T> {
    pub(crate) parts: Vec<T>,
    /// Whether it was closed, with nothing behind it and nothing odd between its parts:
    /// then there are no other parts.
    pub(crate) closed: bool,
}

/// The answer without what servers and proxies put around it: a byte order mark, the
/// call of a JSONP callback.
pub(crate) fn unwrapped(text: &str) -> &str {
    let text = text.trim_start_matches('\u{feff}').trim();
    let is_callback = |name: &str| {
        let name = name.trim_start_matches("/**/").trim();
        !name.is_empty() && name.chars().all(|it| it.is_ascii_alphanumeric() || "_$.".contains(it))
    };
    let inner = text.split_once('(').filter(|(name, _)| is_callback(name)).and_then(|(_, inner)| {
        let inner = inner.trim_end_matches(|it: char| it == ';' || it.is_whitespace());
        inner.strip_suffix(')')
    });
    inner.unwrap_or(text).trim()
}

/// The fields of the object that `text` begins with: each name, and the text of its
/// value. `None` if it begins with none.
pub(crate) fn fields(text: &str) -> Option<Parts<(Cow<'_, str>, &str)>> {
    let mut cutter = Cutter::after(text, b'{')?;
    let (mut parts, mut sound) = (Vec::new(), true);
    while let Some(byte) = cutter.next_start() {
        if byte == b'}' {
            cutter.at += 1;
            return Some(Parts { parts, closed: sound && cutter.is_at_end() });
        }
        let name = cutter.value();
        if cutter.skip_space() != Some(b':') {
            sound = false;
            continue;
        }
        cutter.at += 1;
        if cutter.skip_space().is_none_or(|byte| matches!(byte, b',' | b'}')) {
            sound = false;
            continue;
        }
        let value = cutter.value();
        let name = serde_json::from_str::<String>(name).map_or_else(|_| Cow::from(name), Cow::from);
        parts.push((name, value));
    }
    Some(Parts { parts, closed: false })
}

/// The elements of the list that `text` begins with. `None` if it begins with none.
pub(crate) fn elements(text: &str) -> Option<Parts<&str>> {
    let mut cutter = Cutter::after(text, b'[')?;
    let mut parts = Vec::new();
    while let Some(byte) = cutter.next_start() {
        if byte == b']' {
            cutter.at += 1;
            return Some(Parts { parts, closed: cutter.is_at_end() });
        }
        parts.push(cutter.value());
    }
    Some(Parts { parts, closed: false })
}

/// Cuts a text by its quotes and brackets.
pub(crate) struct Cutter<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cutter<'a> {
    pub(crate) fn after(text: &'a str, open: u8) -> Option<Self> {
        let text = text.trim_ascii();
        (text.as_bytes().first() == Some(&open)).then_some(Self { text, at: 1 })
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) -> Option<u8> {
        while self.byte().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
        self.byte()
    }

    /// Where the next part begins; commas in between, however many, are no parts.
    pub(crate) fn next_start(&mut self) -> Option<u8> {
        while self.skip_space() == Some(b',') {
            self.at += 1;
        }
        self.byte()
    }

    /// Past the colon between a name and its value, if it is there, and the space around it.
    pub(crate) fn skip_colon(&mut self) {
        if self.skip_space() == Some(b':') {
            self.at += 1;
            self.skip_space();
        }
    }

    fn is_at_end(&self) -> bool {
        self.text[self.at..].trim().is_empty()
    }

    /// The value that begins here, up to where its brackets and quotes close. At least
    /// one byte long.
    pub(crate) fn value(&mut self) -> &'a str {
        self.next_value().0
    }

    /// Likewise, and whether it is a string without escapes.
    pub(crate) fn next_value(&mut self) -> (&'a str, bool) {
        let (start, mut depth) = (self.at, 0_usize);
        if self.byte() == Some(b'"') {
            let is_plain = self.string();
            return (self.text[start..self.at].trim_ascii_end(), is_plain);
        }
        while let Some(byte) = self.byte() {
            match byte {
                b'"' => {
                    self.string();
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    // Of a bracket that was never opened: a part by itself.
                    self.at += usize::from(depth > 0 || self.at == start);
                    depth = depth.saturating_sub(1);
                }
                _ => {
                    self.at += 1;
                    if depth == 0 && !matches!(self.byte(), None | Some(b',' | b':' | b'}' | b']' | b'{' | b'[' | b'"'))
                    {
                        continue;
                    }
                }
            }
            if depth == 0 {
                break;
            }
        }
        (self.text[start..self.at].trim_ascii_end(), false)
    }

    /// Past the string that begins here, or to the end; whether it was closed and has no escapes. What JSON forbids in
    /// it, raw line breaks above all, is part of it.
    fn string(&mut self) -> bool {
        self.at += 1;
        let mut is_plain = true;
        while let Some(found) = quote_or_escape(&self.text.as_bytes()[self.at..]) {
            self.at += found + 1;
            if self.text.as_bytes()[self.at - 1] == b'"' {
                return is_plain;
            }
            is_plain = false;
            // Never into the middle of a character: the next byte is skipped only where it is ASCII.
            self.at += usize::from(self.byte().is_some_and(|byte| byte.is_ascii()));
        }
        self.at = self.text.len();
        false
    }
}

/// Where the first quote or backslash stands. Most strings are short: their bytes are compared eight at a time here, since
/// a call of the vectorized search costs more than that.
fn quote_or_escape(bytes: &[u8]) -> Option<usize> {
    const STEP: usize = 8;
    const SHORT: usize = 4 * STEP;
    const ONES: u64 = u64::MAX / 0xff;
    /// The high bit of each byte that is zero, and of some behind the first such byte.
    const fn zeros(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word & (ONES << 7)
    }
    let mut at = 0;
    while at < SHORT {
        let Some((step, _)) = bytes.get(at..).and_then(<[u8]>::split_first_chunk::<STEP>) else { break };
        let word = u64::from_le_bytes(*step);
        let found = zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += STEP;
    }
    memchr2(b'"', b'\\', &bytes[at..]).map(|found| at + found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn cut(text: &str) -> (Vec<&str>, bool) {
        let Parts { parts, closed } = elements(text).unwrap();
        (parts, closed)
    }

    fn named(text: &str) -> (Vec<String>, bool) {
        let Parts { parts, closed } = fields(text).unwrap();
        (parts.into_iter().map(|(name, value)| format!("{name}={value}")).collect(), closed)
    }

    proptest! {
        #[test]
        fn a_quote_or_a_backslash_is_found_wherever_it_stands(
            bytes in prop::collection::vec(prop_oneof![8 => any::<u8>(), 1 => Just(b'"'), 1 => Just(b'\\'), 4 => Just(b'a')], 0..80),
            skip in 0_usize..40,
        ) {
            let bytes = &bytes[skip.min(bytes.len())..];
            prop_assert_eq!(quote_or_escape(bytes), bytes.iter().position(|byte| matches!(byte, b'"' | b'\\')));
        }
    }

    #[test]
    fn a_list_is_split_at_its_commas_with_any_parts() {
        for (text, want, closed) in [
            ("[]", vec![], true),
            (" [ ] ", vec![], true),
            (r#"[1,"a",{"b":[2,3]},null]"#, vec!["1", r#""a""#, r#"{"b":[2,3]}"#, "null"], true),
            (r#"["a,]}\"[", {"x":"]"} ]"#, vec![r#""a,]}\"[""#, r#"{"x":"]"}"#], true),
            ("[NaN, -Infinity ,1]", vec!["NaN", "-Infinity", "1"], true),
            ("[,1,,2,]", vec!["1", "2"], true),
            ("[\"a\nb\",1]", vec!["\"a\nb\"", "1"], true),
            (r#"[{"a":1},{"b":"cut"#, vec![r#"{"a":1}"#, r#"{"b":"cut"#], false),
            ("[1", vec!["1"], false),
            ("[", vec![], false),
            ("[1]x", vec!["1"], false),
            ("[1}2]", vec!["1", "}", "2"], true),
            ("[\"\\é\",1]", vec!["\"\\é\"", "1"], true),
            ("[\"\\", vec!["\"\\"], false),
        ] {
            assert_eq!(cut(text), (want, closed), "{text}");
        }
        assert_eq!((elements("{}"), elements(""), elements("1")), (None, None, None));
    }

    #[test]
    fn an_object_is_cut_into_its_fields_doubled_ones_included() {
        for (text, want, closed) in [
            ("{}", vec![], true),
            (r#"{"a":1,"b":{"c":2}}"#, vec!["a=1", r#"b={"c":2}"#], true),
            (r#"{"a":1,"a":2}"#, vec!["a=1", "a=2"], true),
            (r#"{"\u0061":1,,"b":NaN,}"#, vec!["a=1", "b=NaN"], true),
            (r#"{a:1}"#, vec!["a=1"], true),
            (r#"{"a"}"#, vec![], false),
            (r#"{"a":,"b":1}"#, vec!["b=1"], false),
            (r#"{"a":1"#, vec!["a=1"], false),
            (r#"{"a":1} tail"#, vec!["a=1"], false),
            (r#"{"a" "b":1}"#, vec!["b=1"], false),
        ] {
            let want = want.into_iter().map(str::to_owned).collect();
            assert_eq!(named(text), (want, closed), "{text}");
        }
        assert_eq!((fields("[]"), fields("")), (None, None));
    }

    #[test]
    fn a_mark_and_a_callback_around_an_answer_are_taken_off() {
        for (text, want) in [
            ("\u{feff}{}", "{}"),
            ("0({\"a\":1})", "{\"a\":1}"),
            ("/**/cb.x_1 ( {} ) ;\n", "{}"),
            (" {\"a\":\"f(x)\"} ", "{\"a\":\"f(x)\"}"),
            ("<html>(x)</html>", "<html>(x)</html>"),
            ("cb({}", "cb({}"),
            ("", ""),
        ] {
            assert_eq!(unwrapped(text), want, "{text}");
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".*", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn of_json_every_part_is_found_whole(all in prop::collection::vec(json(), 0..5), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&all) } else { serde_json::to_string(&all) }.unwrap();
            let (parts, closed) = cut(&text);
            let parts: Vec<Value> = parts.into_iter().map(|part| serde_json::from_str(part).unwrap()).collect();
            prop_assert_eq!((parts, closed), (all, true));
        }

        #[test]
        fn of_an_object_every_field_is_found_whole(all in prop::collection::btree_map(".*", json(), 0..5)) {
            let text = serde_json::to_string(&all).unwrap();
            let Parts { parts, closed } = fields(&text).unwrap();
            let parts = parts.into_iter().map(|(name, value)| (name.into_owned(), serde_json::from_str(value).unwrap()));
            prop_assert_eq!((parts.collect(), closed), (all, true));
        }

        #[test]
        fn no_text_panics_and_a_cut_one_is_not_closed(text in ".*", list in prop::collection::vec(json(), 1..5), cut_at: prop::sample::Index) {
            for text in [text.clone(), format!("[{text}"), format!("{{{text}")] {
                let _parts = (elements(&text), fields(&text), unwrapped(&text));
            }
            let whole = serde_json::to_string(&list).unwrap();
            let at = (0..=cut_at.index(whole.len())).rev().find(|at| whole.is_char_boundary(*at)).unwrap();
            prop_assert!(elements(&whole[..at]).is_none_or(|parts| !parts.closed));
        }
    }
}
