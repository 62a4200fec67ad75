//! Training steps before and after slimming: sparsity and batch-norm statistics.

pub(crate) mod recalibrate;
pub(crate) mod sparsity;
