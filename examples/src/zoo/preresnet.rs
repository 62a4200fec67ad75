//! Pre-activation ResNet with bottleneck blocks for 32×32 images, as in the reference implementation of Network Slimming.
//!
//! | stage | size | depth 9n + 2 |
//! | --- | --- | --- |
//! | `conv1` | 32×32 | 3×3, 16 |
//! | `layer1` | 32×32 | n × (1×1, 16; 3×3, 16; 1×1, 64) |
//! | `layer2` | 16×16 | n × (1×1, 32; 3×3, 32; 1×1, 128) |
//! | `layer3` | 8×8 | n × (1×1, 64; 3×3, 64; 1×1, 256) |
//! | `fc` | 1×1 | average pool, linear |
//!
//! The residual stream keeps its width. In front of each batch norm that reads it, a [`ChannelSelect`] picks the channels that this norm keeps.
//! (The reference selects behind the norm, which then keeps its full width: the cfg and the function are the same, the parameters more.)
//! So a slimmed network is more than its cfg: build it again by applying its plan to a new one.

use std::borrow::Borrow;

use anyhow::{Result, bail};
use slim_runtime::Prunable;
use slim_runtime::nn::{AvgPool2d, BatchNorm, ChannelSelect, Conv2D, Linear, avg_pool2d, channel_select, linear};
use tch::{Tensor, nn};

use super::cifar::{batch_norm, conv};

/// Output channels of a block for each of its inner ones.
const EXPANSION: i64 = 4;

/// Pre-activation ResNet: three stages of bottleneck blocks, then one linear layer.
#[derive(Debug, Prunable)]
#[prune(input = 3)]
pub struct PreResNet {
    conv1: Conv2D,
    layer1: Vec<Bottleneck>,
    layer2: Vec<Bottleneck>,
    layer3: Vec<Bottleneck>,
    select: ChannelSelect,
    bn: BatchNorm,
    avgpool: AvgPool2d,
    fc: Linear,
}

/// Batch norm, ReLU, convolution; three times, and added to the stream.
#[derive(Debug, Prunable)]
#[prune(output = conv3 + downsample)]
struct Bottleneck {
    select: ChannelSelect,
    bn1: BatchNorm,
    conv1: Conv2D,
    bn2: BatchNorm,
    conv2: Conv2D,
    bn3: BatchNorm,
    conv3: Conv2D,
    #[prune(from = input)]
    downsample: Option<Conv2D>,
}

impl PreResNet {
    /// A network for images `[N, 3, 32, 32]`; of depth 164 in the paper.
    ///
    /// # Errors
    /// A depth that is not 9n + 2.
    pub fn new<'a>(p: impl Borrow<nn::Path<'a>>, depth: usize, classes: i64) -> Result<Self> {
        let p = p.borrow();
        if depth < 11 || depth % 9 != 2 {
            bail!("a pre-activation ResNet has a depth of 9n + 2, such as 164, not {depth}");
        }
        let blocks = (depth - 2) / 9;
        let width = 64 * EXPANSION;
        Ok(PreResNet {
            conv1: conv(p / "conv1", 3, 16, 3, 1),
            layer1: stage(&(p / "layer1"), blocks, 16, 16, 1),
            layer2: stage(&(p / "layer2"), blocks, 16 * EXPANSION, 32, 2),
            layer3: stage(&(p / "layer3"), blocks, 32 * EXPANSION, 64, 2),
            select: channel_select(width),
            bn: batch_norm(p / "bn", width),
            avgpool: avg_pool2d(8, 8),
            fc: linear(p / "fc", width, classes, Default::default()),
        })
    }
}

/// The first block changes the stream's width, and its size by `stride`.
fn stage(p: &nn::Path, blocks: usize, inputs: i64, planes: i64, stride: i64) -> Vec<Bottleneck> {
    let block = |i| {
        let first = i == 0;
        Bottleneck::new(&(p / i), if first { inputs } else { planes * EXPANSION }, planes, if first { stride } else { 1 }, first)
    };
    (0..blocks).map(block).collect()
}

impl Bottleneck {
    fn new(p: &nn::Path, inputs: i64, planes: i64, stride: i64, downsample: bool) -> Self {
        let outputs = planes * EXPANSION;
        Bottleneck {
            select: channel_select(inputs),
            bn1: batch_norm(p / "bn1", inputs),
            conv1: conv(p / "conv1", inputs, planes, 1, 1),
            bn2: batch_norm(p / "bn2", planes),
            conv2: conv(p / "conv2", planes, planes, 3, stride),
            bn3: batch_norm(p / "bn3", planes),
            conv3: conv(p / "conv3", planes, outputs, 1, 1),
            downsample: downsample.then(|| conv(p / "downsample" / 0, inputs, outputs, 1, stride)),
        }
    }
}

impl nn::ModuleT for PreResNet {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let blocks = self.layer1.iter().chain(&self.layer2).chain(&self.layer3);
        let stream = blocks.fold(xs.apply(&self.conv1), |stream, block| stream.apply_t(block, train));
        let xs = stream.apply(&self.select).apply_t(&self.bn, train).relu();
        xs.apply(&self.avgpool).flatten(1, -1).apply(&self.fc)
    }
}

impl nn::ModuleT for Bottleneck {
    fn forward_t(&self, stream: &Tensor, train: bool) -> Tensor {
        let xs = stream.apply(&self.select).apply_t(&self.bn1, train).relu().apply(&self.conv1);
        let xs = xs.apply_t(&self.bn2, train).relu().apply(&self.conv2);
        let xs = xs.apply_t(&self.bn3, train).relu().apply(&self.conv3);
        xs + stream.apply_opt(&self.downsample)
    }
}
