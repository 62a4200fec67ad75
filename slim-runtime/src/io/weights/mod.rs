//! Weights in the files of PyTorch, of safetensors and of tch, read into a network of one's own and
//! written back under the names of the file. The feature `pytorch` turns this module on.
//!
//! ```no_run
//! # use slim_runtime::weights;
//! # let mut vs = tch::nn::VarStore::new(tch::Device::Cpu);
//! weights::load("resnet50.pth", &mut vs)?; // if the names are those of the store
//!
//! let loaded = weights::Loader::new()
//!     .key("state_dict") // where a trainer put the weights, if that is not found
//!     .strip("module.") // DataParallel's prefix
//!     .rename(|name| name.replace("downsample", "shortcut"))
//!     .load("checkpoint.pth.tar", &mut vs)?;
//!
//! // Slim and fine-tune; then, under the names of the file, for PyTorch:
//! loaded.save("slimmed.pth", &vs)?; // `torch.load("slimmed.pth", weights_only=True)`
//! # Ok::<(), slim_runtime::Error>(())
//! ```
//!
//! | file | |
//! | --- | --- |
//! | `.pth`, `.pt`, `.pth.tar` | `torch.save`: today's zip, the formats before 1.6 and plain pickles; a state dict, or one under `state_dict`, `model`, `model_state_dict` or `net` |
//! | `.safetensors` | one file, or several by their index `model.safetensors.index.json` |
//! | `.ot`, `.pt` | TorchScript archives: of tch's `VarStore::save`, and the tensors of `torch.jit.save` |
//!
//! The format is detected from the contents; of an index, the name has to end in `.json`. [`names`]
//! lists what a file holds. Nothing in a file is executed, and memory use is proportional to the
//! size of the file.
//!
//! Everything that does not fit is listed at once: missing, surplus and misshapen tensors and those
//! that are no floats, with the names that are near. The store is then unchanged, to the bit.
//! PyTorch's `num_batches_tracked`, which tch's batch norms do not have, is carried through.

mod archive;
mod format;
mod problem;
mod pytorch;
mod sharded;
mod tensors;
mod torch_script;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value};
use tch::Tensor;
use tch::nn::VarStore;

use crate::error::FileError;
use crate::io::checkpoint::{self, is_batch_count};
use crate::{Error, Result};
pub use format::Format;

/// Reads all variables of `vs` from a file with exactly these names and shapes. Values are
/// converted to the store's float kind and device. [`Loader`] reads files with other names.
///
/// # Errors
/// Those of [`Loader::load`].
pub fn load(path: impl AsRef<Path>, vs: &mut VarStore) -> Result<Loaded> {
    Loader::new().load(path, vs)
}

/// Names and shapes of the tensors in a file, sorted by name.
///
/// # Errors
/// Those of [`File::open`].
pub fn names(path: impl AsRef<Path>) -> Result<BTreeMap<String, Vec<i64>>> {
    let tensors = File::open(path)?.tensors;
    Ok(tensors.into_iter().map(|(name, tensor)| (name, tensor.size())).collect())
}

/// Writes all variables of `vs` under their names in the store: as safetensors if the name of the
/// file ends in `.safetensors`, and as `torch.save` does if it ends in `.pth` or `.pt`.
///
/// # Errors
/// [`FileError::Format`] for another ending; [`Error::Io`], [`Error::Torch`]. A file at `path` is
/// then unchanged.
pub fn save(path: impl AsRef<Path>, vs: &VarStore) -> Result<()> {
    write_named(path.as_ref(), vs.variables().into_iter().collect())
}

fn write_named(path: &Path, tensors: BTreeMap<String, Tensor>) -> Result<()> {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    match ending.as_deref() {
        Some("safetensors") => checkpoint::write_tensors(path, tensors),
        Some("pth" | "pt") => write::state_dict(path, &tensors),
        _ => Err(Error::File(FileError::Format {
            file: path.to_owned(),
            reason: "the name says no format; let it end in .safetensors, .pth or .pt".to_owned(),
        })),
    }
}

/// The tensors of a file in any of the formats, on the CPU.
#[derive(Debug)]
pub struct File {
    tensors: BTreeMap<String, Tensor>,
    /// Names of the tensors that are not variables, where the file says so.
    beside: BTreeSet<String>,
    metadata: Map<String, Value>,
}

