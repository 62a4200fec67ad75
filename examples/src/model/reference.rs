//! What the reference's slimmed pre-activation ResNets and DenseNets are, said in our terms.
//!
//! Its selections come behind the batch norms, which keep the stream's full width, and their
//! `indexes` have a one for each channel that is picked. Ours come in front, and the norms have the
//! picked channels alone: the same function of the same weights.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use slim_runtime::KeepList;
use tch::{Kind, Tensor};

use super::names;
use crate::zoo::Selections;

/// The tensors of a batch norm.
const NORM: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

/// What each selection of a file picks.
///
/// # Errors
/// Indexes that are none.
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
    // The reference asks for what is not zero.
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

/// The name of the tensor of a selection.
pub(super) fn indexes(path: &str) -> String {
    format!("{path}.indexes")
}

/// Whether a selection picks all of the stream.
pub(super) fn is_all(kept: &KeepList, indexes: &Tensor) -> bool {
    kept.len() == indexes.numel()
}

/// The tensors with norms that have the picked channels alone. Those of other widths stay as they
/// are, and will be found not to fit.
///
/// # Errors
/// Those of libtorch.
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

/// The batch norm that goes with a selection: the last one of the network, or the first of a block.
fn norm(selection: &str) -> String {
    match selection.strip_suffix(".select") {
        Some(block) => format!("{block}.bn1"),
        None => "bn".to_owned(),
    }
}

/// A tensor that is carried, as it is now that selections pick other channels, by field path; all
/// as before where nothing was slimmed.
///
/// # Errors
/// Those of libtorch.
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
