//! Which deliveries are acknowledged, and the position that follows from it. Pure.
//!
//! Every delivery has a number: 1 for the first one of a stream, and one more for each after it. What is acknowledged is
//! a low-water mark, everything up to a number, and single numbers above it. A reader that requests the next item, a
//! cumulative acknowledgement and one of a single delivery are the same to it, and so is any other consumer.
//!
//! The position never passes a delivery that is not acknowledged: the steps of the stream behind it wait. A restart
//! continues at the position and the service repeats what follows. The keys of what was acknowledged above the mark are
//! stored with the position, so that exactly the rest is delivered again. A gap and its end have no keys: they come
//! again with the position before them. Numbers are those of one stream; after a restart its events are recognized by
//! their keys.

use std::collections::VecDeque;

use super::progress::{Progress, SERVED_AT_ONCE, Step, Traces};
use super::resume::ResumeToken;
use crate::error::{Error, ErrorKind, Result};

/// The most steps that wait behind the low-water mark: what is acknowledged among them fits in the default window of a
/// restart's duplicates, together with what the service repeats before them. Beyond it a cumulative acknowledgement is
/// required.
pub(super) const TRACKED: usize = SERVED_AT_ONCE;

/// A step behind the low-water mark.
#[derive(Debug)]
struct Waiting {
    /// The number of the delivery, or of the one before the step.
    number: u64,
    step: Step,
    acknowledged: bool,
    /// How often the reader gave it back.
    returned: u32,
    /// Whether it is to come again.
    comes_again: bool,
}

/// Owns the numbers of the deliveries and what is acknowledged of them.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    /// The number of the last delivery.
    last: u64,
    /// Everything up to the low-water mark.
    done: Progress,
    /// The steps behind it, in the order of the stream.
    waiting: VecDeque<Waiting>,
    /// How many of them are to come again.
    coming_again: usize,
    /// Everything that was read, while more waits than is tracked.
    read: Option<Box<Progress>>,
}

impl Acknowledged {
    pub(super) fn new(done: Progress) -> Self {
        Self { done, ..Self::default() }
    }

    /// The number of the last delivery; 0 before the first one.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Whether another process acknowledged something before.
    pub(super) fn is_after_restart(&self) -> bool {
        self.done.is_after_restart()
    }

    /// The stream passed a step. Returns whether the position moved.
    pub(super) fn pass(&mut self, step: Step) -> bool {
        let is_delivery = step.is_delivery();
        self.last += u64::from(is_delivery);
        // The first position of a source covers nothing before it: a source is asked from an older place for what is
        // not acknowledged, and from this one for the changes that no later position shows.
        let is_first = matches!(&step, Step::Position { position, .. } if position.begun);
        if let Some(read) = &mut self.read {
            read.take_in(step.clone());
        }
        if is_first || !is_delivery && self.waiting.is_empty() && self.read.is_none() {
            self.done.take_in(step);
            return true;
        }
        if self.read.is_none() && !self.replace(&step) {
            if self.waiting.len() < TRACKED {
                self.waiting.push_back(Waiting {
                    number: self.last,
                    step,
                    acknowledged: !is_delivery,
                    returned: 0,
                    comes_again: false,
                });
            } else {
                let mut read = self.read();
                read.take_in(step);
                self.read = Some(Box::new(read));
            }
        }
        false
    }

    /// A newer position replaces the former one if no delivery is between them.
    fn replace(&mut self, step: &Step) -> bool {
        let is_former = |former: &Step| match (former, step) {
            (Step::Mark(_), Step::Mark(_)) => true,
            (Step::Position { source: former, .. }, Step::Position { source, .. }) => former == source,
            _ => false,
        };
        let behind = self.waiting.iter_mut().rev().take_while(|it| !it.step.is_delivery());
        let former = behind.map(|it| &mut it.step).find(|former| is_former(former));
        former.map(|former| *former = step.clone()).is_some()
    }

