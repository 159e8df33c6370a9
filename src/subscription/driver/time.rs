//! The clocks.

use std::time::Duration;

use tokio::time::Instant;

use super::Driver;
use crate::control::SubscriptionInfo;
use crate::error::Result;
use crate::ids::SubscriptionId;
use crate::subscription::clocks::{self, Finding, Verdict};
use crate::subscription::machine::Input;
use crate::subscription::ops;

impl Driver {
    pub(super) fn next_timer(&self) -> Instant {
        let machine = self.machine.poll_timeout().map(Instant::from_std);
        let plan = self.recovery.plan.poll_timeout().map(Instant::from_std);
        let failover = self.routes.poll_timeout();
        let links = self.links.poll_timeout(Instant::now());
        let start = self.report.ending.poll_timeout();
        let cleanup = self.cleanup.poll_timeout(Instant::now());
        let intake = self.intake.poll_timeout();
        [machine, plan, failover, cleanup, start, self.waits_until(), links, intake]
            .into_iter()
            .flatten()
            .fold(self.active.ledger.next_comparison(), Instant::min)
    }

    pub(super) fn learn_time(&mut self) {
        let newest = self.setup.control.rate_budget().and_then(|budget| budget.dated());
        self.active.ledger.learn(newest);
        self.follow_clock();
    }

    /// Times of the service that the ledger does not hold follow its clock, which may have been set back.
    pub(super) fn follow_clock(&mut self) {
        let by = self.active.ledger.take_set_back();
        if !by.is_zero() {
            tracing::warn!(seconds = by.as_secs(), "the service's clock was set back");
            self.recovery.move_back(by);
        }
    }

    pub(super) fn check_clock(&mut self) {
        let (now, wall) = (Instant::now(), self.setup.clock.wall());
        let can_ask = clocks::can_ask(self.machine.phase(), self.setup.has_address);
        let lease = self.active.held.lease().filter(|_| can_ask);
        match (self.active.ledger.find_jump(now, wall, lease.is_some()), lease) {
            (Some(Finding::AskService { jumped }), Some(lease)) => {
                tracing::info!(seconds = jumped.as_secs(), "the wall clock jumped");
                self.calls.start_passing(ops::judge_jump(self.setup.control.clone(), lease.id.clone(), jumped));
            }
            (Some(Finding::Frozen), _) => {
                tracing::info!("the process stood still");
                self.feed(Input::Slept { by: Duration::ZERO });
            }
            (Some(Finding::AskService { .. }) | None, _) => {}
        }
    }

    pub(super) fn judged(&mut self, by: Duration, asked: Instant, answer: &Result<SubscriptionInfo>) {
        let verdict = self.active.ledger.judge_jump(Instant::now(), by, asked, self.setup.has_address, answer);
        self.follow_clock();
        match verdict {
            Verdict::WasSet => tracing::info!(seconds = by.as_secs(), "the wall clock was set"),
            Verdict::Slept => {
                tracing::info!(seconds = by.as_secs(), "the machine slept");
                self.feed(Input::Slept { by });
            }
            Verdict::Unknown { is_new: true } => self.feed(Input::Slept { by: Duration::ZERO }),
            Verdict::Unknown { is_new: false } => {}
        }
    }

    pub(super) fn id_for_log(&self) -> Option<&str> {
        self.active.id().map(SubscriptionId::as_str)
    }
}
