//! The subjects of events that push and catch-up delivered, so that each event arrives once, from either origin. Pure.

use std::collections::HashMap;

use tokio::time::{Duration, Instant};

use super::Seen;
use crate::event::{DedupKey, Notification, Spelling};

/// Events that are recognized when a source finds them, or finds them again: what one answer of a source may hold, and
/// what arrives until the next check advances the source's position. Beyond it the oldest may be delivered twice.
const EVENTS: usize = 65_536;
/// Most events have one subject, under up to three keys: in two spellings, and with the filter's scope. At about 65
/// bytes each, 13 MB for each origin at most, in a process that is that busy.
const REMEMBERED: usize = 3 * EVENTS;
/// Last changes and states. One that was forgotten is delivered again.
const STATES: usize = 32_768;
/// How long: three times the time between two checks of a source, which may find again what was pushed since the last
/// one.
const KEEP: Duration = Duration::from_secs(100 * 60);

/// A subject, and its last change.
type Version = Option<(DedupKey, i128)>;

/// The subjects of an event, in one spelling of the own extension.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names {
    subjects: Vec<DedupKey>,
    /// The event URI by its meaning, and the extension, of an event that a source found.
    scope: String,
    version: Version,
}

impl Names {
    fn of(notification: &Notification, spelling: Spelling) -> Self {
        Self {
            subjects: notification.subject_keys_by(spelling),
            scope: String::new(),
            version: notification.version(spelling),
        }
    }

    /// An event that is found for two filters is two events, as in push.
    fn scoped(&self, at: usize, scope: &str) -> DedupKey {
        DedupKey::over(7, &[&self.subjects[at].to_string(), scope])
    }
}

/// The subjects of an event. An event of the own extension is recognized by `~` as well as by the id: before the owner
/// was known, it was remembered by `~`.
#[derive(Clone, Debug)]
pub(crate) struct About {
    /// By `~`, which does not depend on the owner.
    tilde: Names,
    /// By the id, if that differs.
    named: Option<Names>,
}

impl About {
    /// The subjects of a pushed event.
    pub(crate) fn of(notification: &Notification) -> Self {
        let [tilde, named] = [Spelling::Tilde, Spelling::Named].map(|spelling| Names::of(notification, spelling));
        Self { named: Some(named).filter(|named| *named != tilde), tilde }
    }

    /// The subjects of an event that a source found, with the filter that it was found for.
    pub(crate) fn found(notification: &Notification) -> Self {
        let [tilde, named] = [Spelling::Tilde, Spelling::Named]
            .map(|spelling| Names { scope: notification.scope(spelling), ..Names::of(notification, spelling) });
        Self { named: Some(named).filter(|named| *named != tilde), tilde }
    }

    fn spellings(&self) -> impl Iterator<Item = &Names> {
        std::iter::once(&self.tilde).chain(&self.named)
    }

    /// Whether `is_known` holds for each subject, in some spelling; not for an event without a distinguishable subject.
    fn all(&self, mut is_known: impl FnMut(&Names, usize) -> bool) -> bool {
        let count = self.tilde.subjects.len();
        count > 0 && (0..count).all(|at| self.spellings().any(|names| is_known(names, at)))
    }

    /// How many subjects there are.
    pub(crate) fn len(&self) -> usize {
        self.tilde.subjects.len()
    }

