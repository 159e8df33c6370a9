//! The common parts of all stored forms.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::timestamp::Timestamp;

/// The version of the form. A higher one means that readers of this one would misread it: new fields and new words do
/// not change it.
pub(crate) const VERSION: u64 = 1;

/// Checks the type and version of an item.
pub(crate) fn check(kind: &str, v: u64, wanted: &str) -> Result<(), String> {
    if kind != wanted {
        return Err(format!("expected an item of type {wanted:?}, not {:?}", shown(kind)));
    }
    check_version(v)
}

pub(crate) fn check_version(v: u64) -> Result<(), String> {
    match v {
        VERSION => Ok(()),
        0 => Err("the item has no version `v`".into()),
        other => Err(format!("version {other} of the stored form is not known; known is {VERSION}")),
    }
}

/// Reads the field `v`. It is written before all that its version decides: a later form is refused by its version, and
/// not for a field that this version misreads.
pub(crate) fn known_version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let v = u64::deserialize(deserializer)?;
    check_version(v).map(|()| v).map_err(serde::de::Error::custom)
}

/// The beginning of a text that may be long.
pub(crate) fn shown(text: &str) -> &str {
    text.char_indices().nth(64).map_or(text, |(end, _)| text.get(..end).unwrap_or(text))
}

/// The value of a field that must be present.
pub(crate) fn required<T>(value: Option<T>, name: &str) -> Result<T, String> {
    value.ok_or_else(|| format!("the field `{name}` is missing"))
}

/// A moment to the nanosecond, as the nanoseconds since 1970: from 1677 to 2554; others become the nearest of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nanos(pub(crate) SystemTime);

impl Serialize for Nanos {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => serializer.serialize_u64(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)),
            Err(before) => {
                let nanos = i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX);
                serializer.serialize_i64(-nanos)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Nanos {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        impl serde::de::Visitor<'_> for Number {
            type Value = Nanos;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the nanoseconds since 1970")
            }

            fn visit_u64<E: serde::de::Error>(self, nanos: u64) -> Result<Nanos, E> {
                let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(nanos));
                at.map(Nanos).ok_or_else(|| E::custom("a time that this machine cannot hold"))
            }

            fn visit_i64<E: serde::de::Error>(self, nanos: i64) -> Result<Nanos, E> {
                if let Ok(nanos) = u64::try_from(nanos) {
                    return self.visit_u64(nanos);
                }
                let at = SystemTime::UNIX_EPOCH.checked_sub(Duration::from_nanos(nanos.unsigned_abs()));
                at.map(Nanos).ok_or_else(|| E::custom("a time that this machine cannot hold"))
            }
        }

        deserializer.deserialize_any(Number)
    }
}

/// A moment as text in the service's format, to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) SystemTime);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Timestamp::exact(self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stamp = Timestamp::deserialize(deserializer)?;
        let none = || serde::de::Error::custom(format!("{:?} is no time", shown(stamp.as_str())));
        stamp.system_time().map(Self).ok_or_else(none)
    }
}

/// Implements `Serialize` and `Deserialize` through a form: `Form::of(&value)` is written, and what `Read` holds becomes
/// a value by `TryFrom`, whose error is a text.
macro_rules! through {
    ($($name:ty: $form:ident, $read:ty;)+) => {$(
        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $form::of(self).serialize(serializer)
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let read = <$read as ::serde::Deserialize>::deserialize(deserializer)?;
                Self::try_from(read).map_err(::serde::de::Error::custom)
            }
        }
    )+};
}
pub(crate) use through;
