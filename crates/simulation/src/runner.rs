//! Runs many schedules over all cores, adds up what they show, and says what failed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};

use crate::client;
use crate::oracle::{self, Stats, Violation};
use crate::schedule::{Mode, Schedule, Suite};
use crate::shrink::shrink;

const USAGE: &str =
    "usage: ringcentral-simulation [--schedules N] [--seed S] [--transport pubnub|websocket|failover|agent] \
[--suite main|wide|crash|all] [--threads N] [--shrink N] [--class NAME] [--ratchet] [--lines] [--trace]

  --suite NAME   what the schedules are made of: faults of every kind (main); with faults in
                 phases that are short, and what main does not draw (wide); a program with a
                 checkpoint over a simulated disk, and crashes (crash); or all of them
  --schedules N  how many seeds of a suite to run, from the first on (1000); of the crashes
                 six tenths, with more than 10 000 crash points where it is 10 000
  --seed S       the first seed (0)
  --transport M  only this set-up
  --shrink N     how many failing seeds are shrunk and shown (3)
  --class NAME   only violations of this class count
  --ratchet      what is known to be broken does not fail, as long as it is no more than known
  --lines        a line for each violation, for machines
  --trace        print everything that happens in the first seed";

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// The panics of any task in this thread since the last call.
pub(crate) fn take_panics() -> Vec<String> {
    PANICS.with(|panics| std::mem::take(&mut *panics.borrow_mut()))
}

/// Panics of tasks are noted, and not printed.
pub(crate) fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            // Panics of the oracle are the simulation's own.
            if info.location().is_some_and(|at| at.file().contains("oracle") || at.file().contains("runner")) {
                eprintln!("{info}");
            }
            // The client catches those of the database, and gives an error.
            if !info.location().is_some_and(|at| at.file().contains("/redb-")) {
                PANICS.with(|panics| panics.borrow_mut().push(info.to_string()));
            }
        }));
    });
}

/// The verdict on one schedule.
pub(crate) fn judge_schedule(schedule: &Arc<Schedule>) -> Vec<Violation> {
    let finished = client::run(schedule, false);
    oracle::judge(&finished.core, &finished.record).0
}

