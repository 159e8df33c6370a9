//! The numbered events of a session, and each id's position among them.

use std::collections::{HashMap, VecDeque};

use super::event::Event;

/// Events whose fate is remembered; older ones are dropped.
const KEPT: usize = 100_000;
/// Ids remembered per session; older ones count as unknown.
const IDS: usize = 10_000;

/// The fate of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fate {
    /// No poll has received it yet.
    Queued,
    /// An answer contained it.
    Answered,
    /// A custom event of the same name replaced it before a poll arrived.
    Overwritten,
    /// A snapshot replaced it: it is lost, or the answer that contained it.
    Missed,
}

#[derive(Debug)]
struct Held {
    event: Event,
    fate: Fate,
}

/// The position of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The last event already sent when the id was issued.
    pub(crate) at: u64,
    /// Issued by a join: its holder has no state yet.
    pub(crate) joined: bool,
    /// The line of ids it belongs to: each line has its newest id.
    pub(crate) line: usize,
}

/// The events of a session, from number 1, and its ids. No `Debug`: ids are secrets.
#[derive(Default)]
pub(crate) struct Log {
    held: VecDeque<Held>,
    /// The number of the newest event.
    end: u64,
    /// Events up to this one have left the queue.
    gone_to: u64,
    /// Number of queued events after it, without overwritten ones.
    kept: usize,
    /// No event up to this one is queued.
    settled_to: u64,
    /// A poll has acknowledged the answers up to this event.
    acknowledged: u64,
    /// The queued custom event of each name.
    customs: HashMap<String, u64>,
    ids: HashMap<String, Place>,
    /// The ids, oldest first.
    order: VecDeque<String>,
    /// The newest id of each line.
    newest: Vec<String>,
}

impl Log {
    /// Adds an event; returns its number.
    pub(crate) fn push(&mut self, event: Event, capacity: usize) -> u64 {
        let name = event.custom_name().map(str::to_owned);
        self.end += 1;
        self.kept += 1;
        self.held.push_back(Held { event, fate: Fate::Queued });
        if self.held.len() > KEPT {
            self.held.pop_front();
        }
        let former = name.and_then(|name| self.customs.insert(name, self.end));
        if let Some(former) = former.filter(|former| *former > self.before_held()) {
            self.kept -= usize::from(former > self.gone_to);
            for held in self.after(former - 1).take(1) {
                held.fate = Fate::Overwritten;
            }
        }
        while self.kept > capacity.clamp(1, KEPT) || self.gone_to < self.before_held() {
            self.gone_to += 1;
            let gone = self.gone_to;
            let is_held = gone > self.before_held();
            let was_queued = !is_held || self.after(gone - 1).next().is_some_and(|it| it.fate != Fate::Overwritten);
            self.kept -= usize::from(was_queued && self.kept > 0);
        }
        self.end
    }

    /// The number before that of the oldest held event.
    fn before_held(&self) -> u64 {
        self.end - u64::try_from(self.held.len()).unwrap_or(u64::MAX)
    }

    fn after(&mut self, at: u64) -> impl Iterator<Item = &mut Held> {
        let skip = usize::try_from(at.saturating_sub(self.before_held())).unwrap_or(usize::MAX);
        self.held.iter_mut().skip(skip)
    }

    pub(crate) fn place(&self, id: &str) -> Option<Place> {
        self.ids.get(id).copied()
    }

    /// Whether it is the newest of its line.
    pub(crate) fn is_newest(&self, id: &str) -> bool {
        self.place(id).is_some_and(|place| self.newest.get(place.line).is_some_and(|newest| newest == id))
    }

    /// The newest id of the newest line.
    #[cfg(test)]
    pub(crate) fn newest(&self) -> &str {
        self.newest.last().unwrap()
    }

