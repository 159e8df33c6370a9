//! Removes from a failing schedule everything that it fails without.

use std::sync::Arc;

use crate::runner::judge_schedule;
use crate::schedule::Schedule;

/// The most runs of one search.
const RUNS: u32 = 400;
/// The same if each failing run takes seconds.
const FEW_RUNS: u32 = 12;

struct Search {
    class: &'static str,
    best: Schedule,
    runs: u32,
}

impl Search {
    /// Adopts `candidate` if it still breaks the same promise.
    fn attempt(&mut self, candidate: Schedule) -> bool {
        let most = if self.class == "livelock" { FEW_RUNS } else { RUNS };
        if self.runs >= most {
            return false;
        }
        self.runs += 1;
        let fails = judge_schedule(&Arc::new(candidate.clone())).iter().any(|violation| violation.class == self.class);
        if fails {
            self.best = candidate;
        }
        fails
    }

    /// Drops parts of a list, large ones first.
    fn list<T: Clone>(&mut self, get: fn(&mut Schedule) -> &mut Vec<T>) {
        let mut size = get(&mut self.best.clone()).len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < get(&mut self.best.clone()).len() {
                let mut candidate = self.best.clone();
                let list = get(&mut candidate);
                list.drain(at..list.len().min(at + size));
                if !self.attempt(candidate) {
                    at += size;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }
}

/// The shortest schedule found that breaks the promise `class`.
pub(crate) fn shrink(schedule: &Schedule, class: &'static str) -> Schedule {
    let mut search = Search { class, best: schedule.clone(), runs: 0 };
    search.list(|schedule| &mut schedule.faults);
    search.list(|schedule| &mut schedule.updates);
    let mut untouched = search.best.clone();
    untouched.deletions.clear();
    if !search.attempt(untouched) {
        search.list(|schedule| &mut schedule.deletions);
    }
    search.list(|schedule| &mut schedule.events);
    let mut plain = search.best.clone();
    plain.knobs = crate::service::knobs::Knobs::plain();
    if !search.attempt(plain) {
        for (name, _) in search.best.knobs.unusual() {
            let mut candidate = search.best.clone();
            candidate.knobs.make_plain(name);
            search.attempt(candidate);
        }
    }
    let simpler: [fn(&mut Schedule); 6] = [
        |schedule| schedule.enrich = false,
        |schedule| schedule.skew = 0,
        |schedule| schedule.catch_up = false,
        |schedule| schedule.queue_bytes = 8 << 20,
        |schedule| schedule.profile.jitter = 0,
        |schedule| {
            let used: Vec<_> = schedule.events.iter().map(|event| event.what.filter()).collect();
            schedule.filters.retain(|filter| used.contains(filter));
            if schedule.filters.is_empty() {
                schedule.filters.push(crate::world::Filter::Sms);
            }
        },
    ];
    for simplify in simpler {
        let mut candidate = search.best.clone();
        simplify(&mut candidate);
        search.attempt(candidate);
    }
    search.list(|schedule| &mut schedule.faults);
    search.list(|schedule| &mut schedule.events);
    search.best
}