    /// What it is to be known by in another process, which may not know the owner yet.
    pub(crate) fn keys(self) -> Vec<DedupKey> {
        let mut keys = self.tilde.subjects;
        keys.extend(self.named.into_iter().flat_map(|named| named.subjects));
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// The deliveries by origin.
#[derive(Debug)]
pub(crate) struct Subjects {
    by_push: Seen,
    by_catch_up: Seen,
    /// The last change of a subject that catch-up delivered.
    newest: HashMap<DedupKey, i128>,
    /// The last delivered states, by their subjects, while nothing was pushed since.
    states: HashMap<DedupKey, DedupKey>,
}

impl Default for Subjects {
    fn default() -> Self {
        let seen = || Seen::new(REMEMBERED, KEEP);
        Self { by_push: seen(), by_catch_up: seen(), newest: HashMap::new(), states: HashMap::new() }
    }
}

impl Subjects {
    /// Remembers the subjects of events that were pushed or found before a restart.
    pub(crate) fn restored(pushed: &[DedupKey], found: &[DedupKey], now: Instant) -> Self {
        let mut subjects = Self::default();
        for (keys, seen) in [(pushed, &mut subjects.by_push), (found, &mut subjects.by_catch_up)] {
            for key in keys {
                seen.admit(*key, now);
            }
        }
        subjects
    }

    /// Whether no source has found anything yet: then a pushed event need not be compared with what was found.
    pub(crate) fn has_found_nothing(&self) -> bool {
        self.by_catch_up.is_empty() && self.newest.is_empty() && self.states.is_empty()
    }

    /// Whether a state differs from the last delivered one.
    pub(crate) fn admit_state(&mut self, subject: DedupKey, state: DedupKey) -> bool {
        if self.states.len() >= STATES {
            self.states.clear();
        }
        self.states.insert(subject, state) != Some(state)
    }

    /// The last delivered states may be outdated.
    pub(crate) fn forget_states(&mut self) {
        self.states.clear();
    }

    /// Whether an event with this subject was delivered.
    pub(crate) fn is_known(&mut self, subject: DedupKey, now: Instant) -> bool {
        self.by_push.holds(subject, now) || self.by_catch_up.holds(subject, now)
    }

    /// Whether a pushed event contains something that catch-up has not delivered. An event without a distinguishable
    /// subject always does. Two pushes with the same subject are the service's decision. `can_ask`: a source may find
    /// the event again, so that it is remembered.
    pub(crate) fn admit_pushed(&mut self, about: &About, can_ask: bool, now: Instant) -> bool {
        self.forget_states();
        // An older change of something that was found in its newer state is part of that.
        let is_older = |(what, at): &(DedupKey, i128)| self.newest.get(what).is_some_and(|newest| at < newest);
        if about.spellings().filter_map(|names| names.version.as_ref()).any(is_older) {
            return false;
        }
        if about.all(|names, at| self.by_catch_up.holds(names.subjects[at], now)) {
            return false;
        }
        for key in about.spellings().filter(|_| can_ask).flat_map(|names| &names.subjects) {
            self.by_push.admit(*key, now);
        }
        true
    }

    /// Whether a found event reports something that was not delivered. An event that is found for two filters is two
    /// events, as in push; a pushed one may have another spelling of the filter's URI. Returns its keys.
    pub(crate) fn admit_found(&mut self, about: &About, now: Instant) -> Option<Vec<DedupKey>> {
        // The id may stand in the body, and `~` in the URI.
        let mut is_found = |names: &Names, at| {
            about.spellings().any(|other| self.by_catch_up.holds(names.scoped(at, &other.scope), now))
        };
        let is_known = |names: &Names, at| self.by_push.holds(names.subjects[at], now) || is_found(names, at);
        if about.all(is_known) {
            return None;
        }
        // A state that push had delivered is not the source's: an older change that comes
        // behind it is delivered, as it is without a source.
        for (what, at) in about.spellings().filter_map(|names| names.version) {
            if self.newest.len() >= STATES {
                self.newest.clear();
            }
            let newest = self.newest.entry(what).or_insert(at);
            *newest = at.max(*newest);
        }
        let Names { subjects, scope, .. } = &about.tilde;
        let keys: Vec<DedupKey> =
            subjects.iter().enumerate().flat_map(|(at, key)| [*key, about.tilde.scoped(at, scope)]).collect();
        let named = about.named.iter().flat_map(|names| &names.subjects).filter(|key| !subjects.contains(key));
        let keys: Vec<DedupKey> = keys.into_iter().chain(named.copied()).collect();
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

    fn about(subjects: &[DedupKey], scope: &str, version: Version) -> About {
        let tilde = Names { subjects: subjects.to_vec(), scope: scope.to_owned(), version };
        About { tilde, named: None }
    }

    impl Subjects {
        fn pushed(&mut self, subjects: &[DedupKey], version: Version, now: Instant) -> bool {
            self.admit_pushed(&about(subjects, "", version), true, now)
        }

        fn found(
            &mut self,
            subjects: &[DedupKey],
            scope: &str,
            version: Version,
            now: Instant,
        ) -> Option<Vec<DedupKey>> {
            self.admit_found(&about(subjects, scope, version), now)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_event_is_delivered_once_from_either_origin() {
        let now = Instant::now();
        let mut subjects = Subjects::default();
        assert!(subjects.pushed(&[key(1)], None, now));
        assert!(subjects.found(&[key(1)], "/a", None, now).is_none());
        assert!(subjects.found(&[key(2)], "/a", None, now).is_some());
        assert!(subjects.found(&[key(2)], "/a", None, now).is_none());
        assert!(!subjects.pushed(&[key(2)], None, now));
        assert!(subjects.pushed(&[key(1)], None, now), "two pushes with one subject are the service's decision");
    }

    #[tokio::test(start_paused = true)]
    async fn several_subjects_are_a_repetition_only_together() {
        let now = Instant::now();
        let mut subjects = Subjects::default();
        assert!(subjects.found(&[key(1)], "/a", None, now).is_some());
        assert!(subjects.pushed(&[key(1), key(2)], None, now));
        assert!(
            subjects.found(&[], "/a", None, now).is_some() && subjects.found(&[], "/a", None, now).is_some(),
            "events without a distinguishable subject pass"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_found_for_two_filters_is_delivered_for_both() {
        let now = Instant::now();
        let mut subjects = Subjects::default();
        for scope in ["/a", "/b"] {
            assert!(subjects.found(&[key(1)], scope, None, now).is_some(), "{scope}");
            assert!(subjects.found(&[key(1)], scope, None, now).is_none(), "{scope}");
        }
        assert!(!subjects.pushed(&[key(1)], None, now), "under whatever spelling it is pushed");
    }

    /// A burst that arrives while one answer of a source is on its way, which holds all of it.
    #[test]
    fn each_event_of_a_large_burst_is_delivered_once_from_either_origin() {
        let now = Instant::now();
        let all: Vec<About> = (0..65_536)
            .map(|n| {
                let [tilde, named] = [1, 2].map(|tag| Names {
                    subjects: vec![DedupKey::over(tag, &[&n.to_string()])],
                    scope: "/a".to_owned(),
                    version: None,
                });
                About { tilde, named: Some(named) }
            })
            .collect();
        let mut subjects = Subjects::default();
        assert!(all.iter().all(|about| subjects.admit_pushed(about, true, now)));
        assert_eq!(
            all.iter().filter(|about| subjects.admit_found(about, now).is_some()).count(),
            0,
            "pushed and found"
        );
        let mut subjects = Subjects::default();
        assert!(all.iter().all(|about| subjects.admit_found(about, now).is_some()));
        assert_eq!(all.iter().filter(|about| subjects.admit_found(about, now).is_some()).count(), 0, "found twice");
        assert_eq!(all.iter().filter(|about| subjects.admit_pushed(about, true, now)).count(), 0, "found and pushed");
    }

    #[tokio::test(start_paused = true)]
    async fn events_delivered_long_ago_may_be_delivered_again() {
        let now = Instant::now();
        let mut subjects = Subjects::default();
        assert!(subjects.found(&[key(1)], "/a", None, now).is_some());
        assert!(subjects.found(&[key(1)], "/a", None, now + KEEP).is_some());
    }

    #[test]
    fn a_state_is_news_when_it_differs_from_the_last_one_or_that_may_be_past() {
        let mut subjects = Subjects::default();
        let now = Instant::now();
        for (state, new) in [(1, true), (1, false), (2, true), (1, true)] {
            assert_eq!(subjects.admit_state(key(9), key(state)), new, "{state}");
        }
        assert!(subjects.admit_state(key(8), key(1)), "of something else");
        subjects.pushed(&[], None, now);
        assert!(subjects.admit_state(key(9), key(1)), "something was pushed since");
    }

    #[test]
    fn an_older_change_is_part_of_a_newer_found_state() {
        let mut subjects = Subjects::default();
        let now = Instant::now();
        let version = |at| Some((key(9), at));
        assert!(subjects.pushed(&[key(1)], version(5), now));
        assert!(subjects.found(&[key(3)], "/a", version(7), now).is_some());
        for (at, new) in [(6, false), (7, true), (8, true)] {
            let subject = key(20 + u8::try_from(at).unwrap());
            assert_eq!(subjects.pushed(&[subject], version(at), now), new, "{at}");
        }
        assert!(subjects.pushed(&[key(2)], Some((key(8), 6)), now), "of something else");
    }

    /// The service may send changes of one thing in another order (websocket-and-webhooks
    /// §1.8), and the source finds the newest state, which push has delivered.
    #[test]
    fn an_older_change_behind_a_newer_one_that_was_pushed_is_delivered() {
        let mut subjects = Subjects::default();
        let now = Instant::now();
        assert!(subjects.pushed(&[key(2)], Some((key(9), 7)), now));
        assert!(subjects.found(&[key(2)], "/a", Some((key(9), 7)), now).is_none());
        assert!(subjects.pushed(&[key(1)], Some((key(9), 6)), now));
    }

    /// A missed call, an event that changes and a message; without `body`'s extension.
    fn event(kind: &str, extension: &str, owner: Option<&str>) -> Notification {
        let account = if extension == "~" { "~" } else { "4" };
        let uri = format!("/restapi/v1.0/account/{account}/extension/{extension}/{kind}");
        let owner = owner.map_or_else(String::new, |owner| format!(r#""ownerId":"{owner}","#));
        let id = r#""id":"70","sessionId":"9","type":"SMS","lastModifiedTime":"2026-03-01T08:00:00.000Z""#;
        let text = format!(r#"{{"event":"{uri}",{owner}{id},"body":{{{id}}}}}"#);
        let raw = serde_json::value::RawValue::from_string(text).unwrap();
        Notification::parse(raw, crate::event::Origin::Push, std::time::SystemTime::UNIX_EPOCH).unwrap()
    }

    /// The extension stands in the body, `~` in the URI, and the owner is known only when it is found for the second
    /// time.
    #[test]
    fn an_event_that_names_its_extension_in_the_body_only_is_found_once() {
        let found = |owner: Option<&str>| {
            let owner = owner.map_or_else(String::new, |owner| format!(r#""ownerId":"{owner}","#));
            let uri = "/restapi/v1.0/account/~/extension/~/missed-calls";
            let text = format!(r#"{{"event":"{uri}",{owner}"body":{{"extensionId":"7","sessionId":"9"}}}}"#);
            let raw = serde_json::value::RawValue::from_string(text).unwrap();
            Notification::parse(raw, crate::event::Origin::CatchUp, std::time::SystemTime::UNIX_EPOCH).unwrap()
        };
        let now = Instant::now();
        let mut subjects = Subjects::default();
        assert!(subjects.admit_found(&About::found(&found(None)), now).is_some());
        for owner in [None, Some("7")] {
            assert!(subjects.admit_found(&About::found(&found(owner)), now).is_none(), "{owner:?}");
        }
    }

    /// The service may leave `~` in `event` (ringcentral-rest-and-events §5.1), and the owner is known only after an
    /// event named it.
    #[test]
    fn an_event_of_the_own_extension_is_one_event_by_tilde_and_by_id() {
        let now = Instant::now();
        let spellings = [("~", None), ("~", Some("7")), ("7", Some("7"))];
        for kind in ["message-store/instant?type=SMS", "voicemail", "fax", "missed-calls"] {
            for first in spellings {
                for second in spellings {
                    let [one, other] = [first, second].map(|(extension, owner)| event(kind, extension, owner));
                    let case = format!("{kind} {first:?} {second:?}");
                    let mut subjects = Subjects::default();
                    assert!(subjects.admit_found(&About::found(&one), now).is_some(), "{case}");
                    assert!(!subjects.admit_pushed(&About::of(&other), true, now), "found first: {case}");
                    assert!(subjects.admit_found(&About::found(&other), now).is_none(), "found twice: {case}");
                    let mut subjects = Subjects::default();
                    assert!(subjects.admit_pushed(&About::of(&one), true, now), "{case}");
                    assert!(subjects.admit_found(&About::found(&other), now).is_none(), "pushed first: {case}");
                }
            }
        }
    }

    #[test]
    fn an_event_of_another_extension_is_another_event() {
        let now = Instant::now();
        for kind in ["message-store/instant?type=SMS", "voicemail", "missed-calls"] {
            for own in [("~", None), ("~", Some("7")), ("7", Some("7"))] {
                let (own, other) = (event(kind, own.0, own.1), event(kind, "8", Some("7")));
                let mut subjects = Subjects::default();
                assert!(subjects.admit_found(&About::found(&own), now).is_some());
                assert!(subjects.admit_pushed(&About::of(&other), true, now), "{kind}");
                assert!(subjects.admit_found(&About::found(&other), now).is_none(), "{kind}: it was pushed");
            }
        }
    }

    #[test]
    fn subjects_from_before_a_restart_are_recognized_before_the_owner_is_known() {
        let now = Instant::now();
        let pushed = About::of(&event("missed-calls", "7", Some("7")));
        let mut subjects = Subjects::restored(&pushed.keys(), &[], now);
        for extension in ["~", "7"] {
            let found = event("missed-calls", extension, (extension == "7").then_some("7"));
            assert!(subjects.admit_found(&About::found(&found), now).is_none(), "{extension}");
        }
    }

    /// The extension stands in the body, and only the pushed event names the owner.
    #[test]
    fn what_was_pushed_before_a_restart_is_known_by_the_extension_in_the_body() {
        let parse = |rest: &str, origin| {
            let text = format!(r#"{{"event":"/restapi/v1.0/account/~/extension/~/missed-calls",{rest}}}"#);
            let raw = serde_json::value::RawValue::from_string(text).unwrap();
            About::of(&Notification::parse(raw, origin, std::time::SystemTime::UNIX_EPOCH).unwrap())
        };
        let pushed = parse(r#""ownerId":"7","extensionId":"7","sessionId":"9""#, crate::event::Origin::Push);
        let found = parse(r#""body":{"extensionId":"7","sessionId":"9"}"#, crate::event::Origin::CatchUp);
        let now = Instant::now();
        let mut subjects = Subjects::default();
        assert!(subjects.admit_pushed(&pushed, true, now));
        assert!(subjects.admit_found(&found, now).is_none(), "in the process that read it");
        let mut restored = Subjects::restored(&pushed.keys(), &[], now);
        assert!(restored.admit_found(&found, now).is_none(), "after a restart");
    }
}
