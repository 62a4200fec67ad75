//! Weights in a safetensors file, with the cfg of the network they fit.
//!
//! A cfg rebuilds a network that is made from widths, and narrows any other that is built as it was ([`Cfg::narrowed`]). What is no tensor and no width, the order of
//! a shuffle or the sizes of a split, is in the [`Plan`](crate::Plan) alone, and such a network takes that before the weights are loaded.
//!
//! Tensors have the names of the variable store, which are PyTorch's when the store's paths are, so Python's `safetensors` reads
//! the file and a `state_dict` saved from Python loads here.
//!
//! Loading checks every name and shape before the first write. (tch's `VarStore::load` does not: it broadcasts a tensor of one
//! channel into one of 64 without a word.)

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};
use tch::nn::VarStore;
use tch::{Device, Kind, TchError, Tensor};

use crate::{Cfg, Error, Result};

/// Where the cfg is kept among the file's metadata.
const CFG: &str = "cfg";

/// PyTorch's count of batches, which no float network needs and tch does not keep.
const BATCH_COUNT: &str = "num_batches_tracked";

/// Writes all variables of `vs`, and `cfg` as metadata. The file appears whole or not at all: it is written beside `path` and then renamed.
///
/// # Errors
/// [`Error::Io`], [`Error::Format`] for a kind of tensor that is no float, [`Error::Cfg`] for a width below 1, [`Error::Torch`].
pub fn save(path: impl AsRef<Path>, vs: &VarStore, cfg: &Cfg) -> Result<()> {
    let path = path.as_ref();
    cfg.check()?;
    let tensors = sorted_variables(vs);
    let bytes = tensors.iter().map(|(name, tensor)| bytes(path, name, tensor)).collect::<Result<Vec<_>>>()?;
    let views = tensors.iter().zip(&bytes).map(|((name, tensor), bytes)| {
        let view = view(tensor, bytes).map_err(format_error(path))?;
        Ok((name, view))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([(CFG.to_owned(), cfg.to_string())]);
    safetensors::serialize_to_file(views, Some(metadata), path).map_err(|error| match error {
        SafeTensorError::IoError(cause) => Error::Io { file: path.to_owned(), action: "write", cause },
        error => format_error(path)(error),
    })
}

/// Reads all variables of `vs` from a file with exactly these names and shapes. Values are converted to the store's float kind and device.
///
/// PyTorch's `num_batches_tracked` may be there and is not read.
///
/// # Errors
/// [`Error::Checkpoint`] with every tensor that is missing, surplus or of another shape; [`Error::Format`], [`Error::Io`], [`Error::Torch`].
/// The store is then as it was.
pub fn load(path: impl AsRef<Path>, vs: &mut VarStore) -> Result<()> {
    let path = path.as_ref();
    let buffer = read(path)?;
    let file = SafeTensors::deserialize(&buffer).map_err(format_error(path))?;
    let mut variables = sorted_variables(vs);

    let problems = differences(&file, &variables);
    if !problems.is_empty() {
        return Err(Error::Checkpoint { file: path.to_owned(), problems });
    }
    let value = |(name, variable): (&String, &Tensor)| {
        let value = file.tensor(name).map_err(format_error(path))?;
        tensor(&value, variable).map_err(Error::torch(name))
    };
    let values = variables.iter().map(value).collect::<Result<Vec<_>>>()?;

    let _no_grad = tch::no_grad_guard();
    variables.iter_mut().zip(&values).try_for_each(|((name, variable), value)| variable.f_copy_(value).map_err(Error::torch(name)))
}

/// Reads the cfg of a file that [`save`] wrote. Build a network that is made from widths from it, then [`load`] the weights.
///
/// # Errors
/// [`Error::Format`] when the file has none, [`Error::Cfg`], [`Error::Io`].
pub fn cfg(path: impl AsRef<Path>) -> Result<Cfg> {
    let path = path.as_ref();
    let buffer = read(path)?;
    let (_, metadata) = SafeTensors::read_metadata(&buffer).map_err(format_error(path))?;
    match metadata.metadata().as_ref().and_then(|entries| entries.get(CFG)) {
        Some(cfg) => cfg.parse(),
        None => Err(Error::Format { file: path.to_owned(), reason: "its metadata has no cfg; `checkpoint::save` writes one".to_owned() }),
    }
}

fn sorted_variables(vs: &VarStore) -> BTreeMap<String, Tensor> {
    vs.variables().into_iter().collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|cause| Error::Io { file: path.to_owned(), action: "read", cause })
}

fn format_error(path: &Path) -> impl FnOnce(SafeTensorError) -> Error {
    let file = path.to_owned();
    move |error| Error::Format { file, reason: format!("no sound safetensors file ({error})") }
}

/// Every tensor that keeps the file from fitting, by name.
fn differences(file: &SafeTensors, variables: &BTreeMap<String, Tensor>) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, variable) in variables {
        if variable.stride().iter().zip(variable.size()).any(|(&stride, size)| stride == 0 && size > 1) {
            problems.push(format!("`{name}` is an expanded view in the store, which cannot be written"));
        }
        match file.tensor(name) {
            Err(_) => problems.push(format!("`{name}` is missing in the file")),
            Ok(value) => {
                let (shape, expected) = (size(&value), variable.size());
                if shape != expected {
                    problems.push(format!("`{name}` has shape {shape:?} in the file, {expected:?} in the store"));
                }
                if kind(value.dtype()).is_none() {
                    problems.push(format!("`{name}` is of type {:?}, which is not supported", value.dtype()));
                }
            }
        }
    }
    let mut surplus: Vec<_> =
        file.names().into_iter().filter(|name| !variables.contains_key(*name) && !name.ends_with(BATCH_COUNT)).collect();
    surplus.sort_unstable();
    problems.extend(surplus.into_iter().map(|name| format!("`{name}` is not in the store")));
    problems
}

