//! The order of modules: a module imports only modules that stand before it, so that no two depend
//! on each other.

use crate::workspace::root;
use anyhow::{Context, Result, bail};
use std::{
    collections::HashMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};
use syn::{
    Attribute, File, Item, ItemMod, ItemUse, UseTree,
    spanned::Spanned,
    visit::{self, Visit},
};

/// A crate, and its top-level modules in their order.
struct Crate {
    folder: &'static str,
    order: &'static [&'static str],
    /// Names in the crate's root that every module may import, whatever the order.
    exempt: &'static [&'static str],
}

const CRATES: [Crate; 7] = [
    Crate {
        folder: "slim-runtime/src",
        order: &[
            "error", "fault", "panics", "table", "numeric", "graph", "symbolic", "nn", "analysis",
            "slimming", "plan", "select", "surgery", "train", "io", "check", "serve", "prunable",
            "model", "guide",
        ],
        // One trait has both the methods that layers implement and the methods that users call, so
        // that one `use` imports all of them. Modules before `prunable` call only the methods that
        // layers implement.
        exempt: &["Prunable"],
    },
    Crate {
        folder: "slim-serve/src",
        order: &["error", "form", "ffi", "report", "compiled", "maker", "runner", "config"],
        // `Runner::new` is the configuration's defaults, as `Benchmark` and `benchmark` are.
        exempt: &["RunnerConfig"],
    },
    Crate {
        folder: "slim-distributed/src",
        order: &[
            "error",
            "ffi",
            "environment",
            "rendezvous",
            "distributed",
            "agree",
            "data_parallel",
            "sampler",
        ],
        exempt: &[],
    },
    Crate {
        folder: "slim-derive/src",
        order: &[
            "suggest",
            "ctxt",
            "tokens",
            "nesting",
            "activation",
            "attr",
            "ast",
            "expand",
            "sequential",
            "traced",
            "forward",
            "model",
        ],
        exempt: &[],
    },
    Crate {
        folder: "slim-zoo/src",
        order: &[
            "torchvision",
            "cifar",
            "mobile",
            "densenet",
            "preresnet",
            "densenet_cifar",
            "googlenet",
            "mobilenet_v2",
            "mobilenet_v3",
            "efficientnet",
            "regnet",
            "squeezenet",
            "convnext",
            "vision_transformer",
            "inception_v3",
            "crnn",
            "yolov8",
            "resnet",
            "shufflenet_v2",
            "unet",
            "vgg",
            "vgg_imagenet",
        ],
        exempt: &[],
    },
    Crate {
        folder: "slim-cli/src",
        order: &[
            "numbers",
            "terminal",
            "passes",
            "slimming",
            "device",
            "network",
            "data",
            "model",
            "files",
            "options",
            "processes",
            "report",
            "train",
            "prune",
            "measure",
            "program",
            "commands",
        ],
        exempt: &[],
    },
    Crate {
        folder: "xtask/src",
        order: &[
            "workspace",
            "host",
            "source",
            "lock",
            "libtorch",
            "install",
            "setup",
            "onnx_proto",
            "onnxruntime",
            "publish",
            "versions",
            "rooms",
            "columns",
            "tasks",
            "browser",
            "bench",
            "torchrun",
            "bundle",
            "compile_time",
        ],
        exempt: &[],
    },
];

/// Checks all crates.
///
/// # Errors
/// Lists the lines that import a module which stands behind their own.
pub(crate) fn check() -> Result<()> {
    let mut wrong = Vec::new();
    for a_crate in &CRATES {
        let imports = imports(&root().join(a_crate.folder))?;
        wrong.extend(against_the_order(a_crate, &imports));
    }
    if !wrong.is_empty() {
        bail!("modules depend upwards:\n  {}", wrong.join("\n  "));
    }
    println!("every module imports only modules that stand before it");
    Ok(())
}

/// An import of one top-level module by another.
struct Import {
    /// Relative to the folder of the crate's sources.
    file: PathBuf,
    line: usize,
    by: String,
    of: String,
    /// The imported name in the crate's root: a module, or a name that the root re-exports.
    name: String,
}

fn against_the_order(a_crate: &Crate, imports: &[Import]) -> Vec<String> {
    let place = |module: &str| a_crate.order.iter().position(|known| *known == module);
    let line =
        |import: &Import| format!("{}/{}:{}", a_crate.folder, import.file.display(), import.line);
    let mut wrong = Vec::new();
    for import in imports {
        let Import { by, of, name, .. } = import;
        if by == of || a_crate.exempt.contains(&name.as_str()) {
            continue;
        }
        let (Some(own), Some(other)) = (place(by), place(of)) else {
            let module = if place(by).is_none() { by } else { of };
            wrong.push(format!(
                "{}: module `{module}` has no place in the order; give it one in \
                 `xtask/src/rooms.rs`",
                line(import)
            ));
            continue;
        };
        if other > own {
            let back = imports.iter().find(|back| back.by == *of && back.of == *by);
            let circle = back.map(|back| format!(", and `{of}` imports `{by}` at {}", line(back)));
            wrong.push(format!(
                "{}: `{by}` imports `{of}`, which stands behind it{}; move what both need to a \
                 module before them",
                line(import),
                circle.unwrap_or_default()
            ));
        }
    }
    wrong
}

