//! ResNet ([He et al., 2015](https://arxiv.org/abs/1512.03385)) and ResNeXt
//! ([Xie et al., 2016](https://arxiv.org/abs/1611.05431)) for ImageNet.
//!
//! Parameter names and function are torchvision's: the first 3×3 convolution of a stage has the
//! stage's stride ("v1.5").

use std::borrow::Borrow;

use slim_runtime::nn::{
    AdaptiveAvgPool2d, BatchNorm, Conv2D, Linear, MaxPool2d, adaptive_avg_pool2d, conv2d, linear,
    max_pool2d,
};
use slim_runtime::{Prunable, forward};
use tch::Tensor;
use tch::nn::init::FanInOut;
use tch::nn::{ConvConfig, ModuleT, Path};

use super::torchvision::{apply_all, kaiming_normal, linear_config, norm};

/// A stem, four stages of residual blocks, and a linear layer.
#[derive(Debug, Prunable)]
#[prune(input = 3)]
pub struct ResNet<B> {
    conv1: Conv2D,
    bn1: BatchNorm,
    maxpool: MaxPool2d,
    layer1: Vec<B>,
    layer2: Vec<B>,
    layer3: Vec<B>,
    layer4: Vec<B>,
    avgpool: AdaptiveAvgPool2d,
    fc: Linear,
}

/// Two 3×3 convolutions. The input is added to their output.
#[derive(Debug, Prunable)]
pub struct BasicBlock {
    conv1: Conv2D,
    bn1: BatchNorm,
    conv2: Conv2D,
    bn2: BatchNorm,
    downsample: Option<(Conv2D, BatchNorm)>,
}

/// A 3×3 convolution between two 1×1 convolutions. The input is added to their output. In ResNeXt,
/// the 3×3 convolution has many groups.
#[derive(Debug, Prunable)]
pub struct Bottleneck {
    conv1: Conv2D,
    bn1: BatchNorm,
    conv2: Conv2D,
    bn2: BatchNorm,
    conv3: Conv2D,
    bn3: BatchNorm,
    downsample: Option<(Conv2D, BatchNorm)>,
}

/// Parameters in which the networks of the family differ, besides the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Blocks of each stage.
    pub depths: [usize; 4],
    /// Width of the stem and the first stage; it doubles from stage to stage.
    pub width: i64,
    /// Groups of a bottleneck's 3×3 convolution, its cardinality.
    pub groups: i64,
    /// Channels of each group in a stage of width 64.
    pub group_width: i64,
}

/// A residual block.
pub trait Block: ModuleT + Prunable + Sized {
    /// Ratio of the width of a block's output to the width of its stage.
    const EXPANSION: i64;

    /// A block of a stage with the width `width`.
    fn new(p: &Path, inputs: i64, width: i64, stride: i64, config: &Config) -> Self;
}

/// ResNet-18.
pub fn resnet18<'a>(p: impl Borrow<Path<'a>>, classes: i64) -> ResNet<BasicBlock> {
    ResNet::new(p, &Config { depths: [2, 2, 2, 2], ..Config::default() }, classes)
}

/// ResNet-50.
pub fn resnet50<'a>(p: impl Borrow<Path<'a>>, classes: i64) -> ResNet<Bottleneck> {
    ResNet::new(p, &Config { depths: [3, 4, 6, 3], ..Config::default() }, classes)
}

/// ResNet-152.
pub fn resnet152<'a>(p: impl Borrow<Path<'a>>, classes: i64) -> ResNet<Bottleneck> {
    ResNet::new(p, &Config { depths: [3, 8, 36, 3], ..Config::default() }, classes)
}

/// ResNeXt-50, 32×4d.
pub fn resnext50_32x4d<'a>(p: impl Borrow<Path<'a>>, classes: i64) -> ResNet<Bottleneck> {
    ResNet::new(
        p,
        &Config { depths: [3, 4, 6, 3], groups: 32, group_width: 4, ..Config::default() },
        classes,
    )
}

impl Default for Config {
    /// One block in each stage, with the widths of ResNet.
    fn default() -> Self {
        Config { depths: [1, 1, 1, 1], width: 64, groups: 1, group_width: 64 }
    }
}

