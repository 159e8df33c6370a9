//! What a source's answer proves, and what it leaves open. Pure.

use std::fmt;
use std::time::SystemTime;

use crate::event::{EventFilter, EventKind};

/// Kinds of change, as a set.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Changes(u8);

impl Changes {
    /// None.
    pub const NONE: Self = Self(0);
    /// Something new.
    pub const NEW: Self = Self(1);
    /// Something changed: its status, its text, that it was read.
    pub const CHANGED: Self = Self(2);
    /// Something was deleted.
    pub const DELETED: Self = Self(4);
    /// All of them.
    pub const ALL: Self = Self(7);

    const NAMES: [(Self, &'static str); 3] =
        [(Self::NEW, "new"), (Self::CHANGED, "changed"), (Self::DELETED, "deleted")];

    /// Those of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are in both.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What the events of `filter` report.
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

/// What an answer does not prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Of which filter; `None`: of each that the source was asked for.
    pub filter: Option<EventFilter>,
    /// Which kinds of change.
    pub changes: Changes,
    /// Why.
    pub reason: OpenReason,
}

impl Open {
    /// What of it concerns `filter`.
    pub(crate) fn of(&self, filter: &EventFilter) -> Changes {
        match &self.filter {
            Some(of) if of != filter => Changes::NONE,
            _ => self.changes.common(Changes::reported_by(filter)),
        }
    }
}

/// Why something is not proven to be complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenReason {
    /// No catch-up source of the subscription makes up for the filter, or none does any
    /// more: the filter was taken out before the gap was over.
    NoSource,
    /// The source finds a state, or a part of what happened: see
    /// [`LeftOpen::closure`](crate::LeftOpen::closure).
    InPart,
    /// The service did not take the position, or none was as old as the gap: what was
    /// created meanwhile was found, and changes of what was there before were not.
    NoPosition,
    /// Something came and was deleted for good meanwhile: the service no longer shows it.
    Deleted,
    /// The gap reaches further back than the source does.
    OutOfReach,
    /// More happened than the source reads at once.
    TooMuch,
    /// A part of the service's answer could not be read.
    Unread,
    /// What happened last may enter the source as late as then. It is asked again, and
    /// delivers what it finds without another gap.
    NotSettled {
        /// By this machine's clock.
        until: SystemTime,
    },
    /// The source had not answered when the gap was declared over. It is asked again, and
    /// delivers what it finds without another gap.
    NotAnswered,
    /// The service refuses the source: a permission is missing, or it is not there.
    Refused,
    /// What was pushed as a count is not found by the source, though it was asked several
    /// times.
    NotFound,
    /// Another gap began, or the subscription ended, before the sources had answered. What
    /// that gap finds may belong to this one.
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

/// What one step of a source leaves open, for each of the filters that it concerns.
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
    fn what_is_left_open_concerns_the_filters_that_report_it() {
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
