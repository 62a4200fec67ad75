//! What is done to a network while it is trained, before and after it is slimmed.

pub(crate) mod recalibrate;
pub(crate) mod sparsity;
