//! Tensors as a file has them, and as a store has them.

use std::collections::BTreeMap;

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
pub(super) fn differences(file: &SafeTensors, variables: &BTreeMap<String, Variable>) -> Vec<String> {
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

pub(super) fn dtype(kind: Kind) -> Option<Dtype> {
    [Dtype::F16, Dtype::BF16, Dtype::F32, Dtype::F64].into_iter().find(|&dtype| self::kind(dtype) == Some(kind))
}

/// The file's values in the kind and on the device of the variable.
pub(super) fn value(value: &TensorView, variable: &Tensor) -> Result<Tensor, TchError> {
    // `differences` has found a kind.
    let kind = kind(value.dtype()).unwrap_or(Kind::Float);
    Tensor::f_from_data_size(value.data(), &size(value), kind)?.f_to_kind(variable.f_kind()?)?.f_to_device(variable.device())
}

/// A tensor's values in row-major order, whatever its strides.
pub(super) fn bytes(tensor: &Tensor) -> Result<Vec<u8>, TchError> {
    let mut bytes = vec![0; tensor.numel() * tensor.f_kind()?.elt_size_in_bytes()];
    tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?.f_copy_data_u8(&mut bytes, tensor.numel())?;
    Ok(bytes)
}
