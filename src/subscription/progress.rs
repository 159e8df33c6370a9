//! How far a stream was read. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use super::positions::{Positions, SourcePosition};
use super::resume::{Mark, ResumeToken};
use crate::control::Cursor;
use crate::event::DedupKey;
use crate::timestamp::Timestamp;

/// The most keys of events of one batch in the resume token. A batch of the service holds at most a few hundred events.
pub(super) const SERVED_AT_ONCE: usize = 4096;
/// The most keys from before the last position: one answer of the service.
const KEYS_BEFORE_MARK: usize = 100;
/// So many names of things that events were about are kept of each origin, at most, two for
/// an event of the own extension (by `~` and by its id): what a source
/// is asked for after a restart reaches back to its position, which is renewed when about
/// a quarter of this came since (found 4.5).
const SUBJECTS_KEPT: usize = 2 * 16_384;
/// A source is asked from before its position: by the service's overlap, the time in which
/// a record may enter a log late, and the difference of two clocks.
const BEFORE_POSITION: Duration = Duration::from_secs(600);

/// One step of reading.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// An event was delivered.
    Event(Traces),
    /// A gap was delivered, which begins then.
    Gap(SystemTime),
    /// The end of every gap before it was delivered.
    GapEnd,
    /// Everything before this was.
    Mark(Mark),
    /// Everything that a source knows up to this position was.
    Position { source: &'static str, position: SourcePosition },
}

impl Step {
    /// Whether the reader received something; otherwise it only learned how far it has read.
    pub(super) fn is_delivery(&self) -> bool {
        matches!(self, Self::Event(_) | Self::Gap(_) | Self::GapEnd)
    }
}

/// Keys that recognize a redelivery.
#[derive(Clone, Debug, Default)]
pub(super) struct Traces {
    /// The event's own key.
    pub(super) key: Option<DedupKey>,
    /// Its subjects.
    pub(super) subjects: Vec<DedupKey>,
    /// Whether a catch-up source found it.
    pub(super) found: bool,
    /// When it arrived.
    pub(super) at: Option<SystemTime>,
}

/// What events were about, with the time when they came; `None`: before the next position.
type Subjects = VecDeque<(Option<SystemTime>, DedupKey)>;

/// What the reader has received, or has finished.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    mark: Option<Mark>,
    /// The keys of the last delivered events.
    keys: VecDeque<DedupKey>,
    /// How many of them arrived since the mark.
    since_mark: usize,
    pushed: Subjects,
    found: Subjects,
    positions: BTreeMap<String, Positions>,
    /// Since when events are missing in the gaps whose end was not delivered.
    missing_since: Option<SystemTime>,
    /// Where another process stopped, if this one continues from there.
    before: Option<Box<ResumeToken>>,
}

impl Progress {
    /// Where another process stopped. That place is good until this process has a mark of
    /// its own; what is read until then is remembered with it.
    pub(super) fn after(token: &ResumeToken) -> Self {
        Self {
            mark: None,
            keys: token.seen.iter().copied().collect(),
            since_mark: token.seen.len(),
            pushed: restored(&token.pushed),
            found: restored(&token.found),
            positions: token.positions.clone(),
            missing_since: token.missing_since(),
            before: Some(Box::new(token.clone())),
        }
    }

    pub(super) fn is_after_restart(&self) -> bool {
        self.before.is_some()
    }

    pub(super) fn take_in(&mut self, step: Step) {
        match step {
            Step::Event(Traces { key, subjects, found, at }) => {
                self.since_mark += usize::from(key.is_some());
                self.keys.extend(key);
                keep_last(&mut self.keys, (self.since_mark + KEYS_BEFORE_MARK).min(SERVED_AT_ONCE));
                let delivered = if found { &mut self.found } else { &mut self.pushed };
                delivered.extend(subjects.into_iter().map(|subject| (at, subject)));
                keep_last(delivered, SUBJECTS_KEPT);
            }
            Step::Gap(since) => {
                self.missing_since = Some(self.missing_since.map_or(since, |before| before.min(since)));
            }
            Step::GapEnd => self.missing_since = None,
            // The service will repeat everything since the mark, and a few events before it, as a position of PubNub
            // may lie a little before the events of its answer.
            Step::Mark(mark) => {
                // At the same cursor it repeats the same: a restart, or a move to another address.
                if self.cursor() != Some(&mark.cursor) {
                    self.since_mark = 0;
                    keep_last(&mut self.keys, KEYS_BEFORE_MARK);
                }
                self.mark = Some(mark);
            }
            Step::Position { source, position } => {
                let made_at = position.token.made_at();
                let all = self.pushed.iter_mut().chain(&mut self.found);
                all.for_each(|(at, _)| *at = at.or(Some(made_at)));
                self.positions.entry(source.to_owned()).or_default().push(position);
                self.forget_before_positions();
            }
        }
    }

