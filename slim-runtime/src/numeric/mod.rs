//! Numbers and tensors, without networks: comparison of outputs, timing, quartiles, packed weights,
//! ranges of values, uses of weights.

mod clock;
pub(crate) mod compare;
pub(crate) mod packed;
mod quartiles;
mod range;
mod uses;

pub(crate) use clock::Clock;
pub use compare::OutputError;
pub use quartiles::Quartiles;
pub(crate) use range::Range;
pub use uses::Uses;
