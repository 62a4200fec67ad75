//! Pre-activation ResNet with bottleneck blocks for 32×32 images, as in the reference
//! implementation of Network Slimming.
//!
//! | stage | size | depth 9n + 2 |
//! | --- | --- | --- |
//! | `conv1` | 32×32 | 3×3, 16 |
//! | `layer1` | 32×32 | n × (1×1, 16; 3×3, 16; 1×1, 64) |
//! | `layer2` | 16×16 | n × (1×1, 32; 3×3, 32; 1×1, 128) |
//! | `layer3` | 8×8 | n × (1×1, 64; 3×3, 64; 1×1, 256) |
//! | `fc` | 1×1 | average pool, linear |
//!
//! The residual stream keeps its width. Before each batch norm that reads the stream, a
//! [`ChannelSelect`] picks the channels that this norm keeps. (The reference selects after the
//! norm, which then keeps its full width: the cfg and the function are the same, but the network
//! has more parameters.) So the cfg alone does not define a slimmed network: rebuild it by applying
//! its plan to a new network, or from its cfg and its selections.

use std::borrow::Borrow;

use anyhow::{Result, bail};
use slim_runtime::nn::{AvgPool2d, BatchNorm, ChannelSelect, Conv2D, Linear, avg_pool2d, linear};
use slim_runtime::{Cfg, Prunable, Stage, forward};
use tch::{Tensor, nn};

use super::cifar::{Selections, Widths, batch_norm, conv};

/// Output channels of a block per inner channel.
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

/// Batch norm, ReLU, convolution, three times. The output is added to the stream.
#[derive(Debug, Prunable)]
struct Bottleneck {
    select: ChannelSelect,
    bn1: BatchNorm,
    conv1: Conv2D,
    bn2: BatchNorm,
    conv2: Conv2D,
    bn3: BatchNorm,
    conv3: Conv2D,
    downsample: Option<Conv2D>,
}

/// The widths of the dense network, as the reference counts them: for each block, the number of
/// channels that its selection picks, and the widths of the two batch norms inside; then the last
/// width.
///
/// # Errors
/// A depth that is not 9n + 2.
pub fn cfg(depth: usize) -> Result<Cfg> {
    if depth < 11 || depth % 9 != 2 {
        bail!("a pre-activation ResNet has a depth of 9n + 2, such as 164, not {depth}");
    }
    let blocks = (depth - 2) / 9;
    let block = |(planes, inputs): (i64, i64), i| {
        [if i == 0 { inputs } else { planes * EXPANSION }, planes, planes]
    };
    let stages = [(16, 16), (32, 16 * EXPANSION), (64, 32 * EXPANSION)].into_iter();
    let widths = stages
        .flat_map(|stage| (0..blocks).flat_map(move |i| block(stage, i)))
        .chain([64 * EXPANSION]);
    Ok(widths.map(Stage::from).collect())
}

impl PreResNet {
    /// A network for images `[N, 3, 32, 32]`. Its depth in the paper is 164.
    ///
    /// # Errors
    /// A depth that is not 9n + 2.
    pub fn new<'a>(p: impl Borrow<nn::Path<'a>>, depth: usize, classes: i64) -> Result<Self> {
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

    fn build(p: &nn::Path, depth: usize, mut widths: Widths, classes: i64) -> Result<Self> {
        let (blocks, width) = ((depth - 2) / 9, 64 * EXPANSION);
        let conv1 = conv(p / "conv1", 3, 16, 3, 1);
        let layer1 = stage(&(p / "layer1"), blocks, 16, 16, 1, &mut widths)?;
        let layer2 = stage(&(p / "layer2"), blocks, 16 * EXPANSION, 32, 2, &mut widths)?;
        let layer3 = stage(&(p / "layer3"), blocks, 32 * EXPANSION, 64, 2, &mut widths)?;
        let (select, kept) = widths.select(p, width)?;
        widths.end()?;
        let (bn, fc) =
            (batch_norm(p / "bn", kept), linear(p / "fc", kept, classes, Default::default()));
        Ok(PreResNet { conv1, layer1, layer2, layer3, select, bn, avgpool: avg_pool2d(8, 8), fc })
    }
}

/// The depth of the network that has the widths `cfg`: three widths for each block, and one after
/// the last block. A number of widths that no depth has is rounded down.
pub fn depth(cfg: &Cfg) -> usize {
    cfg.stages().len().saturating_sub(1) / 9 * 9 + 2
}

/// A stage of blocks. The first block changes the width of the stream, and divides its size by
/// `stride`.
fn stage(
    p: &nn::Path,
    blocks: usize,
    inputs: i64,
    planes: i64,
    stride: i64,
    widths: &mut Widths,
) -> Result<Vec<Bottleneck>> {
    let block = |i| {
        let first = i == 0;
        Bottleneck::new(
            &(p / i),
            if first { inputs } else { planes * EXPANSION },
            planes,
            if first { stride } else { 1 },
            first,
            widths,
        )
    };
    (0..blocks).map(block).collect()
}

impl Bottleneck {
    fn new(
        p: &nn::Path,
        inputs: i64,
        planes: i64,
        stride: i64,
        downsample: bool,
        widths: &mut Widths,
    ) -> Result<Self> {
        let outputs = planes * EXPANSION;
        let (select, kept) = widths.select(p, inputs)?;
        let (first, second) = (widths.next(planes)?, widths.next(planes)?);
        Ok(Bottleneck {
            select,
            bn1: batch_norm(p / "bn1", kept),
            conv1: conv(p / "conv1", kept, first, 1, 1),
            bn2: batch_norm(p / "bn2", first),
            conv2: conv(p / "conv2", first, second, 3, stride),
            bn3: batch_norm(p / "bn3", second),
            conv3: conv(p / "conv3", second, outputs, 1, 1),
            downsample: downsample.then(|| conv(p / "downsample" / 0, inputs, outputs, 1, stride)),
        })
    }
}

#[forward]
impl nn::ModuleT for PreResNet {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let blocks = self.layer1.iter().chain(&self.layer2).chain(&self.layer3);
        let stream =
            blocks.fold(xs.apply(&self.conv1), |stream, block| stream.apply_t(block, train));
        let xs = stream.apply(&self.select).apply_t(&self.bn, train).relu_();
        xs.apply(&self.avgpool).flatten(1, -1).apply(&self.fc)
    }
}

#[forward]
impl nn::ModuleT for Bottleneck {
    fn forward_t(&self, stream: &Tensor, train: bool) -> Tensor {
        let xs = stream.apply(&self.select).apply_t(&self.bn1, train).relu_().apply(&self.conv1);
        let xs = xs.apply_t(&self.bn2, train).relu_().apply(&self.conv2);
        let mut xs = xs.apply_t(&self.bn3, train).relu_().apply(&self.conv3);
        xs.g_add_(&stream.apply_opt(&self.downsample))
    }
}
