//! What a source's answer proves, and what it leaves open. Pure.

use std::fmt;
use std::time::SystemTime;

use crate::event::{EventFilter, EventKind};

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

/// Something that an answer does not prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The filter; `None`: every filter of the request.
    pub filter: Option<EventFilter>,
    /// The kinds of change.
    pub changes: Changes,
    /// The reason.
    pub reason: OpenReason,
}

impl Open {
    /// The part of it that concerns `filter`.
    pub(crate) fn of(&self, filter: &EventFilter) -> Changes {
        match &self.filter {
            Some(of) if of != filter => Changes::NONE,
            _ => self.changes.common(Changes::reported_by(filter)),
        }
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
    /// Another gap began, or the subscription ended, before the sources had answered. Events that are found for that
    /// gap may belong to this one.
    CutShort,
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
        }
    }
}

/// What one step of a source leaves open, for each filter concerned.
pub(super) fn open_for(filters: &[&EventFilter], steps: &[(Changes, OpenReason)]) -> Vec<Open> {
    let mut all = Vec::new();
    for filter in filters {
        for (changes, reason) in steps {
            let changes = changes.common(Changes::reported_by(filter));
            if !changes.is_empty() {
                all.push(Open { filter: Some((*filter).clone()), changes, reason: *reason });
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_changes_concern_the_filters_that_report_them() {
        let (instant, store, missed) =
            (EventFilter::instant_message(), EventFilter::message_store(), EventFilter::missed_calls());
        let later = Changes::CHANGED.and(Changes::DELETED);
        for (changes, want) in [
            (Changes::NEW, [true, true, true]),
            (later, [false, true, false]),
            (Changes::ALL, [true, true, true]),
            (Changes::NONE, [false, false, false]),
        ] {
            let filters = [&instant, &store, &missed];
            let open = open_for(&filters, &[(changes, OpenReason::NoPosition)]);
            for (filter, want) in filters.into_iter().zip(want) {
                let found = open.iter().any(|open| open.filter.as_ref() == Some(filter));
                assert_eq!(found, want, "{filter} {changes}");
                let anywhere = Open { filter: None, changes, reason: OpenReason::Unread };
                assert_eq!(!anywhere.of(filter).is_empty(), want, "{filter} {changes}");
            }
        }
        let other = Open { filter: Some(store.clone()), changes: Changes::ALL, reason: OpenReason::Unread };
        assert!(other.of(&instant).is_empty() && other.of(&store) == Changes::ALL);
    }

    #[test]
    fn changes_have_names() {
        assert_eq!(Changes::ALL.to_string(), "new, changed, deleted");
        assert_eq!(format!("{:?}", Changes::NEW.and(Changes::DELETED)), "Changes(new, deleted)");
    }
}
