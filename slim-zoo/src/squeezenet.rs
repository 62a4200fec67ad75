//! SqueezeNet ([Iandola et al., 2016](https://arxiv.org/abs/1602.07360)), with torchvision's
//! parameter names and function. It has no batch norms: a criterion by weights ranks its channels.

use std::borrow::Borrow;

use slim_runtime::nn::{
    AdaptiveAvgPool2d, Conv2D, MaxPool2d, adaptive_avg_pool2d, conv2d, max_pool2d,
};
use slim_runtime::{Prunable, forward};
use tch::nn::init::{FanInOut, NonLinearity, NormalOrUniform};
use tch::{Tensor, nn};

/// Widths of the squeezing convolution and of each expanding one, by position in `features`.
const FIRES: [(usize, i64, i64); 8] = [
    (3, 16, 64),
    (4, 16, 64),
    (6, 32, 128),
    (7, 32, 128),
    (9, 48, 192),
    (10, 48, 192),
    (11, 64, 256),
    (12, 64, 256),
];
/// Positions in `features` in front of which there is a max-pool.
const POOLED: [usize; 3] = [3, 6, 9];

/// SqueezeNet 1.1.
#[derive(Debug, Prunable)]
#[prune(input = 3)]
pub struct SqueezeNet {
    stem: Conv2D,
    /// The fire modules, each with the max-pool in front of it.
    fires: Vec<(Option<MaxPool2d>, Fire)>,
    classifier: Conv2D,
    avgpool: AdaptiveAvgPool2d,
}

/// A 1×1 convolution to few channels, then 1×1 and 3×3 convolutions beside each other.
#[derive(Debug, Prunable)]
struct Fire {
    squeeze: Conv2D,
    expand1x1: Conv2D,
    expand3x3: Conv2D,
}

impl SqueezeNet {
    /// torchvision's `squeezenet1_1`, for images `[N, 3, H, W]`.
    pub fn v1_1<'a>(p: impl Borrow<nn::Path<'a>>, classes: i64) -> Self {
        let p = p.borrow();
        let features = &(p / "features");
        let mut inputs = 64;
        let stem = nn::ConvConfig { stride: 2, ..config() };
        let fire = |(index, squeezed, expanded)| {
            let inputs = std::mem::replace(&mut inputs, 2 * expanded);
            let pool = MaxPool2d { ceil_mode: true, ..max_pool2d(3, 2) };
            let fire = Fire::new(&(features / index), inputs, squeezed, expanded);
            (POOLED.contains(&index).then_some(pool), fire)
        };
        let fires = FIRES.into_iter().map(fire).collect();
        let last =
            nn::ConvConfig { ws_init: nn::Init::Randn { mean: 0., stdev: 0.01 }, ..config() };
        SqueezeNet {
            stem: conv2d(features / 0, 3, 64, 3, stem),
            fires,
            classifier: conv2d(p / "classifier" / 1, inputs, classes, 1, last),
            avgpool: adaptive_avg_pool2d(1),
        }
    }
}

impl Fire {
    fn new(p: &nn::Path, inputs: i64, squeezed: i64, expanded: i64) -> Self {
        let wide = nn::ConvConfig { padding: 1, ..config() };
        Fire {
            squeeze: conv2d(p / "squeeze", inputs, squeezed, 1, config()),
            expand1x1: conv2d(p / "expand1x1", squeezed, expanded, 1, config()),
            expand3x3: conv2d(p / "expand3x3", squeezed, expanded, 3, wide),
        }
    }
}

fn config() -> nn::ConvConfig {
    let ws_init = nn::Init::Kaiming {
        dist: NormalOrUniform::Uniform,
        fan: FanInOut::FanIn,
        non_linearity: NonLinearity::ReLU,
    };
    nn::ConvConfig { ws_init, bs_init: nn::Init::Const(0.), ..Default::default() }
}

#[forward]
impl nn::Module for Fire {
    fn forward(&self, xs: &Tensor) -> Tensor {
        let xs = xs.apply(&self.squeeze).relu();
        Tensor::cat(&[xs.apply(&self.expand1x1).relu(), xs.apply(&self.expand3x3).relu()], 1)
    }
}

#[forward]
impl nn::ModuleT for SqueezeNet {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let mut xs = xs.apply(&self.stem).relu();
        for (pool, fire) in &self.fires {
            xs = xs.apply_opt(pool).apply(fire);
        }
        let xs = xs.dropout(0.5, train).apply(&self.classifier).relu();
        xs.apply(&self.avgpool).flatten(1, -1)
    }
}
