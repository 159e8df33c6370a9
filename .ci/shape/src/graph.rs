//! Which module of a crate names which, by its paths: imports, paths in code and paths in
//! macros, each resolved through re-exports to the module that defines the item.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// A module's path without `crate`: `["subscription", "queue"]`. The root is empty.
pub type Module = Vec<String>;

/// One path in the sources of a crate, resolved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// The module that names the item.
    pub from: Module,
    /// The module that defines the item.
    pub to: Module,
    /// The file that names the item, relative to the crate's `src`.
    pub file: PathBuf,
    /// The line in that file.
    pub line: usize,
    /// The path as it is written, with `crate` for the root.
    pub path: String,
}

/// The meaning of a name in a module.
#[derive(Debug)]
enum Meaning {
    /// An item of that module.
    Item,
    /// An import or re-export.
    Alias(Vec<String>),
}

#[derive(Debug, Default)]
struct Scope {
    names: HashMap<String, Vec<Meaning>>,
    globs: Vec<Vec<String>>,
}

#[derive(Debug)]
struct Reference {
    from: Module,
    file: PathBuf,
    line: usize,
    /// Absolute, from the root of the crate.
    path: Vec<String>,
    is_relative: bool,
}

/// A crate's modules and the paths between them, without what only tests contain.
#[derive(Debug, Default)]
pub struct Crate {
    scopes: BTreeMap<Module, Scope>,
    /// The file of each module.
    files: BTreeMap<Module, PathBuf>,
    references: Vec<Reference>,
}

impl Crate {
    /// Reads the crate below a `src` folder.
    ///
    /// # Errors
    /// A file cannot be read, or is not Rust.
    pub fn read(src: &Path) -> io::Result<Self> {
        let mut all = Self::default();
        all.read_file(src, &src.join("lib.rs"), Vec::new())?;
        Ok(all)
    }

    fn read_file(&mut self, src: &Path, file: &Path, module: Module) -> io::Result<()> {
        let text = fs::read_to_string(file)?;
        let parsed = syn::parse_file(&text)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", file.display())))?;
        let relative = file.strip_prefix(src).unwrap_or(file).to_owned();
        self.files.insert(module.clone(), relative.clone());
        let mut reader = Reader { all: self, file: relative, module, outer: Vec::new() };
        reader.items(&parsed.items);
        for child in std::mem::take(&mut reader.outer) {
            let file = Self::find(src, &child)?;
            self.read_file(src, &file, child)?;
        }
        Ok(())
    }

    fn find(src: &Path, module: &Module) -> io::Result<PathBuf> {
        let base = module.iter().fold(src.to_owned(), |path, name| path.join(name));
        let candidates = [base.with_extension("rs"), base.join("mod.rs")];
        candidates.into_iter().find(|file| file.is_file()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("no file for the module `{}`", module.join("::")))
        })
    }

    /// The modules that have a file, and that file.
    #[must_use]
    pub const fn files(&self) -> &BTreeMap<Module, PathBuf> {
        &self.files
    }

    /// Each path from one file's module to another's.
    #[must_use]
    pub fn edges(&self) -> BTreeSet<Edge> {
        let mut edges = BTreeSet::new();
        for reference in &self.references {
            let Some(to) = self.resolve(&reference.path, 0) else { continue };
            let (from, to) = (self.file_of(&reference.from), self.file_of(&to));
            // A relative path whose first name is no module and no import is another crate's.
            if from == to || reference.is_relative && to.is_empty() {
                continue;
            }
            let path = format!("crate::{}", reference.path.join("::"));
            edges.insert(Edge { from, to, file: reference.file.clone(), line: reference.line, path });
        }
        edges
    }

    /// The module that defines what a path names; `None` where no module of the crate does.
    fn resolve(&self, path: &[String], depth: usize) -> Option<Module> {
        if depth > 16 {
            return None;
        }
        let mut module = Module::new();
        for (at, name) in path.iter().enumerate() {
            let mut child = module.clone();
            child.push(name.clone());
            if self.scopes.contains_key(&child) {
                module = child;
                continue;
            }
            let scope = self.scopes.get(&module)?;
            for meaning in scope.names.get(name).into_iter().flatten() {
                match meaning {
                    Meaning::Item => return Some(module),
                    Meaning::Alias(target) => {
                        let rest = path.get(at + 1..).unwrap_or_default();
                        let whole: Vec<String> = target.iter().chain(rest).cloned().collect();
                        // The name of an import may be that of a module beside it.
                        if whole != path
                            && let Some(found) = self.resolve(&whole, depth + 1)
                        {
                            return Some(found);
                        }
                    }
                }
            }
            for glob in &scope.globs {
                let rest = path.get(at..).unwrap_or_default();
                let whole: Vec<String> = glob.iter().chain(rest).cloned().collect();
                if let Some(found) = self.resolve(&whole, depth + 1)
                    && found.starts_with(glob)
                    && (found.len() > glob.len() || self.defines(glob, name))
                {
                    return Some(found);
                }
            }
            return if at == 0 { None } else { Some(module) };
        }
        Some(module)
    }

    fn defines(&self, module: &[String], name: &str) -> bool {
        self.scopes.get(module).is_some_and(|scope| scope.names.contains_key(name))
    }

    /// An inline module belongs to the file that it stands in.
    fn file_of(&self, module: &[String]) -> Module {
        let mut module = module.to_vec();
        while !self.files.contains_key(&module) && module.pop().is_some() {}
        module
    }
}

