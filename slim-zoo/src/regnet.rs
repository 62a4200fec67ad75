//! RegNet ([Radosavovic et al., 2020](https://arxiv.org/abs/2003.13678)), with torchvision's
//! parameter names and function.

use std::borrow::Borrow;

use slim_runtime::nn::{AdaptiveAvgPool2d, Linear, adaptive_avg_pool2d};
use slim_runtime::{Prunable, forward};
use tch::{Tensor, nn};

use super::mobile::{Activation, ConvNorm, Gate, SqueezeExcitation, Window, classifier, norm};
use super::torchvision::apply_all;

/// The stages of RegNetY-400MF: blocks, width.
const Y_400MF: [(usize, i64); 4] = [(1, 48), (3, 104), (6, 208), (6, 440)];
/// Channels of each group of the 3×3 convolutions.
const GROUP_WIDTH: i64 = 8;
const STEM: i64 = 32;

/// RegNetY: residual bottlenecks with grouped convolutions, and squeeze and excitation.
#[derive(Debug, Prunable)]
#[prune(input = 3)]
pub struct RegNet {
    stem: ConvNorm,
    stages: Vec<Vec<Block>>,
    avgpool: AdaptiveAvgPool2d,
    fc: Linear,
}

/// 1×1, grouped 3×3, recalibration, 1×1. The input, or its projection, is added to their output.
#[derive(Debug, Prunable)]
struct Block {
    proj: Option<ConvNorm>,
    a: ConvNorm,
    b: ConvNorm,
    se: SqueezeExcitation,
    c: ConvNorm,
}

impl RegNet {
    /// torchvision's `regnet_y_400mf`, for images `[N, 3, H, W]`.
    pub fn y_400mf<'a>(p: impl Borrow<nn::Path<'a>>, classes: i64) -> Self {
        let p = p.borrow();
        let mut inputs = STEM;
        let mut stages = Vec::new();
        for (stage, (blocks, width)) in (1..).zip(Y_400MF) {
            let p = &(p / "trunk_output" / format!("block{stage}"));
            let block = |index| {
                let inputs = std::mem::replace(&mut inputs, width);
                let stride = if index == 0 { 2 } else { 1 };
                Block::new(&(p / format!("block{stage}-{index}")), [inputs, width], stride)
            };
            stages.push((0..blocks).map(block).collect());
        }
        let stem = Window::Full { kernel: 3, stride: 2 };
        RegNet {
            stem: ConvNorm::new(&(p / "stem"), 0, [3, STEM], stem, Activation::Relu, norm()),
            stages,
            avgpool: adaptive_avg_pool2d(1),
            fc: classifier(p / "fc", inputs, classes),
        }
    }
}

impl Block {
    fn new(p: &nn::Path, [inputs, width]: [i64; 2], stride: i64) -> Self {
        let conv = |p: nn::Path, inputs, window, activation| {
            ConvNorm::new(&p, 0, [inputs, width], window, activation, norm())
        };
        let f = &(p / "f");
        let grouped = Window::Grouped { stride, groups: width / GROUP_WIDTH };
        let projection = Window::Strided { stride };
        Block {
            proj: (inputs != width || stride != 1)
                .then(|| conv(p / "proj", inputs, projection, Activation::Identity)),
            a: conv(f / "a", inputs, Window::Pointwise, Activation::Relu),
            b: conv(f / "b", width, grouped, Activation::Relu),
            // A quarter of the block's inputs.
            se: SqueezeExcitation::new(&(f / "se"), width, inputs / 4, Gate::ReluSigmoid),
            c: conv(f / "c", width, Window::Pointwise, Activation::Identity),
        }
    }
}

#[forward]
impl nn::ModuleT for Block {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let ys = xs.apply_t(&self.a, train).apply_t(&self.b, train);
        let ys = ys.apply(&self.se).apply_t(&self.c, train);
        (xs.apply_opt_t(&self.proj, train) + ys).relu()
    }
}

#[forward]
impl nn::ModuleT for RegNet {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let mut xs = xs.apply_t(&self.stem, train);
        for stage in &self.stages {
            xs = apply_all(stage, &xs, train);
        }
        xs.apply(&self.avgpool).flatten(1, -1).apply(&self.fc)
    }
}