/// All imports between the top-level modules of a crate, without tests.
fn imports(folder: &Path) -> Result<Vec<Import>> {
    let lib = if folder.join("lib.rs").exists() { "lib.rs" } else { "main.rs" };
    let exports = exports(&parse(&folder.join(lib))?);
    let mut found = Vec::new();
    for file in sources(folder)? {
        let relative = file.strip_prefix(folder).unwrap_or(&file).to_owned();
        let Some(module) = module_of(&relative) else { continue };
        let mut paths = Paths { module: module.clone(), found: Vec::new() };
        paths.visit_file(&parse(&file)?);
        for (name, line) in paths.found {
            let of = exports.get(&name).unwrap_or(&name).clone();
            let is_module =
                folder.join(&of).is_dir() || folder.join(&of).with_extension("rs").exists();
            // The root also re-exports names of other crates.
            if !is_module {
                continue;
            }
            found.push(Import { file: relative.clone(), line, by: module[0].clone(), of, name });
        }
    }
    Ok(found)
}

fn parse(file: &Path) -> Result<File> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    syn::parse_file(&text).with_context(|| format!("cannot parse {}", file.display()))
}

/// The Rust files in a folder and below it, without tests, sorted.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let is_test = ["tests", "fuzz", "snapshots"].map(OsStr::new);
        if path.file_stem().is_some_and(|stem| is_test.contains(&stem)) {
            continue;
        }
        if path.is_dir() {
            files.extend(sources(&path)?);
        } else if path.extension() == Some(OsStr::new("rs")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The module path of a file: `graph/layer.rs` is `graph::layer`, and `graph/mod.rs` is `graph`.
/// `None` for the root.
fn module_of(file: &Path) -> Option<Vec<String>> {
    let mut names: Vec<String> =
        file.with_extension("").iter().map(|name| name.to_string_lossy().into_owned()).collect();
    if names.last().is_some_and(|name| name == "mod") {
        names.pop();
    }
    let root = [["lib".to_owned()], ["main".to_owned()]];
    (!names.is_empty() && !root.iter().any(|root| names == *root)).then_some(names)
}

/// The names that the root of a crate re-exports, with the top-level module of each.
fn exports(root: &File) -> HashMap<String, String> {
    let mut exports = HashMap::new();
    for item in &root.items {
        let Item::Use(item) = item else { continue };
        let mut names = Vec::new();
        flatten(&item.tree, &mut Vec::new(), &mut names);
        for path in names {
            if let ([module, .., name], true) = (&path[..], path.len() > 1) {
                exports.insert(name.clone(), module.clone());
            }
        }
    }
    exports
}

/// Adds each path of a use tree to `all`. `self` stands for the path in front of it.
fn flatten(tree: &UseTree, path: &mut Vec<String>, all: &mut Vec<Vec<String>>) {
    match tree {
        UseTree::Path(inner) => {
            path.push(inner.ident.to_string());
            flatten(&inner.tree, path, all);
            path.pop();
        }
        UseTree::Group(group) => group.items.iter().for_each(|item| flatten(item, path, all)),
        UseTree::Name(name) if name.ident == "self" => all.push(path.clone()),
        UseTree::Name(name) => all.push([&path[..], &[name.ident.to_string()]].concat()),
        UseTree::Rename(name) => all.push([&path[..], &[name.ident.to_string()]].concat()),
        UseTree::Glob(_) => all.push(path.clone()),
    }
}

/// Collects the names in the crate's root that a file mentions, and their lines.
struct Paths {
    module: Vec<String>,
    found: Vec<(String, usize)>,
}

impl Paths {
    fn add(&mut self, path: &[String], line: usize) {
        let supers = path.iter().take_while(|name| *name == "super").count();
        let from_root = match path.first().map(String::as_str) {
            Some("crate") => path.get(1),
            Some("super") if supers == self.module.len() => path.get(supers),
            _ => None,
        };
        self.found.extend(from_root.map(|name| (name.clone(), line)));
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
    })
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if is_test(&item.attrs) {
            return;
        }
        let mut all = Vec::new();
        flatten(&item.tree, &mut Vec::new(), &mut all);
        let line = item.span().start().line;
        all.iter().for_each(|path| self.add(path, line));
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(&names, path.span().start().line);
        visit::visit_path(self, path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let a_crate = Crate { folder: "src", order: &["low", "high"], exempt: &["Free"] };
        against_the_order(&a_crate, &imports(folder.path()).unwrap())
    }

    #[test]
    fn a_circle_is_found_with_both_lines() {
        let lib = ("lib.rs", "mod low; mod high;\npub use high::{Free, inner::Thing};");
        let high = ("high/mod.rs", "\nuse crate::low::{self, Other};");
        for (text, line) in [
            ("use crate::{\n    high::x,\n};", 1),
            ("\nuse crate::Thing;", 2),
            ("fn f() {\n    super::high::f()\n}", 2),
            ("fn f() -> crate::high::T { todo!() }", 1),
        ] {
            assert_eq!(
                checked(&[lib, high, ("low.rs", text)]),
                [format!(
                    "src/low.rs:{line}: `low` imports `high`, which stands behind it, and `high` imports `low` at src/high/mod.rs:2; move what both need to a module before them"
                )]
            );
        }
    }

    #[test]
    fn imports_downwards_of_exempt_names_and_in_tests_are_free() {
        let lib = ("lib.rs", "mod low; mod high;\npub use high::Free;");
        let low = "use crate::Free;\n#[cfg(test)]\nmod tests { use crate::high::x; }";
        let files = [
            lib,
            ("low.rs", low),
            ("high.rs", "use crate::low;"),
            ("low/tests.rs", "use crate::high;"),
        ];
        assert!(checked(&files).is_empty());
    }

    #[test]
    fn a_module_without_a_place_is_named() {
        let files = [("lib.rs", "mod new;"), ("new.rs", "use crate::low;"), ("low.rs", "")];
        assert_eq!(
            checked(&files),
            [
                "src/new.rs:1: module `new` has no place in the order; give it one in `xtask/src/rooms.rs`"
            ]
        );
    }
}
