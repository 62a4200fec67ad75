//! `Prunable` for tch's own layers.

pub(crate) mod batch_norm;
pub(crate) mod conv;
pub(crate) mod conv_transpose;
mod embedding;
pub(crate) mod linear;
mod norms;
