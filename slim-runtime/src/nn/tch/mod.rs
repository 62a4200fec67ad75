//! `Prunable` for tch's own layers.

pub(crate) mod batch_norm;
pub(crate) mod conv;
pub(crate) mod conv_transpose;
pub(crate) mod embedding;
pub(crate) mod linear;
pub(crate) mod norms;
