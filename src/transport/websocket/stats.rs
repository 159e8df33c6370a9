//! Counts unsolicited messages.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counts of unsolicited messages from the gateway over one subscription's connections, since the subscription began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketStats {
    /// Events that name another subscription. One connection has one subscription, so the count should be zero: such
    /// events are dropped where others name the right one, and delivered where all name another.
    pub foreign_events: u64,
    /// Replies to requests that were not made, or whose caller gave up.
    pub unasked_replies: u64,
    /// Messages that could not be read, or that have an unknown type.
    pub unreadable_messages: u64,
    /// Connections opened.
    pub connections: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    foreign: AtomicU64,
    unasked: AtomicU64,
    unreadable: AtomicU64,
    connections: AtomicU64,
    warned: AtomicBool,
}

impl Counters {
    pub(super) fn foreign(&self, events: usize) {
        if events == 0 {
            return;
        }
        self.foreign.fetch_add(events as u64, Ordering::Relaxed);
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!("the gateway sends an event that names another subscription than the connection's own");
        }
    }

    pub(super) fn unasked(&self) {
        self.unasked.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn unreadable(&self) {
        self.unreadable.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.warned.store(false, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> SocketStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SocketStats {
            foreign_events: read(&self.foreign),
            unasked_replies: read(&self.unasked),
            unreadable_messages: read(&self.unreadable),
            connections: read(&self.connections),
        }
    }
}
