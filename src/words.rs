//! Enums whose variants are one word each, in logs and in the stored form.

/// Gives an enum its words: `as_str`, `Display`, `FromStr`, `Serialize` and `Deserialize`.
///
/// A word that a later version of the crate wrote is an error that names it, never another variant.
macro_rules! words {
    ($what:literal, $name:ident { $($variant:ident = $word:literal,)+ }) => {
        impl $name {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word for logs, metrics and the stored form. It does not change.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        /// The word.
        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        /// Reads the word, in any casing.
        ///
        /// # Errors
        /// [`ErrorKind::Config`](crate::ErrorKind::Config) for an unknown word; the message lists the known ones.
        impl ::std::str::FromStr for $name {
            type Err = $crate::error::Error;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                let found = Self::ALL.iter().find(|it| it.as_str().eq_ignore_ascii_case(word)).copied();
                found.ok_or_else(|| $crate::words::unknown($what, word, Self::ALL.iter().map(|it| it.as_str())))
            }
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        /// Reads the word; an unknown one is an error that names it.
        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = <::std::borrow::Cow<'_, str> as ::serde::Deserialize>::deserialize(deserializer)?;
                word.parse().map_err(::serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use words;

use crate::error::Error;

/// The error about a word that is not one of `known`.
pub(crate) fn unknown<'a>(what: &str, word: &str, known: impl Iterator<Item = &'a str>) -> Error {
    const SHOWN: usize = 64;
    let shown: String = word.chars().take(SHOWN).collect();
    let known: Vec<&str> = known.collect();
    Error::config(format!("{what} {shown:?} is not known; known are: {}", known.join(", ")))
}
