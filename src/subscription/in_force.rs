//! Which filters were in force when. Pure.

use std::sync::Arc;
use std::time::SystemTime;

/// So many filters that are no longer in force are remembered, the newest: a bound for a
/// program that changes its filters all the time.
const FORMER: usize = 1024;

/// The filters that are in force, or may be, and until when others were. A gap names those
/// of its whole time, not only those of the moment in which it is noticed.
#[derive(Debug)]
pub(super) struct InForce {
    now: Arc<[String]>,
    /// Filters that were taken out, and up to when their events may have been emitted, by the
    /// service's clock. In the order of that time.
    former: Vec<(String, SystemTime)>,
}

impl InForce {
    pub(super) fn new(filters: &[String]) -> Self {
        Self { now: filters.to_vec().into(), former: Vec::new() }
    }

    pub(super) fn now(&self) -> &Arc<[String]> {
        &self.now
    }

    /// While a change is under way, the filters from before it may be in force, or those it
    /// asks for.
    pub(super) fn may_become(&mut self, filters: &[String]) {
        let new: Vec<String> = filters.iter().filter(|filter| !self.now.contains(filter)).cloned().collect();
        self.now = self.now.iter().cloned().chain(new).collect();
    }

    /// These are in force from now on, which is `at` by the service's clock.
    pub(super) fn are(&mut self, filters: &[String], at: SystemTime) {
        let out: Vec<&String> = self.now.iter().filter(|filter| !filters.contains(filter)).collect();
        self.former.retain(|(filter, _)| !out.contains(&filter));
        self.former.extend(out.into_iter().map(|filter| (filter.clone(), at)));
        self.former.drain(..self.former.len().saturating_sub(FORMER));
        self.now = filters.to_vec().into();
    }

    /// Those in force at some time since then.
    pub(super) fn since(&self, since: SystemTime) -> Arc<[String]> {
        if self.former.last().is_none_or(|(_, until)| *until < since) {
            return self.now.clone();
        }
        let former = self.former.iter().filter(|(filter, until)| *until >= since && !self.now.contains(filter));
        self.now.iter().chain(former.map(|(filter, _)| filter)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(secs: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
    }

    fn names(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn filters_that_were_taken_out_count_for_the_time_before() {
        let mut filters = InForce::new(&names("a b c"));
        assert_eq!(filters.since(at(0)).join(" "), "a b c");
        filters.may_become(&names("a c d"));
        assert_eq!(filters.since(at(9)).join(" "), "a b c d", "either may be in force");
        filters.are(&names("a c d"), at(10));
        filters.are(&names("a d"), at(20));
        for (since, want) in [(5, "a d b c"), (10, "a d b c"), (11, "a d c"), (20, "a d c"), (21, "a d")] {
            assert_eq!(filters.since(at(since)).join(" "), want, "{since}");
        }
        filters.are(&names("a b"), at(30));
        assert_eq!(filters.since(at(25)).join(" "), "a b d", "one that is in force again is named once");
        filters.are(&names("a"), at(40));
        assert_eq!(filters.since(at(35)).join(" "), "a b", "it was in force until the last time");
        assert_eq!(filters.now().join(" "), "a");
    }

    #[test]
    fn only_so_many_former_filters_are_remembered() {
        let mut filters = InForce::new(&[]);
        for n in 0..3 * FORMER {
            filters.are(&[n.to_string()], at(n as u64));
        }
        assert_eq!(filters.former.len(), FORMER);
        assert_eq!(filters.since(at(0)).len(), FORMER + 1);
    }
}
