//! Random scores: the baseline for other criteria.

use tch::Tensor;

use super::{Candidate, Criterion};
use crate::Result;

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
        let mut random = fastrand::Rng::with_seed(fnv1a(self.seed, layer.path()));
        let scores: Vec<f64> = (0..layer.channels()).map(|_| random.f64()).collect();
        Tensor::f_from_slice(&scores).map(Some).map_err(layer.error())
    }
}

/// The Fowler–Noll–Vo hash, which stays the same in every release of Rust.
fn fnv1a(seed: u64, text: &str) -> u64 {
    text.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
