//! Measures the effect of slimming on data: whether the slimmed network computes what the masked
//! one does, how accurate it is at several ratios, how much each layer matters, and which ratios of
//! the layers keep it most accurate.

pub(crate) mod search;
pub(crate) mod sensitivity;
pub(crate) mod sweep;
pub(crate) mod verify;

use crate::error::CheckError;
use crate::plan::Plan;
use crate::select::{Fingerprint, PerGroup};
use crate::slimming::{CoupledLayers, Slimming};
use crate::surgery::{ModelState, temporarily};
use crate::{Error, Prunable, Result, analysis};
use sweep::Evaluation;

/// The value that `evaluate` returns for the model in this form under a plan. The model is restored
/// afterwards, also after an error or a panic.
fn evaluated<M: Prunable + ?Sized, E: Evaluation>(
    model: &mut M,
    plan: &Plan,
    form: ModelState,
    evaluate: impl FnOnce(&M) -> E,
) -> Result<f64, E::Error> {
    let graph = analysis::trace(model, plan.masking())?;
    temporarily(model, &graph, plan, form, evaluate)?.into_accuracy()
}

/// # Errors
/// [`CheckError::Benchmark`](crate::error::CheckError::Benchmark) for NaN and infinities, which
/// cannot be compared.
fn finite(value: f64) -> Result<f64> {
    if value.is_finite() {
        return Ok(value);
    }
    let reason = format!(
        "the measure returned {value}, which cannot be compared with other values; return a finite number, such as an accuracy, or a negative loss"
    );
    Err(Error::Check(CheckError::Benchmark { reason }))
}

/// Checks that measurements that are to be continued were made on this network.
///
/// # Errors
/// [`CheckError::Resume`](crate::error::CheckError::Resume).
fn check_same<'c>(
    per_group: &PerGroup,
    slimming: &Slimming,
    known: &Fingerprint,
    groups: impl Iterator<Item = &'c CoupledLayers>,
) -> Result<()> {
    let now = per_group.fingerprint();
    let difference = if *slimming != *per_group.slimming() {
        "they were made with another slimming"
    } else if now.network != known.network {
        "they were made on another network, whose layers or widths differ"
    } else if now.scores != known.scores {
        "the scores of the channels were others, so the weights have changed"
    } else if !groups.eq(per_group.groups()) {
        "their groups of layers are not those of this network"
    } else {
        return Ok(());
    };
    Err(Error::Check(CheckError::Resume { difference: difference.to_owned() }))
}

/// Checks values that come from a file.
fn check_finite(values: impl IntoIterator<Item = f64>) -> Result<(), String> {
    match values.into_iter().find(|value| !value.is_finite()) {
        Some(value) => Err(format!("{value} is no measured value")),
        None => Ok(()),
    }
}

/// Limit on the groups in a file.
const MOST_GROUPS: usize = 1 << 20;

/// Checks groups that come from a file.
fn check_groups<'g>(
    groups: impl ExactSizeIterator<Item = &'g CoupledLayers>,
) -> Result<(), String> {
    if groups.len() == 0 || groups.len() > MOST_GROUPS {
        return Err(format!(
            "no network has {} groups of layers that can be slimmed",
            groups.len()
        ));
    }
    for group in groups {
        if group.layers.is_empty() || group.removable == 0 {
            return Err(format!("the group `{}` has no channels", group.name()));
        }
    }
    Ok(())
}
