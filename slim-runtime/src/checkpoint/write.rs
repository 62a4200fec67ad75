//! The safetensors format, written one tensor at a time, so that no more than one is in memory twice.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::Path;

use safetensors::tensor::{Metadata, TensorInfo};
use tch::Tensor;

use super::tensors::{bytes, dtype};
use super::{format_error, sorted_variables};
use crate::{Error, Result, atomic};

/// Writes all variables of a store and `metadata`.
pub(super) fn write(path: &Path, vs: &tch::nn::VarStore, metadata: HashMap<String, String>) -> Result<()> {
    let tensors = in_order(path, sorted_variables(vs))?;
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

/// Wide elements first, as the format asks for, so that each tensor is aligned; then by name.
fn in_order(path: &Path, variables: BTreeMap<String, Tensor>) -> Result<Vec<(String, Tensor, safetensors::Dtype)>> {
    let typed = variables.into_iter().map(|(name, tensor)| {
        let kind = tensor.f_kind().map_err(Error::torch(&name))?;
        let Some(dtype) = dtype(kind) else {
            return Err(Error::Format { file: path.to_owned(), reason: format!("`{name}` is of kind {kind:?}; variables must be floats") });
        };
        Ok((name, tensor, dtype))
    });
    let mut tensors = typed.collect::<Result<Vec<_>>>()?;
    tensors.sort_by_key(|(_, _, dtype)| std::cmp::Reverse(dtype.bitsize()));
    Ok(tensors)
}

/// Padded to whole words of 8 bytes.
fn header(path: &Path, tensors: &[(String, Tensor, safetensors::Dtype)], metadata: HashMap<String, String>) -> Result<Vec<u8>> {
    let mut end = 0;
    let infos = tensors.iter().map(|(name, tensor, dtype)| {
        let start = end;
        end += tensor.numel() * dtype.bitsize() / 8;
        let shape = tensor.size().iter().map(|&size| size as usize).collect();
        (name.clone(), TensorInfo { dtype: *dtype, shape, data_offsets: (start, end) })
    });
    let infos = infos.collect();
    let metadata = Metadata::new(Some(metadata), infos).map_err(format_error(path))?;
    // By way of a `Value`, which sorts the keys: the same network gives the same bytes.
    let sorted = serde_json::to_value(&metadata).and_then(|header| serde_json::to_vec(&header));
    let mut header = sorted.map_err(|error| format_error(path)(error.into()))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}