impl File {
    /// Reads a file. Where a trainer saved the state dict together with other values, it is found
    /// under `state_dict`, `model`, `model_state_dict` or `net`.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that cannot be read; [`FileError::Format`] for one that is damaged,
    /// has no tensors, would have to run code, or has tensors of types that are not supported.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_at(path.as_ref(), None)
    }

    /// Reads the tensors under a key at the top of a file of `torch.save`.
    ///
    /// # Errors
    /// Those of [`open`](Self::open); [`FileError::Format`] for a file without tensors under `key`,
    /// which lists the keys that it has, and for a file of another format.
    pub fn open_key(path: impl AsRef<Path>, key: &str) -> Result<Self> {
        Self::open_at(path.as_ref(), Some(key))
    }

    fn open_at(path: &Path, key: Option<&str>) -> Result<Self> {
        let in_file = |problem: problem::Problem| problem.in_file(path);
        let format = format::detected(path).map_err(in_file)?;
        if let Some(key) = key.filter(|_| format != Format::PyTorch) {
            let reason = format!("it is no file of `torch.save`, so it has no key `{key}`");
            return Err(in_file(reason.into()));
        }
        let mut beside = BTreeSet::new();
        let (tensors, metadata) = match format {
            Format::Safetensors => {
                let file = checkpoint::File::open(path)?;
                let (names, entries) = file.beside_and_metadata()?;
                beside = names;
                let entry = |(key, text): (&String, &String)| (key.clone(), text.clone().into());
                (file.tensors()?, entries.map(entry).collect())
            }
            Format::SafetensorsIndex => (sharded::read(path)?, Map::new()),
            Format::TorchScript => (torch_script::read(path).map_err(in_file)?, Map::new()),
            Format::PyTorch => pytorch::read(path, key).map_err(in_file)?,
        };
        Ok(Self { tensors, beside, metadata })
    }

    /// The tensors by their names in the file, unconverted and on the CPU.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// The tensors by their names in the file.
    pub fn into_tensors(self) -> BTreeMap<String, Tensor> {
        self.tensors
    }

    /// What a trainer saved beside the state dict, as JSON: an epoch, a cfg, options. Tensors of
    /// one value are numbers; other tensors and objects of Python are left out. For safetensors,
    /// the texts of its metadata.
    pub fn metadata(&self) -> &Map<String, Value> {
        &self.metadata
    }
}

type Rename<'r> = Box<dyn FnMut(&str) -> String + 'r>;

/// Reads weights into a store whose names are not quite those of the file.
#[must_use = "nothing is read before `load`"]
pub struct Loader<'r> {
    key: Option<String>,
    prefixes: Vec<String>,
    renames: Vec<Rename<'r>>,
    is_strict: bool,
}

impl Default for Loader<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'r> Loader<'r> {
    /// A loader that takes names as they are, and requires that all fit.
    pub fn new() -> Self {
        Self { key: None, prefixes: Vec::new(), renames: Vec::new(), is_strict: true }
    }

    /// Takes the state dict under this key at the top of a file of `torch.save`. Without it, the
    /// state dict is looked for as [`File::open`] does.
    pub fn key(self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// Removes this prefix from the names that have it, such as the `module.` of `DataParallel`.
    /// Before all renames.
    pub fn strip(mut self, prefix: impl Into<String>) -> Self {
        self.prefixes.push(prefix.into());
        self
    }

    /// Gives each tensor of the file the name that `rename` returns. Several renames apply one
    /// after the other.
    pub fn rename(mut self, rename: impl FnMut(&str) -> String + 'r) -> Self {
        self.renames.push(Box::new(rename));
        self
    }

    /// With `false`, variables that the file does not have keep their values, and tensors that the
    /// store does not have are left out: [`Loaded`] lists both. A tensor of another shape is an
    /// error still, and so is a file that has no variable of the store.
    pub fn strict(self, is_strict: bool) -> Self {
        Self { is_strict, ..self }
    }

    /// Reads the file into the store. Values are converted to the store's float kind and device.
    ///
    /// # Errors
    /// Those of [`File::open`]; [`FileError::Checkpoint`] with every tensor that is missing,
    /// surplus, of another shape or not of a float kind, and with names that two tensors would get.
    /// The store is then unchanged, to the bit.
    pub fn load(mut self, path: impl AsRef<Path>, vs: &mut VarStore) -> Result<Loaded> {
        let path = path.as_ref();
        let File { tensors, beside: others, metadata } = File::open_at(path, self.key.as_deref())?;
        let misfit = |problems, fix: &str| {
            let (file, fix) = (path.to_owned(), fix.to_owned());
            Error::File(FileError::Checkpoint { file, problems, fix })
        };
        let variables = vs.variables();
        let (mut found, mut names, mut twice) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for (name, tensor) in tensors {
            let renamed = self.renamed(&name);
            if let Some(other) = names.insert(renamed.clone(), name.clone()) {
                twice.push(format!("`{other}` and `{name}` would both be `{renamed}`"));
            }
            found.insert(renamed, tensor);
        }
        if !twice.is_empty() {
            return Err(misfit(twice, "give every tensor a name of its own"));
        }
        let (beside, mut found): (BTreeMap<_, _>, BTreeMap<_, _>) =
            found.into_iter().partition(|(name, _)| {
                let is_other = is_batch_count(name)
                    || names.get(name).is_some_and(|name| others.contains(name));
                is_other && !variables.contains_key(name)
            });
        let beside = beside
            .into_iter()
            .filter_map(|(name, tensor)| Some((names.remove(&name)?, tensor)))
            .collect();
        let mut missing: Vec<_> =
            variables.keys().filter(|name| !found.contains_key(*name)).cloned().collect();
        missing.sort_unstable();
        let surplus: Vec<_> =
            found.keys().filter(|name| !variables.contains_key(*name)).cloned().collect();
        let fix = || match prefix_fix(&missing, &surplus) {
            Some(prefix) => prefix,
            None if missing.is_empty() && surplus.is_empty() => {
                "build the network as the file's was".to_owned()
            }
            None => {
                let strict = if self.is_strict { ", or `.strict(false)`" } else { "" };
                format!(
                    "build the network as the file's was, or give `weights::Loader` the `.key(…)` of its state dict, a `.rename(|name| …)`{strict}"
                )
            }
        };
        let loaded = if self.is_strict {
            checkpoint::load_tensors(&found, path, vs)
        } else if missing.len() == variables.len() {
            let none = "it has no tensor with the name of a variable".to_owned();
            return Err(misfit(vec![none], &fix()));
        } else {
            surplus.iter().for_each(|name| drop(found.remove(name)));
            checkpoint::load_found(&found, path, vs)
        };
        loaded.map_err(|error| match error {
            Error::File(FileError::Checkpoint { problems, .. }) => misfit(problems, &fix()),
            other => other,
        })?;
        let left_out = surplus.iter().filter_map(|name| names.remove(name)).collect();
        Ok(Loaded { names, beside, missing, left_out, metadata })
    }

    fn renamed(&mut self, name: &str) -> String {
        let stripped = self
            .prefixes
            .iter()
            .fold(name, |name, prefix| name.strip_prefix(prefix.as_str()).unwrap_or(name));
        self.renames.iter_mut().fold(stripped.to_owned(), |name, rename| rename(&name))
    }
}

impl std::fmt::Debug for Loader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader")
            .field("key", &self.key)
            .field("prefixes", &self.prefixes)
            .field("renames", &self.renames.len())
            .field("is_strict", &self.is_strict)
            .finish()
    }
}

