//! The sparsity penalty on γ during training.

use crate::error::{ArgumentError, SelectionError};
use crate::graph::parts::Scale;
use crate::{Error, Result};

/// Adds the subgradient of the L1 penalty: `γ.grad += s · sign(γ)` for every scale that has a
/// gradient.
pub(crate) fn add_l1_subgradient(scales: &[Scale], s: f64) -> Result<()> {
    if !s.is_finite() || s < 0.0 {
        return Err(Error::Argument(ArgumentError::SparsityFactor(s)));
    }
    let _no_grad = tch::no_grad_guard();
    let mut reached = false;
    for scale in scales.iter().filter(|scale| scale.tensor.requires_grad()) {
        let add = || {
            let mut grad = scale.tensor.f_grad()?;
            if grad.defined() {
                let _ = grad.f_add_(&scale.tensor.f_sign()?.f_mul_scalar_(s)?)?;
                return Ok(true);
            }
            Ok(false)
        };
        reached |= add().map_err(Error::torch(format!("{}.{}", scale.path, scale.name)))?;
    }
    if scales.is_empty() {
        let reason = "the model has no batch norm with a scale (γ) to make sparse".to_owned();
        return Err(Error::Selection(SelectionError::NothingToPrune { reason }));
    }
    if !reached && scales.iter().any(|scale| scale.tensor.requires_grad()) {
        return Err(Error::Selection(SelectionError::NoGradient));
    }
    Ok(())
}
