//! The layers of the root crate and of the sandbox. A module names what lies below it or beside it, and nothing above
//! it.

use std::collections::BTreeSet;
use std::path::Path;

use crate::circles::circles;
use crate::graph::{Crate, Edge};
use crate::layers::{BESIDE, BESIDE_STANDS_ON, LAYERS, Layer, SANDBOX, SANDBOX_CIRCLES};
use crate::picture;

fn layer(layers: &[Layer], module: &[String]) -> Option<usize> {
    let name = module.first()?;
    layers.iter().position(|layer| layer.modules.contains(&name.as_str()))
}

fn is_beside(name: &str) -> bool {
    BESIDE.iter().any(|(module, _)| *module == name)
}

fn points_up(edge: &Edge) -> bool {
    let (Some(from), Some(to)) = (edge.from.first(), edge.to.first()) else { return false };
    let (from_beside, to_beside) = (is_beside(from), is_beside(to));
    if from_beside || to_beside {
        return from != to && (to_beside || layer(LAYERS, &edge.to).is_none_or(|layer| layer > BESIDE_STANDS_ON));
    }
    match (layer(LAYERS, &edge.from), layer(LAYERS, &edge.to)) {
        (Some(from), Some(to)) => to > from,
        _ => true,
    }
}

/// Fails with each path for which `points_up` is true.
fn no_path_points_up(read: &Crate, points_up: impl Fn(&Edge) -> bool) {
    let up: Vec<Edge> = read.edges().into_iter().filter(points_up).collect();
    let name = |module: &[String]| module.first().cloned().unwrap_or_else(|| "root".into());
    let pairs: BTreeSet<String> = up.iter().map(|edge| format!("{} -> {}", name(&edge.from), name(&edge.to))).collect();
    let lines: Vec<String> =
        up.iter().map(|edge| format!("{}:{} names {}", edge.file.display(), edge.line, edge.path)).collect();
    assert!(up.is_empty(), "{} paths point up:\n{}\n{pairs:#?}", up.len(), lines.join("\n"));
}

#[test]
fn every_path_points_to_its_own_layer_or_a_lower_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src");
    let read = Crate::read(&root).expect("the sources of the root crate are readable");
    no_path_points_up(&read, points_up);
}

#[test]
fn the_sandbox_keeps_its_layers_and_has_no_other_circles() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/sandbox/src");
    let read = Crate::read(&root).expect("the sources of the sandbox are readable");
    no_path_points_up(&read, |edge| match (layer(SANDBOX, &edge.from), layer(SANDBOX, &edge.to)) {
        (Some(from), Some(to)) => to > from,
        (None, _) => !edge.from.is_empty(),
        (Some(from), None) => !edge.to.is_empty() || from + 1 < SANDBOX.len(),
    });
    assert_eq!(circles(&read.edges(), usize::MAX), SANDBOX_CIRCLES);
    assert!(circles(&read.edges(), 1).is_empty(), "circles of folders");
}

#[test]
fn the_committed_picture_is_drawn_from_the_layers() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/architecture.svg");
    let committed = std::fs::read_to_string(committed).expect("docs/architecture.svg is readable");
    assert!(committed == picture::draw(), "run: cargo run -p shape -- picture > docs/architecture.svg");
}

#[test]
fn no_modules_name_each_other_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src");
    let read = Crate::read(&root).expect("the sources of the root crate are readable");
    let found: Vec<String> = circles(&read.edges(), usize::MAX).into_iter().map(|group| group.join(" ")).collect();
    assert!(found.is_empty(), "run: cargo run -p shape -- circles\n{}", found.join("\n"));
}
