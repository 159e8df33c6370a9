//! The items that wait for the reader: bounded by bytes, never dropped silently.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::value::RawValue;

use super::continuity::Span;
use super::keys::Keys;
use super::positions::SourcePosition;
use super::resume::Mark;
use crate::catch_up::Found;
use crate::delivery::{Certainty, Delivery, Gap, GapCause, Recreated, Resumed, Unrecovered};
use crate::transport::{Frame, FrameBody};

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
    /// Something to deliver unchanged; a `Resumed` is an [`End`](Self::End) until it is popped.
    Marker(Delivery),
    /// The end of every gap before it. `continues`: what is missing beyond it, reported directly behind it.
    End { resumed: Resumed, continues: Option<Gap> },
    /// Everything before this was read: continue here after a restart.
    Mark(Mark),
    /// Everything that a source knows up to this position was read.
    Position { source: &'static str, position: SourcePosition },
}

impl Item {
    /// The bytes that it takes in the queue.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Frame { frame, .. } => frame.weight(),
            Self::Found { found, .. } => found.notification.get().len() + MARKER_WEIGHT,
            Self::Marker(delivery) => marker_weight(delivery),
            Self::End { resumed, continues } => {
                let texts = resumed.unrecovered.iter().map(|open| text_weight(&open.filter)).sum::<usize>();
                MARKER_WEIGHT + texts + continues.as_ref().map_or(0, gap_weight)
            }
            Self::Mark(_) | Self::Position { .. } => 0,
        }
    }

    fn found_weight(&self) -> usize {
        if matches!(self, Self::Found { .. }) { self.weight() } else { 0 }
    }
}

