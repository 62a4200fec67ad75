//! Measures the effect of slimming on data: whether the slimmed network computes what the masked
//! one does, and how accurate it is at several ratios.

pub(crate) mod sweep;
pub(crate) mod verify;