    /// Acknowledges one delivery. Returns whether anything changed.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a delivery that was not made; [`ErrorKind::Busy`] for one beyond those that are tracked.
    pub(super) fn acknowledge(&mut self, number: u64) -> Result<bool> {
        let Some(it) = self.unacknowledged(number)? else { return Ok(false) };
        it.acknowledged = true;
        self.coming_again -= usize::from(std::mem::take(&mut it.comes_again));
        self.advance();
        Ok(true)
    }

    /// A delivery that is not acknowledged; `None` if it is.
    fn unacknowledged(&mut self, number: u64) -> Result<Option<&mut Waiting>> {
        if number == 0 || number > self.last {
            return Err(Error::config(format!("the stream has made no delivery with the number {number}")));
        }
        let at = self.waiting.partition_point(|it| it.number < number);
        let Some(it) = self.waiting.get_mut(at) else {
            let text = "too many deliveries wait for an acknowledgement: acknowledge all that were read";
            return if self.read.is_some() { Err(Error::new(ErrorKind::Busy, text)) } else { Ok(None) };
        };
        Ok(Some(it).filter(|it| it.number == number && !it.acknowledged))
    }

    fn advance(&mut self) {
        let reached = self.waiting.iter().take_while(|it| it.acknowledged).count();
        self.waiting.drain(..reached).for_each(|it| self.done.take_in(it.step));
    }

    /// The reader gives a delivery back: until it was delivered again, only an acknowledgement of it alone counts.
    /// Returns how often it was given back.
    ///
    /// # Errors
    /// As [`acknowledge`](Self::acknowledge); [`ErrorKind::Config`] for one that is acknowledged, or that waits to come
    /// again.
    pub(super) fn give_back(&mut self, number: u64) -> Result<u32> {
        let done =
            || Error::config(format!("the delivery with the number {number} is acknowledged, or comes again already"));
        let it = self.unacknowledged(number)?.filter(|it| !it.comes_again).ok_or_else(done)?;
        it.comes_again = true;
        it.returned = it.returned.saturating_add(1);
        let returned = it.returned;
        self.coming_again += 1;
        Ok(returned)
    }

    /// Takes back what [`give_back`](Self::give_back) did.
    pub(super) fn undo_give_back(&mut self, number: u64) {
        if let Ok(Some(it)) = self.unacknowledged(number) {
            let came = std::mem::take(&mut it.comes_again);
            it.returned -= u32::from(came);
            self.coming_again -= usize::from(came);
        }
    }

    /// The reader gives a delivery back without having tried it.
    pub(super) fn put_back(&mut self, number: u64) -> Result<()> {
        let Some(it) = self.unacknowledged(number)? else { return Ok(()) };
        let already = std::mem::replace(&mut it.comes_again, true);
        self.coming_again += usize::from(!already);
        Ok(())
    }

    /// A delivery was delivered again. Returns which attempt this is.
    pub(super) fn delivered_again(&mut self, number: u64) -> u32 {
        let Ok(Some(it)) = self.unacknowledged(number) else { return 1 };
        let attempt = it.returned.saturating_add(1);
        let came = std::mem::take(&mut it.comes_again);
        self.coming_again -= usize::from(came);
        attempt
    }

    /// Acknowledges everything that was delivered, except for what is to come again: behind that the position rests.
    /// Returns whether anything changed.
    pub(super) fn acknowledge_all(&mut self) -> bool {
        if self.coming_again > 0 {
            let mut changes = false;
            for it in self.waiting.iter_mut().filter(|it| !it.comes_again && !it.acknowledged) {
                it.acknowledged = true;
                changes = true;
            }
            self.advance();
            return changes;
        }
        let moves = self.read.is_some() || !self.waiting.is_empty();
        let waiting = std::mem::take(&mut self.waiting);
        match self.read.take() {
            Some(read) => self.done = *read,
            None => waiting.into_iter().for_each(|it| self.done.take_in(it.step)),
        }
        moves
    }

