//! Numbers and tensors, without networks: comparison of outputs, timing, quartiles, packed weights.

mod clock;
pub(crate) mod compare;
pub(crate) mod packed;
mod quartiles;

pub(crate) use clock::Clock;
pub use compare::OutputError;
pub use quartiles::Quartiles;
