//! Writes the safetensors format one tensor at a time, so that at most one tensor is in memory
//! twice.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::Path;

use safetensors::tensor::{Metadata, TensorInfo};
use tch::Tensor;
use tch::nn::VarStore;

use super::tensors::{bytes, dtype, float_dtype};
use super::{format_error, metadata, sorted_variables};
use crate::error::FileError;
use crate::io::atomic;
use crate::plan::Slimmed;
use crate::{Error, Result};

/// Key of the metadata in the header, where the other keys are names of tensors.
const METADATA: &str = "__metadata__";

/// Writes what [`save`](super::save) and [`save_weights`](super::save_weights) write, plus tensors
/// that are not variables and your own metadata.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let file = folder.path().join("epoch.safetensors");
/// use slim_runtime::checkpoint::{self, Writer};
/// use tch::{Device, Tensor, nn};
///
/// let vs = nn::VarStore::new(Device::Cpu);
/// let fc = nn::linear(vs.root() / "fc", 8, 10, Default::default());
/// let momentum = [("momentum.fc.weight", fc.ws.zeros_like())];
/// Writer::new(&vs).tensors(momentum).metadata("epoch", "12").write(&file)?;
///
/// assert_eq!(checkpoint::metadata(&file, "epoch")?.as_deref(), Some("12"));
/// assert_eq!(checkpoint::tensors(&file)?["momentum.fc.weight"].size(), [10, 8]);
/// # Ok::<(), slim_runtime::Error>(())
/// ```
///
/// The file lists the tensors that are not variables, so [`load`](super::load) and
/// [`load_weights`](super::load_weights) ignore them.
#[derive(Debug)]
#[must_use = "nothing is written before `write`"]
pub struct Writer<'w> {
    vs: &'w VarStore,
    slimmed: Option<&'w Slimmed>,
    beside: BTreeMap<String, Tensor>,
    entries: BTreeMap<String, String>,
}

impl<'w> Writer<'w> {
    /// A writer of all variables of a store.
    pub fn new(vs: &'w VarStore) -> Self {
        Self { vs, slimmed: None, beside: BTreeMap::new(), entries: BTreeMap::new() }
    }

    /// Adds cfg and plan of a slimmed network, as [`save`](super::save) writes them.
    pub fn slimmed(mut self, slimmed: &'w Slimmed) -> Self {
        self.slimmed = Some(slimmed);
        self
    }

    /// Adds tensors that are not variables, of any kind that safetensors supports.
    pub fn tensors<N: Into<String>>(
        mut self,
        tensors: impl IntoIterator<Item = (N, Tensor)>,
    ) -> Self {
        self.beside.extend(tensors.into_iter().map(|(name, tensor)| (name.into(), tensor)));
        self
    }

    /// Adds an entry of the metadata, which [`metadata`](super::metadata()) reads.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.entries.insert(key.into(), value.into());
        self
    }

    /// Writes the file, completely or not at all.
    ///
    /// # Errors
    /// Those of [`save`](super::save); [`FileError::Format`](crate::error::FileError::Format) for a
    /// tensor name that a variable or the format itself uses, and for a metadata key that this
    /// crate uses. A file at `path` is then unchanged.
    pub fn write(self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let plan =
            self.slimmed.map(|slimmed| Ok((slimmed, slimmed.named_plan(self.vs)?))).transpose()?;
        let metadata = metadata::of(
            plan.as_ref().map(|(slimmed, plan)| (*slimmed, plan)),
            self.beside.keys(),
            self.entries,
        )
        .map_err(|reason| Error::File(FileError::Format { file: path.to_owned(), reason }))?;
        let mut tensors = sorted_variables(self.vs);
        for (name, tensor) in &tensors {
            let kind = tensor.f_kind().map_err(Error::torch(name))?;
            if float_dtype(kind).is_none() {
                let reason = format!("`{name}` is of kind {kind:?}; variables must be floats");
                return Err(Error::File(FileError::Format { file: path.to_owned(), reason }));
            }
        }
        for (name, tensor) in self.beside {
            if tensors.contains_key(&name) {
                return Err(Error::File(FileError::Format {
                    file: path.to_owned(),
                    reason: format!("`{name}` is a variable of the store already"),
                }));
            }
            tensors.insert(name, tensor);
        }
        write(path, tensors, metadata)
    }
}

/// Writes tensors with the metadata that Hugging Face's libraries ask for: `format`.
#[cfg(feature = "pytorch")]
pub(in crate::io) fn write_tensors(path: &Path, tensors: BTreeMap<String, Tensor>) -> Result<()> {
    write(path, tensors, HashMap::from([("format".to_owned(), "pt".to_owned())]))
}

fn write(
    path: &Path,
    tensors: BTreeMap<String, Tensor>,
    metadata: HashMap<String, String>,
) -> Result<()> {
    let tensors = in_order(path, tensors)?;
    let header = header(path, &tensors, metadata)?;
    let mut failed = None;
    let written = atomic::write(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for (name, tensor, _) in &tensors {
            let bytes = bytes(tensor).map_err(|cause| {
                failed = Some(Error::torch(name)(cause));
                io::Error::other("libtorch failed")
            })?;
            file.write_all(&bytes)?;
        }
        Ok(())
    });
    match (failed, written) {
        (Some(error), _) => Err(error),
        (None, Err(cause)) => Err(Error::Io { file: path.to_owned(), action: "write", cause }),
        (None, Ok(())) => Ok(()),
    }
}

/// Sorts tensors by element width, widest first, as the format requires for alignment; then by
/// name.
fn in_order(
    path: &Path,
    tensors: BTreeMap<String, Tensor>,
) -> Result<Vec<(String, Tensor, safetensors::Dtype)>> {
    let typed = tensors.into_iter().map(|(name, tensor)| {
        if name == METADATA {
            return Err(Error::File(FileError::Format {
                file: path.to_owned(),
                reason: format!("`{METADATA}` is no name for a tensor; choose another"),
            }));
        }
        let kind = tensor.f_kind().map_err(Error::torch(&name))?;
        let Some(dtype) = dtype(kind) else {
            return Err(Error::File(FileError::Format {
                file: path.to_owned(),
                reason: format!("`{name}` is of kind {kind:?}, which safetensors has not"),
            }));
        };
        Ok((name, tensor, dtype))
    });
    let mut tensors = typed.collect::<Result<Vec<_>>>()?;
    tensors.sort_by_key(|(_, _, dtype)| std::cmp::Reverse(dtype.bitsize()));
    Ok(tensors)
}

/// The header, padded with spaces to a multiple of 8 bytes.
fn header(
    path: &Path,
    tensors: &[(String, Tensor, safetensors::Dtype)],
    metadata: HashMap<String, String>,
) -> Result<Vec<u8>> {
    let mut end = 0;
    let infos = tensors.iter().map(|(name, tensor, dtype)| {
        let start = end;
        end += tensor.numel() * dtype.bitsize() / 8;
        let shape = tensor.size().iter().map(|&size| size as usize).collect();
        (name.clone(), TensorInfo { dtype: *dtype, shape, data_offsets: (start, end) })
    });
    let infos = infos.collect();
    let metadata = Metadata::new(Some(metadata), infos).map_err(format_error(path))?;
    // A `Value` sorts the keys, so the same network gives the same bytes.
    let sorted = serde_json::to_value(&metadata).and_then(|header| serde_json::to_vec(&header));
    let mut header = sorted.map_err(|error| format_error(path)(error.into()))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}
