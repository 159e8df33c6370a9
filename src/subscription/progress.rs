//! How far a stream was read. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use super::driver::Mark;
use super::positions::Positions;
use super::resume::{Position, ResumeToken};
use crate::event::DedupKey;

/// So many keys of events that share a batch are kept for the resume token. A
/// batch of the service holds at most a few hundred events.
const KEYS_KEPT: usize = 4096;
/// So many keys from before the last position: one answer of the service.
const KEYS_BEFORE_MARK: usize = 100;
/// So many things that events were about are kept of each origin, at most: what a source
/// is asked for after a restart reaches back to its position, which is renewed when about
/// a quarter of this came since (found 4.5).
const SUBJECTS_KEPT: usize = 16_384;
/// A source is asked from before its position: by the service's overlap, the time in which
/// a record may enter a log late, and the difference of two clocks.
const BEFORE_POSITION: Duration = Duration::from_secs(600);

/// One step of reading.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// An event was handed out.
    Event(Traces),
    /// Everything before this was.
    Mark(Mark),
    /// Everything that a source knows up to this position was.
    Position { source: &'static str, position: Position },
}

/// By what a delivery is known again.
#[derive(Clone, Debug, Default)]
pub(in crate::subscription) struct Traces {
    /// The event's own key.
    pub(in crate::subscription) key: Option<DedupKey>,
    /// What it is about.
    pub(in crate::subscription) subjects: Vec<DedupKey>,
    /// Whether a catch-up source found it.
    pub(in crate::subscription) found: bool,
    /// When it came.
    pub(in crate::subscription) at: Option<SystemTime>,
}

/// What events were about, with the time when they came.
type Subjects = VecDeque<(SystemTime, DedupKey)>;

/// What the reader has been handed, or has finished.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    mark: Option<Mark>,
    /// Of the events handed out last.
    keys: VecDeque<DedupKey>,
    /// How many of them came since the mark.
    since_mark: usize,
    pushed: Subjects,
    found: Subjects,
    positions: BTreeMap<String, Positions>,
    /// Whether it goes on from where another process stopped.
    resumed: bool,
}

impl Progress {
    /// Where another process stopped. It has no mark of its own before something
    /// was read: the token is good until then.
    pub(super) fn after(token: &ResumeToken) -> Self {
        Self {
            mark: None,
            keys: token.seen.iter().copied().collect(),
            since_mark: 0,
            pushed: restored(token, &token.pushed),
            found: restored(token, &token.found),
            positions: token.positions.clone(),
            resumed: true,
        }
    }

    pub(super) fn is_after_restart(&self) -> bool {
        self.resumed
    }

    pub(super) fn take_in(&mut self, step: Step) {
        match step {
            Step::Event(Traces { key, subjects, found, at }) => {
                self.since_mark += usize::from(key.is_some());
                self.keys.extend(key);
                keep_last(&mut self.keys, (self.since_mark + KEYS_BEFORE_MARK).min(KEYS_KEPT));
                let told = if found { &mut self.found } else { &mut self.pushed };
                let at = at.unwrap_or(SystemTime::UNIX_EPOCH);
                told.extend(subjects.into_iter().map(|subject| (at, subject)));
                keep_last(told, SUBJECTS_KEPT);
            }
            // What the service will repeat: all since the mark, and a few before it, as a
            // position of PubNub may lie a little before the events it came with.
            Step::Mark(mark) => {
                self.mark = Some(mark);
                self.since_mark = 0;
                keep_last(&mut self.keys, KEYS_BEFORE_MARK);
            }
            Step::Position { source, position } => {
                self.positions.entry(source.to_owned()).or_default().push(position);
                self.forget_before_positions();
            }
        }
    }

    /// No source is asked again for what came long before its position.
    fn forget_before_positions(&mut self) {
        let oldest = self.positions.values().filter_map(|all| Some(all.oldest()?.token.made_at())).min();
        let Some(cut) = oldest.and_then(|at| at.checked_sub(BEFORE_POSITION)) else { return };
        self.pushed.retain(|(at, _)| *at >= cut);
        self.found.retain(|(at, _)| *at >= cut);
    }

    /// Where to go on; `None` before the first mark.
    pub(super) fn token(&self) -> Option<ResumeToken> {
        let Mark { cursor, place, proven } = self.mark.clone()?;
        let mut token = ResumeToken::new(place.id.clone(), place.fingerprint.clone(), Some(cursor), proven);
        token.seen = self.keys.iter().copied().collect();
        token.pushed = self.pushed.iter().map(|(_, subject)| *subject).collect();
        token.found = self.found.iter().map(|(_, subject)| *subject).collect();
        token.positions.clone_from(&self.positions);
        token.owner.clone_from(&place.owner);
        Some(token)
    }
}

/// What a token remembers came at some time before it was made, and no later than its
/// newest position.
fn restored(token: &ResumeToken, keys: &[DedupKey]) -> Subjects {
    let newest = token.positions.values().filter_map(|all| Some(all.newest()?.token.made_at())).max();
    let at = newest.unwrap_or(SystemTime::UNIX_EPOCH);
    keys.iter().map(|key| (at, *key)).collect()
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
    use super::super::driver::Place;
    use super::*;
    use crate::catch_up::SyncToken;
    use crate::transport::Cursor;

    fn mark(n: u64) -> Step {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(n);
        let place = Arc::new(Place { id: "sub-1".into(), fingerprint: "f".into(), owner: Some("7".into()) });
        Step::Mark(Mark { cursor: Cursor::at(at), place, proven: Proven::all(at) })
    }

    fn event(n: usize, found: bool) -> Step {
        let key = |tag| DedupKey::over(tag, &[&n.to_string()]);
        Step::Event(Traces { key: Some(key(1)), subjects: vec![key(2)], found, at: None })
    }

    #[test]
    fn what_the_service_will_repeat_is_kept_and_not_much_more() {
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
        for n in 0..2 * KEYS_KEPT {
            progress.take_in(event(n, n % 2 == 0));
        }
        let token = progress.token().unwrap();
        assert_eq!((token.seen.len(), token.pushed.len(), token.found.len()), (KEYS_KEPT, KEYS_KEPT + 1500, KEYS_KEPT));
    }

    fn at(secs: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
    }

    fn position(source: &'static str, secs: u64) -> Step {
        Step::Position { source, position: Position::new(SyncToken::new("t", at(secs)), false, at(secs)) }
    }

    /// Found 4.5: 3 000 read since the position, and each of them would be found again.
    #[test]
    fn what_events_were_about_is_kept_as_far_back_as_a_source_is_asked_for() {
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
        // Another source still stands where it did.
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

    #[test]
    fn a_token_read_again_gives_the_same_token_with_the_next_mark() {
        let mut progress = Progress::default();
        for n in 0..10 {
            progress.take_in(event(n, n > 5));
        }
        let position = Position::new(SyncToken::new("t", SystemTime::UNIX_EPOCH), true, SystemTime::UNIX_EPOCH);
        progress.take_in(Step::Position { source: "s", position });
        progress.take_in(mark(3));
        let token: ResumeToken = progress.token().unwrap().to_string().parse().unwrap();
        let mut again = Progress::after(&token);
        assert_eq!(again.token(), None);
        again.take_in(mark(3));
        assert_eq!(again.token(), Some(token));
    }
}
