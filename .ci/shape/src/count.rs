//! Figures of one package's production code: lines, files, functions, types, constants.

use std::fs;
use std::io;
use std::path::Path;

use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use crate::graph::{Crate, attributes, is_test};

/// Sizes of a package's production code, without its tests.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Source files.
    pub files: usize,
    /// Lines that are neither blank nor only a comment.
    pub lines: usize,
    /// Lines of documentation.
    pub docs: usize,
    /// Lines that are another comment.
    pub comments: usize,
    /// The length of each function in lines, with its signature, and its name.
    pub functions: Vec<(usize, String)>,
    /// Types that are `pub`.
    pub public_types: usize,
    /// All other types.
    pub private_types: usize,
    /// `const` items that are numbers or durations.
    pub constants: usize,
    /// The fields of each struct that was asked for.
    pub fields: Vec<(String, usize)>,
}

impl Figures {
    /// Reads the files of `read`, which lie below `src`; `structs` are those whose fields are
    /// counted.
    ///
    /// # Errors
    /// A file cannot be read, or is not Rust.
    pub fn read(src: &Path, read: &Crate, structs: &[&str]) -> io::Result<Self> {
        let mut figures = Self::default();
        for file in read.files().values() {
            let text = fs::read_to_string(src.join(file))?;
            let tree = syn::parse_file(&text)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", file.display())))?;
            figures.add(&text, &tree, structs);
        }
        Ok(figures)
    }

    fn add(&mut self, text: &str, tree: &syn::File, structs: &[&str]) {
        self.files += 1;
        let mut counter = Counter { figures: self, structs, tests: Vec::new() };
        for item in &tree.items {
            counter.visit_item(item);
        }
        let tests = counter.tests;
        let mut in_block = false;
        for (at, line) in text.lines().enumerate() {
            let (number, line) = (at + 1, line.trim());
            if tests.iter().any(|(from, to)| (*from..=*to).contains(&number)) {
                continue;
            }
            let starts_block = line.starts_with("/*");
            if line.starts_with("///") || line.starts_with("//!") {
                self.docs += 1;
            } else if line.starts_with("//") || in_block || starts_block {
                self.comments += 1;
            } else if !line.is_empty() {
                self.lines += 1;
            }
            in_block = (in_block || starts_block) && !line.contains("*/");
        }
    }

    /// The length that `percent` of the functions do not exceed.
    #[must_use]
    pub fn length(&self, percent: usize) -> usize {
        let mut lengths: Vec<usize> = self.functions.iter().map(|(length, _)| *length).collect();
        lengths.sort_unstable();
        let at = (lengths.len() * percent).div_ceil(100).saturating_sub(1);
        lengths.get(at).copied().unwrap_or_default()
    }

    /// The longest function.
    #[must_use]
    pub fn longest(&self) -> Option<&(usize, String)> {
        self.functions.iter().max()
    }
}

struct Counter<'a> {
    figures: &'a mut Figures,
    structs: &'a [&'a str],
    /// First and last line of what only tests contain.
    tests: Vec<(usize, usize)>,
}

impl Counter<'_> {
    fn function(&mut self, name: &syn::Ident, from: proc_macro2::Span, to: proc_macro2::Span) {
        let length = to.end().line + 1 - from.start().line;
        self.figures.functions.push((length, name.to_string()));
    }

    fn a_type(&mut self, visibility: &syn::Visibility) {
        if matches!(visibility, syn::Visibility::Public(_)) {
            self.figures.public_types += 1;
        } else {
            self.figures.private_types += 1;
        }
    }
}

impl<'ast> Visit<'ast> for Counter<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if is_test(attributes(item)) {
            let from = attributes(item).first().map_or_else(|| item.span(), syn::spanned::Spanned::span);
            self.tests.push((from.start().line, item.span().end().line));
            return;
        }
        match item {
            syn::Item::Struct(it) => {
                self.a_type(&it.vis);
                let name = it.ident.to_string();
                if self.structs.contains(&name.as_str()) {
                    self.figures.fields.push((name, it.fields.len()));
                }
            }
            syn::Item::Enum(it) => self.a_type(&it.vis),
            syn::Item::Trait(it) => self.a_type(&it.vis),
            syn::Item::Type(it) => self.a_type(&it.vis),
            syn::Item::Fn(it) => self.function(&it.sig.ident, it.sig.span(), it.block.span()),
            syn::Item::Const(it) => {
                let name = match &*it.ty {
                    syn::Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
                    _ => None,
                };
                let tunes = ["Duration", "usize", "u8", "u16", "u32", "u64", "u128", "i64", "f64"];
                self.figures.constants += usize::from(name.is_some_and(|name| tunes.contains(&name.as_str())));
            }
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, it: &'ast syn::ImplItemFn) {
        if is_test(&it.attrs) {
            self.tests.push((it.span().start().line, it.span().end().line));
            return;
        }
        self.function(&it.sig.ident, it.sig.span(), it.block.span());
        visit::visit_impl_item_fn(self, it);
    }
}
