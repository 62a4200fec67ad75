//! Shared parts of the mobile networks. Names, functions and initialisation are torchvision's.

use slim_runtime::nn::{
    AdaptiveAvgPool2d, BatchNorm, Conv2D, Linear, adaptive_avg_pool2d, batch_norm2d, conv2d, linear,
};
use slim_runtime::{Prunable, forward};
use tch::nn::init::FanInOut;
use tch::{Tensor, nn};

use super::torchvision::{kaiming_normal, stochastic_depth};

/// Convolution, batch norm, activation: torchvision's `Conv2dNormActivation`.
#[derive(Debug, Prunable)]
pub(super) struct ConvNorm {
    conv: Conv2D,
    norm: BatchNorm,
    activation: Activation,
}

/// Activations that map zero to zero.
#[derive(Debug, Clone, Copy)]
pub(super) enum Activation {
    Identity,
    Relu,
    Relu6,
    Hardswish,
    Silu,
}

/// The values that each output of a convolution reads.
#[derive(Debug, Clone, Copy)]
pub(super) enum Window {
    /// One position.
    Pointwise,
    /// `kernel`×`kernel` positions.
    Full { kernel: i64, stride: i64 },
    /// `kernel`×`kernel` positions of one channel.
    Depthwise { kernel: i64, stride: i64 },
    /// One position of every `stride` positions.
    Strided { stride: i64 },
    /// 3×3 positions of the channels in one group.
    Grouped { stride: i64, groups: i64 },
}

/// Expand (1×1), filter (depthwise), recalibrate, project (1×1, without an activation).
#[derive(Debug, Prunable)]
pub(super) struct InvertedResidual {
    pub(super) expand: Option<ConvNorm>,
    pub(super) depthwise: ConvNorm,
    pub(super) squeeze_excitation: Option<SqueezeExcitation>,
    pub(super) project: ConvNorm,
}

/// A block whose input is added to its output.
#[derive(Debug, Prunable)]
pub(super) struct Residual {
    block: InvertedResidual,
    /// The share of samples for which training leaves the block out: stochastic depth ([Huang et
    /// al., 2016](https://arxiv.org/abs/1603.09382)).
    dropped: f64,
}

/// An entry of torchvision's `features`.
#[derive(Debug, Prunable)]
pub(super) enum Feature {
    Conv(ConvNorm),
    Plain(InvertedResidual),
    Residual(Residual),
}

/// Scales each channel by a factor that is computed from the means of all channels.
#[derive(Debug, Prunable)]
pub(super) struct SqueezeExcitation {
    avgpool: AdaptiveAvgPool2d,
    fc1: Conv2D,
    fc2: Conv2D,
    gate: Gate,
}

/// The activations of a [`SqueezeExcitation`]: between its layers, and of its factors.
#[derive(Debug, Clone, Copy)]
pub(super) enum Gate {
    ReluHardsigmoid,
    ReluSigmoid,
    SiluSigmoid,
}

impl ConvNorm {
    /// Puts the convolution at `index` of `p`, and the norm at the next index.
    pub(super) fn new(
        p: &nn::Path,
        index: usize,
        [inputs, outputs]: [i64; 2],
        window: Window,
        activation: Activation,
        norm: nn::BatchNormConfig,
    ) -> Self {
        let (kernel, stride, groups) = match window {
            Window::Pointwise => (1, 1, 1),
            Window::Full { kernel, stride } => (kernel, stride, 1),
            Window::Depthwise { kernel, stride } => (kernel, stride, inputs),
            Window::Strided { stride } => (1, stride, 1),
            Window::Grouped { stride, groups } => (3, stride, groups),
        };
        let conv = nn::ConvConfig {
            stride,
            padding: kernel / 2,
            groups,
            bias: false,
            ws_init: kaiming_normal(FanInOut::FanOut),
            ..Default::default()
        };
        ConvNorm {
            conv: conv2d(p / index, inputs, outputs, kernel, conv),
            norm: batch_norm2d(p / (index + 1), outputs, norm),
            activation,
        }
    }
}

impl Feature {
    /// A residual block if `residual` is true. The block must then keep size and width.
    pub(super) fn new(block: InvertedResidual, residual: bool) -> Self {
        Self::dropping(block, residual, 0.)
    }

    /// The same, with stochastic depth in training.
    pub(super) fn dropping(block: InvertedResidual, residual: bool, dropped: f64) -> Self {
        if residual {
            Feature::Residual(Residual { block, dropped })
        } else {
            Feature::Plain(block)
        }
    }
}

impl SqueezeExcitation {
    pub(super) fn new(p: &nn::Path, channels: i64, squeezed: i64, gate: Gate) -> Self {
        let conv =
            nn::ConvConfig { ws_init: kaiming_normal(FanInOut::FanOut), ..Default::default() };
        SqueezeExcitation {
            avgpool: adaptive_avg_pool2d(1),
            fc1: conv2d(p / "fc1", channels, squeezed, 1, conv),
            fc2: conv2d(p / "fc2", squeezed, channels, 1, conv),
            gate,
        }
    }
}

/// Configuration of batch norms: γ starts at 1, β at 0.
pub(super) fn norm() -> nn::BatchNormConfig {
    nn::BatchNormConfig { ws_init: nn::Init::Const(1.), ..Default::default() }
}

/// A linear layer of a classifier.
pub(super) fn classifier(p: nn::Path, inputs: i64, outputs: i64) -> Linear {
    let ws_init = nn::Init::Randn { mean: 0., stdev: 0.01 };
    linear(
        p,
        inputs,
        outputs,
        nn::LinearConfig { ws_init, bs_init: Some(nn::Init::Const(0.)), ..Default::default() },
    )
}

#[forward]
impl Activation {
    /// In place, since nothing else reads the output of a batch norm.
    fn apply(self, mut xs: Tensor) -> Tensor {
        match self {
            Activation::Identity => xs,
            Activation::Relu => xs.relu_(),
            Activation::Relu6 => xs.relu6_(),
            Activation::Hardswish => xs.hardswish_(),
            Activation::Silu => xs.silu_(),
        }
    }
}

#[forward]
impl nn::ModuleT for ConvNorm {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        self.activation.apply(xs.apply(&self.conv).apply_t(&self.norm, train))
    }
}

#[forward]
impl nn::ModuleT for InvertedResidual {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply_opt_t(&self.expand, train).apply_t(&self.depthwise, train);
        xs.apply_opt(&self.squeeze_excitation).apply_t(&self.project, train)
    }
}

#[forward]
impl nn::ModuleT for Residual {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        stochastic_depth(xs.apply_t(&self.block, train), self.dropped, train).g_add_(xs)
    }
}

#[forward]
impl nn::ModuleT for Feature {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        match self {
            Feature::Conv(conv) => xs.apply_t(conv, train),
            Feature::Plain(block) => xs.apply_t(block, train),
            Feature::Residual(block) => xs.apply_t(block, train),
        }
    }
}

#[forward]
impl nn::Module for SqueezeExcitation {
    fn forward(&self, xs: &Tensor) -> Tensor {
        let squeezed = xs.apply(&self.avgpool).apply(&self.fc1);
        let squeezed = match self.gate {
            Gate::ReluHardsigmoid | Gate::ReluSigmoid => squeezed.relu(),
            Gate::SiluSigmoid => squeezed.silu(),
        };
        let factors = squeezed.apply(&self.fc2);
        match self.gate {
            Gate::ReluHardsigmoid => xs * factors.hardsigmoid(),
            Gate::ReluSigmoid | Gate::SiluSigmoid => xs * factors.sigmoid(),
        }
    }
}
