//! Serving: deploying a slimmed network, exporting it, and measuring and predicting how fast it is.

pub(crate) mod benchmark;
pub(crate) mod deploy;
pub mod export;
pub(crate) mod latency;
pub(crate) mod parity;
pub(crate) mod preferred_multiple;
mod workload;
