//! Networks in safetensors files: their weights, and the plan by which they were slimmed.
//!
//! ```
//! # #[derive(Debug, slim_runtime::Prunable)]
//! # #[prune(sequential)]
//! # struct Net { conv: nn::Conv2D, bn: nn::BatchNorm, fc: nn::Linear }
//! # impl Net { fn new(p: nn::Path) -> Net { Net {
//! #     conv: nn::conv2d(&p / "conv", 3, 8, 3, Default::default()), bn: nn::batch_norm2d(&p / "bn", 8, Default::default()), fc: nn::linear(&p / "fc", 8, 10, Default::default()) } } }
//! # let folder = tempfile::tempdir().unwrap();
//! # let file = folder.path().join("slim.safetensors");
//! use slim_runtime::{Prunable, checkpoint};
//! use tch::{Device, nn};
//!
//! let vs = nn::VarStore::new(Device::Cpu);
//! let mut net = Net::new(vs.root());
//! let slimmed = net.slim(0.5)?;
//! checkpoint::save(&file, &vs, &slimmed)?;
//!
//! // In another program, on any device: built as it was, it becomes as narrow as the file's.
//! let mut vs = nn::VarStore::new(Device::cuda_if_available());
//! let mut net = Net::new(vs.root());
//! let slimmed = checkpoint::load(&file, &mut vs, &mut net)?;
//!
//! // Slimmed further, it still knows its original channels.
//! let both = slimmed.then(&net.slim(0.3)?)?;
//! checkpoint::save(&file, &vs, &both)?;
//! # Ok::<(), slim_runtime::Error>(())
//! ```
//!
//! | | |
//! | --- | --- |
//! | [`save`], [`load`] | a slimmed network: the file contains everything that turns a dense network of the same definition into it |
//! | [`save_weights`], [`load_weights`] | only weights: of a dense network, or from PyTorch |
//! | [`load_tensors`] | like [`load_weights`], from tensors in memory that were read from another kind of file |
//! | [`cfg()`], [`plan`] | the cfg and the plan in a file of `save`, to build the network from or to inspect |
//! | [`Writer`], [`metadata()`], [`tensors()`] | any of these files with your own metadata and tensors added, for example an optimizer's |
//! | [`File`] | a file that is read once, to take several things from it: each reading function of this module reads the file anew |
//!
//! # The file
//!
//! Tensors have the names of the variable store, which equal PyTorch's when the store's paths do.
//! The file is plain safetensors: Python's library reads it (`safetensors.torch.load_file`), and a
//! `state_dict` saved from Python loads here. Tensors are written in row-major order, whatever
//! their strides.
//!
//! | metadata | |
//! | --- | --- |
//! | `slim_format` | version of this format: 1. A file of a later version is refused |
//! | `cfg` | the widths, as [`Cfg`] prints them |
//! | `plan` | the [`Plan`] as JSON, from the original network, with the names of the variables ([`Plan::tensors`]) and earlier slimmings ([`Plan::passes`]) |
//! | `positions` | a JSON object: the input channels of each shuffle and selection, by field path; absent if there are none |
//! | `beside` | a JSON array: the names of the tensors that are not variables; absent if there are none |
//!
//! # Whole or not at all
//!
//! A file is written to a temporary file in the folder of `path`, flushed to the disk and then
//! renamed, so that even after a loss of power `path` holds a complete file: the old one or the new
//! one. A symbolic link is followed. If the process is killed while it writes, only the temporary
//! file `.slim-*.tmp` remains, and can be removed.
//!
//! Loading checks names, shapes, types and the plan before the first write. (tch's `VarStore::load`
//! does not: it silently broadcasts a tensor of one channel into one of 64.) Then model and store
//! change together or not at all. A variable whose shape stays keeps its memory and strides.

mod file;
mod metadata;
mod tensors;
mod values;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use safetensors::tensor::SafeTensorError;
use tch::Tensor;
use tch::nn::VarStore;

