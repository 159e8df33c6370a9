//! The heap of future events.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::time::Us;

#[derive(Debug)]
struct Entry<E> {
    at: Us,
    seq: u64,
    what: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.seq == other.seq
    }
}
impl<E> Eq for Entry<E> {}
impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Entry<E> {
    /// The heap gives the greatest: the earliest, and of those the first that was added.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.seq).cmp(&(self.at, self.seq))
    }
}

/// Events by their time; of several at one time, the first added comes first.
#[derive(Debug)]
pub(crate) struct Sched<E> {
    now: Us,
    seq: u64,
    heap: BinaryHeap<Entry<E>>,
}

impl<E> Sched<E> {
    pub(crate) fn new() -> Self {
        Self { now: 0, seq: 0, heap: BinaryHeap::new() }
    }

    pub(crate) fn now(&self) -> Us {
        self.now
    }

    pub(crate) fn at(&mut self, at: Us, what: E) {
        self.seq += 1;
        self.heap.push(Entry { at: at.max(self.now), seq: self.seq, what });
    }

    pub(crate) fn after(&mut self, delay: Us, what: E) {
        self.at(self.now + delay, what);
    }

    pub(crate) fn next_time(&self) -> Option<Us> {
        self.heap.peek().map(|entry| entry.at)
    }

    /// The next event that is due by `until`; advances the time to it, or to `until`.
    pub(crate) fn pop(&mut self, until: Us) -> Option<E> {
        if self.heap.peek().is_some_and(|entry| entry.at <= until) {
            let entry = self.heap.pop()?;
            self.now = self.now.max(entry.at);
            return Some(entry.what);
        }
        self.now = self.now.max(until);
        None
    }
}
