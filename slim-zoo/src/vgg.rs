//! VGG with batch norm for 32×32 images, as in the reference implementation of Network Slimming.
//!
//! Layers, initialisation and parameter names (`feature.0.weight`, …, `classifier.bias`) are the
//! reference's. The network is built from a [`Cfg`], so a slimmed network can be rebuilt from its
//! own cfg.

use std::borrow::Borrow;

use anyhow::{Result, bail};
use slim_runtime::nn::{self, AdaptiveAvgPool2d, MaxPool2d, adaptive_avg_pool2d, max_pool2d};
use slim_runtime::{Cfg, Prunable, Stage, channels, forward};
use tch::Tensor;

/// VGG: stages of 3×3 convolutions, then one linear layer.
#[derive(Debug, Prunable)]
#[prune(input = 3)]
pub struct Vgg {
    feature: Vec<Block>,
    /// The reference has a 2×2 pool, which covers all that four max-pools leave of an image. With
    /// fewer max-pools in the cfg, this pool covers a larger area.
    pool: AdaptiveAvgPool2d,
    classifier: nn::Linear,
}

/// Convolution, batch norm, ReLU, and a max-pool where the cfg has an `'M'`.
#[derive(Debug, Prunable)]
struct Block {
    conv: nn::Conv2D,
    bn: nn::BatchNorm,
    pool: Option<MaxPool2d>,
}

/// The widths of VGG-11, 13, 16 or 19.
///
/// # Errors
/// Any other depth.
pub fn cfg(depth: u32) -> Result<Cfg> {
    Ok(match depth {
        11 => channels![64, M, 128, M, 256, 256, M, 512, 512, M, 512, 512],
        13 => channels![64, 64, M, 128, 128, M, 256, 256, M, 512, 512, M, 512, 512],
        16 => channels![64, 64, M, 128, 128, M, 256, 256, 256, M, 512, 512, 512, M, 512, 512, 512],
        19 => channels![
            64, 64, M, 128, 128, M, 256, 256, 256, 256, M, 512, 512, 512, 512, M, 512, 512, 512,
            512
        ],
        _ => bail!("VGG has a depth of 11, 13, 16 or 19, not {depth}"),
    })
}

impl Vgg {
    /// A network for images `[N, 3, 32, 32]` with the widths of `cfg`.
    ///
    /// # Errors
    /// A cfg without a width, or with an `'M'` that does not follow a width.
    pub fn new<'a>(p: impl Borrow<nn::Path<'a>>, cfg: &Cfg, classes: i64) -> Result<Self> {
        let p = p.borrow();
        let mut feature: Vec<Block> = Vec::new();
        let (mut inputs, mut index) = (3, 0);
        for stage in cfg.stages() {
            match (stage, feature.last_mut()) {
                (&Stage::Channels(width), _) => {
                    feature.push(Block::new(&(p / "feature"), index, inputs, width));
                    inputs = width;
                    index += 3; // convolution, batch norm, ReLU
                }
                (Stage::MaxPool, Some(Block { pool: pool @ None, .. })) => {
                    *pool = Some(max_pool2d(2, 2));
                    index += 1;
                }
                (Stage::MaxPool, _) => bail!("cfg {cfg}: an 'M' follows a width"),
            }
        }
        if feature.is_empty() {
            bail!("cfg {cfg}: a VGG has at least one width");
        }
        let init = nn::LinearConfig {
            ws_init: nn::Init::Randn { mean: 0., stdev: 0.01 },
            bs_init: Some(nn::Init::Const(0.)),
            ..Default::default()
        };
        Ok(Vgg {
            feature,
            pool: adaptive_avg_pool2d(1),
            classifier: nn::linear(p / "classifier", inputs, classes, init),
        })
    }
}

impl Block {
    /// `index` is the position of the convolution in the reference's `feature`, which counts
    /// activations and pools too.
    fn new(p: &nn::Path, index: usize, inputs: i64, width: i64) -> Self {
        let stdev = (2. / (3. * 3. * width as f64)).sqrt();
        let conv = nn::ConvConfig {
            padding: 1,
            bias: false,
            ws_init: nn::Init::Randn { mean: 0., stdev },
            ..Default::default()
        };
        // All γ start at one value, so that the ranking is learned and not drawn.
        let bn = nn::BatchNormConfig { ws_init: nn::Init::Const(0.5), ..Default::default() };
        Block {
            conv: nn::conv2d(p / index, inputs, width, 3, conv),
            bn: nn::batch_norm2d(p / (index + 1), width, bn),
            pool: None,
        }
    }
}

#[forward]
impl nn::ModuleT for Vgg {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let xs = self.feature.iter().fold(xs.shallow_clone(), |xs, block| xs.apply_t(block, train));
        xs.apply(&self.pool).flatten(1, -1).apply(&self.classifier)
    }
}

#[forward]
impl nn::ModuleT for Block {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.apply(&self.conv).apply_t(&self.bn, train).relu_().apply_opt(&self.pool)
    }
}
