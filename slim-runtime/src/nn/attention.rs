//! Attention over several heads, whose heads or head dimensions can be removed.

use std::borrow::Borrow;

use tch::Tensor;
use tch::nn::{Init, LinearConfig, Path};

use super::linear::{Linear, linear};
use super::recorder::report_rows_of_part;
use crate::graph::arguments;
use crate::symbolic::{OneCall, Traced};
use crate::{Prunable, forward};

/// Multi-head attention ([Vaswani et al., 2017](https://arxiv.org/abs/1706.03762)) over
/// `[N, T, embed_dim]`, with the parameters of PyTorch's `nn.MultiheadAttention(batch_first=True)`:
/// `in_proj_weight` `[3 · embed_dim, embed_dim]`, `in_proj_bias`, `out_proj.weight` and
/// `out_proj.bias`. [`forward`](Self::forward) is self-attention, [`cross`](Self::cross) attends to
/// another sequence.
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

/// Attention in which several heads of the query read one head of key and value ([Ainslie et al.,
/// 2023](https://arxiv.org/abs/2305.13245)), with the parameters of Llama and its kin: `q_proj`,
/// `k_proj`, `v_proj` and `o_proj`, each with a `weight`, and a `bias` if there are any.
///
/// Slimming removes a head of key and value together with the heads of the query that read it, or
/// dimensions of all heads: see [`Removal`]. The number of query heads for each head of key and
/// value stays. In multi-query attention, of one head of key and value, only dimensions can go: the
/// output of a head of the query is zero only where that one head's value is.
#[derive(Debug, Prunable)]
pub struct GroupedQueryAttention {
    /// Weight `[heads · dim, embed_dim]`.
    pub q_proj: Linear,
    /// Weight `[kv_heads · dim, embed_dim]`.
    pub k_proj: Linear,
    /// Weight `[kv_heads · dim, embed_dim]`.
    pub v_proj: Linear,
    /// Weight `[embed_dim, heads · dim]`.
    pub o_proj: Linear,
    /// What the scores are multiplied by.
    pub scale: f64,
    heads: Heads,
    /// Heads of the query for each head of key and value.
    group: i64,
}

/// The one of the two numbers that slimming does not change. The other follows from the weight.
#[derive(Debug, Clone, Copy)]
enum Heads {
    /// The dimensions of each head.
    OfDim(i64),
    /// The number of heads of key and value.
    Count(i64),
}

impl Heads {
    fn new(removal: Removal, count: i64, dim: i64) -> Self {
        match removal {
            Removal::Heads => Heads::OfDim(dim),
            Removal::HeadDims => Heads::Count(count),
        }
    }

    /// The number of heads, of `width` dimensions together.
    fn count(self, width: i64) -> i64 {
        match self {
            Heads::OfDim(dim) => width / dim,
            Heads::Count(heads) => heads,
        }
    }

    /// The dimensions of each head, of `width` together.
    fn dim(self, width: i64) -> i64 {
        match self {
            Heads::OfDim(dim) => dim,
            Heads::Count(heads) => width / heads,
        }
    }

    /// Number and dimensions of the heads as sizes for a `view`: -1 for what slimming changes.
    fn sizes(self) -> [i64; 2] {
        match self {
            Heads::OfDim(dim) => [-1, dim],
            Heads::Count(heads) => [heads, -1],
        }
    }
}

/// What slimming removes from attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Removal {
    /// Whole heads, with all their dimensions of query, key and value. Faster than fewer
    /// dimensions, and coarser.
    #[default]
    Heads,
    /// Dimensions of query and key together, the same ones in each head. The value loses others in
    /// [`GroupedQueryAttention`], and the same ones in [`MultiHeadAttention`], which packs all
    /// three into one weight.
    HeadDims,
}

/// The configuration of [`multi_head_attention`] and [`grouped_query_attention`].
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
        heads: Heads::new(config.removal, num_heads, head_dim),
    }
}

