//! Reads JSON field by field, so that an odd field does not affect the rest.
//!
//! Bodies are read from their raw text, not with `serde`'s derived code: that fails a whole struct
//! for a wrong type, a duplicate key, or half of a surrogate pair in a text, and the service's real
//! payloads differ from its schemas in all of these.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize as _, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::json::Json;
use crate::timestamp::Timestamp;

/// A value that is read or absent; reading never fails.
pub trait Lenient: Sized {
    /// Reads `raw`, or nothing.
    fn read(raw: Json<'_>) -> Option<Self>;
}

/// An object that merges the readable fields of another.
pub trait Body: Default {
    /// Merges the fields of `raw`. A field that `raw` lacks, or has in an unreadable form, is
    /// unchanged. `false` if `raw` is not an object.
    fn absorb(&mut self, raw: Json<'_>) -> bool;
}

/// A field of a body.
pub trait Slot {
    /// Takes the value over if it can be read.
    fn fill(&mut self, raw: Json<'_>);
    /// Whether there is something to write.
    fn is_present(&self) -> bool;
}

impl<T: Lenient> Slot for Option<T> {
    fn fill(&mut self, raw: Json<'_>) {
        if let Some(value) = T::read(raw) {
            *self = Some(value);
        }
    }

    fn is_present(&self) -> bool {
        self.is_some()
    }
}

/// A list, or a single element if the service omitted the brackets. Unreadable elements are
/// skipped.
impl<T: Lenient> Slot for Vec<T> {
    fn fill(&mut self, raw: Json<'_>) {
        let mut read = Self::new();
        if raw.elements(&mut |element| read.extend(T::read(element))) {
            *self = read;
        } else if let Some(one) = T::read(raw) {
            *self = vec![one];
        }
    }

    fn is_present(&self) -> bool {
        !self.is_empty()
    }
}

impl<T: Lenient> Slot for BTreeMap<String, Vec<T>> {
    fn fill(&mut self, raw: Json<'_>) {
        let mut read = Self::new();
        let is_object = raw.fields(&mut |key, value| {
            let mut list = Vec::new();
            list.fill(value);
            if list.is_present() {
                read.insert(key.to_owned(), list);
            }
        });
        if is_object {
            *self = read;
        }
    }

    fn is_present(&self) -> bool {
        !self.is_empty()
    }
}

/// Text, or a number by its exact digits.
impl Lenient for String {
    fn read(raw: Json<'_>) -> Option<Self> {
        raw.text_or_digits().map(Cow::into_owned)
    }
}

/// A boolean, or its text.
impl Lenient for bool {
    fn read(raw: Json<'_>) -> Option<Self> {
        match raw.get() {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                let text = raw.text_or_digits()?;
                let text = text.trim();
                if text.eq_ignore_ascii_case("true") {
                    Some(true)
                } else {
                    text.eq_ignore_ascii_case("false").then_some(false)
                }
            }
        }
    }
}

impl Lenient for i64 {
    fn read(raw: Json<'_>) -> Option<Self> {
        let text = raw.text_or_digits()?;
        let text = text.trim();
        text.parse().ok().or_else(|| whole(text))
    }
}

impl Lenient for u64 {
    fn read(raw: Json<'_>) -> Option<Self> {
        let text = raw.text_or_digits()?;
        let text = text.trim();
        text.parse().ok().or_else(|| Self::try_from(whole(text)?).ok())
    }
}

/// A number with a fraction or an exponent that is whole, such as `5.0`.
#[allow(clippy::cast_possible_truncation, reason = "checked to be whole and within 53 bits")]
fn whole(text: &str) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let number = text.parse::<f64>().ok().filter(|n| n.fract() == 0.0 && n.abs() <= EXACT)?;
    Some(number as i64)
}

impl Lenient for f64 {
    fn read(raw: Json<'_>) -> Option<Self> {
        // serde_json's parser may be off by one in the last place, so that a number would change
        // each time it is stored and read.
        raw.text_or_digits()?.trim().parse().ok().filter(|number: &Self| number.is_finite())
    }
}

impl Lenient for Timestamp {
    fn read(raw: Json<'_>) -> Option<Self> {
        String::read(raw).map(Self::new)
    }
}

/// JSON of an undocumented form, preserved unchanged.
#[derive(Clone)]
pub struct RawJson(Box<RawValue>);

impl RawJson {
    /// The JSON, byte for byte.
    #[must_use]
    pub fn get(&self) -> &RawValue {
        &self.0
    }

