//! A few hundred schedules, and what keeps the simulation worth its name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::client;
use crate::runner::{judge_schedule, note_panics};
use crate::schedule::Schedule;

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

/// What is written from the references alone shares no reading of them with the client.
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

/// Promises that the client still breaks, and in how many of these two hundred schedules at
/// most. A number only ever falls; the list is empty when all is done.
const BROKEN: &[(&str, usize)] = &[("complete-early", 1), ("left-open-unnamed", 1)];

#[test]
fn two_hundred_schedules_break_no_more_promises_than_known() {
    note_panics();
    let mut broken: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for seed in 650..850 {
        let schedule = Arc::new(Schedule::draw(seed, None));
        let violations = judge_schedule(&schedule);
        let classes: BTreeSet<&str> = violations.iter().map(|it| it.class).collect();
        for class in classes {
            let first = violations.iter().find(|it| it.class == class).map_or("", |it| it.detail.as_str());
            broken.entry(class).or_default().push(format!("seed {seed} ({}): {first}", schedule.mode.name()));
        }
    }
    for (class, seeds) in &broken {
        let known = BROKEN.iter().find(|(name, _)| name == class).map_or(0, |(_, most)| *most);
        assert!(seeds.len() <= known, "{class}: {known} schedules are known\n{}", seeds.join("\n"));
    }
}