/// Says which prefix to strip or to add, if all names of one side have a prefix without which they
/// are names of the other.
fn prefix_fix(missing: &[String], surplus: &[String]) -> Option<String> {
    let prefix_over = |longer: &[String], shorter: &[String]| {
        let first = longer.first()?;
        let ends = first.match_indices('.').map(|(at, _)| at + 1);
        let prefixes = ends.map(|end| &first[..end]);
        let fits = |prefix: &&str| {
            longer.iter().all(|name| {
                name.strip_prefix(*prefix)
                    .is_some_and(|rest| shorter.iter().any(|known| known == rest))
            })
        };
        prefixes.into_iter().find(fits).map(str::to_owned)
    };
    if let Some(prefix) = prefix_over(surplus, missing) {
        return Some(format!(
            "names in the file begin with `{prefix}`, so give `weights::Loader` a `.strip(\"{prefix}\")`"
        ));
    }
    let prefix = prefix_over(missing, surplus)?;
    Some(format!(
        "names in the store begin with `{prefix}`, so give `weights::Loader` a `.rename(|name| format!(\"{prefix}{{name}}\"))`"
    ))
}

/// What a [`Loader`] has read.
#[derive(Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The name in the file of each variable that was read, by its name in the store.
    pub names: BTreeMap<String, String>,
    /// Tensors of the file that are carried through, by their names in the file:
    /// `num_batches_tracked`, and those that a file of [`checkpoint::Writer`] has beside the
    /// variables.
    pub beside: BTreeMap<String, Tensor>,
    /// Variables that the file does not have; only without [`strict`](Loader::strict).
    pub missing: Vec<String>,
    /// Tensors of the file that the store does not have, by their names in the file; only without
    /// [`strict`](Loader::strict).
    pub left_out: Vec<String>,
    /// What the file has beside the state dict; see [`File::metadata`].
    pub metadata: Map<String, Value>,
}

impl Loaded {
    /// Writes the variables of `vs`, slimmed or not, under the names of the file, with the tensors
    /// that were carried through; variables that the file does not have, under their own names. The
    /// tensors that were left out, and the metadata, are not written. The formats are those of
    /// [`save`].
    ///
    /// # Errors
    /// Those of [`save`], and [`FileError::Format`] when two tensors would have one name.
    pub fn save(&self, path: impl AsRef<Path>, vs: &VarStore) -> Result<()> {
        let path = path.as_ref();
        let mut tensors: BTreeMap<_, _> = self
            .beside
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
            .collect();
        for (variable, tensor) in vs.variables() {
            let name = self.names.get(&variable).unwrap_or(&variable).clone();
            if tensors.insert(name.clone(), tensor).is_some() {
                let reason =
                    format!("two tensors would be `{name}`; one is the variable `{variable}`");
                return Err(Error::File(FileError::Format { file: path.to_owned(), reason }));
            }
        }
        write_named(path, tensors)
    }
}
