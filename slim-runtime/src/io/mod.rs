//! Files: checkpoints, weights of other libraries, and atomic writes.

pub(crate) mod atomic;
pub mod checkpoint;
#[cfg(feature = "pytorch")]
pub mod weights;