/// Totals over schedules.
#[derive(Debug, Default)]
struct Totals {
    schedules: u64,
    calm: u64,
    not_started: u64,
    stats: Stats,
    /// Faults by name, and by the client's phase at the time.
    faults: BTreeMap<(&'static str, &'static str), u64>,
    wrong_answers: u64,
    requests: u64,
    failed: Vec<(Suite, u64, Mode, Violation)>,
    /// How often the service showed a fact that a client may take for a proof.
    facts: BTreeMap<&'static str, u64>,
    /// By how much gaps begin before what was lost in them, in milliseconds, and in which seed.
    leads: BTreeMap<Mode, Vec<(u64, u64)>>,
    /// Crash points, by the store and by what stopped.
    crashes: BTreeMap<(&'static str, &'static str), u64>,
    disk_operations: u64,
    torn: u64,
    /// Seeds with a gap that could have been filled in time, and was not.
    unfilled: Vec<u64>,
    /// Those gaps by their cause and their end, with their suites and seeds.
    unfilled_by: BTreeMap<(String, &'static str), Vec<(Suite, u64)>>,
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
        for (key, n) in other.facts {
            *self.facts.entry(key).or_default() += n;
        }
        for (key, n) in other.crashes {
            *self.crashes.entry(key).or_default() += n;
        }
        self.disk_operations += other.disk_operations;
        self.torn += other.torn;
        self.failed.extend(other.failed);
        self.unfilled.extend(other.unfilled);
        for (key, seeds) in other.unfilled_by {
            self.unfilled_by.entry(key).or_default().extend(seeds);
        }
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

    fn run(&mut self, suite: Suite, seed: u64, mode: Option<Mode>) {
        let schedule = Arc::new(suite.draw(seed, mode));
        // A share of the runs is repeated: the same seed is the same run.
        let is_repeated = seed.is_multiple_of(40);
        let finished = client::run(&schedule, is_repeated);
        let (mut violations, stats) = oracle::judge(&finished.core, &finished.record);
        if is_repeated {
            let again = client::run(&schedule, true);
            if again.core.trace.digest() != finished.core.trace.digest() {
                let detail = first_difference(finished.core.trace.lines(), again.core.trace.lines());
                violations.push(Violation { class: "nondeterminism", at: 0, detail });
            }
        }
        let part = Self {
            schedules: 1,
            calm: u64::from(schedule.is_calm()),
            not_started: u64::from(finished.record.started.is_none()),
            leads: BTreeMap::from([(schedule.mode, stats.gap_lead_ms.iter().map(|ms| (*ms, seed)).collect())]),
            unfilled: if stats.gaps_filled < stats.gaps_fillable { vec![seed] } else { Vec::new() },
            unfilled_by: {
                let mut by: BTreeMap<_, Vec<_>> = BTreeMap::new();
                for key in &stats.unfilled {
                    by.entry(key.clone()).or_default().push((suite, seed));
                }
                by
            },
            stats,
            faults: {
                let mut faults = BTreeMap::new();
                for (index, _, phase) in &finished.core.applied {
                    *faults.entry((schedule.faults[*index].what.name(), *phase)).or_default() += 1;
                }
                faults
            },
            facts: finished.core.service.facts,
            crashes: crash_points(&schedule, &finished.record),
            disk_operations: finished.record.disk_operations,
            torn: finished.record.torn,
            wrong_answers: finished.core.service.went_wrong,
            requests: finished.core.service.requests,
            failed: violations.into_iter().map(|violation| (suite, seed, schedule.mode, violation)).collect(),
        };
        self.add(part);
    }
}

/// Where two traces of one seed part.
fn first_difference(one: &[String], other: &[String]) -> String {
    let index = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let line = |of: &[String]| of.get(index).cloned().unwrap_or_else(|| "the end".into());
    format!("two runs of one seed differ in line {index}: {:?} and {:?}", line(one), line(other))
}

/// Which operation the crash stopped, and how often, by the store.
fn crash_points(schedule: &Schedule, record: &oracle::Record) -> BTreeMap<(&'static str, &'static str), u64> {
    let mut points = BTreeMap::new();
    let Some(plan) = &schedule.crashes else { return points };
    for crash in &plan.crashes[..record.crashes.len()] {
        let what = match (crash.power, crash.operation) {
            (true, Some(_)) => "power lost at an operation",
            (true, None) => "power lost at a time",
            (false, Some(_)) => "killed at an operation",
            (false, None) => "killed at a time",
        };
        *points.entry((plan.store.name(), what)).or_default() += 1;
    }
    points
}

struct Asked {
    schedules: u64,
    seed: u64,
    mode: Option<Mode>,
    suites: Vec<Suite>,
    ratchet: bool,
    lines: bool,
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
        suites: vec![Suite::Main],
        ratchet: false,
        lines: false,
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
            Long("suite") => {
                let name = parser.value()?.string()?;
                asked.suites = Suite::ALL.into_iter().filter(|suite| name == "all" || suite.name() == name).collect();
                if asked.suites.is_empty() {
                    return Err("no such suite".into());
                }
            }
            Long("threads") => asked.threads = parser.value()?.parse()?,
            Long("shrink") => asked.shrink = parser.value()?.parse()?,
            Long("class") => asked.class = Some(parser.value()?.string()?),
            Long("ratchet") => asked.ratchet = true,
            Long("lines") => asked.lines = true,
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
    let Some(suite) = asked.suites.first() else { return ExitCode::from(2) };
    let schedule = Arc::new(suite.draw(asked.seed, asked.mode));
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
    let parts: Vec<(Suite, u64)> =
        asked.suites.iter().map(|suite| (*suite, (asked.schedules * suite.tenths()).div_ceil(10))).collect();
    let totals = Mutex::new(Totals::default());
    std::thread::scope(|scope| {
        for _ in 0..asked.threads.max(1) {
            scope.spawn(|| {
                let mut mine = Totals::default();
                loop {
                    let mut index = next.fetch_add(1, Ordering::Relaxed);
                    let part = parts.iter().find(|(_, n)| {
                        let is_in = index < *n;
                        index -= if is_in { 0 } else { *n };
                        is_in
                    });
                    let Some((suite, _)) = part else { break };
                    mine.run(*suite, asked.seed + index, asked.mode);
                }
                if let Ok(mut totals) = totals.lock() {
                    totals.add(mine);
                }
            });
        }
    });
    let mut totals = totals.into_inner().unwrap_or_default();
    if let Some(class) = &asked.class {
        totals.failed.retain(|(.., violation)| violation.class == class.as_str());
    }
    totals.failed.sort_by_key(|(suite, seed, _, violation)| (*suite, *seed, violation.at));
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
    if !totals.crashes.is_empty() {
        let all: u64 = totals.crashes.values().sum();
        let (operations, torn) = (totals.disk_operations, totals.torn);
        println!("{all} crash points; {operations} operations of the disk; after {torn} crashes something was torn:");
        for ((store, what), n) in &totals.crashes {
            println!("  {store:<6} {what:<27} {n:>7}");
        }
    }
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
    for ((cause, end), seeds) in &totals.unfilled_by {
        let mut seeds = seeds.clone();
        seeds.sort_unstable();
        let first: Vec<String> = seeds.iter().take(8).map(|(suite, seed)| format!("{} {seed}", suite.name())).collect();
        println!("    not filled: {cause:<24} {end:<16} {:>4}, such as {}", seeds.len(), first.join(", "));
    }
    let mut poor = coverage(asked, totals);
    poor.extend(quality(asked, totals));
    let mut classes: BTreeMap<(&str, Suite), (u64, Vec<u64>)> = BTreeMap::new();
    for (suite, seed, _, violation) in &totals.failed {
        let (n, seeds) = classes.entry((violation.class, *suite)).or_default();
        *n += 1;
        if seeds.last() != Some(seed) {
            seeds.push(*seed);
        }
    }
    println!("broken promises:");
    let mut is_worse = false;
    for ((class, suite), (n, seeds)) in &classes {
        let first: Vec<String> = seeds.iter().take(8).map(u64::to_string).collect();
        let most = if asked.ratchet { known(class, *suite) * asked.schedules / LONG } else { 0 };
        let is_known = seeds.len() as u64 <= most;
        is_worse |= !is_known;
        println!(
            "  {class:<20} {:<6} {n:>6} in {:>5} schedules, {}such as {}",
            suite.name(),
            seeds.len(),
            if asked.ratchet { format!("{most} are known, ") } else { String::new() },
            first.join(" ")
        );
    }
    if asked.lines {
        for (suite, seed, _, violation) in &totals.failed {
            println!("violation {} {seed} {}", suite.name(), violation.class);
        }
    }
    let mut shown: BTreeMap<(&str, Mode), usize> = BTreeMap::new();
    let mut left = asked.shrink;
    for (suite, seed, mode, violation) in &totals.failed {
        if asked.ratchet && known(violation.class, *suite) > 0 {
            continue;
        }
        let n = shown.entry((violation.class, *mode)).or_default();
        if left == 0 || *n > 0 {
            continue;
        }
        *n += 1;
        left -= 1;
        show(*suite, *seed, *mode, violation, asked);
    }
    if is_worse || !poor.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Promises that the client still breaks, by suite, and in how many of 10 000 schedules at most. A number only ever
/// falls; the list is empty when all is done.
const KNOWN: &[(&str, Suite, u64)] =
    &[("nondeterminism", Suite::Main, 2), ("nondeterminism", Suite::Wide, 2), ("rate", Suite::Wide, 1)];

fn known(class: &str, suite: Suite) -> u64 {
    KNOWN.iter().find(|(name, of, _)| *name == class && *of == suite).map_or(0, |(.., most)| *most)
}

/// Milliseconds by which gaps may begin too early: half of them, and 99 of 100; and what is
/// reached of that. The latter only ever falls.
const EARLY: [(Mode, [u64; 2], [u64; 2]); 4] = [
    (Mode::PubNub, [2_000, 60_000], [2_200, 60_000]),
    (Mode::WebSocket, [2_000, 30_000], [2_200, 32_000]),
    (Mode::FailOver, [2_000, 60_000], [2_200, 60_000]),
    (Mode::Agent, [2_000, 60_000], [2_000, 60_000]),
];

/// So many in a thousand of the gaps that can be filled are, within 10 s; and so many are so far.
const FILLED: [u64; 2] = [990, 990];

/// A gap that begins long before the first loss, or that is never filled, would be a cheap way to be right.
fn quality(asked: &Asked, totals: &Totals) -> Vec<String> {
    let mut poor = Vec::new();
    for (mode, leads) in &totals.leads {
        let bounds =
            EARLY.iter().find(|(of, ..)| of == mode).map(|(_, aim, now)| if asked.ratchet { now } else { aim });
        let Some([half, nearly_all]) = bounds else { continue };
        let times: Vec<u64> = leads.iter().map(|(ms, _)| *ms).collect();
        let (median, most) = (percentile(&times, 50), percentile(&times, 99));
        if median > *half || most > *nearly_all {
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
    if stats.gaps_filled * 1000 < stats.gaps_fillable * FILLED[usize::from(asked.ratchet)] {
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
    if asked.schedules >= LONG { poor } else { Vec::new() }
}

fn show(suite: Suite, seed: u64, mode: Mode, violation: &Violation, asked: &Asked) {
    let (class, name) = (violation.class, suite.name());
    println!("\n--- {class} in seed {seed} of {name} ({}): {}", mode.name(), violation.detail);
    if violation.class == "nondeterminism" {
        return;
    }
    let shortest = shrink(&suite.draw(seed, asked.mode), violation.class);
    print!("shortest schedule: {}", shortest.describe());
    for violation in judge_schedule(&Arc::new(shortest)) {
        println!("  {}: {}", violation.class, violation.detail);
    }
}

/// How often a fault, or the end of a gap, must have been seen in 10 000 schedules.
const OFTEN: u64 = 50;
/// Only so many schedules say something about what is rare.
const LONG: u64 = 10_000;

/// Kinds of loss that every long run of all suites must have seen.
const EXPECTED_CAUSES: [&str; 15] = [
    "address_moved",
    "answer_lost",
    "connection_broken",
    "ended_offline",
    "events_missed",
    "key_unknown",
    "lease_expired",
    "overflow",
    "polled_in_part",
    "service_buffer_aged",
    "service_buffer_full",
    "session_lost",
    "subscription_gone",
    "subscription_inactive",
    "transport_changed",
];
const EXPECTED_ENDS: [&str; 4] = ["complete", "complete, recreated", "incomplete", "incomplete, recreated"];

/// What the service shows that the client may take for a proof.
const EXPECTED_FACTS: [&str; 14] = [
    "a close frame",
    "a full answer",
    "a heartbeat is answered",
    "a key opens a message",
    "a pong",
    "a replayed event",
    "a source is answered",
    "a subscription is described",
    "a subscription is made or renewed",
    "a subscription is not there",
    "an agent's answer without an id",
    "an answer that is not full",
    "an answer without messages",
    "an event over a socket",
];

/// In which phase each fault must have been seen, beside "live", and which of them a
/// program that does not read cannot do.
const EXPECTED_PHASES: [&str; 5] = crate::schedule::PHASES;

/// Prints how often everything happened; returns what happened too rarely in a long run of all suites.
fn coverage(asked: &Asked, totals: &Totals) -> Vec<String> {
    let is_long = asked.schedules >= LONG && asked.mode.is_none() && asked.suites.len() == Suite::ALL.len();
    let mut rare = Vec::new();
    let mut expect = |what: String, n: u64| {
        if is_long && n * LONG < OFTEN * asked.schedules {
            rare.push(format!("{what}: {n}"));
        }
    };
    println!("what may prove something:");
    for (fact, n) in &totals.facts {
        println!("  {fact:<34} {n:>7}");
    }
    for fact in EXPECTED_FACTS {
        expect(fact.to_owned(), totals.facts.get(fact).copied().unwrap_or(0));
    }
    let mut names: Vec<&str> = totals.faults.keys().map(|(name, _)| *name).collect();
    names.dedup();
    let mut phases: Vec<&str> = totals.faults.keys().map(|(_, phase)| *phase).collect();
    phases.sort_unstable();
    phases.dedup();
    println!("faults by the phase of the client:");
    println!("  {:<24}{}", "", phases.iter().map(|phase| format!("{phase:>14}")).collect::<String>());
    let count = |name: &str, phase: &str| {
        let of = totals.faults.iter().find(|((it, when), _)| *it == name && *when == phase);
        of.map_or(0, |(_, n)| *n)
    };
    for name in names {
        let cells: String = phases.iter().map(|phase| format!("{:>14}", count(name, phase))).collect();
        println!("  {name:<24}{cells}");
    }
    for name in crate::schedule::FORCED {
        expect(format!("{name}, live"), count(name, "live"));
        for phase in EXPECTED_PHASES {
            // A program that does not read yet, or no more, neither stalls nor starts again.
            let is_idle = matches!(phase, "starting" | "closing");
            let by_program = matches!(name, "stalled reader" | "restart" | "asked to revalidate");
            // There is no socket while one is waited for, and none once the end is answered.
            let by_socket = matches!(name, "sockets closed" | "sessions lost");
            let is_off = matches!(phase, "connecting" | "closing");
            if !(is_idle && by_program || is_off && by_socket) {
                expect(format!("{name}, {phase}"), count(name, phase));
            }
        }
    }
    for name in EXPECTED_ENDS {
        expect(format!("end of a gap, {name}"), totals.stats.resumed.get(name).copied().unwrap_or(0));
    }
    for name in EXPECTED_CAUSES {
        expect(format!("gap, {name}"), totals.stats.gaps.get(name).copied().unwrap_or(0));
    }
    if !rare.is_empty() {
        println!("seen too seldom: {}", rare.join("; "));
    }
    rare
}
