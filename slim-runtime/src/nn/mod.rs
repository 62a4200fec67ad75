//! All of [`tch::nn`](::tch::nn), with drop-in replacements for some layers: they have tch's
//! signatures and configs, and keep nothing private that pruning needs. A model only has to replace
//! `use tch::nn` by `use slim_runtime::nn`.
//!
//! tch's own layers work too, with three exceptions: a depthwise convolution is an error, a grouped
//! one keeps at least two inputs in each group, and a group norm keeps all channels. tch keeps the
//! number of a convolution's groups private, so it would be wrong after slimming; here it follows
//! the weight. [`Split`], [`Shuffle`] and
//! [`ChannelSelect`] store sizes and positions, which slimming updates; `chunk` and `view` in a
//! `forward` cut into equal parts, which must all lose the same channels.
//!
//! [`Prunable::cost`](crate::Prunable::cost) counts the convolutions and linear layers of this
//! module, but not tch's.

mod attention;
mod batch_norm;
mod channel_select;
mod containers;
mod conv;
mod conv_transpose;
mod embedding;
mod eval;
pub mod functional;
mod identity;
mod linear;
mod norms;
mod per_channel;
mod pool;
mod positions;
pub(crate) mod recorder;
mod recurrent;
mod shuffle;
mod split;
mod synchronised;
pub(crate) mod tch;

pub use attention::{
    AttentionConfig, GroupedQueryAttention, MultiHeadAttention, Removal, grouped_query_attention,
    multi_head_attention,
};
pub use batch_norm::{BatchNorm, batch_norm1d, batch_norm2d, batch_norm3d};
pub use channel_select::{ChannelSelect, channel_select};
pub use conv::{Conv, Conv1D, Conv2D, Conv3D, conv, conv1d, conv2d, conv3d};
pub use conv_transpose::{
    ConvTranspose, ConvTranspose1D, ConvTranspose2D, ConvTranspose3D, conv_transpose,
    conv_transpose1d, conv_transpose2d, conv_transpose3d,
};
pub use embedding::{Embedding, embedding};
pub use eval::{Eval, eval};
pub use linear::{Linear, linear};
pub use norms::{
    GroupNorm, InstanceNorm, LayerNorm, PRelu, RmsNorm, group_norm, instance_norm, layer_norm,
    prelu, rms_norm,
};
pub use per_channel::{PerChannel, per_channel_scale, per_channel_shift};
pub use pool::{
    AdaptiveAvgPool, AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d, AvgPool, AvgPool1d,
    AvgPool2d, AvgPool3d, MaxPool, MaxPool1d, MaxPool2d, MaxPool3d, adaptive_avg_pool1d,
    adaptive_avg_pool2d, adaptive_avg_pool3d, avg_pool1d, avg_pool2d, avg_pool3d, max_pool1d,
    max_pool2d, max_pool3d,
};
pub use recorder::record_macs;
pub use recurrent::{Gru, Lstm, Recurrent, Rnn, gru, lstm, projected_lstm, rnn_relu, rnn_tanh};
pub use shuffle::{Shuffle, shuffle};
pub use split::{Split, split};
pub use synchronised::synchronised;
// The items named above shadow tch's.
#[allow(clippy::wildcard_imports)]
pub use ::tch::nn::*;
