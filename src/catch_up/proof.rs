//! What a source's answer proves, and what it leaves open. Pure.

use crate::delivery::{Changes, OpenReason};
use crate::event::EventFilter;

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
