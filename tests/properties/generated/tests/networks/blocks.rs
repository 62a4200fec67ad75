//! Layers and blocks of the generated networks.

use slim_runtime::{Prunable, forward, nn as own};
use tch::Tensor;
use tch::nn::{self, Module, ModuleT};

pub(crate) fn conv(
    p: &nn::Path,
    inputs: i64,
    outputs: i64,
    kernel: i64,
    groups: i64,
    bias: bool,
) -> nn::Conv2D {
    let config = nn::ConvConfig { padding: kernel / 2, groups, bias, ..Default::default() };
    nn::conv2d(p, inputs, outputs, kernel, config)
}

pub(crate) fn own_conv(
    p: &nn::Path,
    inputs: i64,
    outputs: i64,
    kernel: i64,
    groups: i64,
    bias: bool,
) -> own::Conv2D {
    let config = nn::ConvConfig { padding: kernel / 2, groups, bias, ..Default::default() };
    own::conv2d(p, inputs, outputs, kernel, config)
}

pub(crate) fn linear(p: &nn::Path, inputs: i64, outputs: i64) -> nn::Linear {
    nn::linear(p, inputs, outputs, Default::default())
}

pub(crate) fn own_linear(p: &nn::Path, inputs: i64, outputs: i64) -> own::Linear {
    own::linear(p, inputs, outputs, Default::default())
}

fn bn(p: nn::Path, width: i64) -> nn::BatchNorm {
    nn::batch_norm2d(p, width, Default::default())
}

/// A choice of an activation, which is not a layer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    Relu,
    Silu,
    Nothing,
}

#[forward]
pub(crate) fn act(xs: &Tensor) -> Tensor {
    xs.relu()
}

#[derive(Debug, Prunable)]
pub(crate) struct Residual {
    pub(crate) downsample: Option<(nn::Conv2D, nn::BatchNorm)>,
    pub(crate) bn2: nn::BatchNorm,
    pub(crate) conv2: nn::Conv2D,
    pub(crate) bn1: nn::BatchNorm,
    pub(crate) conv1: nn::Conv2D,
}

#[forward]
impl ModuleT for Residual {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let ys = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu();
        let ys = ys.apply(&self.conv2).apply_t(&self.bn2, train);
        let shortcut = match &self.downsample {
            Some((conv, bn)) => xs.apply(conv).apply_t(bn, train),
            None => xs.shallow_clone(),
        };
        (ys + shortcut).relu()
    }
}

pub(crate) fn residual(p: &nn::Path, inputs: i64, width: i64) -> Residual {
    Residual {
        downsample: (inputs != width)
            .then(|| (conv(&(p / "down"), inputs, width, 1, 1, false), bn(p / "down_bn", width))),
        bn2: bn(p / "bn2", width),
        conv2: conv(&(p / "conv2"), width, width, 3, 1, false),
        bn1: bn(p / "bn1", width),
        conv1: conv(&(p / "conv1"), inputs, width, 3, 1, false),
    }
}

/// A pre-activation block: batch norms and activations in front of convolutions, in place.
#[derive(Debug, Prunable)]
pub(crate) struct PreActivation {
    conv2: nn::Conv2D,
    bn1: nn::BatchNorm,
    bn2: nn::BatchNorm,
    conv1: own::Conv2D,
}

#[forward]
impl ModuleT for PreActivation {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let mut ys = xs.apply_t(&self.bn1, train);
        let _ = ys.relu_();
        let mut ys = ys.apply(&self.conv1).apply_t(&self.bn2, train);
        let ys = ys.relu_().apply(&self.conv2);
        ys + xs
    }
}

pub(crate) fn pre_activation(p: &nn::Path, width: i64) -> PreActivation {
    PreActivation {
        conv2: conv(&(p / "conv2"), 8, width, 3, 1, false),
        bn1: bn(p / "bn1", width),
        bn2: bn(p / "bn2", 8),
        conv1: own_conv(&(p / "conv1"), width, 8, 3, 1, false),
    }
}

#[derive(Debug, Prunable)]
pub(crate) struct Dense {
    conv: nn::Conv2D,
    bn: nn::BatchNorm,
}

#[forward]
impl ModuleT for Dense {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let ys = xs.apply_t(&self.bn, train).relu().apply(&self.conv);
        Tensor::cat(&[xs, &ys], 1)
    }
}

pub(crate) fn dense(p: &nn::Path, inputs: i64) -> Dense {
    Dense { conv: conv(&(p / "conv"), inputs, 4, 3, 1, false), bn: bn(p / "bn", inputs) }
}

/// An activation that changes its input.
#[derive(Debug, Prunable)]
pub(crate) struct InPlace;

#[forward]
impl Module for InPlace {
    fn forward(&self, xs: &Tensor) -> Tensor {
        let mut xs = xs.shallow_clone();
        let _ = xs.leaky_relu_();
        xs.sigmoid_()
    }
}

#[derive(Debug, Prunable)]
pub(crate) enum Stage {
    Residual(Residual),
    Twice([Residual; 2]),
    Nothing,
}

#[forward]
impl ModuleT for Stage {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        match self {
            Stage::Residual(block) => block.forward_t(xs, train),
            Stage::Twice([a, b]) => b.forward_t(&a.forward_t(xs, train), train),
            Stage::Nothing => xs.shallow_clone(),
        }
    }
}

/// A module that returns a view of its input.
#[derive(Debug, Prunable)]
pub(crate) struct Rows;

#[forward]
impl ModuleT for Rows {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.transpose(2, 3)
    }
}