use crate::error::FileError;
use crate::plan::{Plan, Slimmed};
use crate::{Cfg, Error, Prunable, Result};
pub use file::File;
pub(crate) use metadata::of as metadata_of;
use tensors::Source;
pub(crate) use tensors::bytes;
pub use write::Writer;
#[cfg(feature = "pytorch")]
pub(in crate::io) use write::write_tensors;

/// Last part of the name of PyTorch's batch counter, an integer that tch's batch norms do not have.
const BATCH_COUNT: &str = "num_batches_tracked";

/// Writes a slimmed network: all variables of `vs`, its cfg, and its plan with the variables'
/// names. [`load`] reads the file.
///
/// `slimmed` must be of the model whose variables are in `vs`; a replica to which the same plan was
/// applied has its own, from [`Prunable::apply`]. **After several slimmings, pass all of them,
/// [`first.then(&second)`](Slimmed::then)**: with the second alone, only a network that the first
/// slimming left can load the file, not a dense one. If a model's variables are in several stores,
/// save the weights of each with [`save_weights`], and the plan as JSON.
///
/// # Errors
/// [`PlanError::NotInStore`](crate::error::PlanError::NotInStore) when a layer's tensor is not
/// among the variables, [`PlanError::Mismatch`](crate::error::PlanError::Mismatch) when the model
/// was slimmed again in the meantime; [`Error::Io`],
/// [`FileError::Format`](crate::error::FileError::Format) for a variable that is not of a float
/// kind, [`Error::Torch`]. A file at `path` is then unchanged.
pub fn save(path: impl AsRef<Path>, vs: &VarStore, slimmed: &Slimmed) -> Result<()> {
    Writer::new(vs).slimmed(slimmed).write(path)
}

/// Reads a slimmed network that [`save`] wrote into a model of the same definition, whose variables
/// are in `vs`.
///
/// A dense model is slimmed by the file's plan and gets its weights in one step. A model that
/// already has the widths of the file, such as one built from its [`cfg()`] or [`plan`], gets only
/// the weights. Values are converted to the store's float kind and device. The result is that of
/// [`Prunable::apply`]: print it, or slim further and [compose](Slimmed::then).
///
/// PyTorch's `num_batches_tracked` is ignored.
///
/// # Errors
/// [`FileError::Model`](crate::error::FileError::Model) when the model is neither dense nor as
/// narrow as the file's network, with the first difference from each;
/// [`FileError::Checkpoint`](crate::error::FileError::Checkpoint) with every tensor that is
/// missing, surplus or of another shape or name;
/// [`FileError::Positions`](crate::error::FileError::Positions) when a shuffle or a selection has
/// other positions; [`PlanError::NotInStore`](crate::error::PlanError::NotInStore);
/// [`FileError::Format`](crate::error::FileError::Format), [`Error::Io`]; those of
/// [`Prunable::apply`]. Model and store are then unchanged, to the bit.
pub fn load<M: Prunable + ?Sized>(
    path: impl AsRef<Path>,
    vs: &mut VarStore,
    model: &mut M,
) -> Result<Slimmed> {
    File::open(path)?.load(vs, model)
}

/// Writes all variables of `vs` without a plan: for a dense network, or one that does not implement
/// [`Prunable`](trait@Prunable).
///
/// # Errors
/// [`Error::Io`], [`FileError::Format`](crate::error::FileError::Format) for a variable that is not
/// of a float kind, [`Error::Torch`]. A file at `path` is then unchanged.
pub fn save_weights(path: impl AsRef<Path>, vs: &VarStore) -> Result<()> {
    Writer::new(vs).write(path)
}

/// Reads all variables of `vs` from a file with exactly these names and shapes: from
/// [`save_weights`], from [`save`] if the network already has the widths of the file, or from
/// PyTorch. Values are converted to the store's float kind and device.
///
/// PyTorch's `num_batches_tracked` is ignored.
///
/// # Errors
/// [`FileError::Checkpoint`](crate::error::FileError::Checkpoint) with every tensor that is
/// missing, surplus or of another shape; [`FileError::Format`](crate::error::FileError::Format),
/// [`Error::Io`], [`Error::Torch`]. The store is then unchanged, to the bit.
pub fn load_weights(path: impl AsRef<Path>, vs: &mut VarStore) -> Result<()> {
    File::open(path)?.load_weights(vs)
}

