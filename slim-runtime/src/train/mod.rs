//! While training, and before and after slimming: penalties, schedules, gradual pruning,
//! distillation, mean activations, batch-norm statistics, reconstruction.

mod activations;
pub(crate) mod distillation;
pub(crate) mod gradual;
mod parts;
pub(crate) mod recalibrate;
pub(crate) mod reconstruct;
pub(crate) mod regulariser;
pub(crate) mod schedule;
