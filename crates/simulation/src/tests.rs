//! A few hundred schedules, and checks of the simulation itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::client;
use crate::runner::{judge_schedule, note_panics};
use crate::schedule::{Fault, FaultKind, Mode, Schedule, Suite};
use crate::service::Op;
use crate::time::SEC;
use crate::world::Filter;

fn files(under: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(under).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|it| it == "rs") {
            into.push(path);
        }
    }
}

/// Code that is written from the references alone shares no interpretation of them with the client.
#[test]
fn the_service_and_the_oracle_use_nothing_of_client_or_sandbox() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    assert!(!manifest.contains("ringcentral-sandbox"), "the sandbox is no dependency");
    let mut sources = Vec::new();
    files(&root.join("src"), &mut sources);
    let mut judged = 0;
    for path in sources {
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        if name.ends_with("tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("ringcentral_sandbox"), "{name}");
        if !name.starts_with("src/client/") {
            judged += 1;
            for word in ["ringcentral_events", "crate::client", "include!", "#[path"] {
                let allowed = word == "crate::client" && name == "src/runner.rs";
                assert!(allowed || !text.contains(word), "{name} uses {word}");
            }
        }
    }
    assert!(judged > 15, "{judged} files were read");
}

#[test]
fn a_seed_is_one_run_byte_for_byte() {
    note_panics();
    for seed in 0..12 {
        let schedule = Arc::new(Schedule::draw(seed, None));
        let digests = [0, 1].map(|_| client::run(&schedule, false).core.trace.digest());
        assert_eq!(digests[0], digests[1], "seed {seed}");
    }
}

/// A runtime that ends drops its tasks in an order that depends on how many there were before.
#[test]
fn a_seed_with_crashes_is_one_run_byte_for_byte() {
    note_panics();
    for seed in [1440, 3120, 3400, 4040] {
        let schedule = Arc::new(Suite::Crash.draw(seed, None));
        let digests = [0, 1, 2].map(|_| client::run(&schedule, false).core.trace.digest());
        assert_eq!([digests[0]; 3], digests, "seed {seed}");
    }
}

/// Promises that the client still breaks, and in how many of these two hundred schedules at
/// most. A number only ever falls; the list is empty when all is done.
const BROKEN: &[(&str, usize)] = &[];

#[test]
fn two_hundred_schedules_break_no_more_promises_than_known() {
    note_panics();
    let broken = broken(Suite::Main, 650..850);
    for (class, seeds) in &broken {
        let known = BROKEN.iter().find(|(name, _)| name == class).map_or(0, |(_, most)| *most);
        assert!(seeds.len() <= known, "{class}: {known} schedules are known\n{}", seeds.join("\n"));
    }
}

/// Violations by class, with the seeds of those in which they are.
fn broken(suite: Suite, seeds: std::ops::Range<u64>) -> BTreeMap<&'static str, Vec<String>> {
    let mut broken: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for seed in seeds {
        let schedule = Arc::new(suite.draw(seed, None));
        let violations = judge_schedule(&schedule);
        let classes: BTreeSet<&str> = violations.iter().map(|it| it.class).collect();
        for class in classes {
            let first = violations.iter().find(|it| it.class == class).map_or("", |it| it.detail.as_str());
            broken.entry(class).or_default().push(format!("seed {seed} ({}): {first}", schedule.mode.name()));
        }
    }
    broken
}

/// About a hundred crash points. What the main suite still breaks is bounded there.
#[test]
fn a_crash_at_any_operation_of_the_store_loses_no_event_without_a_gap() {
    note_panics();
    let broken = broken(Suite::Crash, 0..60);
    for class in
        ["lost", "unfinished-lost", "again-after-ack", "place-lost", "store-refused", "panic", "stuck", "livelock"]
    {
        let seeds = broken.get(class).map_or(&[][..], Vec::as_slice);
        assert!(seeds.is_empty(), "{class}: {}", seeds.join("\n"));
    }
}

/// Two gaps at once, of which one lasts: what polls leave out while their lists answer late, and a lost subscription
/// whose former channel still delivers.
#[test]
fn a_gap_that_lasts_is_not_ended_by_another() {
    note_panics();
    let op = |fault: &Fault| if let FaultKind::Http { op, .. } = fault.what { Some(op) } else { None };
    let lists = |it: &Schedule| it.mode == Mode::FailOver && it.filters == [Filter::Sms, Filter::Telephony];
    let late = |it: &Schedule| lists(it) && it.faults.len() == 2 && op(&it.faults[1]) == Some(Op::Sync);
    let lost = |it: &Schedule| it.faults.iter().map(op).eq([Op::Renew, Op::Get, Op::Create].map(Some));
    for is_one in [&late as &dyn Fn(&Schedule) -> bool, &lost] {
        let drawn = (0..4_000).map(|seed| Suite::Wide.draw(seed, None)).filter(is_one).take(12);
        let mut count = 0;
        for schedule in drawn {
            let seed = schedule.seed;
            let violations = judge_schedule(&Arc::new(schedule));
            assert!(violations.is_empty(), "seed {seed}: {violations:?}");
            count += 1;
        }
        assert_eq!(count, 12);
    }
}

