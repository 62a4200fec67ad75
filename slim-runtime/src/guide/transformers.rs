//! Attention, recurrence, residual streams behind norms, and networks without batch norms.
//!
//! # Heads
//!
//! [`MultiHeadAttention`](crate::nn::MultiHeadAttention) has the parameters of PyTorch's
//! `nn.MultiheadAttention`. Whole heads are removed, or dimensions of all heads:
//!
//! ```
//! use slim_runtime::nn::{AttentionConfig, MultiHeadAttention, multi_head_attention};
//! use slim_runtime::{Prunable, Slimming, criterion, forward};
//! use tch::{Device, Tensor, nn};
//!
//! #[derive(Debug, Prunable)]
//! struct Net {
//!     embed: nn::Linear,
//!     ln: nn::LayerNorm,
//!     attention: MultiHeadAttention,
//!     head: nn::Linear,
//! }
//!
//! #[forward]
//! impl nn::Module for Net {
//!     fn forward(&self, xs: &Tensor) -> Tensor {
//!         let xs = xs.apply(&self.embed); // [N, T, 64]
//!         let ys = &xs + self.attention.forward(&xs.apply(&self.ln), None);
//!         ys.mean_dim(1, false, None).apply(&self.head)
//!     }
//! }
//!
//! let vs = nn::VarStore::new(Device::Cpu);
//! let p = &vs.root();
//! let mut net = Net {
//!     embed: nn::linear(p / "embed", 32, 64, Default::default()),
//!     ln: nn::layer_norm(p / "ln", vec![64], Default::default()),
//!     attention: multi_head_attention(p / "attention", 64, 8, AttentionConfig::default()),
//!     head: nn::linear(p / "head", 64, 10, Default::default()),
//! };
//! let some_heads = Slimming::ratio(0.4).criterion(criterion::L2).local();
//! net.apply(&net.plan(&some_heads)?)?;
//! assert_eq!((net.attention.num_heads(), net.attention.head_dim()), (4, 8));
//! # Ok::<(), slim_runtime::Error>(())
//! ```
//!
//! With [`Removal::HeadDims`](crate::nn::Removal), every head stays, and loses dimensions: query,
//! key and value the same ones, since one weight packs them. The scores are divided by the root of
//! the dense head dimension, whatever is removed; PyTorch's own module cannot hold such heads.
//!
//! [`cross`](crate::nn::MultiHeadAttention::cross) attends to another sequence.
//! [`GroupedQueryAttention`](crate::nn::GroupedQueryAttention) has the layers of Llama and its kin,
//! `q_proj`, `k_proj`, `v_proj` and `o_proj`: a head of key and value goes with all heads of the
//! query that read it. With `HeadDims`, query and key lose the same dimensions, and value its own.
//!
//! Attention that `forward` writes out is read, too. What the `view` says by a number stays, and
//! what is `-1` follows the weight: `[n, t, 3, -1, 64]` loses heads, and `[n, t, 3, 12, -1]` loses
//! dimensions. A stored count that would go stale is refused; the error says to write `-1`. Heads
//! of key and value may be broadcast, expanded, or repeated by `repeat_interleave_self_int`, and
//! `scaled_dot_product_attention` is read with a `scale`: the plan is the same.
//!
//! # What stays
//!
//! A layer norm computes its statistics over all channels of the stream, so the stream stays, and
//! the plan says which norm holds it. The features inside of a block go: heads, and the hidden
//! features between two linear layers. A class token, a position bias and a layer scale are tensors
//! of the model, and follow the channels that they meet.
//!
//! # Ranking without batch norms
//!
//! No γ ranks these channels, so a [criterion](crate::criterion) by weights has to be named. Norms
//! of weights grow with the number of weights, so features of different kinds of layers do not
//! compare: rank each layer by itself with [`Slimming::local`](crate::Slimming::local), or
//! [normalise](crate::Slimming::normalisation) the scores.
//!
//! # Blocks that training leaves out
//!
//! Stochastic depth is plain code. What `forward` draws at random in training does not
//! change which channels depend on each other:
//!
//! ```
//! # use slim_runtime::forward;
//! # use tch::Tensor;
//! #[forward]
//! fn stochastic_depth(xs: Tensor, dropped: f64, train: bool) -> Tensor {
//!     if !train || dropped == 0. {
//!         return xs;
//!     }
//!     let mut size = vec![1; xs.dim()];
//!     size[0] = xs.size()[0];
//!     let stays = Tensor::zeros(size, (xs.kind(), xs.device())).bernoulli_p(1. - dropped);
//!     xs * (stays / (1. - dropped))
//! }
//! ```
//!
//! `slim-zoo` has torchvision's `vit_b_16`, `convnext_tiny`, `efficientnet_b0`, `regnet_y_400mf`
//! and `squeezenet1_1`, written so.
//!
//! # Recurrence
//!
//! [`nn::lstm`](crate::nn::lstm), [`gru`](crate::nn::gru), [`rnn_tanh`](crate::nn::rnn_tanh) and
//! [`rnn_relu`](crate::nn::rnn_relu) have tch's signatures and PyTorch's parameter names. A hidden
//! channel goes with its row in every gate, its column in the recurrent weight, and what reads the
//! output. Each layer and direction loses its own channels:
//!
//! ```
//! use slim_runtime::{Prunable, Slimming, criterion, forward, nn};
//! use tch::{Device, Tensor};
//!
//! #[derive(Debug, Prunable)]
//! struct Tagger { embed: nn::Linear, lstm: nn::Lstm, head: nn::Linear }
//!
//! #[forward]
//! impl nn::ModuleT for Tagger {
//!     fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
//!         xs.apply(&self.embed).apply_t(&self.lstm, train).apply(&self.head) // [N, T, …]
//!     }
//! }
//!
//! let vs = nn::VarStore::new(Device::Cpu);
//! let p = &vs.root();
//! let both = nn::RNNConfig { bidirectional: true, ..Default::default() };
//! let mut net = Tagger {
//!     embed: nn::linear(p / "embed", 16, 32, Default::default()),
//!     lstm: nn::lstm(p / "lstm", 32, 64, both),
//!     head: nn::linear(p / "head", 128, 9, Default::default()),
//! };
//! net.apply(&net.plan(&Slimming::ratio(0.5).criterion(criterion::L2).local())?)?;
//! let outputs = net.head.ws.size()[1];
//! assert!(outputs < 128 && vs.variables()["lstm.weight_hh_l0"].size()[1] < 64);
//! # Ok::<(), slim_runtime::Error>(())
//! ```
