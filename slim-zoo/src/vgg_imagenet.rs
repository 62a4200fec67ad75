//! VGG with batch norm for ImageNet
//! ([Simonyan and Zisserman, 2014](https://arxiv.org/abs/1409.1556)).
//!
//! Parameter names and function are torchvision's: `features` and `classifier` are sequences, which
//! count layers without parameters too.

use std::borrow::Borrow;

use slim_runtime::nn::{
    AdaptiveAvgPool2d, BatchNorm, Conv2D, Linear, MaxPool2d, adaptive_avg_pool2d, conv2d, linear,
    max_pool2d,
};
use slim_runtime::{Cfg, Prunable, Stage, channels, forward};
use tch::Tensor;
use tch::nn::init::FanInOut;
use tch::nn::{ConvConfig, Init, LinearConfig, ModuleT, Path};

use super::torchvision::{apply_all, kaiming_normal, norm};

/// Stages of 3×3 convolutions, then three linear layers.
#[derive(Debug, Prunable)]
#[prune(input = 3)]
pub struct Vgg {
    features: Vec<Layer>,
    avgpool: AdaptiveAvgPool2d,
    classifier: Vec<Layer>,
}

/// One layer of a sequence.
#[derive(Debug, Prunable)]
enum Layer {
    Conv(Conv2D),
    Norm(BatchNorm),
    MaxPool(MaxPool2d),
    Linear(Linear),
    Relu,
    Dropout,
}

/// VGG-16 with batch norm.
pub fn vgg16_bn<'a>(p: impl Borrow<Path<'a>>, classes: i64) -> Vgg {
    let cfg =
        channels![64, 64, M, 128, 128, M, 256, 256, 256, M, 512, 512, 512, M, 512, 512, 512, M];
    Vgg::new(p, &cfg, 4096, classes)
}

impl Vgg {
    /// A network for images `[N, 3, H, W]` with the widths of `cfg`, and two linear layers of
    /// `hidden` features between the convolutions and the classes.
    pub fn new<'a>(p: impl Borrow<Path<'a>>, cfg: &Cfg, hidden: i64, classes: i64) -> Self {
        let p = p.borrow();
        let mut features = Vec::new();
        let mut inputs = 3;
        for stage in cfg.stages() {
            let p = |index| p / "features" / index;
            match *stage {
                Stage::Channels(width) => {
                    let index = features.len();
                    features.extend([
                        Layer::Conv(conv(&p(index), inputs, width)),
                        Layer::Norm(norm(&p(index + 1), width)),
                        Layer::Relu,
                    ]);
                    inputs = width;
                }
                Stage::MaxPool => features.push(Layer::MaxPool(max_pool2d(2, 2))),
            }
        }
        let full = |index, inputs, outputs| {
            Layer::Linear(full(&(p / "classifier" / index), inputs, outputs))
        };
        let classifier = vec![
            full(0, inputs * 7 * 7, hidden),
            Layer::Relu,
            Layer::Dropout,
            full(3, hidden, hidden),
            Layer::Relu,
            Layer::Dropout,
            full(6, hidden, classes),
        ];
        Vgg { features, avgpool: adaptive_avg_pool2d(7), classifier }
    }
}

fn conv(p: &Path, inputs: i64, outputs: i64) -> Conv2D {
    let config = ConvConfig {
        padding: 1,
        ws_init: kaiming_normal(FanInOut::FanOut),
        bs_init: Init::Const(0.),
        ..Default::default()
    };
    conv2d(p, inputs, outputs, 3, config)
}

fn full(p: &Path, inputs: i64, outputs: i64) -> Linear {
    let config = LinearConfig {
        ws_init: Init::Randn { mean: 0., stdev: 0.01 },
        bs_init: Some(Init::Const(0.)),
        ..Default::default()
    };
    linear(p, inputs, outputs, config)
}

#[forward]
impl ModuleT for Vgg {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = apply_all(&self.features, xs, train).apply(&self.avgpool).flatten(1, -1);
        apply_all(&self.classifier, &xs, train)
    }
}

#[forward]
impl ModuleT for Layer {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        match self {
            Layer::Conv(conv) => xs.apply(conv),
            Layer::Norm(bn) => xs.apply_t(bn, train),
            Layer::MaxPool(pool) => xs.apply(pool),
            Layer::Linear(linear) => xs.apply(linear),
            // In place, since nothing else reads the input, which a batch norm or a linear layer
            // makes.
            Layer::Relu => xs.shallow_clone().relu_(),
            Layer::Dropout => xs.dropout(0.5, train),
        }
    }
}
