//! The items that wait for the reader: bounded by bytes, never dropped silently.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use super::continuity::Span;
use super::delivery::{Certainty, Delivery, Gap, GapCause, Recreated, Resumed};
use super::driver::Mark;
use super::keys::Keys;
use super::resume::Position;
use crate::catch_up::Found;
use crate::transport::Frame;

/// A marker's overhead. Markers are never dropped, but they count.
const MARKER_WEIGHT: usize = 256;
/// The overhead of each text in a marker.
const TEXT_WEIGHT: usize = 32;

/// The reader's next item.
#[derive(Debug)]
pub(super) enum Item {
    /// A frame, with the keys that were valid when it arrived, and when its event was emitted as far as known.
    Frame { frame: Frame, keys: Keys, emitted: Span },
    /// An event that a catch-up source found.
    Found { found: Found, at: SystemTime },
    /// Something to deliver unchanged.
    Marker(Delivery),
    /// Everything before this was read: continue here after a restart.
    Mark(Mark),
    /// Everything that a source knows up to this position was read.
    Position { source: &'static str, position: Position },
}

#[derive(Debug)]
enum Slot {
    Item(Item),
    /// The place for events that catch-up sources find, before all that arrived later. While it is open, no item behind
    /// it is delivered.
    Hole {
        items: VecDeque<Item>,
        open: bool,
    },
    /// Frames were dropped here.
    Overflow {
        emitted: Span,
        lost: u64,
        /// The filters of the dropped events.
        filters: Arc<[String]>,
    },
}

/// A queue of frames and markers in order of arrival.
///
/// When `limit` bytes wait it [is full](Self::is_full), and nothing more should be read from the network. When that is
/// no longer possible it [spills](Self::spill): frames are dropped until half of the bytes have been read, and the
/// position, the span and the count are reported as one [`Gap`].
#[derive(Debug)]
pub(super) struct Queue {
    slots: VecDeque<Slot>,
    bytes: usize,
    /// How many of them come from catch-up sources.
    found_bytes: usize,
    limit: usize,
    spilling: bool,
    dropping: bool,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self { slots: VecDeque::new(), bytes: 0, found_bytes: 0, limit, spilling: false, dropping: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether an item can be delivered now.
    pub(super) fn is_ready(&self) -> bool {
        !matches!(self.slots.front(), None | Some(Slot::Hole { open: true, .. }))
            || matches!(self.slots.front(), Some(Slot::Hole { items, .. }) if !items.is_empty())
    }

    /// Whether the waiting bytes have reached the limit and nothing is dropped yet.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= self.limit && !self.spilling
    }

    /// From now on frames that do not fit are dropped, until half of the bytes have been read.
    pub(super) fn spill(&mut self) {
        self.spilling = true;
    }

    /// Whether more may be requested: the waiting found events take less than half of the limit. Pushed events do not
    /// count; they wait behind a hole that only found events can close.
    pub(super) fn has_room(&self) -> bool {
        self.found_bytes <= self.limit / 2
    }

    /// Opens a hole behind all waiting items; an open one is closed.
    pub(super) fn open_hole(&mut self) {
        self.close_hole();
        self.slots.push_back(Slot::Hole { items: VecDeque::new(), open: true });
    }

    /// Opens a hole before all waiting items.
    pub(super) fn open_hole_first(&mut self) {
        self.close_hole();
        self.slots.push_front(Slot::Hole { items: VecDeque::new(), open: true });
    }

    /// Inserts an item before all waiting ones.
    pub(super) fn push_first(&mut self, delivery: Delivery) {
        self.bytes += marker_weight(&delivery);
        self.slots.push_front(Slot::Item(Item::Marker(delivery)));
    }

    /// Inserts a position before all waiting items.
    pub(super) fn push_mark_first(&mut self, mark: Mark) {
        self.slots.push_front(Slot::Item(Item::Mark(mark)));
    }

