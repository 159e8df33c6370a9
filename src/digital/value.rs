//! Values in the protocol's form and in the forms of other sources and the platform.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde::ser::SerializeSeq as _;
use serde::{Serialize, Serializer};
use time::OffsetDateTime;

use crate::event::lenient::{Lenient, Slot, object};
use crate::event::macros::{deserialize_leniently, open_enum};
use crate::json::Json;
use crate::timestamp::Timestamp;

/// A required field: absent, `null` and `""` all become an empty text. A numeric id becomes its
/// digits.
impl Slot for String {
    fn fill(&mut self, raw: Json<'_>) {
        if let Some(text) = <Self as Lenient>::read(raw) {
            *self = text;
        }
    }

    fn is_present(&self) -> bool {
        !self.is_empty()
    }
}

/// A moment, to the second: written as `2026-01-02T03:04:05Z`, the documented form.
///
/// Read leniently: dates without time, offsets with and without a colon, fractions, and
/// milliseconds since 1970 as a number, since peers write all of these.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(OffsetDateTime);

impl Date {
    /// Parses `text`; `None` unless it is a date in one of the forms above.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let midnight = (text.len() == 10).then(|| format!("{text}T00:00:00Z"));
        let instant = Timestamp::new(midnight.as_deref().unwrap_or(text)).instant()?;
        Self::from_unix(instant.unix_timestamp())
    }

    /// The moment `seconds` after the start of 1970 (UTC); `None` outside the years 0 to 9999,
    /// which the format cannot represent.
    #[must_use]
    pub fn from_unix(seconds: i64) -> Option<Self> {
        let at = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
        (0..=9999).contains(&at.year()).then_some(Self(at))
    }

    /// Seconds since the start of 1970 (UTC).
    #[must_use]
    pub fn unix(self) -> i64 {
        self.0.unix_timestamp()
    }

    /// The moment as [`SystemTime`].
    #[must_use]
    pub fn system_time(self) -> SystemTime {
        let size = Duration::from_secs(self.unix().unsigned_abs());
        let moved = if self.unix() >= 0 {
            SystemTime::UNIX_EPOCH.checked_add(size)
        } else {
            SystemTime::UNIX_EPOCH.checked_sub(size)
        };
        moved.unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// `at`, truncated to whole seconds; `None` outside the years 0 to 9999.
    #[must_use]
    pub fn from_system(at: SystemTime) -> Option<Self> {
        let seconds = match at.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).ok()?,
            Err(before) => -i64::try_from(before.duration().as_secs()).ok()?,
        };
        Self::from_unix(seconds)
    }

    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self::from_system(crate::clock::wall_now()).unwrap_or(Self(OffsetDateTime::UNIX_EPOCH))
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.0;
        let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", at.hour(), at.minute(), at.second())
    }
}

impl fmt::Debug for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Date({self})")
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Lenient for Date {
    fn read(raw: Json<'_>) -> Option<Self> {
        if raw.get().starts_with('"') {
            return Self::parse(&String::read(raw)?);
        }
        Self::from_unix(i64::read(raw)?.div_euclid(1000))
    }
}

deserialize_leniently!(Date, "a date");

open_enum! {
    /// The format of a body.
    pub enum Format {
        /// HTML, the default on both sides. The platform strips scripts and styles; do the same
        /// with HTML from the platform before you show it.
        Html = "html",
        /// Plain text.
        Text = "text",
    }
}

/// One value of [`ContextData`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContextValue {
    /// A text.
    One(String),
    /// Several texts.
    Many(Vec<String>),
}

impl From<&str> for ContextValue {
    fn from(text: &str) -> Self {
        Self::One(text.to_owned())
    }
}

impl From<String> for ContextValue {
    fn from(text: String) -> Self {
        Self::One(text)
    }
}

impl From<Vec<String>> for ContextValue {
    fn from(texts: Vec<String>) -> Self {
        Self::Many(texts)
    }
}

impl Serialize for ContextValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(text) => serializer.serialize_str(text),
            Self::Many(texts) => {
                let mut list = serializer.serialize_seq(Some(texts.len()))?;
                for text in texts {
                    list.serialize_element(text)?;
                }
                list.end()
            }
        }
    }
}

impl Lenient for ContextValue {
    fn read(raw: Json<'_>) -> Option<Self> {
        if !raw.get().starts_with('[') {
            return String::read(raw).map(Self::One);
        }
        let mut texts = Vec::new();
        Slot::fill(&mut texts, raw);
        Some(Self::Many(texts))
    }
}

/// Custom fields on a content or an identity (`context_data`).
///
/// Documented keys consist of letters and `-`; underscores are probably allowed too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContextData(BTreeMap<String, ContextValue>);

impl ContextData {
    /// Adds or replaces `key`.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<ContextValue>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&ContextValue> {
        self.0.get(key)
    }

    /// All fields, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ContextValue)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }
}

impl Slot for ContextData {
    fn fill(&mut self, raw: Json<'_>) {
        let mut read = BTreeMap::new();
        let is_object = object(raw, &mut |key, value| {
            read.extend(ContextValue::read(value).map(|value| (key.to_owned(), value)));
        });
        if is_object {
            self.0 = read;
        }
    }

    fn is_present(&self) -> bool {
        !self.0.is_empty()
    }
}

impl Serialize for ContextData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// A flag that is false when absent.
impl Slot for bool {
    fn fill(&mut self, raw: Json<'_>) {
        if let Some(value) = <Self as Lenient>::read(raw) {
            *self = value;
        }
    }

    fn is_present(&self) -> bool {
        *self
    }
}
