//! GoogLeNet with batch norm for ImageNet
//! ([Szegedy et al., 2014](https://arxiv.org/abs/1409.4842)), without its auxiliary heads.
//!
//! Parameter names and function are torchvision's, which has 3×3 convolutions in place of the
//! paper's 5×5 ones.

use std::borrow::Borrow;

use slim_runtime::nn::{AdaptiveAvgPool2d, BatchNorm, Conv2D, Linear, MaxPool2d};
use slim_runtime::nn::{adaptive_avg_pool2d, batch_norm2d, conv2d, linear, max_pool2d};
use slim_runtime::{Prunable, forward};
use tch::Tensor;
use tch::nn::{BatchNormConfig, ConvConfig, Init, LinearConfig, ModuleT, Path};

use super::torchvision::linear_config;

/// A stem, nine inception modules with max-pools between them, and a linear layer.
#[derive(Debug, Prunable)]
#[prune(input = 3)]
pub struct GoogLeNet {
    conv1: BasicConv,
    maxpool1: MaxPool2d,
    conv2: BasicConv,
    conv3: BasicConv,
    maxpool2: MaxPool2d,
    inception3a: Inception,
    inception3b: Inception,
    maxpool3: MaxPool2d,
    inception4a: Inception,
    inception4b: Inception,
    inception4c: Inception,
    inception4d: Inception,
    inception4e: Inception,
    maxpool4: MaxPool2d,
    inception5a: Inception,
    inception5b: Inception,
    avgpool: AdaptiveAvgPool2d,
    fc: Linear,
}

/// Four parallel branches.
#[derive(Debug, Prunable)]
struct Inception {
    branch1: BasicConv,
    branch2: (BasicConv, BasicConv),
    branch3: (BasicConv, BasicConv),
    branch4: (MaxPool2d, BasicConv),
}

/// Convolution, batch norm, ReLU.
#[derive(Debug, Prunable)]
struct BasicConv {
    conv: Conv2D,
    bn: BatchNorm,
}

/// GoogLeNet.
pub fn googlenet<'a>(p: impl Borrow<Path<'a>>, classes: i64) -> GoogLeNet {
    let p = p.borrow();
    let init =
        LinearConfig { ws_init: Init::Randn { mean: 0., stdev: 0.01 }, ..linear_config(1024) };
    GoogLeNet {
        conv1: BasicConv::new(&(p / "conv1"), 3, 64, 7, 2),
        maxpool1: max_pool(3),
        conv2: BasicConv::new(&(p / "conv2"), 64, 64, 1, 1),
        conv3: BasicConv::new(&(p / "conv3"), 64, 192, 3, 1),
        maxpool2: max_pool(3),
        inception3a: Inception::new(&(p / "inception3a"), 192, 64, [96, 128], [16, 32], 32),
        inception3b: Inception::new(&(p / "inception3b"), 256, 128, [128, 192], [32, 96], 64),
        maxpool3: max_pool(3),
        inception4a: Inception::new(&(p / "inception4a"), 480, 192, [96, 208], [16, 48], 64),
        inception4b: Inception::new(&(p / "inception4b"), 512, 160, [112, 224], [24, 64], 64),
        inception4c: Inception::new(&(p / "inception4c"), 512, 128, [128, 256], [24, 64], 64),
        inception4d: Inception::new(&(p / "inception4d"), 512, 112, [144, 288], [32, 64], 64),
        inception4e: Inception::new(&(p / "inception4e"), 528, 256, [160, 320], [32, 128], 128),
        maxpool4: max_pool(2),
        inception5a: Inception::new(&(p / "inception5a"), 832, 256, [160, 320], [32, 128], 128),
        inception5b: Inception::new(&(p / "inception5b"), 832, 384, [192, 384], [48, 128], 128),
        avgpool: adaptive_avg_pool2d(1),
        fc: linear(p / "fc", 1024, classes, init),
    }
}

/// A max-pool that halves the sides of the image, rounded up.
fn max_pool(kernel: i64) -> MaxPool2d {
    MaxPool2d { ceil_mode: true, ..max_pool2d(kernel, 2) }
}

impl Inception {
    /// A module whose widths are a row of the paper's table 1.
    fn new(
        p: &Path,
        inputs: i64,
        width1: i64,
        width2: [i64; 2],
        width3: [i64; 2],
        width4: i64,
    ) -> Self {
        let two = |p: Path, [reduced, width]: [i64; 2]| {
            (
                BasicConv::new(&(&p / 0), inputs, reduced, 1, 1),
                BasicConv::new(&(&p / 1), reduced, width, 3, 1),
            )
        };
        Inception {
            branch1: BasicConv::new(&(p / "branch1"), inputs, width1, 1, 1),
            branch2: two(p / "branch2", width2),
            branch3: two(p / "branch3", width3),
            branch4: (
                MaxPool2d { padding: [1, 1], ..max_pool2d(3, 1) },
                BasicConv::new(&(p / "branch4" / 1), inputs, width4, 1, 1),
            ),
        }
    }
}

impl BasicConv {
    /// A block with padding: only its stride changes the size of the image.
    fn new(p: &Path, inputs: i64, width: i64, kernel: i64, stride: i64) -> Self {
        let ws_init = Init::Randn { mean: 0., stdev: 0.01 };
        let conv =
            ConvConfig { stride, padding: kernel / 2, bias: false, ws_init, ..Default::default() };
        let bn = BatchNormConfig { eps: 0.001, ws_init: Init::Const(1.), ..Default::default() };
        BasicConv {
            conv: conv2d(p / "conv", inputs, width, kernel, conv),
            bn: batch_norm2d(p / "bn", width, bn),
        }
    }
}

#[forward]
impl ModuleT for GoogLeNet {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply_t(&self.conv1, train).apply(&self.maxpool1);
        let xs = xs.apply_t(&self.conv2, train).apply_t(&self.conv3, train).apply(&self.maxpool2);
        let xs = xs
            .apply_t(&self.inception3a, train)
            .apply_t(&self.inception3b, train)
            .apply(&self.maxpool3);
        let xs = xs
            .apply_t(&self.inception4a, train)
            .apply_t(&self.inception4b, train)
            .apply_t(&self.inception4c, train);
        let xs = xs
            .apply_t(&self.inception4d, train)
            .apply_t(&self.inception4e, train)
            .apply(&self.maxpool4);
        let xs = xs.apply_t(&self.inception5a, train).apply_t(&self.inception5b, train);
        xs.apply(&self.avgpool).flatten(1, -1).dropout(0.2, train).apply(&self.fc)
    }
}

#[forward]
impl ModuleT for Inception {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let in_a_row = |(first, second): &(BasicConv, BasicConv)| {
            xs.apply_t(first, train).apply_t(second, train)
        };
        let (pool, projection) = &self.branch4;
        let branches = [
            xs.apply_t(&self.branch1, train),
            in_a_row(&self.branch2),
            in_a_row(&self.branch3),
            xs.apply(pool).apply_t(projection, train),
        ];
        Tensor::cat(&branches, 1)
    }
}

#[forward]
impl ModuleT for BasicConv {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.apply(&self.conv).apply_t(&self.bn, train).relu_()
    }
}
