//! ShuffleNetV2 ([Ma et al., 2018](https://arxiv.org/abs/1807.11164)), with torchvision's parameter
//! names and function.
//!
//! [`Split`] and [`Shuffle`] store sizes and order. With `chunk` and `view` in the forward pass,
//! which cut by count, the halves of the stream would have to shrink alike, block after block,
//! until the channels of a stage were only a handful of channel groups.

use std::borrow::Borrow;

use slim_runtime::nn::{
    AdaptiveAvgPool2d, Linear, MaxPool2d, Shuffle, Split, adaptive_avg_pool2d, linear, max_pool2d,
    shuffle, split,
};
use slim_runtime::{Prunable, forward};
use tch::{Tensor, nn};

use super::mobile::{Activation, ConvNorm, Window, norm};

/// ShuffleNetV2: three stages, each of a block that halves the size and blocks that keep it.
#[derive(Debug, Prunable)]
#[prune(input = 3)]
pub struct ShuffleNetV2 {
    conv1: ConvNorm,
    maxpool: MaxPool2d,
    stage2: Vec<Block>,
    stage3: Vec<Block>,
    stage4: Vec<Block>,
    conv5: ConvNorm,
    avgpool: AdaptiveAvgPool2d,
    fc: Linear,
}

#[derive(Debug, Prunable)]
enum Block {
    Down(Down),
    Basic(Basic),
}

/// A block that halves the size. Both branches read all channels.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Down {
    branch1: Vec<ConvNorm>,
    #[prune(from = input)]
    branch2: Vec<ConvNorm>,
    #[prune(from = [branch1, branch2])]
    shuffle: Shuffle,
}

/// A block that keeps the size. One half of the channels bypasses the convolutions.
#[derive(Debug, Prunable)]
#[prune(sequential)]
struct Basic {
    split: Split,
    #[prune(from = split.1)]
    branch2: Vec<ConvNorm>,
    #[prune(from = [split.0, branch2])]
    shuffle: Shuffle,
}

impl ShuffleNetV2 {
    /// torchvision's `shufflenet_v2_x1_0`.
    pub fn x1_0<'a>(p: impl Borrow<nn::Path<'a>>, classes: i64) -> Self {
        Self::new(p.borrow(), [24, 116, 232, 464, 1024], classes)
    }

    fn new(p: &nn::Path, [stem, width2, width3, width4, last]: [i64; 5], classes: i64) -> Self {
        let window = Window::Full { kernel: 3, stride: 2 };
        ShuffleNetV2 {
            conv1: ConvNorm::new(&(p / "conv1"), 0, [3, stem], window, Activation::Relu, norm()),
            maxpool: MaxPool2d { padding: [1, 1], ..max_pool2d(3, 2) },
            stage2: stage(&(p / "stage2"), 4, stem, width2),
            stage3: stage(&(p / "stage3"), 8, width2, width3),
            stage4: stage(&(p / "stage4"), 4, width3, width4),
            conv5: ConvNorm::new(
                &(p / "conv5"),
                0,
                [width4, last],
                Window::Pointwise,
                Activation::Relu,
                norm(),
            ),
            avgpool: adaptive_avg_pool2d(1),
            fc: linear(p / "fc", last, classes, Default::default()),
        }
    }
}

fn stage(p: &nn::Path, blocks: usize, inputs: i64, width: i64) -> Vec<Block> {
    let block = |i| {
        if i == 0 {
            Block::Down(Down::new(&(p / i), inputs, width))
        } else {
            Block::Basic(Basic::new(&(p / i), width))
        }
    };
    (0..blocks).map(block).collect()
}

impl Down {
    fn new(p: &nn::Path, inputs: i64, width: i64) -> Self {
        Down {
            branch1: vec![
                depthwise(&(p / "branch1"), 0, inputs, 2),
                pointwise(&(p / "branch1"), 2, [inputs, width / 2]),
            ],
            branch2: branch2(&(p / "branch2"), inputs, width / 2, 2),
            shuffle: shuffle(width, 2),
        }
    }
}

impl Basic {
    fn new(p: &nn::Path, width: i64) -> Self {
        Basic {
            split: split([width / 2, width / 2]),
            branch2: branch2(&(p / "branch2"), width / 2, width / 2, 1),
            shuffle: shuffle(width, 2),
        }
    }
}

/// Names are positions in a sequence that counts activations too.
fn branch2(p: &nn::Path, inputs: i64, width: i64, stride: i64) -> Vec<ConvNorm> {
    vec![
        pointwise(p, 0, [inputs, width]),
        depthwise(p, 3, width, stride),
        pointwise(p, 5, [width, width]),
    ]
}

fn pointwise(p: &nn::Path, index: usize, channels: [i64; 2]) -> ConvNorm {
    ConvNorm::new(p, index, channels, Window::Pointwise, Activation::Relu, norm())
}

fn depthwise(p: &nn::Path, index: usize, width: i64, stride: i64) -> ConvNorm {
    ConvNorm::new(
        p,
        index,
        [width, width],
        Window::Depthwise { kernel: 3, stride },
        Activation::Identity,
        norm(),
    )
}

#[forward]
impl nn::ModuleT for ShuffleNetV2 {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply_t(&self.conv1, train).apply(&self.maxpool);
        let blocks = self.stage2.iter().chain(&self.stage3).chain(&self.stage4);
        let xs = blocks.fold(xs, |xs, block| xs.apply_t(block, train));
        xs.apply_t(&self.conv5, train).apply(&self.avgpool).flatten(1, -1).apply(&self.fc)
    }
}

#[forward]
impl nn::ModuleT for Block {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let branch = |xs: &Tensor, branch: &[ConvNorm]| {
            branch.iter().fold(xs.shallow_clone(), |xs, layer| xs.apply_t(layer, train))
        };
        let (left, right, shuffle) = match self {
            Block::Down(Down { branch1, branch2, shuffle }) => {
                (branch(xs, branch1), branch(xs, branch2), shuffle)
            }
            Block::Basic(Basic { split, branch2, shuffle }) => {
                let halves = split.forward(xs);
                (halves[0].shallow_clone(), branch(&halves[1], branch2), shuffle)
            }
        };
        Tensor::cat(&[left, right], 1).apply(shuffle)
    }
}
