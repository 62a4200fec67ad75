//! Tensors as a file has them, and as a store has them.

use std::collections::{BTreeMap, BTreeSet};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tch::{Device, Kind, TchError, Tensor};

use super::BATCH_COUNT;

/// A variable of a store.
pub(super) struct Variable {
    pub(super) tensor: Tensor,
    /// Its shape when the file's values are in it.
    pub(super) shape: Vec<i64>,
}

/// Every tensor that keeps the file from fitting, by name.
///
/// `beside` are the names of the file's tensors that are no variables.
pub(super) fn differences(file: &SafeTensors, beside: &BTreeSet<String>, variables: &BTreeMap<String, Variable>) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, variable) in variables {
        let (strides, sizes) = (variable.tensor.stride(), variable.tensor.size());
        if strides.iter().zip(sizes).any(|(&stride, size)| stride == 0 && size > 1) {
            problems.push(format!("`{name}` is an expanded view in the store, which cannot be written"));
        }
        match file.tensor(name) {
            Err(_) => problems.push(format!("`{name}` is missing in the file")),
            Ok(value) => {
                let (shape, expected) = (size(&value), &variable.shape);
                if shape != *expected {
                    problems.push(format!("`{name}` has shape {shape:?} in the file, {expected:?} in the store"));
                }
                if float_kind(value.dtype()).is_none() {
                    problems.push(format!("`{name}` is of type {:?}, which is not supported", value.dtype()));
                }
            }
        }
    }
    let known = |name: &str| variables.contains_key(name) || beside.contains(name) || name.ends_with(BATCH_COUNT);
    let mut surplus: Vec<_> = file.names().into_iter().filter(|name| !known(name)).collect();
    surplus.sort_unstable();
    problems.extend(surplus.into_iter().map(|name| format!("`{name}` is not in the store")));
    problems
}

fn size(value: &TensorView) -> Vec<i64> {
    value.shape().iter().map(|&size| size as i64).collect()
}

/// The types that both safetensors and libtorch have, the floats first.
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

/// What a variable may be read from.
fn float_kind(dtype: Dtype) -> Option<Kind> {
    TYPES[..FLOATS].iter().find(|(known, _)| *known == dtype).map(|(_, kind)| *kind)
}

/// What a variable may be written as.
pub(super) fn float_dtype(kind: Kind) -> Option<Dtype> {
    dtype(kind).filter(|&dtype| float_kind(dtype).is_some())
}

pub(super) fn dtype(kind: Kind) -> Option<Dtype> {
    TYPES.iter().find(|(_, known)| *known == kind).map(|(dtype, _)| *dtype)
}

/// A tensor as the file has it.
pub(super) fn plain(value: &TensorView) -> Option<Result<Tensor, TchError>> {
    let (_, kind) = TYPES.iter().find(|(dtype, _)| *dtype == value.dtype())?;
    Some(Tensor::f_from_data_size(value.data(), &size(value), *kind))
}

/// The file's values in the kind and on the device of the variable.
pub(super) fn value(value: &TensorView, variable: &Tensor) -> Result<Tensor, TchError> {
    // `differences` has found a kind.
    let kind = float_kind(value.dtype()).unwrap_or(Kind::Float);
    Tensor::f_from_data_size(value.data(), &size(value), kind)?.f_to_kind(variable.f_kind()?)?.f_to_device(variable.device())
}

/// A tensor's values in row-major order, whatever its strides.
pub(super) fn bytes(tensor: &Tensor) -> Result<Vec<u8>, TchError> {
    let mut bytes = vec![0; tensor.numel() * tensor.f_kind()?.elt_size_in_bytes()];
    tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?.f_copy_data_u8(&mut bytes, tensor.numel())?;
    Ok(bytes)
}
