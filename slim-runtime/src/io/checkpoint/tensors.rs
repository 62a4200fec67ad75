//! Compares and converts between tensors of a file and variables of a store.

use std::collections::{BTreeMap, BTreeSet};

use safetensors::tensor::{Dtype, TensorView};
use tch::{Device, Kind, TchError, Tensor};

use super::{File, is_batch_count};

/// Names that are less alike than this share of their characters are not proposed.
const NEAR: f64 = 0.6;

/// A variable of a store.
pub(super) struct Variable {
    pub(super) tensor: Tensor,
    /// The variable's shape after loading.
    pub(super) shape: Vec<i64>,
}

/// Where loaded values come from.
#[derive(Clone, Copy)]
pub(super) enum Source<'s> {
    File(&'s File),
    /// Tensors in memory, read from any kind of file.
    Memory(&'s BTreeMap<String, Tensor>),
}

/// Shape and type of a source's tensor, known before its values are read.
struct Found {
    shape: Vec<i64>,
    /// The name of its type, if that is not a float type.
    no_float: Option<String>,
}

impl Source<'_> {
    /// Names of the tensors, sorted.
    fn names(&self) -> Vec<String> {
        match self {
            Source::File(file) => file.names(),
            Source::Memory(tensors) => tensors.keys().cloned().collect(),
        }
    }

    fn find(&self, name: &str) -> Option<Found> {
        match self {
            Source::File(file) => {
                let view = file.view(name)?;
                let no_float =
                    float_kind(view.dtype()).is_none().then(|| format!("{:?}", view.dtype()));
                Some(Found { shape: size(&view), no_float })
            }
            Source::Memory(tensors) => {
                let tensor = tensors.get(name)?;
                let Ok(kind) = tensor.f_kind() else {
                    return Some(Found { shape: Vec::new(), no_float: Some("none".to_owned()) });
                };
                let named = || {
                    dtype(kind).map_or_else(|| format!("{kind:?}"), |dtype| format!("{dtype:?}"))
                };
                Some(Found {
                    shape: tensor.size(),
                    no_float: float_dtype(kind).is_none().then(named),
                })
            }
        }
    }

    /// A copy of the values, in the kind and on the device of `variable`; `None` when the source
    /// has no tensor of this name.
    pub(super) fn value(&self, name: &str, variable: &Tensor) -> Option<Result<Tensor, TchError>> {
        match self {
            Source::File(file) => Some(value(&file.view(name)?, variable)),
            Source::Memory(tensors) => Some(copied(tensors.get(name)?, variable)),
        }
    }
}

/// Every difference between the source and the variables, as a text that names the tensor.
///
/// `beside` has the names of the source's tensors that are not variables.
pub(super) fn differences(
    source: Source,
    beside: &BTreeSet<String>,
    variables: &BTreeMap<String, Variable>,
) -> Vec<String> {
    let known =
        |name: &str| variables.contains_key(name) || beside.contains(name) || is_batch_count(name);
    let mut surplus = source.names();
    surplus.retain(|name| !known(name));
    let mut problems = Vec::new();
    for (name, variable) in variables {
        let (strides, sizes) = (variable.tensor.stride(), variable.tensor.size());
        if strides.iter().zip(sizes).any(|(&stride, size)| stride == 0 && size > 1) {
            problems.push(format!(
                "`{name}` is an expanded view in the store, which cannot be written"
            ));
        }
        let Some(Found { shape, no_float }) = source.find(name) else {
            let near = near(name, &variable.shape, source, &surplus);
            problems.push(near.map_or_else(
                || missing(name),
                |near| format!("{}, which has `{near}` of this shape", missing(name)),
            ));
            continue;
        };
        if shape != variable.shape {
            problems.push(format!(
                "`{name}` has shape {shape:?} in the file, {:?} in the store",
                variable.shape
            ));
        }
        if let Some(kind) = no_float {
            problems.push(format!("`{name}` is of type {kind}, which is not supported"));
        }
    }
    problems.extend(surplus.iter().map(|name| format!("`{name}` is not in the store")));
    problems
}