    fn cursor(&self) -> Option<&Cursor> {
        match (&self.mark, &self.before) {
            (Some(mark), _) => Some(&mark.cursor),
            (None, before) => before.as_ref()?.cursor.as_ref(),
        }
    }

    /// No source is asked again for what came long before its position.
    fn forget_before_positions(&mut self) {
        let oldest = self.positions.values().filter_map(|all| Some(all.oldest()?.token.made_at())).min();
        let Some(cut) = oldest.and_then(|at| at.checked_sub(BEFORE_POSITION)) else { return };
        for subjects in [&mut self.pushed, &mut self.found] {
            subjects.retain(|(at, _)| at.is_none_or(|at| at >= cut));
        }
    }

    /// Where to continue; `None` before the first mark, unless another process had a place.
    pub(super) fn token(&self) -> Option<ResumeToken> {
        let mut token = match self.mark.clone() {
            Some(Mark { cursor, endpoint, proven }) => {
                let mut token =
                    ResumeToken::new(endpoint.id.clone(), endpoint.fingerprint.clone(), Some(cursor), proven);
                token.owner.clone_from(&endpoint.owner);
                token
            }
            None => ResumeToken::clone(self.before.as_deref()?),
        };
        token.seen = self.keys.iter().copied().collect();
        token.pushed = self.pushed.iter().map(|(_, subject)| *subject).collect();
        token.found = self.found.iter().map(|(_, subject)| *subject).collect();
        token.positions.clone_from(&self.positions);
        token.missing_since = self.missing_since.map(Timestamp::from);
        Some(token)
    }
}

/// What a token remembers came before it was made, and so before the first position of the
/// process that continues from it.
fn restored(keys: &[DedupKey]) -> Subjects {
    keys.iter().map(|key| (None, *key)).collect()
}

