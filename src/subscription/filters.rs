//! Which filters are requested, and which were in force when. Pure.

use std::sync::Arc;
use std::time::SystemTime;

use super::lease::Lease;
use crate::delivery::DisabledFilter;
use crate::event;
use crate::ids::ExtensionId;

/// The most filters remembered that are no longer in force, the newest: a bound for a program that changes its filters
/// all the time.
const FORMER: usize = 1024;

/// A change of the filters; `R`: where its result goes.
#[derive(Debug)]
struct Change<R> {
    filters: Vec<String>,
    /// `None` for filters that are set again because the service may have others.
    reply: Option<R>,
}

/// A change that has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Changed<R> {
    pub(super) reply: Option<R>,
    /// The filters that are requested now and were not before.
    pub(super) added: Vec<String>,
}

/// Owns the requested filters, the change under way, and what is known of those at the service.
///
/// Inputs: the user's changes, how they ended, and the service's descriptions. Answers: what to request, whether to set
/// it again, what to report as not served, and the filters of a span of time.
#[derive(Debug)]
pub(super) struct Filters<R> {
    requested: Vec<String>,
    in_force: InForce,
    change: Option<Change<R>>,
    /// Whether the service may have other filters than the requested ones.
    is_doubtful: bool,
    /// The filters last reported as not served.
    not_served: Vec<DisabledFilter>,
}

impl<R> Filters<R> {
    pub(super) fn new(requested: Vec<String>) -> Self {
        let in_force = InForce::new(&requested);
        Self { requested, in_force, change: None, is_doubtful: false, not_served: Vec::new() }
    }

    pub(super) fn requested(&self) -> &[String] {
        &self.requested
    }

    /// The filters that a change of the subscription is to set.
    pub(super) fn to_set(&self) -> &[String] {
        self.change.as_ref().map_or(&self.requested, |change| &change.filters)
    }

    /// The user wants other filters. Returns `reply` if another change is under way, or `is_busy`. Until it has ended the
    /// service may serve the old filters, or the new ones.
    pub(super) fn change(&mut self, filters: Vec<String>, reply: R, is_busy: bool) -> Result<(), R> {
        if is_busy || self.change.is_some() {
            return Err(reply);
        }
        self.in_force.may_become(&filters);
        self.change = Some(Change { filters, reply: Some(reply) });
        Ok(())
    }

    /// The change ended at `now`, by the service's clock. One that failed ambiguously may have been carried out.
    pub(super) fn changed(&mut self, ok: bool, is_ambiguous: bool, now: SystemTime) -> Option<Changed<R>> {
        let Change { filters, reply } = self.change.take()?;
        self.is_doubtful = !ok;
        let mut added = Vec::new();
        if ok {
            added.extend(filters.iter().filter(|filter| !self.requested.contains(filter)).cloned());
            self.requested = filters;
        }
        if ok || !is_ambiguous {
            self.in_force.are(&self.requested, now);
        }
        Some(Changed { reply, added })
    }

    /// The subscription ends: no change is answered any more.
    pub(super) fn end(&mut self) {
        self.change = None;
    }

    /// Whether the requested filters have to be set, since the service describes others: in an `is_adopted` subscription,
    /// and after a change that failed. Its answer to a creation or a change is authoritative.
    pub(super) fn must_be_set(&mut self, lease: &Lease, is_adopted: bool) -> bool {
        if !(self.is_doubtful || is_adopted) || self.change.is_some() || lease.filters.is_empty() {
            return false;
        }
        let disabled = lease.disabled.iter().map(|disabled| &disabled.filter);
        let served: Vec<&String> = lease.filters.iter().chain(disabled).collect();
        self.is_doubtful = !event::same_filters(&served, &self.requested);
        if self.is_doubtful {
            self.change = Some(Change { filters: self.requested.clone(), reply: None });
        }
        self.is_doubtful
    }