/// Reads one file.
struct Reader<'a> {
    all: &'a mut Crate,
    file: PathBuf,
    module: Module,
    /// Modules that stand in files.
    outer: Vec<Module>,
}

pub(crate) fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let is_cfg = attribute.path().is_ident("cfg");
        let words = match &attribute.meta {
            syn::Meta::List(list) => list.tokens.to_string(),
            syn::Meta::Path(_) | syn::Meta::NameValue(_) => String::new(),
        };
        is_cfg
            && !words.starts_with("not")
            && words.split(|c: char| !c.is_alphanumeric()).any(|w| w == "test" || w == "doctest")
    })
}

fn item_name(item: &syn::Item) -> Option<String> {
    let ident = match item {
        syn::Item::Const(it) => &it.ident,
        syn::Item::Enum(it) => &it.ident,
        syn::Item::Fn(it) => &it.sig.ident,
        syn::Item::Macro(it) => it.ident.as_ref()?,
        syn::Item::Static(it) => &it.ident,
        syn::Item::Struct(it) => &it.ident,
        syn::Item::Trait(it) => &it.ident,
        syn::Item::TraitAlias(it) => &it.ident,
        syn::Item::Type(it) => &it.ident,
        syn::Item::Union(it) => &it.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

pub(crate) fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(it) => &it.attrs,
        syn::Item::Enum(it) => &it.attrs,
        syn::Item::Fn(it) => &it.attrs,
        syn::Item::Impl(it) => &it.attrs,
        syn::Item::Macro(it) => &it.attrs,
        syn::Item::Mod(it) => &it.attrs,
        syn::Item::Static(it) => &it.attrs,
        syn::Item::Struct(it) => &it.attrs,
        syn::Item::Trait(it) => &it.attrs,
        syn::Item::Type(it) => &it.attrs,
        syn::Item::Use(it) => &it.attrs,
        _ => &[],
    }
}

