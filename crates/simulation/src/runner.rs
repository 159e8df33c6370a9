//! Runs many schedules over all cores, adds up what they show, and says what failed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};

use crate::client;
use crate::oracle::{self, Stats, Violation};
use crate::schedule::{Mode, Schedule};
use crate::shrink::shrink;

const USAGE: &str =
    "usage: ringcentral-simulation [--schedules N] [--seed S] [--transport pubnub|websocket|failover|agent] \
[--threads N] [--shrink N] [--class NAME] [--trace]

  --schedules N  how many seeds to run, from the first on (1000)
  --seed S       the first seed (0)
  --transport M  only this set-up
  --shrink N     how many failing seeds are shrunk and shown (3)
  --class NAME   only violations of this class count
  --trace        print everything that happens in the first seed";

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// What panicked in this thread since the last call, in any task.
pub(crate) fn take_panics() -> Vec<String> {
    PANICS.with(|panics| std::mem::take(&mut *panics.borrow_mut()))
}

/// Panics of tasks are noted, and not printed.
pub(crate) fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| PANICS.with(|panics| panics.borrow_mut().push(info.to_string()))));
    });
}

/// The verdict on one schedule.
pub(crate) fn judge_schedule(schedule: &Arc<Schedule>) -> Vec<Violation> {
    let finished = client::run(schedule, false);
    oracle::judge(&finished.core, &finished.record).0
}

/// Sums over schedules.
#[derive(Debug, Default)]
struct Totals {
    schedules: u64,
    calm: u64,
    not_started: u64,
    stats: Stats,
    /// Faults by name, and by the client's phase when they came.
    faults: BTreeMap<(&'static str, &'static str), u64>,
    wrong_answers: u64,
    requests: u64,
    failed: Vec<(u64, Mode, Violation)>,
    /// By how much gaps begin before what was lost in them, in milliseconds, and in which seed.
    leads: BTreeMap<Mode, Vec<(u64, u64)>>,
    /// Seeds with a gap that could have been filled in time, and was not.
    unfilled: Vec<u64>,
}

impl Totals {
    fn add(&mut self, other: Self) {
        self.schedules += other.schedules;
        self.calm += other.calm;
        self.not_started += other.not_started;
        self.wrong_answers += other.wrong_answers;
        self.requests += other.requests;
        for (key, n) in other.faults {
            *self.faults.entry(key).or_default() += n;
        }
        self.failed.extend(other.failed);
        self.unfilled.extend(other.unfilled);
        for (mode, leads) in other.leads {
            self.leads.entry(mode).or_default().extend(leads);
        }
        let (mine, theirs) = (&mut self.stats, other.stats);
        mine.events += theirs.events;
        mine.delivered += theirs.delivered;
        mine.found += theirs.found;
        mine.missing += theirs.missing;
        for (cause, n) in theirs.gaps {
            *mine.gaps.entry(cause).or_default() += n;
        }
        for (name, n) in theirs.resumed {
            *mine.resumed.entry(name).or_default() += n;
        }
        mine.gap_lead_ms.extend(theirs.gap_lead_ms);
        mine.gap_length_ms.extend(theirs.gap_length_ms);
        mine.gaps_fillable += theirs.gaps_fillable;
        mine.gaps_filled += theirs.gaps_filled;
        mine.back_ms.extend(theirs.back_ms);
        mine.late_ms.extend(theirs.late_ms);
    }