    /// The requested filters that the service does not serve, if they are to be reported: each time that they are others.
    /// Those of a change, once it is answered.
    pub(super) fn not_served(&mut self, lease: &Lease) -> Option<Vec<DisabledFilter>> {
        // An answer without any filter says nothing, and revokes nothing.
        if self.change.is_some() || lease.filters.is_empty() && lease.disabled.is_empty() {
            return None;
        }
        let named: Vec<&str> = lease.disabled.iter().map(|disabled| disabled.filter.as_str()).collect();
        let left_out = event::missing_filters(&self.requested, &lease.filters, &named);
        let left_out = left_out.into_iter().map(DisabledFilter::left_out);
        let not_served: Vec<_> = lease.disabled.iter().cloned().chain(left_out).collect();
        if self.not_served == not_served {
            return None;
        }
        self.not_served.clone_from(&not_served);
        Some(not_served).filter(|not_served| !not_served.is_empty())
    }

    /// The extension that `~` stands for, by URIs that the service wrote out.
    pub(super) fn own_extension(&self, written: &[impl AsRef<str>]) -> Option<ExtensionId> {
        event::own_extension(&self.in_force.now, written)
    }

    /// The filters that were in force at some time since then.
    pub(super) fn since(&self, since: SystemTime) -> Arc<[String]> {
        self.in_force.since(since)
    }
}

/// The filters that are in force, or may be, and until when others were. A gap names those
/// of its whole time, not only those of the moment in which it is noticed.
#[derive(Debug)]
struct InForce {
    now: Arc<[String]>,
    /// Filters that were taken out, and up to when their events may have been emitted, by the
    /// service's clock. In the order of that time.
    former: Vec<(String, SystemTime)>,
}

impl InForce {
    fn new(filters: &[String]) -> Self {
        Self { now: filters.to_vec().into(), former: Vec::new() }
    }

    /// While a change is under way, the filters from before it may be in force, or those it
    /// asks for.
    fn may_become(&mut self, filters: &[String]) {
        let new: Vec<String> = filters.iter().filter(|filter| !self.now.contains(filter)).cloned().collect();
        self.now = self.now.iter().cloned().chain(new).collect();
    }

    /// These are in force from now on, which is `at` by the service's clock.
    fn are(&mut self, filters: &[String], at: SystemTime) {
        let out: Vec<&String> = self.now.iter().filter(|filter| !filters.contains(filter)).collect();
        self.former.retain(|(filter, _)| !out.contains(&filter));
        self.former.extend(out.into_iter().map(|filter| (filter.clone(), at)));
        self.former.drain(..self.former.len().saturating_sub(FORMER));
        self.now = filters.to_vec().into();
    }