    /// Removes the end of an overflow whose gap was just delivered.
    pub(super) fn drop_overflow_end(&mut self) {
        if let Some(Slot::Item(item @ Item::Marker(Delivery::Resumed(_)))) = self.slots.front() {
            self.bytes -= weight(item);
            self.slots.pop_front();
        }
    }

    /// Adds an item to the open hole; without one, behind everything.
    pub(super) fn push_found(&mut self, item: Item) {
        self.bytes += weight(&item);
        self.found_bytes += found_weight(&item);
        let hole = self.slots.iter_mut().rev().find_map(|slot| match slot {
            Slot::Hole { items, open: true } => Some(items),
            Slot::Hole { .. } | Slot::Item(_) | Slot::Overflow { .. } => None,
        });
        match hole {
            Some(items) => items.push_back(item),
            None => self.slots.push_back(Slot::Item(item)),
        }
    }

    /// The position of a source once everything that it found was read: its newest position, if nothing is between
    /// them.
    pub(super) fn push_position(&mut self, source: &'static str, position: Position) {
        let is_former = |item: &Item| matches!(item, Item::Position { source: former, .. } if *former == source);
        let hole = self.slots.iter_mut().rev().find_map(|slot| match slot {
            Slot::Hole { items, open: true } => Some(items),
            Slot::Hole { .. } | Slot::Item(_) | Slot::Overflow { .. } => None,
        });
        let tail: Vec<&mut Item> = match hole {
            Some(items) => items.iter_mut().rev().collect(),
            None => self
                .slots
                .iter_mut()
                .rev()
                .map_while(|slot| match slot {
                    Slot::Item(item) => Some(item),
                    Slot::Hole { .. } | Slot::Overflow { .. } => None,
                })
                .collect(),
        };
        let mut positions = tail.into_iter().take_while(|item| matches!(item, Item::Position { .. }));
        match positions.find(|item| is_former(item)) {
            Some(former) => *former = Item::Position { source, position },
            None => self.push_found(Item::Position { source, position }),
        }
    }

    /// Nothing more is added to the hole.
    pub(super) fn close_hole(&mut self) {
        for slot in &mut self.slots {
            if let Slot::Hole { open, .. } = slot {
                *open = false;
            }
        }
        self.slots.retain(|slot| !matches!(slot, Slot::Hole { items, open: false } if items.is_empty()));
    }

    /// Whether an open hole holds back later items.
    pub(super) fn holds_back(&self) -> bool {
        let open = self.slots.iter().position(|slot| matches!(slot, Slot::Hole { open: true, .. }));
        open.is_some_and(|at| {
            let behind = self.slots.iter().skip(at + 1);
            behind.into_iter().any(|slot| !matches!(slot, Slot::Item(Item::Mark(_) | Item::Position { .. })))
        })
    }

    /// The next item, if it is a frame.
    pub(super) fn next_frame(&self) -> Option<(&Frame, &Keys)> {
        match self.slots.front()? {
            Slot::Item(Item::Frame { frame, keys, .. }) => Some((frame, keys)),
            Slot::Item(Item::Found { .. } | Item::Marker(_) | Item::Mark(_) | Item::Position { .. })
            | Slot::Hole { .. }
            | Slot::Overflow { .. } => None,
        }
    }

    /// Bytes that wait.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes the marker in a slot, and its weight.
    fn reweigh(&mut self, at: usize, change: impl FnOnce(&mut Delivery)) {
        if let Some(Slot::Item(Item::Marker(delivery))) = self.slots.get_mut(at) {
            self.bytes -= marker_weight(delivery);
            change(delivery);
            self.bytes += marker_weight(delivery);
        }
    }

