//! The deliveries that wait for the reader.

use std::collections::VecDeque;

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
