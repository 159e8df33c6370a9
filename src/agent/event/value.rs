//! Values in this feed: almost always text, in any casing.
//!
//! An unreadable value counts as absent; reading never fails, and the event holds the object that it was read from.

use super::id::{AgentId, ContactId, SkillId};
use crate::event::RawJson;
use crate::event::lenient::{Lenient, object};
use crate::json::Json;
use crate::timestamp::Timestamp;

/// The fields of one event, found in any casing.
pub(crate) struct Fields<'a>(Vec<(Box<str>, Json<'a>)>);

impl<'a> Fields<'a> {
    /// `None` if `raw` is not an object.
    pub(crate) fn of(raw: impl Into<Json<'a>>) -> Option<Self> {
        let mut fields = Vec::new();
        object(raw, &mut |key, value| fields.push((Box::from(key), value))).then_some(Self(fields))
    }

    /// The value of the first of `keys` that is present in its documented casing; otherwise, of the first field that
    /// matches one of them in another casing.
    pub(crate) fn get(&self, keys: &[&str]) -> Option<Json<'a>> {
        let exact = keys.iter().find_map(|wanted| self.0.iter().find(|(key, _)| **key == **wanted));
        let found =
            exact.or_else(|| self.0.iter().find(|(key, _)| keys.iter().any(|wanted| key.eq_ignore_ascii_case(wanted))));
        found.map(|(_, value)| *value)
    }
}

/// Text; `""` counts as absent.
pub(crate) fn text(raw: Json<'_>) -> Option<String> {
    match raw.get() {
        "true" => Some("True".into()),
        "false" => Some("False".into()),
        _ => String::read(raw).filter(|text| !text.is_empty()),
    }
}

pub(super) fn contact(raw: Json<'_>) -> Option<ContactId> {
    text(raw).map(ContactId::from)
}

pub(super) fn agent(raw: Json<'_>) -> Option<AgentId> {
    text(raw).map(AgentId::from)
}

pub(super) fn skill(raw: Json<'_>) -> Option<SkillId> {
    text(raw).map(SkillId::from)
}

/// Text, or the JSON of an object or a list where a text is documented.
pub(super) fn text_or_json(raw: Json<'_>) -> Option<String> {
    text(raw).or_else(|| raw.get().starts_with(['{', '[']).then(|| raw.get().to_owned()))
}

/// `True`, `on` and `1`, or `False`, `off` and `0`, in any casing; also `Name=1`, which some versions write for `True`.
pub(super) fn flag(raw: Json<'_>) -> Option<bool> {
    let text = text(raw)?;
    let word = text.rsplit('=').next().unwrap_or_default().trim();
    let is_one_of = |words: [&str; 3]| words.iter().any(|it| word.eq_ignore_ascii_case(it));
    if is_one_of(["true", "on", "1"]) { Some(true) } else { is_one_of(["false", "off", "0"]).then_some(false) }
}

/// Like [`flag`], where `""` is documented to mean `False`.
pub(super) fn flag_or_false(raw: Json<'_>) -> Option<bool> {
    if is_blank(raw) { Some(false) } else { flag(raw) }
}

/// A whole number.
pub(super) fn int(raw: Json<'_>) -> Option<i64> {
    i64::read(raw)
}

/// Like [`int`], where `""` is documented to mean 0.
pub(super) fn int_or_zero(raw: Json<'_>) -> Option<i64> {
    if is_blank(raw) { Some(0) } else { int(raw) }
}

/// A time. Invalid text is preserved unchanged.
pub(super) fn date(raw: Json<'_>) -> Option<Timestamp> {
    text(raw).map(Timestamp::new)
}

/// Any JSON that is not blank.
pub(super) fn json(raw: Json<'_>) -> Option<RawJson> {
    (!is_blank(raw)).then(|| RawJson::read(raw)).flatten()
}

fn is_blank(raw: Json<'_>) -> bool {
    String::read(raw).is_some_and(|text| text.trim().is_empty())
}