impl<B: Block> ResNet<B> {
    /// A network for images `[N, 3, H, W]`.
    pub fn new<'a>(p: impl Borrow<Path<'a>>, config: &Config, classes: i64) -> Self {
        let (p, width) = (p.borrow(), config.width);
        let mut channels = width;
        let mut stage = |index: usize, stride| {
            let (p, width) = (&(p / format!("layer{}", index + 1)), width << index);
            let block = |i| {
                B::new(
                    &(p / i),
                    std::mem::replace(&mut channels, width * B::EXPANSION),
                    width,
                    if i == 0 { stride } else { 1 },
                    config,
                )
            };
            (0..config.depths[index]).map(block).collect()
        };
        ResNet {
            conv1: conv(
                &(p / "conv1"),
                3,
                width,
                7,
                ConvConfig { stride: 2, ..Default::default() },
            ),
            bn1: norm(&(p / "bn1"), width),
            maxpool: MaxPool2d { padding: [1, 1], ..max_pool2d(3, 2) },
            layer1: stage(0, 1),
            layer2: stage(1, 2),
            layer3: stage(2, 2),
            layer4: stage(3, 2),
            avgpool: adaptive_avg_pool2d(1),
            fc: linear(p / "fc", channels, classes, linear_config(channels)),
        }
    }
}

impl Block for BasicBlock {
    const EXPANSION: i64 = 1;

    fn new(p: &Path, inputs: i64, width: i64, stride: i64, _: &Config) -> Self {
        BasicBlock {
            conv1: conv(
                &(p / "conv1"),
                inputs,
                width,
                3,
                ConvConfig { stride, ..Default::default() },
            ),
            bn1: norm(&(p / "bn1"), width),
            conv2: conv(&(p / "conv2"), width, width, 3, Default::default()),
            bn2: norm(&(p / "bn2"), width),
            downsample: downsample(&(p / "downsample"), inputs, width * Self::EXPANSION, stride),
        }
    }
}

impl Block for Bottleneck {
    const EXPANSION: i64 = 4;

    fn new(p: &Path, inputs: i64, width: i64, stride: i64, config: &Config) -> Self {
        let groups = config.groups;
        let (inner, outputs) = (width * config.group_width / 64 * groups, width * Self::EXPANSION);
        Bottleneck {
            conv1: conv(&(p / "conv1"), inputs, inner, 1, Default::default()),
            bn1: norm(&(p / "bn1"), inner),
            // Each group is a separate path through the block, so its channels are removed
            // together.
            conv2: conv(
                &(p / "conv2"),
                inner,
                inner,
                3,
                ConvConfig { stride, groups, ..Default::default() },
            )
            .whole_groups(),
            bn2: norm(&(p / "bn2"), inner),
            conv3: conv(&(p / "conv3"), inner, outputs, 1, Default::default()),
            bn3: norm(&(p / "bn3"), outputs),
            downsample: downsample(&(p / "downsample"), inputs, outputs, stride),
        }
    }
}

/// A convolution with padding: only its stride changes the size of the image.
fn conv(p: &Path, inputs: i64, outputs: i64, kernel: i64, config: ConvConfig) -> Conv2D {
    let ws_init = kaiming_normal(FanInOut::FanOut);
    conv2d(
        p,
        inputs,
        outputs,
        kernel,
        ConvConfig { padding: kernel / 2, bias: false, ws_init, ..config },
    )
}

/// Projects a block's input to the shape of its output; `None` if the shapes are equal.
fn downsample(p: &Path, inputs: i64, outputs: i64, stride: i64) -> Option<(Conv2D, BatchNorm)> {
    let fits = stride == 1 && inputs == outputs;
    (!fits).then(|| {
        (
            conv(&(p / 0), inputs, outputs, 1, ConvConfig { stride, ..Default::default() }),
            norm(&(p / 1), outputs),
        )
    })
}

#[forward]
impl<B: ModuleT> ModuleT for ResNet<B> {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu_().apply(&self.maxpool);
        let xs = [&self.layer1, &self.layer2, &self.layer3, &self.layer4]
            .into_iter()
            .fold(xs, |xs, stage| apply_all(stage, &xs, train));
        xs.apply(&self.avgpool).flatten(1, -1).apply(&self.fc)
    }
}

#[forward]
impl ModuleT for BasicBlock {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let out = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu_();
        let mut out = out.apply(&self.conv2).apply_t(&self.bn2, train);
        out.g_add_(&shortcut(self.downsample.as_ref(), xs, train)).relu_()
    }
}

#[forward]
impl ModuleT for Bottleneck {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let out = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu_();
        let out = out.apply(&self.conv2).apply_t(&self.bn2, train).relu_();
        let mut out = out.apply(&self.conv3).apply_t(&self.bn3, train);
        out.g_add_(&shortcut(self.downsample.as_ref(), xs, train)).relu_()
    }
}

#[forward]
fn shortcut(downsample: Option<&(Conv2D, BatchNorm)>, xs: &Tensor, train: bool) -> Tensor {
    match downsample {
        Some((conv, bn)) => xs.apply(conv).apply_t(bn, train),
        None => xs.shallow_clone(),
    }
}