    /// Where another process continues.
    pub(super) fn token(&self) -> Option<ResumeToken> {
        let mut token = self.done.token()?;
        for it in self.waiting.iter().filter(|it| it.acknowledged) {
            if let Step::Event(Traces { key, subjects, found, .. }) = &it.step {
                token.seen.extend(key);
                if *found { &mut token.found } else { &mut token.pushed }.extend(subjects);
            }
        }
        Some(token)
    }

    /// Where another process continues if everything that was delivered is done.
    pub(super) fn read_token(&self) -> Option<ResumeToken> {
        match &self.read {
            Some(read) => read.token(),
            None => self.read().token(),
        }
    }

    fn read(&self) -> Progress {
        let mut read = self.done.clone();
        self.waiting.iter().for_each(|it| read.take_in(it.step.clone()));
        read
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::super::continuity::Proven;
    use super::super::endpoint::Endpoint;
    use super::super::positions::SourcePosition;
    use super::super::resume::Mark;
    use super::*;
    use crate::catch_up::SyncToken;
    use crate::control::Cursor;
    use crate::event::DedupKey;

    fn at(n: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000 + n)
    }

    fn key(n: u64) -> DedupKey {
        DedupKey::over(1, &[&n.to_string()])
    }

    /// An event, pushed or found, which is known again by its key or its subject.
    fn event(n: u64, found: bool) -> Step {
        let (key, subjects) = if found { (None, vec![key(n)]) } else { (Some(key(n)), vec![key(n)]) };
        Step::Event(Traces { key, subjects, found, at: None })
    }

    /// Everything up to `n` was read.
    fn mark(n: u64) -> Step {
        let endpoint = Arc::new(Endpoint { id: "s".into(), fingerprint: String::new(), owner: None });
        Step::Mark(Mark { cursor: Cursor::at(at(n)), endpoint, proven: Proven::all(at(n)) })
    }

    fn position(source: &'static str, n: u64, begun: bool) -> Step {
        Step::Position { source, position: SourcePosition::new(SyncToken::new(n.to_string(), at(n)), begun, at(n)) }
    }

    fn cursor(acks: &Acknowledged, token: fn(&Acknowledged) -> Option<ResumeToken>) -> Option<u64> {
        let token = token(acks)?;
        (0..100).find(|n| token.cursor == Some(Cursor::at(at(*n))))
    }

    /// Acknowledges a number; 0 stands for everything.
    fn ack(acks: &mut Acknowledged, number: u64) -> bool {
        if number == 0 { acks.acknowledge_all() } else { acks.acknowledge(number).unwrap() }
    }

    #[test]
    fn the_position_moves_up_to_the_first_delivery_that_is_not_acknowledged() {
        // What is acknowledged, and where a restart continues: marks stand behind 2, 4 and 5.
        for (numbers, position) in [
            (&[][..], 0),
            (&[1], 0),
            (&[1, 2], 2),
            (&[2, 1], 2),
            (&[2, 3, 4], 0),
            (&[2, 3, 4, 1], 4),
            (&[1, 2, 4, 5, 6], 2),
            (&[1, 1, 2, 2], 2),
            (&[0], 5),
            (&[3, 0], 5),
            (&[5, 4, 3, 2, 1], 5),
        ] {
            let mut acks = Acknowledged::default();
            assert!(acks.pass(mark(0)), "nothing is before it");
            for n in 1..=6 {
                assert!(!acks.pass(event(n, false)));
                assert_eq!(acks.last(), n);
                if [2, 4, 5].contains(&n) {
                    assert!(!acks.pass(mark(n)));
                }
            }
            for number in numbers {
                ack(&mut acks, *number);
            }
            assert_eq!(cursor(&acks, Acknowledged::token), Some(position), "{numbers:?}");
            assert_eq!(cursor(&acks, Acknowledged::read_token), Some(5), "all was read");
        }
    }