    /// Adds a frame, or drops it: `emitted` is when its event was emitted, as far as known, and `filters` are those in
    /// force.
    pub(super) fn push_frame(&mut self, frame: Frame, keys: &Keys, emitted: Span, filters: &Arc<[String]>) {
        let weight = frame.weight();
        if self.bytes <= self.limit / 2 {
            (self.spilling, self.dropping) = (false, false);
        }
        // A single frame heavier than the whole queue still gets through.
        if self.spilling && !self.dropping && self.bytes + weight > self.limit && self.bytes > 0 {
            self.dropping = true;
            self.bytes += MARKER_WEIGHT;
            self.slots.push_back(Slot::Overflow { emitted, lost: 0, filters: filters.clone() });
        }
        if self.dropping {
            self.count_lost(emitted, filters);
        } else {
            self.bytes += weight;
            self.slots.push_back(Slot::Item(Item::Frame { frame, keys: keys.clone(), emitted }));
        }
    }

    /// Adds to the newest overflow. One is always there while dropping: it leaves
    /// with `pop`, which ends the dropping.
    fn count_lost(&mut self, one: Span, now_in_force: &Arc<[String]>) {
        for slot in self.slots.iter_mut().rev() {
            if let Slot::Overflow { emitted, lost, filters } = slot {
                *emitted = Span { from: emitted.from.min(one.from), to: emitted.to.max(one.to) };
                *lost += 1;
                if !Arc::ptr_eq(filters, now_in_force) {
                    let mut all = filters.to_vec();
                    add(&mut all, now_in_force.to_vec(), |filter| filter);
                    *filters = all.into();
                }
                return;
            }
        }
    }

    /// Markers stay in order and are never dropped. A gap that follows an equal one with no event between is merged
    /// into it when it ends, so that repeated faults without a reader take no room.
    pub(super) fn push_marker(&mut self, delivery: Delivery) {
        if let Delivery::Resumed(resumed) = &delivery
            && self.fold(resumed)
        {
            return;
        }
        self.bytes += marker_weight(&delivery);
        self.slots.push_back(Slot::Item(Item::Marker(delivery)));
    }

    /// Merges the gap that `end` closes into an equal one that waits before it with no event between, also if gaps of
    /// other kinds stand between them: there are only a few kinds.
    fn fold(&mut self, end: &Resumed) -> bool {
        let markers: Vec<usize> = (0..self.slots.len())
            .rev()
            .filter(|at| !matches!(self.slots[*at], Slot::Item(Item::Mark(_) | Item::Position { .. })))
            .take_while(|at| matches!(self.slots[*at], Slot::Item(Item::Marker(_))))
            .collect();
        let Some((newer_at, Delivery::Gap(newer))) = markers.first().and_then(|at| Some((*at, self.marker(*at)?)))
        else {
            return false;
        };
        // An end is that of all gaps before it: the one before this one has no other.
        if markers.get(1).is_some_and(|at| matches!(self.marker(*at), Some(Delivery::Gap(_)))) {
            return false;
        }
        let newer = newer.clone();
        let older = markers[1..].windows(2).find(|pair| {
            let (end, gap) = (self.marker(pair[0]), self.marker(pair[1]));
            matches!((end, gap), (Some(Delivery::Resumed(_)), Some(Delivery::Gap(older))) if is_alike(older, &newer))
        });
        let Some(&[end_at, older_at]) = older else { return false };
        // From the first one's beginning to the last one's end.
        self.reweigh(older_at, |delivery| {
            let Delivery::Gap(older) = delivery else { return };
            older.since = older.since.zip(newer.since).map(|(older, newer)| older.min(newer));
            older.cause = newer.cause;
            older.until = newer.until;
            add(&mut older.filters, newer.filters, |filter| filter);
        });
        self.reweigh(end_at, |delivery| {
            let Delivery::Resumed(older_end) = delivery else { return };
            older_end.complete &= end.complete;
            older_end.at = end.at;
            add(&mut older_end.unrecovered, end.unrecovered.clone(), |open| &open.filter);
            older_end.recreated = match (older_end.recreated.take(), end.recreated.clone()) {
                (Some(first), Some(last)) => Some(Recreated { old: first.old, new: last.new }),
                (first, last) => first.or(last),
            };
        });
        if let Some(Slot::Item(item)) = self.slots.remove(newer_at) {
            self.bytes -= weight(&item);
        }
        true
    }