    /// Parses it as your type.
    ///
    /// # Errors
    /// If the JSON does not match `T`.
    pub fn parse<T: serde::de::DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.0.get())
    }
}

impl From<Box<RawValue>> for RawJson {
    fn from(raw: Box<RawValue>) -> Self {
        Self(raw)
    }
}

/// Equal when the texts are.
impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawJson({} bytes)", self.0.get().len())
    }
}

impl Serialize for RawJson {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl Lenient for RawJson {
    fn read(raw: Json<'_>) -> Option<Self> {
        if raw.get() == "null" { None } else { raw.to_raw().map(Self) }
    }
}

/// Reads a value through its JSON text; `expected` is for the error.
///
/// # Errors
/// If nothing can be read.
pub fn deserialize<'de, T: Lenient, D: Deserializer<'de>>(deserializer: D, expected: &str) -> Result<T, D::Error> {
    let raw = <Box<RawValue>>::deserialize(deserializer)?;
    T::read(Json::from(&raw)).ok_or_else(|| serde::de::Error::custom(format_args!("expected {expected}")))
}

/// Calls `visit` with every name and value of an object, in order, including repeated names. `false` if `raw` is not an
/// object.
pub fn object<'a>(raw: impl Into<Json<'a>>, visit: &mut dyn FnMut(&str, Json<'a>)) -> bool {
    raw.into().fields(visit)
}

/// Reads the list in the field `key` of an object or, without one, the object itself as the only
/// element, unless it is empty.
pub(crate) fn list_or_one<T: Lenient + Default + PartialEq>(raw: Json<'_>, key: &str, list: &mut Vec<T>) -> bool {
    let mut is_list = false;
    let is_object = object(raw, &mut |name, value| {
        if name == key && value.get() != "null" {
            is_list = true;
            list.fill(value);
        }
    });
    if !is_list {
        list.extend(T::read(raw).filter(|one| *one != T::default()));
    }
    is_object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Lenient>(json: &str) -> Option<T> {
        T::read(serde_json::from_str::<&RawValue>(json).unwrap().into())
    }

    #[test]
    fn scalars_are_read_in_every_form_and_never_fail() {
        for (json, want) in [
            (r#""a""#, Some("a")),
            (r#""\u0061""#, Some("a")),
            (r#""x\ud800y""#, Some("x\u{fffd}\u{fffd}\u{fffd}y")),
            ("99999999999999999999", Some("99999999999999999999")),
            ("-1.50", Some("-1.50")),
            ("true", None),
            ("null", None),
            ("{}", None),
            ("[\"a\"]", None),
        ] {
            assert_eq!(read::<String>(json).as_deref(), want, "{json}");
        }
        for (json, want) in [
            ("true", Some(true)),
            ("\"False\"", Some(false)),
            ("\" true \"", Some(true)),
            ("1", None),
            ("\"yes\"", None),
            ("null", None),
        ] {
            assert_eq!(read::<bool>(json), want, "{json}");
        }
        for (json, want) in [
            ("5", Some(5)),
            ("\"5\"", Some(5)),
            ("5.0", Some(5)),
            ("5e2", Some(500)),
            ("-3", Some(-3)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("5.5", None),
            ("1e99", None),
            ("\"\"", None),
            ("\"x\"", None),
            ("\"NaN\"", None),
        ] {
            assert_eq!(read::<i64>(json), want, "{json}");
        }
        assert_eq!(read::<u64>("18446744073709551615"), Some(u64::MAX));
        assert_eq!(read::<u64>("-1"), None);
        assert_eq!(read::<f64>("0.007"), Some(0.007));
        assert_eq!(read::<f64>("\"14.68\""), Some(14.68));
        for json in ["1e999", "\"inf\"", "\"NaN\"", "true"] {
            assert_eq!(read::<f64>(json), None, "{json}");
        }
        assert_eq!(read::<Timestamp>("7").map(|at| at.to_string()).as_deref(), Some("7"));
    }
}
