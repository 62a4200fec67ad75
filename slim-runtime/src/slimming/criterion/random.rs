//! Random scores: the baseline for other criteria.

use tch::Tensor;

use super::{Candidate, Criterion};
use crate::Result;
use crate::numeric::fnv1a;

/// Uniform random scores in `[0, 1)` for filters, the same for the same seed and the same field
/// paths. The baseline that any criterion has to beat.
#[derive(Debug, Clone, Copy, Default)]
pub struct Random {
    /// Seed of the random numbers.
    pub seed: u64,
}

impl Criterion for Random {
    fn name(&self) -> String {
        format!("random({})", self.seed)
    }

    fn scores(&self, layer: &Candidate<'_>) -> Result<Option<Tensor>> {
        if layer.scale().is_some() {
            return Ok(None);
        }
        // Seeded by path, so that a layer keeps its scores when other layers come or go.
        let mut random = fastrand::Rng::with_seed(fnv1a(self.seed, layer.path().as_bytes()));
        let scores: Vec<f64> = (0..layer.channels()).map(|_| random.f64()).collect();
        Tensor::f_from_slice(&scores).map(Some).map_err(layer.error())
    }
}
