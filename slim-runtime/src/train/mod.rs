//! Training steps before and after slimming: penalties and batch-norm statistics.

pub(crate) mod recalibrate;
pub(crate) mod reconstruct;
pub(crate) mod regulariser;
