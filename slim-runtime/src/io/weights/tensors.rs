//! Converts the tensors of PyTorch's files to tensors of libtorch.

use std::collections::BTreeMap;

use pytorch_reader::DType;
use tch::{Kind, Tensor};

use super::archive::MOST_PER_BYTE;
use super::problem::{Problem, Result};

/// Reads the values of tensors. `length` is the size of the file in bytes.
///
/// # Errors
/// All tensors of types that libtorch does not have, and all tensors without values; a file whose
/// tensors claim far more bytes than it has.
pub(super) fn read(
    named: BTreeMap<String, pytorch_reader::Tensor>,
    length: u64,
) -> Result<BTreeMap<String, Tensor>> {
    let claimed =
        named.values().fold(0_u64, |sum, tensor| sum.saturating_add(tensor.byte_len() as u64));
    if claimed > length.saturating_mul(MOST_PER_BYTE) {
        let largest = named.iter().max_by_key(|(_, tensor)| tensor.byte_len());
        let largest = largest.map_or_else(String::new, |(name, tensor)| {
            format!(", `{name}` alone {}", tensor.byte_len())
        });
        return Err(format!(
            "its tensors would take {claimed} bytes{largest}, and the file has {length}: they are views of the same values"
        )
        .into());
    }
    let typed = named.into_iter().map(|(name, tensor)| {
        let typed = kind(tensor.dtype()).zip(shape(&tensor));
        typed
            .ok_or_else(|| {
                format!(
                    "`{name}` is of type {:?} and shape {:?}, which is not supported",
                    tensor.dtype(),
                    tensor.shape()
                )
            })
            .map(|(kind, shape)| (name, tensor, kind, shape))
    });
    let (typed, odd): (Vec<_>, Vec<_>) = typed.partition(std::result::Result::is_ok);
    let odd: Vec<_> = odd.into_iter().filter_map(std::result::Result::err).collect();
    if !odd.is_empty() {
        return Err(format!("it holds tensors that no network has:\n  {}", odd.join("\n  ")).into());
    }
    let value = |(name, tensor, kind, shape): (String, pytorch_reader::Tensor, Kind, Vec<i64>)| {
        // The reader's error names the tensor.
        let bytes = tensor.read().map_err(|error| error.to_string())?;
        match Tensor::f_from_data_size(&bytes, &shape, kind) {
            Ok(values) => Ok((name, values)),
            Err(cause) => Err(Problem::Torch(name, cause)),
        }
    };
    typed.into_iter().flatten().map(value).collect()
}

/// Shape of a tensor; `None` if it has no values.
fn shape(tensor: &pytorch_reader::Tensor) -> Option<Vec<i64>> {
    let shape = tensor.shape().iter().map(|&size| i64::try_from(size).ok());
    shape.collect::<Option<Vec<_>>>().filter(|shape| !shape.contains(&0))
}

fn kind(dtype: DType) -> Option<Kind> {
    Some(match dtype {
        DType::F64 => Kind::Double,
        DType::F32 => Kind::Float,
        DType::F16 => Kind::Half,
        DType::BF16 => Kind::BFloat16,
        DType::I64 => Kind::Int64,
        DType::I32 => Kind::Int,
        DType::I16 => Kind::Int16,
        DType::I8 => Kind::Int8,
        DType::U8 => Kind::Uint8,
        DType::Bool => Kind::Bool,
        DType::U64 | DType::U32 | DType::U16 => return None,
    })
}
