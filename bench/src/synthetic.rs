//! Synthetic networks, very deep or very wide, that show what the cost of slimming grows with.

use slim_runtime::{Prunable, forward, nn};
use tch::Tensor;
use tch::nn::ModuleT;

/// Convolutions of one width in a row, each with a batch norm.
#[derive(Debug, Prunable)]
pub(crate) struct Chain {
    layers: Vec<Layer>,
    head: nn::Conv2D,
}

#[derive(Debug, Prunable)]
struct Layer {
    conv: nn::Conv2D,
    bn: nn::BatchNorm,
}

impl Chain {
    /// Channels of every layer.
    pub(crate) const WIDTH: i64 = 32;

    pub(crate) fn new(p: &nn::Path, layers: usize) -> Self {
        let layer = |i| Layer::new(&(p / "layers" / i), Self::WIDTH, Self::WIDTH, 3);
        Self {
            layers: (0..layers).map(layer).collect(),
            head: conv(&(p / "head"), Self::WIDTH, 10, 1),
        }
    }
}

/// Layers in a row that are wide and narrow in turn, so that the network has many channels but few
/// parameters.
#[derive(Debug, Prunable)]
pub(crate) struct Wide {
    blocks: Vec<(Layer, Layer)>,
    head: nn::Conv2D,
}

impl Wide {
    /// Channels of the narrow layers.
    pub(crate) const NARROW: i64 = 8;

    pub(crate) fn new(p: &nn::Path, blocks: usize, width: i64) -> Self {
        let block = |i| {
            let p = &(p / "blocks" / i);
            (
                Layer::new(&(p / 0), Self::NARROW, width, 1),
                Layer::new(&(p / 1), width, Self::NARROW, 1),
            )
        };
        Self {
            blocks: (0..blocks).map(block).collect(),
            head: conv(&(p / "head"), Self::NARROW, 10, 1),
        }
    }
}

impl Layer {
    fn new(p: &nn::Path, inputs: i64, outputs: i64, kernel: i64) -> Self {
        Self {
            conv: conv(&(p / "conv"), inputs, outputs, kernel),
            bn: nn::batch_norm2d(p / "bn", outputs, Default::default()),
        }
    }
}

fn conv(p: &nn::Path, inputs: i64, outputs: i64, kernel: i64) -> nn::Conv2D {
    nn::conv2d(
        p,
        inputs,
        outputs,
        kernel,
        nn::ConvConfig { padding: kernel / 2, bias: false, ..Default::default() },
    )
}

#[forward]
impl ModuleT for Layer {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.apply(&self.conv).apply_t(&self.bn, train).relu()
    }
}

#[forward]
impl ModuleT for Chain {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        self.layers
            .iter()
            .fold(xs.shallow_clone(), |xs, layer| xs.apply_t(layer, train))
            .apply(&self.head)
            .mean_dim([2, 3].as_slice(), false, None)
    }
}

#[forward]
impl ModuleT for Wide {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = self.blocks.iter().fold(xs.shallow_clone(), |xs, (wide, narrow)| {
            xs.apply_t(wide, train).apply_t(narrow, train)
        });
        xs.apply(&self.head).mean_dim([2, 3].as_slice(), false, None)
    }
}