/// What is lost with items that the reader does not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Discarded {
    pub(super) since: Option<SystemTime>,
    pub(super) certainty: Certainty,
    /// How many events, if that is known.
    pub(super) lost: Option<u64>,
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
    /// A hole is open: at most one is.
    has_open_hole: bool,
    /// The reader has a gap without `until` whose end it does not have yet.
    is_gap_open: bool,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            slots: VecDeque::new(),
            bytes: 0,
            found_bytes: 0,
            limit,
            spilling: false,
            dropping: false,
            has_open_hole: false,
            is_gap_open: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Drops what waits. Returns what is lost with it.
    pub(super) fn discard(&mut self) -> Option<Discarded> {
        let (mut lost, mut gaps, mut since) = (0, 0, None::<SystemTime>);
        let mut began = |at: Option<SystemTime>| since = since.into_iter().chain(at).min();
        while let Some(item) = self.pop() {
            match item {
                Item::Frame { emitted, .. } => {
                    lost += 1;
                    began(Some(emitted.from));
                }
                Item::Marker(Delivery::Gap(gap)) => {
                    gaps += 1;
                    lost += gap.lost.unwrap_or(0);
                    began(gap.since);
                }
                Item::Found { at, .. } => {
                    lost += 1;
                    began(Some(at));
                }
                Item::Marker(_) | Item::End { .. } | Item::Mark(_) | Item::Position { .. } => {}
            }
        }
        let certainty = if lost > 0 { Certainty::Certain } else { Certainty::Possible };
        // How many events an unread gap hides is not known.
        (lost + gaps > 0).then(|| Discarded { since, certainty, lost: (gaps == 0).then_some(lost) })
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
        self.has_open_hole = true;
        self.slots.push_back(Slot::Hole { items: VecDeque::new(), open: true });
    }

    /// Opens a hole before all waiting items.
    pub(super) fn open_hole_first(&mut self) {
        self.close_hole();
        self.has_open_hole = true;
        self.slots.push_front(Slot::Hole { items: VecDeque::new(), open: true });
    }

    /// Inserts an item before all waiting ones.
    pub(super) fn push_first(&mut self, item: Item) {
        self.bytes += item.weight();
        self.slots.push_front(Slot::Item(item));
    }

    /// Inserts a position before all waiting items.
    pub(super) fn push_mark_first(&mut self, mark: Mark) {
        self.slots.push_front(Slot::Item(Item::Mark(mark)));
    }

    /// Whether the reader has a gap without `until`, and its end is still to come.
    pub(super) fn is_gap_open(&self) -> bool {
        self.is_gap_open
    }

    /// The next end that the reader gets leaves these open, too; `false` if none waits.
    pub(super) fn leave_open(&mut self, open: &[Unrecovered]) -> bool {
        let is_end = |item: &&mut Item| matches!(item, Item::End { .. });
        let end = self.slots.iter_mut().find_map(|slot| match slot {
            Slot::Item(item) => Some(item).filter(is_end),
            Slot::Hole { items, .. } => items.iter_mut().find(is_end),
            Slot::Overflow { .. } => None,
        });
        let Some(item) = end else { return false };
        let before = item.weight();
        if let Item::End { resumed, .. } = item {
            add(&mut resumed.unrecovered, open.to_vec(), |open| &open.filter);
            resumed.complete &= resumed.unrecovered.is_empty();
        }
        self.bytes = self.bytes - before + item.weight();
        true
    }

    /// The items of the open hole.
    fn open_hole_items(&mut self) -> Option<&mut VecDeque<Item>> {
        let slots = Some(&mut self.slots).filter(|_| self.has_open_hole)?;
        slots.iter_mut().rev().find_map(|slot| match slot {
            Slot::Hole { items, open: true } => Some(items),
            Slot::Hole { .. } | Slot::Item(_) | Slot::Overflow { .. } => None,
        })
    }

    /// Adds an item to the open hole; without one, behind everything.
    pub(super) fn push_found(&mut self, item: Item) {
        let hole = self.open_hole_items();
        let (bytes, found_bytes) = (item.weight(), item.found_weight());
        match (hole, item) {
            (Some(items), item) => items.push_back(item),
            (None, Item::Marker(delivery)) => return self.push_marker(delivery),
            (None, Item::End { resumed, continues }) => return self.push_end(resumed, continues),
            (None, item) => self.slots.push_back(Slot::Item(item)),
        }
        self.bytes += bytes;
        self.found_bytes += found_bytes;
    }

    /// The position of a source once everything that it found was read: its newest position, if nothing is between
    /// them.
    pub(super) fn push_position(&mut self, source: &'static str, position: SourcePosition) {
        let is_former = |item: &Item| matches!(item, Item::Position { source: former, .. } if *former == source);
        let hole = self.open_hole_items();
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
        // Thousands of events may wait.
        if !std::mem::take(&mut self.has_open_hole) {
            return;
        }
        for slot in &mut self.slots {
            if let Slot::Hole { open, .. } = slot {
                *open = false;
            }
        }
        self.slots.retain(|slot| !matches!(slot, Slot::Hole { items, open: false } if items.is_empty()));
    }

    /// Whether an open hole holds back later items.
    pub(super) fn holds_back(&self) -> bool {
        if !self.has_open_hole {
            return false;
        }
        let open = self.slots.iter().position(|slot| matches!(slot, Slot::Hole { open: true, .. }));
        open.is_some_and(|at| {
            let behind = self.slots.iter().skip(at + 1);
            behind.into_iter().any(|slot| !matches!(slot, Slot::Item(Item::Mark(_) | Item::Position { .. })))
        })
    }

    /// Opens the next item with `open`, if it is a frame whose payload may be encrypted: only a text is.
    pub(super) fn open_first(&mut self, open: impl FnOnce(&RawValue, &Keys) -> Option<Box<RawValue>>) {
        self.reweigh(0, |item| {
            if let Item::Frame { frame: Frame { body: FrameBody::Payload(raw), .. }, keys, .. } = item
                && raw.get().starts_with('"')
                && let Some(opened) = open(raw, keys)
            {
                *raw = opened;
            }
        });
    }

    /// The next item, if it is a frame.
    pub(super) fn next_frame(&self) -> Option<(&Frame, &Keys)> {
        match self.slots.front()? {
            Slot::Item(Item::Frame { frame, keys, .. }) => Some((frame, keys)),
            Slot::Item(
                Item::Found { .. } | Item::Marker(_) | Item::End { .. } | Item::Mark(_) | Item::Position { .. },
            )
            | Slot::Hole { .. }
            | Slot::Overflow { .. } => None,
        }
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes the item in a slot, and its weight.
    fn reweigh(&mut self, at: usize, change: impl FnOnce(&mut Item)) {
        if let Some(Slot::Item(item)) = self.slots.get_mut(at) {
            self.bytes -= item.weight();
            change(item);
            self.bytes += item.weight();
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

    /// Markers stay in order and are never dropped. A gap is merged into an equal one before it with neither an end nor
    /// an event between, so that repeated faults without a reader take no room.
    pub(super) fn push_marker(&mut self, delivery: Delivery) {
        if let Delivery::Gap(gap) = &delivery
            && let Some(older) =
                self.waiting_markers().into_iter().take_while(|at| self.end(*at).is_none()).find(|at| {
                    self.gap(*at)
                        .is_some_and(|older| is_alike(older, gap) && older.until.is_some() == gap.until.is_some())
                })
        {
            return self.merge_gap(older, gap);
        }
        self.bytes += marker_weight(&delivery);
        self.slots.push_back(Slot::Item(Item::Marker(delivery)));
    }

    /// Ends every gap before it. Gaps that follow equal ones with no event between are merged into those, so that
    /// repeated faults without a reader take no room.
    pub(super) fn push_end(&mut self, resumed: Resumed, continues: Option<Gap>) {
        if !self.fold(&resumed, continues.as_ref()) {
            let item = Item::End { resumed, continues };
            self.bytes += item.weight();
            self.slots.push_back(Slot::Item(item));
        }
    }

    /// The waiting markers behind the last event, the newest first.
    fn waiting_markers(&self) -> Vec<usize> {
        (0..self.slots.len())
            .rev()
            .filter(|at| !matches!(self.slots[*at], Slot::Item(Item::Mark(_) | Item::Position { .. })))
            .take_while(|at| matches!(self.slots[*at], Slot::Item(Item::Marker(_) | Item::End { .. })))
            .collect()
    }

    /// Merges the gaps that `end` ends into equal ones that wait before them with no event between, also if gaps of
    /// other kinds stand between them: there are only a few kinds.
    fn fold(&mut self, end: &Resumed, continues: Option<&Gap>) -> bool {
        let markers = self.waiting_markers();
        let count = markers.iter().take_while(|at| self.end(**at).is_none()).count();
        let (ended, before) = markers.split_at(count);
        let Some(last_end) = before.first() else { return false };
        let alike = |newer: &usize| {
            let newer = self.gap(*newer)?;
            let mut its_end = *last_end;
            before.iter().find_map(|at| {
                if self.end(*at).is_some() {
                    its_end = *at;
                }
                self.gap(*at).is_some_and(|older| is_alike(older, newer)).then_some((*at, its_end))
            })
        };
        // A marker of another kind, or a gap that has no equal, stays, and with it the end.
        let Some(older) = ended.iter().map(alike).collect::<Option<Vec<_>>>().filter(|it| !it.is_empty()) else {
            return false;
        };
        // What continued beyond the last end began there, or at the end of one that was merged before.
        let since = match self.slots.get(*last_end) {
            Some(Slot::Item(Item::End { continues: Some(gap), .. })) => gap.since,
            _ => None,
        };
        for (at, (newer_at, (older_at, end_at))) in ended.iter().zip(&older).enumerate() {
            if let Some(newer) = self.gap(*newer_at).cloned() {
                self.merge_gap(*older_at, &newer);
            }
            self.reweigh(*end_at, |item| {
                let Item::End { resumed, continues } = item else { return };
                resumed.complete &= end.complete;
                resumed.at = resumed.at.max(end.at);
                add(&mut resumed.unrecovered, end.unrecovered.clone(), |open| &open.filter);
                if at == 0 {
                    resumed.recreated = Recreated::joined(resumed.recreated.take(), end.recreated.clone());
                }
                // It ends later now, and what continues is reported behind the last end.
                *continues = None;
            });
        }
        self.reweigh(*last_end, |item| {
            let Item::End { resumed, continues: last } = item else { return };
            resumed.at = resumed.at.max(end.at);
            *last = continues.map(|gap| Gap { since: gap.since.into_iter().chain(since).min(), ..gap.clone() });
        });
        // The newest comes first, so that the others stay where they are.
        for at in ended {
            if let Some(Slot::Item(item)) = self.slots.remove(*at) {
                self.bytes -= item.weight();
            }
        }
        true
    }

    /// From the beginning of the older one to the end of the newer one.
    fn merge_gap(&mut self, older: usize, newer: &Gap) {
        self.reweigh(older, |item| {
            let Item::Marker(Delivery::Gap(older)) = item else { return };
            older.since = older.since.zip(newer.since).map(|(older, newer)| older.min(newer));
            older.cause = newer.cause.clone();
            older.until = older.until.zip(newer.until).map(|(older, newer)| older.max(newer));
            add(&mut older.filters, newer.filters.clone(), |filter| filter);
        });
    }

    fn gap(&self, at: usize) -> Option<&Gap> {
        match self.slots.get(at)? {
            Slot::Item(Item::Marker(Delivery::Gap(gap))) => Some(gap),
            Slot::Item(_) | Slot::Hole { .. } | Slot::Overflow { .. } => None,
        }
    }

    fn end(&self, at: usize) -> Option<&Resumed> {
        match self.slots.get(at)? {
            Slot::Item(Item::End { resumed, .. }) => Some(resumed),
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

    /// The next item. An overflow becomes a gap; what continues beyond an end comes directly behind it.
    pub(super) fn pop(&mut self) -> Option<Item> {
        let item = match self.take_first()? {
            Item::End { resumed, continues } => {
                self.is_gap_open = false;
                if let Some(gap) = continues {
                    self.push_first(Item::Marker(Delivery::Gap(gap)));
                }
                Item::Marker(Delivery::Resumed(resumed))
            }
            item => item,
        };
        if let Item::Marker(Delivery::Gap(gap)) = &item {
            self.is_gap_open |= gap.until.is_none();
        }
        Some(item)
    }

    fn take_first(&mut self) -> Option<Item> {
        if let Some(Slot::Hole { items, open }) = self.slots.front_mut() {
            let item = items.pop_front();
            let done = items.is_empty() && !*open;
            if done {
                self.slots.pop_front();
            }
            self.bytes -= item.as_ref().map_or(0, Item::weight);
            self.found_bytes -= item.as_ref().map_or(0, Item::found_weight);
            return item;
        }
        match self.slots.pop_front()? {
            Slot::Item(item) => {
                self.bytes -= item.weight();
                self.found_bytes -= item.found_weight();
                Some(item)
            }
            Slot::Hole { .. } => None,
            Slot::Overflow { emitted: Span { from: since, to: until }, lost, filters } => {
                self.dropping &= self.slots.iter().any(|slot| matches!(slot, Slot::Overflow { .. }));
                self.bytes -= MARKER_WEIGHT;
                Some(Item::Marker(Delivery::Gap(Gap {
                    cause: GapCause::Overflow,
                    certainty: Certainty::Certain,
                    since: Some(since),
                    until: Some(until),
                    lost: Some(lost),
                    filters: filters.to_vec(),
                })))
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

fn text_weight(text: &str) -> usize {
    TEXT_WEIGHT + text.len()
}

fn gap_weight(gap: &Gap) -> usize {
    MARKER_WEIGHT + gap.filters.iter().map(|filter| text_weight(filter)).sum::<usize>()
}

/// By what it holds: a gap names every filter (found kind 8: 500 filters).
fn marker_weight(delivery: &Delivery) -> usize {
    let text = text_weight;
    let texts = match delivery {
        Delivery::Gap(gap) => return gap_weight(gap),
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
    use super::*;
    use crate::catch_up::SyncToken;
    use crate::delivery::Unrecovered;
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

    fn resumed(recreated: Option<(&str, &str)>) -> Resumed {
        let recreated =
            recreated.map(|(old, new)| Recreated { old: SubscriptionId::new(old), new: SubscriptionId::new(new) });
        Resumed { complete: false, at: at(9), recreated, unrecovered: Vec::new() }
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
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(got, (0..got.len() as u64).collect::<Vec<_>>());
        assert_eq!(got.len() as u64 + lost, 100);
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn discarded_items_are_counted_unless_an_unread_gap_is_among_them() {
        let Delivery::Gap(unread) = gap(GapCause::SubscriptionGone) else { panic!("a gap") };
        let one = Delivery::Gap(Gap { lost: Some(2), since: Some(at(3)), ..unread });
        let item =
            |n| Item::Frame { frame: frame(n, 10), keys: Keys::default(), emitted: Span { from: at(n), to: at(n) } };
        let found = |n| Item::Found { found: Found::change("/x", None, &n).unwrap(), at: at(n) };
        for (items, want) in [
            (vec![], None),
            (vec![Item::Marker(Delivery::Resumed(resumed(None)))], None),
            (vec![item(7), item(5)], Some((Some(at(5)), Certainty::Certain, Some(2)))),
            (
                vec![item(7), Item::Marker(gap(GapCause::SubscriptionGone))],
                Some((Some(at(7)), Certainty::Certain, None)),
            ),
            (vec![Item::Marker(gap(GapCause::SubscriptionGone))], Some((None, Certainty::Possible, None))),
            (vec![Item::Marker(one)], Some((Some(at(3)), Certainty::Certain, None))),
            (vec![found(4)], Some((Some(at(4)), Certainty::Certain, Some(1)))),
        ] {
            let mut queue = Queue::new(1 << 20);
            let case = format!("{items:?}");
            items.into_iter().for_each(|item| queue.push_found(item));
            let want = want.map(|(since, certainty, lost)| Discarded { since, certainty, lost });
            assert_eq!(queue.discard(), want, "{case}");
            assert!(queue.is_empty(), "{case}");
        }
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
        assert!(matches!(&tail[gap_at + 1], Item::Frame { frame, .. } if number(frame) == 77));
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
            let unrecovered = filters.iter().map(|filter| Unrecovered {
                filter: filter.clone(),
                closure: GapClosure::Nothing,
                changes: crate::delivery::Changes::ALL,
                reason: crate::delivery::OpenReason::NoSource,
            });
            queue.push_end(Resumed { unrecovered: unrecovered.collect(), ..resumed(None) }, None);
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
            queue.push_end(resumed(Some(ids)), None);
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
        let position = |n: u64| SourcePosition::new(SyncToken::new(n.to_string(), at(n)), false, at(n));
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
            let taken: Vec<_> = std::iter::from_fn(|| queue.pop())
                .map(|item| match item {
                    Item::Position { source, position } => (source, position.token.made_at()),
                    _ => ("found", at(0)),
                })
                .collect();
            assert_eq!(taken, [("a", at(49)), ("b", at(49)), ("found", at(0)), ("a", at(77))]);
        }
    }

    #[test]
    fn folded_gaps_name_the_filters_of_all() {
        let mut queue = Queue::new(1000);
        for name in ["a", "b", "a"] {
            let open = Unrecovered {
                filter: name.into(),
                closure: GapClosure::Nothing,
                changes: crate::delivery::Changes::ALL,
                reason: crate::delivery::OpenReason::NoSource,
            };
            let Delivery::Gap(gap) = gap(GapCause::SubscriptionGone) else { panic!("a gap") };
            queue.push_marker(Delivery::Gap(Gap { filters: vec![name.into()], ..gap }));
            queue.push_end(Resumed { unrecovered: vec![open], ..resumed(None) }, None);
        }
        let got = markers(&mut queue);
        let [Delivery::Gap(gap), Delivery::Resumed(end)] = &got[..] else { panic!("{got:?}") };
        assert_eq!(gap.filters, ["a", "b"]);
        let open: Vec<_> = end.unrecovered.iter().map(|open| open.filter.as_str()).collect();
        assert_eq!(open, ["a", "b"]);
    }

    fn bounded(cause: GapCause, since: u64, until: u64) -> Delivery {
        let Delivery::Gap(gap) = gap(cause) else { panic!("a gap") };
        Delivery::Gap(Gap { since: Some(at(since)), until: Some(at(until)), ..gap })
    }

    fn left_out(since: u64) -> Gap {
        let Delivery::Gap(gap) = gap(GapCause::PolledInPart) else { panic!("a gap") };
        Gap { since: Some(at(since)), filters: vec!["presence".into()], ..gap }
    }

    #[test]
    fn what_continues_beyond_an_end_comes_directly_behind_it() {
        for hole in [false, true] {
            let mut queue = Queue::new(1000);
            queue.push_marker(gap(GapCause::TransportChanged));
            if hole {
                queue.open_hole();
                push(&mut queue, frame(1, 1));
            }
            queue.push_found(Item::End { resumed: resumed(None), continues: Some(left_out(9)) });
            queue.push_found(Item::Marker(bounded(GapCause::PolledInPart, 9, 10)));
            queue.close_hole();
            assert!(matches!(queue.pop(), Some(Item::Marker(Delivery::Gap(gap))) if gap.until.is_none()));
            assert!(queue.is_gap_open());
            assert!(matches!(queue.pop(), Some(Item::Marker(Delivery::Resumed(_)))));
            assert!(!queue.is_gap_open());
            let Some(Item::Marker(Delivery::Gap(gap))) = queue.pop() else { panic!("{queue:?}") };
            assert_eq!((gap, queue.is_gap_open()), (left_out(9), true));
            assert!(matches!(queue.pop(), Some(Item::Marker(Delivery::Gap(gap))) if gap.until.is_some()));
            assert!(queue.is_gap_open());
            queue.pop();
            assert_eq!((queue.is_empty(), queue.bytes()), (true, 0));
        }
    }

    #[test]
    fn gaps_with_one_that_continues_behind_each_take_no_room_without_a_reader() {
        let mut queue = Queue::new(1000);
        let ended = |n: u64| Resumed { at: at(n), ..resumed(None) };
        queue.push_marker(Delivery::Gap(left_out(0)));
        for n in 1..1000 {
            let cause = if n % 3 == 0 { GapCause::Unreadable } else { GapCause::RegionChanged };
            queue.push_marker(bounded(cause, n, n + 1));
            queue.push_end(ended(n + 1), Some(left_out(n + 1)));
        }
        let got = markers(&mut queue);
        assert!(got.len() <= 7, "{got:?}");
        // Without an instant that no gap covers, and with a gap that is open at the end.
        let (mut open, mut covered) = (None, at(0));
        for delivery in &got {
            match delivery {
                Delivery::Gap(gap) if gap.filters.is_empty() => {}
                Delivery::Gap(gap) => open = open.into_iter().chain(gap.since).min(),
                Delivery::Resumed(resumed) => {
                    if open.take().is_some_and(|since| since <= covered) {
                        covered = covered.max(resumed.at);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(open.is_some_and(|since| since <= covered), "{got:?}");
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn gaps_within_an_open_one_take_no_room_without_a_reader() {
        let mut queue = Queue::new(1000);
        for round in 0..50 {
            queue.push_marker(gap(GapCause::LeaseExpired));
            for n in 0..20 {
                queue.push_marker(bounded(GapCause::KeyUnknown, round * 100 + n, round * 100 + n + 1));
            }
            queue.push_end(resumed(None), None);
        }
        let got = markers(&mut queue);
        let [Delivery::Gap(lost), Delivery::Gap(within), Delivery::Resumed(_)] = &got[..] else { panic!("{got:?}") };
        assert_eq!((lost.until, within.since, within.until), (None, Some(at(0)), Some(at(4920))));
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn the_next_end_leaves_open_what_is_added_to_it() {
        let open = Unrecovered {
            filter: "a".into(),
            closure: GapClosure::Nothing,
            changes: crate::delivery::Changes::ALL,
            reason: crate::delivery::OpenReason::NotAnswered,
        };
        let mut queue = Queue::new(1000);
        queue.push_marker(gap(GapCause::LeaseExpired));
        assert!(!queue.leave_open(std::slice::from_ref(&open)));
        for _ in 0..2 {
            queue.open_hole();
            queue.push_found(Item::End { resumed: Resumed { complete: true, ..resumed(None) }, continues: None });
            queue.close_hole();
        }
        assert!(queue.leave_open(std::slice::from_ref(&open)));
        let got = markers(&mut queue);
        let [_, Delivery::Resumed(first), Delivery::Resumed(second)] = &got[..] else { panic!("{got:?}") };
        assert_eq!((first.complete, &first.unrecovered[..], second.complete), (false, &[open][..], true));
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn gaps_that_differ_or_have_events_between_do_not_fold() {
        let mut queue = Queue::new(10_000);
        queue.push_marker(gap(GapCause::SubscriptionGone));
        queue.push_end(resumed(None), None);
        queue.push_marker(gap(GapCause::LeaseExpired));
        queue.push_end(resumed(None), None);
        push(&mut queue, frame(1, 1));
        queue.push_marker(gap(GapCause::LeaseExpired));
        queue.push_end(resumed(None), None);
        assert_eq!(markers(&mut queue).len(), 6);
    }

    #[test]
    fn marks_stay_in_order_and_the_newest_wins() {
        let endpoint = std::sync::Arc::new(crate::subscription::endpoint::Endpoint {
            id: "a".into(),
            fingerprint: String::new(),
            owner: None,
        });
        let mark = |n: u64| Mark {
            cursor: crate::control::Cursor::from_ticks(n),
            endpoint: endpoint.clone(),
            proven: Proven::all(at(n)),
        };
        let mut queue = Queue::new(1000);
        queue.push_mark(mark(1));
        queue.push_mark(mark(2));
        push(&mut queue, frame(1, 1));
        queue.push_mark(mark(3));
        assert!(matches!(queue.pop(), Some(Item::Mark(m)) if m.cursor.ticks() == 2));
        assert!(matches!(queue.pop(), Some(Item::Frame { .. })));
        assert!(matches!(queue.pop(), Some(Item::Mark(m)) if m.cursor.ticks() == 3));
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