    /// Those in force at some time since then.
    fn since(&self, since: SystemTime) -> Arc<[String]> {
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

    use serde_json::json;

    use super::*;
    use crate::kind::TransportKind;

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
        assert_eq!(filters.now.join(" "), "a");
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

    fn lease(filters: &str, disabled: &str) -> Lease {
        let disabled: Vec<_> = names(disabled).iter().map(|filter| json!({"filter": filter})).collect();
        let info = json!({"id": "s", "eventFilters": names(filters), "disabledFilters": disabled, "deliveryMode": {}});
        let info = serde_json::from_value(info).unwrap();
        Lease::read(&info, None, TransportKind::WebSocket, false).unwrap()
    }

    /// Its requested filters, those that a change sets, and those that may be in force.
    fn state(filters: &Filters<u8>) -> String {
        [filters.requested(), filters.to_set(), &filters.since(at(100))].map(|all| all.join(" ")).join(" | ")
    }

    #[test]
    fn a_change_counts_once_the_service_has_made_it() {
        for (ok, is_ambiguous, added, after) in [
            (true, false, "/c", "/a /c | /a /c | /a /c"),
            (true, true, "/c", "/a /c | /a /c | /a /c"),
            (false, false, "", "/a /b | /a /b | /a /b"),
            (false, true, "", "/a /b | /a /b | /a /b /c"),
        ] {
            let mut filters = Filters::new(names("/a /b"));
            assert_eq!(filters.changed(ok, is_ambiguous, at(9)), None, "no change is under way");
            assert_eq!(filters.change(names("/a /c"), 1, true), Err(1));
            assert_eq!(filters.change(names("/a /c"), 2, false), Ok(()));
            assert_eq!(filters.change(names("/d"), 3, false), Err(3));
            assert_eq!(state(&filters), "/a /b | /a /c | /a /b /c");
            let changed = Changed { reply: Some(2), added: names(added) };
            assert_eq!(filters.changed(ok, is_ambiguous, at(10)), Some(changed));
            assert_eq!(state(&filters), after, "{ok} {is_ambiguous}");
            assert!(filters.since(at(10)).contains(&"/b".to_owned()));
            assert_eq!(filters.change(names("/d"), 4, false), Ok(()));
            filters.end();
            assert_eq!(filters.changed(true, false, at(20)), None);
        }
    }

    #[test]
    fn filters_are_set_again_where_the_service_may_have_others() {
        let failed = |filters: &mut Filters<u8>| {
            filters.change(names("/d"), 1, false).unwrap();
            filters.changed(false, false, at(1)).unwrap();
        };
        for (served, disabled, is_adopted, is_set) in [
            ("/a /b", "", true, false),
            ("/a", "/b", true, false),
            ("/a", "", true, true),
            ("", "", true, false),
            ("/a", "", false, false),
        ] {
            let case = format!("{served} {disabled} {is_adopted}");
            let (mut filters, lease) = (Filters::new(names("/a /b")), lease(served, disabled));
            assert_eq!(filters.must_be_set(&lease, is_adopted), is_set, "{case}");
            assert!(!filters.must_be_set(&lease, is_adopted), "the change is under way: {case}");
            let changed = is_set.then(|| Changed { reply: None, added: Vec::new() });
            assert_eq!(filters.changed(true, false, at(1)), changed, "{case}");
            failed(&mut filters);
            assert_eq!(filters.must_be_set(&lease, false), served == "/a" && disabled.is_empty(), "{case}");
            if let Some(changed) = filters.changed(true, false, at(2)) {
                assert_eq!(changed, Changed { reply: None, added: Vec::new() });
            }
            assert!(
                !filters.must_be_set(&self::lease("/x", ""), false) || served.is_empty(),
                "its answer counts: {case}"
            );
        }
    }

    #[test]
    fn filters_that_are_not_served_are_reported_each_time_that_they_are_others() {
        let mut filters = Filters::<u8>::new(names("/a /b /c"));
        for (served, disabled, reported) in [
            ("", "", None),
            ("/a /b /c", "", None),
            ("/a /b", "/c", Some("/c")),
            ("/a /b", "/c", None),
            ("", "", None),
            ("/a", "/c", Some("/c /b")),
            ("/a /b /c", "", None),
            ("/a /b", "/c", Some("/c")),
            ("", "/b /c", Some("/b /c")),
        ] {
            let got = filters.not_served(&lease(served, disabled));
            let got = got.map(|all| all.into_iter().map(|it| it.filter).collect::<Vec<_>>().join(" "));
            assert_eq!(got.as_deref(), reported, "{served} {disabled}");
        }
        filters.change(names("/d"), 1, false).unwrap();
        assert!(filters.not_served(&lease("/a", "")).is_none(), "a change is under way");
        filters.changed(true, false, at(1)).unwrap();
        assert!(filters.not_served(&lease("/a", "")).is_some());
    }

    #[test]
    fn the_own_extension_is_read_from_uris_that_the_service_wrote_out() {
        let own = |id| format!("/restapi/v1.0/account/~/extension/{id}/voicemail");
        let mut filters = Filters::new(vec![own("~")]);
        assert_eq!(filters.own_extension(&[own("7")]), Some("7".into()));
        filters.change(vec![own("7")], 1, false).unwrap();
        assert_eq!(filters.own_extension(&[own("7")]), None, "it may belong to the filter that names it");
    }
}
