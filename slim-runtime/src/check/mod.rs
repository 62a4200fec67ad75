//! Measuring what slimming does, on data: whether the slimmed network is the masked one, and how
//! accurate it is at several ratios.

pub(crate) mod sweep;
pub(crate) mod verify;
