//! |γ| of the batch norms.

use tch::Tensor;

use super::{Candidate, Criterion, Masking};
use crate::Result;

/// |γ| of batch norms: Network Slimming (Liu et al., ICCV 2017). The default.
#[derive(Debug, Clone, Copy, Default)]
pub struct BatchNormScale;

impl Criterion for BatchNormScale {
    fn name(&self) -> String {
        "batch_norm_scale".to_owned()
    }

    fn scores(&self, layer: &Candidate<'_>) -> Result<Option<Tensor>> {
        layer.scale().map(|scale| scale.f_detach()?.f_abs()).transpose().map_err(layer.error())
    }

    fn masking(&self) -> Masking {
        Masking::BatchNorm
    }
}