/// The process stands still for longer than a close may take, and has not run meanwhile.
#[test]
fn a_process_that_stands_still_while_it_closes_is_not_stuck() {
    note_panics();
    for mode in Mode::ALL {
        let mut schedule = Schedule::draw(3, Some(mode));
        let end = schedule.end;
        schedule.faults =
            vec![Fault::new(end - 2 * SEC, FaultKind::Freeze(3_000)), Fault::new(end - SEC, FaultKind::Freeze(90_000))];
        let violations = judge_schedule(&Arc::new(schedule));
        assert!(violations.iter().all(|it| it.class != "stuck"), "{}: {violations:?}", mode.name());
    }
}

/// Seeds in which the client, the model or the oracle was wrong.
#[test]
fn seeds_that_broke_a_promise_once_break_none() {
    note_panics();
    let pubnub = Some(Mode::PubNub);
    let mut broken = Vec::new();
    for (suite, mode, seed) in [
        // Events at a new address came before those in transit at the former one.
        (Suite::Main, None, 68_793),
        (Suite::Wide, None, 3_773),
        // The service repeated a message before it had sent it.
        (Suite::Crash, pubnub, 1_303),
        // The wall clock was set back between two processes, and no answer had the service's time.
        (Suite::Main, None, 34_917),
        // A message over a socket stopped in the middle, and counted as a sign of life for ever.
        (Suite::Main, None, 26_803),
        // A restart came between a gap that was read and its end.
        (Suite::Crash, pubnub, 927),
        // The last audit used a connection that the service was closing.
        (Suite::Main, None, 95_307),
        // A subscription that was granted after its reader was dropped stayed.
        (Suite::Main, None, 78_151),
        // A creation was not answered, and the end says that something may be left.
        (Suite::Main, None, 31_029),
        (Suite::Main, None, 36_019),
        (Suite::Main, None, 61_192),
        (Suite::Main, None, 95_335),
        (Suite::Wide, None, 4_787),
        // One fault after the other, or calls of a former process, kept events from arriving.
        (Suite::Main, None, 10_645),
        (Suite::Main, None, 78_984),
        (Suite::Main, None, 83_348),
        (Suite::Wide, None, 1_055),
        // Two audits were refused.
        (Suite::Main, None, 27_467),
        // A renewal whose answer was lost moved the channel, and the close came before any audit.
        (Suite::Main, None, 133_028),
        // A message was deleted between the list of deleted messages and the full sync.
        (Suite::Main, None, 113_967),
        (Suite::Main, None, 136_225),
        (Suite::Main, None, 169_172),
        (Suite::Main, None, 191_791),
        // Without the service's time, a wall clock that was set looks like a machine that slept.
        (Suite::Main, None, 124_105),
        (Suite::Main, None, 136_532),
        // A connection broke within a replay of as many events as the gateway retains.
        (Suite::Main, None, 233_190),
        // A lost subscription went on delivering beside the one in its place.
        (Suite::Main, None, 18_713),
        (Suite::Main, None, 103_769),
        (Suite::Main, None, 178_536),
        // The process stood still while it closed.
        (Suite::Main, None, 31_894),
        (Suite::Wide, pubnub, 77),
        // A slow path made replayed events look live.
        (Suite::Main, None, 271_458),
        // The model's syncs of messages did not reach back as far as documented.
        (Suite::Main, None, 148_081),
        (Suite::Main, None, 188_896),
        // An audit was due without a connection, or ended with one, and the next came much later.
        (Suite::Main, None, 243_428),
        (Suite::Main, None, 268_261),
        // The oracle counted a dead path as time in which the subscription was gone, or expected an audit without a token.
        (Suite::Main, None, 241_497),
        (Suite::Main, None, 234_966),
        // A creation was not answered, and its session continued long after.
        (Suite::Main, None, 246_685),
        (Suite::Main, None, 301_552),
        (Suite::Main, None, 417_405),
        // The oracle expected the order of events that a session replayed seconds after later ones were sent.
        (Suite::Main, None, 173_435),
        // The oracle expected no check of connections though the machine may have slept.
        (Suite::Main, None, 290_588),
        (Suite::Main, None, 318_237),
        // A process without its store found an event from before it, and a crash came before that was finished.
        (Suite::Crash, None, 3_448),
    ] {
        for violation in judge_schedule(&Arc::new(suite.draw(seed, mode))) {
            broken.push(format!("{} {seed}: {}: {}", suite.name(), violation.class, violation.detail));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn faults_come_in_the_phase_that_they_wait_for() {
    let mut seen = BTreeSet::new();
    for seed in 15..35 {
        let schedule = Arc::new(Suite::Wide.draw(seed, None));
        let finished = client::run(&schedule, false);
        for (index, _, phase) in &finished.core.applied {
            if let Some(wanted) = schedule.faults[*index].phase {
                assert_eq!(wanted, *phase, "seed {seed}");
                seen.insert(wanted);
            }
        }
    }
    assert!(seen.len() >= 2, "{seen:?}");
}
