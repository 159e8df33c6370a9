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

pub(crate) fn rate_budget(_: &str, _: impl FnOnce() -> Option<(u64, u64)>) {}
