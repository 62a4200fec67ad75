//! Reads the slimmed pre-activation ResNets and DenseNets of the reference as networks of the zoo.
//!
//! The reference's selections come after the batch norms, which keep the stream's full width. Their
//! `indexes` have a one for each picked channel. The zoo's selections come before the norms, which
//! have only the picked channels: the same function of the same weights.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use slim_runtime::KeepList;
use tch::{Kind, Tensor};

use super::names;
use slim_zoo::Selections;

/// The tensors of a batch norm.
const NORM: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

/// The picked channels of each selection in a file.
///
/// # Errors
/// Indexes that are not a list, or that pick no channel.
pub(super) fn selections(tensors: &BTreeMap<String, Tensor>) -> Result<Selections> {
    let named = tensors.iter().filter_map(|(name, tensor)| Some((names::selection(name)?, tensor)));
    named.map(|(path, tensor)| Ok((path.to_owned(), picked(path, tensor)?))).collect()
}

fn picked(path: &str, indexes: &Tensor) -> Result<KeepList> {
    ensure!(
        indexes.dim() == 1,
        "`{}` has shape {:?}, which is no list",
        self::indexes(path),
        indexes.size()
    );
    let ones: Vec<f64> = Vec::try_from(indexes.f_to_kind(Kind::Double)?)?;
    // As in the reference, every value that is not zero picks a channel.
    let kept: KeepList = ones
        .iter()
        .enumerate()
        .filter(|(_, one)| **one != 0.)
        .map(|(position, _)| position)
        .collect();
    if kept.is_empty() {
        bail!("`{path}` picks none of {} channels", ones.len());
    }
    Ok(kept)
}

/// The name of a selection's index tensor.
pub(super) fn indexes(path: &str) -> String {
    format!("{path}.indexes")
}

/// Whether a selection picks all channels of the stream.
pub(super) fn is_all(kept: &KeepList, indexes: &Tensor) -> bool {
    kept.len() == indexes.numel()
}

/// Cuts the batch norms to the picked channels. Tensors of other widths stay unchanged; loading
/// them reports that they do not fit.
///
/// # Errors
/// Errors of libtorch.
pub(super) fn gathered(
    mut tensors: BTreeMap<String, Tensor>,
    selections: &Selections,
) -> Result<BTreeMap<String, Tensor>> {
    for (path, kept) in selections {
        let norm = norm(path);
        let positions: Vec<_> = kept.iter().map(|position| position as i64).collect();
        for name in NORM.map(|tensor| format!("{norm}.{tensor}")) {
            if let Some(tensor) = tensors
                .get_mut(&name)
                .filter(|tensor| tensor.dim() == 1 && kept.last() < Some(tensor.numel()))
            {
                *tensor = tensor.f_index_select(0, &Tensor::from_slice(&positions))?;
            }
        }
    }
    Ok(tensors)
}

/// The batch norm that belongs to a selection: the last one of the network, or the first of a
/// block.
fn norm(selection: &str) -> String {
    match selection.strip_suffix(".select") {
        Some(block) => format!("{block}.bn1"),
        None => "bn".to_owned(),
    }
}

/// A carried tensor, updated to the channels that selections pick now. `picked` has these channels
/// by field path; without it, nothing was slimmed, and the tensor is unchanged.
///
/// # Errors
/// Errors of libtorch.
pub(super) fn indexes_now(
    name: &str,
    tensor: &Tensor,
    picked: Option<&BTreeMap<String, Vec<i64>>>,
) -> Result<Tensor> {
    let kept = names::selection(name)
        .zip(picked)
        .and_then(|(path, picked)| picked.get(&format!("{path}.kept")));
    match kept {
        Some(kept) => Ok(tensor.f_zeros_like()?.f_index_fill(
            0,
            &Tensor::from_slice(kept).f_to_device(tensor.device())?,
            1.,
        )?),
        None => Ok(tensor.shallow_clone()),
    }
}