/// Grouped-query attention of `num_heads` heads of the query and `num_kv_heads` of key and value,
/// each of `head_dim` dimensions, over `[N, T, embed_dim]`. One head of key and value is
/// multi-query attention.
///
/// # Panics
/// When `num_heads` is not a multiple of `num_kv_heads`; as in tch, when a variable cannot be
/// created.
pub fn grouped_query_attention<'a>(
    vs: impl Borrow<Path<'a>>,
    embed_dim: i64,
    [num_heads, num_kv_heads]: [i64; 2],
    head_dim: i64,
    config: AttentionConfig,
) -> GroupedQueryAttention {
    assert!(
        num_kv_heads > 0 && head_dim > 0 && num_heads > 0 && num_heads % num_kv_heads == 0,
        "{num_heads} heads of {head_dim} dimensions cannot read {num_kv_heads} heads of key and \
         value in groups of one size"
    );
    let vs = vs.borrow();
    let layer = |name, from, to| {
        linear(vs / name, from, to, LinearConfig { bias: config.bias, ..Default::default() })
    };
    GroupedQueryAttention {
        q_proj: layer("q_proj", embed_dim, num_heads * head_dim),
        k_proj: layer("k_proj", embed_dim, num_kv_heads * head_dim),
        v_proj: layer("v_proj", embed_dim, num_kv_heads * head_dim),
        o_proj: layer("o_proj", num_heads * head_dim, embed_dim),
        scale: 1. / (head_dim as f64).sqrt(),
        heads: Heads::new(config.removal, num_kv_heads, head_dim),
        group: num_heads / num_kv_heads,
    }
}

impl MultiHeadAttention {
    /// Number of heads, also after slimming.
    pub fn num_heads(&self) -> i64 {
        self.heads.count(inputs(&self.out_proj))
    }

    /// Dimensions of the value of each head, also after slimming.
    pub fn head_dim(&self) -> i64 {
        self.heads.dim(inputs(&self.out_proj))
    }
}

impl GroupedQueryAttention {
    /// Number of heads of the query, also after slimming.
    pub fn num_heads(&self) -> i64 {
        inputs(&self.o_proj) / self.head_dim()
    }

    /// Number of heads of key and value, also after slimming.
    pub fn num_kv_heads(&self) -> i64 {
        self.heads.count(outputs(&self.v_proj))
    }

    /// Dimensions of the value of each head, also after slimming.
    pub fn head_dim(&self) -> i64 {
        self.heads.dim(outputs(&self.v_proj))
    }
}

/// Number of channels that a layer reads.
fn inputs(layer: &Linear) -> i64 {
    layer.ws.size().get(1).copied().unwrap_or(0)
}

/// Number of channels that a layer writes.
fn outputs(layer: &Linear) -> i64 {
    layer.ws.size().first().copied().unwrap_or(0)
}

#[forward]
impl MultiHeadAttention {
    /// Attends from each position of `xs` `[N, T, embed_dim]` to all of them. `mask` is added to
    /// the scores `[N, heads, T, T]`: `-inf` where a position is not to be seen.
    ///
    /// # Panics
    /// As in tch: when the shapes do not fit.
    pub fn forward(&self, xs: &Tensor, mask: Option<&Tensor>) -> Tensor {
        let [heads, dim] = self.heads.sizes();
        let qkv = in_heads(&xs.apply(&self.in_proj), &[3, heads, dim]).permute([2, 0, 3, 1, 4]);
        let (query, key, value) = (qkv.select(0, 0), qkv.select(0, 1), qkv.select(0, 2));
        attended(&query, &key, &value, self.scale, mask).apply(&self.out_proj)
    }

    /// Attends from each position of `query` `[N, T, embed_dim]` to those of `memory`
    /// `[N, S, embed_dim]`. `mask` is added to the scores `[N, heads, T, S]`. Both sequences lose
    /// the same channels, since one weight reads them.
    ///
    /// # Panics
    /// As in tch: when the shapes do not fit.
    pub fn cross(&self, query: &Tensor, memory: &Tensor, mask: Option<&Tensor>) -> Tensor {
        let sizes = self.heads.sizes();
        let query = in_heads(&third(&self.in_proj, query, 0), &sizes).transpose(1, 2);
        let key = in_heads(&third(&self.in_proj, memory, 1), &sizes).transpose(1, 2);
        let value = in_heads(&third(&self.in_proj, memory, 2), &sizes).transpose(1, 2);
        attended(&query, &key, &value, self.scale, mask).apply(&self.out_proj)
    }
}

#[forward]
impl GroupedQueryAttention {
    /// Attends from each position of `xs` `[N, T, embed_dim]` to all of them. `mask` is added to
    /// the scores `[N, kv_heads, group, T, T]`: `-inf` where a position is not to be seen.
    ///
    /// # Panics
    /// As in tch: when the shapes do not fit.
    pub fn forward(&self, xs: &Tensor, mask: Option<&Tensor>) -> Tensor {
        self.cross(xs, xs, mask)
    }