fn keep_last<T>(keys: &mut VecDeque<T>, most: usize) {
    while keys.len() > most {
        keys.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::continuity::Proven;
    use super::super::endpoint::Endpoint;
    use super::*;
    use crate::catch_up::SyncToken;

    fn mark(n: u64) -> Step {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(n);
        let endpoint = Arc::new(Endpoint { id: "sub-1".into(), fingerprint: "f".into(), owner: Some("7".into()) });
        Step::Mark(Mark { cursor: Cursor::at(at), endpoint, proven: Proven::all(at) })
    }

    fn event(n: usize, found: bool) -> Step {
        let key = |tag| DedupKey::over(tag, &[&n.to_string()]);
        Step::Event(Traces { key: Some(key(1)), subjects: vec![key(2)], found, at: None })
    }

    #[test]
    fn events_that_the_service_will_repeat_are_remembered_and_few_others() {
        let mut progress = Progress::default();
        for n in 0..1000 {
            progress.take_in(event(n, false));
        }
        assert_eq!(progress.token(), None, "nothing to go on from");
        progress.take_in(mark(1));
        assert_eq!(progress.token().unwrap().seen.len(), KEYS_BEFORE_MARK);
        for n in 0..500 {
            progress.take_in(event(n, false));
        }
        assert_eq!(progress.token().unwrap().seen.len(), 500 + KEYS_BEFORE_MARK);
        for n in 0..2 * SERVED_AT_ONCE {
            progress.take_in(event(n, n % 2 == 0));
        }
        let token = progress.token().unwrap();
        assert_eq!(
            (token.seen.len(), token.pushed.len(), token.found.len()),
            (SERVED_AT_ONCE, SERVED_AT_ONCE + 1500, SERVED_AT_ONCE)
        );
    }

    fn at(secs: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
    }

    fn position(source: &'static str, secs: u64) -> Step {
        Step::Position { source, position: SourcePosition::new(SyncToken::new("t", at(secs)), false, at(secs)) }
    }

    /// Found 4.5: 3 000 read since the position, and each of them would be found again.
    #[test]
    fn subjects_are_remembered_as_far_back_as_a_source_is_queried() {
        let mut progress = Progress::default();
        progress.take_in(mark(1));
        progress.take_in(position("a", 5_000));
        for n in 0..3_000 {
            let key = DedupKey::over(2, &[&n.to_string()]);
            let traces = Traces { key: None, subjects: vec![key], found: false, at: Some(at(5_000 + n)) };
            progress.take_in(Step::Event(traces));
        }
        let kept = |progress: &Progress| progress.token().unwrap().pushed.len();
        assert_eq!(kept(&progress), 3_000);
        // Another source is still at its position.
        for (source, secs, want) in [
            ("b", 4_000, 3_000),
            ("a", 8_000, 3_000),
            ("a", 11_000, 3_000),
            ("a", 14_000, 3_000),
            ("a", 17_000, 3_000),
            ("b", 8_000, 3_000),
            ("b", 11_000, 3_000),
            ("b", 14_000, 3_000),
            // The four that are remembered of each source begin at 8 000.
            ("b", 17_000, 600),
        ] {
            progress.take_in(position(source, secs));
            assert_eq!(kept(&progress), want, "{source} {secs}");
        }
        let restored = Progress::after(&progress.token().unwrap());
        assert_eq!(restored.pushed.len(), 600);
    }

    fn stored(progress: &Progress) -> ResumeToken {
        progress.token().unwrap().to_string().parse().unwrap()
    }

    #[test]
    fn a_token_names_the_beginning_of_the_gaps_without_an_end() {
        let mut progress = Progress::default();
        progress.take_in(mark(900));
        let missing = |progress: &Progress| stored(progress).missing_since();
        assert_eq!(missing(&progress), None);
        for (step, want) in [
            (Step::Gap(at(500)), Some(500)),
            (Step::Gap(at(700)), Some(500)),
            (Step::Gap(at(300)), Some(300)),
            (mark(950), Some(300)),
            (Step::GapEnd, None),
            (Step::Gap(at(800)), Some(800)),
        ] {
            progress.take_in(step);
            assert_eq!(missing(&progress), want.map(at));
        }
        assert_eq!(missing(&Progress::after(&stored(&progress))), Some(at(800)));
    }

    /// An acknowledgement of it would be kept nowhere, and it would come again.
    #[test]
    fn what_a_process_reads_before_its_first_mark_is_kept_with_the_place_of_the_former_one() {
        let mut progress = Progress::default();
        progress.take_in(mark(3));
        let former = stored(&progress);
        let mut again = Progress::after(&former);
        again.take_in(event(1, true));
        again.take_in(position("s", 5));
        let token = stored(&again);
        assert_eq!((&token.cursor, &token.proven, &token.owner), (&former.cursor, &former.proven, &former.owner));
        assert_eq!((token.seen.len(), token.found.len(), token.positions.len()), (1, 1, 1));
        again.take_in(mark(9));
        assert_eq!(again.token().unwrap().cursor, Some(Cursor::at(at(9))));
    }

    #[test]
    fn a_mark_at_the_same_cursor_forgets_nothing_of_what_the_service_repeats() {
        let mut progress = Progress::default();
        progress.take_in(mark(2_000_000_003));
        for n in 0..3 * KEYS_BEFORE_MARK {
            progress.take_in(event(n, false));
        }
        let token = stored(&progress);
        for mut progress in [progress, Progress::after(&token)] {
            progress.take_in(mark(2_000_000_003));
            progress.take_in(event(1000, false));
            assert_eq!(progress.token().unwrap().seen.len(), 3 * KEYS_BEFORE_MARK + 1);
            progress.take_in(mark(2_000_000_004));
            assert_eq!(progress.token().unwrap().seen.len(), KEYS_BEFORE_MARK);
        }
    }

    /// The events came before any source was asked, or later than the newest position says.
    #[test]
    fn what_a_token_remembers_outlives_the_first_positions_of_the_next_process() {
        for newest in [None, Some(5_000)] {
            let mut progress = Progress::default();
            progress.take_in(mark(1));
            newest.into_iter().for_each(|secs| progress.take_in(position("a", secs)));
            let key = DedupKey::over(2, &["x"]);
            let traces = Traces { key: None, subjects: vec![key], found: false, at: Some(at(6_790)) };
            progress.take_in(Step::Event(traces));
            let mut again = Progress::after(&stored(&progress));
            for secs in [6_800, 6_900, 7_000, 7_100, 7_200] {
                again.take_in(position("a", secs));
            }
            assert_eq!(again.token().unwrap().pushed, [key], "{newest:?}");
            for secs in [9_000, 10_000, 11_000, 12_000] {
                again.take_in(position("a", secs));
            }
            assert!(again.token().unwrap().pushed.is_empty(), "{newest:?}");
        }
    }

    #[test]
    fn a_token_read_again_gives_the_same_token_with_the_next_mark() {
        let mut progress = Progress::default();
        for n in 0..10 {
            progress.take_in(event(n, n > 5));
        }
        let position = SourcePosition::new(SyncToken::new("t", SystemTime::UNIX_EPOCH), true, SystemTime::UNIX_EPOCH);
        progress.take_in(Step::Position { source: "s", position });
        progress.take_in(mark(3));
        let token: ResumeToken = progress.token().unwrap().to_string().parse().unwrap();
        let mut again = Progress::after(&token);
        assert_eq!(again.token(), Some(token.clone()), "nothing was read yet");
        again.take_in(mark(3));
        assert_eq!(again.token(), Some(token));
    }
}
