//! Vision transformer ([Dosovitskiy et al., 2020](https://arxiv.org/abs/2010.11929)), with
//! torchvision's parameter names and function. Its channels are ranked by weights: slimming removes
//! whole heads and hidden features, and keeps the embedding, which layer norms mix.

use std::borrow::Borrow;

use slim_runtime::nn::{
    AttentionConfig, Conv2D, Linear, MultiHeadAttention, conv2d, linear, multi_head_attention,
};
use slim_runtime::{Prunable, forward};
use tch::{Tensor, nn};

use super::torchvision::{apply_all, layer_norm};

/// Side of the images, in pixels. The positions are learned, so it is fixed.
const IMAGE: i64 = 224;

/// Patches, a class token, positions, encoder layers, and a linear layer.
#[derive(Debug, Prunable)]
#[prune(input = [3, 224, 224])]
pub struct VisionTransformer {
    conv_proj: Conv2D,
    class_token: Tensor,
    pos_embedding: Tensor,
    layers: Vec<EncoderLayer>,
    ln: nn::LayerNorm,
    head: Linear,
}

/// Attention, then two linear layers. The input of either is added to its output.
#[derive(Debug, Prunable)]
struct EncoderLayer {
    ln_1: nn::LayerNorm,
    self_attention: MultiHeadAttention,
    ln_2: nn::LayerNorm,
    mlp: (Linear, Linear),
}

/// Sizes in which the networks of the family differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Side of a patch, in pixels.
    pub patch: i64,
    /// Number of encoder layers.
    pub layers: usize,
    /// Number of heads.
    pub heads: i64,
    /// Width of the embedding.
    pub hidden: i64,
    /// Width between the two linear layers.
    pub mlp: i64,
}

/// torchvision's `vit_b_16`, for images `[N, 3, 224, 224]`.
pub fn vit_b_16<'a>(p: impl Borrow<nn::Path<'a>>, classes: i64) -> VisionTransformer {
    let config = Config { patch: 16, layers: 12, heads: 12, hidden: 768, mlp: 3072 };
    VisionTransformer::new(p, &config, classes)
}

impl VisionTransformer {
    /// A network for images `[N, 3, 224, 224]`.
    pub fn new<'a>(p: impl Borrow<nn::Path<'a>>, config: &Config, classes: i64) -> Self {
        let (p, Config { patch, hidden, .. }) = (p.borrow(), *config);
        let encoder = &(p / "encoder");
        let positions = (IMAGE / patch).pow(2) + 1;
        let layer = |index| {
            EncoderLayer::new(&(encoder / "layers" / format!("encoder_layer_{index}")), config)
        };
        let fan_in = (3 * patch * patch) as f64;
        let patches = nn::ConvConfig {
            stride: patch,
            ws_init: nn::Init::Randn { mean: 0., stdev: (1. / fan_in).sqrt() },
            bs_init: nn::Init::Const(0.),
            ..Default::default()
        };
        let zeros = nn::LinearConfig {
            ws_init: nn::Init::Const(0.),
            bs_init: Some(nn::Init::Const(0.)),
            ..Default::default()
        };
        VisionTransformer {
            conv_proj: conv2d(p / "conv_proj", 3, hidden, patch, patches),
            class_token: p.var("class_token", &[1, 1, hidden], nn::Init::Const(0.)),
            pos_embedding: encoder.var(
                "pos_embedding",
                &[1, positions, hidden],
                nn::Init::Randn { mean: 0., stdev: 0.02 },
            ),
            layers: (0..config.layers).map(layer).collect(),
            ln: layer_norm(encoder / "ln", hidden),
            head: linear(p / "heads" / "head", hidden, classes, zeros),
        }
    }
}

impl EncoderLayer {
    fn new(p: &nn::Path, config: &Config) -> Self {
        let Config { heads, hidden, mlp, .. } = *config;
        let bound = (6. / (hidden + mlp) as f64).sqrt();
        let config = nn::LinearConfig {
            ws_init: nn::Init::Uniform { lo: -bound, up: bound },
            bs_init: Some(nn::Init::Randn { mean: 0., stdev: 1e-6 }),
            ..Default::default()
        };
        let attention = AttentionConfig::default();
        EncoderLayer {
            ln_1: layer_norm(p / "ln_1", hidden),
            self_attention: multi_head_attention(p / "self_attention", hidden, heads, attention),
            ln_2: layer_norm(p / "ln_2", hidden),
            mlp: (
                linear(p / "mlp" / 0, hidden, mlp, config),
                linear(p / "mlp" / 3, mlp, hidden, config),
            ),
        }
    }
}

#[forward]
impl nn::ModuleT for EncoderLayer {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        let xs = self.self_attention.forward(&xs.apply(&self.ln_1), None) + xs;
        let ys = xs.apply(&self.ln_2).apply(&self.mlp.0).gelu("none").apply(&self.mlp.1);
        xs + ys
    }
}

#[forward]
impl nn::ModuleT for VisionTransformer {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        let batch = xs.size()[0];
        let patches = xs.apply(&self.conv_proj).flatten(2, -1).permute([0, 2, 1]);
        let token = self.class_token.expand([batch, -1, -1], false);
        let xs = Tensor::cat(&[token, patches], 1) + &self.pos_embedding;
        let xs = apply_all(&self.layers, &xs, train).apply(&self.ln);
        xs.select(1, 0).apply(&self.head)
    }
}
