//! Shared parts of torchvision's networks: initialisation, and sequences of layers.

use slim_runtime::forward;
use slim_runtime::nn::{BatchNorm, batch_norm2d};
use tch::Tensor;
use tch::nn::init::{FanInOut, NonLinearity, NormalOrUniform};
use tch::nn::{BatchNormConfig, Init, LayerNorm, LayerNormConfig, LinearConfig, ModuleT, Path};

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

/// A layer norm with the ε of torchvision's transformers.
pub(super) fn layer_norm(p: Path, width: i64) -> LayerNorm {
    tch::nn::layer_norm(p, vec![width], LayerNormConfig { eps: 1e-6, ..Default::default() })
}

/// Applies layers one after the other.
#[forward]
pub(super) fn apply_all<M: ModuleT>(layers: &[M], xs: &Tensor, train: bool) -> Tensor {
    layers.iter().fold(xs.shallow_clone(), |xs, layer| xs.apply_t(layer, train))
}

/// Leaves out the share `dropped` of the samples in training, and scales the others by the inverse
/// of their share.
#[forward]
pub(super) fn stochastic_depth(xs: Tensor, dropped: f64, train: bool) -> Tensor {
    if !train || dropped == 0. {
        return xs;
    }
    let mut size = vec![1; xs.dim()];
    size[0] = xs.size()[0];
    let stays = Tensor::zeros(size, (xs.kind(), xs.device())).bernoulli_p(1. - dropped);
    xs * (stays / (1. - dropped))
}
