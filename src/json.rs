//! A value of a JSON text that is known to be valid, and its parts.
//!
//! The text was checked once, when it came. Its parts are cut out by quotes and brackets alone, so that no part is
//! checked again for each object around it. Pure; invalid text gives other parts, and never a panic.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use memchr::memchr;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::salvage::Cutter;

/// A value of a valid JSON text.
#[derive(Clone, Copy)]
pub struct Json<'a> {
    text: &'a str,
    /// It is a string without escapes; `false` also if that is not known.
    is_plain: bool,
}

/// The length only: a body is the account's data.
impl fmt::Debug for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.text.len())
    }
}

impl<'a> From<&'a RawValue> for Json<'a> {
    fn from(raw: &'a RawValue) -> Self {
        Self::of(raw.get())
    }
}

impl<'a> From<&'a Box<RawValue>> for Json<'a> {
    fn from(raw: &'a Box<RawValue>) -> Self {
        Self::of(raw.get())
    }
}

impl<'a> Json<'a> {
    const fn of(text: &'a str) -> Self {
        Self { text, is_plain: false }
    }

    fn next(cutter: &mut Cutter<'a>) -> Self {
        let (text, is_plain) = cutter.next_value();
        Self { text, is_plain }
    }

    /// Its text, without white space around it.
    #[must_use]
    pub const fn get(self) -> &'a str {
        self.text
    }

    /// The value as a type that owns it; `None` only if it is a part of a text that was not valid.
    pub(crate) fn to_raw(self) -> Option<Box<RawValue>> {
        RawValue::from_string(self.text.to_owned()).ok()
    }

    /// Where this stands in `whole`, of which it is a part.
    pub(crate) fn place_in(self, whole: &RawValue) -> Range<usize> {
        let start = (self.text.as_ptr() as usize).saturating_sub(whole.get().as_ptr() as usize);
        start..start + self.text.len()
    }

    /// The part of `whole` at a place that [`place_in`](Self::place_in) named.
    pub(crate) fn at(whole: &'a RawValue, place: &Range<usize>) -> Option<Self> {
        whole.get().get(place.clone()).map(Self::of)
    }

    /// The text of a string; `None` for anything else. Halves of surrogate pairs, which JSON can escape but Rust text
    /// cannot hold, become U+FFFD.
    pub(crate) fn text(self) -> Option<Cow<'a, str>> {
        let inner = self.text.strip_prefix('"')?;
        if self.is_plain || memchr(b'\\', inner.as_bytes()).is_none() {
            return inner.strip_suffix('"').map(Cow::Borrowed);
        }
        serde_json::from_str::<Text<'a>>(self.text).ok().map(|text| text.0)
    }

    /// The text of a string, or the digits of a number.
    pub(crate) fn text_or_digits(self) -> Option<Cow<'a, str>> {
        match self.text.as_bytes().first()? {
            b'"' => self.text(),
            b'-' | b'0'..=b'9' => Some(Cow::Borrowed(self.text)),
            _ => None,
        }
    }

    /// Calls `visit` with every name and value of an object, in order, including repeated names. `false` if it is no
    /// object.
    pub(crate) fn fields(self, visit: &mut dyn FnMut(&str, Self)) -> bool {
        self.fields_while(&mut |name, value| {
            visit(name, value);
            true
        })
    }

    /// Likewise, until `visit` returns `false`.
    pub(crate) fn fields_while(self, visit: &mut dyn FnMut(&str, Self) -> bool) -> bool {
        let Some(mut cutter) = Cutter::after(self.text, b'{') else { return false };
        while cutter.next_start().is_some_and(|byte| byte != b'}') {
            let name = Self::next(&mut cutter);
            cutter.skip_colon();
            let value = Self::next(&mut cutter);
            if !visit(&name.text().unwrap_or(Cow::Borrowed(name.text)), value) {
                break;
            }
        }
        true
    }

    /// Calls `visit` with every element of a list. `false` if it is not a list.
    pub(crate) fn elements(self, visit: &mut dyn FnMut(Self)) -> bool {
        let Some(mut cutter) = Cutter::after(self.text, b'[') else { return false };
        while cutter.next_start().is_some_and(|byte| byte != b']') {
            visit(Self::next(&mut cutter));
        }
        true
    }
}

/// A JSON string with escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl<'de> Visitor<'de> for Bytes {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
                Ok(Text(String::from_utf8_lossy(bytes)))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                Ok(Text(String::from_utf8_lossy(bytes).into_owned().into()))
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// The value, put together again from the parts that were cut out.
    fn rebuilt(json: Json<'_>) -> Value {
        let mut fields = serde_json::Map::new();
        if json.fields(&mut |name, value| drop(fields.insert(name.to_owned(), rebuilt(value)))) {
            return Value::Object(fields);
        }
        let mut elements = Vec::new();
        if json.elements(&mut |element| elements.push(rebuilt(element))) {
            return Value::Array(elements);
        }
        match json.text() {
            Some(text) => Value::String(text.into_owned()),
            None => serde_json::from_str(json.get()).unwrap(),
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let text = prop_oneof!["[a-z\\\\\"{}\\[\\]:, \n\u{e9}\u{1f600}]{0,12}", ".{0,6}"];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i32>().prop_map(|number| Value::from(f64::from(number) / 4.0)),
            text.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((".{0,5}", inner), 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_parts_of_a_valid_text_are_those_that_a_json_parser_finds(value in value(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let raw: &RawValue = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(rebuilt(raw.into()), value);
        }

        #[test]
        fn any_text_is_cut_into_parts_without_a_panic(text in r#"[\[\]{}":,\\ a1é]{0,40}"#) {
            let mut parts = 0;
            let count = |parts: &mut usize, json: Json<'_>| *parts += json.get().len();
            Json::of(&text).fields(&mut |_, value| count(&mut parts, value));
            Json::of(&text).elements(&mut |element| count(&mut parts, element));
            let _ = Json::of(&text).text();
            prop_assert!(parts <= 2 * text.len());
        }
    }

    #[test]
    fn repeated_names_come_in_order_and_escaped_names_are_unescaped() {
        let raw: &RawValue = serde_json::from_str(r#" { "a" : 1 , "\u0061" : [2] , "\ud800" : "\"" } "#).unwrap();
        let mut seen = Vec::new();
        assert!(Json::from(raw).fields(&mut |name, value| seen.push((name.to_owned(), value.get().to_owned()))));
        let want = [("a", "1"), ("a", "[2]"), ("\u{fffd}\u{fffd}\u{fffd}", r#""\"""#)];
        assert_eq!(seen, want.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_visit_ends_when_it_has_what_it_wants() {
        let raw: &RawValue = serde_json::from_str(r#"{"a":1,"b":2,"c":3}"#).unwrap();
        let mut seen = Vec::new();
        assert!(Json::from(raw).fields_while(&mut |name, _| {
            seen.push(name.to_owned());
            name != "b"
        }));
        assert_eq!(seen, ["a", "b"]);
    }

    #[test]
    fn only_an_object_has_fields_and_only_a_list_has_elements() {
        for text in ["null", "1", "\"{}\"", "\"[]\""] {
            let raw: &RawValue = serde_json::from_str(text).unwrap();
            assert!(!Json::from(raw).fields(&mut |_, _| {}) && !Json::from(raw).elements(&mut |_| {}), "{text}");
        }
    }
}
