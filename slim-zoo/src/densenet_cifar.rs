//! DenseNet for 32×32 images, as in the reference implementation of Network Slimming: growth rate
//! 12, no bottlenecks, no compression.
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
//! The dense stream keeps its width. Each layer's [`ChannelSelect`] picks the channels that its
//! batch norm keeps, as in [`preresnet`](super::preresnet).

use std::borrow::Borrow;

use anyhow::{Result, bail};
use slim_runtime::nn::{AvgPool2d, BatchNorm, ChannelSelect, Conv2D, Linear, avg_pool2d, linear};
use slim_runtime::{Cfg, Prunable, Stage, forward};
use tch::{Tensor, nn};

use super::cifar::{Selections, Widths, batch_norm, conv};

/// Channels that a layer adds to the stream.
pub const GROWTH: i64 = 12;

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

/// Batch norm, ReLU, convolution. The output is appended to the stream.
#[derive(Debug, Prunable)]
struct DenseLayer {
    select: ChannelSelect,
    bn1: BatchNorm,
    conv1: Conv2D,
}

/// Batch norm, ReLU, convolution, and a pool that halves the size.
#[derive(Debug, Prunable)]
struct Transition {
    select: ChannelSelect,
    bn1: BatchNorm,
    conv1: Conv2D,
    pool: AvgPool2d,
}

/// The widths of the dense network, as the reference counts them: the number of channels that each
/// layer's selection picks, in the order of the data flow.
///
/// # Errors
/// A depth that is not 3n + 4.
pub fn cfg(depth: i64) -> Result<Cfg> {
    if depth < 7 || depth % 3 != 1 {
        bail!("a DenseNet of three blocks has a depth of 3n + 4, such as 40, not {depth}");
    }
    let layers = (depth - 4) / 3;
    let widths =
        (0..3).flat_map(|block| (0..=layers).map(move |i| (2 + block * layers + i) * GROWTH));
    Ok(widths.map(Stage::from).collect())
}

impl DenseNet {
    /// A network for images `[N, 3, 32, 32]`. Its depth in the paper is 40.
    ///
    /// # Errors
    /// A depth that is not 3n + 4.
    pub fn new<'a>(p: impl Borrow<nn::Path<'a>>, depth: i64, classes: i64) -> Result<Self> {
        let cfg = cfg(depth)?;
        Self::build(p.borrow(), depth, Widths::dense(&cfg), classes)
    }

    /// A slimmed network with the widths of `cfg`, which also gives the depth.
    ///
    /// # Errors
    /// A cfg that is not of such a network, or is wider than it; selections that do not fit the cfg
    /// or the network.
    pub fn narrow<'a>(
        p: impl Borrow<nn::Path<'a>>,
        cfg: &Cfg,
        selections: &Selections,
        classes: i64,
    ) -> Result<Self> {
        Self::build(p.borrow(), depth(cfg), Widths::narrow(cfg, selections), classes)
    }

    fn build(p: &nn::Path, depth: i64, mut widths: Widths, classes: i64) -> Result<Self> {
        let layers = (depth - 4) / 3;
        let streams = [2, 2 + layers, 2 + 2 * layers, 2 + 3 * layers].map(|times| times * GROWTH);
        let conv1 = conv(p / "conv1", 3, streams[0], 3, 1);
        let dense1 = dense_block(&(p / "dense1"), layers, streams[0], &mut widths)?;
        let trans1 = Transition::new(&(p / "trans1"), streams[1], &mut widths)?;
        let dense2 = dense_block(&(p / "dense2"), layers, streams[1], &mut widths)?;
        let trans2 = Transition::new(&(p / "trans2"), streams[2], &mut widths)?;
        let dense3 = dense_block(&(p / "dense3"), layers, streams[2], &mut widths)?;
        let (select, kept) = widths.select(p, streams[3])?;
        widths.end()?;
        let (bn, fc) =
            (batch_norm(p / "bn", kept), linear(p / "fc", kept, classes, Default::default()));
        Ok(DenseNet {
            conv1,
            dense1,
            trans1,
            dense2,
            trans2,
            dense3,
            select,
            bn,
            avgpool: avg_pool2d(8, 8),
            fc,
        })
    }
}

/// The depth of the network that has the widths `cfg`: one width for each layer, and one after each
/// of the three blocks. A number of widths that no depth has is rounded down.
pub fn depth(cfg: &Cfg) -> i64 {
    cfg.stages().len() as i64 / 3 * 3 + 1
}

fn dense_block(
    p: &nn::Path,
    layers: i64,
    inputs: i64,
    widths: &mut Widths,
) -> Result<Vec<DenseLayer>> {
    (0..layers).map(|i| DenseLayer::new(&(p / i), inputs + i * GROWTH, widths)).collect()
}

impl DenseLayer {
    fn new(p: &nn::Path, inputs: i64, widths: &mut Widths) -> Result<Self> {
        let (select, kept) = widths.select(p, inputs)?;
        Ok(DenseLayer {
            select,
            bn1: batch_norm(p / "bn1", kept),
            conv1: conv(p / "conv1", kept, GROWTH, 3, 1),
        })
    }
}

impl Transition {
    fn new(p: &nn::Path, width: i64, widths: &mut Widths) -> Result<Self> {
        let (select, kept) = widths.select(p, width)?;
        let (bn1, conv1) = (batch_norm(p / "bn1", kept), conv(p / "conv1", kept, width, 1, 1));
        Ok(Transition { select, bn1, conv1, pool: avg_pool2d(2, 2) })
    }
}

#[forward]
impl nn::ModuleT for DenseNet {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let dense = |stream: Tensor, block: &[DenseLayer]| {
            block.iter().fold(stream, |stream, layer| stream.apply_t(layer, train))
        };
        let stream = dense(xs.apply(&self.conv1), &self.dense1).apply_t(&self.trans1, train);
        let stream = dense(stream, &self.dense2).apply_t(&self.trans2, train);
        let stream = dense(stream, &self.dense3);
        let xs = stream.apply(&self.select).apply_t(&self.bn, train).relu_();
        xs.apply(&self.avgpool).flatten(1, -1).apply(&self.fc)
    }
}

#[forward]
impl nn::ModuleT for DenseLayer {
    fn forward_t(&self, stream: &Tensor, train: bool) -> Tensor {
        let xs = stream.apply(&self.select).apply_t(&self.bn1, train).relu_().apply(&self.conv1);
        Tensor::cat(&[stream, &xs], 1)
    }
}

#[forward]
impl nn::ModuleT for Transition {
    fn forward_t(&self, stream: &Tensor, train: bool) -> Tensor {
        stream
            .apply(&self.select)
            .apply_t(&self.bn1, train)
            .relu_()
            .apply(&self.conv1)
            .apply(&self.pool)
    }
}