    /// Attends from each position of `query` `[N, T, embed_dim]` to those of `memory`
    /// `[N, S, embed_dim]`. `mask` is added to the scores `[N, kv_heads, group, T, S]`.
    ///
    /// # Panics
    /// As in tch: when the shapes do not fit.
    pub fn cross(&self, query: &Tensor, memory: &Tensor, mask: Option<&Tensor>) -> Tensor {
        let sizes @ [heads, dim] = self.heads.sizes();
        let query = in_heads(&query.apply(&self.q_proj), &[heads, self.group, dim]);
        let query = query.permute([0, 2, 3, 1, 4]); // [N, kv_heads, group, T, dim]
        let key = in_heads(&memory.apply(&self.k_proj), &sizes).transpose(1, 2).unsqueeze(2);
        let value = in_heads(&memory.apply(&self.v_proj), &sizes).transpose(1, 2).unsqueeze(2);
        attended(&query, &key, &value, self.scale, mask).apply(&self.o_proj)
    }
}

/// `softmax(query · keyᵀ · scale + mask) · value`, of heads `[N, …, T, dim]`, as
/// `[N, T, features]`.
#[forward]
fn attended(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    scale: f64,
    mask: Option<&Tensor>,
) -> Tensor {
    let mut scores = query.matmul(&key.transpose(-2, -1)) * scale;
    if let Some(mask) = mask {
        scores += mask;
    }
    scores.softmax(-1, None).matmul(value).movedim(-2, 1).flatten(2, -1)
}

/// `[N, T, features]` with the features as dimensions of these sizes.
fn in_heads<T: Projected>(xs: &T, sizes: &[i64]) -> T {
    xs.in_heads(sizes)
}

/// Query, key or value, by its index, of `[N, T, in]`: a third of a layer.
fn third<T: Projected>(layer: &Linear, xs: &T, index: i64) -> T {
    xs.third(layer, index)
}

/// A real or a symbolic tensor.
trait Projected {
    fn in_heads(&self, sizes: &[i64]) -> Self;

    fn third(&self, layer: &Linear, index: i64) -> Self;
}

impl Projected for Tensor {
    /// Does not read the sizes of batch and positions, so that a trace holds for others.
    fn in_heads(&self, sizes: &[i64]) -> Tensor {
        self.unflatten(-1, sizes)
    }

    fn third(&self, layer: &Linear, index: i64) -> Tensor {
        let rows = layer.ws.size().first().map_or(0, |rows| rows / 3);
        let part = |tensor: &Tensor| tensor.narrow(0, index * rows, rows);
        report_rows_of_part(&layer.ws, 3, self);
        self.linear(&part(&layer.ws), layer.bs.as_ref().map(part).as_ref())
    }
}

impl Projected for Traced {
    /// Says that there are three dimensions, which may not be known here. A one beside -1 is a
    /// dimension of its own, and never the single channel that may be left.
    #[track_caller]
    fn in_heads(&self, sizes: &[i64]) -> Traced {
        let Ok((batch, positions, _)) = self.size3() else {
            return self.shallow_clone(); // the pass has noted the error
        };
        let several = sizes.iter().copied().filter(|&size| size != 1);
        let several: Vec<i64> = [batch, positions].into_iter().chain(several).collect();
        let viewed = self.view(several.as_slice());
        let ones = sizes.iter().enumerate().filter(|&(_, &size)| size == 1);
        ones.fold(viewed, |viewed, (at, _)| viewed.unsqueeze(at as i64 + 2))
    }

    /// One weight has one set of inputs and one of outputs: the whole layer is applied, and a third
    /// of it is counted.
    #[track_caller]
    fn third(&self, layer: &Linear, index: i64) -> Traced {
        let one = OneCall::begin();
        let third = in_heads(&self.apply_part(layer, 3), &[3, -1]).select(2, index);
        drop(one);
        let part = |tensor: &Tensor| {
            let rows = tensor.size().first().map_or(0, |rows| rows / 3);
            tensor.f_narrow(0, index * rows, rows).ok()
        };
        let bias = layer.bs.as_ref().and_then(part);
        third.called("linear", arguments![self, part(&layer.ws).as_ref(), bias.as_ref()])
    }
}
