//! What events were about that push and catch-up told, so that the same thing
//! arrives once, whoever tells it first. Pure.

use std::collections::HashMap;

use tokio::time::{Duration, Instant};

use super::resume::ResumeToken;
use crate::dedup::Seen;
use crate::event::DedupKey;

/// So many subjects are remembered. At 16 bytes each and their keeping, some
/// hundred KiB at most, in a process that is that busy.
const REMEMBERED: usize = 16_384;
/// For so long: three times the time between two checks of a source, which may
/// find again what was pushed since the last one.
const KEEP: Duration = Duration::from_secs(100 * 60);

/// What something is, and its last change.
type Version = Option<(DedupKey, i128)>;

/// What was told by whom.
#[derive(Debug)]
pub(super) struct Told {
    by_push: Seen,
    by_catch_up: Seen,
    /// The last change that catch-up told of what changes.
    newest: HashMap<DedupKey, i128>,
    /// The states told last, by what they are of, while nothing was pushed since.
    states: HashMap<DedupKey, DedupKey>,
}

impl Default for Told {
    fn default() -> Self {
        let seen = || Seen::new(REMEMBERED, KEEP);
        Self { by_push: seen(), by_catch_up: seen(), newest: HashMap::new(), states: HashMap::new() }
    }
}

impl Told {
    /// What was told before a restart is told.
    pub(super) fn after(token: Option<&ResumeToken>, now: Instant) -> Self {
        let mut told = Self::default();
        if let Some(token) = token {
            for key in &token.pushed {
                told.by_push.admit(*key, now);
            }
            for key in &token.found {
                told.by_catch_up.admit(*key, now);
            }
        }
        told
    }

    /// Whether a state is another than the one told last.
    pub(super) fn admit_state(&mut self, subject: DedupKey, state: DedupKey) -> bool {
        if self.states.len() >= REMEMBERED {
            self.states.clear();
        }
        self.states.insert(subject, state) != Some(state)
    }

    /// The states told last may not be the present ones.
    pub(super) fn forget_states(&mut self) {
        self.states.clear();
    }

    /// Whether a pushed event tells something that catch-up has not told. What is
    /// about nothing that could be told apart always does. Two pushes about the
    /// same are the service's own affair.
    pub(super) fn admit_pushed(&mut self, subjects: &[DedupKey], version: Version, now: Instant) -> bool {
        self.forget_states();
        // An older change of what was found in its newer state is part of that.
        if version.is_some_and(|(what, at)| self.newest.get(&what).is_some_and(|newest| at < *newest)) {
            return false;
        }
        let repeated = !subjects.is_empty() && subjects.iter().all(|key| self.by_catch_up.holds(*key, now));
        if !repeated {
            for key in subjects {
                self.by_push.admit(*key, now);
            }
        }
        !repeated
    }

    /// Whether a found event reports something that was not delivered. `scope`: the event
    /// URI by its meaning. What is found for two filters is two events, as it is when it is
    /// pushed; a pushed one may come under another spelling of the filter's URI. Returns
    /// what it is to be known by.
    pub(super) fn admit_found(
        &mut self,
        subjects: &[DedupKey],
        scope: &str,
        version: Version,
        now: Instant,
    ) -> Option<Vec<DedupKey>> {
        if let Some((what, at)) = version {
            if self.newest.len() >= REMEMBERED {
                self.newest.clear();
            }
            let newest = self.newest.entry(what).or_insert(at);
            *newest = at.max(*newest);
        }
        let scoped = |key: &DedupKey| DedupKey::over(7, &[&key.to_string(), scope]);
        let told = |key: &DedupKey| self.by_push.holds(*key, now) || self.by_catch_up.holds(scoped(key), now);
        if !subjects.is_empty() && subjects.iter().all(told) {
            return None;
        }
        let keys: Vec<DedupKey> = subjects.iter().flat_map(|key| [*key, scoped(key)]).collect();
        for key in &keys {
            self.by_catch_up.admit(*key, now);
        }
        Some(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> DedupKey {
        DedupKey::from_bytes([n; 16])
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_thing_is_told_once_whoever_is_first() {
        let now = Instant::now();
        let mut told = Told::default();
        assert!(told.admit_pushed(&[key(1)], None, now));
        assert!(told.admit_found(&[key(1)], "/a", None, now).is_none());
        assert!(told.admit_found(&[key(2)], "/a", None, now).is_some());
        assert!(told.admit_found(&[key(2)], "/a", None, now).is_none());
        assert!(!told.admit_pushed(&[key(2)], None, now));
        assert!(told.admit_pushed(&[key(1)], None, now), "a push about what a push told is the service's affair");
    }

    #[tokio::test(start_paused = true)]
    async fn several_subjects_are_a_repetition_only_together() {
        let now = Instant::now();
        let mut told = Told::default();
        assert!(told.admit_found(&[key(1)], "/a", None, now).is_some());
        assert!(told.admit_pushed(&[key(1), key(2)], None, now));
        assert!(
            told.admit_found(&[], "/a", None, now).is_some() && told.admit_found(&[], "/a", None, now).is_some(),
            "what cannot be told apart passes"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_found_for_two_filters_is_delivered_for_both() {
        let now = Instant::now();
        let mut told = Told::default();
        for scope in ["/a", "/b"] {
            assert!(told.admit_found(&[key(1)], scope, None, now).is_some(), "{scope}");
            assert!(told.admit_found(&[key(1)], scope, None, now).is_none(), "{scope}");
        }
        assert!(!told.admit_pushed(&[key(1)], None, now), "under whatever spelling it is pushed");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_told_long_ago_may_be_told_again() {
        let now = Instant::now();
        let mut told = Told::default();
        assert!(told.admit_found(&[key(1)], "/a", None, now).is_some());
        assert!(told.admit_found(&[key(1)], "/a", None, now + KEEP).is_some());
    }

    #[test]
    fn a_state_is_news_when_it_differs_from_the_last_one_or_that_may_be_past() {
        let mut told = Told::default();
        let now = Instant::now();
        for (state, new) in [(1, true), (1, false), (2, true), (1, true)] {
            assert_eq!(told.admit_state(key(9), key(state)), new, "{state}");
        }
        assert!(told.admit_state(key(8), key(1)), "of something else");
        told.admit_pushed(&[], None, now);
        assert!(told.admit_state(key(9), key(1)), "something was pushed since");
    }

    #[test]
    fn an_older_change_of_what_was_found_in_its_newer_state_is_part_of_that() {
        let mut told = Told::default();
        let now = Instant::now();
        let version = |at| Some((key(9), at));
        assert!(told.admit_pushed(&[key(1)], version(5), now));
        assert!(told.admit_found(&[key(3)], "/a", version(7), now).is_some());
        for (at, new) in [(6, false), (7, true), (8, true)] {
            let subject = key(20 + u8::try_from(at).unwrap());
            assert_eq!(told.admit_pushed(&[subject], version(at), now), new, "{at}");
        }
        assert!(told.admit_pushed(&[key(2)], Some((key(8), 6)), now), "of something else");
    }
}
