//! Networks in safetensors files: their weights, and what was slimmed of them.
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
//! | [`save`], [`load`] | a slimmed network: the file carries all that a dense network of the same definition needs to become it |
//! | [`save_weights`], [`load_weights`] | weights alone: of a dense network, or of PyTorch |
//! | [`load_tensors`] | the same from tensors that were read from another kind of file |
//! | [`cfg()`], [`plan`] | what a file of `save` says, to build the network from, or to read |
//! | [`Writer`], [`metadata()`], [`tensors()`] | all of that, with metadata and tensors of your own beside it: an optimizer's, say |
//! | [`File`] | a file that is read once, to ask it for several of these: each function here that reads takes one of its own |
//!
//! # The file
//!
//! Tensors have the names of the variable store, which are PyTorch's when the store's paths are.
//! They are plain safetensors: Python's library reads the file (`safetensors.torch.load_file`), and
//! a `state_dict` saved from Python loads here. They are written row by row, whatever their
//! strides.
//!
//! | metadata | |
//! | --- | --- |
//! | `slim_format` | version of this table: 1. A file of a later version is refused |
//! | `cfg` | the widths, as [`Cfg`] prints them |
//! | `plan` | the [`Plan`] as JSON, from the original network, with the names of the variables ([`Plan::tensors`]) and earlier slimmings ([`Plan::passes`]) |
//! | `positions` | a JSON object: the channels that each shuffle and selection picks, by field path; absent where there are none |
//! | `beside` | a JSON array: the names of the tensors that are no variables; absent where there are none |
//!
//! # Whole or not at all
//!
//! A file is written beside `path`, flushed to the disk and then renamed, so that whatever happens,
//! be it a loss of power, a whole file is there: the old one or the new. A symbolic link is
//! followed. Where the process is killed while it writes, the temporary file stays behind,
//! `.slim-*.tmp`, and can be removed; nothing else is left.
//!
//! Loading checks names, shapes, types and the plan before the first write. (tch's `VarStore::load`
//! does not: it broadcasts a tensor of one channel into one of 64 without a word.) Then model and
//! store change together or not at all. A variable whose shape stays keeps its memory and strides.

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

use crate::plan::{Plan, Slimmed};
use crate::{Cfg, Error, Prunable, Result};
pub use file::File;
use tensors::Source;
pub use write::Writer;

/// PyTorch's count of batches, which no float network needs and tch does not keep.
const BATCH_COUNT: &str = "num_batches_tracked";

/// Writes all variables of `vs`, and what was done to the network: cfg, plan, names. [`load`] reads
/// it.
///
/// `slimmed` is of the model whose variables `vs` has; a replica that took the same plan has its
/// own, from [`Prunable::apply`]. **Slimmed several times, it is all of it,
/// [`first.then(&second)`](Slimmed::then)**: with the second alone, the file is one for a network
/// as the first left it, and a dense one does not load it. A model whose variables are in several
/// stores is saved as weights, [`save_weights`] for each, and its plan as JSON.
///
/// # Errors
/// [`Error::NotInStore`] when a layer's tensor is not among the variables, [`Error::PlanMismatch`]
/// when the model was slimmed again in the meantime; [`Error::Io`], [`Error::Format`] for a kind of
/// tensor that is no float, [`Error::Torch`]. What `path` held is then still there.
pub fn save(path: impl AsRef<Path>, vs: &VarStore, slimmed: &Slimmed) -> Result<()> {
    Writer::new(vs).slimmed(slimmed).write(path)
}

/// Reads a slimmed network that [`save`] wrote into a model of the same definition, whose variables
/// `vs` has.
///
/// A dense model is slimmed by the file's plan and takes its weights in one step; one that is as
/// narrow as the file's already, as one built from its [`cfg()`] or [`plan`], takes the weights.
/// Values are converted to the store's float kind and device. Returned is what [`Prunable::apply`]
/// would: print it, or slim further and [compose](Slimmed::then).
///
/// PyTorch's `num_batches_tracked` may be there and is not read.
///
/// # Errors
/// [`Error::CheckpointModel`] when the model is neither of the two, with the first difference from
/// each; [`Error::Checkpoint`] with every tensor that is missing, surplus or of another shape or
/// name; [`Error::CheckpointPositions`] when a shuffle or a selection picks others;
/// [`Error::NotInStore`]; [`Error::Format`], [`Error::Io`]; those of [`Prunable::apply`]. Model and
/// store are then as they were, to the bit.
pub fn load<M: Prunable + ?Sized>(
    path: impl AsRef<Path>,
    vs: &mut VarStore,
    model: &mut M,
) -> Result<Slimmed> {
    File::open(path)?.load(vs, model)
}

