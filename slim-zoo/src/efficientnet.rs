//! EfficientNet ([Tan & Le, 2019](https://arxiv.org/abs/1905.11946)), with torchvision's parameter
//! names and function.

use std::borrow::Borrow;

use slim_runtime::nn::{AdaptiveAvgPool2d, Linear, adaptive_avg_pool2d, linear};
use slim_runtime::{Prunable, forward};
use tch::{Tensor, nn};

use super::mobile::{
    Activation, ConvNorm, Feature, Gate, InvertedResidual, SqueezeExcitation, Window, norm,
};
use super::torchvision::apply_all;

/// The stages of EfficientNet-B0: expansion, kernel, stride, output channels, blocks.
const B0: [(i64, i64, i64, i64, usize); 7] = [
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
];
/// The share of samples for which training leaves out a block: block `i` of `n` has `i/n` of this.
const DROPPED: f64 = 0.2;

/// EfficientNet of width and depth 1.
#[derive(Debug, Prunable)]
#[prune(input = 3)]
pub struct EfficientNet {
    stem: ConvNorm,
    stages: Vec<Vec<Feature>>,
    last: ConvNorm,
    avgpool: AdaptiveAvgPool2d,
    classifier: Linear,
}

impl EfficientNet {
    /// torchvision's `efficientnet_b0`, for images `[N, 3, H, W]`.
    pub fn b0<'a>(p: impl Borrow<nn::Path<'a>>, classes: i64) -> Self {
        let p = p.borrow();
        let features = &(p / "features");
        let conv = |index, widths, window| {
            ConvNorm::new(&(features / index), 0, widths, window, Activation::Silu, norm())
        };
        let blocks: usize = B0.iter().map(|(.., blocks)| blocks).sum();
        let (mut inputs, mut block) = (32, 0);
        let mut stages = Vec::new();
        for (index, (expansion, kernel, stride, outputs, depth)) in B0.into_iter().enumerate() {
            let p = &(features / (index + 1));
            let stage = (0..depth).map(|position| {
                let stride = if position == 0 { stride } else { 1 };
                let widths = [std::mem::replace(&mut inputs, outputs), outputs];
                let dropped = DROPPED * block as f64 / blocks as f64;
                block += 1;
                feature(
                    &(p / position / "block"),
                    widths,
                    expansion,
                    Window::Depthwise { kernel, stride },
                    dropped,
                )
            });
            stages.push(stage.collect());
        }
        let width = 4 * inputs;
        let bound = 1. / (classes as f64).sqrt();
        let config = nn::LinearConfig {
            ws_init: nn::Init::Uniform { lo: -bound, up: bound },
            bs_init: Some(nn::Init::Const(0.)),
            ..Default::default()
        };
        EfficientNet {
            stem: conv(0, [3, 32], Window::Full { kernel: 3, stride: 2 }),
            stages,
            last: conv(B0.len() + 1, [inputs, width], Window::Pointwise),
            avgpool: adaptive_avg_pool2d(1),
            classifier: linear(p / "classifier" / 1, width, classes, config),
        }
    }
}

/// A block; its input is added to its output if size and width stay.
fn feature(
    p: &nn::Path,
    [inputs, outputs]: [i64; 2],
    expansion: i64,
    depthwise: Window,
    dropped: f64,
) -> Feature {
    let expanded = expansion * inputs;
    // The names are positions in a sequence whose first part may be missing.
    let first = usize::from(expansion > 1);
    let conv = |index, widths, window, activation| {
        ConvNorm::new(&(p / index), 0, widths, window, activation, norm())
    };
    let block = InvertedResidual {
        expand: (expansion > 1)
            .then(|| conv(0, [inputs, expanded], Window::Pointwise, Activation::Silu)),
        depthwise: conv(first, [expanded, expanded], depthwise, Activation::Silu),
        squeeze_excitation: Some(SqueezeExcitation::new(
            &(p / (first + 1)),
            expanded,
            (inputs / 4).max(1),
            Gate::SiluSigmoid,
        )),
        project: conv(first + 2, [expanded, outputs], Window::Pointwise, Activation::Identity),
    };
    let is_residual = matches!(depthwise, Window::Depthwise { stride: 1, .. }) && inputs == outputs;
    Feature::dropping(block, is_residual, dropped)
}

#[forward]
impl nn::ModuleT for EfficientNet {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let mut xs = xs.apply_t(&self.stem, train);
        for stage in &self.stages {
            xs = apply_all(stage, &xs, train);
        }
        let xs = xs.apply_t(&self.last, train).apply(&self.avgpool).flatten(1, -1);
        xs.dropout(0.2, train).apply(&self.classifier)
    }
}