    /// Issues an id at the end of the log, in the given line of ids or a new one.
    pub(crate) fn mint(&mut self, id: String, joined: bool, line: Option<usize>) -> String {
        let line = line.unwrap_or(self.newest.len());
        if line == self.newest.len() {
            self.newest.push(String::new());
        }
        self.ids.insert(id.clone(), Place { at: self.end, joined, line });
        self.order.push_back(id.clone());
        if self.order.len() > IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        self.newest[line].clone_from(&id);
        id
    }

    /// Makes every id outdated.
    pub(crate) fn make_all_old(&mut self) {
        self.newest.clear();
    }

    pub(crate) fn has_line(&self, line: usize) -> bool {
        line < self.newest.len()
    }

    /// Handles the id of a poll: the answer that issued it has arrived.
    pub(crate) fn acknowledge(&mut self, id: &str) {
        if let Some(place) = self.place(id).filter(|place| !place.joined) {
            self.acknowledged = self.acknowledged.max(place.at);
        }
    }

    /// Whether every event after `at` is still queued.
    pub(crate) fn has_all_after(&self, at: u64) -> bool {
        at >= self.gone_to
    }

    /// Whether there are events after `at`.
    pub(crate) fn is_behind(&self, at: u64) -> bool {
        at < self.end
    }

    /// The events after `at`, which count as answered from now on.
    pub(crate) fn answer(&mut self, at: u64) -> Vec<Event> {
        let delivered = self.after(at).filter(|held| held.fate != Fate::Overwritten);
        let delivered = delivered.map(|held| {
            held.fate = Fate::Answered;
            held.event.clone()
        });
        let delivered = delivered.collect();
        self.settle();
        delivered
    }

    fn settle(&mut self) {
        self.settled_to = self.end;
        self.customs.clear();
    }

    /// Number of events that no poll has received yet.
    pub(crate) fn queued(&self) -> usize {
        let skip = usize::try_from(self.settled_to.saturating_sub(self.before_held())).unwrap_or(usize::MAX);
        self.held.iter().skip(skip).filter(|held| held.fate == Fate::Queued).count()
    }

    /// Marks the events after this id, and all queued ones, as missed. Events that were answered to
    /// another id, or that arrived, keep their fate.
    pub(crate) fn miss(&mut self, place: Place) {
        let from = if place.joined { self.end } else { place.at.max(self.acknowledged) };
        for held in self.after(from).filter(|held| held.fate != Fate::Overwritten) {
            held.fate = Fate::Missed;
        }
        for held in self.after(self.settled_to).filter(|held| held.fate == Fate::Queued) {
            held.fate = Fate::Missed;
        }
        self.settle();
    }

