//! How much the loss changes when single weights go.

use tch::{Kind, Tensor};

use super::{Candidate, Criterion};
use crate::Result;

/// Diagonal second-order expansion of the loss: `½ Σ weight² · gradient²` over the weights of a
/// filter. It is the saliency of Optimal Brain Damage (LeCun et al., NIPS 1989), `½ Σ h · weight²`,
/// with the diagonal of the empirical Fisher information, `gradient²`, for the second derivative
/// `h`.
///
/// It reads the gradients that `backward` left, as [`Taylor`](super::Taylor) does. Gradients of
/// several batches add up before they are squared here.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fisher;

impl Criterion for Fisher {
    fn name(&self) -> String {
        "fisher".to_owned()
    }

    fn scores(&self, layer: &Candidate<'_>) -> Result<Option<Tensor>> {
        let saliency = |changes: Tensor| {
            let squares = changes.f_square()?;
            squares.f_sum_dim_intlist([1].as_slice(), false, Kind::Double)?.f_mul_scalar(0.5)
        };
        layer.changes()?.map(saliency).transpose().map_err(layer.error())
    }

    fn requirement(&self) -> Option<&'static str> {
        Some("it reads gradients, so call `backward` on a loss before planning")
    }
}