    fn marker(&self, at: usize) -> Option<&Delivery> {
        match self.slots.get(at)? {
            Slot::Item(Item::Marker(delivery)) => Some(delivery),
            Slot::Item(_) | Slot::Hole { .. } | Slot::Overflow { .. } => None,
        }
    }

    /// The position to continue from once everything so far was read.
    pub(super) fn push_mark(&mut self, mark: Mark) {
        match self.slots.back_mut() {
            Some(Slot::Item(Item::Mark(last))) => *last = mark,
            _ => self.slots.push_back(Slot::Item(Item::Mark(mark))),
        }
    }

    /// The next item; an overflow becomes a gap and its end.
    pub(super) fn pop(&mut self) -> Option<Item> {
        if let Some(Slot::Hole { items, open }) = self.slots.front_mut() {
            let item = items.pop_front();
            let done = items.is_empty() && !*open;
            if done {
                self.slots.pop_front();
            }
            self.bytes -= item.as_ref().map_or(0, weight);
            self.found_bytes -= item.as_ref().map_or(0, found_weight);
            return item;
        }
        match self.slots.pop_front()? {
            Slot::Item(item) => {
                self.bytes -= weight(&item);
                self.found_bytes -= found_weight(&item);
                Some(item)
            }
            Slot::Hole { .. } => None,
            Slot::Overflow { emitted: Span { from: since, to: until }, lost, filters } => {
                self.dropping &= self.slots.iter().any(|slot| matches!(slot, Slot::Overflow { .. }));
                // Its weight passes to the end marker that replaces it.
                let resumed = Resumed { complete: false, at: until, recreated: None, unrecovered: Vec::new() };
                self.slots.push_front(Slot::Item(Item::Marker(Delivery::Resumed(resumed))));
                let gap = Gap {
                    cause: GapCause::Overflow,
                    certainty: Certainty::Certain,
                    since: Some(since),
                    until: Some(until),
                    lost: Some(lost),
                    filters: filters.to_vec(),
                };
                Some(Item::Marker(Delivery::Gap(gap)))
            }
        }
    }
}

/// Whether two gaps can be reported as one.
fn is_alike(older: &Gap, newer: &Gap) -> bool {
    newer.lost.is_none()
        && older.lost.is_none()
        && newer.certainty == older.certainty
        && std::mem::discriminant(&newer.cause) == std::mem::discriminant(&older.cause)
}

/// Adds the missing ones.
fn add<T>(to: &mut Vec<T>, more: Vec<T>, name: impl Fn(&T) -> &String) {
    for item in more {
        if !to.iter().any(|known| name(known) == name(&item)) {
            to.push(item);
        }
    }
}

fn found_weight(item: &Item) -> usize {
    if matches!(item, Item::Found { .. }) { weight(item) } else { 0 }
}

fn weight(item: &Item) -> usize {
    match item {
        Item::Frame { frame, .. } => frame.weight(),
        Item::Found { found, .. } => found.notification.get().len() + MARKER_WEIGHT,
        Item::Marker(delivery) => marker_weight(delivery),
        Item::Mark(_) | Item::Position { .. } => 0,
    }
}

/// By what it holds: a gap names every filter (found kind 8: 500 filters).
fn marker_weight(delivery: &Delivery) -> usize {
    let text = |text: &str| TEXT_WEIGHT + text.len();
    let texts = match delivery {
        Delivery::Gap(gap) => gap.filters.iter().map(|filter| text(filter)).sum(),
        Delivery::Resumed(resumed) => resumed.unrecovered.iter().map(|open| text(&open.filter)).sum(),
        Delivery::FiltersDisabled(all) => {
            all.iter().map(|it| text(&it.filter) + text(&it.reason) + it.message.as_deref().map_or(0, text)).sum()
        }
        Delivery::Undecodable(it) => text(&it.reason) + text(&it.raw),
        _ => 0,
    };
    MARKER_WEIGHT + texts
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::continuity::Proven;
    use super::super::delivery::Unrecovered;
    use super::*;
    use crate::catch_up::SyncToken;
    use crate::event::GapClosure;
    use crate::ids::SubscriptionId;
    use crate::transport::FrameBody;

    fn frame(n: u64, size: usize) -> Frame {
        let text = format!("\"{n}-{}\"", "x".repeat(size));
        let raw = serde_json::value::RawValue::from_string(text).unwrap();
        Frame::new(FrameBody::Payload(raw), at(n))
    }

    /// A frame whose number is when it was emitted.
    fn push(queue: &mut Queue, frame: Frame) {
        let at = at(number(&frame));
        queue.push_frame(frame, &Keys::default(), Span { from: at, to: at }, &Arc::from(["f".to_owned()]));
    }

    fn at(n: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(n)
    }

    fn number(frame: &Frame) -> u64 {
        let FrameBody::Payload(raw) = &frame.body else { panic!("{frame:?}") };
        raw.get().trim_matches('"').split('-').next().unwrap().parse().unwrap()
    }

    fn gap(cause: GapCause) -> Delivery {
        Delivery::Gap(Gap {
            cause,
            certainty: Certainty::Certain,
            since: None,
            until: None,
            lost: None,
            filters: Vec::new(),
        })
    }

    fn resumed(recreated: Option<(&str, &str)>) -> Delivery {
        let recreated =
            recreated.map(|(old, new)| Recreated { old: SubscriptionId::new(old), new: SubscriptionId::new(new) });
        Delivery::Resumed(Resumed { complete: false, at: at(9), recreated, unrecovered: Vec::new() })
    }

    fn markers(queue: &mut Queue) -> Vec<Delivery> {
        std::iter::from_fn(|| queue.pop())
            .filter_map(|item| if let Item::Marker(delivery) = item { Some(delivery) } else { None })
            .collect()
    }

    #[test]
    fn overflow_is_one_gap_in_order_with_its_span_and_count() {
        let mut queue = Queue::new(1000);
        for n in 0..100 {
            queue.spill();
            push(&mut queue, frame(n, 100));
        }
        let mut got = Vec::new();
        let mut lost = 0;
        while let Some(item) = queue.pop() {
            match item {
                Item::Frame { frame, .. } => got.push(number(&frame)),
                Item::Marker(Delivery::Gap(gap)) => {
                    lost = gap.lost.unwrap();
                    assert_eq!((gap.since, gap.until), (Some(at(100 - lost)), Some(at(99))));
                    assert_eq!(gap.cause, GapCause::Overflow);
                }
                Item::Marker(Delivery::Resumed(resumed)) => assert!(!resumed.complete),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(got, (0..got.len() as u64).collect::<Vec<_>>());
        assert_eq!(got.len() as u64 + lost, 100);
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn reading_makes_room_again_behind_the_gap() {
        let mut queue = Queue::new(1000);
        for n in 0..10 {
            queue.spill();
            push(&mut queue, frame(n, 100));
        }
        while queue.bytes() > 500 {
            queue.pop();
        }
        push(&mut queue, frame(77, 100));
        let tail: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        let gap_at = tail.iter().position(|item| matches!(item, Item::Marker(Delivery::Gap(_)))).unwrap();
        assert!(matches!(&tail[gap_at + 1], Item::Marker(Delivery::Resumed(_))));
        assert!(matches!(&tail[gap_at + 2], Item::Frame { frame, .. } if number(frame) == 77));
    }

    #[test]
    fn found_6_13_nothing_is_dropped_before_the_queue_has_to_spill() {
        let mut queue = Queue::new(1000);
        for n in 0..100 {
            assert_eq!(queue.is_full(), queue.bytes() >= 1000);
            push(&mut queue, frame(n, 100));
        }
        let read: Vec<u64> = std::iter::from_fn(|| queue.pop())
            .map(|item| if let Item::Frame { frame, .. } = item { number(&frame) } else { panic!("{item:?}") })
            .collect();
        assert_eq!(read, (0..100).collect::<Vec<_>>());
        // Once it spills it is not full: what comes is read and dropped, until there is room.
        (0..20).for_each(|n| push(&mut queue, frame(n, 100)));
        queue.spill();
        assert!(!queue.is_full());
        push(&mut queue, frame(20, 100));
        while queue.bytes() > 500 {
            queue.pop();
        }
        (0..9).for_each(|n| push(&mut queue, frame(n, 100)));
        assert!(queue.is_full());
    }

    #[test]
    fn found_8_gaps_of_a_stalled_reader_count_their_bytes_and_merge_by_kind() {
        let filters: Vec<String> =
            (0..500).map(|n| format!("/restapi/v1.0/account/~/extension/{n}/presence")).collect();
        let one: usize = filters.iter().map(|filter| filter.len() + TEXT_WEIGHT).sum();
        let mut queue = Queue::new(8 << 20);
        let kinds = [GapCause::SubscriptionGone, GapCause::LeaseExpired, GapCause::ConnectionBroken];
        for n in 0..3000 {
            let Delivery::Gap(gap) = gap(kinds[n % 3].clone()) else { panic!("a gap") };
            queue.push_marker(Delivery::Gap(Gap { filters: filters.clone(), ..gap }));
            let Delivery::Resumed(end) = resumed(None) else { panic!("an end") };
            let unrecovered = filters.iter().map(|filter| Unrecovered {
                filter: filter.clone(),
                closure: GapClosure::Nothing,
                changes: crate::catch_up::Changes::ALL,
                reason: crate::catch_up::OpenReason::NoSource,
            });
            queue.push_marker(Delivery::Resumed(Resumed { unrecovered: unrecovered.collect(), ..end }));
        }
        assert_eq!(queue.bytes(), 6 * (MARKER_WEIGHT + one));
        assert_eq!(markers(&mut queue).len(), 6);
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn a_frame_heavier_than_the_bound_gets_through_an_empty_queue() {
        let mut queue = Queue::new(10);
        push(&mut queue, frame(1, 5000));
        assert!(matches!(queue.pop(), Some(Item::Frame { .. })));
    }

    #[test]
    fn gaps_of_a_kind_merge_without_a_reader_and_preserve_the_first_and_last_id() {
        let mut queue = Queue::new(1000);
        for ids in [("a", "b"), ("b", "c"), ("c", "d")] {
            queue.push_marker(gap(GapCause::SubscriptionGone));
            queue.push_marker(resumed(Some(ids)));
        }
        let got = markers(&mut queue);
        assert_eq!(got.len(), 2, "{got:?}");
        let Delivery::Resumed(end) = &got[1] else { panic!("{got:?}") };
        let recreated = end.recreated.as_ref().unwrap();
        assert_eq!((recreated.old.as_str(), recreated.new.as_str()), ("a", "d"));
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn positions_follow_their_findings_and_take_no_room_without_a_reader() {
        let mut queue = Queue::new(1000);
        let position = |n: u64| Position::new(SyncToken::new(n.to_string(), at(n)), false, at(n));
        let text = "{}".to_owned();
        let notification = serde_json::value::RawValue::from_string(text).unwrap();
        let found = || Found { notification: notification.clone(), snapshot: false, state: None };
        for hole in [false, true] {
            if hole {
                queue.open_hole();
            }
            for n in 0..50 {
                queue.push_position("a", position(n));
                queue.push_position("b", position(n));
            }
            queue.push_found(Item::Found { found: found(), at: at(1) });
            queue.push_position("a", position(77));
            queue.close_hole();
            let told: Vec<_> = std::iter::from_fn(|| queue.pop())
                .map(|item| match item {
                    Item::Position { source, position } => (source, position.token.made_at()),
                    _ => ("found", at(0)),
                })
                .collect();
            assert_eq!(told, [("a", at(49)), ("b", at(49)), ("found", at(0)), ("a", at(77))]);
        }
    }

    #[test]
    fn folded_gaps_name_the_filters_of_all() {
        let mut queue = Queue::new(1000);
        for name in ["a", "b", "a"] {
            let open = Unrecovered {
                filter: name.into(),
                closure: GapClosure::Nothing,
                changes: crate::catch_up::Changes::ALL,
                reason: crate::catch_up::OpenReason::NoSource,
            };
            let Delivery::Gap(gap) = gap(GapCause::SubscriptionGone) else { panic!("a gap") };
            queue.push_marker(Delivery::Gap(Gap { filters: vec![name.into()], ..gap }));
            let Delivery::Resumed(end) = resumed(None) else { panic!("an end") };
            queue.push_marker(Delivery::Resumed(Resumed { unrecovered: vec![open], ..end }));
        }
        let got = markers(&mut queue);
        let [Delivery::Gap(gap), Delivery::Resumed(end)] = &got[..] else { panic!("{got:?}") };
        assert_eq!(gap.filters, ["a", "b"]);
        let open: Vec<_> = end.unrecovered.iter().map(|open| open.filter.as_str()).collect();
        assert_eq!(open, ["a", "b"]);
    }

    #[test]
    fn gaps_that_differ_or_have_events_between_do_not_fold() {
        let mut queue = Queue::new(10_000);
        queue.push_marker(gap(GapCause::SubscriptionGone));
        queue.push_marker(resumed(None));
        queue.push_marker(gap(GapCause::LeaseExpired));
        queue.push_marker(resumed(None));
        push(&mut queue, frame(1, 1));
        queue.push_marker(gap(GapCause::LeaseExpired));
        queue.push_marker(resumed(None));
        assert_eq!(markers(&mut queue).len(), 6);
    }

    #[test]
    fn marks_stay_in_order_and_the_newest_wins() {
        let place = std::sync::Arc::new(crate::subscription::driver::Place {
            id: "a".into(),
            fingerprint: String::new(),
            owner: None,
        });
        let mark = |n: u64| Mark {
            cursor: crate::transport::Cursor { timetoken: n.to_string(), region: None, session: None },
            place: place.clone(),
            proven: Proven::all(at(n)),
        };
        let mut queue = Queue::new(1000);
        queue.push_mark(mark(1));
        queue.push_mark(mark(2));
        push(&mut queue, frame(1, 1));
        queue.push_mark(mark(3));
        assert!(matches!(queue.pop(), Some(Item::Mark(m)) if m.cursor.timetoken == "2"));
        assert!(matches!(queue.pop(), Some(Item::Frame { .. })));
        assert!(matches!(queue.pop(), Some(Item::Mark(m)) if m.cursor.timetoken == "3"));
        assert!(queue.is_empty());
    }

    proptest! {
        #[test]
        fn every_frame_comes_out_in_order_or_is_counted_and_memory_is_bounded(
            steps in prop::collection::vec((any::<bool>(), 0usize..400), 1..400),
        ) {
            let limit = 2000;
            let mut queue = Queue::new(limit);
            let (mut pushed, mut got, mut lost, mut last) = (0, 0, 0, None);
            let mut take = |queue: &mut Queue, got: &mut u64, lost: &mut u64| match queue.pop() {
                Some(Item::Frame { frame, .. }) => {
                    let n = number(&frame);
                    assert!(last.is_none_or(|last| n > last), "order");
                    last = Some(n);
                    *got += 1;
                    true
                }
                Some(Item::Marker(Delivery::Gap(gap))) => {
                    *lost += gap.lost.unwrap();
                    true
                }
                Some(_) => true,
                None => false,
            };
            for (pushes, size) in steps {
                if pushes {
                    queue.spill();
                    push(&mut queue, frame(pushed, size));
                    pushed += 1;
                } else {
                    take(&mut queue, &mut got, &mut lost);
                }
                prop_assert!(queue.bytes() <= limit + 8 * MARKER_WEIGHT, "{}", queue.bytes());
            }
            while take(&mut queue, &mut got, &mut lost) {}
            prop_assert_eq!(got + lost, pushed);
            prop_assert_eq!(queue.bytes(), 0);
        }
    }
}