    /// Each number, event and fate, oldest first.
    pub(crate) fn fates(&self) -> impl Iterator<Item = (u64, &Event, Fate)> {
        let numbers = self.before_held() + 1..;
        numbers.zip(&self.held).map(|(number, held)| (number, &held.event, held.fate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn custom(name: &str) -> Event {
        Event::of(&json!({"type":"CustomEvent","eventName":name}))
    }

    fn names(events: &[Event]) -> Vec<&str> {
        events.iter().filter_map(|event| event.field("eventname")).collect()
    }

    #[test]
    fn f46_the_latest_of_custom_events_of_one_name_is_delivered() {
        let mut log = Log::default();
        for name in ["a", "b", "a", "A", "a"] {
            log.push(custom(name), 100);
        }
        assert_eq!(names(&log.answer(0)), ["b", "A", "a"]);
        let fates: Vec<Fate> = log.fates().map(|(_, _, fate)| fate).collect();
        use Fate::{Answered, Overwritten};
        assert_eq!(fates, [Overwritten, Answered, Overwritten, Answered, Answered]);
        log.push(custom("a"), 100);
        assert_eq!(names(&log.answer(5)), ["a"], "one that was answered is not overwritten");
        assert_eq!(log.fates().filter(|(_, _, fate)| *fate == Answered).count(), 4);
        for name in ["x", "x", "y"] {
            log.push(custom(name), 100);
        }
        assert_eq!(log.queued(), 2);
        log.miss(Place { at: 6, joined: false, line: 0 });
        assert_eq!(log.queued(), 0);
        log.push(custom("x"), 100);
        let fates: Vec<Fate> = log.fates().skip(6).map(|(_, _, fate)| fate).collect();
        assert_eq!(fates, [Overwritten, Fate::Missed, Fate::Missed, Fate::Queued], "missed events stay missed");
        assert_eq!(
            log.fates().take(6).filter(|(_, _, fate)| *fate == Answered).count(),
            4,
            "answered events stay answered"
        );
    }

    #[test]
    fn events_beyond_the_capacity_cannot_be_delivered() {
        let mut log = Log::default();
        log.mint("S0".into(), false, None);
        for name in ["a", "b", "c"] {
            log.push(custom(name), 2);
        }
        assert!(!log.has_all_after(0));
        assert!(log.has_all_after(1));
        log.miss(Place { at: 0, joined: false, line: 0 });
        assert_eq!(log.fates().map(|(_, _, fate)| fate).collect::<Vec<_>>(), [Fate::Missed; 3]);
        let last = log.push(custom("d"), 100);
        assert!(!log.has_all_after(0), "dropped events do not come back");
        log.push(custom("e"), 0);
        assert!(log.has_all_after(last), "the newest event always stays");
    }

    #[test]
    fn an_id_marks_the_position_where_it_was_issued() {
        let mut log = Log::default();
        log.mint("S0".into(), false, None);
        log.push(custom("a"), 10);
        log.mint("J".into(), true, Some(0));
        assert_eq!(log.place("S0"), Some(Place { at: 0, joined: false, line: 0 }));
        assert_eq!(log.place("J"), Some(Place { at: 1, joined: true, line: 0 }));
        assert!(log.is_newest("J") && !log.is_newest("S0") && log.newest() == "J");
        assert!(log.is_behind(0) && !log.is_behind(1));
        assert_eq!(log.place("s0"), None);
    }

    #[test]
    fn the_number_of_fates_is_bounded() {
        let mut log = Log::default();
        log.push(custom("a"), usize::MAX);
        for _ in 0..=KEPT {
            log.push(Event::read("{}"), usize::MAX);
        }
        log.push(custom("a"), usize::MAX);
        assert!(log.fates().all(|(_, _, fate)| fate == Fate::Queued), "dropped events are not overwritten");
        let numbers: Vec<u64> = log.fates().map(|(number, _, _)| number).collect();
        assert_eq!((numbers.len(), numbers[0]), (KEPT, 4));
        assert!(!log.has_all_after(2) && log.has_all_after(3), "dropped events are not queued");
        assert_eq!(log.answer(u64::try_from(KEPT).unwrap()).len(), 3);
    }

    proptest! {
        /// Polls that adopt every id receive all events once, in order.
        #[test]
        fn a_reader_with_the_newest_id_misses_nothing(pushes in proptest::collection::vec(0_usize..4, 1..20)) {
            let mut log = Log::default();
            let (mut at, mut sent, mut delivered) = (0, 0, Vec::new());
            for count in pushes {
                for _ in 0..count {
                    log.push(custom(&sent.to_string()), 4);
                    sent += 1;
                }
                prop_assert!(log.has_all_after(at));
                delivered.extend(names(&log.answer(at)).into_iter().map(str::to_owned).collect::<Vec<_>>());
                log.mint(format!("S{sent}"), false, Some(0));
                at = log.place(log.newest()).unwrap().at;
            }
            let want: Vec<String> = (0..sent).map(|n: i32| n.to_string()).collect();
            prop_assert_eq!(delivered, want);
            prop_assert!(log.fates().all(|(_, _, fate)| fate == Fate::Answered));
        }
    }
}
