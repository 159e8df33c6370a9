//! The kinds of events.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::table::event_table;
use crate::error::Error;
use crate::words::unknown;

macro_rules! permission {
    (none) => {
        ""
    };
    ($name:literal) => {
        $name
    };
}

macro_rules! gap {
    (Complete) => {
        "complete"
    };
    (StateOnly) => {
        "state only"
    };
    (Partial) => {
        "partial"
    };
    (Nothing) => {
        "nothing"
    };
}

macro_rules! flat {
    () => {
        false
    };
    (flat) => {
        true
    };
}

macro_rules! kinds {
    ($(
        $(#[doc = $doc:literal])+
        $kind:ident($body:ty) $($flat:ident)? {
            permission: $permission:tt,
            gap: $gap:ident $source:literal,
            $(
                $scope:ident $ctor:ident($($arg:ident: $arg_ty:ty),*) $(/ $with:ident($query:ty))? = $template:literal;
            )+
        }
    )+) => {
        /// The kind of an event, with the names of the catalog.
        ///
        /// | Filter | Event, body | Permission | Recovery of missed events |
        /// | --- | --- | --- | --- |
        $($(
            #[doc = concat!(
                "| [`", $template, "`](super::EventFilter::", stringify!($ctor), ") | [`", stringify!($kind),
                "`](super::Event::", stringify!($kind), "), [`", stringify!($body), "`](super::", stringify!($body),
                ") | ", permission!($permission), " | ", gap!($gap), ": ", $source, " |"
            )]
        )+)+
        /// | anything else | [`Unknown`](super::Event::Unknown), [`UnknownEvent`](super::UnknownEvent) | | nothing |
        ///
        /// `unverified` means that no public source states it, or that sources conflict.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum EventKind {
            $(
                $(#[doc = $doc])+
                $kind,
            )+
            /// Any other event.
            Unknown,
        }

        impl EventKind {
            /// The kind's name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => stringify!($kind),)+
                    Self::Unknown => "Unknown",
                }
            }

            /// Every kind, in the table's order, `Unknown` last.
            pub fn all() -> impl Iterator<Item = Self> + Clone {
                [$(Self::$kind,)+ Self::Unknown].into_iter()
            }

            /// Whether the fields are beside the envelope's instead of in a body.
            pub(super) const fn is_flat(self) -> bool {
                match self {
                    $(Self::$kind => flat!($($flat)?),)+
                    Self::Unknown => false,
                }
            }
        }
    };
}
event_table!(kinds);

impl EventKind {
    /// Whether it is one of the kinds that share their URIs.
    pub(super) const fn is_team_messaging(self) -> bool {
        matches!(self, Self::TeamMessagingPost | Self::TeamMessagingChat | Self::TeamMessagingWebhook)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reads the kind's name, in any casing.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) for an unknown name.
impl FromStr for EventKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let found = Self::all().find(|kind| kind.as_str().eq_ignore_ascii_case(name));
        found.ok_or_else(|| unknown("kind of event", name, Self::all().map(Self::as_str)))
    }
}

/// Reads the kind's name; one of a later version of this crate is [`Unknown`](Self::Unknown).
impl<'de> Deserialize<'de> for EventKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Cow::<'_, str>::deserialize(deserializer)?.parse().unwrap_or(Self::Unknown))
    }
}

impl Serialize for EventKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
