//! The layers of the root crate. A module names what lies below it or beside it, and
//! nothing above it.

use std::collections::BTreeSet;
use std::path::Path;

use crate::graph::{Crate, Edge};

/// From the ground up: modules of one row may name each other.
const LAYERS: &[&[&str]] = &[
    &[
        "error",
        "ids",
        "secret",
        "timestamp",
        "clock",
        "random",
        "guard",
        "decode",
        "salvage",
        "waiting",
        "durable",
        "kind",
        "registry",
    ],
    &["delivery", "status", "policy", "event", "codec", "dedup", "service_clock"],
    &["http", "system"],
    &["auth"],
    &["control"],
    &["rest"],
    &["transport", "catch_up"],
    &["subscription"],
];
/// The other event systems stand beside the subscription and do not know it.
const ASIDE: &[&str] = &["digital", "agent"];
/// The highest layer that they may name.
const ASIDE_STANDS_ON: usize = 3;

fn layer(module: &[String]) -> Option<usize> {
    let name = module.first()?;
    LAYERS.iter().position(|row| row.contains(&name.as_str()))
}

fn points_up(edge: &Edge) -> bool {
    let (Some(from), Some(to)) = (edge.from.first(), edge.to.first()) else { return false };
    let (from_aside, to_aside) = (ASIDE.contains(&from.as_str()), ASIDE.contains(&to.as_str()));
    if from_aside || to_aside {
        return from != to && (to_aside || layer(&edge.to).is_none_or(|layer| layer > ASIDE_STANDS_ON));
    }
    match (layer(&edge.from), layer(&edge.to)) {
        (Some(from), Some(to)) => to > from,
        _ => true,
    }
}

#[test]
fn every_path_points_to_its_own_layer_or_a_lower_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src");
    let read = Crate::read(&root).expect("the sources of the root crate are readable");
    let up: Vec<Edge> = read.edges().into_iter().filter(points_up).collect();
    let pairs: BTreeSet<String> =
        up.iter().map(|edge| format!("{} -> {}", edge.from[0], edge.to.first().map_or("root", |n| n))).collect();
    let lines: Vec<String> =
        up.iter().map(|edge| format!("{}:{} names {}", edge.file.display(), edge.line, edge.path)).collect();
    assert!(up.is_empty(), "{} paths point up:\n{}\n{pairs:#?}", up.len(), lines.join("\n"));
}
