//! Circles of modules that name each other, by file and by folder.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::Edge;

/// The groups of modules that reach each other, largest first; `depth` cuts a module's
/// path, so that 1 gives the folders of the top level.
#[must_use]
pub fn circles(edges: &BTreeSet<Edge>, depth: usize) -> Vec<Vec<String>> {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let name = |module: &[String]| module.iter().take(depth).cloned().collect::<Vec<_>>().join("::");
    // The root only lists what others define.
    for edge in edges.iter().filter(|edge| !edge.from.is_empty() && !edge.to.is_empty()) {
        let (from, to) = (name(&edge.from), name(&edge.to));
        if from != to {
            graph.entry(to.clone()).or_default();
            graph.entry(from).or_default().insert(to);
        }
    }
    let reach: BTreeMap<&String, BTreeSet<&String>> = graph.keys().map(|from| (from, reached(&graph, from))).collect();
    let mut groups: BTreeSet<Vec<String>> = BTreeSet::new();
    for (from, all) in &reach {
        if !all.contains(*from) {
            continue;
        }
        let group = all.iter().filter(|to| reach.get(*to).is_some_and(|back| back.contains(*from)));
        groups.insert(group.map(ToString::to_string).collect());
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    groups
}

fn reached<'a>(graph: &'a BTreeMap<String, BTreeSet<String>>, from: &String) -> BTreeSet<&'a String> {
    let mut found = BTreeSet::new();
    let mut next: Vec<&String> = graph.get(from).into_iter().flatten().collect();
    while let Some(module) = next.pop() {
        if found.insert(module) {
            next.extend(graph.get(module).into_iter().flatten());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(from: &str, to: &str) -> Edge {
        let module = |text: &str| text.split("::").map(str::to_owned).collect();
        Edge { from: module(from), to: module(to), file: "x.rs".into(), line: 1, path: String::new() }
    }

    #[test]
    fn modules_that_reach_each_other_are_one_circle() {
        let edges = [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("e::x", "f"), ("f", "e::y")];
        let edges: BTreeSet<Edge> = edges.iter().map(|(from, to)| edge(from, to)).collect();
        assert_eq!(circles(&edges, 9), [["a", "b", "c"]]);
        assert_eq!(circles(&edges, 1), [vec!["a", "b", "c"], vec!["e", "f"]]);
    }
}