/// Gives all variables of `vs` the values of tensors with exactly these names and shapes: for files
/// in another format than safetensors. Like [`load_weights`], it checks all tensors first, and
/// changes all variables or none. Values are copied and converted to the store's float kind and
/// device.
///
/// PyTorch's `num_batches_tracked` is ignored. Errors name `file`.
///
/// # Errors
/// [`FileError::Checkpoint`](crate::error::FileError::Checkpoint) with every tensor that is
/// missing, surplus, of another shape or not of a float kind; [`Error::Torch`]. The store is then
/// unchanged, to the bit.
pub fn load_tensors(
    tensors: &BTreeMap<String, Tensor>,
    file: impl AsRef<Path>,
    vs: &mut VarStore,
) -> Result<()> {
    values::assign(file.as_ref(), Source::Memory(tensors), &BTreeSet::new(), vs)
}

/// Like [`load_tensors`], but variables without a tensor keep their values.
#[cfg(feature = "pytorch")]
pub(in crate::io) fn load_found(
    tensors: &BTreeMap<String, Tensor>,
    file: &Path,
    vs: &VarStore,
) -> Result<()> {
    let variables = sorted_variables(vs).into_iter();
    let variables = variables.filter(|(name, _)| tensors.contains_key(name)).collect();
    values::assign_to(file, Source::Memory(tensors), &BTreeSet::new(), variables)
}

/// Whether a tensor is PyTorch's batch counter.
pub(in crate::io) fn is_batch_count(name: &str) -> bool {
    name.rsplit('.').next() == Some(BATCH_COUNT)
}

/// The cfg of a file that [`save`] wrote: build a network from its widths, then [`load`].
///
/// # Errors
/// [`FileError::Format`](crate::error::FileError::Format) when the file has no cfg,
/// [`ArgumentError::Cfg`](crate::error::ArgumentError::Cfg), [`Error::Io`].
pub fn cfg(path: impl AsRef<Path>) -> Result<Cfg> {
    File::open(path)?.cfg()
}

/// The plan of a file that [`save`] wrote: which channels of the original network stayed, and the
/// names of the variables.
///
/// # Errors
/// [`FileError::Format`](crate::error::FileError::Format) when the file has no plan, or an invalid
/// one; [`Error::Io`].
pub fn plan(path: impl AsRef<Path>) -> Result<Plan> {
    File::open(path)?.plan()
}

/// An entry of a file's metadata, written by [`Writer::metadata`] or by another program; `None`
/// when there is no such entry.
///
/// # Errors
/// [`FileError::Format`](crate::error::FileError::Format), [`Error::Io`].
pub fn metadata(path: impl AsRef<Path>, key: &str) -> Result<Option<String>> {
    Ok(File::open(path)?.metadata(key).map(str::to_owned))
}

/// All tensors of a safetensors file by name, unconverted and on the CPU: variables, and those of
/// [`Writer::tensors`].
///
/// # Errors
/// [`FileError::Format`](crate::error::FileError::Format), also for a type that libtorch does not
/// have; [`Error::Io`], [`Error::Torch`].
pub fn tensors(path: impl AsRef<Path>) -> Result<BTreeMap<String, Tensor>> {
    File::open(path)?.tensors()
}

fn sorted_variables(vs: &VarStore) -> BTreeMap<String, Tensor> {
    vs.variables().into_iter().collect()
}

fn format_error(path: &Path) -> impl FnOnce(SafeTensorError) -> Error {
    let file = path.to_owned();
    move |error| Error::File(FileError::Format { file, reason: no_safetensors(&error) })
}

fn no_safetensors(error: &SafeTensorError) -> String {
    format!("no sound safetensors file ({error})")
}
