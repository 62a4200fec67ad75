//! Attention over several heads, whose heads or head dimensions can be removed.

use std::borrow::Borrow;

use tch::Tensor;
use tch::nn::{Init, LinearConfig, Path};

use super::linear::{Linear, linear};
use crate::{Prunable, forward};

/// Multi-head self-attention ([Vaswani et al., 2017](https://arxiv.org/abs/1706.03762)) over
/// `[N, T, embed_dim]`, with the parameters of PyTorch's `nn.MultiheadAttention(batch_first=True)`:
/// `in_proj_weight` `[3 · embed_dim, embed_dim]`, `in_proj_bias`, `out_proj.weight` and
/// `out_proj.bias`.
///
/// Slimming removes whole heads, or dimensions of all heads: see [`Removal`]. The embedding follows
/// the layers around. The scores are divided by the root of the dense network's head dimension,
/// whatever is removed.
#[derive(Debug, Prunable)]
pub struct MultiHeadAttention {
    /// Query, key and value of all heads, in this order: weight `[3 · heads · dim, embed_dim]`.
    pub in_proj: Linear,
    /// Weight `[embed_dim, heads · dim]`.
    pub out_proj: Linear,
    /// What the scores are multiplied by.
    pub scale: f64,
    heads: Heads,
}

/// The one of the two numbers that slimming does not change. The other follows from the weight.
#[derive(Debug, Clone, Copy)]
enum Heads {
    OfDim(i64),
    Count(i64),
}

/// What slimming removes from attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Removal {
    /// Whole heads, with all their dimensions of query, key and value. Faster than fewer
    /// dimensions, and coarser.
    #[default]
    Heads,
    /// Dimensions of query and key together, and of value together, the same number in each head.
    HeadDims,
}

/// The configuration of [`multi_head_attention`].
#[derive(Debug, Clone, Copy)]
pub struct AttentionConfig {
    /// Whether the projections have biases.
    pub bias: bool,
    /// What slimming removes.
    pub removal: Removal,
}

impl Default for AttentionConfig {
    fn default() -> Self {
        Self { bias: true, removal: Removal::Heads }
    }
}

/// Self-attention of `num_heads` heads over `[N, T, embed_dim]`.
///
/// # Panics
/// When `embed_dim` is not a multiple of `num_heads`, as PyTorch's does; as in tch, when a variable
/// cannot be created.
pub fn multi_head_attention<'a>(
    vs: impl Borrow<Path<'a>>,
    embed_dim: i64,
    num_heads: i64,
    config: AttentionConfig,
) -> MultiHeadAttention {
    assert!(
        num_heads > 0 && embed_dim > 0 && embed_dim % num_heads == 0,
        "{embed_dim} embedding dimensions cannot be divided into {num_heads} heads of one size"
    );
    let vs = vs.borrow();
    let head_dim = embed_dim / num_heads;
    // PyTorch's initialisation: Xavier's of the packed weight, and biases of zero.
    let bound = (6. / (4 * embed_dim) as f64).sqrt();
    let weight = Init::Uniform { lo: -bound, up: bound };
    let bs = config.bias.then(|| vs.var("in_proj_bias", &[3 * embed_dim], Init::Const(0.)));
    let bound = 1. / (embed_dim as f64).sqrt();
    let out = LinearConfig {
        ws_init: Init::Uniform { lo: -bound, up: bound },
        bs_init: Some(Init::Const(0.)),
        bias: config.bias,
    };
    MultiHeadAttention {
        in_proj: Linear { ws: vs.var("in_proj_weight", &[3 * embed_dim, embed_dim], weight), bs },
        out_proj: linear(vs / "out_proj", embed_dim, embed_dim, out),
        scale: 1. / (head_dim as f64).sqrt(),
        heads: match config.removal {
            Removal::Heads => Heads::OfDim(head_dim),
            Removal::HeadDims => Heads::Count(num_heads),
        },
    }
}

impl MultiHeadAttention {
    /// Number of heads, also after slimming.
    pub fn num_heads(&self) -> i64 {
        match self.heads {
            Heads::OfDim(dim) => self.width() / dim,
            Heads::Count(heads) => heads,
        }
    }

    /// Dimensions of each head, also after slimming.
    pub fn head_dim(&self) -> i64 {
        match self.heads {
            Heads::OfDim(dim) => dim,
            Heads::Count(heads) => self.width() / heads,
        }
    }

    /// Dimensions of all heads together.
    fn width(&self) -> i64 {
        self.out_proj.ws.size().get(1).copied().unwrap_or(0)
    }
}

#[forward]
impl MultiHeadAttention {
    /// Attends from each position of `xs` `[N, T, embed_dim]` to all of them. `mask` is added to
    /// the scores `[N, heads, T, T]`: `-inf` where a position is not to be seen.
    ///
    /// # Panics
    /// As in tch: when the shapes do not fit.
    pub fn forward(&self, xs: &Tensor, mask: Option<&Tensor>) -> Tensor {
        #[allow(clippy::unwrap_used)] // a layer panics on another number of dimensions, as tch's do
        let (batch, positions, _) = xs.size3().unwrap();
        let qkv = xs.apply(&self.in_proj);
        let qkv = match self.heads {
            Heads::OfDim(dim) => qkv.view([batch, positions, 3, -1, dim]),
            Heads::Count(heads) => qkv.view([batch, positions, 3, heads, -1]),
        };
        let qkv = qkv.permute([2, 0, 3, 1, 4]);
        let (query, key, value) = (qkv.select(0, 0), qkv.select(0, 1), qkv.select(0, 2));
        let mut scores = query.matmul(&key.transpose(-2, -1)) * self.scale;
        if let Some(mask) = mask {
            scores += mask;
        }
        let attended = scores.softmax(-1, None).matmul(&value);
        attended.transpose(1, 2).reshape([batch, positions, -1]).apply(&self.out_proj)
    }
}