    fn run(&mut self, seed: u64, mode: Option<Mode>) {
        let schedule = Arc::new(Schedule::draw(seed, mode));
        let finished = client::run(&schedule, false);
        let (mut violations, stats) = oracle::judge(&finished.core, &finished.record);
        // A share of the runs is done twice: the same seed is the same run.
        if seed.is_multiple_of(40) {
            let again = client::run(&schedule, false);
            if again.core.trace.digest() != finished.core.trace.digest() {
                violations.push(Violation {
                    class: "nondeterminism",
                    at: 0,
                    detail: "two runs of one seed differ".into(),
                });
            }
        }
        let part = Self {
            schedules: 1,
            calm: u64::from(schedule.is_calm()),
            not_started: u64::from(finished.record.started.is_none()),
            leads: BTreeMap::from([(schedule.mode, stats.gap_lead_ms.iter().map(|ms| (*ms, seed)).collect())]),
            unfilled: if stats.gaps_filled < stats.gaps_fillable { vec![seed] } else { Vec::new() },
            stats,
            faults: {
                let mut faults = BTreeMap::new();
                for (index, _, phase) in &finished.core.applied {
                    *faults.entry((schedule.faults[*index].what.name(), *phase)).or_default() += 1;
                }
                faults
            },
            wrong_answers: finished.core.service.went_wrong,
            requests: finished.core.service.requests,
            failed: violations.into_iter().map(|violation| (seed, schedule.mode, violation)).collect(),
        };
        self.add(part);
    }
}

struct Asked {
    schedules: u64,
    seed: u64,
    mode: Option<Mode>,
    threads: usize,
    shrink: usize,
    class: Option<String>,
    trace: bool,
}

fn read(args: impl IntoIterator<Item = OsString>) -> Result<Option<Asked>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut parser = lexopt::Parser::from_iter(args);
    let mut asked = Asked {
        schedules: 1000,
        seed: 0,
        mode: None,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        shrink: 3,
        class: None,
        trace: false,
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("schedules") => asked.schedules = parser.value()?.parse()?,
            Long("seed") => asked.seed = parser.value()?.parse()?,
            Long("transport") => {
                let name = parser.value()?.string()?;
                asked.mode = Some(Mode::ALL.into_iter().find(|mode| mode.name() == name).ok_or("no such transport")?);
            }
            Long("threads") => asked.threads = parser.value()?.parse()?,
            Long("shrink") => asked.shrink = parser.value()?.parse()?,
            Long("class") => asked.class = Some(parser.value()?.string()?),
            Long("trace") => asked.trace = true,
            Long("help") | Short('h') => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Some(asked))
}

/// The program: reads its arguments, runs, reports. Fails when a promise was broken.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let asked = match read(args) {
        Ok(Some(asked)) => asked,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    note_panics();
    if asked.trace {
        return trace(&asked);
    }
    let totals = run_all(&asked);
    report(&asked, &totals)
}

/// One seed, with everything that happens in it.
fn trace(asked: &Asked) -> ExitCode {
    let schedule = Arc::new(Schedule::draw(asked.seed, asked.mode));
    println!("{}", schedule.describe());
    let finished = client::run(&schedule, true);
    for line in finished.core.trace.lines() {
        println!("{line}");
    }
    let (violations, stats) = oracle::judge(&finished.core, &finished.record);
    println!("digest {:016x}, {stats:?}", finished.core.trace.digest());
    println!("started {:?}, start error {:?}", finished.record.started, finished.record.start_error);
    for violation in &violations {
        println!("{}: {}", violation.class, violation.detail);
    }
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_all(asked: &Asked) -> Totals {
    let next = AtomicU64::new(0);
    let totals = Mutex::new(Totals::default());
    std::thread::scope(|scope| {
        for _ in 0..asked.threads.max(1) {
            scope.spawn(|| {
                let mut mine = Totals::default();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= asked.schedules {
                        break;
                    }
                    mine.run(asked.seed + index, asked.mode);
                }
                if let Ok(mut totals) = totals.lock() {
                    totals.add(mine);
                }
            });
        }
    });
    let mut totals = totals.into_inner().unwrap_or_default();
    if let Some(class) = &asked.class {
        totals.failed.retain(|(_, _, violation)| violation.class == class.as_str());
    }
    totals.failed.sort_by_key(|(seed, _, violation)| (*seed, violation.at));
    totals
}

