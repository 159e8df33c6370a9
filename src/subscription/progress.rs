//! How far a stream was read. Pure.

use std::collections::{BTreeMap, VecDeque};

use super::driver::Mark;
use super::resume::{Position, ResumeToken};
use crate::event::DedupKey;

/// So many keys of events that share a batch are kept for the resume token. A
/// batch of the service holds at most a few hundred events.
const KEYS_KEPT: usize = 4096;
/// So many keys from before the last position: one answer of the service.
const KEYS_BEFORE_MARK: usize = 100;
/// So many things that events were about are kept of each origin: what a source is
/// asked for after a restart reaches back behind the last position.
const SUBJECTS_KEPT: usize = 2048;

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
}

/// What the reader has been handed, or has finished.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    mark: Option<Mark>,
    /// Of the events handed out last.
    keys: VecDeque<DedupKey>,
    /// How many of them came since the mark.
    since_mark: usize,
    pushed: VecDeque<DedupKey>,
    found: VecDeque<DedupKey>,
    positions: BTreeMap<String, Position>,
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
            pushed: token.pushed.iter().copied().collect(),
            found: token.found.iter().copied().collect(),
            positions: token.positions.clone(),
            resumed: true,
        }
    }

    pub(super) fn is_after_restart(&self) -> bool {
        self.resumed
    }

    pub(super) fn take_in(&mut self, step: Step) {
        match step {
            Step::Event(Traces { key, subjects, found }) => {
                self.since_mark += usize::from(key.is_some());
                self.keys.extend(key);
                keep_last(&mut self.keys, (self.since_mark + KEYS_BEFORE_MARK).min(KEYS_KEPT));
                let told = if found { &mut self.found } else { &mut self.pushed };
                told.extend(subjects);
                keep_last(told, SUBJECTS_KEPT);
            }
            // What the service will repeat: all since the mark, and a few before it, as a
            // position of PubNub may lie a little before the events it came with.
            Step::Mark(mark) => {
                self.mark = Some(mark);
                self.since_mark = 0;
                keep_last(&mut self.keys, KEYS_BEFORE_MARK);
            }
            Step::Position { source, position } => drop(self.positions.insert(source.to_owned(), position)),
        }
    }

    /// Where to go on; `None` before the first mark.
    pub(super) fn token(&self) -> Option<ResumeToken> {
        let Mark { cursor, place, proven } = self.mark.clone()?;
        let mut token = ResumeToken::new(place.id.clone(), place.fingerprint.clone(), Some(cursor), proven);
        token.seen = self.keys.iter().copied().collect();
        token.pushed = self.pushed.iter().copied().collect();
        token.found = self.found.iter().copied().collect();
        token.positions.clone_from(&self.positions);
        Some(token)
    }
}

fn keep_last(keys: &mut VecDeque<DedupKey>, most: usize) {
    while keys.len() > most {
        keys.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use super::super::continuity::Proven;
    use super::super::driver::Place;
    use super::*;
    use crate::catch_up::SyncToken;
    use crate::transport::Cursor;

    fn mark(n: u64) -> Step {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(n);
        let place = Arc::new(Place { id: "sub-1".into(), fingerprint: "f".into() });
        Step::Mark(Mark { cursor: Cursor::at(at), place, proven: Proven::all(at) })
    }

    fn event(n: usize, found: bool) -> Step {
        let key = |tag| DedupKey::over(tag, &[&n.to_string()]);
        Step::Event(Traces { key: Some(key(1)), subjects: vec![key(2)], found })
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
        assert_eq!(
            (token.seen.len(), token.pushed.len(), token.found.len()),
            (KEYS_KEPT, SUBJECTS_KEPT, SUBJECTS_KEPT)
        );
    }

    #[test]
    fn a_token_read_again_gives_the_same_token_with_the_next_mark() {
        let mut progress = Progress::default();
        for n in 0..10 {
            progress.take_in(event(n, n > 5));
        }
        let position = Position::new(SyncToken::new("t", SystemTime::UNIX_EPOCH), true);
        progress.take_in(Step::Position { source: "s", position });
        progress.take_in(mark(3));
        let token: ResumeToken = progress.token().unwrap().to_string().parse().unwrap();
        let mut again = Progress::after(&token);
        assert_eq!(again.token(), None);
        again.take_in(mark(3));
        assert_eq!(again.token(), Some(token));
    }
}
