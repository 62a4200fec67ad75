//! Networks and comparisons for the tests of runners.
#![allow(dead_code, reason = "the test of memory needs less")]

use std::time::Duration;

use slim_runtime::Prunable;
use slim_serve::RunnerConfig;
use slim_tests::fill::fill;
use slim_tests::networks::Residual;
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Tensor};

/// Runners that measure no longer than they must.
pub(crate) fn config() -> RunnerConfig {
    RunnerConfig::new().patience(Duration::ZERO)
}

/// A slimmed network with a residual sum; 3 channels in, 5 numbers out.
pub(crate) fn network() -> Residual {
    let vs = VarStore::new(Device::Cpu);
    let mut net = Residual::new(vs.root());
    fill(&vs);
    net.slim(0.5).unwrap();
    net
}

pub(crate) fn forward<M: ModuleT>(net: &M, images: &Tensor) -> Tensor {
    net.forward_t(images, false)
}

/// Images that differ by `seed`.
pub(crate) fn images(shape: &[i64], seed: i64) -> Tensor {
    let count = shape.iter().product::<i64>();
    let values: Vec<f32> =
        (0..count).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.).collect();
    Tensor::from_slice(&values).view(shape)
}

/// The largest difference, as a share of the largest expected value.
pub(crate) fn off(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.size(), expected.size());
    let largest = |tensor: Tensor| tensor.abs().max().double_value(&[]);
    largest(found - expected) / largest(expected.shallow_clone())
}
