//! While training, and before and after slimming: penalties, schedules, gradual pruning,
//! distillation, batch-norm statistics, reconstruction.

pub(crate) mod distillation;
pub(crate) mod gradual;
mod parts;
pub(crate) mod recalibrate;
pub(crate) mod reconstruct;
pub(crate) mod regulariser;
pub(crate) mod schedule;
