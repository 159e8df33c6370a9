//! Nothing that a simulation runs may depend on chance, on the machine's clock or on
//! another thread: the same seed must give the same run. Clippy sees some of it; this
//! reads the sources for the rest, and says file and line.

use std::path::{Path, PathBuf};

/// What no line may hold, and the files that are made of it.
const BANNED: &[(&str, &[&str])] = &[
    ("spawn_blocking", &["durable.rs", "subscription/redb_checkpoint.rs"]),
    ("block_in_place", &[]),
    ("thread::spawn", &[]),
    ("SystemTime::now", &["clock.rs"]),
    ("wall_now(", &["clock.rs", "agent/event/mod.rs", "digital/value.rs"]),
    ("std::time::Instant::now", &[]),
    ("getrandom::", &["random.rs"]),
    ("fastrand::f64", &[]),
    ("fastrand::u64", &[]),
    ("fastrand::usize", &[]),
    ("fastrand::Rng::new()", &[]),
    ("rand::", &[]),
    ("RandomState", &[]),
    ("reqwest::", &["http/builtin.rs"]),
];
/// What walks a map in its order. `retain` is not among them: what it keeps does not
/// depend on the order.
const WALKS: &[&str] = &[
    ".iter()",
    ".iter_mut()",
    ".keys()",
    ".values()",
    ".values_mut()",
    ".drain(",
    ".into_iter()",
    ".into_keys()",
    ".into_values()",
];

/// The production lines of a file, with their numbers.
fn lines(text: &str) -> Vec<(usize, &str)> {
    let numbered = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let code = numbered.take_while(|(_, line)| *line != "mod tests {");
    code.filter(|(_, line)| !line.starts_with("//")).collect()
}

/// The names of fields and variables that are hash maps or sets.
fn hashed(lines: &[(usize, &str)]) -> Vec<String> {
    let is_name = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let mut names = Vec::new();
    for (_, line) in lines {
        let Some(at) = line.find("HashMap").or_else(|| line.find("HashSet")) else { continue };
        if line.starts_with("use ") {
            continue;
        }
        let before = &line[..at];
        // `name: HashMap<`, `name: Mutex<HashMap<`, `let name = HashMap::new()`, `(HashMap<` of a tuple.
        if before.ends_with("struct ") || before.contains("fn ") {
            continue;
        }
        let declared = before.split([':', '=']).next().unwrap_or_default().trim();
        match declared.rsplit([' ', '(', ',']).next() {
            Some(name) if is_name(name) && before.contains([':', '=']) => names.push(name.to_owned()),
            _ if line.starts_with("struct") || line.contains("struct ") => names.push("0".to_owned()),
            _ => {}
        }
    }
    names
}

fn walks(lines: &[(usize, &str)]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for name in hashed(lines) {
        for (at, line) in lines {
            let walked = WALKS.iter().any(|walk| {
                let call = format!("{name}{walk}");
                line.match_indices(&call)
                    .any(|(start, _)| !line[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
            });
            let looped = line.starts_with("for ")
                && [format!("in {name} {{"), format!("in &{name} {{"), format!("in &self.{name} {{")]
                    .iter()
                    .any(|tail| line.ends_with(tail.as_str()));
            if walked || looped {
                found.push((*at, format!("walks the hash map or set `{name}` in its order")));
            }
        }
    }
    found
}

fn banned(file: &str, lines: &[(usize, &str)]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (what, allowed) in BANNED.iter().filter(|(_, allowed)| !allowed.contains(&file)) {
        for (at, line) in lines {
            let here = line.match_indices(what).any(|(start, _)| {
                let before = line[..start].chars().next_back();
                !before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
            });
            if here {
                found.push((*at, format!("has `{what}`, which belongs to {allowed:?}")));
            }
        }
    }
    found
}

/// A `select!` that is not told to look in the order of its arms starts at a random one.
fn unbiased(lines: &[(usize, &str)]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, (at, line)) in lines.iter().enumerate() {
        let is_biased = lines.get(index + 1).is_some_and(|(_, next)| next.starts_with("biased;"));
        if line.contains("select! {") && !line.contains("biased;") && !is_biased {
            found.push((*at, "has a `select!` without `biased;`".to_owned()));
        }
    }
    found
}

fn problems(file: &str, text: &str) -> Vec<String> {
    let lines = lines(text);
    let found = [walks(&lines), banned(file, &lines), unbiased(&lines)].concat();
    found.into_iter().map(|(at, what)| format!("src/{file}:{at} {what}")).collect()
}

fn sources(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    files.sort();
    assert!(files.len() > 100, "the sources are there");
    let mut all = Vec::new();
    for path in files {
        let file = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
        let is_test = file.split('/').any(|part| part.contains("tests") || part == "fakes.rs");
        if !is_test {
            all.extend(problems(&file, &std::fs::read_to_string(&path).unwrap()));
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn nondeterminism_is_found_with_its_line() {
    for (text, wanted) in [
        ("struct S {\n    map: HashMap<u8, u8>,\n}\nfn f(s: &S) { s.map.keys() }", Some(4)),
        ("struct S {\n    map: Mutex<HashSet<u8>>,\n}\nfor x in &self.map {", Some(4)),
        ("let mut set = HashSet::new();\nset.drain().count();", Some(2)),
        ("let set: HashSet<u8> = f();\nset.into_iter()", Some(2)),
        ("struct Limit(HashMap<u8, u8>);\nself.0.values()", Some(2)),
        ("struct S {\n    map: HashMap<u8, u8>,\n}\nself.map.retain(|_, x| x > 1);\nself.map.get(&1);", None),
        ("struct S {\n    map: BTreeMap<u8, u8>,\n}\nself.map.keys();", None),
        ("tokio::select! {\n    a = b => {}\n}", Some(1)),
        ("tokio::select! {\n    biased;\n    a = b => {}\n}", None),
        ("let x = 1;\nlet t = std::time::SystemTime::now();", Some(2)),
        ("let n = fastrand::f64();", Some(1)),
        ("let n = fastrand::Rng::with_seed(seed);", None),
        ("tokio::task::spawn_blocking(f);", Some(1)),
        ("/// `SystemTime::now` is elsewhere.", None),
        ("#[cfg(test)]\nmod tests {\n    fn f() { SystemTime::now(); }", None),
    ] {
        let found = problems("x.rs", text);
        let line = found.first().map(|problem| problem.split([':', ' ']).nth(1).unwrap().parse::<usize>().unwrap());
        assert_eq!(line, wanted, "{text}\n{found:?}");
        assert!(found.len() <= 1, "{found:?}");
    }
}
