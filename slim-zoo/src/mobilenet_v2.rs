//! MobileNetV2 ([Sandler et al., 2018](https://arxiv.org/abs/1801.04381)), with torchvision's
//! parameter names and function.

use std::borrow::Borrow;

use slim_runtime::nn::{AdaptiveAvgPool2d, Linear, adaptive_avg_pool2d};
use slim_runtime::{Prunable, forward};
use tch::{Tensor, nn};

use super::mobile::{Activation, ConvNorm, Feature, InvertedResidual, Window, classifier, norm};

/// Stages of inverted residuals.
const STAGES: [Stage; 7] = [
    Stage { expansion: 1, channels: 16, blocks: 1, stride: 1 },
    Stage { expansion: 6, channels: 24, blocks: 2, stride: 2 },
    Stage { expansion: 6, channels: 32, blocks: 3, stride: 2 },
    Stage { expansion: 6, channels: 64, blocks: 4, stride: 2 },
    Stage { expansion: 6, channels: 96, blocks: 3, stride: 1 },
    Stage { expansion: 6, channels: 160, blocks: 3, stride: 2 },
    Stage { expansion: 6, channels: 320, blocks: 1, stride: 1 },
];

struct Stage {
    expansion: i64,
    channels: i64,
    blocks: i64,
    /// Stride of the first block. The others have a stride of 1.
    stride: i64,
}

/// MobileNetV2 of width 1.
#[derive(Debug, Prunable)]
#[prune(input = 3)]
pub struct MobileNetV2 {
    features: Vec<Feature>,
    avgpool: AdaptiveAvgPool2d,
    classifier: Linear,
}

impl MobileNetV2 {
    /// torchvision's `mobilenet_v2`.
    pub fn new<'a>(p: impl Borrow<nn::Path<'a>>, classes: i64) -> Self {
        let p = p.borrow();
        let at = |index: usize| p / "features" / index;
        let stem = Window::Full { kernel: 3, stride: 2 };
        let mut features =
            vec![Feature::Conv(ConvNorm::new(&at(0), 0, [3, 32], stem, Activation::Relu6, norm()))];
        let mut inputs = 32;
        for Stage { expansion, channels, blocks, stride } in STAGES {
            for stride in (0..blocks).map(|i| if i == 0 { stride } else { 1 }) {
                let block = inverted_residual(
                    &(at(features.len()) / "conv"),
                    inputs,
                    channels,
                    expansion,
                    stride,
                );
                features.push(Feature::new(block, stride == 1 && inputs == channels));
                inputs = channels;
            }
        }
        let last = ConvNorm::new(
            &at(features.len()),
            0,
            [inputs, 1280],
            Window::Pointwise,
            Activation::Relu6,
            norm(),
        );
        features.push(Feature::Conv(last));
        MobileNetV2 {
            features,
            avgpool: adaptive_avg_pool2d(1),
            classifier: classifier(p / "classifier" / 1, 1280, classes),
        }
    }
}

fn inverted_residual(
    p: &nn::Path,
    inputs: i64,
    outputs: i64,
    expansion: i64,
    stride: i64,
) -> InvertedResidual {
    let width = inputs * expansion;
    let conv = |p: nn::Path, channels, window| {
        ConvNorm::new(&p, 0, channels, window, Activation::Relu6, norm())
    };
    let expand = (expansion != 1).then(|| conv(p / 0, [inputs, width], Window::Pointwise));
    let next = usize::from(expand.is_some());
    InvertedResidual {
        expand,
        depthwise: conv(p / next, [width, width], Window::Depthwise { kernel: 3, stride }),
        squeeze_excitation: None,
        project: ConvNorm::new(
            p,
            next + 1,
            [width, outputs],
            Window::Pointwise,
            Activation::Identity,
            norm(),
        ),
    }
}

#[forward]
impl nn::ModuleT for MobileNetV2 {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs =
            self.features.iter().fold(xs.shallow_clone(), |xs, feature| xs.apply_t(feature, train));
        xs.apply(&self.avgpool).flatten(1, -1).dropout(0.2, train).apply(&self.classifier)
    }
}
