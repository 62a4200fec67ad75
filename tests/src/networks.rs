//! Small networks, one for each kind of coupling.

use crate::device;
use slim_runtime::nn::{Shuffle, Split, shuffle, split};
use slim_runtime::{Prunable, model};
use tch::Tensor;
use tch::nn::{self, ModuleT, VarStore};

use crate::fill::fill;

model! {
    /// Two convolutions and a linear layer over 2×2 positions.
    #[derive(Debug)]
    pub struct Chain {
        conv1 = conv2d(3 => 8, kernel = 3, padding = 1);
        bn1 = batch_norm(8);
        relu;
        conv2 = conv2d(8 => 6, kernel = 3, padding = 1);
        bn2 = batch_norm(6);
        relu;
        adaptive_avg_pool(2);
        flatten;
        fc = linear(24 => 5);
    }
}

model! {
    /// A residual sum around a convolution.
    #[derive(Debug)]
    pub struct Residual {
        conv1 = conv2d(3 => 8, kernel = 3, padding = 1, bias = false);
        bn1 = batch_norm(8);
        a = relu;
        conv2 = conv2d(8 => 8, kernel = 3, padding = 1, bias = false);
        bn2 = batch_norm(8);
        bn2 + a;
        relu;
        adaptive_avg_pool(1);
        flatten;
        fc = linear(8 => 5);
    }
}

/// A network in which half of the channels bypass a convolution, and all are shuffled.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(input = 3)]
pub struct Shuffled {
    conv1: nn::Conv2D,
    bn1: nn::BatchNorm,
    split: Split,
    #[prune(from = split.1)]
    conv2: nn::Conv2D,
    bn2: nn::BatchNorm,
    #[prune(from = [split.0, bn2])]
    shuffle: Shuffle,
    conv3: nn::Conv2D,
    bn3: nn::BatchNorm,
    fc: nn::Linear,
}

/// A network in which two convolutions share one weight.
#[derive(Debug, Prunable)]
#[prune(sequential)]
#[prune(input = 3)]
pub struct Tied {
    conv1: nn::Conv2D,
    bn1: nn::BatchNorm,
    conv2: nn::Conv2D,
    bn2: nn::BatchNorm,
    conv3: nn::Conv2D,
    bn3: nn::BatchNorm,
    fc: nn::Linear,
}

/// A network that takes images of 3 channels, and gives 5 numbers.
pub trait Network: Prunable + ModuleT {
    /// The network, with variables named after its fields.
    fn new(p: &nn::Path) -> Self;
}

impl Network for Chain {
    fn new(p: &nn::Path) -> Self {
        Chain::new(p)
    }
}

impl Network for Residual {
    fn new(p: &nn::Path) -> Self {
        Residual::new(p)
    }
}

fn conv(p: nn::Path, inputs: i64, outputs: i64) -> nn::Conv2D {
    nn::conv2d(
        p,
        inputs,
        outputs,
        3,
        nn::ConvConfig { padding: 1, bias: false, ..Default::default() },
    )
}

fn norm(p: nn::Path, channels: i64) -> nn::BatchNorm {
    nn::batch_norm2d(p, channels, Default::default())
}

fn head(xs: &Tensor, fc: &nn::Linear) -> Tensor {
    xs.relu().adaptive_avg_pool2d([1, 1]).flatten(1, -1).apply(fc)
}

impl Network for Shuffled {
    fn new(p: &nn::Path) -> Self {
        Shuffled {
            conv1: conv(p / "conv1", 3, 8),
            bn1: norm(p / "bn1", 8),
            split: split([4, 4]),
            conv2: conv(p / "conv2", 4, 4),
            bn2: norm(p / "bn2", 4),
            shuffle: shuffle(8, 2),
            conv3: conv(p / "conv3", 8, 6),
            bn3: norm(p / "bn3", 6),
            fc: nn::linear(p / "fc", 6, 5, Default::default()),
        }
    }
}

impl ModuleT for Shuffled {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu();
        let halves = self.split.forward(&xs);
        let changed = halves[1].apply(&self.conv2).apply_t(&self.bn2, train).relu();
        let xs = Tensor::cat(&[&halves[0], &changed], 1).apply(&self.shuffle);
        head(&xs.apply(&self.conv3).apply_t(&self.bn3, train), &self.fc)
    }
}

impl Network for Tied {
    fn new(p: &nn::Path) -> Self {
        let conv2 = conv(p / "conv2", 8, 8);
        let mut conv3 = conv(p / "unused", 8, 8);
        conv3.ws = conv2.ws.shallow_clone();
        Tied {
            conv1: conv(p / "conv1", 3, 8),
            bn1: norm(p / "bn1", 8),
            conv2,
            bn2: norm(p / "bn2", 8),
            conv3,
            bn3: norm(p / "bn3", 8),
            fc: nn::linear(p / "fc", 8, 5, Default::default()),
        }
    }
}

impl ModuleT for Tied {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu();
        let xs = xs.apply(&self.conv2).apply_t(&self.bn2, train).relu();
        head(&xs.apply(&self.conv3).apply_t(&self.bn3, train), &self.fc)
    }
}

/// A network with the same values each time.
pub fn built<N: Network>() -> (N, VarStore) {
    // Tensors this small gain nothing from threads.
    tch::set_num_threads(1);
    let vs = VarStore::new(device());
    let net = N::new(&vs.root());
    fill(&vs);
    (net, vs)
}
