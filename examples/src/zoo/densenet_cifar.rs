//! DenseNet for 32×32 images, as in the reference implementation of Network Slimming: growth rate 12, no bottlenecks, no compression.
//!
//! | stage | size | depth 3n + 4 |
//! | --- | --- | --- |
//! | `conv1` | 32×32 | 3×3, 24 |
//! | `dense1` | 32×32 | n × (3×3, 12) |
//! | `trans1` | 16×16 | 1×1, average pool |
//! | `dense2` | 16×16 | n × (3×3, 12) |
//! | `trans2` | 8×8 | 1×1, average pool |
//! | `dense3` | 8×8 | n × (3×3, 12) |
//! | `fc` | 1×1 | average pool, linear |
//!
//! The dense stream keeps its width; each layer's [`ChannelSelect`] picks what its batch norm keeps, as in [`preresnet`](super::preresnet).

use std::borrow::Borrow;

use anyhow::{Result, bail};
use slim_runtime::Prunable;
use slim_runtime::nn::{AvgPool2d, BatchNorm, ChannelSelect, Conv2D, Linear, avg_pool2d, channel_select, linear};
use tch::{Tensor, nn};

use super::cifar::{batch_norm, conv};

/// Channels that a layer adds to the stream.
const GROWTH: i64 = 12;

/// DenseNet: three dense blocks with transitions between them, then one linear layer.
#[derive(Debug, Prunable)]
#[prune(input = 3)]
pub struct DenseNet {
    conv1: Conv2D,
    dense1: Vec<DenseLayer>,
    trans1: Transition,
    dense2: Vec<DenseLayer>,
    trans2: Transition,
    dense3: Vec<DenseLayer>,
    select: ChannelSelect,
    bn: BatchNorm,
    avgpool: AvgPool2d,
    fc: Linear,
}

/// Batch norm, ReLU, convolution; appended to the stream.
#[derive(Debug, Prunable)]
#[prune(output = [input, conv1])]
struct DenseLayer {
    select: ChannelSelect,
    bn1: BatchNorm,
    conv1: Conv2D,
}

/// Batch norm, ReLU, convolution, and half the size.
#[derive(Debug, Prunable)]
struct Transition {
    select: ChannelSelect,
    bn1: BatchNorm,
    conv1: Conv2D,
    pool: AvgPool2d,
}

impl DenseNet {
    /// A network for images `[N, 3, 32, 32]`; of depth 40 in the paper.
    ///
    /// # Errors
    /// A depth that is not 3n + 4.
    pub fn new<'a>(p: impl Borrow<nn::Path<'a>>, depth: i64, classes: i64) -> Result<Self> {
        let p = p.borrow();
        if depth < 7 || depth % 3 != 1 {
            bail!("a DenseNet of three blocks has a depth of 3n + 4, such as 40, not {depth}");
        }
        let layers = (depth - 4) / 3;
        let widths = [2, 2 + layers, 2 + 2 * layers, 2 + 3 * layers].map(|times| times * GROWTH);
        Ok(DenseNet {
            conv1: conv(p / "conv1", 3, widths[0], 3, 1),
            dense1: dense_block(&(p / "dense1"), layers, widths[0]),
            trans1: Transition::new(&(p / "trans1"), widths[1]),
            dense2: dense_block(&(p / "dense2"), layers, widths[1]),
            trans2: Transition::new(&(p / "trans2"), widths[2]),
            dense3: dense_block(&(p / "dense3"), layers, widths[2]),
            select: channel_select(widths[3]),
            bn: batch_norm(p / "bn", widths[3]),
            avgpool: avg_pool2d(8, 8),
            fc: linear(p / "fc", widths[3], classes, Default::default()),
        })
    }
}

fn dense_block(p: &nn::Path, layers: i64, inputs: i64) -> Vec<DenseLayer> {
    (0..layers).map(|i| DenseLayer::new(&(p / i), inputs + i * GROWTH)).collect()
}

impl DenseLayer {
    fn new(p: &nn::Path, inputs: i64) -> Self {
        DenseLayer { select: channel_select(inputs), bn1: batch_norm(p / "bn1", inputs), conv1: conv(p / "conv1", inputs, GROWTH, 3, 1) }
    }
}

impl Transition {
    fn new(p: &nn::Path, width: i64) -> Self {
        Transition {
            select: channel_select(width),
            bn1: batch_norm(p / "bn1", width),
            conv1: conv(p / "conv1", width, width, 1, 1),
            pool: avg_pool2d(2, 2),
        }
    }
}

impl nn::ModuleT for DenseNet {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let dense = |stream: Tensor, block: &[DenseLayer]| block.iter().fold(stream, |stream, layer| stream.apply_t(layer, train));
        let stream = dense(xs.apply(&self.conv1), &self.dense1).apply_t(&self.trans1, train);
        let stream = dense(stream, &self.dense2).apply_t(&self.trans2, train);
        let stream = dense(stream, &self.dense3);
        let xs = stream.apply(&self.select).apply_t(&self.bn, train).relu();
        xs.apply(&self.avgpool).flatten(1, -1).apply(&self.fc)
    }
}

impl nn::ModuleT for DenseLayer {
    fn forward_t(&self, stream: &Tensor, train: bool) -> Tensor {
        let xs = stream.apply(&self.select).apply_t(&self.bn1, train).relu().apply(&self.conv1);
        Tensor::cat(&[stream, &xs], 1)
    }
}

impl nn::ModuleT for Transition {
    fn forward_t(&self, stream: &Tensor, train: bool) -> Tensor {
        stream.apply(&self.select).apply_t(&self.bn1, train).relu().apply(&self.conv1).apply(&self.pool)
    }
}
