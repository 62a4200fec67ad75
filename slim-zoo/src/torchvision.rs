//! Shared parts of torchvision's networks: initialisation, and sequences of layers.

use slim_runtime::forward;
use slim_runtime::nn::{BatchNorm, batch_norm2d};
use tch::Tensor;
use tch::nn::init::{FanInOut, NonLinearity, NormalOrUniform};
use tch::nn::{BatchNormConfig, Init, LinearConfig, ModuleT, Path};

/// Kaiming's normal initialisation of a layer before a ReLU.
pub(super) fn kaiming_normal(fan: FanInOut) -> Init {
    Init::Kaiming { dist: NormalOrUniform::Normal, fan, non_linearity: NonLinearity::ReLU }
}

/// PyTorch's default initialisation of a linear layer.
pub(super) fn linear_config(inputs: i64) -> LinearConfig {
    let bound = 1. / (inputs as f64).sqrt();
    LinearConfig { ws_init: Init::Uniform { lo: -bound, up: bound }, ..Default::default() }
}

/// A batch norm whose γ starts at one, so that the ranking is learned and not drawn.
pub(super) fn norm(p: &Path, width: i64) -> BatchNorm {
    batch_norm2d(p, width, BatchNormConfig { ws_init: Init::Const(1.), ..Default::default() })
}

/// Applies layers one after the other.
#[forward]
pub(super) fn apply_all<M: ModuleT>(layers: &[M], xs: &Tensor, train: bool) -> Tensor {
    layers.iter().fold(xs.shallow_clone(), |xs, layer| xs.apply_t(layer, train))
}
