//! Training with channel sparsity.

use crate::analysis::Graph;
use crate::{Error, Result};

/// `γ.grad += s · sign(γ)` for every scale that has a gradient.
pub(crate) fn add_l1_subgradient(graph: &Graph, s: f64) -> Result<()> {
    if !s.is_finite() || s < 0.0 {
        return Err(Error::SparsityFactor(s));
    }
    let _no_grad = tch::no_grad_guard();
    let scales = || graph.scales().map(|(layer, scale)| (layer, &layer.tensors[scale.tensor]));
    let mut reached = false;
    for (layer, scale) in scales().filter(|(_, scale)| scale.tensor.requires_grad()) {
        let add = || {
            let mut grad = scale.tensor.f_grad()?;
            if grad.defined() {
                let _ = grad.f_add_(&scale.tensor.f_sign()?.f_mul_scalar_(s)?)?;
                return Ok(true);
            }
            Ok(false)
        };
        reached |= add().map_err(Error::torch(format!("{}.{}", layer.path, scale.name)))?;
    }
    match scales().next() {
        None => Err(Error::NothingToPrune {
            reason: "the data flow has no batch norm with a scale (γ) to make sparse".to_owned(),
        }),
        Some(_) if !reached && scales().any(|(_, scale)| scale.tensor.requires_grad()) => {
            Err(Error::NoGradient)
        }
        Some(_) => Ok(()),
    }
}
