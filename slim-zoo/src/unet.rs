//! A small U-Net ([Ronneberger et al., 2015](https://arxiv.org/abs/1505.04597)): three levels down
//! and three up. Each level's features are concatenated with the features that come from below. The
//! transposed convolutions have batch norms too, so that their channels can be removed.
//!
//! Here each level is a field. For any number of levels, kept in two `Vec`s that are paired, the
//! forward pass is a loop:
//!
//! ```
//! use slim_runtime::nn::{BatchNorm, Conv2D, ConvTranspose2D};
//! use slim_runtime::{Prunable, forward};
//! # use slim_runtime::nn::{batch_norm2d, conv_transpose2d, conv2d};
//! use tch::{Tensor, nn};
//! # fn level(p: nn::Path, inputs: i64, width: i64) -> Level {
//! #     Level { conv: conv2d(&p / "conv", inputs, width, 3, nn::ConvConfig { padding: 1, ..Default::default() }), bn: batch_norm2d(&p / "bn", width, Default::default()) }
//! # }
//! # fn up(p: nn::Path, inputs: i64, width: i64) -> Up {
//! #     Up { conv: conv_transpose2d(&p / "conv", inputs, width, 2, nn::ConvTransposeConfig { stride: 2, ..Default::default() }), bn: batch_norm2d(&p / "bn", width, Default::default()) }
//! # }
//!
//! #[derive(Debug, Prunable)]
//! struct UNet {
//!     down: Vec<Level>,
//!     /// From the innermost: what brings the level below up, and what reads it beside the level's own features.
//!     up: Vec<(Up, Level)>,
//!     head: Conv2D,
//! }
//!
//! #[derive(Debug, Prunable)]
//! struct Level {
//!     conv: Conv2D,
//!     bn: BatchNorm,
//! }
//!
//! #[derive(Debug, Prunable)]
//! struct Up {
//!     conv: ConvTranspose2D,
//!     bn: BatchNorm,
//! }
//!
//! #[forward]
//! impl nn::ModuleT for UNet {
//!     fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
//!         let mut skips: Vec<Tensor> = Vec::new();
//!         for level in &self.down {
//!             let xs = skips.last().map_or_else(|| xs.shallow_clone(), |xs| xs.max_pool2d_default(2));
//!             skips.push(xs.apply_t(level, train));
//!         }
//!         let mut xs = skips.pop().expect("a level");
//!         for ((up, level), skip) in self.up.iter().zip(skips.into_iter().rev()) {
//!             xs = Tensor::cat(&[skip, xs.apply_t(up, train)], 1).apply_t(level, train);
//!         }
//!         xs.apply(&self.head)
//!     }
//! }
//!
//! #[forward]
//! impl nn::ModuleT for Level {
//!     fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
//!         xs.apply(&self.conv).apply_t(&self.bn, train).relu()
//!     }
//! }
//!
//! #[forward]
//! impl nn::ModuleT for Up {
//!     fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
//!         xs.apply(&self.conv).apply_t(&self.bn, train).relu()
//!     }
//! }
//! # let vs = nn::VarStore::new(tch::Device::Cpu);
//! # let p = vs.root();
//! # let mut net = UNet {
//! #     down: vec![level(&p / "a", 3, 4), level(&p / "b", 4, 8), level(&p / "c", 8, 16)],
//! #     up: vec![(up(&p / "d", 16, 8), level(&p / "e", 16, 8)), (up(&p / "f", 8, 4), level(&p / "g", 8, 4))],
//! #     head: conv2d(&p / "head", 4, 2, 1, Default::default()),
//! # };
//! # net.slim(0.5)?;
//! # assert_eq!(net.up[1].1.conv.ws.size()[1], net.down[0].conv.ws.size()[0] + net.up[1].0.conv.ws.size()[1]);
//! # Ok::<(), slim_runtime::Error>(())
//! ```

use std::borrow::Borrow;

use slim_runtime::nn::{
    BatchNorm, Conv2D, ConvTranspose2D, MaxPool2d, conv_transpose2d, conv2d, max_pool2d,
};
use slim_runtime::{Prunable, forward};
use tch::{Tensor, nn};

use super::cifar::batch_norm;

