//! Prints the structure of the code as a table: one column for each package.
//!
//! ```text
//! cargo run -p shape              the table
//! cargo run -p shape -- circles   the circles of each package, and the paths that form them
//! cargo run -p shape -- picture   the layers of the root crate as SVG
//! ```

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

use shape::circles::circles;
use shape::count::Figures;
use shape::graph::Crate;

const PACKAGES: [(&str, &str); 3] =
    [("root", "src"), ("sandbox", "crates/sandbox/src"), ("simulation", "crates/simulation/src")];

fn output(program: &str, arguments: &[&str], root: &Path) -> Result<String, Box<dyn Error>> {
    let output = Command::new(program).args(arguments).current_dir(root).output()?;
    if !output.status.success() {
        return Err(format!("`{program} {}` failed", arguments.join(" ")).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Crates in the tree of what a user builds, itself included.
fn tree(root: &Path, features: &str) -> Result<usize, Box<dyn Error>> {
    let arguments = ["tree", "--locked", "-e", "normal", "--prefix", "none", "--features", features];
    let listed = output("cargo", &arguments, root)?;
    let names: BTreeSet<&str> =
        listed.lines().map(|line| line.trim_end_matches(" (*)")).filter(|line| !line.is_empty()).collect();
    Ok(names.len())
}

fn row(title: &str, cells: impl IntoIterator<Item = String>) {
    let cells: Vec<String> = cells.into_iter().map(|cell| format!("{cell:>12}")).collect();
    println!("{title:<34}{}", cells.join(""));
}

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).as_deref() == Some("picture") {
        print!("{}", shape::picture::draw());
        return Ok(());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut figures = Vec::new();
    let mut crates = Vec::new();
    for (_, src) in PACKAGES {
        let read = Crate::read(&root.join(src))?;
        figures.push(Figures::read(&root.join(src), &read, &["Driver"])?);
        crates.push(read);
    }
    if std::env::args().nth(1).as_deref() == Some("circles") {
        for ((name, _), read) in PACKAGES.iter().zip(&crates) {
            let edges = read.edges();
            for group in circles(&edges, usize::MAX) {
                println!("{name}: {}", group.join(" "));
                let within = |module: &[String]| group.contains(&module.join("::"));
                for edge in edges.iter().filter(|edge| within(&edge.from) && within(&edge.to)) {
                    println!("    {}:{} names {}", edge.file.display(), edge.line, edge.path);
                }
            }
        }
        return Ok(());
    }
    row("", PACKAGES.iter().map(|(name, _)| (*name).to_owned()));
    let each = |title: &str, of: &dyn Fn(&Figures) -> String| row(title, figures.iter().map(of));
    each("production lines", &|it| it.lines.to_string());
    each("files", &|it| it.files.to_string());
    each("types that are `pub`", &|it| it.public_types.to_string());
    each("other types", &|it| it.private_types.to_string());
    each("functions", &|it| it.functions.len().to_string());
    each("lines of a function, median", &|it| it.length(50).to_string());
    each("lines of a function, 90 %", &|it| it.length(90).to_string());
    each("longest function", &|it| it.longest().map_or_else(String::new, |(length, _)| length.to_string()));
    each("tuning constants", &|it| it.constants.to_string());
    each("comments per 100 lines", &|it| format!("{:.1}", it.comments as f64 * 100.0 / it.lines.max(1) as f64));
    each("lines of docs per 100 lines", &|it| format!("{:.1}", it.docs as f64 * 100.0 / it.lines.max(1) as f64));
    row("import circles", crates.iter().map(|it| circles(&it.edges(), usize::MAX).len().to_string()));
    row(
        "modules in the largest circle",
        crates.iter().map(|it| circles(&it.edges(), usize::MAX).first().map_or(0, Vec::len).to_string()),
    );
    row("circles of folders", crates.iter().map(|it| circles(&it.edges(), 1).len().to_string()));
    println!();
    for (name, fields) in &figures[0].fields {
        row(&format!("fields of `{name}`"), [fields.to_string()]);
    }
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    row("lines of Cargo.toml", [manifest.lines().count().to_string()]);
    row("crates in the tree, default", [tree(&root, "default")?.to_string()]);
    row("crates in the tree, all features", [tree(&root, "pubnub,websocket,redb,digital,agent")?.to_string()]);
    let tests = fs::read_dir(root.join("tests"))?.filter_map(Result::ok);
    let binaries =
        tests.filter(|it| it.path().join("main.rs").is_file() || it.path().extension().is_some_and(|e| e == "rs"));
    row("test binaries of the root", [binaries.count().to_string()]);
    Ok(())
}