fn size(value: &TensorView) -> Vec<i64> {
    value.shape().iter().map(|&size| size as i64).collect()
}

fn kind(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::F32 => Some(Kind::Float),
        Dtype::F64 => Some(Kind::Double),
        _ => None,
    }
}

fn dtype(kind: Kind) -> Option<Dtype> {
    [Dtype::F16, Dtype::BF16, Dtype::F32, Dtype::F64].into_iter().find(|&dtype| self::kind(dtype) == Some(kind))
}

/// The file's values as the variable holds them.
fn tensor(value: &TensorView, like: &Tensor) -> Result<Tensor, TchError> {
    // `differences` has found a kind.
    let kind = kind(value.dtype()).unwrap_or(Kind::Float);
    Tensor::f_from_data_size(value.data(), &size(value), kind)?.f_to_kind(like.f_kind()?)?.f_to_device(like.device())
}

fn bytes(path: &Path, name: &str, tensor: &Tensor) -> Result<Vec<u8>> {
    let kind = tensor.f_kind().map_err(Error::torch(name))?;
    if dtype(kind).is_none() {
        return Err(Error::Format { file: path.to_owned(), reason: format!("`{name}` is of kind {kind:?}; variables must be floats") });
    }
    let copy = || {
        let mut bytes = vec![0; tensor.numel() * kind.elt_size_in_bytes()];
        tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?.f_copy_data_u8(&mut bytes, tensor.numel())?;
        Ok(bytes)
    };
    copy().map_err(Error::torch(name))
}

fn view<'b>(tensor: &Tensor, bytes: &'b [u8]) -> Result<TensorView<'b>, SafeTensorError> {
    // `bytes` has refused kinds without a type.
    let dtype = dtype(tensor.kind()).unwrap_or(Dtype::F32);
    TensorView::new(dtype, tensor.size().iter().map(|&size| size as usize).collect(), bytes)
}
