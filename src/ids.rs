//! Identifiers as text.
//!
//! The service sends ids as strings or as numbers of up to 20 digits, more than
//! any float and some integers hold; so an id is text here, with either form on
//! the wire.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::value::RawValue;

/// Reads a JSON string, or a number by its exact digits.
pub(crate) fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?.get();
    match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw).map_err(de::Error::custom),
        Some(b'-' | b'0'..=b'9') => Ok(raw.to_owned()),
        _ => Err(de::Error::custom("expected a string or a number")),
    }
}

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps the id as the service wrote it.
            pub fn new(id: impl Into<String>) -> Self {
                Self(id.into())
            }

            /// The id as the service wrote it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        /// Never fails: any text may be an id.
        impl ::std::str::FromStr for $name {
            type Err = ::std::convert::Infallible;

            fn from_str(id: &str) -> Result<Self, Self::Err> {
                Ok(Self(id.to_owned()))
            }
        }

        /// For look-ups in a map by the text.
        impl ::std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(id: String) -> Self {
                Self(id)
            }
        }

        impl From<&str> for $name {
            fn from(id: &str) -> Self {
                Self(id.to_owned())
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let raw = Box::<::serde_json::value::RawValue>::deserialize(deserializer)?;
                text_or_number(&*raw).map(Self).map_err(de::Error::custom)
            }
        }
    )*};
}
pub(crate) use id;

id! {
    /// A subscription at the service (`SubscriptionInfo.id`). Usually a UUID;
    /// treat it as opaque.
    SubscriptionId;
    /// A RingCentral account.
    AccountId;
    /// An extension: a user, a queue, a bot of an account.
    ExtensionId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_made_of_text_becomes_text_and_is_found_by_text() {
        let id: ExtensionId = "7".parse().unwrap();
        assert_eq!((&id, String::from(id.clone()).as_str()), (&"7".into(), "7"));
        let names = std::collections::HashMap::from([(id.clone(), "name")]);
        assert_eq!((names.get("7"), names.get("8")), (Some(&"name"), None));
        let sorted = std::collections::BTreeMap::from([(id, "name")]);
        assert_eq!((sorted.get("7"), sorted.get("8")), (Some(&"name"), None));
    }

    #[test]
    fn an_id_is_read_from_a_string_or_from_a_number_by_its_digits() {
        for (json, want) in [
            (r#""402853446008""#, "402853446008"),
            ("402853446008", "402853446008"),
            ("18446744073709551615", "18446744073709551615"),
            ("99999999999999999999", "99999999999999999999"),
            ("-6947519413845489152", "-6947519413845489152"),
            (r#""main-\u0073ite""#, "main-site"),
        ] {
            let id: ExtensionId = serde_json::from_str(json).unwrap();
            assert_eq!(id, want, "{json}");
        }
        for bad in ["null", "{}", "[1]", "true"] {
            assert!(serde_json::from_str::<ExtensionId>(bad).is_err(), "{bad}");
        }
    }
}