/// U-Net for images `[N, 3, H, W]` whose sides are multiples of 8.
#[derive(Debug, Prunable)]
#[prune(input = 3)]
pub struct UNet {
    enc1: DoubleConv,
    pool1: MaxPool2d,
    enc2: DoubleConv,
    pool2: MaxPool2d,
    enc3: DoubleConv,
    pool3: MaxPool2d,
    bottom: DoubleConv,
    up3: Up,
    dec3: DoubleConv,
    up2: Up,
    dec2: DoubleConv,
    up1: Up,
    dec1: DoubleConv,
    head: Conv2D,
}

/// Convolution, batch norm, ReLU; twice.
#[derive(Debug, Prunable)]
struct DoubleConv {
    conv1: Conv2D,
    bn1: BatchNorm,
    conv2: Conv2D,
    bn2: BatchNorm,
}

/// Doubles the size: transposed convolution, batch norm, ReLU.
#[derive(Debug, Prunable)]
struct Up {
    conv: ConvTranspose2D,
    bn: BatchNorm,
}

impl UNet {
    /// A network with `width` channels at the first level, and twice as many at each further level.
    /// Its output is `[N, classes, H, W]`.
    pub fn new<'a>(p: impl Borrow<nn::Path<'a>>, width: i64, classes: i64) -> Self {
        let p = p.borrow();
        let [w1, w2, w3, w4] = [1, 2, 4, 8].map(|times| times * width);
        let conv = |name: &str, inputs, outputs| DoubleConv::new(&(p / name), inputs, outputs);
        let up = |name: &str, inputs, outputs| Up::new(&(p / name), inputs, outputs);
        UNet {
            enc1: conv("enc1", 3, w1),
            pool1: max_pool2d(2, 2),
            enc2: conv("enc2", w1, w2),
            pool2: max_pool2d(2, 2),
            enc3: conv("enc3", w2, w3),
            pool3: max_pool2d(2, 2),
            bottom: conv("bottom", w3, w4),
            up3: up("up3", w4, w3),
            dec3: conv("dec3", 2 * w3, w3),
            up2: up("up2", w3, w2),
            dec2: conv("dec2", 2 * w2, w2),
            up1: up("up1", w2, w1),
            dec1: conv("dec1", 2 * w1, w1),
            head: conv2d(p / "head", w1, classes, 1, Default::default()),
        }
    }
}

impl DoubleConv {
    fn new(p: &nn::Path, inputs: i64, width: i64) -> Self {
        let conv = nn::ConvConfig { padding: 1, bias: false, ..Default::default() };
        DoubleConv {
            conv1: conv2d(p / "conv1", inputs, width, 3, conv),
            bn1: batch_norm(p / "bn1", width),
            conv2: conv2d(p / "conv2", width, width, 3, conv),
            bn2: batch_norm(p / "bn2", width),
        }
    }
}

impl Up {
    fn new(p: &nn::Path, inputs: i64, width: i64) -> Self {
        let conv = nn::ConvTransposeConfig { stride: 2, bias: false, ..Default::default() };
        Up {
            conv: conv_transpose2d(p / "conv", inputs, width, 2, conv),
            bn: batch_norm(p / "bn", width),
        }
    }
}

#[forward]
impl nn::ModuleT for UNet {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let enc1 = xs.apply_t(&self.enc1, train);
        let enc2 = enc1.apply(&self.pool1).apply_t(&self.enc2, train);
        let enc3 = enc2.apply(&self.pool2).apply_t(&self.enc3, train);
        let xs = enc3.apply(&self.pool3).apply_t(&self.bottom, train);
        let xs = Tensor::cat(&[enc3, xs.apply_t(&self.up3, train)], 1).apply_t(&self.dec3, train);
        let xs = Tensor::cat(&[enc2, xs.apply_t(&self.up2, train)], 1).apply_t(&self.dec2, train);
        let xs = Tensor::cat(&[enc1, xs.apply_t(&self.up1, train)], 1).apply_t(&self.dec1, train);
        xs.apply(&self.head)
    }
}

#[forward]
impl nn::ModuleT for DoubleConv {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = xs.apply(&self.conv1).apply_t(&self.bn1, train).relu_();
        xs.apply(&self.conv2).apply_t(&self.bn2, train).relu_()
    }
}

#[forward]
impl nn::ModuleT for Up {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.apply(&self.conv).apply_t(&self.bn, train).relu_()
    }
}
