//! Without the feature `metrics`.

use crate::clock::Clock;
use crate::delivery::Delivery;
use crate::error::Error;
use crate::status::Status;

#[derive(Debug)]
pub(crate) struct Lifecycle;

impl Lifecycle {
    pub(crate) fn new(_: &Status) -> Self {
        Self
    }

    pub(crate) fn changed(&mut self, _: &Status) {}

    pub(crate) fn queued(&mut self, _: usize) {}

    pub(crate) fn duplicate(&self) {}

    pub(crate) fn renewed(&self, _: Option<&Error>) {}
}

#[derive(Debug)]
pub(crate) struct Yields;

impl Yields {
    pub(crate) fn new(_: Clock) -> Self {
        Self
    }

    pub(crate) fn yielded(&self, _: &Delivery) {}
}

#[cfg(any(feature = "pubnub", feature = "agent"))]
pub(crate) fn polled(_: &'static str, _: &'static str, _: usize) {}

#[cfg(feature = "agent")]
pub(crate) fn gap_opened(_: &crate::delivery::Gap) {}

#[cfg(feature = "agent")]
pub(crate) fn gap_closed(_: &crate::delivery::Resumed) {}

#[cfg(feature = "agent")]
pub(crate) fn undecodable() {}

#[cfg(feature = "agent")]
pub(crate) fn agent_event(_: &'static str) {}

#[cfg(feature = "agent")]
#[derive(Debug)]
pub(crate) struct AgentLifecycle;

#[cfg(feature = "agent")]
impl AgentLifecycle {
    pub(crate) fn new(_: crate::status::Phase) -> Self {
        Self
    }

    pub(crate) fn changed(&mut self, _: crate::status::Phase) {}
}

#[cfg(feature = "digital")]
pub(crate) fn acted(_: &'static str, _: u16, _: std::time::Duration) {}

#[cfg(feature = "digital")]
pub(crate) fn listed(_: &'static str, _: usize) {}

pub(crate) fn rate_budget(_: &str, _: impl FnOnce() -> Option<(u64, u64)>) {}