    #[test]
    fn what_comes_again_is_acknowledged_by_itself_only_and_the_position_stays_before_it() {
        let mut acks = Acknowledged::default();
        acks.pass(mark(0));
        for n in 1..=4 {
            acks.pass(event(n, false));
            acks.pass(mark(n));
        }
        assert_eq!(acks.give_back(2).unwrap(), 1);
        assert_eq!(acks.give_back(2).unwrap_err().kind(), ErrorKind::Config, "it comes again already");
        assert!(acks.acknowledge_all() && !acks.acknowledge_all());
        assert_eq!(cursor(&acks, Acknowledged::token), Some(1));
        assert_eq!(acks.token().unwrap().seen, [key(1), key(3), key(4)], "a restart repeats the second alone");
        assert_eq!(acks.give_back(1).unwrap_err().kind(), ErrorKind::Config, "it is acknowledged");
        assert_eq!(acks.give_back(5).unwrap_err().kind(), ErrorKind::Config, "it was not delivered");
        assert_eq!(acks.delivered_again(2), 2);
        assert_eq!(acks.give_back(2).unwrap(), 2);
        acks.undo_give_back(2);
        assert_eq!((acks.give_back(2).unwrap(), acks.delivered_again(2)), (2, 3));
        assert!(acks.acknowledge_all());
        assert_eq!((cursor(&acks, Acknowledged::token), acks.coming_again), (Some(4), 0));
        acks.pass(event(5, false));
        acks.give_back(5).unwrap();
        assert!(acks.acknowledge(5).unwrap(), "it may be acknowledged meanwhile");
        assert_eq!((acks.waiting.len(), acks.coming_again), (0, 0));
    }

    #[test]
    fn an_acknowledgement_says_whether_it_changed_anything_and_refuses_unknown_numbers() {
        let mut acks = Acknowledged::default();
        assert!(!acks.acknowledge_all());
        for n in 1..=3 {
            acks.pass(event(n, false));
        }
        for (number, changes) in [(2, true), (2, false), (1, true), (1, false), (3, true), (3, false)] {
            assert_eq!(acks.acknowledge(number).unwrap(), changes, "{number}");
        }
        for number in [0, 4, u64::MAX] {
            assert_eq!(acks.acknowledge(number).unwrap_err().kind(), ErrorKind::Config, "{number}");
        }
        assert!(!acks.acknowledge_all());
        acks.pass(event(4, false));
        assert!(acks.acknowledge_all() && !acks.acknowledge_all());
        assert!(acks.pass(mark(4)), "nothing waits");
    }

    #[test]
    fn positions_of_sources_wait_like_marks_except_for_the_first_one() {
        let positions = |acks: &Acknowledged| {
            acks.token()
                .unwrap()
                .positions
                .into_iter()
                .map(|(name, all)| {
                    let newest = all.newest().map(|it| it.token.text().expose().to_owned());
                    (name, newest.unwrap_or_default())
                })
                .collect::<Vec<_>>()
        };
        let mut acks = Acknowledged::default();
        acks.pass(mark(0));
        acks.pass(event(1, true));
        assert!(acks.pass(position("a", 1, true)), "it covers nothing before it");
        for step in [position("b", 2, false), mark(1), position("a", 3, false), position("a", 4, false), mark(2)] {
            assert!(!acks.pass(step));
        }
        assert_eq!(acks.waiting.len(), 4, "newer ones take the place of the former");
        assert_eq!(positions(&acks), [("a".to_owned(), "1".to_owned())]);
        ack(&mut acks, 1);
        assert_eq!(positions(&acks), [("a".to_owned(), "4".to_owned()), ("b".to_owned(), "2".to_owned())]);
        assert_eq!(cursor(&acks, Acknowledged::token), Some(2));
        // A delivery is between them.
        for n in 2..=3 {
            acks.pass(event(n, true));
            acks.pass(mark(10 + n));
        }
        ack(&mut acks, 2);
        assert_eq!((acks.waiting.len(), cursor(&acks, Acknowledged::token)), (2, Some(12)));
    }

