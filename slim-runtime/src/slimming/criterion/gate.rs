//! How much the loss changes when the output of a batch norm goes.

use tch::{Kind, Tensor};

use super::{Candidate, Criterion, Masking};
use crate::Result;

/// First-order Taylor expansion of the loss at a gate behind each batch norm:
/// `(γ · ∂L/∂γ + β · ∂L/∂β)²` (Molchanov et al., "Importance Estimation for Neural Network
/// Pruning", CVPR 2019, section 3.2).
///
/// A gate multiplies the output of its channel, `z · (γ x + β)`, so that this is its squared
/// derivative at `z = 1`. It reads the gradients that `backward` left, as
/// [`Taylor`](super::Taylor) does for filters.
#[derive(Debug, Clone, Copy, Default)]
pub struct GateTaylor;

impl Criterion for GateTaylor {
    fn name(&self) -> String {
        "gate_taylor".to_owned()
    }

    fn scores(&self, layer: &Candidate<'_>) -> Result<Option<Tensor>> {
        let (Some(scale), Some(gradient)) = (layer.scale(), layer.gradient()?) else {
            return Ok(None);
        };
        let shift = layer.tensor("bias");
        let derivative = || {
            let product = |values: &Tensor, gradient: &Tensor| {
                values
                    .f_detach()?
                    .f_to_kind(Kind::Double)?
                    .f_mul(&gradient.f_to_kind(Kind::Double)?)
            };
            let mut sum = product(scale, &gradient)?;
            if let Some(shift) = shift {
                let gradient = shift.f_grad()?;
                if gradient.defined() {
                    sum = sum.f_add(&product(shift, &gradient)?)?;
                }
            }
            sum.f_square()
        };
        derivative().map(Some).map_err(layer.error())
    }

    fn requirement(&self) -> Option<&'static str> {
        Some("it reads gradients of batch norms, so call `backward` on a loss before planning")
    }

    fn masking(&self) -> Masking {
        Masking::BatchNorm
    }
}
