//! `Prunable` for what a model is made of: tch's layers, containers, values that hold no channels.

pub(crate) mod batch_norm;
mod containers;
pub(crate) mod conv;
pub(crate) mod conv_transpose;
mod embedding;
mod identity;
pub(crate) mod linear;
mod norms;
mod per_channel;

pub use per_channel::{PerChannel, per_channel_scale, per_channel_shift};