    #[test]
    fn beyond_what_is_tracked_only_all_can_be_acknowledged_and_the_position_rests() {
        let tracked = TRACKED as u64;
        let mut acks = Acknowledged::default();
        acks.pass(mark(0));
        for n in 1..=tracked + 10 {
            acks.pass(event(n, false));
        }
        acks.pass(mark(1));
        assert!(acks.pass(position("a", 1, true)));
        assert_eq!(acks.waiting.len(), TRACKED);
        assert_eq!(acks.acknowledge(tracked + 1).unwrap_err().kind(), ErrorKind::Busy);
        for n in 2..=tracked {
            acks.acknowledge(n).unwrap();
        }
        assert_eq!(acks.token().unwrap().seen.len(), TRACKED - 1);
        assert_eq!(acks.acknowledge(tracked + 10).unwrap_err().kind(), ErrorKind::Busy);
        acks.acknowledge(1).unwrap();
        assert!(acks.waiting.is_empty());
        acks.pass(event(tracked + 11, false));
        acks.pass(mark(2));
        assert_eq!(acks.acknowledge(tracked + 11).unwrap_err().kind(), ErrorKind::Busy);
        assert_eq!((cursor(&acks, Acknowledged::token), cursor(&acks, Acknowledged::read_token)), (Some(0), Some(2)));
        assert!(acks.acknowledge_all());
        assert_eq!((cursor(&acks, Acknowledged::token), acks.token().unwrap().positions.len()), (Some(2), 1));
        acks.pass(event(tracked + 12, false));
        acks.pass(mark(3));
        assert!(acks.acknowledge(tracked + 12).unwrap(), "single ones can be acknowledged again");
        assert_eq!(cursor(&acks, Acknowledged::token), Some(3));
    }

    #[derive(Clone, Debug)]
    enum Act {
        Deliver { found: bool },
        Mark,
        Acknowledge(prop::sample::Index),
        All,
        Restart,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            6 => any::<bool>().prop_map(|found| Act::Deliver { found }),
            2 => Just(Act::Mark),
            6 => any::<prop::sample::Index>().prop_map(Act::Acknowledge),
            1 => Just(Act::All),
            1 => Just(Act::Restart),
        ]
    }

    proptest! {
        /// The service repeats what follows the stored position, and the next process recognizes what it knows.
        #[test]
        fn a_restart_repeats_exactly_what_is_not_acknowledged(acts in prop::collection::vec(act(), 1..120)) {
            let mut acks = Acknowledged::default();
            acks.pass(mark(0));
            // Which are found; what this process delivered, by number; what is acknowledged.
            let (mut log, mut stream, mut acknowledged) = (Vec::new(), Vec::new(), BTreeSet::new());
            for act in acts {
                match act {
                    Act::Deliver { found } => {
                        log.push(found);
                        stream.push(log.len() as u64);
                        acks.pass(event(log.len() as u64, found));
                    }
                    Act::Mark => {
                        acks.pass(mark(log.len() as u64));
                    }
                    Act::Acknowledge(_) if stream.is_empty() => {}
                    Act::Acknowledge(at) => {
                        let at = at.index(stream.len());
                        acks.acknowledge(at as u64 + 1).unwrap();
                        acknowledged.insert(stream[at]);
                    }
                    Act::All => {
                        acks.acknowledge_all();
                        acknowledged.extend(&stream);
                    }
                    Act::Restart => {}
                }
                let token = acks.token().unwrap();
                let from = token.cursor.as_ref().unwrap().time().duration_since(at(0)).unwrap().as_secs();
                let is_known = |n: &u64| {
                    let known = if log[*n as usize - 1] { &token.found } else { &token.seen };
                    known.contains(&key(*n))
                };
                let repeated: Vec<u64> = (from + 1..=log.len() as u64).filter(|n| !is_known(n)).collect();
                let wanted: Vec<u64> = (1..=log.len() as u64).filter(|n| !acknowledged.contains(n)).collect();
                prop_assert_eq!(&repeated, &wanted);
                if matches!(act, Act::Restart) {
                    let stored: ResumeToken = token.to_string().parse().unwrap();
                    acks = Acknowledged::new(Progress::after(&stored));
                    for n in &repeated {
                        acks.pass(event(*n, log[*n as usize - 1]));
                    }
                    stream = repeated;
                }
            }
        }
    }
}
