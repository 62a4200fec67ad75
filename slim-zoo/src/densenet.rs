//! DenseNet-BC for ImageNet ([Huang et al., 2016](https://arxiv.org/abs/1608.06993)).
//!
//! Parameter names and function are torchvision's.

use std::borrow::Borrow;

use slim_runtime::nn::{
    AvgPool2d, BatchNorm, Conv2D, Linear, MaxPool2d, avg_pool2d, conv2d, linear, max_pool2d,
};
use slim_runtime::{Prunable, forward};
use tch::Tensor;
use tch::nn::init::FanInOut;
use tch::nn::{ConvConfig, Init, LinearConfig, ModuleT, Path};

use super::torchvision::{apply_all, kaiming_normal, linear_config, norm};

/// Dense blocks with transitions between them, and a linear layer.
#[derive(Debug, Prunable)]
#[prune(input = 3)]
pub struct DenseNet {
    features: Features,
    classifier: Linear,
}

#[derive(Debug, Prunable)]
struct Features {
    conv0: Conv2D,
    norm0: BatchNorm,
    pool0: MaxPool2d,
    denseblock1: Vec<DenseLayer>,
    transition1: Transition,
    denseblock2: Vec<DenseLayer>,
    transition2: Transition,
    denseblock3: Vec<DenseLayer>,
    transition3: Transition,
    denseblock4: Vec<DenseLayer>,
    norm5: BatchNorm,
}

/// Appends channels to its input. Every later layer reads them through its own batch norm, so a
/// channel is removed if none of these batch norms needs it.
#[derive(Debug, Prunable)]
struct DenseLayer {
    norm1: BatchNorm,
    conv1: Conv2D,
    norm2: BatchNorm,
    conv2: Conv2D,
}

/// Halves the channels and the sides of the image.
#[derive(Debug, Prunable)]
struct Transition {
    norm: BatchNorm,
    conv: Conv2D,
    pool: AvgPool2d,
}

/// Parameters in which the networks of the family differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Layers of each dense block.
    pub depths: [usize; 4],
    /// Channels that a layer appends.
    pub growth: i64,
    /// Channels of the stem.
    pub stem: i64,
}

/// DenseNet-121.
pub fn densenet121<'a>(p: impl Borrow<Path<'a>>, classes: i64) -> DenseNet {
    DenseNet::new(p, &Config { depths: [6, 12, 24, 16], growth: 32, stem: 64 }, classes)
}

impl DenseNet {
    /// A network for images `[N, 3, H, W]`.
    pub fn new<'a>(p: impl Borrow<Path<'a>>, config: &Config, classes: i64) -> Self {
        let p = p.borrow();
        let (features, channels) = Features::new(&(p / "features"), config);
        let init = LinearConfig { bs_init: Some(Init::Const(0.)), ..linear_config(channels) };
        DenseNet { features, classifier: linear(p / "classifier", channels, classes, init) }
    }
}

impl Features {
    /// Also returns the number of channels at the end.
    fn new(p: &Path, config: &Config) -> (Self, i64) {
        let (stem, depths, growth) = (config.stem, config.depths, config.growth);
        let mut channels = stem;
        let features = Features {
            conv0: conv(&(p / "conv0"), 3, stem, 7, 2),
            norm0: norm(&(p / "norm0"), stem),
            pool0: MaxPool2d { padding: [1, 1], ..max_pool2d(3, 2) },
            denseblock1: dense_block(&(p / "denseblock1"), &mut channels, depths[0], growth),
            transition1: Transition::new(&(p / "transition1"), &mut channels),
            denseblock2: dense_block(&(p / "denseblock2"), &mut channels, depths[1], growth),
            transition2: Transition::new(&(p / "transition2"), &mut channels),
            denseblock3: dense_block(&(p / "denseblock3"), &mut channels, depths[2], growth),
            transition3: Transition::new(&(p / "transition3"), &mut channels),
            denseblock4: dense_block(&(p / "denseblock4"), &mut channels, depths[3], growth),
            norm5: norm(&(p / "norm5"), channels),
        };
        (features, channels)
    }
}

/// Layers that each add `growth` to `channels`.
fn dense_block(p: &Path, channels: &mut i64, depth: usize, growth: i64) -> Vec<DenseLayer> {
    let mut layer = |i| {
        let inputs = *channels;
        *channels += growth;
        DenseLayer::new(&(p / format!("denselayer{}", i + 1)), inputs, growth)
    };
    (0..depth).map(&mut layer).collect()
}

impl DenseLayer {
    fn new(p: &Path, inputs: i64, growth: i64) -> Self {
        DenseLayer {
            norm1: norm(&(p / "norm1"), inputs),
            conv1: conv(&(p / "conv1"), inputs, 4 * growth, 1, 1),
            norm2: norm(&(p / "norm2"), 4 * growth),
            conv2: conv(&(p / "conv2"), 4 * growth, growth, 3, 1),
        }
    }
}

impl Transition {
    /// Halves `channels`.
    fn new(p: &Path, channels: &mut i64) -> Self {
        let inputs = *channels;
        *channels /= 2;
        Transition {
            norm: norm(&(p / "norm"), inputs),
            conv: conv(&(p / "conv"), inputs, *channels, 1, 1),
            pool: avg_pool2d(2, 2),
        }
    }
}

/// A convolution with padding: only its stride changes the size of the image.
fn conv(p: &Path, inputs: i64, outputs: i64, kernel: i64, stride: i64) -> Conv2D {
    let ws_init = kaiming_normal(FanInOut::FanIn);
    conv2d(
        p,
        inputs,
        outputs,
        kernel,
        ConvConfig { stride, padding: kernel / 2, bias: false, ws_init, ..Default::default() },
    )
}

#[forward]
impl ModuleT for DenseNet {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.apply_t(&self.features, train)
            .relu_()
            .adaptive_avg_pool2d([1, 1])
            .flatten(1, -1)
            .apply(&self.classifier)
    }
}

#[forward]
impl ModuleT for Features {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv0).apply_t(&self.norm0, train).relu_().apply(&self.pool0);
        let xs = apply_all(&self.denseblock1, &xs, train).apply_t(&self.transition1, train);
        let xs = apply_all(&self.denseblock2, &xs, train).apply_t(&self.transition2, train);
        let xs = apply_all(&self.denseblock3, &xs, train).apply_t(&self.transition3, train);
        apply_all(&self.denseblock4, &xs, train).apply_t(&self.norm5, train)
    }
}

#[forward]
impl ModuleT for DenseLayer {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let new = xs.apply_t(&self.norm1, train).relu_().apply(&self.conv1);
        let new = new.apply_t(&self.norm2, train).relu_().apply(&self.conv2);
        Tensor::cat(&[xs, &new], 1)
    }
}

#[forward]
impl ModuleT for Transition {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.apply_t(&self.norm, train).relu_().apply(&self.conv).apply(&self.pool)
    }
}