/// The surplus tensor of this shape whose name is nearest to that of a missing variable; `None` if
/// no name is near, or two are equally near.
fn near<'n>(name: &str, shape: &[i64], source: Source, surplus: &'n [String]) -> Option<&'n str> {
    let is_of_shape =
        |other: &&String| source.find(other).is_some_and(|found| found.shape == shape);
    let mut nearest: Vec<_> = surplus
        .iter()
        .filter(is_of_shape)
        // Names of very different lengths are not alike, and comparing takes their product of
        // memory.
        .filter(|other| {
            let (short, long) = (name.len().min(other.len()), name.len().max(other.len()));
            short as f64 >= NEAR * long as f64
        })
        .map(|other| (strsim::normalized_damerau_levenshtein(name, other), other.as_str()))
        .filter(|(likeness, _)| *likeness >= NEAR)
        .collect();
    nearest.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    match nearest[..] {
        [(_, only)] => Some(only),
        [(first, name), (second, _), ..] if first > second => Some(name),
        _ => None,
    }
}

pub(super) fn missing(name: &str) -> String {
    format!("`{name}` is missing in the file")
}

fn size(value: &TensorView) -> Vec<i64> {
    value.shape().iter().map(|&size| size as i64).collect()
}

/// The types that both safetensors and libtorch have; the first [`FLOATS`] are floats.
const TYPES: [(Dtype, Kind); 10] = [
    (Dtype::F16, Kind::Half),
    (Dtype::BF16, Kind::BFloat16),
    (Dtype::F32, Kind::Float),
    (Dtype::F64, Kind::Double),
    (Dtype::I64, Kind::Int64),
    (Dtype::I32, Kind::Int),
    (Dtype::I16, Kind::Int16),
    (Dtype::I8, Kind::Int8),
    (Dtype::U8, Kind::Uint8),
    (Dtype::BOOL, Kind::Bool),
];
const FLOATS: usize = 4;

/// The kind of a file type that a variable may be read from.
fn float_kind(dtype: Dtype) -> Option<Kind> {
    TYPES[..FLOATS].iter().find(|(known, _)| *known == dtype).map(|(_, kind)| *kind)
}

/// The file type of a kind that a variable may be written as.
pub(super) fn float_dtype(kind: Kind) -> Option<Dtype> {
    dtype(kind).filter(|&dtype| float_kind(dtype).is_some())
}

pub(super) fn dtype(kind: Kind) -> Option<Dtype> {
    TYPES.iter().find(|(_, known)| *known == kind).map(|(dtype, _)| *dtype)
}

/// A tensor of the file, unconverted; `None` for a type that libtorch does not have.
pub(super) fn plain(value: &TensorView) -> Option<Result<Tensor, TchError>> {
    let (_, kind) = TYPES.iter().find(|(dtype, _)| *dtype == value.dtype())?;
    Some(Tensor::f_from_data_size(value.data(), &size(value), *kind))
}

fn value(value: &TensorView, variable: &Tensor) -> Result<Tensor, TchError> {
    // `differences` has refused all other types.
    let kind = float_kind(value.dtype()).unwrap_or(Kind::Float);
    Tensor::f_from_data_size(value.data(), &size(value), kind)?
        .f_to_kind(variable.f_kind()?)?
        .f_to_device(variable.device())
}

fn copied(tensor: &Tensor, variable: &Tensor) -> Result<Tensor, TchError> {
    let mut copy = Tensor::f_empty(tensor.size(), (variable.f_kind()?, variable.device()))?;
    copy.f_copy_(tensor)?;
    Ok(copy)
}

/// A tensor's values as bytes in row-major order, whatever its strides.
pub(crate) fn bytes(tensor: &Tensor) -> Result<Vec<u8>, TchError> {
    let mut bytes = vec![0; tensor.numel() * tensor.f_kind()?.elt_size_in_bytes()];
    tensor
        .f_detach()?
        .f_to_device(Device::Cpu)?
        .f_contiguous()?
        .f_copy_data_u8(&mut bytes, tensor.numel())?;
    Ok(bytes)
}
