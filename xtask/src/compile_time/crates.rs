//! The crates that are compiled: each has one struct.

use crate::workspace::root;
use std::{fmt::Write, fs, io, path::Path};

/// The numbers of fields of the structs.
pub(super) const SIZES: [usize; 3] = [10, 100, 1000];

/// What is in a crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Layers in a struct.
    Layers,
    /// `Layers` with `#[derive(Prunable)]` and `#[prune(sequential)]`.
    Derive,
    /// Layers in a struct, and a forward pass that applies one after the other.
    Forward,
    /// `Forward` with `#[derive(Prunable)]` and `#[forward]`.
    Read,
    /// The same layers, with a constructor and a forward pass, as a `model!`.
    Model,
    /// Numbers and texts in a struct.
    Plain,
    /// `Plain` with serde's `#[derive(Serialize)]`.
    Serde,
}

/// Each form, and the form whose figures are subtracted from it.
pub(super) const ALL: [(Form, Option<Form>); 7] = [
    (Form::Layers, None),
    (Form::Derive, Some(Form::Layers)),
    (Form::Forward, None),
    (Form::Read, Some(Form::Forward)),
    (Form::Model, Some(Form::Layers)),
    (Form::Plain, None),
    (Form::Serde, Some(Form::Plain)),
];

impl Form {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Layers => "layers",
            Self::Derive => "derive",
            Self::Forward => "forward",
            Self::Read => "read",
            Self::Model => "model",
            Self::Plain => "plain",
            Self::Serde => "serde",
        }
    }

    pub(super) fn package(self, fields: usize) -> String {
        format!("{}-{fields}", self.name())
    }

    fn dependencies(self) -> String {
        match self {
            Self::Plain | Self::Serde => {
                "serde = { version = \"1.0\", features = [\"derive\"] }".into()
            }
            // With `doc-only`, libtorch is neither needed nor linked.
            _ => format!(
                "slim-runtime = {{ path = {:?}, features = [\"doc-only\"] }}\ntch = {{ version = \"=0.24.0\", features = [\"doc-only\"] }}",
                root().join("slim-runtime")
            ),
        }
    }

    /// The source of the crate. If `renamed`, the field in the middle has another name.
    pub(super) fn source(self, fields: usize, renamed: bool) -> String {
        let (derives, types) = match self {
            Self::Layers | Self::Forward => ("Debug", LAYERS),
            Self::Derive | Self::Read => ("Debug, slim_runtime::Prunable", LAYERS),
            Self::Model => ("Debug", ["conv2d(8 => 8, kernel = 3, padding = 1)", "batch_norm(8)"]),
            Self::Plain => ("Debug", ["Vec<f64>", "String"]),
            Self::Serde => ("Debug, serde::Serialize", ["Vec<f64>", "String"]),
        };
        let (mut text, mut body) = (String::new(), String::new());
        for (field, of) in types.iter().cycle().take(fields).enumerate() {
            let name = if renamed && field == fields / 2 { "renamed" } else { "field" };
            let _ = writeln!(body, "        let xs = xs.apply_t(&self.{name}{field}, train);");
            // Writing into a `String` cannot fail.
            let _ = match self {
                Self::Model => writeln!(text, "        {name}{field} = {of};"),
                _ => writeln!(text, "    pub {name}{field}: {of},"),
            };
        }
        match self {
            Self::Model => format!(
                "slim_runtime::model! {{\n    #[derive({derives})]\n    pub struct Net {{\n{text}    }}\n}}\n"
            ),
            Self::Derive => {
                format!("#[derive({derives})]\n#[prune(sequential)]\npub struct Net {{\n{text}}}\n")
            }
            Self::Forward | Self::Read => {
                let attribute = if self == Self::Read { "#[slim_runtime::forward]\n" } else { "" };
                format!(
                    "use tch::Tensor;\n\n#[derive({derives})]\npub struct Net {{\n{text}}}\n\n{attribute}impl tch::nn::ModuleT for Net {{\n    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {{\n{body}        xs\n    }}\n}}\n"
                )
            }
            _ => format!("#[derive({derives})]\npub struct Net {{\n{text}}}\n"),
        }
    }
}

const LAYERS: [&str; 2] = ["slim_runtime::nn::Conv2D", "slim_runtime::nn::BatchNorm"];

/// Writes a workspace with all crates into `folder`, with the dependency versions of this
/// workspace.
pub(super) fn write(folder: &Path) -> io::Result<()> {
    let crates = || SIZES.iter().flat_map(|&fields| ALL.map(|(form, _)| (form, fields)));
    let members: Vec<_> = crates().map(|(form, fields)| form.package(fields)).collect();
    fs::create_dir_all(folder)?;
    fs::write(
        folder.join("Cargo.toml"),
        format!("[workspace]\nresolver = \"3\"\nmembers = {members:?}\n"),
    )?;
    fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock"))?;
    for (form, fields) in crates() {
        let package = folder.join(form.package(fields));
        fs::create_dir_all(package.join("src"))?;
        let head = format!(
            "[package]\nname = {:?}\nversion = \"0.0.0\"\nedition = \"2024\"\n",
            form.package(fields)
        );
        fs::write(
            package.join("Cargo.toml"),
            format!("{head}\n[dependencies]\n{}\n", form.dependencies()),
        )?;
        fs::write(package.join("src/lib.rs"), form.source(fields, false))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_field_in_the_middle_is_renamed() {
        for (form, _) in ALL {
            for fields in SIZES {
                let (before, after) = (form.source(fields, false), form.source(fields, true));
                // A forward pass mentions each field once more.
                let mentions = if matches!(form, Form::Forward | Form::Read) { 2 } else { 1 };
                assert_eq!(before.matches("field").count(), mentions * fields);
                let changed: Vec<_> = before
                    .lines()
                    .zip(after.lines())
                    .filter(|(before, after)| before != after)
                    .collect();
                assert_eq!(changed.len(), mentions);
                for (before, after) in changed {
                    assert_eq!(before.replace("field", "renamed"), after);
                    assert!(before.contains(&format!("field{}", fields / 2)));
                }
            }
        }
    }
}