/// Makes the body of an event: every field is optional, and read by the function of [`value`](self) that its kind
/// names.
macro_rules! body {
    (@type text) => { Option<String> };
    (@type contact) => { Option<$crate::agent::ContactId> };
    (@type agent) => { Option<$crate::agent::AgentId> };
    (@type skill) => { Option<$crate::agent::SkillId> };
    (@type text_or_json) => { Option<String> };
    (@type flag) => { Option<bool> };
    (@type flag_or_false) => { Option<bool> };
    (@type int) => { Option<i64> };
    (@type int_or_zero) => { Option<i64> };
    (@type date) => { Option<$crate::Timestamp> };
    (@type json) => { Option<$crate::event::RawJson> };
    ($(
        $(#[$doc:meta])*
        pub struct $name:ident {
            $(
                $(#[$field_doc:meta])*
                $field:ident: $kind:tt = $key:literal $(| $alias:literal)*,
            )*
        }
    )+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        #[non_exhaustive]
        pub struct $name {
            $(
                $(#[$field_doc])*
                #[doc = concat!("\n\nOn the wire `", $key, "`", $(" or `", $alias, "`",)* ".")]
                pub $field: $crate::agent::event::value::body!(@type $kind),
            )*
        }

        impl $name {
            #[allow(unused_variables, reason = "some events have no fields")]
            pub(super) fn read(fields: &$crate::agent::event::value::Fields<'_>) -> Self {
                Self {
                    $($field: fields.get(&[$key $(, $alias)*]).and_then($crate::agent::event::value::$kind),)*
                }
            }
        }
    )+};
}
pub(crate) use body;

/// Makes an enum of known words, in any casing, that preserves any other.
macro_rules! words {
    ($(
        $(#[$doc:meta])*
        pub enum $name:ident {
            $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+
        }
    )+) => {$(
        $crate::event::macros::text_enum! {
            $(#[$doc])*
            pub enum $name {
                $($(#[$variant_doc])* $variant = $text,)+
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                let known = word.trim();
                $(
                    if known.eq_ignore_ascii_case($text) {
                        return Self::$variant;
                    }
                )+
                Self::Other(word.to_owned())
            }
        }
    )+};
}
pub(crate) use words;

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Json<'_> {
        serde_json::from_str::<&serde_json::value::RawValue>(json).unwrap().into()
    }

    #[test]
    fn a_flag_has_many_spellings() {
        for (json, want) in [
            (r#""True""#, Some(true)),
            (r#""TRUE""#, Some(true)),
            (r#"" True ""#, Some(true)),
            ("true", Some(true)),
            (r#""on""#, Some(true)),
            ("1", Some(true)),
            (r#""1""#, Some(true)),
            (r#""ComplianceRecord=1""#, Some(true)),
            (r#""ComplianceRecord=0""#, Some(false)),
            (r#""False""#, Some(false)),
            ("false", Some(false)),
            ("0", Some(false)),
            (r#""off""#, Some(false)),
            (r#""""#, None),
            (r#""maybe""#, None),
            ("null", None),
            ("{}", None),
        ] {
            assert_eq!(flag(raw(json)), want, "{json}");
        }
        assert_eq!(flag_or_false(raw(r#""""#)), Some(false));
        assert_eq!(flag_or_false(raw(r#""true""#)), Some(true));
    }

    #[test]
    fn numbers_dates_and_text_are_read_from_text_or_as_they_are() {
        for (json, want) in
            [("\"4500\"", Some(4500)), ("4500", Some(4500)), ("\" 7 \"", Some(7)), ("\"\"", None), ("\"x\"", None)]
        {
            assert_eq!(int(raw(json)), want, "{json}");
        }
        assert_eq!(int_or_zero(raw("\"\"")), Some(0));
        assert_eq!(int_or_zero(raw("\"30\"")), Some(30));
        assert_eq!(int_or_zero(raw("null")), None);
        let at = date(raw(r#""2025-02-03T12:00:01.250Z""#)).unwrap();
        assert!(at.instant().is_some());
        assert_eq!(date(raw(r#""soon""#)).unwrap().as_str(), "soon");
        assert_eq!(date(raw(r#""""#)), None);
        assert_eq!(text(raw("900100200301900100200301")).as_deref(), Some("900100200301900100200301"));
        assert_eq!(text(raw("\"\"")), None);
        assert_eq!(text(raw("true")).as_deref(), Some("True"));
        assert!(json(raw("\"\"")).is_none() && json(raw("{}")).is_some());
    }

    #[test]
    fn the_documented_casing_wins_otherwise_the_first() {
        let object = raw(r#"{"CONTACTID":"1","contactid":"2","ContactID":"3","x":"4","X":"5"}"#);
        let fields = Fields::of(object).unwrap();
        assert_eq!(fields.get(&["ContactID"]).and_then(text).as_deref(), Some("3"));
        assert_eq!(fields.get(&["ContactId"]).and_then(text).as_deref(), Some("1"));
        assert_eq!(fields.get(&["Other", "X"]).and_then(text).as_deref(), Some("5"));
        assert!(fields.get(&["nothing"]).is_none());
        assert!(Fields::of(raw("[]")).is_none());
    }
}
