//! ConvNeXt ([Liu et al., 2022](https://arxiv.org/abs/2201.03545)), with torchvision's parameter
//! names and function. Its channels are ranked by weights: slimming removes the features between
//! the linear layers of a block, and keeps the stream, which layer norms mix.

use std::borrow::Borrow;

use slim_runtime::nn::{Conv2D, Linear, conv2d, linear};
use slim_runtime::{Prunable, forward};
use tch::{Tensor, nn};

use super::torchvision::{layer_norm, stochastic_depth};

/// The stages of ConvNeXt-Tiny: blocks, width.
const TINY: [(usize, i64); 4] = [(3, 96), (3, 192), (9, 384), (3, 768)];
/// The share of samples for which training leaves out the last block. It grows linearly with the
/// depth.
const DROPPED: f64 = 0.1;

/// Stages of blocks over a stream, each behind a convolution that makes the images smaller.
#[derive(Debug, Prunable)]
#[prune(input = 3)]
pub struct ConvNeXt {
    stem: (Conv2D, nn::LayerNorm),
    stages: Vec<Stage>,
    norm: nn::LayerNorm,
    classifier: Linear,
}

#[derive(Debug, Prunable)]
struct Stage {
    downsample: Option<(nn::LayerNorm, Conv2D)>,
    blocks: Vec<Block>,
}

/// A depthwise convolution, and two linear layers over channels. The input is added to their
/// output, which `layer_scale` scales.
#[derive(Debug, Prunable)]
struct Block {
    depthwise: Conv2D,
    norm: nn::LayerNorm,
    expand: Linear,
    project: Linear,
    layer_scale: Tensor,
    /// The share of samples for which training leaves the block out.
    dropped: f64,
}

impl ConvNeXt {
    /// torchvision's `convnext_tiny`, for images `[N, 3, H, W]`.
    pub fn tiny<'a>(p: impl Borrow<nn::Path<'a>>, classes: i64) -> Self {
        Self::new(p, &TINY, classes)
    }

    /// A network of these stages: blocks, width.
    pub fn new<'a>(p: impl Borrow<nn::Path<'a>>, stages: &[(usize, i64)], classes: i64) -> Self {
        let p = p.borrow();
        let features = &(p / "features");
        let all: usize = stages.iter().map(|(blocks, _)| blocks).sum();
        let (first, last) =
            (stages.first().map_or(0, |at| at.1), stages.last().map_or(0, |at| at.1));
        let (mut inputs, mut block, mut index) = (first, 0, 1);
        let stage = |&(blocks, width): &(usize, i64)| {
            let downsample = (inputs != width).then(|| {
                let p = &(features / index);
                index += 1;
                let config = nn::ConvConfig { stride: 2, ..config() };
                (layer_norm(p / 0, inputs), conv2d(p / 1, inputs, width, 2, config))
            });
            inputs = width;
            let p = &(features / index);
            index += 1;
            let blocks = (0..blocks).map(|position| {
                let dropped = DROPPED * block as f64 / (all as f64 - 1.).max(1.);
                block += 1;
                Block::new(&(p / position), width, dropped)
            });
            Stage { downsample, blocks: blocks.collect() }
        };
        let stages = stages.iter().map(stage).collect();
        let patches = nn::ConvConfig { stride: 4, ..config() };
        ConvNeXt {
            stem: (
                conv2d(features / 0 / 0, 3, first, 4, patches),
                layer_norm(features / 0 / 1, first),
            ),
            stages,
            norm: layer_norm(p / "classifier" / 0, last),
            classifier: linear(p / "classifier" / 2, last, classes, linear_config()),
        }
    }
}

impl Block {
    fn new(p: &nn::Path, width: i64, dropped: f64) -> Self {
        let block = &(p / "block");
        let depthwise = nn::ConvConfig { padding: 3, groups: width, ..config() };
        Block {
            depthwise: conv2d(block / 0, width, width, 7, depthwise),
            norm: layer_norm(block / 2, width),
            expand: linear(block / 3, width, 4 * width, linear_config()),
            project: linear(block / 5, 4 * width, width, linear_config()),
            layer_scale: p.var("layer_scale", &[width, 1, 1], nn::Init::Const(1e-6)),
            dropped,
        }
    }
}

fn config() -> nn::ConvConfig {
    let ws_init = nn::Init::Randn { mean: 0., stdev: 0.02 };
    nn::ConvConfig { ws_init, bs_init: nn::Init::Const(0.), ..Default::default() }
}

fn linear_config() -> nn::LinearConfig {
    let ws_init = nn::Init::Randn { mean: 0., stdev: 0.02 };
    nn::LinearConfig { ws_init, bs_init: Some(nn::Init::Const(0.)), ..Default::default() }
}

/// Layer norm over the channels of images.
#[forward]
fn norm_channels(xs: &Tensor, norm: &nn::LayerNorm) -> Tensor {
    xs.permute([0, 2, 3, 1]).apply(norm).permute([0, 3, 1, 2])
}

#[forward]
impl nn::ModuleT for Block {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let ys = xs.apply(&self.depthwise).permute([0, 2, 3, 1]).apply(&self.norm);
        let ys = ys.apply(&self.expand).gelu("none").apply(&self.project);
        let ys = &self.layer_scale * ys.permute([0, 3, 1, 2]);
        stochastic_depth(ys, self.dropped, train) + xs
    }
}

#[forward]
impl nn::ModuleT for Stage {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let mut xs = xs.shallow_clone();
        if let Some((norm, conv)) = &self.downsample {
            xs = norm_channels(&xs, norm).apply(conv);
        }
        for block in &self.blocks {
            xs = xs.apply_t(block, train);
        }
        xs
    }
}

#[forward]
impl nn::ModuleT for ConvNeXt {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let mut xs = norm_channels(&xs.apply(&self.stem.0), &self.stem.1);
        for stage in &self.stages {
            xs = xs.apply_t(stage, train);
        }
        let xs = norm_channels(&xs.adaptive_avg_pool2d([1, 1]), &self.norm);
        xs.flatten(1, -1).apply(&self.classifier)
    }
}