/// Writes all variables of `vs`, and nothing about the network: of a dense one, or of one whose
/// `forward` no derive knows.
///
/// # Errors
/// [`Error::Io`], [`Error::Format`] for a kind of tensor that is no float, [`Error::Torch`]. What
/// `path` held is then still there.
pub fn save_weights(path: impl AsRef<Path>, vs: &VarStore) -> Result<()> {
    Writer::new(vs).write(path)
}

/// Reads all variables of `vs` from a file with exactly these names and shapes: of
/// [`save_weights`], of [`save`] where the network is as narrow already, or of PyTorch. Values are
/// converted to the store's float kind and device.
///
/// PyTorch's `num_batches_tracked` may be there and is not read.
///
/// # Errors
/// [`Error::Checkpoint`] with every tensor that is missing, surplus or of another shape;
/// [`Error::Format`], [`Error::Io`], [`Error::Torch`]. The store is then as it was, to the bit.
pub fn load_weights(path: impl AsRef<Path>, vs: &mut VarStore) -> Result<()> {
    File::open(path)?.load_weights(vs)
}

/// Gives all variables of `vs` the values of tensors with exactly these names and shapes, by the
/// checks of [`load_weights`] and in one step as it does: for files that are none of safetensors.
/// Values are converted to the store's float kind and device, and copied.
///
/// PyTorch's `num_batches_tracked` may be there and is not read. `file` is what errors name.
///
/// # Errors
/// [`Error::Checkpoint`] with every tensor that is missing, surplus, of another shape or no float;
/// [`Error::Torch`]. The store is then as it was, to the bit.
pub fn load_tensors(
    tensors: &BTreeMap<String, Tensor>,
    file: impl AsRef<Path>,
    vs: &mut VarStore,
) -> Result<()> {
    values::assign(file.as_ref(), Source::Memory(tensors), &BTreeSet::new(), vs)
}

/// The cfg of a file that [`save`] wrote, to build a network from that is made from widths; then
/// [`load`].
///
/// # Errors
/// [`Error::Format`] when the file has none, [`Error::Cfg`], [`Error::Io`].
pub fn cfg(path: impl AsRef<Path>) -> Result<Cfg> {
    File::open(path)?.cfg()
}

/// The plan of a file that [`save`] wrote: which of the original's channels are left, and under
/// which names.
///
/// # Errors
/// [`Error::Format`] when the file has none, or one that cannot be; [`Error::Io`].
pub fn plan(path: impl AsRef<Path>) -> Result<Plan> {
    File::open(path)?.plan()
}

/// An entry of a file's metadata, of [`Writer::metadata`] or of another program; `None` when there
/// is no such.
///
/// # Errors
/// [`Error::Format`], [`Error::Io`].
pub fn metadata(path: impl AsRef<Path>, key: &str) -> Result<Option<String>> {
    Ok(File::open(path)?.metadata(key).map(str::to_owned))
}

/// All tensors of a safetensors file by name, as they are: variables, and those of
/// [`Writer::tensors`]. On the CPU.
///
/// # Errors
/// [`Error::Format`] also for a type that libtorch has not, [`Error::Io`], [`Error::Torch`].
pub fn tensors(path: impl AsRef<Path>) -> Result<BTreeMap<String, Tensor>> {
    File::open(path)?.tensors()
}

fn sorted_variables(vs: &VarStore) -> BTreeMap<String, Tensor> {
    vs.variables().into_iter().collect()
}

fn format_error(path: &Path) -> impl FnOnce(SafeTensorError) -> Error {
    let file = path.to_owned();
    move |error| Error::Format { file, reason: format!("no sound safetensors file ({error})") }
}
