//! The deliveries that wait for the reader, and their bytes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::delivery::AgentDelivery;
use super::proven::Proven;
use super::shared::AgentCursor;
use crate::error::Result;

/// The deliveries of one answer.
#[derive(Debug)]
pub(crate) struct QueuedBatch {
    pub(crate) items: VecDeque<Result<AgentDelivery>>,
    /// The position to continue from once all of it was read.
    pub(crate) after: Option<AgentCursor>,
    /// What is proven then.
    pub(crate) proven: Proven,
    /// Its size in bytes.
    pub(crate) weight: usize,
}

impl QueuedBatch {
    /// Whether it holds an event that the service does not send again.
    pub(super) fn holds_events(&self) -> bool {
        let is_event = |item: &Result<AgentDelivery>| {
            matches!(item, Ok(AgentDelivery::Notification(_) | AgentDelivery::Undecodable(_) | AgentDelivery::Gap(_)))
        };
        self.items.iter().any(is_event)
    }
}

/// The bytes that wait for the reader.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    bytes: AtomicUsize,
    read: Notify,
}

impl Backlog {
    pub(crate) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(super) fn take(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.read.notify_one();
    }

    pub(crate) fn is_over(&self, limit: usize) -> bool {
        self.bytes.load(Ordering::Acquire) > limit
    }

    /// Waits until no more than `limit` bytes wait.
    pub(crate) async fn room(&self, limit: usize) {
        while self.is_over(limit) {
            self.read.notified().await;
        }
    }
}
