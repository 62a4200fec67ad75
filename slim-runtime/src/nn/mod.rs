//! All of [`tch::nn`](::tch::nn), with drop-in layers in place of some: tch's signatures and
//! configs, and nothing that pruning needs is private. `use slim_runtime::nn` instead of
//! `use tch::nn` is all that a model has to change.
//!
//! tch's own layers work too, but for depthwise convolutions (and its grouped ones keep two inputs
//! in each group): tch keeps a convolution's number of groups private, and it would be wrong
//! afterwards. Here groups follow the weight. [`Split`], [`Shuffle`] and [`ChannelSelect`] store
//! sizes and positions, which pruning updates, where `chunk` and `view` in a `forward` cut by count
//! and so tie channels together.
//!
//! Convolutions and linear layers of this module are counted by
//! [`Prunable::cost`](crate::Prunable::cost), which tch's are not.

mod batch_norm;
mod channel_select;
mod containers;
mod conv;
mod conv_transpose;
mod eval;
pub mod functional;
mod identity;
mod linear;
mod per_channel;
mod pool;
mod positions;
pub(crate) mod recorder;
mod shuffle;
mod split;
mod tch;

pub use batch_norm::{BatchNorm, batch_norm1d, batch_norm2d, batch_norm3d};
pub use channel_select::{ChannelSelect, channel_select};
pub use conv::{Conv, Conv1D, Conv2D, Conv3D, conv, conv1d, conv2d, conv3d};
pub use conv_transpose::{
    ConvTranspose, ConvTranspose1D, ConvTranspose2D, ConvTranspose3D, conv_transpose,
    conv_transpose1d, conv_transpose2d, conv_transpose3d,
};
pub use eval::{Eval, eval};
pub use linear::{Linear, linear};
pub use per_channel::{PerChannel, per_channel_scale, per_channel_shift};
pub use pool::{
    AdaptiveAvgPool, AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d, AvgPool, AvgPool1d,
    AvgPool2d, AvgPool3d, MaxPool, MaxPool1d, MaxPool2d, MaxPool3d, adaptive_avg_pool1d,
    adaptive_avg_pool2d, adaptive_avg_pool3d, avg_pool1d, avg_pool2d, avg_pool3d, max_pool1d,
    max_pool2d, max_pool3d,
};
pub use recorder::record_macs;
pub use shuffle::{Shuffle, shuffle};
pub use split::{Split, split};
// What is named above hides tch's own.
#[allow(clippy::wildcard_imports)]
pub use ::tch::nn::*;
