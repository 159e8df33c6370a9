//! Whether a gap is proven to be filled: filters by interval by kinds of change. Pure.

use std::time::SystemTime;

use super::reconcile::Verdict;
use crate::catch_up::Open;
use crate::delivery::{Changes, OpenReason, Unrecovered};
use crate::event::{EventFilter, GapClosure};

/// One source's answers for the gap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answers<'a> {
    pub(super) verdict: Verdict,
    /// What its answers left open.
    pub(super) open: &'a [Open],
}

/// What is not proven for `filter`; `None` if everything is. `sources`: how well each covers the filter, and its
/// answers. `end`: when the gap ended.
pub(super) fn unrecovered<'a>(
    filter: &str,
    sources: impl Iterator<Item = (GapClosure, Answers<'a>)>,
    end: SystemTime,
) -> Option<Unrecovered> {
    let parsed = filter.parse::<EventFilter>().ok();
    let all = parsed.as_ref().map_or(Changes::ALL, Changes::reported_by);
    let open = |closure, changes, reason| Unrecovered { filter: filter.to_owned(), closure, changes, reason };
    let mut best: Option<Unrecovered> = None;
    for (closure, answers) in sources.filter(|(closure, _)| *closure != GapClosure::Nothing) {
        let (changes, reason) = match answers.verdict {
            Verdict::Refused => (all, OpenReason::Refused),
            Verdict::NotAnswered => (all, OpenReason::NotAnswered),
            Verdict::Answered | Verdict::NotSettled { .. } => {
                let of = |it: &Open| parsed.as_ref().map_or(it.changes, |filter| it.of(filter));
                let changes = answers.open.iter().map(of).fold(Changes::NONE, Changes::and);
                let first = answers.open.iter().find(|it| !of(it).is_empty()).map(|it| it.reason);
                match (first, answers.verdict) {
                    (Some(reason), _) => (changes, reason),
                    (None, Verdict::NotSettled { after }) => {
                        (all, OpenReason::NotSettled { until: end.checked_add(after).unwrap_or(end) })
                    }
                    (None, _) if closure == GapClosure::Complete => return None,
                    (None, _) => (all, OpenReason::InPart),
                }
            }
        };
        if best.as_ref().is_none_or(|best| rank(closure) > rank(best.closure)) {
            best = Some(open(closure, changes, reason));
        }
    }
    Some(best.unwrap_or_else(|| open(GapClosure::Nothing, all, OpenReason::NoSource)))
}

pub(super) fn rank(closure: GapClosure) -> u8 {
    match closure {
        GapClosure::Nothing => 0,
        GapClosure::StateOnly => 1,
        GapClosure::Partial => 2,
        GapClosure::Complete => 3,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const END: SystemTime = SystemTime::UNIX_EPOCH;
    const SETTLE: Duration = Duration::from_secs(30);

    #[test]
    fn a_filter_is_proven_by_one_source_that_answered_for_all_that_it_reports() {
        use GapClosure::{Complete, Nothing, Partial, StateOnly};
        let instant = EventFilter::instant_message();
        let store = EventFilter::message_store();
        let insights = EventFilter::ring_sense_insights(crate::event::RingSenseDomain::Pbx);
        let later = Changes::CHANGED.and(Changes::DELETED);
        let open = |filter: Option<&EventFilter>, changes| {
            vec![Open { filter: filter.cloned(), changes, reason: OpenReason::NoPosition }]
        };
        let none = Vec::new;
        let (answered, unsettled) = (Verdict::Answered, Verdict::NotSettled { after: SETTLE });
        let settling = OpenReason::NotSettled { until: END + SETTLE };
        for (filter, sources, want) in [
            (&instant, vec![], Some((Nothing, Changes::NEW, OpenReason::NoSource))),
            (&instant, vec![(Nothing, answered, none())], Some((Nothing, Changes::NEW, OpenReason::NoSource))),
            (&instant, vec![(Complete, answered, none())], None),
            (&store, vec![(Complete, answered, none())], None),
            (&store, vec![(Partial, answered, none())], Some((Partial, Changes::ALL, OpenReason::InPart))),
            (&store, vec![(StateOnly, answered, none())], Some((StateOnly, Changes::ALL, OpenReason::InPart))),
            (&store, vec![(Complete, unsettled, none())], Some((Complete, Changes::ALL, settling))),
            (
                &store,
                vec![(Complete, Verdict::NotAnswered, none())],
                Some((Complete, Changes::ALL, OpenReason::NotAnswered)),
            ),
            (&store, vec![(Complete, Verdict::Refused, none())], Some((Complete, Changes::ALL, OpenReason::Refused))),
            // Found 3.8: nothing lists insights, so no answer proves that all were found.
            (&insights, vec![(Partial, answered, none())], Some((Partial, Changes::ALL, OpenReason::InPart))),
            (&insights, vec![(Partial, unsettled, none())], Some((Partial, Changes::ALL, settling))),
            (&insights, vec![(Nothing, answered, none())], Some((Nothing, Changes::ALL, OpenReason::NoSource))),
            // Open kinds of change count for the filters that report them.
            (&instant, vec![(Complete, answered, open(None, later))], None),
            (&store, vec![(Complete, answered, open(None, later))], Some((Complete, later, OpenReason::NoPosition))),
            (&store, vec![(Complete, answered, open(Some(&instant), Changes::ALL))], None),
            (
                &instant,
                vec![(Complete, unsettled, open(Some(&instant), Changes::NEW))],
                Some((Complete, Changes::NEW, OpenReason::NoPosition)),
            ),
            // One source that proves it is enough.
            (&store, vec![(Complete, Verdict::NotAnswered, none()), (Complete, answered, none())], None),
            (
                &store,
                vec![(Partial, answered, none()), (Complete, Verdict::Refused, none())],
                Some((Complete, Changes::ALL, OpenReason::Refused)),
            ),
        ] {
            let case = format!("{filter} {sources:?}");
            let answers =
                sources.iter().map(|(closure, verdict, open)| (*closure, Answers { verdict: *verdict, open }));
            let got = unrecovered(filter.as_str(), answers, END);
            assert_eq!(got.map(|it| (it.closure, it.changes, it.reason)), want, "{case}");
        }
    }
}
