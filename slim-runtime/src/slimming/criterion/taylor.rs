//! How much the loss changes when a channel goes.

use tch::{Kind, Tensor};

use super::{Candidate, Criterion};
use crate::Result;

/// First-order Taylor expansion of the loss when a filter is removed: `(Σ weight · gradient)²`
/// (Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, equation 8).
///
/// It reads the gradients that `backward` left: call `backward` on a loss over a batch (or several
/// batches, whose gradients add up) before [`plan`](crate::Prunable::plan). A layer without
/// gradient has no scores.
#[derive(Debug, Clone, Copy, Default)]
pub struct Taylor;

impl Criterion for Taylor {
    fn name(&self) -> String {
        "taylor".to_owned()
    }

    fn scores(&self, layer: &Candidate<'_>) -> Result<Option<Tensor>> {
        let expansion = |changes: Tensor| {
            changes.f_sum_dim_intlist([1].as_slice(), false, Kind::Double)?.f_square()
        };
        layer.changes()?.map(expansion).transpose().map_err(layer.error())
    }

    fn requirement(&self) -> Option<&'static str> {
        Some("it reads gradients, so call `backward` on a loss before planning")
    }
}
