//! CRNN, which reads a line of text ([Shi et al., 2015](https://arxiv.org/abs/1507.05717)), with
//! the parameter names of `crnn.pytorch`.

use std::borrow::Borrow;

use slim_runtime::nn::{
    BatchNorm, Conv2D, Linear, Lstm, MaxPool2d, batch_norm2d, conv2d, linear, lstm, max_pool2d,
};
use slim_runtime::{Prunable, forward};
use tch::Tensor;
use tch::nn::{ConvConfig, Init, ModuleT, Path, RNNConfig};

use super::torchvision::linear_config;

/// The convolutions: width, kernel, padding, whether a batch norm follows, and the height and width
/// that the max-pool behind takes together.
type Row = (i64, i64, i64, bool, Option<(i64, i64)>);
const ROWS: [Row; 7] = [
    (64, 3, 1, false, Some((2, 2))),
    (128, 3, 1, false, Some((2, 2))),
    (256, 3, 1, true, None),
    (256, 3, 1, false, Some((2, 1))),
    (512, 3, 1, true, None),
    (512, 3, 1, false, Some((2, 1))),
    (512, 2, 0, true, None),
];

/// Convolutions to one row of features, two bidirectional LSTMs along it, and scores of each
/// character at each position.
#[derive(Debug, Prunable)]
#[prune(input = [1, 32, 100])]
pub struct Crnn {
    cnn: Vec<Block>,
    rnn: (BidirectionalLstm, BidirectionalLstm),
}

/// Convolution, batch norm, ReLU, max-pool.
#[derive(Debug, Prunable)]
struct Block {
    conv: Conv2D,
    batchnorm: Option<BatchNorm>,
    pool: Option<MaxPool2d>,
}

#[derive(Debug, Prunable)]
struct BidirectionalLstm {
    rnn: Lstm,
    embedding: Linear,
}

impl Crnn {
    /// A network of `hidden` hidden channels in each LSTM, for grey images `[N, 1, 32, W]` and
    /// `classes` characters, the blank among them.
    pub fn new<'a>(p: impl Borrow<Path<'a>>, hidden: i64, classes: i64) -> Self {
        Self::narrowed(p, hidden, classes, 1)
    }

    /// The same with convolutions of an `n`th of the width.
    pub fn narrowed<'a>(p: impl Borrow<Path<'a>>, hidden: i64, classes: i64, n: i64) -> Self {
        let (p, mut inputs) = (p.borrow(), 1);
        let cnn = &(p / "cnn");
        let block = |(index, (width, kernel, padding, has_norm, pool)): (usize, Row)| {
            let width = width / n;
            let config = ConvConfig { padding, ..Default::default() };
            let inputs = std::mem::replace(&mut inputs, width);
            Block {
                conv: conv2d(cnn / format!("conv{index}"), inputs, width, kernel, config),
                batchnorm: has_norm.then(|| {
                    let config = super::mobile::norm();
                    batch_norm2d(cnn / format!("batchnorm{index}"), width, config)
                }),
                pool: pool.map(|(height, width)| MaxPool2d {
                    stride: [height, width],
                    padding: [0, 2 - width],
                    ..max_pool2d(2, 2)
                }),
            }
        };
        let cnn = ROWS.into_iter().enumerate().map(block).collect();
        let rnn = &(p / "rnn");
        Crnn {
            cnn,
            rnn: (
                BidirectionalLstm::new(&(rnn / 0), inputs, hidden, hidden),
                BidirectionalLstm::new(&(rnn / 1), hidden, hidden, classes),
            ),
        }
    }
}

impl BidirectionalLstm {
    fn new(p: &Path, inputs: i64, hidden: i64, outputs: i64) -> Self {
        // PyTorch's initialisation.
        let bound = 1. / (hidden as f64).sqrt();
        let init = Init::Uniform { lo: -bound, up: bound };
        let config = RNNConfig {
            bidirectional: true,
            w_ih_init: init,
            w_hh_init: init,
            b_ih_init: Some(init),
            b_hh_init: Some(init),
            ..Default::default()
        };
        BidirectionalLstm {
            rnn: lstm(p / "rnn", inputs, hidden, config),
            embedding: linear(p / "embedding", 2 * hidden, outputs, linear_config(2 * hidden)),
        }
    }
}

#[forward]
impl ModuleT for Crnn {
    /// Scores `[T, N, classes]` of images `[N, 1, 32, W]`.
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let mut xs = xs.shallow_clone();
        for block in &self.cnn {
            xs = xs.apply_t(block, train);
        }
        // Of the height, one row is left.
        let xs = xs.squeeze_dim(2).permute([0, 2, 1]);
        xs.apply_t(&self.rnn.0, train).apply_t(&self.rnn.1, train).transpose(0, 1)
    }
}

#[forward]
impl ModuleT for Block {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv).apply_opt_t(&self.batchnorm, train).relu();
        xs.apply_opt(&self.pool)
    }
}

#[forward]
impl ModuleT for BidirectionalLstm {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.apply_t(&self.rnn, train).apply(&self.embedding)
    }
}