/// The value below which `percent` of them lie.
fn percentile(values: &[u64], percent: usize) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
}

fn times(name: &str, values: &[u64]) {
    let p = |percent| percentile(values, percent) as f64 / 1000.0;
    println!(
        "  {name:<34} n {:>7}   50 % {:>8.2} s   90 % {:>8.2} s   99 % {:>8.2} s   most {:>8.2} s",
        values.len(),
        p(50),
        p(90),
        p(99),
        p(100)
    );
}

fn report(asked: &Asked, totals: &Totals) -> ExitCode {
    let stats = &totals.stats;
    println!(
        "{} schedules from seed {}, {} of them calm, {} not started; {} requests, {} wrong answers",
        totals.schedules, asked.seed, totals.calm, totals.not_started, totals.requests, totals.wrong_answers
    );
    println!(
        "{} events: {} delivered, {} of them found by asking; {} lost",
        stats.events, stats.delivered, stats.found, stats.missing
    );
    println!("gaps by cause:");
    for (cause, n) in &stats.gaps {
        println!("  {cause:<34} {n:>7}");
    }
    println!("ends of gaps:");
    for (name, n) in &stats.resumed {
        println!("  {name:<34} {n:>7}");
    }
    println!("times:");
    for (mode, leads) in &totals.leads {
        let leads: Vec<u64> = leads.iter().map(|(ms, _)| *ms).collect();
        times(&format!("gap before its first lost, {}", mode.name()), &leads);
    }
    times("from a gap to its end", &stats.gap_length_ms);
    times("down until events arrive again", &stats.back_ms);
    times("healthy though nothing would arrive", &stats.late_ms);
    println!("  filled within 10 s, of what could be: {} of {}", stats.gaps_filled, stats.gaps_fillable);
    let mut rare = faults_table(totals, asked.mode.is_none());
    rare.extend(quality(totals));
    let mut classes: BTreeMap<&str, (u64, Vec<u64>)> = BTreeMap::new();
    for (seed, _, violation) in &totals.failed {
        let (n, seeds) = classes.entry(violation.class).or_default();
        *n += 1;
        if seeds.last() != Some(seed) {
            seeds.push(*seed);
        }
    }
    println!("broken promises:");
    for (class, (n, seeds)) in &classes {
        let first: Vec<String> = seeds.iter().take(8).map(u64::to_string).collect();
        println!("  {class:<20} {n:>6} in {:>5} schedules, such as {}", seeds.len(), first.join(" "));
    }
    let mut shown: BTreeMap<(&str, Mode), usize> = BTreeMap::new();
    let mut left = asked.shrink;
    for (seed, mode, violation) in &totals.failed {
        let n = shown.entry((violation.class, *mode)).or_default();
        if left == 0 || *n > 0 {
            continue;
        }
        *n += 1;
        left -= 1;
        show(*seed, *mode, violation, asked.mode);
    }
    if classes.is_empty() && rare.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A gap that begins long before the first loss, or that is never filled, would be a cheap way
/// to be right.
fn quality(totals: &Totals) -> Vec<String> {
    let mut poor = Vec::new();
    for (mode, leads) in &totals.leads {
        let bound = match mode {
            Mode::WebSocket | Mode::FailOver => 30_000,
            Mode::PubNub | Mode::Agent => 60_000,
        };
        let times: Vec<u64> = leads.iter().map(|(ms, _)| *ms).collect();
        let (median, most) = (percentile(&times, 50), percentile(&times, 99));
        if median > 2_000 || most > bound {
            let mut worst = leads.clone();
            worst.sort_unstable_by(|a, b| b.cmp(a));
            let seeds: Vec<String> =
                worst.iter().take(6).map(|(ms, seed)| format!("{seed} ({} s)", ms / 1000)).collect();
            let name = mode.name();
            poor.push(format!(
                "gaps over {name} begin {median} ms (50 %) and {most} ms (99 %) too early, such as in {}",
                seeds.join(", ")
            ));
        }
    }
    let stats = &totals.stats;
    if stats.gaps_filled * 100 < stats.gaps_fillable * 99 {
        let mut seeds = totals.unfilled.clone();
        seeds.sort_unstable();
        let seeds: Vec<String> = seeds.iter().take(8).map(u64::to_string).collect();
        let (filled, all) = (stats.gaps_filled, stats.gaps_fillable);
        poor.push(format!(
            "{filled} of {all} gaps that could be filled are, within 10 s; not so in {}",
            seeds.join(" ")
        ));
    }
    for line in &poor {
        println!("poor: {line}");
    }
    // Few gaps say little.
    if totals.schedules >= LONG { poor } else { Vec::new() }
}

fn show(seed: u64, mode: Mode, violation: &Violation, asked: Option<Mode>) {
    println!("\n--- {} in seed {seed} ({}): {}", violation.class, mode.name(), violation.detail);
    if violation.class == "nondeterminism" {
        return;
    }
    let shortest = shrink(&Schedule::draw(seed, asked), violation.class);
    print!("shortest schedule: {}", shortest.describe());
    for violation in judge_schedule(&Arc::new(shortest)) {
        println!("  {}: {}", violation.class, violation.detail);
    }
}

/// How often a fault, or the end of a gap, must have been seen in 10 000 schedules.
const OFTEN: u64 = 50;
/// Only so many schedules say something about what is rare.
const LONG: u64 = 10_000;

/// Kinds of loss that every long run of all transports must have seen.
const EXPECTED_CAUSES: [&str; 9] = [
    "address_moved",
    "connection_broken",
    "ended_offline",
    "events_missed",
    "lease_expired",
    "service_buffer_full",
    "session_lost",
    "subscription_gone",
    "subscription_inactive",
];
const EXPECTED_ENDS: [&str; 4] = ["complete", "complete, recreated", "incomplete", "incomplete, recreated"];

fn faults_table(totals: &Totals, is_mixed: bool) -> Vec<String> {
    let is_long = totals.schedules >= LONG && is_mixed;
    let mut names: Vec<&str> = totals.faults.keys().map(|(name, _)| *name).collect();
    names.dedup();
    let mut phases: Vec<&str> = totals.faults.keys().map(|(_, phase)| *phase).collect();
    phases.sort_unstable();
    phases.dedup();
    println!("faults by the phase of the client:");
    println!("  {:<24}{}", "", phases.iter().map(|phase| format!("{phase:>14}")).collect::<String>());
    let mut rare = Vec::new();
    for name in names {
        let count = |phase: &&str| totals.faults.get(&(name, *phase)).copied().unwrap_or(0);
        let cells: String = phases.iter().map(|phase| format!("{:>14}", count(phase))).collect();
        println!("  {name:<24}{cells}");
        let all: u64 = phases.iter().map(count).sum();
        for (what, n) in [("ever", all), ("live", count(&"live"))] {
            if is_long && n * LONG < OFTEN * totals.schedules {
                rare.push(format!("{name}, {what}: {n}"));
            }
        }
    }
    for (name, n) in EXPECTED_ENDS.iter().map(|name| (*name, totals.stats.resumed.get(name).copied().unwrap_or(0))) {
        if is_long && n * LONG < OFTEN * totals.schedules {
            rare.push(format!("end of a gap, {name}: {n}"));
        }
    }
    for (name, n) in EXPECTED_CAUSES.iter().map(|name| (*name, totals.stats.gaps.get(*name).copied().unwrap_or(0))) {
        if is_long && n * LONG < OFTEN * totals.schedules {
            rare.push(format!("gap, {name}: {n}"));
        }
    }
    if !rare.is_empty() {
        println!("seen too seldom: {}", rare.join("; "));
    }
    rare
}
