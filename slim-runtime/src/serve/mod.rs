//! Running a slimmed network: deploying it, exporting it, measuring how fast it is.

pub(crate) mod benchmark;
pub(crate) mod deploy;
pub mod export;
pub(crate) mod preferred_multiple;
