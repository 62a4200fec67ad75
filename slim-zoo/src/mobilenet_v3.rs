//! MobileNetV3 ([Howard et al., 2019](https://arxiv.org/abs/1905.02244)), with torchvision's
//! parameter names and function.

use std::borrow::Borrow;

use slim_runtime::nn::{AdaptiveAvgPool2d, Linear, adaptive_avg_pool2d};
use slim_runtime::{Prunable, forward};
use tch::{Tensor, nn};

use super::mobile::{
    self, Activation, ConvNorm, Feature, Gate, InvertedResidual, SqueezeExcitation, Window,
    classifier,
};

const RE: Activation = Activation::Relu;
const HS: Activation = Activation::Hardswish;

/// The blocks of MobileNetV3-Large: kernel, expanded channels, output channels, squeeze and
/// excitation, activation, stride.
const LARGE: [(i64, i64, i64, bool, Activation, i64); 15] = [
    (3, 16, 16, false, RE, 1),
    (3, 64, 24, false, RE, 2),
    (3, 72, 24, false, RE, 1),
    (5, 72, 40, true, RE, 2),
    (5, 120, 40, true, RE, 1),
    (5, 120, 40, true, RE, 1),
    (3, 240, 80, false, HS, 2),
    (3, 200, 80, false, HS, 1),
    (3, 184, 80, false, HS, 1),
    (3, 184, 80, false, HS, 1),
    (3, 480, 112, true, HS, 1),
    (3, 672, 112, true, HS, 1),
    (5, 672, 160, true, HS, 2),
    (5, 960, 160, true, HS, 1),
    (5, 960, 160, true, HS, 1),
];

/// MobileNetV3 of width 1.
#[derive(Debug, Prunable)]
#[prune(input = 3)]
pub struct MobileNetV3 {
    features: Vec<Feature>,
    avgpool: AdaptiveAvgPool2d,
    hidden: Linear,
    classifier: Linear,
}

impl MobileNetV3 {
    /// torchvision's `mobilenet_v3_large`.
    pub fn large<'a>(p: impl Borrow<nn::Path<'a>>, classes: i64) -> Self {
        let p = p.borrow();
        let at = |index: usize| p / "features" / index;
        let stem = Window::Full { kernel: 3, stride: 2 };
        let mut features = vec![Feature::Conv(ConvNorm::new(&at(0), 0, [3, 16], stem, HS, norm()))];
        let mut inputs = 16;
        for (kernel, expanded, outputs, squeeze, activation, stride) in LARGE {
            let depthwise = Window::Depthwise { kernel, stride };
            let block = inverted_residual(
                &(at(features.len()) / "block"),
                [inputs, expanded, outputs],
                depthwise,
                squeeze,
                activation,
            );
            features.push(Feature::new(block, stride == 1 && inputs == outputs));
            inputs = outputs;
        }
        let width = 6 * inputs;
        features.push(Feature::Conv(ConvNorm::new(
            &at(features.len()),
            0,
            [inputs, width],
            Window::Pointwise,
            HS,
            norm(),
        )));
        MobileNetV3 {
            features,
            avgpool: adaptive_avg_pool2d(1),
            hidden: classifier(p / "classifier" / 0, width, 1280),
            classifier: classifier(p / "classifier" / 3, 1280, classes),
        }
    }
}

fn inverted_residual(
    p: &nn::Path,
    [inputs, expanded, outputs]: [i64; 3],
    depthwise: Window,
    squeeze: bool,
    activation: Activation,
) -> InvertedResidual {
    // The names are positions in a sequence from which parts may be missing.
    let mut parts = 0;
    let mut next = || {
        parts += 1;
        p / (parts - 1)
    };
    let expand = (expanded != inputs).then(|| {
        ConvNorm::new(&next(), 0, [inputs, expanded], Window::Pointwise, activation, norm())
    });
    InvertedResidual {
        expand,
        depthwise: ConvNorm::new(&next(), 0, [expanded, expanded], depthwise, activation, norm()),
        squeeze_excitation: squeeze.then(|| {
            SqueezeExcitation::new(&next(), expanded, squeezed(expanded), Gate::ReluHardsigmoid)
        }),
        project: ConvNorm::new(
            &next(),
            0,
            [expanded, outputs],
            Window::Pointwise,
            Activation::Identity,
            norm(),
        ),
    }
}

/// A quarter of the channels, rounded to the nearest multiple of 8, or up if the nearest is more
/// than a tenth below the quarter.
fn squeezed(expanded: i64) -> i64 {
    let quarter = expanded / 4;
    let rounded = ((quarter + 4) / 8 * 8).max(8);
    if rounded * 10 < quarter * 9 { rounded + 8 } else { rounded }
}

fn norm() -> nn::BatchNormConfig {
    nn::BatchNormConfig { eps: 0.001, momentum: 0.01, ..mobile::norm() }
}

#[forward]
impl nn::ModuleT for MobileNetV3 {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs =
            self.features.iter().fold(xs.shallow_clone(), |xs, feature| xs.apply_t(feature, train));
        let xs = xs.apply(&self.avgpool).flatten(1, -1).apply(&self.hidden).hardswish();
        xs.dropout(0.2, train).apply(&self.classifier)
    }
}
