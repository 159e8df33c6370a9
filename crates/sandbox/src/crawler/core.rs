//! The platform's state of a channel.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::jobs::{Job, SyncStatus, Write};
use super::realtime::Realtime;
use super::store::Store;
use crate::behavior::DigitalBehavior;
use crate::checks::Capabilities;
use crate::checks::Run;
use ringcentral_events::digital::{Date, Signer};

/// The time between two runs of a source with a list: the documented minimum (digital-source.md §10).
const LIST_GAP: Duration = Duration::from_secs(60);
/// The same of a source without a list (digital-source.md §10).
const SILENT_GAP: Duration = Duration::from_secs(180);
/// Maximum number of runs remembered; the oldest are dropped.
const RUNS: usize = 1000;

/// The platform's state of one channel. No `Debug`: it holds the channel's key.
pub(crate) struct Core {
    pub(crate) signer: Signer,
    pub(crate) caps: Option<Capabilities>,
    pub(crate) store: Store,
    pub(crate) jobs: Vec<Job>,
    pub(crate) realtime: Realtime,
    pub(crate) runs: VecDeque<Run>,
    pub(crate) run_count: u64,
    failed_runs: u32,
    pub(crate) off: bool,
    /// Number of answers to writes still to discard.
    pub(crate) lose: u32,
}

impl Core {
    pub(crate) fn new(signer: Signer) -> Self {
        Self {
            signer,
            caps: None,
            store: Store::default(),
            jobs: Vec::new(),
            realtime: Realtime::default(),
            runs: VecDeque::new(),
            run_count: 0,
            failed_runs: 0,
            off: false,
            lose: 0,
        }
    }

    /// Adds a write to the outbox.
    pub(crate) fn enqueue(&mut self, write: Write, content_id: String, at: Date, unchecked: bool) -> usize {
        let number = self.jobs.len();
        let content_id = (write.operation == "create").then_some(content_id);
        self.jobs.push(Job {
            number,
            write,
            content_id,
            created_at: at,
            attempts: 0,
            status: SyncStatus::ExportPending,
            id: None,
            why: None,
            busy: false,
            unchecked,
            mark: None,
        });
        number
    }

    /// Whether to discard the answer to a write.
    pub(crate) fn loses(&mut self) -> bool {
        let loses = self.lose > 0;
        self.lose = self.lose.saturating_sub(1);
        loses
    }

    /// Records a run, and switches the channel off after too many consecutive failures.
    pub(crate) fn ran(&mut self, run: Run, failed: bool, behavior: &DigitalBehavior) {
        self.failed_runs = if failed { self.failed_runs.saturating_add(1) } else { 0 };
        self.off |= behavior.disable_after.is_some_and(|limit| self.failed_runs >= limit);
        self.runs.push_back(run);
        if self.runs.len() > RUNS {
            self.runs.pop_front();
        }
    }

    /// The time between two runs: the least gap up to twice that, by `chance` from 0 to 1. The service's pages speak of
    /// one minute and of about two (digital-source.md §16).
    pub(crate) fn gap(&self, behavior: &DigitalBehavior, chance: f64) -> Duration {
        let lists = self.caps.as_ref().is_some_and(Capabilities::lists);
        let gap = if lists { LIST_GAP } else { SILENT_GAP };
        gap.mul_f64(1.0 + chance.clamp(0.0, 1.0)) / behavior.faster.max(1)
    }

    pub(crate) fn saved(&mut self) {
        (self.off, self.failed_runs) = (false, 0);
    }
}

/// The channels of a sandbox, by source id.
#[derive(Default)]
pub(crate) struct Channels(pub(crate) HashMap<String, Core>);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn run_history_is_bounded_and_consecutive_failures_switch_off() {
        let mut core = Core::new(Signer::new("token").unwrap());
        let behavior = DigitalBehavior { disable_after: Some(3), ..DigitalBehavior::default() };
        for number in 0..RUNS as u64 + 5 {
            core.ran(Run::new(number), false, &behavior);
        }
        assert_eq!((core.runs.len(), core.runs[0].number), (RUNS, 5));
        for (failed, off) in [(true, false), (true, false), (false, false), (true, false), (true, false), (true, true)]
        {
            core.ran(Run::new(0), failed, &behavior);
            assert_eq!(core.off, off);
        }
        core.saved();
        core.ran(Run::new(0), true, &behavior);
        assert!(!core.off);
    }

    #[test]
    fn the_gap_is_irregular_longer_without_lists_and_is_sped_up() {
        let mut core = Core::new(Signer::new("token").unwrap());
        let read = |operation: &str| {
            let answer = serde_json::json!({ "objects": { "messages": [operation] } });
            Capabilities::read(&answer, &mut crate::checks::Violations::about(""))
        };
        let behavior = DigitalBehavior { faster: 10, ..DigitalBehavior::default() };
        let gaps = |core: &Core| [0.0, 0.5, 1.0].map(|chance| core.gap(&behavior, chance).as_secs());
        assert_eq!(gaps(&core), [18, 27, 36], "before the first answer");
        core.caps = read("create");
        assert_eq!(gaps(&core), [18, 27, 36]);
        core.caps = read("list");
        assert_eq!(gaps(&core), [6, 9, 12]);
        assert_eq!(
            core.gap(&DigitalBehavior { faster: 0, ..behavior.clone() }, 0.0),
            Duration::from_secs(60),
            "never divided by zero"
        );
    }
}
