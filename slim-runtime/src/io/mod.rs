//! Files: checkpoints, and writing a file whole or not at all.

pub(crate) mod atomic;
pub mod checkpoint;
