//! Files: checkpoints and atomic writes.

pub(crate) mod atomic;
pub mod checkpoint;
