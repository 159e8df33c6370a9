//! What is not proven to have been delivered, and why.

use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::event::{EventFilter, EventKind, GapClosure};
use crate::words::unknown;

/// A filter whose events may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unrecovered {
    /// The filter.
    pub filter: String,
    /// How well a source of this subscription covers it.
    pub closure: GapClosure,
    /// Which kinds of change may be missing.
    pub changes: Changes,
    /// The reason.
    pub reason: OpenReason,
}

/// Kinds of change, as a set.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Changes(u8);

impl Changes {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// A creation.
    pub const NEW: Self = Self(1);
    /// A change: of the status, the text, the read status.
    pub const CHANGED: Self = Self(2);
    /// A deletion.
    pub const DELETED: Self = Self(4);
    /// All of them.
    pub const ALL: Self = Self(7);

    const NAMES: [(Self, &'static str); 3] =
        [(Self::NEW, "new"), (Self::CHANGED, "changed"), (Self::DELETED, "deleted")];

    /// The union of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The intersection of both.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The kinds that the events of `filter` report.
    #[must_use]
    pub fn reported_by(filter: &EventFilter) -> Self {
        match filter.kind() {
            EventKind::InstantMessage | EventKind::MissedCall => Self::NEW,
            EventKind::A2pMessage => Self::NEW.and(Self::CHANGED),
            _ => Self::ALL,
        }
    }
}

/// Their names.
impl Serialize for Changes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(Self::NAMES.iter().filter(|(change, _)| !self.common(*change).is_empty()).map(|it| it.1))
    }
}

/// Their names; an unknown one is an error that names it.
impl<'de> Deserialize<'de> for Changes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<String>::deserialize(deserializer)?.iter().try_fold(Self::NONE, |changes, name| {
            let known = Self::NAMES.iter().find(|(_, known)| known == name);
            let names = Self::NAMES.iter().map(|it| it.1);
            known
                .map(|(change, _)| changes.and(*change))
                .ok_or_else(|| de::Error::custom(unknown("change", name, names)))
        })
    }
}

/// Their names.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::NAMES.iter().filter(|(change, _)| !self.common(*change).is_empty());
        for (at, (_, name)) in names.enumerate() {
            write!(f, "{}{name}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Changes({self})")
    }
}

/// Why completeness is not proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenReason {
    /// No catch-up source of the subscription covers the filter, or none does any more: the filter was removed before
    /// the gap ended.
    NoSource,
    /// The source finds a state, or some of the events: see [`Unrecovered::closure`](crate::Unrecovered::closure).
    InPart,
    /// The service refused the position, or none was as old as the gap: the source found what was created meanwhile,
    /// but no changes of older records.
    NoPosition,
    /// A record was created and deleted for good meanwhile: the service no longer shows it.
    Deleted,
    /// The gap reaches further back than the source does.
    OutOfReach,
    /// There were more events than the source reads at once.
    TooMuch,
    /// A part of the service's answer could not be read.
    Unread,
    /// The latest events may enter the source as late as then. It is queried again, and delivers what it finds without
    /// another gap.
    NotSettled {
        /// By this machine's clock.
        until: SystemTime,
    },
    /// The source had not answered when the gap ended. It is queried again, and delivers what it finds without another
    /// gap.
    NotAnswered,
    /// The service refuses the source: a permission is missing, or it does not exist.
    Refused,
    /// The source does not find a message that was pushed as a count, in several attempts.
    NotFound,
    /// The subscription ended before the sources had answered.
    CutShort,
    /// The service's clock was set back within the gap: sources are asked by time, and records from before bear later
    /// times than the service has now.
    ClockSet,
    /// Read from the stored form of a later version of this crate, which knows more reasons.
    Unknown,
}

impl OpenReason {
    /// A word for logs and machines.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSource => "no_source",
            Self::InPart => "in_part",
            Self::NoPosition => "no_position",
            Self::Deleted => "deleted",
            Self::OutOfReach => "out_of_reach",
            Self::TooMuch => "too_much",
            Self::Unread => "unread",
            Self::NotSettled { .. } => "not_settled",
            Self::NotAnswered => "not_answered",
            Self::Refused => "refused",
            Self::NotFound => "not_found",
            Self::CutShort => "cut_short",
            Self::ClockSet => "clock_set",
            Self::Unknown => "unknown",
        }
    }
}