impl Reader<'_> {
    fn items(&mut self, items: &[syn::Item]) {
        self.all.scopes.entry(self.module.clone()).or_default();
        for item in items.iter().filter(|item| !is_test(attributes(item))) {
            if let Some(name) = item_name(item) {
                self.scope().names.entry(name).or_default().push(Meaning::Item);
            }
            match item {
                syn::Item::Mod(inner) => self.child(inner),
                syn::Item::Use(import) => self.import(&mut Vec::new(), &import.tree),
                other => self.visit_item(other),
            }
        }
    }

    fn scope(&mut self) -> &mut Scope {
        self.all.scopes.entry(self.module.clone()).or_default()
    }

    fn child(&mut self, inner: &syn::ItemMod) {
        let mut module = self.module.clone();
        module.push(inner.ident.to_string());
        match &inner.content {
            None => {
                self.all.scopes.entry(module.clone()).or_default();
                self.outer.push(module);
            }
            Some((_, items)) => {
                let above = std::mem::replace(&mut self.module, module);
                self.items(items);
                self.module = above;
            }
        }
    }

    fn import(&mut self, before: &mut Vec<syn::Ident>, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.clone());
                self.import(before, &path.tree);
                before.pop();
            }
            syn::UseTree::Name(name) if name.ident == "self" => {
                let last = before.last().map(ToString::to_string);
                self.imported(before, last);
            }
            syn::UseTree::Name(name) => {
                let mut path = before.clone();
                path.push(name.ident.clone());
                self.imported(&path, Some(name.ident.to_string()));
            }
            syn::UseTree::Rename(rename) => {
                let mut path = before.clone();
                path.push(rename.ident.clone());
                self.imported(&path, Some(rename.rename.to_string()));
            }
            syn::UseTree::Glob(_) => {
                let Some((path, _)) = self.absolute(before) else { return };
                self.scope().globs.push(path);
                self.refer(before);
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(before, tree);
                }
            }
        }
    }

    fn imported(&mut self, path: &[syn::Ident], name: Option<String>) {
        let Some((absolute, _)) = self.absolute(path) else { return };
        if let Some(name) = name {
            self.scope().names.entry(name).or_default().push(Meaning::Alias(absolute));
        }
        self.refer(path);
    }

    /// A path from the root of the crate, and whether its beginning was left out.
    fn absolute(&self, path: &[syn::Ident]) -> Option<(Vec<String>, bool)> {
        let mut names = path.iter().map(ToString::to_string).peekable();
        let mut module = self.module.clone();
        match names.peek()?.as_str() {
            "crate" => {
                module.clear();
                names.next();
            }
            "self" => {
                names.next();
            }
            "super" => {
                while names.next_if(|name| name == "super").is_some() {
                    module.pop();
                }
            }
            _ => {
                module.extend(names);
                return Some((module, true));
            }
        }
        module.extend(names);
        Some((module, false))
    }

    fn refer(&mut self, path: &[syn::Ident]) {
        let Some((absolute, is_relative)) = self.absolute(path) else { return };
        let line = path.first().map_or(0, |name| name.span().start().line);
        let (from, file) = (self.module.clone(), self.file.clone());
        self.all.references.push(Reference { from, file, line, path: absolute, is_relative });
    }

    /// Paths in what a macro is called with, or made of.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<syn::Ident> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(mark) if mark.as_char() == ':' && !path.is_empty() => colons += 1,
                TokenTree::Ident(name) if path.is_empty() || colons == 2 => {
                    path.push(name);
                    colons = 0;
                }
                other => {
                    self.token_path(&mut path);
                    colons = 0;
                    match other {
                        TokenTree::Ident(name) => path.push(name),
                        TokenTree::Group(group) => self.tokens(group.stream()),
                        TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                    }
                }
            }
        }
        self.token_path(&mut path);
    }

    fn token_path(&mut self, path: &mut Vec<syn::Ident>) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.refer(&path);
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<syn::Ident> = path.segments.iter().map(|segment| segment.ident.clone()).collect();
        if names.len() > 1 && path.leading_colon.is_none() {
            self.refer(&names);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        self.tokens(called.tokens.clone());
        visit::visit_macro(self, called);
    }

    fn visit_item(&mut self, item: &'ast syn::Item) {
        if is_test(attributes(item)) {
            return;
        }
        if let syn::Item::Use(import) = item {
            // Within a function: the names are its own, the paths count.
            return self.import(&mut Vec::new(), &import.tree);
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        let attributes = match item {
            syn::ImplItem::Fn(it) => &it.attrs[..],
            syn::ImplItem::Const(it) => &it.attrs[..],
            _ => &[],
        };
        if !is_test(attributes) {
            visit::visit_impl_item(self, item);
        }
    }
}
